"""
Trust anchors of an Archive, with a whole controller: PDFs that were really signed below the test's
authorities, and trust anchors that are right, wrong, missing, and corrected while envelopes wait.
"""

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from counterfoil.cli.verify import INTACT
from counterfoil.cli.verify import main as verify
from counterfoil.resources import Archive, EnvelopeEvent, Phase, find_condition
from counterfoil.signatures.anchors import Anchors
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.esaw import DocumentSpec, User
from sandbox.esaw.core.documents import authority_certificate
from sandbox.servers.smtp import SmtpServer
from tests.support.pauses import eventually
from tests.support.scenes.controller import ControllerScene, a_controller_scene
from tests.support.signed_pdfs import ANNA, BETWEEN, ROOT, Identity, signed_by

ESAW = authority_certificate()
"""The authority of the audit trails."""

OTHER = Identity("Root")
"""Another authority, which has the same name."""

AUTHORITIES = {"esaw.pem": ESAW, "people.pem": ROOT.pem.decode()}
OTHERS = {"esaw.pem": ESAW, "people.pem": OTHER.pem.decode()}

USELESS: dict[str, tuple[dict[str, str] | None, str]] = {
    "missing": (
        None,
        "Secret/{name}-authorities does not exist. Put the trust anchors there (type `kubectl create secret "
        "generic {name}-authorities --from-literal=ca.pem='NEW-CERTIFICATES' --dry-run=client -o yaml "
        "| kubectl label --local -f - counterfoil.dev/use=trust -o yaml | kubectl create -f -`), "
        "or correct trustAnchorsSecretRef.",
    ),
    "empty": (
        {},
        "Secret/{name}-authorities must contain trust anchors, but it is empty. Put certificates in PEM ",
    ),
    "garbage": (
        {"people.pem": "-----BEGIN CERTIFICATE-----\nbm8=\n-----END CERTIFICATE-----\n"},
        "but `people.pem` in it is no certificate in PEM form. Put certificates in PEM form into it",
    ),
    "noCertificate": ({"README": "ask Dora"}, "but `README` in it is no certificate in PEM form. Put "),
}


@pytest.fixture(scope="module")
async def scene(
    plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ControllerScene]:
    """A namespace with a running controller, for all tests of this file."""
    async with a_controller_scene(plane, tmp_path_factory.mktemp("controller")) as built:
        yield built


async def trusting(
    scene: ControllerScene, name: str, signatures: str, anchors: dict[str, str] | None, **organization: Any
) -> User:
    """Make an organization with an archive of that name that has these trust anchors; return its sender's
    user."""
    if anchors is not None:
        await authorities(scene, name, anchors)
    (scene.archive / name).mkdir()
    await scene.local_environment.archive(
        name,
        filesystem={"root": str(scene.archive / name)},
        signatures=signatures,
        trustAnchorsSecretRef={"name": f"{name}-authorities"},
    )
    user = scene.user(name.capitalize())
    await scene.local_environment.sender(name, user, organization=name)
    await scene.local_environment.organization(name, archive=name, sender=name, **organization)
    await scene.has_swept(name)
    return user


async def authorities(scene: ControllerScene, name: str, anchors: dict[str, str]) -> None:
    """Create the Secret with the trust anchors, or change it to these."""
    content = {key: base64.b64encode(text.encode()).decode() for key, text in anchors.items()}
    # ``stringData`` would leave what was there before under other keys.
    metadata = {"name": f"{name}-authorities", "labels": {"counterfoil.dev/use": "trust"}}
    await scene.local_environment.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": content}
    )


def an_envelope_of_annas(scene: ControllerScene, sender: User) -> str:
    """An envelope with one document, which Anna signed; the authority between her and the root is in the
    PDF."""
    contract = DocumentSpec(name="contract.pdf", content=signed_by(ANNA, BETWEEN))
    return scene.envelope(sender, documents=[contract])


def checked(event: EnvelopeEvent) -> tuple[str, str]:
    """Return status and reason of the condition about signatures."""
    found = find_condition(event.status.conditions, "SignaturesChecked")
    assert found is not None
    return found.status, found.reason


def signatures_in(scene: ControllerScene, name: str, envelope: str) -> dict[str, Any]:
    """Return what the manifest has about the signatures of the contract."""
    manifest = json.loads((scene.archive / name / name / envelope / "counterfoil.json").read_text())
    (contract,) = [each for each in manifest["files"] if each["kind"] == "Document"]
    found: dict[str, Any] = contract["signatures"]
    return found


async def the_archive(scene: ControllerScene, name: str) -> Archive:
    return Archive.parse(await scene.kube.get(Archive, name))


async def test_where_it_is_required_a_signer_below_an_anchor_lets_the_envelope_be_archived(
    scene: ControllerScene,
) -> None:
    user = await trusting(scene, "covered", "Require", AUTHORITIES)
    envelope = an_envelope_of_annas(scene, user)

    event = await scene.reaches(await scene.note(envelope, "covered"), Phase.SUCCEEDED)

    assert checked(event) == ("True", "SignaturesIntact")
    signatures = signatures_in(scene, "covered", envelope)
    assert (signatures["state"], signatures["found"][0]["trusted"]) == ("Intact", True)
    assert signatures["found"][0]["signer"] == "Common Name: Anna"
    anchors = Anchors.parse({key: value.encode() for key, value in AUTHORITIES.items()})
    assert signatures["anchors"] == anchors.id == (await the_archive(scene, "covered")).status.trust_anchors
    assert not scene.esaw.exists(envelope)
    printed, folder = io.StringIO(), str(scene.archive / "covered" / "covered" / envelope)
    assert await asyncio.to_thread(verify, [folder], {}, printed) == INTACT
    assert "intact; the manifest says that all signers were trusted" in printed.getvalue()


async def test_a_signer_of_another_authority_keeps_envelopes_until_the_anchors_have_that_one(
    scene: ControllerScene,
) -> None:
    async with SmtpServer() as mail:
        mails = await scene.local_environment.mails(mail, "admin@acme.example")
        user = await trusting(scene, "foreign", "Require", OTHERS, notifications=mails)
        envelopes = [an_envelope_of_annas(scene, user) for _ in range(3)]
        names = [await scene.note(each, "foreign") for each in envelopes]
        for name in names:
            event = await scene.reaches(name, Phase.FAILED, "SignerUntrusted")
            assert checked(event) == ("False", "SignerUntrusted")
            assert event.status.message is not None
            assert "'Common Name: Anna'" in event.status.message
            assert "leads to none of the trust anchors" in event.status.message
        for each in envelopes:
            assert scene.esaw.exists(each)
            assert "counterfoil.json" not in scene.filed(each)
        (told,) = await mail.arrived(1)
        assert "add the issuer's certificate to the Secret" in " ".join(told.text.split())

        await authorities(scene, "foreign", AUTHORITIES)

        for name, envelope in zip(names, envelopes, strict=True):
            event = await scene.reaches(name, Phase.SUCCEEDED)
            assert checked(event) == ("True", "SignaturesIntact")
            assert signatures_in(scene, "foreign", envelope)["found"][0]["trusted"]
            assert not scene.esaw.exists(envelope)
            await scene.until_recorded(name, ("Normal", "CauseSolved"))
        await has_looked_again(scene, mails)
        assert mail.mails == [told]


async def has_looked_again(scene: ControllerScene, mails: dict[str, Any]) -> None:
    """Wait until the notifier has processed everything: it sends a mail about an organization that it does
    not know."""
    await scene.local_environment.organization("canary", archive="dms", notifications=mails)

    async def is_recorded() -> bool:
        conditions = (
            (await scene.local_environment.read("organization", "canary"))
            .get("status", {})
            .get("conditions", [])
        )
        return any(each["type"] == "Notified" for each in conditions)

    await eventually(is_recorded)


async def test_where_it_is_only_reported_an_untrusted_signer_stops_nothing(scene: ControllerScene) -> None:
    user = await trusting(scene, "reporting", "Report", OTHERS)
    envelope = an_envelope_of_annas(scene, user)

    event = await scene.reaches(await scene.note(envelope, "reporting"), Phase.SUCCEEDED)

    assert checked(event) == ("False", "SignerUntrusted")
    found = signatures_in(scene, "reporting", envelope)["found"][0]
    assert (found["intact"], found["trusted"]) == (True, False)
    assert found["distrust"] == "its certificate leads to none of the trust anchors"
    assert not scene.esaw.exists(envelope)


@pytest.mark.parametrize("case", USELESS)
async def test_anchors_that_are_none_make_the_archive_not_ready_and_envelopes_wait_until_they_are(
    scene: ControllerScene, case: str
) -> None:
    name = case.lower()
    secret, says = USELESS[case]
    user = await trusting(scene, name, "Require", secret)
    reason = "ArchiveSecretMissing" if secret is None else "SettingsInvalid"
    await scene.until_condition(Archive, name, "Ready", ("False", reason))
    ready = find_condition((await the_archive(scene, name)).status.conditions, "Ready")
    assert ready is not None
    assert ready.message.startswith(f"Archive/{name}: ")
    assert says.format(name=name) in ready.message
    envelope = an_envelope_of_annas(scene, user)
    event = await scene.note(envelope, name)
    waiting = await scene.is_so(event, lambda each: each.status.reason == "ArchiveNotReady")
    assert waiting.status.message == ready.message
    assert scene.filed(envelope) == []

    await authorities(scene, name, AUTHORITIES)

    assert checked(await scene.reaches(event, Phase.SUCCEEDED)) == ("True", "SignaturesIntact")
    await scene.until_condition(Archive, name, "Ready", ("True", "Probed"))


async def test_anchors_that_become_invalid_later_are_reported_though_nothing_is_archived(
    scene: ControllerScene,
) -> None:
    await trusting(scene, "spoiled", "Report", AUTHORITIES)
    await scene.until_condition(Archive, "spoiled", "Ready", ("True", "Probed"))

    await authorities(scene, "spoiled", {"people.pem": "by mistake"})
    await scene.until_condition(Archive, "spoiled", "Ready", ("False", "SettingsInvalid"))

    await authorities(scene, "spoiled", AUTHORITIES)
    await scene.until_condition(Archive, "spoiled", "Ready", ("True", "Probed"))

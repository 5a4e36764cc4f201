"""
Faults of an Archive that the API server can't see: path, tags, and checks of signatures.

With a real controller in a separate namespace: a wrong Archive is not Ready and says why. Its events wait,
and continue after it is corrected.
"""

import asyncio
import io
import json
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from counterfoil.archives.layout import problems
from counterfoil.cli.render import INPUT_INVALID, PROBLEMS, RENDERED
from counterfoil.cli.verify import INTACT
from counterfoil.cli.verify import main as verify
from counterfoil.resources import Archive, EnvelopeEvent, Phase, envelope_id, event_name, find_condition
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.esaw import CallbackUrls, DocumentSpec
from sandbox.servers.webdav_rclone import rclone_webdav_server
from tests.support.scenes.controller import ControllerScene, a_controller_scene
from tests.support.signing_keys import key_file, private_pem, public_pem

SLIPPED_THROUGH: dict[str, tuple[dict[str, Any], str]] = {
    "an XPath that does not compile": ({"tags": {"no": {"xpath": "//contract["}}}, "spec.tags.no: the xpath"),
    "an XPath with a function that there is not": (
        {"tags": {"no": {"xpath": "//contract[shout(@no)]"}}},
        "spec.tags.no: the xpath has functions that do not exist: shout()",
    ),
    "a JSONPath that does not compile": (
        {"tags": {"no": {"jsonPath": "$.contract["}}},
        "spec.tags.no: the jsonPath does not compile",
    ),
    "a value with a placeholder that there is not": (
        {"tags": {"no": {"value": "{{envelope.title}}"}}},
        "spec.tags.no: value has placeholders that do not exist: {{envelope.title}}",
    ),
    "a value of a file, which tags can't have": (
        {"tags": {"no": {"value": "{{file.name}}"}}},
        "spec.tags.no: value has placeholders that do not exist: {{file.name}}",
    ),
}


@pytest.fixture(scope="module")
async def scene(
    plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ControllerScene]:
    """A namespace with a running controller that seals manifests, for all tests of this file."""
    key = key_file(tmp_path_factory.mktemp("keys"), private_pem())
    async with a_controller_scene(
        plane, tmp_path_factory.mktemp("controller"), manifest_key=str(key)
    ) as built:
        yield built


async def corrected(scene: ControllerScene, **spec: Any) -> None:
    """Set fields of the archive, as a person does with kubectl."""
    await scene.kube.patch(Archive, "dms", {"spec": spec})


def manifest_of(scene: ControllerScene, event: EnvelopeEvent) -> dict[str, Any]:
    """Return the manifest of an event's envelope."""
    path = scene.archive / "acme" / event.spec.envelope_id / "counterfoil.json"
    manifest: dict[str, Any] = json.loads(path.read_text())
    return manifest


@pytest.fixture(autouse=True)
async def as_it_was(scene: ControllerScene) -> AsyncIterator[None]:
    """Leave the archive as every test finds it."""
    yield
    await corrected(scene, path=None, tags=None, signatures=None)
    await scene.until_condition(Archive, "dms", "Ready", ("True", "Probed"))


@pytest.mark.parametrize("case", SLIPPED_THROUGH)
async def test_what_the_api_server_lets_through_makes_the_archive_not_ready_in_words(
    scene: ControllerScene, case: str
) -> None:
    spec, says = SLIPPED_THROUGH[case]
    await corrected(scene, **spec)
    await scene.until_condition(Archive, "dms", "Ready", ("False", "SettingsInvalid"))
    archive = Archive.parse(await scene.kube.get(Archive, "dms"))
    assert problems(archive.spec)
    ready = find_condition(archive.status.conditions, "Ready")
    assert ready is not None
    assert says in ready.message
    assert ready.message.endswith("Correct the Archive.")


async def test_an_envelope_for_a_wrong_archive_waits_and_continues_when_it_is_corrected(
    scene: ControllerScene,
) -> None:
    await corrected(scene, tags={"no": {"xpath": "//contract["}})
    await scene.until_condition(Archive, "dms", "Ready", ("False", "SettingsInvalid"))
    name = await scene.noted(metadata="<contract no='4711'/>")
    await scene.is_so(name, lambda event: event.status.reason == "SettingsInvalid")
    await corrected(scene, tags={"no": {"xpath": "//contract/@no"}})
    event = await scene.reaches(name, Phase.SUCCEEDED)
    assert event.status.archive is not None
    assert manifest_of(scene, event)["tags"] == {"no": "4711"}


async def test_a_required_tag_that_is_missing_names_tag_and_rule_and_waits_for_either_to_be_corrected(
    scene: ControllerScene,
) -> None:
    await corrected(scene, tags={"customer": {"xpath": "/contract/customer", "required": True}})
    name = await scene.noted(metadata="<contract no='4711'/>")
    event = await scene.is_so(name, lambda event: event.status.reason == "TagMissing")
    assert re.search(r"`customer` .* the xpath `/contract/customer`", event.status.message or "")
    await corrected(scene, tags={"customer": {"xpath": "/contract/customer", "required": False}})
    await scene.reaches(name, Phase.SUCCEEDED)


async def test_a_parameter_of_the_callback_is_a_tag_and_in_the_manifest(scene: ControllerScene) -> None:
    receiver = await scene.local_environment.receiver()
    olga = scene.user("Olga")
    await scene.local_environment.sender("olga", olga, organization="own")
    callback = {"tokenSecretRefs": [{"name": "own-callback", "key": "token"}], "parameters": ["orderNo"]}
    await scene.local_environment.organization("own", archive="dms", sender="olga", callback=callback)
    await scene.local_environment.ready("organization/own")
    await corrected(scene, tags={"order": {"callback": "ORDERNO", "required": True}})
    envelope = scene.esaw.add_envelope(
        sender=olga,
        status="Active",
        callbacks=CallbackUrls(
            envelope=f"{scene.local_environment.callback_url('own', receiver)}&orderNo=47%2F11"
        ),
    )

    await scene.esaw.complete(envelope)
    await scene.esaw.callbacks_settled()

    event = await scene.reaches(event_name("own", envelope_id(envelope), "envelopeFinished"), Phase.SUCCEEDED)
    assert event.spec.parameters == {"orderNo": "47/11"}
    manifest = json.loads((scene.archive / "own" / envelope / "counterfoil.json").read_text())
    assert manifest["tags"] == {"order": "47/11"}
    assert [each["parameters"] for each in manifest["times"]["actions"]] == [{"orderNo": "47/11"}]


async def test_a_callback_tag_without_its_parameter_reports_it(scene: ControllerScene) -> None:
    await corrected(scene, tags={"order": {"callback": "orderNo", "required": True}})
    name = await scene.noted()
    event = await scene.is_so(name, lambda event: event.status.reason == "TagMissing")
    assert re.search(r"the callback `orderNo` .* URL of the callback", event.status.message or "")
    await corrected(scene, tags={"order": {"callback": "orderNo", "required": False}})
    await scene.reaches(name, Phase.SUCCEEDED)


async def test_a_secret_that_is_changed_lets_filing_continue_without_a_restart(
    scene: ControllerScene,
) -> None:
    async with rclone_webdav_server() as server:
        await scene.local_environment.secret(
            "dav", "archive", username=server.username, password="of last year"
        )
        await scene.local_environment.archive(
            "dav", webdav={"url": server.url, "credentialsSecretRef": {"name": "dav"}}
        )
        dora = scene.user("Dora")
        await scene.local_environment.sender("dora", dora, organization="webdav")
        await scene.local_environment.organization("webdav", archive="dav", sender="dora")
        await scene.until_condition(Archive, "dav", "Ready", ("False", "ArchiveCredentialsRejected"))
        name = await scene.note(scene.envelope(dora), "webdav")
        await scene.is_so(name, lambda event: event.status.reason == "ArchiveCredentialsRejected")

        await scene.local_environment.secret(
            "dav", "archive", username=server.username, password=server.password
        )

        await scene.reaches(name, Phase.SUCCEEDED)
        await scene.until_condition(Archive, "dav", "Ready", ("True", "Probed"))


# -- The dry run of a past envelope --------------------------------------------------------------------------


async def rendered(scene: ControllerScene, *flags: str, kubeconfig: Path) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "counterfoil.cli.render", "--namespace", scene.kube.namespace, *flags),
        env={"KUBECONFIG": str(kubeconfig)},
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await process.communicate()
    return process.returncode or 0, printed.decode()


async def test_a_past_envelope_is_tried_with_another_archive_before_that_is_applied(
    scene: ControllerScene, plane: ControlPlane, tmp_path: Path
) -> None:
    envelope = scene.envelope()
    name = await scene.note(envelope)
    await scene.reaches(name, Phase.SUCCEEDED)
    status, printed = await rendered(scene, "--event", name, kubeconfig=plane.kubeconfig)
    assert status == RENDERED
    assert f"folder    acme/{envelope}" in printed
    assert "Document/contract.pdf" in printed

    (tmp_path / "archive.yaml").write_text(
        "kind: Archive\nmetadata: {name: dms}\nspec:\n  filesystem: {root: /archive}\n"
        "  path: '{{envelope.name}}/{{sender.email}}/{{envelope.id}}/{{file.name}}'\n"
        "  tags: {number: {xpath: //contract/@no, required: true}}\n"
    )
    flags = ["--event", name, "--archive", f"{tmp_path}/archive.yaml"]
    assert (await rendered(scene, *flags, kubeconfig=plane.kubeconfig))[0] == PROBLEMS
    (tmp_path / "metadata.xml").write_text("<contract no='4711'/>")
    flags += ["--metadata", f"{tmp_path}/metadata.xml"]
    status, printed = await rendered(scene, *flags, kubeconfig=plane.kubeconfig)
    assert status == RENDERED
    assert f"folder    Contract/anna@example.com/{envelope}" in printed
    assert "tag       number = 4711" in printed


async def test_an_event_that_there_is_not_can_not_be_tried(
    scene: ControllerScene, plane: ControlPlane
) -> None:
    assert (await rendered(scene, "--event", "nothing", kubeconfig=plane.kubeconfig))[0] == INPUT_INVALID


# -- Signatures, through the whole controller ----------------------------------------------------------------


async def test_by_default_the_signatures_are_reported_and_the_sealed_manifest_has_them(
    scene: ControllerScene, tmp_path: Path
) -> None:
    envelope = scene.envelope(documents=[DocumentSpec(name="contract.pdf")])
    event = await scene.reaches(await scene.note(envelope), Phase.SUCCEEDED)
    found = find_condition(event.status.conditions, "SignaturesChecked")
    assert found is not None
    assert (found.status, found.reason) == ("True", "SignaturesIntact")
    (contract,) = [each for each in manifest_of(scene, event)["files"] if each["kind"] == "Document"]
    assert contract["signatures"]["state"] == "Intact"
    assert contract["signatures"]["found"][0]["signer"] == "Common Name: Stand-in Signer"
    assert contract["signatures"]["found"][0]["coverage"] == "WholeFile"
    folder = str(scene.archive / "acme" / envelope)
    flags = [folder, "--public-key", str(key_file(tmp_path, public_pem()))]
    assert await asyncio.to_thread(verify, flags, {}, io.StringIO()) == INTACT


async def test_an_archive_that_requires_signatures_keeps_envelopes_without_until_it_no_longer_does(
    scene: ControllerScene,
) -> None:
    await corrected(scene, signatures="Require")
    unsigned = scene.envelope(documents=[DocumentSpec(name="offer.pdf", size=3000)])
    signed = scene.envelope(documents=[DocumentSpec(name="contract.pdf")])
    names = [await scene.note(each) for each in (unsigned, signed)]
    await scene.reaches(names[1], Phase.SUCCEEDED)
    event = await scene.reaches(names[0], Phase.FAILED, "SignatureBroken")
    assert "`offer.pdf`: " in (event.status.message or "")
    assert scene.esaw.exists(unsigned)
    assert "counterfoil.json" not in scene.filed(unsigned)

    await corrected(scene, signatures="Report")
    await scene.reaches(names[0], Phase.SUCCEEDED)
    assert not scene.esaw.exists(unsigned)

"""
Faults of an Archive that the API server can't see: path, tags, and checks of signatures.

With a real controller in a separate namespace: a wrong Archive is not Ready and says why. Its events wait, and continue
after it is corrected.
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
from counterfoil.resources import Archive, EnvelopeEvent, Phase, find_condition
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.esaw import DocumentSpec
from sandbox.servers.webdav_rclone import rclone_webdav_server
from tests.support.scenes.controller import House
from tests.support.scenes.controller import house as a_house
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
async def house(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """A namespace with a running controller that seals manifests, for all tests of this file."""
    key = key_file(tmp_path_factory.mktemp("keys"), private_pem())
    async with a_house(plane, tmp_path_factory.mktemp("house"), manifest_key=str(key)) as built:
        yield built


async def corrected(house: House, **spec: Any) -> None:
    """Set fields of the archive, as a person does with kubectl."""
    await house.kube.patch(Archive, "dms", {"spec": spec})


def manifest_of(house: House, event: EnvelopeEvent) -> dict[str, Any]:
    """Return the manifest of an event's envelope."""
    path = house.archive / "acme" / event.spec.envelope_id / "counterfoil.json"
    manifest: dict[str, Any] = json.loads(path.read_text())
    return manifest


@pytest.fixture(autouse=True)
async def as_it_was(house: House) -> AsyncIterator[None]:
    """Leave the archive as every test finds it."""
    yield
    await corrected(house, path=None, tags=None, signatures=None)
    await house.until_condition(Archive, "dms", "Ready", ("True", "Probed"))


@pytest.mark.parametrize("case", SLIPPED_THROUGH)
async def test_what_the_api_server_lets_through_makes_the_archive_not_ready_in_words(
    house: House, case: str
) -> None:
    spec, says = SLIPPED_THROUGH[case]
    await corrected(house, **spec)
    await house.until_condition(Archive, "dms", "Ready", ("False", "SettingsInvalid"))
    archive = Archive.parse(await house.kube.get(Archive, "dms"))
    assert problems(archive.spec)
    ready = find_condition(archive.status.conditions, "Ready")
    assert ready is not None
    assert says in ready.message
    assert ready.message.endswith("Correct the Archive.")


async def test_an_envelope_for_a_wrong_archive_waits_and_goes_on_when_it_is_corrected(house: House) -> None:
    await corrected(house, tags={"no": {"xpath": "//contract["}})
    await house.until_condition(Archive, "dms", "Ready", ("False", "SettingsInvalid"))
    name = await house.noted(metadata="<contract no='4711'/>")
    await house.is_so(name, lambda event: event.status.reason == "SettingsInvalid")
    await corrected(house, tags={"no": {"xpath": "//contract/@no"}})
    event = await house.reaches(name, Phase.SUCCEEDED)
    assert event.status.archive is not None
    assert manifest_of(house, event)["tags"] == {"no": "4711"}


async def test_a_required_tag_that_is_missing_names_tag_and_rule_and_waits_for_either_to_be_corrected(
    house: House,
) -> None:
    await corrected(house, tags={"customer": {"xpath": "/contract/customer", "required": True}})
    name = await house.noted(metadata="<contract no='4711'/>")
    event = await house.is_so(name, lambda event: event.status.reason == "TagMissing")
    assert re.search(r"`customer` .* the xpath `/contract/customer`", event.status.message or "")
    await corrected(house, tags={"customer": {"xpath": "/contract/customer", "required": False}})
    await house.reaches(name, Phase.SUCCEEDED)


async def test_a_secret_that_is_changed_lets_filing_go_on_without_a_restart(house: House) -> None:
    async with rclone_webdav_server() as server:
        await house.local_environment.secret("dav", username=server.username, password="of last year")
        await house.local_environment.archive(
            "dav", webdav={"url": server.url, "credentialsSecretRef": {"name": "dav"}}
        )
        dora = house.user("Dora")
        await house.local_environment.sender("dora", dora, organization="webdav")
        await house.local_environment.organization("webdav", archive="dav", sender="dora")
        await house.until_condition(Archive, "dav", "Ready", ("False", "ArchiveCredentialsRejected"))
        name = await house.note(house.envelope(dora), "webdav")
        await house.is_so(name, lambda event: event.status.reason == "ArchiveCredentialsRejected")

        await house.local_environment.secret("dav", username=server.username, password=server.password)

        await house.reaches(name, Phase.SUCCEEDED)
        await house.until_condition(Archive, "dav", "Ready", ("True", "Probed"))


# -- The dry run of a past envelope ------------------------------------------------------------------------------


async def rendered(house: House, *flags: str, kubeconfig: Path) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "counterfoil.cli.render", "--namespace", house.kube.namespace, *flags),
        env={"KUBECONFIG": str(kubeconfig)},
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await process.communicate()
    return process.returncode or 0, printed.decode()


async def test_a_past_envelope_is_tried_with_another_archive_before_that_is_applied(
    house: House, plane: ControlPlane, tmp_path: Path
) -> None:
    envelope = house.envelope()
    name = await house.note(envelope)
    await house.reaches(name, Phase.SUCCEEDED)
    status, printed = await rendered(house, "--event", name, kubeconfig=plane.kubeconfig)
    assert status == RENDERED
    assert f"folder    acme/{envelope}" in printed
    assert "Document/contract.pdf" in printed

    (tmp_path / "archive.yaml").write_text(
        "kind: Archive\nmetadata: {name: dms}\nspec:\n  filesystem: {root: /archive}\n"
        "  path: '{{envelope.name}}/{{sender.email}}/{{envelope.id}}/{{file.name}}'\n"
        "  tags: {number: {xpath: //contract/@no, required: true}}\n"
    )
    flags = ["--event", name, "--archive", f"{tmp_path}/archive.yaml"]
    assert (await rendered(house, *flags, kubeconfig=plane.kubeconfig))[0] == PROBLEMS
    (tmp_path / "metadata.xml").write_text("<contract no='4711'/>")
    flags += ["--metadata", f"{tmp_path}/metadata.xml"]
    status, printed = await rendered(house, *flags, kubeconfig=plane.kubeconfig)
    assert status == RENDERED
    assert f"folder    Contract/anna@example.com/{envelope}" in printed
    assert "tag       number = 4711" in printed


async def test_an_event_that_there_is_not_can_not_be_tried(house: House, plane: ControlPlane) -> None:
    assert (await rendered(house, "--event", "nothing", kubeconfig=plane.kubeconfig))[0] == INPUT_INVALID


# -- Signatures, through the whole controller ---------------------------------------------------------------------


async def test_by_default_what_the_signatures_are_is_told_and_the_sealed_manifest_has_them(
    house: House, tmp_path: Path
) -> None:
    envelope = house.envelope(documents=[DocumentSpec(name="contract.pdf")])
    event = await house.reaches(await house.note(envelope), Phase.SUCCEEDED)
    found = find_condition(event.status.conditions, "SignaturesChecked")
    assert found is not None
    assert (found.status, found.reason) == ("True", "SignaturesIntact")
    (contract,) = [each for each in manifest_of(house, event)["files"] if each["kind"] == "Document"]
    assert contract["signatures"]["state"] == "Intact"
    assert contract["signatures"]["found"][0]["signer"] == "Common Name: Stand-in Signer"
    assert contract["signatures"]["found"][0]["coverage"] == "WholeFile"
    folder = str(house.archive / "acme" / envelope)
    flags = [folder, "--public-key", str(key_file(tmp_path, public_pem()))]
    assert await asyncio.to_thread(verify, flags, {}, io.StringIO()) == INTACT


async def test_an_archive_that_requires_signatures_keeps_envelopes_without_until_it_no_longer_does(
    house: House,
) -> None:
    await corrected(house, signatures="Require")
    unsigned = house.envelope(documents=[DocumentSpec(name="offer.pdf", size=3000)])
    signed = house.envelope(documents=[DocumentSpec(name="contract.pdf")])
    names = [await house.note(each) for each in (unsigned, signed)]
    await house.reaches(names[1], Phase.SUCCEEDED)
    event = await house.reaches(names[0], Phase.FAILED, "SignatureBroken")
    assert "`offer.pdf`: " in (event.status.message or "")
    assert house.esaw.exists(unsigned)
    assert "counterfoil.json" not in house.filed(unsigned)

    await corrected(house, signatures="Report")
    await house.reaches(names[0], Phase.SUCCEEDED)
    assert not house.esaw.exists(unsigned)

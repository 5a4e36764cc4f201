"""
Routes through a real API server and a real controller: a folder, and an S3 server for what a route leads
there.
"""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from counterfoil.cli.plugin.exit_status import ExitStatus
from counterfoil.resources import REQUEST_LABEL, EnvelopeEvent, Organization, Phase
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.servers.s3_rclone import S3Server, s3_server
from tests.support.pauses import eventually
from tests.support.scenes.controller import ControllerScene
from tests.support.scenes.plugin import Terminal, a_scene_with_people, terminal

AREA = {"area": {"jsonPath": "$.area"}}
HR = {"name": "hr", "archiveRef": {"name": "vault"}, "when": {"tags": {"area": {"values": ["HR"]}}}}
HR_METADATA = json.dumps({"area": "HR"})


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[S3Server]:
    async with s3_server(buckets=("contracts",)) as running:
        yield running


@pytest.fixture(scope="module")
async def scene(
    plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory, server: S3Server
) -> AsyncIterator[ControllerScene]:
    async with a_scene_with_people(plane, tmp_path_factory.mktemp("controller")) as built:
        local = built.local_environment
        keys = {"accessKeyId": server.access_key, "secretAccessKey": server.secret_key}
        await local.secret("vault", "archive", origin=server.url, **keys)
        await vault(built, server, tags=AREA)
        await local.ready("archive/vault")
        yield built


@pytest.fixture(autouse=True)
async def routed(scene: ControllerScene) -> None:
    await route(scene, HR)


@pytest.fixture
async def administrator(scene: ControllerScene) -> Terminal:
    return await terminal(scene, "administrator")


async def vault(scene: ControllerScene, server: S3Server, name: str = "vault", **spec: Any) -> None:
    bucket = {
        "bucket": "contracts",
        "prefix": name,
        "region": "eu-central-1",
        "endpoint": server.url,
        "forcePathStyle": True,
        "credentialsSecretRef": {"name": "vault"},
    }
    await scene.local_environment.archive(name, s3=bucket, **spec)


async def route(scene: ControllerScene, *routes: dict[str, Any]) -> None:
    """Let a person write the routes of the Organization."""
    body = {"spec": {"routes": routes or None}}
    await scene.kube.patch(Organization, "acme", body)


def in_vault(server: S3Server, envelope: str) -> list[str]:
    """Names of the files in the bucket for an envelope."""
    found = [each for each in server.folder.rglob("*") if each.is_file() and envelope in str(each)]
    return sorted(each.name for each in found)


def manifest_of(folder: Path, envelope: str) -> dict[str, Any]:
    (path,) = (each for each in folder.rglob("counterfoil.json") if envelope in str(each))
    read: dict[str, Any] = json.loads(path.read_text())
    return read


async def test_a_tag_decides_whether_a_contract_goes_to_the_folder_or_to_the_bucket(
    scene: ControllerScene, server: S3Server
) -> None:
    hr = scene.envelope(metadata=HR_METADATA)
    other = scene.envelope(metadata=json.dumps({"area": "Sales"}))
    filed = await scene.reaches(await scene.note(hr), Phase.SUCCEEDED)
    elsewhere = await scene.reaches(await scene.note(other), Phase.SUCCEEDED)

    assert filed.status.archive is not None
    assert (filed.status.archive.ref.name, filed.status.archive.route) == ("vault", "hr")
    assert {"contract.pdf", "annex.pdf", "counterfoil.json"} <= set(in_vault(server, hr))
    assert scene.filed(hr) == []
    extra = manifest_of(server.folder, hr)["extra"]
    assert (extra["archive"], extra["route"]) == ("vault", "hr")

    assert elsewhere.status.archive is not None
    assert (elsewhere.status.archive.ref.name, elsewhere.status.archive.route) == ("dms", None)
    assert "contract.pdf" in scene.filed(other)
    assert in_vault(server, other) == []


async def test_a_route_that_changes_while_an_event_runs_splits_no_envelope(
    scene: ControllerScene, server: S3Server
) -> None:
    envelope = scene.envelope(metadata=HR_METADATA)
    scene.esaw.fault("file", after=1, status=503)
    event = await scene.note(envelope)
    waiting = await scene.reaches(event, Phase.ARCHIVING, "EsawFailing")
    assert waiting.status.archive is not None
    assert waiting.status.archive.route == "hr"
    assert len(in_vault(server, envelope)) == 1

    await route(scene, {**HR, "archiveRef": {"name": "dms"}, "when": {"senders": ["anna"]}})
    scene.controller.kill()
    scene.controller = await scene.local_environment.controller(log_level="debug")
    scene.esaw.clear_faults()
    filed = await scene.reaches(event, Phase.SUCCEEDED)

    assert filed.status.archive is not None
    assert (filed.status.archive.ref.name, filed.status.archive.route) == ("vault", "hr")
    assert {"contract.pdf", "annex.pdf", "counterfoil.json"} <= set(in_vault(server, envelope))
    assert scene.filed(envelope) == []
    assert [each.type for each in filed.status.conditions if each.type == "FilesLeftBehind"] == []


async def test_a_route_to_an_archive_that_does_not_exist_is_waited_for_until_it_does(
    scene: ControllerScene, server: S3Server
) -> None:
    await route(scene, {**HR, "archiveRef": {"name": "later"}})
    await scene.until_condition(Organization, "acme", "Ready", ("False", "ArchiveMissing"))
    envelope = scene.envelope(metadata=HR_METADATA)
    event = await scene.note(envelope)
    waiting = await scene.reaches(event, Phase.COLLECTING, "ArchiveMissing")
    assert "The route `hr`" in (waiting.status.message or "")

    await vault(scene, server, "later", tags=AREA)
    filed = await scene.reaches(event, Phase.SUCCEEDED)
    assert filed.status.archive is not None
    assert filed.status.archive.ref.name == "later"
    await scene.until_condition(Organization, "acme", "Ready", ("True", "Ready"))


async def test_a_route_by_a_tag_that_its_archive_does_not_define_waits_with_route_invalid_until_it_does(
    scene: ControllerScene, server: S3Server
) -> None:
    await vault(scene, server, "without-tags")
    await route(scene, {**HR, "archiveRef": {"name": "without-tags"}})
    await scene.until_condition(Organization, "acme", "Ready", ("False", "RouteInvalid"))
    envelope = scene.envelope(metadata=HR_METADATA)
    event = await scene.note(envelope)
    await scene.reaches(event, Phase.COLLECTING, "RouteInvalid")
    assert (in_vault(server, envelope), scene.filed(envelope)) == ([], [])

    await vault(scene, server, "without-tags", tags=AREA)
    await scene.reaches(event, Phase.SUCCEEDED)
    assert "contract.pdf" in in_vault(server, envelope)


async def test_the_plugin_says_which_archive_would_be_chosen_and_changes_nothing(
    scene: ControllerScene, server: S3Server, administrator: Terminal
) -> None:
    envelope = scene.envelope(metadata=HR_METADATA)
    answer = await administrator("route", "acme", "--envelope", envelope.upper())
    assert (answer.code, answer.err) == (ExitStatus.DONE, "")
    assert answer.out == "Archive/vault by the route `hr`: the tag `area` is HR.\n"
    assert (in_vault(server, envelope), scene.filed(envelope)) == ([], [])
    assert not [each async for each in scene.kube.list(EnvelopeEvent, fields=f"spec.envelopeID={envelope}")]
    organization = Organization.parse(await scene.kube.get(Organization, "acme"))
    assert REQUEST_LABEL not in organization.metadata.labels
    await scene.until_recorded("acme", ("Normal", "RouteRequested"))

    tried = await administrator("route", "acme", "--tag", "area=IT")
    assert tried.out.startswith("Archive/dms by spec.archiveRef: no route holds.")
    unknown = await administrator("route", "acme", "--status", "Completed")
    assert unknown.code == ExitStatus.NOT_ALL
    assert "the tag `area` is not known" in unknown.out


async def test_why_names_the_route_that_was_taken(scene: ControllerScene, administrator: Terminal) -> None:
    event = await scene.noted(metadata=HR_METADATA)
    await scene.reaches(event, Phase.SUCCEEDED)

    async def answer() -> str:
        return (await administrator("why", event)).out

    page = await eventually(answer)
    assert "Route         to Archive/vault by the route hr, which now holds if the tag `area` is HR" in page

"""
Copies through a real API server and a real controller: a folder, and an S3 server with Object Lock for the
copy.
"""

import json
import re
from collections.abc import AsyncIterator, Mapping
from urllib.parse import unquote

import pytest

from counterfoil.archives.backends._object_store.object_lock import ObjectLockState
from counterfoil.cli.plugin.exit_status import ExitStatus
from counterfoil.resources import REQUEST_LABEL, EnvelopeEvent, Import, Organization, Phase
from counterfoil.resources.audit_annotation import audit_entries
from counterfoil.resources.routes import stored_copy
from sandbox.controlplane import rbac
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.servers.s3_versity import REGION, VersityServer, versity_server
from tests.support.pauses import eventually
from tests.support.scenes.controller import ControllerScene, a_controller_scene
from tests.support.scenes.plugin import ADMINISTERS, terminal

BUCKET = "preserved"
WORM = {"archiveRef": {"name": "worm"}}


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[VersityServer]:
    async with versity_server() as running:
        await running.make_bucket(BUCKET, locking=True)
        yield running


@pytest.fixture(scope="module")
async def scene(
    plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory, server: VersityServer
) -> AsyncIterator[ControllerScene]:
    async with a_controller_scene(plane, tmp_path_factory.mktemp("controller")) as built:
        keys = {"accessKeyId": server.access_key, "secretAccessKey": server.secret_key}
        await built.local_environment.secret("worm", "archive", origin=server.url, **keys)
        bucket = {
            "bucket": BUCKET,
            "region": REGION,
            "endpoint": server.url,
            "forcePathStyle": True,
            "objectLock": {"mode": "Governance", "retainDays": 30},
            "credentialsSecretRef": {"name": "worm"},
        }
        await built.local_environment.archive("worm", s3=bucket)
        await built.local_environment.ready("archive/worm")
        yield built


@pytest.fixture(autouse=True)
async def copied(scene: ControllerScene) -> None:
    await copy_into(scene, WORM)


async def copy_into(scene: ControllerScene, *copies: Mapping[str, object]) -> None:
    """Let a person write the copies of the Organization."""
    await scene.kube.patch(Organization, "acme", {"spec": {"copies": list(copies) or None}})


async def stored(server: VersityServer, envelope: str) -> list[str]:
    listed = (await server.ask("GET", f"{BUCKET}?list-type=2")).raise_for_status().text
    return [unquote(each) for each in re.findall(r"<Key>([^<]+)</Key>", listed) if envelope in each]


async def test_a_contract_is_locked_in_its_copy_before_it_is_deleted(
    scene: ControllerScene, server: VersityServer
) -> None:
    envelope = scene.envelope()
    event = await scene.reaches(await scene.note(envelope), Phase.SUCCEEDED)

    assert event.status.reason == "ArchivedAndDeleted"
    assert not scene.esaw.exists(envelope)
    names = await stored(server, envelope)
    assert {"contract.pdf", "annex.pdf", "counterfoil.json"} <= {each.rpartition("/")[2] for each in names}
    for name in names:
        answer = await server.ask("GET", f"{BUCKET}/{name}?retention")
        lock = ObjectLockState.read(answer.content)
        assert lock is not None, name
        assert lock.mode == "GOVERNANCE"
    (manifest,) = (each for each in names if each.endswith("counterfoil.json"))
    extra = json.loads((await server.ask("GET", f"{BUCKET}/{manifest}")).content)["extra"]
    assert event.status.archive is not None
    assert extra["original"]["manifest"] == event.status.archive.manifest
    assert stored_copy(event.status, "worm").manifest == f"s3://{BUCKET}/{manifest}"


async def archived_without_a_copy(scene: ControllerScene) -> tuple[str, str]:
    await copy_into(scene)
    envelope = scene.envelope()
    event = await scene.reaches(await scene.note(envelope), Phase.SUCCEEDED)
    assert event.status.copies == ()
    await copy_into(scene, WORM)
    return envelope, event.name


async def until_copied(scene: ControllerScene, name: str) -> EnvelopeEvent:
    def is_copied(event: EnvelopeEvent) -> bool:
        is_there = stored_copy(event.status, "worm").verified_time is not None
        return is_there and event.status.phase is Phase.SUCCEEDED

    return await scene.is_so(name, is_copied)


async def test_a_label_lets_an_earlier_envelope_have_its_copy(
    scene: ControllerScene, server: VersityServer
) -> None:
    envelope, name = await archived_without_a_copy(scene)

    await scene.kube.patch(EnvelopeEvent, name, {"metadata": {"labels": {REQUEST_LABEL: "copy"}}})
    event = await until_copied(scene, name)

    assert event.status.reason == "ArchivedAndDeleted"
    assert event.status.last_request is not None
    assert (event.status.last_request.request, event.status.last_request.outcome) == ("copy", "Done")
    assert await stored(server, envelope)


async def test_the_plugin_lets_an_earlier_envelope_have_its_copy_and_records_who_asked(
    scene: ControllerScene, server: VersityServer
) -> None:
    await scene.local_environment.apply(*rbac.service_account_with_rules("administrator", ADMINISTERS))
    administrator = await terminal(scene, "administrator")
    envelope, name = await archived_without_a_copy(scene)
    command = f"kubectl counterfoil -n {scene.local_environment.namespace} copy {name}"
    assert command in (await administrator("why", name)).out

    answer = await administrator("copy", envelope, "--because", "the archive is new")

    assert (answer.code, answer.out) == (ExitStatus.DONE, f"{name}: copy is asked for, it was Succeeded\n")
    event = await until_copied(scene, name)
    assert await stored(server, envelope)
    (act,) = audit_entries(event.metadata.annotations)
    assert (act.what, act.why) == ("copy", "the archive is new")
    again = await administrator("copy", name)
    assert (again.code, again.out) == (ExitStatus.NOT_ALL, f"{name}: nothing to copy, it is Succeeded\n")


async def test_an_import_lets_all_earlier_envelopes_have_their_copies(
    scene: ControllerScene, server: VersityServer
) -> None:
    envelope, name = await archived_without_a_copy(scene)
    body = {
        "apiVersion": "counterfoil.dev/v1beta1",
        "kind": "Import",
        "metadata": {"name": "copies"},
        "spec": {"organizationRef": {"name": "acme"}, "from": "2019-01-01", "copiesOnly": True},
    }
    await scene.kube.create(Import, body)

    await until_copied(scene, name)

    assert await stored(server, envelope)

    async def is_started() -> bool:
        found = Import.parse(await scene.kube.get(Import, "copies"))
        return found.status.start_time is not None

    await eventually(is_started)

"""
The namespace's resources, restored into an empty cluster as docs/backup.md says: nothing is filed or deleted
twice.
"""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from counterfoil.cli import restore
from counterfoil.resources import EnvelopeEvent, Phase, Sender, to_json_dict
from sandbox.controlplane.control_plane import ControlPlane, control_plane
from sandbox.controlplane.kubectl import KubectlError
from sandbox.environment.local import LocalEnvironment, local_environment
from tests.support.builders import a_sender
from tests.support.pauses import eventually
from tests.support.scenes.chaos import Scene, opened

KINDS = "archives,organizations,senders,envelopes,envelopeevents,imports,secrets"

# kubectl itself would miss the spec in what is a status only.
STATUS_COMMAND = (
    "apply",
    "--server-side",
    "--force-conflicts",
    "--subresource=status",
    "--validate=false",
)


@pytest.fixture
async def scene(plane: ControlPlane, namespace: str, tmp_path: Path) -> AsyncIterator[Scene]:
    """A namespace with a sender, an organization, and a folder as archive."""
    async with opened(plane, namespace, tmp_path) as built:
        yield built


@pytest.fixture
async def empty(scene: Scene, tmp_path: Path) -> AsyncIterator[LocalEnvironment]:
    """An empty cluster that has just our kinds, before the same eSAW."""
    folder = tmp_path / "empty"
    folder.mkdir()
    async with control_plane() as other:
        await other.apply_crds()
        await other.namespace(scene.local_environment.namespace)
        async with local_environment(
            other, folder, namespace=scene.local_environment.namespace, esaw=scene.standin
        ) as built:
            yield built


async def test_a_restored_namespace_continues_from_its_backup_and_does_nothing_twice(
    scene: Scene, empty: LocalEnvironment
) -> None:
    """
    Three envelopes: one was filed before the backup, one archived but not deleted, one not begun.

    All three come to their end after the backup, so that it knows less than is true.
    """
    controller = await scene.controller()
    filed = await scene.note(scene.envelope(2000, 3000))
    await scene.ended(filed)
    scene.standin.fault("delete", status=503)
    archived = await scene.note(scene.envelope(2000))
    await _reaches(scene, archived, Phase.CLEANING)
    await controller.stop()
    waiting = await scene.note(scene.envelope(1000))
    backup = json.loads(await scene.local_environment.kubectl("get", KINDS, "-o", "json"))

    scene.standin.clear_faults()
    await controller.start()
    for name in (filed, archived, waiting):
        await scene.holds(name)
    await controller.stop()
    before, deleted = scene.archive_folder.files(), _deleted(scene)

    await _restore(empty, backup)
    await empty.controller()
    assert (await _ended(empty, filed)).status.phase is Phase.SUCCEEDED
    assert (await _ended(empty, archived)).status.phase is Phase.SUCCEEDED
    assert (await _ended(empty, waiting)).status.phase is not Phase.SUCCEEDED
    # The controller that has just started may be probing the archive.
    await eventually(lambda: scene.archive_folder.files() == before)
    assert _deleted(scene) == deleted
    for name in (filed, archived):
        await scene.filed_once(await _ended(empty, name))


async def test_a_status_that_another_client_wrote_after_it_was_shown_is_kept(
    plane: ControlPlane, namespace: str
) -> None:
    async def now() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(await plane.kubectl("-n", namespace, "get", KINDS, "-o", "json"))
        return found

    async def write(plan: restore.RestorePlan, *command: str) -> None:
        await plane.kubectl("-n", namespace, *command, "-f", "-", stdin=_listed(plan))

    spec = to_json_dict(a_sender().spec)
    stored = {"metadata": {"name": "anna", "namespace": namespace, "labels": {}}, "spec": spec}
    kind = {"apiVersion": Sender.API_VERSION, "kind": Sender.KIND}
    condition = {
        "type": "Authorized",
        "status": "True",
        "reason": "KeyAccepted",
        "message": "It works.",
        "lastTransitionTime": "2026-11-24T12:00:00Z",
    }
    backup = {"items": [{**kind, **stored, "status": {"conditions": [condition]}}]}

    await write(restore.objects(backup, await now()), "create")
    statuses = restore.status(backup, await now())
    await write(statuses, *STATUS_COMMAND)
    with pytest.raises(KubectlError, match="the object has been modified"):
        await write(statuses, *STATUS_COMMAND)

    (sender,) = (await now())["items"]
    assert "Authorized" in {each["type"] for each in sender["status"]["conditions"]}
    with pytest.raises(KubectlError, match="already exists"):
        await write(restore.objects(backup, {"items": []}), "create")


async def _restore(into: LocalEnvironment, backup: dict[str, Any]) -> None:
    created = restore.objects(backup, await _now(into))
    await into.kubectl("create", "-f", "-", stdin=_listed(created))
    statuses = restore.status(backup, await _now(into))
    await into.kubectl(*STATUS_COMMAND, "-f", "-", stdin=_listed(statuses))
    assert (statuses.unchanged, restore.status(backup, await _now(into)).items) == ([], [])


async def _now(where: LocalEnvironment) -> dict[str, Any]:
    now: dict[str, Any] = json.loads(await where.kubectl("get", KINDS, "-o", "json"))
    return now


def _listed(plan: restore.RestorePlan) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": plan.items})


async def _reaches(scene: Scene, name: str, phase: Phase) -> None:
    async def there() -> bool:
        return (await scene.event(name)).status.phase is phase

    await eventually(there)


async def _ended(where: LocalEnvironment, name: str) -> EnvelopeEvent:
    async def final() -> EnvelopeEvent | None:
        event = EnvelopeEvent.parse(await where.read("envelopeevent", name))
        return event if event.status.phase.is_final else None

    return await eventually(final)


def _deleted(scene: Scene) -> list[int]:
    """Number of real deletions of each envelope."""
    return [
        sum(each.outcome == 200 for each in scene.standin.delete_calls(envelope))
        for envelope in scene.envelopes
    ]

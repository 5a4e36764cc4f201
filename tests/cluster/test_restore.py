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
from counterfoil.resources import EnvelopeEvent, Phase
from sandbox.controlplane.control_plane import ControlPlane, control_plane
from sandbox.environment.local import LocalEnvironment, local_environment
from tests.support.scenes.chaos import Scene, eventually, opened

KINDS = "archives,organizations,senders,envelopes,envelopeevents,secrets"


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


async def test_a_restored_namespace_goes_on_from_its_backup_and_does_nothing_twice(
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


async def _restore(into: LocalEnvironment, backup: dict[str, Any]) -> None:
    applied = ("apply", "--server-side", "--force-conflicts", "-f", "-")
    await into.kubectl(*applied, stdin=json.dumps(restore.objects(backup)))
    # kubectl itself would miss the spec in what is a status only.
    partly = ("--subresource=status", "--validate=false")
    await into.kubectl(*applied, *partly, stdin=json.dumps(restore.status(backup)))


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

"""The advice about an event is followed, and the event ends as the advice says."""

import asyncio
import dataclasses
import json
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

from msgspec.structs import replace

from counterfoil.esaw import EsawUnreachable, FilesResponse, HttpStatusError
from counterfoil.kube.errors import Rejected
from counterfoil.resources import Condition, EnvelopeEvent, Phase, find_condition
from counterfoil.resources.reopening import reopened_status
from tests.support.fakes.reconcile_context import FakeEsawUserClient, a_probed_archive, missing
from tests.support.scenes.reconciler import EsawOfOne, ReconcilerScene


async def retried(scene: ReconcilerScene) -> None:
    """Let a person retry the event."""
    event = scene.newest()
    asked = reopened_status(event.status, reason="RetryRequested", message="", now=scene.clock.now())
    await scene.status_writer.store(event, asked)


def end(event: EnvelopeEvent) -> tuple[Phase, str | None]:
    return event.status.phase, event.status.reason


ARCHIVED_AND_DELETED = (Phase.SUCCEEDED, "ArchivedAndDeleted")


async def test_a_sender_may_see_histories_and_a_retry_says_that_the_envelope_was_deleted(
    tmp_path: Path,
) -> None:
    scene = ReconcilerScene(tmp_path)
    scene.envelope.but("delete", HttpStatusError(503))
    await scene.reconcile()
    scene.envelope.problems.clear()
    for operation in ("envelope", "files", "configuration"):
        scene.envelope.but(operation, missing())
    scene.envelope.but("history", HttpStatusError(403, "ERR0010"))
    assert end(await scene.reconcile(3)) == (Phase.SUCCEEDED, "DeletionAssumed")

    scene.envelope.problems.clear()
    scene.envelope.deleted = True
    await retried(scene)

    assert end(await scene.reconcile()) == ARCHIVED_AND_DELETED


async def test_a_file_that_the_archive_lost_is_restored_and_the_event_retried(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    root.mkdir()
    scene = ReconcilerScene(root)
    scene.envelope.but("delete", EsawUnreachable("timeout"))
    await scene.reconcile()
    scene.envelope.deleted = True
    scene.envelope.problems.clear()
    (trail,) = scene.root.rglob("audit-trail.pdf")
    trail.rename(tmp_path / "backup.pdf")
    before = archived(scene.newest())
    failed = await scene.reconcile()
    assert end(failed) == (Phase.FAILED, "ArchivedFilesLost")
    # Auditors read this condition. It stays True, so nothing is archived or deleted because of the loss.
    lost = archived(failed)
    assert lost.message.startswith("Files were lost after they were archived")
    assert "audit-trail.pdf" in lost.message
    assert replace(lost, message=before.message) == before

    (tmp_path / "backup.pdf").rename(trail)
    await retried(scene)

    restored = await scene.reconcile()
    assert end(restored) == ARCHIVED_AND_DELETED
    assert archived(restored) == before


def archived(event: EnvelopeEvent) -> Condition:
    found = find_condition(event.status.conditions, "Archived")
    assert found is not None
    return found


def place_of(location: str) -> Path:
    return Path(unquote(urlsplit(location).path))


async def test_files_at_their_old_places_are_removed_after_a_comparison_with_the_manifest(
    tmp_path: Path,
) -> None:
    scene = ReconcilerScene(tmp_path)
    scene.envelope.but("download trail-1", EsawUnreachable("cut"))
    await scene.reconcile(2)
    scene.observe(
        a_probed_archive(version=2, generation=2, path="new/{{envelope.id}}/{{file.name}}", root=scene.root)
    )
    scene.envelope.problems.clear()
    after = await scene.reconcile(3)
    assert end(after) == ARCHIVED_AND_DELETED
    left = find_condition(after.status.conditions, "FilesLeftBehind")
    assert left is not None
    assert left.reason == "PlaceChanged"
    places = [place_of(each) for each in left.message.split("`") if each.startswith("file:")]
    old = [each for each in places if each.is_file()]
    assert old
    (manifest,) = scene.root.rglob("counterfoil.json")
    filed = [place_of(each["location"]) for each in json.loads(manifest.read_text())["files"]]

    assert not set(old) & set(filed)
    assert {each.read_bytes() for each in old} <= {each.read_bytes() for each in filed}
    for each in old:
        each.unlink()

    assert all(each.is_file() for each in filed)


class SlowEsaw(FakeEsawUserClient):
    """ESAW that takes its time for the list of files."""

    async def files(self, envelope: str) -> FilesResponse:
        await asyncio.sleep(0.2)
        return await super().files(envelope)


async def test_an_attempt_that_may_last_longer_archives_the_envelope(tmp_path: Path) -> None:
    scene = ReconcilerScene(tmp_path, esaw=EsawOfOne(SlowEsaw()))
    scene.reconciler = dataclasses.replace(scene.reconciler, attempt_timeout=timedelta(seconds=0.05))
    assert (await scene.reconcile()).status.reason == "AttemptOverdue"

    scene.reconciler = dataclasses.replace(scene.reconciler, attempt_timeout=timedelta(minutes=1))

    assert end(await scene.reconcile()) == ARCHIVED_AND_DELETED


async def test_a_status_that_the_api_server_refused_is_stored_after_its_crds_are_of_this_version(
    tmp_path: Path,
) -> None:
    scene = ReconcilerScene(tmp_path)
    scene.kube.fail("patch_status", Rejected(422, "Invalid", "the API server answered 422 Invalid"))
    assert end(await scene.reconcile()) == (Phase.FAILED, "StatusRefused")

    await retried(scene)

    assert end(await scene.reconcile()) == ARCHIVED_AND_DELETED


async def test_an_internal_error_that_passes_needs_no_person(tmp_path: Path) -> None:
    scene = ReconcilerScene(tmp_path)
    scene.envelope.but("files", RuntimeError("a defect"))
    assert (await scene.reconcile()).status.reason == "InternalError"

    scene.envelope.problems.clear()

    assert end(await scene.reconcile()) == ARCHIVED_AND_DELETED

"""The proof at the moment of the delete, in whole runs of the reconciler over a real archive on the disk."""

import dataclasses
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from email.utils import format_datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from controller.access.archive_root import MARKER_NAME
from controller.mails.problem_tracking import FailureSummary
from controller.reconcile.phases.repeated_archiving import MAX_MISMATCHES
from controller.requests.event_requests import EventRequests
from controller.scheduling.due import due_time
from counterfoil.esaw import EsawUnreachable, FilesResponse, HttpStatusError
from counterfoil.esaw.errors import ResponseInvalid, TransferBroken, UnexpectedRedirect, UnreachableKind
from counterfoil.esaw.models import ListedDocument
from counterfoil.kube.errors import Rejected
from counterfoil.kube.server_clock import ServerClock
from counterfoil.resources import (
    MAX_ATTEMPT_HISTORY,
    REQUEST_LABEL,
    SENDER_LABEL,
    Archive,
    EnvelopeEvent,
    EnvelopeStatus,
    EventNotice,
    FileKind,
    LastError,
    NoticeState,
    Organization,
    Origin,
    Phase,
    Sender,
    find_condition,
    is_condition_true,
)
from counterfoil.resources.reopening import (
    is_started_by_callback,
    must_be_stored,
    reopened_status,
    status_for_first_attempt,
)
from counterfoil.resources.request import Request, RequestOutcome
from counterfoil.retention import imminent_deletion
from counterfoil.signatures.results import Signatures, State
from sandbox.servers.http_document_system import DocumentSystem, document_system
from tests.support.builders import ENVELOPE, an_event, an_organization
from tests.support.fakes.reconcile_context import a_probed_archive, an_archive, missing
from tests.support.scenes.documents import (
    document,
    file_ids,
    list_files,
    manifests,
    retried_by_a_person,
)
from tests.support.scenes.notifications import in_archive
from tests.support.scenes.reconciler import ReconcilerScene
from webhook.receiver.delivery_counter import PendingCount, status_with

TRAIL = b"%PDF-trail"


@pytest.fixture
def scene(tmp_path: Path) -> ReconcilerScene:
    return ReconcilerScene(tmp_path)


def a_scene_without_trail(folder: Path, **spec: Any) -> ReconcilerScene:
    scene = ReconcilerScene(folder, **{"evidence": {"wait": "10m"}, **spec})
    del scene.envelope.contents["trail-1"]
    return scene


# -- The delete itself ---------------------------------------------------------------------------------------


async def test_a_delete_that_another_program_answered_is_repeated_until_the_envelope_is_gone(
    scene: ReconcilerScene,
) -> None:
    scene.envelope.transport.is_another_program = True
    first = await scene.reconcile()
    assert (first.status.phase, first.status.reason) == (Phase.CLEANING, "DeleteUnconfirmed")
    scene.envelope.transport.is_another_program = False
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"
    assert scene.envelope.transport.deleted == [ENVELOPE, ENVELOPE]


@pytest.mark.parametrize("history", [None, HttpStatusError(403, "ERR0010")])
@pytest.mark.parametrize("status", [EnvelopeStatus.COMPLETED, EnvelopeStatus.EXPIRED])
async def test_a_delete_that_esaw_carries_out_a_moment_after_its_answer_is_a_success(
    tmp_path: Path, status: EnvelopeStatus, history: Exception | None
) -> None:
    scene = ReconcilerScene(tmp_path, statuses=BOTH)
    scene.envelope.status = status
    scene.envelope.transport.is_another_program = True
    first = await scene.reconcile()
    assert (first.status.reason, requested(first)) == ("DeleteUnconfirmed", ("True", "DeleteUnconfirmed"))
    scene.envelope.deleted = True
    if history is not None:
        scene.envelope.but("history", history)
    after = await scene.reconcile(1 if history is None else 3)
    proven = ("ArchivedAndDeleted", ("True", "ArchivedAndDeleted"))
    assumed = ("DeletionAssumed", ("True", "DeleteUnconfirmed"))
    assert (after.status.reason, requested(after)) == (proven if history is None else assumed)
    assert scene.envelope.transport.deleted == [ENVELOPE]


async def test_an_expired_envelope_that_is_shown_again_after_a_confirmed_delete_was_not_deleted_by_it(
    tmp_path: Path,
) -> None:
    scene = ReconcilerScene(tmp_path, statuses=BOTH)
    scene.envelope.status = EnvelopeStatus.EXPIRED
    scene.envelope.transport.is_another_program = True
    assert (await scene.reconcile()).status.reason == "DeleteUnconfirmed"
    scene.envelope.but("files", HttpStatusError(503))
    assert requested(await scene.reconcile()) == ("False", "DeleteUnconfirmed")
    scene.envelope.problems.clear()
    scene.envelope.deleted = True
    assert (await scene.reconcile()).status.reason == "EnvelopeDeleted"


@pytest.mark.parametrize("problem", [EsawUnreachable("connect"), HttpStatusError(503)])
async def test_a_delete_whose_confirmation_gets_no_answer_is_confirmed_by_the_next_attempt(
    scene: ReconcilerScene, problem: Exception
) -> None:
    scene.envelope.transport.just_before = lambda: scene.envelope.problems.update(envelope=problem)
    first = await scene.reconcile()
    assert (first.status.phase, first.status.reason) == (Phase.CLEANING, "DeleteUnanswered")
    requested = find_condition(first.status.conditions, "DeleteRequested")
    assert requested is not None
    assert (requested.status, requested.reason) == ("True", "DeleteUnanswered")
    scene.envelope.problems.clear()
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"
    assert scene.envelope.transport.deleted == [ENVELOPE]


async def test_a_pause_that_esaw_asks_for_after_a_delete_is_kept(scene: ReconcilerScene) -> None:
    scene.envelope.but("delete", HttpStatusError(503, retry_after=7200.0))
    status = (await scene.reconcile()).status
    assert status.reason == "DeleteUnanswered"
    assert status.next_attempt_time is not None
    assert status.next_attempt_time >= scene.clock.now() + timedelta(hours=2)


# -- The files that eSAW lists at this moment ----------------------------------------------------------------


async def test_a_file_that_appears_during_the_first_download_is_archived_before_the_delete(
    scene: ReconcilerScene,
) -> None:
    scene.envelope.meanwhile["download file-1"] = lambda: scene.envelope.contents.update(
        {"legal-1": b"%PDF-paper"}
    )
    first = await scene.reconcile()
    assert scene.envelope.transport.deleted == []
    assert (first.status.phase, first.status.reason) == (Phase.CLEANING, "FilesChanged")
    second = await after_the_wait(scene)
    assert second.status.phase is Phase.SUCCEEDED
    assert "legal-1" in file_ids(second)
    assert "legal-1" in manifests(scene)
    assert scene.envelope.transport.deleted == [ENVELOPE]


async def test_a_file_that_appears_while_the_delete_is_delayed_is_archived_before_the_delete(
    tmp_path: Path,
) -> None:
    scene = ReconcilerScene(tmp_path, cleanup={"policy": "Delete", "after": "168h"})
    await scene.reconcile()
    scene.envelope.contents["legal-1"] = b"%PDF-paper"
    scene.clock.advance(hours=168)
    first = await scene.reconcile()
    assert scene.envelope.transport.deleted == []
    assert first.status.reason == "FilesChanged"
    second = await after_the_wait(scene)
    assert second.status.reason == "ArchivedAndDeleted"
    assert "legal-1" in file_ids(second)


async def test_a_file_that_is_now_of_another_kind_is_archived_again(scene: ReconcilerScene) -> None:
    scene.envelope.contents["file-2"] = b"%PDF-appendix"
    scene.envelope.meanwhile["download file-1"] = lambda: scene.envelope.papers.add("file-2")
    await scene.reconcile()
    assert scene.envelope.transport.deleted == []
    after = await after_the_wait(scene)
    kinds = {each.file_id: each.kind for each in after.status.documents}
    assert (after.status.phase, kinds["file-2"]) == (Phase.SUCCEEDED, FileKind.LEGAL_DOCUMENT)


async def test_a_completed_envelope_waits_for_its_audit_trail_and_the_trail_is_archived(
    tmp_path: Path,
) -> None:
    scene = a_scene_without_trail(tmp_path)
    waiting = await scene.reconcile()
    assert (waiting.status.phase, waiting.status.reason) == (Phase.COLLECTING, "AuditTrailPending")
    assert waiting.status.next_attempt_time is not None
    assert [each.name for each in scene.root.iterdir()] == [MARKER_NAME]
    scene.clock.advance(minutes=1)
    scene.envelope.contents["trail-1"] = TRAIL
    archived = await scene.reconcile()
    assert archived.status.reason == "LateFilesPending"
    assert "trail-1" in file_ids(archived)
    scene.clock.advance(minutes=10)
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"


@pytest.mark.parametrize("policy", ["Delete", "Keep"])
async def test_an_envelope_whose_audit_trail_never_comes_is_archived_and_kept_and_a_person_is_notified(
    tmp_path: Path, policy: str
) -> None:
    scene = a_scene_without_trail(tmp_path, cleanup={"policy": policy}, evidence={"wait": "10m"})
    await scene.reconcile()
    scene.clock.advance(minutes=10)
    after = await scene.reconcile()
    assert (after.status.phase, after.status.reason) == (Phase.FAILED, "AuditTrailMissing")
    assert "stays in eSignAnyWhere" in (after.status.message or "")
    assert "file-1" in manifests(scene)
    evidence = find_condition(after.status.conditions, "EvidenceComplete")
    assert evidence is not None
    assert (evidence.status, evidence.reason) == ("False", "AuditTrailMissing")
    assert scene.envelope.transport.deleted == []


async def test_an_envelope_without_its_audit_trail_that_is_gone_before_the_delete_is_reported_as_gone(
    tmp_path: Path,
) -> None:
    scene = a_scene_without_trail(tmp_path)
    await scene.reconcile()
    scene.clock.advance(minutes=10)
    scene.envelope.meanwhile["download file-1"] = lambda: scene.envelope.problems.update(files=missing())
    scene.envelope.deleted_for_history = True
    after = await scene.reconcile()
    assert (after.status.phase, after.status.reason) == (Phase.FAILED, "AuditTrailMissing")
    said = after.status.message or ""
    assert said.startswith("Archive/dms has 1 file of the envelope, all verified. ")
    assert "The envelope is no longer in eSignAnyWhere." in said


async def test_an_audit_trail_is_not_called_missing_while_esaw_does_not_answer(tmp_path: Path) -> None:
    scene = a_scene_without_trail(tmp_path)
    await scene.reconcile()
    scene.clock.advance(minutes=10)
    scene.envelope.meanwhile["download file-1"] = lambda: scene.envelope.problems.update(
        files=HttpStatusError(503)
    )
    assert (await scene.reconcile()).status.phase is Phase.CLEANING
    scene.envelope.problems.clear()
    assert (await scene.reconcile()).status.reason == "AuditTrailMissing"


async def test_the_wait_for_the_audit_trail_survives_restarts_and_looks_often_at_first(
    tmp_path: Path,
) -> None:
    scene = a_scene_without_trail(tmp_path)
    pauses = []
    while (event := await scene.reconcile()).status.reason == "AuditTrailPending":
        assert event.status.next_attempt_time is not None
        pause = event.status.next_attempt_time - scene.clock.now()
        pauses.append(pause.total_seconds())
        scene.clock.advance(seconds=pause.total_seconds())
    assert pauses[:3] == [10, 10, 20]
    assert sum(pauses) == 600
    assert event.status.reason == "AuditTrailMissing"


async def test_an_audit_trail_that_comes_after_the_wait_is_archived_before_the_delete(tmp_path: Path) -> None:
    scene = a_scene_without_trail(tmp_path, cleanup={"policy": "Delete", "after": "24h"})
    await scene.reconcile()
    scene.clock.advance(minutes=10)
    scene.envelope.meanwhile["download file-1"] = lambda: scene.envelope.contents.update({"trail-1": TRAIL})
    assert (await scene.reconcile()).status.reason == "FilesChanged"
    delayed = await scene.reconcile()
    assert delayed.status.reason == "CleanupDelayed"
    assert "trail-1" in file_ids(delayed)
    found = find_condition(delayed.status.conditions, "EvidenceComplete")
    assert found is not None
    assert found.status == "True"
    scene.clock.advance(hours=24)
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"


async def test_a_retry_archives_an_audit_trail_that_came_after_the_event_failed(tmp_path: Path) -> None:
    scene = a_scene_without_trail(tmp_path)
    await scene.reconcile()
    scene.clock.advance(minutes=10)
    assert (await scene.reconcile()).status.reason == "AuditTrailMissing"
    assert (await retried_by_a_person(scene)).status.reason == "AuditTrailMissing"
    scene.envelope.contents["trail-1"] = TRAIL
    assert (await retried_by_a_person(scene)).status.reason == "FilesChanged"
    after = await after_the_wait(scene)
    assert after.status.reason == "ArchivedAndDeleted"
    assert "trail-1" in file_ids(after)
    evidence = find_condition(after.status.conditions, "EvidenceComplete")
    assert evidence is not None
    assert (evidence.status, evidence.reason) == ("True", "AuditTrailListed")


async def test_an_organization_that_declares_no_audit_trails_waits_for_none(tmp_path: Path) -> None:
    scene = a_scene_without_trail(tmp_path, evidence={"auditTrail": "Optional"})
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"


# -- The archive at this moment ------------------------------------------------------------------------------


def stored(scene: ReconcilerScene, name: str) -> Path:
    (found,) = scene.root.rglob(name)
    return found


def spoil(scene: ReconcilerScene) -> None:
    document = stored(scene, "file-1.pdf")
    document.write_bytes(b"x" * document.stat().st_size)


def empty(scene: ReconcilerScene) -> None:
    shutil.rmtree(scene.root / "acme")


def lose_a_file(scene: ReconcilerScene) -> None:
    stored(scene, "audit-trail.pdf").unlink()


def lose_the_manifest(scene: ReconcilerScene) -> None:
    stored(scene, "counterfoil.json").unlink()


def spoil_the_manifest(scene: ReconcilerScene) -> None:
    manifest = stored(scene, "counterfoil.json")
    manifest.write_text(manifest.read_text().replace("trail-1", "trail-2"))


def cut_the_manifest(scene: ReconcilerScene) -> None:
    stored(scene, "counterfoil.json").write_text("{")


def spoil_the_hashes(scene: ReconcilerScene) -> None:
    stored(scene, "counterfoil.sha256").write_text("")


DAMAGES = [
    spoil,
    empty,
    lose_a_file,
    lose_the_manifest,
    spoil_the_manifest,
    cut_the_manifest,
    spoil_the_hashes,
]


@pytest.mark.parametrize("damage", DAMAGES)
async def test_an_archive_that_was_damaged_while_the_delete_was_delayed_is_repaired_before_the_delete(
    tmp_path: Path, damage: Callable[[ReconcilerScene], None]
) -> None:
    scene = ReconcilerScene(tmp_path, cleanup={"policy": "Delete", "after": "168h"})
    await scene.reconcile()
    before = {path: path.read_bytes() for path in scene.root.rglob("*") if path.is_file()}
    damage(scene)
    scene.clock.advance(hours=168)
    first = await scene.reconcile()
    assert scene.envelope.transport.deleted == []
    assert (first.status.phase, first.status.reason) == (Phase.CLEANING, "ArchivedFilesChanged")
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"
    after = {path: path.read_bytes() for path in scene.root.rglob("*") if path.is_file()}
    assert [path for path in before if path.name != "counterfoil.json" and before[path] != after[path]] == []
    assert "trail-1" in manifests(scene)
    assert scene.envelope.transport.deleted == [ENVELOPE]


async def test_a_damaged_manifest_that_names_more_files_than_were_archived_stops_the_delete(
    tmp_path: Path,
) -> None:
    """It may be that of another event, which archived a further file and was removed."""
    scene = ReconcilerScene(tmp_path, cleanup={"policy": "Delete", "after": "168h"})
    await scene.reconcile()
    manifest = stored(scene, "counterfoil.json")
    found = msgspec.json.decode(manifest.read_bytes())
    changed = [{**each, "fileID": f"{each['fileID']}{more}"} for each in found["files"] for more in "xy"]
    manifest.write_bytes(msgspec.json.encode({**found, "files": changed}))
    scene.clock.advance(hours=168)
    assert (await scene.reconcile()).status.reason == "ArchivedFilesChanged"
    assert (await scene.reconcile()).status.reason == "DocumentsPending"
    scene.clock.advance(minutes=10)
    assert (await scene.reconcile()).status.reason == "DocumentsMissing"
    assert scene.envelope.transport.deleted == []


async def test_a_retry_months_after_a_refused_delete_believes_no_old_proof(scene: ReconcilerScene) -> None:
    scene.envelope.but("delete", HttpStatusError(403, error_id="ERR0010"))
    assert (await scene.reconcile()).status.phase is Phase.FAILED
    scene.envelope.problems.clear()
    scene.clock.advance(days=90)
    empty(scene)
    assert (await retried_by_a_person(scene)).status.reason == "ArchivedFilesChanged"
    assert scene.envelope.transport.deleted == []
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"
    assert "file-1" in manifests(scene)


async def test_an_archive_that_is_down_at_the_second_verification_is_waited_for(
    scene: ReconcilerScene,
) -> None:
    scene.envelope.but("delete", EsawUnreachable("connect"))
    await scene.reconcile()
    scene.envelope.problems.clear()
    gone = scene.root.rename(scene.root.with_name("gone"))
    waiting = await scene.reconcile()
    assert (waiting.status.phase, waiting.status.reason) == (Phase.CLEANING, "ArchiveRootMissing")
    assert scene.envelope.transport.deleted == []
    gone.rename(scene.root)
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"


@pytest.mark.parametrize("history", [None, missing(), HttpStatusError(403, "ERR0010")])
@pytest.mark.parametrize("policy", ["Delete", "Keep"])
async def test_an_archived_envelope_that_the_key_does_not_see_any_more_is_not_called_deleted(
    tmp_path: Path, policy: str, history: HttpStatusError | None
) -> None:
    scene = ReconcilerScene(tmp_path, cleanup={"policy": policy, "after": "168h"})
    if policy == "Keep":
        scene.envelope.meanwhile["download trail-1"] = lambda: scene.envelope.problems.update(files=missing())
    first = await scene.reconcile()
    scene.clock.advance(hours=168)
    for each in ("envelope", "files", "delete", "configuration"):
        scene.envelope.problems[each] = missing()
    if history is not None:
        scene.envelope.problems["history"] = history
    seen = {first.status.reason}
    for _ in range(5):
        after = await scene.reconcile()
        seen.add(after.status.reason)
        scene.clock.advance(hours=1)
    assert "ArchivedAndDeleted" not in seen
    assert (after.status.phase, after.status.reason) == (Phase.FAILED, "EnvelopeNotFound")
    assert "does not say that it was deleted" in (after.status.message or "")
    assert scene.envelope.transport.deleted == []


async def test_a_delete_whose_answer_was_lost_succeeded_also_where_the_history_may_not_be_read(
    scene: ReconcilerScene,
) -> None:
    scene.envelope.but("delete", EsawUnreachable("timeout"))
    asked = (await scene.reconcile()).status
    assert (asked.phase, asked.reason) == (Phase.CLEANING, "DeleteUnanswered")
    scene.envelope.but("envelope", EsawUnreachable("timeout"))
    await scene.reconcile(MAX_ATTEMPT_HISTORY)
    scene.envelope.problems.clear()
    scene.envelope.deleted = True
    scene.envelope.problems["history"] = HttpStatusError(403, "ERR0010")
    after = await scene.reconcile(3)
    assert (after.status.phase, after.status.reason) == (Phase.SUCCEEDED, "DeletionAssumed")


@pytest.mark.parametrize(
    "answer",
    [
        ResponseInvalid("delete", "it is HTML, not JSON"),
        UnexpectedRedirect(302, "login.example"),
        TransferBroken("short"),
        HttpStatusError(408, "ERR0001"),
    ],
)
async def test_an_answer_that_is_not_esaws_own_leaves_open_whether_the_envelope_was_deleted(
    scene: ReconcilerScene, answer: Exception
) -> None:
    scene.envelope.but("delete", answer)
    assert (await scene.reconcile()).status.reason == "DeleteUnanswered"
    scene.envelope.deleted = True
    scene.envelope.problems["history"] = HttpStatusError(403, "ERR0010")
    assert (await scene.reconcile(3)).status.reason == "DeletionAssumed"


async def test_an_envelope_that_esaw_shows_after_an_unanswered_delete_was_not_deleted_by_it(
    scene: ReconcilerScene,
) -> None:
    scene.envelope.but("delete", EsawUnreachable("timeout"))
    await scene.reconcile()
    scene.envelope.but("delete", HttpStatusError(403, "ERR0010"))
    assert (await scene.reconcile()).status.reason == "NotPermitted"
    # The next key neither sees the envelope nor may read histories.
    for each in ("envelope", "files", "delete", "configuration"):
        scene.envelope.problems[each] = missing()
    scene.envelope.problems["history"] = HttpStatusError(403, "ERR0010")
    assert (await retried_by_a_person(scene)).status.reason == "EnvelopeNotFound"
    assert scene.envelope.transport.deleted == []


@pytest.mark.parametrize("is_deleted", [True, False])
async def test_a_retry_of_a_kept_envelope_that_esaw_does_not_show_reads_the_archive_again(
    tmp_path: Path, *, is_deleted: bool
) -> None:
    scene = ReconcilerScene(tmp_path, cleanup={"policy": "Keep"})
    assert (await scene.reconcile()).status.reason == "ArchivedAndKept"
    empty(scene)
    scene.envelope.problems.update(envelope=missing(), files=missing())
    scene.envelope.deleted_for_history = is_deleted
    after = (await retried_by_a_person(scene)).status
    assert after.reason == ("ArchivedFilesLost" if is_deleted else "EnvelopeNotFound")
    assert "all verified" not in (after.message or "")


@pytest.mark.parametrize("problem", [EsawUnreachable("timeout"), HttpStatusError(503)])
async def test_a_list_that_is_not_answered_does_not_prove_that_the_envelope_was_deleted(
    scene: ReconcilerScene, problem: Exception
) -> None:
    scene.envelope.meanwhile["download trail-1"] = partial(scene.envelope.problems.update, files=problem)
    assert (await scene.reconcile()).status.phase is Phase.CLEANING
    for each in ("envelope", "files", "delete", "configuration"):
        scene.envelope.problems[each] = missing()
    scene.envelope.problems["history"] = HttpStatusError(403, "ERR0010")
    after = await scene.reconcile(3)
    assert (after.status.phase, after.status.reason) == (Phase.FAILED, "EnvelopeNotFound")
    assert scene.envelope.transport.deleted == []


@pytest.mark.parametrize("kind", ["busy", "connect", "forbidden", "proxy", "tls"])
async def test_a_delete_that_was_not_sent_does_not_prove_that_the_envelope_was_deleted(
    scene: ReconcilerScene, kind: UnreachableKind
) -> None:
    scene.envelope.but("delete", EsawUnreachable(kind))
    await scene.reconcile()
    scene.envelope.problems.update(envelope=missing(), files=missing())
    scene.envelope.problems["history"] = HttpStatusError(403, "ERR0010")
    assert (await scene.reconcile()).status.reason == "EnvelopeNotFound"


async def test_files_that_are_neither_in_the_archive_nor_in_esaw_are_reported_to_a_person(
    scene: ReconcilerScene,
) -> None:
    scene.envelope.but("delete", EsawUnreachable("timeout"))
    await scene.reconcile()
    scene.envelope.deleted = True
    scene.envelope.problems.clear()
    lose_a_file(scene)
    after = await scene.reconcile()
    assert (after.status.phase, after.status.reason) == (Phase.FAILED, "ArchivedFilesLost")
    assert requested(after) == ("True", "ArchivedAndDeleted")
    assert "audit-trail.pdf" in (after.status.message or "")


async def test_after_a_change_of_the_path_the_files_are_verified_where_they_were_archived(
    tmp_path: Path,
) -> None:
    scene = ReconcilerScene(tmp_path, cleanup={"policy": "Delete", "after": "24h"})
    await scene.reconcile()
    files = sorted(scene.root.rglob("*"))
    scene.observe(
        a_probed_archive(version=2, generation=2, root=scene.root, path="new/{{file.name}}"),
    )
    scene.clock.advance(hours=24)
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"
    assert sorted(scene.root.rglob("*")) == files


async def test_after_a_move_to_another_archive_the_envelope_is_archived_there_before_the_delete(
    tmp_path: Path,
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    scene = ReconcilerScene(old, cleanup={"policy": "Delete", "after": "24h"})
    await scene.reconcile()
    scene.observe(a_probed_archive(version=2, generation=2, root=new))
    scene.clock.advance(hours=24)
    assert (await scene.reconcile()).status.reason == "ArchivedFilesChanged"
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"
    assert [each.name for each in new.rglob("*.pdf")] == [each.name for each in old.rglob("*.pdf")]


# -- Files that never stay the same --------------------------------------------------------------------------


async def test_an_envelope_whose_documents_differ_at_each_download_is_kept_in_the_end(
    tmp_path: Path,
) -> None:
    scene = ReconcilerScene(tmp_path, statuses=["Expired"])
    scene.envelope.status = EnvelopeStatus.EXPIRED
    scene.envelope.renders_anew = True
    for _ in range(MAX_MISMATCHES):
        assert (await scene.reconcile()).status.reason == "FilesChanged"
    after = await scene.reconcile()
    assert (after.status.phase, after.status.reason) == (Phase.FAILED, "FilesKeepChanging")
    assert "stays in eSignAnyWhere" in (after.status.message or "")
    assert scene.envelope.transport.deleted == []
    assert "file-1" in manifests(scene)


async def test_after_a_list_grew_the_delete_waits_and_a_file_that_is_listed_even_later_is_archived(
    scene: ReconcilerScene,
) -> None:
    scene.envelope.meanwhile["download file-1"] = partial(
        scene.envelope.contents.update, {"legal-1": b"%PDF-paper"}
    )
    assert (await scene.reconcile()).status.reason == "FilesChanged"
    await waits_for_late_files(scene)
    scene.envelope.contents["legal-2"] = b"%PDF-paper"
    scene.clock.advance(minutes=10)
    assert (await scene.reconcile()).status.reason == "FilesChanged"
    await waits_for_late_files(scene)
    scene.clock.advance(minutes=10)
    after = await scene.reconcile()
    assert after.status.reason == "ArchivedAndDeleted"
    assert {"legal-1", "legal-2"} <= set(file_ids(after))
    assert scene.envelope.transport.deleted == [ENVELOPE]


async def test_a_list_that_grew_after_the_delay_of_the_delete_is_waited_for(tmp_path: Path) -> None:
    scene = ReconcilerScene(tmp_path, cleanup={"policy": "Delete", "after": "168h"})
    await scene.reconcile()
    scene.envelope.contents["legal-1"] = b"%PDF-paper"
    scene.clock.advance(hours=168)
    assert (await scene.reconcile()).status.reason == "FilesChanged"
    await waits_for_late_files(scene)
    scene.clock.advance(minutes=10)
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"


@pytest.mark.parametrize("is_retried", [False, True])
async def test_a_list_that_grew_while_the_archive_did_not_work_is_waited_for(
    scene: ReconcilerScene, *, is_retried: bool
) -> None:
    scene.envelope.but("download file-1", EsawUnreachable("connect"))
    assert (await scene.reconcile()).status.phase is Phase.ARCHIVING
    scene.envelope.problems.clear()
    scene.envelope.contents["legal-1"] = b"%PDF-paper"
    scene.clock.advance(hours=1)
    if is_retried:
        event = scene.newest()
        status = reopened_status(event.status, reason="RetryRequested", message="", now=scene.clock.now())
        await scene.status_writer.store(event, status)
    else:
        assert (await scene.reconcile()).status.reason == "FilesChanged"
    await waits_for_late_files(scene)
    assert "legal-1" in manifests(scene)


async def test_a_list_that_grew_by_a_clock_that_was_ahead_is_waited_for_as_configured(
    scene: ReconcilerScene,
) -> None:
    scene.envelope.meanwhile["download file-1"] = partial(
        scene.envelope.contents.update, {"legal-1": b"%PDF-paper"}
    )
    await scene.reconcile()
    scene.clock.advance(days=3)
    await scene.reconcile()
    scene.clock.set_back(days=3)
    await waits_for_late_files(scene)
    scene.clock.advance(minutes=9)
    await scene.reconcile()
    assert scene.envelope.transport.deleted == []
    scene.clock.advance(minutes=1)
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"


async def test_a_list_that_grew_by_a_clock_that_was_behind_is_waited_for_from_the_creation_on(
    scene: ReconcilerScene,
) -> None:
    created = scene.clock.now()
    scene.clock.set_back(hours=1)
    scene.envelope.meanwhile["download file-1"] = partial(
        scene.envelope.contents.update, {"legal-1": b"%PDF-paper"}
    )
    await scene.reconcile()
    await scene.reconcile()
    scene.clock.advance(hours=1, seconds=20)
    after = await scene.reconcile()
    assert after.status.reason == "LateFilesPending"
    assert after.status.next_attempt_time == created + timedelta(minutes=10)
    assert scene.envelope.transport.deleted == []
    scene.clock.advance(minutes=10)
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"


async def test_an_envelope_that_a_clock_that_was_behind_validated_waits_for_its_documents_as_configured(
    tmp_path: Path,
) -> None:
    scene = ReconcilerScene(
        tmp_path, statuses=["Rejected"], cleanup={"policy": "Keep"}, evidence={"wait": "10m"}
    )
    scene.envelope.status = EnvelopeStatus.REJECTED
    documents = dict(scene.envelope.contents)
    scene.envelope.contents.clear()
    scene.clock.set_back(hours=1)
    assert (await scene.reconcile()).status.reason == "NoFiles"
    scene.clock.advance(hours=1, seconds=20)
    assert (await scene.reconcile()).status.reason == "NoFiles"
    scene.envelope.contents.update(documents)
    scene.clock.advance(minutes=10)
    assert (await scene.reconcile()).status.reason == "ArchivedAndKept"


@pytest.mark.parametrize("is_short", [False, True])
async def test_another_event_of_an_envelope_whose_list_changed_does_not_delete_it_before_the_end_of_the_wait(
    tmp_path: Path, *, is_short: bool
) -> None:
    actions = ("envelopeFinished", "workstepFinished")
    scene = ReconcilerScene(tmp_path, actions=[{"action": each, "handling": "Archive"} for each in actions])
    if is_short:
        del scene.envelope.contents["trail-1"]
        await scene.reconcile()
        scene.envelope.contents["trail-1"] = TRAIL
    else:
        scene.envelope.meanwhile["download file-1"] = partial(
            scene.envelope.contents.update, {"legal-1": b"%PDF-paper"}
        )
        await scene.reconcile()
    assert (await scene.reconcile()).status.reason == "LateFilesPending"
    first = scene.event
    scene.event = an_event().for_action("workstepFinished").labelled(SENDER_LABEL, "anna").build()
    scene.kube.put(scene.event)
    await waits_for_late_files(scene)
    scene.clock.advance(minutes=10)
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"
    scene.event = first
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"


async def waits_for_late_files(scene: ReconcilerScene) -> None:
    """Check that a run archives what is listed, and that the delete waits for ``evidence.wait`` since."""
    waiting = await scene.reconcile()
    assert (waiting.status.phase, waiting.status.reason) == (Phase.CLEANING, "LateFilesPending")
    assert waiting.status.next_attempt_time == scene.clock.now() + timedelta(minutes=10)
    assert scene.envelope.transport.deleted == []


async def after_the_wait(scene: ReconcilerScene) -> EnvelopeEvent:
    """Let a run archive what is listed, and return the event after a run at the end of the wait."""
    await waits_for_late_files(scene)
    scene.clock.advance(minutes=10)
    return await scene.reconcile()


async def test_a_list_that_never_stays_the_same_ends_in_a_failure_and_a_retry_begins_to_count_again(
    scene: ReconcilerScene,
) -> None:
    scene.envelope.but("delete", EsawUnreachable("connect"))
    assert (await scene.reconcile()).status.phase is Phase.CLEANING
    scene.envelope.problems.clear()
    for number in range(1, MAX_MISMATCHES + 2):
        scene.envelope.contents[f"legal-{number}"] = b"%PDF-paper"
        after = await scene.reconcile()
        assert after.status.mismatches == number
        if number <= MAX_MISMATCHES:
            await waits_for_late_files(scene)
            scene.clock.advance(minutes=10)
    assert (after.status.phase, after.status.reason) == (Phase.FAILED, "FilesKeepChanging")
    assert scene.envelope.transport.deleted == []
    assert (await retried_by_a_person(scene)).status.reason == "FilesChanged"
    after = await after_the_wait(scene)
    assert after.status.reason == "ArchivedAndDeleted"
    assert f"legal-{number}" in file_ids(after)


CUT = b"%PDF-contr"


async def test_a_download_that_was_cut_before_the_delay_of_the_delete_does_not_end_it(tmp_path: Path) -> None:
    scene = ReconcilerScene(tmp_path, cleanup={"policy": "Delete", "after": "168h"})
    scene.examiner.found[CUT] = Signatures(state=State.UNREADABLE, detail="it is cut")
    whole, scene.envelope.contents["file-1"] = scene.envelope.contents["file-1"], CUT
    assert (await scene.reconcile()).status.reason == "DocumentInDoubt"
    scene.envelope.contents["file-1"] = whole
    assert (await scene.reconcile()).status.reason == "CleanupDelayed"
    scene.clock.advance(hours=168)
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"


async def test_an_archive_that_was_damaged_before_the_delay_of_the_delete_does_not_end_it(
    tmp_path: Path,
) -> None:
    delayed = {"policy": "Delete", "after": "168h"}
    scene = a_scene_without_trail(tmp_path, cleanup=delayed, evidence={"wait": "0s"})
    assert (await scene.reconcile()).status.reason == "AuditTrailMissing"
    stored(scene, "file-1.pdf").unlink()
    assert (await retried_by_a_person(scene)).status.reason == "ArchivedFilesChanged"
    scene.envelope.contents["trail-1"] = TRAIL
    after = await scene.reconcile()
    assert (after.status.phase, after.status.reason) == (Phase.CLEANING, "CleanupDelayed")


async def test_a_cut_download_of_a_file_that_is_listed_late_is_repeated(scene: ReconcilerScene) -> None:
    scene.examiner.found[CUT] = Signatures(state=State.UNREADABLE, detail="it is cut")
    scene.envelope.meanwhile["download file-1"] = partial(scene.envelope.contents.update, {"legal-1": CUT})
    assert (await scene.reconcile()).status.reason == "FilesChanged"
    after = await scene.reconcile()
    assert (after.status.phase, after.status.reason) == (Phase.CLEANING, "DocumentInDoubt")
    scene.envelope.contents["legal-1"] = b"%PDF-paper"
    assert (await after_the_wait(scene)).status.reason == "ArchivedAndDeleted"


async def test_a_file_that_is_not_listed_any_more_is_waited_for_after_another_wait(
    tmp_path: Path,
) -> None:
    scene = ReconcilerScene(tmp_path, statuses=["Rejected"], cleanup={"policy": "Delete", "after": "168h"})
    scene.envelope.status = EnvelopeStatus.REJECTED
    list_files(scene, document(1, 1), document(3, 3))
    assert (await scene.reconcile()).status.reason == "CleanupDelayed"
    scene.clock.advance(hours=168)
    list_files(scene, document(1, 1))
    after = await scene.reconcile()
    assert (after.status.phase, after.status.reason) == (Phase.CLEANING, "DocumentsPending")
    list_files(scene, document(1, 1), document(3, 3))
    scene.clock.advance(minutes=1)
    after = await scene.reconcile()
    assert after.status.reason == "ArchivedAndDeleted"
    listed = find_condition(after.status.conditions, "KnownFilesListed")
    assert listed is not None
    assert (listed.status, listed.reason) == ("True", "DocumentsListed")


async def test_the_wait_for_a_known_file_begins_with_the_first_list_of_each_time(
    scene: ReconcilerScene,
) -> None:
    scene.envelope.contents["legal-1"] = b"%PDF-paper"
    scene.envelope.but("delete", HttpStatusError(503))
    await scene.reconcile()
    paper = scene.envelope.contents.pop("legal-1")
    assert (await scene.reconcile()).status.reason == "DocumentsPending"
    scene.envelope.contents["legal-1"] = paper
    scene.clock.advance(minutes=10)
    assert (await scene.reconcile()).status.reason == "DeleteUnanswered"
    scene.clock.advance(hours=1)
    del scene.envelope.contents["legal-1"]
    assert (await scene.reconcile()).status.reason == "DocumentsPending"
    scene.clock.advance(minutes=10)
    assert (await scene.reconcile()).status.reason == "DocumentsMissing"


async def test_a_known_file_is_waited_for_after_the_audit_trail_was_missing(tmp_path: Path) -> None:
    scene = a_scene_without_trail(tmp_path, evidence={"wait": "0s"})
    scene.envelope.contents["legal-1"] = b"%PDF-paper"
    assert (await scene.reconcile()).status.reason == "AuditTrailMissing"
    scene.observe(an_organization(version=2, evidence={"wait": "10m"}))
    del scene.envelope.contents["legal-1"]
    assert (await retried_by_a_person(scene)).status.reason == "DocumentsPending"


async def test_the_wait_for_a_known_file_ends_also_for_an_event_that_was_created_after_it_began(
    scene: ReconcilerScene,
) -> None:
    """As after a restore: the status is older than the object."""
    scene.envelope.contents["legal-1"] = b"%PDF-paper"
    scene.envelope.but("delete", HttpStatusError(503))
    await scene.reconcile()
    del scene.envelope.contents["legal-1"]
    assert (await scene.reconcile()).status.reason == "DocumentsPending"
    restored = {"metadata": {"creationTimestamp": "2026-07-01T14:00:00Z"}}
    scene.kube.edit(EnvelopeEvent, scene.newest().name, restored)
    scene.clock.advance(hours=2)
    await scene.reconcile()
    scene.clock.advance(minutes=10)
    assert (await scene.reconcile()).status.reason == "DocumentsMissing"


async def test_the_delay_of_a_restored_event_ends_although_its_deletes_fail(tmp_path: Path) -> None:
    scene = ReconcilerScene(tmp_path, cleanup={"policy": "Delete", "after": "168h"})
    await scene.reconcile()
    restored = {"metadata": {"creationTimestamp": "2026-07-02T12:00:00Z"}}
    scene.kube.edit(EnvelopeEvent, scene.newest().name, restored)
    scene.clock.advance(hours=24 + 168)
    scene.envelope.but("delete", HttpStatusError(503))
    for _ in range(3):
        assert (await scene.reconcile()).status.reason == "DeleteUnanswered"
        scene.clock.advance(hours=1)


async def test_a_file_that_the_archive_lost_after_a_list_grew_is_archived_again(
    scene: ReconcilerScene,
) -> None:
    scene.envelope.meanwhile["download file-1"] = partial(
        scene.envelope.contents.update, {"legal-1": b"%PDF-paper"}
    )
    assert (await scene.reconcile()).status.reason == "FilesChanged"
    await waits_for_late_files(scene)
    stored(scene, "file-1.pdf").unlink()
    scene.clock.advance(minutes=10)
    assert (await scene.reconcile()).status.reason == "ArchivedFilesChanged"
    assert (await after_the_wait(scene)).status.reason == "ArchivedAndDeleted"
    assert stored(scene, "file-1.pdf").exists()


async def test_a_delay_that_has_passed_is_not_repeated_after_a_mismatch(tmp_path: Path) -> None:
    scene = ReconcilerScene(tmp_path, cleanup={"policy": "Delete", "after": "168h"})
    await scene.reconcile()
    scene.envelope.contents["legal-1"] = b"%PDF-paper"
    scene.clock.advance(hours=168)
    assert (await scene.reconcile()).status.reason == "FilesChanged"
    assert (await after_the_wait(scene)).status.reason == "ArchivedAndDeleted"


# -- A status that can still change --------------------------------------------------------------------------

BOTH = ["Completed", "Expired"]
SIGNED = b"%PDF-contract, signed by all"


def restart_and_sign(scene: ReconcilerScene) -> None:
    scene.envelope.status = EnvelopeStatus.COMPLETED
    scene.envelope.contents["file-1"] = SIGNED


async def test_a_kept_envelope_that_was_archived_as_expired_is_archived_again_after_it_was_signed(
    tmp_path: Path,
) -> None:
    scene = ReconcilerScene(tmp_path, statuses=BOTH, cleanup={"policy": "Keep"})
    scene.envelope.status = EnvelopeStatus.EXPIRED
    event = await scene.reconcile()
    assert "file-1" in manifests(scene)
    received = scene.clock.now() + timedelta(days=3)
    assert is_started_by_callback(event.status, received=received, now=received)
    assert event.status.reason == "ArchivedAsExpired"
    restart_and_sign(scene)
    after = await retried_by_a_person(scene)
    assert after.status.reason == "ArchivedAndKept"
    assert '"status": "Completed"' in manifests(scene)
    assert stored(scene, "file-1.pdf").read_bytes() == SIGNED


@pytest.mark.parametrize(
    ("policy", "reason"), [("Keep", "ArchivedAndKept"), ("Delete", "ArchivedAndDeleted")]
)
async def test_an_envelope_that_is_restarted_and_signed_while_it_is_archived_as_expired_is_archived_again(
    tmp_path: Path, policy: str, reason: str
) -> None:
    """Its callback only counted, because the event was in progress."""
    scene = ReconcilerScene(tmp_path, statuses=BOTH, cleanup={"policy": policy})
    scene.envelope.status = EnvelopeStatus.EXPIRED
    scene.envelope.meanwhile["download trail-1"] = partial(restart_and_sign, scene)
    assert (await scene.reconcile()).status.reason == "FilesChanged"
    assert scene.envelope.transport.deleted == []
    after = await scene.reconcile()
    assert after.status.reason == reason
    assert after.status.envelope is not None
    assert after.status.envelope.status == "Completed"
    assert stored(scene, "file-1.pdf").read_bytes() == SIGNED


async def test_an_expired_envelope_that_is_restarted_during_the_last_comparison_is_not_deleted(
    tmp_path: Path,
) -> None:
    scene = ReconcilerScene(tmp_path, statuses=BOTH)
    scene.envelope.status = EnvelopeStatus.EXPIRED
    scene.envelope.but("delete", EsawUnreachable("connect"))
    assert (await scene.reconcile()).status.phase is Phase.CLEANING
    scene.envelope.problems.clear()
    scene.envelope.meanwhile["download file-1"] = lambda: setattr(
        scene.envelope, "status", EnvelopeStatus.ACTIVE
    )
    assert (await scene.reconcile()).status.reason == "StillActive"
    assert scene.envelope.transport.deleted == []
    assert (await scene.reconcile()).status.phase is Phase.VALIDATING


async def test_an_expired_envelope_whose_documents_have_other_ids_is_archived_again(tmp_path: Path) -> None:
    scene = ReconcilerScene(tmp_path, statuses=BOTH, cleanup={"policy": "Delete", "after": "1h"})
    scene.envelope.status = EnvelopeStatus.EXPIRED
    await scene.reconcile()
    scene.envelope.contents["file-2"] = scene.envelope.contents.pop("file-1")
    scene.clock.advance(hours=1)
    assert (await scene.reconcile()).status.reason == "FilesChanged"
    after = await after_the_wait(scene)
    assert (after.status.reason, file_ids(after)) == ("ArchivedAndDeleted", ["file-2", "trail-1"])


async def test_an_expired_envelope_with_another_document_behind_its_audit_trail_is_archived_again(
    tmp_path: Path,
) -> None:
    scene = ReconcilerScene(tmp_path, statuses=BOTH, cleanup={"policy": "Delete", "after": "1h"})
    scene.envelope.status = EnvelopeStatus.EXPIRED
    event = await scene.reconcile()
    # No order of the files is promised.
    trail_first = tuple(reversed(event.status.documents))
    assert [each.kind for each in trail_first] == [FileKind.AUDIT_TRAIL, FileKind.DOCUMENT]
    await scene.status_writer.store(event, msgspec.structs.replace(event.status, documents=trail_first))
    scene.envelope.contents["file-1"] = SIGNED
    scene.clock.advance(hours=1)
    assert (await scene.reconcile()).status.reason == "FilesChanged"
    assert scene.envelope.transport.deleted == []
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"
    assert stored(scene, "file-1.pdf").read_bytes() == SIGNED


async def test_an_expired_envelope_that_must_be_kept_and_that_others_deleted_is_a_failure(
    tmp_path: Path,
) -> None:
    """It may have been restarted and signed before that."""
    scene = ReconcilerScene(tmp_path, statuses=BOTH, cleanup={"policy": "Keep"})
    scene.envelope.status = EnvelopeStatus.EXPIRED
    scene.envelope.meanwhile["download trail-1"] = lambda: scene.envelope.problems.update(envelope=missing())
    scene.envelope.deleted_for_history = True
    after = await scene.reconcile()
    assert (after.status.phase, after.status.reason) == (Phase.FAILED, "EnvelopeDeleted")
    assert "An earlier state of it is archived with the manifest" in (after.status.message or "")
    assert scene.envelope.transport.deleted == []


async def test_an_expired_envelope_that_is_signed_and_then_deleted_by_others_before_the_delete_is_a_failure(
    tmp_path: Path,
) -> None:
    """Its callback only counted, because the event waited for the time of the delete."""
    scene = ReconcilerScene(tmp_path, statuses=BOTH, cleanup={"policy": "Delete", "after": "168h"})
    scene.envelope.status = EnvelopeStatus.EXPIRED
    assert (await scene.reconcile()).status.reason == "CleanupDelayed"
    restart_and_sign(scene)
    scene.clock.advance(hours=24)
    scene.envelope.deleted = True
    scene.clock.advance(hours=144)
    after = await scene.reconcile()
    assert (after.status.phase, after.status.reason) == (Phase.FAILED, "EnvelopeDeleted")


async def test_an_expired_envelope_that_is_gone_after_an_unanswered_delete_is_clean(tmp_path: Path) -> None:
    scene = ReconcilerScene(tmp_path, statuses=BOTH)
    scene.envelope.status = EnvelopeStatus.EXPIRED
    scene.envelope.but("delete", EsawUnreachable("timeout"))
    assert (await scene.reconcile()).status.reason == "DeleteUnanswered"
    scene.envelope.deleted = True
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"


class Killed(BaseException):
    """The process ends here."""


def kill() -> None:
    raise Killed


@pytest.mark.parametrize("history", [None, HttpStatusError(403, "ERR0010")])
async def test_an_expired_envelope_that_was_deleted_just_before_a_kill_is_clean(
    tmp_path: Path, history: Exception | None
) -> None:
    scene = ReconcilerScene(tmp_path, statuses=BOTH)
    scene.envelope.status = EnvelopeStatus.EXPIRED
    scene.envelope.transport.just_before = partial(scene.kube.just_before, "patch_status", kill)
    with pytest.raises(Killed):
        await scene.reconcile()
    assert scene.envelope.transport.deleted == [ENVELOPE]
    if history is not None:
        scene.envelope.problems["history"] = history
    scene.restarted()
    after = await scene.reconcile(1 if history is None else 3)
    reason = "ArchivedAndDeleted" if history is None else "DeletionAssumed"
    assert (after.status.phase, after.status.reason) == (Phase.SUCCEEDED, reason)


@pytest.mark.parametrize("cleanup", [{"policy": "Delete"}, {"policy": "Delete", "after": "24h"}])
async def test_an_envelope_that_was_deleted_just_before_a_kill_is_clean_if_no_history_can_be_read(
    tmp_path: Path, cleanup: dict[str, str]
) -> None:
    scene = ReconcilerScene(tmp_path, cleanup=cleanup)
    scene.envelope.but("history", HttpStatusError(403, "ERR0010"))
    if "after" in cleanup:
        assert (await scene.reconcile()).status.reason == "CleanupDelayed"
        scene.clock.advance(hours=24)
    scene.envelope.transport.just_before = partial(scene.kube.just_before, "patch_status", kill)
    with pytest.raises(Killed):
        await scene.reconcile()
    assert scene.envelope.transport.deleted == [ENVELOPE]
    scene.restarted()
    after = await scene.reconcile(3)
    assert (after.status.phase, after.status.reason) == (Phase.SUCCEEDED, "DeletionAssumed")


@pytest.mark.parametrize(
    ("history", "writes"), [(None, 3), (HttpStatusError(403, "ERR0010"), 4), (HttpStatusError(503), 4)]
)
async def test_a_delete_is_recorded_before_it_is_sent_only_if_no_history_proves_it(
    scene: ReconcilerScene, history: Exception | None, writes: int
) -> None:
    if history is not None:
        scene.envelope.but("history", history)
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"
    assert len(scene.kube.patches) == writes


async def test_whether_a_sender_may_read_histories_is_asked_once_a_day(scene: ReconcilerScene) -> None:
    for hours, asked in ((0, 1), (23, 1), (24, 2)):
        await delete_another_envelope(scene, hours)
        assert scene.envelope.asked.count("history") == asked


async def delete_another_envelope(scene: ReconcilerScene, hours: int) -> None:
    """Archive and delete an envelope as if none had been before, some hours after the first one."""
    scene.kube.put(scene.event)
    scene.envelope.deleted = False
    start = scene.event.metadata.creation_timestamp
    assert start is not None
    scene.clock.advance(seconds=(start + timedelta(hours=hours) - scene.clock.now()).total_seconds())
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"


async def test_that_an_expired_envelope_is_deleted_costs_one_write_more(tmp_path: Path) -> None:
    scene = ReconcilerScene(tmp_path, statuses=BOTH)
    scene.envelope.status = EnvelopeStatus.EXPIRED
    after = await scene.reconcile()
    assert len(scene.kube.patches) == 4
    assert requested(after) == ("True", "ArchivedAndDeleted")


def requested(event: EnvelopeEvent) -> tuple[str, str]:
    found = find_condition(event.status.conditions, "DeleteRequested")
    assert found is not None
    return found.status, found.reason


async def test_an_expired_envelope_is_not_deleted_if_the_api_server_refuses_to_record_the_delete(
    tmp_path: Path,
) -> None:
    scene = ReconcilerScene(tmp_path, statuses=BOTH)
    scene.envelope.status = EnvelopeStatus.EXPIRED
    # The last question to eSAW before the delete.
    scene.envelope.meanwhile["download file-1"] = lambda: scene.envelope.meanwhile.update(
        {"download file-1": partial(scene.kube.fail, "patch_status", Rejected(422, "Invalid", "no"))}
    )
    after = await scene.reconcile()
    assert (after.status.phase, after.status.reason) == (Phase.CLEANING, "ApiServerTrouble")
    assert requested(after) == ("False", "DeleteUnconfirmed")
    assert scene.envelope.transport.deleted == []
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"


async def test_an_expired_envelope_whose_delete_esaw_refused_and_others_deleted_is_a_failure(
    tmp_path: Path,
) -> None:
    scene = ReconcilerScene(tmp_path, statuses=BOTH)
    scene.envelope.status = EnvelopeStatus.EXPIRED
    scene.envelope.but("delete", HttpStatusError(429))
    first = await scene.reconcile()
    assert first.status.reason == "EsawThrottling"
    assert requested(first) == ("False", "DeleteUnconfirmed")
    scene.envelope.deleted = True
    after = await scene.reconcile()
    assert (after.status.phase, after.status.reason) == (Phase.FAILED, "EnvelopeDeleted")


async def test_a_person_who_suspends_an_event_while_its_delete_is_recorded_is_obeyed(tmp_path: Path) -> None:
    scene = ReconcilerScene(tmp_path, statuses=BOTH)
    scene.envelope.status = EnvelopeStatus.EXPIRED

    def suspend() -> None:
        scene.kube.edit(EnvelopeEvent, scene.event.name, {"spec": {"suspend": True}})

    scene.envelope.meanwhile["download file-1"] = lambda: scene.envelope.meanwhile.update(
        {"download file-1": partial(scene.kube.just_before, "patch_status", suspend)}
    )
    after = await scene.reconcile()
    assert after.status.reason == "SettingsChanged"
    assert requested(after) == ("False", "DeleteUnconfirmed")
    assert scene.envelope.transport.deleted == []


@pytest.mark.parametrize("problem", [HttpStatusError(400), HttpStatusError(403), HttpStatusError(404)])
async def test_a_delete_that_another_program_refused_may_have_deleted_the_envelope(
    scene: ReconcilerScene, problem: HttpStatusError
) -> None:
    """Its answer may replace that of eSAW."""
    scene.envelope.but("delete", problem)
    first = await scene.reconcile()
    assert first.status.phase is Phase.CLEANING
    assert first.status.reason in ("EsawNotFound", "EsawAnswerUnreadable")
    assert requested(first) == ("True", "DeleteUnanswered")
    scene.envelope.deleted = True
    scene.envelope.problems["history"] = HttpStatusError(403, "ERR0010")
    after = await scene.reconcile(3)
    assert (after.status.phase, after.status.reason) == (Phase.SUCCEEDED, "DeletionAssumed")


@pytest.mark.parametrize("late", ["file-2", "legal-1"])
async def test_a_signed_envelope_that_lists_fewer_files_than_before_it_expired_is_waited_for(
    tmp_path: Path, late: str
) -> None:
    scene = ReconcilerScene(tmp_path, statuses=BOTH, cleanup={"policy": "Keep"})
    scene.envelope.contents[late] = b"%PDF-appendix"
    scene.envelope.status = EnvelopeStatus.EXPIRED
    assert (await scene.reconcile()).status.reason == "ArchivedAsExpired"
    restart_and_sign(scene)
    appendix = scene.envelope.contents.pop(late)
    scene.observe(an_organization(version=2, statuses=BOTH, cleanup={"policy": "Delete"}))
    after = await retried_by_a_person(scene)
    assert (after.status.phase, after.status.reason) == (Phase.CLEANING, "LateFilesPending")
    scene.envelope.contents[late] = appendix
    assert (await after_the_wait(scene)).status.reason == "FilesChanged"
    assert scene.envelope.transport.deleted == []
    assert (await after_the_wait(scene)).status.reason == "ArchivedAndDeleted"
    assert set(file_ids(scene.newest())) == {"file-1", late, "trail-1"}


async def test_an_expired_envelope_that_is_signed_during_the_delay_of_the_delete_is_archived_again(
    tmp_path: Path,
) -> None:
    scene = ReconcilerScene(tmp_path, statuses=BOTH, cleanup={"policy": "Delete", "after": "168h"})
    scene.envelope.status = EnvelopeStatus.EXPIRED
    assert (await scene.reconcile()).status.reason == "CleanupDelayed"
    assert (await retried_by_a_person(scene)).status.reason == "CleanupDelayed"
    restart_and_sign(scene)
    assert (await retried_by_a_person(scene)).status.reason == "FilesChanged"
    assert (await scene.reconcile()).status.reason == "CleanupDelayed"
    assert stored(scene, "file-1.pdf").read_bytes() == SIGNED


def deliver_again(scene: ReconcilerScene) -> None:
    """Count a callback as the receiver does while the event is unfinished."""
    known = scene.newest().deliveries
    scene.kube.edit(EnvelopeEvent, scene.event.name, {"status": {"deliveries": known + 1}})


def is_due(scene: ReconcilerScene) -> bool:
    due = due_time(scene.newest(), scene.cache, scene.clock.now())
    return due is not None and due <= scene.clock.now()


@pytest.mark.parametrize(
    ("delay", "reason"),
    [
        ({"cleanup": {"policy": "Delete", "after": "168h"}}, "CleanupDelayed"),
        ({"cleanup": {"policy": "Delete"}, "evidence": {"wait": "168h"}}, "LateFilesPending"),
    ],
)
async def test_a_callback_during_the_delay_of_the_delete_starts_the_event_of_a_restarted_envelope(
    tmp_path: Path, delay: dict[str, Any], reason: str
) -> None:
    """The receiver only counts it: more is not its right."""
    scene = ReconcilerScene(tmp_path, statuses=BOTH, **delay)
    scene.envelope.status = EnvelopeStatus.EXPIRED
    if reason == "LateFilesPending":
        list_grows_during_the_first_download(scene)
        assert (await scene.reconcile()).status.reason == "FilesChanged"
    assert (await scene.reconcile()).status.reason == reason
    assert not is_due(scene)
    restart_and_sign(scene)
    deliver_again(scene)
    assert is_due(scene)
    assert (await scene.reconcile()).status.reason == "FilesChanged"
    await scene.reconcile()
    assert stored(scene, "file-1.pdf").read_bytes() == SIGNED


SOMEBODY_HAS_TO_SIGN = b'[{"Status":"Pending","Action":{"Sign":{}}}]'
SOMEBODY_HAS_TO_READ = b'[{"Status":"Pending","Action":{"View":{}}}]'

DELAY = {"policy": "Delete", "after": "168h"}


def delayed_and_expired(folder: Path) -> ReconcilerScene:
    scene = ReconcilerScene(folder, statuses=BOTH, cleanup=DELAY)
    scene.envelope.status = EnvelopeStatus.EXPIRED
    return scene


async def test_a_repeated_callback_of_an_expired_envelope_asks_esaw_once(tmp_path: Path) -> None:
    scene = delayed_and_expired(tmp_path)
    waiting = await scene.reconcile()
    deliver_again(scene)
    assert is_due(scene)
    after = await scene.reconcile()
    assert (after.status.reason, after.status.next_attempt_time) == (
        "CleanupDelayed",
        waiting.status.next_attempt_time,
    )
    assert not is_due(scene)


async def test_a_callback_that_is_counted_during_the_question_to_esaw_is_considered_after_it(
    tmp_path: Path,
) -> None:
    scene = delayed_and_expired(tmp_path)
    await scene.reconcile()
    deliver_again(scene)
    scene.envelope.meanwhile["envelope"] = partial(deliver_again, scene)
    assert (await scene.reconcile()).status.reason == "CleanupDelayed"
    assert is_due(scene)


async def waits_for_the_delete(folder: Path, reason: str) -> ReconcilerScene:
    """Return the scene of an archived Expired envelope whose delete is due in some days."""
    if reason == "CleanupDelayed":
        scene = delayed_and_expired(folder)
    else:
        scene = ReconcilerScene(folder, statuses=BOTH, evidence={"wait": "168h"})
        scene.envelope.status = EnvelopeStatus.EXPIRED
        list_grows_during_the_first_download(scene)
        assert (await scene.reconcile()).status.reason == "FilesChanged"
    assert (await scene.reconcile()).status.reason == reason
    return scene


@pytest.mark.parametrize("reason", ["CleanupDelayed", "LateFilesPending"])
async def test_an_answer_that_does_not_show_the_envelope_is_no_answer_to_a_callback_during_the_delay(
    tmp_path: Path, reason: str
) -> None:
    scene = await waits_for_the_delete(tmp_path, reason)
    deliver_again(scene)
    scene.envelope.but("envelope", missing())
    after = await scene.reconcile()
    assert (after.status.phase, after.status.reason) == (Phase.CLEANING, "EnvelopeNotFound")
    scene.envelope.problems.clear()
    restart_and_sign(scene)
    scene.clock.advance(minutes=1)
    assert is_due(scene)
    assert (await scene.reconcile()).status.reason == "FilesChanged"
    await scene.reconcile()
    assert stored(scene, "file-1.pdf").read_bytes() == SIGNED


@pytest.mark.parametrize("reason", ["CleanupDelayed", "LateFilesPending"])
async def test_an_expired_envelope_that_others_delete_during_the_delay_is_a_failure_at_its_callback(
    tmp_path: Path, reason: str
) -> None:
    scene = await waits_for_the_delete(tmp_path, reason)
    deliver_again(scene)
    scene.envelope.deleted = True
    after = await scene.reconcile()
    assert (after.status.phase, after.status.reason) == (Phase.FAILED, "EnvelopeDeleted")


async def test_an_expired_envelope_that_the_key_no_longer_sees_is_a_failure_after_three_answers(
    tmp_path: Path,
) -> None:
    scene = await waits_for_the_delete(tmp_path, "CleanupDelayed")
    deliver_again(scene)
    scene.envelope.but("envelope", missing())
    for _ in range(2):
        assert (await scene.reconcile()).status.phase is Phase.CLEANING
    after = await scene.reconcile()
    assert (after.status.phase, after.status.reason) == (Phase.FAILED, "EnvelopeNotFound")


async def test_an_envelope_that_esaw_still_finishes_after_its_callback_is_waited_for(tmp_path: Path) -> None:
    """eSAW sends the callback first, and no other follows."""
    scene = delayed_and_expired(tmp_path)
    await scene.reconcile()
    scene.envelope.status = EnvelopeStatus.ACTIVE
    deliver_again(scene)
    for _ in range(3):
        assert (await scene.reconcile()).status.reason == "StillActive"
        assert not is_due(scene)
    restart_and_sign(scene)
    assert (await scene.reconcile()).status.reason == "CleanupDelayed"
    assert stored(scene, "file-1.pdf").read_bytes() == SIGNED


async def restarted_and_active_for(hours: int, scene: ReconcilerScene) -> EnvelopeEvent:
    """Run the event of a restarted envelope until its end, at most for the time in which eSAW does not finish
    the envelope."""
    scene.envelope.status, scene.envelope.activities = EnvelopeStatus.ACTIVE, SOMEBODY_HAS_TO_SIGN
    deliver_again(scene)
    after = await scene.reconcile()
    end = scene.clock.now() + timedelta(hours=hours)
    while not after.status.phase.is_final and scene.clock.now() < end:
        scene.clock.advance(minutes=15)
        after = await scene.reconcile()
    return after


async def test_a_repeated_callback_of_the_expiry_of_a_restarted_envelope_is_no_failure(
    tmp_path: Path,
) -> None:
    scene = delayed_and_expired(tmp_path)
    await scene.reconcile()
    after = await restarted_and_active_for(26, scene)
    assert (after.status.phase, after.status.reason) == (Phase.SKIPPED, "EnvelopeRestarted")
    # The same after the re-opening by another one.
    again = reopened_status(after.status, reason="Redelivered", message="again", now=scene.clock.now())
    await scene.status_writer.store(after, again)
    after = await restarted_and_active_for(2, scene)
    assert (after.status.phase, after.status.reason) == (Phase.SKIPPED, "EnvelopeRestarted")
    restart_and_sign(scene)
    again = reopened_status(after.status, reason="Redelivered", message="again", now=scene.clock.now())
    await scene.status_writer.store(after, again)
    assert (await scene.reconcile()).status.reason == "CleanupDelayed"
    assert stored(scene, "file-1.pdf").read_bytes() == SIGNED


async def test_a_later_callback_makes_the_wait_for_the_end_of_a_restarted_envelope_longer(
    tmp_path: Path,
) -> None:
    scene = delayed_and_expired(tmp_path)
    await scene.reconcile()
    scene.envelope.status = EnvelopeStatus.ACTIVE
    for _ in range(8):
        deliver_again(scene)
        received = scene.clock.now().isoformat()
        scene.kube.edit(EnvelopeEvent, scene.event.name, {"status": {"lastDeliveryTime": received}})
        assert (await scene.reconcile()).status.reason == "StillActive"
        scene.clock.advance(minutes=15)


def count_callback(scene: ReconcilerScene) -> None:
    """Count a callback with its time."""
    deliver_again(scene)
    received = scene.clock.now().isoformat()
    scene.kube.edit(EnvelopeEvent, scene.event.name, {"status": {"lastDeliveryTime": received}})


async def reconcile_for(scene: ReconcilerScene, **how_long: float) -> EnvelopeEvent:
    """Reconcile the event whenever it is due, for this time or until it ends."""
    event, end = await scene.reconcile(), scene.clock.now() + timedelta(**how_long)
    while not event.status.phase.is_final and scene.clock.now() < end:
        assert event.status.next_attempt_time is not None
        seconds = (event.status.next_attempt_time - scene.clock.now()).total_seconds()
        scene.clock.advance(seconds=max(1.0, seconds))
        event = await scene.reconcile()
    return event


async def restarted_after_a_failed_delete(folder: Path) -> ReconcilerScene:
    scene = ReconcilerScene(folder, statuses=BOTH)
    scene.envelope.status = EnvelopeStatus.EXPIRED
    scene.envelope.but("delete", HttpStatusError(503))
    await scene.reconcile()
    del scene.envelope.problems["delete"]
    return scene


async def restarted_at_the_end_of_the_delay(folder: Path) -> ReconcilerScene:
    scene = delayed_and_expired(folder)
    await scene.reconcile()
    scene.clock.advance(hours=168)
    return scene


async def restarted_during_the_delay(folder: Path) -> ReconcilerScene:
    scene = delayed_and_expired(folder)
    await scene.reconcile()
    return scene


async def restarted_while_it_is_kept(folder: Path) -> ReconcilerScene:
    scene = ReconcilerScene(folder, statuses=BOTH, cleanup={"policy": "Keep"})
    scene.envelope.status = EnvelopeStatus.EXPIRED
    # The callback is counted while the files are read.
    scene.envelope.meanwhile["download trail-1"] = lambda: setattr(
        scene.envelope, "status", EnvelopeStatus.ACTIVE
    )
    return scene


async def restarted_without_an_archived_state(folder: Path) -> ReconcilerScene:
    scene = ReconcilerScene(folder)
    scene.envelope.status = EnvelopeStatus.EXPIRED
    event = await scene.reconcile()
    assert event.status.reason == "UnexpectedStatus"
    again = reopened_status(event.status, reason="Redelivered", message="again", now=scene.clock.now())
    await scene.status_writer.store(event, again)
    return scene


RESTARTED = [
    restarted_after_a_failed_delete,
    restarted_at_the_end_of_the_delay,
    restarted_during_the_delay,
    restarted_while_it_is_kept,
    restarted_without_an_archived_state,
]


@pytest.mark.parametrize("restarted", RESTARTED)
async def test_a_signed_envelope_is_archived_however_long_esaw_takes_to_finish_it_after_its_restart(
    tmp_path: Path, restarted: Callable[[Path], Awaitable[ReconcilerScene]]
) -> None:
    """No callback follows the one that came before."""
    scene = await restarted(tmp_path)
    scene.envelope.but("history", HttpStatusError(403, "ERR0010"))
    if "download trail-1" not in scene.envelope.meanwhile:
        scene.envelope.status = EnvelopeStatus.ACTIVE
    count_callback(scene)
    after = await reconcile_for(scene, hours=3)
    assert (after.status.phase, after.status.reason) == (Phase.VALIDATING, "StillActive")
    after = await reconcile_for(scene, hours=48)
    assert (after.status.phase, after.status.reason) == (Phase.VALIDATING, "EnvelopeUnfinished")
    assert is_condition_true(after.status.conditions, "Stalled")
    restart_and_sign(scene)
    scene.clock.advance(hours=1)
    assert is_due(scene)
    envelope = (await scene.reconcile()).status.envelope
    assert envelope is not None
    assert envelope.restarted_time is None
    assert stored(scene, "file-1.pdf").read_bytes() == SIGNED


@pytest.mark.parametrize("retry", [{}, {"max": "5m"}, {"max": "10m"}])
@pytest.mark.parametrize("restarted", RESTARTED)
async def test_a_restarted_envelope_that_somebody_has_yet_to_sign_is_left_to_its_next_callback(
    tmp_path: Path, restarted: Callable[[Path], Awaitable[ReconcilerScene]], retry: dict[str, str]
) -> None:
    scene = await restarted(tmp_path)
    spec = msgspec.structs.replace(scene.organization.spec, retry=an_organization(retry=retry).spec.retry)
    scene.observe(msgspec.structs.replace(scene.organization, spec=spec))
    scene.envelope.activities = SOMEBODY_HAS_TO_SIGN
    if "download trail-1" not in scene.envelope.meanwhile:
        scene.envelope.status = EnvelopeStatus.ACTIVE
    count_callback(scene)
    started = scene.clock.now()
    after = await reconcile_for(scene, hours=48)
    assert (after.status.phase, after.status.reason) == (Phase.SKIPPED, "EnvelopeRestarted")
    assert timedelta(hours=1) <= scene.clock.now() - started < timedelta(hours=3)


async def test_a_restarted_envelope_that_waits_for_a_reader_is_asked_for_and_is_no_problem(
    tmp_path: Path,
) -> None:
    scene = await restarted_during_the_delay(tmp_path)
    scene.envelope.status, scene.envelope.activities = EnvelopeStatus.ACTIVE, SOMEBODY_HAS_TO_READ
    count_callback(scene)
    after = await reconcile_for(scene, hours=48)
    assert (after.status.phase, after.status.reason) == (Phase.VALIDATING, "StillActive")
    assert "yet to read it" in (after.status.message or "")
    assert not is_condition_true(after.status.conditions, "Stalled")
    summary = FailureSummary()
    summary.add(after, in_archive("dms"))
    assert not summary.failed
    assert after.status.next_attempt_time == scene.clock.now() + timedelta(hours=1)
    scene.envelope.activities = b"[]"
    assert (await reconcile_for(scene, hours=2)).status.reason == "EnvelopeUnfinished"


async def test_a_callback_starts_the_event_of_a_restarted_envelope_that_esaw_has_not_finished(
    tmp_path: Path,
) -> None:
    scene = await restarted_during_the_delay(tmp_path)
    scene.envelope.status = EnvelopeStatus.ACTIVE
    count_callback(scene)
    await reconcile_for(scene, hours=3)
    assert not is_due(scene)
    count_callback(scene)
    assert is_due(scene)
    asked = await scene.reconcile()
    assert not is_due(scene)
    # It may be the callback of the signed envelope, so eSAW is asked often again.
    assert asked.status.next_attempt_time == scene.clock.now() + timedelta(seconds=10)


async def test_a_callback_in_the_future_does_not_keep_the_event_of_a_restarted_envelope(
    tmp_path: Path,
) -> None:
    """A clock that was ahead wrote its time."""
    scene = await restarted_during_the_delay(tmp_path)
    scene.envelope.status, scene.envelope.activities = EnvelopeStatus.ACTIVE, SOMEBODY_HAS_TO_SIGN
    deliver_again(scene)
    future = (scene.clock.now() + timedelta(days=30)).isoformat()
    scene.kube.edit(EnvelopeEvent, scene.event.name, {"status": {"lastDeliveryTime": future}})
    assert (await reconcile_for(scene, hours=3)).status.reason == "EnvelopeRestarted"


async def test_a_restarted_envelope_that_esaw_does_not_finish_is_a_problem_although_its_event_waits(
    tmp_path: Path,
) -> None:
    scene = await restarted_during_the_delay(tmp_path)
    scene.envelope.status = EnvelopeStatus.ACTIVE
    count_callback(scene)
    for hours, causes in ((23, set[str]()), (3, {"failed/EnvelopeUnfinished"})):
        summary = FailureSummary()
        summary.add(await reconcile_for(scene, hours=hours), in_archive("dms"))
        assert set(summary.failed) == causes


async def test_a_status_that_does_not_say_which_callbacks_were_considered_asks_esaw_once(
    tmp_path: Path,
) -> None:
    """As an earlier version stored it."""
    scene = delayed_and_expired(tmp_path)
    await scene.reconcile()
    scene.kube.edit(EnvelopeEvent, scene.event.name, {"status": {"consideredDeliveries": None}})
    assert is_due(scene)
    await scene.reconcile()
    assert not is_due(scene)


async def waits_for_the_end_of_a_restart(folder: Path) -> ReconcilerScene:
    scene = await restarted_during_the_delay(folder)
    scene.envelope.status = EnvelopeStatus.ACTIVE
    count_callback(scene)
    await reconcile_for(scene, hours=30)
    return scene


@pytest.mark.parametrize(
    ("waiting", "reason"),
    [
        (partial(waits_for_the_delete, reason="CleanupDelayed"), "CleanupDelayed"),
        (partial(waits_for_the_delete, reason="LateFilesPending"), "LateFilesPending"),
        (waits_for_the_end_of_a_restart, "StillActive"),
    ],
)
async def test_answers_that_do_not_show_the_envelope_are_no_row_if_others_between_them_do(
    tmp_path: Path, waiting: Callable[[Path], Awaitable[ReconcilerScene]], reason: str
) -> None:
    scene = await waiting(tmp_path)
    for _ in range(4):
        scene.clock.advance(hours=20)
        count_callback(scene)
        for each in ("envelope", "files"):
            scene.envelope.but(each, missing())
        unknown = await scene.reconcile()
        assert (unknown.status.reason, unknown.status.phase.is_final) == ("EnvelopeNotFound", False)
        scene.envelope.problems.clear()
        scene.clock.advance(minutes=2)
        assert (await scene.reconcile()).status.reason == reason
    for each in ("envelope", "files"):
        scene.envelope.but(each, missing())
    for _ in range(3):
        after = await scene.reconcile()
    assert (after.status.phase, after.status.reason) == (Phase.FAILED, "EnvelopeNotFound")


async def asked_by_a_person(scene: ReconcilerScene, request: str) -> None:
    """Carry out a request on the event, as the controller does."""
    requests, event = EventRequests(scene.clock), scene.newest()
    carry_out = requests.skip if request == "skip" else requests.retry
    result = await carry_out(event, Request(request))
    assert result.change is not None
    last = Request(request).handled(result.outcome, "", now=scene.clock.now())
    await scene.status_writer.store(
        event, msgspec.structs.replace(result.change(event.status), last_request=last)
    )


def reopened_by_callback(scene: ReconcilerScene) -> bool:
    """Store a callback of an ended event as the receiver does; return whether it re-opens the event."""
    scene.clock.advance(minutes=10)
    now, event = scene.clock.now(), scene.newest()
    status = status_with(event, PendingCount(1, now, now), now=now)
    scene.kube.put(msgspec.structs.replace(event, status=status))
    return must_be_stored(event.status, received=now, now=now)


async def test_an_archived_envelope_that_a_person_skipped_is_not_deleted_after_a_callback(
    tmp_path: Path,
) -> None:
    scene = ReconcilerScene(tmp_path, cleanup=DELAY)
    assert (await scene.reconcile()).status.reason == "CleanupDelayed"
    await asked_by_a_person(scene, "skip")
    assert not reopened_by_callback(scene)
    assert (scene.newest().status.reason, scene.newest().deliveries) == ("SkippedByRequest", 2)
    await asked_by_a_person(scene, "retry")
    scene.clock.advance(hours=168)
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"


async def test_an_expired_envelope_that_a_person_skipped_is_archived_and_kept_only_after_it_was_signed(
    tmp_path: Path,
) -> None:
    scene = delayed_and_expired(tmp_path)
    await scene.reconcile()
    await asked_by_a_person(scene, "skip")
    assert reopened_by_callback(scene)
    assert (await scene.reconcile()).status.reason == "SkippedByRequest"
    scene.clock.advance(hours=200)
    scene.envelope.status = EnvelopeStatus.ACTIVE
    assert reopened_by_callback(scene)
    assert (await scene.reconcile()).status.reason == "StillActive"
    restart_and_sign(scene)
    scene.envelope.but("files", HttpStatusError(503))
    assert not (await scene.reconcile()).status.phase.is_final
    scene.envelope.problems.clear()
    after = await scene.reconcile()
    assert (after.status.phase, after.status.reason) == (Phase.SUCCEEDED, "ArchivedAndKept")
    assert "a person skipped" in (after.status.message or "")
    assert stored(scene, "file-1.pdf").read_bytes() == SIGNED
    assert scene.envelope.transport.deleted == []
    await asked_by_a_person(scene, "retry")
    scene.clock.advance(hours=200)
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"


async def test_a_failed_attempt_does_not_give_up_a_signed_envelope_that_a_person_skipped_before(
    tmp_path: Path,
) -> None:
    scene = delayed_and_expired(tmp_path)
    await scene.reconcile()
    await asked_by_a_person(scene, "skip")
    restart_and_sign(scene)
    assert reopened_by_callback(scene)
    scene.envelope.but("files", HttpStatusError(503))
    for _ in range(26):
        failed = await scene.reconcile()
        scene.clock.advance(hours=1)
    assert failed.status.reason == "DeadlineExceeded"
    scene.envelope.problems.clear()
    again = reopened_status(failed.status, reason="CauseSolved", message="", now=scene.clock.now())
    await scene.status_writer.store(failed, again)
    assert (await scene.reconcile()).status.reason == "ArchivedAndKept"
    assert stored(scene, "file-1.pdf").read_bytes() == SIGNED


@pytest.mark.parametrize("later", ["skip", "stop"])
@pytest.mark.parametrize("is_signed", [False, True])
async def test_a_request_that_changes_nothing_does_not_undo_a_skip(
    tmp_path: Path, later: str, is_signed: bool
) -> None:
    scene = delayed_and_expired(tmp_path)
    await scene.reconcile()
    await asked_by_a_person(scene, "skip")
    if later == "skip":
        await asked_by_a_person(scene, later)
    else:
        event = scene.newest()
        refused = Request(later).handled(RequestOutcome.REFUSED, "", now=scene.clock.now())
        await scene.status_writer.store(event, msgspec.structs.replace(event.status, last_request=refused))
    last = scene.newest().status.last_request
    assert last is not None
    assert last.outcome is not RequestOutcome.DONE
    if is_signed:
        restart_and_sign(scene)
    assert reopened_by_callback(scene)
    await reconcile_for(scene, hours=400)
    expected = "ArchivedAndKept" if is_signed else "SkippedByRequest"
    assert (scene.newest().status.reason, scene.envelope.transport.deleted) == (expected, [])


async def test_a_retry_that_only_sends_a_notice_again_does_not_undo_a_skip(tmp_path: Path) -> None:
    scene = ReconcilerScene(tmp_path)
    scene.envelope.status = EnvelopeStatus.ACTIVE
    await scene.reconcile()
    await asked_by_a_person(scene, "skip")
    scene.envelope.status = EnvelopeStatus.COMPLETED
    assert reopened_by_callback(scene)
    kept = await scene.reconcile()
    assert kept.status.reason == "ArchivedAndKept"
    given_up = EventNotice(id="notice", state=NoticeState.FAILED)
    await scene.status_writer.store(kept, msgspec.structs.replace(kept.status, notice=given_up))
    await asked_by_a_person(scene, "retry")
    sent_again = scene.newest()
    assert sent_again.status.phase is Phase.SUCCEEDED
    late = reopened_status(sent_again.status, reason="FilesListedLate", message="", now=scene.clock.now())
    await scene.status_writer.store(sent_again, late)
    assert (await scene.reconcile()).status.reason == "ArchivedAndKept"
    assert scene.envelope.transport.deleted == []


@pytest.mark.parametrize("problem", [None, HttpStatusError(503)], ids=["before the first attempt", "failing"])
async def test_an_envelope_that_esaw_was_not_asked_for_is_archived_after_a_skip_if_esaw_calls_again(
    tmp_path: Path, problem: Exception | None
) -> None:
    scene = await skipped_before_an_answer(tmp_path, problem)
    restart_and_sign(scene)
    assert reopened_by_callback(scene)
    after = await scene.reconcile()
    assert (after.status.reason, scene.envelope.transport.deleted) == ("ArchivedAndKept", [])
    assert stored(scene, "file-1.pdf").read_bytes() == SIGNED


async def test_an_expired_envelope_that_esaw_was_not_asked_for_stays_given_up_until_it_changes(
    tmp_path: Path,
) -> None:
    scene = await skipped_before_an_answer(tmp_path, HttpStatusError(503))
    assert reopened_by_callback(scene)
    assert (await scene.reconcile()).status.reason == "SkippedByRequest"
    assert list(scene.root.rglob("*.pdf")) == []
    restart_and_sign(scene)
    assert reopened_by_callback(scene)
    assert (await scene.reconcile()).status.reason == "ArchivedAndKept"


@pytest.mark.parametrize(("hours", "reason"), [(2, "SkippedByRequest"), (0.5, "ArchivedAndKept")])
async def test_a_skip_gives_up_an_envelope_that_was_finished_clearly_before_it(
    tmp_path: Path, hours: float, reason: str
) -> None:
    scene = await skipped_before_an_answer(tmp_path, HttpStatusError(503))
    scene.envelope.status = EnvelopeStatus.COMPLETED
    finished = scene.clock.now() - timedelta(hours=hours)
    scene.envelope.activities = msgspec.json.encode([{"FinishedDate": finished.isoformat()}])
    assert reopened_by_callback(scene)
    after = await scene.reconcile()
    assert (after.status.reason, scene.envelope.transport.deleted) == (reason, [])
    assert reopened_by_callback(scene) is False


async def test_an_envelope_that_esaw_did_not_show_in_a_row_is_given_up_by_a_skip(tmp_path: Path) -> None:
    scene = delayed_and_expired(tmp_path)
    scene.envelope.but("envelope", missing())
    for times, is_reopened in ((1, True), (3, False)):
        await scene.reconcile(times)
        await asked_by_a_person(scene, "skip")
        assert reopened_by_callback(scene) is is_reopened


async def skipped_before_an_answer(folder: Path, problem: Exception | None) -> ReconcilerScene:
    """Return the scene of an event that a person skipped before eSAW answered for its Expired envelope."""
    scene = delayed_and_expired(folder)
    if problem is not None:
        scene.envelope.but("envelope", problem)
        await scene.reconcile()
    await asked_by_a_person(scene, "skip")
    scene.envelope.problems.clear()
    return scene


def expired_with_a_delay_beyond_the_retention(folder: Path) -> ReconcilerScene:
    delay = {"policy": "Delete", "after": "1440h"}
    scene = ReconcilerScene(folder, statuses=BOTH, cleanup=delay, retention="720h")
    scene.envelope.status = EnvelopeStatus.EXPIRED
    return scene


def is_warned_about(scene: ReconcilerScene) -> bool:
    now = scene.clock.now()
    return imminent_deletion(scene.newest(), scene.organization.spec, now) is not None


async def test_an_archived_expired_envelope_is_asked_for_before_esaws_own_deletion_and_nobody_is_warned(
    tmp_path: Path,
) -> None:
    scene = expired_with_a_delay_beyond_the_retention(tmp_path)
    waiting, archived = await scene.reconcile(), scene.clock.now()
    assert waiting.status.next_attempt_time == archived + timedelta(days=29)
    assert "by its own retention" in (waiting.status.message or "")
    for day in range(60):
        scene.clock.advance(days=1)
        assert not is_warned_about(scene), f"day {day + 1}"
        if day == 28:
            asked = await scene.reconcile()
            assert (asked.status.reason, asked.status.message) == ("CleanupDelayed", waiting.status.message)
            assert asked.status.next_attempt_time == archived + timedelta(days=60)


async def test_an_expired_envelope_that_was_signed_without_a_callback_is_archived_before_esaws_own_deletion(
    tmp_path: Path,
) -> None:
    scene = expired_with_a_delay_beyond_the_retention(tmp_path)
    await scene.reconcile()
    restart_and_sign(scene)
    scene.clock.advance(days=29)
    assert is_due(scene)
    assert (await scene.reconcile()).status.reason == "FilesChanged"
    await scene.reconcile()
    assert stored(scene, "file-1.pdf").read_bytes() == SIGNED


async def test_a_retention_that_is_stated_later_plans_the_question_to_esaw_again(tmp_path: Path) -> None:
    scene = delayed_and_expired(tmp_path)
    await scene.reconcile()
    assert not is_due(scene)
    scene.observe(an_organization(version=2, cleanup=DELAY, statuses=BOTH, retention="72h"))
    assert is_due(scene)
    await scene.reconcile()
    assert not is_due(scene)
    scene.clock.advance(days=2)
    assert is_due(scene)
    await scene.reconcile()
    assert not is_due(scene)


@pytest.mark.parametrize("operation", ["envelope", "archive"])
async def test_no_deadline_runs_before_the_delete_of_an_expired_envelope_is_due(
    tmp_path: Path, operation: str
) -> None:
    scene = delayed_and_expired(tmp_path)
    await scene.reconcile()
    deliver_again(scene)
    if operation == "archive":
        scene.cache.archives.remove("dms")
    else:
        scene.envelope.but("envelope", EsawUnreachable("connect"))
    for _ in range(6 * 24 + 23):
        assert not (after := await scene.reconcile()).status.phase.is_final
        scene.clock.advance(hours=1)
    assert after.status.reason not in ("CleanupDelayed", None)
    scene.envelope.problems.clear()
    scene.observe(a_probed_archive(root=tmp_path))
    assert (await scene.reconcile()).status.reason == "CleanupDelayed"


async def test_the_deadline_of_a_delayed_delete_begins_when_the_delete_is_due(tmp_path: Path) -> None:
    scene = delayed_and_expired(tmp_path)
    due = (await scene.reconcile()).status.next_attempt_time
    deliver_again(scene)
    scene.envelope.but("envelope", EsawUnreachable("connect"))
    after = await scene.reconcile()
    while not after.status.phase.is_final:
        scene.clock.advance(hours=1)
        after = await scene.reconcile()
    assert due is not None
    assert after.status.reason == "DeadlineExceeded"
    assert after.status.completion_time == due + timedelta(hours=24)


def list_grows_during_the_first_download(scene: ReconcilerScene) -> None:
    scene.envelope.meanwhile["download file-1"] = partial(
        scene.envelope.contents.update, {"legal-1": b"%PDF-paper"}
    )


# -- Envelopes without finished documents --------------------------------------------------------------------

UNFINISHED = [EnvelopeStatus.REJECTED, EnvelopeStatus.CANCELED, EnvelopeStatus.EXPIRED]


@pytest.mark.parametrize("status", UNFINISHED)
async def test_an_envelope_for_which_esaw_keeps_no_finished_document_is_skipped_after_the_wait(
    tmp_path: Path, status: EnvelopeStatus
) -> None:
    scene = ReconcilerScene(tmp_path, statuses=[status], evidence={"wait": "10m"})
    scene.envelope.status = status
    scene.envelope.contents.clear()
    waiting = await scene.reconcile()
    assert (waiting.status.phase, waiting.status.reason) == (Phase.COLLECTING, "NoFiles")
    scene.clock.advance(minutes=10)
    after = await scene.reconcile()
    assert (after.status.phase, after.status.reason) == (Phase.SKIPPED, "NoFinishedDocuments")
    assert f"{status} envelope" in (after.status.message or "")
    assert scene.envelope.transport.deleted == []


async def test_documents_of_a_rejected_envelope_that_are_listed_late_are_archived(tmp_path: Path) -> None:
    scene = ReconcilerScene(tmp_path, statuses=["Rejected"])
    scene.envelope.status = EnvelopeStatus.REJECTED
    contents, scene.envelope.contents = scene.envelope.contents, {}
    await scene.reconcile()
    scene.envelope.contents = {"file-1": contents["file-1"]}
    scene.clock.advance(minutes=1)
    await scene.reconcile()
    assert "file-1" in manifests(scene)


async def test_an_audit_trail_of_an_expired_envelope_that_is_listed_late_is_archived_before_the_delete(
    tmp_path: Path,
) -> None:
    """The documentation of eSAW says that there is none."""
    scene = a_scene_without_trail(tmp_path, statuses=["Expired"])
    scene.envelope.status = EnvelopeStatus.EXPIRED
    waiting = await scene.reconcile()
    assert "file-1" in manifests(scene)
    assert (waiting.status.phase, waiting.status.reason) == (Phase.CLEANING, "LateFilesPending")
    assert waiting.status.next_attempt_time == scene.clock.now() + timedelta(minutes=10)
    scene.envelope.contents["trail-1"] = TRAIL
    scene.clock.advance(minutes=10)
    assert (await scene.reconcile()).status.reason == "FilesChanged"
    assert scene.envelope.transport.deleted == []
    assert (await after_the_wait(scene)).status.reason == "ArchivedAndDeleted"
    assert "trail-1" in manifests(scene)


@pytest.mark.parametrize(("evidence", "minutes"), [({"wait": "30m"}, 30), ({"wait": "0s"}, 0)])
async def test_an_expired_envelope_without_an_audit_trail_is_deleted_once_none_can_come_any_more(
    tmp_path: Path, evidence: dict[str, str], minutes: int
) -> None:
    scene = a_scene_without_trail(tmp_path, statuses=["Expired"], evidence=evidence)
    scene.envelope.status = EnvelopeStatus.EXPIRED
    after = await scene.reconcile()
    assert scene.envelope.transport.deleted == ([] if minutes else [ENVELOPE])
    if minutes:
        scene.clock.advance(minutes=minutes)
        after = await scene.reconcile()
    assert after.status.reason == "ArchivedAndDeleted"
    assert scene.envelope.transport.deleted == [ENVELOPE]


async def test_a_completed_envelope_without_files_is_a_failure_at_the_deadline(
    scene: ReconcilerScene,
) -> None:
    scene.envelope.contents.clear()
    after = await scene.reconcile()
    for _ in range(24):
        scene.clock.advance(hours=1)
        after = await scene.reconcile()
    assert (after.status.phase, after.status.cause) == (Phase.FAILED, "NoFiles")


def keep(scene: ReconcilerScene) -> None:
    """Let a person choose Keep while a run is in work."""
    scene.observe(an_organization(version=2, cleanup={"policy": "Keep"}))


def suspend_the_event(scene: ReconcilerScene) -> None:
    scene.kube.edit(EnvelopeEvent, scene.event.name, {"spec": {"suspend": True}})


def ask_for_a_skip(scene: ReconcilerScene) -> None:
    scene.kube.edit(EnvelopeEvent, scene.event.name, {"metadata": {"labels": {REQUEST_LABEL: "skip"}}})


def suspend_the_sender(scene: ReconcilerScene) -> None:
    scene.kube.edit(Sender, "anna", {"spec": {"suspend": True}})


def suspend_the_organization(scene: ReconcilerScene) -> None:
    scene.kube.edit(Organization, "acme", {"spec": {"suspend": True}})


def correct_the_archive(scene: ReconcilerScene) -> None:
    scene.kube.edit(Archive, "dms", {"spec": {"path": "other/{{envelope.id}}/{{file.name}}"}})


def suspend_the_archive(scene: ReconcilerScene) -> None:
    scene.kube.edit(Archive, "dms", {"spec": {"suspend": True}})


def remove_the_sender(scene: ReconcilerScene) -> None:
    del scene.kube.objects[Sender.PLURAL, "anna"]


@pytest.mark.parametrize("status", [EnvelopeStatus.COMPLETED, EnvelopeStatus.EXPIRED])
async def test_a_file_that_appears_while_an_envelope_is_archived_that_is_kept_is_archived(
    tmp_path: Path, status: EnvelopeStatus
) -> None:
    scene = ReconcilerScene(tmp_path, statuses=BOTH, cleanup={"policy": "Keep"})
    scene.envelope.status = status
    late = partial(scene.envelope.contents.update, {"legal-1": b"%PDF-paper"})
    scene.envelope.meanwhile["download file-1"] = late
    assert (await scene.reconcile()).status.reason == "FilesChanged"
    after = await scene.reconcile()
    assert after.status.reason in ("ArchivedAndKept", "ArchivedAsExpired")
    assert "legal-1" in manifests(scene)


async def test_a_retry_of_a_kept_envelope_archives_what_was_listed_since(tmp_path: Path) -> None:
    scene = ReconcilerScene(tmp_path, cleanup={"policy": "Keep"})
    assert (await scene.reconcile()).status.reason == "ArchivedAndKept"
    scene.envelope.contents["legal-1"] = b"%PDF-paper"
    result = await EventRequests(scene.clock).retry(scene.newest(), Request("retry"))
    assert result.outcome is RequestOutcome.DONE
    await scene.status_writer.store(scene.newest(), result.change(scene.newest().status))
    assert (await scene.reconcile()).status.reason == "FilesChanged"
    assert (await scene.reconcile()).status.reason == "ArchivedAndKept"
    assert "legal-1" in manifests(scene)


DECISIONS = [
    suspend_the_event,
    ask_for_a_skip,
    suspend_the_sender,
    suspend_the_organization,
    suspend_the_archive,
    correct_the_archive,
    remove_the_sender,
]


@pytest.mark.parametrize("decide", DECISIONS)
async def test_a_decision_of_a_person_before_the_delete_stops_it_although_no_watch_reports_it(
    scene: ReconcilerScene, decide: Callable[[ReconcilerScene], None]
) -> None:
    scene.envelope.but("delete", EsawUnreachable("connect"))
    assert (await scene.reconcile()).status.phase is Phase.CLEANING
    scene.envelope.problems.clear()
    scene.envelope.meanwhile["files"] = partial(decide, scene)
    after = await scene.reconcile()
    assert scene.envelope.transport.deleted == []
    assert (after.status.phase, after.status.reason) == (Phase.CLEANING, "SettingsChanged")


@pytest.mark.parametrize("moment", ["download file-1", "files"])
async def test_a_choice_of_keep_during_a_run_takes_effect(scene: ReconcilerScene, moment: str) -> None:
    scene.envelope.meanwhile[moment] = lambda: keep(scene)
    first = await scene.reconcile()
    assert scene.envelope.transport.deleted == []
    assert (first.status.phase, first.status.reason) == (Phase.CLEANING, "SettingsChanged")
    assert (await scene.reconcile()).status.reason == "ArchivedAndKept"


async def test_each_document_needs_its_audit_trail_if_one_has_its_own(tmp_path: Path) -> None:
    scene = a_scene_without_trail(tmp_path)
    scene.envelope.contents |= {"file-2": b"%PDF-second", "own-1": b"%PDF-own", "own-2": b"%PDF-own 2"}
    listed = ["own-1"]

    async def files(envelope: str) -> FilesResponse:
        return FilesResponse(
            documents=tuple(
                ListedDocument(
                    file_id=f"file-{number}",
                    file_name=f"file-{number}.pdf",
                    document_number=number,
                    audit_trail_file_id=f"own-{number}" if f"own-{number}" in listed else None,
                )
                for number in (1, 2)
            )
        )

    scene.envelope.files = files  # type: ignore[method-assign]
    waiting = await scene.reconcile()
    assert (waiting.status.phase, waiting.status.reason) == (Phase.COLLECTING, "AuditTrailPending")
    scene.clock.advance(minutes=11)
    kept = await scene.reconcile()
    assert (kept.status.phase, kept.status.reason) == (Phase.FAILED, "AuditTrailMissing")
    assert scene.envelope.transport.deleted == []
    listed.append("own-2")
    assert (await retried_by_a_person(scene)).status.reason == "FilesChanged"
    assert (await after_the_wait(scene)).status.reason == "ArchivedAndDeleted"


INCOMPLETE_LISTS = {
    "no document": (),
    "a gap": (document(1, 1), document(3, 3)),
    "no first document": (document(2, 2),),
    "a gap beside a document without a number": (document(1, 1), document(3, 3), document(4, None)),
    "a huge number": (document(1, 2**62),),
}


@pytest.mark.parametrize("policy", ["Delete", "Keep"])
@pytest.mark.parametrize("documents", INCOMPLETE_LISTS.values(), ids=INCOMPLETE_LISTS)
async def test_a_completed_envelope_whose_documents_are_not_all_listed_is_archived_and_kept(
    tmp_path: Path, documents: tuple[ListedDocument, ...], policy: str
) -> None:
    scene = ReconcilerScene(
        tmp_path, cleanup={"policy": policy}, evidence={"wait": "10m", "auditTrail": "Optional"}
    )
    list_files(scene, *documents)
    waiting = await scene.reconcile()
    assert (waiting.status.phase, waiting.status.reason) == (Phase.COLLECTING, "DocumentsPending")
    scene.clock.advance(minutes=10)
    kept = await scene.reconcile()
    assert (kept.status.phase, kept.status.reason) == (Phase.FAILED, "DocumentsMissing")
    assert "The envelope stays in eSignAnyWhere." in (kept.status.message or "")
    evidence = find_condition(kept.status.conditions, "EvidenceComplete")
    assert evidence is not None
    assert (evidence.status, evidence.reason) == ("False", "DocumentsMissing")
    assert "trail-1" in manifests(scene)
    assert (await retried_by_a_person(scene)).status.reason == "DocumentsMissing"
    assert scene.envelope.transport.deleted == []


async def test_documents_that_are_listed_after_the_audit_trail_are_archived_before_the_delete(
    tmp_path: Path,
) -> None:
    scene = ReconcilerScene(tmp_path, evidence={"wait": "10m"})
    list_files(scene)
    assert (await scene.reconcile()).status.reason == "DocumentsPending"
    scene.clock.advance(minutes=10)
    assert (await scene.reconcile()).status.reason == "DocumentsMissing"
    list_files(scene, document(1, 1))
    assert (await retried_by_a_person(scene)).status.reason == "FilesChanged"
    after = await after_the_wait(scene)
    assert (after.status.reason, file_ids(after)) == ("ArchivedAndDeleted", ["file-1", "trail-1"])
    evidence = find_condition(after.status.conditions, "EvidenceComplete")
    assert evidence is not None
    assert (evidence.status, evidence.reason) == ("True", "DocumentsListed")


@pytest.mark.parametrize(
    "documents",
    [
        (document(1, 0), document(2, 1)),
        (document(1, None), document(2, None)),
        (document(1, 1), document(2, 1)),
        (document(1, 2), document(2, 1), document(3, None)),
    ],
)
async def test_document_numbers_without_a_gap_delay_no_delete(
    scene: ReconcilerScene, documents: tuple[ListedDocument, ...]
) -> None:
    list_files(scene, *documents)
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"


async def test_a_legal_document_that_is_listed_after_a_late_audit_trail_is_archived_before_the_delete(
    tmp_path: Path,
) -> None:
    scene = a_scene_without_trail(tmp_path)
    assert (await scene.reconcile()).status.reason == "AuditTrailPending"
    scene.clock.advance(minutes=1)
    scene.envelope.contents["trail-1"] = TRAIL
    waiting = await scene.reconcile()
    assert (waiting.status.phase, waiting.status.reason) == (Phase.CLEANING, "LateFilesPending")
    assert waiting.status.next_attempt_time == scene.clock.now() + timedelta(minutes=10)
    scene.envelope.contents["legal-1"] = b"%PDF-paper"
    scene.clock.advance(minutes=10)
    assert (await scene.reconcile()).status.reason == "FilesChanged"
    assert scene.envelope.transport.deleted == []
    after = await after_the_wait(scene)
    assert after.status.reason == "ArchivedAndDeleted"
    assert "legal-1" in manifests(scene)


async def test_an_envelope_whose_first_list_is_complete_is_deleted_without_a_pause(
    scene: ReconcilerScene,
) -> None:
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"


@pytest.mark.parametrize("numbers", [(1, 1), (None, None), (1, None)])
async def test_each_document_needs_its_audit_trail_also_if_numbers_are_repeated_or_null(
    tmp_path: Path, numbers: tuple[int | None, int | None]
) -> None:
    scene = ReconcilerScene(tmp_path, evidence={"wait": "10m"})
    first, second = numbers
    list_files(scene, document(1, first, has_trail=True), document(2, second), trail=None)
    waiting = await scene.reconcile()
    assert (waiting.status.phase, waiting.status.reason) == (Phase.COLLECTING, "AuditTrailPending")
    scene.clock.advance(minutes=10)
    kept = await scene.reconcile()
    assert (kept.status.phase, kept.status.reason) == (Phase.FAILED, "AuditTrailMissing")
    assert scene.envelope.transport.deleted == []


async def test_what_was_archived_with_its_manifest_is_not_left_behind(tmp_path: Path) -> None:
    scene = ReconcilerScene(tmp_path, statuses=["Completed", "Expired"], cleanup={"policy": "Keep"})
    by_status = {"path": "{{envelope.status}}/{{envelope.id}}/{{file.name}}"}
    archive = a_probed_archive(root=scene.root, version=9, generation=2, **by_status)
    scene.kube.put(archive)
    scene.cache.update(archive)
    scene.envelope.status = EnvelopeStatus.EXPIRED
    await scene.reconcile()
    await retried_by_a_person(scene)
    scene.envelope.status = EnvelopeStatus.COMPLETED
    again = await retried_by_a_person(scene)
    assert again.status.reason == "ArchivedAndKept"
    assert find_condition(again.status.conditions, "FilesLeftBehind") is None


# -- Another root in the place of the archive ----------------------------------------------------------------


async def probed(scene: ReconcilerScene) -> None:
    """Let the controller probe the archive, as it does every few minutes."""
    pool = scene.preconditions.archives.archive_pool
    newest = await pool.update_status(Archive.parse(scene.kube.objects["archives", "dms"]))
    assert newest is not None
    scene.cache.archives.put(newest)


async def test_nothing_is_archived_or_deleted_in_an_empty_folder_in_the_place_of_the_root(
    scene: ReconcilerScene,
) -> None:
    await probed(scene)
    volume = scene.root.rename(scene.root.with_name("unmounted"))
    scene.root.mkdir()
    scene.clock.advance(minutes=1)
    waiting = await scene.reconcile()
    assert waiting.status.reason == "ArchiveRootChanged"
    assert scene.envelope.transport.deleted == []
    assert list(scene.root.iterdir()) == []

    scene.root.rmdir()
    volume.rename(scene.root)
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"


async def test_no_envelope_is_deleted_if_the_root_was_replaced_after_it_was_archived(
    scene: ReconcilerScene,
) -> None:
    await probed(scene)
    copy = scene.root.with_name("copy")

    def replace_root() -> None:
        shutil.copytree(scene.root / "acme", copy / "acme")
        scene.root.rename(scene.root.with_name("unmounted"))
        copy.rename(scene.root)

    for act in (lambda: None, replace_root):
        scene.kube.just_before("patch_status", act)
    waiting = await scene.reconcile()
    assert (waiting.status.phase, waiting.status.reason) == (Phase.CLEANING, "ArchiveRootChanged")
    assert scene.envelope.transport.deleted == []


async def test_nothing_is_archived_or_deleted_before_the_first_probe_of_the_archive(
    scene: ReconcilerScene,
) -> None:
    scene.observe(an_archive(version=2, filesystem={"root": str(scene.root)}))
    waiting = await scene.reconcile()
    assert (waiting.status.phase, waiting.status.reason) == (Phase.VALIDATING, "ArchiveNotProbed")
    assert (waiting.status.attempts, waiting.status.attempt_history) == (0, ())
    assert scene.envelope.transport.deleted == []
    assert list(scene.root.rglob("counterfoil.json")) == []

    await probed(scene)
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"


async def test_an_archived_envelope_is_not_deleted_while_the_status_of_its_archive_names_no_root(
    tmp_path: Path,
) -> None:
    scene = ReconcilerScene(tmp_path, cleanup={"policy": "Delete", "after": "168h"})
    await probed(scene)
    assert (await scene.reconcile()).status.reason == "CleanupDelayed"
    scene.kube.edit(Archive, "dms", {"status": {"root": None}})
    scene.cache.archives.put(Archive.parse(scene.kube.objects["archives", "dms"]))
    scene.clock.advance(hours=168)
    waiting = await scene.reconcile()
    assert (waiting.status.phase, waiting.status.reason) == (Phase.CLEANING, "ArchiveNotProbed")
    assert scene.envelope.transport.deleted == []

    await probed(scene)
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"


async def test_a_delay_after_an_archiving_by_a_clock_ahead_lasts_as_long_as_configured(
    tmp_path: Path,
) -> None:
    scene = ReconcilerScene(tmp_path, cleanup={"policy": "Delete", "after": "168h"})
    scene.clock.advance(days=30)
    await scene.reconcile()
    scene.clock.set_back(days=30)
    first = await scene.reconcile()
    assert first.status.next_attempt_time == scene.clock.now() + timedelta(hours=168)
    scene.clock.advance(hours=167)
    assert (await scene.reconcile()).status.next_attempt_time == first.status.next_attempt_time
    assert scene.envelope.transport.deleted == []
    scene.clock.advance(hours=1)
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"


async def test_two_waits_that_began_by_a_clock_that_was_ahead_end_as_configured(tmp_path: Path) -> None:
    scene = a_scene_without_trail(tmp_path, cleanup={"policy": "Delete", "after": "24h"})
    assert (await scene.reconcile()).status.reason == "AuditTrailPending"
    scene.envelope.contents["trail-1"] = TRAIL
    scene.clock.advance(days=365)
    assert (await scene.reconcile()).status.reason == "CleanupDelayed"
    scene.clock.set_back(days=365)
    begun = scene.clock.now()
    while (waiting := await scene.reconcile()).status.phase is Phase.CLEANING:
        due = waiting.status.next_attempt_time
        assert due is not None
        scene.clock.advance(seconds=(due - scene.clock.now()).total_seconds())
        assert scene.clock.now() - begun <= timedelta(hours=24)
    assert waiting.status.reason == "ArchivedAndDeleted"
    assert scene.clock.now() - begun == timedelta(hours=24)


async def test_a_wait_that_a_clock_ahead_began_does_not_begin_again_after_a_failure(tmp_path: Path) -> None:
    scene = ReconcilerScene(tmp_path, cleanup={"policy": "Delete", "after": "24h"})
    scene.clock.advance(days=365)
    await scene.reconcile()
    scene.clock.set_back(days=365)
    assert (await scene.reconcile()).status.reason == "CleanupDelayed"
    scene.clock.advance(hours=24)
    scene.envelope.but("files", HttpStatusError(503))
    for _ in range(3):
        assert (await scene.reconcile()).status.reason == "EsawFailing"
        scene.clock.advance(minutes=1)
    scene.envelope.problems.clear()
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"


# -- Lists that shrink, and lists that may grow --------------------------------------------------------------


async def test_an_archived_file_that_esaw_no_longer_lists_stays_and_the_envelope_is_kept(
    tmp_path: Path,
) -> None:
    spec: dict[str, Any] = {"cleanup": {"policy": "Delete", "after": "168h"}, "evidence": {"wait": "10m"}}
    scene = ReconcilerScene(tmp_path, **spec)
    list_files(scene, document(1, 1), document(2, 2), document(3, 3), legal=("legal-1",))
    archived = await scene.reconcile()
    list_files(scene, document(1, 1), document(2, 2))
    scene.clock.advance(hours=168)
    waiting = await scene.reconcile()
    assert (waiting.status.phase, waiting.status.reason) == (Phase.CLEANING, "DocumentsPending")
    scene.clock.advance(minutes=10)
    kept = await scene.reconcile()
    assert (kept.status.phase, kept.status.reason) == (Phase.FAILED, "DocumentsMissing")
    for each in (kept, await retried_by_a_person(scene)):
        assert each.status.reason == "DocumentsMissing"
        assert each.status.documents == archived.status.documents
        archived_condition = find_condition(each.status.conditions, "Archived")
        assert archived_condition is not None
        assert archived_condition.status == "True"
    assert "legal-1" in manifests(scene)
    assert "file-3" in manifests(scene)
    assert scene.envelope.transport.deleted == []


async def test_an_archived_file_that_esaw_lists_again_within_the_wait_delays_no_delete(
    tmp_path: Path,
) -> None:
    spec: dict[str, Any] = {"cleanup": {"policy": "Delete", "after": "168h"}, "evidence": {"wait": "10m"}}
    scene = ReconcilerScene(tmp_path, **spec)
    list_files(scene, document(1, 1), legal=("legal-1",))
    await scene.reconcile()
    list_files(scene, document(1, 1))
    scene.clock.advance(hours=168)
    assert (await scene.reconcile()).status.reason == "DocumentsPending"
    list_files(scene, document(1, 1), legal=("legal-1",))
    scene.clock.advance(minutes=1)
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"


async def test_a_retry_after_a_shrunken_list_deletes_once_all_archived_files_are_listed(
    tmp_path: Path,
) -> None:
    spec: dict[str, Any] = {"cleanup": {"policy": "Delete", "after": "168h"}, "evidence": {"wait": "0s"}}
    scene = ReconcilerScene(tmp_path, **spec)
    list_files(scene, document(1, 1), legal=("legal-1",))
    await scene.reconcile()
    list_files(scene, document(1, 1))
    scene.clock.advance(hours=168)
    assert (await scene.reconcile()).status.reason == "DocumentsMissing"
    list_files(scene, document(1, 1), legal=("legal-1",))
    assert (await retried_by_a_person(scene)).status.reason == "FilesChanged"
    await scene.reconcile()
    scene.clock.advance(hours=168)
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"
    assert "legal-1" in manifests(scene)


@pytest.mark.parametrize(
    ("listed", "reason", "recorded"),
    [
        ((document(2, 2),), "DocumentsPending", ["file-1", "trail-1"]),
        ((document(1, 1), document(2, 2)), "FilesChanged", ["file-1", "trail-1", "file-2"]),
        ((document(1, 1),), "DocumentsPending", ["file-1", "trail-1"]),
    ],
    ids=["lacks a file of the event", "has a further file", "lacks a file of another event"],
)
async def test_before_a_delete_a_list_is_first_compared_with_the_event_and_then_with_its_other_events(
    tmp_path: Path, listed: tuple[ListedDocument, ...], reason: str, recorded: list[str]
) -> None:
    scene = ReconcilerScene(
        tmp_path,
        cleanup={"policy": "Delete", "after": "168h"},
        evidence={"wait": "10m"},
        actions=[{"action": each} for each in ("envelopeFinished", "workstepFinished")],
    )
    archived = await scene.reconcile()
    (first, *_) = archived.status.documents
    further = msgspec.structs.replace(first, file_id="file-9")
    status = msgspec.structs.replace(archived.status, documents=(*archived.status.documents, further))
    other = msgspec.structs.replace(an_event().for_action("workstepFinished").build(), status=status)
    scene.kube.put(other)
    list_files(scene, *listed)
    scene.clock.advance(hours=168)

    after = await scene.reconcile()

    assert after.status.reason == reason
    assert file_ids(after) == recorded
    assert scene.envelope.transport.deleted == []


async def test_a_damaged_archive_is_no_reason_to_believe_a_list_that_lacks_an_archived_file(
    tmp_path: Path,
) -> None:
    spec: dict[str, Any] = {"cleanup": {"policy": "Delete", "after": "168h"}, "evidence": {"wait": "10m"}}
    scene = ReconcilerScene(tmp_path, **spec)
    list_files(scene, document(1, 1), legal=("legal-1",))
    archived = await scene.reconcile()
    lose_a_file(scene)
    list_files(scene, document(1, 1))
    scene.clock.advance(hours=168)
    assert (await scene.reconcile()).status.reason == "ArchivedFilesChanged"
    assert (await scene.reconcile()).status.reason == "DocumentsPending"
    scene.clock.advance(minutes=10)
    kept = await scene.reconcile()
    assert (kept.status.phase, kept.status.reason) == (Phase.FAILED, "DocumentsMissing")
    assert file_ids(kept) == file_ids(archived)
    assert scene.envelope.transport.deleted == []


@pytest.mark.parametrize("policy", ["Delete", "Keep"])
@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_retry_of_an_event_without_its_audit_trail_archives_again_what_the_archive_lost(
    tmp_path: Path, damage: Callable[[ReconcilerScene], None], policy: str
) -> None:
    scene = a_scene_without_trail(tmp_path, cleanup={"policy": policy}, evidence={"wait": "0s"})
    scene.envelope.contents["file-2"] = b"%PDF-second"
    assert (await scene.reconcile()).status.reason == "AuditTrailMissing"
    if damage is lose_a_file:
        stored(scene, "file-2.pdf").unlink()
    elif damage is spoil_the_manifest:
        manifest = stored(scene, "counterfoil.json")
        manifest.write_text(manifest.read_text().replace("file-2", "file-3"))
    else:
        damage(scene)
    retried = await retried_by_a_person(scene)
    assert (retried.status.phase, retried.status.reason) == (Phase.CLEANING, "ArchivedFilesChanged")
    again = await scene.reconcile()
    assert (again.status.phase, again.status.reason) == (Phase.FAILED, "AuditTrailMissing")
    assert (again.status.message or "").startswith("Archive/dms has 2 files of the envelope, all verified. ")
    assert stored(scene, "file-2.pdf").read_bytes() == b"%PDF-second"


async def test_a_retry_of_an_event_without_its_documents_archives_again_what_the_archive_lost(
    tmp_path: Path,
) -> None:
    scene = ReconcilerScene(tmp_path, evidence={"wait": "0s"})
    list_files(scene, document(1, 1), document(3, 3))
    assert (await scene.reconcile()).status.reason == "DocumentsMissing"
    empty(scene)
    assert (await retried_by_a_person(scene)).status.reason == "ArchivedFilesChanged"
    assert (await scene.reconcile()).status.reason == "DocumentsMissing"
    assert stored(scene, "file-3.pdf").is_file()


async def test_an_incomplete_envelope_that_is_neither_in_the_archive_nor_in_esaw_is_reported_as_lost(
    tmp_path: Path,
) -> None:
    scene = a_scene_without_trail(tmp_path, evidence={"wait": "0s"})
    assert (await scene.reconcile()).status.reason == "AuditTrailMissing"
    empty(scene)
    scene.envelope.problems.update(files=missing())
    scene.envelope.deleted_for_history = True
    after = await retried_by_a_person(scene)
    assert (after.status.phase, after.status.reason) == (Phase.FAILED, "ArchivedFilesLost")
    assert "verified" not in (after.status.message or "")


async def test_an_incomplete_envelope_that_the_key_does_not_see_is_not_called_verified_without_a_read(
    tmp_path: Path,
) -> None:
    scene = a_scene_without_trail(tmp_path, evidence={"wait": "0s"})
    assert (await scene.reconcile()).status.reason == "AuditTrailMissing"
    empty(scene)
    scene.envelope.problems.update(envelope=missing(), files=missing())
    after = await retried_by_a_person(scene)
    assert after.status.reason == "EnvelopeNotFound"
    assert "does not have the files as they were archived" in (after.status.message or "")


async def test_a_list_that_lacks_an_archived_file_is_no_proof_that_the_archive_has_it(
    tmp_path: Path,
) -> None:
    scene = ReconcilerScene(tmp_path, evidence={"wait": "0s"}, cleanup={"policy": "Delete", "after": "168h"})
    list_files(scene, document(1, 1), legal=("legal-1",))
    await scene.reconcile()
    list_files(scene, document(1, 1))
    scene.clock.advance(hours=168)
    assert (await scene.reconcile()).status.reason == "DocumentsMissing"
    empty(scene)
    after = await retried_by_a_person(scene)
    assert after.status.reason == "DocumentsMissing"
    assert "stays in Archive/" not in (after.status.message or "")


@pytest.mark.parametrize("status", UNFINISHED)
@pytest.mark.parametrize("documents", [(), (document(1, 1), document(3, 3))], ids=["no document", "a gap"])
async def test_a_rejected_envelope_whose_first_list_looks_short_is_not_deleted_before_the_end_of_the_wait(
    tmp_path: Path, status: EnvelopeStatus, documents: tuple[ListedDocument, ...]
) -> None:
    scene = ReconcilerScene(tmp_path, statuses=[status], evidence={"wait": "10m"})
    scene.envelope.status = status
    list_files(scene, *documents)
    waiting = await scene.reconcile()
    assert (waiting.status.phase, waiting.status.reason) == (Phase.CLEANING, "LateFilesPending")
    assert "trail-1" in manifests(scene)
    assert scene.envelope.transport.deleted == []
    evidence = find_condition(waiting.status.conditions, "EvidenceComplete")
    assert evidence is not None
    assert (evidence.status, evidence.reason) == ("Unknown", "DocumentsPending")
    scene.clock.advance(minutes=10)
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"


@pytest.mark.parametrize("status", UNFINISHED)
async def test_a_rejected_envelope_whose_first_list_is_complete_is_deleted_without_a_pause(
    tmp_path: Path, status: EnvelopeStatus
) -> None:
    scene = ReconcilerScene(tmp_path, statuses=[status], evidence={"wait": "10m"})
    scene.envelope.status = status
    list_files(scene, document(1, 1), document(2, 2))
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"


async def test_documents_that_are_still_not_listed_are_not_reported_as_listed(tmp_path: Path) -> None:
    spec: dict[str, Any] = {"cleanup": {"policy": "Keep"}, "evidence": {"wait": "10m"}}
    scene = ReconcilerScene(tmp_path, statuses=["Rejected"], **spec)
    scene.envelope.status = EnvelopeStatus.REJECTED
    list_files(scene, trail=None)
    assert (await scene.reconcile()).status.reason == "NoFiles"
    list_files(scene)
    scene.clock.advance(minutes=1)
    archived = await scene.reconcile()
    assert file_ids(archived) == ["trail-1"]
    evidence = find_condition(archived.status.conditions, "EvidenceComplete")
    assert evidence is not None
    assert (evidence.status, evidence.reason) == ("Unknown", "DocumentsPending")


async def test_a_retry_during_the_wait_for_documents_does_not_shorten_it(tmp_path: Path) -> None:
    scene = ReconcilerScene(tmp_path, evidence={"wait": "10m"})
    list_files(scene)
    assert (await scene.reconcile()).status.reason == "DocumentsPending"
    list_files(scene, document(1, 1))
    waiting = await retried_by_a_person(scene)
    assert (waiting.status.phase, waiting.status.reason) == (Phase.CLEANING, "LateFilesPending")
    assert scene.envelope.transport.deleted == []


@pytest.mark.parametrize("is_retried", [False, True])
async def test_a_short_list_that_was_stored_before_the_condition_existed_counts_as_short(
    tmp_path: Path, *, is_retried: bool
) -> None:
    scene = a_scene_without_trail(tmp_path)
    waiting = await scene.reconcile()
    assert waiting.status.reason == "AuditTrailPending"
    earlier = tuple(each for each in waiting.status.conditions if each.type != "EvidenceComplete")
    await scene.status_writer.store(waiting, msgspec.structs.replace(waiting.status, conditions=earlier))
    scene.envelope.contents["trail-1"] = TRAIL
    scene.clock.advance(minutes=1)
    after = await (retried_by_a_person(scene) if is_retried else scene.reconcile())
    assert (after.status.phase, after.status.reason) == (Phase.CLEANING, "LateFilesPending")
    assert scene.envelope.transport.deleted == []


async def reopened_by_a_callback_after_an_earlier_version(scene: ReconcilerScene) -> None:
    """Let an event fail for a short list, as an earlier version stored it, and a receiver re-open it."""
    event, now = scene.newest(), scene.clock.now()
    failed = msgspec.structs.replace(
        event.status,
        phase=Phase.FAILED,
        reason="DeadlineExceeded",
        completion_time=now,
        last_error=LastError(reason="AuditTrailPending", message="No audit trail yet.", time=now),
        conditions=tuple(each for each in event.status.conditions if each.type != "EvidenceComplete"),
    )
    stored = await scene.status_writer.store(event, failed)
    scene.clock.advance(minutes=1)
    status = status_for_first_attempt(
        failed, reason="Redelivered", message="called again", now=scene.clock.now()
    )
    await scene.status_writer.store(stored, status)


@pytest.mark.parametrize("is_archived", [False, True])
async def test_a_short_list_of_an_earlier_version_counts_as_short_after_a_callback_reopens_its_event(
    tmp_path: Path, *, is_archived: bool
) -> None:
    """A receiver may not set the condition, so the controller does."""
    scene = a_scene_without_trail(tmp_path)
    if is_archived:
        scene.envelope.contents["trail-1"] = TRAIL
        scene.envelope.but("delete", HttpStatusError(503))
    waiting = await scene.reconcile()
    assert is_condition_true(waiting.status.conditions, "Archived") is is_archived
    await reopened_by_a_callback_after_an_earlier_version(scene)
    scene.envelope.problems.clear()
    scene.envelope.contents["trail-1"] = TRAIL
    after = await scene.reconcile()
    assert (after.status.phase, after.status.reason) == (Phase.CLEANING, "LateFilesPending")
    assert scene.envelope.transport.deleted == []


async def test_a_short_list_of_an_earlier_version_is_kept_by_the_first_write_after_a_callback(
    tmp_path: Path,
) -> None:
    """Later errors replace the one that tells of it."""
    scene = a_scene_without_trail(tmp_path)
    await scene.reconcile()
    await reopened_by_a_callback_after_an_earlier_version(scene)
    scene.observe(an_organization(version=2, suspend=True, evidence={"wait": "10m"}))
    held = await scene.reconcile()
    evidence = find_condition(held.status.conditions, "EvidenceComplete")
    assert evidence is not None
    assert (evidence.status, evidence.reason) == ("Unknown", "AuditTrailPending")


async def test_two_documents_that_name_one_audit_trail_do_not_each_have_their_own(tmp_path: Path) -> None:
    scene = ReconcilerScene(tmp_path, evidence={"wait": "10m"})
    second = msgspec.structs.replace(document(2, 2), audit_trail_file_id="own-1")
    list_files(scene, document(1, 1, has_trail=True), second, trail=None)
    assert (await scene.reconcile()).status.reason == "AuditTrailPending"
    scene.clock.advance(minutes=10)
    assert (await scene.reconcile()).status.reason == "AuditTrailMissing"
    assert scene.envelope.transport.deleted == []


# -- An archive that returns no files ------------------------------------------------------------------------

NOT_RETURNED = (
    "Archive/dms returns no files. Their checksums were confirmed when the files were sent, and can't be "
    "read again."
)


@asynccontextmanager
async def a_checksum_archive(scene: ReconcilerScene) -> AsyncIterator[DocumentSystem]:
    """Let the events be archived in a system that reports checksums and returns no files."""
    async with document_system(serves_downloads=False) as system:
        settings: dict[str, Any] = {"url": system.url, "credentialsSecretRef": {"name": "dms"}}
        scene.kube.secret_uses["dms"] = "archive"
        scene.kube.secrets["dms"] = {
            "signingSecret": system.signing_secret.encode(),
            "bearerToken": system.token.encode(),
        }
        spec: dict[str, Any] = {"http": settings, "verify": "Checksum", "signatures": "Ignore"}
        scene.observe(a_probed_archive(version=2, filesystem=None, **spec))
        yield system


@pytest.mark.parametrize("may_read_history", [True, False])
async def test_files_whose_checksums_a_restart_forgot_are_not_lost_after_an_unanswered_delete(
    scene: ReconcilerScene, *, may_read_history: bool
) -> None:
    was_sent(scene, scene.clock.now())
    async with a_checksum_archive(scene) as system:
        scene.envelope.but("delete", EsawUnreachable("timeout"))
        assert (await scene.reconcile()).status.reason == "DeleteUnanswered"
        scene.envelope.problems.clear()
        scene.envelope.deleted = True
        if not may_read_history:
            scene.envelope.problems["history"] = HttpStatusError(403, "ERR0010")
        sent = dict(system.filed)
        scene.restarted()
        after = (await scene.reconcile(1 if may_read_history else 3)).status
    reason = "ArchivedAndDeleted" if may_read_history else "DeletionAssumed"
    assert (after.phase, after.reason) == (Phase.SUCCEEDED, reason)
    assert NOT_RETURNED in (after.message or "")
    assert system.filed == sent


@pytest.mark.parametrize("is_deleted", [True, False])
async def test_a_retry_of_a_kept_envelope_that_is_gone_reports_no_file_as_lost_whose_checksum_is_unknown(
    tmp_path: Path, *, is_deleted: bool
) -> None:
    scene = ReconcilerScene(tmp_path, cleanup={"policy": "Keep"})
    async with a_checksum_archive(scene):
        assert (await scene.reconcile()).status.reason == "ArchivedAndKept"
        scene.envelope.problems.update(envelope=missing(), files=missing())
        scene.envelope.deleted_for_history = is_deleted
        scene.restarted()
        after = (await retried_by_a_person(scene)).status
    assert after.reason == ("ArchivedAndDeleted" if is_deleted else "EnvelopeNotFound")
    assert NOT_RETURNED in (after.message or "")
    assert "missing" not in (after.message or "")


async def test_files_whose_checksums_restarts_forgot_are_sent_again_before_the_delete(tmp_path: Path) -> None:
    scene = ReconcilerScene(tmp_path, cleanup={"policy": "Delete", "after": "168h"})
    was_sent(scene, scene.clock.now())
    async with a_checksum_archive(scene) as system:
        await scene.reconcile()
        scene.clock.advance(hours=168)
        for _ in range(3):
            system.filed.clear()
            scene.restarted()
            waiting = (await scene.reconcile()).status
            assert (waiting.phase, waiting.reason) == (Phase.CLEANING, "ArchivedFilesChanged")
            assert NOT_RETURNED in (waiting.message or "")
            scene.envelope.but("delete", HttpStatusError(429))
            assert (await scene.reconcile()).status.phase is Phase.CLEANING
            assert scene.envelope.transport.deleted == []
            assert len(system.filed) == 4
            scene.envelope.problems.clear()
        assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"


async def test_an_incomplete_envelope_that_is_gone_is_not_called_verified_if_its_archive_returns_no_files(
    tmp_path: Path,
) -> None:
    scene = a_scene_without_trail(tmp_path, evidence={"wait": "0s"})
    async with a_checksum_archive(scene):
        assert (await scene.reconcile()).status.reason == "AuditTrailMissing"
        scene.envelope.problems.update(files=missing())
        scene.envelope.deleted_for_history = True
        scene.restarted()
        after = (await retried_by_a_person(scene)).status
    assert after.reason == "AuditTrailMissing"
    assert (after.message or "").startswith(NOT_RETURNED)
    assert "verified" not in (after.message or "")


async def test_an_event_that_failed_since_its_checksums_were_forgotten_ends_after_a_retry(
    scene: ReconcilerScene,
) -> None:
    async with a_checksum_archive(scene):
        scene.envelope.but("delete", EsawUnreachable("timeout"))
        await scene.reconcile()
        scene.envelope.problems.clear()
        scene.envelope.deleted = True
        event = scene.newest()
        failed = msgspec.structs.replace(event.status, phase=Phase.FAILED, reason="ArchivedFilesLost")
        await scene.status_writer.store(event, failed)
        scene.restarted()
        after = (await retried_by_a_person(scene)).status
    assert after.reason == "ArchivedAndDeleted"
    assert NOT_RETURNED in (after.message or "")


async def test_an_incomplete_envelope_whose_checksums_a_restart_forgot_is_archived_again_before_a_report(
    tmp_path: Path,
) -> None:
    scene = a_scene_without_trail(tmp_path, evidence={"wait": "0s"})
    async with a_checksum_archive(scene) as system:
        assert (await scene.reconcile()).status.reason == "AuditTrailMissing"
        system.filed.clear()
        scene.restarted()
        retried = (await retried_by_a_person(scene)).status
        assert retried.reason == "ArchivedFilesChanged"
        assert NOT_RETURNED in (retried.message or "")
        after = (await scene.reconcile()).status
    assert after.reason == "AuditTrailMissing"
    assert "all verified" in (after.message or "")
    assert len(system.filed) == 3


# -- Clocks --------------------------------------------------------------------------------------------------


def taken_over(scene: ReconcilerScene, real: datetime, ahead: timedelta) -> None:
    """Let a controller continue whose machine's clock differs from the API server's, which is right."""
    scene.restarted()
    scene.clock.set_back(seconds=(scene.clock.now() - real - ahead).total_seconds())
    clock = ServerClock(scene.clock, scene.kube)
    scene.clock.advance(seconds=1)
    scene.kube.server_date = format_datetime(real.replace(microsecond=0), usegmt=True)
    scene.kube.server_date_between = (scene.clock.monotonic(), scene.clock.monotonic())
    runner = scene.reconciler.phase_runner
    preconditions = dataclasses.replace(runner.preconditions, clock=clock)
    runner = dataclasses.replace(runner, preconditions=preconditions, clock=clock)
    scene.reconciler = dataclasses.replace(scene.reconciler, phase_runner=runner, clock=clock)


def answer_of_api_server(scene: ReconcilerScene, ahead: timedelta) -> None:
    """Let an API server answer whose clock differs from the right time of the scene's machine."""
    scene.clock.advance(seconds=1)
    scene.kube.server_date = format_datetime((scene.clock.now() + ahead).replace(microsecond=0), usegmt=True)
    scene.kube.server_date_between = (scene.clock.monotonic(), scene.clock.monotonic())


@pytest.mark.parametrize(
    ("reason", "spec"),
    [
        ("LateFilesPending", {}),
        ("CleanupDelayed", {"cleanup": {"policy": "Delete", "after": "10m"}}),
        ("AuditTrailPending", {}),
    ],
)
async def test_one_of_several_api_servers_whose_clock_is_ahead_ends_no_wait(
    tmp_path: Path, reason: str, spec: dict[str, Any]
) -> None:
    scene = ReconcilerScene(tmp_path, **{"evidence": {"wait": "10m"}, **spec})
    taken_over(scene, scene.clock.now() + timedelta(hours=2), timedelta(0))
    if reason == "LateFilesPending":
        list_grows_during_the_first_download(scene)
        await scene.reconcile()
    if reason == "AuditTrailPending":
        del scene.envelope.contents["trail-1"]
    assert (await scene.reconcile()).status.reason == reason
    for _ in range(4):
        answer_of_api_server(scene, timedelta(minutes=20))
        waiting = (await scene.reconcile()).status
        assert waiting.reason == reason
        assert not due_now(scene, waiting.next_attempt_time), "it does not run all the time"
        answer_of_api_server(scene, timedelta(0))
        assert (await scene.reconcile()).status.reason == reason
    scene.clock.advance(minutes=10)
    answer_of_api_server(scene, timedelta(0))
    assert (await scene.reconcile()).status.reason != reason


def due_now(scene: ReconcilerScene, planned: datetime | None) -> bool:
    return planned is None or planned <= scene.reconciler.clock.now()


@pytest.mark.parametrize(
    ("first", "second"),
    [(timedelta(hours=-1), timedelta(0)), (timedelta(0), timedelta(hours=1)), (timedelta(0), timedelta(0))],
)
async def test_a_wait_lasts_as_long_as_it_should_although_a_controller_has_a_wrong_clock(
    tmp_path: Path, first: timedelta, second: timedelta
) -> None:
    """The event is older than the error of the clock, so its creation does not limit the time."""
    scene = ReconcilerScene(tmp_path, evidence={"wait": "10m"})
    real = scene.clock.now() + timedelta(hours=2)
    taken_over(scene, real, first)
    list_grows = partial(scene.envelope.contents.update, {"legal-1": b"%PDF-paper"})
    scene.envelope.meanwhile["download file-1"] = list_grows
    assert (await scene.reconcile(2)).status.reason == "LateFilesPending"
    taken_over(scene, real + timedelta(minutes=9), second)
    assert (await scene.reconcile()).status.reason == "LateFilesPending"
    taken_over(scene, real + timedelta(minutes=10, seconds=2), second)
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"


# -- After a request to delete the envelope ------------------------------------------------------------------


async def delete_unanswered(folder: Path, status: EnvelopeStatus, **spec: Any) -> ReconcilerScene:
    """Return the scene of an archived envelope whose delete eSAW neither answered nor carried out."""
    scene = ReconcilerScene(folder, **{"statuses": BOTH, **spec})
    scene.envelope.status = status
    scene.envelope.but("delete", HttpStatusError(503))
    after = await scene.reconcile()
    assert (after.status.reason, requested(after)) == ("DeleteUnanswered", ("True", "DeleteUnanswered"))
    scene.envelope.problems.clear()
    return scene


@pytest.mark.parametrize("policy", ["Delete", "Keep"])
async def test_an_answer_that_shows_the_envelope_refutes_an_unanswered_delete_also_if_the_list_fails(
    tmp_path: Path, policy: str
) -> None:
    scene = await delete_unanswered(tmp_path, EnvelopeStatus.COMPLETED)
    scene.observe(an_organization(version=2, statuses=BOTH, cleanup={"policy": policy}))
    scene.envelope.but("files", HttpStatusError(503))
    assert requested(await scene.reconcile()) == ("False", "DeleteUnconfirmed")


async def test_an_expired_envelope_that_esaw_showed_after_the_delete_and_others_deleted_is_a_failure(
    tmp_path: Path,
) -> None:
    scene = await delete_unanswered(tmp_path, EnvelopeStatus.EXPIRED)
    scene.envelope.but("files", HttpStatusError(503))
    assert requested(await scene.reconcile()) == ("False", "DeleteUnconfirmed")
    scene.envelope.problems.clear()
    restart_and_sign(scene)
    scene.envelope.deleted = True
    after = await scene.reconcile()
    assert (after.status.phase, after.status.reason) == (Phase.FAILED, "EnvelopeDeleted")


async def test_an_envelope_that_is_archived_again_is_not_called_deleted_by_an_earlier_delete(
    tmp_path: Path,
) -> None:
    scene = await delete_unanswered(tmp_path, EnvelopeStatus.EXPIRED)
    restart_and_sign(scene)
    scene.observe(an_organization(version=2, statuses=BOTH, cleanup={"policy": "Delete", "after": "24h"}))
    assert (await scene.reconcile()).status.reason == "FilesChanged"
    archived = await scene.reconcile()
    assert (archived.status.reason, requested(archived)[0]) == ("CleanupDelayed", "False")
    scene.clock.advance(hours=24)
    # The key neither sees the envelope any more, nor may read histories.
    for each in ("envelope", "files", "configuration"):
        scene.envelope.problems[each] = missing()
    scene.envelope.problems["history"] = HttpStatusError(403, "ERR0010")
    assert (await scene.reconcile()).status.reason == "EnvelopeNotFound"


async def test_an_expired_envelope_that_is_shown_and_then_gone_in_one_attempt_is_a_failure(
    tmp_path: Path,
) -> None:
    scene = await delete_unanswered(tmp_path, EnvelopeStatus.EXPIRED)

    def sign_and_delete() -> None:
        restart_and_sign(scene)
        scene.envelope.deleted = True

    scene.envelope.meanwhile["download file-1"] = sign_and_delete
    after = await scene.reconcile()
    assert (after.status.phase, after.status.reason) == (Phase.FAILED, "EnvelopeDeleted")


async def test_an_expired_envelope_that_was_shown_before_a_kill_is_not_called_deleted_by_an_earlier_delete(
    tmp_path: Path,
) -> None:
    scene = await delete_unanswered(tmp_path, EnvelopeStatus.EXPIRED)
    scene.envelope.meanwhile["download file-1"] = kill
    with pytest.raises(Killed):
        await scene.reconcile()
    scene.envelope.meanwhile.clear()
    restart_and_sign(scene)
    scene.envelope.deleted = True
    scene.restarted()
    after = await scene.reconcile()
    assert (after.status.phase, after.status.reason) == (Phase.FAILED, "EnvelopeDeleted")


def hide(scene: ReconcilerScene) -> None:
    """Let eSAW show the envelope no more, to a user who may not read histories."""
    scene.envelope.problems.update({each: missing() for each in ("envelope", "files", "configuration")})
    scene.envelope.problems["history"] = HttpStatusError(403, "ERR0010")


@pytest.mark.parametrize("status", [EnvelopeStatus.COMPLETED, EnvelopeStatus.EXPIRED])
async def test_one_answer_without_the_envelope_does_not_confirm_an_unanswered_delete(
    tmp_path: Path, status: EnvelopeStatus
) -> None:
    scene = await delete_unanswered(tmp_path, status)
    hide(scene)
    for _ in range(2):
        after = await scene.reconcile()
        assert (after.status.phase, after.status.reason) == (Phase.CLEANING, "EnvelopeNotFound")
    scene.envelope.problems.clear()
    if status is EnvelopeStatus.EXPIRED:
        restart_and_sign(scene)
        assert (await scene.reconcile()).status.reason == "FilesChanged"
    after = await scene.reconcile()
    assert (after.status.reason, scene.envelope.transport.deleted) == ("ArchivedAndDeleted", [ENVELOPE])
    if status is EnvelopeStatus.EXPIRED:
        assert stored(scene, "file-1.pdf").read_bytes() == SIGNED


@pytest.mark.parametrize("status", [EnvelopeStatus.COMPLETED, EnvelopeStatus.EXPIRED])
async def test_a_delete_that_is_answered_as_if_there_were_no_envelope_is_not_believed_without_a_history(
    tmp_path: Path, status: EnvelopeStatus
) -> None:
    scene = ReconcilerScene(tmp_path, statuses=BOTH)
    scene.envelope.status = status
    scene.envelope.but("history", HttpStatusError(403, "ERR0010"))
    scene.envelope.but("delete", missing())
    after = await scene.reconcile()
    assert (after.status.phase, after.status.reason) == (Phase.CLEANING, "DeleteUnanswered")
    del scene.envelope.problems["delete"]
    after = await scene.reconcile()
    assert (after.status.reason, scene.envelope.transport.deleted) == ("ArchivedAndDeleted", [ENVELOPE])


async def test_a_repeated_delete_replaces_what_was_stored_about_the_first_one(tmp_path: Path) -> None:
    scene = await delete_unanswered(tmp_path, EnvelopeStatus.COMPLETED)
    after = await scene.reconcile()
    assert (after.status.reason, requested(after)) == ("ArchivedAndDeleted", ("True", "ArchivedAndDeleted"))


@pytest.mark.parametrize("status", [EnvelopeStatus.COMPLETED, EnvelopeStatus.EXPIRED])
async def test_an_unanswered_delete_is_confirmed_once_the_envelope_is_gone(
    tmp_path: Path, status: EnvelopeStatus
) -> None:
    scene = await delete_unanswered(tmp_path, status)
    scene.envelope.deleted = True
    after = await scene.reconcile()
    assert (after.status.reason, requested(after)) == ("ArchivedAndDeleted", ("True", "ArchivedAndDeleted"))


@pytest.mark.parametrize(
    ("status", "history"),
    [(EnvelopeStatus.EXPIRED, None), (EnvelopeStatus.COMPLETED, HttpStatusError(403, "ERR0010"))],
)
async def test_an_unanswered_delete_that_an_earlier_version_stored_counts(
    tmp_path: Path, status: EnvelopeStatus, history: Exception | None
) -> None:
    scene = await delete_unanswered(tmp_path, status)
    await store_as_earlier_versions(scene)
    scene.envelope.deleted = True
    if history is not None:
        scene.envelope.problems["history"] = history
    after = await scene.reconcile(1 if history is None else 3)
    reason = "ArchivedAndDeleted" if history is None else "DeletionAssumed"
    assert (after.status.phase, after.status.reason) == (Phase.SUCCEEDED, reason)


async def test_an_unanswered_delete_that_an_earlier_version_stored_is_refuted_as_well(tmp_path: Path) -> None:
    scene = await delete_unanswered(tmp_path, EnvelopeStatus.EXPIRED)
    await store_as_earlier_versions(scene)
    scene.envelope.but("files", HttpStatusError(503))
    assert requested(await scene.reconcile()) == ("False", "DeleteUnconfirmed")
    scene.envelope.problems.clear()
    scene.envelope.deleted = True
    after = await scene.reconcile()
    assert (after.status.phase, after.status.reason) == (Phase.FAILED, "EnvelopeDeleted")


async def store_as_earlier_versions(scene: ReconcilerScene) -> None:
    """Store in the condition Cleaned that the result of the delete is not known."""
    event = scene.newest()
    conditions = tuple(
        msgspec.structs.replace(each, type="Cleaned", status="Unknown")
        if each.type == "DeleteRequested"
        else each
        for each in event.status.conditions
    )
    await scene.status_writer.store(event, msgspec.structs.replace(event.status, conditions=conditions))


@pytest.mark.parametrize("status", [EnvelopeStatus.COMPLETED, EnvelopeStatus.EXPIRED])
async def test_a_callback_starts_an_event_again_whose_envelope_was_only_assumed_to_be_deleted(
    tmp_path: Path, status: EnvelopeStatus
) -> None:
    scene = await deletion_assumed(tmp_path, status)
    scene.envelope.problems.clear()
    if status is EnvelopeStatus.EXPIRED:
        restart_and_sign(scene)
    assert reopened_by_callback(scene)
    after = await scene.reconcile(2 if status is EnvelopeStatus.EXPIRED else 1)
    assert (after.status.reason, scene.envelope.transport.deleted) == ("ArchivedAndDeleted", [ENVELOPE])
    if status is EnvelopeStatus.EXPIRED:
        assert stored(scene, "file-1.pdf").read_bytes() == SIGNED


async def deletion_assumed(folder: Path, status: EnvelopeStatus) -> ReconcilerScene:
    """Return the scene of an unanswered delete after three passing answers without the envelope."""
    scene = await delete_unanswered(folder, status)
    hide(scene)
    assert (await scene.reconcile(3)).status.phase is Phase.SUCCEEDED
    return scene


async def test_no_deletion_is_assumed_if_esaw_called_after_it_last_showed_the_envelope(
    tmp_path: Path,
) -> None:
    scene = await delete_unanswered(tmp_path, EnvelopeStatus.EXPIRED)
    hide(scene)
    await scene.reconcile(2)
    count_callback(scene)
    after = await scene.reconcile()
    assert (after.status.phase, after.status.reason) == (Phase.FAILED, "EnvelopeNotFound")
    scene.envelope.problems.clear()
    restart_and_sign(scene)
    assert reopened_by_callback(scene)
    after = await scene.reconcile(2)
    assert (after.status.reason, scene.envelope.transport.deleted) == ("ArchivedAndDeleted", [ENVELOPE])
    assert stored(scene, "file-1.pdf").read_bytes() == SIGNED


async def test_a_callback_in_the_attempt_that_assumes_the_deletion_starts_the_event_again(
    tmp_path: Path,
) -> None:
    scene = await delete_unanswered(tmp_path, EnvelopeStatus.EXPIRED)
    hide(scene)
    await scene.reconcile(2)
    scene.kube.just_before("patch_status", partial(count_callback, scene))
    after = await scene.reconcile()
    assert (after.status.phase, after.status.reason) == (Phase.PENDING, "Redelivered")
    after = await scene.reconcile(3)
    assert (after.status.phase, after.status.reason) == (Phase.FAILED, "EnvelopeNotFound")


async def test_a_callback_that_was_counted_before_the_delete_says_nothing_about_its_effect(
    tmp_path: Path,
) -> None:
    scene = ReconcilerScene(tmp_path, statuses=BOTH)
    scene.envelope.status = EnvelopeStatus.EXPIRED
    scene.envelope.but("files", HttpStatusError(503))
    await scene.reconcile()
    scene.envelope.problems.clear()
    scene.envelope.but("delete", HttpStatusError(503))
    count_callback(scene)
    assert (await scene.reconcile()).status.reason == "DeleteUnanswered"
    hide(scene)
    assert (await scene.reconcile(3)).status.reason == "DeletionAssumed"


def finished(scene: ReconcilerScene, when: datetime | None) -> None:
    """Let eSAW say when the last step of the envelope was finished; None: it does not say."""
    steps = [] if when is None else [{"FinishedDate": when.isoformat()}]
    scene.envelope.activities = msgspec.json.encode(steps)


def was_sent(scene: ReconcilerScene, when: datetime | None) -> None:
    """Let eSAW say when the envelope was sent; None: it does not say."""
    scene.envelope.sent_text = when.isoformat() if when is not None else None


def let_it_be_created_again(scene: ReconcilerScene, origin: Origin) -> None:
    """Remove the event, and let another controller continue with a new one about the same envelope."""
    del scene.kube.objects[EnvelopeEvent.PLURAL, scene.event.name]
    builder = an_event().by(origin).created_again(scene.clock.now()).labelled(SENDER_LABEL, "anna")
    scene.event = builder.build()
    scene.kube.put(scene.event)
    scene.restarted()


UNKNOWN_EARLIER = "nothing shows whether an event that was removed had archived more of them"


@pytest.mark.parametrize(
    ("origin", "status", "is_time_known"),
    [
        (Origin.CALLBACK, EnvelopeStatus.COMPLETED, True),
        (Origin.CALLBACK, EnvelopeStatus.COMPLETED, False),
        (Origin.CALLBACK, EnvelopeStatus.REJECTED, True),
        (Origin.CALLBACK, EnvelopeStatus.REJECTED, False),
        (Origin.IMPORT, EnvelopeStatus.COMPLETED, True),
        (Origin.IMPORT, EnvelopeStatus.COMPLETED, False),
        (Origin.MANUAL, EnvelopeStatus.COMPLETED, False),
    ],
)
@pytest.mark.parametrize("is_sending_known", [False, True])
async def test_an_event_that_may_have_been_created_again_deletes_nothing_if_its_archive_returns_no_files(
    tmp_path: Path, origin: Origin, status: EnvelopeStatus, is_time_known: bool, is_sending_known: bool
) -> None:
    """Any client with the address of the callback creates an event at any time."""
    spec: dict[str, Any] = {"statuses": ["Completed", "Rejected"]}
    scene = ReconcilerScene(tmp_path, cleanup={"policy": "Keep"}, **spec)
    scene.envelope.status = status
    finished(scene, scene.clock.now() if is_time_known else None)
    was_sent(scene, scene.clock.now() if is_sending_known else None)
    async with a_checksum_archive(scene):
        list_files(scene, document(1, 1), legal=("legal-1",))
        assert (await scene.reconcile()).status.reason == "ArchivedAndKept"
        cleanup = {"policy": "Delete", "after": "1h"}
        scene.observe(an_organization(version=2, cleanup=cleanup, **spec))
        scene.clock.advance(days=34)
        let_it_be_created_again(scene, origin)
        list_files(scene, document(1, 1))
        kept = (await scene.reconcile()).status
        assert (kept.phase, kept.reason) == (Phase.SUCCEEDED, "ArchivedAndKept")
        assert UNKNOWN_EARLIER in (kept.message or "")
        assert (await retried_by_a_person(scene)).status.reason == "ArchivedAndKept"
    assert scene.envelope.transport.deleted == []


@pytest.mark.parametrize(
    ("origin", "status", "finished_hours", "sent_hours"),
    [
        (Origin.CALLBACK, EnvelopeStatus.COMPLETED, None, 71),
        (Origin.CALLBACK, EnvelopeStatus.COMPLETED, 71, 1000),
        (Origin.CALLBACK, EnvelopeStatus.REJECTED, 71, 1000),
        (Origin.CALLBACK, EnvelopeStatus.REJECTED, None, 71),
        (Origin.SWEEP, EnvelopeStatus.COMPLETED, 6, None),
        (Origin.IMPORT, EnvelopeStatus.COMPLETED, 71, 1000),
        (Origin.IMPORT, EnvelopeStatus.REJECTED, None, 71),
    ],
)
async def test_the_first_event_of_an_envelope_deletes_it_also_if_its_archive_returns_no_files(
    tmp_path: Path,
    origin: Origin,
    status: EnvelopeStatus,
    finished_hours: int | None,
    sent_hours: int | None,
) -> None:
    """No event is removed within 72 hours. An envelope ends after its sending and after each of its steps."""
    scene = ReconcilerScene(
        tmp_path,
        an_event().by(origin),
        cleanup={"policy": "Delete", "after": "168h"},
        statuses=["Completed", "Rejected"],
    )
    now, scene.envelope.status = scene.clock.now(), status
    finished(scene, None if finished_hours is None else now - timedelta(hours=finished_hours))
    was_sent(scene, None if sent_hours is None else now - timedelta(hours=sent_hours))
    async with a_checksum_archive(scene):
        assert (await scene.reconcile()).status.reason == "CleanupDelayed"
        scene.clock.advance(hours=168)
        scene.restarted()
        await scene.reconcile(2)
        assert scene.newest().status.reason == "ArchivedAndDeleted"


async def test_files_that_an_archive_does_not_return_are_not_said_to_be_read_back(tmp_path: Path) -> None:
    scene = ReconcilerScene(tmp_path, cleanup={"policy": "Keep"})
    async with a_checksum_archive(scene) as system:
        archived = find_condition((await scene.reconcile()).status.conditions, "Archived")
    assert archived is not None
    assert archived.reason == "FilesVerified"
    assert "read back" not in archived.message
    assert "SHA-256" in archived.message
    assert system.filed


async def test_an_event_that_a_person_held_for_long_replaces_no_manifest_that_its_archive_does_not_return(
    tmp_path: Path,
) -> None:
    """Another event of the envelope archived a file that came late, and was removed since."""
    actions = [{"action": each, "handling": "Archive"} for each in ("envelopeFinished", "workstepFinished")]
    scene = ReconcilerScene(tmp_path, actions=actions, cleanup={"policy": "Delete", "after": "1h"})
    was_sent(scene, scene.clock.now())
    async with a_checksum_archive(scene) as system:
        assert (await scene.reconcile()).status.reason == "CleanupDelayed"
        scene.kube.edit(EnvelopeEvent, scene.event.name, {"spec": {"suspend": True}})
        await scene.reconcile()
        first = scene.event
        scene.event = an_event().for_action("workstepFinished").labelled(SENDER_LABEL, "anna").build()
        scene.kube.put(scene.event)
        list_files(scene, document(1, 1), legal=("legal-1",))
        await scene.reconcile()
        scene.clock.advance(hours=3)
        assert (await scene.reconcile()).status.reason == "ArchivedAndKept"
        del scene.kube.objects[EnvelopeEvent.PLURAL, scene.event.name]
        scene.event, stored = first, dict(system.filed)
        list_files(scene, document(1, 1))
        scene.clock.advance(days=34)
        scene.restarted()
        scene.kube.edit(EnvelopeEvent, first.name, {"spec": {"suspend": False}})
        await scene.reconcile(2)
        kept = scene.newest().status
        assert kept.reason == "ArchivedAndKept"
        assert UNKNOWN_EARLIER in (kept.message or "")
        assert system.filed == stored
    assert scene.envelope.transport.deleted == []

"""An archived envelope gets its copies before it is deleted."""

import asyncio
import dataclasses
import importlib
import json
from collections.abc import AsyncGenerator, Collection
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from controller.mails.problem_tracking import failure_observation
from controller.reconcile.phases.repeated_archiving import MAX_MISMATCHES
from controller.reopening.fix_rules import archive_may_fix
from controller.scheduling.due import due_time
from counterfoil.archives.backend import ArchiveBackend
from counterfoil.archives.backends.filesystem import FilesystemBackend
from counterfoil.archives.copies.original import OriginalChanged, OriginalUnread
from counterfoil.archives.errors import ArchiveUnavailable
from counterfoil.archives.proof import missing_copies
from counterfoil.cli.plugin.why import explain
from counterfoil.esaw.errors import EsawUnreachable
from counterfoil.resources import (
    SENDER_LABEL,
    Archive,
    EnvelopeEvent,
    EnvelopeStatus,
    OrganizationSpec,
    Phase,
    RetrySpec,
    Sender,
    find_condition,
)
from counterfoil.resources.envelopeevent import MAX_COPIES
from counterfoil.resources.reopening import reopened_status, status_for_copying
from counterfoil.resources.routes import listed_copies, possible_archives, stored_copy
from counterfoil.signatures.results import Signatures, State
from tests.support.builders import ENVELOPE, a_sender, an_event, known_to_work
from tests.support.fakes.reconcile_context import a_probed_archive, an_archive
from tests.support.scenes.copied_events import MIRROR, OPTIONAL, PATH, WORM, CopiedScene, copied
from tests.support.scenes.reconciler import ReconcilerScene

COPY = ["audit-trail.pdf", "counterfoil.json", "counterfoil.sha256", "file-1.pdf"]


def state(event: EnvelopeEvent) -> tuple[Phase, str | None]:
    return event.status.phase, event.status.reason


async def test_an_envelope_is_archived_and_copied_and_then_deleted_in_one_run(tmp_path: Path) -> None:
    scene = CopiedScene(tmp_path)
    seen: list[list[str]] = []
    scene.envelope.transport.just_before = lambda: seen.append(scene.files("worm"))

    event = await scene.reconcile()

    assert state(event) == (Phase.SUCCEEDED, "ArchivedAndDeleted")
    assert scene.files("worm") == COPY
    assert seen == [COPY], "the copy was complete before the delete"
    copy = stored_copy(event.status, "worm")
    assert copy.verified_time == scene.clock.now()
    assert copy.manifest == f"file://{scene.folders['worm']}/acme/{ENVELOPE}/counterfoil.json"
    assert copied(event) == ("True", "CopiesVerified")


async def test_the_manifest_of_the_copy_names_its_original(tmp_path: Path) -> None:
    scene = CopiedScene(tmp_path)
    event = await scene.reconcile()

    (manifest,) = scene.folders["worm"].rglob("counterfoil.json")
    extra = json.loads(manifest.read_text())["extra"]
    assert event.status.archive is not None
    assert extra["archive"] == "worm"
    assert extra["original"]["manifest"] == event.status.archive.manifest


async def test_both_manifests_say_the_same_about_the_event(tmp_path: Path) -> None:
    scene = CopiedScene(tmp_path, builder=an_event().of_workstep("w-1"))
    await scene.reconcile()

    original, copy = (
        json.loads(next(scene.folders[name].rglob("counterfoil.json")).read_text())["extra"]["event"]
        for name in ("dms", "worm")
    )
    assert original["workstep"] == "w-1"
    assert copy == original


async def test_an_organization_without_copies_stores_no_more_than_before(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    scene = ReconcilerScene(tmp_path / "plain", cleanup={"policy": "Delete"})
    event = await scene.reconcile()
    assert find_condition(event.status.conditions, "Copied") is None
    assert event.status.copies == ()
    assert scene.slots == []


async def test_the_copy_takes_the_share_of_the_archive_that_it_goes_to(tmp_path: Path) -> None:
    scene = CopiedScene(tmp_path)
    event = await scene.reconcile()
    assert scene.slots == [(event.name, "worm"), (event.name, "dms")]


async def test_a_copy_that_is_down_delays_no_archiving_and_holds_the_delete(tmp_path: Path) -> None:
    scene = CopiedScene(tmp_path)
    scene.break_archive("worm")

    event = await scene.reconcile_until_quiet()

    assert event.status.phase is Phase.COPYING
    archived = find_condition(event.status.conditions, "Archived")
    assert archived is not None
    assert archived.status == "True"
    assert "file-1.pdf" in scene.files("dms")
    assert scene.deleted == []
    assert stored_copy(event.status, "worm").attempts == 1

    scene.mend_archive("worm")
    event = await scene.retried()
    assert state(event) == (Phase.SUCCEEDED, "ArchivedAndDeleted")
    assert scene.files("worm") == COPY


async def test_a_copy_that_is_down_does_not_stop_another_one(tmp_path: Path) -> None:
    scene = CopiedScene(tmp_path, WORM, MIRROR)
    scene.break_archive("worm")
    event = await scene.reconcile_until_quiet()

    assert stored_copy(event.status, "mirror").verified_time is not None
    assert stored_copy(event.status, "worm").verified_time is None
    assert scene.files("mirror") == COPY
    assert possible_archives(event, scene.organization.spec) == {"dms", "worm", "mirror"}
    assert scene.cache.problem_archive(event) == "worm"


async def test_a_copy_whose_archive_is_suspended_does_not_stop_another_one(tmp_path: Path) -> None:
    scene = CopiedScene(tmp_path, WORM, MIRROR)
    scene.change_archive("worm", suspend=True)
    scene.break_archive("mirror")
    event = await scene.reconcile_until_quiet()
    assert state(event) == (Phase.COPYING, "ArchiveRootMissing")
    assert stored_copy(event.status, "worm").reason == "ArchiveSuspended"
    scene.mend_archive("mirror")

    event = await scene.retried()

    assert scene.files("mirror") == COPY
    assert state(event) == (Phase.COPYING, "ArchiveSuspended")
    assert due_time(event, scene.cache, scene.clock.now()) is None
    scene.change_archive("worm")
    assert state(await scene.reconcile_until_quiet()) == (Phase.SUCCEEDED, "ArchivedAndDeleted")


async def test_the_condition_of_the_copies_names_no_copy_that_was_made_since(tmp_path: Path) -> None:
    scene = CopiedScene(tmp_path, WORM, MIRROR)
    scene.change_archive("worm", suspend=True)
    scene.break_archive("mirror")
    before = await scene.reconcile_until_quiet()
    assert copied(before) == ("False", "ArchiveRootMissing")
    scene.mend_archive("mirror")

    event = await scene.retried()

    assert stored_copy(event.status, "mirror").verified_time is not None
    assert state(event) == (Phase.COPYING, "ArchiveSuspended")
    assert copied(event) == ("False", "ArchiveSuspended")


async def test_a_copy_that_can_not_be_made_is_reported_beside_one_that_is_suspended(tmp_path: Path) -> None:
    scene = CopiedScene(tmp_path, WORM, MIRROR)
    scene.change_archive("worm", suspend=True)
    taken = scene.folders["mirror"] / "acme" / ENVELOPE / "counterfoil.json"
    taken.parent.mkdir(parents=True)
    taken.write_text("of another program")

    event = await scene.reconcile_until_quiet()

    assert state(event) == (Phase.FAILED, "NameOccupied")


async def test_a_suspended_copy_of_a_removed_archive_does_not_run_without_end(tmp_path: Path) -> None:
    scene = CopiedScene(tmp_path)
    scene.break_archive("worm")
    await scene.reconcile_until_quiet()
    scene.mend_archive("worm")
    scene.change_archive("worm", suspend=True)
    scene.cache.delete(Archive, "dms", 99)

    event = await scene.reconcile_until_quiet()

    assert state(event) == (Phase.COPYING, "ArchiveSuspended")


async def test_what_fails_in_a_copy_names_the_archive_of_the_copy(tmp_path: Path) -> None:
    scene = CopiedScene(tmp_path, retry={"initial": "1s", "max": "1s", "deadline": "1m"})
    scene.break_archive("worm")
    await scene.reconcile_until_quiet()
    scene.clock.advance(minutes=2)
    failed = await scene.reconcile_until_quiet()

    assert (failed.status.phase, failed.status.cause) == (Phase.FAILED, "ArchiveRootMissing")
    found = failure_observation(failed, scene.cache.problem_archive(failed))
    assert found.cause == "failed/ArchiveRootMissing/worm"


async def test_an_optional_copy_holds_no_delete(tmp_path: Path) -> None:
    scene = CopiedScene(tmp_path, OPTIONAL)
    scene.break_archive("worm")
    event = await scene.reconcile_until_quiet()

    assert state(event) == (Phase.SUCCEEDED, "ArchivedAndDeleted")
    assert copied(event) == ("False", "OptionalCopyMissing")
    copy = stored_copy(event.status, "worm")
    assert (copy.attempts, copy.next_attempt_time) == (1, scene.clock.now() + timedelta(seconds=10))


async def test_no_key_is_needed_for_a_copy(tmp_path: Path) -> None:
    scene = CopiedScene(tmp_path)
    scene.break_archive("worm")
    await scene.reconcile_until_quiet()
    scene.mend_archive("worm")
    scene.cache.delete(Sender, "anna", 99)
    asked = len(scene.envelope.asked)
    scene.clock.advance(minutes=1)

    event = await scene.reconcile()

    assert scene.files("worm") == COPY
    assert event.status.phase is Phase.CLEANING
    assert len(scene.envelope.asked) == asked


async def test_a_restart_in_mid_copy_continues_there(tmp_path: Path) -> None:
    scene = CopiedScene(tmp_path)
    scene.break_archive("worm")
    await scene.reconcile_until_quiet()
    scene.mend_archive("worm")
    scene.restarted()

    event = await scene.retried()

    assert state(event) == (Phase.SUCCEEDED, "ArchivedAndDeleted")
    assert await scene.faults("worm") == []


async def test_a_delete_that_is_due_later_reads_the_copy_again(tmp_path: Path) -> None:
    scene = CopiedScene(tmp_path, cleanup={"policy": "Delete", "after": "1h"})
    event = await scene.reconcile_until_quiet()
    assert state(event) == (Phase.CLEANING, "CleanupDelayed")
    scene.restarted()
    (document,) = scene.folders["worm"].rglob("file-1.pdf")
    document.write_bytes(b"changed")

    event = await scene.retried()

    assert state(event) == (Phase.CLEANING, "CopyChanged")
    assert scene.deleted == []
    event = await scene.retried()
    assert state(event) == (Phase.SUCCEEDED, "ArchivedAndDeleted")
    assert await scene.faults("worm") == []


async def with_a_copy_that_is_damaged_too_often(folder: Path) -> CopiedScene:
    """Let a file of a copy be lost before the delete, after as many changes as are repeated."""
    scene = CopiedScene(folder, cleanup={"policy": "Delete", "after": "1h"})
    event = await scene.reconcile_until_quiet()
    scene.store(replace(event.status, mismatches=MAX_MISMATCHES))
    scene.restarted()
    (document,) = scene.folders["worm"].rglob("file-1.pdf")
    document.unlink()
    return scene


async def test_a_copy_that_was_damaged_too_often_is_not_proved_any_more(tmp_path: Path) -> None:
    scene = await with_a_copy_that_is_damaged_too_often(tmp_path)

    event = await scene.retried()

    assert state(event) == (Phase.FAILED, "FilesKeepChanging")
    organization = scene.cache.organizations.get("acme")
    assert organization is not None
    assert missing_copies(event.status, organization.spec.copies) == ("worm",)
    assert stored_copy(event.status, "worm").manifest is not None, "the next copy may replace its files"
    assert copied(event) == ("Unknown", "CopiesPending")
    assert "archived or copied again" in (event.status.message or "")


async def test_a_retry_makes_such_a_copy_again_also_if_the_envelope_is_kept_by_then(tmp_path: Path) -> None:
    scene = await with_a_copy_that_is_damaged_too_often(tmp_path)
    event = await scene.retried()
    scene.change(WORM, cleanup={"policy": "Keep"})
    message, now = "A person retries it.", scene.clock.now()
    scene.store(reopened_status(event.status, reason="RetryRequested", message=message, now=now))

    event = await scene.reconcile_until_quiet()

    assert state(event) == (Phase.SUCCEEDED, "ArchivedAndKept")
    assert await scene.faults("worm") == []


async def test_nothing_is_deleted_while_a_copy_can_not_be_read(tmp_path: Path) -> None:
    scene = CopiedScene(tmp_path, cleanup={"policy": "Delete", "after": "1h"})
    await scene.reconcile_until_quiet()
    scene.restarted()
    scene.change_archive("worm", suspend=True)

    event = await scene.retried()

    assert state(event) == (Phase.CLEANING, "CopySuspended")
    assert scene.deleted == []
    scene.change_archive("worm")
    event = await scene.retried()
    assert state(event) == (Phase.SUCCEEDED, "ArchivedAndDeleted")


async def test_a_copy_that_a_person_adds_before_the_delete_is_made_first(tmp_path: Path) -> None:
    scene = CopiedScene(tmp_path, names=("worm", "mirror"), cleanup={"policy": "Delete", "after": "1h"})
    await scene.reconcile_until_quiet()
    scene.change(WORM, MIRROR)

    event = await scene.retried()
    assert state(event) == (Phase.CLEANING, "CopiesPending")
    assert scene.deleted == []
    event = await scene.retried()

    assert state(event) == (Phase.SUCCEEDED, "ArchivedAndDeleted")
    assert scene.files("mirror") == COPY


async def test_a_file_that_comes_late_goes_into_the_copy_as_well(tmp_path: Path) -> None:
    scene = CopiedScene(tmp_path, cleanup={"policy": "Delete", "after": "1h"})
    await scene.reconcile_until_quiet()
    scene.envelope.contents["legal-1"] = b"%PDF-legal"

    for _ in range(6):
        event = await scene.retried() if scene.newest().status.next_attempt_time else scene.newest()
        if event.status.phase.is_final:
            break

    assert state(event) == (Phase.SUCCEEDED, "ArchivedAndDeleted")
    assert "legal-1.pdf" in scene.files("worm")
    assert await scene.faults("worm") == []


async def test_a_copy_is_not_shown_as_verified_while_a_file_that_came_late_is_archived(
    tmp_path: Path,
) -> None:
    scene = CopiedScene(tmp_path, cleanup={"policy": "Keep"})
    await scene.reconcile_until_quiet()
    assert stored_copy(scene.newest().status, "worm").verified_time is not None
    scene.envelope.contents["legal-1"] = b"%PDF-legal"
    scene.store(
        reopened_status(scene.newest().status, reason="FilesListedLate", message="", now=scene.clock.now())
    )
    scene.envelope.problems["download legal-1"] = EsawUnreachable("timeout")
    event = await scene.reconcile_until_quiet()
    event = await scene.retried()

    assert state(event) == (Phase.ARCHIVING, "EsawUnreachable")
    (told,) = explain(event, scene.newest_organization, None, (), scene.clock.now()).copies
    assert told.startswith("Archive/worm, missing: not tried yet")

    scene.envelope.problems.clear()
    event = await scene.retried()
    assert copied(event) == ("True", "CopiesVerified")
    assert "legal-1.pdf" in scene.files("worm")


async def test_a_suspended_copy_waits_without_attempts(tmp_path: Path) -> None:
    scene = CopiedScene(tmp_path)
    scene.change_archive("worm", suspend=True)

    event = await scene.reconcile_until_quiet()

    assert state(event) == (Phase.COPYING, "ArchiveSuspended")
    assert due_time(event, scene.cache, scene.clock.now()) is None
    assert stored_copy(event.status, "worm").attempts == 0
    scene.change_archive("worm")
    event = await scene.reconcile_until_quiet()
    assert state(event) == (Phase.SUCCEEDED, "ArchivedAndDeleted")


@pytest.mark.parametrize("is_restarted", [False, True])
async def test_a_suspended_sender_holds_the_copies_of_its_events_also_after_a_restart(
    tmp_path: Path, *, is_restarted: bool
) -> None:
    scene = CopiedScene(tmp_path)
    scene.break_archive("worm")
    await scene.reconcile_until_quiet()
    scene.mend_archive("worm")
    scene.observe(known_to_work(a_sender(version=60, suspend=True)))
    if is_restarted:
        scene.cache.forget_sender(scene.event.name)

    event = await scene.reconcile_until_quiet()

    assert state(event) == (Phase.COPYING, "SenderSuspended")
    assert scene.files("worm") == []
    scene.observe(known_to_work(a_sender(version=70)))
    assert state(await scene.reconcile_until_quiet()) == (Phase.SUCCEEDED, "ArchivedAndDeleted")


async def test_a_copy_in_backoff_whose_archive_is_suspended_does_not_run_without_end(tmp_path: Path) -> None:
    scene = CopiedScene(tmp_path)
    scene.break_archive("worm")
    await scene.reconcile_until_quiet()
    scene.mend_archive("worm")
    scene.change_archive("worm", suspend=True)
    event = await scene.reconcile_until_quiet()
    assert state(event) == (Phase.COPYING, "ArchiveSuspended")


async def test_an_archive_that_is_missing_is_a_copy_that_is_down(tmp_path: Path) -> None:
    scene = CopiedScene(tmp_path, MIRROR, names=("worm",))
    event = await scene.reconcile_until_quiet()
    assert state(event) == (Phase.COPYING, "ArchiveMissing")
    assert "file-1.pdf" in scene.files("dms")


async def test_a_changed_original_is_archived_again_and_not_copied(tmp_path: Path) -> None:
    scene = CopiedScene(tmp_path)
    scene.break_archive("worm")
    await scene.reconcile_until_quiet()
    scene.mend_archive("worm")
    (document,) = scene.folders["dms"].rglob("file-1.pdf")
    whole = document.read_bytes()
    document.write_bytes(b"changed")

    event = await scene.retried()
    assert state(event) == (Phase.COPYING, "ArchivedFilesChanged")
    assert "file-1.pdf" not in scene.files("worm")
    event = await scene.retried()

    assert state(event) == (Phase.SUCCEEDED, "ArchivedAndDeleted")
    assert document.read_bytes() == whole
    assert await scene.faults("worm") == []


@pytest.mark.parametrize("name", ["../other/secret.pdf", "/etc/passwd", "a/../../../secret.pdf", "a\0b"])
async def test_a_name_that_leads_out_of_the_folder_of_the_original_is_as_a_file_that_is_missing(
    tmp_path: Path, name: str
) -> None:
    scene = CopiedScene(tmp_path)
    scene.break_archive("worm")
    await scene.reconcile_until_quiet()
    scene.mend_archive("worm")
    (manifest,) = scene.folders["dms"].rglob("counterfoil.json")
    claim = json.loads(manifest.read_bytes())
    claim["files"].append({**claim["files"][0], "fileID": "file-9", "name": name})
    manifest.write_text(json.dumps(claim), encoding="utf-8")

    event = await scene.retried()

    assert state(event) == (Phase.COPYING, "ArchivedFilesChanged")
    assert "leads out of the folder" in str(event.status.message)
    assert repr(name)[1:] in str(event.status.message)


FAULTS: dict[str, dict[str, Any]] = {
    "the place of the original": {"filesystem": {"root": "ROOT"}, "path": None},
    "a tag that the original lacks": {"tags": {"area": {"xpath": "//area", "required": True}}},
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_what_can_never_work_is_said_before_the_first_document_moves(
    tmp_path: Path, fault: str
) -> None:
    scene = CopiedScene(tmp_path)
    spec = dict(FAULTS[fault])
    if "filesystem" in spec:
        archive = an_archive("worm", version=9, generation=9, filesystem={"root": str(scene.folders["dms"])})
        scene.observe(archive)
    else:
        scene.change_archive("worm", **spec)

    event = await scene.reconcile_until_quiet()

    assert event.status.reason == "CopyInvalid"
    assert scene.files("dms") == []
    assert "Archive/worm" in (event.status.message or "")
    scene.observe(a_probed_archive("worm", root=scene.folders["worm"], path=PATH, version=10, generation=10))
    event = await scene.retried()
    assert state(event) == (Phase.SUCCEEDED, "ArchivedAndDeleted")


async def test_what_can_never_work_stops_no_archiving_if_the_copy_is_not_required(tmp_path: Path) -> None:
    scene = CopiedScene(tmp_path, OPTIONAL)
    scene.change_archive("worm", tags={"area": {"xpath": "//area", "required": True}})

    event = await scene.reconcile_until_quiet()

    assert state(event) == (Phase.SUCCEEDED, "ArchivedAndDeleted")
    assert copied(event) == ("False", "OptionalCopyMissing")
    assert stored_copy(event.status, "worm").reason == "CopyInvalid"


async def test_the_archive_of_a_copy_may_be_what_a_person_corrects_before_the_archiving(
    tmp_path: Path,
) -> None:
    scene = CopiedScene(tmp_path)
    scene.change_archive("worm", tags={"area": {"xpath": "//area", "required": True}})
    event = await scene.reconcile_until_quiet()
    assert event.status.reason == "CopyInvalid"
    assert scene.cache.may_use(event, "worm")

    for _ in range(60):
        if event.status.phase.is_final:
            break
        event = await scene.retried()

    assert state(event) == (Phase.FAILED, "DeadlineExceeded")
    assert possible_archives(event, scene.organization.spec) == {"dms", "worm"}


async def test_a_mail_names_the_archive_of_the_copy_that_fails(tmp_path: Path) -> None:
    scene = CopiedScene(tmp_path)
    scene.break_archive("worm")
    event = await scene.reconcile_until_quiet()
    for _ in range(60):
        if event.status.phase.is_final:
            break
        event = await scene.retried()

    assert (event.status.phase, event.status.cause) == (Phase.FAILED, "ArchiveRootMissing")
    found = failure_observation(event, scene.cache.problem_archive(event))
    assert found.cause == "failed/ArchiveRootMissing/worm"


async def test_the_first_archive_is_named_if_it_fails_while_a_copy_is_made(tmp_path: Path) -> None:
    scene = CopiedScene(tmp_path)
    scene.break_archive("worm")
    await scene.reconcile_until_quiet()
    scene.mend_archive("worm")
    scene.break_archive("dms")

    event = await scene.retried()

    assert state(event) == (Phase.COPYING, "ArchiveRootMissing")
    assert "It is made from Archive/dms, which can't be read: " in (event.status.message or "")
    assert scene.cache.problem_archive(event) == "dms"
    assert stored_copy(event.status, "worm").attempts == 1
    labels = {"archive": "worm", "outcome": "failed", "reason": "ArchiveRootMissing"}
    assert scene.metric("copies_total", **labels) == 1, "of the first attempt"
    assert event.status.next_attempt_time is not None
    assert event.status.next_attempt_time > scene.clock.now()

    scene.mend_archive("dms")
    assert state(await scene.retried()) == (Phase.SUCCEEDED, "ArchivedAndDeleted")


async def test_an_optional_copy_names_the_first_archive_that_fails(tmp_path: Path) -> None:
    scene = CopiedScene(tmp_path, OPTIONAL, cleanup={"policy": "Delete", "after": "720h"})
    scene.break_archive("worm")
    await scene.reconcile_until_quiet()
    scene.mend_archive("worm")
    scene.break_archive("dms")
    again = status_for_copying(
        scene.newest().status, reason="CopyRequested", message="", now=scene.clock.now()
    )
    scene.store(again)

    event = await scene.reconcile()

    assert copied(event) == ("False", "CopyMissing")
    assert "made from Archive/dms" in (stored_copy(event.status, "worm").message or "")


CLOSED = ArchiveUnavailable("ArchiveUnreachable", "Archive/dms: the WebDAV server could not be reached.")


def fail_original_while_written(
    monkeypatch: pytest.MonkeyPatch, name: str, problem: Exception = CLOSED
) -> None:
    """Let the server of the first archive close its connection while this copy is written."""
    module = importlib.import_module("controller.reconcile.phases.copy")
    write_copy = module.write_copy

    async def written(source: ArchiveBackend, target: ArchiveBackend, *others: Any, **named: Any) -> str:
        if f"/{name}/" not in target.location("x"):
            location: str = await write_copy(source, target, *others, **named)
            return location
        raise OriginalUnread(problem)

    monkeypatch.setattr(module, "write_copy", written)


@pytest.mark.parametrize("is_required", [True, False])
async def test_a_copy_during_which_the_first_archive_fails_stops_no_other_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_required: bool
) -> None:
    scene = CopiedScene(tmp_path, {**MIRROR, "required": is_required}, WORM)
    fail_original_while_written(monkeypatch, "mirror")

    event = await scene.reconcile_until_quiet()

    assert stored_copy(event.status, "worm").verified_time is not None
    failed = stored_copy(event.status, "mirror")
    assert (failed.reason, failed.attempts) == ("ArchiveUnreachable", 1)
    for each in ("Archive/dms could not be read", "while the copy in Archive/mirror was written"):
        assert each in (failed.message or "")
    assert (event.status.phase is Phase.COPYING) is is_required


async def test_the_recovery_of_either_archive_starts_an_event_whose_copy_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = CopiedScene(tmp_path, MIRROR, WORM)
    fail_original_while_written(monkeypatch, "mirror")
    while not scene.newest().status.phase.is_final:
        await scene.reconcile_until_quiet()
        scene.clock.advance(hours=2)

    event = scene.newest()

    assert (event.status.reason, event.status.cause) == ("DeadlineExceeded", "ArchiveUnreachable")
    assert scene.files("worm") == COPY
    for name in ("dms", "mirror"):
        assert name in possible_archives(event, scene.organization.spec)
        assert f"Archive/{name}" in (event.status.message or "")
    assert archive_may_fix(event.status.cause)


def fail_reads(monkeypatch: pytest.MonkeyPatch, file_name: str, *, times: int) -> list[str]:
    """Let the first reads of this file in the first archive fail; return the names that were read."""
    read, failed = FilesystemBackend.read, list[str]()

    async def broken(backend: FilesystemBackend, name: str) -> AsyncGenerator[bytes, None]:
        if "/dms/" in backend.location(name) and name.endswith(file_name) and len(failed) < times:
            failed.append(name)
            raise ArchiveUnavailable("ArchiveFailing", "Archive/dms: the server answered 500.")
        async for chunk in read(backend, name):
            yield chunk

    monkeypatch.setattr(FilesystemBackend, "read", broken)
    return failed


async def with_open_copies(scene: CopiedScene) -> CopiedScene:
    """Let the first archive have the files, and the Archives of all copies work after the first attempt."""
    names = [each["archiveRef"]["name"] for each in scene.copies]
    for each in names:
        scene.break_archive(each)
    await scene.reconcile_until_quiet()
    for each in names:
        scene.mend_archive(each)
    return scene


async def test_a_first_archive_that_does_not_return_a_file_is_named_and_no_copy_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = await with_open_copies(CopiedScene(tmp_path, WORM, MIRROR))
    fail_reads(monkeypatch, "file-1.pdf", times=1000)

    event = await scene.retried()

    assert state(event) == (Phase.COPYING, "ArchiveFailing")
    assert "It is made from Archive/dms, which can't be read: " in (event.status.message or "")
    assert scene.cache.problem_archive(event) == "dms"
    assert [stored_copy(event.status, each).attempts for each in ("worm", "mirror")] == [1, 1]
    failed = {"outcome": "failed", "reason": "ArchiveFailing"}
    assert scene.metric("copies_total", archive="worm", **failed) is None
    while not event.status.phase.is_final:
        event = await scene.retried()
    found = failure_observation(event, scene.cache.problem_archive(event))
    assert found.cause == "failed/ArchiveFailing/dms"


async def test_a_copy_is_named_if_the_first_archive_returns_the_file_to_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = await with_open_copies(CopiedScene(tmp_path))
    failed = fail_reads(monkeypatch, "file-1.pdf", times=1)

    event = await scene.retried()

    assert len(failed) == 1
    assert "while the copy in Archive/worm was written" in (event.status.message or "")
    assert stored_copy(event.status, "worm").attempts == 2


async def test_a_manifest_that_changed_during_the_copy_is_the_reason_of_its_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = CopiedScene(tmp_path)
    changed = OriginalChanged("/dms/counterfoil.json")
    fail_original_while_written(monkeypatch, "worm", changed)

    event = await scene.reconcile_until_quiet()

    assert state(event) == (Phase.COPYING, "ArchivedFilesChanged")
    assert "/dms/counterfoil.json was changed while it was copied." in (event.status.message or "")
    assert "slow" not in (event.status.message or "")


async def test_the_first_archive_is_named_if_the_run_ends_before_its_copies(tmp_path: Path) -> None:
    scene = CopiedScene(tmp_path)
    scene.break_archive("worm")
    await scene.reconcile_until_quiet()
    scene.cache.delete(Archive, "dms", 99)

    event = await scene.retried()

    assert state(event) == (Phase.COPYING, "ArchiveMissing")
    assert scene.cache.problem_archive(event) == "dms"
    assert (event.status.message or "").endswith(
        "and files of this event may be there. Create it again: no setting leads this event elsewhere."
    )


async def test_a_tag_that_the_original_lacks_is_made_not_required(tmp_path: Path) -> None:
    scene = CopiedScene(tmp_path)
    rule = {"jsonPath": "$.area"}
    root = scene.folders["dms"]
    scene.observe(a_probed_archive("dms", root=root, version=9, generation=9, tags={"area": rule}))
    scene.change_archive("worm", tags={"area": {**rule, "required": True}})

    event = await scene.reconcile_until_quiet()

    assert state(event) == (Phase.COPYING, "CopyTagMissing")
    # The first Archive defines it, and the envelope has no value.
    assert "Let the Archive of the original define it" not in (event.status.message or "")
    assert scene.files("worm") == []
    scene.change_archive("worm", tags={"area": rule})
    event = await scene.retried()
    assert state(event) == (Phase.SUCCEEDED, "ArchivedAndDeleted")


async def test_two_copies_at_one_place_are_refused(tmp_path: Path) -> None:
    scene = CopiedScene(tmp_path, WORM, MIRROR)
    root = {"root": str(scene.folders["worm"])}
    scene.observe(an_archive("mirror", version=9, generation=9, filesystem=root, path=PATH))
    event = await scene.reconcile_until_quiet()
    assert event.status.reason == "CopyInvalid"
    assert scene.files("dms") == []


async def test_a_copy_is_counted(tmp_path: Path) -> None:
    scene = CopiedScene(tmp_path)
    await scene.reconcile()
    assert scene.metric("copies_total", archive="worm", outcome="verified", reason="") == 1


async def test_an_event_with_an_older_proof_of_other_files_is_not_deleted(tmp_path: Path) -> None:
    scene = CopiedScene(tmp_path, cleanup={"policy": "Delete", "after": "1h"})
    event = await scene.reconcile_until_quiet()
    (copy,) = event.status.copies
    scene.store(replace(event.status, copies=(replace(copy, documents="0" * 64),)))

    event = await scene.retried()

    assert state(event) == (Phase.CLEANING, "CopiesPending")
    assert scene.deleted == []


async def test_a_status_has_room_for_the_entries_of_the_copies_that_are_wanted(tmp_path: Path) -> None:
    """The resource takes as many entries as an Organization has copies, and the Archives of copies change."""
    scene = CopiedScene(tmp_path)
    await scene.reconcile()
    names = ["worm"]
    for number in range(MAX_COPIES):
        name = f"worm-{number}"
        names.append(name)
        scene.add_archive(name)
        event = await copied_to(scene, name)

        assert state(event) == (Phase.SUCCEEDED, "ArchivedAndDeleted")
        assert [each.ref.name for each in event.status.copies] == names[-MAX_COPIES:]
        assert [each.ref.name for each in event.status.copies if each.verified_time is not None] == [name]
        assert [each.ref.name for each in listed_copies(event.status, spec_of(scene))] == [name]
        assert scene.files(name) == COPY
    scene.add_archive("other")
    event = await copied_to(scene, *names[-3:], "other")
    assert sorted(each.ref.name for each in event.status.copies) == sorted([*names[-3:], "other"])


async def copied_to(scene: CopiedScene, *names: str) -> EnvelopeEvent:
    """Let a person change the Archives of the copies, and ask for them."""
    scene.change(*({"archiveRef": {"name": each}} for each in names))
    status = scene.newest().status
    scene.store(status_for_copying(status, reason="Copy", message="", now=scene.clock.now()))
    return await scene.reconcile()


def spec_of(scene: CopiedScene) -> OrganizationSpec:
    organization = scene.cache.organizations.get("acme")
    assert organization is not None
    return organization.spec


async def test_a_copy_that_is_wanted_again_is_replaced_after_its_envelope_changed(tmp_path: Path) -> None:
    """There is no signing key here, so only the status shows whose files these are."""
    spec: dict[str, Any] = {"statuses": ["Completed", "Expired"], "cleanup": {"policy": "Keep"}}
    scene = CopiedScene(tmp_path, names=("worm", "mirror"), **spec)
    scene.envelope.status = EnvelopeStatus.EXPIRED
    await scene.reconcile_until_quiet()
    scene.change(MIRROR, **spec)
    scene.envelope.status = EnvelopeStatus.COMPLETED
    scene.envelope.contents["file-1"] = b"%PDF-contract SIGNED"
    again = reopened_status(
        scene.newest().status, reason="EnvelopeRestarted", message="", now=scene.clock.now()
    )
    scene.store(again)
    await scene.reconcile_until_quiet()
    event = await copied_to(scene, "worm", "mirror")

    assert copied(event) == ("True", "CopiesVerified")
    assert b"SIGNED" in b"".join(each.read_bytes() for each in scene.folders["worm"].rglob("file-1*"))


ATTEMPT = timedelta(seconds=8)
"""Time limit of an attempt by the real clock, so long that a loaded machine keeps it."""


class BusyScene(CopiedScene):
    """The limit of the Archive ``worm`` has no room: others copy there, slowly."""

    def __init__(self, folder: Path, *copies: dict[str, Any], **spec: Any) -> None:
        super().__init__(folder, *copies, **spec)
        self.change_archives(take_slot=self.take_slot)
        self.reconciler = dataclasses.replace(self.reconciler, attempt_timeout=ATTEMPT)

    async def take_slot(self, _: str, archive: str, longest: timedelta, before_wait: Any) -> bool:
        if archive == "worm":
            await asyncio.sleep(3600)
        return True


async def test_an_optional_copy_that_does_not_end_in_time_holds_no_delete(tmp_path: Path) -> None:
    scene = BusyScene(tmp_path, OPTIONAL)
    event = await scene.reconcile()

    assert state(event) == (Phase.SUCCEEDED, "ArchivedAndDeleted")
    assert copied(event) == ("False", "OptionalCopyMissing")
    assert stored_copy(event.status, "worm").reason == "AttemptOverdue"


async def test_a_copy_that_does_not_end_in_time_stops_no_other_one_and_is_named(tmp_path: Path) -> None:
    scene = BusyScene(tmp_path, WORM, MIRROR)
    event = await scene.reconcile()

    assert state(event) == (Phase.COPYING, "AttemptOverdue")
    assert "Archive/worm" in (event.status.message or "")
    assert stored_copy(event.status, "mirror").verified_time == scene.clock.now()
    assert scene.files("mirror") == COPY
    assert scene.deleted == []


class FullScene(CopiedScene):
    """The limits of some Archives have no room, and enough runs wait for it."""

    def __init__(self, folder: Path, *copies: dict[str, Any], full: Collection[str], **spec: Any) -> None:
        super().__init__(folder, *copies, **spec)
        self.full = set(full)
        self.change_archives(take_slot=self.take_slot)

    async def take_slot(self, event: str, archive: str, longest: timedelta, before_wait: Any) -> bool:
        self.slots.append((event, archive))
        return archive not in self.full


async def test_no_phase_begins_without_a_place_after_the_copies(tmp_path: Path) -> None:
    scene = FullScene(tmp_path, WORM, full={"dms"})
    event = await scene.reconcile()

    assert stored_copy(event.status, "worm").verified_time == scene.clock.now()
    assert event.status.phase is Phase.CLEANING
    assert (scene.deleted, event.status.next_attempt_time) == ([], None)

    scene.full.clear()
    assert state(await scene.reconcile()) == (Phase.SUCCEEDED, "ArchivedAndDeleted")


async def test_a_required_copy_without_room_ends_the_run_and_is_no_attempt(tmp_path: Path) -> None:
    scene = FullScene(tmp_path, WORM, MIRROR, full={"worm"})
    event = await scene.reconcile()

    assert state(event) == (Phase.COPYING, "WaitingForArchive")
    assert event.status.next_attempt_time == scene.clock.now(), "it is due, and waits in the queue"
    assert (event.status.attempts, stored_copy(event.status, "worm").attempts) == (0, 0)
    assert event.status.phase_start_time is None, "no deadline runs"
    assert stored_copy(event.status, "mirror").verified_time == scene.clock.now()
    assert scene.deleted == []

    scene.full.clear()
    event = await scene.reconcile_until_quiet()
    assert state(event) == (Phase.SUCCEEDED, "ArchivedAndDeleted")


async def test_a_copy_without_room_does_not_repeat_one_that_failed_at_once(tmp_path: Path) -> None:
    scene = FullScene(tmp_path, WORM, MIRROR, full={"mirror"})
    scene.break_archive("worm")

    event = await scene.reconcile_until_quiet()

    assert state(event) == (Phase.COPYING, "ArchiveRootMissing")
    assert event.status.next_attempt_time == stored_copy(event.status, "worm").next_attempt_time
    assert [stored_copy(event.status, each).attempts for each in ("worm", "mirror")] == [1, 0]

    scene.full.clear()
    event = await scene.retried()
    assert stored_copy(event.status, "mirror").verified_time == scene.clock.now()


async def test_a_copy_without_room_does_not_repeat_reads_of_a_first_archive_that_fails(
    tmp_path: Path,
) -> None:
    scene = FullScene(tmp_path, MIRROR, WORM, full={"mirror", "worm"})
    await scene.reconcile()
    scene.full.remove("worm")
    scene.break_archive("dms")

    event = await scene.reconcile()

    assert state(event) == (Phase.COPYING, "ArchiveRootMissing")
    assert stored_copy(event.status, "mirror").reason == "WaitingForArchive"
    assert stored_copy(event.status, "worm").next_attempt_time is None
    assert event.status.next_attempt_time is not None
    assert event.status.next_attempt_time > scene.clock.now()


WAITED: list[tuple[dict[str, Any], bool, str]] = [
    (WORM, True, "ArchiveSuspended"),
    (OPTIONAL, True, "ArchiveSuspended"),
    (WORM, False, "ArchiveMissing"),
]


@pytest.mark.parametrize(("wanted", "is_suspended", "reason"), WAITED)
async def test_no_copy_is_written_into_an_archive_that_a_person_suspended_or_deleted_during_the_wait(
    tmp_path: Path, wanted: dict[str, Any], reason: str, *, is_suspended: bool
) -> None:
    scene = CopiedScene(tmp_path, wanted)

    def change() -> None:
        if is_suspended:
            scene.change_archive("worm", suspend=True)
        else:
            scene.cache.archives.remove("worm")

    scene.is_archive_busy, scene.while_waiting = True, change
    event = await scene.reconcile()

    assert scene.files("worm") == []
    copy = stored_copy(event.status, "worm")
    assert (copy.reason, copy.attempts) == (reason, 0 if is_suspended else 1)
    if wanted is OPTIONAL:
        assert state(event) == (Phase.SUCCEEDED, "ArchivedAndDeleted")
        return
    assert state(event) == (Phase.COPYING, reason)
    assert scene.deleted == []


def recreate_worm(scene: CopiedScene, root: Path) -> None:
    """Let somebody delete the Archive of the copy, and create another one of its name."""
    scene.is_archive_busy = False
    archive = a_probed_archive("worm", root=root, marker_id="3" * 32, path=PATH, version=900, generation=9)
    scene.cache.archives.remove("worm")
    scene.observe(replace(archive, metadata=replace(archive.metadata, uid="another")))


@pytest.mark.parametrize("moment", ["the wait for its limit", "the question before it"])
async def test_a_copy_that_a_person_removes_is_not_written_after_a_wait(tmp_path: Path, moment: str) -> None:
    scene = CopiedScene(tmp_path)
    other = tmp_path / "other"
    other.mkdir()

    def change() -> None:
        scene.change()
        recreate_worm(scene, other)

    if moment == "the wait for its limit":
        scene.is_archive_busy, scene.while_waiting = True, change
    else:
        # The question before the last download of the phase Archiving.
        scene.envelope.meanwhile["files"] = change
    event = await scene.reconcile()

    assert state(event) == (Phase.COPYING, "WaitingForArchive")
    assert "Organization/acme names other Archives" in (event.status.message or "")
    assert (event.status.attempts, event.status.next_attempt_time) == (0, scene.clock.now())
    assert state(await scene.reconcile_until_quiet()) == (Phase.SUCCEEDED, "ArchivedAndDeleted")
    assert [each.name for each in other.rglob("*.pdf")] == scene.files("worm") == []


async def test_a_copy_whose_archive_is_created_again_during_the_wait_is_made_by_the_next_run(
    tmp_path: Path,
) -> None:
    scene = CopiedScene(tmp_path)
    scene.folders["other"] = tmp_path / "other"
    scene.folders["other"].mkdir()

    def change() -> None:
        recreate_worm(scene, scene.folders["other"])

    scene.is_archive_busy, scene.while_waiting = True, change
    event = await scene.reconcile()

    assert state(event) == (Phase.COPYING, "WaitingForArchive")
    assert stored_copy(event.status, "worm").attempts == 0
    assert (scene.files("worm"), scene.files("other")) == ([], [])
    assert state(await scene.reconcile_until_quiet()) == (Phase.SUCCEEDED, "ArchivedAndDeleted")
    assert scene.files("other") == COPY


async def test_an_optional_copy_without_room_holds_nothing_and_is_tried_again(tmp_path: Path) -> None:
    scene = FullScene(tmp_path, OPTIONAL, full={"worm"})
    event = await scene.reconcile()

    assert state(event) == (Phase.SUCCEEDED, "ArchivedAndDeleted")
    entry = stored_copy(event.status, "worm")
    assert (entry.reason, entry.attempts) == ("WaitingForArchive", 0), "that is no failed try"
    assert entry.next_attempt_time == scene.clock.now() + RetrySpec().max


async def test_an_optional_copy_whose_archive_is_created_again_during_the_wait_has_not_failed(
    tmp_path: Path,
) -> None:
    scene = CopiedScene(tmp_path, OPTIONAL)
    other = tmp_path / "other"
    other.mkdir()
    scene.is_archive_busy, scene.while_waiting = True, lambda: recreate_worm(scene, other)
    event = await scene.reconcile()

    entry = stored_copy(event.status, "worm")
    assert (entry.reason, entry.attempts) == ("WaitingForArchive", 0)


async def test_copies_that_can_not_be_read_for_lack_of_room_hold_the_delete(tmp_path: Path) -> None:
    scene = FullScene(tmp_path, WORM, full=(), cleanup={"policy": "Delete", "after": "1h"})
    await scene.reconcile()
    scene.full = {"worm"}
    scene.clock.advance(hours=2)
    event = await scene.reconcile()

    assert state(event) == (Phase.CLEANING, "WaitingForArchive")
    assert scene.deleted == []


async def test_a_delete_reads_the_copy_first_in_whose_archive_it_has_a_slot(tmp_path: Path) -> None:
    cleanup = {"policy": "Delete", "after": "1h"}
    scene = FullScene(tmp_path, WORM, MIRROR, full=(), cleanup=cleanup)
    await scene.reconcile()
    scene.full = {"worm"}
    scene.change_archives(has_slot=lambda _, archive: archive == "mirror")
    scene.clock.advance(hours=2)
    scene.slots.clear()
    event = await scene.reconcile()

    assert [archive for _, archive in scene.slots if archive in ("worm", "mirror")] == ["mirror", "worm"]
    assert state(event) == (Phase.CLEANING, "WaitingForArchive")


async def test_a_place_that_moves_to_another_copy_is_proved_again_for_both(tmp_path: Path) -> None:
    scene = CopiedScene(tmp_path, names=("worm",), cleanup={"policy": "Delete", "after": "1h"})
    await scene.reconcile_until_quiet()
    scene.folders["worm"], scene.folders["mirror"] = scene.folders["mirror"], scene.folders["worm"]
    scene.change_archive("worm")
    scene.change_archive("mirror")
    scene.change(WORM, MIRROR)

    for _ in range(4):
        event = await scene.retried()
        if event.status.phase.is_final:
            break

    assert state(event) == (Phase.SUCCEEDED, "ArchivedAndDeleted")
    assert (scene.files("worm"), scene.files("mirror")) == (COPY, COPY)


async def test_a_later_event_of_the_envelope_replaces_the_copy_of_an_earlier_one(tmp_path: Path) -> None:
    """Without a signing key, only the statuses tell that the copy is ours."""
    actions = [{"action": each, "handling": "Archive"} for each in ("envelopeExpired", "envelopeFinished")]
    scene = CopiedScene(tmp_path, actions=actions, statuses=["Completed", "Expired"])
    signed = scene.event
    expired = an_event().for_action("envelopeExpired").labelled(SENDER_LABEL, "anna").build()
    scene.kube.put(expired)
    scene.cache.update(expired)
    scene.envelope.status = EnvelopeStatus.EXPIRED
    scene.event = expired
    scene.change(WORM, cleanup={"policy": "Keep"})
    await scene.reconcile()
    assert "file-1.pdf" in scene.files("worm")

    scene.event = signed
    scene.envelope.status = EnvelopeStatus.COMPLETED
    scene.envelope.contents["file-1"] = b"%PDF-contract-signed"
    event = await scene.reconcile()

    assert stored_copy(event.status, "worm").verified_time is not None
    (document,) = scene.folders["worm"].rglob("file-1.pdf")
    assert document.read_bytes() == b"%PDF-contract-signed"


@pytest.mark.parametrize("text", ["AWordThatNobodyKnows", "no reason", ""])
async def test_a_text_in_place_of_the_reason_of_a_copy_is_neither_a_reason_of_the_event_nor_a_series(
    tmp_path: Path, text: str
) -> None:
    scene = CopiedScene(tmp_path, WORM, MIRROR)
    scene.break_archive("worm")
    scene.break_archive("mirror")
    status = (await scene.reconcile_until_quiet()).status
    worm, mirror = (stored_copy(status, name) for name in ("worm", "mirror"))
    later = scene.clock.now() + timedelta(minutes=50)
    copies = (replace(worm, reason=text, next_attempt_time=later), replace(mirror, next_attempt_time=None))
    scene.store(replace(status, copies=copies, next_attempt_time=None))

    event = await scene.reconcile_until_quiet()

    assert state(event) == (Phase.COPYING, "Unknown" if text else "CopyInvalid")
    assert scene.metric("attempts_total", phase="Copying", outcome="wait", reason=text) is None


CUT = b"%PDF-contr"


def cut_document(scene: CopiedScene) -> bytes:
    """Let eSignAnyWhere send a document that is cut; return the whole one."""
    whole, scene.envelope.contents["file-1"] = scene.envelope.contents["file-1"], CUT
    scene.examiner.found[CUT] = Signatures(state=State.UNREADABLE, detail="it is cut")
    return whole


@pytest.mark.parametrize("policy", ["Delete", "Keep"])
async def test_a_document_that_was_cut_once_never_comes_into_a_copy(tmp_path: Path, policy: str) -> None:
    """An archive that keeps what it has would refuse the whole document afterwards."""
    scene = CopiedScene(tmp_path, cleanup={"policy": policy})
    whole = cut_document(scene)

    event = await scene.reconcile()

    assert state(event) == (Phase.COPYING, "DocumentInDoubt")
    assert scene.files("worm") == []
    scene.envelope.contents["file-1"] = whole
    event = await scene.retried()
    assert event.status.phase is Phase.SUCCEEDED
    assert copied(event) == ("True", "CopiesVerified")
    (document,) = scene.folders["worm"].rglob("file-1.pdf")
    assert document.read_bytes() == whole


@pytest.mark.parametrize("policy", ["Delete", "Keep"])
async def test_a_document_that_stays_in_doubt_is_copied_as_it_was_archived(
    tmp_path: Path, policy: str
) -> None:
    scene = CopiedScene(tmp_path, cleanup={"policy": policy})
    cut_document(scene)
    await scene.reconcile()

    event = await scene.retried()

    assert state(event) == (Phase.FAILED, "DocumentInDoubt")
    assert copied(event) == ("True", "CopiesVerified")
    assert scene.envelope.asked.count("download file-1") == 2
    assert scene.files("worm") == COPY

"""An event that had succeeded makes further copies, and ends as before, also if one fails."""

from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from controller.mails.problem_tracking import (
    EventArchives,
    FailureSummary,
    awaited_failures,
    failing_copies,
)
from controller.requests.copies_import import CopyState, copy_state
from controller.requests.copy_requests import CopyRequests
from controller.requests.event_requests import EventRequests
from controller.resync.import_progress import tally
from controller.resync.statistics import ActivityCounter
from controller.scheduling.event_queue import EventQueue, concurrency_limits
from controller.scheduling.workqueue import WorkQueue
from counterfoil.archives.import_report.content import row_of_ended, row_of_known
from counterfoil.cli.plugin.why import explain
from counterfoil.esaw import HttpStatusError
from counterfoil.esaw.errors import EsawUnreachable
from counterfoil.kube.errors import Rejected
from counterfoil.resources import Archive, EnvelopeEvent, Phase, find_condition
from counterfoil.resources.conditions import with_changes
from counterfoil.resources.organization import EnvelopeStatus
from counterfoil.resources.reopening import (
    ARCHIVED_AS_EXPIRED,
    DELETION_ASSUMED,
    KEPT_FOR_SKIP,
    given_up_copies,
    is_reopened_by_retry,
    must_be_stored,
    retries_copies,
    status_for_copy_retry,
    takes_copies,
    takes_skip,
)
from counterfoil.resources.request import Request, RequestOutcome
from counterfoil.resources.routes import stored_copy
from tests.support.builders import NOON
from tests.support.fakes.reconcile_context import missing
from tests.support.scenes.copied_events import MIRROR, OPTIONAL, WORM, CopiedScene, copied
from tests.support.scenes.import_report import a_row

MOVED = "https://sign.acme.example"
HOOK = {"url": "https://crm.example.com/hook", "signingSecretRef": {"name": "hook", "key": "secret"}}


class FurtherScene(CopiedScene):
    """An event that succeeded before its Organization had a required copy in ``mirror``."""

    def __init__(self, folder: Path, **spec: Any) -> None:
        super().__init__(folder, names=("worm", "mirror"), **spec)

    async def ask(self) -> EnvelopeEvent:
        """Let a person ask for the copies, and a run follow."""
        await self.ask_only()
        return await self.reconcile_until_quiet()

    async def ask_only(self) -> None:
        """Let a person ask for the copies; the event waits for a place."""
        event = self.newest()
        result = await CopyRequests(self.cache, self.clock).copy(event, Request("copy"))
        assert result.change is not None, result.message
        self.store(result.change(event.status))

    async def request(self, name: str) -> RequestOutcome:
        """Let a person ask for a retry or a skip."""
        event = self.newest()
        result = await EventRequests(self.clock).types[name].handler(event, Request(name))
        if result.change is not None:
            self.store(result.change(event.status))
        return result.outcome


def end(event: EnvelopeEvent) -> tuple[object, ...]:
    """Return all that a further copy must not change."""
    status = event.status
    return (
        status.phase,
        status.reason,
        status.message,
        status.completion_time,
        status.next_attempt_time,
        status.notice,
        status.last_error,
        status.attempt_history,
    )


def summary_of(event: EnvelopeEvent, type_: str) -> tuple[str, str, str]:
    found = find_condition(event.status.conditions, type_)
    assert found is not None
    return found.status, found.reason, found.message


def listing_time(event: EnvelopeEvent) -> datetime:
    assert event.status.next_attempt_time is not None
    return event.status.next_attempt_time


@pytest.mark.parametrize("is_down", [False, True])
async def test_the_late_list_of_a_kept_envelope_stays_planned(tmp_path: Path, *, is_down: bool) -> None:
    scene = FurtherScene(tmp_path, cleanup={"policy": "Keep"}, evidence={"wait": "1h"})
    before = await scene.reconcile_until_quiet()
    assert listing_time(before) == NOON + timedelta(hours=1)
    scene.change(WORM, MIRROR)
    if is_down:
        scene.break_archive("mirror")

    after = await scene.ask()

    assert end(after) == end(before)
    assert copied(after) == (("False", "CopyMissing") if is_down else ("True", "CopiesVerified"))


async def test_a_further_copy_is_made_after_esignanywhere_moved(tmp_path: Path) -> None:
    scene = FurtherScene(tmp_path)
    before = await scene.reconcile_until_quiet()
    assert before.status.reason == "ArchivedAndDeleted"
    scene.change(WORM, MIRROR, baseURL=MOVED)

    after = await scene.ask()

    assert copied(after) == ("True", "CopiesVerified")
    assert await scene.faults("mirror") == []


async def test_esignanywhere_moves_while_an_event_waits_for_a_copy(tmp_path: Path) -> None:
    scene = CopiedScene(tmp_path)
    scene.break_archive("worm")
    assert (await scene.reconcile_until_quiet()).status.phase is Phase.COPYING
    scene.mend_archive("worm")
    scene.change(WORM, baseURL=MOVED)

    after = await scene.retried()

    assert after.status.reason == "ArchivedAndDeleted"
    assert await scene.faults("worm") == []


def suspend(scene: FurtherScene) -> None:
    scene.change_archive("mirror", suspend=True)


def suspend_organization(scene: FurtherScene) -> None:
    scene.change(WORM, MIRROR, suspend=True)


def remove_first_archive(scene: FurtherScene) -> None:
    scene.cache.delete(Archive, "dms", 99)


def rename_a_file(scene: FurtherScene) -> None:
    (document,) = scene.folders["dms"].rglob("file-1.pdf")
    document.rename(document.with_name("renamed.pdf"))


def make_copy_of_itself(scene: FurtherScene) -> None:
    scene.change({"archiveRef": {"name": "dms"}}, archiveRef={"name": "worm"})


def break_copy(scene: FurtherScene) -> None:
    scene.break_archive("mirror")


FAULTS = {
    "the Archive of the copy is down": (break_copy, "ArchiveRootMissing"),
    "the Archive of the copy is suspended": (suspend, "ArchiveSuspended"),
    "the Organization is suspended": (suspend_organization, "OrganizationSuspended"),
    "the first archive is removed": (remove_first_archive, "ArchiveMissing"),
    "a person renamed a file": (rename_a_file, "OriginalDiffers"),
    "the former archive is the copy": (make_copy_of_itself, "CopyInvalid"),
}


async def test_a_further_copy_without_room_has_not_failed(tmp_path: Path) -> None:
    """The Archive works, and has the load that an Import makes."""
    scene = FurtherScene(tmp_path)
    before = await scene.reconcile_until_quiet()
    scene.change(WORM, MIRROR)

    async def take_slot(_: str, archive: str, *__: object) -> bool:
        return archive != "mirror"

    scene.change_archives(take_slot=take_slot)
    began = scene.clock.now()
    event = await scene.ask()

    assert end(event) == end(before)
    entry, organization = stored_copy(event.status, "mirror"), scene.cache.organizations.get("acme")
    assert (entry.reason, entry.attempts) == ("WaitingForArchive", 0)
    assert organization is not None
    assert copy_state(event.status, organization, began) is CopyState.MISSING


async def test_the_copy_is_made_first_in_whose_archive_the_run_begins(tmp_path: Path) -> None:
    """To ask for another Archive, which is full, would give its place back."""
    scene = CopiedScene(tmp_path, {**WORM, "required": False}, {**MIRROR, "required": False})
    for each in ("worm", "mirror"):
        scene.break_archive(each)
    ended = await scene.reconcile_until_quiet()
    for each in ("worm", "mirror"):
        scene.mend_archive(each)
    asked = list[str]()

    async def take_slot(_: str, archive: str, *__: object) -> bool:
        asked.append(archive)
        return archive != "worm"

    scene.change_archives(take_slot=take_slot, has_slot=lambda _, archive: archive == "mirror")
    scene.store(status_for_copy_retry(ended.status, now=scene.clock.now()))
    event = await scene.reconcile_until_quiet()

    assert [each for each in asked if each != "dms"] == ["mirror", "worm"]
    assert stored_copy(event.status, "mirror").verified_time is not None
    assert stored_copy(event.status, "worm").reason == "WaitingForArchive"


@pytest.mark.parametrize("fault", FAULTS)
async def test_an_event_ends_as_before_if_its_further_copy_fails(tmp_path: Path, fault: str) -> None:
    scene = FurtherScene(tmp_path, webhook=HOOK)
    before = await scene.reconcile_until_quiet()
    assert before.status.reason == "ArchivedAndDeleted"
    assert before.status.notice is not None
    scene.change(WORM, MIRROR, webhook=HOOK)
    break_it, reason = FAULTS[fault]
    break_it(scene)
    scene.clock.advance(minutes=5)

    after = await scene.ask()

    assert end(after) == end(before)
    assert copied(after) == ("False", "CopyMissing")
    missing = "dms" if fault == "the former archive is the copy" else "mirror"
    assert stored_copy(after.status, missing).reason == reason


async def test_what_a_skip_added_to_the_end_stays_after_a_copy(tmp_path: Path) -> None:
    scene = FurtherScene(tmp_path, cleanup={"policy": "Keep"})
    event = await scene.reconcile_until_quiet()
    scene.store(replace(event.status, message=f"{event.status.message} {KEPT_FOR_SKIP}"))
    before = scene.newest()
    scene.change(WORM, MIRROR, cleanup={"policy": "Keep"})

    after = await scene.ask()

    assert end(after) == end(before)
    assert copied(after) == ("True", "CopiesVerified")


async def test_a_status_that_the_api_server_refuses_leaves_the_end(tmp_path: Path) -> None:
    scene = FurtherScene(tmp_path)
    before = await scene.reconcile_until_quiet()
    scene.change(WORM, MIRROR)
    scene.kube.fail("patch_status", Rejected(422, "Invalid", "no"))

    after = await scene.ask()

    assert end(after) == end(before)
    assert copied(after) == ("False", "CopyMissing")
    assert after.status.documents == before.status.documents


@pytest.mark.parametrize("name", ["retry", "skip"])
async def test_a_request_for_a_deleted_envelope_changes_nothing_while_its_copy_waits(
    tmp_path: Path, name: str
) -> None:
    scene = FurtherScene(tmp_path, webhook=HOOK)
    before = await scene.reconcile_until_quiet()
    scene.change(WORM, MIRROR, webhook=HOOK)
    scene.break_archive("mirror")
    await scene.ask_only()

    outcome = await scene.request(name)

    assert outcome is RequestOutcome.NOTHING_TO_DO
    assert not is_reopened_by_retry(scene.newest().status)
    assert not takes_skip(scene.newest().status)
    assert end(await scene.reconcile_until_quiet()) == end(before)


async def test_a_skip_of_a_kept_envelope_while_its_copy_waits_is_a_skip_of_its_end(tmp_path: Path) -> None:
    keep = {"cleanup": {"policy": "Keep"}, "evidence": {"wait": "1h"}}
    scene = FurtherScene(tmp_path, webhook=HOOK, **keep)
    before = await scene.reconcile_until_quiet()
    scene.change(WORM, MIRROR, webhook=HOOK, **keep)
    await scene.ask_only()

    assert await scene.request("skip") is RequestOutcome.DONE

    after = await scene.reconcile_until_quiet()
    phase, reason, message, *others = end(before)
    assert end(after) == (phase, reason, f"{message} {KEPT_FOR_SKIP}", *others)
    assert after.status.is_skipped_by_person
    assert copied(after) == ("True", "CopiesVerified")


@pytest.mark.parametrize("name", ["retry", "skip"])
async def test_the_answer_to_a_request_while_a_further_copy_waits_names_the_end(
    tmp_path: Path, name: str
) -> None:
    keep = {"cleanup": {"policy": "Keep"}}
    scene = FurtherScene(tmp_path, **keep)
    await scene.reconcile_until_quiet()
    scene.change(WORM, MIRROR, **keep)
    await scene.ask_only()

    result = await EventRequests(scene.clock).types[name].handler(scene.newest(), Request(name))

    assert result.message.startswith("The event was Succeeded")


async def test_a_retry_of_a_kept_envelope_while_its_copy_waits_does_not_wait_for_the_copy(
    tmp_path: Path,
) -> None:
    keep = {"cleanup": {"policy": "Keep"}}
    scene = FurtherScene(tmp_path, **keep)
    before = await scene.reconcile_until_quiet()
    scene.change(WORM, MIRROR, **keep)
    scene.break_archive("mirror")
    await scene.ask_only()

    assert await scene.request("retry") is RequestOutcome.DONE

    assert scene.newest().status.phase is Phase.PENDING
    after = await scene.reconcile_until_quiet()
    assert (after.status.phase, after.status.reason) == (before.status.phase, before.status.reason)
    assert copied(after) == ("False", "CopyMissing")


async def test_a_callback_about_an_assumed_deletion_while_its_copy_waits_starts_the_event(
    tmp_path: Path,
) -> None:
    scene = FurtherScene(tmp_path)
    event = await scene.reconcile_until_quiet()
    scene.clock.advance(hours=5)
    scene.store(replace(event.status, reason=DELETION_ASSUMED, message="It is not shown any more."))
    scene.change(WORM, MIRROR)
    await scene.ask_only()
    status, now = scene.newest().status, scene.clock.now()
    assert must_be_stored(status, received=now, now=now)
    scene.store(replace(status, deliveries=(status.deliveries or 0) + 1, last_delivery_time=now))

    after = await scene.reconcile()

    assert (after.status.phase, after.status.reason) == (Phase.PENDING, "Redelivered")
    assert stored_copy(after.status, "mirror").verified_time is not None


async def test_a_callback_before_an_assumed_deletion_starts_nothing_after_a_copy(tmp_path: Path) -> None:
    scene = FurtherScene(tmp_path)
    event = await scene.reconcile_until_quiet()
    status = replace(event.status, reason=DELETION_ASSUMED, last_delivery_time=scene.clock.now())
    scene.clock.advance(hours=5)
    scene.store(replace(status, attempt_history=(), completion_time=scene.clock.now()))
    scene.change(WORM, MIRROR)

    after = await scene.ask()

    assert (after.status.phase, after.status.reason) == (Phase.SUCCEEDED, DELETION_ASSUMED)


async def end_as_deletion_assumed(scene: FurtherScene) -> None:
    """Let one callback lead to a delete without an answer, whose effect no key may read."""
    called = scene.clock.now()
    received = {"deliveries": 1, "first_delivery_time": called, "last_delivery_time": called}
    scene.store(replace(scene.newest().status, **received))
    scene.envelope.but("delete", EsawUnreachable("timeout"))
    await scene.reconcile()
    scene.envelope.problems.clear()
    scene.envelope.deleted = True
    scene.envelope.problems["history"] = HttpStatusError(403, "ERR0010")
    while not scene.newest().status.phase.is_final:
        await scene.retried()
    assert scene.newest().status.reason == DELETION_ASSUMED


async def test_the_callback_that_an_assumed_deletion_considered_starts_nothing_after_a_copy(
    tmp_path: Path,
) -> None:
    scene = FurtherScene(tmp_path, webhook=HOOK)
    await end_as_deletion_assumed(scene)
    before = scene.newest()
    scene.clock.advance(days=20)
    scene.change(WORM, MIRROR, webhook=HOOK)

    after = await scene.ask()

    assert end(after) == end(before)
    assert copied(after) == ("True", "CopiesVerified")


@pytest.mark.parametrize("is_asked_again", [False, True])
async def test_a_callback_that_comes_while_a_copy_of_an_assumed_deletion_waits_starts_the_event(
    tmp_path: Path, *, is_asked_again: bool
) -> None:
    scene = FurtherScene(tmp_path)
    await end_as_deletion_assumed(scene)
    scene.clock.advance(days=20)
    scene.change(WORM, MIRROR)
    await scene.ask_only()
    scene.store(replace(scene.newest().status, deliveries=2, last_delivery_time=scene.clock.now()))
    if is_asked_again:
        await scene.ask_only()

    after = await scene.reconcile()

    assert (after.status.phase, after.status.reason) == (Phase.PENDING, "Redelivered")


async def test_a_copy_without_room_for_its_list_leaves_the_other_copies_as_they_are(tmp_path: Path) -> None:
    scene = FurtherScene(tmp_path)
    before = await scene.reconcile_until_quiet()
    scene.change(WORM, MIRROR)
    await scene.ask_only()
    event = scene.newest()

    after = await scene.reconciler.wait_for_room(
        replace(event, status=replace(event.status, documents=event.status.documents[:1]))
    )

    assert stored_copy(after.status, "worm") == stored_copy(before.status, "worm")
    assert stored_copy(after.status, "mirror").reason == "FileListCeiling"
    assert scene.newest().status.documents == before.status.documents


async def test_a_callback_starts_an_event_whose_copy_has_no_room_for_its_list(tmp_path: Path) -> None:
    scene = FurtherScene(tmp_path)
    await end_as_deletion_assumed(scene)
    before = scene.newest()
    scene.change(WORM, MIRROR)
    await scene.ask_only()
    scene.store(replace(scene.newest().status, deliveries=2, last_delivery_time=scene.clock.now()))
    event = scene.newest()

    after = await scene.reconciler.wait_for_room(
        replace(event, status=replace(event.status, documents=event.status.documents[:1]))
    )

    assert (after.status.phase, after.status.reason) == (Phase.PENDING, "Redelivered")
    assert scene.newest().status.documents == before.status.documents


@pytest.mark.parametrize("answer", ["it is deleted", "it refuses the key", "it is Completed"])
async def test_a_copy_that_is_tried_again_after_the_end_asks_esaw_nothing(
    tmp_path: Path, answer: str
) -> None:
    statuses = ["Completed", "Expired"]
    scene = CopiedScene(tmp_path, OPTIONAL, statuses=statuses, cleanup={"policy": "Delete"})
    scene.envelope.status = EnvelopeStatus.EXPIRED
    scene.break_archive("worm")
    before = await scene.reconcile_until_quiet()
    assert (before.status.phase, copied(before)) == (Phase.SUCCEEDED, ("False", "OptionalCopyMissing"))
    scene.mend_archive("worm")
    scene.clock.advance(hours=2)
    if answer == "it refuses the key":
        scene.envelope.problems["envelope"] = HttpStatusError(401, "ERR0001")
    elif answer == "it is deleted":
        scene.envelope.problems["envelope"] = missing()
    else:
        scene.envelope.status = EnvelopeStatus.COMPLETED
    asked = len(scene.envelope.asked)

    scene.store(status_for_copy_retry(before.status, now=scene.clock.now()))
    after = await scene.reconcile_until_quiet()

    assert len(scene.envelope.asked) == asked
    assert end(after) == end(before)
    assert copied(after) == ("True", "CopiesVerified")
    authorized = [find_condition(each.status.conditions, "Authorized") for each in (before, after)]
    assert authorized[1] == authorized[0]


def make_full(scene: FurtherScene) -> None:
    async def has_room(_event: str, archive: str, _longest: timedelta, _before: object) -> bool:
        return archive != "mirror"

    scene.change_archives(take_slot=has_room)


@pytest.mark.parametrize(
    ("hold", "reason"),
    [(make_full, "WaitingForArchive"), (suspend, "ArchiveSuspended"), (break_copy, "ArchiveRootMissing")],
)
async def test_requested_copies_that_wait_for_their_archive_stay_in_the_lowest_class(
    tmp_path: Path, hold: Callable[[FurtherScene], None], reason: str
) -> None:
    """Thousands of them must not come before the copies of a callback."""
    cleanup = {"policy": "Delete", "after": "720h"}
    scene = FurtherScene(tmp_path, cleanup=cleanup)
    await scene.reconcile_until_quiet()
    scene.change(WORM, MIRROR, cleanup=cleanup)
    scene.clock.advance(days=3)
    await scene.ask_only()
    hold(scene)
    work = WorkQueue(scene.clock, lambda: concurrency_limits(scene.cache, 9))
    queue = EventQueue(scene.cache, work, scene.clock)
    for _ in range(3):
        assert queue.is_background(scene.newest())
        event = await scene.reconcile()
        assert (event.status.phase, event.status.reason) == (Phase.COPYING, reason)
    assert queue.is_background(scene.newest())


class EndedScene(FurtherScene):
    """An archived event that ended without its delete, before its Organization had a copy in ``mirror``."""

    async def end(self) -> EnvelopeEvent:
        """Reconcile until the event has ended."""
        event = await self.reconcile_until_quiet()
        while not event.status.phase.is_final:
            event = await self.retried()
        return event


async def without_audit_trail(folder: Path) -> EndedScene:
    scene = EndedScene(folder, evidence={"wait": "10m"}, webhook=HOOK)
    del scene.envelope.contents["trail-1"]
    assert (await scene.end()).status.reason == "AuditTrailMissing"
    return scene


async def skipped_by_a_person(folder: Path) -> EndedScene:
    scene = EndedScene(folder, cleanup={"policy": "Delete", "after": "720h"}, webhook=HOOK)
    assert (await scene.reconcile_until_quiet()).status.reason == "CleanupDelayed"
    assert await scene.request("skip") is RequestOutcome.DONE
    assert scene.newest().status.reason == "SkippedByRequest"
    return scene


async def of_a_revoked_right(folder: Path) -> EndedScene:
    scene = EndedScene(folder, webhook=HOOK)
    scene.envelope.problems["history"] = HttpStatusError(403, "ERR0010")
    scene.envelope.but("delete", HttpStatusError(403, "ERR0010"))
    assert (await scene.end()).status.reason == "NotPermitted"
    return scene


UNDELETED = {
    "without an audit trail": without_audit_trail,
    "skipped by a person": skipped_by_a_person,
    "the delete is refused": of_a_revoked_right,
}


@pytest.mark.parametrize("is_down", [False, True])
@pytest.mark.parametrize("ended", UNDELETED)
async def test_an_event_that_ended_without_its_delete_gets_a_copy_that_was_added_later(
    tmp_path: Path, ended: str, *, is_down: bool
) -> None:
    scene = await UNDELETED[ended](tmp_path)
    before, asked = scene.newest(), list(scene.envelope.asked)
    scene.change(WORM, MIRROR, webhook=HOOK)
    if is_down:
        scene.break_archive("mirror")
    scene.clock.advance(minutes=5)

    after = await scene.ask()

    assert end(after) == end(before)
    assert after.status.skipped_time == before.status.skipped_time
    for summary in ("Ready", "Stalled"):
        assert summary_of(after, summary) == summary_of(before, summary)
    assert copied(after) == (("False", "CopyMissing") if is_down else ("True", "CopiesVerified"))
    assert scene.envelope.asked == asked
    assert scene.deleted == []
    if is_down:
        scene.mend_archive("mirror")
        assert retries_copies(after.status)
        scene.store(status_for_copy_retry(after.status, now=scene.clock.now()))
        after = await scene.reconcile_until_quiet()
        assert (end(after), copied(after)) == (end(before), ("True", "CopiesVerified"))
    assert await scene.faults("mirror") == []


@pytest.mark.parametrize("ended", UNDELETED)
async def test_an_import_starts_the_copies_of_an_event_that_ended_without_its_delete(
    tmp_path: Path, ended: str
) -> None:
    scene = await UNDELETED[ended](tmp_path)
    scene.clock.advance(minutes=5)
    began = scene.clock.now()
    scene.change(WORM, MIRROR, webhook=HOOK)
    organization = scene.newest_organization
    assert copy_state(scene.newest().status, organization, began) is CopyState.MISSING
    assert copy_state((await scene.ask()).status, organization, began) is CopyState.COPIED


async def test_the_delete_after_a_retry_waits_for_a_copy_that_failed_after_the_end(tmp_path: Path) -> None:
    scene = await without_audit_trail(tmp_path)
    scene.break_archive("mirror")
    scene.change(WORM, MIRROR, evidence={"auditTrail": "Optional"})
    await scene.ask()

    await scene.request("retry")
    await scene.reconcile_until_quiet()
    event = await scene.retried()

    assert (event.status.phase, scene.deleted) == (Phase.COPYING, [])
    scene.mend_archive("mirror")
    event = await scene.end()
    assert (event.status.reason, len(scene.deleted)) == ("ArchivedAndDeleted", 1)
    assert await scene.faults("mirror") == []


async def test_a_retry_that_fails_again_reports_the_copy_that_was_added_and_lets_it_be_tried(
    tmp_path: Path,
) -> None:
    scene = await without_audit_trail(tmp_path)
    scene.change(WORM, MIRROR)

    await scene.request("retry")
    event = await scene.end()

    assert event.status.reason == "AuditTrailMissing"
    # Nobody asked for it.
    assert copied(event) == ("False", "OptionalCopyMissing")
    assert retries_copies(event.status)


async def test_a_failed_event_of_an_expired_envelope_says_that_a_retry_makes_the_copy_that_was_added(
    tmp_path: Path,
) -> None:
    spec = {"statuses": ["Completed", "Expired"], "cleanup": {"policy": "Delete", "after": "720h"}}
    scene = EndedScene(tmp_path, **spec)
    scene.envelope.status = EnvelopeStatus.EXPIRED
    await scene.reconcile_until_quiet()
    scene.change(WORM, MIRROR, **spec)
    sender = scene.cache.senders.get(scene.newest().metadata.labels["counterfoil.dev/sender"])
    assert sender is not None
    other = replace(sender.spec, organization_ref=replace(sender.spec.organization_ref, name="other"))
    scene.observe(replace(sender, spec=other, metadata=replace(sender.metadata, resource_version="99")))
    scene.clock.advance(hours=721)

    event = await scene.reconcile()

    assert event.status.reason == "SenderOfOtherOrganization"
    message = "The copy in Archive/mirror is missing. It is made after a retry of the event."
    assert summary_of(event, "Copied") == ("False", "OptionalCopyMissing", message)
    assert not retries_copies(event.status)


TRIED_AGAIN = "While spec.copies names it, it is tried again, and nothing else waits for it."


async def test_a_copy_that_was_given_up_is_not_said_to_be_after_a_retry_that_lets_it_be_tried(
    tmp_path: Path,
) -> None:
    scene = await without_audit_trail(tmp_path)
    scene.change(WORM, MIRROR)
    scene.break_archive("mirror")
    await scene.ask()
    await try_until_given_up(scene)
    await scene.request("retry")

    event = await scene.end()

    assert retries_copies(event.status)
    message = f"The copy in Archive/mirror is missing. {TRIED_AGAIN}"
    assert summary_of(event, "Copied") == ("False", "OptionalCopyMissing", message)


async def test_a_failed_event_whose_copy_is_not_wanted_any_more_lacks_none(tmp_path: Path) -> None:
    scene = await without_audit_trail(tmp_path)
    scene.change(WORM, MIRROR)
    scene.break_archive("mirror")
    asked = await scene.ask()
    assert TRIED_AGAIN in summary_of(asked, "Copied")[2]
    scene.change(WORM)
    await scene.request("retry")

    event = await scene.end()

    message = "No copy that spec.copies names is missing."
    assert summary_of(event, "Copied") == ("True", "CopiesVerified", message)


async def expired_without_its_copy(folder: Path) -> EndedScene:
    """An Expired envelope that was archived and kept while the Archive of an optional copy was down."""
    spec = {"statuses": ["Completed", "Expired"], "cleanup": {"policy": "Keep"}}
    scene = EndedScene(folder, **spec)
    scene.change({**MIRROR, "required": False}, **spec)
    scene.break_archive("mirror")
    scene.envelope.status = EnvelopeStatus.EXPIRED
    assert (await scene.end()).status.reason == ARCHIVED_AS_EXPIRED
    return scene


async def test_the_copy_of_an_expired_envelope_that_is_not_tried_again_is_reported(tmp_path: Path) -> None:
    scene = await expired_without_its_copy(tmp_path)

    message = (
        "The copy in Archive/mirror is missing, and is not tried any more. It is made after a retry of the "
        "event."
    )
    assert summary_of(scene.newest(), "Copied") == ("False", "CopyGivenUp", message)
    assert list(summary_of_pass(scene).copies) == ["copy/mirror"]

    scene.mend_archive("mirror")
    scene.clock.advance(hours=1)
    await scene.request("retry")
    event = await scene.end()

    assert event.status.reason == ARCHIVED_AS_EXPIRED
    assert await scene.faults("mirror") == []
    assert list(summary_of_pass(scene).copies) == []


async def test_a_skip_ends_the_report_of_the_copy_of_an_expired_envelope(tmp_path: Path) -> None:
    scene = await expired_without_its_copy(tmp_path)

    assert await scene.request("skip") is RequestOutcome.DONE

    summary = summary_of_pass(scene)
    assert (summary.copies, summary.failing_copies, summary.removed) == ({}, {}, {"copy/mirror"})


async def test_the_copy_of_an_envelope_that_was_restarted_is_not_said_to_be_tried(tmp_path: Path) -> None:
    spec = {"statuses": ["Completed", "Expired"], "cleanup": {"policy": "Delete", "after": "720h"}}
    scene = EndedScene(tmp_path, **spec)
    scene.change({**MIRROR, "required": False}, **spec)
    scene.break_archive("mirror")
    scene.envelope.status = EnvelopeStatus.EXPIRED
    await scene.reconcile_until_quiet()
    scene.envelope.status = EnvelopeStatus.REJECTED
    scene.clock.advance(hours=721)

    event = await scene.end()

    assert event.status.phase is Phase.SKIPPED
    message = "The copy in Archive/mirror is missing. It is made after the envelope is archived again."
    assert summary_of(event, "Copied") == ("False", "OptionalCopyMissing", message)


async def test_a_retry_meanwhile_does_what_it_does_after_a_failure(tmp_path: Path) -> None:
    scene = await without_audit_trail(tmp_path)
    scene.change(WORM, MIRROR)
    await scene.ask_only()

    assert await scene.request("retry") is RequestOutcome.DONE
    event = await scene.end()

    assert (event.status.reason, scene.deleted) == ("AuditTrailMissing", [])
    assert copied(event) == ("False", "CopyMissing")


async def test_a_skip_meanwhile_ends_a_failed_event_as_skipped(tmp_path: Path) -> None:
    scene = await without_audit_trail(tmp_path)
    scene.change(WORM, MIRROR)
    await scene.ask_only()

    assert await scene.request("skip") is RequestOutcome.DONE

    skipped = scene.newest()
    assert (skipped.status.phase, skipped.status.reason) == (Phase.SKIPPED, "SkippedByRequest")
    after = await scene.ask()
    assert end(after) == end(skipped)
    assert copied(after) == ("True", "CopiesVerified")


async def test_a_callback_meanwhile_starts_a_failed_event_again(tmp_path: Path) -> None:
    scene = await without_audit_trail(tmp_path)
    scene.change(WORM, MIRROR)
    await scene.ask_only()
    status = scene.newest().status
    scene.clock.advance(minutes=5)
    assert must_be_stored(status, received=scene.clock.now(), now=scene.clock.now())
    scene.store(
        replace(status, deliveries=(status.deliveries or 1) + 1, last_delivery_time=scene.clock.now())
    )

    await scene.reconcile()

    assert (scene.newest().status.phase, scene.newest().status.reason) == (Phase.PENDING, "Redelivered")


async def test_an_event_that_failed_because_of_its_copy_is_retried_for_it(tmp_path: Path) -> None:
    """Else it would end as failed for a reason that is not true any more."""
    scene = EndedScene(tmp_path)
    scene.break_archive("worm")
    event = await scene.end()
    assert event.status.reason == "DeadlineExceeded"
    scene.clock.advance(minutes=5)
    result = await CopyRequests(scene.cache, scene.clock).copy(event, Request("copy"))
    assert result.outcome is RequestOutcome.REFUSED
    assert "Retry it" in result.message
    organization = scene.newest_organization
    assert copy_state(event.status, organization, scene.clock.now()) is CopyState.FAILED


async def test_a_lost_file_archives_no_failed_event_again_for_a_copy(tmp_path: Path) -> None:
    scene = await without_audit_trail(tmp_path)
    before = scene.newest()
    scene.change(WORM, MIRROR)
    rename_a_file(scene)

    after = await scene.ask()

    assert end(after) == end(before)
    entry = stored_copy(after.status, "mirror")
    assert entry.reason == "OriginalDiffers"
    # The files before the lost one may be there.
    assert str(entry.message).endswith("The copy was not finished.")


async def test_an_optional_copy_of_a_skipped_event_is_tried_again_only_if_it_was_asked_for(
    tmp_path: Path,
) -> None:
    scene = EndedScene(tmp_path, cleanup={"policy": "Delete", "after": "720h"})
    scene.change({**MIRROR, "required": False})
    scene.break_archive("mirror")
    await scene.reconcile_until_quiet()
    await scene.request("skip")
    assert copied(scene.newest()) == ("False", "OptionalCopyMissing")
    assert not retries_copies(scene.newest().status)

    after = await scene.ask()

    assert copied(after) == ("False", "CopyMissing")
    assert retries_copies(after.status)


async def test_a_further_copy_of_a_failed_event_is_no_further_failure(tmp_path: Path) -> None:
    scene = await without_audit_trail(tmp_path)
    labels = {"organization": "acme", "phase": "Cleaning", "reason": "AuditTrailMissing"}
    assert scene.metric("events_failed_total", **labels) == 1
    scene.change(WORM, MIRROR)
    await scene.ask()
    assert scene.metric("events_failed_total", **labels) == 1


async def test_a_pass_counts_a_failed_event_while_it_makes_further_copies(tmp_path: Path) -> None:
    scene = await without_audit_trail(tmp_path)
    scene.change(WORM, MIRROR)
    before = summary_of_pass(scene)
    await scene.ask_only()
    during = summary_of_pass(scene)
    assert (during.failed, during.names) == (before.failed, before.names)
    assert len(during.names) == 1


async def succeeded(folder: Path) -> EndedScene:
    scene = EndedScene(folder)
    assert (await scene.end()).status.reason == "ArchivedAndDeleted"
    return scene


async def read_alone(event: EnvelopeEvent) -> AsyncIterator[EnvelopeEvent]:
    """Yield the one event of a window."""
    yield event


@pytest.mark.parametrize("ended", [*UNDELETED, "it succeeded"])
async def test_an_import_reports_the_end_of_an_event_while_it_makes_further_copies(
    tmp_path: Path, ended: str
) -> None:
    """A window is counted one time, and its part of the report is never changed."""
    scene = await {**UNDELETED, "it succeeded": succeeded}[ended](tmp_path)

    async def reported() -> tuple[object, ...]:
        event, counter = scene.newest(), ActivityCounter(scene.clock.now())
        counter.add(event)
        rows = (row_of_ended(a_row(), event), row_of_known(a_row(), event))
        return await tally(read_alone(event)), *rows, counter.activity()

    before = await reported()
    scene.change(WORM, MIRROR, webhook=HOOK)

    await scene.ask_only()

    assert scene.newest().status.phase is Phase.COPYING
    assert await reported() == before


async def test_an_import_counts_what_a_retry_has_to_copy_as_failed(tmp_path: Path) -> None:
    scene = EndedScene(tmp_path)
    event = await scene.reconcile_until_quiet()
    scene.change(WORM, MIRROR)
    organization = scene.newest_organization
    expired = replace(
        event.status,
        phase=Phase.SKIPPED,
        reason=ARCHIVED_AS_EXPIRED,
        conditions=with_changes(event.status.conditions, "Archived", status="False"),
    )
    pending = replace(event.status, phase=Phase.PENDING, reason="RetryRequested")
    suspended = replace(pending, reason="SenderSuspended")
    for status in (expired, replace(event.status, phase=Phase.AWAITING_CONSENT)):
        assert copy_state(status, organization, scene.clock.now()) is CopyState.FAILED
    assert copy_state(suspended, organization, scene.clock.now()) is CopyState.HELD
    assert copy_state(pending, organization, scene.clock.now()) is CopyState.RUNNING
    restarted = replace(expired, reason="EnvelopeRestarted")
    assert copy_state(restarted, organization, scene.clock.now()) is CopyState.OTHER


def summary_of_pass(scene: EndedScene) -> FailureSummary:
    event, organization = scene.newest(), scene.cache.organizations.get("acme")
    assert organization is not None
    finders = (given_up_copies, failing_copies, awaited_failures)
    summary = FailureSummary()
    summary.add(
        event, EventArchives("dms", ("dms",), *(find(event.status, organization.spec) for find in finders))
    )
    return summary


async def try_until_given_up(scene: EndedScene) -> None:
    """Let each try of a missing copy fail."""
    for _ in range(99):
        if copied(scene.newest())[1] == "CopyGivenUp":
            return
        scene.clock.advance(hours=2)
        scene.store(status_for_copy_retry(scene.newest().status, now=scene.clock.now()))
        await scene.reconcile_until_quiet()
    raise AssertionError("it is not given up")


@pytest.mark.parametrize("ended", UNDELETED)
async def test_a_copy_that_was_asked_for_and_given_up_is_reported(tmp_path: Path, ended: str) -> None:
    scene = await UNDELETED[ended](tmp_path)
    scene.change(WORM, MIRROR)
    scene.break_archive("mirror")
    await scene.ask()
    failing = summary_of_pass(scene)
    assert (list(failing.failing_copies), failing.removed) == (["copy/mirror"], set())

    await try_until_given_up(scene)

    reported = summary_of_pass(scene)
    assert (list(reported.copies), reported.removed) == (["copy/mirror"], set())


@pytest.mark.parametrize("ended", UNDELETED)
async def test_why_says_that_the_copy_of_an_ended_event_is_tried_again(tmp_path: Path, ended: str) -> None:
    scene = await UNDELETED[ended](tmp_path)
    scene.change(WORM, MIRROR)
    scene.break_archive("mirror")
    event, organization = await scene.ask(), scene.cache.organizations.get("acme")
    assert explain(event, organization, None, (), scene.clock.now()).next.startswith(
        "a missing copy is tried again in"
    )
    await try_until_given_up(scene)
    following = explain(scene.newest(), organization, None, (), scene.clock.now()).next
    assert following.startswith(("nothing automatically", "starts again automatically as soon as"))


async def test_a_skip_lets_no_copy_be_tried_that_nobody_asked_for(tmp_path: Path) -> None:
    scene = await without_audit_trail(tmp_path)
    scene.change(WORM, MIRROR)
    await scene.request("retry")
    await scene.end()
    assert retries_copies(scene.newest().status)

    await scene.request("skip")

    assert copied(scene.newest()) == ("False", "OptionalCopyMissing")
    assert not retries_copies(scene.newest().status)
    assert copied(await scene.ask()) == ("True", "CopiesVerified")


async def test_a_copy_that_only_had_no_room_was_not_tried_before_a_skip(tmp_path: Path) -> None:
    scene = await without_audit_trail(tmp_path)
    scene.change(WORM, MIRROR)
    await scene.request("retry")
    status = (await scene.end()).status
    put_off = replace(stored_copy(status, "mirror"), reason="WaitingForArchive")
    scene.store(replace(status, copies=(*status.copies, put_off)))

    await scene.request("skip")

    assert not retries_copies(scene.newest().status)


@pytest.mark.parametrize("is_tried", [False, True])
async def test_a_copy_that_was_asked_for_before_a_skip_is_made(tmp_path: Path, *, is_tried: bool) -> None:
    scene = await without_audit_trail(tmp_path)
    scene.change(WORM, MIRROR)
    scene.break_archive("mirror")
    await (scene.ask() if is_tried else scene.ask_only())

    await scene.request("skip")

    assert copied(scene.newest()) == ("False", "CopyMissing")
    assert retries_copies(scene.newest().status)


async def delayed(folder: Path, *copies: dict[str, Any]) -> EndedScene:
    """An archived event that waits for the time of its delete, and a copy that was added since."""
    cleanup = {"policy": "Delete", "after": "720h"}
    scene = EndedScene(folder, cleanup=cleanup)
    await scene.reconcile_until_quiet()
    scene.change(*copies, cleanup=cleanup)
    return scene


async def try_again(scene: EndedScene) -> EnvelopeEvent:
    """Let the garbage collector start the copies that are missing."""
    scene.store(status_for_copy_retry(scene.newest().status, now=scene.clock.now()))
    return await scene.reconcile_until_quiet()


def do_nothing(_: FurtherScene) -> None:
    """Leave the Archive of the copy as it is."""


WAITS: dict[str, Callable[[FurtherScene], None]] = {
    "the run has not begun": do_nothing,
    "its Archive is suspended": suspend,
    "its Archive is full": make_full,
    "its Archive is down": break_copy,
}


@pytest.mark.parametrize("cause", WAITS)
async def test_a_copy_that_was_asked_for_before_the_delete_is_made_after_a_skip(
    tmp_path: Path, cause: str
) -> None:
    scene = await delayed(tmp_path, WORM, MIRROR)
    WAITS[cause](scene)
    await scene.ask_only()
    if cause != "the run has not begun":
        await scene.reconcile()
        scene.clock.advance(hours=2)
        assert (await scene.reconcile()).status.phase is Phase.COPYING

    await scene.request("skip")

    assert copied(scene.newest()) == ("False", "CopyMissing")
    assert retries_copies(scene.newest().status)
    if cause == "its Archive is down":
        scene.mend_archive("mirror")
    scene.change_archives(take_slot=always)
    scene.change_archive("mirror")
    assert copied(await try_again(scene)) == ("True", "CopiesVerified")


async def always(*_: object) -> bool:
    return True


NOT_TRIED = "A copy is missing, and is not tried after the skip of the event. Ask for it."


@pytest.mark.parametrize("is_started", [False, True])
async def test_a_skip_before_the_delete_says_that_an_optional_copy_is_not_tried(
    tmp_path: Path, *, is_started: bool
) -> None:
    scene = EndedScene(tmp_path, cleanup={"policy": "Delete", "after": "720h"})
    scene.change(WORM, {**MIRROR, "required": False})
    scene.break_archive("mirror")
    await scene.reconcile_until_quiet()
    if is_started:
        scene.clock.advance(hours=2)
        scene.store(status_for_copy_retry(scene.newest().status, now=scene.clock.now()))

    await scene.request("skip")

    assert not retries_copies(scene.newest().status)
    assert summary_of(scene.newest(), "Copied") == ("False", "OptionalCopyMissing", NOT_TRIED)


async def test_an_optional_copy_that_was_asked_for_before_the_delete_is_made_after_a_skip(
    tmp_path: Path,
) -> None:
    scene = await delayed(tmp_path, WORM, {**MIRROR, "required": False})
    scene.break_archive("mirror")
    await scene.ask()
    scene.clock.advance(hours=2)
    assert (await try_again(scene)).status.reason == "CleanupDelayed"

    await scene.request("skip")

    assert retries_copies(scene.newest().status)


@pytest.mark.parametrize("hold", [suspend, make_full])
async def test_a_copy_that_was_asked_for_and_could_not_be_tried_is_made_after_a_skip(
    tmp_path: Path, hold: Callable[[FurtherScene], None]
) -> None:
    scene = await without_audit_trail(tmp_path)
    scene.change(WORM, MIRROR)
    hold(scene)
    await scene.ask()
    # A request is remembered when the copy is tried again without one, also without room.
    await try_again(scene)
    assert stored_copy(scene.newest().status, "mirror").attempts == 0

    await scene.request("skip")

    assert retries_copies(scene.newest().status)
    scene.change_archives(take_slot=always)
    scene.change_archive("mirror")
    assert copied(await try_again(scene)) == ("True", "CopiesVerified")


@pytest.mark.parametrize("is_tried", [False, True])
async def test_a_copy_that_was_asked_for_before_a_retry_and_a_skip_is_made(
    tmp_path: Path, *, is_tried: bool
) -> None:
    scene = await without_audit_trail(tmp_path)
    scene.change(WORM, MIRROR)
    scene.break_archive("mirror")
    await (scene.ask() if is_tried else scene.ask_only())
    await scene.request("retry")
    await scene.end()

    await scene.request("skip")

    assert retries_copies(scene.newest().status)


async def test_an_optional_copy_of_a_failed_event_that_was_asked_for_is_made_after_a_skip(
    tmp_path: Path,
) -> None:
    scene = await without_audit_trail(tmp_path)
    scene.change(WORM, {**MIRROR, "required": False})
    scene.break_archive("mirror")
    await scene.ask()

    await scene.request("skip")

    assert copied(scene.newest()) == ("False", "CopyMissing")
    assert retries_copies(scene.newest().status)


@pytest.mark.parametrize("is_running", [False, True])
async def test_a_skip_ends_a_copy_that_nobody_asked_for_and_that_had_no_room(
    tmp_path: Path, *, is_running: bool
) -> None:
    scene = await without_audit_trail(tmp_path)
    scene.change(WORM, MIRROR)
    await scene.request("retry")
    await scene.end()
    make_full(scene)
    await try_again(scene)
    assert stored_copy(scene.newest().status, "mirror").reason == "WaitingForArchive"
    assert retries_copies(scene.newest().status)
    if is_running:
        scene.store(status_for_copy_retry(scene.newest().status, now=scene.clock.now()))

    await scene.request("skip")

    assert not retries_copies(scene.newest().status)
    assert summary_of(scene.newest(), "Copied") == ("False", "OptionalCopyMissing", NOT_TRIED)


async def test_a_copy_that_was_tried_after_a_failure_is_tried_after_a_skip(tmp_path: Path) -> None:
    scene = await without_audit_trail(tmp_path)
    scene.change(WORM, MIRROR)
    await scene.request("retry")
    await scene.end()
    scene.break_archive("mirror")
    await try_again(scene)

    await scene.request("skip")

    assert copied(scene.newest()) == ("False", "CopyMissing")
    assert retries_copies(scene.newest().status)


async def test_a_skip_of_an_expired_envelope_promises_no_copy(tmp_path: Path) -> None:
    """A skip voids its archive: a callback lets it be archived again."""
    statuses = {"statuses": ["Completed", "Expired"], "cleanup": {"policy": "Delete", "after": "720h"}}
    scene = EndedScene(tmp_path, **statuses)
    scene.envelope.status = EnvelopeStatus.EXPIRED
    await scene.reconcile_until_quiet()
    scene.change(WORM, MIRROR, **statuses)
    await scene.ask_only()

    await scene.request("skip")

    message = "A copy is missing. It is made after the envelope is archived again."
    assert summary_of(scene.newest(), "Copied") == ("False", "OptionalCopyMissing", message)
    assert not retries_copies(scene.newest().status)


async def test_a_skip_ends_the_report_of_a_copy_that_was_given_up_before(tmp_path: Path) -> None:
    scene = await without_audit_trail(tmp_path)
    scene.change(WORM, MIRROR)
    scene.break_archive("mirror")
    await scene.ask()
    await try_until_given_up(scene)

    await scene.request("skip")

    summary = summary_of_pass(scene)
    assert (summary.copies, summary.removed) == ({}, {"copy/mirror"})


async def test_a_retried_event_makes_its_copies_before_an_import_is_complete(tmp_path: Path) -> None:
    scene = await without_audit_trail(tmp_path)
    scene.change(WORM, MIRROR)
    began, organization = scene.clock.now(), scene.newest_organization

    await scene.request("retry")

    assert copy_state(scene.newest().status, organization, began) is CopyState.RUNNING


async def test_an_import_starts_the_copy_that_a_retry_did_not_come_to(tmp_path: Path) -> None:
    scene = await without_audit_trail(tmp_path)
    scene.change(WORM, MIRROR)
    scene.clock.advance(minutes=5)
    began, organization = scene.clock.now(), scene.newest_organization
    await scene.request("retry")

    await scene.end()

    assert copied(scene.newest()) == ("False", "OptionalCopyMissing")
    assert copy_state(scene.newest().status, organization, began) is CopyState.MISSING


async def test_an_import_starts_the_copy_that_was_only_suspended(tmp_path: Path) -> None:
    scene = await without_audit_trail(tmp_path)
    scene.change(WORM, MIRROR)
    scene.clock.advance(minutes=5)
    began, organization = scene.clock.now(), scene.newest_organization
    suspend(scene)
    event = await scene.ask()

    scene.change_archive("mirror")

    assert stored_copy(event.status, "mirror").reason == "ArchiveSuspended"
    assert copy_state(event.status, organization, began) is CopyState.MISSING


async def test_an_import_starts_copies_with_one_address_only_one_time(tmp_path: Path) -> None:
    """Each run makes both, and neither counts."""
    scene = await without_audit_trail(tmp_path)
    scene.change(WORM, MIRROR)
    began, organization = scene.clock.now(), scene.newest_organization
    status = (await scene.ask()).status
    place = stored_copy(status, "worm").manifest
    status = replace(status, copies=tuple(replace(each, manifest=place) for each in status.copies))

    assert copy_state(status, organization, began) is CopyState.FAILED
    later = began + timedelta(hours=1)
    assert copy_state(status, organization, later) is CopyState.MISSING


async def test_an_import_names_an_archived_event_whose_envelope_may_never_finish(tmp_path: Path) -> None:
    scene = await without_audit_trail(tmp_path)
    scene.change(WORM, MIRROR)
    began, organization = scene.clock.now(), scene.newest_organization
    await scene.request("retry")

    waiting = replace(scene.newest().status, phase=Phase.VALIDATING, reason="EnvelopeUnfinished")

    assert copy_state(waiting, organization, began) is CopyState.FAILED


async def refusal_while_a_key_is_missing(scene: EndedScene) -> str:
    scene.store(replace(scene.newest().status, phase=Phase.AWAITING_CONSENT, reason="TokenRejected"))
    result = await CopyRequests(scene.cache, scene.clock).copy(scene.newest(), Request("copy"))
    assert result.outcome is RequestOutcome.REFUSED
    return result.message


async def test_what_helps_a_copy_whose_event_waits_for_a_key_is_a_skip(tmp_path: Path) -> None:
    cleanup = {"policy": "Delete", "after": "720h"}
    scene = EndedScene(tmp_path, cleanup=cleanup)
    await scene.reconcile_until_quiet()
    scene.change(WORM, MIRROR, cleanup=cleanup)

    assert "skip the event" in await refusal_while_a_key_is_missing(scene)

    await scene.request("skip")
    after = await scene.ask()
    assert (after.status.reason, copied(after)) == ("SkippedByRequest", ("True", "CopiesVerified"))
    assert scene.deleted == []


async def test_no_skip_is_advised_that_would_void_the_archive_of_an_expired_envelope(tmp_path: Path) -> None:
    cleanup = {"policy": "Delete", "after": "720h"}
    scene = EndedScene(tmp_path, statuses=["Completed", "Expired"], cleanup=cleanup)
    scene.envelope.status = EnvelopeStatus.EXPIRED
    await scene.reconcile_until_quiet()
    scene.change(WORM, MIRROR, cleanup=cleanup)

    assert "skip" not in await refusal_while_a_key_is_missing(scene)

    await scene.request("skip")
    assert not takes_copies(scene.newest().status)

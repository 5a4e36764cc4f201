"""The state machine of an event with copies: each has its own backoff, and only required ones hold."""

import dataclasses
from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from controller.reconcile.outcomes import Done, Fail, Outcome, PhaseFacts, Wait
from controller.reconcile.phases.repeated_archiving import copies_pending
from controller.reconcile.state_machine import (
    TransitionInput,
    next_phase,
    next_status,
    phase_to_resume,
    with_bare_documents,
)
from counterfoil.archives.proof import documents_digest
from counterfoil.resources import (
    EnvelopeEventStatus,
    EventCopy,
    FiledDocument,
    FileKind,
    LocalObjectReference,
    Organization,
    Phase,
    find_condition,
)
from counterfoil.resources.conditions import with_changes
from counterfoil.resources.envelopeevent import (
    COPY_GIVEN_UP,
    COPY_MISSING,
    OPTIONAL_COPY_MISSING,
    ArchiveLocation,
    EventNotice,
    NoticeState,
    without_checksum,
)
from counterfoil.resources.reopening import status_for_copying
from counterfoil.resources.routes import open_copies, unverified_copies
from tests.support.builders import NOON, an_event, an_organization

WORM = {"archiveRef": {"name": "worm"}}
OPTIONAL = {"archiveRef": {"name": "mirror"}, "required": False}


def organization(*copies: dict[str, Any]) -> Organization:
    return an_organization(
        copies=list(copies),
        retry={"initial": "10s", "max": "1h", "deadline": "24h"},
        cleanup={"policy": "Keep"},
    )


def at(minutes: float, *copies: dict[str, Any]) -> TransitionInput:
    wanted = organization(*(copies or (WORM, OPTIONAL)))
    return TransitionInput(
        now=NOON + timedelta(minutes=minutes),
        generation=1,
        retry=wanted.spec.retry,
        random=lambda: 1.0,
        event=an_event().build(),
        organization=wanted,
    )


def failed(name: str, attempts: int = 1, start: datetime = NOON) -> EventCopy:
    return EventCopy(
        ref=LocalObjectReference(name=name),
        reason="ArchiveUnreachable",
        message="It is down.",
        attempts=attempts,
        last_attempt_time=start,
    )


def proved(name: str) -> EventCopy:
    return EventCopy(
        ref=LocalObjectReference(name=name),
        manifest=f"s3://{name}/m.json",
        verified_time=NOON,
        documents="0" * 64,
    )


def archived() -> EnvelopeEventStatus:
    status = EnvelopeEventStatus()
    for phase in (Phase.VALIDATING, Phase.COLLECTING):
        status = next_status(status, phase, Done("Fine", "Fine."), at(0))
    pending = PhaseFacts(side_conditions=(copies_pending("Not yet."),))
    return next_status(status, Phase.ARCHIVING, Done("Fine", "Fine.", facts=pending), at(0))


def copying(outcome: Outcome, minutes: float, *copies: EventCopy) -> EnvelopeEventStatus:
    with_copies = dataclasses.replace(outcome, facts=PhaseFacts(copies=copies))
    return next_status(archived(), Phase.COPYING, with_copies, at(minutes))


def condition(status: EnvelopeEventStatus, type_: str = "Copied") -> tuple[str, str]:
    found = find_condition(status.conditions, type_)
    assert found is not None
    return found.status, found.reason


def test_an_archived_event_with_copies_continues_with_them() -> None:
    status = archived()
    assert status.phase is Phase.COPYING
    assert phase_to_resume(status) is Phase.COPYING
    assert condition(status, "Archived") == ("True", "Fine")
    assert condition(status) == ("Unknown", "CopiesPending")


def test_each_copy_has_its_own_backoff_and_the_first_required_one_decides() -> None:
    down = Wait("ArchiveUnreachable", "It is down.")
    status = copying(down, 0, failed("worm", 5), failed("mirror", 1))

    worm, mirror = status.copies
    assert worm.next_attempt_time == NOON + timedelta(seconds=160)
    assert mirror.next_attempt_time == NOON + timedelta(seconds=10)
    assert status.next_attempt_time == worm.next_attempt_time
    assert (status.phase, phase_to_resume(status)) == (Phase.COPYING, Phase.COPYING)
    assert condition(status) == ("False", "ArchiveUnreachable")


def test_a_copy_that_was_not_tried_keeps_its_time() -> None:
    planned = NOON + timedelta(minutes=30)
    status = copying(Wait("X", "Y."), 0, replace(failed("worm"), next_attempt_time=planned))
    assert status.copies[0].next_attempt_time == planned


def test_an_envelope_that_is_archived_again_waits_for_no_copy() -> None:
    again = Wait("ArchivedFilesChanged", "A file is lost.", restart_from=Phase.COLLECTING)
    status = copying(again, 0, failed("worm", 9))
    assert status.copies[0].next_attempt_time == NOON + timedelta(minutes=42, seconds=40)
    assert status.next_attempt_time == NOON + timedelta(seconds=10)
    assert phase_to_resume(status) is Phase.COLLECTING


def test_a_required_copy_that_never_comes_fails_the_event() -> None:
    status = archived()
    for hour in range(26):
        outcome = Wait("ArchiveUnreachable", "It is down.", facts=PhaseFacts(copies=(failed("worm"),)))
        status = next_status(status, Phase.COPYING, outcome, at(hour * 60))
    assert (status.phase, status.reason) == (Phase.FAILED, "DeadlineExceeded")
    assert condition(status, "Archived") == ("True", "Fine")


def test_a_failure_before_the_envelope_is_archived_again_says_that_a_retry_makes_its_copy() -> None:
    ended = copying(Done(OPTIONAL_COPY_MISSING, "It is tried again."), 0, failed("worm"))
    conditions = with_changes(ended.conditions, "Archived", status="False")
    status = next_status(replace(ended, conditions=conditions), Phase.ARCHIVING, Fail("X", "Y."), at(5))
    assert condition(status) == ("False", OPTIONAL_COPY_MISSING)
    copied = find_condition(status.conditions, "Copied")
    assert copied is not None
    assert copied.message.endswith("Archive/mirror is missing. It is made after a retry of the event.")


def test_all_copies_lead_to_the_delete() -> None:
    status = copying(Done("CopiesVerified", "All."), 5, proved("worm"), proved("mirror"))
    assert condition(status) == ("True", "CopiesVerified")
    assert (status.phase, phase_to_resume(status)) == (Phase.CLEANING, Phase.CLEANING)
    assert (status.attempts, status.phase_start_time) == (0, NOON + timedelta(minutes=5))


def test_an_optional_copy_holds_nothing_and_is_planned() -> None:
    outcome = Done(OPTIONAL_COPY_MISSING, "It is missing.")
    status = copying(outcome, 0, proved("worm"), failed("mirror"))
    assert condition(status) == ("False", OPTIONAL_COPY_MISSING)
    assert phase_to_resume(status) is Phase.CLEANING
    assert status.copies[1].next_attempt_time == NOON + timedelta(seconds=10)


@pytest.mark.parametrize("minutes", [0, 48 * 60])
def test_an_optional_copy_is_given_up_after_the_tries_that_fill_the_deadline(minutes: int) -> None:
    def after(tries: int) -> EnvelopeEventStatus:
        facts = PhaseFacts(copies=(failed("mirror", tries),))
        outcome = Done(OPTIONAL_COPY_MISSING, "It is missing.", facts=facts)
        return next_status(archived(), Phase.COPYING, outcome, at(minutes, OPTIONAL))

    # 9 pauses that double take 5,110 s. 23 pauses of an hour fill the rest of 24 hours, and 22 do not.
    tried, given_up = after(9 + 22), after(9 + 23)

    assert tried.copies[0].next_attempt_time == NOON + timedelta(minutes=minutes + 60)
    assert condition(tried) == ("False", OPTIONAL_COPY_MISSING)
    assert given_up.copies[0].next_attempt_time is None
    assert given_up.copies[0].reason == "ArchiveUnreachable"
    assert condition(given_up) == ("False", COPY_GIVEN_UP)
    assert phase_to_resume(given_up) is Phase.CLEANING


def test_the_attempts_of_copies_leave_the_time_of_the_delete_alone() -> None:
    waited = copying(Wait("ArchiveUnreachable", "It is down."), 0, failed("worm"))
    facts = PhaseFacts(copies=(proved("worm"),))
    status = next_status(waited, Phase.COPYING, Done("CopiesVerified", "All.", facts=facts), at(60))
    assert (status.attempts, status.phase_start_time) == (0, NOON + timedelta(minutes=60))


def test_an_event_whose_files_change_all_the_time_comes_to_an_end_with_copies_too() -> None:
    status = archived()
    for number in range(1, 60):
        done = Done("CopiesVerified", "All.", facts=PhaseFacts(copies=(proved("worm"),)))
        status = next_status(status, Phase.COPYING, done, at(30 * number))
        changed = Wait("FilesChanged", "Others.", restart_from=Phase.COLLECTING)
        status = next_status(status, Phase.CLEANING, changed, at(30 * number))
        if status.phase is Phase.FAILED:
            break
        pending = PhaseFacts(side_conditions=(copies_pending("Not yet."),))
        status = next_status(status, Phase.COLLECTING, Done("Fine", "Fine."), at(30 * number + 10))
        again = Done("Fine", "Fine.", facts=pending)
        status = next_status(status, Phase.ARCHIVING, again, at(30 * number + 20))
    assert (status.phase, status.reason) == (Phase.FAILED, "DeadlineExceeded")


def succeeded() -> EnvelopeEventStatus:
    status = copying(Done("CopiesVerified", "All."), 5, proved("worm"))
    return next_status(status, Phase.CLEANING, Done("ArchivedAndDeleted", "It is gone."), at(6))


def test_a_copy_that_was_asked_for_later_asks_nothing_else() -> None:
    before = succeeded()
    again = status_for_copying(before, reason="CopyRequested", message="A person asked.", now=NOON)
    assert (again.phase, phase_to_resume(again)) == (Phase.COPYING, Phase.COPYING)
    assert next_phase(Phase.COPYING, again) is Phase.SUCCEEDED

    outcome = Done("CopiesVerified", "All.", facts=PhaseFacts(copies=(proved("worm"), proved("mirror"))))
    after = next_status(again, Phase.COPYING, outcome, at(99))

    assert (after.phase, after.reason, after.message) == (
        Phase.SUCCEEDED,
        "ArchivedAndDeleted",
        "It is gone.",
    )
    assert after.completion_time == before.completion_time
    assert condition(after, "Cleaned") == ("True", "ArchivedAndDeleted")
    assert condition(after, "Ready")[0] == "True"


@pytest.mark.parametrize("end", [Wait("ArchiveUnreachable", "It is down."), Fail("NameOccupied", "Taken.")])
def test_a_later_copy_that_can_not_be_made_changes_only_the_condition_of_copies(end: Outcome) -> None:
    notice = EventNotice(id="told", state=NoticeState.DELIVERED)
    before = replace(succeeded(), next_attempt_time=NOON + timedelta(days=3), notice=notice)
    again = status_for_copying(before, reason="CopyRequested", message="A person asked.", now=NOON)
    outcome = dataclasses.replace(end, facts=PhaseFacts(copies=(failed("worm"),)))

    after = next_status(again, Phase.COPYING, outcome, at(99))

    assert condition(after) == ("False", COPY_MISSING)
    assert after.copies[0].next_attempt_time == NOON + timedelta(minutes=99, seconds=10)
    for type_ in ("Archived", "Cleaned", "Ready", "Stalled"):
        assert condition(after, type_) == condition(before, type_)
    fields = ("copies", "conditions", "phase_start_time", "considered_deliveries")
    changed = {name: getattr(before, name) for name in fields}
    assert replace(after, **changed) == before


def filed(file_id: str, content: str) -> FiledDocument:
    return FiledDocument(
        file_id=file_id,
        kind=FileKind.DOCUMENT,
        file_name="",
        size=1,
        sha256=content * 64,
        location=f"s3://dms/{file_id}",
    )


FILES = (filed("file-1", "1"),)
LISTED = replace(filed("file-2", ""), size=None, sha256=None)
OTHER_FILES = {
    "a further file that is listed": (*FILES, LISTED),
    "a further file that is archived": (*FILES, filed("file-2", "2")),
    "another content": (filed("file-1", "2"),),
    "a content that is not known any more": tuple(map(without_checksum, FILES)),
}


def with_copy_of(files: tuple[FiledDocument, ...]) -> EnvelopeEventStatus:
    """Return the status of an archived event with a proved copy of these files."""
    copy = replace(proved("worm"), documents=documents_digest(files))
    location = ArchiveLocation(ref=LocalObjectReference(name="dms"), manifest="s3://dms/m.json")
    return replace(archived(), archive=location, documents=files, copies=(copy,))


@pytest.mark.parametrize("phase", [Phase.COLLECTING, Phase.ARCHIVING])
@pytest.mark.parametrize("files", OTHER_FILES)
def test_a_proof_of_other_files_than_the_status_has_is_taken_back(files: str, phase: Phase) -> None:
    again = Done("Fine", "Fine.", facts=PhaseFacts(documents=OTHER_FILES[files]))
    status = next_status(with_copy_of(FILES), phase, again, at(5))
    assert unverified_copies(status, organization(WORM).spec) == ("worm",)
    assert status.copies[0].documents is None
    # This copy may replace the files of its folder.
    assert status.copies[0].manifest == "s3://worm/m.json"


def test_a_list_without_checksums_after_a_status_that_was_too_large_proves_no_copy() -> None:
    forgotten = replace(with_copy_of(FILES), documents=tuple(map(without_checksum, FILES)))
    status = with_bare_documents(forgotten, Fail("EnvelopeTooLarge", "It is too large."), at(5))
    assert unverified_copies(status, organization(WORM).spec) == ("worm",)


def test_the_proof_of_a_copy_outlives_an_archiving_of_the_same_files() -> None:
    moved = tuple(replace(each, file_name="renamed") for each in FILES)
    again = Done("Fine", "Fine.", facts=PhaseFacts(documents=moved))
    status = next_status(with_copy_of(FILES), Phase.ARCHIVING, again, at(5))
    assert status.copies == with_copy_of(FILES).copies


def test_after_a_late_file_was_archived_the_event_waits_for_its_copy() -> None:
    """Else its next run would begin in the limit of another Archive."""
    documents = (*FILES, filed("file-2", "2"))
    facts = PhaseFacts(documents=documents, side_conditions=(copies_pending("Not yet."),))
    again = Done("FilesVerified", "Fine.", facts=facts)
    status = next_status(with_copy_of(FILES), Phase.ARCHIVING, again, at(5, WORM))
    assert open_copies(status, organization(WORM).spec) == ("worm",)

"""Re-opening a finished event: everything starts again except the proven facts."""

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from counterfoil.resources import (
    Attempt,
    AttemptOutcome,
    Condition,
    EnvelopeEventStatus,
    EnvelopeSummary,
    FiledDocument,
    FileKind,
    LocalObjectReference,
    Phase,
    find_condition,
)
from counterfoil.resources.conditions import ConditionStatus
from counterfoil.resources.envelopeevent import ArchiveLocation
from counterfoil.resources.reopening import (
    considered_time,
    is_open_to_callbacks,
    is_reopened_by_retry,
    is_started_by_callback,
    must_be_stored,
    reopened_status,
    status_for_copying,
    takes_back_skip,
    takes_copies,
    with_kept_end,
)

THEN = datetime(2025, 1, 1, tzinfo=UTC)
NOW = datetime(2025, 1, 2, tzinfo=UTC)


def a_condition(type_: str, status: ConditionStatus = "True") -> Condition:
    return Condition(type=type_, status=status, reason="R", message="m", last_transition_time=THEN)


def a_finished_status(*conditions: Condition, phase: Phase = Phase.FAILED) -> EnvelopeEventStatus:
    return EnvelopeEventStatus(
        phase=phase,
        reason="DeadlineExceeded",
        message="given up",
        conditions=conditions,
        deliveries=3,
        attempts=9,
        next_attempt_time=THEN,
        phase_start_time=THEN,
        start_time=THEN,
        completion_time=THEN,
        documents=(
            FiledDocument(file_id="f", kind=FileKind.DOCUMENT, file_name="a.pdf", location="file:///a"),
        ),
    )


def again(status: EnvelopeEventStatus) -> EnvelopeEventStatus:
    return reopened_status(status, reason="Redelivered", message="called again", now=NOW)


@pytest.mark.parametrize("phase", [Phase.SKIPPED, Phase.FAILED])
def test_it_waits_for_its_first_attempt(phase: Phase) -> None:
    opened = again(a_finished_status(phase=phase))

    assert (opened.phase, opened.reason, opened.message) == (Phase.PENDING, "Redelivered", "called again")
    assert opened.attempts == 0
    assert opened.next_attempt_time is None
    assert opened.phase_start_time is None
    assert opened.completion_time is None


def test_what_was_reached_before_archiving_is_checked_again() -> None:
    opened = again(a_finished_status(a_condition("Validated"), a_condition("Archived", "False")))
    assert opened.conditions == ()


@pytest.mark.parametrize("proof", ["Archived", "Cleaned"])
def test_what_is_archived_or_cleaned_stays_so(proof: str) -> None:
    conditions = (a_condition("Validated"), a_condition(proof))
    assert again(a_finished_status(*conditions)).conditions == conditions


@pytest.mark.parametrize("others", [(), (a_condition("Archived"),)])
def test_the_summary_says_that_it_is_not_ready_and_why(others: tuple[Condition, ...]) -> None:
    opened = again(a_finished_status(*others, a_condition("Ready"), a_condition("Stalled")))

    ready = find_condition(opened.conditions, "Ready")
    assert ready is not None
    assert (ready.status, ready.reason, ready.last_transition_time) == ("False", "Redelivered", NOW)
    stalled = find_condition(opened.conditions, "Stalled")
    assert stalled is not None
    assert (stalled.status, stalled.reason) == ("False", "NotStalled"), "nobody has to act"


def test_names_claimed_in_the_archive_and_deliveries_are_not_forgotten() -> None:
    before = a_finished_status()
    opened = again(before)
    assert opened.documents == before.documents
    assert opened.deliveries == 3
    assert opened.start_time == THEN


@pytest.mark.parametrize(
    ("phase", "completed", "is_reopened"),
    [
        (Phase.FAILED, timedelta(days=-1), True),
        (Phase.SKIPPED, timedelta(seconds=1), False),
        (Phase.SKIPPED, timedelta(days=30), True),
        (Phase.SUCCEEDED, timedelta(days=30), False),
    ],
    ids=["completed before", "just now", "by a clock that was ahead", "succeeded"],
)
def test_a_callback_reopens_an_event_unless_it_came_before_the_completion(
    phase: Phase, completed: timedelta, *, is_reopened: bool
) -> None:
    status = EnvelopeEventStatus(phase=phase, completion_time=NOW + completed)
    assert is_started_by_callback(status, received=NOW, now=NOW) is is_reopened


def test_a_callback_that_is_counted_late_does_not_reopen_an_event_that_ended_after_it() -> None:
    ended, received = NOW - timedelta(hours=1), NOW - timedelta(hours=2)
    status = EnvelopeEventStatus(phase=Phase.FAILED, completion_time=ended)
    assert not is_started_by_callback(status, received=received, now=NOW)


def an_end_after_an_attempt(reason: str) -> EnvelopeEventStatus:
    """Return the status of an event whose last attempt began an hour before its end."""
    attempt = Attempt(
        phase=Phase.ARCHIVING,
        start_time=THEN,
        duration_seconds=3600,
        outcome=AttemptOutcome.FAIL,
        reason=reason,
    )
    return EnvelopeEventStatus(
        phase=Phase.FAILED,
        reason=reason,
        completion_time=THEN + timedelta(hours=1),
        attempt_history=(attempt,),
    )


@pytest.mark.parametrize(
    ("reason", "received", "is_reopened"),
    [
        ("NotPermitted", timedelta(minutes=30), True),
        ("NotPermitted", timedelta(seconds=-2), True),
        ("NotPermitted", timedelta(minutes=-10), False),
        ("SkippedByRequest", timedelta(minutes=30), False),
        ("SkippedByRequest", timedelta(hours=2), True),
    ],
    ids=[
        "during the attempt",
        "during the attempt by another clock",
        "before the attempt",
        "before a person's skip",
        "after a person's skip",
    ],
)
def test_a_callback_since_the_last_attempt_began_reopens_an_event_although_it_is_counted_later(
    reason: str, received: timedelta, *, is_reopened: bool
) -> None:
    considered = considered_time(replace(an_end_after_an_attempt("NotPermitted"), reason=reason))
    assert considered is not None
    assert (THEN + received > considered) is is_reopened


@pytest.mark.parametrize(
    ("envelope", "is_started"),
    [(None, True), ("Completed", False), ("Rejected", False), ("Expired", True), ("Active", True)],
)
def test_a_callback_starts_an_event_that_a_person_skipped_only_if_its_envelope_may_have_changed(
    envelope: str | None, *, is_started: bool
) -> None:
    summary = EnvelopeSummary(status=envelope) if envelope is not None else None
    status = replace(
        an_end_after_an_attempt("SkippedByRequest"),
        phase=Phase.SKIPPED,
        envelope=summary,
        completion_time=THEN,
    )
    assert is_started_by_callback(status, received=NOW, now=NOW) is is_started
    assert must_be_stored(status, received=NOW, now=NOW) is is_started


def test_a_callback_does_not_start_an_event_whose_envelope_was_not_found_before_a_person_skipped_it() -> None:
    failed = an_end_after_an_attempt("EnvelopeNotFound")
    status = replace(failed, phase=Phase.SKIPPED, reason="SkippedByRequest")
    assert not is_started_by_callback(status, received=NOW, now=NOW)


def test_a_callback_during_the_attempt_that_ended_as_a_skip_again_starts_the_event() -> None:
    (attempt,) = an_end_after_an_attempt("SkippedByRequest").attempt_history
    again = EnvelopeEventStatus(
        phase=Phase.SKIPPED,
        reason="SkippedByRequest",
        envelope=EnvelopeSummary(status="Expired"),
        completion_time=THEN + timedelta(hours=1),
        attempt_history=(attempt,),
    )
    assert is_started_by_callback(again, received=THEN + timedelta(minutes=30), now=NOW)


def test_a_callback_starts_a_succeeded_event_only_if_its_envelope_is_just_assumed_to_be_deleted() -> None:
    for reason, is_started in (("DeletionAssumed", True), ("ArchivedAndDeleted", False)):
        status = replace(an_end_after_an_attempt(reason), phase=Phase.SUCCEEDED)
        assert is_open_to_callbacks(status) is is_started
        assert must_be_stored(status, received=NOW, now=NOW) is is_started
        assert not must_be_stored(status, received=THEN - timedelta(hours=1), now=NOW)


def test_an_unfinished_event_considers_no_callback() -> None:
    assert considered_time(EnvelopeEventStatus()) is None


@pytest.mark.parametrize(
    ("phase", "reason", "is_reopened"),
    [
        (Phase.SUCCEEDED, "ArchivedAndDeleted", False),
        (Phase.SUCCEEDED, "ArchivedAndKept", True),
        (Phase.SUCCEEDED, "DeletionAssumed", True),
        (Phase.SUCCEEDED, "Recorded", True),
        (Phase.FAILED, "NotPermitted", True),
    ],
)
def test_a_retry_starts_an_event_again_that_may_archive_more(
    phase: Phase, reason: str, *, is_reopened: bool
) -> None:
    assert is_reopened_by_retry(EnvelopeEventStatus(phase=phase, reason=reason)) is is_reopened


@pytest.mark.parametrize("phase", [Phase.FAILED, Phase.SKIPPED])
@pytest.mark.parametrize(("envelope", "is_copied"), [("Completed", True), ("Expired", False)])
def test_an_ended_event_whose_envelope_may_be_restarted_takes_no_copies(
    phase: Phase, envelope: str, *, is_copied: bool
) -> None:
    """Copies consider its callbacks, which may show that eSAW had the envelope after it was last seen."""
    conditions = tuple(map(a_condition, ("Validated", "Collected", "Archived")))
    ended = EnvelopeEventStatus(
        phase=phase,
        reason="EnvelopeNotFound",
        completion_time=THEN,
        conditions=conditions,
        envelope=EnvelopeSummary(status=envelope),
        archive=ArchiveLocation(ref=LocalObjectReference(name="dms")),
    )
    assert takes_copies(ended) is is_copied


def test_a_retry_takes_back_no_skip_that_an_event_does_not_show_while_it_makes_copies() -> None:
    skipped = EnvelopeEventStatus(
        phase=Phase.SKIPPED, reason="SkippedByRequest", completion_time=THEN, skipped_time=THEN
    )
    assert takes_back_skip(skipped)
    copying = status_for_copying(skipped, reason="CopyRequested", message="", now=NOW)
    assert not takes_back_skip(copying)
    assert takes_back_skip(with_kept_end(copying))

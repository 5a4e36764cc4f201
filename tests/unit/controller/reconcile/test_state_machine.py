"""The life of an event: what its status becomes after each answer of a phase."""

import dataclasses
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from controller.reconcile.outcomes import (
    Done,
    Fail,
    Hold,
    NeedConsent,
    Outcome,
    Pause,
    PhaseFacts,
    SideCondition,
    Skip,
    Wait,
)
from controller.reconcile.state_machine import (
    LAST_ATTEMPT,
    PHASE_ORDER,
    TransitionInput,
    attempt_timeout,
    next_phase,
    next_status,
    phase_to_resume,
    record_only_status,
    with_authorized,
    with_bare_documents,
)
from controller.scheduling.retry_policy import DOWNTIME
from counterfoil.durations import Duration
from counterfoil.resources import (
    MAX_MESSAGE_LENGTH,
    ArchiveLocation,
    Attempt,
    AttemptOutcome,
    EnvelopeEventStatus,
    EnvelopeSummary,
    FiledDocument,
    FileKind,
    LastError,
    LocalObjectReference,
    Phase,
    RetrySpec,
    find_condition,
    kept_without_success,
    stored_size,
)
from counterfoil.resources.envelopeevent import MAX_UNARCHIVED_BYTES
from tests.support.builders import NOON, an_event, an_organization

WITHOUT_COPIES = tuple(each for each in PHASE_ORDER if each is not Phase.COPYING)
"""The phases of an event of an Organization without copies."""

RETRY = RetrySpec(initial=Duration(seconds=10), max=Duration(hours=1), deadline=Duration(hours=24))


def at(minutes: float = 0) -> TransitionInput:
    return TransitionInput(
        now=NOON + timedelta(minutes=minutes), generation=1, retry=RETRY, random=lambda: 1.0
    )


def climbed(*phases: Phase) -> EnvelopeEventStatus:
    status = EnvelopeEventStatus()
    for phase in phases:
        status = next_status(status, phase, Done("Fine", "Fine."), at())
    return status


def reason(status: EnvelopeEventStatus, type_: str) -> tuple[str, str]:
    found = find_condition(status.conditions, type_)
    assert found is not None
    return found.status, found.reason


@pytest.mark.parametrize("kind", [Done, Wait, Hold, NeedConsent, Skip, Fail])
def test_a_message_is_as_long_as_a_status_takes_at_most(kind: type[Done]) -> None:
    status = next_status(EnvelopeEventStatus(), Phase.VALIDATING, kind("Odd", "ä" * 100_000), at())
    status = next_status(status, Phase.VALIDATING, Wait("Odd", "ä" * 100_000), at(25 * 60))
    assert_short(status)


def test_the_message_of_what_was_given_up_is_no_longer_than_others() -> None:
    given_up = EnvelopeEventStatus()
    for hour in range(25):
        outcome = Wait("Odd", "ä" * MAX_MESSAGE_LENGTH)
        given_up = next_status(given_up, Phase.VALIDATING, outcome, at(hour * 60))
    assert given_up.reason == "DeadlineExceeded"
    assert_short(given_up)


def assert_short(status: EnvelopeEventStatus) -> None:
    told = [status.message, *[each.message for each in status.conditions]]
    told += [status.last_error.message] if status.last_error is not None else []
    assert max(len(each or "") for each in told) <= MAX_MESSAGE_LENGTH


def test_the_happy_path_goes_through_all_phases_to_succeeded() -> None:
    status = climbed(*WITHOUT_COPIES)
    assert status.phase is Phase.SUCCEEDED
    assert reason(status, "Ready") == ("True", "Fine")
    assert status.completion_time == NOON
    assert {each.type for each in status.conditions if each.status == "True"} == {
        "Validated",
        "Collected",
        "Archived",
        "Cleaned",
        "Ready",
    }


@pytest.mark.parametrize(
    ("reached", "next_phase"),
    [
        ((), Phase.VALIDATING),
        (WITHOUT_COPIES[:1], Phase.COLLECTING),
        (WITHOUT_COPIES[:2], Phase.ARCHIVING),
        (WITHOUT_COPIES[:3], Phase.CLEANING),
    ],
)
def test_after_a_restart_it_continues_at_the_first_phase_that_was_not_reached(
    reached: tuple[Phase, ...], next_phase: Phase
) -> None:
    assert phase_to_resume(climbed(*reached)) is next_phase


def test_a_failed_attempt_is_counted_and_has_its_next_time() -> None:
    status = next_status(EnvelopeEventStatus(), Phase.VALIDATING, Wait("EsawUnreachable", "No answer."), at())
    assert (status.phase, status.reason, status.attempts) == (Phase.VALIDATING, "EsawUnreachable", 1)
    assert status.next_attempt_time == NOON + timedelta(seconds=10)
    assert status.last_error is not None
    assert status.last_error.reason == "EsawUnreachable"


def test_equal_retries_change_nothing_that_a_person_reads() -> None:
    once = next_status(EnvelopeEventStatus(), Phase.VALIDATING, Wait("EsawUnreachable", "No answer."), at())
    twice = next_status(once, Phase.VALIDATING, Wait("EsawUnreachable", "No answer."), at(1))
    assert (once.reason, once.message, once.conditions) == (twice.reason, twice.message, twice.conditions)
    assert twice.attempts == 2


def test_each_attempt_is_in_the_history_with_its_duration() -> None:
    started = NOON - timedelta(seconds=7.6)
    inputs = dataclasses.replace(at(), attempt_start=started)
    status = next_status(EnvelopeEventStatus(), Phase.VALIDATING, Wait("EsawUnreachable", "No."), inputs)
    status = next_status(status, Phase.VALIDATING, Done("Fine", "Fine."), at(1))
    assert status.attempt_history == (
        Attempt(
            phase=Phase.VALIDATING,
            start_time=started.replace(microsecond=0),
            duration_seconds=8,
            outcome=AttemptOutcome.WAIT,
            reason="EsawUnreachable",
        ),
        Attempt(
            phase=Phase.VALIDATING,
            start_time=NOON + timedelta(minutes=1),
            duration_seconds=0,
            outcome=AttemptOutcome.DONE,
            reason="Fine",
        ),
    )


@pytest.mark.parametrize("outcome", [Wait, NeedConsent, Skip, Fail, Done])
def test_each_outcome_of_an_attempt_has_a_name_in_the_history(outcome: type[Done]) -> None:
    status = next_status(EnvelopeEventStatus(), Phase.COLLECTING, outcome("Odd", "Odd."), at())
    assert [each.outcome for each in status.attempt_history] == [outcome.__name__]


def test_a_clock_that_was_set_back_makes_no_negative_duration() -> None:
    inputs = dataclasses.replace(at(), attempt_start=NOON + timedelta(hours=1))
    status = next_status(EnvelopeEventStatus(), Phase.COLLECTING, Wait("Odd", "Odd."), inputs)
    assert [each.duration_seconds for each in status.attempt_history] == [0]


def test_the_history_has_the_last_ten_attempts() -> None:
    status = EnvelopeEventStatus()
    for number in range(13):
        status = next_status(status, Phase.COLLECTING, Wait(f"Odd{number}", "Odd."), at(number))
    assert [each.reason for each in status.attempt_history] == [f"Odd{number}" for number in range(3, 13)]


def test_pauses_and_suspensions_are_no_attempts() -> None:
    until = NOON + timedelta(hours=1)
    status = next_status(EnvelopeEventStatus(), Phase.CLEANING, Pause("CleanupLater", "", until), at())
    status = next_status(status, Phase.CLEANING, Hold("Suspended", ""), at())
    assert status.attempt_history == ()


def test_an_attempt_that_changes_nothing_adds_nothing_so_that_it_costs_no_write() -> None:
    once = next_status(EnvelopeEventStatus(), Phase.VALIDATING, NeedConsent("KeyMissing", "No key."), at())
    assert next_status(once, Phase.VALIDATING, NeedConsent("KeyMissing", "No key."), at(5)) == once


def test_no_phase_waits_indefinitely() -> None:
    status = EnvelopeEventStatus()
    for hour in range(25):
        status = next_status(status, Phase.ARCHIVING, Wait("ArchiveFull", "No room."), at(hour * 60))
    assert (status.phase, status.reason) == (Phase.FAILED, "DeadlineExceeded")
    assert status.message is not None
    assert "ArchiveFull: No room." in status.message
    assert status.last_error is not None
    assert status.last_error.reason == "ArchiveFull"


def test_each_phase_has_its_own_attempts_and_deadline() -> None:
    status = next_status(EnvelopeEventStatus(), Phase.VALIDATING, Wait("EsawUnreachable", ""), at())
    status = next_status(status, Phase.VALIDATING, Done("Fine", ""), at(60))
    assert status.attempts == 0
    assert status.phase_start_time == NOON + timedelta(minutes=60)


def test_a_pause_is_no_attempt_and_no_error() -> None:
    until = NOON + timedelta(days=7)
    status = next_status(
        climbed(*WITHOUT_COPIES[:3]), Phase.CLEANING, Pause("CleanupDelayed", "Later.", until), at()
    )
    assert (status.phase, status.next_attempt_time, status.attempts) == (Phase.CLEANING, until, 0)
    assert status.last_error is None


def test_a_pause_longer_than_the_deadline_leaves_the_whole_deadline_for_what_comes_after_it() -> None:
    pause = Pause("CleanupDelayed", "Later.", NOON + timedelta(days=7))
    paused = next_status(climbed(*WITHOUT_COPIES[:3]), Phase.CLEANING, pause, at())
    late = next_status(paused, Phase.CLEANING, Wait("EsawUnreachable", ""), at(7 * 24 * 60))
    assert late.phase is Phase.CLEANING


def test_the_deadline_does_not_count_a_day_on_which_the_controller_did_not_run() -> None:
    status = next_status(EnvelopeEventStatus(), Phase.VALIDATING, Wait("EsawUnreachable", "Away."), at())

    after_the_downtime = next_status(
        status, Phase.VALIDATING, Wait("EsawUnreachable", "Away."), at(minutes=25 * 60)
    )

    assert (after_the_downtime.phase, after_the_downtime.attempts) == (Phase.VALIDATING, 2)
    next_attempt = after_the_downtime.next_attempt_time
    for minutes in range(25 * 60, 60 * 60, 30):
        after_the_downtime = next_status(
            after_the_downtime, Phase.VALIDATING, Wait("EsawUnreachable", "Away."), at(minutes=minutes)
        )
    assert next_attempt is not None
    assert after_the_downtime.reason == "DeadlineExceeded"


def full(minutes: float) -> Pause:
    return Pause("WaitingForArchive", "Full.", NOON + timedelta(minutes=minutes))


SLOW = Wait("AttemptOverdue", "Slow.")


def test_waits_for_room_between_two_failures_begin_no_new_deadline() -> None:
    """With two copies, one Archive may be full and the other one slow, in turn and without an end."""
    status = climbed(*WITHOUT_COPIES[:3])
    for hour in range(50):
        status = next_status(status, Phase.CLEANING, SLOW, at(hour * 60))
        if status.phase is not Phase.FAILED:
            status = next_status(status, Phase.CLEANING, full(hour * 60 + 30), at(hour * 60 + 30))
    assert (status.phase, status.reason) == (Phase.FAILED, "DeadlineExceeded")


def test_the_time_in_the_queue_for_room_is_no_part_of_the_deadline() -> None:
    status = next_status(climbed(*WITHOUT_COPIES[:3]), Phase.CLEANING, SLOW, at())
    status = next_status(status, Phase.CLEANING, full(30), at(30))
    status = next_status(status, Phase.CLEANING, SLOW, at(72 * 60))
    assert status.phase is Phase.CLEANING
    first = next_status(climbed(*WITHOUT_COPIES[:3]), Phase.CLEANING, full(0), at())
    assert first.phase_start_time is None, "no attempt failed before"


def with_waits_for_room(status: EnvelopeEventStatus, phase: Phase, hours: int) -> EnvelopeEventStatus:
    """Let an event be 15 minutes in the queue of each hour, and wait for room in a run for the others."""
    for hour in range(hours):
        inputs = dataclasses.replace(at((hour + 1) * 60), attempt_start=at(hour * 60 + 15).now)
        status = next_status(status, phase, full((hour + 1) * 60), inputs)
    return status


def test_an_event_that_only_waits_for_room_uses_up_none_of_its_deadline() -> None:
    failed = next_status(climbed(*WITHOUT_COPIES[:3]), Phase.CLEANING, SLOW, at())
    status = with_waits_for_room(failed, Phase.CLEANING, hours=48)
    assert attempt_timeout(status, at(48 * 60 + 15), timedelta(hours=6)) == timedelta(hours=6)
    status = next_status(status, Phase.CLEANING, SLOW, at(48 * 60 + 25))
    assert (status.phase, status.attempts) == (Phase.CLEANING, 2)


def test_waits_for_room_before_a_phase_that_is_repeated_use_up_none_of_the_deadline() -> None:
    changed = Wait("FilesChanged", "Changed.", restart_from=Phase.ARCHIVING)
    status = next_status(climbed(*WITHOUT_COPIES[:3]), Phase.CLEANING, changed, at())
    status = with_waits_for_room(status, Phase.ARCHIVING, hours=48)
    status = next_status(status, Phase.ARCHIVING, Done("Fine", "Fine."), at(72 * 60))
    status = next_status(status, Phase.CLEANING, SLOW, at(72 * 60))
    assert status.phase is Phase.CLEANING


def test_while_a_person_holds_it_no_deadline_runs() -> None:
    status = next_status(EnvelopeEventStatus(), Phase.VALIDATING, Wait("EsawUnreachable", ""), at())
    held = next_status(status, Phase.VALIDATING, Hold("Suspended", "Held."), at(1))
    assert held.next_attempt_time is None
    later = next_status(held, Phase.VALIDATING, Wait("EsawUnreachable", ""), at(48 * 60))
    assert later.phase is Phase.VALIDATING


def test_a_dead_key_parks_the_event_without_a_time_and_without_losing_what_was_reached() -> None:
    status = next_status(
        climbed(*WITHOUT_COPIES[:3]), Phase.CLEANING, NeedConsent("TokenRejected", "The key."), at()
    )
    assert (status.phase, status.next_attempt_time) == (Phase.AWAITING_CONSENT, None)
    assert reason(status, "Authorized") == ("False", "TokenRejected")
    assert phase_to_resume(status) is Phase.CLEANING


def test_what_was_skipped_begins_at_the_beginning_when_it_is_reopened() -> None:
    status = next_status(
        climbed(*WITHOUT_COPIES[:3]), Phase.CLEANING, Skip("EnvelopeRestarted", "Alive."), at()
    )
    assert status.phase is Phase.SKIPPED
    assert phase_to_resume(status) is Phase.VALIDATING


def test_a_failure_keeps_what_was_reached_so_that_a_retry_continues_from_there() -> None:
    status = next_status(
        climbed(*WITHOUT_COPIES[:2]), Phase.ARCHIVING, Fail("ArchiveOccupied", "Taken."), at()
    )
    assert (status.phase, status.completion_time) == (Phase.FAILED, NOON)
    assert phase_to_resume(status) is Phase.ARCHIVING
    assert reason(status, "Archived") == ("False", "ArchiveOccupied")


def test_an_outcome_can_undo_an_earlier_phase() -> None:
    changed = Wait("FilesChanged", "Others.", restart_from=Phase.COLLECTING)
    status = next_status(climbed(*WITHOUT_COPIES[:2]), Phase.ARCHIVING, changed, at())
    assert phase_to_resume(status) is Phase.COLLECTING


def test_what_came_after_an_undone_phase_is_undone_with_it_so_that_no_old_proof_survives() -> None:
    changed = Wait("FilesChanged", "Others.", restart_from=Phase.COLLECTING)
    status = next_status(climbed(*WITHOUT_COPIES[:3]), Phase.CLEANING, changed, at())
    assert reason(status, "Archived") == ("False", "FilesChanged")
    assert reason(status, "Validated") == ("True", "Fine")


def test_a_phase_that_is_repeated_keeps_its_deadline_and_its_backoff() -> None:
    changed = Wait("FilesChanged", "Others.", restart_from=Phase.COLLECTING)
    status = next_status(climbed(*WITHOUT_COPIES[:3]), Phase.CLEANING, changed, at())
    for phase in (Phase.COLLECTING, Phase.ARCHIVING):
        status = next_status(status, phase, Done("Fine", ""), at(60))
        assert (status.phase_start_time, status.attempts) == (NOON, 1)
    given_up = next_status(status, Phase.CLEANING, changed, at(24 * 60))
    assert given_up.reason == "DeadlineExceeded"


def test_a_phase_that_follows_a_repeated_one_for_the_first_time_begins_to_count() -> None:
    changed = Wait("FilesChanged", "Others.", restart_from=Phase.COLLECTING)
    status = next_status(climbed(*WITHOUT_COPIES[:2]), Phase.ARCHIVING, changed, at())
    status = next_status(status, Phase.COLLECTING, Done("Fine", ""), at(60))
    assert status.phase_start_time == NOON
    status = next_status(status, Phase.ARCHIVING, Done("Fine", ""), at(120))
    assert (status.phase_start_time, status.attempts) == (NOON + timedelta(hours=2), 0)


@pytest.mark.parametrize(
    "outcome",
    [
        Done("A", ""),
        Wait("A", ""),
        Pause("A", "", NOON),
        Hold("A", ""),
        NeedConsent("A", ""),
        Skip("A", ""),
        Fail("A", ""),
    ],
    ids=lambda outcome: type(outcome).__name__,
)
def test_what_a_phase_learned_is_kept_with_any_outcome(outcome: Outcome) -> None:

    seen = EnvelopeSummary(name="Contract", status="Completed")
    told = dataclasses.replace(outcome, facts=PhaseFacts(envelope=seen))
    assert next_status(EnvelopeEventStatus(), Phase.VALIDATING, told, at()).envelope == seen


def test_an_event_that_is_only_recorded_succeeds_without_a_phase() -> None:
    status = record_only_status(EnvelopeEventStatus(), Done("Recorded", "Noted."), at())
    assert (status.phase, status.reason) == (Phase.SUCCEEDED, "Recorded")


WEBHOOK = {"url": "https://erp.acme.example/hook", "signingSecretRef": {"name": "hook", "key": "secret"}}


@pytest.mark.parametrize(
    ("inputs", "has_notice"),
    [
        ({"event": an_event().build(), "organization": an_organization(webhook=WEBHOOK)}, True),
        ({"event": an_event().build(), "organization": an_organization()}, False),
        ({"event": an_event().build()}, False),
        ({}, False),
    ],
)
def test_a_final_status_has_its_notice_if_the_organization_has_a_webhook(
    inputs: dict[str, Any], has_notice: bool
) -> None:
    moment = dataclasses.replace(at(), **inputs)
    waiting = next_status(EnvelopeEventStatus(), Phase.VALIDATING, Wait("Busy", "Later."), moment)
    failed = next_status(waiting, Phase.VALIDATING, Fail("Broken", "It is broken."), moment)
    archived = climbed(Phase.VALIDATING, Phase.COLLECTING, Phase.ARCHIVING)
    recorded = record_only_status(archived, Done("Recorded", "Noted."), moment)
    assert waiting.notice is None
    assert [each.notice is not None for each in (failed, recorded)] == [has_notice, has_notice]


@pytest.mark.parametrize("deadline_has_passed", [False, True])
def test_a_doubted_key_is_not_called_accepted_until_it_is_in_use_again(deadline_has_passed: bool) -> None:
    accepted = with_authorized(an_event().build().status, "anna", at())
    since = at().now - timedelta(days=365) if deadline_has_passed else None
    accepted = msgspec.structs.replace(accepted, phase_start_time=since)
    doubted = next_status(accepted, Phase.VALIDATING, Wait("KeyDoubted", "401 was the answer."), at())
    found = find_condition(doubted.conditions, "Authorized")
    assert found is not None
    assert (found.status, found.reason) == ("Unknown", "KeyDoubted")
    again = find_condition(with_authorized(doubted, "anna", at(5)).conditions, "Authorized")
    assert again is not None
    assert again.status == "True"


def test_the_authorized_condition_is_set_once_and_then_not_changed() -> None:
    once = with_authorized(an_event().build().status, "anna", at())
    assert with_authorized(once, "anna", at(5)) is once


@pytest.mark.parametrize(
    ("outcome", "ready", "stalled"),
    [
        (Done("Fine", "Fine."), "False", "False"),
        (Wait("EsawUnreachable", "No answer."), "False", "False"),
        (Wait("ArchiveUnreachable", "No answer."), "False", "False"),
        (Wait("TagMissing", "No tag."), "False", "True"),
        (Pause("CleanupDelayed", "Later.", NOON), "False", "False"),
        (Hold("Suspended", "Held."), "False", "True"),
        (NeedConsent("ConsentRequired", "No key."), "False", "True"),
        (Skip("UnexpectedStatus", "Expired."), "True", "False"),
        (Fail("NotPermitted", "No."), "False", "True"),
        (Fail("ArchiveFailing", "A failed event waits for a person."), "False", "True"),
    ],
    ids=lambda value: getattr(value, "reason", None),
)
def test_the_summary_says_whether_a_person_has_to_act(outcome: Outcome, ready: str, stalled: str) -> None:
    status = next_status(EnvelopeEventStatus(), Phase.VALIDATING, outcome, at())
    found = {each.type: each.status for each in status.conditions}
    assert (found["Ready"], found["Stalled"]) == (ready, stalled)


def test_an_event_that_was_given_up_is_stalled() -> None:
    status = EnvelopeEventStatus()
    for hour in range(25):
        status = next_status(status, Phase.VALIDATING, Wait("EsawUnreachable", "No."), at(hour * 60))
    assert reason(status, "Stalled") == ("True", "DeadlineExceeded")


def test_an_event_that_is_archived_is_ready_and_not_stalled() -> None:
    assert reason(climbed(*WITHOUT_COPIES), "Stalled") == ("False", "NotStalled")


@pytest.mark.parametrize(
    ("number", "following"),
    [(1, Phase.COLLECTING), (2, Phase.ARCHIVING), (3, Phase.CLEANING), (4, Phase.SUCCEEDED)],
)
def test_each_phase_is_followed_by_the_next(number: int, following: Phase) -> None:
    status = climbed(*WITHOUT_COPIES[:number])
    assert next_phase(WITHOUT_COPIES[number - 1], status) is following
    assert status.phase is following


def test_a_phase_that_begins_has_no_reason_of_the_one_before_and_no_time_to_wait_for() -> None:
    waiting = next_status(EnvelopeEventStatus(), Phase.VALIDATING, Wait("EsawUnreachable", "No."), at())
    status = next_status(waiting, Phase.VALIDATING, Done("Fine", "Fine."), at(1))
    assert (status.reason, status.message, status.next_attempt_time) == (None, None, None)
    assert reason(status, "Ready") == ("False", "InProgress")
    ready = find_condition(status.conditions, "Ready")
    assert ready is not None
    assert ready.message == "The event is Collecting."


def test_everything_that_ended_has_its_time_and_nothing_to_wait_for() -> None:
    waiting = next_status(EnvelopeEventStatus(), Phase.VALIDATING, Wait("EsawUnreachable", "No."), at())
    for outcome in (Fail("NotPermitted", "No."), Skip("UnexpectedStatus", "Expired.")):
        status = next_status(waiting, Phase.VALIDATING, outcome, at(1))
        assert (status.completion_time, status.next_attempt_time) == (NOON + timedelta(minutes=1), None)
        assert reason(status, "Validated") == ("False", outcome.reason)


def test_the_first_start_and_the_newest_generation_are_reported() -> None:
    status = next_status(EnvelopeEventStatus(), Phase.VALIDATING, Wait("Odd", "Odd."), at())
    newer = dataclasses.replace(at(1), generation=2)
    status = next_status(status, Phase.VALIDATING, Done("Fine", "Fine."), newer)
    assert (status.start_time, status.observed_generation) == (NOON, 2)
    validated = find_condition(status.conditions, "Validated")
    assert validated is not None
    assert (validated.observed_generation, validated.last_transition_time) == (2, newer.now)


def test_each_condition_of_a_resumed_event_describes_its_newest_spec() -> None:
    # `kubectl wait` ignores a condition of an older generation.
    held = next_status(climbed(*WITHOUT_COPIES[:3]), Phase.CLEANING, Hold("Suspended", "Held."), at())
    resumed = dataclasses.replace(at(1), generation=3)
    status = next_status(held, Phase.CLEANING, Done("Deleted", "Deleted."), resumed)
    assert status.phase is Phase.SUCCEEDED
    assert {each.observed_generation for each in status.conditions} == {3}


def test_a_failure_is_the_last_error_with_its_time() -> None:
    status = next_status(EnvelopeEventStatus(), Phase.VALIDATING, Fail("NotPermitted", "No."), at(3))
    assert status.last_error == LastError(reason="NotPermitted", message="No.", time=at(3).now)


def test_a_skipped_event_has_no_error() -> None:
    status = next_status(EnvelopeEventStatus(), Phase.VALIDATING, Skip("UnexpectedStatus", "Expired."), at())
    assert status.last_error is None


def test_a_retry_after_is_kept_to() -> None:
    later = NOON + timedelta(minutes=10)
    status = next_status(EnvelopeEventStatus(), Phase.VALIDATING, Wait("Odd", "Odd.", not_before=later), at())
    assert status.next_attempt_time is not None
    assert status.next_attempt_time >= later


def test_attempts_are_spread_at_random() -> None:
    early = dataclasses.replace(at(), random=lambda: 0.0)
    wait = Wait("Odd", "Odd.")
    times = [
        next_status(EnvelopeEventStatus(), Phase.VALIDATING, wait, each).next_attempt_time
        for each in (early, at())
    ]
    assert times[0] != times[1]


def test_each_further_attempt_is_counted() -> None:
    status = EnvelopeEventStatus()
    for number in range(1, 4):
        status = next_status(status, Phase.VALIDATING, Wait("Odd", "Odd."), at(number))
        assert status.attempts == number


@pytest.mark.parametrize(("late", "left_out"), [(DOWNTIME, False), (DOWNTIME + timedelta(seconds=1), True)])
def test_only_an_attempt_that_is_late_by_more_than_the_downtime_moves_the_deadline(
    late: timedelta, left_out: bool
) -> None:
    assert timedelta(hours=1) == DOWNTIME
    status = next_status(EnvelopeEventStatus(), Phase.VALIDATING, Wait("Odd", "Odd."), at())
    assert status.next_attempt_time is not None
    inputs = dataclasses.replace(at(), now=status.next_attempt_time + late)
    status = next_status(status, Phase.VALIDATING, Wait("Odd", "Odd."), inputs)
    assert status.phase_start_time == (NOON + late if left_out else NOON)


def test_the_count_of_a_dead_key_restarts_when_the_key_works_again() -> None:
    status = next_status(EnvelopeEventStatus(), Phase.VALIDATING, Wait("EsawUnreachable", ""), at())
    status = next_status(status, Phase.VALIDATING, NeedConsent("TokenRejected", "The key."), at(1))
    assert (status.attempts, status.phase_start_time, status.next_attempt_time) == (0, None, None)
    late = next_status(status, Phase.VALIDATING, Wait("EsawUnreachable", ""), at(48 * 60))
    assert late.phase is Phase.VALIDATING


def test_all_that_a_phase_determined_is_stored_and_the_next_changes_only_what_it_determined() -> None:
    documents = (FiledDocument(file_id="d1", kind=FileKind.DOCUMENT, file_name="contract.pdf"),)
    archive = ArchiveLocation(ref=LocalObjectReference(name="dms"))
    side_condition = SideCondition("SignaturesValid", "Unknown", "NotChecked", "Nobody looked.")
    facts = PhaseFacts(documents=documents, archive=archive, mismatches=2, side_conditions=(side_condition,))
    status = next_status(EnvelopeEventStatus(), Phase.COLLECTING, Done("Fine", "", facts=facts), at())
    status = next_status(status, Phase.ARCHIVING, Done("Fine", "", facts=PhaseFacts(mismatches=0)), at())
    assert (status.documents, status.archive, status.mismatches) == (documents, archive, 0)
    assert reason(status, "SignaturesValid") == ("Unknown", "NotChecked")


def test_an_event_that_is_only_recorded_is_ready_and_has_ended() -> None:
    status = record_only_status(EnvelopeEventStatus(), Done("Recorded", "Noted."), at())
    assert reason(status, "Ready") == ("True", "Recorded")
    assert (status.message, status.completion_time) == ("Noted.", NOON)
    assert find_condition(status.conditions, "Validated") is None


def test_the_key_of_another_sender_is_called_accepted_again() -> None:
    once = with_authorized(an_event().build().status, "anna", at())
    other = with_authorized(once, "bert", at(5))
    found = find_condition(other.conditions, "Authorized")
    assert found is not None
    assert (found.status, found.reason) == ("True", "KeyAccepted")
    assert "Sender/bert" in found.message


def test_what_is_retried_after_a_loss_is_collected_again_and_proves_nothing() -> None:
    facts = PhaseFacts(
        documents=(FiledDocument(file_id="d1", kind=FileKind.DOCUMENT, file_name="contract.pdf"),)
    )
    status = next_status(climbed(WITHOUT_COPIES[0]), Phase.COLLECTING, Done("Fine", "", facts=facts), at())
    status = next_status(status, Phase.ARCHIVING, Done("Fine", ""), at())
    emptied = with_bare_documents(status, Fail("FilesLost", "They are gone."), at(1))
    assert emptied.documents == (FiledDocument(file_id="d1", kind=FileKind.DOCUMENT, file_name=""),)
    assert reason(emptied, "Validated") == ("True", "Fine")
    assert [reason(emptied, each) for each in ("Collected", "Archived")] == [("False", "FilesLost")] * 2
    assert phase_to_resume(emptied) is Phase.COLLECTING


def files_of(count: int, archived: int = 0, **fields: Any) -> tuple[FiledDocument, ...]:
    """A long list: documents, the first ones archived, then an audit trail."""
    documents = [
        FiledDocument(
            file_id=f"d{each}",
            kind=FileKind.DOCUMENT,
            file_name="x" * 200,
            location=f"file:///archive/d{each}",
            sha256="ab" * 32 if each < archived else None,
            **fields,
        )
        for each in range(count)
    ]
    return (*documents, FiledDocument(file_id="trail", kind=FileKind.AUDIT_TRAIL, file_name="trail.pdf"))


ENDS = [Fail("EsawRefused", "No."), Skip("UnexpectedStatus", "No."), Wait("EsawFailing", "No answer.")]


@pytest.mark.parametrize("end", ENDS)
def test_an_event_that_ends_without_success_keeps_the_archived_files_and_few_others(end: Outcome) -> None:
    listed = files_of(2000, archived=500)
    status = msgspec.structs.replace(climbed(WITHOUT_COPIES[0], WITHOUT_COPIES[1]), documents=listed)
    after = next_status(status, Phase.ARCHIVING, end, at(minutes=25 * 60))
    assert after.phase in (Phase.FAILED, Phase.SKIPPED)
    assert [each for each in after.documents if each.sha256] == list(listed[:500])
    others = [each for each in after.documents if not each.sha256]
    assert 0 < stored_size(others) <= MAX_UNARCHIVED_BYTES
    assert others[-1] == listed[-1], "an audit trail is recognised by its location only"
    assert set(others) <= set(listed)
    assert reason(after, "Collected")[0] == "False"
    assert reason(after, "EvidenceComplete") == ("Unknown", "DocumentsPending")


def test_an_event_that_ends_without_success_keeps_each_file_of_a_common_list() -> None:
    status = msgspec.structs.replace(climbed(WITHOUT_COPIES[0], WITHOUT_COPIES[1]), documents=files_of(50))
    after = next_status(status, Phase.ARCHIVING, Fail("EsawRefused", "No."), at())
    assert after.documents == status.documents
    assert reason(after, "Collected")[0] == "True"
    assert find_condition(after.conditions, "EvidenceComplete") is None


def test_any_number_of_archived_files_is_kept() -> None:
    listed = files_of(2000, archived=2000)[:-1]
    assert kept_without_success(listed) == listed


def test_of_files_that_are_listed_now_one_is_kept_however_long_the_outdated_list_is() -> None:
    """A status without a file that eSAW lists now would look archived."""
    current = FiledDocument(file_id="new", kind=FileKind.DOCUMENT, file_name="<" * 4096 * 2)
    assert stored_size((current,)) > MAX_UNARCHIVED_BYTES
    assert kept_without_success((*files_of(2000, outdated=True)[:-1], current)) == (current,)


def test_missing_evidence_is_not_forgotten_with_a_long_list() -> None:
    missing = SideCondition("EvidenceComplete", "False", "AuditTrailMissing", "None.")
    facts = PhaseFacts(documents=files_of(2000), side_conditions=(missing,))
    failed = next_status(
        climbed(WITHOUT_COPIES[0], WITHOUT_COPIES[1]), Phase.ARCHIVING, Fail("No", "No.", facts=facts), at()
    )
    assert reason(failed, "EvidenceComplete") == ("False", "AuditTrailMissing")


def test_a_phase_that_a_clock_ahead_began_fails_at_its_deadline() -> None:
    status = EnvelopeEventStatus(phase=Phase.ARCHIVING, phase_start_time=NOON + timedelta(days=30))
    wait = Wait("EsawFailing", "no answer")
    waiting = next_status(status, Phase.ARCHIVING, wait, at())
    assert waiting.phase_start_time == NOON
    last = msgspec.structs.replace(waiting, next_attempt_time=NOON + timedelta(hours=24))
    assert next_status(last, Phase.ARCHIVING, wait, at(minutes=24 * 60)).phase is Phase.FAILED


@pytest.mark.parametrize(
    ("minutes", "expected"),
    [
        pytest.param(0, timedelta(hours=6), id="the longest attempt"),
        pytest.param(22 * 60, timedelta(hours=2), id="until the deadline of the phase"),
        pytest.param(30 * 60, LAST_ATTEMPT, id="the last attempt has some time"),
    ],
)
def test_an_attempt_may_last_until_the_deadline_of_its_phase(minutes: int, expected: timedelta) -> None:
    status = EnvelopeEventStatus(phase_start_time=NOON)
    assert attempt_timeout(status, at(minutes), timedelta(hours=6)) == expected


def test_an_open_question_has_no_deadline_that_shortens_an_attempt() -> None:
    unanswered = SideCondition("RestartChecked", "Unknown", "EsawFailing", "503")
    facts = PhaseFacts(side_conditions=(unanswered,), is_question_open=True)
    wait = Wait("ArchiveUnreachable", "down", facts=facts)
    status = EnvelopeEventStatus(phase=Phase.COPYING, phase_start_time=NOON)
    late = next_status(status, Phase.COPYING, wait, at(30 * 60))
    assert attempt_timeout(late, at(31 * 60), timedelta(hours=6)) == timedelta(hours=6)


def test_the_time_in_which_the_controller_did_not_run_leaves_the_attempt_its_time() -> None:
    status = EnvelopeEventStatus(phase_start_time=NOON, next_attempt_time=NOON + timedelta(hours=1))
    assert attempt_timeout(status, at(30 * 60), timedelta(hours=6)) == timedelta(hours=6)


def test_attempts_that_last_for_hours_come_to_the_deadline_too() -> None:
    status = next_status(EnvelopeEventStatus(), Phase.ARCHIVING, Wait("Slow", "Slow."), at())
    for _ in range(20):
        if status.next_attempt_time is None:
            break
        start = status.next_attempt_time
        inputs = dataclasses.replace(at(), attempt_start=start, now=start + timedelta(hours=3))
        status = next_status(status, Phase.ARCHIVING, Wait("Slow", "Slow."), inputs)
    assert (status.phase, status.reason) == (Phase.FAILED, "DeadlineExceeded")

"""The status has each problem once, even if it occurs repeatedly."""

from datetime import timedelta

import pytest

from controller.mails.problem_tracking import (
    MAX_EXAMPLES,
    MAX_PROBLEMS,
    FailureSummary,
    Observation,
    Problems,
    add_observation,
    apply_summary,
    close_problem,
    failure_observation,
    find_problem,
    full_kinds,
    mark_ended,
    mark_notified,
    with_count,
    with_state,
)
from counterfoil.i18n.problems import ProblemKind, archive_of, kind_of
from counterfoil.resources import (
    ArchiveLocation,
    Attempt,
    AttemptOutcome,
    EnvelopeEvent,
    LastError,
    LocalObjectReference,
    Phase,
    ReportedProblem,
)
from counterfoil.resources.routes import Choice
from tests.support.builders import NOON, an_event
from tests.support.scenes.notifications import a_failed_event, a_problem, in_archive

CAUSE = "failed/NameOccupied/dms"
LATER = NOON + timedelta(hours=1)


def noted(*numbers: int) -> Problems:
    problems: Problems = ()
    for number in numbers:
        problems = add_observation(problems, failure_observation(a_failed_event(number), "dms"), NOON)
    return problems


def only(problems: Problems) -> ReportedProblem:
    (found,) = problems
    return found


def test_many_events_of_one_cause_are_one_problem_with_a_count_and_some_examples() -> None:
    problem = only(noted(*range(1, 21)))
    assert (problem.cause, problem.reason, problem.count) == (CAUSE, "NameOccupied", 20)
    assert len(problem.examples) == MAX_EXAMPLES
    assert problem.message == "A file has this name already."


def test_events_of_different_reasons_or_archives_are_different_problems() -> None:
    problems = noted(1)
    problems = add_observation(problems, failure_observation(a_failed_event(2, "SenderUnknown"), "dms"), NOON)
    elsewhere = a_failed_event(3, archive=ArchiveLocation(ref=LocalObjectReference(name="other")))
    problems = add_observation(problems, failure_observation(elsewhere, "dms"), NOON)
    assert [each.cause for each in problems] == [
        CAUSE,
        "failed/SenderUnknown",
        "failed/NameOccupied/other",
    ]
    assert [archive_of(each) for each in problems] == ["dms", "", "other"]
    assert {kind_of(each) for each in problems} == {"failed"}


def test_an_event_that_was_given_up_counts_for_the_reason_of_its_last_attempt() -> None:
    error = LastError(reason="ArchiveFull", message="No space is left.", time=NOON)
    observation = failure_observation(a_failed_event(1, "DeadlineExceeded", last_error=error), "dms")
    assert (observation.cause, observation.reason, observation.message) == (
        "failed/ArchiveFull/dms",
        "ArchiveFull",
        "No space is left.",
    )


def test_a_reported_problem_stays_reported_with_any_number_of_later_events() -> None:
    problems = mark_notified(noted(1), CAUSE, NOON)
    for number in range(2, 200):
        problems = add_observation(problems, failure_observation(a_failed_event(number), "dms"), LATER)
    assert only(problems).notified_time == NOON
    assert only(problems).count == 199


def test_a_problem_that_comes_back_before_its_end_was_reported_is_the_same() -> None:
    problems = mark_ended(mark_notified(noted(1), CAUSE, NOON), CAUSE, LATER)
    assert only(problems).solved_time == LATER
    back = only(add_observation(problems, failure_observation(a_failed_event(2), "dms"), LATER))
    assert (back.solved_time, back.notified_time, back.start_time, back.count) == (None, NOON, NOON, 1)


def test_a_problem_keeps_the_reason_of_its_mail() -> None:
    outage = Observation("archive/dms", "ArchiveUnreachable", message="No answer.")
    other = Observation("archive/dms", "ArchiveFailing", message="It answered 500.")
    new = with_state(with_state((), outage, NOON), other, NOON)
    assert only(new).reason == "ArchiveFailing", "no mail was sent yet"
    mailed = mark_notified(with_state((), outage, NOON), "archive/dms", NOON)
    after = only(with_state(mailed, other, LATER))
    assert (after.reason, after.message) == ("ArchiveUnreachable", "It answered 500.")
    returned = with_state(mark_ended(mailed, "archive/dms", NOON), other, LATER)
    assert (only(returned).reason, only(returned).solved_time) == ("ArchiveUnreachable", None)


def test_a_problem_whose_end_was_reported_goes_away() -> None:
    assert close_problem(mark_ended(mark_notified(noted(1), CAUSE, NOON), CAUSE, LATER), CAUSE) == ()


def test_a_problem_that_comes_back_while_its_end_is_reported_is_a_new_one() -> None:
    back = add_observation(
        mark_ended(mark_notified(noted(1), CAUSE, NOON), CAUSE, LATER),
        failure_observation(a_failed_event(2), "dms"),
        LATER,
    )
    assert only(close_problem(back, CAUSE)).notified_time is None


def test_the_problems_have_their_bounds() -> None:
    problems: Problems = ()
    for number in range(MAX_PROBLEMS + 50):
        problems = add_observation(problems, Observation(f"failed/Reason{number}", f"Reason{number}"), NOON)
    assert full_kinds(problems[:-1]) == frozenset()
    assert full_kinds(problems) == {"failed"}
    assert add_observation(problems, Observation("failed/Another", "Another"), NOON) == problems
    assert only(
        with_count((), Observation("failed/X", "X", examples=tuple("abcdefgh")), NOON)
    ).examples == tuple("abcde")


def test_a_kind_that_is_full_drops_no_problem_of_another_kind() -> None:
    problems: Problems = ()
    kinds = [each for each in ProblemKind if each is not ProblemKind.FAILED]
    for number in range(MAX_PROBLEMS + 50):
        problems = with_count(problems, Observation(f"failed/Reason{number}", f"Reason{number}"), NOON)
    for kind in kinds:
        problems = with_count(problems, Observation(f"{kind}/Any", "Any"), NOON)
    assert {kind_of(each) for each in problems} == {*ProblemKind}


def test_the_places_of_all_kinds_are_not_more_than_the_list_has() -> None:
    problems: Problems = ()
    for kind in ProblemKind:
        for number in range(MAX_PROBLEMS):
            problems = with_count(problems, Observation(f"{kind}/Reason{number}", f"Reason{number}"), NOON)
    assert len(problems) < MAX_PROBLEMS
    most = {each.value for each in ProblemKind}
    older = tuple(a_problem(f"unreadable/{number}") for number in range(MAX_PROBLEMS))
    assert full_kinds(older) == {"failed", "key", "archive", "webhook", "import", "copy"} <= most
    assert with_count(older, Observation("esaw", "EsawFailing"), NOON) == older


def test_a_counted_problem_that_did_not_change_is_as_it_was() -> None:
    problems = with_count((), Observation("archive/dms", "ArchiveFull", count=3), NOON)
    assert with_count(problems, Observation("archive/dms", "ArchiveFull", count=3), LATER) == problems


# -- The pass over all events --------------------------------------------------------------------------------


def summary_of(*events: EnvelopeEvent) -> FailureSummary:
    summary = FailureSummary()
    for each in events:
        summary.add(each, in_archive("dms"))
    return summary


def after_pass(problems: Problems, summary: FailureSummary) -> Problems:
    return apply_summary(problems, summary, began=NOON + timedelta(minutes=30), now=LATER)


def test_a_pass_finds_what_failed_before_this_process_began() -> None:
    found = after_pass((), summary_of(*(a_failed_event(number) for number in range(1, 8))))
    assert (only(found).cause, only(found).count, len(only(found).examples)) == (CAUSE, 7, MAX_EXAMPLES)


def test_a_pass_corrects_a_count() -> None:
    assert only(after_pass(noted(1, 2, 3, 4), summary_of(a_failed_event(1)))).count == 1


def test_a_problem_of_which_a_pass_finds_nothing_is_solved() -> None:
    problem = only(after_pass(mark_notified(noted(1, 2), CAUSE, NOON), summary_of()))
    assert (problem.solved_time, problem.count) == (LATER, 2), "the mail about the end states the count"


def test_a_pass_that_could_not_read_each_event_solves_nothing() -> None:
    retention = a_problem("retention/RetentionEnding")
    problems = after_pass((*noted(1, 2), retention), FailureSummary(unreadable=1))
    assert [each.solved_time for each in problems] == [None, None, None]
    assert problems[-1].cause == "unreadable/EventUnreadable"


def test_what_failed_after_the_pass_began_is_neither_solved_nor_counted_down_by_it() -> None:
    problems = add_observation((), failure_observation(a_failed_event(1, at=LATER), "dms"), LATER)
    assert after_pass(problems, summary_of()) == problems
    assert after_pass(problems, summary_of(a_failed_event(2))) == problems


def retried(reason: str) -> EnvelopeEvent:
    error = LastError(reason=reason, message="", time=NOON)
    return an_event().in_phase(Phase.ARCHIVING, "RetryRequested").status(last_error=error).build()


def test_a_problem_is_not_solved_while_its_events_are_tried_again() -> None:
    problems = mark_notified(noted(1), CAUSE, NOON)
    assert only(after_pass(problems, summary_of(retried("NameOccupied")))).solved_time is None
    assert only(after_pass(problems, summary_of(retried("EsawUnreachable")))).solved_time == LATER


def attempt(phase: Phase, outcome: str, reason: str) -> Attempt:
    return Attempt(
        phase=phase, start_time=NOON, duration_seconds=1, outcome=AttemptOutcome(outcome), reason=reason
    )


FAILED_BEFORE = attempt(Phase.ARCHIVING, "Fail", "NameOccupied")
ESAW_TROUBLE = attempt(Phase.VALIDATING, "Wait", "EsawUnreachable")
PASSED = attempt(Phase.ARCHIVING, "Done", "FilesVerified")


@pytest.mark.parametrize(
    ("history", "solved"),
    [
        ((FAILED_BEFORE, ESAW_TROUBLE), None),
        ((attempt(Phase.ARCHIVING, "Wait", "NameOccupied"), ESAW_TROUBLE), None),
        ((FAILED_BEFORE, attempt(Phase.ARCHIVING, "NeedConsent", "TokenRejected")), None),
        ((FAILED_BEFORE, attempt(Phase.COLLECTING, "Done", "FilesListed"), ESAW_TROUBLE), None),
        ((FAILED_BEFORE, PASSED, attempt(Phase.CLEANING, "Wait", "EsawUnreachable")), LATER),
        ((ESAW_TROUBLE,), LATER),
    ],
)
def test_a_problem_is_open_until_its_event_has_passed_the_phase_in_which_it_failed(
    history: tuple[Attempt, ...], solved: object
) -> None:
    error = LastError(reason="EsawUnreachable", message="", time=NOON)
    waiting = an_event().in_phase(Phase.VALIDATING, "EsawUnreachable")
    event = waiting.status(last_error=error, attempt_history=history).build()
    assert only(after_pass(mark_notified(noted(1), CAUSE, NOON), summary_of(event))).solved_time == solved


def test_a_problem_of_an_archive_is_open_while_its_events_are_tried_again_in_another_one() -> None:
    retried = an_event().in_phase(Phase.COLLECTING, "EsawUnreachable")
    former = Choice("vault", "hr").location
    event = retried.status(archive=former, attempt_history=(FAILED_BEFORE, ESAW_TROUBLE)).build()
    assert {CAUSE, "failed/NameOccupied/vault"} <= summary_of(event).at_risk


def test_a_problem_is_solved_once_its_event_waits_for_the_delay_of_the_delete_only() -> None:
    error = LastError(reason="NameOccupied", message="", time=NOON)
    waiting = an_event().in_phase(Phase.CLEANING, "CleanupDelayed")
    event = waiting.status(last_error=error, attempt_history=(FAILED_BEFORE, PASSED)).build()
    problem = only(after_pass(mark_notified(noted(1), CAUSE, NOON), summary_of(event)))
    assert problem.solved_time == LATER


def test_a_problem_of_the_delete_is_solved_once_its_event_waits_for_the_delay_only() -> None:
    failed = attempt(Phase.CLEANING, "Fail", "AuditTrailMissing")
    waiting = an_event().in_phase(Phase.CLEANING, "CleanupDelayed").status(attempt_history=(failed,))
    assert summary_of(waiting.build()).at_risk == set()


def test_a_suspended_event_keeps_no_problem_of_esaw_open() -> None:
    refused = attempt(Phase.VALIDATING, "Wait", "EsawFailing")
    held = an_event().in_phase(Phase.VALIDATING, "Suspended").suspended()
    assert summary_of(held.status(attempt_history=(refused,)).build()).esaw_since is None


@pytest.mark.parametrize(
    "reason",
    [
        "Suspended",
        "OrganizationSuspended",
        "SenderSuspended",
        "ActionNotConfigured",
        "CleanupDelayed",
        "LateFilesPending",
    ],
)
def test_an_event_that_asks_esaw_nothing_keeps_no_problem_of_esaw_open(reason: str) -> None:
    refused = attempt(Phase.CLEANING, "Wait", "EsawFailing")
    event = an_event().in_phase(Phase.CLEANING, reason).status(attempt_history=(refused,)).build()
    assert summary_of(event).esaw_since is None


def test_an_event_that_a_person_retries_keeps_a_problem_of_esaw_open_until_esaw_answers() -> None:
    refused = attempt(Phase.VALIDATING, "Wait", "EsawFailing")
    retried = an_event().in_phase(Phase.PENDING, "RetryRequested").status(attempt_history=(refused,))
    assert summary_of(retried.build()).esaw_since == NOON


def test_an_event_that_is_held_because_its_action_is_not_listed_is_a_problem_until_it_is_listed() -> None:
    held = an_event().in_phase(Phase.VALIDATING, "ActionNotConfigured").build()
    problem = only(found := after_pass((), summary_of(held)))
    assert (problem.cause, problem.count, problem.examples) == (
        "failed/ActionNotConfigured",
        1,
        (held.name,),
    )
    assert only(apply_summary(found, summary_of(), began=LATER + timedelta(minutes=1), now=LATER)).solved_time


def test_problems_of_other_kinds_are_no_matter_of_the_pass() -> None:
    problems = (a_problem("archive/dms"), a_problem("key/SealKeyUnknown"))
    assert after_pass(problems, summary_of()) == problems


@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.SKIPPED])
def test_events_that_ended_well_are_no_problem(phase: Phase) -> None:
    summary = summary_of(an_event().in_phase(phase).status(last_error=LastError("X", "", NOON)).build())
    assert (summary.failed, summary.at_risk) == ({}, set())


def test_the_cause_that_is_asked_for_is_found() -> None:
    assert find_problem(noted(1), CAUSE) == only(noted(1))
    assert find_problem(noted(1), "archive/dms") is None

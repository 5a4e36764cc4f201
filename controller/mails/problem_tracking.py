"""
Track the problems in the status of one Organization, each cause once. Pure: tuples in, tuples out.

Another event with a known cause only increases the count. A reason for which a person must do something else
is a further mail about the same problem. A problem that returns before the mail about its
end is the same problem; one that returns after that mail is a new problem.
"""

import dataclasses
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self

from msgspec.structs import replace

from controller.outgoing_webhook.policy import WEBHOOK_REMOVED
from controller.reopening.fix_rules import archive_may_fix
from controller.scheduling.due import ACTION_NOT_CONFIGURED, SUSPENDED_REASONS, WAITING_FOR_ARCHIVE
from counterfoil.clock import age, believed_time
from counterfoil.i18n.problems import (
    ARCHIVE_MISSING,
    RETENTION_CAUSE,
    UNREADABLE_CAUSE,
    Ending,
    ProblemKind,
    copy_cause,
    copy_message,
    is_same_action,
    is_solved,
    kind_of,
    problem_reason,
    reason_cause,
)
from counterfoil.i18n.reasons import ReasonProperty, Server, has_property, server_of
from counterfoil.resources import (
    AttemptOutcome,
    EnvelopeEvent,
    EnvelopeEventStatus,
    NoticeState,
    Organization,
    Phase,
    ReportedProblem,
    find_condition,
)
from counterfoil.resources.envelopeevent import COPY_GIVEN_UP
from counterfoil.resources.organization import MAX_PROBLEM_MAILS, OrganizationSpec
from counterfoil.resources.reopening import (
    ARCHIVED_AS_EXPIRED,
    DELETE_DELAYED_REASONS,
    DELETE_WAITS,
    can_not_copy,
    copies_after_end,
    copies_with_reason,
    retries_copies,
    with_kept_end,
)
from counterfoil.resources.routes import (
    is_copying_next,
    last_choice,
    required_copy_names,
    stored_copy,
)

Problems = tuple[ReportedProblem, ...]

MAX_PROBLEMS = 100
"""Maximum number of problems in the CustomResourceDefinition."""

_MAX_OF_KIND: Final[Mapping[str, int]] = {
    ProblemKind.FAILED: 36,
    ProblemKind.KEY: 20,
    ProblemKind.ARCHIVE: 10,
    ProblemKind.WEBHOOK: 10,
    ProblemKind.IMPORT: 10,
    ProblemKind.COPY: 6,
}
"""Maximum number of problems of a kind; one for the others. All together are fewer than ``MAX_PROBLEMS``, so
no kind takes the place of another one. A cause is a reason and perhaps an archive: far fewer."""

MAX_EXAMPLES = 5
MAX_MESSAGE_LENGTH = 1000

MAX_REMEMBERED_EVENTS = 10_000
"""Maximum number of remembered names of failed events; a remembered event is not counted twice."""

_ASKS_NOTHING = SUSPENDED_REASONS | DELETE_WAITS | {ACTION_NOT_CONFIGURED}
"""Reasons of unfinished events that need no answer of eSAW for a long time. Their last attempt tells nothing
about it."""

CLOCK_SKEW = timedelta(seconds=5)
"""Times are whole seconds, and two controllers' clocks may differ a little."""

OUTAGE = timedelta(seconds=55)
"""Time for which an archive or an eSAW must fail before it is a problem; longer than a restart."""

_OUTAGES: Final = frozenset({ProblemKind.ARCHIVE, ProblemKind.ESAW, ProblemKind.CALLBACK})
"""Kinds of problems whose cause is the same for several reasons."""

_COUNTED_BY_PASSES: Final = frozenset(
    {ProblemKind.FAILED, ProblemKind.WEBHOOK, ProblemKind.ESAW, ProblemKind.COPY}
)
"""Kinds of problems that end when a pass over all events finds none of their causes."""

_ESAW_WORKS_ON: Final = frozenset({"EsawErrorState", "EsawThrottling"})
"""Reasons with which an event waits although calls of eSAW succeed: a step of one envelope, or a pause."""


@dataclass(frozen=True)
class EventArchives:
    """The Archives of one event, by the spec of its Organization."""

    problem: str
    """The one that its problem is about; empty: it is not known."""
    used: tuple[str, ...]
    """Those that it needs while it is unfinished: its own, and those of the copies that it waits for."""
    given_up: tuple[str, ...] = ()
    """Those of its copies that are not tried any more, and for which nothing waits."""
    failing: tuple[str, ...] = ()
    """Those of its other copies that failed last and for which nothing waits, also of an event that has
    ended."""
    awaited: tuple[str, ...] = ()
    """Those of copies that it waits for, and that may have been given up before (``awaited_failures``)."""


@dataclass(frozen=True)
class Observation:
    """One or more occurrences of a problem. Its reason is one that a problem may have."""

    cause: str
    reason: str
    message: str = ""
    examples: tuple[str, ...] = ()
    count: int = 1
    at: datetime | None = None
    """Time of the last occurrence; None: now."""

    def __post_init__(self) -> None:
        # One problem that the API server refuses would end all mails of the Organization.
        object.__setattr__(self, "reason", problem_reason(self.reason))


def _kind(observation: Observation) -> str:
    return observation.cause.partition("/")[0]


def merge(first: Observation, second: Observation) -> Observation:
    """Combine two observations: the sum of the counts, reason and message of the newer one."""
    newer = first if first.at is not None and second.at is not None and first.at > second.at else second
    return Observation(
        first.cause,
        newer.reason,
        message=newer.message,
        examples=tuple(dict.fromkeys((*first.examples, *second.examples)))[:MAX_EXAMPLES],
        count=first.count + second.count,
        at=newer.at,
    )


def failure_observation(event: EnvelopeEvent, archive: str) -> Observation:
    """Return the problem of a failed event. ``archive`` is the one that its Organization's spec tells
    (``failure_cause``)."""
    status = event.status
    return Observation(
        failure_cause(status, archive),
        status.cause,
        message=status.cause_message[:MAX_MESSAGE_LENGTH],
        examples=(event.name,),
        at=status.completion_time,
    )


def notice_observation(event: EnvelopeEvent, reason: str, message: str, at: datetime) -> Observation:
    """Return the problem of a notice to the webhook that was given up."""
    cause = reason_cause(ProblemKind.WEBHOOK, reason)
    return Observation(cause, reason, message=message[:MAX_MESSAGE_LENGTH], examples=(event.name,), at=at)


def failing_copies(status: EnvelopeEventStatus, spec: OrganizationSpec) -> tuple[str, ...]:
    """
    Return the Archives of the copies of an event that failed last, and for which nothing waits. They are not
    made yet, also after a person asked for them, and after the event has ended without them.

    A copy that only waits for its Archive before the event ends has not failed.
    """
    if _may_be_awaited(status):
        required = required_copy_names(spec.copies)
        held = SUSPENDED_REASONS | {WAITING_FOR_ARCHIVE}
        missing = [each for each in copies_with_reason(status, spec) if each not in required]
        return tuple(each for each in missing if stored_copy(status, each).reason not in held)
    return copies_with_reason(status, spec)


def awaited_failures(status: EnvelopeEventStatus, spec: OrganizationSpec) -> tuple[str, ...]:
    """Return the Archives of the copies that an event waits for although they were tried as often as one that
    is given up. They may have been given up before they were required."""
    if not _may_be_awaited(status):
        return ()
    required, retry = required_copy_names(spec.copies), spec.retry
    missing = [each for each in copies_with_reason(status, spec) if each in required]
    return tuple(each for each in missing if retry.are_tries_spent(stored_copy(status, each).attempts))


def _may_be_awaited(status: EnvelopeEventStatus) -> bool:
    """Whether an event waits for its required copies: it has not ended, also not before it copies."""
    return not status.phase.is_final and not copies_after_end(status)


def _copy_observation(event: EnvelopeEvent, archive: str) -> Observation:
    message = copy_message(stored_copy(event.status, archive))[:MAX_MESSAGE_LENGTH]
    return Observation(copy_cause(archive), COPY_GIVEN_UP, message=message, examples=(event.name,))


def failure_cause(status: EnvelopeEventStatus, archive: str) -> str:
    """
    Return the cause with which an event of this status failed, or waits for a person.

    ``archive`` is the one that its Organization's spec tells: for a copy, or for a failure before archiving.
    """
    last = None if is_copying_next(status) else last_choice(status)
    return _failed(status.cause, last.archive if last is not None else archive)


def _failed(reason: str, archive: str) -> str:
    place = f"/{archive}" if archive and archive_may_fix(problem_reason(reason)) else ""
    return f"{reason_cause(ProblemKind.FAILED, reason)}{place}"


def _causes_at_risk(status: EnvelopeEventStatus, archive: str) -> set[str]:
    """Return the causes with which an unfinished event may still fail, in its Archive and in that of an
    earlier start: until it ends otherwise, it has not solved what failed there."""
    stored = (status.archive, status.awaited_archive)
    copies = (each.ref.name for each in status.copies)
    archives = {archive, *(each.ref.name for each in stored if each is not None), *copies}
    return {_failed(reason, each) for reason in _risks(status) for each in archives}


def _risks(status: EnvelopeEventStatus) -> set[str]:
    """
    Return the reasons for which an unfinished event may still fail.

    These are the last one, and those of each phase that has not succeeded since. An event that failed, and
    that now waits for eSAW before it comes to that phase again, has not solved anything.
    """
    if status.reason in DELETE_DELAYED_REASONS:
        # Only the time of the delete is missing.
        return set()
    reasons: dict[Phase, set[str]] = {}
    for each in status.attempt_history:
        if each.outcome in (AttemptOutcome.WAIT, AttemptOutcome.FAIL):
            reasons.setdefault(each.phase, set()).add(each.reason)
        elif each.outcome is AttemptOutcome.DONE:
            reasons.pop(each.phase, None)
    # The history tells whether the phase of the last error succeeded since, unless the error is older.
    known = {each.reason for each in status.attempt_history}
    last = {status.last_error.reason} if status.last_error is not None else set()
    return (last - known).union(*reasons.values())


def _refused_since(status: EnvelopeEventStatus) -> datetime | None:
    """Return since when each attempt of an unfinished event was refused by eSAW; None: the last was not."""
    since = None
    for each in () if status.phase.is_final else reversed(status.attempt_history):
        if each.outcome is not AttemptOutcome.WAIT or not _is_refusal(each.reason):
            return since
        since = each.start_time
    # Of many attempts in a short time the history has the last ones only.
    known = [each for each in (since, status.phase_start_time) if each is not None]
    return min(known) if since is not None else None


def _is_refusal(reason: str) -> bool:
    """Whether an event with this reason was refused by eSAW."""
    return server_of(reason) is Server.ESAW and reason not in _ESAW_WORKS_ON


def _latest(first: Mapping[Phase, datetime], second: Mapping[Phase, datetime]) -> dict[Phase, datetime]:
    """Return the later time of each phase."""
    return {**first, **{phase: max(at, first.get(phase, at)) for phase, at in second.items()}}


def find_problem(problems: Problems, cause: str) -> ReportedProblem | None:
    """Return the problem with that cause, or None."""
    return next((each for each in problems if each.cause == cause), None)


def notified_and_open(problems: Problems) -> Problems:
    """Return the open problems that a mail announced."""
    told = (each for each in problems if each.notified_time is not None and each.solved_time is None)
    return tuple(each for each in told if kind_of(each) != ProblemKind.DIGEST)


def digest_observations(problems: Problems, now: datetime, after: timedelta) -> Iterator[Observation]:
    """Yield one digest if a problem is still open at the time ``after`` its mail."""
    told = notified_and_open(problems)
    long = [each for each in told if each.notified_time and age(each.notified_time, now) >= after]
    if long:
        yield Observation(ProblemKind.DIGEST, long[0].reason, count=len(told))


def is_open(problems: Problems, cause: str) -> bool:
    """Whether there is such a problem and it is not solved."""
    found = find_problem(problems, cause)
    return found is not None and found.solved_time is None


def add_observation(problems: Problems, observation: Observation, now: datetime) -> Problems:
    """Add an observation to the known problems."""
    known = find_problem(problems, observation.cause)
    if known is None or known.solved_time is not None:
        return with_count(problems, observation, now, count=max(observation.count, len(observation.examples)))
    # Another process, a pass, or this process before its restart may have counted an event already.
    counted = sum(each in known.examples for each in observation.examples)
    count = known.count + max(observation.count - counted, 0)
    return with_count(problems, observation, now, count=max(count, len(observation.examples)))


def with_count(
    problems: Problems, observation: Observation, now: datetime, *, count: int | None = None
) -> Problems:
    """Set the count of a problem, since all its events were counted. A kind that is full takes no new one
    (``full_kinds``)."""
    known = find_problem(problems, observation.cause)
    count = observation.count if count is None else count
    if known is None:
        is_left_out = _kind(observation) in _kinds_without_place(problems)
        return problems if is_left_out else (*problems, _new_problem(observation, now, count))
    seen = (observation.at or now).replace(microsecond=0)
    return _changed(
        problems,
        known.cause,
        **_reason_fields(known, observation.reason, now),
        message=observation.message or known.message,
        count=count,
        examples=tuple(dict.fromkeys((*observation.examples, *known.examples)))[:MAX_EXAMPLES],
        # An observation without a time only carries a count: the problem did not occur again.
        last_seen_time=max(seen, known.last_seen_time or seen)
        if observation.at or known.solved_time
        else known.last_seen_time,
        solved_time=None,
        ending=None,
    )


def _reason_fields(known: ReportedProblem, reason: str, now: datetime) -> dict[str, Any]:
    """
    Return what another reason of a problem changes.

    After the mail about an outage its reason stays, so that the mail about the end names the same one, until
    another action is necessary. That is a further mail with a separate claim.
    """
    if kind_of(known) not in _OUTAGES or known.notified_time is None:
        return {"reason": reason}
    if is_same_action(known.reason, reason):
        return {}
    return {
        "reason": reason,
        "reason_time": now.replace(microsecond=0),
        # A problem has no list before its reason changes, also one that an older version stored.
        "notified_reasons": known.notified_reasons or (known.reason,),
        "mail_attempt_time": None,
    }


def _new_problem(observation: Observation, now: datetime, count: int) -> ReportedProblem:
    return ReportedProblem(
        cause=observation.cause,
        reason=observation.reason,
        message=observation.message or None,
        count=count,
        examples=observation.examples[:MAX_EXAMPLES],
        start_time=now.replace(microsecond=0),
        last_seen_time=(observation.at or now).replace(microsecond=0),
    )


def mark_ended(problems: Problems, cause: str, now: datetime, ending: Ending = Ending.SOLVED) -> Problems:
    """Record how and when an open problem ended."""
    known = find_problem(problems, cause)
    if known is None or known.solved_time is not None:
        return problems
    ended = now.replace(microsecond=0)
    return _changed(problems, cause, solved_time=ended, ending=ending.value, mail_attempt_time=None)


def with_ending(problems: Problems, cause: str, now: datetime, ending: Ending | None) -> Problems:
    """
    Record how a problem without a current observation ended; None: it is open.

    An end without a solution is judged again until its mail, so that the mail is true when it is sent.
    """
    known = find_problem(problems, cause)
    if known is None or known.solved_time is None:
        return problems if ending is None else mark_ended(problems, cause, now, ending)
    if is_solved(known) or known.ending == ending:
        return problems
    reopened = _changed(problems, cause, solved_time=None, ending=None)
    return reopened if ending is None else mark_ended(reopened, cause, now, ending)


def with_state(problems: Problems, observation: Observation, now: datetime) -> Problems:
    """
    Update a problem that follows from a state. An Archive that was deleted is a new one, with a mail.

    The observation of Imports names all that may have the problem, up to ``MAX_EXAMPLES``.
    """
    known = find_problem(problems, observation.cause)
    if known is not None and observation.reason == ARCHIVE_MISSING != known.reason:
        began = _new_problem(observation, now, observation.count)
        return tuple(began if each is known else each for each in problems)
    problems = with_count(problems, observation, now)
    if _kind(observation) == ProblemKind.IMPORT:
        problems = _changed(problems, observation.cause, examples=observation.examples)
    return problems


def without_untold(problems: Problems, causes: Container[str]) -> Problems:
    """Drop the open problems with these causes of which no mail tells, and none is being sent."""

    def is_told(each: ReportedProblem) -> bool:
        return (each.notified_time, each.mail_attempt_time, each.solved_time) != (None, None, None)

    return tuple(each for each in problems if each.cause not in causes or is_told(each))


def full_kinds(problems: Problems) -> frozenset[str]:
    """Return the kinds of which no further problem is stored, so that no mail reports it."""
    return _kinds_without_place(problems).intersection(_MAX_OF_KIND)


def _kinds_without_place(problems: Problems) -> frozenset[str]:
    if len(problems) >= MAX_PROBLEMS:
        return frozenset(ProblemKind)
    numbers = Counter(map(kind_of, problems))
    return frozenset(kind for kind in ProblemKind if numbers[kind] >= _MAX_OF_KIND.get(kind, 1))


def with_import_reasons(problems: Problems) -> Problems:
    """Merge the problems of single Imports, which an earlier version stored, into one for each reason. A mail
    about one of them is the mail about all."""
    merged: dict[str, ReportedProblem] = {}
    for each in problems:
        cause = reason_cause(ProblemKind.IMPORT, each.reason)
        taken, (kind, _, name) = each, each.cause.partition("/")
        if kind == ProblemKind.IMPORT and name and each.cause != cause:
            is_told = each.reason in (each.notified_reasons or (each.reason,))
            taken = replace(
                each,
                cause=cause,
                reason=problem_reason(each.reason),
                count=1,
                examples=(name,),
                notified_time=each.notified_time if is_told else None,
                notified_reasons=(),
                reason_time=None,
            )
        known = merged.get(taken.cause)
        merged[taken.cause] = taken if known is None else _both(known, taken)
    return tuple(merged.values())


def _both(first: ReportedProblem, second: ReportedProblem) -> ReportedProblem:
    """Return one problem for two of the same reason: it is open while one of them is."""
    told = [each.notified_time for each in (first, second) if each.notified_time is not None]
    claims = [each.mail_attempt_time for each in (first, second) if each.mail_attempt_time is not None]
    left = min((first, second), key=lambda each: (each.solved_time is not None, is_solved(each)))
    return replace(
        left,
        count=first.count + second.count,
        examples=tuple(dict.fromkeys((*first.examples, *second.examples)))[:MAX_EXAMPLES],
        start_time=min(first.start_time, second.start_time),
        notified_time=min(told, default=None),
        mail_attempt_time=max(claims, default=None),
    )


def mark_attempted(problems: Problems, cause: str, now: datetime) -> Problems:
    """Record the claim of a mail about a problem."""
    return _changed(problems, cause, mail_attempt_time=now.replace(microsecond=0))


def mark_notified(problems: Problems, cause: str, now: datetime, reason: str | None = None) -> Problems:
    """Record that a mail announced the problem; ``reason`` is the one that the mail named, None for the
    present one."""
    known = find_problem(problems, cause)
    fields: dict[str, Any] = {"notified_time": now.replace(microsecond=0)}
    if known is not None and kind_of(known) in _OUTAGES:
        named = reason or known.reason
        if known.notified_reasons:
            fields["notified_reasons"] = (*known.notified_reasons, named)[-MAX_PROBLEM_MAILS:]
        elif named != known.reason:
            # It changed while the mail was sent.
            fields |= {"notified_reasons": (named,), "reason_time": now.replace(microsecond=0)}
    return _changed(problems, cause, **fields)


def needs_further_mail(problem: ReportedProblem, now: datetime) -> bool:
    """
    Whether another action is necessary for an open problem than the mails about it named.

    Each action is in one mail, so reasons that take turns send no further one.
    """
    told, since = problem.notified_reasons, problem.reason_time
    if not told or since is None or problem.solved_time is not None or len(told) >= MAX_PROBLEM_MAILS:
        return False
    is_told = any(is_same_action(each, problem.reason) for each in told)
    return not is_told and age(since, now) >= OUTAGE


def close_problem(problems: Problems, cause: str) -> Problems:
    """Remove a problem after the mail about its end; a problem that has returned since then stays, as a new
    one."""
    left = tuple(each for each in problems if each.cause != cause or each.solved_time is None)
    return _changed(
        left, cause, notified_time=None, mail_attempt_time=None, notified_reasons=(), reason_time=None
    )


def _changed(problems: Problems, cause: str, **fields: Any) -> Problems:
    return tuple(replace(each, **fields) if each.cause == cause else each for each in problems)


@dataclass
class FailureSummary:
    """
    Failures of one Organization in a pass over all events. Grows with the number of causes, not of events.

    An event counts as one as well if it waits without a deadline and a person must act.
    """

    failed: dict[str, Observation] = field(default_factory=dict)
    at_risk: set[str] = field(default_factory=set)
    """Causes with which unfinished events may still fail (``_risks``); these are not solved either."""
    names: set[str] = field(default_factory=set)
    """Names of failed events, up to ``MAX_REMEMBERED_EVENTS``."""
    copies: dict[str, Observation] = field(default_factory=dict)
    """Copies that are not tried any more, by cause."""
    failing_copies: dict[str, Observation] = field(default_factory=dict)
    """Other copies that failed last and for which nothing waits, by cause. They are no problem, but keep one
    open."""
    removed: set[str] = field(default_factory=set)
    """Causes that end unsolved: of events that were removed after their time to live, and of copies
    of skipped ones that nobody tries."""
    notices: dict[str, Observation] = field(default_factory=dict)
    """Notices to the webhook that were given up, by cause."""
    esaw: Observation | None = None
    """Unfinished events that wait because their last attempt was refused by eSAW."""
    esaw_since: datetime | None = None
    """Start of the first of these attempts; also of events that a person retries since."""
    refused: dict[Phase, datetime] = field(default_factory=dict)
    """Start of the last attempt in each phase with which an event failed because eSAW refused it."""
    removed_refused: dict[Phase, datetime] = field(default_factory=dict)
    """The same of events that were removed after their time to live."""
    accepted: dict[Phase, datetime] = field(default_factory=dict)
    """Start of the last attempt in each phase that succeeded, of all events."""
    unreadable: int = 0
    """Number of events that could not be read or counted."""
    first_unreadable: tuple[str, ...] = ()
    """Names of such events, up to ``MAX_EXAMPLES``; not of those that may be of another Organization."""
    endangered: int = 0
    """Number of events whose envelope eSAW deletes soon, unarchived."""
    first_deletions: tuple[tuple[datetime, str], ...] = ()
    """The first of these deletions, with the names of the events, up to ``MAX_EXAMPLES``."""
    archives: Counter[str] = field(default_factory=Counter)
    """Number of the unfinished events that need each Archive, also for a copy."""

    @property
    def is_complete(self) -> bool:
        """Whether each event could be read. One that could not may have any cause, so nothing is solved."""
        return self.unreadable == 0

    def add(self, event: EnvelopeEvent, archives: EventArchives) -> None:
        """Count an event."""
        status, archive = event.status, archives.problem
        has_no_deadline = has_property(status.reason, ReasonProperty.NO_DEADLINE) or can_not_copy(status)
        # While a failed event makes further copies, it has failed all the same.
        ended = replace(event, status=with_kept_end(status))
        if ended.status.phase is Phase.FAILED or has_no_deadline:
            self._add_failure(failure_observation(ended, archive))
        elif not status.phase.is_final:
            self.at_risk |= _causes_at_risk(status, archive)
        if not status.phase.is_final:
            self.archives.update(archives.used)
        failing = map(copy_cause, archives.failing)
        is_given_up = status.reason != ARCHIVED_AS_EXPIRED or status.is_skipped_by_person
        if status.phase is Phase.SKIPPED and is_given_up and not retries_copies(status):
            # Nobody makes these copies any more. That of a failed or Expired one is made after a retry.
            self.removed.update(failing)
        else:
            self._add_copies(self.failing_copies, event, set(archives.failing) - set(archives.given_up))
        # It is not solved: the event waits for it now.
        self.removed.update(map(copy_cause, archives.awaited))
        self._add_copies(self.copies, event, archives.given_up)
        self.add_refusal(event)
        self._add_answers(ended.status)
        self._add_notice(event)

    def add_removed(self, event: EnvelopeEvent, archives: EventArchives) -> None:
        """Record an event that was removed after its time to live."""
        removed = FailureSummary()
        removed.add(event, archives)
        missing = {*removed.copies, *map(copy_cause, archives.failing)}
        self.removed |= {*removed.failed, *removed.notices, *missing}
        self.removed_refused = _latest(self.removed_refused, removed.refused)
        self.accepted = _latest(self.accepted, removed.accepted)

    def carry_over(self, earlier: "FailureSummary") -> None:
        """Take over of a pass that was not stored what no later pass finds: events that it removed."""
        self.removed |= earlier.removed
        self.removed_refused = _latest(self.removed_refused, earlier.removed_refused)
        self.accepted = _latest(self.accepted, earlier.accepted)

    def add_unreadable(self, name: str) -> None:
        """Record an event of this Organization that can't be read or counted."""
        self.unreadable += 1
        self.first_unreadable = (*self.first_unreadable, name)[:MAX_EXAMPLES]

    def unreadable_observation(self) -> Observation | None:
        """Return the one problem that stands for all events that can't be read; None for none."""
        if self.is_complete:
            return None
        message = "The log of the controller names each event and the cause."
        return Observation(
            UNREADABLE_CAUSE, "EventUnreadable", message, self.first_unreadable, count=self.unreadable
        )

    def add_endangered(self, name: str, deletion: datetime) -> None:
        """Record an event whose envelope eSAW deletes soon, at that time."""
        self.endangered += 1
        self.first_deletions = tuple(sorted((*self.first_deletions, (deletion, name))))[:MAX_EXAMPLES]

    def retention_observation(self) -> Observation | None:
        """Return the one problem that stands for all envelopes that eSAW deletes soon; None for none."""
        if not self.first_deletions:
            return None
        deletion, name = self.first_deletions[0]
        return Observation(
            RETENTION_CAUSE,
            reason="RetentionEnding",
            message=f"eSignAnyWhere deletes the envelope of EnvelopeEvent/{name} about "
            f"{deletion.astimezone(UTC):%Y-%m-%d %H:%M} UTC, and no other one earlier.",
            examples=tuple(each for _, each in self.first_deletions),
            count=self.endangered,
        )

    def copies_of_problems(self, problems: Problems) -> dict[str, Observation]:
        """Return the copies that are a problem, by cause: those that were given up. Without them, an open
        problem is about the others that failed."""
        failing = {cause: each for cause, each in self.failing_copies.items() if is_open(problems, cause)}
        return {**failing, **self.copies}

    def add_refusal(self, event: EnvelopeEvent) -> None:
        """Count an event if eSAW refused its last attempt."""
        since, status = _refused_since(event.status), event.status
        if since is None or event.spec.suspend or status.reason in _ASKS_NOTHING:
            return
        self.esaw_since = since if self.esaw_since is None else min(self.esaw_since, since)
        if status.last_error is not None and status.last_error.reason == status.reason:
            error = status.last_error
            message = error.message[:MAX_MESSAGE_LENGTH]
            found = Observation(ProblemKind.ESAW, error.reason, message, (event.name,), at=error.time)
            self.esaw = found if self.esaw is None else merge(self.esaw, found)

    def with_esaw(self, organization: Organization | None, began: datetime, now: datetime) -> Self:
        """
        Return the summary with the problem of eSAW, if this may answer but refuses what events need. They
        were read at ``began`` or later.

        While eSAW does not answer at all, the condition Reachable tells it. Only while eSAW answers, a pass
        without a refused event ends the problem. What was refused before eSAW answered again says nothing
        about it. An event that failed was refused until an attempt in the same phase succeeds.
        """
        conditions = organization.status.conditions if organization is not None else ()
        reachable = find_condition(conditions, "Reachable")
        if reachable is not None and reachable.status == "True" and self.esaw_since is None:
            answers_since = believed_time(reachable.last_transition_time, now)
            if not self._lacks_answer(self.refused, answers_since):
                is_removed = self._lacks_answer(self.removed_refused, answers_since)
                removed = {*self.removed, ProblemKind.ESAW} if is_removed else self.removed
                return dataclasses.replace(self, removed=removed)
        failed, refused = self.failed, self.esaw
        may_answer = reachable is not None and reachable.status != "False"
        if may_answer and reachable is not None and refused is not None and refused.at is not None:
            works_since = believed_time(reachable.last_transition_time, now)
            is_news = works_since is None or refused.at > works_since
            if is_news and self.esaw_since is not None and age(self.esaw_since, began) >= OUTAGE:
                failed = {**failed, refused.cause: refused}
        return dataclasses.replace(self, failed=failed, at_risk={*self.at_risk, ProblemKind.ESAW})

    def _add_answers(self, status: EnvelopeEventStatus) -> None:
        for each in status.attempt_history:
            if each.outcome is AttemptOutcome.DONE:
                at = each.start_time
                self.accepted[each.phase] = max(at, self.accepted.get(each.phase, at))
        last = status.attempt_history[-1:]
        if status.phase is Phase.FAILED and _is_refusal(status.cause):
            self.refused = _latest(self.refused, {each.phase: each.start_time for each in last})

    def _lacks_answer(self, refused: Mapping[Phase, datetime], answers_since: datetime | None) -> bool:
        """Whether no attempt in one of these phases succeeded after the last refusal."""
        return any(
            at >= self.accepted.get(phase, at)
            for phase, at in refused.items()
            if answers_since is None or at > answers_since
        )

    def _add_copies(
        self, found: dict[str, Observation], event: EnvelopeEvent, archives: Iterable[str]
    ) -> None:
        for each in sorted(archives):
            observation = _copy_observation(event, each)
            known = found.get(observation.cause)
            found[observation.cause] = observation if known is None else merge(known, observation)

    def _add_notice(self, event: EnvelopeEvent) -> None:
        notice = event.status.notice
        error = notice.last_error if notice is not None else None
        if notice is None or error is None or error.reason == WEBHOOK_REMOVED:
            return
        observation = notice_observation(event, error.reason, error.message, error.time)
        if notice.state is NoticeState.PENDING:
            self.at_risk.add(observation.cause)
        elif notice.state is NoticeState.FAILED:
            known = self.notices.get(observation.cause)
            self.notices[observation.cause] = observation if known is None else merge(known, observation)

    def _add_failure(self, observation: Observation) -> None:
        if len(self.names) < MAX_REMEMBERED_EVENTS:
            self.names.update(observation.examples)
        known = self.failed.get(observation.cause)
        self.failed[observation.cause] = observation if known is None else merge(known, observation)


def apply_summary(problems: Problems, summary: FailureSummary, *, began: datetime, now: datetime) -> Problems:
    """
    Update the problems of events and notices with the result of a pass that began at ``began``.

    The pass may have missed later failures, so it neither solves them nor lowers their count. A problem whose
    last event was removed unsolved ends without a mail.
    """
    since = began - CLOCK_SKEW
    found = {**summary.failed, **summary.notices, **summary.copies_of_problems(problems)}
    last_seen = {each.cause: believed_time(each.last_seen_time, now) for each in problems}
    recent = {cause for cause, seen in last_seen.items() if seen is not None and seen >= since}
    for each in problems:
        is_gone = summary.is_complete and each.cause not in found and each.cause not in summary.at_risk
        is_counted = kind_of(each) in _COUNTED_BY_PASSES
        if is_counted and is_gone and each.cause not in recent:
            if each.cause in summary.removed and each.solved_time is None:
                problems = tuple(other for other in problems if other.cause != each.cause)
            else:
                problems = mark_ended(problems, each.cause, now)
    for observation in found.values():
        if observation.cause not in recent:
            problems = with_count(problems, observation, now)
            # All events were counted: what failed before and no longer does is no example of it.
            problems = _changed(problems, observation.cause, examples=observation.examples)
    if (unreadable := summary.unreadable_observation()) is not None:
        problems = with_count(problems, unreadable, now)
    else:
        problems = mark_ended(problems, UNREADABLE_CAUSE, now)
    ending = summary.retention_observation()
    if ending is None:
        return mark_ended(problems, RETENTION_CAUSE, now) if summary.is_complete else problems
    return with_count(problems, ending, now)

"""
The problems of one Organization, each cause once, as they stand in its status. Pure: tuples in, tuples out.

An event more with a known cause only raises its count. A problem that comes back before its end was mailed is the
same problem; one that comes back after that is a new one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from msgspec.structs import replace

from controller.retry.fix_rules import archive_may_fix
from counterfoil.resources import EnvelopeEvent, EnvelopeEventStatus, ReportedProblem
from counterfoil.resources.envelopeevent import DEADLINE_EXCEEDED

Problems = tuple[ReportedProblem, ...]

FAILED, ARCHIVE, KEY, CONSENT, DIGEST = "failed", "archive", "key", "consent", "digest"
"""The kinds of problems: what each ``cause`` begins with. A digest is none itself, but is told like one."""

MAX_PROBLEMS = 100
"""As many as the CustomResourceDefinition takes. Each is a reason and perhaps an archive, so there are never so many."""

MAX_EXAMPLES = 5
MAX_MESSAGE_LENGTH = 1000

MAX_REMEMBERED_EVENTS = 10_000
"""So many names of failed events are remembered, so that one that fails again is not counted again."""

CLOCK_SKEW = timedelta(seconds=5)
"""Times are whole seconds, and two controllers' clocks may differ a little."""


@dataclass(frozen=True)
class Observation:
    """A problem as it was met: once, or several times."""

    cause: str
    reason: str
    message: str = ""
    examples: tuple[str, ...] = ()
    count: int = 1
    at: datetime | None = None
    """When it was met last; None: now."""


def merge(first: Observation, second: Observation) -> Observation:
    """Return both as one: all counted, the newer one's words."""
    newer = first if first.at is not None and second.at is not None and first.at > second.at else second
    return Observation(
        first.cause,
        first.reason,
        message=newer.message,
        examples=tuple(dict.fromkeys((*first.examples, *second.examples)))[:MAX_EXAMPLES],
        count=first.count + second.count,
        at=newer.at,
    )


def kind_of(problem: ReportedProblem) -> str:
    """Return which kind of problem it is."""
    return problem.cause.partition("/")[0]


def archive_of(problem: ReportedProblem) -> str:
    """Return the name of the Archive that it is about; empty when it is about none."""
    parts = problem.cause.split("/")
    place = 1 if parts[0] == ARCHIVE else 2
    return parts[place] if len(parts) > place else ""


def failure_observation(event: EnvelopeEvent, archive: str) -> Observation:
    """Return the problem of an event that failed; ``archive``: the one of its Organization, for failures before archiving."""
    status = event.status
    return Observation(
        failure_cause(status, archive),
        status.cause,
        message=_message(status)[:MAX_MESSAGE_LENGTH],
        examples=(event.name,),
        at=status.completed_at,
    )


def failure_cause(status: EnvelopeEventStatus, archive: str) -> str:
    """Return the cause under which an event with this status failed, or would fail if it were given up now."""
    reason = status.cause
    place = status.archive.ref.name if status.archive is not None else archive
    return f"{FAILED}/{reason}/{place}" if archive_may_fix(reason) and place else f"{FAILED}/{reason}"


def _message(status: EnvelopeEventStatus) -> str:
    if status.reason == DEADLINE_EXCEEDED and status.last_error is not None:
        return status.last_error.message
    return status.message or ""


def find_problem(problems: Problems, cause: str) -> ReportedProblem | None:
    """Return the problem with that cause, or None."""
    return next((each for each in problems if each.cause == cause), None)


def notified_and_open(problems: Problems) -> Problems:
    """Return those that the administrators were told of and that are not solved."""
    return tuple(
        each
        for each in problems
        if each.notified_at is not None and each.solved_at is None and kind_of(each) != DIGEST
    )


def digest_observations(problems: Problems, now: datetime, after: timedelta) -> Iterator[Observation]:
    """Go through the one digest that is due when problems are open for so long after they were told, if any are."""
    told = notified_and_open(problems)
    long = [each for each in told if each.notified_at is not None and now - each.notified_at >= after]
    if long:
        yield Observation(DIGEST, long[0].reason, count=len(told))


def is_open(problems: Problems, cause: str) -> bool:
    """Whether there is such a problem and it is not solved."""
    found = find_problem(problems, cause)
    return found is not None and found.solved_at is None


def add_observation(problems: Problems, observation: Observation, now: datetime) -> Problems:
    """Add what was met to what was known."""
    known = find_problem(problems, observation.cause)
    before = known.count if known is not None and known.solved_at is None else 0
    # At least as many as are named: what failed again is not counted again, but may be all that there is.
    return with_count(
        problems, observation, now, count=max(before + observation.count, len(observation.examples))
    )


def with_count(
    problems: Problems, observation: Observation, now: datetime, *, count: int | None = None
) -> Problems:
    """Let the problem stand with just this count, since all that it concerns was counted."""
    known = find_problem(problems, observation.cause)
    count = observation.count if count is None else count
    if known is None:
        return (
            problems if len(problems) >= MAX_PROBLEMS else (*problems, _new_problem(observation, now, count))
        )
    seen = (observation.at or now).replace(microsecond=0)
    changed = replace(
        known,
        reason=observation.reason,
        message=observation.message or known.message,
        count=count,
        examples=tuple(dict.fromkeys((*observation.examples, *known.examples)))[:MAX_EXAMPLES],
        # Where nothing but a count is told, it was not met once more.
        last_seen_at=max(seen, known.last_seen_at or seen)
        if observation.at or known.solved_at
        else known.last_seen_at,
        solved_at=None,
    )
    return _replace_problem(problems, changed)


def _new_problem(observation: Observation, now: datetime, count: int) -> ReportedProblem:
    return ReportedProblem(
        cause=observation.cause,
        reason=observation.reason,
        message=observation.message or None,
        count=count,
        examples=observation.examples[:MAX_EXAMPLES],
        since=now.replace(microsecond=0),
        last_seen_at=(observation.at or now).replace(microsecond=0),
    )


def mark_solved(problems: Problems, cause: str, now: datetime) -> Problems:
    """Let the problem be solved, if it is there and was not."""
    known = find_problem(problems, cause)
    if known is None or known.solved_at is not None:
        return problems
    return _replace_problem(
        problems, replace(known, solved_at=now.replace(microsecond=0), mail_attempted_at=None)
    )


def mark_attempted(problems: Problems, cause: str, now: datetime) -> Problems:
    """Note that a mail about it is begun now."""
    return tuple(
        replace(each, mail_attempted_at=now.replace(microsecond=0)) if each.cause == cause else each
        for each in problems
    )


def mark_notified(problems: Problems, cause: str, now: datetime) -> Problems:
    """Note that the administrators were told of it."""
    return tuple(
        replace(each, notified_at=now.replace(microsecond=0)) if each.cause == cause else each
        for each in problems
    )


def close_problem(problems: Problems, cause: str) -> Problems:
    """Take a problem away whose end was told; one that came back at that moment is a new one and stays."""
    return tuple(
        replace(each, notified_at=None, mail_attempted_at=None) if each.cause == cause else each
        for each in problems
        if each.cause != cause or each.solved_at is None
    )


def _replace_problem(problems: Problems, changed: ReportedProblem) -> Problems:
    return tuple(changed if each.cause == changed.cause else each for each in problems)


@dataclass
class FailureSummary:
    """What a walk over all events found about one Organization. Grows with the number of causes, not of events."""

    failed: dict[str, Observation] = field(default_factory=dict)
    at_risk: set[str] = field(default_factory=set)
    """Causes of which unfinished events would fail if they were given up now: those are not solved either."""
    names: set[str] = field(default_factory=set)
    """Of events that failed, up to ``MAX_REMEMBERED_EVENTS``."""

    def add(self, event: EnvelopeEvent, archive: str) -> None:
        """Count an event."""
        status = event.status
        if status.phase == "Failed":
            self._add_failure(failure_observation(event, archive))
        elif not status.phase.is_final and status.last_error is not None:
            again = replace(status, reason=DEADLINE_EXCEEDED)
            self.at_risk.add(failure_cause(again, archive))

    def _add_failure(self, observation: Observation) -> None:
        if len(self.names) < MAX_REMEMBERED_EVENTS:
            self.names.update(observation.examples)
        known = self.failed.get(observation.cause)
        self.failed[observation.cause] = observation if known is None else merge(known, observation)


def apply_summary(problems: Problems, summary: FailureSummary, *, began: datetime, now: datetime) -> Problems:
    """
    Bring the problems of kind ``failed`` in line with a walk that began then.

    What was met since then is not known to the walk, so it is neither solved nor counted down by it.
    """
    recent = {
        each.cause for each in problems if each.last_seen_at and each.last_seen_at >= began - CLOCK_SKEW
    }
    for each in problems:
        is_gone = each.cause not in summary.failed and each.cause not in summary.at_risk
        if kind_of(each) == FAILED and is_gone and each.cause not in recent:
            problems = mark_solved(problems, each.cause, now)
    for observation in summary.failed.values():
        if observation.cause not in recent:
            problems = with_count(problems, observation, now)
    return problems

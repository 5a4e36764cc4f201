"""
The problems of one Organization, each cause once, as they stand in its status. Pure: tuples in, tuples out.

An event more with a known cause only raises its count. A problem that comes back before its end was mailed is the
same problem; one that comes back after that is a new one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from msgspec.structs import replace

from controller.causes import archive_may_solve
from counterfoil.resources import EnvelopeEvent, EnvelopeEventStatus, Problem
from counterfoil.resources.envelopeevent import GIVEN_UP

Problems = tuple[Problem, ...]

FAILED, ARCHIVE, KEY, CONSENT, DIGEST = "failed", "archive", "key", "consent", "digest"
"""The kinds of problems: what each ``cause`` begins with. A digest is none itself, but is told like one."""

MOST_PROBLEMS = 100
"""As many as the CustomResourceDefinition takes. Each is a reason and perhaps an archive, so there are never so many."""

MOST_EXAMPLES = 5
LONGEST_MESSAGE = 1000

MOST_NAMES = 10_000
"""So many names of failed events are remembered, so that one that fails again is not counted again."""

DOUBT = timedelta(seconds=5)
"""Times are whole seconds, and two controllers' clocks may differ a little."""


@dataclass(frozen=True)
class Met:
    """A problem as it was met: once, or several times."""

    cause: str
    reason: str
    message: str = ""
    examples: tuple[str, ...] = ()
    count: int = 1
    at: datetime | None = None
    """When it was met last; None: now."""


def together(first: Met, second: Met) -> Met:
    """Return both as one: all counted, the newer one's words."""
    newer = first if first.at is not None and second.at is not None and first.at > second.at else second
    return Met(
        first.cause,
        first.reason,
        message=newer.message,
        examples=tuple(dict.fromkeys((*first.examples, *second.examples)))[:MOST_EXAMPLES],
        count=first.count + second.count,
        at=newer.at,
    )


def kind_of(problem: Problem) -> str:
    """Return which kind of problem it is."""
    return problem.cause.partition("/")[0]


def archive_of(problem: Problem) -> str:
    """Return the name of the Archive that it is about; empty when it is about none."""
    parts = problem.cause.split("/")
    place = 1 if parts[0] == ARCHIVE else 2
    return parts[place] if len(parts) > place else ""


def failure(event: EnvelopeEvent, archive: str) -> Met:
    """Return the problem of an event that failed; ``archive``: the one of its Organization, for failures before archiving."""
    status = event.status
    return Met(
        failure_cause(status, archive),
        status.cause,
        message=_message(status)[:LONGEST_MESSAGE],
        examples=(event.name,),
        at=status.completed_at,
    )


def failure_cause(status: EnvelopeEventStatus, archive: str) -> str:
    """Return the cause under which an event with this status failed, or would fail if it were given up now."""
    reason = status.cause
    place = status.archive.ref.name if status.archive is not None else archive
    return f"{FAILED}/{reason}/{place}" if archive_may_solve(reason) and place else f"{FAILED}/{reason}"


def _message(status: EnvelopeEventStatus) -> str:
    if status.reason == GIVEN_UP and status.last_error is not None:
        return status.last_error.message
    return status.message or ""


def find(problems: Problems, cause: str) -> Problem | None:
    """Return the problem with that cause, or None."""
    return next((each for each in problems if each.cause == cause), None)


def told_and_open(problems: Problems) -> Problems:
    """Return those that the administrators were told of and that are not solved."""
    return tuple(
        each
        for each in problems
        if each.notified_at is not None and each.solved_at is None and kind_of(each) != DIGEST
    )


def of_long_ones(problems: Problems, now: datetime, after: timedelta) -> Iterator[Met]:
    """Go through the one digest that is due when problems are open for so long after they were told, if any are."""
    told = told_and_open(problems)
    long = [each for each in told if each.notified_at is not None and now - each.notified_at >= after]
    if long:
        yield Met(DIGEST, long[0].reason, count=len(told))


def is_open(problems: Problems, cause: str) -> bool:
    """Whether there is such a problem and it is not solved."""
    found = find(problems, cause)
    return found is not None and found.solved_at is None


def met(problems: Problems, news: Met, now: datetime) -> Problems:
    """Add what was met to what was known."""
    known = find(problems, news.cause)
    before = known.count if known is not None and known.solved_at is None else 0
    # At least as many as are named: what failed again is not counted again, but may be all that there is.
    return counted(problems, news, now, count=max(before + news.count, len(news.examples)))


def counted(problems: Problems, news: Met, now: datetime, *, count: int | None = None) -> Problems:
    """Let the problem stand with just this count, since all that it concerns was counted."""
    known = find(problems, news.cause)
    count = news.count if count is None else count
    if known is None:
        return problems if len(problems) >= MOST_PROBLEMS else (*problems, _new(news, now, count))
    seen = (news.at or now).replace(microsecond=0)
    changed = replace(
        known,
        reason=news.reason,
        message=news.message or known.message,
        count=count,
        examples=tuple(dict.fromkeys((*news.examples, *known.examples)))[:MOST_EXAMPLES],
        # Where nothing but a count is told, it was not met once more.
        last_seen_at=max(seen, known.last_seen_at or seen)
        if news.at or known.solved_at
        else known.last_seen_at,
        solved_at=None,
    )
    return _with(problems, changed)


def _new(news: Met, now: datetime, count: int) -> Problem:
    return Problem(
        cause=news.cause,
        reason=news.reason,
        message=news.message or None,
        count=count,
        examples=news.examples[:MOST_EXAMPLES],
        since=now.replace(microsecond=0),
        last_seen_at=(news.at or now).replace(microsecond=0),
    )


def solved(problems: Problems, cause: str, now: datetime) -> Problems:
    """Let the problem be solved, if it is there and was not."""
    known = find(problems, cause)
    if known is None or known.solved_at is not None:
        return problems
    return _with(problems, replace(known, solved_at=now.replace(microsecond=0), mail_attempted_at=None))


def attempted(problems: Problems, cause: str, now: datetime) -> Problems:
    """Note that a mail about it is begun now."""
    return tuple(
        replace(each, mail_attempted_at=now.replace(microsecond=0)) if each.cause == cause else each
        for each in problems
    )


def told(problems: Problems, cause: str, now: datetime) -> Problems:
    """Note that the administrators were told of it."""
    return tuple(
        replace(each, notified_at=now.replace(microsecond=0)) if each.cause == cause else each
        for each in problems
    )


def closed(problems: Problems, cause: str) -> Problems:
    """Take a problem away whose end was told; one that came back at that moment is a new one and stays."""
    return tuple(
        replace(each, notified_at=None, mail_attempted_at=None) if each.cause == cause else each
        for each in problems
        if each.cause != cause or each.solved_at is None
    )


def _with(problems: Problems, changed: Problem) -> Problems:
    return tuple(changed if each.cause == changed.cause else each for each in problems)


@dataclass
class Survey:
    """What a walk over all events found about one Organization. Grows with the number of causes, not of events."""

    failed: dict[str, Met] = field(default_factory=dict)
    troubled: set[str] = field(default_factory=set)
    """Causes of which unfinished events would fail if they were given up now: those are not solved either."""
    names: set[str] = field(default_factory=set)
    """Of events that failed, up to ``MOST_NAMES``."""

    def take(self, event: EnvelopeEvent, archive: str) -> None:
        """Count an event."""
        status = event.status
        if status.phase == "Failed":
            self._fail(failure(event, archive))
        elif not status.phase.is_final and status.last_error is not None:
            again = replace(status, reason=GIVEN_UP)
            self.troubled.add(failure_cause(again, archive))

    def _fail(self, news: Met) -> None:
        if len(self.names) < MOST_NAMES:
            self.names.update(news.examples)
        known = self.failed.get(news.cause)
        self.failed[news.cause] = news if known is None else together(known, news)


def surveyed(problems: Problems, survey: Survey, *, began: datetime, now: datetime) -> Problems:
    """
    Bring the problems of kind ``failed`` in line with a walk that began then.

    What was met since then is not known to the walk, so it is neither solved nor counted down by it.
    """
    fresh = {each.cause for each in problems if each.last_seen_at and each.last_seen_at >= began - DOUBT}
    for each in problems:
        is_gone = each.cause not in survey.failed and each.cause not in survey.troubled
        if kind_of(each) == FAILED and is_gone and each.cause not in fresh:
            problems = solved(problems, each.cause, now)
    for news in survey.failed.values():
        if news.cause not in fresh:
            problems = counted(problems, news, now)
    return problems

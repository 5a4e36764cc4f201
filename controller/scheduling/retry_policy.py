"""
The retry policies of the controller: when to retry, and when to stop. No clock and no random numbers inside.

Events: exponential with full jitter (as in "Exponential Backoff And Jitter", M. Brooker, 2015), because many
events that failed in one outage must not be retried in one wave. All other retries: a ``Backoff``, one per
cause.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain, repeat

from counterfoil.clock import believed_time
from counterfoil.resources import EventCopy, RetrySpec

Random = Callable[[], float]
"""Returns a number in [0, 1)."""


@dataclass(frozen=True)
class Backoff:
    """Seconds between the attempts of one operation; the last pause is repeated. Iterating never ends."""

    pauses: tuple[float, ...]

    @classmethod
    def doubling(cls, first: float, maximum: float) -> "Backoff":
        """Return the policy whose pause doubles with each failure up to the maximum."""
        pauses = [first]
        while pauses[-1] < maximum:
            pauses.append(min(pauses[-1] * 2, maximum))
        return cls(tuple(pauses))

    def pause(self, failures: int) -> float:
        """Return the pause after this number of earlier failures (0: the first attempt has just failed)."""
        return self.pauses[min(failures, len(self.pauses) - 1)]

    def __iter__(self) -> Iterator[float]:
        return chain(self.pauses, repeat(self.pauses[-1]))


LOST_OUTCOME = Backoff.doubling(5.0, 3600.0)
"""An event whose state could not be stored: each retry repeats the whole run."""

USER_REQUEST = Backoff((0.5, 1.0, 2.0, 5.0, 10.0, 30.0))
"""A person's request while the API server is unavailable or another process writes the event."""

MAIL_SERVER = Backoff.doubling(10.0, 900.0)
"""All mails of an Organization while its mail server does not work."""

REJECTED_MAIL = Backoff.doubling(10.0, 3600.0)
"""One mail that the mail server rejects while it accepts others."""

INCOMPLETE_SWEEP = Backoff.doubling(60.0, 3600.0)
"""A sweep that failed, that skipped a Sender, or that was cut."""

LISTING_AFTER_FIX = Backoff((10.0,))
"""The list of failed events after the cause of their failure was fixed."""

LATE_LIST = Backoff.doubling(60.0, 3600.0)
"""The list of the files of a kept envelope; also all such lists of an Organization, if its eSAW fails."""

KOPF_REQUEST = Backoff((0.5, 1.0, 2.0, 3.0, 5.0))
"""
A request of kopf to the API server.

Without an end: after kopf's own eight attempts the whole operator ends. A kubelet restarts it after pauses
that grow to five minutes, so it would wait long after the API server is available again.
"""

RESYNC_SECONDS = 10.0
"""Interval of the resync: the checks of all Organizations, Senders and Archives."""

DOWNTIME = timedelta(hours=1)
"""An attempt that begins this late was delayed by the controller: no deadline counts the time since it was
due."""

MAX_RETRY_AFTER = timedelta(hours=1)
"""Maximum pause that a server can ask for by Retry-After; the clients cut a longer one."""

ROUND_FROM_SECONDS = 5
"""Minimum ceiling of a pause from which on times are rounded up to whole seconds."""


def next_attempt(
    attempts: int, policy: RetrySpec, *, now: datetime, random: Random, not_before: datetime | None = None
) -> datetime:
    """
    Return when the attempt after ``attempts`` failed ones (1 or more) is due.

    Never earlier than ``not_before``, which is the server's Retry-After; the jitter is added to it, so that
    events with the same Retry-After are not retried at the same time.
    """
    ceiling = policy.pause_ceiling(attempts)
    start = now if not_before is None else max(now, not_before)
    due = start + timedelta(seconds=ceiling * random())
    # People read this time in a table; fractions of a second matter only for the shortest pauses.
    return due if ceiling < ROUND_FROM_SECONDS else due + timedelta(microseconds=-due.microsecond % 1_000_000)


def longest_backoff(policy: RetrySpec) -> timedelta:
    """Return the longest pause between two attempts: the backoff is added to a server's Retry-After."""
    return MAX_RETRY_AFTER + policy.max


def is_copy_due(copy: EventCopy, policy: RetrySpec, *, now: datetime) -> bool:
    """Whether a copy has no later time of its next attempt, or one that can't be right."""
    planned = believed_time(copy.next_attempt_time, now, ahead=longest_backoff(policy))
    return planned is None or planned <= now


def is_deadline_exceeded(started: datetime | None, policy: RetrySpec, *, now: datetime) -> bool:
    """Whether a phase that started then has exceeded its deadline."""
    return started is not None and now - started >= timedelta(seconds=policy.deadline.total_seconds())

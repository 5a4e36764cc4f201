"""
When to try again, and when to give up. The one place that knows; no clock and no randomness of its own.

Exponential with full jitter (as in "Exponential Backoff And Jitter", M. Brooker, 2015): many events that failed
together because of one outage come back spread out, not as one wave.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from counterfoil.resources import RetrySpec

Random = Callable[[], float]
"""Gives a number in [0, 1)."""


ROUND_FROM_SECONDS = 5
"""From this longest pause on, times are rounded up to whole seconds."""


def next_attempt(
    attempts: int, policy: RetrySpec, *, now: datetime, random: Random, not_before: datetime | None = None
) -> datetime:
    """
    Return when the attempt after ``attempts`` failed ones (1 or more) is due.

    Never earlier than ``not_before``, which is the other side's Retry-After; the jitter is then put on top, so that
    those who were all sent away until noon do not all come back at noon.
    """
    # 2 ** 32 times any initial pause is beyond every sensible maximum; a larger exponent would only overflow.
    ceiling = min(policy.max.total_seconds(), policy.initial.total_seconds() * 2 ** min(attempts - 1, 32))
    start = now if not_before is None else max(now, not_before)
    due = start + timedelta(seconds=ceiling * random())
    # People read this time in a table; fractions of a second say something only about the shortest pauses.
    return due if ceiling < ROUND_FROM_SECONDS else due + timedelta(microseconds=-due.microsecond % 1_000_000)


def is_deadline_exceeded(started: datetime | None, policy: RetrySpec, *, now: datetime) -> bool:
    """Whether a phase that started then has used up its time."""
    return started is not None and now - started >= timedelta(seconds=policy.deadline.total_seconds())

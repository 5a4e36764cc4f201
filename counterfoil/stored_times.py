"""
The limits within which a stored time is believed. Pure.

A time in a status, a Lease or a condition was written by the clock of some process. A clock that was ahead
for a moment leaves times that are far in the future. Such a time is not believed: what happened did not
happen later than now, and what is planned is not later than the settings allow. Without this rule, all that
waits for such a time would wait until the clock has passed it.

A time that is not believed counts as long ago, so what waits for it continues at once, and writes a new time.
A bound that only moves with the clock ("at most an hour from now") would never be reached.
"""

from datetime import datetime, timedelta
from typing import Final

CLOCK_DIFFERENCE: Final = timedelta(minutes=5)
"""Maximum difference between the clocks of two processes that counts as normal."""


def believed_time(
    stored: datetime | None, now: datetime, *, ahead: timedelta = timedelta(0)
) -> datetime | None:
    """
    Return a stored time; None if it can't be right now, or is not set.

    ``ahead`` is how far after ``now`` it may be by the settings: zero for something that happened.
    """
    if stored is None or stored - now > ahead + CLOCK_DIFFERENCE:
        return None
    return stored


def age(stored: datetime, now: datetime) -> timedelta:
    """Return the time since a stored time; ``timedelta.max`` if that time can't be right."""
    return now - stored if believed_time(stored, now) is not None else timedelta.max

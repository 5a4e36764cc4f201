"""
The clock as a dependency: code that needs the time or a pause has a parameter of type ``Clock``.

``WallClock`` is the real clock. Tests use their own clock, so that no test sleeps.

``utc_text`` is the one form of times in what Counterfoil writes for others.

The last functions are the limits within which a stored time is believed.

A time in a status, a Lease or a condition was written by the clock of some process. A clock that was ahead
for a moment leaves times that are far in the future. Such a time is not believed: what happened did not
happen later than now, and what is planned is not later than the settings allow. Without this rule, all that
waits for such a time would wait until the clock has passed it.

A time that is not believed counts as long ago, so what waits for it continues at once, and writes a new time.
A bound that only moves with the clock ("at most an hour from now") would never be reached.
"""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol


class Clock(Protocol):
    """Source of the current time and of pauses."""

    def now(self) -> datetime:
        """Return the current time, timezone-aware, in UTC."""
        ...

    def lead(self) -> timedelta:
        """Return by how much ``now`` may be ahead, because its sources differ. What can't be undone waits
        that much longer."""
        ...

    def monotonic(self) -> float:
        """Return the seconds of a clock that is never set; only differences have a meaning."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Pause the calling task for ``seconds``; zero or less does not pause."""
        ...


class WallClock:
    """The machine's clock and the event loop's timers."""

    def now(self) -> datetime:
        """Return the current time, timezone-aware, in UTC."""
        return datetime.now(UTC)

    def lead(self) -> timedelta:
        """Return zero: there is one source."""
        return timedelta(0)

    def monotonic(self) -> float:
        """Return the seconds of a clock that is never set; only differences have a meaning."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Pause the calling task for ``seconds``; zero or less does not pause."""
        await asyncio.sleep(max(0.0, seconds))


def utc_text(moment: datetime) -> str:
    """Return a timezone-aware time in UTC and whole seconds (RFC 3339), as in ``2026-03-01T10:00:00Z``."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


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


def not_before_creation(stored: datetime, created: datetime | None) -> datetime:
    """
    Return the stored time of something that happened to an object; the object's creation if that is clearly
    later.

    The API server's clock writes the creation. A clock that was behind wrote the other time, or the object
    was restored since.
    """
    return created if created is not None and created - stored > CLOCK_DIFFERENCE else stored


def age(stored: datetime, now: datetime) -> timedelta:
    """Return the time since a stored time; ``timedelta.max`` if that time can't be right."""
    return now - stored if believed_time(stored, now) is not None else timedelta.max

"""
The clock as a dependency: code that needs the time or a pause has a parameter of type ``Clock``.

``WallClock`` is the real clock. Tests use their own clock, so that no test sleeps.
"""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Source of the current time and of pauses."""

    def now(self) -> datetime:
        """Return the current time, timezone-aware, in UTC."""
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

    def monotonic(self) -> float:
        """Return the seconds of a clock that is never set; only differences have a meaning."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Pause the calling task for ``seconds``; zero or less does not pause."""
        await asyncio.sleep(max(0.0, seconds))

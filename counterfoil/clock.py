"""
The clock, as something that is handed in: whoever needs the time or a pause takes a ``Clock``.

``WallClock`` is the real one. Tests bring their own, so that no test has to sleep.
"""

import asyncio
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the code may ask about time."""

    def now(self) -> datetime:
        """Return the present moment, aware, in UTC."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Pause the calling task for so many seconds (not at all when zero or less)."""
        ...


class WallClock:
    """The machine's clock and the event loop's timers."""

    def now(self) -> datetime:
        """Return the present moment, aware, in UTC."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """Pause the calling task for so many seconds (not at all when zero or less)."""
        await asyncio.sleep(max(0.0, seconds))

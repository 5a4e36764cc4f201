"""
Detect that the machine's clock was set, and examine again what is scheduled by it.

What was scheduled while the clock was ahead is in memory with its time, which nothing would examine again
(``counterfoil.clock`` limits times that are stored).
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from counterfoil.clock import CLOCK_DIFFERENCE, Clock

_log = logging.getLogger(__name__)

CHECK_SECONDS = 30.0
"""Interval between two comparisons of the clock with one that is never set."""


@dataclass(frozen=True)
class ClockChangeDetector:
    """Calls ``examine_again`` after each change of the clock by more than ``CLOCK_DIFFERENCE``."""

    clock: Clock
    examine_again: Sequence[Callable[[], None]]

    async def run(self) -> None:
        """Compare until cancelled."""
        start = self._start()
        while True:
            await self.clock.sleep(CHECK_SECONDS)
            before, start = start, self._start()
            if abs(start - before) > CLOCK_DIFFERENCE:
                _log.warning("the clock was set by %s; all due times are examined again", start - before)
                for each in self.examine_again:
                    each()

    def _start(self) -> datetime:
        """Return the time at which the clock that is never set was zero."""
        return self.clock.now() - timedelta(seconds=self.clock.monotonic())

"""An event loop whose time passes at once: a sleep ends as soon as nothing else can run."""

import asyncio
import selectors
from collections.abc import Coroutine
from datetime import datetime, timedelta
from typing import Any, TypeVar

from tests.support.builders import NOON

T = TypeVar("T")


class _InstantSelector(selectors.DefaultSelector):
    """Waits for nothing; the loop's time advances instead."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 1000.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise RuntimeError("nothing is left that could ever happen")
        self.seconds += max(0.0, timeout)
        return super().select(0)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop with its own time, in seconds."""

    def __init__(self) -> None:
        self._selector_with_time = _InstantSelector()
        super().__init__(self._selector_with_time)

    def time(self) -> float:
        """Return the virtual time."""
        return self._selector_with_time.seconds


class VirtualClock:
    """A ``Clock`` that begins at ``NOON`` and goes with a loop's virtual time."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        self._loop = loop
        self._start = loop.time()

    def now(self) -> datetime:
        """Return the current time."""
        return NOON + timedelta(seconds=self.monotonic())

    def lead(self) -> timedelta:
        """Return zero."""
        return timedelta(0)

    def monotonic(self) -> float:
        """Return the seconds that passed."""
        return self._loop.time() - self._start

    async def sleep(self, seconds: float) -> None:
        """Pause the calling task."""
        await asyncio.sleep(max(0.0, seconds))


def run_in_virtual_time(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a ``VirtualTimeLoop``."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)


def virtual_time() -> float:
    """Return the time of the running loop."""
    return asyncio.get_running_loop().time()

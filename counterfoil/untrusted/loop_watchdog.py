"""
The watchdog of an event loop: measure how long the loop was blocked, and export that (rule 12). It also
exports the number of the loop's tasks.

A timer fires every 100 ms. A late timer shows that the loop did not run: a callback computed (``computing``),
or waited (``waiting``) for a file or for a processor that other processes used. The CPU time of the loop's
thread tells the two causes apart. The measured time can be 100 ms shorter than the block. In a thread that
waits for a processor it can also be 100 ms longer: what the loop did just before the block counts too.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from counterfoil.metrics import Metrics

INTERVAL_SECONDS = 0.1
"""Interval between two measurements, and their error. An idle process needs 0.1 % of a processor for them."""

MAX_BLOCK_SECONDS = 0.25
"""Longest time that counts as no block: no user notices it, and no probe fails."""

Seconds = Callable[[], float]


class LoopWatchdog:
    """Measures one event loop from ``start`` until ``stop``."""

    def __init__(
        self,
        metrics: Metrics,
        loop: asyncio.AbstractEventLoop,
        *,
        monotonic: Seconds = time.monotonic,
        cpu_time: Seconds = time.thread_time,
    ) -> None:
        """Take two clocks in seconds: the time, and the CPU time of the thread that runs the loop."""
        self._metrics = metrics
        self._loop = loop
        self._monotonic = monotonic
        self._cpu_time = cpu_time
        self._due = 0.0
        self._cpu = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._longest = {"computing": 0.0, "waiting": 0.0}

    def start(self) -> None:
        """Begin the next measurement."""
        self._due = self._monotonic() + INTERVAL_SECONDS
        self._cpu = self._cpu_time()
        self._timer = self._loop.call_later(INTERVAL_SECONDS, self._measure)

    def stop(self) -> None:
        """End the measurement."""
        if self._timer is not None:
            self._timer.cancel()

    def _measure(self) -> None:
        late = self._monotonic() - self._due
        computing = min(late, self._cpu_time() - self._cpu)
        self._record("computing", computing)
        self._record("waiting", late - computing)
        self.start()

    def _record(self, cause: str, seconds: float) -> None:
        if seconds > MAX_BLOCK_SECONDS:
            self._metrics.event_loop_blocks.labels(cause).inc()
        if seconds > self._longest[cause]:
            self._longest[cause] = seconds
            self._metrics.event_loop_longest_block_seconds.labels(cause).set(seconds)


@contextmanager
def watched_event_loop(metrics: Metrics) -> Iterator[None]:
    """Measure the running event loop, and count its tasks at each scrape."""
    loop = asyncio.get_running_loop()
    metrics.event_loop_tasks.set_function(lambda: len(asyncio.all_tasks(loop)))
    watchdog = LoopWatchdog(metrics, loop)
    watchdog.start()
    try:
        yield
    finally:
        watchdog.stop()

"""
When and by whom: a heap of times, the lanes of those that are due, and one task per event that is worked on.

``enqueue_at`` says when an event is due; ``run`` waits for the next time or the next free place, whichever comes first,
and starts ``work(event)``. Times come from the events' status, so a restart finds them as they were (rule 10).
It knows nothing of phases and writes nothing.
"""

import asyncio
import heapq
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime

from controller.scheduling.fair_queue import ConcurrencyLimits, FairQueue, QueueItem
from counterfoil.clock import Clock

_log = logging.getLogger(__name__)

MAX_SLEEP_SECONDS = 60.0
"""Timers run by the monotonic clock, times in status by the wall clock; so often the two are brought together."""

ReconcileFunction = Callable[[str], Awaitable[None]]


class WorkQueue:
    """Starts the work on each event when it is due and there is room."""

    def __init__(
        self,
        *,
        clock: Clock,
        concurrency_limits: Callable[[], ConcurrencyLimits],
    ) -> None:
        self._clock = clock
        self._concurrency_limits = concurrency_limits
        self._fair_queue = FairQueue()
        self._times: list[tuple[datetime, str]] = []
        self._scheduled: dict[str, tuple[datetime, QueueItem]] = {}
        self._wakeup = asyncio.Event()
        self._unlock_signals: dict[str, asyncio.Event] = {}
        self._draining = False
        self._enqueued_at: datetime | None = None
        """When something was wanted first since the last look."""
        self._stalled_since: datetime | None = None

    def enqueue_at(self, item: QueueItem, due: datetime | None) -> None:
        """Let the event be worked on at ``due``; None: not by itself. The newest call counts."""
        if due is None:
            self._scheduled.pop(item.event, None)
            self._fair_queue.drop(item.event)
            return
        if self._scheduled.get(item.event) == (due, item):
            return
        self._scheduled[item.event] = (due, item)
        self._fair_queue.drop(item.event)
        self._push_time(due, item.event)

    def forget(self, event: str) -> None:
        """Drop an event that is finished or deleted."""
        self._scheduled.pop(event, None)
        self._fair_queue.drop(event)

    def wake(self) -> None:
        """Look again: limits may have changed."""
        self._wakeup.set()

    def is_running(self, event: str) -> bool:
        """Whether the event is worked on now."""
        return self._fair_queue.is_running(event)

    @property
    def running_count(self) -> int:
        """How many events are worked on now."""
        return self._fair_queue.running_count

    @property
    def backlog(self) -> int:
        """How many events are due and wait for room."""
        return self._fair_queue.queued_count

    def overdue_since(self) -> datetime | None:
        """Since when something is due that nobody has looked at yet, None if there is nothing; for liveness."""
        if not self._times or self._times[0][0] > self._clock.now():
            return None
        due = self._times[0][0]
        # A time in the past, as after a restart, is overdue only from when it was asked for.
        return due if self._enqueued_at is None else max(due, self._enqueued_at)

    @property
    def stalled_since(self) -> datetime | None:
        """Since when events are due while not one is worked on, None if it is not so; for liveness."""
        return self._stalled_since

    @asynccontextmanager
    async def lock(self, envelope: str) -> AsyncIterator[None]:
        """Keep the workers off an envelope while a person's request is carried out (rule 5)."""
        while not self._fair_queue.acquire(envelope):
            await self._unlock_signals.setdefault(envelope, asyncio.Event()).wait()
        try:
            yield
        finally:
            self._fair_queue.release(envelope)
            self._signal_unlocked(envelope)

    async def drain(self) -> None:
        """Start nothing new from now on, and return when the last running work has ended."""
        self._draining = True
        while self.running_count:
            self._wakeup.clear()
            await self._wakeup.wait()

    async def run(self, reconcile: ReconcileFunction) -> None:
        """Call ``reconcile`` for each due event until cancelled; then each running task is cancelled and awaited."""
        async with asyncio.TaskGroup() as workers:
            while True:
                self._wakeup.clear()
                self._queue_due_items()
                for item in () if self._draining else self._fair_queue.take(self._concurrency_limits()):
                    self._scheduled.pop(item.event, None)
                    workers.create_task(self._reconcile_item(item, reconcile), name=f"event {item.event}")
                self._update_stalled_since()
                await self._wait_for_next()

    async def _reconcile_item(self, item: QueueItem, reconcile: ReconcileFunction) -> None:
        try:
            await reconcile(item.event)
        except Exception:
            # The driver classifies what phases raise; what arrives here is a bug, and must not stop the others.
            _log.exception("the work on an event broke off", extra={"event": item.event})
        finally:
            self._fair_queue.done(item.event)
            if scheduled := self._scheduled.get(item.event):
                self._push_time(scheduled[0], item.event)
            self._signal_unlocked(item.envelope)

    def _signal_unlocked(self, envelope: str) -> None:
        if unlock_signal := self._unlock_signals.pop(envelope, None):
            unlock_signal.set()
        self._wakeup.set()

    def _push_time(self, due: datetime, event: str) -> None:
        heapq.heappush(self._times, (due, event))
        self._enqueued_at = self._enqueued_at or self._clock.now()
        self._wakeup.set()

    def _queue_due_items(self) -> None:
        now = self._clock.now()
        self._enqueued_at = None
        while self._times and self._times[0][0] <= now:
            due, event = heapq.heappop(self._times)
            scheduled = self._scheduled.get(event)
            # One that is out keeps its wish: ``_reconcile_item`` puts it back when the work has ended.
            if scheduled is not None and scheduled[0] == due and not self._fair_queue.is_running(event):
                self._fair_queue.add(scheduled[1])

    def _update_stalled_since(self) -> None:
        if self._draining or self.running_count or not self.backlog:
            self._stalled_since = None
        elif self._stalled_since is None:
            self._stalled_since = self._clock.now()

    async def _wait_for_next(self) -> None:
        if not self._times:
            await self._wakeup.wait()
            return
        pause = (self._times[0][0] - self._clock.now()).total_seconds()
        try:
            async with asyncio.timeout(min(max(0.0, pause), MAX_SLEEP_SECONDS)):
                await self._wakeup.wait()
        except TimeoutError:
            return

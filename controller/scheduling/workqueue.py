"""
The work queue: a heap of due times, the fair queue of due events, and one task per running event.

``enqueue_at`` sets the due time of an event; ``run`` waits for the next due time or the end of a run and
starts ``reconcile(event)``. Due times come from the events' status, so a restart finds them again (rule 10).
This module does not depend on phases and writes nothing.
"""

import asyncio
import heapq
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from controller.scheduling.fair_queue import ConcurrencyLimits, FairQueue, QueueItem
from controller.scheduling.process_slots import NamespaceSlots, ProcessSlots
from counterfoil.clock import Clock

_log = logging.getLogger(__name__)

MAX_SLEEP_SECONDS = 60.0
"""Maximum sleep. Timers are monotonic, times in a status are not; each wake-up aligns the two."""

LOCK_SECONDS = 300.0
"""Maximum time for which a request holds an envelope: its retries end before that, also without an answer."""

ReconcileFunction = Callable[[str], Awaitable[None]]


@dataclass
class WorkQueue:
    """Starts the run of each event when it is due and the limits allow."""

    clock: Clock
    concurrency_limits: Callable[[], ConcurrencyLimits]
    _fair_queue: FairQueue = field(default_factory=FairQueue)
    _times: list[tuple[datetime, str]] = field(default_factory=list)
    _scheduled: dict[str, tuple[datetime, QueueItem]] = field(default_factory=dict)
    _wakeup: asyncio.Event = field(default_factory=asyncio.Event)
    _unlock_signals: dict[str, asyncio.Event] = field(default_factory=dict)
    _resuming: dict[str, asyncio.Future[None]] = field(default_factory=dict)
    """Running events that wait for their places."""
    _draining: bool = False
    _enqueued_at: float | None = None
    """Monotonic time of the first enqueue since the due events were last queued."""
    _queued_at: float = 0.0
    """Monotonic time at which the due events were last queued."""
    _stalled_since: float | None = None
    """Monotonic time since which events are due and none runs."""

    @classmethod
    def of_namespace(
        cls,
        namespace: str,
        slots: ProcessSlots,
        clock: Clock,
        concurrency_limits: Callable[[], ConcurrencyLimits],
    ) -> "WorkQueue":
        """Return the queue of a namespace, which shares the slots of its process."""
        wakeup = asyncio.Event()
        fair_queue = FairQueue(NamespaceSlots(slots, namespace, wakeup.set))
        return cls(clock, concurrency_limits, fair_queue, _wakeup=wakeup)

    def enqueue_at(self, item: QueueItem, due: datetime | None) -> None:
        """Set the due time of an event; None: not due. The newest call counts."""
        if due is None:
            self.forget(item.event)
            return
        if self._scheduled.get(item.event) == (due, item):
            return
        self._scheduled[item.event] = (due, item)
        self._fair_queue.drop(item.event)
        self._push_time(due, item.event)

    def forget(self, event: str) -> None:
        """Remove an event that is finished, deleted or not due."""
        self._scheduled.pop(event, None)
        self._fair_queue.drop(event)
        # If it was the last one that waited, the queue is no longer stalled.
        self._wakeup.set()

    def wake(self) -> None:
        """Apply the limits again: they may have changed."""
        self._wakeup.set()

    @property
    def running_count(self) -> int:
        """Number of running events."""
        return self._fair_queue.running_count

    @property
    def backlog(self) -> int:
        """Number of events that are due and wait for a limit."""
        return self._fair_queue.queued_count

    def overdue_time(self) -> timedelta | None:
        """Time for which a due event was not queued, None if there is none; for liveness."""
        late = self.clock.now() - self._times[0][0] if self._times else timedelta(-1)
        if late < timedelta(0):
            return None
        # A time in the past, as after a restart, is overdue from the time of the enqueue. One that a step of
        # the clock passed is overdue from the last time at which the due events were queued.
        since = self._queued_at if self._enqueued_at is None else self._enqueued_at
        return min(late, timedelta(seconds=self.clock.monotonic() - since))

    @property
    def stalled_time(self) -> timedelta | None:
        """Time for which events are due and none runs, None otherwise; for liveness."""
        if self._stalled_since is None:
            return None
        stalled = self.clock.monotonic() - self._stalled_since
        if not self._fair_queue.has_unlocked:
            # They wait for the request that holds their envelope, as for a running event.
            stalled -= LOCK_SECONDS
        return timedelta(seconds=stalled) if stalled >= 0.0 else None

    @asynccontextmanager
    async def lock(self, envelope: str) -> AsyncIterator[None]:
        """Lock an envelope against runs while a person's request is carried out (rule 5)."""
        while not self._fair_queue.acquire(envelope):
            await self._unlock_signals.setdefault(envelope, asyncio.Event()).wait()
        try:
            yield
        finally:
            self._fair_queue.release(envelope)
            self._signal_unlocked(envelope)

    @asynccontextmanager
    async def paused(self, event: str) -> AsyncIterator[None]:
        """Release the slots of a running event, in the process and of its archive, while it waits for its
        eSAW. Others must not wait for that eSAW. In the end, the event waits for free slots, before new
        ones."""
        self._fair_queue.pause(event)
        self._wakeup.set()
        # After an error the run ends soon, perhaps because the queue has ended: it waits for no slot.
        yield
        if not self._fair_queue.resume(event, self.concurrency_limits()):
            # Its claim for a slot of the process begins there.
            self._wakeup.set()
            await self._resumed(event)

    async def move(
        self, event: str, archive: str, longest: timedelta, before_wait: Callable[[], None]
    ) -> bool:
        """
        Let a running event take a slot of this archive in place of those that it has.

        Without room there, it waits without any place, for this time at most; ``before_wait`` is called
        before. False if too many events wait, or the time has ended: the run has to end, and the event is
        queued under the limit of that archive. It may have no place any more then.
        """
        limits = self.concurrency_limits()
        if not self._fair_queue.is_running(event):
            return True
        if self._fair_queue.move(event, archive, limits):
            self._wakeup.set()
            return True
        if not self._fair_queue.wait(event, archive, limits):
            return False
        before_wait()
        self._wakeup.set()
        timeout = asyncio.timeout(longest.total_seconds())
        try:
            async with timeout:
                await self._resumed(event)
        except TimeoutError:
            if not timeout.expired():
                raise
            return False
        return True

    def has_slot(self, event: str, archive: str) -> bool:
        """Whether a running event has a slot of this archive now."""
        return self._fair_queue.has_slot(event, archive)

    async def _resumed(self, event: str) -> None:
        """Wait until a paused event has its places again."""
        self._resuming[event] = free = asyncio.get_running_loop().create_future()
        try:
            await free
        finally:
            del self._resuming[event]
            self._fair_queue.give_up(event)
            self._wakeup.set()

    async def drain(self) -> None:
        """Start no more runs, and return when the last run has ended."""
        self._draining = True
        while self.running_count:
            self._wakeup.clear()
            await self._wakeup.wait()

    async def run(self, reconcile: ReconcileFunction) -> None:
        """Call ``reconcile`` for each due event until cancelled; then cancel and await the running ones."""
        self._fair_queue.slots.join()
        try:
            async with asyncio.TaskGroup() as workers:
                while True:
                    self._wakeup.clear()
                    self._queue_due_items()
                    limits, queue = self.concurrency_limits(), self._fair_queue
                    for item in queue.resumed(limits) if self._draining else queue.take(limits):
                        if (free := self._resuming.get(item.event)) is None:
                            self._scheduled.pop(item.event, None)
                            work = self._reconcile_item(item, reconcile)
                            workers.create_task(work, name=f"event {item.event}")
                        elif not free.done():
                            free.set_result(None)
                    queue.claim(limits)
                    self._update_stalled_since()
                    await self._wait_for_next()
        finally:
            self._fair_queue.slots.leave()

    async def _reconcile_item(self, item: QueueItem, reconcile: ReconcileFunction) -> None:
        try:
            await reconcile(item.event)
        except Exception:
            # The worker handles all known errors; an exception here is a bug, and must not stop other events.
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
        if self._enqueued_at is None:
            self._enqueued_at = self.clock.monotonic()
        self._wakeup.set()

    def _queue_due_items(self) -> None:
        now = self.clock.now()
        self._enqueued_at, self._queued_at = None, self.clock.monotonic()
        while self._times and self._times[0][0] <= now:
            due, event = heapq.heappop(self._times)
            scheduled = self._scheduled.get(event)
            # A running event keeps its due time: ``_reconcile_item`` adds it again when the run has ended.
            if scheduled is not None and scheduled[0] == due and not self._fair_queue.is_running(event):
                self._fair_queue.add(scheduled[1])

    def _update_stalled_since(self) -> None:
        if self._draining or self.running_count or self._fair_queue.slots.process.in_use or not self.backlog:
            self._stalled_since = None
        elif self._stalled_since is None:
            self._stalled_since = self.clock.monotonic()

    async def _wait_for_next(self) -> None:
        if not self._times:
            await self._wakeup.wait()
            return
        pause = (self._times[0][0] - self.clock.now()).total_seconds()
        try:
            async with asyncio.timeout(min(max(0.0, pause), MAX_SLEEP_SECONDS)):
                await self._wakeup.wait()
        except TimeoutError:
            return

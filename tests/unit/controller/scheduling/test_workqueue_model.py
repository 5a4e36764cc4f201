"""
The work queue against a model of it: a table of due times, a set of running events, and a fair order.

The model says which events may start each time that the work queue takes one. So no event is lost, started
early, started twice, started before an older one of its sender, or started although an organization or a
sender with fewer running events has one that may start as well.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from controller.scheduling.fair_queue import ConcurrencyLimits, FairQueue, QueueItem
from controller.scheduling.workqueue import WorkQueue
from tests.support.virtual_time import VirtualClock, VirtualTimeLoop

ENVELOPES = ("one", "one", "two", "three", "three", "four", "five")
"""The envelopes of the events, the oldest event first. Two envelopes have two events."""

SENDERS = (("acme", "anna", "dms"), ("acme", "ben", "dms"), ("beta", "carla", "dms"), ("gamma", "", "vault"))
"""Organization, sender and archive of an event. An event's sender is unknown at first."""

EVENTS = st.integers(0, len(ENVELOPES) - 1)
LIMITS = st.sampled_from((1, 2, 9))


def an_item(number: int, sender: int) -> QueueItem:
    return QueueItem(str(number), f"event-{number}", ENVELOPES[number], *SENDERS[sender])


@dataclass
class ObservedFairQueue(FairQueue):
    """Reports each event that is taken."""

    taken: Callable[[QueueItem], None] = lambda item: None

    def take(self, concurrency_limits: ConcurrencyLimits) -> Iterator[QueueItem]:
        for item in super().take(concurrency_limits):
            self.taken(item)
            yield item


class LockedEnvelope:
    """A task that holds the lock of an envelope until it is released."""

    def __init__(self, envelope: str) -> None:
        self.envelope = envelope
        self.is_inside = False
        self.leave = asyncio.Event()
        self.task: asyncio.Task[None]


class WorkQueueModel(RuleBasedStateMachine):
    """Each rule does one thing; ``settle`` lets the work queue react to all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=VirtualTimeLoop)
        loop = self.runner.get_loop()
        assert isinstance(loop, VirtualTimeLoop)
        self.clock = VirtualClock(loop)
        self.limits = ConcurrencyLimits(9, {}, {}, {})
        self.wanted: dict[str, tuple[datetime, QueueItem]] = {}
        self.running: dict[str, QueueItem] = {}
        self.expected: deque[str] = deque()
        """Events that the model has started, and that the work queue has to start in this order."""
        self.ends: dict[str, asyncio.Future[bool]] = {}
        self.again: dict[str, tuple[QueueItem, datetime]] = {}
        self.locks: list[LockedEnvelope] = []
        self.starts: Counter[str] = Counter()
        self.faults: list[str] = []

    @initialize()
    def start(self) -> None:
        async def begin() -> None:
            self.workqueue = WorkQueue(
                clock=self.clock,
                concurrency_limits=lambda: self.limits,
                _fair_queue=ObservedFairQueue(taken=self._taken),
            )
            self.task = asyncio.create_task(self.workqueue.run(self._reconcile))

        self.runner.run(begin())

    # -- The model -------------------------------------------------------------------------------------------

    def startable(self) -> list[QueueItem]:
        """Return the events that are due and that no limit, other event or lock keeps from running."""
        if len(self.running) >= self.limits.process:
            return []
        busy = {each.envelope for each in self.running.values()}
        busy |= {each.envelope for each in self.locks if each.is_inside}
        due = (item for at, item in self.wanted.values() if at <= self.clock.now())
        return [item for item in due if item.envelope not in busy and self._is_below_limits(item)]

    def _is_below_limits(self, item: QueueItem) -> bool:
        others = self.running.values()
        of_organization = [each for each in others if each.organization == item.organization]
        of_sender = [each for each in of_organization if each.sender == item.sender]
        of_archive = [each for each in others if each.archive == item.archive]
        return (
            len(of_organization) < self.limits.organization.get(item.organization, 16)
            and len(of_sender) < self.limits.sender.get(item.organization, 4)
            and len(of_archive) < self.limits.archive.get(item.archive, 8)
        )

    def _taken(self, item: QueueItem) -> None:
        """Start in the model what the work queue starts now, and check its order."""
        startable = self.startable()
        if item not in startable:
            self.faults.append(f"{item.event} was started, and only {startable} may start")
            return
        fewest = min(map(self._running_counts, startable))
        of_sender = [each for each in startable if each[3:5] == item[3:5]]
        if self._running_counts(item) != fewest or min(of_sender) != item:
            self.faults.append(f"{item.event} was started before its turn among {startable}")
        del self.wanted[item.event]
        self.running[item.event] = item
        self.expected.append(item.event)

    def _running_counts(self, item: QueueItem) -> tuple[int, int]:
        """Return how many events of its organization, and of its sender, are running."""
        of_organization = [each for each in self.running.values() if each.organization == item.organization]
        return len(of_organization), sum(each.sender == item.sender for each in of_organization)

    async def _reconcile(self, event: str) -> None:
        # The work queue survives an exception, also one of this model.
        expected = self.expected.popleft() if self.expected else None
        if event != expected:
            self.faults.append(f"{event} was started instead of {expected}")
        self.starts[event] += 1
        self.ends[event] = asyncio.get_running_loop().create_future()
        breaks = await self.ends[event]
        del self.ends[event], self.running[event]
        if event in self.again:
            item, due = self.again.pop(event)
            self._enqueue(item, due)
        if breaks:
            raise RuntimeError("a bug in our code")

    def _enqueue(self, item: QueueItem, due: datetime) -> None:
        self.workqueue.enqueue_at(item, due)
        self.wanted[item.event] = (due, item)

    # -- What happens ----------------------------------------------------------------------------------------

    @rule(number=EVENTS, sender=st.integers(0, len(SENDERS) - 1), seconds=st.sampled_from((-3600, 0, 5, 90)))
    def enqueue(self, number: int, sender: int, seconds: int) -> None:
        self._enqueue(an_item(number, sender), self.clock.now() + timedelta(seconds=seconds))

    @rule(number=EVENTS)
    def enqueue_as_before(self, number: int) -> None:
        """A change of an object that does not concern the event enqueues it as it is."""
        if (known := self.wanted.get(f"event-{number}")) is not None:
            self._enqueue(known[1], known[0])

    @rule(number=EVENTS)
    def is_not_due(self, number: int) -> None:
        self.workqueue.enqueue_at(an_item(number, 0), None)
        self.wanted.pop(f"event-{number}", None)

    @rule(number=EVENTS)
    def forget(self, number: int) -> None:
        self.workqueue.forget(f"event-{number}")
        self.wanted.pop(f"event-{number}", None)

    @rule(data=st.data(), breaks=st.booleans(), again=st.sampled_from((None, 0, 5)))
    def end_run(self, data: st.DataObject, breaks: bool, again: int | None) -> None:
        """A run ends; its event may be due again, as after a phase that waits."""
        runs = sorted(event for event, end in self.ends.items() if not end.done())
        if runs:
            event = data.draw(st.sampled_from(runs))
            if again is not None:
                item = self.running[event]
                self.again[event] = (item, self.clock.now() + timedelta(seconds=again))
            self.ends[event].set_result(breaks)

    @rule(process=LIMITS, organization=LIMITS, sender=LIMITS, archive=LIMITS)
    def change_limits(self, process: int, organization: int, sender: int, archive: int) -> None:
        self.limits = ConcurrencyLimits(process, {"acme": organization}, {"acme": sender}, {"dms": archive})
        self.workqueue.wake()

    @rule(envelope=st.sampled_from(sorted(set(ENVELOPES))))
    def lock(self, envelope: str) -> None:
        async def hold(lock: LockedEnvelope) -> None:
            async with self.workqueue.lock(envelope):
                runs = [each.event for each in self.running.values() if each.envelope == envelope]
                assert not runs, f"the envelope was locked during the run of {runs}"
                assert not any(each.is_inside for each in self.locks if each.envelope == envelope)
                lock.is_inside = True
                try:
                    await lock.leave.wait()
                finally:
                    lock.is_inside = False

        async def begin() -> None:
            lock = LockedEnvelope(envelope)
            lock.task = asyncio.create_task(hold(lock))
            self.locks.append(lock)

        self.runner.run(begin())

    @rule(data=st.data(), is_cancelled=st.booleans())
    def end_lock(self, data: st.DataObject, is_cancelled: bool) -> None:
        locks = [each for each in self.locks if not each.task.done()]
        if locks:
            lock = data.draw(st.sampled_from(locks))
            if is_cancelled:
                lock.task.cancel()
            else:
                lock.leave.set()

    @rule(seconds=st.sampled_from((1, 5, 60, 7200)))
    def time_passes(self, seconds: int) -> None:
        self.runner.run(asyncio.sleep(seconds))
        self.settle()

    @rule()
    def settle(self) -> None:
        """Let the work queue do what it can do at this time."""

        async def turns() -> None:
            for _ in range(20):
                await asyncio.sleep(0)

        self.runner.run(turns())
        assert not self.task.done(), "the work queue ended"
        assert not self.faults
        assert not self.expected, f"{self.expected} did not start"
        assert not self.startable(), f"{self.startable()} could have started"
        for each in self.locks:
            is_free = all(item.envelope != each.envelope for item in self.running.values()) and not any(
                other.is_inside for other in self.locks if other.envelope == each.envelope
            )
            assert each.task.done() or not is_free, f"the lock of {each.envelope} is free, and a task waits"
            assert not each.task.done() or each.task.cancelled() or each.task.exception() is None
        due = [event for event, (at, _) in self.wanted.items() if at <= self.clock.now()]
        waiting = [event for event in due if event not in self.running]
        assert self.workqueue.backlog == len(waiting)
        assert self.workqueue.overdue_time() is None
        locked = {each.envelope for each in self.locks if each.is_inside}
        has_free = any(self.wanted[event][1].envelope not in locked for event in waiting)
        is_stalled = self.workqueue.stalled_time is not None
        assert is_stalled == (has_free and not self.running) or (is_stalled and not self.running and waiting)

    @invariant()
    def envelopes_are_worked_on_one_after_the_other(self) -> None:
        envelopes = [each.envelope for each in self.running.values()]
        assert len(envelopes) == len(set(envelopes))

    # -- The end ---------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            if hasattr(self, "task"):
                self._everything_wanted_runs()
                self._drains()
        finally:
            self.runner.close()

    def _everything_wanted_runs(self) -> None:
        """With time and without limits, each event that is due runs again."""
        self.limits = ConcurrencyLimits(100, {}, {}, {})
        self.workqueue.wake()
        for lock in self.locks:
            lock.leave.set()
        self.again.clear()
        wanted, before = set(self.wanted), Counter(self.starts)
        before.update(self.expected)
        self.time_passes(7200)
        while self.ends:
            for end in self.ends.values():
                if not end.done():
                    end.set_result(False)
            self.settle()
        assert not self.wanted
        assert {event for event in wanted if self.starts[event] != before[event] + 1} == set()

    def _drains(self) -> None:
        """Nothing starts while the work queue drains, and draining ends with the last run."""
        self._enqueue(an_item(2, 0), self.clock.now())
        self.settle()

        async def drain() -> None:
            draining = asyncio.create_task(self.workqueue.drain())
            await asyncio.sleep(0)
            self.workqueue.enqueue_at(an_item(5, 0), self.clock.now())
            await asyncio.sleep(5)
            assert not draining.done()
            self.ends["event-2"].set_result(False)
            await asyncio.sleep(5)
            assert draining.done()
            assert not self.ends
            self.task.cancel()
            with suppress(asyncio.CancelledError):
                await self.task

        self.runner.run(drain())


TestWorkQueue = WorkQueueModel.TestCase

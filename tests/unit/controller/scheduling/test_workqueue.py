"""When and by whom events are worked on."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

from controller.scheduling.fair_queue import ConcurrencyLimits, QueueItem
from controller.scheduling.workqueue import WorkQueue
from tests.support.builders import NOON, AClock


def a_queue_item(event: str, *, envelope: str | None = None) -> QueueItem:
    return QueueItem(
        sort_key=event,
        event=event,
        envelope=envelope or f"envelope-of-{event}",
        organization="acme",
        sender="anna",
        archive="dms",
    )


class Workshop:
    """Work that a test releases, event by event."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.ended: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.open = True
        self.on_start: Callable[[str], None] = lambda event: None

    async def reconcile(self, event: str) -> None:
        self.started.append(event)
        self.on_start(event)
        if not self.open:
            await self.gates.setdefault(event, asyncio.Event()).wait()
        self.ended.append(event)

    def let_go(self, event: str) -> None:
        self.gates.setdefault(event, asyncio.Event()).set()


def a_workqueue(clock: AClock, *, process: int = 100) -> WorkQueue:
    concurrency_limits = ConcurrencyLimits(
        process=process, organization={"acme": process}, sender={"acme": process}, archive={"dms": process}
    )
    return WorkQueue(clock=clock, concurrency_limits=lambda: concurrency_limits)


@asynccontextmanager
async def running(workqueue: WorkQueue, shop: Workshop) -> AsyncIterator[None]:
    task = asyncio.create_task(workqueue.run(shop.reconcile))
    try:
        await turns()
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def turns(count: int = 20) -> None:
    """Let everything run that can run."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_what_is_due_is_worked_on_at_once() -> None:
    clock, shop = AClock(), Workshop()
    workqueue = a_workqueue(clock)
    async with running(workqueue, shop):
        workqueue.enqueue_at(a_queue_item("a"), NOON)
        await turns()
    assert shop.ended == ["a"]


async def test_nothing_starts_before_its_time() -> None:
    clock, shop = AClock(), Workshop()
    workqueue = a_workqueue(clock)
    async with running(workqueue, shop):
        workqueue.enqueue_at(a_queue_item("a"), NOON + timedelta(seconds=10))
        clock.advance(seconds=9)
        workqueue.wake()
        await turns()
        assert shop.started == []
        clock.advance(seconds=1)
        workqueue.wake()
        await turns()
    assert shop.started == ["a"]


async def test_a_time_passes_without_anybody_poking() -> None:
    clock, shop = AClock(), Workshop()
    workqueue = a_workqueue(clock)
    shop.on_start = lambda event: started.set()
    started = asyncio.Event()
    async with running(workqueue, shop):
        workqueue.enqueue_at(a_queue_item("a"), NOON + timedelta(milliseconds=20))
        await turns()
        clock.advance(seconds=1)
        async with asyncio.timeout(5):
            await started.wait()
    assert shop.started == ["a"]


async def test_after_a_restart_with_times_to_come_none_of_them_fires() -> None:
    clock, shop = AClock(), Workshop()
    workqueue = a_workqueue(clock)
    for number in range(1000):
        workqueue.enqueue_at(a_queue_item(f"event-{number}"), NOON + timedelta(seconds=1 + number))
    async with running(workqueue, shop):
        await turns()
        assert shop.started == []
        clock.advance(seconds=10)
        workqueue.wake()
        await turns()
    assert len(shop.started) == 10


async def test_the_newest_time_counts() -> None:
    clock, shop = AClock(), Workshop()
    workqueue = a_workqueue(clock)
    async with running(workqueue, shop):
        workqueue.enqueue_at(a_queue_item("a"), NOON + timedelta(hours=1))
        workqueue.enqueue_at(a_queue_item("a"), NOON + timedelta(hours=2))
        clock.advance(hours=1)
        workqueue.wake()
        await turns()
        assert shop.started == []
        workqueue.enqueue_at(a_queue_item("a"), NOON)
        await turns()
        clock.advance(hours=1)
        workqueue.wake()
        await turns()
    assert shop.started == ["a"], "once, although two other times came and went"


async def test_one_that_no_longer_wants_to_be_worked_on_is_not() -> None:
    clock, shop = AClock(), Workshop()
    workqueue = a_workqueue(clock)
    workqueue.enqueue_at(a_queue_item("a"), NOON)
    workqueue.enqueue_at(a_queue_item("a"), None)
    workqueue.enqueue_at(a_queue_item("b"), NOON)
    workqueue.forget("b")
    async with running(workqueue, shop):
        await turns()
    assert shop.started == []


async def test_an_event_that_is_wanted_again_while_it_is_out_runs_again_afterwards() -> None:
    clock, shop = AClock(), Workshop()
    shop.open = False
    workqueue = a_workqueue(clock)
    async with running(workqueue, shop):
        workqueue.enqueue_at(a_queue_item("a"), NOON)
        await turns()
        workqueue.enqueue_at(a_queue_item("a"), NOON)
        await turns()
        assert shop.started == ["a"], "never twice at the same time"
        shop.let_go("a")
        await turns()
    assert shop.started == ["a", "a"]


async def test_an_event_that_is_finished_while_it_is_out_does_not_run_again() -> None:
    clock, shop = AClock(), Workshop()
    shop.open = False
    workqueue = a_workqueue(clock)
    async with running(workqueue, shop):
        workqueue.enqueue_at(a_queue_item("a"), NOON)
        await turns()
        workqueue.enqueue_at(a_queue_item("a"), NOON)
        workqueue.forget("a")
        shop.let_go("a")
        await turns()
    assert shop.started == ["a"]


async def test_two_events_of_one_envelope_run_one_after_the_other() -> None:
    clock, shop = AClock(), Workshop()
    shop.open = False
    workqueue = a_workqueue(clock)
    async with running(workqueue, shop):
        workqueue.enqueue_at(a_queue_item("a", envelope="one"), NOON)
        workqueue.enqueue_at(a_queue_item("b", envelope="one"), NOON)
        await turns()
        assert shop.started == ["a"]
        shop.let_go("a")
        await turns()
        assert shop.started == ["a", "b"]
        shop.let_go("b")
        await turns()
    assert workqueue.running_count == 0


async def test_there_is_no_more_going_on_than_there_is_room_for() -> None:
    clock, shop = AClock(), Workshop()
    shop.open = False
    workqueue = a_workqueue(clock, process=2)
    async with running(workqueue, shop):
        for event in "abcd":
            workqueue.enqueue_at(a_queue_item(event), NOON)
        await turns()
        assert (shop.started, workqueue.running_count, workqueue.backlog) == (["a", "b"], 2, 2)
        shop.let_go("b")
        await turns()
        assert shop.started == ["a", "b", "c"]


async def test_work_that_breaks_off_stops_nobody_else() -> None:
    clock, shop = AClock(), Workshop()

    def burst(event: str) -> None:
        if event == "a":
            raise RuntimeError("a bug in our code")

    shop.on_start = burst
    workqueue = a_workqueue(clock, process=1)
    async with running(workqueue, shop):
        workqueue.enqueue_at(a_queue_item("a"), NOON)
        workqueue.enqueue_at(a_queue_item("b"), NOON)
        await turns()
        assert workqueue.running_count == 0
    assert shop.ended == ["b"]


async def test_draining_starts_nothing_new_and_waits_for_what_runs() -> None:
    clock, shop = AClock(), Workshop()
    shop.open = False
    workqueue = a_workqueue(clock)
    async with running(workqueue, shop):
        workqueue.enqueue_at(a_queue_item("a"), NOON)
        await turns()
        draining = asyncio.create_task(workqueue.drain())
        await turns()
        workqueue.enqueue_at(a_queue_item("b"), NOON)
        await turns()
        assert not draining.done()
        shop.let_go("a")
        async with asyncio.timeout(5):
            await draining
        await turns()
    assert shop.started == ["a"]


async def test_draining_an_idle_schedule_ends_at_once() -> None:
    workqueue = a_workqueue(AClock())
    async with running(workqueue, Workshop()), asyncio.timeout(5):
        await workqueue.drain()


async def test_cancelling_ends_every_running_work() -> None:
    clock, shop = AClock(), Workshop()
    shop.open = False
    workqueue = a_workqueue(clock)
    async with running(workqueue, shop):
        workqueue.enqueue_at(a_queue_item("a"), NOON)
        await turns()
        assert workqueue.running_count == 1
    assert workqueue.running_count == 0
    assert shop.ended == []


async def test_a_request_waits_until_the_work_on_its_envelope_has_ended_and_then_keeps_it_off() -> None:
    clock, shop = AClock(), Workshop()
    shop.open = False
    workqueue = a_workqueue(clock)
    entered, leave = asyncio.Event(), asyncio.Event()

    async def request() -> None:
        async with workqueue.lock("one"):
            entered.set()
            await leave.wait()

    async with running(workqueue, shop):
        workqueue.enqueue_at(a_queue_item("a", envelope="one"), NOON)
        await turns()
        carried_out = asyncio.create_task(request())
        await turns()
        assert not entered.is_set()
        shop.let_go("a")
        await turns()
        assert entered.is_set()
        workqueue.enqueue_at(a_queue_item("b", envelope="one"), NOON)
        await turns()
        assert shop.started == ["a"]
        leave.set()
        await carried_out
        await turns()
    assert shop.started == ["a", "b"]


async def test_two_requests_for_one_envelope_are_carried_out_one_after_the_other() -> None:
    workqueue = a_workqueue(AClock())
    inside: list[int] = []
    most: list[int] = []

    async def request(number: int) -> None:
        async with workqueue.lock("one"):
            inside.append(number)
            most.append(len(inside))
            await turns()
            inside.remove(number)

    async with asyncio.timeout(5):
        await asyncio.gather(*(request(number) for number in range(5)))
    assert most == [1] * 5


async def test_a_time_long_past_is_not_taken_for_a_schedule_that_no_longer_turns() -> None:
    clock, shop = AClock(), Workshop()
    workqueue = a_workqueue(clock)
    async with running(workqueue, shop):
        clock.advance(seconds=30)
        workqueue.enqueue_at(a_queue_item("a"), NOON - timedelta(days=300))
        overdue = workqueue.overdue_since()
        assert overdue is not None
        assert clock.now() - overdue <= timedelta(seconds=30)


async def test_a_time_to_come_is_not_overdue() -> None:
    workqueue = a_workqueue(AClock())
    workqueue.enqueue_at(a_queue_item("a"), NOON + timedelta(days=1))
    assert workqueue.overdue_since() is None


async def test_a_schedule_that_does_not_turn_says_since_when() -> None:
    clock = AClock()
    workqueue = a_workqueue(clock)
    workqueue.enqueue_at(a_queue_item("a"), NOON)
    clock.advance(minutes=5)
    assert workqueue.overdue_since() == NOON

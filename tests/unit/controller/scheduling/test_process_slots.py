"""The slots of a process, which the queues of its namespaces share."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from controller.scheduling.fair_queue import ConcurrencyLimits, FairQueue, QueueItem
from controller.scheduling.process_slots import NamespaceSlots, ProcessSlots
from controller.scheduling.workqueue import WorkQueue
from tests.support.builders import NOON, AClock
from tests.support.scenes.workqueue import ReleasedWork, a_queue_item, running, turns

MANY = {"acme": 1000}


def limits(process: int, *, organization: int = 1000) -> ConcurrencyLimits:
    each = {"acme": organization}
    return ConcurrencyLimits(process=process, organization=each, sender=MANY, archive={"dms": 1000})


def item(number: int, *, is_import: bool = False) -> QueueItem:
    sort_key = f"{int(is_import)} {number:05}"
    return QueueItem(sort_key, f"event-{number}", f"envelope-{number}", "acme", "anna", "dms", is_import)


class Namespaces:
    """The queues of several namespaces in one process; the ones that are woken take what they can."""

    def __init__(self, *names: str, process: int, organization: int = 1000) -> None:
        self.slots = ProcessSlots()
        self.limits = limits(process, organization=organization)
        self.woken: list[str] = []
        self.queues = {name: FairQueue(NamespaceSlots(self.slots, name, self._waker(name))) for name in names}
        for queue in self.queues.values():
            queue.slots.join()
        self.running: list[tuple[str, str]] = []

    def _waker(self, name: str) -> Callable[[], None]:
        return lambda: self.woken.append(name)

    def add(self, name: str, *items: QueueItem) -> None:
        for each in items:
            self.queues[name].add(each)
        self.woken.append(name)

    def settle(self) -> None:
        for _ in range(1000):
            if not self.woken:
                return
            name = self.woken.pop(0)
            taken = [(name, each.event) for each in self.queues[name].take(self.limits)]
            self.running += (each for each in taken if each not in self.running)
            self.queues[name].claim(self.limits)
        raise AssertionError("the queues wake each other without end")

    def end(self, name: str) -> None:
        """End the oldest run of a namespace."""
        number = next(n for n, (owner, _) in enumerate(self.running) if owner == name)
        _, event = self.running.pop(number)
        self.queues[name].done(event)
        self.woken.append(name)
        self.settle()

    def counts(self) -> Counter[str]:
        return Counter(name for name, _ in self.running)


def test_a_namespace_alone_has_all_slots() -> None:
    process = Namespaces("sales", process=8)
    process.add("sales", *map(item, range(20)))
    process.settle()
    assert process.counts() == {"sales": 8}


def test_one_of_several_namespaces_leaves_a_quarter_of_the_slots_free() -> None:
    process = Namespaces("sales", "legal", process=8)
    process.add("sales", *map(item, range(50)))
    process.settle()
    assert process.counts() == {"sales": 6}

    process.add("legal", item(1))
    process.settle()
    assert process.counts() == {"sales": 6, "legal": 1}


def test_free_slots_go_to_the_namespace_with_the_fewest_runs_until_all_have_as_many() -> None:
    process = Namespaces("sales", "legal", "hr", process=9)
    process.add("sales", *map(item, range(1000)))
    process.settle()
    for name in ("legal", "hr"):
        process.add(name, *map(item, range(1000)))
        process.settle()
    for _ in range(6):
        process.end(process.counts().most_common(1)[0][0])
    assert process.counts() == {"sales": 3, "legal": 3, "hr": 3}


def test_namespaces_with_as_many_runs_take_turns() -> None:
    process = Namespaces("sales", "legal", process=1)
    for name in ("sales", "legal"):
        process.add(name, *map(item, range(5)))
    process.settle()
    order = []
    while process.running:
        name, _ = process.running[0]
        order.append(name)
        process.end(name)
    assert order == ["sales", "legal"] * 5


def test_fifty_thousand_events_of_one_namespace_delay_no_event_of_another() -> None:
    process = Namespaces("sales", "legal", process=8)
    process.add("sales", *map(item, range(50_000)))
    process.settle()
    for number in range(100):
        process.add("legal", item(number))
        process.settle()
        assert ("legal", f"event-{number}") in process.running
        process.end("sales")
        process.end("legal")


def test_a_namespace_that_waits_for_its_own_limit_holds_no_slot_free() -> None:
    process = Namespaces("sales", "legal", process=4, organization=1)
    process.add("legal", *map(item, range(5)))
    process.settle()
    assert process.counts() == {"legal": 1}
    process.limits = limits(4)
    process.add("sales", *map(item, range(5)))
    process.settle()
    assert process.counts() == {"legal": 1, "sales": 3}


def test_an_event_of_a_callback_comes_before_the_import_of_another_namespace() -> None:
    process = Namespaces("sales", "legal", process=4)
    process.add("sales", *(item(number, is_import=True) for number in range(20)))
    process.settle()
    assert process.counts() == {"sales": 3}, "Imports leave a quarter free"
    process.add("legal", *map(item, range(20)))
    process.settle()
    assert process.counts() == {"sales": 3, "legal": 1}
    process.end("sales")
    process.end("sales")
    assert process.counts() == {"sales": 1, "legal": 3}


def test_imports_run_beside_the_backlog_of_another_namespace_and_leave_a_part_free() -> None:
    process = Namespaces("sales", "legal", "hr", process=32)
    process.add("sales", *map(item, range(1000)))
    process.settle()
    process.add("legal", *(item(number, is_import=True) for number in range(100)))
    process.settle()
    assert process.counts() == {"sales": 24, "legal": 6}
    process.add("hr", item(1))
    process.settle()
    assert process.counts() == {"sales": 24, "legal": 6, "hr": 1}


def test_imports_of_all_namespaces_together_leave_a_quarter_free() -> None:
    process = Namespaces("sales", "legal", process=32)
    for name in ("sales", "legal"):
        process.add(name, *(item(number, is_import=True) for number in range(100)))
        process.settle()
    assert process.counts().total() == 24


def test_imports_continue_when_the_runs_of_another_namespace_end() -> None:
    process = Namespaces("sales", "legal", process=4)
    process.add("legal", *map(item, range(3)))
    process.settle()
    process.add("sales", *(item(number, is_import=True) for number in range(5)))
    process.settle()
    assert process.counts() == {"legal": 3}
    process.end("legal")
    assert process.counts() == {"legal": 2, "sales": 1}


def test_a_namespace_that_is_no_longer_served_leaves_its_slots_to_the_others() -> None:
    process = Namespaces("sales", "legal", process=8)
    for name in ("sales", "legal"):
        process.add(name, *map(item, range(20)))
    process.settle()
    process.queues["legal"].slots.leave()
    process.running = [each for each in process.running if each[0] == "sales"]
    process.settle()
    assert process.counts() == {"sales": 8}


def test_a_paused_run_waits_for_a_slot_that_another_namespace_took() -> None:
    process = Namespaces("sales", "legal", process=1)
    process.add("sales", item(1))
    process.settle()
    process.queues["sales"].pause("event-1")
    process.add("legal", *map(item, range(2)))
    process.settle()
    assert process.counts() == {"sales": 1, "legal": 1}

    assert not process.queues["sales"].resume("event-1", process.limits)
    process.woken.append("sales")
    process.settle()
    process.end("legal")

    assert "sales" in process.woken or process.queues["sales"].resume("event-1", process.limits)


def one_waiting_for_an_archive() -> Namespaces:
    """One slot: a run of the first namespace waits for an Archive, and two events of the other one follow."""
    process = Namespaces("sales", "legal", process=1)
    process.add("sales", item(1))
    process.settle()
    assert process.queues["sales"].wait("event-1", "nas", process.limits)
    process.add("legal", *map(item, range(2)))
    process.settle()
    return process


def test_a_run_that_waits_for_an_archive_leaves_its_slot_to_another_namespace() -> None:
    process = one_waiting_for_an_archive()
    assert process.counts() == {"sales": 1, "legal": 1}

    # It comes before the next event of the other namespace, which has taken a slot since.
    process.woken.append("sales")
    process.settle()
    process.end("legal")
    assert process.counts() == {"sales": 1}
    assert process.queues["sales"].has_slot("event-1", "nas")


@pytest.mark.parametrize("end", [FairQueue.give_up, FairQueue.done])
def test_a_run_that_waits_no_longer_holds_no_slot_free(end: Callable[[FairQueue, str], None]) -> None:
    process = one_waiting_for_an_archive()

    end(process.queues["sales"], "event-1")
    process.woken.append("sales")
    process.settle()
    process.end("legal")
    assert process.counts()["legal"] == 1


def test_an_import_that_waits_for_an_archive_comes_after_the_callbacks_of_another_namespace() -> None:
    process = Namespaces("sales", "legal", process=4)
    process.add("sales", item(1, is_import=True))
    process.settle()
    assert process.queues["sales"].wait("event-1", "nas", process.limits)
    process.add("legal", *map(item, range(2, 10)))
    process.settle()
    assert process.counts() == {"sales": 1, "legal": 3}

    assert not process.queues["sales"].resume("event-1", process.limits), "Imports leave a quarter free"
    process.woken.append("sales")
    process.settle()
    process.end("legal")
    assert process.counts() == {"sales": 1, "legal": 3}


@asynccontextmanager
async def two_queues(work: ReleasedWork, *, process: int) -> AsyncIterator[list[WorkQueue]]:
    slots, clock = ProcessSlots(), AClock()
    queues = [
        WorkQueue.of_namespace(name, slots, clock, lambda: limits(process)) for name in ("sales", "legal")
    ]
    async with running(queues[0], work), running(queues[1], work):
        yield queues


async def test_a_namespace_that_was_never_read_keeps_no_slots_from_the_others() -> None:
    slots, clock, work = ProcessSlots(), AClock(), ReleasedWork()
    work.open = False
    sales, absent = (
        WorkQueue.of_namespace(name, slots, clock, lambda: limits(4)) for name in ("sales", "absent")
    )
    async with running(sales, work):
        for number in "1234":
            sales.enqueue_at(a_queue_item(number), NOON)
        await turns()
        assert work.started == ["1", "2", "3", "4"]
        assert absent.backlog == 0
        for number in "1234":
            work.let_go(number)


async def test_the_end_of_a_run_starts_the_event_of_another_namespace() -> None:
    work = ReleasedWork()
    work.open = False
    async with two_queues(work, process=1) as (sales, legal):
        sales.enqueue_at(a_queue_item("1"), NOON)
        await turns()
        legal.enqueue_at(a_queue_item("2"), NOON)
        await turns()
        assert work.started == ["1"]
        assert legal.stalled_time is None, "it waits for the process, not without end"
        work.let_go("1")
        await turns()
        assert work.started == ["1", "2"]
        work.let_go("2")


async def test_a_paused_run_of_one_namespace_continues_after_that_of_another() -> None:
    work = ReleasedWork()
    work.open = False
    async with two_queues(work, process=1) as (sales, legal):
        sales.enqueue_at(a_queue_item("1"), NOON)
        await turns()
        pause = asyncio.Event()

        async def wait_for_esaw() -> None:
            async with sales.paused("1"):
                await pause.wait()

        waiting = asyncio.create_task(wait_for_esaw())
        await turns()
        legal.enqueue_at(a_queue_item("2"), NOON)
        await turns()
        assert "2" in work.started
        pause.set()
        await turns()
        assert not waiting.done()
        work.let_go("2")
        await turns()
        assert waiting.done()
        work.let_go("1")
        await waiting

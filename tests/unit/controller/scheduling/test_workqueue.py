"""When and by whom events are worked on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from controller.scheduling.fair_queue import ConcurrencyLimits
from controller.scheduling.workqueue import LOCK_SECONDS, WorkQueue
from tests.support.builders import NOON, AClock
from tests.support.scenes.workqueue import ReleasedWork, a_queue_item, a_workqueue, running, turns


async def test_what_is_due_is_worked_on_at_once() -> None:
    clock, work = AClock(), ReleasedWork()
    workqueue = a_workqueue(clock)
    async with running(workqueue, work):
        workqueue.enqueue_at(a_queue_item("a"), NOON)
        await turns()
    assert work.ended == ["a"]


async def test_nothing_starts_before_its_time() -> None:
    clock, work = AClock(), ReleasedWork()
    workqueue = a_workqueue(clock)
    async with running(workqueue, work):
        workqueue.enqueue_at(a_queue_item("a"), NOON + timedelta(seconds=10))
        clock.advance(seconds=9)
        workqueue.wake()
        await turns()
        assert work.started == []
        clock.advance(seconds=1)
        workqueue.wake()
        await turns()
    assert work.started == ["a"]


async def test_a_time_passes_without_anybody_poking() -> None:
    clock, work = AClock(), ReleasedWork()
    workqueue = a_workqueue(clock)
    work.on_start = lambda event: started.set()
    started = asyncio.Event()
    async with running(workqueue, work):
        workqueue.enqueue_at(a_queue_item("a"), NOON + timedelta(milliseconds=20))
        await turns()
        clock.advance(seconds=1)
        async with asyncio.timeout(60):
            await started.wait()
    assert work.started == ["a"]


async def test_after_a_restart_with_times_to_come_none_of_them_fires() -> None:
    clock, work = AClock(), ReleasedWork()
    workqueue = a_workqueue(clock)
    for number in range(1000):
        workqueue.enqueue_at(a_queue_item(f"event-{number}"), NOON + timedelta(seconds=1 + number))
    async with running(workqueue, work):
        await turns()
        assert work.started == []
        clock.advance(seconds=10)
        workqueue.wake()
        await turns()
    assert len(work.started) == 10


async def test_the_newest_time_counts() -> None:
    clock, work = AClock(), ReleasedWork()
    workqueue = a_workqueue(clock)
    async with running(workqueue, work):
        workqueue.enqueue_at(a_queue_item("a"), NOON + timedelta(hours=1))
        workqueue.enqueue_at(a_queue_item("a"), NOON + timedelta(hours=2))
        clock.advance(hours=1)
        workqueue.wake()
        await turns()
        assert work.started == []
        workqueue.enqueue_at(a_queue_item("a"), NOON)
        await turns()
        clock.advance(hours=1)
        workqueue.wake()
        await turns()
    assert work.started == ["a"], "once, although two other times came and went"


async def test_one_that_no_longer_wants_to_be_worked_on_is_not() -> None:
    clock, work = AClock(), ReleasedWork()
    workqueue = a_workqueue(clock)
    workqueue.enqueue_at(a_queue_item("a"), NOON)
    workqueue.enqueue_at(a_queue_item("a"), None)
    workqueue.enqueue_at(a_queue_item("b"), NOON)
    workqueue.forget("b")
    async with running(workqueue, work):
        await turns()
    assert work.started == []


async def test_an_event_that_is_wanted_again_while_it_is_out_runs_again_afterwards() -> None:
    clock, work = AClock(), ReleasedWork()
    work.open = False
    workqueue = a_workqueue(clock)
    async with running(workqueue, work):
        workqueue.enqueue_at(a_queue_item("a"), NOON)
        await turns()
        workqueue.enqueue_at(a_queue_item("a"), NOON)
        await turns()
        assert work.started == ["a"], "never twice at the same time"
        work.let_go("a")
        await turns()
    assert work.started == ["a", "a"]


async def test_an_event_that_is_finished_while_it_is_out_does_not_run_again() -> None:
    clock, work = AClock(), ReleasedWork()
    work.open = False
    workqueue = a_workqueue(clock)
    async with running(workqueue, work):
        workqueue.enqueue_at(a_queue_item("a"), NOON)
        await turns()
        workqueue.enqueue_at(a_queue_item("a"), NOON)
        workqueue.forget("a")
        work.let_go("a")
        await turns()
    assert work.started == ["a"]


async def test_two_events_of_one_envelope_run_one_after_the_other() -> None:
    clock, work = AClock(), ReleasedWork()
    work.open = False
    workqueue = a_workqueue(clock)
    async with running(workqueue, work):
        workqueue.enqueue_at(a_queue_item("a", envelope="one"), NOON)
        workqueue.enqueue_at(a_queue_item("b", envelope="one"), NOON)
        await turns()
        assert work.started == ["a"]
        work.let_go("a")
        await turns()
        assert work.started == ["a", "b"]
        work.let_go("b")
        await turns()
    assert workqueue.running_count == 0


async def test_no_more_work_is_in_progress_than_the_limit_allows() -> None:
    clock, work = AClock(), ReleasedWork()
    work.open = False
    workqueue = a_workqueue(clock, process=2)
    async with running(workqueue, work):
        for event in "abcd":
            workqueue.enqueue_at(a_queue_item(event), NOON)
        await turns()
        assert (work.started, workqueue.running_count, workqueue.backlog) == (["a", "b"], 2, 2)
        work.let_go("b")
        await turns()
        assert work.started == ["a", "b", "c"]


async def test_work_that_fails_stops_no_other_work() -> None:
    clock, work = AClock(), ReleasedWork()

    def burst(event: str) -> None:
        if event == "a":
            raise RuntimeError("a bug in our code")

    work.on_start = burst
    workqueue = a_workqueue(clock, process=1)
    async with running(workqueue, work):
        workqueue.enqueue_at(a_queue_item("a"), NOON)
        workqueue.enqueue_at(a_queue_item("b"), NOON)
        await turns()
        assert workqueue.running_count == 0
    assert work.ended == ["b"]


async def test_draining_starts_nothing_new_and_waits_for_what_runs() -> None:
    clock, work = AClock(), ReleasedWork()
    work.open = False
    workqueue = a_workqueue(clock)
    async with running(workqueue, work):
        workqueue.enqueue_at(a_queue_item("a"), NOON)
        await turns()
        draining = asyncio.create_task(workqueue.drain())
        await turns()
        workqueue.enqueue_at(a_queue_item("b"), NOON)
        await turns()
        assert not draining.done()
        work.let_go("a")
        async with asyncio.timeout(60):
            await draining
        await turns()
    assert work.started == ["a"]


async def test_draining_an_idle_schedule_ends_at_once() -> None:
    workqueue = a_workqueue(AClock())
    async with running(workqueue, ReleasedWork()), asyncio.timeout(60):
        await workqueue.drain()


async def test_cancelling_ends_every_running_work() -> None:
    clock, work = AClock(), ReleasedWork()
    work.open = False
    workqueue = a_workqueue(clock)
    async with running(workqueue, work):
        workqueue.enqueue_at(a_queue_item("a"), NOON)
        await turns()
        assert workqueue.running_count == 1
    assert workqueue.running_count == 0
    assert work.ended == []


async def test_a_request_waits_until_the_work_on_its_envelope_has_ended_and_then_keeps_it_off() -> None:
    clock, work = AClock(), ReleasedWork()
    work.open = False
    workqueue = a_workqueue(clock)
    entered, leave = asyncio.Event(), asyncio.Event()

    async def request() -> None:
        async with workqueue.lock("one"):
            entered.set()
            await leave.wait()

    async with running(workqueue, work):
        workqueue.enqueue_at(a_queue_item("a", envelope="one"), NOON)
        await turns()
        carried_out = asyncio.create_task(request())
        await turns()
        assert not entered.is_set()
        work.let_go("a")
        await turns()
        assert entered.is_set()
        workqueue.enqueue_at(a_queue_item("b", envelope="one"), NOON)
        await turns()
        assert work.started == ["a"]
        leave.set()
        await carried_out
        await turns()
    assert work.started == ["a", "b"]


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

    async with asyncio.timeout(60):
        await asyncio.gather(*(request(number) for number in range(5)))
    assert most == [1] * 5


async def test_a_time_long_past_is_not_treated_as_a_stopped_schedule() -> None:
    clock, work = AClock(), ReleasedWork()
    workqueue = a_workqueue(clock)
    async with running(workqueue, work):
        clock.advance(seconds=30)
        workqueue.enqueue_at(a_queue_item("a"), NOON - timedelta(days=300))
        overdue = workqueue.overdue_time()
        assert overdue is not None
        assert overdue <= timedelta(seconds=30)


async def test_a_time_to_come_is_not_overdue() -> None:
    workqueue = a_workqueue(AClock())
    workqueue.enqueue_at(a_queue_item("a"), NOON + timedelta(days=1))
    assert workqueue.overdue_time() is None


async def test_a_schedule_that_does_not_turn_says_since_when() -> None:
    clock = AClock()
    workqueue = a_workqueue(clock)
    workqueue.enqueue_at(a_queue_item("a"), NOON)
    clock.advance(minutes=5)
    assert workqueue.overdue_time() == timedelta(minutes=5)


@pytest.mark.parametrize("ends", ["forgotten", "not due"])
async def test_a_queue_whose_last_due_event_is_gone_is_not_stalled(ends: str) -> None:
    clock = AClock()
    workqueue = a_workqueue(clock, process=0)
    item = a_queue_item("a", envelope="one")
    async with running(workqueue, ReleasedWork()):
        workqueue.enqueue_at(item, NOON)
        await turns()
        clock.advance(minutes=1)
        assert workqueue.stalled_time == timedelta(minutes=1)
        if ends == "forgotten":
            workqueue.forget("a")
        else:
            workqueue.enqueue_at(item, None)
        await turns()
        assert workqueue.stalled_time is None


async def test_an_event_whose_envelope_a_request_holds_is_stalled_after_the_longest_request() -> None:
    clock = AClock()
    workqueue = a_workqueue(clock)
    async with running(workqueue, ReleasedWork()), workqueue.lock("one"):
        workqueue.enqueue_at(a_queue_item("a", envelope="one"), NOON)
        await turns()
        clock.advance(seconds=LOCK_SECONDS - 1)
        assert (workqueue.stalled_time, workqueue.overdue_time()) == (None, None)
        clock.advance(seconds=61)
        assert workqueue.stalled_time == timedelta(minutes=1)


async def test_a_step_of_the_clock_makes_nothing_overdue_by_its_length() -> None:
    clock = AClock()
    workqueue = a_workqueue(clock)
    async with running(workqueue, ReleasedWork()):
        workqueue.enqueue_at(a_queue_item("a"), NOON + timedelta(minutes=5))
        await turns()
        clock.set_back(minutes=-10)
        clock.advance(seconds=20)
        assert workqueue.overdue_time() == timedelta(seconds=20)


async def test_a_run_that_waits_for_the_rate_of_its_esaw_gives_its_slots_back() -> None:
    clock, work = AClock(), ReleasedWork()
    workqueue, waited, may_go_on = a_workqueue(clock, process=1), asyncio.Event(), asyncio.Event()

    async def reconcile(event: str) -> None:
        work.started.append(event)
        if event == "1":
            async with workqueue.paused(event):
                await may_go_on.wait()
            waited.set()
        else:
            await work.releases.setdefault(event, asyncio.Event()).wait()
        work.ended.append(event)

    for name in ("1", "2", "3"):
        workqueue.enqueue_at(a_queue_item(name)._replace(organization=f"of-{name}"), NOON)
    running = asyncio.create_task(workqueue.run(reconcile))
    await turns()
    assert work.started == ["1", "2"]

    may_go_on.set()
    await turns()
    assert not waited.is_set(), "there is one slot, and the second event has it"
    work.let_go("2")
    await turns()
    assert work.ended == ["2", "1"], "it continues before a new event starts"
    await turns()
    assert work.started == ["1", "2", "3"]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert workqueue.running_count == 0


LONG = timedelta(hours=1)


class Movers:
    """Runs that come to the Archive that their event names (``vault-1``), and stay there until they may
    end."""

    def __init__(self, limits: ConcurrencyLimits, longest: timedelta = LONG) -> None:
        self.workqueue, self.longest = WorkQueue(AClock(), lambda: limits), longest
        self.came: dict[str, bool] = {}
        self.waited: list[str] = []
        self.ends: dict[str, asyncio.Event] = {}
        self.ended = asyncio.Event()
        """A run that came to no Archive has ended its wait."""

    def enqueue(self, *names: str, archive: str = "") -> None:
        for name in names:
            self.ends[name] = asyncio.Event()
            self.workqueue.enqueue_at(a_queue_item(name)._replace(archive=archive), NOON)

    async def reconcile(self, event: str) -> None:
        archive = event.split("-", maxsplit=1)[0]
        is_there = await self.workqueue.move(event, archive, self.longest, lambda: self.waited.append(event))
        self.came[event] = is_there
        if not is_there:
            self.ended.set()
        await self.ends[event].wait()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        try:
            async with running(self.workqueue, self):
                yield
        finally:
            assert self.workqueue.running_count == 0
            assert not self.workqueue._fair_queue._running_counts


async def test_a_run_that_chose_its_archive_waits_for_the_limit_of_that_archive() -> None:
    movers = Movers(ConcurrencyLimits(process=9, organization={}, sender={}, archive={"vault": 1}))
    movers.enqueue("vault-1", "vault-2", "dms-3")
    async with movers.running():
        assert (list(movers.came), movers.waited) == (["dms-3", "vault-1"], ["vault-2"])
        movers.ends["vault-1"].set()
        await turns()
        assert list(movers.came) == ["dms-3", "vault-1", "vault-2"]


async def test_runs_that_wait_for_an_archive_take_no_place_of_their_organization() -> None:
    limits = ConcurrencyLimits(process=9, organization={"acme": 3}, sender={"acme": 3}, archive={"vault": 2})
    movers = Movers(limits)
    movers.enqueue("vault-1", "vault-2", "vault-3", "vault-4")
    async with movers.running():
        assert movers.waited == ["vault-3", "vault-4"]
        movers.enqueue("dms-5")
        await turns()
        assert movers.came["dms-5"], "the third place of the Organization is free"
        # It is full now, and what waits takes all of its places again or none.
        movers.ends["vault-1"].set()
        await turns()
        assert movers.came["vault-3"]
        assert (
            movers.workqueue._fair_queue._running_counts["organization", "acme"]
            == limits.organization["acme"]
        )


async def test_only_as_many_runs_wait_as_may_run_in_the_archive_and_the_others_end() -> None:
    """Each that waits is in memory."""
    limits = ConcurrencyLimits(
        process=99, organization={"acme": 99}, sender={"acme": 99}, archive={"vault": 2}
    )
    movers = Movers(limits)
    movers.enqueue(*(f"vault-{number}" for number in range(9)))
    async with movers.running():
        assert movers.waited == ["vault-2", "vault-3"]
        assert [each for each, is_there in movers.came.items() if not is_there] == [
            f"vault-{number}" for number in range(4, 9)
        ]


async def test_only_as_many_runs_wait_as_may_run_in_the_process() -> None:
    archives = {f"archive{number}": 1 for number in range(9)}
    limits = ConcurrencyLimits(process=10, organization={"acme": 99}, sender={"acme": 99}, archive=archives)
    movers = Movers(limits)
    movers.enqueue(*(f"archive{number}-first" for number in range(9)))
    async with movers.running():
        movers.enqueue(*(f"archive{number}-second" for number in range(9)))
        await turns(60)
        assert len(movers.waited) == len(archives)
        movers.enqueue(*(f"archive{number}-third" for number in range(9)))
        await turns(60)
        assert len(movers.waited) == len(archives), "as many as may run in each Archive"
        assert movers.workqueue.running_count <= 2 * limits.process


async def test_a_wait_for_an_archive_that_lasts_too_long_leaves_no_place_taken() -> None:
    limits = ConcurrencyLimits(process=2, organization={"acme": 2}, sender={"acme": 2}, archive={"vault": 1})
    movers = Movers(limits, longest=timedelta(milliseconds=5))
    movers.enqueue("vault-1", "vault-2")
    async with movers.running(), asyncio.timeout(60):
        await movers.ended.wait()
        assert not movers.came["vault-2"]
        movers.enqueue("dms-3")
        await turns()
        assert movers.came["dms-3"]
        movers.ends["vault-1"].set()
        await turns()
        assert movers.workqueue.running_count == 2, "the one whose wait has ended, and another one"


async def test_an_event_for_a_full_archive_runs_when_another_run_ends_there() -> None:
    movers = Movers(ConcurrencyLimits(process=9, organization={}, sender={}, archive={"vault": 1}))
    movers.enqueue("vault-1", "vault-2", archive="vault")
    async with movers.running():
        assert list(movers.came) == ["vault-1"]
        movers.ends["vault-1"].set()
        await turns()
        assert movers.came == {"vault-1": True, "vault-2": True}


async def test_runs_that_wait_for_an_archive_and_queued_events_take_turns_there() -> None:
    """Without an end of the runs that come there, no queued event would ever start."""
    movers = Movers(ConcurrencyLimits(process=9, organization={}, sender={"acme": 9}, archive={"vault": 1}))
    movers.enqueue("vault-1", "vault-5", "vault-6", archive="vault")
    async with movers.running():
        movers.enqueue("vault-2")
        await turns()
        for ended, waits in (
            ("vault-1", "vault-3"),
            ("vault-2", ""),
            ("vault-5", "vault-4"),
            ("vault-3", ""),
        ):
            movers.ends[ended].set()
            await turns()
            if waits:
                movers.enqueue(waits)
                await turns()
        movers.ends["vault-6"].set()
        await turns()
        assert list(movers.came) == ["vault-1", "vault-2", "vault-5", "vault-3", "vault-6", "vault-4"]


async def test_a_run_that_is_not_running_takes_no_slot() -> None:
    workqueue = a_workqueue(AClock())
    assert await workqueue.move("unknown", "vault", LONG, lambda: None)
    assert workqueue.running_count == 0


async def test_a_run_that_ends_while_it_is_paused_leaves_no_slot_taken() -> None:
    workqueue, started = a_workqueue(AClock(), process=1), list[str]()

    async def reconcile(event: str) -> None:
        started.append(event)
        async with workqueue.paused(event):
            raise RuntimeError

    for name in ("1", "2"):
        workqueue.enqueue_at(a_queue_item(name), NOON)
    running = asyncio.create_task(workqueue.run(reconcile))
    await turns()
    assert (started, workqueue.running_count) == (["1", "2"], 0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

"""Setting the machine's clock makes the controller examine again what it has scheduled."""

import asyncio
from contextlib import suppress

import pytest

from controller.cache import Cache
from controller.scheduling.clock_changes import CHECK_SECONDS, ClockChangeDetector
from controller.scheduling.event_queue import EventQueue, concurrency_limits
from controller.scheduling.workqueue import WorkQueue
from counterfoil.resources import Phase
from tests.support.builders import AClock, an_event, an_organization


class CountingClock(AClock):
    """Sets the clock back once, at the pause of that number, and ends the run at the last pause."""

    def __init__(self, back: dict[str, float]) -> None:
        super().__init__()
        self.back = back

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds)
        if len(self.slept) == 2:
            self.set_back(**self.back)
        if len(self.slept) == 5:
            raise asyncio.CancelledError


@pytest.mark.parametrize(("back", "times"), [({"days": 30}, 1), ({"days": -30}, 1), ({"minutes": 4}, 0)])
async def test_each_change_of_the_clock_is_detected_once(back: dict[str, float], times: int) -> None:
    clock, calls = CountingClock(back), list[int]()
    detector = ClockChangeDetector(clock, (lambda: calls.append(1),))
    with suppress(asyncio.CancelledError):
        await detector.run()
    assert len(calls) == times
    assert set(clock.slept) == {CHECK_SECONDS}


async def test_an_event_that_was_scheduled_by_a_clock_ahead_is_due_when_the_clock_is_right() -> None:
    clock, cache = AClock(), Cache()
    queue = WorkQueue(clock, lambda: concurrency_limits(cache, 10))
    event_queue = EventQueue(cache, queue, clock)
    cache.organizations.put(an_organization())
    clock.advance(days=30)
    event = an_event().in_phase(Phase.ARCHIVING, "EsawFailing").status(next_attempt_time=clock.now()).build()
    cache.events.put(event)
    event_queue.enqueue(event)
    clock.set_back(days=30)
    assert queue.overdue_time() is None
    event_queue.enqueue_known()
    assert queue.overdue_time() is not None

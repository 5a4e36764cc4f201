"""Events as items of the work queue: callbacks of old events keep no newer one waiting."""

import asyncio
from datetime import timedelta

import pytest

from controller.cache import Cache
from controller.scheduling.event_queue import WOKEN_PAUSE, EventQueue, concurrency_limits
from controller.scheduling.workqueue import WorkQueue
from counterfoil.resources import EnvelopeEvent, EnvelopeSummary, Phase
from counterfoil.resources.reopening import CLEANUP_DELAYED, REDELIVERED
from tests.support.builders import NOON, AClock, an_event, an_organization


class Scene:
    """A queue with room for one event at a time."""

    def __init__(self) -> None:
        self.clock, self.cache = AClock(), Cache()
        self.clock.advance(hours=2)
        self.cache.organizations.put(an_organization(cleanup={"policy": "Delete", "after": "720h"}))
        self.work = WorkQueue(self.clock, lambda: concurrency_limits(self.cache, 1))
        self.events = EventQueue(self.cache, self.work, self.clock)

    def enqueue(self, *events: EnvelopeEvent) -> None:
        for each in events:
            self.cache.events.put(each)
        self.events.enqueue_all(events)

    @property
    def is_due(self) -> bool:
        return self.work.overdue_time() is not None

    async def order(self, count: int) -> list[str]:
        """Return the names of the events that run first."""
        started, enough = list[str](), asyncio.Event()

        async def reconcile(name: str) -> None:
            started.append(name)
            if len(started) == count:
                enough.set()

        running = asyncio.create_task(self.work.run(reconcile))
        await asyncio.wait_for(enough.wait(), timeout=10)
        running.cancel()
        return started


def woken(deliveries: int, *, considered: int) -> EnvelopeEvent:
    """Build an event that waits for the delete of its Expired envelope, with callbacks that came since."""
    return (
        an_event()
        .named("old")
        .in_phase(Phase.CLEANING, CLEANUP_DELAYED)
        .status(
            envelope=EnvelopeSummary(status="Expired"),
            deliveries=deliveries,
            considered_deliveries=considered,
            last_delivery_time=NOON + timedelta(hours=1),
            next_attempt_time=NOON + timedelta(days=7),
        )
        .build()
    )


@pytest.mark.parametrize(
    "old",
    [
        woken(2, considered=1),
        an_event()
        .named("old")
        .in_phase(Phase.PENDING, REDELIVERED)
        .status(last_delivery_time=NOON + timedelta(hours=1))
        .build(),
    ],
    ids=["woken", "re-opened"],
)
async def test_an_event_that_a_callback_starts_again_comes_after_those_of_before_the_callback(
    old: EnvelopeEvent,
) -> None:
    scene = Scene()
    new = an_event("0f9c1c2e-0000-4000-8000-000000000002").named("new").created(NOON + timedelta(minutes=30))
    scene.enqueue(old, new.build())
    assert await scene.order(2) == ["new", "old"]


def test_callbacks_wake_a_waiting_event_once_a_minute() -> None:
    scene = Scene()
    scene.cache.events.put(woken(2, considered=1))
    scene.events.run_began("old")
    scene.cache.events.put(woken(2, considered=2))
    scene.events.run_ended(woken(2, considered=2))

    scene.clock.advance(seconds=1)
    scene.enqueue(woken(3, considered=2))
    assert not scene.is_due
    scene.clock.advance(seconds=WOKEN_PAUSE.total_seconds())
    assert scene.is_due


def test_an_event_that_waits_and_that_no_callback_wakes_is_not_due() -> None:
    scene = Scene()
    scene.enqueue(woken(2, considered=2))
    assert not scene.is_due

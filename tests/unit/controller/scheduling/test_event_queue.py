"""Events as items of the work queue: callbacks of old events keep no newer one waiting."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec.structs import replace

from controller.cache import Cache
from controller.scheduling.due import WAITING_FOR_ARCHIVE
from controller.scheduling.event_queue import (
    CALLBACK_PAUSE,
    ENQUEUED_AT_ONCE,
    LOOK_SECONDS,
    EventQueue,
    concurrency_limits,
)
from controller.scheduling.fair_queue import QueueItem
from controller.scheduling.workqueue import WorkQueue
from counterfoil.resources import (
    IMPORT_LABEL,
    ArchiveLocation,
    Attempt,
    AttemptOutcome,
    Condition,
    EnvelopeEvent,
    EnvelopeEventStatus,
    EnvelopeSummary,
    EventCopy,
    LocalObjectReference,
    Origin,
    Phase,
)
from counterfoil.resources.reopening import (
    CLEANUP_DELAYED,
    COPY_REQUESTED,
    DELETION_ASSUMED,
    REDELIVERED,
    must_be_stored,
    status_for_copying,
)
from tests.support.builders import NOON, AClock, an_event, an_organization
from tests.support.fakes.reconcile_context import an_archive
from tests.support.scenes.workqueue import running, turns


def a_copy(archive: str, *, verified: bool) -> EventCopy:
    time = NOON if verified else None
    return EventCopy(ref=LocalObjectReference(name=archive), verified_time=time)


def asked_for_copies(event: EnvelopeEvent, now: datetime) -> EnvelopeEventStatus:
    return status_for_copying(event.status, reason=COPY_REQUESTED, message="It is asked for.", now=now)


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

    def run(self, event: EnvelopeEvent) -> None:
        """Run an event, which ends its work."""
        self.cache.events.put(event)
        self.events.run_began(event.name)
        self.events.run_ended(event)
        self.cache.events.remove(event.name)
        self.events.forget(event.name)

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

        task = asyncio.create_task(self.work.run(reconcile))
        await asyncio.wait_for(enough.wait(), timeout=10)
        task.cancel()
        return started[:count]


CALLED = NOON + timedelta(hours=1)


@pytest.mark.parametrize("has_ended", [False, True])
async def test_an_old_event_that_gets_further_copies_comes_after_newer_callbacks(*, has_ended: bool) -> None:
    scene = Scene()
    old = an_event("e-1").created(NOON - timedelta(days=20)).with_condition("Archived")
    ended = old.status(completion_time=NOON - timedelta(days=19)).in_phase(Phase.SUCCEEDED)
    event = ended.build() if has_ended else old.in_phase(Phase.CLEANING).build()
    again = replace(event, status=asked_for_copies(event, scene.clock.now()))
    newer = an_event("e-2").created(NOON).build()
    scene.enqueue(again, newer)
    assert await scene.order(2) == [newer.name, again.name]


async def test_a_callback_starts_an_event_with_a_request_for_copies_before_those_of_imports() -> None:
    scene = Scene()
    asked = an_event().named("asked").in_phase(Phase.COPYING, COPY_REQUESTED)
    called = asked.status(
        envelope=EnvelopeSummary(status="Expired"),
        deliveries=2,
        considered_deliveries=1,
        last_delivery_time=CALLED,
    ).build()
    imported = an_event("0f9c1c2e-0000-4000-8000-000000000002").named("imported").by(Origin.IMPORT)
    scene.enqueue(imported.created(NOON).build(), called)
    assert await scene.order(2) == ["asked", "imported"]


def woken(deliveries: int, *, considered: int, called: datetime = CALLED) -> EnvelopeEvent:
    """Build an event that waits for the delete of its Expired envelope, with callbacks that came since."""
    return (
        an_event()
        .named("old")
        .in_phase(Phase.CLEANING, CLEANUP_DELAYED)
        .status(
            envelope=EnvelopeSummary(status="Expired"),
            deliveries=deliveries,
            considered_deliveries=considered,
            last_delivery_time=called,
            next_attempt_time=NOON + timedelta(days=7),
        )
        .build()
    )


def reopened(deliveries: int, *, called: datetime = CALLED) -> EnvelopeEvent:
    """Build an event that a callback started again."""
    begun = an_event().named("old").in_phase(Phase.PENDING, REDELIVERED)
    return begun.status(deliveries=deliveries, last_delivery_time=called).build()


def new_event(created: datetime) -> EnvelopeEvent:
    return an_event("0f9c1c2e-0000-4000-8000-000000000002").named("new").created(created).build()


@pytest.mark.parametrize("old", [woken(2, considered=1), reopened(2)], ids=["woken", "re-opened"])
async def test_an_event_that_a_callback_starts_again_comes_after_those_of_before_the_callback(
    old: EnvelopeEvent,
) -> None:
    scene = Scene()
    scene.enqueue(old, new_event(NOON + timedelta(minutes=30)))
    assert await scene.order(2) == ["new", "old"]


@pytest.mark.parametrize(
    "called",
    [
        lambda number, at: woken(number, considered=1, called=at),
        lambda number, at: reopened(number, called=at),
    ],
    ids=["woken", "re-opened"],
)
async def test_repeated_callbacks_of_an_event_that_waits_leave_it_its_place(
    called: Callable[[int, datetime], EnvelopeEvent],
) -> None:
    scene = Scene()
    scene.enqueue(called(2, CALLED))
    scene.enqueue(new_event(CALLED + timedelta(minutes=1)))
    scene.enqueue(called(3, CALLED + timedelta(minutes=2)))
    assert await scene.order(2) == ["old", "new"]


@pytest.mark.parametrize(
    ("wrong", "order"),
    [(timedelta(days=365), ["old", "new"]), (-timedelta(days=365), ["other", "old"])],
    ids=["future", "past"],
)
async def test_a_wrong_time_of_the_last_callback_gives_an_event_no_other_place(
    wrong: timedelta, order: list[str]
) -> None:
    scene = Scene()
    scene.enqueue(reopened(2, called=NOON + wrong))
    scene.clock.advance(hours=1)
    other = an_event("0f9c1c2e-0000-4000-8000-000000000003").named("other").created(NOON - timedelta(days=1))
    scene.enqueue(new_event(scene.clock.now()), *([other.build()] if "other" in order else []))
    assert await scene.order(2) == order


async def test_repeated_callbacks_leave_one_entry_in_the_queue() -> None:
    scene = Scene()
    scene.run(woken(2, considered=1))
    first = an_event("0f9c1c2e-0000-4000-8000-000000000003").named("first").build()
    second = an_event("0f9c1c2e-0000-4000-8000-000000000004").named("second").build()
    scene.enqueue(first, second)
    began, end = asyncio.Event(), asyncio.Event()

    async def reconcile(name: str) -> None:
        began.set()
        await end.wait()

    task = asyncio.create_task(scene.work.run(reconcile))
    await asyncio.wait_for(began.wait(), timeout=10)
    for number in range(100):
        scene.clock.advance(seconds=1.01)
        scene.enqueue(woken(3 + number, considered=2, called=scene.clock.now()))
        await asyncio.sleep(0)
    queues = scene.work._fair_queue._queues.values()
    queued = sum(len(each.items) for found in queues for each in found.values())
    task.cancel()
    assert (len(scene.work._times), queued) == (0, 2)


def test_callbacks_wake_a_waiting_event_once_a_minute() -> None:
    scene = Scene()
    scene.cache.events.put(woken(2, considered=1))
    scene.events.run_began("old")
    scene.cache.events.put(woken(2, considered=2))
    scene.events.run_ended(woken(2, considered=2))

    scene.clock.advance(seconds=1)
    scene.enqueue(woken(3, considered=2))
    assert not scene.is_due
    scene.clock.advance(seconds=CALLBACK_PAUSE.total_seconds())
    assert scene.is_due


def test_callbacks_start_an_event_that_ended_once_a_minute() -> None:
    scene = Scene()
    scene.run(reopened(2))

    scene.clock.advance(seconds=1)
    scene.enqueue(reopened(3))
    assert not scene.is_due
    scene.clock.advance(seconds=CALLBACK_PAUSE.total_seconds())
    assert scene.is_due


def test_the_first_callback_of_an_event_that_ended_starts_it_at_once() -> None:
    scene = Scene()
    scene.run(an_event().named("old").build())
    scene.clock.advance(seconds=1)
    scene.enqueue(reopened(2))
    assert scene.is_due


def test_no_pause_is_longer_because_the_clock_was_set_back() -> None:
    scene = Scene()
    scene.run(reopened(2))
    scene.clock.set_back(hours=1)
    scene.enqueue(reopened(3))
    assert scene.is_due


def test_only_pauses_that_last_are_kept() -> None:
    scene = Scene()
    for number in range(100):
        scene.clock.advance(seconds=CALLBACK_PAUSE.total_seconds() / 10)
        scene.run(an_event().named(f"event-{number}").in_phase(Phase.PENDING, REDELIVERED).build())
    assert len(scene.events._began) == 11


def test_an_event_that_waits_and_that_no_callback_wakes_is_not_due() -> None:
    scene = Scene()
    scene.enqueue(woken(2, considered=2))
    assert not scene.is_due


async def test_an_old_event_that_an_import_starts_again_comes_after_newer_callbacks() -> None:
    scene = Scene()
    again = an_event("e-1").created(NOON - timedelta(days=20)).labelled(IMPORT_LABEL, "old-stock").build()
    newer = an_event("e-2").created(NOON).build()
    scene.enqueue(again, newer)
    assert await scene.order(2) == [newer.name, again.name]


COPIES: list[dict[str, Any]] = [
    {"archiveRef": {"name": "worm"}},
    {"archiveRef": {"name": "mirror"}, "required": False},
]


@pytest.mark.parametrize("phase", [Phase.ARCHIVING, Phase.COPYING, Phase.CLEANING])
@pytest.mark.parametrize("reason", ["", CLEANUP_DELAYED, WAITING_FOR_ARCHIVE])
def test_a_run_begins_in_the_limit_of_the_first_archive(phase: Phase, reason: str) -> None:
    """The run determines there what is to do: a delete may not be due yet, and eSAW may have to be asked."""
    scene = Scene()
    scene.cache.organizations.put(
        an_organization(version=2, archiveRef={"name": "dms"}, copies=COPIES, cleanup={"policy": "Delete"})
    )
    assert begins_in(scene, an_event().in_phase(phase, reason).build()) == "dms"


async def test_many_events_are_enqueued_in_several_turns_of_the_event_loop() -> None:
    """A change of an Archive concerns each event that needs it. Other work continues between them."""
    scene, count = Scene(), 2 * ENQUEUED_AT_ONCE + 10
    many = [an_event().named(f"event-{number}").build() for number in range(count)]
    for each in many:
        scene.cache.events.put(each)
    scene.events.enqueue_known()
    scene.events.enqueue_known()
    assert len(scene.work._scheduled) == ENQUEUED_AT_ONCE

    scene.cache.events.remove(many[-1].name)
    scene.events.forget(many[-1].name)
    await asyncio.sleep(0)
    assert len(scene.work._scheduled) == 2 * ENQUEUED_AT_ONCE
    await asyncio.sleep(0)
    assert len(scene.work._scheduled) == count - 1


HOUR = timedelta(hours=1)


class CopyingScene(Scene):
    """An Organization with two required copies that deletes envelopes. The Archive of each copy has room for
    one run at a time."""

    def __init__(self) -> None:
        super().__init__()
        copies = [{"archiveRef": {"name": each}} for each in ("worm", "mirror")]
        spec: dict[str, Any] = {"archiveRef": {"name": "dms"}, "copies": copies}
        self.cache.organizations.put(an_organization(version=2, cleanup={"policy": "Delete"}, **spec))
        for each in ("worm", "mirror"):
            self.cache.archives.put(an_archive(each, maxConcurrency=1))
        self.work = WorkQueue(self.clock, lambda: concurrency_limits(self.cache, 9))
        self.events = EventQueue(self.cache, self.work, self.clock)
        self.started: list[str] = []
        self.ends: dict[str, asyncio.Event] = {}

    def enqueue_other(self, *names: str, archive: str) -> None:
        """Enqueue younger events of another Organization, which need one Archive."""
        for name in names:
            item = QueueItem(f"0 9 {name}", name, name, "other", "olga", archive)
            self.work.enqueue_at(item, self.clock.now())

    async def reconcile(self, name: str) -> None:
        """Run as the worker does: the event comes to worm, and its state is stored if there is no room."""
        event = self.cache.events.get(name)
        item = self.work._fair_queue._running[name]
        self.started.append(f"{name} in {item.archive}")
        self.events.run_began(name)
        if event is not None and not await self.events.chosen(name, "worm", HOUR, lambda: None):
            self.events.run_ended(event)
            self.store(event)
            return
        await self.ends.setdefault(name, asyncio.Event()).wait()

    def store(self, event: EnvelopeEvent, **status: Any) -> EnvelopeEvent:
        """Store that the run found no room, and what it changed."""
        version = str(int(event.metadata.resource_version or 0) + 1)
        counted = {"reason": WAITING_FOR_ARCHIVE, "next_attempt_time": self.clock.now(), **status}
        stored = replace(
            event,
            metadata=replace(event.metadata, resource_version=version),
            status=replace(event.status, **counted),
        )
        self.enqueue(stored)
        return stored

    def begun(self, name: str) -> list[str]:
        """Return the Archives in whose limits the runs of an event began."""
        return [each.split(" in ")[1] for each in self.started if each.startswith(f"{name} ")]


def a_waiting_copy(deliveries: int = 1, phase: Phase = Phase.COPYING) -> EnvelopeEvent:
    """Build the event of an Expired envelope that makes or reads its copy now."""
    event = (
        an_event().named("copy").in_phase(phase).with_condition("Archived").with_condition("Copied", "False")
    )
    envelope = EnvelopeSummary(status="Expired", finished_time=NOON)
    return event.status(envelope=envelope, deliveries=deliveries, considered_deliveries=1).build()


def begins_in(scene: Scene, event: EnvelopeEvent) -> str:
    scene.enqueue(event)
    _, item = scene.work._scheduled[event.name]
    return item.archive


@asynccontextmanager
async def full(scene: CopyingScene, event: EnvelopeEvent) -> AsyncIterator[None]:
    """Let the event be refused in worm, where one run of its Organization waits and another one works."""
    scene.enqueue_other("worm-1", archive="worm")
    async with running(scene.work, scene):
        await turns()
        first = an_event("0f9c1c2e-0000-4000-8000-000000000009").named("first")
        scene.enqueue(first.in_phase(Phase.COPYING).build())
        await turns()
        scene.enqueue(event)
        await turns()
        assert scene.begun(event.name) == ["dms"]
        yield


async def test_an_event_that_found_no_room_is_queued_in_that_archive() -> None:
    """Thousands of them would begin again and again."""
    scene = CopyingScene()
    async with full(scene, a_waiting_copy()):
        await turns(100)
        assert scene.begun("copy") == ["dms"]
        for each in ("worm-1", "first"):
            scene.ends[each].set()
            await turns()
        assert scene.begun("copy") == ["dms", "worm"]


async def find_no_room(scene: Scene, event: EnvelopeEvent, *archives: str) -> EnvelopeEvent:
    """Let a run come to these full Archives, where enough others wait; return the event as stored."""

    async def move(*_: object) -> bool:
        return False

    scene.events.workqueue = cast("WorkQueue", SimpleNamespace(move=move))
    for each in archives:
        await scene.events.chosen(event.name, each, HOUR, lambda: None)
    scene.events.workqueue = scene.work
    return replace(event, status=replace(event.status, reason=WAITING_FOR_ARCHIVE))


def a_route(archive: str) -> dict[str, Any]:
    return {"name": "hr", "archiveRef": {"name": archive}, "when": {"actions": ["envelopeFinished"]}}


@pytest.mark.parametrize(
    ("lacked", "before", "after", "begins"),
    [
        ("worm", {"copies": COPIES[:1]}, {"copies": []}, "dms"),
        ("worm", {"copies": COPIES[:1]}, {"copies": [{**COPIES[0], "required": False}]}, "dms"),
        ("vault", {"routes": [a_route("vault")]}, {"routes": [a_route("other")]}, ""),
        ("vault", {"routes": [a_route("vault")]}, {"routes": []}, "dms"),
    ],
    ids=["copy removed", "copy optional", "route leads elsewhere", "route removed"],
)
async def test_an_event_is_queued_in_a_full_archive_only_while_the_spec_leads_there(
    lacked: str, before: dict[str, Any], after: dict[str, Any], begins: str
) -> None:
    scene = Scene()
    if lacked == "worm":
        event = a_waiting_copy()
    else:
        chosen = ArchiveLocation(ref=LocalObjectReference(name=lacked), route="hr")
        event = an_event().in_phase(Phase.COLLECTING).status(archive=chosen).build()
    spec: dict[str, Any] = {"archiveRef": {"name": "dms"}, "cleanup": {"policy": "Delete"}}
    scene.cache.organizations.put(an_organization(version=2, **spec, **before))
    event = await find_no_room(scene, event, lacked)
    assert begins_in(scene, event) == lacked
    scene.cache.organizations.put(an_organization(version=3, **spec, **after))
    assert begins_in(scene, event) == begins


async def test_a_suspended_archive_of_a_copy_delays_no_other_copy_in_the_queue() -> None:
    scene = CopyingScene()
    event = await find_no_room(scene, a_waiting_copy(), "worm", "mirror")
    assert begins_in(scene, event) == "worm"
    scene.cache.archives.put(an_archive("worm", version=3, suspend=True))
    assert begins_in(scene, event) == "mirror"


async def test_a_delete_without_room_is_not_queued_for_an_optional_copy() -> None:
    scene = CopyingScene()
    copies = [{**COPIES[0], "required": False}, COPIES[1] | {"required": True}]
    spec: dict[str, Any] = {"archiveRef": {"name": "dms"}, "cleanup": {"policy": "Delete"}}
    scene.cache.organizations.put(an_organization(version=3, copies=copies, **spec))
    event = await find_no_room(scene, a_waiting_copy(phase=Phase.CLEANING), "worm", "mirror")
    assert begins_in(scene, event) == "mirror"


class AfterEndScene(CopyingScene):
    """An event whose deletion was assumed makes its copies, and worm is full of runs of callbacks."""

    def __init__(self) -> None:
        super().__init__()
        attempt = Attempt(
            phase=Phase.CLEANING, start_time=NOON, duration_seconds=1, outcome=AttemptOutcome.DONE, reason=""
        )
        event = an_event().named("copy").in_phase(Phase.SUCCEEDED, DELETION_ASSUMED)
        event = event.with_condition("Archived").with_condition("Cleaned").with_condition("Copied", "False")
        ended = event.status(completion_time=NOON, deliveries=1, attempt_history=(attempt,)).build()
        self.event = replace(ended, status=asked_for_copies(ended, self.clock.now()))

    def store(self, event: EnvelopeEvent, **_: Any) -> EnvelopeEvent:
        """Store the end of the event: its run waits for nothing."""
        self.cache.events.remove(event.name)
        self.events.forget(event.name)
        return event

    def called(self) -> EnvelopeEvent:
        """Return the event after a callback, which the receiver stores before its answer."""
        status, now = self.event.status, self.clock.now()
        assert must_be_stored(status, received=now, now=now)
        metadata = replace(self.event.metadata, resource_version="5")
        return replace(
            self.event, metadata=metadata, status=replace(status, deliveries=2, last_delivery_time=now)
        )


def test_a_run_of_an_event_that_had_succeeded_begins_in_the_limit_of_its_first_open_copy() -> None:
    """It asks eSAW nothing and ends the event, so nothing would queue it for an Archive without room."""
    scene = AfterEndScene()
    assert begins_in(scene, scene.event) == "worm"
    metadata = replace(scene.event.metadata, resource_version="5")
    copies = (a_copy("worm", verified=True),)
    made = replace(scene.event, metadata=metadata, status=replace(scene.event.status, copies=copies))
    assert begins_in(scene, made) == "mirror"
    scene.cache.archives.put(an_archive("mirror", version=3, suspend=True))
    assert begins_in(scene, made) == "dms"


async def test_a_callback_about_an_event_that_had_succeeded_waits_for_no_further_copy() -> None:
    """Only the end of its run starts the event again. The envelope may be restarted and signed."""
    scene = AfterEndScene()
    scene.enqueue_other("worm-1", archive="worm")
    async with running(scene.work, scene):
        await turns()
        scene.enqueue(scene.event)
        await turns()
        assert scene.begun("copy") == []
        called = scene.called()
        assert not scene.events.is_background(called)
        scene.enqueue(called)
        await turns()
        assert scene.begun("copy") == ["dms"]


def test_a_callback_from_before_the_end_does_not_change_where_a_further_copy_is_made() -> None:
    scene = AfterEndScene()
    called = scene.called()
    counted_late = replace(called, status=replace(called.status, last_delivery_time=NOON - HOUR))
    assert begins_in(scene, counted_late) == "worm"
    assert scene.events.is_background(counted_late)


async def test_an_event_that_had_succeeded_waits_for_room_for_its_copies_for_an_hour() -> None:
    """Meanwhile its late list, a search, its time to live and copies in other Archives wait as well."""
    scene = AfterEndScene()
    scene.enqueue_other("worm-1", archive="worm")
    scene.enqueue_other("mirror-1", archive="mirror")
    async with running(scene.work, scene):
        await turns()
        scene.enqueue(scene.event)
        async with time_passes(scene):
            asked = scene.clock.now()
            for _ in range(50):
                if not scene.begun("copy"):
                    await turns(1)
        assert scene.begun("copy") == [""]
        assert HOUR <= scene.clock.now() - asked <= HOUR + timedelta(seconds=5 * LOOK_SECONDS)


@pytest.mark.parametrize("origin", [Origin.CALLBACK, Origin.IMPORT])
async def test_such_an_event_begins_also_while_callbacks_fill_its_first_archive(origin: Origin) -> None:
    scene = AfterEndScene()
    event = replace(scene.event, spec=replace(scene.event.spec, origin=origin))
    scene.enqueue_other("worm-1", archive="worm")
    scene.enqueue_other("mirror-1", archive="mirror")
    callbacks = [f"callback-{number:03}" for number in range(100)]
    scene.cache.archives.put(an_archive("dms", maxConcurrency=2))
    for each in callbacks:
        item = QueueItem(f"0 9 {each}", each, each, "other", "olga", "dms")
        scene.work.enqueue_at(item, scene.clock.now())
    async with running(scene.work, scene):
        scene.enqueue(event)
        async with time_passes(scene):
            asked = scene.clock.now()
            for each in callbacks[:30]:
                if not scene.begun(event.name):
                    scene.ends.setdefault(each, asyncio.Event()).set()
                    await turns(4)
        assert scene.begun(event.name) == [""]
        assert HOUR <= scene.clock.now() - asked <= 2 * HOUR
        assert scene.work.backlog > 50, "callbacks are still queued"


def test_it_is_queued_for_each_of_its_copies_in_turn() -> None:
    """One Archive that is always full must not keep the copies in all others waiting."""
    scene = AfterEndScene()
    places = []
    for _ in range(6):
        places.append(begins_in(scene, scene.event))
        scene.clock.advance(minutes=10)
    assert places == ["worm"] * 3 + ["mirror"] * 3


def test_it_is_queued_for_no_copy_that_is_not_due() -> None:
    scene = AfterEndScene()
    later = scene.clock.now() + timedelta(hours=1)
    put_off = EventCopy(
        ref=LocalObjectReference(name="mirror"), reason="NoSpace", attempts=3, next_attempt_time=later
    )
    event = replace(scene.event, status=replace(scene.event.status, copies=(put_off,)))
    places = []
    for _ in range(6):
        places.append(begins_in(scene, event))
        scene.clock.advance(minutes=10)
    assert places == ["worm"] * 6


def test_callbacks_come_before_it_also_after_its_hour() -> None:
    """Thousands of such events may have waited for an hour."""
    scene = AfterEndScene()
    scene.clock.advance(hours=2)
    assert begins_in(scene, scene.event) == ""
    assert scene.events.is_background(scene.event)


def test_a_time_of_a_clock_that_was_ahead_does_not_extend_that_wait() -> None:
    scene = AfterEndScene()
    scene.clock.set_back(days=30)
    assert begins_in(scene, scene.event) == ""


def test_an_event_that_had_succeeded_waits_for_each_of_its_copies_also_for_an_optional_one() -> None:
    """A person suspends the Archive to free its events."""
    scene = AfterEndScene()
    optional = [{**each, "required": False} for each in COPIES]
    scene.cache.organizations.put(an_organization(version=3, archiveRef={"name": "dms"}, copies=optional))
    assert scene.cache.may_use(scene.event, "worm")
    assert not scene.cache.may_use(scene.event, "other")
    assert not scene.cache.may_use(a_waiting_copy(), "worm"), "nothing waits for an optional copy"


@asynccontextmanager
async def time_passes(scene: CopyingScene) -> AsyncIterator[None]:
    """Let the controller look at its queue each ten minutes. Each turn of the event loop is one of these."""
    looking = asyncio.create_task(scene.events.run())
    try:
        yield
    finally:
        looking.cancel()


def with_retention(scene: CopyingScene, days: int) -> None:
    organization = scene.cache.organizations.get("acme")
    assert organization is not None
    kept = replace(organization.spec, retention=timedelta(days=days))
    metadata = replace(organization.metadata, resource_version="3")
    scene.cache.organizations.put(replace(organization, spec=kept, metadata=metadata))


@pytest.mark.parametrize("phase", [Phase.COPYING, Phase.CLEANING])
async def test_the_last_question_before_the_retention_ends_waits_for_no_copy(phase: Phase) -> None:
    """Nothing but time makes an event ask that is queued for a full Archive."""
    scene, asked = CopyingScene(), list[datetime]()
    with_retention(scene, days=10)
    async with full(scene, a_waiting_copy(phase=phase)), time_passes(scene):
        for _ in range(int(9.5 * 24 * HOUR.total_seconds() / LOOK_SECONDS)):
            begun = len(scene.begun("copy"))
            await asyncio.sleep(0)
            if len(scene.begun("copy")) > begun:
                asked.append(scene.clock.now())
    assert set(scene.begun("copy")) == {"dms"}
    assert NOON + timedelta(days=9) <= asked[0] <= NOON + timedelta(days=9, minutes=30)
    pauses = [later - earlier for earlier, later in pairwise(asked)]
    assert timedelta(hours=1) <= min(pauses)


async def test_a_callback_about_an_event_that_waits_for_a_copy_asks_in_the_first_archive() -> None:
    """The envelope may be restarted and signed, and the Archive of the copy may be full for days."""
    scene = CopyingScene()
    async with full(scene, a_waiting_copy(1)):
        known = scene.cache.events.get("copy")
        assert known is not None
        scene.store(known, deliveries=2, last_delivery_time=scene.clock.now())
        await turns()
        assert scene.begun("copy") == ["dms", "dms"]
        answered = scene.cache.events.get("copy")
        assert answered is not None
        scene.store(answered, considered_deliveries=2)
        async with time_passes(scene):
            await turns(100)
        assert scene.begun("copy") == ["dms", "dms"]


def a_copy_with_unanswered_question() -> EnvelopeEvent:
    """Build the event of an Expired envelope for which no callback came, and eSAW answered 503."""
    event = a_waiting_copy()
    unknown = Condition("RestartChecked", "Unknown", "EsawFailing", "", NOON)
    return replace(event, status=replace(event.status, conditions=(*event.status.conditions, unknown)))


@pytest.mark.parametrize("event", [a_waiting_copy(2), a_copy_with_unanswered_question()])
async def test_a_question_that_esaw_did_not_answer_is_repeated_once_an_hour(event: EnvelopeEvent) -> None:
    scene = CopyingScene()
    async with full(scene, event), time_passes(scene):
        looks = int(12 * HOUR.total_seconds() / LOOK_SECONDS)
        await turns(looks)
        assert 6 <= len(scene.begun("copy")) <= 13


async def test_nothing_is_kept_about_an_event_that_was_deleted_during_its_run() -> None:
    scene = CopyingScene()
    event = a_waiting_copy(2)
    scene.cache.events.put(event)
    scene.events.run_began("copy")
    scene.cache.events.remove("copy")
    scene.events.forget("copy")
    await find_no_room(scene, event, "worm")
    scene.events.run_ended(event)
    assert not scene.events._lacked
    assert not scene.events._asked


async def test_events_are_enqueued_after_one_that_can_not_be() -> None:
    scene = Scene()
    for number in range(3 * ENQUEUED_AT_ONCE):
        scene.cache.events.put(an_event().named(f"event-{number}").build())
    broken = f"event-{ENQUEUED_AT_ONCE + 5}"
    enqueue_at = scene.work.enqueue_at

    def break_once(item: QueueItem, due: datetime | None) -> None:
        if item.event == broken:
            raise RuntimeError
        enqueue_at(item, due)

    scene.events.workqueue = cast("WorkQueue", SimpleNamespace(enqueue_at=break_once, wake=scene.work.wake))
    scene.events.enqueue_known()
    await turns()
    assert len(scene.work._scheduled) == 3 * ENQUEUED_AT_ONCE - 1


async def test_an_event_that_can_not_be_enqueued_ends_no_task() -> None:
    """The end of a task that examines the queue would end the process."""
    scene = CopyingScene()
    async with full(scene, a_waiting_copy()):
        scene.events.cache.organizations = cast("Any", SimpleNamespace(get=lambda _name: 1 / 0))
        looking = asyncio.create_task(scene.events.run())
        await turns(100)
        is_broken = looking.done()
        looking.cancel()
        assert not is_broken

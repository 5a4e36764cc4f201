"""The counts that the ceilings of events are about: what counts, and when a count is worth a write."""

from datetime import timedelta

import pytest

from controller.cache import Cache
from controller.resync.event_load import (
    COUNT_SECONDS,
    STALE_AFTER,
    STALE_AFTER_OF_SHARDS,
    EventLoadCounter,
)
from counterfoil.kube.errors import Unavailable
from counterfoil.resources import ORGANIZATION_LABEL, EnvelopeEvent, EnvelopeSummary, EventLoad, Origin, Phase
from tests.support.builders import NOON, AClock, a_sender, an_event, an_organization
from tests.support.fakes.kube import InMemoryKubeClient
from tests.support.fakes.leases import held_shards


class Scene:
    """A counter, and events that are in the API server and, if unfinished, in the cache."""

    def __init__(self, *, of: int = 1, has_all_events: bool = True) -> None:
        self.clock = AClock()
        self.kube = InMemoryKubeClient()
        self.cache = Cache(has_all_events=has_all_events)
        self.cache.update(an_organization())
        self.counter = EventLoadCounter(self.kube, self.cache, self.clock, held_shards(0, of=of))
        self.cache.add_handler(EnvelopeEvent, self.counter.event_changed)

    def put(
        self,
        number: int,
        phase: Phase,
        reason: str | None = None,
        origin: Origin = Origin.CALLBACK,
        envelope: EnvelopeSummary | None = None,
    ) -> EnvelopeEvent:
        builder = an_event(f"{number:08x}-4b1d-4c58-9a57-6d1f0a3b2c4d").in_phase(phase, reason)
        builder = builder.status(envelope=envelope)
        event = builder.by(origin).build()
        self.kube.put(event)
        raw = self.kube.objects[EnvelopeEvent.PLURAL, event.name]
        raw["spec"]["origin"] = origin.value  # as the API server's default
        raw["metadata"].setdefault("labels", {})[ORGANIZATION_LABEL] = event.organization
        self.cache.update(event)
        return event

    async def count(self, *, after: float = COUNT_SECONDS) -> EventLoad:
        self.clock.advance(seconds=after)
        await self.counter.refresh()
        load = self.counter.load("acme")
        assert load is not None
        return load


@pytest.mark.parametrize("of", [1, 2], ids=["all shards", "one of two shards"])
async def test_unfinished_events_and_those_of_unknown_envelopes_are_counted(of: int) -> None:
    scene = Scene(of=of)
    scene.put(1, Phase.VALIDATING, "EnvelopeNotFound")
    scene.put(2, Phase.AWAITING_CONSENT)
    scene.put(3, Phase.SUCCEEDED)
    scene.put(4, Phase.SKIPPED)
    scene.put(5, Phase.FAILED, "EnvelopeDeleted")
    scene.put(6, Phase.FAILED, "EnvelopeNotFound")
    assert (await scene.count()).numbers == (2, 1)


async def test_before_the_first_complete_list_the_api_server_is_asked_and_not_the_empty_cache() -> None:
    scene = Scene(has_all_events=False)
    event = scene.put(1, Phase.VALIDATING)
    scene.cache.delete(EnvelopeEvent, event.name, 10**6)
    assert (await scene.count()).numbers == (1, 0)
    scene.cache.expect_events([], is_last=True)
    assert (await scene.count()).numbers == (0, 0)


@pytest.mark.parametrize(("origin", "unknown"), [(Origin.SWEEP, 1), (Origin.MANUAL, 0)])
async def test_an_unknown_envelope_that_a_person_named_closes_nothing_to_callbacks(
    origin: Origin, unknown: int
) -> None:
    # Nothing removes the events of persons, so they would count permanently.
    scene = Scene()
    scene.put(1, Phase.FAILED, "EnvelopeNotFound", origin)
    assert (await scene.count()).numbers == (0, unknown)


async def test_an_envelope_that_esaw_described_before_closes_nothing_to_callbacks() -> None:
    # Nothing removes such an event before spec.ttl.failed: it may be the only record of an archive.
    scene = Scene()
    scene.put(1, Phase.FAILED, "EnvelopeNotFound")
    scene.put(2, Phase.FAILED, "EnvelopeNotFound", envelope=EnvelopeSummary(status="Completed"))
    assert (await scene.count()).numbers == (0, 1)


@pytest.mark.parametrize("of", [1, 2], ids=["all shards", "one of two shards"])
async def test_an_archived_event_that_waits_for_its_delete_closes_nothing_to_callbacks(of: int) -> None:
    scene = Scene(of=of)
    scene.put(1, Phase.ARCHIVING)
    for number, reason in enumerate(
        ("CleanupDelayed", "OrganizationSuspended", "DeleteUnconfirmed"), start=2
    ):
        scene.put(number, Phase.CLEANING, reason)
    assert (await scene.count()).numbers == (1, 0)


async def test_the_senders_of_each_organization_are_counted_and_a_change_is_published() -> None:
    scene = Scene()
    scene.cache.update(an_organization("globex"))
    first = await scene.count()
    for name in ("anna", "bruno"):
        scene.cache.update(a_sender(name))
    second = await scene.count()
    assert (first.senders, second.senders) == (0, 2)
    assert second.count_time > first.count_time
    other = scene.counter.load("globex")
    assert other is not None
    assert other.senders == 0


async def test_an_organization_without_events_has_zeros_and_an_unknown_one_nothing() -> None:
    scene = Scene()
    assert (await scene.count()).numbers == (0, 0)
    assert scene.counter.load("nobody") is None


async def test_it_counts_at_its_interval_only() -> None:
    scene = Scene()
    await scene.count()
    scene.put(1, Phase.PENDING)
    assert (await scene.count(after=COUNT_SECONDS - 1)).numbers == (0, 0)
    assert (await scene.count(after=1)).numbers == (1, 0)


async def test_an_idle_organization_is_written_once_an_hour() -> None:
    scene = Scene()
    first = await scene.count()
    assert await scene.count() == first
    later = await scene.count(after=STALE_AFTER.total_seconds())
    assert later.count_time > first.count_time


async def test_events_of_other_shards_that_came_and_went_are_counted_before_an_alert() -> None:
    # CounterfoilEventCountOld fires for an event that no count has included for 300 s, five minutes later.
    scene = Scene(of=2)
    first = await scene.count()
    assert await scene.count() == first
    later = await scene.count(after=STALE_AFTER_OF_SHARDS.total_seconds())
    assert later.count_time > first.count_time
    assert STALE_AFTER_OF_SHARDS.total_seconds() + COUNT_SECONDS < 300 + 300


async def test_events_that_came_and_went_make_the_count_new() -> None:
    scene = Scene()
    first = await scene.count()
    event = scene.put(1, Phase.PENDING)
    scene.cache.delete(EnvelopeEvent, event.name, 10**6)
    second = await scene.count()
    assert second.numbers == first.numbers
    assert second.count_time - first.count_time == timedelta(seconds=COUNT_SECONDS)


async def test_the_count_after_the_last_change_is_new_too() -> None:
    # A receiver keeps what it created just before a count, because clocks differ. Without another count it
    # would keep that as long as nothing happens, and a burst would fill a low ceiling for an hour.
    scene = Scene()
    await scene.count()
    event = scene.put(1, Phase.PENDING)
    scene.cache.delete(EnvelopeEvent, event.name, 10**6)
    last = [await scene.count() for _ in range(3)]
    assert last[0].count_time + timedelta(seconds=COUNT_SECONDS) == last[1].count_time == last[2].count_time


async def test_a_count_that_fails_loses_no_change() -> None:
    scene = Scene()
    first = await scene.count()
    event = scene.put(1, Phase.PENDING)
    scene.cache.delete(EnvelopeEvent, event.name, 10**6)
    scene.kube.fail("count_by_label", Unavailable(0, "NoAnswer", "gone"))
    with pytest.raises(Unavailable):
        await scene.count()
    assert scene.counter.load("acme") == first
    assert (await scene.count(after=0)).count_time > first.count_time > NOON

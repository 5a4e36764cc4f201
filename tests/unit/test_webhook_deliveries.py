"""Counting deliveries: exact through several receivers and every kind of trouble, and never in anybody's way."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterfoil.cluster import Conflict, Forbidden, Refused, Unavailable
from counterfoil.resources import Origin, Phase, condition, envelope_id
from counterfoil.resources.noting import note
from webhook.deliveries import Deliveries
from webhook.limits import Limits

from .webhook_parts import GUID, NOON, FakeCluster, HandClock, unavailable

EVENT = note(organization="acme", envelope=envelope_id(GUID), action="envelopeFinished")
NAME = EVENT["metadata"]["name"]
ARCHIVED = {
    "type": "Archived",
    "status": "True",
    "reason": "Verified",
    "message": "all there",
    "lastTransitionTime": "2025-01-01T11:30:00Z",
    "observedGeneration": 1,
}

New = Callable[..., Deliveries]


@pytest.fixture
def cluster() -> FakeCluster:
    cluster = FakeCluster()
    cluster.put(EVENT)
    return cluster


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def new(cluster: FakeCluster, clock: HandClock) -> New:
    """Make the counting of one more receiver."""

    def make(**limits: int) -> Deliveries:
        return Deliveries(cluster, clock=clock, random=Random(1), limits=Limits(**limits))

    return make


async def test_what_gathered_is_one_write_on_top_of_the_first_delivery(
    cluster: FakeCluster, new: New
) -> None:
    deliveries = new()
    for _ in range(29):
        deliveries.count(NAME, NOON)

    assert await deliveries.write()

    assert cluster.event(NAME).deliveries == 30
    assert cluster.asked("patch") == 1
    assert deliveries.waiting == 0


async def test_the_first_delivery_is_the_creation_and_the_last_is_the_newest(
    cluster: FakeCluster, new: New
) -> None:
    deliveries = new()
    deliveries.count(NAME, NOON)
    deliveries.count(NAME, NOON + timedelta(seconds=3))
    await deliveries.write()

    status = cluster.event(NAME).status
    assert status.first_delivery == cluster.event(NAME).metadata.creation_timestamp
    assert status.last_delivery == NOON + timedelta(seconds=3)


async def test_an_event_found_by_the_sweep_was_first_delivered_when_esaw_called(
    cluster: FakeCluster, new: New
) -> None:
    cluster.put(note(organization="acme", envelope=envelope_id(GUID), action="swept", origin=Origin.SWEEP))
    swept = next(name for name in cluster.objects if name != NAME)
    deliveries = new()
    deliveries.count(swept, NOON)
    await deliveries.write()

    event = cluster.event(swept)
    assert (event.deliveries, event.status.first_delivery) == (1, NOON)


async def test_a_later_count_is_added_and_the_first_delivery_stays(cluster: FakeCluster, new: New) -> None:
    cluster.put(
        EVENT, deliveries=7, firstDelivery="2025-01-01T10:00:00Z", lastDelivery="2025-01-01T13:00:00Z"
    )
    deliveries = new()
    deliveries.count(NAME, NOON)
    await deliveries.write()

    stored = cluster.objects[NAME]["status"]
    assert stored["deliveries"] == 8
    assert stored["firstDelivery"] == "2025-01-01T10:00:00Z"
    assert stored["lastDelivery"] == "2025-01-01T13:00:00Z"


async def test_two_receivers_that_write_at_once_stay_exact(cluster: FakeCluster, new: New) -> None:
    receivers = [new(), new()]
    for _ in range(50):
        for receiver in receivers:
            for _ in range(10):
                receiver.count(NAME, NOON)
        await asyncio.gather(*(receiver.write() for receiver in receivers))

    assert cluster.event(NAME).deliveries == 1001


async def test_what_the_controller_wrote_in_between_is_kept(cluster: FakeCluster, new: New) -> None:
    deliveries = new()
    deliveries.count(NAME, NOON)
    cluster.put(EVENT, phase="Archiving", attempts=2)
    await deliveries.write()

    status = cluster.event(NAME).status
    assert (status.phase, status.attempts, status.deliveries) == (Phase.ARCHIVING, 2, 2)


@pytest.mark.parametrize("phase", ["Skipped", "Failed"])
async def test_a_delivery_reopens_a_skipped_or_failed_event_in_the_same_write(
    cluster: FakeCluster, new: New, phase: str
) -> None:
    cluster.put(
        EVENT,
        phase=phase,
        reason="DeadlineExceeded",
        attempts=9,
        nextAttemptTime="2025-01-01T12:30:00Z",
        completedAt="2025-01-01T11:30:00Z",
        conditions=[{**ARCHIVED, "type": "Validated"}],
    )
    deliveries = new()
    deliveries.count(NAME, NOON)
    await deliveries.write()

    status = cluster.event(NAME).status
    assert (status.phase, status.reason) == (Phase.PENDING, "Redelivered")
    assert status.message == f"eSignAnyWhere called again after the event was {phase}."
    assert (status.attempts, status.next_attempt_time, status.completed_at) == (0, None, None)
    assert status.conditions == ()
    assert status.deliveries == 2
    assert cluster.asked("patch") == 1


async def test_a_reopened_event_that_is_archived_stays_archived(cluster: FakeCluster, new: New) -> None:
    cluster.put(EVENT, phase="Failed", conditions=[ARCHIVED])
    deliveries = new()
    deliveries.count(NAME, NOON)
    await deliveries.write()

    status = cluster.event(NAME).status
    assert status.phase is Phase.PENDING
    archived = condition(status.conditions, "Archived")
    assert archived is not None
    assert archived.status == "True"


@pytest.mark.parametrize("phase", ["Succeeded", "AwaitingConsent", "Validating", "Pending"])
async def test_a_delivery_for_any_other_event_only_counts(cluster: FakeCluster, new: New, phase: str) -> None:
    cluster.put(EVENT, phase=phase, reason="R", attempts=1)
    deliveries = new()
    deliveries.count(NAME, NOON)
    await deliveries.write()

    status = cluster.event(NAME).status
    assert (status.phase, status.reason, status.attempts, status.deliveries) == (phase, "R", 1, 2)


@pytest.mark.parametrize("phase", ["Skipped", "Failed"])
async def test_a_delivery_that_came_before_the_event_ended_only_counts(
    cluster: FakeCluster, new: New, phase: str
) -> None:
    deliveries = new()
    deliveries.count(NAME, NOON)
    cluster.put(EVENT, phase=phase, completedAt="2025-01-01T12:00:00.000001Z")
    await deliveries.write()

    assert (cluster.event(NAME).status.phase, cluster.event(NAME).deliveries) == (phase, 2)


async def test_one_delivery_after_the_end_reopens_it_however_many_came_before(
    cluster: FakeCluster, new: New
) -> None:
    deliveries = new()
    for second in (2, 0, 1):
        deliveries.count(NAME, NOON + timedelta(seconds=second))
    cluster.put(EVENT, phase="Skipped", completedAt="2025-01-01T12:00:01.5Z")
    await deliveries.write()

    status = cluster.event(NAME).status
    assert (status.phase, status.deliveries, status.last_delivery) == (
        Phase.PENDING,
        4,
        NOON + timedelta(seconds=2),
    )


# -- Re-opening, which is stored before anybody is answered -----------------------------------------------------


@pytest.fixture
def ended(cluster: FakeCluster) -> FakeCluster:
    """The API server, with an event that failed before noon."""
    cluster.put(EVENT, phase="Failed", completedAt="2025-01-01T11:30:00Z")
    return cluster


async def test_a_reopening_is_stored_when_it_returns(ended: FakeCluster, new: New) -> None:
    deliveries = new()
    await deliveries.reopen(NAME, NOON)

    status = ended.event(NAME).status
    assert (status.phase, status.reason, status.deliveries) == (Phase.PENDING, "Redelivered", 2)
    assert deliveries.waiting == 0


async def test_many_at_once_reopen_it_once_and_all_are_counted(ended: FakeCluster, new: New) -> None:
    receivers = [new(), new()]
    await asyncio.gather(*(receiver.reopen(NAME, NOON) for receiver in receivers for _ in range(15)))
    assert ended.event(NAME).status.phase is Phase.PENDING
    for receiver in receivers:
        await receiver.write()

    assert ended.event(NAME).deliveries == 31


async def test_a_reopening_that_could_not_be_stored_is_no_delivery(ended: FakeCluster, new: New) -> None:
    deliveries = new()
    ended.trouble["patch"] = unavailable()
    with pytest.raises(Unavailable):
        await deliveries.reopen(NAME, NOON)

    assert deliveries.waiting == 0


async def test_a_reopening_gives_up_when_others_never_stop_writing(ended: FakeCluster, new: New) -> None:
    deliveries = new(flush_conflicts=3)
    ended.trouble["patch"] = Conflict(409, "Conflict", "somebody was first")
    with pytest.raises(Conflict):
        await deliveries.reopen(NAME, NOON)

    assert ended.asked("patch") == 3


# -- Trouble ----------------------------------------------------------------------------------------------------


async def test_an_event_deleted_meanwhile_is_dropped(cluster: FakeCluster, new: New) -> None:
    deliveries = new()
    deliveries.count(NAME, NOON)
    cluster.objects.clear()

    assert await deliveries.write()
    assert deliveries.waiting == 0


@pytest.mark.parametrize("verb", ["get", "patch"])
@pytest.mark.parametrize("problem", [unavailable(), unavailable(503), Forbidden(403, "Forbidden", "no")])
async def test_while_the_api_server_is_in_trouble_counts_wait_and_go_on_growing(
    cluster: FakeCluster, new: New, verb: str, problem: Exception
) -> None:
    deliveries = new()
    deliveries.count(NAME, NOON)
    cluster.trouble[verb] = problem  # type: ignore[assignment]  # pytest's parameters are objects
    assert not await deliveries.write()
    deliveries.count(NAME, NOON)
    assert deliveries.waiting == 1

    cluster.trouble.clear()
    assert await deliveries.write()
    assert cluster.event(NAME).deliveries == 3


async def test_an_event_that_the_api_server_will_never_take_does_not_hold_up_the_others(
    cluster: FakeCluster, new: New
) -> None:
    deliveries = new(flush_writers=1)
    cluster.trouble["patch"] = Refused(422, "Invalid", "the schema has changed")
    deliveries.count(NAME, NOON)

    assert await deliveries.write()
    assert deliveries.waiting == 0


async def test_a_write_whose_answer_was_lost_is_not_counted_twice(cluster: FakeCluster, new: New) -> None:
    deliveries = new()
    for _ in range(4):
        deliveries.count(NAME, NOON)
    cluster.lost["patch"] = unavailable()
    assert not await deliveries.write()
    deliveries.count(NAME, NOON)

    assert await deliveries.write()
    assert cluster.event(NAME).deliveries == 6


async def test_deliveries_during_a_write_are_counted_by_the_next(cluster: FakeCluster, new: New) -> None:
    deliveries = new()
    deliveries.count(NAME, NOON)
    cluster.gate.clear()
    writing = asyncio.create_task(deliveries.write())
    await cluster.until_asked("get")
    deliveries.count(NAME, NOON)
    assert deliveries.waiting == 2
    cluster.gate.set()
    await writing

    assert cluster.event(NAME).deliveries == 2
    await deliveries.write()
    assert cluster.event(NAME).deliveries == 3


async def test_a_write_that_is_cut_off_loses_nothing(cluster: FakeCluster, new: New) -> None:
    deliveries = new()
    deliveries.count(NAME, NOON)
    cluster.gate.clear()
    writing = asyncio.create_task(deliveries.write())
    await cluster.until_asked("get")
    writing.cancel()
    await asyncio.wait({writing})
    cluster.gate.set()

    await deliveries.write()
    assert cluster.event(NAME).deliveries == 2


async def test_memory_is_bounded_and_what_is_counted_already_goes_on(cluster: FakeCluster, new: New) -> None:
    deliveries = new(tallies=1)
    deliveries.count(NAME, NOON)
    deliveries.count("another", NOON)
    deliveries.count(NAME, NOON)

    assert deliveries.waiting == 1
    await deliveries.write()
    assert cluster.event(NAME).deliveries == 3


async def test_after_closing_everything_is_written_before_the_end(cluster: FakeCluster, new: New) -> None:
    deliveries = new()
    writing = asyncio.create_task(deliveries.keep_writing())
    await asyncio.sleep(0)
    deliveries.count(NAME, NOON)
    deliveries.close()
    async with asyncio.timeout(5):
        await writing

    assert cluster.event(NAME).deliveries == 2


async def test_after_closing_it_goes_on_trying_while_the_api_server_is_away(
    cluster: FakeCluster, new: New
) -> None:
    deliveries = new()
    cluster.trouble["get"] = unavailable()
    deliveries.count(NAME, NOON)
    deliveries.close()
    writing = asyncio.create_task(deliveries.keep_writing())
    await cluster.until_asked("get", 3)
    cluster.trouble.clear()
    async with asyncio.timeout(5):
        await writing

    assert cluster.event(NAME).deliveries == 2


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "write a", "write b", "lose", "down", "up"]), max_size=40))
def test_whatever_happens_in_between_every_delivery_is_counted_once(steps: list[str]) -> None:
    async def play() -> None:
        cluster, clock = FakeCluster(), HandClock()
        cluster.put(EVENT)
        both = {
            name: Deliveries(cluster, clock=clock, random=Random(1), limits=Limits(flush_spacing=0.0))
            for name in "ab"
        }
        for step in steps:
            clock.time += timedelta(microseconds=1)
            match step.split():
                case ["write", name]:
                    await both[name].write()
                case ["lose"]:
                    cluster.lost["patch"] = unavailable()
                    # Another receiver's write in between would make it impossible to tell; see Unanswered.
                    await both["a"].write()
                    await both["a"].write()
                    cluster.lost.clear()
                case ["down"]:
                    cluster.trouble["get"] = unavailable()
                case ["up"]:
                    cluster.trouble.clear()
                case [name]:
                    both[name].count(NAME, clock.now())
        cluster.trouble.clear()
        for receiver in both.values():
            assert await receiver.write()
        assert cluster.event(NAME).deliveries == 1 + sum(step in ("a", "b") for step in steps)

    asyncio.run(play())

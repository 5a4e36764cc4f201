"""
Counting deliveries: exact through several receivers and every kind of trouble, and never in anybody's way.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from counterfoil.kube.errors import ApiError, Conflict, Forbidden, Rejected, Unavailable
from counterfoil.kube.watch import Raw
from counterfoil.resources import (
    EnvelopeEvent,
    EnvelopeSummary,
    Origin,
    Phase,
    Resource,
    envelope_id,
    find_condition,
)
from counterfoil.resources.event_factory import new_event
from counterfoil.resources.reopening import has_new_delivery
from tests.support.builders import AClock, an_event
from tests.support.scenes.receiver_parts import GUID, NOON, ReceiverKubeClient, unavailable
from tests.support.virtual_time import run_in_virtual_time, virtual_time
from webhook.receiver.delivery_counter import DeliveryCounter, PendingCount, status_with
from webhook.receiver.limits import ReceiverLimits

EVENT = new_event(organization="acme", envelope=envelope_id(GUID), action="envelopeFinished")
NAME = EVENT["metadata"]["name"]
ARCHIVED = {
    "type": "Archived",
    "status": "True",
    "reason": "Verified",
    "message": "all there",
    "lastTransitionTime": "2025-01-01T11:30:00Z",
    "observedGeneration": 1,
}

New = Callable[..., DeliveryCounter]


@pytest.fixture
def kube() -> ReceiverKubeClient:
    kube = ReceiverKubeClient()
    kube.put_event(EVENT)
    return kube


@pytest.fixture
def clock() -> AClock:
    return AClock(NOON)


@pytest.fixture
def new(kube: ReceiverKubeClient, clock: AClock) -> New:
    """Make the counting of one more receiver."""

    def make(**limits: Any) -> DeliveryCounter:
        return DeliveryCounter(kube, clock=clock, random=Random(1), limits=ReceiverLimits(**limits))

    return make


async def test_what_gathered_is_one_write_on_top_of_the_first_delivery(
    kube: ReceiverKubeClient, new: New
) -> None:
    deliveries = new()
    for _ in range(29):
        deliveries.count(NAME, NOON)

    assert await deliveries.flush()

    assert kube.stored(NAME).deliveries == 30
    assert kube.count("patch_status") == 1
    assert deliveries.pending_events == 0


async def test_the_first_delivery_is_the_creation_and_the_last_is_the_newest(
    kube: ReceiverKubeClient, new: New
) -> None:
    deliveries = new()
    deliveries.count(NAME, NOON)
    deliveries.count(NAME, NOON + timedelta(seconds=3))
    await deliveries.flush()

    status = kube.stored(NAME).status
    assert status.first_delivery_time == kube.stored(NAME).metadata.creation_timestamp
    assert status.last_delivery_time == NOON + timedelta(seconds=3)


async def test_an_event_found_by_the_sweep_was_first_delivered_when_esaw_called(
    kube: ReceiverKubeClient, new: New
) -> None:
    kube.put_event(
        new_event(organization="acme", envelope=envelope_id(GUID), action="swept", origin=Origin.SWEEP)
    )
    swept = next(name for name in kube.events if name != NAME)
    deliveries = new()
    deliveries.count(swept, NOON)
    await deliveries.flush()

    event = kube.stored(swept)
    assert (event.deliveries, event.status.first_delivery_time) == (1, NOON)


async def test_a_later_count_is_added_and_the_first_delivery_stays(
    kube: ReceiverKubeClient, new: New
) -> None:
    kube.put_event(
        EVENT, deliveries=7, firstDeliveryTime="2025-01-01T10:00:00Z", lastDeliveryTime="2025-01-01T12:01:00Z"
    )
    deliveries = new()
    deliveries.count(NAME, NOON)
    await deliveries.flush()

    stored = kube.events[NAME]["status"]
    assert stored["deliveries"] == 8
    assert stored["firstDeliveryTime"] == "2025-01-01T10:00:00Z"
    assert stored["lastDeliveryTime"] == "2025-01-01T12:01:00Z"


async def test_a_last_delivery_that_a_wrong_clock_put_into_the_future_is_replaced(
    kube: ReceiverKubeClient, new: New
) -> None:
    future = (NOON + timedelta(days=365)).isoformat()
    kube.put_event(EVENT, deliveries=7, firstDeliveryTime="2025-01-01T10:00:00Z", lastDeliveryTime=future)
    deliveries = new()
    deliveries.count(NAME, NOON)
    await deliveries.flush()

    status = kube.stored(NAME).status
    assert (status.deliveries, status.last_delivery_time) == (8, NOON)


async def test_two_receivers_that_write_at_once_stay_exact(kube: ReceiverKubeClient, new: New) -> None:
    receivers = [new(), new()]
    for _ in range(50):
        for receiver in receivers:
            for _ in range(10):
                receiver.count(NAME, NOON)
        await asyncio.gather(*(receiver.flush() for receiver in receivers))

    assert kube.stored(NAME).deliveries == 1001


async def test_what_the_controller_wrote_in_between_is_kept(kube: ReceiverKubeClient, new: New) -> None:
    deliveries = new()
    deliveries.count(NAME, NOON)
    kube.put_event(EVENT, phase="Archiving", attempts=2)
    await deliveries.flush()

    status = kube.stored(NAME).status
    assert (status.phase, status.attempts, status.deliveries) == (Phase.ARCHIVING, 2, 2)


@pytest.mark.parametrize("phase", ["Skipped", "Failed"])
async def test_a_delivery_reopens_a_skipped_or_failed_event_in_the_same_write(
    kube: ReceiverKubeClient, new: New, phase: str
) -> None:
    kube.put_event(
        EVENT,
        phase=phase,
        reason="DeadlineExceeded",
        attempts=9,
        nextAttemptTime="2025-01-01T12:30:00Z",
        completionTime="2025-01-01T11:30:00Z",
        conditions=[{**ARCHIVED, "type": "Validated"}],
    )
    deliveries = new()
    deliveries.count(NAME, NOON)
    await deliveries.flush()

    status = kube.stored(NAME).status
    assert (status.phase, status.reason) == (Phase.PENDING, "Redelivered")
    assert status.message == f"eSignAnyWhere called again after the event was {phase}."
    assert (status.attempts, status.next_attempt_time, status.completion_time) == (0, None, None)
    assert status.conditions == ()
    assert status.deliveries == 2
    assert kube.count("patch_status") == 1


async def test_a_delivery_during_the_last_attempt_that_is_written_after_the_end_reopens_the_event(
    kube: ReceiverKubeClient, new: New
) -> None:
    attempt = {"phase": "Validating", "durationSeconds": 60, "outcome": "Fail", "reason": "NotPermitted"}
    kube.put_event(
        EVENT,
        phase="Failed",
        reason="NotPermitted",
        completionTime="2025-01-01T12:00:30Z",
        attemptHistory=[{**attempt, "startTime": "2025-01-01T11:59:30Z"}],
    )
    deliveries = new()
    deliveries.count(NAME, NOON)
    await deliveries.flush()
    assert kube.stored(NAME).status.phase is Phase.PENDING


async def test_a_reopened_event_that_is_archived_stays_archived(kube: ReceiverKubeClient, new: New) -> None:
    kube.put_event(EVENT, phase="Failed", conditions=[ARCHIVED])
    deliveries = new()
    deliveries.count(NAME, NOON)
    await deliveries.flush()

    status = kube.stored(NAME).status
    assert status.phase is Phase.PENDING
    archived = find_condition(status.conditions, "Archived")
    assert archived is not None
    assert archived.status == "True"


@pytest.mark.parametrize("phase", ["Succeeded", "AwaitingConsent", "Validating", "Pending"])
async def test_a_delivery_for_any_other_event_only_counts(
    kube: ReceiverKubeClient, new: New, phase: str
) -> None:
    kube.put_event(EVENT, phase=phase, reason="R", attempts=1)
    deliveries = new()
    deliveries.count(NAME, NOON)
    await deliveries.flush()

    status = kube.stored(NAME).status
    assert (status.phase, status.reason, status.attempts, status.deliveries) == (phase, "R", 1, 2)


@pytest.mark.parametrize("phase", ["Skipped", "Failed"])
async def test_a_delivery_that_came_before_the_event_ended_only_counts(
    kube: ReceiverKubeClient, new: New, phase: str
) -> None:
    deliveries = new()
    deliveries.count(NAME, NOON)
    kube.put_event(EVENT, phase=phase, completionTime="2025-01-01T12:00:00.000001Z")
    await deliveries.flush()

    assert (kube.stored(NAME).status.phase, kube.stored(NAME).deliveries) == (phase, 2)


async def test_one_delivery_after_the_end_reopens_it_however_many_came_before(
    kube: ReceiverKubeClient, new: New
) -> None:
    deliveries = new()
    for second in (2, 0, 1):
        deliveries.count(NAME, NOON + timedelta(seconds=second))
    kube.put_event(EVENT, phase="Skipped", completionTime="2025-01-01T12:00:01.5Z")
    await deliveries.flush()

    status = kube.stored(NAME).status
    assert (status.phase, status.deliveries, status.last_delivery_time) == (
        Phase.PENDING,
        4,
        NOON + timedelta(seconds=2),
    )


# -- Re-opening, which is stored before anybody is answered --------------------------------------------------


@pytest.fixture
def ended(kube: ReceiverKubeClient) -> ReceiverKubeClient:
    """The API server, with an event that failed before noon."""
    kube.put_event(EVENT, phase="Failed", completionTime="2025-01-01T11:30:00Z")
    return kube


async def test_a_reopening_is_stored_when_it_returns(
    ended: ReceiverKubeClient, new: New, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    deliveries = new()
    await deliveries.store(NAME, NOON)

    status = ended.stored(NAME).status
    assert (status.phase, status.reason, status.deliveries) == (Phase.PENDING, "Redelivered", 2)
    assert deliveries.pending_events == 0
    assert caplog.messages == ["a delivery re-opened an event"]


async def test_many_at_once_reopen_it_once_and_all_are_counted(ended: ReceiverKubeClient, new: New) -> None:
    receivers = [new(), new()]
    await asyncio.gather(*(receiver.store(NAME, NOON) for receiver in receivers for _ in range(15)))
    assert ended.stored(NAME).status.phase is Phase.PENDING
    for receiver in receivers:
        await receiver.flush()

    assert ended.stored(NAME).deliveries == 31


RESTARTABLE = {"phase": "Cleaning", "reason": "CleanupDelayed", "envelope": {"status": "Expired"}}
"""The status of an event whose callbacks are all stored before they are answered."""


@pytest.mark.parametrize("status", [RESTARTABLE, {"phase": "Failed"}, {"phase": "Pending"}])
async def test_callbacks_of_one_event_at_once_are_stored_together(
    kube: ReceiverKubeClient, new: New, status: dict[str, Any]
) -> None:
    kube.put_event(EVENT, **status)
    counter = new()
    given = ({"orderNo": "1"} if status["phase"] == "Pending" else {} for _ in range(500))
    await asyncio.gather(*(counter.store(NAME, NOON, each) for each in given))
    assert kube.stored(NAME).deliveries == 501
    assert kube.count("patch_status") <= 2


async def test_a_callback_whose_client_leaves_during_the_write_costs_no_other_its_answer(
    kube: ReceiverKubeClient, new: New
) -> None:
    kube.put_event(EVENT, **RESTARTABLE)
    counter = new()
    kube.answering.clear()
    first, *others = (asyncio.create_task(counter.store(NAME, NOON)) for _ in range(5))
    await kube.until_asked("get")
    first.cancel()
    kube.answering.set()
    await asyncio.gather(*others)
    assert first.cancelled()
    assert (kube.stored(NAME).deliveries, kube.count("patch_status")) == (5, 1)


async def test_callbacks_that_come_during_a_write_are_stored_by_the_next_one(
    kube: ReceiverKubeClient, new: New
) -> None:
    kube.put_event(EVENT, **RESTARTABLE)
    counter = new()
    first = asyncio.create_task(counter.store(NAME, NOON))
    await kube.until_asked("patch_status")
    await asyncio.gather(*(counter.store(NAME, NOON) for _ in range(20)))
    assert first.done()
    assert (kube.stored(NAME).deliveries, kube.count("patch_status")) == (22, 2)


@pytest.mark.parametrize("number", [1, 5])
async def test_callbacks_that_were_stored_leave_nothing_in_memory(
    kube: ReceiverKubeClient, new: New, number: int
) -> None:
    kube.put_event(EVENT, **RESTARTABLE)
    counter = new()
    await asyncio.gather(*(counter.store(NAME, NOON) for _ in range(number)))
    assert counter._waiting == {}


async def test_parameters_that_the_api_server_refuses_cost_only_their_own_callback() -> None:
    refusing = RefusingParametersKubeClient()
    refusing.put_event(EVENT, **RESTARTABLE)
    counter = DeliveryCounter(refusing, clock=AClock(NOON), random=Random(1), limits=ReceiverLimits())
    given = ({"bad": "1"} if number == 3 else {} for number in range(10))
    results = await asyncio.gather(
        *(counter.store(NAME, NOON, each) for each in given), return_exceptions=True
    )
    assert [type(each) for each in results if each is not None] == [Rejected]
    assert isinstance(results[3], Rejected)
    assert await counter.flush()
    assert refusing.stored(NAME).deliveries == 11


async def test_parameters_that_an_older_schema_drops_cost_only_their_own_callback(
    kube: ReceiverKubeClient, new: New
) -> None:
    kube.put_event(EVENT, **RESTARTABLE)
    kube.unknown_status_fields, counter = {"parameters"}, new()
    results = await asyncio.gather(
        counter.store(NAME, NOON), counter.store(NAME, NOON, {"orderNo": "1"}), return_exceptions=True
    )
    assert [type(each) for each in results] == [type(None), Rejected]


@pytest.mark.parametrize("verb", ["get", "patch_status"])
async def test_while_the_api_server_is_down_callbacks_that_wait_together_ask_it_once(
    kube: ReceiverKubeClient, new: New, verb: str
) -> None:
    kube.put_event(EVENT, **RESTARTABLE)
    kube.trouble[verb], counter = unavailable(), new()
    results = await asyncio.gather(*(counter.store(NAME, NOON) for _ in range(9)), return_exceptions=True)
    assert {type(each) for each in results} == {Unavailable}
    assert (kube.count(verb), counter.pending_events) == (1, 0)
    kube.trouble.clear()
    await counter.store(NAME, NOON)
    assert kube.stored(NAME).deliveries == 2


async def test_several_receivers_store_callbacks_of_one_event_at_once(
    kube: ReceiverKubeClient, new: New
) -> None:
    kube.put_event(EVENT, **RESTARTABLE)
    receivers = [new() for _ in range(5)]
    await asyncio.gather(*(each.store(NAME, NOON) for each in receivers for _ in range(20)))
    assert kube.stored(NAME).deliveries == 101


class RefusingParametersKubeClient(ReceiverKubeClient):
    """Refuses each write of parameters."""

    async def patch_status(
        self, kind: type[Resource], name: str, status: Mapping[str, Any], *, resource_version: str | None
    ) -> Raw:
        if "parameters" in status:
            raise Rejected(422, "Invalid", "no such parameter")
        return await super().patch_status(kind, name, status, resource_version=resource_version)


async def test_parameters_that_an_older_schema_drops_are_not_stored(
    kube: ReceiverKubeClient, new: New
) -> None:
    kube.unknown_status_fields = {"parameters"}
    with pytest.raises(Rejected, match=r"drops status\.parameters"):
        await new().store(NAME, NOON, {"orderNo": "4711"})


async def test_a_reopening_that_could_not_be_stored_is_no_delivery(
    ended: ReceiverKubeClient, new: New
) -> None:
    deliveries = new()
    ended.trouble["patch_status"] = unavailable()
    with pytest.raises(Unavailable):
        await deliveries.store(NAME, NOON)

    assert deliveries.pending_events == 0


async def test_a_reopening_gives_up_when_others_never_stop_writing(
    ended: ReceiverKubeClient, new: New
) -> None:
    deliveries = new(flush_conflicts=3)
    ended.trouble["patch_status"] = Conflict(409, "Conflict", "somebody was first")
    with pytest.raises(Conflict):
        await deliveries.store(NAME, NOON)

    assert ended.count("patch_status") == 3


# -- Trouble -------------------------------------------------------------------------------------------------


async def test_an_event_deleted_meanwhile_is_dropped(kube: ReceiverKubeClient, new: New) -> None:
    deliveries = new()
    deliveries.count(NAME, NOON)
    kube.objects.clear()

    assert await deliveries.flush()
    assert deliveries.pending_events == 0


@pytest.mark.parametrize("verb", ["get", "patch_status"])
@pytest.mark.parametrize("problem", [unavailable(), unavailable(503), Forbidden(403, "Forbidden", "no")])
async def test_while_the_api_server_fails_counts_wait_and_keep_growing(
    kube: ReceiverKubeClient, new: New, verb: str, problem: Exception
) -> None:
    deliveries = new()
    deliveries.count(NAME, NOON)
    kube.trouble[verb] = problem  # type: ignore[assignment]  # pytest's parameters are objects
    assert not await deliveries.flush()
    deliveries.count(NAME, NOON)
    assert deliveries.pending_events == 1

    kube.trouble.clear()
    assert await deliveries.flush()
    assert kube.stored(NAME).deliveries == 3


async def test_an_event_that_the_api_server_will_never_take_does_not_delay_the_others(
    kube: ReceiverKubeClient, new: New
) -> None:
    deliveries = new(flush_writers=1)
    kube.trouble["patch_status"] = Rejected(422, "Invalid", "the schema has changed")
    deliveries.count(NAME, NOON)

    assert await deliveries.flush()
    assert deliveries.pending_events == 0


async def test_a_write_whose_answer_was_lost_is_not_counted_twice(kube: ReceiverKubeClient, new: New) -> None:
    deliveries = new()
    for _ in range(4):
        deliveries.count(NAME, NOON)
    kube.lost["patch_status"] = unavailable()
    assert not await deliveries.flush()
    deliveries.count(NAME, NOON)

    assert await deliveries.flush()
    assert kube.stored(NAME).deliveries == 6


async def test_a_write_whose_answer_was_lost_is_forgotten_with_its_event(
    kube: ReceiverKubeClient, new: New
) -> None:
    deliveries = new()
    for _ in range(4):
        deliveries.count(NAME, NOON)
    kube.lost["patch_status"] = unavailable()
    assert not await deliveries.flush()
    deleted = kube.objects.pop((EnvelopeEvent.PLURAL, NAME))
    assert await deliveries.flush()

    # As after a restore of etcd, with the status that the lost write left.
    kube.objects[EnvelopeEvent.PLURAL, NAME] = deleted
    deliveries.count(NAME, NOON)
    assert await deliveries.flush()
    assert kube.stored(NAME).deliveries == 6


async def test_deliveries_during_a_write_are_counted_by_the_next(kube: ReceiverKubeClient, new: New) -> None:
    deliveries = new()
    deliveries.count(NAME, NOON)
    kube.answering.clear()
    writing = asyncio.create_task(deliveries.flush())
    await kube.until_asked("get")
    deliveries.count(NAME, NOON)
    assert deliveries.pending_events == 2
    kube.answering.set()
    await writing

    assert kube.stored(NAME).deliveries == 2
    await deliveries.flush()
    assert kube.stored(NAME).deliveries == 3


async def test_a_write_that_is_cut_off_loses_nothing(kube: ReceiverKubeClient, new: New) -> None:
    deliveries = new()
    deliveries.count(NAME, NOON)
    kube.answering.clear()
    writing = asyncio.create_task(deliveries.flush())
    await kube.until_asked("get")
    writing.cancel()
    await asyncio.wait({writing})
    kube.answering.set()

    await deliveries.flush()
    assert kube.stored(NAME).deliveries == 2


async def test_memory_is_bounded_and_existing_counters_continue(kube: ReceiverKubeClient, new: New) -> None:
    deliveries = new(pending_counts=1)
    deliveries.count(NAME, NOON)
    deliveries.count("another", NOON)
    deliveries.count(NAME, NOON)

    assert deliveries.pending_events == 1
    await deliveries.flush()
    assert kube.stored(NAME).deliveries == 3


async def test_after_closing_everything_is_written_before_the_end(kube: ReceiverKubeClient, new: New) -> None:
    deliveries = new()
    writing = asyncio.create_task(deliveries.run())
    await asyncio.sleep(0)
    deliveries.count(NAME, NOON)
    deliveries.close()
    async with asyncio.timeout(60):
        await writing

    assert kube.stored(NAME).deliveries == 2


class TimedKubeClient(ReceiverKubeClient):
    """An API server that keeps the times of the requests."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    async def _arrive(self, verb: str, name: str) -> None:
        if verb == "get":
            self.times.append(virtual_time())
        await super()._arrive(verb, name)


def test_the_pause_between_rounds_doubles_with_each_failure_up_to_a_limit_and_then_starts_again() -> None:
    async def main() -> list[float]:
        kube = TimedKubeClient()
        kube.put_event(EVENT)
        limits = ReceiverLimits(flush_seconds=1.0, max_flush_interval=15.0)
        deliveries = DeliveryCounter(kube, clock=AClock(NOON), random=Random(1), limits=limits)
        deliveries.count(NAME, NOON)
        kube.trouble["get"] = unavailable()
        writing = asyncio.create_task(deliveries.run())
        await kube.until_asked("get", 7)
        kube.trouble.clear()
        await kube.until_asked("patch_status")
        for _ in range(2):
            asked = kube.count("get")
            deliveries.count(NAME, NOON)
            await kube.until_asked("get", asked + 1)
        deliveries.close()
        await writing
        return kube.times

    times = run_in_virtual_time(main())
    pauses = [round(later - earlier, 3) for earlier, later in itertools.pairwise(times)]
    assert pauses == [2.0, 4.0, 8.0, 15.0, 15.0, 15.0, 1.0, 1.0]


async def test_after_closing_it_keeps_trying_and_each_failure_costs_a_fifth_of_a_second(
    kube: ReceiverKubeClient, new: New, clock: AClock
) -> None:
    deliveries = new()
    kube.trouble["get"] = unavailable()
    deliveries.count(NAME, NOON)
    deliveries.close()
    writing = asyncio.create_task(deliveries.run())
    await kube.until_asked("get", 3)
    spent = clock.now() - NOON
    kube.trouble.clear()
    async with asyncio.timeout(60):
        await writing
    assert spent == timedelta(seconds=0.4)
    assert kube.stored(NAME).deliveries == 2


@pytest.mark.parametrize(("is_closed", "seconds"), [(False, 1.5), (True, 0.0)])
async def test_writes_are_spread_in_time_except_after_closing(
    kube: ReceiverKubeClient, new: New, clock: AClock, is_closed: bool, seconds: float
) -> None:
    deliveries = new(flush_writers=1, flush_spacing=0.5)
    for name in put_events(kube, 3):
        deliveries.count(name, NOON)
    if is_closed:
        deliveries.close()
        async with asyncio.timeout(60):
            await deliveries.run()
    else:
        assert await deliveries.flush()
    assert clock.now() - NOON == timedelta(seconds=seconds)


def put_events(kube: ReceiverKubeClient, number: int) -> list[str]:
    """Store events; return their names."""
    events = [
        new_event(organization="acme", envelope=envelope_id(GUID), action=f"a{n}") for n in range(number)
    ]
    for event in events:
        kube.put_event(event)
    return [event["metadata"]["name"] for event in events]


async def test_what_no_writer_stored_while_the_api_server_was_down_is_counted_later(
    kube: ReceiverKubeClient, new: New
) -> None:
    deliveries, names = new(flush_writers=1), put_events(kube, 3)
    for name in names:
        deliveries.count(name, NOON)
    kube.trouble["get"] = unavailable()
    assert not await deliveries.flush()
    assert deliveries.pending_events == 3

    kube.trouble.clear()
    assert await deliveries.flush()
    assert [kube.stored(name).deliveries for name in names] == [2, 2, 2]


async def test_deliveries_without_room_are_reported_once_in_a_round(
    kube: ReceiverKubeClient, new: New, caplog: pytest.LogCaptureFixture
) -> None:
    deliveries = new(pending_counts=1)
    for _ in range(2):
        deliveries.count(NAME, NOON)
        deliveries.count("another", NOON)
        deliveries.count("a-third", NOON)
        await deliveries.flush()
    told = [each for each in caplog.messages if "wait to be counted" in each]
    assert told == ["1 events wait to be counted; deliveries of others stay uncounted"] * 2


async def test_after_a_conflict_the_next_attempt_comes_at_once_but_not_at_the_same_time(
    ended: ReceiverKubeClient, new: New, clock: AClock
) -> None:
    ended.trouble["patch_status"] = Conflict(409, "Conflict", "somebody was first")
    with pytest.raises(Conflict, match="others kept writing"):
        await new(flush_conflicts=3).store(NAME, NOON)
    assert timedelta(0) < clock.now() - NOON < timedelta(seconds=3 * 0.05)


async def test_after_a_conflict_a_count_waits_a_short_time_before_the_next_attempt(
    kube: ReceiverKubeClient, new: New, clock: AClock
) -> None:
    deliveries = new(flush_conflicts=3, flush_spacing=0.0)
    deliveries.count(NAME, NOON)
    kube.trouble["patch_status"] = Conflict(409, "Conflict", "somebody was first")
    assert await deliveries.flush()

    assert kube.count("patch_status") == 3
    assert timedelta(0) < clock.now() - NOON < timedelta(seconds=3 * 0.05)
    assert deliveries.pending_events == 1


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "write a", "write b", "lose", "down", "up"]), max_size=40))
def test_every_delivery_is_counted_once_with_any_failure_in_between(steps: list[str]) -> None:
    async def play() -> None:
        kube, clock = ReceiverKubeClient(), AClock(NOON)
        kube.put_event(EVENT)
        both = {
            name: DeliveryCounter(
                kube, clock=clock, random=Random(1), limits=ReceiverLimits(flush_spacing=0.0)
            )
            for name in "ab"
        }
        for step in steps:
            clock.advance(microseconds=1)
            match step.split():
                case ["write", name]:
                    await both[name].flush()
                case ["lose"]:
                    kube.lost["patch_status"] = unavailable()
                    # Another receiver's write in between would make it impossible to tell; see Unanswered.
                    await both["a"].flush()
                    await both["a"].flush()
                    kube.lost.clear()
                case ["down"]:
                    kube.trouble["get"] = unavailable()
                case ["up"]:
                    kube.trouble.clear()
                case [name]:
                    both[name].count(NAME, clock.now())
        kube.trouble.clear()
        for receiver in both.values():
            assert await receiver.flush()
        assert kube.stored(NAME).deliveries == 1 + sum(step in ("a", "b") for step in steps)

    asyncio.run(play())


def refuse(kube: ReceiverKubeClient, names: Iterable[str], problem: ApiError) -> None:
    """Let the API server answer requests about these events with an error."""
    kube.refused = {(verb, name): problem for verb in ("get", "patch_status") for name in names}


@pytest.mark.parametrize("problem", [Forbidden(403, "Forbidden", "no"), unavailable(500)])
async def test_refused_events_delay_no_other_event(problem: ApiError) -> None:
    kube = ReceiverKubeClient()
    names = put_events(kube, 40)
    refuse(kube, names[:20], problem)
    counter = DeliveryCounter(kube, clock=AClock(NOON), random=Random(1), limits=ReceiverLimits())
    for name in names:
        counter.count(name, NOON)
    for _ in range(3):
        await counter.flush()
    assert {kube.stored(name).deliveries for name in names[20:]} == {2}
    assert counter.pending_events == 20


async def test_a_round_in_which_the_api_server_becomes_unavailable_is_a_failure() -> None:
    kube = ReceiverKubeClient()
    names = put_events(kube, 20)
    # The first events are written. One of the four writers then has three failures in a row.
    refuse(kube, names[8:], unavailable())
    counter = DeliveryCounter(kube, clock=AClock(NOON), random=Random(1), limits=ReceiverLimits())
    for name in names:
        counter.count(name, NOON)
    assert not await counter.flush()
    assert {kube.stored(name).deliveries for name in names[:8]} == {2}


async def test_counts_of_refused_events_are_written_when_they_are_allowed() -> None:
    kube = ReceiverKubeClient()
    names = put_events(kube, 5)
    refuse(kube, names, Forbidden(403, "Forbidden", "no"))
    counter = DeliveryCounter(kube, clock=AClock(NOON), random=Random(1), limits=ReceiverLimits())
    for name in names:
        counter.count(name, NOON)
    assert not await counter.flush()
    counter.count(names[0], NOON)
    kube.refused.clear()
    assert await counter.flush()
    assert [kube.stored(name).deliveries for name in names] == [3, 2, 2, 2, 2]


@pytest.mark.parametrize(
    ("status", "reason", "starts"),
    [
        ("Expired", "CleanupDelayed", True),
        ("Expired", "LateFilesPending", True),
        ("Completed", "CleanupDelayed", False),
        ("Expired", "EsawFailing", False),
    ],
)
def test_a_delivery_during_the_delay_of_the_delete_starts_an_event_whose_envelope_may_be_restarted(
    status: str, reason: str, starts: bool
) -> None:
    event = an_event().in_phase(Phase.CLEANING, reason).with_condition("Archived")
    before = event.status(envelope=EnvelopeSummary(status=status), considered_deliveries=1).build()
    assert not has_new_delivery(before)
    after = replace(before, status=status_with(before, PendingCount(1, NOON, NOON), now=NOON))
    assert has_new_delivery(after) is starts


class PolicedKubeClient(ReceiverKubeClient):
    """Refuses each change of a phase, as an admission policy can."""

    async def patch_status(
        self, kind: type[Resource], name: str, status: Mapping[str, Any], *, resource_version: str | None
    ) -> Raw:
        if "phase" in status:
            raise Rejected(422, "Invalid", "a receiver sets no phase")
        return await super().patch_status(kind, name, status, resource_version=resource_version)


async def test_a_delivery_whose_reopening_is_refused_is_still_counted() -> None:
    kube = PolicedKubeClient()
    kube.put_event(EVENT, phase="Failed", completionTime="2025-01-01T11:30:00Z")
    counter = DeliveryCounter(kube, clock=AClock(NOON), random=Random(1), limits=ReceiverLimits())
    counter.count(NAME, NOON)
    assert await counter.flush()
    assert (kube.stored(NAME).status.phase, kube.stored(NAME).deliveries) == ("Failed", 2)
    with pytest.raises(Rejected):
        await counter.store(NAME, NOON)
    assert await counter.flush()
    assert (kube.stored(NAME).status.phase, kube.stored(NAME).deliveries) == ("Failed", 3)


def test_a_receiver_changes_the_phase_of_no_event_but_a_skipped_or_failed_one() -> None:
    others = [each for each in Phase if each not in (Phase.SKIPPED, Phase.FAILED)]
    reasons = ["CleanupDelayed", "LateFilesPending", "EsawFailing"]
    for phase, reason in itertools.product(others, reasons):
        event = an_event().in_phase(phase, reason).status(envelope=EnvelopeSummary(status="Expired")).build()
        after = status_with(event, PendingCount(1, NOON, NOON), now=NOON)
        assert (after.phase, after.reason, after.deliveries) == (phase, reason, event.deliveries + 1)

"""Creation of events: which answer of the API server leads to which outcome, and its effect on readiness."""

import asyncio
from datetime import timedelta

import pytest

from counterfoil.clock import Clock
from counterfoil.kube.errors import ApiError, Conflict, Forbidden, NotFound, Rejected
from counterfoil.kube.server_clock import ServerClock
from counterfoil.kube.watch import Raw
from counterfoil.metrics import CallbackOutcome
from counterfoil.resources import envelope_id, find_condition
from counterfoil.resources.event_factory import new_event
from tests.support.builders import AClock
from tests.support.scenes.receiver_parts import GUID, NOON, ReceiverKubeClient, ReceiverParts, unavailable
from webhook.receiver.limits import ReceiverLimits
from webhook.receiver.readiness import MAX_CONSECUTIVE_FAILURES

EVENT = new_event(organization="acme", envelope=envelope_id(GUID), action="envelopeFinished")
NAME = EVENT["metadata"]["name"]


class WriterParts(ReceiverParts):
    """An intake with everything around it."""

    def __init__(self, limits: ReceiverLimits, *, turns: int = 64, behind: timedelta | None = None) -> None:
        """``behind`` is the error of this machine's clock; None: responses have no time."""
        self.kube = ReceiverKubeClient()
        self.clock, self.server = AClock(NOON), AClock(NOON)
        clock: Clock = self.clock
        if behind is not None:
            self.kube.server_clock = self.server
            self.clock.set_back(seconds=behind.total_seconds())
            clock = ServerClock(self.clock, self.kube)
        super().__init__(self.kube, clock, limits, turns=turns)


@pytest.fixture
async def parts() -> WriterParts:
    return WriterParts(ReceiverLimits())


async def test_a_new_callback_is_recorded_and_its_first_delivery_needs_no_count(parts: WriterParts) -> None:
    assert await parts.event_writer.create(EVENT) is CallbackOutcome.NOTED
    assert parts.kube.stored(NAME).deliveries == 1
    assert parts.deliveries.pending_events == 0


async def test_one_that_another_receiver_recorded_is_known_and_counted(parts: WriterParts) -> None:
    parts.kube.put_event(EVENT)
    assert await parts.event_writer.create(EVENT) is CallbackOutcome.KNOWN
    assert parts.deliveries.pending_events == 1


async def test_the_time_of_a_delivery_is_that_of_its_arrival(parts: WriterParts) -> None:
    parts.kube.put_event(EVENT)
    parts.kube.answering.clear()
    creating = asyncio.create_task(parts.event_writer.create(EVENT))
    await parts.kube.until_asked("create")
    parts.clock.advance(seconds=1)
    parts.kube.answering.set()
    assert await creating is CallbackOutcome.KNOWN
    await parts.deliveries.flush()
    assert parts.kube.stored(NAME).status.last_delivery_time == NOON


async def test_one_that_it_has_seen_itself_is_asked_for_and_not_created_again(parts: WriterParts) -> None:
    await parts.event_writer.create(EVENT)
    assert await parts.event_writer.create(EVENT) is CallbackOutcome.KNOWN
    assert (parts.kube.count("create"), parts.kube.count("get_partial")) == (1, 1)


async def test_one_that_was_seen_and_then_deleted_is_recorded_again(parts: WriterParts) -> None:
    await parts.event_writer.create(EVENT)
    parts.kube.objects.clear()

    assert await parts.event_writer.create(EVENT) is CallbackOutcome.NOTED
    assert NAME in parts.kube.events


async def test_what_was_seen_is_never_the_proof_when_the_api_server_is_gone(parts: WriterParts) -> None:
    await parts.event_writer.create(EVENT)
    parts.kube.trouble["get_partial"] = unavailable()

    assert await parts.event_writer.create(EVENT) is CallbackOutcome.UNAVAILABLE


async def test_memory_for_what_was_seen_is_bounded() -> None:
    parts = WriterParts(ReceiverLimits(remembered_events=2))
    events = [new_event(organization="acme", envelope=envelope_id(GUID), action=f"a{n}") for n in range(3)]
    for event in events:
        await parts.event_writer.create(event)

    assert await parts.event_writer.create(events[0]) is CallbackOutcome.KNOWN
    assert parts.kube.count("create") == 4


async def test_the_event_that_was_seen_last_is_remembered_longest() -> None:
    parts = WriterParts(ReceiverLimits(remembered_events=2))
    events = [new_event(organization="acme", envelope=envelope_id(GUID), action=f"a{n}") for n in range(3)]
    for number in (0, 1, 0, 2):
        await parts.event_writer.create(events[number])
    created = parts.kube.count("create")

    assert await parts.event_writer.create(events[0]) is CallbackOutcome.KNOWN
    assert parts.kube.count("create") == created
    assert await parts.event_writer.create(events[1]) is CallbackOutcome.KNOWN
    assert parts.kube.count("create") == created + 1


# -- A callback whose event must not be created --------------------------------------------------------------


async def test_where_nothing_may_be_created_an_existing_event_is_counted(parts: WriterParts) -> None:
    parts.kube.put_event(EVENT)
    assert await parts.event_writer.count_existing(EVENT) is CallbackOutcome.KNOWN
    assert await parts.deliveries.flush()
    assert (parts.kube.stored(NAME).deliveries, parts.kube.count("create")) == (2, 0)


async def test_where_nothing_may_be_created_an_ended_event_is_reopened(parts: WriterParts) -> None:
    await an_ended_event(parts, "Failed", seen=False)
    assert await parts.event_writer.count_existing(EVENT) is CallbackOutcome.KNOWN
    assert parts.kube.stored(NAME).status.phase == "Pending"


async def test_where_nothing_may_be_created_a_new_callback_has_no_room_and_proves_nothing(
    parts: WriterParts,
) -> None:
    assert await parts.event_writer.count_existing(EVENT) is CallbackOutcome.ORGANIZATION_FULL
    assert parts.kube.events == {}
    await parts.write_probe.check()
    assert parts.kube.count("create_dry_run") == 1
    # It is not remembered as an event that exists either.
    assert await parts.event_writer.create(EVENT) is CallbackOutcome.NOTED
    assert parts.kube.count("get_partial") == 1


async def test_where_nothing_may_be_created_a_failure_is_unavailable(parts: WriterParts) -> None:
    parts.kube.trouble["get_partial"] = unavailable()
    assert await parts.event_writer.count_existing(EVENT) is CallbackOutcome.UNAVAILABLE


# -- A delivery that re-opens its event (docs/decisions/0009) ------------------------------------------------

ENDED = pytest.mark.parametrize("phase", ["Failed", "Skipped"])
HOW = pytest.mark.parametrize("seen", [True, False], ids=["seen-here", "noted-by-another"])


async def an_ended_event(parts: WriterParts, phase: str, *, seen: bool) -> None:
    if seen:
        await parts.event_writer.create(EVENT)
    parts.kube.put_event(EVENT, phase=phase, completionTime="2025-01-01T11:30:00Z")


@HOW
@ENDED
async def test_a_delivery_that_reopens_is_answered_only_when_that_is_stored(
    parts: WriterParts, phase: str, seen: bool
) -> None:
    await an_ended_event(parts, phase, seen=seen)

    assert await parts.event_writer.create(EVENT) is CallbackOutcome.KNOWN

    event = parts.kube.stored(NAME)
    assert (event.status.phase, event.status.reason, event.deliveries) == ("Pending", "Redelivered", 2)
    assert parts.deliveries.pending_events == 0


@HOW
@ENDED
@pytest.mark.parametrize("verb", ["get_partial", "get", "patch_status"])
async def test_a_delivery_that_may_reopen_is_not_answered_200_while_that_cannot_be_stored(
    parts: WriterParts, phase: str, seen: bool, verb: str
) -> None:
    await an_ended_event(parts, phase, seen=seen)
    parts.kube.trouble[verb] = unavailable()

    assert await parts.event_writer.create(EVENT) is CallbackOutcome.UNAVAILABLE

    parts.kube.trouble.clear()
    assert await parts.event_writer.create(EVENT) is CallbackOutcome.KNOWN
    assert parts.kube.stored(NAME).status.phase == "Pending"


async def test_a_delivery_that_nobody_can_store_is_refused(parts: WriterParts) -> None:
    await an_ended_event(parts, "Failed", seen=False)
    parts.kube.trouble["patch_status"] = Forbidden(403, "Forbidden", "no")

    assert await parts.event_writer.create(EVENT) is CallbackOutcome.REFUSED


@HOW
async def test_one_that_may_not_be_read_is_refused_since_it_may_have_to_be_reopened(
    parts: WriterParts, seen: bool
) -> None:
    await an_ended_event(parts, "Failed", seen=seen)
    parts.kube.trouble["get_partial"] = Forbidden(403, "Forbidden", "no")
    assert await parts.event_writer.create(EVENT) is CallbackOutcome.REFUSED

    parts.kube.trouble.clear()
    assert await parts.event_writer.create(EVENT) is CallbackOutcome.KNOWN
    assert parts.kube.stored(NAME).status.phase == "Pending"


async def test_a_delivery_for_an_event_that_does_not_fit_its_schema_is_refused(parts: WriterParts) -> None:
    parts.kube.put_event(EVENT, phase="Failed", attempts="many")

    assert await parts.event_writer.create(EVENT) is CallbackOutcome.REFUSED


@HOW
@pytest.mark.parametrize("phase", ["Succeeded", "Pending", "Archiving", "AwaitingConsent"])
async def test_a_delivery_of_an_unfinished_or_succeeded_event_waits_for_no_write(
    parts: WriterParts, phase: str, seen: bool
) -> None:
    await an_ended_event(parts, phase, seen=seen)
    parts.kube.trouble |= {"patch_status": unavailable(), "get": unavailable()}

    assert await parts.event_writer.create(EVENT) is CallbackOutcome.KNOWN

    parts.kube.trouble.clear()
    assert await parts.deliveries.flush()
    assert (parts.kube.stored(NAME).status.phase, parts.kube.stored(NAME).deliveries) == (phase, 2)


@HOW
@ENDED
async def test_a_delivery_in_transit_when_the_event_ended_only_counts(
    parts: WriterParts, phase: str, seen: bool
) -> None:
    await an_ended_event(parts, phase, seen=seen)
    parts.kube.events[NAME]["status"]["completionTime"] = "2025-01-01T12:00:00.5Z"

    assert await parts.event_writer.create(EVENT) is CallbackOutcome.KNOWN

    assert await parts.deliveries.flush()
    assert (parts.kube.stored(NAME).status.phase, parts.kube.stored(NAME).deliveries) == (phase, 2)


@HOW
@ENDED
@pytest.mark.parametrize("behind", [timedelta(minutes=8), timedelta(hours=3)])
async def test_a_delivery_after_the_last_attempt_reopens_also_if_the_clock_of_the_receiver_is_behind(
    phase: str, seen: bool, behind: timedelta
) -> None:
    """The first response after a pause, such as that of a suspended machine, brings the time."""
    parts = WriterParts(ReceiverLimits(), behind=behind)
    await an_ended_event(parts, phase, seen=seen)
    started = {"phase": "Validating", "startTime": "2025-01-01T12:01:00Z", "durationSeconds": 0}
    attempts = [{**started, "outcome": "Skip", "reason": "UnexpectedStatus"}]
    parts.kube.put_event(EVENT, phase=phase, completionTime="2025-01-01T12:01:00Z", attemptHistory=attempts)
    parts.clock.advance(minutes=2)
    parts.server.advance(minutes=2)

    assert await parts.event_writer.create(EVENT) is CallbackOutcome.KNOWN

    event = parts.kube.stored(NAME)
    assert (event.status.phase, event.status.reason) == ("Pending", "Redelivered")
    assert event.status.last_delivery_time == parts.server.now()


async def test_equal_deliveries_at_once_reopen_an_event_once(parts: WriterParts) -> None:
    await an_ended_event(parts, "Skipped", seen=False)

    outcomes = await asyncio.gather(*(parts.event_writer.create(EVENT) for _ in range(30)))

    assert outcomes == [CallbackOutcome.KNOWN] * 30
    assert await parts.deliveries.flush()
    event = parts.kube.stored(NAME)
    assert (event.status.phase, event.deliveries) == ("Pending", 31)


async def test_one_that_is_deleted_just_as_it_is_found_has_to_come_again(parts: WriterParts) -> None:
    parts.kube.put_event(EVENT)
    parts.kube.trouble["get_partial"] = NotFound(404, "NotFound", "it is gone")

    assert await parts.event_writer.create(EVENT) is CallbackOutcome.UNAVAILABLE


BEING_DELETED = {
    **EVENT,
    "metadata": {
        **EVENT["metadata"],
        "deletionTimestamp": "2025-01-01T11:59:00Z",
        "finalizers": ["foregroundDeletion"],
    },
}


@pytest.mark.parametrize("is_seen", [True, False])
@pytest.mark.parametrize("phase", ["Pending", "Failed", "Succeeded"])
async def test_a_delivery_for_an_event_that_is_being_deleted_has_to_come_again(
    parts: WriterParts, phase: str, *, is_seen: bool
) -> None:
    if is_seen:
        await parts.event_writer.create(EVENT)
    parts.kube.put_event(BEING_DELETED, phase=phase)

    assert await parts.event_writer.create(EVENT) is CallbackOutcome.UNAVAILABLE
    assert await parts.event_writer.count_existing(EVENT) is CallbackOutcome.UNAVAILABLE
    parts.kube.objects.clear()
    assert await parts.event_writer.create(EVENT) is CallbackOutcome.NOTED


async def test_events_that_stay_in_deletion_leave_the_receiver_ready(parts: WriterParts) -> None:
    parts.kube.put_event(BEING_DELETED)
    for _ in range(MAX_CONSECUTIVE_FAILURES):
        await parts.event_writer.create(EVENT)

    assert await parts.write_probe.check() is None


async def test_an_event_that_others_keep_writing_leaves_the_receiver_ready(parts: WriterParts) -> None:
    parts.kube.put_event(EVENT, phase="Failed", completionTime="2025-01-01T11:30:00Z")
    parts.kube.trouble["patch_status"] = Conflict(409, "Conflict", "another was first")
    for _ in range(MAX_CONSECUTIVE_FAILURES):
        assert await parts.event_writer.create(EVENT) is CallbackOutcome.UNAVAILABLE

    assert await parts.write_probe.check() is None


async def test_no_delivery_is_stored_in_an_event_whose_deletion_began_after_it_was_read(
    parts: WriterParts,
) -> None:
    parts.kube.put_event(BEING_DELETED, phase="Failed", completionTime="2025-01-01T11:30:00Z")

    with pytest.raises(Conflict):
        await parts.deliveries.store(NAME, parts.clock.now())


# -- Parameters that come after the event was made -----------------------------------------------------------


def with_parameters(**parameters: str) -> Raw:
    return new_event(
        organization="acme",
        envelope=envelope_id(GUID),
        action="envelopeFinished",
        parameters=parameters,
    )


@HOW
@pytest.mark.parametrize("phase", ["Pending", "Archiving", "Succeeded", "Failed"])
async def test_parameters_of_a_later_callback_are_stored_before_the_answer(
    parts: WriterParts, phase: str, seen: bool
) -> None:
    await an_ended_event(parts, phase, seen=seen)

    assert await parts.event_writer.create(with_parameters(orderNo="4711")) is CallbackOutcome.KNOWN

    event = parts.kube.stored(NAME)
    assert event.spec.parameters == {}
    assert (event.parameters, event.deliveries) == ({"orderNo": "4711"}, 2)
    assert (parts.deliveries.pending_events, parts.kube.count("patch_status")) == (0, 1)


@HOW
@pytest.mark.parametrize("verb", ["get_partial", "get", "patch_status"])
async def test_later_parameters_that_cannot_be_stored_are_not_answered_200(
    parts: WriterParts, seen: bool, verb: str
) -> None:
    await an_ended_event(parts, "Pending", seen=seen)
    parts.kube.trouble[verb] = unavailable()
    assert await parts.event_writer.create(with_parameters(orderNo="4711")) is CallbackOutcome.UNAVAILABLE

    parts.kube.trouble[verb] = Conflict(409, "Conflict", "another was first")
    assert await parts.event_writer.create(with_parameters(orderNo="4711")) is CallbackOutcome.UNAVAILABLE

    parts.kube.trouble.clear()
    assert await parts.event_writer.create(with_parameters(orderNo="4711")) is CallbackOutcome.KNOWN
    assert parts.kube.stored(NAME).parameters == {"orderNo": "4711"}


async def test_parameters_that_an_older_schema_drops_are_not_answered_200(parts: WriterParts) -> None:
    parts.kube.put_event(EVENT)
    parts.kube.unknown_status_fields = {"parameters"}

    assert await parts.event_writer.create(with_parameters(orderNo="4711")) is CallbackOutcome.REFUSED


async def test_the_first_value_of_a_parameter_counts_and_another_is_logged(
    parts: WriterParts, caplog: pytest.LogCaptureFixture
) -> None:
    parts.kube.put_event(with_parameters(orderNo="4711"))
    for parameters in ({"tenant": "a"}, {"tenant": "b", "ORDERNO": "4712"}, {"orderNo": "4711"}):
        assert await parts.event_writer.create(with_parameters(**parameters)) is CallbackOutcome.KNOWN

    assert parts.kube.stored(NAME).parameters == {"orderNo": "4711", "tenant": "a"}
    assert "2 parameters have other values than in an earlier callback" in caplog.text
    assert "4712" not in caplog.text


async def test_parameters_of_equal_callbacks_at_once_are_stored_once(parts: WriterParts) -> None:
    parts.kube.put_event(EVENT)
    callbacks = [with_parameters(orderNo="4711"), with_parameters(tenant="a"), EVENT] * 5

    outcomes = await asyncio.gather(*map(parts.event_writer.create, callbacks))

    assert outcomes == [CallbackOutcome.KNOWN] * 15
    assert await parts.deliveries.flush()
    event = parts.kube.stored(NAME)
    assert (event.parameters, event.deliveries) == ({"orderNo": "4711", "tenant": "a"}, 16)


async def test_parameters_that_come_after_archiving_began_are_a_condition(parts: WriterParts) -> None:
    document = {"fileID": "1", "kind": "Document", "fileName": "a.pdf", "location": "file:///a.pdf"}
    parts.kube.put_event(EVENT, phase="Succeeded", documents=[document])

    await parts.event_writer.create(with_parameters(orderNo="4711"))
    await parts.event_writer.create(with_parameters(tenant="a"))

    found = find_condition(parts.kube.stored(NAME).status.conditions, "ParametersArchived")
    assert found is not None
    assert (found.status, found.reason) == ("False", "ParametersLate")
    assert "`orderNo`, `tenant`" in found.message


async def test_parameters_that_come_before_archiving_are_no_condition(parts: WriterParts) -> None:
    parts.kube.put_event(EVENT)
    await parts.event_writer.create(with_parameters(orderNo="4711"))
    assert find_condition(parts.kube.stored(NAME).status.conditions, "ParametersArchived") is None


# -- Trouble -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", [unavailable(), unavailable(503), Conflict(409, "Conflict", "busy")])
async def test_a_temporary_failure_is_unavailable_and_logged(
    parts: WriterParts, problem: ApiError, caplog: pytest.LogCaptureFixture
) -> None:
    parts.kube.trouble["create"] = problem
    assert await parts.event_writer.create(EVENT) is CallbackOutcome.UNAVAILABLE
    assert f"the event was not created: {problem}" in caplog.messages


@pytest.mark.parametrize(
    "problem",
    [
        Forbidden(403, "Forbidden", "quota"),
        Rejected(422, "Invalid", "schema"),
        NotFound(404, "NotFound", "no CRD"),
    ],
)
async def test_what_somebody_has_to_fix_is_refused_and_never_200(
    parts: WriterParts, problem: ApiError
) -> None:
    parts.kube.trouble["create"] = problem
    assert await parts.event_writer.create(EVENT) is CallbackOutcome.REFUSED


async def test_a_write_that_takes_too_long_is_unavailable_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    parts = WriterParts(ReceiverLimits(write_seconds=0.01))
    parts.kube.answering.clear()
    assert await parts.event_writer.create(EVENT) is CallbackOutcome.UNAVAILABLE
    assert "the event was not created: the API server took too long" in caplog.messages


async def test_an_answer_that_was_lost_makes_the_next_delivery_a_known_one(parts: WriterParts) -> None:
    parts.kube.lost["create"] = unavailable()

    assert await parts.event_writer.create(EVENT) is CallbackOutcome.UNAVAILABLE
    assert await parts.event_writer.create(EVENT) is CallbackOutcome.KNOWN


async def test_equal_callbacks_at_once_are_one_event(parts: WriterParts) -> None:
    outcomes = await asyncio.gather(*(parts.event_writer.create(EVENT) for _ in range(30)))

    assert sorted(outcomes) == [CallbackOutcome.KNOWN] * 29 + [CallbackOutcome.NOTED]
    assert await parts.deliveries.flush()
    assert parts.kube.stored(NAME).deliveries == 30


# -- More callbacks than the API server takes ----------------------------------------------------------------


def another_event() -> Raw:
    return new_event(organization="acme", envelope=envelope_id(GUID), action="workstepFinished")


async def test_a_callback_that_waits_too_long_for_its_turn_is_unavailable_without_a_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    parts = WriterParts(ReceiverLimits(wait_seconds=0.01), turns=1)
    parts.kube.answering.clear()
    first = asyncio.create_task(parts.event_writer.create(EVENT))
    await parts.kube.until_asked("create")

    assert await parts.event_writer.create(another_event()) is CallbackOutcome.UNAVAILABLE
    assert "the event was not created: too many callbacks wait" in caplog.messages
    parts.kube.answering.set()
    assert await first is CallbackOutcome.NOTED
    assert parts.kube.count("create") == 1


async def test_the_time_of_a_write_begins_with_its_turn() -> None:
    parts = WriterParts(ReceiverLimits(write_seconds=1.0), turns=1)
    parts.kube.answering.clear()
    first = asyncio.create_task(parts.event_writer.create(EVENT))
    await parts.kube.until_asked("create")
    second = asyncio.create_task(parts.event_writer.create(another_event()))

    assert await first is CallbackOutcome.UNAVAILABLE
    parts.kube.answering.set()
    assert await second is CallbackOutcome.NOTED


async def test_callbacks_write_in_the_order_in_which_they_came() -> None:
    parts = WriterParts(ReceiverLimits(), turns=1)
    events = [new_event(organization="acme", envelope=envelope_id(GUID), action=f"a{n}") for n in range(5)]
    outcomes = await asyncio.gather(*map(parts.event_writer.create, events))

    assert outcomes == [CallbackOutcome.NOTED] * 5
    assert list(parts.kube.events) == [each["metadata"]["name"] for each in events]


async def test_a_burst_of_one_organization_delays_another_one_by_no_more_than_one_write() -> None:
    parts = WriterParts(ReceiverLimits(), turns=1)
    burst = [new_event(organization="acme", envelope=envelope_id(GUID), action=f"a{n}") for n in range(50)]
    others = [new_event(organization="other", envelope=envelope_id(GUID), action=f"a{n}") for n in range(5)]
    await asyncio.gather(*map(parts.event_writer.create, [*burst, *others]))
    order = list(parts.kube.events)
    assert max(order.index(each["metadata"]["name"]) for each in others) <= 10


async def test_a_write_that_failed_releases_its_slot() -> None:
    parts = WriterParts(ReceiverLimits(wait_seconds=0.01), turns=1)
    parts.kube.trouble["create"] = unavailable()
    await parts.event_writer.create(EVENT)
    parts.kube.trouble.clear()

    assert await parts.event_writer.create(EVENT) is CallbackOutcome.NOTED


async def test_callbacks_that_get_no_turn_are_no_outage() -> None:
    parts = WriterParts(ReceiverLimits(wait_seconds=0.01), turns=1)
    parts.kube.answering.clear()
    first = asyncio.create_task(parts.event_writer.create(EVENT))
    await parts.kube.until_asked("create")
    await asyncio.gather(*(parts.event_writer.create(another_event()) for _ in range(5)))
    parts.kube.answering.set()

    assert await parts.write_probe.check() is None
    await first


# -- Readiness -----------------------------------------------------------------------------------------------


async def test_an_idle_receiver_tries_a_create_and_stores_nothing(parts: WriterParts) -> None:
    assert await parts.write_probe.check() is None
    assert parts.kube.count("create_dry_run") == 1
    assert parts.kube.events == {}


async def test_a_callback_just_recorded_is_proof_enough(parts: WriterParts) -> None:
    await parts.event_writer.create(EVENT)
    assert await parts.write_probe.check() is None
    assert parts.kube.count("create_dry_run") == 0


async def test_a_proof_grows_old(parts: WriterParts) -> None:
    await parts.event_writer.create(EVENT)
    await parts.clock.sleep(6)
    parts.kube.trouble["create_dry_run"] = unavailable()
    assert await parts.write_probe.check() == "the API server did not answer"


async def test_one_lost_write_is_no_outage(parts: WriterParts) -> None:
    parts.write_probe.record_failure("exceeded quota")
    assert await parts.write_probe.check() is None


async def test_writes_that_keep_failing_are_an_outage_although_a_trial_would_succeed(
    parts: WriterParts,
) -> None:
    for _ in range(MAX_CONSECUTIVE_FAILURES):
        parts.write_probe.record_failure("exceeded quota")
    assert await parts.write_probe.check() == "the last 3 writes to the API server failed: exceeded quota"


@pytest.mark.parametrize("problem", [unavailable(), Forbidden(403, "Forbidden", "quota")])
async def test_callbacks_that_cannot_be_stored_are_an_outage(parts: WriterParts, problem: ApiError) -> None:
    parts.kube.trouble["create"] = problem
    for _ in range(MAX_CONSECUTIVE_FAILURES):
        await parts.event_writer.create(EVENT)
    assert await parts.write_probe.check() == f"the last 3 writes to the API server failed: {problem}"


async def test_one_stored_callback_ends_an_outage(parts: WriterParts) -> None:
    for _ in range(MAX_CONSECUTIVE_FAILURES):
        parts.write_probe.record_failure("exceeded quota")
    await parts.event_writer.create(EVENT)
    assert await parts.write_probe.check() is None


async def test_ids_that_a_caller_chooses_end_no_readiness(parts: WriterParts) -> None:
    parts.kube.put_event(EVENT)
    parts.kube.events[NAME]["spec"]["action"] = "workstepFinished"
    for _ in range(MAX_CONSECUTIVE_FAILURES):
        assert await parts.event_writer.create(EVENT) is CallbackOutcome.MISMATCH
    assert await parts.write_probe.check() is None


@pytest.mark.parametrize("refused", [Rejected(422, "Invalid", "a receiver sets no phase"), None])
async def test_a_status_that_is_refused_ends_no_readiness(
    parts: WriterParts, refused: ApiError | None
) -> None:
    """Also not one that this version can't read: the API server answered."""
    await an_ended_event(parts, "Failed", seen=False)
    if refused is None:
        parts.kube.put_event(EVENT, phase="Failed", attempts="many")
    else:
        parts.kube.trouble["patch_status"] = refused
    for _ in range(MAX_CONSECUTIVE_FAILURES):
        assert await parts.event_writer.create(EVENT) is CallbackOutcome.REFUSED
    assert await parts.write_probe.check() is None


def wait_for_the_delete(parts: WriterParts, phase: str = "Cleaning", reason: str = "CleanupDelayed") -> None:
    parts.kube.put_event(EVENT, phase=phase, reason=reason, envelope={"status": "Expired"})


@pytest.mark.parametrize(
    ("phase", "reason"),
    [
        ("Cleaning", "CleanupDelayed"),
        ("Cleaning", "EnvelopeNotFound"),
        ("Archiving", "ArchiveUnreachable"),
        ("Collecting", "NoFiles"),
    ],
)
async def test_a_callback_of_an_expired_envelope_is_answered_only_when_its_count_is_stored(
    parts: WriterParts, phase: str, reason: str
) -> None:
    """The controller takes the count as the sign that the expired envelope was restarted."""
    wait_for_the_delete(parts, phase, reason)
    assert await parts.event_writer.create(EVENT) is CallbackOutcome.KNOWN
    after = parts.kube.stored(NAME)
    assert (after.status.phase, after.status.reason, after.deliveries) == (phase, reason, 2)


@pytest.mark.parametrize(
    ("phase", "reason"), [("Validating", "StillActive"), ("Validating", "EsawFailing"), ("Pending", None)]
)
async def test_a_callback_of_a_restarted_envelope_is_answered_only_when_its_count_is_stored(
    parts: WriterParts, phase: str, reason: str | None
) -> None:
    """The controller may just have seen that somebody has yet to sign, and end the event for that."""
    restarted = {"status": "Active", "restartedTime": "2025-01-01T11:30:00Z"}
    parts.kube.put_event(EVENT, phase=phase, reason=reason, envelope=restarted)
    assert await parts.event_writer.create(EVENT) is CallbackOutcome.KNOWN
    assert parts.kube.stored(NAME).deliveries == 2


async def test_a_callback_of_an_active_envelope_that_was_not_restarted_only_counts(
    parts: WriterParts,
) -> None:
    parts.kube.put_event(EVENT, phase="Validating", reason="StillActive", envelope={"status": "Active"})
    assert await parts.event_writer.create(EVENT) is CallbackOutcome.KNOWN
    assert (parts.kube.stored(NAME).deliveries, parts.deliveries.pending_events) == (1, 1)


async def test_a_callback_of_an_expired_envelope_whose_event_succeeded_only_counts(
    parts: WriterParts,
) -> None:
    wait_for_the_delete(parts, "Succeeded", "ArchivedAndDeleted")
    assert await parts.event_writer.create(EVENT) is CallbackOutcome.KNOWN
    assert (parts.kube.stored(NAME).deliveries, parts.deliveries.pending_events) == (1, 1)


async def test_an_answer_about_another_event_is_no_proof(parts: WriterParts) -> None:
    other = new_event(organization="acme", envelope=envelope_id(GUID), action="workstepFinished")
    parts.kube.put_event(EVENT)
    parts.kube.events[NAME]["metadata"]["name"] = other["metadata"]["name"]
    assert await parts.event_writer.create(EVENT) is CallbackOutcome.MISMATCH


async def test_after_an_outage_it_comes_back_by_a_trial(parts: WriterParts) -> None:
    for _ in range(MAX_CONSECUTIVE_FAILURES):
        parts.write_probe.record_failure("exceeded quota")
    await parts.clock.sleep(6)
    assert await parts.write_probe.check() is None

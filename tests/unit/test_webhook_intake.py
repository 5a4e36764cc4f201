"""Noting down: which answer of the API server leads to which outcome, and what readiness makes of it."""

import asyncio
from random import Random

import pytest

from counterfoil.cluster import ApiProblem, Conflict, Forbidden, NotFound, Refused
from counterfoil.metrics import CallbackOutcome
from counterfoil.resources import envelope_id
from counterfoil.resources.noting import note
from webhook.deliveries import Deliveries
from webhook.intake import Intake
from webhook.limits import Limits
from webhook.writability import FAILURES_IN_A_ROW, Writability

from .webhook_parts import GUID, FakeCluster, HandClock, unavailable

EVENT = note(organization="acme", envelope=envelope_id(GUID), action="envelopeFinished")
NAME = EVENT["metadata"]["name"]


class Desk:
    """An intake with everything around it."""

    def __init__(self, limits: Limits) -> None:
        self.cluster = FakeCluster()
        self.clock = HandClock()
        self.deliveries = Deliveries(self.cluster, clock=self.clock, random=Random(1), limits=limits)
        self.writability = Writability(self.cluster, monotonic=self.clock.monotonic, valid_seconds=5.0)
        self.intake = Intake(self.cluster, self.deliveries, self.writability, clock=self.clock, limits=limits)


@pytest.fixture
async def desk() -> Desk:
    return Desk(Limits())


async def test_a_new_callback_is_noted_and_its_first_delivery_needs_no_count(desk: Desk) -> None:
    assert await desk.intake.note_down(EVENT) is CallbackOutcome.NOTED
    assert desk.cluster.event(NAME).deliveries == 1
    assert desk.deliveries.waiting == 0


async def test_one_that_another_receiver_noted_is_known_and_counted(desk: Desk) -> None:
    desk.cluster.put(EVENT)
    assert await desk.intake.note_down(EVENT) is CallbackOutcome.KNOWN
    assert desk.deliveries.waiting == 1


async def test_one_that_it_has_seen_itself_is_asked_for_and_not_created_again(desk: Desk) -> None:
    await desk.intake.note_down(EVENT)
    assert await desk.intake.note_down(EVENT) is CallbackOutcome.KNOWN
    assert (desk.cluster.asked("create"), desk.cluster.asked("glimpse")) == (1, 1)


async def test_one_that_was_seen_and_then_deleted_is_noted_anew(desk: Desk) -> None:
    await desk.intake.note_down(EVENT)
    desk.cluster.objects.clear()

    assert await desk.intake.note_down(EVENT) is CallbackOutcome.NOTED
    assert NAME in desk.cluster.objects


async def test_what_was_seen_is_never_the_proof_when_the_api_server_is_gone(desk: Desk) -> None:
    await desk.intake.note_down(EVENT)
    desk.cluster.trouble["glimpse"] = unavailable()

    assert await desk.intake.note_down(EVENT) is CallbackOutcome.UNAVAILABLE


async def test_memory_for_what_was_seen_is_bounded() -> None:
    desk = Desk(Limits(remembered=2))
    events = [note(organization="acme", envelope=envelope_id(GUID), action=f"a{n}") for n in range(3)]
    for event in events:
        await desk.intake.note_down(event)

    assert await desk.intake.note_down(events[0]) is CallbackOutcome.KNOWN
    assert desk.cluster.asked("create") == 4


# -- A delivery that re-opens its event (docs/decisions/0009) ---------------------------------------------------

ENDED = pytest.mark.parametrize("phase", ["Failed", "Skipped"])
HOW = pytest.mark.parametrize("seen", [True, False], ids=["seen-here", "noted-by-another"])


async def an_ended_event(desk: Desk, phase: str, *, seen: bool) -> None:
    if seen:
        await desk.intake.note_down(EVENT)
    desk.cluster.put(EVENT, phase=phase, completedAt="2025-01-01T11:30:00Z")


@HOW
@ENDED
async def test_a_delivery_that_reopens_is_answered_only_when_that_is_stored(
    desk: Desk, phase: str, seen: bool
) -> None:
    await an_ended_event(desk, phase, seen=seen)

    assert await desk.intake.note_down(EVENT) is CallbackOutcome.KNOWN

    event = desk.cluster.event(NAME)
    assert (event.status.phase, event.status.reason, event.deliveries) == ("Pending", "Redelivered", 2)
    assert desk.deliveries.waiting == 0


@HOW
@ENDED
@pytest.mark.parametrize("verb", ["glimpse", "get", "patch"])
async def test_a_delivery_that_may_reopen_is_not_answered_200_while_that_cannot_be_stored(
    desk: Desk, phase: str, seen: bool, verb: str
) -> None:
    await an_ended_event(desk, phase, seen=seen)
    desk.cluster.trouble[verb] = unavailable()

    assert await desk.intake.note_down(EVENT) is CallbackOutcome.UNAVAILABLE

    desk.cluster.trouble.clear()
    assert await desk.intake.note_down(EVENT) is CallbackOutcome.KNOWN
    assert desk.cluster.event(NAME).status.phase == "Pending"


async def test_a_delivery_that_nobody_can_store_is_refused(desk: Desk) -> None:
    await an_ended_event(desk, "Failed", seen=False)
    desk.cluster.trouble["patch"] = Forbidden(403, "Forbidden", "no")

    assert await desk.intake.note_down(EVENT) is CallbackOutcome.REFUSED


@HOW
async def test_one_that_may_not_be_read_is_refused_since_it_may_have_to_be_reopened(
    desk: Desk, seen: bool
) -> None:
    await an_ended_event(desk, "Failed", seen=seen)
    desk.cluster.trouble["glimpse"] = Forbidden(403, "Forbidden", "no")
    assert await desk.intake.note_down(EVENT) is CallbackOutcome.REFUSED

    desk.cluster.trouble.clear()
    assert await desk.intake.note_down(EVENT) is CallbackOutcome.KNOWN
    assert desk.cluster.event(NAME).status.phase == "Pending"


async def test_a_delivery_for_an_event_that_does_not_fit_its_schema_is_refused(desk: Desk) -> None:
    desk.cluster.put(EVENT, phase="Failed", attempts="many")

    assert await desk.intake.note_down(EVENT) is CallbackOutcome.REFUSED


@HOW
@pytest.mark.parametrize("phase", ["Succeeded", "Pending", "Archiving", "AwaitingConsent"])
async def test_a_delivery_of_an_unfinished_or_succeeded_event_waits_for_no_write(
    desk: Desk, phase: str, seen: bool
) -> None:
    await an_ended_event(desk, phase, seen=seen)
    desk.cluster.trouble |= {"patch": unavailable(), "get": unavailable()}

    assert await desk.intake.note_down(EVENT) is CallbackOutcome.KNOWN

    desk.cluster.trouble.clear()
    assert await desk.deliveries.write()
    assert (desk.cluster.event(NAME).status.phase, desk.cluster.event(NAME).deliveries) == (phase, 2)


@HOW
@ENDED
async def test_a_delivery_on_its_way_when_the_event_ended_only_counts(
    desk: Desk, phase: str, seen: bool
) -> None:
    await an_ended_event(desk, phase, seen=seen)
    desk.cluster.objects[NAME]["status"]["completedAt"] = "2025-01-01T12:00:00.5Z"

    assert await desk.intake.note_down(EVENT) is CallbackOutcome.KNOWN

    assert await desk.deliveries.write()
    assert (desk.cluster.event(NAME).status.phase, desk.cluster.event(NAME).deliveries) == (phase, 2)


async def test_equal_deliveries_at_once_reopen_an_event_once(desk: Desk) -> None:
    await an_ended_event(desk, "Skipped", seen=False)

    outcomes = await asyncio.gather(*(desk.intake.note_down(EVENT) for _ in range(30)))

    assert outcomes == [CallbackOutcome.KNOWN] * 30
    assert await desk.deliveries.write()
    event = desk.cluster.event(NAME)
    assert (event.status.phase, event.deliveries) == ("Pending", 31)


async def test_one_that_is_deleted_just_as_it_is_found_has_to_come_again(desk: Desk) -> None:
    desk.cluster.put(EVENT)
    desk.cluster.trouble["glimpse"] = NotFound(404, "NotFound", "it is gone")

    assert await desk.intake.note_down(EVENT) is CallbackOutcome.UNAVAILABLE


# -- Trouble ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", [unavailable(), unavailable(503), Conflict(409, "Conflict", "busy")])
async def test_trouble_that_may_pass_is_unavailable(desk: Desk, problem: ApiProblem) -> None:
    desk.cluster.trouble["create"] = problem
    assert await desk.intake.note_down(EVENT) is CallbackOutcome.UNAVAILABLE


@pytest.mark.parametrize(
    "problem",
    [
        Forbidden(403, "Forbidden", "quota"),
        Refused(422, "Invalid", "schema"),
        NotFound(404, "NotFound", "no CRD"),
    ],
)
async def test_what_somebody_has_to_mend_is_refused_and_never_200(desk: Desk, problem: ApiProblem) -> None:
    desk.cluster.trouble["create"] = problem
    assert await desk.intake.note_down(EVENT) is CallbackOutcome.REFUSED


async def test_a_write_that_takes_too_long_is_unavailable() -> None:
    desk = Desk(Limits(write_seconds=0.01))
    desk.cluster.gate.clear()
    assert await desk.intake.note_down(EVENT) is CallbackOutcome.UNAVAILABLE


async def test_an_answer_that_was_lost_makes_the_next_delivery_a_known_one(desk: Desk) -> None:
    desk.cluster.lost["create"] = unavailable()

    assert await desk.intake.note_down(EVENT) is CallbackOutcome.UNAVAILABLE
    assert await desk.intake.note_down(EVENT) is CallbackOutcome.KNOWN


async def test_equal_callbacks_at_once_are_one_event(desk: Desk) -> None:
    outcomes = await asyncio.gather(*(desk.intake.note_down(EVENT) for _ in range(30)))

    assert sorted(outcomes) == [CallbackOutcome.KNOWN] * 29 + [CallbackOutcome.NOTED]
    assert await desk.deliveries.write()
    assert desk.cluster.event(NAME).deliveries == 30


# -- Readiness --------------------------------------------------------------------------------------------------


async def test_an_idle_receiver_tries_a_create_and_stores_nothing(desk: Desk) -> None:
    assert await desk.writability.check() is None
    assert desk.cluster.asked("try") == 1
    assert desk.cluster.objects == {}


async def test_a_callback_just_noted_is_proof_enough(desk: Desk) -> None:
    await desk.intake.note_down(EVENT)
    assert await desk.writability.check() is None
    assert desk.cluster.asked("try") == 0


async def test_a_proof_grows_old(desk: Desk) -> None:
    await desk.intake.note_down(EVENT)
    await desk.clock.sleep(6)
    desk.cluster.trouble["try"] = unavailable()
    assert await desk.writability.check() == "the API server did not answer"


async def test_one_lost_write_is_no_outage(desk: Desk) -> None:
    desk.writability.failed()
    assert await desk.writability.check() is None


async def test_writes_that_keep_failing_are_an_outage_although_a_trial_would_succeed(desk: Desk) -> None:
    for _ in range(FAILURES_IN_A_ROW):
        desk.writability.failed()
    assert await desk.writability.check() == "the last 3 writes to the API server failed"


async def test_after_an_outage_it_comes_back_by_a_trial(desk: Desk) -> None:
    for _ in range(FAILURES_IN_A_ROW):
        desk.writability.failed()
    await desk.clock.sleep(6)
    assert await desk.writability.check() is None

"""Requests of people by label."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest

from controller.retry.requests import MAX_CONCURRENT_REQUESTS, UserRequests
from controller.scheduling.backoff import USER_REQUEST
from controller.scheduling.workqueue import WorkQueue
from controller.telemetry.event_recorder import EventRecorder
from counterfoil.kube.errors import TooLarge
from counterfoil.kube.status import StatusWriter
from counterfoil.kube.watch import WatchEvent
from counterfoil.resources import (
    REQUEST_BY_ANNOTATION,
    REQUEST_LABEL,
    REQUEST_REASON_ANNOTATION,
    EnvelopeEvent,
    Phase,
    find_condition,
)
from tests.support.builders import AClock, EventBuilder, an_event
from tests.support.fakes.kube import InMemoryKubeClient
from tests.unit.controller.scheduling.test_workqueue import a_workqueue


class Scene:
    """A namespace in which requests are followed."""

    def __init__(self, *events: EnvelopeEvent) -> None:
        self.clock = AClock()
        self.kube = InMemoryKubeClient(*events)
        self.event_recorder = EventRecorder(self.kube, self.clock)
        self.changed: list[EnvelopeEvent] = []
        self.workqueue: WorkQueue = a_workqueue(self.clock)
        self.user_requests = UserRequests(
            kube=self.kube,
            status_writer=StatusWriter(self.kube),
            event_recorder=self.event_recorder,
            clock=self.clock,
            labels="",
            lock=self.workqueue.lock,
            changed=self.changed.append,
        )

    def observe(self, *names: str) -> None:
        """Let the watch tell about events."""
        for name in names:
            self.kube.changes.put_nowait(WatchEvent("MODIFIED", self.kube.stored(name).to_dict()))

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[None]:
        tasks = [
            asyncio.create_task(self.user_requests.run()),
            asyncio.create_task(self.event_recorder.run()),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def carried_out(self, event: EnvelopeEvent) -> EnvelopeEvent:
        """Follow until the label is gone, and return the event as it is then."""
        self.observe(event.name)
        async with self.followed():
            await eventually(lambda: REQUEST_LABEL not in self.kube.stored(event.name).metadata.labels)
            await turns()
        return self.kube.stored(event.name)

    def recorded(self) -> list[tuple[str, str]]:
        return [(each["reason"], each["note"]) for each in self.kube.announced]


async def turns(count: int = 50) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def eventually(is_so: Callable[[], bool]) -> None:
    for _ in range(1000):
        if is_so():
            return
        await asyncio.sleep(0)
    pytest.fail("it never came to that")


def asked(builder: EventBuilder, wanted: str) -> EventBuilder:
    return builder.labelled(REQUEST_LABEL, wanted).status(deliveries=1)


@pytest.mark.parametrize("phase", [Phase.FAILED, Phase.SKIPPED, Phase.ARCHIVING, Phase.AWAITING_CONSENT])
async def test_retry_begins_anew_from_every_phase_but_succeeded(phase: Phase) -> None:
    event = asked(an_event().in_phase(phase, "ArchiveFull").status(attempts=7), "retry").build()
    scene = Scene(event)
    after = await scene.carried_out(event)
    assert (after.status.phase, after.status.reason, after.status.attempts) == (
        Phase.PENDING,
        "RetryRequested",
        0,
    )
    assert scene.changed[-1] == after, "so that it is worked on at once"
    assert scene.recorded() == [("RetryRequested", f"'retry' was asked for when the event was {phase}")]


async def test_retry_of_what_is_archived_goes_on_from_there() -> None:
    event = asked(an_event().archived().status(phase=Phase.FAILED), "retry").build()
    after = await Scene(event).carried_out(event)
    archived = find_condition(after.status.conditions, "Archived")
    assert archived is not None
    assert archived.status == "True"


@pytest.mark.parametrize("phase", [Phase.FAILED, Phase.PENDING, Phase.CLEANING, Phase.AWAITING_CONSENT])
async def test_skip_gives_up_on_purpose(phase: Phase) -> None:
    event = asked(an_event().in_phase(phase), "skip").build()
    scene = Scene(event)
    after = await scene.carried_out(event)
    assert (after.status.phase, after.status.reason) == (Phase.SKIPPED, "SkippedByRequest")
    assert after.status.completion_time == scene.clock.now()
    assert after.status.next_attempt_time is None
    ready = find_condition(after.status.conditions, "Ready")
    assert ready is not None
    assert (ready.status, ready.reason) == ("False", "SkippedByRequest")
    assert [reason for reason, _ in scene.recorded()] == ["SkippedByRequest"]


@pytest.mark.parametrize(
    ("phase", "wanted", "note"),
    [
        (Phase.SUCCEEDED, "retry", "nothing was left to do"),
        (Phase.SUCCEEDED, "skip", "nothing was left to do"),
        (Phase.SKIPPED, "skip", "nothing was left to do"),
        (Phase.FAILED, "delete", "only retry and skip are known"),
    ],
)
async def test_what_cannot_be_done_is_refused_in_words_and_changes_nothing(
    phase: Phase, wanted: str, note: str
) -> None:
    event = asked(an_event().in_phase(phase), wanted).build()
    scene = Scene(event)
    after = await scene.carried_out(event)
    assert after.status == event.status
    assert scene.kube.patches == []
    ((reason, recorded),) = scene.recorded()
    assert reason == "RequestRefused"
    assert recorded.endswith(note)


async def test_who_asked_and_why_is_recorded_and_taken_off() -> None:
    event = asked(an_event().in_phase(Phase.FAILED), "skip").build()
    scene = Scene(event)
    annotations = {REQUEST_BY_ANNOTATION: "maria", REQUEST_REASON_ANNOTATION: "filed by hand"}
    scene.kube.edit(EnvelopeEvent, event.name, {"metadata": {"annotations": annotations}})
    after = await scene.carried_out(event)
    assert scene.recorded() == [
        (
            "SkippedByRequest",
            "'skip' was asked for when the event was Failed, in the name of maria, because: filed by hand",
        )
    ]
    assert after.metadata.annotations == {}


async def test_a_request_told_many_times_is_carried_out_once() -> None:
    event = asked(an_event().in_phase(Phase.FAILED), "retry").build()
    scene = Scene(event)
    scene.observe(event.name, event.name, event.name)
    await scene.carried_out(event)
    assert len(scene.recorded()) == 1


async def test_a_request_waits_for_the_running_work_and_holds_up_no_other() -> None:
    busy = asked(an_event().in_phase(Phase.ARCHIVING), "skip").build()
    other_id = "11111111-4b1d-4c58-9a57-6d1f0a3b2c4d"
    other = asked(an_event(other_id).in_phase(Phase.FAILED), "retry").build()
    scene = Scene(busy, other)
    scene.observe(busy.name, other.name)
    async with scene.followed():
        async with scene.workqueue.lock(busy.spec.envelope_id):
            await eventually(lambda: scene.kube.stored(other.name).status.phase is Phase.PENDING)
            assert scene.kube.stored(busy.name).status.phase is Phase.ARCHIVING
        await eventually(lambda: scene.kube.stored(busy.name).status.phase is Phase.SKIPPED)


async def test_while_the_api_server_is_away_a_request_is_tried_again_and_not_lost() -> None:
    event = asked(an_event().in_phase(Phase.FAILED), "retry").build()
    scene = Scene(event)
    scene.kube.go_away("get", times=3)
    scene.kube.go_away("patch", times=2)
    after = await scene.carried_out(event)
    assert after.status.phase is Phase.PENDING
    assert scene.clock.slept != []


async def test_a_request_that_the_api_server_never_takes_is_refused_in_words() -> None:
    event = asked(an_event().in_phase(Phase.FAILED), "retry").build()
    scene = Scene(event)
    scene.kube.fail("patch_status", TooLarge(500, "500", "etcdserver: request is too large"))
    after = await scene.carried_out(event)
    assert after.status.phase is Phase.FAILED
    ((reason, note),) = scene.recorded()
    assert reason == "RequestRefused"
    assert "request is too large" in note


async def test_a_delivery_counted_in_between_does_not_carry_a_request_out_twice() -> None:
    event = asked(an_event().in_phase(Phase.FAILED), "retry").build()
    scene = Scene(event)
    scene.kube.just_before(
        "patch", partial(scene.kube.edit, EnvelopeEvent, event.name, {"status": {"deliveries": 5}})
    )
    after = await scene.carried_out(event)
    assert after.status.deliveries == 5
    assert len(scene.recorded()) == 1


async def test_another_request_made_in_between_is_not_taken_off_unseen() -> None:
    event = asked(an_event().in_phase(Phase.FAILED), "retry").build()
    scene = Scene(event)
    relabel = partial(
        scene.kube.edit, EnvelopeEvent, event.name, {"metadata": {"labels": {REQUEST_LABEL: "skip"}}}
    )
    scene.kube.just_before("patch", relabel)
    scene.observe(event.name)
    async with scene.followed():
        await eventually(lambda: len(scene.changed) >= 2)
        assert scene.kube.stored(event.name).metadata.labels[REQUEST_LABEL] == "skip"
        scene.observe(event.name)
        await eventually(lambda: scene.kube.stored(event.name).status.phase is Phase.SKIPPED)


async def test_an_event_that_was_deleted_meanwhile_needs_nothing() -> None:
    event = asked(an_event().in_phase(Phase.FAILED), "retry").build()
    scene = Scene(event)
    scene.observe(event.name)
    await scene.kube.delete(EnvelopeEvent, event.name)
    async with scene.followed():
        await eventually(lambda: ("get", event.name) in scene.kube.asked)
        await turns()
    assert scene.recorded() == []


async def test_thousands_of_requests_at_once_are_carried_out_a_few_at_a_time() -> None:
    events = [
        asked(an_event(f"{number:08x}-4b1d-4c58-9a57-6d1f0a3b2c4d").in_phase(Phase.FAILED), "retry").build()
        for number in range(200)
    ]
    scene = Scene(*events)
    for each in events:
        scene.observe(each.name)
    async with scene.followed():
        await eventually(lambda: len(scene.kube.announced) == 200)
    assert {each["reason"] for each in scene.kube.announced} == {"RetryRequested"}
    assert MAX_CONCURRENT_REQUESTS < 200


async def test_an_error_that_nobody_thought_of_is_tried_again_and_ends_no_other_request() -> None:
    event = asked(an_event().in_phase(Phase.FAILED), "retry").build()
    other_id = "11111111-4b1d-4c58-9a57-6d1f0a3b2c4d"
    other = asked(an_event(other_id).in_phase(Phase.FAILED), "retry").build()
    scene = Scene(event, other)
    scene.kube.just_before("get", breaks)
    scene.kube.just_before("get", breaks)
    scene.observe(event.name, other.name)
    async with scene.followed():
        await eventually(lambda: len(scene.kube.announced) == 2)
    assert {scene.kube.stored(each.name).status.phase for each in (event, other)} == {Phase.PENDING}
    assert scene.clock.slept == [USER_REQUEST.pauses[0], USER_REQUEST.pauses[0]]


async def test_the_pauses_after_errors_grow_and_a_request_is_never_given_up() -> None:
    event = asked(an_event().in_phase(Phase.FAILED), "retry").build()
    scene = Scene(event)
    for _ in range(20):
        scene.kube.just_before("get", breaks)
    after = await scene.carried_out(event)
    assert after.status.reason == "RetryRequested"
    assert tuple(scene.clock.slept) == (
        *USER_REQUEST.pauses,
        *[USER_REQUEST.pauses[-1]] * (20 - len(USER_REQUEST.pauses)),
    )


async def test_a_request_told_again_while_it_pauses_after_an_error_is_still_carried_out_once() -> None:
    event = asked(an_event().in_phase(Phase.FAILED), "retry").build()
    scene = Scene(event)
    scene.kube.just_before("get", breaks)
    scene.kube.just_before("get", partial(scene.observe, event.name))
    scene.observe(event.name, event.name)
    await scene.carried_out(event)
    assert [reason for reason, _ in scene.recorded()] == ["RetryRequested"]


def breaks() -> None:
    raise RuntimeError("nobody thought of this")

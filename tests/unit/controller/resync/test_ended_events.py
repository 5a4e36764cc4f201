"""The status of an ended event names the newest generation of its spec."""

import asyncio
from typing import Any

import pytest

from controller.reopening.reopener import Reopener
from controller.resync.ended_events import EndedEventObserver
from counterfoil.kube.errors import Unavailable
from counterfoil.kube.watch import WatchEvent
from counterfoil.resources import EnvelopeEvent, Phase
from tests.support.builders import NOON, an_event
from tests.support.fakes.kube import copied
from tests.support.scenes.controller_parts import ControllerParts

ENDED = (
    an_event()
    .archived()
    .in_phase(Phase.SUCCEEDED, "Kept")
    .status(completion_time=NOON, observed_generation=1, deliveries=1)
    .build()
)
NAME = ENDED.name


class ObserverScene(ControllerParts):
    """A controller with one event, which a person suspends and resumes."""

    def __init__(self, event: EnvelopeEvent = ENDED) -> None:
        super().__init__(event, sleep=self.slept)
        self.observer = EndedEventObserver(
            self.kube, Reopener(self.status_writer, self.event_recorder, self.clock), self.clock, labels=""
        )

    async def slept(self, _: float) -> None:
        """Do not wait."""

    def suspend(self, value: bool) -> dict[str, Any]:
        """Let a person change the spec; return the event as the API server has it."""
        self.kube.edit(EnvelopeEvent, NAME, {"spec": {"suspend": value}})
        return copied(self.kube.objects[EnvelopeEvent.PLURAL, NAME])

    async def watched(self, *changes: WatchEvent) -> None:
        """Let the watch yield these changes."""
        for each in changes:
            self.kube.changes.put_nowait(each)
        task = asyncio.create_task(self.observer.run())
        for _ in range(200):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def generations(self) -> set[int | None]:
        """Return each generation that the stored status names."""
        status = self.kube.stored(NAME).status
        return {status.observed_generation, *(each.observed_generation for each in status.conditions)}


async def test_a_suspended_ended_event_describes_its_newest_spec_after_one_write() -> None:
    scene = ObserverScene()
    await scene.watched(WatchEvent("ADDED", scene.suspend(True)))
    assert scene.generations() == {2}
    assert scene.kube.count("patch_status") == 1
    after = scene.kube.stored(NAME).status
    assert (after.phase, after.reason, after.completion_time) == (Phase.SUCCEEDED, "Kept", NOON)


async def test_an_event_that_leaves_the_watch_when_it_is_resumed_is_read_again() -> None:
    scene = ObserverScene()
    # The API server sends the state in which the selector matched for the last time.
    last_match = scene.suspend(True)
    scene.suspend(False)
    await scene.watched(WatchEvent("DELETED", last_match))
    assert scene.generations() == {3}


async def test_an_event_that_was_deleted_while_it_was_suspended_needs_nothing() -> None:
    scene = ObserverScene()
    last_match = scene.suspend(True)
    del scene.kube.objects[EnvelopeEvent.PLURAL, NAME]
    await scene.watched(WatchEvent("DELETED", last_match))
    assert scene.kube.count("patch_status") == 0


async def test_a_status_that_names_the_newest_spec_is_not_written_again() -> None:
    scene = ObserverScene()
    await scene.watched(WatchEvent("ADDED", scene.suspend(True)))
    again = copied(scene.kube.objects[EnvelopeEvent.PLURAL, NAME])
    await scene.watched(WatchEvent("MODIFIED", again))
    assert scene.kube.count("patch_status") == 1


@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.CLEANING, Phase.AWAITING_CONSENT])
async def test_an_unfinished_event_is_left_to_its_worker(phase: Phase) -> None:
    scene = ObserverScene(an_event().archived().in_phase(phase).build())
    await scene.watched(WatchEvent("ADDED", scene.suspend(True)))
    assert scene.kube.count("patch_status") == 0


async def test_an_event_that_cannot_be_read_or_written_costs_no_other() -> None:
    scene = ObserverScene()
    changed = scene.suspend(True)
    scene.kube.go_away("get", 1)
    unreadable = {"metadata": {"name": "odd"}, "spec": {"suspend": "maybe"}}
    await scene.watched(
        WatchEvent("ADDED", unreadable), WatchEvent("DELETED", changed), WatchEvent("MODIFIED", changed)
    )
    assert scene.generations() == {2}


async def test_the_pass_over_all_events_observes_a_change_that_no_process_saw() -> None:
    scene = ObserverScene()
    scene.suspend(True)
    stored = await scene.observer.observe(EnvelopeEvent.parse(scene.suspend(False)))
    assert scene.generations() == {3}
    assert stored == scene.kube.stored(NAME)
    assert await scene.observer.observe(stored) is stored
    assert scene.kube.count("patch_status") == 1


async def test_a_newer_state_of_the_event_wins() -> None:
    scene = ObserverScene()
    changed = EnvelopeEvent.parse(scene.suspend(True))
    scene.kube.edit(EnvelopeEvent, NAME, {"status": {"phase": "Pending"}})
    assert await scene.observer.observe(changed) is changed
    assert scene.kube.stored(NAME).status.phase is Phase.PENDING


async def test_an_api_server_that_is_down_is_an_error_of_the_caller() -> None:
    scene = ObserverScene()
    scene.kube.trouble["patch_status"] = Unavailable(0, "NoAnswer", "the API server did not answer")
    with pytest.raises(Unavailable):
        await scene.observer.observe(EnvelopeEvent.parse(scene.suspend(True)))

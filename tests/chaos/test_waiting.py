"""
Events that wait while the controller is killed: their times are in their status, and a restart keeps them
(rule 10).
"""

import asyncio
from datetime import UTC, datetime

from counterfoil.resources import EnvelopeEvent, Phase
from tests.support.pauses import eventually
from tests.support.scenes.chaos import Scene


async def all_wait(scene: Scene, number: int) -> list[EnvelopeEvent] | None:
    """The events, when this number of them has a next attempt in the future."""
    events = await scene.events()
    waiting = [each for each in events if each.status.next_attempt_time and each.status.attempts]
    return waiting if len(waiting) == number else None


async def test_two_hundred_waiting_events_stay_waiting_after_a_restart(scene: Scene) -> None:
    controller = await scene.controller()
    scene.standin.fault("envelope", status=503, retry_after=3000)
    await asyncio.gather(*(scene.note(scene.envelope(2000)) for _ in range(200)))
    before = await eventually(lambda: all_wait(scene, 200))
    controller.kill()
    scene.standin.clear_faults()
    scene.standin.clear_requests()

    await controller.start()
    canary = await scene.note(scene.envelope(2000))
    await scene.holds(canary)

    after = {each.name: each for each in await scene.events()}
    assert {after[each.name].metadata.resource_version for each in before} == {
        each.metadata.resource_version for each in before
    }
    assert min(each.status.next_attempt_time or NEVER for each in before) > datetime.now(UTC)
    asked_about = {each.id for each in scene.standin.requests("envelope")}
    assert asked_about == {after[canary].spec.envelope_id}


NEVER = datetime.max.replace(tzinfo=UTC)


async def test_events_whose_time_comes_after_a_restart_are_worked_then_and_not_before(scene: Scene) -> None:
    controller = await scene.controller()
    scene.standin.fault("envelope", status=503, retry_after=10)
    await asyncio.gather(*(scene.note(scene.envelope(2000)) for _ in range(20)))
    before = await eventually(lambda: all_wait(scene, 20))
    controller.kill()
    scene.standin.clear_faults()
    scene.standin.clear_requests()
    assert min(each.status.next_attempt_time or NEVER for each in before) > datetime.now(UTC)

    await controller.start()

    for event in before:
        assert (await scene.ended(event.name)).status.phase is Phase.SUCCEEDED
        validated, _confirmed_gone = scene.standin.requests("envelope", event.spec.envelope_id)
        assert event.status.next_attempt_time is not None
        assert validated.time >= event.status.next_attempt_time

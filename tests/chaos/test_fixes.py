"""
An Archive is fixed, and the controller that would retry the failed events is not running, or is interrupted
(rules 6 and 10): nobody has to click anything for that.
"""

import asyncio
import json
from typing import Any
from urllib.parse import unquote

import pytest

from counterfoil.resources import Archive, EnvelopeEvent, Phase, is_condition_true
from counterfoil.resources.naming import envelope_id, shard
from sandbox.servers.proxies import Passage, TrapPoint
from tests.support.pauses import eventually
from tests.support.scenes.chaos import Scene, kills

SHARDS = "4"
WORKS, PROBES, COLLECTS = "0", "1", "3"
"""Names of the controllers, of four, that work on the event, check the Archive, and pass over all events."""

TAGS = {"customer": {"xpath": "//NobodyWroteThis", "required": True}}


def lists_what_failed(each: Passage) -> bool:
    """Events are listed that may be re-opened."""
    return each.path.endswith("/envelopeevents") and "fieldSelector=status.phase=Failed" in unquote(
        each.query
    )


def reopens(each: Passage) -> bool:
    """An event is re-opened."""
    return each.method == "PATCH" and each.path.endswith("/status") and "CauseSolved" in each.body.decode()


@pytest.mark.parametrize("where", [lists_what_failed, reopens])
async def test_a_controller_killed_as_it_tries_again_what_had_failed_does_so_after_a_restart(
    scene: Scene, where: Any
) -> None:
    await nobody_waits_for_long(scene)
    await demand(scene, TAGS)
    controller = await scene.controller()
    event = await failed(scene)
    trap = scene.api.trap(where, TrapPoint.ARRIVED, kills(controller))

    await demand(scene, None)
    await eventually(trap.sprung.is_set)
    await controller.start()

    await succeeds(scene, event)


async def test_a_controller_that_starts_after_another_saw_the_archive_fixed_retries_what_had_failed(
    scene: Scene,
) -> None:
    await nobody_waits_for_long(scene)
    await demand(scene, TAGS)
    names = [f"controller-{each}" for each in range(int(SHARDS))]
    settings = await scene.local_environment.assign_shards(*names)
    works, _, collects = await asyncio.gather(
        *(scene.controller(f"controller-{each}", None, **settings) for each in (WORKS, PROBES, COLLECTS))
    )
    event = await failed(scene)
    works.kill()
    collects.kill()
    await demand(scene, None)
    await eventually(lambda: is_settled(scene))

    await collects.start()
    reopened = await eventually(lambda: waits(scene, event))
    assert reopened.status.reason == "CauseSolved"
    await works.start()

    await succeeds(scene, event)


async def nobody_waits_for_long(scene: Scene) -> None:
    """Let what waits for a person fail soon."""
    await change(scene, "organization/acme", retry={"max": "1s", "deadline": "1s"})


async def demand(scene: Scene, tags: Any) -> None:
    """Let the Archive want these tags of each envelope."""
    await change(scene, "archive/dms", tags=tags)


async def change(scene: Scene, name: str, **spec: Any) -> None:
    """Change the spec of an object."""
    await scene.local_environment.kubectl("patch", name, "--type=merge", "-p", json.dumps({"spec": spec}))


async def failed(scene: Scene) -> str:
    """Create an event that fails for its tags; its name."""
    envelope = scene.envelope(3000)
    while shard(envelope_id(envelope)) % int(SHARDS) != int(WORKS):
        envelope = scene.envelope(3000)
    event = await scene.ended(await scene.note(envelope))
    assert (event.status.phase, event.status.cause) == (Phase.FAILED, "TagMissing")
    return event.name


async def succeeds(scene: Scene, name: str) -> None:
    """Wait until it ends without any action."""

    async def done() -> bool:
        event = await scene.event(name)
        return event.status.phase is Phase.SUCCEEDED

    await eventually(done)
    await scene.holds(name)


async def waits(scene: Scene, name: str) -> EnvelopeEvent | None:
    """Return the event once it is one that waits for its first attempt."""
    event = await scene.event(name)
    return event if event.status.phase is Phase.PENDING else None


async def is_settled(scene: Scene) -> bool:
    """Whether the Archive is known to work with its present spec."""
    archive = Archive.parse(await scene.kube.get(Archive, "dms"))
    is_seen = archive.status.observed_generation == archive.metadata.generation
    return is_seen and is_condition_true(archive.status.conditions, "Ready")

"""
Two controllers that share the work, each with its own half of the shards: no event has two workers, and no
two events of one envelope are worked on at the same time (rule 5).
"""

import asyncio
from itertools import groupby, pairwise

from counterfoil.resources import Phase
from counterfoil.resources.naming import envelope_id, shard
from sandbox.servers.proxies import Passage, stores
from tests.support.scenes.chaos import Scene

ACTIONS = ("envelopeFinished", "workstepFinished")


async def test_two_controllers_share_the_events_and_keep_those_of_one_envelope_apart(scene: Scene) -> None:
    first, second = scene.api, await scene.way_to_api()
    await scene.local_environment.organization(
        "acme",
        archive="dms",
        sender="anna",
        baseURL=scene.esaw.url,
        actions=[{"action": action, "handling": "Archive"} for action in ACTIONS],
        cleanup={"policy": "Keep"},
        limits={"concurrency": 16, "perSenderConcurrency": 16},
    )
    settings = await scene.local_environment.assign_shards("controller-0", "controller-1")
    await asyncio.gather(
        scene.controller("controller-0", first, **settings),
        scene.controller("controller-1", second, **settings),
    )
    # Long enough that two workers of one envelope would meet.
    scene.standin.fault("*", delay=0.03)

    envelopes = [scene.envelope(2000) for _ in range(20)]
    names = await asyncio.gather(*(scene.note(each, action) for each in envelopes for action in ACTIONS))
    events = [await scene.ended(name) for name in names]

    assert {event.status.phase for event in events} == {Phase.SUCCEEDED}
    for event in events:
        await scene.filed_once(event)
        mine, other = (first, second)[:: 1 if shard(envelope_id(event.spec.envelope_id)) % 2 == 0 else -1]
        assert any(each.stored(event.name) for each in mine.passages)
        assert not any(event.name in each.path for each in other.passages)
    for envelope in envelopes:
        assert never_at_the_same_time(asked_about(scene, envelope))
        assert one_after_the_other(scene, envelope)
    assert not scene.strays()


def asked_about(scene: Scene, envelope: str) -> list[Passage]:
    """All questions to eSAW about an envelope and its files."""
    ids = {envelope, *(each.file_id for each in scene.standin.files(envelope))}
    return scene.esaw.seen(lambda each: not ids.isdisjoint(each.path.split("/")))


def never_at_the_same_time(passages: list[Passage]) -> bool:
    """Whether each was answered before the next one came, as it is when one worker asks."""
    return all(earlier.answered < later.arrived for earlier, later in pairwise(passages))


def one_after_the_other(scene: Scene, envelope: str) -> bool:
    """Whether the first event of an envelope was finished before the second one was begun."""
    patches = [each for way in scene.ways for each in way.seen(stores()) if f"/{envelope}-" in each.path]
    patches.sort(key=lambda each: each.arrived)
    return len(list(groupby(patches, key=lambda each: each.path))) == len(ACTIONS)

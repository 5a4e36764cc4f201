"""
Leases of shards: controllers that both believe in one shard, that are lost, that stop, and that change the
number of shards. Every document is archived whole and once, and nothing is deleted without proof (rules 3, 4,
5).
"""

import asyncio
import os
import signal

from counterfoil.resources import EnvelopeEvent, Phase
from counterfoil.resources.lease import Lease
from sandbox.environment.processes import CounterfoilProcess
from sandbox.esaw.core.model import FileKind
from sandbox.servers.proxies import asks
from tests.support.archive_contents import proves_itself, sha256_of
from tests.support.pauses import eventually
from tests.support.scenes.chaos import Scene

FAST = {"lease_duration": "3s", "renew_deadline": "2s", "retry_period": "1s"}
"""The shortest Leases, so that a test does not wait."""

LONG_LEASE = "1h"

ENVELOPES = 200
PAUSES = 4

TRAILS = {FileKind.AUDIT_TRAIL, FileKind.AUDIT_TRAIL_XML}


async def many_envelopes(scene: Scene, count: int) -> list[str]:
    """Create envelopes whose trail differs at each download, and their events; return the names of the
    events."""
    await scene.local_environment.organization(
        "acme",
        archive="dms",
        sender="anna",
        baseURL=scene.esaw.url,
        limits={"concurrency": 16, "perSenderConcurrency": 16},
    )
    scene.standin.fault("file", delay=0.02)
    envelopes = [scene.envelope(3000, audit_trail_differs=True) for _ in range(count)]
    return list(await asyncio.gather(*(scene.note(each) for each in envelopes)))


async def finished(scene: Scene) -> list[EnvelopeEvent]:
    """Return the events that are finished now."""
    return [event for event in await scene.events() if event.status.phase.is_final]


async def holds_what_was_promised(scene: Scene, names: list[str]) -> None:
    """Nothing is missing, doubled or half, and each envelope was deleted."""
    for name in names:
        event = await scene.ended(name)
        assert event.status.phase is Phase.SUCCEEDED, event.status
        await is_archived_whole(scene, event)
        assert not scene.standin.exists(event.spec.envelope_id)
    assert not scene.strays()


async def nothing_was_deleted_without_proof(scene: Scene) -> None:
    """Each delete was asked for after ``Archived=True`` was stored."""
    for event in await scene.events():
        scene.deleted_last(event)


async def is_archived_whole(scene: Scene, event: EnvelopeEvent) -> None:
    """The documents are those of eSAW, all files are those of the manifest and of the status, and there is no
    other file."""
    files = scene.standin.files(event.spec.envelope_id)
    archived = {each.file_id: each.sha256 for each in event.status.documents}
    assert archived.keys() == {each.file_id for each in files}
    for each in files:
        if each.kind not in TRAILS:
            assert archived[each.file_id] == scene.standin.expected_sha256(each.file_id)
    paths = {each.file_id: scene.archive_folder.path(each.location or "") for each in event.status.documents}
    assert {file_id: sha256_of(path) for file_id, path in paths.items()} == archived
    assert event.status.archive is not None
    folder = scene.archive_folder.path(event.status.archive.manifest or "").parent
    assert {each.file_id: each.sha256 for each in scene.archive_folder.manifest(folder).files} == archived
    mine = {path for path in scene.archive_folder.files() if event.spec.envelope_id in str(path)}
    assert mine == scene.archive_folder.mentions(folder)
    assert await proves_itself(folder) == ""


async def holder(scene: Scene, name: str = "counterfoil-shard-0-of-1") -> str:
    """Return who holds a Lease."""
    return Lease.parse(await scene.kube.get(Lease, name)).spec.holder_identity or ""


async def test_controllers_that_are_paused_beyond_their_leases_in_mid_archive_harm_nothing(
    scene: Scene,
) -> None:
    names = await many_envelopes(scene, ENVELOPES)
    processes = {
        "first": await scene.controller("first", None, **FAST),
        "second": await scene.controller("second", await scene.way_to_api(), **FAST),
    }
    for _ in range(PAUSES):
        # None for a moment if a busy machine renewed the Lease too late.
        paused = await eventually(lambda: holder(scene))
        before = len(await finished(scene))

        async def is_further(before: int = before) -> bool:
            return len(await finished(scene)) > before + 5

        await eventually(is_further)
        os.kill(processes[paused].pid, signal.SIGSTOP)

        async def is_taken_over(paused: str = paused) -> bool:
            return await holder(scene) not in ("", paused)

        await eventually(is_taken_over)
        await eventually(is_further)
        os.kill(processes[paused].pid, signal.SIGCONT)

    await holds_what_was_promised(scene, names)
    await nothing_was_deleted_without_proof(scene)
    assert any("lost shard 0" in each.log.read_text() for each in processes.values())


async def test_two_controllers_that_hold_one_lease_under_one_name_harm_nothing(scene: Scene) -> None:
    """A mistake of a person: nothing but the fence and the versions of the events is between the two."""
    names = await many_envelopes(scene, 60)
    settings = {**FAST, "identity": "both"}
    await scene.controller("one", None, **settings)
    await scene.controller("other", await scene.way_to_api(), **settings)
    await holds_what_was_promised(scene, names)
    await nothing_was_deleted_without_proof(scene)


async def test_the_events_of_a_killed_controller_continue_elsewhere_after_the_duration_of_its_lease(
    scene: Scene,
) -> None:
    names = await many_envelopes(scene, 40)
    killed = await scene.controller("killed")
    await scene.controller("spare", await scene.way_to_api())
    await eventually(lambda: scene.esaw.seen(asks("delete")))
    killed.kill()
    names += await asyncio.gather(*(scene.note(scene.envelope(3000)) for _ in range(10)))
    await holds_what_was_promised(scene, names)
    assert await holder(scene) == "spare"


async def test_after_a_clean_stop_a_spare_controller_works_at_once(scene: Scene) -> None:
    """It does not wait for the end of the Lease, which would come after the end of this test."""
    way = await scene.way_to_api()
    stopped = await scene.controller("stopped", lease_duration=LONG_LEASE)
    await scene.controller("spare", way, lease_duration=LONG_LEASE)
    assert await holder(scene) == "stopped"
    await stopped.stop()
    await scene.holds(await scene.note(scene.envelope(2000)))
    assert await holder(scene) == "spare"


async def test_another_number_of_shards_loses_and_doubles_nothing(scene: Scene) -> None:
    """As in a rollout: the new controllers are ready before the old ones stop."""
    names = await many_envelopes(scene, 60)
    old = [await start(scene, f"old-{number}", shards="2") for number in range(2)]
    await eventually(lambda: scene.esaw.seen(asks("delete")))
    for number in range(2):
        await start(scene, f"new-{number}", shards="3")
        await old[number].stop()
    names += await asyncio.gather(
        *(scene.note(scene.envelope(3000, audit_trail_differs=True)) for _ in range(20))
    )
    await holds_what_was_promised(scene, names)
    await nothing_was_deleted_without_proof(scene)

    async def new_ones_hold_all() -> bool:
        holders = [await holder(scene, f"counterfoil-shard-{number}-of-3") for number in range(3)]
        return all(each.startswith("new-") for each in holders)

    await eventually(new_ones_hold_all)


async def start(scene: Scene, name: str, **settings: str) -> CounterfoilProcess:
    """Start a controller with its own way to the API server."""
    return await scene.controller(name, await scene.way_to_api(), **FAST, **settings)

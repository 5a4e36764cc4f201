"""
SIGKILL for the controller at every boundary of its work, and in the middle of it (rules 3, 4 and 10).

The product has no code for this: a proxy on one of its connections sees the request that marks the boundary
and acts. Afterwards a new controller is started, and everything must be as if nothing had happened. That
controller is the next test's victim, since starting one costs more than all the rest; each test has its own
envelope.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from sandbox.controlplane.control_plane import ControlPlane
from sandbox.environment.processes import CounterfoilProcess
from sandbox.servers.proxies import (
    Cut,
    Passage,
    Proxy,
    TrapPoint,
    Where,
    asks,
    begins_parts,
    of_file,
    puts,
    stores,
)
from sandbox.servers.s3_rclone import S3Server
from tests.support.pauses import eventually
from tests.support.scenes.chaos import Scene, kills, opened

MIB = 1024 * 1024


@dataclass(frozen=True)
class KillPoint:
    """Boundary at which the controller is killed."""

    name: str
    where: Where
    point: TrapPoint
    after_bytes: int = 0

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Victim:
    """A controller that works, and what it works with."""

    scene: Scene
    controller: CounterfoilProcess

    async def is_killed_at(self, way: Proxy, kill_point: KillPoint, envelope: str) -> str:
        """Let it work on an envelope, kill it there, start it again; the name of the event."""
        trap = way.trap(
            kill_point.where, kill_point.point, kills(self.controller), after_bytes=kill_point.after_bytes
        )
        event = await self.scene.note(envelope)
        await eventually(trap.sprung.is_set)
        await self.controller.start()
        return event

    async def stands(self) -> None:
        """Make sure that it works and nothing threatens it, also when the test before failed."""
        for way in (self.scene.api, self.scene.esaw, self.scene.s3):
            if way is not None:
                way.clear()
        if self.controller.server.ended:
            await self.controller.start()


@pytest.fixture(scope="module")
async def any_victim(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Victim]:
    """A controller with a folder as its archive, for the whole module."""
    await plane.namespace("kills-folder")
    async with opened(plane, "kills-folder", tmp_path_factory.mktemp("folder")) as scene:
        yield Victim(scene, await scene.controller())


@pytest.fixture(scope="module")
async def any_s3_victim(
    plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory, s3: S3Server
) -> AsyncIterator[Victim]:
    """A controller with a bucket as its archive, for the whole module."""
    await plane.namespace("kills-bucket")
    async with opened(plane, "kills-bucket", tmp_path_factory.mktemp("bucket"), s3=s3) as scene:
        yield Victim(scene, await scene.controller())


@pytest.fixture
async def victim(any_victim: Victim) -> Victim:
    """A controller with a folder as its archive."""
    await any_victim.stands()
    return any_victim


@pytest.fixture
async def s3_victim(any_s3_victim: Victim) -> Victim:
    """A controller with a bucket as its archive."""
    await any_s3_victim.stands()
    return any_s3_victim


def both_sides_of(name: str, where: Where) -> list[KillPoint]:
    """Just before something is done, and when it is done but the answer is not there yet."""
    return [
        KillPoint(f"before-{name}", where, TrapPoint.ARRIVED),
        KillPoint(f"unheard-{name}", where, TrapPoint.DONE),
    ]


AT_THE_API_SERVER = [
    *both_sides_of("claiming-the-names", stores(phase="Archiving")),
    *both_sides_of("storing-the-proof", stores(true="Archived")),
    *both_sides_of("storing-the-success", stores(phase="Succeeded")),
]


@pytest.mark.parametrize("kill_point", AT_THE_API_SERVER, ids=str)
async def test_a_controller_killed_as_it_stores_a_step_continues_after_a_restart(
    victim: Victim, kill_point: KillPoint
) -> None:
    scene = victim.scene

    event = await victim.is_killed_at(scene.api, kill_point, scene.envelope(3000, 40_000))

    await scene.holds(event)


AT_ESAW = [
    KillPoint("hearing-of-the-envelope", asks("envelope"), TrapPoint.DONE),
    KillPoint("hearing-of-the-metadata", asks("configuration"), TrapPoint.DONE),
    KillPoint("hearing-of-the-files", asks("files"), TrapPoint.DONE),
    KillPoint("asking-for-the-first-file", asks("file"), TrapPoint.ARRIVED),
    KillPoint("the-first-byte-of-a-file", asks("file"), TrapPoint.MIDDLE, after_bytes=1),
    *both_sides_of("deleting", asks("delete")),
]


@pytest.mark.parametrize("kill_point", AT_ESAW, ids=str)
async def test_a_controller_killed_as_it_asks_esaw_continues_after_a_restart(
    victim: Victim, kill_point: KillPoint
) -> None:
    scene = victim.scene

    event = await victim.is_killed_at(scene.esaw, kill_point, scene.envelope(3000, 40_000))

    await scene.holds(event)


async def test_a_controller_killed_between_two_files_does_not_file_the_first_one_twice(
    victim: Victim,
) -> None:
    scene, controller = victim.scene, victim.controller
    envelope = scene.envelope(3000, 40_000)
    first, second, *_ = scene.standin.files(envelope)
    scene.esaw.trap(of_file(second.file_id), TrapPoint.ARRIVED, kills(controller))

    event = await scene.note(envelope)
    await eventually(lambda: controller.server.ended)
    filed = {path: path.stat().st_mtime_ns for path in scene.archive_folder.files() if envelope in path.parts}
    await controller.start()

    await scene.holds(event)
    assert [path.name for path in filed] == [first.name]
    assert all(path.stat().st_mtime_ns == written for path, written in filed.items())


@pytest.mark.parametrize("passed", [3 * MIB, 5 * MIB - 1])
async def test_a_controller_killed_while_it_writes_a_file_leaves_nothing_of_it_behind(
    victim: Victim, passed: int
) -> None:
    scene, controller = victim.scene, victim.controller
    envelope = scene.envelope(5 * MIB)
    (document, *_) = scene.standin.files(envelope)

    async def kill_once_it_writes() -> None:
        # A file that was begun is what must not stay; only then the blow counts.
        await eventually(scene.archive_folder.temporary)
        controller.kill()
        raise Cut

    scene.esaw.trap(of_file(document.file_id), TrapPoint.MIDDLE, kill_once_it_writes, after_bytes=passed)

    event = await scene.note(envelope)
    await eventually(lambda: controller.server.ended)
    begun = scene.archive_folder.temporary()
    await controller.start()

    await scene.holds(event)
    assert begun


async def test_a_controller_killed_at_every_boundary_in_turn_still_comes_to_the_end(victim: Victim) -> None:
    scene, controller = victim.scene, victim.controller
    steps = [
        (scene.api, KillPoint("", stores(phase="Archiving"), TrapPoint.DONE)),
        (scene.esaw, KillPoint("", asks("file"), TrapPoint.MIDDLE, after_bytes=100)),
        (scene.api, KillPoint("", stores(true="Archived"), TrapPoint.ARRIVED)),
        (scene.esaw, KillPoint("", asks("delete"), TrapPoint.DONE)),
        (scene.api, KillPoint("", stores(phase="Succeeded"), TrapPoint.ARRIVED)),
    ]

    event = ""
    for way, kill_point in steps:
        trap = way.trap(
            kill_point.where, kill_point.point, kills(controller), after_bytes=kill_point.after_bytes
        )
        event = event or await scene.note(scene.envelope(3000, 40_000))
        await eventually(trap.sprung.is_set)
        await scene.restart(controller)

    await scene.holds(event)


def sends_a_later_part(each: Passage) -> bool:
    """A part but the first is sent."""
    return each.method == "PUT" and "partNumber=2" in each.query


def completes_parts(each: Passage) -> bool:
    """A multipart upload is completed: from then on the object is there."""
    return each.method == "POST" and "uploadId" in each.query


def reads_back(each: Passage) -> bool:
    """A document is read back."""
    return each.method == "GET" and each.path.endswith("contract-1.pdf")


AT_THE_BUCKET = [
    *both_sides_of("putting-a-document", puts("contract-1.pdf")),
    KillPoint("reading-back", reads_back, TrapPoint.DONE),
    *both_sides_of("putting-the-hash-file", puts("counterfoil.sha256")),
    *both_sides_of("putting-the-manifest", puts("counterfoil.json")),
]
AT_THE_BUCKET_IN_PARTS = [
    KillPoint("unheard-beginning", begins_parts, TrapPoint.DONE),
    *both_sides_of("a-later-part", sends_a_later_part),
    *both_sides_of("completing", completes_parts),
]


@pytest.mark.parametrize("kill_point", AT_THE_BUCKET, ids=str)
async def test_a_controller_killed_as_it_fills_a_bucket_continues_after_a_restart(
    s3_victim: Victim, kill_point: KillPoint
) -> None:
    scene = s3_victim.scene
    assert scene.s3 is not None

    event = await s3_victim.is_killed_at(scene.s3, kill_point, scene.envelope(3000, 40_000))

    await scene.holds(event)


@pytest.mark.parametrize("kill_point", AT_THE_BUCKET_IN_PARTS, ids=str)
async def test_a_controller_killed_as_it_sends_a_large_document_in_parts_continues_after_a_restart(
    s3_victim: Victim, kill_point: KillPoint
) -> None:
    scene = s3_victim.scene
    assert scene.s3 is not None

    event = await s3_victim.is_killed_at(scene.s3, kill_point, scene.envelope(12 * MIB))

    await scene.holds(event)

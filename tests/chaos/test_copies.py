"""
SIGKILL for the controller while it copies: nothing is doubled, and nothing is deleted before each required
copy is proved (rules 3 and 4).
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from counterfoil.resources import EnvelopeEvent, Organization, is_condition_true
from counterfoil.resources.routes import stored_copy
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.environment.processes import CounterfoilProcess
from sandbox.servers.proxies import Proxy, TrapPoint, Where, asks, stores
from tests.support.archive_contents import proves_itself
from tests.support.pauses import eventually
from tests.support.scenes.chaos import Scene, kills, opened

MIB = 1024 * 1024
PATH = "{{organization}}/{{envelope.id}}/{{file.name}}"


class CopyingScene:
    """A controller that archives into a folder, and copies into a second one."""

    def __init__(self, scene: Scene, worm: Path, controller: CounterfoilProcess) -> None:
        self.scene = scene
        self.worm = worm
        self.controller = controller

    def copied(self, envelope: str) -> list[Path]:
        """The files of the copy, also unfinished ones."""
        return [each for each in self.worm.rglob("*") if each.is_file() and envelope in each.parts]

    async def stands(self) -> None:
        """Make sure that the controller works, also when the test before failed."""
        self.scene.api.clear()
        self.scene.esaw.clear()
        if self.controller.server.ended:
            await self.controller.start()

    async def holds(self, name: str) -> None:
        """The envelope is archived and deleted, and its copy is whole, there once, and was proved before."""
        await self.scene.holds(name)
        event = await self.scene.event(name)
        envelope = event.spec.envelope_id
        copy = stored_copy(event.status, "worm")
        assert copy.verified_time is not None
        assert is_condition_true(event.status.conditions, "Copied")
        folder = Path((copy.manifest or "").removeprefix("file://")).parent
        assert await proves_itself(folder) == ""
        wanted = {each.name for each in self.scene.standin.files(envelope)}
        own = {"counterfoil.json", "counterfoil.sha256", "counterfoil.json.sig"}
        found = [each.name for each in self.copied(envelope)]
        assert len(found) == len(set(found)) == len(wanted) + len(own & set(found))
        assert self.proved_first(event)

    def proved_first(self, event: EnvelopeEvent) -> bool:
        """Whether each delete was asked for after ``Copied=True`` was stored."""
        writes = self.scene.api.seen(stores(true="Copied"))
        stored = min(each.arrived for each in writes if f"/{event.name}/" in f"{each.path}/")
        envelope = event.spec.envelope_id
        deletes = self.scene.esaw.seen(
            lambda each: asks("delete")(each) and each.json["EnvelopeId"] == envelope
        )
        return stored < min(each.arrived for each in deletes)


@pytest.fixture(scope="module")
async def any_scene(
    plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[CopyingScene]:
    await plane.namespace("kills-copies")
    worm = tmp_path_factory.mktemp("worm")
    async with opened(plane, "kills-copies", tmp_path_factory.mktemp("copies")) as scene:
        await scene.local_environment.archive("worm", filesystem={"root": str(worm)}, path=PATH)
        await scene.kube.patch(Organization, "acme", {"spec": {"copies": [{"archiveRef": {"name": "worm"}}]}})
        controller = await scene.controller()
        await scene.local_environment.ready("archive/worm")
        yield CopyingScene(scene, worm, controller)


@pytest.fixture
async def copying(any_scene: CopyingScene) -> CopyingScene:
    await any_scene.stands()
    return any_scene


STORES: dict[str, tuple[Where, TrapPoint]] = {
    "before-the-proof-of-the-archive": (stores(phase="Copying"), TrapPoint.ARRIVED),
    "unheard-proof-of-the-archive": (stores(phase="Copying"), TrapPoint.DONE),
    "before-the-proof-of-the-copy": (stores(true="Copied"), TrapPoint.ARRIVED),
    "unheard-proof-of-the-copy": (stores(true="Copied"), TrapPoint.DONE),
    "before-the-success": (stores(phase="Succeeded"), TrapPoint.ARRIVED),
}


@pytest.mark.parametrize("boundary", STORES)
async def test_a_controller_killed_as_it_stores_a_step_of_a_copy_continues(
    copying: CopyingScene, boundary: str
) -> None:
    await assert_continues(copying, copying.scene.api, *STORES[boundary])


@pytest.mark.parametrize("point", [TrapPoint.ARRIVED, TrapPoint.DONE], ids=["before", "unheard"])
async def test_a_controller_killed_at_the_delete_of_a_copied_envelope_continues(
    copying: CopyingScene, point: TrapPoint
) -> None:
    await assert_continues(copying, copying.scene.esaw, asks("delete"), point)


async def assert_continues(copying: CopyingScene, way: Proxy, where: Where, point: TrapPoint) -> None:
    trap = way.trap(where, point, kills(copying.controller))
    event = await copying.scene.note(copying.scene.envelope(3000, 40_000))
    await eventually(trap.sprung.is_set)
    await copying.controller.start()
    await copying.holds(event)


async def test_a_controller_killed_in_the_middle_of_a_copy_completes_it(copying: CopyingScene) -> None:
    envelope = copying.scene.envelope(3000, 8 * MIB, 8 * MIB)
    event = await copying.scene.note(envelope)
    await eventually(lambda: copying.copied(envelope))
    copying.controller.kill()
    await copying.controller.start()
    await copying.holds(event)

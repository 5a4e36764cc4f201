"""S19: an eSAW lists 2,000 files in each envelope and fails their downloads."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from counterfoil.resources import EnvelopeEvent, Organization, Phase, stored_size
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.esaw import DocumentSpec
from tests.support.pauses import eventually
from tests.support.scenes.controller import ControllerScene, a_controller_scene

FILES = 2000
ENVELOPES = 11
MAX_LISTS_BYTES = 10 * 1024 * 1024


@pytest.fixture
async def scene(plane: ControlPlane, tmp_path: Path) -> AsyncIterator[ControllerScene]:
    """A running controller, the organization ``acme`` with the hostile eSAW, and ``other``."""
    async with a_controller_scene(plane, tmp_path) as built:
        yield built


async def test_long_lists_of_one_organization_have_a_common_ceiling_and_cost_no_other(
    scene: ControllerScene,
) -> None:
    # Else the attempts of the first events take all the time of the others.
    await scene.local_environment.organization("acme", archive="dms", sender="anna", retry={"initial": "10m"})
    carl = await scene.organization("other")
    await scene.local_environment.record_sweep("other")
    await scene.until_condition(Organization, "other", "Ready", ("True", "Ready"))
    hostile = [await scene.note(hostile_envelope(scene)) for _ in range(ENVELOPES)]
    waiting = await eventually(lambda: waits_for_room(scene, hostile))

    assert all(not each.status.documents and not each.status.attempts for each in waiting)
    assert 5 * 1024 * 1024 < await bytes_of_lists(scene, hostile) <= MAX_LISTS_BYTES
    other = await scene.noted("other", carl)
    small = await scene.noted("acme")
    for each in (other, small):
        await scene.reaches(each, Phase.SUCCEEDED)
    assert await bytes_of_lists(scene, hostile) <= MAX_LISTS_BYTES


def hostile_envelope(scene: ControllerScene) -> str:
    """Make an envelope with 2,000 files, two of them audit trails, whose downloads fail."""
    name = "x" * 120
    files = [DocumentSpec(name=f"{name}-{each}.pdf", size=400) for each in range(FILES - 2)]
    envelope = scene.envelope(documents=files)
    scene.esaw.fault("file", id=envelope, status=500)
    return envelope


async def waits_for_room(scene: ControllerScene, names: list[str]) -> list[EnvelopeEvent] | None:
    """Return the events that wait for room once each event waits or tries to archive."""
    events = [await scene.event(each) for each in names]
    waiting = [each for each in events if each.status.reason == "FileListCeiling"]
    archiving = [each for each in events if each.status.phase is Phase.ARCHIVING]
    is_so = waiting and len(waiting) + len(archiving) == len(events)
    return waiting if is_so else None


async def bytes_of_lists(scene: ControllerScene, names: list[str]) -> int:
    return sum([stored_size((await scene.event(each)).status.documents) for each in names])

"""S18: under an Import, an eSAW lists envelopes that do not exist, that are another user's, again and again,
and cut off."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from controller.resync.event_load import NOT_ARCHIVED
from counterfoil.resources import (
    IMPORT_LABEL,
    ORGANIZATION_LABEL,
    EnvelopeEvent,
    Import,
    Organization,
    Phase,
    envelope_id,
    event_name,
    find_condition,
)
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.environment.processes import CounterfoilProcess
from sandbox.esaw import Behaviour
from sandbox.servers.plain_http import plain_http
from tests.support.pauses import eventually
from tests.support.scenes.controller import ControllerScene, a_controller_scene

CEILING = 100
"""Lower ceilings of an organization the API server does not take."""
FLOOD = 500
MOST_HITS = 300
MAX_REQUESTS = 20
"""Searches until a ceiling stops the Import: each answer has more envelopes than the ceilings allow."""
LONG_AGO = timedelta(days=100)
OLD = "old-stock"


@pytest.fixture
async def scene(plane: ControlPlane, tmp_path: Path) -> AsyncIterator[ControllerScene]:
    """A running controller, the organization ``acme`` with the hostile eSAW, and ``other``."""
    async with a_controller_scene(plane, tmp_path) as built:
        limits = {"unfinishedEvents": CEILING, "unknownEnvelopes": CEILING}
        await built.local_environment.organization("acme", archive="dms", sender="anna", limits=limits)
        await built.organization("other")
        await built.local_environment.record_sweep("other")
        for name in ("acme", "other"):
            await built.until_condition(Organization, name, "Ready", ("True", "Ready"))
        yield built


async def test_hostile_lists_cost_an_import_a_bounded_number_of_events_and_leave_room_for_callbacks(
    scene: ControllerScene,
) -> None:
    foreign = scene.envelope(scene.user("Bert"), sent_ago=LONG_AGO)
    mine = [scene.envelope(sent_ago=LONG_AGO - timedelta(days=each)) for each in range(3)]
    repeated = (*mine, *(each.upper() for each in mine), foreign, foreign, "../secrets")
    scene.esaw.set_behaviour(Behaviour(flood_hits=FLOOD, foreign_hits=repeated, most_hits=MOST_HITS))
    swept = len(scene.esaw.requests("find"))
    await create_import(scene)
    await until_it_is_held(scene)
    assert await unfinished(scene) <= CEILING // 2
    assert len(scene.esaw.requests("find")) - swept <= MAX_REQUESTS
    for each in mine:
        await scene.reaches(name_of(each), Phase.SUCCEEDED)
        assert scene.filed(each).count("contract.pdf") == 1
    assert scene.filed(foreign) == []
    assert scene.esaw.exists(foreign)
    assert len(mine) < len(await events_of_import(scene)) <= CEILING + len(mine)

    # A part of each ceiling is left to callbacks, and other organizations do not notice.
    receiver = await scene.local_environment.receiver()
    assert [await call(scene, receiver, each) for each in ("acme", "other")] == [200, 200]


async def create_import(scene: ControllerScene) -> None:
    begin = datetime.now(UTC) - LONG_AGO - timedelta(days=20)
    spec = {
        "organizationRef": {"name": "acme"},
        "from": f"{begin:%Y-%m-%d}",
        # The ceilings alone bound it.
        "maxUnfinished": 10 * CEILING,
    }
    body = {"apiVersion": Import.API_VERSION, "kind": Import.KIND, "metadata": {"name": OLD}, "spec": spec}
    await scene.kube.create(Import, body)


async def until_it_is_held(scene: ControllerScene) -> None:
    async def is_held() -> bool:
        status = Import.parse(await scene.kube.get(Import, OLD)).status
        ready = find_condition(status.conditions, "Ready")
        return ready is not None and ready.reason == "ImportCeiling"

    await eventually(is_held)


async def events_of_import(scene: ControllerScene) -> list[EnvelopeEvent]:
    labels = f"{IMPORT_LABEL}={OLD}"
    return [each async for each in scene.kube.list_readable(EnvelopeEvent, labels=labels)]


async def unfinished(scene: ControllerScene) -> int:
    return (await scene.kube.count_by_label(EnvelopeEvent, ORGANIZATION_LABEL, NOT_ARCHIVED))["acme"]


async def call(scene: ControllerScene, receiver: CounterfoilProcess, organization: str) -> int:
    """Let a callback about a new envelope arrive, and wait until it is archived; return the answer."""
    sender = None if organization == "acme" else scene.user("Carl")
    envelope = scene.envelope(sender)
    url = scene.local_environment.callback_url(organization, receiver)
    target = url.replace("##EnvelopeId##", envelope).replace("##Action##", "envelopeFinished")
    async with plain_http(timeout=60.0) as http:
        answer = (await http.get(target)).status_code
    if answer == 200 and organization == "acme":
        await scene.reaches(name_of(envelope), Phase.SUCCEEDED)
    return answer


def name_of(envelope: str) -> str:
    return event_name("acme", envelope_id(envelope), "envelopeFinished")

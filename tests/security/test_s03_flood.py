"""S3: a client knows one organization's callback URL, and calls it with random envelope ids."""

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from counterfoil.resources import ORGANIZATION_LABEL, EnvelopeEvent, Organization
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.servers.plain_http import plain_http
from tests.support.scenes.controller import ControllerScene, a_controller_scene

CEILING = 100
CALLS = 600
WORKERS = 20
CALLS_OF_OTHERS = 20


@pytest.fixture
async def scene(plane: ControlPlane, tmp_path: Path) -> AsyncIterator[ControllerScene]:
    """A running controller, and the organizations ``acme``, whose URL leaked, and ``other``."""
    async with a_controller_scene(plane, tmp_path) as built:
        limits = {"unfinishedEvents": CEILING, "unknownEnvelopes": CEILING}
        await built.local_environment.organization("acme", archive="dms", sender="anna", limits=limits)
        await built.organization("other")
        for name in ("acme", "other"):
            await built.until_condition(Organization, name, "Ready", ("True", "Ready"))
        yield built


async def test_a_flood_costs_its_organization_a_bounded_number_of_events_and_others_nothing(
    scene: ControllerScene,
) -> None:
    environment = scene.local_environment
    receivers = [await environment.receiver(f"receiver-{number}") for number in range(2)]
    leaked = [environment.callback_url("acme", each) for each in receivers]
    others = [environment.callback_url("other", each) for each in receivers]
    answers, real = Counter[int](), Counter[int]()
    async with plain_http(timeout=60.0) as http:

        async def call(url: str, envelope: str) -> int:
            query = {"envelopeId": envelope, "action": "envelopeFinished"}
            return (await http.get(url.partition("?")[0], params=query)).status_code

        known = scene.envelope()
        assert await call(leaked[0], known) == 200

        async def flood(worker: int) -> None:
            for number in range(CALLS // WORKERS):
                answers[await call(leaked[(worker + number) % 2], str(uuid.uuid4()))] += 1

        async with asyncio.TaskGroup() as tasks:
            for worker in range(WORKERS):
                tasks.create_task(flood(worker))
            for number in range(CALLS_OF_OTHERS):
                real[await call(others[number % 2], scene.envelope())] += 1

        # Nobody else is refused, and the organization's own known callback is not either.
        assert real == {200: CALLS_OF_OTHERS}
        assert [await call(each, known) for each in leaked] == [200, 200]

        # The receivers accepted at most a ceiling each, plus what the controller had not counted yet.
        labels = f"{ORGANIZATION_LABEL}=acme"
        events = [raw async for raw in scene.kube.list(EnvelopeEvent, labels=labels)]
        assert answers.total() == CALLS
        assert answers[503] > 0
        assert len(events) <= 3 * CEILING

        # The controller reports it and what to do, and the receivers still refuse what is new.
        await until_it_is_said(scene)
        assert [await call(each, str(uuid.uuid4())) for each in leaked] == [503, 503]
    assert 'outcome="organization_full"' in await receivers[0].metrics()


async def until_it_is_said(scene: ControllerScene) -> None:
    """Wait for a count that the Organization's condition Ready reports."""
    async with asyncio.timeout(300.0):
        while True:
            status, reason = await scene.condition_of(Organization, "acme", "Ready")
            if status == "False" and reason in {"TooManyUnknownEnvelopes", "TooManyUnfinishedEvents"}:
                return
            await asyncio.sleep(0.2)

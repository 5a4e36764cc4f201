"""
Outages of Counterfoil's dependencies during the work: the API server, the archive.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from counterfoil.resources import EnvelopeEvent, Organization, Phase, is_condition_true
from sandbox.controlplane.control_plane import ControlPlane, control_plane
from sandbox.environment.processes import CounterfoilProcess
from sandbox.servers.plain_http import plain_http
from sandbox.servers.proxies import Cut, Hold, Instead, Passage, TrapPoint, puts
from sandbox.servers.s3_rclone import S3Server, s3_server
from tests.support.callers import Answer, Caller, calling
from tests.support.pauses import eventually
from tests.support.scenes.chaos import BUCKET, Scene, opened

CALLS_PER_SECOND = 25
OUTAGE_SECONDS = 20.0


@pytest.fixture
async def own_plane() -> AsyncIterator[ControlPlane]:
    """A control plane that may be taken down."""
    async with control_plane() as running:
        await running.apply_crds()
        await running.namespace("outage")
        yield running


@dataclass
class Load:
    """Callbacks about new envelopes at this rate per second, for every response."""

    scene: Scene
    esaw: Caller
    answers: list[Answer] = field(default_factory=list)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Call while inside, and wait for the last answer at the end."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._run(group))
            yield
            self._stop.set()

    async def _run(self, group: asyncio.TaskGroup) -> None:
        while not self._stop.is_set():
            group.create_task(self._call())
            await asyncio.sleep(1 / CALLS_PER_SECOND)

    async def _call(self) -> None:
        self.answers.append(await self.esaw.call(self.scene.envelope(500)))

    def noted(self, since: float = 0.0) -> set[str]:
        """The envelopes whose callbacks were answered 200, of those asked about since then."""
        return {each.envelope for each in self.answers if each.status == 200 and each.asked_at >= since}


async def test_an_api_server_that_is_down_for_a_while_loses_no_callback_and_ends_no_process(
    own_plane: ControlPlane, tmp_path: Path
) -> None:
    async with opened(own_plane, "outage", tmp_path) as scene:
        await scene.controller()
        async with calling(await scene.receivers(2)) as esaw:
            now = asyncio.get_running_loop().time
            load = Load(scene, esaw)
            async with load.running():
                await eventually(lambda: len(load.noted()) > CALLS_PER_SECOND)
                await own_plane.kill_apiserver()
                gone = now()
                await asyncio.sleep(OUTAGE_SECONDS)  # this long an outage is what is tested
                coming = now()
                await own_plane.start_apiserver()
                await eventually(lambda: len(load.noted(since=coming)) > CALLS_PER_SECOND)
            stored = {each.spec.envelope_id for each in await scene.events()}
            refused = [each for each in load.answers if each.status != 200]
            # ESAW calls again about what was refused; some of it will do here.
            await call_until_noted(esaw, [each.envelope for each in refused[::10]])

        assert load.noted() <= stored
        assert {each.status for each in refused} == {503}
        assert all(each.retry_after for each in refused)
        meanwhile = [each for each in load.answers if gone <= each.asked_at < coming]
        assert {each.status for each in meanwhile} == {503}
        events = await worked_off(scene)
        assert {each.status.phase for each in events} == {Phase.SUCCEEDED}
        for event in events:
            scene.deleted_last(event)
        assert not any(each.server.ended for each in scene.local_environment.processes)


async def call_until_noted(esaw: Caller, envelopes: list[str]) -> None:
    """Call about each of them again and again until it is answered 200, as eSAW does."""
    left = envelopes

    async def none_is_left() -> bool:
        nonlocal left
        answers = await esaw.call_about(left, at_once=10)
        left = [each.envelope for each in answers if each.status != 200]
        return not left

    await eventually(none_is_left)


async def worked_off(scene: Scene) -> list[EnvelopeEvent]:
    """All events, when none is pending. The duration depends on the machine; the test checks that work
    continues."""
    left = len(await scene.events())
    while left:
        left = await eventually(partial(fewer_left, scene, left)) - 1
    return await scene.events()


async def fewer_left(scene: Scene, than: int) -> int:
    """Number of pending events, and one of them, if the number is below the limit; else nothing."""
    left = sum(not each.status.phase.is_final for each in await scene.events())
    return left + 1 if left < than else 0


async def cuts() -> None:
    raise Cut


def everything(each: Passage) -> bool:
    return True


@dataclass(frozen=True)
class Starting:
    """A controller that was started while the API server is unavailable."""

    scene: Scene
    begun: asyncio.Task[CounterfoilProcess]

    @property
    def process(self) -> CounterfoilProcess:
        return self.scene.local_environment.processes[-1]

    async def says(self, path: str) -> tuple[int, str]:
        async with plain_http() as http:
            answer = await http.get(f"{self.process.private}{path}")
            return answer.status_code, answer.text


@pytest.fixture
async def starting(scene: Scene) -> AsyncIterator[Starting]:
    scene.api.trap(everything, TrapPoint.ARRIVED, cuts, times=None)
    begun = asyncio.create_task(scene.controller())
    # Some tries: it has not ended after the first one.
    await eventually(lambda: len(scene.api.passages) > 3)
    yield Starting(scene, begun)
    begun.cancel()
    await asyncio.gather(begun, return_exceptions=True)


async def test_a_controller_that_starts_while_the_api_server_is_down_waits_and_then_works(
    starting: Starting,
) -> None:
    scene = starting.scene
    assert await starting.says("/healthz") == (200, "ok")
    assert await starting.says("/readyz") == (
        503,
        "elections: the Leases of the shards can't be used: ServerDisconnectedError\n",
    )

    scene.api.clear()
    await starting.begun

    await scene.holds(await scene.note(scene.envelope(2000)))


async def test_a_controller_that_still_waits_for_the_api_server_stops_on_a_signal(
    starting: Starting,
) -> None:
    await starting.process.server.terminate(patience=40)
    assert starting.process.server.exit_code == 0


@pytest.fixture
async def own_s3() -> AsyncIterator[S3Server]:
    """An S3 server that may be taken down."""
    async with s3_server(buckets=(BUCKET,)) as server:
        yield server


async def test_an_archive_that_goes_away_in_the_middle_is_waited_for_and_filled_when_it_is_back(
    plane: ControlPlane, namespace: str, tmp_path: Path, own_s3: S3Server
) -> None:
    async with opened(plane, namespace, tmp_path, s3=own_s3) as scene:
        assert scene.s3 is not None
        await scene.controller()
        hold = Hold()
        trap = scene.s3.trap(puts("contract-2.pdf"), TrapPoint.ARRIVED, hold)

        name = await scene.note(scene.envelope(3000, 40_000))
        await eventually(trap.sprung.is_set)
        own_s3.kill()
        hold.release()
        waiting = await eventually(lambda: waits_for_the_archive(scene, name))
        await own_s3.start()

        assert waiting.status.phase is Phase.ARCHIVING
        assert waiting.status.next_attempt_time is not None
        await scene.holds(name)


async def waits_for_the_archive(scene: Scene, name: str) -> EnvelopeEvent | None:
    event = await scene.event(name)
    return event if (event.status.reason or "").startswith("Archive") else None


FORBIDDEN = b'{"kind": "Status", "status": "Failure", "reason": "Forbidden", "code": 403}'


def reads_a_secret(passage: Passage) -> bool:
    return passage.method == "GET" and "/secrets/" in passage.path


async def test_an_api_server_that_refuses_what_it_permits_as_after_its_start_shuts_no_callback_out_and_asks_nobody(  # noqa: E501
    scene: Scene,
) -> None:
    refused: list[int] = []

    async def refuses() -> None:
        refused.append(403)
        raise Instead(403, FORBIDDEN)

    await scene.controller()
    async with calling(await scene.receivers(1)) as esaw:
        scene.api.trap(reads_a_secret, TrapPoint.ARRIVED, refuses, times=None)
        await eventually(lambda: len(refused) > 1)

        meanwhile = await esaw.call(scene.envelope(2000))

        assert meanwhile.status == 200
        (event,) = await scene.events()
        await eventually(partial(waits_for, scene, event.name, "ApiServerTrouble"))
        assert is_condition_true((await scene.sender()).status.conditions, "Authorized")
        organization = Organization.parse(await scene.kube.get(Organization, "acme"))
        assert is_condition_true(organization.status.conditions, "Ready")
        scene.api.clear()
        await scene.holds(event.name)


async def waits_for(scene: Scene, name: str, reason: str) -> bool:
    return (await scene.event(name)).status.reason == reason

"""Clean-up of finished events on a real API server, with exactly the controller's rights."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from controller.cache import Cache
from controller.resync.garbage_collector import GarbageCollector
from controller.resync.statistics import EventStatistics
from counterfoil.kube.client import KubeClient, connect
from counterfoil.kube.errors import NotFound
from counterfoil.resources import Envelope, EnvelopeEvent, Phase, Resource, envelope_id, to_json_dict
from counterfoil.resources.event_factory import new_event
from sandbox.controlplane import rbac
from sandbox.controlplane.control_plane import ControlPlane
from tests.support.builders import NOON, AClock, an_event, an_organization

LONG_AGO = NOON - timedelta(days=34)
PATIENCE_SECONDS = 60.0


class Scene:
    """A namespace with expired events, and the garbage collector that deletes them."""

    def __init__(self, administrator: KubeClient, controller: KubeClient) -> None:
        self.administrator = administrator
        # The API server sets the time of creation, and the collector believes no mark on a young Envelope.
        self.clock = AClock(datetime.now(UTC) + timedelta(days=40))
        self.cache = Cache()
        self.cache.organizations.put(an_organization(ttl={"failed": "72h"}))
        self.passes = asyncio.Semaphore(0)
        self.garbage_collector = GarbageCollector(
            kube=controller,
            cache=self.cache,
            clock=self.clock,
            machine_clock=self.clock,
            statistics=EventStatistics(),
            reopeners=(),
            pass_finished=lambda began, failures: self.passes.release(),
        )

    async def envelope(self) -> str:
        """Record the sender of an envelope; return the envelope's id."""
        name = str(uuid.uuid4())
        spec = {
            "organizationRef": {"name": "acme"},
            "envelopeID": name,
            "senderRef": {"name": "anna"},
        }
        body = {"apiVersion": Envelope.API_VERSION, "kind": Envelope.KIND, "metadata": {"name": name}}
        await self.administrator.create(Envelope, {**body, "spec": spec})
        return name

    async def event(self, envelope: str, phase: Phase, action: str = "envelopeFinished") -> str:
        """Note an event down that archived its envelope long ago; return its name."""
        body = new_event(organization="acme", envelope=envelope_id(envelope), action=action)
        name = str(body["metadata"]["name"])
        await self.administrator.create(EnvelopeEvent, body)
        status = an_event(envelope).archived().status(phase=phase, completion_time=LONG_AGO).build().status
        await self.administrator.patch_status(
            EnvelopeEvent, name, to_json_dict(status), resource_version=None
        )
        return name

    async def is_there(self, kind: type[Resource], name: str) -> bool:
        """Whether it exists."""
        try:
            await self.administrator.get(kind, name)
        except NotFound:
            return False
        return True

    async def pass_finished(self, times: int) -> None:
        """Run the garbage collector for this number of passes."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            task = asyncio.create_task(self.garbage_collector.run())
            for _ in range(times):
                await self.passes.acquire()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def scene(plane: ControlPlane, namespace: str) -> AsyncIterator[Scene]:
    for each in rbac.service_account_with_rules("controller", rbac.CONTROLLER):
        await plane.objects(namespace).apply(each)
    kubeconfig = await plane.kubeconfig_for("controller", namespace)
    async with (
        connect(namespace=namespace, kubeconfig=plane.kubeconfig) as administrator,
        connect(namespace=namespace, kubeconfig=kubeconfig) as controller,
    ):
        yield Scene(administrator, controller)


async def test_an_envelope_goes_after_its_last_event_and_one_that_is_still_out_stays(scene: Scene) -> None:
    filed, out = await scene.envelope(), await scene.envelope()
    events = [await scene.event(filed, Phase.SUCCEEDED), await scene.event(filed, Phase.FAILED, "other")]

    await scene.pass_finished(2)

    assert [await scene.is_there(EnvelopeEvent, each) for each in events] == [False, False]
    assert not await scene.is_there(Envelope, filed)
    assert await scene.is_there(Envelope, out)

"""
Ways to the API server that break in the middle of many callbacks, each in another manner, and work again: the
receiver lives, says 503 meanwhile, and takes every callback as soon as there is a way again.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sandbox.controlplane.control_plane import ControlPlane
from sandbox.environment.processes import CounterfoilProcess, running_receiver
from tests.support.pauses import eventually
from tests.support.scenes.receiver_site import Site, a_guid, a_site
from tests.support.servers.breakable_connections import BreakableProxy, Fault

MANY = 200
"""Callbacks at once, several times as many as the receiver has connections."""


@dataclass
class ProxiedReceiver:
    """A receiver that reaches the API server through a line."""

    proxy: BreakableProxy
    site: Site
    receiver: CounterfoilProcess
    statuses: list[int] = field(default_factory=list)
    """Responses to callbacks, in order."""

    async def call(self) -> int:
        """Call about a new envelope."""
        self.statuses.append(await self.site.status(self.receiver, a_guid()))
        return self.statuses[-1]

    async def call_about_many(self, times: int = 1) -> set[int]:
        """Call about many at once; what was answered."""
        return set(await asyncio.gather(*(self.call() for _ in range(times * MANY))))

    async def takes_many(self) -> None:
        """
        Call about many at once, each again until it is taken, as eSAW does.

        A slow machine may refuse some of them with 503.
        """
        await asyncio.gather(*(eventually(self.takes_one) for _ in range(MANY)))

    async def takes_one(self) -> bool:
        """Whether a callback about a new envelope is taken."""
        return await self.call() == 200


@pytest.fixture
async def proxied(plane: ControlPlane, namespace: str, tmp_path: Path) -> AsyncIterator[ProxiedReceiver]:
    server = urlsplit(plane.url)
    async with AsyncExitStack() as opened, BreakableProxy(server.hostname or "", server.port or 0) as proxy:
        site = await a_site(plane, namespace, tmp_path, opened)
        way = json.loads(site.kubeconfig.read_text())
        way["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{proxy.port}"
        kubeconfig = tmp_path / "lined.kubeconfig"
        kubeconfig.write_text(json.dumps(way))
        kubeconfig.chmod(0o600)
        receiver = await opened.enter_async_context(
            running_receiver(
                kubeconfig=kubeconfig,
                namespace=namespace,
                log=tmp_path / "lined.log",
                settings={"callback_burst": "10000"},
            )
        )
        await receiver.until_ready()
        yield ProxiedReceiver(proxy, site, receiver)


@pytest.mark.parametrize("fault", list(Fault), ids=lambda fault: fault.name.lower())
async def test_callbacks_are_taken_again_however_the_way_to_the_api_server_broke_under_hundreds_of_them(
    proxied: ProxiedReceiver, fault: Fault
) -> None:
    await proxied.takes_many()

    proxied.proxy.cut(fault)
    proxied.statuses.clear()
    under_way = asyncio.create_task(proxied.call_about_many(4))
    await eventually(lambda: proxied.statuses.count(503) > 3 * MANY)
    proxied.proxy.repair()

    assert await under_way <= {200, 503}
    await eventually(proxied.takes_one)
    await proxied.takes_many()
    assert not proxied.receiver.server.ended


async def test_idle_connections_that_were_dropped_silently_cost_one_callback_and_no_more(
    proxied: ProxiedReceiver,
) -> None:
    await proxied.takes_many()
    proxied.proxy.cut(Fault.SILENT)
    proxied.proxy.repair()

    assert [await proxied.call() for _ in range(10)] == [503] + [200] * 9

"""A namespace of the control plane with an Organization, and receivers in it as processes."""

import uuid
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from counterfoil.callback_auth import basic_auth_hash, token_hash
from counterfoil.kube.client import connect
from counterfoil.resources import API_VERSION, EnvelopeEvent, Organization
from sandbox.controlplane import rbac
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.environment.processes import CounterfoilProcess, running_receiver
from tests.support.pauses import eventually

TOKEN = "a-good-token-0123456789"


def a_raw_organization(name: str = "acme", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": "Organization",
        "metadata": {"name": name},
        "spec": {
            "baseURL": "https://esaw.example.com",
            "archiveRef": {"name": "dms"},
            "callback": {"tokenSecretRefs": [{"name": "callback", "key": "token"}]},
            **spec,
        },
    }


def a_guid() -> str:
    return str(uuid.uuid4())


@dataclass
class Site:
    """A namespace with an organization and receivers in it, and a client of theirs."""

    plane: ControlPlane
    namespace: str
    kubeconfig: Path
    folder: Path
    session: aiohttp.ClientSession
    opened: AsyncExitStack

    async def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return await self.plane.kubectl(*arguments, "-n", self.namespace, stdin=stdin)

    async def create(self, raw: Mapping[str, Any]) -> None:
        await self.plane.objects(self.namespace).apply(raw)

    async def publish(
        self, name: str, *, tokens: tuple[str, ...] = (TOKEN,), password: str | None = None
    ) -> None:
        """Write into an Organization's status what the controller would."""
        status: dict[str, Any] = {"callbackTokenHashes": [token_hash(each, bytes(16)) for each in tokens]}
        if password is not None:
            hashes = [basic_auth_hash("esaw", password, token=each, salt=bytes(16)) for each in tokens]
            status["basicAuthHashes"] = hashes
        async with self.kube() as kube:
            await kube.patch_status(Organization, name, status, resource_version=None)

    async def receiver(self, **settings: str) -> CounterfoilProcess:
        """Start one more receiver and wait until it is ready."""
        started = await self.opened.enter_async_context(
            running_receiver(
                kubeconfig=self.kubeconfig,
                namespace=self.namespace,
                log=self.folder / f"receiver-{a_guid()}.log",
                settings=settings,
            )
        )
        await started.until_ready()
        return started

    async def asked(
        self,
        receiver: CounterfoilProcess,
        envelope: str,
        action: str = "envelopeFinished",
        *,
        method: str = "GET",
        path: str = f"/callbacks/acme/{TOKEN}",
        **options: Any,
    ) -> aiohttp.ClientResponse:
        """Call back and return the answer, which must not have a body."""
        url = f"{receiver.public}{path}?envelopeId={envelope}&action={action}"
        async with self.session.request(method, url, **options) as answer:
            assert await answer.read() == b""
            return answer

    async def status(
        self, receiver: CounterfoilProcess, envelope: str, *arguments: str, **options: Any
    ) -> int:
        return (await self.asked(receiver, envelope, *arguments, **options)).status

    async def events(self) -> list[EnvelopeEvent]:
        async with self.kube() as kube:
            return [EnvelopeEvent.parse(raw) async for raw in kube.list(EnvelopeEvent)]

    async def event(self) -> EnvelopeEvent:
        """The only event there is."""
        (only,) = await self.events()
        return only

    def kube(self) -> Any:
        return connect(namespace=self.namespace, kubeconfig=self.plane.kubeconfig)


async def a_site(plane: ControlPlane, namespace: str, folder: Path, opened: AsyncExitStack) -> Site:
    for each in rbac.service_account_with_rules("receiver", rbac.RECEIVER):
        await plane.objects(namespace).apply(each)
    session = await opened.enter_async_context(
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), trust_env=False)
    )
    kubeconfig = await plane.kubeconfig_for("receiver", namespace)
    site = Site(plane, namespace, kubeconfig, folder, session, opened)
    await site.create(a_raw_organization())
    await site.publish("acme")
    return site


async def answers(site: Site, receiver: CounterfoilProcess, status: int, **options: Any) -> None:
    """Wait until callbacks of an action that nobody asked for are answered like that."""

    async def it_does() -> bool:
        return await site.status(receiver, a_guid(), "nothingAsked", **options) == status

    await eventually(it_does)

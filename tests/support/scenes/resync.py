"""A namespace in memory with a resync, whose eSAW accepts every key."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path

from controller.resync.resync import Resync
from controller.scheduling.retry_policy import RESYNC_SECONDS
from counterfoil.esaw import (
    ApiToken,
    EsawClient,
    EsawUserClient,
    FoundEnvelope,
    WhoAmI,
)
from counterfoil.esaw.client import EsawClients
from counterfoil.esaw.errors import EsawError
from counterfoil.resources import (
    Archive,
    EnvelopeEvent,
    Organization,
    Sender,
)
from tests.support.builders import (
    ANNA,
    ENVELOPE,
    KEY,
    NOON,
    a_sender,
    an_organization,
)
from tests.support.fakes.esaw import FakeEsawClient
from tests.support.fakes.reconcile_context import an_archive
from tests.support.scenes.waiting_events import HandlersScene, turns


class AcceptedUser(EsawUserClient):
    """Every token is Anna's, and she has one envelope, sent a minute before noon."""

    def __init__(self, token: ApiToken, client: "AcceptingEsawClient") -> None:
        self.token = token
        self.client = client

    async def whoami(self) -> WhoAmI:
        return WhoAmI(user_id=ANNA)

    async def find(
        self, *, start: datetime | None = None, end: datetime | None = None, **_: object
    ) -> tuple[FoundEnvelope, ...]:
        if self.client.search_error is not None:
            self.client.failed_searches += 1
            raise self.client.search_error
        assert start is not None
        assert end is not None
        return (FoundEnvelope(id=ENVELOPE),) if start < NOON - timedelta(minutes=1) < end else ()


class AcceptingEsawClient(FakeEsawClient):
    """Accepts every key; does not answer while ``hangs`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.hangs = False
        self.search_error: EsawError | None = None
        self.failed_searches = 0
        self._answering = asyncio.Event()

    def answers(self) -> None:
        """Let it answer from now on, also who waits."""
        self.hangs = False
        self._answering.set()

    def as_user(self, token: ApiToken) -> EsawUserClient:
        return AcceptedUser(token, self)

    async def version(self, token: ApiToken | None = None) -> str:
        if self.hangs:
            await self._answering.wait()
        return await super().version(token)


class EsawClientPerOrganization(EsawClients):
    """One eSAW per organization."""

    def __init__(self) -> None:
        self._clients = {}
        self._esaw_clients: dict[str, AcceptingEsawClient] = {}

    def for_organization(self, organization: Organization) -> EsawClient:
        return self.named(organization.name)

    def named(self, name: str) -> AcceptingEsawClient:
        return self._esaw_clients.setdefault(name, AcceptingEsawClient())


class ResyncScene:
    """A namespace with a resync; ``round`` makes its rounds, without any waiting."""

    def __init__(self, folder: Path, *, shard: int = 0, shards: int = 1) -> None:
        self.esaw_clients = EsawClientPerOrganization()
        self.scene = HandlersScene(shard=shard, shards=shards, esaw_clients=self.esaw_clients)
        self.root = folder / "dms"
        self.root.mkdir(exist_ok=True)
        self.resync: Resync = self.scene.resync
        self.put(
            an_organization(), a_sender(authorized=None), an_archive(filesystem={"root": str(self.root)})
        )
        self.scene.kube.secret_uses |= {"callback": "callback", "authorities": "trust"}
        self.scene.kube.secret_uses |= dict.fromkeys(("anna-key", "other-key", "late-key"), "token")
        self.scene.kube.secrets |= {
            "callback": {"token": b"callback-token-0123456789"},
            "anna-key": {"token": KEY.encode()},
        }

    def put(self, *resources: Organization | Sender | Archive | EnvelopeEvent) -> None:
        for each in resources:
            self.scene.kube.put(each)
            self.scene.observe(each)

    @asynccontextmanager
    async def resync_running(self) -> AsyncIterator[None]:
        async with self.scene.running(self.resync.run()):
            await settled()
            yield

    async def next_pass(self) -> None:
        """Let one more round be made."""
        self.scene.clock.advance(seconds=RESYNC_SECONDS + 1)
        self.resync.trigger()
        await settled()

    def organization(self, name: str = "acme") -> Organization:
        return Organization.parse(self.scene.kube.objects["organizations", name])

    def sender(self) -> Sender:
        return Sender.parse(self.scene.kube.objects["senders", "anna"])

    def archive(self) -> Archive:
        return Archive.parse(self.scene.kube.objects["archives", "dms"])


async def settled() -> None:
    """Wait until everything is done that needs no time but that of threads, which look at archives."""
    await turns()
    async with asyncio.timeout(60):
        while any(task.get_name().startswith("looking at Archive/") for task in asyncio.all_tasks()):
            await asyncio.sleep(0.001)
            await turns()
    await turns()

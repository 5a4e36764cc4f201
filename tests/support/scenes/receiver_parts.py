"""Parts for the tests of the receiver: an API server in memory, organizations, callbacks."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import format_datetime
from random import Random
from typing import Any

import aiohttp
import msgspec
from prometheus_client import CollectorRegistry

from counterfoil.callback_auth import basic_auth_hash, token_hash
from counterfoil.clock import Clock
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import Unavailable
from counterfoil.kube.served_namespaces import ServedNamespaces
from counterfoil.kube.watch import Raw, WatchEvent
from counterfoil.metrics import Metrics
from counterfoil.resources import API_VERSION, EnvelopeEvent, Resource
from counterfoil.settings import ListenAddress
from tests.support.builders import AClock
from tests.support.fakes.kube import InMemoryKubeClient, copied
from webhook.http_server.namespaces import NamespaceTable
from webhook.http_server.rate_limit import TokenBucket
from webhook.http_server.server import public_server
from webhook.receiver.callback_to_event import CallbackHandler
from webhook.receiver.delivery_counter import DeliveryCounter
from webhook.receiver.event_writer import EventWriter, write_turns
from webhook.receiver.limits import ReceiverLimits
from webhook.receiver.namespaces import ReceiverNamespace
from webhook.receiver.organizations import OrganizationCache
from webhook.receiver.readiness import WriteProbe
from webhook.receiver.unlisted_actions import UnlistedActionCounter

TOKEN = "a-good-token-0123456789"
PASSWORD = "geheim-0123456789"
GUID = "0f9c1c2e-5d1b-4f6e-9c55-2f1f0a3b7d10"
NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)


class ReceiverKubeClient(InMemoryKubeClient):
    """The API server of receivers: other tasks run before each request is carried out, as with a real one."""

    def __init__(self) -> None:
        super().__init__()
        self.server_clock: AClock | None = None
        """The clock of the header ``Date``; None: without the header."""
        self._news = asyncio.Event()

    @property
    def events(self) -> dict[str, Raw]:
        """The stored events by name, in the order of their creation."""
        return {name: raw for (plural, name), raw in self.objects.items() if plural == EnvelopeEvent.PLURAL}

    async def create(self, kind: type[Resource], body: Mapping[str, Any]) -> Raw:
        return await super().create(kind, self._with_defaults(body))

    def put_event(self, raw: Mapping[str, Any], **status: Any) -> None:
        """Store an event as it is, with its status."""
        stored = self._with_defaults(raw)
        stored["status"] |= status
        self.objects[EnvelopeEvent.PLURAL, stored["metadata"]["name"]] = stored

    def _with_defaults(self, raw: Mapping[str, Any]) -> Raw:
        stored: Raw = {"status": {"phase": "Pending"}, **copied(dict(raw))}
        stored["metadata"] = {
            "resourceVersion": str(next(self._versions)),
            "creationTimestamp": "2025-01-01T11:00:00Z",
            "uid": "4f2c",
            **stored["metadata"],
        }
        return stored

    async def until_asked(self, verb: str, times: int = 1) -> None:
        """Wait until this number of requests with that verb has arrived."""
        while self.count(verb) < times:
            self._news.clear()
            await self._news.wait()

    async def _arrive(self, verb: str, name: str) -> None:
        self.asked.append((verb, name))
        self._news.set()
        await asyncio.sleep(0)
        await self.answering.wait()
        if self.server_clock is not None:
            at = self.server_clock.monotonic()
            self.server_date = format_datetime(self.server_clock.now(), usegmt=True)
            self.server_date_between = (at, at)
        self._begin(verb, name)


def unavailable(status: int = 0) -> Unavailable:
    return Unavailable(status, "NoAnswer", "the API server did not answer")


def an_organization(name: str = "acme", **changes: Any) -> Raw:
    """Build an Organization as the API server sends it, whose token is ``TOKEN``."""
    raw: Raw = {
        "apiVersion": API_VERSION,
        "kind": "Organization",
        "metadata": {"name": name},
        "spec": {"baseURL": "https://esaw.example.com", "archiveRef": {"name": "dms"}},
        "status": {"callbackTokenHashes": [token_hash(TOKEN, bytes(16))]},
    }
    raw["spec"].update(changes.pop("spec", {}))
    raw["status"].update(changes.pop("status", {}))
    return raw


def with_basic_auth(raw: Raw, username: str = "esaw", password: str = PASSWORD) -> Raw:
    """Add the second lock to an Organization."""
    changed = msgspec.json.decode(msgspec.json.encode(raw))
    changed["spec"]["callback"] = {"basicAuthSecretRef": {"name": "basic"}}
    hashes = [basic_auth_hash(username, password, token=TOKEN, salt=bytes(16))]
    changed["status"]["basicAuthHashes"] = hashes
    answer: Raw = changed
    return answer


def added(raw: Raw) -> WatchEvent:
    return WatchEvent("ADDED", raw)


def synced(*names: str) -> WatchEvent:
    return WatchEvent("SYNCED", {}, frozenset(names))


PATH = f"/callbacks/acme/{TOKEN}"


QUERY = f"envelopeId={GUID}&action=envelopeFinished"


def handler_of(
    parts: Sequence[ReceiverNamespace], metrics: Metrics, clock: Clock, limits: ReceiverLimits
) -> CallbackHandler:
    """Return the handler for these namespaces, of which the first is the release's own."""
    by_name = {each.name: each for each in parts}
    served = ServedNamespaces(parts[0].name, tuple(by_name))
    table = NamespaceTable(served, by_name.__getitem__, clock, ended=metrics.remove_namespace)
    return CallbackHandler(table, metrics, limits=limits, clock=clock)


class ReceiverParts:
    """The parts of a receiver that answer callbacks, over any API server."""

    def __init__(
        self,
        kube: KubeClient,
        clock: Clock,
        limits: ReceiverLimits,
        *,
        rate: float = 1000.0,
        burst: int = 1000,
        turns: int = 64,
        process_metrics: Metrics | None = None,
    ) -> None:
        """``process_metrics``: those of the process, if several parts are in one."""
        self.process_metrics = process_metrics or Metrics(
            CollectorRegistry(), version="0", process="receiver"
        )
        self.metrics = self.process_metrics.in_namespace(kube.namespace)
        self.organization_cache = OrganizationCache(
            self.metrics, clock=clock, new_bucket=lambda: TokenBucket(rate=rate, burst=burst)
        )
        self.deliveries = DeliveryCounter(kube, clock=clock, random=Random(1), limits=limits)
        self.write_probe = WriteProbe(kube, monotonic=clock.monotonic, valid_seconds=5.0)
        self.event_writer = EventWriter(
            kube, self.deliveries, self.write_probe, turns=write_turns(turns), clock=clock, limits=limits
        )
        self.parts = ReceiverNamespace(
            kube=kube,
            metrics=self.metrics,
            organization_cache=self.organization_cache,
            delivery_counter=self.deliveries,
            write_probe=self.write_probe,
            event_writer=self.event_writer,
            unlisted_actions=UnlistedActionCounter(kube, self.metrics, clock=clock, seconds=30.0),
            process_metrics=self.process_metrics,
        )
        self.handler = handler_of([self.parts], self.process_metrics, clock, limits)


class Counter(ReceiverParts):
    """A receiver on a loopback port, over an API server in memory, with one organization ``acme``."""

    def __init__(
        self, limits: ReceiverLimits, *, organizations_read: bool = True, **circumstances: Any
    ) -> None:
        self.kube, self.clock = ReceiverKubeClient(), AClock(NOON)
        super().__init__(self.kube, self.clock, limits, **circumstances)
        self.organization_cache.update(added(an_organization()))
        if organizations_read:
            self.organization_cache.update(synced("acme"))
        self.address = ListenAddress("127.0.0.1", 0)
        self.session: aiohttp.ClientSession

    async def asked(
        self, target: str, *, method: str = "GET", data: object = None, headers: dict[str, str] | None = None
    ) -> aiohttp.ClientResponse:
        """Ask, and make sure that the answer has no body."""
        url = f"http://{self.address}{target}"
        async with self.session.request(method, url, data=data, headers=headers) as answer:
            assert await answer.read() == b""
            return answer

    async def status(self, query: str = QUERY, *, path: str = PATH, method: str = "GET") -> int:
        return (await self.asked(f"{path}?{query}", method=method)).status

    def counted(self, outcome: str, organization: str = "acme") -> float | None:
        labels = {"organization": organization, "outcome": outcome}
        return self.metrics.registry.get_sample_value("counterfoil_callbacks_total", labels)

    def uncounted_seconds(self) -> float | None:
        labels = {"organization": "acme"}
        return self.metrics.registry.get_sample_value("counterfoil_uncounted_event_seconds", labels)


@asynccontextmanager
async def a_counter(limits: ReceiverLimits | None = None, **circumstances: Any) -> AsyncIterator[Counter]:
    limits = limits or ReceiverLimits()
    counter = Counter(limits, **circumstances)
    async with (
        public_server(
            ListenAddress("127.0.0.1", 0), counter.handler, limits=limits, grace_seconds=2.0
        ) as address,
        aiohttp.ClientSession(trust_env=False) as session,
    ):
        counter.address, counter.session = address, session
        yield counter

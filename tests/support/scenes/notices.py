"""A namespace with finished events, and the server that an Organization names in ``spec.webhook``."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from msgspec import structs
from prometheus_client import CollectorRegistry

from controller.access.secret_cache import SecretCache
from controller.cache import Cache
from controller.event_recorder import EventRecorder
from controller.outgoing_webhook.client import NoticeClient
from controller.outgoing_webhook.delivery import NoticeDelivery
from controller.outgoing_webhook.policy import NotDelivered
from counterfoil.clock import WallClock
from counterfoil.kube.watch import WatchEvent
from counterfoil.metrics import Metrics
from counterfoil.resources import EnvelopeEvent, EventNotice, NoticeState, Organization, Phase
from tests.support.builders import NOON, an_event, an_organization
from tests.support.fakes.kube import InMemoryKubeClient
from tests.support.pauses import PATIENCE_SECONDS
from tests.support.servers.scripted_esaw import ScriptedServer

SIGNING_KEY = bytes(range(32))


SECRET = b"whsec_" + base64.b64encode(SIGNING_KEY)


RETRY = {"initial": "20ms", "max": "20ms", "deadline": "1h"}


NOTICE = EventNotice(id="msg_1", state=NoticeState.PENDING)


def a_finished_event(number: int = 1, *, organization: str = "acme", **notice: Any) -> EnvelopeEvent:
    event = (
        an_event(f"{number:08x}-4b1d-4c58-9a57-6d1f0a3b2c4d")
        .archived()
        .status(
            phase=Phase.SUCCEEDED,
            reason="ArchivedAndKept",
            completion_time=NOON,
            notice=structs.replace(NOTICE, id=f"msg_{number}", **notice),
        )
        .build()
    )
    ref = structs.replace(event.spec.organization_ref, name=organization)
    return structs.replace(event, spec=structs.replace(event.spec, organization_ref=ref))


def with_webhook(url: str, *, name: str = "acme", generation: int = 1, **spec: Any) -> Organization:
    webhook = {"url": url, "signingSecretRef": {"name": "hook", "key": "secret"}}
    settings = {"retry": RETRY, "webhook": webhook, **spec}
    return an_organization(name, version=generation, generation=generation, **settings)


class NoticeScene:
    """A namespace with finished events, and the receiver of an organization."""

    def __init__(self, url: str, *events: EnvelopeEvent, timeout: float = 5.0) -> None:
        self.url = url
        self.kube = InMemoryKubeClient(*events)
        self.kube.put_secret("hook", "webhook", {"secret": SECRET})
        self.cache = Cache()
        self.cache.update(with_webhook(url))
        self.metrics = Metrics(CollectorRegistry(), version="test")
        self.failed: list[tuple[str, str]] = []
        self.timeout = timeout

    def notice(self, number: int = 1) -> EventNotice:
        found = self.kube.stored(a_finished_event(number).name).status.notice
        assert found is not None
        return found

    def count(self, outcome: str, organization: str = "acme") -> float:
        labels = {"organization": organization, "outcome": outcome}
        return self.metrics.registry.get_sample_value("counterfoil_webhook_notices_total", labels) or 0

    def observe(self, *events: EnvelopeEvent) -> None:
        for each in events:
            raw = self.kube.stored(each.name).to_dict()
            self.kube.changes.put_nowait(WatchEvent("ADDED", raw))

    @asynccontextmanager
    async def controller(self, *events: EnvelopeEvent) -> AsyncIterator[NoticeDelivery]:
        """Run one controller, which lists these events first; its end is a kill."""
        clock = WallClock()

        def on_failed(event: EnvelopeEvent, result: NotDelivered) -> None:
            self.failed.append((event.name, result.reason))

        built = NoticeDelivery(
            kube=self.kube,
            cache=self.cache,
            secrets=SecretCache(self.kube, clock),
            client=NoticeClient(clock, timeout_seconds=self.timeout),
            event_recorder=EventRecorder(self.kube, clock),
            metrics=self.metrics,
            clock=clock,
            random=lambda: 1.0,
            labels="",
            on_failed=on_failed,
        )
        self.cache.add_handler(Organization, built.organization_changed)
        task = asyncio.create_task(built.run())
        self.observe(*events)
        try:
            yield built
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def statuses(self) -> int:
        return len(self.kube.patches)


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not is_so():  # noqa: ASYNC110 - the work of several tasks
            await asyncio.sleep(0.01)


def ids(server: ScriptedServer) -> list[str]:
    return [each.headers["webhook-id"] for each in server.received]

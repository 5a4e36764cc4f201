"""An eSAW, an API server in memory, and the parts of the pages that send a draft."""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx

from counterfoil.esaw import ApiToken, CallLimits, EsawClient, EsawClients, drafts
from counterfoil.kube.watch import Raw
from counterfoil.resources import Envelope, Resource, Sender
from sandbox.esaw import Recipient, StandIn, User
from tests.support.builders import AClock, a_sender, an_organization
from tests.support.fakes.kube import InMemoryKubeClient
from tests.support.servers.standin_peers import anna
from webhook.console.sessions import ProcessCookieCipher
from webhook.pages.limits import PageLimits
from webhook.pages.send import DraftSender, SendJob
from webhook.pages.send_lease import SendLease, SendLeases
from webhook.pages.send_recovery import SendRecovery
from webhook.pages.sent_hits import SentHits

ATTEMPT = 2.0
"""Seconds of an attempt; a fifth of it is for the Envelopes."""


class WatchedKubeClient(InMemoryKubeClient):
    """Counts the creates of Envelopes in progress, and answers none after the first ``slow_after``."""

    def __init__(self) -> None:
        super().__init__()
        self.slow_after: int | None = None
        self.concurrent = self.most = 0
        self.begun = asyncio.Event()
        """Set when the first of them has arrived."""

    async def create(self, kind: type[Resource], body: Mapping[str, Any]) -> Raw:
        if kind is not Envelope:
            return await super().create(kind, body)
        self.begun.set()
        self.concurrent += 1
        self.most = max(self.most, self.concurrent)
        try:
            await asyncio.sleep(0)
            stored = sum(plural == Envelope.PLURAL for plural, _ in self.objects)
            if self.slow_after is not None and stored >= self.slow_after:
                await asyncio.Event().wait()
            return await super().create(kind, body)
        finally:
            self.concurrent -= 1


class Keys:
    """The senders whose key is known: Anna, or nobody."""

    def __init__(self, sender: Sender | None, token: str) -> None:
        self._sender = sender
        self._token = token

    async def find_sender(self, *_: object) -> Sender | None:
        return self._sender

    async def get_token(self, _: Sender, esaw: EsawClient) -> ApiToken:
        return ApiToken.parse(self._token, esaw.origin)


class SendScene:
    """An eSAW, an API server, and the parts of the pages that send."""

    def __init__(self, esaw: StandIn, clock: AClock, http: httpx.AsyncClient) -> None:
        self.esaw = esaw
        self.anna = anna(esaw)
        self.clock = clock
        self.kube = WatchedKubeClient()
        self.cipher = ProcessCookieCipher()
        self.limits = PageLimits()
        self.call_limits: CallLimits | None = None
        self.organization = an_organization(baseURL=esaw.url)
        self.kube.put(self.organization)
        self.sender = a_sender(email=self.anna.email, tokenSecretRef=None)
        self._http = http

    @property
    def clients(self) -> EsawClients:
        return EsawClients(self._http, self.clock, lambda *_: None, self.call_limits)

    @property
    def leases(self) -> SendLeases:
        return SendLeases(self.kube, self.cipher, self.clock, attempt_seconds=round(self._attempt))

    _attempt = ATTEMPT

    def draft_sender(self, attempt: float = ATTEMPT) -> DraftSender:
        self._attempt = attempt
        return DraftSender(
            self.kube,
            self.leases,
            self.clock,
            attempt,
            self.limits,
            sent_hits=SentHits(self.limits),
            monotonic=self.clock.monotonic,
        )

    def recovery(self, draft_sender: DraftSender, *, with_key: bool = False) -> SendRecovery:
        """The recovery of a replica; usually without the sender's key, so that it can't ask eSAW."""
        keys: Any = Keys(self.sender if with_key else None, self.anna.token)
        return SendRecovery(
            kube=self.kube,
            send_leases=self.leases,
            draft_sender=draft_sender,
            consent_service=keys,
            esaw_clients=self.clients,
            clock=self.clock,
            limits=self.limits,
        )

    def a_bulk(self, recipients: int) -> str:
        people = [Recipient(email=f"kim-{number}@people.example") for number in range(recipients)]
        return self.esaw.add_draft(owner=self.anna, bulk_recipients=people)

    def job(self, draft: str, user: User | None = None) -> SendJob:
        token = ApiToken.parse((user or self.anna).token.encode(), self.esaw.url)
        user_client = self.clients.for_organization(self.organization).as_user(token)
        return SendJob(self.organization, self.sender, user_client, draft)

    def envelopes(self) -> dict[str, Raw]:
        return {name: raw["spec"] for (kind, name), raw in self.kube.objects.items() if kind == "envelopes"}

    async def lease(self) -> SendLease:
        drafts_begun = [each async for each in self.leases.list_drafts()]
        [lease] = [*drafts_begun, *[each async for each in self.leases.list_sent()]]
        return lease

    async def lost_answer(self, draft: str) -> SendLease:
        """Send the draft in a process that is killed before it has the answer."""
        lease = await self.leases.acquire("acme", "anna", draft)
        assert lease is not None
        await drafts.send(self.job(draft).user, draft)
        self.clock.advance(seconds=ATTEMPT + 1)
        return lease

    def searches(self) -> int:
        return len(self.esaw.requests("find"))

"""All that an event needs before its phases, in memory."""

from typing import Any

import httpx
from prometheus_client import CollectorRegistry

from controller.access.archive_pool import ArchivePool
from controller.access.history_access import HistoryAccess
from controller.access.secret_cache import SecretCache
from controller.access.sender_keys import SenderKeys
from controller.cache import Cache
from controller.reconcile.outcomes import Outcome
from controller.reconcile.preconditions import Admitted, Preconditions
from controller.reconcile.signature_policy import SignatureChecker
from counterfoil.esaw.registry import EsawClients
from counterfoil.metrics import Metrics
from counterfoil.resources import (
    EnvelopeEvent,
    Organization,
    Phase,
    Sender,
)
from tests.support.builders import (
    KEY,
    AClock,
    a_sender,
    an_event,
    an_organization,
    known_to_work,
)
from tests.support.fakes.kube import InMemoryKubeClient
from tests.support.fakes.leases import held_shards
from tests.support.fakes.reconcile_context import (
    FakeSignatureCheck,
    FakeTagWorkers,
    a_probed_archive,
)


class PreconditionsScene:
    """Everything that an event needs, to be taken away piece by piece."""

    def __init__(self) -> None:
        self.clock = AClock()
        self.kube = InMemoryKubeClient()
        self.cache = Cache()
        self.cache.organizations.put(an_organization())
        self.cache.senders.put(known_to_work(a_sender()))
        self.cache.archives.put(a_probed_archive())
        self.kube.secret_uses["anna-key"] = "token"
        self.kube.secrets["anna-key"] = {"token": KEY.encode()}
        secrets = SecretCache(self.kube, self.clock)
        self.archive_pool = ArchivePool(
            self.kube, self.cache, secrets, self.clock, Metrics(CollectorRegistry(), version="test")
        )
        # Nothing here calls eSAW, and the client of a process takes longer to make than all the rest.
        http = httpx.AsyncClient(trust_env=False, verify=False)
        self.preconditions = Preconditions(
            kube=self.kube,
            cache=self.cache,
            sender_keys=SenderKeys(self.kube, self.cache, secrets, self.clock),
            archive_pool=self.archive_pool,
            esaw_clients=EsawClients(http, self.clock, lambda operation, code, seconds: None),
            clock=self.clock,
            signature_checker=SignatureChecker(FakeSignatureCheck(), None),
            tag_workers=FakeTagWorkers(),
            held=held_shards(),
            history_access=HistoryAccess(self.clock),
        )

    def organization(self, **spec: Any) -> Organization:
        changed = an_organization(version=2, **spec)
        self.cache.organizations.put(changed)
        return changed

    async def sender(self, event: EnvelopeEvent | None = None) -> Sender | Outcome:
        organization = self.cache.organizations.get("acme")
        assert organization is not None
        return await self.preconditions.sender(event or an_event().build(), organization)

    async def prepare(self, reason: str | None = None, *, attempts: int = 10) -> Admitted | Outcome:
        builder = an_event()
        if reason is not None:
            builder = builder.in_phase(Phase.ARCHIVING, reason).status(attempts=attempts)
        event, organization = builder.build(), self.cache.organizations.get("acme")
        sender = self.cache.senders.get("anna")
        assert organization is not None
        assert sender is not None
        return await self.preconditions.prepare(event, organization, sender)

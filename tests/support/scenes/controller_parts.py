"""The parts of a controller over an API server in memory, which the scenes of its tests share."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from prometheus_client import CollectorRegistry

from controller.access.archive_pool import ArchivePool
from controller.access.history_access import HistoryAccess
from controller.access.pod_access import PodAccess
from controller.access.secret_cache import SecretCache
from controller.access.sender_keys import SenderKeys
from controller.cache import Cache
from controller.event_recorder import EventRecorder
from controller.reconcile.archive_choice import ArchiveChooser
from controller.reconcile.import_archives import ImportArchives
from controller.reconcile.phase_runner import PhaseRunner
from controller.reconcile.preconditions import Preconditions
from controller.reconcile.signature_policy import SignatureChecker
from controller.reconcile.transition_writer import TransitionWriter
from controller.sharding import HeldShards
from counterfoil.esaw.client import EsawClients
from counterfoil.kube.status import StatusWriter
from counterfoil.metrics import Metrics
from counterfoil.resources import Resource
from counterfoil.settings import ControllerSettings
from tests.support.builders import KEY, OWN_ADDRESS, AClock
from tests.support.fakes.esaw import FakeEsawClient, FakeEsawClients
from tests.support.fakes.kube import InMemoryKubeClient
from tests.support.fakes.leases import held_shards
from tests.support.fakes.reconcile_context import FakeSignatureCheck, FakeTagWorkers


class ControllerParts:
    """Clock, API server, cache, and what reads Secrets, keys and archives."""

    def __init__(
        self,
        *resources: Resource,
        esaw_clients: EsawClients | None = None,
        held: HeldShards | None = None,
        **status_writer: Any,
    ) -> None:
        self.clock = AClock()
        self.kube = InMemoryKubeClient(*resources)
        self.cache = Cache()
        self.metrics = Metrics(CollectorRegistry(), version="test")
        self.esaw = FakeEsawClient()
        self.esaw_clients = esaw_clients or FakeEsawClients(self.esaw)
        if isinstance(self.esaw_clients, FakeEsawClients):
            self.esaw_clients.use_clock(self.clock)
        self.held = held or held_shards()
        self.examiner = FakeSignatureCheck()
        self.slots: list[tuple[str, str]] = []
        self.is_archive_busy = False
        self.while_waiting: Callable[[], None] = lambda: None
        """The events whose routes have decided, and the Archives under whose limits they continue."""
        self.secrets = SecretCache(self.kube, self.clock)
        self.sender_keys = SenderKeys(self.kube, self.cache, self.secrets, self.clock, OWN_ADDRESS)
        self.archive_pool = self.new_archive_pool()
        self.event_recorder = EventRecorder(self.kube, self.clock)
        self.status_writer = StatusWriter(self.kube, **status_writer)

    def put_key(self, sender: str = "anna", key: str | bytes = KEY, *, name: str = "token") -> None:
        """Store the Secret with the API token of a sender."""
        data = key.encode() if isinstance(key, str) else key
        self.kube.put_secret(f"{sender}-key", "token", {name: data})

    def new_archive_pool(self) -> ArchivePool:
        """Build the pool of one more process."""
        access = PodAccess.of(ControllerSettings(namespace=self.kube.namespace), self.kube.namespace)
        return ArchivePool(self.kube, self.cache, self.secrets, self.clock, self.metrics, access)

    def new_preconditions(self) -> Preconditions:
        """Build what admits events."""
        return Preconditions(
            kube=self.kube,
            cache=self.cache,
            sender_keys=self.sender_keys,
            archives=ArchiveChooser(
                self.cache,
                self.archive_pool,
                FakeTagWorkers(),
                SignatureChecker(self.examiner, None),
                self.clock,
                ImportArchives(self.kube, self.clock),
                self._take_slot,
                lambda _event, _archive: False,
            ),
            esaw_clients=self.esaw_clients,
            clock=self.clock,
            held=self.held,
            history_access=HistoryAccess(self.clock),
        )

    async def _take_slot(
        self, event: str, archive: str, longest: timedelta, before_wait: Callable[[], None]
    ) -> bool:
        self.slots.append((event, archive))
        if self.is_archive_busy:
            before_wait()
            self.while_waiting()
        return True

    def reconciler_parts(self) -> dict[str, Any]:
        """Build the arguments of a ``Reconciler``."""
        return {
            "cache": self.cache,
            "phase_runner": PhaseRunner(
                preconditions=self.new_preconditions(),
                sender_keys=self.sender_keys,
                metrics=self.metrics,
                clock=self.clock,
            ),
            "transition_writer": TransitionWriter(
                status_writer=self.status_writer,
                event_recorder=self.event_recorder,
                metrics=self.metrics,
                clock=self.clock,
            ),
            "clock": self.clock,
            "random": lambda: 1.0,
            "attempt_timeout": timedelta(hours=6),
        }

"""A manager over an API server in memory, whose driver does what a test says."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec

from controller.after_fix.waiting_events import WakeUps
from controller.file_list_ceiling import FileListCeiling
from controller.gauges import Gauges
from controller.reconcile.reconciler import Reconciler
from controller.resync.event_load import EventLoadCounter
from controller.resync.event_starter import EventStarter
from controller.resync.garbage_collector import GarbageCollector
from controller.resync.organization_status import OrganizationStatusUpdater
from controller.resync.resync import Resync
from controller.resync.statistics import EventStatistics
from controller.resync.sweep import MissedCallbackFinder
from controller.scheduling.event_queue import EventQueue, concurrency_limits
from controller.scheduling.workqueue import WorkQueue
from controller.watch.reflector import Reflector
from controller.worker import Worker, read_event
from counterfoil.esaw.client import EsawClients
from counterfoil.resources import Archive, EnvelopeEvent, Organization, Phase, Resource, Sender
from tests.support.fakes.leases import held_shards
from tests.support.scenes.controller_parts import ControllerParts

Reconcile = Callable[[EnvelopeEvent], EnvelopeEvent]


@dataclass
class Record:
    """The reconciled events, in order, and the result of reconciling one."""

    reconciled: list[str] = field(default_factory=list)
    answer: Reconcile = field(default=lambda event: event)


@dataclass(frozen=True)
class FakeReconciler(Reconciler):
    """Returns what the record says."""

    record: Record = field(default_factory=Record)

    async def reconcile(self, event: EnvelopeEvent) -> EnvelopeEvent:
        self.record.reconciled.append(event.name)
        return self.record.answer(event)


class HandlersScene(ControllerParts):
    """One controller, ``shard`` of ``shards``."""

    def __init__(
        self,
        *resources: Resource,
        shard: int = 0,
        shards: int = 1,
        process_limit: int = 100,
        esaw_clients: EsawClients | None = None,
    ) -> None:
        super().__init__(*resources, esaw_clients=esaw_clients, held=held_shards(shard, of=shards))
        self.statistics = EventStatistics()
        self.garbage_collector = GarbageCollector(
            kube=self.kube,
            cache=self.cache,
            clock=self.clock,
            machine_clock=self.clock,
            statistics=self.statistics,
            reopeners=(),
            pass_finished=lambda began, failures: None,
        )
        self.reconciler = FakeReconciler(**self.reconciler_parts())
        self.workqueue = WorkQueue(
            clock=self.clock, concurrency_limits=partial(concurrency_limits, self.cache, process_limit)
        )
        event_queue = EventQueue(self.cache, self.workqueue, self.clock)
        organizations = OrganizationStatusUpdater(
            kube=self.kube,
            cache=self.cache,
            secrets=self.secrets,
            sender_keys=self.sender_keys,
            esaw_clients=self.esaw_clients,
            clock=self.clock,
            callback_url=None,
            own_namespace=self.kube.namespace,
        )
        event_load = EventLoadCounter(self.kube, self.cache, self.clock, self.held)
        self.resync = Resync(
            kube=self.kube,
            cache=self.cache,
            archive_pool=self.archive_pool,
            sender_keys=self.sender_keys,
            organizations=organizations,
            esaw_clients=self.esaw_clients,
            missed_callback_finder=MissedCallbackFinder(
                cache=self.cache,
                sender_keys=self.sender_keys,
                esaw_clients=self.esaw_clients,
                event_starter=EventStarter(
                    self.kube, self.clock, self.metrics, event_load.load, self.cache.senders.get
                ),
                clock=self.clock,
                metrics=self.metrics,
            ),
            statistics=self.statistics,
            event_load=event_load,
            on_pass=Gauges(
                metrics=self.metrics,
                cache=self.cache,
                statistics=self.statistics,
                clock=self.clock,
                owns=self.held.owns,
            ).refresh,
            clock=self.clock,
            held=self.held,
        )
        wake_ups = WakeUps(
            cache=self.cache,
            event_queue=event_queue,
            resync=self.resync,
            archive_pool=self.archive_pool,
            sender_keys=self.sender_keys,
            organizations=organizations,
        )
        self.failed: list[tuple[str, float]] = []
        self.worker = Worker(
            cache=self.cache,
            event_queue=event_queue,
            reconciler=self.reconciler,
            resync=self.resync,
            clock=self.clock,
            on_failed=(lambda event, began: self.failed.append((event.name, began)),),
            on_new_failure=lambda event: None,
            on_ended=lambda event: None,
            read=partial(read_event, self.kube),
        )
        self.cache.add_handler(EnvelopeEvent, event_load.event_changed)
        self.cache.add_handler(EnvelopeEvent, wake_ups.event_changed)
        self.cache.add_handler(EnvelopeEvent, self.reconciler.event_changed)
        self.cache.add_handler(EnvelopeEvent, self.worker.event_changed)
        self.cache.add_handler(Organization, wake_ups.organization_changed)
        self.cache.add_handler(Sender, wake_ups.sender_changed)
        self.cache.add_handler(Archive, wake_ups.archive_changed)
        self.reflector = Reflector(self.kube, self.cache)

    def answers(self, reconcile: Reconcile) -> None:
        """Set the result of reconciling an event."""
        self.reconciler.record.answer = reconcile

    @property
    def reconciled(self) -> list[str]:
        return self.reconciler.record.reconciled

    def observe(self, *resources: Resource) -> None:
        """Let the watches deliver objects."""
        for each in resources:
            self.reflector.handle(type(each), "MODIFIED", each.to_dict())

    def see_deleted(self, resource: Resource, *, version: int = 1000) -> None:
        """Let the watch deliver the deletion of an object."""
        raw = resource.to_dict()
        raw["metadata"]["resourceVersion"] = str(version)
        self.reflector.handle(type(resource), "DELETED", raw)

    @asynccontextmanager
    async def running(self, *more: Any) -> AsyncIterator[None]:
        """Run the workqueue, and the other coroutines that are passed."""
        tasks = [asyncio.create_task(each) for each in (self.workqueue.run(self.worker.reconcile), *more)]
        try:
            await turns()
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def unchanged(event: EnvelopeEvent) -> EnvelopeEvent:
    """Re-open nothing."""
    return event


async def turns(count: int = 60) -> None:
    """Let everything run that can run."""
    for _ in range(count):
        await asyncio.sleep(0)


def kept_bytes(lists: FileListCeiling, organization: str) -> int:
    """Return the bytes of the long lists of an Organization."""
    found = lists.by_organization.get(organization)
    return found.total if found is not None else 0


def moved(event: EnvelopeEvent, phase: Phase, reason: str | None = None, **status: Any) -> EnvelopeEvent:
    """Return the event as a write left it: one version later."""
    version = int(event.metadata.resource_version or 0) + 1
    return msgspec.structs.replace(
        event,
        metadata=msgspec.structs.replace(event.metadata, resource_version=str(version)),
        status=msgspec.structs.replace(event.status, phase=phase, reason=reason, **status),
    )

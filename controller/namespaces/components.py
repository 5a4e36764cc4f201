"""
The components that work in one namespace: they are built together, run together, and end together.

Each namespace has its own cache, queue, resync, mails, notices and Imports, so a name means one object, and
what fails in a namespace ends nothing in another. Namespaces share what the process has once: its shards, its
slots for running events, its worker processes, its connections and its metrics.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from controller.access.archive_pool import ArchivePool
from controller.access.history_access import HistoryAccess
from controller.access.pod_access import PodAccess
from controller.access.secret_cache import SecretCache
from controller.access.sender_keys import SenderKeys
from controller.after_fix.failed_events import FailedEventRetrier, OutageRetrier
from controller.after_fix.waiting_events import WakeUps
from controller.cache import Cache
from controller.event_recorder import EventRecorder
from controller.gauges import Gauges
from controller.mails.delivery import MailDelivery, NotificationStatusWriter
from controller.mails.notifier import Notifier
from controller.mails.policy import NotificationTimings
from controller.mails.problem_tracking import FailureSummary
from controller.mails.smtp import SmtpMailer
from controller.outgoing_webhook.client import NoticeClient
from controller.outgoing_webhook.delivery import NoticeDelivery
from controller.reconcile.archive_choice import ArchiveChooser
from controller.reconcile.import_archives import ImportArchives
from controller.reconcile.late_files import LateFileFinder, list_files
from controller.reconcile.phase_runner import PhaseRunner
from controller.reconcile.preconditions import Preconditions
from controller.reconcile.reconciler import Reconciler
from controller.reconcile.signature_policy import SignatureChecker
from controller.reconcile.transition_writer import TransitionWriter
from controller.reopening.reopener import CopyRetrier, LateSenderFinder, Reopener
from controller.requests.check_requests import CheckRequests
from controller.requests.copies_import import CopiesImport
from controller.requests.copy_requests import CopyRequests
from controller.requests.esaw_checker import EsawChecker
from controller.requests.event_requests import EventRequests
from controller.requests.object_requests import ObjectRequests
from controller.requests.request_table import RequestTable
from controller.requests.route_requests import RouteRequests
from controller.requests.user_requests import UserRequests
from controller.resync.ended_events import EndedEventObserver
from controller.resync.event_load import EventLoadCounter
from controller.resync.event_starter import EventStarter
from controller.resync.garbage_collector import GarbageCollector
from controller.resync.import_report_writer import ImportReportWriter
from controller.resync.import_runner import ImportBounds, ImportRunner
from controller.resync.organization_status import OrganizationStatusUpdater
from controller.resync.resync import Resync
from controller.resync.statistics import EventStatistics
from controller.resync.sweep import MissedCallbackFinder
from controller.scheduling.clock_changes import ClockChangeDetector
from controller.scheduling.event_queue import EventQueue, concurrency_limits
from controller.scheduling.process_slots import ProcessSlots
from controller.scheduling.workqueue import WorkQueue
from controller.sharding import HeldShards
from controller.watch.kopf_operator import UNFINISHED_SELECTOR, WATCHED_PLURALS
from controller.watch.liveness import Liveness
from controller.watch.reflector import InitialSync, Reflector
from controller.watch.relist import DeletionDetector
from controller.watch.watched_namespaces import NamespaceWatch, WatchedNamespaces, WatchHeartbeat
from controller.worker import Worker, read_event
from counterfoil.archives.tags_subprocess import TagWorkers
from counterfoil.clock import Clock, WallClock
from counterfoil.esaw.client import EsawClients
from counterfoil.health import Checks
from counterfoil.kube.client import KubeClient
from counterfoil.kube.status import StatusWriter
from counterfoil.metrics import Metrics
from counterfoil.resources import Archive, EnvelopeEvent, Organization, Resource, Sender
from counterfoil.resources.naming import UNSHARDED_WORK
from counterfoil.resources.organization import Addressed
from counterfoil.sealing import Sealing
from counterfoil.settings import ControllerSettings
from counterfoil.untrusted.transfer_rate import MinimumRate

_log = logging.getLogger("controller")

Run = Callable[[], Coroutine[Any, Any, None]]


class ComponentEnded(Exception):
    """A component ended without a request, which is a bug."""


@dataclass(frozen=True)
class Components:
    """The components of a namespace that run, stop and answer probes."""

    kube: KubeClient
    workqueue: WorkQueue
    notifier: Notifier
    notice_delivery: NoticeDelivery
    archive_pool: ArchivePool
    initial_sync: InitialSync
    watch: NamespaceWatch
    live: Checks
    background: tuple[Run, ...]
    """The coroutine functions that run until they are cancelled."""

    @property
    def namespace(self) -> str:
        """The namespace in which they work."""
        return self.kube.namespace

    async def run(self, watched: WatchedNamespaces) -> None:
        """Work until cancelled, once all resources of the namespace were read. Raises what breaks a
        component."""
        try:
            await self.initial_sync.run()
            async with asyncio.TaskGroup() as group:
                for each in self.background:
                    group.create_task(_run_without_end(each))
                await watched.add(self.namespace, self.watch)
                _log.info("the controller works in the namespace %s", self.namespace)
        finally:
            await watched.remove(self.namespace)
            await self.archive_pool.close()

    async def drain(self) -> None:
        """Start no more work, and return when the running work has reached a safe point."""
        if await self.initial_sync.check() is None:
            parts = (self.workqueue, self.notifier, self.notice_delivery)
            await asyncio.gather(*(each.drain() for each in parts))


async def _run_without_end(run: Run) -> None:
    await run()
    raise ComponentEnded(f"{run!r} ended")


def build(
    settings: ControllerSettings,
    kube: KubeClient,
    esaw_clients: EsawClients,
    metrics: Metrics,
    held: HeldShards,
    *,
    clock: Clock,
    slots: ProcessSlots,
    own_namespace: str,
    sealing: Sealing | None,
    signature_checker: SignatureChecker,
    tag_workers: TagWorkers,
) -> Components:
    """
    Build the components of the client's namespace; each gets what it needs by its constructor.

    ``own_namespace`` is the release's: elsewhere the addresses name the namespace.
    """
    cache, labels = Cache(), held.label_selector
    secrets, status_writer = SecretCache(kube, clock), StatusWriter(kube)
    event_recorder, statistics = EventRecorder(kube, clock), EventStatistics()
    archive_pool = ArchivePool(
        kube,
        cache,
        secrets,
        clock,
        metrics,
        PodAccess.of(settings, kube.namespace),
        minimum_rate=minimum_rate(settings),
        probe_timeout=settings.probe_timeout.total_seconds(),
    )
    # Links are right also before the status has the address.
    addressed: Addressed = partial(Organization.with_address, namespace=kube.namespace, own=own_namespace)
    sender_keys = SenderKeys(
        kube, cache, secrets, clock, addressed, sealing=sealing, confirmation=settings.key_confirmation
    )
    organizations = OrganizationStatusUpdater(
        kube,
        cache,
        secrets,
        sender_keys,
        esaw_clients,
        clock,
        callback_url=settings.callback_url,
        own_namespace=own_namespace,
        sealing=sealing,
    )
    workqueue = WorkQueue.of_namespace(
        kube.namespace, slots, clock, partial(concurrency_limits, cache, settings.concurrency)
    )
    event_queue = EventQueue(cache, workqueue, clock)
    event_load = EventLoadCounter(kube, cache, clock, held)
    event_starter = EventStarter(kube, clock, metrics, event_load.load, cache.senders.get)
    missed_callback_finder = MissedCallbackFinder(
        cache, sender_keys, esaw_clients, event_starter, clock, metrics
    )
    resync = Resync(
        kube=kube,
        cache=cache,
        archive_pool=archive_pool,
        sender_keys=sender_keys,
        organizations=organizations,
        esaw_clients=esaw_clients,
        missed_callback_finder=missed_callback_finder,
        statistics=statistics,
        event_load=event_load,
        clock=clock,
        held=held,
        on_pass=Gauges(metrics, cache, statistics, clock, owns=held.owns).refresh,
    )
    wake_ups = WakeUps(cache, event_queue, resync, archive_pool, sender_keys, organizations)
    history_access = HistoryAccess(clock)
    preconditions = Preconditions(
        kube,
        cache,
        sender_keys,
        ArchiveChooser(
            cache,
            archive_pool,
            tag_workers.in_namespace(kube.namespace),
            signature_checker.in_namespace(kube.namespace),
            clock,
            ImportArchives(kube, clock),
            take_slot=event_queue.chosen,
            has_slot=event_queue.has_slot,
        ),
        esaw_clients,
        clock,
        held,
        history_access,
    )
    user_requests = UserRequests(
        kube,
        cache,
        status_writer,
        event_recorder,
        clock,
        labels,
        table=_request_table(
            EventRequests(clock),
            CopyRequests(cache, clock),
            ObjectRequests(cache, resync, clock),
            CheckRequests(EsawChecker(cache, secrets, sender_keys, esaw_clients, clock, addressed)),
            RouteRequests(kube, preconditions),
        ),
        owns=partial(_owns, held),
        event_lock=workqueue.lock,
    )
    reopener = Reopener(status_writer, event_recorder, clock)
    failed_event_retrier = FailedEventRetrier(kube, cache, reopener, clock, labels, lock=workqueue.lock)
    notifier = _notifier(kube, cache, secrets, metrics, held, clock=clock, addressed=addressed)
    notice_delivery = NoticeDelivery(
        kube=kube,
        cache=cache,
        secrets=secrets,
        client=NoticeClient(clock),
        event_recorder=event_recorder,
        metrics=metrics,
        clock=clock,
        random=random.SystemRandom().random,
        labels=labels,
        on_failed=lambda event, result: notifier.notice_failed(event, result.reason, result.message),
    )
    late_file_finder = LateFileFinder(kube, cache, partial(list_files, preconditions), reopener, clock)
    reconciler = Reconciler(
        cache=cache,
        phase_runner=PhaseRunner(preconditions, sender_keys, metrics, clock),
        transition_writer=TransitionWriter(status_writer, event_recorder, metrics, clock),
        clock=clock,
        random=random.SystemRandom().random,
        attempt_timeout=settings.attempt_timeout,
    )
    worker = Worker(
        cache=cache,
        event_queue=event_queue,
        reconciler=reconciler,
        resync=resync,
        clock=clock,
        on_failed=(failed_event_retrier.event_failed,),
        on_new_failure=notifier.event_failed,
        on_ended=late_file_finder.enqueue,
        read=partial(read_event, kube),
    )
    ended_event_observer = EndedEventObserver(kube, reopener, clock, labels)
    outage_retrier = OutageRetrier(cache, reopener)
    reopeners = (
        failed_event_retrier.retry_if_fixed,
        outage_retrier.retry_if_over,
        LateSenderFinder(kube, reopener, cache).reopen_if_recorded,
        late_file_finder.observe,
        CopyRetrier(kube, reopener, cache, clock).retry_if_due,
        # Last: an event that starts again has a new status.
        ended_event_observer.observe,
    )
    garbage_collector = GarbageCollector(
        kube, cache, clock, WallClock(), statistics, reopeners, _pass_finished(outage_retrier, notifier)
    )
    reflector = Reflector(kube, cache)
    deletion_detector = DeletionDetector(kube, cache, clock, labels=labels, fields=UNFINISHED_SELECTOR)
    heartbeat = WatchHeartbeat(clock, WATCHED_PLURALS)
    liveness = Liveness(
        kube,
        workqueue,
        heartbeat,
        clock,
        metrics,
        silence=settings.watch_silence,
        overdue=settings.overdue,
    )
    # Which component learns of a change, in this order.
    cache.add_handler(EnvelopeEvent, event_load.event_changed)
    cache.add_handler(EnvelopeEvent, wake_ups.event_changed)
    cache.add_handler(EnvelopeEvent, reconciler.event_changed)
    cache.add_handler(EnvelopeEvent, worker.event_changed)
    cache.add_handler(Organization, wake_ups.organization_changed)
    cache.add_handler(Sender, wake_ups.sender_changed)
    cache.add_handler(Sender, history_access.sender_changed)
    cache.add_handler(Archive, wake_ups.archive_changed)
    for kind in (Organization, Sender, Archive):
        cache.add_handler(kind, user_requests.object_changed)
        cache.add_handler(kind, failed_event_retrier.resource_changed)
    cache.add_handler(Organization, notice_delivery.organization_changed)
    cache.add_handler(Organization, late_file_finder.resource_changed)
    cache.add_handler(Sender, late_file_finder.resource_changed)
    background: list[Run] = [
        partial(workqueue.run, worker.reconcile),
        event_queue.run,
        event_recorder.run,
        resync.run,
        user_requests.run,
        failed_event_retrier.run,
        late_file_finder.run,
        ended_event_observer.run,
        notifier.run,
        notice_delivery.run,
        deletion_detector.run,
        ClockChangeDetector(clock, (event_queue.enqueue_known, notice_delivery.enqueue_known)).run,
    ]
    if held.owns(*UNSHARDED_WORK):
        background.append(garbage_collector.run)
        background.append(
            ImportRunner(
                kube,
                cache,
                sender_keys,
                esaw_clients,
                event_starter,
                ImportReportWriter(
                    cache, kube.namespace, archive_pool.checked_backend, signature_checker.signer
                ),
                clock,
                metrics,
                CopiesImport(kube, cache, reopener, clock),
                ImportBounds(quota=settings.event_quota),
            ).run
        )
    return Components(
        kube=kube,
        workqueue=workqueue,
        notifier=notifier,
        notice_delivery=notice_delivery,
        archive_pool=archive_pool,
        initial_sync=InitialSync(reflector.load, clock),
        watch=NamespaceWatch(reflector, heartbeat, deletion_detector.list_started),
        live=liveness.checks,
        background=tuple(background),
    )


def minimum_rate(settings: ControllerSettings) -> MinimumRate:
    """Return the minimum rate of each transfer."""
    return MinimumRate(
        bytes_per_second=settings.transfer_rate, window=settings.transfer_window.total_seconds()
    )


def _request_table(
    events: EventRequests,
    copies: CopyRequests,
    objects: ObjectRequests,
    checks: CheckRequests,
    routes: RouteRequests,
) -> RequestTable:
    """Return all requests, by kind; a request that is not listed here is refused."""
    return {
        EnvelopeEvent: {**events.types, **copies.types},
        Organization: {**objects.organization_types, **checks.types, **routes.types},
        Archive: objects.archive_types,
        Sender: objects.sender_types,
    }


def _owns(held: HeldShards, resource: Resource) -> bool:
    """Whether this process is the one that checks an Organization, a Sender or an Archive."""
    if isinstance(resource, Organization):
        return held.owns(*UNSHARDED_WORK)
    return held.owns(resource.KIND.lower(), resource.name)


def _notifier(
    kube: KubeClient,
    cache: Cache,
    secrets: SecretCache,
    metrics: Metrics,
    held: HeldShards,
    *,
    clock: Clock,
    addressed: Addressed,
) -> Notifier:
    timings = NotificationTimings()
    writer = NotificationStatusWriter(kube, cache)
    delivery = MailDelivery(writer, secrets, SmtpMailer(), metrics, clock, kube.namespace, addressed, timings)
    return Notifier(
        cache=cache,
        notification_writer=writer,
        mail_delivery=delivery,
        clock=clock,
        timings=timings,
        sends_mail=held.owns(*UNSHARDED_WORK),
    )


def _pass_finished(
    outage_retrier: OutageRetrier, notifier: Notifier
) -> Callable[[datetime, Mapping[str, FailureSummary]], None]:
    def finished(began: datetime, failures: Mapping[str, FailureSummary]) -> None:
        outage_retrier.pass_finished(began)
        notifier.pass_finished(began, failures)

    return finished

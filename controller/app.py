"""
The wiring of the controller: build all components, run them beside kopf, shut them down.

After SIGTERM no work is started, running work gets the grace period to reach its next safe point (a mail in
transmission: its mark), then the watches end. The status of the events tells the next start where to continue
(rule 10).
"""

import asyncio
import contextlib
import logging
import random
import signal
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any

import kopf

from controller.access.archive_pool import ArchivePool
from controller.access.secret_cache import SecretCache
from controller.access.sender_keys import SenderKeys
from controller.cache import Cache
from controller.handlers import EventHandlers
from controller.notifications.delivery import MailDelivery, NotificationStatusWriter
from controller.notifications.notifier import Notifier
from controller.notifications.policy import NotificationTimings
from controller.notifications.smtp import SmtpMailer
from controller.reconcile.preconditions import Preconditions
from controller.reconcile.reconciler import Reconciler
from controller.reconcile.signature_policy import SignatureChecker
from controller.reconcile.worker import Worker
from controller.resync.garbage_collector import GarbageCollector
from controller.resync.missed_callbacks import MissedCallbackFinder
from controller.resync.organization_status import OrganizationStatusUpdater
from controller.resync.resync import Resync
from controller.resync.statistics import EventStatistics
from controller.retry.on_fix import FailedEventRetrier
from controller.retry.requests import UserRequests
from controller.scheduling.event_queue import EventQueue, concurrency_limits
from controller.scheduling.workqueue import WorkQueue
from controller.sharding import Shard
from controller.telemetry.event_recorder import EventRecorder
from controller.telemetry.gauges import Gauges
from controller.telemetry.liveness import Liveness
from controller.watch.heartbeat import WatchHeartbeat
from controller.watch.operator import (
    UNFINISHED_SELECTOR,
    WATCHED_PLURALS,
    build_registry,
    operator_settings,
    shard_selector,
)
from controller.watch.reflector import InitialSync, Reflector
from controller.watch.relist import DeletionDetector
from counterfoil.clock import WallClock
from counterfoil.esaw.registry import EsawClients
from counterfoil.health import serve_health_and_metrics
from counterfoil.kube.client import KubeClient
from counterfoil.kube.status import StatusWriter
from counterfoil.metrics import Metrics
from counterfoil.resources import Sender
from counterfoil.sealing import Sealing
from counterfoil.settings import ControllerSettings

_log = logging.getLogger("controller")

Check = Callable[[], Awaitable[str | None]]
Run = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class App:
    """The components that run, stop and answer probes."""

    namespace: str
    settings: ControllerSettings
    registry: kopf.OperatorRegistry
    workqueue: WorkQueue
    notifier: Notifier
    archive_pool: ArchivePool
    initial_sync: InitialSync
    metrics: Metrics
    live: dict[str, Check]
    background: tuple[Run, ...]
    """The coroutine functions that run beside kopf until they are cancelled."""

    async def run(self) -> int:
        """Serve the probes and work until SIGTERM or SIGINT; return the exit status."""
        async with serve_health_and_metrics(
            self.settings.private_listen,
            self.metrics.registry,
            live=self.live,
            ready={"kubernetes": self.initial_sync.check, **self.live},
        ):
            stop = asyncio.Event()
            _stop_on_signals(stop)
            if not await _has_synced(self.initial_sync, stop):
                return 0
            try:
                return await self._work_until_stopped(stop)
            finally:
                await self.archive_pool.close()

    async def _work_until_stopped(self, stop: asyncio.Event) -> int:
        kopf_ready, kopf_stop, is_stopped = asyncio.Event(), asyncio.Event(), False
        watching: asyncio.Task[None] | None = None
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(run()) for run in self.background]
                # Not in the group: kopf ends last, because it cancels each task that is younger than its own.
                watching = asyncio.create_task(self._operator(kopf_ready, kopf_stop))
                stopping = group.create_task(_until(stop))
                ready = group.create_task(_until(kopf_ready))
                await asyncio.wait([ready, watching], return_when=asyncio.FIRST_COMPLETED)
                # Again: kopf replaces the signal handlers when it starts; these let running transfers end.
                _stop_on_signals(stop)
                _log.info("the controller works")
                running = [stopping, watching, *tasks]
                ended, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                is_stopped = stopping in ended
                if is_stopped:
                    await self._drain()
                for task in (*tasks, ready, stopping):
                    task.cancel()
        except* Exception as broken:
            is_stopped = False
            for problem in broken.exceptions:
                _log.error("the controller broke", exc_info=problem)
        kopf_stop.set()
        if watching is not None:
            (result,) = await asyncio.gather(watching, return_exceptions=True)
            if isinstance(result, Exception):
                is_stopped = False
                _log.error("the controller broke", exc_info=result)
        return 0 if is_stopped else 1

    def _operator(self, ready: asyncio.Event, stop: asyncio.Event) -> Coroutine[Any, Any, None]:
        return kopf.operator(
            registry=self.registry,
            settings=operator_settings(shard_selector(self.settings.shard, self.settings.shards)),
            namespaces=[self.namespace],
            standalone=True,
            ready_flag=ready,
            stop_flag=stop,
        )

    async def _drain(self) -> None:
        _log.info("the controller stops")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.grace.total_seconds()):
                await asyncio.gather(self.workqueue.drain(), self.notifier.drain())


def build(
    settings: ControllerSettings,
    kube: KubeClient,
    esaw_clients: EsawClients,
    metrics: Metrics,
    *,
    sealing: Sealing | None,
    signature_checker: SignatureChecker,
) -> App:
    """Build all components; each gets what it needs by its constructor."""
    clock, cache, shard = WallClock(), Cache(), Shard(settings.shard, settings.shards)
    labels = shard_selector(settings.shard, settings.shards)
    secrets, status_writer = SecretCache(kube, clock), StatusWriter(kube)
    event_recorder, statistics = EventRecorder(kube, clock), EventStatistics()
    archive_pool = ArchivePool(kube, secrets, clock, metrics)
    consent_url = partial(_consent_url, cache)
    sender_keys = SenderKeys(
        kube,
        secrets,
        clock,
        changed=cache.update,
        sealing=sealing,
        consent_url=consent_url,
        confirmation=settings.key_confirmation,
    )
    organizations = OrganizationStatusUpdater(
        kube, cache, secrets, sender_keys, esaw_clients, clock, callback_url=settings.callback_url
    )
    workqueue = WorkQueue(clock, partial(concurrency_limits, cache, settings.concurrency))
    event_queue = EventQueue(cache, workqueue, clock)
    resync = Resync(
        kube=kube,
        cache=cache,
        archive_pool=archive_pool,
        sender_keys=sender_keys,
        organizations=organizations,
        esaw_clients=esaw_clients,
        missed_callback_finder=MissedCallbackFinder(kube, cache, sender_keys, esaw_clients, clock),
        statistics=statistics,
        gauges=Gauges(metrics, cache, statistics, clock, owns=shard.owns),
        clock=clock,
        shard=shard,
    )
    EventHandlers(cache, event_queue, resync, archive_pool, sender_keys, organizations)
    user_requests = UserRequests(
        kube, status_writer, event_recorder, clock, labels, lock=workqueue.lock, changed=cache.update
    )
    failed_event_retrier = FailedEventRetrier(
        kube, cache, status_writer, event_recorder, clock, labels, lock=workqueue.lock, changed=cache.update
    )
    notifier = _notifier(kube, cache, secrets, metrics, shard)
    preconditions = Preconditions(
        kube, cache, sender_keys, archive_pool, esaw_clients, clock, signature_checker
    )
    worker = Worker(
        cache=cache,
        event_queue=event_queue,
        reconciler=Reconciler(
            cache=cache,
            preconditions=preconditions,
            sender_keys=sender_keys,
            status_writer=status_writer,
            event_recorder=event_recorder,
            metrics=metrics,
            clock=clock,
            random=random.SystemRandom().random,
        ),
        resync=resync,
        clock=clock,
        on_failed=(lambda event, _: notifier.event_failed(event), failed_event_retrier.event_failed),
    )
    garbage_collector = GarbageCollector(
        kube, cache, clock, statistics, failed_event_retrier.retry_if_fixed, notifier.pass_finished
    )
    reflector = Reflector(kube, cache)
    deletion_detector = DeletionDetector(kube, cache, clock, labels=labels, fields=UNFINISHED_SELECTOR)
    heartbeat = WatchHeartbeat(clock, WATCHED_PLURALS, list_started=deletion_detector.list_started)
    silence, overdue = settings.watch_silence, settings.overdue
    liveness = Liveness(kube, workqueue, heartbeat, clock, metrics, silence=silence, overdue=overdue)
    background: list[Run] = [
        partial(workqueue.run, worker.reconcile),
        event_recorder.run,
        resync.run,
        user_requests.run,
        failed_event_retrier.run,
        notifier.run,
        deletion_detector.run,
    ]
    if shard.owns("walk", "events"):
        background.append(garbage_collector.run)
    return App(
        namespace=kube.namespace,
        settings=settings,
        registry=build_registry(reflector, heartbeat),
        workqueue=workqueue,
        notifier=notifier,
        archive_pool=archive_pool,
        initial_sync=InitialSync(reflector.load, clock),
        metrics=metrics,
        live=dict(liveness.checks),
        background=tuple(background),
    )


def _notifier(
    kube: KubeClient, cache: Cache, secrets: SecretCache, metrics: Metrics, shard: Shard
) -> Notifier:
    clock, timings = WallClock(), NotificationTimings()
    writer = NotificationStatusWriter(kube, cache, cache.update)
    delivery = MailDelivery(writer, secrets, SmtpMailer(), metrics, clock, kube.namespace, timings)
    return Notifier(
        cache=cache,
        notification_writer=writer,
        mail_delivery=delivery,
        clock=clock,
        timings=timings,
        sends_mail=shard.owns("walk", "events"),
        sender_of=cache.sender_name,
    )


def _consent_url(cache: Cache, sender: Sender) -> str | None:
    organization = cache.organizations.get(sender.spec.organization_ref.name)
    return organization.consent_url(sender.name) if organization is not None else None


async def _has_synced(initial_sync: InitialSync, stop: asyncio.Event) -> bool:
    """Wait for the initial sync; return False when a signal arrives first."""
    reading, stopping = asyncio.create_task(initial_sync.run()), asyncio.create_task(stop.wait())
    await asyncio.wait([reading, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not reading.done():
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        return False
    reading.result()
    return True


async def _until(event: asyncio.Event) -> None:
    await event.wait()


def _stop_on_signals(stop: asyncio.Event) -> None:
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, stop.set)

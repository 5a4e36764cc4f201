"""
``python -m controller``: settings in, everything wired together, then work until SIGTERM.

On SIGTERM nothing new is started, what runs may come to its next safe point within the grace period (a mail under way: to
its mark), then the watches end. Whatever is cut off is in the events' status and goes on after the start (rule 10).
"""

import asyncio
import contextlib
import logging
import os
import random
import signal
import sys
from collections.abc import Coroutine
from contextlib import aclosing
from datetime import datetime
from functools import partial
from typing import Any

import kopf

from controller.access.archive_pool import ArchivePool
from controller.access.secret_cache import SecretCache
from controller.access.sender_keys import SenderKeys
from controller.cache import Cache
from controller.handlers import EventHandlers
from controller.notifications.delivery import MailDelivery
from controller.notifications.notifier import Notifier
from controller.notifications.policy import NotificationTimings
from controller.notifications.smtp import SmtpMailer
from controller.notifications.status_writer import NotificationStatusWriter
from controller.reconcile.preconditions import Preconditions
from controller.reconcile.reconciler import Reconciler
from controller.reconcile.signature_policy import SignatureChecker
from controller.resync.garbage_collector import GarbageCollector
from controller.resync.missed_callbacks import MissedCallbackFinder
from controller.resync.organization_status import OrganizationStatusUpdater
from controller.retry.on_fix import FailedEventRetrier
from controller.retry.requests import UserRequests
from controller.telemetry.event_recorder import EventRecorder
from controller.telemetry.liveness import Liveness
from controller.watch.heartbeat import WatchHeartbeat
from controller.watch.initial_sync import InitialSync
from controller.watch.operator import (
    UNFINISHED_SELECTOR,
    WATCHED_PLURALS,
    build_registry,
    operator_settings,
    shard_selector,
)
from controller.watch.relist import DeletionDetector
from counterfoil import __version__, tracing
from counterfoil._upstream.event_loop import EventLoop
from counterfoil._upstream.malloc import keep_large_blocks
from counterfoil.archives.manifest_signature import ManifestSigner, SigningKeyInvalid
from counterfoil.clock import Clock, WallClock
from counterfoil.esaw.client import new_http_client
from counterfoil.esaw.registry import EsawClients
from counterfoil.health import serve_health_and_metrics
from counterfoil.kube.client import KubeClient, connect
from counterfoil.kube.status import StatusWriter
from counterfoil.logs import configure
from counterfoil.metrics import Metrics, new_registry
from counterfoil.resources import EnvelopeEvent, Sender
from counterfoil.sealing import Sealing, SealingKeysInvalid
from counterfoil.settings import ControllerSettings, load
from counterfoil.signatures.worker_pool import SignatureWorkers

_log = logging.getLogger("controller")


def main() -> int:
    """Run the controller; return the exit status."""
    settings = load(ControllerSettings, sys.argv[1:], os.environ)
    configure(settings.log_level, settings.log_format)
    keep_large_blocks()
    try:
        sealing = Sealing(settings.sealing_keys) if settings.sealing_keys is not None else None
        sealer = ManifestSigner.load(settings.manifest_key) if settings.manifest_key is not None else None
    except (SealingKeysInvalid, SigningKeyInvalid) as invalid:
        _log.critical("the controller can't start: %s", invalid)
        return 1
    with (
        tracing.configured("controller", os.environ),
        asyncio.Runner(loop_factory=EventLoop) as runner,
    ):
        return runner.run(run(settings, sealing, sealer))


async def run(settings: ControllerSettings, sealing: Sealing | None, sealer: ManifestSigner | None) -> int:
    """Run until SIGTERM or SIGINT; return the exit status."""
    metrics = Metrics(new_registry(), version=__version__)
    async with (
        connect(namespace=settings.namespace, observe=metrics.kubernetes_request) as kube,
        new_http_client() as http,
        aclosing(SignatureWorkers()) as examiners,
    ):
        esaw_clients = EsawClients(http, WallClock(), metrics.esaw_request)
        signature_checker = SignatureChecker(examiners, sealer)
        event_handlers, notifier, background = assemble(
            settings, kube, esaw_clients, metrics, sealing=sealing, signature_checker=signature_checker
        )
        initial_sync = InitialSync(partial(event_handlers.load, kube), WallClock())
        heartbeat = WatchHeartbeat(WallClock(), WATCHED_PLURALS)
        labels = shard_selector(settings.shard, settings.shards)
        deletion_detector = DeletionDetector(
            kube, event_handlers, WallClock(), labels=labels, fields=UNFINISHED_SELECTOR
        )
        heartbeat.list_started = deletion_detector.list_started
        background.append(deletion_detector.run())
        live = Liveness(
            kube=kube,
            workqueue=event_handlers.workqueue,
            heartbeat=heartbeat,
            clock=WallClock(),
            metrics=metrics,
            silence=settings.watch_silence,
            overdue=settings.overdue,
        ).checks
        async with serve_health_and_metrics(
            settings.private_listen,
            metrics.registry,
            live=live,
            ready={"kubernetes": initial_sync.check, **live},
        ):
            registry = build_registry(event_handlers, heartbeat)
            return await _work_until_stopped(
                settings,
                kube,
                event_handlers,
                notifier,
                initial_sync,
                background=background,
                registry=registry,
            )


def assemble(
    settings: ControllerSettings,
    kube: KubeClient,
    esaw_clients: EsawClients,
    metrics: Metrics,
    *,
    sealing: Sealing | None,
    signature_checker: SignatureChecker,
) -> tuple[EventHandlers, Notifier, list[Coroutine[Any, Any, None]]]:
    """Build everything; return the manager, the notifier, and what has to run beside kopf."""
    clock = WallClock()
    cache = Cache()
    secrets = SecretCache(kube, clock)
    status_writer = StatusWriter(kube)
    event_recorder = EventRecorder(kube, clock)
    archive_pool = ArchivePool(kube, secrets, clock, metrics)
    sender_keys = SenderKeys(kube, secrets, clock, sealing=sealing, consent_url=partial(_consent_url, cache))
    garbage_collector = GarbageCollector(kube=kube, cache=cache, clock=clock)
    reconciler = Reconciler(
        kube=kube,
        cache=cache,
        preconditions=Preconditions(
            kube=kube,
            cache=cache,
            sender_keys=sender_keys,
            archive_pool=archive_pool,
            esaw_clients=esaw_clients,
            clock=clock,
            signature_checker=signature_checker,
        ),
        sender_keys=sender_keys,
        status_writer=status_writer,
        event_recorder=event_recorder,
        metrics=metrics,
        clock=clock,
        random=random.SystemRandom().random,
    )
    event_handlers = EventHandlers(
        kube=kube,
        cache=cache,
        reconciler=reconciler,
        archive_pool=archive_pool,
        sender_keys=sender_keys,
        organizations=OrganizationStatusUpdater(
            kube=kube,
            cache=cache,
            secrets=secrets,
            esaw_clients=esaw_clients,
            clock=clock,
            callback_url=settings.callback_url,
        ),
        esaw_clients=esaw_clients,
        missed_callback_finder=MissedCallbackFinder(
            kube=kube, cache=cache, sender_keys=sender_keys, esaw_clients=esaw_clients, clock=clock
        ),
        garbage_collector=garbage_collector,
        clock=clock,
        process_limit=settings.concurrency,
        shard=settings.shard,
        shards=settings.shards,
    )
    user_requests = UserRequests(
        kube=kube,
        status_writer=status_writer,
        event_recorder=event_recorder,
        clock=clock,
        labels=shard_selector(settings.shard, settings.shards),
        lock=event_handlers.workqueue.lock,
        changed=event_handlers.event_changed,
    )
    failed_event_retrier = FailedEventRetrier(
        kube=kube,
        cache=cache,
        status_writer=status_writer,
        event_recorder=event_recorder,
        clock=clock,
        labels=shard_selector(settings.shard, settings.shards),
        lock=event_handlers.workqueue.lock,
        changed=event_handlers.event_changed,
    )
    event_handlers.observed = failed_event_retrier.observe
    notifier = _notifier(kube, secrets, metrics, clock, event_handlers)
    event_handlers.event_failed = partial(_report_failure, notifier, failed_event_retrier)
    garbage_collector.pass_finished = notifier.pass_finished
    garbage_collector.retry_if_fixed = failed_event_retrier.retry_if_fixed
    background = [
        event_handlers.workqueue.run(),
        event_recorder.run(),
        event_handlers.resync.run(),
        user_requests.run(),
        failed_event_retrier.run(),
        notifier.run(),
    ]
    if event_handlers.owns("walk", "events"):
        background.append(garbage_collector.run())
    return event_handlers, notifier, background


def _report_failure(
    notifier: Notifier, failed_event_retrier: FailedEventRetrier, event: EnvelopeEvent, began: datetime
) -> None:
    notifier.event_failed(event)
    failed_event_retrier.event_failed(event, began)


def _notifier(
    kube: KubeClient, secrets: SecretCache, metrics: Metrics, clock: Clock, event_handlers: EventHandlers
) -> Notifier:
    notification_writer = NotificationStatusWriter(
        kube, event_handlers.cache, event_handlers.shared_resource_changed
    )
    timings = NotificationTimings()
    return Notifier(
        cache=event_handlers.cache,
        notification_writer=notification_writer,
        mail_delivery=MailDelivery(
            notification_writer=notification_writer,
            secrets=secrets,
            mailer=SmtpMailer(),
            metrics=metrics,
            clock=clock,
            namespace=kube.namespace,
            timings=timings,
        ),
        clock=clock,
        timings=timings,
        sends_mail=event_handlers.owns("walk", "events"),
        sender_of=event_handlers.sender_of,
    )


async def _work_until_stopped(
    settings: ControllerSettings,
    kube: KubeClient,
    event_handlers: EventHandlers,
    notifier: Notifier,
    initial_sync: InitialSync,
    *,
    background: list[Coroutine[Any, Any, None]],
    registry: kopf.OperatorRegistry,
) -> int:
    stop, kopf_ready, kopf_stop = asyncio.Event(), asyncio.Event(), asyncio.Event()
    _stop_on_signals(stop)
    if not await _has_synced(initial_sync, stop):
        for each in background:
            each.close()
        return 0
    tasks = [asyncio.create_task(each) for each in background]
    watching = asyncio.create_task(
        kopf.operator(
            registry=registry,
            settings=operator_settings(shard_selector(settings.shard, settings.shards)),
            namespaces=[kube.namespace],
            standalone=True,
            ready_flag=kopf_ready,
            stop_flag=kopf_stop,
        )
    )
    stopping = asyncio.create_task(stop.wait())
    ready = asyncio.create_task(kopf_ready.wait())
    await asyncio.wait([ready, watching], return_when=asyncio.FIRST_COMPLETED)
    # Again, because kopf installs handlers of its own when it starts; ours let running transfers end first.
    _stop_on_signals(stop)
    _log.info("the controller works")
    ended, _ = await asyncio.wait([stopping, watching, *tasks], return_when=asyncio.FIRST_COMPLETED)
    if stopping in ended:
        _log.info("the controller stops")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(settings.grace.total_seconds()):
                await asyncio.gather(event_handlers.workqueue.drain(), notifier.drain())
    for task in (*tasks, ready, stopping):
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    # Last, because kopf cancels whatever still runs when it ends, and takes the errors of that for its own.
    kopf_stop.set()
    results += await asyncio.gather(watching, return_exceptions=True)
    await event_handlers.archive_pool.close()
    broken = [each for each in results if isinstance(each, Exception)]
    for problem in broken:
        _log.error("the controller broke", exc_info=problem)
    return 0 if stopping in ended and not broken else 1


def _stop_on_signals(stop: asyncio.Event) -> None:
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, stop.set)


async def _has_synced(initial_sync: InitialSync, stop: asyncio.Event) -> bool:
    """Wait until there is something to work with; False: it was told to stop before."""
    reading, stopping = asyncio.create_task(initial_sync.run()), asyncio.create_task(stop.wait())
    await asyncio.wait([reading, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not reading.done():
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        return False
    reading.result()
    return True


def _consent_url(cache: Cache, sender: Sender) -> str | None:
    organization = cache.organizations.get(sender.spec.organization_ref.name)
    return organization.consent_url(sender.name) if organization is not None else None


if __name__ == "__main__":
    sys.exit(main())

"""
The pages as a process: its parts put together, and taken apart again in order on SIGTERM.

Unlike the receiver it calls eSAW and reads Secrets, each by its name; its ServiceAccount is its own.
"""

import asyncio
import logging
import signal
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack

from counterfoil import __version__, logs
from counterfoil._upstream import event_loop
from counterfoil.clock import WallClock
from counterfoil.esaw import EsawClients, new_http_client
from counterfoil.health import Checks, serve_health_and_metrics
from counterfoil.kube.client import KubeClient, connect
from counterfoil.kube.errors import ApiError, NotConfigured
from counterfoil.metrics import Metrics, new_registry
from counterfoil.resources import Organization
from counterfoil.sealing import Sealing, SealingKeysInvalid
from counterfoil.settings import PagesSettings, load
from webhook.http_server.rate_limit import TokenBucket
from webhook.http_server.server import public_server
from webhook.pages.consent import ConsentService
from webhook.pages.cookies import FlowCookies
from webhook.pages.handler import PageHandler
from webhook.pages.limits import ESAW_LIMITS, PageLimits
from webhook.pages.rendering import PageRenderer
from webhook.pages.send import DraftSender
from webhook.pages.send_lease import SendLeases
from webhook.pages.send_recovery import SendRecovery
from webhook.pages.views import PageViews

_log = logging.getLogger(__name__)


async def serve(settings: PagesSettings, sealing: Sealing, *, limits: PageLimits) -> None:
    """Run the pages until SIGTERM or SIGINT, then end in order: refuse new work, finish the old."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    clock = WallClock()
    metrics = Metrics(new_registry(), version=__version__)
    async with (
        connect(
            namespace=settings.namespace,
            observe=metrics.kubernetes_request,
            connections=settings.connections,
        ) as kube,
        new_http_client(call_limits=ESAW_LIMITS) as http,
    ):
        esaw_clients = EsawClients(http, clock, metrics.esaw_request, ESAW_LIMITS)
        attempt = settings.attempt.total_seconds()
        send_leases = SendLeases(kube, clock, attempt_seconds=max(1, round(attempt)))
        consent_service = ConsentService(kube, sealing, clock)
        draft_sender = DraftSender(
            kube, send_leases, clock, attempt_seconds=attempt, limits=limits, monotonic=loop.time
        )
        renderer = PageRenderer()
        handler = PageHandler(
            PageViews(
                kube=kube,
                flow_cookies=FlowCookies(
                    sealing, clock, flow_seconds=limits.flow_seconds, form_seconds=limits.form_seconds
                ),
                send_leases=send_leases,
                consent_service=consent_service,
                draft_sender=draft_sender,
                esaw_clients=esaw_clients,
                renderer=renderer,
                limits=limits,
            ),
            renderer,
            metrics,
            bucket=TokenBucket(rate=settings.page_rate, burst=settings.page_burst),
            limits=limits,
            monotonic=loop.time,
        )
        recovery = SendRecovery(
            kube=kube,
            send_leases=send_leases,
            draft_sender=draft_sender,
            consent_service=consent_service,
            esaw_clients=esaw_clients,
            clock=clock,
            limits=limits,
        )
        ready = _readiness_checks(stop, kube, sealing)
        async with (
            serve_health_and_metrics(settings.private_listen, metrics.registry, live={}, ready=ready),
            AsyncExitStack() as public,
        ):
            await public.enter_async_context(
                public_server(
                    settings.listen, handler, limits=limits, grace_seconds=settings.grace.total_seconds()
                )
            )
            async with asyncio.TaskGroup() as tasks:
                recovering = tasks.create_task(recovery.run())
                await stop.wait()
                _log.info("ending: what was begun is finished")
                await clock.sleep(settings.drain.total_seconds())
                await public.aclose()
                recovering.cancel()


def _readiness_checks(stop: asyncio.Event, kube: KubeClient, sealing: Sealing) -> Checks:
    async def not_ending() -> str | None:
        return "it is ending" if stop.is_set() else None

    async def keys() -> str | None:
        return sealing.unavailable_reason()

    async def kubernetes() -> str | None:
        try:
            await kube.page(Organization, limit=1)
        except ApiError as problem:
            return str(problem)
        return None

    return {"process": not_ending, "sealing keys": keys, "kubernetes": kubernetes}


def _sealing(settings: PagesSettings) -> Sealing:
    if settings.sealing_keys is None:
        raise SealingKeysInvalid(
            "COUNTERFOIL_SEALING_KEYS is not set; name the folder of the sealing keys, without which no key can be stored."
        )
    return Sealing(settings.sealing_keys)


def main(argv: Sequence[str], environ: Mapping[str, str]) -> None:
    """Run the pages as a process."""
    settings = load(PagesSettings, argv, environ)
    logs.configure(settings.log_level, settings.log_format)
    try:
        sealing = _sealing(settings)
        limits = PageLimits(recovery_seconds=settings.attempt.total_seconds() / 2)
        event_loop.run(serve(settings, sealing, limits=limits))
    except (SealingKeysInvalid, NotConfigured, OSError) as trouble:
        # What the person who started it can mend: no stack trace.
        _log.critical("the pages cannot run: %s", trouble)
        raise SystemExit(1) from None

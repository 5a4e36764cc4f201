"""
The receiver: eSAW's callbacks come in over HTTP, and each is answered when its event is in the API server.

Here its parts are put together and taken apart again: directory of organizations, intake, counting of deliveries,
public and private port. It never calls eSAW and never reads a Secret.
"""

import asyncio
import logging
import signal
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from random import SystemRandom

from counterfoil import __version__, logs, tracing
from counterfoil._upstream import event_loop
from counterfoil.clock import WallClock
from counterfoil.health import Checks, serve_health_and_metrics
from counterfoil.kube.client import connect
from counterfoil.kube.errors import NotConfigured
from counterfoil.metrics import Metrics, new_registry
from counterfoil.settings import ReceiverSettings, load
from webhook.http_server.rate_limit import TokenBucket
from webhook.http_server.server import public_server
from webhook.receiver.delivery_counter import DeliveryCounter
from webhook.receiver.event_writer import EventWriter
from webhook.receiver.handler import CallbackHandler
from webhook.receiver.limits import ReceiverLimits
from webhook.receiver.organizations import OrganizationCache
from webhook.receiver.readiness import WriteProbe

_log = logging.getLogger(__name__)


async def serve(settings: ReceiverSettings, *, limits: ReceiverLimits) -> None:
    """Run a receiver until SIGTERM or SIGINT, then end in order: refuse new work, finish the old, write the counts."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    clock = WallClock()
    metrics = Metrics(new_registry(), version=__version__)
    organization_cache = OrganizationCache(
        metrics, new_bucket=lambda: TokenBucket(rate=settings.callback_rate, burst=settings.callback_burst)
    )
    async with connect(
        namespace=settings.namespace, observe=metrics.kubernetes_request, connections=settings.connections
    ) as kube:
        write_probe = WriteProbe(kube, monotonic=loop.time, valid_seconds=limits.probe_seconds)
        delivery_counter = DeliveryCounter(kube, clock=clock, random=SystemRandom(), limits=limits)
        event_writer = EventWriter(kube, delivery_counter, write_probe, clock=clock, limits=limits)
        handler = CallbackHandler(
            organization_cache, event_writer, metrics, limits=limits, monotonic=loop.time
        )
        ready = _readiness_checks(stop, organization_cache, write_probe)
        grace = settings.grace.total_seconds()
        async with (
            serve_health_and_metrics(settings.private_listen, metrics.registry, live={}, ready=ready),
            AsyncExitStack() as public,
        ):
            await public.enter_async_context(
                public_server(settings.listen, handler, limits=limits, grace_seconds=grace)
            )
            async with asyncio.TaskGroup() as tasks:
                following = tasks.create_task(organization_cache.watch(kube))
                writing = tasks.create_task(delivery_counter.run())
                await stop.wait()
                _log.info("ending: what was accepted is finished, then the deliveries are counted")
                await clock.sleep(settings.drain.total_seconds())
                deadline = loop.time() + grace
                await public.aclose()
                delivery_counter.close()
                await asyncio.wait({writing}, timeout=max(1.0, deadline - loop.time()))
                if delivery_counter.pending_events:
                    _log.error("the deliveries of %d events stay uncounted", delivery_counter.pending_events)
                following.cancel()
                writing.cancel()


def _readiness_checks(
    stop: asyncio.Event, organization_cache: OrganizationCache, write_probe: WriteProbe
) -> Checks:
    async def not_ending() -> str | None:
        return "it is ending" if stop.is_set() else None

    async def organizations_read() -> str | None:
        return None if organization_cache.is_synced else "they are not read yet"

    return {"process": not_ending, "organizations": organizations_read, "kubernetes": write_probe.check}


def main(argv: Sequence[str], environ: Mapping[str, str]) -> None:
    """Run the receiver as a process."""
    settings = load(ReceiverSettings, argv, environ)
    logs.configure(settings.log_level, settings.log_format)
    try:
        with tracing.configured("receiver", environ):
            event_loop.run(serve(settings, limits=ReceiverLimits()))
    except (NotConfigured, OSError) as trouble:
        # What the person who started it can mend: no stack trace.
        _log.critical("the receiver cannot run: %s", trouble)
        raise SystemExit(1) from None

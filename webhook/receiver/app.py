"""
The receiver as a process: it takes eSAW's callbacks and answers each when its event is in the API server.

This module builds the parts (organization cache, event writer, delivery counter, ports) and ends them in
order on SIGTERM. The receiver never calls eSAW and never reads a Secret.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from random import SystemRandom

from counterfoil import tracing
from counterfoil.health import Checks
from counterfoil.kube.client import connect
from counterfoil.kube.server_clock import ServerClock
from counterfoil.settings import ReceiverSettings, load
from counterfoil.untrusted.fair_slots import FairSlots
from webhook.http_server.process import HttpProcess, run_process
from webhook.http_server.rate_limit import TokenBucket
from webhook.receiver.callback_handler import CallbackHandler
from webhook.receiver.delivery_counter import DeliveryCounter
from webhook.receiver.event_writer import EventWriter
from webhook.receiver.limits import ReceiverLimits
from webhook.receiver.organizations import OrganizationCache
from webhook.receiver.readiness import WriteProbe
from webhook.receiver.unlisted_actions import UnlistedActionCounter

_log = logging.getLogger(__name__)


async def serve(process: HttpProcess, settings: ReceiverSettings, *, limits: ReceiverLimits) -> None:
    """Run a receiver until SIGTERM or SIGINT, then answer accepted callbacks and write the counts."""
    metrics, monotonic = process.metrics, process.monotonic
    async with connect(
        namespace=settings.namespace, observe=metrics.kubernetes_request, connections=settings.connections
    ) as kube:
        clock = ServerClock(process.clock, kube)
        organization_cache = OrganizationCache(
            metrics,
            clock=clock,
            new_bucket=lambda: TokenBucket(rate=settings.callback_rate, burst=settings.callback_burst),
        )
        write_probe = WriteProbe(kube, monotonic=monotonic, valid_seconds=limits.probe_seconds)
        delivery_counter = DeliveryCounter(kube, clock=clock, random=SystemRandom(), limits=limits)
        turns = FairSlots(settings.connections)
        event_writer = EventWriter(
            kube, delivery_counter, write_probe, turns=turns, clock=clock, limits=limits
        )
        unlisted_actions = UnlistedActionCounter(
            kube, metrics, clock=clock, seconds=limits.unlisted_actions_seconds
        )
        handler = CallbackHandler(
            organization_cache,
            event_writer,
            metrics,
            unlisted_actions=unlisted_actions,
            limits=limits,
            clock=clock,
        )
        ready = _readiness_checks(organization_cache, write_probe)
        async with process.serving(handler, ready=ready, limits=limits), asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(organization_cache.watch(kube))
            counting = tasks.create_task(delivery_counter.run())
            naming = tasks.create_task(unlisted_actions.run())
            await process.wait_for_stop()
            deadline = monotonic() + settings.grace.total_seconds()
            await process.close_public_port()
            unlisted_actions.close()
            delivery_counter.close()
            await asyncio.wait({counting, naming}, timeout=max(1.0, deadline - monotonic()))
            if delivery_counter.pending_events:
                _log.error("the callbacks of %d events stay uncounted", delivery_counter.pending_events)
            watch.cancel()
            counting.cancel()
            naming.cancel()


def _readiness_checks(organization_cache: OrganizationCache, write_probe: WriteProbe) -> Checks:
    async def organizations_read() -> str | None:
        return None if organization_cache.is_synced else "they are not read yet"

    return {"organizations": organizations_read, "kubernetes": write_probe.check}


def main(argv: Sequence[str], environ: Mapping[str, str]) -> None:
    """Run the receiver as a process."""
    settings = load(ReceiverSettings, argv, environ)
    run_process(
        "receiver",
        settings,
        lambda process: serve(process, settings, limits=ReceiverLimits()),
        context=tracing.configured("receiver", environ),
    )

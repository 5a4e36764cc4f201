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

from counterfoil import __version__, logs, loops, tracing
from counterfoil.clock import WallClock
from counterfoil.cluster import Unconfigured, connect
from counterfoil.health import Checks, private_server
from counterfoil.metrics import Metrics, new_registry
from counterfoil.settings import ReceiverSettings, load
from webhook.deliveries import Deliveries
from webhook.intake import Intake
from webhook.limits import Limits
from webhook.organizations import Directory
from webhook.reception import Reception
from webhook.server import public_server
from webhook.throttle import Bucket
from webhook.writability import Writability

log = logging.getLogger(__name__)


async def serve(settings: ReceiverSettings, *, limits: Limits) -> None:
    """Run a receiver until SIGTERM or SIGINT, then end in order: refuse new work, finish the old, write the counts."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    clock = WallClock()
    metrics = Metrics(new_registry(), version=__version__)
    directory = Directory(
        metrics, new_bucket=lambda: Bucket(rate=settings.callback_rate, burst=settings.callback_burst)
    )
    async with connect(
        namespace=settings.namespace, observe=metrics.kubernetes_request, connections=settings.connections
    ) as cluster:
        writability = Writability(cluster, monotonic=loop.time, valid_seconds=limits.probe_seconds)
        deliveries = Deliveries(cluster, clock=clock, random=SystemRandom(), limits=limits)
        intake = Intake(cluster, deliveries, writability, clock=clock, limits=limits)
        reception = Reception(directory, intake, metrics, limits=limits, monotonic=loop.time)
        ready = _readiness(stop, directory, writability)
        grace = settings.grace.total_seconds()
        async with (
            private_server(settings.private_listen, metrics.registry, live={}, ready=ready),
            AsyncExitStack() as public,
        ):
            await public.enter_async_context(
                public_server(settings.listen, reception, limits=limits, grace_seconds=grace)
            )
            async with asyncio.TaskGroup() as tasks:
                following = tasks.create_task(directory.follow(cluster))
                writing = tasks.create_task(deliveries.keep_writing())
                await stop.wait()
                log.info("ending: what was accepted is finished, then the deliveries are counted")
                await clock.sleep(settings.drain.total_seconds())
                deadline = loop.time() + grace
                await public.aclose()
                deliveries.close()
                await asyncio.wait({writing}, timeout=max(1.0, deadline - loop.time()))
                if deliveries.waiting:
                    log.error("the deliveries of %d events stay uncounted", deliveries.waiting)
                following.cancel()
                writing.cancel()


def _readiness(stop: asyncio.Event, directory: Directory, writability: Writability) -> Checks:
    async def not_ending() -> str | None:
        return "it is ending" if stop.is_set() else None

    async def organizations_read() -> str | None:
        return None if directory.is_complete else "they are not read yet"

    return {"process": not_ending, "organizations": organizations_read, "kubernetes": writability.check}


def main(argv: Sequence[str], environ: Mapping[str, str]) -> None:
    """Run the receiver as a process."""
    settings = load(ReceiverSettings, argv, environ)
    logs.configure(settings.log_level, settings.log_format)
    try:
        with tracing.configured("receiver", environ):
            loops.run(serve(settings, limits=Limits()))
    except (Unconfigured, OSError) as trouble:
        # What the person who started it can mend: no stack trace.
        log.critical("the receiver cannot run: %s", trouble)
        raise SystemExit(1) from None

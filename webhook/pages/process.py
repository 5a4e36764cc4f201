"""
The pages as a process: its parts put together, and taken apart again in order on SIGTERM.

Unlike the receiver it calls eSAW and reads Secrets, each by its name; its ServiceAccount is its own.
"""

import asyncio
import logging
import signal
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack

from counterfoil import __version__, logs, loops
from counterfoil.clock import WallClock
from counterfoil.cluster import ApiProblem, Cluster, Unconfigured, connect
from counterfoil.esaw import Esaws, make_http
from counterfoil.health import Checks, private_server
from counterfoil.metrics import Metrics, new_registry
from counterfoil.resources import Organization
from counterfoil.sealing import Sealing, SealingKeysInvalid
from counterfoil.settings import PagesSettings, load
from webhook.pages.consents import Consents
from webhook.pages.desk import Desk
from webhook.pages.flows import Flows
from webhook.pages.limits import ESAW, PageLimits
from webhook.pages.notes import Notes
from webhook.pages.reception import Reception
from webhook.pages.rendering import Renderer
from webhook.pages.repair import Repair
from webhook.pages.sending import Sending
from webhook.server import public_server
from webhook.throttle import Bucket

log = logging.getLogger(__name__)


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
        ) as cluster,
        make_http(bounds=ESAW) as http,
    ):
        esaws = Esaws(http, clock, metrics.esaw_request, ESAW)
        attempt = settings.attempt.total_seconds()
        notes = Notes(cluster, clock, attempt_seconds=max(1, round(attempt)))
        consents = Consents(cluster, sealing, clock)
        sending = Sending(cluster, notes, clock, attempt_seconds=attempt, limits=limits, monotonic=loop.time)
        renderer = Renderer()
        reception = Reception(
            Desk(
                cluster=cluster,
                flows=Flows(
                    sealing, clock, flow_seconds=limits.flow_seconds, form_seconds=limits.form_seconds
                ),
                notes=notes,
                consents=consents,
                sending=sending,
                esaws=esaws,
                renderer=renderer,
                limits=limits,
            ),
            renderer,
            metrics,
            bucket=Bucket(rate=settings.page_rate, burst=settings.page_burst),
            limits=limits,
            monotonic=loop.time,
        )
        repair = Repair(
            cluster=cluster,
            notes=notes,
            sending=sending,
            consents=consents,
            esaws=esaws,
            clock=clock,
            limits=limits,
        )
        ready = _readiness(stop, cluster, sealing)
        async with (
            private_server(settings.private_listen, metrics.registry, live={}, ready=ready),
            AsyncExitStack() as public,
        ):
            await public.enter_async_context(
                public_server(
                    settings.listen, reception, limits=limits, grace_seconds=settings.grace.total_seconds()
                )
            )
            async with asyncio.TaskGroup() as tasks:
                repairing = tasks.create_task(repair.run())
                await stop.wait()
                log.info("ending: what was begun is finished")
                await clock.sleep(settings.drain.total_seconds())
                await public.aclose()
                repairing.cancel()


def _readiness(stop: asyncio.Event, cluster: Cluster, sealing: Sealing) -> Checks:
    async def not_ending() -> str | None:
        return "it is ending" if stop.is_set() else None

    async def keys() -> str | None:
        return sealing.trouble()

    async def kubernetes() -> str | None:
        try:
            await cluster.page(Organization, limit=1)
        except ApiProblem as problem:
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
        limits = PageLimits(repair_seconds=settings.attempt.total_seconds() / 2)
        loops.run(serve(settings, sealing, limits=limits))
    except (SealingKeysInvalid, Unconfigured, OSError) as trouble:
        # What the person who started it can mend: no stack trace.
        log.critical("the pages cannot run: %s", trouble)
        raise SystemExit(1) from None

"""
The console as a process: its parts put together, and taken apart again in order on SIGTERM.

It opens the way to the API server without credentials of its own: what it asks for, it asks with the token of whoever is
in front of the browser.
"""

import asyncio
import logging
import signal
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack

from counterfoil import __version__, logs, loops
from counterfoil.clock import WallClock
from counterfoil.cluster import Unconfigured, open_gate
from counterfoil.health import private_server
from counterfoil.metrics import Metrics, new_registry
from counterfoil.sealing import Sealing, SealingKeysInvalid
from counterfoil.settings import ConsoleSettings, load
from webhook.console.actions import Actions
from webhook.console.desk import Desk
from webhook.console.limits import ConsoleLimits
from webhook.console.reception import Reception
from webhook.console.rendering import Renderer
from webhook.console.sessions import ProcessSeal, Seal, Sessions
from webhook.console.visitors import Visitors
from webhook.server import public_server
from webhook.throttle import Bucket, Buckets

log = logging.getLogger(__name__)


async def serve(settings: ConsoleSettings, seal: Seal, *, limits: ConsoleLimits) -> None:
    """Run the console until SIGTERM or SIGINT, then end in order: refuse new work, finish the old."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    clock = WallClock()
    metrics = Metrics(new_registry(), version=__version__)
    async with open_gate(
        namespace=settings.namespace, observe=metrics.kubernetes_request, connections=settings.connections
    ) as gate:
        renderer = Renderer(limits, settings.sign_in)
        reception = Reception(
            desk=Desk(renderer, Actions(clock, limits=limits), clock, limits=limits),
            renderer=renderer,
            sessions=Sessions(seal, clock, longest=settings.session),
            visitors=Visitors(gate, limits=limits, monotonic=loop.time),
            metrics=metrics,
            clock=clock,
            sign_in=settings.sign_in,
            buckets=Buckets(
                lambda: Bucket(rate=settings.address_rate, burst=settings.address_burst),
                most=limits.addresses,
            ),
            bucket=Bucket(rate=settings.page_rate, burst=settings.page_burst),
            proxies=settings.proxies,
            limits=limits,
            monotonic=loop.time,
        )

        async def not_ending() -> str | None:
            return "it is ending" if stop.is_set() else None

        async with (
            private_server(
                settings.private_listen,
                metrics.registry,
                live={},
                ready={"process": not_ending, "kubernetes": gate.trouble},
            ),
            AsyncExitStack() as public,
        ):
            await public.enter_async_context(
                public_server(
                    settings.listen, reception, limits=limits, grace_seconds=settings.grace.total_seconds()
                )
            )
            await stop.wait()
            log.info("ending: what was begun is finished")
            await clock.sleep(settings.drain.total_seconds())


def _seal(settings: ConsoleSettings) -> Seal:
    if settings.sealing_keys is not None:
        return Sealing(settings.sealing_keys)
    log.info("sessions are sealed with a key of this process: right for one replica, and they end with it")
    return ProcessSeal()


def main(argv: Sequence[str], environ: Mapping[str, str]) -> None:
    """Run the console as a process."""
    settings = load(ConsoleSettings, argv, environ)
    logs.configure(settings.log_level, settings.log_format)
    try:
        loops.run(serve(settings, _seal(settings), limits=ConsoleLimits()))
    except (SealingKeysInvalid, Unconfigured, OSError) as trouble:
        # What the person who started it can mend: no stack trace.
        log.critical("the console cannot run: %s", trouble)
        raise SystemExit(1) from None

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

from counterfoil import __version__, logs
from counterfoil._upstream import event_loop
from counterfoil.clock import WallClock
from counterfoil.health import serve_health_and_metrics
from counterfoil.kube.client import open_token_client_factory
from counterfoil.kube.errors import NotConfigured
from counterfoil.metrics import Metrics, new_registry
from counterfoil.sealing import Sealing, SealingKeysInvalid
from counterfoil.settings import ConsoleSettings, load
from webhook.console.access import Authenticator
from webhook.console.actions import ActionService
from webhook.console.handler import ConsoleHandler
from webhook.console.limits import ConsoleLimits
from webhook.console.rendering import ConsoleRenderer
from webhook.console.sessions import ConsoleSessions, CookieCipher, ProcessCookieCipher
from webhook.console.views import ConsoleViews
from webhook.http_server.rate_limit import TokenBucket, TokenBuckets
from webhook.http_server.server import public_server

_log = logging.getLogger(__name__)


async def serve(settings: ConsoleSettings, cipher: CookieCipher, *, limits: ConsoleLimits) -> None:
    """Run the console until SIGTERM or SIGINT, then end in order: refuse new work, finish the old."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    clock = WallClock()
    metrics = Metrics(new_registry(), version=__version__)
    async with open_token_client_factory(
        namespace=settings.namespace, observe=metrics.kubernetes_request, connections=settings.connections
    ) as client_factory:
        renderer = ConsoleRenderer(limits, settings.sign_in)
        handler = ConsoleHandler(
            views=ConsoleViews(renderer, ActionService(clock, limits=limits), clock, limits=limits),
            renderer=renderer,
            sessions=ConsoleSessions(cipher, clock, max_age=settings.session),
            authenticator=Authenticator(client_factory, limits=limits, monotonic=loop.time),
            metrics=metrics,
            clock=clock,
            sign_in=settings.sign_in,
            buckets=TokenBuckets(
                lambda: TokenBucket(rate=settings.address_rate, burst=settings.address_burst),
                max_buckets=limits.client_addresses,
            ),
            bucket=TokenBucket(rate=settings.page_rate, burst=settings.page_burst),
            proxies=settings.proxies,
            limits=limits,
            monotonic=loop.time,
        )

        async def not_ending() -> str | None:
            return "it is ending" if stop.is_set() else None

        async with (
            serve_health_and_metrics(
                settings.private_listen,
                metrics.registry,
                live={},
                ready={"process": not_ending, "kubernetes": client_factory.unavailable_reason},
            ),
            AsyncExitStack() as public,
        ):
            await public.enter_async_context(
                public_server(
                    settings.listen, handler, limits=limits, grace_seconds=settings.grace.total_seconds()
                )
            )
            await stop.wait()
            _log.info("ending: what was begun is finished")
            await clock.sleep(settings.drain.total_seconds())


def _cookie_cipher(settings: ConsoleSettings) -> CookieCipher:
    if settings.sealing_keys is not None:
        return Sealing(settings.sealing_keys)
    _log.info("sessions are sealed with a key of this process: right for one replica, and they end with it")
    return ProcessCookieCipher()


def main(argv: Sequence[str], environ: Mapping[str, str]) -> None:
    """Run the console as a process."""
    settings = load(ConsoleSettings, argv, environ)
    logs.configure(settings.log_level, settings.log_format)
    try:
        event_loop.run(serve(settings, _cookie_cipher(settings), limits=ConsoleLimits()))
    except (SealingKeysInvalid, NotConfigured, OSError) as trouble:
        # What the person who started it can mend: no stack trace.
        _log.critical("the console cannot run: %s", trouble)
        raise SystemExit(1) from None

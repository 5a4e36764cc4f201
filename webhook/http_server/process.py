"""
Start and stop of one HTTP process: signals, private port, public port and drain.

SIGTERM or SIGINT -> readiness fails -> drain (Kubernetes removes the endpoint) -> the public port closes and
accepted requests are answered -> background work ends. The private port (health, metrics) closes last.
"""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from typing import Any, TypeAlias

from counterfoil import __version__, logs
from counterfoil._upstream import event_loop
from counterfoil._upstream.cyclic_garbage import exempt_loaded_objects
from counterfoil.clock import WallClock
from counterfoil.health import Checks, serve_health_and_metrics
from counterfoil.kube.errors import NotConfigured
from counterfoil.metrics import Metrics, new_registry
from counterfoil.settings import BrowserSettings, ConsoleSettings, PagesSettings, ReceiverSettings
from counterfoil.untrusted.loop_watchdog import watched_event_loop
from counterfoil.worker_processes.sandbox import hide_memory
from webhook.http_server.limits import HttpLimits
from webhook.http_server.rate_limit import ClientBuckets, TokenBucket, TokenBuckets
from webhook.http_server.server import HttpHandler, public_server

_log = logging.getLogger(__name__)

ProcessSettings: TypeAlias = ReceiverSettings | PagesSettings | ConsoleSettings


class HttpProcess:
    """One process: its clock, its metrics, and from ``serving`` on its two ports."""

    def __init__(self, name: str, settings: ProcessSettings) -> None:
        """Take SIGTERM and SIGINT first, so that no signal is lost during the start."""
        self._settings = settings
        self._stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        self._public = AsyncExitStack()
        self.clock = WallClock()
        self.metrics = Metrics(new_registry(), version=__version__, process=name)
        self.monotonic = loop.time
        """A clock in seconds that never goes back."""

    @asynccontextmanager
    async def serving(
        self, handler: HttpHandler, *, ready: Checks, limits: HttpLimits
    ) -> AsyncIterator[None]:
        """Open both ports; close them at the end. Raises ``OSError`` if a port is not available."""

        async def not_stopping() -> str | None:
            return "it is ending" if self._stop.is_set() else None

        settings, checks = self._settings, {"process": not_stopping, **ready}
        async with (
            serve_health_and_metrics(settings.private_listen, self.metrics.registry, live={}, ready=checks),
            self._public,
        ):
            server = public_server(
                settings.listen, handler, limits=limits, grace_seconds=settings.grace.total_seconds()
            )
            await self._public.enter_async_context(server)
            yield

    async def wait_for_stop(self) -> None:
        """Wait for SIGTERM or SIGINT, then for the drain to end. The public port still takes requests."""
        await self._stop.wait()
        _log.info("stopping: accepted requests are answered before the process ends")
        await self.clock.sleep(self._settings.drain.total_seconds())

    async def close_public_port(self) -> None:
        """Accept no new request, and answer those that were accepted."""
        await self._public.aclose()


def page_rates(settings: BrowserSettings, limits: HttpLimits) -> ClientBuckets:
    """Return the rates of pages: of each client address, and of all."""
    addresses = TokenBuckets(
        lambda: TokenBucket(rate=settings.address_rate, burst=settings.address_burst),
        max_buckets=limits.client_addresses,
    )
    return ClientBuckets(addresses, TokenBucket(rate=settings.page_rate, burst=settings.page_burst))


def run_process(
    name: str,
    settings: ProcessSettings,
    serve: Callable[[HttpProcess], Coroutine[Any, Any, None]],
    *,
    configuration_errors: tuple[type[Exception], ...] = (),
    context: AbstractContextManager[object] = nullcontext(),  # noqa: B008 - has no state
) -> None:
    """Run a process until it ends. A configuration error ends it with status 1 and one log line, without a
    traceback."""

    async def run() -> None:
        process = HttpProcess(name, settings)
        with watched_event_loop(process.metrics):
            await serve(process)

    logs.configure(settings.log_level, settings.log_format)
    expected: tuple[type[Exception], ...] = (*configuration_errors, NotConfigured, OSError)
    try:
        hide_memory()
        exempt_loaded_objects()
        with context:
            event_loop.run(run())
    except expected as problem:
        _log.critical("the %s cannot run: %s", name, problem)
        raise SystemExit(1) from None

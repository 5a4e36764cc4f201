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

from counterfoil import logs
from counterfoil._upstream import event_loop
from counterfoil.clock import Clock
from counterfoil.health import Checks, serve_health_and_metrics
from counterfoil.kube.errors import NotConfigured
from counterfoil.metrics import Metrics
from counterfoil.settings import ConsoleSettings, PagesSettings, ReceiverSettings
from webhook.http_server.limits import HttpLimits
from webhook.http_server.server import HttpHandler, public_server

_log = logging.getLogger(__name__)

ProcessSettings: TypeAlias = ReceiverSettings | PagesSettings | ConsoleSettings


class ServingProcess:
    """A process whose ports are open."""

    def __init__(
        self, public: AsyncExitStack, stop: asyncio.Event, clock: Clock, drain_seconds: float
    ) -> None:
        self._public = public
        self._stop = stop
        self._clock = clock
        self._drain_seconds = drain_seconds

    async def wait_for_stop(self) -> None:
        """Wait for SIGTERM or SIGINT, then for the drain to end. The public port still takes requests."""
        await self._stop.wait()
        _log.info("stopping: accepted requests are answered before the process ends")
        await self._clock.sleep(self._drain_seconds)

    async def close_public_port(self) -> None:
        """Accept no new request, and answer those that were accepted."""
        await self._public.aclose()


def stop_on_signals() -> asyncio.Event:
    """Return an event that SIGTERM or SIGINT sets. Called first, so that no signal is lost during the
    start."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


@asynccontextmanager
async def serving(
    settings: ProcessSettings,
    handler: HttpHandler,
    metrics: Metrics,
    *,
    stop: asyncio.Event,
    ready: Checks,
    limits: HttpLimits,
    clock: Clock,
) -> AsyncIterator[ServingProcess]:
    """Open the private and the public port; close both at the end. Raises ``OSError`` if a port is not
    available."""

    async def not_stopping() -> str | None:
        return "it is ending" if stop.is_set() else None

    checks = {"process": not_stopping, **ready}
    async with (
        serve_health_and_metrics(settings.private_listen, metrics.registry, live={}, ready=checks),
        AsyncExitStack() as public,
    ):
        await public.enter_async_context(
            public_server(
                settings.listen, handler, limits=limits, grace_seconds=settings.grace.total_seconds()
            )
        )
        yield ServingProcess(public, stop, clock, settings.drain.total_seconds())


def run_process(
    name: str,
    settings: ProcessSettings,
    serve: Callable[[], Coroutine[Any, Any, None]],
    *,
    configuration_error: type[Exception] = NotConfigured,
    context: AbstractContextManager[object] = nullcontext(),  # noqa: B008 - has no state
) -> None:
    """Run a process until it ends. A configuration error ends it with status 1 and one log line, without a
    traceback."""
    logs.configure(settings.log_level, settings.log_format)
    try:
        with context:
            event_loop.run(serve())
    except (configuration_error, NotConfigured, OSError) as problem:
        _log.critical("the %s cannot run: %s", name, problem)
        raise SystemExit(1) from None

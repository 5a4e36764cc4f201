"""
The private HTTP server of a process: ``/healthz``, ``/readyz`` and ``/metrics`` on a separate port.

Each check has a name and returns a short error text, or None on success. Every client sees these texts, so
they contain no secret. Never serve these endpoints on a public port.
"""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics import exposition as openmetrics

from counterfoil.settings import ListenAddress

Check = Callable[[], Awaitable[str | None]]
"""Returns the error, or None on success. A check that raises or exceeds its timeout has failed."""

Checks = Mapping[str, Check]

CHECK_TIMEOUT_SECONDS = 3.0
"""Timeout for one check. The timeout of a probe is 5 seconds in the chart (Kubernetes' default: 1)."""

_log = logging.getLogger(__name__)


@asynccontextmanager
async def serve_health_and_metrics(
    listen: ListenAddress | socket.socket, metrics_registry: CollectorRegistry, *, live: Checks, ready: Checks
) -> AsyncIterator[ListenAddress]:
    """
    Serve health and metrics inside the context; yields the address with the actual port.

    ``listen`` is an address, or a socket of ``listening_socket``, which stays open. Raises ``OSError`` when
    the address is not available.
    """

    async def metrics(request: web.Request) -> web.Response:
        # Prometheus asks for OpenMetrics, the only format with exemplars.
        if openmetrics.CONTENT_TYPE_LATEST.partition(";")[0] in request.headers.get("Accept", ""):
            text: bytes = openmetrics.generate_latest(metrics_registry)  # type: ignore[no-untyped-call]
            return web.Response(body=text, headers={"Content-Type": openmetrics.CONTENT_TYPE_LATEST})
        text = generate_latest(metrics_registry)
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    app = web.Application(client_max_size=1024)
    app.router.add_get("/healthz", partial(_answer, live))
    app.router.add_get("/readyz", partial(_answer, ready))
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        if isinstance(listen, socket.socket):
            # ``listening_socket`` has logged the address, once for all servers.
            await web.SockSite(runner, listen.dup()).start()
        else:
            await web.TCPSite(runner, listen.host, listen.port).start()
        bound_address = ListenAddress(*runner.addresses[0][:2])
        if not isinstance(listen, socket.socket):
            _log_address(bound_address)
        yield bound_address
    finally:
        await runner.cleanup()


def listening_socket(listen: ListenAddress) -> socket.socket:
    """Return a socket on which several servers can serve one after the other; meanwhile clients wait."""
    family, _, _, _, address = socket.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM)[0]
    listening = socket.create_server(address[:2], family=family)
    _log_address(ListenAddress(*listening.getsockname()[:2]))
    return listening


def _log_address(address: ListenAddress) -> None:
    _log.info("health and metrics are at %s", address)


async def _answer(checks: Checks, _: web.Request) -> web.Response:
    reasons = await asyncio.gather(*(_reason(check) for check in checks.values()))
    failed = [f"{name}: {reason}" for name, reason in zip(checks, reasons, strict=True) if reason is not None]
    if failed:
        return web.Response(status=503, text="\n".join(failed) + "\n")
    return web.Response(text="ok")


async def _reason(check: Check) -> str | None:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            return await check()
    except TimeoutError:
        return f"no result within {CHECK_TIMEOUT_SECONDS:g} s"
    except Exception as trouble:
        _log.exception("a health check could not be made")
        # The text of an unexpected error can contain secrets; its type cannot.
        return f"could not be checked ({type(trouble).__name__})"

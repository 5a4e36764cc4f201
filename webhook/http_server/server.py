"""
The public port: HTTP within limits, in front of a request handler (callbacks, pages or console).

Each request flows: aiohttp's low-level server -> ``HttpHandler.answer`` -> response. There are few routes and
no middleware. aiohttp's own error answers and access log are disabled: they can contain parts of a path or a
query, and so of a token.

The number of connections is bounded, and so is the time for which a client leaves sent bytes unread. Without
the second bound, a connection whose client never reads would stay open also after its end.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NoReturn, Protocol

from aiohttp import web

from counterfoil.settings import ListenAddress
from webhook.http_server.limits import HttpLimits

_log = logging.getLogger(__name__)


class HttpHandler(Protocol):
    """Answers requests. Neither method ever raises."""

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        ...

    def answer_unreadable(self) -> web.StreamResponse:
        """Answer a request that could not be parsed."""
        ...


@asynccontextmanager
async def public_server(
    listen: ListenAddress, handler: HttpHandler, *, limits: HttpLimits, grace_seconds: float
) -> AsyncIterator[ListenAddress]:
    """
    Accept requests inside the context; yields the address with the port that the system assigned.

    At the end the server accepts no new request and answers the accepted ones within ``grace_seconds``.
    Raises ``OSError`` if the address is not available.
    """
    server = http_server(handler, limits)
    runner = web.ServerRunner(server, shutdown_timeout=grace_seconds)
    await runner.setup()
    closing = asyncio.create_task(server.close_unread(asyncio.get_running_loop().time))
    try:
        await web.TCPSite(runner, listen.host, listen.port, backlog=1024).start()
        address = ListenAddress(listen.host, runner.addresses[0][1])
        _log.info("requests are taken at %s", address)
        yield address
    finally:
        closing.cancel()
        await runner.cleanup()


def http_server(handler: HttpHandler, limits: HttpLimits) -> "HttpServer":
    """Return the factory of the connections."""
    return HttpServer(
        handler,
        limits,
        access_log=None,
        keepalive_timeout=limits.idle_seconds,
        lingering_time=limits.lingering_seconds,
        max_line_size=limits.request_line,
        max_field_size=limits.header_field,
        max_headers=limits.headers,
        auto_decompress=False,
    )


class HttpServer(web.Server):
    """aiohttp's low-level server, without its own error answers or logs, and with bounds for connections."""

    def __init__(self, handler: HttpHandler, limits: HttpLimits, **options: Any) -> None:
        super().__init__(handler.answer)
        self._http_handler = handler
        self._limits = limits
        self._options = options
        self._unread_since: dict[web.RequestHandler, float] = {}

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Accept a connection. Beyond the maximum, another one is closed for it: the oldest one without a
        request in progress. If there is none, the new one is closed."""
        super().connection_made(handler, transport)
        if len(self._connections) <= self._limits.connections:
            return
        for each, other in self._connections.items():
            if isinstance(each, _HttpConnection) and not each.is_busy and not other.is_closing():
                # The oldest one, or the new one, which is the last in this order.
                other.abort()
                return
        transport.abort()

    async def close_unread(self, monotonic: Callable[[], float]) -> NoReturn:
        """Close each connection whose client leaves sent bytes unread for too long, until cancelled."""
        seconds = self._limits.unread_seconds
        while True:
            await asyncio.sleep(seconds / 10)
            now, before = monotonic(), self._unread_since
            self._unread_since = {
                each: before.get(each, now)
                for each, transport in self._connections.items()
                if transport.get_write_buffer_size()
            }
            for each, since in self._unread_since.items():
                if now - since >= seconds:
                    self._connections[each].abort()

    def __call__(self) -> web.RequestHandler:
        """Return the protocol of a new connection."""
        return _HttpConnection(self, self._http_handler, **self._options)


class _HttpConnection(web.RequestHandler):
    """One connection; the handler makes every answer."""

    __slots__ = ("_http_handler",)

    def __init__(self, server: HttpServer, handler: HttpHandler, **options: Any) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **options)
        self._http_handler = handler

    @property
    def is_busy(self) -> bool:
        """Whether a complete request is in progress."""
        return self._current_request is not None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a request that could not be parsed."""
        return self._http_handler.answer_unreadable()

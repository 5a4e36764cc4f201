"""
The public port: HTTP with bounds, in front of a reception: the receiver's or the pages'.

It stands on aiohttp's low-level server, since there are few routes and nothing for a middleware to do. What aiohttp
would answer and log by itself is kept back: it can hold pieces of a path or a query, and so of a token.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

from aiohttp import web

from counterfoil.settings import ListenAddress

_log = logging.getLogger(__name__)


class HttpHandler(Protocol):
    """Whoever answers. Neither method ever raises."""

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        ...

    def answer_unreadable(self) -> web.StreamResponse:
        """Answer what could not even be read."""
        ...


class HttpLimits(Protocol):
    """What of the limits concerns HTTP itself."""

    @property
    def request_line(self) -> int:
        """Bytes of method, path and query."""
        ...

    @property
    def header_field(self) -> int:
        """Bytes of one header line."""
        ...

    @property
    def headers(self) -> int:
        """Header lines of one request."""
        ...

    @property
    def idle_seconds(self) -> float:
        """Time for the headers, and of a connection without a request."""
        ...

    @property
    def lingering_seconds(self) -> float:
        """Time in which the rest of a refused body is thrown away."""
        ...


@asynccontextmanager
async def public_server(
    listen: ListenAddress, handler: HttpHandler, *, limits: HttpLimits, grace_seconds: float
) -> AsyncIterator[ListenAddress]:
    """
    Take requests while inside; yields the address with the port that was really taken.

    At the end nothing new is accepted, and what was accepted is answered within ``grace_seconds``. Raises ``OSError``
    when the address cannot be had.
    """
    server = _HttpServer(
        handler,
        access_log=None,
        keepalive_timeout=limits.idle_seconds,
        lingering_time=limits.lingering_seconds,
        max_line_size=limits.request_line,
        max_field_size=limits.header_field,
        max_headers=limits.headers,
        auto_decompress=False,
    )
    runner = web.ServerRunner(server, shutdown_timeout=grace_seconds)
    await runner.setup()
    try:
        await web.TCPSite(runner, listen.host, listen.port, backlog=1024).start()
        taken = ListenAddress(listen.host, runner.addresses[0][1])
        _log.info("requests are taken at %s", taken)
        yield taken
    finally:
        await runner.cleanup()


class _HttpServer(web.Server):
    """aiohttp's low-level server, with connections that say nothing of their own."""

    def __init__(self, handler: HttpHandler, **options: Any) -> None:
        super().__init__(handler.answer)
        self._http_handler = handler
        self._options = options

    def __call__(self) -> web.RequestHandler:
        return _HttpConnection(self, self._http_handler, **self._options)


class _HttpConnection(web.RequestHandler):
    """One connection, which leaves every answer to the reception."""

    __slots__ = ("_http_handler",)

    def __init__(self, server: _HttpServer, handler: HttpHandler, **options: Any) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **options)
        self._http_handler = handler

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a request that could not even be read."""
        return self._http_handler.answer_unreadable()

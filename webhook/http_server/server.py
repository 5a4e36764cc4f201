"""
The public port: HTTP within limits, in front of a request handler (callbacks, pages or console).

Each request flows: aiohttp's low-level server -> ``HttpHandler.answer`` -> response. There are few routes and
no middleware. aiohttp's own error answers and access log are disabled: they can contain parts of a path or a
query, and so of a token.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

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
    runner = web.ServerRunner(http_server(handler, limits), shutdown_timeout=grace_seconds)
    await runner.setup()
    try:
        await web.TCPSite(runner, listen.host, listen.port, backlog=1024).start()
        address = ListenAddress(listen.host, runner.addresses[0][1])
        _log.info("requests are taken at %s", address)
        yield address
    finally:
        await runner.cleanup()


def http_server(handler: HttpHandler, limits: HttpLimits) -> web.Server:
    """Return the factory of the connections."""
    return _HttpServer(
        handler,
        access_log=None,
        keepalive_timeout=limits.idle_seconds,
        lingering_time=limits.lingering_seconds,
        max_line_size=limits.request_line,
        max_field_size=limits.header_field,
        max_headers=limits.headers,
        auto_decompress=False,
    )


class _HttpServer(web.Server):
    """aiohttp's low-level server, without its own error answers or logs."""

    def __init__(self, handler: HttpHandler, **options: Any) -> None:
        super().__init__(handler.answer)
        self._http_handler = handler
        self._options = options

    def __call__(self) -> web.RequestHandler:
        return _HttpConnection(self, self._http_handler, **self._options)


class _HttpConnection(web.RequestHandler):
    """One connection; the handler makes every answer."""

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
        """Answer a request that could not be parsed."""
        return self._http_handler.answer_unreadable()

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

from counterfoil.settings import Address

log = logging.getLogger(__name__)


class Reception(Protocol):
    """Whoever answers. Neither method ever raises."""

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        ...

    def not_http(self) -> web.StreamResponse:
        """Answer what could not even be read."""
        ...


class Bounds(Protocol):
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
    listen: Address, reception: Reception, *, limits: Bounds, grace_seconds: float
) -> AsyncIterator[Address]:
    """
    Take requests while inside; yields the address with the port that was really taken.

    At the end nothing new is accepted, and what was accepted is answered within ``grace_seconds``. Raises ``OSError``
    when the address cannot be had.
    """
    server = _Server(
        reception,
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
        taken = Address(listen.host, runner.addresses[0][1])
        log.info("requests are taken at %s", taken)
        yield taken
    finally:
        await runner.cleanup()


class _Server(web.Server):
    """aiohttp's low-level server, with connections that say nothing of their own."""

    def __init__(self, reception: Reception, **options: Any) -> None:
        super().__init__(reception.answer)
        self._reception = reception
        self._options = options

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, self._reception, **self._options)


class _Connection(web.RequestHandler):
    """One connection, which leaves every answer to the reception."""

    __slots__ = ("_reception",)

    def __init__(self, server: _Server, reception: Reception, **options: Any) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **options)
        self._reception = reception

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a request that could not even be read."""
        return self._reception.not_http()

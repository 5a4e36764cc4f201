"""
The stand-in itself: one server on the loopback interface, with REST v6, OAuth, the web pages, and the control in hand.

Everything is put together here. All doors but the control surface's pass the same gate.
"""

import random
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from aiohttp import web

from sandbox.esaw import control_http
from sandbox.esaw.behaviour import Behaviour
from sandbox.esaw.control import Control
from sandbox.esaw.estate import Estate
from sandbox.esaw.gate import Gate
from sandbox.esaw.oauth import OAuth
from sandbox.esaw.rest import MAX_UPLOAD, Routes
from sandbox.esaw.sending import Sending
from sandbox.esaw.sessions import Sessions
from sandbox.esaw.web import Site

VERSION = "25.52.0.100"
"""What `system/version` says."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class StandIn(Control):
    """eSignAnyWhere for tests and demos: `async with StandIn() as esaw`, then `esaw.url` and the methods of Control."""

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        behaviour: Behaviour | None = None,
        version: str = VERSION,
        now: Callable[[], datetime] = _utc_now,
        seed: int | None = None,
    ) -> None:
        """Port 0 takes a free one; the same seed gives the same ids and tokens."""
        super().__init__(Estate(now, random.Random(seed)), behaviour or Behaviour())
        self._host = host
        self._port = port
        self._version = version
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where it listens, without a slash at the end."""
        return f"http://{self._host}:{self._port}"

    async def __aenter__(self) -> Self:
        # handler_cancellation: a client that goes away ends its slow download here as well.
        self._runner = web.AppRunner(
            self._application(), access_log=None, handler_cancellation=True, shutdown_timeout=0.1
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._background.close()
        await self._caller.close()
        if self._runner:
            await self._runner.cleanup()

    def _application(self) -> web.Application:
        gate = Gate(self._estate, self._faults, self._recorder)
        sending = Sending(self._estate, self._lifecycle)
        rest = Routes(self._estate, self._lifecycle, sending, self._version)
        sessions = Sessions(self._estate)
        oauth = OAuth(self._estate, self._consents, sessions, lambda: self._behaviour)
        pages = Site(self._estate, sessions, sending, oauth)

        async def api(request: web.Request) -> web.StreamResponse:
            return await gate.pass_through(request, rest.door(request))

        async def site(request: web.Request) -> web.StreamResponse:
            return await gate.pass_through(request, await pages.door(request))

        application = web.Application(client_max_size=2 * MAX_UPLOAD)
        application.add_routes(control_http.routes(self))
        application.router.add_route("*", "/{api:[Aa][Pp][Ii]}/{rest:.*}", api)
        application.router.add_route("*", "/{rest:.*}", site)
        return application

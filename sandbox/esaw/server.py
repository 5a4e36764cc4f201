"""
The stand-in itself: one server on the loopback interface, with REST v6, OAuth, the web pages, and the control
in hand.

This module connects all parts. All routes except the control surface's pass the same pipeline.
"""

import random
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from aiohttp import web

from sandbox.esaw.control import http_endpoint
from sandbox.esaw.control.api import Control
from sandbox.esaw.core.behaviour import Behaviour
from sandbox.esaw.core.envelope_sender import EnvelopeSender
from sandbox.esaw.core.profile import EsawProfile
from sandbox.esaw.core.store import EsawStore
from sandbox.esaw.http.middleware import RequestPipeline
from sandbox.esaw.http.oauth import OAuthEndpoints
from sandbox.esaw.http.rest import MAX_UPLOAD, RestRoutes
from sandbox.esaw.http.sessions import BrowserSessions
from sandbox.esaw.http.website import WebsiteRoutes

VERSION = "25.52.0.100"
"""The version that `system/version` returns."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class StandIn(Control):
    """eSignAnyWhere for tests and demos: `async with StandIn() as esaw`, then `esaw.url` and the methods of
    Control."""

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        behaviour: Behaviour | None = None,
        profile: EsawProfile | None = None,
        version: str | None = None,
        now: Callable[[], datetime] = _utc_now,
        seed: int | None = None,
    ) -> None:
        """
        Port 0 takes a free one; the same seed gives the same ids and tokens.

        The profile's switches replace those of `behaviour`, until `set_behaviour` replaces all. Without a
        `version`, the profile's one is returned, else `VERSION`.
        """
        behaviour = behaviour or Behaviour()
        if profile is not None:
            behaviour, version = profile.apply(behaviour), version or profile.esaw_version
        super().__init__(EsawStore(now, random.Random(seed)), behaviour)
        self._host = host
        self._port = port
        self._version = version or VERSION
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
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
        await self._callback_client.close()
        if self._runner:
            await self._runner.cleanup()

    def _application(self) -> web.Application:
        pipeline = RequestPipeline(self._store, self._faults, self._recorder, lambda: self._behaviour)
        envelope_sender = EnvelopeSender(self._store, self._lifecycle)
        rest = RestRoutes(
            self._store, self._lifecycle, envelope_sender, lambda: self._behaviour, self._version
        )
        sessions = BrowserSessions(self._store)
        oauth = OAuthEndpoints(self._store, self._consents, sessions, lambda: self._behaviour)
        pages = WebsiteRoutes(self._store, sessions, envelope_sender, oauth)

        async def api(request: web.Request) -> web.StreamResponse:
            return await pipeline.handle(request, rest.resolve(request))

        async def site(request: web.Request) -> web.StreamResponse:
            return await pipeline.handle(request, await pages.resolve(request))

        application = web.Application(client_max_size=2 * MAX_UPLOAD)
        application.add_routes(http_endpoint.routes(self))
        application.router.add_route("*", "/{api:[Aa][Pp][Ii]}/{rest:.*}", api)
        application.router.add_route("*", "/{rest:.*}", site)
        return application

"""
The heartbeat of the watches: the time of the last data of each, be it a change or a bookmark.

kopf does not pass bookmarks on, so they are recorded where they arrive: kopf uses an HTTP session from here,
and the ``ResponseAdapter`` of its responses reports the changes and bookmarks that are read.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import timedelta

import aiohttp
import kopf

from controller.watch.kopf_responses import ResponseAdapter
from counterfoil.clock import Clock
from counterfoil.kube.errors import ApiError
from counterfoil.kube.watch import Raw
from counterfoil.resources import GROUP, VERSION


class WatchHeartbeat:
    """Records the last data of each watch."""

    def __init__(
        self,
        clock: Clock,
        plurals: Iterable[str],
        *,
        authorization: Callable[[], Awaitable[Mapping[str, str]]],
        list_started: Callable[[str], None],
        page_listed: Callable[[str, Raw], None],
    ) -> None:
        """
        ``authorization`` returns the current credentials as headers, and may raise ``ApiError``;
        ``list_started`` receives the kind of each list that kopf begins, ``page_listed`` the kind of each
        page, with the page.
        """
        self._clock = clock
        self._last_data_at: dict[str, float] = dict.fromkeys(plurals, clock.monotonic())
        self._adapter = ResponseAdapter(
            self._last_data_at,
            clock,
            api_version=f"{GROUP}/{VERSION}",
            data_received=self.record,
            list_started=list_started,
            page_listed=page_listed,
        )
        self._authorization = authorization

    def record(self, plural: str) -> None:
        """Data arrived by the watch of this kind."""
        self._last_data_at[plural] = self._clock.monotonic()

    def idle_times(self) -> Mapping[str, timedelta]:
        """Return the time since the last data of each kind; since the start for a kind without data."""
        now = self._clock.monotonic()
        return {plural: timedelta(seconds=now - at) for plural, at in self._last_data_at.items()}

    def session(self, info: kopf.ConnectionInfo) -> kopf.AiohttpSession:
        """Return a new HTTP session for kopf. Each request has the credentials of its time, so kopf never
        has to log in again."""
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=info.as_ssl_context()),
            headers=info.as_http_headers(),
            proxy=info.proxy_url,
            trust_env=info.trust_env,
            response_class=self._adapter.response_class(),
            middlewares=[self._authorize, self._adapter.request_page],
        )
        # Before the session no data could arrive.
        self._last_data_at = dict.fromkeys(self._last_data_at, self._clock.monotonic())
        return kopf.AiohttpSession(
            aiohttp_session=session,
            server=info.server,
            priority=info.priority,
            default_namespace=info.default_namespace,
        )

    async def _authorize(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        try:
            request.headers.update(await self._authorization())
            return await handler(request)
        except (ApiError, aiohttp.ClientOSError) as problem:
            # kopf closes the session and logs in again if a certain word is in the text of a TLS error.
            raise aiohttp.ClientConnectionError(f"no answer ({type(problem).__name__})") from problem

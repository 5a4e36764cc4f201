"""
The HTTP session of kopf: its credentials are those of each request's time, and its responses are adapted.

kopf does not pass bookmarks on, so the changes and bookmarks that are read are reported from here, where they
arrive.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping

import aiohttp
import kopf

from controller.watch.kopf_responses import ResponseAdapter, WatchObserver
from counterfoil.clock import Clock
from counterfoil.kube.errors import ApiError
from counterfoil.resources import GROUP, VERSION


class KopfSessions:
    """Opens the sessions of kopf."""

    def __init__(
        self,
        clock: Clock,
        plurals: Iterable[str],
        observer: WatchObserver,
        *,
        authorization: Callable[[], Awaitable[Mapping[str, str]]],
    ) -> None:
        """``authorization`` returns the current credentials as headers, and may raise ``ApiError``."""
        self._adapter = ResponseAdapter(plurals, clock, observer, api_version=f"{GROUP}/{VERSION}")
        self._authorization = authorization

    def open(self, info: kopf.ConnectionInfo) -> kopf.AiohttpSession:
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

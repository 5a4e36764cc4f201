"""
The heartbeat of the watches: the time of the last data of each, be it a change or a bookmark.

kopf does not pass bookmarks on, so they are recorded where they arrive: kopf uses an HTTP session from here,
and the ``ResponseAdapter`` of its responses reports each piece of a watch that is read.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta

import aiohttp
import kopf

from counterfoil._upstream.kopf_responses import ResponseAdapter
from counterfoil.clock import Clock


class WatchHeartbeat:
    """Records the last data of each watch."""

    def __init__(self, clock: Clock, plurals: Iterable[str], *, list_started: Callable[[str], None]) -> None:
        """``list_started`` receives the kind of each list that kopf begins."""
        self._clock = clock
        self._last_data_at: dict[str, datetime] = dict.fromkeys(plurals, clock.now())
        self._adapter = ResponseAdapter(
            self._last_data_at, clock, data_received=self.record, list_started=list_started
        )
        self._session: tuple[kopf.ConnectionInfo, kopf.AiohttpSession] | None = None

    def record(self, plural: str) -> None:
        """Data arrived by the watch of this kind."""
        self._last_data_at[plural] = self._clock.now()

    def idle_times(self) -> Mapping[str, timedelta]:
        """Return the time since the last data of each kind; since the start for a kind without data."""
        now = self._clock.now()
        return {plural: now - data_received for plural, data_received in self._last_data_at.items()}

    def session(self, info: kopf.ConnectionInfo) -> kopf.AiohttpSession:
        """Return the HTTP session for kopf; the same session for the same credentials."""
        # kopf recognises refused credentials by comparison, and stops when there are no new ones.
        if self._session is None or self._session[0] != info:
            session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=info.as_ssl_context()),
                headers=info.as_http_headers(),
                proxy=info.proxy_url,
                trust_env=info.trust_env,
                response_class=self._adapter.response_class(),
            )
            opened = kopf.AiohttpSession(
                aiohttp_session=session,
                server=info.server,
                priority=info.priority,
                default_namespace=info.default_namespace,
                expiration=info.expiration,
            )
            self._session = info, opened
            # Before the session no data could arrive.
            self._last_data_at = dict.fromkeys(self._last_data_at, self._clock.now())
        return self._session[1]

"""
The pulse of the watches: when each was heard of last, be it a change or just a bookmark.

kopf passes bookmarks on to nobody, so they are heard where they arrive: kopf takes an HTTP session of ours, and the
``ResponseAdapter`` of its answers tells of every piece of a watch that is read.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta

import aiohttp
import kopf

from controller.watch.responses import ResponseAdapter
from counterfoil.clock import Clock


class WatchHeartbeat:
    """Knows for how long each watch has been silent."""

    def __init__(self, clock: Clock, plurals: Iterable[str], *, list_started: Callable[[str], None]) -> None:
        """``list_started`` receives the kind of each list that kopf begins."""
        self._clock = clock
        self._last_data_at: dict[str, datetime] = dict.fromkeys(plurals, clock.now())
        self._adapter = ResponseAdapter(
            self._last_data_at, clock, data_received=self.record, list_started=list_started
        )
        self._session: tuple[kopf.ConnectionInfo, kopf.AiohttpSession] | None = None

    def record(self, plural: str) -> None:
        """Something came by the watch of this kind."""
        self._last_data_at[plural] = self._clock.now()

    def idle_times(self) -> Mapping[str, timedelta]:
        """Return for how long nothing came, by kind; from the start on for what was never heard of."""
        now = self._clock.now()
        return {plural: now - data_received for plural, data_received in self._last_data_at.items()}

    def session(self, info: kopf.ConnectionInfo) -> kopf.AiohttpSession:
        """Return the session with which kopf goes there; the same one for the same credentials."""
        # kopf tells credentials that the API server refused from new ones by comparing, and gives up when there are no new.
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
            # Nothing can have been heard before.
            self._last_data_at = dict.fromkeys(self._last_data_at, self._clock.now())
        return self._session[1]

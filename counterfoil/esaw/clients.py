"""
One eSAW client per Organization, so that each has its own rate and its own pauses, over one pool of connections.
"""

import httpx

from counterfoil.clock import Clock
from counterfoil.esaw.client import Esaw
from counterfoil.esaw.exchange import Observe
from counterfoil.esaw.limits import Bounds
from counterfoil.resources import Organization


class Esaws:
    """Keeps the clients; a new ``baseURL`` or rate limit makes a new one."""

    def __init__(
        self, http: httpx.AsyncClient, clock: Clock, observe: Observe, bounds: Bounds | None = None
    ) -> None:
        """``bounds``: how long is waited for an answer; the client's own if there are none."""
        self._http = http
        self._clock = clock
        self._observe = observe
        self._bounds = bounds
        self._clients: dict[str, tuple[tuple[str, float | None], Esaw]] = {}

    def of(self, organization: Organization) -> Esaw:
        """Return the client of an organization. Raises ``ValueError`` for a base URL that can't be."""
        wanted = (organization.spec.base_url, organization.spec.limits.requests_per_second)
        known = self._clients.get(organization.name)
        if known is not None and known[0] == wanted:
            return known[1]
        base_url, rate = wanted
        client = Esaw(
            base_url,
            http=self._http,
            clock=self._clock,
            requests_per_second=rate,
            observe=self._observe,
            bounds=self._bounds,
        )
        self._clients[organization.name] = (wanted, client)
        return client

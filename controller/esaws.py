"""
One eSAW client per Organization, so that each has its own limits and its own pause, over one pool of connections.
"""

from collections.abc import Callable

import httpx

from counterfoil.clock import Clock
from counterfoil.esaw.client import Esaw
from counterfoil.resources import Organization

Observe = Callable[[str, str, float], None]


class Esaws:
    """Keeps the clients; a new ``baseURL`` or rate limit makes a new one."""

    def __init__(self, http: httpx.AsyncClient, clock: Clock, observe: Observe) -> None:
        self._http = http
        self._clock = clock
        self._observe = observe
        self._clients: dict[str, tuple[tuple[str, float | None], Esaw]] = {}

    def of(self, organization: Organization) -> Esaw:
        """Return the client of an organization."""
        wanted = (organization.spec.base_url, organization.spec.limits.requests_per_second)
        known = self._clients.get(organization.name)
        if known is not None and known[0] == wanted:
            return known[1]
        client = Esaw(
            organization.spec.base_url,
            http=self._http,
            clock=self._clock,
            requests_per_second=organization.spec.limits.requests_per_second,
            observe=self._observe,
        )
        self._clients[organization.name] = (wanted, client)
        return client

"""
One eSAW client per Organization, so that each has its own rate and its own pauses, over one pool of connections.
"""

from typing import Final

import httpx

from counterfoil.clock import Clock
from counterfoil.esaw import Bounds, Esaw, Observe
from counterfoil.resources import Organization

BOUNDS: Final = Bounds(connect=5.0, silence=20.0, answer=20.0, json_size=4 * 1024 * 1024)
"""Shorter than the controller's: a person waits."""


class Esaws:
    """Keeps the clients; a new ``baseURL`` or rate limit makes a new one."""

    def __init__(self, http: httpx.AsyncClient, clock: Clock, observe: Observe) -> None:
        self._http = http
        self._clock = clock
        self._observe = observe
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
            bounds=BOUNDS,
        )
        self._clients[organization.name] = (wanted, client)
        return client

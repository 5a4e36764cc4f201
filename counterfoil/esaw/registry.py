"""One eSAW client per Organization, with its own rate limit and pauses, over one shared HTTP client."""

from collections.abc import Callable
from functools import partial

import httpx

from counterfoil.clock import Clock
from counterfoil.esaw.client import EsawClient
from counterfoil.esaw.limits import CallLimits
from counterfoil.resources import Organization


class EsawClients:
    """Keeps the clients; a new ``baseURL`` or rate limit makes a new one."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        clock: Clock,
        observe: Callable[[str, str, str, float], None],
        call_limits: CallLimits | None = None,
    ) -> None:
        """
        ``observe``: gets organization, operation, code and seconds of each request.
        ``call_limits``: how long is waited for an answer; the client's own if there are none.
        """
        self._observe = observe
        self._new_client = partial(EsawClient, http=http, clock=clock, call_limits=call_limits)
        self._clients: dict[str, tuple[tuple[str, int | None], EsawClient]] = {}

    def for_organization(self, organization: Organization) -> EsawClient:
        """Return the client of an organization. Raises ``ValueError`` for a base URL that can't be."""
        wanted = (organization.spec.base_url, organization.spec.limits.requests_per_minute)
        known = self._clients.get(organization.name)
        if known is not None and known[0] == wanted:
            return known[1]
        per_second = None if wanted[1] is None else wanted[1] / 60
        observe = partial(self._observe, organization.name)
        client = self._new_client(wanted[0], requests_per_second=per_second, observe=observe)
        self._clients[organization.name] = (wanted, client)
        return client

    def forget(self, name: str) -> None:
        """Drop the client of a deleted organization."""
        self._clients.pop(name, None)

"""
Secrets, read by name and remembered for a short while.

``get`` is the only right there is on Secrets (rule 8), so a change is seen by asking again: within
``FRESH_SECONDS``, well below the 30 s that are promised. What is remembered is in memory only.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from counterfoil.clock import Clock
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import Forbidden, NotFound

FRESH_SECONDS = 8
"""Less than the time between two rounds, so that each of them sees what is there."""

MAX_LISTED_KEYS = 10
"""So many names of keys are told when the right one is not there; they are names only."""


class SecretMissing(Exception):
    """The Secret, or the key in it, is not there or may not be read; the message says which and is for people."""


class SecretForbidden(SecretMissing):
    """
    The Secret may not be read, so nobody knows whether it is there.

    That need not last: an API server that has just started refuses what it permits until it has read the roles. So nothing
    that works is to be taken for lost because of this.
    """


@dataclass(frozen=True)
class _CachedSecret:
    data: dict[str, bytes] | None
    """What is in it; None: there is no such Secret."""
    at: datetime


class SecretCache:
    """Reads Secrets of the own namespace."""

    def __init__(self, kube: KubeClient, clock: Clock) -> None:
        self._kube = kube
        self._clock = clock
        self._cached: dict[str, _CachedSecret] = {}

    async def data(self, name: str) -> dict[str, bytes]:
        """
        Return the decoded data of a Secret, at most ``FRESH_SECONDS`` old.

        Raises ``SecretMissing``, ``SecretForbidden`` (never remembered), ``ApiProblem``.
        """
        now = self._clock.now()
        known = self._cached.get(name)
        if known is None or now - known.at > timedelta(seconds=FRESH_SECONDS):
            try:
                known = _CachedSecret(await self._kube.secret(name), now)
            except NotFound:
                known = _CachedSecret(None, now)
            except Forbidden as forbidden:
                message = (
                    f"Secret/{name} may not be read: the controller's ServiceAccount lacks `get` on secrets."
                )
                raise SecretForbidden(message) from forbidden
            self._cached[name] = known
        if known.data is None:
            raise SecretMissing(f"Secret/{name} does not exist.")
        return known.data

    async def value(self, name: str, key: str) -> bytes:
        """Return one value of a Secret. Raises ``SecretMissing``, ``ApiProblem``."""
        data = await self.data(name)
        if key not in data:
            has = f"it has: {', '.join(sorted(data)[:MAX_LISTED_KEYS])}" if data else "it is empty"
            raise SecretMissing(f"Secret/{name} has no key {key!r}; {has}.")
        return data[key]

    def forget(self, name: str) -> None:
        """Ask anew for this Secret next time: somebody says that it was changed."""
        self._cached.pop(name, None)

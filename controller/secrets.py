"""
Secrets, read by name and remembered for a short while.

``get`` is the only right there is on Secrets (rule 8), so a change is seen by asking again: within
``FRESH_SECONDS``, well below the 30 s that are promised. What is remembered is in memory only.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from counterfoil.clock import Clock
from counterfoil.cluster import Cluster, Forbidden, NotFound

FRESH_SECONDS = 8
"""Less than the time between two rounds, so that each of them sees what is there."""

MOST_KEYS_TOLD = 10
"""So many names of keys are told when the right one is not there; they are names only."""


class SecretMissing(Exception):
    """The Secret, or the key in it, is not there or may not be read; the message says which and is for people."""


@dataclass(frozen=True)
class _Read:
    data: dict[str, bytes] | str
    """What is in it, or why that is not known."""
    at: datetime


class Secrets:
    """Reads Secrets of the own namespace."""

    def __init__(self, cluster: Cluster, clock: Clock) -> None:
        self._cluster = cluster
        self._clock = clock
        self._read: dict[str, _Read] = {}

    async def data(self, name: str) -> dict[str, bytes]:
        """Return the decoded data of a Secret, at most ``FRESH_SECONDS`` old. Raises ``SecretMissing``, ``ApiProblem``."""
        now = self._clock.now()
        known = self._read.get(name)
        if known is None or now - known.at > timedelta(seconds=FRESH_SECONDS):
            try:
                known = _Read(await self._cluster.secret(name), now)
            except NotFound:
                known = _Read(f"Secret/{name} does not exist.", now)
            except Forbidden:
                known = _Read(
                    f"Secret/{name} may not be read: the controller's ServiceAccount lacks `get` on secrets.",
                    now,
                )
            self._read[name] = known
        if isinstance(known.data, str):
            raise SecretMissing(known.data)
        return known.data

    async def value(self, name: str, key: str) -> bytes:
        """Return one value of a Secret. Raises ``SecretMissing``, ``ApiProblem``."""
        data = await self.data(name)
        if key not in data:
            has = f"it has: {', '.join(sorted(data)[:MOST_KEYS_TOLD])}" if data else "it is empty"
            raise SecretMissing(f"Secret/{name} has no key {key!r}; {has}.")
        return data[key]

    def forget(self, name: str) -> None:
        """Ask anew for this Secret next time: somebody says that it was changed."""
        self._read.pop(name, None)

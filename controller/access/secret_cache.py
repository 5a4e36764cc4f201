"""
Read Secrets by name and cache them for a short time.

The controller may only ``get`` Secrets, not watch them (rule 8). It therefore reads them again after
``FRESH_SECONDS``, well within the documented 30 s. The cache is in memory only.
"""

from dataclasses import dataclass, field

from counterfoil.clock import Clock
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import Forbidden, NotFound
from counterfoil.kube.secret import Secret

FRESH_SECONDS = 8
"""Maximum age of a cached Secret; less than the interval between two resyncs, so that each resync reads
again."""

MAX_LISTED_KEYS = 10
"""Maximum number of key names in the message about a missing key; values are never in it."""


class SecretMissing(Exception):
    """The Secret or a key in it is missing, or may not be read; the message for people names it."""


class SecretForbidden(SecretMissing):
    """
    The Secret may not be read, so its existence is unknown.

    This may be temporary: an API server that has just started refuses requests until it has loaded the roles.
    So a working key or archive must not be reported as lost because of this error.
    """


@dataclass(frozen=True)
class _CachedSecret:
    secret: Secret | None
    """None: the Secret does not exist."""
    at: float
    """When it was read, on the monotonic clock: a clock that is set back makes no Secret fresh."""


@dataclass
class SecretCache:
    """Reads Secrets of the controller's namespace."""

    kube: KubeClient
    clock: Clock
    _cached: dict[str, _CachedSecret] = field(default_factory=dict, repr=False)

    async def data(self, name: str) -> dict[str, bytes]:
        """
        Return the decoded data of a Secret, at most ``FRESH_SECONDS`` old.

        Raises ``SecretMissing``, ``SecretForbidden`` (never cached), ``ApiError``.
        """
        now = self.clock.monotonic()
        known = self._cached.get(name)
        if known is None or now - known.at > FRESH_SECONDS:
            try:
                known = _CachedSecret(await self.kube.secret(name), now)
            except NotFound:
                known = _CachedSecret(None, now)
            except Forbidden as forbidden:
                message = (
                    f"Secret/{name} may not be read: the controller's ServiceAccount lacks `get` on secrets."
                )
                raise SecretForbidden(message) from forbidden
            self._cached[name] = known
        if known.secret is None:
            raise SecretMissing(f"Secret/{name} does not exist.")
        return known.secret.data

    async def value(self, name: str, key: str) -> bytes:
        """Return one value of a Secret. Raises ``SecretMissing``, ``ApiError``."""
        data = await self.data(name)
        if key not in data:
            has = f"it has: {', '.join(sorted(data)[:MAX_LISTED_KEYS])}" if data else "it is empty"
            raise SecretMissing(f"Secret/{name} has no key {key!r}; {has}.")
        return data[key]

    def forget(self, name: str) -> None:
        """Drop a Secret that may have changed; the next call reads it again."""
        self._cached.pop(name, None)

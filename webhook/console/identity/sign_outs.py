"""
The last sign-out of each person, which ends all sessions that began before it, in every replica.

Sealed cookies cannot be withdrawn, so each request compares its session with the last sign-out of its person.
Consoles that share a key of sessions share the ConfigMap ``counterfoil-console-sessions``: one entry per
person, a hash of the name and a time, which is removed once no session can be older. Each console reads it at
most every two seconds (docs/decisions/0030).

Nothing here reads a cookie. Without the ConfigMap nobody is signed in: an error is no answer.
"""

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

import msgspec

from counterfoil.clock import Clock
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError, Conflict

CONFIG_MAP: Final = "counterfoil-console-sessions"
"""Name of the ConfigMap; the console's Role names it, and the chart creates it."""

CACHE_SECONDS: Final = 2.0
"""Maximum age of the entries that a request is compared with: the time a copied cookie can live in the other
replicas."""

MAX_ENTRIES: Final = 5000
"""Maximum number of people who signed out within the longest session: about 450 KB of at most 1 MiB."""

CLOCK_SKEW: Final = timedelta(minutes=5)
"""Maximum difference between the clocks of two consoles; an entry is kept longer by it."""

_MAX_CONFLICTS: Final = 8


class SignOutsFull(Exception):
    """More people signed out than one object can hold."""


class SignOuts(Protocol):
    """The last sign-out of each person. All methods raise ``ApiError`` when it cannot be known."""

    async def cached(self, user: str) -> datetime | None:
        """Return the last sign-out, at most ``CACHE_SECONDS`` old; None for no sign-out."""
        ...

    async def current(self, user: str) -> datetime | None:
        """Return the last sign-out as it is stored now."""
        ...

    async def record(self, user: str, when: datetime) -> None:
        """Store a sign-out durably. Raises ``SignOutsFull``."""
        ...


class ProcessSignOuts:
    """The sign-outs of one process, whose sessions also end with it."""

    def __init__(self, clock: Clock, *, session: timedelta) -> None:
        self._clock = clock
        self._kept = session + CLOCK_SKEW
        self._times: dict[str, datetime] = {}

    async def cached(self, user: str) -> datetime | None:
        """Return the last sign-out."""
        return self._times.get(entry_name(user))

    async def current(self, user: str) -> datetime | None:
        """Return the last sign-out."""
        return self._times.get(entry_name(user))

    async def record(self, user: str, when: datetime) -> None:
        """Keep a sign-out. Raises ``SignOutsFull``."""
        oldest = self._clock.now() - self._kept
        self._times = with_sign_out(self._times, user, when, oldest=oldest)


class SharedSignOuts:
    """The sign-outs of all consoles. ``monotonic`` is a clock in seconds that never goes back."""

    def __init__(
        self, kube: KubeClient, clock: Clock, *, session: timedelta, monotonic: Callable[[], float]
    ) -> None:
        self._kube = kube
        self._clock = clock
        self._kept = session + CLOCK_SKEW
        self._monotonic = monotonic
        self._reading = asyncio.Lock()
        self._times: Mapping[str, datetime] = {}
        self._read_at = -CACHE_SECONDS

    async def cached(self, user: str) -> datetime | None:
        """Return the last sign-out, at most ``CACHE_SECONDS`` old. Raises ``ApiError``."""
        async with self._reading:
            # The age counts from before the read, so that no sign-out falls between.
            started = self._monotonic()
            if started - self._read_at >= CACHE_SECONDS:
                self._remember(await self._kube.config_map(CONFIG_MAP), started)
        return self._times.get(entry_name(user))

    async def current(self, user: str) -> datetime | None:
        """Return the last sign-out as it is stored now. Raises ``ApiError``."""
        async with self._reading:
            self._remember(await self._kube.config_map(CONFIG_MAP), self._monotonic())
        return self._times.get(entry_name(user))

    async def record(self, user: str, when: datetime) -> None:
        """Store a sign-out, also while other consoles write. Raises ``ApiError``,
        ``SignOutsFull``."""
        async with self._reading:
            for attempt in range(_MAX_CONFLICTS):
                started, stored = self._monotonic(), await self._kube.config_map(CONFIG_MAP)
                before = sign_out_times(stored)
                after = with_sign_out(before, user, when, oldest=self._clock.now() - self._kept)
                changes = {
                    name: after[name].isoformat() if name in after else None
                    for name in _names(stored) | after.keys()
                }
                version = stored["metadata"]["resourceVersion"]
                try:
                    written = await self._kube.patch_config_map(
                        CONFIG_MAP, {"metadata": {"resourceVersion": version}, "data": changes}
                    )
                except Conflict:
                    if attempt == _MAX_CONFLICTS - 1:
                        raise
                    continue
                self._remember(written, started)
                return

    async def unavailable_reason(self) -> str | None:
        """Return why sign-outs cannot be read, or None."""
        try:
            await self._kube.config_map(CONFIG_MAP)
        except ApiError as problem:
            return f"ConfigMap {CONFIG_MAP} cannot be read: {problem}"
        return None

    def _remember(self, stored: Mapping[str, Any], read_at: float) -> None:
        self._times, self._read_at = sign_out_times(stored), read_at


def entry_name(user: str) -> str:
    """Return the name of a person's entry: a hash, since a name can have any characters and any length."""
    return hashlib.sha256(user.encode()).hexdigest()


def sign_out_times(stored: Mapping[str, Any]) -> dict[str, datetime]:
    """Return the entries of a ConfigMap. One without a time, which no console writes, is ignored."""
    times = {}
    for name in _names(stored):
        try:
            when = msgspec.convert(stored["data"][name], datetime)
        except msgspec.ValidationError:
            continue
        if when.tzinfo is not None:
            times[name] = when
    return times


def with_sign_out(
    times: Mapping[str, datetime], user: str, when: datetime, *, oldest: datetime
) -> dict[str, datetime]:
    """
    Return the entries with one more sign-out and without those from before ``oldest``.

    A later sign-out of the same person stays. Raises ``SignOutsFull``.
    """
    name = entry_name(user)
    kept = {each: time for each, time in times.items() if time >= oldest}
    kept[name] = max(when, kept.get(name, when))
    if len(kept) > MAX_ENTRIES:
        raise SignOutsFull(f"more than {MAX_ENTRIES} people signed out")
    return kept


def _names(stored: Mapping[str, Any]) -> set[str]:
    return set(stored.get("data") or ())

"""
Look-ups of host names in separate threads, so that a DNS server that hangs stops only its own names.

A look-up can't be cancelled: it keeps its thread until the system gives up, for up to a minute. So each host
has at most one, each zone a few, and names that were slow the last time share few threads. Threads remain for
names that were quick. A look-up that nobody waits for any more leaves the queue.

If a look-up hangs, addresses that were found a few minutes ago are returned. The caller checks them as any
others, and TLS or the host key proves the server.
"""

import asyncio
import socket
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import partial
from types import MappingProxyType
from typing import Final, NamedTuple


class Speed(IntEnum):
    """Duration of the last look-up of a name. A limit includes the look-ups of all slower names."""

    SLOW = 0
    NEW = 1
    QUICK = 2


class Limit(NamedTuple):
    """Maximum number of concurrent look-ups of names that are this quick at most."""

    all: int
    per_zone: int


LIMITS: Final[Mapping[Speed, Limit]] = MappingProxyType(
    {Speed.SLOW: Limit(4, 1), Speed.NEW: Limit(24, 4), Speed.QUICK: Limit(32, 8)}
)

SLOW_SECONDS: Final = 2.0
"""Duration from which on a look-up is slow; also the wait before earlier addresses are returned."""

REMEMBERED_SECONDS: Final = 600.0
"""Time for which addresses may be returned again while a look-up hangs."""

MAX_REMEMBERED: Final = 1024
"""Maximum number of names that are remembered."""


@dataclass
class _Lookup:
    """A look-up that waits or runs."""

    host: str
    zone: str
    """The last two labels of the name: one owner has all names below them, with rare exceptions."""
    speed: Speed
    result: Future[Sequence[str]] = field(default_factory=Future)
    waiters: int = 0
    has_begun: bool = False


@dataclass(frozen=True)
class _Remembered:
    speed: Speed
    addresses: Sequence[str] = ()
    found_at: float = 0.0


class HostLookup:
    """Looks up names in separate threads; concurrent look-ups of one host are one."""

    def __init__(
        self,
        look_up: Callable[[str], Sequence[str]],
        *,
        limits: Mapping[Speed, Limit] = LIMITS,
        slow_seconds: float = SLOW_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``look_up`` blocks, and raises ``OSError`` or ``ValueError``."""
        self._look_up = look_up
        self._slow_seconds = slow_seconds
        self._monotonic = monotonic
        self._executor = ThreadPoolExecutor(limits[Speed.QUICK].all, thread_name_prefix="dns")
        self._lock = threading.Lock()
        self._lookups: dict[str, _Lookup] = {}
        self._running = _RunningLookups(limits)
        self._waiting: dict[Speed, OrderedDict[str, dict[str, _Lookup]]] = {
            each: OrderedDict() for each in sorted(Speed, reverse=True)
        }
        """By speed, zone and host. None of them may begin before a look-up ends."""
        self._remembered: OrderedDict[str, _Remembered] = OrderedDict()

    async def addresses(self, host: str, port: int) -> Sequence[str]:
        """Return the addresses of a host. Raises ``OSError`` and ``ValueError``."""
        lookup, remembered = self._join(host)
        try:
            if not await _has_ended(lookup.result, self._slow_seconds if remembered else None):
                return remembered
            return lookup.result.result()
        finally:
            self._leave(lookup)

    def _join(self, host: str) -> tuple[_Lookup, Sequence[str]]:
        """Wait for the look-up of a host, which begins now or later; return earlier addresses as well."""
        with self._lock:
            known = self._remembered.get(host, _Remembered(Speed.NEW))
            lookup = self._lookups.get(host)
            begins = lookup is None
            if lookup is None:
                lookup = self._lookups[host] = _Lookup(host, _zone(host), known.speed)
                begins = self._running.have_room(lookup.speed, lookup.zone)
                if begins:
                    self._running.add(lookup)
                else:
                    self._waiting[lookup.speed].setdefault(lookup.zone, {})[host] = lookup
            lookup.waiters += 1
        if begins:
            self._begin(lookup)
        is_usable = self._monotonic() - known.found_at < REMEMBERED_SECONDS
        return lookup, known.addresses if is_usable else ()

    def _leave(self, lookup: _Lookup) -> None:
        with self._lock:
            lookup.waiters -= 1
            if not lookup.waiters and not lookup.has_begun:
                del self._lookups[lookup.host]
                self._leave_queue(lookup)

    def _leave_queue(self, lookup: _Lookup) -> None:
        zones = self._waiting[lookup.speed]
        del zones[lookup.zone][lookup.host]
        if not zones[lookup.zone]:
            del zones[lookup.zone]

    def _begin(self, lookup: _Lookup) -> None:
        running = self._executor.submit(self._timed, lookup.host)
        running.add_done_callback(partial(self._end, lookup))

    def _next(self) -> _Lookup | None:
        """Take the next look-up for which a thread is free out of the queue: the oldest one of its zone, zone
        after zone. Of zones without room it looks at no more than there are threads."""
        for speed, zones in self._waiting.items():
            if not self._running.have_room(speed):
                continue
            for zone, hosts in zones.items():
                if self._running.have_room(speed, zone):
                    lookup = next(iter(hosts.values()))
                    zones.move_to_end(zone)
                    self._leave_queue(lookup)
                    self._running.add(lookup)
                    return lookup
        return None

    def _timed(self, host: str) -> Sequence[str]:
        """Look a name up in a thread, and remember how long it took."""
        began = self._monotonic()
        found: Sequence[str] = ()
        try:
            found = self._look_up(host)
            return found
        finally:
            now = self._monotonic()
            self._remember(host, found, now, is_slow=now - began >= self._slow_seconds)

    def _remember(self, host: str, found: Sequence[str], now: float, *, is_slow: bool) -> None:
        speed = Speed.SLOW if is_slow else Speed.QUICK
        with self._lock:
            before = self._remembered.pop(host, _Remembered(speed))
            # A slow error is a server that hangs; a quick one is its answer.
            is_kept = is_slow and not found
            self._remembered[host] = (
                replace(before, speed=speed) if is_kept else _Remembered(speed, tuple(found), now)
            )
            if len(self._remembered) > MAX_REMEMBERED:
                self._remembered.popitem(last=False)

    def _end(self, lookup: _Lookup, running: Future[Sequence[str]]) -> None:
        with self._lock:
            del self._lookups[lookup.host]
            self._running.remove(lookup)
            beginning = list(iter(self._next, None))
        if (error := running.exception()) is not None:
            lookup.result.set_exception(error)
        else:
            lookup.result.set_result(running.result())
        for each in beginning:
            self._begin(each)


class _RunningLookups:
    """Counts the look-ups that run, by speed and zone."""

    def __init__(self, limits: Mapping[Speed, Limit]) -> None:
        self._limits = limits
        self._counts = Counter[Speed]()
        self._in_zones = Counter[tuple[Speed, str]]()

    def have_room(self, speed: Speed, zone: str | None = None) -> bool:
        """Whether one more may begin (in this zone)."""
        limit, counted = self._limits[speed], [each for each in Speed if each <= speed]
        if sum(self._counts[each] for each in counted) >= limit.all:
            return False
        return zone is None or sum(self._in_zones[each, zone] for each in counted) < limit.per_zone

    def add(self, lookup: _Lookup) -> None:
        """Count one that begins."""
        lookup.has_begun = True
        self._counts[lookup.speed] += 1
        self._in_zones[lookup.speed, lookup.zone] += 1

    def remove(self, lookup: _Lookup) -> None:
        """Count one no longer that ended."""
        self._counts[lookup.speed] -= 1
        self._in_zones[lookup.speed, lookup.zone] -= 1
        self._in_zones += Counter()  # Drops those with no look-up.


def _zone(host: str) -> str:
    return ".".join(host.lower().rstrip(".").split(".")[-2:])


async def _has_ended(result: Future[Sequence[str]], seconds: float | None) -> bool:
    """Wait for a look-up; it continues for others when this task is cancelled."""
    loop = asyncio.get_running_loop()
    ended = loop.create_future()

    def end() -> None:
        if not ended.done():
            ended.set_result(None)

    def tell(_: object) -> None:
        # The loop may be closed by now.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(end)

    result.add_done_callback(tell)
    await asyncio.wait([ended], timeout=seconds)
    return result.done()


def _system_addresses(host: str) -> Sequence[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


resolve_host: Final = HostLookup(_system_addresses).addresses
"""Looks up a host name as the system does."""

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
from collections import OrderedDict
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
    speed: Speed
    result: Future[Sequence[str]] = field(default_factory=Future)
    waiters: int = 0
    has_begun: bool = False

    @property
    def zone(self) -> str:
        """The last two labels of the name: one owner has all names below them, with rare exceptions."""
        return ".".join(self.host.lower().rstrip(".").split(".")[-2:])


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
        self._limits = limits
        self._slow_seconds = slow_seconds
        self._monotonic = monotonic
        self._executor = ThreadPoolExecutor(limits[Speed.QUICK].all, thread_name_prefix="dns")
        self._lock = threading.Lock()
        self._lookups: dict[str, _Lookup] = {}
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
            lookup = self._lookups.setdefault(host, _Lookup(host, known.speed))
            lookup.waiters += 1
        self._begin_waiting()
        is_usable = self._monotonic() - known.found_at < REMEMBERED_SECONDS
        return lookup, known.addresses if is_usable else ()

    def _leave(self, lookup: _Lookup) -> None:
        with self._lock:
            lookup.waiters -= 1
            if not lookup.waiters and not lookup.has_begun:
                del self._lookups[lookup.host]

    def _begin_waiting(self) -> None:
        """Begin the look-ups for which a thread is free, the oldest first."""
        with self._lock:
            beginning = []
            for each in self._lookups.values():
                if not each.has_begun and self._may_begin(each):
                    each.has_begun = True
                    beginning.append(each)
        for each in beginning:
            running = self._executor.submit(self._timed, each.host)
            running.add_done_callback(partial(self._end, each))

    def _may_begin(self, lookup: _Lookup) -> bool:
        limit = self._limits[lookup.speed]
        running = [each for each in self._lookups.values() if each.has_begun and each.speed <= lookup.speed]
        in_zone = sum(each.zone == lookup.zone for each in running)
        return len(running) < limit.all and in_zone < limit.per_zone

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
        if (error := running.exception()) is not None:
            lookup.result.set_exception(error)
        else:
            lookup.result.set_result(running.result())
        self._begin_waiting()


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

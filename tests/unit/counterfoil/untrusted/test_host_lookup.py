"""Look-ups of host names that are slow, hang, or that nobody waits for any more."""

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from counterfoil.untrusted.host_lookup import LIMITS, REMEMBERED_SECONDS, HostLookup, Limit, Speed
from tests.support.builders import AClock


class Resolver:
    """Answers at once, but hangs for names below ``slow.example`` until ``go``."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.asked: list[str] = []

    def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        if host.endswith("slow.example"):
            self.go.wait(30)
        return ("203.0.113.7",)


@pytest.fixture
def resolver() -> Iterator[Resolver]:
    resolver = Resolver()
    yield resolver
    resolver.go.set()


async def test_look_ups_that_hang_stop_no_other_work_in_threads(resolver: Resolver) -> None:
    # As many threads as the event loop has for all other work.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
    lookup = HostLookup(resolver)
    hanging = [asyncio.create_task(lookup.addresses(f"{number}.slow.example", 443)) for number in range(40)]
    async with asyncio.timeout(10):
        assert await asyncio.to_thread(sum, (1, 2)) == 3
    resolver.go.set()
    assert await asyncio.gather(*hanging) == [("203.0.113.7",)] * 40


async def test_a_name_that_hangs_takes_one_thread_however_often_it_is_looked_up(resolver: Resolver) -> None:
    lookup = HostLookup(resolver)
    hanging = [asyncio.create_task(lookup.addresses("slow.example", port)) for port in range(20)]
    async with asyncio.timeout(10):
        assert await lookup.addresses("dms.example", 443) == ("203.0.113.7",)
    for each in hanging[:10]:
        each.cancel()
    resolver.go.set()
    assert await asyncio.gather(*hanging[10:]) == [("203.0.113.7",)] * 10
    assert sorted(resolver.asked) == ["dms.example", "slow.example"]


async def test_many_names_of_one_server_that_hangs_delay_no_other_name(resolver: Resolver) -> None:
    lookup = HostLookup(resolver)
    hanging = [asyncio.create_task(lookup.addresses(f"{number}.slow.example", 443)) for number in range(40)]
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        assert await lookup.addresses("esaw.test", 443) == ("203.0.113.7",)
    resolver.go.set()
    assert await asyncio.gather(*hanging) == [("203.0.113.7",)] * 40


async def test_a_look_up_in_the_queue_that_nobody_waits_for_never_begins(resolver: Resolver) -> None:
    lookup = HostLookup(resolver)
    hanging = [asyncio.create_task(lookup.addresses(f"{number}.slow.example", 443)) for number in range(40)]
    await asyncio.sleep(0)
    for each in hanging:
        each.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)
    resolver.go.set()
    assert await lookup.addresses("last.slow.example", 443) == ("203.0.113.7",)
    assert len(resolver.asked) < 40


async def test_a_name_is_looked_up_again_for_the_next_connection(resolver: Resolver) -> None:
    lookup = HostLookup(resolver)
    for _ in range(2):
        await lookup.addresses("dms.example", 443)
    assert resolver.asked == ["dms.example", "dms.example"]


async def test_the_error_of_a_look_up_is_the_callers() -> None:
    def fail(host: str) -> Sequence[str]:
        raise OSError(host)

    with pytest.raises(OSError, match=r"dms\.example"):
        await HostLookup(fail).addresses("dms.example", 443)


class SlowDns:
    """Takes the seconds that a test sets, and fails with the error of a test; hangs until ``go``."""

    def __init__(self, clock: AClock) -> None:
        self.clock = clock
        self.seconds = 0.0
        self.error: OSError | None = None
        self.addresses: Sequence[str] = ("203.0.113.7",)
        self.hanging: set[str] = set()
        self.go = threading.Event()
        self.asked: list[str] = []

    def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        if host in self.hanging:
            self.go.wait(30)
        self.clock.advance(seconds=self.seconds)
        if self.error is not None:
            raise self.error
        return self.addresses

    def lookup(self, *, waits: float = 2.0) -> HostLookup:
        return HostLookup(self, slow_seconds=waits, monotonic=self.clock.monotonic)


@pytest.fixture
def dns() -> Iterator[SlowDns]:
    dns = SlowDns(AClock())
    yield dns
    dns.go.set()


NO_WAIT = 0.01
"""Seconds after which a look-up counts as one that hangs."""


async def test_while_a_look_up_hangs_the_addresses_of_a_few_minutes_ago_are_used(dns: SlowDns) -> None:
    lookup = dns.lookup(waits=NO_WAIT)
    await lookup.addresses("esaw.example", 443)
    dns.hanging.add("esaw.example")
    dns.clock.advance(seconds=REMEMBERED_SECONDS - 1)
    async with asyncio.timeout(10):
        assert await lookup.addresses("esaw.example", 443) == ("203.0.113.7",)


async def test_the_answer_of_a_look_up_that_does_not_hang_replaces_the_addresses_from_before(
    dns: SlowDns,
) -> None:
    lookup = dns.lookup(waits=20.0)
    await lookup.addresses("esaw.example", 443)
    dns.addresses = ("203.0.113.8",)
    assert await lookup.addresses("esaw.example", 443) == ("203.0.113.8",)


async def test_older_addresses_are_not_used(dns: SlowDns) -> None:
    lookup = dns.lookup(waits=NO_WAIT)
    await lookup.addresses("esaw.example", 443)
    dns.clock.advance(seconds=REMEMBERED_SECONDS)
    dns.hanging.add("esaw.example")
    waiting = asyncio.create_task(lookup.addresses("esaw.example", 443))
    # Longer than what a look-up may take before older addresses would be used.
    assert await asyncio.wait([waiting], timeout=10 * NO_WAIT) == (set(), {waiting})
    dns.go.set()
    assert await waiting == ("203.0.113.7",)


async def until_it_fails(lookup: HostLookup) -> None:
    """Look up until the error comes: on a slow machine, the wait may be over before the look-up is."""
    while True:
        await lookup.addresses("esaw.example", 443)


@pytest.mark.parametrize(("seconds", "used"), [(0.0, False), (10.0, True)])
async def test_a_quick_error_ends_the_use_of_addresses_and_a_slow_one_does_not(
    dns: SlowDns, seconds: float, used: bool
) -> None:
    lookup = dns.lookup(waits=NO_WAIT)
    await lookup.addresses("esaw.example", 443)
    dns.error, dns.seconds = OSError("no such name"), seconds
    with pytest.raises(OSError, match="no such name"):
        await until_it_fails(lookup)
    dns.error, dns.seconds = None, 0.0
    dns.hanging.add("esaw.example")
    waiting = asyncio.create_task(lookup.addresses("esaw.example", 443))
    done, _ = await asyncio.wait([waiting], timeout=10.0 if used else 10 * NO_WAIT)
    assert bool(done) is used
    dns.go.set()
    assert await waiting == ("203.0.113.7",)


@pytest.mark.parametrize(("zones", "threads"), [(1, 1), (2, 2), (8, LIMITS[Speed.SLOW].all)])
async def test_names_that_were_slow_share_few_threads_and_one_zone_has_one_of_them(
    dns: SlowDns, zones: int, threads: int
) -> None:
    lookup = dns.lookup()
    names = [f"{number}.zone{number % zones}.test" for number in range(16)]
    dns.seconds = 30.0
    for name in names:
        await lookup.addresses(name, 443)
    dns.seconds, dns.hanging = 0.0, {*names}
    dns.clock.advance(seconds=REMEMBERED_SECONDS)
    dns.asked.clear()
    hanging = [asyncio.create_task(lookup.addresses(name, 443)) for name in names]
    await asyncio.sleep(0)
    assert await lookup.addresses("esaw.test", 443) == ("203.0.113.7",)
    assert set(dns.asked) <= {*names[:threads], "esaw.test"}
    dns.go.set()
    await asyncio.gather(*hanging)
    assert len(dns.asked) == 17


async def test_new_names_of_many_zones_that_hang_leave_threads_for_names_that_were_quick(
    dns: SlowDns,
) -> None:
    lookup = dns.lookup()
    await lookup.addresses("esaw.test", 443)
    dns.clock.advance(seconds=REMEMBERED_SECONDS)
    names = [f"dms.zone{number}.test{number}" for number in range(100)]
    dns.hanging = {*names}
    hanging = [asyncio.create_task(lookup.addresses(name, 443)) for name in names]
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        assert await lookup.addresses("esaw.test", 443) == ("203.0.113.7",)
    assert len(dns.asked) <= 1 + LIMITS[Speed.NEW].all + 1
    dns.go.set()
    await asyncio.gather(*hanging)


async def test_a_name_that_is_quick_again_has_a_thread_among_the_quick_ones(dns: SlowDns) -> None:
    lookup = HostLookup(
        dns,
        limits={Speed.SLOW: Limit(1, 1), Speed.NEW: Limit(2, 2), Speed.QUICK: Limit(3, 3)},
        monotonic=dns.clock.monotonic,
    )
    dns.seconds = 30.0
    for name in ("a.test", "b.test"):
        await lookup.addresses(name, 443)
    dns.seconds = 0.0
    await lookup.addresses("a.test", 443)
    dns.clock.advance(seconds=REMEMBERED_SECONDS)
    dns.hanging = {"b.test"}
    hanging = asyncio.create_task(lookup.addresses("b.test", 443))
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        assert await lookup.addresses("a.test", 443) == ("203.0.113.7",)
    dns.go.set()
    await hanging


async def test_names_that_wait_for_a_thread_cost_little_each(resolver: Resolver) -> None:
    lookup = HostLookup(resolver)
    names = 1000
    began = time.thread_time()
    waiting = [
        asyncio.create_task(lookup.addresses(f"a{number}.zone{number}-slow.example", 443))
        for number in range(names)
    ]
    await asyncio.sleep(0)
    for each in waiting:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    # With a look at all others for each of them it is more than ten seconds.
    assert time.thread_time() - began < 1


async def test_names_of_one_zone_that_wait_do_not_delay_those_of_another(resolver: Resolver) -> None:
    limits = dict.fromkeys(Speed, Limit(2, 1))
    lookup = HostLookup(resolver, limits=limits)
    waiting = [asyncio.create_task(lookup.addresses(f"{number}.slow.example", 443)) for number in range(5)]
    async with asyncio.timeout(10):
        for number in range(3):
            assert await lookup.addresses(f"a.other{number}.example", 443) == ("203.0.113.7",)
    resolver.go.set()
    async with asyncio.timeout(10):
        assert await asyncio.gather(*waiting) == [("203.0.113.7",)] * 5
    assert sorted(resolver.asked)[:5] == [f"{number}.slow.example" for number in range(5)]

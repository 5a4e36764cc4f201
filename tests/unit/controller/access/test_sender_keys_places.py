"""
Runs that verify keys while the limits of their Archive, Sender and Organization are reached.

The work queue, the rate limiter and the keys are the real ones. Time is virtual.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from controller.access.secret_cache import SecretCache
from controller.access.sender_keys import KeyUnusable, SenderKeys
from controller.cache import Cache
from controller.scheduling.fair_queue import ConcurrencyLimits, QueueItem
from controller.scheduling.workqueue import WorkQueue
from counterfoil.esaw import EsawUserClient, HttpStatusError, WhoAmI
from counterfoil.esaw.client import EsawClient
from counterfoil.esaw.rate_limit import RateLimiter, pause_while_waiting
from counterfoil.esaw.token import ApiToken
from counterfoil.resources import Sender
from tests.support.builders import ANNA, NOON, ORIGIN, OWN_ADDRESS, a_sender
from tests.support.fakes.kube import InMemoryKubeClient
from tests.support.virtual_time import VirtualClock, VirtualTimeLoop, run_in_virtual_time

TRANSFER_SECONDS = 2.0
OTHERS = 3
"""Number of the events of another Organization."""
ALL = 4 * 3600.0
"""Seconds in which everything must have ended."""
SOON = 60.0
"""Seconds in which the events of another Organization must have ended, whose calls have no limit."""


@dataclass(frozen=True)
class Load:
    """The events that are due at once, and the limits."""

    senders: int
    events: int
    """Of each Sender."""
    per_minute: int
    in_archive: int
    calls: int = 0
    """Number of other tasks of the Organization that wait for turns, such as searches."""
    are_doubted: bool = False
    """Whether the keys worked, and one 401 made them doubtful."""
    are_refused: bool = False


class _LimitedEsaw(EsawClient):
    """Answers to whoami in the turns of the rate limiter."""

    origin = ORIGIN

    def __init__(self, clock: VirtualClock, per_minute: int) -> None:
        self.limiter = RateLimiter(clock, per_second=per_minute / 60, max_retry_after=3600)
        self.refused = False
        self.asked = 0

    def as_user(self, token: ApiToken) -> EsawUserClient:
        return _LimitedUser(self, token)


class _LimitedUser(EsawUserClient):
    def __init__(self, esaw: _LimitedEsaw, token: ApiToken) -> None:
        self._esaw = esaw
        self.token = token

    async def whoami(self) -> WhoAmI:
        await self._esaw.limiter.acquire()
        self._esaw.asked += 1
        await asyncio.sleep(0.1)
        if self._esaw.refused:
            raise HttpStatusError(401, "ERR0010")
        return WhoAmI(user_id=ANNA)


@dataclass
class _Scene:
    """An Archive that two Organizations use. The runs of one of them need keys, and calls to its eSAW."""

    load: Load
    clock: VirtualClock
    ended: set[str] = field(default_factory=set)
    holders: set[str] = field(default_factory=set)
    """Events that work in the Archive at the moment."""
    most: int = 0
    """Highest number of them at a time."""

    def __post_init__(self) -> None:
        self.senders = [a_sender(f"s{number}", authorized=None) for number in range(self.load.senders)]
        kube = InMemoryKubeClient(*self.senders)
        for number, each in enumerate(self.senders):
            kube.put_secret(f"{each.name}-key", "token", {"token": f"{number:066d}".encode()})
        self.kube, self.esaw = kube, _LimitedEsaw(self.clock, self.load.per_minute)
        secrets = SecretCache(kube, self.clock)
        self.sender_keys = SenderKeys(kube, Cache(), secrets, self.clock, OWN_ADDRESS)
        limits = ConcurrencyLimits(
            process=64, organization={}, sender={}, archive={"dms": self.load.in_archive}
        )
        self.work = WorkQueue(self.clock, lambda: limits)

    async def run(self) -> None:
        """Run all events to their end."""
        if self.load.are_doubted:
            for each in self.senders:
                token = await self.sender_keys.key(each, self.esaw)
                self.sender_keys.doubt(self._newest(each), token)
            await self.clock.sleep(61)
        self.esaw.refused = self.load.are_refused
        calls = [asyncio.create_task(self._call()) for _ in range(self.load.calls)]
        await self.clock.sleep(5)
        for number in range(self.load.events):
            for each in self.senders:
                self._enqueue(f"{each.name}-{number}", "acme", each.name)
        running = asyncio.create_task(self.work.run(self._reconcile))
        await self.clock.sleep(30)
        for number in range(OTHERS):
            self._enqueue(f"other-{number}", "other", "zoe")
        await self._until(lambda: len(self._others()) == OTHERS, SOON)
        await self._until(lambda: len(self.ended) == self._count(), ALL)
        for task in (running, *calls):
            task.cancel()
        await asyncio.gather(running, *calls, return_exceptions=True)

    def missing(self) -> int:
        """Return how many events have not ended."""
        return self._count() - len(self.ended)

    def _count(self) -> int:
        return self.load.events * self.load.senders + OTHERS

    def _others(self) -> list[str]:
        return [each for each in self.ended if each.startswith("other")]

    async def _until(self, is_done: Callable[[], bool], seconds: float) -> None:
        end = self.clock.monotonic() + seconds
        while not is_done():
            assert self.clock.monotonic() < end, f"{self.missing()} events have not ended: {self.load}"
            await self.clock.sleep(1)

    async def _call(self) -> None:
        while True:
            await self.esaw.limiter.acquire()

    def _enqueue(self, name: str, organization: str, sender: str) -> None:
        self.work.enqueue_at(QueueItem(name, name, name, organization, sender, "dms"), NOON)

    async def _reconcile(self, name: str) -> None:
        sender = next((each for each in self.senders if name.startswith(f"{each.name}-")), None)
        if sender is not None:
            pause_while_waiting(lambda: self.work.paused(name))
            try:
                await self.sender_keys.key(self._newest(sender), self.esaw)
            except KeyUnusable:
                assert self.load.are_refused
            else:
                await self.esaw.limiter.acquire()
        assert self.work.has_slot(name, "dms"), "it would work in the Archive without a place"
        self.holders.add(name)
        self.most = max(self.most, len(self.holders))
        await self.clock.sleep(TRANSFER_SECONDS)
        self.holders.discard(name)
        self.ended.add(name)

    def _newest(self, sender: Sender) -> Sender:
        return Sender.parse(self.kube.objects["senders", sender.name])


def run(load: Load) -> _Scene:
    """Run a load in virtual time."""

    async def main() -> _Scene:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        scene = _Scene(load, VirtualClock(loop))
        await scene.run()
        return scene

    return run_in_virtual_time(main())


@pytest.mark.parametrize("in_archive", [1, 2, 3])
def test_a_run_that_verifies_a_key_waits_for_no_place_of_a_run_that_waits_for_it(in_archive: int) -> None:
    """The Archive has no more places than one Sender may use."""
    scene = run(Load(senders=1, events=6, per_minute=60, in_archive=in_archive, calls=1))
    assert (scene.missing(), scene.esaw.asked) == (0, 1)


def test_senders_with_doubted_keys_do_not_stop_an_archive_by_the_default_limits() -> None:
    scene = run(Load(senders=4, events=20, per_minute=300, in_archive=8, calls=10, are_doubted=True))
    assert (scene.missing(), scene.esaw.asked) == (0, 8)


LOADS = st.builds(
    Load,
    senders=st.integers(1, 6),
    events=st.integers(1, 6),
    per_minute=st.sampled_from([20, 60, 120, 600]),
    in_archive=st.integers(1, 9),
    calls=st.integers(0, 12),
    are_doubted=st.booleans(),
    are_refused=st.booleans(),
)


@given(LOADS)
@example(Load(senders=6, events=6, per_minute=20, in_archive=1, calls=12, are_refused=True))
@settings(max_examples=25)
def test_beside_keys_that_are_verified_all_events_end_and_others_do_not_wait(load: Load) -> None:
    scene = run(load)
    assert scene.missing() == 0
    assert scene.most <= load.in_archive

"""
This process as a candidate for every shard: in a separate thread, for the whole life of the process.

The thread has its own event loop, because a Lease must be renewed while the controller's loop is busy or
between two of its generations, and because kopf cancels every task of its loop that is younger than itself.
Other threads read ``held``, and ``changed`` is called in the election's thread after each change of the held
shards.
"""

import asyncio
import logging
import random
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Self

from kubernetes.aio.client import ApiClient, CoordinationV1Api
from kubernetes.aio.leaderelection.electionconfig import Config

from controller.election.shard_lock import LeaseTimings, OtherCounts, ShardLock, Turns
from controller.sharding import HeldLease, HeldShards
from counterfoil._upstream.event_loop import EventLoop
from counterfoil._upstream.leader_election import Seconds, boot_time, leader_election_class
from counterfoil.kube.config import load_configuration

_log = logging.getLogger(__name__)

RESTART_SECONDS = 1.0
"""Pause before this process is a candidate again for a shard that it lost."""

ApiOpener = Callable[[], AbstractAsyncContextManager[CoordinationV1Api]]


@asynccontextmanager
async def open_api() -> AsyncIterator[CoordinationV1Api]:
    """Open the official client for Leases, by the same configuration as ``counterfoil.kube.client``."""
    async with ApiClient(await load_configuration(None)) as api_client:
        yield CoordinationV1Api(api_client)


@dataclass
class Candidate:
    """The elections of all shards, on one event loop."""

    identity: str
    namespace: str
    count: int
    timings: LeaseTimings
    served: Callable[[], Sequence[str]]
    """Returns the namespaces that this process serves now."""
    changed: Callable[[], None]
    clock: Seconds = boot_time
    leases: dict[int, HeldLease] = field(default_factory=dict)
    """The held Leases by shard. Replaced as a whole, so that other threads can read it."""
    _locks: dict[int, ShardLock] = field(default_factory=dict)
    _turns: Turns = field(init=False)

    def __post_init__(self) -> None:
        self._turns = Turns(lambda: len(self.leases))

    async def run(self, api: CoordinationV1Api) -> None:
        """Be a candidate for every shard until cancelled; then release what is held."""
        others = OtherCounts(api, self.namespace, self.count, self.clock)
        # In a random order, so that processes that start together ask for different shards first.
        numbers = random.sample(range(self.count), self.count)
        try:
            async with asyncio.TaskGroup() as campaigns:
                for number in numbers:
                    campaigns.create_task(self._campaign(number, others), name=f"shard {number}")
                await self._leave_to_newer_counts(others)
        finally:
            held = [self._locks[number] for number in self.leases]
            for lease in self.leases.values():
                lease.end()
            await asyncio.gather(*(lock.release() for lock in held))

    @property
    def problem(self) -> str | None:
        """Return why the Leases can't be read or written, or None; for readiness."""
        if len(self._locks) < self.count:
            return "the Leases of the shards have not been read yet"
        problems = sorted({lock.last_problem for lock in self._locks.values() if lock.last_problem})
        return f"the Leases of the shards can't be used: {', '.join(problems)}" if problems else None

    async def _campaign(self, number: int, others: OtherCounts) -> None:
        while True:
            lock = ShardLock(
                number,
                others,
                self.identity,
                timings=self.timings,
                turns=self._turns,
                served=self.served,
                acquired=self._acquired,
            )
            election = leader_election_class(self.clock)(_config(lock, self.timings))
            running = asyncio.create_task(election.run())
            self._locks[number] = lock
            try:
                await self._until_lost(lock, running)
            finally:
                running.cancel()
                (result,) = await asyncio.gather(running, return_exceptions=True)
            if isinstance(result, Exception):
                _log.error("the election of shard %d broke", number, exc_info=result)
            self._lost(number)
            await asyncio.sleep(RESTART_SECONDS)

    async def _until_lost(self, lock: ShardLock, running: asyncio.Task[None]) -> None:
        """Return when the election ends or the Lease expires, even if the library still hopes to renew it."""
        while not running.done():
            left = lock.lease.seconds_left() if lock.lease is not None else self.timings.retry_period
            if lock.lease is not None and left <= 0.0:
                return
            # Not longer than the retry period: the term may be ended early.
            await asyncio.wait([running], timeout=min(left, self.timings.retry_period))

    async def _leave_to_newer_counts(self, others: OtherCounts) -> None:
        """Give up all shards when Leases of another number of shards were acquired later than these."""
        while True:
            await asyncio.sleep(self.timings.retry_period)
            if not self.leases:
                continue
            try:
                async with asyncio.timeout(self.timings.request_timeout):
                    newest = await others.newest_acquired()
            except Exception as problem:
                _log.warning(
                    "the Leases of other numbers of shards can't be read: %s", type(problem).__name__
                )
                continue
            mine = [lock.acquired_at for number, lock in self._locks.items() if number in self.leases]
            if newest is not None and any(each is not None and each < newest for each in mine):
                _log.warning("another controller works with another number of shards; this one stops")
                for lease in self.leases.values():
                    lease.end()
                self.changed()

    def _acquired(self, number: int, lease: HeldLease) -> None:
        self.leases = {**self.leases, number: lease}
        _log.info("this process acquired shard %d; it holds %s", number, self.held)
        self.changed()

    def _lost(self, number: int) -> None:
        lease = self.leases.get(number)
        if lease is not None:
            lease.end()
            self.leases = {other: each for other, each in self.leases.items() if other != number}
            _log.warning("this process lost shard %d; it holds %s", number, self.held)
            self.changed()

    @property
    def held(self) -> HeldShards:
        """Return the shards that are held now."""
        return HeldShards(
            {number: each for number, each in self.leases.items() if each.is_held()}, self.count
        )


class ElectionThread:
    """Runs a ``Candidate`` in its own thread; a context manager, which releases the Leases at its end."""

    def __init__(
        self,
        identity: str,
        namespace: str,
        count: int,
        timings: LeaseTimings,
        *,
        served: Callable[[], Sequence[str]],
        api_opener: ApiOpener = open_api,
    ) -> None:
        self.timings = timings
        self._candidate = Candidate(identity, namespace, count, timings, served, changed=self._notify)
        self._api_opener = api_opener
        self._loop: asyncio.AbstractEventLoop = EventLoop()
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="elections", daemon=True)
        self._listeners: list[Callable[[], None]] = []
        self._listeners_lock = threading.Lock()
        self.is_broken = False
        """Whether the thread ended by an error, so that this process can never hold a shard again."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            # The loop of broken elections is closed a moment before their thread ends.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._cancel)
        self._thread.join()

    @property
    def held(self) -> HeldShards:
        """Return the shards that this process holds now."""
        return self._candidate.held

    @property
    def problem(self) -> str | None:
        """Return why this process can't hold a shard, or None; for readiness."""
        return "the elections broke" if self.is_broken else self._candidate.problem

    async def wait_for_change(self, held: HeldShards) -> None:
        """
        Return when a Lease of ``held`` is lost, at once, or when more shards than these are held.

        A working process waits for the end of a series of gains, because each change costs it a restart.
        """
        settle_seconds = 1.5 * self.timings.retry_period
        async with self._changes() as changed:
            while not (held.are_lost or self.is_broken):
                changed.clear()
                newest = self.held
                is_gaining = held.has_gained(newest)
                if is_gaining and (newest.are_all or not held.leases):
                    return
                try:
                    async with asyncio.timeout(settle_seconds if is_gaining else held.seconds_left):
                        await changed.wait()
                except TimeoutError:
                    if is_gaining:
                        return

    @asynccontextmanager
    async def _changes(self) -> AsyncIterator[asyncio.Event]:
        """Yield an event of the calling loop that each change of the held shards sets."""
        changed, loop = asyncio.Event(), asyncio.get_running_loop()

        def listener() -> None:
            loop.call_soon_threadsafe(changed.set)

        with self._listeners_lock:
            self._listeners.append(listener)
        try:
            yield changed
        finally:
            with self._listeners_lock:
                self._listeners.remove(listener)

    def _notify(self) -> None:
        with self._listeners_lock:
            for listener in self._listeners:
                listener()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._main())
        except asyncio.CancelledError:
            return
        except Exception:
            _log.exception("the elections broke")
            self.is_broken = True
            for lease in self._candidate.leases.values():
                lease.end()
            self._notify()

    async def _main(self) -> None:
        self._task = asyncio.current_task()
        async with self._api_opener() as api:
            await self._candidate.run(api)


def _config(lock: ShardLock, timings: LeaseTimings) -> Config:
    return Config(
        lock,
        lease_duration=int(timings.duration),
        renew_deadline=timings.renew_deadline,
        retry_period=timings.retry_period,
        onstarted_leading=_nothing,
        onstopped_leading=_nothing,
    )


async def _nothing() -> None:
    """Do nothing: ``ShardLock`` notices the begin of a term, and ``Candidate`` its end."""

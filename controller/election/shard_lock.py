"""
The Lease of one shard as the election sees it: when this process may take it, and until when it holds it.

The library asks a lock to write only if the Lease is absent, released, expired or its own. So a write by a
process that does not hold the Lease takes it, and here such a write is refused while

- its holder may still work: the library measures with this process's own duration, but the holder believes in
  the one that it wrote into the Lease;
- another process with fewer shards should get it first: a process waits the retry period for each shard that
  it has, so that pods that start together share the shards;
- a Lease of another number of shards is held. Pods with the old and the new ``shards`` overlap during an
  upgrade. With two and with three shards, an envelope belongs to different Leases, so both would work on it.

A Lease with a lower version than before shows that etcd was restored from a backup. A watch that continues
from a version of the time before then reports nothing until the server reaches this version again, and no
request fails. So the holder ends its term: the controller lists everything again when it acquires the Lease.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from kubernetes.aio.client import CoordinationV1Api
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord

from controller.sharding import HeldLease
from counterfoil._upstream.leader_election import RobustLeaseLock
from counterfoil.resources.lease import (
    SERVED_ANNOTATION,
    SHARD_LEASE_COUNT_LABEL,
    believed_duration,
    is_shard_lease,
    readable_time,
    served_annotation,
    shard_lease_name,
)

_log = logging.getLogger(__name__)


@dataclass
class OtherCounts:
    """The held Leases of other numbers of shards than ``count``."""

    api: CoordinationV1Api
    namespace: str
    count: int
    clock: Callable[[], float]
    _unchanged_since: dict[str, tuple[str, float]] = field(default_factory=dict)
    """Version of each Lease, and the time of its first observation."""

    async def newest_acquired(self) -> datetime | None:
        """
        Return the time at which the newest of them was acquired; None if none is held.

        A Lease is expired after its duration without a change, by this process's clock. Raises an error of
        any kind.
        """
        selector = f"{SHARD_LEASE_COUNT_LABEL},{SHARD_LEASE_COUNT_LABEL}!={self.count}"
        listed = await self.api.list_namespaced_lease(self.namespace, label_selector=selector)
        items: list[Any] = listed.items
        return max((each.spec.acquire_time for each in items if self._is_held(each)), default=None)

    def _is_held(self, lease: Any) -> bool:
        metadata, spec = lease.metadata, lease.spec
        if not is_shard_lease(metadata.name, (metadata.labels or {}).get(SHARD_LEASE_COUNT_LABEL, "")):
            # The pages write Leases, too, and the label is all that the list is selected by.
            return False
        if spec is None or not spec.holder_identity or spec.acquire_time is None:
            return False
        version, since = self._unchanged_since.get(metadata.name, ("", 0.0))
        if version != metadata.resource_version:
            since = self.clock()
            self._unchanged_since[metadata.name] = metadata.resource_version, since
        return self.clock() < since + believed_duration(spec.lease_duration_seconds)


@dataclass(frozen=True)
class LeaseTimings:
    """The durations of an election, in seconds."""

    duration: float
    """Time after the last renewal at which another process may take the Lease, in whole seconds."""
    renew_deadline: float
    """Time without a successful renewal after which the holder gives up."""
    retry_period: float
    """Interval between attempts to acquire or renew the Lease."""

    @property
    def margin(self) -> float:
        """Return the time before the end of the Lease at which its holder stops."""
        return (self.duration - self.renew_deadline) / 2

    @property
    def request_timeout(self) -> float:
        """Return the timeout for one request, such that the renewal can be repeated before its deadline."""
        return self.renew_deadline / 2


@dataclass
class Turns:
    """The attempts of one process to take shards, one at a time."""

    held_count: Callable[[], int]
    """Returns the number of shards that the process has."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class ShardLock(RobustLeaseLock):
    """The lock of one shard."""

    def __init__(
        self,
        number: int,
        others: OtherCounts,
        identity: str,
        *,
        timings: LeaseTimings,
        turns: Turns,
        served: Callable[[], Sequence[str]],
        acquired: Callable[[int, HeldLease], None],
    ) -> None:
        super().__init__(
            shard_lease_name(number, others.count),
            others.namespace,
            identity,
            others.api,
            labels={SHARD_LEASE_COUNT_LABEL: str(others.count)},
            annotations=self._served_annotation,
            request_timeout=timings.request_timeout,
        )
        self.number = number
        self.lease: HeldLease | None = None
        """The term of this process; None until it acquires the Lease."""
        self._others = others
        self._clock = others.clock
        self._timings = timings
        self._turns = turns
        self._served = served
        self._acquired = acquired
        self._unchanged_since: tuple[str, float] | None = None
        """Version of the Lease, and the time of its first observation."""
        self._logged_holder = ""
        self._free_version: str | None = None
        self._free_since = 0.0
        self._version = 0

    async def get(
        self, name: str, namespace: str
    ) -> tuple[bool, LeaderElectionRecord] | tuple[bool, Exception] | tuple[bool, None]:
        """Read the Lease, and end the term of this process if etcd was restored from a backup."""
        answer = await super().get(name, namespace)
        reference: Any = self.lease_reference
        version = (reference.metadata and reference.metadata.resource_version) if answer[0] else None
        if answer[0] and (self._unchanged_since is None or self._unchanged_since[0] != (version or "")):
            self._unchanged_since = version or "", self._clock()
        # The answer of another program may have no version.
        if version and version.isdecimal():
            before, self._version = self._version, int(version)
            if self._version < before and self.lease is not None:
                _log.warning("%s has a lower version than before: etcd was restored; starting again", name)
                self.lease.end()
        return answer

    async def create(self, name: str, namespace: str, election_record: LeaderElectionRecord) -> bool:
        """Take the absent Lease, if this process may."""
        return await self._take("", partial(super().create, name, namespace, election_record))

    async def update(self, name: str, namespace: str, updated_record: LeaderElectionRecord) -> bool:
        """Renew the Lease, or take the free Lease if this process may."""
        write = partial(super().update, name, namespace, updated_record)
        if self.lease is None:
            metadata: Any = self.lease_reference.metadata if self.lease_reference is not None else None
            if self._is_held_by_another():
                return False
            return await self._take(metadata.resource_version if metadata is not None else "", write)
        started = self._clock()
        # A term that has ended is not renewed: the Lease would keep others out without a holder.
        if not self.lease.is_held() or not await write():
            return False
        self.lease.extend(self._end_of_term(started))
        return self.lease.is_held()

    async def _take(self, version: str, write: Callable[[], Awaitable[bool]]) -> bool:
        async with self._turns.lock:
            if not self._is_my_turn(version) or await self._is_other_count_held():
                return False
            started = self._clock()
            if not await write():
                return False
            # Again: two processes with different counts that both looked before they wrote now see each
            # other.
            if await self._is_other_count_held():
                await self.release()
                return False
            self.lease = HeldLease(self._clock, self._end_of_term(started))
            self._acquired(self.number, self.lease)
            return True

    @property
    def acquired_at(self) -> datetime | None:
        """Return the time at which this process acquired the Lease, as it is in the Lease."""
        spec: Any = self.lease_reference.spec if self.lease_reference is not None else None
        return spec.acquire_time if spec is not None else None

    def _served_annotation(self) -> Mapping[str, str]:
        """Return what the Lease tells people about the namespaces that this process serves."""
        return {SERVED_ANNOTATION: served_annotation(self.identity, self._served())}

    def _is_held_by_another(self) -> bool:
        """Whether the Lease has another holder, and its own duration has not passed since its last change."""
        reference: Any = self.lease_reference
        spec = reference.spec if reference is not None else None
        if spec is None or not spec.holder_identity or spec.holder_identity == self.identity:
            return False
        now = self._clock()
        since = self._unchanged_since[1] if self._unchanged_since is not None else now
        ends = since + (believed_duration(spec.lease_duration_seconds) or self._timings.duration)
        if now < ends and spec.holder_identity != self._logged_holder:
            self._log_holder(spec.holder_identity, ends - now)
        return now < ends

    def _log_holder(self, holder: str, seconds: float) -> None:
        """Say once who keeps this process out. A controller renews its Lease long before another asks."""
        self._logged_holder = holder
        until = readable_time(self.now() + timedelta(seconds=seconds))
        _log.warning(
            "Lease/%s in the namespace %s is held by %s until %s without a renewal; if none of the "
            "controller's pods has this name, delete the Lease",
            *(self.name, self._others.namespace, holder, until),
        )

    def _is_my_turn(self, version: str) -> bool:
        reference: Any = self.lease_reference
        if reference is not None and version and reference.spec.holder_identity == self.identity:
            return True
        if version != self._free_version:
            self._free_version, self._free_since = version, self._clock()
        waited = self._clock() - self._free_since
        return waited >= self._turns.held_count() * self._timings.retry_period

    async def _is_other_count_held(self) -> bool:
        try:
            async with asyncio.timeout(self.request_timeout):
                return await self._others.newest_acquired() is not None
        except Exception as problem:
            self.last_problem = str(getattr(problem, "reason", type(problem).__name__))
            return True

    def _end_of_term(self, started: float) -> float:
        """Return when the Lease ends for its holder: others count from a moment after the renewal began."""
        return started + self._timings.duration - self._timings.margin

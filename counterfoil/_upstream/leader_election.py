"""
kubernetes.aio.leaderelection: clock, times, timeouts and release of a Lease.

Upstream: https://github.com/kubernetes-client/python/pull/2694 (the module's origin). Versions: kubernetes up
to 37.0.2. client-go does each of these; the library does not:

- It measures durations with ``time.time()``, so a correction of the clock ends a Lease early or lets it live
  on. ``leader_election_class`` returns its class with another clock.
- It writes local times and marks them as UTC, ends ``run`` at any error that is not an ``ApiException``,
  waits for a response without a timeout, never counts ``leaseTransitions`` and gives a Lease neither labels
  nor annotations. ``RobustLeaseLock`` does.
- It does not release a Lease at a clean stop. ``RobustLeaseLock.release`` does, as client-go's
  ``ReleaseOnCancel``: an empty holder, which the library takes over at its next check, and a duration of one
  second.

The algorithm is the library's own: no copy of it is here.
"""

import asyncio
import importlib.util
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, cast

from kubernetes.aio.client import CoordinationV1Api, V1Lease, V1LeaseSpec, V1ObjectMeta
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection import leaderelection
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.aio.leaderelection.resourcelock.leaselock import LeaseLock

MAX_TRANSITIONS = 2**31 - 1

Seconds = Callable[[], float]
"""A clock that only moves forward, in seconds."""

_CLOCK_ID = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boot_time() -> float:
    """Return the seconds since the boot of the machine, including the time in which it was suspended."""
    return time.clock_gettime(_CLOCK_ID)


@lru_cache(maxsize=1)
def leader_election_class(clock: Seconds) -> type[leaderelection.LeaderElection]:
    """Return the library's election with this clock: from a copy of its module whose ``time`` is replaced."""
    spec: Any = importlib.util.find_spec(leaderelection.__name__)
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    vars(copy)["time"] = SimpleNamespace(time=clock)
    return cast("type[leaderelection.LeaderElection]", copy.LeaderElection)


class RobustLeaseLock(LeaseLock):
    """A LeaseLock whose requests end in time and raise nothing. Times are of the wall clock, in UTC, for
    people only."""

    def __init__(
        self,
        name: str,
        namespace: str,
        identity: str,
        api: CoordinationV1Api,
        *,
        labels: Mapping[str, str],
        annotations: Callable[[], Mapping[str, str]],
        request_timeout: float,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        super().__init__(name, namespace, identity, api.api_client)
        self.api_instance = api
        self.labels = labels
        self.annotations = annotations
        """Returns those that each write of the holder sets; others stay as they are."""
        self.request_timeout = request_timeout
        self.now = now
        self.last_problem: str | None = "no response yet"
        """Why the last request failed; None if it succeeded or was only too late (409)."""

    async def get(
        self, name: str, namespace: str
    ) -> tuple[bool, LeaderElectionRecord] | tuple[bool, Exception] | tuple[bool, None]:
        """Read the Lease; an error of any kind is an ``ApiException``."""
        try:
            async with asyncio.timeout(self.request_timeout):
                answer = await super().get(name, namespace)
        except Exception as problem:
            answer = False, ApiException(status=0, reason=type(problem).__name__)
        found, problem_or_record = answer
        is_absent = isinstance(problem_or_record, ApiException) and problem_or_record.status == 404
        self.last_problem = None if found or is_absent else str(getattr(problem_or_record, "reason", "error"))
        return answer

    async def create(self, name: str, namespace: str, election_record: LeaderElectionRecord) -> bool:
        """Create the Lease with its labels; return whether it was created."""
        annotations = dict(self.annotations())
        metadata = V1ObjectMeta(name=name, labels=dict(self.labels), annotations=annotations)
        body = V1Lease(metadata=metadata, spec=self.update_lease(election_record))
        return await self._is_done(self.api_instance.create_namespaced_lease(namespace, body))

    async def update(self, name: str, namespace: str, updated_record: LeaderElectionRecord) -> bool:
        """Write the Lease unless it was changed since it was read; return whether it was written."""
        lease = self.lease_reference
        if lease is None:
            return False
        lease.spec = self.update_lease(updated_record, lease.spec)
        metadata: Any = lease.metadata
        metadata.annotations = {**(metadata.annotations or {}), **self.annotations()}
        return await self._is_done(self.api_instance.replace_namespaced_lease(name, namespace, lease))

    def update_lease(
        self, leader_election_record: LeaderElectionRecord, current_spec: V1LeaseSpec | None = None
    ) -> V1LeaseSpec:
        """Return the spec that this candidate writes. The times in the record are not used."""
        spec = current_spec or V1LeaseSpec()
        now = _with_six_digits(self.now())
        if spec.holder_identity != self.identity:
            spec.acquire_time = now
            # The API server takes 32 bits: a count that somebody else wrote must not stop the election.
            transitions = (spec.lease_transitions or 0) + (current_spec is not None)
            spec.lease_transitions = min(transitions, MAX_TRANSITIONS)
        elif spec.acquire_time is not None:
            spec.acquire_time = _with_six_digits(spec.acquire_time)
        spec.renew_time = now
        spec.holder_identity = self.identity
        spec.lease_duration_seconds = int(leader_election_record.lease_duration or 1)
        return spec

    async def release(self) -> bool:
        """Give the Lease up if this candidate holds it, so that another one takes it at once; return whether
        it did."""
        found, _ = await self.get(self.name, self.namespace)
        lease = self.lease_reference
        if not found or lease is None or lease.spec is None or lease.spec.holder_identity != self.identity:
            return False
        spec, now = lease.spec, _with_six_digits(self.now())
        spec.holder_identity, spec.lease_duration_seconds = "", 1
        spec.acquire_time = spec.renew_time = now
        return await self._is_done(
            self.api_instance.replace_namespaced_lease(self.name, self.namespace, lease)
        )

    async def _is_done(self, request: Awaitable[Any]) -> bool:
        try:
            async with asyncio.timeout(self.request_timeout):
                await request
        except Exception as problem:
            is_late = isinstance(problem, ApiException) and problem.status == 409
            self.last_problem = None if is_late else str(getattr(problem, "reason", type(problem).__name__))
            return False
        self.last_problem = None
        return True


def _with_six_digits(moment: datetime) -> datetime:
    """Return a time that ``isoformat`` writes with six digits, as the API server demands; it omits zeros."""
    return moment.replace(microsecond=moment.microsecond or 1)

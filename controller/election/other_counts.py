"""
Leases of another number of shards: while one of them is held, a shard of this number must not be worked on.

Pods with the old and the new ``shards`` overlap during an upgrade. With two and with three shards, an
envelope belongs to different Leases, so both holders would work on it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kubernetes.aio.client import CoordinationV1Api

from counterfoil.resources.lease import SHARD_LEASE_COUNT_LABEL, believed_duration


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
        if spec is None or not spec.holder_identity or spec.acquire_time is None:
            return False
        version, since = self._unchanged_since.get(metadata.name, ("", 0.0))
        if version != metadata.resource_version:
            since = self.clock()
            self._unchanged_since[metadata.name] = metadata.resource_version, since
        return self.clock() < since + believed_duration(spec.lease_duration_seconds)

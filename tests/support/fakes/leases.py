"""Held shards for tests: their Leases last until a test ends them."""

from collections.abc import Iterable
from datetime import datetime

from controller.sharding import HeldLease, HeldShards
from counterfoil.resources.lease import (
    SERVED_ANNOTATION,
    SHARD_LEASE_COUNT_LABEL,
    Lease,
    micro_time,
    served_annotation,
    shard_lease_name,
)
from tests.support.builders import AClock


def held_shards(*numbers: int, of: int = 1, clock: AClock | None = None) -> HeldShards:
    """Return shards whose Leases are held for an hour of this clock, which stands still without a test."""
    clock = clock or AClock()
    leases = {each: HeldLease(clock.monotonic, clock.monotonic() + 3600.0) for each in numbers or (0,)}
    return HeldShards(leases, of)


def a_shard_lease(
    number: int,
    of: int,
    *,
    renewed: datetime,
    holder: str = "pod-1",
    seconds: int = 15,
    served: Iterable[str] | None = None,
) -> Lease:
    """Return the Lease of a shard; without a holder it is released. ``served`` are the namespaces that it
    tells; None: it is of an earlier version."""
    annotations = {SERVED_ANNOTATION: served_annotation(holder, served)} if served is not None else {}
    return Lease.parse(
        {
            "metadata": {
                "name": shard_lease_name(number, of),
                "uid": f"uid-{number}",
                "labels": {SHARD_LEASE_COUNT_LABEL: str(of)},
                "annotations": annotations,
            },
            "spec": {
                "holderIdentity": holder,
                "leaseDurationSeconds": seconds,
                "acquireTime": micro_time(renewed),
                "renewTime": micro_time(renewed),
            },
        }
    )

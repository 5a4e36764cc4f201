"""Held shards for tests: their Leases last until a test ends them."""

from dataclasses import dataclass
from datetime import datetime

from controller.sharding import HeldLease, HeldShards
from counterfoil.resources.lease import SHARD_LEASE_COUNT_LABEL, Lease, micro_time, shard_lease_name


@dataclass
class AMonotonicClock:
    """A clock that a test moves."""

    seconds: float = 1000.0

    def __call__(self) -> float:
        return self.seconds


def held_shards(*numbers: int, of: int = 1, clock: AMonotonicClock | None = None) -> HeldShards:
    """Return shards whose Leases are held for an hour of this clock, which stands still without a test."""
    clock = clock or AMonotonicClock()
    leases = {each: HeldLease(clock, clock.seconds + 3600.0) for each in numbers or (0,)}
    return HeldShards(leases, of)


def a_shard_lease(number: int, of: int, *, renewed: datetime, holder: str = "pod-1") -> Lease:
    """Return the Lease of a shard for 15 seconds; without a holder it is released."""
    return Lease.parse(
        {
            "metadata": {
                "name": shard_lease_name(number, of),
                "uid": f"uid-{number}",
                "labels": {SHARD_LEASE_COUNT_LABEL: str(of)},
            },
            "spec": {
                "holderIdentity": holder,
                "leaseDurationSeconds": 15,
                "acquireTime": micro_time(renewed),
                "renewTime": micro_time(renewed),
            },
        }
    )

"""Held shards for tests: their Leases last until a test ends them."""

from dataclasses import dataclass

from controller.sharding import HeldLease, HeldShards


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

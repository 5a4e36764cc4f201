"""
The shards of this process, and which of several controllers writes the status of a shared object.

Events belong to a shard by their label; Organizations, Senders and Archives by a hash of their name. A
process works on the shards whose Leases it holds (``controller.election``). Once lost, a ``HeldLease`` stays
lost: a Lease that is acquired again is another object, so work that began before the loss never continues.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from counterfoil.resources import SHARD_COUNT, SHARD_LABEL, EnvelopeEvent
from counterfoil.resources.naming import shard_of_shared_object


class LeaseLost(Exception):
    """The Lease of the event's shard ended; the run stops, and the event continues where the Lease is
    held."""


@dataclass(eq=False)
class HeldLease:
    """One term of this process as the holder of a Lease. The election's thread writes it, all threads read
    it."""

    clock: Callable[[], float]
    """Seconds, from a clock that only moves forward."""
    held_until: float
    """The end of the Lease by that clock, as far as it was renewed, minus a margin."""
    is_ended: bool = False

    def extend(self, until: float) -> None:
        """The Lease was renewed; this does not revive a term that has ended."""
        if self.is_held():
            self.held_until = until

    def end(self) -> None:
        """The Lease was lost or given up."""
        self.is_ended = True

    def is_held(self) -> bool:
        """Whether the Lease is held now."""
        return self.seconds_left() > 0.0

    def seconds_left(self) -> float:
        """Return the time for which no other process can acquire the Lease; 0 if it is lost."""
        if not self.is_ended and self.clock() >= self.held_until:
            self.is_ended = True
        return 0.0 if self.is_ended else max(0.0, self.held_until - self.clock())


@dataclass(frozen=True)
class HeldShards:
    """The shards, of ``count``, that one generation of the controller works on."""

    leases: Mapping[int, HeldLease]
    count: int

    def __str__(self) -> str:
        numbers = ", ".join(map(str, sorted(self.leases)))
        return f"shards {numbers} of {self.count}" if numbers else f"no shard of {self.count}"

    def owns(self, kind: str, name: str) -> bool:
        """Whether this process is the one that writes the status of a shared object."""
        return shard_of_shared_object(kind, name, self.count) in self.leases

    @property
    def are_all(self) -> bool:
        """Whether no other controller has a shard."""
        return len(self.leases) == self.count

    @property
    def are_lost(self) -> bool:
        """Whether at least one of the Leases was lost."""
        return not all(each.is_held() for each in self.leases.values())

    @property
    def seconds_left(self) -> float | None:
        """Return the time until the first of the Leases ends if it is not renewed; None without a Lease."""
        return min((each.seconds_left() for each in self.leases.values()), default=None)

    @property
    def label_selector(self) -> str:
        """Return the selector of the events of these shards; empty for all events."""
        if self.are_all:
            return ""
        mine = (number for number in range(SHARD_COUNT) if number % self.count in self.leases)
        return f"{SHARD_LABEL} in ({','.join(map(str, mine))})"

    def check(self, event: EnvelopeEvent) -> HeldLease:
        """Raise ``LeaseLost`` unless the Lease of the event's shard is held now; return the Lease."""
        lease = self.lease_of(event)
        if lease is None or not lease.is_held():
            number = event.shard_number % self.count
            raise LeaseLost(f"the Lease of shard {number} of {self.count} is not held")
        return lease

    def lease_of(self, event: EnvelopeEvent) -> HeldLease | None:
        """Return the Lease of the event's shard, held or lost; None if this generation never had it."""
        return self.leases.get(event.shard_number % self.count)

    def has_gained(self, newest: "HeldShards") -> bool:
        """Whether ``newest`` has a shard that these are without."""
        return bool(newest.leases.keys() - self.leases.keys())

"""
Which shards no controller works on, as their Leases tell people. Pure.

A Lease is judged by the wall clocks of two machines here: enough for a person, not for mutual exclusion.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from counterfoil.resources.lease import SHARD_LEASE_COUNT_LABEL, Lease
from counterfoil.resources.naming import SHARD_COUNT, shard_of_shared_object

CLOCK_SKEW = timedelta(seconds=30)
"""Maximum difference of two clocks at which a living controller is never reported as absent."""

_NAME = "counterfoil-shard-"


@dataclass(frozen=True)
class UnheldShard:
    """A shard that no controller works on, and the last Lease of it; empty texts if there was none."""

    lease: str = ""
    holder: str = ""
    """Empty if the Lease was released."""
    renewed_at: datetime | None = None

    def __str__(self) -> str:
        if self.renewed_at is None:
            return "No controller has acquired the Lease of a shard yet."
        at = self.renewed_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        if not self.holder:
            return f"Lease/{self.lease} was released at {at}, and no controller has acquired it since."
        return f"{self.holder} renewed Lease/{self.lease} for the last time at {at}."


def unheld_shard(leases: Iterable[Lease], shard: int, now: datetime) -> UnheldShard | None:
    """Return why no controller works on the events of a shard (0..63); None if one does."""
    return _unheld([each for each in leases if _covers(each, shard)], now)


def unheld_shards(leases: Iterable[Lease], now: datetime) -> tuple[UnheldShard, ...]:
    """Return all shards that no controller works on."""
    known = tuple(leases)
    found = {unheld_shard(known, shard, now) for shard in range(SHARD_COUNT)}
    return tuple(sorted((each for each in found if each is not None), key=lambda each: each.lease))


def unheld_owner(leases: Iterable[Lease], kind: str, name: str, now: datetime) -> UnheldShard | None:
    """Return why no controller does the work that belongs to a shared object; None if one does."""
    owners = [each for each in leases if _number(each) == shard_of_shared_object(kind, name, _count(each))]
    return _unheld(owners, now)


def _unheld(leases: Iterable[Lease], now: datetime) -> UnheldShard | None:
    newest: Lease | None = None
    for each in leases:
        if each.spec.is_held_at(now - CLOCK_SKEW):
            return None
        if newest is None or _renewed_at(each) > _renewed_at(newest):
            newest = each
    if newest is None:
        return UnheldShard()
    return UnheldShard(newest.name, newest.spec.holder_identity or "", newest.spec.renew_time)


def _renewed_at(lease: Lease) -> datetime:
    return lease.spec.renew_time or datetime.fromtimestamp(0, UTC)


def _covers(lease: Lease, shard: int) -> bool:
    return shard % _count(lease) == _number(lease)


def _count(lease: Lease) -> int:
    label = lease.metadata.labels.get(SHARD_LEASE_COUNT_LABEL, "")
    return max(1, int(label)) if label.isdecimal() else 1


def _number(lease: Lease) -> int | None:
    number = lease.name.removeprefix(_NAME).partition("-")[0]
    return int(number) if lease.name.startswith(_NAME) and number.isdecimal() else None

"""
Lease: Kubernetes' object for mutual exclusion (coordination.k8s.io).

The pages use Leases as notes (docs/decisions/0006), the controllers hold one per shard (docs/decisions/0022).
The API server accepts the times of a Lease only with exactly six digits after the decimal point;
``micro_time`` writes them.
"""

from datetime import UTC, datetime, timedelta
from typing import ClassVar, Final

from counterfoil.resources.base import GROUP, Resource, ResourcePart

LEASE_KIND_LABEL: Final = f"{GROUP}/note"
"""Label of a Lease of the pages: what it is about."""
KIND_STATE: Final = "state"
"""A state of OAuth that was used."""
KIND_DRAFT: Final = "draft"
"""A draft whose sending began, and whose sender may not be recorded yet."""
KIND_SENT: Final = "sent"
"""A draft that was sent, and whose sender is recorded."""

SHARD_LEASE_COUNT_LABEL = f"{GROUP}/shards"
"""Label of the Lease of a shard: the number of shards that it is one of."""


def micro_time(moment: datetime) -> str:
    """Return the time as ``metav1.MicroTime``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def shard_lease_name(number: int, count: int) -> str:
    """Return the name of the Lease of one shard of ``count``."""
    return f"counterfoil-shard-{number}-of-{count}"


MAX_LEASE_SECONDS: Final = 3600
"""Maximum duration that a Lease is believed, and that a controller may write. Without it, a user with the
right to write Leases could keep all controllers out for decades."""


def believed_duration(seconds: int | None) -> float:
    """Return the duration of a Lease that another process wrote, in seconds."""
    return float(max(0, min(seconds or 0, MAX_LEASE_SECONDS)))


class LeaseSpec(ResourcePart, frozen=True):
    """Holder of the lease, its duration and its times."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: datetime | None = None
    renew_time: datetime | None = None

    def is_held_at(self, now: datetime) -> bool:
        """Whether somebody holds the Lease by the wall clock: for people, not for mutual exclusion."""
        duration = timedelta(seconds=believed_duration(self.lease_duration_seconds))
        return bool(self.holder_identity) and self.renew_time is not None and now - self.renew_time < duration


class Lease(Resource, frozen=True):
    """One Lease."""

    KIND: ClassVar[str] = "Lease"
    PLURAL: ClassVar[str] = "leases"
    API_VERSION: ClassVar[str] = "coordination.k8s.io/v1"

    spec: LeaseSpec = LeaseSpec()

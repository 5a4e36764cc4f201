"""
Lease: Kubernetes' object for mutual exclusion (coordination.k8s.io), which the pages use; see
docs/decisions/0006.

The API server accepts its times only with exactly six digits after the decimal point; ``micro_time`` writes
them.
"""

from datetime import UTC, datetime
from typing import ClassVar

from counterfoil.resources.base import Resource, ResourcePart


def micro_time(moment: datetime) -> str:
    """Return the time as ``metav1.MicroTime``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class LeaseSpec(ResourcePart, frozen=True):
    """Holder of the lease, its duration and its times."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: datetime | None = None
    renew_time: datetime | None = None


class Lease(Resource, frozen=True):
    """One Lease."""

    KIND: ClassVar[str] = "Lease"
    PLURAL: ClassVar[str] = "leases"
    API_VERSION: ClassVar[str] = "coordination.k8s.io/v1"

    spec: LeaseSpec = LeaseSpec()

"""
Lease: Kubernetes' own small object for "one at a time" (coordination.k8s.io), as the pages use it; see
docs/decisions/0006.

Its times have exactly six digits behind the point, or the API server refuses them, so they are written here and nowhere
else.
"""

from datetime import UTC, datetime
from typing import ClassVar

from counterfoil.resources.base import Resource, ResourcePart


def micro_time(moment: datetime) -> str:
    """Write a moment as ``metav1.MicroTime``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class LeaseSpec(ResourcePart, frozen=True):
    """Who holds it, for how long, and since when."""

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

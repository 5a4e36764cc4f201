"""
Lease: Kubernetes' object for mutual exclusion (coordination.k8s.io).

The pages use Leases as notes (docs/decisions/0006), the controllers hold one per shard (docs/decisions/0022).
The API server accepts the times of a Lease only with exactly six digits after the decimal point;
``micro_time`` writes them.

The Leases of the shards also tell people which shards no controller works on. A Lease is judged by the wall
clocks of two machines there: enough for a person, not for mutual exclusion.

An annotation of such a Lease tells which namespaces its holder serves (docs/decisions/0087). It has digests:
who may read the Leases of a release learns whether a namespace is served whose name is known, and no name.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Final

from counterfoil.resources.base import GROUP, Resource, ResourcePart
from counterfoil.resources.naming import SHARD_COUNT, shard_of_shared_object

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


SERVED_ANNOTATION: Final = f"{GROUP}/served"
"""Annotation of the Lease of a shard: the digest of its holder's name, then those of the namespaces that this
holder serves."""

MAX_SERVED_DIGESTS: Final = 64
"""Maximum number of namespaces in the annotation that is believed; no release serves as many."""

_DIGEST_LENGTH: Final = 16
_DIGESTS: Final = re.compile(
    rf"[0-9a-f]{{{_DIGEST_LENGTH}}}(?: [0-9a-f]{{{_DIGEST_LENGTH}}}){{1,{MAX_SERVED_DIGESTS}}}", re.ASCII
)


def served_annotation(holder: str, namespaces: Iterable[str]) -> str:
    """Return the value of the annotation that a holder writes into its Leases."""
    return " ".join((_digest(holder), *sorted(map(_digest, namespaces))))


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:_DIGEST_LENGTH]


def micro_time(moment: datetime) -> str:
    """Return the time as ``metav1.MicroTime``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def shard_lease_name(number: int, count: int) -> str:
    """Return the name of the Lease of one shard of ``count``."""
    return f"counterfoil-shard-{number}-of-{count}"


def is_shard_lease(name: str, label: str) -> bool:
    """Whether a Lease with this label ``counterfoil.dev/shards`` has the name of a shard. Other processes may
    write Leases with other names, and each label."""
    number = _number_of(name)
    return number is not None and label.isdecimal() and name == shard_lease_name(number, int(label))


MAX_LEASE_SECONDS: Final = 3600
"""Maximum duration that a Lease is believed, and that a controller may write. Without it, a user with the
right to write Leases could keep all controllers out for decades."""


MAX_RETRY_SECONDS: Final = 60
"""Maximum interval between the renewals of a controller. Who does not renew a Lease for longer does not work,
although the Lease keeps other controllers out for its duration."""


def believed_duration(seconds: int | None) -> float:
    """Return the duration of a Lease that another process wrote, in seconds."""
    return float(max(0, min(seconds or 0, MAX_LEASE_SECONDS)))


class LeaseSpec(ResourcePart, frozen=True):
    """Holder of the lease, its duration and its times."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: datetime | None = None
    renew_time: datetime | None = None

    def is_renewed_at(self, now: datetime) -> bool:
        """Whether the holder of the Lease works by the wall clock: for people, not for mutual exclusion."""
        return self._is_held(now, min(self._duration, timedelta(seconds=MAX_RETRY_SECONDS)))

    def held_until(self, now: datetime) -> datetime | None:
        """Return until when the Lease keeps other controllers out by the wall clock; None: it does not."""
        if self.renew_time is None or not self._is_held(now, self._duration):
            return None
        # Who wrote the time may have written any.
        return self.renew_time + min(self._duration, datetime.max.replace(tzinfo=UTC) - self.renew_time)

    @property
    def _duration(self) -> timedelta:
        return timedelta(seconds=believed_duration(self.lease_duration_seconds))

    def _is_held(self, now: datetime, duration: timedelta) -> bool:
        is_taken = bool(self.holder_identity) and self.renew_time is not None
        return is_taken and now - (self.renew_time or now) < duration


class Lease(Resource, frozen=True):
    """One Lease."""

    KIND: ClassVar[str] = "Lease"
    PLURAL: ClassVar[str] = "leases"
    API_VERSION: ClassVar[str] = "coordination.k8s.io/v1"

    spec: LeaseSpec = LeaseSpec()

    def serves(self, namespace: str) -> bool | None:
        """Whether the holder of this Lease of a shard serves a namespace; None if it does not tell. A holder
        of an earlier version leaves the annotation of another one as it is, so the holder's name counts."""
        told = self.metadata.annotations.get(SERVED_ANNOTATION, "")
        if not namespace or _DIGESTS.fullmatch(told) is None:
            return None
        holder, *namespaces = told.split(" ")
        if holder != _digest(self.spec.holder_identity or ""):
            return None
        return _digest(namespace) in namespaces


CLOCK_SKEW = timedelta(seconds=30)
"""Maximum difference of two clocks at which a living controller is never reported as absent."""

_NAME = "counterfoil-shard-"


@dataclass(frozen=True)
class UnheldShard:
    """A shard that no controller works on, and the last Lease of it; empty texts if there was none."""

    reason: ClassVar[str] = "ControllerAbsent"

    lease: str = ""
    holder: str = ""
    """Empty if the Lease was released."""
    renewed_at: datetime | None = None
    release: str = ""
    """The namespace of the release, with its Leases and pods, if it is not that of the objects."""
    held_until: datetime | None = None
    """Until when the holder, who does not renew the Lease, keeps all controllers out; None: it does not."""

    def __str__(self) -> str:
        place = f" in the namespace {self.release}" if self.release else ""
        if self.renewed_at is None:
            return f"No controller{place} has acquired the Lease of a shard yet."
        at = readable_time(self.renewed_at)
        if not self.holder:
            return f"Lease/{self.lease}{place} was released at {at}, and no controller has acquired it since."
        renewed = f"{self.holder} renewed Lease/{self.lease}{place} for the last time at {at}"
        if self.held_until is None:
            return f"{renewed}."
        until = readable_time(self.held_until)
        return (
            f"{renewed}, and holds it until {until}. If none of the controller's pods has this name, delete "
            "the Lease."
        )


@dataclass(frozen=True)
class NamespaceNotServed:
    """The controllers of the release that served a namespace work, and do not serve it now."""

    reason: ClassVar[str] = "NamespaceNotServed"
    advice: ClassVar[str] = "List it in watchNamespaces of the release."
    lease: ClassVar[str] = ""
    renewed_at: ClassVar[None] = None

    namespace: str
    release: str = ""
    """The namespace of the release, if it is not this one."""

    def __str__(self) -> str:
        return (
            f"The controllers in the namespace {self.release or self.namespace} work, and their list does "
            f"not have the namespace {self.namespace}."
        )


Absence = UnheldShard | NamespaceNotServed
"""Why no controller works on objects."""


@dataclass(frozen=True)
class ShardLeases:
    """The Leases of the shards of the release that serves a namespace."""

    leases: tuple[Lease, ...]
    release: str = ""
    """The namespace of the release, if it is not that of the objects."""
    namespace: str = ""
    """That of the objects; empty: each one counts as served."""

    def unheld_shard(self, shard: int, now: datetime) -> Absence | None:
        """Return why no controller works on the events of a shard (0..63); None if one does."""
        return self._unheld([each for each in self.leases if _covers(each, shard)], now)

    def unheld_shards(self, now: datetime) -> tuple[Absence, ...]:
        """Return why no controller works on events, once for each shard, or once if the namespace is not
        served."""
        found = {self.unheld_shard(shard, now) for shard in range(SHARD_COUNT)}
        return tuple(sorted((each for each in found if each is not None), key=lambda each: each.lease))

    def unheld_owner(self, kind: str, name: str, now: datetime) -> Absence | None:
        """Return why no controller does the work that belongs to a shared object; None if one does."""
        owners = (
            each for each in self.leases if _number(each) == shard_of_shared_object(kind, name, _count(each))
        )
        return self._unheld(owners, now)

    def _unheld(self, leases: Iterable[Lease], now: datetime) -> Absence | None:
        newest: Lease | None = None
        is_held = False
        for each in leases:
            if each.spec.is_renewed_at(now - CLOCK_SKEW):
                if each.serves(self.namespace) is not False:
                    return None
                is_held = True
            if newest is None or _renewed_at(each) > _renewed_at(newest):
                newest = each
        if is_held:
            return NamespaceNotServed(self.namespace, self.release)
        if newest is None:
            return UnheldShard(release=self.release)
        spec = newest.spec
        held_until = spec.held_until(now)
        return UnheldShard(newest.name, spec.holder_identity or "", spec.renew_time, self.release, held_until)


def readable_time(moment: datetime) -> str:
    """Return a time for people, in UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _renewed_at(lease: Lease) -> datetime:
    return lease.spec.renew_time or datetime.fromtimestamp(0, UTC)


def _covers(lease: Lease, shard: int) -> bool:
    return shard % _count(lease) == _number(lease)


def _count(lease: Lease) -> int:
    label = lease.metadata.labels.get(SHARD_LEASE_COUNT_LABEL, "")
    return max(1, int(label)) if label.isdecimal() else 1


def _number(lease: Lease) -> int | None:
    return _number_of(lease.name)


def _number_of(name: str) -> int | None:
    number = name.removeprefix(_NAME).partition("-")[0]
    return int(number) if name.startswith(_NAME) and number.isdecimal() else None

"""
Leases in the API server that all replicas share: used OAuth states, and drafts that are being sent.

Creating a state's Lease uses the state, and only one request can create it. A draft's Lease is created before
the draft is sent; it has the start time, the Sender and the holder. So after a kill at any point the next
request or the recovery knows what is incomplete (docs/decisions/0006). Leases hold no secret and are deleted
some time after they are completed.

Others may write Leases too. So the statement that a draft was sent, and as which envelopes, carries a seal of
the pages. The seal is bound to the Lease by its uid. A statement without a valid seal does not count, and
eSAW is asked. Times that cannot be right are replaced by the API server's.
"""

import base64
import hashlib
import hmac
import json
import logging
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Self

from counterfoil.clock import Clock, believed_time
from counterfoil.esaw.oauth import new_secret
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import AlreadyExists, Conflict, Forbidden, NotFound, Rejected
from counterfoil.kube.watch import Raw
from counterfoil.resources import GROUP, ORGANIZATION_LABEL, ResourceInvalid
from counterfoil.resources.lease import (
    KIND_DRAFT,
    KIND_SENT,
    KIND_STATE,
    LEASE_KIND_LABEL,
    Lease,
    micro_time,
)
from counterfoil.sealing import SealBroken, SealKeyUnknown
from webhook.http_server.cookies import CookieCipher

_log = logging.getLogger(__name__)

SENDER_ANNOTATION: Final = f"{GROUP}/sender"
DRAFT_ANNOTATION: Final = f"{GROUP}/draft"
ENVELOPE_ANNOTATION: Final = f"{GROUP}/sent-as"
"""Id of the envelope; present when the draft was sent and its sender is recorded. The first envelope of a
bulk."""
ENVELOPES_ANNOTATION: Final = f"{GROUP}/envelopes"
"""Ids of the envelopes of a bulk, while their sender is not recorded for each; separated by commas."""
SENT_TIME_ANNOTATION: Final = f"{GROUP}/sent-time"
"""When the bulk was sent; present with the ids."""
REFUSALS_ANNOTATION: Final = f"{GROUP}/refusals"
"""Number of times that the API server refused to store the senders of a bulk."""
SEAL_ANNOTATION: Final = f"{GROUP}/seal"
"""Seal over the statement that the draft was sent."""

TAGS_ANNOTATION: Final = f"{GROUP}/tags"
"""Seal over the tags of the form with which the draft is sent. Empty if attempts had different tags."""

SEAL_PURPOSE: Final = "draft lease"

MAX_ATTEMPT_SECONDS: Final = 3600
"""Maximum duration of an attempt that a Lease is believed, unless the setting of this process is longer."""

MAX_REPORTED: Final = 1000
"""Maximum number of unreadable Leases that are remembered as reported."""

MAX_START_DIFFERENCE: Final = timedelta(days=1)
"""Maximum time by which an attempt can have begun before its Lease was created."""


@dataclass(frozen=True)
class SendLease:
    """The Lease of a draft whose sending has begun."""

    name: str
    uid: str
    version: str
    organization: str
    sender: str
    draft: str
    holder: str
    """The attempt that holds the Lease."""
    started: datetime
    """Start of the first attempt; nothing was sent before."""
    renewed: datetime
    """Start of the current attempt."""
    seconds: int
    """Maximum duration of an attempt; after that another may begin."""
    is_completed: bool
    envelopes: tuple[str, ...] = ()
    """The envelopes of a bulk that was sent, until their sender is recorded for each."""
    sent_time: datetime | None = None
    """When that bulk was sent."""
    is_first_attempt: bool = False
    """Whether the current attempt is the first."""
    refusals: int = 0
    """Number of times that the API server refused to store the senders of that bulk."""
    written: datetime | None = None
    """Time of the last write, by the API server's clock; None: unknown."""
    sealed_tags: str = ""
    """The seal over the tags of all attempts until now. Empty if they differ or are not known."""

    @classmethod
    def parse(cls, raw: Raw, cipher: CookieCipher, *, max_seconds: int) -> Self:
        """
        Parse a Lease; an attempt lasts ``max_seconds`` at most.

        Raises ``ResourceInvalid`` for one that is not about a draft, or about another one than its name says.
        """
        lease = Lease.parse(raw)
        metadata, spec = lease.metadata, lease.spec
        if spec.acquire_time is None or spec.renew_time is None:
            raise ResourceInvalid(f"Lease/{lease.name}: it is not the Lease of a draft")
        annotations = metadata.annotations
        organization = metadata.labels.get(ORGANIZATION_LABEL, "")
        sender, draft = annotations.get(SENDER_ANNOTATION, ""), annotations.get(DRAFT_ANNOTATION, "")
        if lease.name != _draft_lease_name(organization, sender, draft):
            raise ResourceInvalid(f"Lease/{lease.name}: it has not the name of its draft")
        uid, seal = lease.uid, annotations.get(SEAL_ANNOTATION, "")
        sent_as, sent_time = annotations.get(ENVELOPE_ANNOTATION), annotations.get(SENT_TIME_ANNOTATION, "")
        envelopes = annotations.get(ENVELOPES_ANNOTATION, "")
        is_completed = sent_as is not None and _is_sealed(cipher, seal, uid, ENVELOPE_ANNOTATION, sent_as)
        is_bulk = _is_sealed(cipher, seal, uid, ENVELOPES_ANNOTATION, envelopes, sent_time)
        return cls(
            name=lease.name,
            uid=uid,
            version=metadata.resource_version or "",
            organization=organization,
            sender=sender,
            draft=draft,
            holder=spec.holder_identity or "",
            started=_believed_start(spec.acquire_time, metadata.creation_timestamp),
            renewed=spec.renew_time,
            seconds=max(0, min(spec.lease_duration_seconds or 0, max_seconds)),
            is_completed=is_completed,
            envelopes=tuple(filter(None, envelopes.split(","))) if is_bulk else (),
            sent_time=_parse_time(sent_time) if is_bulk else None,
            is_first_attempt=spec.acquire_time == spec.renew_time,
            refusals=_parse_count(annotations.get(REFUSALS_ANNOTATION, "")),
            written=_written_time(raw) or metadata.creation_timestamp,
            sealed_tags=annotations.get(TAGS_ANNOTATION, ""),
        )

    @property
    def is_sent(self) -> bool:
        """Whether the draft was certainly sent, also if the senders of a bulk are still being recorded."""
        return self.is_completed or bool(self.envelopes)

    def is_expired(self, now: datetime, *, after: float | None = None) -> bool:
        """
        Whether the current attempt has certainly ended, or began more than ``after`` seconds ago.

        If its start can't be right, the API server's time of the last write counts.
        """
        started = believed_time(self.renewed, now) or self.written or self.renewed
        return now - started > timedelta(seconds=self.seconds if after is None else after)

    def is_repeated(self, now: datetime) -> bool:
        """
        Whether the recovery may search beside the current attempt, which is not the first.

        The first attempt has ended, since its time has passed twice. A later one sends nothing before it saw
        that the draft still exists, and then the recovery does not search. If that attempt sends the draft
        just then, the sender is recorded all the same, at worst without the id of the draft. The Envelopes of
        a bulk have one writer at a time.
        """
        time_of_first = timedelta(seconds=2 * self.seconds)
        return not self.is_sent and not self.is_first_attempt and now - self.started > time_of_first


@dataclass(frozen=True)
class SendLeases:
    """Writes and reads Leases. Every method raises ``ApiError`` when the API server refuses or fails."""

    kube: KubeClient
    cipher: CookieCipher
    """Seals what a draft became, for all replicas."""
    clock: Clock
    attempt_seconds: int
    _reported: set[str] = field(init=False, default_factory=set)
    """Versions of unreadable Leases that are in the log."""

    async def use_state(self, state: str) -> bool:
        """Use a state; False when it was used before, whichever replica that was."""
        body = self._body(f"counterfoil-state-{_hash(state)}", {LEASE_KIND_LABEL: KIND_STATE}, {})
        try:
            await self.kube.create(Lease, body)
        except AlreadyExists:
            return False
        return True

    async def acquire(
        self, organization: str, sender: str, draft: str, tags: Mapping[str, str] | None = None
    ) -> SendLease | None:
        """Create the Lease of a draft before it is sent with these tags; None when the Lease exists."""
        name = _draft_lease_name(organization, sender, draft)
        sealed_tags = _seal(self.cipher, name, TAGS_ANNOTATION, _tags_text(tags))
        body = self._body(
            name,
            {LEASE_KIND_LABEL: KIND_DRAFT, ORGANIZATION_LABEL: organization},
            {SENDER_ANNOTATION: sender, DRAFT_ANNOTATION: draft, TAGS_ANNOTATION: sealed_tags},
        )
        try:
            return self._parse(await self.kube.create(Lease, body), organization, sender, draft)
        except AlreadyExists:
            return None

    async def find(self, organization: str, sender: str, draft: str) -> SendLease | None:
        """Return the Lease of a draft, or None."""
        name = _draft_lease_name(organization, sender, draft)
        try:
            return self._parse(await self.kube.get(Lease, name), organization, sender, draft)
        except NotFound:
            return None

    def has_tags(self, lease: SendLease, tags: Mapping[str, str] | None) -> bool:
        """Whether all attempts until now had these tags, by the word of the pages."""
        statement = (lease.name, TAGS_ANNOTATION, _tags_text(tags))
        return _is_sealed(self.cipher, lease.sealed_tags, *statement)

    async def continue_recording(self, lease: SendLease) -> SendLease | None:
        """Take over an expired attempt to record what a draft became; None when another process was
        first."""
        return await self._take_over(lease, {})

    async def take_over(self, lease: SendLease, tags: Mapping[str, str] | None = None) -> SendLease | None:
        """
        Begin a new attempt with these tags in place of an expired one; None when another process was first.

        The expired one may have sent the draft with its tags. So if they differ, the tags are not known.
        """
        sealed_tags = lease.sealed_tags if self.has_tags(lease, tags) else ""
        return await self._take_over(lease, {TAGS_ANNOTATION: sealed_tags})

    async def _take_over(self, lease: SendLease, annotations: Mapping[str, str]) -> SendLease | None:
        changes = {
            "metadata": {"resourceVersion": lease.version, "annotations": annotations},
            "spec": {"holderIdentity": new_secret(), "renewTime": micro_time(self.clock.now())},
        }
        try:
            raw = await self.kube.patch(Lease, lease.name, changes)
            return self._parse(raw, lease.organization, lease.sender, lease.draft)
        except (Conflict, NotFound):
            return None

    async def store_envelopes(self, lease: SendLease, envelopes: Sequence[str]) -> SendLease:
        """
        Store what a bulk became, before its senders are recorded; return the Lease with it.

        Without a precondition: the process that sent the draft knows its envelopes for certain.
        """
        ids, sent_time = ",".join(envelopes), micro_time(self.clock.now())
        annotations = {
            ENVELOPES_ANNOTATION: ids,
            SENT_TIME_ANNOTATION: sent_time,
            SEAL_ANNOTATION: _seal(self.cipher, lease.uid, ENVELOPES_ANNOTATION, ids, sent_time),
        }
        changes = {"metadata": {"annotations": annotations}}
        raw = await self.kube.patch(Lease, lease.name, changes)
        return self._parse(raw, lease.organization, lease.sender, lease.draft)

    async def store_refusals(self, lease: SendLease, refusals: int) -> None:
        """Store how often the API server refused to store the senders of a bulk."""
        changes = {
            "metadata": {
                "resourceVersion": lease.version,
                "annotations": {REFUSALS_ANNOTATION: str(refusals)},
            }
        }
        with suppress(NotFound, Conflict):
            await self.kube.patch(Lease, lease.name, changes)

    async def complete(self, lease: SendLease, envelope: str) -> None:
        """Record that the draft was sent and its sender is stored. No list of open drafts has it from now
        on."""
        annotations = {
            ENVELOPE_ANNOTATION: envelope,
            ENVELOPES_ANNOTATION: None,
            SEAL_ANNOTATION: _seal(self.cipher, lease.uid, ENVELOPE_ANNOTATION, envelope),
        }
        changes = {"metadata": {"labels": {LEASE_KIND_LABEL: KIND_SENT}, "annotations": annotations}}
        with suppress(NotFound):
            await self.kube.patch(Lease, lease.name, changes)

    async def release(self, lease: SendLease) -> None:
        """End an attempt that sent nothing. The Lease stays if an earlier attempt may still take effect."""
        if lease.is_first_attempt:
            return await self.discard(lease)
        changes = {
            "metadata": {"resourceVersion": lease.version},
            "spec": {"renewTime": micro_time(lease.started)},
        }
        with suppress(NotFound, Conflict):
            await self.kube.patch(Lease, lease.name, changes)
        return None

    async def discard(self, lease: SendLease) -> None:
        """Delete a Lease that no other process changed since."""
        with suppress(NotFound, Conflict):
            await self.kube.delete(Lease, lease.name, uid=lease.uid, resource_version=lease.version)

    async def list_drafts(self) -> AsyncIterator[SendLease]:
        """Yield the Leases of the drafts whose sender may not be recorded yet."""
        async for lease in self._list(KIND_DRAFT):
            yield lease

    async def list_sent(self) -> AsyncIterator[SendLease]:
        """Yield the Leases of the drafts that were sent and whose sender is recorded."""
        async for lease in self._list(KIND_SENT):
            yield lease

    async def _list(self, kind: str) -> AsyncIterator[SendLease]:
        async for raw in self.kube.list(Lease, labels=f"{LEASE_KIND_LABEL}={kind}"):
            try:
                lease = self._parse_as_it_is(raw)
            except ResourceInvalid as invalid:
                self._report(raw, invalid)
            else:
                yield lease

    def _report(self, raw: Raw, invalid: ResourceInvalid) -> None:
        """Log a Lease that can't be read, once for each of its versions: every pass lists it again."""
        metadata = raw["metadata"]
        version = f"{metadata.get('uid', '')} {metadata.get('resourceVersion', '')}"
        if version in self._reported:
            return
        if len(self._reported) >= MAX_REPORTED:
            self._reported.clear()
        self._reported.add(version)
        _log.warning("the Lease of a draft can't be read, so what it became is not recorded: %s", invalid)

    async def delete_states(self, *, older_than: float) -> int:
        """
        Delete the Leases of states older than ``older_than`` seconds; return their number.

        One that can't be read or deleted costs itself.
        """
        before = self.clock.now() - timedelta(seconds=older_than)
        count = 0
        async for raw in self.kube.list(Lease, labels=f"{LEASE_KIND_LABEL}={KIND_STATE}"):
            try:
                lease = Lease.parse(raw)
                if lease.spec.acquire_time is None or lease.spec.acquire_time < before:
                    await self.kube.delete(Lease, lease.name, uid=lease.uid)
                    count += 1
            except (NotFound, Conflict):
                continue
            except (ResourceInvalid, Forbidden, Rejected) as problem:
                _log.warning("the Lease of a used state is not deleted: %s", problem)
        return count

    def _parse(self, raw: Raw, organization: str, sender: str, draft: str) -> SendLease:
        """Parse the Lease of a known draft; only its name says whose it is."""
        metadata = raw["metadata"]
        labels = {**metadata.get("labels", {}), ORGANIZATION_LABEL: organization}
        annotations = {
            **metadata.get("annotations", {}),
            SENDER_ANNOTATION: sender,
            DRAFT_ANNOTATION: draft,
        }
        return self._parse_as_it_is(
            {**raw, "metadata": {**metadata, "labels": labels, "annotations": annotations}}
        )

    def _parse_as_it_is(self, raw: Raw) -> SendLease:
        longest = max(MAX_ATTEMPT_SECONDS, self.attempt_seconds)
        return SendLease.parse(raw, self.cipher, max_seconds=longest)

    def _body(self, name: str, labels: dict[str, str], annotations: dict[str, str]) -> dict[str, Any]:
        now = micro_time(self.clock.now())
        return {
            "apiVersion": Lease.API_VERSION,
            "kind": Lease.KIND,
            "metadata": {"name": name, "labels": labels, "annotations": annotations},
            "spec": {
                "holderIdentity": new_secret(),
                "leaseDurationSeconds": self.attempt_seconds,
                "acquireTime": now,
                "renewTime": now,
            },
        }


def _seal(cipher: CookieCipher, *statement: str) -> str:
    return base64.b64encode(cipher.seal_for(SEAL_PURPOSE, _digest(statement))).decode()


def _is_sealed(cipher: CookieCipher, seal: str, *statement: str) -> bool:
    """Whether the pages made this statement; a seal that can't be opened is none."""
    try:
        opened = cipher.open_for(SEAL_PURPOSE, base64.b64decode(seal, validate=True))
    except (ValueError, SealBroken, SealKeyUnknown):
        return False
    return hmac.compare_digest(opened, _digest(statement))


def _tags_text(tags: Mapping[str, str] | None) -> str:
    return json.dumps(tags or {}, sort_keys=True)


def _digest(statement: Sequence[str]) -> bytes:
    return hashlib.sha256("\0".join(statement).encode()).digest()


def _believed_start(stated: datetime, created: datetime | None) -> datetime:
    """Return the start of the first attempt: not after the API server created its Lease, and not long
    before."""
    if created is None:
        return stated
    return max(min(stated, created), created - MAX_START_DIFFERENCE)


def _parse_time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _parse_count(text: str) -> int:
    return int(text) if re.fullmatch(r"[0-9]{1,6}", text) else 0


def _written_time(raw: Raw) -> datetime | None:
    """Return the newest time in ``metadata.managedFields``. A writer can choose it, but only the pages write
    these Leases."""
    times = (_parse_time(str(each.get("time", ""))) for each in raw["metadata"].get("managedFields", ()))
    return max((each for each in times if each is not None and each.tzinfo is not None), default=None)


def _draft_lease_name(organization: str, sender: str, draft: str) -> str:
    # By organization and sender, so that nobody gets in the way of another one's draft by naming its id.
    return f"counterfoil-draft-{_hash(organization, sender, draft)}"


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]

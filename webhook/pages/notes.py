"""
Notes that all replicas share, as Leases in the API server: which states were used, and which drafts are being sent.

A state is used by creating its note, which only one request can. A draft is noted down before it is sent, and its note says
since when, for which Sender, and who is at it; so whatever is killed at whatever moment, the next request or the repair
knows what to look after (docs/decisions/0006). Notes hold no secret and are removed some time after they are settled.
"""

import hashlib
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Self

from counterfoil.clock import Clock
from counterfoil.cluster import AlreadyExists, Cluster, Conflict, NotFound, Raw
from counterfoil.esaw.oauth import new_secret
from counterfoil.resources import GROUP, ORGANIZATION_LABEL, ResourceInvalid
from counterfoil.resources.lease import Lease, micro_time

NOTE_LABEL: Final = f"{GROUP}/note"
STATE: Final = "state"
DRAFT: Final = "draft"

SENDER_ANNOTATION: Final = f"{GROUP}/sender"
DRAFT_ANNOTATION: Final = f"{GROUP}/draft"
ENVELOPE_ANNOTATION: Final = f"{GROUP}/sent-as"
"""There when the draft was sent and its sender is noted down: the id of its envelope."""


@dataclass(frozen=True)
class Note:
    """A draft that somebody began to send."""

    name: str
    uid: str
    version: str
    organization: str
    sender: str
    draft: str
    holder: str
    """Which attempt is at it."""
    begun: datetime
    """When the first attempt began; nothing was sent before."""
    renewed: datetime
    """When the present attempt began."""
    seconds: int
    """How long an attempt may take; after that another may begin."""
    is_settled: bool

    @classmethod
    def parse(cls, raw: Raw) -> Self:
        """Read a note. Raises ``ResourceInvalid`` for a Lease that is none."""
        lease = Lease.parse(raw)
        metadata, spec = lease.metadata, lease.spec
        if spec.acquire_time is None or spec.renew_time is None:
            raise ResourceInvalid(f"Lease/{lease.name}: it is no note about a draft")
        return cls(
            name=lease.name,
            uid=lease.uid,
            version=metadata.resource_version or "",
            organization=metadata.labels.get(ORGANIZATION_LABEL, ""),
            sender=metadata.annotations.get(SENDER_ANNOTATION, ""),
            draft=metadata.annotations.get(DRAFT_ANNOTATION, ""),
            holder=spec.holder_identity or "",
            begun=spec.acquire_time,
            renewed=spec.renew_time,
            seconds=spec.lease_duration_seconds or 0,
            is_settled=ENVELOPE_ANNOTATION in metadata.annotations,
        )

    @property
    def is_first_attempt(self) -> bool:
        """Whether nobody was at it before the present attempt."""
        return self.begun == self.renewed

    def is_left_alone(self, now: datetime) -> bool:
        """Whether nobody can be at it any more."""
        return now - self.renewed > timedelta(seconds=self.seconds)


class Notes:
    """Writes and reads notes. Everything raises ``ApiProblem`` when the API server does not do its part."""

    def __init__(self, cluster: Cluster, clock: Clock, *, attempt_seconds: int) -> None:
        self._cluster = cluster
        self._clock = clock
        self._attempt_seconds = attempt_seconds

    async def use_state(self, state: str) -> bool:
        """Use a state; False when it was used before, whichever replica that was."""
        body = self._body(f"counterfoil-state-{_hash(state)}", {NOTE_LABEL: STATE}, {}, new_secret())
        try:
            await self._cluster.create(Lease, body)
        except AlreadyExists:
            return False
        return True

    async def begin(self, organization: str, sender: str, draft: str) -> Note | None:
        """Note down that a draft is going to be sent; None when that was noted before."""
        body = self._body(
            _draft_note(organization, sender, draft),
            {NOTE_LABEL: DRAFT, ORGANIZATION_LABEL: organization},
            {SENDER_ANNOTATION: sender, DRAFT_ANNOTATION: draft},
            new_secret(),
        )
        try:
            return Note.parse(await self._cluster.create(Lease, body))
        except AlreadyExists:
            return None

    async def find(self, organization: str, sender: str, draft: str) -> Note | None:
        """Return the note about a draft, if there is one."""
        try:
            return Note.parse(await self._cluster.get(Lease, _draft_note(organization, sender, draft)))
        except NotFound:
            return None

    async def take_over(self, note: Note) -> Note | None:
        """Begin a new attempt in place of one that was left alone; None when somebody else did so first."""
        changes = {
            "metadata": {"resourceVersion": note.version},
            "spec": {"holderIdentity": new_secret(), "renewTime": micro_time(self._clock.now())},
        }
        try:
            return Note.parse(await self._cluster.patch(Lease, note.name, changes))
        except (Conflict, NotFound):
            return None

    async def settle(self, note: Note, envelope: str) -> None:
        """Note down that the draft was sent and its sender is known."""
        with suppress(NotFound):
            await self._cluster.patch(
                Lease, note.name, {"metadata": {"annotations": {ENVELOPE_ANNOTATION: envelope}}}
            )

    async def let_go(self, note: Note) -> None:
        """
        End an attempt that sent nothing, so that another may begin at once.

        The note stays if there was an attempt before, which may still come true.
        """
        if note.is_first_attempt:
            return await self.drop(note)
        changes = {
            "metadata": {"resourceVersion": note.version},
            "spec": {"renewTime": micro_time(note.begun)},
        }
        with suppress(NotFound, Conflict):
            await self._cluster.patch(Lease, note.name, changes)
        return None

    async def drop(self, note: Note) -> None:
        """Remove a note, if nobody touched it since."""
        with suppress(NotFound, Conflict):
            await self._cluster.delete(Lease, note.name, uid=note.uid, resource_version=note.version)

    async def drafts(self) -> AsyncIterator[Note]:
        """Go through all notes about drafts."""
        async for raw in self._cluster.list(Lease, labels=f"{NOTE_LABEL}={DRAFT}"):
            with suppress(ResourceInvalid):
                yield Note.parse(raw)

    async def forget_states(self, *, older_than: float) -> int:
        """Remove the notes about states that are older than so many seconds; return how many."""
        before = self._clock.now() - timedelta(seconds=older_than)
        count = 0
        async for raw in self._cluster.list(Lease, labels=f"{NOTE_LABEL}={STATE}"):
            lease = Lease.parse(raw)
            if lease.spec.acquire_time is None or lease.spec.acquire_time < before:
                with suppress(NotFound, Conflict):
                    await self._cluster.delete(Lease, lease.name, uid=lease.uid)
                    count += 1
        return count

    def _body(
        self, name: str, labels: dict[str, str], annotations: dict[str, str], holder: str
    ) -> dict[str, Any]:
        now = micro_time(self._clock.now())
        return {
            "apiVersion": Lease.API_VERSION,
            "kind": Lease.KIND,
            "metadata": {"name": name, "labels": labels, "annotations": annotations},
            "spec": {
                "holderIdentity": holder,
                "leaseDurationSeconds": self._attempt_seconds,
                "acquireTime": now,
                "renewTime": now,
            },
        }


def _draft_note(organization: str, sender: str, draft: str) -> str:
    # By organization and sender, so that nobody gets in the way of another one's draft by naming its id.
    return f"counterfoil-draft-{_hash(organization, sender, draft)}"


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]

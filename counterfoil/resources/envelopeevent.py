"""
EnvelopeEvent: one callback of eSAW, noted down, and how far its processing has come.

The receiver (or the sweep, or a person) creates it; its spec never changes but for ``suspend``; the controller
writes its status. The order of the phases and what may follow what is in ``controller.reconcile.state_machine``.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import ClassVar

import msgspec

from counterfoil.resources.base import LocalObjectReference, Resource, ResourcePart
from counterfoil.resources.conditions import Condition

DEADLINE_EXCEEDED = "DeadlineExceeded"
"""The reason of an event that no attempt brought to its end in time; what was wrong stands in ``last_error``."""

MAX_TEXT_LENGTH = 4096
"""Characters of an envelope's or a file's name that a status takes; eSAW's own are far shorter, but nothing says so."""

MAX_LOCATION_LENGTH = 8192
"""Characters of a place in an archive (a URI) that a status takes."""

MAX_DOCUMENTS = 2000
"""Files that one event takes. With common names that is half of what etcd takes as one object."""

MAX_DOCUMENTS_BYTES = 1_310_720
"""Bytes of the list of files in a status. etcd takes 1.5 MiB as one object, so that all else has room in any case."""


_CHECKSUM_BYTES = len(f',"size":{2**63},"sha256":"{"0" * 64}"')


class Phase(StrEnum):
    """Where an event is. Three are final: they leave the controller's watch."""

    PENDING = "Pending"
    VALIDATING = "Validating"
    COLLECTING = "Collecting"
    ARCHIVING = "Archiving"
    CLEANING = "Cleaning"
    AWAITING_CONSENT = "AwaitingConsent"
    SUCCEEDED = "Succeeded"
    SKIPPED = "Skipped"
    FAILED = "Failed"

    @property
    def is_final(self) -> bool:
        """Whether nothing happens to the event any more by itself."""
        return self in FINAL_PHASES


FINAL_PHASES = frozenset({Phase.SUCCEEDED, Phase.SKIPPED, Phase.FAILED})


class Origin(StrEnum):
    """Who noted the event down."""

    CALLBACK = "Callback"
    SWEEP = "Sweep"
    MANUAL = "Manual"


class FileKind(StrEnum):
    """What a file of an envelope is; also a path segment in the archive."""

    DOCUMENT = "Document"
    ATTACHMENT = "Attachment"
    AUDIT_TRAIL = "AuditTrail"
    AUDIT_TRAIL_XML = "AuditTrailXml"
    LEGAL_DOCUMENT = "LegalDocument"


class Workstep(ResourcePart, frozen=True):
    """What a workstep callback told. No e-mail address: personal data stays out."""

    id: str | None = None
    event_type: str | None = None
    source: str | None = None
    time: str | None = None


class EnvelopeEventSpec(ResourcePart, frozen=True):
    """What was called about."""

    organization_ref: LocalObjectReference
    envelope_id: str
    action: str
    workstep: Workstep | None = None
    origin: Origin = Origin.CALLBACK
    suspend: bool = False


class LastError(ResourcePart, frozen=True):
    """The newest attempt that did not succeed."""

    reason: str
    message: str
    time: datetime


class EnvelopeSummary(ResourcePart, frozen=True):
    """The envelope as eSAW described it."""

    name: str = ""
    status: str = ""
    sender_ref: LocalObjectReference | None = None


class FiledDocument(ResourcePart, frozen=True):
    """
    One file of the envelope.

    ``location`` is set when the name in the archive is claimed, before anything is written;
    ``sha256`` and ``size`` (bytes) when the file is there and was read back.
    """

    file_id: str
    kind: FileKind
    file_name: str
    size: int | None = None
    sha256: str | None = None
    location: str | None = None


def stored_size(documents: Sequence[FiledDocument]) -> int:
    """Return how many bytes of an object in etcd a list of files takes, once each has its size and hash."""
    encoded = msgspec.json.encode(documents)
    # Which the API server, as everything that is written in Go, stores as six characters each.
    escaped = sum(encoded.count(each) for each in (b"<", b">", b"&"))
    return len(encoded) + 5 * escaped + _CHECKSUM_BYTES * len(documents)


class ArchiveLocation(ResourcePart, frozen=True):
    """Which Archive has the files, and where in it the manifest lies (a URI)."""

    ref: LocalObjectReference
    manifest: str | None = None


class EnvelopeEventStatus(ResourcePart, frozen=True):
    """How far it has come."""

    phase: Phase = Phase.PENDING
    reason: str | None = None
    message: str | None = None
    observed_generation: int | None = None
    conditions: tuple[Condition, ...] = ()
    deliveries: int | None = None
    first_delivery: datetime | None = None
    last_delivery: datetime | None = None
    attempts: int = 0
    next_attempt_time: datetime | None = None
    phase_started_at: datetime | None = None
    last_error: LastError | None = None
    envelope: EnvelopeSummary | None = None
    documents: tuple[FiledDocument, ...] = ()
    archive: ArchiveLocation | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None

    @property
    def cause(self) -> str:
        """Why it is where it is; of an event that was given up, the reason of its last attempt. Empty for none."""
        if self.reason == DEADLINE_EXCEEDED and self.last_error is not None:
            return self.last_error.reason
        return self.reason or ""


class EnvelopeEvent(Resource, frozen=True):
    """One callback of eSAW as a Kubernetes object (``kubectl get ee``)."""

    KIND: ClassVar[str] = "EnvelopeEvent"
    PLURAL: ClassVar[str] = "envelopeevents"

    spec: EnvelopeEventSpec
    status: EnvelopeEventStatus = EnvelopeEventStatus()

    @property
    def organization(self) -> str:
        """Name of its Organization."""
        return self.spec.organization_ref.name

    @property
    def deliveries(self) -> int:
        """How often eSAW called; the creation of a ``Callback`` event is its first delivery without a write of its own."""
        if self.status.deliveries is not None:
            return self.status.deliveries
        return 1 if self.spec.origin is Origin.CALLBACK else 0

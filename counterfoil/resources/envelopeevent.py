"""
EnvelopeEvent: one callback of eSAW, and the state of its processing.

The receiver, the sweep or a person creates it; of its spec only ``suspend`` changes. The controller writes
its status. ``controller.reconcile.state_machine`` has the phases and their transitions.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import ClassVar

import msgspec

from counterfoil.resources.base import SHARD_LABEL, LocalObjectReference, Resource, ResourcePart
from counterfoil.resources.conditions import Condition
from counterfoil.resources.naming import envelope_id, is_envelope_action, shard
from counterfoil.resources.request import LastRequest

DEADLINE_EXCEEDED = "DeadlineExceeded"
"""Reason of an event whose deadline passed without success; ``last_error`` has the cause."""

MAX_TEXT_LENGTH = 4096
"""Maximum characters of an envelope's or a file's name in a status. eSAW documents no limit; its names are
shorter."""

MAX_LOCATION_LENGTH = 8192
"""Maximum characters of a location in an archive (a URI) in a status."""

MAX_TAG_LENGTH = 256
"""Maximum characters of a tag's value in a status; the manifest has it whole."""

MAX_DOCUMENTS = 2000
"""Maximum number of files of one event. With common names they need half of etcd's maximum object size."""

MAX_DOCUMENTS_BYTES = 1_310_720
"""Maximum bytes of the list of files in a status. etcd's maximum object size is 1.5 MiB; the rest is for
other fields."""


_CHECKSUM_BYTES = len(f',"size":{2**63},"sha256":"{"0" * 64}"')


class Phase(StrEnum):
    """Phase of an event. Events in one of the three final phases leave the controller's watch."""

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
        """Whether the controller does no further work on the event."""
        return self in FINAL_PHASES


FINAL_PHASES = frozenset({Phase.SUCCEEDED, Phase.SKIPPED, Phase.FAILED})


class Origin(StrEnum):
    """Creator of the event."""

    CALLBACK = "Callback"
    SWEEP = "Sweep"
    MANUAL = "Manual"


MAX_PARAMETER_LENGTH = 256
"""Maximum characters of the value of a callback's own parameter."""

PARAMETERS_CONDITION = "ParametersArchived"
"""The condition that is False after parameters came when archiving had begun."""

SIGNATURES_CONDITION = "SignaturesChecked"
"""The condition with the results of the signature check."""

EVIDENCE_CONDITION = "EvidenceComplete"
"""The condition that is False while a document or audit trail that the envelope must have is not listed."""

LATE_FILES_UNKNOWN = "LateFilesUnknown"
"""Reason of the condition while eSAW can't be asked for files that it lists late."""

SHORT_LIST_REASONS = frozenset({"NoFiles", "DocumentsPending", "AuditTrailPending"})
"""Reasons of an event whose list of files was short. Events of earlier versions lack the condition."""


class FileKind(StrEnum):
    """Kind of an envelope's file; also a path segment in the archive."""

    DOCUMENT = "Document"
    ATTACHMENT = "Attachment"
    AUDIT_TRAIL = "AuditTrail"
    AUDIT_TRAIL_XML = "AuditTrailXml"
    LEGAL_DOCUMENT = "LegalDocument"


ESAW_SIGNED_KINDS = frozenset({FileKind.DOCUMENT, FileKind.AUDIT_TRAIL, FileKind.LEGAL_DOCUMENT})
"""Kinds that eSAW creates or seals. Attachments are uploads: checked, but without consequence."""


class Workstep(ResourcePart, frozen=True):
    """Parameters of a workstep callback, without the e-mail address, which is personal data."""

    id: str | None = None
    event_type: str | None = None
    source: str | None = None
    time: str | None = None


class EnvelopeEventSpec(ResourcePart, frozen=True):
    """Subject of the callback."""

    organization_ref: LocalObjectReference
    envelope_id: str
    action: str
    workstep: Workstep | None = None
    parameters: dict[str, str] = {}
    """The organization's own URL parameters of the callback that created the event, by the names in its
    spec."""
    origin: Origin = Origin.CALLBACK
    suspend: bool = False

    @property
    def subject(self) -> tuple[str, str, str, str]:
        """Organization, envelope, action, and the workstep's id unless the action is about the whole
        envelope: two events of one name must agree in it."""
        workstep_id = self.workstep.id if self.workstep is not None else None
        is_of_envelope = is_envelope_action(self.action)
        return (
            self.organization_ref.name,
            self.envelope_id,
            self.action,
            "" if is_of_envelope else workstep_id or "",
        )


class LastError(ResourcePart, frozen=True):
    """Most recent failed attempt."""

    reason: str
    message: str
    time: datetime


MAX_ATTEMPT_HISTORY = 10
"""Number of attempts in a status; older ones are removed."""


class AttemptOutcome(StrEnum):
    """Outcome of an attempt, as in the metric ``counterfoil_attempts_total``."""

    DONE = "Done"
    WAIT = "Wait"
    NEED_CONSENT = "NeedConsent"
    SKIP = "Skip"
    FAIL = "Fail"


class Attempt(ResourcePart, frozen=True):
    """One attempt of one phase; ``seconds`` is its duration."""

    phase: Phase
    start_time: datetime
    seconds: int
    outcome: AttemptOutcome
    reason: str


class EnvelopeSummary(ResourcePart, frozen=True):
    """Summary of eSAW's description of the envelope."""

    name: str = ""
    status: str = ""
    sender_ref: LocalObjectReference | None = None
    finished_time: datetime | None = None


class FiledDocument(ResourcePart, frozen=True):
    """
    One file of the envelope.

    ``location`` is set when the name in the archive is claimed, before the file is written. ``sha256`` and
    ``size`` (bytes) are set after the file was stored and read back. ``outdated`` is set when the expired
    envelope was restarted after eSAW had listed the file: eSAW may have others in its place.
    """

    file_id: str
    kind: FileKind
    file_name: str
    size: int | None = None
    sha256: str | None = None
    location: str | None = None
    outdated: bool = False


def without_checksum(document: FiledDocument) -> FiledDocument:
    """Return the file as it is before it was stored and read back."""
    return msgspec.structs.replace(document, size=None, sha256=None)


def stored_size(documents: Sequence[FiledDocument]) -> int:
    """Return the bytes that a list of files needs in etcd, once each file has its size and hash."""
    encoded = msgspec.json.encode(documents)
    # The API server stores each of these characters as six, as Go's JSON encoder does.
    escaped = sum(encoded.count(each) for each in (b"<", b">", b"&"))
    return len(encoded) + 5 * escaped + _CHECKSUM_BYTES * len(documents)


class ArchiveLocation(ResourcePart, frozen=True):
    """Archive that stores the files, the URI of the manifest in it, and the searchable tags, cut to
    ``MAX_TAG_LENGTH``."""

    ref: LocalObjectReference
    manifest: str | None = None
    tags: Mapping[str, str] = msgspec.field(default_factory=dict)


class NoticeState(StrEnum):
    """State of the notice to the organization's webhook."""

    PENDING = "Pending"
    DELIVERED = "Delivered"
    FAILED = "Failed"


class EventNotice(ResourcePart, frozen=True):
    """
    The notice of a finished event to the organization's webhook.

    ``id`` belongs to this final state of the event, and is the same in each attempt. ``start_time`` is the
    time of the first failed attempt, from which the deadline counts.
    """

    id: str
    state: NoticeState
    attempts: int = 0
    start_time: datetime | None = None
    next_attempt_time: datetime | None = None
    delivered_time: datetime | None = None
    last_error: LastError | None = None


class EnvelopeEventStatus(ResourcePart, frozen=True):
    """State of the processing."""

    phase: Phase = Phase.PENDING
    reason: str | None = None
    message: str | None = None
    observed_generation: int | None = None
    conditions: tuple[Condition, ...] = ()
    deliveries: int | None = None
    first_delivery_time: datetime | None = None
    last_delivery_time: datetime | None = None
    parameters: dict[str, str] = {}
    """Parameters of later callbacks that the spec lacks; the first value of a name counts."""
    attempts: int = 0
    next_attempt_time: datetime | None = None
    phase_start_time: datetime | None = None
    last_error: LastError | None = None
    envelope: EnvelopeSummary | None = None
    documents: tuple[FiledDocument, ...] = ()
    archive: ArchiveLocation | None = None
    mismatches: int = 0
    """Number of times that the archived files were not those of eSAW or of the archive, or were in doubt."""
    start_time: datetime | None = None
    completion_time: datetime | None = None
    attempt_history: tuple[Attempt, ...] = ()
    """The last ``MAX_ATTEMPT_HISTORY`` attempts of all phases, oldest first."""
    last_request: LastRequest | None = None
    notice: EventNotice | None = None

    @property
    def cause(self) -> str:
        """Reason of the current phase; after ``DeadlineExceeded``, the reason of the last attempt. Empty for
        none."""
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
    def shard_number(self) -> int:
        """Its shard, 0..63, by the id of its envelope. The label only selects who watches it; the garbage
        collector corrects a wrong one."""
        return shard(envelope_id(self.spec.envelope_id))

    @property
    def has_shard_label(self) -> bool:
        """Whether its label is that of its shard."""
        return self.metadata.labels.get(SHARD_LABEL) == str(self.shard_number)

    @property
    def parameters(self) -> dict[str, str]:
        """The organization's own URL parameters of all its callbacks."""
        return {**self.status.parameters, **self.spec.parameters}

    @property
    def deliveries(self) -> int:
        """Number of callbacks. The creation of a ``Callback`` event counts as the first, without a separate
        write."""
        if self.status.deliveries is not None:
            return self.status.deliveries
        return 1 if self.spec.origin is Origin.CALLBACK else 0


def state_of(event: EnvelopeEvent) -> str:
    """Return phase and cause of an event, such as ``Failed/ArchiveFull``, as people are shown them."""
    return f"{event.status.phase}/{event.status.cause}"


def digest_of(events: Iterable[EnvelopeEvent]) -> str:
    """
    Return a SHA-256 in hex of the names, uids and states of events in any order.

    A request that changes several events carries it with their number. Console and plugin compare both again,
    also after a conflict, and leave an event alone that no longer matches.
    """
    lines = sorted(f"{each.name} {each.uid} {state_of(each)}" for each in events)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()

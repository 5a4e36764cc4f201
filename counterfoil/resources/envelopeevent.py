"""
EnvelopeEvent: one callback of eSAW, and the state of its processing.

The receiver, the sweep, an Import or a person creates it; of its spec only ``suspend`` changes. The
controller writes its status. ``controller.reconcile.state_machine`` has the phases and their transitions.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final, Self

import msgspec

from counterfoil.resources.base import (
    ARCHIVE_NAME,
    OBSERVED_GENERATION,
    ORGANIZATION_NAME,
    REASON,
    SENDER_NAME,
    SHARD_LABEL,
    FieldSchema,
    LocalObjectReference,
    PrinterColumn,
    Resource,
    ResourceInvalid,
    ResourcePart,
    ValidationRule,
    names_of_map,
    schema,
)
from counterfoil.resources.conditions import (
    MAX_MESSAGE_LENGTH,
    NOT_READY,
    Condition,
    condition_list,
    find_condition,
    is_condition_true,
)
from counterfoil.resources.naming import (
    ACTION_RULE,
    ENVELOPE_ID_RULE,
    PARAMETER_NAME_RULE,
    EnvelopeId,
    envelope_id,
    event_name,
    is_envelope_action,
    shard,
)
from counterfoil.resources.request import LastRequest, RequestOutcome, request_values

DEADLINE_EXCEEDED = "DeadlineExceeded"
"""Reason of an event whose deadline passed without success; ``last_error`` has the cause."""

MAX_TEXT_LENGTH = 4096
"""Maximum characters of an envelope's or a file's name in a status. eSAW documents no limit; its names are
shorter."""


class SentContent(ResourcePart, frozen=True):
    """Content of a file that eSAW sent and that is not archived."""

    size: Annotated[int, schema("Length in bytes.", minimum=0)]
    sha256: Annotated[str, schema("SHA-256 in lower-case hex.", maxLength=64, pattern="^[0-9a-f]{64}$")]
    has_fault: Annotated[bool, schema("Whether the check of its signatures found a fault.", default=None)] = (
        False
    )
    accepted_time: Annotated[
        datetime | None,
        schema(
            "Time at which a person retried the event after a message had named this content (RFC 3339, "
            "UTC). Then it counts in place of a shorter one, and so does a longer one. So does any content "
            "of a file whose hash is `InDoubt`, or that eSAW may render at each download."
        ),
    ] = None


MAX_SENT_CONTENTS = 100
"""Number of files of one event with a content that is not archived, from which on none is kept of an attempt
whose files the archive did not confirm."""

MAX_OTHER_CONTENTS = 2 * MAX_SENT_CONTENTS
"""Maximum number of files of one event with a content that is not archived, 34 KiB: one that contradicts the
archived content has room beside those that were only sent."""

MAX_FILE_ID_LENGTH = 512
"""Maximum characters of a file's id. eSAW's are GUIDs today; they count as opaque here."""

MAX_LOCATION_LENGTH = 8192
"""Maximum characters of a location in an archive (a URI) in a status."""

MAX_TAG_LENGTH = 256
"""Maximum characters of a tag's value in a status; the manifest has it whole."""

MAX_DOCUMENTS = 2000
"""Maximum number of files of one event. With common names they need half of etcd's maximum object size."""

MAX_DOCUMENTS_BYTES = 1_310_720
"""Maximum bytes of the list of files in a status. etcd's maximum object size is 1.5 MiB; the rest is for
other fields."""

MAX_UNARCHIVED_BYTES = 32 * 1024
"""Maximum bytes of the files in a status that are not archived, once the event has failed or was skipped,
without those of which eSAW sent a content: about 80 files with common names."""


_CHECKSUM_BYTES = len(f',"size":{2**63},"sha256":"{"0" * 64}","provisional":"NoManifest"')


class Phase(StrEnum):
    """Phase of an event. Events in one of the three final phases leave the controller's watch."""

    PENDING = "Pending"
    VALIDATING = "Validating"
    COLLECTING = "Collecting"
    ARCHIVING = "Archiving"
    COPYING = "Copying"
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

PHASE_CONDITIONS: Final[Mapping[Phase, str]] = {
    Phase.VALIDATING: "Validated",
    Phase.COLLECTING: "Collected",
    Phase.ARCHIVING: "Archived",
    Phase.COPYING: "Copied",
    Phase.CLEANING: "Cleaned",
}
"""The phases in which the controller works on an event, in their order, and the condition that each makes
True. An event without copies has no condition ``Copied``, and no such phase."""


ARCHIVING_PHASES: Final = frozenset(PHASE_CONDITIONS) - {Phase.VALIDATING}
"""The phases after eSAW showed an envelope that has a status to archive."""


ARCHIVED_PHASES: Final = frozenset({Phase.COPYING, Phase.CLEANING})
"""The phases of an event whose envelope is archived, with a stored proof."""


class Origin(StrEnum):
    """Creator of the event."""

    CALLBACK = "Callback"
    SWEEP = "Sweep"
    IMPORT = "Import"
    MANUAL = "Manual"


MAX_PARAMETER_LENGTH = 256
"""Maximum characters of the value of a callback's own parameter."""

PARAMETERS_CONDITION = "ParametersArchived"
"""The condition that is False after parameters came when archiving had begun."""

SIGNATURES_CONDITION = "SignaturesChecked"
"""The condition with the results of the signature check."""

EVIDENCE_CONDITION = "EvidenceComplete"
"""The condition that is False while a document or audit trail that the envelope must have is not listed."""

RESTART_CONDITION = "RestartChecked"
"""Condition: Unknown while eSAW does not answer whether an Expired envelope that was archived was restarted.
An event that waits for no such answer does not have it."""

KNOWN_FILES_CONDITION = "KnownFilesListed"
"""Condition: False while a list lacks a known file. Its time is that of the first such list."""

ENVELOPE_NOT_FOUND: Final = "EnvelopeNotFound"
"""Reason of an attempt in which eSAW did not show the envelope, and of an event that failed for it."""

SENDER_PENDING: Final = "SenderPending"
"""Reason of an event whose sender a page may still record."""

SENDER_GRACE: Final = timedelta(minutes=5)
"""
Maximum age of an event that waits for its sender, if the Organization uses the before-send page.

An envelope that is signed by machines can be finished before the page has recorded its sender. With a default
Sender the event waits only while a draft of the Organization is open; without one, also longer while a draft
is open.
"""

SUSPENDED: Final = "Suspended"
"""Reason of an unfinished event that a person suspended."""

SUSPENDED_SELECTOR: Final = "spec.suspend=true"
"""Field selector of the events that a person suspended, in any phase."""

NOT_PERMITTED: Final = "NotPermitted"
"""Reason of an event that failed because eSAW permits something to no known key, or not to the one to which
it showed the envelope."""

UNKNOWN_ENVELOPE_ATTEMPTS: Final = 3
"""Number of answers in a row that eSAW does not show an envelope, after which its key counts as tried: a
callback can be faster than eSAW's own index."""

COPIES_PENDING: Final = "CopiesPending"
"""Reason of the condition ``Copied`` while the phase Copying has not ended since the envelope was archived,
or since a person asked for its copies."""

OPTIONAL_COPY_MISSING: Final = "OptionalCopyMissing"
"""Reason of the condition ``Copied`` if a copy is missing for which nothing waits, and nobody asked for it.
It is not required, or the event ended without it."""

COPY_INVALID: Final = "CopyInvalid"
"""Reason of an event whose copy can't be made as its Organization and Archives are written."""

COPY_MISSING: Final = "CopyMissing"
"""Reason of the condition ``Copied`` if a copy is missing that somebody asked for, and nothing waits for it.
A person's skip leaves it, also for a copy that was tried of a failed event."""

COPY_GIVEN_UP: Final = "CopyGivenUp"
"""Reason of the condition ``Copied`` if copies for which nothing waits are missing and not tried any more."""

MISSING_COPY_REASONS: Final = frozenset({OPTIONAL_COPY_MISSING, COPY_MISSING, COPY_GIVEN_UP})
"""Reasons of the condition ``Copied`` if a copy is missing for which nothing waits."""

DELETE_REQUESTED_CONDITION = "DeleteRequested"
"""Condition: True while it is not known whether a request deleted the envelope."""

DELETE_UNANSWERED = "DeleteUnanswered"
"""Reason of an attempt that sent the request to delete, and did not learn whether the envelope is gone."""

DELETE_UNCONFIRMED = "DeleteUnconfirmed"
"""Reason of an attempt in which eSAW still had the envelope after a request to delete it. eSAW may delete it
later."""

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


_AUDIT_TRAILS = frozenset({FileKind.AUDIT_TRAIL, FileKind.AUDIT_TRAIL_XML})

ESAW_SIGNED_KINDS = frozenset({FileKind.DOCUMENT, FileKind.AUDIT_TRAIL, FileKind.LEGAL_DOCUMENT})
"""Kinds that eSAW creates or seals. Attachments are uploads: checked, but without consequence."""


class Workstep(ResourcePart, frozen=True):
    """Data of a workstep callback. Unset for envelope and status callbacks. It contains no e-mail address."""

    RULES: ClassVar[tuple[ValidationRule, ...]] = (
        ValidationRule(
            "!(has(self.id) && self.id.contains('@')) && !(has(self.eventType) && "
            "self.eventType.contains('@')) && !(has(self.source) && self.source.contains('@')) "
            "&& !(has(self.time) && self.time.contains('@'))",
            "personal data stays out, so nothing in workstep may look like an e-mail address (it "
            "contains an @)",
        ),
    )

    id: Annotated[str | None, schema("Id of the workstep in eSAW (`##WorkstepId##`).", maxLength=128)] = None
    event_type: Annotated[
        str | None,
        schema("Type of the workstep event (`##EventType##`). Example: WorkstepFinished.", maxLength=64),
    ] = None
    source: Annotated[
        str | None,
        schema(
            "Source of the workstep event (`##Source##`): `internal` for eSAW itself, `external` "
            "for the viewer.",
            maxLength=64,
        ),
    ] = None
    time: Annotated[
        str | None, schema("Time of the workstep event, in the notation of eSAW (`##Time##`).", maxLength=64)
    ] = None


class EnvelopeEventSpec(ResourcePart, frozen=True):
    """The contents of the callback. Only `suspend` may change."""

    RULES: ClassVar[tuple[ValidationRule, ...]] = (
        ValidationRule(
            "self.organizationRef == oldSelf.organizationRef && self.envelopeID == "
            "oldSelf.envelopeID && self.action == oldSelf.action && self.origin == "
            "oldSelf.origin && has(self.workstep) == has(oldSelf.workstep) && "
            "(!has(self.workstep) || self.workstep == oldSelf.workstep) && has(self.parameters) "
            "== has(oldSelf.parameters) && (!has(self.parameters) || self.parameters == "
            "oldSelf.parameters)",
            "the spec is what eSAW called about and never changes; only suspend may be edited",
        ),
    )

    organization_ref: Annotated[
        LocalObjectReference,
        schema(
            "The Organization (same namespace) whose callback URL received the callback.",
            parts={"name": ORGANIZATION_NAME},
        ),
    ]
    envelope_id: Annotated[
        str,
        schema(
            "Id of the envelope in eSAW: a GUID in lower case. Example: "
            "0f9c1c2e-5d1b-4f6e-9c55-2f1f0a3b7d10.",
            ENVELOPE_ID_RULE,
            maxLength=36,
        ),
    ]
    action: Annotated[
        str,
        schema(
            "The action, as eSAW names it. Example: envelopeFinished. The Organization defines "
            "the handling of each action.",
            ACTION_RULE,
            maxLength=64,
        ),
    ]
    workstep: Workstep | None = None
    parameters: Annotated[
        dict[
            str,
            Annotated[str, schema("Value of one parameter.", minLength=1, maxLength=MAX_PARAMETER_LENGTH)],
        ],
        schema(
            "The organization's own parameters in the URL of the callback that created the "
            "event, by the names in `spec.callback.parameters` of the Organization. They contain "
            "no e-mail address, and are no part of the event's name. An event of the sweep or of "
            "an Import has none; `status.parameters` has those of later callbacks.",
            names_of_map(PARAMETER_NAME_RULE),
            ValidationRule(
                "self.all(name, !self[name].contains('@'))",
                "personal data stays out, so no parameter may look like an e-mail address (it contains an @)",
            ),
            ValidationRule(
                r"self.all(name, !self[name].matches(r'[\x00-\x1f\x7f]'))",
                "a parameter's value has no control characters",
            ),
            maxProperties=16,
        ),
    ] = {}
    origin: Annotated[
        Origin,
        schema(
            "Origin of the event: `Callback`, the receiver; `Sweep`, the search for missed "
            "callbacks; `Import`, an Import of old envelopes; `Manual`, a person. Default Callback."
        ),
    ] = Origin.CALLBACK
    suspend: Annotated[
        bool,
        schema(
            "True suspends the event until the value is false again. Nothing is lost meanwhile. "
            "Default false."
        ),
    ] = False

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


def error_reason(example: str) -> FieldSchema:
    """Declare the reason of a failed attempt."""
    return schema(f"Reason, in one CamelCase word. Example: {example}.", maxLength=1024, pattern=REASON)


def listed_reason(example: str) -> FieldSchema:
    """Declare the reason of an attempt in a list that is replaced as a whole. It has no pattern, since the
    API server checks all entries again when one changes."""
    return schema(f"Reason, in one CamelCase word. Example: {example}.", maxLength=1024)


class LastError(ResourcePart, frozen=True):
    """The newest failed attempt."""

    reason: Annotated[str, error_reason("ArchiveFull")]
    message: Annotated[
        str,
        schema(
            "Description of the error and the person who must act, in a sentence.",
            maxLength=MAX_MESSAGE_LENGTH,
        ),
    ]
    time: Annotated[datetime, schema("Time of the error (RFC 3339, UTC).")]


MAX_ATTEMPT_HISTORY = 10
"""Number of attempts in a status; older ones are removed."""

MAX_NOT_SHOWN_TO = 16
"""Number of Senders in a status whose keys did not show the envelope. With as many, no search tries more."""


class AttemptOutcome(StrEnum):
    """Outcome of an attempt, as in the metric ``counterfoil_attempts_total``."""

    DONE = "Done"
    WAIT = "Wait"
    NEED_CONSENT = "NeedConsent"
    SKIP = "Skip"
    FAIL = "Fail"


class Attempt(ResourcePart, frozen=True):
    """One attempt of one phase."""

    phase: Annotated[Phase, schema("Phase of the attempt.")]
    start_time: Annotated[datetime, schema("Start of the attempt (RFC 3339, UTC).")]
    duration_seconds: Annotated[int, schema("Duration of the attempt in whole seconds.", minimum=0)]
    outcome: Annotated[
        AttemptOutcome,
        schema(
            "`Done`: the phase succeeded. `Wait`: the attempt failed and is repeated. "
            "`NeedConsent`: the sender's key does not work. `Skip`: there is nothing to archive. "
            "`Fail`: only a person can help."
        ),
    ]
    reason: Annotated[str, listed_reason("ArchiveFull")]


class SenderReference(ResourcePart, frozen=True):
    """Reference to a Sender (same namespace), and to its user in eSAW."""

    name: Annotated[str, SENDER_NAME]
    user_id: Annotated[
        str | None,
        schema(
            "Id of the Sender's user in eSAW (`spec.userID`). A Sender of this name with another user "
            "is another Sender. Absent in events of versions that did not store it.",
            maxLength=128,
        ),
    ] = None


class EnvelopeSummary(ResourcePart, frozen=True):
    """The envelope, as eSAW described it at validation."""

    name: Annotated[str, schema("Name of the envelope in eSAW.", maxLength=MAX_TEXT_LENGTH)] = ""
    status: Annotated[str, schema("Status of the envelope in eSAW. Example: Completed.", maxLength=64)] = ""
    finished_time: Annotated[
        datetime | None,
        schema(
            "When the last step of a Completed envelope was finished, RFC 3339. Absent if eSAW does not tell."
        ),
    ] = None
    last_active_time: Annotated[
        datetime | None,
        schema(
            "Newest known time before the end of the envelope: when its last step was finished, else when it "
            "was sent, RFC 3339. Absent if eSAW tells neither."
        ),
    ] = None
    restarted_time: Annotated[
        datetime | None,
        schema(
            "When the controller first saw the envelope Active after it had been Expired, RFC 3339. Absent "
            "if the envelope is not Active, or was not Expired before."
        ),
    ] = None
    sender_ref: Annotated[
        SenderReference | None,
        schema("The Sender (same namespace) to whose key eSAW showed the envelope."),
    ] = None


class TriedKey(ResourcePart, frozen=True):
    """A key of a Sender to which eSAW did not show the envelope, or refused it."""

    name: Annotated[str, SENDER_NAME]
    uid: Annotated[
        str, schema("The uid of the Sender. Another Sender of this name is tried again.", maxLength=64)
    ]
    key: Annotated[
        str | None,
        schema(
            "First 8 hex digits of the SHA-256 of its key. Another key is tried again.",
            maxLength=8,
            pattern="^[0-9a-f]{8}$",
        ),
    ] = None
    answers: Annotated[
        int,
        schema(
            "Number of such answers in a row. With 3 the key counts as tried. Default 3.",
            minimum=1,
            maximum=UNKNOWN_ENVELOPE_ATTEMPTS,
        ),
    ] = UNKNOWN_ENVELOPE_ATTEMPTS
    refused: Annotated[
        bool,
        schema(
            "Whether eSAW refused the envelope to this Sender (403). So the envelope exists. Default false."
        ),
    ] = False


class Provisional(StrEnum):
    """Why the hash of a file is not final, although the file was read back from the archive."""

    NO_MANIFEST = "NoManifest"
    IN_DOUBT = "InDoubt"


class FiledDocument(ResourcePart, frozen=True):
    """One file."""

    file_id: Annotated[str, schema("Id of the file in eSAW.", maxLength=MAX_FILE_ID_LENGTH)]
    kind: Annotated[FileKind, schema("Kind of the file.")]
    file_name: Annotated[str, schema("Name of the file in eSAW.", maxLength=MAX_TEXT_LENGTH)]
    size: Annotated[
        int | None, schema("Length in bytes. Set after the file was read back from the archive.", minimum=0)
    ] = None
    sha256: Annotated[
        str | None,
        schema(
            "SHA-256 of the content in lower-case hex. Set after the file was read back from the archive.",
            maxLength=64,
            pattern="^[0-9a-f]{64}$",
        ),
    ] = None
    location: Annotated[
        str | None,
        schema(
            "Location of the file in the archive (URI). Set before the file is written.",
            maxLength=MAX_LOCATION_LENGTH,
        ),
    ] = None
    provisional: Annotated[
        Provisional | None,
        schema(
            "Why this hash is not final. `NoManifest`: no manifest names it, since the attempt ended early "
            "or the signatures failed. `InDoubt`: the check of its signatures found a fault. An envelope "
            "with such a file is not deleted. Unset: a manifest names this hash, or an earlier version "
            "stored it."
        ),
    ] = None
    other_content: Annotated[
        SentContent | None,
        schema(
            "The longest content that eSAW sent in place of the archived one, and that was not archived. No "
            "shorter one counts before a person's retry. An envelope with such a file is not deleted. Unset "
            f"again once the file is archived. At most {MAX_OTHER_CONTENTS} files have one that "
            "is not archived."
        ),
    ] = None
    outdated: Annotated[
        bool,
        schema(
            "Whether eSAW listed the file before the expired envelope was restarted. Other files "
            "may be in its place since.",
            default=None,
        ),
    ] = False


def without_checksum(document: FiledDocument) -> FiledDocument:
    """Return the file as it is before it was stored and read back."""
    return msgspec.structs.replace(document, size=None, sha256=None, provisional=None, other_content=None)


def stored_size(documents: Sequence[FiledDocument]) -> int:
    """Return the bytes that a list of files needs in etcd, once each file has its size and hash."""
    encoded = msgspec.json.encode([without_checksum(each) for each in documents])
    # The API server stores each of these characters as six, as Go's JSON encoder does.
    escaped = sum(encoded.count(each) for each in (b"<", b">", b"&"))
    return len(encoded) + 5 * escaped + _CHECKSUM_BYTES * len(documents)


def kept_without_success(documents: tuple[FiledDocument, ...]) -> tuple[FiledDocument, ...]:
    """
    Return the files that an event keeps in its status if it ends without success: each archived file, each of
    which eSAW sent a content that was not archived, and as many of the others as ``MAX_UNARCHIVED_BYTES``
    allow, at least one.

    What eSAW lists now comes first, since a list without any such file would look archived. Then come audit
    trails: only by its location is one recognised that was stored before it was read back, since eSAW renders
    it again at each download.
    """
    if stored_size(documents) <= MAX_UNARCHIVED_BYTES:
        return documents
    others = [number for number, each in enumerate(documents) if not _has_content(each)]
    others.sort(key=lambda number: (documents[number].outdated, documents[number].kind not in _AUDIT_TRAILS))
    kept, room = set(others[:1]), MAX_UNARCHIVED_BYTES
    for number in others:
        room -= stored_size(documents[number : number + 1])
        if room < 0:
            break
        kept.add(number)
    return tuple(each for number, each in enumerate(documents) if _has_content(each) or number in kept)


def _has_content(document: FiledDocument) -> bool:
    """Whether the file was archived, or eSAW sent a content of it."""
    return document.sha256 is not None or document.other_content is not None


_ImportName = Annotated[
    str | None,
    schema("Import whose `spec.archiveRef` led there, in place of the Organization's.", maxLength=63),
]


class ArchiveLocation(ResourcePart, frozen=True):
    """The Archive that the event has chosen, and the location of the documents there."""

    ref: Annotated[
        LocalObjectReference, schema("The Archive (same namespace).", parts={"name": ARCHIVE_NAME})
    ]
    manifest: Annotated[
        str | None,
        schema(
            "Location of `counterfoil.json` (URI), which lists each file with its hash.",
            maxLength=MAX_LOCATION_LENGTH,
        ),
    ] = None
    route: Annotated[
        str | None,
        schema(
            "Route of the Organization that led there. Unset: `spec.archiveRef` did. It is chosen once; "
            "later changes of the routes do not count for this event.",
            maxLength=63,
        ),
    ] = None
    import_: _ImportName = None
    tags: Annotated[
        Mapping[
            str,
            Annotated[str, schema("Value of the tag, its first 256 characters.", maxLength=MAX_TAG_LENGTH)],
        ],
        schema(
            "Values of the tags that the Archive calls `searchable`. The manifest has all tags.",
            maxProperties=16,
        ),
    ] = msgspec.field(default_factory=dict)


class AwaitedArchive(ResourcePart, frozen=True):
    """
    The Archive that the event waits for, or failed in, if `archive` does not say it. That has files of an
    earlier start, another event has files of the envelope, or the Archive may have it already. Each attempt
    chooses again.
    """

    ref: Annotated[
        LocalObjectReference, schema("The Archive (same namespace).", parts={"name": ARCHIVE_NAME})
    ]
    route: Annotated[
        str | None,
        schema(
            "Route of the Organization that led there. Unset: `spec.archiveRef` did.",
            maxLength=63,
        ),
    ] = None
    import_: _ImportName = None
    event: Annotated[
        str | None,
        schema("Other EnvelopeEvent of this envelope that has files there.", maxLength=253),
    ] = None


MAX_COPIES = 4
"""Maximum number of copies of an envelope."""

MAX_COPY_MESSAGE = 1024
"""Maximum characters of the message of a copy in a status: there may be several beside 2,000 files."""


class EventCopy(ResourcePart, frozen=True):
    """The copy of the documents in one more Archive."""

    ref: Annotated[
        LocalObjectReference,
        schema("The Archive (same namespace) of the copy.", parts={"name": ARCHIVE_NAME}),
    ]
    manifest: Annotated[
        str | None,
        schema(
            "Location of the copy's own `counterfoil.json` (URI), which names the original.",
            maxLength=MAX_LOCATION_LENGTH,
        ),
    ] = None
    verified_time: Annotated[
        datetime | None,
        schema("Time at which each file was read back there (RFC 3339, UTC). Unset: the copy is not proved."),
    ] = None
    documents: Annotated[
        str | None,
        schema(
            "SHA-256 of the list of the verified files, with their ids, kinds, sizes and hashes. If "
            "`status.documents` has another list, the copy is made again.",
            maxLength=64,
            pattern="^[0-9a-f]{64}$",
        ),
    ] = None
    reason: Annotated[str | None, listed_reason("ArchiveUnreachable")] = None
    message: Annotated[
        str | None,
        schema("Why the copy is missing, and who must act, in a sentence.", maxLength=MAX_COPY_MESSAGE),
    ] = None
    attempts: Annotated[
        int,
        schema("Number of failed attempts since the copy was last proved. Default 0.", default=0, minimum=0),
    ] = 0
    last_attempt_time: Annotated[
        datetime | None, schema("Time of the last of these attempts (RFC 3339, UTC).")
    ] = None
    next_attempt_time: Annotated[
        datetime | None,
        schema("Time of the next attempt (RFC 3339, UTC). Unset: none is planned for this copy."),
    ] = None


class NoticeState(StrEnum):
    """State of the notice to the organization's webhook."""

    PENDING = "Pending"
    DELIVERED = "Delivered"
    FAILED = "Failed"


class EventNotice(ResourcePart, frozen=True):
    """
    The notice of this final state to spec.webhook of the Organization. Unset without a webhook, for an
    unfinished event, and for one that neither archived its envelope nor failed.
    """

    id: Annotated[
        str,
        schema(
            "Id of the notice, the same in each attempt (`webhook-id`, and `id` of the "
            "CloudEvent). A later final state of the event has another id.",
            maxLength=64,
        ),
    ]
    state: Annotated[
        NoticeState,
        schema(
            "`Pending`: to be delivered. `Delivered`: the receiver confirmed it. `Failed`: given "
            "up; the request `retry` sends it again."
        ),
    ]
    attempts: Annotated[int, schema("Number of attempts to deliver the notice.", minimum=0)] = 0
    start_time: Annotated[
        datetime | None,
        schema("Time of the first failed attempt (RFC 3339, UTC). The deadline counts from this time."),
    ] = None
    next_attempt_time: Annotated[datetime | None, schema("Time of the next attempt (RFC 3339, UTC).")] = None
    delivered_time: Annotated[
        datetime | None, schema("Time at which the receiver confirmed the notice (RFC 3339, UTC).")
    ] = None
    last_error: Annotated[LastError | None, schema(parts={"reason": error_reason("WebhookUnreachable")})] = (
        None
    )

    @property
    def given_up_reason(self) -> str | None:
        """The reason for which the notice was given up, or None."""
        is_given_up = self.state is NoticeState.FAILED
        return self.last_error.reason if is_given_up and self.last_error is not None else None


class EnvelopeEventStatus(ResourcePart, frozen=True):
    """
    State of the processing. The controller writes it; the receiver writes `deliveries` and `parameters`.
    """

    phase: Annotated[
        Phase,
        schema(
            f"Phase of the event. `Pending`, {', '.join(f'`{each}`' for each in PHASE_CONDITIONS)} "
            "follow each other. `AwaitingConsent` waits for a new key of the sender. "
            "`Succeeded`, `Skipped` and `Failed` are final. Default Pending."
        ),
    ] = Phase.PENDING
    reason: Annotated[
        str | None,
        schema(
            "Cause of the current state, in one CamelCase word. Example: EsawUnreachable.",
            maxLength=1024,
            pattern=REASON,
        ),
    ] = None
    message: Annotated[
        str | None,
        schema(
            "Cause of the current state and the person who must act, in a sentence. Equal "
            "retries do not change it.",
            maxLength=MAX_MESSAGE_LENGTH,
        ),
    ] = None
    observed_generation: Annotated[int | None, OBSERVED_GENERATION] = None
    conditions: Annotated[
        tuple[Condition, ...],
        condition_list(
            f"{', '.join(f'`{each}`' for each in PHASE_CONDITIONS.values())}, `Authorized`, "
            "`SignaturesChecked`, `FilesLeftBehind` (files at places that spec.path or spec.archiveRef "
            "no longer lead to). `EvidenceComplete`: False while eSAW lists not all documents or required "
            "audit trails. `ParametersArchived`: False if parameters of a callback came when archiving "
            "had begun. `KnownFilesListed`: False while eSAW lists fewer files than before. "
            "`RestartChecked`: Unknown while eSAW does not answer whether an expired envelope was restarted. "
            "`DeleteRequested`: True after a request to delete the envelope that may have had an "
            "effect. `Ready`: the event succeeded or was skipped, as in "
            "`kubectl wait --for=condition=Ready ee/NAME`. `Stalled`: a person has to act.",
            "Archived",
            NOT_READY,
        ),
    ] = ()
    deliveries: Annotated[
        int | None,
        schema(
            "Number of callbacks for this event. Unset for an event with one callback that is "
            "not counted yet.",
            minimum=0,
        ),
    ] = None
    first_delivery_time: Annotated[datetime | None, schema("Time of the first callback (RFC 3339, UTC).")] = (
        None
    )
    last_delivery_time: Annotated[datetime | None, schema("Time of the last callback (RFC 3339, UTC).")] = (
        None
    )
    considered_deliveries: Annotated[
        int | None,
        schema(
            "Number of callbacks that were known when eSAW last showed the envelope Expired, or Active "
            "after that. Of an event that had ended: when its copies were asked for. A later callback may "
            "tell of a restart, or that the envelope exists.",
            minimum=0,
        ),
    ] = None
    parameters: Annotated[
        dict[
            str,
            Annotated[str, schema("Value of one parameter.", minLength=1, maxLength=MAX_PARAMETER_LENGTH)],
        ],
        schema(
            "The organization's own parameters in the URLs of later callbacks, without those "
            "that the spec has. The first value of a name counts.",
            maxProperties=16,
        ),
    ] = {}
    attempts: Annotated[
        int,
        schema(
            "Number of attempts of the current phase. Each phase starts at 0. Default 0.",
            default=0,
            minimum=0,
        ),
    ] = 0
    next_attempt_time: Annotated[
        datetime | None,
        schema(
            "Time of the next attempt (RFC 3339, UTC). Unset if no attempt is planned. Of a "
            "finished event: when Counterfoil lists the files of the kept envelope again."
        ),
    ] = None
    phase_start_time: Annotated[
        datetime | None,
        schema("Start of the current phase (RFC 3339, UTC). The deadline counts from this time."),
    ] = None
    last_error: LastError | None = None
    envelope: EnvelopeSummary | None = None
    not_shown_to: Annotated[
        tuple[TriedKey, ...],
        schema(
            "Keys of Senders to which eSAW did not show the envelope, or refused it. If a search lists it "
            "with another key, the failed event starts again.",
            maxItems=MAX_NOT_SHOWN_TO,
        ),
    ] = ()
    documents: Annotated[
        tuple[FiledDocument, ...],
        schema("All files of the envelope, and their locations in the archive.", maxItems=MAX_DOCUMENTS),
    ] = ()
    archive: ArchiveLocation | None = None
    awaited_archive: AwaitedArchive | None = None
    copies: Annotated[
        tuple[EventCopy, ...],
        schema(
            "The copies that `spec.copies` of the Organization asked for, one entry per Archive.",
            maxItems=MAX_COPIES,
        ),
    ] = ()
    mismatches: Annotated[
        int,
        schema(
            "Number of times that eSAW or the archive did not have the archived files right "
            "before the delete, or a file was in doubt. Up to five times the envelope is archived or "
            "copied again; at the sixth it is kept and the event fails. In the first archive, a manifest "
            "without a seal of the present key does not count beyond 1. A copy without one is made again up "
            "to ten times.",
            minimum=0,
        ),
    ] = 0
    start_time: Annotated[
        datetime | None, schema("Time at which the controller first processed the event (RFC 3339, UTC).")
    ] = None
    completion_time: Annotated[
        datetime | None,
        schema(
            "Time at which the event became final (RFC 3339, UTC). The time to live counts from this time."
        ),
    ] = None
    attempt_history: Annotated[
        tuple[Attempt, ...],
        schema("The last 10 attempts of all phases, oldest first.", maxItems=MAX_ATTEMPT_HISTORY),
    ] = ()
    last_request: Annotated[
        LastRequest | None,
        schema(parts={"request": request_values("On an EnvelopeEvent: retry, skip, copy")}),
    ] = None
    skipped_time: Annotated[
        datetime | None,
        schema(
            "Time at which a person skipped the event (RFC 3339, UTC). While it is set, no event of the "
            "envelope deletes it. A person's retry of an event that shows the skip removes it; no callback "
            "and no other request does."
        ),
    ] = None
    notice: EventNotice | None = None

    @property
    def cause(self) -> str:
        """Reason of the current phase; after ``DeadlineExceeded``, the reason of the last attempt. Empty for
        none."""
        if self.reason == DEADLINE_EXCEEDED and self.last_error is not None:
            return self.last_error.reason
        return self.reason or ""

    @property
    def cause_message(self) -> str:
        """Message of the current phase; after ``DeadlineExceeded``, that of the last attempt. Empty for
        none."""
        if self.reason == DEADLINE_EXCEEDED and self.last_error is not None:
            return self.last_error.message
        return self.message or ""

    @property
    def is_skipped_by_person(self) -> bool:
        """Whether a person skipped the event, and no person's retry started it again since. A callback may
        have."""
        last = self.last_request
        # Earlier versions stored it only here, where each later request replaces it.
        is_last = last is not None and (last.request, last.outcome) == ("skip", RequestOutcome.DONE)
        return self.skipped_time is not None or is_last

    @property
    def is_archiving_begun(self) -> bool:
        """Whether eSAW showed an envelope with a status to archive. Such an event must not end as if nothing
        else were needed. One that only waits until its archiving may begin may."""
        if self.documents or self.phase in ARCHIVING_PHASES:
            return True
        if is_condition_true(self.conditions, PHASE_CONDITIONS[Phase.VALIDATING]):
            return True
        return any(
            each.phase in ARCHIVING_PHASES or each.outcome is AttemptOutcome.DONE
            for each in self.attempt_history
        )

    @property
    def may_have_deleted(self) -> bool:
        """Whether this event sent a request to delete the envelope, and eSAW did not show it after that."""
        requested = find_condition(self.conditions, DELETE_REQUESTED_CONDITION)
        if requested is not None:
            return requested.status == "True"
        # Earlier versions stored it here.
        cleaned = find_condition(self.conditions, "Cleaned")
        return cleaned is not None and (cleaned.status, cleaned.reason) == ("Unknown", DELETE_UNANSWERED)


class EnvelopeEvent(Resource, frozen=True):
    """
    The record of one callback of eSignAnyWhere (eSAW), and the state of its processing. The receiver creates
    the event before it answers 200. The controller validates, collects, archives and cleans up. The name is
    `<envelopeID>-<16 hex>`. The same callback always has the same name, so repeated callbacks create one
    object. To request an action, set a label: `kubectl label ee NAME counterfoil.dev/request=retry` (or
    `=skip`).
    """

    KIND: ClassVar[str] = "EnvelopeEvent"
    PLURAL: ClassVar[str] = "envelopeevents"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ("ee",)
    CATEGORIES: ClassVar[tuple[str, ...]] = ()
    SELECTABLE_FIELDS: ClassVar[tuple[str, ...]] = (
        ".status.phase",
        ".status.reason",
        ".spec.envelopeID",
        ".spec.organizationRef.name",
        ".status.notice.state",
        ".spec.origin",
        ".status.envelope.status",
        ".spec.suspend",
    )
    COLUMNS: ClassVar[tuple[PrinterColumn, ...]] = (
        PrinterColumn("Organization", ".spec.organizationRef.name", "Organization of the envelope."),
        # The name of the event takes 53 of 120 columns, so what may be long is for `-o wide`.
        PrinterColumn(
            "Title", ".status.envelope.name", "Name of the envelope in eSignAnyWhere.", is_wide=True
        ),
        PrinterColumn("Phase", ".status.phase", "Current phase of the processing."),
        PrinterColumn("Reason", ".status.reason", "Cause of the current state."),
        PrinterColumn(
            "Attempts", ".status.attempts", "Attempts of the current phase.", type="integer", is_wide=True
        ),
        # No date: such a column shows an age, and "<invalid>" for every time in the future.
        PrinterColumn("Next", ".status.nextAttemptTime", "Time of the next attempt (UTC).", is_wide=True),
        PrinterColumn(
            "Age", ".metadata.creationTimestamp", "Time since the event was recorded.", type="date"
        ),
        PrinterColumn("Envelope", ".spec.envelopeID", "Id of the envelope in eSignAnyWhere.", is_wide=True),
        PrinterColumn("Action", ".spec.action", "Action that eSignAnyWhere reported.", is_wide=True),
        PrinterColumn(
            "Deliveries",
            ".status.deliveries",
            "Number of callbacks for this event.",
            type="integer",
            is_wide=True,
        ),
        PrinterColumn("Sender", ".status.envelope.senderRef.name", "Sender whose key is used.", is_wide=True),
        PrinterColumn("Origin", ".spec.origin", "Component or person that created the event.", is_wide=True),
        PrinterColumn(
            "Archive", ".status.archive.ref.name", "Archive that the event has chosen.", is_wide=True
        ),
        PrinterColumn(
            "Message", ".status.message", "Cause of the current state, in a sentence.", is_wide=True
        ),
    )

    RULES: ClassVar[tuple[ValidationRule, ...]] = (
        ValidationRule(
            "self.metadata.name.startsWith(self.spec.envelopeID + '-') && "
            "self.metadata.name.matches(r'^.{36}-[0-9a-f]{16}$')",
            "the name of an EnvelopeEvent is <spec.envelopeID>-<16 hex digits>, so that one "
            "callback is one object",
        ),
    )

    spec: EnvelopeEventSpec
    # A new object reads Pending immediately, and field selectors find it, without an extra write.
    status: Annotated[EnvelopeEventStatus, schema(default={"phase": "Pending"})] = EnvelopeEventStatus()

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Self:
        """Read an event of the API server. Raises ``ResourceInvalid`` when it does not match the kind."""
        status = raw.get("status")
        tried = status.get("notShownTo") if isinstance(status, Mapping) else None
        if isinstance(status, Mapping) and isinstance(tried, list):
            # Earlier versions stored names only, which do not tell the key. So each key is tried again.
            keys = [each for each in tried if not isinstance(each, str)]
            raw = {**raw, "status": {**status, "notShownTo": keys}}
        return super().parse(raw)

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
    def is_of_a_person(self) -> bool:
        """Whether a person created the event. It may have any name, so its action can make several events of
        the envelope."""
        organization, envelope, action, workstep = self.spec.subject
        usual = event_name(organization, EnvelopeId(envelope), action, workstep)
        return self.spec.origin is Origin.MANUAL or self.name != usual

    @property
    def is_kept_by_person(self) -> bool:
        """Whether a person skipped or suspended the event, so that no event of its envelope deletes it."""
        return self.status.is_skipped_by_person or self.spec.suspend

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


def has_state(raw: Mapping[str, Any], state: str | None) -> bool:
    """Whether an event is in the state that a person was shown; one that can't be read is not."""
    try:
        return state_of(EnvelopeEvent.parse(raw)) == state
    except ResourceInvalid:
        return False


def digest_of(events: Iterable[EnvelopeEvent]) -> str:
    """
    Return a SHA-256 in hex of the names, uids and states of events in any order.

    A request that changes several events carries it with their number. Console and plugin compare both again,
    also after a conflict, and leave an event alone that no longer matches.
    """
    lines = sorted(f"{each.name} {each.uid} {state_of(each)}" for each in events)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()

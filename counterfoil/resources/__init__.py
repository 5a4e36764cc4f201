"""
The six resources of ``counterfoil.dev/v1beta1`` as immutable, typed values, and the functions for their
names.

``docs/tools/generate_crds.py`` writes ``crds/`` from them. Import from this package.
"""

from counterfoil.resources.archive import Archive, ArchiveRoot, ArchiveSpec, ArchiveStatus, TagRule
from counterfoil.resources.base import (
    ACTION_LABEL,
    API_VERSION,
    ARCHIVED_LABEL,
    CLAIM_ANNOTATION,
    CONTROLLER_REPORTER,
    ENVELOPE_LABEL,
    GROUP,
    IMPORT_ARCHIVE_LABEL,
    IMPORT_ENDED_LABEL,
    IMPORT_LABEL,
    IMPORT_WINDOW_LABEL,
    LISTED_BY_LABEL,
    ORGANIZATION_LABEL,
    REQUEST_BY_ANNOTATION,
    REQUEST_LABEL,
    REQUEST_REASON_ANNOTATION,
    SENDER_LABEL,
    SHARD_LABEL,
    TRACEPARENT_ANNOTATION,
    VERSION,
    LocalObjectReference,
    Resource,
    ResourceInvalid,
    ResourcePart,
    SecretKeyRef,
    merge_patch,
    to_json_dict,
)
from counterfoil.resources.conditions import (
    MAX_MESSAGE_LENGTH,
    Condition,
    find_condition,
    is_condition_true,
    with_condition,
)
from counterfoil.resources.envelopeevent import (
    FINAL_PHASES,
    MAX_ATTEMPT_HISTORY,
    MAX_DOCUMENTS,
    MAX_DOCUMENTS_BYTES,
    MAX_LOCATION_LENGTH,
    MAX_TEXT_LENGTH,
    PHASE_CONDITIONS,
    ArchiveLocation,
    Attempt,
    AttemptOutcome,
    EnvelopeEvent,
    EnvelopeEventSpec,
    EnvelopeEventStatus,
    EnvelopeSummary,
    EventCopy,
    EventNotice,
    FiledDocument,
    FileKind,
    LastError,
    NoticeState,
    Origin,
    Phase,
    SenderReference,
    Workstep,
    kept_without_success,
    stored_size,
    without_checksum,
)
from counterfoil.resources.imports import Import, ImportStatus
from counterfoil.resources.naming import (
    SHARD_COUNT,
    EnvelopeId,
    consented_sender_name,
    envelope_id,
    envelope_of,
    event_name,
    is_action,
    is_same_user,
    shard,
)
from counterfoil.resources.organization import (
    ActionHandling,
    ActionRule,
    Activity,
    CallbackURLs,
    CleanupPolicy,
    EnvelopeAccess,
    EnvelopeStatus,
    EventLoad,
    EvidenceSpec,
    HourlyActivity,
    Language,
    Notifications,
    Organization,
    OrganizationSpec,
    OrganizationStatus,
    ReportedProblem,
    RetrySpec,
    SealingKeyStatus,
    SweepResult,
    WebhookSpec,
)
from counterfoil.resources.request import LastRequest, Request, RequestOutcome
from counterfoil.resources.sender import Envelope, EnvelopeSpec, Sender, SenderKey, SenderSpec, SenderStatus

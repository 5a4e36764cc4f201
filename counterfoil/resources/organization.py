"""
Organization: one eSAW organization, and the rules for its envelopes.

A person writes the spec; the controller writes the status, in particular the hashes of the callback tokens,
from which the receiver knows a valid callback without reading a single Secret.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import ClassVar, Final

from msgspec.structs import replace

from counterfoil.durations import Duration
from counterfoil.origin import origin_of
from counterfoil.resources.archive import Archive
from counterfoil.resources.base import (
    LocalObjectReference,
    Resource,
    ResourcePart,
    SecretKeyRef,
)
from counterfoil.resources.conditions import Condition
from counterfoil.resources.envelopeevent import FileKind
from counterfoil.resources.naming import is_envelope_action
from counterfoil.resources.request import LastRequest


class ActionHandling(StrEnum):
    """Handling of an action: archive the envelope, or record the event only."""

    ARCHIVE = "Archive"
    RECORD = "Record"


class UnlistedActions(StrEnum):
    """Handling of callbacks whose action is not listed: ignore and count them, or archive the envelope."""

    IGNORE = "Ignore"
    ARCHIVE = "Archive"


class EnvelopeStatus(StrEnum):
    """``EnvelopeStatus`` of the v6 API."""

    ACTIVE = "Active"
    COMPLETED = "Completed"
    CANCELED = "Canceled"
    EXPIRED = "Expired"
    REJECTED = "Rejected"


STATUSES_WITHOUT_EVIDENCE = frozenset(
    {EnvelopeStatus.CANCELED, EnvelopeStatus.EXPIRED, EnvelopeStatus.REJECTED}
)
"""Final statuses for which eSAW may have no finished document and no audit trail."""


CHANGEABLE_STATUSES = frozenset({EnvelopeStatus.ACTIVE, EnvelopeStatus.EXPIRED})
"""Statuses of an envelope that is not at its end: an expired one can be restarted and signed."""


class CleanupPolicy(StrEnum):
    """Whether an archived envelope is deleted in eSAW."""

    DELETE = "Delete"
    KEEP = "Keep"


class AuditTrailPolicy(StrEnum):
    """Whether a Completed envelope must have an audit trail before it may be deleted in eSAW."""

    REQUIRED = "Required"
    OPTIONAL = "Optional"


class Language(StrEnum):
    """Language of mails and pages."""

    ENGLISH = "en"
    GERMAN = "de"
    ITALIAN = "it"


class CallbackSpec(ResourcePart, frozen=True):
    """Credentials that authenticate callbacks of this organization, and the parameters that it adds."""

    token_secret_refs: tuple[SecretKeyRef, ...] = ()
    basic_auth_secret_ref: LocalObjectReference | None = None
    parameters: tuple[str, ...] = ()
    """Names of the organization's own URL parameters, whose values go into the event."""


class ActionRule(ResourcePart, frozen=True, omit_defaults=False):
    """One action and its handling."""

    action: str
    handling: ActionHandling = ActionHandling.ARCHIVE


class EvidenceSpec(ResourcePart, frozen=True):
    """Whether an envelope needs its audit trail, and the time for which eSAW's list may lack files."""

    audit_trail: AuditTrailPolicy = AuditTrailPolicy.REQUIRED
    wait: Duration = Duration(minutes=10)

    def lacks_audit_trail(self, status: str, kinds: Iterable[FileKind]) -> bool:
        """
        Whether an envelope of this status, with files of these kinds, lacks a required audit trail.

        eSAW makes audit trails for Completed envelopes only. An unknown status counts as Completed.
        """
        is_required = (
            self.audit_trail is AuditTrailPolicy.REQUIRED and status not in STATUSES_WITHOUT_EVIDENCE
        )
        return is_required and FileKind.AUDIT_TRAIL not in kinds


class CleanupSpec(ResourcePart, frozen=True):
    """When an archived envelope is deleted in eSAW."""

    policy: CleanupPolicy = CleanupPolicy.KEEP
    after: Duration = Duration(0)


class ClientAuthentication(StrEnum):
    """Place of client id and secret in a token request. (RFC 6749, section 2.3.1)"""

    BODY = "Body"
    BASIC = "Basic"


class Pkce(StrEnum):
    """Binding of a code to its request. (RFC 7636)"""

    S256 = "S256"
    OFF = "Off"


class OAuth(ResourcePart, frozen=True):
    """The OAuth application registered with eSAW. (RFC 6749, section 4.1)"""

    client_id: str
    client_secret_ref: SecretKeyRef
    authorize_path: str = "/Auth/Authorize"
    token_path: str = "/ApiToken/Retrieve"  # noqa: S105 - the path of an endpoint
    client_authentication: ClientAuthentication = ClientAuthentication.BODY
    pkce: Pkce = Pkce.S256
    public_url: str | None = None


class BeforeSendField(ResourcePart, frozen=True):
    """One field of the tagging form."""

    name: str
    label: str | None = None
    required: bool = False
    pattern: str | None = None
    options: tuple[str, ...] = ()


class BeforeSend(ResourcePart, frozen=True):
    """The before-send page: the fields of its form, and the page that follows it."""

    fields: tuple[BeforeSendField, ...] = ()
    inbox_url: str | None = None


class OrganizationLimits(ResourcePart, frozen=True):
    """Limits of concurrent work and requests, so that eSAW stays fast for its users, and ceilings of events,
    so that the callbacks of one organization do not fill etcd."""

    concurrency: int = 16
    per_sender_concurrency: int = 4
    requests_per_minute: int | None = None
    unfinished_events: int = 10_000
    unknown_envelopes: int = 5_000


class RetrySpec(ResourcePart, frozen=True):
    """Backoff: first pause, maximum pause, and deadline of each phase."""

    initial: Duration = Duration(seconds=10)
    max: Duration = Duration(hours=1)
    deadline: Duration = Duration(hours=24)


class SweepSpec(ResourcePart, frozen=True):
    """Search for finished envelopes whose callback did not arrive; ``lookback`` begins at the sending."""

    interval: Duration = Duration(hours=6)
    lookback: Duration = Duration(hours=768)


class Ttl(ResourcePart, frozen=True):
    """Time until finished events are deleted; ``failed`` unset: a person deletes failed events."""

    succeeded: Duration = Duration(hours=792)
    failed: Duration | None = None
    unknown: Duration = Duration(hours=72)


class Notifications(ResourcePart, frozen=True):
    """Recipients of mails, and the mail server."""

    smtp_secret_ref: LocalObjectReference | None = None
    from_: str | None = None
    administrators: tuple[str, ...] = ()
    console_url: str | None = None
    language: Language = Language.ENGLISH
    escalate_after: Duration = Duration(hours=24)


class WebhookSpec(ResourcePart, frozen=True):
    """Receiver of one notice per finished event, and the secret that signs the notices."""

    url: str
    signing_secret_ref: SecretKeyRef


class OrganizationSpec(ResourcePart, frozen=True):
    """Configuration of the organization."""

    base_url: str
    callback: CallbackSpec = CallbackSpec()
    actions: tuple[ActionRule, ...] = (ActionRule(action="envelopeFinished"),)
    unlisted_actions: UnlistedActions = UnlistedActions.IGNORE
    evidence: EvidenceSpec = EvidenceSpec()
    retention: Duration | None = None
    statuses: tuple[EnvelopeStatus, ...] = (EnvelopeStatus.COMPLETED,)
    archive_ref: LocalObjectReference | None = None
    cleanup: CleanupSpec = CleanupSpec()
    default_sender_ref: LocalObjectReference | None = None
    oauth: OAuth | None = None
    before_send: BeforeSend | None = None
    limits: OrganizationLimits = OrganizationLimits()
    retry: RetrySpec = RetrySpec()
    sweep: SweepSpec = SweepSpec()
    ttl: Ttl = Ttl()
    webhook: WebhookSpec | None = None
    notifications: Notifications | None = None
    suspend: bool = False

    def rule(self, action: str) -> ActionRule | None:
        """Return the rule for an action in any letter case, or None when the organization has no rule for
        it."""
        wanted = action.lower()
        return next((each for each in self.actions if each.action.lower() == wanted), None)

    @property
    def succeeded_ttl(self) -> timedelta:
        """Retention of Succeeded and Skipped events: never below the look-back of the sweep, which recognises
        an archived envelope by its event. The CRD refuses less; an older one did not."""
        return max(self.ttl.succeeded, self.sweep.lookback)

    @property
    def archive_action(self) -> str | None:
        """The action of an event whose callback names none or never came: envelopeFinished if that has
        handling Archive, else the first that has it, or None."""
        archived = [each.action for each in self.actions if each.handling is ActionHandling.ARCHIVE]
        usual = [action for action in archived if action.lower() == "envelopefinished"]
        return next(iter(usual + archived), None)

    @property
    def has_several_events(self) -> bool:
        """Whether several events may archive one envelope: by several actions, or by one about a workstep."""
        archived = [each.action for each in self.actions if each.handling is ActionHandling.ARCHIVE]
        is_listed = self.unlisted_actions is UnlistedActions.IGNORE
        return not is_listed or len(archived) > 1 or not all(map(is_envelope_action, archived))


class CallbackURLs(ResourcePart, frozen=True):
    """URLs for eSAW's organization settings; ``<token>`` is the placeholder of the token."""

    envelope: str
    status: str
    workstep: str


class ReportedProblem(ResourcePart, frozen=True):
    """
    A problem that the administrators receive one mail about. ``cause`` identifies the problem and does not
    change.

    ``mail_attempt_time`` is written before a mail is sent, ``notified_time`` after it; see
    docs/decisions/0007.
    """

    cause: str
    reason: str
    since: datetime
    message: str | None = None
    count: int = 0
    examples: tuple[str, ...] = ()
    last_seen_time: datetime | None = None
    mail_attempt_time: datetime | None = None
    notified_time: datetime | None = None
    solved_time: datetime | None = None
    ending: str | None = None


class SweepResult(ResourcePart, frozen=True):
    """
    The last sweep.

    ``complete`` is False if it was cut or skipped a Sender, and is repeated soon. ``message`` says what was
    not searched.
    """

    time: datetime
    found: int
    complete: bool = True
    message: str | None = None


class CheckOutcome(StrEnum):
    """Outcome of one line of a check of eSAW."""

    AS_EXPECTED = "AsExpected"
    DEVIATES = "Deviates"
    NOT_TESTABLE = "NotTestable"


class OrganizationCheckResult(ResourcePart, frozen=True):
    """
    One line of a check: a fact of ``counterfoil.esaw_check.facts``.

    ``found`` is what eSAW did; ``message`` is what it means; ``setting`` is what to change.
    """

    id: str
    outcome: CheckOutcome
    message: str
    found: str | None = None
    setting: str | None = None


class OrganizationCheck(ResourcePart, frozen=True):
    """The last check of what Counterfoil assumes about eSAW. ``version`` is eSAW's, ``by`` who asked for
    it."""

    start_time: datetime
    time: datetime
    version: str | None = None
    by: str | None = None
    results: tuple[OrganizationCheckResult, ...] = ()


MAX_UNLISTED_ACTIONS = 32
"""Maximum number of unlisted actions that are counted by name; all others count as ``other``."""

OTHER_ACTIONS = "other"


class UnlistedAction(ResourcePart, frozen=True):
    """Callbacks with one action that the organization does not list."""

    action: str
    count: int
    last_time: datetime


def add_unlisted_action(
    known: tuple[UnlistedAction, ...], counted: UnlistedAction
) -> tuple[tuple[UnlistedAction, ...], str]:
    """Add a count to the known ones; return all, and the name under which it was added."""
    names = {each.action.lower(): each for each in known}
    name = counted.action
    if name.lower() not in names and len(names.keys() - {OTHER_ACTIONS}) >= MAX_UNLISTED_ACTIONS:
        name = OTHER_ACTIONS
    before = names.get(name.lower())
    if before is None:
        return (*known, replace(counted, action=name)), name
    last = max(before.last_time, counted.last_time)
    after = replace(before, count=before.count + counted.count, last_time=last)
    return tuple(after if each is before else each for each in known), before.action


# -- Activity: counts of events, from the pass over all of them ----------------------------------------------

ACTIVITY_HOURS: Final = 24
"""Number of hours in the status, including the current hour."""

DURATION_BUCKETS: Final[Mapping[str, timedelta]] = {
    "1s": timedelta(seconds=1),
    "10s": timedelta(seconds=10),
    "1m": timedelta(minutes=1),
    "10m": timedelta(minutes=10),
    "1h": timedelta(hours=1),
    "24h": timedelta(hours=24),
}
"""Upper limits of the buckets; each bucket begins at the limit of the one before."""

OVERFLOW_BUCKET: Final = "longer"
"""The bucket above all limits."""


class HourlyActivity(ResourcePart, frozen=True):
    """One hour: its beginning, the number of events created, and the number of events archived."""

    time: datetime
    noted: int = 0
    archived: int = 0


class Activity(ResourcePart, frozen=True):
    """Counts of one pass over all events."""

    count_time: datetime
    hours: tuple[HourlyActivity, ...] = ()
    """The last ``ACTIVITY_HOURS`` hours, oldest first, without hours that have no events."""
    archived_within: dict[str, int] = {}
    """By bucket: time from creation to the archive, of events archived in the last seven days."""
    unfinished_for: dict[str, int] = {}
    """By bucket: age of the unfinished events."""


class EventLoad(ResourcePart, frozen=True):
    """Counts of the events that the ceilings in ``OrganizationLimits`` are about."""

    count_time: datetime
    unfinished_events: int = 0
    unknown_envelopes: int = 0

    @property
    def numbers(self) -> tuple[int, int]:
        """The counts without their time."""
        return self.unfinished_events, self.unknown_envelopes


def duration_bucket(span: timedelta) -> str:
    """Return the bucket of a duration."""
    return next((name for name, limit in DURATION_BUCKETS.items() if span < limit), OVERFLOW_BUCKET)


class SealingKeyStatus(ResourcePart, frozen=True):
    """The newest sealing key that a controller has."""

    id: str
    hash: str
    """In hex; equal for equal keys."""
    observed_time: datetime
    """Time at which a controller first had it."""


class OrganizationStatus(ResourcePart, frozen=True):
    """
    State of the organization.

    ``settled_time`` is the time since which everything works with the current spec; ``spec_observed_time`` is
    the time at which a controller first observed that spec.
    """

    observed_generation: int | None = None
    conditions: tuple[Condition, ...] = ()
    callback_token_hashes: tuple[str, ...] = ()
    basic_auth_hash: str | None = None
    sealing_key: SealingKeyStatus | None = None
    callback_urls: CallbackURLs | None = None
    version: str | None = None
    origin: str | None = None
    """The first origin that answered as eSAW; Secrets that name no origin belong to it."""
    events: dict[str, int] = {}
    activity: Activity | None = None
    load: EventLoad | None = None
    sweep: SweepResult | None = None
    check: OrganizationCheck | None = None
    unlisted_actions: tuple[UnlistedAction, ...] = ()
    problems: tuple[ReportedProblem, ...] = ()
    settled_time: datetime | None = None
    spec_observed_time: datetime | None = None
    last_request: LastRequest | None = None


class Organization(Resource, frozen=True):
    """One eSAW organization as a Kubernetes object (``kubectl get org``)."""

    KIND: ClassVar[str] = "Organization"
    PLURAL: ClassVar[str] = "organizations"

    spec: OrganizationSpec
    status: OrganizationStatus = OrganizationStatus()

    def page_url(self, path: str) -> str | None:
        """Return the public URL of one of its pages, or None when ``spec.oauth.publicURL`` is not set."""
        oauth = self.spec.oauth
        if oauth is None or oauth.public_url is None:
            return None
        return f"{oauth.public_url.rstrip('/')}{path}"

    def consent_url(self, sender: str) -> str | None:
        """Return the URL of a sender's consent page, or None when ``spec.oauth.publicURL`` is not set."""
        return self.page_url(f"/consent/{self.name}/{sender}")


def cleanup_conflict(organization: Organization, archive: Archive) -> str | None:
    """Return why this Organization can't use the Archive: it would delete envelopes that no archive keeps."""
    if organization.spec.cleanup.policy is CleanupPolicy.KEEP or archive.spec.keeps_files:
        return None
    return (
        f"Archive/{archive.name} keeps no files, and Organization/{organization.name} deletes envelopes "
        "after archiving. Set spec.cleanup.policy of the Organization to Keep, or let spec.archiveRef name "
        "another Archive."
    )


def shared_folders(
    archive: Archive, organizations: Iterable[Organization], archive_of: Callable[[str], Archive | None]
) -> tuple[Organization, ...]:
    """
    Return the Organizations of different eSAWs that have the same envelope folders in the Archive, or in
    another Archive of the same place; oldest first. Empty: no folder is shared.

    The ids of envelopes are unique in one eSAW only. Another one, by chance or by intent, lists the same id.
    """
    users = _users(archive, organizations, archive_of)
    return users if len({_esaw(each) for each in users}) > 1 else ()


def shared_archive_conflict(
    organization: Organization,
    archive: Archive,
    organizations: Iterable[Organization],
    archive_of: Callable[[str], Archive | None],
) -> str | None:
    """Return why this Organization can't use the Archive: an older one of another eSAW has the same
    folders."""
    for each in _users(archive, organizations, archive_of):
        if _age(each) < _age(organization) and _esaw(each) != _esaw(organization):
            return (
                f"Archive/{archive.name} has the same folders for Organization/{each.name}, which is of "
                f"another eSignAnyWhere. Organization/{organization.name} waits, so that neither replaces "
                "files of the other. Put {{organization}} before the file's part of spec.path, or let "
                "spec.archiveRef name another Archive."
            )
    return None


def _users(
    archive: Archive, organizations: Iterable[Organization], archive_of: Callable[[str], Archive | None]
) -> tuple[Organization, ...]:
    """Return the Organizations whose envelopes have their folders here, oldest first; none if the path keeps
    them apart."""
    if archive.spec.separates_organizations:
        return ()
    users = []
    for each in organizations:
        used = archive_of(each.spec.archive_ref.name) if each.spec.archive_ref is not None else None
        if used is not None and _has_same_folders(used, archive):
            users.append(each)
    return tuple(sorted(users, key=_age))


def _has_same_folders(one: Archive, other: Archive) -> bool:
    if one.name == other.name:
        return True
    if one.spec.path != other.spec.path:
        return False
    markers = (_marker(one), _marker(other))
    if None not in markers:
        return markers[0] == markers[1]
    try:
        places = (one.spec.settings.place, other.spec.settings.place)
    except ValueError:
        # Not exactly one kind is set; such an Archive is not used.
        return False
    # What is not known is not shared: a manifest of another eSAW is never replaced.
    return places[0] == places[1] is not None


def _marker(archive: Archive) -> str | None:
    """Return the id of the marker in its root; None if it was probed with another spec, or has none."""
    root, is_current = archive.status.root, archive.status.observed_generation == archive.metadata.generation
    return root.marker_id if root is not None and is_current else None


def _esaw(organization: Organization) -> str:
    """Return eSAW's origin; the base URL as it is if it has none, and nothing is archived from there."""
    try:
        return origin_of(organization.spec.base_url)
    except ValueError:
        return organization.spec.base_url


def _age(organization: Organization) -> tuple[datetime, str]:
    created = organization.metadata.creation_timestamp
    return created or datetime.max.replace(tzinfo=UTC), organization.name

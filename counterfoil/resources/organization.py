"""
Organization: one eSAW organization, and the rules for its envelopes.

A person writes the spec; the controller writes the status, in particular the hashes of the callback tokens,
from which the receiver knows a valid callback without reading a single Secret.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, ClassVar, Final, NamedTuple, Self

from msgspec.structs import replace

from counterfoil.durations import Duration
from counterfoil.origin import MAX_ORIGIN_LENGTH, origin_of
from counterfoil.resources.archive import Archive, has_same_folders
from counterfoil.resources.base import (
    ARCHIVE_NAME,
    EMAIL_RULE,
    NAMESPACE_NAME,
    OBSERVED_GENERATION,
    REASON,
    SECRET_NAME,
    SENDER_NAME,
    LocalObjectReference,
    PrinterColumn,
    ResourcePart,
    ResourceWithComputedStatus,
    SecretKeyRef,
    ValidationRule,
    address,
    address_rules,
    compare_durations,
    duration_bound,
    is_object_name,
    schema,
    secret_key,
)
from counterfoil.resources.conditions import Condition, condition_list
from counterfoil.resources.envelopeevent import MAX_COPIES, FileKind
from counterfoil.resources.naming import (
    ACTION_RULE,
    PARAMETER_NAME_RULE,
    PATTERN_RULE,
    TAG_NAME_RULE,
    is_envelope_action,
)
from counterfoil.resources.request import LastRequest, request_values
from counterfoil.resources.routes import (
    MAX_ROUTES,
    PATTERN_COUNT_RULE,
    ArchiveRoute,
    CopySpec,
    archive_names,
)

MAX_VERSION_LENGTH = 64
"""Maximum characters of eSAW's version; a longer text is something else."""

MAX_CALLBACK_TOKENS = 8

FURTHER_ACTIONS = "*"
"""In the place of an action: events that the listed actions do not name."""


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

    KEEP = "Keep"
    DELETE = "Delete"


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
    """Proof that a callback comes from this organization, and the organization's own URL parameters."""

    token_secret_refs: Annotated[
        tuple[Annotated[SecretKeyRef, schema("One token.")], ...],
        schema(
            "Keys of Secrets (same namespace, label `counterfoil.dev/use=callback`) with the "
            "tokens that a callback URL may contain, at least one. Several tokens permit "
            "rotation: add the new token, change the URL in eSAW, then remove the old token.",
            keys=("name", "key"),
            minItems=1,
            maxItems=MAX_CALLBACK_TOKENS,
            required=True,
        ),
    ] = ()
    basic_auth_secret_ref: Annotated[
        LocalObjectReference | None,
        schema(
            "A Secret (same namespace, of any type, label "
            "`counterfoil.dev/use=callback`) with the `username` and `password` that a callback "
            "must send in addition to the token. Use a random password of at least 16 characters. Default "
            "none."
        ),
    ] = None
    parameters: Annotated[
        tuple[
            Annotated[
                str,
                schema(
                    "Name of one parameter. Example: orderNo.",
                    PARAMETER_NAME_RULE,
                    ValidationRule(
                        "!(self.lowerAscii() in ['envelope', 'envelopeid', 'action', 'workstepid', "
                        "'eventtype', 'source', 'time', 'description', 'recipientemail', 'recipientorder'])",
                        "this is the name of one of eSAW's own parameters",
                    ),
                    maxLength=63,
                ),
            ],
            ...,
        ],
        schema(
            "Names of the organization's own parameters that its callback URLs carry, in any "
            "letter case. Their values go into the event, into the manifest, and into tags with "
            "`callback`. All other parameters are ignored. A value that is unusable (more than "
            "256 characters, characters that are not printable, an @, two different values) is "
            "left out and counted. Default none. Example: orderNo.",
            ValidationRule(
                "self.all(name, self.exists_one(other, other.lowerAscii() == name.lowerAscii()))",
                "letter case does not matter, so no two names may differ in it only",
            ),
            maxItems=16,
        ),
    ] = ()


class ActionRule(ResourcePart, frozen=True, omit_defaults=False):
    """One action and its handling."""

    action: Annotated[
        str,
        schema(
            "The action as eSAW names it, in any letter case. Example: envelopeFinished.",
            ACTION_RULE,
            maxLength=64,
        ),
    ]
    handling: Annotated[
        ActionHandling,
        schema(
            "`Archive`: archive the documents and clean up. `Record`: only record the event. Default Archive."
        ),
    ] = ActionHandling.ARCHIVE


class EvidenceSpec(ResourcePart, frozen=True):
    """Requirements for the evidence of an envelope."""

    audit_trail: Annotated[
        AuditTrailPolicy,
        schema(
            "`Required`: a Completed envelope without its audit trail is archived, but not "
            "deleted in eSAW, and its event fails. `Optional`: audit trails are switched off in "
            "eSAW. Default Required."
        ),
    ] = AuditTrailPolicy.REQUIRED
    wait: Annotated[
        Duration,
        schema(
            "Time after the final status during which eSAW may list further files. Counterfoil "
            "waits for the documents and the audit trail of a Completed envelope, and for any "
            "file of another one. If a list was short before, or has no audit trail, it deletes "
            "no envelope before this time. 168h at most. Default 10m.",
            duration_bound("duration(self) <= duration('168h')", "wait must be 168h (one week) or shorter"),
        ),
    ] = Duration(minutes=10)

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
    """Whether and when an archived envelope is deleted in eSAW."""

    policy: Annotated[
        CleanupPolicy,
        schema(
            "`Keep`: keep the envelope in eSAW. `Delete`: delete the envelope in eSAW after each "
            "file is in the archive and verified. Default Keep."
        ),
    ] = CleanupPolicy.KEEP
    after: Annotated[
        Duration,
        schema(
            "Delay between archiving and deleting, as a duration, 8760h at most. Default 0s. Example: 24h.",
            duration_bound(
                "duration(self) <= duration('8760h')",
                "after must be 8760h (one year) or shorter; to keep envelopes in eSAW, set policy to Keep",
            ),
        ),
    ] = Duration(0)


class ClientAuthentication(StrEnum):
    """Place of client id and secret in a token request. (RFC 6749, section 2.3.1)"""

    BODY = "Body"
    BASIC = "Basic"


class Pkce(StrEnum):
    """Binding of a code to its request. (RFC 7636)"""

    S256 = "S256"
    OFF = "Off"


class OAuth(ResourcePart, frozen=True):
    """
    The OAuth application that is registered with eSAW. Senders give their consent to it. Default none: then
    every Sender needs a tokenSecretRef.
    """

    client_id: Annotated[str, schema("Client id that eSAW gave at registration.", minLength=1, maxLength=256)]
    client_secret_ref: Annotated[
        SecretKeyRef,
        schema(
            "The key of a Secret (same namespace, label `counterfoil.dev/use=oauth`) with the client secret.",
            parts={"key": secret_key("clientSecret")},
        ),
    ]
    authorize_path: Annotated[
        str,
        schema(
            "Path of eSAW's authorization page, under baseURL. Default /Auth/Authorize.",
            ValidationRule(
                r"self.matches(r'^/([^/?#\s\\][^?#\s\\]*)?$')",
                "authorizePath is a path that begins with one /, with no query and no fragment, as "
                "in /Auth/Authorize",
            ),
            maxLength=256,
        ),
    ] = "/Auth/Authorize"
    token_path: Annotated[
        str,
        schema(
            "Path of eSAW's token endpoint, under baseURL. Default /ApiToken/Retrieve.",
            ValidationRule(
                r"self.matches(r'^/([^/?#\s\\][^?#\s\\]*)?$')",
                "tokenPath is a path that begins with one /, with no query and no fragment, as in "
                "/ApiToken/Retrieve",
            ),
            maxLength=256,
        ),
    ] = "/ApiToken/Retrieve"  # noqa: S105 - the path of an endpoint
    client_authentication: Annotated[
        ClientAuthentication,
        schema(
            "How the token request carries client id and secret. Body sends them in the form. "
            "Basic sends them in the Authorization header (RFC 6749, 2.3.1). Choose Basic if "
            "eSAW answers invalid_client although both are correct. Default Body."
        ),
    ] = ClientAuthentication.BODY
    pkce: Annotated[
        Pkce,
        schema(
            "Whether a code is bound to its request (RFC 7636). S256 sends a code challenge and "
            "its verifier. Off sends neither, for an eSAW that refuses unknown parameters. "
            "Default S256."
        ),
    ] = Pkce.S256
    public_url: Annotated[
        str | None,
        address(
            "Address of the pages process for browsers. https; http only for loopback and "
            "cluster-internal names. Example: https://counterfoil.acme.example.",
            "https://counterfoil.acme.example",
            512,
        ),
    ] = None


class BeforeSendField(ResourcePart, frozen=True):
    """One field of the form."""

    RULES: ClassVar[tuple[ValidationRule, ...]] = (
        ValidationRule(
            "!(has(self.pattern) && has(self.options))",
            "a field has either a pattern (free text) or options (a choice), not both",
        ),
    )

    name: Annotated[
        str,
        schema(
            "Name of the tag in the envelope's metadata. Example: costCenter.", TAG_NAME_RULE, maxLength=63
        ),
    ]
    label: Annotated[
        str | None, schema("Label of the field in the form. Default the name.", minLength=1, maxLength=256)
    ] = None
    required: Annotated[
        bool, schema("Whether the field must have a value before the envelope is sent. Default false.")
    ] = False
    pattern: Annotated[
        str | None,
        schema(
            "Regular expression (RE2, at most 2 MiB compiled) that the whole value must match. Default none: "
            "any text. Example: [0-9]{4}.",
            PATTERN_RULE,
            minLength=1,
            maxLength=256,
        ),
    ] = None
    options: Annotated[
        tuple[Annotated[str, schema("One value.", minLength=1, maxLength=256)], ...],
        schema("The values to choose from. Default none: any text.", minItems=1, maxItems=200),
    ] = ()


class BeforeSend(ResourcePart, frozen=True):
    """
    The page that a sender sees before an envelope is sent. It asks for tags. Default none: no questions.
    """

    fields: Annotated[
        tuple[BeforeSendField, ...], schema("Fields of the form, in this order.", keys=("name",), maxItems=32)
    ] = ()
    inbox_url: Annotated[
        str | None,
        schema(
            "Page that the browser opens after the envelope is sent. Default the inbox of eSAW "
            "(`/Inbox/Index`). https; http only for loopback and cluster-internal names. At "
            "another origin than `baseURL` it is no page of eSAW, so a draft that is sent from "
            "there asks the person first.",
            *address_rules(
                "write an absolute address with no user in it, as in "
                "https://saas.esignanywhere.net/Inbox/Index",
                rest=r"([/?#][^\s\\]*)?",
                end="([/?#]|$)",
            ),
            maxLength=2048,
        ),
    ] = None


class OrganizationLimits(ResourcePart, frozen=True):
    """Limits of concurrent work, so that eSAW stays responsive for its users, and ceilings of objects."""

    concurrency: Annotated[
        int,
        schema(
            "Maximum number of envelopes that are processed at once. Default 16, 1 to 1000.",
            minimum=1,
            maximum=1000,
        ),
    ] = 16
    per_sender_concurrency: Annotated[
        int,
        schema(
            "Maximum number of envelopes of one sender that are processed at once. Default 4, 1 to 1000.",
            minimum=1,
            maximum=1000,
        ),
    ] = 4
    requests_per_minute: Annotated[
        int | None,
        schema(
            "Maximum number of requests to eSAW per minute. Default none: no limit. Example: 1200.",
            minimum=1,
            maximum=1000000,
        ),
    ] = None
    unfinished_events: Annotated[
        int,
        schema(
            "Ceiling of unfinished events that are not archived yet. At this number the receiver "
            "answers new callbacks 503, and eSAW repeats them. Several receivers may exceed it "
            "by the events that they create within half a minute. Choose a number well below the "
            "ResourceQuota that all Organizations share. Default 10000, 100 to 10000000.",
            minimum=100,
            maximum=10000000,
        ),
    ] = 10_000
    unknown_envelopes: Annotated[
        int,
        schema(
            "Ceiling of failed events of callbacks and sweeps whose envelope eSAW never described "
            "(reason EnvelopeNotFound, without status.envelope). At this number the receiver answers "
            "new callbacks 503. "
            "Such events come from a leaked callback URL, or from envelopes that no key may see. "
            "Default 5000, 100 to 10000000.",
            minimum=100,
            maximum=10000000,
        ),
    ] = 5_000
    senders: Annotated[
        int,
        schema(
            "Ceiling of Senders. At this number the pages create no Sender for a user who has none; "
            "a Sender that exists still gets a new key. The pages may exceed it by the consents of "
            "half a minute. Default 20000, 100 to 1000000.",
            minimum=100,
            maximum=1000000,
        ),
    ] = 20_000


class RetrySpec(ResourcePart, frozen=True):
    """
    Pauses between attempts, separately for each phase. The first pause is at most `initial`. The bound
    doubles with each further pause, up to `max`. After `deadline`, the event fails.
    """

    RULES: ClassVar[tuple[ValidationRule, ...]] = (
        compare_durations(
            "self.initial, self.max, self.deadline",
            "(duration(self.initial) <= duration(self.max) && duration(self.max) <= duration(self.deadline))",
            "initial must not be longer than max (default 1h), nor max longer than deadline (default 24h)",
        ),
    )

    initial: Annotated[
        Duration,
        schema(
            "Maximum first pause, as a duration. Default 10s.",
            duration_bound(
                "duration(self) > duration('0s')",
                "initial must be longer than 0s, or a failing event would be tried without a pause",
            ),
        ),
    ] = Duration(seconds=10)
    max: Annotated[Duration, schema("Maximum pause, as a duration. Default 1h.")] = Duration(hours=1)
    deadline: Annotated[
        Duration, schema("Timeout for one phase, after which the event fails, as a duration. Default 24h.")
    ] = Duration(hours=24)

    def pause_ceiling(self, attempts: int) -> float:
        """Return the longest pause, in seconds, after this number of failed attempts (1 or more)."""
        # 2 ** 32 times any initial pause exceeds every sensible maximum; a larger exponent would overflow.
        return min(self.max.total_seconds(), self.initial.total_seconds() * 2.0 ** min(attempts - 1, 32))

    def are_tries_spent(self, attempts: int) -> bool:
        """Whether the longest pauses after this number of failed attempts fill the deadline. Time in which
        nothing is tried, as while an Archive is suspended, does not count."""
        filled = 0.0
        for number in range(1, attempts + 1):
            pause = self.pause_ceiling(number)
            if pause >= self.max.total_seconds():
                filled += pause * (attempts - number + 1)
                break
            filled += pause
        return attempts > 0 and filled >= self.deadline.total_seconds()


class SweepSpec(ResourcePart, frozen=True):
    """The search for finished envelopes without a callback."""

    RULES: ClassVar[tuple[ValidationRule, ...]] = (
        compare_durations(
            "self.interval, self.lookback",
            "duration(self.interval) <= duration(self.lookback)",
            "lookback (default 768h) must not be shorter than interval, or envelopes in between "
            "are never looked at",
        ),
    )

    interval: Annotated[
        Duration,
        schema(
            "Interval between searches, as a duration, 1m or more. Default 6h.",
            duration_bound("duration(self) >= duration('1m')", "interval must be 1m or longer"),
        ),
    ] = Duration(hours=6)
    lookback: Annotated[
        Duration,
        schema(
            "Age of the oldest envelopes that a search covers, as a duration, from the time of "
            "sending, up to 87600h (10 years). Default 768h (32 days).",
            duration_bound(
                "duration(self) <= duration('87600h')", "lookback must be 87600h (10 years) or shorter"
            ),
        ),
    ] = Duration(hours=768)


MIN_TTL: Final = Duration(hours=72)
"""Shortest retention of a final event."""

_TTL_BOUND: Final = duration_bound(
    f"duration(self) >= duration('{MIN_TTL.total_seconds() / 3600:.0f}h')",
    "events are kept for 72h or longer, since eSAW may repeat a callback for 36 hours",
)


class Ttl(ResourcePart, frozen=True):
    """Retention of final events. Never below 72h, since eSAW may repeat a callback for 36 hours."""

    succeeded: Annotated[
        Duration,
        schema(
            "Retention of Succeeded and Skipped events, as a duration, 72h or more, and never "
            "below `sweep.lookback`: a sweep recognises an archived envelope by its event. With "
            "policy Delete, an event that a person skipped stays while its envelope can be in eSAW. "
            "Default 792h (33 days).",
            _TTL_BOUND,
        ),
    ] = Duration(hours=792)
    failed: Annotated[
        Duration | None,
        schema(
            "Retention of Failed events, as a duration, 72h or more. Default never deleted. Example: 2160h.",
            _TTL_BOUND,
        ),
    ] = None
    unknown: Annotated[
        Duration,
        schema(
            "Retention of Failed events with reason EnvelopeNotFound whose envelope eSAW never "
            "found, as a duration, 72h or more. A shorter `failed` counts for them too. Default "
            "72h.",
            _TTL_BOUND,
        ),
    ] = Duration(hours=72)
    imported: Annotated[
        Duration,
        schema(
            "Retention of Succeeded and Skipped events of an Import, as a duration, 72h or more. They are "
            "kept longer until the Import has counted them, and while a sweep may list their envelopes. "
            "Default 72h.",
            _TTL_BOUND,
        ),
    ] = Duration(hours=72)


class Notifications(ResourcePart, frozen=True):
    """
    Recipients of mails, and the mail server. Default none: problems are visible in Kubernetes and the
    metrics only.
    """

    RULES: ClassVar[tuple[ValidationRule, ...]] = (
        ValidationRule(
            "!has(self.administrators) || (has(self.smtpSecretRef) && has(self.from))",
            "administrators can be written to only with smtpSecretRef and from",
        ),
    )

    smtp_secret_ref: Annotated[
        LocalObjectReference | None,
        schema(
            "A Secret (same namespace, label `counterfoil.dev/use=smtp`) with the mail server's "
            "`host`, `port`, `username`, `password`, `tls` and `ca.crt`. `tls` is `starttls` "
            "(the default), `implicit` (the default on port 465) or `none`. With `none` there is "
            "no `username` and `password`, since anyone in between could read them. `ca.crt` has "
            "the private authorities, in PEM, that sign its certificate."
        ),
    ] = None
    from_: Annotated[
        str | None,
        schema("Sender address of the mails. Example: counterfoil@acme.example.", EMAIL_RULE, maxLength=254),
    ] = None
    administrators: Annotated[
        tuple[Annotated[str, schema("One address.", EMAIL_RULE, maxLength=254)], ...],
        schema("Addresses of the administrators, who receive one mail per problem.", minItems=1, maxItems=32),
    ] = ()
    console_url: Annotated[
        str | None,
        address(
            "Address of the console for administrators, for the links in mails. https; http only "
            "for loopback and cluster-internal names.",
            "https://counterfoil.acme.example",
            512,
        ),
    ] = None
    language: Annotated[Language, schema("Language of all mails. Default en.")] = Language.ENGLISH
    escalate_after: Annotated[
        Duration,
        schema(
            "Time between the request for a new key to a sender and the mail to the "
            "administrators, if the sender does not react. A duration. Default 24h."
        ),
    ] = Duration(hours=24)


class WebhookSpec(ResourcePart, frozen=True):
    """
    Receiver of one notice per finished event: an event that archived its envelope, or failed. The body is a
    CloudEvent 1.0, signed by the rules of Standard Webhooks. Counterfoil retries as `retry` says. Default
    none.
    """

    url: Annotated[
        str,
        schema(
            "Address that takes the notices by POST. https; http only for loopback and "
            "cluster-internal names. Link-local addresses and those of cloud metadata are "
            "refused. Example: https://erp.acme.example/counterfoil.",
            *address_rules(
                "write an absolute address with no user and no fragment in it, as in "
                "https://erp.acme.example/counterfoil",
                rest=r"([/?][^#\s\\]*)?",
                end="([/?]|$)",
            ),
            maxLength=2048,
        ),
    ]
    signing_secret_ref: Annotated[
        SecretKeyRef,
        schema(
            "The key of a Secret (same namespace, label `counterfoil.dev/use=webhook`) with the "
            "signing secret: `whsec_` and the base64 of 24 to 64 random bytes. During a rotation "
            "the value has two secrets, one per line.",
            parts={"key": secret_key("signingSecret")},
        ),
    ]


class OrganizationSpec(ResourcePart, frozen=True):
    """Settings for the envelopes of this organization."""

    RULES: ClassVar[tuple[ValidationRule, ...]] = (
        ValidationRule(
            "has(self.archiveRef) || self.actions.all(each, each.handling != 'Archive')",
            "archiveRef is required, since an action has handling Archive (the default); name an "
            "Archive, or set the handling of every action to Record",
            field_path=".archiveRef",
            reason="FieldValueRequired",
        ),
        ValidationRule(
            "!has(self.copies) || !has(self.archiveRef) || "
            "self.copies.all(each, each.archiveRef.name != self.archiveRef.name)",
            "a copy can't be in the Archive of its original (archiveRef); name another Archive in copies",
            field_path=".copies",
        ),
        compare_durations(
            "self.ttl.succeeded, self.sweep.lookback",
            "duration(self.ttl.succeeded) >= duration(self.sweep.lookback)",
            "ttl.succeeded (default 792h) must not be shorter than sweep.lookback (default "
            "768h), or the sweep finds archived envelopes whose events are removed",
            field_path=".ttl.succeeded",
        ),
    )

    base_url: Annotated[
        str,
        schema(
            "Address of eSAW, without a path such as `/Api`. https; http only for loopback and "
            "cluster-internal names. Example: https://saas.esignanywhere.net.",
            *address_rules(
                "write scheme, host and perhaps port, with no user, query or fragment, as in "
                "https://saas.esignanywhere.net",
                port="([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])",
            ),
            ValidationRule(
                "!self.matches(r'^https?://[^/]+/.')",
                "leave out the path (also /Api, which Counterfoil adds), as in https://saas.esignanywhere.net",
            ),
            maxLength=512,
        ),
    ]
    callback: Annotated[CallbackSpec, schema(required=True)] = CallbackSpec()
    actions: Annotated[
        tuple[ActionRule, ...],
        schema(
            "Actions that are recorded, and their handling. A callback without an action counts "
            "as envelopeFinished if that has handling Archive, else as the first action with "
            "handling Archive. So does one that never came. Default: envelopeFinished with "
            "handling Archive.",
            ValidationRule(
                "self.all(each, self.exists_one(other, other.action.lowerAscii() == "
                "each.action.lowerAscii()))",
                "each action is named once; upper and lower case are the same here",
            ),
            ValidationRule(
                "self.all(each, oldSelf.all(known, known.action == each.action || "
                "known.action.lowerAscii() != each.action.lowerAscii()))",
                "an action keeps its upper and lower case, since the names of its events contain it",
            ),
            keys=("action",),
            minItems=1,
            maxItems=32,
        ),
    ] = (ActionRule(action="envelopeFinished"),)
    unlisted_actions: Annotated[
        UnlistedActions,
        schema(
            "Handling of callbacks whose action is not listed. Ignore: answer 200, and count the "
            "action in status.unlistedActions. Archive: as a callback without an action; the "
            "status of the envelope is checked anyway. Default Ignore."
        ),
    ] = UnlistedActions.IGNORE
    evidence: EvidenceSpec = EvidenceSpec()
    retention: Annotated[
        Duration | None,
        schema(
            "Time for which eSAW itself keeps finished envelopes, as set there. eSAW deletes "
            "them after it, archived or not. Counterfoil warns of envelopes that are not "
            "archived when less than a quarter of it is left (7 days at most, 1 day at least). "
            "48h to 87600h (10 years). Default none: no warning. Example: 2160h.",
            duration_bound(
                "(duration(self) >= duration('48h') && duration(self) <= duration('87600h'))",
                "retention must be 48h to 87600h (10 years)",
            ),
        ),
    ] = None
    statuses: Annotated[
        tuple[
            Annotated[
                EnvelopeStatus,
                schema("A final status of eSAW.", enum=["Completed", "Rejected", "Canceled", "Expired"]),
            ],
            ...,
        ],
        schema(
            "Statuses of envelopes that are archived; other envelopes are skipped. Of "
            "`Completed`, `Rejected`, `Canceled`, `Expired`. Counterfoil waits for an envelope "
            "that is still Active. Default Completed.",
            minItems=1,
            maxItems=4,
        ),
    ] = (EnvelopeStatus.COMPLETED,)
    archive_ref: Annotated[
        LocalObjectReference | None,
        schema(
            "The Archive (same namespace) of the documents for which no route holds. Required for handling "
            "Archive.",
            parts={"name": ARCHIVE_NAME},
        ),
    ] = None
    routes: Annotated[
        tuple[ArchiveRoute, ...],
        schema(
            "Other Archives for some of the envelopes, in this order: the first route whose conditions hold "
            "decides. An event chooses once, before its first file is written. Default none.",
            PATTERN_COUNT_RULE,
            keys=("name",),
            maxItems=MAX_ROUTES,
        ),
    ] = ()
    copies: Annotated[
        tuple[CopySpec, ...],
        schema(
            "Further Archives of each archived envelope. A copy is made from the first archive after its "
            "proof. Default none.",
            ValidationRule(
                "self.all(each, self.exists_one(other, other.archiveRef.name == each.archiveRef.name))",
                "each Archive has one copy at most; remove the second entry of the same archiveRef",
            ),
            maxItems=MAX_COPIES,
        ),
    ] = ()
    cleanup: CleanupSpec = CleanupSpec()
    default_sender_ref: Annotated[
        LocalObjectReference | None,
        schema(
            "The Sender (same namespace) whose key is used for envelopes without an Envelope "
            "that names the sender. For organizations that send by API with one known key. "
            "Default none.",
            parts={"name": SENDER_NAME},
        ),
    ] = None
    oauth: OAuth | None = None
    before_send: BeforeSend | None = None
    limits: OrganizationLimits = OrganizationLimits()
    retry: RetrySpec = RetrySpec()
    sweep: SweepSpec = SweepSpec()
    ttl: Ttl = Ttl()
    webhook: WebhookSpec | None = None
    notifications: Notifications | None = None
    suspend: Annotated[
        bool,
        schema(
            "True suspends the processing. The receiver still records callbacks. eSignAnyWhere may "
            "delete envelopes meanwhile (`spec.retention`). Mails tell of that and of refused "
            "callbacks, all others wait. Default false."
        ),
    ] = False

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
    def archived_actions(self) -> frozenset[str]:
        """The actions whose events archive envelopes; ``*`` for those that are not listed."""
        listed = {each.action for each in self.actions if each.handling is ActionHandling.ARCHIVE}
        is_closed = self.unlisted_actions is UnlistedActions.IGNORE
        return frozenset(listed if is_closed else {*listed, FURTHER_ACTIONS})

    @property
    def actions_with_events(self) -> frozenset[str]:
        """The actions that archive envelopes; ``*`` also for events of actions that are only recorded: a
        person may skip one of these, so that the envelope is kept."""
        is_recording = any(each.handling is ActionHandling.RECORD for each in self.actions)
        return self.archived_actions | {FURTHER_ACTIONS} if is_recording else self.archived_actions

    @property
    def has_several_events(self) -> bool:
        """Whether several events may archive one envelope: by several actions, or by one about a workstep."""
        return _make_several_events(self.archived_actions)


UNKNOWN_ADDRESS: Final = "https://<your-host>"
"""Stands for the address of the receiver where no setting tells it."""


class CallbackURLs(ResourcePart, frozen=True):
    """URLs for eSAW's organization settings. Replace `<token>` by the token."""

    envelope: Annotated[str, schema("Callback for completed envelopes (`CallbackUrl`).", maxLength=2048)]
    status: Annotated[
        str, schema("Callback for envelope status changes (`StatusUpdateCallbackUrl`).", maxLength=2048)
    ]
    workstep: Annotated[
        str,
        schema("Callback for workstep events (`ActivityActionCallbackConfiguration.Url`).", maxLength=2048),
    ]

    @classmethod
    def at(cls, address: str, path: str) -> Self:
        """Return the URLs at the address of a receiver; ``path`` is ``Organization.address_path``."""
        prefix = f"{address.rstrip('/')}/callbacks/{path}/<token>"
        envelope = f"{prefix}?envelopeId=##EnvelopeId##&action=##Action##"
        workstep = (
            f"{prefix}?envelopeId=##EnvelopeId##&action=##EventType##&workstepId=##WorkstepId##"
            "&source=##Source##&time=##Time##"
        )
        return cls(envelope=envelope, status=envelope, workstep=workstep)


MAX_REASON_LENGTH: Final = 240
"""Maximum length of a problem's reason, so that its cause also has room for the name of an Archive."""

MAX_PROBLEM_MAILS = 5
"""Maximum number of mails about one problem, without reminders and the mail about its end."""


class ReportedProblem(ResourcePart, frozen=True):
    """One problem."""

    # mail_attempt_time is written before a mail is sent, notified_time after it (docs/decisions/0007).

    cause: Annotated[
        str,
        schema(
            "Unique and stable key of the problem. Example: failed/ArchiveBucketMissing/dms.",
            maxLength=512,
            pattern="^[a-z]+(/[A-Za-z0-9][A-Za-z0-9_,:.-]*){0,2}$",
        ),
    ]
    reason: Annotated[
        str,
        schema(
            "Reason, in one CamelCase word that stays the same between versions.",
            maxLength=256,
            pattern=REASON,
        ),
    ]
    start_time: Annotated[datetime, schema("Time of the first occurrence (RFC 3339, UTC).")]
    message: Annotated[
        str | None,
        schema(
            "Description of the reason, for people, from the newest event with this problem.", maxLength=1024
        ),
    ] = None
    count: Annotated[
        int,
        schema(
            "Number of events (for `consent` and `key`, of senders; for `import`, of Imports) with this "
            "problem.",
            minimum=0,
        ),
    ] = 0
    examples: Annotated[
        tuple[Annotated[str, schema("One name.", maxLength=253)], ...],
        schema("Names of some of them.", list_type="atomic", maxItems=5),
    ] = ()
    last_seen_time: Annotated[datetime | None, schema("Time of the newest occurrence (RFC 3339, UTC).")] = (
        None
    )
    mail_attempt_time: Annotated[
        datetime | None,
        schema(
            "Time at which a controller last began to send a mail about the problem (RFC 3339, "
            "UTC), so that no two controllers send it."
        ),
    ] = None
    notified_time: Annotated[
        datetime | None,
        schema(
            "Time of the last mail to the administrators (RFC 3339, UTC). One mail per problem, and a "
            "further one when another action is necessary."
        ),
    ] = None
    notified_reasons: Annotated[
        tuple[Annotated[str, schema("One reason.", maxLength=256)], ...],
        schema(
            "Reasons that these mails named, the last one last; empty where only the first mail was sent.",
            list_type="atomic",
            maxItems=MAX_PROBLEM_MAILS,
        ),
    ] = ()
    reason_time: Annotated[
        datetime | None,
        schema("Time at which the reason changed after a mail (RFC 3339, UTC); none: it did not."),
    ] = None
    solved_time: Annotated[
        datetime | None, schema("Time at which the problem was seen to have ended (RFC 3339, UTC).")
    ] = None
    ending: Annotated[
        str | None,
        schema(
            "How the problem ended: `Solved`, or one CamelCase word for what ended it instead. "
            "Example: ArchiveUnused.",
            maxLength=256,
            pattern=REASON,
        ),
    ] = None


class SweepResult(ResourcePart, frozen=True):
    """The last search for finished envelopes without a callback."""

    completion_time: Annotated[datetime, schema("End of the search (RFC 3339, UTC).")]
    found: Annotated[int, schema("Number of envelopes that got an event by the search.", minimum=0)]
    known: Annotated[
        int,
        schema(
            "Number of listed envelopes that had an event before, which the sweep did not change. One that "
            "two Senders see counts twice.",
            minimum=0,
        ),
    ] = 0
    reopened: Annotated[
        int, schema("Number of events that had ended, or waited, and start again.", minimum=0)
    ] = 0
    refused: Annotated[
        int,
        schema(
            "Number of listed envelopes that have no event after the search. Their id is no GUID, the name "
            "of the event is taken, or the API server refuses it.",
            minimum=0,
        ),
    ] = 0
    complete: Annotated[
        bool,
        schema(
            "False: the search stopped early, eSAW or a key failed for a Sender, or eSAW may "
            "have left envelopes out. It is repeated soon. Default true."
        ),
    ] = True
    message: Annotated[
        str | None, schema("What was not searched, and why; absent if all was.", maxLength=4096)
    ] = None


class CheckOutcome(StrEnum):
    """Outcome of one line of a check of eSAW."""

    AS_EXPECTED = "AsExpected"
    DEVIATES = "Deviates"
    NOT_TESTABLE = "NotTestable"


MAX_CHECK_MESSAGE_LENGTH = 1024
"""Maximum characters of the message about one assumption."""


class OrganizationCheckResult(ResourcePart, frozen=True):
    """One assumption."""

    id: Annotated[str, schema("The assumption.", maxLength=64, pattern="^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")]
    outcome: Annotated[
        CheckOutcome,
        schema(
            "AsExpected, Deviates (the message says what it means), or NotTestable (the message says why)."
        ),
    ]
    message: Annotated[
        str, schema("What it means, and for a deviation what to do.", maxLength=MAX_CHECK_MESSAGE_LENGTH)
    ]
    found: Annotated[
        str | None,
        schema("What eSAW did, in a form without names, addresses, hosts and ids.", maxLength=1024),
    ] = None
    setting: Annotated[str | None, schema("The setting to change, if one helps.", maxLength=128)] = None


class OrganizationCheck(ResourcePart, frozen=True):
    """
    The last check of what Counterfoil assumes about eSAW, which a person asked for with the label
    `counterfoil.dev/request: check`. It asks read-only.
    """

    start_time: Annotated[datetime, schema("Time at which the check began (RFC 3339, UTC).")]
    completion_time: Annotated[datetime, schema("Time at which the check ended (RFC 3339, UTC).")]
    version: Annotated[str | None, schema("The version that eSAW named.", maxLength=MAX_VERSION_LENGTH)] = (
        None
    )
    by: Annotated[
        str | None,
        schema("The person who asked for it, as the request says; nobody verifies the name.", maxLength=256),
    ] = None
    results: Annotated[
        tuple[OrganizationCheckResult, ...], schema("One line per assumption.", keys=("id",), maxItems=64)
    ] = ()


MAX_UNLISTED_ACTIONS = 32
"""Maximum number of unlisted actions that are counted by name; all others count as ``other``."""

OTHER_ACTIONS = "other"


class UnlistedAction(ResourcePart, frozen=True):
    """One action."""

    action: Annotated[
        str,
        schema("The action as eSAW named it, `none` for a callback without one, or `other`.", maxLength=64),
    ]
    count: Annotated[int, schema("Number of callbacks.", minimum=1)]
    last_time: Annotated[datetime, schema("Time of the last callback (RFC 3339, UTC).")]


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
    """One hour."""

    start_time: Annotated[datetime, schema("Start of the hour (RFC 3339, UTC).")]
    noted: Annotated[int, schema("Number of events that were recorded in this hour.", minimum=0)] = 0
    archived: Annotated[int, schema("Number of events that succeeded in this hour.", minimum=0)] = 0


class Activity(ResourcePart, frozen=True):
    """
    Activity of the events, for charts. It is the result of the controller's last pass over all events that
    found a change. With 100,000 events, there is one pass about every 70 minutes; with a few events, about
    every minute.
    """

    count_time: Annotated[datetime, schema("Start of that pass (RFC 3339, UTC).")]
    hours: Annotated[
        tuple[HourlyActivity, ...],
        schema(
            "The last 24 hours in UTC, oldest first. Hours without activity are omitted.",
            maxItems=ACTIVITY_HOURS,
        ),
    ] = ()
    archived_within: Annotated[
        dict[
            str,
            Annotated[
                int,
                schema(
                    "Number of events that took less than this time, and at least the time of the "
                    "previous step.",
                    minimum=0,
                ),
            ],
        ],
        schema(
            "Number of events that succeeded in the last seven days, by the time from the record "
            "to the end. Example: {1s: 2, 10s: 118, longer: 1} are two events below one second, "
            "and one of a day or longer.",
            maxProperties=8,
        ),
    ] = {}
    unfinished_for: Annotated[
        dict[str, Annotated[int, schema("Number of events.", minimum=0)]],
        schema(
            "Number of unfinished events by the time since they were recorded, in the same steps.",
            maxProperties=8,
        ),
    ] = {}


class EventLoad(ResourcePart, frozen=True):
    """
    Counts of the events and Senders that the ceilings in spec.limits are about. The controller counts every
    30 seconds and writes the counts when they changed; the receivers add the events that they created since.
    """

    count_time: Annotated[datetime, schema("Time of the count (RFC 3339, UTC).")]
    unfinished_events: Annotated[
        int, schema("Number of unfinished events that are not in Cleaning; 0 if absent.", minimum=0)
    ] = 0
    unknown_envelopes: Annotated[
        int,
        schema(
            "Number of failed events of callbacks and sweeps whose envelope eSAW never described; "
            "0 if absent.",
            minimum=0,
        ),
    ] = 0

    senders: Annotated[int, schema("Number of Senders; 0 if absent.", minimum=0)] = 0

    @property
    def numbers(self) -> tuple[int, int]:
        """The counts of events without their time."""
        return self.unfinished_events, self.unknown_envelopes


def duration_bucket(span: timedelta) -> str:
    """Return the bucket of a duration."""
    return next((name for name, limit in DURATION_BUCKETS.items() if span < limit), OVERFLOW_BUCKET)


class SealingKeyStatus(ResourcePart, frozen=True):
    """
    The newest sealing key that a controller has. `reseal` seals only with this one, and not before it has
    been here for five minutes.
    """

    id: Annotated[str, schema("Name of the key's file. Example: 2027-01.", maxLength=63)]
    hash: Annotated[
        str,
        schema(
            "Hash of the key in lower-case hex, to compare two keys.", maxLength=64, pattern="^[0-9a-f]{64}$"
        ),
    ]
    observed_time: Annotated[
        datetime, schema("Time at which a controller first had this key (RFC 3339, UTC).")
    ]


_TOKEN_HASH = schema(
    "`sha256$salt$hash`; salt (16 bytes) and hash in lower-case hex.",
    maxLength=104,
    pattern=r"^sha256\$[0-9a-f]{32}\$[0-9a-f]{64}$",
)

_BASIC_AUTH_HASH = schema(
    "`hmac-sha256$salt$hash`; salt (16 bytes) and hash in lower-case hex.",
    maxLength=109,
    pattern=r"^hmac-sha256\$[0-9a-f]{32}\$[0-9a-f]{64}$",
)


class CallbackToken(ResourcePart, frozen=True):
    """The hashes of one callback token, which stay while its Secret may not be read."""

    name: Annotated[str, SECRET_NAME]
    key: Annotated[str, secret_key("token")]
    hash: Annotated[str, _TOKEN_HASH]
    basic_auth_hash: Annotated[str | None, _BASIC_AUTH_HASH] = None


class EnvelopeAccess(ResourcePart, frozen=True):
    """The values of the spec that decide which envelopes are shown, as a controller last observed them."""

    base_url: Annotated[str, schema("`spec.baseURL`.", maxLength=512)]
    default_sender: Annotated[
        str | None, schema("Name in `spec.defaultSenderRef`.", minLength=1, maxLength=63)
    ] = None
    observed_time: Annotated[
        datetime | None,
        schema(
            "Time at which a controller first observed these values (RFC 3339, UTC). Events that "
            "failed earlier with EnvelopeNotFound are retried."
        ),
    ] = None


class OrganizationStatus(ResourcePart, frozen=True):
    """State of the Organization, written by the controller."""

    observed_generation: Annotated[int | None, OBSERVED_GENERATION] = None
    conditions: Annotated[
        tuple[Condition, ...],
        condition_list(
            "`Reachable`: eSAW answers. `Ready`: callbacks are accepted and events processed. "
            "`Stalled`: a person has to act. `Notified`: mails can be sent.",
            "Reachable",
        ),
    ] = ()
    origin: Annotated[
        str | None,
        schema(
            "The first origin of `spec.baseURL` that answered as eSAW. Secrets with API keys and "
            "the OAuth client secret belong to it, unless their annotation "
            "counterfoil.dev/origin names another. Example: https://saas.esignanywhere.net.",
            maxLength=MAX_ORIGIN_LENGTH,
        ),
    ] = None
    callback_token_hashes: Annotated[
        tuple[Annotated[str, _TOKEN_HASH], ...],
        schema(
            "Salted SHA-256 of each callback token, so that the receiver needs no Secret. Only a "
            "Secret with the label `counterfoil.dev/use=callback` is hashed.",
            list_type="atomic",
            maxItems=MAX_CALLBACK_TOKENS,
        ),
    ] = ()
    sealing_key: SealingKeyStatus | None = None
    basic_auth_hashes: Annotated[
        tuple[Annotated[str, _BASIC_AUTH_HASH], ...],
        schema(
            "For each callback token: salted HMAC-SHA-256 of `username:password` of the basic "
            "authentication with the token as key, so that the receiver needs no Secret.",
            list_type="atomic",
            maxItems=MAX_CALLBACK_TOKENS,
        ),
    ] = ()
    callback_tokens: Annotated[
        tuple[CallbackToken, ...],
        schema(
            "The reference to each callback token, with its hashes of the two lists.",
            keys=("name", "key"),
            maxItems=MAX_CALLBACK_TOKENS,
        ),
    ] = ()
    callback_urls: CallbackURLs | None = None
    address_path: Annotated[
        str | None,
        schema(
            "Part of the paths of its callbacks and pages, `namespace/name`. Not set in the release's own "
            "namespace, where it is the name. Example: unit-a/acme.",
            maxLength=127,
            pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?/[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
        ),
    ] = None
    release_namespace: Annotated[
        str | None,
        schema(
            "Namespace of the release that serves this one: its pods and the Leases of its shards are there. "
            "Not set in the release's own namespace. Example: counterfoil.",
            maxLength=63,
            pattern=NAMESPACE_NAME,
        ),
    ] = None
    version: Annotated[str | None, schema("Version that eSAW reports.", maxLength=MAX_VERSION_LENGTH)] = None
    events: Annotated[
        dict[str, Annotated[int, schema("Number of events in this phase.", minimum=0)]],
        schema(
            "Number of events in each phase. Example: {Succeeded: 118, AwaitingConsent: 2}.", maxProperties=16
        ),
    ] = {}
    load: EventLoad | None = None
    activity: Activity | None = None
    sweep: SweepResult | None = None
    last_request: Annotated[
        LastRequest | None,
        schema(parts={"request": request_values("On an Organization: sweep, check, route")}),
    ] = None
    check: OrganizationCheck | None = None
    unlisted_actions: Annotated[
        tuple[UnlistedAction, ...],
        schema(
            "Actions of callbacks that spec.actions does not list, with their number: 32 at "
            "most, then `other`. An action that is listed later is removed.",
            keys=("action",),
            maxItems=MAX_UNLISTED_ACTIONS + 1,
        ),
    ] = ()
    problems: Annotated[
        tuple[ReportedProblem, ...],
        schema(
            "Problems that are reported to the administrators by mail, one per cause: the start, "
            "the number of events, and the mails. A solved problem is removed after the mail "
            "about its solution.",
            keys=("cause",),
            maxItems=100,
        ),
    ] = ()
    archived_actions: Annotated[
        tuple[Annotated[str, schema("Name of an action, or `*`.", maxLength=64)], ...] | None,
        schema(
            "Actions whose events archive envelopes, by this spec or by an earlier one; two are enough. `*` "
            "stands for unlisted actions, for actions that are only recorded, and for events that a person "
            "created. Without a value it is unknown.",
            list_type="set",
            maxItems=3,
        ),
    ] = None
    spec_observed_time: Annotated[
        datetime | None,
        schema(
            "Time at which a controller first observed the current spec (RFC 3339, UTC). Events "
            "that failed earlier and that only a new spec can help are retried."
        ),
    ] = None
    envelope_access: EnvelopeAccess | None = None
    settled_time: Annotated[
        datetime | None,
        schema(
            "Time since which the Organization is Ready and Reachable with its current spec (RFC "
            "3339, UTC). Events that failed earlier because of the Organization are retried."
        ),
    ] = None


def _make_several_events(actions: Collection[str]) -> bool:
    return len(actions) > 1 or not all(map(is_envelope_action, actions))


class Organization(ResourceWithComputedStatus, frozen=True):
    """
    One organization of eSignAnyWhere (eSAW), and the settings for its envelopes. A person writes the spec.
    The controller writes the status, with the callback URLs for eSAW's organization settings.
    """

    KIND: ClassVar[str] = "Organization"
    PLURAL: ClassVar[str] = "organizations"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ("org",)
    COLUMNS: ClassVar[tuple[PrinterColumn, ...]] = (
        PrinterColumn(
            "Ready",
            '.status.conditions[?(@.type=="Ready")].status',
            "False: callbacks are refused, or events can't be processed; REASON says why.",
        ),
        PrinterColumn(
            "Reason", '.status.conditions[?(@.type=="Ready")].reason', "Reason of the condition Ready."
        ),
        PrinterColumn(
            "Reachable", '.status.conditions[?(@.type=="Reachable")].status', "Whether eSignAnyWhere answers."
        ),
        PrinterColumn("Failed", ".status.events.Failed", "Number of failed events.", type="integer"),
        PrinterColumn(
            "Waiting",
            ".status.events.AwaitingConsent",
            "Number of events that wait for a sender's consent.",
            type="integer",
        ),
        PrinterColumn("Version", ".status.version", "Version of eSignAnyWhere."),
        PrinterColumn(
            "Age", ".metadata.creationTimestamp", "Time since the Organization was created.", type="date"
        ),
        PrinterColumn("URL", ".spec.baseURL", "Address of eSignAnyWhere.", is_wide=True),
        PrinterColumn("Archive", ".spec.archiveRef.name", "Archive of the documents.", is_wide=True),
        PrinterColumn(
            "Cleanup",
            ".spec.cleanup.policy",
            "Whether archived envelopes are deleted in eSignAnyWhere.",
            is_wide=True,
        ),
        PrinterColumn(
            "Suspended", ".spec.suspend", "Whether processing is suspended.", type="boolean", is_wide=True
        ),
    )

    RULES: ClassVar[tuple[ValidationRule, ...]] = (
        ValidationRule(
            "self.metadata.name.size() <= 63",
            "the name of an Organization has at most 63 characters, since it becomes the value of a label",
        ),
    )

    # Without it the next server that answers would be the first, and get the keys. All else is found again;
    # without `archivedActions` the events of an envelope count as several.
    KEPT_STATUS: ClassVar[frozenset[str]] = frozenset({"origin"})

    spec: OrganizationSpec
    status: OrganizationStatus = OrganizationStatus()

    @property
    def address_path(self) -> str:
        """
        Its part of the paths of callbacks and pages: the name, or ``namespace/name`` outside of the release's
        own namespace.

        Only the controller knows that namespace and publishes it in the status. Others that may write it
        choose between these two, and nothing else.
        """
        return self.long_address_path if self.status.address_path == self.long_address_path else self.name

    @property
    def long_address_path(self) -> str:
        """The path with the namespace, which is valid in the release's own namespace too."""
        return f"{self.metadata.namespace}/{self.name}"

    def with_address(self, *, namespace: str, own: str) -> Self:
        """Return it with the address of this namespace in the release whose ``own`` namespace is named,
        also before the controller has published that."""
        path = address_path(self.name, namespace=namespace, own=own)
        return replace(
            self,
            metadata=replace(self.metadata, namespace=namespace),
            status=replace(self.status, address_path=path),
        )

    def page_url(self, path: str) -> str | None:
        """Return the public URL of one of its pages, or None when ``spec.oauth.publicURL`` is not set."""
        oauth = self.spec.oauth
        if oauth is None or oauth.public_url is None:
            return None
        return f"{oauth.public_url.rstrip('/')}{path}"

    @property
    def has_room_for_sender(self) -> bool:
        """Whether the ceiling of Senders allows one more, by the last count."""
        load = self.status.load
        return load is None or load.senders < self.spec.limits.senders

    def consent_url(self, sender: str) -> str | None:
        """Return the URL of a sender's consent page, or None when ``spec.oauth.publicURL`` is not set, or for
        a text that is no name: problems in a status name senders."""
        if not is_object_name(sender):
            return None
        return self.page_url(f"/consent/{self.address_path}/{sender}")

    @property
    def may_have_several_events(self) -> bool:
        """
        Whether one envelope may have several events, by this spec or by an earlier one.

        The status may not have the actions of this spec yet, and never those of a spec between that nobody
        has seen.
        """
        earlier, unseen = self.status.archived_actions, self.metadata.generation
        unseen -= self.status.observed_generation or 0
        if earlier is None or unseen > 1:
            return True
        return _make_several_events({*self.spec.actions_with_events, *earlier})


Addressed = Callable[["Organization"], "Organization"]
"""Returns an Organization of the namespace ``with_address``."""


def address_path(name: str, *, namespace: str, own: str) -> str | None:
    """Return ``status.addressPath`` of an Organization of a namespace; None in the release's ``own``."""
    return None if namespace == own else f"{namespace}/{name}"


ARCHIVE_SHARED: Final = "ArchiveShared"
"""Reason of what waits because an Organization of another eSAW has the same folders. The Archive is ready."""


class ArchiveUse(NamedTuple):
    """
    The Organizations of a namespace, and its Archives.

    An Organization uses the Archives that its spec names: that is the same in each process. Its events may
    keep others, and its Imports name others. No envelope of another eSAW takes a place there that has a file
    or a manifest already (``claim_names``), so nobody waits for these.
    """

    organizations: Iterable[Organization]
    archive_of: Callable[[str], Archive | None]


def shared_folders(archive: Archive, use: ArchiveUse) -> tuple[Organization, ...]:
    """
    Return the Organizations of different eSAWs that have the same envelope folders in the Archive, or in
    another Archive of the same place; oldest first. Empty: no folder is shared.

    The ids of envelopes are unique in one eSAW only. Another one, by chance or by intent, lists the same id.
    """
    users = tuple(each for each, _ in _users(archive, use))
    return users if len({_esaw(each) for each in users}) > 1 else ()


def shared_archive_conflict(organization: Organization, archive: Archive, use: ArchiveUse) -> str | None:
    """Return why this Organization can't use the Archive: an older one of another eSAW has the same
    folders."""
    for other, named in _users(archive, use):
        if _age(other) < _age(organization) and _esaw(other) != _esaw(organization):
            return (
                f"{_has_the_folders(archive, other, named)} Organization/{organization.name} waits, so that "
                "neither replaces files of the other. Put {{organization}} before the file's part of "
                "spec.path, or let the Organization name another Archive."
            )
    return None


def import_archive_conflict(organization: Organization, archive: Archive, use: ArchiveUse) -> str | None:
    """
    Return why an Import of this Organization can't use the Archive: an Organization of another eSAW has the
    same folders.

    Also a younger one: its spec names them, and the spec of the Import's Organization does not.
    """
    for other, named in _users(archive, use):
        if _esaw(other) != _esaw(organization):
            return (
                f"{_has_the_folders(archive, other, named)} The Import waits, so that neither replaces files "
                "of the other. Put {{organization}} before the file's part of spec.path, or create an Import "
                "with another spec.archiveRef."
            )
    return None


def _has_the_folders(archive: Archive, other: Organization, named: str) -> str:
    # By a second Archive of the same place, the names alone do not show it.
    place = f" It names Archive/{named}, which is at the same place." if named != archive.name else ""
    return (
        f"Archive/{archive.name} has the same folders for Organization/{other.name}, which is of another "
        f"eSignAnyWhere.{place}"
    )


def _users(archive: Archive, use: ArchiveUse) -> tuple[tuple[Organization, str], ...]:
    """Return the Organizations whose envelopes have their folders here, oldest first, each with the Archive
    that it names; none if the path keeps them apart."""
    if archive.spec.separates_organizations:
        return ()
    users = []
    for each in use.organizations:
        used = filter(None, map(use.archive_of, archive_names(each.spec)))
        named = next((one.name for one in used if has_same_folders(one, archive)), None)
        if named is not None:
            users.append((each, named))
    return tuple(sorted(users, key=lambda user: _age(user[0])))


def _esaw(organization: Organization) -> str:
    """Return eSAW's origin; the base URL as it is if it has none, and nothing is archived from there."""
    try:
        return origin_of(organization.spec.base_url)
    except ValueError:
        return organization.spec.base_url


def _age(organization: Organization) -> tuple[datetime, str]:
    created = organization.metadata.creation_timestamp
    return created or datetime.max.replace(tzinfo=UTC), organization.name

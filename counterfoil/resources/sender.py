"""
Sender: one eSAW user who sends envelopes, and the state of this user's key. Envelope: who sent one envelope.

The key itself is in a Secret; the status has only its fingerprint. The name of an Envelope is the envelope
id, so that a lookup is one ``get``. The before-send page creates it. It is deleted after its event succeeded
and the time to live has passed.
"""

from datetime import datetime
from typing import Annotated, ClassVar

from counterfoil.origin import MAX_ORIGIN_LENGTH
from counterfoil.resources.base import (
    EMAIL_RULE,
    OBSERVED_GENERATION,
    ORGANIZATION_NAME,
    SENDER_NAME,
    LocalObjectReference,
    PrinterColumn,
    Resource,
    ResourcePart,
    ResourceWithComputedStatus,
    SecretKeyRef,
    ValidationRule,
    schema,
)
from counterfoil.resources.conditions import (
    UNREAD_SECRET_REASONS,
    Condition,
    condition_list,
    find_condition,
    unwritten_condition,
)
from counterfoil.resources.naming import ENVELOPE_ID_RULE
from counterfoil.resources.request import LastRequest, request_values


class SenderSpec(ResourcePart, frozen=True):
    """The user, and the source of the key."""

    RULES: ClassVar[tuple[ValidationRule, ...]] = (
        ValidationRule(
            "self.organizationRef == oldSelf.organizationRef",
            "organizationRef never changes, since the key belongs to it; create another Sender instead",
            field_path=".organizationRef",
        ),
        ValidationRule(
            "self.userID == oldSelf.userID",
            "userID never changes, since the key belongs to it; create another Sender instead",
            field_path=".userID",
        ),
    )

    organization_ref: Annotated[
        LocalObjectReference,
        schema(
            "The Organization (same namespace) that the user belongs to.", parts={"name": ORGANIZATION_NAME}
        ),
    ]
    user_id: Annotated[
        str,
        schema(
            "Id of the user in eSAW (`UserId` of whoami, `##SenderUserId##` of the before-send "
            "page). Example: 6d1f4a0b-8c1e-4b0e-a7c0-58a3b1f0c9d2.",
            ValidationRule(
                r"self.matches(r'^[^\s/]+$')",
                "userID is the id of the user in eSAW; it is not empty and has neither spaces nor slashes",
            ),
            maxLength=128,
        ),
    ]
    email: Annotated[
        str | None,
        schema(
            "Address for requests for consent. Example: jane.doe@acme.example.", EMAIL_RULE, maxLength=254
        ),
    ] = None
    given_name: Annotated[str | None, schema("Given name, for the salutation in mails.", maxLength=256)] = (
        None
    )
    surname: Annotated[str | None, schema("Family name, for the salutation in mails.", maxLength=256)] = None
    token_secret_ref: Annotated[
        SecretKeyRef | None,
        schema(
            "The key of a Secret (same namespace, label `counterfoil.dev/use=token`) with the "
            "user's API key in eSAW, for senders that work by API. Unset: Counterfoil obtains "
            "the key by the user's consent (OAuth)."
        ),
    ] = None
    suspend: Annotated[
        bool, schema("True suspends all events of this sender until the value is false again. Default false.")
    ] = False

    @property
    def full_name(self) -> str:
        """Given name and surname, as far as they are known."""
        return " ".join(part for part in (self.given_name, self.surname) if part)


class SenderKey(ResourcePart, frozen=True):
    """Public data about the key. It never contains the key."""

    secret_name: Annotated[str | None, schema("Name of the Secret that contains the key.", maxLength=253)] = (
        None
    )
    key_id: Annotated[
        str | None,
        schema(
            "Id of the sealing key that sealed the key. Unset for a key that the user supplies.",
            maxLength=253,
        ),
    ] = None
    fingerprint: Annotated[
        str | None,
        schema(
            "First 8 hex digits of the key's SHA-256, to distinguish keys.",
            maxLength=8,
            pattern="^[0-9a-f]{8}$",
        ),
    ] = None
    origin: Annotated[
        str | None,
        schema(
            "Origin of the eSAW that issued the key (consent), or that accepted it first. The "
            "key is sent to no other. Example: https://saas.esignanywhere.net.",
            maxLength=MAX_ORIGIN_LENGTH,
        ),
    ] = None
    obtained_time: Annotated[
        datetime | None, schema("Time at which the key was obtained (RFC 3339, UTC).")
    ] = None
    verified_time: Annotated[
        datetime | None, schema("Time at which eSAW last accepted the key (RFC 3339, UTC).")
    ] = None


class SenderStatus(ResourcePart, frozen=True):
    """State of the key, and the events that wait for it."""

    observed_generation: Annotated[int | None, OBSERVED_GENERATION] = None
    conditions: Annotated[
        tuple[Condition, ...],
        condition_list(
            "`Authorized`: whether eSAW accepts the key, as in `kubectl wait "
            "--for=condition=Authorized sender/NAME`. `Ready`: the key is usable for events. "
            "`Stalled`: a person has to act.",
            "Authorized",
        ),
    ] = ()
    key: SenderKey | None = None
    consent_url: Annotated[str | None, schema("Page on which the user gives a new key.", maxLength=2048)] = (
        None
    )
    notified_time: Annotated[
        datetime | None,
        schema("Time of the mail that asked the user for a new key (RFC 3339, UTC). One mail per problem."),
    ] = None
    notified_key: Annotated[
        str | None,
        schema(
            "Fingerprint of the key in this mail. A key that alternates between valid and "
            "invalid is one problem.",
            maxLength=8,
            pattern="^[0-9a-f]{8}$",
        ),
    ] = None
    mail_attempt_time: Annotated[
        datetime | None,
        schema(
            "Time at which a controller last began to send this mail (RFC 3339, UTC), so that no "
            "two controllers send it."
        ),
    ] = None
    escalated_time: Annotated[
        datetime | None,
        schema(
            "Time of the mail to the administrators about a user who does not react (RFC 3339, "
            "UTC). One mail per problem."
        ),
    ] = None
    mail_request_time: Annotated[
        datetime | None,
        schema(
            "Time at which a person last requested another mail to the user (RFC 3339, UTC), by "
            "the label counterfoil.dev/request with the value ask."
        ),
    ] = None
    waiting_events: Annotated[int, schema("Number of events that wait for a new key.", minimum=0)] = 0
    last_request: Annotated[
        LastRequest | None, schema(parts={"request": request_values("On a Sender: ask")})
    ] = None


class Sender(ResourceWithComputedStatus, frozen=True):
    """
    One user of eSignAnyWhere (eSAW) who sends envelopes, and the state of the user's API key. The key is in
    a Secret; this object contains only its fingerprint.
    """

    KIND: ClassVar[str] = "Sender"
    PLURAL: ClassVar[str] = "senders"
    SELECTABLE_FIELDS: ClassVar[tuple[str, ...]] = (
        ".spec.organizationRef.name",
        ".spec.userID",
    )
    COLUMNS: ClassVar[tuple[PrinterColumn, ...]] = (
        PrinterColumn("Organization", ".spec.organizationRef.name", "Organization of the user."),
        PrinterColumn(
            "Authorized",
            '.status.conditions[?(@.type=="Authorized")].status',
            "Whether eSignAnyWhere accepts the key.",
        ),
        PrinterColumn(
            "Ready",
            '.status.conditions[?(@.type=="Ready")].status',
            "Whether events of the user are processed.",
        ),
        PrinterColumn(
            "Reason", '.status.conditions[?(@.type=="Ready")].reason', "Reason of the condition Ready."
        ),
        PrinterColumn(
            "Waiting", ".status.waitingEvents", "Number of events that wait for a new key.", type="integer"
        ),
        PrinterColumn(
            "Verified",
            ".status.key.verifiedTime",
            "Time since eSignAnyWhere last accepted the key.",
            type="date",
        ),
        PrinterColumn(
            "Age", ".metadata.creationTimestamp", "Time since the Sender was created.", type="date"
        ),
        PrinterColumn("User", ".spec.userID", "Id of the user in eSignAnyWhere.", is_wide=True),
        PrinterColumn("Email", ".spec.email", "Address of the user.", is_wide=True),
        PrinterColumn(
            "Fingerprint", ".status.key.fingerprint", "First 8 hex digits of the key's SHA-256.", is_wide=True
        ),
    )

    RULES: ClassVar[tuple[ValidationRule, ...]] = (
        ValidationRule(
            "self.metadata.name.size() <= 63",
            "the name of a Sender has at most 63 characters, since it becomes the value of a label",
        ),
    )

    # Without it the key would belong to no origin, and be sent to the next one.
    KEPT_STATUS: ClassVar[frozenset[str]] = frozenset({"key"})

    spec: SenderSpec
    status: SenderStatus = SenderStatus()

    @property
    def key_fingerprint(self) -> str | None:
        """The fingerprint of the key in the status; None: no key is known."""
        return self.status.key.fingerprint if self.status.key is not None else None

    @property
    def is_key_unread(self) -> bool:
        """Whether the Secret of the key can't be read. What eSAW said of the key is as before."""
        authorized = find_condition(self.status.conditions, "Authorized")
        if authorized is None or authorized.status != "Unknown":
            return False
        return authorized.reason in UNREAD_SECRET_REASONS


# -- Who sent an envelope ------------------------------------------------------------------------------------


class EnvelopeSpec(ResourcePart, frozen=True):
    """The envelope and its sender. They never change; `draftID` and `sentTime` may be added once."""

    RULES: ClassVar[tuple[ValidationRule, ...]] = (
        ValidationRule(
            "self.organizationRef == oldSelf.organizationRef && self.envelopeID == "
            "oldSelf.envelopeID && self.senderRef == oldSelf.senderRef",
            "who sent an envelope never changes; only draftID and sentTime may be added",
        ),
        ValidationRule(
            "!has(oldSelf.draftID) || (has(self.draftID) && self.draftID == oldSelf.draftID)",
            "draftID is set once and never changes after that",
            field_path=".draftID",
        ),
        ValidationRule(
            "!has(oldSelf.sentTime) || (has(self.sentTime) && self.sentTime == oldSelf.sentTime)",
            "sentTime is set once and never changes after that",
            field_path=".sentTime",
        ),
    )

    organization_ref: Annotated[
        LocalObjectReference,
        schema("The Organization (same namespace) of the envelope.", parts={"name": ORGANIZATION_NAME}),
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
    sender_ref: Annotated[
        LocalObjectReference,
        schema("The Sender (same namespace) of the envelope.", parts={"name": SENDER_NAME}),
    ]
    draft_id: Annotated[
        str | None,
        schema(
            "Id of the draft of the envelope, if the before-send page sent it. All envelopes of "
            "a bulk have the same.",
            minLength=1,
            maxLength=128,
        ),
    ] = None
    sent_time: Annotated[datetime | None, schema("Time at which the envelope was sent (RFC 3339, UTC).")] = (
        None
    )


class EnvelopeConditions(ResourcePart, frozen=True):
    """
    State for tools that read conditions, as kstatus does. The schema sets it: an Envelope is complete from
    its creation, so nobody writes to it.
    """

    conditions: Annotated[
        tuple[Condition, ...],
        condition_list(
            "`Ready`: always True. `Stalled`: always False.",
            "Ready",
            unwritten_condition("Ready", "True", "SenderRecorded", "The sender of the envelope is recorded."),
            unwritten_condition("Stalled", "False", "NotStalled", "Nobody has to act."),
        ),
    ] = ()


class Envelope(Resource, frozen=True):
    """
    The sender of one envelope of eSignAnyWhere (eSAW). Only its sender can read and delete an envelope. The
    name of the object is the envelope id. The before-send page creates it. It is kept until its event
    succeeded and the time to live has passed.
    """

    KIND: ClassVar[str] = "Envelope"
    PLURAL: ClassVar[str] = "envelopes"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ("env",)
    CATEGORIES: ClassVar[tuple[str, ...]] = ()
    COLUMNS: ClassVar[tuple[PrinterColumn, ...]] = (
        PrinterColumn("Organization", ".spec.organizationRef.name", "Organization of the envelope."),
        PrinterColumn("Sender", ".spec.senderRef.name", "Sender of the envelope."),
        PrinterColumn("Sent", ".spec.sentTime", "Time since the envelope was sent.", type="date"),
        PrinterColumn(
            "Age", ".metadata.creationTimestamp", "Time since the Envelope was created.", type="date"
        ),
        PrinterColumn("Draft", ".spec.draftID", "Id of the draft of the envelope.", is_wide=True),
    )

    RULES: ClassVar[tuple[ValidationRule, ...]] = (
        ValidationRule(
            "self.metadata.name == self.spec.envelopeID", "the name of an Envelope is its spec.envelopeID"
        ),
    )

    spec: EnvelopeSpec
    status: EnvelopeConditions = EnvelopeConditions()

"""
Sender: one eSAW user who sends envelopes, and the state of this user's key.

The key itself is in a Secret; the status has only its fingerprint.
"""

from datetime import datetime
from typing import Annotated, ClassVar

from counterfoil.origin import MAX_ORIGIN_LENGTH
from counterfoil.resources.base import (
    EMAIL_RULE,
    OBSERVED_GENERATION,
    ORGANIZATION_NAME,
    LocalObjectReference,
    PrinterColumn,
    Resource,
    ResourcePart,
    SecretKeyRef,
    ValidationRule,
    schema,
)
from counterfoil.resources.conditions import Condition, condition_list
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


class Sender(Resource, frozen=True):
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

    spec: SenderSpec
    status: SenderStatus = SenderStatus()

"""
Envelope: the sender of one envelope. Its name is the envelope id, so that a lookup is one ``get``.

The before-send page creates it. It is deleted after its event succeeded and the time to live has passed.
"""

from datetime import datetime
from typing import Annotated, ClassVar

from counterfoil.resources.base import (
    ORGANIZATION_NAME,
    SENDER_NAME,
    LocalObjectReference,
    PrinterColumn,
    Resource,
    ResourcePart,
    ValidationRule,
    schema,
)
from counterfoil.resources.conditions import Condition, condition_list, unwritten_condition
from counterfoil.resources.naming import ENVELOPE_ID_RULE


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

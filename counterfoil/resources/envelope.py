"""
Envelope: the sender of one envelope. Its name is the envelope id, so that a lookup is one ``get``.

The before-send page creates it. It is deleted after its event succeeded and the time to live has passed.
"""

from datetime import datetime
from typing import ClassVar

from counterfoil.resources.base import LocalObjectReference, Resource, ResourcePart
from counterfoil.resources.conditions import Condition


class EnvelopeSpec(ResourcePart, frozen=True):
    """The envelope and its sender."""

    organization_ref: LocalObjectReference
    envelope_id: str
    sender_ref: LocalObjectReference
    draft_id: str | None = None
    sent_time: datetime | None = None


class EnvelopeConditions(ResourcePart, frozen=True):
    """The conditions that the schema sets: an Envelope is complete from its creation, and nobody writes to
    it."""

    conditions: tuple[Condition, ...] = ()


class Envelope(Resource, frozen=True):
    """One sent envelope as a Kubernetes object (``kubectl get env``)."""

    KIND: ClassVar[str] = "Envelope"
    PLURAL: ClassVar[str] = "envelopes"

    spec: EnvelopeSpec
    status: EnvelopeConditions = EnvelopeConditions()

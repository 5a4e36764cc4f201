"""
Sender: one eSAW user who sends envelopes, and the state of this user's key.

The key itself is in a Secret; the status has only its fingerprint.
"""

from datetime import datetime
from typing import ClassVar

from counterfoil.resources.base import LocalObjectReference, Resource, ResourcePart, SecretKeyRef
from counterfoil.resources.conditions import Condition
from counterfoil.resources.request import LastRequest


class SenderSpec(ResourcePart, frozen=True):
    """Identity of the user, and the source of the key: a Secret (``tokenSecretRef``) or consent."""

    organization_ref: LocalObjectReference
    user_id: str
    email: str | None = None
    given_name: str | None = None
    surname: str | None = None
    token_secret_ref: SecretKeyRef | None = None
    suspend: bool = False

    @property
    def full_name(self) -> str:
        """Given name and surname, as far as they are known."""
        return " ".join(part for part in (self.given_name, self.surname) if part)


class SenderKey(ResourcePart, frozen=True):
    """Public data of the key, without the key."""

    secret_name: str | None = None
    key_id: str | None = None
    fingerprint: str | None = None
    origin: str | None = None
    """Origin of the eSAW that issued the key, or that accepted it first; it is sent to no other."""
    obtained_time: datetime | None = None
    verified_time: datetime | None = None


class SenderStatus(ResourcePart, frozen=True):
    """State of the key, and the number of events that wait for it."""

    observed_generation: int | None = None
    conditions: tuple[Condition, ...] = ()
    key: SenderKey | None = None
    consent_url: str | None = None
    notified_time: datetime | None = None
    notified_key: str | None = None
    mail_attempt_time: datetime | None = None
    escalated_time: datetime | None = None
    mail_request_time: datetime | None = None
    """Time of a person's last request for another mail to the user (the request ``ask``)."""
    waiting_events: int = 0
    last_request: LastRequest | None = None


class Sender(Resource, frozen=True):
    """One eSAW user who sends envelopes as a Kubernetes object (``kubectl get senders``)."""

    KIND: ClassVar[str] = "Sender"
    PLURAL: ClassVar[str] = "senders"

    spec: SenderSpec
    status: SenderStatus = SenderStatus()

"""
Look up the sender of an event again that waits or failed because of a sender who may be the wrong one.

Without an Envelope, an event belongs to the Organization's default Sender. The before-send page can record
the Envelope later, also after the event was parked for the default Sender's key. The garbage collector reads
each event and calls ``reopen_if_recorded``. If an Envelope names another Sender by then, the event starts
again.
"""

from dataclasses import dataclass
from typing import Final

from controller.retry.reopener import Reopener
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import NotFound
from counterfoil.resources import SENDER_LABEL, Envelope, EnvelopeEvent, Phase, ResourceInvalid

SENDER_MAY_BE_WRONG: Final = frozenset({"SenderSuspended", "EnvelopeNotFound"})
"""Reasons that another Sender may solve, in addition to the phase ``AwaitingConsent``."""


@dataclass(frozen=True)
class LateSenderFinder:
    """Compares the Sender of an event with the one that its Envelope names by now."""

    kube: KubeClient
    reopener: Reopener

    async def reopen_if_recorded(self, event: EnvelopeEvent) -> EnvelopeEvent:
        """Re-open an event whose Envelope names another Sender; return its newest state. Raises
        ``ApiError``."""
        phase, cause = event.status.phase, event.status.cause
        is_parked = phase is Phase.AWAITING_CONSENT or cause in SENDER_MAY_BE_WRONG
        if phase in (Phase.SUCCEEDED, Phase.SKIPPED) or not (is_parked or cause == "SenderUnknown"):
            return event
        sender = await self._recorded_sender(event)
        if sender is None or (is_parked and sender == event.metadata.labels.get(SENDER_LABEL)):
            return event
        message = f"Envelope/{event.spec.envelope_id} names Sender/{sender}; the event starts again."
        return await self.reopener.reopen(event, "OtherSenderRecorded", message)

    async def _recorded_sender(self, event: EnvelopeEvent) -> str | None:
        try:
            envelope = Envelope.parse(await self.kube.get(Envelope, event.spec.envelope_id))
        except (NotFound, ResourceInvalid):
            return None
        # Two Organizations may be two eSAWs, and both may know an envelope of this id.
        is_same = envelope.spec.organization_ref.name == event.organization
        return envelope.spec.sender_ref.name if is_same else None

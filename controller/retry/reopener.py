"""
Let finished or parked events start again: store it, and find those of the default Sender that start again.

A newer state of an event wins, and a refusal by the API server costs this event only. Without an Envelope, an
event belongs to the Organization's default Sender. The before-send page can record the Envelope later, also
after the event was parked for the default Sender's key. The garbage collector reads each event and calls
``reopen_if_recorded``. If an Envelope names another Sender by then, the event starts again.
"""

import logging
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from controller.cache import Cache
from controller.envelopes import read_envelope, recorded_sender
from controller.event_recorder import EventRecorder
from controller.reader import KeyState
from counterfoil.clock import Clock
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import Forbidden, Rejected
from counterfoil.kube.status import StatusWriter, Superseded
from counterfoil.resources import (
    SENDER_LABEL,
    EnvelopeEvent,
    EnvelopeEventStatus,
    Phase,
)
from counterfoil.resources.reopening import reopened_status

_log = logging.getLogger(__name__)

SENDER_MAY_BE_WRONG: Final = frozenset({"SenderSuspended", "EnvelopeNotFound"})
"""Reasons that another Sender may solve, in addition to the phase ``AwaitingConsent``."""


@dataclass(frozen=True)
class Reopener:
    """Writes the status of finished events."""

    status_writer: StatusWriter
    event_recorder: EventRecorder
    clock: Clock

    async def reopen(self, event: EnvelopeEvent, reason: str, message: str) -> EnvelopeEvent:
        """Let an event start again, and record why; return as ``store``. Raises ``ApiError``."""
        now = self.clock.now()
        status = reopened_status(event.status, reason=reason, message=message, now=now)
        # Each key is tried again: another eSignAnyWhere may show what the former one did not.
        status = replace(status, not_shown_to=())
        stored = await self.store(event, status)
        if stored is not event:
            self.event_recorder.record(stored, reason, message, action="Reopen")
        return stored

    async def store(self, event: EnvelopeEvent, status: EnvelopeEventStatus) -> EnvelopeEvent:
        """
        Store a status and return the event as stored; the given event if nothing was stored.

        Nothing is stored if another client changed or deleted the event, or if the API server refuses the
        status: it would refuse each repeated write. Raises ``ApiError``.
        """
        try:
            return await self.status_writer.store(event, status)
        except Superseded:
            return event
        except (Forbidden, Rejected) as refused:
            _log.warning("an event can't be changed: %s", refused, extra={"event": event.name})
            return event


@dataclass(frozen=True)
class LateSenderFinder:
    """Compares the Sender of an event with the one that its Envelope names by now."""

    kube: KubeClient
    reopener: Reopener
    cache: Cache

    async def reopen_if_recorded(self, event: EnvelopeEvent) -> EnvelopeEvent:
        """Re-open an event whose Envelope names another Sender; return its newest state. Raises
        ``ApiError``."""
        phase, cause = event.status.phase, event.status.cause
        is_parked = phase is Phase.AWAITING_CONSENT or cause in SENDER_MAY_BE_WRONG
        if phase in (Phase.SUCCEEDED, Phase.SKIPPED) or not (is_parked or cause == "SenderUnknown"):
            return event
        sender = recorded_sender(await read_envelope(self.kube, event), event)
        if sender is None or (is_parked and sender == event.metadata.labels.get(SENDER_LABEL)):
            return event
        if self.cache.key_state(event, sender) is KeyState.NOT_SHOWN:
            # It was tried, and the event ended with another key.
            return event
        message = f"Envelope/{event.spec.envelope_id} names Sender/{sender}; the event starts again."
        return await self.reopener.reopen(event, "OtherSenderRecorded", message)

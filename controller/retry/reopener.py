"""
Store that a finished event starts again. A newer state of the event wins, and a refusal by the API server
costs this event only.
"""

import logging
from dataclasses import dataclass

from controller.event_recorder import EventRecorder
from counterfoil.clock import Clock
from counterfoil.kube.errors import Forbidden, Rejected
from counterfoil.kube.status import StatusWriter, Superseded
from counterfoil.resources import EnvelopeEvent, EnvelopeEventStatus
from counterfoil.resources.reopening import reopened_status

_log = logging.getLogger(__name__)


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

"""
Let finished or parked events start again: store it, and find those that a late Envelope starts again.

A newer state of an event wins, and a refusal by the API server costs this event only. Without an Envelope, an
event belongs to the Organization's default Sender. The before-send page can record the Envelope later, also
after the event was parked for the default Sender's key. The garbage collector reads each event and calls
``reopen_if_recorded``. The event starts again if ``controller.reader`` says that the Sender of the Envelope
reads next, and if its key was not tried: else the event would start again in each pass. It also starts, once,
to wait for a Sender that is suspended, or whose key is refused: then this one has to act, and no other.
"""

import logging
import math
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from msgspec.structs import replace

from controller.cache import Cache
from controller.envelopes import read_envelope, recorded_sender
from controller.event_recorder import EventRecorder
from controller.reader import claims_of, is_next_by_envelope, to_try_again
from controller.scheduling.due import is_held_by_action, is_suspended
from controller.scheduling.retry_policy import are_tries_spent, longest_backoff
from counterfoil.archives.proof import missing_copies
from counterfoil.clock import Clock, believed_time
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import Forbidden, Rejected
from counterfoil.kube.status import StatusWriter, Superseded
from counterfoil.resources import (
    ORGANIZATION_LABEL,
    SENDER_LABEL,
    EnvelopeEvent,
    EnvelopeEventStatus,
    Phase,
)
from counterfoil.resources.envelopeevent import SENDER_PENDING
from counterfoil.resources.reopening import (
    is_refused_to_key,
    reopened_status,
    retries_copies,
    status_for_copy_retry,
)
from counterfoil.resources.routes import stored_copy

_log = logging.getLogger(__name__)

SENDER_MAY_BE_WRONG: Final = frozenset({"SenderMissing", "SenderSuspended", "EnvelopeNotFound"})
"""Reasons that another Sender may solve, in addition to the phase ``AwaitingConsent``."""

MAX_RETRIED: Final = 1_000
"""Maximum number of events of one Organization that try a copy for one Archive again at a time, for which
nothing waits. Each is in memory until then, some KiB, and no time to live removes it."""

RETRY_SECONDS: Final = 2 * 3600.0
"""Time after which such an event has ended: it waits an hour at most for room in the Archive of its copy."""

COUNT_SECONDS: Final = 60.0
"""Interval at which the events that make copies are counted, while as many as ``MAX_RETRIED`` may do so."""


@dataclass(frozen=True)
class Reopener:
    """Writes the status of finished events."""

    status_writer: StatusWriter
    event_recorder: EventRecorder
    clock: Clock

    async def reopen(self, event: EnvelopeEvent, reason: str, message: str) -> EnvelopeEvent:
        """Let an event start again, and record why; return as ``store``. The keys to which eSAW did not show
        the envelope stay known. Raises ``ApiError``."""
        return await self._reopen(event, event.status, reason, message)

    async def reopen_after_fix(self, event: EnvelopeEvent, reason: str, message: str) -> EnvelopeEvent:
        """Do as ``reopen``, and let each key be tried again: another eSignAnyWhere may show what the former
        one did not. Raises ``ApiError``."""
        again = replace(event.status, not_shown_to=to_try_again(event.status.not_shown_to))
        return await self._reopen(event, again, reason, message)

    async def _reopen(
        self, event: EnvelopeEvent, known: EnvelopeEventStatus, reason: str, message: str
    ) -> EnvelopeEvent:
        status = reopened_status(known, reason=reason, message=message, now=self.clock.now())
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


@dataclass
class CopyRetrier:
    """Lets events that lack a copy for which nothing waits try it again, some at a time."""

    kube: KubeClient
    reopener: Reopener
    cache: Cache
    clock: Clock
    most: int = MAX_RETRIED
    _started: dict[tuple[str, str], deque[float]] = field(default_factory=dict)
    """By Organization and Archive: the monotonic times of the last starts, ``most`` of them."""
    _copying: Counter[str] = field(default_factory=Counter)
    """By Organization: the number of events that make copies."""
    _counted: float = -math.inf
    """Monotonic time of that count."""

    async def retry_if_due(self, event: EnvelopeEvent) -> EnvelopeEvent:
        """Start the copies of an event of which one is due; return its newest state. Raises ``ApiError``."""
        now = self.clock.now()
        if not retries_copies(event.status) or not (due := self._due_copies(event, now)):
            return event
        if (archive := await self._archive_with_room(event.organization, due)) is None:
            return event
        stored = await self.reopener.store(event, status_for_copy_retry(event.status, now=now))
        if stored is not event:
            self._copying[event.organization] += 1
            started = self._started.setdefault((event.organization, archive), deque(maxlen=self.most))
            started.append(self.clock.monotonic())
        return stored

    async def _archive_with_room(self, organization: str, archives: Sequence[str]) -> str | None:
        """
        Return the first of these Archives for which one more event may be in memory to make its copy.

        The count has events for other Archives, which may be full, and those that wait for copies since a
        callback. So it decides only after many starts for each of these. Raises ``ApiError``.
        """
        few = next((each for each in archives if self._has_few_starts(organization, each)), None)
        if few is not None:
            return few
        now = self.clock.monotonic()
        if now - self._counted >= COUNT_SECONDS:
            fields = f"status.phase={Phase.COPYING}"
            self._copying = await self.kube.count_by_label(EnvelopeEvent, ORGANIZATION_LABEL, fields)
            self._counted = now
        return archives[0] if self._copying[organization] < self.most else None

    def _has_few_starts(self, organization: str, archive: str) -> bool:
        started = self._started.get((organization, archive))
        if started is None or len(started) < self.most:
            return True
        return self.clock.monotonic() - started[0] >= RETRY_SECONDS

    def _due_copies(self, event: EnvelopeEvent, now: datetime) -> tuple[str, ...]:
        """Return the Archives of the copies that are due."""
        organization = self.cache.organizations.get(event.organization)
        if organization is None or is_suspended(event, self.cache) or self._is_sender_suspended(event):
            return ()
        if is_held_by_action(event, organization.spec):
            return ()
        retry = organization.spec.retry
        return tuple(
            name
            for name in missing_copies(event.status, organization.spec.copies)
            if (copy := stored_copy(event.status, name))
            and not are_tries_spent(copy.attempts, retry)
            # It is tried once nobody suspends it, and no attempt counts until then.
            and not self.cache.is_archive_suspended(name)
            and (believed_time(copy.next_attempt_time, now, ahead=longest_backoff(retry)) or now) <= now
        )

    def _is_sender_suspended(self, event: EnvelopeEvent) -> bool:
        sender = self.cache.senders.get(event.metadata.labels.get(SENDER_LABEL, ""))
        return sender is not None and sender.spec.suspend


@dataclass(frozen=True)
class LateSenderFinder:
    """Compares the Sender of an event with the one that reads it by the Envelope of now."""

    kube: KubeClient
    reopener: Reopener
    cache: Cache

    async def reopen_if_recorded(self, event: EnvelopeEvent) -> EnvelopeEvent:
        """Re-open an event that another Sender reads by now, since its Envelope names that one; return its
        newest state. Raises ``ApiError``."""
        phase, cause = event.status.phase, event.status.cause
        is_parked = phase is Phase.AWAITING_CONSENT or cause in SENDER_MAY_BE_WRONG
        is_parked = is_parked or is_refused_to_key(event.status)
        is_without_sender = cause in ("SenderUnknown", SENDER_PENDING)
        if phase in (Phase.SUCCEEDED, Phase.SKIPPED) or not (is_parked or is_without_sender):
            return event
        sender = recorded_sender(await read_envelope(self.kube, event), event)
        # The label has the Sender for which it waits, or whose key was asked last.
        if sender is None or (is_parked and sender == event.metadata.labels.get(SENDER_LABEL)):
            return event
        organization = self.cache.organizations.get(event.organization)
        claims = claims_of(event, organization, recorded=sender, finder=None)
        if not is_next_by_envelope(event, claims, self.cache.senders.get):
            return event
        message = f"Envelope/{event.spec.envelope_id} names Sender/{sender}; the event starts again."
        return await self.reopener.reopen(event, "OtherSenderRecorded", message)

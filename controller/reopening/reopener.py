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
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from msgspec.structs import replace

from controller.cache import Cache
from controller.envelopes import read_envelope, recorded_sender
from controller.event_recorder import EventRecorder
from controller.reader import claims_of, is_next_by_envelope, to_try_again
from controller.scheduling.due import WAITING_FOR_ARCHIVE, are_copies_held
from controller.scheduling.retry_policy import is_copy_due
from counterfoil.archives.proof import missing_copies
from counterfoil.clock import Clock
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import Forbidden, Rejected
from counterfoil.kube.status import StatusWriter, Superseded
from counterfoil.resources import (
    SENDER_LABEL,
    EnvelopeEvent,
    EnvelopeEventStatus,
    OrganizationSpec,
    Phase,
)
from counterfoil.resources.envelopeevent import SENDER_PENDING
from counterfoil.resources.reopening import (
    is_refused_to_key,
    reopened_status,
    retries_copies,
    status_for_copy_retry,
)
from counterfoil.resources.routes import stored_copy, wanted_copies, with_copy

_log = logging.getLogger(__name__)

SENDER_MAY_BE_WRONG: Final = frozenset({"SenderMissing", "SenderSuspended", "EnvelopeNotFound"})
"""Reasons that another Sender may solve, in addition to the phase ``AwaitingConsent``."""

MAX_RETRIED: Final = 1_000
"""Maximum number of events of one Organization that were started to make a copy in one Archive, for which
nothing waits, and still make copies. Each is in memory until then, some KiB, and no time to live removes
it."""

LOOK_SECONDS: Final = 10.0
"""Interval at which it is determined which of these events have ended, while copies are due."""


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
    _started: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    """By Organization and Archive: the names of the events that were started to make a copy there, and made
    copies when this was last determined. An event may be there for several Archives."""
    _looked: float = -math.inf
    """When that was determined, by the monotonic clock."""

    async def retry_if_due(self, event: EnvelopeEvent) -> EnvelopeEvent:
        """
        Start the copies of an event that are due; return its newest state. Raises ``ApiError``.

        It tries those for which there is room. The others are put off: else it would wait for an Archive that
        is full, in memory and beside the events that are counted there.
        """
        now, organization = self.clock.now(), self.cache.organizations.get(event.organization)
        if organization is None or not retries_copies(event.status):
            return event
        if not (due := self._due_copies(event, organization.spec, now)):
            return event
        await self._forget_ended()
        started = [self._started.get((event.organization, each), set()) for each in due]
        full = [name for name, names in zip(due, started, strict=True) if len(names) >= self.most]
        if len(full) == len(due):
            return event
        until = now + organization.spec.retry.max
        status = _with_copies_put_off(event.status, organization.spec, full, until) if full else event.status
        stored = await self.reopener.store(event, status_for_copy_retry(status, now=now))
        if stored is not event:
            for archive in set(due) - set(full):
                self._started.setdefault((event.organization, archive), set()).add(event.name)
        return stored

    async def _forget_ended(self) -> None:
        """
        Remove the events that make no copies any more, also those that were deleted. Raises ``ApiError``.

        Another process may work on them, so the API server is asked. It may be a moment behind, so that an
        event which was started just before may not be counted.
        """
        now = self.clock.monotonic()
        if not self._started or now - self._looked < LOOK_SECONDS:
            return
        try:
            copying = await self.kube.names(EnvelopeEvent, f"status.phase={Phase.COPYING}")
        finally:
            # Also after an error: it is not asked for each event that is due.
            self._looked = self.clock.monotonic()
        left = {key: names & copying for key, names in self._started.items()}
        self._started = {key: names for key, names in left.items() if names}

    def _due_copies(self, event: EnvelopeEvent, spec: OrganizationSpec, now: datetime) -> tuple[str, ...]:
        """Return the Archives of the copies that are due."""
        if are_copies_held(event, spec, self.cache):
            return ()
        retry = spec.retry
        return tuple(
            name
            for name in missing_copies(event.status, spec.copies)
            if (copy := stored_copy(event.status, name))
            and not retry.are_tries_spent(copy.attempts)
            # It is tried once nobody suspends it, and no attempt counts until then.
            and not self.cache.is_archive_suspended(name)
            and is_copy_due(copy, retry, now=now)
        )


def _with_copies_put_off(
    status: EnvelopeEventStatus, spec: OrganizationSpec, archives: Sequence[str], until: datetime
) -> EnvelopeEventStatus:
    """Return the status in which the copies in these Archives are due at ``until``, as after a run that found
    no room for them. The reason of an earlier try stays."""
    copies = wanted_copies(status, spec)
    for archive in archives:
        entry = stored_copy(status, archive)
        put_off = replace(
            entry,
            reason=entry.reason or WAITING_FOR_ARCHIVE,
            message=entry.message or f"Many other copies wait for Archive/{archive}. It is tried again.",
            next_attempt_time=until,
        )
        copies = with_copy(copies, put_off)
    return replace(status, copies=copies)


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

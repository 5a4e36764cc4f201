"""
The sweep: find finished envelopes whose callback is missing, by asking eSAW for each authorised sender.

eSAW searches by the time of *sending*, and an envelope may take weeks to sign. So each sweep covers the whole
look-back, in windows of a day. eSAW's answer has no paging: one that may be cut off splits its window.

Each envelope becomes the same deterministic event that its callback would create (``origin: Sweep``), so an
envelope is never processed twice: events are kept at least for the look-back. An event that ended in Skipped
starts again, unless a person skipped it or it was settled in the status that the envelope still has.

It runs at its interval, and when a person requests it by the label ``counterfoil.dev/request``.
"""

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from controller.access.sender_keys import KeyUnusable, SenderKeys
from controller.cache import Cache
from counterfoil import tracing
from counterfoil.clock import Clock
from counterfoil.esaw.client import EsawUserClient
from counterfoil.esaw.errors import EsawError, HttpStatusError, ResponseTooLarge
from counterfoil.esaw.registry import EsawClients
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import AlreadyExists, NotFound
from counterfoil.kube.status import write_status_or_skip
from counterfoil.metrics import Metrics
from counterfoil.resources import (
    EnvelopeEvent,
    EnvelopeStatus,
    Organization,
    Origin,
    Phase,
    ResourceInvalid,
    Sender,
    envelope_id,
    event_name,
)
from counterfoil.resources.event_factory import new_event
from counterfoil.resources.naming import EnvelopeId
from counterfoil.resources.reopening import reopened_status

_log = logging.getLogger(__name__)

WINDOW = timedelta(days=1)
"""Time of sending that one request covers."""

OVERLAP = timedelta(seconds=1)
"""Time by which windows overlap: eSAW may leave out their very ends, or cut fractions of a second."""

TRUSTED_HITS = 50
"""Number of hits from which an answer may be cut off. eSAW documents no maximum."""

MIN_WINDOW = timedelta(minutes=1)
"""Window that is not split further: no sender sends fifty envelopes within it."""


class SweepOutcome(NamedTuple):
    """The outcome of one sweep."""

    created: int
    """Number of events that were new."""
    skipped: tuple[str, ...] = ()
    """Names of the Senders whose envelopes could not be asked for."""


@dataclass(frozen=True)
class MissedCallbackFinder:
    """Finds finished envelopes without an event."""

    kube: KubeClient
    cache: Cache
    sender_keys: SenderKeys
    esaw_clients: EsawClients
    clock: Clock
    metrics: Metrics

    async def sweep(self, organization: Organization) -> SweepOutcome:
        """
        Ask for all authorised senders of the organization.

        A sender whose envelopes can't be asked for now is skipped until the next sweep. Raises ``ApiError``.
        """
        action = organization.spec.archive_action
        if action is None:
            return SweepOutcome(0)
        created, skipped = 0, list[str]()
        for sender in self.cache.authorized_senders(organization.name):
            try:
                created += await self._sweep_sender(organization, sender, action)
            except (EsawError, KeyUnusable) as problem:
                _log.info("the sweep skipped a sender: %s", problem, extra={"sender": sender.name})
                skipped.append(sender.name)
        return SweepOutcome(created, tuple(skipped))

    async def _sweep_sender(self, organization: Organization, sender: Sender, action: str) -> int:
        esaw = self.esaw_clients.for_organization(organization)
        token = await self.sender_keys.key(sender, esaw)
        user, seen, created = esaw.as_user(token), set[str](), 0
        try:
            async for found, status in self._find(organization, user):
                if found in seen:
                    continue
                seen.add(found)
                envelope = _guid(found, sender)
                if envelope is None or await self._exists(organization, envelope, action, status):
                    continue
                created += await self._create_event(organization, sender, envelope, action)
        except HttpStatusError as answer:
            if answer.status == 401 and answer.error_id is None:
                self.sender_keys.doubt(sender, token)
            elif answer.status == 401:
                await self.sender_keys.refused(sender, token)
            raise
        return created

    async def _find(
        self, organization: Organization, user: EsawUserClient
    ) -> AsyncIterator[tuple[str, EnvelopeStatus]]:
        """Yield id and status of all envelopes in the look-back, newest first, some more than once."""
        end = self.clock.now()
        oldest = end - organization.spec.sweep.lookback
        while end > oldest:
            start = max(end - WINDOW, oldest)
            for status in organization.spec.statuses:
                for found in await _find_between(user, status, start, end):
                    yield found, status
            end = start

    async def _exists(
        self, organization: Organization, envelope: EnvelopeId, action: str, status: EnvelopeStatus
    ) -> bool:
        """Whether the name of the envelope's event is taken. A Skipped event starts again, if that may end
        otherwise."""
        try:
            raw = await self.kube.get(EnvelopeEvent, event_name(organization.name, envelope, action))
            event = EnvelopeEvent.parse(raw)
        except NotFound:
            return False
        except ResourceInvalid as invalid:
            _log.warning("an event can't be read: %s", invalid)
            return True
        if event.spec.subject != (organization.name, envelope, action, ""):
            self.metrics.event_mismatches.labels(organization.name).inc()
            _log.error(
                "the sweep can't create the event of an envelope: the event of that name is about another "
                "callback. Delete it if it was made by hand.",
                extra={"organization": organization.name, "event": event.name},
            )
            return True
        if event.status.phase is Phase.SKIPPED and not _is_settled(event, status):
            await self._reopen(event)
        return True

    async def _reopen(self, event: EnvelopeEvent) -> None:
        message = f"The sweep found the envelope after the event was skipped ({event.status.reason})."
        status = reopened_status(event.status, reason="FoundBySweep", message=message, now=self.clock.now())
        # Not enqueued here: the watch delivers it to the controller of its shard (rule 5).
        if await write_status_or_skip(self.kube, event, status) is not None:
            _log.info("the sweep re-opened a skipped event", extra={"event": event.name})

    async def _create_event(
        self, organization: Organization, sender: Sender, envelope: EnvelopeId, action: str
    ) -> int:
        with tracing.span("sweep", organization=organization.name, envelope=envelope) as step:
            event = new_event(
                organization=organization.name,
                envelope=envelope,
                action=action,
                origin=Origin.SWEEP,
                sender=sender.name,
                traceparent=step.traceparent,
            )
            try:
                await self.kube.create(EnvelopeEvent, event)
            except AlreadyExists:
                return 0
        self.metrics.sweep_found.labels(organization.name).inc()
        _log.info("the sweep found an envelope without a callback", extra={"envelope": envelope})
        return 1


def _is_settled(event: EnvelopeEvent, found: EnvelopeStatus) -> bool:
    """Whether a person skipped the event, or it would end in the same way again: in this status."""
    if event.status.reason in ("ArchivedAsExpired", "NoFinishedDocuments"):
        return event.status.envelope is not None and event.status.envelope.status == found
    return event.status.reason == "SkippedByRequest"


def _guid(found: str, sender: Sender) -> EnvelopeId | None:
    try:
        return envelope_id(found)
    except ValueError:
        _log.warning("eSAW listed an envelope without a GUID in the sweep", extra={"sender": sender.name})
        return None


async def _find_between(
    user: EsawUserClient, status: EnvelopeStatus, start: datetime, end: datetime
) -> list[str]:
    """Return the ids of the envelopes sent in this window; split it if the answer may be cut off."""
    is_smallest = end - start <= MIN_WINDOW
    try:
        found = [hit.id for hit in await user.find(status=status, start=start - OVERLAP, end=end)]
    except ResponseTooLarge:
        if is_smallest:
            raise
        found = []
    else:
        if len(found) < TRUSTED_HITS:
            return found
    if is_smallest:
        _log.warning("eSAW's answer to the sweep may be cut off: %d envelopes in a minute", len(found))
        return found
    middle = start + (end - start) / 2
    return [
        *found,
        *await _find_between(user, status, start, middle),
        *await _find_between(user, status, middle, end),
    ]

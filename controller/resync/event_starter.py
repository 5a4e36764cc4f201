"""
Create or re-open the events of envelopes that eSAW listed, within the ceilings of their Organization.

eSAW chooses what it lists, so its lists may never fill etcd or the quota: half of each ceiling is left to
callbacks, and the number of events of lists that did not succeed is bounded too. The ceiling is checked
before each write. An envelope that has an event keeps it, of any origin: it starts again only if it
ended without an archive and may end otherwise now.

This module asks eSAW for nothing.
"""

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC
from enum import Enum, auto
from typing import NamedTuple

from msgspec.structs import replace

from controller.envelopes import read_envelope, recorded_sender
from controller.reader import USABLE, claims_of, key_state, reader_of, untried_reader
from counterfoil import tracing
from counterfoil.clock import Clock
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import AlreadyExists, Conflict, Forbidden, NotFound, QuotaExceeded, Rejected
from counterfoil.kube.status import MAX_CHANGE_ATTEMPTS, write_status_or_skip
from counterfoil.metrics import Metrics
from counterfoil.resources import (
    IMPORT_ARCHIVE_LABEL,
    IMPORT_ENDED_LABEL,
    IMPORT_WINDOW_LABEL,
    LISTED_AFTER_LABEL,
    LISTED_BY_LABEL,
    ORGANIZATION_LABEL,
    SENDER_LABEL,
    EnvelopeEvent,
    EnvelopeStatus,
    EventLoad,
    Organization,
    Origin,
    Phase,
    ResourceInvalid,
    Sender,
    event_name,
)
from counterfoil.resources.envelopeevent import ARCHIVED_PHASES
from counterfoil.resources.event_factory import new_event
from counterfoil.resources.imports import read_window_label
from counterfoil.resources.naming import EnvelopeId
from counterfoil.resources.organization import OrganizationLimits
from counterfoil.resources.reopening import (
    ARCHIVED_AS_EXPIRED,
    is_never_shown,
    is_started_by_change,
    is_started_by_other_key,
    is_started_by_search,
    reopened_status,
    with_kept_end,
)
from counterfoil.untrusted.event_ceiling import EventCeiling

_log = logging.getLogger(__name__)

FOUND_BY_SWEEP = "FoundBySweep"
FOUND_BY_IMPORT = "FoundByImport"
_REOPENED = {Origin.SWEEP: FOUND_BY_SWEEP, Origin.IMPORT: FOUND_BY_IMPORT}
"""Reason of an event that a search started again, by the origin of the search."""


class CeilingReached(Exception):
    """No further event may be started now; the message says why."""


class StartForbidden(Exception):
    """The cluster forbids an event; the message says which answer it gave. Only a person can correct it."""


class StartResult(Enum):
    """The result for one listed envelope."""

    CREATED = auto()
    KNOWN = auto()
    """It had an event. ``Started.is_reopened`` says whether this one starts again."""
    REFUSED = auto()
    """It has no event: its name is taken, or the API server refuses the event."""


class Started(NamedTuple):
    """The result for one envelope, and the event that it had before, if any."""

    result: StartResult
    event: EnvelopeEvent | None = None
    is_reopened: bool = False


@dataclass
class EventStarts:
    """The events of one search: what it may start, and what it started."""

    organization: Organization
    action: str
    origin: Origin
    max_started: int | None
    """Maximum number of events that it creates or re-opens; None: the ceilings alone decide."""
    created: int = 0
    started: int = 0
    """Number of events that were created or re-opened."""
    stored: int | None = None
    """Number of stored events of this origin that count against the ceiling; None: not counted yet."""
    place: Callable[[], AbstractAsyncContextManager[None]] = nullcontext
    """Takes a place for an event that is created within the context. Raises ``CeilingReached``,
    ``ApiError``."""


@dataclass(frozen=True)
class EventStarter:
    """Starts the events of all searches of this process."""

    kube: KubeClient
    clock: Clock
    metrics: Metrics
    load: Callable[[str], EventLoad | None]
    """Returns the last count of an Organization's events."""
    sender: Callable[[str], Sender | None]
    """Returns a Sender by its name."""
    _ceilings: dict[str, EventCeiling] = field(default_factory=dict)

    async def start(
        self,
        starts: EventStarts,
        envelope: EnvelopeId,
        status: EnvelopeStatus,
        *,
        sender: str,
        labels: Mapping[str, str] | None = None,
    ) -> Started:
        """
        Let the envelope have an event; ``status`` is the envelope's, ``sender`` found it. ``labels`` mark
        the event if it is created or starts again.

        Raises ``CeilingReached``, also if a quota has no room, ``StartForbidden``, ``ApiError``.
        """
        try:
            known = await self._known(starts, envelope, status, sender, labels or {})
            if known is not None:
                return known
            async with starts.place():
                is_created = await self._create_event(starts, envelope, sender, labels or {})
            if is_created:
                return Started(StartResult.CREATED)
            # Another process created it at this moment.
            known = await self._known(starts, envelope, status, sender, labels or {})
        except QuotaExceeded as full:
            raise CeilingReached(f"a quota has no room for another event ({full})") from full
        except Forbidden as refused:
            if refused.status != 403:
                raise
            raise StartForbidden(f"the event of the envelope {envelope} is forbidden: {refused}") from refused
        except Rejected as refused:
            fields = {"organization": starts.organization.name, "envelope": envelope}
            _log.error("an event that the %s needs is refused: %s", _word(starts), refused, extra=fields)
            return Started(StartResult.REFUSED)
        return known or Started(StartResult.KNOWN)

    async def _known(
        self,
        starts: EventStarts,
        envelope: EnvelopeId,
        status: EnvelopeStatus,
        sender: str,
        labels: Mapping[str, str],
    ) -> Started | None:
        """
        Return the result if the name of the envelope's event is taken. An event that ended without
        archiving starts again, if that may end otherwise. One that other processes change all the time counts
        as refused.
        """
        for _ in range(MAX_CHANGE_ATTEMPTS):
            event = await self._event_of(starts, envelope)
            if not isinstance(event, EnvelopeEvent):
                return event
            listed: dict[str, str | None] = {LISTED_BY_LABEL: sender}
            reader = await self.reader_to_try(event, sender, starts.organization)
            is_listed = _is_started(event, status) and not _has_run_again(event, status, labels)
            if is_listed or reader is not None:
                reserved = await self._reserve(starts)
                if is_listed and with_kept_end(event.status).phase is Phase.FAILED:
                    listed[LISTED_AFTER_LABEL] = _known_status(event)
                listed |= {SENDER_LABEL: reader or self._first_reader(event, sender, starts.organization)}
                if labels:
                    # An earlier Import may have named an Archive, and this one none.
                    listed |= {IMPORT_ARCHIVE_LABEL: None, **labels, IMPORT_ENDED_LABEL: _end_of(event)}
                # First, so that the event is counted as soon as it is unfinished.
                marked = await self._with_labels(event, listed)
                if marked is not None and await self._reopen(starts, marked):
                    starts.started += 1
                    return Started(StartResult.KNOWN, event, is_reopened=True)
                self._ceilings[starts.organization.name].release(reserved)
                continue
            if not self._reads_first(event, sender) or await self._with_labels(event, listed) is not None:
                return Started(StartResult.KNOWN, event)
        # It costs only itself: the others of the list are started.
        fields = {"organization": starts.organization.name, "envelope": envelope}
        _log.error(
            "an event that the %s needs is written by others all the time", _word(starts), extra=fields
        )
        return Started(StartResult.REFUSED)

    async def starts_again(
        self, event: EnvelopeEvent, found: EnvelopeStatus, finder: str, organization: Organization
    ) -> bool:
        """Whether a search that lists the event's envelope with the key of the Sender ``finder`` starts the
        event again: it may end otherwise, or its envelope can be read with a key that was not tried. Raises
        ``ApiError``."""
        if _is_started(event, found):
            return True
        return await self.reader_to_try(event, finder, organization) is not None

    async def reader_to_try(
        self, event: EnvelopeEvent, finder: str, organization: Organization
    ) -> str | None:
        """Return the Sender whose key was not tried, for which an event starts again that was not shown its
        envelope, or that waits for a key; None: it does not start for a key. Raises ``ApiError``."""
        if not is_started_by_other_key(event.status):
            return None
        recorded = recorded_sender(await read_envelope(self.kube, event), event)
        claims = claims_of(event, organization, recorded=recorded, finder=finder)
        return untried_reader(event, claims, self.sender)

    def _first_reader(self, event: EnvelopeEvent, finder: str, organization: Organization) -> str:
        """Return the Sender whose limits hold until the event's first run, which reads the Envelope."""
        claims = claims_of(event, organization, recorded=None, finder=finder)
        reader = reader_of(event, claims, self.sender, key_state)
        return reader.name if reader is not None else finder

    def _reads_first(self, event: EnvelopeEvent, finder: str) -> bool:
        """Whether ``finder`` is the first Sender who may see the envelope of an event that eSAW does not
        show."""
        known = event.metadata.labels.get(LISTED_BY_LABEL)
        states = [key_state(event, self.sender(each)) for each in (known, finder) if each is not None]
        is_better = known is None or [each in USABLE for each in states] == [False, True]
        return is_never_shown(event.status) and is_better

    async def _event_of(self, starts: EventStarts, envelope: EnvelopeId) -> EnvelopeEvent | Started | None:
        """Return the envelope's event; the result if the name is taken and it is not this event."""
        organization, action = starts.organization, starts.action
        try:
            raw = await self.kube.get(EnvelopeEvent, event_name(organization.name, envelope, action))
            event = EnvelopeEvent.parse(raw)
        except NotFound:
            return None
        except ResourceInvalid as invalid:
            _log.warning("an event can't be read: %s", invalid)
            return Started(StartResult.REFUSED)
        if event.spec.subject != (organization.name, envelope, action, ""):
            self.metrics.event_mismatches.labels(organization.name).inc()
            _log.error(
                "the %s can't create the event of an envelope: the event of that name is about another "
                "callback. Delete it if it was made by hand.",
                _word(starts),
                extra={"organization": organization.name, "event": event.name},
            )
            return Started(StartResult.REFUSED)
        return event

    async def _with_labels(
        self, event: EnvelopeEvent, labels: Mapping[str, str | None]
    ) -> EnvelopeEvent | None:
        """Set labels of an event, and remove those that are None here; None if it was changed or deleted
        meanwhile."""
        changes = {"metadata": {"resourceVersion": event.metadata.resource_version, "labels": labels}}
        try:
            return EnvelopeEvent.parse(await self.kube.patch(EnvelopeEvent, event.name, changes))
        except (Conflict, NotFound):
            return None

    async def _reserve(self, starts: EventStarts) -> int:
        """Reserve room for one more unfinished event; return what releases it. Raises ``CeilingReached``,
        ``ApiError``."""
        organization, limits = starts.organization, starts.organization.spec.limits
        if starts.max_started is not None and starts.started >= starts.max_started:
            raise CeilingReached(f"{starts.max_started} events are as many as one {_word(starts)} starts")
        if starts.stored is None:
            # An archived event needs its files too, also if it waits for its delete or is kept as Expired;
            # the others an eSAW can make by its list alone.
            archived = sorted({*ARCHIVED_PHASES, Phase.SUCCEEDED})
            phases = ",".join(f"status.phase!={each}" for each in archived)
            fields = f"spec.origin={starts.origin},{phases},status.reason!={ARCHIVED_AS_EXPIRED}"
            stored = await self.kube.count_by_label(EnvelopeEvent, ORGANIZATION_LABEL, fields)
            starts.stored = stored[organization.name]
        if starts.stored + starts.created >= limits.unfinished_events:
            raise CeilingReached(
                f"{starts.stored + starts.created} events of {_word(starts)}s did not succeed, the maximum "
                "of spec.limits.unfinishedEvents"
            )
        ceiling = self._ceilings.setdefault(organization.name, EventCeiling(self.clock))
        ceiling.update(_half(limits), self.load(organization.name) or organization.status.load)
        if (reserved := ceiling.reserve()) is None:
            raise CeilingReached(
                "half of spec.limits.unfinishedEvents or spec.limits.unknownEnvelopes is reached, and the "
                "rest is left to callbacks"
            )
        return reserved

    async def _reopen(self, starts: EventStarts, event: EnvelopeEvent) -> bool:
        """Start the event again; False if it was changed or deleted meanwhile."""
        known = with_kept_end(event.status)
        message = (
            f"The {_word(starts)} found the envelope after the event was {known.phase} ({known.reason})."
        )
        status = reopened_status(
            known, reason=_REOPENED[starts.origin], message=message, now=self.clock.now()
        )
        # Not enqueued here: the watch delivers it to the controller of its shard (rule 5).
        if await write_status_or_skip(self.kube, event, status) is None:
            return False
        _log.info("the %s re-opened an event", _word(starts), extra={"event": event.name})
        return True

    async def _create_event(
        self, starts: EventStarts, envelope: EnvelopeId, sender: str, labels: Mapping[str, str]
    ) -> bool:
        """Create the event; False if another process created it at this moment."""
        organization = starts.organization.name
        reserved = await self._reserve(starts)
        with tracing.span(_word(starts), organization=organization, envelope=envelope) as step:
            event = new_event(
                organization=organization,
                envelope=envelope,
                action=starts.action,
                origin=starts.origin,
                sender=sender,
                traceparent=step.traceparent,
                labels={**labels, LISTED_BY_LABEL: sender},
            )
            try:
                await self.kube.create(EnvelopeEvent, event)
            except AlreadyExists:
                self._ceilings[organization].release(reserved)
                return False
            except (Rejected, Forbidden):
                self._ceilings[organization].release(reserved)
                raise
        starts.created += 1
        starts.started += 1
        return True


def _word(starts: EventStarts) -> str:
    """Return the name of the search in a sentence."""
    return starts.origin.lower()


def _known_status(event: EnvelopeEvent) -> str | None:
    """Return the status that eSAW showed of the event's envelope last; None: it showed none."""
    return event.status.envelope.status if event.status.envelope is not None else None


def _is_started(event: EnvelopeEvent, found: EnvelopeStatus) -> bool:
    """Whether a search that lists the envelope with the status ``found`` starts the event with any key. One
    that failed starts once for each status that it knows."""
    if not is_started_by_search(event.status, found):
        return False
    return with_kept_end(event.status).phase is not Phase.FAILED or is_started_by_change(event)


def _has_run_again(event: EnvelopeEvent, found: EnvelopeStatus, labels: Mapping[str, str]) -> bool:
    """Whether the Import with these ``labels`` created or started the event, and it has ended since with the
    envelope's status of now."""
    of_event, of_search = (
        read_window_label(each.get(IMPORT_WINDOW_LABEL, "")) for each in (event.metadata.labels, labels)
    )
    if of_event is None or of_search is None or of_event.imported != of_search.imported:
        return False
    return has_started(event) and _known_status(event) in (None, found)


def has_started(event: EnvelopeEvent) -> bool:
    """Whether an event with the labels of an Import started since. If it still has the end that the Import
    saw, the process was killed between labels and status, or somebody changed the event then."""
    return event.metadata.labels.get(IMPORT_ENDED_LABEL) != _end_of(event)


def existed_before(event: EnvelopeEvent) -> bool:
    """Whether the Import that the labels name started the event again, and did not create it. It may be one
    of an earlier Import."""
    return IMPORT_ENDED_LABEL in event.metadata.labels


def _end_of(event: EnvelopeEvent) -> str:
    """Return the end of an event as the value of a label; empty if it has not ended."""
    ended = event.status.completion_time
    return f"{ended.astimezone(UTC):%Y%m%dT%H%M%SZ}" if ended is not None else ""


def _half(limits: OrganizationLimits) -> OrganizationLimits:
    """Return the ceilings of a search: the other half is left to callbacks."""
    unfinished, unknown = limits.unfinished_events, limits.unknown_envelopes
    return replace(
        limits, unfinished_events=unfinished - unfinished // 2, unknown_envelopes=unknown - unknown // 2
    )

"""
The sweep: find finished envelopes whose callback is missing, by asking eSAW for each authorised sender.

eSAW searches by the time of *sending*, and an envelope may take weeks to sign. So each sweep covers the whole
look-back, in windows of a day (``controller.resync.envelope_search``).

Each envelope becomes the same deterministic event that its callback would create (``origin: Sweep``), so an
envelope is never processed twice: events are kept at least for the look-back. An event that ended in Skipped
starts again, unless a person skipped it or it was settled in the status that the envelope still has. So does
one that was only recorded, since its action is archived now.

eSAW chooses what it lists, so a sweep is bounded: in its events by the ceilings of the Organization, of which
half is left to callbacks, and in hits and requests. The outcome of a sweep that was cut reports it. The next
one begins soon, where this one ended. The outcome also reports answers in which eSAW may have left envelopes
out.

It runs at its interval, and when a person requests it by the label ``counterfoil.dev/request``.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from msgspec.structs import replace

from controller.access.sender_keys import KeyUnusable, SenderKeys
from controller.cache import Cache
from controller.resync.envelope_search import EnvelopeSearch, TooManyRequests
from counterfoil import tracing
from counterfoil.clock import Clock
from counterfoil.esaw.client import EsawUserClient
from counterfoil.esaw.errors import EsawError, HttpStatusError
from counterfoil.esaw.registry import EsawClients
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import AlreadyExists, NotFound, Rejected
from counterfoil.kube.status import write_status_or_skip
from counterfoil.metrics import Metrics
from counterfoil.resources import (
    ORGANIZATION_LABEL,
    EnvelopeEvent,
    EnvelopeStatus,
    EventLoad,
    Organization,
    Origin,
    Phase,
    ResourceInvalid,
    Sender,
    SweepResult,
    envelope_id,
    event_name,
)
from counterfoil.resources.event_factory import new_event
from counterfoil.resources.naming import EnvelopeId
from counterfoil.resources.organization import OrganizationLimits
from counterfoil.resources.reopening import (
    RECORDED,
    SKIPPED_BY_REQUEST,
    is_given_up,
    may_be_restarted,
    reopened_status,
)
from counterfoil.untrusted.event_ceiling import EventCeiling

_log = logging.getLogger(__name__)

WINDOW = timedelta(days=1)
"""Time of sending that one request covers."""

MAX_SENDERS_SHOWN = 3
"""Maximum number of Senders that the result of a sweep names."""

_STORED = f"spec.origin={Origin.SWEEP},status.phase!={Phase.SUCCEEDED}"
"""Field selector of the events that an eSAW makes by its list alone: a succeeded one needs its files too."""


@dataclass(frozen=True)
class SweepBounds:
    """Bounds of one sweep. Tests use smaller values."""

    started: int = 2_000
    """Events that it creates or re-opens."""
    hits: int = 50_000
    """Envelopes of one sender that it examines; each costs a request to the API server."""
    requests: int = 10_000
    """Requests to eSAW for one sender."""


class SweepOutcome(NamedTuple):
    """The outcome of one sweep."""

    created: int
    """Number of events that were new."""
    skipped: tuple[str, ...] = ()
    """Names of the Senders whose envelopes could not be asked for; the sweep is repeated soon."""
    unusable: tuple[str, ...] = ()
    """Names of the Senders that are suspended, or whose key is not known to work."""
    without_event: int = 0
    """Number of listed envelopes that got no event all the same."""
    cut: str = ""
    """Why the sweep stopped early; empty if it did not."""
    doubts: str = ""
    """Why eSAW may have left envelopes out; empty if nothing shows that."""

    @property
    def is_complete(self) -> bool:
        """Whether the sweep need not be repeated before its interval."""
        return not self.skipped and not self.cut and not self.doubts

    @property
    def message(self) -> str:
        """The number of events, and the Senders that were not searched; sentences for people."""
        parts = [f"Finished envelopes without an event: {self.created + self.without_event}."]
        if self.without_event:
            parts.append(
                f"{self.created} of them have one now. {self.without_event} have none, since eSignAnyWhere "
                "lists them with an invalid id, the name of their event is taken, or the API server refuses "
                "the event; the controller's log has the details."
            )
        elif self.created:
            parts.append("Each of them has one now.")
        if self.unusable:
            parts.append(
                "Not searched, since they are suspended or have no key that works: "
                f"{_some_senders(self.unusable)}."
            )
        if self.skipped:
            parts.append(
                f"Not searched, since eSignAnyWhere or the key failed: {_some_senders(self.skipped)}. The "
                "search is repeated automatically."
            )
        if self.cut:
            parts.append(f"The search stopped early: {self.cut}. It continues automatically.")
        if self.doubts:
            parts.append(
                f"eSignAnyWhere may have left envelopes out: {self.doubts}. Report that to Namirial."
            )
        return " ".join(parts)

    def result(self, now: datetime) -> SweepResult:
        """Return the result for the Organization's status."""
        is_silent = self.is_complete and not self.unusable and not self.without_event
        message = None if is_silent else self.message
        return SweepResult(
            completion_time=now, found=self.created, complete=self.is_complete, message=message
        )


class _SweepCut(Exception):
    """The sweep must stop; the message says why."""


class _SenderCut(Exception):
    """The search for one Sender must stop; the message says why."""


@dataclass
class _Sweep:
    """One sweep of one Organization."""

    organization: Organization
    action: str
    created: int = 0
    started: int = 0
    """Number of events that were created or re-opened."""
    stored: int | None = None
    """Number of events of earlier sweeps that count against the ceiling; None: not counted yet."""
    without_event: int = 0
    skipped: list[str] = field(default_factory=list)
    cuts: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class MissedCallbackFinder:
    """Finds finished envelopes without an event."""

    kube: KubeClient
    cache: Cache
    sender_keys: SenderKeys
    esaw_clients: EsawClients
    clock: Clock
    metrics: Metrics
    load: Callable[[str], EventLoad | None]
    """Returns the last count of an Organization's events."""
    bounds: SweepBounds = SweepBounds()
    _ceilings: dict[str, EventCeiling] = field(default_factory=dict)
    _continue_at: dict[tuple[str, str], datetime] = field(default_factory=dict)
    """By Organization and Sender: the time of sending from which a search that was cut continues."""
    _begun: dict[tuple[str, str], float] = field(default_factory=dict)
    """By Organization and Sender: when the last search began, by the clock that is never set."""

    async def sweep(self, organization: Organization) -> SweepOutcome:
        """
        Ask for all authorised senders of the organization, first for those that waited longest.

        A sender whose envelopes can't be asked for now is skipped until the next sweep. Raises ``ApiError``.
        """
        action = organization.spec.archive_action
        if action is None:
            return SweepOutcome(0)
        sweep = _Sweep(organization, action)
        usable = self.cache.authorized_senders(organization.name)
        usable.sort(key=lambda each: self._begun.get((organization.name, each.uid), -1.0))
        for sender in usable:
            self._begun[organization.name, sender.uid] = self.clock.monotonic()
            try:
                await self._sweep_sender(sweep, sender)
            except (EsawError, KeyUnusable) as problem:
                _log.info("the sweep skipped a sender: %s", problem, extra={"sender": sender.name})
                sweep.skipped.append(sender.name)
            except _SenderCut as cut:
                sweep.cuts.append(f"Sender/{sender.name} {cut}")
            except _SweepCut as cut:
                sweep.cuts.append(str(cut))
                break
        names = {each.name for each in self.cache.senders_of(organization.name)}
        unusable = tuple(sorted(names - {each.name for each in usable}))
        cuts, doubts = ("; ".join(each[:MAX_SENDERS_SHOWN]) for each in (sweep.cuts, sweep.doubts))
        outcome = SweepOutcome(
            sweep.created, tuple(sweep.skipped), unusable, sweep.without_event, cuts, doubts
        )
        fields = {"organization": organization.name}
        if cuts:
            _log.warning("the sweep stopped early: %s", cuts, extra=fields)
        if doubts:
            _log.warning("eSAW may have left envelopes out of the sweep: %s", doubts, extra=fields)
        return outcome

    async def _sweep_sender(self, sweep: _Sweep, sender: Sender) -> None:
        esaw = self.esaw_clients.for_organization(sweep.organization)
        token = await self.sender_keys.key(sender, esaw)
        try:
            await self._search(sweep, sender, esaw.as_user(token))
        except HttpStatusError as answer:
            if answer.status == 401 and answer.error_id is None:
                self.sender_keys.doubt(sender, token)
            elif answer.status == 401:
                await self.sender_keys.refused(sender, token)
            raise

    async def _search(self, sweep: _Sweep, sender: Sender, user: EsawUserClient) -> None:
        """Examine all envelopes in the look-back, newest first, from where an earlier sweep was cut."""
        search = EnvelopeSearch(user, self.bounds.requests)
        try:
            await self._search_windows(sweep, sender, search)
        finally:
            if search.doubt:
                sweep.doubts.append(f"Sender/{sender.name} {search.doubt}")

    async def _search_windows(self, sweep: _Sweep, sender: Sender, search: EnvelopeSearch) -> None:
        key, now, seen = (sweep.organization.name, sender.uid), self.clock.now(), set[str]()
        first = end = min(self._continue_at.pop(key, now), now)
        oldest = now - sweep.organization.spec.sweep.lookback
        while end > oldest:
            start = max(end - WINDOW, oldest)
            try:
                await self._examine(sweep, sender, search, seen, (start, end))
            except _SweepCut:
                # What was created is known by its event, so the same window makes progress.
                self._continue_at[key] = end
                raise
            except (_SenderCut, TooManyRequests) as cut:
                # At least one window further each time, also if eSAW lists envelopes without end.
                self._continue_at[key] = start if end == first else end
                raise cut if isinstance(cut, _SenderCut) else _SenderCut("needs too many requests") from None
            end = start

    async def _examine(
        self,
        sweep: _Sweep,
        sender: Sender,
        search: EnvelopeSearch,
        seen: set[str],
        window: tuple[datetime, datetime],
    ) -> None:
        is_warned = False
        for status in sweep.organization.spec.statuses:
            async for found in search.between(status, *window):
                # A GUID has 36 characters; anything longer is none.
                if (key := found[:37].lower()) in seen:
                    continue
                if len(seen) >= self.bounds.hits:
                    raise _SenderCut(f"has more than {self.bounds.hits} envelopes")
                seen.add(key)
                try:
                    envelope = envelope_id(found)
                except ValueError:
                    if not is_warned:
                        _log.warning("eSAW listed envelopes without a GUID", extra={"sender": sender.name})
                    is_warned = True
                    sweep.without_event += 1
                    continue
                try:
                    if not await self._exists(sweep, envelope, status):
                        await self._create_event(sweep, sender, envelope)
                except Rejected as refused:
                    fields = {"organization": sweep.organization.name, "envelope": envelope}
                    _log.error("an event that the sweep needs is refused: %s", refused, extra=fields)
                    sweep.without_event += 1

    async def _exists(self, sweep: _Sweep, envelope: EnvelopeId, status: EnvelopeStatus) -> bool:
        """Whether the name of the envelope's event is taken. An event that ended without archiving starts
        again, if that may end otherwise."""
        organization, action = sweep.organization, sweep.action
        try:
            raw = await self.kube.get(EnvelopeEvent, event_name(organization.name, envelope, action))
            event = EnvelopeEvent.parse(raw)
        except NotFound:
            return False
        except ResourceInvalid as invalid:
            _log.warning("an event can't be read: %s", invalid)
            sweep.without_event += 1
            return True
        if event.spec.subject != (organization.name, envelope, action, ""):
            self.metrics.event_mismatches.labels(organization.name).inc()
            _log.error(
                "the sweep can't create the event of an envelope: the event of that name is about another "
                "callback. Delete it if it was made by hand.",
                extra={"organization": organization.name, "event": event.name},
            )
            sweep.without_event += 1
            return True
        if _may_end_otherwise(event, status):
            await self._reserve(sweep)
            await self._reopen(event)
            sweep.started += 1
        return True

    async def _reserve(self, sweep: _Sweep) -> int:
        """Reserve room for one more unfinished event; return what releases it. Raises ``_SweepCut``,
        ``ApiError``."""
        organization, limits = sweep.organization, sweep.organization.spec.limits
        if sweep.started >= self.bounds.started:
            raise _SweepCut(f"{self.bounds.started} events are as many as one sweep starts")
        if sweep.stored is None:
            stored = await self.kube.count_by_label(EnvelopeEvent, ORGANIZATION_LABEL, _STORED)
            sweep.stored = stored[organization.name]
        if sweep.stored + sweep.created >= limits.unfinished_events:
            raise _SweepCut(
                f"{sweep.stored + sweep.created} events of sweeps did not succeed, the maximum of "
                "spec.limits.unfinishedEvents"
            )
        ceiling = self._ceilings.setdefault(organization.name, EventCeiling(self.clock))
        ceiling.update(_half(limits), self.load(organization.name) or organization.status.load)
        if (reserved := ceiling.reserve()) is None:
            raise _SweepCut(
                "half of spec.limits.unfinishedEvents or spec.limits.unknownEnvelopes is reached, and the "
                "rest is left to callbacks"
            )
        return reserved

    async def _reopen(self, event: EnvelopeEvent) -> None:
        message = (
            f"The sweep found the envelope after the event was {event.status.phase} ({event.status.reason})."
        )
        status = reopened_status(event.status, reason="FoundBySweep", message=message, now=self.clock.now())
        # Not enqueued here: the watch delivers it to the controller of its shard (rule 5).
        if await write_status_or_skip(self.kube, event, status) is not None:
            _log.info("the sweep re-opened an event", extra={"event": event.name})

    async def _create_event(self, sweep: _Sweep, sender: Sender, envelope: EnvelopeId) -> None:
        organization = sweep.organization.name
        reserved = await self._reserve(sweep)
        with tracing.span("sweep", organization=organization, envelope=envelope) as step:
            event = new_event(
                organization=organization,
                envelope=envelope,
                action=sweep.action,
                origin=Origin.SWEEP,
                sender=sender.name,
                traceparent=step.traceparent,
            )
            try:
                await self.kube.create(EnvelopeEvent, event)
            except AlreadyExists:
                self._ceilings[organization].release(reserved)
                return
            except Rejected:
                self._ceilings[organization].release(reserved)
                raise
        sweep.created += 1
        sweep.started += 1
        self.metrics.sweep_found.labels(organization).inc()
        _log.info("the sweep found an envelope without a callback", extra={"envelope": envelope})


def _half(limits: OrganizationLimits) -> OrganizationLimits:
    """Return the ceilings of a sweep: the other half is left to callbacks."""
    unfinished, unknown = limits.unfinished_events, limits.unknown_envelopes
    return replace(
        limits, unfinished_events=unfinished - unfinished // 2, unknown_envelopes=unknown - unknown // 2
    )


def _may_end_otherwise(event: EnvelopeEvent, found: EnvelopeStatus) -> bool:
    """Whether a finished event did not archive its envelope, and may do so now; or an archived one may have
    to archive it again."""
    phase, reason = event.status.phase, event.status.reason
    if may_be_restarted(event.status):
        return event.status.envelope is None or event.status.envelope.status != found
    if phase is Phase.SUCCEEDED:
        # The sweep creates events of actions that are archived; this one was recorded before that.
        return reason == RECORDED
    if phase is not Phase.SKIPPED or is_given_up(event.status):
        return False
    if reason in (SKIPPED_BY_REQUEST, "ArchivedAsExpired", "NoFinishedDocuments"):
        # Settled in this status.
        return event.status.envelope is None or event.status.envelope.status != found
    return True


def _some_senders(names: Sequence[str]) -> str:
    """Return the first names, and the number of the others."""
    shown = ", ".join(f"Sender/{name}" for name in names[:MAX_SENDERS_SHOWN])
    others = len(names) - MAX_SENDERS_SHOWN
    return f"{shown} and {others} more" if others > 0 else shown

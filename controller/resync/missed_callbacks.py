"""
The sweep: find finished envelopes whose callback is missing, by asking eSAW for each authorised sender.

eSAW searches by the time of *sending*, and an envelope may take weeks to sign. So each sweep covers the whole
look-back, in windows of a day (``controller.resync.envelope_search``).

Each envelope becomes the same deterministic event that its callback would create (``origin: Sweep``), so an
envelope is never processed twice: events are kept at least for the look-back. Some that have ended start
again (``counterfoil.resources.reopening`` ``ENDS``).

eSAW chooses what it lists, so a sweep is bounded: in its events by the ceilings of the Organization, of which
half is left to callbacks, and in hits and requests. The outcome of a sweep that was cut reports it. The next
one begins soon, where this one ended. A search also ends if the Organization or the Sender is changed: eSAW
may let it last for days. The next one then begins where this one ended only if this one continued an earlier
one. The outcome also reports answers in which eSAW may have left envelopes out.

It runs at its interval, and when a person requests it by the label ``counterfoil.dev/request``.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

from controller.access.sender_keys import KeyUnusable, SenderKeys
from controller.cache import Cache, is_usable
from controller.resync.envelope_listing import EnvelopeListing, TooManyListed, Window, user_of, windows_back
from controller.resync.envelope_search import EnvelopeSearch, TooManyRequests
from controller.resync.event_starter import (
    CeilingReached,
    EventStarter,
    EventStarts,
    StartForbidden,
    StartResult,
)
from controller.resync.search_failures import REPEATED, search_failure
from counterfoil.clock import Clock
from counterfoil.esaw.client import EsawClients, EsawUserClient
from counterfoil.esaw.errors import EsawError
from counterfoil.metrics import Metrics
from counterfoil.resources import Organization, Origin, Sender, SweepResult

_log = logging.getLogger(__name__)

WINDOW = timedelta(days=1)
"""Time of sending that one request covers."""

MAX_SENDERS_SHOWN = 3
"""Maximum number of Senders that the result of a sweep names."""

MAX_WHY = 600
"""Maximum length of the text that says why one Sender was not searched."""

MAX_MESSAGE = 4096


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
    refused: tuple[str, ...] = ()
    """Those whose search only a person can correct, each with its reason; the sweep is repeated, too."""
    unusable: tuple[str, ...] = ()
    """Names of the Senders that are suspended, or whose key is not known to work."""
    without_event: int = 0
    """Number of listed envelopes that got no event all the same."""
    known: int = 0
    """Number of listed envelopes whose event the sweep did not change."""
    reopened: int = 0
    """Number of events that the sweep started again."""
    cut: str = ""
    """Why the sweep stopped early; empty if it did not."""
    doubts: str = ""
    """Why eSAW may have left envelopes out; empty if nothing shows that."""

    @property
    def is_complete(self) -> bool:
        """Whether the sweep need not be repeated before its interval."""
        return not self.skipped and not self.refused and not self.cut and not self.doubts

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
        if self.reopened:
            parts.append(f"Events that start again: {self.reopened}.")
        if self.unusable:
            parts.append(
                "Not searched, since they are suspended or have no key that works: "
                f"{_some_senders(self.unusable)}."
            )
        if self.skipped:
            parts.append(
                f"Not searched, since eSignAnyWhere or the key failed: {_some_senders(self.skipped)}. "
                f"{REPEATED}"
            )
        if self.refused:
            parts.append(f"Not searched, and a person has to act: {_some_senders(self.refused)}.")
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
        message = None if is_silent else self.message[:MAX_MESSAGE]
        return SweepResult(
            completion_time=now,
            found=self.created,
            known=self.known,
            reopened=self.reopened,
            refused=self.without_event,
            complete=self.is_complete,
            message=message,
        )


class _SenderCut(Exception):
    """The search for one Sender must stop; the message says why."""


class _OrganizationChanged(Exception):
    """The Organization is not the one any more with which the sweep began."""


@dataclass
class _Sweep:
    """One sweep of one Organization."""

    starts: EventStarts
    without_event: int = 0
    listed_again: int = 0
    """Number of listed envelopes that had an event."""
    skipped: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    cuts: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)

    @property
    def organization(self) -> Organization:
        return self.starts.organization


@dataclass(frozen=True)
class MissedCallbackFinder:
    """Finds finished envelopes without an event."""

    cache: Cache
    sender_keys: SenderKeys
    esaw_clients: EsawClients
    event_starter: EventStarter
    clock: Clock
    metrics: Metrics
    bounds: SweepBounds = SweepBounds()
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
        sweep = _Sweep(EventStarts(organization, action, Origin.SWEEP, self.bounds.started))
        usable = self.cache.authorized_senders(organization.name)
        usable.sort(key=lambda each: self._begun.get((organization.name, each.uid), -1.0))
        for sender in usable:
            self._begun[organization.name, sender.uid] = self.clock.monotonic()
            try:
                await self._sweep_sender(sweep, sender)
            except (EsawError, KeyUnusable) as problem:
                _log.info("the sweep skipped a sender: %s", problem, extra={"sender": sender.name})
                failure = search_failure(problem, self.clock.now())
                if failure.needs_person:
                    why = failure.message[:MAX_WHY].rstrip(".")
                    sweep.refused.append(f"{sender.name} ({failure.reason}: {why})")
                else:
                    sweep.skipped.append(sender.name)
            except _SenderCut as cut:
                sweep.cuts.append(f"Sender/{sender.name} {cut}")
            except CeilingReached as reached:
                sweep.cuts.append(str(reached))
                break
            except _OrganizationChanged:
                sweep.cuts.append(f"Organization/{organization.name} was changed meanwhile")
                break
            except StartForbidden as forbidden:
                sweep.refused.append(f"{sender.name} ({str(forbidden)[:MAX_WHY].rstrip('.')})")
        names = {each.name for each in self.cache.senders_of(organization.name)}
        unusable = tuple(sorted(names - {each.name for each in usable}))
        cuts, doubts = ("; ".join(each[:MAX_SENDERS_SHOWN]) for each in (sweep.cuts, sweep.doubts))
        reopened = sweep.starts.started - sweep.starts.created
        outcome = SweepOutcome(
            sweep.starts.created,
            tuple(sweep.skipped),
            tuple(sweep.refused),
            unusable,
            sweep.without_event,
            sweep.listed_again - reopened,
            reopened,
            cuts,
            doubts,
        )
        fields = {"organization": organization.name}
        if cuts:
            _log.warning("the sweep stopped early: %s", cuts, extra=fields)
        if doubts:
            _log.warning("eSAW may have left envelopes out of the sweep: %s", doubts, extra=fields)
        return outcome

    async def _sweep_sender(self, sweep: _Sweep, sender: Sender) -> None:
        async with user_of(
            sender, sweep.organization, sender_keys=self.sender_keys, esaw_clients=self.esaw_clients
        ) as user:
            await self._search(sweep, sender, user)

    async def _search(self, sweep: _Sweep, sender: Sender, user: EsawUserClient) -> None:
        """Examine all envelopes in the look-back, newest first, from where an earlier sweep was cut."""
        search = EnvelopeSearch(user, self.bounds.requests, partial(self._check, sweep, sender))
        try:
            await self._search_windows(sweep, sender, EnvelopeListing(search, self.bounds.hits))
        finally:
            if search.doubt:
                sweep.doubts.append(f"Sender/{sender.name} {search.doubt}")

    async def _check(self, sweep: _Sweep, sender: Sender) -> None:
        """Look whether the objects are those with which the search began: eSAW may let it last for days.
        Raises ``_OrganizationChanged``, ``_SenderCut``."""
        organization = self.cache.organizations.get(sweep.organization.name)
        if organization is None or _is_changed(sweep.organization, organization):
            raise _OrganizationChanged
        newest = self.cache.senders.get(sender.name)
        if newest is None or _is_changed(sender, newest) or not is_usable(newest):
            raise _SenderCut("was changed meanwhile")

    async def _search_windows(self, sweep: _Sweep, sender: Sender, listing: EnvelopeListing) -> None:
        key, now = (sweep.organization.name, sender.uid), self.clock.now()
        cut_at = self._continue_at.pop(key, None)
        first = now if cut_at is None else min(cut_at, now)
        oldest = now - sweep.organization.spec.sweep.lookback
        for window in windows_back(first, oldest, WINDOW):
            try:
                await self._examine(sweep, sender, listing, window)
            except CeilingReached:
                # What was created is known by its event, so the same window makes progress.
                self._continue_at[key] = window.end
                raise
            except (TooManyListed, TooManyRequests) as cut:
                # At least one window further each time, also if eSAW lists envelopes without end.
                self._continue_at[key] = window.start if window.end == first else window.end
                message = str(cut) if isinstance(cut, TooManyListed) else "needs too many requests"
                raise _SenderCut(message) from None
            except (_OrganizationChanged, _SenderCut):
                # Other searches begin with the newest envelopes again: the change may decide which are found.
                if cut_at is not None:
                    self._continue_at[key] = window.end
                raise

    async def _examine(self, sweep: _Sweep, sender: Sender, listing: EnvelopeListing, window: Window) -> None:
        is_warned = False
        async for listed in listing.listed(sweep.organization.spec.statuses, window):
            if listed.id is None:
                if not is_warned:
                    _log.warning("eSAW listed envelopes without a GUID", extra={"sender": sender.name})
                is_warned = True
                sweep.without_event += 1
                continue
            started = await self.event_starter.start(
                sweep.starts, listed.id, listed.status, sender=sender.name
            )
            if started.result is StartResult.CREATED:
                self.metrics.sweep_found.labels(sweep.organization.name).inc()
                _log.info("the sweep found an envelope without a callback", extra={"envelope": listed.id})
            elif started.result is StartResult.REFUSED:
                sweep.without_event += 1
            else:
                sweep.listed_again += 1


def _is_changed(before: Organization | Sender, now: Organization | Sender) -> bool:
    # An object of a request may be newer than the one in memory.
    return before.uid != now.uid or now.metadata.generation > before.metadata.generation


def _some_senders(names: Sequence[str]) -> str:
    """Return the first names, and the number of the others."""
    shown = ", ".join(f"Sender/{name}" for name in names[:MAX_SENDERS_SHOWN])
    others = len(names) - MAX_SENDERS_SHOWN
    return f"{shown} and {others} more" if others > 0 else shown

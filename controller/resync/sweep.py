"""
The sweep: find finished envelopes whose callback is missing, by asking eSAW for each authorised sender.

eSAW searches by the time of *sending*, and an envelope may take weeks to sign. So each sweep covers the whole
look-back, in windows of a day (``controller.resync.envelope_search``).

Each envelope becomes the same deterministic event that its callback would create (``origin: Sweep``), so an
envelope is never processed twice: events are kept at least for the look-back. Some that have ended start
again (``counterfoil.resources.reopening`` ``ENDS``).

eSAW chooses what it lists, so a sweep is bounded: in its events by the ceilings of the Organization, of which
half is left to callbacks, and in hits and requests. The outcome of a sweep that was cut reports it. The next
one begins soon, where this one ended, for each kind of end. A search also ends if the Organization or the
Sender is changed: eSAW may let it last for days. A window that eSAW does not answer hides no older one: it is
named, and asked for again after them. The outcome also reports answers in which eSAW may have left envelopes
out.

It runs at its interval, and when a person requests it by the label ``counterfoil.dev/request``.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, Self

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
from controller.scheduling.retry_policy import INCOMPLETE_SWEEP
from counterfoil.clock import Clock
from counterfoil.esaw.client import EsawClients, EsawUserClient
from counterfoil.esaw.errors import EsawError, HttpStatusError
from counterfoil.metrics import Metrics
from counterfoil.resources import (
    EnvelopeStatus,
    Organization,
    Origin,
    Sender,
    SweepResult,
    find_condition,
)

_log = logging.getLogger(__name__)

WINDOW = timedelta(days=1)
"""Time of sending that one request covers."""

MAX_FAILED_IN_A_ROW = 2
"""Successive windows without an answer after which the search for a Sender ends for this sweep: an eSAW that
answers nothing costs each Sender that number of timeouts. The next sweep begins with older ones."""

MAX_SENDERS_SHOWN = 3
"""Maximum number of Senders that the result of a sweep names."""

MAX_WINDOWS_SHOWN = 3
"""Maximum number of times without an answer that the result names for one Sender."""

MAX_SPANS = 64
"""Maximum number of times of sending that are kept for the next sweep of one Sender. Of more, the nearest
become one, and eSAW is asked again for what lies between them."""

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
    """Names of the Senders whose envelopes could not be asked for, some with the times of sending without an
    answer; the sweep is repeated soon."""
    refused: tuple[str, ...] = ()
    """Those whose search only a person can correct, each with its reason; the sweep is repeated, too."""
    unusable: tuple[str, ...] = ()
    """Names of the Senders that were suspended, or whose key was not known to work; each is searched once its
    key works (``late_senders``)."""
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
    is_of_late: bool = False
    """Whether it is an earlier, complete sweep together with the search of late Senders. What failed in that
    is repeated for its Sender alone."""

    @property
    def is_complete(self) -> bool:
        """Whether the sweep need not be repeated before its interval."""
        return self.is_of_late or not self._has_failed

    @property
    def _has_failed(self) -> bool:
        return bool(self.skipped or self.refused or self.cut or self.doubts)

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
                "Not searched, since they were suspended or had no key that works: "
                f"{_some_senders(self.unusable)}. Each is searched once its key works, or by the next sweep."
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

    def with_earlier(self, earlier: SweepResult) -> "SweepOutcome":
        """Return the outcome of an earlier sweep together with this one of late Senders. After a restart they
        may have been searched before, so what this one did not change is not counted again."""
        return self._replace(
            created=self.created + earlier.found,
            known=earlier.known,
            reopened=self.reopened + earlier.reopened,
            without_event=earlier.refused,
            is_of_late=True,
        )

    def result(self, now: datetime) -> SweepResult:
        """Return the result for the Organization's status."""
        is_silent = not (self._has_failed or self.unusable or self.without_event)
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


class _Unanswered(Exception):
    """eSAW did not answer the search of some windows, but that of others."""

    def __init__(self, problem: EsawError, windows: Iterable[Window]) -> None:
        spans = [f"from {each.start:%F %H:%M} to {each.end:%F %H:%M} UTC" for each in merged(sorted(windows))]
        others = len(spans) - MAX_WINDOWS_SHOWN
        more = f" and {others} more times" if others > 0 else ""
        super().__init__(f"sent {', '.join(spans[:MAX_WINDOWS_SHOWN])}{more}")
        self.problem = problem


class _OrganizationChanged(Exception):
    """The Organization is not the one any more with which the sweep began."""


@dataclass(frozen=True)
class _Rest:
    """The rest of the search for one Sender, for the next sweep."""

    statuses: tuple[EnvelopeStatus, ...]
    """Of the envelopes that are searched."""
    newest: datetime
    """Later times of sending are not in the windows below."""
    untried: tuple[Window, ...]
    again: tuple[Window, ...]
    """Those that are searched again: eSAW did not answer, or what decides about them was changed. If it
    does not answer a second time, the search begins again with now."""


@dataclass
class _Windows:
    """The windows of one search for one Sender."""

    statuses: tuple[EnvelopeStatus, ...]
    now: datetime
    untried: list[Window]
    again: list[Window]
    """Those of earlier sweeps that are searched again, after the others."""
    failed: list[int] = field(default_factory=list)
    """The numbers of those that eSAW did not answer."""
    failed_in_a_row: int = 0
    problem: EsawError | None = None
    """The last error of a window."""
    has_answer: bool = False

    @classmethod
    def of(
        cls, rest: _Rest | None, statuses: Sequence[EnvelopeStatus], now: datetime, oldest: datetime
    ) -> Self:
        """Continue with a rest, unless it is about other envelopes; else begin with now."""
        if rest is None or rest.statuses != tuple(statuses) or rest.newest > now:
            rest = _Rest(tuple(statuses), now, (Window(oldest, now),), ())
        # What is newer than the rest is last: eSAW may list too much of it for any sweep to get further.
        untried = [*_days((*rest.untried, Window(rest.newest, now)), oldest)]
        return cls(rest.statuses, now, untried, [*_days(rest.again, oldest)])

    @property
    def all(self) -> list[Window]:
        """All of them, in the order of the search."""
        return [*self.untried, *self.again]

    def answered(self) -> None:
        """Note that eSAW answered for a window."""
        self.has_answer = True
        self.failed_in_a_row = 0

    def not_answered(self, number: int, problem: EsawError) -> None:
        """Note that eSAW did not answer for the window of this number."""
        self.failed.append(number)
        self.failed_in_a_row += 1
        self.problem = problem

    def rest(self, done: int) -> _Rest:
        """Return what is left if the search ends after this number of windows."""
        tried = [each for each in self.failed if each < len(self.untried)]
        return self._rest(done, [self.untried[each] for each in tried])

    def rest_after_change(self, done: int) -> _Rest:
        """The same, if what decides which envelopes are found was changed."""
        return self._rest(done, self.untried[:done])

    def _rest(self, done: int, once: Sequence[Window]) -> _Rest:
        left = self.again[max(done - len(self.untried), 0) :]
        return _Rest(self.statuses, self.now, merged(self.untried[done:]), merged([*left, *once]))


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
    rests: dict[tuple[str, str], _Rest] = field(default_factory=dict)
    """By Organization and Sender (uids): the rest of a search that ended early."""
    _begun: dict[tuple[str, str], float] = field(default_factory=dict)
    """By the same: when the last search began, by the clock that is never set."""
    _searched: dict[tuple[str, str], float] = field(default_factory=dict)
    """By the same: when the last search began that ended without an error."""
    _late_failures: dict[tuple[str, str], tuple[int, float]] = field(default_factory=dict)
    """By the same: searches of a late Sender in a row that failed, and the earliest next one."""
    _swept: dict[str, float] = field(default_factory=dict)
    """By Organization (uid): when the last sweep of all Senders began."""

    def late_senders(self, organization: Organization) -> list[Sender]:
        """
        Return the authorised senders that the last complete sweep did not search, since their keys did not
        work then. Where another process made it, their times and that of the sweep decide.
        """
        last, begun = organization.status.sweep, self._swept.get(organization.uid)
        now = self.clock.monotonic()
        if last is None or not last.complete or organization.spec.archive_action is None:
            return []

        def is_late(sender: Sender) -> bool:
            key = organization.uid, sender.uid
            searched = self._searched.get(key)
            if key in self._late_failures and now < self._late_failures[key][1]:
                return False
            if begun is not None:
                return searched is None or searched < begun
            authorized = find_condition(sender.status.conditions, "Authorized")
            # Times in a status are whole seconds.
            swept = last.completion_time.replace(microsecond=0)
            return searched is None and authorized is not None and authorized.last_transition_time >= swept

        return [each for each in self.cache.authorized_senders(organization.name) if is_late(each)]

    async def sweep_late(self, organization: Organization, senders: Sequence[Sender]) -> SweepOutcome:
        """Ask for late senders. Each search that fails is repeated, less and less often. Raises
        ``ApiError``."""
        begun = self.clock.monotonic()
        try:
            return await self.sweep(organization, senders)
        finally:
            for sender in senders:
                key = organization.uid, sender.uid
                if self._searched.get(key, -1.0) < begun:
                    failures, _ = self._late_failures.get(key, (0, 0.0))
                    earliest = self.clock.monotonic() + INCOMPLETE_SWEEP.pause(failures)
                    self._late_failures[key] = failures + 1, earliest

    async def sweep(
        self, organization: Organization, senders: Sequence[Sender] | None = None
    ) -> SweepOutcome:
        """
        Ask for all authorised senders of the organization, or only for these, first for those that waited
        longest.

        A sender whose envelopes can't be asked for now is skipped until the next sweep. Raises ``ApiError``.
        """
        action = organization.spec.archive_action
        if action is None:
            return SweepOutcome(0)
        self._forget_deleted()
        sweep = _Sweep(EventStarts(organization, action, Origin.SWEEP, self.bounds.started))
        if senders is None:
            self._swept[organization.uid] = self.clock.monotonic()
        tried = set[str]()
        for sender in self._usable(organization, senders, tried):
            key = organization.uid, sender.uid
            begun = self._begun[key] = self.clock.monotonic()
            try:
                await self._sweep_sender(sweep, sender)
                self._searched[key] = begun
                self._late_failures.pop(key, None)
            except _Unanswered as unanswered:
                self._report(sweep, sender, unanswered.problem, str(unanswered))
            except (EsawError, KeyUnusable) as problem:
                self._report(sweep, sender, problem, "")
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
        known = self.cache.senders_of(organization.name)
        # One whose search failed is named with its reason.
        others = [each for each in known if each.uid not in tried]
        unusable = tuple(sorted(each.name for each in others if not is_usable(each)))
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

    def _usable(
        self, organization: Organization, senders: Sequence[Sender] | None, tried: set[str]
    ) -> Iterator[Sender]:
        """Yield the authorised ones of the Senders, or of all of the Organization and then those who were
        authorised meanwhile. Who waited longest is the first. Add the uid of each to ``tried``."""
        while True:
            known = self.cache.senders_of(organization.name) if senders is None else senders
            usable = [each for each in known if is_usable(each) and each.uid not in tried]
            if not usable:
                return
            for each in sorted(usable, key=lambda each: self._begun.get((organization.uid, each.uid), -1.0)):
                tried.add(each.uid)
                yield each

    def _report(self, sweep: _Sweep, sender: Sender, problem: EsawError | KeyUnusable, times: str) -> None:
        """Note that a Sender was not searched, or not for these times of sending."""
        extra = {"sender": sender.name, "times": times}
        _log.info("the sweep skipped a sender: %s", problem, extra=extra)
        failure = search_failure(problem, self.clock.now())
        if failure.needs_person:
            why = failure.message[:MAX_WHY].rstrip(".")
            where = f"{times}; " if times else ""
            sweep.refused.append(f"{sender.name} ({where}{failure.reason}: {why})")
        else:
            sweep.skipped.append(f"{sender.name} ({times})" if times else sender.name)

    async def _sweep_sender(self, sweep: _Sweep, sender: Sender) -> None:
        async with user_of(
            sender, sweep.organization, sender_keys=self.sender_keys, esaw_clients=self.esaw_clients
        ) as user:
            await self._search(sweep, sender, user)

    async def _search(self, sweep: _Sweep, sender: Sender, user: EsawUserClient) -> None:
        """Examine all envelopes in the look-back, newest first, from where an earlier sweep ended."""
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
        key, now, spec = (sweep.organization.uid, sender.uid), self.clock.now(), sweep.organization.spec
        windows = _Windows.of(self.rests.pop(key, None), spec.statuses, now, now - spec.sweep.lookback)
        for number, window in enumerate(windows.all):
            try:
                await self._examine(sweep, sender, listing, window)
                windows.answered()
            except EsawError as problem:
                windows.not_answered(number, problem)
                is_about_key = isinstance(problem, HttpStatusError) and problem.status == 401
                if not is_about_key and windows.failed_in_a_row < MAX_FAILED_IN_A_ROW:
                    continue
                self._keep(key, windows.rest(number + 1))
                if is_about_key or not windows.has_answer:
                    raise
                break
            except (TooManyListed, TooManyRequests) as cut:
                # At least one window further each time, also if eSAW lists envelopes without end.
                self._keep(key, windows.rest(max(number, 1)))
                message = str(cut) if isinstance(cut, TooManyListed) else "needs too many requests"
                raise _SenderCut(message) from None
            except (_OrganizationChanged, _SenderCut):
                self._keep(key, windows.rest_after_change(number))
                raise
            except Exception:
                # What was created is known by its event, so the same window makes progress.
                self._keep(key, windows.rest(number))
                raise
        if windows.problem is not None:
            searched = windows.all
            raise _Unanswered(windows.problem, [searched[each] for each in windows.failed])

    def _forget_deleted(self) -> None:
        organizations = {each.uid for each in self.cache.organizations}
        senders = {each.uid for each in self.cache.senders}
        memories: tuple[dict[tuple[str, str], Any], ...]
        memories = (self.rests, self._begun, self._searched, self._late_failures)
        for memory in memories:
            for organization, sender in list(memory):
                if organization not in organizations or sender not in senders:
                    del memory[organization, sender]
        for gone in self._swept.keys() - organizations:
            del self._swept[gone]

    def _keep(self, key: tuple[str, str], rest: _Rest) -> None:
        if rest.untried or rest.again:
            self.rests[key] = rest

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


def _days(spans: Iterable[Window], oldest: datetime) -> Iterator[Window]:
    """Yield the windows of the times of sending, without those that are too long ago."""
    for span in spans:
        yield from windows_back(span.end, max(span.start, oldest), WINDOW)


def merged(windows: Iterable[Window]) -> tuple[Window, ...]:
    """
    Return the windows in their order, neighbours as one: thousands of Senders may have some.

    Of more than ``MAX_SPANS``, those become one that have the least time between them.
    """
    spans: list[Window] = []
    for window in windows:
        if spans and (window.end == spans[-1].start or window.start == spans[-1].end):
            spans[-1] = _union(spans[-1], window)
        else:
            spans.append(window)
    gaps = [_gap(one, other) for one, other in pairwise(spans)]
    nearest = sorted(range(len(gaps)), key=gaps.__getitem__)[: max(0, len(spans) - MAX_SPANS)]
    # From the end, so that the numbers before stay as they are.
    for number in sorted(nearest, reverse=True):
        spans[number : number + 2] = [_union(*spans[number : number + 2])]
    return tuple(spans)


def _union(one: Window, other: Window) -> Window:
    return Window(min(one.start, other.start), max(one.end, other.end))


def _gap(one: Window, other: Window) -> timedelta:
    return max(one.start, other.start) - min(one.end, other.end)


def _is_changed(before: Organization | Sender, now: Organization | Sender) -> bool:
    # An object of a request may be newer than the one in memory.
    return before.uid != now.uid or now.metadata.generation > before.metadata.generation


def _some_senders(names: Sequence[str]) -> str:
    """Return the first names, and the number of the others."""
    shown = ", ".join(f"Sender/{name}" for name in names[:MAX_SENDERS_SHOWN])
    others = len(names) - MAX_SENDERS_SHOWN
    return f"{shown} and {others} more" if others > 0 else shown

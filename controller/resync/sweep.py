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
Sender is changed: eSAW may let it last for days. A window that eSAW does not answer, or with too many
envelopes for any sweep, hides no older one: it is named, and asked for again after them. The outcome also
reports answers in which eSAW may have left envelopes out.

A sweep of all asks for each Sender that was known at its begin, once. A late Sender is one that the last
complete sweep of all did not search, since its key did not work then, or since it is newer. Late Senders are
searched without the others. What fails for one is repeated for it alone, after a pause that only it has.

It runs at its interval, and when a person requests it by the label ``counterfoil.dev/request``.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import NamedTuple, Self

from controller.access.sender_keys import KeyUnusable, SenderKeys
from controller.cache import Cache, is_usable
from controller.resync.envelope_listing import (
    REPEATED,
    EnvelopeListing,
    TooManyListed,
    Window,
    search_failure,
    user_of,
    windows_back,
)
from controller.resync.envelope_search import EnvelopeSearch, TooManyRequests
from controller.resync.event_starter import (
    CeilingReached,
    EventStarter,
    EventStarts,
    StartForbidden,
    StartResult,
)
from controller.scheduling.retry_policy import INCOMPLETE_SWEEP
from counterfoil.clock import Clock
from counterfoil.esaw.client import EsawClients, EsawUserClient
from counterfoil.esaw.errors import EsawError, HttpStatusError
from counterfoil.kube.errors import ApiError
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
    waiting: tuple[str, ...] = ()
    """Names of the Senders that were not asked for although their keys work: they are newer than the sweep,
    or it ended before."""
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
    unsearched: str = ""
    """Why nobody's envelopes were asked for; empty if that was possible."""
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
        if self.unsearched:
            return f"Nothing was searched: {self.unsearched}"
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
        if self.waiting:
            names = _some_senders(self.waiting)
            parts.append(f"Not searched yet: {names}. Each is searched soon, or by the next sweep.")
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
        """
        Return the outcome of an earlier sweep together with this one of late Senders.

        After a restart they may have been searched before, so what this one did not change is not counted
        again. Then envelopes without an event may be more than the result has, but not fewer than it had.
        """
        return self._replace(
            created=self.created + earlier.found,
            known=earlier.known,
            reopened=self.reopened + earlier.reopened,
            without_event=max(self.without_event, earlier.refused),
            is_of_late=True,
        )

    def result(self, now: datetime) -> SweepResult:
        """Return the result for the Organization's status."""
        is_silent = not (
            self._has_failed or self.unusable or self.waiting or self.without_event or self.unsearched
        )
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
    """Those that are searched again: eSAW did not answer or listed too much, or what decides about them was
    changed."""


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
        """
        Continue with a rest; else begin with now, and search the whole look-back.

        That is so if the rest is about other envelopes, and if it has only windows that are searched again:
        eSAW may never answer them, and envelopes of all other times of sending end meanwhile.
        """
        is_other = rest is None or rest.statuses != tuple(statuses) or rest.newest > now
        if rest is None or is_other or not rest.untried:
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
        searched = self.all
        return self._rest(done, [searched[each] for each in self.failed])

    def rest_after_cut(self, number: int) -> _Rest:
        """
        Return what is left if the window of this number has too many envelopes.

        At least one window is done each time, also if eSAW lists envelopes without end. The first one is
        searched again after the others.
        """
        return self.rest(number) if number > 0 else self._rest(1, self.all[:1])

    def rest_after_change(self, done: int) -> _Rest:
        """The same, if what decides which envelopes are found was changed."""
        return self._rest(done, self.all[:done])

    def _rest(self, done: int, once: Sequence[Window]) -> _Rest:
        left = self.again[max(done - len(self.untried), 0) :]
        return _Rest(self.statuses, self.now, merged(self.untried[done:]), merged([*left, *once]))


@dataclass
class _Left:
    """The parts that a search for one Sender left out. A text is empty if there are none of its kind."""

    skipped: str = ""
    refused: str = ""
    cut: str = ""
    doubt: str = ""
    without_event: int = 0
    """Number of listed envelopes that got no event. The search is not repeated for them."""

    @property
    def is_nothing(self) -> bool:
        """Whether the search need not be repeated before the next sweep of all."""
        return not (self.skipped or self.refused or self.cut or self.doubt)


@dataclass
class _Sweep:
    """One sweep of one Organization: of all Senders, or of late ones."""

    starts: EventStarts
    listed_again: int = 0
    """Number of listed envelopes that had an event."""
    is_over: bool = False
    """Whether no further Sender is asked for."""
    left: _Left = field(default_factory=_Left)
    """Parts that the present search leaves out."""

    @property
    def organization(self) -> Organization:
        return self.starts.organization


_Key = tuple[str | None, datetime | None]
"""The fingerprint of a key, and the time at which it was obtained: a new key has others."""


@dataclass
class SearchRecord:
    """The searches of this process for one Sender. Times are of the clock that is never set."""

    seen: float
    """When this process first knew a key of it that works."""
    begun: float = -1.0
    """When its last search began."""
    left: _Left | None = None
    """Parts that its last search left out; None: none has ended since the last sweep of all began."""
    without_event: int = 0
    """Number of envelopes that got no event by a search since then, the largest one."""
    failures: int = 0
    """Late searches in a row with this key that left something out."""
    not_before: float = -1.0
    """The earliest next late search after such a one."""
    key: _Key = (None, None)
    rest: _Rest | None = None
    """Windows with which the next search continues."""

    @property
    def is_complete(self) -> bool:
        """Whether its last search left nothing out, and began after the last sweep of all."""
        return self.left is not None and self.left.is_nothing

    @property
    def rank(self) -> tuple[float, float]:
        """The order: the longest wait is first. A Sender that is created again and again is behind others."""
        return max(self.seen, self.begun), self.begun

    def is_paused(self, key: _Key, now: float) -> bool:
        """Whether the pause lasts after a late search with this key that left something out."""
        return self.failures > 0 and self.key == key and now < self.not_before

    def begin_sweep_of_all(self) -> None:
        """Forget the parts that earlier searches left out."""
        self.left, self.without_event = None, 0

    def begin(self, key: _Key, now: float) -> None:
        """Note that a search begins."""
        if self.key != key:
            self.key, self.failures = key, 0
        self.begun, self.left = now, None

    def end(self, left: _Left) -> None:
        """Note what a search left out."""
        self.left = left
        self.without_event = max(self.without_event, left.without_event)
        if left.is_nothing:
            self.failures = 0

    def pause(self, now: float) -> None:
        """Let the next late search wait if this one left something out, or had an error."""
        if not self.is_complete:
            self.not_before = now + INCOMPLETE_SWEEP.pause(self.failures)
            self.failures += 1

    def keep(self, rest: _Rest) -> None:
        """Keep the rest of a search, if there is any."""
        if rest.untried or rest.again:
            self.rest = rest


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
    searches: dict[tuple[str, str], SearchRecord] = field(default_factory=dict)
    """By Organization and Sender (uids)."""
    _swept: set[str] = field(default_factory=set)
    """Organizations (uids) of which this process has begun a sweep of all Senders."""

    def late_senders(self, organization: Organization) -> list[Sender]:
        """
        Return the authorised senders for which no search since the last complete sweep of all began left
        nothing out, without those that have a pause. Where another process made that sweep, the times of
        sender and sweep decide.
        """
        last = organization.status.sweep
        if last is None or not last.complete or organization.spec.archive_action is None:
            return []
        now = self.clock.monotonic()
        usable = self.cache.authorized_senders(organization.name)
        late = [each for each in usable if self._is_missing(organization, each)]
        return [each for each in late if not self._search_of(organization, each).is_paused(_key(each), now)]

    async def sweep_late(self, organization: Organization, senders: Sequence[Sender]) -> SweepOutcome:
        """Ask for late senders. The outcome names each one that is still late, also after an error of the API
        server, which ends it."""
        if (action := organization.spec.archive_action) is None:
            return _without_action(organization)
        untried, sweeps = {each.uid for each in senders}, list[_Sweep]()
        try:
            for sender in self._usable(organization, untried):
                # The events of one end no search of another.
                sweeps.append(self._new_sweep(organization, action))
                try:
                    await self._ask(sweeps[-1], sender)
                finally:
                    self._search_of(organization, sender).pause(self.clock.monotonic())
                if sweeps[-1].is_over:
                    break
        except ApiError as problem:
            fields = {"organization": organization.name}
            _log.warning("the search for late senders ended early: %s", problem, extra=fields)
        return self._outcome(organization, sweeps)

    async def sweep(self, organization: Organization) -> SweepOutcome:
        """
        Ask for all authorised senders of the organization, first for those that waited longest. One whose key
        begins to work meanwhile is asked for, too, but none that was created meanwhile.

        A sender whose envelopes can't be asked for now is skipped until the next sweep. Raises ``ApiError``.
        """
        if (action := organization.spec.archive_action) is None:
            return _without_action(organization)
        self._forget_deleted()
        self._swept.add(organization.uid)
        for search in self._searches(organization):
            search.begin_sweep_of_all()
        sweep = self._new_sweep(organization, action)
        untried = {each.uid for each in self.cache.senders_of(organization.name)}
        for sender in self._usable(organization, untried):
            await self._ask(sweep, sender)
            if sweep.is_over:
                break
        return self._outcome(organization, [sweep])

    def _new_sweep(self, organization: Organization, action: str) -> _Sweep:
        return _Sweep(EventStarts(organization, action, Origin.SWEEP, self.bounds.started))

    def _usable(self, organization: Organization, untried: set[str]) -> Iterator[Sender]:
        """Take the uids of authorised Senders off, and yield each one in its newest state. The longest wait
        is first, then those whose keys begin to work meanwhile."""
        while True:
            usable = [
                each for each in self.cache.authorized_senders(organization.name) if each.uid in untried
            ]
            if not usable:
                return
            for each in sorted(usable, key=lambda each: self._search_of(organization, each).rank):
                newest = self.cache.senders.get(each.name)
                if newest is not None and newest.uid == each.uid and is_usable(newest):
                    untried.discard(newest.uid)
                    yield newest

    def _is_missing(self, organization: Organization, sender: Sender) -> bool:
        """Whether no search since the last sweep of all began left nothing out for this Sender."""
        search = self.searches.get((organization.uid, sender.uid))
        if search is not None and search.left is not None:
            return not search.is_complete
        if organization.uid in self._swept:
            return True
        last, authorized = organization.status.sweep, find_condition(sender.status.conditions, "Authorized")
        if last is None or authorized is None:
            return False
        # Times in a status are whole seconds.
        return authorized.last_transition_time >= last.completion_time.replace(microsecond=0)

    def _search_of(self, organization: Organization, sender: Sender) -> SearchRecord:
        new = SearchRecord(seen=self.clock.monotonic())
        return self.searches.setdefault((organization.uid, sender.uid), new)

    def _searches(self, organization: Organization) -> list[SearchRecord]:
        """Return those for the Senders of now: nothing is left out for one that was deleted."""
        senders = self.cache.senders_of(organization.name)
        found = (self.searches.get((organization.uid, each.uid)) for each in senders)
        return [each for each in found if each is not None]

    def _outcome(self, organization: Organization, sweeps: Sequence[_Sweep]) -> SweepOutcome:
        """Return what these changed, and what all searches left out since the last sweep of all began."""
        searches = self._searches(organization)
        left = [each.left for each in searches if each.left is not None]
        unusable, waiting = list[str](), list[str]()
        for sender in self.cache.senders_of(organization.name):
            search = self.searches.get((organization.uid, sender.uid))
            if search is not None and search.left is not None:
                continue
            if not is_usable(sender):
                unusable.append(sender.name)
            elif self._is_missing(organization, sender):
                waiting.append(sender.name)
        cuts = [each.cut for each in left if each.cut]
        doubts = [each.doubt for each in left if each.doubt]
        created = sum(each.starts.created for each in sweeps)
        reopened = sum(each.starts.started for each in sweeps) - created
        return SweepOutcome(
            created,
            skipped=tuple(each.skipped for each in left if each.skipped),
            refused=tuple(each.refused for each in left if each.refused),
            unusable=tuple(sorted(unusable)),
            waiting=tuple(sorted(waiting)),
            without_event=sum(each.without_event for each in searches),
            known=sum(each.listed_again for each in sweeps) - reopened,
            reopened=reopened,
            cut="; ".join(cuts[:MAX_SENDERS_SHOWN]),
            doubts="; ".join(doubts[:MAX_SENDERS_SHOWN]),
        )

    async def _ask(self, sweep: _Sweep, sender: Sender) -> None:
        """Search the envelopes of one Sender, and remember what was left out. Raises ``ApiError``."""
        organization, left = sweep.organization, _Left()
        sweep.left, search = left, self._search_of(organization, sender)
        search.begin(_key(sender), self.clock.monotonic())
        try:
            await self._sweep_sender(sweep, sender)
        except _Unanswered as unanswered:
            self._report(left, sender, unanswered.problem, str(unanswered))
        except (EsawError, KeyUnusable) as problem:
            self._report(left, sender, problem, "")
        except _SenderCut as cut:
            left.cut = f"Sender/{sender.name} {cut}"
        except CeilingReached as reached:
            left.cut, sweep.is_over = f"Sender/{sender.name}: {reached}", True
        except _OrganizationChanged:
            left.cut, sweep.is_over = f"Organization/{organization.name} was changed meanwhile", True
        except StartForbidden as forbidden:
            left.refused = f"{sender.name} ({str(forbidden)[:MAX_WHY].rstrip('.')})"
        search.end(left)
        fields = {"organization": organization.name, "sender": sender.name}
        if left.cut:
            _log.warning("the sweep stopped early: %s", left.cut, extra=fields)
        if left.doubt:
            _log.warning("eSAW may have left envelopes out of the sweep: %s", left.doubt, extra=fields)

    def _report(self, left: _Left, sender: Sender, problem: EsawError | KeyUnusable, times: str) -> None:
        """Note that a Sender was not searched, or not for these times of sending."""
        extra = {"sender": sender.name, "times": times}
        _log.info("the sweep skipped a sender: %s", problem, extra=extra)
        failure = search_failure(problem, self.clock.now())
        if failure.needs_person:
            why = failure.message[:MAX_WHY].rstrip(".")
            where = f"{times}; " if times else ""
            left.refused = f"{sender.name} ({where}{failure.reason}: {why})"
        else:
            left.skipped = f"{sender.name} ({times})" if times else sender.name

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
                sweep.left.doubt = f"Sender/{sender.name} {search.doubt}"

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
        search = self._search_of(sweep.organization, sender)
        now, spec = self.clock.now(), sweep.organization.spec
        windows = _Windows.of(search.rest, spec.statuses, now, now - spec.sweep.lookback)
        search.rest = None
        for number, window in enumerate(windows.all):
            try:
                await self._examine(sweep, sender, listing, window)
                windows.answered()
            except EsawError as problem:
                windows.not_answered(number, problem)
                is_about_key = isinstance(problem, HttpStatusError) and problem.status == 401
                if not is_about_key and windows.failed_in_a_row < MAX_FAILED_IN_A_ROW:
                    continue
                search.keep(windows.rest(number + 1))
                if is_about_key or not windows.has_answer:
                    raise
                break
            except (TooManyListed, TooManyRequests) as cut:
                search.keep(windows.rest_after_cut(number))
                message = str(cut) if isinstance(cut, TooManyListed) else "needs too many requests"
                raise _SenderCut(message) from None
            except (_OrganizationChanged, _SenderCut):
                search.keep(windows.rest_after_change(number))
                raise
            except Exception:
                # What was created is known by its event, so the same window makes progress.
                search.keep(windows.rest(number))
                raise
        if windows.problem is not None:
            searched = windows.all
            raise _Unanswered(windows.problem, [searched[each] for each in windows.failed])

    def _forget_deleted(self) -> None:
        organizations = {each.uid for each in self.cache.organizations}
        senders = {each.uid for each in self.cache.senders}
        for organization, sender in list(self.searches):
            if organization not in organizations or sender not in senders:
                del self.searches[organization, sender]
        self._swept.intersection_update(organizations)

    async def _examine(self, sweep: _Sweep, sender: Sender, listing: EnvelopeListing, window: Window) -> None:
        is_warned = False
        async for listed in listing.listed(sweep.organization.spec.statuses, window):
            if listed.id is None:
                if not is_warned:
                    _log.warning("eSAW listed envelopes without a GUID", extra={"sender": sender.name})
                is_warned = True
                sweep.left.without_event += 1
                continue
            started = await self.event_starter.start(
                sweep.starts, listed.id, listed.status, sender=sender.name
            )
            if started.result is StartResult.CREATED:
                self.metrics.sweep_found.labels(sweep.organization.name).inc()
                _log.info("the sweep found an envelope without a callback", extra={"envelope": listed.id})
            elif started.result is StartResult.REFUSED:
                sweep.left.without_event += 1
            else:
                sweep.listed_again += 1


def _without_action(organization: Organization) -> SweepOutcome:
    """Return the outcome where no event that a sweep creates would archive anything. It is not complete if
    callbacks archive all the same, by actions that are not listed."""
    where = f"spec.actions of Organization/{organization.name}"
    why = f"no action in {where} has the handling Archive. Give one of them this handling."
    return SweepOutcome(0, cut=why if organization.spec.archived_actions else "", unsearched=why)


def _key(sender: Sender) -> _Key:
    key = sender.status.key
    return (key.fingerprint, key.obtained_time) if key is not None else (None, None)


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

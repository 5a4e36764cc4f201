"""
The imports: search a span of time for old envelopes, create their events, and count the results.

Every ``POLL_SECONDS`` all Imports are read; each unfinished one has a task. The task searches window after
window, as ``import_progress`` decides, and stores the progress after each one. An event is created only if
the Import has room for one more unfinished event (``spec.maxUnfinished``) and its Organization has, too
(``EventStarter``). A window that is interrupted is searched again, and creates nothing twice.

What the events do is not decided here; they are processed as any other, after all others in the queue.
"""

import asyncio
import heapq
import logging
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, Protocol

from msgspec.structs import replace

from controller.access.sender_keys import KeyUnusable, SenderKeys
from controller.cache import Cache, is_usable
from controller.kept_metadata import with_kept_metadata
from controller.resync.envelope_listing import (
    EnvelopeListing,
    SearchFailure,
    TooManyListed,
    search_failure,
    user_of,
)
from controller.resync.envelope_search import EnvelopeSearch, ListMemory, TooManyRequests
from controller.resync.event_load import NOT_ARCHIVED
from controller.resync.event_starter import (
    CeilingReached,
    EventStarter,
    EventStarts,
    Started,
    StartForbidden,
    StartResult,
    existed_before,
    has_started,
)
from controller.resync.import_progress import (
    MAX_MESSAGE,
    RUNNING,
    EventTally,
    ImportHold,
    Search,
    WindowChanged,
    WindowCount,
    after_completion,
    after_events,
    after_search,
    broken_off,
    concluded,
    events_waiting,
    hold,
    internal_error_hold,
    next_search,
    report_archive,
    report_hold,
    sample_due,
    search_of,
    searched_statuses,
    sender_names,
    tally,
    too_many_senders,
    windows_of,
    with_senders,
)
from controller.resync.import_quota import HeldEvents, ImportQuota, QuotaReached, lacking_room
from controller.resync.import_report_writer import ImportReportWriter, new_row, row_of_event
from controller.scheduling.retry_policy import Backoff
from counterfoil.archives.errors import ArchiveError
from counterfoil.archives.import_report.content import (
    EVENT_REFUSED,
    MAX_LISTED_ID,
    NO_ENVELOPE_ID,
    ReportOutcome,
    ReportRow,
    RowsOfEvents,
    row_of_known,
    row_of_list,
    size_of,
)
from counterfoil.clock import Clock
from counterfoil.esaw.client import EsawClients
from counterfoil.esaw.errors import EsawError
from counterfoil.esaw.file_sample import FileSampling
from counterfoil.kube.answers import parse_readable
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError, Conflict, NotFound
from counterfoil.kube.page_limits import LARGE_PAGE
from counterfoil.kube.status import write_status
from counterfoil.kube.watch import Raw
from counterfoil.metrics import Metrics
from counterfoil.resources import (
    IMPORT_ARCHIVE_LABEL,
    IMPORT_LABEL,
    IMPORT_WINDOW_LABEL,
    SENDER_LABEL,
    Archive,
    EnvelopeEvent,
    EnvelopeStatus,
    Import,
    ImportStatus,
    Organization,
    Origin,
    ResourceInvalid,
    Sender,
    event_name,
    find_condition,
)
from counterfoil.resources.archive_kinds import DISCARDED_SCHEME
from counterfoil.resources.imports import is_of_import, read_window_label
from counterfoil.resources.naming import EnvelopeId, envelope_id, is_same_user
from counterfoil.resources.routes import original_names
from counterfoil.untrusted.background_work import set_background
from counterfoil.untrusted.fair_slots import FairSlots

_log = logging.getLogger(__name__)

POLL_SECONDS = 10.0
"""Interval between two reads of all Imports: the time after which a change of one takes effect."""

ROOM_SECONDS = 2.0
"""Pause before unfinished events are counted again, and before the Import is read again within a window."""

FULL_SECONDS = 60.0
"""Time without room for one more event after which a search is left: the Import says what it waits for."""

MAX_ROWS_WITHOUT_ID = 100
"""Maximum number of ids of a window that are no GUID and have a row in the report. No other ceiling holds for
them, as they get no event; the report has the number of the others."""

MAX_SAMPLES = 20
"""Maximum number of unfinished events of a window whose reasons are read."""

LONG_LIST = 1024 * 1024
"""Bytes of the list of a window up to which any number of Imports search at the same time."""

LONG_LISTS = 2
"""Maximum number of Imports with a longer list in memory. A list has up to 50,000 rows of 1,300 bytes."""

LONG_LIST_SECONDS = 3600.0
"""Time after which a search with a long list begins again if others wait for its memory. It is long enough to
look up the events of all envelopes of a window that exist by then."""

FAILURE_SECONDS = 60.0
"""Pause before a Sender is searched again after eSAW, the key or a ceiling stopped its search."""

UNCORRECTED = Backoff.doubling(FAILURE_SECONDS, 3600.0)
"""A search that only a person can correct. A changed Organization or Sender ends the pause."""


@dataclass(frozen=True)
class ImportBounds:
    """Bounds of the search of one window. Tests use smaller values."""

    hits: int = 50_000
    """Envelopes that it examines; each costs a request to the API server."""
    requests: int = 10_000
    """Requests to eSAW."""
    quota: int = 100_000
    """EnvelopeEvents that the namespace may have, finished ones included. Of what others leave of it, Imports
    take half, and the other half is left to callbacks."""
    long_list: int = LONG_LIST


RECOUNT = Backoff.doubling(60.0, 900.0)
"""A window with an event that waited for its delete and is archived again. Only its full state tells that,
and a window may have 50,000 events."""

_Specs = tuple[tuple[str, int] | None, tuple[str, int] | None]
"""Uids and generations of an Organization and of a Sender; None: it does not exist."""


class _Versions(NamedTuple):
    """All that a person or a consent corrects."""

    specs: _Specs
    fingerprint: str | None
    """That of the Sender's key."""


class _Interrupted(Exception):
    """The window must not be continued now: the Import was changed, deleted or held, or its Organization or
    Sender was changed."""


class _NothingKept(Exception):
    """The archive of the Import keeps no file; the message says what to do."""


class _Full(Exception):
    """The Import has had no room for one more unfinished event for ``FULL_SECONDS``."""


class _LacksRoom(CeilingReached):
    """Windows that are not searched to their end fill the part of Imports of the quota. The message says what
    a person can do. Without that, only the removal of events of callbacks makes room."""


class _Problem(NamedTuple):
    """Why a Sender was not searched. It counts until a search succeeds."""

    hold: ImportHold
    until: float
    """When the search is tried again, by the clock that is never set."""
    versions: _Versions
    """The search is tried again at once after a change of the Organization or the Sender."""
    failures: int
    """Number of successive failures with these versions."""


class _Memory(NamedTuple):
    """The conclusions from the lists of one user of one eSAW."""

    whose: tuple[str, str, str]
    """Uid of the Organization, its address of eSAW, and uid of the Sender."""
    lists: ListMemory


class _Recount(NamedTuple):
    """The pause before the events of a window are counted again, since one of them was running."""

    until: float
    """Its end, by the clock that is never set."""
    counts: int
    """Number of successive counts without a result before this one."""


class CopiesWork(Protocol):
    """The work on Imports with ``copiesOnly``."""

    async def advance(self, imported: Import) -> None:
        """Work until the Import has to wait. Raises ``ApiError``."""

    def forget_others(self, uids: Collection[str]) -> None:
        """Drop the state of all Imports but these."""


@dataclass
class ImportRunner:
    """Works on all Imports."""

    kube: KubeClient
    cache: Cache
    sender_keys: SenderKeys
    esaw_clients: EsawClients
    event_starter: EventStarter
    report_writer: ImportReportWriter
    clock: Clock
    metrics: Metrics
    copies: CopiesWork
    bounds: ImportBounds = ImportBounds()
    quota: ImportQuota = field(init=False)
    _running: set[str] = field(default_factory=set)
    _problems: dict[tuple[str, str], _Problem] = field(default_factory=dict)
    """By uid of the Import and name of the Sender."""
    _memories: dict[tuple[str, str], _Memory] = field(default_factory=dict)
    """Conclusions from eSAW's lists, by uid of the Import and name of the Sender."""
    _left: dict[tuple[str, str], "_WindowSearch"] = field(default_factory=dict)
    """Searches that were left without room, by uid of the Import and id of the window: they continue without
    another look-up of what they counted."""
    _searched: dict[tuple[str, str], "_WindowSearch"] = field(default_factory=dict)
    """Searches whose list is not stored yet, by uid of the Import and id of the window."""
    _report_delays: dict[str, "_ReportDelay"] = field(default_factory=dict)
    """By uid of the Import."""
    _samplings: dict[str, FileSampling] = field(default_factory=dict)
    """By uid of the dry run."""
    _recounts: dict[tuple[str, str], _Recount] = field(default_factory=dict)
    """By uid of the Import and id of the window."""
    long_lists: FairSlots = field(default_factory=lambda: FairSlots(LONG_LISTS))
    """Memory for long lists, by Organization."""
    _failing: dict[str, ImportHold] = field(default_factory=dict)
    """The internal errors of Imports, by uid, until a step of their work succeeds."""
    _full: set[str] = field(default_factory=set)
    """Uids of the Imports that had no room for one more unfinished event."""
    _counted: set[str] = field(default_factory=set)
    """Names of the Imports whose events a metric counts."""
    _problem_logged: str = ""

    def __post_init__(self) -> None:
        self.quota = ImportQuota(self.kube, self.clock, self.bounds.quota)

    async def run(self) -> None:
        """Work until cancelled, in the background."""
        set_background(True)
        async with asyncio.TaskGroup() as tasks:
            while True:
                try:
                    unfinished = await self._unfinished()
                except ApiError as problem:
                    self._log_once(str(problem))
                else:
                    self._problem_logged = ""
                    self._forget_others(unfinished)
                    for imported in unfinished:
                        if imported.name not in self._running:
                            self._running.add(imported.name)
                            tasks.create_task(self._work(imported.name))
                await self.clock.sleep(POLL_SECONDS)

    async def _unfinished(self) -> list[Import]:
        """Read all Imports, and let others know them; return those that are not complete."""
        known, found = self.cache.imports or {}, dict[str, Import]()
        async for raw, imported in self.kube.list_parsed(Import, limit=LARGE_PAGE):
            if imported is not None:
                shown = _with(imported, replace(imported.status, senders=(), groups=()))
                found[imported.name] = with_kept_metadata(shown)
            elif (before := known.get(raw["metadata"]["name"])) is not None:
                # What can't be read is not gone.
                found[before.name] = before
        self.cache.imports = found
        for imported in found.values():
            if imported.status.completion_time is None:
                continue
            try:
                # kubectl wait ignores conditions of an older generation.
                await self._store(imported, after_completion(imported))
            except ApiError as problem:
                _log.warning("the generation of Import/%s is not stored yet: %s", imported.name, problem)
        return [each for each in found.values() if each.status.completion_time is None]

    def _log_once(self, problem: str) -> None:
        """Log why the Imports can't be read. It may last: without their CRD, or without the right."""
        if problem != self._problem_logged:
            _log.warning("the Imports can't be read: %s", problem)
        self._problem_logged = problem

    def _forget_others(self, unfinished: Iterable[Import]) -> None:
        """Drop the state of Imports that are complete or deleted."""
        by_uid, names = {each.uid: each for each in unfinished}, {each.name for each in unfinished}
        self.copies.forget_others(by_uid.keys())
        for memory in (self._problems, self._memories, self._recounts):
            for key in [each for each in memory if each[0] not in by_uid]:
                del memory[key]
        for kept in (self._left, self._searched):
            for key, window in list(kept.items()):
                imported = by_uid.get(key[0])
                # Without its time, all that it counted would be looked up again for each batch of events.
                has_time = kept is self._left and imported is not None and window.may_continue(imported)
                is_over = window.has_had_its_turn if has_time else window.is_in_the_way
                # Such a window is searched again.
                if imported is None or is_over:
                    del kept[key]
                    window.release()
        for of_uid in (self._report_delays, self._failing, self._samplings):
            for uid in of_uid.keys() - by_uid.keys():
                del of_uid[uid]
        for gone in self._counted - names:
            self.metrics.import_events.remove_by_labels({"import": gone})
        self._counted &= names
        self._full &= by_uid.keys()

    async def _work(self, name: str) -> None:
        try:
            await self.advance(name)
        except ApiError as problem:
            _log.warning("Import/%s can't continue at the moment: %s", name, problem)
        except Exception as error:
            _log.exception("Import/%s broke off", name)
            await self._report_internal_error(name, internal_error_hold(error))
        finally:
            self._running.discard(name)

    async def _report_internal_error(self, name: str, hold: ImportHold) -> None:
        """Store that the Import met an internal error, so that a person learns of it."""
        try:
            if (imported := await self.newest(name)) is not None:
                # The next try begins as any other, and must not say that nothing is wrong.
                self._failing[imported.uid] = hold
                await self._store(imported, broken_off(imported, hold, now=self.clock.now()))
        except Exception:
            _log.warning("that Import/%s broke off could not be stored", name, exc_info=True)

    async def advance(self, name: str) -> None:
        """Work on one Import until it has to wait. Raises ``ApiError``."""
        while (imported := await self.newest(name)) is not None:
            if imported.spec.copies_only:
                await self.copies.advance(imported)
                self._failing.pop(imported.uid, None)
                return
            imported, search = await self._observe(imported)
            if search is None:
                self._failing.pop(imported.uid, None)
                return
            key = imported.uid, search.id
            window = self._searched.pop(key, None) or await self._search(imported, search)
            if window is None:
                continue
            try:
                newest = await self.newest(name)
                if newest is None or newest.uid != imported.uid:
                    return
                listed = await self.report_writer.with_list(
                    newest, search, window.rows.values(), window.unnamed, window.memory
                )
            except ArchiveError as problem:
                self._delay_report(imported, problem)
                if not window.is_in_the_way:
                    self._searched[key] = window
                continue
            finally:
                if key not in self._searched:
                    window.release()
            self._report_delays.pop(imported.uid, None)
            self._failing.pop(imported.uid, None)
            await self._store(newest, after_search(newest, search, window.count, self.clock.now(), listed))

    async def newest(self, name: str) -> Import | None:
        """Return the newest state; None if it is deleted or complete. Raises ``ApiError``."""
        try:
            imported = Import.parse(await self.kube.get(Import, name))
        except NotFound:
            return None
        return imported if imported.status.completion_time is None else None

    async def _store(self, imported: Import, status: ImportStatus) -> Import:
        """Store a status. After a conflict the caller's next read has the state that decides."""
        try:
            return await write_status(self.kube, imported, status)
        except Conflict:
            _log.info("Import/%s was changed meanwhile", imported.name)
            return imported

    # -- What is next ----------------------------------------------------------------------------------------

    async def _observe(self, imported: Import) -> tuple[Import, Search | None]:
        """Count finished events, and store why the Import waits or continues; return the next search."""
        counted, waiting = await self._count_windows(imported)
        if counted is None:
            return imported, None
        imported = observed = counted
        problems, due = self._problems_of_senders(observed)
        names = sender_names(observed, (each.name for each in self._senders(observed)))
        left_out = too_many_senders(observed, names)
        if left_out is None or observed.status.start_time is not None:
            observed = _with(observed, with_senders(observed, names, problems))
            held = self.held(observed)
        else:
            held = self.held(observed) or left_out
        is_full = held is None and await self._is_full(observed)
        may_search = held is None and not is_full and self._is_report_due(observed)
        # One that failed is tried again, and has its reason until that succeeds.
        usual = next_search(observed, problems) if may_search else None
        search = next_search(observed, problems.keys() - due) if may_search else None
        if is_full and waiting is None:
            unfinished = await self._unfinished_events(f"{IMPORT_LABEL}={imported.name}")
            waiting = events_waiting(_readable(unfinished))
        status = concluded(
            observed,
            held or self._unsolved(observed),
            is_waiting=usual is None and not is_full,
            now=self.clock.now(),
            left_out=left_out,
            stalled=waiting if usual is None else None,
        )
        stored = await self._store(imported, status)
        is_stored = stored.metadata.resource_version != imported.metadata.resource_version
        is_same = status == imported.status
        return stored, search if is_stored or is_same else None

    def held(self, imported: Import) -> ImportHold | None:
        """Return why the Import must not create events now; None if it may."""
        organization = self.cache.organizations.get(imported.organization)
        archives, use = self._archives(imported), self.cache.archive_use
        held = hold(imported, organization, archives, use, self.clock.now())
        return held or (None if self._is_due(imported, _CEILING) else self._ceiling(imported))

    def _archives(self, imported: Import) -> dict[str, Archive | None]:
        """
        Return the Archives that its events read or write, by name; None for a missing one.

        That are its own, those to which the Organization's routes lead, and those of other Imports that still
        exist: an envelope may be there already.
        """
        organization = self.cache.organizations.get(imported.organization)
        # Also with its own, since events archive nothing without ``spec.archiveRef`` of the Organization.
        names = (original_names(organization.spec) if organization is not None else ()) or ("?",)
        if imported.spec.archive_ref is not None:
            names = (imported.spec.archive_ref.name, *names)
        found = {name: self.cache.archives.get(name) for name in names}
        for each in self.cache.imports_of(imported.organization):
            ref = each.spec.archive_ref
            if ref is not None and not each.spec.dry_run and (other := self.cache.archives.get(ref.name)):
                found[ref.name] = other
        return found

    def _ceiling(self, imported: Import) -> ImportHold | None:
        """Return the ceiling that stopped the last search."""
        problem = self._problems.get((imported.uid, _CEILING))
        return problem.hold if problem is not None else None

    def _unsolved(self, imported: Import) -> ImportHold | None:
        """Return what stopped the Import and counts until it succeeds, or its Archive is changed."""
        delay = self._report_delays.get(imported.uid)
        is_of_archive = delay is not None and delay.version == self._archive_version(imported)
        of_report = delay.hold if delay is not None and is_of_archive else None
        return self._failing.get(imported.uid) or self._ceiling(imported) or of_report

    def _senders(self, imported: Import) -> list[Sender]:
        return self.cache.senders_of(imported.organization)

    def _problems_of_senders(self, imported: Import) -> tuple[dict[str, ImportHold], set[str]]:
        """Return why Senders were not searched, and the names of those of them whose search is due again."""
        organization = imported.organization
        found, due = dict[str, ImportHold](), set[str]()
        usable = {each.name for each in self.cache.authorized_senders(organization)}
        senders = {each.name for each in self._senders(imported)}
        refs = [each.name for each in imported.spec.sender_refs]
        known = [each.name for each in imported.status.senders]
        for name in {*refs, *known, *senders}:
            sender = self.cache.senders.get(name)
            if sender is not None and (other := _of_another(imported, sender)) is not None:
                found[name] = other
            elif name not in usable:
                found[name] = _unusable(name, sender)
            elif (problem := self._problems.get((imported.uid, name))) is not None:
                found[name] = problem.hold
                if self._is_due(imported, name):
                    due.add(name)
        return found, due

    def _is_due(self, imported: Import, sender: str) -> bool:
        """Whether nothing that failed before prevents the search now."""
        problem = self._problems.get((imported.uid, sender))
        return (
            problem is None
            or self.clock.monotonic() >= problem.until
            or problem.versions != self.versions(imported, sender)
        )

    def specs(self, imported: Import, name: str) -> _Specs:
        """Return those of the Organization of an Import and of a Sender."""
        organization = self.cache.organizations.get(imported.organization)
        sender = self.cache.senders.get(name)
        return (
            (organization.uid, organization.metadata.generation) if organization is not None else None,
            (sender.uid, sender.metadata.generation) if sender is not None else None,
        )

    def versions(self, imported: Import, name: str) -> _Versions:
        """Return those of the Organization of an Import and of a Sender, and of its key."""
        sender = self.cache.senders.get(name)
        return _Versions(self.specs(imported, name), sender.key_fingerprint if sender is not None else None)

    def memory_of(self, imported: Import, organization: Organization, sender: Sender) -> ListMemory:
        """Return the conclusions from eSAW's lists of a Sender. Another eSAW may list fewer envelopes."""
        whose = organization.uid, organization.spec.base_url, sender.uid
        known = self._memories.get((imported.uid, sender.name))
        if known is None or known.whose != whose:
            known = self._memories[imported.uid, sender.name] = _Memory(whose, ListMemory())
        return known.lists

    def sampling_of(self, imported: Import) -> FileSampling:
        """Return what measures the files of a dry run."""
        return self._samplings.setdefault(imported.uid, FileSampling())

    async def say(self, imported: Import, hold: ImportHold) -> None:
        """Store why a search waits or continues, unless a problem counts. Raises ``ApiError``."""
        newest = await self.newest(imported.name)
        if newest is not None and newest.uid == imported.uid:
            said = self._unsolved(newest) or hold
            await self._store(newest, concluded(newest, said, is_waiting=False, now=self.clock.now()))

    def created(self, imported: Import) -> None:
        """Count one more event of an Import."""
        self.metrics.import_events.labels(imported.organization, imported.name).inc()
        self._counted.add(imported.name)

    def progressed(self, imported: Import, sender: str) -> bool:
        """A search of this Sender, or of the empty name one below the ceiling, succeeded. Return whether it
        had failed before."""
        return self._problems.pop((imported.uid, sender), None) is not None

    def _put_aside(
        self,
        imported: Import,
        sender: str,
        failure: SearchFailure,
        versions: _Versions,
        pauses: Backoff | None = None,
    ) -> None:
        """Remember why a Sender was not searched. ``versions`` are those with which the search began.
        ``pauses`` has the times until the next one, by default by the reason."""
        key = imported.uid, sender
        known = self._problems.get(key)
        failures = known.failures + 1 if known is not None and known.versions == versions else 0
        usual = UNCORRECTED if failure.needs_person and sender != _CEILING else Backoff((FAILURE_SECONDS,))
        pause = (pauses or usual).pause(failures)
        if failure.not_before is not None:
            pause = max(pause, (failure.not_before - self.clock.now()).total_seconds())
        hold = ImportHold(failure.reason, failure.message)
        self._problems[key] = _Problem(hold, self.clock.monotonic() + pause, versions, failures)

    async def _count_windows(self, imported: Import) -> tuple[Import | None, ImportHold | None]:
        """
        Write the parts of each open window that has no unfinished event, and count its events.

        Return the Import as stored, None if it was changed meanwhile, and why events of other windows wait
        for a person.
        """
        waiting: ImportHold | None = None
        for window in imported.status.open_windows:
            labels = f"{IMPORT_LABEL}={imported.name},{IMPORT_WINDOW_LABEL}={window.id}"
            unfinished = await self._unfinished_events(labels)
            waiting = waiting or events_waiting(_readable(unfinished))
            if unfinished:
                # Its end is seen here, without a count.
                self._recounts.pop((imported.uid, window.id), None)
                continue
            if not (self._is_report_due(imported) and self._is_recount_due(imported, window.id)):
                continue
            read_events = partial(self._count_events, imported, window.id, labels)
            try:
                reported, counts = await self.report_writer.with_parts(imported, window, read_events)
            except ArchiveError as problem:
                self._delay_report(imported, problem)
                continue
            except WindowChanged:
                self._delay_recount(imported, window.id)
                continue
            self._recounts.pop((imported.uid, window.id), None)
            self._report_delays.pop(imported.uid, None)
            status = after_events(_with(imported, reported), {window.id: counts}, self.clock.now())
            stored = await self._store(imported, status)
            if stored is imported:
                return None, waiting
            imported = stored
        return imported, waiting

    async def _count_events(
        self, imported: Import, window: str, labels: str, rows: RowsOfEvents
    ) -> EventTally:
        """Count the events of a window, and add a row of each if the status has the window's Sender. Raises
        ``ApiError``, ``WindowChanged``."""
        search = search_of(imported, window)

        async def ended() -> AsyncIterator[EnvelopeEvent]:
            async for event in self.kube.list_readable(EnvelopeEvent, labels=labels):
                if search is not None:
                    rows.add(row_of_event(search, event))
                yield event

        return await tally(ended())

    def _delay_recount(self, imported: Import, window: str) -> None:
        known = self._recounts.get((imported.uid, window))
        counts = known.counts + 1 if known is not None else 0
        until = self.clock.monotonic() + RECOUNT.pause(counts)
        self._recounts[imported.uid, window] = _Recount(until, counts)

    def _is_recount_due(self, imported: Import, window: str) -> bool:
        recount = self._recounts.get((imported.uid, window))
        return recount is None or self.clock.monotonic() >= recount.until

    def _delay_report(self, imported: Import, problem: ArchiveError) -> None:
        """Remember that the archive did not take a file of the report."""
        _log.warning("the report of Import/%s is not written: %s", imported.name, problem)
        version, known = self._archive_version(imported), self._report_delays.get(imported.uid)
        failures = known.failures + 1 if known is not None and known.version == version else 0
        # While the Archive is not ready, it tells the problem, and ``held`` has its reason.
        hold = report_hold(ImportHold(problem.reason, str(problem)), failures)
        until = self.clock.monotonic() + FAILURE_SECONDS
        self._report_delays[imported.uid] = _ReportDelay(hold, until, version, failures)

    def _is_report_due(self, imported: Import) -> bool:
        """Whether the report may be written: a minute after a failure, or after a change of the Archive."""
        delay = self._report_delays.get(imported.uid)
        if delay is None or delay.version != self._archive_version(imported):
            return True
        return self.clock.monotonic() >= delay.until

    def _archive_version(self, imported: Import) -> tuple[object, ...]:
        """Return what a correction of the archive of the report changes."""
        organization = self.cache.organizations.get(imported.organization)
        ref = report_archive(imported, organization) if organization is not None else None
        archive = self.cache.archives.get(ref.name) if ref is not None else None
        if archive is None:
            return ()
        ready = find_condition(archive.status.conditions, "Ready")
        state = (ready.status, ready.last_transition_time) if ready is not None else None
        return archive.uid, archive.metadata.generation, state

    async def _unfinished_events(self, labels: str) -> list[Raw]:
        """Return some unfinished events, also unreadable ones. Raises ``ApiError``."""
        raws, _ = await self.kube.page(EnvelopeEvent, limit=MAX_SAMPLES, labels=labels, fields=NOT_ARCHIVED)
        return raws

    async def room(self, imported: Import) -> int:
        """
        Return how many unfinished events more the Import may have. Raises ``ApiError``.

        Events of a Sender whose key does not work can wait for weeks, and must not stop the other Senders.
        """
        labels = f"{IMPORT_LABEL}={imported.name}"
        unfinished = await self.kube.count_by_label(EnvelopeEvent, SENDER_LABEL, NOT_ARCHIVED, labels=labels)
        usable = self.cache.authorized_senders(imported.organization)
        return imported.spec.max_unfinished - sum(unfinished[each.name] for each in usable)

    async def _is_full(self, imported: Import) -> bool:
        """Whether an Import that had no room has none now. Raises ``ApiError``."""
        if imported.uid not in self._full:
            return False
        if await self.room(imported) <= 0:
            return True
        self._full.discard(imported.uid)
        return False

    # -- One window ------------------------------------------------------------------------------------------

    async def _search(self, imported: Import, search: Search) -> "_WindowSearch | None":
        """Search a window and create its events; None if it has to be searched again later."""
        organization = self.cache.organizations.get(imported.organization)
        sender = self.cache.senders.get(search.sender)
        if organization is None or sender is None or _of_another(imported, sender) is not None:
            return None
        window = _WindowSearch(self, imported, search, organization, sender)
        try:
            await self._check_archive(imported)
            if (left := self._left.pop((imported.uid, search.id), None)) is not None:
                window.resume(left)
            await window.run()
        except _Interrupted:
            return None
        except _Full:
            self._full.add(imported.uid)
            self._left[imported.uid, search.id] = window
        except _NothingKept as unsuitable:
            failure = SearchFailure("ImportNotArchived", str(unsuitable))
            self._put_aside(imported, _CEILING, failure, self.versions(imported, _CEILING))
        except ArchiveError as problem:
            self._delay_report(imported, problem)
        except CeilingReached as reached:
            self._left[imported.uid, search.id] = window
            failure = SearchFailure("ImportCeiling", f"The Import waits: {reached}.")
            pauses = UNCORRECTED if isinstance(reached, _LacksRoom) else None
            self._put_aside(imported, _CEILING, failure, self.versions(imported, _CEILING), pauses)
        except StartForbidden as forbidden:
            _log.warning("Import/%s can't create events: %s", imported.name, forbidden)
            message = f"The cluster refuses an event, so the Sender is not searched: {forbidden}"
            failure = SearchFailure("ImportRefused", message[:MAX_MESSAGE])
            self._put_aside(imported, sender.name, failure, window.versions)
        except (TooManyListed, TooManyRequests) as cut:
            _log.warning("eSAW's list is too long for Import/%s: %s", imported.name, cut)
            message = (
                "eSignAnyWhere lists more envelopes for one week than an Import examines. If they are real, "
                "create Imports with shorter spans."
            )
            failure = SearchFailure("EsawListTooLong", message)
            self._put_aside(imported, sender.name, failure, window.versions)
        except (EsawError, KeyUnusable) as problem:
            _log.info("Import/%s can't search: %s", imported.name, problem, extra={"sender": sender.name})
            failure = search_failure(problem, self.clock.now())
            # A key that replaced a refused one in the meantime is tried at once.
            self._put_aside(imported, sender.name, failure, window.versions)
        else:
            self.progressed(imported, sender.name)
            return window
        return None

    async def _check_archive(self, imported: Import) -> None:
        """Raise ``_NothingKept`` if the archive keeps no file, before an event is created. Raises
        ``ArchiveError``, ``ApiError``."""
        if imported.spec.dry_run:
            return
        root = await self.report_writer.root_of(imported)
        if root.startswith(DISCARDED_SCHEME):
            raise _NothingKept(
                f"The archive takes files and keeps none of them ({root}). Create an Import with another "
                "Archive in spec.archiveRef, or correct that of the Organization."
            )


_WAITS = ImportHold(
    "ImportRunning",
    "The searched window has very many envelopes. A controller has the lists of "
    f"{LONG_LISTS} such windows in memory, and others come first. The Import continues automatically.",
)


class _WithoutRoom(NamedTuple):
    """Events of a window for which the quota has no room, as ``_LacksRoom``."""

    reached: QuotaReached
    held: HeldEvents
    events: int = 1

    def with_one_more(self) -> "_WithoutRoom":
        """Return it with one more event."""
        return self._replace(events=self.events + 1)

    def message(self, search: Search) -> str:
        """Return what a person has to do."""
        return lacking_room(self.reached, self.held, search.sender, search.window, self.events)


class _ReportDelay(NamedTuple):
    """Why a file of the report was not stored. It counts until one is."""

    hold: ImportHold
    until: float
    """When it is tried again, by the clock that is never set."""
    version: tuple[object, ...]
    """That of the Archive: it is tried again at once after a change."""
    failures: int
    """Number of successive failures before this one with this version."""


MAX_CREATE_PAUSE_SECONDS = 1.0
"""Maximum pause after an event was created. It is as long as the create took, so half of the API server's
time is left to others."""

_CEILING = ""
"""In place of a Sender's name: the problem holds the whole Import."""


@dataclass
class _WindowSearch:
    """The search of one window."""

    runner: ImportRunner
    imported: Import
    search: Search
    organization: Organization
    sender: Sender
    count: WindowCount = field(default_factory=WindowCount)
    counted: set[str] = field(default_factory=set)
    """Ids of the envelopes in the count."""
    rows: dict[str, ReportRow] = field(default_factory=dict)
    """The list for the report, by what eSAW listed as the id."""
    unnamed: int = 0
    """Number of listed ids that are no GUID and have no row."""
    _to_import: list[str] = field(default_factory=list)
    """Ids of the envelopes that a dry run would import."""
    _rows_without_id: int = 0
    _room: int = 0
    """Number of events that may be created before unfinished ones are counted again."""
    _read: float = float("-inf")
    """When the Import was read, by the clock that is never set."""
    _full_since: float | None = None
    _size: int = 0
    """Bytes of the rows."""
    versions: _Versions = field(init=False)
    """Those of the Organization, the Sender and its key when the search began."""
    _was_left: bool = False
    _without_room: "_WithoutRoom | None" = None
    """The events of the window without room, as ``_LacksRoom``."""
    _long_since: float | None = None
    """When the search got memory for a long list, by the clock that is never set; None: it has none."""

    def __post_init__(self) -> None:
        self.versions = self.runner.versions(self.imported, self.sender.name)

    @property
    def memory(self) -> FairSlots | None:
        """The memory for long lists, if the search has a part of it."""
        return None if self._long_since is None else self.runner.long_lists

    @property
    def is_in_the_way(self) -> bool:
        """Whether others wait for its memory."""
        return self.memory is not None and self.memory.has_waiting

    @property
    def has_had_its_turn(self) -> bool:
        """Whether others wait for its memory, and it has had it for ``LONG_LIST_SECONDS``."""
        if self._long_since is None or not self.is_in_the_way:
            return False
        return self.runner.clock.monotonic() - self._long_since >= LONG_LIST_SECONDS

    def may_continue(self, imported: Import) -> bool:
        """Whether the newest state of the Import, and of the other objects in memory, allows it."""
        runner, sender = self.runner, self.runner.cache.senders.get(self.sender.name)
        if sender is None or not is_usable(sender) or runner.held(imported) is not None:
            return False
        # What is created after a change would follow settings, or come from an eSAW or a user, that do not
        # count. A new key is of the same user: each Send with consent stores one.
        return runner.specs(imported, sender.name) == self.versions.specs

    def release(self) -> None:
        """Return the memory for a long list. The window is stored, or is searched again."""
        if self._long_since is not None:
            self._long_since = None
            self.runner.long_lists.release(self.organization.name)

    def resume(self, left: "_WindowSearch") -> None:
        """Continue the search of the same window that was left without room."""
        self.count, self.counted, self.rows = left.count, left.counted, left.rows
        self._rows_without_id, self._size = left._rows_without_id, left._size
        self._long_since, left._long_since = left._long_since, None
        self._was_left = True

    async def run(self) -> None:
        """
        Search, and keep the memory for a long list while the list can be used. Raises as ``_run``.
        """
        is_kept = False
        try:
            await self._run()
            is_kept = True
        except (_Full, CeilingReached):
            is_kept = True
            raise
        finally:
            if not is_kept:
                self.release()

    async def _run(self) -> None:
        """
        Let each listed envelope have an event, or only count them in a dry run.

        Raises ``_Interrupted``, ``_Full``, ``CeilingReached``, ``StartForbidden``, ``KeyUnusable``,
        ``EsawError``, ``TooManyListed``, ``TooManyRequests``, ``ApiError``.
        """
        runner, imported, count, without_id = self.runner, self.imported, self.count, 0
        starts = EventStarts(
            self.organization,
            self.organization.spec.archive_action or "",
            Origin.IMPORT,
            None,
            place=runner.quota.place,
        )
        statuses = searched_statuses(imported, self.organization)
        earlier = await self._earlier_events()
        self.unnamed = 0
        async with user_of(
            self.sender,
            self.organization,
            sender_keys=runner.sender_keys,
            esaw_clients=runner.esaw_clients,
        ) as user:
            memory = runner.memory_of(imported, self.organization, self.sender)
            search = EnvelopeSearch(user, runner.bounds.requests, self._check, memory)
            if self.search.number > 0:
                # After a restart, nothing else shows that eSAW lists the same for each window.
                await search.compare_with(statuses, windows_of(imported)[self.search.number - 1])
            listing = EnvelopeListing(search, runner.bounds.hits)
            async for listed in listing.listed(statuses, self.search.window):
                if listed.id is None:
                    without_id += 1
                    self._add_without_id(listed.text[:MAX_LISTED_ID], listed.status)
                elif listed.id not in self.counted:
                    await self._take(starts, listed.id, listed.status, count)
            count.doubt, count.user_id = search.doubt, self.sender.spec.user_id
            count.statuses = statuses
            if due := sample_due(imported):
                chosen = heapq.nsmallest(due, self._to_import)
                sampling = runner.sampling_of(imported)
                count.sample = await sampling.take(user, chosen, self._check)
        for envelope, (status, was_known, is_started) in earlier.items():
            if envelope in self.counted:
                continue
            if not is_started:
                await self._take(starts, envelope, status, count)
                continue
            await self._check()
            self.counted.add(envelope)
            count.add_event(is_created=not was_known)
            count.add(status)
            self._add_row(envelope, status, ReportOutcome.STARTED)
        if self._without_room is not None:
            raise _LacksRoom(self._without_room.message(self.search))
        # Not before the end: a search that continues lists them again.
        count.refused += without_id
        if self._was_left:
            # Also if it had no event to create any more.
            runner.progressed(imported, _CEILING)

    async def _bound_memory(self) -> None:
        """
        Wait for the memory for a long list; leave it to others after its time.

        A search that may not continue waits no longer: others would leave their lists to it. Raises
        ``_Interrupted``, ``ApiError``.
        """
        runner = self.runner
        if self._long_since is None:
            if self._size <= runner.bounds.long_list:
                return
            if not runner.long_lists.take(self.organization.name):
                await runner.say(self.imported, _WAITS)
                with runner.long_lists.place(self.organization.name) as turn:
                    while not turn.done():
                        await self._check_objects()
                        await runner.clock.sleep(ROOM_SECONDS)
                self._long_since = runner.clock.monotonic()
                await runner.say(self.imported, RUNNING)
            self._long_since = runner.clock.monotonic()
        if self.has_had_its_turn:
            raise _Interrupted

    def _add_row(
        self, envelope: str, status: EnvelopeStatus, outcome: ReportOutcome, reason: str = ""
    ) -> None:
        """Add an envelope to the list for the report. A dry run has none."""
        if not self.imported.spec.dry_run:
            self._put_row(new_row(self.search, envelope, status, outcome, reason))

    def _put_row(self, row: ReportRow) -> None:
        before = self.rows.get(row.envelope_id)
        self._size += size_of(row) - (size_of(before) if before is not None else 0)
        self.rows[row.envelope_id] = row

    def _add_without_id(self, text: str, status: EnvelopeStatus) -> None:
        """Add an id that is no GUID to the list for the report, if that has room for it."""
        if text in self.rows:
            return
        if self._rows_without_id < MAX_ROWS_WITHOUT_ID:
            self._rows_without_id += 1
            self._add_row(text, status, ReportOutcome.REFUSED, NO_ENVELOPE_ID)
        else:
            self.unnamed += 1

    async def _earlier_events(self) -> dict[EnvelopeId, tuple[EnvelopeStatus, bool, bool]]:
        """
        Return envelope and status of the events of an interrupted search of this window, whether they existed
        before it, and whether it started them. It may have only set their labels.

        eSAW may not list their envelopes any more: what was archived may be deleted there since.
        """
        labels = f"{IMPORT_LABEL}={self.imported.name},{IMPORT_WINDOW_LABEL}={self.search.id}"
        found = dict[EnvelopeId, tuple[EnvelopeStatus, bool, bool]]()
        async for event in self.runner.kube.list_readable(EnvelopeEvent, labels=labels):
            envelope = event.status.envelope
            known = envelope.status if envelope is not None else ""
            is_known = known in set(EnvelopeStatus)
            status = EnvelopeStatus(known) if is_known else EnvelopeStatus.COMPLETED
            is_started = has_started(event) or event.spec.action != self.organization.spec.archive_action
            found[envelope_id(event.spec.envelope_id)] = (status, existed_before(event), is_started)
        return found

    async def _take(
        self, starts: EventStarts, envelope: EnvelopeId, status: EnvelopeStatus, count: WindowCount
    ) -> None:
        await self._check()
        if self.imported.spec.dry_run:
            started = await self._looked_up(starts, envelope, status)
        elif self._without_room is not None and await self._is_new(starts, envelope, status):
            self._without_room = self._without_room.with_one_more()
            return
        else:
            try:
                started = await self._started(starts, envelope, status)
            except QuotaReached as reached:
                held = await self.runner.quota.held()
                if not held.fill(reached):
                    raise
                # The search continues, to know how many events have no room, and whether any has none.
                self._without_room = _WithoutRoom(reached, held)
                return
        self.counted.add(envelope)
        if started.result is StartResult.REFUSED:
            count.refused += 1
            self._add_row(envelope, status, ReportOutcome.REFUSED, EVENT_REFUSED)
            return
        if started.result is StartResult.CREATED:
            count.add_event(is_created=True)
        elif started.is_reopened:
            count.add_event(is_created=False)
        elif started.event is not None and _window_of(started) == self.search.id:
            # Of a search of this window that was interrupted.
            count.add_event(is_created=not existed_before(started.event))
        elif self._is_own(started):
            # Another window of this Import listed it, too, and counts it.
            return
        else:
            count.known += 1
            self._add_known(envelope, status, started.event)
            count.add(status)
            return
        count.add(status)
        if self.imported.spec.dry_run:
            self._to_import.append(envelope)
        self._add_row(envelope, status, ReportOutcome.STARTED)

    def _add_known(self, envelope: EnvelopeId, status: EnvelopeStatus, event: EnvelopeEvent | None) -> None:
        """Add an envelope that had an event before to the list for the report."""
        self._add_row(envelope, status, ReportOutcome.KNOWN)
        if event is not None and envelope in self.rows:
            self._put_row(row_of_list(row_of_known(self.rows[envelope], event)))

    def _is_own(self, started: Started) -> bool:
        label = read_window_label(_window_of(started))
        return label is not None and is_of_import(label, self.imported)

    async def _started(self, starts: EventStarts, envelope: EnvelopeId, status: EnvelopeStatus) -> Started:
        while self._room <= 0:
            await self._count_room()
            await self._check()
        began = self.runner.clock.monotonic()
        started = await self.runner.event_starter.start(
            starts,
            envelope,
            status,
            sender=self.sender.name,
            labels=self._labels(),
        )
        if started.result is StartResult.CREATED or started.is_reopened:
            took = self.runner.clock.monotonic() - began
            self._room -= 1
            self.runner.created(self.imported)
            if self.runner.progressed(self.imported, _CEILING):
                # The status says that it waits. The window is searched again after the next write.
                raise _Interrupted
            # Else up to ``maxUnfinished`` writes follow each other, and those of callbacks wait behind them.
            await self.runner.clock.sleep(min(took, MAX_CREATE_PAUSE_SECONDS))
        return started

    def _labels(self) -> dict[str, str]:
        """Return the labels that mark an event as one of the Import."""
        archive, labels = self.imported.spec.archive_ref, {IMPORT_LABEL: self.imported.name}
        named = {IMPORT_ARCHIVE_LABEL: archive.name} if archive is not None else {}
        return {**labels, IMPORT_WINDOW_LABEL: self.search.id, **named}

    async def _check(self) -> None:
        """Look whether the search may continue; wait for the memory that it needs. Raises ``_Interrupted``,
        ``ApiError``."""
        await self._bound_memory()
        await self._check_objects()

    async def _check_objects(self) -> None:
        """
        Look whether the search may continue: objects in memory each time, the Import every ``ROOM_SECONDS``.

        Raises ``_Interrupted``, ``ApiError``.
        """
        runner, now = self.runner, self.runner.clock.monotonic()
        if now - self._read >= ROOM_SECONDS:
            newest = await runner.newest(self.imported.name)
            if newest is None or newest.uid != self.imported.uid:
                raise _Interrupted
            if newest.spec.max_unfinished < self.imported.spec.max_unfinished:
                # The room was counted by the higher maximum.
                self._room = 0
            self.imported, self._read = newest, now
        if not self.may_continue(self.imported):
            raise _Interrupted

    async def _count_room(self) -> None:
        """Count how many unfinished events more the Import may have; wait if there is no room. Raises
        ``_Full``, ``ApiError``."""
        runner = self.runner
        self._room = await runner.room(self.imported)
        if self._room > 0:
            self._full_since = None
            return
        now = runner.clock.monotonic()
        self._full_since = now if self._full_since is None else self._full_since
        if now - self._full_since >= FULL_SECONDS:
            raise _Full
        await runner.clock.sleep(ROOM_SECONDS)

    async def _is_new(self, starts: EventStarts, envelope: EnvelopeId, status: EnvelopeStatus) -> bool:
        """Whether the envelope has no event. Raises ``ApiError``."""
        return (await self._looked_up(starts, envelope, status)).result is StartResult.CREATED

    async def _looked_up(self, starts: EventStarts, envelope: EnvelopeId, status: EnvelopeStatus) -> Started:
        """Return what a start would do. Raises ``ApiError``."""
        name = event_name(self.organization.name, envelope, starts.action)
        try:
            raw = await self.runner.kube.get(EnvelopeEvent, name)
            event = EnvelopeEvent.parse(raw)
            starter, finder = self.runner.event_starter, self.sender.name
            is_started = await starter.starts_again(event, status, finder, self.organization)
            return Started(StartResult.KNOWN, event, is_started)
        except NotFound:
            return Started(StartResult.CREATED)
        except ResourceInvalid:
            return Started(StartResult.REFUSED)


def _window_of(started: Started) -> str:
    """Return the id of the window that created the event; empty if no Import did."""
    return started.event.metadata.labels.get(IMPORT_WINDOW_LABEL, "") if started.event else ""


def _of_another(imported: Import, sender: Sender) -> ImportHold | None:
    """Return that a Sender belongs to another Organization, or is another user than the one for whom its
    first windows were searched; None if it does not."""
    name = sender.name
    if sender.spec.organization_ref.name != imported.organization:
        return ImportHold("SenderOfOtherOrganization", f"Sender/{name} belongs to another Organization.")
    known = next((each for each in imported.status.senders if each.name == name), None)
    if known is None or known.searched or known.user_id is None:
        return None
    if is_same_user(known.user_id, sender.spec.user_id):
        return None
    message = (
        f"Sender/{name} was created again for another user, and the windows before were searched for user "
        f"{known.user_id}. Create another Import for this Sender."
    )
    return ImportHold("SenderMissing", message)


def _unusable(name: str, sender: Sender | None) -> ImportHold:
    """Return why a Sender has no key that works."""
    if sender is None:
        return ImportHold("SenderMissing", f"Sender/{name} does not exist.")
    if sender.spec.suspend:
        return ImportHold("SenderSuspended", f"spec.suspend of Sender/{name} is true.")
    authorized = find_condition(sender.status.conditions, "Authorized")
    if authorized is None:
        return ImportHold("Pending", f"The key of Sender/{name} was not checked yet.")
    return ImportHold(authorized.reason, authorized.message)


def _readable(raws: Iterable[Raw]) -> Iterator[EnvelopeEvent]:
    for raw in raws:
        if (event := parse_readable(EnvelopeEvent, raw)) is not None:
            yield event


def _with(imported: Import, status: ImportStatus) -> Import:
    return replace(imported, status=status)

"""
Write the report of an Import into its archive: a list when a window was searched, a part when it is counted.

eSAW may not list an envelope any more when its window is counted. So the list of a window is stored once it
was searched, and the status of the Import has its hash. The part is made of this list and of the ends of the
window's events. Both are stored before the status that names them: a kill in between leaves at most a file
that nothing names, and the next run writes the same one again, or one with another name.

Two archives take files of reports of a process at the same time, each of them one list or part, and others
wait. A part has a bounded size. So the memory grows neither with the number of Imports nor with that of the
events of a window. An archive is given up until later if others wait when it has taken
``REPORT_HOLD_SECONDS``. For a long list, others are also those who wait for its memory.

A file may wait for its turn for minutes. Its Archive may be suspended or replaced then, so it is opened
again.

An archive that does not work delays the report. It delays no event.
"""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar
from weakref import WeakValueDictionary

from msgspec.structs import replace

from controller.access.archive_root import root_of
from controller.cache import Cache
from controller.resync.import_progress import (
    EventTally,
    Search,
    WindowChanged,
    archive_hold,
    report_archive,
    search_of,
)
from counterfoil.archives.backend import ArchiveBackend, server_of
from counterfoil.archives.errors import ArchiveUnavailable, NameTaken
from counterfoil.archives.import_report.content import (
    MAX_PART,
    ListOfWindow,
    PartHeader,
    PreviousPart,
    ReportOutcome,
    ReportPart,
    ReportRow,
    RowsOfEvents,
    encode_list,
    list_name,
    make_part,
    row_of_ended,
    rows_of_part,
)
from counterfoil.archives.import_report.storage import FileTooLong, read_known, write_list, write_part
from counterfoil.archives.layout import report_folder
from counterfoil.archives.manifest_signature import ManifestSigner
from counterfoil.clock import utc_text
from counterfoil.origin import origin_of
from counterfoil.resources import Archive, EnvelopeEvent, Import, ImportStatus, Organization
from counterfoil.resources.imports import ImportList, ImportReportParts, ImportWindow
from counterfoil.untrusted.fair_slots import FairSlots, OthersWait

_log = logging.getLogger(__name__)

T = TypeVar("T")

ROWS_IN_LOOP = 500
"""Rows up to which a list or a part is made in the event loop: some 20 ms."""

MIN_ROW = 150
"""Bytes that a row has at least."""

REPORT_SLOTS = 2
"""Maximum number of archives that take a file of a report at the same time. With one, an archive that is slow
would delay the reports of all others."""

REPORT_HOLD_SECONDS = 300.0
"""Maximum time of a list, or of a part with its list and events, while others wait. It is long, since the
next attempt begins again: a list of 60 MiB needs 600 KiB/s, as it is looked for, written and read."""


def new_row(
    search: Search, envelope: str, status: str, outcome: ReportOutcome, reason: str = ""
) -> ReportRow:
    """Return the row of an envelope that the search of a window found."""
    return ReportRow(
        envelope_id=envelope,
        sender=search.sender,
        status=status,
        outcome=outcome,
        reason=reason,
        sent_from=utc_text(search.window.start),
        sent_until=utc_text(search.window.end),
    )


@dataclass(frozen=True)
class ImportReportWriter:
    """Writes the reports of all Imports, those in few archives at a time. Keeps which folders it has looked
    through, and nothing else."""

    cache: Cache
    namespace: str
    open_archive: Callable[[Archive], Awaitable[ArchiveBackend]]
    """Returns the backend of an Archive whose root was checked. Raises ``ArchiveError``, ``ApiError``."""
    signer: ManifestSigner | None
    part_size: int = MAX_PART
    """Bytes of the rows of a part. Tests use smaller values."""
    hold_seconds: float = REPORT_HOLD_SECONDS
    _slots: FairSlots = field(default_factory=lambda: FairSlots(REPORT_SLOTS))
    _turns: WeakValueDictionary[str, FairSlots] = field(default_factory=WeakValueDictionary)
    """By server of the archive; Organizations that share one take turns."""
    _without_leftovers: set[str] = field(default_factory=set)
    """Locations of the folders in which no earlier process has left a temporary file."""

    async def root_of(self, imported: Import) -> str:
        """Return the location of the root of the archive, with a slash at its end. Raises ``ArchiveError``,
        ``ApiError``."""
        _, backend = await self._open(imported)
        return root_of(backend)

    async def with_list(
        self,
        imported: Import,
        search: Search,
        rows: Collection[ReportRow],
        unnamed: int,
        memory: FairSlots | None,
    ) -> ImportList | None:
        """
        Store the list of a window; None for no envelopes.

        ``unnamed`` is the number of listed ids without a row. The rows have a slot of ``memory``, if any: the
        list is given up if it takes long and others wait for one. Raises ``ArchiveError``, ``ApiError``.
        """
        if not rows:
            return None
        async with self._turn_of(imported, memory) as (_, backend):
            content, sha256 = await _beside(len(rows), partial(_encoded_list, rows))
            name = f"{_folder(imported)}/{list_name(search.id, sha256)}"
            what = _slow_file(backend.location(name))
            async with self._ending(what, self._slots), self._ending(what, memory):
                await write_list(backend, name, content)
        return ImportList(sha256=sha256, envelopes=len(rows), unnamed=unnamed)

    async def with_parts(
        self,
        imported: Import,
        window: ImportWindow,
        read_events: Callable[[RowsOfEvents], Awaitable[EventTally]],
    ) -> tuple[ImportStatus, EventTally]:
        """
        Store the parts of a window; return the status that names the last one, and the count of its events.

        ``read_events`` counts the events of the window and adds their rows, and raises ``WindowChanged`` if
        one runs. It is called again for each further part. All parts and the count are about the same ends:
        parts that were stored before an event ended otherwise are named by nothing. Raises ``ArchiveError``,
        ``ApiError``, ``WindowChanged``.
        """
        status, search = imported.status, search_of(imported, window.id)
        if search is None:
            _log.warning("Import/%s has no Sender of the window %s any more", imported.name, window.id)
            return status, await read_events(RowsOfEvents())
        progress = _Progress(imported, window, search, status)
        tally, first = await self._write_part(progress, "", read_events)
        while first is not None:
            tally, first = await self._write_part(progress, first, read_events)
        return progress.status, tally

    async def _write_part(
        self,
        progress: "_Progress",
        first: str,
        read_events: Callable[[RowsOfEvents], Awaitable[EventTally]],
    ) -> tuple[EventTally, str | None]:
        """Store the part that begins with the envelope ``first``. Return the count of all events of the
        window, and the first envelope of the next part (None: it was the last one)."""
        imported, window, search = progress.imported, progress.window, progress.search
        async with self._turn_of(imported, None) as (organization, backend):
            folder = backend.location(_folder(imported))
            slow = f"the events of the window were read too slowly, or {_slow_file(folder)}"
            async with self._ending(slow, self._slots):
                events = RowsOfEvents(first, self.part_size)
                tally = await read_events(events)
                progress.count(tally)
                events.complete()
                listed, lines = await self._list_of(imported, window, backend)
                if listed is not None:
                    # Earlier parts lack envelopes if the archive did not return it then.
                    progress.lacks_list |= not listed.is_read
                    listed = replace(listed, is_read=not progress.lacks_list)
                size = len(lines) // MIN_ROW + len(events.by_envelope)
                rows, following = await _beside(size, partial(rows_of_part, lines, events, self.part_size))
                del lines, events
                header = PartHeader(
                    import_=imported.name,
                    uid=imported.uid,
                    namespace=self.namespace,
                    organization=imported.organization,
                    origin=origin_of(organization.spec.base_url),
                    number=progress.number + 1,
                    previous=progress.last_part(),
                    sender=search.sender,
                    sent_from=utc_text(search.window.start),
                    sent_until=utc_text(search.window.end),
                    statuses=imported.status.statuses,
                    list_=listed,
                    before=progress.rows,
                    is_continued=following is not None,
                    counts={},
                    csv_sha256="",
                    sealed_by=self.signer.public.id if self.signer is not None else None,
                )
                part = await _beside(len(rows), partial(make_part, header, rows))
                location = await write_part(backend, _folder(imported), part, self.signer)
            progress.add(part, location, len(rows), folder)
        return tally, following

    async def _list_of(
        self, imported: Import, window: ImportWindow, backend: ArchiveBackend
    ) -> tuple[ListOfWindow | None, bytes]:
        """Return the list of a window, with its lines if the archive returns what was stored."""
        if window.list_ is None:
            return None, b""
        sha256 = window.list_.sha256
        name = f"{_folder(imported)}/{list_name(window.id, sha256)}"
        fault = "is missing or was changed"
        try:
            content = await read_known(backend, name, sha256)
        except FileTooLong as problem:
            content, fault = None, str(problem)
        if content is None:
            _log.warning("Import/%s: %s %s", imported.name, backend.location(name), fault)
        listed = ListOfWindow(
            location=backend.location(name),
            sha256=sha256,
            envelopes=window.list_.envelopes,
            is_read=content is not None,
            unnamed=window.list_.unnamed,
        )
        return listed, content or b""

    @asynccontextmanager
    async def _turn_of(
        self, imported: Import, memory: FairSlots | None
    ) -> AsyncIterator[tuple[Organization, ArchiveBackend]]:
        """
        Wait until the memory for a file of the report may be taken, and keep it within the context.

        The context has the Organization and its archive as they are after the wait. Raises ``ArchiveError``,
        ``ApiError``.
        """
        async with AsyncExitStack() as turn:
            organization, backend = await self._open(imported)
            server = ""
            while server != server_of(backend):
                await turn.aclose()
                server = server_of(backend)
                turns = self._turns.setdefault(server, FairSlots(1))
                async with self._ending(f"{server} took a file of another report too slowly", memory):
                    await turn.enter_async_context(turns.slot(imported.organization))
                await turn.enter_async_context(self._slots.slot(server))
                what = f"{server} answered too slowly"
                async with self._ending(what, self._slots), self._ending(what, memory):
                    organization, backend = await self._open(imported)
                    await self._remove_leftovers(backend, _folder(imported))
            yield organization, backend

    async def _remove_leftovers(self, backend: ArchiveBackend, folder: str) -> None:
        """Remove what a killed process left in the folder, once in this process: a long list costs as much as
        a file. Raises ``ArchiveError``."""
        if (location := backend.location(folder)) in self._without_leftovers:
            return
        # A folder of too many files is not looked through, and takes the report.
        with suppress(NameTaken):
            await backend.remove_leftovers(folder)
        self._without_leftovers.add(location)

    @asynccontextmanager
    async def _ending(self, what: str, slots: FairSlots | None) -> AsyncIterator[None]:
        """Give up an archive that is slow while others wait for one of the ``slots``, if any. ``what`` was
        slow. Raises ``ArchiveUnavailable``."""
        try:
            async with slots.ending_after(self.hold_seconds) if slots is not None else nullcontext():
                yield
        except OthersWait:
            raise ArchiveUnavailable(
                "ArchiveUnresponsive",
                f"{what}, while other Imports waited. Check the server of the archive and the network; the "
                "report is tried again automatically.",
            ) from None

    async def _open(self, imported: Import) -> tuple[Organization, ArchiveBackend]:
        """Return the Organization and the archive of the report. Raises ``ArchiveError``, ``ApiError``."""
        organization = self.cache.organizations.get(imported.organization)
        if organization is None:
            message = f"Organization/{imported.organization} does not exist. Create it."
            raise ArchiveUnavailable("ImportOrganizationMissing", message)
        ref = report_archive(imported, organization)
        name = ref.name if ref is not None else "?"
        archive = self.cache.archives.get(name)
        if (hold := archive_hold(imported, organization, name, archive)) is not None or archive is None:
            raise ArchiveUnavailable(*(hold or ("ArchiveMissing", "The Archive does not exist.")))
        return organization, await self.open_archive(archive)


def row_of_event(search: Search, event: EnvelopeEvent) -> ReportRow:
    """Return the row of an event of a window."""
    status = event.status.envelope.status if event.status.envelope is not None else ""
    return row_of_ended(new_row(search, event.spec.envelope_id, status, ReportOutcome.STARTED), event)


def _slow_file(location: str) -> str:
    return f"{location} was written or read too slowly"


def _folder(imported: Import) -> str:
    return report_folder(imported.organization, imported.name, imported.uid)


@dataclass
class _Progress:
    """The parts of a window that are stored."""

    imported: Import
    window: ImportWindow
    search: Search
    status: ImportStatus
    """That of the Import; it names the last part."""
    rows: int = 0
    """Rows of the window in its parts."""
    lacks_list: bool = False
    """Whether one of its parts was made without the list."""
    tally: EventTally | None = None
    """The count of its events, once the first part has read them."""

    @property
    def number(self) -> int:
        """Number of the last part."""
        return self.status.report_parts.number if self.status.report_parts is not None else 0

    def count(self, tally: EventTally) -> None:
        """Take the count of a part. Raises ``WindowChanged`` if it is not that of the parts before."""
        if self.tally not in (None, tally):
            raise WindowChanged
        self.tally = tally

    def last_part(self) -> PreviousPart | None:
        """Return what the next part says about the last one."""
        last = self.status.report_parts
        return PreviousPart(location=last.location, sha256=last.sha256) if last is not None else None

    def add(self, part: ReportPart, location: str, rows: int, folder: str) -> None:
        """Take a part of these ``rows`` that was stored."""
        last = self.status.report_parts
        parts = ImportReportParts(
            number=part.header.number,
            location=location,
            sha256=part.sha256,
            lacking=part.header.lacking + (last.lacking if last is not None else 0),
        )
        self.status = replace(self.status, report=folder, report_parts=parts)
        self.rows += rows


async def _beside(rows: int, compute: Callable[[], T]) -> T:
    """Compute something about a number of rows, many of them beside the event loop."""
    return compute() if rows <= ROWS_IN_LOOP else await asyncio.to_thread(compute)


def _encoded_list(rows: Collection[ReportRow]) -> tuple[bytes, str]:
    """Return the list of a window and its SHA-256."""
    content = encode_list(rows)
    return content, hashlib.sha256(content).hexdigest()

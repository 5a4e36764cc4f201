"""
Write the report of an Import into its archive: a list when a window was searched, a part when it is counted.

eSAW may not list an envelope any more when its window is counted. So the list of a window is stored once it
was searched, and the status of the Import has its hash. The part is made of this list and of the ends of the
window's events. Both are stored before the status that names them: a kill in between leaves at most a file
that nothing names, and the next run writes the same one again, or one with another name.

An archive that does not work delays the report. It delays no event.
"""

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from msgspec.structs import replace

from controller.cache import Cache
from controller.resync.import_progress import Search, archive_hold, search_of
from counterfoil.archives.backend import ArchiveBackend
from counterfoil.archives.errors import ArchiveUnavailable
from counterfoil.archives.import_report.content import (
    ListOfWindow,
    PartHeader,
    PreviousPart,
    ReportOutcome,
    ReportRow,
    decode_list,
    encode_list,
    list_name,
    make_part,
    row_of_ended,
    rows_at_the_end,
)
from counterfoil.archives.import_report.storage import read_known, write_list, write_part
from counterfoil.archives.layout import report_folder
from counterfoil.archives.manifest_signature import ManifestSigner
from counterfoil.clock import utc_text
from counterfoil.origin import origin_of
from counterfoil.resources import Archive, EnvelopeEvent, Import, ImportStatus, Organization
from counterfoil.resources.imports import ImportList, ImportReportParts, ImportWindow

T = TypeVar("T")

_log = logging.getLogger(__name__)

ROWS_ENCODED_IN_LOOP = 500
"""Rows from which on a list or a part is encoded in a thread: some 20 ms."""


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
    """Writes the reports of all Imports; keeps nothing."""

    cache: Cache
    namespace: str
    open_archive: Callable[[Archive], Awaitable[ArchiveBackend]]
    """Returns the backend of an Archive whose root was checked. Raises ``ArchiveError``, ``ApiError``."""
    signer: ManifestSigner | None

    async def with_list(
        self, imported: Import, search: Search, rows: Collection[ReportRow], unnamed: int
    ) -> ImportList | None:
        """Store the list of a window; None for no envelopes. ``unnamed`` is the number of listed ids without
        a row. Raises ``ArchiveError``, ``ApiError``."""
        if not rows:
            return None
        _, backend = await self._open(imported)
        content = await _encoded(len(rows), partial(encode_list, rows))
        sha256 = hashlib.sha256(content).hexdigest()
        await write_list(backend, f"{_folder(imported)}/{list_name(search.id, sha256)}", content)
        return ImportList(sha256=sha256, envelopes=len(rows), unnamed=unnamed)

    async def with_part(
        self, imported: Import, window: ImportWindow, events: Mapping[str, ReportRow]
    ) -> ImportStatus:
        """
        Store the part of a window; return the status that names it.

        ``events`` are the rows of the window's events, by envelope. Raises ``ArchiveError``, ``ApiError``.
        """
        status, search = imported.status, search_of(imported, window.id)
        if search is None:
            _log.warning("Import/%s has no Sender of the window %s any more", imported.name, window.id)
            return status
        organization, backend = await self._open(imported)
        folder, number, lacking = _folder(imported), 1, 0
        previous: PreviousPart | None = None
        if (last := status.report_parts) is not None:
            number, lacking = last.number + 1, last.lacking
            previous = PreviousPart(location=last.location, sha256=last.sha256)
        listed, rows = await self._list_of(imported, window, backend)
        header = PartHeader(
            import_=imported.name,
            uid=imported.uid,
            namespace=self.namespace,
            organization=imported.organization,
            origin=origin_of(organization.spec.base_url),
            number=number,
            previous=previous,
            sender=search.sender,
            sent_from=utc_text(search.window.start),
            sent_until=utc_text(search.window.end),
            list_=listed,
            counts={},
            csv_sha256="",
            sealed_by=self.signer.public.id if self.signer is not None else None,
        )
        all_rows = rows_at_the_end(rows, events)
        part = await _encoded(len(all_rows), partial(make_part, header, all_rows))
        location = await write_part(backend, folder, part, self.signer)
        lacking += part.header.lacking
        parts = ImportReportParts(number=number, location=location, sha256=part.sha256, lacking=lacking)
        return replace(status, report=backend.location(folder), report_parts=parts)

    async def _list_of(
        self, imported: Import, window: ImportWindow, backend: ArchiveBackend
    ) -> tuple[ListOfWindow | None, list[ReportRow]]:
        """Return the list of a window, with its rows if the archive returns what was stored."""
        if window.list_ is None:
            return None, []
        sha256 = window.list_.sha256
        name = f"{_folder(imported)}/{list_name(window.id, sha256)}"
        content = await read_known(backend, name, sha256)
        if content is None:
            _log.warning("Import/%s: %s is missing or was changed", imported.name, backend.location(name))
        listed = ListOfWindow(
            location=backend.location(name),
            sha256=sha256,
            envelopes=window.list_.envelopes,
            is_read=content is not None,
            unnamed=window.list_.unnamed,
        )
        return listed, decode_list(content) if content is not None else []

    async def _open(self, imported: Import) -> tuple[Organization, ArchiveBackend]:
        """Return the Organization and its archive. Raises ``ArchiveError``, ``ApiError``."""
        organization = self.cache.organizations.get(imported.organization)
        if organization is None:
            message = f"Organization/{imported.organization} does not exist. Create it."
            raise ArchiveUnavailable("OrganizationMissing", message)
        ref = organization.spec.archive_ref
        archive = self.cache.archives.get(ref.name) if ref is not None else None
        if (hold := archive_hold(organization, archive)) is not None or archive is None:
            raise ArchiveUnavailable(*(hold or ("ArchiveMissing", "The Archive does not exist.")))
        return organization, await self.open_archive(archive)


def row_of_event(search: Search, event: EnvelopeEvent) -> ReportRow:
    """Return the row of an event of a window."""
    status = event.status.envelope.status if event.status.envelope is not None else ""
    return row_of_ended(new_row(search, event.spec.envelope_id, status, ReportOutcome.STARTED), event)


def _folder(imported: Import) -> str:
    return report_folder(imported.organization, imported.name, imported.uid)


async def _encoded(rows: int, encode: Callable[[], T]) -> T:
    return encode() if rows <= ROWS_ENCODED_IN_LOOP else await asyncio.to_thread(encode)

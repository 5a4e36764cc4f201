"""
Bench: memory of the controller for the reports of Imports, at the end of windows with many envelopes.

Each Import is of another Organization. One of its windows has as many envelopes as a search examines
at most. Events come in pages of 50, in another order than that of the report. The archive is a folder. With
``--known`` all envelopes had an event before, so that the list of the window has long rows. As many Imports
as in the controller have such a list in memory.

    .venv/bin/python -m verification.bench.import_report [--imports 4] [--location 150] [--known]
"""

import argparse
import asyncio
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace

from controller.cache import Cache
from controller.resync.import_progress import EventTally, search_of, windows_of
from controller.resync.import_report_writer import ImportReportWriter, new_row
from controller.resync.import_runner import LONG_LISTS
from counterfoil.archives.backends.filesystem import FilesystemBackend
from counterfoil.archives.import_report.content import ReportOutcome, ReportRow, RowsOfEvents, row_of_list
from counterfoil.resources import Archive, Import
from counterfoil.resources.imports import ImportSender, ImportWindow, window_label
from counterfoil.untrusted.fair_slots import FairSlots
from tests.support.builders import an_organization, ready
from tests.support.fakes.reconcile_context import an_archive
from tests.support.scenes.imports import an_import

PAGE = 50


@dataclass(frozen=True)
class Case:
    """The windows of all Imports."""

    envelopes: int
    location: int
    """Characters of a folder."""
    is_known: bool
    long_lists: FairSlots = field(default_factory=lambda: FairSlots(LONG_LISTS))


def peak_mib() -> int:
    """Return the largest memory that the process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def row_of(row: ReportRow, number: int, location: int) -> ReportRow:
    """Return the row of an archived envelope whose folder has this number of characters."""
    envelope = f"{number:08x}-4b1d-4c58-9a57-6d1f0a3b2c4d"
    folder = f"s3://archive/{'x' * max(1, location - 50)}/{envelope}"
    return replace(
        row,
        envelope_id=envelope,
        outcome=ReportOutcome.ARCHIVED,
        reason="ArchivedAndDeleted",
        finished="2024-01-02T03:04:05Z",
        event=f"{envelope}-0123456789abcdef",
        folder=folder,
        manifest=f"{folder}/counterfoil.json",
        hashes_sha256=f"{number:064x}",
        files=3,
        bytes=123456,
    )


async def report(
    writer: ImportReportWriter,
    imported: Import,
    listed_row: Callable[[ReportRow, int], ReportRow],
    case: Case,
) -> int:
    """Write the list and the parts of a window; return the number of parts."""
    label = window_label(imported.uid, "anna", 0, windows_of(imported)[0].end)
    search = search_of(imported, label)
    assert search is not None
    empty = new_row(search, "", "Completed", ReportOutcome.STARTED)
    async with case.long_lists.slot(imported.organization):
        rows = [listed_row(empty, each) for each in range(case.envelopes)]
        listed = await writer.with_list(imported, search, rows, 0, case.long_lists)
        del rows

    async def read_events(found: RowsOfEvents) -> EventTally:
        for each in range(0 if case.is_known else case.envelopes):
            found.add(row_of(empty, each * 7919 % case.envelopes, case.location))
            if each % PAGE == 0:
                await asyncio.sleep(0)
        return EventTally(archived=case.envelopes)

    window = ImportWindow(id=label, events=case.envelopes, list_=listed)
    status, _ = await writer.with_parts(imported, window, read_events)
    assert status.report_parts is not None
    return status.report_parts.number


async def run(imports: int, case: Case) -> None:
    """Print by how many MiB the memory grows."""

    def started(empty: ReportRow, number: int) -> ReportRow:
        return replace(empty, envelope_id=row_of(empty, number, case.location).envelope_id)

    def known(empty: ReportRow, number: int) -> ReportRow:
        return row_of_list(replace(row_of(empty, number, case.location), outcome=ReportOutcome.KNOWN))

    listed_row = known if case.is_known else started
    cache = Cache()
    all_imports = list[Import]()
    for number in range(imports):
        name = f"acme-{number}"
        cache.organizations.put(an_organization(name, archiveRef={"name": name}))
        cache.archives.put(ready(an_archive(name)))
        imported = an_import(uid=f"uid-{number}", organizationRef={"name": name})
        senders = (ImportSender(name="anna"),)
        all_imports.append(replace(imported, status=replace(imported.status, senders=senders)))
    with tempfile.TemporaryDirectory() as folder:

        async def open_archive(archive: Archive) -> FilesystemBackend:
            root = Path(folder) / archive.name
            root.mkdir(exist_ok=True)
            return FilesystemBackend(archive.name, root)

        writer = ImportReportWriter(cache, "bench", open_archive, None)
        before, began = peak_mib(), time.monotonic()
        parts = await asyncio.gather(*(report(writer, each, listed_row, case) for each in all_imports))
    print(
        f"{imports} Imports at once, {case.envelopes} {'known' if case.is_known else 'new'} envelopes, "
        f"folders of {case.location} characters: "
        f"{peak_mib() - before} MiB more, {parts} parts, {time.monotonic() - began:.0f} s"
    )


def main() -> None:
    """Measure one case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--imports", type=int, default=4)
    parser.add_argument("--envelopes", type=int, default=50_000)
    parser.add_argument("--location", type=int, default=150)
    parser.add_argument("--known", action="store_true")
    chosen = parser.parse_args()
    asyncio.run(run(chosen.imports, Case(chosen.envelopes, chosen.location, chosen.known)))


if __name__ == "__main__":
    main()

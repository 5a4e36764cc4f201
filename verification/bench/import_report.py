"""
Bench: memory of the controller for the reports of Imports, at the end of windows with many envelopes.

Each Import is of another Organization. One of its windows has as many envelopes as a search examines
at most. Events come in pages of 50, in another order than that of the report. The archive is a folder.

    .venv/bin/python -m verification.bench.import_report [--imports 4] [--envelopes 50000] [--location 150]
"""

import argparse
import asyncio
import resource
import tempfile
import time
from pathlib import Path

from msgspec.structs import replace

from controller.cache import Cache
from controller.resync.import_progress import EventTally, search_of, windows_of
from controller.resync.import_report_writer import ImportReportWriter, new_row
from counterfoil.archives.backends.filesystem import FilesystemBackend
from counterfoil.archives.import_report.content import ReportOutcome, ReportRow, RowsOfEvents
from counterfoil.resources import Archive, Import
from counterfoil.resources.imports import ImportSender, ImportWindow, window_label
from tests.support.builders import an_organization, ready
from tests.support.fakes.reconcile_context import an_archive
from tests.support.scenes.imports import an_import

PAGE = 50


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


async def report(writer: ImportReportWriter, imported: Import, envelopes: int, location: int) -> int:
    """Write the list and the parts of a window; return the number of parts."""
    label = window_label(imported.uid, "anna", 0, windows_of(imported)[0].end)
    search = search_of(imported, label)
    assert search is not None
    empty = new_row(search, "", "Completed", ReportOutcome.STARTED)
    rows = [
        replace(empty, envelope_id=row_of(empty, each, location).envelope_id) for each in range(envelopes)
    ]
    listed = await writer.with_list(imported, search, rows, 0)
    del rows

    async def read_events(found: RowsOfEvents) -> EventTally:
        for each in range(envelopes):
            found.add(row_of(empty, each * 7919 % envelopes, location))
            if each % PAGE == 0:
                await asyncio.sleep(0)
        return EventTally(archived=envelopes)

    window = ImportWindow(id=label, events=envelopes, list_=listed)
    status, _ = await writer.with_parts(imported, window, read_events)
    assert status.report_parts is not None
    return status.report_parts.number


async def run(imports: int, envelopes: int, location: int) -> None:
    """Print by how many MiB the memory grows."""
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
        parts = await asyncio.gather(*(report(writer, each, envelopes, location) for each in all_imports))
    print(
        f"{imports} Imports at once, {envelopes} envelopes, folders of {location} characters: "
        f"{peak_mib() - before} MiB more, {parts} parts, {time.monotonic() - began:.0f} s"
    )


def main() -> None:
    """Measure one case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--imports", type=int, default=4)
    parser.add_argument("--envelopes", type=int, default=50_000)
    parser.add_argument("--location", type=int, default=150)
    chosen = parser.parse_args()
    asyncio.run(run(chosen.imports, chosen.envelopes, chosen.location))


if __name__ == "__main__":
    main()

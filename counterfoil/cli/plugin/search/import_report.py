"""``import report``: find, check and join the parts of the report of an Import."""

import argparse
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO
from urllib.parse import unquote

import msgspec

from counterfoil.archives.backend import ArchiveBackend
from counterfoil.archives.errors import ArchiveError
from counterfoil.archives.import_report.content import PartHeader, PreviousPart, ReportRow, read_part
from counterfoil.archives.import_report.storage import check_part
from counterfoil.archives.manifest_signature import PublicKey, SigningKeyInvalid
from counterfoil.cli.plugin.exit_status import CommandError, ExitStatus, counted, format_answer, printable
from counterfoil.cli.verify import CheckImpossible, open_location
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError
from counterfoil.resources import Archive, Import, Organization
from counterfoil.resources.archive import S3
from counterfoil.resources.imports import read_window_label, sender_of_window
from counterfoil.untrusted.addresses import ALLOWED, Addresses
from counterfoil.untrusted.spreadsheet import csv_head, csv_rows

MAX_SHOWN = 10
"""Maximum number of Senders that are named."""


@dataclass(frozen=True)
class FoundPart:
    """A part, as it was found."""

    number: int
    location: str
    header: PartHeader | None
    faults: tuple[str, ...]
    is_seal_checked: bool
    content: Path | None
    """A copy of its JSON lines; None for a part with faults."""

    def line(self) -> str:
        """Return it in one line."""
        where = printable(self.location)
        if self.faults:
            return f"part {self.number}: WRONG: it {'; it '.join(map(printable, self.faults))}: {where}"
        if self.header is None:
            return f"part {self.number}: {where}"
        seal = "seal checked" if self.is_seal_checked else "seal not checked"
        sender, span = self.header.sender, f"{self.header.sent_from} to {self.header.sent_until}"
        envelopes = counted(sum(self.header.counts.values()), "envelope")
        if self.header.list_ is not None and self.header.list_.unnamed and not self.header.is_continued:
            envelopes += f" and {self.header.list_.unnamed} ids that are no GUID"
        return printable(
            f"part {self.number}: Sender/{sender}, sent from {span}, {envelopes}, {seal}: {self.location}"
        )

    def lack(self) -> str:
        """Return which envelopes of its list it lacks, in a sentence; empty if it lacks none."""
        if self.header is None or self.header.list_ is None or not self.header.lacking:
            return ""
        listed = self.header.list_
        return printable(
            f"part {self.number}: lacks {self.header.lacking} of the {counted(listed.envelopes, 'envelope')} "
            f"of its list, which the archive did not return as it was written: {listed.location}"
        )

    def answer(self) -> dict[str, object]:
        """Return it for programs."""
        header = msgspec.to_builtins(self.header) if self.header is not None else None
        return {
            "number": self.number,
            "location": self.location,
            "header": header,
            "sealChecked": self.is_seal_checked,
            "faults": list(self.faults),
        }


async def run(
    args: argparse.Namespace, kube: KubeClient, out: TextIO, environ: Mapping[str, str] = os.environ
) -> ExitStatus:
    """Print the parts of a report, or its rows. Raises ``CommandError``, ``ApiError``."""
    imported = Import.parse(await kube.get(Import, args.names[1]))
    if imported.spec.dry_run:
        raise CommandError(ExitStatus.NOT_ALL, f"Import/{imported.name} is a dry run, which has no report")
    key = _key(args.public_key)
    # The person who runs it chose the address, perhaps that of a forwarded port or of this machine.
    ALLOWED.set(Addresses(allows_loopback=True, is_own=lambda _: False))
    with tempfile.TemporaryDirectory() as copies:
        async with AsyncExitStack() as stack:
            places = _Places(stack, args.at, environ, await _s3_settings(kube, imported))
            found = [each async for each in _parts(imported, places, key, Path(copies))]
        found.reverse()
        lacking = [*filter(None, (each.lack() for each in found)), *lacking_windows(imported)]
        notes = [each.line() for each in found] + lacking
        if found and key is None:
            notes.append("The seals were not checked. Give the controller's public key: --public-key FILE")
        if args.output in ("csv", "jsonl"):
            _write_rows(found, args.output, out)
            print("\n".join(notes), file=sys.stderr)
        elif args.output in ("json", "yaml"):
            answer = {
                "report": imported.status.report,
                "parts": [each.answer() for each in found],
                "lacking": lacking,
            }
            out.write(format_answer(args.output, answer))
        else:
            out.write("".join(f"{each}\n" for each in [_summary(imported), *notes]))
    is_whole = not lacking and not any(each.faults for each in found)
    return ExitStatus.DONE if is_whole else ExitStatus.NOT_ALL


def lacking_windows(imported: Import) -> Iterator[str]:
    """Yield which windows have no part yet, in sentences."""
    status = imported.status
    for window in status.open_windows:
        label = read_window_label(window.id)
        sender = sender_of_window(imported, label) if label is not None else None
        number = label.number + 1 if label is not None else 0
        yield (
            f"no part yet: window {number} of Sender/{sender or '?'}, which has "
            f"{counted(window.events, 'event')} of the Import"
        )
    left = [each for each in status.senders if not each.searched]
    total = status.windows.total // len(status.senders) if status.senders else 0
    for each in left[:MAX_SHOWN]:
        windows = counted(total - each.windows_done, "window")
        yield f"no part yet: {windows} of Sender/{each.name}, not searched yet"
    if len(left) > MAX_SHOWN:
        yield f"no part yet: windows of {len(left) - MAX_SHOWN} more Senders, not searched yet"
    if not status.senders:
        yield "no part yet: the search has not begun"


def _summary(imported: Import) -> str:
    parts = imported.status.report_parts
    number = parts.number if parts is not None else 0
    where = f" in {printable(imported.status.report)}" if imported.status.report else ""
    return f"Import/{imported.name}: {counted(number, 'part')}{where}"


def _key(path: Path | None) -> PublicKey | None:
    try:
        return PublicKey.load(path) if path is not None else None
    except SigningKeyInvalid as problem:
        raise CommandError(ExitStatus.MISUSED, str(problem)) from None


async def _s3_settings(kube: KubeClient, imported: Import) -> S3 | None:
    """Return the settings of the Archive of the Import if it is a bucket; None without the rights."""
    with suppress(ApiError):
        archive_ref = imported.spec.archive_ref
        if archive_ref is None:
            organization = Organization.parse(await kube.get(Organization, imported.organization))
            archive_ref = organization.spec.archive_ref
        if archive_ref is not None:
            return Archive.parse(await kube.get(Archive, archive_ref.name)).spec.s3
    return None


class _Places:
    """The folders of the report, opened from here. Without ``at``, they are where the parts say."""

    def __init__(
        self, stack: AsyncExitStack, at: str | None, environ: Mapping[str, str], s3: S3 | None
    ) -> None:
        self._stack = stack
        self._at = at
        self._environ = environ
        self._s3 = s3
        self._open: dict[str, tuple[ArchiveBackend, str]] = {}

    async def find(self, location: str) -> tuple[ArchiveBackend, str]:
        """Return the archive of a part and its name there. Raises ``CheckImpossible``, ``ArchiveError``."""
        folder, _, name = location.rpartition("/")
        folder = self._at or folder
        if folder not in self._open:
            # The Organization may have another Archive by now. No other server gets the key of this one.
            is_there = self._s3 is not None and f"{folder}/".startswith(f"s3://{self._s3.bucket}/")
            s3 = self._s3 if is_there else None
            chosen = argparse.Namespace(
                location=folder,
                region=s3.region if s3 is not None else None,
                endpoint=s3.endpoint if s3 is not None else None,
                path_style=s3.force_path_style if s3 is not None else False,
            )
            self._open[folder] = await open_location(chosen, self._environ)
            self._stack.push_async_callback(self._open[folder][0].close)
        backend, below = self._open[folder]
        return backend, f"{below}/{unquote(name)}"


async def _parts(
    imported: Import, places: _Places, key: PublicKey | None, copies: Path
) -> AsyncIterator[FoundPart]:
    """Yield the parts, the last one first: each names the one before it."""
    last = imported.status.report_parts
    if last is None:
        return
    wanted: PreviousPart | None = PreviousPart(location=last.location, sha256=last.sha256)
    number = last.number
    while wanted is not None:
        try:
            backend, name = await places.find(wanted.location)
            part = await check_part(backend, name, wanted.sha256, key)
        except (CheckImpossible, ArchiveError) as problem:
            words = f"can't be read from here: {problem} Copy the folder, and name the copy with --at"
            yield FoundPart(number, wanted.location, None, (words,), is_seal_checked=False, content=None)
            return
        header, faults = part.header, part.faults
        if header is not None and (header.uid, header.number) != (imported.uid, number):
            header, faults = None, (*faults, "is of another Import, or has another number")
        if header is None and number > 1:
            faults = (*faults, f"leads to the {counted(number - 1, 'part')} before it, which can't be found")
        copy = copies / str(number) if not faults else None
        if copy is not None:
            copy.write_bytes(part.lines)
        yield FoundPart(number, wanted.location, header, faults, part.is_seal_checked, copy)
        if header is None:
            return
        wanted, number = header.previous, number - 1


def _write_rows(found: list[FoundPart], output: str, out: TextIO) -> None:
    """Write the rows of all parts without a fault, one part in memory at a time."""
    if output == "csv":
        out.write(csv_head(ReportRow).decode())
    for part in found:
        if part.content is None:
            continue
        lines = part.content.read_bytes()
        if output == "csv":
            out.write(csv_rows(map(msgspec.structs.astuple, read_part(lines)[1])).decode())
        else:
            out.write(lines.partition(b"\n")[2].decode())

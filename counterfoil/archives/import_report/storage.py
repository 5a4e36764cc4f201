"""
Store the lists and parts of a report in an archive, and check them there.

Each file is written once under a name with the first digits of a hash, and is read back. The JSON lines of a
part come last, after its CSV and its seal. So a part that was interrupted is completed by the same call, and
a part that is there is complete. A file of another program under the name stays, and raises ``NameTaken``.
"""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from counterfoil.archives.backend import ArchiveBackend, FileNotReturned, FileNotStored
from counterfoil.archives.filing import write_once
from counterfoil.archives.import_report.content import (
    PartDamaged,
    PartHeader,
    ReportPart,
    csv_name,
    read_part,
    seal_name,
)
from counterfoil.archives.manifest import ManifestDamaged
from counterfoil.archives.manifest_signature import ManifestSigner, PublicKey
from counterfoil.archives.readback import read_checksum, read_seal, reading_small

T = TypeVar("T")

MAX_REPORT_FILE = 64 * 1024 * 1024
"""Bytes of a list or a part that is read whole. Counterfoil writes no larger one: a list has 50,000 rows of
``MAX_LISTED_ROW``, and a part ``MAX_PART`` and one row."""

SMALL_FILE = 256 * 1024
"""Bytes up to which a file is hashed and signed in the event loop: some 2 ms."""

JSON_LINES = "application/jsonl"


async def write_list(backend: ArchiveBackend, name: str, content: bytes) -> None:
    """Store the list of a window. Raises ``ArchiveError``."""
    await write_once(backend, name, content, JSON_LINES)


class FileTooLong(Exception):
    """A file of the report has more than ``MAX_REPORT_FILE`` bytes."""


async def read_known(backend: ArchiveBackend, name: str, sha256: str) -> bytes | None:
    """Return the file that has this hash; None if the archive does not return it. Raises ``FileTooLong``,
    ``ArchiveError``."""
    try:
        async with reading_small(backend, name, MAX_REPORT_FILE) as content:
            digest = await _beside(content, hashlib.sha256)
            return content if digest.hexdigest() == sha256 else None
    except ManifestDamaged:
        words = f"is longer than {MAX_REPORT_FILE // 1024**2} MiB, so it is not read"
        raise FileTooLong(words) from None
    except (FileNotStored, FileNotReturned):
        return None


async def write_part(
    backend: ArchiveBackend, folder: str, part: ReportPart, signer: ManifestSigner | None
) -> str:
    """Store a part and its seal; return the location of its JSON lines. Raises ``ArchiveError``."""
    name = f"{folder}/{part.lines_name}"
    await write_once(backend, csv_name(name), part.csv, "text/csv")
    if signer is not None:
        seal = await _beside(part.lines, signer.sign)
        await write_once(backend, seal_name(name), seal, "application/octet-stream")
    await write_once(backend, name, part.lines, JSON_LINES)
    return backend.location(name)


@dataclass(frozen=True)
class CheckedPart:
    """A part as it was found in an archive."""

    header: PartHeader | None
    """None: it is not there, or has other content."""
    lines: bytes
    faults: tuple[str, ...]
    """The faults, in words that follow its name."""
    is_seal_checked: bool
    """Whether its seal fits the key."""


async def check_part(backend: ArchiveBackend, name: str, sha256: str, key: PublicKey | None) -> CheckedPart:
    """
    Read a part whose JSON lines have this hash, and check its seal and its CSV.

    Without a ``key``, the seal is not checked. Raises ``ArchiveError``.
    """
    try:
        lines = await read_known(backend, name, sha256)
    except FileTooLong as problem:
        return CheckedPart(None, b"", (str(problem),), is_seal_checked=False)
    if lines is None:
        return CheckedPart(None, b"", ("is missing or was changed",), is_seal_checked=False)
    try:
        header, _ = read_part(lines)
    except PartDamaged as damage:
        return CheckedPart(None, b"", (f"can't be read: {damage}",), is_seal_checked=False)
    faults, is_checked = list[str](), False
    if key is not None:
        seal = await _seal(backend, name)
        is_checked = seal is not None and key.verifies(seal, lines)
        if not is_checked:
            faults.append(f"has no seal of the key {key.id}")
    try:
        csv = await read_checksum(backend, csv_name(name))
    except FileNotReturned:
        csv = None
    if csv is None or csv[1] != header.csv_sha256:
        faults.append("has no CSV with the same rows beside it")
    return CheckedPart(header, lines, tuple(faults), is_seal_checked=is_checked)


async def _seal(backend: ArchiveBackend, name: str) -> bytes | None:
    try:
        return await read_seal(backend, seal_name(name))
    except FileNotReturned:
        return None


async def _beside(content: bytes, compute: Callable[[bytes], T]) -> T:
    """Compute something of a file, of a large one beside the event loop."""
    return compute(content) if len(content) <= SMALL_FILE else await asyncio.to_thread(compute, content)

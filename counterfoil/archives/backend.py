"""
The small interface that every kind of archive implements, one module per kind.

A door moves bytes and knows its protocol. What is filed where, what counts as arrived and what must never be
overwritten is decided above it, in ``filing``, for all kinds alike.

Names are relative to the archive's root, with ``/`` between segments that ``names`` has made safe. A door
refuses any other name with ``ValueError``.
"""

from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

MAX_ENTRIES = 10_000
"""More files than this below one envelope's folder are not ours to look through."""

TEMPORARY_PREFIX = ".counterfoil-"
"""How the names of our temporary files begin; no safe name begins with a dot."""


class FileNotStored(Exception):
    """Nothing is stored under this name."""


class ChecksumReported(Exception):
    """Not given back; the server tells size and SHA-256 of what it has instead, and the Archive says that this is to do."""

    def __init__(self, size: int, sha256: str) -> None:
        super().__init__("the server vouches for this file")
        self.size = size
        self.sha256 = sha256


@dataclass(frozen=True)
class StoredEntry:
    """One stored file. ``size`` in bytes; ``sha256`` (lower-case hex) only if the server itself vouches for it."""

    name: str
    size: int | None = None
    sha256: str | None = None


class ArchiveBackend(Protocol):
    """One archive, open. Safe to use by many tasks of one event loop; whoever opened it closes it."""

    kind: ClassVar[str]

    def location(self, name: str) -> str:
        """Return the URI of a name, percent-encoded; nothing is asked and nothing needs to exist."""
        ...

    async def entries(self, folder: str) -> list[StoredEntry]:
        """
        Return everything below a folder, with full names, in order; empty when the folder is absent.

        Our own temporary files are left out. Raises ``Occupied`` for more than ``MAX_ENTRIES``.
        """
        ...

    async def put(
        self, name: str, chunks: AsyncIterable[bytes], *, tags: Mapping[str, str], content_type: str | None
    ) -> None:
        """
        Store a file, replacing what was there at one stroke: until all of it is there, nothing changes under ``name``.

        Any exception, cancellation too, leaves no part of it behind; what ``chunks`` raises comes out unchanged.
        """
        ...

    def read(self, name: str) -> AsyncGenerator[bytes, None]:
        """
        Yield the bytes of a file, from the store itself rather than a cache where it can.

        Raises ``FileNotStored``, and instead of the first byte ``ChecksumReported``, if ``spec.verify`` is ``Checksum``.
        """
        ...

    async def discard(self, name: str) -> None:
        """Remove a file that is ours and wrong; nothing happens when it is absent."""
        ...

    async def probe(self) -> None:
        """Write, read back and remove a small file, as filing would."""
        ...

    async def remove_leftovers(self, folder: str) -> None:
        """Remove what a killed run of ours left unfinished below this folder. No one may be filing into it."""
        ...

    async def close(self) -> None:
        """Give back connections and the like."""
        ...


@runtime_checkable
class RetainingBackend(Protocol):
    """What a door has besides if its archive can be told to keep a file from being changed or deleted."""

    async def retain(self, name: str) -> None:
        """
        Have a file kept as the Archive says; called once it has proved itself, and again by each run that finds it.

        Raises ``ArchiveTrouble``.
        """
        ...


def segments(name: str) -> list[str]:
    """Split a name. Raises ``ValueError`` for one that would lead out of the archive or is no clean path."""
    parts = name.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise ValueError(f"not a clean relative name: {name!r}")
    return parts

"""
The interface that every kind of archive implements, and the type of what opens one.

A backend moves bytes and knows its protocol. ``filing`` decides for all kinds where a file is stored, when it
is verified, and what must never be overwritten.

Names are relative to the archive's root, with ``/`` between segments that ``names`` has made safe. A backend
refuses any other name with ``ValueError``.
"""

import secrets
import sys
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from time import perf_counter
from typing import ClassVar, Protocol, TypeVar, runtime_checkable
from urllib.parse import urlsplit

from counterfoil import tracing
from counterfoil.archives.errors import NameTaken, SettingsInvalid
from counterfoil.resources.archive import ArchiveSpec

MAX_ENTRIES = 10_000
"""More files than this below one envelope's folder are not ours to look through."""

MOVE_AWAY = "Move them away."
"""The advice about files in the place of an envelope's."""

MAX_LISTED_MEMORY = 8 * 1024 * 1024
"""Bytes of memory of one list of files: a server chooses how long a name is."""

MAX_LISTED_NAME = 1024
"""Characters of a key of an object store, or of the name of a file or folder in a list. Object stores allow
as many, volumes 255 bytes."""

ENTRY_MEMORY = 200
"""Bytes of memory of a ``StoredEntry`` with its size and its place in a list, without its name."""

TEMPORARY_PREFIX = ".counterfoil-"
"""Prefix of the names of temporary files; no safe name begins with a dot."""

TEMPORARY_SUFFIX = ".tmp"

S = TypeVar("S")


class FileNotStored(Exception):
    """Nothing is stored under this name."""


class FileNotReturned(Exception):
    """The archive does not return this file, and it is not known here whether it is stored: a checksum that
    the server reported is known only in the process that sent the file."""


class ChecksumReported(FileNotReturned):
    """Raised instead of returning a file: the server reports its size and SHA-256, and the Archive accepts
    that."""

    def __init__(self, size: int, sha256: str) -> None:
        super().__init__("the server reports the checksum of this file")
        self.size = size
        self.sha256 = sha256


@dataclass(frozen=True)
class StoredEntry:
    """One stored file. ``size`` in bytes; ``sha256`` (lower-case hex) only if the server itself reports
    it."""

    name: str
    size: int | None = None
    sha256: str | None = None


class ArchiveBackend(Protocol):
    """One open archive. Many tasks of one event loop may use it; the task that opened it closes it."""

    kind: ClassVar[str]

    @property
    def lists_files(self) -> bool:
        """Whether an empty answer of ``entries`` says that nothing is stored there."""
        ...

    def location(self, name: str) -> str:
        """Return the URI of a name, percent-encoded; sends no request, and nothing needs to exist."""
        ...

    async def entries(self, folder: str) -> list[StoredEntry]:
        """
        Return all files below a folder, with full names, in order; empty when the folder is absent.

        Temporary files of Counterfoil are left out. Raises ``NameTaken`` for more than ``MAX_ENTRIES``.
        """
        ...

    async def put(
        self, name: str, chunks: AsyncIterable[bytes], *, tags: Mapping[str, str], content_type: str | None
    ) -> None:
        """
        Store a file and replace an earlier one atomically: until all bytes are stored, nothing changes under
        ``name``.

        Any exception, cancellation too, leaves no part of it behind. An error that ``chunks`` raises is
        raised unchanged.
        """
        ...

    def read(self, name: str) -> AsyncGenerator[bytes, None]:
        """
        Yield the bytes of a file, from the store itself rather than a cache where it can.

        Raises ``FileNotStored``. If ``spec.verify`` is ``Checksum``, raises instead of the first byte
        ``ChecksumReported``, or ``FileNotReturned`` if no checksum of the file is known.
        """
        ...

    async def discard(self, name: str) -> None:
        """Remove a wrong file that Counterfoil wrote; does nothing when it is absent."""
        ...

    async def probe(self) -> None:
        """Write, read back and remove a small file, as filing would."""
        ...

    async def remove_leftovers(self, folder: str) -> None:
        """Remove temporary files that a killed run left below this folder. No run may be writing into it."""
        ...

    async def close(self) -> None:
        """Close connections and release other resources."""
        ...


@runtime_checkable
class RetainingBackend(Protocol):
    """Added method of a backend with work for a verified file: protect it, make it durable, or remove what it
    replaced."""

    async def retain(self, name: str) -> None:
        """
        Keep a file as the Archive says; called after the file is verified, and again by each run that finds
        it.

        Raises ``ArchiveError``.
        """
        ...


@runtime_checkable
class RootedBackend(Protocol):
    """Added methods of what wraps a backend and knows which root it has."""

    async def confirm_root(self) -> None:
        """
        Check the root again. Raises ``ArchiveError``.

        Called before other content than expected has a result that lasts: a proxy may have answered.
        """
        ...

    async def confirm_absence(self) -> None:
        """
        Check the root again if something was absent since the last check. Raises ``ArchiveError``.

        Called before an absence has a result that lasts: a claim, a choice of an archive, or a write.
        """
        ...


@runtime_checkable
class ServerBackend(Protocol):
    """Added property of a backend whose locations do not name its server."""

    @property
    def server_origin(self) -> str:
        """Return scheme, host and port of the server."""
        ...


class ForwardingBackend:
    """A backend that passes every call on to another one; a subclass changes some of them."""

    kind: ClassVar[str] = "forwarding"

    def __init__(self, backend: ArchiveBackend) -> None:
        self._backend = backend

    @property
    def lists_files(self) -> bool:
        """Whether an empty answer of ``entries`` says that nothing is stored there."""
        return self._backend.lists_files

    @cached_property
    def server_origin(self) -> str:
        """Return what the archive shares with others."""
        # ``isinstance`` of a protocol evaluates a property: each layer would ask the next one twice.
        return server_of(self._backend)

    def location(self, name: str) -> str:
        """Return the URI of a name."""
        return self._backend.location(name)

    async def entries(self, folder: str) -> list[StoredEntry]:
        """Return all files below a folder."""
        return await self._backend.entries(folder)

    async def put(
        self, name: str, chunks: AsyncIterable[bytes], *, tags: Mapping[str, str], content_type: str | None
    ) -> None:
        """Store a file."""
        await self._backend.put(name, chunks, tags=tags, content_type=content_type)

    def read(self, name: str) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of a file."""
        return self._backend.read(name)

    async def discard(self, name: str) -> None:
        """Remove a file."""
        await self._backend.discard(name)

    async def retain(self, name: str) -> None:
        """Protect a file, if the archive can do that."""
        if isinstance(self._backend, RetainingBackend):
            await self._backend.retain(name)

    async def confirm_root(self) -> None:
        """Check the root again, if the archive can do that."""
        await confirm_root(self._backend)

    async def confirm_absence(self) -> None:
        """Check the root again after an absence, if the archive can do that."""
        await confirm_absence(self._backend)

    async def probe(self) -> None:
        """Write, read back and remove a small file."""
        await self._backend.probe()

    async def remove_leftovers(self, folder: str) -> None:
        """Remove the temporary files of a killed run."""
        await self._backend.remove_leftovers(folder)

    async def close(self) -> None:
        """Close the backend."""
        await self._backend.close()


def server_of(backend: ArchiveBackend) -> str:
    """Return what an archive shares with others: its server, or the root of a volume."""
    if isinstance(backend, ServerBackend):
        return backend.server_origin
    root = urlsplit(backend.location("x"))
    return f"{root.scheme}://{root.netloc}" if root.netloc else root.path


async def confirm_root(backend: ArchiveBackend) -> None:
    """Check the root again, if the archive can do that. Raises ``ArchiveError``."""
    if isinstance(backend, RootedBackend):
        await backend.confirm_root()


async def confirm_absence(backend: ArchiveBackend) -> None:
    """Check that what was absent is so in the same root, if the archive can do that. Raises
    ``ArchiveError``."""
    if isinstance(backend, RootedBackend):
        await backend.confirm_absence()


class NegativeCacheBackend(ForwardingBackend):
    """
    Spares one run over one event the second request for a file that does not exist.

    A file that this run asked for, and that was absent, stays absent until this run sends it: no other run
    works on the envelope (rule 5). The list of a folder does not count, since it can be cut (rule 13). The
    next run asks again.
    """

    kind: ClassVar[str] = "negative-cache"

    def __init__(self, backend: ArchiveBackend) -> None:
        super().__init__(backend)
        self._absent: set[str] = set()
        self._sent: set[str] = set()

    async def put(
        self, name: str, chunks: AsyncIterable[bytes], *, tags: Mapping[str, str], content_type: str | None
    ) -> None:
        """Store a file. A failed call counts as well: its answer may be lost."""
        self._sent.add(name)
        await super().put(name, chunks, tags=tags, content_type=content_type)

    def read(self, name: str) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of a file."""
        return super().read(name) if name in self._sent else self._read_unsent(name)

    async def _read_unsent(self, name: str) -> AsyncGenerator[bytes, None]:
        if name in self._absent:
            raise FileNotStored
        try:
            async with aclosing(super().read(name)) as stream:
                async for block in stream:
                    yield block
        except FileNotStored:
            self._absent.add(name)
            raise


def segments(name: str) -> list[str]:
    """Split a name. Raises ``ValueError`` if it leads out of the archive or is not a clean path."""
    parts = name.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise ValueError(f"not a clean relative name: {name!r}")
    return parts


Opener = Callable[[str, ArchiveSpec, Mapping[str, bytes]], Awaitable[ArchiveBackend]]
"""
Opens a backend, given the name of the Archive, its spec and the content of its Secret (empty without one).

Sends no request to the server. Raises ``SettingsInvalid``.
"""


def required_settings(archive: str, field: str, settings: S | None) -> S:
    """Return the settings of a kind. Raises ``SettingsInvalid`` if the Archive has none."""
    if settings is None:
        raise SettingsInvalid(f"Archive/{archive}: {field} is missing.")
    return settings


def temporary_name(purpose: str = "") -> str:
    """Return a new name for a file that is not finished."""
    return f"{TEMPORARY_PREFIX}{purpose}{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"


def is_temporary(name: str) -> bool:
    """Whether a file is one that a run did not finish, or is writing now."""
    last = name.rpartition("/")[2]
    return last.startswith(TEMPORARY_PREFIX) and last.endswith(TEMPORARY_SUFFIX)


class ListBounds:
    """Counts the files below one folder, and what their names take in memory."""

    def __init__(self, location: str) -> None:
        self.memory = 0
        """Bytes."""
        self._location = location
        self._count = 0

    def add(self, name: str) -> None:
        """Another file or folder. Raises ``NameTaken``: they are not ours to look through."""
        self._count += 1
        self.memory += sys.getsizeof(name) + ENTRY_MEMORY
        if self._count > MAX_ENTRIES:
            raise too_many_files(self._location)
        if self.memory > MAX_LISTED_MEMORY:
            raise NameTaken(
                f"{self._location} has files whose names take more than {MAX_LISTED_MEMORY // 1024**2} MiB. "
                f"{MOVE_AWAY}"
            )


def too_many_files(location: str) -> NameTaken:
    """Return the error for a folder with more than ``MAX_ENTRIES`` files."""
    return NameTaken(f"{location} has more than {MAX_ENTRIES} files. {MOVE_AWAY}")


Observe = Callable[[str, float], None]
"""Called after each operation with its name and its duration in seconds."""


class InstrumentedBackend(ForwardingBackend):
    """Wraps a backend. A transfer is timed from start to end, so a slow source makes a long ``put``."""

    kind: ClassVar[str] = "timed"

    def __init__(self, backend: ArchiveBackend, observe: Observe) -> None:
        super().__init__(backend)
        self._observe = observe

    async def entries(self, folder: str) -> list[StoredEntry]:
        """Return everything below a folder."""
        with self._timing("entries"):
            return await super().entries(folder)

    async def put(
        self, name: str, chunks: AsyncIterable[bytes], *, tags: Mapping[str, str], content_type: str | None
    ) -> None:
        """Store a file."""
        with self._timing("put"):
            await super().put(name, chunks, tags=tags, content_type=content_type)

    async def read(self, name: str) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of a file."""
        with self._timing("read"):
            async with aclosing(super().read(name)) as stream:
                async for chunk in stream:
                    yield chunk

    async def discard(self, name: str) -> None:
        """Remove a file."""
        with self._timing("discard"):
            await super().discard(name)

    async def retain(self, name: str) -> None:
        """Protect a file, if the archive can do that."""
        if isinstance(self._backend, RetainingBackend):
            with self._timing("retain"):
                await super().retain(name)

    async def probe(self) -> None:
        """Write, read back and remove a small file."""
        with self._timing("probe"):
            await super().probe()

    async def remove_leftovers(self, folder: str) -> None:
        """Remove the unfinished files of a killed run."""
        with self._timing("remove_leftovers"):
            await super().remove_leftovers(folder)

    @contextmanager
    def _timing(self, operation: str) -> Iterator[None]:
        since = perf_counter()
        with tracing.detached_span(f"archive {operation}"):
            try:
                yield
            finally:
                self._observe(operation, perf_counter() - since)

"""
Archives of kind ``filesystem``: a folder of a mounted volume.

A file is written to a temporary name in its own folder, made durable, renamed, and the rename made durable.
All paths are walked segment by segment from the root without following symbolic links, so that nobody who can
write into the tree can lead us out of it. Blocking calls run in threads of this archive, one block at a time;
a volume that hangs costs those threads only (``_volume_threads``).

Tags go into the manifest only: file systems have no place for them that survives copying.
"""

import errno
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from counterfoil.archives.backend import (
    MAX_ENTRIES,
    FileNotStored,
    ListBounds,
    Opener,
    StoredEntry,
    is_temporary,
    segments,
    temporary_name,
)
from counterfoil.archives.backends._volume_threads import Operation, VolumeHangs, VolumeThreads
from counterfoil.archives.errors import (
    MOVE_AWAY,
    ArchiveError,
    ArchiveRefused,
    ArchiveUnavailable,
    ErrorText,
    NameTaken,
    SettingsInvalid,
    find_text,
)
from counterfoil.archives.readback import probe_with_file
from counterfoil.archives.streams import BLOCK, INLINE, HashingThread
from counterfoil.resources.archive import ArchiveSpec

FILE_MODE = 0o640
FOLDER_MODE = 0o750

SLOWEST_DISK = 1024 * 1024
"""Bytes per second that a volume must at least make durable."""

FLUSH_EVERY = 8 * 1024 * 1024
"""Bytes after which the disk is set to work while more are coming."""

SYNC_EVERY = 32 * 1024 * 1024
"""Bytes after which a big file is made durable while more are coming, so that the slowest disk has little to
write in the end, and a call that hangs has a short limit."""

MAX_DEPTH = 64
"""Levels of folders below one envelope's folder that are looked through; each needs a descriptor."""

_CLOSED = -1
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_WRITE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


async def open_filesystem(
    name: str, spec: ArchiveSpec, credentials: Mapping[str, bytes]
) -> "FilesystemBackend":
    """Open the archive ``name``; needs no credentials. Raises ``SettingsInvalid``."""
    if spec.filesystem is None or not spec.filesystem.root.startswith("/"):
        raise SettingsInvalid(f"Archive/{name}: spec.filesystem.root must be an absolute path.")
    return FilesystemBackend(name, Path(spec.filesystem.root))


OPENER: Opener = open_filesystem


class FilesystemBackend:
    """A folder tree below ``root``. ``archive`` is the name that messages carry."""

    kind: ClassVar[str] = "filesystem"
    lists_files = True

    def __init__(self, archive: str, root: Path, threads: VolumeThreads | None = None) -> None:
        self._archive = f"Archive/{archive}"
        self._root = root
        self._threads = threads or VolumeThreads()
        self._folders = _DurableFolders()
        self._written: set[str] = set()
        """Names that this process made durable, until they are retained."""

    def location(self, name: str) -> str:
        """Return the ``file:`` URI of a name."""
        return "file://" + quote(str(self._root / "/".join(segments(name))), safe="/!$&'()*+,;=:@")

    async def entries(self, folder: str) -> list[StoredEntry]:
        """Return everything below a folder, links and other oddities included; empty when it is absent."""
        with self._translate_errors(folder):
            return await self._threads.run(partial(self._entries, segments(folder)))

    async def put(
        self, name: str, chunks: AsyncIterable[bytes], *, tags: Mapping[str, str], content_type: str | None
    ) -> None:
        """Write beside the final name, make it durable, rename. Raises ``ArchiveError``."""
        draft = _TemporaryFile(self._root, segments(name), self._folders)
        writing = HashingThread(draft.write, partial(self._threads.start, operation=draft.operation))
        try:
            waiting = b""
            async for chunk in chunks:
                with self._translate_errors(name):
                    if waiting:
                        await writing.add(waiting)
                    # A small one is the last one, most likely. Then it takes one visit to a thread.
                    waiting = chunk if len(chunk) <= INLINE else b""
                    if not waiting:
                        await writing.add(chunk)
            with self._translate_errors(name):
                await writing.finish()
                publish = partial(draft.publish, waiting)
                await self._threads.run(publish, draft.operation, extra_seconds=draft.sync_seconds)
                self._written.add(name)
        finally:
            try:
                await writing.abandon()
            finally:
                if draft.is_open and not draft.operation.is_abandoned:
                    with suppress(VolumeHangs):  # the error that brought us here says more
                        await self._threads.run(draft.end, draft.operation)

    async def read(self, name: str) -> AsyncGenerator[bytes, None]:
        """Yield a file block by block, from the disk if the kernel drops its cache. Raises
        ``FileNotStored``."""
        reading = _OpenFile(self._root, segments(name))
        try:
            while not reading.at_end:
                with self._translate_errors(name):
                    block = await self._threads.run(reading.block, reading.operation)
                if block:
                    yield block
        finally:
            if reading.is_open and not reading.operation.is_abandoned:
                with suppress(VolumeHangs):  # nobody needs the file any more
                    await self._threads.run(reading.end, reading.operation)

    async def discard(self, name: str) -> None:
        """Remove a file, durably; nothing happens when it is absent."""
        self._written.discard(name)
        with self._translate_errors(name), suppress(FileNotStored):
            operation = Operation()
            await self._threads.run(partial(self._discard, segments(name), operation), operation)

    async def retain(self, name: str) -> None:
        """Make a file that an earlier run stored durable, and all folders above it: that run may have stopped
        before its fsync."""
        if name in self._written:
            self._written.discard(name)
            return
        with self._translate_errors(name):
            try:
                await self._threads.run(partial(self._make_durable, segments(name)))
            except (FileNotStored, FileNotFoundError) as error:
                raise ArchiveUnavailable(
                    "ArchiveChanged",
                    f"{self._archive}: somebody removed a file at {self._root} while it was being filed.",
                ) from error

    async def probe(self) -> None:
        """Write, read back and remove a small file in the root. Raises ``ArchiveError``."""
        name = temporary_name("probe-")
        try:
            await probe_with_file(self, name, self._archive, f"the volume at {self._root}")
        finally:
            await self.discard(name)

    async def remove_leftovers(self, folder: str) -> None:
        """Remove our temporary files below a folder."""
        with self._translate_errors(folder), suppress(FileNotStored):
            operation = Operation()
            await self._threads.run(partial(self._remove_leftovers, segments(folder), operation), operation)

    async def close(self) -> None:
        """End the threads; one that hangs is not waited for."""
        self._threads.close()

    def _entries(self, folder: list[str]) -> list[StoredEntry]:
        path = "/".join(folder)
        found, bounds = list[StoredEntry](), ListBounds(self.location(path))
        try:
            with _folder(self._root, folder) as at:
                for each in _iterate_entries(at, path):
                    bounds.add(each.name if each is not None else "")
                    if each is not None:
                        found.append(each)
        except FileNotStored:
            return []
        return sorted(found, key=lambda entry: entry.name)

    def _discard(self, parts: list[str], operation: Operation) -> None:
        with _folder(self._root, parts[:-1]) as at:
            # By the end of a call that hung, another run may have filed a whole file under this name.
            operation.check()
            _remove(at, parts[-1])
            os.fsync(at)

    def _make_durable(self, parts: list[str]) -> None:
        with _descriptor(_open_folder(self._root, parts[:-1], self._folders.enter)) as at:
            with _descriptor(os.open(parts[-1], _READ_FLAGS, dir_fd=at)) as file:
                os.fsync(file)
            os.fsync(at)

    def _remove_leftovers(self, parts: list[str], operation: Operation) -> None:
        with _folder(self._root, parts) as at:
            _remove_temporary_files(at, operation)

    @contextmanager
    def _translate_errors(self, name: str) -> Iterator[None]:
        """Turn what the operating system says into what an administrator can use."""
        try:
            yield
        except _RootMissing as error:
            raise ArchiveRefused(
                "ArchiveRootMissing",
                f"{self._archive}: the folder {self._root} does not exist. Mount the volume, or correct "
                "spec.filesystem.root. Create the folder only for a new archive.",
            ) from error
        except _NotAFolder as error:
            raise self._not_a_folder(error) from error
        except (_NotAFile, IsADirectoryError) as error:
            raise NameTaken(
                f"{self.location(name)} is no ordinary file, and Counterfoil did not put it there. "
                f"{MOVE_AWAY}"
            ) from error
        except _TooDeep as error:
            raise NameTaken(
                f"{self.location(name)} has folders more than {MAX_DEPTH} levels deep. Move them away."
            ) from error
        except VolumeHangs as error:
            raise ArchiveUnavailable(
                "ArchiveUnresponsive",
                f"{self._archive}: the volume at {self._root} does not answer: a call did not come "
                "back in time. Check the server or the disk behind it; waiting events continue automatically "
                "once it answers.",
            ) from error
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise NameTaken(
                    f"{self.location(name)} is a symbolic link, and Counterfoil does not follow links. Look "
                    "where it leads and who made it, then move the link away. Keep the file that it leads to."
                ) from error
            raise error_of(error, self._archive, self._root) from error

    def _not_a_folder(self, error: "_NotAFolder") -> ArchiveError:
        location = self.location("/".join(error.path)) if error.path else f"{self._root}"
        if error.is_link:
            return ArchiveRefused(
                "SymbolicLink",
                f"{self._archive}: {location} is a symbolic link, and Counterfoil does not follow links "
                "inside an archive. Look where it leads, and who made it. Keep all documents there: put a "
                "real folder with them in the place of the link, or mount their volume there.",
            )
        return NameTaken(f"{location} is a file where Counterfoil needs a folder. {MOVE_AWAY}")


def error_of(error: OSError, archive: str, root: Path) -> ArchiveError:
    """Return the error for an error of the operating system, by who must act; ``archive`` and ``root`` are
    for the message."""
    if (text := find_text(_ERROR_RULES, error.errno)) is not None:
        return text.error(archive, root=root)
    name = errno.errorcode.get(error.errno or 0, "an unknown error")
    return ArchiveUnavailable("ArchiveFailing", f"{archive}: the volume at {root} does not work ({name}).")


_ERROR_RULES: Mapping[frozenset[int | None], ErrorText] = {
    frozenset({errno.ENOSPC, errno.EDQUOT}): ErrorText(
        "ArchiveFull",
        "no space is left on the volume at {root}. Enlarge it or raise its quota; waiting events continue "
        "automatically.",
    ),
    frozenset({errno.EFBIG}): ErrorText(
        "FileTooBig",
        "the volume at {root} does not take files of this size. Raise the limit, or use another volume.",
    ),
    frozenset({errno.EACCES, errno.EPERM}): ErrorText(
        "ArchivePermissionDenied",
        "the controller may not read and write below {root}. Give its user (see securityContext) the right "
        "to.",
    ),
    frozenset({errno.EROFS}): ErrorText(
        "ArchiveReadOnly", "the volume at {root} is mounted read-only. Mount it writable."
    ),
    frozenset({errno.ENAMETOOLONG}): ErrorText(
        "PathTooLong", "a path is longer than the volume at {root} takes. Shorten spec.path."
    ),
}


class _RootMissing(Exception):
    """The root of the archive is not there."""


class _TooDeep(Exception):
    """A folder has folders that are more than ``MAX_DEPTH`` levels deep."""


class _NotAFile(Exception):
    """A folder, device, pipe or socket has the name of a file."""


class _NotAFolder(Exception):
    """Something else lies where a folder is needed."""

    def __init__(self, path: list[str], *, is_link: bool) -> None:
        super().__init__("/".join(path))
        self.path = path
        self.is_link = is_link


class _TemporaryFile:
    """
    A file while it is written. Its methods block; ``end`` cleans up wherever the others stopped.

    Each does as much as it can at once, since most files are small, and then going to a thread is what costs.
    """

    def __init__(self, root: Path, parts: list[str], folders: "_DurableFolders") -> None:
        self._root = root
        self._parts = parts
        self._folders = folders
        self._temporary = temporary_name()
        self.operation = Operation(cleanup=self.end)
        self._folder = _CLOSED
        self._file = _CLOSED
        self._written = self._flushed = self._synced = 0
        self._published = False

    @property
    def is_open(self) -> bool:
        """Whether there is something to clean up."""
        return self._folder != _CLOSED

    @property
    def sync_seconds(self) -> float:
        """Time to make the content durable: the disk may have most of it to write yet."""
        return (self._written - self._synced) / SLOWEST_DISK

    def write(self, block: bytes) -> None:
        """Append a block; the first one makes the folders and the temporary file."""
        self._begin()
        rest = memoryview(block)
        while rest:
            rest = rest[os.write(self._file, rest) :]
        self._written += len(block)
        if self._written - self._flushed >= FLUSH_EVERY:
            # On POSIX_FADV_DONTNEED, Linux starts to write pages to the disk, and drops pages that it has
            # written since the last time. So there is little left to wait for in the end, and the page cache,
            # which counts as memory of the pod, stays small; filling new pages all the time would cost more
            # than all else
            # here.
            os.posix_fadvise(self._file, 0, self._written, os.POSIX_FADV_DONTNEED)
            self._flushed = self._written
        if self._written - self._synced >= SYNC_EVERY:
            os.fdatasync(self._file)
            self._synced = self._written

    def publish(self, rest: bytes) -> None:
        """Append the rest, make the content durable, give it its name, make the name durable, and close
        all."""
        self.write(rest)
        os.fchmod(self._file, FILE_MODE)
        os.fsync(self._file)
        # By the end of a call that hung, another run may have filed a whole file under this name.
        self.operation.check()
        os.rename(self._temporary, self._parts[-1], src_dir_fd=self._folder, dst_dir_fd=self._folder)
        self._published = True
        os.fsync(self._folder)
        self.end()

    def end(self) -> None:
        """Close all, and remove the temporary file unless it has its name. Raises nothing: see
        ``remove_leftovers``."""
        if self._file != _CLOSED:
            with suppress(OSError):  # it was synchronised, or it is thrown away
                os.close(self._file)
        if self._folder != _CLOSED:
            with suppress(OSError):  # the error that brought us here says more
                if not self._published:
                    _remove(self._folder, self._temporary)
                os.close(self._folder)
        self._file = self._folder = _CLOSED

    def _begin(self) -> None:
        if self._folder == _CLOSED:
            self._folder = _open_folder(self._root, self._parts[:-1], self._folders.make)
            self._file = os.open(self._temporary, _WRITE_FLAGS, FILE_MODE, dir_fd=self._folder)


class _OpenFile:
    """A file while it is read. ``block`` blocks."""

    def __init__(self, root: Path, parts: list[str]) -> None:
        self._root = root
        self._parts = parts
        self.operation = Operation(cleanup=self.end)
        self._file = _CLOSED
        self._read = self._dropped = 0
        self.at_end = False

    @property
    def is_open(self) -> bool:
        """Whether there is something to close."""
        return self._file != _CLOSED

    def block(self) -> bytes:
        """Return the next block, and close the file after the last one. Raises ``FileNotStored``, and
        ``_NotAFile`` for entries that are no files."""
        self._begin()
        block = os.read(self._file, BLOCK)
        if len(block) < BLOCK:
            # The last one, most likely: a file that fits into one block is read in one visit to the thread.
            more = os.read(self._file, BLOCK)
            self.at_end = not more
            block += more
        self._read += len(block)
        if self._read - self._dropped >= FLUSH_EVERY:
            # The kernel uses the same few pages of memory again, instead of filling new ones with what nobody
            # needs.
            os.posix_fadvise(self._file, self._dropped, self._read - self._dropped, os.POSIX_FADV_DONTNEED)
            self._dropped = self._read
        if self.at_end:
            self.end()
        return block

    def end(self) -> None:
        """Close it."""
        if self._file != _CLOSED:
            os.close(self._file)
        self._file = _CLOSED

    def _begin(self) -> None:
        if self._file != _CLOSED:
            return
        with _folder(self._root, self._parts[:-1]) as at:
            try:
                self._file = os.open(self._parts[-1], _READ_FLAGS, dir_fd=at)
            except FileNotFoundError as error:
                raise FileNotStored from error
        if not stat.S_ISREG(os.fstat(self._file).st_mode):
            raise _NotAFile
        # What was just written is in memory too; we want to see what the disk has.
        os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_SEQUENTIAL)


def _open_folder(root: Path, parts: list[str], step: Callable[[int, str], int]) -> int:
    """Return a descriptor of a folder below the root, reached by ``step`` without following links."""
    try:
        at = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _RootMissing from error
    for depth, part in enumerate(parts):
        with _descriptor(at):
            try:
                at = step(at, part)
            except NotADirectoryError as error:
                is_link = stat.S_ISLNK(os.stat(part, dir_fd=at, follow_symlinks=False).st_mode)
                raise _NotAFolder(parts[: depth + 1], is_link=is_link) from error
    return at


def _enter(at: int, part: str) -> int:
    try:
        return os.open(part, _FOLDER_FLAGS, dir_fd=at)
    except FileNotFoundError as error:
        raise FileNotStored from error


class _DurableFolders:
    """
    Opens folders, and makes their entries in the folders above durable, each once.

    A folder that exists may be one whose entry an earlier run, or another task, has not made durable.
    """

    def __init__(self) -> None:
        self._known: set[tuple[int, int]] = set()
        """Device and inode of folders whose entries are durable."""

    def enter(self, at: int, part: str) -> int:
        """Open an existing folder. Raises ``FileNotStored``."""
        return self._settled(at, _enter(at, part))

    def make(self, at: int, part: str) -> int:
        """Open a folder, and create it if it is missing."""
        with suppress(FileNotStored):
            return self.enter(at, part)
        # Another task may be faster, which is as good.
        with suppress(FileExistsError):
            os.mkdir(part, FOLDER_MODE, dir_fd=at)
            # The new folder may have the inode of one that was removed.
            made = os.stat(part, dir_fd=at, follow_symlinks=False)
            self._known.discard((made.st_dev, made.st_ino))
        return self._settled(at, os.open(part, _FOLDER_FLAGS, dir_fd=at))

    def _settled(self, at: int, folder: int) -> int:
        """Return ``folder``, whose entry in ``at`` is durable."""
        found = os.fstat(folder)
        if (found.st_dev, found.st_ino) in self._known:
            return folder
        try:
            os.fsync(at)
        except OSError:
            os.close(folder)
            raise
        if len(self._known) >= MAX_ENTRIES:
            self._known.clear()
        self._known.add((found.st_dev, found.st_ino))
        return folder


@contextmanager
def _folder(root: Path, parts: list[str]) -> Iterator[int]:
    with _descriptor(_open_folder(root, parts, _enter)) as at:
        yield at


@contextmanager
def _descriptor(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _iterate_entries(at: int, path: str, depth: int = 0) -> Iterator[StoredEntry | None]:
    """Yield everything below an open folder, None for folders and our temporary files; links are listed, and
    never followed."""
    if depth > MAX_DEPTH:
        raise _TooDeep
    with os.scandir(at) as listing:
        for each in listing:
            name = f"{path}/{each.name}"
            if each.is_dir(follow_symlinks=False):
                with _descriptor(os.open(each.name, _FOLDER_FLAGS, dir_fd=at)) as below:
                    yield None
                    yield from _iterate_entries(below, name, depth + 1)
            elif is_temporary(each.name):
                yield None
            else:
                yield StoredEntry(name, each.stat(follow_symlinks=False).st_size)


def _remove_temporary_files(at: int, operation: Operation, depth: int = 0) -> None:
    if depth > MAX_DEPTH:
        raise _TooDeep
    with os.scandir(at) as listing:
        for each in listing:
            if each.is_dir(follow_symlinks=False):
                with _descriptor(os.open(each.name, _FOLDER_FLAGS, dir_fd=at)) as below:
                    _remove_temporary_files(below, operation, depth + 1)
            elif is_temporary(each.name):
                operation.check()
                _remove(at, each.name)


def _remove(at: int, name: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=at)

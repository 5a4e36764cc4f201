"""
Archives of kind ``sftp``: a folder of an SFTP server whose host keys are pinned.

A file is written to a temporary name in its own folder, made durable where the server can
(fsync@openssh.com), and renamed over its own name (posix-rename@openssh.com). A server without that rename
removes the old file first, so that for a moment there is none; half a file there never is.

One block is sent while the next is fetched; it goes out as many requests at once. Tags are in the manifest
only: SFTP has no place for them.
"""

import asyncio
import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from typing import ClassVar, TypeVar, cast
from urllib.parse import quote

import asyncssh

from counterfoil.archives.backend import MAX_ENTRIES, TEMPORARY_PREFIX, FileNotStored, StoredEntry, segments
from counterfoil.archives.backends._ssh import HostKeys, SshConnection, SshLogin
from counterfoil.archives.cleanup import clean_up, shielded
from counterfoil.archives.credentials import Credentials
from counterfoil.archives.errors import (
    ArchiveError,
    ArchiveRefused,
    ArchiveUnavailable,
    NameTaken,
    SettingsInvalid,
    VerificationFailed,
)
from counterfoil.archives.kind import ArchiveKind
from counterfoil.archives.streams import BLOCK, blocks
from counterfoil.resources.archive import ArchiveSpec, Sftp

TEMPORARY_SUFFIX = ".tmp"

STEP_TIMEOUT_SECONDS = 60.0
"""Timeout for one step, of a block or less."""

T = TypeVar("T")

PIECE = 16 * 1024
"""Bytes that every server gives for one request."""

_NOT_FOUND_ERRORS = (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath)
_FULL = re.compile(r"no space|quota|disk (is )?full", re.IGNORECASE)


async def open_sftp(name: str, spec: ArchiveSpec, credentials: Mapping[str, bytes]) -> "SftpBackend":
    """Open the archive ``name``; nothing is asked of the server yet. Raises ``SettingsInvalid``."""
    settings = spec.sftp
    if settings is None:
        raise SettingsInvalid(f"Archive/{name}: spec.sftp is missing.")
    login = SshLogin.read(name, Credentials(name, settings.credentials_secret_ref, credentials))
    connection = SshConnection(f"Archive/{name}", settings, HostKeys.read(name, settings.host_keys), login)
    return SftpBackend(name, settings, connection)


KIND = ArchiveKind("sftp", open_sftp)


class SftpBackend:
    """A folder and all below it. ``archive`` is the name that messages carry."""

    kind: ClassVar[str] = "sftp"

    def __init__(self, archive: str, settings: Sftp, connection: SshConnection) -> None:
        self._archive = f"Archive/{archive}"
        self._settings = settings
        self._connection = connection

    def location(self, name: str) -> str:
        """Return the ``sftp:`` URI of a name; ``~`` stands for the folder that the login leads to."""
        host, port, root = self._settings.host, self._settings.port, self._settings.root
        where = f"[{host}]" if ":" in host else host
        start = root if root.startswith("/") else f"/~/{'' if root == '.' else root.removeprefix('./')}"
        path = f"{start.rstrip('/')}/{'/'.join(segments(name))}"
        return f"sftp://{where}{'' if port == 22 else f':{port}'}" + quote(path, safe="/~!$&'()*+,;=:@")

    async def entries(self, folder: str) -> list[StoredEntry]:
        """Return everything below a folder; links are listed, never followed."""
        async with self._session() as sftp:
            found = [entry async for entry in self._files(sftp, folder) if not _is_temporary(entry.name)]
        return sorted(found, key=lambda entry: entry.name)

    async def put(
        self, name: str, chunks: AsyncIterable[bytes], *, tags: Mapping[str, str], content_type: str | None
    ) -> None:
        """Write beside the final name, make it durable, rename. Raises ``ArchiveError``."""
        parts = segments(name)
        temporary = [*parts[:-1], f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"]
        async with self._session() as sftp:
            await self._make_folder(sftp, parts[:-1])
        try:
            await self._write(temporary, chunks)
            async with self._session() as sftp:
                await self._publish(sftp, temporary, parts)
        except BaseException:
            await clean_up(self._remove(temporary))
            raise

    async def read(self, name: str) -> AsyncGenerator[bytes, None]:
        """Yield a file block by block. Raises ``FileNotStored``."""
        parts, at = segments(name), 0
        async with self._connection.session() as sftp:
            async with self._translate_errors():
                file, size = await self._open_for_reading(sftp, parts)
            try:
                while True:
                    # A block is many requests at once; beyond the end that is expected, one is enough.
                    wanted = min(BLOCK, max(size - at, PIECE))
                    async with self._translate_errors():
                        # Opened without an encoding, so that it gives bytes.
                        block = cast("bytes", await _step(file.read(wanted, at)))
                    if not block:
                        return
                    at += len(block)
                    yield block
            finally:
                await clean_up(_close_file(file))

    async def discard(self, name: str) -> None:
        """Remove a file; nothing happens when it is absent."""
        await self._remove(segments(name))

    async def probe(self) -> None:
        """See that the root is a folder, then write, read back and remove a small file. Raises
        ``ArchiveError``."""
        async with self._session() as sftp:
            if not await self._is_folder(sftp, []):
                raise self._root_missing()
        name = f"{TEMPORARY_PREFIX}probe-{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"
        content = secrets.token_hex(16).encode()
        try:
            await self.put(name, _single_chunk(content), tags={}, content_type=None)
            found = b"".join([block async for block in self.read(name)])
        finally:
            await clean_up(self.discard(name))
        if found != content:
            raise VerificationFailed(
                f"{self._archive}: {self._connection.server} returns other bytes than were written."
            )

    async def remove_leftovers(self, folder: str) -> None:
        """Remove our temporary files below a folder."""
        async with self._session() as sftp:
            found = [entry.name async for entry in self._files(sftp, folder) if _is_temporary(entry.name)]
        for name in found:
            await self.discard(name)

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()

    async def _open_for_reading(
        self, sftp: asyncssh.SFTPClient, parts: list[str]
    ) -> tuple[asyncssh.SFTPClientFile, int]:
        """Open a file; return it and its size. Raises ``FileNotStored``."""
        try:
            attributes = await _step(sftp.stat(self._path(parts)))
            if _is_directory(attributes):
                raise self._name_taken(parts, "is a folder")
            file = await _step(sftp.open(self._path(parts), "rb", encoding=None))
        except _NOT_FOUND_ERRORS as error:
            raise FileNotStored from error
        return file, attributes.size or 0

    async def _write(self, parts: list[str], chunks: AsyncIterable[bytes]) -> None:
        async with self._connection.session() as sftp:
            async with self._translate_errors():
                file = await _step(sftp.open(self._path(parts), "xb", encoding=None))
            writing = _OpenUpload(file)
            try:
                async with aclosing(blocks(chunks)) as joined:
                    async for block in joined:
                        async with self._translate_errors():
                            await writing.add(block)
                async with self._translate_errors():
                    await writing.finish()
            finally:
                await clean_up(writing.abandon())

    async def _publish(self, sftp: asyncssh.SFTPClient, temporary: list[str], parts: list[str]) -> None:
        if await self._is_folder(sftp, parts):
            raise self._name_taken(parts, "is a folder")
        old, new = self._path(temporary), self._path(parts)
        try:
            await _step(sftp.posix_rename(old, new))
        except asyncssh.SFTPOpUnsupported:
            with suppress(*_NOT_FOUND_ERRORS):
                await _step(sftp.remove(new))
            await _step(sftp.rename(old, new))

    async def _make_folder(self, sftp: asyncssh.SFTPClient, parts: list[str]) -> None:
        """Make a folder and what is missing above it. Another task may be faster, which is as good."""
        known = await self._is_folder(sftp, parts)
        if known is False:
            raise self._name_taken(parts, "is a file where Counterfoil needs a folder")
        if known:
            return
        if not parts:
            raise self._root_missing()
        await self._make_folder(sftp, parts[:-1])
        try:
            await _step(sftp.mkdir(self._path(parts)))
        except (asyncssh.SFTPFailure, asyncssh.SFTPFileAlreadyExists):
            if not await self._is_folder(sftp, parts):
                raise

    async def _is_folder(self, sftp: asyncssh.SFTPClient, parts: list[str]) -> bool | None:
        """Tell whether it is a folder; None when nothing is there."""
        try:
            attributes = await _step(sftp.stat(self._path(parts)))
        except _NOT_FOUND_ERRORS:
            return None
        return _is_directory(attributes)

    async def _files(self, sftp: asyncssh.SFTPClient, folder: str) -> AsyncIterator[StoredEntry]:
        """Yield what lies below a folder and is none; raises ``NameTaken`` when that is too much."""
        waiting, seen = [folder], 0
        while waiting:
            above = waiting.pop()
            async for each in self._list_folder(sftp, above):
                seen += 1
                if seen > MAX_ENTRIES:
                    raise NameTaken(
                        f"{self.location(folder)} has more than {MAX_ENTRIES} files. Move them away."
                    )
                name = f"{above}/{each.filename!s}"
                if _is_directory(each.attrs):
                    waiting.append(name)
                else:
                    yield StoredEntry(name, each.attrs.size)

    async def _list_folder(self, sftp: asyncssh.SFTPClient, folder: str) -> AsyncIterator[asyncssh.SFTPName]:
        with suppress(*_NOT_FOUND_ERRORS):
            async for each in sftp.scandir(self._path(segments(folder))):
                if each.filename not in (".", ".."):
                    yield each

    async def _remove(self, parts: list[str]) -> None:
        async with self._session() as sftp:
            with suppress(*_NOT_FOUND_ERRORS):
                await _step(sftp.remove(self._path(parts)))

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[asyncssh.SFTPClient]:
        async with self._connection.session() as sftp, self._translate_errors():
            yield sftp

    @asynccontextmanager
    async def _translate_errors(self) -> AsyncIterator[None]:
        """Turn what the server says into what an administrator can use."""
        try:
            yield
        except (asyncssh.Error, OSError, TimeoutError) as error:
            raise await self._error(error) from error

    async def _error(self, error: Exception) -> ArchiveError:
        if isinstance(error, _CONNECTION_ERRORS):
            self._connection.drop()
            return ArchiveUnavailable(
                "ArchiveUnreachable", f"{self._archive}: {self._connection.server} could not be reached."
            )
        if isinstance(error, asyncssh.SFTPFailure) and await self._is_full(error):
            error = asyncssh.SFTPNoSpaceOnFilesystem("")
        for types, kind, reason, words in _ERROR_RULES:
            if isinstance(error, types):
                text = words.format(server=self._connection.server, root=self._settings.root)
                return kind(reason, f"{self._archive}: {text}")
        code = f" (SFTP answered {error.code})" if isinstance(error, asyncssh.SFTPError) else ""
        return ArchiveUnavailable(
            "ArchiveFailing",
            f"{self._archive}: {self._connection.server} does not work{code}. Check its log.",
        )

    async def _is_full(self, error: asyncssh.SFTPFailure) -> bool:
        """Tell whether a failure, which is all that SFTP version 3 has to say about it, is for want of
        space."""
        if _FULL.search(error.reason):
            return True
        with suppress(asyncssh.Error, OSError, TimeoutError):
            async with self._connection.session() as sftp:
                return (await _step(sftp.statvfs(self._path([])))).bavail == 0
        return False

    def _path(self, parts: list[str]) -> str:
        root = self._settings.root.rstrip("/")
        return "/".join([root, *parts]) or "/"

    def _root_missing(self) -> ArchiveError:
        return ArchiveRefused(
            "ArchiveRootMissing",
            f"{self._archive}: {self._connection.server} has no folder {self._settings.root} for this login. "
            "Create it, or correct spec.sftp.root.",
        )

    def _name_taken(self, parts: list[str], what: str) -> NameTaken:
        where = self.location("/".join(parts)) if parts else self._settings.root
        return NameTaken(f"{where} {what}, and Counterfoil did not put it there. Move it away.")


_CONNECTION_ERRORS = (
    OSError,
    TimeoutError,
    asyncssh.DisconnectError,
    asyncssh.ChannelOpenError,
    asyncssh.SFTPConnectionLost,
    asyncssh.SFTPNoConnection,
    asyncssh.SFTPBadMessage,
)

_ERROR_RULES: tuple[
    tuple[type[Exception] | tuple[type[Exception], ...], type[ArchiveUnavailable | ArchiveRefused], str, str],
    ...,
] = (
    (
        (asyncssh.SFTPNoSpaceOnFilesystem, asyncssh.SFTPQuotaExceeded),
        ArchiveUnavailable,
        "ArchiveFull",
        "no space is left at {server} below {root}. Enlarge it or raise its quota; archiving continues "
        "automatically.",
    ),
    (
        asyncssh.SFTPPermissionDenied,
        ArchiveRefused,
        "ArchivePermissionDenied",
        "the login may not do everything that filing needs at {server} below {root}. Allow it to read, "
        "create, rename and delete there.",
    ),
    (
        asyncssh.SFTPWriteProtect,
        ArchiveRefused,
        "ArchiveReadOnly",
        "{server} lets nobody write below {root}. Make it writable.",
    ),
    (
        asyncssh.SFTPInvalidFilename,
        ArchiveRefused,
        "PathTooLong",
        "{server} does not take a name of the path, which may be too long. Shorten spec.path.",
    ),
    (
        asyncssh.SFTPOpUnsupported,
        ArchiveRefused,
        "ArchiveLacksFeature",
        "{server} can't do what filing needs. Use another server.",
    ),
    (
        _NOT_FOUND_ERRORS,
        ArchiveUnavailable,
        "ArchiveChanged",
        "somebody removed a folder or file at {server} while it was being filed.",
    ),
)


class _OpenUpload:
    """A file while it is written: one block is sent while the next may be fetched."""

    def __init__(self, file: "asyncssh.SFTPClientFile") -> None:
        self._file = file
        self._at = 0
        self._running: asyncio.Future[int] | None = None

    async def add(self, block: bytes) -> None:
        """Wait for the last block, then send this one."""
        await self._wait_for_write()
        self._running = asyncio.ensure_future(_with_timeout(self._file.write(block, self._at)))
        self._at += len(block)

    async def finish(self) -> None:
        """Wait until all is written, make it durable where the server can, and close."""
        await self._wait_for_write()
        with suppress(asyncssh.SFTPOpUnsupported):
            await _step(self._file.fsync())
        await _step(self._file.close())

    async def abandon(self) -> None:
        """Wait until no write is in progress, also after an error, and close."""
        if self._running is not None:
            await asyncio.wait([self._running])
            self._running.exception()
        await _close_file(self._file)

    async def _wait_for_write(self) -> None:
        if self._running is not None:
            # Shielded, since a task that is cancelled here calls ``abandon``, which waits for it.
            await asyncio.shield(self._running)
            self._running = None


async def _step(work: Awaitable[T]) -> T:
    """Do one thing, in bounded time and never cut off in its middle. Raises ``TimeoutError``."""
    return await shielded(_with_timeout(work))


async def _with_timeout(work: Awaitable[T]) -> T:
    async with asyncio.timeout(STEP_TIMEOUT_SECONDS):
        return await work


async def _close_file(file: "asyncssh.SFTPClientFile") -> None:
    with suppress(asyncssh.Error, OSError):
        await file.close()


def _is_directory(attributes: asyncssh.SFTPAttrs) -> bool:
    return attributes.type == asyncssh.FILEXFER_TYPE_DIRECTORY


def _is_temporary(name: str) -> bool:
    last = name.rpartition("/")[2]
    return last.startswith(TEMPORARY_PREFIX) and last.endswith(TEMPORARY_SUFFIX)


async def _single_chunk(content: bytes) -> AsyncGenerator[bytes, None]:
    yield content

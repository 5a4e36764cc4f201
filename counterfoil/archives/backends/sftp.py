"""
Archives of kind ``sftp``: a folder of an SFTP server whose host keys are pinned.

A file is written to a temporary name in its own folder, made durable where the server can
(fsync@openssh.com), and renamed over its own name (posix-rename@openssh.com). At a server without
that rename the old file is set aside first, and removed once the new one is verified, so that for a moment
there is none; half a file there never is.

One block is sent while the next is fetched; it goes out as many requests at once. Tags are in the manifest
only: SFTP has no place for them.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from typing import ClassVar, TypeVar, cast
from urllib.parse import quote

import asyncssh

from counterfoil.archives.backend import FileNotStored, Opener, required_settings, segments
from counterfoil.archives.backends._folder_tree import FolderEntry, FolderTreeBackend
from counterfoil.archives.backends._ssh import HostKeys, SshConnection, SshLogin
from counterfoil.archives.credentials import Credentials
from counterfoil.archives.errors import ArchiveError, ArchiveRefused, ArchiveUnavailable, ErrorText
from counterfoil.archives.streams import BLOCK, blocks, clean_up, count_sent, shielded
from counterfoil.resources.archive import ArchiveSpec, Sftp

STEP_TIMEOUT_SECONDS = 60.0
"""Timeout for one step, of a block or less."""

T = TypeVar("T")

PIECE = 16 * 1024
"""Bytes that every server gives for one request."""

_NOT_FOUND_ERRORS = (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath)
_FULL = re.compile(r"no space|quota|disk (is )?full", re.IGNORECASE)


async def open_sftp(name: str, spec: ArchiveSpec, credentials: Mapping[str, bytes]) -> "SftpBackend":
    """Open the archive ``name``; nothing is asked of the server yet. Raises ``SettingsInvalid``."""
    settings = required_settings(name, "spec.sftp", spec.sftp)
    login = SshLogin.read(name, Credentials(name, settings.credentials_secret_ref, credentials))
    connection = SshConnection(f"Archive/{name}", settings, HostKeys.read(name, settings.host_keys), login)
    return SftpBackend(name, settings, connection)


OPENER: Opener = open_sftp


class SftpBackend(FolderTreeBackend):
    """A folder and all below it. ``archive`` is the name that messages carry."""

    kind: ClassVar[str] = "sftp"

    def __init__(self, archive: str, settings: Sftp, connection: SshConnection) -> None:
        super().__init__(f"Archive/{archive}", connection.server, settings.root)
        self._settings = settings
        self._connection = connection

    def location(self, name: str) -> str:
        """Return the ``sftp:`` URI of a name; ``~`` stands for the folder that the login leads to."""
        host, port, root = self._settings.host, self._settings.port, self._settings.root
        where = f"[{host}]" if ":" in host else host
        start = root if root.startswith("/") else f"/~/{'' if root == '.' else root.removeprefix('./')}"
        path = f"{start.rstrip('/')}/{'/'.join(segments(name))}"
        return f"sftp://{where}{'' if port == 22 else f':{port}'}" + quote(path, safe="/~!$&'()*+,;=:@")

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

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()

    async def _check_root(self) -> None:
        async with self._session() as sftp:
            if not await self._is_folder(sftp, []):
                raise self._root_missing()

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

    async def _send(
        self, parts: list[str], chunks: AsyncIterable[bytes], tags: Mapping[str, str], content_type: str
    ) -> None:
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

    async def _publish(self, temporary: list[str], parts: list[str]) -> None:
        old, new = self._path(temporary), self._path(parts)
        async with self._session() as sftp:
            if await self._is_folder(sftp, parts):
                raise self._name_taken(parts, "is a folder")
            try:
                await _step(sftp.posix_rename(old, new))
            except asyncssh.SFTPOpUnsupported:
                await self._replace_by_renaming(temporary, parts)

    async def _rename(self, old: list[str], new: list[str]) -> bool:
        async with self._session() as sftp:
            try:
                await _step(sftp.rename(self._path(old), self._path(new)))
            except _NOT_FOUND_ERRORS:
                return False
        return True

    async def _make_folder(self, parts: list[str]) -> None:
        async with self._session() as sftp:
            known = await self._is_folder(sftp, parts)
            if known is False:
                raise self._name_taken(parts, "is a file where Counterfoil needs a folder")
            if known:
                return
            if not parts:
                raise self._root_missing()
            await self._make_folder(parts[:-1])
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

    async def _children(self, parts: list[str]) -> AsyncGenerator[FolderEntry, None]:
        # Checked, since the names come from the server.
        path = self._path(segments("/".join(parts)))
        async with self._session() as sftp:
            with suppress(*_NOT_FOUND_ERRORS):
                async for each in sftp.scandir(path):
                    if each.filename not in (".", ".."):
                        yield FolderEntry(f"{each.filename!s}", _is_directory(each.attrs), each.attrs.size)

    async def _delete(self, parts: list[str]) -> None:
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
                "ArchiveUnreachable", f"{self._archive}: {self._server} could not be reached."
            )
        if isinstance(error, asyncssh.SFTPFailure) and await self._is_full(error):
            error = asyncssh.SFTPNoSpaceOnFilesystem("")
        for types, text in _ERROR_RULES.items():
            if isinstance(error, types):
                return text.error(self._archive, server=self._server, root=self._root)
        code = f" (SFTP answered {error.code})" if isinstance(error, asyncssh.SFTPError) else ""
        return ArchiveUnavailable(
            "ArchiveFailing",
            f"{self._archive}: {self._server} does not work{code}. Check its log.",
        )

    async def _is_full(self, error: asyncssh.SFTPFailure) -> bool:
        """Tell whether a failure, which is all that SFTP version 3 has to say about it, is for want of
        space."""
        if _FULL.search(error.reason):
            return True
        # ValueError: a reply that is cut.
        with suppress(asyncssh.Error, OSError, TimeoutError, ValueError):
            async with self._connection.session() as sftp:
                return (await _step(sftp.statvfs(self._path([])))).bavail == 0
        return False

    def _path(self, parts: list[str]) -> str:
        root = self._settings.root.rstrip("/")
        return "/".join([root, *parts]) or "/"

    def _root_missing(self) -> ArchiveError:
        return ArchiveRefused(
            "ArchiveRootMissing",
            f"{self._archive}: {self._server} has no folder {self._settings.root} for this login. Mount or "
            "restore it, or correct spec.sftp.root. Create it only for a new archive.",
        )


_CONNECTION_ERRORS = (
    OSError,
    TimeoutError,
    asyncssh.DisconnectError,
    asyncssh.ChannelOpenError,
    asyncssh.SFTPConnectionLost,
    asyncssh.SFTPNoConnection,
    asyncssh.SFTPBadMessage,
)

_ERROR_RULES: Mapping[tuple[type[Exception], ...], ErrorText] = {
    (asyncssh.SFTPNoSpaceOnFilesystem, asyncssh.SFTPQuotaExceeded): ErrorText(
        "ArchiveFull",
        "no space is left at {server} below {root}. Enlarge it or raise its quota; waiting events continue "
        "automatically.",
    ),
    (asyncssh.SFTPPermissionDenied,): ErrorText(
        "ArchivePermissionDenied",
        "the login may not do everything that filing needs at {server} below {root}. Allow it to read, "
        "create, rename and delete there.",
    ),
    (asyncssh.SFTPWriteProtect,): ErrorText(
        "ArchiveReadOnly", "{server} lets nobody write below {root}. Make it writable."
    ),
    (asyncssh.SFTPInvalidFilename,): ErrorText(
        "PathTooLong", "{server} does not take a name of the path, which may be too long. Shorten spec.path."
    ),
    (asyncssh.SFTPOpUnsupported,): ErrorText(
        "ArchiveLacksFeature", "{server} can't do what filing needs. Use another server."
    ),
    _NOT_FOUND_ERRORS: ErrorText(
        "ArchiveChanged", "somebody removed a folder or file at {server} while it was being filed."
    ),
}


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
            count_sent(await asyncio.shield(self._running))
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

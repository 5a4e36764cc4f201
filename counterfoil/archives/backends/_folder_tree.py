"""
Shared by the kinds that store files in folders at a server; each kind adds the steps of its protocol.

A file is sent to a temporary name in its own folder and then renamed, so that a name has all of a file or
none of it. A killed run leaves temporary files only; ``remove_leftovers`` of the next run removes them. Where
renaming replaces nothing, the old file is set aside under a temporary name until the new one is verified.
"""

import hashlib
import re
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Final

from counterfoil.archives.backend import (
    MAX_ENTRIES,
    MAX_LISTED_NAME,
    TEMPORARY_PREFIX,
    ArchiveBackend,
    StoredEntry,
    is_temporary,
    segments,
    temporary_name,
)
from counterfoil.archives.errors import MOVE_AWAY, ArchiveError, ArchiveRefused, ArchiveUnavailable, NameTaken
from counterfoil.archives.names import MANIFEST_NAME
from counterfoil.archives.readback import ReadingList, probe_with_file, reading_list
from counterfoil.archives.streams import clean_up, single_chunk

_REPLACED = "replaced-"

_NAMELESS: Final = re.compile(re.escape(f"{TEMPORARY_PREFIX}{_REPLACED}") + r"[0-9a-f]{16}\.tmp")
"""Names of files that an earlier version set aside: nothing in them identifies the replaced file."""


@dataclass(frozen=True)
class FolderEntry:
    """A file or folder in a listing; ``size`` in bytes, if the server reports it."""

    name: str
    is_folder: bool
    size: int | None


class FolderTreeBackend(ArchiveBackend):
    """
    A folder at a server, and everything below it. A path is a list of segments, empty for the root.

    ``archive`` (as in ``Archive/dms``), ``server`` and ``root`` are parts of messages.
    """

    lists_files = True

    def __init__(self, archive: str, server: str, root: str) -> None:
        self._archive = archive
        self._server = server
        self._root = root
        self._set_aside: set[str] = set()
        """Temporary names of replaced files. Those that are missing here stay in the archive."""

    @abstractmethod
    async def _check_root(self) -> None:
        """Check that the root is a folder. Raises ``ArchiveError``."""

    @abstractmethod
    async def _make_folder(self, parts: list[str]) -> None:
        """Make a folder and all missing ones above it. Another task may be faster, which is as good."""

    @abstractmethod
    async def _send(
        self, parts: list[str], chunks: AsyncIterable[bytes], tags: Mapping[str, str], content_type: str
    ) -> None:
        """Write a new file. Raises ``ArchiveError``, and all errors of ``chunks``."""

    @abstractmethod
    async def _publish(self, temporary: list[str], parts: list[str]) -> None:
        """Rename a file, also over an existing file, never over a folder."""

    async def _rename(self, old: list[str], new: list[str]) -> bool:
        """
        Rename a file to a name that is free; return False if there is no such file.

        Only for a protocol whose renaming replaces nothing. Raises ``ArchiveError``, also for a name that is
        taken.
        """
        raise NotImplementedError

    @abstractmethod
    async def _delete(self, parts: list[str]) -> None:
        """Remove a file; nothing happens when it is absent."""

    @abstractmethod
    def _children(self, parts: list[str]) -> AsyncGenerator[FolderEntry, None]:
        """
        Yield the files and folders in a folder, links included; none when it is absent.

        An entry is yielded as it is read, so that the whole answer is never in memory. An error after it says
        that the list is not whole.
        """

    async def entries(self, folder: str) -> list[StoredEntry]:
        """Return all files below a folder. Raises ``NameTaken`` for too many."""
        async with reading_list(self, folder) as bounds:
            files = self._files(folder, bounds)
            found = [entry async for entry in files if not is_temporary(entry.name)]
        return sorted(found, key=lambda entry: entry.name)

    async def put(
        self, name: str, chunks: AsyncIterable[bytes], *, tags: Mapping[str, str], content_type: str | None
    ) -> None:
        """Send to a temporary name, then rename. Raises ``ArchiveError``."""
        parts = segments(name)
        temporary = [*parts[:-1], temporary_name()]
        await self._make_folder(parts[:-1])
        try:
            await self._send(temporary, chunks, tags, content_type or "application/octet-stream")
            await self._publish(temporary, parts)
        except BaseException:
            await clean_up(self._delete(temporary))
            raise

    async def _replace_by_renaming(self, temporary: list[str], parts: list[str]) -> None:
        """
        Give a new file its name where renaming replaces nothing.

        The old file is set aside until the new one is verified (``retain``), so a run that is killed here
        destroys no file. For a moment there is none under the name.
        """
        aside = [*parts[:-1], temporary_name(f"{_aside_prefix(parts)}-")]
        is_set_aside = await self._rename(parts, aside)
        try:
            await self._rename_existing(temporary, parts)
        except BaseException:
            if is_set_aside:
                await clean_up(self._put_back(aside, parts))
            raise
        if is_set_aside:
            self._remember_aside("/".join(aside))

    def _remember_aside(self, name: str) -> None:
        if len(self._set_aside) >= MAX_ENTRIES:
            self._set_aside.clear()
        self._set_aside.add(name)

    async def retain(self, name: str) -> None:
        """
        Remove the files that this one replaced, now that it is verified.

        What an earlier version set aside without its name goes with the manifest, which is verified last:
        then each file of the folder is.
        """
        if not self._set_aside:
            return
        parts = segments(name)
        above, start = "/".join([*parts[:-1], ""]), f"{TEMPORARY_PREFIX}{_aside_prefix(parts)}-"
        is_last = parts[-1] == MANIFEST_NAME
        for aside in [each for each in self._set_aside if each.startswith(above)]:
            if aside.startswith(f"{above}{start}") or (is_last and _NAMELESS.fullmatch(_last(aside))):
                await self.discard(aside)
                self._set_aside.discard(aside)

    async def _rename_existing(self, old: list[str], new: list[str]) -> None:
        if not await self._rename(old, new):
            raise self._changed()

    def _changed(self) -> ArchiveError:
        return ArchiveUnavailable(
            "ArchiveChanged",
            f"{self._archive}: somebody changed or removed something at {self._server} while it was being "
            "filed.",
        )

    async def _put_back(self, aside: list[str], parts: list[str]) -> None:
        # Another writer may have taken the name meanwhile: then its file stays there.
        with suppress(ArchiveError):
            await self._rename(aside, parts)

    async def discard(self, name: str) -> None:
        """Remove a file; nothing happens when it is absent."""
        await self._delete(segments(name))

    async def probe(self) -> None:
        """Check the root, then write, read back and remove a small file. Raises ``ArchiveError``."""
        await self._check_root()
        name = temporary_name("probe-")
        try:
            await probe_with_file(self, name, self._archive, self._server)
            await self._probe_taken_name(segments(name))
        finally:
            await clean_up(self.discard(name))

    async def _probe_taken_name(self, taken: list[str]) -> None:
        """Check what the protocol needs of a file whose name is ``taken``. Raises ``ArchiveError``."""

    async def _refuses_to_rename(
        self, taken: list[str], rename: Callable[[list[str]], Awaitable[bool]]
    ) -> bool:
        """Whether ``rename`` of a second file to the name that is ``taken`` returns False. It is removed."""
        second = [*taken[:-1], temporary_name("probe-")]
        try:
            await self._send(second, single_chunk(b"second"), {}, "text/plain")
            is_renamed = await rename(second)
        finally:
            await clean_up(self._delete(second))
        if is_renamed:
            await self._delete(taken)
        return not is_renamed

    async def remove_leftovers(self, folder: str) -> None:
        """Remove our temporary files below a folder, but no replaced file: the new one is not verified."""
        async with reading_list(self, folder) as bounds:
            files = self._files(folder, bounds)
            found = [entry.name async for entry in files if is_temporary(entry.name)]
        for name in found:
            if _last(name).startswith(f"{TEMPORARY_PREFIX}{_REPLACED}"):
                self._remember_aside(name)
            else:
                await self.discard(name)

    async def _files(self, folder: str, bounds: ReadingList) -> AsyncIterator[StoredEntry]:
        waiting = [folder]
        while waiting:
            above = waiting.pop()
            async with aclosing(self._children(segments(above))) as children:
                async for each in children:
                    if not _is_name(each.name):
                        raise self._unreadable_list()
                    name = f"{above}/{each.name}"
                    bounds.add(name)
                    await bounds.wait_for_memory()
                    if each.is_folder:
                        waiting.append(name)
                    else:
                        yield StoredEntry(name, each.size)

    def _unreadable_list(self) -> ArchiveError:
        return ArchiveRefused(
            "ArchiveAnswerUnreadable",
            f"{self._archive}: {self._server} lists files under names that no file can have.",
        )

    def _lacks_feature(self, what: str) -> ArchiveError:
        return ArchiveRefused("ArchiveLacksFeature", f"{self._archive}: {self._server} {what}.")

    def _name_taken(self, parts: list[str], what: str) -> NameTaken:
        where = self.location("/".join(parts)) if parts else self._root
        return NameTaken(f"{where} {what}, and Counterfoil did not put it there. {MOVE_AWAY}")


def _is_name(name: str) -> bool:
    """Whether a file or folder can have a name."""
    return (
        name not in ("", ".", "..") and "/" not in name and "\0" not in name and len(name) <= MAX_LISTED_NAME
    )


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _aside_prefix(parts: list[str]) -> str:
    """Return the purpose of the temporary name of a file that is replaced: which name it had."""
    return f"{_REPLACED}{hashlib.sha256(parts[-1].encode()).hexdigest()[:16]}"

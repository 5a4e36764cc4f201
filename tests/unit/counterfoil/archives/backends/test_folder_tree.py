"""
Steps that the archives with folders at a server share, with a tree in memory.
"""

from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from contextlib import suppress
from hashlib import sha256

import pytest

from counterfoil.archives.backend import MAX_ENTRIES, FileNotStored, is_temporary
from counterfoil.archives.backends._folder_tree import FolderEntry, FolderTreeBackend
from counterfoil.archives.errors import ArchiveRefused, ArchiveUnavailable, NameTaken, VerificationFailed
from counterfoil.archives.filing import conclude, store
from counterfoil.resources import FiledDocument
from tests.support.builders import NOON
from tests.support.fakes.archives import a_layout, a_source, an_envelope, once


class MemoryTree(FolderTreeBackend):
    """Files by path. ``steps`` are the calls so far; the step ``broken`` fails."""

    kind = "tree"

    def __init__(self, *, broken: str = "") -> None:
        super().__init__("Archive/dms", "the server", "/srv")
        self.files: dict[str, bytes] = {}
        self.steps: list[str] = []
        self.broken = broken

    def location(self, name: str) -> str:
        return f"tree:/{name}"

    async def read(self, name: str) -> AsyncGenerator[bytes, None]:
        if name not in self.files:
            raise FileNotStored
        yield b"other" if self.broken == "read" else self.files[name]

    async def close(self) -> None:
        self._step("close")

    async def _check_root(self) -> None:
        self._step("check_root")

    async def _make_folder(self, parts: list[str]) -> None:
        self._step("make_folder")

    async def _send(
        self, parts: list[str], chunks: AsyncIterable[bytes], tags: Mapping[str, str], content_type: str
    ) -> None:
        self.files["/".join(parts)] = b"".join([chunk async for chunk in chunks])
        self._step("send")

    async def _publish(self, temporary: list[str], parts: list[str]) -> None:
        self._step("publish")
        self.files["/".join(parts)] = self.files.pop("/".join(temporary))

    async def _delete(self, parts: list[str]) -> None:
        self.files.pop("/".join(parts), None)
        self._step("delete")

    async def _children(self, parts: list[str]) -> AsyncGenerator[FolderEntry, None]:
        above = "".join(f"{part}/" for part in parts)
        below = [name.removeprefix(above) for name in self.files if name.startswith(above)]
        for folder in sorted({name.partition("/")[0] for name in below if "/" in name}):
            yield FolderEntry(folder, is_folder=True, size=None)
        for name in below:
            if "/" not in name:
                yield FolderEntry(name, is_folder=False, size=len(self.files[above + name]))

    def _step(self, name: str) -> None:
        self.steps.append(name)
        if name == self.broken:
            raise ArchiveUnavailable("ArchiveFailing", "Archive/dms: the server does not work.")


class RenamingTree(MemoryTree):
    """Its renaming replaces nothing. After ``last`` steps the process is killed, and nothing more happens."""

    def __init__(
        self, files: dict[str, bytes] | None = None, *, last: int | None = None, spoil: bool = False
    ) -> None:
        super().__init__()
        self.files = {} if files is None else files
        self.spoil = spoil
        self._left = last

    async def _send(
        self, parts: list[str], chunks: AsyncIterable[bytes], tags: Mapping[str, str], content_type: str
    ) -> None:
        self._step("send")
        data = b"".join([chunk async for chunk in chunks])
        self.files["/".join(parts)] = data[::-1] if self.spoil else data

    async def _publish(self, temporary: list[str], parts: list[str]) -> None:
        await self._replace_by_renaming(temporary, parts)

    async def _rename(self, old: list[str], new: list[str]) -> bool:
        self._step("rename")
        if "/".join(new) in self.files:
            raise ArchiveUnavailable("ArchiveFailing", "Archive/dms: the name is taken.")
        content = self.files.pop("/".join(old), None)
        if content is not None:
            self.files["/".join(new)] = content
        return content is not None

    async def _delete(self, parts: list[str]) -> None:
        self._step("delete")
        self.files.pop("/".join(parts), None)

    def _step(self, name: str) -> None:
        super()._step(name)
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise Killed


class Killed(BaseException):
    """The process was killed."""


OLD, NEW = b"old", b"new"
FILE = a_layout().files[0]


@pytest.mark.parametrize("last", [0, 1, 2, 3, 4])
async def test_a_run_that_is_killed_while_it_replaces_a_file_loses_no_content(last: int) -> None:
    files = {FILE.name: OLD}
    with suppress(Killed):
        await store(RenamingTree(files, last=last), FILE, a_source(NEW), tags={})

    backend = RenamingTree(files)
    await backend.remove_leftovers("acme")

    # The one that has the name may have been stored wrong.
    assert OLD in files.values()
    assert not [name for name, data in files.items() if is_temporary(name) and data == NEW]
    await store(backend, FILE, a_source(NEW), tags={})
    assert files == {FILE.name: NEW}


async def test_a_replaced_file_is_kept_until_the_new_one_is_verified() -> None:
    files = {FILE.name: OLD}
    with pytest.raises(VerificationFailed):
        await store(RenamingTree(files, spoil=True), FILE, a_source(NEW), tags={})

    assert OLD in files.values()
    backend = RenamingTree(files)
    await backend.remove_leftovers("acme")
    await store(backend, FILE, a_source(NEW), tags={})
    assert files == {FILE.name: NEW}


async def test_a_replaced_file_is_removed_when_the_new_one_is_verified() -> None:
    files = {FILE.name: OLD}
    await store(RenamingTree(files), FILE, a_source(NEW), tags={})

    assert files == {FILE.name: NEW}


@pytest.mark.parametrize("is_archived", [False, True])
async def test_a_file_that_an_earlier_version_set_aside_is_removed_when_the_manifest_is_verified(
    *, is_archived: bool
) -> None:
    """Its name does not contain which file it was."""
    layout = a_layout()
    aside = f"{layout.folder}/.counterfoil-replaced-0123456789abcdef.tmp"
    files = {aside: OLD}
    backend = RenamingTree(files)
    if is_archived:
        files[FILE.name] = NEW
    await backend.remove_leftovers(layout.folder)
    await store(backend, FILE, a_source(NEW), tags={})
    assert files[aside] == OLD, "another file of the folder may not be verified yet"
    size, digest = len(NEW), sha256(NEW).hexdigest()
    document = FiledDocument(
        file_id=FILE.facts.file_id,
        kind=FILE.facts.kind,
        file_name=FILE.facts.file_name,
        size=size,
        sha256=digest,
        location=backend.location(FILE.name),
    )
    await conclude(backend, layout, an_envelope(), [document], archived_at=NOON, extra={}, signer=None)
    assert aside not in files
    assert layout.manifest_name in files
    assert files[FILE.name] == NEW


async def put(backend: FolderTreeBackend) -> None:
    await backend.put("a/b.pdf", once(b"new"), tags={}, content_type=None)


async def test_a_file_has_its_name_after_all_of_it_was_sent() -> None:
    backend = MemoryTree()
    await put(backend)

    assert backend.files == {"a/b.pdf": b"new"}
    assert backend.steps == ["make_folder", "send", "publish"]


@pytest.mark.parametrize("step", ["send", "publish"])
async def test_a_step_that_fails_leaves_the_old_file_and_no_temporary_one(step: str) -> None:
    backend = MemoryTree(broken=step)
    backend.files["a/b.pdf"] = b"old"
    with pytest.raises(ArchiveUnavailable):
        await put(backend)

    assert backend.files == {"a/b.pdf": b"old"}


async def test_entries_are_the_files_of_all_folders_in_order_without_temporary_ones() -> None:
    backend = MemoryTree()
    backend.files = dict.fromkeys(("a/z.pdf", "a/b/c.pdf", "a/.counterfoil-1.tmp", "x/y.pdf"), b"x")

    assert [entry.name for entry in await backend.entries("a")] == ["a/b/c.pdf", "a/z.pdf"]


async def test_a_folder_with_too_many_files_is_refused() -> None:
    backend = MemoryTree()
    backend.files = dict.fromkeys((f"a/{number}.pdf" for number in range(MAX_ENTRIES + 1)), b"x")

    with pytest.raises(NameTaken, match=r"^tree:/a has more than 10000 files\."):
        await backend.entries("a")


class ListingTree(MemoryTree):
    """Lists one entry in each folder."""

    def __init__(self, entry: FolderEntry) -> None:
        super().__init__()
        self.entry = entry

    async def _children(self, parts: list[str]) -> AsyncGenerator[FolderEntry, None]:
        yield self.entry


@pytest.mark.parametrize("name", ["", ".", "..", "x/y", "../.counterfoil-1.tmp", "\0", "/.counterfoil-1.tmp"])
@pytest.mark.parametrize("is_folder", [True, False])
@pytest.mark.parametrize("operation", ["entries", "remove_leftovers"])
async def test_a_list_with_a_name_that_no_file_can_have_is_refused(
    name: str, is_folder: bool, operation: str
) -> None:
    backend = ListingTree(FolderEntry(name, is_folder, 1))

    with pytest.raises(ArchiveRefused) as trouble:
        await getattr(backend, operation)("a")

    assert trouble.value.reason == "ArchiveAnswerUnreadable"
    assert "delete" not in backend.steps


async def test_leftovers_are_removed_and_no_other_file() -> None:
    backend = MemoryTree()
    backend.files = dict.fromkeys(
        ("a/b.pdf", "a/b/.counterfoil-1.tmp", "a/theirs.tmp", "x/.counterfoil-2.tmp"), b"x"
    )
    await backend.remove_leftovers("a")

    assert list(backend.files) == ["a/b.pdf", "a/theirs.tmp", "x/.counterfoil-2.tmp"]


async def test_a_probe_that_reads_other_bytes_fails_and_leaves_nothing() -> None:
    backend = MemoryTree(broken="read")
    with pytest.raises(VerificationFailed, match="the server returns other bytes than were written"):
        await backend.probe()

    assert backend.files == {}

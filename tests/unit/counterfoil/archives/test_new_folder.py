"""Reads of a run in an archive, in a folder that was empty and elsewhere."""

import pytest

from counterfoil.archives.backend import ArchiveBackend, FileNotStored, NewFolderBackend, StoredEntry
from counterfoil.archives.errors import ArchiveUnavailable
from counterfoil.archives.streams import single_chunk
from tests.support.fakes.reconcile_context import FakeBackend


class UnlistedBackend(FakeBackend):
    """An archive that can't list its files, as one behind plain HTTP."""

    lists_files = False

    async def entries(self, folder: str) -> list[StoredEntry]:
        return []


async def put(backend: ArchiveBackend, name: str) -> None:
    await backend.put(name, single_chunk(b"x"), tags={}, content_type=None)


async def content_of(backend: ArchiveBackend, name: str) -> bytes:
    return b"".join([chunk async for chunk in backend.read(name)])


async def test_a_file_in_a_folder_that_was_empty_is_absent_without_a_request() -> None:
    archive = FakeBackend()
    run = NewFolderBackend(archive)
    assert await run.entries("a/b") == []
    with pytest.raises(FileNotStored):
        await content_of(run, "a/b/1.pdf")
    assert archive.reads == 0


async def test_a_file_that_this_run_sent_is_read() -> None:
    archive = FakeBackend()
    run = NewFolderBackend(archive)
    await run.entries("a")
    await put(run, "a/1.pdf")
    assert await content_of(run, "a/1.pdf") == b"x"
    assert archive.reads == 1


async def test_a_file_whose_upload_failed_is_asked_for() -> None:
    """The answer to a complete upload can be lost."""
    archive = FakeBackend()
    run = NewFolderBackend(archive)
    await run.entries("a")
    archive.problems["put"] = ArchiveUnavailable("ArchiveFailing", "no answer")
    with pytest.raises(ArchiveUnavailable):
        await put(run, "a/1.pdf")
    archive.stored["a/1.pdf"] = b"arrived"
    assert await content_of(run, "a/1.pdf") == b"arrived"


@pytest.mark.parametrize("name", ["ab/1.pdf", "b/1.pdf"])
async def test_a_file_elsewhere_is_asked_for(name: str) -> None:
    archive = FakeBackend()
    run = NewFolderBackend(archive)
    await run.entries("a")
    archive.stored[name] = b"there"
    assert await content_of(run, name) == b"there"


async def test_a_folder_with_a_file_says_nothing_about_others() -> None:
    """A name can differ from the listed one in its letter case alone."""
    archive = FakeBackend()
    archive.stored["a/Contract.pdf"] = b"there"
    run = NewFolderBackend(archive)
    await run.entries("a")
    with pytest.raises(FileNotStored):
        await content_of(run, "a/contract.pdf")
    assert archive.reads == 1


async def test_an_archive_that_can_not_list_is_asked_for_each_file() -> None:
    archive = UnlistedBackend()
    archive.stored["a/1.pdf"] = b"there"
    run = NewFolderBackend(archive)
    assert await run.entries("a") == []
    assert await content_of(run, "a/1.pdf") == b"there"


async def test_the_next_run_asks_again() -> None:
    archive = FakeBackend()
    await NewFolderBackend(archive).entries("a")
    archive.stored["a/1.pdf"] = b"of another run"
    assert await content_of(NewFolderBackend(archive), "a/1.pdf") == b"of another run"


async def test_a_folder_is_not_taken_for_empty_after_an_upload() -> None:
    """Some archives list a new file late."""
    archive = FakeBackend()
    run = NewFolderBackend(archive)
    await put(run, "a/1.pdf")
    archive.stored.clear()
    await run.entries("a")
    archive.stored["a/2.pdf"] = b"late"
    assert await content_of(run, "a/2.pdf") == b"late"

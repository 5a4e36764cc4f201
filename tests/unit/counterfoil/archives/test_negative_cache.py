"""Reads of a run in an archive: of files that were absent, and of all others."""

import pytest

from counterfoil.archives.backend import (
    ArchiveBackend,
    FileNotStored,
    ForwardingBackend,
    NegativeCacheBackend,
    server_of,
)
from counterfoil.archives.errors import ArchiveUnavailable
from counterfoil.archives.readback import is_stored
from counterfoil.archives.streams import single_chunk
from tests.support.fakes.archives import MemoryBackend


async def put(backend: ArchiveBackend, name: str) -> None:
    await backend.put(name, single_chunk(b"x"), tags={}, content_type=None)


async def content_of(backend: ArchiveBackend, name: str) -> bytes:
    return b"".join([chunk async for chunk in backend.read(name)])


async def a_run_that_found_nothing(archive: MemoryBackend, name: str = "a/1.pdf") -> NegativeCacheBackend:
    run = NegativeCacheBackend(archive)
    assert not await is_stored(run, name)
    return run


async def test_a_file_that_was_absent_is_absent_without_a_second_request() -> None:
    archive = MemoryBackend()
    run = await a_run_that_found_nothing(archive)
    with pytest.raises(FileNotStored):
        await content_of(run, "a/1.pdf")
    assert archive.reads == 1


async def test_a_file_that_this_run_sent_is_read() -> None:
    archive = MemoryBackend()
    run = await a_run_that_found_nothing(archive)
    await put(run, "a/1.pdf")
    assert await content_of(run, "a/1.pdf") == b"x"
    assert archive.reads == 2


async def test_a_file_whose_upload_failed_is_asked_for() -> None:
    """The answer to a complete upload can be lost."""
    archive = MemoryBackend()
    run = await a_run_that_found_nothing(archive)
    archive.problems["put"] = ArchiveUnavailable("ArchiveFailing", "no answer")
    with pytest.raises(ArchiveUnavailable):
        await put(run, "a/1.pdf")
    archive.files["a/1.pdf"] = b"arrived"
    assert await content_of(run, "a/1.pdf") == b"arrived"


async def test_a_sent_file_that_can_not_be_read_yet_is_asked_for_again() -> None:
    """Some archives show a new file late."""
    archive = MemoryBackend()
    run = NegativeCacheBackend(archive)
    await put(run, "a/1.pdf")
    late = archive.files.pop("a/1.pdf")
    assert not await is_stored(run, "a/1.pdf")
    archive.files["a/1.pdf"] = late
    assert await content_of(run, "a/1.pdf") == b"x"


@pytest.mark.parametrize("name", ["a/2.pdf", "a/1.PDF", "b/1.pdf"])
async def test_another_file_is_asked_for(name: str) -> None:
    archive = MemoryBackend()
    run = await a_run_that_found_nothing(archive)
    archive.files[name] = b"there"
    assert await content_of(run, name) == b"there"


async def test_an_empty_list_says_nothing_about_a_file() -> None:
    """The list can be cut."""
    archive = MemoryBackend()
    run = NegativeCacheBackend(archive)
    assert await run.entries("a") == []
    archive.files["a/1.pdf"] = b"there"
    assert await content_of(run, "a/1.pdf") == b"there"


async def test_the_next_run_asks_again() -> None:
    archive = MemoryBackend()
    await a_run_that_found_nothing(archive)
    archive.files["a/1.pdf"] = b"of another run"
    assert await content_of(NegativeCacheBackend(archive), "a/1.pdf") == b"of another run"


async def test_the_server_of_an_archive_is_determined_once_however_many_layers_it_has() -> None:
    class Counting(MemoryBackend):
        calls = 0

        def location(self, name: str) -> str:
            self.calls += 1
            return super().location(name)

    archive = Counting()
    layered: ArchiveBackend = archive
    for _ in range(6):
        layered = ForwardingBackend(layered)
    assert server_of(layered) == server_of(NegativeCacheBackend(layered)) == server_of(archive)
    # The last one asked without a layer.
    assert archive.calls == 2

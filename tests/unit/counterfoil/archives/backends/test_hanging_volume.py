"""
A volume that hangs: it costs its own archive, and neither another one nor hashing nor the end of the process.

``os.fsync`` and ``os.unlink`` of this process stand for the kernel that does not answer.
"""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from counterfoil.archives import open_backend
from counterfoil.archives.backends._volume_threads import VolumeThreads
from counterfoil.archives.backends.filesystem import FilesystemBackend
from counterfoil.archives.errors import ArchiveUnavailable
from counterfoil.archives.readback import hash_stream
from tests.support.fakes.archives import a_spec, content, once, open_descriptors


class Kernel:
    """The volume in the folder ``hung``, whose ``fsync`` comes back after ``answer``."""

    def __init__(self, hung: Path) -> None:
        self.hung = hung
        self.called = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._answers = threading.Event()

    def wait(self, descriptor: int) -> None:
        """Hang if the descriptor is of that volume."""
        if Path(f"/proc/self/fd/{descriptor}").resolve().is_relative_to(self.hung):
            self._loop.call_soon_threadsafe(self.called.set)
            self._answers.wait(60)

    def answer(self) -> None:
        """Let all calls come back, also later ones."""
        self._answers.set()


@pytest.fixture
async def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kernel]:
    hung = tmp_path / "hung"
    hung.mkdir()
    kernel, fsync = Kernel(hung), os.fsync

    def hanging_fsync(descriptor: int) -> None:
        kernel.wait(descriptor)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", hanging_fsync)
    yield kernel
    kernel.answer()


async def test_a_volume_that_hangs_stops_neither_hashing_nor_another_volume(
    kernel: Kernel, tmp_path: Path
) -> None:
    (tmp_path / "healthy").mkdir()
    hung = await open_backend("hung", a_spec(root=str(tmp_path / "hung")), {})
    healthy = await open_backend("healthy", a_spec(root=str(tmp_path / "healthy")), {})
    filings = [
        asyncio.create_task(hung.put(f"{number}.pdf", once(b"x"), tags={}, content_type=None))
        for number in range(40)
    ]
    await kernel.called.wait()
    work = asyncio.gather(
        healthy.put("a.pdf", once(content(3_000_000)), tags={}, content_type=None),
        hash_stream(once(content(3_000_000))),
    )
    ended, _ = await asyncio.wait([work], timeout=5)
    kernel.answer()
    await asyncio.gather(work, *filings)
    assert ended


async def put(backend: FilesystemBackend, name: str, data: bytes = b"content") -> None:
    await backend.put(name, once(data), tags={}, content_type=None)


async def closed(threads: VolumeThreads) -> None:
    """Wait until no thread has a call any more."""
    await asyncio.to_thread(threads.executor.shutdown)


async def test_a_call_that_does_not_come_back_is_an_error_of_its_archive(kernel: Kernel) -> None:
    backend = FilesystemBackend("hung", kernel.hung, VolumeThreads(seconds=0.05))
    with pytest.raises(ArchiveUnavailable, match=r"the volume at .*hung does not answer") as trouble:
        await backend.discard("a.pdf")
    assert trouble.value.reason == "ArchiveUnresponsive"


async def test_when_every_thread_hangs_the_next_call_is_refused_at_once(kernel: Kernel) -> None:
    threads = VolumeThreads(count=2, seconds=0.05)
    backend = FilesystemBackend("hung", kernel.hung, threads)
    for _ in range(2):
        with pytest.raises(ArchiveUnavailable):
            await backend.discard("a.pdf")
    assert threads.hanging == 2
    with pytest.raises(ArchiveUnavailable):
        await put(backend, "a.pdf")
    assert list(kernel.hung.iterdir()) == []


async def test_a_thread_whose_call_came_back_works_again(kernel: Kernel) -> None:
    threads = VolumeThreads(count=1, seconds=1)
    backend = FilesystemBackend("hung", kernel.hung, threads)
    with pytest.raises(ArchiveUnavailable):
        await backend.discard("a.pdf")
    kernel.answer()
    await asyncio.to_thread(threads.executor.submit(int).result, 10)
    await put(backend, "a.pdf")
    assert (kernel.hung / "a.pdf").read_bytes() == b"content"


async def test_a_file_that_was_given_up_never_replaces_what_was_filed_since(kernel: Kernel) -> None:
    threads, before = VolumeThreads(seconds=0.05), open_descriptors()
    with pytest.raises(ArchiveUnavailable):
        await put(FilesystemBackend("hung", kernel.hung, threads), "a.pdf", b"old")
    (kernel.hung / "a.pdf").write_bytes(b"filed since")
    kernel.answer()
    await closed(threads)

    assert [path.name for path in kernel.hung.iterdir()] == ["a.pdf"]
    assert (kernel.hung / "a.pdf").read_bytes() == b"filed since"
    assert open_descriptors() == before


async def test_the_end_of_the_backend_does_not_wait_for_a_hung_call(kernel: Kernel) -> None:
    backend = FilesystemBackend("hung", kernel.hung, VolumeThreads(seconds=0.05))
    with pytest.raises(ArchiveUnavailable):
        await backend.discard("a.pdf")
    async with asyncio.timeout(5):
        await backend.close()

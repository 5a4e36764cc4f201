"""
A volume that hangs: it costs its own archive, and neither another one nor hashing nor the end of the process.

``os.fsync`` and ``os.unlink`` of this process stand for the kernel that does not answer.
"""

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from counterfoil.archives import open_backend
from counterfoil.archives.readback import hash_stream
from tests.support.fakes.archives import a_spec, content, once


class Kernel:
    """The calls on the volume below ``hung``; they come back after ``answer``."""

    def __init__(self, hung: Path) -> None:
        self._hung = hung
        self._answers = threading.Event()
        self._calls = threading.Semaphore(0)

    def wait(self, descriptor: int) -> None:
        """Hang if the descriptor is of that volume."""
        if Path(f"/proc/self/fd/{descriptor}").resolve().is_relative_to(self._hung):
            self._calls.release()
            self._answers.wait(60)

    async def called(self) -> None:
        """Return once a call hangs."""
        while not self._calls.acquire(blocking=False):
            await asyncio.sleep(0.005)

    def answer(self) -> None:
        """Let all calls come back, also later ones."""
        self._answers.set()


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    hung = tmp_path / "hung"
    hung.mkdir()
    kernel, fsync = Kernel(hung), os.fsync

    def hanging_fsync(descriptor: int) -> None:
        kernel.wait(descriptor)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", hanging_fsync)
    yield kernel
    kernel.answer()


@pytest.mark.xfail(strict=True, reason="all volumes and all hashing share the event loop's threads")
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
    await kernel.called()
    work = asyncio.gather(
        healthy.put("a.pdf", once(content(3_000_000)), tags={}, content_type=None),
        hash_stream(once(content(3_000_000))),
    )
    ended, _ = await asyncio.wait([work], timeout=5)
    kernel.answer()
    await asyncio.gather(work, *filings)
    assert ended

"""
Programs for the contract: a run that is killed, and one that reports its memory use.

``python -m counterfoil.testing.archive_contract.runs die STEP`` files an envelope and kills itself by SIGKILL
at its ``STEP``-th step, if it comes that far; ``... weigh SIZE`` files one file of that size and prints by
how many bytes the process grew. The Archive's spec and credentials come as JSON on standard input.
"""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from counterfoil._upstream.malloc import keep_large_blocks
from counterfoil.archives.backend import ArchiveBackend, ForwardingBackend
from counterfoil.archives.filing import Source, store
from counterfoil.process_exit import exit_process
from counterfoil.resources.archive import ArchiveSpec
from counterfoil.testing.archive_contract.fixture import (
    BytesSource,
    a_layout,
    content,
    file_envelope,
    open_on_loopback,
)

FILES = {"small.pdf": 1_000, "empty.pdf": 0, "big.pdf": 7_000_000}
BIG_PIECE = 256 * 1024

STEPS = 11
"""Steps of a whole run: before, in the middle of and after each put of three documents, a hash file and a
manifest."""


class RunInput(msgspec.Struct, frozen=True):
    """The standard input."""

    spec: ArchiveSpec
    credentials: dict[str, bytes]


def file_contents() -> list[bytes]:
    """Contents of the files of the envelope that is filed."""
    return [content(size, seed=number) for number, size in enumerate(FILES.values(), start=1)]


class KillingBackend(ForwardingBackend):
    """Kills this process at one step: before, in the middle of, or after a put."""

    def __init__(self, backend: ArchiveBackend, last: int) -> None:
        super().__init__(backend)
        self._left = last

    async def put(
        self, name: str, chunks: AsyncIterable[bytes], *, tags: Mapping[str, str], content_type: str | None
    ) -> None:
        self._step()
        await super().put(name, self._stepping(chunks), tags=tags, content_type=content_type)

    async def _stepping(self, chunks: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
        passed = 0
        async for chunk in chunks:
            yield chunk
            passed += 1
            if passed == 4:
                self._step()
        self._step()

    def _step(self) -> None:
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= 1


async def die(last: int, orders: RunInput) -> None:
    """File the envelope until step ``last``."""
    backend = KillingBackend(await open_on_loopback(orders.spec, orders.credentials), last)
    await file_envelope(backend, a_layout(orders.spec, list(FILES)), file_contents())
    await backend.close()


async def weigh(size: int, orders: RunInput) -> None:
    """File a file, so that everything is loaded, then one of ``size`` bytes; print the growth."""
    keep_large_blocks()  # as the controller does
    backend = await open_on_loopback(orders.spec, orders.credentials)
    warm, big = a_layout(orders.spec, ["warm.pdf", "big.pdf"]).files
    await store(backend, warm, zeros(4 * BIG_PIECE), tags={})
    before = peak_memory()
    stored_file = await store(backend, big, zeros(size), tags={})
    grown = peak_memory() - before
    await backend.close()
    if stored_file.size != size:
        raise RuntimeError(f"{stored_file.size} bytes arrived")
    sys.stdout.write(str(grown))


def peak_memory() -> int:
    """
    Return the most resident memory that this program has had, in bytes. (proc_pid_status(5), VmHWM)

    ``ru_maxrss`` would begin with the memory of the process that started the program. (getrusage(2))
    """
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    if found is None:
        raise RuntimeError("/proc/self/status has no VmHWM")
    return int(found[1]) * 1024


def zeros(size: int) -> Source:
    """A source of zeros that costs no memory."""

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, size, BIG_PIECE):
            yield bytes(min(BIG_PIECE, size - start))

    @asynccontextmanager
    async def source() -> AsyncIterator[BytesSource]:
        yield BytesSource(size, chunks())

    return source


def main(what: str, number: str) -> None:
    """Run one of the programs, and end this process."""
    given = msgspec.json.decode(sys.stdin.buffer.read(), type=RunInput)
    asyncio.run({"die": die, "weigh": weigh}[what](int(number), given))
    exit_process(0)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""
Programs for tests: runs that file an envelope and are killed meanwhile, or that report their use of memory.

``python -m tests.support.scenes.archive_runs die STEP SPEC [KEY SECRET]`` files an envelope and kills itself
by SIGKILL at its ``STEP``-th step, if it comes that far; ``... weigh SIZE SPEC [KEY SECRET]`` files one big
file and prints by how much the process grew, in bytes. ``SPEC`` is the spec of an Archive as JSON.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import ClassVar

import msgspec

from counterfoil.archives.backend import ArchiveBackend, ForwardingBackend, NegativeCacheBackend
from counterfoil.archives.filing import Source, claim_names, conclude, find_concluded, store
from counterfoil.archives.layout import ArchiveLayout
from counterfoil.resources.archive import ArchiveSpec
from counterfoil.testing.archive_contract.fixture import open_on_loopback
from counterfoil.testing.archive_contract.runs import peak_memory
from tests.support.fakes.archives import (
    Arrived,
    a_filed_document,
    a_layout,
    an_envelope,
    content,
    files_named,
)

FILES = {"small.pdf": 1_000, "empty.pdf": 0, "big.pdf": 12_000_000}
BIG_CHUNK = 256 * 1024


def the_layout(spec: ArchiveSpec) -> ArchiveLayout:
    """The envelope that all runs file."""
    return a_layout(*files_named(*FILES), spec=spec)


def the_content(number: int) -> bytes:
    """Bytes of the file with this number."""
    return content(list(FILES.values())[number - 1], seed=number)


async def file_envelope(backend: ArchiveBackend, spec: ArchiveSpec, step: "Steps | None" = None) -> str:
    """File the envelope as the controller does, taking its claim for persisted; return the manifest's
    location."""
    layout, backend = the_layout(spec), NegativeCacheBackend(backend)
    claimed = [backend.location(file.name) for file in layout.files]
    await backend.remove_leftovers(layout.folder)
    await claim_names(backend, layout, claimed=claimed, key=None)
    await find_concluded(backend, layout, layout.envelope_id, claimed=claimed, key=None)
    documents = []
    for file in layout.files:
        source = chunked(the_content(file.facts.number), step)
        documents.append(a_filed_document(file.facts, await store(backend, file, source, tags=layout.tags)))
    return await conclude(
        backend,
        layout,
        an_envelope(),
        documents,
        archived_at=datetime(2026, 3, 1, tzinfo=UTC),
        extra={},
        signer=None,
    )


def chunked(data: bytes, step: "Steps | None" = None) -> Source:
    """A source that takes a step between its chunks."""

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 3_000_000):
            yield data[start : start + 3_000_000]
            if step is not None:
                step.take()

    @asynccontextmanager
    async def source() -> AsyncIterator[Arrived]:
        yield Arrived(len(data), chunks())

    return source


class Steps:
    """Counts steps, and kills this process at the last one."""

    def __init__(self, last: int) -> None:
        self._left = last

    def take(self) -> None:
        """Take a step."""
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= 1


class SteppingBackend(ForwardingBackend):
    """Takes a step before and after each upload, and after each file that was read."""

    kind: ClassVar[str] = "stepping"

    def __init__(self, backend: ArchiveBackend, steps: Steps) -> None:
        super().__init__(backend)
        self._steps = steps

    async def put(
        self, name: str, chunks: AsyncIterable[bytes], *, tags: Mapping[str, str], content_type: str | None
    ) -> None:
        self._steps.take()
        await super().put(name, chunks, tags=tags, content_type=content_type)
        self._steps.take()

    async def read(self, name: str) -> AsyncGenerator[bytes, None]:
        async for block in super().read(name):
            yield block
        self._steps.take()


async def die(last: int, spec: ArchiveSpec, credentials: Mapping[str, bytes]) -> None:
    """File the envelope until step ``last``."""
    steps = Steps(last)
    backend = SteppingBackend(await open_on_loopback(spec, credentials), steps)
    await file_envelope(backend, spec, steps)


def die_in_process(last: int, spec: ArchiveSpec) -> None:
    """``die`` as the target of a process of ``multiprocessing``, for archives without credentials."""
    asyncio.run(die(last, spec, {}))


async def weigh(size: int, spec: ArchiveSpec, credentials: Mapping[str, bytes]) -> None:
    """File a small file, so that everything is loaded, then one of ``size`` bytes; print the growth."""
    backend = await open_on_loopback(spec, credentials)
    warm, big = a_layout(*files_named("warm.pdf", "big.pdf"), spec=spec).files
    await store(backend, warm, streamed(BIG_CHUNK), tags={})
    before = peak_memory()
    stored_file = await store(backend, big, streamed(size), tags={})
    if stored_file.size != size:
        raise RuntimeError(f"{stored_file.size} bytes arrived")
    sys.stdout.write(str(peak_memory() - before))


def streamed(size: int) -> Source:
    """A source of zeros that costs no memory."""

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, size, BIG_CHUNK):
            yield bytes(min(BIG_CHUNK, size - start))

    @asynccontextmanager
    async def source() -> AsyncIterator[Arrived]:
        yield Arrived(size, chunks())

    return source


if __name__ == "__main__":
    what, number, spec_text, *keys = sys.argv[1:]
    given = dict(zip(("accessKeyId", "secretAccessKey"), (key.encode() for key in keys), strict=False))
    run = {"die": die, "weigh": weigh}[what]
    asyncio.run(run(int(number), msgspec.json.decode(spec_text, type=ArchiveSpec), given))

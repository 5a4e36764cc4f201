"""
The processes that check signatures, so that neither a hostile PDF nor a slow one harms the controller.

A PDF whose process takes too long or ends is ``Unreadable``. ``counterfoil.worker_processes`` starts, limits
and replaces the processes.

A large PDF is first stored in a temporary file, so that no process waits for an archive. Each archive stores
one at a time, and all archives ``SPOOLED_FILES``. Namespaces share these places and the processes, and one
of several leaves a quarter of the places to the others.
"""

import asyncio
import logging
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import BinaryIO

from counterfoil.signatures.anchors import NO_ANCHORS, Anchors
from counterfoil.signatures.results import Signatures, State
from counterfoil.untrusted.fair_slots import FairSlots, namespace_of
from counterfoil.worker_processes.pool import WorkerPool, WorkerStopped, WorkerUnavailable

MAX_FILE_BYTES = 64 * 1024 * 1024
"""Bytes of the largest PDF that is looked at; the process has it in its memory."""

SMALL_FILE_BYTES = 1024 * 1024
"""Bytes of a PDF that comes from memory. Of larger ones only one is in a process at a time."""

PROCESSES = 2
"""Maximum number of processes."""

SPOOLED_FILES = 4
"""Maximum number of large PDFs in temporary files: 256 MiB, less than ``/tmp`` has in the chart."""

TIMEOUT_SECONDS = 60.0
"""Longest time for one file once it is there; its CPU time is limited much more narrowly
(``worker``)."""

CHUNK_BYTES = 1024 * 1024
"""Bytes of a stored PDF that are passed on at once."""

BROKE_OFF = "its check broke off"

_log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-I", "-m", "counterfoil.signatures.worker")


class SignatureWorkers:
    """At most ``count`` processes; the owner closes them."""

    def __init__(
        self,
        *,
        count: int = PROCESSES,
        seconds: float = TIMEOUT_SECONDS,
        command: Sequence[str] = COMMAND,
        share: Callable[[int], int] | None = None,
    ) -> None:
        """``share`` returns how many of the places for large PDFs one namespace may have at present; by
        default all."""
        self._pool = WorkerPool(command, count=count, seconds=seconds)
        self._large = asyncio.Lock()
        self._spools = FairSlots(SPOOLED_FILES, group_of=namespace_of, share=share)
        self._sources: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._users = Counter[str]()

    async def examine(
        self, chunks: AsyncIterable[bytes], size: int, anchors: Anchors = NO_ANCHORS, *, source: str = ""
    ) -> Signatures:
        """
        Return what is found in a PDF of ``size`` bytes, and whether the signers lead to one of the anchors.

        ``source`` names the archive that it comes from, after its namespace and a slash; a slow one delays
        its own files only.

        Raises what ``chunks`` raises, and nothing else.
        """
        if size > MAX_FILE_BYTES:
            return Signatures(
                state=State.NOT_CHECKED, detail=f"it is larger than {MAX_FILE_BYTES // 1024 // 1024} MiB"
            )
        if size <= SMALL_FILE_BYTES:
            return await self._examine(chunks, size, anchors, source)
        async with self._turn(source):
            return await self._examine_large(chunks, size, anchors, source)

    async def aclose(self) -> None:
        """End the processes that have nothing to do."""
        await self._pool.aclose()

    @asynccontextmanager
    async def _turn(self, source: str) -> AsyncIterator[None]:
        """Wait until a file of this archive may be stored."""
        self._users[source] += 1
        try:
            async with self._sources[source], self._spools.slot(source):
                yield
        finally:
            self._users[source] -= 1
            if not self._users[source]:
                del self._users[source], self._sources[source]

    async def _examine_large(
        self, chunks: AsyncIterable[bytes], size: int, anchors: Anchors, source: str
    ) -> Signatures:
        try:
            file = tempfile.TemporaryFile()  # noqa: SIM115 - closed below, also if it can't be filled
        except OSError as problem:
            return _not_stored(problem)
        with file:
            try:
                stored = await _store(chunks, size, file)
            except _NoSpace as problem:
                return _not_stored(problem)
            if stored != size:
                return Signatures(state=State.UNREADABLE, detail=BROKE_OFF)
            async with self._large, aclosing(_blocks(file)) as blocks:
                return await self._examine(blocks, size, anchors, source)

    async def _examine(
        self, chunks: AsyncIterable[bytes], size: int, anchors: Anchors, source: str
    ) -> Signatures:
        try:
            return await self._pool.request(Signatures, anchors.encoded, chunks, size, owner=source)
        except WorkerUnavailable:
            return Signatures(state=State.NOT_CHECKED, detail="its check could not be started")
        except WorkerStopped as stopped:
            detail = "its check took too long" if stopped.timed_out else BROKE_OFF
            return Signatures(state=State.UNREADABLE, detail=detail)


class _NoSpace(Exception):
    """A temporary file could not be written."""


async def _store(chunks: AsyncIterable[bytes], size: int, file: BinaryIO) -> int:
    """Write the chunks into a file, but not more than ``size`` bytes; return how many there are, at least."""
    stored = 0
    async for chunk in chunks:
        stored += len(chunk)
        if stored > size:
            break
        try:
            # In a thread: a slow disk must not hold the event loop.
            await asyncio.to_thread(file.write, chunk)
        except OSError as problem:
            raise _NoSpace(str(problem)) from problem
    return stored


async def _blocks(file: BinaryIO) -> AsyncGenerator[bytes, None]:
    await asyncio.to_thread(file.seek, 0)
    while block := await asyncio.to_thread(file.read, CHUNK_BYTES):
        yield block


def _not_stored(problem: Exception) -> Signatures:
    _log.error("a PDF can't be stored for its check: %s", problem)
    return Signatures(state=State.NOT_CHECKED, detail="there was no space to store it for its check")

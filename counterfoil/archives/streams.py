"""
Streams of bytes in transit: joined to blocks, counted and hashed beside the input and output.

Memory per stream is a few blocks, for any length. Nothing here knows source or destination of the bytes.
After a transfer that failed, ``clean_up`` gives the cleaning its time, also if the task is cancelled, and
raises nothing; the ``remove_leftovers`` of the next run removes the rest.
"""

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any, TypeVar

from counterfoil.archives.errors import ArchiveError

BLOCK = 1024 * 1024
"""Bytes that go through threads, files and hashes at once: big enough that the hand-over costs nothing."""

INLINE = 64 * 1024
"""Maximum number of bytes that are hashed without a thread."""

CLEANUP_TIMEOUT_SECONDS = 10.0
"""Seconds that cleaning up may take."""

T = TypeVar("T")

_on_sent: ContextVar[Callable[[int], None] | None] = ContextVar("on_sent", default=None)


def observe_sent(on_sent: Callable[[int], None]) -> None:
    """Let ``on_sent`` know of each number of bytes that an upload in this context sends."""
    _on_sent.set(on_sent)


def count_sent(size: int) -> None:
    """Report bytes that were sent. For a backend that takes more than a block before it sends it: without
    this, the rate of an upload is judged by the bytes that the backend takes."""
    if (on_sent := _on_sent.get()) is not None:
        on_sent(size)


_HASHING = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="hashing")
"""The threads of this process that hash. Nothing in them waits, so that no neighbour can occupy them."""


class HashingCounter:
    """Size in bytes and SHA-256 of what went through so far."""

    def __init__(self) -> None:
        self.size = 0
        self._hash = hashlib.sha256()

    def add(self, block: bytes) -> None:
        """Count in a block. Big ones are hashed without holding the interpreter's lock."""
        self.size += len(block)
        self._hash.update(block)

    @property
    def sha256(self) -> str:
        """The hash as lower-case hex."""
        return self._hash.hexdigest()


class BoundedBuffer:
    """Keeps what goes through, if all of it is at most ``limit`` bytes."""

    def __init__(self, limit: int) -> None:
        self._room = limit
        self._kept: list[bytes] = []

    @property
    def content(self) -> bytes | None:
        """All of it, None when it was too much."""
        return b"".join(self._kept) if self._room >= 0 else None

    def disable(self) -> None:
        """Keep nothing: it does not come through here."""
        self._room = -1
        self._kept.clear()

    async def pass_through(self, chunks: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
        """Pass chunks on."""
        async for chunk in chunks:
            self._room -= len(chunk)
            if self._room >= 0:
                self._kept.append(chunk)
            else:
                self._kept.clear()
            yield chunk


class HashingThread:
    """
    Does blocking work on blocks in a thread, one block behind the producer.

    While one block is worked on the next may be fetched; the producer then has to wait. An error of the work
    is raised at the next call. Few big blocks, since a thread may wait long for the interpreter's lock after
    each. ``start`` begins the work in a thread; by default in one that hashes.
    """

    def __init__(
        self,
        work: Callable[[bytes], None],
        start: "Callable[[Callable[[], None]], asyncio.Future[None]] | None" = None,
    ) -> None:
        self._work = work
        self._start = start or _start_hashing
        self._running: asyncio.Future[None] | None = None

    async def add(self, block: bytes) -> None:
        """Wait for the last block, then begin to work on this one."""
        await self.finish()
        self._running = self._start(partial(self._work, block))

    async def finish(self) -> None:
        """Wait until all is done."""
        if self._running is not None:
            # Shielded, since a task that is cancelled here calls ``abandon``, which waits for it.
            await asyncio.shield(self._running)
            self._running = None

    async def abandon(self) -> None:
        """Wait until the work has ended, also after an error or a cancellation."""
        if self._running is not None:
            await wait_until_done(self._running)
            self._running.exception()
            self._running = None


async def counting(chunks: AsyncIterable[bytes], counter: HashingCounter) -> AsyncGenerator[bytes, None]:
    """Pass chunks on as blocks while ``counter`` hashes them in a thread; it is complete when the stream has
    ended."""
    hashing = HashingThread(counter.add)
    try:
        async with aclosing(blocks(chunks)) as joined:
            async for block in joined:
                if len(block) > INLINE:
                    await hashing.add(block)
                else:
                    await hashing.finish()
                    counter.add(block)
                yield block
        await hashing.finish()
    finally:
        await hashing.abandon()


async def blocks(chunks: AsyncIterable[bytes], size: int = BLOCK) -> AsyncGenerator[bytes, None]:
    """Join chunks to blocks of at least ``size`` bytes, except the last one; nothing is yielded for an empty
    stream."""
    waiting: list[bytes] = []
    length = 0
    async for chunk in chunks:
        waiting.append(chunk)
        length += len(chunk)
        if length >= size:
            yield waiting[0] if len(waiting) == 1 else b"".join(waiting)
            waiting, length = [], 0
    if length:
        yield b"".join(waiting)


async def single_chunk(content: bytes) -> AsyncGenerator[bytes, None]:
    """Yield a small file whole."""
    yield content


async def drain(stream: AsyncIterable[bytes]) -> None:
    """Read a stream to its end and keep nothing."""
    async for _ in stream:
        pass


async def in_hashing_thread(work: Callable[[], T]) -> T:
    """Do work of some milliseconds of CPU in a thread."""
    return await _start_hashing(work)


def _start_hashing(work: Callable[[], T]) -> "asyncio.Future[T]":
    """Begin to hash in a thread, as ``asyncio.to_thread`` does but without a task around it."""
    return asyncio.get_running_loop().run_in_executor(_HASHING, partial(copy_context().run, work))


async def wait_until_done(running: "asyncio.Future[T]") -> None:
    """Wait for work that must not be interrupted; only then pass on that the caller was cancelled."""
    request: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError as cancelled:
            request = cancelled
    if request is not None:
        # Looked at, so that an error in it does not count as forgotten.
        running.exception()
        raise request


async def shielded(work: Coroutine[Any, Any, T]) -> T:
    """
    Do something that must not be cut off in its middle: a caller who is cancelled first waits for its end.

    It does not wait indefinitely, nor when it is cancelled again; then the work is.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=CLEANUP_TIMEOUT_SECONDS)
        raise
    finally:
        # Its error counts as retrieved: the caller already raises another error.
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        task.cancel()


async def clean_up(cleaning: Coroutine[Any, Any, object]) -> None:
    """Wait for the end of some cleaning up; call it while another error is raised, which says more than this
    one."""
    task = asyncio.ensure_future(_bounded(cleaning))
    await wait_until_done(task)
    task.result()


async def _bounded(cleaning: Coroutine[Any, Any, object]) -> None:
    with suppress(ArchiveError, TimeoutError):
        async with asyncio.timeout(CLEANUP_TIMEOUT_SECONDS):
            await cleaning

"""
Streams of bytes on their way: joined to blocks, counted and hashed beside the input and output.

Memory per stream is a few blocks, whatever the length. Nothing here knows where bytes come from or go to.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from contextlib import aclosing
from typing import ParamSpec, TypeVar

BLOCK = 1024 * 1024
"""Bytes that go through threads, files and hashes at once: big enough that the hand-over costs nothing."""

P = ParamSpec("P")
T = TypeVar("T")


class Tally:
    """Size in bytes and SHA-256 of what went through so far."""

    def __init__(self) -> None:
        self.size = 0
        self._hash = hashlib.sha256()

    def add(self, block: bytes) -> None:
        """Count in a block. Big blocks are hashed without holding the interpreter's lock."""
        self.size += len(block)
        self._hash.update(block)

    @property
    def sha256(self) -> str:
        """The hash as lower-case hex."""
        return self._hash.hexdigest()


async def blocks(chunks: AsyncIterable[bytes], size: int = BLOCK) -> AsyncGenerator[bytes, None]:
    """Join chunks to blocks of at least ``size`` bytes, but for the last one; nothing is yielded for an empty stream."""
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


async def tallied(chunks: AsyncIterable[bytes], tally: Tally) -> AsyncGenerator[bytes, None]:
    """Pass chunks on as blocks; ``tally`` hashes each in a thread while whoever asked for it writes it."""
    async with aclosing(blocks(chunks)) as joined:
        async for block in joined:
            hashing = asyncio.ensure_future(asyncio.to_thread(tally.add, block))
            try:
                yield block
            finally:
                await hashing


async def exhaust(stream: AsyncIterable[bytes]) -> None:
    """Read a stream to its end and keep nothing."""
    async for _ in stream:
        pass


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """
    Run blocking work in a thread, and wait for its end even when the caller is cancelled.

    Otherwise the cleaning up would run beside work that is still going on.
    """
    running = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError as request:
            cancelled = request
        except Exception:
            break  # result() below raises it
    if cancelled is not None:
        # Asked for, so that an error in it does not count as forgotten.
        running.exception()
        raise cancelled
    return running.result()

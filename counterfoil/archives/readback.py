"""
Read files from an archive: large files are only counted and hashed, small ones are returned.
"""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Final

from counterfoil.archives.backend import (
    ArchiveBackend,
    ChecksumReported,
    FileNotReturned,
    FileNotStored,
    ListBounds,
    confirm_root,
    server_of,
)
from counterfoil.archives.errors import ArchiveUnavailable, VerificationFailed
from counterfoil.archives.manifest import MANIFEST_LIMIT, ManifestDamaged
from counterfoil.archives.manifest_signature import PublicKey
from counterfoil.archives.streams import BoundedBuffer, HashingCounter, counting, drain, single_chunk
from counterfoil.untrusted.large_answers import LARGE_ANSWERS, AnswerBody, AnswerTooSlow, Grow

SEAL_LIMIT: Final = 4096
"""Bytes; a file of seals has 512 at most."""

CONTENT_CHECKED_IN_LOOP: Final = 1024 * 1024
"""Bytes of a manifest up to which its seals are checked in the event loop: some 25 ms."""


async def read_back(
    backend: ArchiveBackend, name: str, buffer: BoundedBuffer | None = None, *, expected: int | None = None
) -> tuple[int, str] | None:
    """
    Read a file; return its size and SHA-256, or None when nothing shows that it is stored.

    As ``read_checksum``, for a caller that sends the file then.
    """
    try:
        return await read_checksum(backend, name, buffer, expected=expected)
    except FileNotReturned:
        return None


async def read_checksum(
    backend: ArchiveBackend, name: str, buffer: BoundedBuffer | None = None, *, expected: int | None = None
) -> tuple[int, str] | None:
    """
    Read a file; return its size and SHA-256, or None when it does not exist. Raises ``FileNotReturned``.

    A file of more than ``expected`` bytes is not read to its end: the size is then the number of bytes that
    were read, which is more than ``expected``.
    """
    try:
        async with aclosing(bounded(backend.read(name), expected)) as stream:
            if buffer is None:
                return await hash_stream(stream)
            async with aclosing(buffer.pass_through(stream)) as kept:
                return await hash_stream(kept)
    except FileNotStored:
        return None
    except ChecksumReported as word:
        if buffer is not None:
            buffer.disable()
        return word.size, word.sha256


async def is_stored(backend: ArchiveBackend, name: str) -> bool:
    """Whether a file exists; reads its first block only."""
    try:
        async with aclosing(backend.read(name)) as stream:
            await anext(stream, None)
    except FileNotStored:
        return False
    except ChecksumReported:
        return True
    return True


async def bounded(stream: AsyncGenerator[bytes, None], expected: int | None) -> AsyncGenerator[bytes, None]:
    """Pass a stream on until it has more than ``expected`` bytes; the chunk that exceeds them is the last."""
    size = 0
    async with aclosing(stream):
        async for chunk in stream:
            size += len(chunk)
            yield chunk
            if expected is not None and size > expected:
                return


async def hash_stream(stream: AsyncIterable[bytes]) -> tuple[int, str]:
    """Read a stream to its end without keeping it; return its size and SHA-256."""
    counter = HashingCounter()
    async with aclosing(counting(stream, counter)) as counted:
        await drain(counted)
    return counter.size, counter.sha256


@asynccontextmanager
async def reading_small(
    backend: ArchiveBackend, name: str, limit: int = MANIFEST_LIMIT
) -> AsyncIterator[bytes]:
    """
    Read a small file whole, to be used within the context: a large one has a slot for its memory.

    Raises ``FileNotStored``; ``FileNotReturned``; ``ManifestDamaged`` if it has more than ``limit`` bytes;
    ``ArchiveUnavailable`` if it is too slow while others wait for the slot.
    """
    body = AnswerBody()
    try:
        async with LARGE_ANSWERS.reading(server_of(backend)) as grow:
            async with aclosing(backend.read(name)) as stream:
                async for chunk in stream:
                    body.append(chunk)
                    if body.size > limit:
                        raise ManifestDamaged(f"it is longer than {limit // 1024**2} MiB")
                    await grow(body.size)
            yield body.take()
    except AnswerTooSlow:
        raise too_slow(backend.location(name)) from None


class ReadingList(ListBounds):
    """The bounds of a list that is read from a server: a large one waits for a slot for its memory."""

    def __init__(self, location: str, grow: Grow) -> None:
        super().__init__(location)
        self._grow = grow

    async def wait_for_memory(self, page: int = 0) -> None:
        """Wait for the memory of the names so far, and of ``page`` bytes more."""
        await self._grow(self.memory + page)


@asynccontextmanager
async def reading_list(backend: ArchiveBackend, folder: str) -> AsyncIterator[ReadingList]:
    """
    Read the list of a folder within the context; a slot ends with it, so all of its pages have the same one.

    Raises ``ArchiveUnavailable`` if it is too slow while others wait for the slot.
    """
    location = backend.location(folder)
    try:
        async with LARGE_ANSWERS.reading(server_of(backend)) as grow:
            yield ReadingList(location, grow)
    except AnswerTooSlow:
        raise too_slow(location) from None


async def fitting_seals(
    backend: ArchiveBackend, name: str, content: bytes, key: PublicKey | None
) -> tuple[bytes, ...]:
    """
    Return the seals in the file with this name, first that of the ``content`` by our ``key``; empty: none is.

    Then the root is checked again: a seal may be absent for a moment, or a proxy answer in its place. Raises
    ``FileNotReturned`` and ``ArchiveError``.
    """
    if key is None:
        return ()
    stored = await read_seal(backend, name)
    found = await fitting(stored, content, key) if stored is not None else ()
    if not found:
        await confirm_root(backend)
    return found


async def fitting(seals: bytes, content: bytes, key: PublicKey) -> tuple[bytes, ...]:
    """As ``PublicKey.fitting``, which hashes the content for each seal: a large one in a thread."""
    if len(content) <= CONTENT_CHECKED_IN_LOOP:
        return key.fitting(seals, content)
    return await asyncio.to_thread(key.fitting, seals, content)


async def read_seal(backend: ArchiveBackend, name: str) -> bytes | None:
    """Read the seal beside a manifest; None: there is none. Content that is too long is cut, and fits
    nothing. Raises ``FileNotReturned``."""
    content = bytearray()
    try:
        async with aclosing(backend.read(name)) as stream:
            async for chunk in stream:
                content += chunk
                if len(content) > SEAL_LIMIT:
                    break
    except (FileNotStored, ChecksumReported):
        return None
    return bytes(content[: SEAL_LIMIT + 1])


def checksum(content: bytes | memoryview) -> tuple[int, str]:
    """Return size and SHA-256."""
    return len(content), hashlib.sha256(content).hexdigest()


def too_slow(location: str) -> ArchiveUnavailable:
    """Return the error for an answer that was given up since others waited for its memory."""
    return ArchiveUnavailable(
        "ArchiveUnresponsive",
        f"{location} was read too slowly, while other answers waited for the memory. Check the server of "
        "the archive and the network; waiting events continue automatically.",
    )


async def probe_with_file(backend: ArchiveBackend, name: str, archive: str, server: str) -> None:
    """
    Write a small file and read it back; the caller removes it. ``archive`` and ``server`` are for messages.

    Raises ``ArchiveError``: ``VerificationFailed`` if the archive returns other bytes.
    """
    content = secrets.token_hex(16).encode()
    await backend.put(name, single_chunk(content), tags={}, content_type="text/plain")
    async with aclosing(bounded(backend.read(name), len(content))) as stream:
        found = b"".join([block async for block in stream])
    if found != content:
        raise VerificationFailed(f"{archive}: {server} returns other bytes than were written.")

"""An archive that hangs or trickles is given up, and a slow source does it no harm."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Mapping
from contextlib import aclosing

import pytest

from counterfoil.archives.backend import StoredEntry
from counterfoil.archives.bounded import STALL_SECONDS, BoundedBackend, TransferEnd
from counterfoil.archives.errors import ArchiveUnavailable
from counterfoil.archives.streams import BLOCK, count_sent, drain
from counterfoil.clock import WallClock
from counterfoil.untrusted.transfer_rate import MinimumRate
from tests.support.builders import AClock
from tests.support.fakes.archives import MemoryBackend, once

IMPATIENT = MinimumRate(bytes_per_second=1024**3, window=0.1)
A_BLOCK_IN_60_MS = MinimumRate(bytes_per_second=16 * BLOCK, window=0.1)


class SlowBackend(MemoryBackend):
    """An archive in memory that waits before each operation, and before each block that it takes or gives."""

    def __init__(self, pause: float) -> None:
        super().__init__()
        self.pause = pause

    async def entries(self, folder: str) -> list[StoredEntry]:
        await asyncio.sleep(self.pause)
        return await super().entries(folder)

    async def discard(self, name: str) -> None:
        await asyncio.sleep(self.pause)
        await super().discard(name)

    async def remove_leftovers(self, folder: str) -> None:
        await asyncio.sleep(self.pause)

    async def put(
        self, name: str, chunks: AsyncIterable[bytes], *, tags: Mapping[str, str], content_type: str | None
    ) -> None:
        taken = []
        async for chunk in chunks:
            await asyncio.sleep(self.pause)
            taken.append(chunk)
        await super().put(name, once(b"".join(taken)), tags=tags, content_type=content_type)

    async def read(self, name: str) -> AsyncGenerator[bytes, None]:
        async for block in super().read(name):
            for each in block:
                await asyncio.sleep(self.pause)
                yield bytes([each])


def bounded(backend: MemoryBackend, ends: list[TransferEnd] | None = None) -> BoundedBackend:
    on_end: Callable[[TransferEnd], None] = (lambda _: None) if ends is None else ends.append
    return BoundedBackend(backend, "dms", IMPATIENT, WallClock(), on_end)


async def slowly(*chunks: bytes) -> AsyncGenerator[bytes, None]:
    for chunk in chunks:
        await asyncio.sleep(0.2)
        yield chunk


@pytest.mark.parametrize("operation", ["entries", "discard", "remove_leftovers"])
async def test_an_operation_that_hangs_is_given_up(operation: str) -> None:
    with pytest.raises(ArchiveUnavailable, match="Archive/dms did not answer in time") as trouble:
        await getattr(bounded(SlowBackend(60)), operation)("a")
    assert trouble.value.reason == "ArchiveUnresponsive"


@pytest.mark.parametrize("pause", [60, 0.02], ids=["hangs", "trickles"])
async def test_an_upload_that_is_too_slow_is_given_up_and_leaves_nothing(pause: float) -> None:
    backend, ends = SlowBackend(pause), list[TransferEnd]()

    async def chunks() -> AsyncGenerator[bytes, None]:
        while True:
            yield b"x"

    with pytest.raises(ArchiveUnavailable, match="Archive/dms transfers a file more slowly") as trouble:
        # The source has no end.
        async with asyncio.timeout(20):
            await bounded(backend, ends).put("a.pdf", chunks(), tags={}, content_type=None)
    assert trouble.value.reason == "ArchiveUnresponsive"
    assert backend.files == {}
    assert [each.is_complete for each in ends] == [False]


async def test_an_upload_that_hangs_after_many_fast_bytes_is_given_up_as_soon_as_any_other() -> None:
    class HangsLater(MemoryBackend):
        async def put(
            self,
            name: str,
            chunks: AsyncIterable[bytes],
            *,
            tags: Mapping[str, str],
            content_type: str | None,
        ) -> None:
            await drain(chunks)
            await asyncio.sleep(60)

    backend = BoundedBackend(HangsLater(), "dms", A_BLOCK_IN_60_MS, WallClock(), lambda _: None)
    with pytest.raises(ArchiveUnavailable, match="more slowly"):
        # At this rate, the time of all blocks would be a minute.
        async with asyncio.timeout(20):
            await backend.put("a.pdf", blocks(1000), tags={}, content_type=None)


class BufferingBackend(MemoryBackend):
    """An archive that takes all blocks first, and then sends a piece after each pause."""

    def __init__(self, pause: float) -> None:
        super().__init__()
        self.pause = pause

    async def put(
        self, name: str, chunks: AsyncIterable[bytes], *, tags: Mapping[str, str], content_type: str | None
    ) -> None:
        taken = [chunk async for chunk in chunks]
        for _ in taken:
            await asyncio.sleep(self.pause)
            count_sent(BLOCK)
        await super().put(name, once(b"".join(taken)), tags=tags, content_type=content_type)


async def blocks(count: int) -> AsyncGenerator[bytes, None]:
    for _ in range(count):
        yield bytes(BLOCK)


async def test_a_backend_that_sends_later_what_it_took_has_the_time_for_all_of_it() -> None:
    ends: list[TransferEnd] = []
    backend = BoundedBackend(BufferingBackend(0.02), "dms", A_BLOCK_IN_60_MS, WallClock(), ends.append)
    await backend.put("a.pdf", blocks(16), tags={}, content_type=None)
    assert [each.is_complete for each in ends] == [True]


async def test_a_backend_that_sends_later_and_too_slowly_is_given_up_by_what_it_sends() -> None:
    backend = BoundedBackend(BufferingBackend(0.12), "dms", A_BLOCK_IN_60_MS, WallClock(), lambda _: None)
    with pytest.raises(ArchiveUnavailable, match="more slowly"):
        await backend.put("a.pdf", blocks(8), tags={}, content_type=None)


async def test_a_backend_that_sends_each_block_too_slowly_is_given_up() -> None:
    """A block that it takes and then reports as sent earns its time once."""

    class Sending(MemoryBackend):
        async def put(
            self,
            name: str,
            chunks: AsyncIterable[bytes],
            *,
            tags: Mapping[str, str],
            content_type: str | None,
        ) -> None:
            async for chunk in chunks:
                await asyncio.sleep(0.08)
                count_sent(len(chunk))

    backend = BoundedBackend(Sending(), "dms", A_BLOCK_IN_60_MS, WallClock(), lambda _: None)
    with pytest.raises(ArchiveUnavailable, match="more slowly"):
        await backend.put("a.pdf", blocks(40), tags={}, content_type=None)


@pytest.mark.parametrize("pause", [60, 0.02], ids=["hangs", "trickles"])
async def test_a_read_that_is_too_slow_is_given_up(pause: float) -> None:
    backend, ends = SlowBackend(pause), list[TransferEnd]()
    await MemoryBackend.put(backend, "a.pdf", once(b"x" * 1000), tags={}, content_type=None)
    with pytest.raises(ArchiveUnavailable) as trouble:
        async with aclosing(bounded(backend, ends).read("a.pdf")) as stream:
            await drain(stream)
    assert trouble.value.reason == "ArchiveUnresponsive"
    assert [each.is_complete for each in ends] == [False]


async def test_the_time_of_a_slow_source_does_not_count() -> None:
    backend, ends = MemoryBackend(), list[TransferEnd]()
    await bounded(backend, ends).put("a.pdf", slowly(b"one", b"two"), tags={}, content_type=None)
    assert ends == [TransferEnd(6, is_complete=True)]


async def test_the_time_of_a_slow_reader_does_not_count() -> None:
    backend = MemoryBackend()
    await backend.put("a.pdf", once(b"x"), tags={}, content_type=None)
    async with aclosing(bounded(backend).read("a.pdf")) as stream:
        async for block in stream:
            await asyncio.sleep(0.2)
            assert block == b"x"


async def test_a_timeout_of_the_backend_itself_stays_what_it_is() -> None:
    class Failing(MemoryBackend):
        async def entries(self, folder: str) -> list[StoredEntry]:
            raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        await bounded(Failing()).entries("a")


async def test_an_archive_that_keeps_an_operation_waiting_is_stalled_until_it_ends() -> None:
    clock = AClock()
    backend = BoundedBackend(SlowBackend(60), "dms", MinimumRate(), clock, lambda _: None)
    waiting = asyncio.create_task(backend.entries("a"))
    await asyncio.sleep(0)
    seen = [backend.is_stalled]
    clock.advance(seconds=STALL_SECONDS)
    seen.append(backend.is_stalled)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert [*seen, backend.is_stalled] == [False, True, False]

"""Small files of an archive, read whole."""

import asyncio
from collections.abc import AsyncGenerator

from counterfoil.archives.backend import ForwardingBackend
from counterfoil.archives.readback import reading_small
from counterfoil.untrusted.large_answers import LARGE_ANSWERS, SMALL_BYTES
from tests.support.fakes.archives import MemoryBackend


class SlowBackend(MemoryBackend):
    """Sends a large file, whose end never comes."""

    async def read(self, name: str) -> AsyncGenerator[bytes, None]:
        yield b"x" * 2 * SMALL_BYTES
        await asyncio.sleep(60)


async def test_all_runs_into_one_archive_have_one_large_answer_at_a_time() -> None:
    archive = SlowBackend()

    async def run() -> None:
        # Each run wraps the backend of its archive.
        async with reading_small(ForwardingBackend(archive), "a/counterfoil.json"):
            pass

    runs = [asyncio.create_task(run()) for _ in range(8)]
    await asyncio.sleep(0.05)
    async with asyncio.timeout(5), LARGE_ANSWERS.reading("https://esaw.example") as grow:
        await grow(2 * SMALL_BYTES)
    for each in runs:
        each.cancel()
    await asyncio.gather(*runs, return_exceptions=True)

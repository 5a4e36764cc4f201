"""The longest time for which a piece of work holds the event loop, in CPU time of the process."""

import asyncio
import time
from collections.abc import Awaitable

from counterfoil.resources.archive import TagRule

MAX_BLOCK_SECONDS = 0.1
"""Maximum for one block of the loop. A thread that computes leaves the interpreter every 5 ms."""


async def longest_block(work: Awaitable[object]) -> float:
    """Do the work, and return the longest time in seconds in which the event loop did nothing else."""
    blocks: list[float] = []

    async def measure() -> None:
        last = time.process_time()
        while True:
            await asyncio.sleep(0)
            now = time.process_time()
            blocks.append(now - last)
            last = now

    measuring = asyncio.create_task(measure())
    await asyncio.sleep(0)
    await work
    # What the work held last is measured, too.
    await asyncio.sleep(0)
    measuring.cancel()
    return max(blocks)


def slow_tag_rules(label: str) -> dict[str, TagRule]:
    """Return as many valid rules as an Archive may have whose check takes 0.3 s and more. No other ``label``
    has the same."""
    return {
        f"t{number}": TagRule(json_path=f"$[?@.{label}{number}||{'@.a||' * 190}@.a]") for number in range(64)
    }

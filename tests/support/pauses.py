"""The wait of a test for what another process does, which gives no event to wait for."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar, overload

T = TypeVar("T")

PATIENCE_SECONDS = 180.0

FIRST_SECONDS = 0.05
LONGEST_SECONDS = 0.3
GROWTH = 1.15
BROWSER_STEP_MILLISECONDS = 60_000
"""Time that a step in a browser may take on a busy machine."""


def pauses() -> Iterator[float]:
    """
    Return the seconds between two questions, without end.

    A question to the API server takes 6 ms of CPU in three processes. Six processes of tests that each ask
    twenty times per second would need two thirds of a core.
    """
    pause = FIRST_SECONDS
    while True:
        yield pause
        pause = min(pause * GROWTH, LONGEST_SECONDS)


@overload
async def eventually(what: Callable[[], Awaitable[T | None]], *, within: float = ...) -> T: ...
@overload
async def eventually(what: Callable[[], T | None], *, within: float = ...) -> T: ...
async def eventually(what: Callable[[], Any], *, within: float = PATIENCE_SECONDS) -> Any:
    """Ask until the answer is true or the timeout ends; return the answer."""
    seen, waits = None, pauses()
    try:
        async with asyncio.timeout(within):
            while not seen:
                asked = what()
                seen = await asked if isinstance(asked, Awaitable) else asked
                if not seen:
                    await asyncio.sleep(next(waits))
    except TimeoutError:
        raise AssertionError(f"it was not so within {within:.0f} s; the last answer was {seen!r}") from None
    return seen

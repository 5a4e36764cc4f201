"""
Bound the memory of concurrent answers that are kept whole: JSON of eSAW, manifests, lists of object stores.

The limit of one answer does not bound 32 of them. An answer of up to ``SMALL_BYTES`` is read as it comes; a
valid one is hardly ever larger. A larger one waits for a slot in the middle of its body, so that the server
waits, too. Each owner has at most one slot, so that one server does not delay the answers of another.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final
from weakref import WeakValueDictionary

from counterfoil.untrusted.fair_slots import FairSlots

SMALL_BYTES: Final = 256 * 1024
"""Maximum bytes of an answer without a slot: one read of the event loop."""

SLOTS: Final = 3
"""Maximum number of larger answers in a process."""

Grow = Callable[[int], Awaitable[None]]
"""Call it with the size after each part of a body; it waits for a slot if the answer needs one."""


class LargeAnswers:
    """The slots of a process."""

    def __init__(self, slots: int = SLOTS) -> None:
        self._slots = FairSlots(slots)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def reading(self, owner: str) -> AsyncIterator[Grow]:
        """Read one answer and use it within the context; a slot ends with it."""
        async with AsyncExitStack() as stack:
            has_slot = False

            async def grow(size: int) -> None:
                nonlocal has_slot
                if size <= SMALL_BYTES or has_slot:
                    return
                turn = self._turns.setdefault(owner, asyncio.Lock())
                await stack.enter_async_context(turn)
                await stack.enter_async_context(self._slots.slot(owner))
                has_slot = True

            yield grow


LARGE_ANSWERS: Final = LargeAnswers()
"""Those of this process."""

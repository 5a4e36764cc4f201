"""
Bound the memory of concurrent answers that are kept whole: JSON of eSAW, manifests, lists of object stores.

The limit of one answer does not bound 32 of them. An answer of up to ``SMALL_BYTES`` is read as it comes; a
valid one is hardly ever larger. A larger one waits for a slot in the middle of its body, so that the server
waits, too. Each owner, which is a server, has at most one slot, so that one server does not delay the answers
of another. A slot that others wait for ends after ``HOLD_SECONDS``. The wait for a slot is no fault of the
server.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from typing import Final
from weakref import WeakValueDictionary

from counterfoil.untrusted.fair_slots import FairSlots, OthersWait

SMALL_BYTES: Final = 256 * 1024
"""Maximum bytes of an answer without a slot: one read of the event loop."""

SLOTS: Final = 3
"""Maximum number of larger answers in a process."""

HOLD_SECONDS: Final = 30.0
"""Time after which an answer is given up if others wait for its slot."""


class AnswerTooSlow(Exception):
    """An answer was given up, since others waited for its slot."""


Grow = Callable[[int], Awaitable[None]]
"""Call it with the size after each part of a body; it waits for a slot if the answer needs one."""


PART_BYTES: Final = 4096
"""Bytes from which a part of an answer is kept as it came."""


class AnswerBody:
    """
    The bytes of an answer, in parts.

    One buffer that grows moves as it does: 32 of them leave holes in the heap of three times their size. A
    list of all that came has no bound, since a server may send each byte alone; small parts are joined.
    """

    def __init__(self) -> None:
        self._parts: list[bytes | bytearray] = []
        self._small = bytearray()
        self.size = 0

    def append(self, data: bytes) -> None:
        """Add what came."""
        self.size += len(data)
        if len(data) < PART_BYTES:
            self._small += data
            if len(self._small) < PART_BYTES:
                return
            data = b""
        if self._small:
            self._parts.append(bytes(self._small))
            self._small.clear()
        if data:
            self._parts.append(data)

    def take(self) -> bytes:
        """Return all bytes, and keep none."""
        whole = b"".join([*self._parts, self._small])
        self._parts.clear()
        self._small.clear()
        self.size = 0
        return whole


class LargeAnswers:
    """The slots of a process."""

    def __init__(self, slots: int = SLOTS, *, hold_seconds: float = HOLD_SECONDS) -> None:
        self._slots = FairSlots(slots)
        self._hold_seconds = hold_seconds
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def reading(
        self, owner: str, waiting: Callable[[], AbstractContextManager[None]] = nullcontext
    ) -> AsyncIterator[Grow]:
        """
        Read one answer and use it within the context; a slot ends with it.

        The wait for the slot is inside the context ``waiting``. Raises ``AnswerTooSlow``.
        """
        async with AsyncExitStack() as stack:
            has_slot = False

            async def grow(size: int) -> None:
                nonlocal has_slot
                if size <= SMALL_BYTES or has_slot:
                    return
                turn = self._turns.setdefault(owner, asyncio.Lock())
                with waiting():
                    await stack.enter_async_context(turn)
                    await stack.enter_async_context(self._slots.slot(owner))
                await stack.enter_async_context(self._ending())
                has_slot = True

            yield grow

    @asynccontextmanager
    async def _ending(self) -> AsyncIterator[None]:
        """End the context once it has lasted for ``HOLD_SECONDS`` and another owner waits for a slot."""
        try:
            async with self._slots.ending_after(self._hold_seconds):
                yield
        except OthersWait:
            raise AnswerTooSlow from None


LARGE_ANSWERS: Final = LargeAnswers()
"""Those of this process."""

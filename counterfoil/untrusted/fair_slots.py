"""
A number of slots that owners share fairly: nobody waits for more than a few requests of another owner.

A free slot goes to the owner with the fewest slots; among equals to the one that got a slot longest ago; of
its requests to the oldest.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class FairSlots:
    """``count`` slots. An owner is remembered while it has a slot or waits for one."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._held = Counter[str]()
        self._last_turn = Counter[str]()
        self._turns = 0

    @asynccontextmanager
    async def slot(self, owner: str) -> AsyncIterator[None]:
        """Wait for a slot, and hold it within the context."""
        await self._acquire(owner)
        try:
            yield
        finally:
            self._release(owner)

    async def _acquire(self, owner: str) -> None:
        if self._free and not self._waiting:
            self._grant(owner)
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release(owner)
            raise

    def _grant(self, owner: str) -> None:
        self._free -= 1
        self._turns += 1
        self._held[owner] += 1
        self._last_turn[owner] = self._turns

    def _release(self, owner: str) -> None:
        self._free += 1
        self._held[owner] -= 1
        while self._waiting and self._free:
            chosen = min(self._waiting, key=lambda each: (self._held[each], self._last_turn[each]))
            turn = self._waiting[chosen].popleft()
            if not self._waiting[chosen]:
                del self._waiting[chosen]
            # One that was cancelled meanwhile gets nothing.
            if not turn.done():
                self._grant(chosen)
                turn.set_result(None)
            self._forget(chosen)
        self._forget(owner)

    def _forget(self, owner: str) -> None:
        if owner not in self._waiting and not self._held[owner]:
            del self._held[owner], self._last_turn[owner]

"""
A number of slots that owners share fairly: nobody waits for more than a few requests of another owner.

A free slot goes to the owner with the fewest slots; among equals to the one that got a slot longest ago; of
its requests to the oldest one that is no background work, else to the oldest. Owners may be in groups, such
as the Organizations of a namespace. Then the group is chosen first, by the same rule: a group gets no more
for having more owners. A group may be limited to a share, and leaves the rest to others also while it alone
waits.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from counterfoil.untrusted.background_work import is_background

CHECK_SECONDS: Final = 1.0
"""Interval between two looks whether others wait by then."""


def namespace_of(owner: str) -> str:
    """Return the namespace of an owner such as ``namespace/organization``, as a group."""
    return owner.partition("/")[0]


class OthersWait(Exception):
    """A slot was held for its longest time, and others wait for one."""


class FairSlots:
    """``count`` slots. An owner is remembered while it has a slot or waits for one."""

    def __init__(
        self,
        count: int,
        *,
        group_of: Callable[[str], str] = str,
        share: Callable[[int], int] | None = None,
    ) -> None:
        """
        ``group_of`` returns the group of an owner; by default each owner is a group.

        ``share`` returns how many of ``count`` slots one group may have at present, at least one; by default
        all of them.
        """
        self._count = count
        self._share = share
        self._free = count
        self._group_of = group_of
        self._groups: dict[str, str] = {}
        """The group of each owner with a slot."""
        self._held_by_group: dict[str, int] = {}
        self._last_turn_of_group: dict[str, int] = {}
        self._waiting: dict[tuple[str, bool], deque[asyncio.Future[None]]] = {}
        """By owner, and whether it is background work."""
        self._held: dict[str, int] = {}
        self._last_turn: dict[str, int] = {}
        self._turns = 0

    @property
    def has_waiting(self) -> bool:
        """Whether somebody waits for a slot."""
        return any(not turn.done() for turns in self._waiting.values() for turn in turns)

    @asynccontextmanager
    async def slot(self, owner: str) -> AsyncIterator[None]:
        """Wait for a slot, and hold it within the context."""
        await self.wait(owner)
        try:
            yield
        finally:
            self.release(owner)

    @asynccontextmanager
    async def ending_after(self, seconds: float) -> AsyncIterator[None]:
        """End the context once it has lasted for ``seconds`` and somebody waits for a slot. Raises
        ``OthersWait``."""
        loop, limit = asyncio.get_running_loop(), asyncio.timeout(None)
        timers: list[asyncio.TimerHandle] = []

        def check() -> None:
            if self.has_waiting:
                limit.reschedule(loop.time())
            else:
                timers[:] = [loop.call_later(CHECK_SECONDS, check)]

        timers.append(loop.call_later(seconds, check))
        try:
            async with limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise OthersWait from None
        finally:
            timers[0].cancel()

    def take(self, owner: str) -> bool:
        """Take a slot that nobody waits for who may have it; False if there is none. The caller releases
        it."""
        if not self._free or (self._share is not None and self._has_share(owner)):
            return False
        if self._waiting and self._next() is not None:
            return False
        self._grant(owner)
        return True

    async def wait(self, owner: str) -> None:
        """Wait for a slot, unless one that nobody waits for is free by now. The caller releases it."""
        with self.place(owner) as turn:
            await turn

    @contextmanager
    def place(self, owner: str) -> Iterator[asyncio.Future[None]]:
        """
        Keep a place among those who wait: a future that is done once it has a slot.

        The context ends when it is done, and the caller releases the slot. A context that an exception ends
        leaves its place, and returns the slot.
        """
        turn, queue = asyncio.get_running_loop().create_future(), (owner, is_background())
        if self.take(owner):
            turn.set_result(None)
        else:
            self._waiting.setdefault(queue, deque()).append(turn)
            # The share of those who wait may have grown.
            self._hand_out()
        try:
            yield turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self.release(owner)
            else:
                self._leave(queue, turn)
            raise

    def _leave(self, queue: tuple[str, bool], turn: asyncio.Future[None]) -> None:
        turn.cancel()
        if turn in self._waiting.get(queue, ()):
            self._waiting[queue].remove(turn)
            if not self._waiting[queue]:
                del self._waiting[queue]
            self._forget(queue[0])

    def _grant(self, owner: str) -> None:
        self._free -= 1
        self._turns += 1
        self._held[owner] = self._held.get(owner, 0) + 1
        self._last_turn[owner] = self._turns
        if owner not in self._groups:
            self._groups[owner] = self._group_of(owner)
        group = self._groups[owner]
        self._held_by_group[group] = self._held_by_group.get(group, 0) + 1
        self._last_turn_of_group[group] = self._turns

    def release(self, owner: str) -> None:
        """Return a slot."""
        self._free += 1
        self._held[owner] -= 1
        self._held_by_group[self._groups[owner]] -= 1
        if self._waiting:
            self._hand_out()
        self._forget(owner)

    def _hand_out(self) -> None:
        """Give the free slots to those who wait and may have them."""
        while self._free and (queue := self._next()) is not None:
            chosen, turn = queue[0], self._waiting[queue].popleft()
            if not self._waiting[queue]:
                del self._waiting[queue]
            # One that was cancelled meanwhile gets nothing.
            if not turn.done():
                self._grant(chosen)
                turn.set_result(None)
            self._forget(chosen)

    def _next(self) -> tuple[str, bool] | None:
        """Return who comes first of those who wait and may have a slot."""
        return min(
            (each for each in self._waiting if not self._has_share(each[0])), key=self._rank, default=None
        )

    def _has_share(self, owner: str) -> bool:
        """Whether the group of an owner has all slots that it may have."""
        if self._share is None:
            return False
        return self._held_by_group.get(self._group_of(owner), 0) >= self._share(self._count)

    def _rank(self, queue: tuple[str, bool]) -> tuple[int, int, int, int, bool]:
        owner, is_in_background = queue
        group = self._group_of(owner)
        return (
            self._held_by_group.get(group, 0),
            self._last_turn_of_group.get(group, 0),
            self._held.get(owner, 0),
            self._last_turn.get(owner, 0),
            is_in_background,
        )

    def _forget(self, owner: str) -> None:
        is_waiting = (owner, False) in self._waiting or (owner, True) in self._waiting
        if not self._held.get(owner) and not is_waiting:
            self._held.pop(owner, None)
            self._last_turn.pop(owner, None)
            # One that only waited had no slot, so its group is not stored.
            group = self._groups.pop(owner, None) or self._group_of(owner)
            if self._held_by_group.get(group):
                return
            if not self._waiting or all(group != self._group_of(each) for each, _ in self._waiting):
                self._held_by_group.pop(group, None)
                self._last_turn_of_group.pop(group, None)

"""
Search for one user's envelopes by ``POST envelope/find``, in windows of the time of sending.

eSAW's answer has no paging, and its maximum is not documented. An answer that may be cut off splits its
window. An answer with fewer hits than an earlier one is not cut off: eSAW's maximum is at least that number.
``doubt`` names answers that may be cut off all the same.

One answer is in memory at a time; the number of requests is bounded. This module creates nothing.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from counterfoil.esaw.client import EsawUserClient
from counterfoil.esaw.errors import ResponseTooLarge
from counterfoil.esaw.limits import TRUSTED_HITS
from counterfoil.resources import EnvelopeStatus

OVERLAP = timedelta(seconds=1)
"""Time by which windows overlap: eSAW may leave out their very ends, or cut fractions of a second."""

MIN_WINDOW = timedelta(minutes=1)
"""Window that is not split further: hardly a sender sends fifty envelopes within it."""


STEP = 500
"""Number of ids that the event loop examines at once."""


class TooManyRequests(Exception):
    """The search needs more requests than it may make."""


class _Answered(NamedTuple):
    """A window whose answer may be cut off; ``content`` identifies the answer, None: it was too large."""

    start: datetime
    end: datetime
    content: int | None


@dataclass
class ComparedAnswers:
    """
    The answers to the windows of one status, as they were asked for before any split.

    Two of them are enough to know whether all are the same: while they are, each further one takes the place
    of the second.
    """

    _contents: dict[tuple[datetime, datetime], int | None] = field(default_factory=dict)
    """By window; None: the answer was too large."""

    def add(self, window: tuple[datetime, datetime], content: int | None) -> None:
        """Note the newest answer to a window."""
        if window not in self._contents and len(self._contents) == 2:
            first, second = self._contents.values()
            if first != second:
                return
            self._contents.popitem()
        self._contents[window] = content

    @property
    def are_all_equal(self) -> bool:
        """Whether several windows have the same envelopes, and no other answer differs."""
        found = {*self._contents.values()}
        return len(self._contents) > 1 and len(found) == 1 and not {None, _NOTHING} & found


@dataclass
class ListMemory:
    """The conclusions from all answers about one user. Several searches of one user may share them."""

    largest: int = TRUSTED_HITS
    """Hits of the largest answer: a smaller one is complete."""
    answers: defaultdict[EnvelopeStatus, ComparedAnswers] = field(
        default_factory=lambda: defaultdict(ComparedAnswers)
    )
    has_equal_halves: bool = False
    """Whether both halves of a window had the same envelopes."""
    cut_hits: int = 0
    """Hits of the largest answer to a smallest window that may be cut off."""


@dataclass
class EnvelopeSearch:
    """The search with one user's key in one sweep, or in one window of an Import."""

    user: EsawUserClient
    max_requests: int
    check: Callable[[], Awaitable[None]]
    """Called before each request: eSAW chooses how long an answer takes, and whether it lists anything new.
    What it raises ends the search."""
    memory: ListMemory = field(default_factory=ListMemory)
    _requests: int = 0

    @property
    def doubt(self) -> str:
        """
        Why eSAW may have left envelopes out; empty if nothing shows that.

        An envelope has one time of sending. So if all windows of a status have the same envelopes, eSAW does
        not search by the time, and nobody knows how many it leaves out. A larger answer shows that a smaller
        one was not cut off.
        """
        memory = self.memory
        has_equal_windows = any(each.are_all_equal for each in memory.answers.values())
        if has_equal_windows or memory.has_equal_halves:
            return "gets the same envelopes for different times"
        if memory.cut_hits >= memory.largest:
            return f"gets {memory.cut_hits} envelopes for one minute, perhaps not all"
        return ""

    async def compare_with(
        self, statuses: Sequence[EnvelopeStatus], window: tuple[datetime, datetime]
    ) -> None:
        """
        Ask for a window that was searched before, if there is no answer to compare the next one with.

        Raises ``EsawError``, ``TooManyRequests``, and what ``check`` raises.
        """
        for status in statuses:
            if status not in self.memory.answers:
                ids, _ = await self._ask(status, *window)
                self.memory.answers[status].add(window, _content(ids))

    async def between(self, status: EnvelopeStatus, start: datetime, end: datetime) -> AsyncIterator[str]:
        """
        Yield the ids of the envelopes of this status that were sent in this window, some more than once.

        Raises ``EsawError``, ``TooManyRequests``, and what ``check`` raises.
        """
        ids, is_complete = await self._ask(status, start, end)
        self.memory.answers[status].add((start, end), _content(ids))
        async for each in _in_steps(ids or ()):
            yield each
        split = [] if is_complete else [_Answered(start, end, _content(ids))]
        while split:
            window = split.pop()
            middle = window.start + (window.end - window.start) / 2
            incomplete, are_equal = [], window.content is not None
            for half_start, half_end in ((window.start, middle), (middle, window.end)):
                ids, is_complete = await self._ask(status, half_start, half_end)
                async for each in _in_steps(ids or ()):
                    yield each
                are_equal = are_equal and _content(ids) == window.content
                if not is_complete:
                    incomplete.append(_Answered(half_start, half_end, _content(ids)))
            if are_equal:
                # No envelope was sent in both halves, so shorter windows would bring nothing new either.
                self.memory.has_equal_halves = True
            else:
                split += incomplete

    async def _ask(
        self, status: EnvelopeStatus, start: datetime, end: datetime
    ) -> tuple[list[str] | None, bool]:
        """Return the ids in one answer (None: it is too large), and whether no shorter window is needed."""
        self._requests += 1
        if self._requests > self.max_requests:
            raise TooManyRequests
        await self.check()
        is_smallest = end - start <= MIN_WINDOW
        try:
            ids = [hit.id for hit in await self.user.find(status=status, start=start - OVERLAP, end=end)]
        except ResponseTooLarge:
            if is_smallest:
                raise
            return None, False
        is_complete = len(ids) < self.memory.largest
        self.memory.largest = max(self.memory.largest, len(ids))
        if is_smallest and not is_complete:
            self.memory.cut_hits = max(self.memory.cut_hits, len(ids))
        return ids, is_complete or is_smallest


async def _in_steps(ids: Sequence[str]) -> AsyncIterator[str]:
    """Yield the ids; let the event loop do other work in between, since their number is eSAW's choice."""
    for number, each in enumerate(ids):
        if number % STEP == 0:
            await asyncio.sleep(0)
        yield each


def _content(ids: list[str] | None) -> int | None:
    return None if ids is None else hash(frozenset(ids))


_NOTHING = _content([])

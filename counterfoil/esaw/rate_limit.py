"""
Rate limit of one organization's calls to eSAW, and the pauses that eSAW requests.

Each call runs ``acquire`` first. It waits for the rate limit (briefly, bounded by the number of callers), but
never for a pause: a pause raises ``RateLimited`` at once, so that the work queue keeps the event and no task
waits. Calls for an Import wait until no other call waits, but each for a bounded time: a callback may wait
for the envelope of such a run.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta

from counterfoil.clock import Clock
from counterfoil.esaw.errors import HttpStatusError, RateLimited
from counterfoil.http_client import retry_after_seconds
from counterfoil.untrusted.background_work import foreground, is_background

WhileWaiting = Callable[[], AbstractAsyncContextManager[None]]
"""Returns a context for the time in which a call waits for its turn."""

LONG_WAIT_SECONDS = 1.0
"""Wait from which on it is worth to return what others can use."""

MAX_BACKGROUND_WAIT = timedelta(minutes=5)
"""Time after which a call for an Import leaves its turn to no other call. It then waits only for the turns
that others have by then."""

_while_waiting: ContextVar[WhileWaiting | None] = ContextVar("while_waiting", default=None)
_deadline: ContextVar[asyncio.Timeout | None] = ContextVar("deadline", default=None)


def pause_while_waiting(while_waiting: WhileWaiting) -> None:
    """Let the long waits of this task's calls be in such a context."""
    _while_waiting.set(while_waiting)


@asynccontextmanager
async def holding(lock: asyncio.Lock) -> AsyncIterator[None]:
    """
    Hold a lock that tasks of an Organization wait for, within which a call waits for its turn.

    What a task returns at its first long wait, for the lock or for a turn, it has again only after it has
    released the lock. Until then others use it, and they may need the lock to end. For the same reason, no
    call within is background work.
    """
    while_waiting, is_returned = _while_waiting.get(), False
    failure: Exception | None = None
    async with AsyncExitStack() as until_released:

        @asynccontextmanager
        async def first_wait() -> AsyncIterator[None]:
            nonlocal is_returned
            if while_waiting is not None and not is_returned:
                is_returned = True
                await until_released.enter_async_context(while_waiting())
            yield

        try:
            async with asyncio.timeout(LONG_WAIT_SECONDS):
                await lock.acquire()
        except TimeoutError:
            async with first_wait():
                await lock.acquire()
        before = _while_waiting.set(first_wait)
        try:
            with foreground():
                yield
        except Exception as problem:
            # The task continues, perhaps with another key, so it needs what it returned.
            failure = problem
        finally:
            _while_waiting.reset(before)
            lock.release()
    if failure is not None:
        raise failure


@asynccontextmanager
async def answering_within(seconds: float) -> AsyncIterator[asyncio.Timeout]:
    """
    Limit the time that eSAW has for the answers to calls; their waits for their turns do not count.

    Yields the deadline, for ``suspended``. Raises ``TimeoutError``.
    """
    async with asyncio.timeout(seconds) as deadline:
        before = _deadline.set(deadline)
        try:
            yield deadline
        finally:
            _deadline.reset(before)


@contextmanager
def suspended(deadline: asyncio.Timeout | None) -> Iterator[None]:
    """Add the time within the context to a deadline. None: there is no deadline."""
    ends = deadline.when() if deadline is not None and not deadline.expired() else None
    if deadline is None or ends is None:
        yield
        return
    loop = asyncio.get_running_loop()
    began = loop.time()
    deadline.reschedule(None)
    try:
        yield
    finally:
        deadline.reschedule(ends + loop.time() - began)


@dataclass(eq=False)
class _BackgroundCall:
    """A call that waits for its turn, and leaves an earlier one to each call that is no background work."""

    slot: timedelta
    """Its turn, by the clock that is never set."""
    since: timedelta
    """When it began to wait, by the same clock."""


class RateLimiter:
    """Shared by all users of one organization."""

    def __init__(self, clock: Clock, *, per_second: float | None, max_retry_after: float) -> None:
        if per_second is not None and per_second <= 0:
            raise ValueError("requests per second must be above zero; leave it out for no limit")
        self._clock = clock
        self._interval = timedelta(seconds=1 / per_second) if per_second else timedelta(0)
        # One second's worth may go at once; then the bucket is empty.
        self._burst = timedelta(seconds=1) - self._interval if per_second and per_second > 1 else timedelta(0)
        self._next_slot = self._elapsed() - self._burst
        """By the clock that is never set, as are all turns."""
        self._max_retry_after = max_retry_after
        self._pause: tuple[datetime, int] | None = None
        self._background: list[_BackgroundCall] = []
        """Those that wait, in the order of their turns."""

    async def acquire(self) -> None:
        """Wait for this call's turn. Raises ``RateLimited`` when eSAW asked for quiet."""
        self._raise_if_paused()
        if self._interval:
            await self._wait_for_slot()
            self._raise_if_paused()

    def apply_retry_after(self, answer: HttpStatusError) -> None:
        """Pause all calls for the time of the response's ``Retry-After``."""
        if answer.status in {429, 503} and answer.retry_after:
            until = self._clock.now() + timedelta(seconds=answer.retry_after)
            if self._pause is None or until > self._pause[0]:
                self._pause = (until, answer.status)

    def parse_retry_after(self, header: str | None) -> float | None:
        """Read a ``Retry-After`` header, seconds or a date, into seconds from now; None when it says nothing
        usable."""
        return retry_after_seconds(header, now=self._clock.now(), longest=self._max_retry_after)

    def _raise_if_paused(self) -> None:
        if self._pause is None:
            return
        until, status = self._pause
        left = (until - self._clock.now()).total_seconds()
        # More than the longest pause is left only if somebody set the clock back.
        if 0 < left <= self._max_retry_after:
            raise RateLimited(status, until=until, retry_after=left)
        self._pause = None

    async def _wait_for_slot(self) -> None:
        now = self._elapsed()
        slot = max(self._next_slot, now - self._burst)
        self._next_slot = slot + self._interval
        if slot <= now:
            return
        if is_background():
            await self._wait_in_background(_BackgroundCall(slot, now))
        else:
            await self._sleep((self._exchanged(slot, now) - now).total_seconds())

    def _elapsed(self) -> timedelta:
        return timedelta(seconds=self._clock.monotonic())

    def _exchanged(self, slot: timedelta, now: timedelta) -> timedelta:
        """Return the first turn that a background call has, and let each of these calls have the next one.
        One that waits for long keeps its turn."""
        waiting = [
            call for call in self._background if call.slot > now and now - call.since < MAX_BACKGROUND_WAIT
        ]
        first, *later = (*(call.slot for call in waiting), slot)
        for call, following in zip(waiting, later, strict=True):
            call.slot = following
        return first

    async def _wait_in_background(self, call: _BackgroundCall) -> None:
        self._background.append(call)
        try:
            while (seconds := (call.slot - self._elapsed()).total_seconds()) > 0:
                await self._sleep(seconds)
        finally:
            self._background.remove(call)

    async def _sleep(self, seconds: float) -> None:
        while_waiting = _while_waiting.get()
        with suspended(_deadline.get()):
            if seconds >= LONG_WAIT_SECONDS and while_waiting is not None:
                async with while_waiting():
                    await self._clock.sleep(seconds)
            else:
                await self._clock.sleep(seconds)

"""
When and by whom: a heap of times, the lanes of those that are due, and one task per event that is worked on.

``want`` says when an event is due; ``run`` waits for the next time or the next free place, whichever comes first,
and starts ``work(event)``. Times come from the events' status, so a restart finds them as they were (rule 10).
It knows nothing of phases and writes nothing.
"""

import asyncio
import heapq
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime

from controller.lanes import Lanes, Room, Ticket
from counterfoil.clock import Clock

_log = logging.getLogger(__name__)

LONGEST_SLEEP_SECONDS = 60.0
"""Timers run by the monotonic clock, times in status by the wall clock; so often the two are brought together."""

Work = Callable[[str], Awaitable[None]]


class Schedule:
    """Starts the work on each event when it is due and there is room."""

    def __init__(self, *, clock: Clock, room: Callable[[], Room], work: Work) -> None:
        self._clock = clock
        self._room = room
        self._work = work
        self._lanes = Lanes()
        self._times: list[tuple[datetime, str]] = []
        self._wanted: dict[str, tuple[datetime, Ticket]] = {}
        self._news = asyncio.Event()
        self._ended: dict[str, asyncio.Event] = {}
        self._draining = False
        self._asked_at: datetime | None = None
        """When something was wanted first since the last look."""
        self._stranded_since: datetime | None = None

    def want(self, ticket: Ticket, due: datetime | None) -> None:
        """Let the event be worked on at ``due``; None: not by itself. The newest call counts."""
        if due is None:
            self._wanted.pop(ticket.event, None)
            self._lanes.drop(ticket.event)
            return
        if self._wanted.get(ticket.event) == (due, ticket):
            return
        self._wanted[ticket.event] = (due, ticket)
        self._lanes.drop(ticket.event)
        self._note_time(due, ticket.event)

    def forget(self, event: str) -> None:
        """Drop an event that is finished or deleted."""
        self._wanted.pop(event, None)
        self._lanes.drop(event)

    def poke(self) -> None:
        """Look again: limits may have changed."""
        self._news.set()

    def is_out(self, event: str) -> bool:
        """Whether the event is worked on now."""
        return self._lanes.is_out(event)

    @property
    def busy(self) -> int:
        """How many events are worked on now."""
        return self._lanes.out

    @property
    def backlog(self) -> int:
        """How many events are due and wait for room."""
        return self._lanes.queued

    def overdue_since(self) -> datetime | None:
        """Since when something is due that nobody has looked at yet, None if there is nothing; for liveness."""
        if not self._times or self._times[0][0] > self._clock.now():
            return None
        due = self._times[0][0]
        # A time in the past, as after a restart, is overdue only from when it was asked for.
        return due if self._asked_at is None else max(due, self._asked_at)

    @property
    def stranded_since(self) -> datetime | None:
        """Since when events are due while not one is worked on, None if it is not so; for liveness."""
        return self._stranded_since

    @asynccontextmanager
    async def exclusively(self, envelope: str) -> AsyncIterator[None]:
        """Keep the workers off an envelope while a person's request is carried out (rule 5)."""
        while not self._lanes.occupy(envelope):
            await self._ended.setdefault(envelope, asyncio.Event()).wait()
        try:
            yield
        finally:
            self._lanes.vacate(envelope)
            self._tell_ended(envelope)

    async def drained(self) -> None:
        """Start nothing new from now on, and return when the last running work has ended."""
        self._draining = True
        while self.busy:
            self._news.clear()
            await self._news.wait()

    async def run(self) -> None:
        """Work until cancelled; then every running task is cancelled and awaited."""
        async with asyncio.TaskGroup() as workers:
            while True:
                self._news.clear()
                self._ripen()
                for ticket in () if self._draining else self._lanes.take(self._room()):
                    self._wanted.pop(ticket.event, None)
                    workers.create_task(self._one(ticket), name=f"event {ticket.event}")
                self._note_stranded()
                await self._until_next()

    async def _one(self, ticket: Ticket) -> None:
        try:
            await self._work(ticket.event)
        except Exception:
            # The driver classifies what phases raise; what arrives here is a bug, and must not stop the others.
            _log.exception("the work on an event broke off", extra={"event": ticket.event})
        finally:
            self._lanes.back(ticket.event)
            if wanted := self._wanted.get(ticket.event):
                self._note_time(wanted[0], ticket.event)
            self._tell_ended(ticket.envelope)

    def _tell_ended(self, envelope: str) -> None:
        if ended := self._ended.pop(envelope, None):
            ended.set()
        self._news.set()

    def _note_time(self, due: datetime, event: str) -> None:
        heapq.heappush(self._times, (due, event))
        self._asked_at = self._asked_at or self._clock.now()
        self._news.set()

    def _ripen(self) -> None:
        now = self._clock.now()
        self._asked_at = None
        while self._times and self._times[0][0] <= now:
            due, event = heapq.heappop(self._times)
            wanted = self._wanted.get(event)
            # One that is out keeps its wish: ``_one`` puts it back when the work has ended.
            if wanted is not None and wanted[0] == due and not self._lanes.is_out(event):
                self._lanes.add(wanted[1])

    def _note_stranded(self) -> None:
        if self._draining or self.busy or not self.backlog:
            self._stranded_since = None
        elif self._stranded_since is None:
            self._stranded_since = self._clock.now()

    async def _until_next(self) -> None:
        if not self._times:
            await self._news.wait()
            return
        pause = (self._times[0][0] - self._clock.now()).total_seconds()
        try:
            async with asyncio.timeout(min(max(0.0, pause), LONGEST_SLEEP_SECONDS)):
                await self._news.wait()
        except TimeoutError:
            return

"""
Who is next: pure bookkeeping over the events that are due, without a clock, a task or I/O.

Events wait in lanes, one per (organization, sender); inside a lane the oldest event is first, and among the lanes
whose limits leave room the one with the oldest head is served. A sender with a thousand events therefore fills its
own lane and its own limit, and starves nobody (cert-manager's acmechallenges/scheduler is the model). Two events of
one envelope are never out at the same time (rule 5).
"""

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Ticket(NamedTuple):
    """One event that wants to be worked on."""

    age: str
    """Creation time and name; sorts oldest first."""
    event: str
    envelope: str
    organization: str
    sender: str
    archive: str


@dataclass(frozen=True)
class Room:
    """How many events may be out at once: in this process, per organization, per sender of it, per archive."""

    process: int
    organization: Mapping[str, int]
    sender: Mapping[str, int]
    """Per sender, by the name of the organization."""
    archive: Mapping[str, int]


DEFAULT_ORGANIZATION_ROOM = 16
DEFAULT_SENDER_ROOM = 4
DEFAULT_ARCHIVE_ROOM = 8


@dataclass
class Lanes:
    """The events that are due and those that are out."""

    _lanes: dict[tuple[str, str], list[Ticket]] = field(default_factory=dict)
    _queued: dict[str, Ticket] = field(default_factory=dict)
    _out: dict[str, Ticket] = field(default_factory=dict)
    _busy: dict[str, list[Ticket]] = field(default_factory=dict)
    """Per envelope that is worked on: the other events of it, which wait for that and not in a lane."""
    _count: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, ticket: Ticket) -> None:
        """Let an event queue; one that queues or is out already keeps its place."""
        if ticket.event in self._out or self._queued.get(ticket.event) == ticket:
            return
        self._queued[ticket.event] = ticket
        self._line_up(ticket)

    def drop(self, event: str) -> None:
        """Forget an event that queues; one that is out stays out until ``back``."""
        self._queued.pop(event, None)

    def is_out(self, event: str) -> bool:
        """Whether somebody works on it now."""
        return event in self._out

    @property
    def out(self) -> int:
        """How many are worked on now."""
        return len(self._out)

    @property
    def queued(self) -> int:
        """How many wait for room."""
        return len(self._queued)

    def take(self, room: Room) -> Iterator[Ticket]:
        """Hand out events while there is room, the oldest first."""
        while len(self._out) < room.process:
            lane = self._best_lane(room)
            if lane is None:
                return
            ticket = heapq.heappop(lane)
            del self._queued[ticket.event]
            self._out[ticket.event] = ticket
            self._busy[ticket.envelope] = []
            for key in _limits_of(ticket):
                self._count[key] += 1
            yield ticket

    def back(self, event: str) -> None:
        """The work on an event has ended."""
        ticket = self._out.pop(event)
        for key in _limits_of(ticket):
            self._count[key] -= 1
        self.vacate(ticket.envelope)

    def occupy(self, envelope: str) -> bool:
        """Keep everybody off an envelope; False when somebody works on it now. Undone by ``vacate``."""
        if envelope in self._busy:
            return False
        self._busy[envelope] = []
        return True

    def vacate(self, envelope: str) -> None:
        """Let events of that envelope out again."""
        for ticket in self._busy.pop(envelope, []):
            self._line_up(ticket)

    def _line_up(self, ticket: Ticket) -> None:
        if ticket.envelope in self._busy:
            self._busy[ticket.envelope].append(ticket)
        else:
            heapq.heappush(self._lanes.setdefault((ticket.organization, ticket.sender), []), ticket)

    def _best_lane(self, room: Room) -> list[Ticket] | None:
        best: list[Ticket] | None = None
        for key in list(self._lanes):
            lane = self._lanes[key]
            self._tidy(lane)
            if not lane:
                del self._lanes[key]
            elif (best is None or lane[0] < best[0]) and self._has_room(lane[0], room):
                best = lane
        return best

    def _tidy(self, lane: list[Ticket]) -> None:
        """Take from the head what was dropped, and what must wait for another event of its envelope."""
        while lane:
            head = lane[0]
            if self._queued.get(head.event) != head:
                heapq.heappop(lane)
            elif head.envelope in self._busy:
                self._busy[head.envelope].append(heapq.heappop(lane))
            else:
                return

    def _has_room(self, ticket: Ticket, room: Room) -> bool:
        limits = (
            room.organization.get(ticket.organization, DEFAULT_ORGANIZATION_ROOM),
            room.sender.get(ticket.organization, DEFAULT_SENDER_ROOM),
            room.archive.get(ticket.archive, DEFAULT_ARCHIVE_ROOM),
        )
        return all(self._count[key] < limit for key, limit in zip(_limits_of(ticket), limits, strict=True))


def _limits_of(ticket: Ticket) -> tuple[tuple[str, str], ...]:
    return (
        ("organization", ticket.organization),
        ("sender", f"{ticket.organization}/{ticket.sender}"),
        ("archive", ticket.archive),
    )

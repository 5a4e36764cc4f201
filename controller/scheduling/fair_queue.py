"""
The next event to run: pure bookkeeping over the due events, without a clock, a task or I/O.

Events wait in one queue per (organization, sender), the oldest event first. Of the queues whose limits are
not reached, one of the organization with the fewest running events is served, and of its senders one with the
fewest. Equal ones take turns. So a sender with a thousand events fills its own queue and its own limit, and
delays no other sender or organization, also on the same archive or in a full process. Two events of
one envelope never run at the same time (rule 5).

Events of Imports have the lowest class: each other event that may run is served before them, and they leave a
quarter of each limit free for it.
"""

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class QueueItem(NamedTuple):
    """One event with the keys of its limits."""

    sort_key: str
    """Class, time and name; sorts other events before those of Imports, and then the oldest first."""
    event: str
    envelope: str
    organization: str
    sender: str
    archive: str
    """Empty: no limit of an archive counts, as before routes have decided."""
    is_import: bool = False
    """Whether an Import created the event, or it gets copies long after its archiving: any other event comes
    first."""


@dataclass(frozen=True)
class ConcurrencyLimits:
    """Maximum number of running events: in this process, per organization, per sender, per archive."""

    process: int
    organization: Mapping[str, int]
    sender: Mapping[str, int]
    """Limit per sender, by the name of the organization."""
    archive: Mapping[str, int]


DEFAULT_ORGANIZATION_LIMIT = 16
DEFAULT_SENDER_LIMIT = 4
DEFAULT_ARCHIVE_LIMIT = 8


@dataclass
class FairQueue:
    """The events that are due and those that run."""

    _queues: dict[tuple[str, str], list[QueueItem]] = field(default_factory=dict)
    _queued_items: dict[str, QueueItem] = field(default_factory=dict)
    _running: dict[str, QueueItem] = field(default_factory=dict)
    _paused: set[str] = field(default_factory=set)
    """Running events that take no slot of the process and of their archive now."""
    _entering: set[str] = field(default_factory=set)
    """Paused events that have had no slot of their archive yet."""
    _blocked_by_envelope: dict[str, list[QueueItem]] = field(default_factory=dict)
    """The other events of each running or locked envelope, which wait outside the queues."""
    _running_counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    _turns: dict[tuple[str, str], int] = field(default_factory=dict)
    """Order of the organizations and senders that wait: a lower number was served earlier or waits longer."""
    _last_turn: int = 0

    def add(self, item: QueueItem) -> None:
        """Add an event; one that is queued or running keeps its place."""
        if item.event in self._running or self._queued_items.get(item.event) == item:
            return
        self._queued_items[item.event] = item
        self._push(item)

    def drop(self, event: str) -> None:
        """Remove a queued event; a running event stays until ``done``."""
        self._queued_items.pop(event, None)

    def is_running(self, event: str) -> bool:
        """Whether the event is running."""
        return event in self._running

    @property
    def running_count(self) -> int:
        """Number of running events."""
        return len(self._running)

    @property
    def queued_count(self) -> int:
        """Number of queued events."""
        return len(self._queued_items)

    @property
    def has_unlocked(self) -> bool:
        """Whether an event is queued whose envelope is neither running nor locked."""
        return any(each.envelope not in self._blocked_by_envelope for each in self._queued_items.values())

    def take(self, concurrency_limits: ConcurrencyLimits) -> Iterator[QueueItem]:
        """Yield events while the limits allow, in a fair order."""
        while len(self._running) - len(self._paused) < concurrency_limits.process:
            queue = self._next_queue(concurrency_limits)
            if queue is None:
                return
            item = heapq.heappop(queue)
            self._end_turn(item)
            del self._queued_items[item.event]
            self._running[item.event] = item
            self._blocked_by_envelope[item.envelope] = []
            for key in _limit_keys(item):
                self._running_counts[key] += 1
            yield item

    def pause(self, event: str) -> None:
        """Release the slots of a running event that its organization and sender do not share with
        others."""
        if event not in self._paused:
            self._paused.add(event)
            self._count_down(_archive_key(self._running[event]))

    def move(self, event: str, archive: str) -> None:
        """Let a paused event resume in the slots of this archive."""
        self._running[event] = self._running[event]._replace(archive=archive)
        self._entering.add(event)

    def has_room(self, event: str, concurrency_limits: ConcurrencyLimits) -> bool:
        """
        Whether there are slots in which a paused event can resume.

        One of an Import that comes to its archive leaves a part free there, as where the archive was known.
        """
        item = self._running[event]
        limit = _archive_limit(item, concurrency_limits)
        if item.is_import and event in self._entering:
            limit = share_of_imports(limit)
        is_process_full = len(self._running) - len(self._paused) >= concurrency_limits.process
        return not is_process_full and self._running_counts[_archive_key(item)] < limit

    def resume(self, event: str, concurrency_limits: ConcurrencyLimits) -> bool:
        """Take the slots of a paused event again; False while there are none."""
        if not self.has_room(event, concurrency_limits):
            return False
        self._paused.remove(event)
        self._entering.discard(event)
        self._running_counts[_archive_key(self._running[event])] += 1
        return True

    def done(self, event: str) -> None:
        """The run of an event has ended."""
        item = self._running.pop(event)
        self._entering.discard(event)
        for key in _turn_keys(item):
            self._count_down(key)
        if event in self._paused:
            self._paused.remove(event)
        else:
            self._count_down(_archive_key(item))
        self.release(item.envelope)

    def _count_down(self, key: tuple[str, str]) -> None:
        self._running_counts[key] -= 1
        if not self._running_counts[key]:
            del self._running_counts[key]

    def acquire(self, envelope: str) -> bool:
        """Lock an envelope; False while one of its events runs. Undone by ``release``."""
        if envelope in self._blocked_by_envelope:
            return False
        self._blocked_by_envelope[envelope] = []
        return True

    def release(self, envelope: str) -> None:
        """Unlock an envelope."""
        for item in self._blocked_by_envelope.pop(envelope, []):
            self._push(item)

    def _push(self, item: QueueItem) -> None:
        if item.envelope in self._blocked_by_envelope:
            self._blocked_by_envelope[item.envelope].append(item)
        else:
            heapq.heappush(self._queues.setdefault((item.organization, item.sender), []), item)
            for key in _turn_keys(item):
                if key not in self._turns:
                    self._turns[key] = self._next_turn()

    def _next_turn(self) -> int:
        self._last_turn += 1
        return self._last_turn

    def _end_turn(self, item: QueueItem) -> None:
        """Let the organization and the sender of a served event wait behind all others."""
        for key in _turn_keys(item):
            self._turns[key] = self._next_turn()

    def _next_queue(self, concurrency_limits: ConcurrencyLimits) -> list[QueueItem] | None:
        best: list[QueueItem] | None = None
        best_rank: tuple[bool, int, int, int, int] | None = None
        for key in list(self._queues):
            queue = self._queues[key]
            self._drop_stale_heads(queue)
            if not queue:
                self._forget_queue(key)
                continue
            rank = self._rank(queue[0])
            if (best_rank is None or rank < best_rank) and self._is_below_limits(
                queue[0], concurrency_limits
            ):
                best, best_rank = queue, rank
        return best

    def _forget_queue(self, key: tuple[str, str]) -> None:
        organization, sender = key
        del self._queues[key]
        self._turns.pop(("sender", f"{organization}/{sender}"), None)
        if all(each != organization for each, _ in self._queues):
            self._turns.pop(("organization", organization), None)

    def _rank(self, item: QueueItem) -> tuple[bool, int, int, int, int]:
        """Return what decides between two queues; the lower one is served."""
        organization, sender = _turn_keys(item)
        running, turns = self._running_counts, self._turns
        return item.is_import, running[organization], turns[organization], running[sender], turns[sender]

    def _drop_stale_heads(self, queue: list[QueueItem]) -> None:
        """Remove dropped events from the head, and events that wait for another of their envelope."""
        while queue:
            head = queue[0]
            if self._queued_items.get(head.event) != head:
                heapq.heappop(queue)
            elif head.envelope in self._blocked_by_envelope:
                self._blocked_by_envelope[head.envelope].append(heapq.heappop(queue))
            else:
                return

    def _is_below_limits(self, item: QueueItem, concurrency_limits: ConcurrencyLimits) -> bool:
        limits: tuple[int, ...] = (
            concurrency_limits.organization.get(item.organization, DEFAULT_ORGANIZATION_LIMIT),
            concurrency_limits.sender.get(item.organization, DEFAULT_SENDER_LIMIT),
            _archive_limit(item, concurrency_limits),
        )
        counts = [self._running_counts[key] for key in _limit_keys(item)]
        if item.is_import:
            counts.append(len(self._running) - len(self._paused))
            limits = tuple(map(share_of_imports, (*limits, concurrency_limits.process)))
        return all(count < limit for count, limit in zip(counts, limits, strict=True))


def share_of_imports(limit: int) -> int:
    """Return the part of a limit that events of Imports may use; at least one, or they would never run."""
    return max(1, limit - max(1, limit // 4))


def _archive_limit(item: QueueItem, limits: ConcurrencyLimits) -> int:
    return limits.archive.get(item.archive, DEFAULT_ARCHIVE_LIMIT) if item.archive else limits.process


def _turn_keys(item: QueueItem) -> tuple[tuple[str, str], tuple[str, str]]:
    return ("organization", item.organization), ("sender", f"{item.organization}/{item.sender}")


def _limit_keys(item: QueueItem) -> tuple[tuple[str, str], ...]:
    return (*_turn_keys(item), _archive_key(item))


def _archive_key(item: QueueItem) -> tuple[str, str]:
    return ("archive", item.archive)

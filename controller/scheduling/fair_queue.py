"""
The next event to run: pure bookkeeping over the due events, without a clock, a task or I/O.

Events wait in one queue per organization, sender and Archive, the oldest event first. Of the queues whose
limits are not reached, one of the organization with the fewest running events is served, and of its senders
one with the fewest. Equal ones take turns. So a sender with a thousand events fills its own queue and its own
limit, and delays no other sender or organization, also on the same archive or in a full process. Two events
of one envelope never run at the same time (rule 5).

Events of Imports have the lowest class: each other event that may run is served before them, and they leave a
quarter of each limit free for it.

A run that comes to another Archive changes its slot at once if there is room. Else it releases all of its
places, those of its organization and its sender as well, and takes all of them again or none. So a run that
waits for an Archive holds nothing that others need. The number of such runs is bounded, since each of them is
in memory. They and the queued events take turns in an Archive, so that neither keep the others waiting.

The slots of the process are shared with the queues of other namespaces (``process_slots``).
"""

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from controller.scheduling.process_slots import NamespaceSlots, share_of_imports


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


_Key = tuple[str, str]
"""One limit: its kind, and the name of what it belongs to."""

_QueueKey = tuple[str, str, str]
"""Organization, sender and Archive: an Archive without room delays no event for another one."""

_LimitKeys = tuple[_Key, _Key, _Key, _Key]
"""The limits of an event: of its organization, its sender, its Archive and the process."""

_PROCESS: Final[_Key] = ("process", "")

DEFAULT_ORGANIZATION_LIMIT = 16
DEFAULT_SENDER_LIMIT = 4
DEFAULT_ARCHIVE_LIMIT = 8


class _SenderQueue(NamedTuple):
    """The events of one organization and sender for one Archive."""

    items: list[QueueItem]
    """A heap: the first one has the lowest sort key."""
    keys: _LimitKeys
    """Stored, since each end of a run looks at each queue."""


@dataclass
class FairQueue:
    """The events of a namespace that are due and those that run."""

    slots: NamespaceSlots = field(default_factory=NamespaceSlots.alone)
    _queues: dict[_QueueKey, _SenderQueue] = field(default_factory=dict)
    _queue_counts: Counter[_Key] = field(default_factory=Counter)
    """Number of the queues of each organization and sender."""
    _queued_items: dict[str, QueueItem] = field(default_factory=dict)
    _running: dict[str, QueueItem] = field(default_factory=dict)
    _held: dict[str, tuple[_Key, ...]] = field(default_factory=dict)
    """By running event: the limits in which it has a place now."""
    _waiting: set[str] = field(default_factory=set)
    """Running events that gave all of their places back, until there is room in an Archive."""
    _turn_of_queue: set[str] = field(default_factory=set)
    """Archives in which such an event had the last place, so that a queued event has the next one."""
    _kept_out: dict[str, bool] = field(default_factory=dict)
    """The running events that could continue with a slot of the process; whether each leaves a part free."""
    _next_start: QueueItem | None = None
    """The queued event that could start with a slot of the process."""
    _blocked_by_envelope: dict[str, list[QueueItem]] = field(default_factory=dict)
    """The other events of each running or locked envelope, which wait outside the queues."""
    _running_counts: Counter[_Key] = field(default_factory=Counter)
    _turns: dict[_Key, int] = field(default_factory=dict)
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
        self._next_start = None
        while self._running_counts[_PROCESS] < concurrency_limits.process:
            queue = self._next_queue(concurrency_limits)
            if queue is None:
                return
            if not self.slots.has_room(concurrency_limits.process, is_import=queue.items[0].is_import):
                self._next_start = queue.items[0]
                return
            item = heapq.heappop(queue.items)
            self._end_turn(queue.keys)
            del self._queued_items[item.event]
            self._running[item.event] = item
            self._blocked_by_envelope[item.envelope] = []
            self._turn_of_queue.discard(item.archive)
            self._hold(item, queue.keys)
            yield item

    def take_nothing(self) -> None:
        """Start no event, and leave free slots of the process to others."""
        self._next_start = None

    def claim(self, concurrency_limits: ConcurrencyLimits) -> None:
        """Wait for a slot of the process if an event only lacks that; else leave free ones to others."""
        lacking = list(self._kept_out.values())
        if self._next_start is not None:
            lacking.append(self._next_start.is_import)
        if lacking:
            self.slots.claim(concurrency_limits.process, is_import=all(lacking))
        else:
            self.slots.claim_nothing()

    def pause(self, event: str) -> None:
        """Release the slots of a running event that its organization and sender do not share with
        others."""
        item = self._running[event]
        own = _turn_keys(item)
        self._hold(item, tuple(key for key in self._held[event] if key in own))

    def move(self, event: str, archive: str, concurrency_limits: ConcurrencyLimits) -> bool:
        """
        Let a running event have a slot of this Archive in place of those that it has, if there is room.

        One of an Import leaves a part free there, as where the Archive was known.
        """
        if self.has_slot(event, archive):
            return True
        moved = self._running[event]._replace(archive=archive)
        keys = _limit_keys(moved)
        if not self._has_room(moved, keys, _new_limits(moved, concurrency_limits)):
            return False
        if not self._has_slot_of_process(moved, concurrency_limits.process, is_import=moved.is_import):
            return False
        self._running[event] = moved
        self._hold(moved, keys)
        return True

    def wait(self, event: str, archive: str, concurrency_limits: ConcurrencyLimits) -> bool:
        """
        Let a running event give all of its places back and wait for this Archive; ``resume`` ends that.

        False, and nothing changes, if enough runs wait: as many as may run in the Archive, or in the process.
        """
        item = self._running[event]._replace(archive=archive)
        beside = sum(self._running[each].archive == archive for each in self._waiting)
        if beside >= _archive_limit(archive, concurrency_limits):
            return False
        if len(self._waiting) >= concurrency_limits.process:
            return False
        self._running[event] = item
        self._waiting.add(event)
        self._hold(item, ())
        return True

    def give_up(self, event: str) -> None:
        """End the wait of an event for its Archive: it has no place until it moves, and should end."""
        self._waiting.discard(event)
        self._kept_out.pop(event, None)

    def comes_first(self, event: str) -> bool:
        """Whether an event that is paused or waits resumes before queued ones start. Of two places in an
        Archive for which events are queued, they have one."""
        archive = self._running[event].archive
        if event not in self._waiting or archive not in self._turn_of_queue:
            return True
        return all(each != archive for _, _, each in self._queues)

    def resume(self, event: str, concurrency_limits: ConcurrencyLimits) -> bool:
        """Take all places again that a running event released; False while one is missing."""
        item, is_waiting = self._running[event], event in self._waiting
        keys, limits = _limit_keys(item), _new_limits if is_waiting else _limits
        self._kept_out.pop(event, None)
        if not self._has_room(item, keys, limits(item, concurrency_limits)):
            return False
        is_import = is_waiting and item.is_import
        if not self._has_slot_of_process(item, concurrency_limits.process, is_import=is_import):
            self._kept_out[event] = is_import
            return False
        if is_waiting:
            self._waiting.discard(event)
            self._turn_of_queue.add(item.archive)
        self._hold(item, keys)
        return True

    def done(self, event: str) -> None:
        """The run of an event has ended."""
        item = self._running[event]
        self._hold(item, ())
        del self._running[event], self._held[event]
        self._waiting.discard(event)
        self._kept_out.pop(event, None)
        self.release(item.envelope)

    def _hold(self, item: QueueItem, keys: tuple[_Key, ...]) -> None:
        """Let a running event have a place in these limits, and in no others."""
        held = self._held.get(item.event, ())
        if _PROCESS in keys and _PROCESS not in held:
            self.slots.take()
        if _PROCESS in held and _PROCESS not in keys:
            self.slots.release()
        self._running_counts.update(keys)
        for key in held:
            self._running_counts[key] -= 1
            if not self._running_counts[key]:
                del self._running_counts[key]
        self._held[item.event] = keys

    def has_slot(self, event: str, archive: str) -> bool:
        """Whether a running event has a slot of this Archive now."""
        held = self._held.get(event, ())
        return _PROCESS in held and ("archive", archive) in held

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
            heapq.heappush(self._queue_of(item).items, item)

    def _queue_of(self, item: QueueItem) -> _SenderQueue:
        key = (item.organization, item.sender, item.archive)
        if (found := self._queues.get(key)) is not None:
            return found
        new = self._queues[key] = _SenderQueue([], _limit_keys(item))
        for each in new.keys[:2]:
            self._queue_counts[each] += 1
            if each not in self._turns:
                self._turns[each] = self._next_turn()
        return new

    def _next_turn(self) -> int:
        self._last_turn += 1
        return self._last_turn

    def _end_turn(self, keys: _LimitKeys) -> None:
        """Let the organization and the sender of a served event wait behind all others."""
        for key in keys[:2]:
            self._turns[key] = self._next_turn()

    def _next_queue(self, concurrency_limits: ConcurrencyLimits) -> _SenderQueue | None:
        best: _SenderQueue | None = None
        best_rank: tuple[bool, int, int, int, int, str] | None = None
        counts, turns, empty = self._running_counts, self._turns, []
        for key, queue in self._queues.items():
            self._drop_stale_heads(queue.items)
            if not queue.items:
                empty.append(key)
                continue
            head, (organization, sender, _, _) = queue.items[0], queue.keys
            rank = (
                head.is_import,
                # ``get``, since a missing key of a Counter costs a call.
                counts.get(organization, 0),
                turns[organization],
                counts.get(sender, 0),
                turns[sender],
                head.sort_key,
            )
            if best_rank is not None and rank > best_rank:
                continue
            if self._has_room(head, queue.keys, _new_limits(head, concurrency_limits)):
                best, best_rank = queue, rank
        for key in empty:
            self._forget_queue(key)
        return best

    def _forget_queue(self, key: _QueueKey) -> None:
        queue = self._queues.pop(key)
        for each in queue.keys[:2]:
            self._queue_counts[each] -= 1
            if not self._queue_counts[each]:
                del self._queue_counts[each], self._turns[each]

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

    def _has_room(self, item: QueueItem, keys: _LimitKeys, limits: tuple[int, int, int, int]) -> bool:
        """Whether there is a place in each of these limits that the event does not have now."""
        counts, held = self._running_counts, self._held.get(item.event, ())
        for key, limit in zip(keys, limits, strict=True):
            if counts.get(key, 0) >= limit and key not in held:
                return False
        return True

    def _has_slot_of_process(self, item: QueueItem, limit: int, *, is_import: bool) -> bool:
        """Whether a running event has a slot of the process, or may take one before other namespaces."""
        if _PROCESS in self._held[item.event]:
            return True
        return self.slots.has_room(limit, is_import=is_import)


def _limits(item: QueueItem, limits: ConcurrencyLimits) -> tuple[int, int, int, int]:
    """Return the limits of an event in the order of its keys."""
    return (
        limits.organization.get(item.organization, DEFAULT_ORGANIZATION_LIMIT),
        limits.sender.get(item.organization, DEFAULT_SENDER_LIMIT),
        _archive_limit(item.archive, limits),
        limits.process,
    )


def _new_limits(item: QueueItem, limits: ConcurrencyLimits) -> tuple[int, int, int, int]:
    """Return the limits of an event that comes to them now: one of an Import leaves a part free."""
    organization, sender, archive, process = _limits(item, limits)
    if not item.is_import:
        return organization, sender, archive, process
    share = share_of_imports
    return share(organization), share(sender), share(archive), share(process)


def _archive_limit(archive: str, limits: ConcurrencyLimits) -> int:
    return limits.archive.get(archive, DEFAULT_ARCHIVE_LIMIT) if archive else limits.process


def _turn_keys(item: QueueItem) -> tuple[_Key, _Key]:
    return ("organization", item.organization), ("sender", f"{item.organization}/{item.sender}")


def _limit_keys(item: QueueItem) -> _LimitKeys:
    return (*_turn_keys(item), ("archive", item.archive), _PROCESS)

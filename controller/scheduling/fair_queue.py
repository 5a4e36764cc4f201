"""
The next event to run: pure bookkeeping over the due events, without a clock, a task or I/O.

Events wait in one queue per organization, sender and Archive, the oldest event first. Of the queues for one
Archive whose limits are not reached, one of the organization with the fewest running events there comes
first, and of its senders one with the fewest. Equal ones take turns. Archives are compared likewise, each by
the one of its queues with room whose organization and sender run the fewest in all. So a sender with a
thousand events fills its own queue and its own limit, and delays no other sender or organization, also on the
same archive or in a full process. Who is busy in one Archive has its share of each other one, and hides there
nobody who runs less. Two events of one envelope never run at the same time (rule 5).

Events of Imports have the lowest class: each other event that may run is served before them, and they leave a
quarter of each limit free for it.

A run that comes to another Archive changes its slot at once if there is room. Else it releases all of its
places, those of its organization and its sender as well, and takes all of them again or none. So a run that
waits for an Archive holds nothing that others need. The number of such runs is bounded, since each of them is
in memory. They and the queued events take turns in an Archive, so that neither keep the others waiting. If
the first of them lacks only a place of its organization or sender, it keeps one place of the Archive: an
organization at its limit and a full Archive never have room at the same moment.

The slots of the process are shared with the queues of other namespaces (``process_slots``).
"""

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from controller.scheduling.process_slots import NamespaceSlots, less_a_quarter

NO_ARCHIVE: Final = ""


class QueueItem(NamedTuple):
    """One event with the keys of its limits."""

    sort_key: str
    """Class, time and name; sorts other events before those of Imports, and then the oldest first."""
    event: str
    envelope: str
    organization: str
    sender: str
    archive: str
    """``NO_ARCHIVE``: no limit of an archive counts, as before routes have decided."""
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

_SenderKey = tuple[str, str]
"""Organization and sender: what distinguishes the queues for one Archive."""

_LimitKeys = tuple[_Key, _Key, _Key, _Key]
"""The limits of an event: of its organization, its sender, its Archive and the process."""

_TurnKeys = tuple[_Key, _Key, _Key, _Key]
"""The turns of an event: of its organization and sender in all Archives, and of both in its Archive."""

_Rank = tuple[bool, int, int, int, int, str]
"""The rank of a queue; the lowest one is served first."""

_PROCESS: Final[_Key] = ("process", "")

DEFAULT_ORGANIZATION_LIMIT = 16
DEFAULT_SENDER_LIMIT = 4
DEFAULT_ARCHIVE_LIMIT = 8


class _SenderQueue(NamedTuple):
    """The events of one organization and sender for one Archive."""

    items: list[QueueItem]
    """A heap: the first one has the lowest sort key."""
    keys: _LimitKeys
    """Stored, since each start looks at each queue for an Archive with room."""
    turns: _TurnKeys

    @property
    def is_import(self) -> bool:
        """Whether the next event is one of an Import."""
        return self.items[0].is_import


class _First(NamedTuple):
    """The queue of an Archive that is served next there."""

    rank: _Rank
    """The rank of the Archive among all: the lowest one, by all that they run, of its queues with room."""
    queue: _SenderQueue


@dataclass
class FairQueue:
    """The events of a namespace that are due and those that run."""

    slots: NamespaceSlots = field(default_factory=NamespaceSlots.alone)
    _queues: dict[str, dict[_SenderKey, _SenderQueue]] = field(default_factory=dict)
    """By Archive, so that a full one costs nothing, and delays no event for another one."""
    _queue_counts: Counter[_Key] = field(default_factory=Counter)
    """Number of the queues of each organization and sender, and of each in one Archive."""
    _queued_items: dict[str, QueueItem] = field(default_factory=dict)
    _running: dict[str, QueueItem] = field(default_factory=dict)
    _held: dict[str, tuple[_Key, ...]] = field(default_factory=dict)
    """By running event: the limits in which it has a place now, and what its organization and sender are
    ranked by."""
    _returning: dict[str, None] = field(default_factory=dict)
    """Running events whose pause has ended, and that wait for their slots, in order."""
    _waiting: dict[str, None] = field(default_factory=dict)
    """Running events that gave all of their places back, until there is room in an Archive, in order."""
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
        """Yield events while the limits allow, in a fair order: those that start, and those that run and have
        all of their places again (``resume``, ``wait``)."""
        self._claim_nothing()
        while self._running_counts[_PROCESS] < concurrency_limits.process:
            item = self._next(concurrency_limits)
            if item is None:
                return
            yield item

    def resumed(self, concurrency_limits: ConcurrencyLimits) -> list[QueueItem]:
        """Let those that run have their places again, and start no event."""
        self._claim_nothing()
        events = [*self._returning, *self._waiting]
        return [self._running[each] for each in events if self._has_resumed(each, concurrency_limits)]

    def claim(self, concurrency_limits: ConcurrencyLimits) -> None:
        """Wait for a slot of the process if an event only lacked that in ``take`` or ``resumed``; else leave
        free ones to others."""
        lacking = list(self._kept_out.values())
        if self._next_start is not None:
            lacking.append(self._next_start.is_import)
        if lacking:
            self.slots.claim(concurrency_limits.process, is_import=all(lacking))
        else:
            self.slots.claim_nothing()

    def _claim_nothing(self) -> None:
        self._next_start = None
        self._kept_out.clear()

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
        self._hold(moved, _places(moved))
        return True

    def wait(self, event: str, archive: str, concurrency_limits: ConcurrencyLimits) -> bool:
        """
        Let a running event give all of its places back and wait for this Archive; ``take`` ends that.

        False, and nothing changes, if enough runs wait: as many as may run in the process, or in the Archive
        unless it is the first one of its organization there.
        """
        item = self._running[event]._replace(archive=archive)
        beside = [each for each in map(self._running.__getitem__, self._waiting) if each.archive == archive]
        is_first = all(each.organization != item.organization for each in beside)
        if len(beside) >= _archive_limit(archive, concurrency_limits) and not is_first:
            return False
        if len(self._waiting) >= concurrency_limits.process:
            return False
        self._running[event] = item
        self._waiting[event] = None
        self._hold(item, ())
        return True

    def give_up(self, event: str) -> None:
        """End the wait of an event for its places."""
        self._returning.pop(event, None)
        self._kept_out.pop(event, None)
        if event in self._waiting:
            del self._waiting[event]
            self._hold(self._running[event], ())

    def resume(self, event: str, concurrency_limits: ConcurrencyLimits) -> bool:
        """Take the slots again that a paused event released. False: one is missing, and the event waits for
        all of them; ``take`` ends that."""
        self._returning[event] = None
        return self._has_resumed(event, concurrency_limits)

    def done(self, event: str) -> None:
        """The run of an event has ended."""
        item = self._running[event]
        self._hold(item, ())
        del self._running[event], self._held[event]
        self._returning.pop(event, None)
        self._waiting.pop(event, None)
        self._kept_out.pop(event, None)
        self.release(item.envelope)

    def _hold(self, item: QueueItem, keys: tuple[_Key, ...]) -> None:
        """Let a running event have a place in these limits, and in no others."""
        held = self._held.get(item.event, ())
        if _PROCESS in keys and _PROCESS not in held:
            self.slots.take(is_import=item.is_import)
        if _PROCESS in held and _PROCESS not in keys:
            self.slots.release(is_import=item.is_import)
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
        queues, key = self._queues.setdefault(item.archive, {}), (item.organization, item.sender)
        if (found := queues.get(key)) is not None:
            return found
        new = queues[key] = _SenderQueue([], _limit_keys(item), _turn_keys(item))
        for each in new.turns:
            self._queue_counts[each] += 1
            if each not in self._turns:
                self._turns[each] = self._next_turn()
        return new

    def _next_turn(self) -> int:
        self._last_turn += 1
        return self._last_turn

    def _next(self, concurrency_limits: ConcurrencyLimits) -> QueueItem | None:
        """Return the event that starts or resumes next; None: none has room."""
        for event in self._returning:
            if self._has_resumed(event, concurrency_limits):
                return self._running[event]
        firsts = self._first_queues(concurrency_limits)
        best = min(firsts.values(), key=lambda each: each.rank).queue if firsts else None
        kept = {self._running[each].archive for each in self._waiting if self._held[each]}
        for event in self._waiting:
            item = self._running[event]
            if item.is_import and best is not None and not best.is_import:
                continue
            rival = firsts.get(item.archive) if item.archive in self._turn_of_queue else None
            if rival is not None and rival.queue.is_import <= item.is_import:
                # The place is the queue's, and goes to no other Archive.
                if self._has_room(item, _limit_keys(item), _new_limits(item, concurrency_limits)):
                    return self._started(rival.queue, concurrency_limits)
            elif self._has_resumed(event, concurrency_limits):
                return item
            elif event in self._kept_out:
                continue
            elif item.archive not in kept and self._keeps_place(item, concurrency_limits):
                # The queue that comes first may need that place.
                return self._next(concurrency_limits)
        return self._started(best, concurrency_limits) if best is not None else None

    def _started(self, queue: _SenderQueue, concurrency_limits: ConcurrencyLimits) -> QueueItem | None:
        """Start the first event of a queue; None: other namespaces come first in the process. Its
        organization and its sender wait behind all others then."""
        if not self.slots.has_room(concurrency_limits.process, is_import=queue.is_import):
            self._next_start = queue.items[0]
            return None
        item = heapq.heappop(queue.items)
        for key in queue.turns:
            self._turns[key] = self._next_turn()
        del self._queued_items[item.event]
        self._running[item.event] = item
        self._blocked_by_envelope[item.envelope] = []
        self._turn_of_queue.discard(item.archive)
        self._hold(item, _places(item))
        return item

    def _has_resumed(self, event: str, concurrency_limits: ConcurrencyLimits) -> bool:
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
            del self._waiting[event]
            self._turn_of_queue.add(item.archive)
        self._returning.pop(event, None)
        self._hold(item, _places(item))
        return True

    def _keeps_place(self, item: QueueItem, concurrency_limits: ConcurrencyLimits) -> bool:
        """Keep a place of the Archive for a run that waits, if it lacks only one of its organization or
        sender. Never the only place, which others would miss as long as that lasts."""
        place, limit = ("archive", item.archive), _archive_limit(item.archive, concurrency_limits)
        if item.is_import or limit < 2 or self._running_counts[place] >= limit:
            return False
        self._hold(item, (place,))
        return True

    def _first_queues(self, concurrency_limits: ConcurrencyLimits) -> dict[str, _First]:
        """Return the queue that is served next in each Archive where one has room."""
        found = ((each, self._first_in(each, concurrency_limits)) for each in list(self._queues))
        return {archive: first for archive, first in found if first is not None}

    def _first_in(self, archive: str, concurrency_limits: ConcurrencyLimits) -> _First | None:
        """Return the queue for this Archive that is served next; None: none has room."""
        counts, turns = self._running_counts, self._turns
        if counts.get(("archive", archive), 0) >= _archive_limit(archive, concurrency_limits):
            return None
        first: _SenderQueue | None = None
        lowest_here: _Rank | None = None
        lowest: _Rank | None = None
        queues, empty = self._queues.get(archive, {}), []
        for key, queue in queues.items():
            self._drop_stale_heads(queue.items)
            if not queue.items:
                empty.append(key)
                continue
            head = queue.items[0]
            organization, sender, organization_here, sender_here = queue.turns
            is_import, sort_key = head.is_import, head.sort_key
            # ``get``, since a missing key of a Counter costs a call.
            here = (
                is_import,
                counts.get(organization_here, 0),
                turns[organization_here],
                counts.get(sender_here, 0),
                turns[sender_here],
                sort_key,
            )
            overall = (
                is_import,
                counts.get(organization, 0),
                turns[organization],
                counts.get(sender, 0),
                turns[sender],
                sort_key,
            )
            is_first = lowest_here is None or here < lowest_here
            is_lowest = lowest is None or overall < lowest
            if not (is_first or is_lowest):
                continue
            if not self._has_room(head, queue.keys, _new_limits(head, concurrency_limits)):
                continue
            if is_first:
                first, lowest_here = queue, here
            if is_lowest:
                lowest = overall
        for key in empty:
            self._forget_queue(archive, key)
        return _First(lowest, first) if first is not None and lowest is not None else None

    def _forget_queue(self, archive: str, key: _SenderKey) -> None:
        queue = self._queues[archive].pop(key)
        if not self._queues[archive]:
            del self._queues[archive]
        for each in queue.turns:
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
        """Whether the event has a place in each of these limits, or there is one."""
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
    share = less_a_quarter
    return share(organization), share(sender), share(archive), share(process)


def _archive_limit(archive: str, limits: ConcurrencyLimits) -> int:
    return limits.archive.get(archive, DEFAULT_ARCHIVE_LIMIT) if archive else limits.process


def _limit_keys(item: QueueItem) -> _LimitKeys:
    return (*_turn_keys(item)[:2], ("archive", item.archive), _PROCESS)


def _turn_keys(item: QueueItem) -> _TurnKeys:
    organization, sender = item.organization, f"{item.organization}/{item.sender}"
    return (
        ("organization", organization),
        ("sender", sender),
        (f"organization in {item.archive}", organization),
        (f"sender in {item.archive}", sender),
    )


def _places(item: QueueItem) -> tuple[_Key, ...]:
    """Return all that a run holds that waits for nothing."""
    return (*_limit_keys(item), *_turn_keys(item)[2:])

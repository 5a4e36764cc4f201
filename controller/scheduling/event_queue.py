"""
The events of the cache as items of the work queue: each with its limits' keys and its due time.

Handlers and the worker enqueue events here; ``due`` decides when, ``WorkQueue`` starts the work. Writes
nothing.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

from controller.cache import Cache
from controller.scheduling.due import EPOCH, WAITING_FOR_ARCHIVE, due_time, has_request, is_suspended
from controller.scheduling.fair_queue import NO_ARCHIVE, ConcurrencyLimits, QueueItem
from controller.scheduling.retry_policy import is_copy_due
from controller.scheduling.workqueue import WorkQueue
from counterfoil.clock import Clock, age, believed_time
from counterfoil.resources import IMPORT_LABEL, EnvelopeEvent, Origin, find_condition
from counterfoil.resources.reopening import (
    REDELIVERED,
    are_copies_requested,
    copies_after_end,
    has_new_delivery,
    is_called_after_end,
)
from counterfoil.resources.routes import copies_in_turn, stored_copy
from counterfoil.retention import has_open_question

_log = logging.getLogger(__name__)

CALLBACK_PAUSE = timedelta(minutes=1)
"""Pause between two runs of an event that callbacks start: each asks eSAW, and callbacks can be repeated."""

ENQUEUED_AT_ONCE: Final = 500
"""Events that are enqueued in one turn of the event loop: some 10 ms. Their number has no bound."""

LOOK_SECONDS: Final = 600.0
"""Interval at which events that are queued for a further Archive are looked at again: only time begins the
last day of eSAW's retention."""

QUESTION_SECONDS: Final = 3600.0
"""Pause between two runs of such an event that begin in its first Archive to ask eSAW the same, whether eSAW
answers or not."""

LONGEST_COPY_WAIT = timedelta(hours=1)
"""Time for which an event that had ended is queued for the Archive of a copy. Then its run begins in no
Archive and ends it as before, with or without the copy. Its late list, its time to live and its copies in
other Archives wait until then."""

IsFixed = Callable[[EnvelopeEvent], bool]
"""Whether the change of an object may have fixed what an event in this state waits for."""


@dataclass
class EventQueue:
    """Enqueues events at their due time."""

    cache: Cache
    workqueue: WorkQueue
    clock: Clock
    _due_now: set[str] = field(default_factory=set)
    """Events that are due at once, independent of their next attempt time, until a run stores its result."""
    _due_before_run: set[str] = field(default_factory=set)
    """Running events that were due at once."""
    _changes_in_run: dict[str, list[IsFixed]] = field(default_factory=dict)
    """The changes of objects since the run of an event began, by the name of the running event."""
    _called: dict[str, datetime] = field(default_factory=dict)
    """The callback that starts an event again, until its next run: a repeated one does not change its
    place."""
    _rest: dict[str, None] = field(default_factory=dict)
    """Names of the events that are enqueued in later turns of the event loop, in order."""
    _began: dict[str, datetime] = field(default_factory=dict)
    """When the last run of an event began that a callback started, the oldest first; also of events that
    ended in it."""
    _lacked: dict[str, list[str]] = field(default_factory=dict)
    """The Archives in which the last run of an event found no room, in order, by the name of the event."""
    _asked: dict[str, tuple[int, float]] = field(default_factory=dict)
    """The number of callbacks, and the monotonic time, with which the last run of an event began that could
    ask eSAW about a restarted envelope."""

    async def run(self) -> None:
        """Look again at the events that are queued for a further Archive, until cancelled."""
        while True:
            await self.clock.sleep(LOOK_SECONDS)
            known = self.cache.events
            self.enqueue_all(
                [each for each in known if each.name in self._lacked or copies_after_end(each.status)]
            )

    def enqueue(self, event: EnvelopeEvent) -> None:
        """Enqueue an event at its due time."""
        self.workqueue.enqueue_at(self._queue_item(event), self._due_time(event))

    def enqueue_all(self, events: Iterable[EnvelopeEvent]) -> None:
        """Enqueue events at their due times, and apply changed limits. Of many events, the rest follows in
        later turns of the event loop."""
        found = iter(events)
        for event in islice(found, ENQUEUED_AT_ONCE):
            self._enqueue_or_log(event)
        self.workqueue.wake()
        if rest := dict.fromkeys(event.name for event in found):
            if not self._rest:
                asyncio.get_running_loop().call_soon(self._enqueue_rest)
            self._rest.update(rest)

    def _enqueue_or_log(self, event: EnvelopeEvent) -> None:
        """Enqueue an event. An error concerns this one only, and must end no task that enqueues all."""
        try:
            self.enqueue(event)
        except Exception:
            _log.exception("an event could not be enqueued: %s", event.name)

    def _enqueue_rest(self) -> None:
        for name in list(islice(self._rest, ENQUEUED_AT_ONCE)):
            del self._rest[name]
            if (event := self.cache.events.get(name)) is not None:
                self._enqueue_or_log(event)
        self.workqueue.wake()
        if self._rest:
            asyncio.get_running_loop().call_soon(self._enqueue_rest)

    def enqueue_known(self) -> None:
        """Enqueue all known events again: the clock was set."""
        self.enqueue_all(self.cache.events)

    def enqueue_after(self, name: str, seconds: float) -> None:
        """Enqueue an event at its due time, but not before this pause has ended."""
        event = self.cache.events.get(name)
        if event is not None:
            due, earliest = self._due_time(event), self.clock.now() + timedelta(seconds=seconds)
            self.workqueue.enqueue_at(self._queue_item(event), None if due is None else max(due, earliest))

    def mark_due_now(self, events: Iterable[EnvelopeEvent], is_fixed: IsFixed) -> None:
        """
        Let those of the events be due at once that wait for what was changed.

        A running event may have examined the object before the change: the state that its run stores decides.
        """
        for event in events:
            if event.name in self._changes_in_run:
                self._changes_in_run[event.name].append(is_fixed)
            elif is_fixed(event):
                self._due_now.add(event.name)

    def run_began(self, name: str) -> None:
        """Let the event's next attempt time count again, unless the run stores nothing."""
        if name in self._due_now:
            self._due_now.discard(name)
            self._due_before_run.add(name)
        self._changes_in_run[name] = []
        self._called.pop(name, None)
        self._forget_wait(name)
        event = self.cache.events.get(name)
        if event is not None and self._has_question(event):
            self._asked[name] = event.deliveries, self.clock.monotonic()
        now = self.clock.now()
        if event is not None and _is_started_by_callback(event, now):
            self._forget_pauses(now)
            self._began.pop(name, None)
            self._began[name] = now

    def run_ended(self, event: EnvelopeEvent) -> None:
        """Let the event be due at once if it waits in this state for what was changed during its run."""
        self._due_before_run.discard(event.name)
        changes = self._changes_in_run.pop(event.name)
        if event.name not in self.cache.events:
            # It was deleted during the run.
            self._forget_wait(event.name)
        elif any(is_fixed(event) for is_fixed in changes):
            self._due_now.add(event.name)

    def run_stored_nothing(self, event: EnvelopeEvent) -> None:
        """Let an event be due as before whose run did not begin, broke off, or only corrected a label."""
        is_due_now = event.name in self._due_before_run
        self.run_ended(event)
        if is_due_now and event.name in self.cache.events:
            self._due_now.add(event.name)

    async def chosen(
        self, name: str, archive: str, longest: timedelta, before_wait: Callable[[], None]
    ) -> bool:
        """Let a running event continue under the limit of the Archive that it has chosen, and wait for that
        at most this time; ``before_wait`` is called before. False: the run has to end."""
        has_room = await self.workqueue.move(name, archive, longest, before_wait)
        if not has_room:
            self._lacked.setdefault(name, []).append(archive)
        return has_room

    def has_slot(self, name: str, archive: str) -> bool:
        """Whether a running event has a slot of this Archive now."""
        return self.workqueue.has_slot(name, archive)

    def paused(self, name: str) -> AbstractAsyncContextManager[None]:
        """Release the slots of a running event while it waits for its eSAW."""
        return self.workqueue.paused(name)

    def forget(self, name: str) -> None:
        """Remove an event that is finished or deleted."""
        self.workqueue.forget(name)
        self._due_now.discard(name)
        self._called.pop(name, None)
        self._forget_wait(name)

    def _forget_wait(self, name: str) -> None:
        """Forget which Archives had no room for an event, and what it asked eSAW last."""
        self._lacked.pop(name, None)
        self._asked.pop(name, None)

    def _due_time(self, event: EnvelopeEvent) -> datetime | None:
        if event.name in self._due_now and not (is_suspended(event, self.cache) or has_request(event)):
            return EPOCH
        now = self.clock.now()
        due = due_time(event, self.cache, now)
        began = believed_time(self._began.get(event.name), now)
        if due is None or began is None or not _is_started_by_callback(event, now):
            return due
        return max(due, began + CALLBACK_PAUSE)

    def _forget_pauses(self, now: datetime) -> None:
        """Remove the pauses that have ended."""
        for name, began in list(self._began.items()):
            if age(began, now) <= CALLBACK_PAUSE:
                return
            del self._began[name]

    def _begin(self, event: EnvelopeEvent) -> datetime | None:
        """Return the time that decides the event's place: of its creation, or of the callback that starts it
        again. An old event that callbacks start again and again comes before no newer one."""
        created, now = event.metadata.creation_timestamp, self.clock.now()
        if not _is_started_by_callback(event, now):
            self._called.pop(event.name, None)
            return created
        called = believed_time(event.status.last_delivery_time, now) or now
        return self._called.setdefault(event.name, max(called, created or called))

    def is_background(self, event: EnvelopeEvent) -> bool:
        """Whether any other event comes before this one. Its work also waits for that of the others."""
        # An Import marks the events that it creates and those that it starts again.
        may_wait = IMPORT_LABEL in event.metadata.labels or _is_copied_later(event)
        if event.spec.origin is Origin.IMPORT:
            return True
        return may_wait and not _is_started_by_callback(event, self.clock.now())

    def _queue_item(self, event: EnvelopeEvent) -> QueueItem:
        begin, is_import = self._begin(event), self.is_background(event)
        return QueueItem(
            sort_key=f"{int(is_import)} {begin.isoformat() if begin else ''} {event.name}",
            event=event.name,
            envelope=event.spec.envelope_id,
            organization=event.organization,
            sender=self.cache.sender_name(event),
            archive=self._slot(event),
            is_import=is_import,
        )

    def _slot(self, event: EnvelopeEvent) -> str:
        """
        Return the Archive in whose limit the next run begins; ``NO_ARCHIVE``: it is not known.

        That is the first one, as only the run determines what is to do, and comes to the others after it. An
        event that found no room in another one, nor among those that wait for it, is queued there while it
        needs that. Without that, thousands of events would begin again and again. Their questions to eSAW
        wait for no copy. An event that had ended asks eSAW nothing, and its one run begins where a copy
        is made. That run also lets a callback start it again, which waits for no copy. Once it waited for
        long enough, its run needs no Archive to begin.
        """
        name, first = event.name, self.cache.archive_name(event)
        if copies_after_end(event.status):
            waited = self._copy_wait(event)
            if waited >= LONGEST_COPY_WAIT:
                return NO_ARCHIVE
            is_called = is_called_after_end(event.status, now=self.clock.now())
            return first if is_called else self._open_copy(event, waited) or first
        lacked = self._needed(event) if event.status.reason == WAITING_FOR_ARCHIVE else None
        if lacked is None:
            return first
        now, asked = self.clock.monotonic(), self._asked.get(name)
        is_new = asked is None or asked[0] != event.deliveries or now - asked[1] >= QUESTION_SECONDS
        return first if is_new and self._has_question(event) else lacked

    def _copy_wait(self, event: EnvelopeEvent) -> timedelta:
        """Return how long an event that had ended is queued for its copies."""
        now, copied = self.clock.now(), find_condition(event.status.conditions, "Copied")
        # What started the copies set it. A time of a clock that was ahead must not extend the wait.
        asked = believed_time(copied.last_transition_time, now) if copied is not None else None
        return now - asked if asked is not None else LONGEST_COPY_WAIT

    def _open_copy(self, event: EnvelopeEvent, waited: timedelta) -> str | None:
        """Return the Archive of a copy for which an event that had ended is queued now: each one that is
        due for an equal part of the longest wait, as one of them may always be full."""
        organization, now = self.cache.organizations.get(event.organization), self.clock.now()
        if organization is None:
            return None
        names, retry = copies_in_turn(event.status, organization.spec), organization.spec.retry
        usable = [each for each in names if not self.cache.is_archive_suspended(each)]
        due = [each for each in usable if is_copy_due(stored_copy(event.status, each), retry, now=now)]
        chosen = due or usable
        return chosen[int(waited / LONGEST_COPY_WAIT * len(chosen))] if chosen else None

    def _needed(self, event: EnvelopeEvent) -> str | None:
        """Return the first Archive of a copy without room that the event still needs: a person may have
        removed or suspended it since. None: there is none. Its own Archive is known without that."""
        if not (lacked := self._lacked.get(event.name)):
            return None
        names, is_held = self.cache.awaited_copies(event), self.cache.is_archive_suspended
        return next((each for each in lacked if each in names and not is_held(each)), None)

    def _has_question(self, event: EnvelopeEvent) -> bool:
        organization = self.cache.organizations.get(event.organization)
        if organization is None or not organization.spec.copies:
            return False
        return has_open_question(event, organization.spec.retention, self.clock.now())


def _is_copied_later(event: EnvelopeEvent) -> bool:
    """Whether an Import or a person asked for copies of what was archived before: thousands of old events may
    be due at once, and each callback comes before them."""
    return are_copies_requested(event.status) or copies_after_end(event.status)


def _is_started_by_callback(event: EnvelopeEvent, now: datetime) -> bool:
    is_waiting = has_new_delivery(event) or event.status.reason == REDELIVERED
    return is_waiting or is_called_after_end(event.status, now=now)


def concurrency_limits(cache: Cache, process_limit: int) -> ConcurrencyLimits:
    """Return the limits as the Organizations and Archives define them now."""
    organizations = {each.name: each.spec.limits for each in cache.organizations}
    return ConcurrencyLimits(
        process=process_limit,
        organization={name: limits.concurrency for name, limits in organizations.items()},
        sender={name: limits.per_sender_concurrency for name, limits in organizations.items()},
        archive={each.name: each.spec.max_concurrency for each in cache.archives},
    )

"""
Count repeated callbacks of each event: in memory first, then about once a second in the event's status.

``count`` never waits and never fails, so no answer to eSAW depends on it. ``run`` reads each event, adds the
count and writes the status at the version that it read; so several receivers and the controller stay exact.
The first callback is the event's creation and needs no write.

``store`` stores a callback that re-opens its event, that the controller must consider, or that has new
parameters, and returns after that; then eSAW is answered (docs/decisions/0009). Those of one event that wait
for this at once are one write, so they do not conflict with each other. A killed process loses about a second
of counts; an orderly stop writes all counts first.
"""

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from random import Random
from types import MappingProxyType
from weakref import ref

import msgspec

from counterfoil.clock import Clock, believed_time
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError, Conflict, NotFound, Rejected, Unavailable
from counterfoil.kube.status import patch_status
from counterfoil.resources import EnvelopeEvent, EnvelopeEventStatus, Origin, ResourceInvalid
from counterfoil.resources.reopening import (
    REDELIVERED,
    is_started_by_callback,
    must_be_stored,
    status_for_first_attempt,
)
from counterfoil.untrusted.fair_slots import FairSlots
from webhook.receiver.later_parameters import new_parameters, with_parameters
from webhook.receiver.limits import ReceiverLimits

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PendingCount:
    """Callbacks of one event that are not written yet: their number, and the times of the first and the
    last."""

    count: int
    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True)
class UnconfirmedWrite:
    """A write without an answer: the number of callbacks in it, and the status after it if it was applied."""

    count: int
    deliveries: int | None
    last: datetime | None

    def is_applied_to(self, status: EnvelopeEventStatus) -> bool:
        """Whether the write was applied. The microsecond of the last callback identifies this receiver's
        write."""
        return (status.deliveries, status.last_delivery_time) == (self.deliveries, self.last)


@dataclass(eq=False, slots=True)
class WaitingDelivery:
    """A callback whose answer waits until it is stored."""

    received: datetime
    parameters: Mapping[str, str]
    is_alone: bool = False
    """Whether it gets a separate write: the API server refused one of it and others."""
    is_settled: bool = False
    problem: Exception | None = None
    """Why it is not stored, once it is settled."""

    def settle(self, problem: Exception | None = None) -> None:
        """End the wait."""
        self.is_settled, self.problem = True, problem


@dataclass(eq=False, slots=True)
class WaitingDeliveries:
    """The callbacks of one event that wait, oldest first."""

    deliveries: list[WaitingDelivery] = field(default_factory=list)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """The first that waits stores all of them. If it is cancelled, the next one does."""


class SharedCounting:
    """The room for counts and the turns to write them, which all namespaces of a receiver share."""

    def __init__(self, limits: ReceiverLimits) -> None:
        self._most = limits.pending_counts
        self._counters: list[ref[DeliveryCounter]] = []
        self.turns = FairSlots(limits.flush_writers)
        """One for each write; the namespaces share them."""

    def add(self, counter: "DeliveryCounter") -> None:
        """Let a counter share in it, as long as that exists."""
        self._counters.append(ref(counter, self._counters.remove))

    def has_room(self, counter: "DeliveryCounter") -> bool:
        """Whether this counter may remember one more event. One of several leaves a quarter to the
        others."""
        own = counter.pending_events
        if len(self._counters) == 1:
            return own < self._most
        counters = [each for each in (reference() for reference in self._counters) if each is not None]
        if sum(each.pending_events for each in counters) >= self._most:
            return False
        return own < max(1, self._most - self._most // 4)


class DeliveryCounter:
    """Counts the callbacks of one namespace in one receiver."""

    def __init__(
        self,
        kube: KubeClient,
        *,
        clock: Clock,
        random: Random,
        limits: ReceiverLimits,
        shared: SharedCounting | None = None,
    ) -> None:
        """``shared`` is that of all namespaces; None: there is only one."""
        self._shared = shared or SharedCounting(limits)
        self._shared.add(self)
        self._kube = kube
        self._clock = clock
        self._random = random
        self._limits = limits
        self._pending: dict[str, PendingCount] = {}
        self._in_progress: dict[str, PendingCount] = {}
        self._failed: dict[str, PendingCount] = {}
        """Counts of this round that could not be written. They come after all others in the next one."""
        self._unconfirmed: dict[str, UnconfirmedWrite] = {}
        self._waiting: dict[str, WaitingDeliveries] = {}
        self._is_full = False
        self._closing = asyncio.Event()

    @property
    def pending_events(self) -> int:
        """Number of events with callbacks that are not written yet."""
        return len(self._pending.keys() | self._failed.keys()) + len(self._in_progress)

    def count(self, name: str, received: datetime) -> None:
        """Count one more callback of an event."""
        if name in self._pending or self._shared.has_room(self):
            self._add_pending(name, PendingCount(1, received, received))
        elif not self._is_full:
            self._is_full = True
            _log.error(
                "%d events wait to be counted; deliveries of others stay uncounted", self.pending_events
            )

    async def store(
        self, name: str, received: datetime, parameters: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """
        Store a delivery that re-opens its event, that the controller must consider, or that has parameters
        that the event lacks. One whose status is refused is counted.

        Raises ``ApiError``, ``ResourceInvalid``.
        """
        waiting = self._waiting.setdefault(name, WaitingDeliveries())
        own = WaitingDelivery(received, parameters)
        waiting.deliveries.append(own)
        try:
            async with waiting.turn:
                if not own.is_settled:
                    await self._store_waiting(name, waiting.deliveries, own)
        finally:
            waiting.deliveries[:] = [each for each in waiting.deliveries if each is not own]
            if not waiting.deliveries and self._waiting.get(name) is waiting:
                del self._waiting[name]
        if own.problem is not None:
            raise own.problem

    async def _store_waiting(
        self, name: str, waiting: Sequence[WaitingDelivery], own: WaitingDelivery
    ) -> None:
        """Settle a delivery that waits, and those that wait with it."""

        def together() -> list[WaitingDelivery]:
            """Return those of the next write, also of those that came since the last one."""
            others = (each for each in waiting if not each.is_alone and not each.is_settled)
            return [own] if own.is_alone else list(others)

        problem: Exception = Conflict(409, "Conflict", "others kept writing to the event")
        for _ in range(self._limits.flush_conflicts):
            try:
                event = EnvelopeEvent.parse(await self._kube.get(EnvelopeEvent, name))
                stored = together()
                await self._store_together(event, stored)
            except Conflict:
                await self._sleep_before_retry()
            except Rejected as refusal:
                if len(stored) == 1:
                    self.count(name, own.received)
                    own.settle(refusal)
                    return
                # Perhaps for what one of them has.
                for each in stored:
                    each.is_alone = True
            except (ApiError, ResourceInvalid) as failure:
                problem = failure
                break
            else:
                return
        for each in together():
            each.settle(problem)

    async def _store_together(self, event: EnvelopeEvent, waiting: Sequence[WaitingDelivery]) -> None:
        """Store deliveries in one write and settle them; only count them if another one stored the same
        before. Raises ``ApiError``, ``ResourceInvalid``."""
        if event.metadata.deletion_timestamp is not None:
            raise Conflict(409, "Conflict", "the event is being deleted")
        name, status, now = event.name, event.status, self._clock.now()
        parameters: dict[str, str] = {}
        for each in waiting:
            parameters |= new_parameters(each.parameters, parameters)
        is_stored = any(must_be_stored(status, received=each.received, now=now) for each in waiting)
        if not is_stored and not new_parameters(parameters, event.parameters):
            for each in waiting:
                self.count(name, each.received)
                each.settle()
            return
        times = [each.received for each in waiting]
        counted = status_with(event, PendingCount(len(times), min(times), max(times)), now=now)
        after = with_parameters(event, counted, parameters, now=max(times))
        raw = await patch_status(self._kube, event, after)
        known = EnvelopeEvent.parse(raw).parameters if raw is not None else {}
        for each in waiting:
            is_dropped = raw is None or new_parameters(each.parameters, known)
            message = "it drops status.parameters. Apply the CustomResourceDefinitions of this version."
            each.settle(Rejected(200, "Dropped", message) if is_dropped else None)
        is_reopened = after.phase is not status.phase
        what = "re-opened an event" if is_reopened else "was stored for the controller"
        _log.info("a delivery %s", what, extra={"event": name})

    async def run(self) -> None:
        """Write what gathers, round after round; ends after ``close`` when nothing is left."""
        failures = 0
        while self._pending or not self._closing.is_set():
            failures = 0 if await self.flush() else failures + 1
            await self._pause(failures)

    def close(self) -> None:
        """Let ``run`` end as soon as everything is written. Nothing may be counted after this."""
        self._closing.set()

    async def flush(self) -> bool:
        """Write once everything that gathered so far; False: the API server is in trouble, and the rest
        waits. What can't be written alone waits too, behind the others."""
        gathered, self._pending = self._pending, {}
        queue = iter(gathered.items())
        async with asyncio.TaskGroup() as group:
            writers = [
                group.create_task(self._write_from(queue))
                for _ in range(min(self._limits.flush_writers, len(gathered)))
            ]
        rest = dict(queue)
        for name, pending_count in rest.items():
            self._add_pending(name, pending_count)
        failed, self._failed = self._failed, {}
        for name, pending_count in failed.items():
            self._add_pending(name, pending_count)
            self._pending[name] = self._pending.pop(name)
        self._is_full = False
        has_written = len(gathered) > len(failed) + len(rest)
        return all(writer.result() for writer in writers) and (has_written or not failed)

    async def _write_from(self, queue: Iterator[tuple[str, PendingCount]]) -> bool:
        """Write counts until none is left, or several requests in a row had no usable answer (False)."""
        failures = 0
        for name, pending_count in queue:
            self._in_progress[name] = pending_count
            async with self._shared.turns.slot(self._kube.namespace):
                try:
                    await self._write_one(name)
                    failures = 0
                except ApiError as problem:
                    _log.warning("deliveries could not be counted yet: %s", problem, extra={"event": name})
                    self._failed[name] = self._in_progress[name]
                    # An answer about this event says nothing about the others.
                    failures += isinstance(problem, Unavailable)
                finally:
                    rest = self._in_progress.pop(name)
                    if rest.count and name not in self._failed:
                        self._add_pending(name, rest)
                if failures >= self._limits.flush_failures:
                    return False
                if not self._closing.is_set():
                    await self._clock.sleep(self._limits.flush_spacing)
        return True

    async def _write_one(self, name: str) -> None:
        """Write one tally, or leave in ``_in_progress`` what has to wait. Raises ``ApiError``."""
        try:
            for _ in range(self._limits.flush_conflicts):
                try:
                    return await self._add(name)
                except Conflict:
                    await self._sleep_before_retry()
        except NotFound:
            _log.info("an event was deleted before its deliveries were counted", extra={"event": name})
            self._clear(name)
        except (ResourceInvalid, Rejected) as mismatch:
            _log.error("deliveries stay uncounted: %s", mismatch, extra={"event": name})
            self._clear(name)

    async def _add(self, name: str) -> None:
        """Add what is being written to the event as it is now. Raises ``Conflict`` when that was just
        over."""
        event = EnvelopeEvent.parse(await self._kube.get(EnvelopeEvent, name))
        pending_count = self._subtract_applied(event)
        if not pending_count.count:
            return
        status = status_with(event, pending_count, now=self._clock.now())
        try:
            await self._patch(event, status, pending_count.count)
        except Rejected as refusal:
            if status.phase is event.status.phase:
                raise
            # Of a re-opening that is refused, at least the count stays.
            _log.error("an event was not re-opened: %s", refusal, extra={"event": name})
            only_counted = counted(event, event.status, pending_count, now=self._clock.now())
            await self._patch(event, only_counted, pending_count.count)
        self._clear(name)

    async def _patch(self, event: EnvelopeEvent, status: EnvelopeEventStatus, count: int) -> None:
        """Write a status with this number of further callbacks. Raises ``ApiError``."""
        try:
            await patch_status(self._kube, event, status)
        except Unavailable:
            lost = UnconfirmedWrite(count, status.deliveries, status.last_delivery_time)
            self._unconfirmed[event.name] = lost
            raise

    async def _sleep_before_retry(self) -> None:
        """Wait a short random time before the next attempt after a conflict."""
        await self._clock.sleep(self._random.uniform(0.0, 0.05))

    def _subtract_applied(self, event: EnvelopeEvent) -> PendingCount:
        """Return what is being written, less what an unanswered write turns out to have written."""
        pending_count = self._in_progress[event.name]
        lost = self._unconfirmed.pop(event.name, None)
        if lost is not None and lost.is_applied_to(event.status):
            pending_count = replace(pending_count, count=pending_count.count - lost.count)
            self._in_progress[event.name] = pending_count
        return pending_count

    def _clear(self, name: str) -> None:
        """Nothing of this event is left to be written."""
        self._unconfirmed.pop(name, None)
        self._in_progress[name] = replace(self._in_progress[name], count=0)

    def _add_pending(self, name: str, added: PendingCount) -> None:
        known = self._pending.get(name)
        if known is not None:
            first, last = min(known.first, added.first), max(known.last, added.last)
            added = PendingCount(known.count + added.count, first, last)
        self._pending[name] = added

    async def _pause(self, failures: int) -> None:
        seconds = min(self._limits.flush_seconds * 2.0 ** min(failures, 10), self._limits.max_flush_interval)
        if self._closing.is_set():
            # The caller of close limits the total time.
            await self._clock.sleep(min(seconds, 0.2) if failures else 0.0)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()


def status_with(event: EnvelopeEvent, pending_count: PendingCount, *, now: datetime) -> EnvelopeEventStatus:
    """Return the event's status with a tally added, re-opened if its last delivery came after the last
    attempt of an ended event had begun."""
    status = event.status
    if is_started_by_callback(status, received=pending_count.last, now=now):
        message = f"eSignAnyWhere called again after the event was {status.phase}."
        status = status_for_first_attempt(status, reason=REDELIVERED, message=message, now=pending_count.last)
    return counted(event, status, pending_count, now=now)


def counted(
    event: EnvelopeEvent, status: EnvelopeEventStatus, pending_count: PendingCount, *, now: datetime
) -> EnvelopeEventStatus:
    """Return a status of ``event`` with a tally added. A time of the last delivery that is far after ``now``
    is replaced."""
    created = event.metadata.creation_timestamp if event.spec.origin is Origin.CALLBACK else None
    return msgspec.structs.replace(
        status,
        deliveries=event.deliveries + pending_count.count,
        first_delivery_time=status.first_delivery_time or created or pending_count.first,
        last_delivery_time=max(
            believed_time(status.last_delivery_time, now) or pending_count.last, pending_count.last
        ),
    )

"""
Counting how often eSAW called: repeated deliveries gather in memory and are written per event about once a second.

``count`` never waits and never fails, so no answer to eSAW depends on it. Behind it ``keep_writing`` reads each
event, adds what gathered and writes it back on condition that nobody else wrote in between; several receivers at once
and the controller thereby stay exact. The first delivery is the event's creation and needs no write.

A delivery that re-opens its event is more than a number: ``reopen`` returns when it is stored, and eSAW is answered
after that (docs/decisions/0009). What gathered is lost if the process is killed (a second's worth of counts); when it
ends in order, everything is written first.
"""

import asyncio
import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from random import Random
from typing import Any, Protocol

import msgspec

from counterfoil.clock import Clock
from counterfoil.cluster import ApiProblem, Conflict, NotFound, Raw, Refused, Unavailable
from counterfoil.resources import (
    EnvelopeEvent,
    EnvelopeEventStatus,
    Origin,
    Resource,
    ResourceInvalid,
    merge_patch,
    plain,
)
from counterfoil.resources.reopening import is_reopened_by_a_delivery, reopened
from webhook.limits import Limits

log = logging.getLogger(__name__)


class Events(Protocol):
    """What of ``counterfoil.cluster.Cluster`` is needed here."""

    async def get(self, kind: type[Resource], name: str) -> Raw:
        """Return one object. Raises ``NotFound``."""
        ...

    async def patch_status(
        self, kind: type[Resource], name: str, status: Mapping[str, Any], *, resource_version: str | None
    ) -> Raw:
        """Merge into the object's status if it is still at that version. Raises ``Conflict``."""
        ...


@dataclass(frozen=True, slots=True)
class Tally:
    """Deliveries of one event that are not written yet: how many, and when the first and the last one came."""

    count: int
    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A write whose answer was lost: how many deliveries it counted, and what the status has if it arrived."""

    count: int
    deliveries: int | None
    last: datetime | None

    def is_in(self, status: EnvelopeEventStatus) -> bool:
        """Whether it arrived. The last delivery's microsecond tells our write from another receiver's."""
        return (status.deliveries, status.last_delivery) == (self.deliveries, self.last)


class Deliveries:
    """The tallies of one receiver."""

    def __init__(self, cluster: Events, *, clock: Clock, random: Random, limits: Limits) -> None:
        self._cluster = cluster
        self._clock = clock
        self._random = random
        self._limits = limits
        self._waiting: dict[str, Tally] = {}
        self._being_written: dict[str, Tally] = {}
        self._unanswered: dict[str, Unanswered] = {}
        self._is_full = False
        self._closing = asyncio.Event()

    @property
    def waiting(self) -> int:
        """How many events have deliveries that are not written yet."""
        return len(self._waiting) + len(self._being_written)

    def count(self, name: str, received: datetime) -> None:
        """Count one more delivery of an event."""
        before = self._waiting.get(name)
        if before is not None:
            self._waiting[name] = _together(before, Tally(1, received, received))
        elif self.waiting < self._limits.tallies:
            self._waiting[name] = Tally(1, received, received)
        elif not self._is_full:
            self._is_full = True
            log.error("%d events wait to be counted; deliveries of others stay uncounted", self.waiting)

    async def reopen(self, name: str, received: datetime) -> None:
        """
        Count a delivery of an event that it re-opens, and return when that is stored.

        If another one has re-opened it meanwhile, this one is counted like any other. Raises ``ApiProblem``,
        ``ResourceInvalid``.
        """
        for _ in range(self._limits.flush_conflicts):
            event = EnvelopeEvent.parse(await self._cluster.get(EnvelopeEvent, name))
            if not _reopens(received, event.status):
                self.count(name, received)
                return
            try:
                await self._patch(event, counted(event, Tally(1, received, received)))
            except Conflict:
                await self._a_moment()
            else:
                log.info("a delivery re-opened an event", extra={"event": name})
                return
        raise Conflict(409, "Conflict", "others kept writing to the event")

    async def keep_writing(self) -> None:
        """Write what gathers, round after round; ends after ``close`` when nothing is left."""
        failures = 0
        while self._waiting or not self._closing.is_set():
            failures = 0 if await self.write() else failures + 1
            await self._pause(failures)

    def close(self) -> None:
        """Let ``keep_writing`` end as soon as everything is written. Nothing may be counted after this."""
        self._closing.set()

    async def write(self) -> bool:
        """Write once everything that gathered so far; False: the API server is in trouble, and the rest waits."""
        gathered, self._waiting = self._waiting, {}
        queue = iter(gathered.items())
        async with asyncio.TaskGroup() as group:
            writers = [
                group.create_task(self._write_from(queue))
                for _ in range(min(self._limits.flush_writers, len(gathered)))
            ]
        for name, tally in queue:
            self._give_back(name, tally)
        self._is_full = False
        return all(writer.result() for writer in writers)

    async def _write_from(self, queue: Iterator[tuple[str, Tally]]) -> bool:
        for name, tally in queue:
            self._being_written[name] = tally
            try:
                await self._write_one(name)
            except ApiProblem as problem:
                log.warning("deliveries could not be counted yet: %s", problem, extra={"event": name})
                return False
            finally:
                rest = self._being_written.pop(name)
                if rest.count:
                    self._give_back(name, rest)
            if not self._closing.is_set():
                await self._clock.sleep(self._limits.flush_spacing)
        return True

    async def _write_one(self, name: str) -> None:
        """Write one tally, or leave in ``_being_written`` what has to wait. Raises ``ApiProblem``."""
        try:
            for _ in range(self._limits.flush_conflicts):
                try:
                    return await self._add(name)
                except Conflict:
                    await self._a_moment()
        except NotFound:
            log.info("an event was deleted before its deliveries were counted", extra={"event": name})
            self._settle(name)
        except (ResourceInvalid, Refused) as mismatch:
            log.error("deliveries stay uncounted: %s", mismatch, extra={"event": name})  # noqa: TRY400 - the message says it all
            self._settle(name)

    async def _add(self, name: str) -> None:
        """Add what is being written to the event as it is now. Raises ``Conflict`` when that was just over."""
        raw = await self._cluster.get(EnvelopeEvent, name)
        event = EnvelopeEvent.parse(raw)
        tally = self._without_what_arrived(event)
        if not tally.count:
            return
        status = counted(event, tally)
        try:
            await self._patch(event, status)
        except Unavailable:
            self._unanswered[name] = Unanswered(tally.count, status.deliveries, status.last_delivery)
            raise
        self._settle(name)

    async def _patch(self, event: EnvelopeEvent, status: EnvelopeEventStatus) -> None:
        await self._cluster.patch_status(
            EnvelopeEvent,
            event.name,
            merge_patch(plain(event.status), plain(status)),
            resource_version=event.metadata.resource_version,
        )

    async def _a_moment(self) -> None:
        """Let whoever was faster go ahead."""
        await self._clock.sleep(self._random.uniform(0.0, 0.05))

    def _without_what_arrived(self, event: EnvelopeEvent) -> Tally:
        """Return what is being written, less what an unanswered write turns out to have written."""
        tally = self._being_written[event.name]
        lost = self._unanswered.pop(event.name, None)
        if lost is not None and lost.is_in(event.status):
            tally = replace(tally, count=tally.count - lost.count)
            self._being_written[event.name] = tally
        return tally

    def _settle(self, name: str) -> None:
        """Nothing of this event is left to be written."""
        self._unanswered.pop(name, None)
        self._being_written[name] = replace(self._being_written[name], count=0)

    def _give_back(self, name: str, earlier: Tally) -> None:
        later = self._waiting.get(name)
        self._waiting[name] = earlier if later is None else _together(earlier, later)

    async def _pause(self, failures: int) -> None:
        seconds = min(self._limits.flush_seconds * 2.0 ** min(failures, 10), self._limits.longest_flush_pause)
        if self._closing.is_set():
            # Whoever closes also watches how long it takes.
            await self._clock.sleep(min(seconds, 0.2) if failures else 0.0)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()


def _together(one: Tally, other: Tally) -> Tally:
    return Tally(one.count + other.count, min(one.first, other.first), max(one.last, other.last))


def _reopens(received: datetime, status: EnvelopeEventStatus) -> bool:
    return is_reopened_by_a_delivery(status.phase, status.completed_at, received=received)


def counted(event: EnvelopeEvent, tally: Tally) -> EnvelopeEventStatus:
    """Return the event's status with a tally added, re-opened if its last delivery came after the event had ended."""
    status = event.status
    created = event.metadata.creation_timestamp if event.spec.origin is Origin.CALLBACK else None
    if _reopens(tally.last, status):
        message = f"eSignAnyWhere called again after the event was {status.phase}."
        status = reopened(status, reason="Redelivered", message=message, now=tally.last)
    return msgspec.structs.replace(
        status,
        deliveries=event.deliveries + tally.count,
        first_delivery=status.first_delivery or created or tally.first,
        last_delivery=max(status.last_delivery or tally.last, tally.last),
    )

"""
List the files of a kept envelope again, after the time in which eSAW may list further ones.

An event whose envelope stays in eSAW ends as soon as the listed files are archived. If it ended before
``spec.evidence.wait`` had passed, its ``status.nextAttemptTime`` is the end of that time. The garbage
collector reads each event and calls ``reopen_if_listed``. If eSAW lists further files by then, the event
starts again, and its run archives them. If not, only ``nextAttemptTime`` is removed.

This module archives nothing and decides nothing about the files.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from msgspec.structs import replace

from controller.telemetry.event_recorder import EventRecorder
from counterfoil.clock import Clock, believed_time
from counterfoil.esaw.errors import EsawError, EsawUnreachable, HttpStatusError, RateLimited
from counterfoil.esaw.evidence import lists_additional_files
from counterfoil.esaw.models import EnvelopeFile
from counterfoil.kube.errors import Forbidden, Rejected
from counterfoil.kube.status import StatusWriter, Superseded
from counterfoil.resources import EnvelopeEvent, EnvelopeEventStatus
from counterfoil.resources.reopening import reopened_status

_log = logging.getLogger(__name__)

OUTAGE_PAUSE = timedelta(minutes=10)
"""Pause before an eSAW that did not answer is asked again. The garbage collector asks one event at a time."""

LISTING_TIMEOUT = 30.0
"""Seconds after which a list is given up; it counts as an eSAW that did not answer."""

LISTING_BUDGET = 60.0
"""Seconds of the lists of one Organization; after them, its lists pause for ``OUTAGE_PAUSE``. The garbage
collector's pass over all Organizations waits for each list."""


@dataclass
class LateFileFinder:
    """Compares the archived files of kept envelopes with what eSAW lists later."""

    list_files: Callable[[EnvelopeEvent], Awaitable[Collection[EnvelopeFile] | None]]
    """Lists the files of an event's envelope; None: not possible now. Raises ``EsawError``, ``ApiError``."""
    status_writer: StatusWriter
    event_recorder: EventRecorder
    clock: Clock
    _pauses: dict[str, datetime] = field(default_factory=dict)
    """By Organization: when its eSAW is asked again."""
    _spent: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """By Organization: seconds of its lists since its last pause."""

    async def reopen_if_listed(self, event: EnvelopeEvent) -> EnvelopeEvent:
        """Re-open a finished event if eSAW lists files that were not archived; return its newest state."""
        if not self._is_due(event):
            return event
        try:
            listed = await self._list(event)
        except TimeoutError:
            _log.info("the list of the files took too long", extra={"event": event.name})
            self._pause(event)
            return event
        except EsawError as problem:
            is_missing = isinstance(problem, HttpStatusError) and problem.is_missing_envelope
            if not is_missing:
                self._note_outage(event, problem)
                return event
            # A person deleted the envelope: it lists nothing any more.
            return await self._store(event, replace(event.status, next_attempt_time=None))
        if listed is None:
            return event
        # A list that lacks an archived file is short; the file stays archived.
        if not lists_additional_files(event.status, listed):
            return await self._store(event, replace(event.status, next_attempt_time=None))
        message = "eSignAnyWhere lists files that were not archived; the event starts again."
        now = self.clock.now()
        status = reopened_status(event.status, reason="FilesListedLate", message=message, now=now)
        stored = await self._store(event, status)
        if stored is not event:
            self.event_recorder.record(stored, "FilesListedLate", message, action="Reopen")
        return stored

    async def _list(self, event: EnvelopeEvent) -> Collection[EnvelopeFile] | None:
        began, name = self.clock.monotonic(), event.organization
        try:
            async with asyncio.timeout(LISTING_TIMEOUT):
                return await self.list_files(event)
        finally:
            self._spent[name] += self.clock.monotonic() - began
            if self._spent[name] >= LISTING_BUDGET:
                self._pause(event)

    def _pause(self, event: EnvelopeEvent) -> None:
        self._pauses[event.organization] = self.clock.now() + OUTAGE_PAUSE
        self._spent.pop(event.organization, None)

    def _is_due(self, event: EnvelopeEvent) -> bool:
        status, now = event.status, self.clock.now()
        due, ended = status.next_attempt_time, status.completion_time
        if not status.phase.is_final or due is None or ended is None:
            return False
        if now < self._pauses.get(event.organization, now):
            return False
        return now >= due or believed_time(ended, now) is None

    def _note_outage(self, event: EnvelopeEvent, problem: EsawError) -> None:
        is_failing = isinstance(problem, HttpStatusError) and problem.status >= 500
        if is_failing or isinstance(problem, EsawUnreachable | RateLimited):
            self._pause(event)
        _log.info("the files are listed again later: %s", problem, extra={"event": event.name})

    async def _store(self, event: EnvelopeEvent, status: EnvelopeEventStatus) -> EnvelopeEvent:
        try:
            return await self.status_writer.store(event, status)
        except Superseded:
            return event
        except (Forbidden, Rejected) as refused:
            _log.warning("an event can't be changed: %s", refused, extra={"event": event.name})
            return event

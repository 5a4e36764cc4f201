"""
Requests by the label ``counterfoil.dev/request``: ``retry`` or ``skip``, also on finished events.

The main watch does not contain finished events, so requests have a separate watch by that label. A request is
carried out while no worker processes the envelope, then recorded as a Kubernetes Event with the person and
the reason, then its label is removed. In that order an interrupted request is repeated and not lost. Each
request is a separate task, so one that waits for a long transfer blocks no other.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec

from controller.scheduling.backoff import USER_REQUEST
from controller.telemetry.event_recorder import EventRecorder
from counterfoil.clock import Clock
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError, Conflict, NotFound, Rejected
from counterfoil.kube.status import StatusWriter, Superseded
from counterfoil.kube.watch import list_and_watch_forever
from counterfoil.resources import (
    REQUEST_BY_ANNOTATION,
    REQUEST_LABEL,
    REQUEST_REASON_ANNOTATION,
    EnvelopeEvent,
    EnvelopeEventStatus,
    Phase,
    ResourceInvalid,
    with_condition,
)
from counterfoil.resources.reopening import reopened_status

_log = logging.getLogger(__name__)

MAX_CONCURRENT_REQUESTS = 8
"""Maximum number of requests that are carried out at the same time; one label command can set thousands."""


@dataclass
class UserRequests:
    """Carries out requests of people."""

    kube: KubeClient
    status_writer: StatusWriter
    event_recorder: EventRecorder
    clock: Clock
    labels: str
    lock: Callable[[str], AbstractAsyncContextManager[None]]
    changed: Callable[[EnvelopeEvent], None]
    _pending: set[str] = field(default_factory=set)
    _semaphore: asyncio.Semaphore = field(default_factory=partial(asyncio.Semaphore, MAX_CONCURRENT_REQUESTS))

    async def run(self) -> None:
        """Watch the label until cancelled."""
        labels = ",".join(filter(None, (REQUEST_LABEL, self.labels)))
        async with asyncio.TaskGroup() as tasks:
            async for change in list_and_watch_forever(
                self.kube, EnvelopeEvent, labels=labels, on_error=_log_watch_error
            ):
                if change.type in ("ADDED", "MODIFIED"):
                    self._start(change.raw, tasks)

    def _start(self, raw: Mapping[str, Any], tasks: asyncio.TaskGroup) -> None:
        try:
            event = EnvelopeEvent.parse(raw)
        except ResourceInvalid as invalid:
            _log.error("a request is on an object that can't be read: %s", invalid)
            return
        # A repeated watch event of a pending request is ignored: carrying it out reads the event again.
        if event.name not in self._pending:
            self._pending.add(event.name)
            tasks.create_task(self._retry_until_carried_out(event), name=f"request {event.name}")

    async def _retry_until_carried_out(self, observed: EnvelopeEvent) -> None:
        for pause in USER_REQUEST:
            if await self._try_to_carry_out(observed):
                return
            self._pending.add(observed.name)
            await self.clock.sleep(pause)

    async def _try_to_carry_out(self, observed: EnvelopeEvent) -> bool:
        try:
            async with self.lock(observed.spec.envelope_id), self._semaphore:
                self._pending.discard(observed.name)
                await self._carry_out(observed)
        except (ApiError, Superseded) as problem:
            _log.warning("a request could not be carried out yet: %s", problem)
            return False
        except Exception:
            # The event waits for the request, so the request must not be lost.
            _log.exception("a request could not be carried out", extra={"event": observed.name})
            return False
        return True

    async def _carry_out(self, observed: EnvelopeEvent) -> None:
        try:
            event = EnvelopeEvent.parse(await self.kube.get(EnvelopeEvent, observed.name))
        except NotFound:
            return
        requested = event.metadata.labels.get(REQUEST_LABEL)
        if requested is None:
            return
        status, event_reason, note = self._decide(event, requested)
        stored = event
        if status != event.status:
            try:
                stored = await self.status_writer.store(event, status)
            except Rejected as refused:
                # The API server will refuse each repeated write.
                event_reason, note = "RequestRefused", f"; {refused}"
            self.changed(stored)
        self.event_recorder.record(
            stored, event_reason, _request_note(event, requested) + note, action="Request"
        )
        self.changed(await self._remove_label(stored))

    def _decide(self, event: EnvelopeEvent, requested: str) -> tuple[EnvelopeEventStatus, str, str]:
        """Return the new status, the reason of the Kubernetes Event, and an addition to its note."""
        phase = event.status.phase
        if requested == "retry" and phase is not Phase.SUCCEEDED:
            message, now = "A person asked to try again.", self.clock.now()
            status = reopened_status(event.status, reason="RetryRequested", message=message, now=now)
            return status, "RetryRequested", ""
        if requested == "skip" and phase not in (Phase.SUCCEEDED, Phase.SKIPPED):
            return self._skipped_status(event), "SkippedByRequest", ""
        is_known = requested in ("retry", "skip")
        note = "; nothing was left to do" if is_known else "; only retry and skip are known"
        return event.status, "RequestRefused", note

    def _skipped_status(self, event: EnvelopeEvent) -> EnvelopeEventStatus:
        now, generation, reason = self.clock.now(), event.metadata.generation, "SkippedByRequest"
        message = "A person gave this event up; the envelope stays in eSignAnyWhere."
        conditions = with_condition(
            event.status.conditions, "Ready", "False", reason, message, now=now, generation=generation
        )
        return msgspec.structs.replace(
            event.status,
            phase=Phase.SKIPPED,
            reason=reason,
            message=message,
            conditions=conditions,
            next_attempt_time=None,
            completion_time=now,
        )

    async def _remove_label(self, event: EnvelopeEvent) -> EnvelopeEvent:
        """Remove the label, unless a person has replaced it by another request meanwhile."""
        requested = event.metadata.labels[REQUEST_LABEL]
        while event.metadata.labels.get(REQUEST_LABEL) == requested:
            try:
                raw = await self.kube.patch(EnvelopeEvent, event.name, _label_removal(event))
            except Conflict:
                # A delivery was counted, for example.
                raw = await self.kube.get(EnvelopeEvent, event.name)
            event = EnvelopeEvent.parse(raw)
        return event


def _log_watch_error(problem: ApiError) -> None:
    _log.warning("requests can't be watched at the moment: %s", problem)


def _label_removal(event: EnvelopeEvent) -> dict[str, Any]:
    return {
        "metadata": {
            "labels": {REQUEST_LABEL: None},
            "annotations": {REQUEST_REASON_ANNOTATION: None, REQUEST_BY_ANNOTATION: None},
            "resourceVersion": event.metadata.resource_version,
        }
    }


def _request_note(event: EnvelopeEvent, requested: str) -> str:
    """Return the note; the person's name is unverified, so it is quoted (docs/decisions/0019)."""
    annotations = event.metadata.annotations
    by, reason = annotations.get(REQUEST_BY_ANNOTATION), annotations.get(REQUEST_REASON_ANNOTATION)
    name = f", in the name of {by}" if by else ""
    because = f", because: {reason}" if reason else ""
    return f"{requested!r} was asked for when the event was {event.status.phase}{name}{because}"

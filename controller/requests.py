"""
What a person asks for by the label ``counterfoil.dev/request``: ``retry`` or ``skip``, also on finished events.

The main watch does not see finished events, so requests have a small watch of their own by that label. A request is
carried out while nobody works on the envelope, told as a Kubernetes Event with who asked and why, and its label is
removed; in that order, so that one cut off in the middle is carried out again and not lost. Each is a task of its own:
one that waits for a long transfer holds up no other.
"""

import asyncio
import itertools
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec

from controller.announce import Announcer
from controller.clerk import Clerk, Overtaken
from counterfoil.clock import Clock
from counterfoil.cluster import ApiProblem, Cluster, Conflict, NotFound, Refused, follow_for_ever
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
from counterfoil.resources.reopening import reopened

_log = logging.getLogger(__name__)

AT_ONCE = 8
"""Requests that are carried out at the same time; one label command can set thousands."""

PAUSES = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds between tries while the API server is away or somebody else writes; the last one again and again."""


class Requests:
    """Carries out people's requests."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        clerk: Clerk,
        announcer: Announcer,
        clock: Clock,
        labels: str,
        exclusively: Callable[[str], AbstractAsyncContextManager[None]],
        changed: Callable[[EnvelopeEvent], None],
    ) -> None:
        self._cluster = cluster
        self._clerk = clerk
        self._announcer = announcer
        self._clock = clock
        self._labels = ",".join(part for part in (REQUEST_LABEL, labels) if part)
        self._exclusively = exclusively
        self._changed = changed
        self._waiting: set[str] = set()
        self._room = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        """Follow the label until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            async for change in follow_for_ever(
                self._cluster, EnvelopeEvent, labels=self._labels, trouble=self._trouble
            ):
                if change.type in ("ADDED", "MODIFIED"):
                    self._take(change.raw, tasks)

    def _trouble(self, problem: ApiProblem) -> None:
        _log.warning("requests can't be watched at the moment: %s", problem)

    def _take(self, raw: Mapping[str, Any], tasks: asyncio.TaskGroup) -> None:
        try:
            event = EnvelopeEvent.parse(raw)
        except ResourceInvalid as invalid:
            _log.error("a request is on an object that can't be read: %s", invalid)
            return
        # An event that is told again while its request waits or is carried out brings nothing new: what counts is
        # read when its turn comes.
        if event.name not in self._waiting:
            self._waiting.add(event.name)
            tasks.create_task(self._until_carried_out(event), name=f"request {event.name}")

    async def _until_carried_out(self, seen: EnvelopeEvent) -> None:
        for pause in itertools.chain(PAUSES, itertools.repeat(PAUSES[-1])):
            if await self._is_carried_out(seen):
                return
            self._waiting.add(seen.name)
            await self._clock.sleep(pause)

    async def _is_carried_out(self, seen: EnvelopeEvent) -> bool:
        try:
            async with self._exclusively(seen.spec.envelope_id), self._room:
                self._waiting.discard(seen.name)
                await self._carry_out(seen)
        except (ApiProblem, Overtaken) as problem:
            _log.warning("a request could not be carried out yet: %s", problem)
            return False
        except Exception:
            # The event waits for it, so it must not be forgotten.
            _log.exception("a request could not be carried out", extra={"event": seen.name})
            return False
        return True

    async def _carry_out(self, seen: EnvelopeEvent) -> None:
        try:
            event = EnvelopeEvent.parse(await self._cluster.get(EnvelopeEvent, seen.name))
        except NotFound:
            return
        wanted = event.metadata.labels.get(REQUEST_LABEL)
        if wanted is None:
            return
        status, told, note = self._answer(event, wanted)
        stored = event
        if status != event.status:
            try:
                stored = await self._clerk.store(event, status)
            except Refused as refused:
                # It will never be taken, however often it is asked for.
                told, note = "RequestRefused", f"; {refused}"
            self._changed(stored)
        self._announcer.tell(stored, told, _told(event, wanted) + note, action="Request")
        self._changed(await self._without_label(stored))

    def _answer(self, event: EnvelopeEvent, wanted: str) -> tuple[EnvelopeEventStatus, str, str]:
        """Return the new status, the reason to tell, and what else there is to say."""
        phase = event.status.phase
        if wanted == "retry" and phase is not Phase.SUCCEEDED:
            message = "A person asked to try again."
            now = self._clock.now()
            return (
                reopened(event.status, reason="RetryRequested", message=message, now=now),
                "RetryRequested",
                "",
            )
        if wanted == "skip" and phase not in (Phase.SUCCEEDED, Phase.SKIPPED):
            return self._skipped(event), "SkippedByRequest", ""
        known = (
            "; nothing was left to do" if wanted in ("retry", "skip") else "; only retry and skip are known"
        )
        return event.status, "RequestRefused", known

    def _skipped(self, event: EnvelopeEvent) -> EnvelopeEventStatus:
        now = self._clock.now()
        message = "A person gave this event up; the envelope stays in eSignAnyWhere."
        conditions = with_condition(
            event.status.conditions,
            "Ready",
            "False",
            reason="SkippedByRequest",
            message=message,
            now=now,
            generation=event.metadata.generation,
        )
        return msgspec.structs.replace(
            event.status,
            phase=Phase.SKIPPED,
            reason="SkippedByRequest",
            message=message,
            conditions=conditions,
            next_attempt_time=None,
            completed_at=now,
        )

    async def _without_label(self, event: EnvelopeEvent) -> EnvelopeEvent:
        """Take the label off, but not one that a person put on meanwhile and that asks for something else."""
        wanted = event.metadata.labels[REQUEST_LABEL]
        while event.metadata.labels.get(REQUEST_LABEL) == wanted:
            try:
                raw = await self._cluster.patch(EnvelopeEvent, event.name, _unlabelled(event))
            except Conflict:
                # A delivery was counted, for example.
                raw = await self._cluster.get(EnvelopeEvent, event.name)
            event = EnvelopeEvent.parse(raw)
        return event


def _unlabelled(event: EnvelopeEvent) -> dict[str, Any]:
    return {
        "metadata": {
            "labels": {REQUEST_LABEL: None},
            "annotations": {REQUEST_REASON_ANNOTATION: None, REQUEST_BY_ANNOTATION: None},
            "resourceVersion": event.metadata.resource_version,
        }
    }


def _told(event: EnvelopeEvent, wanted: str) -> str:
    """Say what was asked for; by whom is what somebody wrote there, so it is told as such (docs/decisions/0019)."""
    annotations = event.metadata.annotations
    by, reason = annotations.get(REQUEST_BY_ANNOTATION), annotations.get(REQUEST_REASON_ANNOTATION)
    name = f", in the name of {by}" if by else ""
    because = f", because: {reason}" if reason else ""
    return f"{wanted!r} was asked for when the event was {event.status.phase}{name}{because}"

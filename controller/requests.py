"""
What a person asks for by the label ``counterfoil.dev/request``: ``retry`` or ``skip``, also on finished events.

The main watch does not see finished events, so requests have a small watch of their own by that label. A request is
carried out while nobody works on the envelope, told as a Kubernetes Event with who asked and why, and its label is
removed; in that order, so that one cut off in the middle is carried out again and not lost.
"""

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import msgspec

from controller.announce import Announcer
from controller.clerk import Clerk, Overtaken
from counterfoil.clock import Clock
from counterfoil.cluster import ApiProblem, Cluster, NotFound, follow_for_ever
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

    async def run(self) -> None:
        """Follow the label until cancelled."""
        async for change in follow_for_ever(
            self._cluster, EnvelopeEvent, labels=self._labels, trouble=self._trouble
        ):
            if change.type in ("ADDED", "MODIFIED"):
                await self._carry_out_safely(change.raw)

    def _trouble(self, problem: ApiProblem) -> None:
        _log.warning("requests can't be watched at the moment: %s", problem)

    async def _carry_out_safely(self, raw: dict[str, object]) -> None:
        try:
            await self._carry_out(EnvelopeEvent.parse(raw))
        except (ApiProblem, Overtaken, ResourceInvalid) as problem:
            # The label is still there; the next change of the event or the next list brings it here again.
            _log.warning("a request could not be carried out yet: %s", problem)

    async def _carry_out(self, seen: EnvelopeEvent) -> None:
        async with self._exclusively(seen.spec.envelope_id):
            try:
                event = EnvelopeEvent.parse(await self._cluster.get(EnvelopeEvent, seen.name))
            except NotFound:
                return
            wanted = event.metadata.labels.get(REQUEST_LABEL)
            if wanted is None:
                return
            status, told = self._answer(event, wanted)
            stored = await self._clerk.store(event, status)
            self._announcer.tell(stored, told, _told(event, wanted), action="Request")
            self._changed(await self._without_label(stored))

    def _answer(self, event: EnvelopeEvent, wanted: str) -> tuple[EnvelopeEventStatus, str]:
        phase = event.status.phase
        if wanted == "retry" and phase is not Phase.SUCCEEDED:
            message = "A person asked to try again."
            return reopened(
                event.status, reason="RetryRequested", message=message, now=self._clock.now()
            ), "RetryRequested"
        if wanted == "skip" and phase not in (Phase.SUCCEEDED, Phase.SKIPPED):
            return self._skipped(event), "SkippedByRequest"
        # Nothing to do: it succeeded, it is skipped already, or the request is a word we do not know.
        return event.status, "RequestRefused"

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
        gone = {REQUEST_REASON_ANNOTATION: None, REQUEST_BY_ANNOTATION: None}
        raw = await self._cluster.patch(
            EnvelopeEvent,
            event.name,
            {
                "metadata": {
                    "labels": {REQUEST_LABEL: None},
                    "annotations": gone,
                    "resourceVersion": event.metadata.resource_version,
                }
            },
        )
        return EnvelopeEvent.parse(raw)


def _told(event: EnvelopeEvent, wanted: str) -> str:
    annotations = event.metadata.annotations
    by = annotations.get(REQUEST_BY_ANNOTATION, "somebody")
    reason = annotations.get(REQUEST_REASON_ANNOTATION)
    because = f" because: {reason}" if reason else ""
    return f"{by} asked for {wanted!r} when the event was {event.status.phase}{because}"

"""
Timeline: what happened to one event and when, oldest first. Pure: the event and the Kubernetes Events about
it in, moments out.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from counterfoil.resources import EnvelopeEvent
from counterfoil.resources.audit_annotation import audit_entries
from counterfoil.resources.conditions import PENDING


@dataclass(frozen=True, kw_only=True)
class TimelineEntry:
    """One thing that happened, or is going to. ``kind`` names its words."""

    when: datetime
    kind: str
    name: str = ""
    """A condition's type, a phase, a person's action or request, or the reason of a Kubernetes Event."""
    truth: str = ""
    """A condition's status, or the outcome of an attempt or of a request."""
    reason: str = ""
    text: str = ""
    count: int = 0


def timeline_entries(
    event: EnvelopeEvent, kubernetes_events: Iterable[Mapping[str, Any]] = ()
) -> tuple[TimelineEntry, ...]:
    """Return everything that has a time, in order."""
    found = [*_progress(event), *_from_kubernetes_events(kubernetes_events)]
    found += [
        TimelineEntry(when=act.when, kind="act", name=act.what, reason=act.who, text=act.why)
        for act in audit_entries(event.metadata.annotations)
    ]
    return tuple(sorted(found, key=lambda each: each.when))


def _progress(event: EnvelopeEvent) -> Iterable[TimelineEntry]:
    created, status = event.metadata.creation_timestamp, event.status
    if created is not None:
        yield TimelineEntry(when=created, kind="noted", name=event.spec.origin.value)
    if status.last_delivery_time is not None and event.deliveries > 1:
        yield TimelineEntry(when=status.last_delivery_time, kind="delivered", count=event.deliveries)
    if status.start_time is not None:
        yield TimelineEntry(when=status.start_time, kind="started")
    for each in status.conditions:
        if each.type == "Stalled" or each.reason == PENDING:
            # The page names who must act elsewhere, and a condition of the schema has no real time.
            continue
        when, text = each.last_transition_time, each.message
        yield TimelineEntry(
            when=when, kind="condition", name=each.type, truth=each.status, reason=each.reason, text=text
        )
    yield from _attempts(event)
    if status.completion_time is not None:
        yield TimelineEntry(when=status.completion_time, kind="completed", reason=status.reason or "")
    if status.next_attempt_time is not None and not status.phase.is_final:
        yield TimelineEntry(when=status.next_attempt_time, kind="next")


def _attempts(event: EnvelopeEvent) -> Iterable[TimelineEntry]:
    """Yield the last attempts, the last problem and the last request of a person."""
    status = event.status
    for attempt in status.attempt_history:
        yield TimelineEntry(
            when=attempt.start_time,
            kind="attempt",
            name=attempt.phase,
            truth=attempt.outcome,
            reason=attempt.reason,
            count=attempt.seconds,
        )
    if status.last_error is not None:
        error = status.last_error
        yield TimelineEntry(when=error.time, kind="problem", reason=error.reason, text=error.message)
    if status.last_request is not None:
        last = status.last_request
        yield TimelineEntry(
            when=last.handled_time,
            kind="request",
            name=last.request,
            truth=last.outcome,
            reason=last.by or "",
            text=last.reason or "",
        )


def _from_kubernetes_events(kubernetes_events: Iterable[Mapping[str, Any]]) -> Iterable[TimelineEntry]:
    for each in kubernetes_events:
        when = _time(each.get("eventTime") or each.get("deprecatedLastTimestamp"))
        # What a person did is on the object already, and tells it in the language of the page.
        if when is not None and each.get("action") != "Act":
            reason, note = str(each.get("reason") or ""), str(each.get("note") or "")
            yield TimelineEntry(when=when, kind="told", reason=reason, text=note)


def _time(text: Any) -> datetime | None:
    try:
        when = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return when if when.tzinfo is not None else None

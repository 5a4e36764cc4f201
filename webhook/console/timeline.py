"""Timeline: what happened to one event and when, oldest first. Pure: the event and the Kubernetes Events about it in, moments out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from counterfoil.resources import EnvelopeEvent
from counterfoil.resources.acting import acts_of


@dataclass(frozen=True, kw_only=True)
class Moment:
    """One thing that happened, or is going to. ``kind`` names its words."""

    when: datetime
    kind: str
    name: str = ""
    """A condition's type, what a person did, or the reason of a Kubernetes Event."""
    truth: str = ""
    reason: str = ""
    text: str = ""
    count: int = 0


def moments(event: EnvelopeEvent, told: Iterable[Mapping[str, Any]] = ()) -> tuple[Moment, ...]:
    """Return everything that has a time, in order."""
    found = [*_deliveries(event), *_progress(event), *_acts(event), *_told(told)]
    return tuple(sorted(found, key=lambda each: each.when))


def _deliveries(event: EnvelopeEvent) -> Iterable[Moment]:
    created, status = event.metadata.creation_timestamp, event.status
    if created is not None:
        yield Moment(when=created, kind="noted", name=event.spec.origin.value)
    if status.last_delivery is not None and event.deliveries > 1:
        yield Moment(when=status.last_delivery, kind="delivered", count=event.deliveries)


def _progress(event: EnvelopeEvent) -> Iterable[Moment]:
    status = event.status
    if status.started_at is not None:
        yield Moment(when=status.started_at, kind="started")
    for each in status.conditions:
        yield Moment(
            when=each.last_transition_time,
            kind="condition",
            name=each.type,
            truth=each.status,
            reason=each.reason,
            text=each.message,
        )
    if status.last_error is not None:
        error = status.last_error
        yield Moment(
            when=error.time, kind="attempt", reason=error.reason, text=error.message, count=status.attempts
        )
    if status.completed_at is not None:
        yield Moment(when=status.completed_at, kind="completed", reason=status.reason or "")
    if status.next_attempt_time is not None and not status.phase.is_final:
        yield Moment(when=status.next_attempt_time, kind="next")


def _acts(event: EnvelopeEvent) -> Iterable[Moment]:
    for act in acts_of(event.metadata.annotations):
        yield Moment(when=act.when, kind="act", name=act.what, reason=act.who, text=act.why)


def _told(told: Iterable[Mapping[str, Any]]) -> Iterable[Moment]:
    for each in told:
        when = _time(each.get("eventTime") or each.get("deprecatedLastTimestamp"))
        # What a person did is on the object already, and tells it in the language of the page.
        if when is not None and each.get("action") != "Act":
            yield Moment(
                when=when,
                kind="told",
                reason=str(each.get("reason") or ""),
                text=str(each.get("note") or ""),
            )


def _time(text: Any) -> datetime | None:
    try:
        when = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return when if when.tzinfo is not None else None

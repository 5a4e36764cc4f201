"""
Timeline: the history of one event, oldest first. Pure: the event and the Kubernetes Events about it in,
entries out.

Times in a status are whole seconds, so several entries often have the same time: these are in the order of
the phases. An attempt and the condition that it set are one entry, and no text is shown twice.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from counterfoil.resources import PHASE_CONDITIONS, Attempt, AttemptOutcome, EnvelopeEvent, Phase
from counterfoil.resources.audit_annotation import audit_entries
from counterfoil.resources.conditions import PENDING

_SUMMARIES: Final = frozenset({"Ready", "Stalled"})
"""Conditions for tools. The page itself shows the state of the event, and who must act."""

_PHASE_OF_CONDITION: Final[Mapping[str, Phase]] = {
    "Authorized": Phase.COLLECTING,
    **{condition: phase for phase, condition in PHASE_CONDITIONS.items()},
}

_FIRST_KINDS: Final = ("noted", "delivered", "started")
_PHASES: Final = tuple(Phase)
_FAILED: Final = frozenset({AttemptOutcome.WAIT, AttemptOutcome.NEED_CONSENT, AttemptOutcome.FAIL})


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
    event: EnvelopeEvent,
    kubernetes_events: Iterable[Mapping[str, Any]] = (),
    *,
    now: datetime,
    shown: Collection[str] = (),
) -> tuple[TimelineEntry, ...]:
    """Return everything that has a time, in order; ``shown`` are texts that the page has already."""
    acts = [
        TimelineEntry(when=act.when, kind="act", name=act.what, reason=act.who, text=act.why)
        for act in audit_entries(event.metadata.annotations)
    ]
    found = [*_progress(event, now), *acts]
    known = {each.text for each in found} | set(shown)
    found += (each for each in _from_kubernetes_events(kubernetes_events) if each.text not in known)
    return tuple(_without_repeated_texts(sorted(found, key=_order), shown))


def _order(entry: TimelineEntry) -> tuple[datetime, int]:
    when = entry.when.replace(microsecond=0)
    if entry.kind in _FIRST_KINDS:
        return when, _FIRST_KINDS.index(entry.kind)
    if entry.kind == "completed":
        return when, 100
    phase = _PHASE_OF_CONDITION.get(entry.name) if entry.kind == "condition" else entry.name
    if entry.kind in ("attempt", "condition") and phase in _PHASES:
        return when, 10 + 2 * _PHASES.index(Phase(phase)) + (entry.kind == "condition")
    # Mails, notices and actions of people follow the attempt that caused them.
    return when, 50


def _without_repeated_texts(
    entries: Iterable[TimelineEntry], shown: Collection[str]
) -> Iterator[TimelineEntry]:
    """Yield entries without the texts that are already on the page; a person's reason always stays."""
    seen = set(shown)
    for each in entries:
        is_repeated = each.text in seen and each.kind not in ("act", "request")
        seen.add(each.text)
        yield replace(each, text="") if is_repeated else each


def _progress(event: EnvelopeEvent, now: datetime) -> Iterator[TimelineEntry]:
    created, status = event.metadata.creation_timestamp, event.status
    if created is not None:
        yield TimelineEntry(when=created, kind="noted", name=event.spec.origin.value)
    if status.last_delivery_time is not None and event.deliveries > 1:
        yield TimelineEntry(when=status.last_delivery_time, kind="delivered", count=event.deliveries)
    if status.start_time is not None:
        yield TimelineEntry(when=status.start_time, kind="started")
    yield from _attempts_and_conditions(event)
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
    if status.completion_time is not None:
        yield TimelineEntry(when=status.completion_time, kind="completed", reason=status.reason or "")
    if status.next_attempt_time is not None and status.next_attempt_time > now and not status.phase.is_final:
        yield TimelineEntry(when=status.next_attempt_time, kind="next")


def _attempts_and_conditions(event: EnvelopeEvent) -> Iterator[TimelineEntry]:
    """Yield the attempts with what they changed, then what no attempt of the history explains."""
    status, error = event.status, event.status.last_error
    conditions = [
        each
        for each in status.conditions
        # A condition of the schema has no real time.
        if each.type not in _SUMMARIES and each.reason != PENDING
    ]
    last_failed = next((each for each in reversed(status.attempt_history) if each.outcome in _FAILED), None)
    is_explained = error is not None and last_failed is not None and last_failed.reason == error.reason
    for attempt in status.attempt_history:
        text = error.message if error is not None and is_explained and attempt is last_failed else ""
        for condition in [each for each in conditions if _is_set_by(attempt, each.type, each.status)]:
            if condition.reason == attempt.reason:
                conditions.remove(condition)
                text = text or condition.message
        yield TimelineEntry(
            when=attempt.start_time,
            kind="attempt",
            name=attempt.phase,
            truth=attempt.outcome,
            reason=attempt.reason,
            text=text,
            count=attempt.duration_seconds,
        )
    for each in conditions:
        yield TimelineEntry(
            when=each.last_transition_time,
            kind="condition",
            name=each.type,
            truth=each.status,
            reason=each.reason,
            text=each.message,
        )
    if error is not None and not is_explained:
        yield TimelineEntry(when=error.time, kind="problem", reason=error.reason, text=error.message)


def _is_set_by(attempt: Attempt, type_: str, truth: str) -> bool:
    """Whether an attempt set a condition: a success sets True, a failure sets the others."""
    is_done = attempt.outcome is AttemptOutcome.DONE
    return _PHASE_OF_CONDITION.get(type_) is attempt.phase and (truth == "True") is is_done


def _from_kubernetes_events(kubernetes_events: Iterable[Mapping[str, Any]]) -> Iterator[TimelineEntry]:
    for each in kubernetes_events:
        when = _time(each.get("eventTime") or each.get("deprecatedLastTimestamp"))
        # A person's action is on the object already, and is shown in the language of the page.
        if when is not None and each.get("action") != "Act":
            reason, note = str(each.get("reason") or ""), str(each.get("note") or "")
            yield TimelineEntry(when=when, kind="told", reason=reason, text=note)


def _time(text: Any) -> datetime | None:
    try:
        when = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return when if when.tzinfo is not None else None

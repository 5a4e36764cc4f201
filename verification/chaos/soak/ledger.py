"""
The ledger of the events: the result of each, although finished ones are removed by their time to live. Pure.

It gets the list of all events again and again. An event that is in it no more was removed; the state in which
it was seen last is its outcome.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from verification.chaos.checker import FINAL

Event = Mapping[str, Any]
"""An EnvelopeEvent, as the API server returns it."""


@dataclass
class Ledger:
    """All events of a run."""

    outcomes: Counter[str] = field(default_factory=Counter)
    """Number of events by phase and reason, as they were seen last."""
    removed: int = 0
    """Number of events that were removed by their time to live."""
    violations: list[str] = field(default_factory=list)
    _seen: dict[str, Event] = field(default_factory=dict)
    """The events that exist, by name, as they were seen last."""
    _closed: set[str] = field(default_factory=set)
    """Envelopes whose event was removed."""

    def update(self, listed: Iterable[Event]) -> list[Event]:
        """Take the list of all events; return those that were removed since the list before."""
        now = {each["metadata"]["name"]: each for each in listed}
        removed = [each for name, each in self._seen.items() if name not in now]
        for name, event in now.items():
            if name not in self._seen and envelope_of(event) in self._closed:
                self.violations.append(f"event {name}: it was made again after its removal")
        self._seen = now
        self.removed += len(removed)
        for event in removed:
            self._close(event)
        return removed

    def close_all(self) -> list[Event]:
        """Count all events that still exist; return them."""
        left = list(self._seen.values())
        for event in left:
            self._close(event)
        self._seen = {}
        return left

    def unfinished(self, envelopes: Iterable[str]) -> list[str]:
        """Return the envelopes that have no event, or one that has not ended, each with its state."""
        waiting = {envelope_of(each): _state(each) for each in self._seen.values() if not _is_final(each)}
        known = {envelope_of(each) for each in self._seen.values()} | self._closed
        missing = {each: "no event" for each in envelopes if each not in known}
        return [f"{envelope}: {state}" for envelope, state in sorted({**missing, **waiting}.items())]

    def _close(self, event: Event) -> None:
        self._closed.add(envelope_of(event))
        self.outcomes[_state(event)] += 1


def envelope_of(event: Event) -> str:
    """Return the id of the envelope of an event."""
    return str(event["spec"]["envelopeID"])


def _is_final(event: Event) -> bool:
    return event.get("status", {}).get("phase") in FINAL


def _state(event: Event) -> str:
    status = event.get("status", {})
    return f"{status.get('phase', 'Pending')} {status.get('reason', '')}".strip()

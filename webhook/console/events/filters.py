"""
Filters: which events a person wants to see, as the API server can choose them. Pure.

Phase, organization and envelope are selectable fields; sender and action are labels. An age is not: a page of
events is looked through for it, within bounds.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from counterfoil.resources import ACTION_LABEL, FINAL_PHASES, SENDER_LABEL, Phase, envelope_id, is_action
from counterfoil.resources.naming import action_label
from webhook.console.routes import is_name

UNFINISHED: Final = "unfinished"
"""Stands for all phases that are not final."""

AGES: Final[Mapping[str, timedelta]] = {
    "1h": timedelta(hours=1),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}

_EVENT = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}-[0-9a-f]{16}")
_MAX_TOKEN_LENGTH: Final = 4096
_CHECKS: Final[Mapping[str, Callable[[str], bool]]] = {
    "phase": lambda value: value == UNFINISHED or value in set(Phase),
    "organization": is_name,
    "sender": is_name,
    "action": is_action,
    "age": lambda value: value in AGES,
}
_NAMES: Final = (*_CHECKS, "text", "token")


@dataclass(frozen=True, kw_only=True)
class EventFilter:
    """Values to filter by; empty: all."""

    phase: str = ""
    organization: str = ""
    sender: str = ""
    action: str = ""
    age: str = ""
    """One of ``AGES``: no older than that."""
    text: str = ""
    """An envelope's GUID, or the name of an event."""
    token: str = ""
    """Continue token of the API server: where the page begins."""
    faults: tuple[str, ...] = ()
    """Names of what was filled in and can't be."""

    @property
    def fields(self) -> str:
        """The field selector."""
        parts = []
        if self.phase == UNFINISHED:
            parts += [f"status.phase!={phase}" for phase in sorted(FINAL_PHASES)]
        elif self.phase:
            parts.append(f"status.phase={self.phase}")
        if self.organization:
            parts.append(f"spec.organizationRef.name={self.organization}")
        if self.text and not self.event:
            parts.append(f"spec.envelopeID={self.text}")
        return ",".join(parts)

    @property
    def labels(self) -> str:
        """The label selector."""
        wanted = ((SENDER_LABEL, self.sender), (ACTION_LABEL, action_label(self.action)))
        return ",".join(f"{label}={value}" for label, value in wanted if value)

    @property
    def event(self) -> str:
        """The name of the one event that is asked for, or empty."""
        return self.text if _EVENT.fullmatch(self.text) else ""

    @property
    def is_set(self) -> bool:
        """Whether anything is chosen."""
        return any(getattr(self, name) for name in _NAMES if name != "token")

    def query(self, **changes: str) -> str:
        """Return it as the query of a link, with some of it changed."""
        given = {name: changes.get(name, getattr(self, name)) for name in _NAMES}
        return urlencode({name: value for name, value in given.items() if value})

    def is_young_enough(self, raw: Mapping[str, Any], now: datetime) -> bool:
        """Whether an event is no older than asked for."""
        if not self.age:
            return True
        created = datetime.fromisoformat(raw["metadata"]["creationTimestamp"])
        return now - created <= AGES[self.age]


def read(query: Mapping[str, str]) -> EventFilter:
    """Read what a person filled in; what can't be is left out and named in ``faults``."""
    text, faults = _text(query.get("text", ""))
    given = {name: query.get(name, "").strip() for name in _CHECKS}
    for name, is_good in _CHECKS.items():
        if given[name] and not is_good(given[name]):
            given[name] = ""
            faults = (*faults, name)
    token = query.get("token", "")
    given["token"] = token if len(token) <= _MAX_TOKEN_LENGTH else ""
    return EventFilter(**given, text=text, faults=faults)


def _text(text: str) -> tuple[str, tuple[str, ...]]:
    text = text.strip().lower()
    if not text or _EVENT.fullmatch(text):
        return text, ()
    try:
        return envelope_id(text), ()
    except ValueError:
        return "", ("text",)

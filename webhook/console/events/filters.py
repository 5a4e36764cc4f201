"""
Filters: which events a person wants to see. Pure.

The API server chooses by phase, organization and envelope (selectable fields), and by sender, action and
Import (labels). It can't choose by time, reason or text: for these, events are read and compared, within
bounds.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from urllib.parse import unquote, urlencode

from counterfoil.resources import (
    ACTION_LABEL,
    FINAL_PHASES,
    IMPORT_LABEL,
    SENDER_LABEL,
    EnvelopeEvent,
    Phase,
    envelope_id,
    is_action,
)
from counterfoil.resources.envelopeevent import DEADLINE_EXCEEDED
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

MIN_TEXT_LENGTH: Final = 3
MAX_TEXT_LENGTH: Final = 200
MAX_LABEL_LENGTH: Final = 63

_EVENT = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}-[0-9a-f]{16}")
_REASON = re.compile(r"[A-Z][A-Za-z0-9]{0,63}")
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_MINUTE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d", re.ASCII)
_MAX_TOKEN_LENGTH: Final = 4096


class EventOrder(StrEnum):
    """Orders of the list; the API server's own is by name."""

    NEWEST = "newest"
    OLDEST = "oldest"
    NEXT = "next"
    """By the time of the next attempt; events without one come last."""


class _TextKind(StrEnum):
    """Meaning of the text to search for."""

    NONE = "none"
    EVENT = "event"
    ENVELOPE = "envelope"
    EMAIL = "email"
    WORDS = "words"


_CHECKS: Final[Mapping[str, Callable[[str], bool]]] = {
    "phase": lambda value: value == UNFINISHED or value in set(Phase),
    "reason": lambda value: _REASON.fullmatch(value) is not None,
    "organization": is_name,
    "sender": is_name,
    "action": is_action,
    "imported": lambda value: is_name(value) and len(value) <= MAX_LABEL_LENGTH,
    "age": lambda value: value in AGES,
    "since": lambda value: _time(value) is not None,
    "until": lambda value: _time(value) is not None,
    "sort": lambda value: value in set(EventOrder),
    "text": lambda value: MIN_TEXT_LENGTH <= len(value) <= MAX_TEXT_LENGTH,
}
_NAMES: Final = (*_CHECKS, "token")


@dataclass(frozen=True, kw_only=True)
class EventFilter:
    """Values to filter by; empty: all."""

    phase: str = ""
    reason: str = ""
    organization: str = ""
    sender: str = ""
    action: str = ""
    imported: str = ""
    """Name of the Import that created them."""
    age: str = ""
    """One of ``AGES``: no older than that."""
    since: str = ""
    """A day, or a minute, in UTC: recorded then or later."""
    until: str = ""
    """A day, or a minute, in UTC: recorded before its end."""
    sort: str = ""
    """One of ``EventOrder``; empty: newest first where the whole list is known."""
    text: str = ""
    """A GUID, the name of an event, an e-mail address, or words."""
    token: str = ""
    """Continue token of the API server: where the page begins."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Invalid values that a person filled in, by the name of the field."""

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
        if self._text_kind is _TextKind.ENVELOPE:
            parts.append(f"spec.envelopeID={self.text}")
        return ",".join(parts)

    def labels(self, senders: frozenset[str] = frozenset()) -> str:
        """Return the label selector; ``senders`` are those whose e-mail address has the text, or none if the
        caller compares them."""
        wanted = (
            (SENDER_LABEL, self.sender),
            (ACTION_LABEL, action_label(self.action)),
            (IMPORT_LABEL, self.imported),
        )
        parts = [f"{label}={value}" for label, value in wanted if value]
        if self.is_for_email and senders:
            parts.append(f"{SENDER_LABEL} in ({','.join(sorted(senders))})")
        return ",".join(parts)

    @property
    def event(self) -> str:
        """The name of the one event that is asked for, or empty."""
        return self.text if self._text_kind is _TextKind.EVENT else ""

    @property
    def is_for_email(self) -> bool:
        """Whether the text is a part of an e-mail address."""
        return self._text_kind is _TextKind.EMAIL

    @property
    def is_for_words(self) -> bool:
        """Whether the text is compared with each event."""
        return self._text_kind is _TextKind.WORDS

    @property
    def is_compared(self) -> bool:
        """Whether events must be read and compared, because the API server can't choose them."""
        return self.is_for_words or any((self.age, self.since, self.until, self.reason))

    @property
    def is_set(self) -> bool:
        """Whether anything is chosen."""
        return any(getattr(self, name) for name in _NAMES if name not in ("token", "sort"))

    @property
    def is_narrowed(self) -> bool:
        """Whether anything but the text is chosen, or was refused."""
        return bool(self.refused) or any(getattr(self, name) for name in _CHECKS if name != "text")

    def shown(self, name: str) -> str:
        """Return what a field of the form shows: what was filled in, also if it was refused."""
        value: str = self.refused.get(name) or getattr(self, name)
        return value

    def query(self, **changes: str) -> str:
        """Return it as the query of a link, with some of it changed."""
        given = {name: changes.get(name, getattr(self, name)) for name in _NAMES}
        return urlencode({name: value for name, value in given.items() if value})

    def matches(self, raw: Mapping[str, Any], now: datetime, senders: frozenset[str] = frozenset()) -> bool:
        """Whether an event is one that is wanted, as far as it must be compared; ``senders`` are those whose
        name has the text."""
        return (
            self._is_in_time(raw, now)
            and self.reason in ("", _cause(raw))
            and (not self.is_for_words or self._has_words(raw, senders))
        )

    def names_sender(self, texts: tuple[str, ...]) -> bool:
        """Whether the text occurs in the name or the e-mail address of a sender."""
        return any(self.text.casefold() in text.casefold() for text in texts)

    def _is_in_time(self, raw: Mapping[str, Any], now: datetime) -> bool:
        if not (self.age or self.since or self.until):
            return True
        created = datetime.fromisoformat(raw["metadata"]["creationTimestamp"])
        since, until = _time(self.since), _time(self.until)
        return (
            (not self.age or now - created <= AGES[self.age])
            and (since is None or created >= since[0])
            and (until is None or created < until[1])
        )

    def _has_words(self, raw: Mapping[str, Any], senders: frozenset[str]) -> bool:
        spec, status = raw["spec"], raw.get("status") or {}
        wanted = self.text.casefold()
        texts = (
            spec["envelopeID"],
            (status.get("envelope") or {}).get("name") or "",
            # Its path is made from the values of tags.
            unquote((status.get("archive") or {}).get("manifest") or ""),
            *((status.get("archive") or {}).get("tags") or {}).values(),
            *(spec.get("parameters") or {}).values(),
            *(status.get("parameters") or {}).values(),
        )
        return sender_name(raw) in senders or any(wanted in text.casefold() for text in texts)

    @property
    def _text_kind(self) -> _TextKind:
        if not self.text:
            return _TextKind.NONE
        if _EVENT.fullmatch(self.text):
            return _TextKind.EVENT
        if _as_envelope(self.text):
            return _TextKind.ENVELOPE
        return _TextKind.EMAIL if "@" in self.text else _TextKind.WORDS


def read(query: Mapping[str, str]) -> EventFilter:
    """Read what a person filled in; what can't be is left out, and is in ``refused``."""
    given = {name: query.get(name, "").strip() for name in _CHECKS}
    lowered = given["text"].lower()
    given["text"] = lowered if _EVENT.fullmatch(lowered) else _as_envelope(lowered) or given["text"]
    filled = {name: value for name, value in given.items() if value}
    refused = {name: value for name, value in filled.items() if not _CHECKS[name](value)}
    since, until = _time(given["since"]), _time(given["until"])
    if since is not None and until is not None and since[0] >= until[1]:
        refused["until"] = given["until"]
    given |= dict.fromkeys(refused, "")
    token = query.get("token", "")
    given["token"] = token if len(token) <= _MAX_TOKEN_LENGTH else ""
    return EventFilter(**given, refused={name: text[:MAX_TEXT_LENGTH] for name, text in refused.items()})


def sorted_events(events: tuple[EnvelopeEvent, ...], order: EventOrder) -> tuple[EnvelopeEvent, ...]:
    """Return events in an order."""
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    if order is EventOrder.NEXT:
        return tuple(sorted(events, key=lambda each: _next_attempt(each) or last))
    by_age = sorted(events, key=lambda each: each.metadata.creation_timestamp or first)
    return tuple(by_age if order is EventOrder.OLDEST else reversed(by_age))


def sender_name(raw: Mapping[str, Any]) -> str:
    """Return the name of the Sender of a stored event as far as it is known; empty for unknown."""
    seen = (raw.get("status") or {}).get("envelope") or {}
    known: str | None = (seen.get("senderRef") or {}).get("name")
    return known or (raw["metadata"].get("labels") or {}).get(SENDER_LABEL, "")


def _next_attempt(event: EnvelopeEvent) -> datetime | None:
    return None if event.status.phase.is_final else event.status.next_attempt_time


def _cause(raw: Mapping[str, Any]) -> str:
    """Return the reason of a stored event, as ``EnvelopeEventStatus.cause`` does."""
    status = raw.get("status") or {}
    reason: str = status.get("reason") or ""
    if reason == DEADLINE_EXCEEDED:
        return (status.get("lastError") or {}).get("reason") or reason
    return reason


def _time(text: str) -> tuple[datetime, datetime] | None:
    """Return begin and end of a day or a minute in UTC; None for another text."""
    length = timedelta(days=1) if _DAY.fullmatch(text) else timedelta(minutes=1)
    if not (_DAY.fullmatch(text) or _MINUTE.fullmatch(text)):
        return None
    try:
        begin = datetime.fromisoformat(text).replace(tzinfo=UTC)
        return begin, begin + length
    except (ValueError, OverflowError):
        return None


def _as_envelope(text: str) -> str:
    try:
        return envelope_id(text)
    except ValueError:
        return ""

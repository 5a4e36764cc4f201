"""
What a person did to an object, as it stays recorded on it: the annotation ``counterfoil.dev/acts``. Pure.

The annotations of a request (``request-by``, ``request-reason``) go with its label once it is carried out, and Kubernetes
Events go after an hour; this stays with the object: the newest ``MAX_AUDIT_ENTRIES``, oldest first.

The chart has a policy by which a record only grows, by one act at its end, of whoever writes it (docs/decisions/0019). It
compares texts, so what stands there already is kept to the letter, and ``AUDIT_ANNOTATION_PATTERN`` is the form that both know.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from counterfoil.resources.base import GROUP, ResourcePart

ACTS_ANNOTATION: Final = f"{GROUP}/acts"
PROBE_ANNOTATION: Final = f"{GROUP}/probe"
"""On an Archive: another value there asks for a probe now."""
CONSENT_MAIL_ANNOTATION: Final = f"{GROUP}/ask"
"""On a Sender: when a person wanted the consent mail to be sent again (RFC 3339)."""

MAX_AUDIT_ENTRIES: Final = 10
MAX_AUDIT_TEXT_LENGTH: Final = 300

# What JSON's own escapes are not needed for is written as it is, so that each act has one text.
_TEXT_PATTERN = r'(?:[^"\\\x00-\x1f]|\\["\\bfnrt]|\\u00(?:0[0-7bef]|1[0-9a-f])){0,300}'
_TIME_PATTERN = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"
_ENTRY_PATTERN = rf'\{{"who":"{_TEXT_PATTERN}","what":"{_TEXT_PATTERN}","when":"{_TIME_PATTERN}"(?:,"why":"{_TEXT_PATTERN}")?\}}'
AUDIT_ANNOTATION_PATTERN: Final = rf"^\[{_ENTRY_PATTERN}(?:,{_ENTRY_PATTERN})*\]$"
"""A record as ``with_audit_entry`` writes it; also understood by RE2, in which the chart's policy has it."""


class AuditEntry(ResourcePart, frozen=True):
    """One thing that a person did."""

    who: str
    what: str
    when: datetime
    why: str = ""


def audit_entries(annotations: Mapping[str, str]) -> tuple[AuditEntry, ...]:
    """
    Return what is recorded, oldest first, within the bounds of ``with_audit_entry`` and with times in UTC.

    Where no policy holds, anybody who may edit the object may write there: a record that can't be read is none, and an act that
    can't be read, or at a time that nothing can be reckoned with, is left out.
    """
    try:
        found = msgspec.json.decode(annotations.get(ACTS_ANNOTATION, "[]"), type=tuple[msgspec.Raw, ...])
    except (msgspec.MsgspecError, RecursionError):
        return ()
    return tuple(entry for each in found[-MAX_AUDIT_ENTRIES:] if (entry := _parse_entry(each)) is not None)


def with_audit_entry(annotations: Mapping[str, str], entry: AuditEntry) -> dict[str, str]:
    """Return the annotation with one act more; what is no record in our form does not stay."""
    written = _written_entries(annotations.get(ACTS_ANNOTATION, ""))[-(MAX_AUDIT_ENTRIES - 1) :]
    bounded = _truncated(entry)
    added = [] if bounded is None else [msgspec.json.encode(bounded).decode()]
    return {ACTS_ANNOTATION: f"[{','.join([*written, *added])}]"}


def _written_entries(text: str) -> Sequence[str]:
    """Return the acts of a record as they are written, oldest first."""
    return re.findall(_ENTRY_PATTERN, text) if re.fullmatch(AUDIT_ANNOTATION_PATTERN, text) else ()


def _parse_entry(text: msgspec.Raw) -> AuditEntry | None:
    try:
        return _truncated(msgspec.json.decode(text, type=AuditEntry))
    except msgspec.MsgspecError:
        return None


def requested_at(annotations: Mapping[str, str], name: str) -> datetime | None:
    """Return the time in an annotation by which a person asks for something; None for none, or for what is no time."""
    try:
        when = datetime.fromisoformat(annotations.get(name, ""))
    except ValueError:
        return None
    return when if when.tzinfo is not None else None


def _truncated(entry: AuditEntry) -> AuditEntry | None:
    if entry.when.tzinfo is None:
        return None
    try:
        when = entry.when.astimezone(UTC).replace(microsecond=0)
    except OverflowError:
        # The first and the last hours of all years, in a zone in which they are none.
        return None
    return AuditEntry(
        who=entry.who[:MAX_AUDIT_TEXT_LENGTH],
        what=entry.what[:MAX_AUDIT_TEXT_LENGTH],
        when=when,
        why=entry.why[:MAX_AUDIT_TEXT_LENGTH],
    )

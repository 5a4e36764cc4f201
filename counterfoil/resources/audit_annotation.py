"""
The annotation ``counterfoil.dev/acts``: the record of people's actions on an object. Pure functions.

The annotations of a request (``request-by``, ``request-reason``) are removed with its label after the
request, and Kubernetes Events expire after an hour. This record stays: the newest ``MAX_AUDIT_ENTRIES``
entries, oldest first.

A policy of the chart allows a writer only to append one entry about themselves (docs/decisions/0019). It
compares texts, so existing entries keep their exact text. ``AUDIT_ANNOTATION_PATTERN`` is the format that
both use.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from counterfoil.resources.base import GROUP, ResourcePart

ACTS_ANNOTATION: Final = f"{GROUP}/acts"

MAX_AUDIT_ENTRIES: Final = 10
MAX_AUDIT_TEXT_LENGTH: Final = 300

# Characters that need no escape in JSON are not escaped, so that each entry has exactly one text.
_TEXT_PATTERN = r'(?:[^"\\\x00-\x1f]|\\["\\bfnrt]|\\u00(?:0[0-7bef]|1[0-9a-f])){0,300}'
_TIME_PATTERN = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"
_ENTRY_PATTERN = (
    rf'\{{"who":"{_TEXT_PATTERN}","what":"{_TEXT_PATTERN}","when":"{_TIME_PATTERN}"'
    rf'(?:,"why":"{_TEXT_PATTERN}")?\}}'
)
AUDIT_ANNOTATION_PATTERN: Final = rf"^\[{_ENTRY_PATTERN}(?:,{_ENTRY_PATTERN})*\]$"
"""Format of a record that ``with_audit_entry`` writes; also a valid RE2 pattern for the chart's policy."""


class AuditEntry(ResourcePart, frozen=True):
    """One action of a person."""

    who: str
    what: str
    when: datetime
    why: str = ""


def audit_entries(annotations: Mapping[str, str]) -> tuple[AuditEntry, ...]:
    """
    Return the recorded entries, oldest first, within the limits of ``with_audit_entry`` and with times in
    UTC.

    Without the policy, each editor of the object can write the annotation. An unreadable record counts as
    empty, and entries that are unreadable or have an impossible time are omitted.
    """
    try:
        found = msgspec.json.decode(annotations.get(ACTS_ANNOTATION, "[]"), type=tuple[msgspec.Raw, ...])
    except (msgspec.MsgspecError, RecursionError):
        return ()
    return tuple(entry for each in found[-MAX_AUDIT_ENTRIES:] if (entry := _parse_entry(each)) is not None)


def last_suspension(annotations: Mapping[str, str]) -> AuditEntry | None:
    """Return the entry about the suspension of an object that is suspended now; None if it was not recorded,
    as after an edit of the spec."""
    acts = [each for each in audit_entries(annotations) if each.what in ("suspend", "resume")]
    return acts[-1] if acts and acts[-1].what == "suspend" else None


def with_audit_entry(annotations: Mapping[str, str], entry: AuditEntry) -> dict[str, str]:
    """Return the annotation with one more entry. A record in another format is dropped."""
    written = _written_entries(annotations.get(ACTS_ANNOTATION, ""))[-(MAX_AUDIT_ENTRIES - 1) :]
    bounded = _truncated(entry)
    added = [] if bounded is None else [msgspec.json.encode(bounded).decode()]
    return {ACTS_ANNOTATION: f"[{','.join([*written, *added])}]"}


def _written_entries(text: str) -> Sequence[str]:
    """Return the texts of a record's entries, oldest first."""
    return re.findall(_ENTRY_PATTERN, text) if re.fullmatch(AUDIT_ANNOTATION_PATTERN, text) else ()


def _parse_entry(text: msgspec.Raw) -> AuditEntry | None:
    try:
        return _truncated(msgspec.json.decode(text, type=AuditEntry))
    except msgspec.MsgspecError:
        return None


def _truncated(entry: AuditEntry) -> AuditEntry | None:
    if entry.when.tzinfo is None:
        return None
    try:
        when = entry.when.astimezone(UTC).replace(microsecond=0)
    except OverflowError:
        # A time in the first or last hours of the supported years, which UTC cannot express.
        return None
    return AuditEntry(
        who=entry.who[:MAX_AUDIT_TEXT_LENGTH],
        what=entry.what[:MAX_AUDIT_TEXT_LENGTH],
        when=when,
        why=entry.why[:MAX_AUDIT_TEXT_LENGTH],
    )

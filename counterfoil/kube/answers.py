"""
Read answers of the API server: JSON of a known shape, and the lines of a watch.

A proxy, a login page or a cut connection may answer instead, so any bytes are possible. What is not the API
server's becomes ``Unavailable``. This module sends no requests.
"""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal, TypeVar

import msgspec

from counterfoil.kube.errors import Unavailable, api_error
from counterfoil.kube.watch import Raw, WatchEvent
from counterfoil.untrusted.json_bounds import JSON_ERRORS

PartialT = TypeVar("PartialT")


class _WatchLine(msgspec.Struct):
    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"]
    object: Raw


def decode_as(shape: type[PartialT], answer: bytes) -> PartialT:
    """Return the JSON of an answer. Raises ``Unavailable`` for an answer of another form."""
    try:
        return msgspec.json.decode(answer, type=shape)
    except JSON_ERRORS:
        # A proxy's page, or a truncated line: the API server itself sends JSON.
        raise foreign_answer("or was cut off") from None


def watch_event(line: bytes) -> WatchEvent:
    """Return the change in one line of a watch, with an object that has a version. Raises ``ApiError``: the
    error in the line, or ``Unavailable``."""
    payload = decode_as(_WatchLine, line)
    raw = payload.object
    if payload.type == "ERROR":
        code = raw.get("code")
        raise api_error(code if isinstance(code, int) else 500, line, None, creating=False)
    metadata = raw.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("resourceVersion"), str):
        raise foreign_answer("it sent a change without an object")
    return WatchEvent(payload.type, raw)


def foreign_answer(reason: str) -> Unavailable:
    """Return the error for an answer that is not the API server's."""
    return Unavailable(0, "NoAnswer", f"what answered is not the API server, {reason}")


def http_date(header: str | None) -> datetime | None:
    """Return the time in a ``Date`` header, in UTC; None for a header that is absent or no date."""
    try:
        date = parsedate_to_datetime(header or "")
    except ValueError:
        return None
    return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)

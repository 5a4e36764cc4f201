"""
Answers: what a route says, before the gate decides how (and whether) it reaches the client.

Faults that change what is said are applied here; those that change how it is sent are delivery's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from uuid import uuid4

import msgspec

from sandbox.esaw.content import Content, Inline
from sandbox.esaw.errors import EsawError, Refusal
from sandbox.esaw.faults import Fault, GarbageKind

JSON: Final = "application/json; charset=utf-8"
HTML: Final = "text/html; charset=utf-8"
_EMPTY: Final = Inline(b"")

_GARBAGE: Final[Mapping[GarbageKind, tuple[str, bytes]]] = {
    "json": (JSON, b'{"Id":"9f0c", "Documents":[{"FileId":'),
    "html": (
        HTML,
        b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in.</body></html>",
    ),
    "shape": (JSON, b'[{"id":42,"documents":"none","envelopeStatus":["Completed"]}]'),
    "empty": (JSON, b""),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer: status, headers, body."""

    status: int = 200
    body: Content = _EMPTY
    content_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    chunked: bool = False
    """Send it without Content-Length."""


def json_answer(body: Any, status: int = 200) -> Answer:
    """An answer with this JSON."""
    return Answer(status=status, body=Inline(msgspec.json.encode(body)), content_type=JSON)


def error_answer(status: int, error_id: str, message: str) -> Answer:
    """The error body of v6. The TraceId is another one each time, as are all true trace ids."""
    return json_answer({"ErrorId": error_id, "Message": message, "TraceId": str(uuid4())}, status)


def refusal_answer(error: EsawError) -> Answer:
    """How a refusal is answered."""
    return error_answer(error.status, error.error_id, error.message)


def ordered_answer(fault: Fault) -> Answer | None:
    """The answer that a fault orders in place of the true one; None if it orders none."""
    if fault.redirect is not None:
        return Answer(status=fault.status or 302, headers={"Location": fault.redirect})
    if fault.status is None:
        return None
    headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    if fault.status == 401:
        return Answer(status=401, headers=headers)
    general = Refusal.GENERAL
    answer = error_answer(fault.status, general.error_id, f"{general.error_id} - {general.text}")
    return replace(answer, headers=headers)


def spoiled(answer: Answer, kind: GarbageKind) -> Answer:
    """The answer with its body replaced by garbage."""
    content_type, body = _GARBAGE[kind]
    return replace(answer, content_type=content_type, body=Inline(body), headers={}, chunked=False)

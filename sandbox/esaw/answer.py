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
_PAGE_HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    # No form-action: browsers apply it to the redirect after a form, too, which here leads to other hosts.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}

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


def json_answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer with this JSON."""
    return Answer(
        status=status, body=Inline(msgspec.json.encode(body)), content_type=JSON, headers=headers or {}
    )


def error_answer(status: int, error_id: str, message: str) -> Answer:
    """The error body of v6. The TraceId is another one each time, as are all true trace ids."""
    return json_answer({"ErrorId": error_id, "Message": message, "TraceId": str(uuid4())}, status)


def refusal_answer(error: EsawError) -> Answer:
    """How a refusal is answered."""
    return error_answer(error.status, error.error_id, error.message)


def html_answer(page: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer with this HTML, which no cache keeps and no frame shows."""
    return Answer(
        status=status,
        body=Inline(page.encode()),
        content_type=HTML,
        headers={**_PAGE_HEADERS, **(headers or {})},
    )


def redirect_answer(location: str, headers: Mapping[str, str] | None = None) -> Answer:
    """The way to elsewhere, 302 as eSAW does it also after a POST."""
    return Answer(status=302, headers={"Location": location, "Cache-Control": "no-store", **(headers or {})})


def ordered_answer(fault: Fault) -> Answer | None:
    """The answer that a fault orders in place of the true one; None if it orders none."""
    if fault.redirect is not None:
        return Answer(status=fault.status or 302, headers={"Location": fault.redirect})
    if fault.status is None:
        return None
    headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    if fault.status == 401:
        return Answer(status=401, headers=headers)
    if fault.says is not None:
        members = ("ErrorId", "Message", "TraceId", "error", "error_description")
        return json_answer(dict.fromkeys(members, fault.says), fault.status, headers)
    general = Refusal.GENERAL
    answer = error_answer(fault.status, general.error_id, f"{general.error_id} - {general.text}")
    return replace(answer, headers=headers)


def spoiled(answer: Answer, fault: Fault) -> Answer:
    """The answer as the fault spoils it: its body replaced by garbage, or without one of its members."""
    if fault.garbage is not None:
        content_type, body = _GARBAGE[fault.garbage]
        return replace(answer, content_type=content_type, body=Inline(body), headers={}, chunked=False)
    if fault.lacks is not None and answer.content_type == JSON:
        members = msgspec.json.decode(b"".join(answer.body.chunks()))
        if isinstance(members, dict):
            left = {name: value for name, value in members.items() if name != fault.lacks}
            return replace(answer, body=Inline(msgspec.json.encode(left)))
    return answer

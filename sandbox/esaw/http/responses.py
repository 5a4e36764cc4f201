"""
Answers: what a route says, before the middleware decides how (and whether) it reaches the client.

Faults that change what is said are applied here; those that change how it is sent are delivery's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from uuid import uuid4

import msgspec

from sandbox.esaw.core.content import Content, Inline
from sandbox.esaw.core.errors import ErrorCode, RequestRefused
from sandbox.esaw.core.faults import GarbageKind, InjectedFault

JSON: Final = "application/json; charset=utf-8"
HTML: Final = "text/html; charset=utf-8"
BYTES: Final = "application/octet-stream"
_EMPTY: Final = Inline(b"")
_PAGE_HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    # No form-action: browsers apply it to the redirect after a form, too, which here leads to other hosts.
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"
    ),
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
    "text": (
        "text/plain",
        b"upstream connect error or disconnect/reset before headers. reset reason: overflow",
    ),
    "xml": (
        "application/xml",
        b'<?xml version="1.0"?><Fault xmlns="http://schemas.microsoft.com/ws/2005/05/envelope/none"/>',
    ),
    "error": (
        BYTES,
        b'{"ErrorId":"ERR0001","Message":"ERR0001 - A general error occurred.","TraceId":"0HN5C3Q2T7V9A"}',
    ),
    "nothing": (BYTES, b""),
    "oauth": (JSON, b'{"error":"invalid_request"}'),
}


@dataclass(frozen=True, slots=True)
class RouteResponse:
    """One HTTP answer: status, headers, body."""

    status: int = 200
    body: Content = _EMPTY
    content_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    chunked: bool = False
    """Send it without Content-Length."""


def json_response(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> RouteResponse:
    """An answer with this JSON."""
    return RouteResponse(
        status=status, body=Inline(msgspec.json.encode(body)), content_type=JSON, headers=headers or {}
    )


def error_response(status: int, error_id: str, message: str) -> RouteResponse:
    """The error body of v6. The TraceId is another one each time, as are all true trace ids."""
    return json_response({"ErrorId": error_id, "Message": message, "TraceId": str(uuid4())}, status)


def refused_response(error: RequestRefused) -> RouteResponse:
    """The response to a refused request."""
    return error_response(error.status, error.error_id, error.message)


def html_response(page: str, status: int = 200, headers: Mapping[str, str] | None = None) -> RouteResponse:
    """An answer with this HTML, which no cache keeps and no frame shows."""
    return RouteResponse(
        status=status,
        body=Inline(page.encode()),
        content_type=HTML,
        headers={**_PAGE_HEADERS, **(headers or {})},
    )


def redirect_response(location: str, headers: Mapping[str, str] | None = None) -> RouteResponse:
    """The way to elsewhere, 302 as eSAW does it also after a POST."""
    return RouteResponse(
        status=302, headers={"Location": location, "Cache-Control": "no-store", **(headers or {})}
    )


def fault_response(fault: InjectedFault) -> RouteResponse | None:
    """The answer that a fault orders in place of the true one; None if it orders none."""
    if fault.redirect is not None:
        return RouteResponse(status=fault.status or 302, headers={"Location": fault.redirect})
    if fault.status is None:
        return None
    headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    if fault.status == 401:
        return RouteResponse(status=401, headers=headers)
    if fault.bare:
        content_type, page = _GARBAGE[fault.garbage or "html"]
        return RouteResponse(
            status=fault.status, body=Inline(page), content_type=content_type, headers=headers
        )
    if fault.says is not None:
        members = ("ErrorId", "Message", "TraceId", "error", "error_description")
        return json_response(dict.fromkeys(members, fault.says), fault.status, headers)
    general = ErrorCode.GENERAL
    route_response = error_response(fault.status, general.error_id, f"{general.error_id} - {general.text}")
    return replace(route_response, headers=headers)


def with_body_fault(route_response: RouteResponse, fault: InjectedFault) -> RouteResponse:
    """The response as the fault corrupts it: its body replaced by garbage, or members left out or
    replaced."""
    if fault.garbage is not None:
        content_type, body = _GARBAGE[fault.garbage]
        return replace(
            route_response, content_type=content_type, body=Inline(body), headers={}, chunked=False
        )
    is_bent = fault.lacks is not None or fault.replaces is not None
    if is_bent and route_response.content_type == JSON:
        members = msgspec.json.decode(b"".join(route_response.body.chunks()))
        if isinstance(members, dict):
            told = {**members, **(fault.replaces or {})}
            left = {name: value for name, value in told.items() if name != fault.lacks}
            return replace(route_response, body=Inline(msgspec.json.encode(left)))
    return route_response

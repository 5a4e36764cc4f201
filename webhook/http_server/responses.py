"""Answers to browsers: pages and redirects with cookies, their headers, and the template engine."""

from collections.abc import AsyncGenerator, Mapping
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

import jinja2
from aiohttp import web

HSTS: Final = "max-age=31536000"

FAVICON_PATH: Final = "/favicon.ico"
"""Path of the icon that browsers ask every site for."""

_FAVICON: Final = (
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'
    b'<path fill="#0b5394" d="M5 2h16l6 6v22H5z"/>'
    b'<path fill="none" stroke="#fff" stroke-width="2" stroke-dasharray="3 2" d="M12 4v24"/>'
    b'<path fill="none" stroke="#fff" stroke-width="3" d="M15.5 18l3 3.500 5-7"/></svg>'
)


class PageResponse(NamedTuple):
    """The answer to the browser: a page or a redirect, and cookies."""

    html: str = ""
    location: str = ""
    cookies: tuple[str, ...] = ()
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = MappingProxyType({})
    """Further headers."""
    form_target: str = "'none'"
    """Origin to which the page may send its form, for the Content-Security-Policy of the pages."""

    stream: AsyncGenerator[bytes, None] | None = None
    """The parts of a file instead of a page; ``headers`` have its type."""
    stream_start: bytes = b""
    """The beginning of the file, which was read before the answer began."""

    def with_headers(self, headers: Mapping[str, str]) -> web.StreamResponse:
        """Return the answer with these headers, its own, and those that its status needs; the parts of a file
        are not in it."""
        sent = {**headers, **self.headers, **_STATUS_HEADERS.get(self.status, {})}
        response: web.StreamResponse
        if self.location:
            # The browser reads the location with GET after any method. (RFC 9110, 15.4.4)
            sent["Location"] = self.location
            response = web.Response(status=HTTPStatus.SEE_OTHER, headers=sent)
        elif self.stream is not None:
            response = web.StreamResponse(status=self.status, headers=sent)
        else:
            response = web.Response(
                text=self.html,
                status=self.status,
                content_type="text/html",
                charset="utf-8",
                headers=sent,
            )
        for cookie in self.cookies:
            response.headers.add("Set-Cookie", cookie)
        return response


_STATUS_HEADERS: Final = {
    HTTPStatus.SERVICE_UNAVAILABLE: {"Retry-After": "30"},
    HTTPStatus.TOO_MANY_REQUESTS: {"Retry-After": "30"},
    HTTPStatus.METHOD_NOT_ALLOWED: {"Allow": "GET, POST"},
}


def template_environment(folder: Path) -> jinja2.Environment:
    """Return a template engine that escapes every value and refuses undefined ones."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def security_headers(*, policy: str, referrer_policy: str, is_https: bool) -> dict[str, str]:
    """Return the headers of every page; ``policy`` is its Content-Security-Policy."""
    headers = {
        "Server": "counterfoil",
        "Content-Security-Policy": policy,
        "X-Frame-Options": "DENY",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Referrer-Policy": referrer_policy,
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Vary": "Accept-Language, Cookie",
    }
    return headers | ({"Strict-Transport-Security": HSTS} if is_https else {})


def favicon() -> web.Response:
    """Return the icon; browsers keep it for a day."""
    headers = {
        "Server": "counterfoil",
        "Cache-Control": "public, max-age=86400",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'",
    }
    return web.Response(body=_FAVICON, content_type="image/svg+xml", headers=headers)

"""
Answers to browsers: pages, redirects, cookies, and the headers and the template engine that pages and console
share.
"""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Final

import jinja2
from aiohttp import web

HSTS: Final = "max-age=31536000"


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
        "Referrer-Policy": referrer_policy,
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Vary": "Accept-Language, Cookie",
    }
    if is_https:
        headers["Strict-Transport-Security"] = HSTS
    return headers


def error_headers(status: HTTPStatus) -> dict[str, str]:
    """Return the headers that an error page has in addition."""
    if status in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}:
        return {"Retry-After": "30"}
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        return {"Allow": "GET, POST"}
    return {}


def html_response(html: str, status: HTTPStatus, headers: Mapping[str, str]) -> web.Response:
    """Return an answer with a page."""
    return web.Response(text=html, status=status, content_type="text/html", charset="utf-8", headers=headers)


def redirect_response(location: str, headers: Mapping[str, str]) -> web.Response:
    """Redirect the browser to a location, which it reads with GET after any method. (RFC 9110, 15.4.4)"""
    return web.Response(status=HTTPStatus.SEE_OTHER, headers={**headers, "Location": location})


def with_cookies(response: web.Response, cookies: Iterable[str]) -> web.Response:
    """Add cookies to an answer."""
    for cookie in cookies:
        response.headers.add("Set-Cookie", cookie)
    return response

"""
Rendering: what a page is made of, and the headers that keep it safe. Every value is escaped by the template engine.

The pages need no script, load nothing from anywhere, and may be shown in no frame. Their one style is in the page itself
and allowed by its hash.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, NamedTuple

import jinja2
from aiohttp import web
from markupsafe import Markup

from counterfoil.i18n.catalogue import Catalogue

_FOLDER: Final = Path(__file__).parent / "templates"

HSTS: Final = "max-age=31536000"


class PageLink(NamedTuple):
    """A link on a page: the name of its words, and where it leads."""

    name: str
    url: str


class PageRenderer:
    """Makes pages."""

    def __init__(self) -> None:
        style = (_FOLDER / "style.css").read_text(encoding="utf-8")
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        self._style_source = f"'sha256-{digest}'"
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_FOLDER),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        # The one text that is not escaped: our own file, and its hash would not fit any other.
        self._environment.globals["style"] = Markup(style)  # noqa: S704 - not from outside

    def message(
        self,
        words: Catalogue,
        section: str,
        *,
        links: Iterable[PageLink] = (),
        is_trouble: bool = True,
        values: Mapping[str, str] | None = None,
        onward: str = "",
    ) -> str:
        """Return a page that tells something, and what to do about it; with ``onward`` the browser goes there by itself."""
        return self._render(
            "message.html",
            words=words,
            section=section,
            links=tuple(links),
            is_trouble=is_trouble,
            values=values or {},
            onward=onward,
        )

    def form(self, words: Catalogue, **values: Any) -> str:
        """Return the form before sending."""
        return self._render("form.html", words=words, **values)

    def headers(self, *, form_target: str = "'none'", is_https: bool = False) -> dict[str, str]:
        """Return the headers of every answer. With a ``form_target``, an origin, the page may send a form there."""
        headers = {
            "Server": "counterfoil",
            "Content-Security-Policy": (
                f"default-src 'none'; style-src {self._style_source}; form-action {form_target}; "
                "base-uri 'none'; frame-ancestors 'none'"
            ),
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Vary": "Accept-Language, Cookie",
        }
        if is_https:
            headers["Strict-Transport-Security"] = HSTS
        return headers

    def _render(self, template: str, **values: Any) -> str:
        return self._environment.get_template(template).render(**values)


def html_response(html: str, status: HTTPStatus, headers: Mapping[str, str]) -> web.Response:
    """Return an answer with a page."""
    return web.Response(text=html, status=status, content_type="text/html", charset="utf-8", headers=headers)


def redirect_response(location: str, headers: Mapping[str, str]) -> web.Response:
    """Send the browser elsewhere, by GET whatever it came with. (RFC 9110, 15.4.4)"""
    return web.Response(status=HTTPStatus.SEE_OTHER, headers={**headers, "Location": location})

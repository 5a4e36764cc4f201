"""
Rendering: what a page is made of, and the headers that keep it safe. Every value is escaped by the template
engine.

The pages need no script, load nothing from anywhere, and may be shown in no frame. Their one style is in the
page itself and allowed by its hash.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from markupsafe import Markup

from counterfoil.i18n.catalogue import Catalogue
from webhook.http_server.responses import security_headers, template_environment

_FOLDER: Final = Path(__file__).parent / "templates"


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
        self._environment = template_environment(_FOLDER)
        # The one text that is not escaped: our own file, and its hash would not fit any other.
        self._environment.globals["style"] = Markup(style)  # noqa: S704 - not from outside

    def message(
        self,
        words: Catalogue,
        section: str,
        *,
        links: Iterable[PageLink] = (),
        is_trouble: bool,
        values: Mapping[str, str] | None = None,
        onward: str = "",
        is_consent: bool = False,
    ) -> str:
        """Return a page with a message and the next step; with ``onward`` the browser goes there
        automatically. With ``is_consent`` the texts are about a consent and speak of no draft."""
        return self._environment.get_template("message.html").render(
            words=words,
            section=section,
            words_section=f"{section}_consent"
            if is_consent and f"{section}_consent" in words.entries
            else section,
            links=tuple(links),
            is_trouble=is_trouble,
            values=values or {},
            onward=onward,
        )

    def form(self, words: Catalogue, **values: Any) -> str:
        """Return the form before sending."""
        return self._environment.get_template("form.html").render(words=words, **values)

    def headers(self, *, form_target: str = "'none'", is_https: bool = False) -> dict[str, str]:
        """Return the headers of every answer. With a ``form_target``, an origin, the page may send a form
        there."""
        policy = (
            f"default-src 'none'; style-src {self._style_source}; form-action {form_target}; "
            "base-uri 'none'; frame-ancestors 'none'"
        )
        return security_headers(policy=policy, referrer_policy="no-referrer", is_https=is_https)

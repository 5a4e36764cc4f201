"""Parse the paths, queries and forms of the console, within limits."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import unquote

from aiohttp import web

from webhook.console.errors import ConsoleErrorKind
from webhook.console.limits import ConsoleLimits
from webhook.http_server import forms
from webhook.http_server.errors import PageError

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_LOCAL_LOCATION = re.compile(r"/([A-Za-z0-9][\w./?&=%:+,~#-]*)?", re.ASCII)


class ConsolePageName(StrEnum):
    """Each page there is; also its label in the metrics."""

    HOME = "home"
    ATTENTION = "attention"
    EVENTS = "events"
    EVENT = "event"
    YAML = "yaml"
    SENDERS = "senders"
    ARCHIVES = "archives"
    ORGANIZATIONS = "organizations"
    SIGN_IN = "sign_in"
    SIGN_OUT = "sign_out"
    ACT = "act"
    STATIC = "static"
    NONE = "none"


METHODS: Final[Mapping[ConsolePageName, tuple[str, ...]]] = {
    ConsolePageName.SIGN_IN: ("GET", "POST"),
    ConsolePageName.SIGN_OUT: ("POST",),
    ConsolePageName.ACT: ("POST",),
}
"""Methods of a page; a page that is not listed has GET only."""

_PATHS: Final[Mapping[str, ConsolePageName]] = {
    "": ConsolePageName.HOME,
    "attention": ConsolePageName.ATTENTION,
    "events": ConsolePageName.EVENTS,
    "senders": ConsolePageName.SENDERS,
    "archives": ConsolePageName.ARCHIVES,
    "organizations": ConsolePageName.ORGANIZATIONS,
    "sign-in": ConsolePageName.SIGN_IN,
    "sign-out": ConsolePageName.SIGN_OUT,
    "act": ConsolePageName.ACT,
}


@dataclass(frozen=True)
class ConsoleRoute:
    """A path taken apart."""

    page: ConsolePageName
    name: str = ""


def match_route(path: str) -> ConsoleRoute:
    """Say which page a path leads to."""
    match [unquote(part) for part in path.split("/")]:
        case ["", page]:
            return ConsoleRoute(_PATHS.get(page, ConsolePageName.NONE))
        case ["", "events", name] if _NAME.fullmatch(name):
            return ConsoleRoute(ConsolePageName.EVENT, name)
        case ["", "events", name, "yaml"] if _NAME.fullmatch(name):
            return ConsoleRoute(ConsolePageName.YAML, name)
        case ["", "static", name]:
            return ConsoleRoute(ConsolePageName.STATIC, name)
    return ConsoleRoute(ConsolePageName.NONE)


def is_name(text: str) -> bool:
    """Whether a text can be the name of one of our objects."""
    return _NAME.fullmatch(text) is not None


def local_location(text: str) -> str:
    """Return a place of this console to which a browser may be led; its beginning when the text is none."""
    return text if len(text) <= 4096 and _LOCAL_LOCATION.fullmatch(text) else "/"


def parse_query(text: str, limits: ConsoleLimits) -> dict[str, str]:
    """Read a query. Raises ``PageError`` for one that can't be, and for a name that is given twice."""
    try:
        return forms.parse_unique_pairs(text, max_fields=limits.parameters)
    except ValueError:
        raise PageError(ConsoleErrorKind.LINK_BROKEN, "the query can't be read") from None


async def read_form(request: web.BaseRequest, limits: ConsoleLimits) -> dict[str, str]:
    """Read the form that a browser sent. Raises ``PageError``."""
    try:
        return await forms.read(request, limits)
    except forms.FormTooLarge as problem:
        raise PageError(ConsoleErrorKind.TOO_LARGE, str(problem)) from None
    except forms.FormUnreadable as problem:
        raise PageError(ConsoleErrorKind.FORM_STALE, str(problem)) from None


def is_same_origin(headers: Mapping[str, str]) -> bool:
    """Whether a form can come from our own pages, by the browser's header; older browsers send none."""
    return headers.get("Sec-Fetch-Site", "same-origin") in ("same-origin", "none")


def is_cross_site_navigation(headers: Mapping[str, str]) -> bool:
    """Whether the browser follows a link on somebody else's page, as in a mail; it then keeps strict cookies
    back."""
    return (
        headers.get("Sec-Fetch-Site") in ("cross-site", "same-site")
        and headers.get("Sec-Fetch-Mode") == "navigate"
    )

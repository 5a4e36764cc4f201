"""
Requests: what a browser asked the console for, read within bounds. Nothing here knows what is done about it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import unquote

from aiohttp import web

from webhook import forms
from webhook.console.limits import ConsoleLimits
from webhook.console.problems import Kind, Trouble

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_HERE = re.compile(r"/([A-Za-z0-9][\w./?&=%:+,~#-]*)?", re.ASCII)


class Page(StrEnum):
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


METHODS: Final[Mapping[Page, tuple[str, ...]]] = {
    Page.SIGN_IN: ("GET", "POST"),
    Page.SIGN_OUT: ("POST",),
    Page.ACT: ("POST",),
}
"""What a page may be asked by; GET alone unless it stands here."""

_PATHS: Final[Mapping[str, Page]] = {
    "": Page.HOME,
    "attention": Page.ATTENTION,
    "events": Page.EVENTS,
    "senders": Page.SENDERS,
    "archives": Page.ARCHIVES,
    "organizations": Page.ORGANIZATIONS,
    "sign-in": Page.SIGN_IN,
    "sign-out": Page.SIGN_OUT,
    "act": Page.ACT,
}


@dataclass(frozen=True)
class Address:
    """A path taken apart."""

    page: Page
    name: str = ""


def address(path: str) -> Address:
    """Say which page a path leads to."""
    match [unquote(part) for part in path.split("/")]:
        case ["", page]:
            return Address(_PATHS.get(page, Page.NONE))
        case ["", "events", name] if _NAME.fullmatch(name):
            return Address(Page.EVENT, name)
        case ["", "events", name, "yaml"] if _NAME.fullmatch(name):
            return Address(Page.YAML, name)
        case ["", "static", name]:
            return Address(Page.STATIC, name)
    return Address(Page.NONE)


def is_name(text: str) -> bool:
    """Whether a text can be the name of one of our objects."""
    return _NAME.fullmatch(text) is not None


def here(text: str) -> str:
    """Return a place of this console to which a browser may be led; its beginning when the text is none."""
    return text if len(text) <= 4096 and _HERE.fullmatch(text) else "/"


def query(text: str, limits: ConsoleLimits) -> dict[str, str]:
    """Read a query. Raises ``Trouble`` for one that can't be, and for a name that is given twice."""
    try:
        return forms.once_each(text, most=limits.parameters)
    except ValueError:
        raise Trouble(Kind.LINK_BROKEN, "the query can't be read") from None


async def form(request: web.BaseRequest, limits: ConsoleLimits) -> dict[str, str]:
    """Read the form that a browser sent. Raises ``Trouble``."""
    try:
        return await forms.read(request, limits)
    except forms.FormTooLarge as problem:
        raise Trouble(Kind.TOO_LARGE, str(problem)) from None
    except forms.FormUnreadable as problem:
        raise Trouble(Kind.FORM_STALE, str(problem)) from None


def is_from_here(headers: Mapping[str, str]) -> bool:
    """Whether a form can come from a page of ours, by what the browser itself says; older ones say nothing."""
    return headers.get("Sec-Fetch-Site", "same-origin") in ("same-origin", "none")


def is_led_here(headers: Mapping[str, str]) -> bool:
    """Whether the browser follows a link on somebody else's page, as in a mail; it then keeps strict cookies back."""
    return (
        headers.get("Sec-Fetch-Site") in ("cross-site", "same-site")
        and headers.get("Sec-Fetch-Mode") == "navigate"
    )

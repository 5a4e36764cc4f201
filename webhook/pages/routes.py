"""Parse the paths, queries and forms of the pages, within limits."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import unquote

from aiohttp import web

from counterfoil.resources import envelope_id
from webhook.http_server import forms
from webhook.http_server.errors import PageError
from webhook.pages.errors import PageErrorKind
from webhook.pages.limits import PageLimits

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
_USER_ID = re.compile(
    r"[!-.0-~]{1,128}"
)  # printable ASCII without space and slash, as the CRD of Sender has it


class PageName(StrEnum):
    """Each page there is; also its label in the metrics."""

    BEFORE_SEND = "before_send"
    FORM = "form"
    CONSENT = "consent"
    THANKS = "thanks"
    RETURN = "return"
    NONE = "none"


METHODS: Final[Mapping[PageName, tuple[str, ...]]] = {PageName.FORM: ("GET", "POST")}
"""Methods of a page; a page that is not listed has GET only."""


@dataclass(frozen=True)
class PageRoute:
    """A path taken apart."""

    page: PageName
    organization: str = ""
    sender: str = ""


def match_route(path: str) -> PageRoute:
    """Say which page a path leads to."""
    match [unquote(part) for part in path.split("/")]:
        case ["", "before-send", organization]:
            found = PageRoute(PageName.BEFORE_SEND, organization)
        case ["", "before-send", organization, "tags"]:
            found = PageRoute(PageName.FORM, organization)
        case ["", "consent", organization, sender]:
            found = PageRoute(PageName.CONSENT, organization, sender)
        case ["", "consent", organization, sender, "done"]:
            found = PageRoute(PageName.THANKS, organization, sender)
        case ["", "oauth", organization, "return"]:
            found = PageRoute(PageName.RETURN, organization)
        case _:
            return PageRoute(PageName.NONE)
    is_sender_named = found.page not in {PageName.CONSENT, PageName.THANKS} or _NAME.fullmatch(found.sender)
    return found if _NAME.fullmatch(found.organization) and is_sender_named else PageRoute(PageName.NONE)


def parse_query(text: str, limits: PageLimits) -> dict[str, str]:
    """Read a query. Raises ``PageError`` for one that can't be, and for a name that is given twice."""
    try:
        return forms.parse_unique_pairs(text, max_fields=limits.parameters)
    except ValueError:
        raise PageError(PageErrorKind.LINK_BROKEN, "the query can't be read") from None


def parse_draft_and_user(given: Mapping[str, str]) -> tuple[str, str]:
    """Return what a before-send link is about. Raises ``PageError``."""
    try:
        draft = envelope_id(given.get("draftId", ""))
    except ValueError:
        raise PageError(PageErrorKind.LINK_BROKEN, "draftId is missing or no GUID") from None
    user_id = given.get("userId", "")
    if _USER_ID.fullmatch(user_id) is None or user_id.startswith("##"):
        raise PageError(PageErrorKind.LINK_BROKEN, "userId is missing or no user id")
    return draft, user_id


async def read_form(request: web.BaseRequest, limits: PageLimits) -> dict[str, str]:
    """Read the form that a browser sent. Raises ``PageError``."""
    try:
        return await forms.read(request, limits)
    except forms.FormTooLarge as problem:
        raise PageError(PageErrorKind.TOO_LARGE, str(problem)) from None
    except forms.FormUnreadable as problem:
        raise PageError(PageErrorKind.FORM_EXPIRED, str(problem)) from None

"""Parse the paths of the pages, and the parameters of their links."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import unquote

from counterfoil.resources import envelope_id
from webhook.http_server.errors import HttpErrorKind, PageError
from webhook.http_server.handler import Route

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
# Printable ASCII without space and slash, as the CRD of Sender has it.
_USER_ID = re.compile(r"[!-.0-~]{1,128}")


class PageName(StrEnum):
    """Each page there is; also its label in the metrics."""

    BEFORE_SEND = "before_send"
    FORM = "form"
    CONSENT = "consent"
    THANKS = "thanks"
    RETURN = "return"
    NONE = "none"


@dataclass(frozen=True)
class PageRoute(Route):
    """A path taken apart."""

    page: PageName
    organization: str = ""
    sender: str = ""


NO_ROUTE: Final = PageRoute(PageName.NONE, methods=())


def match_route(path: str) -> PageRoute:
    """Return the page that a path leads to."""
    match [unquote(part) for part in path.split("/")]:
        case ["", "before-send", organization]:
            found = PageRoute(PageName.BEFORE_SEND, organization=organization)
        case ["", "before-send", organization, "tags"]:
            found = PageRoute(PageName.FORM, ("GET", "POST"), organization)
        case ["", "consent", organization, sender]:
            found = PageRoute(PageName.CONSENT, organization=organization, sender=sender)
        case ["", "consent", organization, sender, "done"]:
            found = PageRoute(PageName.THANKS, organization=organization, sender=sender)
        case ["", "oauth", organization, "return"]:
            found = PageRoute(PageName.RETURN, organization=organization)
        case _:
            return NO_ROUTE
    is_sender_named = found.page not in {PageName.CONSENT, PageName.THANKS} or _NAME.fullmatch(found.sender)
    return found if _NAME.fullmatch(found.organization) and is_sender_named else NO_ROUTE


def parse_draft_and_user(given: Mapping[str, str]) -> tuple[str, str]:
    """Return what a before-send link is about. Raises ``PageError``."""
    try:
        draft = envelope_id(given.get("draftId", ""))
    except ValueError:
        raise PageError(HttpErrorKind.LINK_BROKEN, "draftId is missing or no GUID") from None
    user_id = given.get("userId", "")
    if _USER_ID.fullmatch(user_id) is None or user_id.startswith("##"):
        raise PageError(HttpErrorKind.LINK_BROKEN, "userId is missing or no user id")
    return draft, user_id

"""
Parse the paths of the pages, and the parameters of their links.

A path names the namespace and the Organization, or the Organization alone: one of the release's own
namespace. Two paths have both readings: ``/before-send/acme/tags`` is the form of ``acme``, or the
Organization ``tags`` of the namespace ``acme``, and ``/consent/acme/anna/done`` is a page of thanks, or the
Sender ``done``. The route then has both. The short one counts if that Organization exists.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final
from urllib.parse import unquote

from counterfoil.resources import envelope_id
from counterfoil.settings import is_namespace
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
    namespace: str = ""
    """The namespace in the path; empty: the release's own."""
    otherwise: "PageRoute | None" = None
    """The reading with a namespace, if the path also has this one: it counts if there is no such
    Organization."""


NO_ROUTE: Final = PageRoute(PageName.NONE, methods=())


def match_route(path: str) -> PageRoute:
    """Return the page that a path leads to."""
    parts = [unquote(part) for part in path.split("/")]
    short, long = _match_short(parts), NO_ROUTE
    if len(parts) > 2 and is_namespace(parts[2]):
        long = _match_short([*parts[:2], *parts[3:]])
    if long is NO_ROUTE:
        return short
    long = replace(long, namespace=parts[2])
    return long if short is NO_ROUTE else replace(short, otherwise=long)


def _match_short(parts: list[str]) -> PageRoute:
    """Return the page that a path without a namespace leads to."""
    match parts:
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

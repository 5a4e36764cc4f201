"""
Parse the paths of the console, and check where a request comes from and leads to.

Paths of the console's own namespace begin at the root, those of another one at ``/namespaces/<name>``. So a
link that a person sends to another one shows the same namespace.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final
from urllib.parse import unquote

from counterfoil.settings import is_namespace
from webhook.http_server.handler import Route

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
    CHECK = "check"
    IMPORTS = "imports"
    IMPORT = "import"
    SIGN_IN = "sign_in"
    SIGN_OUT = "sign_out"
    OIDC_START = "oidc_start"
    OIDC_RETURN = "oidc_return"
    ACT = "act"
    THEME = "theme"
    BULK = "bulk"
    EXPORT_CSV = "export_csv"
    EXPORT_JSON = "export_json"
    STATIC = "static"
    NONE = "none"


@dataclass(frozen=True)
class ConsoleRoute(Route):
    """A path taken apart."""

    page: ConsolePageName
    name: str = ""
    namespace: str = ""
    """The namespace in the path; empty: the console's own."""


_ROUTES: Final[Mapping[str, ConsoleRoute]] = {
    "": ConsoleRoute(ConsolePageName.HOME),
    "attention": ConsoleRoute(ConsolePageName.ATTENTION),
    "events": ConsoleRoute(ConsolePageName.EVENTS),
    "events.csv": ConsoleRoute(ConsolePageName.EXPORT_CSV),
    "events.json": ConsoleRoute(ConsolePageName.EXPORT_JSON),
    "senders": ConsoleRoute(ConsolePageName.SENDERS),
    "archives": ConsoleRoute(ConsolePageName.ARCHIVES),
    "organizations": ConsoleRoute(ConsolePageName.ORGANIZATIONS),
    "imports": ConsoleRoute(ConsolePageName.IMPORTS),
    "sign-in": ConsoleRoute(ConsolePageName.SIGN_IN, ("GET", "POST")),
    "sign-out": ConsoleRoute(ConsolePageName.SIGN_OUT, ("POST",)),
    "act": ConsoleRoute(ConsolePageName.ACT, ("POST",)),
    "theme": ConsoleRoute(ConsolePageName.THEME, ("POST",)),
    "bulk": ConsoleRoute(ConsolePageName.BULK, ("POST",)),
}
_NO_ROUTE: Final = ConsoleRoute(ConsolePageName.NONE, ())

_OF_NO_NAMESPACE: Final = frozenset(
    {
        ConsolePageName.SIGN_IN,
        ConsolePageName.OIDC_START,
        ConsolePageName.OIDC_RETURN,
        ConsolePageName.STATIC,
        ConsolePageName.NONE,
    }
)
"""Pages that are at the root only."""


def match_route(path: str) -> ConsoleRoute:
    """Return the page that a path leads to. A static file is no page; the handler answers it before."""
    match path.split("/", 3):
        case ["", "namespaces", namespace, rest] if is_namespace(namespace):
            route = _match_page(f"/{rest}")
            return _NO_ROUTE if route.page in _OF_NO_NAMESPACE else replace(route, namespace=namespace)
        case ["", "namespaces", namespace] if is_namespace(namespace):
            return ConsoleRoute(ConsolePageName.HOME, namespace=namespace)
    return _match_page(path)


def namespace_root(namespace: str, own: str) -> str:
    """Return the beginning of the paths of a namespace; empty for the console's own."""
    return "" if namespace == own else f"/namespaces/{namespace}"


def _match_page(path: str) -> ConsoleRoute:
    match [unquote(part) for part in path.split("/")]:
        case ["", page]:
            return _ROUTES.get(page, _NO_ROUTE)
        case ["", "events", name] if is_name(name):
            return ConsoleRoute(ConsolePageName.EVENT, name=name)
        case ["", "events", name, "yaml"] if is_name(name):
            return ConsoleRoute(ConsolePageName.YAML, name=name)
        case ["", "organizations", name, "check"] if is_name(name):
            return ConsoleRoute(ConsolePageName.CHECK, name=name)
        case ["", "imports", name] if is_name(name):
            return ConsoleRoute(ConsolePageName.IMPORT, name=name)
        case ["", "oidc", "start"]:
            return ConsoleRoute(ConsolePageName.OIDC_START)
        case ["", "oidc", "return"]:
            return ConsoleRoute(ConsolePageName.OIDC_RETURN)
        case ["", "static", name]:
            return ConsoleRoute(ConsolePageName.STATIC, (), name)
    return _NO_ROUTE


def is_name(text: str) -> bool:
    """Whether a text can be the name of one of our objects."""
    return _NAME.fullmatch(text) is not None


def local_location(text: str) -> str:
    """Return a place of this console to which a browser may be led; its beginning when the text is none."""
    return text if len(text) <= 4096 and _LOCAL_LOCATION.fullmatch(text) else "/"


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

"""
Archives and Senders in the console: targets, links to files, and the list of senders. Pure.

A target never has a credential. A location is written by the controller, but an answer of an archive can be
in it. So only an address of the scheme https without user and password becomes a link; everything else stays
text. The API server cannot search a name or an address, so the console compares the objects that it read.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from counterfoil.i18n.attention import title_of
from counterfoil.resources import Archive, Sender, find_condition

_SHOWN: Final = (
    "bucket",
    "container",
    "url",
    "host",
    "port",
    "root",
    "root_folder",
    "prefix",
    "region",
    "endpoint",
)
"""Settings that say where files go. The settings of a kind of somebody else may hold a secret: none of them
is shown."""

MAX_LINK_LENGTH: Final = 2048
"""Maximum characters of an address that browsers open reliably."""

MAX_TEXT: Final = 100
"""Characters of a search."""


def kind_of(archive: Archive) -> str:
    """Return the kind of an archive; empty for an object that has none or several."""
    try:
        return archive.spec.kind
    except ValueError:
        return ""


def target_of(archive: Archive) -> tuple[tuple[str, str], ...]:
    """Return the settings that say where files go: pairs of name and value."""
    if not kind_of(archive):
        return ()
    values = ((name, getattr(archive.spec.settings, name, None)) for name in _SHOWN)
    return tuple((name, str(value)) for name, value in values if value)


def document_link(location: str | None) -> str | None:
    """Return the address under which a browser can ask the archive for a file; None where there is none."""
    if location is None or len(location) > MAX_LINK_LENGTH or not location.isprintable():
        return None
    try:
        parts = urlsplit(location)
        is_address = parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    is_plain = "@" not in parts.netloc and "\\" not in location and " " not in location
    return location if is_address and is_plain else None


@dataclass(frozen=True, kw_only=True)
class SenderSearch:
    """Values that a person searches for; empty: all."""

    organization: str = ""
    text: str = ""
    """A part of the name or the address, or of the name of the object."""
    page: int = 1

    def query(self, page: int) -> str:
        """Return it as the query of a link to another page of the list."""
        given = {"organization": self.organization, "text": self.text, "page": str(page)}
        return urlencode({name: value for name, value in given.items() if value})

    def matches(self, raw: Mapping[str, Any]) -> bool:
        """Whether a Sender as the API server returned it has all words of the text."""
        spec = raw.get("spec", {})
        parts = (spec.get("givenName"), spec.get("surname"), spec.get("email"), raw["metadata"]["name"])
        known = " ".join(part for part in parts if isinstance(part, str)).casefold()
        return all(word in known for word in self.text.casefold().split())


def read_search(query: Mapping[str, str], organization: str) -> SenderSearch:
    """Read what a person filled in; a page that is none is the first one."""
    page = query.get("page", "")
    number = int(page) if page.isascii() and page.isdecimal() and len(page) <= 6 else 1
    return SenderSearch(
        organization=organization, text=query.get("text", "").strip()[:MAX_TEXT], page=max(1, number)
    )


@dataclass(frozen=True)
class SenderPage:
    """One page of the list."""

    senders: tuple[Sender, ...]
    count: int
    """Number of senders that match."""
    page: int
    pages: int


def page_of(senders: Iterable[Sender], page: int, rows: int) -> SenderPage:
    """Return a page of the list, senders with problems first; the last page for one behind the end."""
    ordered = sorted(senders, key=_rank)
    pages = max(1, -(-len(ordered) // rows))
    page = min(page, pages)
    return SenderPage(tuple(ordered[(page - 1) * rows : page * rows]), len(ordered), page, pages)


def _rank(sender: Sender) -> tuple[int, int, str, str]:
    """Rank a sender for whose key envelopes wait before one whose key does not work, and that before all
    others."""
    authorized = find_condition(sender.status.conditions, "Authorized")
    is_refused = authorized is not None and authorized.status == "False"
    is_unknown = authorized is None or authorized.status == "Unknown"
    group = 0 if sender.status.waiting_events else 1 if is_refused else 2 if is_unknown else 3
    return group, -sender.status.waiting_events, title_of(sender).casefold(), sender.name

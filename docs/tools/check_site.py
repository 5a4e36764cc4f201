"""
Refuse built docs that need another host: ``python docs/tools/check_site.py FOLDER``.

Each page, style and drawing of the folder is searched for addresses that a browser loads without a click, or
sends a form to. The search has to work from the folder too, so its index is a script. This module builds
nothing: sphinx-build runs before it.
"""

import re
import sys
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

LOADING = {
    "script": ["src"],
    "link": ["href"],
    "img": ["src", "srcset"],
    "source": ["src", "srcset"],
    "object": ["data"],
    "iframe": ["src"],
    "embed": ["src"],
    "video": ["src", "poster"],
    "audio": ["src"],
    "form": ["action"],
    "image": ["href", "xlink:href"],
    "use": ["href", "xlink:href"],
}
"""Attributes whose address a browser loads without a click, or sends a form to."""

ELSEWHERE = re.compile(r"\s*(?:[a-z][a-z0-9+.-]*:)?//", re.IGNORECASE)
IN_STYLE = re.compile(r"url\(\s*[\"']?([^\"')]+)|@import\s+[\"']([^\"']+)")
SEARCH_INDEX = "Search.setIndex("
"""Beginning of the search's index if it is a script, which a page loads without a server."""


class Loaded(HTMLParser):
    """Collects the addresses on other hosts that a page loads."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elsewhere: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the addresses of one element."""
        addresses = [value or "" for name, value in attrs if name in LOADING.get(tag, [])]
        self.elsewhere += filter(ELSEWHERE.match, addresses)


def in_style(style: str) -> list[str]:
    """Return the addresses that a style loads."""
    return [first or second for first, second in IN_STYLE.findall(style)]


def loaded_elsewhere(file: Path) -> list[str]:
    """Return the addresses on other hosts that a page, a style or a drawing loads."""
    text = file.read_text("utf-8")
    in_styles = [each for each in in_style(text) if ELSEWHERE.match(each)]
    return in_styles if file.suffix == ".css" else Loaded(text).elsewhere + in_styles


def check(site: Path) -> list[str]:
    """Return what is wrong with the built docs in a folder, one line each."""
    files = sorted(each for each in site.rglob("*") if each.suffix in {".html", ".css", ".svg"})
    found = [f"{each.relative_to(site)}: loads {load}" for each in files for load in loaded_elsewhere(each)]
    index = site / "searchindex.js"
    if not (site / "search.html").is_file():
        found.append("search.html: is missing")
    if not (index.is_file() and index.read_text("utf-8").startswith(SEARCH_INDEX)):
        found.append(f"{index.name}: is no script with the index of the search")
    return found


def main(arguments: Sequence[str]) -> int:
    """Print what is wrong; return 1 if there is anything."""
    (site,) = arguments
    found = check(Path(site))
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

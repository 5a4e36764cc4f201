"""The docs build into pages that load nothing from another host, and a dead link ends the build."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[3] / "docs"

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


class Loaded(HTMLParser):
    """Collects the addresses on other hosts that a page loads."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elsewhere: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        addresses = [value or "" for name, value in attrs if name in LOADING.get(tag, [])]
        self.elsewhere += filter(ELSEWHERE.match, addresses)


def in_style(style: str) -> list[str]:
    return [first or second for first, second in IN_STYLE.findall(style)]


def loaded_elsewhere(file: Path) -> list[str]:
    text = file.read_text("utf-8")
    in_styles = [each for each in in_style(text) if ELSEWHERE.match(each)]
    return in_styles if file.suffix == ".css" else Loaded(text).elsewhere + in_styles


def build(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html"]
    return subprocess.run([*command, str(source), str(target)], capture_output=True, check=False, text=True)


def test_the_site_loads_nothing_from_another_host(tmp_path: Path) -> None:
    done = build(DOCS, tmp_path)
    assert done.returncode == 0, done.stderr
    files = [each for each in tmp_path.rglob("*") if each.suffix in {".html", ".css", ".svg"}]
    found = {str(each.relative_to(tmp_path)): loaded_elsewhere(each) for each in files}
    assert {name: addresses for name, addresses in found.items() if addresses} == {}

    # The search works from the folder: its index is a script, not a request.
    assert (tmp_path / "search.html").exists()
    assert (tmp_path / "searchindex.js").read_text("utf-8").startswith("Search.setIndex(")
    drawings = [each.read_text("utf-8") for each in (tmp_path / "_images").glob("graphviz-*.svg")]
    assert len(drawings) >= 5, "overview, sequence, components, event and trust boundaries"


@pytest.mark.parametrize(
    "page",
    [
        '<script src="https://cdn.example.com/a.js"></script>',
        '<link rel="stylesheet" href="//fonts.example.com/css">',
        '<img src="HTTP://example.com/pixel.gif">',
        '<img srcset="https://example.com/2x.png 2x">',
        '<p style="background: url(https://example.com/a.png)">',
        "<style>@import 'https://example.com/a.css';</style>",
        '<style>@font-face { src: url("https://example.com/a.woff2") }</style>',
        '<form action="https://example.com/search"></form>',
    ],
)
def test_what_is_loaded_from_another_host_is_found(tmp_path: Path, page: str) -> None:
    file = tmp_path / "page.html"
    file.write_text(page, encoding="utf-8")
    assert len(loaded_elsewhere(file)) == 1


@pytest.mark.parametrize(
    "page",
    [
        '<a href="https://example.com">a link is no asset</a>',
        '<script src="_static/doctools.js"></script>',
        '<img src="data:image/png;base64,AAAA">',
        '<svg xmlns="http://www.w3.org/2000/svg"></svg>',
        "<style>a { background: url(_static/a.svg) }</style>",
    ],
)
def test_what_a_page_may_have_is_not_found(tmp_path: Path, page: str) -> None:
    file = tmp_path / "page.html"
    file.write_text(page, encoding="utf-8")
    assert loaded_elsewhere(file) == []


def test_a_dead_link_ends_the_build(tmp_path: Path) -> None:
    source, dead = tmp_path / "source", ["missing.md", "other.md#missing", "#missing", "folder/other.md"]
    source.mkdir()
    (source / "conf.py").write_text((DOCS / "conf.py").read_text("utf-8"), encoding="utf-8")
    (source / "other.md").write_text("# Other\n\n## A heading\n", encoding="utf-8")
    index = "# Index\n\n[good](other.md#a-heading)\n\n```{toctree}\nother\n```\n"
    links = "".join(f"\n[dead]({link})\n" for link in dead)
    (source / "index.md").write_text(index + links, encoding="utf-8")
    failed = build(source, tmp_path / "built")
    assert failed.returncode != 0
    # One warning for each dead link, and nothing about the good one.
    assert failed.stderr.count("WARNING") == failed.stderr.count("xref_missing") == len(dead)

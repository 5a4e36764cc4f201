"""The pages that Sphinx does not build link to files and headings that exist. Sphinx checks the others."""

import re
from pathlib import Path

import pytest

from docs.tools import generate_drawings

ROOT = Path(__file__).parents[3]
PAGES = [
    *("README.md", "CHANGELOG.md"),
    *(".github/CONTRIBUTING.md", ".github/SECURITY.md", ".github/CODE_OF_CONDUCT.md"),
]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def slugs(page: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MyST name them."""
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


def dead_links(page: Path) -> list[str]:
    dead = []
    for link in LINK.findall(page.read_text("utf-8")):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if "://" in link or link.startswith("mailto:"):
            continue
        if not target.exists() or (anchor and anchor not in slugs(target.read_text("utf-8"))):
            dead.append(link)
    return dead


@pytest.mark.parametrize("page", PAGES)
def test_every_link_has_a_target(page: str) -> None:
    assert dead_links(ROOT / page) == []


@pytest.mark.parametrize("link", ["missing.md", "other.md#missing", "#missing"])
def test_a_dead_link_is_found(tmp_path: Path, link: str) -> None:
    (tmp_path / "other.md").write_text("# Other\n\n## A heading: of it\n", encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text(f"[good](other.md#a-heading-of-it) [dead]({link})", encoding="utf-8")
    assert dead_links(page) == [link]


@pytest.mark.parametrize(
    ("drawing", "content"),
    generate_drawings.committed().items(),
    ids=lambda value: getattr(value, "name", ""),
)
def test_the_drawings_are_up_to_date(drawing: Path, content: str) -> None:
    assert drawing.read_text("utf-8") == content, "run: python docs/tools/generate_drawings.py"

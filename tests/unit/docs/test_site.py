"""
The docs build into pages that load nothing from another host, and a dead link ends the build.

``make lint`` builds and checks the docs themselves. These tests build a small site with the same settings.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from docs.tools.check_site import check, loaded_elsewhere, main

DOCS = Path(__file__).parents[3] / "docs"
DRAWING = "digraph { archive -> manifest }\n"
DEAD = ["missing.md", "other.md#missing", "#missing", "folder/other.md"]


class Built(NamedTuple):
    """A site, and how its build ended."""

    site: Path
    ended: "subprocess.CompletedProcess[str]"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A site with the settings of the docs: with a drawing, a good link and the dead links."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    (source / "conf.py").write_text((DOCS / "conf.py").read_text("utf-8"), encoding="utf-8")
    shutil.copytree(DOCS / "_static", source / "_static")
    (source / "drawing.dot").write_text(DRAWING, encoding="utf-8")
    (source / "other.md").write_text("# Other\n\n## A heading\n", encoding="utf-8")
    index = "# Index\n\n[good](other.md#a-heading)\n\n```{toctree}\nother\n```\n"
    drawing = "\n```{graphviz} drawing.dot\n```\n"
    links = "".join(f"\n[dead]({link})\n" for link in DEAD)
    (source / "index.md").write_text(index + drawing + links, encoding="utf-8")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html"]
    ended = subprocess.run([*command, str(source), str(target)], capture_output=True, check=False, text=True)
    return Built(target, ended)


def test_a_dead_link_ends_the_build(built: Built) -> None:
    assert built.ended.returncode != 0
    # One warning for each dead link, and nothing about the good one or the drawing.
    warnings = built.ended.stderr
    assert warnings.count("WARNING") == warnings.count("xref_missing") == len(DEAD)


def test_the_site_loads_nothing_from_another_host(built: Built, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(built.site) == []
    assert main([str(built.site)]) == 0
    assert capsys.readouterr().out == ""
    (drawing,) = (built.site / "_images").glob("graphviz-*.svg")
    assert "manifest" in drawing.read_text("utf-8")
    assert "furo.css" in (built.site / "index.html").read_text("utf-8"), "the theme was looked through too"


def test_the_docs_have_their_drawings() -> None:
    pages = [each.read_text("utf-8") for each in DOCS.rglob("*.md")]
    drawings = {name for page in pages for name in re.findall(r"(?m)^```\{graphviz\} (\S+\.dot)$", page)}
    assert len(drawings) >= 5, "overview, sequence, components, event and trust boundaries"


def test_every_build_of_the_docs_is_checked() -> None:
    lines = (DOCS.parent / "Makefile").read_text("utf-8").splitlines()
    builds = [line for line in lines if "sphinx-build" in line]
    assert len(builds) == 2, "lint and docs"
    assert [line for line in builds if " -W " not in line] == []
    assert [
        line for line in builds if not line.endswith(" && $(BIN)/python docs/tools/check_site.py docs/_build")
    ] == []


def test_a_site_that_loads_from_another_host_or_has_no_search_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.html").write_text('<img src="https://example.com/a.png">', encoding="utf-8")
    (tmp_path / "searchindex.js").write_text("{}", encoding="utf-8")
    assert main([str(tmp_path)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "folder/a.html: loads https://example.com/a.png",
        "search.html: is missing",
        "searchindex.js: is no script with the index of the search",
    ]
    (tmp_path / "searchindex.js").unlink()
    assert check(tmp_path)[-1] == "searchindex.js: is no script with the index of the search"


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

"""
The pictures of the docs: each is shown, and made by one command.

Those of the plugin in a terminal show the outputs of docs/plugin.md, which other tests compare.
"""

import re
from xml.etree import ElementTree

import pytest

from docs.tools import generate_screenshots, generate_terminal_pictures
from docs.tools.generate_terminal_pictures import (
    COLUMNS,
    COMMANDS,
    FOLDER,
    PAGE,
    ROOT,
    OutputMissing,
    shown,
    svg,
)


def test_the_pictures_are_up_to_date() -> None:
    committed = generate_terminal_pictures.committed()
    assert {path.name: path.read_text("utf-8") for path in FOLDER.glob("plugin-*.svg")} == {
        path.name: content for path, content in committed.items()
    }, "run: python docs/tools/generate_screenshots.py"


def test_a_page_shows_each_picture_with_a_text_in_its_place() -> None:
    pages = "".join((ROOT / each).read_text("utf-8") for each in ("README.md", "docs/start.md"))
    pictures = re.findall(r"!\[[^\]]+\]\((?:docs/)?screenshots/plugin-([a-z]+)\.svg\)", pages)
    assert sorted(pictures) == sorted(COMMANDS)


def test_each_picture_in_the_folder_is_shown_by_a_page() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    shown_pictures = {
        name
        for page in pages
        for name in re.findall(r"\]\([\w/]*screenshots/([\w.-]+)\)", page.read_text("utf-8"))
    }
    assert {path.name for path in FOLDER.iterdir()} == shown_pictures


def test_the_command_takes_a_picture_of_each_page_of_the_console() -> None:
    names = {f"console-{each}.png" for each in (*generate_screenshots.PAGES, "attention-phone")}
    assert {path.name for path in FOLDER.glob("console-*")} == names


@pytest.mark.parametrize("command", COMMANDS)
def test_a_picture_has_each_line_of_the_output(command: str) -> None:
    output = shown(command, PAGE.read_text("utf-8"))
    assert output.startswith(f"$ kubectl counterfoil {command}")
    rows = texts_of(svg(command, output))
    assert "".join(rows) == output.replace("\n", "")
    assert max(map(len, rows)) <= COLUMNS


def test_what_is_typed_has_another_colour_than_what_is_printed() -> None:
    picture = svg("setup", "$ kubectl counterfoil setup \\\n    acme\nOrganization/acme: <created>\n")
    colours = re.findall(r'<text .* fill="(#\w+)">', picture)
    assert colours[0] == colours[1] != colours[2]
    assert texts_of(picture)[2] == "Organization/acme: <created>"


def test_a_command_that_the_page_does_not_show_is_named() -> None:
    with pytest.raises(OutputMissing, match=r"plugin\.md shows no output of status"):
        shown("status", "```text\n$ kubectl counterfoil setup acme\n```\n")


def texts_of(picture: str) -> list[str]:
    texts = [each for each in ElementTree.fromstring(picture).iter() if each.tag.endswith("}text")]
    return [(each.text or "").replace("\N{NO-BREAK SPACE}", " ") for each in texts]

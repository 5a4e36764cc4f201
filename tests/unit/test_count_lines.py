"""The table of product lines counts what people wrote, by package."""

import re
import subprocess
from pathlib import Path

import pytest

from docs.tools import count_lines
from tests.support.repository import ROOT


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("", 0),
        ('"""A docstring."""\n', 0),
        ("# A comment.\n\nA = 1  # and code\n", 1),
        ('def f() -> str:\n    """A docstring\n    of two lines."""\n    return """a\nb"""\n', 3),
        ('A = [\n    # A comment.\n    1,\n]\n"""About A."""\n', 3),
    ],
)
def test_code_lines_have_no_comments_and_no_docstrings(source: str, expected: int) -> None:
    assert count_lines.code_lines(source) == expected


def test_packages_are_counted_with_their_subpackages(tmp_path: Path) -> None:
    for path in (
        "controller/a.py",
        "controller/phases/b.py",
        "controller/phases/deep/c.py",
        "webhook/a.py",
        "counterfoil/a.py",
    ):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("A = 1\nB = 2\n", encoding="utf-8")
    rows = list(count_lines.counts(tmp_path))
    assert rows == [
        ("controller", 3, 6, 6),
        ("controller/phases", 2, 4, 4),
        ("webhook", 1, 2, 2),
        ("counterfoil", 1, 2, 2),
    ]
    assert count_lines.table(rows).splitlines()[-1] == "| **total** | 5 | 10 | 10 |"


def test_small_modules_are_counted_by_definitions_lines_and_importers(tmp_path: Path) -> None:
    long = "\n" * 40
    sources = {
        "controller/__init__.py": "",
        "controller/a.py": "from counterfoil import c\nfrom counterfoil.b import B\n" + long,
        "webhook/__main__.py": "import counterfoil.c\n",
        "counterfoil/b.py": "class B: ...\n\nclass _C: ...\n" + long,
        "counterfoil/c.py": "class C: ...\n\ndef c(): ...\n",
    }
    for path, source in sources.items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source, encoding="utf-8")
    assert count_lines.small_modules(tmp_path) == (3, 1, 1, 1)


def test_hidden_files_and_folders_count_at_the_top_level(tmp_path: Path) -> None:
    for path in (".ci/run", "controller/a.py", "controller/b.py", "README.md"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("", encoding="utf-8")
    for command in (("init", "--quiet"), ("add", "--all")):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    (tmp_path / "not-in-git").touch()
    assert count_lines.top_level(tmp_path) == 3


PAGE = (ROOT / "docs" / "contributing" / "README.md").read_text(encoding="utf-8")


def test_the_page_says_of_which_commit_its_figures_are() -> None:
    assert len(re.findall(r'"Now" is commit ([0-9a-f]{8})\.', PAGE)) == 1

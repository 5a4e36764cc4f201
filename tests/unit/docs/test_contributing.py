"""The contributors' pages name modules, functions and tests that exist."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
PAGES = ROOT / "docs" / "contributing"

PLACE = re.compile(
    r"(?<![\w/])(?:controller|webhook|counterfoil|sandbox|verification|release|docs|tests|charts|crds)/[\w./-]*\w\.\w+"
)
"""A path of the repository, as the pages and the drawings write it."""

TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
NAME = re.compile(r"`([\w/]+\.py)`\s+`([\w.]+)`")
"""A function, class or constant: its module, then its qualified name."""


def missing_places(text: str, root: Path) -> list[str]:
    """Return the paths in a text that do not exist."""
    return [place for place in PLACE.findall(text) if not (root / place).exists()]


def missing_names(text: str, pattern: re.Pattern[str], root: Path) -> list[str]:
    """Return the functions, classes and tests in a text that do not exist."""
    return [
        f"{module}: {name}"
        for module, name in pattern.findall(text)
        if not (root / module).exists() or name not in names_of_module(root / module)
    ]


@cache
def names_of_module(path: Path) -> frozenset[str]:
    """Return the qualified names of a module; several pages name the same modules."""
    return frozenset(names(ast.parse(path.read_text(encoding="utf-8"))))


def names(tree: ast.AST, prefix: str = "") -> Iterator[str]:
    """Yield the qualified names of all functions, classes and constants."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (f"{prefix}{each.id}" for each in targets if isinstance(each, ast.Name))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield f"{prefix}{node.name}"
            yield from names(node, f"{prefix}{node.name}.")


SOURCES = sorted([*PAGES.glob("*.md"), *PAGES.glob("drawings/*.dot")])


@pytest.mark.parametrize("page", SOURCES, ids=lambda page: page.name)
def test_every_path_that_a_contributors_page_names_exists(page: Path) -> None:
    assert missing_places(page.read_text(encoding="utf-8"), ROOT) == []


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda page: page.name)
def test_every_test_that_a_contributors_page_names_exists(page: Path) -> None:
    assert missing_names(page.read_text(encoding="utf-8"), TEST, ROOT) == []


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda page: page.name)
def test_every_name_that_a_contributors_page_gives_with_its_module_exists(page: Path) -> None:
    assert missing_names(page.read_text(encoding="utf-8"), NAME, ROOT) == []


PACKAGES = sorted(
    path
    for top in ("controller", "counterfoil", "webhook", "sandbox")
    for path in (ROOT / top).rglob("__init__.py")
)


@pytest.mark.parametrize("module", PACKAGES, ids=lambda path: path.parent.relative_to(ROOT).as_posix())
def test_a_package_names_modules_and_functions_that_it_has(module: Path) -> None:
    text = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
    beside = {path.stem for path in module.parent.iterdir()} | {path.name for path in ROOT.iterdir()}
    known = beside.union(*(names_of_module(path) for path in module.parent.glob("*.py")))
    assert set(re.findall(r"``([a-z_]+)``", text)) - known == set()


def test_the_page_of_one_callback_names_at_least_20_functions() -> None:
    text = (PAGES / "one-callback.md").read_text(encoding="utf-8")
    assert len(NAME.findall(text)) >= 20


@pytest.mark.parametrize(
    "subject",
    ["field", "phase", "archive kind", "person's action", "reason", "metric", "setting", "language"],
)
def test_there_is_a_checklist_for(subject: str) -> None:
    checklists = (PAGES / "README.md").read_text(encoding="utf-8").partition("## Checklists")[2]
    headings = re.findall(r"^### An? (.*)$", checklists, flags=re.MULTILINE)
    assert subject in headings


def test_the_page_of_one_callback_names_at_most_40_files() -> None:
    text = (PAGES / "one-callback.md").read_text(encoding="utf-8")
    assert len({module for module, _ in NAME.findall(text)}) <= 40


def test_the_page_of_one_callback_has_the_numbers_of_its_drawing() -> None:
    drawing = (PAGES / "drawings" / "sequence.dot").read_text(encoding="utf-8")
    labels = dict(re.findall(r'label="(\d+)\. ([^"]+)"', drawing))
    assert list(labels) == [str(number) for number in range(1, len(labels) + 1)]
    first = next(number for number, label in labels.items() if label.startswith("Validating"))
    delete = next(number for number, label in labels.items() if "delete" in label)

    text = " ".join((PAGES / "one-callback.md").read_text(encoding="utf-8").split())
    assert f"Steps {first} and later of the drawing repeat" in text
    assert f"Step {delete} of the drawing deletes" in text
    assert len(re.findall(r"[Ss]teps? \d+", text)) == 2


def test_there_are_thirteen_rules_each_with_a_module_and_a_test() -> None:
    sections = re.split(
        r"^## Rule (\d+): ", (PAGES / "rules.md").read_text(encoding="utf-8"), flags=re.MULTILINE
    )[1:]
    assert [int(number) for number in sections[::2]] == list(range(1, 14))
    for text in sections[1::2]:
        assert "- Kept by `" in text
        assert TEST.search(text)


def test_every_finding_has_a_test_that_exists() -> None:
    text = (PAGES / "findings.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if re.match(r"\| [A-Z]\d", line)]
    assert len(rows) >= 20
    assert [row for row in rows if not TEST.search(row)] == []
    assert missing_names(text, TEST, ROOT) == []


def test_every_test_on_the_page_of_reliability_exists() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    assert len(TEST.findall(text)) >= 10
    assert missing_names(text, TEST, ROOT) == []


# -- The page of security ------------------------------------------------------------------------------------

SECURITY = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
ATTACKS = (PAGES / "attacks.md").read_text(encoding="utf-8")
FINDINGS_PAGE = (PAGES / "findings.md").read_text(encoding="utf-8")
NO_TEST = "no test"
"""Cell of a row without a test: an honest gap, and not a forgotten one."""

FINDINGS = {f"S{number}" for number in range(1, 18)}


def security_section(heading: str) -> str:
    """Return the text of the section of the second level."""
    (found,) = re.findall(rf"(?ms)^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", SECURITY)
    return str(found)


def table_rows(text: str, columns: int) -> list[list[str]]:
    """Return the cells of the tables with this number of columns, without their heads."""
    cells = [
        [each.strip() for each in line[1:-1].split("|")] for line in text.splitlines() if line[:2] == "| "
    ]
    return [row for row in cells if len(row) == columns][1:]


def test_every_test_and_path_that_the_page_of_security_names_exists() -> None:
    assert missing_names(SECURITY, TEST, ROOT) == []
    assert missing_places(SECURITY + ATTACKS, ROOT) == []


def test_every_threat_has_a_control_and_a_test_or_says_that_there_is_none() -> None:
    rows = table_rows(security_section("Threats, controls and tests"), 4)
    assert len(rows) >= 30
    assert [row[0] for row in rows if not all(row)] == []
    assert [row[0] for row in rows if not TEST.search(row[3]) and row[3] != NO_TEST] == []


def test_every_finding_has_a_section_and_a_corrected_one_has_a_test() -> None:
    parts = re.split(r"(?m)^## (S\d+): ", ATTACKS)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert set(sections) == FINDINGS
    assert {finding for finding, text in sections.items() if not TEST.search(text)} == set()


def test_every_finding_about_neighbours_says_what_holds_and_has_a_test() -> None:
    rows = table_rows(ATTACKS, 3)
    findings = [row[0] for row in rows]
    assert len(set(findings)) == len(findings) >= 15
    for finding, claim, test in rows:
        assert re.search(rf"(?m)^\| {re.escape(finding)}\b", FINDINGS_PAGE), finding
        assert claim, finding
        assert TEST.search(test), finding


def test_every_item_of_asvs_is_judged_with_evidence_or_with_the_gap() -> None:
    rows = table_rows(security_section("OWASP ASVS 5.0, level 2"), 4)
    assert len(rows) >= 50
    for items, _, met, evidence in rows:
        assert re.fullmatch(r"V\d+\.\d+\.\d+(, V\d+\.\d+\.\d+)*", items), items
        assert met in ("Yes", "Partly", "No"), items
        assert evidence, items
        assert met != "Yes" or TEST.search(evidence), f"{items} is met, and no test shows it"


def test_the_manifests_on_the_page_of_security_can_be_read() -> None:
    blocks = re.findall(r"(?ms)^```yaml\n(.*?)^```$", SECURITY)
    kinds = [yaml.safe_load(block).get("kind", "values") for block in blocks]
    assert kinds == ["SecretProviderClass", "values", "ExternalSecret", "EncryptionConfiguration"]
    objects = yaml.safe_load(yaml.safe_load(blocks[0])["spec"]["parameters"]["objects"])
    assert [each["objectName"] for each in objects] == ["2026-11"]
    values = yaml.safe_load((ROOT / "charts" / "counterfoil" / "values.yaml").read_text(encoding="utf-8"))
    assert set(yaml.safe_load(blocks[1])["sealingKeys"]) <= set(values["sealingKeys"])


def test_a_path_that_does_not_exist_is_found(tmp_path: Path) -> None:
    assert missing_places("see `controller/absent.py`", tmp_path) == ["controller/absent.py"]


def test_a_function_or_test_that_does_not_exist_is_found(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").write_text("LIMIT: int = 1\nclass A:\n    def b(self): ...\n")
    assert missing_names("`tests/test_a.py` `A.b`", NAME, tmp_path) == []
    assert missing_names("`tests/test_a.py`\n`A.c`", NAME, tmp_path) == ["tests/test_a.py: A.c"]
    assert missing_names("`tests/test_a.py` `LIMIT`", NAME, tmp_path) == []
    assert missing_names("`tests/test_a.py::test_x`", TEST, tmp_path) == ["tests/test_a.py: test_x"]

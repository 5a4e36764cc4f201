"""Each reason has a row in the table of advice, with a test in which its advice is followed."""

import ast
import re
from enum import StrEnum
from functools import cache
from typing import NamedTuple

import pytest

from counterfoil.i18n.reasons import CATALOGUE, Responsible
from tests.support.repository import ROOT

PAGE = ROOT / "docs" / "contributing" / "advice.md"
ROW = re.compile(r"\| `(\w+)` \| (\w+) \| `([^`]+)` \|")


class Way(StrEnum):
    """The person or process that follows the advice of a reason."""

    TYPED = "typed"
    OUTSIDE = "outside"
    AUTOMATIC = "automatic"
    RESULT = "result"


class Row(NamedTuple):
    """One reason of the table."""

    reason: str
    way: Way
    test: str
    """Path and name of the test."""


def rows(text: str) -> list[Row]:
    """Return the rows of the table of reasons."""
    _, table = text.split("| Reason | Way | Test |\n|---|---|---|\n")
    found = [ROW.fullmatch(line) for line in table.splitlines()]
    return [Row(each[1], Way(each[2]), each[3]) for each in found if each is not None]


def faults(table: list[Row]) -> list[str]:
    """Return what is wrong with rows, each with its reason."""
    return [f"{row.reason}: {fault}" for row in table for fault in _faults_of(row)]


def _faults_of(row: Row) -> list[str]:
    path, _, name = row.test.partition("::")
    if not (ROOT / path).is_file() or name not in _tests_of(path):
        return [f"there is no test {row.test}"]
    found = []
    if not re.search(rf"\b{row.reason}\b", _source_of(path)):
        found.append(f"{path} does not name the reason")
    is_for_nobody = CATALOGUE[row.reason].responsible is Responsible.NOBODY
    if row.way in (Way.AUTOMATIC, Way.RESULT) and not is_for_nobody:
        found.append("a person has to act")
    return found


@cache
def _source_of(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


@cache
def _tests_of(path: str) -> frozenset[str]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(each.name for each in ast.parse(_source_of(path)).body if isinstance(each, functions))


TABLE = rows(PAGE.read_text(encoding="utf-8"))


def test_each_reason_has_one_row_in_the_order_of_the_catalogue() -> None:
    assert [each.reason for each in TABLE] == list(CATALOGUE)


def test_each_row_names_a_test_that_exists_and_is_about_its_reason() -> None:
    assert faults(TABLE) == []


HERE = "tests/unit/docs/test_advice.py"
WITHOUT_REASONS = "tests/unit/test_licence.py"
A_TEST = min(_tests_of(WITHOUT_REASONS))


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        (Row("ArchiveFull", Way.OUTSIDE, f"{HERE}::test_that_nobody_wrote"), "there is no test"),
        (Row("ArchiveFull", Way.OUTSIDE, "tests/unit/nowhere.py::test_it"), "there is no test"),
        (Row("ArchiveFull", Way.TYPED, ""), "there is no test"),
        (Row("ArchiveFull", Way.AUTOMATIC, f"{HERE}::test_a_wrong_row_is_refused"), "a person has to act"),
        (Row("ArchiveFull", Way.RESULT, f"{HERE}::test_a_wrong_row_is_refused"), "a person has to act"),
        (Row("ArchiveFull", Way.OUTSIDE, f"{WITHOUT_REASONS}::{A_TEST}"), f"{WITHOUT_REASONS} does not name"),
    ],
)
def test_a_wrong_row_is_refused(row: Row, fault: str) -> None:
    (found,) = faults([row])
    assert found.startswith(f"ArchiveFull: {fault}")

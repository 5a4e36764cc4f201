"""The table of archive-kinds.md has each case of the contract of archives, and each kind that keeps files."""

import inspect

from counterfoil.testing.archive_contract import cases
from docs.tools.generate_archive_matrix import BEGIN, END, KINDS, NOT_RUN, PAGE, PASSED, sentence

HEADER, _, *ROWS = [
    [cell.strip() for cell in line.strip("| ").split("|")]
    for line in PAGE.read_text("utf-8").partition(BEGIN)[2].partition(END)[0].splitlines()
]


def test_the_table_has_each_kind_that_keeps_files() -> None:
    assert [each.strip("`") for each in HEADER if each] == list(KINDS)


def test_the_table_has_each_case_of_the_contract() -> None:
    classes = [each for _, each in inspect.getmembers(cases, inspect.isclass)]
    names = {name for each in classes for name in vars(each) if name.startswith("test_")}
    assert {row[0] for row in ROWS} == set(map(sentence, names))


def test_no_kind_fails_a_case() -> None:
    assert {cell for row in ROWS for cell in row[1:]} == {PASSED, NOT_RUN}

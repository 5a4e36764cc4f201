"""The modules that are mutated, and the survivors that are explained, are those of the tree."""

from pathlib import Path

import pytest

from verification.mutation.modules import FILE, ROOT, Change, MutatedModule, read_modules
from verification.mutation.results import PAGE, TABLE

SOURCE = """def f(a: int) -> int:
    if a > 1:
        return a
    return g(
        a,
        b=2,
    )
"""


def test_each_module_test_and_explained_line_is_in_the_tree() -> None:
    modules = read_modules(FILE.read_text("utf-8"))
    assert modules
    assert [problem for module in modules for problem in module.problems(ROOT)] == []


def test_each_module_has_the_tests_that_mirror_it_or_the_package_that_it_is_part_of() -> None:
    for module in read_modules(FILE.read_text("utf-8")):
        folder = Path("tests/unit", module.path).parent
        assert all(folder.is_relative_to(Path(test).parent) for test in module.tests), module.path


def test_the_page_has_a_row_for_each_module() -> None:
    listed = [module.path for module in read_modules(FILE.read_text("utf-8"))]
    assert TABLE.names(PAGE.read_text("utf-8")) == listed, "run `make mutation` for the modules without a row"


@pytest.mark.parametrize(
    ("mutated", "expected"),
    [
        (SOURCE.replace("a > 1", "a >= 1"), Change("if a > 1:", "if a >= 1:")),
        (SOURCE.replace("    b=2,\n    ", ""), Change("b=2,", "")),
        (SOURCE.partition("g(")[0] + "None\n", Change("return g( a, b=2, )", "return None")),
    ],
    ids=["another-line", "a-line-less", "many-lines-in-one"],
)
def test_a_change_has_the_lines_that_differ(mutated: str, expected: Change) -> None:
    assert Change.between(SOURCE, mutated) == expected


def a_tree(folder: Path) -> Path:
    (folder / "a.py").write_text(SOURCE, "utf-8")
    (folder / "test_a.py").write_text("", "utf-8")
    return folder


def test_a_survivor_whose_lines_are_there_has_no_problem(tmp_path: Path) -> None:
    survivors = {Change("if a > 1:", "if a >= 1:"): "Equal.", Change("return g( a, b=2, )", "None"): "Equal."}
    assert MutatedModule("a.py", ("test_a.py",), survivors).problems(a_tree(tmp_path)) == []


@pytest.mark.parametrize(
    ("module", "problem"),
    [
        (MutatedModule("b.py", ("test_a.py",)), "b.py does not exist"),
        (MutatedModule("a.py", ("test_b.py",)), "test_b.py does not exist"),
        (MutatedModule("a.py", ("test_a.py",), {Change("if a > 2:", "x"): "?"}), "a.py has no 'if a > 2:'"),
        (MutatedModule("a.py", ("test_a.py",), {Change("if a > 1:", "x"): ""}), "a.py: no reason for"),
    ],
)
def test_what_does_not_fit_the_tree_is_reported(module: MutatedModule, problem: str, tmp_path: Path) -> None:
    (told,) = module.problems(a_tree(tmp_path))
    assert problem in told


def test_a_survivor_of_a_module_that_is_not_listed_is_an_error() -> None:
    survivor = '[[survivor]]\nmodule = "b.py"\nbefore = "x"\nafter = "y"\nreason = "z"\n'
    with pytest.raises(KeyError, match=r"b\.py"):
        read_modules(f'[[module]]\npath = "a.py"\ntests = []\n{survivor}')

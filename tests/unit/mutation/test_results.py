"""The result of a module: what somebody has to do, and its row in the page."""

import pytest

from verification.mutation.modules import Change, MutatedModule
from verification.mutation.results import TABLE, ModuleResult, with_rows

PLUS, MINUS, TIMES = (Change("a = 1", f"a = {each}") for each in "234")
PAGE = f"# Title\n\n{TABLE.begin}\n{TABLE.end}\n\nMore.\n"


def a_result(
    counted: dict[Change, bool],
    *,
    reasons: tuple[Change, ...] = (),
    explained: dict[Change, bool] | None = None,
) -> ModuleResult:
    module = MutatedModule("a.py", ("test_a.py",), dict.fromkeys(reasons, "Equal."))
    return ModuleResult(module, 20, "all", tuple(counted.items()), explained or {})


def killed(number: int) -> dict[Change, bool]:
    return {Change("b = 0", f"b = {each}"): True for each in range(number)}


def test_a_module_whose_mutants_are_killed_or_explained_is_in_order() -> None:
    result = a_result({**killed(9), PLUS: False}, reasons=(PLUS,), explained={PLUS: False})
    assert result.problems() == []
    assert (result.killed, result.score) == (9, 0.9)


def test_a_survivor_without_a_reason_is_reported() -> None:
    (told,) = a_result({**killed(20), PLUS: False}).problems()
    assert told == "a.py: survived: a = 1  ->  a = 2"


def test_a_reason_whose_mutant_is_killed_now_is_an_error_also_outside_the_sample() -> None:
    (told,) = a_result(killed(5), reasons=(PLUS,), explained={PLUS: True}).problems()
    assert told == "a.py: is killed now, remove its reason: a = 1  ->  a = 2"


def test_a_reason_without_a_mutant_is_an_error() -> None:
    (told,) = a_result(killed(5), reasons=(PLUS,)).problems()
    assert told == "a.py: is no mutant any more: a = 1  ->  a = 2"


def test_reasons_do_not_raise_a_low_score() -> None:
    survived = {PLUS: False, MINUS: False}
    result = a_result({**killed(17), **survived}, reasons=(PLUS, MINUS), explained=survived)
    (told,) = result.problems()
    assert told == "a.py: the score is 0.895; the minimum is 0.9"


def test_a_row_has_the_figures_of_the_run() -> None:
    survived = {PLUS: False, MINUS: False}
    result = a_result({**killed(6), **survived}, reasons=(PLUS, TIMES), explained={PLUS: False, TIMES: False})
    assert result.row() == "| `a.py` | 20 | all | 6 of 8 | 0.750 | 1 of 2 |"


def test_a_new_row_replaces_the_one_of_its_module_and_leaves_the_others() -> None:
    page = with_rows(PAGE, ["| `b.py` | 1 |", "| `a.py` | 1 |"], ["a.py", "b.py"])
    page = with_rows(page, ["| `b.py` | 2 |"], ["a.py", "b.py"])
    assert "| `a.py` | 1 |\n| `b.py` | 2 |\n" in page
    assert TABLE.names(page) == ["a.py", "b.py"]
    assert page.startswith("# Title\n")
    assert page.endswith(f"{TABLE.end}\n\nMore.\n")


def test_a_module_that_did_not_run_has_a_row_with_that_result() -> None:
    page = with_rows(PAGE, ["| `b.py` | 2 |"], ["a.py", "b.py"])
    assert "| `a.py` | not run | | | | |\n| `b.py` | 2 |\n" in page


@pytest.mark.parametrize("gone", ["a.py", "b.py"])
def test_the_row_of_a_module_that_is_not_listed_any_more_goes(gone: str) -> None:
    page = with_rows(PAGE, ["| `a.py` | 1 |", "| `b.py` | 1 |"], ["a.py", "b.py"])
    left = [each for each in ("a.py", "b.py") if each != gone]
    assert TABLE.names(with_rows(page, [], left)) == left

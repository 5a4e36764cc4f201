"""The protections that are taken out: their lines and their tests exist, and the page names them."""

import tomllib

import pytest

from verification.chaos.protections import FOUND, ROOT, Protection, parse
from verification.chaos.report import PAGE, protected

PROTECTIONS = parse(tomllib.loads(FOUND.read_text(encoding="utf-8")))


@pytest.mark.parametrize("protection", PROTECTIONS, ids=[each.what for each in PROTECTIONS])
def test_the_lines_of_a_protection_are_in_its_file_once_and_its_test_exists(protection: Protection) -> None:
    text = (ROOT / protection.file).read_text(encoding="utf-8")
    file, _, name = protection.test.partition("::")
    assert protection.without(text) != text
    assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8")


def test_lines_that_are_not_there_are_refused() -> None:
    protection = Protection("a check", "a.py", "if bad:", "if False:", "tests/test_a.py::test_a")
    assert protection.without("if bad:\n    stop()\n") == "if False:\n    stop()\n"
    for text in ("", "if bad:\nif bad:\n"):
        with pytest.raises(ValueError, match=r"a\.py has these lines"):
            protection.without(text)


def test_the_page_about_reliability_lists_the_protections() -> None:
    found = tomllib.loads(FOUND.read_text(encoding="utf-8"))
    assert "\n".join(protected(found["protection"])).strip() in PAGE.read_text(encoding="utf-8")

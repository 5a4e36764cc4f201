"""The modules that the engine traces."""

import pytest

from verification.fuzz.guides import GUIDES
from verification.fuzz.process import other_modules


def test_of_the_packages_of_the_guides_all_other_modules_are_excluded() -> None:
    others = other_modules(["counterfoil.archives.tags", "jsonpath.selectors"])
    assert {"counterfoil", "counterfoil.archives.names", "jsonpath.lex"} <= set(others)
    assert not {"counterfoil.archives.tags", "jsonpath.selectors"} & set(others)
    assert not [each for each in others if each.startswith("webhook")]


@pytest.mark.parametrize("name", sorted(GUIDES))
def test_each_guide_is_a_module_or_package_that_is_there(name: str) -> None:
    packages = [each.partition(".")[0] for each in GUIDES[name]]
    there = set(other_modules([f"{each}.none" for each in packages]))
    assert set(GUIDES[name]) <= there

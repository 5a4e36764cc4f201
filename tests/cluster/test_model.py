"""The model of one envelope at small bounds (``python -m verification.formal small``), with Spin."""

import pytest

import verification.formal.__main__ as model
from verification.formal.__main__ import PROTECTIONS, REMAINING, SMALL, Check


def described(check: Check) -> str:
    """Return a name for a test."""
    return "-".join((*check.name.split(), *(["ends"] if check.is_liveness else [])))


@pytest.mark.parametrize("check", SMALL, ids=described)
def test_no_order_of_steps_and_faults_violates_a_rule(check: Check) -> None:
    assert model.run(check).violated == ""


@pytest.mark.parametrize("check", PROTECTIONS, ids=described)
def test_the_model_finds_what_each_protection_protects_from(check: Check) -> None:
    assert check.violated in model.run(check).violated
    assert check.violated


@pytest.mark.parametrize("check", REMAINING, ids=described)
def test_the_model_finds_what_each_assumption_excludes(check: Check) -> None:
    assert check.violated in model.run(check).violated
    assert check.violated

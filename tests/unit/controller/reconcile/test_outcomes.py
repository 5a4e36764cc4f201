"""Words of the messages that the phases share."""

import pytest

from controller.reconcile.outcomes import counted


@pytest.mark.parametrize(
    ("number", "expected"), [(0, "0 files"), (1, "1 file"), (2, "2 files"), (5000, "5000 files")]
)
def test_a_number_has_its_noun_in_the_right_form(number: int, expected: str) -> None:
    assert counted(number, "file") == expected

"""Words of the messages that the phases share."""

import pytest

from controller.reconcile.outcomes import NeedConsent, Outcome, Skip, counted, outcome_label


@pytest.mark.parametrize(
    ("number", "expected"), [(0, "0 files"), (1, "1 file"), (2, "2 files"), (5000, "5000 files")]
)
def test_a_number_has_its_noun_in_the_right_form(number: int, expected: str) -> None:
    assert counted(number, "file") == expected


@pytest.mark.parametrize(("kind", "expected"), [(Skip, "skip"), (NeedConsent, "needconsent")])
def test_metrics_name_an_outcome_in_lower_case(kind: type[Outcome], expected: str) -> None:
    assert outcome_label(kind) == expected

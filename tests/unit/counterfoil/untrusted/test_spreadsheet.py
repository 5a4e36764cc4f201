"""No text of others becomes a formula in a spreadsheet."""

import pytest

from counterfoil.untrusted.spreadsheet import neutralized


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ('Lease;=HYPERLINK("https://a.example")', 'Lease;\'=HYPERLINK("https://a.example")'),
        ('A;"=1', "A;'\"=1"),
        ("A; ;@B", "A; ;'@B"),
        ("A\n=1\r\n+2\t-3", "A\n'=1\r\n'+2\t'-3"),
        ("\t=1", "'\t'=1"),
    ],
)
def test_no_cell_is_a_formula_where_other_marks_separate_cells(text: str, written: str) -> None:
    assert neutralized(text) == written


def test_other_texts_stay_as_they_are() -> None:
    for text in ("", "a=b", "2026-07-01", "Müller & Söhne", "A; B", "A;\nB", "1;2"):
        assert neutralized(text) == text

"""Patterns of settings: the syntax of RE2, for the whole text."""

import pytest

from counterfoil.untrusted.patterns import matches, pattern_error


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("[0-9]{4}", "4711", True),
        ("[0-9]{4}", "47110", False),
        ("[0-9]{4}", "x4711", False),
        ("a|ab", "ab", True),
        (r"\p{L}+", "Ärger", True),
        (r"\d", "٣", False),
        ("", "", True),
        ("", "x", False),
        (".", "𐐀", True),
    ],
)
def test_a_pattern_counts_for_the_whole_text(pattern: str, text: str, expected: bool) -> None:
    assert pattern_error(pattern) is None
    assert matches(pattern, text) is expected


@pytest.mark.parametrize(
    ("pattern", "cause"),
    [
        ("(", "missing )"),
        ("(?<=a)b", "invalid perl operator"),
        (r"(a)\1", "invalid escape sequence"),
        (r"\p{L}{1,1000}", "pattern too large"),
    ],
)
def test_an_invalid_pattern_is_explained_and_matches_every_text(pattern: str, cause: str) -> None:
    assert cause in (pattern_error(pattern) or "")
    assert matches(pattern, "whatever")

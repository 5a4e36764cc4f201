"""Patterns of settings: the syntax of RE2, for the whole text."""

import time

import pytest

from counterfoil.untrusted.patterns import FORM_PATTERNS, ROUTE_PATTERNS, Patterns


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
    assert ROUTE_PATTERNS.error(pattern) is None
    assert ROUTE_PATTERNS.full_match(pattern, text) is expected


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
    assert cause in (FORM_PATTERNS.error(pattern) or "")
    assert FORM_PATTERNS.matches(pattern, "whatever")


@pytest.mark.parametrize("pattern", [r"(?i)[^\pL]{300}x", r"\pL{0,200}x", r"\pL" * 60 + "(a?){100}"])
def test_a_pattern_that_becomes_a_large_program_is_refused_before_it_is_expensive(pattern: str) -> None:
    """The compilation holds the interpreter, also in a thread."""
    before = time.thread_time()
    error = ROUTE_PATTERNS.error(pattern)
    assert time.thread_time() - before < 0.05
    assert "pattern too large" in (error or "")


def test_patterns_are_compiled_once_also_if_there_are_more_than_the_library_keeps() -> None:
    patterns = Patterns(256 * 1024, 256)
    texts = [f"(?i)[a-zäöüß]{{1,{each}}}x" for each in range(40, 240)]
    for each in texts * 3:
        patterns.full_match(each, "y")
    assert patterns.compiled.cache_info().misses == len(texts)


@pytest.mark.parametrize(
    "pattern", [r"[\p{L} '-]{2,40}", r"\p{L}{1,20}", r"[\p{L}\p{N} .,/-]{1,60}", r"\p{Lu}{2}\p{L}{1,30}"]
)
def test_a_field_of_a_form_may_have_a_counted_class_of_letters(pattern: str) -> None:
    assert FORM_PATTERNS.error(pattern) is None
    assert not FORM_PATTERNS.matches(pattern, "DROP 1234; <b>")

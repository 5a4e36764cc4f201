"""Durations are read as people write them, and written so that they are read the same again."""

import re
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.durations import PATTERN, Duration

TEN_YEARS = 10 * 365 * 24 * 3_600_000


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("0", timedelta(0)),
        ("0s", timedelta(0)),
        ("500ms", timedelta(milliseconds=500)),
        ("10s", timedelta(seconds=10)),
        ("1h30m", timedelta(minutes=90)),
        ("1.5h", timedelta(minutes=90)),
        ("90m", timedelta(minutes=90)),
        ("720h", timedelta(days=30)),
        ("1m1m", timedelta(minutes=2)),
    ],
)
def test_a_go_style_duration_is_read(text: str, length: timedelta) -> None:
    assert Duration.parse(text) == length


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10",
        "-1s",
        "+1s",
        "1d",
        "1 h",
        "h",
        ".5h",
        "1.h",
        "10S",
        "5us",
        "1s ",
        "1s\n",
        "1h-30m",
        "\u0661s",
    ],
)
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration; write it as in 500ms, 10s or 1h30m"):
        Duration.parse(text)


@pytest.mark.parametrize("text", ["999999999999999h", "9" * 400 + "h"])
def test_a_duration_that_no_computer_can_wait_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is too long"):
        Duration.parse(text)


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (Duration(0), "0s"),
        (Duration(milliseconds=1500), "1s500ms"),
        (Duration(minutes=90), "1h30m"),
        (Duration(days=30), "720h"),
        (Duration(hours=1, seconds=1), "1h1s"),
    ],
)
def test_a_duration_is_written_in_its_largest_units(length: Duration, text: str) -> None:
    assert str(length) == text


@given(st.integers(min_value=0, max_value=TEN_YEARS))
def test_what_is_written_is_read_as_the_same_length(milliseconds: int) -> None:
    length = Duration(milliseconds=milliseconds)
    assert Duration.parse(str(length)) == length


@given(st.integers(min_value=0, max_value=TEN_YEARS))
def test_what_is_written_fits_the_pattern_of_the_crds(milliseconds: int) -> None:
    assert re.search(PATTERN, str(Duration(milliseconds=milliseconds)))


@given(st.from_regex(PATTERN, fullmatch=True).filter(lambda text: len(text) <= 10))
def test_every_value_that_fits_the_pattern_is_read(text: str) -> None:
    if not text.endswith("\n"):
        assert Duration.parse(text) >= timedelta(0)

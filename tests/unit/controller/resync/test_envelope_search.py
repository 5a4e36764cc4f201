"""Answers of eSAW that have the same envelopes for different times raise a doubt; two of them are kept."""

from datetime import timedelta
from itertools import product

import pytest

from controller.resync.envelope_search import _NOTHING, ComparedAnswers
from tests.support.builders import NOON

Answer = tuple[int, int | None]
"""The number of a window, and the content of its answer."""


def compared(*answers: Answer) -> ComparedAnswers:
    found = ComparedAnswers()
    for number, content in answers:
        found.add((NOON + timedelta(days=number), NOON + timedelta(days=number + 1)), content)
    return found


@pytest.mark.parametrize("contents", list(product([1, 2, None, _NOTHING], repeat=4)))
def test_two_kept_answers_show_the_same_as_all_of_them(contents: tuple[int | None, ...]) -> None:
    everything = {*contents}
    are_equal = len(everything) == 1 and not {None, _NOTHING} & everything
    assert compared(*enumerate(contents)).are_all_equal is are_equal


def test_one_window_that_is_asked_for_twice_is_no_second_window() -> None:
    assert not compared((0, 1), (0, 1)).are_all_equal


def test_a_newer_answer_to_a_kept_window_replaces_the_older_one() -> None:
    assert compared((0, 1), (0, 2), (1, 2)).are_all_equal
    assert not compared((0, 1), (1, 1), (0, 2)).are_all_equal

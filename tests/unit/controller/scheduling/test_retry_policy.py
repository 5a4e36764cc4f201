"""When to try again, and when to give up."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.scheduling.retry_policy import is_deadline_exceeded, next_attempt
from counterfoil.durations import Duration
from counterfoil.resources import RetrySpec
from tests.support.builders import NOON

POLICY = RetrySpec(initial=Duration(seconds=10), max=Duration(hours=1), deadline=Duration(hours=24))


@pytest.mark.parametrize(
    ("attempts", "ceiling"), [(1, 10), (2, 20), (3, 40), (9, 2560), (10, 3600), (50, 3600), (10_000, 3600)]
)
def test_the_pause_doubles_with_every_attempt_up_to_the_longest(attempts: int, ceiling: int) -> None:
    due = next_attempt(attempts, POLICY, now=NOON, random=lambda: 0.5)
    assert due - (NOON + timedelta(seconds=ceiling * 0.5)) <= timedelta(seconds=1)


@given(attempts=st.integers(1, 100), chance=st.floats(0, 1, exclude_max=True))
def test_the_jitter_is_full_so_it_may_be_anything_from_now_to_the_ceiling(
    attempts: int, chance: float
) -> None:
    due = next_attempt(attempts, POLICY, now=NOON, random=lambda: chance)
    assert NOON <= due <= NOON + POLICY.max + timedelta(seconds=1)


def test_times_that_people_read_are_whole_seconds() -> None:
    assert next_attempt(1, POLICY, now=NOON, random=lambda: 0.123).microsecond == 0


def test_the_shortest_pauses_are_not_rounded() -> None:
    quick = RetrySpec(initial=Duration(milliseconds=200), max=Duration(seconds=2), deadline=Duration(hours=1))
    assert next_attempt(1, quick, now=NOON, random=lambda: 0.5) == NOON + timedelta(milliseconds=100)


def test_it_never_comes_back_before_the_other_side_allowed() -> None:
    allowed = NOON + timedelta(minutes=7)
    assert next_attempt(1, POLICY, now=NOON, random=lambda: 0.0, not_before=allowed) >= allowed


def test_those_who_were_all_sent_away_until_noon_do_not_all_come_back_at_noon() -> None:
    allowed = NOON + timedelta(minutes=7)
    chances = iter(range(10))
    due = {
        next_attempt(3, POLICY, now=NOON, random=lambda: next(chances) / 10, not_before=allowed)
        for _ in range(10)
    }
    assert len(due) == 10


def test_a_phase_has_ended_when_its_deadline_has_passed_and_not_a_moment_earlier() -> None:
    assert not is_deadline_exceeded(NOON, POLICY, now=NOON + timedelta(hours=23, minutes=59))
    assert is_deadline_exceeded(NOON, POLICY, now=NOON + timedelta(hours=24))


def test_a_phase_that_has_not_begun_is_never_over() -> None:
    assert not is_deadline_exceeded(None, POLICY, now=NOON)

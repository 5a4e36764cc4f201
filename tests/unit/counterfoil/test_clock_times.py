"""The limits within which a stored time is believed."""

from datetime import timedelta

import pytest

from counterfoil.clock import CLOCK_DIFFERENCE, age, believed_time
from tests.support.builders import NOON

HOUR, MONTH = timedelta(hours=1), timedelta(days=30)


@pytest.mark.parametrize(
    ("after_now", "ahead", "is_believed"),
    [
        (-MONTH, timedelta(0), True),
        (timedelta(0), timedelta(0), True),
        (CLOCK_DIFFERENCE, timedelta(0), True),
        (CLOCK_DIFFERENCE + timedelta(seconds=1), timedelta(0), False),
        (MONTH, timedelta(0), False),
        (HOUR + CLOCK_DIFFERENCE, HOUR, True),
        (HOUR + CLOCK_DIFFERENCE + timedelta(seconds=1), HOUR, False),
        (MONTH, MONTH, True),
    ],
)
def test_a_stored_time_is_believed_up_to_what_the_settings_allow(
    after_now: timedelta, ahead: timedelta, *, is_believed: bool
) -> None:
    stored = NOON + after_now
    assert believed_time(stored, NOON, ahead=ahead) == (stored if is_believed else None)


def test_a_time_that_is_not_set_is_none() -> None:
    assert believed_time(None, NOON) is None


@pytest.mark.parametrize(
    ("after_now", "expected"),
    [(-HOUR, HOUR), (timedelta(minutes=1), timedelta(minutes=-1)), (MONTH, timedelta.max)],
)
def test_the_age_of_a_time_that_cannot_be_right_is_beyond_each_limit(
    after_now: timedelta, expected: timedelta
) -> None:
    assert age(NOON + after_now, NOON) == expected

"""How fast eSAW is called, and how long it is left alone when it asks for that. The clock stands still."""

import asyncio
from datetime import timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.esaw import Answered, Paused
from counterfoil.esaw.pace import Pace
from tests.unit.esaw_scripted import START, HandClock


def a_pace(clock: HandClock, *, per_second: float | None = None) -> Pace:
    return Pace(clock, per_second=per_second, longest_pause=3600)


async def waits(pace: Pace, clock: HandClock, calls: int) -> list[float]:
    """How long each of so many calls in a row waited for its turn."""
    found = []
    for _ in range(calls):
        began = clock.now()
        await pace.enter()
        found.append(round((clock.now() - began).total_seconds(), 3))
    return found


async def test_without_a_rate_nobody_waits() -> None:
    clock = HandClock()
    assert await waits(a_pace(clock), clock, 1000) == [0.0] * 1000


async def test_one_seconds_worth_goes_at_once_and_then_one_at_a_time() -> None:
    clock = HandClock()
    assert await waits(a_pace(clock, per_second=4), clock, 7) == [0.0, 0.0, 0.0, 0.0, 0.25, 0.25, 0.25]


async def test_a_rate_below_one_gives_no_burst() -> None:
    clock = HandClock()
    assert await waits(a_pace(clock, per_second=0.5), clock, 3) == [0.0, 2.0, 2.0]


async def test_what_was_not_used_is_saved_up_for_one_second_only() -> None:
    clock = HandClock()
    pace = a_pace(clock, per_second=2)
    await waits(pace, clock, 4)
    clock.move(3600)
    assert await waits(pace, clock, 4) == [0.0, 0.0, 0.5, 0.5]


@given(
    rate=st.floats(min_value=0.1, max_value=50),
    gaps=st.lists(st.floats(min_value=0, max_value=3), min_size=1, max_size=60),
)
async def test_no_second_sees_more_than_the_rate_and_its_burst(rate: float, gaps: list[float]) -> None:
    clock = HandClock()
    pace = a_pace(clock, per_second=rate)
    gone = []
    for gap in gaps:
        clock.move(gap)
        await pace.enter()
        gone.append(clock.now())
    for moment in gone:
        within = [each for each in gone if timedelta(0) <= each - moment < timedelta(seconds=1)]
        assert len(within) <= max(1.0, rate) + rate + 0.001


async def test_callers_at_the_same_time_get_turns_one_after_the_other() -> None:
    clock = HandClock()
    pace = a_pace(clock, per_second=1)
    turns: list[float] = []

    class Noting(HandClock):
        async def sleep(self, seconds: float) -> None:
            turns.append(seconds)

    pace = a_pace(Noting(), per_second=1)
    await asyncio.gather(*(pace.enter() for _ in range(4)))
    assert turns == [1.0, 2.0, 3.0]


async def test_a_clock_that_is_set_back_makes_nobody_wait_for_the_difference() -> None:
    clock = HandClock()
    pace = a_pace(clock, per_second=1)
    await pace.enter()
    clock.move(-86400)
    assert await waits(pace, clock, 2) == [1.0, 1.0]


@pytest.mark.parametrize("rate", [0, -1])
def test_a_rate_of_nothing_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="above zero"):
        a_pace(HandClock(), per_second=rate)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("999999", 3600.0),
        ("9" * 5000, 3600.0),
        (format_datetime(START + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(START - timedelta(days=1), usegmt=True), 0.0),
        (format_datetime(START + timedelta(days=9), usegmt=True), 3600.0),
        ("Thu, 02 Jul 2026 12:00:30 +0200", 30.0),
        ("-5", None),
        ("1.5", None),
        ("²", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_read_as_seconds_and_as_a_date(header: str | None, seconds: float | None) -> None:
    assert a_pace(HandClock()).seconds_asked(header) == seconds


@given(st.text(max_size=80))
def test_no_retry_after_whatsoever_breaks_the_reading(header: str) -> None:
    seconds = a_pace(HandClock()).seconds_asked(header)
    assert seconds is None or 0 <= seconds <= 3600


@pytest.mark.parametrize("status", [429, 503])
async def test_a_pause_refuses_every_call_until_it_is_over(status: int) -> None:
    clock = HandClock()
    pace = a_pace(clock)
    pace.heed(Answered(status, retry_after=60))
    clock.move(59)
    with pytest.raises(Paused) as paused:
        await pace.enter()
    assert paused.value.status == status
    assert paused.value.until == START + timedelta(seconds=60)
    assert paused.value.retry_after == 1.0
    clock.move(1)
    await pace.enter()


async def test_a_pause_is_told_in_words_that_stay_the_same() -> None:
    clock = HandClock()
    pace = a_pace(clock)
    pace.heed(Answered(429, retry_after=60))
    told = set()
    for _ in range(3):
        clock.move(10)
        with pytest.raises(Paused) as paused:
            await pace.enter()
        told.add(str(paused.value))
    assert told == {"eSAW asked for a pause (it answered 429 with Retry-After)."}


async def test_a_shorter_pause_does_not_cut_a_longer_one() -> None:
    clock = HandClock()
    pace = a_pace(clock)
    pace.heed(Answered(429, retry_after=60))
    pace.heed(Answered(503, retry_after=5))
    clock.move(30)
    with pytest.raises(Paused):
        await pace.enter()


@pytest.mark.parametrize(
    "answer", [Answered(429), Answered(429, retry_after=0.0), Answered(500, retry_after=60), Answered(401)]
)
async def test_other_answers_pause_nothing(answer: Answered) -> None:
    pace = a_pace(HandClock())
    pace.heed(answer)
    await pace.enter()


async def test_a_call_that_waited_for_its_turn_still_sees_a_pause_that_came_meanwhile() -> None:
    class Meanwhile(HandClock):
        async def sleep(self, seconds: float) -> None:
            await super().sleep(seconds)
            pace.heed(Answered(429, retry_after=60))

    pace = a_pace(Meanwhile(), per_second=1)
    await pace.enter()
    with pytest.raises(Paused):
        await pace.enter()


async def test_a_clock_that_is_set_back_does_not_stretch_a_pause_beyond_its_bound() -> None:
    clock = HandClock()
    pace = a_pace(clock)
    pace.heed(Answered(429, retry_after=60))
    clock.move(-86400)
    await pace.enter()

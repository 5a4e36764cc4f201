"""Rate of the calls to eSAW, and the pause that eSAW asks for. The clock does not advance."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from datetime import timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.esaw import HttpStatusError, RateLimited
from counterfoil.esaw.rate_limit import RateLimiter, answering_within, holding, pause_while_waiting
from counterfoil.untrusted.background_work import set_background
from tests.support.builders import AClock
from tests.support.servers.scripted_esaw import START
from tests.support.virtual_time import VirtualClock, VirtualTimeLoop, run_in_virtual_time


def a_rate_limiter(clock: AClock, *, per_second: float | None = None) -> RateLimiter:
    return RateLimiter(clock, per_second=per_second, max_retry_after=3600)


async def waits(rate_limiter: RateLimiter, clock: AClock, calls: int) -> list[float]:
    """Return the seconds that each of these calls in a row waited."""
    found = []
    for _ in range(calls):
        began = clock.now()
        await rate_limiter.acquire()
        found.append(round((clock.now() - began).total_seconds(), 3))
    return found


async def test_without_a_rate_nobody_waits() -> None:
    clock = AClock(START)
    assert await waits(a_rate_limiter(clock), clock, 1000) == [0.0] * 1000


async def test_one_seconds_worth_goes_at_once_and_then_one_at_a_time() -> None:
    clock = AClock(START)
    assert await waits(a_rate_limiter(clock, per_second=4), clock, 7) == [
        0.0,
        0.0,
        0.0,
        0.0,
        0.25,
        0.25,
        0.25,
    ]


async def test_a_rate_below_one_gives_no_burst() -> None:
    clock = AClock(START)
    assert await waits(a_rate_limiter(clock, per_second=0.5), clock, 3) == [0.0, 2.0, 2.0]


async def test_what_was_not_used_is_saved_up_for_one_second_only() -> None:
    clock = AClock(START)
    rate_limiter = a_rate_limiter(clock, per_second=2)
    await waits(rate_limiter, clock, 4)
    clock.advance(seconds=3600)
    assert await waits(rate_limiter, clock, 4) == [0.0, 0.0, 0.5, 0.5]


@given(
    rate=st.floats(min_value=0.1, max_value=50),
    gaps=st.lists(st.floats(min_value=0, max_value=3), min_size=1, max_size=60),
)
async def test_no_second_sees_more_than_the_rate_and_its_burst(rate: float, gaps: list[float]) -> None:
    clock = AClock(START)
    rate_limiter = a_rate_limiter(clock, per_second=rate)
    gone = []
    for gap in gaps:
        clock.advance(seconds=gap)
        await rate_limiter.acquire()
        gone.append(clock.now())
    for moment in gone:
        within = [each for each in gone if timedelta(0) <= each - moment < timedelta(seconds=1)]
        assert len(within) <= max(1.0, rate) + rate + 0.001


async def test_concurrent_callers_get_slots_one_after_the_other() -> None:
    clock = AClock(START)
    rate_limiter = a_rate_limiter(clock, per_second=1)
    turns: list[float] = []

    class RecordingClock(AClock):
        async def sleep(self, seconds: float) -> None:
            turns.append(seconds)

    rate_limiter = a_rate_limiter(RecordingClock(), per_second=1)
    await asyncio.gather(*(rate_limiter.acquire() for _ in range(4)))
    assert turns == [1.0, 2.0, 3.0]


async def test_a_clock_that_is_set_back_makes_nobody_wait_for_the_difference() -> None:
    clock = AClock(START)
    rate_limiter = a_rate_limiter(clock, per_second=1)
    await rate_limiter.acquire()
    clock.set_back(days=1)
    assert await waits(rate_limiter, clock, 2) == [1.0, 1.0]


@pytest.mark.parametrize("rate", [0, -1])
def test_a_rate_of_nothing_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="above zero"):
        a_rate_limiter(AClock(START), per_second=rate)


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
    assert a_rate_limiter(AClock(START)).parse_retry_after(header) == seconds


@given(st.text(max_size=80))
def test_no_value_of_retry_after_breaks_the_reading(header: str) -> None:
    seconds = a_rate_limiter(AClock(START)).parse_retry_after(header)
    assert seconds is None or 0 <= seconds <= 3600


@pytest.mark.parametrize("status", [429, 503])
async def test_a_pause_refuses_every_call_until_it_has_ended(status: int) -> None:
    clock = AClock(START)
    rate_limiter = a_rate_limiter(clock)
    rate_limiter.apply_retry_after(HttpStatusError(status, retry_after=60))
    clock.advance(seconds=59)
    with pytest.raises(RateLimited) as paused:
        await rate_limiter.acquire()
    assert paused.value.status == status
    assert paused.value.until == START + timedelta(seconds=60)
    assert paused.value.retry_after == 1.0
    clock.advance(seconds=1)
    await rate_limiter.acquire()


async def test_a_pause_is_reported_in_words_that_stay_the_same() -> None:
    clock = AClock(START)
    rate_limiter = a_rate_limiter(clock)
    rate_limiter.apply_retry_after(HttpStatusError(429, retry_after=60))
    told = set()
    for _ in range(3):
        clock.advance(seconds=10)
        with pytest.raises(RateLimited) as paused:
            await rate_limiter.acquire()
        told.add(str(paused.value))
    assert told == {"eSAW asked for a pause (it answered 429 with Retry-After)."}


async def test_a_shorter_pause_does_not_cut_a_longer_one() -> None:
    clock = AClock(START)
    rate_limiter = a_rate_limiter(clock)
    rate_limiter.apply_retry_after(HttpStatusError(429, retry_after=60))
    rate_limiter.apply_retry_after(HttpStatusError(503, retry_after=5))
    clock.advance(seconds=30)
    with pytest.raises(RateLimited):
        await rate_limiter.acquire()


@pytest.mark.parametrize(
    "answer",
    [
        HttpStatusError(429),
        HttpStatusError(429, retry_after=0.0),
        HttpStatusError(500, retry_after=60),
        HttpStatusError(401),
    ],
)
async def test_other_answers_pause_nothing(answer: HttpStatusError) -> None:
    rate_limiter = a_rate_limiter(AClock(START))
    rate_limiter.apply_retry_after(answer)
    await rate_limiter.acquire()


async def test_a_call_that_waited_for_its_turn_still_sees_a_pause_that_came_meanwhile() -> None:
    class Meanwhile(AClock):
        async def sleep(self, seconds: float) -> None:
            await super().sleep(seconds)
            rate_limiter.apply_retry_after(HttpStatusError(429, retry_after=60))

    rate_limiter = a_rate_limiter(Meanwhile(), per_second=1)
    await rate_limiter.acquire()
    with pytest.raises(RateLimited):
        await rate_limiter.acquire()


async def test_a_clock_that_is_set_back_does_not_stretch_a_pause_beyond_its_bound() -> None:
    clock = AClock(START)
    rate_limiter = a_rate_limiter(clock)
    rate_limiter.apply_retry_after(HttpStatusError(429, retry_after=60))
    clock.set_back(days=1)
    await rate_limiter.acquire()


async def test_only_a_long_wait_releases_what_others_can_use() -> None:
    clock, contexts = AClock(START), list[str]()

    @asynccontextmanager
    async def while_waiting() -> AsyncIterator[None]:
        contexts.append("begin")
        yield
        contexts.append("end")

    pause_while_waiting(while_waiting)
    fast, slow = a_rate_limiter(clock, per_second=2), a_rate_limiter(clock, per_second=0.5)
    for _ in range(5):
        await fast.acquire()
    assert contexts == []
    for _ in range(2):
        await slow.acquire()
    assert contexts == ["begin", "end"]


@pytest.mark.parametrize("error", [None, ValueError("refused")])
async def test_a_task_that_waits_with_a_lock_has_what_it_returned_after_the_lock_only(
    error: ValueError | None,
) -> None:
    clock, lock, is_locked = AClock(START), asyncio.Lock(), list[bool]()

    @asynccontextmanager
    async def while_waiting() -> AsyncIterator[None]:
        is_locked.append(lock.locked())
        yield
        is_locked.append(lock.locked())

    pause_while_waiting(while_waiting)
    slow = a_rate_limiter(clock, per_second=0.5)
    with pytest.raises(ValueError, match="refused") if error else nullcontext():
        async with holding(lock):
            for _ in range(3):
                await slow.acquire()
            assert is_locked == [True], "it waits twice, and nothing is taken again in between"
            if error is not None:
                raise error
    assert is_locked == [True, False]
    await slow.acquire()
    assert is_locked == [True, False, False, False]


class SharedRate:
    """Calls that share one request a second, and when each had its turn, in seconds."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        self.clock = VirtualClock(loop)
        self.rate_limiter = RateLimiter(self.clock, per_second=1, max_retry_after=3600)
        self.turns: list[tuple[str, float]] = []

    async def call(self, name: str, *, for_import: bool = False) -> None:
        """Wait for the turn of a call."""
        set_background(for_import)
        await self.rate_limiter.acquire()
        self.turns.append((name, round(self.clock.monotonic(), 3)))


def test_a_call_waits_behind_no_call_for_an_import() -> None:
    async def turns() -> list[tuple[str, float]]:
        shared = SharedRate()
        async with asyncio.TaskGroup() as calls:
            for number in range(4):
                calls.create_task(shared.call(f"import {number}", for_import=True))
            await asyncio.sleep(0.5)
            calls.create_task(shared.call("callback 0"))
            calls.create_task(shared.call("callback 1"))
        return shared.turns

    assert run_in_virtual_time(turns()) == [
        ("import 0", 0.0),
        ("callback 0", 1.0),
        ("callback 1", 2.0),
        ("import 1", 3.0),
        ("import 2", 4.0),
        ("import 3", 5.0),
    ]


@pytest.mark.parametrize(("seconds", "is_late"), [(19.0, False), (21.0, True)])
def test_the_wait_for_a_turn_does_not_count_as_time_for_an_answer(seconds: float, is_late: bool) -> None:
    async def call() -> None:
        shared = SharedRate()
        others = [asyncio.create_task(shared.call("another one")) for _ in range(60)]
        await asyncio.sleep(0)
        async with answering_within(20.0):
            await shared.call("this one")
            await asyncio.sleep(seconds)
        await asyncio.gather(*others)

    with pytest.raises(TimeoutError) if is_late else nullcontext():
        run_in_virtual_time(call())


def test_the_turn_of_a_cancelled_call_for_an_import_moves_nobody_back() -> None:
    async def turns() -> list[tuple[str, float]]:
        shared = SharedRate()
        async with asyncio.TaskGroup() as calls:
            _, second, _ = (
                calls.create_task(shared.call(f"import {number}", for_import=True)) for number in range(3)
            )
            await asyncio.sleep(0.5)
            second.cancel()
            await asyncio.sleep(0)
            calls.create_task(shared.call("callback"))
        return shared.turns

    assert run_in_virtual_time(turns()) == [("import 0", 0.0), ("callback", 2.0), ("import 2", 3.0)]


def test_a_call_for_an_import_waits_for_five_minutes_at_most() -> None:
    async def turns() -> list[tuple[str, float]]:
        shared = SharedRate()

        async def callbacks() -> None:
            while shared.clock.monotonic() < 3600:
                await shared.call("callback")

        async with asyncio.TaskGroup() as calls:
            for _ in range(2):
                calls.create_task(callbacks())
            for _ in range(3):
                calls.create_task(shared.call("import", for_import=True))
        return shared.turns

    waited = [seconds for name, seconds in run_in_virtual_time(turns()) if name == "import"]
    assert 290 < min(waited) <= max(waited) < 310


async def test_a_clock_that_is_set_back_lets_no_call_for_an_import_wait_for_the_difference() -> None:
    class Correcting(AClock):
        async def sleep(self, seconds: float) -> None:
            await super().sleep(seconds)
            if len(self.slept) == 1:
                self.set_back(days=1)

    clock = Correcting(START)
    rate_limiter = a_rate_limiter(clock, per_second=1)
    await rate_limiter.acquire()
    set_background(True)
    await rate_limiter.acquire()
    assert sum(clock.slept) <= 2.0

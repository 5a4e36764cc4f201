"""The functions that the checks of the targets share."""

import asyncio

import pytest

from verification.fuzz.target import PropertyViolated, promised, result_of


async def _value(number: int) -> int:
    return number


def test_a_coroutine_that_never_waits_needs_no_event_loop() -> None:
    assert result_of(_value(4)) == 4


def test_a_coroutine_that_waits_is_refused() -> None:
    with pytest.raises(PropertyViolated, match="waits"):
        result_of(asyncio.sleep(0))


def test_an_exception_breaks_a_promise() -> None:
    with pytest.raises(PropertyViolated, match=r"^it works: KeyError: 1$"), promised("it works"):
        raise KeyError(1)


def test_a_promise_that_is_kept_is_silent() -> None:
    with promised("it works"):
        pass

"""Slots for large answers: one for each owner, and a few for all."""

import asyncio
import tracemalloc
from contextlib import AsyncExitStack

import pytest

from counterfoil.untrusted.large_answers import (
    PART_BYTES,
    SMALL_BYTES,
    AnswerBody,
    AnswerTooSlow,
    LargeAnswers,
)


async def read_large(answers: LargeAnswers, owner: str) -> None:
    async with answers.reading(owner) as grow:
        await grow(SMALL_BYTES + 1)


async def hold(answers: LargeAnswers, owner: str, stack: AsyncExitStack) -> None:
    grow = await stack.enter_async_context(answers.reading(owner))
    for size in (SMALL_BYTES, SMALL_BYTES + 1, 2 * SMALL_BYTES):
        await grow(size)


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [b"a"],
        [b"a" * PART_BYTES],
        [b"a", b"b" * PART_BYTES, b"c", b"", b"d" * (PART_BYTES - 1), b"e"],
    ],
)
def test_a_body_has_all_bytes_in_their_order(parts: list[bytes]) -> None:
    body = AnswerBody()
    for each in parts:
        body.append(each)
    assert body.size == sum(map(len, parts))
    assert body.take() == b"".join(parts)
    assert (body.size, body.take()) == (0, b"")


def test_a_body_that_comes_byte_by_byte_takes_little_more_than_its_bytes() -> None:
    size = 256 * 1024
    tracemalloc.start()
    body = AnswerBody()
    for _ in range(size):
        body.append(b"x")
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert body.size == size
    assert taken < 1.1 * size


async def test_an_owner_has_one_large_answer_at_a_time_and_delays_no_other_owner() -> None:
    answers = LargeAnswers(2)
    async with AsyncExitStack() as stack:
        await hold(answers, "hostile", stack)
        waiting = asyncio.create_task(read_large(answers, "hostile"))
        async with asyncio.timeout(5):
            await read_large(answers, "acme")
        assert not waiting.done()
    await waiting


async def test_a_small_answer_waits_for_nothing() -> None:
    answers = LargeAnswers(1)
    async with AsyncExitStack() as stack:
        await hold(answers, "hostile", stack)
        async with asyncio.timeout(5), answers.reading("hostile") as grow:
            await grow(SMALL_BYTES)


async def test_all_owners_together_have_a_few_large_answers() -> None:
    answers = LargeAnswers(2)
    async with AsyncExitStack() as stack:
        await hold(answers, "a", stack)
        await hold(answers, "b", stack)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await read_large(answers, "c")
    await read_large(answers, "c")


async def test_a_cancelled_answer_leaves_its_slot() -> None:
    answers = LargeAnswers(1)
    async with AsyncExitStack() as stack:
        await hold(answers, "a", stack)
        waiting = [asyncio.create_task(read_large(answers, owner)) for owner in "aab"]
        await asyncio.sleep(0)
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    async with asyncio.timeout(5):
        await read_large(answers, "b")


async def test_an_answer_that_others_wait_for_is_given_up_and_one_that_nobody_waits_for_is_not() -> None:
    answers = LargeAnswers(1, hold_seconds=0.05)
    async with AsyncExitStack() as stack:
        await hold(answers, "slow", stack)
        await asyncio.sleep(0.2)

    async def slow() -> None:
        async with AsyncExitStack() as stack:
            await hold(answers, "slow", stack)
            await asyncio.sleep(60)

    holder = asyncio.create_task(slow())
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await read_large(answers, "acme")
    with pytest.raises(AnswerTooSlow):
        await holder


async def test_a_second_answer_of_the_same_owner_ends_none() -> None:
    answers = LargeAnswers(1, hold_seconds=0.05)
    async with AsyncExitStack() as stack:
        await hold(answers, "slow", stack)
        waiting = asyncio.create_task(read_large(answers, "slow"))
        await asyncio.sleep(0.2)
    await waiting

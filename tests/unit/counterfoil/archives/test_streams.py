"""
Streams: whole, in order, counted, and with nothing left running when someone leaves early.
"""

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.archives.backends._volume_threads import VolumeThreads
from counterfoil.archives.streams import HashingCounter, HashingThread, blocks, counting


async def each(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


@given(st.lists(st.binary(max_size=50)), st.integers(min_value=1, max_value=60))
async def test_blocks_are_the_same_bytes_in_bigger_pieces(chunks: list[bytes], size: int) -> None:
    joined = [block async for block in blocks(each(*chunks), size)]

    assert b"".join(joined) == b"".join(chunks)
    assert all(len(block) >= size for block in joined[:-1])
    assert b"" not in joined


async def test_a_hashing_counter_knows_size_and_hash_once_the_stream_has_ended() -> None:
    counter = HashingCounter()
    passed = b"".join([block async for block in counting(each(b"a" * 2_000_000, b"", b"b" * 10), counter)])

    assert len(passed) == counter.size == 2_000_010
    assert counter.sha256 == hashlib.sha256(passed).hexdigest()


async def test_what_the_source_raises_comes_out_unchanged() -> None:
    broken = KeyError("mine")

    async def chunks() -> AsyncIterator[bytes]:
        yield b"a" * 2_000_000
        raise broken

    with pytest.raises(KeyError) as caught:
        _ = [block async for block in counting(chunks(), HashingCounter())]
    assert caught.value is broken


async def test_what_the_work_behind_raises_is_raised_to_the_next_caller() -> None:
    def fail(block: bytes) -> None:
        raise OSError(28, block.decode())

    behind = HashingThread(fail)
    await behind.add(b"first")

    with pytest.raises(OSError, match="first"):
        await behind.add(b"second")
    await behind.abandon()


async def test_a_cancelled_caller_waits_for_what_runs_in_the_thread() -> None:
    started, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        go_on.wait(10)
        ended.set()

    task = asyncio.create_task(VolumeThreads().run(work))
    await asyncio.to_thread(started.wait, 10)
    task.cancel()
    task.get_loop().call_later(0.05, go_on.set)

    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_an_error_in_the_thread_reaches_the_caller() -> None:
    def work() -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await VolumeThreads().run(work)

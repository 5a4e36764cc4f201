"""
The pool of worker processes, with small scripts that speak its protocol or break it.

``tests/unit/counterfoil/signatures/test_worker_pool.py`` has the tests of a body, and of processes that die.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import msgspec
import pytest

from counterfoil.worker_processes.pool import WorkerPool, WorkerStopped, WorkerUnavailable

ROOM = 512 * 1024 * 1024
ECHO = f"""
import json, os, time
from counterfoil.worker_processes.worker import serve
def handle(head, size, requests, note):
    note(b"one"); note(b"two")
    BEHAVIOUR
    return json.dumps({{"text": head.decode()}}).encode()
serve(handle, memory_bytes={ROOM}, cpu_seconds=1)
"""


class Echo(msgspec.Struct, frozen=True):
    text: str


@asynccontextmanager
async def pool_of(behaviour: str, *, seconds: float = 60) -> AsyncIterator[WorkerPool]:
    script = ECHO.replace("BEHAVIOUR", behaviour)
    async with aclosing(WorkerPool([sys.executable, "-c", script], count=1, seconds=seconds)) as pool:
        yield pool


async def test_a_result_comes_without_the_notes_before_it() -> None:
    async with pool_of("pass") as pool:
        assert await pool.request(Echo, b"hello") == Echo("hello")


@pytest.mark.parametrize(
    ("behaviour", "seconds", "timed_out"),
    [
        ("exec('while True: pass')", 60, False),
        ("time.sleep(600)", 5, True),
        (f"bytearray({ROOM})", 60, False),
        ("return b' ' * 2_000_000", 60, False),
        ("note(b' ' * 2_000_000)", 60, False),
    ],
    ids=["CPU", "time", "memory", "a long result", "a long note"],
)
async def test_a_process_beyond_its_limits_is_replaced_and_its_last_note_is_known(
    behaviour: str, seconds: float, timed_out: bool
) -> None:
    async with pool_of(f"if head == b'evil': {behaviour}", seconds=seconds) as pool:
        with pytest.raises(WorkerStopped) as stopped:
            await pool.request(Echo, b"evil")
        assert (stopped.value.timed_out, stopped.value.note) == (timed_out, b"two")
        assert await pool.request(Echo, b"good") == Echo("good")


@pytest.mark.parametrize(
    ("behaviour", "seconds", "by_own_limits"),
    [
        ("exec('while True: pass')", 60, True),
        (f"bytearray({ROOM})", 60, True),
        ("time.sleep(600)", 5, False),
        ("os.kill(os.getpid(), 9)", 60, False),
    ],
    ids=["CPU", "memory", "time", "killed by another program"],
)
async def test_the_limits_of_a_process_are_told_apart_from_what_happens_to_it(
    behaviour: str, seconds: float, by_own_limits: bool
) -> None:
    async with pool_of(behaviour, seconds=seconds) as pool:
        with pytest.raises(WorkerStopped) as stopped:
            await pool.request(Echo, b"hello")
        assert (stopped.value.note, stopped.value.by_own_limits) == (b"two", by_own_limits)


@pytest.mark.parametrize("result", [b"no json", b"{}"], ids=["no JSON", "another type"])
async def test_an_invalid_result_replaces_its_process(result: bytes) -> None:
    async with pool_of(f"if head == b'evil': return {result!r}") as pool:
        with pytest.raises(WorkerStopped):
            await pool.request(Echo, b"evil")
        assert await pool.request(Echo, b"good") == Echo("good")


@pytest.mark.parametrize("command", ["/bin/false", "/nowhere/python"])
async def test_a_command_that_starts_no_worker_is_reported(command: str) -> None:
    async with aclosing(WorkerPool([command], count=1, seconds=60)) as pool:
        with pytest.raises(WorkerUnavailable):
            await pool.request(Echo, b"hello")

"""
The pool of worker processes, with small scripts that speak its protocol or break it.

``tests/unit/counterfoil/signatures/test_worker_pool.py`` has the tests of a body, and of processes that die.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress

import msgspec
import psutil
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
serve(handle, memory_bytes={ROOM}, cpu_seconds=0)
"""
"""With no whole second of CPU: the limit is the first second of the process."""


class Echo(msgspec.Struct, frozen=True):
    text: str


@asynccontextmanager
async def pool_of(behaviour: str, *, seconds: float = 60) -> AsyncIterator[WorkerPool]:
    script = ECHO.replace("BEHAVIOUR", behaviour)
    async with aclosing(WorkerPool([sys.executable, "-c", script], count=1, seconds=seconds)) as pool:
        yield pool


async def test_a_result_comes_without_the_progress_before_it() -> None:
    async with pool_of("pass") as pool:
        assert await pool.request(Echo, b"hello", notes=2) == Echo("hello")


@pytest.mark.parametrize(
    ("behaviour", "seconds", "timed_out", "by_own_limits"),
    [
        ("exec('while True: pass')", 60, False, True),
        ("time.sleep(600)", 5, True, False),
        (f"bytearray({ROOM})", 60, False, True),
        ("return b' ' * 2_000_000", 60, False, False),
        ("note(b' ' * 2_000_000)", 60, False, False),
    ],
    ids=["CPU", "time", "memory", "a long result", "a long note"],
)
async def test_a_process_beyond_its_limits_is_replaced_and_the_cause_and_its_last_note_are_known(
    behaviour: str, seconds: float, timed_out: bool, by_own_limits: bool
) -> None:
    async with pool_of(f"if head == b'evil': {behaviour}", seconds=seconds) as pool:
        with pytest.raises(WorkerStopped) as stopped:
            await pool.request(Echo, b"evil", notes=2)
        told = stopped.value
        assert (told.timed_out, told.by_own_limits, told.note) == (timed_out, by_own_limits, b"two")
        assert await pool.request(Echo, b"good", notes=2) == Echo("good")


async def test_a_process_that_another_program_killed_exceeded_none_of_its_limits() -> None:
    async def body() -> AsyncIterator[bytes]:
        # The process that works has no child itself.
        for process in psutil.Process().children(recursive=True):
            if not process.children():
                process.kill()
        yield b"x"

    async with pool_of("time.sleep(600)") as pool:
        with pytest.raises(WorkerStopped) as stopped:
            await pool.request(Echo, b"evil", body(), 1, notes=2)
    assert (stopped.value.timed_out, stopped.value.by_own_limits) == (False, False)


NOTES = """
from counterfoil.worker_processes.worker import serve
def handle(head, size, requests, note):
    NOTES
    return b'{"text": "done"}'
serve(handle, memory_bytes=512 * 1024 * 1024, cpu_seconds=10)
"""


@pytest.mark.parametrize(
    ("sent", "notes"),
    [
        ("note(b'a')", 0),
        ("note(b'a'); note(b'b'); note(b'c')", 2),
        ("note(b'')", 2),
        ("note(b'a' * 600_000); note(b'a' * 600_000)", 2),
    ],
    ids=["one too many", "a third", "an empty one", "more than 1 MiB"],
)
async def test_a_process_that_sends_more_progress_than_its_request_allows_is_killed(
    sent: str, notes: int
) -> None:
    command = [sys.executable, "-c", NOTES.replace("NOTES", sent)]
    async with aclosing(WorkerPool(command, count=1, seconds=60)) as pool:
        with pytest.raises(WorkerStopped) as stopped:
            await pool.request(Echo, b"evil", notes=notes)
    assert not stopped.value.timed_out


TAKEN_OVER = """
import sys
from counterfoil.worker_processes.worker import serve
taken_over = False
def handle(head, size, requests, note):
    global taken_over
    HOSTILE
    body = requests.read(size)
    return b'{"text": "forged"}' if taken_over else b'{"text": "%s"}' % body
serve(handle, memory_bytes=512 * 1024 * 1024, cpu_seconds=10)
"""
FORGED = b'{"text": "forged"}'
READY = b"\x06"


@pytest.mark.parametrize(
    "hostile",
    [
        "taken_over |= head == b'evil'",
        f"if head == b'evil': sys.stdout.buffer.write(2 * {len(FORGED).to_bytes(4) + FORGED + READY!r})",
        f"if head == b'evil': return {FORGED!r}",
    ],
    ids=["it keeps its state", "it answers the next request too", "it leaves a request behind"],
)
async def test_a_process_that_a_request_took_over_answers_no_other_request(hostile: str) -> None:
    async def body(content: bytes) -> AsyncIterator[bytes]:
        yield content

    script = TAKEN_OVER.replace("HOSTILE", hostile)
    async with aclosing(WorkerPool([sys.executable, "-c", script], count=1, seconds=10)) as pool:
        # Sizes of body and head, head and body of a request that the next process would mistake for its own.
        evil = (4).to_bytes(8) + (1).to_bytes(4) + b"x" + b"fake"
        with suppress(WorkerStopped):
            await pool.request(Echo, b"evil", body(evil), len(evil), owner="one")
        good = [await pool.request(Echo, b"good", body(b"good"), 4, owner="another") for _ in range(2)]
    assert good == [Echo("good"), Echo("good")]


COUNTS = """
import json
from counterfoil.worker_processes.worker import serve
answered = []
def handle(head, size, requests, note):
    note(b"one")
    answered.append((head + requests.read(size)).decode())
    return json.dumps({"text": " ".join(answered)}).encode()
serve(handle, memory_bytes=512 * 1024 * 1024, cpu_seconds=10, samples=[(b"a", b"b"), (b"c", b"")])
"""


async def test_each_process_begins_with_what_the_samples_left_and_no_request_adds_to_it() -> None:
    async with aclosing(WorkerPool([sys.executable, "-c", COUNTS], count=1, seconds=10)) as pool:
        found = [await pool.request(Echo, head, notes=1) for head in (b"first", b"second")]
    assert found == [Echo("ab c first"), Echo("ab c second")]


READS_NOTHING = """
import os, time
from counterfoil.worker_processes.worker import serve
def handle(head, size, requests, note):
    SLOWLY
    time.sleep(600)
serve(handle, memory_bytes=512 * 1024 * 1024, cpu_seconds=10)
"""


@pytest.mark.parametrize(
    "slowly", ["", "while True: os.read(0, 1); time.sleep(0.01)"], ids=["nothing", "byte by byte"]
)
async def test_a_process_that_does_not_read_its_body_is_killed_in_time(slowly: str) -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(8):
            yield bytes(128 * 1024)

    command = [sys.executable, "-c", READS_NOTHING.replace("SLOWLY", slowly)]
    async with aclosing(WorkerPool(command, count=1, seconds=3)) as pool, asyncio.timeout(60):
        with pytest.raises(WorkerStopped) as stopped:
            await pool.request(Echo, b"hello", body(), 1024 * 1024)
    assert stopped.value.timed_out


@pytest.mark.parametrize("result", [b"no json", b"{}"], ids=["no JSON", "another type"])
async def test_an_invalid_result_replaces_its_process(result: bytes) -> None:
    async with pool_of(f"if head == b'evil': return {result!r}") as pool:
        with pytest.raises(WorkerStopped):
            await pool.request(Echo, b"evil", notes=2)
        assert await pool.request(Echo, b"good", notes=2) == Echo("good")


@pytest.mark.parametrize("command", ["/bin/false", "/nowhere/python"])
async def test_a_command_that_starts_no_worker_is_reported(command: str) -> None:
    async with aclosing(WorkerPool([command], count=1, seconds=60)) as pool:
        with pytest.raises(WorkerUnavailable):
            await pool.request(Echo, b"hello", notes=2)

"""
The processes that check signatures: the controller continues after any failure of one of them.

The misbehaving ones are small scripts that speak the same protocol; two tests use the real one.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import msgspec
import psutil
import pytest

from counterfoil.signatures.anchors import Anchors
from counterfoil.signatures.results import Kind, Signatures, State
from counterfoil.signatures.worker_pool import MAX_FILE_BYTES, SMALL_FILE_BYTES, SignatureWorkers
from tests.support.fakes.archives import once, open_descriptors
from tests.support.signed_pdfs import signed, unsigned

WORKER_FOLDER = Path(__file__).parents[4] / "counterfoil/signatures/worker"
WORKER = """
import os, sys, time
from counterfoil.worker_processes.worker import serve
def write(answer):
    sys.stdout.buffer.write(answer); sys.stdout.buffer.flush()
def handle(anchors, size, requests, note):
    pdf = requests.read(size)
BEHAVIOUR
serve(handle, memory_bytes=256 * 1024 * 1024, cpu_seconds=0)
"""
SAYS_ITS_PID = '    return b\'{"state": "Intact", "detail": "%d"}\' % os.getpid()'


@asynccontextmanager
async def examiners(
    behaviour: str, *, count: int = 2, seconds: float = 30, share: Callable[[int], int] = int
) -> AsyncIterator[SignatureWorkers]:
    script = WORKER.replace("BEHAVIOUR", behaviour)
    command = [sys.executable, "-I", "-c", script]
    opened = SignatureWorkers(count=count, seconds=seconds, command=command, share=share)
    try:
        yield opened
    finally:
        await opened.aclose()


async def asked(examiners: SignatureWorkers, pdf: bytes = b"%PDF") -> Signatures:
    return await examiners.examine(once(pdf), len(pdf))


@pytest.fixture(scope="module")
async def real() -> AsyncIterator[tuple[SignatureWorkers, Path]]:
    """A real fork server for the tests of which none needs its end, with its folder in /proc."""
    before = children()
    async with aclosing(SignatureWorkers()) as workers:
        await asked(workers, signed())
        (process,) = children() - before
        yield workers, process


async def test_the_real_one_looks_at_one_pdf_after_another(real: tuple[SignatureWorkers, Path]) -> None:
    states = [(await asked(real[0], pdf)).state for pdf in (signed(), unsigned(), b"no pdf", signed())]
    assert states == [State.INTACT, State.UNSIGNED, State.UNREADABLE, State.INTACT]


async def test_the_real_one_has_narrow_limits(real: tuple[SignatureWorkers, Path]) -> None:
    read: list[str] = []

    async def pdf() -> AsyncGenerator[bytes, None]:
        (process,) = psutil.Process(int(real[1].name)).children()
        read.append(limits_of(process.pid))
        yield b"no pdf"

    await real[0].examine(pdf(), len(b"no pdf"))
    (limits,) = read
    assert limits.split("Max processes")[1].split()[0] == "0"
    assert int(limits.split("Max open files")[1].split()[0]) < 20
    assert limits.split("Max address space")[1].split()[0] == str(248 * 1024 * 1024)
    assert limits.split("Max file size")[1].split()[0] == "0"
    assert limits.split("Max cpu time")[1].split()[:2] == ["11", "12"]


async def test_the_sample_of_the_real_one_leads_through_signatures_time_stamps_and_trust(
    real: tuple[SignatureWorkers, Path],
) -> None:
    pdf = (WORKER_FOLDER / "sample.pdf").read_bytes()
    encoded = (WORKER_FOLDER / "sample-anchors.json").read_bytes()
    anchors = Anchors(msgspec.json.decode(encoded, type=tuple[bytes, ...]))
    found = await real[0].examine(once(pdf), len(pdf), anchors)
    assert found.state is State.INTACT
    assert [(each.kind, each.trusted, each.time_stamp is not None) for each in found.found] == [
        (Kind.SIGNATURE, True, False),
        (Kind.SIGNATURE, False, True),
        (Kind.TIME_STAMP, False, False),
    ]


def limits_of(pid: int) -> str:
    return Path("/proc", str(pid), "limits").read_text()


def children() -> set[Path]:
    """The child processes of this one, by their folders in /proc."""
    return {Path("/proc", str(child.pid)) for child in psutil.Process().children()}


async def test_no_process_is_started_before_there_is_a_pdf() -> None:
    before = children()
    async with examiners(SAYS_ITS_PID):
        assert children() == before


async def test_each_pdf_has_its_own_process() -> None:
    async with examiners(SAYS_ITS_PID) as ours:
        assert (await asked(ours)).detail != (await asked(ours)).detail


async def test_there_are_never_more_than_the_limit() -> None:
    before = children()
    async with examiners("    time.sleep(0.05)\n" + SAYS_ITS_PID, count=2) as ours:
        waiting = [asyncio.create_task(asked(ours)) for _ in range(20)]
        counts = []
        while not all(each.done() for each in waiting):
            started = [psutil.Process(int(each.name)) for each in children() - before]
            counts.append((len(started), sum(len(each.children()) for each in started)))
            await asyncio.sleep(0.02)
    assert max(counts) == (2, 2)


async def test_closing_leaves_no_process() -> None:
    before = children()
    async with examiners(SAYS_ITS_PID) as ours:
        await asked(ours)
        assert len(children() - before) == 1
    assert children() == before


async def test_one_that_does_not_come_to_an_end_is_killed_and_replaced() -> None:
    hangs = "    time.sleep(600) if pdf == b'evil' else None\n" + SAYS_ITS_PID
    async with examiners(hangs, count=1, seconds=4) as ours:
        assert await asked(ours, b"evil") == Signatures(
            state=State.UNREADABLE, detail="its check took too long"
        )
    async with examiners(hangs, count=1) as ours:
        assert (await asked(ours)).state is State.INTACT


@pytest.mark.parametrize(
    "behaviour",
    [
        "    os._exit(9)",
        "    sys.exit(3)",
        "    write(b'\\xff\\xff\\xff\\xff')",
        "    return b'no json'",
        '    return b\'{"state": "Splendid"}\'',
        # The limit of CPU time is its first second.
        "    exec('while True: pass')",
    ],
    ids=["gone", "ended", "endless", "garbled", "unknown", "busy"],
)
async def test_one_that_breaks_is_replaced_and_only_its_file_is_unreadable(behaviour: str) -> None:
    evil = f"    if pdf == b'evil':\n    {behaviour}"
    async with examiners(evil + "\n" + SAYS_ITS_PID, count=1) as ours:
        first = await asked(ours, b"evil")
        assert (await asked(ours)).state is State.INTACT
    assert first == Signatures(state=State.UNREADABLE, detail="its check broke off")


async def test_a_fork_server_that_died_while_it_had_nothing_to_do_is_replaced_unnoticed() -> None:
    before = children()
    async with examiners(SAYS_ITS_PID, count=1) as ours:
        await asked(ours)
        (started,) = children() - before
        os.kill(int(started.name), signal.SIGKILL)
        assert (await asked(ours)).state is State.INTACT


async def test_the_process_of_a_pdf_ends_with_its_fork_server() -> None:
    before = children()

    async def pdf() -> AsyncGenerator[bytes, None]:
        (started,) = children() - before
        working = psutil.Process(int(started.name)).children()
        os.kill(int(started.name), signal.SIGKILL)
        assert psutil.wait_procs(working, timeout=30)[1] == []
        yield b"%PDF"

    async with examiners(SAYS_ITS_PID, count=1) as ours:
        assert (await ours.examine(pdf(), 4)).state is State.UNREADABLE
        assert (await asked(ours)).state is State.INTACT


class ArchiveBroke(Exception):
    """Reading it from the archive did not work."""


async def broken() -> AsyncGenerator[bytes, None]:
    yield b"%PDF"
    raise ArchiveBroke


async def test_an_archive_that_breaks_while_it_is_read_is_not_the_files_fault() -> None:
    async with examiners(SAYS_ITS_PID, count=1) as ours:
        with pytest.raises(ArchiveBroke):
            await ours.examine(broken(), 1000)
        assert (await asked(ours)).state is State.INTACT


async def test_a_file_that_is_shorter_than_it_was_is_not_waited_for() -> None:
    async with examiners(SAYS_ITS_PID, count=1) as ours:
        found = await ours.examine(once(b"%PDF"), 1000)
    assert found.state is State.UNREADABLE


async def test_a_file_that_is_too_large_is_not_even_read() -> None:
    async with examiners(SAYS_ITS_PID) as ours:
        found = await ours.examine(broken(), MAX_FILE_BYTES + 1)
    assert found == Signatures(state=State.NOT_CHECKED, detail="it is larger than 64 MiB")


async def test_a_large_file_from_a_slow_archive_leaves_room_for_small_ones() -> None:
    never = asyncio.Event()

    async def slow() -> AsyncGenerator[bytes, None]:
        yield b"%PDF"
        await never.wait()

    async with examiners(SAYS_ITS_PID, count=2) as ours:
        waiting = [asyncio.create_task(ours.examine(slow(), SMALL_FILE_BYTES + 1)) for _ in range(5)]
        async with asyncio.timeout(60):
            assert (await asked(ours)).state is State.INTACT
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def never_ending(part: bytes = b"%PDF") -> AsyncGenerator[bytes, None]:
    yield part
    await asyncio.Event().wait()


async def test_large_files_from_slow_archives_stop_the_large_files_of_no_other_archive() -> None:
    large = b"%PDF" * SMALL_FILE_BYTES
    async with examiners(SAYS_ITS_PID, count=2) as ours:
        waiting = [
            asyncio.create_task(ours.examine(never_ending(), len(large), source=f"slow {number % 2}"))
            for number in range(6)
        ]
        async with asyncio.timeout(60):
            found = await ours.examine(once(large), len(large), source="healthy")
        assert found.state is State.INTACT
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_slow_archives_of_one_namespace_stop_the_large_files_of_no_other_namespace() -> None:
    large = b"%PDF" * SMALL_FILE_BYTES
    async with examiners(SAYS_ITS_PID, count=2, share=lambda count: count - 1) as ours:
        waiting = [
            asyncio.create_task(ours.examine(never_ending(), len(large), source=f"sales/slow {number}"))
            for number in range(8)
        ]
        async with asyncio.timeout(60):
            found = await ours.examine(once(large), len(large), source="legal/healthy")
        assert found.state is State.INTACT
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_large_file_that_does_not_end_is_read_no_further_than_its_size() -> None:
    async def flood() -> AsyncGenerator[bytes, None]:
        while True:
            yield b"%PDF" * 16384

    async with examiners(SAYS_ITS_PID) as ours:
        async with asyncio.timeout(60):
            found = await ours.examine(flood(), SMALL_FILE_BYTES + 1)
    assert found == Signatures(state=State.UNREADABLE, detail="its check broke off")


async def test_a_large_file_leaves_no_open_file(real: tuple[SignatureWorkers, Path]) -> None:
    before, large = open_descriptors(), signed() + bytes(SMALL_FILE_BYTES)
    await real[0].examine(once(large), len(large))
    assert open_descriptors() == before


async def test_one_that_does_not_even_begin_is_not_the_files_fault() -> None:
    ours = SignatureWorkers(command=["/bin/false"])
    assert await asked(ours) == Signatures(state=State.NOT_CHECKED, detail="its check could not be started")


async def test_without_a_process_the_file_is_not_checked_and_nothing_breaks() -> None:
    ours = SignatureWorkers(command=["/nowhere/python"])
    assert await asked(ours) == Signatures(state=State.NOT_CHECKED, detail="its check could not be started")

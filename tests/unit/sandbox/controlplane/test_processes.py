"""Commands that we run end when we do not want them any more."""

import asyncio
from pathlib import Path

import psutil

from sandbox.controlplane.processes import run


async def test_a_command_gets_its_input_and_gives_its_output_and_code() -> None:
    ended = await run(["/bin/sh", "-c", "cat; echo oh >&2; exit 3"], stdin="words")
    assert (ended.out, ended.err, ended.code) == ("words", "oh\n", 3)


async def test_lines_are_delivered_as_they_arrive() -> None:
    heard: list[str] = []
    await run(["/bin/sh", "-c", "echo one >&2; echo two >&2"], on_stderr_line=heard.append)
    assert heard == ["one", "two"]


async def test_a_command_that_does_not_read_its_input_is_no_error() -> None:
    ended = await run(["/bin/true"], stdin="x" * 1_000_000)
    assert ended.code == 0


async def test_a_cancelled_command_is_gone_with_all_that_it_started() -> None:
    pids: asyncio.Queue[int] = asyncio.Queue()
    script = "sleep 60 & echo $$ >&2; echo $! >&2; wait"
    task = asyncio.create_task(
        run(["/bin/sh", "-c", script], on_stderr_line=lambda line: pids.put_nowait(int(line)), cwd=Path("/"))
    )
    processes = [psutil.Process(await pids.get()), psutil.Process(await pids.get())]
    task.cancel()
    await asyncio.wait([task])

    gone, alive = await asyncio.to_thread(psutil.wait_procs, processes, 10)
    assert (len(gone), alive) == (2, [])

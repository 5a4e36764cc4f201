"""Commands that we run end when we do, or when we do not want them any more."""

import asyncio
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from sandbox.controlplane.processes import SETPRIV, bound_to_parent, run

STARTER = """
import subprocess, sys
from pathlib import Path
from sandbox.controlplane.processes import bound_to_parent
command = bound_to_parent(["/bin/sh", "-c", "echo $$; exec sleep 60"], setpriv=Path(sys.argv[1]))
subprocess.run(command)
"""
"""A process that waits for the program that it started."""
WAYS = {"by setpriv": SETPRIV, "by Python": Path("/nowhere/setpriv")}


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


@pytest.mark.parametrize("setpriv", WAYS.values(), ids=WAYS.keys())
def test_a_program_ends_when_the_process_that_started_it_is_killed(setpriv: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", STARTER, setpriv], stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        program = psutil.Process(int(starter.stdout.readline()))
        starter.kill()
        gone, alive = psutil.wait_procs([program], 10)
    assert (len(gone), alive) == (1, [])


@pytest.mark.parametrize("setpriv", WAYS.values(), ids=WAYS.keys())
def test_a_program_whose_starter_has_ended_already_does_not_start(setpriv: Path) -> None:
    command = [sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])"]
    # The process between is the parent, and not the one that the command names.
    bound = bound_to_parent(["/bin/echo", "started"], setpriv=setpriv)
    ended = subprocess.run([*command, *bound], stdout=subprocess.PIPE, check=True)
    assert ended.stdout == b""


@pytest.mark.parametrize("setpriv", WAYS.values(), ids=WAYS.keys())
def test_a_program_gets_its_arguments_as_they_are(setpriv: Path) -> None:
    arguments = ["$HOME", "two words", "", "--", "-c", "a'b"]
    command = bound_to_parent(["/usr/bin/printf", "%s\\n", *arguments], setpriv=setpriv)
    assert (
        subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines()
        == arguments
    )

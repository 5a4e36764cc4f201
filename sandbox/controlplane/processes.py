"""
Programs started from Python: servers that live as long as we do, and commands whose output we want.

Both end with this process, even if it is killed (see ``die_with_parent``). A ``ServerProcess`` is bound to no
event loop, so that a fixture may start it and a test on another loop stop it; start it from a thread that
stays alive.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

Command = Sequence[object]  # of str and Path

DIE_WITH_PARENT = Path(__file__).with_name("die_with_parent.py")
SETPRIV = Path("/usr/bin/setpriv")  # BusyBox has one elsewhere, without --pdeathsig
# The kernel says nothing of a parent that ended before it was asked to.
UNLESS_ORPHAN = 'test "$PPID" = "$0" && exec "$@"'
LOG_TAIL_BYTES = 4_000  # bytes of a log that go into an error
MAX_LINE_BYTES = 1 << 20  # bytes; kubectl prints whole objects on one line


@dataclass(frozen=True)
class CommandResult:
    """Output of a command, as text, and its exit code."""

    code: int
    out: str
    err: str


class RunningProgram(Protocol):
    """A program that was started: ``subprocess.Popen``, or what is used like it."""

    pid: int

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal; None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit status. Raises ``subprocess.TimeoutExpired``."""

    def terminate(self) -> None:
        """Send SIGTERM if it still runs."""

    def kill(self) -> None:
        """Send SIGKILL if it still runs."""


def start_program(argv: Command, log: Path, environment: Mapping[str, str]) -> RunningProgram:
    """Start a program that ends when we do, in the folder of its log."""
    with log.open("ab") as output:
        return subprocess.Popen(
            bound_to_parent(argv),
            cwd=log.parent,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Ctrl-C in the terminal is ours to handle; they are ended in order.
            start_new_session=True,
        )


StartProgram = Callable[[Command, Path, Mapping[str, str]], RunningProgram]


class ServerProcess:
    """One long-running program with a log file. Its working directory is the folder of the log."""

    def __init__(
        self, argv: Command, *, log: Path, environment: Mapping[str, str], start: StartProgram = start_program
    ) -> None:
        self.log = log
        self._program = start(argv, log, environment)

    @property
    def pid(self) -> int:
        """The process id; it belongs to the program itself, not to a wrapper."""
        return self._program.pid

    @property
    def ended(self) -> bool:
        """Whether the program has exited."""
        return self._program.poll() is not None

    @property
    def exit_code(self) -> int | None:
        """Its exit status, negative for the signal that killed it; None while it runs."""
        return self._program.poll()

    def log_tail(self) -> str:
        """Return the end of the log, for error messages."""
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - LOG_TAIL_BYTES))
            return log.read().decode(errors="replace").strip()

    async def terminate(self, *, patience: float) -> None:
        """Ask the program to end; after ``patience`` seconds kill it."""
        self._program.terminate()
        try:
            await asyncio.to_thread(self._program.wait, patience)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the program at once and wait until it is gone."""
        self._program.kill()
        self._program.wait()


def bare_environment() -> dict[str, str]:
    """Return the environment of a program that has nothing of the user's: PATH, and GOGC (how often programs
    in Go collect garbage) if it is set."""
    return {"PATH": "/usr/bin:/bin", **{name: os.environ[name] for name in ("GOGC",) if name in os.environ}}


def command_environment() -> dict[str, str]:
    """Return ``bare_environment`` for a program in Go that ends soon: it collects no garbage below 512 MiB,
    which is two fifths of the CPU of a kubectl."""
    return {**bare_environment(), "GOGC": "off", "GOMEMLIMIT": "512MiB"}


def bound_to_parent(argv: Command, *, setpriv: Path = SETPRIV) -> list[str]:
    """
    Return the command that runs ``argv`` as a program that ends when we do.

    Where util-linux has ``setpriv``, no Python starts first: that takes half as much CPU as a kubectl.
    """
    program = [str(os.getpid()), *map(str, argv)]
    if setpriv.exists():
        return [str(setpriv), "--pdeathsig", "KILL", "--", "/bin/sh", "-c", UNLESS_ORPHAN, *program]
    return [sys.executable, "-I", "-S", str(DIE_WITH_PARENT), *program]


async def run(
    argv: Command,
    *,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
    on_stderr_line: Callable[[str], None] = lambda line: None,
) -> CommandResult:
    """
    Run a command to its end. ``on_stderr_line`` gets each line of its standard error as it comes.

    When the caller is cancelled, the command and all that it started are killed.
    """
    async with _started(argv, environment, cwd) as process:
        assert process.stdin is not None  # noqa: S101 - all three are pipes, as _started makes them
        assert process.stdout is not None  # noqa: S101
        assert process.stderr is not None  # noqa: S101
        async with asyncio.TaskGroup() as group:
            group.create_task(_write_stdin(process.stdin, stdin or ""))
            out = group.create_task(process.stdout.read())
            err = group.create_task(_read_stderr(process.stderr, on_stderr_line))
        code = await process.wait()
    return CommandResult(code, out.result().decode(errors="replace"), err.result())


@contextlib.asynccontextmanager
async def _started(
    argv: Command, environment: Mapping[str, str] | None, cwd: Path | None
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *bound_to_parent(argv),
        cwd=cwd,
        env=None if environment is None else dict(environment),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=MAX_LINE_BYTES,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def _write_stdin(pipe: asyncio.StreamWriter, text: str) -> None:
    # A command that has read enough may close its input early.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        pipe.write(text.encode())
        await pipe.drain()
    pipe.close()


async def _read_stderr(pipe: asyncio.StreamReader, on_stderr_line: Callable[[str], None]) -> str:
    lines = []
    async for line in pipe:
        text = line.decode(errors="replace")
        on_stderr_line(text.rstrip("\n"))
        lines.append(text)
    return "".join(lines)

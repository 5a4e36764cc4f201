"""
Worker processes of a forked controller that start without importing anything.

For each kind there is a ``fork_server`` that has imported what this kind needs. What a controller starts is a
fork of it, which then does all that a started one does: it answers its samples, and locks its processes down.
"""

import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from counterfoil.worker_processes import pool
from sandbox.environment.fork_server import ForkedProgram, fork_server

KINDS = {
    "counterfoil.signatures.worker": ("signatures", "counterfoil.signatures.worker.__main__"),
    "counterfoil.archives.tags_subprocess": ("tags", "counterfoil.archives.tags_subprocess"),
}
"""By the module that is run: a folder with a short name, as a socket needs, and what is imported."""


@contextmanager
def worker_servers(folder: Path) -> Iterator[str]:
    """Run a fork server for each kind; return the folder."""
    with ExitStack() as servers:
        for name, imported in KINDS.values():
            (folder / name).mkdir()
            servers.enter_context(fork_server(folder / name, [imported]))
        yield str(folder)


def install(folder: Path) -> None:
    """Let worker processes of this process be forked by the fork servers in a folder."""
    start_as_usual = pool.start_program

    async def start(command: Sequence[str], stdin: int) -> pool.Program:
        match list(command):
            case [sys.executable, "-I", "-m", module, *arguments] if module in KINDS:
                address = folder / KINDS[module][0] / "fork.sock"
                # The caller closes its own when it is cancelled, and the thread continues.
                return await asyncio.to_thread(_fork, address, [module, *arguments], os.dup(stdin))
        return await start_as_usual(command, stdin)

    pool.start_program = start


def _fork(address: Path, arguments: Sequence[str], stdin: int) -> "_Program":
    try:
        argv = [sys.executable, "-m", *arguments]
        return _Program(ForkedProgram(str(address), argv, Path(os.devnull), {}, stdin=stdin))
    finally:
        os.close(stdin)


class _Program:
    """A forked program, used like ``asyncio.subprocess.Process``."""

    def __init__(self, program: ForkedProgram) -> None:
        self._program = program

    @property
    def returncode(self) -> int | None:
        return self._program.poll()

    def kill(self) -> None:
        self._program.kill()

    async def wait(self) -> int:
        return await asyncio.to_thread(self._program.wait)

"""A node's namespaces end with the process that started them, in every case, and leave nothing behind."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import psutil

from sandbox.node.namespaces import CGROUP_PREFIX, CGROUPS, LinuxNamespaces
from tests.support.pauses import eventually

PATIENCE = 60.0
STARTER = """
import asyncio, sys
from pathlib import Path
from sandbox.node.namespaces import LinuxNamespaces

async def main():
    machine = LinuxNamespaces(Path(sys.argv[1]), "10.200.0.1")
    await machine.boot()
    # As a container does: a child of none of our processes.
    machine.start("daemon", ["/usr/bin/setsid", "--fork", "/usr/bin/sleep", sys.argv[2]])
    print("up", flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""
MARK = "36061"  # seconds that nobody else sleeps


def _sleepers() -> list[int]:
    found = psutil.process_iter(["cmdline"])
    return [each.pid for each in found if (each.info["cmdline"] or [])[-1:] == [MARK]]


async def test_a_killed_process_that_started_a_machine_leaves_no_program_of_it(tmp_path: Path) -> None:
    starter = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        STARTER,
        str(tmp_path),
        MARK,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert starter.stdout is not None
    assert await starter.stdout.readline() == b"up\n"
    await eventually(lambda: [each for each in _sleepers() if each != starter.pid], within=PATIENCE)
    group = CGROUPS / "pids" if (CGROUPS / "pids").exists() else CGROUPS
    assert (group / f"{CGROUP_PREFIX}{starter.pid}").exists()

    os.kill(starter.pid, signal.SIGKILL)
    await starter.wait()
    await eventually(lambda: not _sleepers(), within=PATIENCE)

    next_one = LinuxNamespaces(tmp_path, "10.200.0.1")
    await next_one.boot()
    try:
        assert not (group / f"{CGROUP_PREFIX}{starter.pid}").exists()
    finally:
        await next_one.halt()
    assert not list(group.glob(f"{CGROUP_PREFIX}{os.getpid()}"))

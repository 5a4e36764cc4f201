"""
A machine within the machine: namespaces of processes, mounts, network and host name, and programs that run in
them.

Everything in there depends on one process (``init_process``), and that on ours: when either ends, the kernel
ends all programs and containers, and with the last of them go mounts, addresses and firewall rules. What the
kernel does not remove, empty control groups, is removed at the end, or by the next machine.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from sandbox.controlplane.processes import Command, ServerProcess
from sandbox.node.init import READY

INIT = Path(__file__).with_name("init.py")
CGROUPS = Path("/sys/fs/cgroup")
CGROUP_PREFIX = "counterfoil-node-"
TIMEOUT = 30.0  # seconds until it is set up
INTERVAL = 0.05  # seconds between looks
SHUTDOWN_TIMEOUT = 20.0  # seconds for an orderly end of a program
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {"PATH": SEARCH_PATH, "HOME": "/root", "LANG": "C.UTF-8"}
UNSHARE_FLAGS = (
    "--net",
    "--mount",
    "--uts",
    "--ipc",
    "--pid",
    "--fork",
    "--kill-child=SIGKILL",
    "--mount-proc",
    "--propagation=private",
)
CLONE_NEWNET = 0x40000000  # CLONE_NEWNET, see setns(2); Python has os.setns from 3.12 on


class NamespacesError(Exception):
    """It could not be set up, or a program in it ended; the message has the end of its log."""


class NodeProgram:
    """A running program of the machine."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server

    @property
    def ended(self) -> bool:
        """Whether it has exited."""
        return self._server.ended

    def log_tail(self) -> str:
        """Return the end of its log."""
        return self._server.log_tail()

    async def stop(self) -> None:
        """Ask it to end (SIGTERM); after a while kill it."""
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(SHUTDOWN_TIMEOUT):
                while not self._server.ended:  # noqa: ASYNC110 - another process gives no event to wait for
                    await asyncio.sleep(INTERVAL)
        except TimeoutError:
            self.kill()

    def kill(self) -> None:
        """End it at once."""
        self._signal(signal.SIGKILL)
        self._server.kill()

    def _signal(self, number: signal.Signals) -> None:
        # nsenter waits for the program, which is its only child.
        for child in _children(self._server.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)


class LinuxNamespaces:
    """The namespaces; ``boot`` makes them, ``halt`` ends them with all that runs there."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder = folder
        self.address = address
        self.group = f"{CGROUP_PREFIX}{os.getpid()}"
        """The control group that holds all pods, below each controller's root."""
        self._init_process: ServerProcess | None = None
        self._first = 0
        self._real = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    async def boot(self) -> None:
        """Make the namespaces. Raises ``NamespacesError``."""
        remove_abandoned_cgroups()
        # A bind mount needs its target; CNI keeps its notes there.
        Path("/var/lib/cni").mkdir(parents=True, exist_ok=True)
        _make_cgroup(self.group)
        log = self.folder / "machine.log"
        log.unlink(missing_ok=True)
        python = [sys.executable, "-I", INIT, self.folder, self.address]
        self._init_process = ServerProcess(
            ["/usr/bin/unshare", *UNSHARE_FLAGS, *python], log=log, environment=ENVIRONMENT
        )
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._until_set_up(self._init_process)
        except TimeoutError:
            raise NamespacesError(f"the namespaces are not ready:\n{self._init_process.log_tail()}") from None
        (self._first,) = _children(self._init_process.pid)

    async def _until_set_up(self, init_process: ServerProcess) -> None:
        while READY not in init_process.log_tail():
            if init_process.ended:
                raise NamespacesError(f"the namespaces could not be set up:\n{init_process.log_tail()}")
            await asyncio.sleep(INTERVAL)

    async def halt(self) -> None:
        """End everything in there, as a power cut would. May be called again, and so may ``boot``."""
        if self._init_process is None:
            return
        first = self._first or self._init_process.pid
        self._init_process.kill()
        # The kernel ends the others before their first process is gone.
        while Path(f"/proc/{first}").exists():  # noqa: ASYNC110 - another process gives no event to wait for
            await asyncio.sleep(INTERVAL)
        self._init_process, self._first = None, 0
        _remove_cgroup(self.group)

    def start(self, name: str, argv: Command) -> NodeProgram:
        """Start a program with its log at ``folder/NAME.log``."""
        tied = ["/usr/bin/setpriv", "--pdeathsig", "KILL", "--", *argv]
        return NodeProgram(
            ServerProcess(self.entering(tied), log=self.folder / f"{name}.log", environment=ENVIRONMENT)
        )

    def entering(self, argv: Command) -> list[object]:
        """Return the command that runs ``argv`` in there."""
        spaces = ["--net", "--mount", "--uts", "--ipc", "--pid"]
        return ["/usr/bin/nsenter", f"--target={self._first}", *spaces, "--", *argv]

    def network(self) -> AbstractContextManager[None]:
        """Let this thread, and the processes it starts, have the machine's network until the end of the
        block."""
        return _network_of(f"/proc/{self._first}/ns/net")

    def real_network(self) -> AbstractContextManager[None]:
        """Let this thread have the real machine's network again until the end of the block."""
        return _network_of(f"/proc/self/fd/{self._real}")


@contextlib.contextmanager
def _network_of(path: str) -> Iterator[None]:
    with Path("/proc/thread-self/ns/net").open() as before:
        with Path(path).open() as wanted:
            _enter(wanted.fileno())
        try:
            yield
        finally:
            _enter(before.fileno())


def _enter(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise NamespacesError(f"setns failed: {os.strerror(ctypes.get_errno())}")


def _children(pid: int) -> list[int]:
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def remove_abandoned_cgroups() -> None:
    """Remove the control groups of machines whose starter lives no more."""
    for group in {each.name for each in _node_cgroups()}:
        if not Path("/proc", group.removeprefix(CGROUP_PREFIX)).exists():
            _remove_cgroup(group)


def _hierarchies() -> list[Path]:
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    return [each for each in CGROUPS.iterdir() if each.is_dir() and not each.is_symlink()]


def _node_cgroups() -> Iterator[Path]:
    for hierarchy in _hierarchies():
        yield from hierarchy.glob(f"{CGROUP_PREFIX}*")


def _make_cgroup(name: str) -> None:
    for hierarchy in _hierarchies():
        group = hierarchy / name
        group.mkdir(exist_ok=True)
        # Version 1: a new group of `cpuset` has no processors until they are assigned.
        for value in ("cpuset.cpus", "cpuset.mems"):
            if (group / value).exists() and hierarchy.name == "cpuset":
                (group / value).write_text((hierarchy / value).read_text())
        # Version 2: a group passes its controllers on only when it is configured so.
        if (hierarchy / "cgroup.controllers").exists() and hierarchy == CGROUPS:
            for each in (hierarchy, group):
                offered = (each / "cgroup.controllers").read_text().split()
                (each / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in offered))


def _remove_cgroup(name: str) -> None:
    for hierarchy in _hierarchies():
        if (hierarchy / name).exists():
            # find(1) goes depth first; only directories can be removed, and only when nobody is in them.
            subprocess.run(
                ["/usr/bin/find", hierarchy / name, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"],
                capture_output=True,
                check=False,
            )

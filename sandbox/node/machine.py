"""
A machine within the machine: namespaces of processes, mounts, network and host name, and programs that run in them.

Everything in there hangs on one process (``anchor``), and that on ours: whoever is killed, the kernel ends all programs and
containers, and with the last of them go mounts, addresses and firewall rules. What can't go by itself, empty control groups,
is removed at the end, or by the next machine.
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

from sandbox.controlplane.processes import Command, Server
from sandbox.node.anchor import READY

ANCHOR = Path(__file__).with_name("anchor.py")
GROUPS = Path("/sys/fs/cgroup")
GROUP_PREFIX = "counterfoil-node-"
PATIENCE = 30.0  # seconds until it is set up
INTERVAL = 0.05  # seconds between looks
GOODBYE = 20.0  # seconds for an orderly end of a program
SEARCHED = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {"PATH": SEARCHED, "HOME": "/root", "LANG": "C.UTF-8"}
NEW = (
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
NEW_NETWORK = 0x40000000  # CLONE_NEWNET, see setns(2); Python has os.setns from 3.12 on


class MachineError(Exception):
    """It could not be set up, or a program in it ended; the message has the end of its log."""


class Program:
    """A running program of the machine."""

    def __init__(self, server: Server) -> None:
        self._server = server

    @property
    def ended(self) -> bool:
        """Whether it has exited."""
        return self._server.ended

    def last_words(self) -> str:
        """Return the end of its log."""
        return self._server.last_words()

    async def stop(self) -> None:
        """Ask it to end (SIGTERM); after a while kill it."""
        self._tell(signal.SIGTERM)
        try:
            async with asyncio.timeout(GOODBYE):
                while not self._server.ended:  # noqa: ASYNC110 - another process gives no event to wait for
                    await asyncio.sleep(INTERVAL)
        except TimeoutError:
            self.kill()

    def kill(self) -> None:
        """End it at once."""
        self._tell(signal.SIGKILL)
        self._server.kill()

    def _tell(self, number: signal.Signals) -> None:
        # nsenter waits for the program, which is its only child.
        for child in _children(self._server.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)


class Machine:
    """The namespaces; ``boot`` makes them, ``halt`` ends them with all that runs there."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder = folder
        self.address = address
        self.group = f"{GROUP_PREFIX}{os.getpid()}"
        """The control group that holds all pods, below each controller's root."""
        self._anchor: Server | None = None
        self._first = 0
        self._real = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    async def boot(self) -> None:
        """Make the namespaces. Raises ``MachineError``."""
        remove_what_the_dead_left()
        # A bind mount needs its target; CNI keeps its notes there.
        Path("/var/lib/cni").mkdir(parents=True, exist_ok=True)
        _make_group(self.group)
        log = self.folder / "machine.log"
        log.unlink(missing_ok=True)
        python = [sys.executable, "-I", ANCHOR, self.folder, self.address]
        self._anchor = Server(["/usr/bin/unshare", *NEW, *python], log=log, environment=ENVIRONMENT)
        try:
            async with asyncio.timeout(PATIENCE):
                await self._until_set_up(self._anchor)
        except TimeoutError:
            raise MachineError(f"the namespaces are not ready:\n{self._anchor.last_words()}") from None
        (self._first,) = _children(self._anchor.pid)

    async def _until_set_up(self, anchor: Server) -> None:
        while READY not in anchor.last_words():
            if anchor.ended:
                raise MachineError(f"the namespaces could not be set up:\n{anchor.last_words()}")
            await asyncio.sleep(INTERVAL)

    async def halt(self) -> None:
        """End everything in there, as a power cut would. May be called again, and so may ``boot``."""
        if self._anchor is None:
            return
        first = self._first or self._anchor.pid
        self._anchor.kill()
        # The kernel ends the others before their first process is gone.
        while Path(f"/proc/{first}").exists():  # noqa: ASYNC110 - another process gives no event to wait for
            await asyncio.sleep(INTERVAL)
        self._anchor, self._first = None, 0
        _remove_group(self.group)

    def start(self, name: str, argv: Command) -> Program:
        """Start a program with its log at ``folder/NAME.log``."""
        tied = ["/usr/bin/setpriv", "--pdeathsig", "KILL", "--", *argv]
        return Program(Server(self.entering(tied), log=self.folder / f"{name}.log", environment=ENVIRONMENT))

    def entering(self, argv: Command) -> list[object]:
        """Return the command that runs ``argv`` in there."""
        spaces = ["--net", "--mount", "--uts", "--ipc", "--pid"]
        return ["/usr/bin/nsenter", f"--target={self._first}", *spaces, "--", *argv]

    def network(self) -> AbstractContextManager[None]:
        """Let this thread, and the processes it starts, have the machine's network until the end of the block."""
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
    if libc.setns(descriptor, NEW_NETWORK) != 0:
        raise MachineError(f"setns failed: {os.strerror(ctypes.get_errno())}")


def _children(pid: int) -> list[int]:
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def remove_what_the_dead_left() -> None:
    """Remove the control groups of machines whose starter lives no more."""
    for group in {each.name for each in _hierarchies_groups()}:
        if not Path("/proc", group.removeprefix(GROUP_PREFIX)).exists():
            _remove_group(group)


def _hierarchies() -> list[Path]:
    if (GROUPS / "cgroup.controllers").exists():
        return [GROUPS]
    return [each for each in GROUPS.iterdir() if each.is_dir() and not each.is_symlink()]


def _hierarchies_groups() -> Iterator[Path]:
    for hierarchy in _hierarchies():
        yield from hierarchy.glob(f"{GROUP_PREFIX}*")


def _make_group(name: str) -> None:
    for hierarchy in _hierarchies():
        group = hierarchy / name
        group.mkdir(exist_ok=True)
        # Version 1: a new group of `cpuset` has no processors until it is told.
        for value in ("cpuset.cpus", "cpuset.mems"):
            if (group / value).exists() and hierarchy.name == "cpuset":
                (group / value).write_text((hierarchy / value).read_text())
        # Version 2: a group hands its controllers on only when it is told.
        if (hierarchy / "cgroup.controllers").exists() and hierarchy == GROUPS:
            for each in (hierarchy, group):
                offered = (each / "cgroup.controllers").read_text().split()
                (each / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in offered))


def _remove_group(name: str) -> None:
    for hierarchy in _hierarchies():
        if (hierarchy / name).exists():
            # find(1) goes depth first; only directories can be removed, and only when nobody is in them.
            subprocess.run(
                ["/usr/bin/find", hierarchy / name, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"],
                capture_output=True,
                check=False,
            )

"""
Processes of Counterfoil that start without importing anything: forks of one process that has imported all.

``python -m sandbox.environment.fork_server ADDRESS MODULE...`` is that process, with a Unix socket.
Tests start hundreds of controllers and receivers, and three quarters of the CPU of a start are imports. Demo,
benches and fault campaign start each process as a cluster does.

Each connection is one program. The client sends arguments, environment, folder and log, and gets the process
id, then the exit status. A program ends with the fork server, and that with the process that started it.
"""

import gc
import importlib
import os
import runpy
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import msgspec

from sandbox.controlplane.die_with_parent import die_with
from sandbox.controlplane.processes import Command, ServerProcess, StartProgram, start_program

FORK_SERVER = "SANDBOX_FORK_SERVER"
"""Name of the environment variable with the address. Without it, each program is started as usual."""

WORKER_SERVERS = "SANDBOX_WORKER_SERVERS"
"""Name of the environment variable with the folder of ``forked_workers``."""

FORKED_WORKERS = "sandbox.environment.forked_workers"

IMPORTED = (
    "controller.__main__",
    "webhook.receiver.app",
    "webhook.pages.app",
    "webhook.console.app",
    FORKED_WORKERS,
)

READ_AT_START = ("PYTHON", "LD_", "GLIBC_", "MALLOC_")
"""Beginnings of the names of environment variables that are read before any import."""

READY_SECONDS = 60.0
MAX_MESSAGE_BYTES = 1 << 17
NEVER = 0x7FFFFFFF  # of poll(2), in milliseconds


class ForkRequest(msgspec.Struct, frozen=True):
    """The program that a fork becomes."""

    arguments: list[str]
    """As of ``python -m``: module and arguments."""
    environment: dict[str, str]
    log: str
    """File for both outputs; its folder is the working directory."""


class ForkServerFailed(RuntimeError):
    """The fork server did not start a program; the message has the end of its log."""


# -- The client ----------------------------------------------------------------------------------------------


class ForkedProgram:
    """A program that the fork server started; it is used like ``subprocess.Popen``."""

    def __init__(
        self,
        address: str,
        argv: Command,
        log: Path,
        environment: Mapping[str, str],
        *,
        stdin: int | None = None,
    ) -> None:
        # The first two are Python and -m.
        request = ForkRequest([str(each) for each in argv][2:], dict(environment), str(log))
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._connection.connect(address)
        socket.send_fds(self._connection, [msgspec.json.encode(request)], [] if stdin is None else [stdin])
        answer = self._connection.recv(MAX_MESSAGE_BYTES)
        if not answer:
            raise ForkServerFailed("the fork server ended")
        self.pid = int(answer)
        self._status: int | None = None
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal; None while it runs."""
        with self._lock:
            if self._status is None:
                with suppress(BlockingIOError):
                    answer = self._connection.recv(MAX_MESSAGE_BYTES, socket.MSG_DONTWAIT)
                    # Without an answer, the fork server ended, and the program with it.
                    self._status = int(answer) if answer else -signal.SIGKILL
                    self._connection.close()
            return self._status

    def wait(self, timeout: float | None = None) -> int:
        """Wait at most ``timeout`` seconds for the exit status. Raises ``subprocess.TimeoutExpired``."""
        with suppress(ValueError):  # The connection is closed: another thread has the status.
            waiting = select.poll()
            waiting.register(self._connection, select.POLLIN)
            waiting.poll(NEVER if timeout is None else timeout * 1000)
        status = self.poll()
        if status is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
        return status

    def terminate(self) -> None:
        """Send SIGTERM if it still runs."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL if it still runs."""
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


def start_of(argv: Command, environment: Mapping[str, str]) -> StartProgram:
    """Return what starts this program: the fork server if there is one and it can."""
    address = os.environ.get(FORK_SERVER)
    match list(argv):
        case [sys.executable, "-m", "controller" | "webhook", *_] if (
            address and _read_at_start(environment) == AT_START
        ):
            return partial(ForkedProgram, address)
    return start_program


def _read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(READ_AT_START) and name != "PYTHONPATH"
    }


AT_START = _read_at_start(os.environ)
"""Variables that this process was started with, and the fork server, too."""


@contextmanager
def fork_server(folder: Path, modules: Sequence[str] = IMPORTED) -> Iterator[str]:
    """Run a fork server that has imported ``modules``; its socket and its log are in ``folder``. Return its
    address."""
    address = folder / "fork.sock"
    log = folder / "fork_server.log"
    server = ServerProcess(
        [sys.executable, "-m", __name__, address, *modules],
        log=log,
        environment={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    try:
        deadline = time.monotonic() + READY_SECONDS
        while not address.exists():
            if server.ended or time.monotonic() > deadline:
                raise ForkServerFailed(f"the fork server does not listen:\n{server.log_tail()}")
            time.sleep(0.02)
        yield str(address)
    finally:
        server.kill()


# -- The server ----------------------------------------------------------------------------------------------


class ForkServer:
    """The process that forks; it has one thread."""

    def __init__(self, address: str) -> None:
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(f"{address}.new")
        self._listener.listen(64)
        self._selector.register(self._listener, selectors.EVENT_READ)
        Path(f"{address}.new").rename(address)

    def serve(self) -> list[str]:
        """Serve forever; return only in a fork, with the arguments of its program."""
        while True:
            for key, _ in self._selector.select():
                if key.data is not None:
                    self._report_end(key.fd, *key.data)
                elif arguments := self._start(self._listener.accept()[0]):
                    return arguments

    def _start(self, connection: socket.socket) -> list[str]:
        message, descriptors, _, _ = socket.recv_fds(connection, MAX_MESSAGE_BYTES, 1)
        request = msgspec.json.decode(message, type=ForkRequest)
        stdin = descriptors[0] if descriptors else os.open(os.devnull, os.O_RDONLY)
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            return self._become(request, parent, connection, stdin)
        os.close(stdin)
        with suppress(OSError):  # The client may have gone away.
            connection.send(str(pid).encode())
        self._selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, connection))
        return []

    def _report_end(self, pidfd: int, pid: int, connection: socket.socket) -> None:
        self._selector.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
        with suppress(OSError):  # The client may have gone away.
            connection.send(str(os.waitstatus_to_exitcode(status)).encode())
        connection.close()

    def _become(self, request: ForkRequest, parent: int, connection: socket.socket, stdin: int) -> list[str]:
        for key in list(self._selector.get_map().values()):
            if key.data is not None:
                os.close(key.fd)
                key.data[1].close()
        self._selector.close()
        self._listener.close()
        connection.close()
        os.setsid()
        die_with(parent)
        log = os.open(request.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        for number, file in ((0, stdin), (1, log), (2, log)):
            os.dup2(file, number)
        os.close(log)
        os.close(stdin)
        os.chdir(Path(request.log).parent)
        os.environ.clear()
        os.environ.update(request.environment)
        time.tzset()
        return request.arguments


def main() -> None:
    """Import everything, then serve; in a fork, run its program as ``python -m`` does."""
    address, *modules = sys.argv[1:]
    for module in modules:
        importlib.import_module(module)
    # A search for cyclic garbage writes to each object: each fork would have its own copy of them.
    gc.collect()
    gc.freeze()
    arguments = ForkServer(address).serve()
    if folder := os.environ.get(WORKER_SERVERS):
        # Not imported above: a worker process has what it needs and nothing else.
        importlib.import_module(FORKED_WORKERS).install(Path(folder))
    sys.argv = arguments
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

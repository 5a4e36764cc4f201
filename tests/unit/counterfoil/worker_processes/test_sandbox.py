"""
The reach of a worker process that a file has taken over: each attempt is made in a real process.
"""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import msgspec
import pytest

import counterfoil
from counterfoil.worker_processes.pool import WorkerPool
from counterfoil.worker_processes.sandbox import landlock_version

SCRIPT = """
import ctypes, fcntl, json, os, resource, signal, socket, sys
from counterfoil.worker_processes.worker import serve
LIBC = ctypes.CDLL(None, use_errno=True)
IO_URING_SETUP = 425
def connect(family, kind, protocol, address):
    with socket.socket(family, kind, protocol) as opened: return str(opened.connect(address))
def system_call(number, *arguments):
    if LIBC.syscall(number, *arguments) < 0: raise OSError(ctypes.get_errno(), "refused")
    return "done"
def attempt(head):
    kind, argument = json.loads(head)
    if kind == "tcp": return connect(socket.AF_INET, socket.SOCK_STREAM, 0, ("127.0.0.1", argument))
    if kind == "mptcp": return connect(socket.AF_INET, socket.SOCK_STREAM, 262, ("127.0.0.1", argument))
    if kind == "udp": return connect(socket.AF_INET, socket.SOCK_DGRAM, 0, ("127.0.0.1", argument))
    if kind == "unix": return connect(socket.AF_UNIX, socket.SOCK_STREAM, 0, argument)
    if kind == "fast open":
        return str(socket.socket().sendto(b"x", socket.MSG_FASTOPEN, ("127.0.0.1", argument)))
    if kind == "datagram of a pair":
        return str(socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b"x", argument))
    if kind == "io_uring": return system_call(IO_URING_SETUP, 1, ctypes.create_string_buffer(120))
    if kind == "limit": return str(resource.prlimit(argument, resource.RLIMIT_NOFILE, (3, 3)))
    if kind == "processors": return str(os.sched_setaffinity(argument, {0}))
    if kind == "priority": return str(os.setpriority(os.PRIO_PROCESS, argument, 19))
    if kind == "signal": return str(os.kill(argument, signal.SIGCONT))
    if kind == "signal for input": return str(fcntl.fcntl(0, fcntl.F_SETOWN, argument))
    if kind == "truncate": return str(os.open(argument, os.O_WRONLY | os.O_TRUNC))
    if kind == "read": return open(argument).read()
    if kind == "list": return str(os.listdir(argument))
    if kind == "remove": return str(os.remove(argument))
    if kind == "files":
        return str([os.dup(0) for _ in range(argument)])
    if kind == "import": return __import__(argument).__name__
    if kind == "environment": return json.dumps(dict(os.environ))
    return str(ctypes.CDLL(None).prctl(argument, 0, 0, 0, 0))
def handle(head, size, requests, note):
    try:
        return json.dumps({"done": attempt(head)}).encode()
    except OSError as refused:
        return json.dumps({"refused": type(refused).__name__}).encode()
serve(handle, memory_bytes=512 * 1024 * 1024, cpu_seconds=10)
"""

TREE = str(Path(counterfoil.__file__).parents[1])
"""The code that the tests import: an isolated Python finds the installed one."""

PR_GET_DUMPABLE, PR_GET_NO_NEW_PRIVS = 3, 39

REFUSAL = "PermissionError" if landlock_version() > 0 else None
"""A kernel without Landlock lets the process read; the process works all the same."""


class Answer(msgspec.Struct, frozen=True):
    done: str | None = None
    refused: str | None = None


async def attempt(kind: str, argument: object = None) -> Answer:
    command = [sys.executable, "-I", "-c", f"import sys\nsys.path.insert(0, {TREE!r})\n{SCRIPT}"]
    async with aclosing(WorkerPool(command, count=1, seconds=60)) as pool:
        return await pool.request(Answer, json.dumps([kind, argument]).encode())


@pytest.mark.parametrize("kind", ["read", "list"])
async def test_it_reaches_no_file_of_the_pod(kind: str, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("secret")
    found = await attempt(kind, str(tmp_path if kind == "list" else secret))
    assert found.refused == REFUSAL


@pytest.mark.parametrize("kind", ["remove", "truncate"])
async def test_it_changes_no_file_of_the_pod(kind: str, tmp_path: Path) -> None:
    stored = tmp_path / "document"
    stored.write_text("signed")
    assert (await attempt(kind, str(stored))).refused == "PermissionError"
    assert stored.read_text() == "signed"


async def test_it_reads_no_memory_and_no_environment_of_another_process() -> None:
    assert (await attempt("read", "/proc/1/environ")).refused == REFUSAL


@pytest.mark.parametrize("way", ["tcp", "mptcp", "fast open", "udp"])
async def test_it_connects_nowhere(way: str) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
    ):
        reached = datagrams if way == "udp" else server
        if way == "udp":
            datagrams.bind(("127.0.0.1", 0))
        found = await attempt(way, reached.getsockname()[1])
    assert found.refused == "PermissionError"


@pytest.mark.parametrize(
    ("way", "kind"), [("unix", socket.SOCK_STREAM), ("datagram of a pair", socket.SOCK_DGRAM)]
)
async def test_it_reaches_no_socket_in_a_folder(way: str, kind: socket.SocketKind, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, kind) as server:
        server.bind(str(tmp_path / "socket"))
        if kind is socket.SOCK_STREAM:
            server.listen()
        found = await attempt(way, str(tmp_path / "socket"))
    assert found.refused == "PermissionError"


@pytest.fixture
def neighbour() -> Iterator[int]:
    with subprocess.Popen(["sleep", "60"]) as other:
        yield other.pid
        other.kill()


@pytest.mark.parametrize("way", ["limit", "processors", "priority", "signal", "signal for input"])
async def test_it_changes_nothing_of_another_process_of_its_user(way: str, neighbour: int) -> None:
    assert (await attempt(way, neighbour)).refused == "PermissionError"


async def test_no_queue_of_the_kernel_makes_its_calls() -> None:
    assert (await attempt("io_uring")).refused is not None


async def test_it_opens_few_files() -> None:
    assert await attempt("files", 40) == Answer(refused="OSError")


async def test_it_has_nothing_of_our_environment() -> None:
    assert (await attempt("environment")).done in ("{}", '{"LC_CTYPE": "C.UTF-8"}')


async def test_it_gains_no_privileges_and_other_processes_of_its_user_cannot_read_its_memory() -> None:
    assert await attempt("prctl", PR_GET_NO_NEW_PRIVS) == Answer(done="1")
    assert await attempt("prctl", PR_GET_DUMPABLE) == Answer(done="0")


@pytest.mark.parametrize(
    "module", ["encodings.utf_32", "sqlite3", "cryptography.hazmat.primitives.ciphers.algorithms"]
)
async def test_it_can_import_what_a_library_imports_late(module: str) -> None:
    assert (await attempt("import", module)).done == module.partition(".")[0]

"""
The reach of a worker process that a file has taken over: each attempt is made in a real process.
"""

import json
import socket
import sys
from contextlib import aclosing
from pathlib import Path

import msgspec
import pytest

from counterfoil.worker_processes.pool import WorkerPool
from counterfoil.worker_processes.sandbox import landlock_version

SCRIPT = """
import ctypes, json, os, socket, sys
from counterfoil.worker_processes.worker import serve
def attempt(head):
    kind, argument = json.loads(head)
    if kind == "read": return open(argument).read()
    if kind == "list": return str(os.listdir(argument))
    if kind == "remove": return str(os.remove(argument))
    if kind == "connect":
        with socket.create_connection(("127.0.0.1", argument), timeout=5): return "connected"
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

PR_GET_DUMPABLE, PR_GET_NO_NEW_PRIVS = 3, 39

REFUSAL = "PermissionError" if landlock_version() > 0 else None
"""A kernel without Landlock refuses nothing of that; the process works all the same."""


class Answer(msgspec.Struct, frozen=True):
    done: str | None = None
    refused: str | None = None


async def attempt(kind: str, argument: object = None) -> Answer:
    command = [sys.executable, "-I", "-c", SCRIPT]
    async with aclosing(WorkerPool(command, count=1, seconds=60)) as pool:
        return await pool.request(Answer, json.dumps([kind, argument]).encode())


@pytest.mark.parametrize("kind", ["read", "list", "remove"])
async def test_it_reaches_no_file_of_the_pod(kind: str, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("secret")
    found = await attempt(kind, str(tmp_path if kind == "list" else secret))
    assert found.refused == REFUSAL


async def test_it_reads_no_memory_and_no_environment_of_another_process() -> None:
    assert (await attempt("read", "/proc/1/environ")).refused == REFUSAL


async def test_it_connects_nowhere() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = await attempt("connect", server.getsockname()[1])
    assert found.refused == REFUSAL


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

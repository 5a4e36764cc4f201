"""S16: read the memory of a process that holds keys, from another process of its user."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from sandbox.controlplane.ports import free_port

NOBODY = 65534
"""The user of both processes if the tests run as root: root may read everything."""

START = """
import ctypes, encodings.idna, importlib, os, resource, runpy, signal, sys
_, user, imported, *sys.argv = sys.argv
# Tests that a shell runs in the background ignore it.
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
importlib.import_module(imported)
resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
if os.getuid() == 0:
    os.setgroups([]); os.setgid(int(user)); os.setuid(int(user))
    # As after the start of a program; the change of the user has hidden the memory.
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
"""Imports first: the user may have no access to the folder of Python."""

SIBLING = """
import ctypes, json, os, sys
user, pid = map(int, sys.argv[1:])
if os.getuid() == 0:
    os.setgroups([]); os.setgid(user); os.setuid(user)
libc, read = ctypes.CDLL(None), []
for name in ("environ", "mem", "maps", "fd/0"):
    try:
        os.close(os.open(f"/proc/{pid}/{name}", os.O_RDONLY))
        read.append(name)
    except PermissionError:
        continue
class Range(ctypes.Structure):
    _fields_ = [("start", ctypes.c_void_p), ("length", ctypes.c_size_t)]
buffer = ctypes.create_string_buffer(8)
here, there = Range(ctypes.addressof(buffer), 8), Range(id(None), 8)
if libc.process_vm_readv(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0) >= 0:
    read.append("process_vm_readv")
PTRACE_ATTACH, PTRACE_DETACH = 16, 17
if libc.ptrace(PTRACE_ATTACH, pid, 0, 0) == 0:
    read.append("ptrace")
    os.waitpid(pid, 0x40000000)
    libc.ptrace(PTRACE_DETACH, pid, 0, 0)
print(json.dumps(read))
"""
"""A program that took over a worker process, where the kernel has no Landlock."""

KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: none
contexts: [{name: none, context: {cluster: none, user: none, namespace: contracts}}]
clusters: [{name: none, cluster: {server: "http://127.0.0.1:9"}}]
users: [{name: none, user: {token: secret}}]
"""


def address(port: int) -> str:
    return f"http://127.0.0.1:{port}/metrics"


@contextmanager
def running(process: str) -> Iterator[tuple[int, int]]:
    """Run a process of Counterfoil; yield its id and its private port once it listens there."""
    port = free_port()
    program = ["controller"] if process == "controller" else ["webhook", process, "--listen=127.0.0.1:0"]
    imported = "controller.__main__" if process == "controller" else f"webhook.{process}.app"
    # A folder in which the other user may read and write, unlike pytest's own.
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        kubeconfig, log = Path(folder, "kubeconfig"), Path(folder, "log")
        kubeconfig.write_text(KUBECONFIG)
        keys = Path(folder, "keys")
        keys.mkdir()
        (keys / "2026-11").write_bytes(base64.b64encode(bytes(32)))
        command = [sys.executable, "-c", START, str(NOBODY), imported, *program]
        environment = {
            "KUBECONFIG": str(kubeconfig),
            "PYTHONPATH": str(Path.cwd()),
            "COUNTERFOIL_SEALING_KEYS": str(keys),
        }
        with (
            log.open("w") as output,
            subprocess.Popen(
                [*command, f"--private-listen=127.0.0.1:{port}"],
                cwd=folder,
                env=environment,
                stdout=output,
                stderr=output,
            ) as started,
        ):
            try:
                wait_until_it_listens(started, port, log)
                yield started.pid, port
            finally:
                started.kill()


def wait_until_it_listens(started: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 60
    while started.poll() is None and time.monotonic() < deadline:
        with socket.socket() as attempt:
            if attempt.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail(log.read_text())


def what_a_sibling_reads(pid: int) -> list[str]:
    found = subprocess.run(
        [sys.executable, "-c", SIBLING, str(NOBODY), str(pid)], capture_output=True, text=True, check=True
    )
    read: list[str] = json.loads(found.stdout)
    return read


@pytest.mark.parametrize("process", ["controller", "receiver", "pages", "console"])
def test_no_process_of_its_user_reads_the_memory_of_a_process_that_holds_keys(process: str) -> None:
    with running(process) as (pid, port):
        assert what_a_sibling_reads(pid) == []
        with urllib.request.urlopen(address(port), timeout=5) as answer:
            assert "process_open_fds" in answer.read().decode()


RESEAL = """
import argparse, asyncio, ctypes, io, pathlib, sys
from counterfoil.cli.plugin import exit_status, reseal
arguments = argparse.Namespace(sealing_keys=pathlib.Path(sys.argv[1]), digest=None, output="text")
try:
    asyncio.run(reseal.run(arguments, None, io.StringIO()))
except exit_status.CommandError:
    print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""
"""Prints PR_GET_DUMPABLE after the command has looked for keys."""


def test_the_plugin_hides_its_memory_before_it_reads_a_sealing_key(tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-c", RESEAL, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert found.stdout == "0\n"


def test_a_crash_of_a_process_that_holds_keys_leaves_no_core_dump() -> None:
    with running("pages") as (pid, _):
        os.kill(pid, signal.SIGQUIT)
        end = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert end is not None
        assert (end.si_status, end.si_code) == (signal.SIGQUIT, os.CLD_KILLED)


def test_the_memory_of_any_other_process_of_its_user_can_be_read() -> None:
    wait = (
        "import os, sys, time\nif os.getuid() == 0: os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))"
    )
    # Linux hides the memory of a process that changed its user; a new program begins without that.
    wait += "\nos.execv('/bin/sleep', ['sleep', '60'])"
    with subprocess.Popen([sys.executable, "-c", wait, str(NOBODY)]) as other:
        try:
            while Path(f"/proc/{other.pid}/cmdline").read_bytes() != b"sleep\0" + b"60\0":
                time.sleep(0.02)
            assert what_a_sibling_reads(other.pid) == ["environ", "mem", "maps", "fd/0", "ptrace"]
        finally:
            other.kill()

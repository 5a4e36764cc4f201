"""A forked program is like a started one: arguments, environment, folder, output, exit status and signals."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.controlplane.processes import start_program
from sandbox.environment.fork_server import (
    FORK_SERVER,
    ForkedProgram,
    ForkServerFailed,
    fork_server,
    start_of,
)

PROGRAM = """
import json, os, sys, time
facts = [__name__, sys.argv[1:], os.getcwd(), dict(os.environ), os.getsid(0) == os.getpid(), os.getppid()]
print(json.dumps(facts), flush=True)
if sys.argv[1] == "wait":
    time.sleep(60)
if sys.argv[1] == "fail":
    raise ValueError("a fault")
sys.exit(int(sys.argv[1]))
"""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    # The folder of the server's log is its working directory, where Python finds modules.
    (tmp_path / "program.py").write_text(PROGRAM)
    with fork_server(tmp_path, modules=["json"]) as address:
        yield address


def started(address: str, log: Path, *arguments: str) -> ForkedProgram:
    return ForkedProgram(
        address, [sys.executable, "-m", "program", *arguments], log, {"PATH": "/bin", "TZ": "Asia/Tokyo"}
    )


def facts(log: Path) -> list[object]:
    deadline = time.monotonic() + 30
    while not log.exists() or "\n" not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    said: list[object] = json.loads(log.read_text().splitlines()[0])
    return said


def test_a_program_gets_its_arguments_its_environment_its_folder_and_its_own_session(
    address: str, tmp_path: Path
) -> None:
    (tmp_path / "logs").mkdir()
    log = tmp_path / "logs" / "program.log"
    program = started(address, log, "0", "x")
    assert program.wait(30) == 0
    assert facts(log)[:-1] == [
        "__main__",
        ["0", "x"],
        str(tmp_path / "logs"),
        {"PATH": "/bin", "TZ": "Asia/Tokyo"},
        True,
    ]
    assert program.poll() == 0
    # The process is gone, and its id may be another's.
    program.kill()


@pytest.mark.parametrize(("argument", "status"), [("3", 3), ("fail", 1)])
def test_its_exit_status_and_its_last_words_are_kept(
    address: str, tmp_path: Path, argument: str, status: int
) -> None:
    assert started(address, tmp_path / "program.log", argument).wait(30) == status
    assert ("ValueError: a fault" in (tmp_path / "program.log").read_text()) == (argument == "fail")


def test_it_runs_until_it_is_stopped_or_killed(address: str, tmp_path: Path) -> None:
    for name, end in (("terminate", signal.SIGTERM), ("kill", signal.SIGKILL)):
        program = started(address, tmp_path / f"{name}.log", "wait")
        facts(tmp_path / f"{name}.log")
        assert program.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            program.wait(0.01)
        getattr(program, name)()
        assert program.wait(30) == -end


def test_a_program_ends_with_the_fork_server(address: str, tmp_path: Path) -> None:
    program = started(address, tmp_path / "program.log", "wait")
    *_, server = facts(tmp_path / "program.log")
    assert isinstance(server, int)
    os.kill(server, signal.SIGKILL)
    assert program.wait(30) == -signal.SIGKILL


def test_a_fork_server_that_can_not_import_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(ForkServerFailed, match="No module named 'nothing'"),
        fork_server(tmp_path, ["nothing"]),
    ):
        pass


def test_only_a_process_of_counterfoil_is_forked_and_only_if_all_that_it_reads_at_its_start_is_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    controller = [sys.executable, "-m", "controller"]
    environment = {**os.environ, "PYTHONPATH": "elsewhere", "COUNTERFOIL_NAMESPACE": "acme"}
    monkeypatch.delenv(FORK_SERVER, raising=False)
    assert start_of(controller, environment) is start_program
    monkeypatch.setenv(FORK_SERVER, "/nowhere")
    assert start_of(controller, environment) is not start_program
    for other in (["/bin/sleep", "1"], [sys.executable, "-m", "sandbox.environment.set_clock", "controller"]):
        assert start_of(other, environment) is start_program
    for name in ("PYTHONFAULTHANDLER", "LD_PRELOAD"):
        monkeypatch.setenv(name, "1")
        assert start_of(controller, {**environment, name: "1"}) is start_program

"""Forked worker processes do what started ones do, and end as these do."""

import os
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path

import msgspec
import psutil
import pytest

from counterfoil.archives.tags_subprocess import TagRequest, TagResult
from counterfoil.resources.archive import TagRule
from counterfoil.signatures.anchors import NO_ANCHORS
from counterfoil.signatures.results import Signatures, State
from counterfoil.signatures.worker.__main__ import SAMPLE
from counterfoil.signatures.worker_pool import SignatureWorkers
from counterfoil.worker_processes import pool
from sandbox.environment.forked_workers import install, worker_servers


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with worker_servers(tmp_path_factory.mktemp("workers")) as folder:
        yield folder


async def chunks() -> AsyncIterator[bytes]:
    yield SAMPLE.read_bytes()


async def examined(workers: SignatureWorkers) -> Signatures:
    return await workers.examine(chunks(), SAMPLE.stat().st_size, NO_ANCHORS)


def command(process: psutil.Process) -> str:
    """Return the command of a process; nothing for one that has ended, such as a child of an earlier test."""
    try:
        return str(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def forks() -> list[psutil.Process]:
    """Return what the fork server for signatures has forked."""
    (server,) = [each for each in psutil.Process().children() if "signatures/fork.sock" in command(each)]
    return [each for each in server.children() if each.status() != psutil.STATUS_ZOMBIE]


async def test_a_forked_worker_process_finds_what_a_started_one_finds_and_ends_with_its_pool(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with aclosing(SignatureWorkers()) as workers:
        expected = await examined(workers)
    assert expected.state is State.INTACT
    # What the next line replaces is put back.
    monkeypatch.setattr(pool, "start_program", pool.start_program)
    install(Path(folder))
    async with aclosing(SignatureWorkers()) as workers:
        assert forks() == []
        assert await examined(workers) == expected
        (fork,) = forks()
        assert os.getsid(fork.pid) == fork.pid
        # An idle one is used again.
        assert await examined(workers) == expected
        assert forks() == [fork]
    assert forks() == []


async def test_tags_are_evaluated_in_a_fork(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    monkeypatch.setattr(pool, "start_program", pool.start_program)
    install(Path(folder))
    forked = pool.start_program

    async def recording(command: Sequence[str], stdin: int) -> pool.Program:
        program = await forked(command, stdin)
        started.append(type(program).__name__)
        return program

    monkeypatch.setattr(pool, "start_program", recording)
    request = TagRequest({"tag": TagRule(xpath="/a/b/text()")}, "<a><b>text</b></a>", {})
    command = (sys.executable, "-I", "-m", "counterfoil.archives.tags_subprocess", "2")
    async with aclosing(pool.WorkerPool(command, count=1, seconds=60)) as workers:
        result = await workers.request(TagResult, msgspec.json.encode(request), notes=1)
    assert result.tags == {"tag": "text"}
    assert started == ["_Program"]


async def test_another_program_is_started_as_usual(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "start_program", pool.start_program)
    install(Path(folder))
    with Path(os.devnull).open() as nothing:  # noqa: ASYNC230
        program = await pool.start_program([sys.executable, "-c", "raise SystemExit(3)"], nothing.fileno())
    assert await program.wait() == 3

"""
Rule 3, on a file system: killed at any step and run again, each document is there once and never half.
"""

import asyncio
import multiprocessing
import signal
from pathlib import Path

import pytest

from counterfoil.archives import open_backend
from counterfoil.archives.errors import ArchiveUnavailable
from counterfoil.archives.manifest import Manifest
from counterfoil.archives.verify import verify_folder
from counterfoil.resources.archive import ArchiveSpec
from tests.support.fakes.archives import a_spec
from tests.support.scenes.archive_runs import die_in_process, file_envelope, the_content, the_layout

STEPS = 20
"""Number of steps of a whole run: around every put, after every read, between the chunks of the sources."""


PROCESSES = multiprocessing.get_context("forkserver")
"""Makes processes out of one that has imported the runs: an import takes longer than a whole run."""
PROCESSES.set_forkserver_preload([file_envelope.__module__])


async def run_until(step: int, spec: ArchiveSpec) -> int | None:
    process = PROCESSES.Process(target=die_in_process, args=(step, spec))
    process.start()
    await asyncio.to_thread(process.join)
    return process.exitcode


def everything_below(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}


def assert_nothing_is_half(root: Path, spec: ArchiveSpec) -> None:
    layout = the_layout(spec)
    whole = {file.name: the_content(file.facts.number) for file in layout.files}
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        if name in whole:
            assert path.read_bytes() == whole[name]
        elif name == layout.manifest_name:
            # The commit mark: everything is there.
            assert all((root / each).exists() for each in [*whole, layout.hashes_name])
            assert Manifest.decode(path.read_bytes())
        elif not path.is_dir():
            assert name == layout.hashes_name or path.name.startswith(".counterfoil-")


@pytest.mark.parametrize("step", range(STEPS))
async def test_a_run_that_was_killed_is_completed_by_the_next(tmp_path: Path, step: int) -> None:
    spec = a_spec(root=str(tmp_path))
    layout = the_layout(spec)

    assert await run_until(step, spec) == -signal.SIGKILL
    assert_nothing_is_half(tmp_path, spec)

    backend = await open_backend("dms", spec, {})
    await file_envelope(backend, spec)
    assert await verify_folder(backend, layout.folder) == []
    assert everything_below(tmp_path) == {
        *(file.name for file in layout.files),
        layout.hashes_name,
        layout.manifest_name,
    }


async def test_a_run_that_takes_all_its_steps_is_not_killed(tmp_path: Path) -> None:
    assert await run_until(STEPS, a_spec(root=str(tmp_path))) == 0


async def test_two_runs_at_once_leave_what_one_would(tmp_path: Path) -> None:
    spec = a_spec(root=str(tmp_path))
    backend = await open_backend("dms", spec, {})

    # Only one worker per envelope is the rule; a run that sweeps away the other's unfinished file may make it
    # fail.
    endings = await asyncio.gather(*(file_envelope(backend, spec) for _ in range(2)), return_exceptions=True)

    assert all(isinstance(each, str | ArchiveUnavailable) for each in endings)
    assert_nothing_is_half(tmp_path, spec)
    await file_envelope(backend, spec)
    assert await verify_folder(backend, the_layout(spec).folder) == []

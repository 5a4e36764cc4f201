"""
Two controllers that both work on one event: the run that lost must not touch what the other one proved (rules
4, 5).
"""

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from pathlib import Path

import pytest

from controller.access.archive_pool import ArchivePool
from counterfoil.archives.backend import ArchiveBackend, InstrumentedBackend
from counterfoil.esaw import EsawUnreachable
from counterfoil.kube.status import Superseded
from counterfoil.resources import CLAIM_ANNOTATION, Archive, EnvelopeEvent, Phase
from tests.support.archive_contents import sha256_of
from tests.support.scenes.reconciler import ReconcilerScene


class ATrailThatDiffers(dict[str, bytes]):
    """Files of an envelope whose audit trail has other bytes at each download."""

    _numbers = itertools.count(1)

    def __getitem__(self, file_id: str) -> bytes:
        content = super().__getitem__(file_id)
        return b"%s %d" % (content, next(self._numbers)) if file_id.startswith("trail") else content


class SlowReadBack(InstrumentedBackend):
    """Reads the trail back slowly, after it was put."""

    def __init__(self, backend: ArchiveBackend) -> None:
        super().__init__(backend, lambda operation, seconds: None)
        self.has_put_the_trail = False
        self.is_reading, self.go_on = asyncio.Event(), asyncio.Event()

    async def put(
        self, name: str, chunks: AsyncIterable[bytes], *, tags: Mapping[str, str], content_type: str | None
    ) -> None:
        await super().put(name, chunks, tags=tags, content_type=content_type)
        self.has_put_the_trail = self.has_put_the_trail or "trail" in name.lower()

    async def read(self, name: str) -> AsyncGenerator[bytes, None]:
        if self.has_put_the_trail and not self.go_on.is_set():
            self.is_reading.set()
            await self.go_on.wait()
        async for chunk in super().read(name):
            yield chunk


class FirstIsSlow(ArchivePool):
    """Gives the first run a slow backend."""

    slow: SlowReadBack | None = None

    async def backend(self, archive: Archive) -> ArchiveBackend:
        backend = await super().backend(archive)
        if self.slow is None:
            self.slow = SlowReadBack(backend)
            return self.slow
        return backend


async def test_the_run_that_lost_removes_nothing_that_the_other_archived(tmp_path: Path) -> None:
    scene = ReconcilerScene(tmp_path)
    scene.envelope.contents = ATrailThatDiffers(scene.envelope.contents)
    pool = FirstIsSlow(
        scene.kube,
        scene.cache,
        scene.secrets,
        scene.clock,
        scene.metrics,
        scene.archive_pool.pod_access,
    )
    scene.change_archives(archive_pool=pool)
    loser = asyncio.create_task(scene.reconcile())
    await asyncio.sleep(0)
    while pool.slow is None:  # noqa: ASYNC110 - no event says that the run began
        await asyncio.sleep(0)
    await pool.slow.is_reading.wait()

    after = await scene.reconcile()
    assert after.status.phase is Phase.SUCCEEDED
    assert scene.envelope.deleted

    pool.slow.go_on.set()
    with pytest.raises(Superseded):
        await loser
    stored = {sha256_of(path) for path in files_below(tmp_path)}
    assert {each.sha256 for each in after.status.documents} <= stored


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_the_delete_of_an_envelope_with_two_files_costs_four_reads(tmp_path: Path) -> None:
    """Of Organization, Sender, Archive and event. Until all files are stored, the claim of their names is
    recent enough."""
    scene = ReconcilerScene(tmp_path)
    assert (await scene.reconcile()).status.phase is Phase.SUCCEEDED
    verbs = [verb for verb, _ in scene.kube.asked]
    assert (verbs.count("get_partial"), verbs.count("patch"), verbs.count("patch_status")) == (0, 0, 3)
    # The sender of the envelope is looked up first.
    assert [name for verb, name in scene.kube.asked if verb == "get"][-4:] == [
        "acme",
        "anna",
        "dms",
        scene.event.name,
    ]


@pytest.mark.parametrize("same_process", [False, True])
async def test_a_run_that_resumes_the_archiving_of_another_process_claims_the_event_first(
    tmp_path: Path, *, same_process: bool
) -> None:
    scene = ReconcilerScene(tmp_path)
    scene.envelope.problems["download file-1"] = EsawUnreachable("connect")
    waiting = await scene.reconcile()
    assert waiting.status.phase is Phase.ARCHIVING
    assert CLAIM_ANNOTATION not in waiting.metadata.annotations
    scene.envelope.problems.clear()
    if not same_process:
        scene.restarted()
    resumed = await scene.reconcile()
    assert resumed.status.phase is Phase.SUCCEEDED
    assert (CLAIM_ANNOTATION in resumed.metadata.annotations) is not same_process


async def test_an_event_that_was_touched_while_it_waited_is_claimed(tmp_path: Path) -> None:
    scene = ReconcilerScene(tmp_path)
    scene.envelope.problems["download file-1"] = EsawUnreachable("connect")
    waiting = await scene.reconcile()
    scene.kube.edit(EnvelopeEvent, waiting.name, {"metadata": {"annotations": {"note": "of a person"}}})
    scene.envelope.problems.clear()
    assert CLAIM_ANNOTATION in (await scene.reconcile()).metadata.annotations

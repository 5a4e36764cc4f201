"""A worker whose run could not be stored: the event stays known and is queued again."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock

import pytest
from msgspec.structs import replace

from controller.worker import Worker, read_event
from counterfoil.kube.errors import api_error
from counterfoil.resources import EnvelopeEvent
from tests.support.builders import EventBuilder, an_event
from tests.support.scenes.reconciler import ReconcilerScene


@pytest.mark.parametrize("status", [400, 404, 413])
async def test_a_proxys_4xx_to_each_status_write_does_not_drop_the_event(tmp_path: Path, status: int) -> None:
    scene = ReconcilerScene(tmp_path)
    scene.cache.update(scene.newest())
    refused = api_error(status, b"<html>nginx</html>", None, creating=False)
    scene.kube.fail("patch_status", *[refused] * 100)
    queued: list[str] = []
    queue = SimpleNamespace(
        run_began=lambda name: None,
        run_ended=lambda event: None,
        enqueue_after=lambda name, seconds: queued.append(name),
    )
    resync = SimpleNamespace(probe_soon=lambda name: None)
    worker = Worker(
        scene.cache,
        cast("Any", queue),
        scene.reconciler,
        cast("Any", resync),
        scene.clock,
        on_failed=(),
        on_ended=lambda event: None,
        read=partial(read_event, scene.kube),
    )
    await worker.reconcile(scene.event.name)
    assert scene.cache.events.get(scene.event.name) is not None
    assert queued == [scene.event.name]


@pytest.mark.parametrize(
    ("reason", "checked"),
    [
        ("ArchiveFull", ["archive dms"]),
        ("EsawUnreachable", ["eSAW of acme"]),
        ("EsawRedirects", ["eSAW of acme"]),
        ("StillActive", []),
    ],
)
async def test_the_archive_or_esaw_that_failed_a_run_is_checked_at_once(
    tmp_path: Path, reason: str, checked: list[str]
) -> None:
    scene, found = ReconcilerScene(tmp_path), list[str]()
    scene.cache.update(scene.newest())
    waiting = replace(scene.newest(), status=replace(scene.newest().status, reason=reason))
    reconciler = SimpleNamespace(reconcile=AsyncMock(return_value=waiting))
    resync = SimpleNamespace(
        probe_soon=lambda name: found.append(f"archive {name}"),
        check_esaw_soon=lambda name: found.append(f"eSAW of {name}"),
    )
    queue = SimpleNamespace(
        run_began=lambda name: None, run_ended=lambda event: None, enqueue_after=lambda name, seconds: None
    )
    worker = Worker(
        scene.cache,
        cast("Any", queue),
        cast("Any", reconciler),
        cast("Any", resync),
        scene.clock,
        on_failed=(),
        on_ended=lambda event: None,
        read=partial(read_event, scene.kube),
    )
    await worker.reconcile(waiting.name)
    assert found == checked


def an_archived_event_with_a_long_list() -> EventBuilder:
    return an_event().archived(*[f"{'x' * 200}-{each}" for each in range(100)])


@pytest.mark.parametrize("is_changed", [False, True])
async def test_a_run_of_an_event_that_is_kept_without_its_files_reads_them_first(
    tmp_path: Path, *, is_changed: bool
) -> None:
    """Else it would take the archived files for unknown ones."""
    scene = ReconcilerScene(tmp_path, an_archived_event_with_a_long_list())
    scene.cache.update(scene.newest())
    assert not scene.cache.events.is_complete(scene.event.name)
    if is_changed:
        scene.kube.edit(EnvelopeEvent, scene.event.name, {"status": {"message": "changed"}})
    reconciler, queued = SimpleNamespace(reconcile=AsyncMock(return_value=scene.newest())), list[str]()
    queue = SimpleNamespace(
        run_began=lambda name: None,
        run_ended=lambda event: None,
        enqueue_after=lambda name, seconds: queued.append(name),
    )
    worker = Worker(
        scene.cache,
        cast("Any", queue),
        cast("Any", reconciler),
        cast("Any", SimpleNamespace()),
        scene.clock,
        on_failed=(),
        on_ended=lambda event: None,
        read=partial(read_event, scene.kube),
    )
    await worker.reconcile(scene.event.name)
    assert queued == [scene.event.name]
    if is_changed:
        reconciler.reconcile.assert_not_awaited()
        await worker.reconcile(scene.event.name)
    (run,) = reconciler.reconcile.await_args.args
    assert run == scene.newest()
    assert len(run.status.documents) == 100

"""A worker whose run could not be stored: the event stays known and is queued again."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock
from uuid import UUID

import msgspec
import pytest
from msgspec.structs import replace

from controller.after_fix.failed_events import OutageRetrier
from controller.file_list_ceiling import CEILING_PAUSE, MAX_LISTS_BYTES
from controller.reopening.reopener import Reopener
from controller.scheduling.event_queue import EventQueue, concurrency_limits
from controller.scheduling.retry_policy import LOST_OUTCOME
from controller.scheduling.workqueue import WorkQueue
from controller.sharding import HeldShards, LeaseLost
from controller.worker import Worker, read_event
from counterfoil.kube.errors import Rejected, TooLarge, api_error
from counterfoil.resources import EnvelopeEvent, Origin, Phase, stored_size
from counterfoil.resources.reopening import status_for_copying
from counterfoil.untrusted.background_work import is_background
from tests.support.builders import NOON, EventBuilder, an_event
from tests.support.scenes.missing_copies import OptionalScene
from tests.support.scenes.reconciler import ReconcilerScene
from tests.support.scenes.waiting_events import kept_bytes


class FakeQueue:
    """Remembers what is queued again, and after how many seconds."""

    def __init__(self) -> None:
        self.queued: list[str] = []
        self.pauses: list[float] = []
        self.runs: list[str] = []
        """Whether each run stored something."""

    def is_background(self, event: EnvelopeEvent) -> bool:
        return event.spec.origin is Origin.IMPORT

    def run_began(self, name: str) -> None: ...

    def run_ended(self, event: EnvelopeEvent) -> None:
        self.runs.append("stored")

    def run_stored_nothing(self, event: EnvelopeEvent) -> None:
        self.runs.append("stored nothing")

    def enqueue_after(self, name: str, seconds: float) -> None:
        self.queued.append(name)
        self.pauses.append(seconds)


@pytest.mark.parametrize("status", [400, 404, 413])
async def test_a_proxys_4xx_to_each_status_write_does_not_drop_the_event(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    scene = ReconcilerScene(tmp_path)
    scene.cache.update(scene.newest())
    refused = api_error(status, b"<html>nginx</html>", None, creating=False)
    scene.kube.fail("patch_status", *[refused] * 100)
    queue = FakeQueue()
    resync = SimpleNamespace(probe_soon=lambda name: None)
    worker = Worker(
        scene.cache,
        cast("Any", queue),
        scene.reconciler,
        cast("Any", resync),
        scene.clock,
        on_failed=(),
        on_new_failure=lambda event: None,
        on_ended=lambda event: None,
        read=partial(read_event, scene.kube),
    )
    await worker.reconcile(scene.event.name)
    assert scene.cache.events.get(scene.event.name) is not None
    assert (queue.queued, queue.runs) == ([scene.event.name], ["stored nothing"])
    assert "the event's state could not be stored" in caplog.text


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
    worker = Worker(
        scene.cache,
        cast("Any", FakeQueue()),
        cast("Any", reconciler),
        cast("Any", resync),
        scene.clock,
        on_failed=(),
        on_new_failure=lambda event: None,
        on_ended=lambda event: None,
        read=partial(read_event, scene.kube),
    )
    await worker.reconcile(waiting.name)
    assert found == checked


class CheckedScene(OptionalScene):
    """A worker over an event whose optional copy is down, and what it lets be checked."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.cache.update(self.newest())
        self.checked = set[str]()
        self.worker = Worker(
            self.cache,
            cast("Any", FakeQueue()),
            self.reconciler,
            cast("Any", SimpleNamespace(probe_soon=self.checked.add, check_esaw_soon=self.checked.add)),
            self.clock,
            on_failed=(),
            on_new_failure=lambda event: None,
            on_ended=lambda event: None,
            read=partial(read_event, self.kube),
        )

    async def run_to_its_end(self) -> set[str]:
        """Let the worker run the event to its end; return what it lets be checked."""
        self.checked.clear()
        for _ in range(10):
            event = self.newest()
            if event.status.phase is Phase.SUCCEEDED:
                return self.checked
            self.cache.update(event)
            await self.worker.reconcile(event.name)
        raise AssertionError(f"it is {event.status.phase}: {event.status.message}")

    def ask_for_copies(self) -> None:
        """Do what a request ``copy`` and an Import with ``copiesOnly`` do."""
        self.store(status_for_copying(self.newest().status, reason="A", message="", now=self.clock.now()))


@pytest.mark.parametrize("is_asked_for", [False, True])
async def test_the_archive_of_a_copy_that_a_finished_event_lacks_is_checked_at_once(
    tmp_path: Path, is_asked_for: bool
) -> None:
    scene = CheckedScene(tmp_path)
    assert "worm" in await scene.run_to_its_end()
    if is_asked_for:
        scene.ask_for_copies()
    else:
        scene.clock.advance(hours=1)
        await scene.retrier.retry_if_due(scene.newest())
    assert "worm" in await scene.run_to_its_end()
    scene.mend_archive("worm")
    scene.ask_for_copies()
    assert await scene.run_to_its_end() == set()


async def test_the_first_archive_from_which_a_copy_can_not_be_made_is_checked_at_once(tmp_path: Path) -> None:
    scene = CheckedScene(tmp_path)
    await scene.run_to_its_end()
    scene.mend_archive("worm")
    scene.break_archive("dms")
    scene.ask_for_copies()
    assert "dms" in await scene.run_to_its_end()


async def test_an_earlier_failure_of_a_copy_checks_nothing_in_a_later_run(tmp_path: Path) -> None:
    scene = CheckedScene(tmp_path)
    await scene.run_to_its_end()
    scene.change(*scene.copies, cleanup={"policy": "Keep"})
    event = scene.newest()
    scene.store(replace(event.status, phase=Phase.CLEANING, completion_time=None))
    assert await scene.run_to_its_end() == set()


@pytest.mark.parametrize(("origin", "expected"), [(Origin.IMPORT, True), (Origin.CALLBACK, False)])
async def test_a_run_for_an_import_lets_the_calls_of_all_others_come_first(
    tmp_path: Path, origin: Origin, expected: bool
) -> None:
    scene, found = ReconcilerScene(tmp_path), list[bool]()
    event = scene.newest()
    event = replace(event, spec=replace(event.spec, origin=origin))
    scene.cache.update(event)

    async def reconcile(event: EnvelopeEvent) -> EnvelopeEvent:
        found.append(is_background())
        return event

    worker = Worker(
        scene.cache,
        cast("Any", FakeQueue()),
        cast("Any", SimpleNamespace(reconcile=reconcile)),
        cast("Any", SimpleNamespace()),
        scene.clock,
        on_failed=(),
        on_new_failure=lambda event: None,
        on_ended=lambda event: None,
        read=partial(read_event, scene.kube),
    )
    await asyncio.create_task(worker.reconcile(event.name))
    assert found == [expected]


NAMES = [f"{'x' * 200}-{each}" for each in range(100)]


MORE = b"%PDF-more"


def an_archived_event_with_a_long_list() -> EventBuilder:
    return an_event().archived(*NAMES)


def a_restarted_event_with_a_long_list() -> EventBuilder:
    """Return an event whose envelope changed after it was archived: it is archived again."""
    builder = an_archived_event_with_a_long_list()
    sha256 = hashlib.sha256(MORE).hexdigest()
    documents = tuple(
        msgspec.structs.replace(each, size=len(MORE), sha256=sha256)
        for each in builder.build().status.documents
    )
    return builder.status(documents=documents, conditions=(), phase=Phase.VALIDATING)


class WorkerScene(ReconcilerScene):
    """A worker over an event that is kept without its files, and the runs of the reconciler."""

    def __init__(self, folder: Path, builder: EventBuilder) -> None:
        super().__init__(folder, builder)
        self.cache.update(self.newest())
        assert not self.cache.events.is_complete(self.event.name)
        self.queue = FakeQueue()
        self.queued = self.queue.queued
        self.runs: list[EnvelopeEvent] = []
        self.on_run: Callable[[], None] = lambda: None
        self.reconcile_run: Callable[[EnvelopeEvent], Awaitable[EnvelopeEvent]] | None = None
        self.worker = Worker(
            self.cache,
            cast("Any", self.queue),
            cast(
                "Any",
                SimpleNamespace(reconcile=self.run, wait_for_room=self.wait_for_room),
            ),
            cast("Any", SimpleNamespace(probe_soon=lambda name: None, check_esaw_soon=lambda name: None)),
            self.clock,
            on_failed=(),
            on_new_failure=lambda event: None,
            on_ended=lambda event: None,
            read=partial(read_event, self.kube),
        )

    async def run(self, event: EnvelopeEvent) -> EnvelopeEvent:
        self.runs.append(event)
        self.on_run()
        return event if self.reconcile_run is None else await self.reconcile_run(event)

    async def wait_for_room(self, event: EnvelopeEvent) -> EnvelopeEvent:
        return await self.reconciler.wait_for_room(event)

    async def reconcile_newest(self) -> None:
        await self.worker.reconcile(self.event.name)

    def fill_the_ceiling(self) -> list[EnvelopeEvent]:
        """Let other events keep lists until there is no room for this one."""
        documents = an_event().archived(*[f"{'x' * 200}-{each}" for each in range(2000)]).build()
        others, events = list[EnvelopeEvent](), self.cache.events
        while (
            kept_bytes(events.file_lists, "acme") + stored_size(self.event.status.documents)
            <= MAX_LISTS_BYTES
        ):
            builder = an_event(str(UUID(int=len(others)))).in_phase(Phase.ARCHIVING, "EsawFailing")
            others.append(builder.status(documents=documents.status.documents).build())
            events.put(others[-1])
        return others


async def test_a_run_of_an_event_that_is_kept_without_its_files_reads_them_first(tmp_path: Path) -> None:
    """Else it would take the archived files for unknown ones."""
    scene = WorkerScene(tmp_path, an_archived_event_with_a_long_list())
    await scene.reconcile_newest()
    (run,) = scene.runs
    assert run == scene.newest()
    assert len(run.status.documents) == 100


@pytest.mark.parametrize(
    "changes",
    [
        {"status": {"deliveries": 7, "lastDeliveryTime": "2026-09-01T10:00:00Z"}},
        {"status": {"deliveries": 7, "parameters": {"case": "7"}}},
        {"metadata": {"labels": {"team": "sales"}}},
    ],
)
async def test_callbacks_that_are_counted_between_the_read_and_the_run_do_not_stop_the_run(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    """Else an eSAW that calls all the time would delay it without end."""
    scene = WorkerScene(tmp_path, an_archived_event_with_a_long_list())
    scene.kube.edit(EnvelopeEvent, scene.event.name, changes)
    await scene.reconcile_newest()
    (run,) = scene.runs
    assert run == scene.newest()
    assert run.metadata.resource_version != scene.event.metadata.resource_version


@pytest.mark.parametrize(
    "changes",
    [
        {"status": {"phase": "Succeeded", "reason": "ArchivedAndDeleted"}},
        {"status": {"phase": "Pending", "reason": "RetryRequested"}},
        {"status": {"attempts": 3}},
        {"status": {"nextAttemptTime": "2026-09-01T10:00:00Z"}},
        {"spec": {"suspend": True}},
        {"metadata": {"labels": {"counterfoil.dev/request": "skip"}}},
        {"metadata": {"uid": "another"}},
    ],
)
async def test_what_decides_about_the_next_run_stops_one_of_before(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    scene = WorkerScene(tmp_path, an_archived_event_with_a_long_list())
    scene.kube.edit(EnvelopeEvent, scene.event.name, changes)
    await scene.reconcile_newest()
    assert (scene.runs, scene.queued) == ([], [scene.event.name])


async def test_a_restarted_event_without_room_waits_and_its_long_list_is_not_read(tmp_path: Path) -> None:
    scene = WorkerScene(tmp_path, a_restarted_event_with_a_long_list())
    others, documents = scene.fill_the_ceiling(), scene.newest().status.documents
    kept = kept_bytes(scene.cache.events.file_lists, "acme")
    await scene.reconcile_newest()
    waiting = scene.newest()
    assert scene.runs == []
    assert (waiting.status.phase, waiting.status.reason) == (Phase.VALIDATING, "FileListCeiling")
    assert others[0].name in (waiting.status.message or "")
    assert waiting.status.next_attempt_time == scene.clock.now() + CEILING_PAUSE
    assert waiting.status.attempts == 0
    assert waiting.status.documents == documents
    assert not scene.cache.events.is_complete(waiting.name)
    assert kept_bytes(scene.cache.events.file_lists, "acme") == kept
    scene.cache.events.remove(others[0].name)
    assert scene.cache.events.file_lists.next_events("acme") == (waiting.name,)
    await scene.reconcile_newest()
    assert scene.runs == [waiting]


async def test_a_long_list_takes_room_during_its_run_only(tmp_path: Path) -> None:
    """Also if the state after the run can't be stored."""
    scene = WorkerScene(tmp_path, a_restarted_event_with_a_long_list())
    lists, in_run = scene.cache.events.file_lists, list[int]()

    def observe() -> None:
        in_run.append(kept_bytes(lists, "acme"))
        raise api_error(500, b"", None, creating=False)

    scene.on_run = observe
    await scene.reconcile_newest()
    assert in_run == [stored_size(scene.event.status.documents)]
    assert kept_bytes(lists, "acme") == 0
    assert scene.queued == [scene.event.name]


async def test_an_event_whose_lease_is_lost_is_tried_less_and_less_often(tmp_path: Path) -> None:
    """Each try of one that waits for its delete reads it from the API server first."""
    scene = WorkerScene(tmp_path, an_archived_event_with_a_long_list())

    def lose() -> None:
        raise LeaseLost("another process may work on it")

    scene.on_run = lose
    for _ in range(4):
        await scene.reconcile_newest()
    assert scene.queue.pauses == list(LOST_OUTCOME.pauses[:4])


@pytest.mark.parametrize(("after", "reads"), [(None, 0), ("1h", 1)])
async def test_only_an_event_that_waits_for_its_delete_is_read_again(
    tmp_path: Path, after: str | None, reads: int
) -> None:
    """One that is archived and deleted in one run costs no read."""
    scene = ReconcilerScene(tmp_path, cleanup={"policy": "Delete", **({"after": after} if after else {})})
    scene.cache.update(scene.newest())
    read, ended = list[str](), list[EnvelopeEvent]()

    async def read_counted(name: str) -> EnvelopeEvent:
        read.append(name)
        return await read_event(scene.kube, name)

    worker = Worker(
        scene.cache,
        EventQueue(
            scene.cache, WorkQueue(scene.clock, lambda: concurrency_limits(scene.cache, 1)), scene.clock
        ),
        scene.reconciler,
        cast("Any", SimpleNamespace(probe_soon=lambda name: None, check_esaw_soon=lambda name: None)),
        scene.clock,
        on_failed=(),
        on_new_failure=lambda event: None,
        on_ended=ended.append,
        read=read_counted,
    )
    await worker.reconcile(scene.event.name)
    assert scene.cache.events.is_complete(scene.event.name) is (after is None)
    if after is not None:
        scene.clock.advance(hours=2)
        await worker.reconcile(scene.event.name)
    assert [(each.status.phase, each.status.reason) for each in ended] == [
        (Phase.SUCCEEDED, "ArchivedAndDeleted")
    ]
    assert len(ended[0].status.documents) > 1
    assert len(read) == reads


async def test_an_archived_event_reads_its_list_for_the_delete_without_room(tmp_path: Path) -> None:
    """It ends soon, and its list is in memory during the run only."""
    scene = WorkerScene(tmp_path, an_archived_event_with_a_long_list())
    scene.fill_the_ceiling()
    await scene.reconcile_newest()
    assert len(scene.runs) == 1


async def test_a_suspended_event_without_room_shows_its_suspension(tmp_path: Path) -> None:
    """Else it would be due again at once, without end."""
    scene = WorkerScene(tmp_path, a_restarted_event_with_a_long_list().suspended())
    scene.fill_the_ceiling()
    await scene.reconcile_newest()
    assert len(scene.runs) == 1


@pytest.mark.parametrize("refused", [Rejected(422, "Invalid", "no"), TooLarge(500, "500", "too large")])
async def test_no_refused_status_of_an_event_without_room_costs_it_its_list(
    tmp_path: Path, refused: Rejected
) -> None:
    """A failure that follows a refused status replaces the stored list by the one in memory."""
    scene = WorkerScene(tmp_path, a_restarted_event_with_a_long_list())
    scene.fill_the_ceiling()
    before = scene.newest()
    scene.kube.fail("patch_status", refused)
    await scene.reconcile_newest()
    assert scene.newest() == before
    assert (scene.runs, scene.queued) == ([], [scene.event.name])


async def test_a_process_without_the_lease_stores_no_wait_for_room(tmp_path: Path) -> None:
    scene = WorkerScene(tmp_path, a_restarted_event_with_a_long_list())
    scene.fill_the_ceiling()
    scene.change_preconditions(held=HeldShards({}, 1))
    before = scene.newest()
    await scene.reconcile_newest()
    assert scene.newest() == before


async def test_a_restarted_event_is_archived_again_with_all_files_once_there_is_room(tmp_path: Path) -> None:
    scene = WorkerScene(tmp_path, a_restarted_event_with_a_long_list())
    scene.envelope.contents |= {f"file-{name}": MORE for name in NAMES}
    others = scene.fill_the_ceiling()
    await scene.reconcile_newest()
    assert scene.newest().status.reason == "FileListCeiling"
    for each in others:
        scene.cache.events.remove(each.name)
    scene.reconcile_run = scene.reconciler.reconcile
    await scene.reconcile_newest()
    after = scene.newest()
    # eSAW lists more files than before.
    assert (after.status.phase, after.status.reason) == (Phase.CLEANING, "LateFilesPending")
    assert {each.file_id for each in after.status.documents} == set(scene.envelope.contents)
    assert all(each.sha256 for each in after.status.documents)
    assert not scene.cache.events.is_complete(after.name)
    assert kept_bytes(scene.cache.events.file_lists, "acme") == 0


@pytest.mark.parametrize("had_ended", [True, False])
async def test_a_further_copy_of_a_failed_event_is_announced_as_no_new_failure(
    tmp_path: Path, *, had_ended: bool
) -> None:
    """It is listed for a correction during the run all the same: it did not count as failed meanwhile."""
    builder = an_archived_event_with_a_long_list().in_phase(Phase.COPYING, "CopyRequested")
    scene = WorkerScene(tmp_path, builder.status(completion_time=NOON if had_ended else None))
    called = list[str]()

    async def end(event: EnvelopeEvent) -> EnvelopeEvent:
        return replace(event, status=replace(event.status, phase=Phase.FAILED, reason="AuditTrailMissing"))

    scene.reconcile_run = end
    scene.worker.on_failed = (lambda event, _: called.append("failed"),)
    scene.worker.on_new_failure = lambda event: called.append("new")
    await scene.reconcile_newest()
    assert called == (["failed"] if had_ended else ["new", "failed"])


class LinkedScene(ReconcilerScene):
    """An Archive that takes a probe, with a symbolic link in the place of the Organization's folder."""

    def __init__(self, folder: Path) -> None:
        self.link = folder / "dms" / "acme"
        self.link.parent.mkdir()
        (folder / "other").mkdir()
        self.link.symlink_to(folder / "other")
        super().__init__(folder / "dms", cleanup={"policy": "Keep"})
        self.cache.update(self.newest())
        self.worker = Worker(
            self.cache,
            cast("Any", FakeQueue()),
            self.reconciler,
            cast("Any", SimpleNamespace(probe_soon=lambda _: None, archive_pool=self.archive_pool)),
            self.clock,
            on_failed=(),
            on_new_failure=lambda event: None,
            on_ended=lambda event: None,
            read=partial(read_event, self.kube),
        )
        reopener = Reopener(self.status_writer, self.event_recorder, self.clock)
        self.retrier = OutageRetrier(self.cache, reopener)

    async def probe(self) -> None:
        known = self.cache.archives.get("dms")
        archive = await self.archive_pool.update_status(known) if known is not None else None
        assert archive is not None
        self.cache.update(archive)

    async def run_passes(self) -> None:
        for _ in range(2):
            self.clock.advance(hours=1)
            began = self.clock.now()
            for plural, name in list(self.kube.objects):
                if plural == "envelopeevents":
                    await self.retrier.retry_if_over(self.kube.stored(name))
            self.retrier.pass_finished(began)

    async def work(self, event: EnvelopeEvent) -> EnvelopeEvent:
        """Let the worker run an event once an hour until it has ended."""
        for _ in range(40):
            self.cache.update(event)
            await self.worker.reconcile(event.name)
            event = EnvelopeEvent.parse(await self.kube.get(EnvelopeEvent, event.name))
            if event.status.phase.is_final:
                break
            self.clock.advance(hours=1)
        return event

    async def archive_another(self, number: int) -> None:
        """Let the worker archive another envelope."""
        another = an_event(f"00000000-0000-4000-8000-{number:012d}").created(self.clock.now()).build()
        self.kube.put(another)
        ended = await self.work(another)
        assert ended.status.phase is Phase.SUCCEEDED, ended.status


async def test_an_event_that_failed_below_the_root_of_an_archive_starts_again_once(tmp_path: Path) -> None:
    scene = LinkedScene(tmp_path)
    await scene.probe()
    failed = await scene.work(scene.event)
    assert (failed.status.phase, failed.status.cause) == (Phase.FAILED, "SymbolicLink")
    await scene.run_passes()
    assert scene.newest().status.phase is Phase.FAILED, "nothing tells that it works"
    for number, expected in ((1, Phase.PENDING), (2, Phase.FAILED)):
        scene.link.unlink()
        scene.clock.advance(hours=2)
        await scene.archive_another(number)
        await scene.run_passes()
        assert scene.newest().status.phase is expected
        scene.link.rename(tmp_path / f"aside-{number}")
        scene.link.symlink_to(tmp_path / "other")
        failed = await scene.work(scene.newest())
        assert (failed.status.phase, failed.status.cause) == (Phase.FAILED, "SymbolicLink")

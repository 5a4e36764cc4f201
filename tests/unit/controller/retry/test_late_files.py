"""Files that eSAW lists after an event has ended whose envelope is kept."""

import asyncio
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from msgspec.structs import replace

from controller.retry.late_files import LISTING_BUDGET, OUTAGE_PAUSE, LateFileFinder
from counterfoil.esaw import EsawUnreachable, HttpStatusError
from counterfoil.esaw.models import ListedDocument
from counterfoil.kube.errors import Forbidden
from counterfoil.resources import (
    EnvelopeEvent,
    EnvelopeStatus,
    EventNotice,
    NoticeState,
    Organization,
    Phase,
    Sender,
)
from counterfoil.retention import removal_time
from tests.unit.controller.reconcile.phases.test_clean import document, list_files
from tests.unit.controller.reconcile.test_reconciler import Scene

WAIT = timedelta(minutes=10)


class KeptScene(Scene):
    """An archived envelope that is kept, and eSAW may list further files of it."""

    def __init__(self, folder: Path, **spec: Any) -> None:
        super().__init__(folder, **{"cleanup": {"policy": "Keep"}, "evidence": {"wait": "10m"}, **spec})
        self.finder = LateFileFinder(
            self.reconciler.preconditions.list_files, self.status_writer, self.event_recorder, self.clock
        )

    def add_paper(self) -> None:
        self.envelope.contents["legal-1"] = b"%PDF-paper"

    async def look(self) -> EnvelopeEvent:
        """Let the garbage collector read the event."""
        await self.finder.reopen_if_listed(self.newest())
        return self.newest()

    @property
    def manifests(self) -> str:
        return "".join(each.read_text() for each in self.root.rglob("counterfoil.json"))


@pytest.fixture
async def scene(tmp_path: Path) -> KeptScene:
    scene = KeptScene(tmp_path)
    await scene.reconcile()
    return scene


async def test_a_kept_envelope_succeeds_at_once_and_is_listed_again_after_the_wait(scene: KeptScene) -> None:
    ended = scene.newest().status
    assert (ended.phase, ended.reason) == (Phase.SUCCEEDED, "ArchivedAndKept")
    assert ended.next_attempt_time == scene.clock.now() + WAIT
    asked = len(scene.envelope.asked)
    assert (await scene.look()).status == ended
    assert len(scene.envelope.asked) == asked
    scene.clock.advance(minutes=10)
    assert (await scene.look()).status == replace(ended, next_attempt_time=None)
    assert scene.envelope.asked[asked:] == ["envelope", "files"]
    assert scene.cache.sender_of == {}
    await scene.look()
    assert len(scene.envelope.asked) == asked + 2


async def test_a_file_that_is_listed_during_the_wait_is_archived(scene: KeptScene) -> None:
    scene.add_paper()
    scene.clock.advance(minutes=10)
    opened = (await scene.look()).status
    assert (opened.phase, opened.reason) == (Phase.PENDING, "FilesListedLate")
    assert (await scene.reconcile()).status.reason == "FilesChanged"
    after = (await scene.reconcile()).status
    assert (after.phase, after.reason, after.next_attempt_time) == (Phase.SUCCEEDED, "ArchivedAndKept", None)
    assert "legal-1" in scene.manifests
    assert ("Normal", "FilesListedLate") in await scene.recorded()


async def test_an_expired_envelope_is_listed_again_as_well(tmp_path: Path) -> None:
    scene = KeptScene(tmp_path, statuses=["Expired"])
    scene.envelope.status = EnvelopeStatus.EXPIRED
    assert (await scene.reconcile()).status.reason == "ArchivedAsExpired"
    scene.add_paper()
    scene.clock.advance(minutes=10)
    assert (await scene.look()).status.reason == "FilesListedLate"
    assert (await scene.reconcile()).status.reason == "ArchivedAsExpired"
    assert "legal-1" in scene.manifests


async def test_after_the_wait_an_event_ends_for_good(tmp_path: Path) -> None:
    scene = KeptScene(tmp_path, evidence={"wait": "0s"})
    assert (await scene.reconcile()).status.next_attempt_time is None
    asked = len(scene.envelope.asked)
    assert (await scene.look()).status.reason == "ArchivedAndKept"
    assert len(scene.envelope.asked) == asked


async def test_an_envelope_that_a_person_deleted_is_not_listed_for_ever(scene: KeptScene) -> None:
    scene.envelope.deleted = True
    scene.clock.advance(minutes=10)
    after = (await scene.look()).status
    assert (after.phase, after.next_attempt_time) == (Phase.SUCCEEDED, None)


async def test_a_notice_that_is_on_its_way_stays_if_nothing_is_listed_late(scene: KeptScene) -> None:
    notice = EventNotice(id="msg_1", state=NoticeState.DELIVERED, attempts=1)
    ended = scene.newest()
    await scene.status_writer.store(ended, replace(ended.status, notice=notice))
    scene.clock.advance(minutes=10)
    assert (await scene.look()).status.notice == notice


@pytest.mark.parametrize("problem", [EsawUnreachable("connect"), HttpStatusError(503)])
async def test_an_esaw_that_does_not_answer_is_asked_again_after_a_pause(
    scene: KeptScene, problem: Exception
) -> None:
    scene.add_paper()
    scene.envelope.but("files", problem)
    scene.clock.advance(minutes=10)
    await scene.look()
    scene.envelope.problems.clear()
    asked = len(scene.envelope.asked)
    assert (await scene.look()).status.reason == "ArchivedAndKept"
    assert len(scene.envelope.asked) == asked
    scene.clock.advance(seconds=OUTAGE_PAUSE.total_seconds())
    assert (await scene.look()).status.reason == "FilesListedLate"


async def test_one_envelope_that_is_refused_holds_up_no_other(scene: KeptScene) -> None:
    scene.add_paper()
    scene.envelope.but("files", HttpStatusError(403, error_id="ERR0010"))
    scene.clock.advance(minutes=10)
    await scene.look()
    scene.envelope.problems.clear()
    assert (await scene.look()).status.reason == "FilesListedLate"


@pytest.mark.parametrize(("kind", "name"), [(Organization, "acme"), (Sender, "anna")])
async def test_while_a_person_suspends_it_nothing_is_asked(
    scene: KeptScene, kind: type[Any], name: str
) -> None:
    scene.add_paper()
    scene.clock.advance(minutes=10)
    known: Any = scene.cache.store(kind).get(name)

    def suspend(version: int, *, suspended: bool) -> None:
        metadata = replace(known.metadata, resource_version=str(version))
        scene.cache.update(replace(known, metadata=metadata, spec=replace(known.spec, suspend=suspended)))

    suspend(8, suspended=True)
    asked = len(scene.envelope.asked)
    assert (await scene.look()).status.reason == "ArchivedAndKept"
    assert len(scene.envelope.asked) == asked
    suspend(9, suspended=False)
    assert (await scene.look()).status.reason == "FilesListedLate"


async def test_a_clock_that_was_ahead_for_a_moment_postpones_no_list(tmp_path: Path) -> None:
    scene = KeptScene(tmp_path)
    scene.clock.advance(days=30)
    await scene.reconcile()
    scene.clock.advance(days=-29)
    scene.add_paper()
    assert (await scene.look()).status.reason == "FilesListedLate"


async def test_an_event_that_another_client_changes_meanwhile_is_left_alone(scene: KeptScene) -> None:
    scene.add_paper()
    scene.clock.advance(minutes=10)
    changed = partial(
        scene.kube.edit, EnvelopeEvent, scene.event.name, {"status": {"phase": "Pending", "reason": "Other"}}
    )
    scene.envelope.meanwhile["files"] = changed
    assert (await scene.look()).status.reason == "Other"


async def test_an_event_that_may_not_be_changed_ends_no_pass(scene: KeptScene) -> None:
    scene.add_paper()
    scene.clock.advance(minutes=10)
    scene.kube.fail("patch_status", Forbidden(403, "Forbidden", "no"))
    assert (await scene.look()).status.reason == "ArchivedAndKept"


async def test_an_event_is_not_removed_before_its_files_are_listed_again(tmp_path: Path) -> None:
    scene = KeptScene(tmp_path, evidence={"wait": "168h"})
    ended = await scene.reconcile()
    spec = scene.organization.spec
    assert ended.status.completion_time is not None
    assert (
        removal_time(ended, spec) == ended.status.completion_time + timedelta(hours=168) + spec.succeeded_ttl
    )


async def test_slow_lists_of_one_organization_take_a_bounded_time_of_the_pass(scene: KeptScene) -> None:
    listed = await scene.reconciler.preconditions.list_files(scene.newest())
    lists = 0

    async def list_slowly(event: EnvelopeEvent) -> Any:
        nonlocal lists
        lists += 1
        scene.clock.advance(seconds=20)
        return listed

    scene.finder.list_files = list_slowly
    scene.clock.advance(minutes=10)
    due = scene.newest()
    began = scene.clock.monotonic()
    for _ in range(100):
        await scene.finder.reopen_if_listed(due)
    assert lists == 3
    assert scene.clock.monotonic() - began == LISTING_BUDGET
    scene.clock.advance(seconds=OUTAGE_PAUSE.total_seconds())
    await scene.finder.reopen_if_listed(due)
    assert lists == 4


async def test_a_list_that_never_ends_is_given_up(scene: KeptScene, monkeypatch: pytest.MonkeyPatch) -> None:
    lists = 0

    async def hang(event: EnvelopeEvent) -> Any:
        nonlocal lists
        lists += 1
        await asyncio.Event().wait()

    monkeypatch.setattr("controller.retry.late_files.LISTING_TIMEOUT", 0.01)
    scene.finder.list_files = hang
    scene.clock.advance(minutes=10)
    due = scene.newest()
    for _ in range(3):
        assert await scene.finder.reopen_if_listed(due) == due
    assert lists == 1


async def test_an_archived_file_that_is_no_longer_listed_reopens_nothing(tmp_path: Path) -> None:
    scene = KeptScene(tmp_path)
    list_files(scene, document(1, 1), document(2, 2), legal=("legal-1",))
    ended = await scene.reconcile()
    list_files(scene, document(1, 1))
    scene.clock.advance(minutes=10)
    assert (await scene.look()).status == replace(ended.status, next_attempt_time=None)


def content_at(location: str | None) -> bytes:
    return Path(unquote((location or "").removeprefix("file://"))).read_bytes()


async def test_documents_that_are_listed_in_another_order_keep_their_places(tmp_path: Path) -> None:
    scene = KeptScene(tmp_path)
    first, second = (ListedDocument(file_id=each, file_name="contract.pdf") for each in ("file-A", "file-B"))
    list_files(scene, first, second)
    before = {each.file_id: each.location for each in (await scene.reconcile()).status.documents}
    third = ListedDocument(file_id="file-C", file_name="contract.pdf")
    list_files(scene, third, second, first, legal=("legal-1",))
    scene.clock.advance(minutes=10)
    await scene.look()
    await scene.reconcile()
    after = await scene.reconcile()
    assert after.status.reason == "ArchivedAndKept"
    places = {each.file_id: each.location for each in after.status.documents}
    assert {each: places[each] for each in before} == before
    assert len(set(places.values())) == len(places) == 5
    for file_id in ("file-A", "file-B", "file-C"):
        assert content_at(places[file_id]) == f"%PDF-{file_id}".encode()

"""The report of an Import: one part for each window, written once, after any kill."""

import asyncio
import dataclasses
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Mapping,
)
from contextlib import suppress
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
from msgspec.structs import replace

from controller.cache import Cache
from controller.mails.policy import import_observations
from controller.resync.envelope_listing import Window
from controller.resync.import_progress import REPORT_ATTEMPTS, EventTally, Search, search_of, windows_of
from controller.resync.import_report_writer import ImportReportWriter
from controller.resync.import_runner import FAILURE_SECONDS, MAX_ROWS_WITHOUT_ID, POLL_SECONDS
from counterfoil.archives.backend import ChecksumReported, FileNotReturned, too_many_files
from counterfoil.archives.errors import ArchiveRefused, ArchiveUnavailable
from counterfoil.archives.import_report.content import (
    MAX_PART,
    PartHeader,
    ReportOutcome,
    ReportRow,
    RowsOfEvents,
    csv_name,
    read_part,
)
from counterfoil.archives.import_report.storage import check_part
from counterfoil.archives.readback import checksum
from counterfoil.kube.errors import Unavailable
from counterfoil.resources import (
    Archive,
    EnvelopeEvent,
    EnvelopeStatus,
    Import,
    Phase,
    Resource,
    find_condition,
)
from counterfoil.resources.imports import ImportSender, ImportWindow, window_label
from counterfoil.resources.naming import EnvelopeId
from counterfoil.untrusted.fair_slots import FairSlots
from tests.support.builders import ENVELOPE, NOON, an_event, an_organization, ready
from tests.support.fakes.archives import MemoryBackend
from tests.support.fakes.finding_esaw import numbered
from tests.support.fakes.reconcile_context import an_archive
from tests.support.scenes.import_report import HangingBackend, a_row
from tests.support.scenes.imports import NAME, ImportScene, RefusingReports, an_import
from tests.support.scenes.waiting_events import turns
from tests.support.signing_keys import a_signer

SECOND = EnvelopeId("11111111-4b1d-4c58-9a57-6d1f0a3b2c4d")


def report(scene: ImportScene) -> list[tuple[PartHeader, list[ReportRow]]]:
    """Return the parts that the status leads to, the first one first."""
    parts = list[tuple[PartHeader, list[ReportRow]]]()
    last = scene.status_now.report_parts
    location = last.location if last is not None else None
    while location is not None:
        part = read_part(scene.backend.files[location.removeprefix("memory:///")])
        parts.append(part)
        location = part[0].previous.location if part[0].previous is not None else None
    return parts[::-1]


def outcomes(scene: ImportScene) -> dict[str, str]:
    """Return outcome and reason by envelope; each envelope is in one row."""
    rows = [row for _, some in report(scene) for row in some]
    found = {row.envelope_id: f"{row.outcome} {row.reason}".strip() for row in rows}
    assert len(found) == len(rows)
    return found


async def test_each_listed_envelope_is_in_the_report_with_its_end() -> None:
    scene = ImportScene()
    scene.kube.put(an_event().archived().in_phase(Phase.SUCCEEDED, "ArchivedAndKept").build())
    odd = '=cmd|"x"'
    scene.finds("anna", ENVELOPE, SECOND, numbered(1), odd)
    await scene.advance()
    scene.kube.edit(
        EnvelopeEvent, name_of(scene, numbered(1)), {"status": {"phase": "Failed", "reason": "NoFiles"}}
    )
    await scene.complete()
    assert outcomes(scene) == {
        ENVELOPE: "Known ArchivedAndKept",
        SECOND: "Archived",
        numbered(1): "Failed NoFiles",
        odd: "Refused NoEnvelopeID",
    }
    ((header, rows),) = report(scene)
    assert (header.import_, header.uid, header.sender, header.number) == (NAME, "uid-old-stock", "anna", 1)
    assert header.origin == "https://esaw.example.com"
    assert {row.status for row in rows} == {"Completed"}
    assert {(row.sent_from, row.sent_until) for row in rows} == {(header.sent_from, header.sent_until)}
    status = scene.status_now
    assert status.report == "memory:///counterfoil-imports/acme/old-stock-16f49df5"
    assert (status.archived, status.failed, status.known, status.refused) == (1, 1, 1, 1)


def name_of(scene: ImportScene, envelope: str) -> str:
    return next(each.name for each in scene.events() if each.spec.envelope_id == envelope)


async def test_each_part_names_the_statuses_that_were_searched() -> None:
    """Else nobody could compare it with eSignAnyWhere's own list."""
    scene = ImportScene(organization={"statuses": ["Completed", "Expired"]})
    scene.finds("anna", ENVELOPE)
    await scene.complete()
    assert [header.statuses for header, _ in report(scene)] == [("Completed", "Expired")]


async def test_each_window_with_envelopes_has_a_part_that_names_the_one_before() -> None:
    scene = ImportScene("anna", "bert")
    scene.signer = a_signer()
    scene.runner = scene.new_runner()
    scene.finds("anna", ENVELOPE)
    scene.finds("bert", SECOND)
    status = await scene.complete()
    assert status.windows.done == 10
    assert [(header.number, header.sender) for header, _ in report(scene)] == [(1, "anna"), (2, "bert")]
    last = status.report_parts
    assert last is not None
    assert last.number == 2
    name = last.location.removeprefix("memory:///")
    found = await check_part(scene.backend, name, last.sha256, scene.signer.public)
    assert (found.faults, found.is_seal_checked) == ((), True)


async def test_an_event_that_waits_for_its_delete_is_said_as_such() -> None:
    scene = ImportScene()
    scene.finds("anna", ENVELOPE)
    await scene.advance()
    waiting = an_event().archived().in_phase(Phase.CLEANING, "CleanupDelayed").build().to_dict()["status"]
    scene.kube.edit(EnvelopeEvent, name_of(scene, ENVELOPE), {"status": waiting})
    status = await scene.advance()
    assert outcomes(scene) == {ENVELOPE: "Archived DeletePending"}
    assert status.open_windows == ()


async def test_a_dry_run_writes_nothing_into_the_archive() -> None:
    scene = ImportScene(dryRun=True)
    scene.finds("anna", ENVELOPE)
    status = await scene.advance()
    assert (status.found, status.completion_time) == (1, NOON)
    assert (status.report, scene.backend.puts, scene.backend.reads) == (None, [], 0)


async def test_windows_without_envelopes_write_nothing() -> None:
    scene = ImportScene()
    status = await scene.advance()
    assert (status.windows.done, status.completion_time, status.report) == (5, NOON, None)
    assert scene.backend.puts == []


async def test_a_window_of_known_envelopes_alone_has_a_part_at_once() -> None:
    scene = ImportScene()
    scene.kube.put(an_event().archived().in_phase(Phase.SUCCEEDED, "ArchivedAndKept").build())
    scene.finds("anna", ENVELOPE)
    status = await scene.advance()
    assert status.completion_time == NOON
    assert outcomes(scene) == {ENVELOPE: "Known ArchivedAndKept"}


async def test_an_event_that_a_person_deleted_has_vanished_from_the_report() -> None:
    scene = ImportScene()
    scene.finds("anna", ENVELOPE, SECOND)
    await scene.advance()
    del scene.kube.objects[EnvelopeEvent.PLURAL, name_of(scene, SECOND)]
    await scene.complete()
    assert outcomes(scene) == {ENVELOPE: "Archived", SECOND: "Vanished EventMissing"}


class KillingBackend(MemoryBackend):
    """Ends the process before or after its Nth upload."""

    kills_at = 0
    stores_before = False

    async def put(
        self, name: str, chunks: AsyncIterable[bytes], *, tags: Mapping[str, str], content_type: str | None
    ) -> None:
        is_last = len(self.puts) + 1 == self.kills_at
        if is_last and not self.stores_before:
            raise asyncio.CancelledError
        await super().put(name, chunks, tags=tags, content_type=content_type)
        if is_last:
            raise asyncio.CancelledError


@pytest.mark.parametrize("stores_before", [False, True])
@pytest.mark.parametrize("upload", range(1, 9))
async def test_a_kill_at_any_upload_leaves_the_files_of_a_run_without_one(
    upload: int, stores_before: bool
) -> None:
    async def run(backend: KillingBackend) -> ImportScene:
        scene = ImportScene("anna", "bert")
        scene.backend, scene.signer = backend, a_signer()
        scene.runner = scene.new_runner()
        scene.finds("anna", ENVELOPE)
        scene.finds("bert", SECOND)
        for _ in range(3):
            try:
                await scene.complete()
            except asyncio.CancelledError:
                backend.kills_at = 0
                scene.runner = scene.new_runner()
        return scene

    wanted = await run(KillingBackend())
    killing = KillingBackend()
    killing.kills_at, killing.stores_before = upload, stores_before
    scene = await run(killing)
    assert scene.backend.files == wanted.backend.files
    assert len(scene.backend.puts) == len(wanted.backend.files) == 8
    assert scene.status_now == wanted.status_now


@pytest.mark.parametrize("folder", ["", "listed/"])
async def test_what_a_kill_left_of_a_report_is_removed_by_the_next_process(folder: str) -> None:
    leftover = f"counterfoil-imports/acme/old-stock-16f49df5/{folder}.counterfoil-0123456789abcdef.tmp"
    scene = ImportScene()
    scene.finds("anna", ENVELOPE)
    await scene.advance()
    scene.backend.files[leftover] = b"half of a file"
    scene.runner = scene.new_runner()
    await scene.complete()
    assert leftover not in scene.backend.files
    assert outcomes(scene) == {ENVELOPE: "Archived"}


class CrowdedFolder(MemoryBackend):
    """The folder of a report has more files than are looked through; counts how often that was tried."""

    lists = 0

    async def remove_leftovers(self, folder: str) -> None:
        self.lists += 1
        raise too_many_files(folder)


async def test_a_report_of_many_files_is_looked_through_once_and_written() -> None:
    scene = ImportScene("anna", "bert")
    scene.opened = scene.backend = backend = CrowdedFolder()
    scene.finds("anna", ENVELOPE)
    scene.finds("bert", SECOND)
    await scene.complete()
    assert outcomes(scene) == {ENVELOPE: "Archived", SECOND: "Archived"}
    assert backend.lists == 1


@pytest.mark.parametrize("write", range(1, 10))
async def test_a_kill_at_any_write_of_the_status_leaves_the_files_of_a_run_without_one(write: int) -> None:
    scene = ImportScene("anna", "bert")
    scene.finds("anna", ENVELOPE)
    scene.finds("bert", SECOND)
    left = write

    def one_more() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise asyncio.CancelledError
        scene.kube.just_before("patch_status", one_more)

    scene.kube.just_before("patch_status", one_more)
    for _ in range(3):
        try:
            await scene.complete()
        except asyncio.CancelledError:
            scene.runner = scene.new_runner()
    assert outcomes(scene) == {ENVELOPE: "Archived", SECOND: "Archived"}
    assert len(scene.backend.files) == len(scene.backend.puts) == 6


async def test_an_event_that_changed_after_a_kill_is_reported_as_it_is_counted() -> None:
    """The part of before stays in the archive, but no part names it."""
    scene = ImportScene()
    scene.finds("anna", ENVELOPE)
    await scene.advance()
    scene.finish_all(Phase.FAILED)

    def kill() -> None:
        raise asyncio.CancelledError

    scene.kube.just_before("patch_status", kill)
    with pytest.raises(asyncio.CancelledError):
        await scene.advance()
    before = dict(scene.backend.files)
    done = an_event().archived().in_phase(Phase.SUCCEEDED).build().to_dict()["status"]
    scene.kube.edit(EnvelopeEvent, name_of(scene, ENVELOPE), {"status": done})
    scene.runner = scene.new_runner()
    status = await scene.advance()
    assert (status.archived, status.failed) == (1, 0)
    assert outcomes(scene) == {ENVELOPE: "Archived"}
    assert before.items() < scene.backend.files.items()


async def test_an_archive_that_is_down_delays_the_report_and_no_event() -> None:
    scene = ImportScene()
    scene.finds("anna", ENVELOPE)
    await scene.advance()
    scene.backend.problems["put"] = ArchiveUnavailable("ArchiveUnreachable", "Archive/dms: no answer")
    status = await scene.complete()
    assert scene.events()[0].status.phase is Phase.SUCCEEDED
    assert (len(status.open_windows), status.archived, status.report) == (1, 0, None)
    assert scene.condition("Ready") == ("False", "ArchiveUnreachable")
    # The archive has an own condition and mail.
    assert scene.condition("Stalled")[0] == "False"
    scene.backend.problems.clear()
    await scene.advance()
    assert scene.backend.puts[1:] == []
    scene.clock.advance(seconds=FAILURE_SECONDS)
    status = await scene.advance()
    assert (status.open_windows, status.archived, status.completion_time is not None) == ((), 1, True)
    assert outcomes(scene) == {ENVELOPE: "Archived"}


async def test_the_report_continues_at_once_after_a_change_of_the_archive() -> None:
    scene = ImportScene()
    scene.finds("anna", ENVELOPE)
    await scene.advance()
    scene.backend.problems["put"] = ArchiveRefused("ArchiveForbidden", "Archive/dms: no right")
    await scene.complete()
    assert scene.condition("Stalled")[0] == "True"
    scene.backend.problems.clear()
    scene.cache.archives.put(ready(an_archive(version=2, generation=2)))
    assert (await scene.advance()).completion_time is not None


@pytest.mark.parametrize(
    "reason", ["ArchivePermissionDenied", "ArchiveRootMissing", "StoredWrong", "ArchiveFull", "NameOccupied"]
)
async def test_an_archive_that_works_and_refuses_the_report_is_the_problem_of_the_import(reason: str) -> None:
    scene = ImportScene()
    scene.backend = RefusingReports(reason)
    scene.finds("anna", ENVELOPE)
    await scene.advance()
    scene.finish_all()
    scene.clock.advance(hours=1)
    await scene.advance()
    assert scene.condition("Stalled") == ("True", "ImportReportRefused")
    stored = Import.parse(scene.kube.objects[Import.PLURAL, NAME])
    (told,) = import_observations({NAME: stored}, (), scene.clock.now(), timedelta(minutes=10))
    assert (told.reason, told.examples) == ("ImportReportRefused", (NAME,))
    assert (reason in told.message, "403: no right" in told.message) == (True, True)
    scene.backend = MemoryBackend()
    scene.clock.advance(seconds=FAILURE_SECONDS)
    assert (await scene.complete()).completion_time is not None


async def test_an_archive_that_works_and_does_not_take_the_report_for_long_is_the_problem_of_the_import() -> (
    None
):
    scene = ImportScene()
    scene.backend = RefusingReports("ArchiveFailing")
    scene.finds("anna", ENVELOPE)
    await scene.advance()
    assert scene.condition("Stalled")[0] == "False"
    for _ in range(REPORT_ATTEMPTS):
        scene.clock.advance(seconds=FAILURE_SECONDS)
        await scene.advance()
    assert scene.condition("Stalled") == ("True", "ImportReportRefused")


async def test_the_report_waits_while_the_archive_is_not_ready() -> None:
    scene = ImportScene()
    scene.finds("anna", ENVELOPE)
    await scene.advance()
    scene.cache.archives.put(ready(an_archive(version=2), "False"))
    status = await scene.complete()
    assert len(status.open_windows) == 1
    assert scene.backend.puts[1:] == []
    scene.cache.archives.put(ready(an_archive(version=3)))
    assert (await scene.advance()).completion_time is not None


async def test_a_list_that_the_archive_does_not_take_is_stored_later_without_another_search() -> None:
    scene = ImportScene()
    scene.finds("anna", ENVELOPE)
    scene.backend.problems["put"] = ArchiveUnavailable("ArchiveUnreachable", "Archive/dms: no answer")
    status = await scene.advance()
    asked = len(scene.finding.spans)
    assert (status.windows.done, len(scene.events())) == (0, 1)
    assert scene.condition("Ready") == ("False", "ArchiveUnreachable")
    scene.backend.problems.clear()
    scene.clock.advance(seconds=FAILURE_SECONDS)
    status = await scene.complete()
    assert len(scene.finding.spans) == asked + 4
    assert outcomes(scene) == {ENVELOPE: "Archived"}
    assert (status.found, status.known) == (1, 0)


async def test_a_list_that_was_changed_in_the_archive_is_not_believed() -> None:
    scene = ImportScene()
    scene.finds("anna", ENVELOPE, "no-guid")
    await scene.advance()
    (listed,) = scene.backend.files
    scene.backend.files[listed] = scene.backend.files[listed].replace(b"no-guid", b"no-such")
    await scene.complete()
    assert outcomes(scene) == {ENVELOPE: "Archived"}
    ((header, _),) = report(scene)
    assert header.list_ is not None
    assert (header.list_.is_read, header.list_.envelopes) == (False, 2)
    assert scene.status_now.report_parts is not None
    assert scene.status_now.report_parts.lacking == 1
    complete = find_condition(scene.status_now.conditions, "Complete")
    assert complete is not None
    assert "The report lacks 1 of these envelopes" in complete.message


async def test_an_envelope_that_two_senders_list_can_be_in_the_part_of_each() -> None:
    scene = ImportScene("anna", "bert")
    scene.kube.put(an_event().archived().in_phase(Phase.SUCCEEDED, "ArchivedAndKept").build())
    scene.finds("anna", ENVELOPE, SECOND)
    scene.finds("bert", ENVELOPE, SECOND)
    await scene.complete()
    rows = [(header.sender, row.envelope_id, row.outcome) for header, some in report(scene) for row in some]
    assert sorted(rows) == [
        ("anna", ENVELOPE, "Known"),
        ("anna", SECOND, "Archived"),
        ("bert", ENVELOPE, "Known"),
    ]


async def test_the_listed_ids_that_are_no_guid_have_a_bounded_number_of_rows() -> None:
    scene = ImportScene()
    scene.finds("anna", ENVELOPE, *(f"no-guid-{number:05}" for number in range(3000)))
    status = await scene.complete()
    ((header, rows),) = report(scene)
    assert (len(rows), status.refused) == (1 + MAX_ROWS_WITHOUT_ID, 3000)
    assert header.list_ is not None
    assert header.list_.unnamed == 3000 - MAX_ROWS_WITHOUT_ID


async def test_an_interrupted_window_names_the_same_number_of_ids_that_are_no_guid() -> None:
    scene = ImportScene()
    scene.finds("anna", *(f"no-guid-{number:05}" for number in range(3000)), ENVELOPE)
    scene.kube.fail("create", Unavailable(503, "Down", "down"))
    with suppress(Unavailable):
        await scene.advance()
    await scene.complete()
    ((header, rows),) = report(scene)
    assert header.list_ is not None
    assert (len(rows), header.list_.unnamed) == (1 + MAX_ROWS_WITHOUT_ID, 3000 - MAX_ROWS_WITHOUT_ID)


async def test_the_number_of_envelopes_that_the_report_lacks_is_of_all_parts() -> None:
    scene = ImportScene("anna", "bert")
    scene.backend = ForgettingBackend()
    scene.runner = scene.new_runner()
    scene.finds("anna", ENVELOPE, "no-guid", "no-other")
    scene.finds("bert", SECOND, "no-third")
    status = await scene.complete()
    assert status.report_parts is not None
    assert (status.report_parts.number, status.report_parts.lacking, status.refused) == (2, 3, 3)


async def test_an_archive_that_returns_no_file_has_a_report_of_the_events() -> None:
    scene = ImportScene()
    scene.backend = ForgettingBackend()
    scene.runner = scene.new_runner()
    scene.finds("anna", ENVELOPE, "no-guid")
    status = await scene.complete()
    assert status.completion_time is not None
    (_, part) = [each for each in scene.backend.files.items() if each[0].endswith(".jsonl")]
    assert [row.envelope_id for row in read_part(part[1])[1]] == [ENVELOPE]


class ForgettingBackend(MemoryBackend):
    """Says the checksum of what it was sent, and returns no file."""

    lists_files = False

    async def read(self, name: str) -> AsyncGenerator[bytes, None]:
        if name not in self.files:
            raise FileNotReturned
        raise ChecksumReported(*checksum(self.files[name]))
        yield b""  # type: ignore[unreachable]  # makes this method a generator


async def test_a_file_of_another_program_under_the_name_of_a_part_stops_the_report_until_it_is_moved() -> (
    None
):
    twin = ImportScene()
    twin.finds("anna", ENVELOPE)
    await twin.complete()
    assert twin.status_now.report_parts is not None
    name = twin.status_now.report_parts.location.removeprefix("memory:///")

    scene = ImportScene()
    scene.finds("anna", ENVELOPE)
    scene.backend.files[name] = b"theirs"
    status = await scene.complete()
    assert (scene.backend.files[name], len(status.open_windows)) == (b"theirs", 1)
    assert scene.condition("Stalled") == ("True", "ImportReportRefused")
    del scene.backend.files[name]
    scene.clock.advance(seconds=FAILURE_SECONDS)
    assert (await scene.advance()).completion_time is not None
    assert scene.backend.files == twin.backend.files
    assert csv_name(name) in scene.backend.files


async def test_two_controllers_that_count_a_window_write_it_once() -> None:
    scene = ImportScene()
    scene.finds("anna", ENVELOPE)
    await scene.advance()
    scene.finish_all()
    other = scene.new_runner()
    await asyncio.gather(scene.runner.advance(NAME), other.advance(NAME), return_exceptions=True)
    status = await scene.advance()
    assert (status.archived, status.completion_time is not None) == (1, True)
    assert len(scene.backend.files) == 3
    assert outcomes(scene) == {ENVELOPE: "Archived"}


async def test_a_window_without_a_list_in_the_status_has_a_part_of_its_events() -> None:
    """As one that a version without reports searched."""
    scene = ImportScene()
    scene.finds("anna", ENVELOPE)
    (window,) = (await scene.advance()).open_windows
    scene.kube.edit(Import, NAME, {"status": {"openWindows": [{"id": window.id, "events": 1}]}})
    await scene.complete()
    ((header, rows),) = report(scene)
    assert header.list_ is None
    assert [(row.envelope_id, row.outcome) for row in rows] == [(ENVELOPE, ReportOutcome.ARCHIVED)]


async def test_what_esaw_does_not_list_any_more_after_an_interruption_is_in_the_report() -> None:
    scene = ImportScene(maxUnfinished=1)
    scene.finds("anna", ENVELOPE, SECOND)
    scene.kube.just_before("create", lambda: scene.kube.edit(Import, NAME, {"spec": {"suspend": True}}))
    await scene.advance()
    scene.finish_all()
    scene.finds("anna", SECOND, status=EnvelopeStatus.COMPLETED)
    scene.kube.edit(Import, NAME, {"spec": {"suspend": False, "maxUnfinished": 5}})
    await scene.complete()
    assert outcomes(scene) == {ENVELOPE: "Archived", SECOND: "Archived"}


MANY = [numbered(each) for each in range(12)]


def a_scene_with_small_parts(backend: MemoryBackend | None = None) -> ImportScene:
    """An Import whose window has more envelopes than a part."""
    scene = ImportScene()
    scene.backend, scene.signer, scene.part_size = backend or MemoryBackend(), a_signer(), 1500
    scene.runner = scene.new_runner()
    scene.kube.put(an_event().archived().in_phase(Phase.SUCCEEDED, "ArchivedAndKept").build())
    scene.finds("anna", *MANY, ENVELOPE)
    return scene


async def test_a_window_with_more_than_a_part_has_several_in_a_row() -> None:
    scene = a_scene_with_small_parts()
    status = await scene.complete()
    assert outcomes(scene) == {**dict.fromkeys(MANY, "Archived"), ENVELOPE: "Known ArchivedAndKept"}
    parts = report(scene)
    assert len(parts) > 4
    assert [header.number for header, _ in parts] == list(range(1, len(parts) + 1))
    assert len({(header.sent_from, header.list_) for header, _ in parts}) == 1
    assert [header.is_continued for header, _ in parts] == [True] * (len(parts) - 1) + [False]
    before = 0
    for header, rows in parts:
        assert (header.before, sum(header.counts.values())) == (before, len(rows))
        before += len(rows)
    written = [row.envelope_id for _, rows in parts for row in rows]
    assert written == sorted(written)
    assert (status.archived, status.known, status.completion_time) == (12, 1, scene.clock.now())


@pytest.mark.parametrize("upload", range(1, 20, 3))
async def test_a_kill_between_the_parts_of_a_window_leaves_the_files_of_a_run_without_one(
    upload: int,
) -> None:
    wanted = a_scene_with_small_parts()
    await wanted.complete()
    killing = KillingBackend()
    killing.kills_at, killing.stores_before = upload, True
    scene = a_scene_with_small_parts(killing)
    for _ in range(3):
        try:
            await scene.complete()
        except asyncio.CancelledError:
            killing.kills_at = 0
            scene.runner = scene.new_runner()
    assert scene.backend.files == wanted.backend.files
    assert len(scene.backend.puts) == len(wanted.backend.files)
    assert scene.status_now == wanted.status_now


async def test_the_last_part_of_a_window_without_its_list_has_the_number_of_lacking_envelopes() -> None:
    scene = a_scene_with_small_parts()
    await scene.advance()
    (listed,) = (name for name in scene.backend.files if "/listed/" in name)
    del scene.backend.files[listed]
    scene.finish_all()
    status = await scene.advance()
    assert [header.lacking for header, _ in report(scene)][-1] == 1
    assert sum(header.lacking for header, _ in report(scene)) == 1
    assert status.report_parts is not None
    assert status.report_parts.lacking == 1


def end(scene: ImportScene, phase: Phase, *envelopes: str) -> None:
    """Let the events of these envelopes end, or start again, in this phase."""
    status: dict[str, Any] = {"phase": phase.value, "reason": "NoFiles"}
    if phase in (Phase.SUCCEEDED, Phase.CLEANING):
        status = an_event().archived("a.pdf").in_phase(phase, "ArchivedAndKept").build().to_dict()["status"]
    for each in envelopes:
        scene.kube.edit(EnvelopeEvent, name_of(scene, each), {"status": status})


@pytest.mark.parametrize("ended", [Phase.FAILED, Phase.SKIPPED])
@pytest.mark.parametrize("restarted", [Phase.PENDING, Phase.ARCHIVING, Phase.AWAITING_CONSENT])
async def test_an_event_that_starts_again_while_its_report_waits_is_counted_when_it_has_ended(
    ended: Phase, restarted: Phase
) -> None:
    scene = ImportScene()
    scene.finds("anna", ENVELOPE, SECOND)
    await scene.advance()
    end(scene, ended, ENVELOPE, SECOND)
    writer, opened = scene.runner.report_writer, list[str]()

    async def restarting(archive: Archive) -> MemoryBackend:
        opened.append(archive.name)
        end(scene, restarted, SECOND)
        return scene.backend

    scene.runner.report_writer = dataclasses.replace(writer, open_archive=restarting)
    status = await scene.advance()
    assert (len(status.open_windows), status.failed, status.skipped) == (1, 0, 0)
    assert (status.report_parts, status.completion_time) == (None, None)
    assert not [name for name in scene.backend.files if "/part-" in name]
    # It asks no archive while the event runs.
    await scene.advance()
    assert opened == ["dms", "dms"]

    scene.runner.report_writer = writer
    end(scene, Phase.SUCCEEDED, SECOND)
    status = await scene.advance()
    assert outcomes(scene) == {ENVELOPE: f"{ended} NoFiles", SECOND: "Archived ArchivedAndKept"}
    assert (status.archived, status.failed + status.skipped) == (1, 1)
    assert status.completion_time is not None


async def test_a_window_whose_event_is_archived_again_before_its_delete_is_read_less_and_less_often() -> None:
    """Its phase does not tell that it is not archived, and all events of a window may be 50,000."""
    scene = ImportScene()
    scene.finds("anna", ENVELOPE)
    await scene.advance()
    sent_back = {"phase": "Cleaning", "reason": "ManifestChanged", "conditions": []}
    scene.kube.edit(EnvelopeEvent, name_of(scene, ENVELOPE), {"status": sent_back})
    begun, times = scene.clock.monotonic(), list[float]()
    listed = scene.kube.list_readable

    def counted(kind: type[Resource], **rest: Any) -> AsyncIterator[Any]:
        times.append(scene.clock.monotonic() - begun)
        return listed(kind, **rest)

    with patch.object(scene.kube, "list_readable", counted):
        for _ in range(60):
            status = await scene.advance()
            scene.clock.advance(seconds=POLL_SECONDS)
    assert times == [0, 60, 180, 420]
    assert (status.archived, len(status.open_windows)) == (0, 1)
    end(scene, Phase.CLEANING, ENVELOPE)
    scene.clock.advance(seconds=300)
    status = await scene.advance()
    assert (status.archived, status.open_windows) == (1, ())


class ChangingBackend(MemoryBackend):
    """Calls something when the first part of a report is stored."""

    def __init__(self) -> None:
        super().__init__()
        self.happens: Callable[[], None] | None = None

    async def put(
        self, name: str, chunks: AsyncIterable[bytes], *, tags: Mapping[str, str], content_type: str | None
    ) -> None:
        await super().put(name, chunks, tags=tags, content_type=content_type)
        if "/part-" in name and name.endswith(".sig") and self.happens is not None:
            happens, self.happens = self.happens, None
            happens()


@pytest.mark.parametrize("changed", [MANY[0], MANY[-1]], ids=["of the stored part", "of a later part"])
@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.SUCCEEDED, Phase.SKIPPED])
async def test_parts_of_a_window_are_made_again_if_an_event_starts_again_between_them(
    phase: Phase, changed: str
) -> None:
    """The count of the window and all of its parts are about the same ends."""
    backend = ChangingBackend()
    scene = a_scene_with_small_parts(backend)
    await scene.advance()
    end(scene, Phase.FAILED, *MANY)
    backend.happens = lambda: end(scene, phase, changed)
    status = await scene.advance()
    if phase is Phase.PENDING:
        assert (len(status.open_windows), status.report_parts, status.failed) == (1, None, 0)
        # The first one is stored, and no part names it.
        assert len([name for name in backend.files if name.endswith(".sig")]) == 1
        end(scene, Phase.SUCCEEDED, changed)
    scene.clock.advance(seconds=FAILURE_SECONDS)
    status = await scene.advance()
    wanted = "Skipped NoFiles" if phase is Phase.SKIPPED else "Archived ArchivedAndKept"
    ends: dict[str, str] = dict.fromkeys(MANY, "Failed NoFiles")
    assert outcomes(scene) == ends | {changed: wanted, ENVELOPE: "Known ArchivedAndKept"}
    assert [header.number for header, _ in report(scene)] == list(range(1, len(report(scene)) + 1))
    assert (status.failed, status.archived + status.skipped, status.open_windows) == (11, 1, ())


async def test_a_delete_between_the_parts_of_a_window_does_not_make_them_again() -> None:
    """The deletes of a large window can take as long as its parts."""
    backend = ChangingBackend()
    scene = a_scene_with_small_parts(backend)
    await scene.advance()
    end(scene, Phase.CLEANING, *MANY)
    backend.happens = lambda: end(scene, Phase.SUCCEEDED, *MANY)
    status = await scene.advance()
    assert (status.archived, status.completion_time is not None) == (12, True)
    assert len([name for name in backend.files if name.endswith(".sig")]) == len(report(scene))


class WriterScene:
    """A writer of the reports of Organizations; ``archives`` has the archive of each."""

    def __init__(self, hold_seconds: float = 300, part_size: int = MAX_PART, **archives: str) -> None:
        self.waiting = list[str]()
        self.backends = {each: HangingBackend(each, self.waiting) for each in archives.values()}
        cache = Cache()
        for name, archive in archives.items():
            cache.organizations.put(an_organization(name, archiveRef={"name": archive}))
            cache.archives.put(ready(an_archive(archive)))
        self.writer = ImportReportWriter(
            cache, "tests", self.open, None, part_size, hold_seconds=hold_seconds
        )

    async def open(self, archive: Archive) -> HangingBackend:
        return self.backends[archive.name]

    async def list_of(self, organization: str, memory: FairSlots | None = None) -> None:
        """Store the list of a window."""
        imported = an_import(organizationRef={"name": organization})
        search = Search("anna", 0, Window(NOON, NOON), "window")
        await self.writer.with_list(imported, search, [a_row()], 0, memory)

    async def part_of(
        self, organization: str, read_events: Callable[[RowsOfEvents], Awaitable[EventTally]] | None = None
    ) -> None:
        """Store the part of a window, by default one without envelopes."""
        imported = with_a_sender(an_import(organizationRef={"name": organization}))
        label = window_label(imported.uid, "anna", 0, windows_of(imported)[0].end)
        await self.writer.with_parts(imported, ImportWindow(id=label, events=0), read_events or no_events)

    def replace_archive(self, name: str, **spec: Any) -> None:
        """Change the spec of an Archive."""
        self.writer.cache.archives.put(ready(an_archive(name, version=2, generation=2, **spec)))


def with_a_sender(imported: Import) -> Import:
    senders = (ImportSender(name="anna"),)
    return replace(imported, status=replace(imported.status, senders=senders))


async def no_events(_: RowsOfEvents) -> EventTally:
    return EventTally()


async def read_slowly(_: RowsOfEvents) -> EventTally:
    await asyncio.Event().wait()
    return EventTally()


async def test_two_archives_take_files_of_reports_at_the_same_time_and_each_of_them_one() -> None:
    """So memory does not grow with the number of Imports, and a slow archive does not stop all others."""
    scene = WriterScene(acme="dms", other="other", third="third")
    async with asyncio.TaskGroup() as tasks:
        for organization in ("acme", "acme", "other", "third", "acme"):
            tasks.create_task(scene.list_of(organization))
        await turns()
        assert sorted(scene.waiting) == ["acme", "other"]
        scene.backends["other"].answers.set()
        await turns()
        assert sorted(scene.waiting) == ["acme", "other", "third"]
        for backend in scene.backends.values():
            backend.answers.set()


async def test_two_organizations_with_one_slow_archive_delay_no_report_of_a_third_one() -> None:
    scene = WriterScene(acme="slow", other="slow", third="fast")
    scene.backends["fast"].answers.set()
    async with asyncio.TaskGroup() as tasks:
        slow = [tasks.create_task(scene.list_of(each)) for each in ("acme", "other")]
        await turns()
        async with asyncio.timeout(5):
            await scene.list_of("third")
        assert not any(each.done() for each in slow)
        scene.backends["slow"].answers.set()


async def test_two_slow_archives_delay_the_report_of_a_third_one_for_a_bounded_time() -> None:
    scene = WriterScene(hold_seconds=0.05, acme="slow", other="slower", third="fast")
    scene.backends["fast"].answers.set()
    slow = [asyncio.create_task(scene.list_of(each)) for each in ("acme", "other")]
    await turns()
    async with asyncio.timeout(5):
        await scene.list_of("third")
    for backend in scene.backends.values():
        backend.answers.set()
    found = await asyncio.gather(*slow, return_exceptions=True)
    ended = [each for each in found if each is not None]
    assert {isinstance(each, ArchiveUnavailable) and each.reason for each in ended} == {"ArchiveUnresponsive"}


async def test_a_slow_archive_that_nobody_waits_for_has_its_report() -> None:
    scene = WriterScene(hold_seconds=0.01, acme="slow")
    slow = asyncio.create_task(scene.list_of("acme"))
    await asyncio.sleep(0.05)
    scene.backends["slow"].answers.set()
    async with asyncio.timeout(5):
        await slow


async def test_events_that_are_read_slowly_delay_the_report_of_another_archive_for_a_bounded_time() -> None:
    scene = WriterScene(hold_seconds=0.05, acme="dms", other="other", third="fast")
    scene.backends["fast"].answers.set()
    slow = [asyncio.create_task(scene.part_of(each, read_slowly)) for each in ("acme", "other")]
    await turns()
    async with asyncio.timeout(5):
        await scene.list_of("third")
    for each in slow:
        each.cancel()
    found = await asyncio.gather(*slow, return_exceptions=True)
    given_up = [each for each in found if isinstance(each, ArchiveUnavailable)]
    assert {each.reason for each in given_up} == {"ArchiveUnresponsive"}
    assert all("the events of the window" in str(each) for each in given_up)


async def test_another_archive_has_its_turn_between_the_parts_of_a_window() -> None:
    """The list is read for each part: the rows of one part are in memory at a time."""
    scene = WriterScene(part_size=600, acme="dms", other="other", third="third")
    imported = with_a_sender(an_import(organizationRef={"name": "acme"}))
    label = window_label(imported.uid, "anna", 0, windows_of(imported)[0].end)
    search = search_of(imported, label)
    assert search is not None
    dms = scene.backends["dms"]
    dms.answers.set()
    rows = [a_row(numbered(each), outcome=ReportOutcome.KNOWN) for each in range(6)]
    listed = await scene.writer.with_list(imported, search, rows, 0, None)
    dms.answers.clear()
    scene.waiting.clear()

    window = ImportWindow(id=label, events=0, list_=listed)
    async with asyncio.TaskGroup() as tasks:
        parts = tasks.create_task(scene.writer.with_parts(imported, window, no_events))
        await turns()
        for organization in ("other", "third"):
            tasks.create_task(scene.list_of(organization))
        await turns()
        assert scene.waiting == ["acme", "other"]
        dms.answers.set()
        await turns()
        assert scene.waiting == ["acme", "other", "acme", "third"]
        assert not parts.done()
        for backend in scene.backends.values():
            backend.answers.set()
    status, _ = parts.result()
    assert status.report_parts is not None
    assert status.report_parts.number > 1


@pytest.mark.parametrize("file", [WriterScene.list_of, WriterScene.part_of])
async def test_an_archive_that_is_suspended_while_a_file_waits_for_its_turn_does_not_get_it(
    file: Callable[[WriterScene, str], Coroutine[None, None, None]],
) -> None:
    """Also before the condition of the Archive says it."""
    scene = WriterScene(acme="dms", other="dms")
    first = asyncio.create_task(scene.list_of("acme"))
    await turns()
    second = asyncio.create_task(file(scene, "other"))
    await turns()
    scene.replace_archive("dms", suspend=True)
    scene.backends["dms"].answers.set()
    await first
    with pytest.raises(ArchiveUnavailable, match=r"spec.suspend of Archive/dms is true") as refused:
        await second
    assert (refused.value.reason, scene.waiting) == ("ArchiveSuspended", ["acme"])


@pytest.mark.parametrize("file", [WriterScene.list_of, WriterScene.part_of])
async def test_an_archive_that_is_replaced_while_a_file_waits_for_its_turn_does_not_get_it(
    file: Callable[[WriterScene, str], Coroutine[None, None, None]],
) -> None:
    scene = WriterScene(acme="dms", other="dms", third="new")
    first = asyncio.create_task(scene.list_of("acme"))
    await turns()
    second = asyncio.create_task(file(scene, "other"))
    await turns()
    scene.writer.cache.organizations.put(
        an_organization("other", version=2, generation=2, archiveRef={"name": "new"})
    )
    for backend in scene.backends.values():
        backend.answers.set()
    await asyncio.gather(first, second)
    assert all(name.startswith("counterfoil-imports/acme/") for name in scene.backends["dms"].files)
    assert all(name.startswith("counterfoil-imports/other/") for name in scene.backends["new"].files)
    assert scene.backends["new"].files


async def test_a_replaced_archive_has_its_own_turn() -> None:
    scene = WriterScene(acme="dms", other="dms", third="new")
    third = asyncio.create_task(scene.list_of("third"))
    first = asyncio.create_task(scene.list_of("acme"))
    await turns()
    second = asyncio.create_task(scene.list_of("other"))
    await turns()
    scene.writer.cache.organizations.put(
        an_organization("other", version=2, generation=2, archiveRef={"name": "new"})
    )
    scene.backends["dms"].answers.set()
    await first
    await turns()
    assert scene.waiting == ["third", "acme"]
    scene.backends["new"].answers.set()
    await asyncio.gather(second, third)
    assert scene.waiting == ["third", "acme", "other"]


async def test_a_suspension_during_the_turn_of_a_report_is_no_problem_of_the_import_afterwards() -> None:
    scene = ImportScene()
    scene.finds("anna", ENVELOPE)
    stalled = list[tuple[str, str]]()

    async def opened(archive: Archive) -> MemoryBackend:
        stalled.append(scene.condition("Stalled"))
        if len(stalled) == 1:
            scene.cache.archives.put(ready(an_archive(version=2, generation=2, suspend=True)))
        return scene.backend

    scene.runner.report_writer = dataclasses.replace(scene.runner.report_writer, open_archive=opened)
    await scene.advance()
    assert (scene.condition("Ready"), scene.backend.puts) == (("False", "ArchiveSuspended"), [])
    scene.cache.archives.put(ready(an_archive(version=3, generation=3)))
    await scene.advance()
    assert {truth for truth, _ in stalled} == {"False"}
    assert len(scene.backend.puts) == 1


class Crowded:
    """The slot of a list, and somebody who waits for it."""

    def __init__(self) -> None:
        self.slots = FairSlots(1)
        assert self.slots.take("acme")
        self.waiting = asyncio.create_task(self.slots.wait("other"))

    def end(self) -> None:
        self.waiting.cancel()


async def test_a_list_that_is_written_too_slowly_leaves_its_memory_to_others() -> None:
    scene, crowded = WriterScene(hold_seconds=0.02, acme="slow"), Crowded()
    async with asyncio.timeout(5):
        with pytest.raises(ArchiveUnavailable, match=r"was written or read too slowly") as refused:
            await scene.list_of("acme", crowded.slots)
    assert refused.value.reason == "ArchiveUnresponsive"
    crowded.end()


async def test_a_list_that_waits_for_a_slow_server_leaves_its_memory_to_others() -> None:
    scene, crowded = WriterScene(hold_seconds=0.02, acme="slow", third="slow"), Crowded()
    slow = asyncio.create_task(scene.list_of("third"))
    await turns()
    async with asyncio.timeout(5):
        with pytest.raises(
            ArchiveUnavailable, match=r"https://slow.example took a file of another report too slowly"
        ):
            await scene.list_of("acme", crowded.slots)
    crowded.end()
    scene.backends["slow"].answers.set()
    await slow

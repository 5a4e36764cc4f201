"""One run over one event: which writes it makes, in which order, and what people see of it."""

import asyncio
import dataclasses
import json
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from msgspec import structs

from controller.cache import version_number
from controller.file_list_ceiling import CEILING_PAUSE
from controller.outgoing_webhook.policy import notice_id
from controller.reopening.fix_rules import find_fix
from controller.requests.event_requests import EventRequests
from controller.sharding import LeaseLost
from counterfoil.esaw import EsawUnreachable, FilesResponse, HttpStatusError
from counterfoil.esaw.models import AuditTrail, ListedFile
from counterfoil.kube.errors import ApiError, Forbidden, Rejected, TooLarge, Unavailable, api_error
from counterfoil.kube.status import Superseded
from counterfoil.resources import (
    REQUEST_LABEL,
    SENDER_LABEL,
    Envelope,
    EnvelopeEvent,
    EnvelopeStatus,
    EventNotice,
    NoticeState,
    Phase,
    find_condition,
    is_condition_true,
)
from counterfoil.resources.reopening import reopened_status
from counterfoil.resources.request import Request
from counterfoil.signatures.results import Signatures, State
from tests.support.builders import (
    ENVELOPE,
    WEBHOOK,
    a_sender,
    an_event,
    an_organization,
    known_to_work,
)
from tests.support.fakes.leases import held_shards
from tests.support.fakes.reconcile_context import (
    FakeEsawUserClient,
    a_probed_archive,
    an_archive,
)
from tests.support.scenes.reconciler import EsawOfOne, ReconcilerScene


@pytest.fixture
def scene(tmp_path: Path) -> ReconcilerScene:
    return ReconcilerScene(tmp_path)


def truth(event: EnvelopeEvent, type_: str) -> tuple[str, str]:
    found = find_condition(event.status.conditions, type_)
    assert found is not None
    return found.status, found.reason


async def test_the_happy_path_takes_three_writes_and_nothing_is_reported_twice(
    scene: ReconcilerScene,
) -> None:
    after = await scene.reconcile()
    assert (after.status.phase, after.status.reason) == (Phase.SUCCEEDED, "ArchivedAndDeleted")
    assert [changes["phase"] for _, changes in scene.kube.patches] == [
        "Archiving",
        "Cleaning",
        "Succeeded",
    ]
    assert [verb for verb, _ in scene.kube.asked if verb == "patch"] == []
    for each in ("Validated", "Authorized", "Collected", "Archived", "Cleaned", "Ready"):
        assert is_condition_true(after.status.conditions, each)
    assert scene.envelope.transport.deleted == [ENVELOPE]
    assert await scene.recorded() == []


@pytest.mark.parametrize("noted", ["", "ben"])
async def test_an_event_whose_sender_is_determined_moves_to_the_queue_of_its_sender(
    tmp_path: Path, noted: str
) -> None:
    """Else all events of senders who consented would share the room of one, and wait for each other."""
    scene = ReconcilerScene(tmp_path, an_event(), noted=noted)
    once = await scene.reconcile()
    assert once.metadata.labels[SENDER_LABEL] == "anna"
    assert once.status.phase is Phase.PENDING
    assert scene.envelope.asked == []
    assert (await scene.reconcile()).status.phase is Phase.SUCCEEDED


def deliver_again(scene: ReconcilerScene) -> None:
    """Count a callback as the receiver does while the event is unfinished."""
    known = scene.newest().deliveries
    scene.kube.edit(EnvelopeEvent, scene.event.name, {"status": {"deliveries": known + 1}})


def restart_the_envelope(scene: ReconcilerScene) -> None:
    scene.envelope.status = EnvelopeStatus.COMPLETED


async def test_a_callback_between_the_answer_of_esaw_and_the_end_of_the_event_reopens_it(
    scene: ReconcilerScene,
) -> None:
    scene.envelope.status = EnvelopeStatus.REJECTED
    scene.kube.just_before("patch_status", partial(deliver_again, scene))
    opened = (await scene.reconcile()).status
    assert (opened.phase, opened.reason, opened.deliveries) == (Phase.PENDING, "Redelivered", 2)
    assert (opened.completion_time, opened.notice) == (None, None)
    restart_the_envelope(scene)
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"


async def test_a_callback_early_in_a_run_reopens_an_event_that_the_run_fails_later(
    scene: ReconcilerScene,
) -> None:
    scene.envelope.meanwhile["files"] = partial(deliver_again, scene)
    scene.envelope.but("download trail-1", HttpStatusError(403, error_id="ERR0010"))
    opened = (await scene.reconcile()).status
    assert (opened.phase, opened.reason) == (Phase.PENDING, "Redelivered")
    failed = (await scene.reconcile()).status
    assert (failed.phase, failed.reason) == (Phase.FAILED, "NotPermitted"), "once for each callback"


async def test_that_everything_is_archived_is_stored_before_the_envelope_is_deleted(
    scene: ReconcilerScene,
) -> None:
    stored: list[bool] = []
    scene.envelope.transport.just_before = lambda: stored.append(
        is_condition_true(scene.newest().status.conditions, "Archived")
    )
    await scene.reconcile()
    assert stored == [True]


async def test_the_names_are_claimed_before_anything_is_written(scene: ReconcilerScene) -> None:
    stored: list[int] = []
    scene.kube.just_before("patch_status", lambda: stored.append(len(list((scene.root / "acme").rglob("*")))))
    after = await scene.reconcile()
    assert stored == [0]
    assert all(each.location for each in after.status.documents)


async def test_a_new_envelope_costs_the_archive_three_lists_and_three_operations_per_file(
    scene: ReconcilerScene,
) -> None:
    """Two files, the hashes and the manifest are each written and read back. Each of these names and that of
    the seal is asked for once while it is absent. The marker of the root is read before the first request,
    before the names are claimed, after the manifest is written and before the delete. The folder is listed
    before the names are claimed, before the manifest and after that marker."""
    assert (await scene.reconcile()).status.phase is Phase.SUCCEEDED
    operations = ("entries", "put", "read", "discard")
    counts = [
        scene.metric("archive_seconds_count", archive="dms", operation=operation) for operation in operations
    ]
    assert counts == [3, 4, 5 + 4 + 4, None]


async def test_the_notice_is_in_the_final_write_and_costs_none(tmp_path: Path) -> None:
    scene = ReconcilerScene(tmp_path, webhook=WEBHOOK)
    after = await scene.reconcile()
    assert after.status.phase is Phase.SUCCEEDED
    assert len(scene.kube.patches) == 3
    assert ["notice" in changes for _, changes in scene.kube.patches] == [False, False, True]
    assert after.status.notice == EventNotice(id=notice_id(after, after.status), state=NoticeState.PENDING)


async def test_a_failed_event_has_a_notice_and_a_waiting_one_has_none(tmp_path: Path) -> None:
    scene = ReconcilerScene(tmp_path, webhook=WEBHOOK, retry={"initial": "1s", "max": "1s", "deadline": "1m"})
    scene.envelope.but("envelope", EsawUnreachable("connect"))
    waiting = await scene.reconcile()
    assert (waiting.status.phase, waiting.status.notice) == (Phase.VALIDATING, None)
    scene.clock.advance(minutes=2)
    failed = await scene.reconcile()
    assert failed.status.phase is Phase.FAILED
    assert failed.status.notice is not None


async def test_an_event_that_is_only_recorded_takes_one_write(tmp_path: Path) -> None:
    scene = ReconcilerScene(tmp_path, actions=[{"action": "envelopeFinished", "handling": "Record"}])
    after = await scene.reconcile()
    assert (after.status.phase, after.status.reason) == (Phase.SUCCEEDED, "Recorded")
    assert len(scene.kube.patches) == 1
    assert scene.envelope.asked == []


async def test_a_run_that_begins_in_the_middle_continues_from_there(tmp_path: Path) -> None:
    scene = ReconcilerScene(tmp_path)
    scene.envelope.but("delete", EsawUnreachable("connect"))
    assert (await scene.reconcile()).status.phase is Phase.CLEANING
    scene.envelope.problems.clear()
    scene.envelope.asked.clear()
    after = await scene.reconcile()
    assert after.status.phase is Phase.SUCCEEDED
    assert scene.envelope.asked == ["envelope", "files", "delete", "envelope"]


@pytest.mark.parametrize(
    ("operation", "phase", "type_", "reason"),
    [
        ("envelope", Phase.VALIDATING, "Validated", "EsawFailing"),
        ("files", Phase.COLLECTING, "Collected", "EsawFailing"),
        ("download file-1", Phase.ARCHIVING, "Archived", "EsawFailing"),
        ("delete", Phase.CLEANING, "Cleaned", "DeleteUnanswered"),
    ],
)
async def test_an_attempt_that_fails_says_where_why_and_when_again(
    scene: ReconcilerScene, operation: str, phase: Phase, type_: str, reason: str
) -> None:
    scene.envelope.but(operation, HttpStatusError(503))
    after = await scene.reconcile()
    status = after.status
    assert (status.phase, status.reason) == (phase, reason)
    assert (status.message or "").endswith("eSAW answered 503.")
    assert status.attempts == 1
    assert status.next_attempt_time is not None
    assert status.next_attempt_time > scene.clock.now()
    assert truth(after, "Ready") == ("False", reason)
    assert not is_condition_true(status.conditions, type_)
    assert await scene.recorded() == [("Warning", reason)]
    assert scene.metric("attempts_total", phase=phase, outcome="wait", reason=reason) == 1


async def test_the_failure_after_equal_attempts_is_reported_in_other_words(scene: ReconcilerScene) -> None:
    missing = HttpStatusError(404, "ERR0007")
    scene.envelope.but("envelope", missing).but("history", missing)
    failed = await scene.reconcile(times=3)
    assert (failed.status.phase, failed.status.reason) == (Phase.FAILED, "EnvelopeNotFound")
    assert await scene.recorded() == [("Warning", "EnvelopeNotFound")] * 2
    first, last = (each["note"] for each in scene.kube.announced)
    assert first == failed.status.message
    assert last == f"The event failed. {failed.status.message}"


async def test_equal_retries_are_reported_once_and_change_no_text(scene: ReconcilerScene) -> None:
    scene.envelope.but("files", EsawUnreachable("connect"))
    first = await scene.reconcile()
    later = await scene.reconcile(times=5)
    assert await scene.recorded() == [("Warning", "EsawUnreachable")]
    assert later.status.attempts == 6
    assert (later.status.message, later.status.conditions) == (first.status.message, first.status.conditions)


class HangingEsaw(FakeEsawUserClient):
    """ESAW that does not answer the question for the files."""

    async def files(self, envelope: str) -> FilesResponse:
        await asyncio.Event().wait()
        return await super().files(envelope)


async def test_an_attempt_that_does_not_end_is_ended_and_says_for_whom_it_waited(tmp_path: Path) -> None:
    scene = ReconcilerScene(tmp_path, esaw=EsawOfOne(HangingEsaw()))
    scene.reconciler = dataclasses.replace(scene.reconciler, attempt_timeout=timedelta(seconds=0.05))
    after = await scene.reconcile()
    assert (after.status.phase, after.status.reason) == (Phase.COLLECTING, "AttemptOverdue")
    assert "eSignAnyWhere and Archive/dms" in (after.status.message or "")
    assert after.status.attempts == 1


async def test_what_was_archived_before_the_failure_is_in_the_status(scene: ReconcilerScene) -> None:
    scene.envelope.but("download trail-1", EsawUnreachable("cut"))
    after = await scene.reconcile()
    assert [each.sha256 is not None for each in after.status.documents] == [True, False]
    assert after.status.reason == "EsawUnreachable"


GARBAGE = {
    "nothing": b"",
    "plain text": b"upstream connect error or disconnect/reset before headers",
    "an XML fault": b'<?xml version="1.0"?><Fault xmlns="http://schemas.microsoft.com/ws/2005/05/envelope/none"/>',
    "an error": b'{"ErrorId":"ERR0001","Message":"ERR0001 - A general error occurred."}',
}


@pytest.mark.parametrize("file_id", ["file-1", "trail-1"])
@pytest.mark.parametrize("garbage", GARBAGE)
async def test_what_comes_in_place_of_a_file_is_not_archived_and_the_envelope_stays(
    scene: ReconcilerScene, file_id: str, garbage: str
) -> None:
    whole = scene.envelope.contents[file_id]
    scene.envelope.contents[file_id] = GARBAGE[garbage]
    after = await scene.reconcile()
    assert (after.status.phase, after.status.reason) == (Phase.ARCHIVING, "EsawAnswerUnreadable")
    assert scene.envelope.transport.deleted == []
    assert GARBAGE[garbage] not in [each.read_bytes() for each in scene.root.rglob("*") if each.is_file()]
    scene.envelope.contents[file_id] = whole
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"


def change_list(scene: ReconcilerScene, change: Callable[[FilesResponse], FilesResponse]) -> None:
    """Let eSAW list other files than those of the fake."""
    listed = scene.envelope.files

    async def files(envelope: str) -> FilesResponse:
        return change(await listed(envelope))

    scene.envelope.files = files  # type: ignore[method-assign]


@pytest.mark.parametrize("name", [None, "Certificate"])
async def test_garbage_in_place_of_a_legal_document_of_any_name_is_not_archived(
    scene: ReconcilerScene, name: str | None
) -> None:
    def named(listed: FilesResponse) -> FilesResponse:
        papers = (structs.replace(each, file_name=name) for each in listed.legal_documents or ())
        return structs.replace(listed, legal_documents=tuple(papers))

    scene.envelope.contents["legal-1"] = GARBAGE["plain text"]
    change_list(scene, named)
    assert (await scene.reconcile()).status.reason == "EsawAnswerUnreadable"
    assert scene.envelope.transport.deleted == []


async def test_garbage_in_place_of_a_document_not_named_pdf_is_not_archived_without_a_signature_check(
    scene: ReconcilerScene,
) -> None:
    scene.observe(a_probed_archive(root=scene.root, version=9, generation=2, signatures="Ignore"))
    scene.envelope.contents["file-1"] = GARBAGE["plain text"]
    scene.envelope.names["file-1"] = "Contract"
    assert (await scene.reconcile()).status.reason == "EsawAnswerUnreadable"
    assert scene.envelope.transport.deleted == []


async def test_any_bytes_that_a_signer_uploaded_as_a_pdf_are_archived(scene: ReconcilerScene) -> None:
    def attached(listed: FilesResponse) -> FilesResponse:
        passport = ListedFile(file_id="att-1", file_name="passport.pdf")
        documents = (structs.replace(each, attachments=(passport,)) for each in listed.documents or ())
        return structs.replace(listed, documents=tuple(documents))

    scene.envelope.contents["att-1"] = b"\xff\xd8\xff\xe0 JFIF"
    change_list(scene, attached)
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"


async def test_an_audit_trail_in_utf_16_is_archived(scene: ReconcilerScene) -> None:
    def with_xml(listed: FilesResponse) -> FilesResponse:
        return structs.replace(listed, audit_trail=AuditTrail(file_id="trail-1", xml_file_id="x-1"))

    scene.envelope.contents["x-1"] = '<?xml version="1.0" encoding="utf-16"?><AuditTrail/>'.encode("utf-16")
    change_list(scene, with_xml)
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"


@pytest.mark.parametrize("file_id", ["file-1", "trail-1", "legal-1"])
@pytest.mark.parametrize("state", [State.BROKEN, State.UNREADABLE])
async def test_an_envelope_with_a_file_in_doubt_is_archived_and_kept_and_that_is_reported(
    scene: ReconcilerScene, file_id: str, state: State
) -> None:
    scene.envelope.contents["legal-1"] = b"%PDF-legal"
    doubted = Signatures(state=state, detail="it can't be read as a PDF")
    scene.examiner.found[scene.envelope.contents[file_id]] = doubted
    again = await scene.reconcile()
    assert (again.status.phase, again.status.mismatches) == (Phase.CLEANING, 0)
    assert again.status.reason == "DocumentInDoubt"
    after = await scene.reconcile()
    assert (after.status.phase, after.status.reason) == (Phase.FAILED, "DocumentInDoubt")
    assert scene.envelope.asked.count(f"download {file_id}") == 2
    assert is_condition_true(after.status.conditions, "Archived")
    assert truth(after, "SignaturesChecked") == ("False", "SignatureBroken")
    assert "it can't be read as a PDF" in (after.status.message or "")
    assert scene.envelope.transport.deleted == []
    assert ("Warning", "DocumentInDoubt") in await scene.recorded()


CUT, UNCUT = b"%PDF-contr", b"%PDF-contract"


def cut_document(scene: ReconcilerScene) -> None:
    """Let eSAW send a document that is cut."""
    scene.envelope.contents["file-1"] = CUT
    scene.examiner.says = Signatures(state=State.INTACT)
    scene.examiner.found[CUT] = Signatures(state=State.UNREADABLE, detail="it is cut")


async def test_a_document_that_was_cut_once_is_downloaded_again_and_then_the_envelope_is_deleted(
    scene: ReconcilerScene,
) -> None:
    cut_document(scene)
    await scene.reconcile()
    scene.envelope.contents["file-1"] = UNCUT
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"
    assert [each.read_bytes() for each in scene.root.rglob("file-1.pdf")] == [UNCUT]


async def test_a_document_in_doubt_fails_the_event_of_an_envelope_that_is_kept_too(tmp_path: Path) -> None:
    scene = ReconcilerScene(tmp_path, cleanup={"policy": "Keep"})
    cut_document(scene)
    after = await scene.reconcile(2)
    assert (after.status.phase, after.status.reason) == (Phase.FAILED, "DocumentInDoubt")


async def test_a_document_that_was_archived_cut_is_downloaded_again_by_the_next_run(
    scene: ReconcilerScene,
) -> None:
    cut_document(scene)
    failed = await scene.reconcile(2)
    scene.envelope.contents["file-1"] = UNCUT
    asked = reopened_status(failed.status, reason="RetryRequested", message="", now=scene.clock.now())
    await scene.status_writer.store(failed, asked)
    assert (await scene.reconcile(2)).status.reason == "ArchivedAndDeleted"
    assert [each.read_bytes() for each in scene.root.rglob("file-1.pdf")] == [UNCUT]


async def test_a_document_that_was_archived_cut_is_another_programs_for_an_event_that_was_created_again(
    scene: ReconcilerScene,
) -> None:
    cut_document(scene)
    await scene.reconcile(2)
    (stored,) = scene.root.rglob("file-1.pdf")
    cut, scene.envelope.contents["file-1"] = stored.read_bytes(), UNCUT
    scene.kube.put(scene.event)
    assert (await scene.reconcile(2)).status.reason == "NameOccupied"
    assert (stored.read_bytes(), scene.envelope.transport.deleted) == (cut, [])


@pytest.mark.parametrize("policy", ["Delete", "Keep"])
async def test_what_an_earlier_check_found_stops_no_retry_after_signatures_are_ignored(
    tmp_path: Path, policy: str
) -> None:
    scene = ReconcilerScene(tmp_path, cleanup={"policy": policy})
    cut_document(scene)
    failed = await scene.reconcile(2)
    assert (failed.status.phase, failed.status.reason) == (Phase.FAILED, "DocumentInDoubt")
    ignoring = a_probed_archive(version=9, generation=2, signatures="Ignore", root=scene.root)
    scene.observe(ignoring)
    asked = reopened_status(failed.status, reason="RetryRequested", message="", now=scene.clock.now())
    await scene.status_writer.store(failed, asked)
    after = await scene.reconcile(2)
    assert after.status.phase is Phase.SUCCEEDED
    assert truth(after, "SignaturesChecked") == ("Unknown", "SignaturesIgnored")
    assert scene.envelope.asked.count("download file-1") == 3
    (manifest,) = scene.root.rglob("counterfoil.json")
    assert "it is cut" not in manifest.read_text()


async def test_without_an_earlier_check_an_archive_that_ignores_signatures_says_nothing(
    scene: ReconcilerScene,
) -> None:
    scene.observe(a_probed_archive(version=9, generation=2, signatures="Ignore", root=scene.root))
    after = await scene.reconcile()
    assert after.status.reason == "ArchivedAndDeleted"
    assert find_condition(after.status.conditions, "SignaturesChecked") is None


async def move(scene: ReconcilerScene, path: str, generation: int) -> None:
    """Let a person change spec.path of the Archive while the second file can't be downloaded."""
    scene.envelope.but("download trail-1", EsawUnreachable("cut"))
    await scene.reconcile(2)
    scene.observe(a_probed_archive(version=generation, generation=generation, path=path, root=scene.root))
    await scene.reconcile(2)
    del scene.envelope.problems["download trail-1"]


async def test_nothing_is_remembered_of_an_event_that_was_deleted_or_left_the_watch(
    scene: ReconcilerScene,
) -> None:
    scene.envelope.but("download trail-1", EsawUnreachable("cut"))
    scene.cache.update(scene.newest())
    waiting = await scene.reconcile()
    assert scene.reconciler.remembered == 1
    scene.cache.update(waiting)
    scene.cache.delete(EnvelopeEvent, waiting.name, version_number(waiting))
    assert scene.reconciler.remembered == 0


# -- Parameters of a later callback --------------------------------------------------------------------------

LATE = {
    "type": "ParametersArchived",
    "status": "False",
    "reason": "ParametersLate",
    "message": "late",
    "lastTransitionTime": "2026-07-01T12:00:00Z",
}


def tagged_by_callback(tmp_path: Path, *, required: bool) -> ReconcilerScene:
    scene = ReconcilerScene(tmp_path)
    tags = {"order": {"callback": "orderNo", "required": required}}
    archive = a_probed_archive(version=2, generation=2, root=tmp_path, tags=tags)
    scene.observe(archive)
    return scene


def add_parameters(scene: ReconcilerScene, *conditions: dict[str, str]) -> None:
    """Add a parameter as the receiver does."""
    known = scene.newest().to_dict()["status"].get("conditions", [])
    status = {"parameters": {"orderNo": "4711"}, "conditions": [*known, *conditions]}
    scene.kube.edit(EnvelopeEvent, scene.event.name, {"status": status})


def manifest_of(scene: ReconcilerScene) -> dict[str, Any]:
    (manifest,) = scene.root.rglob("counterfoil.json")
    found: dict[str, Any] = json.loads(manifest.read_bytes())
    return found


async def test_parameters_of_a_later_callback_are_in_tags_and_manifest(tmp_path: Path) -> None:
    scene = tagged_by_callback(tmp_path, required=True)
    waiting = await scene.reconcile()
    assert waiting.status.cause == "TagMissing"
    add_parameters(scene)
    scene.clock.advance(hours=1)

    after = await scene.reconcile()

    assert after.status.phase is Phase.SUCCEEDED
    manifest = manifest_of(scene)
    assert manifest["tags"] == {"order": "4711"}
    assert manifest["times"]["actions"][0]["parameters"] == {"orderNo": "4711"}


async def test_parameters_that_come_during_a_run_end_it_and_the_next_run_archives_them(
    tmp_path: Path,
) -> None:
    scene = tagged_by_callback(tmp_path, required=False)
    scene.envelope.meanwhile["download trail-1"] = lambda: add_parameters(scene, LATE)

    with pytest.raises(Superseded):
        await scene.reconcile()
    assert scene.envelope.transport.deleted == []
    after = await scene.reconcile()

    assert after.status.phase is Phase.SUCCEEDED
    assert manifest_of(scene)["tags"] == {"order": "4711"}
    # Files of the first run have their tags from before.
    assert truth(after, "ParametersArchived") == ("False", "ParametersLate")


async def test_parameters_that_come_before_the_first_file_are_archived(tmp_path: Path) -> None:
    scene = tagged_by_callback(tmp_path, required=False)
    scene.envelope.but("download file-1", EsawUnreachable("cut"))
    assert (await scene.reconcile()).status.phase is Phase.ARCHIVING
    add_parameters(scene, LATE)
    del scene.envelope.problems["download file-1"]
    scene.clock.advance(hours=1)

    after = await scene.reconcile()

    assert truth(after, "ParametersArchived") == ("True", "ParametersArchived")


# -- Places that were changed --------------------------------------------------------------------------------


async def test_files_under_the_earlier_path_are_named_until_the_end(scene: ReconcilerScene) -> None:
    await move(scene, "new/{{envelope.id}}/{{file.name}}", 2)
    after = await scene.reconcile()
    assert after.status.phase is Phase.SUCCEEDED
    left = find_condition(after.status.conditions, "FilesLeftBehind")
    assert left is not None
    assert (left.status, left.reason) == ("True", "PlaceChanged")
    (contract,) = scene.root.rglob("acme/**/file-1.pdf")
    assert f"`{contract.as_uri()}`" in left.message
    assert "new/" not in left.message
    assert ("Warning", "PlaceChanged") in await scene.recorded()


async def test_files_under_a_path_that_is_used_again_are_not_left_behind(scene: ReconcilerScene) -> None:
    old = an_archive().spec.path
    await move(scene, "new/{{envelope.id}}/{{file.name}}", 2)
    await move(scene, old, 3)
    after = await scene.reconcile()
    left = find_condition(after.status.conditions, "FilesLeftBehind")
    assert after.status.phase is Phase.SUCCEEDED
    assert left is not None
    assert "/new/" in left.message
    assert "/acme/" not in left.message


async def test_an_event_whose_files_lie_at_their_places_has_nothing_left_behind(
    scene: ReconcilerScene,
) -> None:
    after = await scene.reconcile()
    assert find_condition(after.status.conditions, "FilesLeftBehind") is None


@pytest.mark.parametrize("operation", ["envelope", "files", "download file-1", "delete"])
async def test_a_key_that_is_refused_twice_parks_the_event_and_is_remembered(
    scene: ReconcilerScene, operation: str
) -> None:
    scene.envelope.but(operation, HttpStatusError(401)).but("whoami", HttpStatusError(401))
    doubted = await scene.reconcile()
    assert (doubted.status.reason, truth(doubted, "Authorized")[0]) == ("KeyDoubted", "Unknown")
    assert doubted.status.next_attempt_time is not None
    assert doubted.status.next_attempt_time >= scene.clock.now() + timedelta(minutes=1)
    assert scene.envelope.asked.count("whoami") == 0
    scene.clock.advance(minutes=1)
    after = await scene.reconcile()
    assert (after.status.phase, after.status.reason) == (Phase.AWAITING_CONSENT, "TokenRejected")
    assert "Sender/anna" in str(after.status.message)
    assert after.status.next_attempt_time is None
    assert truth(after, "Authorized") == ("False", "TokenRejected")
    anna = scene.cache.senders.get("anna")
    assert anna is not None
    assert not is_condition_true(anna.status.conditions, "Authorized")
    assert await scene.recorded() == [("Warning", "KeyDoubted"), ("Warning", "TokenRejected")]


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        (Unavailable(500, "InternalError", "unable to transform key"), "SecretUnreadable"),
        (Forbidden(403, "Forbidden", "no"), "SecretForbidden"),
    ],
)
async def test_events_of_a_sender_whose_secret_can_not_be_read_start_again_after_the_repair(
    tmp_path: Path, problem: ApiError, reason: str
) -> None:
    scene = ReconcilerScene(tmp_path)
    scene.kube.refused["secret", "anna-key"] = problem
    after = await scene.reconcile()
    while not after.status.phase.is_final:
        due = after.status.next_attempt_time
        assert due is not None
        scene.clock.advance(seconds=max(1.0, (due - scene.clock.now()).total_seconds()))
        after = await scene.reconcile()
    assert (after.status.phase, after.status.cause) == (Phase.FAILED, reason)

    del scene.kube.refused["secret", "anna-key"]
    scene.clock.advance(minutes=10)
    anna = scene.cache.senders.get("anna")
    assert anna is not None
    assert find_fix(after, scene.cache, scene.clock.now()) is None
    await scene.sender_keys.key(anna, scene.esaw_clients.for_organization(scene.organization))
    assert find_fix(after, scene.cache, scene.clock.now()) == scene.cache.senders.get("anna")


@pytest.mark.parametrize("operation", ["envelope", "files", "download file-1", "delete"])
async def test_a_proxys_401_of_a_minute_costs_a_minute_and_no_consent(
    scene: ReconcilerScene, operation: str
) -> None:
    scene.envelope.but(operation, HttpStatusError(401))
    await scene.reconcile()
    del scene.envelope.problems[operation]
    scene.clock.advance(seconds=59)
    doubted = await scene.reconcile()
    assert (doubted.status.reason, truth(doubted, "Authorized")) == ("KeyDoubted", ("Unknown", "KeyDoubted"))
    scene.clock.advance(seconds=1)
    after = await scene.reconcile()
    assert (after.status.phase, truth(after, "Authorized")) == (Phase.SUCCEEDED, ("True", "KeyAccepted"))
    assert scene.envelope.asked.count("whoami") == 1


@pytest.mark.parametrize(("seconds", "questions"), [(31, 1), (29, 0)])
async def test_a_person_who_retries_lets_esaw_be_asked_about_a_refused_key(
    scene: ReconcilerScene, seconds: int, questions: int
) -> None:
    scene.envelope.but("envelope", HttpStatusError(401, "ERR0010"))
    parked = await scene.reconcile()
    assert parked.status.reason == "TokenRejected"
    scene.envelope.problems.clear()
    scene.clock.advance(seconds=seconds)
    retry = await EventRequests(scene.clock).retry(parked, Request("retry"))
    assert retry.change is not None
    await scene.status_writer.store(parked, retry.change(parked.status))
    after = await scene.reconcile()
    assert scene.envelope.asked.count("whoami") == questions
    assert (after.status.phase is Phase.SUCCEEDED) == bool(questions)


@pytest.mark.parametrize("operation", ["envelope", "files", "download file-1", "delete"])
async def test_a_web_page_with_401_is_waited_out_and_says_nothing_about_the_key(
    scene: ReconcilerScene, operation: str
) -> None:
    scene.envelope.but(operation, HttpStatusError(401, is_page=True))
    waiting = await scene.reconcile()
    assert waiting.status.reason == "EsawAnswerUnreadable"
    assert truth(waiting, "Authorized") == ("True", "KeyAccepted")
    scene.envelope.problems.clear()
    after = await scene.reconcile()
    assert after.status.phase is Phase.SUCCEEDED
    assert scene.envelope.asked.count("whoami") == 0


async def test_a_401_with_esaws_own_error_id_is_believed_at_once(scene: ReconcilerScene) -> None:
    scene.envelope.but("envelope", HttpStatusError(401, "ERR0010"))
    after = await scene.reconcile()
    assert (after.status.phase, after.status.reason) == (Phase.AWAITING_CONSENT, "TokenRejected")


@pytest.mark.parametrize("status", [400, 403, 405, 409, 418, 423])
@pytest.mark.parametrize("operation", ["envelope", "files", "download file-1", "delete"])
async def test_a_firewalls_refusal_is_waited_out(scene: ReconcilerScene, operation: str, status: int) -> None:
    scene.envelope.but(operation, HttpStatusError(status))
    after = await scene.reconcile()
    assert (after.status.reason, after.status.phase.is_final) == ("EsawAnswerUnreadable", False)
    del scene.envelope.problems[operation]
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"


async def test_a_parked_event_is_labelled_with_whose_key_it_waits_for(tmp_path: Path) -> None:
    scene = ReconcilerScene(tmp_path)
    scene.kube.edit(EnvelopeEvent, scene.event.name, {"metadata": {"labels": {SENDER_LABEL: None}}})
    del scene.kube.secrets["anna-key"]
    after = await scene.reconcile(2)
    assert (after.status.phase, after.status.reason) == (Phase.AWAITING_CONSENT, "KeyMissing")
    assert after.metadata.labels[SENDER_LABEL] == "anna"


async def test_a_label_that_cannot_be_set_holds_nothing_up(scene: ReconcilerScene) -> None:
    scene.kube.edit(EnvelopeEvent, scene.event.name, {"metadata": {"labels": {SENDER_LABEL: "ben"}}})
    scene.kube.go_away("patch", times=1)
    after = await scene.reconcile()
    assert after.status.phase is Phase.SUCCEEDED


def suspend_event(scene: ReconcilerScene) -> None:
    scene.kube.edit(EnvelopeEvent, scene.event.name, {"spec": {"suspend": True}})


def suspend_organization(scene: ReconcilerScene) -> None:
    scene.cache.organizations.put(an_organization(version=2, generation=2, suspend=True))


def suspend_sender(scene: ReconcilerScene) -> None:
    scene.cache.senders.put(known_to_work(a_sender(version=500, suspend=True)))


SUSPENSIONS: list[tuple[Callable[[ReconcilerScene], None], str]] = [
    (suspend_event, "Suspended"),
    (suspend_organization, "OrganizationSuspended"),
    (suspend_sender, "SenderSuspended"),
]


@pytest.mark.parametrize(("suspend", "reason"), SUSPENSIONS)
async def test_who_suspends_it_in_the_middle_stops_it_before_the_envelope_is_deleted(
    scene: ReconcilerScene, suspend: Callable[[ReconcilerScene], None], reason: str
) -> None:
    scene.kube.just_before("patch_status", lambda: None)
    scene.kube.just_before("patch_status", partial(suspend, scene))
    after = await scene.reconcile()
    assert after.status.phase is Phase.CLEANING
    assert scene.envelope.transport.deleted == []
    held = await scene.reconcile()
    assert (held.status.phase, held.status.reason) == (Phase.CLEANING, reason)
    assert await scene.recorded() == [("Normal", reason)]


async def test_what_a_person_asks_for_in_the_middle_comes_before_the_envelope_is_deleted(
    scene: ReconcilerScene,
) -> None:
    """``skip`` says that the envelope stays; the request waits only for the phase that is in progress."""
    ask = {"metadata": {"labels": {REQUEST_LABEL: "skip"}}}
    scene.kube.just_before("patch_status", lambda: None)
    scene.kube.just_before("patch_status", partial(scene.kube.edit, EnvelopeEvent, scene.event.name, ask))
    after = await scene.reconcile()
    assert after.status.phase is Phase.CLEANING
    assert scene.envelope.transport.deleted == []


async def test_deliveries_counted_in_between_cost_nothing(scene: ReconcilerScene) -> None:
    for times in range(2, 5):
        scene.kube.just_before(
            "patch_status",
            partial(scene.kube.edit, EnvelopeEvent, scene.event.name, {"status": {"deliveries": times}}),
        )
    after = await scene.reconcile()
    assert (after.status.phase, after.status.deliveries) == (Phase.SUCCEEDED, 4)
    assert scene.envelope.transport.deleted == [ENVELOPE]


async def test_a_status_that_the_api_server_refuses_ends_with_a_message_and_not_in_a_loop(
    scene: ReconcilerScene,
) -> None:
    scene.kube.fail(
        "patch_status",
        Rejected(422, "Invalid", "the API server answered 422 Invalid: status.documents: too many"),
    )
    after = await scene.reconcile()
    assert (after.status.phase, after.status.reason) == (Phase.FAILED, "StatusRefused")
    assert after.status.message is not None
    assert "too many" in after.status.message


async def test_a_status_that_is_too_large_for_the_api_server_ends_with_what_is_too_much(
    scene: ReconcilerScene,
) -> None:
    words = "the API server answered 500: etcdserver: request is too large"
    scene.kube.fail("patch_status", TooLarge(500, "500", words))
    after = await scene.reconcile()
    assert (after.status.phase, after.status.reason) == (Phase.FAILED, "EnvelopeTooLarge")
    assert after.status.message is not None
    assert after.status.message.startswith(
        "The envelope has 2 files; with their names and places that is more"
    )
    assert scene.envelope.transport.deleted == []


async def test_an_event_that_waits_for_room_spends_no_attempt_and_continues_when_there_is_some(
    scene: ReconcilerScene,
) -> None:
    scene.envelope.contents |= {f"file-{each}": b"%PDF-more" for each in range(100, 160)}
    events = scene.cache.events
    scene.cache.update(scene.newest())
    names = [f"{'x' * 200}-{each}" for each in range(2000)]
    archived = an_event().archived(*names).build().status.documents
    listed = tuple(structs.replace(each, size=None, sha256=None) for each in archived)
    for number in range(10):
        builder = an_event(str(UUID(int=number))).in_phase(Phase.AWAITING_CONSENT, "TokenRejected")
        events.put(builder.status(documents=listed).build())
    waiting = await scene.reconcile(2)
    assert (waiting.status.phase, waiting.status.reason) == (Phase.COLLECTING, "FileListCeiling")
    assert (waiting.status.attempts, waiting.status.phase_start_time) == (0, None)
    assert waiting.status.documents == ()
    assert truth(waiting, "Stalled") == ("False", "NotStalled")
    assert waiting.status.next_attempt_time == scene.clock.now() + CEILING_PAUSE
    message = waiting.status.message or ""
    assert (
        f"EnvelopeEvent/{an_event(str(UUID(int=0))).build().name} (AwaitingConsent/TokenRejected)" in message
    )
    assert "waits for a person" in message
    for number in range(10):
        events.remove(an_event(str(UUID(int=number))).build().name)
    after = await scene.reconcile()
    assert (after.status.phase, len(after.status.documents)) == (Phase.SUCCEEDED, 62)


async def test_an_event_whose_long_list_was_shortened_archives_all_files_after_a_retry(
    scene: ReconcilerScene,
) -> None:
    scene.envelope.contents |= {f"file-{each:03d}": b"%PDF-more" for each in range(300)}
    scene.envelope.but("download file-050", HttpStatusError(400, "ERR0001"))
    failed = await scene.reconcile()
    assert failed.status.phase is Phase.FAILED
    assert len(failed.status.documents) < len(scene.envelope.contents)
    del scene.envelope.problems["download file-050"]
    reopened = reopened_status(failed.status, reason="Retried", message="", now=scene.clock.now())
    scene.kube.put(structs.replace(failed, status=reopened))
    after = await scene.reconcile()
    assert {each.file_id for each in after.status.documents} == set(scene.envelope.contents)
    assert all(each.sha256 for each in after.status.documents)
    assert (after.status.phase, after.status.reason) == (Phase.CLEANING, "LateFilesPending")
    assert scene.envelope.transport.deleted == []


@pytest.mark.parametrize("refused", [Rejected(422, "Invalid", "no"), TooLarge(500, "500", "too large")])
async def test_an_event_that_has_no_room_for_its_end_ends_with_the_bare_list_of_its_files(
    tmp_path: Path, refused: Rejected
) -> None:
    scene = ReconcilerScene(tmp_path, an_event().archived())
    scene.kube.fail("patch_status", refused, refused)
    after = await scene.reconcile()
    assert after.status.phase is Phase.FAILED
    assert after.status.reason in ("EnvelopeTooLarge", "StatusRefused")
    assert after.status.documents
    for each in after.status.documents:
        assert (each.file_name, each.location) == ("", None)
        assert each.sha256, "no shorter download may replace it"
    assert not is_condition_true(after.status.conditions, "Archived"), (
        "the proof is gone, so the envelope is archived again"
    )


@pytest.mark.parametrize("refused", [Rejected(422, "Invalid", "no"), TooLarge(500, "500", "too large")])
async def test_an_event_that_has_no_room_for_contents_either_ends_with_the_ids_of_its_files(
    tmp_path: Path, refused: Rejected
) -> None:
    scene = ReconcilerScene(tmp_path, an_event().archived())
    scene.kube.fail("patch_status", refused, refused, refused)
    after = await scene.reconcile()
    assert after.status.phase is Phase.FAILED
    assert {each.sha256 for each in after.status.documents} == {None}


async def test_what_was_deleted_already_is_not_said_to_be_in_esaw(scene: ReconcilerScene) -> None:
    full = TooLarge(500, "500", "the API server answered 500: etcdserver: request is too large")
    scene.envelope.transport.just_before = partial(scene.kube.fail, "patch_status", full)
    after = await scene.reconcile()
    assert scene.envelope.transport.deleted == [ENVELOPE]
    assert (after.status.phase, after.status.reason) == (Phase.FAILED, "EnvelopeTooLarge")
    assert "stays in eSignAnyWhere" not in (after.status.message or "")


async def test_an_error_that_nobody_thought_of_is_ours_and_is_tried_again(scene: ReconcilerScene) -> None:
    scene.envelope.but("files", RuntimeError("a secret detail"))
    after = await scene.reconcile()
    assert (after.status.phase, after.status.reason) == (Phase.COLLECTING, "InternalError")
    assert after.status.message is not None
    assert "secret" not in after.status.message


async def test_what_is_given_up_fails_with_its_last_failure_and_is_counted(scene: ReconcilerScene) -> None:
    scene.envelope.but("files", EsawUnreachable("connect"))
    after = await scene.reconcile()
    for _ in range(24):
        scene.clock.advance(hours=1)
        after = await scene.reconcile()
    assert (after.status.phase, after.status.reason) == (Phase.FAILED, "DeadlineExceeded")
    assert (await scene.recorded())[-1] == ("Warning", "DeadlineExceeded")
    assert scene.metric("retries_exhausted_total", organization="acme") == 1


async def test_the_time_from_the_record_to_the_end_is_measured(scene: ReconcilerScene) -> None:
    scene.clock.advance(seconds=90)
    await scene.reconcile()
    assert scene.metric("event_seconds_sum", organization="acme") == 90
    assert scene.metric("phase_seconds_count", phase="Archiving") == 1


async def test_each_finished_event_is_one_line_of_the_log(
    scene: ReconcilerScene, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        await scene.reconcile()
    ends = [each for each in caplog.records if each.message.startswith("the event ended")]
    assert [each.message for each in ends] == ["the event ended as Succeeded: ArchivedAndDeleted"]
    assert (ends[0].__dict__["phase"], ends[0].__dict__["reason"]) == ("Succeeded", "ArchivedAndDeleted")


async def test_the_time_to_the_archive_ends_before_the_clean_up(tmp_path: Path) -> None:
    scene = ReconcilerScene(tmp_path, cleanup={"policy": "Delete", "after": "24h"})
    scene.clock.advance(seconds=90)
    assert (await scene.reconcile()).status.phase is Phase.CLEANING
    assert scene.metric("event_archived_seconds_sum", organization="acme") == 90
    scene.clock.advance(hours=25)
    assert (await scene.reconcile()).status.phase is Phase.SUCCEEDED
    assert scene.metric("event_archived_seconds_count", organization="acme") == 1


async def test_the_time_to_the_archive_begins_with_the_end_of_the_envelope(scene: ReconcilerScene) -> None:
    scene.clock.advance(hours=5)
    ended = (scene.clock.now() - timedelta(seconds=30)).isoformat()
    scene.envelope.activities = json.dumps([{"FinishedDate": ended}]).encode()
    await scene.reconcile()
    assert scene.metric("event_archived_seconds_sum", organization="acme") == 30


async def test_the_wait_for_a_consent_is_no_time_to_the_archive(scene: ReconcilerScene) -> None:
    scene.envelope.but("envelope", HttpStatusError(401, "ERR0010"))
    await scene.reconcile()
    del scene.envelope.problems["envelope"]
    scene.cache.update(known_to_work(a_sender()))
    scene.clock.advance(hours=5)
    assert (await scene.reconcile()).status.phase is Phase.SUCCEEDED
    assert scene.metric("event_archived_seconds_count", organization="acme") in (None, 0)


async def test_a_failed_event_is_counted_by_phase_and_reason_and_its_retry_has_no_time(
    scene: ReconcilerScene,
) -> None:
    (scene.root / "acme").write_bytes(b"a file where a folder has to be")
    failed = await scene.reconcile()
    labels = {"organization": "acme", "phase": "Collecting", "reason": "NameOccupied"}
    assert scene.metric("events_failed_total", **labels) == 1
    (scene.root / "acme").unlink()
    status = reopened_status(failed.status, reason="RetryRequested", message="", now=scene.clock.now())
    scene.kube.put(structs.replace(failed, status=status))
    assert (await scene.reconcile()).status.phase is Phase.SUCCEEDED
    assert scene.metric("events_failed_total", **labels) == 1
    assert scene.metric("event_archived_seconds_count", organization="acme") in (None, 0)


async def test_a_failure_of_the_archive_is_reported_in_its_own_words(scene: ReconcilerScene) -> None:
    (scene.root / "acme").write_bytes(b"a file where a folder has to be")
    after = await scene.reconcile()
    assert (after.status.phase, after.status.reason) == (Phase.FAILED, "NameOccupied")
    assert after.status.message is not None
    assert str(scene.root) in after.status.message


@pytest.mark.parametrize("status", [400, 404, 409, 410, 413, 422])
async def test_a_4xx_of_a_proxy_to_a_status_write_is_tried_again_and_fails_nothing(
    scene: ReconcilerScene, status: int
) -> None:
    scene.kube.fail("patch_status", api_error(status, b"<html>nginx</html>", None, creating=False))
    assert (await scene.reconcile()).status.phase is Phase.SUCCEEDED


async def test_a_missing_definition_of_envelopes_does_not_read_as_an_event_without_an_envelope(
    scene: ReconcilerScene,
) -> None:
    scene.kube.remove_definition(Envelope)
    after = await scene.reconcile()
    assert (after.status.phase, after.status.reason) == (Phase.VALIDATING, "ApiServerTrouble")
    assert scene.envelope.asked == [], "the default Sender's key may be that of another person"

    scene.kube.add_definition(Envelope)
    assert (await scene.reconcile()).status.phase is Phase.SUCCEEDED


async def test_an_event_of_another_shard_is_left_to_its_holder_before_any_request(tmp_path: Path) -> None:
    scene = ReconcilerScene(tmp_path)
    others = held_shards(1 - scene.event.shard_number % 2, of=2)
    scene.change_preconditions(held=others)
    before = list(scene.kube.asked)
    with pytest.raises(LeaseLost):
        await scene.reconciler.reconcile(scene.event)
    assert scene.kube.asked == before


@pytest.mark.parametrize("is_ahead_at_the_start", [True, False])
async def test_an_attempt_lasts_as_long_as_it_did_whichever_api_server_answers(
    scene: ReconcilerScene, is_ahead_at_the_start: bool
) -> None:
    """A callback after its beginning, by any of the clocks, may tell of a change that it did not see."""
    began, ahead = scene.clock.now(), timedelta(minutes=20)
    scene.clock.ahead = ahead if is_ahead_at_the_start else timedelta(0)

    def answered_by_another() -> None:
        scene.clock.ahead = timedelta(0) if is_ahead_at_the_start else ahead
        scene.clock.advance(seconds=30)

    scene.envelope.meanwhile["envelope"] = answered_by_another
    scene.envelope.status = EnvelopeStatus.CANCELED
    ended = (await scene.reconcile()).status
    assert ended.reason == "UnexpectedStatus"
    attempt = ended.attempt_history[-1]
    assert (attempt.start_time, attempt.duration_seconds) == (began, 30)
    assert ended.completion_time == began + timedelta(seconds=30)

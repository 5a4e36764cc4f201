"""Contents that eSAW sent and that were not archived: they bind the next downloads, and other events."""

import dataclasses
import hashlib
import json
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from counterfoil.archives.errors import ArchiveUnavailable
from counterfoil.esaw.errors import EsawUnreachable, HttpStatusError
from counterfoil.kube.errors import ApiError, Forbidden, Rejected, TooLarge, Unavailable
from counterfoil.resources import EnvelopeEvent, EnvelopeStatus, Phase
from counterfoil.resources.envelopeevent import MAX_OTHER_CONTENTS, MAX_SENT_CONTENTS, SentContent
from tests.support.fakes.reconcile_context import missing
from tests.support.scenes.events_of_envelope import (
    ACTIONS,
    BROKEN,
    DAMAGED,
    DELAYED,
    IN_DOUBT,
    LEGAL,
    WHOLE,
    WITH_OR_WITHOUT_KEY,
    OneEvent,
    OneFolder,
    break_off,
    remove_file,
    retry_by_a_person,
)
from tests.support.scenes.unmounted import unmount

HISTORY_FAILS = {
    "unreachable": EsawUnreachable("connect"),
    "failing": HttpStatusError(503, None),
    "refused by a proxy": HttpStatusError(403, None),
}

SUCCEEDED = (Phase.SUCCEEDED, "ArchivedAndDeleted")
LONGER = WHOLE + b", and a further page"
OTHER_WHOLE = WHOLE[:-3] + b"ALL"
NOT_CONFIRMED = pytest.mark.parametrize("how", ["not confirmed", "overdue"])


def content(document: bytes, *, has_fault: bool = False) -> SentContent:
    return SentContent(size=len(document), sha256=hashlib.sha256(document).hexdigest(), has_fault=has_fault)


def sent(event: EnvelopeEvent, file: str = "file-1") -> SentContent | None:
    return {each.file_id: each.other_content for each in event.status.documents}[file]


async def test_the_status_and_the_message_name_what_was_sent_until_it_is_archived(tmp_path: Path) -> None:
    scene = await OneEvent.of(tmp_path)
    await scene.run(scene.first)
    await scene.lose_and_fail(LONGER)
    assert sent(scene.newest()) == content(LONGER)
    assert f"What it sends has {len(LONGER)} bytes." in (scene.newest().status.message or "")

    await retry_by_a_person(scene)
    accepted = sent(scene.newest())

    assert accepted is not None
    assert accepted.accepted_time == scene.clock.now().replace(microsecond=0)
    assert await scene.ended(LONGER) == SUCCEEDED
    assert sent(scene.newest()) is None


async def test_a_retry_accepts_other_content_only_of_the_files_that_are_named(tmp_path: Path) -> None:
    """A rejected envelope, whose documents may be rendered at each download. One was lost after the message
    about the other one."""
    scene = await OneEvent.of(tmp_path, None, **DELAYED, statuses=["Completed", "Rejected"])
    scene.envelope.status = EnvelopeStatus.REJECTED
    scene.envelope.contents["file-2"] = WHOLE
    await scene.run(scene.first)
    await scene.lose_and_fail(WHOLE[:12])
    for each in scene.folders["dms"].rglob("file-2.pdf"):
        each.unlink()
    scene.envelope.contents["file-2"] = WHOLE[:12]

    assert await scene.ended_after_retry(WHOLE) == IN_DOUBT

    assert scene.deleted == []


async def test_what_a_run_after_a_retry_refuses_is_accepted_by_another_retry_only(tmp_path: Path) -> None:
    scene = await OneEvent.of(tmp_path)
    scene.send(WHOLE)
    scene.envelope.contents["file-2"] = WHOLE
    await scene.run(scene.first)
    await scene.lose_and_fail(LONGER)
    for each in scene.folders["dms"].rglob("file-2.pdf"):
        each.unlink()
    scene.envelope.contents["file-2"] = LONGER

    assert await scene.ended_after_retry(LONGER) == IN_DOUBT

    assert await scene.ended_after_retry(LONGER) == SUCCEEDED


async def test_a_retry_accepts_nothing_that_is_shorter_than_what_was_sent_before_it(tmp_path: Path) -> None:
    scene = await OneEvent.of(tmp_path)
    scene.send(WHOLE[:12])
    await scene.run(scene.first)
    await scene.lose_and_fail(LONGER)

    assert await scene.ended_after_retry(WHOLE) == IN_DOUBT

    assert scene.deleted == []


async def test_a_fault_that_is_found_after_a_retry_lets_no_shorter_document_count(tmp_path: Path) -> None:
    """No message had named the fault, so no person accepted another content because of it."""
    scene = await OneEvent.of(tmp_path)
    await scene.run(scene.first)
    (place,) = scene.folders["dms"].rglob("file-1.pdf")
    await scene.lose_and_fail(LONGER)
    place.write_bytes(WHOLE)
    scene.examiner.found[WHOLE] = BROKEN

    assert await scene.ended_after_retry(WHOLE[:12]) == IN_DOUBT

    assert scene.deleted == []


async def test_the_status_keeps_a_bounded_number_of_contents_that_were_sent(tmp_path: Path) -> None:
    scene = await OneEvent.of(tmp_path)
    names = [f"file-{number}" for number in range(1, MAX_OTHER_CONTENTS + 2)]
    scene.envelope.contents |= dict.fromkeys(names, WHOLE)
    await scene.run(scene.first)
    for name in names:
        for each in scene.folders["dms"].rglob(f"{name}.pdf"):
            each.unlink()
    scene.clock.advance(hours=721)
    scene.envelope.contents |= dict.fromkeys(names, LONGER)

    assert await scene.ended(LONGER) == IN_DOUBT

    kept = [each.other_content for each in scene.newest().status.documents if each.other_content is not None]
    assert kept == [content(LONGER)] * MAX_OTHER_CONTENTS
    assert await scene.ended_after_retry(LONGER) == IN_DOUBT
    assert await scene.ended_after_retry(LONGER) == SUCCEEDED


@pytest.mark.parametrize("is_cut_again", [False, True], ids=["sent again", "cut again"])
async def test_a_file_in_doubt_has_room_beside_all_that_were_only_sent(
    tmp_path: Path, *, is_cut_again: bool
) -> None:
    """A cut document was archived. Then eSAW lists 100 more after it. The status has what it sent of each,
    from an attempt of an earlier version, which the archive did not confirm."""
    scene = await OneEvent.of(tmp_path)
    scene.send(WHOLE[:12])
    await scene.run(scene.first)
    late = [f"file-{number}" for number in range(2, MAX_SENT_CONTENTS + 2)]
    trail = scene.envelope.contents.pop("trail-1")
    scene.envelope.contents |= dict.fromkeys(late, WHOLE) | {"trail-1": trail}
    scene.lose_trail()
    scene.clock.advance(hours=721)
    assert (await scene.run(scene.first)).status.reason == "ArchivedFilesChanged"
    scene.clock.advance(hours=1)
    await end_attempt(scene, "unreachable", at=late[0])
    documents = [
        msgspec.structs.replace(each, other_content=content(WHOLE)) if each.file_id in late else each
        for each in scene.newest().status.documents
    ]
    scene.kube.edit(EnvelopeEvent, scene.first, {"status": {"documents": msgspec.to_builtins(documents)}})
    assert [sent(scene.newest(), each) for each in late] == [content(WHOLE)] * MAX_SENT_CONTENTS
    remove_file(scene)
    scene.send(WHOLE)
    assert (await scene.retried()).status.reason == "DocumentInDoubt"
    assert sent(scene.newest()) == content(WHOLE)

    assert await scene.ended(WHOLE[:12] if is_cut_again else WHOLE) == IN_DOUBT

    assert scene.deleted == []
    assert await scene.ended_after_retry(WHOLE) == SUCCEEDED


async def test_a_longer_document_that_was_sent_once_lets_no_shorter_one_count(tmp_path: Path) -> None:
    scene = await OneEvent.of(tmp_path)
    scene.send(WHOLE[:12])
    await scene.run(scene.first)
    remove_file(scene)
    scene.clock.advance(hours=721)
    scene.envelope.in_turn["file-1"] = iter([WHOLE])

    assert await scene.ended(WHOLE[:12]) == IN_DOUBT

    assert sent(scene.newest()) == content(WHOLE)
    assert await scene.ended_after_retry(WHOLE[:12]) == SUCCEEDED


async def test_a_longer_content_with_a_fault_lets_a_shorter_one_count(tmp_path: Path) -> None:
    scene = await OneEvent.of(tmp_path, None, actions=ACTIONS)
    await break_off(scene, "trail-1")
    scene.send(DAMAGED)
    assert (await scene.retried()).status.reason == "DocumentInDoubt"
    assert sent(scene.newest()) == content(DAMAGED, has_fault=True)

    assert await scene.ended(WHOLE) == SUCCEEDED

    assert scene.stored == WHOLE


async def test_an_event_that_was_sent_a_longer_document_keeps_the_envelope_of_another_event(
    tmp_path: Path,
) -> None:
    """Both archived the same cut one before."""
    scene = OneFolder(tmp_path)
    scene.envelope.contents["file-1"] = WHOLE[:12]
    await scene.run(scene.first)
    await scene.run(scene.second)
    remove_file(scene)
    scene.clock.advance(hours=721)
    scene.envelope.contents["file-1"] = WHOLE
    first = await scene.end(scene.first)
    assert sent(first) == content(WHOLE)
    scene.envelope.contents["file-1"] = WHOLE[:12]

    second = await scene.end(scene.second)

    assert (second.status.phase, second.status.reason) == IN_DOUBT
    assert f"EnvelopeEvent/{scene.first} has a document" in (second.status.message or "")
    assert scene.deleted == []


async def end_attempt(scene: OneEvent, how: str, *, at: str = "trail-1") -> None:
    """Let the next attempt end at this file."""
    if how == "overdue":
        usual = scene.reconciler
        scene.reconciler = dataclasses.replace(usual, attempt_timeout=timedelta(seconds=0.5))
        scene.envelope.hanging.add(at)
        assert (await scene.run(scene.first)).status.reason == "AttemptOverdue"
        scene.envelope.hanging.clear()
        scene.reconciler = usual
        return
    mounts = []
    scene.envelope.but(f"download {at}", EsawUnreachable("connect"))
    if how == "not confirmed":
        scene.envelope.meanwhile[f"download {at}"] = lambda: mounts.append(unmount(scene.folders["dms"]))
    await scene.run(scene.first)
    for mount in mounts:
        mount()
    scene.envelope.problems.clear()


@NOT_CONFIRMED
async def test_what_an_attempt_was_sent_that_was_not_confirmed_is_replaced_by_nothing_shorter(
    tmp_path: Path, how: str
) -> None:
    scene = await OneEvent.of(tmp_path, None, actions=ACTIONS)
    await end_attempt(scene, how)
    assert sent(scene.newest()) == content(WHOLE)

    assert await scene.ended(WHOLE[:12]) == IN_DOUBT

    message = scene.newest().status.message or ""
    assert f"than was sent before, which has {len(WHOLE)} bytes" in message
    assert await scene.ended_after_retry(WHOLE[:12]) == IN_DOUBT
    assert scene.deleted == []
    assert await scene.ended_after_retry(WHOLE) == SUCCEEDED


@pytest.mark.parametrize("length", [20, 3000], ids=["short names", "long names"])
async def test_an_event_that_fails_with_a_long_list_keeps_each_content_that_was_sent(
    tmp_path: Path, length: int
) -> None:
    """The archive is unreachable from the first attempt to the deadline, and returns without its files."""
    scene = await OneEvent.of(tmp_path, None, actions=ACTIONS)
    names = [f"file-{number}" for number in range(1, 31)]
    scene.envelope.contents |= dict.fromkeys(names, WHOLE)
    scene.envelope.names |= {each: f"{each}-{'x' * length}.pdf" for each in names}
    mounts = []
    scene.envelope.but("download trail-1", EsawUnreachable("connect"))
    scene.envelope.meanwhile["download trail-1"] = lambda: mounts.append(unmount(scene.folders["dms"]))
    await scene.run(scene.first)
    scene.envelope.problems.clear()
    assert (await scene.end(scene.first)).status.reason == "DeadlineExceeded"
    mounts[0]()
    for each in list(scene.folders["dms"].rglob("file-*")):
        each.unlink()
    scene.envelope.contents["file-25"] = WHOLE[:12]

    await retry_by_a_person(scene)

    assert (await scene.end(scene.first)).status.reason == "DocumentInDoubt"
    assert scene.deleted == []


async def test_a_content_with_a_fault_takes_the_place_of_none_without_a_fault(tmp_path: Path) -> None:
    """Else a cut one would count again beside a sound one: a content with a fault does not bind there."""
    scene = await OneEvent.of(tmp_path, None, actions=ACTIONS)
    scene.send(WHOLE[:12])
    await break_off(scene, "trail-1")
    scene.clock.advance(hours=1)
    scene.send(WHOLE)
    await end_attempt(scene, "not confirmed")
    scene.send(DAMAGED)
    assert (await scene.retried()).status.reason == "DocumentInDoubt"
    assert sent(scene.newest()) == content(WHOLE)

    assert await scene.ended(WHOLE[:12]) == IN_DOUBT

    assert scene.deleted == []


@NOT_CONFIRMED
async def test_nor_is_one_with_a_fault_before_a_retry(tmp_path: Path, how: str) -> None:
    scene = await OneEvent.of(tmp_path, None, actions=ACTIONS)
    scene.send(DAMAGED)
    await end_attempt(scene, how)

    assert await scene.ended(WHOLE[:12]) == IN_DOUBT

    assert scene.deleted == []
    assert await scene.ended_after_retry(WHOLE) == SUCCEEDED


@pytest.mark.parametrize("how", ["not confirmed", "overdue", "unreachable"])
async def test_what_a_retry_accepts_counts_after_an_attempt_that_ends_early(tmp_path: Path, how: str) -> None:
    scene = await OneEvent.of(tmp_path)
    scene.send(WHOLE[:12])
    await scene.run(scene.first)
    await scene.lose_and_fail(WHOLE)
    scene.lose_trail()
    await retry_by_a_person(scene)
    await end_attempt(scene, how)

    assert await scene.ended(WHOLE) == SUCCEEDED


async def test_so_does_a_shorter_one_that_may_be_rendered(tmp_path: Path) -> None:
    scene = await OneEvent.of(tmp_path, None, **DELAYED, statuses=["Completed", "Rejected"])
    scene.envelope.status = EnvelopeStatus.REJECTED
    await scene.run(scene.first)
    await scene.lose_and_fail(WHOLE[:12])
    scene.lose_trail()
    await retry_by_a_person(scene)
    await end_attempt(scene, "unreachable")

    assert await scene.ended(WHOLE[:12]) == SUCCEEDED


async def test_a_retry_accepts_other_content_of_the_same_length(tmp_path: Path) -> None:
    scene = await OneEvent.of(tmp_path)
    await scene.run(scene.first)
    await scene.lose_and_fail(OTHER_WHOLE)

    assert await scene.ended_after_retry(OTHER_WHOLE) == SUCCEEDED

    assert scene.stored == OTHER_WHOLE


@WITH_OR_WITHOUT_KEY
async def test_a_shorter_file_that_is_back_in_its_place_counts_only_after_a_retry(
    tmp_path: Path, *, signer: Any
) -> None:
    """A volume was absent for a while. eSignAnyWhere sends the whole document since then."""
    scene = await OneEvent.of(tmp_path, signer)
    scene.send(WHOLE[:12])
    await scene.run(scene.first)
    remove_file(scene)
    scene.clock.advance(hours=721)
    scene.send(WHOLE)
    first = await scene.run(scene.first)
    while sent(first) is None:
        first = await scene.retried()
    (folder,) = {each.parent for each in scene.folders["dms"].rglob("counterfoil.json")}
    (folder / "Document" / "file-1.pdf").write_bytes(WHOLE[:12])

    assert await scene.ended(WHOLE) == IN_DOUBT

    assert scene.deleted == []
    assert "it may have been cut: compare both before a retry" in (scene.newest().status.message or "")


async def test_the_document_of_another_event_with_the_same_length_keeps_the_envelope(tmp_path: Path) -> None:
    scene = OneFolder(tmp_path)
    scene.envelope.contents["file-1"] = WHOLE
    await scene.run(scene.first)
    await scene.run(scene.second)
    remove_file(scene)
    scene.clock.advance(hours=721)
    scene.envelope.contents["file-1"] = OTHER_WHOLE
    assert sent(await scene.end(scene.first)) == content(OTHER_WHOLE)
    scene.envelope.contents["file-1"] = WHOLE

    second = await scene.end(scene.second)

    assert (second.status.phase, second.status.reason) == IN_DOUBT
    assert scene.deleted == []


async def test_a_first_download_beside_an_earlier_file_counts_although_the_second_one_is_shorter(
    tmp_path: Path,
) -> None:
    scene = await OneEvent.of(tmp_path, None, actions=ACTIONS)
    scene.send(WHOLE[:8])
    await break_off(scene, "trail-1")
    scene.envelope.in_turn["file-1"] = iter([WHOLE, WHOLE[:12]])
    assert (await scene.retried()).status.reason == "TransferBroken"
    assert sent(scene.newest()) == content(WHOLE)

    assert await scene.ended(WHOLE[:12]) == IN_DOUBT

    assert scene.deleted == []


async def test_a_document_at_which_an_attempt_ends_is_replaced_by_nothing_shorter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The archive can't be read when the signatures are checked."""
    scene = await OneEvent.of(tmp_path, None, actions=ACTIONS)

    async def examine(*_: object, **__: object) -> None:
        raise ArchiveUnavailable("ArchiveUnreachable", "It does not answer.")

    with monkeypatch.context() as patched:
        patched.setattr(scene.examiner, "examine", examine)
        assert (await scene.reconcile()).status.reason == "ArchiveUnreachable"
    assert sent(scene.newest()) == content(WHOLE)

    assert await scene.ended(WHOLE[:12]) == IN_DOUBT

    assert scene.deleted == []


@pytest.mark.parametrize("history", HISTORY_FAILS)
async def test_what_was_read_back_binds_after_a_404_that_no_history_explains(
    tmp_path: Path, history: str
) -> None:
    scene = await OneEvent.of(tmp_path, None, actions=ACTIONS)
    scene.envelope.but("download trail-1", missing()).but("history", HISTORY_FAILS[history])
    assert (await scene.run(scene.first)).status.phase is Phase.ARCHIVING
    scene.envelope.problems.clear()

    assert await scene.ended(WHOLE[:12]) == IN_DOUBT

    assert scene.deleted == []


async def test_a_sound_document_binds_after_another_one_without_a_required_signature_that_is_not_confirmed(
    tmp_path: Path,
) -> None:
    """The volume returns without what was written last."""
    scene = await OneEvent.of(tmp_path, None, actions=ACTIONS)
    scene.require_signatures()
    scene.examiner.found[WHOLE[:12]] = scene.examiner.found[WHOLE]
    scene.send(DAMAGED)
    trail = scene.envelope.contents.pop("trail-1")
    scene.envelope.contents |= {"file-2": WHOLE, "trail-1": trail}
    mounts = []
    scene.envelope.meanwhile["download trail-1"] = lambda: mounts.append(unmount(scene.folders["dms"]))
    event = await scene.run(scene.first)
    assert (sent(event, "file-2"), event.status.phase) == (content(WHOLE), Phase.ARCHIVING)
    mounts[0]()
    for each in list(scene.folders["dms"].rglob("file-*")):
        each.unlink()
    scene.envelope.contents["file-2"] = WHOLE[:12]

    assert await scene.ended(WHOLE) == IN_DOUBT

    assert scene.deleted == []


@pytest.mark.parametrize(
    ("status", "accepted"),
    [(EnvelopeStatus.COMPLETED, OTHER_WHOLE), (EnvelopeStatus.REJECTED, WHOLE[:12])],
    ids=["of the same length", "shorter, may be rendered"],
)
async def test_what_a_retry_accepts_counts_after_a_manifest_that_could_not_be_written(
    tmp_path: Path, status: EnvelopeStatus, accepted: bytes
) -> None:
    scene = await OneEvent.of(tmp_path, None, **DELAYED, statuses=["Completed", "Rejected"])
    scene.envelope.status = status
    await scene.run(scene.first)
    await scene.lose_and_fail(accepted)
    await retry_by_a_person(scene)
    scene.lose_trail()
    (hashes,) = scene.folders["dms"].rglob("counterfoil.sha256")

    def put_folder_in_the_way() -> None:
        hashes.unlink()
        (hashes / "in the way").mkdir(parents=True)

    scene.envelope.meanwhile["download trail-1"] = put_folder_in_the_way
    assert (await scene.run(scene.first)).status.reason == "NameOccupied"
    shutil.rmtree(hashes)

    assert await scene.ended_after_retry(accepted) == SUCCEEDED

    assert scene.stored == accepted


@pytest.mark.parametrize("how", ["read back", "not confirmed"])
@pytest.mark.parametrize("refused", [Rejected(422, "Invalid", "no"), TooLarge(413, "413", "too large")])
@pytest.mark.parametrize("times", [1, 2], ids=["once", "also with names and places"])
async def test_what_an_attempt_was_sent_binds_after_its_status_was_refused(
    tmp_path: Path, how: str, refused: Rejected, times: int
) -> None:
    """The document is lost meanwhile: without its place in the status, a file there is a third party's."""
    scene = await OneEvent.of(tmp_path, None, actions=ACTIONS)
    mounts = []

    def refuse() -> None:
        scene.kube.fail("patch_status", *[refused] * times)
        if how == "not confirmed":
            mounts.append(unmount(scene.folders["dms"]))

    scene.envelope.but("download trail-1", EsawUnreachable("connect"))
    scene.envelope.meanwhile["download trail-1"] = refuse
    assert (await scene.run(scene.first)).status.phase is Phase.FAILED
    for mount in mounts:
        mount()
    scene.envelope.problems.clear()
    for each in list(scene.folders["dms"].rglob("file-1.pdf")):
        each.unlink()

    assert await scene.ended_after_retry(WHOLE[:12]) == IN_DOUBT

    assert scene.deleted == []
    assert await scene.ended_after_retry(WHOLE) == SUCCEEDED


async def test_a_manifest_names_what_was_archived_although_the_status_of_that_was_refused(
    tmp_path: Path,
) -> None:
    scene = await OneEvent.of(tmp_path)
    scene.envelope.meanwhile["download trail-1"] = lambda: scene.kube.fail(
        "patch_status", Rejected(422, "Invalid", "no")
    )
    assert (await scene.run(scene.first)).status.reason == "StatusRefused"
    remove_file(scene)

    assert await scene.ended_after_retry(WHOLE[:12]) == IN_DOUBT

    assert scene.deleted == []


@pytest.mark.parametrize("how", ["unreachable", "not confirmed"])
@pytest.mark.parametrize("late", [EnvelopeStatus.ACTIVE, EnvelopeStatus.EXPIRED, EnvelopeStatus.REJECTED])
async def test_what_was_sent_of_a_completed_envelope_binds_after_an_answer_with_another_status(
    tmp_path: Path, how: str, late: EnvelopeStatus
) -> None:
    """An earlier status, for example, may come from a replica that is late."""
    scene = await OneEvent.of(tmp_path, None, actions=ACTIONS, statuses=["Completed", "Expired", "Rejected"])
    await end_attempt(scene, how)
    scene.envelope.but("download trail-1", EsawUnreachable("connect"))
    assert (await scene.end(scene.first)).status.reason == "DeadlineExceeded"
    scene.envelope.problems.clear()
    await retry_by_a_person(scene)
    scene.envelope.status = late
    event = await scene.run(scene.first)
    assert (event.status.phase, event.status.reason) == (Phase.VALIDATING, "StillActive")
    assert f"is {late}. It was Completed before" in (event.status.message or "")
    scene.envelope.status = EnvelopeStatus.COMPLETED
    remove_file(scene)

    assert await scene.ended(WHOLE[:12]) == IN_DOUBT

    assert scene.deleted == []


@pytest.mark.parametrize("wrong", [EnvelopeStatus.REJECTED, EnvelopeStatus.CANCELED])
@pytest.mark.parametrize("meanwhile", [None, EnvelopeStatus.ACTIVE])
async def test_one_answer_with_a_wrong_final_status_does_not_bind_an_event_without_files(
    tmp_path: Path, wrong: EnvelopeStatus, meanwhile: EnvelopeStatus | None
) -> None:
    scene = await OneEvent.of(tmp_path, None, actions=ACTIONS)
    scene.envelope.status = wrong
    assert (await scene.run(scene.first)).status.reason == "UnexpectedStatus"
    await retry_by_a_person(scene)
    if meanwhile is not None:
        scene.envelope.status = meanwhile
        await scene.run(scene.first)
    scene.envelope.status = EnvelopeStatus.COMPLETED

    assert await scene.ended(WHOLE) == SUCCEEDED


async def test_another_final_status_binds_an_event_without_files_while_another_event_has_some(
    tmp_path: Path,
) -> None:
    """A late answer must not let a cut download of one event replace what another one archived."""
    scene = OneFolder(tmp_path)
    scene.change(**DELAYED, statuses=["Completed", "Rejected"])
    scene.envelope.contents["file-1"] = WHOLE
    await scene.run(scene.first)
    scene.envelope.but("files", EsawUnreachable("connect"))
    assert (await scene.end(scene.second)).status.reason == "DeadlineExceeded"
    scene.envelope.problems.clear()
    await retry_by_a_person(scene)
    scene.envelope.status = EnvelopeStatus.REJECTED
    scene.envelope.contents["file-1"] = WHOLE[:12]

    second = await scene.run(scene.second)

    assert (second.status.phase, second.status.reason) == (Phase.VALIDATING, "StillActive")
    assert second.status.documents == ()
    assert scene.contents("dms")["file-1.pdf"] == WHOLE


async def test_a_person_lets_another_final_status_count_and_what_was_archived_stays_known(
    tmp_path: Path,
) -> None:
    scene = await OneEvent.of(tmp_path, None, actions=ACTIONS, statuses=["Completed", "Rejected"])
    scene.envelope.status = EnvelopeStatus.REJECTED
    scene.envelope.but("download trail-1", EsawUnreachable("connect"))
    assert (await scene.end(scene.first)).status.reason == "DeadlineExceeded"
    scene.envelope.problems.clear()
    scene.envelope.status = EnvelopeStatus.COMPLETED
    await retry_by_a_person(scene)
    event = await scene.end(scene.first)
    assert (event.status.reason, scene.deleted) == ("DeadlineExceeded", [])
    assert "is Completed. It was Rejected before" in (event.status.message or "")
    remove_file(scene)

    assert await scene.ended_after_retry(WHOLE[:12]) == IN_DOUBT

    assert await scene.ended(WHOLE) == IN_DOUBT
    assert await scene.ended_after_retry(WHOLE) == SUCCEEDED


@pytest.mark.parametrize(
    "problem",
    [Unavailable(0, "", "no answer"), Unavailable(503, "", "no leader"), Forbidden(403, "Forbidden", "no")],
    ids=["no answer", "unavailable", "forbidden"],
)
async def test_what_was_read_back_binds_after_a_refusal_of_the_key_that_could_not_be_recorded(
    tmp_path: Path, problem: ApiError
) -> None:
    scene = await OneEvent.of(tmp_path, None, actions=ACTIONS)
    scene.envelope.but("download trail-1", HttpStatusError(401, "ERR0001"))
    scene.envelope.meanwhile["download trail-1"] = lambda: scene.kube.fail("patch_status", problem)
    event = await scene.reconcile()
    assert (event.status.phase, event.status.reason) == (Phase.ARCHIVING, "ApiServerTrouble")
    scene.envelope.problems.clear()
    remove_file(scene)

    assert await scene.ended(WHOLE[:12]) == IN_DOUBT

    assert scene.deleted == []


async def test_the_next_attempt_records_the_refusal_of_the_key(tmp_path: Path) -> None:
    scene = await OneEvent.of(tmp_path, None, actions=ACTIONS)
    scene.envelope.but("download trail-1", HttpStatusError(401, "ERR0001"))
    scene.envelope.meanwhile["download trail-1"] = lambda: scene.kube.go_away("patch_status", 1)
    await scene.reconcile()

    event = await scene.retried()

    assert (event.status.phase, event.status.reason) == (Phase.AWAITING_CONSENT, "TokenRejected")


@pytest.mark.parametrize("how", ["unreachable", "not confirmed", "overdue"])
@pytest.mark.parametrize(
    ("file", "status", "whole"),
    [
        ("legal-1", EnvelopeStatus.COMPLETED, LEGAL),
        ("file-1", EnvelopeStatus.REJECTED, WHOLE),
        ("file-1", EnvelopeStatus.CANCELED, WHOLE),
    ],
    ids=["a legal document", "a rejected envelope", "a canceled envelope"],
)
async def test_what_may_be_rendered_binds_after_an_attempt_that_ends_early(
    tmp_path: Path, file: str, status: EnvelopeStatus, whole: bytes, how: str
) -> None:
    scene = await OneEvent.of(tmp_path, None, actions=ACTIONS, statuses=["Completed", "Rejected", "Canceled"])
    scene.envelope.status = status
    scene.envelope.contents |= {"legal-1": LEGAL, "legal-2": LEGAL}
    await end_attempt(scene, how, at="legal-2")
    scene.envelope.contents[file] = whole[:12]

    event = await scene.end(scene.first)

    assert (event.status.phase, event.status.reason) == IN_DOUBT
    assert scene.deleted == []


@NOT_CONFIRMED
async def test_an_audit_trail_that_was_sent_binds_no_later_one(tmp_path: Path, how: str) -> None:
    scene = await OneEvent.of(tmp_path, None, actions=ACTIONS)
    scene.envelope.contents["legal-1"] = LEGAL
    await end_attempt(scene, how, at="legal-1")
    assert "download trail-1" in scene.envelope.asked
    scene.envelope.contents["trail-1"] = b"%PDF-"

    assert await scene.ended(WHOLE) == SUCCEEDED


@pytest.mark.parametrize("times", [1, 2], ids=["once", "also with names and places"])
async def test_a_legal_document_that_was_read_back_binds_after_the_status_was_refused(
    tmp_path: Path, times: int
) -> None:
    scene = await OneEvent.of(tmp_path, None, actions=ACTIONS)
    scene.envelope.contents |= {"legal-1": LEGAL, "legal-2": LEGAL}
    refused = [Rejected(422, "Invalid", "no")] * times
    scene.envelope.but("download legal-2", EsawUnreachable("connect"))
    scene.envelope.meanwhile["download legal-2"] = lambda: scene.kube.fail("patch_status", *refused)
    assert (await scene.run(scene.first)).status.phase is Phase.FAILED
    scene.envelope.problems.clear()
    for each in list(scene.folders["dms"].rglob("*.pdf")):
        each.unlink()
    scene.envelope.contents["legal-1"] = LEGAL[:12]

    assert await scene.ended_after_retry(WHOLE) == IN_DOUBT

    assert scene.deleted == []
    scene.envelope.contents["legal-1"] = LEGAL
    assert await scene.ended_after_retry(WHOLE) == SUCCEEDED


@pytest.mark.parametrize("late", [EnvelopeStatus.ACTIVE, EnvelopeStatus.EXPIRED, EnvelopeStatus.REJECTED])
async def test_what_was_read_back_of_a_completed_envelope_binds_after_another_status_while_it_is_archived(
    tmp_path: Path, late: EnvelopeStatus
) -> None:
    scene = await OneEvent.of(tmp_path, None, actions=ACTIONS, statuses=["Completed", "Expired", "Rejected"])
    assert (await break_off(scene, "trail-1")).status.phase is Phase.ARCHIVING
    scene.send(WHOLE[:12])
    scene.envelope.status = late
    assert (await scene.retried()).status.reason == "StillActive"
    scene.envelope.status = EnvelopeStatus.COMPLETED

    assert await scene.ended(WHOLE[:12]) == IN_DOUBT

    assert (scene.deleted, scene.stored) == ([], WHOLE)


async def test_an_expired_envelope_is_archived_in_no_other_status_than_was_validated(tmp_path: Path) -> None:
    scene = await OneEvent.of(tmp_path, None, actions=ACTIONS, statuses=["Completed", "Expired"])
    scene.envelope.status = EnvelopeStatus.EXPIRED
    scene.envelope.but("files", EsawUnreachable("connect"))
    assert (await scene.run(scene.first)).status.phase is Phase.COLLECTING
    scene.envelope.problems.clear()
    scene.envelope.status = EnvelopeStatus.COMPLETED

    assert (await scene.retried()).status.reason == "StillActive"

    assert await scene.ended(WHOLE) == SUCCEEDED
    manifest = json.loads(scene.contents("dms")["counterfoil.json"])
    assert manifest["envelope"]["status"] == "Completed"


@pytest.mark.parametrize("number", [50, 130])
async def test_an_attempt_with_many_files_that_is_not_confirmed_keeps_each_content(
    tmp_path: Path, number: int
) -> None:
    scene = await OneEvent.of(tmp_path, None, actions=ACTIONS)
    trail = scene.envelope.contents.pop("trail-1")
    scene.envelope.contents |= {f"file-{each}": WHOLE for each in range(2, 141)} | {"trail-1": trail}
    await end_attempt(scene, "not confirmed")
    scene.envelope.contents[f"file-{number}"] = WHOLE[:12]
    for stored in scene.folders["dms"].rglob(f"file-{number}.*"):
        stored.unlink()

    assert await scene.ended(WHOLE) == IN_DOUBT

    assert scene.deleted == []

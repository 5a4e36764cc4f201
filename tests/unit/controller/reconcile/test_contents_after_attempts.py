"""Attempts, retries and manifests of others bind the next downloads of a file."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from counterfoil.esaw.errors import EsawUnreachable
from counterfoil.resources import EnvelopeEvent, EnvelopeStatus, Phase
from counterfoil.resources.envelopeevent import Provisional
from tests.support.builders import ENVELOPE
from tests.support.scenes.copied_events import WORM
from tests.support.scenes.events_of_envelope import (
    ACTIONS,
    BROKEN,
    CUT,
    DAMAGED,
    DELAYED,
    IN_DOUBT,
    OTHER,
    WHOLE,
    WITH_OR_WITHOUT_KEY,
    OneEvent,
    OneFolder,
    TwoFolders,
    break_off,
    marks,
    remove_file,
    retry_by_a_person,
)
from tests.support.signing_keys import a_signer


async def test_a_cut_document_of_an_attempt_does_not_count_beside_the_sealed_one_after_a_kill(
    tmp_path: Path,
) -> None:
    """The controller was killed after the manifest, before the status was stored."""
    scene = await OneEvent.of(tmp_path, a_signer())
    scene.send(WHOLE[:12])
    before = (await break_off(scene, "trail-1")).status
    scene.send(WHOLE)
    assert (await scene.retried()).status.reason == "CleanupDelayed"
    scene.store(before)

    scene.clock.advance(hours=721)
    assert await scene.ended(WHOLE[:12]) == IN_DOUBT

    assert scene.stored == WHOLE
    assert scene.deleted == []


@pytest.mark.parametrize("length", [12, 20], ids=["the same", "another"])
async def test_the_sealed_document_of_a_removed_event_binds_one_that_has_read_back_a_cut_one(
    tmp_path: Path, length: int
) -> None:
    scene = OneFolder(tmp_path)
    scene.sign_with(a_signer())
    scene.change(actions=ACTIONS, cleanup={"policy": "Keep"})
    scene.envelope.contents["file-1"] = WHOLE[:12]
    scene.envelope.but("download trail-1", EsawUnreachable("connect"))
    await scene.run(scene.second)
    scene.envelope.problems.clear()
    scene.envelope.contents["file-1"] = WHOLE
    assert (await scene.run(scene.first)).status.reason == "ArchivedAndKept"
    await scene.kube.delete(EnvelopeEvent, scene.first)
    scene.change(actions=ACTIONS)
    scene.envelope.contents["file-1"] = WHOLE[:length]

    second = await scene.end(scene.second)

    assert (second.status.phase, second.status.reason) == IN_DOUBT
    assert scene.contents("dms")["file-1.pdf"] == WHOLE
    assert scene.deleted == []


@WITH_OR_WITHOUT_KEY
async def test_a_longer_document_that_a_retry_accepted_is_replaced_by_nothing_shorter(
    tmp_path: Path, *, signer: Any
) -> None:
    scene = await OneEvent.of(tmp_path, signer)
    scene.send(WHOLE[:12])
    await scene.run(scene.first)
    await scene.lose_and_fail(WHOLE)
    await retry_by_a_person(scene)
    scene.lose_trail()
    first = await break_off(scene, "trail-1")
    assert scene.stored == WHOLE
    assert marks(first)["file-1"] is Provisional.NO_MANIFEST

    assert await scene.ended(WHOLE[:20]) == IN_DOUBT

    assert scene.stored == WHOLE
    assert await scene.ended_after_retry(WHOLE) == (Phase.SUCCEEDED, "ArchivedAndDeleted")


@pytest.mark.parametrize("status", ["Rejected", "Canceled"])
async def test_nor_is_a_longer_one_of_an_envelope_that_was_not_signed_by_all(
    tmp_path: Path, status: str
) -> None:
    scene = await OneEvent.of(tmp_path, None, **DELAYED, statuses=["Completed", status])
    scene.envelope.status = EnvelopeStatus(status)
    scene.send(WHOLE[:12])
    await scene.run(scene.first)
    for each in scene.folders["dms"].rglob("*.pdf"):
        each.unlink()
    scene.send(WHOLE)
    scene.clock.advance(hours=721)
    await break_off(scene, "trail-1")
    assert scene.stored == WHOLE

    assert await scene.ended(WHOLE[:20]) == IN_DOUBT

    assert scene.stored == WHOLE


@WITH_OR_WITHOUT_KEY
async def test_the_doubt_about_an_accepted_document_does_not_count_for_the_archived_one(
    tmp_path: Path, *, signer: Any
) -> None:
    scene = await OneEvent.of(tmp_path, signer)
    await scene.run(scene.first)
    await scene.lose_and_fail(WHOLE[:12])
    await retry_by_a_person(scene)
    scene.send(DAMAGED)
    scene.lose_trail()
    first = await break_off(scene, "trail-1")
    assert marks(first)["file-1"] is None

    assert await scene.ended(WHOLE[:12]) == IN_DOUBT

    assert scene.deleted == []


async def test_a_damaged_document_replaces_no_hash_of_one_that_was_read_back(tmp_path: Path) -> None:
    scene = await OneEvent.of(tmp_path, None, actions=ACTIONS)
    await break_off(scene, "trail-1")
    scene.send(DAMAGED)
    first = await break_off(scene, "trail-1")
    assert marks(first)["file-1"] is Provisional.NO_MANIFEST

    assert await scene.ended(WHOLE) == (Phase.SUCCEEDED, "ArchivedAndDeleted")

    assert scene.stored == WHOLE


async def test_a_retry_because_of_an_outage_accepts_no_other_document(tmp_path: Path) -> None:
    """A document in doubt was downloaded again before the outage. No message has named another content."""
    scene = await OneEvent.of(tmp_path, None, actions=ACTIONS)
    scene.examiner.found[CUT] = BROKEN
    scene.send(CUT)
    assert (await scene.run(scene.first)).status.reason == "DocumentInDoubt"
    scene.envelope.but("files", EsawUnreachable("connect"))
    assert (await scene.ended(CUT))[0] is Phase.FAILED
    scene.envelope.problems.clear()
    await retry_by_a_person(scene)
    assert all(each.other_content is None for each in scene.newest().status.documents)

    assert await scene.ended(OTHER) == IN_DOUBT

    assert scene.deleted == []


async def test_a_second_download_that_is_shorter_than_the_first_one_is_not_stored(tmp_path: Path) -> None:
    """Beside an earlier file, one attempt reads the document twice."""
    scene = await OneEvent.of(tmp_path, None, actions=ACTIONS)
    scene.send(WHOLE[:10])
    await break_off(scene, "trail-1")
    scene.envelope.in_turn["file-1"] = iter([WHOLE, WHOLE[:20]])

    assert await scene.ended(WHOLE) == (Phase.SUCCEEDED, "ArchivedAndDeleted")

    assert scene.stored == WHOLE


async def test_no_hash_of_an_attempt_recognises_a_rejected_document(tmp_path: Path) -> None:
    scene = await OneEvent.of(tmp_path, None, actions=ACTIONS, statuses=["Completed", "Rejected"])
    scene.envelope.status = EnvelopeStatus.REJECTED
    scene.send(WHOLE[:20])
    await break_off(scene, "trail-1")
    scene.envelope.in_turn["file-1"] = iter([WHOLE[:15]])

    assert await scene.ended(WHOLE) == (Phase.SUCCEEDED, "ArchivedAndDeleted")

    assert scene.stored == WHOLE


async def test_a_damaged_document_that_require_refused_is_replaced_after_a_retry(tmp_path: Path) -> None:
    """It is longer than the whole one, and has no signatures."""
    scene = await OneEvent.of(tmp_path, None, actions=ACTIONS)
    scene.require_signatures()
    assert await scene.ended(DAMAGED) == (Phase.FAILED, "SignatureBroken")
    await retry_by_a_person(scene)
    assert await scene.ended(WHOLE) == IN_DOUBT

    assert await scene.ended_after_retry(WHOLE) == (Phase.SUCCEEDED, "ArchivedAndDeleted")

    assert scene.stored == WHOLE


async def test_a_retry_takes_no_shorter_document_of_an_earlier_manifest(tmp_path: Path) -> None:
    """Somebody restores the folder of an earlier backup, as the message advises."""
    scene = await OneEvent.of(tmp_path, a_signer())
    scene.send(WHOLE[:12])
    await scene.run(scene.first)
    backup = shutil.copytree(scene.folders["dms"], tmp_path / "backup")
    await scene.lose_and_fail(WHOLE)
    scene.change(cleanup={"policy": "Delete", "after": "1440h"})
    await retry_by_a_person(scene)
    assert (await scene.reconcile_until_quiet()).status.reason == "CleanupDelayed"
    assert scene.stored == WHOLE
    shutil.copytree(backup, scene.folders["dms"], dirs_exist_ok=True)
    scene.clock.advance(hours=1441)
    assert await scene.ended(WHOLE[:5]) == IN_DOUBT

    assert await scene.ended_after_retry(WHOLE) == (Phase.SUCCEEDED, "ArchivedAndDeleted")

    assert scene.stored == WHOLE


async def test_an_event_in_doubt_about_another_file_keeps_its_whole_document_in_the_copy(
    tmp_path: Path,
) -> None:
    scene = TwoFolders(tmp_path)
    scene.change(WORM, actions=ACTIONS, **scene.callback)
    fault = b"%PDF-second, with a fault"
    scene.examiner.found[fault] = BROKEN
    scene.envelope.contents |= {"file-1": WHOLE, "file-2": fault}
    first = await scene.end(scene.first)
    assert (first.status.phase, first.status.reason) == IN_DOUBT
    assert scene.contents("worm")["file-1.pdf"] == WHOLE
    scene.envelope.contents |= {"file-1": WHOLE[:12], "file-2": b"%PDF-second, signed again"}

    second = await scene.end(scene.second)

    assert second.status.phase is Phase.FAILED
    assert scene.contents("worm")["file-1.pdf"] == WHOLE
    assert scene.deleted == []


@WITH_OR_WITHOUT_KEY
async def test_a_document_whose_manifest_could_not_be_written_is_replaced_by_nothing_shorter(
    tmp_path: Path, *, signer: Any
) -> None:
    scene = await OneEvent.of(tmp_path, signer, actions=ACTIONS)
    in_the_way = scene.folders["dms"] / "acme" / ENVELOPE / "counterfoil.sha256"
    scene.envelope.meanwhile["download trail-1"] = in_the_way.mkdir
    first = await scene.run(scene.first)
    assert (first.status.phase, first.status.reason) == (Phase.FAILED, "NameOccupied")
    assert marks(first)["file-1"] is Provisional.NO_MANIFEST
    in_the_way.rmdir()

    assert await scene.ended_after_retry(WHOLE[:12]) == IN_DOUBT

    assert scene.stored == WHOLE
    assert scene.deleted == []


async def test_a_longer_sealed_document_of_a_removed_event_is_replaced_by_no_archived_shorter_one(
    tmp_path: Path,
) -> None:
    scene = OneFolder(tmp_path)
    scene.sign_with(None)
    scene.envelope.contents["file-1"] = WHOLE[:12]
    await scene.run(scene.first)
    remove_file(scene)
    scene.sign_with(a_signer())
    scene.envelope.contents["file-1"] = WHOLE
    assert (await scene.run(scene.second)).status.reason == "CleanupDelayed"
    await scene.kube.delete(EnvelopeEvent, scene.second)
    scene.envelope.contents["file-1"] = WHOLE[:12]
    scene.clock.advance(hours=721)

    first = await scene.end(scene.first)

    assert (first.status.phase, first.status.reason) == IN_DOUBT
    assert scene.contents("dms")["file-1.pdf"] == WHOLE
    assert scene.deleted == []


@WITH_OR_WITHOUT_KEY
async def test_a_fault_that_is_found_later_is_known_after_a_retry(tmp_path: Path, *, signer: Any) -> None:
    """The archived document is longer than the whole one, and its fault was not found at first."""
    scene = await OneEvent.of(tmp_path, signer)
    del scene.examiner.found[DAMAGED]
    scene.send(DAMAGED)
    await scene.run(scene.first)
    scene.examiner.found[DAMAGED] = BROKEN
    scene.lose_trail()
    scene.clock.advance(hours=721)
    assert await scene.ended(WHOLE) == IN_DOUBT
    assert marks(scene.newest())["file-1"] is Provisional.IN_DOUBT

    assert await scene.ended_after_retry(WHOLE) == (Phase.SUCCEEDED, "ArchivedAndDeleted")

    assert scene.stored == WHOLE


async def test_nor_does_an_attempt_bind_with_what_require_would_refuse(tmp_path: Path) -> None:
    scene = await OneEvent.of(tmp_path, None, actions=ACTIONS)
    scene.require_signatures()
    scene.send(DAMAGED)
    await break_off(scene, "trail-1")
    assert await scene.ended(WHOLE) == IN_DOUBT

    assert await scene.ended_after_retry(WHOLE) == (Phase.SUCCEEDED, "ArchivedAndDeleted")

"""Which content of a download counts: the archived one, or one that no manifest names yet."""

import hashlib
import json
import re
from itertools import cycle
from pathlib import Path
from typing import Any

import msgspec
import pytest

from counterfoil.archives.proof import documents_digest, provisional
from counterfoil.esaw.errors import EsawUnreachable, HttpStatusError
from counterfoil.resources import (
    EnvelopeEvent,
    EnvelopeStatus,
    Phase,
    is_condition_true,
)
from counterfoil.resources.envelopeevent import FileKind, Provisional
from counterfoil.resources.reopening import reopened_status
from counterfoil.signatures.results import Signatures, State
from tests.support.builders import ENVELOPE
from tests.support.fakes.reconcile_context import a_probed_archive
from tests.support.scenes.copied_events import WORM
from tests.support.scenes.events_of_envelope import (
    ACTIONS,
    BROKEN,
    CUT,
    DELAYED,
    LATER_TRAIL,
    LEGAL,
    OTHER,
    OTHER_PATH,
    WITH_OR_WITHOUT_COPY,
    WITH_OR_WITHOUT_KEY,
    OneFolder,
    TwoFolders,
    archive_with_one_event,
    break_off,
    hash_of,
    legal_contents,
    marks,
    remove_file,
    retry_by_a_person,
    send_other_document,
)
from tests.support.signing_keys import a_signer


async def lose_and_archive_again(scene: OneFolder, lost: str, *, is_copied: bool) -> EnvelopeEvent:
    """Archive an envelope with one event, lose a file of it in the first archive, and let each download be
    cut from then on."""
    await archive_with_one_event(scene, is_copied=is_copied)
    (file,) = scene.folders["dms"].rglob(lost)
    file.unlink()
    send_other_document(scene)
    scene.clock.advance(hours=721)
    return await scene.end(scene.first)


@WITH_OR_WITHOUT_KEY
@WITH_OR_WITHOUT_COPY
@pytest.mark.parametrize("lost", ["counterfoil.json", "audit-trail.pdf"])
async def test_a_whole_document_with_the_stored_hash_is_replaced_by_no_download(
    tmp_path: Path, *, signer: Any, is_copied: bool, lost: str
) -> None:
    scene = OneFolder(tmp_path)
    scene.sign_with(signer)
    whole = scene.envelope.contents["file-1"]

    first = await lose_and_archive_again(scene, lost, is_copied=is_copied)

    assert first.status.reason == "ArchivedAndDeleted"
    assert scene.contents("dms")["file-1.pdf"] == whole
    assert scene.contents("worm").get("file-1.pdf", whole) == whole


@WITH_OR_WITHOUT_KEY
@WITH_OR_WITHOUT_COPY
async def test_a_download_with_another_hash_than_the_stored_one_is_no_truth(
    tmp_path: Path, *, signer: Any, is_copied: bool
) -> None:
    scene = OneFolder(tmp_path)
    scene.sign_with(signer)
    whole = scene.envelope.contents["file-1"]

    first = await lose_and_archive_again(scene, "file-1.pdf", is_copied=is_copied)

    assert (first.status.phase, first.status.reason) == (Phase.FAILED, "DocumentInDoubt")
    assert scene.deleted == []
    assert hash_of(first, "file-1") == hashlib.sha256(whole).hexdigest()
    assert "file-1.pdf" not in scene.contents("dms")
    assert scene.contents("worm").get("file-1.pdf", whole) == whole

    scene.envelope.contents["file-1"] = whole
    scene.store(reopened_status(first.status, reason="RetryRequested", message="", now=scene.clock.now()))
    first = await scene.end(scene.first)
    assert first.status.reason == "ArchivedAndDeleted"
    assert scene.contents("dms")["file-1.pdf"] == whole


async def lose_a_cut_document(scene: OneFolder) -> bytes:
    """Archive a cut download, lose it in the first archive, and let eSAW send the whole document from then
    on. Return the whole one."""
    await scene.kube.delete(EnvelopeEvent, scene.second)
    scene.change(**DELAYED)
    whole = send_other_document(scene)
    await scene.run(scene.first)
    remove_file(scene)
    scene.envelope.contents["file-1"] = whole
    scene.clock.advance(hours=721)
    return whole


async def test_only_a_retry_replaces_a_stored_hash_by_that_of_a_longer_document(tmp_path: Path) -> None:
    scene = OneFolder(tmp_path)
    whole = await lose_a_cut_document(scene)

    first = await scene.end(scene.first)

    assert (first.status.phase, first.status.reason) == (Phase.FAILED, "DocumentInDoubt")
    assert "other content than was archived" in (first.status.message or "")
    assert scene.deleted == []
    await retry_by_a_person(scene)
    first = await scene.end(scene.first)
    assert first.status.reason == "ArchivedAndDeleted"
    assert scene.contents("dms")["file-1.pdf"] == whole


async def test_a_longer_document_that_a_retry_accepted_is_archived_after_an_outage(tmp_path: Path) -> None:
    scene = OneFolder(tmp_path)
    whole = await lose_a_cut_document(scene)
    await scene.end(scene.first)
    await retry_by_a_person(scene)
    scene.envelope.but("download file-1", EsawUnreachable("connect"))
    await scene.reconcile_until_quiet()
    for _ in range(12):
        await scene.retried()
    # An impatient person changes nothing of that.
    await retry_by_a_person(scene)
    scene.envelope.problems.clear()

    first = await scene.end(scene.first)

    assert first.status.reason == "ArchivedAndDeleted"
    assert scene.contents("dms")["file-1.pdf"] == whole


async def test_a_retry_accepts_a_longer_document_until_the_envelope_is_archived(tmp_path: Path) -> None:
    scene = OneFolder(tmp_path)
    whole = await lose_a_cut_document(scene)
    await scene.end(scene.first)
    scene.change(cleanup={"policy": "Delete", "after": "1440h"})
    await retry_by_a_person(scene)
    first = await scene.reconcile_until_quiet()
    assert first.status.reason == "CleanupDelayed"
    assert scene.contents("dms")["file-1.pdf"] == whole
    remove_file(scene)
    scene.envelope.contents["file-1"] = whole + b" and more"
    scene.clock.advance(hours=1441)

    first = await scene.end(scene.first)

    assert (first.status.phase, first.status.reason) == (Phase.FAILED, "DocumentInDoubt")
    assert hash_of(first, "file-1") == hashlib.sha256(whole).hexdigest()
    assert scene.deleted == []


async def test_a_retry_before_the_event_failed_accepts_no_longer_document(tmp_path: Path) -> None:
    """No message has named one as an answer yet."""
    scene = OneFolder(tmp_path)
    await lose_a_cut_document(scene)
    await scene.run(scene.first)
    waiting = await scene.retried()
    assert (waiting.status.phase, waiting.status.reason) == (Phase.ARCHIVING, "DocumentInDoubt")
    await retry_by_a_person(scene)

    first = await scene.end(scene.first)

    assert (first.status.phase, first.status.reason) == (Phase.FAILED, "DocumentInDoubt")
    assert scene.deleted == []


async def lose_folder(scene: OneFolder, *, documents: int) -> dict[str, bytes]:
    """Archive an envelope with this number of documents, lose all of its files, and let eSAW send other
    documents from then on. Return the archived ones by their names."""
    await scene.kube.delete(EnvelopeEvent, scene.second)
    for number in range(1, documents + 1):
        scene.envelope.contents[f"file-{number}"] = f"%PDF-1.7 the whole document {number}".encode()
    await scene.run(scene.first)
    found = {name: content for name, content in scene.contents("dms").items() if name.startswith("file-")}
    for file in scene.folders["dms"].rglob("*"):
        if file.is_file() and not file.name.startswith(".counterfoil"):
            file.unlink()
    for number in range(1, documents + 1):
        scene.envelope.contents[f"file-{number}"] = f"%PDF-1.7 {number}".encode()
    scene.clock.advance(hours=721)
    return found


def put_back(message: str, archived: dict[str, bytes]) -> None:
    """Put each file that the message names in the place that it names."""
    for place in map(Path, re.findall(r"Its place is 'file://([^']+)'", message)):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(archived[place.name])


@pytest.mark.parametrize(
    ("documents", "others"), [(2, None), (3, None), (4, "1 other file"), (6, "3 other files")]
)
async def test_the_first_documents_in_doubt_are_named_with_their_places_and_the_others_counted(
    tmp_path: Path, documents: int, others: str | None
) -> None:
    scene = OneFolder(tmp_path)
    archived = await lose_folder(scene, documents=documents)

    message = (await scene.end(scene.first)).status.message or ""

    for name, content in sorted(archived.items())[:3]:
        assert f"eSignAnyWhere sends '{name}' with other content than was archived" in message
        assert f"{len(content)} bytes and the SHA-256 {hashlib.sha256(content).hexdigest()}" in message
        assert f"/acme/{ENVELOPE}/Document/{name}'." in message
    assert message.count("with other content than was archived") == min(3, documents)
    assert f"{others} of status.documents" in message if others else "status.documents" not in message


async def test_the_advice_about_files_in_doubt_that_are_not_archived_ends_with_a_whole_archive(
    tmp_path: Path,
) -> None:
    """Follows the message of DocumentInDoubt: the lost files come back from a backup."""
    scene = OneFolder(tmp_path)
    archived = await lose_folder(scene, documents=2)
    message = (await scene.end(scene.first)).status.message or ""
    assert "not archived completely" in message
    assert "Do not delete the envelope" in message
    put_back(message, archived)
    await retry_by_a_person(scene)

    first = await scene.end(scene.first)

    assert first.status.reason == "ArchivedAndDeleted"
    assert {name: scene.contents("dms")[name] for name in archived} == archived
    assert await scene.faults("dms") == []


@WITH_OR_WITHOUT_COPY
async def test_two_stored_hashes_of_a_document_prove_nothing(tmp_path: Path, *, is_copied: bool) -> None:
    """Without a key. A manifest with our seal keeps the other content out of the archive."""
    scene = OneFolder(tmp_path)
    scene.sign_with(None)
    scene.change(*((WORM,) if is_copied else ()), **DELAYED)
    await scene.run(scene.first)
    (file,) = scene.folders["dms"].rglob("file-1.pdf")
    file.unlink()
    whole = send_other_document(scene)
    await scene.run(scene.second)
    scene.envelope.contents["file-1"] = whole
    scene.clock.advance(hours=721)

    first = await scene.end(scene.first)

    assert (first.status.phase, first.status.reason) == (Phase.FAILED, "DocumentInDoubt")
    assert scene.contents("dms")["file-1.pdf"] == whole
    assert scene.contents("worm").get("file-1.pdf", whole) == whole
    assert scene.deleted == []
    assert (await scene.end(scene.second)).status.reason == "ArchivedAndDeleted"


@pytest.mark.parametrize("is_copied", [False, True], ids=["first not copied", "first copied"])
@pytest.mark.parametrize("scene_type", [TwoFolders, OneFolder])
async def test_a_legal_document_that_was_cut_once_is_downloaded_again_before_it_is_copied(
    tmp_path: Path, scene_type: type[TwoFolders], *, is_copied: bool
) -> None:
    scene = scene_type(tmp_path)
    scene.change(WORM, **DELAYED, **scene.callback)
    scene.envelope.contents["legal-1"] = LEGAL
    if not is_copied:
        scene.break_archive("worm")
    await scene.run(scene.first)
    if not is_copied:
        scene.mend_archive("worm")
    for each in scene.folders["dms"].rglob("legal-1.pdf"):
        if scene_type is OneFolder:
            each.write_bytes(b"damaged")
    scene.envelope.contents["legal-1"] = LEGAL[:-5]
    scene.change(WORM, actions=ACTIONS, **scene.callback)
    second = await scene.run(scene.second)
    assert second.status.reason == "DocumentInDoubt"
    scene.envelope.contents["legal-1"] = LEGAL

    second = await scene.end(scene.second)

    assert second.status.reason == "ArchivedAndDeleted"
    assert legal_contents(scene, "worm") == legal_contents(scene, "dms") == {LEGAL}


@WITH_OR_WITHOUT_KEY
async def test_a_download_because_of_another_file_confirms_no_legal_document(
    tmp_path: Path, *, signer: Any
) -> None:
    scene = TwoFolders(tmp_path)
    scene.sign_with(signer)
    scene.envelope.contents["legal-1"] = LEGAL
    await scene.run(scene.first)
    whole, scene.envelope.contents["file-1"] = scene.envelope.contents["file-1"], CUT
    scene.examiner.found[CUT] = BROKEN
    scene.change(WORM, actions=ACTIONS, **scene.callback)
    assert (await scene.run(scene.second)).status.reason == "DocumentInDoubt"
    scene.envelope.contents |= {"file-1": whole, "legal-1": LEGAL[:-5]}

    second = await scene.end(scene.second)

    assert second.status.reason == "ArchivedAndDeleted"
    assert legal_contents(scene, "worm") == legal_contents(scene, "dms") == {LEGAL}


async def test_the_downloads_of_before_a_retry_confirm_no_file_after_it(tmp_path: Path) -> None:
    scene = TwoFolders(tmp_path)
    scene.change(**DELAYED, **scene.callback)
    await scene.run(scene.first)
    whole = send_other_document(scene)
    await scene.run(scene.second)
    scene.clock.advance(hours=721)
    second = await scene.end(scene.second)
    assert (second.status.phase, second.status.reason) == (Phase.FAILED, "DocumentInDoubt")
    scene.envelope.contents["file-1"] = whole
    scene.store(reopened_status(second.status, reason="RetryRequested", message="", now=scene.clock.now()))
    scene.envelope.but("files", EsawUnreachable("connect"))
    scene.clock.advance(hours=721)
    second = await scene.run(scene.second)
    assert (second.status.reason, second.status.attempts) == ("EsawUnreachable", 1)
    scene.envelope.problems.clear()

    second = await scene.end(scene.second)

    assert second.status.reason == "ArchivedAndDeleted"


async def test_a_legal_document_that_is_rendered_at_each_download_keeps_no_envelope(tmp_path: Path) -> None:
    scene = TwoFolders(tmp_path)
    scene.envelope.contents["legal-1"] = LEGAL
    await scene.run(scene.first)
    scene.envelope.contents["legal-1"] = LEGAL + b" again"
    scene.change(WORM, actions=ACTIONS, **scene.callback)
    await scene.run(scene.second)
    scene.envelope.contents["legal-1"] = LEGAL + b" and again"

    second = await scene.end(scene.second)

    assert second.status.reason == "ArchivedAndDeleted"


async def test_no_event_ends_by_a_later_one_while_its_legal_document_is_in_no_copy(tmp_path: Path) -> None:
    scene = TwoFolders(tmp_path)
    scene.envelope.contents["legal-1"] = LEGAL
    scene.break_archive("worm")
    await scene.run(scene.first)
    scene.mend_archive("worm")
    scene.envelope.contents["legal-1"] = LEGAL[:-5]
    scene.change(WORM, actions=ACTIONS, **scene.callback)
    assert (await scene.end(scene.second)).status.reason == "ArchivedAndDeleted"

    first = await scene.run(scene.first)
    if not first.status.phase.is_final:
        first = await scene.retried()

    assert first.status.reason != "ArchivedAlready"


async def test_the_hash_of_an_attempt_that_failed_proves_nothing(tmp_path: Path) -> None:
    """Its download may have been cut: until there is a manifest, each attempt downloads each file."""
    scene = OneFolder(tmp_path)
    scene.change(actions=ACTIONS)
    whole, scene.envelope.contents["file-1"] = scene.envelope.contents["file-1"], b"%PDF-contr"
    scene.envelope.but("download trail-1", EsawUnreachable("connect"))
    scene.event = scene.kube.stored(scene.first)
    await scene.reconcile_until_quiet()
    scene.envelope.problems.clear()
    scene.envelope.contents["file-1"] = whole

    await scene.end(scene.second)
    (file,) = scene.folders["dms"].rglob("file-1.pdf")
    assert file.read_bytes() == whole


async def test_a_document_in_doubt_stops_no_other_file(tmp_path: Path) -> None:
    scene = OneFolder(tmp_path)
    await scene.kube.delete(EnvelopeEvent, scene.second)
    scene.envelope.contents["file-2"] = b"%PDF-second contract"
    await scene.run(scene.first)
    for each in scene.folders["dms"].rglob("*.pdf"):
        each.unlink()
    send_other_document(scene)
    scene.clock.advance(hours=721)
    first = await scene.end(scene.first)

    assert (first.status.phase, first.status.reason) == (Phase.FAILED, "DocumentInDoubt")
    assert {"file-2.pdf", "audit-trail.pdf"} <= {each.name for each in scene.folders["dms"].rglob("*.pdf")}
    assert scene.deleted == []


def move(scene: OneFolder) -> None:
    """Let a person change the path, so that an envelope has another place when it is archived again."""
    root = scene.folders["dms"]
    scene.observe(a_probed_archive("dms", root=root, path=OTHER_PATH, version=70, generation=70))


async def move_and_archive_again(
    scene: OneFolder, sent: dict[str, bytes], *, is_restarted: bool = False
) -> EnvelopeEvent:
    """Let an archived event claim another place for its files, since one is lost. Return the event after its
    next attempt, for which eSignAnyWhere sends these files."""
    (trail,) = scene.folders["dms"].rglob("audit-trail.pdf")
    trail.unlink()
    move(scene)
    scene.clock.advance(hours=721)
    scene.envelope.but("download file-1", EsawUnreachable("connect"))
    await scene.run(scene.first)
    first = await scene.retried()
    assert first.status.phase is Phase.ARCHIVING
    assert not is_condition_true(first.status.conditions, "Archived")
    assert all("/new/" in str(each.location) for each in first.status.documents)
    assert {each.kind for each in first.status.documents if each.sha256} == {FileKind.DOCUMENT}
    scene.envelope.problems.clear()
    if is_restarted:
        scene.restarted()
    whole = dict(scene.envelope.contents)
    scene.envelope.contents |= sent
    first = await scene.retried()
    scene.envelope.contents |= whole
    return first


def at_new_place(scene: TwoFolders, name: str) -> set[bytes]:
    return {each.read_bytes() for each in (scene.folders["dms"] / "acme" / "new").rglob(name)}


WITH_OR_WITHOUT_RESTART = pytest.mark.parametrize("is_restarted", [False, True], ids=["no stop", "restart"])


@WITH_OR_WITHOUT_KEY
@WITH_OR_WITHOUT_COPY
@WITH_OR_WITHOUT_RESTART
async def test_a_cut_document_is_not_archived_at_another_place_either(
    tmp_path: Path, *, signer: Any, is_copied: bool, is_restarted: bool
) -> None:
    scene = OneFolder(tmp_path)
    scene.sign_with(signer)
    await archive_with_one_event(scene, is_copied=is_copied)
    whole = scene.envelope.contents["file-1"]

    first = await move_and_archive_again(scene, {"file-1": OTHER}, is_restarted=is_restarted)

    assert (first.status.phase, first.status.reason) == (Phase.ARCHIVING, "DocumentInDoubt")
    assert scene.deleted == []
    assert at_new_place(scene, "file-1.pdf") == set()
    assert scene.contents("worm").get("file-1.pdf", whole) == whole
    while not first.status.phase.is_final:
        first = await scene.retried()
    assert first.status.reason == "ArchivedAndDeleted"
    assert at_new_place(scene, "file-1.pdf") == {whole}


@WITH_OR_WITHOUT_KEY
@WITH_OR_WITHOUT_COPY
@WITH_OR_WITHOUT_RESTART
async def test_the_same_document_is_downloaded_archived_and_proved_at_another_place(
    tmp_path: Path, *, signer: Any, is_copied: bool, is_restarted: bool
) -> None:
    """The stored hash says which content a download must have, and not that the file is there."""
    scene = OneFolder(tmp_path)
    scene.sign_with(signer)
    await archive_with_one_event(scene, is_copied=is_copied)
    whole = scene.envelope.contents["file-1"]

    first = await move_and_archive_again(scene, {}, is_restarted=is_restarted)

    assert first.status.reason == "ArchivedAndDeleted"
    assert scene.deleted == [ENVELOPE]
    assert at_new_place(scene, "file-1.pdf") == {whole}
    assert first.status.archive is not None
    assert "/new/" in str(first.status.archive.manifest)
    assert all("/new/" in str(each.location) for each in first.status.documents)


async def test_legal_documents_and_audit_trails_may_be_rendered_again_at_another_place(
    tmp_path: Path,
) -> None:
    scene = OneFolder(tmp_path)
    await scene.kube.delete(EnvelopeEvent, scene.second)
    scene.envelope.contents["legal-1"] = LEGAL
    await scene.run(scene.first)

    rendered = {"legal-1": LEGAL + b" again", "trail-1": LATER_TRAIL}
    first = await move_and_archive_again(scene, rendered)

    assert first.status.reason == "ArchivedAndDeleted"
    assert at_new_place(scene, "legal-1.pdf") == {LEGAL + b" again"}
    assert at_new_place(scene, "audit-trail.pdf") == {LATER_TRAIL}


async def test_what_an_attempt_without_a_manifest_read_back_binds_no_longer_download_elsewhere(
    tmp_path: Path,
) -> None:
    """Without a manifest, the hash of a document may be that of a cut download."""
    scene = OneFolder(tmp_path)
    await scene.kube.delete(EnvelopeEvent, scene.second)
    whole, scene.envelope.contents["file-1"] = scene.envelope.contents["file-1"], OTHER
    scene.envelope.but("download trail-1", EsawUnreachable("connect"))
    first = await scene.run(scene.first)
    assert hash_of(first, "file-1") == hashlib.sha256(OTHER).hexdigest()
    scene.envelope.problems.clear()
    scene.envelope.contents["file-1"] = whole
    move(scene)
    scene.envelope.but("download file-1", EsawUnreachable("connect"))
    await scene.retried()
    first = await scene.retried()
    scene.envelope.problems.clear()

    first = await scene.retried()

    assert hash_of(first, "file-1") == hashlib.sha256(whole).hexdigest()
    assert at_new_place(scene, "file-1.pdf") == {whole}


@pytest.mark.parametrize(
    ("is_history_readable", "text"),
    [(True, "2 of its 2 files are known to be archived"), (False, "2 files of it are known to be archived.")],
)
async def test_no_message_says_that_a_document_is_at_a_place_where_it_was_not_archived(
    tmp_path: Path, text: str, *, is_history_readable: bool
) -> None:
    scene = OneFolder(tmp_path)
    await scene.kube.delete(EnvelopeEvent, scene.second)
    await scene.run(scene.first)
    first = await move_and_archive_again(scene, {"file-1": OTHER})
    assert first.status.reason == "DocumentInDoubt"
    scene.envelope.deleted = True
    if not is_history_readable:
        scene.envelope.but("history", HttpStatusError(403, error_id="ERR0004"))

    message = str((await scene.retried()).status.message)

    assert text in message
    assert "/new/" not in message


async def break_off_and_archive(scene: OneFolder, broken: str, cut: str, whole: bytes) -> EnvelopeEvent:
    """Let an attempt get one file cut and break off at another one. Then let eSignAnyWhere send all."""
    scene.clock.advance(hours=721)
    await break_off(scene, broken)
    scene.envelope.contents[cut] = whole
    return await scene.end(scene.first)


@WITH_OR_WITHOUT_KEY
async def test_the_hash_of_an_attempt_beside_an_earlier_manifest_proves_nothing(
    tmp_path: Path, *, signer: Any
) -> None:
    """Two files are listed late. The download of the first one is cut, and the attempt breaks off."""
    scene = OneFolder(tmp_path)
    scene.sign_with(signer)
    await scene.kube.delete(EnvelopeEvent, scene.second)
    await scene.run(scene.first)
    whole = b"%PDF-second contract"
    scene.envelope.contents |= {"file-2": whole[:12], "file-3": b"%PDF-third"}

    first = await break_off_and_archive(scene, "file-3", "file-2", whole)

    assert first.status.reason == "ArchivedAndDeleted"
    assert scene.contents("dms")["file-2.pdf"] == whole


@WITH_OR_WITHOUT_KEY
@pytest.mark.parametrize("is_lost", [False, True], ids=["its manifest is there", "its manifest is lost"])
async def test_nor_does_that_of_an_envelope_that_was_archived_as_expired(
    tmp_path: Path, *, signer: Any, is_lost: bool
) -> None:
    scene = OneFolder(tmp_path)
    scene.sign_with(signer)
    scene.change(**DELAYED, statuses=["Completed", "Expired"])
    await scene.kube.delete(EnvelopeEvent, scene.second)
    scene.envelope.status = EnvelopeStatus.EXPIRED
    await scene.run(scene.first)
    for manifest in scene.folders["dms"].rglob("counterfoil.json") if is_lost else ():
        manifest.unlink()
    scene.envelope.status = EnvelopeStatus.COMPLETED
    whole = b"%PDF-contract, signed by everybody"
    scene.envelope.contents["file-1"] = whole[:20]

    first = await break_off_and_archive(scene, "trail-1", "file-1", whole)

    assert first.status.envelope is not None
    assert first.status.envelope.status == EnvelopeStatus.COMPLETED
    assert scene.contents("dms")["file-1.pdf"] == whole


async def test_a_manifest_of_others_lets_no_attempt_that_failed_prove_a_file(tmp_path: Path) -> None:
    scene = OneFolder(tmp_path)
    scene.change(actions=ACTIONS)
    await scene.kube.delete(EnvelopeEvent, scene.second)
    whole = send_other_document(scene)
    scene.envelope.but("download trail-1", EsawUnreachable("connect"))
    await scene.run(scene.first)
    (file,) = scene.folders["dms"].rglob("file-1.pdf")
    (tmp_path / "elsewhere").mkdir()
    elsewhere = OneFolder(tmp_path / "elsewhere")
    await elsewhere.run(elsewhere.first)
    (other,) = elsewhere.folders["dms"].rglob("counterfoil.json")
    claim = {**json.loads(other.read_bytes()), "files": []}
    (file.parent / other.name).write_text(json.dumps(claim))
    scene.envelope.problems.clear()
    scene.envelope.contents["file-1"] = whole

    await scene.end(scene.first)

    assert file.read_bytes() == whole


@WITH_OR_WITHOUT_KEY
async def test_a_document_in_doubt_frees_no_other_file_from_its_stored_hash(
    tmp_path: Path, *, signer: Any
) -> None:
    """The first download of one file was cut, which the check finds. The next download of another one is."""
    scene = OneFolder(tmp_path)
    scene.sign_with(signer)
    scene.change(WORM, actions=ACTIONS)
    await scene.kube.delete(EnvelopeEvent, scene.second)
    whole = b"%PDF-second contract"
    scene.envelope.contents["file-2"] = whole
    sent, scene.envelope.contents["file-1"] = scene.envelope.contents["file-1"], CUT
    scene.examiner.found[CUT] = BROKEN
    first = await scene.run(scene.first)
    assert (first.status.phase, first.status.reason) == (Phase.COPYING, "DocumentInDoubt")
    scene.envelope.contents |= {"file-1": sent, "file-2": whole[:15]}

    first = await scene.retried()

    assert (first.status.phase, first.status.reason) == (Phase.ARCHIVING, "DocumentInDoubt")
    assert scene.contents("dms")["file-2.pdf"] == whole
    scene.envelope.contents["file-2"] = whole
    assert (await scene.end(scene.first)).status.reason == "ArchivedAndDeleted"
    assert scene.contents("worm")["file-1.pdf"] == sent


async def test_a_retry_replaces_what_the_signature_check_doubted_by_what_is_not_shorter(
    tmp_path: Path,
) -> None:
    scene = OneFolder(tmp_path)
    scene.change(actions=ACTIONS)
    await scene.kube.delete(EnvelopeEvent, scene.second)
    whole, scene.envelope.contents["file-1"] = scene.envelope.contents["file-1"], CUT
    scene.examiner.found[CUT] = BROKEN
    first = await scene.end(scene.first)
    assert (first.status.phase, first.status.reason) == (Phase.FAILED, "DocumentInDoubt")
    scene.envelope.contents["file-1"] = whole

    await retry_by_a_person(scene)
    assert (await scene.end(scene.first)).status.reason == "ArchivedAndDeleted"
    assert scene.contents("dms")["file-1.pdf"] == whole


async def test_a_sealed_manifest_of_a_removed_event_is_contradicted_by_no_download(tmp_path: Path) -> None:
    scene = OneFolder(tmp_path)
    scene.sign_with(a_signer())
    scene.change(WORM, actions=ACTIONS, cleanup={"policy": "Keep"})
    first = await scene.run(scene.first)
    assert first.status.reason == "ArchivedAndKept"
    await scene.kube.delete(EnvelopeEvent, scene.first)
    whole = send_other_document(scene)
    scene.change(WORM, actions=ACTIONS)

    second = await scene.end(scene.second)

    assert (second.status.phase, second.status.reason) == (Phase.FAILED, "DocumentInDoubt")
    assert scene.contents("dms")["file-1.pdf"] == whole
    assert scene.contents("worm")["file-1.pdf"] == whole
    assert scene.deleted == []


async def test_a_file_in_doubt_of_a_removed_event_binds_no_later_download(tmp_path: Path) -> None:
    scene = OneFolder(tmp_path)
    scene.sign_with(a_signer())
    scene.change(actions=ACTIONS)
    whole, scene.envelope.contents["file-1"] = scene.envelope.contents["file-1"], CUT
    scene.examiner.found[CUT] = BROKEN
    first = await scene.end(scene.first)
    assert (first.status.phase, first.status.reason) == (Phase.FAILED, "DocumentInDoubt")
    await scene.kube.delete(EnvelopeEvent, scene.first)
    scene.envelope.contents["file-1"] = whole

    second = await scene.end(scene.second)

    assert second.status.reason == "ArchivedAndDeleted"
    assert scene.contents("dms")["file-1.pdf"] == whole


@WITH_OR_WITHOUT_COPY
@pytest.mark.parametrize("status", ["Rejected", "Canceled"])
async def test_a_cut_document_of_an_envelope_that_was_not_signed_by_all_is_no_truth_either(
    tmp_path: Path, status: str, *, is_copied: bool
) -> None:
    """Each download is cut in the same way. One that is rendered each time has other bytes each time."""
    scene = OneFolder(tmp_path)
    scene.change(*((WORM,) if is_copied else ()), **DELAYED, statuses=["Completed", status])
    scene.envelope.status = EnvelopeStatus(status)
    await scene.kube.delete(EnvelopeEvent, scene.second)
    await scene.run(scene.first)
    (file,) = scene.folders["dms"].rglob("file-1.pdf")
    file.unlink()
    whole = send_other_document(scene)
    scene.clock.advance(hours=721)

    first = await scene.end(scene.first)

    assert (first.status.phase, first.status.reason) == (Phase.FAILED, "DocumentInDoubt")
    assert scene.contents("worm").get("file-1.pdf", whole) == whole
    assert not file.exists()
    assert scene.deleted == []


@WITH_OR_WITHOUT_KEY
async def test_no_shorter_download_replaces_what_an_attempt_that_failed_has_read_back(
    tmp_path: Path, *, signer: Any
) -> None:
    scene = OneFolder(tmp_path)
    scene.sign_with(signer)
    scene.change(actions=ACTIONS)
    await scene.kube.delete(EnvelopeEvent, scene.second)
    scene.envelope.but("download trail-1", EsawUnreachable("connect"))
    await scene.run(scene.first)
    scene.envelope.problems.clear()
    whole = send_other_document(scene)

    first = await scene.retried()

    assert (first.status.phase, first.status.reason) == (Phase.ARCHIVING, "DocumentInDoubt")
    assert scene.contents("dms")["file-1.pdf"] == whole
    scene.envelope.contents["file-1"] = whole
    assert (await scene.end(scene.first)).status.reason == "ArchivedAndDeleted"


async def test_an_event_that_archived_nothing_yet_contradicts_no_other_one(tmp_path: Path) -> None:
    scene = OneFolder(tmp_path)
    scene.change(actions=ACTIONS)
    whole = send_other_document(scene)
    scene.envelope.but("download trail-1", EsawUnreachable("connect"))
    first = await scene.run(scene.first)
    assert hash_of(first, "file-1") is not None
    scene.envelope.problems.clear()
    scene.envelope.contents["file-1"] = whole

    second = await scene.end(scene.second)

    assert second.status.reason == "ArchivedAndDeleted"
    assert scene.contents("dms")["file-1.pdf"] == whole


async def test_an_attempt_with_a_document_in_doubt_replaces_no_audit_trail(tmp_path: Path) -> None:
    """No manifest follows that would name another trail: the folder stays as it was concluded."""
    scene = OneFolder(tmp_path)
    await scene.kube.delete(EnvelopeEvent, scene.second)
    await scene.run(scene.first)
    (file,) = scene.folders["dms"].rglob("file-1.pdf")
    file.unlink()
    send_other_document(scene)
    scene.envelope.contents["trail-1"] = LATER_TRAIL
    scene.clock.advance(hours=721)

    first = await scene.end(scene.first)

    assert (first.status.phase, first.status.reason) == (Phase.FAILED, "DocumentInDoubt")
    assert scene.contents("dms")["audit-trail.pdf"] == scene.trail


@pytest.mark.parametrize("scene_type", [OneFolder, TwoFolders], ids=["one folder", "two folders"])
async def test_no_cut_document_counts_beside_a_longer_one_that_another_event_has_read_back(
    tmp_path: Path, scene_type: type[TwoFolders]
) -> None:
    """That event has no manifest yet. Its content is longer, so it was not cut."""
    scene = scene_type(tmp_path)
    scene.change(actions=ACTIONS, callback={"parameters": ["customer"]})
    scene.envelope.but("download trail-1", EsawUnreachable("connect"))
    first = await scene.run(scene.first)
    assert hash_of(first, "file-1") is not None
    scene.envelope.problems.clear()
    whole = send_other_document(scene)

    second = await scene.end(scene.second)

    assert (second.status.phase, second.status.reason) == (Phase.FAILED, "DocumentInDoubt")
    assert scene.deleted == []
    scene.envelope.contents["file-1"] = whole
    first = await scene.end(scene.first)
    assert whole in {each.read_bytes() for each in scene.folders["dms"].rglob("file-1.pdf")}
    assert hash_of(first, "file-1") == hashlib.sha256(whole).hexdigest()


async def test_the_status_says_of_each_file_whether_a_manifest_names_its_hash(tmp_path: Path) -> None:
    scene = OneFolder(tmp_path)
    await scene.kube.delete(EnvelopeEvent, scene.second)
    first = await break_off(scene, "trail-1")
    assert marks(first) == {"file-1": Provisional.NO_MANIFEST, "trail-1": None}
    assert documents_digest(first.status.documents) is None

    first = await scene.retried()

    assert first.status.reason == "CleanupDelayed"
    assert marks(first) == {"file-1": None, "trail-1": None}
    assert documents_digest(first.status.documents) is not None


async def test_only_the_file_whose_signatures_have_a_fault_is_in_doubt(tmp_path: Path) -> None:
    scene = OneFolder(tmp_path)
    scene.change(actions=ACTIONS)
    await scene.kube.delete(EnvelopeEvent, scene.second)
    scene.envelope.contents |= {"file-1": CUT, "file-2": b"%PDF-second contract"}
    scene.examiner.found[CUT] = BROKEN

    first = await scene.end(scene.first)

    assert (first.status.phase, first.status.reason) == (Phase.FAILED, "DocumentInDoubt")
    assert marks(first) == {"file-1": Provisional.IN_DOUBT, "file-2": None, "trail-1": None}


@WITH_OR_WITHOUT_KEY
async def test_what_an_attempt_read_back_beside_an_earlier_manifest_is_replaced_by_nothing_shorter(
    tmp_path: Path, *, signer: Any
) -> None:
    """Two files are listed late. The attempt breaks off after the first one, whose next download is cut."""
    scene = OneFolder(tmp_path)
    scene.sign_with(signer)
    await scene.kube.delete(EnvelopeEvent, scene.second)
    await scene.run(scene.first)
    whole = b"%PDF-second contract"
    scene.envelope.contents |= {"file-2": whole, "file-3": b"%PDF-third"}
    scene.clock.advance(hours=721)
    first = await break_off(scene, "file-3")
    assert marks(first)["file-2"] is Provisional.NO_MANIFEST
    assert marks(first)["file-1"] is None
    scene.envelope.contents["file-2"] = whole[:12]

    first = await scene.retried()

    assert (first.status.phase, first.status.reason) == (Phase.ARCHIVING, "DocumentInDoubt")
    assert "No shorter file replaces it, and none that is put back is recognised." in (
        first.status.message or ""
    )
    assert scene.contents("dms")["file-2.pdf"] == whole
    scene.envelope.contents["file-2"] = whole
    assert (await scene.end(scene.first)).status.reason == "ArchivedAndDeleted"


async def test_nor_is_what_one_read_back_of_an_envelope_that_was_restarted(tmp_path: Path) -> None:
    scene = OneFolder(tmp_path)
    scene.change(**DELAYED, statuses=["Completed", "Expired"])
    await scene.kube.delete(EnvelopeEvent, scene.second)
    scene.envelope.status = EnvelopeStatus.EXPIRED
    await scene.run(scene.first)
    scene.envelope.status = EnvelopeStatus.COMPLETED
    whole = b"%PDF-contract, signed by everybody"
    scene.envelope.contents["file-1"] = whole
    scene.clock.advance(hours=721)
    await break_off(scene, "trail-1")
    scene.envelope.contents["file-1"] = whole[:20]

    first = await scene.end(scene.first)

    assert (first.status.phase, first.status.reason) == (Phase.FAILED, "DocumentInDoubt")
    assert scene.contents("dms")["file-1.pdf"] == whole
    assert scene.deleted == []


async def test_no_retry_replaces_what_an_attempt_read_back_by_something_shorter(tmp_path: Path) -> None:
    scene = OneFolder(tmp_path)
    scene.change(actions=ACTIONS)
    await scene.kube.delete(EnvelopeEvent, scene.second)
    await break_off(scene, "trail-1")
    whole = send_other_document(scene)
    assert (await scene.end(scene.first)).status.phase is Phase.FAILED
    await retry_by_a_person(scene)

    first = await scene.end(scene.first)

    assert (first.status.phase, first.status.reason) == (Phase.FAILED, "DocumentInDoubt")
    assert scene.contents("dms")["file-1.pdf"] == whole
    assert scene.deleted == []


async def test_a_damaged_download_that_is_longer_than_the_file_is_replaced_after_a_retry(
    tmp_path: Path,
) -> None:
    scene = OneFolder(tmp_path)
    scene.change(actions=ACTIONS)
    await scene.kube.delete(EnvelopeEvent, scene.second)
    whole = scene.envelope.contents["file-1"]
    damaged = whole + b"\0\0\0"
    scene.envelope.contents["file-1"] = damaged
    scene.examiner.found[damaged] = BROKEN
    await scene.run(scene.first)
    scene.envelope.contents["file-1"] = whole
    first = await scene.end(scene.first)
    assert (first.status.phase, first.status.reason) == (Phase.FAILED, "DocumentInDoubt")
    assert "A retry archives it as eSignAnyWhere sends it then." in (first.status.message or "")
    assert scene.deleted == []
    await retry_by_a_person(scene)

    first = await scene.end(scene.first)

    assert first.status.reason == "ArchivedAndDeleted"
    assert scene.contents("dms")["file-1.pdf"] == whole


@pytest.mark.parametrize("status", ["Rejected", "Canceled"])
async def test_two_downloads_that_were_cut_at_different_places_are_no_rendered_document(
    tmp_path: Path, status: str
) -> None:
    scene = OneFolder(tmp_path)
    scene.change(**DELAYED, statuses=["Completed", status])
    scene.envelope.status = EnvelopeStatus(status)
    await scene.kube.delete(EnvelopeEvent, scene.second)
    await scene.run(scene.first)
    remove_file(scene)
    whole = scene.envelope.contents["file-1"]
    scene.envelope.in_turn["file-1"] = cycle([whole[:-2], whole[:-3], whole[:-4]])
    scene.clock.advance(hours=721)

    first = await scene.end(scene.first)

    assert (first.status.phase, first.status.reason) == (Phase.FAILED, "DocumentInDoubt")
    assert scene.deleted == []


async def test_nor_are_those_of_a_legal_document_unless_a_person_retries(tmp_path: Path) -> None:
    """A shorter one may be right: eSignAnyWhere may render it at each download."""
    scene = OneFolder(tmp_path)
    await scene.kube.delete(EnvelopeEvent, scene.second)
    scene.envelope.contents["legal-1"] = LEGAL
    await scene.run(scene.first)
    for each in scene.folders["dms"].rglob("legal-1.pdf"):
        each.unlink()
    scene.envelope.contents["legal-1"] = LEGAL[:-4]
    scene.envelope.in_turn["legal-1"] = cycle([LEGAL[:-2], LEGAL[:-3]])
    scene.clock.advance(hours=721)
    first = await scene.end(scene.first)
    assert (first.status.phase, first.status.reason) == (Phase.FAILED, "DocumentInDoubt")
    assert legal_contents(scene, "dms") == set()
    scene.envelope.in_turn.clear()
    await retry_by_a_person(scene)

    first = await scene.end(scene.first)

    assert first.status.reason == "ArchivedAndDeleted"
    assert legal_contents(scene, "dms") == {LEGAL[:-4]}


@WITH_OR_WITHOUT_KEY
@pytest.mark.parametrize(
    ("state", "mark"),
    [
        (State.BROKEN, Provisional.IN_DOUBT),
        (State.UNSIGNED, Provisional.IN_DOUBT),
    ],
)
async def test_after_a_failed_check_beside_an_earlier_manifest_each_retry_downloads_again(
    tmp_path: Path, state: State, mark: Provisional, *, signer: Any
) -> None:
    """Two files are listed late, and the Archive requires intact signatures. One of them was cut."""
    scene = OneFolder(tmp_path)
    scene.sign_with(signer)
    await scene.kube.delete(EnvelopeEvent, scene.second)
    await scene.run(scene.first)
    root = scene.folders["dms"]
    scene.observe(a_probed_archive("dms", root=root, signatures="Require", version=70, generation=70))
    for name in ("file-1", "file-2"):
        intact = Signatures(state=State.INTACT)
        scene.examiner.found[scene.envelope.contents.setdefault(name, b"%PDF-second contract")] = intact
    whole, scene.envelope.contents["file-2"] = scene.envelope.contents["file-2"], CUT
    scene.examiner.found[CUT] = Signatures(state=state, detail="it is cut")
    scene.clock.advance(hours=721)
    first = await scene.end(scene.first)
    assert (first.status.phase, first.status.reason) == (Phase.FAILED, "SignatureBroken")
    assert marks(first)["file-2"] is mark
    scene.envelope.contents["file-2"] = whole
    await retry_by_a_person(scene)

    first = await scene.end(scene.first)

    assert first.status.reason == "ArchivedAndDeleted"
    assert scene.contents("dms")["file-2.pdf"] == whole


async def test_a_file_that_a_person_put_back_is_recognised_by_a_sealed_manifest(tmp_path: Path) -> None:
    """The event that archived it was removed. Each download of the other one is cut."""
    scene = OneFolder(tmp_path)
    scene.sign_with(a_signer())
    scene.change(actions=ACTIONS, cleanup={"policy": "Keep"})
    first = await scene.run(scene.first)
    assert first.status.reason == "ArchivedAndKept"
    await scene.kube.delete(EnvelopeEvent, scene.first)
    remove_file(scene)
    whole = send_other_document(scene)
    scene.change(actions=ACTIONS)
    second = await scene.end(scene.second)
    assert (second.status.phase, second.status.reason) == (Phase.FAILED, "DocumentInDoubt")
    put_back(second.status.message or "", {"file-1.pdf": whole})
    await retry_by_a_person(scene)

    second = await scene.end(scene.second)

    assert second.status.reason == "ArchivedAndDeleted"
    assert scene.contents("dms")["file-1.pdf"] == whole


async def test_no_retry_recognises_a_cut_document_that_another_event_archived_in_its_place(
    tmp_path: Path,
) -> None:
    """Nothing was put back, and each download is cut in the same way."""
    scene = OneFolder(tmp_path)
    scene.sign_with(None)
    await scene.run(scene.first)
    remove_file(scene)
    whole = send_other_document(scene)
    await scene.run(scene.second)
    scene.clock.advance(hours=721)
    assert (await scene.end(scene.first)).status.phase is Phase.FAILED
    await retry_by_a_person(scene)

    first = await scene.end(scene.first)

    assert (first.status.phase, first.status.reason) == (Phase.FAILED, "DocumentInDoubt")
    assert hash_of(first, "file-1") == hashlib.sha256(whole).hexdigest()
    assert scene.deleted == []


async def test_an_event_in_doubt_about_one_file_contradicts_by_another_one(tmp_path: Path) -> None:
    scene = TwoFolders(tmp_path)
    scene.change(actions=ACTIONS, **scene.callback)
    scene.envelope.contents["file-2"] = b"%PDF-second contract"
    scene.examiner.found[CUT] = BROKEN
    sent, scene.envelope.contents["file-1"] = scene.envelope.contents["file-1"], CUT
    first = await scene.end(scene.first)
    assert (first.status.phase, first.status.reason) == (Phase.FAILED, "DocumentInDoubt")
    scene.envelope.contents |= {"file-1": sent, "file-2": b"%PDF-second"}

    second = await scene.end(scene.second)

    assert (second.status.phase, second.status.reason) == (Phase.FAILED, "DocumentInDoubt")
    assert scene.deleted == []


@pytest.mark.parametrize("scene_type", [OneFolder, TwoFolders], ids=["one folder", "two folders"])
async def test_no_cut_document_counts_beside_a_longer_one_whose_signatures_have_a_fault(
    tmp_path: Path, scene_type: type[TwoFolders]
) -> None:
    """The whole document may have the fault, and a cut one no signatures."""
    scene = scene_type(tmp_path)
    scene.change(actions=ACTIONS, **scene.callback)
    whole = scene.envelope.contents["file-1"]
    scene.examiner.found[whole] = BROKEN
    first = await scene.end(scene.first)
    assert (first.status.phase, first.status.reason) == (Phase.FAILED, "DocumentInDoubt")
    send_other_document(scene)

    second = await scene.end(scene.second)

    assert (second.status.phase, second.status.reason) == (Phase.FAILED, "DocumentInDoubt")
    assert scene.deleted == []


async def test_without_a_manifest_no_hash_of_an_earlier_version_is_archived(tmp_path: Path) -> None:
    """Those have no marks."""
    scene = OneFolder(tmp_path)
    await scene.kube.delete(EnvelopeEvent, scene.second)
    first = await break_off(scene, "trail-1")
    unmarked = [msgspec.structs.replace(each, provisional=None) for each in first.status.documents]
    status = msgspec.structs.replace(first.status, documents=tuple(unmarked))

    found = {each.file_id: provisional(each, status) for each in status.documents}

    assert found == {"file-1": Provisional.NO_MANIFEST, "trail-1": None}

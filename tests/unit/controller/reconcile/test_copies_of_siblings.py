"""Two events of an envelope have one place for their copies. The older archive replaces nothing there."""

import hashlib
import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
import pytest

from controller.requests.event_requests import EventRequests
from counterfoil.resources import (
    EnvelopeEvent,
    EnvelopeStatus,
    Phase,
    find_condition,
    with_condition,
)
from counterfoil.resources.conditions import ConditionStatus
from counterfoil.resources.envelopeevent import SIGNATURES_CONDITION
from counterfoil.resources.reopening import DELETION_ASSUMED, copies_to_retry, reopened_status
from counterfoil.resources.request import Request
from counterfoil.resources.routes import stored_copy, with_copy
from tests.support.builders import ENVELOPE
from tests.support.scenes.copied_events import MIRROR, WORM, copied
from tests.support.scenes.events_of_envelope import (
    ACTIONS,
    CUT,
    DELAYED,
    LATER_TRAIL,
    WITH_OR_WITHOUT_KEY,
    OneFolder,
    TwoEvents,
    TwoFolders,
    archive_second_in_doubt,
    retry_by_a_person,
    send_other_document,
)
from tests.support.signing_keys import a_signer


async def with_a_new_key(folder: Path) -> TwoEvents:
    """The signing key was replaced, so the manifest of the original proves nothing about the trail, which
    only the second event has."""
    scene = TwoEvents(folder)
    scene.sign_with(a_signer(1))
    await scene.archive_first(with_trail=False)
    await scene.archive_second()
    scene.sign_with(a_signer(2))
    return scene


async def test_an_older_archive_without_the_trail_is_found_in_the_copy_of_the_newer(tmp_path: Path) -> None:
    scene = await with_a_new_key(tmp_path)
    before = scene.contents()

    first = await scene.copy_first()

    assert scene.contents() == before
    assert copied(first) == ("True", "CopiesVerified")


async def test_a_damaged_file_in_the_copy_of_the_newer_archive_proves_no_older_one(tmp_path: Path) -> None:
    scene = await with_a_new_key(tmp_path)
    (document,) = scene.folders["mirror"].rglob("file-1.pdf")
    document.write_bytes(b"damaged")
    before = scene.contents()

    first = await scene.copy_first()

    assert scene.contents() == before
    assert copied(first) == ("False", "CopyMissing")
    entry = stored_copy(first.status, "mirror")
    assert entry.reason == "CopyInvalid"
    assert "If one is damaged, retry the other event or restore the file." in str(entry.message)


@pytest.mark.parametrize("with_trail", [True, False])
async def test_an_older_archive_in_another_folder_replaces_nothing_in_the_copy_of_the_newer(
    tmp_path: Path, *, with_trail: bool
) -> None:
    """eSignAnyWhere renders a trail again at each download."""
    scene = TwoEvents(tmp_path)
    await scene.archive_first(with_trail=with_trail)
    scene.change_path()
    second = await scene.archive_second()
    before = scene.contents()
    assert before["audit-trail.pdf"] == LATER_TRAIL

    first = await scene.copy_first()

    assert scene.contents() == before
    assert copied(first) == ("True", "CopiesVerified")
    place = stored_copy(second.status, "mirror").manifest
    assert stored_copy(first.status, "mirror").manifest == place


async def test_another_document_in_the_copy_of_the_newer_archive_is_no_copy_of_the_older(
    tmp_path: Path,
) -> None:
    scene = TwoEvents(tmp_path)
    await scene.archive_first(with_trail=True)
    scene.change_path()
    scene.envelope.contents["file-1"] = b"%PDF-1.7 another document"
    scene.change(MIRROR, actions=ACTIONS, cleanup={"policy": "Keep"})
    second = await scene.run(scene.second)
    before = scene.contents()

    first = await scene.copy_first()

    assert scene.contents() == before
    assert copied(first) == ("False", "CopyMissing")
    entry = stored_copy(first.status, "mirror")
    assert entry.reason == "DocumentInDoubt"
    assert str(stored_copy(second.status, "mirror").manifest) in str(entry.message)


@WITH_OR_WITHOUT_KEY
@pytest.mark.parametrize("with_trail", [True, False])
async def test_so_it_is_if_the_newer_event_was_removed(
    tmp_path: Path, *, with_trail: bool, signer: Any
) -> None:
    scene = TwoEvents(tmp_path)
    scene.sign_with(signer)
    await scene.archive_first(with_trail=with_trail)
    scene.change_path()
    await scene.archive_second()
    await scene.kube.delete(EnvelopeEvent, scene.second)
    before = scene.contents()

    await scene.copy_first()

    assert scene.contents() == before


async def test_a_newer_archive_replaces_the_copy_of_an_older_one(tmp_path: Path) -> None:
    scene = TwoEvents(tmp_path)
    scene.change(WORM, MIRROR, actions=ACTIONS)
    await scene.archive_first(with_trail=False)
    assert "audit-trail.pdf" not in scene.contents()
    scene.change_path()

    await scene.archive_second()

    assert scene.contents()["audit-trail.pdf"] == LATER_TRAIL
    assert await scene.faults("mirror") == []
    listed = json.loads(scene.contents()["counterfoil.json"])["files"]
    assert len(listed) == 2


async def test_an_older_archive_with_the_same_files_is_copied_as_before(tmp_path: Path) -> None:
    scene = TwoEvents(tmp_path)
    await scene.archive_first(with_trail=True)
    await scene.archive_second()

    first = await scene.copy_first()

    assert copied(first) == ("True", "CopiesVerified")
    assert await scene.faults("mirror") == []
    assert await scene.faults("worm") == []


@pytest.mark.parametrize("copies", [(WORM,), (WORM, MIRROR)], ids=["one copy", "two copies"])
@WITH_OR_WITHOUT_KEY
async def test_the_copy_of_a_later_event_counts_for_the_delete_by_an_earlier_one(
    tmp_path: Path, *, signer: Any, copies: tuple[dict[str, Any], ...]
) -> None:
    scene = TwoFolders(tmp_path, *copies)
    scene.sign_with(signer)
    await scene.archive_both()
    before = scene.contents("worm")
    scene.clock.advance(hours=721)

    first, second = await scene.end(scene.first), await scene.end(scene.second)

    assert (first.status.reason, second.status.reason) == ("ArchivedAndDeleted", "ArchivedAndDeleted")
    assert scene.deleted == [ENVELOPE]
    assert first.status.mismatches == 0
    assert scene.contents("worm") == before


@pytest.mark.parametrize("copies", [(WORM,), (WORM, MIRROR)], ids=["one copy", "two copies"])
@WITH_OR_WITHOUT_KEY
async def test_a_new_signing_key_stops_no_delete_of_an_envelope_with_copies_of_two_events(
    tmp_path: Path, *, signer: Any, copies: tuple[dict[str, Any], ...]
) -> None:
    scene = TwoFolders(tmp_path, *copies)
    scene.sign_with(signer)
    await scene.archive_both()
    scene.sign_with(a_signer(2))
    scene.clock.advance(hours=721)

    first, second = await scene.end(scene.first), await scene.end(scene.second)

    assert (first.status.reason, second.status.reason) == ("ArchivedAndDeleted", "ArchivedAndDeleted")
    assert scene.deleted == [ENVELOPE]
    assert first.status.mismatches <= 1 + len(copies)
    assert second.status.mismatches == 0


async def test_an_earlier_event_whose_own_copy_was_never_made_has_that_of_a_later_one(tmp_path: Path) -> None:
    scene = TwoFolders(tmp_path)
    scene.break_archive("worm")
    await scene.run(scene.first)
    scene.mend_archive("worm")
    scene.envelope.contents["trail-1"] = LATER_TRAIL
    await scene.run(scene.second)
    before = scene.contents("worm")
    scene.event = scene.kube.stored(scene.first)

    first = await scene.retried()

    assert copied(first) == ("True", "CopiesVerified")
    found = find_condition(first.status.conditions, "Copied")
    assert found is not None
    assert found.message.endswith(
        "In Archive/worm it is that of another event of the envelope, with its audit trails."
    )
    assert scene.contents("worm") == before


@pytest.mark.parametrize(("signer", "files"), [(None, 4), (a_signer(), 5)], ids=["no key", "a key"])
async def test_each_file_of_the_copy_of_a_later_event_is_protected_again(
    tmp_path: Path, *, signer: Any, files: int
) -> None:
    """Somebody may have put them there again since, and those would not be locked."""
    scene = TwoFolders(tmp_path)
    scene.sign_with(signer)
    scene.break_archive("worm")
    await scene.run(scene.first)
    scene.mend_archive("worm")
    scene.envelope.contents["trail-1"] = LATER_TRAIL
    await scene.run(scene.second)
    scene.event = scene.kube.stored(scene.first)
    before = scene.protected("worm")

    first = await scene.retried()

    assert copied(first) == ("True", "CopiesVerified")
    assert scene.protected("worm") == before + files


@pytest.mark.parametrize("signer", [None, a_signer(1)], ids=["no key", "a key"])
async def test_a_copy_that_no_status_and_no_own_seal_proves_counts_for_no_event(
    tmp_path: Path, *, signer: Any
) -> None:
    """Nobody locked it, so it could be removed after the delete."""
    scene = TwoFolders(tmp_path)
    scene.sign_with(signer)
    scene.break_archive("worm")
    await scene.run(scene.first)
    scene.mend_archive("worm")
    scene.plant_copy("worm", a_signer(2) if signer is not None else None)
    before = scene.contents("worm")
    scene.clock.advance(hours=721)

    first = await scene.retried()

    assert copied(first) == ("False", "CopyInvalid")
    entry = stored_copy(first.status, "worm")
    assert (entry.verified_time, entry.reason) == (None, "CopyInvalid")
    assert "nothing shows that Counterfoil made it" in str(entry.message)
    assert scene.contents("worm") == before
    assert scene.deleted == []


async def test_a_damaged_copy_of_a_later_event_allows_no_delete_until_that_one_repairs_it(
    tmp_path: Path,
) -> None:
    scene = TwoFolders(tmp_path)
    await scene.archive_both()
    (document,) = scene.folders["worm"].rglob("file-1.pdf")
    document.write_bytes(b"damaged")
    scene.clock.advance(hours=721)

    first = await scene.run(scene.first)
    assert scene.deleted == []
    assert stored_copy(first.status, "worm").verified_time is None

    second = await scene.end(scene.second)
    assert second.status.reason == "ArchivedAndDeleted"
    first = await scene.end(scene.first)
    assert first.status.reason == "ArchivedAndDeleted"
    assert await scene.faults("worm") == []


def awaits_second(first: EnvelopeEvent) -> None:
    assert first.status.reason == "CopyInvalid"
    assert "EnvelopeEvent/second" in (stored_copy(first.status, "worm").message or "")


@WITH_OR_WITHOUT_KEY
@pytest.mark.parametrize("is_removed", [True, False])
async def test_a_copy_of_two_events_that_lost_its_manifest_is_repaired_by_the_later_one(
    tmp_path: Path, *, is_removed: bool, signer: Any
) -> None:
    """The earlier event takes no file of the later one for that of another program."""
    scene = TwoFolders(tmp_path)
    scene.sign_with(signer)
    await scene.archive_both()
    (manifest,) = scene.folders["worm"].rglob("counterfoil.json")
    if is_removed:
        manifest.unlink()
    else:
        manifest.write_bytes(b"damaged")
    scene.clock.advance(hours=721)
    await scene.run(scene.first)
    await scene.run(scene.second)

    scene.event = scene.kube.stored(scene.first)
    awaits_second(await scene.retried())
    assert scene.contents("worm")["audit-trail.pdf"] == LATER_TRAIL

    assert (await scene.end(scene.second)).status.reason == "ArchivedAndDeleted"
    assert (await scene.end(scene.first)).status.reason == "ArchivedAndDeleted"
    assert await scene.faults("worm") == []


async def test_files_of_an_ended_event_without_a_manifest_are_moved_away_as_the_message_says(
    tmp_path: Path,
) -> None:
    """The archive of the copy has lost the manifest. The status of the first event proves its copy."""
    scene = TwoEvents(tmp_path)
    await scene.archive_first(with_trail=True)
    scene.change_path()
    scene.envelope.contents["trail-1"] = LATER_TRAIL
    (manifest,) = scene.folders["worm"].rglob("counterfoil.json")
    manifest.unlink()
    second = await scene.run(scene.second)
    assert second.status.reason == "DeadlineExceeded"
    assert f"is a file of EnvelopeEvent/{scene.first} of the same envelope" in (second.status.message or "")
    assert "move its folder to another place" in (second.status.message or "")

    manifest.parent.rename(tmp_path / "another place")
    await retry_by_a_person(scene)

    assert (await scene.run(scene.second)).status.reason == "ArchivedAndKept"
    assert scene.contents("worm")["audit-trail.pdf"] == LATER_TRAIL


async def test_a_copy_that_a_later_event_has_begun_is_not_that_of_another_program(tmp_path: Path) -> None:
    scene = TwoFolders(tmp_path)
    scene.break_archive("worm")
    await scene.run(scene.first)
    scene.envelope.contents["trail-1"] = LATER_TRAIL
    await scene.run(scene.second)
    scene.mend_archive("worm")
    begun = scene.folders["worm"] / "acme" / ENVELOPE / "audit-trail.pdf"
    begun.parent.mkdir(parents=True)
    begun.write_bytes(LATER_TRAIL)

    scene.event = scene.kube.stored(scene.first)
    awaits_second(await scene.retried())

    scene.event = scene.kube.stored(scene.second)
    assert copied(await scene.retried()) == ("True", "CopiesVerified")
    scene.event = scene.kube.stored(scene.first)
    assert copied(await scene.retried()) == ("True", "CopiesVerified")
    assert begun.read_bytes() == LATER_TRAIL


async def test_an_earlier_event_keeps_the_envelope_if_a_person_skipped_the_later_one(tmp_path: Path) -> None:
    scene = TwoFolders(tmp_path)
    await scene.archive_both()
    scene.event = scene.kube.stored(scene.second)
    result = await EventRequests(scene.clock).skip(scene.newest(), Request("skip"))
    assert result.change is not None
    scene.store(result.change(scene.newest().status))
    scene.clock.advance(hours=721)

    first = await scene.end(scene.first)

    assert first.status.reason == "ArchivedAndKept"
    assert scene.deleted == []


@pytest.mark.parametrize("is_removed", [True, False])
async def test_what_was_archived_earlier_and_copied_later_is_replaced(
    tmp_path: Path, *, is_removed: bool
) -> None:
    scene = TwoFolders(tmp_path)
    scene.sign_with(a_signer())
    scene.break_archive("worm")
    await scene.run(scene.first)
    scene.envelope.contents["trail-1"] = LATER_TRAIL
    await scene.run(scene.second)
    scene.mend_archive("worm")
    scene.event = scene.kube.stored(scene.first)
    assert copied(await scene.retried()) == ("True", "CopiesVerified")
    if is_removed:
        await scene.kube.delete(EnvelopeEvent, scene.first)
    scene.event = scene.kube.stored(scene.second)

    second = await scene.retried()

    assert copied(second) == ("True", "CopiesVerified")
    assert scene.contents("worm")["audit-trail.pdf"] == LATER_TRAIL


def original(scene: TwoEvents, name: str) -> Path:
    """Return where the first archive has the document of an event."""
    (document,) = (each for each in scene.kube.stored(name).status.documents if each.file_id == "file-1")
    path = Path(unquote(urlsplit(document.location or "").path))
    assert path.is_relative_to(scene.folders["dms"])
    return path


async def test_a_lost_original_fails_only_the_copy_that_is_made_of_it(tmp_path: Path) -> None:
    scene = TwoEvents(tmp_path)
    await scene.archive_first(with_trail=True)
    scene.change_path()
    second = await scene.archive_second()
    scene.add_archive("further")
    scene.change({"archiveRef": {"name": "further"}}, MIRROR, actions=ACTIONS)
    original(scene, scene.first).unlink()

    first = await scene.copy_first()

    assert copied(first) == ("False", "CopyMissing")
    further, mirror = (stored_copy(first.status, each) for each in ("further", "mirror"))
    assert (further.reason, further.attempts) == ("OriginalDiffers", 1)
    assert mirror.manifest == stored_copy(second.status, "mirror").manifest
    assert mirror.verified_time is not None


async def test_a_lost_original_is_no_attempt_of_a_copy_that_is_suspended(tmp_path: Path) -> None:
    scene = TwoEvents(tmp_path)
    await scene.archive_first(with_trail=True)
    scene.add_archive("further")
    scene.change({"archiveRef": {"name": "further"}}, MIRROR, actions=ACTIONS)
    scene.change_archive("mirror", suspend=True)
    original(scene, scene.first).unlink()

    first = await scene.copy_first()

    further, mirror = (stored_copy(first.status, each) for each in ("further", "mirror"))
    assert (further.reason, further.attempts) == ("OriginalDiffers", 1)
    assert (mirror.reason, mirror.attempts) == ("ArchiveSuspended", 0)


async def test_before_the_delete_a_lost_original_is_archived_again_and_each_other_copy_counts(
    tmp_path: Path,
) -> None:
    scene = TwoFolders(tmp_path, MIRROR, WORM)
    for each in ("worm", "mirror"):
        scene.break_archive(each)
    await scene.run(scene.first)
    for each in ("worm", "mirror"):
        scene.mend_archive(each)
    scene.change(WORM, **DELAYED, **scene.callback)
    scene.envelope.contents["trail-1"] = LATER_TRAIL
    await scene.run(scene.second)
    scene.change(MIRROR, WORM, **DELAYED, **scene.callback)
    original(scene, scene.first).unlink()
    scene.event = scene.kube.stored(scene.first)
    scene.clock.advance(minutes=5)

    event = await scene.reconcile()

    assert event.status.reason == "ArchivedFilesChanged"
    assert stored_copy(event.status, "worm").verified_time is not None
    assert stored_copy(event.status, "mirror").verified_time is None
    assert scene.deleted == []

    scene.clock.advance(hours=721)
    first = await scene.end(scene.first)
    assert first.status.reason == "ArchivedAndDeleted"
    assert original(scene, scene.first).exists()


@WITH_OR_WITHOUT_KEY
async def test_a_later_event_in_doubt_replaces_no_sound_copy_of_an_earlier_one(
    tmp_path: Path, *, signer: Any
) -> None:
    scene = TwoFolders(tmp_path)
    scene.sign_with(signer)
    await scene.run(scene.first)
    before = scene.contents("worm")

    second = await archive_second_in_doubt(scene)

    assert scene.contents("worm") == before
    entry = stored_copy(second.status, "worm")
    assert (entry.verified_time, entry.reason) == (None, "DocumentInDoubt")
    scene.clock.advance(hours=721)
    first = await scene.end(scene.first)
    assert (first.status.reason, first.status.mismatches) == ("ArchivedAndDeleted", 0)


async def test_nor_that_of_an_event_that_ended(tmp_path: Path) -> None:
    scene = TwoFolders(tmp_path)
    scene.change(WORM, actions=ACTIONS, cleanup={"policy": "Keep"}, **scene.callback)
    first = await scene.run(scene.first)
    assert first.status.reason == "ArchivedAndKept"
    before = scene.contents("worm")

    await archive_second_in_doubt(scene)

    assert scene.contents("worm") == before


async def test_a_sound_event_replaces_the_copy_of_a_later_one_in_doubt(tmp_path: Path) -> None:
    scene = TwoFolders(tmp_path)
    scene.sign_with(a_signer())
    scene.break_archive("worm")
    await scene.run(scene.first)
    scene.mend_archive("worm")
    await archive_second_in_doubt(scene)
    assert scene.contents("worm")["file-1.pdf"] == CUT
    scene.event = scene.kube.stored(scene.first)

    first = await scene.retried()

    assert copied(first) == ("True", "CopiesVerified")
    assert scene.contents("worm")["file-1.pdf"] == scene.envelope.contents["file-1"]
    assert await scene.faults("worm") == []


async def test_a_retry_of_an_event_whose_files_in_doubt_were_not_copied_downloads_them_again(
    tmp_path: Path,
) -> None:
    scene = TwoFolders(tmp_path)
    await scene.run(scene.first)
    failed = await archive_second_in_doubt(scene)
    asked = reopened_status(failed.status, reason="RetryRequested", message="", now=scene.clock.now())
    scene.event = failed
    scene.store(asked)

    again = await scene.run(scene.second)
    assert (again.status.phase, again.status.reason) == (Phase.COPYING, "DocumentInDoubt")
    second = await scene.retried()

    assert second.status.reason == "CleanupDelayed"
    assert copied(second) == ("True", "CopiesVerified")


async def test_a_document_with_two_contents_in_one_final_state_is_downloaded_again_before_it_is_copied(
    tmp_path: Path,
) -> None:
    scene = TwoFolders(tmp_path)
    await scene.run(scene.first)
    before = scene.contents("worm")
    whole = send_other_document(scene)

    second = await scene.run(scene.second)

    assert (second.status.phase, second.status.reason) == (Phase.COPYING, "DocumentInDoubt")
    assert f"EnvelopeEvent/{scene.first}" in (second.status.message or "")
    assert scene.contents("worm") == before
    scene.envelope.contents["file-1"] = whole
    assert (await scene.retried()).status.reason == "CleanupDelayed"
    scene.clock.advance(hours=721)
    assert (await scene.end(scene.first)).status.reason == "ArchivedAndDeleted"


@WITH_OR_WITHOUT_KEY
async def test_two_contents_in_one_final_state_allow_no_delete(tmp_path: Path, *, signer: Any) -> None:
    scene = TwoFolders(tmp_path)
    scene.sign_with(signer)
    await scene.run(scene.first)
    before = scene.contents("worm")
    whole = send_other_document(scene)
    second = await scene.end(scene.second)
    assert (second.status.phase, second.status.reason) == (Phase.FAILED, "DocumentInDoubt")
    assert scene.contents("worm") == before
    scene.envelope.contents["file-1"] = whole
    scene.clock.advance(hours=721)

    first = await scene.end(scene.first)

    assert (first.status.phase, first.status.reason) == (Phase.FAILED, "DocumentInDoubt")
    assert f"EnvelopeEvent/{scene.second}" in (first.status.message or "")
    assert scene.deleted == []
    assert scene.contents("worm")["file-1.pdf"] == whole


async def test_an_event_that_archived_a_cut_document_before_downloads_it_again_before_the_delete(
    tmp_path: Path,
) -> None:
    scene = TwoFolders(tmp_path)
    whole = send_other_document(scene)
    await scene.run(scene.first)
    scene.envelope.contents["file-1"] = whole
    second = await scene.end(scene.second)
    assert (second.status.phase, second.status.reason) == (Phase.FAILED, "DocumentInDoubt")
    scene.clock.advance(hours=721)

    first = await scene.end(scene.first)

    assert first.status.reason == "ArchivedAndDeleted"
    assert scene.deleted == [ENVELOPE]
    assert scene.contents("worm")["file-1.pdf"] == whole
    (document,) = (each for each in first.status.documents if each.file_id == "file-1")
    assert document.sha256 == hashlib.sha256(whole).hexdigest()


@WITH_OR_WITHOUT_KEY
async def test_an_event_whose_files_a_later_archive_replaced_restores_none_and_has_the_later_copy(
    tmp_path: Path, *, signer: Any
) -> None:
    scene = OneFolder(tmp_path)
    scene.sign_with(signer)
    await scene.archive_again()

    second = await scene.ask_for_copies(scene.second)
    entry = stored_copy(second.status, "mirror")
    assert (entry.verified_time, entry.reason) == (None, "OriginalReplaced")
    assert f"EnvelopeEvent/{scene.first}" in str(entry.message)
    assert scene.files("mirror") == []

    first = await scene.ask_for_copies(scene.first)
    second = await scene.ask_for_copies(scene.second)
    assert copied(first) == copied(second) == ("True", "CopiesVerified")
    assert scene.contents()["audit-trail.pdf"] == LATER_TRAIL


@WITH_OR_WITHOUT_KEY
async def test_a_damaged_copy_of_the_event_that_replaced_them_is_reported_as_such(
    tmp_path: Path, *, signer: Any
) -> None:
    scene = OneFolder(tmp_path)
    scene.sign_with(signer)
    await scene.archive_again()
    assert copied(await scene.ask_for_copies(scene.first)) == ("True", "CopiesVerified")
    (document,) = scene.folders["mirror"].rglob("file-1.pdf")
    whole = document.read_bytes()
    document.write_bytes(b"damaged")

    second = await scene.ask_for_copies(scene.second)

    entry = stored_copy(second.status, "mirror")
    assert entry.reason == "CopyInvalid"
    assert "restore the file" in str(entry.message)
    document.write_bytes(whole)
    assert copied(await scene.ask_for_copies(scene.second)) == ("True", "CopiesVerified")


@WITH_OR_WITHOUT_KEY
@pytest.mark.parametrize("content", [None, b"damaged"], ids=["missing", "unreadable"])
async def test_no_event_has_replaced_files_whose_manifest_was_lost_since(
    tmp_path: Path, content: bytes | None, *, signer: Any
) -> None:
    scene = OneFolder(tmp_path)
    scene.sign_with(signer)
    await scene.archive_again()
    (manifest,) = scene.folders["dms"].rglob("counterfoil.json")
    manifest.unlink()
    if content is not None:
        manifest.write_bytes(content)

    second = await scene.ask_for_copies(scene.second)

    assert stored_copy(second.status, "mirror").reason == "OriginalDiffers"


@WITH_OR_WITHOUT_KEY
async def test_only_a_status_says_that_another_event_replaced_them(tmp_path: Path, *, signer: Any) -> None:
    scene = OneFolder(tmp_path)
    scene.sign_with(signer)
    await scene.archive_again()
    await scene.kube.delete(EnvelopeEvent, scene.first)

    second = await scene.ask_for_copies(scene.second)

    assert stored_copy(second.status, "mirror").reason == "OriginalDiffers"


@WITH_OR_WITHOUT_KEY
async def test_a_later_event_whose_files_a_backup_replaced_has_to_restore_them(
    tmp_path: Path, *, signer: Any
) -> None:
    scene = OneFolder(tmp_path)
    scene.sign_with(signer)
    await scene.archive_again()
    shutil.copytree(scene.backup, scene.folders["dms"], dirs_exist_ok=True)

    first = await scene.ask_for_copies(scene.first)

    assert stored_copy(first.status, "mirror").reason == "OriginalDiffers"


@WITH_OR_WITHOUT_KEY
@pytest.mark.parametrize("lost", ["file-1.pdf", "counterfoil.json"])
async def test_no_event_with_the_same_files_has_replaced_a_lost_one(
    tmp_path: Path, *, signer: Any, lost: str
) -> None:
    scene = OneFolder(tmp_path)
    scene.sign_with(signer)
    await scene.run(scene.first)
    await scene.run(scene.second)
    scene.clock.advance(hours=721)
    first, second = await scene.end(scene.first), await scene.end(scene.second)
    assert first.status.documents == second.status.documents
    scene.change(MIRROR, **DELAYED)
    (file,) = scene.folders["dms"].rglob(lost)
    file.unlink()

    for each in (scene.first, scene.second):
        event = await scene.ask_for_copies(each)
        assert stored_copy(event.status, "mirror").reason == "OriginalDiffers"


OTHER_ENVELOPE = "22222222-2222-4222-8222-222222222222"


@WITH_OR_WITHOUT_KEY
@pytest.mark.parametrize(
    ("envelope", "archived"),
    [({}, ""), ({"status": "Rejected"}, ""), ({"id": OTHER_ENVELOPE}, ""), ({}, "2020-01-01T00:00:00Z")],
    ids=["other documents", "another final state", "another envelope", "an earlier archive"],
)
async def test_a_manifest_that_nobody_sealed_replaces_no_original(
    tmp_path: Path, envelope: dict[str, str], archived: str, *, signer: Any
) -> None:
    scene = OneFolder(tmp_path)
    scene.sign_with(signer)
    await scene.run(scene.first)
    scene.clock.advance(hours=721)
    await scene.end(scene.first)
    scene.change(MIRROR, **DELAYED)
    (manifest,) = scene.folders["dms"].rglob("counterfoil.json")
    claim = json.loads(manifest.read_bytes())
    for each in claim["files"]:
        if archived and each["kind"] == "Document":
            continue
        (manifest.parent / each["name"]).write_bytes(b"forged")
        each |= {"size": len(b"forged"), "sha256": hashlib.sha256(b"forged").hexdigest()}
    claim["envelope"] |= envelope
    claim["times"]["archived"] = archived or claim["times"]["archived"]
    claim["extra"]["event"]["uid"] = "11111111-1111-4111-8111-111111111111"
    claim.pop("sealedBy", None)
    manifest.write_text(json.dumps(claim), encoding="utf-8")

    event = await scene.ask_for_copies(scene.first)

    assert stored_copy(event.status, "mirror").reason == "OriginalDiffers"


class Restarted(TwoFolders):
    """The first event archives an expired envelope, while its required copy can't be made. The envelope is
    restarted and signed, and the second event archives and copies it."""

    def __init__(self, folder: Path, *copies: dict[str, Any], **spec: Any) -> None:
        super().__init__(folder)
        wanted = copies or (WORM,)
        self.names = [each["archiveRef"]["name"] for each in wanted]
        self.change(*wanted, actions=ACTIONS, statuses=["Completed", "Expired"], **self.callback, **spec)

    async def archive_expired_and_signed(
        self, first: EnvelopeStatus = EnvelopeStatus.EXPIRED, document: bytes = b"%PDF-signed"
    ) -> EnvelopeEvent:
        """Return the second event."""
        for each in self.names:
            self.break_archive(each)
        self.envelope.status = first
        await self.run(self.first)
        self.envelope.status = EnvelopeStatus.COMPLETED
        self.envelope.contents |= {"file-1": document, "trail-1": LATER_TRAIL}
        for each in self.names:
            self.mend_archive(each)
        second = await self.run(self.second)
        assert copied(second) == ("True", "CopiesVerified")
        self.event = self.kube.stored(self.first)
        return second


async def test_a_whole_copy_of_another_final_state_is_not_called_damaged(tmp_path: Path) -> None:
    """Its event replaced the files of the earlier state in the first archive."""
    scene, spec = OneFolder(tmp_path), {"actions": ACTIONS, "statuses": ["Completed", "Rejected"]}
    scene.change(**spec, cleanup={"policy": "Keep"})
    scene.envelope.status = EnvelopeStatus.REJECTED
    await scene.end(scene.first)
    scene.envelope.status = EnvelopeStatus.COMPLETED
    scene.envelope.contents |= {"file-1": b"%PDF-signed", "trail-1": LATER_TRAIL}
    await scene.end(scene.second)
    scene.change(MIRROR, **spec)
    assert copied(await scene.ask_for_copies(scene.second)) == ("True", "CopiesVerified")

    first = await scene.ask_for_copies(scene.first)

    assert stored_copy(first.status, "mirror").reason == "OriginalReplaced"


@WITH_OR_WITHOUT_KEY
async def test_an_event_whose_envelope_was_signed_archived_and_deleted_since_waits_for_no_copy(
    tmp_path: Path, *, signer: Any
) -> None:
    scene = Restarted(tmp_path)
    scene.sign_with(signer)
    second = await scene.archive_expired_and_signed()
    assert second.status.reason == "ArchivedAndDeleted"
    before = scene.contents("worm")

    first = await scene.retried()

    assert (first.status.phase, first.status.reason) == (Phase.SKIPPED, "ArchivedAlready")
    assert f"EnvelopeEvent/{scene.second}" in str(first.status.message)
    assert scene.contents("worm") == before
    assert copies_to_retry(first.status, scene.newest_organization.spec) == ()


async def test_an_event_whose_envelope_was_signed_and_archived_since_archives_it_again(
    tmp_path: Path,
) -> None:
    scene = Restarted(tmp_path, cleanup=DELAYED["cleanup"])
    await scene.archive_expired_and_signed()

    first = await scene.retried()
    assert (first.status.reason, scene.deleted) == ("FilesChanged", [])
    first = await scene.retried()

    assert first.status.envelope is not None
    assert first.status.envelope.status == EnvelopeStatus.COMPLETED
    assert copied(first) == ("True", "CopiesVerified")
    assert scene.contents("worm")["file-1.pdf"] == b"%PDF-signed"


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ((SIGNATURES_CONDITION, "False", "SignatureBroken"), "CopyInvalid"),
        (("Cleaned", "True", DELETION_ASSUMED), "FilesChanged"),
    ],
    ids=["a file in doubt", "an assumed delete"],
)
async def test_an_event_does_not_end_by_a_later_one_that_proves_no_delete(
    tmp_path: Path, condition: tuple[str, ConditionStatus, str], expected: str
) -> None:
    scene = Restarted(tmp_path)
    scene.event = await scene.archive_expired_and_signed()
    known, now = scene.event.status.conditions, scene.clock.now()
    conditions = with_condition(known, *condition, "", now=now, generation=1)
    scene.store(msgspec.structs.replace(scene.event.status, conditions=conditions))
    scene.event = scene.kube.stored(scene.first)

    first = await scene.retried()

    assert first.status.reason == expected


async def test_an_event_does_not_end_by_a_later_one_whose_copy_is_damaged(tmp_path: Path) -> None:
    scene = Restarted(tmp_path)
    await scene.archive_expired_and_signed()
    (document,) = scene.folders["worm"].rglob("file-1.pdf")
    document.write_bytes(b"damaged")

    first = await scene.retried()

    assert first.status.reason == "CopyInvalid"


def damaged(folder: Path) -> None:
    """Let a file of a copy have other content."""
    (document,) = folder.rglob("file-1.pdf")
    document.write_bytes(b"damaged")


def of_another_envelope(folder: Path) -> None:
    """Let somebody put the manifest of another envelope into the place of a copy."""
    (manifest,) = folder.rglob("counterfoil.json")
    claim = json.loads(manifest.read_bytes())
    manifest.write_text(json.dumps({**claim, "envelope": {**claim["envelope"], "id": "another"}}))


@pytest.mark.parametrize("change", [damaged, of_another_envelope])
@pytest.mark.parametrize("name", ["worm", "mirror"])
async def test_an_event_does_not_end_by_a_later_one_if_either_of_its_copies_is_damaged(
    tmp_path: Path, name: str, change: Callable[[Path], None]
) -> None:
    scene = Restarted(tmp_path, WORM, MIRROR)
    await scene.archive_expired_and_signed()
    change(scene.folders[name])

    first = await scene.retried()
    assert first.status.reason in ("CopyInvalid", "NameOccupied")
    # Each copy has its own backoff, so the next attempt may be due for the whole one only.
    entry = stored_copy(first.status, name)
    later = msgspec.structs.replace(entry, next_attempt_time=scene.clock.now() + timedelta(minutes=50))
    scene.store(msgspec.structs.replace(first.status, copies=with_copy(first.status.copies, later)))
    first = await scene.retried()
    assert first.status.reason in ("CopyInvalid", "NameOccupied")


async def test_an_event_ends_by_a_later_one_if_both_of_its_copies_are_whole_or_one_is_down(
    tmp_path: Path,
) -> None:
    scene = Restarted(tmp_path, WORM, MIRROR)
    await scene.archive_expired_and_signed()
    scene.break_archive("mirror")

    first = await scene.retried()

    assert first.status.reason == "ArchivedAlready"

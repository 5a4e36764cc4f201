"""The time between the last reads of copies and the delete of their envelope."""

import dataclasses
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace as replaced

from controller.reconcile.phases.repeated_archiving import MAX_COPY_SEALINGS, MAX_MISMATCHES
from controller.requests.event_requests import EventRequests
from controller.scheduling.due import due_time
from counterfoil.archives.manifest import hash_lines
from counterfoil.resources import Archive, EnvelopeEvent, EnvelopeStatus, Phase
from counterfoil.resources.reopening import reopened_status
from counterfoil.resources.request import Request
from counterfoil.resources.routes import stored_copy
from counterfoil.retention import last_question
from sandbox.servers.http_document_system import DocumentSystem, document_system
from tests.support.fakes.reconcile_context import a_probed_archive
from tests.support.scenes.copied_events import MIRROR, OPTIONAL, PATH, WORM, CopiedScene
from tests.support.scenes.events_of_envelope import (
    ACTIONS,
    LATER_TRAIL,
    TwoEvents,
    TwoFolders,
    archive_second_in_doubt,
    retry_by_a_person,
)
from tests.support.scenes.unmounted import unmount
from tests.support.signing_keys import a_signer

SIGNED = b"%PDF-contract, signed by all"
DELAYED: dict[str, Any] = {"cleanup": {"policy": "Delete", "after": "1h"}}
LONG_DELAY: dict[str, Any] = {"actions": ACTIONS, "cleanup": {"policy": "Delete", "after": "720h"}}
BOTH = ["Completed", "Expired"]
MALLORY = {"email": "mallory@evil.example", "userID": "", "name": "Mallory"}


def restart_and_sign(scene: CopiedScene) -> None:
    scene.envelope.status = EnvelopeStatus.COMPLETED
    scene.envelope.contents["file-1"] = SIGNED


async def an_expired_scene(folder: Path, **spec: Any) -> CopiedScene:
    """Return the scene of an envelope that was archived as Expired, and copied, by an earlier process."""
    scene = CopiedScene(folder, statuses=BOTH, **DELAYED, **spec)
    scene.envelope.status = EnvelopeStatus.EXPIRED
    await scene.reconcile_until_quiet()
    scene.restarted()
    return scene


async def test_an_expired_envelope_that_is_restarted_and_signed_while_its_copy_is_read_is_not_deleted(
    tmp_path: Path,
) -> None:
    scene = await an_expired_scene(tmp_path)
    scene.is_archive_busy, scene.while_waiting = True, partial(restart_and_sign, scene)
    event = await scene.retried()

    assert event.status.reason == "FilesChanged"
    assert scene.deleted == []
    await scene.retried()
    for name in ("dms", "worm"):
        (document,) = scene.folders[name].rglob("file-1.pdf")
        assert document.read_bytes() == SIGNED


async def test_the_last_question_before_the_delete_of_an_expired_envelope_is_its_state(
    tmp_path: Path,
) -> None:
    scene = await an_expired_scene(tmp_path)
    await scene.retried()
    asked = scene.envelope.asked
    assert asked[asked.index("delete") - 1] == "envelope"


def suspend(scene: CopiedScene) -> None:
    scene.kube.edit(Archive, "worm", {"spec": {"suspend": True}})


def move(scene: CopiedScene) -> None:
    scene.kube.edit(Archive, "worm", {"spec": {"filesystem": {"root": "/elsewhere"}}})


def replace(scene: CopiedScene) -> None:
    """Let a person delete the Archive, and create another one with its spec."""
    scene.kube.edit(Archive, "worm", {"metadata": {"uid": "uid-of-another"}})


def remove(scene: CopiedScene) -> None:
    del scene.kube.objects[Archive.PLURAL, "worm"]


CHANGES = [suspend, move, replace, remove]


def before_the_last_list(scene: CopiedScene, act: Callable[[], None]) -> None:
    """Act when eSAW is asked for the files a second time from now on: each copy is read or made by then."""
    first = partial(scene.envelope.meanwhile.update, files=act)
    scene.envelope.meanwhile["files"] = first


@pytest.mark.parametrize("change", CHANGES)
async def test_a_copy_whose_archive_is_changed_after_it_was_read_allows_no_delete(
    tmp_path: Path, change: Callable[[CopiedScene], None]
) -> None:
    scene = CopiedScene(tmp_path, **DELAYED)
    await scene.reconcile_until_quiet()
    before_the_last_list(scene, partial(change, scene))

    event = await scene.retried()

    assert (event.status.phase, event.status.reason) == (Phase.CLEANING, "SettingsChanged")
    assert "Archive/worm" in (event.status.message or "")
    assert scene.deleted == []


@pytest.mark.parametrize("change", CHANGES)
async def test_a_copy_whose_archive_is_changed_after_it_was_made_allows_no_delete_in_the_same_run(
    tmp_path: Path, change: Callable[[CopiedScene], None]
) -> None:
    scene = CopiedScene(tmp_path)
    before_the_last_list(scene, partial(change, scene))

    event = await scene.reconcile()

    assert (event.status.phase, event.status.reason) == (Phase.CLEANING, "SettingsChanged")
    assert scene.deleted == []


async def test_a_copy_whose_archive_is_suspended_during_the_wait_for_it_holds_the_delete(
    tmp_path: Path,
) -> None:
    scene = CopiedScene(tmp_path, **DELAYED)
    await scene.reconcile_until_quiet()
    scene.restarted()
    scene.is_archive_busy = True
    scene.while_waiting = partial(scene.change_archive, "worm", suspend=True)

    event = await scene.retried()

    assert (event.status.phase, event.status.reason) == (Phase.CLEANING, "CopySuspended")
    assert scene.deleted == []


async def test_a_change_of_the_archive_of_an_optional_copy_stops_no_delete(tmp_path: Path) -> None:
    scene = CopiedScene(tmp_path, OPTIONAL)
    before_the_last_list(scene, partial(suspend, scene))
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"


@asynccontextmanager
async def a_checksum_copy(scene: CopiedScene) -> AsyncIterator[DocumentSystem]:
    """Let the copies go to a system that reports checksums and returns no files."""
    async with document_system(serves_downloads=False) as system:
        settings: dict[str, Any] = {"url": system.url, "credentialsSecretRef": {"name": "worm"}}
        keys = {"signingSecret": system.signing_secret.encode(), "bearerToken": system.token.encode()}
        scene.kube.put_secret("worm", "archive", keys)
        spec: dict[str, Any] = {"http": settings, "verify": "Checksum", "signatures": "Ignore", "path": PATH}
        scene.observe(a_probed_archive("worm", version=2, filesystem=None, **spec))
        yield system


async def test_a_copy_whose_checksums_are_known_is_believed_at_a_later_delete(tmp_path: Path) -> None:
    scene = CopiedScene(tmp_path, **DELAYED)
    async with a_checksum_copy(scene) as system:
        assert (await scene.reconcile_until_quiet()).status.reason == "CleanupDelayed"
        system.filed.clear()
        event = await scene.retried()
    assert event.status.reason == "ArchivedAndDeleted"
    assert event.status.mismatches == 0
    assert not system.filed, "nothing was sent again"


async def test_a_copy_whose_checksums_are_known_is_compared_after_a_moment_without_its_original(
    tmp_path: Path,
) -> None:
    scene = CopiedScene(tmp_path, **DELAYED)
    mounts = list[Callable[[], None]]()

    def unmount_once() -> None:
        if scene.slots[-1][1] == "worm" and not mounts:
            mounts.append(unmount(scene.folders["dms"]))

    async with a_checksum_copy(scene):
        await scene.reconcile_until_quiet()
        scene.is_archive_busy, scene.while_waiting = True, unmount_once
        waiting = await scene.retried()
        mounts[0]()
        assert (waiting.status.phase, waiting.status.reason) == (Phase.CLEANING, "ArchiveRootChanged")
        assert (await scene.retried()).status.reason == "ArchivedAndDeleted"


def remove_the_manifest(scene: CopiedScene) -> None:
    (manifest,) = scene.folders["dms"].rglob("counterfoil.json")
    manifest.unlink()


def damage_the_manifest(scene: CopiedScene) -> None:
    (manifest,) = scene.folders["dms"].rglob("counterfoil.json")
    manifest.write_bytes(b"{")


@pytest.mark.parametrize("is_read_before", [False, True], ids=["before the delete", "after its first reads"])
@pytest.mark.parametrize("change", [remove_the_manifest, damage_the_manifest])
async def test_a_first_manifest_that_is_lost_beside_a_copy_that_returns_no_files_is_written_again(
    tmp_path: Path, change: Callable[[CopiedScene], None], *, is_read_before: bool
) -> None:
    """Such a copy is compared with the manifest of its original."""
    scene = CopiedScene(tmp_path, **DELAYED)
    async with a_checksum_copy(scene):
        await scene.reconcile_until_quiet()
        if is_read_before:
            scene.is_archive_busy, scene.while_waiting = True, partial(change, scene)
        else:
            change(scene)

        event = await scene.retried()

        assert (event.status.phase, event.status.reason) == (Phase.CLEANING, "ArchivedFilesChanged")
        assert scene.deleted == []
        scene.is_archive_busy = False
        assert (await scene.retried()).status.reason == "ArchivedAndDeleted"
    assert await scene.faults("dms") == []


async def test_a_copy_whose_checksums_a_restart_forgot_is_sent_again_before_the_delete(
    tmp_path: Path,
) -> None:
    scene = CopiedScene(tmp_path, **DELAYED)
    async with a_checksum_copy(scene) as system:
        await scene.reconcile_until_quiet()
        sent = set(system.filed)
        system.filed.clear()
        scene.restarted()
        event = await scene.retried()
        assert (event.status.phase, event.status.reason) == (Phase.CLEANING, "CopyChanged")
        assert scene.deleted == []
        event = await scene.retried()
    assert event.status.reason == "ArchivedAndDeleted"
    assert set(system.filed) == sent


def suspend_the_copy(scene: CopiedScene) -> None:
    """Let a person suspend the Archive of the copy, and let nobody read the first archive."""
    scene.change_archive("worm", suspend=True)
    scene.break_archive("dms")
    scene.envelope.asked.clear()


def resume_the_copy(scene: CopiedScene) -> None:
    scene.mend_archive("dms")
    scene.change_archive("worm")


async def test_a_suspended_copy_holds_the_delete_without_a_read_or_a_question(tmp_path: Path) -> None:
    scene = CopiedScene(tmp_path, **DELAYED)
    await scene.reconcile_until_quiet()
    scene.restarted()
    suspend_the_copy(scene)

    for _ in range(2):
        event = await scene.retried()
        assert (event.status.phase, event.status.reason) == (Phase.CLEANING, "CopySuspended")
        assert due_time(event, scene.cache, scene.clock.now()) == scene.clock.now() + timedelta(days=1)
    assert scene.envelope.asked == []

    resume_the_copy(scene)
    assert (await scene.reconcile_until_quiet()).status.reason == "ArchivedAndDeleted"


async def test_a_suspended_copy_holds_the_delete_of_the_run_that_made_it(tmp_path: Path) -> None:
    scene = CopiedScene(tmp_path)
    before_the_last_list(scene, partial(scene.change_archive, "worm", suspend=True))
    assert (await scene.reconcile()).status.reason == "SettingsChanged"
    assert (await scene.retried()).status.reason == "CopySuspended"
    assert scene.deleted == []


async def test_a_choice_of_keep_ends_an_event_that_waits_for_a_suspended_copy(tmp_path: Path) -> None:
    scene = CopiedScene(tmp_path, **DELAYED)
    await scene.reconcile_until_quiet()
    scene.change_archive("worm", suspend=True)
    assert (await scene.retried()).status.reason == "CopySuspended"
    scene.change(WORM, cleanup={"policy": "Keep"})
    assert (await scene.reconcile_until_quiet()).status.reason == "ArchivedAndKept"


async def test_an_expired_envelope_whose_copy_is_suspended_is_asked_for_and_not_downloaded(
    tmp_path: Path,
) -> None:
    scene = await an_expired_scene(tmp_path)
    suspend_the_copy(scene)

    for _ in range(2):
        assert (await scene.retried()).status.reason == "CopySuspended"
    assert scene.envelope.asked == ["envelope", "envelope"]

    scene.mend_archive("dms")
    restart_and_sign(scene)
    status = scene.newest().status
    now, deliveries = scene.clock.now(), (status.deliveries or 1) + 1
    scene.store(replaced(status, deliveries=deliveries, last_delivery_time=now))
    assert (await scene.reconcile_until_quiet()).status.reason == "FilesChanged"
    await scene.retried()
    (document,) = scene.folders["dms"].rglob("file-1.pdf")
    assert document.read_bytes() == SIGNED


async def test_an_expired_envelope_whose_copy_is_suspended_is_asked_for_before_esaw_deletes_it(
    tmp_path: Path,
) -> None:
    scene = await an_expired_scene(tmp_path, retention="30h")
    suspend_the_copy(scene)
    event = await scene.retried()
    last = last_question(event, timedelta(hours=30))
    assert event.status.reason == "CopySuspended"
    assert event.status.next_attempt_time == last


def damage_the_document(scene: CopiedScene) -> None:
    (document,) = scene.folders["dms"].rglob("file-1.pdf")
    document.write_bytes(b"damaged")


def list_a_late_file(scene: CopiedScene) -> None:
    scene.envelope.contents["file-2"] = b"%PDF-listed late"


@pytest.mark.parametrize(
    ("change", "reason"),
    [(damage_the_document, "ArchivedFilesChanged"), (list_a_late_file, "FilesChanged")],
)
async def test_the_first_archive_is_made_whole_while_the_archive_of_a_copy_is_down(
    tmp_path: Path, change: Callable[[CopiedScene], None], reason: str
) -> None:
    """Archiving needs no copy, and eSAW may delete the envelope before that Archive is back."""
    scene = CopiedScene(tmp_path, **DELAYED, evidence={"wait": "0s"})
    await scene.reconcile_until_quiet()
    scene.restarted()
    change(scene)
    scene.break_archive("worm")

    event = await scene.retried()
    assert event.status.reason == reason
    event = await scene.retried()

    assert event.status.reason == "ArchiveRootMissing"
    archived = {each.read_bytes() for each in scene.folders["dms"].rglob("*.pdf")}
    assert archived == set(scene.envelope.contents.values())
    assert scene.deleted == []

    scene.mend_archive("worm")
    event = await scene.retried()
    assert event.status.reason == "ArchivedAndDeleted"
    assert event.status.mismatches == 1
    assert await scene.faults("worm") == []


async def test_no_cut_document_replaces_one_that_an_archive_does_not_return(tmp_path: Path) -> None:
    delayed = {"policy": "Delete", "after": "720h"}
    scene = CopiedScene(tmp_path, cleanup=delayed)
    scene.change(cleanup=delayed)
    async with document_system(serves_downloads=False) as system:
        settings: dict[str, Any] = {"url": system.url, "credentialsSecretRef": {"name": "dms"}}
        keys = {"signingSecret": system.signing_secret.encode(), "bearerToken": system.token.encode()}
        scene.kube.put_secret("dms", "archive", keys)
        spec: dict[str, Any] = {"http": settings, "verify": "Checksum", "signatures": "Ignore", "path": PATH}
        scene.observe(a_probed_archive("dms", version=2, filesystem=None, **spec))
        # No event that was removed can have archived more.
        scene.envelope.sent_text = scene.clock.now().isoformat()
        await scene.reconcile_until_quiet()
        before = dict(system.filed)
        scene.restarted()
        whole, scene.envelope.contents["file-1"] = scene.envelope.contents["file-1"], b"%PDF-contr"

        await scene.retried()
        event = await scene.retried()

        assert (event.status.phase, event.status.reason) == (Phase.ARCHIVING, "DocumentInDoubt")
        kept = {name: each for name, each in before.items() if name.endswith("file-1.pdf")}
        assert kept
        assert {name: system.filed[name] for name in kept} == kept
        scene.envelope.contents["file-1"] = whole
        while not event.status.phase.is_final:
            event = await scene.retried()
        assert scene.deleted


def sign_with(scene: CopiedScene, number: int | None) -> None:
    """Let the controller have this signing key."""
    signer = a_signer(number) if number is not None else None
    checker = dataclasses.replace(scene.preconditions.archives.signature_checker, signer=signer)
    scene.change_archives(signature_checker=checker)


def manifest_in(scene: CopiedScene, name: str) -> Path:
    (manifest,) = scene.folders[name].rglob("counterfoil.json")
    return manifest


def has_seal_of(scene: CopiedScene, name: str, *, key: int) -> bool:
    """Whether the manifest in an Archive has one seal, by this key."""
    manifest = manifest_in(scene, name)
    seal = manifest.with_name("counterfoil.json.sig").read_bytes()
    return a_signer(key).public.verifies(seal, manifest.read_bytes())


async def to_the_end(scene: CopiedScene) -> EnvelopeEvent:
    event = scene.newest()
    while not event.status.phase.is_final:
        event = await scene.retried()
    return event


@pytest.mark.parametrize("sealed_by", [None, "0" * 16], ids=["no key", "another key"])
@pytest.mark.parametrize("name", ["dms", "worm"])
async def test_a_manifest_that_somebody_wrote_without_our_seal_is_sealed_again_before_the_delete(
    tmp_path: Path, name: str, sealed_by: str | None
) -> None:
    scene = CopiedScene(tmp_path, **DELAYED)
    sign_with(scene, 1)
    await scene.reconcile_until_quiet()
    manifest = manifest_in(scene, name)
    before = json.loads(manifest.read_bytes())
    manifest.write_text(json.dumps({**before, "sender": MALLORY, "sealedBy": sealed_by}))
    seal = manifest.with_name("counterfoil.json.sig")
    if sealed_by is None:
        seal.unlink()
    else:
        seal.write_bytes(b"x" * 64)

    event = await to_the_end(scene)

    assert (event.status.reason, event.status.mismatches) == ("ArchivedAndDeleted", 1)
    assert json.loads(manifest.read_bytes())["sender"] == before["sender"]
    assert a_signer(1).public.verifies(seal.read_bytes(), manifest.read_bytes())


@pytest.mark.parametrize("earlier", [None, 1], ids=["no key", "an earlier key"])
async def test_each_manifest_is_sealed_with_a_new_key_once_before_the_delete_and_without_a_download(
    tmp_path: Path, earlier: int | None
) -> None:
    scene = CopiedScene(tmp_path, WORM, MIRROR, **DELAYED)
    sign_with(scene, earlier)
    await scene.reconcile_until_quiet()
    sign_with(scene, 2)
    scene.envelope.asked.clear()

    event = await to_the_end(scene)

    # The delay of the delete is not repeated.
    assert (event.status.reason, event.status.mismatches) == ("ArchivedAndDeleted", 3)
    assert [each for each in scene.envelope.asked if each.startswith("download")] == []
    for name in ("dms", "worm", "mirror"):
        assert has_seal_of(scene, name, key=2)


async def test_an_event_says_that_a_manifest_is_sealed_again_and_by_what_it_is_held(tmp_path: Path) -> None:
    scene = CopiedScene(tmp_path, **DELAYED)
    sign_with(scene, 1)
    await scene.reconcile_until_quiet()
    sign_with(scene, 2)

    first = await scene.retried()
    assert (first.status.phase, first.status.reason) == (Phase.CLEANING, "ManifestUnsealed")
    assert "Archive/dms" in (first.status.message or "")
    of_the_copy = await scene.retried()
    assert (of_the_copy.status.phase, of_the_copy.status.reason) == (Phase.CLEANING, "ManifestUnsealed")
    assert "Archive/worm" in (of_the_copy.status.message or "")
    assert scene.deleted == []
    assert (await scene.retried()).status.reason == "ArchivedAndDeleted"


@pytest.mark.parametrize("earlier", [None, 1], ids=["no key", "an earlier key"])
async def test_a_new_key_fails_no_event_whose_files_changed_before(
    tmp_path: Path, earlier: int | None
) -> None:
    scene = CopiedScene(tmp_path, WORM, MIRROR, **DELAYED)
    sign_with(scene, earlier)
    event = await scene.reconcile_until_quiet()
    scene.store(replaced(event.status, mismatches=MAX_MISMATCHES))
    sign_with(scene, 2)

    event = await to_the_end(scene)

    assert (event.status.reason, event.status.mismatches) == ("ArchivedAndDeleted", MAX_MISMATCHES + 2)


@pytest.mark.parametrize("earlier", [None, 1], ids=["no key", "an earlier key"])
async def test_a_copy_of_an_earlier_key_that_lost_a_file_counts_as_changed(
    tmp_path: Path, earlier: int | None
) -> None:
    scene = CopiedScene(tmp_path, **DELAYED)
    sign_with(scene, earlier)
    await scene.reconcile_until_quiet()
    sign_with(scene, 2)
    (document,) = scene.folders["worm"].rglob("file-1.pdf")
    document.unlink()
    await scene.retried()

    event = await scene.retried()

    assert (event.status.reason, event.status.mismatches) == ("CopyChanged", 2)
    assert (await to_the_end(scene)).status.reason == "ArchivedAndDeleted"


def replace_manifest(scene: CopiedScene, name: str, **changes: Any) -> None:
    """Let somebody write another manifest, with a hash file that fits and a seal of another key."""
    path = manifest_in(scene, name)
    manifest = {**json.loads(path.read_bytes()), "sender": MALLORY, "sealedBy": "0" * 16, **changes}
    path.write_text(json.dumps(manifest))
    path.with_name("counterfoil.json.sig").write_bytes(b"x" * 64)
    lines = hash_lines((each["name"], each["sha256"]) for each in manifest["files"])
    path.with_name("counterfoil.sha256").write_bytes(lines)


@pytest.mark.parametrize(
    "other",
    [{"organization": "globex"}, {"namespace": "other"}, {"id": "ffffffff-1111-4222-8333-444455556666"}],
    ids=["Organization", "namespace", "envelope"],
)
async def test_a_sealed_manifest_of_another_envelope_is_no_copy(
    tmp_path: Path, other: dict[str, str]
) -> None:
    """Its files are the same, and the signing key is the one of all Organizations."""
    scene = CopiedScene(tmp_path, **DELAYED)
    sign_with(scene, 1)
    await scene.reconcile_until_quiet()
    path = manifest_in(scene, "worm")
    manifest = json.loads(path.read_bytes())
    manifest["envelope"].update(other)
    path.write_text(json.dumps(manifest))
    path.with_name("counterfoil.json.sig").write_bytes(a_signer(1).sign(path.read_bytes()))
    scene.clock.advance(hours=721)

    event = await scene.reconcile_until_quiet()

    assert scene.deleted == []
    assert event.status.phase is not Phase.SUCCEEDED
    assert "is the manifest of" in str(event.status.message)


async def test_an_earlier_manifest_that_is_put_back_beside_the_later_files_of_a_copy_is_written_again(
    tmp_path: Path,
) -> None:
    """It has our seal, and the hash file beside it fits. It names the audit trail of the first event."""
    scene = TwoFolders(tmp_path)
    sign_with(scene, 1)
    await scene.run(scene.first)
    folder = manifest_in(scene, "worm").parent
    earlier = {each: each.read_bytes() for each in folder.glob("counterfoil.*")}
    scene.envelope.contents["trail-1"] = LATER_TRAIL
    await scene.run(scene.second)
    for path, content in earlier.items():
        path.write_bytes(content)
    scene.clock.advance(hours=721)

    event = await scene.end(scene.second)

    assert event.status.reason == "ArchivedAndDeleted"
    assert await scene.faults("worm") == []


async def test_a_copy_whose_manifest_somebody_replaces_each_time_ends_its_event(tmp_path: Path) -> None:
    scene = CopiedScene(tmp_path, **DELAYED)
    sign_with(scene, 1)
    event = await scene.reconcile_until_quiet()
    scene.clock.advance(hours=721)
    for _ in range(4 * MAX_COPY_SEALINGS):
        replace_manifest(scene, "worm")
        event = await scene.reconcile()
        scene.clock.advance(seconds=30)
        if event.status.phase.is_final:
            break

    assert (event.status.phase, event.status.reason) == (Phase.FAILED, "ManifestUnsealed")
    assert "somebody replaces the manifest" in (event.status.message or "")
    assert scene.deleted == []


@pytest.mark.parametrize("ends_first", ["first", "second"])
async def test_a_copy_of_two_events_needs_our_seal_before_either_deletes_the_envelope(
    tmp_path: Path, ends_first: str
) -> None:
    """They have different audit trails. The second one may replace the copy, and the first one waits."""
    scene = TwoFolders(tmp_path)
    scene.sign_with(a_signer(1))
    await scene.archive_both()
    replace_manifest(scene, "worm")
    scene.clock.advance(hours=721)

    if ends_first == "second":
        await scene.end(scene.second)
    else:
        event = await scene.run(scene.first)
        assert (event.status.phase, event.status.reason) == (Phase.CLEANING, "ManifestUnsealed")
        assert scene.second in (event.status.message or "")
        assert scene.deleted == []
        assert (await scene.end(scene.second)).status.reason == "ArchivedAndDeleted"
        assert (await scene.end(scene.first)).status.reason == "ArchivedAndDeleted"
    assert scene.deleted
    assert has_seal_of(scene, "worm", key=1)


async def test_an_event_waits_for_the_delete_of_a_later_one_that_seals_their_copy(tmp_path: Path) -> None:
    scene = TwoFolders(tmp_path)
    scene.sign_with(a_signer(1))
    await scene.run(scene.first)
    scene.clock.advance(hours=72)
    scene.envelope.contents["trail-1"] = LATER_TRAIL
    second = await scene.run(scene.second)
    replace_manifest(scene, "worm")
    scene.clock.advance(hours=649)

    first = await scene.run(scene.first)

    assert second.status.next_attempt_time is not None
    due = due_time(first, scene.cache, scene.clock.now())
    assert due == second.status.next_attempt_time + timedelta(minutes=5)
    assert (await scene.end(scene.second)).status.reason == "ArchivedAndDeleted"
    assert (await scene.end(scene.first)).status.reason == "ArchivedAndDeleted"


async def archive_second_with_a_late_trail(scene: TwoFolders) -> None:
    """Let eSignAnyWhere list the audit trail late, so that further files may follow."""
    del scene.envelope.contents["trail-1"]
    await scene.run(scene.second)
    scene.envelope.contents["trail-1"] = LATER_TRAIL
    scene.clock.advance(hours=1)
    await scene.run(scene.second)


async def test_an_event_waits_for_a_later_one_that_waits_for_late_files_and_seals_their_copy(
    tmp_path: Path,
) -> None:
    """A person removed the delay of the delete meanwhile."""
    scene = TwoFolders(tmp_path)
    scene.sign_with(a_signer(1))
    settings = {**scene.callback, "evidence": {"wait": "168h"}}
    scene.change(WORM, **LONG_DELAY, **settings)
    await scene.run(scene.first)
    await archive_second_with_a_late_trail(scene)
    scene.change(WORM, actions=ACTIONS, cleanup={"policy": "Delete"}, **settings)
    second = await scene.run(scene.second)
    assert second.status.reason == "LateFilesPending"
    replace_manifest(scene, "worm")
    scene.clock.advance(hours=1)

    first = await scene.run(scene.first)

    assert second.status.next_attempt_time is not None
    due = due_time(first, scene.cache, scene.clock.now())
    assert due == second.status.next_attempt_time + timedelta(minutes=5)
    assert (await scene.end(scene.second)).status.reason == "ArchivedAndDeleted"
    assert (await scene.end(scene.first)).status.reason == "ArchivedAndDeleted"


async def test_a_later_event_with_a_delay_of_before_lets_no_event_ask_again_at_once(tmp_path: Path) -> None:
    scene = TwoFolders(tmp_path)
    scene.sign_with(a_signer(1))
    await scene.archive_both()
    replace_manifest(scene, "worm")
    scene.change(WORM, actions=ACTIONS, cleanup={"policy": "Delete", "after": "0s"}, **scene.callback)

    scene.event = scene.kube.stored(scene.first)
    first = await scene.reconcile()

    assert first.status.reason == "ManifestUnsealed"
    due = due_time(first, scene.cache, scene.clock.now())
    assert due is not None
    assert due > scene.clock.now()
    assert (await scene.end(scene.second)).status.reason == "ArchivedAndDeleted"
    assert (await scene.end(scene.first)).status.reason == "ArchivedAndDeleted"


async def test_an_expired_envelope_has_its_last_question_while_a_later_event_has_to_seal_its_copy(
    tmp_path: Path,
) -> None:
    """The retention of eSignAnyWhere ends before the delete of the later event."""
    scene = TwoFolders(tmp_path)
    scene.sign_with(a_signer(1))
    scene.envelope.status = EnvelopeStatus.EXPIRED
    scene.change(WORM, **LONG_DELAY, **scene.callback, statuses=BOTH, retention="784h")
    await scene.run(scene.first)
    scene.clock.advance(hours=72)
    scene.envelope.contents["trail-1"] = LATER_TRAIL
    await scene.run(scene.second)
    replace_manifest(scene, "worm")
    scene.clock.advance(hours=649)

    first = await scene.run(scene.first)

    last = last_question(first, timedelta(hours=784))
    assert last is not None
    assert scene.clock.now() < last
    assert due_time(first, scene.cache, scene.clock.now()) == last


async def test_an_event_fails_if_the_later_one_that_would_seal_their_copy_does_not_run(
    tmp_path: Path,
) -> None:
    """Its action is not in the Organization any more."""
    scene = TwoFolders(tmp_path)
    scene.sign_with(a_signer(1))
    await scene.archive_both()
    actions = [{"action": "envelopeFinished"}]
    scene.change(WORM, **{**DELAYED, **scene.callback, "actions": actions})
    assert (await scene.run(scene.second)).status.reason == "ActionNotConfigured"
    replace_manifest(scene, "worm")
    scene.clock.advance(hours=721)
    began = scene.clock.now()

    first = await scene.end(scene.first)

    assert (first.status.phase, first.status.reason) == (Phase.FAILED, "ManifestUnsealed")
    assert f"EnvelopeEvent/{scene.second}" in (first.status.message or "")
    assert scene.clock.now() - began < timedelta(days=3)
    assert scene.deleted == []


@pytest.mark.parametrize("decision", ["skipped", "suspended"])
async def test_an_event_whose_copy_a_later_one_would_seal_keeps_the_envelope_if_a_person_does(
    tmp_path: Path, decision: str
) -> None:
    """No message advises to start again what a person skipped."""
    scene = TwoFolders(tmp_path)
    scene.sign_with(a_signer(1))
    await scene.archive_both()
    if decision == "skipped":
        skip = await EventRequests(scene.clock).skip(scene.newest(), Request("skip"))
        assert skip.change is not None
        scene.store(skip.change(scene.newest().status))
    else:
        scene.kube.edit(EnvelopeEvent, scene.second, {"spec": {"suspend": True}})
        scene.cache.update(scene.kube.stored(scene.second))
    replace_manifest(scene, "worm")
    scene.clock.advance(hours=721)

    first = await scene.end(scene.first)

    assert (first.status.phase, first.status.reason) == (Phase.SUCCEEDED, "ArchivedAndKept")
    assert f"a person {decision} EnvelopeEvent/{scene.second}" in (first.status.message or "")
    assert scene.deleted == []


async def test_an_event_names_a_later_one_that_has_ended_and_can_seal_their_copy(tmp_path: Path) -> None:
    scene = TwoFolders(tmp_path)
    scene.sign_with(a_signer(1))
    await scene.archive_both()
    scene.clock.advance(hours=721)
    scene.change(WORM, **scene.callback, cleanup={"policy": "Keep"})
    assert (await scene.end(scene.second)).status.reason == "ArchivedAndKept"
    scene.change(WORM, **scene.callback, cleanup={"policy": "Delete", "after": "1h"})
    replace_manifest(scene, "worm")

    first = await scene.end(scene.first)

    assert (first.status.phase, first.status.reason) == (Phase.FAILED, "ManifestUnsealed")
    assert f"EnvelopeEvent/{scene.second}" in (first.status.message or "")
    assert scene.deleted == []
    scene.event = scene.kube.stored(scene.second)
    await retry_by_a_person(scene)
    assert (await scene.end(scene.second)).status.reason == "ArchivedAndDeleted"


async def test_an_event_seals_the_copy_again_although_a_later_one_is_in_doubt(tmp_path: Path) -> None:
    scene = TwoFolders(tmp_path)
    scene.sign_with(a_signer(1))
    scene.break_archive("worm")
    await scene.run(scene.first)
    scene.mend_archive("worm")
    second = await archive_second_in_doubt(scene)
    assert stored_copy(second.status, "worm").verified_time is not None
    scene.event = scene.kube.stored(scene.first)
    await scene.retried()
    replace_manifest(scene, "worm")
    scene.clock.advance(hours=721)

    first = await scene.end(scene.first)

    assert first.status.reason == "ArchivedAndDeleted"
    assert has_seal_of(scene, "worm", key=1)


async def test_a_copy_that_is_taken_over_needs_our_seal_before_the_delete(tmp_path: Path) -> None:
    """Another event made it, and somebody listed one more file there since."""
    scene = TwoEvents(tmp_path)
    scene.sign_with(a_signer(1))
    scene.change(WORM, actions=ACTIONS, cleanup={"policy": "Delete", "after": "720h"})
    scene.event = scene.kube.stored(scene.first)
    await scene.reconcile_until_quiet()
    files = json.loads(manifest_in(scene, "worm").read_bytes())["files"]
    replace_manifest(scene, "worm", files=[*files, {**files[0], "fileID": "file-9", "name": "one-more.pdf"}])
    scene.change(WORM, actions=ACTIONS)

    second = await scene.run(scene.second)

    assert (second.status.phase, second.status.reason) == (Phase.FAILED, "ManifestUnsealed")
    assert scene.deleted == []


@asynccontextmanager
async def an_archive_that_replaces_nothing(scene: CopiedScene, name: str) -> AsyncIterator[DocumentSystem]:
    """Let an Archive be a system that refuses a file with a name that it has, once it is ``locked``."""
    async with document_system() as system:
        settings: dict[str, Any] = {"url": system.url, "credentialsSecretRef": {"name": name}}
        keys = {"signingSecret": system.signing_secret.encode(), "bearerToken": system.token.encode()}
        scene.kube.put_secret(name, "archive", keys)
        spec: dict[str, Any] = {"http": settings, "signatures": "Ignore", "path": PATH}
        scene.observe(a_probed_archive(name, version=2, filesystem=None, **spec))
        yield system


def lock(system: DocumentSystem) -> None:
    for each in system.filed.values():
        each.key = "locked"


def contents(system: DocumentSystem) -> dict[str, bytes]:
    return {name: each.path.read_bytes() for name, each in system.filed.items()}


@asynccontextmanager
async def a_locked_archive_of_an_earlier_key(scene: CopiedScene, name: str) -> AsyncIterator[DocumentSystem]:
    async with an_archive_that_replaces_nothing(scene, name) as system:
        sign_with(scene, 1)
        assert (await scene.reconcile_until_quiet()).status.reason == "CleanupDelayed"
        lock(system)
        sign_with(scene, 2)
        yield system


async def retry(scene: CopiedScene) -> EnvelopeEvent:
    """Let a person retry the event."""
    status, now = scene.newest().status, scene.clock.now()
    scene.store(reopened_status(status, reason="RetryRequested", message="A person retries it.", now=now))
    return await scene.reconcile_until_quiet()


HELD = [("dms", Phase.ARCHIVING), ("worm", Phase.COPYING)]


@pytest.mark.parametrize(("name", "phase"), HELD)
async def test_an_archive_that_refuses_a_new_manifest_lets_the_event_wait_and_fail_with_that_reason(
    tmp_path: Path, name: str, phase: Phase
) -> None:
    scene = CopiedScene(tmp_path, **DELAYED)
    async with a_locked_archive_of_an_earlier_key(scene, name) as system:
        before = contents(system)
        event = await scene.retried()
        reasons = set[str | None]()
        while not event.status.phase.is_final:
            reasons.add(event.status.reason)
            waiting, event = event, await scene.retried()

        assert reasons == {"ManifestUnsealed"}
        assert waiting.status.phase is phase
        assert (event.status.phase, event.status.reason) == (Phase.FAILED, "ManifestUnsealed")
        message = event.status.message or ""
        assert f"has no seal of the signing key {a_signer(2).public.id}" in message
        assert "counterfoil.json" in message
        assert "HTTP 409" in message
        assert event.status.mismatches == (1 if name == "dms" else 2)
        assert scene.deleted == []
        assert contents(system) == before


@pytest.mark.parametrize("is_failed", [False, True], ids=["waiting", "failed"])
@pytest.mark.parametrize("name", ["dms", "worm"])
async def test_the_former_key_and_a_retry_end_an_event_whose_archive_refuses_a_new_manifest(
    tmp_path: Path, name: str, *, is_failed: bool
) -> None:
    scene = CopiedScene(tmp_path, **DELAYED)
    async with a_locked_archive_of_an_earlier_key(scene, name) as system:
        before = contents(system)
        await scene.retried()
        event = await scene.retried()
        while is_failed and not event.status.phase.is_final:
            event = await scene.retried()
        assert event.status.reason == "ManifestUnsealed"
        sign_with(scene, 1)
        if is_failed:
            await retry(scene)

        event = await to_the_end(scene)

        assert event.status.reason == "ArchivedAndDeleted"
        assert contents(system) == before


async def test_a_copy_that_refuses_a_new_manifest_holds_nothing_once_it_is_not_required(
    tmp_path: Path,
) -> None:
    scene = CopiedScene(tmp_path, **DELAYED)
    async with a_locked_archive_of_an_earlier_key(scene, "worm"):
        event = await scene.retried()
        while not event.status.phase.is_final:
            event = await scene.retried()
        scene.change(OPTIONAL)
        await retry(scene)
        assert (await to_the_end(scene)).status.reason == "ArchivedAndDeleted"


async def test_an_archive_that_is_down_while_a_manifest_is_sealed_again_is_named(tmp_path: Path) -> None:
    scene = CopiedScene(tmp_path, **DELAYED)
    sign_with(scene, 1)
    await scene.reconcile_until_quiet()
    sign_with(scene, 2)
    await scene.retried()
    scene.break_archive("dms")
    event = await scene.retried()
    assert event.status.reason == "ArchiveRootMissing"

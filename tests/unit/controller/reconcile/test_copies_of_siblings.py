"""Two events of an envelope have one place for their copies. The older archive replaces nothing there."""

import dataclasses
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
import pytest

from controller.requests.copy_requests import CopyRequests
from controller.requests.event_requests import EventRequests
from counterfoil.archives.manifest import hash_lines
from counterfoil.archives.manifest_signature import ManifestSigner
from counterfoil.esaw.errors import EsawUnreachable, HttpStatusError
from counterfoil.resources import (
    EnvelopeEvent,
    EnvelopeStatus,
    Phase,
    find_condition,
    is_condition_true,
    with_condition,
)
from counterfoil.resources.conditions import ConditionStatus
from counterfoil.resources.envelopeevent import SIGNATURES_CONDITION, FileKind
from counterfoil.resources.reopening import DELETION_ASSUMED, copies_to_retry, reopened_status
from counterfoil.resources.request import Request
from counterfoil.resources.routes import stored_copy, with_copy
from counterfoil.signatures.results import Signatures, State
from tests.support.builders import ENVELOPE, an_event
from tests.support.fakes.reconcile_context import a_probed_archive
from tests.support.scenes.copied_events import MIRROR, WORM, CopiedScene, copied
from tests.support.signing_keys import a_signer

ACTIONS = [{"action": "envelopeFinished"}, {"action": "workstepFinished"}]
OTHER_PATH = "{{organization}}/new/{{envelope.id}}/{{file.name}}"
LATER_TRAIL = b"%PDF-1.7 rendered later"


WITH_OR_WITHOUT_KEY = pytest.mark.parametrize("signer", [None, a_signer()], ids=["no key", "a key"])
"""The signing key of the controller: none, or one."""


class TwoEvents(CopiedScene):
    """Two events of one envelope. ``mirror`` becomes a copy after the first one has ended."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, names=("worm", "mirror"), actions=ACTIONS, evidence={"wait": "10m"})
        self.first = self.event.name
        second = an_event().for_action("workstepFinished").named("second").build()
        self.second = second.name
        self.kube.put(second)
        self.trail = self.envelope.contents["trail-1"]

    def sign_with(self, signer: ManifestSigner | None) -> None:
        """Let the controller have this signing key."""
        checker = dataclasses.replace(self.preconditions.archives.signature_checker, signer=signer)
        self.change_archives(signature_checker=checker)

    async def run(self, name: str) -> EnvelopeEvent:
        """Reconcile an event until it has ended."""
        self.event = self.kube.stored(name)
        self.clock.advance(seconds=5)
        event = await self.reconcile_until_quiet()
        while not event.status.phase.is_final:
            event = await self.retried()
        return event

    async def archive_first(self, *, with_trail: bool) -> None:
        """Archive the first event, which keeps the envelope for want of a trail or of a right."""
        if with_trail:
            self.change(WORM, actions=ACTIONS, cleanup={"policy": "Keep"})
        else:
            del self.envelope.contents["trail-1"]
        first = await self.run(self.first)
        assert first.status.reason == ("ArchivedAndKept" if with_trail else "AuditTrailMissing")

    async def archive_second(self) -> EnvelopeEvent:
        """Archive the second event, with a trail that is rendered later, and delete the envelope."""
        self.envelope.contents["trail-1"] = LATER_TRAIL
        self.change(WORM, MIRROR, actions=ACTIONS)
        second = await self.run(self.second)
        assert second.status.reason == "ArchivedAndDeleted"
        assert stored_copy(second.status, "mirror").verified_time is not None
        return second

    async def copy_first(self) -> EnvelopeEvent:
        """Let a person ask for the copies of the first event."""
        return await self.ask_for_copies(self.first)

    async def ask_for_copies(self, name: str) -> EnvelopeEvent:
        self.event = self.kube.stored(name)
        self.clock.advance(seconds=5)
        result = await CopyRequests(self.cache, self.clock).copy(self.newest(), Request("copy"))
        assert result.change is not None, result.message
        self.store(result.change(self.newest().status))
        return await self.reconcile_until_quiet()

    def change_path(self) -> None:
        self.observe(
            a_probed_archive("dms", root=self.folders["dms"], path=OTHER_PATH, version=50, generation=50)
        )

    def contents(self, name: str = "mirror") -> dict[str, bytes]:
        found = (each for each in self.folders[name].rglob("*") if each.is_file())
        return {each.name: each.read_bytes() for each in found}


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


DELAYED: dict[str, Any] = {"actions": ACTIONS, "cleanup": {"policy": "Delete", "after": "720h"}}
TAGGED: dict[str, Any] = {
    "path": "{{tags.customer}}/{{envelope.id}}/{{file.name}}",
    "tags": {"customer": {"callback": "customer"}},
}


class TwoFolders(TwoEvents):
    """Two events of one envelope with a required copy. Only the callback of the second one has the parameter
    that the path of the first archive is made of. Both wait for the time of the delete."""

    def __init__(self, folder: Path, *copies: dict[str, Any]) -> None:
        super().__init__(folder)
        self.callback = {"callback": {"parameters": ["customer"]}}
        self.change(*(copies or (WORM,)), **DELAYED, **self.callback)
        self.observe(a_probed_archive("dms", root=self.folders["dms"], version=40, generation=40, **TAGGED))
        builder = an_event().for_action("workstepFinished").named("second")
        self.kube.put(builder.with_parameters(customer="ACME-1").build())

    async def run(self, name: str) -> EnvelopeEvent:
        """Reconcile an event until nothing is due."""
        self.event = self.kube.stored(name)
        self.clock.advance(seconds=5)
        self.cache.update(self.event)
        return await self.reconcile_until_quiet()

    async def archive_both(self) -> None:
        await self.run(self.first)
        self.envelope.contents["trail-1"] = LATER_TRAIL
        await self.run(self.second)
        assert self.contents("worm")["audit-trail.pdf"] == LATER_TRAIL
        assert self.deleted == []

    def protected(self, name: str) -> float:
        """Return how often a file was protected in an Archive."""
        return self.metric("archive_seconds_count", archive=name, operation="retain") or 0.0

    def plant_copy(self, name: str, signer: ManifestSigner | None) -> None:
        """Let somebody put the archived files in the place of a copy, beside a manifest with one more."""
        (original,) = self.folders["dms"].rglob("counterfoil.json")
        folder = self.folders[name] / "acme" / ENVELOPE
        shutil.copytree(original.parent, folder)
        manifest = json.loads(original.read_bytes())
        more = {**manifest["files"][0], "fileID": "file-9", "name": "one-more.pdf"}
        manifest["files"].append(more)
        manifest["sealedBy"] = signer.public.id if signer is not None else None
        content = json.dumps(manifest).encode()
        (folder / "counterfoil.json").write_bytes(content)
        lines = hash_lines((each["name"], each["sha256"]) for each in manifest["files"])
        (folder / "counterfoil.sha256").write_bytes(lines)
        if signer is not None:
            (folder / "counterfoil.json.sig").write_bytes(signer.sign(content))

    async def end(self, name: str) -> EnvelopeEvent:
        """Reconcile an event, with its retries, until it has ended."""
        event = await self.run(name)
        while not event.status.phase.is_final:
            event = await self.retried()
        return event


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


CUT = b"%PDF-contrac\0"


async def archive_second_in_doubt(scene: TwoFolders) -> EnvelopeEvent:
    """Let a proxy cut both downloads of the second event, and eSignAnyWhere send the whole file after."""
    whole, scene.envelope.contents["file-1"] = scene.envelope.contents["file-1"], CUT
    scene.examiner.found[CUT] = Signatures(state=State.BROKEN, detail="a signature is broken")
    second = await scene.end(scene.second)
    assert (second.status.phase, second.status.reason) == (Phase.FAILED, "DocumentInDoubt")
    scene.envelope.contents["file-1"] = whole
    return second


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


OTHER = b"%PDF-contr"


def send_other_document(scene: TwoFolders) -> bytes:
    """Let downloads be cut so that no check finds it; return the whole document."""
    whole, scene.envelope.contents["file-1"] = scene.envelope.contents["file-1"], OTHER
    return whole


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


class OneFolder(TwoFolders):
    """Two events of one envelope with one folder in the first archive, and no copies. The earlier one
    archives the envelope again at its delete, since its trail is damaged by then, and both end."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.change(**DELAYED)
        self.observe(a_probed_archive("dms", root=self.folders["dms"], version=60, generation=60))

    async def archive_again(self) -> None:
        await self.run(self.first)
        await self.run(self.second)
        self.backup = self.folders["dms"].with_name("backup")
        shutil.copytree(self.folders["dms"], self.backup)
        (trail,) = self.folders["dms"].rglob("audit-trail.pdf")
        trail.write_bytes(b"damaged")
        self.envelope.contents["trail-1"] = LATER_TRAIL
        self.clock.advance(hours=721)
        first, second = await self.end(self.first), await self.end(self.second)
        assert (first.status.reason, second.status.reason) == ("ArchivedAndDeleted", "ArchivedAndDeleted")
        assert trail.read_bytes() == LATER_TRAIL
        self.change(MIRROR, **DELAYED)


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


async def archive_with_one_event(scene: OneFolder, *, is_copied: bool) -> None:
    """Archive an envelope of which there is one event only. Its delete waits."""
    await scene.kube.delete(EnvelopeEvent, scene.second)
    scene.change(*((WORM,) if is_copied else ()), **DELAYED)
    await scene.run(scene.first)


async def lose_and_archive_again(scene: OneFolder, lost: str, *, is_copied: bool) -> EnvelopeEvent:
    """Archive an envelope with one event, lose a file of it in the first archive, and let each download be
    cut from then on."""
    await archive_with_one_event(scene, is_copied=is_copied)
    (file,) = scene.folders["dms"].rglob(lost)
    file.unlink()
    send_other_document(scene)
    scene.clock.advance(hours=721)
    return await scene.end(scene.first)


WITH_OR_WITHOUT_COPY = pytest.mark.parametrize("is_copied", [False, True], ids=["no copy", "a copy"])


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


def hash_of(event: EnvelopeEvent, file_id: str) -> str | None:
    (document,) = (each for each in event.status.documents if each.file_id == file_id)
    return document.sha256


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


def remove_file(scene: TwoFolders) -> None:
    (file,) = scene.folders["dms"].rglob("file-1.pdf")
    file.unlink()


async def retry_by_a_person(scene: TwoFolders) -> None:
    request = Request("retry")
    result = await EventRequests(scene.clock).retry(scene.newest(), request)
    last = request.handled(result.outcome, result.message, now=scene.clock.now())
    scene.store(msgspec.structs.replace(result.change(scene.newest().status), last_request=last))


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


LEGAL = b"%PDF-1.7 the whole terms"


def legal_contents(scene: TwoFolders, archive: str) -> set[bytes]:
    return {each.read_bytes() for each in scene.folders[archive].rglob("legal-1.pdf")}


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
    scene.examiner.found[CUT] = Signatures(state=State.BROKEN, detail="a signature is broken")
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
    [(True, "1 of its 2 files are known to be archived"), (False, "1 file of it is known to be archived.")],
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
    scene.envelope.but(f"download {broken}", EsawUnreachable("connect"))
    scene.clock.advance(hours=721)
    await scene.run(scene.first)
    while f"download {broken}" not in scene.envelope.asked:
        await scene.retried()
    scene.envelope.problems.clear()
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
    scene.examiner.found[CUT] = Signatures(state=State.BROKEN, detail="a signature is broken")
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
    scene.examiner.found[CUT] = Signatures(state=State.BROKEN, detail="a signature is broken")
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
    scene.examiner.found[CUT] = Signatures(state=State.BROKEN, detail="a signature is broken")
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

"""The Archive of an Import: its events go there, unless the envelope was archived elsewhere before."""

import asyncio
import dataclasses
import json
import shutil
from collections.abc import AsyncGenerator, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from controller.mails.problem_tracking import failure_observation
from controller.reconcile.import_archives import REMEMBERED_SECONDS, ImportArchives
from controller.scheduling.due import EPOCH, due_time
from counterfoil.archives.backends.filesystem import FilesystemBackend
from counterfoil.esaw.errors import EsawUnreachable
from counterfoil.kube.errors import Forbidden, Rejected
from counterfoil.resources import (
    IMPORT_ARCHIVE_LABEL,
    IMPORT_LABEL,
    SENDER_LABEL,
    Archive,
    EnvelopeEvent,
    Import,
    Origin,
    Phase,
    find_condition,
)
from counterfoil.resources.organization import EnvelopeStatus
from counterfoil.resources.reopening import reopened_status
from counterfoil.resources.routes import Choice, stored_choice
from tests.support.builders import EventBuilder, an_event, an_organization
from tests.support.fakes.reconcile_context import a_probed_archive, an_archive
from tests.support.scenes.imports import an_import
from tests.support.scenes.reconciler import ReconcilerScene
from tests.support.scenes.unmounted import read_marker_of, unmount
from tests.support.signing_keys import a_signer

OF_IMPORT = Choice("vault", None, "old-stock")
USUAL = Choice("dms", None)
FILES = ["audit-trail.pdf", "file-1.pdf"]
ACTIONS = [{"action": "envelopeFinished"}, {"action": "workstepFinished"}]


def of_import(builder: EventBuilder, archive: str = "vault") -> EventBuilder:
    """Let an Import have created an event; ``archive`` is the one that it names, empty for none."""
    builder = builder.by(Origin.IMPORT).labelled(IMPORT_LABEL, "old-stock")
    return builder.labelled(IMPORT_ARCHIVE_LABEL, archive) if archive else builder


class ImportedScene(ReconcilerScene):
    """An event of an Import into ``vault``. The Archive of its Organization is ``dms``."""

    def __init__(self, folder: Path, archive: str = "vault", **spec: Any) -> None:
        self.dms, self.vault = folder / "dms", folder / "vault"
        self.dms.mkdir(parents=True)
        self.vault.mkdir()
        builder = of_import(an_event(), archive)
        super().__init__(self.dms, builder, **{"cleanup": {"policy": "Keep"}, **spec})
        self.generation = 1
        self.change_vault()

    def change_vault(self, **spec: Any) -> None:
        """Let a person change the Archive of the Import."""
        self.generation += 1
        versions: dict[str, Any] = {"version": self.generation, "generation": self.generation}
        self.observe(a_probed_archive("vault", root=self.vault, **versions, **spec))

    def recreate_vault(self, root: Path) -> Path:
        """Let somebody delete the Archive of the Import, and create one of this name in this folder."""
        root.mkdir()
        self.generation += 1
        self.clock.advance(minutes=30)
        versions: dict[str, Any] = {"version": self.generation, "generation": self.generation}
        archive = a_probed_archive("vault", root=root, marker_id="3" * 32, **versions)
        metadata = replace(archive.metadata, uid="another", creation_timestamp=self.clock.now())
        self.cache.archives.remove("vault")
        self.observe(replace(archive, metadata=metadata))
        return root

    async def was_archived(self, choice: Choice = USUAL) -> None:
        """Let the envelope have been archived, and its event be removed."""
        builder = of_import(an_event()) if choice.import_ else an_event()
        self.kube.put(builder.labelled(SENDER_LABEL, "anna").build())
        after = await self.reconcile()
        assert stored_choice(after.status) == choice
        self.restarted()
        self.cache.forget_event(self.event.name)
        self.kube.objects.pop((EnvelopeEvent.PLURAL, self.event.name))
        self.kube.put(self.event)


def use_key(scene: ImportedScene) -> None:
    """Let the controller have a signing key from now on."""
    checker = scene.preconditions.archives.signature_checker
    scene.change_archives(signature_checker=dataclasses.replace(checker, signer=a_signer()))


async def end_before_archiving(scene: ImportedScene) -> None:
    """Let the controller end once the event has claimed its places, and start again."""
    patch = scene.kube.patch_status

    async def patch_and_end(kind: Any, name: str, status: Any, **options: Any) -> Any:
        answer = await patch(kind, name, status, **options)
        if status.get("phase") == Phase.ARCHIVING:
            raise asyncio.CancelledError
        return answer

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(scene.kube, "patch_status", patch_and_end)
        with pytest.raises(asyncio.CancelledError):
            await scene.reconcile()
    scene.restarted()
    scene.cache.update(scene.newest())


async def plant(root: Path, tmp_path: Path, *, known: bytes | None = None) -> Path:
    """Let a program write a manifest of the envelope without a seal, which lists no file, and a document that
    it knows. Return the folder."""
    other = ImportedScene(tmp_path / "elsewhere")
    await other.was_archived()
    (archived,) = other.dms.rglob("counterfoil.json")
    folder = root / archived.parent.relative_to(other.dms)
    folder.mkdir(parents=True)
    (folder / "counterfoil.json").write_text(json.dumps({**json.loads(archived.read_text()), "files": []}))
    if known is not None:
        (document,) = other.dms.rglob("file-1.pdf")
        (beside := root / document.relative_to(other.dms)).parent.mkdir(exist_ok=True)
        beside.write_bytes(known)
    return folder


@pytest.fixture
def scene(tmp_path: Path) -> ImportedScene:
    return ImportedScene(tmp_path)


def documents(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.rglob("*.pdf"))


async def test_an_event_of_the_import_goes_to_the_archive_of_the_import(scene: ImportedScene) -> None:
    after = await scene.reconcile()

    assert (after.status.phase, after.status.reason) == (Phase.SUCCEEDED, "ArchivedAndKept")
    assert stored_choice(after.status) == OF_IMPORT
    assert (documents(scene.vault), documents(scene.dms)) == (FILES, [])
    assert scene.slots == [(after.name, "vault")]


async def test_status_condition_and_manifest_name_the_import(scene: ImportedScene) -> None:
    after = await scene.reconcile()

    collected = find_condition(after.status.conditions, "Collected")
    assert collected is not None
    assert collected.message == (
        "2 files will be archived in Archive/vault by spec.archiveRef of Import/old-stock."
    )
    (manifest,) = scene.vault.rglob("counterfoil.json")
    extra = json.loads(manifest.read_text())["extra"]
    assert (extra["archive"], extra["import"]) == ("vault", "old-stock")
    assert "route" not in extra


async def test_the_archive_of_the_import_comes_before_the_routes(tmp_path: Path) -> None:
    route = {"name": "all", "archiveRef": {"name": "dms"}, "when": {"statuses": ["Completed"]}}
    scene = ImportedScene(tmp_path, routes=[route])
    assert stored_choice((await scene.reconcile()).status) == OF_IMPORT


async def test_an_event_of_an_import_without_an_archive_goes_to_that_of_the_organization(
    tmp_path: Path,
) -> None:
    scene = ImportedScene(tmp_path, archive="")
    assert stored_choice((await scene.reconcile()).status) == USUAL


# -- What was archived before --------------------------------------------------------------------------------


async def test_an_envelope_that_was_archived_before_is_not_stored_a_second_time(scene: ImportedScene) -> None:
    await scene.was_archived()
    after = await scene.reconcile()

    assert (after.status.phase, stored_choice(after.status)) == (Phase.SUCCEEDED, USUAL)
    assert (documents(scene.dms), documents(scene.vault)) == (FILES, [])


async def test_an_envelope_that_a_route_led_elsewhere_before_stays_there(tmp_path: Path) -> None:
    hr = tmp_path / "hr"
    hr.mkdir()
    route = {"name": "all", "archiveRef": {"name": "hr"}, "when": {"statuses": ["Completed"]}}
    scene = ImportedScene(tmp_path, routes=[route])
    scene.observe(a_probed_archive("hr", root=hr))
    await scene.was_archived(Choice("hr", "all"))
    after = await scene.reconcile()

    assert stored_choice(after.status) == Choice("hr", "all")
    assert (documents(hr), documents(scene.vault), documents(scene.dms)) == (FILES, [], [])


@pytest.mark.parametrize("archive", ["", "third"])
async def test_an_envelope_that_an_earlier_import_archived_is_not_stored_a_second_time(
    tmp_path: Path, archive: str
) -> None:
    scene = ImportedScene(tmp_path, archive=archive)
    third = tmp_path / "third"
    third.mkdir()
    scene.observe(a_probed_archive("third", root=third))
    scene.kube.put(an_import(archiveRef={"name": "vault"}))
    await scene.was_archived(OF_IMPORT)
    after = await scene.reconcile()

    assert stored_choice(after.status) == OF_IMPORT
    assert (documents(scene.vault), documents(scene.dms), documents(third)) == (FILES, [], [])


@pytest.mark.parametrize("spec", [{"dryRun": True}, {"organizationRef": {"name": "other"}}])
async def test_an_import_that_archived_nothing_of_the_organization_has_no_say(
    tmp_path: Path, spec: dict[str, Any]
) -> None:
    scene = ImportedScene(tmp_path, archive="")
    await scene.was_archived(USUAL)
    scene.kube.put(an_import(archiveRef={"name": "vault"}, **spec))
    scene.cache.archives.remove("vault")
    assert stored_choice((await scene.reconcile()).status) == USUAL


async def test_a_manifest_of_another_envelope_in_its_place_says_nothing(scene: ImportedScene) -> None:
    await scene.was_archived()
    (manifest,) = scene.dms.rglob("counterfoil.json")
    content = json.loads(manifest.read_text())
    content["envelope"]["id"] = "11111111-4b1d-4c58-9a57-6d1f0a3b2c4d"
    manifest.write_text(json.dumps(content))
    after = await scene.reconcile()

    assert stored_choice(after.status) == OF_IMPORT


async def test_files_that_differ_beside_an_earlier_manifest_are_not_believed(scene: ImportedScene) -> None:
    """A manifest without our seal leads to a comparison, and proves nothing."""
    await scene.was_archived()
    (document,) = scene.dms.rglob("file-1.pdf")
    document.write_bytes(b"%PDF of somebody else")
    after = await scene.reconcile()

    assert (after.status.phase, after.status.reason) == (Phase.FAILED, "NameOccupied")
    assert documents(scene.vault) == []


async def test_a_manifest_that_nobody_sealed_says_where_the_event_goes_once_it_is_moved(
    tmp_path: Path,
) -> None:
    """It may be an earlier state of the envelope from before there was a key, or planted."""
    scene = ImportedScene(tmp_path)
    await scene.was_archived()
    for each in scene.dms.rglob("*.pdf"):
        each.write_bytes(b"%PDF-another")
    failed = await scene.reconcile()
    assert (failed.status.phase, failed.status.reason) == (Phase.FAILED, "NameOccupied")
    assert failed.status.message is not None
    assert failed.status.message.endswith(
        "That manifest led the event of this Import to Archive/dms. Once it is moved, a retry archives in "
        "Archive/vault."
    )

    (manifest,) = scene.dms.rglob("counterfoil.json")
    manifest.parent.rename(tmp_path / "moved")
    status = reopened_status(failed.status, reason="RetryRequested", message="", now=scene.clock.now())
    scene.kube.put(replace(failed, status=status))
    after = await scene.reconcile()
    assert (after.status.phase, stored_choice(after.status)) == (Phase.SUCCEEDED, OF_IMPORT)
    assert documents(scene.vault) == FILES


@pytest.mark.parametrize("has_key", [False, True])
@pytest.mark.parametrize("reads", [1, 2, 3])
async def test_a_planted_manifest_that_is_gone_before_the_first_file_is_sent_gets_no_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: int, has_key: bool
) -> None:
    """A program that may write in one Archive draws no documents to it that are meant for another one."""
    scene = ImportedScene(tmp_path)
    if has_key:
        use_key(scene)
    folder = await plant(scene.dms, tmp_path)
    read, seen = FilesystemBackend.read, list[str]()

    async def read_and_count(backend: FilesystemBackend, name: str) -> AsyncGenerator[bytes, None]:
        async for chunk in read(backend, name):
            yield chunk
        if name.endswith("counterfoil.json") and str(scene.dms) in backend.location(name):
            seen.append(name)
            if len(seen) == reads:
                shutil.rmtree(folder)

    monkeypatch.setattr(FilesystemBackend, "read", read_and_count)
    failed = await scene.reconcile()
    assert (failed.status.phase, failed.status.reason) == (Phase.FAILED, "NameOccupied")
    assert failed.status.message is not None
    assert failed.status.message.endswith("A retry chooses the Archive again.")
    assert (documents(scene.dms), documents(scene.vault)) == ([], [])

    status = reopened_status(failed.status, reason="RetryRequested", message="", now=scene.clock.now())
    scene.kube.put(replace(failed, status=status))
    after = await scene.reconcile()
    assert (after.status.phase, stored_choice(after.status)) == (Phase.SUCCEEDED, OF_IMPORT)
    assert (documents(scene.dms), documents(scene.vault)) == ([], FILES)


@pytest.mark.parametrize("has_key", [False, True])
async def test_a_planted_manifest_beside_a_file_that_is_known_gets_no_other_document(
    tmp_path: Path, has_key: bool
) -> None:
    """Many people have one file of an envelope, such as terms that are attached to each."""
    scene = ImportedScene(tmp_path, cleanup={"policy": "Delete"})
    scene.envelope.contents["file-2"] = b"%PDF-contract"
    if has_key:
        use_key(scene)
    folder = await plant(scene.dms, tmp_path, known=scene.envelope.contents["file-1"])
    failed = await scene.reconcile()

    assert (failed.status.phase, failed.status.reason) == (Phase.FAILED, "NameOccupied")
    assert failed.status.message == (
        "This event was led to Archive/dms. No other event has files there, and no manifest there has a seal "
        "of the controller's key for this Archive. Not every file of the envelope is there as eSignAnyWhere "
        f"sends it. So no document was sent there. If {(folder / 'counterfoil.json').as_uri()} is there, "
        "keep its folder: move it to another place. A retry chooses the Archive again."
    )
    assert (documents(scene.dms), documents(scene.vault)) == (["file-1.pdf"], [])
    assert scene.envelope.transport.deleted == []

    folder.rename(tmp_path / "moved")
    status = reopened_status(failed.status, reason="RetryRequested", message="", now=scene.clock.now())
    scene.kube.put(replace(failed, status=status))
    after = await scene.reconcile()
    assert (after.status.phase, stored_choice(after.status)) == (Phase.SUCCEEDED, OF_IMPORT)
    assert documents(scene.dms) == []


@pytest.mark.parametrize("has_key", [False, True])
async def test_a_planted_manifest_that_only_a_later_run_sees_gets_no_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_key: bool
) -> None:
    """The server of an Archive hides it while names are claimed there. The controller ends after that."""
    scene = ImportedScene(tmp_path, cleanup={"policy": "Delete"})
    if has_key:
        use_key(scene)
    folder = await plant(scene.dms, tmp_path)
    read, hidden = FilesystemBackend.read, folder.with_name("hidden")

    async def read_and_hide(backend: FilesystemBackend, name: str) -> AsyncGenerator[bytes, None]:
        async for chunk in read(backend, name):
            yield chunk
        if name.endswith("counterfoil.json") and str(scene.dms) in backend.location(name):
            folder.rename(hidden)

    monkeypatch.setattr(FilesystemBackend, "read", read_and_hide)
    await end_before_archiving(scene)
    assert stored_choice(scene.newest().status) == USUAL
    monkeypatch.setattr(FilesystemBackend, "read", read)
    hidden.rename(folder)
    failed = await scene.reconcile()

    assert (failed.status.phase, failed.status.reason) == (Phase.FAILED, "NameOccupied")
    assert (documents(scene.dms), documents(scene.vault)) == ([], [])


@pytest.mark.parametrize("has_key", [False, True])
@pytest.mark.parametrize("refused", [0, 2])
async def test_what_was_read_back_in_another_archive_lets_a_planted_manifest_get_no_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: int, has_key: bool
) -> None:
    """The event keeps the hashes of its files, without their places if the API server refused its status
    twice. A retry sees a manifest that is hidden after that."""
    scene = ImportedScene(tmp_path, cleanup={"policy": "Delete"})
    scene.envelope.contents["file-2"] = b"%PDF-contract"
    if has_key:
        use_key(scene)
    scene.envelope.but("download trail-1", EsawUnreachable("connect"))
    refusals = [Rejected(422, "Invalid", "no")] * refused
    scene.envelope.meanwhile["download trail-1"] = lambda: scene.kube.fail("patch_status", *refusals)
    failed = await scene.reconcile()
    while not failed.status.phase.is_final:
        scene.clock.advance(hours=2)
        failed = await scene.reconcile()
    assert stored_choice(failed.status) == OF_IMPORT
    assert [each.sha256 is not None for each in failed.status.documents] == [True, True, False]
    scene.envelope.problems.clear()
    scene.envelope.meanwhile.clear()
    folder = await plant(scene.dms, tmp_path)
    read = FilesystemBackend.read

    async def read_and_hide(backend: FilesystemBackend, name: str) -> AsyncGenerator[bytes, None]:
        async for chunk in read(backend, name):
            yield chunk
        if name.endswith("counterfoil.json") and str(scene.dms) in backend.location(name) and folder.exists():
            shutil.rmtree(folder)

    monkeypatch.setattr(FilesystemBackend, "read", read_and_hide)
    status = reopened_status(failed.status, reason="RetryRequested", message="", now=scene.clock.now())
    scene.kube.put(replace(failed, status=status))
    failed = await scene.reconcile()
    assert (failed.status.phase, failed.status.reason) == (Phase.FAILED, "NameOccupied")
    assert (documents(scene.dms), scene.envelope.transport.deleted) == ([], [])

    status = reopened_status(failed.status, reason="RetryRequested", message="", now=scene.clock.now())
    scene.kube.put(replace(failed, status=status))
    after = await scene.reconcile()
    assert (after.status.phase, stored_choice(after.status)) == (Phase.SUCCEEDED, OF_IMPORT)
    assert (documents(scene.dms), documents(scene.vault)) == (
        [],
        ["audit-trail.pdf", "file-1.pdf", "file-2.pdf"],
    )


@pytest.mark.parametrize("has_key", [False, True])
async def test_an_event_that_a_planted_manifest_led_leads_no_other_one(tmp_path: Path, has_key: bool) -> None:
    """Neither one of an Import that asks the same Archive, nor one of a callback that follows."""
    scene = ImportedScene(tmp_path, archive="third", actions=ACTIONS)
    (third := tmp_path / "third").mkdir()
    scene.observe(a_probed_archive("third", root=third))
    scene.kube.put(an_import(archiveRef={"name": "vault"}))
    if has_key:
        use_key(scene)
    await plant(scene.vault, tmp_path, known=scene.envelope.contents["file-1"])
    scene.envelope.contents["file-2"] = b"%PDF-contract"
    imported, builder = scene.event, an_event().for_action("workstepFinished")
    of_callback = builder.named("callback").labelled(SENDER_LABEL, "anna").build()
    second = of_import(builder.named("second"), "third").labelled(SENDER_LABEL, "anna").build()
    for each in (of_callback, second):
        scene.kube.put(each)
    await end_before_archiving(scene)
    assert stored_choice(scene.newest().status) == OF_IMPORT
    for event in (of_callback, second, imported):
        scene.event = event
        after = await scene.reconcile()
        assert (after.status.phase, after.status.reason) == (Phase.FAILED, "NameOccupied")
    assert (documents(scene.vault), documents(scene.dms), documents(third)) == (["file-1.pdf"], [], [])


@pytest.mark.parametrize("has_seal", [False, True])
async def test_what_an_event_archived_in_an_archive_of_before_leads_no_other_one_to_its_successor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_seal: bool
) -> None:
    """Somebody creates an Archive of the name of one that was deleted. Its server shows a manifest of the
    envelope once, or the sealed one of the other Archive."""
    scene = ImportedScene(tmp_path, actions=ACTIONS, cleanup={"policy": "Keep"})
    (third := tmp_path / "third").mkdir()
    scene.observe(a_probed_archive("third", root=third))
    scene.kube.put(an_import(archiveRef={"name": "vault"}))
    use_key(scene)
    first = await scene.reconcile()
    assert stored_choice(first.status) == OF_IMPORT
    (archived,) = scene.vault.rglob("counterfoil.json")
    planted = scene.recreate_vault(tmp_path / "planted") / archived.parent.relative_to(scene.vault)
    if has_seal:
        shutil.copytree(
            archived.parent,
            planted,
            ignore=lambda _folder, names: [each for each in names if each.endswith(".pdf")],
        )
    else:
        await plant(tmp_path / "planted", tmp_path)
    read = FilesystemBackend.read

    async def read_and_hide(backend: FilesystemBackend, name: str) -> AsyncGenerator[bytes, None]:
        async for chunk in read(backend, name):
            yield chunk
        if not has_seal and name.endswith("counterfoil.json") and str(planted) in backend.location(name):
            shutil.rmtree(planted)

    monkeypatch.setattr(FilesystemBackend, "read", read_and_hide)
    builder = of_import(an_event().for_action("workstepFinished").named("second"), "third")
    scene.event = builder.labelled(SENDER_LABEL, "anna").build()
    scene.kube.put(scene.event)
    failed = await scene.reconcile()

    assert (failed.status.phase, failed.status.reason) == (Phase.FAILED, "NameOccupied")
    assert (documents(tmp_path / "planted"), documents(third)) == ([], [])


async def test_an_envelope_that_was_archived_before_there_was_a_key_is_recognised(
    scene: ImportedScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All its documents are there, so none is sent. An audit trail is rendered at each download."""
    await scene.was_archived()
    use_key(scene)
    scene.envelope.contents["trail-1"] = b"%PDF-rendered again"
    put, sent = FilesystemBackend.put, list[str]()

    async def put_and_note(backend: FilesystemBackend, name: str, *args: Any, **options: Any) -> None:
        sent.append(name.rpartition("/")[2])
        await put(backend, name, *args, **options)

    monkeypatch.setattr(FilesystemBackend, "put", put_and_note)
    after = await scene.reconcile()

    assert (after.status.phase, stored_choice(after.status)) == (Phase.SUCCEEDED, USUAL)
    assert "file-1.pdf" not in sent
    assert documents(scene.vault) == []


async def test_an_expired_envelope_is_not_archived_where_only_a_manifest_without_a_seal_leads(
    tmp_path: Path,
) -> None:
    """It can be restarted, and what is signed then would go there as well."""
    scene = ImportedScene(tmp_path, statuses=["Completed", "Expired"])
    scene.envelope.status = EnvelopeStatus.EXPIRED
    await scene.was_archived()
    failed = await scene.reconcile()

    assert (failed.status.phase, failed.status.reason) == (Phase.FAILED, "NameOccupied")
    assert "The envelope can still be signed." in (failed.status.message or "")
    assert documents(scene.vault) == []


@pytest.mark.parametrize(
    ("status", "end"), [("Completed", "ArchivedAndKept"), ("Expired", "ArchivedAsExpired")]
)
async def test_a_manifest_with_our_seal_leads_although_a_document_was_lost(
    tmp_path: Path, status: str, end: str
) -> None:
    scene = ImportedScene(tmp_path, statuses=["Completed", "Expired"])
    scene.envelope.status = EnvelopeStatus(status)
    use_key(scene)
    await scene.was_archived()
    (document,) = scene.dms.rglob("file-1.pdf")
    document.unlink()
    after = await scene.reconcile()

    assert after.status.reason == end
    assert stored_choice(after.status) == USUAL
    assert (documents(scene.dms), documents(scene.vault)) == (FILES, [])


async def test_a_sealed_manifest_that_was_copied_from_another_archive_gets_no_document(
    tmp_path: Path,
) -> None:
    scene = ImportedScene(tmp_path)
    use_key(scene)
    await scene.was_archived(OF_IMPORT)
    (manifest,) = scene.vault.rglob("counterfoil.json")
    folder = scene.dms / manifest.parent.relative_to(scene.vault)
    folder.mkdir(parents=True)
    for each in manifest.parent.glob("counterfoil.json*"):
        shutil.copy(each, folder)
    failed = await scene.reconcile()

    assert (failed.status.phase, failed.status.reason) == (Phase.FAILED, "NameOccupied")
    assert documents(scene.dms) == []


async def test_a_foreign_file_beside_a_sealed_archive_lets_nobody_move_that(tmp_path: Path) -> None:
    scene = ImportedScene(tmp_path)
    use_key(scene)
    await scene.was_archived()
    (document,) = scene.dms.rglob("file-1.pdf")
    document.with_name("file-2.pdf").write_bytes(b"%PDF of another program")
    scene.envelope.contents["file-2"] = b"%PDF-2"
    failed = await scene.reconcile()

    assert (failed.status.phase, failed.status.reason) == (Phase.FAILED, "NameOccupied")
    assert failed.status.message is not None
    assert "manifest" not in failed.status.message
    assert failed.status.message.endswith("Move it away, or change spec.path of the Archive.")


async def test_an_earlier_archive_that_requires_a_tag_of_new_envelopes_holds_no_old_one(
    scene: ImportedScene,
) -> None:
    tags = {"area": {"jsonPath": "$.area", "required": True}}
    scene.observe(a_probed_archive(root=scene.dms, version=5, generation=5, tags=tags))
    assert stored_choice((await scene.reconcile()).status) == OF_IMPORT


@pytest.mark.parametrize("state", ["suspended", "not probed"])
async def test_an_event_waits_while_it_is_not_known_whether_the_envelope_was_archived(
    scene: ImportedScene, state: str
) -> None:
    await scene.was_archived()
    root = {"root": str(scene.dms)}
    is_suspended = state == "suspended"
    held = a_probed_archive(root=scene.dms, version=5, generation=5, suspend=True)
    scene.observe(held if is_suspended else an_archive(version=5, generation=5, filesystem=root))
    waiting = await scene.reconcile()
    assert waiting.status.phase is Phase.COLLECTING
    assert waiting.status.reason == ("ArchiveSuspended" if is_suspended else "ArchiveNotProbed")
    assert (stored_choice(waiting.status), documents(scene.vault)) == (None, [])

    scene.observe(a_probed_archive(root=scene.dms, version=6, generation=6))
    assert stored_choice((await scene.reconcile()).status) == USUAL


class AskedScene(ImportedScene):
    """An event that asks ``third``, the Archive of an earlier Import, before it is archived in ``vault``."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, retry={"initial": "1s", "max": "1s", "deadline": "1m"})
        self.third = folder / "third"
        self.third.mkdir()
        self.kube.put(an_import(name="earlier", archiveRef={"name": "third"}))
        self.change_third()

    def change_third(self, **spec: Any) -> None:
        self.generation += 1
        versions: dict[str, Any] = {"version": self.generation, "generation": self.generation}
        self.observe(a_probed_archive("third", root=self.third, **versions, **spec))

    def due(self) -> datetime | None:
        return due_time(self.newest(), self.cache, self.clock.now())

    async def run(self) -> EnvelopeEvent:
        after = await self.reconcile()
        self.cache.update(after)
        return after


class _PoolThatOpens:
    """A pool that acts once after it has opened an Archive."""

    def __init__(self, pool: Any, name: str, act: Callable[[], None]) -> None:
        self._pool, self._acts = pool, {name: act}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    async def anchors(self, archive: Archive) -> Any:
        found = await self._pool.anchors(archive)
        self._acts.pop(archive.name, lambda: None)()
        return found


async def test_an_archive_of_another_import_that_is_created_again_while_it_is_asked_gets_nothing(
    tmp_path: Path,
) -> None:
    """It has the envelope, but that which has its name afterwards is another one."""
    scene = AskedScene(tmp_path)
    earlier = of_import(an_event(), "third").labelled(SENDER_LABEL, "anna").build()
    scene.kube.put(earlier)
    assert stored_choice((await scene.reconcile()).status) == Choice("third", None, "old-stock")
    scene.restarted()
    scene.cache.forget_event(scene.event.name)
    scene.kube.put(scene.event)
    other = tmp_path / "other"
    other.mkdir()

    def recreate() -> None:
        archive = a_probed_archive("third", root=other, marker_id="3" * 32, version=900, generation=9)
        scene.cache.archives.remove("third")
        scene.observe(replace(archive, metadata=replace(archive.metadata, uid="another")))

    pool: Any = scene.preconditions.archives.archive_pool
    scene.change_archives(archive_pool=_PoolThatOpens(pool, "third", recreate))
    waiting = await scene.run()

    assert (waiting.status.phase, waiting.status.reason) == (Phase.COLLECTING, "WaitingForArchive")
    assert "Archive/third was deleted and created again" in (waiting.status.message or "")
    after = await scene.run()
    assert stored_choice(after.status) == OF_IMPORT
    assert documents(other) == []


async def test_a_suspended_archive_of_another_import_holds_an_event_without_a_deadline(
    tmp_path: Path,
) -> None:
    scene = AskedScene(tmp_path)
    scene.change_third(suspend=True)
    held = await scene.run()
    assert (held.status.phase, held.status.reason) == (Phase.COLLECTING, "ArchiveSuspended")
    assert held.status.message == (
        "spec.suspend of Archive/third is true, so it is not known whether it has the envelope already."
    )
    assert scene.due() is None
    assert scene.cache.may_use(held, "third")

    scene.clock.advance(days=30)
    assert scene.due() is None
    scene.envelope.asked.clear()
    again = await scene.run()
    assert (again.status.reason, scene.envelope.asked) == ("ArchiveSuspended", [])

    scene.change_third()
    assert scene.due() == EPOCH
    after = await scene.run()
    assert (after.status.phase, stored_choice(after.status)) == (Phase.SUCCEEDED, OF_IMPORT)
    assert after.status.awaited_archive is None


async def test_the_usual_archive_that_is_suspended_holds_an_event_of_an_import(tmp_path: Path) -> None:
    scene = AskedScene(tmp_path)
    scene.observe(a_probed_archive(root=scene.dms, suspend=True, version=50, generation=50))
    held = await scene.run()
    assert (held.status.reason, scene.due()) == ("ArchiveSuspended", None)
    assert scene.cache.archive_name(held) == "dms"

    # A person names another one, which has to be asked in its place.
    scene.observe(
        an_organization(version=60, generation=60, archiveRef={"name": "third"}, cleanup={"policy": "Keep"})
    )
    assert scene.due() == EPOCH
    assert stored_choice((await scene.run()).status) == OF_IMPORT


async def test_an_archive_of_another_import_that_fails_is_the_one_that_is_waited_for(tmp_path: Path) -> None:
    scene = AskedScene(tmp_path)
    gone = scene.third.rename(scene.third.with_name("gone"))
    waiting = await scene.run()
    assert (waiting.status.phase, waiting.status.reason) == (Phase.COLLECTING, "ArchiveRootMissing")
    assert scene.cache.may_use(waiting, "third")
    assert not scene.cache.may_use(waiting, "vault")
    scene.clock.advance(minutes=2)
    failed = await scene.run()

    gone.rename(scene.third)
    assert failed.status.phase is Phase.FAILED
    found = failure_observation(failed, scene.cache.problem_archive(failed))
    assert found.cause == "failed/ArchiveRootMissing/third"


async def test_an_archive_that_was_asked_is_not_waited_for(tmp_path: Path) -> None:
    scene = AskedScene(tmp_path)
    scene.change_vault(suspend=True)
    held = await scene.run()
    assert (scene.cache.archive_name(held), held.status.awaited_archive) == ("vault", None)


async def test_an_archive_of_an_earlier_import_that_was_deleted_holds_no_event(tmp_path: Path) -> None:
    scene = ImportedScene(tmp_path, archive="")
    scene.kube.put(an_import(archiveRef={"name": "vault"}))
    scene.cache.archives.remove("vault")
    assert stored_choice((await scene.reconcile()).status) == USUAL


# -- While the Imports can't be read -------------------------------------------------------------------------


FORBIDDEN = Forbidden(403, "Forbidden", "imports.counterfoil.dev is forbidden")


@pytest.mark.parametrize("is_defined", [True, False])
async def test_only_events_of_imports_wait_while_the_imports_cannot_be_read(
    tmp_path: Path, *, is_defined: bool
) -> None:
    for label, phase in (("", Phase.SUCCEEDED), ("old-stock", Phase.COLLECTING)):
        scene = ImportedScene(tmp_path / (label or "callback"))
        if not label:
            del scene.kube.objects[EnvelopeEvent.PLURAL, scene.event.name]
            scene.event = an_event().labelled(SENDER_LABEL, "anna").build()
            scene.kube.put(scene.event)
        if is_defined:
            scene.kube.refused["page", Import.PLURAL] = FORBIDDEN
        else:
            scene.kube.remove_definition(Import)
        after = await scene.reconcile()
        assert after.status.phase is phase, after.status


# -- A choice that is made counts ----------------------------------------------------------------------------


async def test_a_cut_download_splits_no_envelope(scene: ImportedScene) -> None:
    scene.envelope.but("download trail-1", EsawUnreachable("cut"))
    waiting = await scene.reconcile()
    assert (waiting.status.phase, documents(scene.vault)) == (Phase.ARCHIVING, ["file-1.pdf"])

    scene.envelope.problems.clear()
    scene.restarted()
    after = await scene.reconcile()
    assert stored_choice(after.status) == OF_IMPORT
    assert (documents(scene.vault), documents(scene.dms)) == (FILES, [])


async def test_a_choice_is_stored_with_each_failure_and_costs_no_further_question(
    scene: ImportedScene,
) -> None:
    scene.change_vault(suspend=True)
    held = await scene.reconcile()
    assert (held.status.phase, held.status.reason) == (Phase.COLLECTING, "ArchiveSuspended")
    assert stored_choice(held.status) == OF_IMPORT
    asked = len(scene.envelope.asked)
    await scene.reconcile()
    assert len(scene.envelope.asked) == asked

    scene.change_vault()
    assert stored_choice((await scene.reconcile()).status) == OF_IMPORT


async def test_a_missing_archive_is_named_with_the_import(scene: ImportedScene) -> None:
    scene.cache.archives.remove("vault")
    waiting = await scene.reconcile()
    assert waiting.status.message == (
        "Archive/vault, which Import/old-stock named for this event, does not exist. Create it again: no "
        "setting leads this event elsewhere."
    )
    assert scene.cache.may_use(waiting, "vault")

    scene.change_vault()
    assert stored_choice((await scene.reconcile()).status) == OF_IMPORT


async def test_an_event_that_starts_again_for_a_person_keeps_the_archive_of_its_import(
    scene: ImportedScene,
) -> None:
    scene.cache.archives.remove("vault")
    waiting = await scene.reconcile()
    failed = replace(waiting.status, phase=Phase.FAILED)
    again = reopened_status(failed, reason="RetryRequested", message="", now=scene.clock.now())
    scene.kube.put(replace(waiting, status=again))
    scene.change_vault()
    assert stored_choice((await scene.reconcile()).status) == OF_IMPORT


async def test_a_suspended_archive_of_the_import_holds_a_retried_event_that_has_a_file_there(
    tmp_path: Path,
) -> None:
    scene = ImportedScene(tmp_path, retry={"initial": "1s", "max": "1s", "deadline": "1m"})
    scene.envelope.but("download trail-1", EsawUnreachable("cut"))
    await scene.reconcile()
    scene.clock.advance(minutes=2)
    failed = await scene.reconcile()
    assert (failed.status.phase, documents(scene.vault)) == (Phase.FAILED, ["file-1.pdf"])
    scene.envelope.problems.clear()
    scene.change_vault(suspend=True)
    again = reopened_status(failed.status, reason="RetryRequested", message="", now=scene.clock.now())
    scene.kube.put(replace(failed, status=again))

    held = await scene.reconcile()
    assert (held.status.phase, held.status.reason) == (Phase.COLLECTING, "ArchiveSuspended")
    assert due_time(held, scene.cache, scene.clock.now()) is None
    scene.change_vault()
    assert stored_choice((await scene.reconcile()).status) == OF_IMPORT


# -- The events of one envelope ------------------------------------------------------------------------------


async def test_a_later_event_of_another_action_follows_the_one_of_the_import(tmp_path: Path) -> None:
    scene = ImportedScene(tmp_path, actions=ACTIONS)
    scene.kube.put(an_import(archiveRef={"name": "vault"}))
    await scene.reconcile()
    scene.event = an_event().for_action("workstepFinished").named("second").build()
    scene.kube.put(scene.event)
    second = await scene.reconcile(2)

    assert stored_choice(second.status) == OF_IMPORT
    assert documents(scene.dms) == []


async def test_the_event_of_an_import_follows_an_event_of_another_action(tmp_path: Path) -> None:
    scene = ImportedScene(tmp_path, actions=ACTIONS)
    imported, scene.event = scene.event, an_event().for_action("workstepFinished").named("second").build()
    scene.kube.put(scene.event)
    await scene.reconcile(2)
    scene.event = imported
    after = await scene.reconcile()

    assert stored_choice(after.status) == USUAL
    assert documents(scene.vault) == []


# -- The Archives that Imports name --------------------------------------------------------------------------


async def test_the_imports_of_an_organization_are_read_once_a_minute(scene: ImportedScene) -> None:
    archives = ImportArchives(scene.kube, scene.clock)
    scene.kube.put(an_import(archiveRef={"name": "vault"}))
    assert await archives.of("acme") == (OF_IMPORT,)
    scene.kube.objects.pop((Import.PLURAL, "old-stock"))
    assert await archives.of("acme") == (OF_IMPORT,)
    scene.clock.advance(seconds=REMEMBERED_SECONDS)
    assert await archives.of("acme") == ()


async def test_an_import_that_this_version_does_not_understand_names_its_archive(
    scene: ImportedScene,
) -> None:
    archives = ImportArchives(scene.kube, scene.clock)
    scene.kube.put(an_import(archiveRef={"name": "vault"}))
    scene.kube.edit(Import, "old-stock", {"spec": {"order": "BySize"}})
    assert await archives.of("acme") == (OF_IMPORT,)


async def test_the_imports_of_a_deleted_organization_do_not_stay_in_memory(scene: ImportedScene) -> None:
    archives = ImportArchives(scene.kube, scene.clock)
    scene.kube.put(an_import(archiveRef={"name": "vault"}))
    await archives.of("gone")
    await archives.of("acme")
    scene.clock.advance(seconds=REMEMBERED_SECONDS)
    await archives.of("acme")
    assert archives.remembered == {"acme"}


async def test_an_envelope_whose_manifest_is_absent_for_a_moment_is_archived_in_no_second_archive(
    scene: ImportedScene,
) -> None:
    await scene.was_archived()
    await read_marker_of(scene)
    mount = unmount(scene.dms)

    waiting = await scene.reconcile()

    assert waiting.status.reason == "ArchiveRootChanged"
    assert documents(scene.vault) == []
    mount()
    assert stored_choice((await scene.reconcile()).status) == USUAL


@pytest.mark.parametrize("is_manifest", [True, False])
async def test_an_envelope_whose_manifest_another_root_answers_is_archived_in_no_second_archive(
    scene: ImportedScene, *, is_manifest: bool
) -> None:
    """The other root is that of a test installation, or a gateway answers."""
    await scene.was_archived()
    await read_marker_of(scene)
    mount = unmount(scene.dms)
    (manifest,) = scene.dms.with_name("unmounted").rglob("counterfoil.json")
    (answer := scene.dms / manifest.relative_to(scene.dms.with_name("unmounted"))).parent.mkdir(parents=True)
    other = manifest.read_text().replace("https://", "https://test.")
    answer.write_text(other if is_manifest else '{"status": "maintenance"}')

    waiting = await scene.reconcile()

    assert (waiting.status.phase, waiting.status.reason) == (Phase.COLLECTING, "ArchiveRootChanged")
    assert documents(scene.vault) == []
    mount()
    assert stored_choice((await scene.reconcile()).status) == USUAL


@pytest.mark.parametrize("action", ["restored", "moved"])
@pytest.mark.parametrize("damage", ["cut", "link"])
async def test_an_event_fails_at_a_damaged_manifest_elsewhere_until_it_is_restored_or_moved(
    scene: ImportedScene, tmp_path: Path, damage: str, action: str
) -> None:
    await scene.was_archived()
    (manifest,) = scene.dms.rglob("counterfoil.json")
    whole = manifest.rename(tmp_path / "whole.json")
    if damage == "cut":
        manifest.write_bytes(whole.read_bytes()[:100])
    else:
        manifest.symlink_to(whole)

    failed = await scene.reconcile()

    assert (failed.status.phase, failed.status.reason) == (Phase.FAILED, "NameOccupied")
    said = "is no manifest that Counterfoil can read" if damage == "cut" else "is a symbolic link"
    assert f"{manifest.as_uri()} {said}" in (failed.status.message or "")
    assert (stored_choice(failed.status), documents(scene.vault)) == (None, [])

    if action == "restored":
        whole.replace(manifest)
    else:
        manifest.parent.rename(tmp_path / "moved")
    status = reopened_status(failed.status, reason="RetryRequested", message="", now=scene.clock.now())
    scene.kube.put(replace(failed, status=status))
    after = await scene.reconcile()
    assert after.status.phase is Phase.SUCCEEDED
    assert stored_choice(after.status) == (USUAL if action == "restored" else OF_IMPORT)


async def test_a_tag_that_is_required_since_then_hides_no_archived_envelope(scene: ImportedScene) -> None:
    await scene.was_archived()
    tags = {"costCentre": {"xpath": "//costCentre", "required": True}}
    scene.observe(a_probed_archive("dms", root=scene.dms, version=7, generation=2, tags=tags))
    waiting = await scene.reconcile()
    assert waiting.status.reason == "TagMissing"
    assert documents(scene.vault) == []
    tags["costCentre"]["required"] = False
    scene.observe(a_probed_archive("dms", root=scene.dms, version=8, generation=3, tags=tags))
    assert stored_choice((await scene.reconcile()).status) == USUAL
    assert documents(scene.vault) == []

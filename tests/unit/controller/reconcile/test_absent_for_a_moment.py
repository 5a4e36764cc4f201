"""
Files that are absent for a moment: a volume is unmounted in the seconds after its marker was read.
"""

from collections.abc import AsyncGenerator, AsyncIterable, Callable
from pathlib import Path
from typing import Any

import pytest

from counterfoil.archives.backend import ArchiveBackend, confirm_absence
from counterfoil.archives.backends.filesystem import FilesystemBackend
from counterfoil.archives.errors import ArchiveRefused
from counterfoil.archives.filing import MAX_BUFFERED_BYTES
from counterfoil.archives.import_report.storage import write_list
from counterfoil.esaw.errors import EsawUnreachable, HttpStatusError
from counterfoil.resources import EnvelopeEvent, Phase, find_condition
from counterfoil.resources.reopening import status_for_copying
from counterfoil.resources.routes import stored_copy
from counterfoil.signatures.results import Coverage, Signature, Signatures, State
from tests.support.builders import ENVELOPE
from tests.support.fakes.reconcile_context import a_probed_archive
from tests.support.scenes.copied_events import OPTIONAL, PATH, WORM, CopiedScene
from tests.support.scenes.reconciler import ReconcilerScene
from tests.support.scenes.unmounted import left_in, read_marker_of, unmount

THEIRS = b"a contract of another program"


def their_file(folder: Path) -> Path:
    """A file of another program under the name of an envelope's first one."""
    folder.mkdir(parents=True)
    (theirs := folder / "file-1.pdf").write_bytes(THEIRS)
    return theirs


async def test_a_file_of_another_program_that_is_absent_for_a_moment_is_not_replaced(tmp_path: Path) -> None:
    (root := tmp_path / "dms").mkdir()
    scene = ReconcilerScene(root)
    scene.observe(a_probed_archive(root=root, path=PATH, version=2, generation=2))
    theirs = their_file(root / "acme" / ENVELOPE)
    await read_marker_of(scene)
    mount = unmount(root)
    scene.envelope.meanwhile["download file-1"] = mount

    waiting = await scene.reconcile()
    mount()
    failed = await scene.reconcile()

    assert theirs.read_bytes() == THEIRS
    assert (waiting.status.phase, waiting.status.reason) == (Phase.COLLECTING, "ArchiveRootChanged")
    assert [each.location for each in waiting.status.documents] == [None, None]
    assert (failed.status.phase, failed.status.reason) == (Phase.FAILED, "NameOccupied")


async def test_a_copy_is_not_written_where_its_names_are_free_for_a_moment(tmp_path: Path) -> None:
    scene = CopiedScene(tmp_path)
    worm = scene.folders["worm"]
    theirs = their_file(worm / "acme" / ENVELOPE)
    await read_marker_of(scene, "worm")
    mount = unmount(worm)

    waiting = await scene.reconcile()

    assert left_in(worm) == []
    assert stored_copy(waiting.status, "worm").reason == "ArchiveRootChanged"
    mount()
    await scene.reconcile()
    assert theirs.read_bytes() == THEIRS


async def test_a_copy_waits_while_a_gateway_answers_for_its_manifest(tmp_path: Path) -> None:
    scene = CopiedScene(tmp_path)
    worm = scene.folders["worm"]
    await read_marker_of(scene, "worm")
    mount = unmount(worm)
    (folder := worm / "acme" / ENVELOPE).mkdir(parents=True)
    (folder / "counterfoil.json").write_text('{"status": "maintenance"}')

    waiting = await scene.reconcile()

    assert (waiting.status.phase, waiting.status.reason) == (Phase.COPYING, "ArchiveRootChanged")
    mount()
    assert (await scene.reconcile()).status.phase is Phase.CLEANING
    assert left_in(folder) == ["audit-trail.pdf", "counterfoil.json", "counterfoil.sha256", "file-1.pdf"]


async def test_an_event_that_continues_replaces_no_manifest_that_is_absent_for_a_moment(
    tmp_path: Path,
) -> None:
    (root := tmp_path / "dms").mkdir()
    scene = ReconcilerScene(root)
    scene.envelope.problems["download file-1"] = EsawUnreachable("timeout")
    assert (await scene.reconcile()).status.phase is Phase.ARCHIVING
    scene.envelope.problems.clear()
    await read_marker_of(scene)
    unmount(root)

    waiting = await scene.reconcile()

    assert (waiting.status.phase, waiting.status.reason) == (Phase.ARCHIVING, "ArchiveRootChanged")
    assert left_in(root) == []


@pytest.mark.parametrize("operation", ["download file-1", "download trail-1"])
@pytest.mark.parametrize("policy", ["Keep", "Delete"])
async def test_no_envelope_counts_as_archived_that_went_to_another_root(
    tmp_path: Path, policy: str, operation: str
) -> None:
    (root := tmp_path / "dms").mkdir()
    scene = ReconcilerScene(root, cleanup={"policy": policy})
    mounts = list[Callable[[], None]]()
    scene.envelope.meanwhile[operation] = lambda: mounts.append(unmount(root))

    waiting = await scene.reconcile()

    assert (waiting.status.phase, waiting.status.reason) == (Phase.ARCHIVING, "ArchiveRootChanged")
    (mount,) = mounts
    mount()
    ended = await scene.reconcile()
    assert ended.status.phase is Phase.SUCCEEDED
    left = {each.rpartition("/")[2] for each in left_in(root / "acme" / ENVELOPE)}
    assert {"audit-trail.pdf", "counterfoil.json", "counterfoil.sha256", "file-1.pdf"} <= left


def absent_while_written(monkeypatch: pytest.MonkeyPatch, root: Path, *, since: str, until: str) -> None:
    """Unmount a volume before a file is written, and mount it after another one was read back."""
    put, read, mounts = FilesystemBackend.put, FilesystemBackend.read, list[Callable[[], None]]()
    is_over = False

    async def putting(
        backend: FilesystemBackend, name: str, chunks: AsyncIterable[bytes], **options: Any
    ) -> None:
        is_here = name.endswith(since) and backend.location(name).startswith(f"{root.as_uri()}/")
        if is_here and not mounts and not is_over:
            mounts.append(unmount(root))
        await put(backend, name, chunks, **options)

    async def reading(backend: FilesystemBackend, name: str) -> AsyncGenerator[bytes, None]:
        nonlocal is_over
        async for chunk in read(backend, name):
            yield chunk
        if mounts and name.endswith(until):
            is_over = True
            mounts.pop()()

    monkeypatch.setattr(FilesystemBackend, "put", putting)
    monkeypatch.setattr(FilesystemBackend, "read", reading)


@pytest.mark.parametrize("since", ["file-1.pdf", "counterfoil.sha256"])
@pytest.mark.parametrize("policy", ["Keep", "Delete"])
async def test_no_envelope_counts_as_archived_whose_root_was_absent_while_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str, since: str
) -> None:
    (root := tmp_path / "dms").mkdir()
    scene = ReconcilerScene(root, cleanup={"policy": policy})
    absent_while_written(monkeypatch, root, since=since, until="counterfoil.json")

    waiting = await scene.reconcile()

    assert state(waiting) == (Phase.ARCHIVING, "ListingDiffers")
    assert not scene.envelope.deleted
    ended = await scene.reconcile()
    assert ended.status.phase is Phase.SUCCEEDED
    left = {each.rpartition("/")[2] for each in left_in(root / "acme" / ENVELOPE)}
    assert {"audit-trail.pdf", "counterfoil.json", "counterfoil.sha256", "file-1.pdf"} <= left


async def test_no_copy_is_proved_whose_root_was_absent_while_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = CopiedScene(tmp_path)
    worm = scene.folders["worm"]
    absent_while_written(monkeypatch, worm, since="file-1.pdf", until="counterfoil.json")

    waiting = await scene.reconcile()

    assert stored_copy(waiting.status, "worm").reason == "ListingDiffers"
    assert not scene.envelope.deleted
    assert (await scene.reconcile()).status.phase is Phase.CLEANING
    assert "file-1.pdf" in left_in(worm / "acme" / ENVELOPE)


async def test_files_without_a_manifest_are_where_the_message_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root := tmp_path / "dms").mkdir()
    scene = ReconcilerScene(root)
    scene.observe(a_probed_archive(root=root, path=PATH, version=2, generation=2, signatures="Require"))
    absent_while_written(monkeypatch, root, since="file-1.pdf", until="audit-trail.pdf")

    waiting = await scene.reconcile()

    assert state(waiting) == (Phase.ARCHIVING, "ListingDiffers")
    message = waiting.status.message
    # Both may be true.
    assert message is not None
    assert "another place answered" in message
    assert "takes two names as one" in message
    assert state(await scene.reconcile()) == (Phase.FAILED, "SignatureBroken")
    assert "file-1.pdf" in left_in(root / "acme" / ENVELOPE)


@pytest.mark.parametrize("is_away", [True, False])
@pytest.mark.parametrize("cause", ["deleted", "refused"])
async def test_no_file_counts_as_arrived_that_went_to_another_root_before_the_archiving_failed(
    tmp_path: Path, cause: str, *, is_away: bool
) -> None:
    (root := tmp_path / "dms").mkdir()
    scene = ReconcilerScene(root, cleanup={"policy": "Keep"})
    mounts = list[Callable[[], None]]()
    scene.envelope.meanwhile["download file-1"] = lambda: mounts.append(unmount(root))

    def break_off() -> None:
        scene.envelope.deleted = cause == "deleted"
        if not is_away:
            mounts[0]()

    scene.envelope.meanwhile["download trail-1"] = break_off
    if cause == "refused":
        scene.envelope.problems["download trail-1"] = HttpStatusError(400, "ERR0099")

    waiting = await scene.reconcile()
    mounts[0]()

    reason = "ArchiveRootChanged" if is_away else "ListingDiffers"
    assert state(waiting) == (Phase.ARCHIVING, reason)
    assert [each.sha256 for each in waiting.status.documents] == [None, None]
    failed = await scene.reconcile()
    assert failed.status.phase is Phase.FAILED
    known = [each.location for each in failed.status.documents if each.sha256 is not None]
    assert known == [f"file://{each}" for each in (root / "acme" / ENVELOPE).rglob("file-1.pdf")]


async def checked_backend(scene: ReconcilerScene) -> ArchiveBackend:
    archive = scene.cache.archives.get("dms")
    assert archive is not None
    return await scene.preconditions.archives.archive_pool.checked_backend(archive)


async def test_a_list_of_an_import_is_there_although_its_root_was_absent_while_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root := tmp_path / "dms").mkdir()
    scene = ReconcilerScene(root)
    await read_marker_of(scene)
    absent_while_written(monkeypatch, root, since="list.jsonl", until="list.jsonl")

    with pytest.raises(ArchiveRefused):
        await write_list(await checked_backend(scene), "acme/old-stock/list.jsonl", b"{}\n")


async def test_a_report_is_not_complete_that_went_to_another_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root := tmp_path / "dms").mkdir()
    scene = ReconcilerScene(root)
    await read_marker_of(scene)
    backend = await checked_backend(scene)

    async def confirm_and_unmount(confirmed: ArchiveBackend) -> None:
        await confirm_absence(confirmed)
        unmount(root)

    monkeypatch.setattr("counterfoil.archives.filing.confirm_absence", confirm_and_unmount)
    with pytest.raises(ArchiveRefused) as refused:
        await write_list(backend, "acme/old-stock/list.jsonl", b"{}\n")
    assert refused.value.reason == "ArchiveRootChanged"


async def test_a_list_of_an_import_is_not_written_where_its_name_is_free_for_a_moment(tmp_path: Path) -> None:
    (root := tmp_path / "dms").mkdir()
    scene = ReconcilerScene(root)
    await read_marker_of(scene)
    unmount(root)

    backend = await checked_backend(scene)
    with pytest.raises(ArchiveRefused) as refused:
        await write_list(backend, "acme/old-stock/list.jsonl", b"{}\n")

    assert refused.value.reason == "ArchiveRootChanged"
    assert left_in(root) == []


# -- Faults of archived files --------------------------------------------------------------------------------


def state(event: EnvelopeEvent) -> tuple[Phase, str | None]:
    return event.status.phase, event.status.reason


def page_in_place_of_manifest(root: Path) -> None:
    """Let the folder in the place of the volume have another file under the name of the manifest."""
    folder = root / "acme" / ENVELOPE
    folder.mkdir(parents=True)
    (folder / "counterfoil.json").write_text("<html>")


@pytest.mark.parametrize("is_absent", [True, False])
async def test_archived_files_that_are_absent_for_a_moment_are_not_lost(
    tmp_path: Path, *, is_absent: bool
) -> None:
    (root := tmp_path / "dms").mkdir()
    scene = ReconcilerScene(root)
    scene.envelope.but("delete", EsawUnreachable("timeout"))
    assert (await scene.reconcile()).status.reason == "DeleteUnanswered"
    scene.envelope.problems.clear()
    scene.envelope.deleted = True
    await read_marker_of(scene)
    mount = unmount(root)
    if not is_absent:
        page_in_place_of_manifest(root)

    waiting = await scene.reconcile()
    mount()

    assert state(waiting) == (Phase.CLEANING, "ArchiveRootChanged")
    assert state(await scene.reconcile()) == (Phase.SUCCEEDED, "ArchivedAndDeleted")


async def test_archived_files_that_are_absent_for_a_moment_are_no_mismatch(tmp_path: Path) -> None:
    (root := tmp_path / "dms").mkdir()
    scene = ReconcilerScene(root, cleanup={"policy": "Delete", "after": "1h"})
    assert (await scene.reconcile()).status.reason == "CleanupDelayed"
    scene.clock.advance(hours=2)
    await read_marker_of(scene)
    mount = unmount(root)

    waiting = await scene.reconcile()
    mount()

    assert state(waiting) == (Phase.CLEANING, "ArchiveRootChanged")
    assert waiting.status.mismatches == 0
    assert state(await scene.reconcile()) == (Phase.SUCCEEDED, "ArchivedAndDeleted")


def when_read(monkeypatch: pytest.MonkeyPatch, file_name: str, act: Callable[[], object]) -> None:
    """Call something once, when this file in the Archive ``dms`` is read."""
    read, acts = FilesystemBackend.read, [act]

    async def reading(backend: FilesystemBackend, name: str) -> AsyncGenerator[bytes, None]:
        if acts and "/dms/" in backend.location(name) and name.endswith(file_name):
            acts.pop()()
        async for chunk in read(backend, name):
            yield chunk

    monkeypatch.setattr(FilesystemBackend, "read", reading)


def ask_for_copies(scene: CopiedScene) -> None:
    now = scene.clock.now()
    scene.store(status_for_copying(scene.newest().status, reason="CopyRequested", message="", now=now))


@pytest.mark.parametrize("name", ["counterfoil.json", "file-1.pdf"])
@pytest.mark.parametrize("copies", [OPTIONAL, WORM])
async def test_a_copy_is_made_after_a_moment_without_its_original(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copies: dict[str, Any], name: str
) -> None:
    scene = CopiedScene(tmp_path, copies, cleanup={"policy": "Keep"})
    scene.break_archive("worm")
    await scene.reconcile_until_quiet()
    scene.mend_archive("worm")
    ask_for_copies(scene)
    await read_marker_of(scene)
    mounts = list[Callable[[], None]]()
    when_read(monkeypatch, name, lambda: mounts.append(unmount(scene.folders["dms"])))

    waiting = await scene.reconcile()

    mounts.pop()()
    said = stored_copy(waiting.status, "worm").message if copies is OPTIONAL else waiting.status.message
    assert "It is made from Archive/dms, which can't be read: " in (said or "")
    assert "ArchiveRootChanged" in (stored_copy(waiting.status, "worm").reason, waiting.status.reason)
    ask_for_copies(scene)
    assert stored_copy((await scene.reconcile()).status, "worm").verified_time is not None


async def test_signatures_of_a_file_that_is_absent_for_a_moment_are_not_broken(tmp_path: Path) -> None:
    (root := tmp_path / "dms").mkdir()
    scene = ReconcilerScene(root)
    scene.observe(a_probed_archive(root=root, path=PATH, version=2, generation=2, signatures="Require"))
    scene.examiner.says = Signatures(
        state=State.INTACT, found=(Signature(field="First", intact=True, coverage=Coverage.WHOLE_FILE),)
    )
    scene.envelope.contents["file-1"] = b"%PDF-" + b"x" * MAX_BUFFERED_BYTES
    mounts = list[Callable[[], None]]()
    scene.examiner.just_before = lambda: mounts.append(unmount(root))

    waiting = await scene.reconcile()

    mounts.pop()()
    assert state(waiting) == (Phase.ARCHIVING, "ArchiveRootChanged")
    assert find_condition(waiting.status.conditions, "SignaturesChecked") is None
    assert state(await scene.reconcile()) == (Phase.SUCCEEDED, "ArchivedAndDeleted")

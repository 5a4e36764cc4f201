"""
Files that are absent for a moment: a volume is unmounted in the seconds after its marker was read.
"""

from pathlib import Path

import pytest

from counterfoil.archives.errors import ArchiveRefused
from counterfoil.archives.import_report.storage import write_list
from counterfoil.esaw.errors import EsawUnreachable
from counterfoil.resources import Phase
from counterfoil.resources.routes import stored_copy
from tests.support.builders import ENVELOPE
from tests.support.fakes.reconcile_context import a_probed_archive
from tests.support.scenes.copied_events import PATH, CopiedScene
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
    assert waiting.status.documents == ()
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


async def test_a_list_of_an_import_is_not_written_where_its_name_is_free_for_a_moment(tmp_path: Path) -> None:
    (root := tmp_path / "dms").mkdir()
    scene = ReconcilerScene(root)
    await read_marker_of(scene)
    unmount(root)
    pool = scene.preconditions.archives.archive_pool

    archive = scene.cache.archives.get("dms")
    assert archive is not None
    backend = await pool.checked_backend(archive)
    with pytest.raises(ArchiveRefused) as refused:
        await write_list(backend, "acme/old-stock/list.jsonl", b"{}\n")

    assert refused.value.reason == "ArchiveRootChanged"
    assert left_in(root) == []

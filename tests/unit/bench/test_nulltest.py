"""
The package of the kind ``nulltest``: an envelope runs through, and nothing of it counts as archived for a
delete.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from counterfoil.archives import open_backend
from counterfoil.archives.backend import ArchiveBackend, ChecksumReported
from counterfoil.archives.errors import SettingsInvalid
from counterfoil.archives.filing import claim_names, conclude, find_concluded, store
from counterfoil.archives.readback import read_back
from counterfoil.clock import WallClock
from counterfoil.resources.archive import ArchiveSpec, SignaturePolicy, VerifyMode
from counterfoil.resources.archive_kinds import DISCARDED_SCHEME, Custom
from tests.support.fakes.archives import (
    ENVELOPE_ID,
    a_filed_document,
    a_layout,
    a_source,
    an_envelope,
    content,
    files_named,
)

PACKAGE = Path(__file__).parents[3] / "verification/bench/nulltest"
KIND = Custom(kind="nulltest")
SPEC = ArchiveSpec(custom=KIND, verify=VerifyMode.CHECKSUM, signatures=SignaturePolicy.IGNORE)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as it is built. A wheel of modules alone can be imported as it is."""
    folder = tmp_path_factory.mktemp("nulltest")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=PACKAGE, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(autouse=True)
def installed(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package beside Counterfoil: its entry point is found."""
    monkeypatch.setattr(sys, "path", [str(wheel), *sys.path])


@pytest.fixture
async def backend() -> ArchiveBackend:
    return await open_backend("load", SPEC, {})


async def test_an_envelope_runs_through_to_its_manifest(backend: ArchiveBackend) -> None:
    layout = a_layout(*files_named("one.pdf", "two.pdf"), spec=SPEC)
    claimed = await claim_names(backend, layout, key=None)
    stored = [await store(backend, file, a_source(content()), tags={}) for file in layout.files]
    documents = [a_filed_document(file.facts, each) for file, each in zip(layout.files, stored, strict=True)]

    manifest = await conclude(
        backend, layout, an_envelope(), documents, archived_at=WallClock().now(), extra={}, signer=None
    )

    assert [each.size for each in stored] == [len(content())] * 2
    assert all(each.startswith(DISCARDED_SCHEME) for each in (*claimed, manifest))


async def test_no_byte_can_be_read_again(backend: ArchiveBackend) -> None:
    layout = a_layout(spec=SPEC)
    await store(backend, layout.files[0], a_source(content()), tags={})

    with pytest.raises(ChecksumReported):
        await anext(backend.read(layout.files[0].name))
    assert (await backend.entries(layout.folder), backend.lists_files) == ([], False)
    assert await find_concluded(backend, layout, ENVELOPE_ID, key=None) is None


async def test_after_a_restart_nothing_is_known(backend: ArchiveBackend) -> None:
    file = a_layout(spec=SPEC).files[0]
    await store(backend, file, a_source(content()), tags={})

    restarted = await open_backend("load", SPEC, {})

    assert await read_back(restarted, file.name) is None


async def test_read_back_can_not_be_asked_of_it() -> None:
    with pytest.raises(SettingsInvalid, match=r"Set spec\.verify to Checksum"):
        await open_backend("load", ArchiveSpec(custom=KIND), {})

"""
Which kinds of archives there are: our own, and those that other packages bring.
"""

import sys
from pathlib import Path

import pytest

from counterfoil.archives import ARCHIVE_KINDS, find_opener, open_backend
from counterfoil.archives.errors import SecretUnusable, SettingsInvalid
from counterfoil.resources.archive import (
    KINDS,
    ArchiveSpec,
    CredentialsReference,
    Custom,
    Filesystem,
    SignaturePolicy,
    VerifyMode,
)

ROOT = Path(__file__).parents[5]
MODULE = """
from tests.support.fakes.archives import MemoryBackend

RECEIVED = []

async def open_shelf(name, spec, credentials):
    RECEIVED.append(credentials)
    return MemoryBackend()
"""
ENTRY_POINTS = """
[counterfoil.archives]
shelf = acme_shelf:open_shelf
broken = acme_shelf:no_such_thing
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package of somebody else's."""
    (tmp_path / "acme_shelf.py").write_text(MODULE)
    metadata = tmp_path / "acme_shelf-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-shelf\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])


def a_spec(kind: str) -> ArchiveSpec:
    return ArchiveSpec(custom=Custom(kind=kind))


def test_every_kind_of_the_api_can_be_opened() -> None:
    assert {*ARCHIVE_KINDS, "custom"} == set(KINDS)
    assert all(map(find_opener, ARCHIVE_KINDS))


@pytest.mark.parametrize("kind", [each for each in KINDS if each != "custom"])
def test_every_kind_has_its_contract_and_its_section_in_the_manual(kind: str) -> None:
    assert (ROOT / "tests" / "cluster" / f"test_archive_contract_{kind}.py").is_file()
    assert f"\n## Kind `{kind}`\n" in (ROOT / "docs" / "archives.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("package")
async def test_a_kind_of_another_package_is_opened() -> None:
    backend = await open_backend("dms", a_spec("shelf"), {})

    assert backend.kind == "memory"


@pytest.mark.usefixtures("package")
async def test_a_kind_of_another_package_gets_the_names_that_it_knows() -> None:
    reference = CredentialsReference(name="claim", keys={"login": "USER"})
    spec = ArchiveSpec(custom=Custom(kind="shelf", credentials_secret_ref=reference))
    await open_backend("dms", spec, {"USER": b"jane", "login": b"of somebody else"})

    assert sys.modules["acme_shelf"].RECEIVED[-1] == {"USER": b"jane", "login": b"jane"}


@pytest.mark.usefixtures("package")
async def test_a_placeholder_in_a_key_that_the_archive_renames_for_such_a_kind_is_no_value() -> None:
    reference = CredentialsReference(name="claim", keys={"login": "USER"})
    spec = ArchiveSpec(custom=Custom(kind="shelf", credentials_secret_ref=reference))
    with pytest.raises(SecretUnusable, match="key 'USER': NEW-USERNAME is the placeholder of a command"):
        await open_backend("dms", spec, {"USER": b"NEW-USERNAME\n"})
    await open_backend("dms", spec, {"USER": b"jane", "unknown": b"NEW-USERNAME"})


@pytest.mark.usefixtures("package")
async def test_a_kind_that_can_not_be_loaded_is_reported() -> None:
    with pytest.raises(SettingsInvalid, match=r"kind `broken` can't be loaded \(AttributeError\)"):
        await open_backend("dms", a_spec("broken"), {})


@pytest.mark.usefixtures("package")
async def test_an_unregistered_kind_is_reported_with_the_registered_ones() -> None:
    with pytest.raises(SettingsInvalid, match=r"kind `dms-9`; there are: broken, shelf\. "):
        await open_backend("dms", a_spec("dms-9"), {})


async def test_the_checksum_of_a_server_that_reports_none_can_not_be_relied_on() -> None:
    spec = ArchiveSpec(
        filesystem=Filesystem(root="/srv"), verify=VerifyMode.CHECKSUM, signatures=SignaturePolicy.IGNORE
    )
    with pytest.raises(SettingsInvalid) as trouble:
        await open_backend("dms", spec, {})

    assert trouble.value.message == (
        "Archive/dms: spec.verify can't be Checksum for `filesystem`, whose servers do not tell the SHA-256 "
        "of a file; it can for custom and http. Set it to ReadBack."
    )

"""A copy that its archive does not return is compared by the checksums that the archive reports."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import ClassVar

import pytest

from counterfoil.archives.backend import ChecksumReported, FileNotReturned, StoredEntry
from counterfoil.archives.copies.original import Original, read_original
from counterfoil.archives.copies.reported import reported_fault
from counterfoil.archives.readback import checksum
from tests.support.fakes.archives import an_envelope
from tests.support.scenes.copies import CopyScene, PlacedBackend

FOLDER = f"copies/{an_envelope().envelope_id}"


@dataclass
class ReportingBackend(PlacedBackend):
    """An archive that returns no files. It reports checksums of those that it was sent."""

    place: str = "worm"
    lists_files: ClassVar[bool] = False

    async def entries(self, folder: str) -> list[StoredEntry]:
        return []

    async def read(self, name: str) -> AsyncGenerator[bytes, None]:
        if name not in self.files:
            raise FileNotReturned
        raise ChecksumReported(*checksum(self.files[name]))
        yield b""  # type: ignore[unreachable]  # makes this method a generator


@pytest.fixture
async def scene() -> CopyScene:
    scene = CopyScene(target=ReportingBackend())
    await scene.archive()
    return scene


async def original(scene: CopyScene) -> Original:
    return await read_original(scene.source, scene.manifest, scene.documents, scene.envelope, key=None)


async def fault(scene: CopyScene, manifest: str) -> str | None:
    return await reported_fault(scene.target, scene.target_spec, await original(scene), manifest)


async def test_a_copy_whose_checksums_are_reported_as_archived_has_no_fault(scene: CopyScene) -> None:
    assert await fault(scene, await scene.copy()) is None


async def test_another_checksum_is_a_fault(scene: CopyScene) -> None:
    manifest = await scene.copy()
    scene.target.files[f"{FOLDER}/contract.pdf"] = b"sent by another event since"
    assert "contract.pdf was stored with other content" in (await fault(scene, manifest) or "")


async def test_a_file_whose_checksum_is_forgotten_is_not_known_to_be_stored(scene: CopyScene) -> None:
    manifest = await scene.copy()
    del scene.target.files[f"{FOLDER}/contract.pdf"]
    with pytest.raises(FileNotReturned):
        await fault(scene, manifest)


async def test_a_copy_with_another_place_is_a_fault(scene: CopyScene) -> None:
    await scene.copy()
    assert await fault(scene, "memory://worm/elsewhere/counterfoil.json") is not None

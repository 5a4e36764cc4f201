"""
The contract of archives, for a folder.
"""

from pathlib import Path

import pytest

from counterfoil.archives import open_backend
from counterfoil.archives.backend import ArchiveBackend
from counterfoil.resources.archive import ArchiveSpec, Filesystem
from counterfoil.testing.archive_contract import ArchiveFixture, ListingContract, RootContract


class TestFilesystem(ListingContract, RootContract):
    @pytest.fixture
    async def ground(self, tmp_path: Path) -> ArchiveFixture:
        return ArchiveFixture(a_spec(tmp_path), {})

    @pytest.fixture
    async def rootless(self, tmp_path: Path) -> ArchiveBackend:
        return await open_backend("dms", a_spec(tmp_path / "not mounted"), {})


def a_spec(root: Path) -> ArchiveSpec:
    return ArchiveSpec(filesystem=Filesystem(root=str(root)))

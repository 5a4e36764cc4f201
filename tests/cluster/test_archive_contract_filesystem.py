"""
The contract of archives, for a folder.
"""

from pathlib import Path

import pytest

from counterfoil.archives import open_door
from counterfoil.archives.contract import Ground, ListingContract, RootContract
from counterfoil.archives.door import Door
from counterfoil.resources.archive import ArchiveSpec, Filesystem


class TestFilesystem(ListingContract, RootContract):
    @pytest.fixture
    async def ground(self, tmp_path: Path) -> Ground:
        return Ground(a_spec(tmp_path), {})

    @pytest.fixture
    async def rootless(self, tmp_path: Path) -> Door:
        return await open_door("dms", a_spec(tmp_path / "not mounted"), {})


def a_spec(root: Path) -> ArchiveSpec:
    return ArchiveSpec(filesystem=Filesystem(root=str(root)))

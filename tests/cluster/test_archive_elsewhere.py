"""
A kind of archive in somebody else's package, beside an installed Counterfoil: opened by its entry point, and
held against the contract by their own tests.

What is installed is the wheel as it is built; nothing comes from this repository's folders.
"""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

KIND = '''
"""Archives of kind ``acme-shelf``: a folder, by Counterfoil's backend for folders."""

from pathlib import Path

from counterfoil.archives.backends.filesystem import FilesystemBackend


async def open_shelf(name, spec, credentials):
    return FilesystemBackend(name, Path(spec.custom.settings["shelf"]))
'''

TESTS = """
from pathlib import Path

import counterfoil
import pytest
from counterfoil.testing.archive_contract import ArchiveFixture, ListingContract, RootContract
from counterfoil.resources.archive import ArchiveSpec, Custom


def a_spec(shelf: Path) -> ArchiveSpec:
    return ArchiveSpec(custom=Custom(kind="acme-shelf", settings={"shelf": str(shelf)}))


class TestShelf(ListingContract, RootContract):
    LARGEST = 32 * 1024 * 1024

    @pytest.fixture
    async def ground(self, tmp_path):
        return ArchiveFixture(a_spec(tmp_path), {})

    @pytest.fixture
    async def rootless(self, tmp_path):
        return await ArchiveFixture(a_spec(tmp_path / "nowhere"), {}).backend()


def test_it_is_the_installed_one() -> None:
    assert "/site/" in counterfoil.__file__
"""

METADATA = "Metadata-Version: 2.1\nName: acme-shelf\nVersion: 1.0\n"
ENTRY_POINTS = "[counterfoil.archives]\nacme-shelf = acme_shelf:open_shelf\n"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which Counterfoil's wheel and the other package are installed."""
    folder = tmp_path_factory.mktemp("elsewhere")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("counterfoil-*.whl")
    site = folder / "site"
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(site)
    (site / "acme_shelf.py").write_text(KIND)
    described = site / "acme_shelf-1.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text(METADATA)
    (described / "entry_points.txt").write_text(ENTRY_POINTS)
    return site


def test_the_contract_runs_out_of_the_wheel_against_a_kind_of_another_package(
    site: Path, tmp_path: Path
) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    (tmp_path / "test_shelf.py").write_text(TESTS)

    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout[-3000:]
    passed = re.search(r"(\d+) passed", ran.stdout)
    assert passed is not None
    assert int(passed[1]) > 30

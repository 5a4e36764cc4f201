"""The stand-alone plugin has what it needs, for every platform, and is the same each time."""

import io
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from counterfoil.i18n.catalogue import CatalogueName
from release import plugin
from release.wheels import Target, WheelsMissing, download, locked

LOCK = plugin.LOCK.read_text(encoding="utf-8")
LIMIT_BYTES = 4_500_000


@pytest.fixture(scope="module")
async def built() -> bytes:
    return await plugin.build(epoch=1_700_000_000)


async def test_the_same_sources_give_the_same_bytes(built: bytes) -> None:
    assert await plugin.build(epoch=1_700_000_000) == built


def test_a_python_without_any_package_builds_it(built: bytes, tmp_path: Path) -> None:
    # The wheels are in the cache by now.
    file = tmp_path / "kubectl-counterfoil"
    command = [sys.executable, "-S", "-m", "release.plugin", str(file)]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    ended = subprocess.run(
        command, cwd=plugin.ROOT, env=environment, check=False, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert file.read_bytes() == built


def test_it_is_small(built: bytes) -> None:
    assert len(built) < LIMIT_BYTES


def test_it_has_a_library_for_each_platform_and_python(built: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(built)) as archive:
        libraries = [each for each in archive.namelist() if each.startswith("libraries/")]
    assert len(libraries) == len(plugin.PLATFORMS) * len(plugin.PYTHONS)


def test_it_has_no_other_compiled_file_and_the_licence_of_each_library(built: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(built)) as archive:
        names = archive.namelist()
    assert not [each for each in names if each.endswith(".so") and not each.startswith("libraries/")]
    metadata = {each.partition("-")[0] for each in names if each.endswith(".dist-info/METADATA")}
    assert metadata == {each.replace("-", "_") for each in plugin.PACKAGES}
    assert {"LICENSE", "NOTICE"} <= set(names)


def test_it_has_the_texts_that_its_modules_load(built: bytes) -> None:
    # No import shows a file that is read when a text is written, for example the advice of `why`.
    with zipfile.ZipFile(io.BytesIO(built)) as archive:
        names = set(archive.namelist())
        sources = [archive.read(each).decode() for each in names if re.match(r"counterfoil/.*\.py$", each)]
    used = {name for each in sources for name in re.findall(r"\bCatalogueName\.([A-Z]+)\b", each)}
    assert {"CONSOLE", "REASONS"} <= used
    for name in used:
        assert f"counterfoil/i18n/{CatalogueName[name]}/en.toml" in names


def test_a_python_without_a_library_gets_a_message(built: bytes, tmp_path: Path) -> None:
    file = tmp_path / "kubectl-counterfoil"
    with zipfile.ZipFile(io.BytesIO(built)) as archive, zipfile.ZipFile(file, "w") as less:
        for name in archive.namelist():
            if not name.startswith("libraries/linux"):
                less.writestr(name, archive.read(name))
    ended = subprocess.run(
        [sys.executable, "-I", file, "--version"], check=False, capture_output=True, text=True
    )
    assert ended.returncode == 1
    assert "this file is not for linux-" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_package_that_the_lock_does_not_name_is_an_error() -> None:
    with pytest.raises(KeyError):
        locked(LOCK, ("requests-of-nobody",))


async def test_a_file_with_another_hash_than_the_lock_says_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    wrong = f"aiosignal==1.4.0 --hash=sha256:{'0' * 64}\n"
    with pytest.raises(WheelsMissing, match=r"aiosignal"):
        await download(wrong, Target(("any",), "3.11"))
    assert not list((tmp_path / "counterfoil" / "wheels").iterdir())

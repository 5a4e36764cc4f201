"""
Take each protection of ``found.toml`` out of a copy of the project, and run the test that must fail then.

The working tree is not changed. A test that fails without a protection must pass with it: ``make test`` shows
that.
"""

import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]
FOUND: Final = Path(__file__).with_name("found.toml")
FAILED: Final = 1
"""Exit status of pytest if tests ran and some failed."""


class Protection(NamedTuple):
    """One protection, the lines that it consists of, and what replaces them."""

    what: str
    file: str
    old: str
    new: str
    test: str

    def without(self, text: str) -> str:
        """Return the file's text without the protection. Raises ``ValueError`` unless its lines are there
        once."""
        if (count := text.count(self.old)) != 1:
            raise ValueError(f"{self.file} has these lines {count} times: {self.old}")
        return text.replace(self.old, self.new)


def parse(found: Mapping[str, Iterable[Mapping[str, str]]]) -> list[Protection]:
    """Return the protections of ``found.toml``."""
    return [Protection(**each) for each in found.get("protection", ())]


def unnoticed() -> list[Protection]:
    """Take each protection out, print each result, and return those that no failed test noticed."""
    protections = parse(tomllib.loads(FOUND.read_text(encoding="utf-8")))
    with tempfile.TemporaryDirectory(prefix="protections-") as folder:
        copy = Path(folder)
        # Some tests start processes of another user.
        copy.chmod(0o755)
        _copy_tracked_files(copy)
        return [each for each in protections if not _is_noticed(each, copy)]


def _copy_tracked_files(copy: Path) -> None:
    command = ["git", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout  # noqa: S603
    for name in filter(None, listed.split("\0")):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy / name, follow_symlinks=False)


def _is_noticed(protection: Protection, copy: Path) -> bool:
    file = copy / protection.file
    before = file.read_text(encoding="utf-8")
    file.write_text(protection.without(before), encoding="utf-8")
    # As a module, so that the copy comes before the installed project.
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", protection.test]
    try:
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)  # noqa: S603
    finally:
        file.write_text(before, encoding="utf-8")
    is_noticed = done.returncode == FAILED
    print(f"[chaos] {'noticed' if is_noticed else 'NOT NOTICED'}: {protection.what}", flush=True)
    if not is_noticed:
        print(done.stdout[-2000:], flush=True)
    return is_noticed

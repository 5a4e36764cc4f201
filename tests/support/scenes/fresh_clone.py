"""
A fresh clone of the working tree, as a new reader has one, with this environment and the cached binaries.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
LONG_AGO = 946684800
"""Before this environment was made: in the clone nothing is installed again."""
LOCKED = ("release/locks/dev.txt", "pyproject.toml")


def fresh_clone(folder: Path) -> Path:
    """Clone into a new folder, changes that are not committed included; return the clone."""
    clone = folder / "counterfoil"
    _git("clone", "--quiet", "--no-hardlinks", str(ROOT), str(clone))
    for name in _git("-C", str(ROOT), "ls-files", "-z", "-mo", "--exclude-standard").split("\0"):
        source, target = ROOT / name, clone / name
        if name and source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
        elif name:
            target.unlink(missing_ok=True)
    (clone / ".venv").symlink_to(sys.prefix)
    for name in LOCKED:
        os.utime(clone / name, (LONG_AGO, LONG_AGO))
    return clone


def replace_in(path: Path, replaced: dict[str, str]) -> str:
    """Replace texts in a file, each of which must be there; return the new content."""
    text = path.read_text("utf-8")
    for before, after in replaced.items():
        assert before in text, f"{before!r} is not in {path.name}"
        text = text.replace(before, after)
    path.write_text(text, "utf-8")
    return text


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout

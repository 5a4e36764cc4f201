"""
Packages of npm for tests: installed once from a lock file beside this module, and kept in the user's cache folder.

Nothing of them is run while they are installed.
"""

import hashlib
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

from sandbox import debian
from sandbox.controlplane.binaries import cache_folder
from sandbox.controlplane.processes import run

LOCKS: Final = Path(__file__).parent / "npm"
AXE: Final = Path("node_modules/axe-core/axe.min.js")


class NpmPackagesError(RuntimeError):
    """They can't be installed; the message says what to do."""


async def installed(name: str, main: Path) -> Path:
    """
    Return the folder with the packages of ``npm/<name>``, installed if they are not; ``main`` is a file that is then there.

    Raises ``NpmPackagesError``.
    """
    lock = LOCKS / name
    digest = hashlib.sha256((lock / "package-lock.json").read_bytes()).hexdigest()
    folder = cache_folder() / "npm" / f"{name}-{digest[:16]}"
    npm = await _npm()
    if (folder / main).exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    print(f"[npm] installing {name}", file=sys.stderr, flush=True)
    unfinished = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=folder.parent))
    try:
        for file in ("package.json", "package-lock.json"):
            shutil.copy(lock / file, unfinished)
        done = await run(
            [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], cwd=unfinished
        )
        if done.code:
            raise NpmPackagesError(f"npm could not install {name}:\n{done.err[-2000:]}")
        if not folder.exists():
            unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


async def axe() -> Path:
    """Return the script of axe-core, which finds what keeps people from using a page. Raises ``NpmPackagesError``."""
    return await installed("axe", AXE) / AXE


async def _npm() -> str:
    if shutil.which("npm") is None:
        try:
            await debian.ensure("nodejs", "npm")
        except debian.PackagesMissing as missing:
            raise NpmPackagesError(f"Node.js and npm are needed. {missing}") from missing
    path = shutil.which("npm")
    if path is None:
        raise NpmPackagesError("Node.js and npm are needed; npm is not on PATH.")
    return path

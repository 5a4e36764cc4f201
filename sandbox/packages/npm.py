"""
Packages of npm for tests: installed once from a lock file in ``npm_locks``, and kept in the user's cache
folder.

Nothing of them is run while they are installed.
"""

import hashlib
import shutil
import sys
from pathlib import Path
from typing import Final

from sandbox.controlplane.processes import run
from sandbox.packages import debian
from sandbox.packages.download import downloaded

LOCKS: Final = Path(__file__).parent / "npm_locks"


class NpmPackagesError(RuntimeError):
    """They can't be installed; the message says what to do."""


async def installed(name: str) -> Path:
    """
    Return the folder with the packages of ``npm_locks/<name>``, installed if they are not.

    Raises ``NpmPackagesError``, ``PackagesMissing``.
    """
    lock = LOCKS / name
    digest = hashlib.sha256((lock / "package-lock.json").read_bytes()).hexdigest()

    async def install(folder: Path) -> None:
        npm = await debian.program("npm", "nodejs", "npm")
        print(f"[npm] installing {name}", file=sys.stderr, flush=True)
        for file in ("package.json", "package-lock.json"):
            shutil.copy(lock / file, folder)
        done = await run(
            [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], cwd=folder
        )
        if done.code:
            raise NpmPackagesError(f"npm could not install {name}:\n{done.err[-2000:]}")

    return await downloaded(f"npm/{name}-{digest[:16]}", install)

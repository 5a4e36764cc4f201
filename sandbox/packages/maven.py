"""
Archives of Maven Central for tests: fetched once, and kept in the user's cache folder.
"""

import sys
from pathlib import Path

from sandbox.controlplane.processes import run
from sandbox.packages import debian
from sandbox.packages.download import downloaded


class MavenError(RuntimeError):
    """They can't be fetched; the message says what to do."""


async def fetched(name: str, *artifacts: str) -> Path:
    """
    Return the folder ``name`` with these artifacts, fetched if it does not exist.

    Raises ``MavenError``, ``PackagesMissing``.
    """

    async def fetch(folder: Path) -> None:
        mvn = await debian.program("mvn", "maven")
        for artifact in artifacts:
            print(f"[maven] fetching {artifact}", file=sys.stderr, flush=True)
            copy = ["dependency:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={folder}"]
            done = await run([mvn, "-q", "-B", *copy])
            if done.code:
                raise MavenError(f"Maven could not fetch {artifact}:\n{(done.out + done.err)[-2000:]}")

    return await downloaded(f"maven/{name}", fetch)

"""
Locked wheels for a chosen platform and Python, downloaded once and then kept.

pip compares each file with the hashes of the lock. What is kept has a name made of these hashes, so another
version, platform or hash is another folder. A folder in the cache is complete.
"""

import hashlib
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox.controlplane.processes import run
from sandbox.packages.download import downloaded


class WheelsMissing(Exception):
    """A wheel could not be downloaded; the message has what pip said."""


@dataclass(frozen=True)
class Target:
    """A platform and a Python, in the words of wheel names."""

    platforms: tuple[str, ...]
    """Platform tags, such as ``manylinux_2_28_x86_64``."""
    python: str
    """Version, such as ``3.11``."""


def locked(lock: str, names: Sequence[str]) -> str:
    """Return the lines of a lock, hashes included, for some of its packages. Raises ``KeyError``."""
    entries = {
        each.partition("==")[0]: re.sub(r"(?m)^ +#.*\n?", "", each)
        for each in re.split(r"(?m)^(?=[a-z0-9])", lock)[1:]
    }
    return "".join(entries[name] for name in names)


async def download(requirements: str, target: Target) -> list[Path]:
    """Return the wheels of requirements with hashes, sorted. Raises ``WheelsMissing``."""
    key = hashlib.sha256(repr((requirements, target)).encode()).hexdigest()[:16]

    async def fetch(folder: Path) -> None:
        (folder / "requirements.txt").write_text(requirements, encoding="utf-8")
        asked = await run(
            [
                *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
                *("--require-hashes", "--no-deps", "--only-binary=:all:", "--implementation=cp"),
                *(f"--platform={each}" for each in target.platforms),
                *(f"--python-version={target.python}", f"--dest={folder}"),
                f"--requirement={folder / 'requirements.txt'}",
            ]
        )
        if asked.code != 0:
            where = f"Python {target.python} on {target.platforms[0]}"
            raise WheelsMissing(f"no wheels for {where}: {asked.err.strip()}")

    return sorted((await downloaded(f"wheels/{key}", fetch)).glob("*.whl"))

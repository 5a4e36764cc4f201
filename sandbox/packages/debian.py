"""
``python -m sandbox.packages.debian PACKAGE...``: what a test needs from Debian, installed if it is missing.

For root, apt-get installs it, with its output kept for the error; other users get the command to type. A
package that is installed already is not changed, in any version. Nothing is ever removed.
"""

import asyncio
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

_LOCK = Path(tempfile.gettempdir()) / "counterfoil-debian.lock"


class PackagesMissing(RuntimeError):
    """They are not installed and can't be."""


async def ensure(*packages: str) -> None:
    """Install those of the packages that are missing. Raises ``PackagesMissing``, which says what to type."""
    if missing(*packages):
        # Not one of our processes, which end with us: dpkg should not be killed half-way.
        await asyncio.to_thread(_install, packages)


async def program(name: str, *packages: str) -> str:
    """Return the path of a program; if it is not on PATH, the packages are installed. Raises
    ``PackagesMissing``."""
    if shutil.which(name) is None:
        await ensure(*packages)
    path = shutil.which(name)
    if path is None:
        raise PackagesMissing(f"{name} is needed and is not on PATH.")
    return path


def missing(*packages: str) -> list[str]:
    """Return those of the packages that are not installed."""
    if shutil.which("dpkg-query") is None:
        return list(packages)
    query = ["dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\n", *packages]
    asked = subprocess.run(query, capture_output=True, text=True, check=False)
    installed = {line.split()[0] for line in asked.stdout.splitlines() if line.endswith(" installed")}
    return [each for each in packages if each not in installed]


def _install(packages: tuple[str, ...]) -> None:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        wanted = missing(*packages)
        raise PackagesMissing(f"Needed: {', '.join(wanted)}. On Debian, as root: {_by_hand(wanted)}")
    with _LOCK.open("w") as lock:
        # apt-get has its own lock, but gives up at once when it is taken.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (wanted := missing(*packages)):
            return
        print(f"[debian] installing {' '.join(wanted)}", file=sys.stderr, flush=True)
        for command in (
            ["apt-get", "-q", "update"],
            ["apt-get", "-q", "-y", "install", "--no-install-recommends", *wanted],
        ):
            done = subprocess.run(
                command,
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode != 0:
                raise PackagesMissing(
                    f"`{_by_hand(wanted)}` failed:\n{done.stderr.strip() or done.stdout.strip()}"
                )


def _by_hand(packages: Sequence[str]) -> str:
    return f"apt-get update && apt-get install --no-install-recommends {' '.join(packages)}"


def main() -> int:
    """Install what is named; return the exit status."""
    try:
        asyncio.run(ensure(*sys.argv[1:]))
    except PackagesMissing as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

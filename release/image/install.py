"""
Installs locked wheels into the virtual environment of the image: ``python -m release.image.install
ENVIRONMENT ...``, where the rest is for pip.

For the machine that builds, this is a plain ``pip install``. For another architecture (``TARGETARCH``, which
the build tool sets) pip takes the wheels of that architecture, and runs nothing of them. So an image for
arm64 is built on amd64 without an emulator.
"""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""Name in the build tool of each machine."""

OLDEST_GLIBC = 17
"""Minor version of the oldest glibc that wheels are built for (PEP 600)."""


def is_foreign(target: str, machine: str) -> bool:
    """Whether the target is another architecture than that of this machine; '' is this one."""
    return target not in ("", ARCHITECTURES.get(machine, machine))


def command(
    environment: Path, target: str, machine: str, arguments: Sequence[str], *, glibc: str
) -> list[str]:
    """
    Return the call of pip. ``glibc`` is the version in the base image, which is the same for each
    architecture.

    Raises ``KeyError`` for an unknown architecture.
    """
    pip = [sys.executable, "-m", "pip"]
    options = ["--no-compile", "--no-deps", "--only-binary=:all:", *arguments]
    if not is_foreign(target, machine):
        return [*pip, f"--python={environment / 'bin' / 'python'}", "install", *options]
    name = {architecture: name for name, architecture in ARCHITECTURES.items()}[target]
    newest = int(glibc.split(".")[1])
    tags = [f"--platform=manylinux_2_{minor}_{name}" for minor in range(newest, OLDEST_GLIBC - 1, -1)]
    return [*pip, "install", "--implementation=cp", *tags, f"--target={packages(environment)}", *options]


def packages(environment: Path) -> Path:
    """Return the folder of the packages."""
    (folder,) = environment.glob("lib/python3*/site-packages")
    return folder


def main(environment: Path, arguments: Sequence[str]) -> None:
    """Install what pip's arguments name."""
    target, machine = os.environ.get("TARGETARCH", ""), platform.machine()
    glibc = platform.libc_ver()[1]
    subprocess.run(command(environment, target, machine, arguments, glibc=glibc), check=True)
    if is_foreign(target, machine):
        # Programs with the path of the Python that installs.
        shutil.rmtree(packages(environment) / "bin", ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

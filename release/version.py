"""
The version of a release: where it is written, how it is set, and when it can't be released.

``pyproject.toml`` decides. ``counterfoil/__init__.py`` and the chart repeat it, since both are read without
the project. ``make version`` sets all of them and writes the changelog's section.
"""

import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
PLACES: dict[str, str] = {
    "pyproject.toml": r'(?m)^(version = ")([^"]+)(")$',
    "counterfoil/__init__.py": r'(?m)^(__version__ = ")([^"]+)(")$',
    "charts/counterfoil/Chart.yaml": r"(?m)^((?:appV|v)ersion: )(\S+)()$",
}
"""Locations of the version: a file, and a pattern with the version as its second group."""
NOT_RELEASED = re.compile(r"(?m)^## \S+ \(not released\)\n")
"""Heading of the first version's section, which is in the changelog before its release."""


class ReleaseRefused(Exception):
    """Nothing is released; the message says why, and what to do."""


@dataclass(frozen=True)
class RepositoryState:
    """The state of the repository that decides whether it can be released."""

    project: str
    """Version in ``pyproject.toml``."""
    written: frozenset[str]
    """All versions in ``PLACES``."""
    changelog: str
    fragments: Sequence[str]
    """Names of the files in ``release/changes/`` that are in no section yet."""
    changed: Sequence[str]
    """Files that differ from the commit. Files that only this person's git ignores are among them: the wheel,
    the plugin and the image would contain them."""
    tags: Sequence[str]
    """All tags of the repository."""
    tags_here: Sequence[str]
    """Tags of this commit."""


def parse(version: str) -> tuple[int, int, int]:
    """Return the numbers of a version. Raises ``ReleaseRefused``."""
    found = VERSION.fullmatch(version)
    if found is None:
        raise ReleaseRefused(
            f"VERSION {version!r} is not of the form 1.2.3. Say for example make release VERSION=1.2.3."
        )
    return int(found[1]), int(found[2]), int(found[3])


def check(version: str, state: RepositoryState) -> None:
    """Raises ``ReleaseRefused`` if this version can't be released from this state."""
    numbers = parse(version)
    if state.written != {version}:
        known = ", ".join(sorted(state.written - {version}))
        raise ReleaseRefused(
            f"VERSION is {version}, but {', '.join(PLACES)} say {known}. "
            f"`make version VERSION={version}` sets it; then commit."
        )
    if state.changed:
        raise ReleaseRefused(
            f"The tree is dirty: {', '.join(state.changed[:5])}. Commit or remove what is changed, since a "
            "release is made of one commit."
        )
    if f"v{version}" in state.tags and f"v{version}" not in state.tags_here:
        raise ReleaseRefused(f"v{version} is a tag of another commit. Choose a newer version.")
    released = [parse(tag[1:]) for tag in state.tags if VERSION.fullmatch(tag[1:]) and tag[0] == "v"]
    if released and max(released) > numbers:
        newest = ".".join(map(str, max(released)))
        raise ReleaseRefused(f"VERSION {version} is older than the newest release, v{newest}.")
    if "\n## Unreleased" in state.changelog:
        raise ReleaseRefused(
            "CHANGELOG.md has a heading Unreleased. Move its lines into files of release/changes/ "
            "(.github/CONTRIBUTING.md)."
        )
    if not re.search(rf"(?m)^## {re.escape(version)} ", state.changelog):
        raise ReleaseRefused(
            f"CHANGELOG.md has no heading for {version}. `make version VERSION={version}` writes it from "
            "release/changes/."
        )
    if NOT_RELEASED.search(state.changelog):
        raise ReleaseRefused(
            f"CHANGELOG.md has a version that is not released. "
            f"`make version VERSION={version}` gives it a date."
        )
    if state.fragments:
        raise ReleaseRefused(
            f"These changes are in no section of CHANGELOG.md: {', '.join(state.fragments)}. "
            f"`make version VERSION={version}` adds them."
        )


def read(root: Path) -> RepositoryState:
    """Read the state of a repository. Raises ``ReleaseRefused`` if there is no commit."""
    written = [
        found[2] for name, pattern in PLACES.items() for found in re.finditer(pattern, _text(root / name))
    ]
    return RepositoryState(
        project=tomllib.loads(_text(root / "pyproject.toml"))["project"]["version"],
        written=frozenset(written),
        changelog=_text(root / "CHANGELOG.md"),
        fragments=sorted(
            each.name for each in (root / "release" / "changes").glob("*.md") if each.name != "README.md"
        ),
        changed=_changed(root),
        tags=_git(root, "tag").split(),
        tags_here=_git(root, "tag", "--points-at", "HEAD").split(),
    )


def commit(root: Path) -> tuple[str, int]:
    """Return the commit, and its date in seconds since 1970. Raises ``ReleaseRefused``."""
    revision, date_ = _git(root, "log", "-1", "--format=%H %ct").split()
    return revision, int(date_)


def check_unchanged(root: Path, revision: str) -> None:
    """Raises ``ReleaseRefused`` if the tree is no longer that of this commit."""
    changed = ["the commit"] if commit(root)[0] != revision else _changed(root)
    if changed:
        raise ReleaseRefused(
            f"These changed during the build: {', '.join(changed[:5])}. The files in dist/release/ are of no "
            "commit. Remove them, and build again."
        )


def _changed(root: Path) -> list[str]:
    tracked = _git(root, "status", "--porcelain", "--untracked-files=no").splitlines()
    others = _git(root, "ls-files", "--others", "--exclude-per-directory=.gitignore").splitlines()
    return [*(line[3:] for line in tracked), *others]


def set_version(root: Path, version: str, day: date) -> None:
    """
    Write the version into all ``PLACES``, and the changelog's section. Raises ``ReleaseRefused``.

    The section of the first version is in the changelog already: it gets a date, and the changes since then.
    """
    state = read(root)
    if parse(version) < parse(state.project):
        raise ReleaseRefused(f"VERSION {version} is older than {state.project} in pyproject.toml.")
    for name, pattern in PLACES.items():
        text = re.sub(pattern, rf"\g<1>{version}\g<3>", _text(root / name))
        (root / name).write_text(text, encoding="utf-8")
    changelog, heading = root / "CHANGELOG.md", f"## {version} ({day.isoformat()})\n"
    if not state.fragments and NOT_RELEASED.search(state.changelog):
        changelog.write_text(NOT_RELEASED.sub(heading, state.changelog), encoding="utf-8")
        return
    asked = subprocess.run(
        [
            *(sys.executable, "-m", "towncrier", "build", "--yes"),
            *(f"--version={version}", f"--date={day.isoformat()}"),
        ],
        cwd=root,
        check=False,
    )
    if asked.returncode != 0:
        raise ReleaseRefused("towncrier wrote no section into CHANGELOG.md.")
    before, _, written = _text(changelog).partition(heading)
    if NOT_RELEASED.search(written):
        changes, first = (each.strip() for each in NOT_RELEASED.split(written, maxsplit=1))
        changelog.write_text(f"{before}{heading}\n{first}\n\n{changes}\n", encoding="utf-8")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _git(root: Path, *arguments: str) -> str:
    asked = subprocess.run(
        ["git", *arguments], cwd=root, capture_output=True, text=True, check=False, timeout=60
    )
    if asked.returncode != 0:
        raise ReleaseRefused(f"git {arguments[0]}: {asked.stderr.strip()}")
    return asked.stdout

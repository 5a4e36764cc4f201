"""A release is refused unless version, tree, tags and changelog agree, and the refusal says what to do."""

import re
import shutil
import subprocess
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from release import version
from release.image.build import ROOT
from release.version import PLACES, ReleaseRefused, RepositoryState, check

READY = RepositoryState(
    project="1.2.3",
    written=frozenset({"1.2.3"}),
    changelog="# Changelog\n\n## 1.2.3 (2026-01-01)\n\n- New.\n",
    fragments=[],
    changed=[],
    tags=["v1.2.2", "v0.9.0", "nightly"],
    tags_here=[],
)
FIRST = "## 0.1.0 (not released)\n\nThe first version.\n\n### Added\n\n- All.\n"


def test_a_state_in_which_all_agrees_can_be_released() -> None:
    check("1.2.3", READY)
    check("1.2.3", replace(READY, tags=["v1.2.3"], tags_here=["v1.2.3"]))


@pytest.mark.parametrize(
    "wrong", ["", "1.2", "v1.2.3", "1.2.3-rc.1", "01.2.3", "1.2.3\n", "1.2.3.4", "latest"]
)
def test_a_malformed_version_is_refused_with_an_example(wrong: str) -> None:
    with pytest.raises(ReleaseRefused, match=r"not of the form 1\.2\.3"):
        check(wrong, READY)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (
            replace(READY, written=frozenset({"1.2.3", "1.2.2"})),
            "say 1.2.2. `make version VERSION=1.2.3` sets",
        ),
        (replace(READY, changed=["README.md"]), "The tree is dirty: README.md"),
        (replace(READY, tags=["v1.2.3"]), "v1.2.3 is a tag of another commit"),
        (replace(READY, tags=["v1.10.0"]), "older than the newest release, v1.10.0"),
        (replace(READY, changelog="## 1.2.2 (2026-01-01)\n## 1.2.30 (2026-01-01)\n"), "no heading for 1.2.3"),
        (replace(READY, changelog=f"{READY.changelog}\n## Unreleased\n"), "heading Unreleased"),
        (replace(READY, changelog=f"{READY.changelog}\n{FIRST}"), "has a version that is not released"),
        (replace(READY, fragments=["+a.added.md"]), "in no section of CHANGELOG.md: +a.added.md"),
    ],
)
def test_what_does_not_agree_is_refused(state: RepositoryState, reason: str) -> None:
    with pytest.raises(ReleaseRefused, match=re.escape(reason)):
        check("1.2.3", state)


def test_all_places_have_the_version_of_the_project() -> None:
    state = version.read(ROOT)
    assert state.written == {state.project}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for name in (*PLACES, "CHANGELOG.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    changelog = tmp_path / "CHANGELOG.md"
    changelog.write_text(changelog.read_text("utf-8").partition("\n## ")[0] + "\n", encoding="utf-8")
    (tmp_path / "release" / "changes").mkdir(parents=True)
    (tmp_path / "release" / "changes" / "README.md").write_text("How.\n")
    (tmp_path / "release" / "changes" / "+quota.added.md").write_text("A quota.\n")
    (tmp_path / "release" / "changes" / "7.fixed.md").write_text("A fault.\n")
    person = ("-c", "user.name=a", "-c", "user.email=a@acme.example")
    for command in (("init", "--quiet"), ("add", "-A"), (*person, "commit", "--quiet", "-m", "Begin")):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return tmp_path


def test_setting_a_version_writes_all_places_and_the_section_and_uses_the_fragments_up(
    repository: Path,
) -> None:
    version.set_version(repository, "9.8.7", date(2026, 2, 3))
    state = version.read(repository)
    assert state.written == {"9.8.7"}
    assert (
        "\n## 9.8.7 (2026-02-03)\n\n### Added\n\n- A quota.\n\n### Fixed\n\n- A fault. (#7)"
        in state.changelog
    )
    assert (state.fragments, state.changed != []) == ([], True)


@pytest.mark.parametrize(
    ("fragments", "section"),
    [
        ([], "## 0.9.0 (2026-02-03)\n\nThe first version.\n\n### Added\n\n- All.\n"),
        (
            ["+quota.added.md"],
            "## 0.9.0 (2026-02-03)\n\nThe first version.\n\n### Added\n\n- All.\n\n### Added\n\n- A quota.\n",
        ),
    ],
)
def test_the_section_of_the_first_version_gets_a_date_and_the_changes_since_then(
    repository: Path, fragments: list[str], section: str
) -> None:
    head = (repository / "CHANGELOG.md").read_text("utf-8")
    (repository / "CHANGELOG.md").write_text(f"{head}{FIRST}", encoding="utf-8")
    for path in (repository / "release" / "changes").iterdir():
        if path.name not in ("README.md", *fragments):
            path.unlink()
    version.set_version(repository, "0.9.0", date(2026, 2, 3))
    assert version.read(repository).changelog == head + section


def test_an_older_version_is_not_set(repository: Path) -> None:
    with pytest.raises(ReleaseRefused, match=r"0\.0\.1 is older than"):
        version.set_version(repository, "0.0.1", date(2026, 2, 3))
    assert version.read(repository).changed == []


@pytest.mark.parametrize("where", [".git/info/exclude", "excludes"])
def test_a_file_that_only_this_person_ignores_makes_the_tree_dirty(repository: Path, where: str) -> None:
    # The wheel, the plugin and the image take all files of the packages.
    (repository / where).parent.mkdir(exist_ok=True)
    (repository / where).write_text(".env\nexcludes\n")
    subprocess.run(
        ["git", "config", "core.excludesFile", str(repository / where)], cwd=repository, check=True
    )
    (repository / "counterfoil" / ".env").write_text("TOKEN=secret\n")
    assert "counterfoil/.env" in version.read(repository).changed


def test_files_that_all_ignore_and_configured_listings_do_not_matter(repository: Path) -> None:
    (repository / ".gitignore").write_text("__pycache__/\n.gitignore\n")
    (repository / "counterfoil" / "__pycache__").mkdir()
    (repository / "counterfoil" / "__pycache__" / "a.pyc").write_text("")
    assert version.read(repository).changed == []
    subprocess.run(["git", "config", "status.showUntrackedFiles", "no"], cwd=repository, check=True)
    (repository / "counterfoil" / "new.py").write_text("")
    assert version.read(repository).changed == ["counterfoil/new.py"]


def test_what_changes_during_a_build_is_no_release(repository: Path) -> None:
    revision, _ = version.commit(repository)
    version.check_unchanged(repository, revision)
    (repository / "counterfoil" / "__init__.py").write_text('__version__ = "0"\n')
    with pytest.raises(ReleaseRefused, match=r"changed during the build: counterfoil/__init__\.py"):
        version.check_unchanged(repository, revision)
    with pytest.raises(ReleaseRefused, match="changed during the build: the commit"):
        version.check_unchanged(repository, "0" * 40)


def test_a_folder_that_is_no_repository_is_refused(tmp_path: Path, repository: Path) -> None:
    shutil.rmtree(repository / ".git")
    with pytest.raises(ReleaseRefused, match="not a git repository"):
        version.read(repository)


def test_every_file_in_changes_has_a_name_that_counts() -> None:
    kinds = "security|removed|changed|added|fixed"
    names = {each.name for each in (ROOT / "release" / "changes").iterdir()} - {"README.md"}
    assert [each for each in names if not re.fullmatch(rf"(\+[a-z0-9-]+|\d+)\.({kinds})\.md", each)] == []

"""
A release of this tree, made twice in a clone of it: everything that ``make release`` makes, with a base image
of Debian's packages in place of the one that a registry has.

For arm64 the base is the same files under the other name: nothing of that image can run here, so the test
reads what is in it.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from release import oci, statements
from sandbox.node import images

VERSION = "9.8.7"
BASE = "localhost/counterfoil-base:release"
REPOSITORY = "https://forge.acme.example/acme/counterfoil"
FILES = {
    "NOTES.md",
    "SHA256SUMS",
    "counterfoil-9.8.7-chart.oci.tar",
    "counterfoil-9.8.7-image-amd64.cdx.json",
    "counterfoil-9.8.7-image-arm64.cdx.json",
    "counterfoil-9.8.7-traces-image-amd64.cdx.json",
    "counterfoil-9.8.7-traces-image-arm64.cdx.json",
    "counterfoil-9.8.7-traces.oci.tar",
    "counterfoil-9.8.7-py3-none-any.whl",
    "counterfoil-9.8.7-wheel.cdx.json",
    "counterfoil-9.8.7.oci.tar",
    "counterfoil-9.8.7.provenance.json",
    "counterfoil-9.8.7.tar.gz",
    "counterfoil-9.8.7.tgz",
    "krew.yaml",
    "kubectl-counterfoil-9.8.7.pyz",
    "kubectl-counterfoil-9.8.7.tar.gz",
}


@dataclass(frozen=True)
class Made:
    """A release, and what was said on stderr."""

    folder: Path
    again: Mapping[str, str]
    """Hash of each file of the second time."""
    said: str

    def hashes(self) -> dict[str, str]:
        """Hash of each file."""
        return hashes(self.folder)


def hashes(folder: Path) -> dict[str, str]:
    return {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in folder.iterdir()}


def a_clone(folder: Path) -> None:
    """A repository with this tree, as it is, as its one commit."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=images.ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (images.ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(images.ROOT / name, folder / name)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    commit(folder)


def commit(folder: Path) -> None:
    person = ("-c", "user.name=a", "-c", "user.email=a@acme.example")
    for command in (("add", "--all"), (*person, "commit", "--quiet", "--message", "Change")):
        subprocess.run(["git", *command], cwd=folder, check=True)


def release(clone: Path, environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command of `make release`, or of `make version`."""
    return subprocess.run(
        [sys.executable, "-m", "release", *arguments],
        cwd=clone,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
async def environment(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Variables for a release: separate storage for buildah, and a base image for both architectures."""
    folder = tmp_path_factory.mktemp("storage")
    archive = await images.prepare()
    configuration = folder / "storage.conf"
    driver = images.storage_driver()
    configuration.write_text(
        f'[storage]\ndriver = "{driver}"\ngraphroot = "{folder}/root"\nrunroot = "{folder}/run"\n'
    )
    variables = {
        **os.environ,
        "CONTAINERS_STORAGE_CONF": str(configuration),
        "BUILDAH_ISOLATION": "chroot",
        "VERSION": VERSION,
        "REPOSITORY": REPOSITORY,
        "BASE": BASE,
        "MUTABLE_BASE": "1",
        "OPTIONS": " ".join(["--pull-never", *images.as_this_machine(folder)]),
    }
    for name in ("COSIGN_KEY", *statements.KEYLESS):
        variables.pop(name, None)

    def buildah(*arguments: str) -> str:
        command = ["buildah", *arguments]
        done = subprocess.run(command, env=variables, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    buildah("manifest", "create", BASE)
    for architecture in ("amd64", "arm64"):
        container = buildah("from", "--arch", architecture, "scratch")
        buildah("add", "--quiet", container, str(archive), "/")
        path = "PATH=/usr/local/bin:/usr/bin:/bin"
        buildah("config", "--arch", architecture, "--env", path, container)
        buildah("commit", "--quiet", "--rm", container, f"{BASE}-{architecture}")
        added = f"containers-storage:{BASE}-{architecture}"
        buildah("manifest", "add", "--arch", architecture, BASE, added)
    return variables


@pytest.fixture(scope="module")
def made(environment: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Made:
    clone = tmp_path_factory.mktemp("clone")
    a_clone(clone)
    assert "say" in release(clone, environment).stderr, "this version is not set yet"
    assert release(clone, environment, "set").returncode == 0
    assert "The tree is dirty" in release(clone, environment).stderr
    commit(clone)
    first = release(clone, environment)
    assert first.returncode == 0, first.stderr[-3000:]
    kept = tmp_path_factory.mktemp("made") / "release"
    (clone / "dist" / "release").rename(kept)
    assert release(clone, environment).returncode == 0
    return Made(kept, hashes(clone / "dist" / "release"), first.stderr)


def layout(made: Made, name: str, folder: Path) -> Path:
    with tarfile.open(made.folder / name) as archive:
        archive.extractall(folder, filter="data")
    return folder


def test_every_file_of_a_release_is_there_and_the_same_the_second_time(made: Made) -> None:
    first, again = made.hashes(), made.again
    assert set(first) == set(again) == FILES
    assert {name for name in FILES if first[name] != again[name]} == set()


def test_the_checksums_cover_everything_else(made: Made) -> None:
    command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    checked = subprocess.run(command, cwd=made.folder, check=True, capture_output=True, text=True)
    assert len(checked.stdout.splitlines()) == len(FILES) - 1


def test_it_says_that_it_is_unsigned(made: Made) -> None:
    (line,) = (each for each in made.said.splitlines() if "UNSIGNED" in each)
    assert "docs/contributing/releasing.md" in line


def test_the_provenance_has_the_hash_of_each_file_that_is_built(made: Made) -> None:
    statement = json.loads((made.folder / f"counterfoil-{VERSION}.provenance.json").read_text())
    named = {each["name"]: each["digest"]["sha256"] for each in statement["subject"]}
    own = {f"counterfoil-{VERSION}.provenance.json", "SHA256SUMS"}
    assert named == {name: digest for name, digest in made.hashes().items() if name not in own}


@pytest.mark.parametrize("suffix", ["", "-traces"])
def test_the_image_is_for_both_architectures_with_the_compiled_libraries_of_each(
    made: Made, suffix: str, tmp_path: Path
) -> None:
    folder = layout(made, f"counterfoil-{VERSION}{suffix}.oci.tar", tmp_path)
    machines = {"amd64": ("x86_64", 62), "arm64": ("aarch64", 183)}  # numbers of ELF
    assert list(oci.images(folder)) == list(machines)
    for architecture, (name, number) in machines.items():
        manifest = oci.read_json(folder, oci.images(folder)[architecture])
        configuration = oci.read_json(folder, manifest["config"])
        assert configuration["architecture"] == architecture
        assert configuration["config"]["Labels"]["org.opencontainers.image.version"] == VERSION
        libraries: dict[str, bytes] = {}
        with tarfile.open(oci.blob(folder, manifest["layers"][-1])) as layer:
            for each in layer:
                if each.name.endswith(".so") and (content := layer.extractfile(each)) is not None:
                    libraries[each.name] = content.read(20)
        assert any(name in each for each in libraries)
        assert {int.from_bytes(each[18:20], "little") for each in libraries.values()} == {number}


@pytest.mark.parametrize(
    "name", ["image-amd64", "image-arm64", "traces-image-amd64", "traces-image-arm64", "wheel"]
)
def test_the_bills_of_materials_are_valid(made: Made, name: str) -> None:
    text = (made.folder / f"counterfoil-{VERSION}-{name}.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    names = {each["name"] for each in json.loads(text)["components"]}
    assert {"msgspec", "kopf"} <= names
    assert ("opentelemetry-api" in names) == ("traces" in name)


def test_the_chart_has_the_version_in_both_forms(made: Made, tmp_path: Path) -> None:
    package = (made.folder / f"counterfoil-{VERSION}.tgz").read_bytes()
    with tarfile.open(made.folder / f"counterfoil-{VERSION}.tgz") as chart:
        text = chart.extractfile("counterfoil/Chart.yaml")
        assert text is not None
        assert f"version: {VERSION}\n".encode() in text.read()
    folder = layout(made, f"counterfoil-{VERSION}-chart.oci.tar", tmp_path)
    (entry,) = json.loads((folder / "index.json").read_bytes())["manifests"]
    manifest: dict[str, Any] = oci.read_json(folder, entry)
    assert oci.blob(folder, manifest["layers"][0]).read_bytes() == package


def test_the_plugin_in_the_archive_for_krew_runs(made: Made, tmp_path: Path) -> None:
    with tarfile.open(made.folder / f"kubectl-counterfoil-{VERSION}.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    python = Path(sys.base_prefix) / "bin" / "python3"
    command = [str(python), "-I", str(tmp_path / "kubectl-counterfoil"), "--version"]
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    assert ended.stdout == f"counterfoil {VERSION}\n"
    digest = hashlib.sha256((made.folder / f"kubectl-counterfoil-{VERSION}.tar.gz").read_bytes()).hexdigest()
    assert f"sha256: {digest}" in (made.folder / "krew.yaml").read_text()

"""
``make release VERSION=1.2.3``: everything that a release has, in ``dist/release/``.

The image for amd64 and arm64 as one OCI archive, its variant for traces as another, the chart (.tgz and OCI),
wheel and sdist, the stand-alone plugin and the manifest for krew, bills of materials, provenance and
checksums. With a key there are signatures too. The same commit gives the same bytes, except signatures.
Nothing is published.

buildah builds the image. On one architecture it also builds that of the other, which it can't run there: the
image of the other architecture is only checked against the lock.

Environment: ``VERSION``; ``REPOSITORY``, the address for krew's manifest; ``BASE``, ``MUTABLE_BASE`` and
``OPTIONS`` as for ``make image``; ``COSIGN_KEY``, a key for cosign.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

import yaml

from release import bill_of_materials, oci, plugin, statements, version
from release.bill_of_materials import NotLocked
from release.helm import CHART, HelmError, helm
from release.image import build
from release.image.build import ROOT, BaseMutable, BuildCommandFailed, BuildToolMissing
from release.version import ReleaseRefused
from release.wheels import WheelsMissing
from sandbox.controlplane.binaries import BuildError
from sandbox.controlplane.toolchain import NoGoError

FOLDER = ROOT / "dist" / "release"
ARCHITECTURES = ("amd64", "arm64")
LOCAL_IMAGE = "localhost/counterfoil-release"
PROGRAM = "kubectl-counterfoil"


@dataclass(frozen=True)
class Release:
    """The values that all parts of one release share."""

    version: str
    revision: str
    epoch: int
    base: str
    environment: Mapping[str, str]

    def path(self, suffix: str, name: str = "counterfoil") -> Path:
        """Return the path of a file of the release."""
        return FOLDER / f"{name}-{self.version}{suffix}"

    def bill(self, suffix: str, document: Mapping[str, Any]) -> None:
        """Write a bill of materials."""
        self.path(f"{suffix}.cdx.json").write_text(statements.to_json(document), encoding="utf-8")


async def make(environment: Mapping[str, str]) -> None:
    """Build everything. Raises ``ReleaseRefused`` and what the parts raise."""
    wanted = environment.get("VERSION", "")
    version.check(wanted, version.read(ROOT))
    base = build.choose_base(environment, build.BASE_FILE.read_text(encoding="utf-8"))
    if not build.works("buildah"):
        raise BuildToolMissing("A release needs buildah (Debian: apt-get install buildah).")
    release = Release(wanted, *version.commit(ROOT), base, environment)
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    _notes(release)
    await _plugin(release)
    _packages(release)
    await _chart(release)
    for variant in build.LOCKS:
        _image(release, variant)
    version.check_unchanged(ROOT, release.revision)
    _statements(release)
    print(listing(FOLDER))


def _notes(release: Release) -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    section = changelog.partition(f"\n## {release.version} ")[2].partition("\n## ")[0]
    (FOLDER / "NOTES.md").write_text(section.partition("\n")[2].strip() + "\n", encoding="utf-8")


async def _plugin(release: Release) -> None:
    program = await plugin.build(release.epoch)
    release.path(".pyz", PROGRAM).write_bytes(program)
    licences = {name: (0o644, (ROOT / name).read_bytes()) for name in ("LICENSE", "NOTICE")}
    archive = release.path(".tar.gz", PROGRAM)
    archive.write_bytes(oci.pack({PROGRAM: (0o755, program), **licences}, release.epoch))
    repository = statements.repository_of(release.environment)
    if repository is None:
        _say("no krew.yaml: REPOSITORY does not say from where krew gets the plugin")
        return
    digest = statements.sha256(archive.read_bytes())
    manifest = statements.krew(release.version, repository, archive.name, digest)
    (FOLDER / "krew.yaml").write_text(manifest, encoding="utf-8")


def _packages(release: Release) -> None:
    dated = {**release.environment, "SOURCE_DATE_EPOCH": str(release.epoch)}
    _run(
        [sys.executable, "-m", "uv", "build", "--quiet", "--no-build-isolation", f"--out-dir={FOLDER}"], dated
    )
    (FOLDER / ".gitignore").unlink(missing_ok=True)
    lock = build.lock_of(build.PLAIN)
    (wheel,) = FOLDER.glob("*.whl")
    release.bill(
        "-wheel",
        bill_of_materials.of_wheel(
            wheel.read_bytes(),
            lock,
            _licences(lock),
            version=release.version,
            revision=release.revision,
            epoch=release.epoch,
        ),
    )


def _licences(lock: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in lock.splitlines():
        name, is_package, _ = line.partition("==")
        if is_package:
            try:
                found[name] = bill_of_materials.licence_of(metadata(name))
            except PackageNotFoundError:
                # Locked for another platform.
                continue
    return found


async def _chart(release: Release) -> None:
    with tempfile.TemporaryDirectory(prefix="counterfoil-chart-") as folder:
        run = await helm(Path(folder) / "helm")
        given = (f"--version={release.version}", f"--app-version={release.version}")
        await run("package", CHART, *given, f"--destination={folder}")
        package = oci.repack(
            (Path(folder) / f"counterfoil-{release.version}.tgz").read_bytes(), release.epoch
        )
        release.path(".tgz").write_bytes(package)
        layout = Path(folder) / "layout"
        layout.mkdir()
        created = datetime.fromtimestamp(release.epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        metadata_ = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
        oci.write_chart(layout, package, metadata_, created)
        oci.write_archive(layout, release.path("-chart.oci.tar"), release.epoch)


def _image(release: Release, variant: str) -> None:
    traces = "1" if variant == build.TRACES else ""
    spec = build.image_spec({**release.environment, "IMAGE": LOCAL_IMAGE, "TRACES": traces})
    suffix = build.SUFFIXES[variant]
    with tempfile.TemporaryDirectory(prefix="counterfoil-image-") as folder:
        layout = Path(folder) / "layout"
        subprocess.run(["buildah", "manifest", "rm", spec.image], capture_output=True, check=False)
        for command in build.multi_architecture_commands(spec, ARCHITECTURES, layout):
            _run(command, release.environment)
        lock = build.lock_of(variant)
        for architecture, manifest in oci.images(layout).items():
            contents = bill_of_materials.read_layout(layout, manifest)
            bill_of_materials.check_locked(contents, lock)
            document = bill_of_materials.bill_of_materials(
                contents, version=release.version, revision=release.revision, epoch=release.epoch
            )
            release.bill(f"{suffix}-image-{architecture}", document)
        oci.write_archive(layout, release.path(f"{suffix}.oci.tar"), release.epoch)
        _say(f"image{suffix} {oci.index_digest(layout)} for {', '.join(oci.images(layout))}")


def _statements(release: Release) -> None:
    locks = {
        str(each.relative_to(ROOT)): statements.sha256(each.read_bytes())
        for each in (ROOT / "release" / "locks").glob("*.txt")
    }
    statement = statements.provenance(
        _hashes(),
        version=release.version,
        revision=release.revision,
        repository=statements.repository_of(release.environment),
        base=release.base,
        locks=locks,
        builder=statements.builder_of(release.environment),
    )
    release.path(".provenance.json").write_text(statements.to_json(statement), encoding="utf-8")
    sums = FOLDER / statements.CHECKSUMS
    sums.write_text(statements.checksums(_hashes()), encoding="utf-8")
    with tempfile.NamedTemporaryFile("w", suffix=".json") as predicate:
        predicate.write(statements.to_json(statement["predicate"]))
        predicate.flush()
        commands = statements.signing(release.environment, sums, Path(predicate.name))
        for command in commands:
            _run(command, release.environment)
    if not commands:
        _say("UNSIGNED: there is no COSIGN_KEY and no identity; see docs/contributing/releasing.md to sign")


def _hashes() -> dict[str, str]:
    return {each.name: statements.sha256(each.read_bytes()) for each in sorted(FOLDER.iterdir())}


def listing(folder: Path) -> str:
    """Return the files of a release with their sizes, as a Markdown table."""
    rows = [f"| `{each.name}` | {each.stat().st_size:,} |" for each in sorted(folder.iterdir())]
    return "\n".join(["| File | Bytes |", "|---|---:|", *rows])


def _run(command: Sequence[str], environment: Mapping[str, str]) -> None:
    try:
        ended = subprocess.run(command, cwd=ROOT, env=dict(environment), stdout=sys.stderr, check=False)
    except FileNotFoundError:
        raise BuildCommandFailed(
            f"there is no {command[0]} here; this was to run: {' '.join(command)}"
        ) from None
    if ended.returncode != 0:
        raise BuildCommandFailed(f"this failed: {' '.join(command)}")


def _say(line: str) -> None:
    print(f"[release] {line}", file=sys.stderr, flush=True)


def main() -> int:
    """Make the release, or set a version (``python -m release set``); return the exit status."""
    try:
        if sys.argv[1:] == ["set"]:
            version.set_version(ROOT, os.environ.get("VERSION", ""), datetime.now(UTC).date())
        else:
            asyncio.run(make(os.environ))
    except (
        *(ReleaseRefused, BaseMutable, BuildToolMissing, BuildCommandFailed, NotLocked),
        *(WheelsMissing, HelmError, BuildError, NoGoError),
    ) as problem:
        _say(str(problem))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

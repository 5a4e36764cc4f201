"""
The programs of the control plane, downloaded or built on their first use and then kept.

``ensure`` checks the user's cache folder. What is missing comes from its publisher if ``downloads`` has its
checksum and the publisher answers within seconds. Everything else is built from pinned Go modules, and
``COUNTERFOIL_BUILD=1`` builds all. A built program is stored under a hash of everything that decides the
result: go.mod, go.sum, the flags, the platform. One process at a time writes, into a temporary name that is
renamed when it is complete. So a file in the cache is whole, and it is what the repository pins.

Modules come through Go's own module proxy and checksum database; go.sum is never written here.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox.cache import cache_folder
from sandbox.controlplane.downloads import (
    UNFINISHED,
    ChecksumError,
    Release,
    fetch,
    release_of,
    releases_here,
)
from sandbox.controlplane.processes import run
from sandbox.controlplane.toolchain import Go, find_go, needed_by

Report = Callable[[str], None]

SOURCES = Path(__file__).parent / "go"
# No C compiler is needed, and nobody's own GOFLAGS or workspace plays a part.
BUILD_ENVIRONMENT = {
    "CGO_ENABLED": "0",
    "GOFLAGS": "-trimpath -mod=readonly",
    "GOTOOLCHAIN": "local",
    "GOWORK": "off",
}
CORES = len(os.sched_getaffinity(0))
COMPILER_ENVIRONMENT = {"GOGC": "off", "GOMEMLIMIT": "2GiB", "GOMAXPROCS": str(max(1, CORES // 2))}
"""No collection of garbage below a limit that only the largest packages reach: it takes a fifth of the CPU of
processes that end after seconds. Half of the cores for each process: one with many threads spends a fifth of
its time on telling the other cores that its memory has changed."""
COMPILER_FLAGS = ("-gcflags=all=-dwarf=false",)
"""No debug information: the linker leaves it out anyway, and it takes a seventh of the compiler's time."""
NOT_INHERITED = ("GOOS", "GOARCH", "GOEXPERIMENT", "GOAMD64", "GOARM64")
MODULES_AT_ONCE = 2
TRIES = 3
PAUSE = 2.0  # seconds between tries
LOCK_INTERVAL = 0.2  # seconds between looks at a lock that somebody else holds
TRANSIENT_FAILURE = re.compile(
    r"dial tcp|no such host|connection (refused|reset)|timeout|TLS handshake|unexpected EOF|"
    r"\b(429|50[0234])\b"
)


class BuildError(Exception):
    """A program could neither be downloaded nor built."""


@dataclass(frozen=True)
class Module:
    """A folder with go.mod, go.sum and perhaps our own main package, and the programs that come out of it."""

    folder: Path
    version: str
    programs: Mapping[str, str]
    """Name of the program: import path of its main package."""
    linker_flags: str = "-s -w"

    @property
    def go_mod(self) -> str:
        """The text of go.mod."""
        return (self.folder / "go.mod").read_text()

    def key(self) -> str:
        """Return a hash of everything that decides what the programs are."""
        parts = (
            self.go_mod,
            (self.folder / "go.sum").read_text(),
            repr(sorted(self.programs.items())),
            repr(sorted(BUILD_ENVIRONMENT.items())),
            self.linker_flags,
            f"{sys.platform} {platform.machine()}",
            *(source.read_text() for source in sorted(self.folder.glob("*.go"))),
        )
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


VERSION_PACKAGE = "k8s.io/component-base/version"


def _kubernetes_flags(version: str) -> str:
    # What Kubernetes' own build sets; without it, the server says that it is v0.0.0-master.
    _, minor, _ = version.split(".")
    return (
        f"-s -w -X {VERSION_PACKAGE}.gitVersion=v{version} -X {VERSION_PACKAGE}.gitMajor=1 -X "
        f"{VERSION_PACKAGE}.gitMinor={minor}"
    )


KUBERNETES_FLAGS = _kubernetes_flags("1.35.4")
MODULES = (
    Module(
        SOURCES / "kubernetes",
        "1.35.4",
        {
            "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
            "kubectl": "k8s.io/kubernetes/cmd/kubectl",
            # The version that Kubernetes requires: most of its packages are compiled for kube-apiserver, too.
            "etcd": "go.etcd.io/etcd/server/v3",
        },
        KUBERNETES_FLAGS,
    ),
    Module(
        SOURCES / "node",
        "1.35.4",
        {
            "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
            "kube-proxy": "k8s.io/kubernetes/cmd/kube-proxy",
            "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
            "kubelet": "k8s.io/kubernetes/cmd/kubelet",
        },
        KUBERNETES_FLAGS,
    ),
    Module(SOURCES / "coredns", "1.12.4", {"coredns": "github.com/coredns/coredns"}),
    Module(
        SOURCES / "kube-router",
        "2.1.0",
        {"kube-router": "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router"},
    ),
    Module(
        SOURCES / "metrics-server",
        "0.8.0",
        {"metrics-server": "sigs.k8s.io/metrics-server/cmd/metrics-server"},
    ),
    Module(SOURCES / "rclone", "1.71.0", {"rclone": "github.com/rclone/rclone"}),
    Module(SOURCES / "versitygw", "1.8.0", {"versitygw": "github.com/versity/versitygw/cmd/versitygw"}),
    Module(
        SOURCES / "helm",
        "4.3.1",
        {"helm": "helm.sh/helm/v4/cmd/helm"},
        # What helm's own build sets; without it, it says that it is v4.3.
        "-s -w -X helm.sh/helm/v4/internal/version.version=v4.3.1",
    ),
    Module(
        SOURCES / "kubeconform",
        "0.7.0",
        {"kubeconform": "github.com/yannh/kubeconform/cmd/kubeconform"},
    ),
    Module(
        SOURCES / "kube-score",
        "1.20.0",
        {"kube-score": "github.com/zegl/kube-score/cmd/kube-score"},
    ),
    Module(SOURCES / "actionlint", "1.7.12", {"actionlint": "github.com/rhysd/actionlint/cmd/actionlint"}),
    Module(SOURCES / "kstatus", "0.37.2", {"kstatus": "counterfoil.local/kstatus"}),
    Module(
        SOURCES / "prometheus",
        "0.315.1",
        {"promtool": "github.com/prometheus/prometheus/cmd/promtool"},
        # As a Go module, Prometheus 3.15.1 has this number.
        "-s -w -X github.com/prometheus/common/version.Version=3.15.1",
    ),
)


def _apiserver(folder: str, version: str) -> Module:
    programs = {"kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver"}
    return Module(SOURCES / folder, version, programs, _kubernetes_flags(version))


def _helm_3(version: str) -> Module:
    # What helm's own build sets; without it, it takes each cluster that it renders for as Kubernetes 1.20.
    _, minor, _ = MODULES[0].version.split(".")
    rendered_for = [
        f"-X helm.sh/helm/v3/pkg/{package}.k8sVersion{part}"
        for package in ("chartutil", "lint/rules")
        for part in ("Major=1", f"Minor={minor}")
    ]
    flags = ["-s -w", f"-X helm.sh/helm/v3/internal/version.version=v{version}", *rendered_for]
    return Module(SOURCES / "helm-3", version, {"helm": "helm.sh/helm/v3/cmd/helm"}, " ".join(flags))


OTHER_VERSIONS: Mapping[str, Module] = {
    "helm-3": _helm_3("3.22.0"),
    "kubernetes-1.31": _apiserver("kubernetes-1.31", "1.31.14"),
    "kubernetes-1.36": _apiserver("kubernetes-1.36", "1.36.3"),
    "kubernetes-1.37": _apiserver("kubernetes-1.37", "1.37.2"),
}
"""Other versions of programs, for ``make matrix``, by what ``COUNTERFOIL_VERSION`` names."""


class Binaries(Mapping[str, Path]):
    """Path of each program, by its name."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._paths = dict(paths)

    def path(self, name: str) -> Path:
        """Return the path of a program that ``ensure`` was asked for."""
        return self._paths[name]

    def __getitem__(self, name: str) -> Path:
        return self._paths[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


def say(line: str) -> None:
    """Report to standard error."""
    print(f"[build] {line}", file=sys.stderr, flush=True)


async def ensure(
    *names: str,
    report: Report = say,
    modules: Sequence[Module] | None = None,
    releases: Sequence[Release] | None = None,
) -> Binaries:
    """
    Return the paths of programs that ``modules`` name; download or build what is missing. ``modules`` and
    ``releases`` are the ones for this machine unless somebody says others.

    Raises BuildError when a build fails or a download has a wrong checksum, NoGoError when there is nothing
    to build with.
    """
    cache = cache_folder()
    wanted = {name: module_of(name, modules) for name in names}
    known = _allowed(releases_here() if releases is None else releases)
    if _missing(wanted, known):
        async with _build_lock(cache / "bin", report):
            # The previous holder of the lock may have made some.
            still = _missing(wanted, known)
            try:
                await fetch([each for each in known if each.programs.keys() & still], cache, report)
            except ChecksumError as wrong:
                raise BuildError(str(wrong)) from wrong
            await _build_all({name: wanted[name] for name in _missing(wanted, known)}, cache, report)
    return Binaries({name: _kept(module, name, known) for name, module in wanted.items()})


def _allowed(releases: Sequence[Release]) -> Sequence[Release]:
    if os.environ.get("COUNTERFOIL_BUILD") == "1":
        return ()
    other = _other_version()
    return [each for each in releases if other is None or not each.programs.keys() & other.programs.keys()]


def _other_version() -> Module | None:
    name = os.environ.get("COUNTERFOIL_VERSION")
    return OTHER_VERSIONS[name] if name else None


def _missing(wanted: Mapping[str, Module], releases: Sequence[Release]) -> list[str]:
    return [name for name, module in wanted.items() if not _kept(module, name, releases).exists()]


def _kept(module: Module, name: str, releases: Sequence[Release]) -> Path:
    """Return where a program is: as it was built, unless only the download is there."""
    built = _binary_path(module, name)
    release = release_of(name, releases)
    downloaded = release.folder(cache_folder()) / name if release is not None else built
    return downloaded if downloaded.exists() and not built.exists() else built


async def _build_all(wanted: Mapping[str, Module], cache: Path, report: Report) -> None:
    """Build the programs of one module together, as they share packages, and two modules at the same time, as
    one linker uses one core."""
    together = defaultdict[str, list[str]](list)
    for name, module in wanted.items():
        together[module.key()].append(name)
    turns = asyncio.Semaphore(MODULES_AT_ONCE)

    async def build(names: Sequence[str]) -> None:
        async with turns:
            module = wanted[names[0]]
            await _build(module, names, _binary_path(module, names[0]).parent, cache, report)

    try:
        async with asyncio.TaskGroup() as builds:
            for names in together.values():
                builds.create_task(build(names))
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None


def missing(*names: str) -> list[str]:
    """Return those of the programs that ``ensure`` would have to download or build."""
    return _missing({name: module_of(name) for name in names}, _allowed(releases_here()))


def _binary_path(module: Module, name: str) -> Path:
    return cache_folder() / "bin" / module.key() / name


def module_of(name: str, modules: Sequence[Module] | None = None) -> Module:
    """Return the module that a program comes from. ``COUNTERFOIL_VERSION`` names one of ``OTHER_VERSIONS``
    that comes before the usual ones."""
    if modules is None:
        other = _other_version()
        modules = MODULES if other is None else (other, *MODULES)
    for module in modules:
        if name in module.programs:
            return module
    known = ", ".join(name for module in modules for name in module.programs)
    raise ValueError(f"no program named {name!r} is built here; there are: {known}")


@contextlib.asynccontextmanager
async def _build_lock(folder: Path, report: Report) -> AsyncIterator[None]:
    """Hold the one lock of all builds. The kernel releases it when the process ends."""
    with _lock_file(folder).open("w") as lock:
        async with _progress_reports(
            report, lambda elapsed: f"another process is building; waited {elapsed}"
        ):
            while not _locked(lock.fileno()):  # noqa: ASYNC110 - a lock of another process sends no event
                await asyncio.sleep(LOCK_INTERVAL)
        yield


def _lock_file(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder / ".lock"


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _build(module: Module, names: Sequence[str], folder: Path, cache: Path, report: Report) -> None:
    go = await find_go(needed_by(module.go_mod), cache, report)
    title = _title(module, names)
    report(f"{title}: building with Go {'.'.join(map(str, go.version))}; kept in {folder}")

    begun = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    for left_behind in folder.glob(f"{UNFINISHED}*"):
        # Its builder was killed: we hold the lock.
        shutil.rmtree(left_behind)
    unfinished = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=folder))
    try:
        await _go_build(module, names, go, unfinished, report)
        for name in names:
            (unfinished / output_name(module.programs[name])).rename(folder / name)
    finally:
        shutil.rmtree(unfinished)
    report(f"{title}: built in {duration(time.monotonic() - begun)}")


def _title(module: Module, names: Sequence[str]) -> str:
    return f"{', '.join(names)} (module {module.folder.name} {module.version})"


def output_name(package: str) -> str:
    """Return the name that Go gives the program of a main package: the last part that is no version."""
    parent, _, last = package.rpartition("/")
    return parent.rpartition("/")[2] if re.fullmatch(r"v[0-9]+", last) else last


async def _go_build(module: Module, names: Sequence[str], go: Go, folder: Path, report: Report) -> None:
    inherited = {key: value for key, value in os.environ.items() if key not in NOT_INHERITED}
    environment = {**inherited, **BUILD_ENVIRONMENT, **COMPILER_ENVIRONMENT, **go.environment}
    compiled = 0

    def count(line: str) -> None:
        nonlocal compiled
        # With -v, Go names each package that it compiles; its messages have blanks in them.
        compiled += " " not in line

    command = [go.command, "build", *go.flags, *COMPILER_FLAGS, "-v", "-p", CORES]
    # With a slash at its end, it is the folder for all programs.
    command += ["-ldflags", module.linker_flags, "-o", f"{folder}/"]
    for attempt in range(1, TRIES + 1):
        async with _progress_reports(
            report, lambda elapsed: f"{', '.join(names)}: {elapsed}, {compiled} packages compiled"
        ):
            built = await run(
                [*command, *(module.programs[name] for name in names)],
                environment=environment,
                cwd=module.folder,
                on_stderr_line=count,
            )
        if built.code == 0:
            return
        if attempt == TRIES or not TRANSIENT_FAILURE.search(built.err):
            break
        report(f"{', '.join(names)}: a download failed, trying again: {_tail(built.err, lines=1)}")
        await asyncio.sleep(PAUSE)
    raise BuildError(
        f"{_title(module, names)}: `go build` ended with {built.code}:\n{_tail(built.err, lines=20)}"
    )


@contextlib.asynccontextmanager
async def _progress_reports(report: Report, line: Callable[[str], str]) -> AsyncIterator[None]:
    """Print progress every few seconds; to a log file less often than to a terminal."""
    begun = time.monotonic()
    interval = 5.0 if sys.stderr.isatty() else 20.0

    async def repeat() -> None:
        while True:
            await asyncio.sleep(interval)
            report(line(duration(time.monotonic() - begun)))

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def duration(seconds: float) -> str:
    """Return seconds as a person says them."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _tail(text: str, *, lines: int) -> str:
    return "\n".join(text.strip().splitlines()[-lines:])

"""
Programs as their publishers release them: downloaded, compared with a pinned checksum, then kept.

``fetch`` gives each program that a reachable publisher has. A file flows from the publisher into a temporary
file and through the checksum. Only a file with the pinned checksum is unpacked. So a file with the final
name of a program is whole, and is what the repository pins. A publisher that does not answer, that does not
have the file, or whose connection ends early gives nothing: the caller builds from source instead. A file
with another checksum is an error, never a reason to build.

This module decides neither what is wanted nor where it is kept; ``binaries`` does.
"""

import asyncio
import hashlib
import platform
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

REACHED_WITHIN = 3.0  # seconds until a publisher has answered, its redirects included
SILENT_FOR = 20.0  # seconds without a byte that end a download
PROGRESS_INTERVAL = 5.0  # seconds between reports of a download
CHUNK_BYTES = 1 << 20
MAX_BYTES = 1 << 30  # of one file; the largest of ``RELEASES`` has a third of it
UNFINISHED = ".unfinished-"


class ChecksumError(Exception):
    """A publisher's file is not the one that the repository pins."""


@dataclass(frozen=True)
class Release:
    """One file of a publisher: a program, or a tar archive with programs."""

    url: str
    algorithm: str
    """Name of the checksum in hashlib: the one that the publisher lists."""
    checksum: str
    programs: Mapping[str, str]
    """Name of the program: its path in the archive; empty if the file is the program."""

    def folder(self, cache: Path) -> Path:
        """Return where its programs are kept."""
        return cache / "bin" / self.checksum[:16]


KUBERNETES = "https://dl.k8s.io/v1.35.4"
ETCD = "https://github.com/etcd-io/etcd/releases/download/v3.6.5"
VERSITYGW = "https://github.com/versity/versitygw/releases/download/v1.8.0"
KUBECONFORM = "https://github.com/yannh/kubeconform/releases/download/v0.7.0"
ACTIONLINT = "https://github.com/rhysd/actionlint/releases/download/v1.7.12"
# The changelog of Kubernetes lists SHA-512 of its archives, and nothing for the servers alone.
SERVERS = {
    name: f"kubernetes/server/bin/{name}"
    for name in ("kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubelet")
}
RELEASES: Mapping[str, Sequence[Release]] = {
    "x86_64": (
        Release(
            f"{KUBERNETES}/kubernetes-server-linux-amd64.tar.gz",
            "sha512",
            "7454c2d9023de3230972e965e1e2a587a291e2a1abee703bb0737057e1646b23"
            "ebac538b93dd778e93579e3c293dc1fa8d002e6848ad5ebc01598bc47358fe44",
            SERVERS,
        ),
        Release(
            f"{KUBERNETES}/bin/linux/amd64/kubectl",
            "sha256",
            "b529430df69a688fd61b64ad2299edb5fd71cb58be2a4779dba624c7d3510efd",
            {"kubectl": ""},
        ),
        Release(
            f"{ETCD}/etcd-v3.6.5-linux-amd64.tar.gz",
            "sha256",
            "66bad39ed920f6fc15fd74adcb8bfd38ba9a6412f8c7852d09eb11670e88cac3",
            {"etcd": "etcd-v3.6.5-linux-amd64/etcd"},
        ),
        Release(
            f"{VERSITYGW}/versitygw_v1.8.0_Linux_x86_64.tar.gz",
            "sha256",
            "2ba2c734d10d2c4e651d03182cb4b246656bc735a2f282db7b0b73fba6073467",
            {"versitygw": "versitygw_v1.8.0_Linux_x86_64/versitygw"},
        ),
        Release(
            f"{KUBECONFORM}/kubeconform-linux-amd64.tar.gz",
            "sha256",
            "c31518ddd122663b3f3aa874cfe8178cb0988de944f29c74a0b9260920d115d3",
            {"kubeconform": "kubeconform"},
        ),
        Release(
            f"{ACTIONLINT}/actionlint_1.7.12_linux_amd64.tar.gz",
            "sha256",
            "8aca8db96f1b94770f1b0d72b6dddcb1ebb8123cb3712530b08cc387b349a3d8",
            {"actionlint": "actionlint"},
        ),
    ),
    "aarch64": (
        Release(
            f"{KUBERNETES}/kubernetes-server-linux-arm64.tar.gz",
            "sha512",
            "67187a2fe780be7816f9d10e082ed02cbba306bab379980280d00ba4c4017ff5"
            "3c50cd2ff81d248c91ddcc064276b8760e17c73a1a7da1d35067a6fc0ffbdc88",
            SERVERS,
        ),
        Release(
            f"{KUBERNETES}/bin/linux/arm64/kubectl",
            "sha256",
            "6a5a4cc4e396d7626a7a693a3044b51c75520f81db30fe6816c2554e53be336f",
            {"kubectl": ""},
        ),
        Release(
            f"{ETCD}/etcd-v3.6.5-linux-arm64.tar.gz",
            "sha256",
            "7010161787077b07de29b15b76825ceacbbcedcb77fe2e6832f509be102cab6b",
            {"etcd": "etcd-v3.6.5-linux-arm64/etcd"},
        ),
        Release(
            f"{VERSITYGW}/versitygw_v1.8.0_Linux_arm64.tar.gz",
            "sha256",
            "b34051d33f5a9c457f790896acb7bd7d7e15ad8d92efb70616b924f37e401910",
            {"versitygw": "versitygw_v1.8.0_Linux_arm64/versitygw"},
        ),
        Release(
            f"{KUBECONFORM}/kubeconform-linux-arm64.tar.gz",
            "sha256",
            "cc907ccf9e3c34523f0f32b69745265e0a6908ca85b92f41931d4537860eb83c",
            {"kubeconform": "kubeconform"},
        ),
        Release(
            f"{ACTIONLINT}/actionlint_1.7.12_linux_arm64.tar.gz",
            "sha256",
            "325e971b6ba9bfa504672e29be93c24981eeb1c07576d730e9f7c8805afff0c6",
            {"actionlint": "actionlint"},
        ),
    ),
}
"""By the name that the kernel has for the machine. A program that is missing here is built: its publisher
lists no checksum, or none that could be verified when this table was written."""


def releases_here() -> Sequence[Release]:
    """Return the releases for this machine."""
    return RELEASES.get(platform.machine(), ())


def release_of(name: str, releases: Iterable[Release]) -> Release | None:
    """Return the release that has a program; None if it has to be built."""
    return next((release for release in releases if name in release.programs), None)


async def fetch(
    releases: Sequence[Release],
    cache: Path,
    report: Callable[[str], None],
    *,
    reached_within: float = REACHED_WITHIN,
    max_bytes: int = MAX_BYTES,
) -> None:
    """
    Download the releases, all at the same time, and keep their programs. Without an answer from its
    publisher, a release is left out, and ``report`` says why. So is one of more than ``max_bytes``.

    Raises ChecksumError.
    """
    # As the user's proxy and authorities say; nobody may compress what the checksum is of.
    async with httpx.AsyncClient(
        follow_redirects=True,
        timeout=httpx.Timeout(SILENT_FOR, connect=reached_within),
        headers={"Accept-Encoding": "identity"},
    ) as http:
        downloader = _Downloader(http, cache, report, reached_within, max_bytes)
        try:
            async with asyncio.TaskGroup() as downloads:
                for release in releases:
                    downloads.create_task(downloader.keep(release))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None


@dataclass(frozen=True)
class _Downloader:
    http: httpx.AsyncClient
    cache: Path
    report: Callable[[str], None]
    reached_within: float
    max_bytes: int

    async def keep(self, release: Release) -> None:
        """Keep the programs of a release that can be had. Raises ChecksumError."""
        title = ", ".join(release.programs)
        folder = release.folder(self.cache)
        folder.mkdir(parents=True, exist_ok=True)
        for left_behind in folder.glob(f"{UNFINISHED}*"):
            # Its process was killed: the caller holds the lock.
            shutil.rmtree(left_behind)
        unfinished = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=folder))
        try:
            await self._download(release, unfinished / "file", title)
            await asyncio.to_thread(_unpack, release, unfinished / "file", unfinished)
            for name in release.programs:
                (unfinished / name).rename(folder / name)
            self.report(f"{title}: downloaded, {release.algorithm.upper()} as pinned; kept in {folder}")
        except (httpx.HTTPError, TimeoutError) as problem:
            self.report(
                f"{title}: {release.url} can't be had ({self._cause(problem)}); building from source instead"
            )
        finally:
            shutil.rmtree(unfinished)

    async def _download(self, release: Release, target: Path, title: str) -> None:
        """Raises ChecksumError, httpx.HTTPError, TimeoutError."""
        checksum = hashlib.new(release.algorithm)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self.reached_within):
            answer = await self.http.send(self.http.build_request("GET", release.url), stream=True)
        try:
            answer.raise_for_status()
            if release.url.startswith("https:") and answer.url.scheme != "https":
                raise httpx.UnsupportedProtocol("it redirects to an address without TLS")
            size = answer.headers.get("Content-Length")
            of_all = f" of {int(size) / 1e6:.0f}" if size else ""
            self.report(f"{title}: downloading {release.url}")
            received, next_report = 0, loop.time() + PROGRESS_INTERVAL
            with target.open("wb") as file:
                async for chunk in answer.aiter_raw(CHUNK_BYTES):
                    received += len(chunk)
                    if received > self.max_bytes:
                        raise httpx.RemoteProtocolError(f"it has more than {self.max_bytes} bytes")
                    checksum.update(chunk)
                    file.write(chunk)
                    if loop.time() >= next_report:
                        self.report(f"{title}: {received / 1e6:.0f}{of_all} MB")
                        next_report = loop.time() + PROGRESS_INTERVAL
        finally:
            await answer.aclose()
        if checksum.hexdigest() != release.checksum:
            raise ChecksumError(
                f"{release.url} is not the file that the repository pins; nothing of it was kept.\n"
                f"  {release.algorithm.upper()} expected: {release.checksum}\n"
                f"  {release.algorithm.upper()} received: {checksum.hexdigest()} ({received} bytes)\n"
                "Somebody changed it, or a proxy answered in the publisher's place. Examine this first; "
                "COUNTERFOIL_BUILD=1 builds all programs from source instead."
            )

    def _cause(self, problem: Exception) -> str:
        if isinstance(problem, httpx.HTTPStatusError):
            return f"HTTP {problem.response.status_code}"
        if isinstance(problem, TimeoutError | httpx.ConnectTimeout):
            return f"no answer within {self.reached_within:g} s"
        return str(problem) or type(problem).__name__


def _unpack(release: Release, file: Path, folder: Path) -> None:
    """Write the programs of a file with the right checksum into a folder."""
    paths = {path: name for name, path in release.programs.items()}
    if "" in paths:
        file.rename(folder / paths[""])
    else:
        # In the order of the archive: to go back means to decompress all again.
        with tarfile.open(file, "r|gz") as archive:
            for member in archive:
                name = paths.get(member.name.removeprefix("./"))
                content = archive.extractfile(member) if name is not None else None
                if name is not None and content is not None:
                    with content, (folder / name).open("wb") as program:
                        shutil.copyfileobj(content, program, CHUNK_BYTES)
        file.unlink()
    for name in release.programs:
        (folder / name).chmod(0o755)

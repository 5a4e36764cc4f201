"""Programs come from their publishers only with the pinned checksum; without a publisher they are built."""

import asyncio
import hashlib
import io
import os
import re
import socket
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sandbox.controlplane import downloads
from sandbox.controlplane.binaries import MODULES, BuildError, ensure, module_of
from sandbox.controlplane.downloads import RELEASES, Release
from tests.support.servers.scripted_esaw import server_tls

A_GO = """#!/bin/sh
if [ "$1" = env ]; then echo go1.99.0; exit; fi
while [ "$1" != -o ]; do shift; done
folder=$2
shift 2
for package in "$@"; do name=${package%/v3}; echo built > "$folder${name##*/}"; done
"""
ETCD = b"#!/bin/sh\necho etcd of the publisher\n"


def archive(**programs: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in {"README.md": b"hello", **programs}.items():
            member = tarfile.TarInfo(f"release/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


class Publisher:
    """A web server on loopback with some files; it counts what it was asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut: set[str] = set()
        self.lengths: dict[str, str] = {}
        """By path: the length that is declared, instead of the right one."""
        self.asked: list[str] = []
        publisher = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                publisher.asked.append(self.path)
                if self.path.startswith("/moved"):
                    self.send_response(302)
                    self.send_header("Location", self.path.removeprefix("/moved"))
                    self.end_headers()
                    return
                content = publisher.files.get(self.path)
                self.send_response(404 if content is None else 200)
                length = publisher.lengths.get(self.path, str(len(content or b"")))
                if length:
                    self.send_header("Content-Length", length)
                self.end_headers()
                cut = self.path in publisher.cut
                self.wfile.write((content or b"")[: -10 if cut else None])

            def log_message(self, *_: object) -> None:
                """Write no log."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def releases(self, path: str, content: bytes, **programs: str) -> Release:
        """Publish a file and return how the repository pins it."""
        self.files[path] = content
        return Release(f"{self.url}{path}", "sha512", hashlib.sha512(content).hexdigest(), programs)


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    started = Publisher()
    yield started
    started.stop()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with an empty cache, its own Go, and no proxy."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "go").write_text(A_GO)
    (programs / "go").chmod(0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.delenv("COUNTERFOIL_BUILD", raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache"


def kept(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*") if path.is_file() and path.name != ".lock"]


def left_behind(cache: Path) -> list[Path]:
    return list(cache.rglob(".unfinished-*"))


async def test_a_file_with_the_pinned_checksum_is_used_and_nothing_is_built(
    publisher: Publisher, cache: Path
) -> None:
    release = publisher.releases("/etcd.tar.gz", archive(etcd=ETCD), etcd="release/etcd")
    said: list[str] = []
    etcd = (await ensure("etcd", report=said.append, releases=[release]))["etcd"]

    assert etcd.read_bytes() == ETCD
    assert os.access(etcd, os.X_OK)
    assert "etcd: downloaded, SHA512 as pinned" in said[-1]
    assert left_behind(cache) == []


async def test_what_was_downloaded_is_not_downloaded_again(publisher: Publisher, cache: Path) -> None:
    release = publisher.releases("/etcd.tar.gz", archive(etcd=ETCD), etcd="release/etcd")
    first = await ensure("etcd", report=print, releases=[release])
    second = await ensure("etcd", report=print, releases=[release])

    assert dict(first) == dict(second)
    assert publisher.asked == ["/etcd.tar.gz"]


async def test_all_programs_of_one_file_are_kept_from_one_download(publisher: Publisher, cache: Path) -> None:
    packed = archive(etcd=ETCD, kubectl=b"kubectl")
    release = publisher.releases("/all.tar.gz", packed, etcd="release/etcd", kubectl="release/kubectl")
    await ensure("etcd", report=print, releases=[release])
    kubectl = (await ensure("kubectl", report=print, releases=[release]))["kubectl"]

    assert kubectl.read_bytes() == b"kubectl"
    assert publisher.asked == ["/all.tar.gz"]


async def test_a_file_that_is_the_program_itself_is_kept_as_it_is(publisher: Publisher, cache: Path) -> None:
    release = publisher.releases("/kubectl", b"kubectl", kubectl="")
    kubectl = (await ensure("kubectl", report=print, releases=[release]))["kubectl"]

    assert kubectl.read_bytes() == b"kubectl"
    assert os.access(kubectl, os.X_OK)


async def test_a_redirect_to_the_file_is_followed(publisher: Publisher, cache: Path) -> None:
    publisher.releases("/kubectl", b"kubectl", kubectl="")
    checksum = hashlib.sha256(b"kubectl").hexdigest()
    release = Release(f"{publisher.url}/moved/kubectl", "sha256", checksum, {"kubectl": ""})

    assert (await ensure("kubectl", report=print, releases=[release]))["kubectl"].read_bytes() == b"kubectl"


async def test_a_file_with_another_checksum_is_an_error_and_no_reason_to_build(
    publisher: Publisher, cache: Path
) -> None:
    release = publisher.releases("/etcd.tar.gz", archive(etcd=ETCD), etcd="release/etcd")
    publisher.files["/etcd.tar.gz"] = archive(etcd=b"another program")

    with pytest.raises(BuildError, match=r"(?s)not the file that the repository pins.*COUNTERFOIL_BUILD=1"):
        await ensure("etcd", report=print, releases=[release])
    assert kept(cache) == []
    assert left_behind(cache) == []


async def test_one_wrong_file_is_an_error_although_another_one_can_not_be_had(
    publisher: Publisher, cache: Path
) -> None:
    wrong = publisher.releases("/etcd.tar.gz", archive(etcd=ETCD), etcd="release/etcd")
    absent = publisher.releases("/kubectl", b"kubectl", kubectl="")
    publisher.files = {"/etcd.tar.gz": b"a login page"}

    with pytest.raises(BuildError, match="not the file that the repository pins"):
        await ensure("etcd", "kubectl", report=print, releases=[absent, wrong])
    assert kept(cache) == []


async def test_a_download_that_is_cut_is_built_instead(publisher: Publisher, cache: Path) -> None:
    release = publisher.releases("/etcd.tar.gz", archive(etcd=ETCD), etcd="release/etcd")
    publisher.cut.add("/etcd.tar.gz")
    said: list[str] = []
    etcd = (await ensure("etcd", report=said.append, releases=[release]))["etcd"]

    assert etcd.read_text() == "built\n"
    assert any("can't be had" in line and "building from source instead" in line for line in said)
    assert left_behind(cache) == []


@pytest.mark.parametrize("length", ["many", "9" * 5000, "1, 2"], ids=["word", "digits", "list"])
async def test_a_download_of_no_valid_length_is_built_instead(
    length: str, publisher: Publisher, cache: Path
) -> None:
    release = publisher.releases("/etcd", ETCD, etcd="")
    publisher.lengths["/etcd"] = length
    found = await ensure("etcd", report=print, releases=[release])
    assert found["etcd"].read_text() == "built\n"


async def test_a_download_without_an_end_is_given_up(publisher: Publisher, tmp_path: Path) -> None:
    release = publisher.releases("/etcd", bytes(100_000), etcd="")
    publisher.lengths["/etcd"] = ""
    said: list[str] = []
    await downloads.fetch([release], tmp_path, said.append, max_bytes=50_000)
    assert kept(tmp_path) == []
    assert "it has more than 50000 bytes" in said[-1]


async def test_a_redirect_to_an_address_without_tls_is_refused(
    publisher: Publisher, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = publisher.releases("/etcd", ETCD, etcd="")
    tls, _ = server_tls(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "server.pem"))

    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: {release.url}\r\n\r\n".encode())
        await reader.read()
        writer.close()

    async with await asyncio.start_server(redirect, "127.0.0.1", 0, ssl=tls) as server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/etcd"
        said: list[str] = []
        await downloads.fetch([replace(release, url=url)], cache, said.append)
    assert kept(cache) == []
    assert "it redirects to an address without TLS" in said[-1]


async def test_a_file_that_the_publisher_does_not_have_is_built_instead(
    publisher: Publisher, cache: Path
) -> None:
    release = publisher.releases("/etcd.tar.gz", archive(etcd=ETCD), etcd="release/etcd")
    publisher.files.clear()
    said: list[str] = []
    etcd = (await ensure("etcd", report=said.append, releases=[release]))["etcd"]

    assert etcd.read_text() == "built\n"
    assert said[0].endswith("/etcd.tar.gz can't be had (HTTP 404); building from source instead")


async def test_a_publisher_that_refuses_connections_is_not_waited_for(cache: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/kubectl"
    release = Release(url, "sha256", "0" * 64, {"kubectl": ""})

    assert (await ensure("kubectl", report=print, releases=[release]))["kubectl"].read_text() == "built\n"


async def test_a_publisher_that_says_nothing_is_waited_for_only_that_long(cache: Path) -> None:
    said: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/kubectl"
        release = Release(url, "sha256", "0" * 64, {"kubectl": ""})
        await downloads.fetch([release], cache, said.append, reached_within=0.05)

    assert said == [f"kubectl: {url} can't be had (no answer within 0.05 s); building from source instead"]
    assert left_behind(cache) == []


async def test_with_counterfoil_build_nothing_is_downloaded(
    publisher: Publisher, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = publisher.releases("/etcd.tar.gz", archive(etcd=ETCD), etcd="release/etcd")
    await ensure("etcd", report=print, releases=[release])
    monkeypatch.setenv("COUNTERFOIL_BUILD", "1")
    etcd = (await ensure("etcd", report=print, releases=[release]))["etcd"]

    assert etcd.read_text() == "built\n"
    assert publisher.asked == ["/etcd.tar.gz"]


async def test_what_a_killed_download_left_is_removed_by_the_next_one(
    publisher: Publisher, cache: Path
) -> None:
    release = publisher.releases("/etcd.tar.gz", archive(etcd=ETCD), etcd="release/etcd")
    (release.folder(cache / "counterfoil") / ".unfinished-dead").mkdir(parents=True)
    await ensure("etcd", report=print, releases=[release])
    assert left_behind(cache) == []


PINNED = [(machine, release) for machine, releases in RELEASES.items() for release in releases]


@pytest.mark.parametrize(
    ("machine", "release"), PINNED, ids=[f"{machine}:{','.join(each.programs)}" for machine, each in PINNED]
)
def test_a_pinned_file_has_the_version_that_is_built_and_a_checksum_of_its_kind(
    machine: str, release: Release
) -> None:
    architecture = {"x86_64": "amd64|x86_64", "aarch64": "arm64"}[machine]
    versions = {"etcd": "3.6.5"}
    assert re.fullmatch(f"[0-9a-f]{{{hashlib.new(release.algorithm).digest_size * 2}}}", release.checksum)
    assert re.search(architecture, release.url)
    for name in release.programs:
        version = versions.get(name, module_of(name).version)
        assert f"v{version}/" in release.url
    assert f"v{versions['etcd']}" in module_of("etcd").go_mod.split()


def test_each_pinned_program_is_one_that_can_be_built_too() -> None:
    built = {name for module in MODULES for name in module.programs}
    for releases in RELEASES.values():
        names = [name for release in releases for name in release.programs]
        assert set(names) <= built
        assert len(names) == len(set(names))

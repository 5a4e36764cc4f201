"""
Archives on a real S3 server: whole objects or none, killed and repeated, and clear about what is wrong.
"""

import asyncio
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from counterfoil.archives import open_backend
from counterfoil.archives.backend import ArchiveBackend, FileNotStored
from counterfoil.archives.errors import ArchiveRefused, ArchiveUnavailable, NameTaken
from counterfoil.archives.filing import claim_names, store
from counterfoil.archives.verify import verify_folder
from counterfoil.resources.archive import S3, ArchiveSpec, CredentialsReference
from sandbox.servers.s3_rclone import S3Server, s3_server
from tests.support.fakes.archives import SourceCut, a_layout, a_source, content, once
from tests.support.scenes.archive_runs import file_envelope, the_content, the_layout

MIB = 1024 * 1024
STEPS = 20


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[S3Server]:
    async with s3_server(buckets=("contracts",)) as running:
        yield running


@pytest.fixture
def spec(server: S3Server) -> ArchiveSpec:
    """A separate archive for each test: a prefix."""
    return a_spec(server, prefix=secrets.token_hex(4))


@pytest.fixture
async def backend(server: S3Server, spec: ArchiveSpec) -> ArchiveBackend:
    return await open_backend("dms", spec, keys_of(server))


@pytest.fixture
def root(server: S3Server, spec: ArchiveSpec) -> Path:
    """Folder of the server that has the archive's files."""
    assert spec.s3 is not None
    return server.folder / spec.s3.bucket / spec.s3.prefix


def a_spec(server: S3Server, *, bucket: str = "contracts", prefix: str = "") -> ArchiveSpec:
    return ArchiveSpec(
        s3=S3(
            bucket=bucket,
            prefix=prefix,
            region="eu-central-1",
            endpoint=server.url,
            force_path_style=True,
            credentials_secret_ref=CredentialsReference(name="bucket-credentials"),
        )
    )


def keys_of(server: S3Server) -> dict[str, bytes]:
    return {
        "accessKeyId": server.access_key.encode(),
        # As it comes from a file that was made with an editor.
        "secretAccessKey": f"{server.secret_key}\n".encode(),
    }


async def put(backend: ArchiveBackend, name: str, data: bytes = b"content") -> None:
    await backend.put(name, once(data), tags={"contract": "47/11 ü&="}, content_type="application/pdf")


async def read(backend: ArchiveBackend, name: str) -> bytes:
    return b"".join([block async for block in backend.read(name)])


def everything_below(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize("size", [0, 1, 5 * MIB - 1, 5 * MIB, 5 * MIB + 1, 13 * MIB])
async def test_an_object_of_any_size_comes_back_as_it_was(
    backend: ArchiveBackend, root: Path, size: int
) -> None:
    await put(backend, "a/b.pdf", content(size))

    assert await read(backend, "a/b.pdf") == content(size)
    assert everything_below(root) == {"a/b.pdf"}


async def test_an_object_that_is_there_is_replaced(backend: ArchiveBackend) -> None:
    await put(backend, "a.pdf", b"old")
    await put(backend, "a.pdf", content(6 * MIB))

    assert await read(backend, "a.pdf") == content(6 * MIB)


async def test_entries_are_all_objects_below_a_folder(backend: ArchiveBackend) -> None:
    await put(backend, "a/x/2.pdf", b"22")
    await put(backend, "a/1.pdf", b"1")
    await put(backend, "ab/3.pdf")

    assert [(entry.name, entry.size) for entry in await backend.entries("a")] == [
        ("a/1.pdf", 1),
        ("a/x/2.pdf", 2),
    ]
    assert await backend.entries("absent") == []


async def test_what_is_not_there_is_absent(backend: ArchiveBackend) -> None:
    with pytest.raises(FileNotStored):
        await read(backend, "nothing.pdf")
    await backend.discard("nothing.pdf")


async def test_a_probe_leaves_nothing(backend: ArchiveBackend, root: Path) -> None:
    await backend.probe()

    assert everything_below(root) == set()


async def test_a_location_is_a_uri(backend: ArchiveBackend, spec: ArchiveSpec) -> None:
    assert spec.s3 is not None
    assert backend.location("a/ü %?#.pdf") == f"s3://contracts/{spec.s3.prefix}/a/%C3%BC%20%25%3F%23.pdf"


@pytest.mark.parametrize("cut_at", [0, 1000, 12 * MIB])
async def test_a_source_that_fails_leaves_no_object(backend: ArchiveBackend, root: Path, cut_at: int) -> None:
    file = a_layout().files[0]

    with pytest.raises(SourceCut):
        await store(backend, file, a_source(content(16 * MIB), cut_at=cut_at), tags={})

    assert everything_below(root) == set()


async def test_a_foreign_object_under_our_name_is_not_changed(backend: ArchiveBackend) -> None:
    layout = a_layout()
    await put(backend, layout.files[0].name, b"theirs")

    with pytest.raises(NameTaken, match="is there already"):
        await claim_names(backend, layout, key=None)

    assert await read(backend, layout.files[0].name) == b"theirs"


async def test_a_filed_envelope_proves_itself_by_sha256sum(
    backend: ArchiveBackend, spec: ArchiveSpec, root: Path
) -> None:
    await file_envelope(backend, spec)
    folder = root / the_layout(spec).folder

    process = await asyncio.create_subprocess_exec(
        "sha256sum", "--strict", "-c", "counterfoil.sha256", cwd=folder
    )

    assert await process.wait() == 0


@pytest.mark.parametrize("step", range(STEPS))
async def test_a_run_that_was_killed_is_completed_by_the_next(
    server: S3Server, backend: ArchiveBackend, spec: ArchiveSpec, root: Path, step: int
) -> None:
    layout = the_layout(spec)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.scenes.archive_runs", "die", str(step)),
        *(msgspec.json.encode(spec).decode(), server.access_key, server.secret_key),
    )
    assert await process.wait() == -signal.SIGKILL
    whole = {file.name: the_content(file.facts.number) for file in layout.files}
    found = everything_below(root)
    for name in found & set(whole):
        assert await read(backend, name) == whole[name]
    assert layout.manifest_name not in found or set(whole) < found

    await file_envelope(backend, spec)

    assert await verify_folder(backend, layout.folder) == []
    assert everything_below(root) == {*whole, layout.hashes_name, layout.manifest_name}


async def test_a_file_of_256_mib_takes_at_most_24_mib(server: S3Server, spec: ArchiveSpec) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.scenes.archive_runs", "weigh", str(256 * MIB)),
        *(msgspec.json.encode(spec).decode(), server.access_key, server.secret_key),
        stdout=asyncio.subprocess.PIPE,
        # Separate memory for each thread adds some MiB that no transfer has, more on a busy machine.
        env={**os.environ, "MALLOC_ARENA_MAX": "1"},
    )
    grown, _ = await process.communicate()

    assert int(grown) <= 24 * MIB


async def test_a_missing_bucket_is_reported(server: S3Server) -> None:
    backend = await open_backend("dms", a_spec(server, bucket="nowhere"), keys_of(server))
    words = (
        "Archive/dms: the bucket `nowhere` does not exist or the key may not see it (S3 answered 404 "
        "NoSuchBucket). Create it or correct spec.s3.bucket."
    )

    for attempt in (
        backend.probe(),
        backend.entries("a"),
        read(backend, "a.pdf"),
        put(backend, "a.pdf", content(6 * MIB)),
    ):
        with pytest.raises(ArchiveRefused) as trouble:
            await attempt
        assert trouble.value.message == words
        assert trouble.value.reason == "ArchiveBucketMissing"


@pytest.mark.parametrize(
    ("wrong", "code"), [("accessKeyId", "InvalidAccessKeyId"), ("secretAccessKey", "SignatureDoesNotMatch")]
)
async def test_a_wrong_key_is_reported_without_the_key(server: S3Server, wrong: str, code: str) -> None:
    backend = await open_backend("dms", a_spec(server), {**keys_of(server), wrong: b"WRONGWRONG"})

    for attempt in (backend.probe(), backend.entries("a"), read(backend, "a.pdf")):
        with pytest.raises(ArchiveRefused) as trouble:
            await attempt
        assert trouble.value.reason == "ArchiveCredentialsRejected"
        assert trouble.value.message == (
            f"Archive/dms: S3 at {server.url} does not accept the key in Secret `bucket-credentials` "
            f"(S3 answered 403 {code}). Give a valid one."
        )


async def test_a_server_that_is_down_is_tried_again_later_and_filing_continues(server: S3Server) -> None:
    async with s3_server() as fragile:
        backend = await open_backend("dms", a_spec(fragile), keys_of(fragile))
        await put(backend, "a.pdf")
        await fragile.stop()

        for attempt in (backend.probe(), backend.entries("a"), read(backend, "a.pdf")):
            with pytest.raises(ArchiveUnavailable) as trouble:
                await attempt
            assert trouble.value.reason == "ArchiveUnreachable"
            assert trouble.value.message == f"Archive/dms: S3 at {fragile.url} could not be reached."

        await fragile.start()
        assert await read(backend, "a.pdf") == b"content"


async def test_a_server_that_dies_in_the_middle_of_an_upload_leaves_no_object() -> None:
    async with s3_server() as fragile:
        backend = await open_backend("dms", a_spec(fragile), keys_of(fragile))

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(8):
                yield content(MIB)
            fragile.kill()
            for _ in range(8):
                yield content(MIB)

        with pytest.raises(ArchiveUnavailable):
            await backend.put("a.pdf", chunks(), tags={}, content_type=None)

        assert everything_below(fragile.folder) == set()

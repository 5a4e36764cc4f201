"""
Features of S3 in addition to objects, at a server that has them: Object Lock, object tags, encryption,
buckets in host names.
"""

import re
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import msgspec
import pytest

from counterfoil.archives import open_backend
from counterfoil.archives.backend import ArchiveBackend
from counterfoil.archives.backends._object_store.object_lock import ObjectLockState
from counterfoil.archives.errors import ArchiveRefused
from counterfoil.archives.filing import store
from counterfoil.archives.verify import verify_folder
from counterfoil.resources.archive import S3, ArchiveSpec, CredentialsReference, ObjectLock
from counterfoil.testing.archive_contract.fixture import a_layout, a_source, content, file_envelope, read
from sandbox.servers.s3_versity import DOMAIN, REGION, VersityServer, versity_server
from tests.support.fakes.archives import once
from tests.support.scenes.archive_fixtures import refusing

MIB = 1024 * 1024
GOVERNANCE = ObjectLock(mode="Governance", retain_days=30)
DENIED = b"<Error><Code>AccessDenied</Code></Error>"


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[VersityServer]:
    async with versity_server() as running:
        yield running


@pytest.fixture
async def bucket(server: VersityServer) -> str:
    """A bucket with Object Lock."""
    name = f"b{secrets.token_hex(6)}"
    await server.make_bucket(name, locking=True)
    return name


@pytest.fixture
def spec(server: VersityServer, bucket: str) -> ArchiveSpec:
    return a_spec(server.url, bucket, object_lock=GOVERNANCE)


@pytest.fixture
async def backend(server: VersityServer, spec: ArchiveSpec) -> AsyncIterator[ArchiveBackend]:
    backend = await open_backend("dms", spec, keys_of(server))
    yield backend
    await backend.close()


# -- Object Lock ---------------------------------------------------------------------------------------------


async def test_all_that_was_filed_is_locked_until_its_day(
    server: VersityServer, bucket: str, spec: ArchiveSpec, backend: ArchiveBackend
) -> None:
    layout = a_layout(spec, ["contract.pdf", "ä big %2F+ one.pdf"])
    await file_envelope(backend, layout, [b"small", content(12 * MIB)])

    due = datetime.now(UTC) + timedelta(days=30)
    for name in (*(file.name for file in layout.files), layout.hashes_name, layout.manifest_name):
        lock = await lock_of(server, bucket, name)
        assert lock is not None
        assert lock.mode == "GOVERNANCE"
        assert timedelta(0) <= due - lock.until < timedelta(hours=1)


async def test_a_locked_file_can_not_be_removed_from_behind(
    server: VersityServer, bucket: str, spec: ArchiveSpec, backend: ArchiveBackend
) -> None:
    file = a_layout(spec, ["contract.pdf"]).files[0]
    await store(backend, file, a_source(b"content"), tags={})
    version = await version_of(server, bucket, file.name)

    refused = await server.ask("DELETE", f"{bucket}/{quote(file.name)}?versionId={version}")

    assert refused.status_code == 403
    assert await read(backend, file.name) == b"content"


async def test_a_file_that_an_earlier_run_did_not_come_to_lock_is_locked_by_the_next(
    server: VersityServer, bucket: str, spec: ArchiveSpec, backend: ArchiveBackend
) -> None:
    file = a_layout(spec, ["contract.pdf"]).files[0]
    await backend.put(file.name, once(b"content"), tags={}, content_type=None)
    assert await lock_of(server, bucket, file.name) is None

    assert not (await store(backend, file, a_source(b"content"), tags={})).written

    assert await lock_of(server, bucket, file.name) is not None


async def test_a_lock_that_is_there_is_left_as_it_is(
    server: VersityServer, bucket: str, spec: ArchiveSpec, backend: ArchiveBackend
) -> None:
    file = a_layout(spec, ["contract.pdf"]).files[0]
    await store(backend, file, a_source(b"content"), tags={})
    before = await lock_of(server, bucket, file.name)

    await store(backend, file, a_source(b"content"), tags={})

    assert await lock_of(server, bucket, file.name) == before


async def test_an_envelope_that_is_filed_again_gets_no_second_versions(
    server: VersityServer, bucket: str, spec: ArchiveSpec, backend: ArchiveBackend
) -> None:
    layout = a_layout(spec, ["contract.pdf"])
    for _ in range(2):
        await file_envelope(backend, layout, [b"content"])

    assert await verify_folder(backend, layout.folder) == []
    for name in (layout.files[0].name, layout.hashes_name, layout.manifest_name):
        assert len(await versions_of(server, bucket, name)) == 1


async def test_a_longer_lock_is_set_on_what_is_filed_already(server: VersityServer, bucket: str) -> None:
    name = ""
    for days in (30, 60):
        lock = ObjectLock(mode="Compliance", retain_days=days)
        spec = a_spec(server.url, bucket, object_lock=lock)
        backend = await open_backend("dms", spec, keys_of(server))
        file = a_layout(spec, ["contract.pdf"]).files[0]
        await store(backend, file, a_source(b"content"), tags={})
        await backend.close()
        name = file.name

    found = await lock_of(server, bucket, name)
    assert found is not None
    assert found.until > datetime.now(UTC) + timedelta(days=59)


async def test_a_stricter_lock_counts_as_good(server: VersityServer, bucket: str) -> None:
    strict = a_spec(server.url, bucket, object_lock=ObjectLock(mode="Compliance", retain_days=60))
    file = a_layout(strict, ["contract.pdf"]).files[0]
    for each in (strict, a_spec(server.url, bucket, object_lock=GOVERNANCE)):
        backend = await open_backend("dms", each, keys_of(server))
        await store(backend, file, a_source(b"content"), tags={})
        await backend.close()

    lock = await lock_of(server, bucket, file.name)
    assert lock is not None
    assert lock.mode == "COMPLIANCE"


async def test_a_probe_determines_that_the_bucket_has_no_object_lock(server: VersityServer) -> None:
    name = f"b{secrets.token_hex(6)}"
    await server.make_bucket(name)
    backend = await open_backend("dms", a_spec(server.url, name, object_lock=GOVERNANCE), keys_of(server))

    with pytest.raises(ArchiveRefused) as trouble:
        await backend.probe()

    assert trouble.value.reason == "ArchiveLacksFeature"
    assert trouble.value.message == (
        f"Archive/dms: the bucket `{name}` has no Object Lock (S3 answered 404 "
        "ObjectLockConfigurationNotFoundError). Use one that was made with it, or remove spec.s3.objectLock."
    )


async def test_a_key_without_the_right_to_lock_is_reported_with_the_missing_right(
    server: VersityServer, bucket: str
) -> None:
    async with refusing(server.url, {"GET"}, 403, DENIED) as url:
        backend = await open_backend("dms", a_spec(url, bucket, object_lock=GOVERNANCE), keys_of(server))
        with pytest.raises(ArchiveRefused) as trouble:
            await backend.probe()
        await backend.close()

    assert trouble.value.reason == "ArchivePermissionDenied"
    assert "s3:PutObjectRetention" in trouble.value.message


# -- Tags, encryption, host names ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 6 * MIB])
async def test_tags_become_object_tags(
    server: VersityServer, bucket: str, backend: ArchiveBackend, size: int
) -> None:
    await backend.put(
        "a/b.pdf",
        once(content(size)),
        tags={"no": "47/11", "customer": "Rossi & Figli"},
        content_type="application/pdf",
    )

    assert await server.tags(bucket, "a/b.pdf") == {
        "no": "47/11",
        "customer": "Rossi _ Figli",
    }


async def test_encryption_may_be_asked_for(server: VersityServer, bucket: str) -> None:
    spec = a_spec(server.url, bucket)
    assert spec.s3 is not None
    spec = ArchiveSpec(s3=msgspec.structs.replace(spec.s3, server_side_encryption="AES256"))
    backend = await open_backend("dms", spec, keys_of(server))

    await backend.put("a/b.pdf", once(content(6 * MIB)), tags={}, content_type=None)

    assert await read(backend, "a/b.pdf") == content(6 * MIB)


async def test_a_bucket_may_be_in_the_host_name(
    server: VersityServer, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No resolver here knows names of buckets, so the server is asked as if it was a proxy.
    monkeypatch.setenv("HTTP_PROXY", server.url)
    monkeypatch.setenv("http_proxy", server.url)
    spec = a_spec(f"http://{DOMAIN}:{server.port}", bucket, object_lock=GOVERNANCE, force_path_style=False)
    backend = await open_backend("dms", spec, keys_of(server))
    file = a_layout(spec, ["contract.pdf"]).files[0]

    await backend.probe()
    await store(backend, file, a_source(content(6 * MIB)), tags={"no": "1"})
    await backend.close()

    assert (await server.ask("GET", f"{bucket}/{quote(file.name)}")).content == content(6 * MIB)
    assert await lock_of(server, bucket, file.name) is not None


async def test_a_key_that_may_not_delete_can_file_and_leaves_one_probe_behind(
    server: VersityServer, bucket: str
) -> None:
    async with refusing(server.url, {"DELETE"}, 403, DENIED) as url:
        spec = a_spec(url, bucket)
        backend = await open_backend("dms", spec, keys_of(server))
        for _ in range(3):
            await backend.probe()
        await file_envelope(backend, a_layout(spec, ["contract.pdf"]), [b"content"])

    listed = await server.ask("GET", f"{bucket}?list-type=2&prefix=.counterfoil-probe")
    assert listed.text.count("<Key>") == 1


async def lock_of(server: VersityServer, bucket: str, name: str) -> ObjectLockState | None:
    return ObjectLockState.read((await server.ask("GET", f"{bucket}/{quote(name)}?retention")).content)


async def versions_of(server: VersityServer, bucket: str, name: str) -> list[str]:
    listed = await server.ask("GET", f"{bucket}?versions&prefix={quote(name, safe='')}")
    return re.findall(r"<VersionId>([^<]+)</VersionId>", listed.raise_for_status().text)


async def version_of(server: VersityServer, bucket: str, name: str) -> str:
    (version,) = await versions_of(server, bucket, name)
    return version


def a_spec(
    url: str, bucket: str, *, object_lock: ObjectLock | None = None, force_path_style: bool = True
) -> ArchiveSpec:
    return ArchiveSpec(
        s3=S3(
            bucket=bucket,
            region=REGION,
            endpoint=url,
            force_path_style=force_path_style,
            object_lock=object_lock,
            credentials_secret_ref=CredentialsReference(name="bucket-credentials"),
        )
    )


def keys_of(server: VersityServer) -> dict[str, bytes]:
    return {"accessKeyId": server.access_key.encode(), "secretAccessKey": server.secret_key.encode()}

"""
The contract of archives, for a bucket of two real S3 servers: one that knows little, and one that knows tags
and versions.
"""

import secrets
from collections.abc import AsyncIterator

import pytest

from counterfoil.archives import open_backend
from counterfoil.archives.backend import ArchiveBackend
from counterfoil.resources.archive import S3, ArchiveSpec, CredentialsReference, ObjectLock
from counterfoil.testing.archive_contract import (
    ArchiveFixture,
    ListingContract,
    RefusalContract,
    WireContract,
)
from sandbox.servers.s3_rclone import S3Server, s3_server
from sandbox.servers.s3_versity import VersityServer, versity_server
from tests.support.scenes.archive_fixtures import refusing

FULL = b"<Error><Code>XMinioStorageFull</Code></Error>"
DENIED = b"<Error><Code>AccessDenied</Code></Error>"
LOCK = ObjectLock(mode="Governance", retain_days=30)


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[S3Server]:
    async with s3_server(buckets=("contracts",)) as running:
        yield running


class TestS3(ListingContract, WireContract, RefusalContract):
    # rclone holds the parts of an upload in memory, and all of it again.
    LARGEST = 1024 * 1024 * 1024

    @pytest.fixture
    async def ground(self, server: S3Server) -> ArchiveFixture:
        prefix = secrets.token_hex(4)
        return ArchiveFixture(
            a_spec(server.url, prefix=prefix),
            keys_of(server),
            address=("127.0.0.1", server.port),
            reroute=lambda port: a_spec(f"http://127.0.0.1:{port}", prefix=prefix),
        )

    @pytest.fixture
    async def stranger(self, server: S3Server) -> ArchiveBackend:
        return await open_backend(
            "dms", a_spec(server.url), {**keys_of(server), "secretAccessKey": b"WRONG-WRONG"}
        )

    @pytest.fixture
    async def rootless(self, server: S3Server) -> ArchiveBackend:
        return await open_backend("dms", a_spec(server.url, bucket="nowhere"), keys_of(server))

    @pytest.fixture
    async def full(self, server: S3Server) -> AsyncIterator[ArchiveBackend]:
        async with refusing(server.url, {"PUT", "POST"}, 507, FULL) as url:
            yield await open_backend("dms", a_spec(url, prefix="full"), keys_of(server))

    @pytest.fixture
    async def forbidden(self, server: S3Server) -> AsyncIterator[ArchiveBackend]:
        async with refusing(server.url, {"PUT", "POST"}, 403, DENIED) as url:
            yield await open_backend("dms", a_spec(url, prefix="forbidden"), keys_of(server))


@pytest.fixture(scope="module")
async def second_server() -> AsyncIterator[VersityServer]:
    async with versity_server() as running:
        yield running


class TestS3ThatLocks(ListingContract, WireContract, RefusalContract):
    """Each bucket has Object Lock, so that nothing is ever gone from it, and each file is locked once it is
    proved."""

    @pytest.fixture
    async def bucket(self, second_server: VersityServer) -> str:
        name = f"b{secrets.token_hex(6)}"
        await second_server.make_bucket(name, locking=True)
        return name

    @pytest.fixture
    async def ground(self, second_server: VersityServer, bucket: str) -> ArchiveFixture:
        return ArchiveFixture(
            a_spec(second_server.url, bucket=bucket, object_lock=LOCK),
            keys_of(second_server),
            address=("127.0.0.1", second_server.port),
            reroute=lambda port: a_spec(f"http://127.0.0.1:{port}", bucket=bucket, object_lock=LOCK),
        )

    @pytest.fixture
    async def stranger(self, second_server: VersityServer, bucket: str) -> ArchiveBackend:
        wrong = {**keys_of(second_server), "secretAccessKey": b"WRONG-WRONG"}
        return await open_backend("dms", a_spec(second_server.url, bucket=bucket, object_lock=LOCK), wrong)

    @pytest.fixture
    async def rootless(self, second_server: VersityServer) -> ArchiveBackend:
        spec = a_spec(second_server.url, bucket="nowhere", object_lock=LOCK)
        return await open_backend("dms", spec, keys_of(second_server))

    @pytest.fixture
    async def full(self, second_server: VersityServer, bucket: str) -> AsyncIterator[ArchiveBackend]:
        async with refusing(second_server.url, {"PUT", "POST"}, 507, FULL) as url:
            yield await open_backend("dms", a_spec(url, bucket=bucket), keys_of(second_server))

    @pytest.fixture
    async def forbidden(self, second_server: VersityServer, bucket: str) -> AsyncIterator[ArchiveBackend]:
        async with refusing(second_server.url, {"PUT", "POST"}, 403, DENIED) as url:
            yield await open_backend("dms", a_spec(url, bucket=bucket), keys_of(second_server))


def a_spec(
    url: str, *, bucket: str = "contracts", prefix: str = "", object_lock: ObjectLock | None = None
) -> ArchiveSpec:
    return ArchiveSpec(
        s3=S3(
            bucket=bucket,
            prefix=prefix,
            region="eu-central-1",
            endpoint=url,
            force_path_style=True,
            object_lock=object_lock,
            credentials_secret_ref=CredentialsReference(name="bucket-credentials"),
        )
    )


def keys_of(server: S3Server | VersityServer) -> dict[str, bytes]:
    return {"accessKeyId": server.access_key.encode(), "secretAccessKey": server.secret_key.encode()}

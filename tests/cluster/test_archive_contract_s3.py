"""
The contract of archives, for a bucket of a real S3 server.
"""

import secrets
from collections.abc import AsyncIterator

import pytest

from counterfoil.archives import open_door
from counterfoil.archives.contract import Ground, ListingContract, RefusalContract, WireContract
from counterfoil.archives.door import Door
from counterfoil.resources.archive import S3, ArchiveSpec
from counterfoil.resources.base import Ref
from sandbox.s3 import S3Server, s3_server
from tests.cluster.archive_grounds import refusing

FULL = b"<Error><Code>XMinioStorageFull</Code></Error>"
DENIED = b"<Error><Code>AccessDenied</Code></Error>"


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[S3Server]:
    async with s3_server(buckets=("contracts",)) as running:
        yield running


class TestS3(ListingContract, WireContract, RefusalContract):
    @pytest.fixture
    async def ground(self, server: S3Server) -> Ground:
        prefix = secrets.token_hex(4)
        return Ground(
            a_spec(server.url, prefix=prefix),
            keys_of(server),
            address=("127.0.0.1", server.port),
            reroute=lambda port: a_spec(f"http://127.0.0.1:{port}", prefix=prefix),
        )

    @pytest.fixture
    async def stranger(self, server: S3Server) -> Door:
        return await open_door(
            "dms", a_spec(server.url), {**keys_of(server), "secretAccessKey": b"WRONG-WRONG"}
        )

    @pytest.fixture
    async def rootless(self, server: S3Server) -> Door:
        return await open_door("dms", a_spec(server.url, bucket="nowhere"), keys_of(server))

    @pytest.fixture
    async def full(self, server: S3Server) -> AsyncIterator[Door]:
        async with refusing(server.url, {"PUT", "POST"}, 507, FULL) as url:
            yield await open_door("dms", a_spec(url, prefix="full"), keys_of(server))

    @pytest.fixture
    async def forbidden(self, server: S3Server) -> AsyncIterator[Door]:
        async with refusing(server.url, {"PUT", "POST"}, 403, DENIED) as url:
            yield await open_door("dms", a_spec(url, prefix="forbidden"), keys_of(server))


def a_spec(url: str, *, bucket: str = "contracts", prefix: str = "") -> ArchiveSpec:
    return ArchiveSpec(
        s3=S3(
            bucket=bucket,
            prefix=prefix,
            region="eu-central-1",
            endpoint=url,
            force_path_style=True,
            credentials_secret_ref=Ref(name="bucket-credentials"),
        )
    )


def keys_of(server: S3Server) -> dict[str, bytes]:
    return {"accessKeyId": server.access_key.encode(), "secretAccessKey": server.secret_key.encode()}

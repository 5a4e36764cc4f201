"""
The contract of archives, for a bucket of Google Cloud Storage.

No server of Google is available here. The kind uses its XML API, which is that of S3 except for the
signatures. So the tests use an S3 server that requires none.
"""

import json
import secrets
from collections.abc import AsyncIterator

import pytest

from counterfoil.archives import open_backend
from counterfoil.archives.backend import ArchiveBackend
from counterfoil.archives.errors import SettingsInvalid
from counterfoil.resources.archive import ArchiveSpec, GoogleCloudStorage
from counterfoil.resources.base import LocalObjectReference
from counterfoil.testing.archive_contract import (
    ArchiveFixture,
    FaultProxy,
    ListingContract,
    RefusalContract,
    WireContract,
)
from sandbox.servers.plain_http import plain_http
from sandbox.servers.rclone import RcloneServer, rclone_server
from tests.support.scenes.archive_fixtures import refusing

DENIED = b"<Error><Code>AccessDenied</Code></Error>"


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[RcloneServer]:
    async with rclone_server("s3") as running:
        yield running


class TestGcs(ListingContract, WireContract, RefusalContract):
    # rclone holds the parts of an upload in memory, and all of it again.
    LARGEST = 1024 * 1024 * 1024

    @pytest.fixture
    async def ground(self, server: RcloneServer) -> ArchiveFixture:
        bucket = f"b{secrets.token_hex(6)}"
        async with plain_http() as http:
            (await http.put(f"http://127.0.0.1:{server.port}/{bucket}")).raise_for_status()
        return ArchiveFixture(a_spec(bucket), key_for(server.port), address=("127.0.0.1", server.port))

    @pytest.fixture
    async def far_backend(self, ground: ArchiveFixture, wire: FaultProxy) -> ArchiveBackend:
        # The address is in the key, not in the spec.
        return await open_backend("dms", ground.spec, key_for(wire.port))

    @pytest.fixture
    async def rootless(self, server: RcloneServer) -> ArchiveBackend:
        return await open_backend("dms", a_spec("nowhere"), key_for(server.port))

    @pytest.fixture
    async def stranger(self, server: RcloneServer, ground: ArchiveFixture) -> AsyncIterator[ArchiveBackend]:
        async with refusing(f"http://127.0.0.1:{server.port}", {"PUT"}, 401) as url:
            yield await open_backend("dms", ground.spec, key_for(int(url.rpartition(":")[2])))

    @pytest.fixture
    async def full(self, server: RcloneServer, ground: ArchiveFixture) -> AsyncIterator[ArchiveBackend]:
        async with refusing(f"http://127.0.0.1:{server.port}", {"PUT", "POST"}, 507) as url:
            yield await open_backend("dms", ground.spec, key_for(int(url.rpartition(":")[2])))

    @pytest.fixture
    async def forbidden(self, server: RcloneServer, ground: ArchiveFixture) -> AsyncIterator[ArchiveBackend]:
        async with refusing(f"http://127.0.0.1:{server.port}", {"PUT", "POST"}, 403, DENIED) as url:
            yield await open_backend("dms", ground.spec, key_for(int(url.rpartition(":")[2])))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "has no `serviceAccountJson`"),
        ({"serviceAccountJson": b"nonsense"}, "is no JSON"),
        ({"serviceAccountJson": b"{}"}, "can't be used as it is written"),
    ],
)
async def test_a_secret_that_can_not_work_is_told(given: dict[str, bytes], says: str) -> None:
    with pytest.raises(SettingsInvalid, match=says):
        await open_backend("dms", a_spec(), given)


def a_spec(bucket: str = "contracts") -> ArchiveSpec:
    return ArchiveSpec(
        gcs=GoogleCloudStorage(bucket=bucket, credentials_secret_ref=LocalObjectReference(name="gcs"))
    )


def key_for(port: int) -> dict[str, bytes]:
    """A service account's key that leads to another server and signs nothing."""
    key = {"gcs_base_url": f"http://127.0.0.1:{port}", "disable_oauth": True}
    key |= {"client_email": "", "private_key": "", "private_key_id": ""}
    return {"serviceAccountJson": json.dumps(key).encode()}

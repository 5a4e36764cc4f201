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
from counterfoil.archives.backends.gcs import open_gcs
from counterfoil.archives.errors import SettingsInvalid
from counterfoil.resources.archive import ArchiveSpec, CredentialsReference, GoogleCloudStorage
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
from tests.support.signing_keys import rsa_private_pem

KEY = {
    "serviceAccountJson": json.dumps(
        {"client_email": "a@acme.example", "private_key_id": "1", "private_key": rsa_private_pem()}
    ).encode()
}
DENIED = b"<Error><Code>AccessDenied</Code></Error>"
FULL = b"<Error><Code>InsufficientStorage</Code></Error>"
UNAUTHORIZED = b"<Error><Code>AuthenticationRequired</Code></Error>"


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[RcloneServer]:
    async with rclone_server("s3") as running:
        yield running


class GcsFixture(ArchiveFixture):
    """Its server has another address than Google's, which no setting can name."""

    async def backend(self) -> ArchiveBackend:
        assert self.address is not None
        return await opened(self.spec, self.address[1])


class TestGcs(ListingContract, WireContract, RefusalContract):
    # rclone holds the parts of an upload in memory, and all of it again.
    LARGEST = 1024 * 1024 * 1024

    @pytest.fixture
    async def ground(self, server: RcloneServer) -> ArchiveFixture:
        bucket = f"b{secrets.token_hex(6)}"
        async with plain_http() as http:
            (await http.put(f"http://127.0.0.1:{server.port}/{bucket}")).raise_for_status()
        return GcsFixture(
            a_spec(bucket),
            KEY,
            address=("127.0.0.1", server.port),
            program=("tests.support.scenes.gcs_runs", f"http://127.0.0.1:{server.port}"),
        )

    @pytest.fixture
    async def far_backend(self, ground: ArchiveFixture, wire: FaultProxy) -> ArchiveBackend:
        return await opened(ground.spec, wire.port)

    @pytest.fixture
    async def rootless(self, server: RcloneServer) -> ArchiveBackend:
        return await opened(a_spec("nowhere"), server.port)

    @pytest.fixture
    async def stranger(self, server: RcloneServer, ground: ArchiveFixture) -> AsyncIterator[ArchiveBackend]:
        async with refusing(f"http://127.0.0.1:{server.port}", {"PUT"}, 401, UNAUTHORIZED) as url:
            yield await opened(ground.spec, int(url.rpartition(":")[2]))

    @pytest.fixture
    async def full(self, server: RcloneServer, ground: ArchiveFixture) -> AsyncIterator[ArchiveBackend]:
        async with refusing(f"http://127.0.0.1:{server.port}", {"PUT", "POST"}, 507, FULL) as url:
            yield await opened(ground.spec, int(url.rpartition(":")[2]))

    @pytest.fixture
    async def forbidden(self, server: RcloneServer, ground: ArchiveFixture) -> AsyncIterator[ArchiveBackend]:
        async with refusing(f"http://127.0.0.1:{server.port}", {"PUT", "POST"}, 403, DENIED) as url:
            yield await opened(ground.spec, int(url.rpartition(":")[2]))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "has no `serviceAccountJson`"),
        ({"serviceAccountJson": b"nonsense"}, "is no JSON"),
        ({"serviceAccountJson": b"{}"}, "can't be used as it is written"),
    ],
)
async def test_a_secret_that_can_not_work_is_reported(given: dict[str, bytes], says: str) -> None:
    with pytest.raises(SettingsInvalid, match=says):
        await open_backend("dms", a_spec(), given)


def a_spec(bucket: str = "contracts") -> ArchiveSpec:
    return ArchiveSpec(
        gcs=GoogleCloudStorage(bucket=bucket, credentials_secret_ref=CredentialsReference(name="gcs"))
    )


async def opened(spec: ArchiveSpec, port: int) -> ArchiveBackend:
    """Open an archive at a server of this machine."""
    return await open_gcs("dms", spec, KEY, address=f"http://127.0.0.1:{port}")

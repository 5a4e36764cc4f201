"""
The contract of archives, for a container of Azure Blob Storage, at Microsoft's own local server.
"""

import base64
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from counterfoil.archives import open_backend
from counterfoil.archives.backend import ArchiveBackend
from counterfoil.archives.errors import ArchiveRefused, SettingsInvalid
from counterfoil.resources.archive import ArchiveSpec, AzureBlob, CredentialsReference, TagRule
from counterfoil.testing.archive_contract import (
    ArchiveFixture,
    ListingContract,
    RefusalContract,
    WireContract,
)
from sandbox.servers.azblob_azurite import ACCOUNT, KEY, Azurite, azurite
from tests.support.scenes.archive_fixtures import refusing

CREDENTIALS = {"accountName": ACCOUNT.encode(), "accountKey": f"{KEY}\n".encode()}
DENIED = b"<Error><Code>AuthorizationPermissionMismatch</Code></Error>"
FULL = b"<Error><Code>InsufficientStorage</Code></Error>"
AUTHENTICATION = b"<Error><Code>AuthenticationFailed</Code></Error>"


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[Azurite]:
    async with azurite() as running:
        yield running


class TestAzureBlob(ListingContract, WireContract, RefusalContract):
    @pytest.fixture
    async def ground(self, server: Azurite) -> ArchiveFixture:
        container = f"c{secrets.token_hex(6)}"
        await server.make_container(container)
        return ArchiveFixture(
            a_spec(server.url, container),
            {**CREDENTIALS, "accountKey": KEY.encode()},
            address=("127.0.0.1", server.port),
            reroute=lambda port: a_spec(f"http://127.0.0.1:{port}/{ACCOUNT}", container),
        )

    @pytest.fixture
    async def rootless(self, server: Azurite) -> ArchiveBackend:
        return await open_backend("dms", a_spec(server.url, "nowhere"), CREDENTIALS)

    @pytest.fixture
    async def stranger(self, server: Azurite, ground: ArchiveFixture) -> AsyncIterator[ArchiveBackend]:
        # Azurite answers a wrong key with AuthorizationFailure, Azure itself with AuthenticationFailed.
        async with refused(server, ground, 403, AUTHENTICATION) as backend:
            yield backend

    @pytest.fixture
    async def full(self, server: Azurite, ground: ArchiveFixture) -> AsyncIterator[ArchiveBackend]:
        async with refused(server, ground, 507, FULL) as backend:
            yield backend

    @pytest.fixture
    async def forbidden(self, server: Azurite, ground: ArchiveFixture) -> AsyncIterator[ArchiveBackend]:
        async with refused(server, ground, 403, DENIED) as backend:
            yield backend


@asynccontextmanager
async def refused(
    server: Azurite, ground: ArchiveFixture, status: int, body: bytes = b""
) -> AsyncIterator[ArchiveBackend]:
    """Give a backend whose server answers everything that is written like this."""
    assert ground.spec.azblob is not None
    async with refusing(server.url.removesuffix(f"/{ACCOUNT}"), {"PUT"}, status, body) as url:
        spec = a_spec(f"{url}/{ACCOUNT}", ground.spec.azblob.container)
        yield await open_backend("dms", spec, CREDENTIALS)


async def test_a_wrong_key_is_reported_as_azure_answers(server: Azurite) -> None:
    # Azurite answers AuthorizationFailure; Azure itself AuthenticationFailed.
    async with refusing(server.url.removesuffix(f"/{ACCOUNT}"), {"PUT"}, 403, AUTHENTICATION) as url:
        wrong = {**CREDENTIALS, "accountKey": base64.b64encode(b"x" * 64)}
        backend = await open_backend("dms", a_spec(f"{url}/{ACCOUNT}", "contracts"), wrong)
        with pytest.raises(ArchiveRefused) as trouble:
            await backend.probe()

    assert trouble.value.reason == "ArchiveCredentialsRejected"
    assert trouble.value.message == (
        f"Archive/dms: Azure Blob Storage, account `{ACCOUNT}` does not accept the key in Secret `azure` "
        "(Azure answered 403 AuthenticationFailed). Give a valid one."
    )


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "has no `accountName`"),
        ({"accountName": b"acme"}, "has no `accountKey`"),
        (
            {"accountName": b"acme", "accountKey": b"no base64!"},
            "`accountKey` in Secret `azure` can't be used",
        ),
    ],
)
async def test_a_secret_that_can_not_work_is_reported(given: dict[str, bytes], says: str) -> None:
    with pytest.raises(SettingsInvalid, match=says):
        await open_backend("dms", a_spec("http://127.0.0.1:1/acme", "contracts"), given)


async def test_without_a_secret_the_endpoint_names_the_account() -> None:
    endpoint = "https://acme.blob.core.windows.net"
    backend = await open_backend(
        "dms", ArchiveSpec(azblob=AzureBlob(container="contracts", endpoint=endpoint)), {}
    )

    assert backend.location("a/b.pdf") == "https://acme.blob.core.windows.net/contracts/a/b.pdf"
    with pytest.raises(SettingsInvalid, match=r"sent to spec\.azblob\.endpoint"):
        await open_backend("dms", ArchiveSpec(azblob=AzureBlob(container="contracts")), {})


async def test_more_tags_than_azure_takes_are_refused() -> None:
    spec = ArchiveSpec(
        azblob=AzureBlob(container="contracts", endpoint="https://acme.blob.core.windows.net"),
        tags={f"tag{number}": TagRule(value="x") for number in range(11)},
    )
    with pytest.raises(SettingsInvalid, match="at most 10 tags"):
        await open_backend("dms", spec, {})


def a_spec(url: str, container: str) -> ArchiveSpec:
    return ArchiveSpec(
        azblob=AzureBlob(
            container=container, endpoint=url, credentials_secret_ref=CredentialsReference(name="azure")
        )
    )

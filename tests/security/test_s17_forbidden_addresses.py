"""S17: lead eSAW or an archive to the pod itself, its node or the metadata service of a cloud."""

from collections.abc import Mapping
from typing import Final

import msgspec
import pytest

from counterfoil.archives import open_backend
from counterfoil.archives.errors import ArchiveError
from counterfoil.esaw import EsawClient, EsawUnreachable, new_http_client
from counterfoil.resources.archive import ArchiveSpec
from tests.support.builders import AClock

KEYS: Final = {"accessKeyId": b"AKIAEXAMPLE", "secretAccessKey": b"x" * 40}
LOGIN: Final = {"username": b"u", "password": b"p"}
ACCOUNT: Final = {"accountName": b"acme", "accountKey": b"eHh4eA=="}
LINK_LOCAL: Final = "169.254.99.99"
"""Of the network in which clouds have their metadata services."""


def archive_at(kind: str, host: str, port: int = 80) -> tuple[ArchiveSpec, Mapping[str, bytes]]:
    """Return an Archive of a kind at this host, and the content of its Secret."""
    url, secret = f"http://{host}:{port}", {"credentialsSecretRef": {"name": "dms"}}
    settings: Mapping[str, tuple[Mapping[str, object], Mapping[str, bytes]]] = {
        "s3": ({"bucket": "acme", "region": "eu", "endpoint": url, **secret}, KEYS),
        "azblob": ({"container": "acme", "endpoint": url, **secret}, ACCOUNT),
        "webdav": ({"url": url}, {}),
        "cmis": ({"url": url, "repositoryID": "acme"}, {}),
        "http": ({"url": url}, {}),
        "sftp": ({"host": host, "port": port, "hostKeys": [f"SHA256:{'A' * 43}"], **secret}, LOGIN),
    }
    spec, credentials = settings[kind]
    return msgspec.convert({kind: spec}, ArchiveSpec), credentials


async def problem_of_archive(spec: ArchiveSpec, credentials: Mapping[str, bytes]) -> ArchiveError:
    backend = await open_backend("dms", spec, credentials)
    try:
        with pytest.raises(ArchiveError) as found:
            async for _ in backend.read("a/b.pdf"):
                raise AssertionError
    finally:
        await backend.close()
    return found.value


async def problem_of_esaw(url: str) -> EsawUnreachable:
    async with new_http_client() as http:
        client = EsawClient(url, http=http, clock=AClock(), observe=lambda *_: None)
        with pytest.raises(EsawUnreachable) as found:
            await client.version()
    return found.value


@pytest.mark.xfail(strict=True, reason="archives may have any address")
@pytest.mark.parametrize("kind", ["s3", "azblob", "webdav", "cmis", "http", "sftp"])
async def test_no_archive_leads_to_the_metadata_service_of_a_cloud(kind: str) -> None:
    problem = await problem_of_archive(*archive_at(kind, LINK_LOCAL))
    assert problem.reason == "ArchiveAddressForbidden"


@pytest.mark.xfail(strict=True, reason="eSAW may have any address")
async def test_no_organization_leads_to_the_metadata_service_of_a_cloud() -> None:
    assert (await problem_of_esaw(f"http://{LINK_LOCAL}")).kind == "forbidden"

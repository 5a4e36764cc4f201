"""
S2: a user who may change an Archive chooses an endpoint that receives the pod's own cloud identity.

The CRD and the code refuse each address separately. The pod's environment here sends the requests for all
hosts to a server of the attacker, and this server records them.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from counterfoil.archives.backends.azblob import open_azblob
from counterfoil.archives.backends.gcs import open_gcs
from counterfoil.archives.backends.s3 import open_s3
from counterfoil.archives.errors import ArchiveError, SettingsInvalid
from counterfoil.resources import Archive
from counterfoil.resources.archive import ArchiveSpec
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.controlplane.kubectl import KubectlError
from tests.support.crd_cases import (
    AMAZON_ENDPOINTS,
    AZURE_ENDPOINTS,
    NOT_AMAZON,
    NOT_AMAZON_REGIONS,
    NOT_AZURE,
    NOT_REGIONS,
)
from tests.support.scenes.admission import an_archive

OPENERS = {"s3": open_s3, "azblob": open_azblob, "gcs": open_gcs}
TOKEN = "token-of-the-pod"
SECRET = {"name": "own"}


class Recorder:
    """A server that records the head of each request, and refuses it."""

    def __init__(self) -> None:
        self.heads: list[str] = []

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
        writer.close()


@pytest.fixture(name="environment")
def _environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment of a pod, without what this machine has of clouds and proxies."""
    for name in os.environ:
        if name.upper().endswith("_PROXY") or name.startswith(("AWS_", "AZURE_", "GOOGLE_")):
            monkeypatch.delenv(name)
    return monkeypatch


@pytest.fixture(name="evil")
async def _evil(environment: pytest.MonkeyPatch) -> AsyncIterator[Recorder]:
    recorder = Recorder()
    async with await asyncio.start_server(recorder.answer, "127.0.0.1", 0) as server:
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for name in ("http_proxy", "https_proxy"):
            environment.setenv(name, address)
        yield recorder


async def probed(kind: str, settings: dict[str, Any], credentials: dict[str, bytes]) -> None:
    """Open an archive and write to it, as the controller does. Raises ``SettingsInvalid``."""
    backend = await OPENERS[kind]("dms", spec_of(kind, settings), credentials)
    try:
        with suppress(ArchiveError):
            await backend.probe()
    finally:
        await backend.close()


def spec_of(kind: str, settings: dict[str, Any]) -> ArchiveSpec:
    return Archive.parse(an_archive("dms", **{kind: settings})).spec


# -- In the code ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", ["http://acme.blob.evil", *NOT_AZURE.values()])
async def test_no_endpoint_gets_the_pods_token_of_azure(
    evil: Recorder, environment: pytest.MonkeyPatch, endpoint: str
) -> None:
    environment.setenv("AZURE_STORAGE_TOKEN", TOKEN)
    with pytest.raises(SettingsInvalid, match="must be an address of Microsoft") as refusal:
        await probed("azblob", {"container": "contracts", "endpoint": endpoint}, {})
    assert "or name a Secret" in str(refusal.value)
    assert evil.heads == []


@pytest.mark.parametrize("endpoint", ["http://evil", *NOT_AMAZON.values()])
async def test_no_endpoint_gets_the_pods_token_of_amazon(
    evil: Recorder, environment: pytest.MonkeyPatch, endpoint: str
) -> None:
    environment.setenv("AWS_ACCESS_KEY_ID", "key")
    environment.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    environment.setenv("AWS_SESSION_TOKEN", TOKEN)
    with pytest.raises(SettingsInvalid, match="must be an address of Amazon S3") as refusal:
        await probed("s3", {"bucket": "contracts", "region": "eu-central-1", "endpoint": endpoint}, {})
    assert "or name a Secret" in str(refusal.value)
    assert evil.heads == []


@pytest.mark.parametrize(
    "region", [*(f"{each}x" for each in NOT_REGIONS.values()), *NOT_AMAZON_REGIONS.values()]
)
async def test_no_host_gets_the_token_that_is_exchanged_for_a_key(
    evil: Recorder, environment: pytest.MonkeyPatch, tmp_path: Path, region: str
) -> None:
    # The region is a part of the name of the host that takes the token: sts.REGION.amazonaws.com.
    (tmp_path / "token").write_text(TOKEN)
    environment.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    environment.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/counterfoil")
    with pytest.raises(SettingsInvalid, match=r"spec\.s3\.region can't be a part of a host name"):
        await probed("s3", {"bucket": "contracts", "region": region}, {})
    assert evil.heads == []


@pytest.mark.parametrize("bucket", ["evil.example.com/", "evil.example.com:443", "x@evil.example.com"])
async def test_a_bucket_is_no_host(evil: Recorder, environment: pytest.MonkeyPatch, bucket: str) -> None:
    environment.setenv("AWS_ACCESS_KEY_ID", "key")
    environment.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    environment.setenv("AWS_SESSION_TOKEN", TOKEN)
    with pytest.raises(SettingsInvalid, match=r"spec\.s3\.bucket can't be a part of a host name"):
        await probed("s3", {"bucket": bucket, "region": "eu-central-1"}, {})
    assert evil.heads == []


@pytest.mark.parametrize(
    ("kind", "settings", "credentials"),
    [
        (
            "azblob",
            {"container": "contracts", "endpoint": "http://acme.blob.evil", "credentialsSecretRef": SECRET},
            {"accountName": b"acme", "accountKey": b"c2VjcmV0"},
        ),
        (
            "s3",
            {
                "bucket": "contracts",
                "region": "eu-central-1",
                "endpoint": "http://evil",
                "credentialsSecretRef": SECRET,
            },
            {"accessKeyId": b"own", "secretAccessKey": b"secret"},
        ),
    ],
    ids=["azblob", "s3"],
)
async def test_a_server_that_an_archive_has_a_secret_for_gets_no_token_of_the_pod(
    evil: Recorder,
    environment: pytest.MonkeyPatch,
    kind: str,
    settings: dict[str, Any],
    credentials: dict[str, bytes],
) -> None:
    environment.setenv("AZURE_STORAGE_TOKEN", TOKEN)
    environment.setenv("AWS_ACCESS_KEY_ID", TOKEN)
    environment.setenv("AWS_SECRET_ACCESS_KEY", TOKEN)
    environment.setenv("AWS_SESSION_TOKEN", TOKEN)
    await probed(kind, settings, credentials)
    assert evil.heads
    assert TOKEN not in "".join(evil.heads)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        *(
            ("s3", {"bucket": "contracts", "region": "eu-central-1", "endpoint": each})
            for each in AMAZON_ENDPOINTS.values()
        ),
        *(("azblob", {"container": "contracts", "endpoint": each}) for each in AZURE_ENDPOINTS.values()),
        ("s3", {"bucket": "contracts", "region": "eu-central-1"}),
    ],
)
async def test_the_clouds_own_endpoints_get_the_pods_identity(
    evil: Recorder, environment: pytest.MonkeyPatch, kind: str, settings: dict[str, Any]
) -> None:
    environment.setenv("AZURE_STORAGE_TOKEN", TOKEN)
    environment.setenv("AWS_ACCESS_KEY_ID", "key")
    environment.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    backend = await OPENERS[kind]("dms", spec_of(kind, settings), {})
    await backend.close()
    assert evil.heads == []


def test_an_archive_of_google_names_no_host() -> None:
    # With a Secret, the Secret may name one; without it, nothing in the Archive does.
    parsed = Archive.parse(an_archive("dms", gcs={"bucket": "contracts"})).spec.gcs
    assert parsed is not None
    assert set(parsed.__struct_fields__) == {"bucket", "credentials_secret_ref"}


# -- In the CRD ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        *(("s3", {"bucket": "contracts", "endpoint": each}) for each in NOT_AMAZON.values()),
        *(
            ("s3", {"bucket": "contracts", "region": each})
            for each in (*NOT_REGIONS.values(), *NOT_AMAZON_REGIONS.values())
        ),
        *(("azblob", {"container": "contracts", "endpoint": each}) for each in NOT_AZURE.values()),
    ],
)
async def test_the_api_server_takes_no_archive_that_sends_the_pods_identity_elsewhere(
    plane: ControlPlane, kind: str, settings: dict[str, Any]
) -> None:
    body = json.dumps(an_archive("dms", **{kind: settings}))
    with pytest.raises(KubectlError, match=r"the pod's own identity is sent to endpoint|a region "):
        await plane.kubectl("create", "--dry-run=server", "-f", "-", stdin=body)

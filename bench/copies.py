"""
The plainest way to bring a stream to the server of each kind of archive: one call of the protocol's usual client, without
temporary names, hashes, or a look at what arrived. It is what bench (c) holds the archives against.
"""

import base64
import hashlib
import hmac
import json
import os
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from pathlib import Path

import asyncssh
import httpx
from obstore.store import AzureStore, S3Store

from bench.machine import MIB
from bench.places import Place

Chunks = AsyncGenerator[bytes, None]


async def into_filesystem(place: Place, name: str, chunks: Chunks) -> None:
    """Write to a file, and make it durable; without a thread, as a plain script does."""
    settings = place.spec.filesystem
    assert settings is not None
    with Path(settings.root, name).open("wb") as target:  # noqa: ASYNC230
        async for chunk in chunks:
            target.write(chunk)
        target.flush()
        os.fsync(target.fileno())


async def into_s3(place: Place, name: str, chunks: Chunks) -> None:
    """Upload by obstore."""
    settings = place.spec.s3
    assert settings is not None
    store = S3Store(
        settings.bucket,
        endpoint=settings.endpoint,
        region=settings.region,
        access_key_id=_text(place, "accessKeyId"),
        secret_access_key=_text(place, "secretAccessKey"),
        client_options={"allow_http": True},
    )
    await store.put_async(name, chunks, chunk_size=5 * MIB, max_concurrency=2)


async def into_azblob(place: Place, name: str, chunks: Chunks) -> None:
    """Upload by obstore."""
    settings = place.spec.azblob
    assert settings is not None
    store = AzureStore(
        settings.container,
        endpoint=settings.endpoint,
        account_name=_text(place, "accountName"),
        account_key=_text(place, "accountKey"),
        client_options={"allow_http": True},
    )
    await store.put_async(name, chunks, chunk_size=5 * MIB, max_concurrency=2)


async def into_webdav(place: Place, name: str, chunks: Chunks) -> None:
    """PUT by httpx."""
    settings = place.spec.webdav
    assert settings is not None
    async with httpx.AsyncClient(auth=_login(place), trust_env=False, timeout=60) as http:
        (await http.put(f"{settings.url}/{name}", content=chunks)).raise_for_status()


async def into_sftp(place: Place, name: str, chunks: Chunks) -> None:
    """Write by asyncssh."""
    settings = place.spec.sftp
    assert settings is not None
    username, password = _login(place)
    async with (
        asyncssh.connect(
            settings.host,
            settings.port,
            username=username,
            password=password,
            known_hosts=([asyncssh.import_public_key(settings.host_keys[0])], [], []),
            client_keys=None,
            agent_path=None,
            config=None,
        ) as connection,
        connection.start_sftp_client() as sftp,
        sftp.open(name, "wb") as file,
    ):
        async for chunk in chunks:
            await file.write(chunk)


async def into_cmis(place: Place, name: str, chunks: Chunks) -> None:
    """Send a form with createDocument by httpx."""
    settings = place.spec.cmis
    assert settings is not None
    boundary = secrets.token_hex(16)
    fields = {"cmisaction": "createDocument", "propertyId[0]": "cmis:name", "propertyValue[0]": name}
    fields |= {"propertyId[1]": "cmis:objectTypeId", "propertyValue[1]": "cmis:document"}

    async def form() -> AsyncGenerator[bytes, None]:
        for key, value in fields.items():
            yield f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        yield f'--{boundary}\r\nContent-Disposition: form-data; name="content"; filename="{name}"\r\n\r\n'.encode()
        async for chunk in chunks:
            yield chunk
        yield f"\r\n--{boundary}--\r\n".encode()

    url = f"{settings.url}/{settings.repository_id}/root"
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    async with httpx.AsyncClient(auth=_login(place), trust_env=False, timeout=60) as http:
        (await http.post(url, content=form(), headers=headers)).raise_for_status()


async def into_http(place: Place, name: str, chunks: Chunks) -> None:
    """POST by httpx, signed; the system keeps the bytes, and nothing concludes them."""
    settings = place.spec.http
    assert settings is not None
    described = base64.urlsafe_b64encode(json.dumps({"name": name}).encode()).decode()
    sent, moment = f"copy_{secrets.token_hex(16)}", str(int(time.time()))
    key = base64.b64decode(_text(place, "signingSecret").removeprefix("whsec_"))
    digest = hmac.new(key, f"{sent}.{moment}.{described}".encode(), hashlib.sha256).digest()
    headers = {
        "Counterfoil-File": described,
        "Idempotency-Key": sent,
        "webhook-id": sent,
        "webhook-timestamp": moment,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
        "Authorization": f"Bearer {_text(place, 'bearerToken')}",
    }
    async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
        (await http.post(settings.url, content=chunks, headers=headers)).raise_for_status()


COPIES: Mapping[str, Callable[[Place, str, Chunks], Awaitable[None]]] = {
    "filesystem": into_filesystem,
    "s3": into_s3,
    "webdav": into_webdav,
    "sftp": into_sftp,
    "cmis": into_cmis,
    "http": into_http,
    "azblob": into_azblob,
}


def _text(place: Place, key: str) -> str:
    return place.credentials[key].decode()


def _login(place: Place) -> tuple[str, str]:
    return _text(place, "username"), _text(place, "password")

"""
The plainest way to bring a stream to the server of each kind of archive, and the plainest way to get it back:
one call each of the protocol's usual client, without temporary names, and without hashes where the protocol
needs none. It is what bench (c) holds the archives against.
"""

import base64
import hashlib
import hmac
import json
import os
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import asyncssh
import httpx
from obstore.store import AzureStore, S3Store

from verification.bench.archive_targets import ArchiveTarget
from verification.bench.machine import MIB

Chunks = AsyncGenerator[bytes, None]


async def into_filesystem(archive_target: ArchiveTarget, name: str, chunks: Chunks) -> None:
    """Write to a file, and make it durable; without a thread, as a plain script does."""
    settings = archive_target.spec.filesystem
    assert settings is not None
    with Path(settings.root, name).open("wb") as target:  # noqa: ASYNC230
        async for chunk in chunks:
            target.write(chunk)
        target.flush()
        os.fsync(target.fileno())


async def from_filesystem(archive_target: ArchiveTarget, name: str) -> Chunks:
    """Read a file from the disk, not from what is left of it in memory."""
    settings = archive_target.spec.filesystem
    assert settings is not None
    with Path(settings.root, name).open("rb", buffering=0) as stored:  # noqa: ASYNC230
        os.posix_fadvise(stored.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while block := stored.read(MIB):
            yield block


async def into_objects(archive_target: ArchiveTarget, name: str, chunks: Chunks) -> None:
    """Upload by obstore."""
    await _store(archive_target).put_async(name, chunks, chunk_size=5 * MIB, max_concurrency=2)


async def from_objects(archive_target: ArchiveTarget, name: str) -> Chunks:
    """Download by obstore."""
    async for block in (await _store(archive_target).get_async(name)).stream(min_chunk_size=MIB):
        yield bytes(block)


async def into_webdav(archive_target: ArchiveTarget, name: str, chunks: Chunks) -> None:
    """PUT by httpx."""
    settings = archive_target.spec.webdav
    assert settings is not None
    async with _client(archive_target) as http:
        (await http.put(f"{settings.url}/{name}", content=chunks)).raise_for_status()


def from_webdav(archive_target: ArchiveTarget, name: str) -> Chunks:
    """GET by httpx."""
    settings = archive_target.spec.webdav
    assert settings is not None
    return _got(archive_target, f"{settings.url}/{name}")


async def into_sftp(archive_target: ArchiveTarget, name: str, chunks: Chunks) -> None:
    """Write by asyncssh."""
    async with _sftp(archive_target) as sftp, sftp.open(name, "wb") as file:
        async for chunk in chunks:
            await file.write(chunk)


async def from_sftp(archive_target: ArchiveTarget, name: str) -> Chunks:
    """Read by asyncssh."""
    async with _sftp(archive_target) as sftp, sftp.open(name, "rb", encoding=None) as file:
        while block := cast("bytes", await file.read(MIB)):
            yield block


async def into_cmis(archive_target: ArchiveTarget, name: str, chunks: Chunks) -> None:
    """Send a form with createDocument by httpx."""
    settings = archive_target.spec.cmis
    assert settings is not None
    boundary = secrets.token_hex(16)
    fields = {"cmisaction": "createDocument", "propertyId[0]": "cmis:name", "propertyValue[0]": name}
    fields |= {"propertyId[1]": "cmis:objectTypeId", "propertyValue[1]": "cmis:document"}

    async def form() -> AsyncGenerator[bytes, None]:
        for key, value in fields.items():
            yield f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        disposition = f'Content-Disposition: form-data; name="content"; filename="{name}"'
        yield f"--{boundary}\r\n{disposition}\r\n\r\n".encode()
        async for chunk in chunks:
            yield chunk
        yield f"\r\n--{boundary}--\r\n".encode()

    url = f"{settings.url}/{settings.repository_id}/root"
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    async with _client(archive_target) as http:
        (await http.post(url, content=form(), headers=headers)).raise_for_status()


def from_cmis(archive_target: ArchiveTarget, name: str) -> Chunks:
    """GET the content by httpx."""
    settings = archive_target.spec.cmis
    assert settings is not None
    return _got(archive_target, f"{settings.url}/{settings.repository_id}/root/{name}?cmisselector=content")


async def into_http(archive_target: ArchiveTarget, name: str, chunks: Chunks) -> None:
    """POST by httpx, and conclude: without the hash that this takes the system files nothing."""
    settings = archive_target.spec.http
    assert settings is not None
    described = base64.urlsafe_b64encode(json.dumps({"name": name}).encode()).decode()
    upload, digest, size = f"copy_{secrets.token_hex(16)}", hashlib.sha256(), 0

    async def counted() -> AsyncGenerator[bytes, None]:
        nonlocal size
        async for chunk in chunks:
            digest.update(chunk)
            size += len(chunk)
            yield chunk

    async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
        headers = {"Counterfoil-File": described, **_signed(archive_target, upload, described)}
        (await http.post(settings.url, content=counted(), headers=headers)).raise_for_status()
        proof = {"upload": upload, "name": name, "size": size, "sha256": digest.hexdigest(), "tags": {}}
        told = json.dumps({"type": "counterfoil.file", "data": proof})
        headers = _signed(archive_target, f"end_{upload}", told)
        (await http.post(settings.url, content=told, headers=headers)).raise_for_status()


async def from_http(archive_target: ArchiveTarget, name: str) -> Chunks:
    """GET by httpx; the signature covers method and target."""
    settings = archive_target.spec.http
    assert settings is not None
    url = httpx.URL(f"{settings.url}/{name}")
    headers = _signed(archive_target, f"get_{secrets.token_hex(16)}", f"GET {url.raw_path.decode()}")
    async with (
        httpx.AsyncClient(trust_env=False, timeout=60) as http,
        http.stream("GET", url, headers=headers) as answer,
    ):
        answer.raise_for_status()
        async for chunk in answer.aiter_raw():
            yield chunk


COPIES: Mapping[str, Callable[[ArchiveTarget, str, Chunks], Awaitable[None]]] = {
    "filesystem": into_filesystem,
    "s3": into_objects,
    "webdav": into_webdav,
    "sftp": into_sftp,
    "cmis": into_cmis,
    "http": into_http,
    "azblob": into_objects,
}

READS: Mapping[str, Callable[[ArchiveTarget, str], Chunks]] = {
    "filesystem": from_filesystem,
    "s3": from_objects,
    "webdav": from_webdav,
    "sftp": from_sftp,
    "cmis": from_cmis,
    "http": from_http,
    "azblob": from_objects,
}


def _store(archive_target: ArchiveTarget) -> S3Store | AzureStore:
    if (s3 := archive_target.spec.s3) is not None:
        return S3Store(
            s3.bucket,
            endpoint=s3.endpoint,
            region=s3.region,
            access_key_id=_text(archive_target, "accessKeyId"),
            secret_access_key=_text(archive_target, "secretAccessKey"),
            client_options={"allow_http": True},
        )
    azblob = archive_target.spec.azblob
    assert azblob is not None
    return AzureStore(
        azblob.container,
        endpoint=azblob.endpoint,
        account_name=_text(archive_target, "accountName"),
        account_key=_text(archive_target, "accountKey"),
        client_options={"allow_http": True},
    )


def _client(archive_target: ArchiveTarget) -> httpx.AsyncClient:
    return httpx.AsyncClient(auth=_login(archive_target), trust_env=False, timeout=60)


async def _got(archive_target: ArchiveTarget, url: str) -> Chunks:
    async with _client(archive_target) as http, http.stream("GET", url) as answer:
        answer.raise_for_status()
        async for chunk in answer.aiter_raw():
            yield chunk


@asynccontextmanager
async def _sftp(archive_target: ArchiveTarget) -> AsyncIterator[asyncssh.SFTPClient]:
    settings = archive_target.spec.sftp
    assert settings is not None
    username, password = _login(archive_target)
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
    ):
        yield sftp


def _signed(archive_target: ArchiveTarget, message: str, payload: str) -> dict[str, str]:
    moment = str(int(time.time()))
    key = base64.b64decode(_text(archive_target, "signingSecret").removeprefix("whsec_"))
    digest = hmac.new(key, f"{message}.{moment}.{payload}".encode(), hashlib.sha256).digest()
    return {
        "Idempotency-Key": hashlib.sha256(message.encode()).hexdigest(),
        "webhook-id": message,
        "webhook-timestamp": moment,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
        "Authorization": f"Bearer {_text(archive_target, 'bearerToken')}",
    }


def _text(archive_target: ArchiveTarget, key: str) -> str:
    return archive_target.credentials[key].decode()


def _login(archive_target: ArchiveTarget) -> tuple[str, str]:
    return _text(archive_target, "username"), _text(archive_target, "password")

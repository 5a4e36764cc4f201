"""
Object stores with a hostile server: redirects, endless answers, hostile lists.
"""

import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from counterfoil.archives import open_backend
from counterfoil.archives.backend import ArchiveBackend
from counterfoil.archives.errors import ArchiveError
from counterfoil.archives.readback import read_back
from counterfoil.resources.archive import S3, ArchiveSpec, AzureBlob, GoogleCloudStorage
from counterfoil.resources.base import LocalObjectReference
from tests.support.fakes.archives import once
from tests.support.signing_keys import rsa_private_pem

MIB = 1024 * 1024
KINDS = ("s3", "azblob", "gcs")
REF = LocalObjectReference(name="bucket-credentials")


@dataclass
class Server:
    """Records its requests, with all of their headers, and answers by ``answer``."""

    url: str = ""
    heads: list[str] = field(default_factory=list)
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.heads.append(f"{request.method} {request.path_qs} {dict(request.headers)}")
        await request.read()
        assert self.answer is not None
        return await self.answer(request)


@asynccontextmanager
async def serving(server: Server) -> AsyncIterator[Server]:
    app = web.Application(client_max_size=64 * MIB)
    app.router.add_route("*", "/{path:.*}", server.serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


async def opened(kind: str, url: str) -> ArchiveBackend:
    """Open an archive of a kind at a server, with credentials whose traces can be found."""
    match kind:
        case "s3":
            settings = S3(bucket="contracts", endpoint=url, force_path_style=True, credentials_secret_ref=REF)
            keys = {"accessKeyId": b"KEY", "secretAccessKey": b"s", "sessionToken": b"SESSION-TOKEN"}
            return await open_backend("dms", ArchiveSpec(s3=settings), keys)
        case "azblob":
            azure = AzureBlob(container="contracts", endpoint=url, credentials_secret_ref=REF)
            keys = {"accountName": b"acme", "accountKey": base64.b64encode(b"key")}
            return await open_backend("dms", ArchiveSpec(azblob=azure), keys)
        case _:
            account = {"gcs_base_url": url, "client_email": "a@acme.example", "private_key_id": "1"}
            key = json.dumps({**account, "private_key": rsa_private_pem()})
            gcs = GoogleCloudStorage(bucket="contracts", credentials_secret_ref=REF)
            return await open_backend("dms", ArchiveSpec(gcs=gcs), {"serviceAccountJson": key.encode()})


async def do(backend: ArchiveBackend, operation: str) -> None:
    """Carry out an operation."""
    match operation:
        case "read":
            await read_back(backend, "a/contract.pdf")
        case "entries":
            await backend.entries("a")
        case "discard":
            await backend.discard("a/contract.pdf")
        case "probe":
            await backend.probe()
        case "put":
            await backend.put("a/b.pdf", once(b"%PDF-document"), tags={}, content_type=None)
        case _:
            await backend.put("a/b.pdf", once(b"x" * (6 * MIB)), tags={}, content_type=None)


# -- Redirects -----------------------------------------------------------------------------------------------


@pytest.mark.xfail(strict=True, reason="object stores follow redirects")
@pytest.mark.parametrize("status", [302, 307])
@pytest.mark.parametrize("operation", ["read", "put"])
@pytest.mark.parametrize("kind", KINDS)
async def test_no_redirect_is_followed_and_no_foreign_bytes_count(
    kind: str, operation: str, status: int
) -> None:
    async def foreign_bytes(request: web.Request) -> web.StreamResponse:
        return web.Response(body=b"%PDF-document", headers={"ETag": '"e"'})

    async def redirect(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, headers={"Location": f"{foreign.url}{request.path_qs}"})

    async with AsyncExitStack() as stack:
        foreign = await stack.enter_async_context(serving(Server(answer=foreign_bytes)))
        site = await stack.enter_async_context(serving(Server(answer=redirect)))
        backend = await opened(kind, site.url)
        with pytest.raises(ArchiveError) as refused:
            await do(backend, operation)
        await backend.close()

    assert foreign.heads == []
    assert site.heads != []
    assert refused.value.reason in {"ArchiveRedirects", "ArchiveRegionWrong"}
    assert foreign.url not in str(refused.value)

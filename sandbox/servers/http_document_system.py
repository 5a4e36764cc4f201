"""
A small document system on loopback that takes files as docs/archives.md asks of a system behind an ``http``
archive.

It is what somebody who connects an own system can start from: it checks signatures and idempotency keys,
keeps a file under no name until it is concluded, and returns it at the address that it reported.
"""

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aiohttp import web

from sandbox.controlplane.folders import owned_folder

CHUNK_SIZE = 1024 * 1024


@dataclass
class DocumentSystemFile:
    """A file of the system, concluded or not."""

    key: str
    name: str
    path: Path
    size: int
    sha256: str
    fields: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


@dataclass
class DocumentSystem:
    """A running system. ``filed`` are its files by name; ``serves_downloads`` tells whether it gives them
    back."""

    folder: Path
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    token: str = field(default_factory=lambda: secrets.token_hex(16))
    serves_downloads: bool = True
    port: int = 0
    filed: dict[str, DocumentSystemFile] = field(default_factory=dict)
    uploads: dict[str, DocumentSystemFile] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Address that files are sent to."""
        return f"http://127.0.0.1:{self.port}/inbox"

    @property
    def signing_secret(self) -> str:
        """As the Secret of the Archive has it."""
        return "whsec_" + base64.b64encode(self.secret).decode()

    def routes(self) -> list[web.RouteDef]:
        """Return what it answers."""
        return [
            web.post("/inbox", self._receive),
            web.get("/documents/{id}", self._download),
            web.delete("/documents/{id}", self._remove),
            web.get("/inbox/{name:.+}", self._download_by_name),
            web.delete("/inbox/{name:.+}", self._remove_by_name),
            # A text, as aiohttp answers itself, could be of a proxy.
            web.route("*", "/{path:.*}", self._nothing),
        ]

    async def _receive(self, request: web.Request) -> web.Response:
        if "Counterfoil-File" in request.headers:
            return await self._upload(request)
        body = await request.read()
        self._check(request, body)
        message = json.loads(body)
        return web.Response() if message["type"] == "counterfoil.probe" else self._conclude(message["data"])

    async def _upload(self, request: web.Request) -> web.Response:
        described = request.headers["Counterfoil-File"]
        self._check(request, described.encode())
        facts = json.loads(base64.urlsafe_b64decode(described))
        path = self.folder / secrets.token_hex(16)
        fields: dict[str, str] = {}
        digest, size = hashlib.sha256(), 0
        with path.open("wb") as file:
            async for piece in self._pieces(request, fields):
                file.write(piece)
                digest.update(piece)
                size += len(piece)
        key = request.headers["Idempotency-Key"]
        upload = DocumentSystemFile(key, facts["name"], path, size, digest.hexdigest(), fields)
        self.uploads[request.headers["webhook-id"]] = upload
        return web.Response(status=202)

    async def _pieces(self, request: web.Request, fields: dict[str, str]) -> AsyncIterator[bytes]:
        if not request.content_type.startswith("multipart/"):
            async for piece in request.content.iter_chunked(CHUNK_SIZE):
                yield piece
            return
        async for part in await request.multipart():
            if part.name == "file":  # type: ignore[union-attr]  # nested forms are not sent
                while piece := await part.read_chunk(CHUNK_SIZE):  # type: ignore[union-attr]
                    yield piece
            else:
                fields[part.name] = await part.text()  # type: ignore[union-attr,index]

    def _conclude(self, data: dict[str, Any]) -> web.Response:
        upload = self.uploads.pop(data["upload"], None)
        if upload is None or (upload.size, upload.sha256) != (data["size"], data["sha256"]):
            return web.Response(status=422)
        before = self.filed.get(upload.name)
        if before is not None and before.key != upload.key:
            return web.Response(status=409)
        upload.tags = data["tags"]
        self.filed[upload.name] = upload
        answer = {"location": f"/documents/{upload.path.name}", "sha256": upload.sha256}
        return web.json_response(answer if self.serves_downloads else {"sha256": upload.sha256})

    async def _nothing(self, request: web.Request) -> web.Response:
        return web.Response(status=404)

    async def _download(self, request: web.Request) -> web.StreamResponse:
        return await self._answered(request, self._by_id(request))

    async def _download_by_name(self, request: web.Request) -> web.StreamResponse:
        return await self._answered(request, self.filed.get(request.match_info["name"]))

    async def _answered(self, request: web.Request, stored: DocumentSystemFile | None) -> web.StreamResponse:
        self._check_bodiless(request)
        if not self.serves_downloads:
            return web.Response(status=405)
        return web.Response(status=404) if stored is None else web.FileResponse(stored.path)

    async def _remove(self, request: web.Request) -> web.Response:
        return self._removed(request, self._by_id(request))

    async def _remove_by_name(self, request: web.Request) -> web.Response:
        return self._removed(request, self.filed.get(request.match_info["name"]))

    def _removed(self, request: web.Request, stored: DocumentSystemFile | None) -> web.Response:
        self._check_bodiless(request)
        if stored is None:
            return web.Response(status=404)
        del self.filed[stored.name]
        return web.Response(status=204)

    def _by_id(self, request: web.Request) -> DocumentSystemFile | None:
        return next(
            (each for each in self.filed.values() if each.path.name == request.match_info["id"]), None
        )

    def _check_bodiless(self, request: web.Request) -> None:
        """Refuse a signature of another method or target; ``raw_path`` is the target as it was sent."""
        self._check(request, f"{request.method} {request.raw_path}".encode())

    def _check(self, request: web.Request, payload: bytes) -> None:
        """Refuse a client without the secret. Your own system also refuses an old timestamp."""
        signed = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode() + payload
        wanted = "v1," + base64.b64encode(hmac.new(self.secret, signed, hashlib.sha256).digest()).decode()
        given = request.headers.get("webhook-signature", "")
        token = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given, wanted) or token != f"Bearer {self.token}":
            raise web.HTTPUnauthorized(headers={"WWW-Authenticate": "Bearer"})


@asynccontextmanager
async def document_system(*, serves_downloads: bool = True) -> AsyncIterator[DocumentSystem]:
    """Run a system in this process."""
    with owned_folder("counterfoil-dms-") as folder:
        content = folder / "content"
        content.mkdir()
        system = DocumentSystem(content, serves_downloads=serves_downloads)
        application = web.Application()
        application.add_routes(system.routes())
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        system.port = runner.addresses[0][1]
        try:
            yield system
        finally:
            await runner.cleanup()


def location_of(url: str, name: str) -> str:
    """Return the address that a name has by default."""
    return f"{url}/{quote(name)}"

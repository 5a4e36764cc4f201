"""
A second real S3 server on loopback: the Versity S3 Gateway over a folder, with its own keys.

It knows what ``rclone serve s3`` does not: object tags, versions of objects, Object Lock, and buckets in the
host name.
"""

import hashlib
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote
from xml.etree import ElementTree

import httpx

from counterfoil.archives.backends._object_store.sigv4 import SigningCredentials, signed
from sandbox.controlplane import binaries
from sandbox.controlplane.folders import owned_folder
from sandbox.controlplane.ports import free_port
from sandbox.controlplane.processes import ServerProcess
from sandbox.servers.plain_http import plain_http
from sandbox.servers.readiness import wait_until_listening

DOMAIN = "s3.acme.example"
"""Domain whose subdomains are buckets; no resolver knows it."""

REGION = "eu-central-1"
READY_SECONDS = 60.0


@dataclass(frozen=True)
class VersityServer:
    """A running server without buckets."""

    port: int
    access_key: str = field(default_factory=lambda: f"AK{secrets.token_hex(9).upper()}")
    secret_key: str = field(default_factory=lambda: secrets.token_hex(20), repr=False)

    @property
    def url(self) -> str:
        """Its endpoint."""
        return f"http://127.0.0.1:{self.port}"

    async def make_bucket(self, name: str, *, locking: bool = False) -> None:
        """Make a bucket, with versions and Object Lock if it is ``locking``. Raises
        ``httpx.HTTPStatusError``."""
        headers = {"x-amz-bucket-object-lock-enabled": "true"} if locking else {}
        (await self.ask("PUT", name, headers=headers)).raise_for_status()

    async def tags(self, bucket: str, name: str) -> dict[str, str]:
        """Return the tags of an object. Raises ``httpx.HTTPStatusError``."""
        answer = (await self.ask("GET", f"{bucket}/{quote(name)}?tagging")).raise_for_status()
        found = ElementTree.fromstring(answer.text)  # noqa: S314 - from our server
        return {
            tag.findtext("{*}Key", ""): tag.findtext("{*}Value", "") for tag in found.iterfind(".//{*}Tag")
        }

    async def ask(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, content: bytes = b""
    ) -> httpx.Response:
        """Send a request as the owner of everything; ``path`` is percent-encoded, perhaps with a query."""
        url = f"{self.url}/{path}"
        key = SigningCredentials(self.access_key, self.secret_key, None, REGION)
        payload = hashlib.sha256(content).hexdigest()
        sent = signed(key, method, url, headers=headers or {}, payload=payload, now=datetime.now(UTC))
        async with plain_http() as http:
            return await http.request(method, url, headers=sent, content=content)


@asynccontextmanager
async def versity_server() -> AsyncIterator[VersityServer]:
    """Run a server over a temporary folder. Raises ``ServerNotListening``."""
    program = (await binaries.ensure("versitygw")).path("versitygw")
    running = VersityServer(free_port())
    with owned_folder("counterfoil-versity-") as base:
        for folder in ("content", "versions", "metadata"):
            (base / folder).mkdir()
        argv: list[object] = [program, "--port", f"127.0.0.1:{running.port}", "--region", REGION]
        argv += ["--virtual-domain", DOMAIN, "--quiet"]
        # Metadata as extended attributes would be too long for ext4 from some 300 parts of an object on.
        argv += ["posix", "--versioning-dir", base / "versions", "--sidecar", base / "metadata"]
        argv += [base / "content"]
        keys = {"ROOT_ACCESS_KEY": running.access_key, "ROOT_SECRET_KEY": running.secret_key}
        server = ServerProcess(argv, log=base / "versity.log", environment={**os.environ, **keys})
        try:
            await wait_until_listening(server, running.port, name="versitygw", within=READY_SECONDS)
            yield running
        finally:
            await server.terminate(patience=5)

"""
A real server of Azure Blob Storage on loopback: Microsoft's Azurite, in memory, with the account that it
always has.

Needs Node.js and npm, which are installed where that may be done. The packages are installed on the first use
and kept in the user's cache folder; ``python -m sandbox.servers azurite`` does that beforehand.
"""

import base64
import hashlib
import hmac
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

import httpx

from sandbox.controlplane.folders import owned_folder
from sandbox.controlplane.ports import free_port
from sandbox.controlplane.processes import ServerProcess
from sandbox.packages import debian, npm
from sandbox.servers.plain_http import plain_http
from sandbox.servers.readiness import wait_until_listening

ACCOUNT = "devstoreaccount1"
# The key of Azurite's only account, which is the same everywhere and public.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

MAIN = Path("node_modules/azurite/dist/src/blob/main.js")
READY_SECONDS = 60.0


@dataclass(frozen=True)
class Azurite:
    """A running server."""

    port: int

    @property
    def url(self) -> str:
        """The endpoint of its account."""
        return f"http://127.0.0.1:{self.port}/{ACCOUNT}"

    async def make_container(self, name: str) -> None:
        """Make a container. Raises ``httpx.HTTPStatusError``."""
        await self._ask("PUT", name, "restype", "container")

    async def tags(self, container: str, name: str) -> dict[str, str]:
        """Return the index tags of a blob. Raises ``httpx.HTTPStatusError``."""
        answer = await self._ask("GET", f"{container}/{quote(name)}", "comp", "tags")
        # From our server; Azure's responses begin with a byte order mark.
        found = ElementTree.fromstring(answer.content.decode("utf-8-sig"))  # noqa: S314
        return {tag.findtext("Key", ""): tag.findtext("Value", "") for tag in found.iter("Tag")}

    async def _ask(self, method: str, path: str, key: str, value: str) -> httpx.Response:
        """Send a request without a body and with one parameter, signed by the account's key."""
        headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
        lines = [
            *(method, *[""] * 11),
            *(f"{name}:{text}" for name, text in headers.items()),
            f"/{ACCOUNT}/{ACCOUNT}/{path}",
            f"{key}:{value}",
        ]
        signature = hmac.new(base64.b64decode(KEY), "\n".join(lines).encode(), hashlib.sha256).digest()
        headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(signature).decode()}"
        async with plain_http() as http:
            answer = await http.request(method, f"{self.url}/{path}?{key}={value}", headers=headers)
        return answer.raise_for_status()


@asynccontextmanager
async def azurite() -> AsyncIterator[Azurite]:
    """Run a server. Raises ``ServerNotListening``, and as ``installed``."""
    folder = await installed()
    port = free_port()
    with owned_folder("counterfoil-azurite-") as base:
        argv: list[object] = [
            await debian.program("node", "nodejs"),
            folder / MAIN,
            "--inMemoryPersistence",
            "--silent",
            "--disableTelemetry",
        ]
        argv += ["--blobHost", "127.0.0.1", "--blobPort", str(port)]
        server = ServerProcess(argv, log=base / "azurite.log", environment=os.environ)
        try:
            await wait_until_listening(server, port, name="Azurite", within=READY_SECONDS)
            yield Azurite(port)
        finally:
            server.kill()


async def installed() -> Path:
    """Return the folder with its packages, installed if they are not. Raises as ``npm.installed``."""
    return await npm.installed("azurite")

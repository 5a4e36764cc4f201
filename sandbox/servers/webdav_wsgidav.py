"""
A second real WebDAV server on loopback: WsgiDAV over a folder, as a separate process, with a login.

It keeps properties, which ``rclone serve webdav`` does not, and is another implementation of locks.
"""

import os
import secrets
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import httpx

from sandbox.controlplane.folders import owned_folder
from sandbox.controlplane.ports import free_port
from sandbox.controlplane.processes import ServerProcess
from sandbox.servers.plain_http import plain_http
from sandbox.servers.readiness import wait_until_listening

USERNAME = "counterfoil"
READY_SECONDS = 60.0


@dataclass(frozen=True)
class WsgidavServer:
    """A running server and the login that it takes."""

    folder: Path
    port: int
    username: str = USERNAME
    password: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)

    @property
    def url(self) -> str:
        """The address of its root."""
        return f"http://127.0.0.1:{self.port}"

    async def ask(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        """Do something at the server as anybody with its login can. Raises ``httpx.HTTPStatusError``."""
        async with plain_http(auth=(self.username, self.password)) as http:
            answer = await http.request(method, f"{self.url}/{path}", headers=headers, content=content)
        return answer.raise_for_status()

    async def properties(self, path: str, namespace: str) -> dict[str, str]:
        """Return the properties that a file has in a namespace; ``path`` is percent-encoded."""
        answer = await self.ask("PROPFIND", path, headers={"Depth": "0"})
        found = ElementTree.fromstring(answer.text)  # noqa: S314 - from our server
        start = f"{{{namespace}}}"
        return {
            each.tag.removeprefix(start): each.text or ""
            for each in found.iter()
            if each.tag.startswith(start)
        }


@asynccontextmanager
async def wsgidav_server() -> AsyncIterator[WsgidavServer]:
    """Run a server over a temporary folder. Raises ``ServerNotListening``."""
    with owned_folder("counterfoil-wsgidav-") as base:
        (base / "content").mkdir()
        running = WsgidavServer(base / "content", free_port())
        environment = {
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "DAV_PASSWORD": running.password,
        }
        argv = [sys.executable, "-m", "sandbox.servers.webdav_wsgidav", running.port, running.folder]
        server = ServerProcess(argv, log=base / "wsgidav.log", environment=environment)
        try:
            await wait_until_listening(server, running.port, name="WsgiDAV", within=READY_SECONDS)
            yield running
        finally:
            server.kill()


def serve(port: int, folder: str, password: str) -> None:
    """Serve until this process ends."""
    # Only this process needs them, and they take a while to load.
    from cheroot import wsgi  # noqa: PLC0415
    from wsgidav.wsgidav_app import (  # type: ignore[import-untyped]  # noqa: PLC0415 - it ships no types
        WsgiDAVApp,
    )

    application = WsgiDAVApp(
        {
            "provider_mapping": {"/": folder},
            "simple_dc": {"user_mapping": {"*": {USERNAME: {"password": password}}}},
            "http_authenticator": {
                "accept_basic": True,
                "accept_digest": False,
                "default_to_digest": False,
            },
            "property_manager": True,
            "lock_storage": True,
            "dir_browser": {"enable": False},
            "verbose": 1,
        }
    )
    wsgi.Server(("127.0.0.1", port), application, numthreads=16).start()


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2], os.environ["DAV_PASSWORD"])

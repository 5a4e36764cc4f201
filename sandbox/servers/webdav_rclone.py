"""
A real WebDAV server on loopback: ``rclone serve webdav`` over a folder, with its own login.

It keeps no properties, as many servers don't: code that relies on tags in them fails here.
"""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sandbox.servers.plain_http import plain_http
from sandbox.servers.rclone import RcloneServer, rclone_server

USERNAME = "counterfoil"


@dataclass(frozen=True)
class RcloneWebdavServer:
    """A running server and the login that it takes."""

    rclone: RcloneServer
    username: str
    password: str

    @property
    def url(self) -> str:
        """The address of its root."""
        return f"http://127.0.0.1:{self.rclone.port}"

    async def ask(self, method: str, path: str, content: bytes | None = None) -> None:
        """Change something on the server as anybody with its login can. Raises ``httpx.HTTPStatusError``."""
        async with plain_http(auth=(self.username, self.password)) as http:
            answer = await http.request(method, f"{self.url}/{path}", content=content)
            answer.raise_for_status()


@asynccontextmanager
async def rclone_webdav_server(*flags: str) -> AsyncIterator[RcloneWebdavServer]:
    """Run a server over a temporary folder; ``flags`` are further ones of rclone's."""
    password = secrets.token_hex(16)
    async with rclone_server("webdav", f"--user={USERNAME}", f"--pass={password}", *flags) as rclone:
        yield RcloneWebdavServer(rclone, USERNAME, password)

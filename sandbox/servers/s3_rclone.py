"""
A real S3 server on loopback: ``rclone serve s3`` over a folder, with its own keys.

It can be stopped and started again on the same port with the same content, for tests of an archive that goes
away. It ignores conditional creates (If-None-Match), as some real ones do: code that relies on them alone
fails here.
"""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from sandbox.controlplane import binaries
from sandbox.controlplane.folders import owned_folder
from sandbox.controlplane.ports import free_port
from sandbox.controlplane.processes import ServerProcess
from sandbox.servers.plain_http import plain_http

READY_SECONDS = 60.0
TIMEOUT_SECONDS = 5.0


class S3ServerError(RuntimeError):
    """The server did not start; the message has the end of its log."""


@dataclass
class S3Server:
    """A running server; a bucket is a folder below ``folder``."""

    program: Path
    folder: Path
    logs: Path
    port: int
    access_key: str = field(default_factory=lambda: f"AK{secrets.token_hex(9).upper()}")
    secret_key: str = field(default_factory=lambda: secrets.token_hex(20), repr=False)
    _server: ServerProcess | None = None

    @property
    def url(self) -> str:
        """Its endpoint."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start it, and wait until it answers. Raises ``S3ServerError``."""
        argv = [
            self.program,
            "serve",
            "s3",
            f"--addr=127.0.0.1:{self.port}",
            f"--auth-key={self.access_key},{self.secret_key}",
            "--config=/dev/null",
            f"--cache-dir={self.logs / 'cache'}",
            self.folder,
        ]
        self._server = ServerProcess(argv, log=self.logs / "s3.log", environment=os.environ)
        try:
            async with asyncio.timeout(READY_SECONDS), plain_http() as http:
                while not await self._answers(http):  # noqa: ASYNC110 - another process gives no event to wait for
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise S3ServerError(f"the S3 server did not start:\n{self._server.log_tail()}") from None

    async def stop(self) -> None:
        """Stop it; content, keys and port stay for another ``start``."""
        if self._server is not None and not self._server.ended:
            await self._server.terminate(patience=TIMEOUT_SECONDS)

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        if self._server is not None:
            self._server.kill()

    async def _answers(self, http: httpx.AsyncClient) -> bool:
        if self._server is not None and self._server.ended:
            raise S3ServerError(f"the S3 server ended at once:\n{self._server.log_tail()}")
        try:
            await http.get(self.url)
        except httpx.TransportError:
            return False
        return True


@asynccontextmanager
async def s3_server(*, buckets: Iterable[str] = ("contracts",)) -> AsyncIterator[S3Server]:
    """Run a server with these buckets over a temporary folder."""
    program = (await binaries.ensure("rclone")).path("rclone")
    with owned_folder("counterfoil-s3-") as folder:
        (folder / "content").mkdir()
        for bucket in buckets:
            (folder / "content" / bucket).mkdir()
        server = S3Server(program, folder / "content", folder, free_port())
        await server.start()
        try:
            yield server
        finally:
            await server.stop()

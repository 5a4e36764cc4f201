"""
Real servers of archives on loopback: ``rclone serve`` over a folder, by the protocol that is asked for.

A server stores plain files in ``folder``, which tests read directly. To change something there is no use:
rclone remembers its listings. A server can be stopped and started again on the same port with the same
content.
"""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from sandbox.controlplane import binaries
from sandbox.controlplane.folders import owned_folder
from sandbox.controlplane.ports import free_port
from sandbox.controlplane.processes import ServerProcess
from sandbox.servers.readiness import wait_until_listening

READY_SECONDS = 60.0
TIMEOUT_SECONDS = 5.0


@dataclass
class RcloneServer:
    """A running server of one protocol; ``flags`` say who may come in."""

    program: Path
    protocol: str
    flags: Sequence[str]
    folder: Path
    logs: Path
    port: int
    _server: ServerProcess | None = None

    async def start(self) -> None:
        """Start it, and wait until it listens. Raises ``ServerNotListening``."""
        argv = [
            self.program,
            "serve",
            self.protocol,
            f"--addr=127.0.0.1:{self.port}",
            *self.flags,
            "--config=/dev/null",
            f"--cache-dir={self.logs / 'cache'}",
            self.folder,
        ]
        log = self.logs / f"{self.protocol}.log"
        self._server = ServerProcess(argv, log=log, environment=os.environ)
        await wait_until_listening(self._server, self.port, name="rclone", within=READY_SECONDS)

    async def stop(self) -> None:
        """Stop it; content and port stay for another ``start``."""
        if self._server is not None and not self._server.ended:
            await self._server.terminate(patience=TIMEOUT_SECONDS)

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        if self._server is not None:
            self._server.kill()


@asynccontextmanager
async def rclone_server(protocol: str, *flags: str) -> AsyncIterator[RcloneServer]:
    """Run a server over a temporary folder."""
    program = (await binaries.ensure("rclone")).path("rclone")
    with owned_folder(f"counterfoil-{protocol}-") as base:
        (base / "content").mkdir()
        server = RcloneServer(program, protocol, flags, base / "content", base, free_port())
        await server.start()
        try:
            yield server
        finally:
            await server.stop()

"""
One process of Counterfoil on this machine: receiver, controller, pages or console.

It gets its settings as environment variables, and listens on free loopback ports. Its log is kept in a file;
nothing reads it meanwhile, so that a full pipe can never block it. It ends with the process that started it.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from sandbox.controlplane.ports import free_port
from sandbox.controlplane.processes import ServerProcess
from sandbox.environment.fork_server import start_of
from sandbox.servers.plain_http import plain_http
from sandbox.servers.readiness import wait_until_listening

REPOSITORY = Path(__file__).parents[2]
READY_SECONDS = 60.0
TIMEOUT_SECONDS = 60.0


class ProcessNotReady(RuntimeError):
    """A process did not become ready; the message has the end of its log."""


@dataclass
class CounterfoilProcess:
    """One running process of Counterfoil."""

    name: str
    argv: list[str]
    environment: dict[str, str]
    log: Path
    public_port: int
    private_port: int
    _server: ServerProcess | None = None

    @classmethod
    def of(
        cls,
        module: Sequence[str],
        *,
        kubeconfig: Path,
        namespace: str,
        log: Path,
        settings: Mapping[str, str],
    ) -> "CounterfoilProcess":
        """
        Return a process that is not started yet, on two free ports; it is named for its log.

        ``settings`` are the flags in snake case, as in ``{"callback_rate": "100"}``.
        """
        public_port, private_port = free_port(), free_port()
        environment = {key: value for key, value in os.environ.items() if not key.startswith("COUNTERFOIL_")}
        environment |= {
            "KUBECONFIG": str(kubeconfig),
            "COUNTERFOIL_NAMESPACE": namespace,
            "COUNTERFOIL_LISTEN": f"127.0.0.1:{public_port}",
            "COUNTERFOIL_PRIVATE_LISTEN": f"127.0.0.1:{private_port}",
            "PYTHONPATH": str(REPOSITORY),
            # All servers of this machine are there.
            "COUNTERFOIL_ALLOW_LOOPBACK": "true",
            **{f"COUNTERFOIL_{key.upper()}": value for key, value in settings.items()},
        }
        return cls(log.stem, [sys.executable, "-m", *module], environment, log, public_port, private_port)

    @property
    def public(self) -> str:
        """The address of the public side."""
        return f"http://127.0.0.1:{self.public_port}"

    @property
    def private(self) -> str:
        """The address of health and metrics."""
        return f"http://127.0.0.1:{self.private_port}"

    async def start(self) -> None:
        """Start it and wait until it says that it is ready. Raises ``ProcessNotReady``."""
        self.start_unready()
        await self.until_ready()

    def start_unready(self) -> None:
        """Start it, and do not wait."""
        start = start_of(self.argv, self.environment)
        self._server = ServerProcess(self.argv, log=self.log, environment=self.environment, start=start)

    async def until_listening(self) -> None:
        """Wait until it listens on both ports. Raises ``ServerNotListening``."""
        for port in (self.public_port, self.private_port):
            await wait_until_listening(self.server, port, name=self.name, within=READY_SECONDS)

    async def until_ready(self) -> None:
        """Wait until it says that it is ready. Raises ``ProcessNotReady``."""
        try:
            async with asyncio.timeout(READY_SECONDS), plain_http() as http:
                while not await self._is_ready(http):  # noqa: ASYNC110 - another process gives no event to wait for
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise ProcessNotReady(f"{self.name} did not become ready:\n{self.server.log_tail()}") from None

    async def _is_ready(self, http: httpx.AsyncClient) -> bool:
        if self.server.ended:
            raise ProcessNotReady(f"{self.name} ended at once:\n{self.server.log_tail()}")
        try:
            return (await http.get(f"{self.private}/readyz")).status_code == 200
        except httpx.TransportError:
            return False

    @property
    def server(self) -> ServerProcess:
        """The running program."""
        if self._server is None:
            raise ProcessNotReady(f"{self.name} was never started")
        return self._server

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.server.pid

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        self.server.kill()

    async def stop(self) -> int | None:
        """End it in order (SIGTERM); return its exit code, or None if it was never started."""
        if self._server is None:
            return None
        if not self._server.ended:
            await self._server.terminate(patience=TIMEOUT_SECONDS)
        return self._server.exit_code

    async def metrics(self) -> str:
        """Return what /metrics says."""
        async with plain_http() as http:
            return (await http.get(f"{self.private}/metrics")).text


@asynccontextmanager
async def running_receiver(
    *, kubeconfig: Path, namespace: str, log: Path, settings: Mapping[str, str]
) -> AsyncIterator[CounterfoilProcess]:
    """
    Run a receiver and nothing else; it listens, and need not be ready.

    Raises ``ServerNotListening``.
    """
    receiver = CounterfoilProcess.of(
        ["webhook", "receiver"], kubeconfig=kubeconfig, namespace=namespace, log=log, settings=settings
    )
    receiver.start_unready()
    try:
        await receiver.until_listening()
        yield receiver
    finally:
        receiver.kill()

"""
A way from this machine to a Service of the cluster: ``kubectl port-forward``, begun again whenever it broke.
"""

import asyncio
import re
from pathlib import Path

import httpx

from sandbox.controlplane.kubectl import Kubectl
from sandbox.controlplane.processes import ServerProcess, bare_environment

TIMEOUT = 60.0  # seconds until there is a way
INTERVAL = 0.1  # seconds between looks
READY = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")


class PortForwardError(Exception):
    """There is no way to the Service; the message has the end of kubectl's log."""


class PortForward:
    """The way to one HTTP Service. It ends with the process that began it, or by ``close``."""

    def __init__(self, kubectl: Kubectl, namespace: str, service: str, port: int, *, log: Path) -> None:
        self._argv = [
            kubectl.program,
            f"--kubeconfig={kubectl.kubeconfig}",
            f"--namespace={namespace}",
            "port-forward",
            "--address=127.0.0.1",
            f"service/{service}",
            f":{port}",
        ]
        self._home = kubectl.home
        self._log = log
        self._server: ServerProcess | None = None

    async def url(self) -> str:
        """Return an address on loopback that leads to the Service now. Raises ``PortForwardError``."""
        try:
            async with asyncio.timeout(TIMEOUT):
                while (url := await self._working()) is None:  # noqa: ASYNC110 - another process gives no event to wait for
                    await asyncio.sleep(INTERVAL)
                return url
        except TimeoutError:
            words = self._server.log_tail() if self._server else ""
            raise PortForwardError(f"no way to {self._argv[-2]}:\n{words}") from None

    def close(self) -> None:
        """End it."""
        if self._server is not None:
            self._server.kill()
            self._server = None

    async def _working(self) -> str | None:
        if self._server is None or self._server.ended:
            self._begin()
            return None
        found = READY.search(self._log.read_text())
        if found is None:
            return None
        url = f"http://127.0.0.1:{found[1]}"
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=10) as http:
                await http.get(url)
        except httpx.TransportError:
            # kubectl stays when the pod it led to is gone.
            self.close()
            return None
        return url

    def _begin(self) -> None:
        self._log.write_text("")
        self._server = ServerProcess(
            self._argv, log=self._log, environment={**bare_environment(), "HOME": str(self._home)}
        )

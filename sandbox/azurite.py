"""
A real server of Azure Blob Storage on loopback: Microsoft's Azurite, in memory, with the account that it always has.

Needs Node.js and npm. The packages are installed on the first use, from the lock file beside this module, and kept in
the user's cache folder.
"""

import asyncio
import base64
import hashlib
import hmac
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

import httpx

from sandbox.controlplane.binaries import cache_folder
from sandbox.controlplane.ports import free_port
from sandbox.controlplane.processes import Server, run

ACCOUNT = "devstoreaccount1"
# The key of Azurite's only account, which is the same everywhere and public.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

LOCK = Path(__file__).parent / "npm" / "azurite"
MAIN = Path("node_modules/azurite/dist/src/blob/main.js")
READY_SECONDS = 30.0


class AzuriteError(RuntimeError):
    """It can't be installed, or did not start."""


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
        headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
        lines = [
            *("PUT", *[""] * 11),
            *(f"{key}:{value}" for key, value in headers.items()),
            f"/{ACCOUNT}/{ACCOUNT}/{name}",
            "restype:container",
        ]
        signature = hmac.new(base64.b64decode(KEY), "\n".join(lines).encode(), hashlib.sha256).digest()
        headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(signature).decode()}"
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.put(f"{self.url}/{name}?restype=container", headers=headers)
            answer.raise_for_status()


@asynccontextmanager
async def azurite() -> AsyncIterator[Azurite]:
    """Run a server. Raises ``AzuriteError``."""
    folder = await _installed()
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="counterfoil-azurite-") as base:
        argv: list[object] = [
            _program("node"),
            folder / MAIN,
            "--inMemoryPersistence",
            "--silent",
            "--disableTelemetry",
        ]
        argv += ["--blobHost", "127.0.0.1", "--blobPort", str(port)]
        server = Server(argv, log=Path(base) / "azurite.log", environment=os.environ)
        try:
            await _ready(server, port)
            yield Azurite(port)
        finally:
            server.kill()


async def _ready(server: Server, port: int) -> None:
    try:
        async with asyncio.timeout(READY_SECONDS):
            while not await _listens(server, port):  # noqa: ASYNC110 - another process gives no event to wait for
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AzuriteError(f"Azurite did not start:\n{server.last_words()}") from None


async def _listens(server: Server, port: int) -> bool:
    if server.ended:
        raise AzuriteError(f"Azurite ended at once:\n{server.last_words()}")
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def _installed() -> Path:
    """Return the folder with the packages that the lock file names."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise AzuriteError(
            "Azurite needs Node.js and npm (Debian: apt-get install nodejs npm); they are not here."
        )
    lock = (LOCK / "package-lock.json").read_bytes()
    folder = cache_folder() / "npm" / f"azurite-{hashlib.sha256(lock).hexdigest()[:16]}"
    if not (folder / MAIN).exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=folder.parent))
        try:
            for name in ("package.json", "package-lock.json"):
                shutil.copy(LOCK / name, unfinished)
            done = await run(
                [_program("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
                cwd=unfinished,
            )
            if done.code:
                raise AzuriteError(f"npm could not install Azurite:\n{done.err[-2000:]}")
            if not folder.exists():
                unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise AzuriteError(f"Azurite needs {name}, which is not here (Debian: apt-get install nodejs npm).")
    return path

"""
A real CMIS server on loopback: the in-memory server of Apache Chemistry OpenCMIS on jetty-runner.

Needs Java and Maven, which are installed where that may be done. Both archives come from Maven Central on the
first use and are kept in the user's cache folder; ``python -m sandbox.servers opencmis`` does that
beforehand. The server's two SOAP servlets are taken out, since they don't start on today's Java; what is left
is the AtomPub and the browser binding.
"""

import asyncio
import os
import re
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from sandbox.controlplane.folders import owned_folder
from sandbox.controlplane.ports import free_port
from sandbox.controlplane.processes import ServerProcess
from sandbox.packages import debian, maven
from sandbox.servers.plain_http import plain_http

OPENCMIS = "org.apache.chemistry.opencmis:chemistry-opencmis-server-inmemory:1.1.0:war"
JETTY = "org.eclipse.jetty:jetty-runner:9.4.57.v20241219"
REPOSITORY = "A1"
USERNAME, PASSWORD = "test", "test"
READY_SECONDS = 60.0

_SOAP = re.compile(r"<servlet>(?:(?!</servlet>).)*CmisWebServicesServlet.*?</servlet>", re.DOTALL)
_SOAP_MAPPING = re.compile(
    r"<servlet-mapping>\s*<servlet-name>cmisws[^<]*</servlet-name>.*?</servlet-mapping>", re.DOTALL
)


class CmisServerError(RuntimeError):
    """It did not start."""


@dataclass(frozen=True)
class CmisServer:
    """A running server with one empty repository."""

    port: int

    @property
    def url(self) -> str:
        """The address of its browser binding."""
        return f"http://127.0.0.1:{self.port}/cmis/browser"

    async def make_folder(self, name: str) -> None:
        """Make a folder in the root folder. Raises ``httpx.HTTPStatusError``."""
        fields = {"cmisaction": "createFolder", "propertyId[0]": "cmis:name", "propertyValue[0]": name}
        fields |= {"propertyId[1]": "cmis:objectTypeId", "propertyValue[1]": "cmis:folder"}
        async with plain_http(auth=(USERNAME, PASSWORD)) as http:
            (await http.post(f"{self.url}/{REPOSITORY}/root", data=fields)).raise_for_status()


@asynccontextmanager
async def cmis_server() -> AsyncIterator[CmisServer]:
    """Run a server. Raises ``CmisServerError``, ``MavenError``, ``PackagesMissing``."""
    folder = await fetched()
    port = free_port()
    with owned_folder("counterfoil-cmis-") as base:
        application = _unpacked(folder, base / "application")
        runner = next(folder.glob("jetty-runner-*.jar"))
        argv: list[object] = [await _java(), "-Xmx768m", f"-Djava.io.tmpdir={base}", "-jar", runner]
        argv += ["--host", "127.0.0.1", "--port", str(port), "--path", "/cmis", application]
        server = ServerProcess(argv, log=base / "jetty.log", environment=os.environ)
        try:
            await _ready(server, CmisServer(port))
            yield CmisServer(port)
        finally:
            server.kill()


async def _ready(server: ServerProcess, running: CmisServer) -> None:
    try:
        async with (
            asyncio.timeout(READY_SECONDS),
            plain_http(auth=(USERNAME, PASSWORD)) as http,
        ):
            while not await _answers(server, running, http):  # noqa: ASYNC110 - it gives no event to wait for
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise CmisServerError(f"the CMIS server did not start:\n{server.log_tail()}") from None


async def _answers(server: ServerProcess, running: CmisServer, http: httpx.AsyncClient) -> bool:
    if server.ended:
        raise CmisServerError(f"the CMIS server ended at once:\n{server.log_tail()}")
    try:
        return (await http.get(running.url)).status_code == 200
    except httpx.TransportError:
        return False


def _unpacked(folder: Path, application: Path) -> Path:
    """Unpack the application, without its SOAP servlets and with an empty repository."""
    with zipfile.ZipFile(next(folder.glob("*.war"))) as war:
        war.extractall(application)
    web = application / "WEB-INF" / "web.xml"
    web.write_text(_SOAP_MAPPING.sub("", _SOAP.sub("", web.read_text())))
    settings = application / "WEB-INF" / "classes" / "repository.properties"
    text = settings.read_text()
    # What is larger than 4 MiB goes through a temporary file, whose encryption does not work on today's Java.
    for name in ("RepositoryFiller.Enable", "InMemoryServer.EncryptTempFiles"):
        text = text.replace(f"{name}=true", f"{name}=false")
    settings.write_text(text)
    return application


async def fetched() -> Path:
    """
    Return the folder with the war of the server and the jar of jetty-runner; Java is there, too.

    Raises ``MavenError``, ``PackagesMissing``.
    """
    await _java()
    return await maven.fetched("opencmis-1.1.0-jetty-9.4.57", OPENCMIS, JETTY)


async def _java() -> str:
    return await debian.program("java", "default-jre-headless")

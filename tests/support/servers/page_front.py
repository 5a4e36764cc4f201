"""
A proxy, an ingress or a login page before an archive, which answers in its place.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from counterfoil.archives.backend import ArchiveBackend
from tests.support.archive_servers import open_at

PAGE = "<!doctype html>\n<html><body>default backend</body></html>"

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse | None]]


async def nothing(request: web.BaseRequest) -> web.StreamResponse | None:
    return None


@dataclass
class Front:
    """Answers with ``page`` what ``answer`` does not answer. It records its requests."""

    answer: Answer = nothing
    page: int = 404
    type: str = "text/html"
    url: str = ""
    requests: list[str] = field(default_factory=list)

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        self.requests.append(f"{request.method} {request.path}")
        found = await self.answer(request)
        return found or web.Response(status=self.page, text=PAGE, content_type=self.type)


@asynccontextmanager
async def opened(kind: str, front: Front) -> AsyncIterator[ArchiveBackend]:
    """Open an archive of a kind behind a front."""
    runner = web.ServerRunner(web.Server(front.serve, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    front.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    backend = await open_at(kind, front.url if kind != "webdav" else f"{front.url}/dms")
    try:
        yield backend
    finally:
        await backend.close()
        await runner.cleanup()


def listing(request: web.BaseRequest) -> web.Response:
    """A collection at the path of the request."""
    collection = "<resourcetype><collection/></resourcetype>"
    found = f"<response><href>{request.path}</href><propstat><prop>{collection}</prop></propstat></response>"
    return web.Response(status=207, text=f'<multistatus xmlns="DAV:">{found}</multistatus>')

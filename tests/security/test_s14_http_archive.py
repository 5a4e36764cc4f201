"""S14: use the signature of one request to a document system for another request."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from counterfoil.archives import open_backend
from counterfoil.archives.backend import FileNotStored
from counterfoil.archives.filing import store
from sandbox.servers.http_document_system import DocumentSystem, document_system
from sandbox.servers.plain_http import plain_http
from tests.support.fakes.archives import a_layout, a_source, content, files_named
from tests.support.scenes.archive_fixtures import an_http_spec, login_of


@asynccontextmanager
async def a_listener() -> AsyncIterator[tuple[str, list[web.Request]]]:
    """A server in the middle that keeps each request, and answers that there is no file."""
    requests: list[web.Request] = []

    async def keep(request: web.Request) -> web.Response:
        requests.append(request)
        return web.Response(status=404)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", keep)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/"), requests


async def signed_headers(system: DocumentSystem, name: str) -> dict[str, str]:
    """Listen to Counterfoil reading a file; return the headers that prove who asks."""
    async with a_listener() as (url, requests):
        backend = await open_backend("dms", an_http_spec(f"{url}/inbox"), login_of(system))
        with pytest.raises(FileNotStored):
            _ = [block async for block in backend.read(name)]
        await backend.close()
    kept = ("webhook-id", "webhook-timestamp", "webhook-signature", "authorization")
    return {name: requests[0].headers[name] for name in kept}


@pytest.mark.parametrize(
    ("method", "is_other_file"), [("DELETE", False), ("GET", True)], ids=["another method", "another file"]
)
async def test_a_signature_is_good_for_its_own_request_only(method: str, is_other_file: bool) -> None:
    first, second = a_layout(*files_named("one.pdf", "two.pdf")).files
    async with document_system() as system:
        backend = await open_backend("dms", an_http_spec(system.url), login_of(system))
        for file in (first, second):
            await store(backend, file, a_source(content(100)), tags={})
        headers = await signed_headers(system, first.name)
        target = second.name if is_other_file else first.name
        async with plain_http() as http:
            own = await http.request("GET", f"{system.url}/{first.name}", headers=headers)
            replayed = await http.request(method, f"{system.url}/{target}", headers=headers)

        assert (own.status_code, replayed.status_code) == (200, 401)
        assert {first.name, second.name} <= set(system.filed)

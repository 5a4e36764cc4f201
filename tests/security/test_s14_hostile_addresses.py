"""S14: a hostile archive names addresses that are none; each is an error of the archive, with a reason."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from counterfoil.archives import open_backend
from counterfoil.archives.backend import ArchiveBackend
from counterfoil.archives.errors import ArchiveError
from counterfoil.resources.archive import ArchiveSpec, Cmis, Http
from tests.support.archive_servers import HTTP_KINDS, OBJECT_STORES, open_at
from tests.support.fakes.archives import once

ADDRESSES = {
    "a control character": "{site}/a\x7fb",
    "a null character": "{site}/a\x00b",
    "longer than any address": "{site}/" + "a" * 70_000,
    "a bracket": "http://[::1/x",
    "no address in brackets": "http://[x]/x",
    "a port that can't be": "{site}0000000/x",
    "a port of letters": "http://127.0.0.1:port/x",
    "a host that is none in ASCII": "http://xn--\u2028.example/x",
    "half a pair of surrogates": "{site}/\ud800",
    "a user": "http://me@127.0.0.1/x",
    "a backslash": "http://127.0.0.1\\@evil.example/x",
    "an unknown scheme": "gopher://127.0.0.1/x",
}


@asynccontextmanager
async def answered(
    answer: Callable[[web.BaseRequest, str], web.StreamResponse],
) -> AsyncIterator[tuple[str, list[str]]]:
    """Run a server; yield its address and the paths that were requested."""
    paths: list[str] = []

    async def serve(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        paths.append(request.path)
        return answer(request, f"http://{request.host}")

    runner = web.ServerRunner(web.Server(serve, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", paths
    finally:
        await runner.cleanup()


async def file_document(backend: ArchiveBackend) -> None:
    """Probe an archive, file a document and read it back."""
    try:
        await backend.probe()
        await backend.put("a/b.pdf", once(b"x"), tags={}, content_type=None)
        async for _ in backend.read("a/b.pdf"):
            pass
    finally:
        await backend.close()


async def refused(spec: ArchiveSpec) -> str:
    """Return the reason of the first error of an archive."""
    return await refused_by(await open_backend("dms", spec, {}))


async def refused_by(backend: ArchiveBackend) -> str:
    with pytest.raises(ArchiveError) as found:
        await file_document(backend)
    return found.value.reason


@pytest.mark.parametrize("address", ADDRESSES.values(), ids=list(ADDRESSES))
async def test_a_system_that_names_no_address_as_the_place_of_a_file(address: str) -> None:
    def answer(request: web.BaseRequest, site: str) -> web.StreamResponse:
        if request.method == "POST":
            return web.Response(status=201, text=json.dumps({"location": address.format(site=site)}))
        return web.Response(status=201 if request.method == "PUT" else 404)

    async with answered(answer) as (site, _):
        reason = await refused(ArchiveSpec(http=Http(url=f"{site}/inbox")))
    assert reason in {"ArchiveAnswerUnreadable", "ArchiveLacksFeature", "ArchiveUnreachable"}


@pytest.mark.parametrize("field", ["rootFolderUrl", "repositoryUrl"])
@pytest.mark.parametrize("address", ADDRESSES.values(), ids=list(ADDRESSES))
async def test_a_repository_whose_address_is_none(address: str, field: str) -> None:
    def answer(request: web.BaseRequest, site: str) -> web.StreamResponse:
        urls = {"rootFolderUrl": f"{site}/root", "repositoryUrl": f"{site}/r"}
        urls[field] = address.format(site=site)
        return web.Response(text=json.dumps({"r": {"repositoryId": "r", **urls}}))

    async with answered(answer) as (site, _):
        reason = await refused(ArchiveSpec(cmis=Cmis(url=f"{site}/browser", repository_id="r")))
    assert reason in {"ArchiveAnswerUnreadable", "ArchiveRedirects", "ArchiveNotCmis"}


@pytest.mark.parametrize("kind", [each for each in HTTP_KINDS if each not in OBJECT_STORES])
@pytest.mark.parametrize("address", ADDRESSES.values(), ids=list(ADDRESSES))
async def test_a_redirect_to_an_address_that_is_none(address: str, kind: str) -> None:
    def answer(request: web.BaseRequest, site: str) -> web.StreamResponse:
        named = address.format(site=site)[:4000].encode("utf-8", "replace").decode("latin-1")
        return web.Response(status=307, headers={"Location": named.replace("\x00", "\x7f")})

    async with answered(answer) as (site, paths):
        reason = await refused_by(await open_at(kind, f"{site}/inbox"))
    assert reason in {"ArchiveRedirects", "ArchiveAnswerUnreadable", "ArchiveUnreachable"}
    assert all(path.startswith("/inbox") for path in paths)

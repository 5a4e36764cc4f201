"""A hostile archive server: each of its switches, seen from the client."""

import json
from collections.abc import AsyncIterator
from time import monotonic
from xml.etree import ElementTree as ET

import httpx
import pytest
from aiohttp import web

from sandbox.servers.hostile import HostileServer, doubled
from sandbox.servers.proxies import Passage, Proxy, Ticks

TRUE = b"0123456789"
LISTED = b'<ListBucketResult xmlns="http://s3.example/"><Name>b</Name><Contents><Key>a</Key></Contents></ListBucketResult>'


async def _answer(request: web.Request) -> web.Response:
    match request.path:
        case "/list":
            return web.Response(body=LISTED, content_type="application/xml")
        case "/missing":
            return web.Response(status=404)
    return web.Response(body=TRUE)


@pytest.fixture
async def hostile() -> AsyncIterator[HostileServer]:
    """A server that is still honest."""
    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", _answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with Proxy(f"http://127.0.0.1:{runner.addresses[0][1]}", ticks=Ticks()) as proxy:
        yield HostileServer(proxy)
    await runner.cleanup()


@pytest.fixture
async def client(hostile: HostileServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        base_url=hostile.proxy.url, timeout=0.5, trust_env=False, verify=False
    ) as client:
        yield client


def reads(passage: Passage) -> bool:
    return passage.method == "GET"


async def test_without_a_switch_the_server_is_honest(client: httpx.AsyncClient) -> None:
    answer = await client.get("/file")
    assert (answer.content, answer.headers["Content-Length"]) == (TRUE, "10")


async def test_it_sends_an_answer_a_byte_at_a_time(hostile: HostileServer, client: httpx.AsyncClient) -> None:
    hostile.trickles(reads, 0.02)
    began = monotonic()
    async with client.stream("GET", "/file") as answer:
        pieces = [each async for each in answer.aiter_raw()]
    assert b"".join(pieces) == TRUE
    assert len(pieces) > 1
    assert monotonic() - began >= 0.1


async def test_it_sends_an_answer_without_an_end(hostile: HostileServer, client: httpx.AsyncClient) -> None:
    trap = hostile.has_no_end(reads)
    seen = b""
    async with client.stream("GET", "/file") as answer:
        assert "Content-Length" not in answer.headers
        async for each in answer.aiter_raw():
            seen += each
            if len(seen) > 1_000_000:
                break
    assert seen.startswith(TRUE + bytes(1000))
    hostile.proxy.remove([trap])
    assert (await client.get("/file")).content == TRUE


@pytest.mark.parametrize(("after_bytes", "sent"), [(None, b""), (0, b""), (4, TRUE[:4])])
async def test_it_stops_and_keeps_the_connection(
    hostile: HostileServer, client: httpx.AsyncClient, after_bytes: int | None, sent: bytes
) -> None:
    hostile.hangs(reads, after_bytes)
    seen, end = b"", None
    try:
        async with client.stream("GET", "/file") as answer:
            async for each in answer.aiter_raw():
                seen += each
    except httpx.TransportError as error:
        end = error
    assert seen == sent
    assert isinstance(end, httpx.ReadTimeout)


async def test_it_redirects_to_another_host(hostile: HostileServer, client: httpx.AsyncClient) -> None:
    hostile.redirects(reads, "http://other.example/file")
    answer = await client.get("/file")
    assert (answer.status_code, answer.headers["Location"]) == (307, "http://other.example/file")


async def test_it_has_a_file_that_nobody_archived(hostile: HostileServer, client: httpx.AsyncClient) -> None:
    trap = hostile.plants("/missing", b"forged")
    assert (await client.get("/missing")).content == b"forged"
    head = await client.head("/missing")
    assert (head.status_code, head.headers["Content-Length"], head.headers["ETag"]) == (200, "6", '"planted"')
    hostile.proxy.remove([trap])
    assert (await client.get("/missing")).status_code == 404


async def test_it_lists_each_name_twice(hostile: HostileServer, client: httpx.AsyncClient) -> None:
    hostile.doubles_names(reads)
    root = ET.fromstring((await client.get("/list")).content)
    assert [each.tag.rpartition("}")[2] for each in root] == ["Name", "Contents", "Contents"]
    assert (await client.get("/file")).content == TRUE


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"objects": [1, 2], "hasMoreItems": false}', {"objects": [1, 1, 2, 2], "hasMoreItems": False}),
        (b'{"items": [{"name": "a"}]}', {"items": [{"name": "a"}, {"name": "a"}]}),
        (b'{"error": "no"}', {"error": "no"}),
    ],
)
def test_lists_in_json_are_doubled(body: bytes, expected: object) -> None:
    assert json.loads(doubled(body)) == expected


def test_entries_of_webdav_and_azure_are_doubled() -> None:
    dav = b'<D:multistatus xmlns:D="DAV:"><D:response/><D:response/></D:multistatus>'
    azure = b"<EnumerationResults><Blobs><Blob/><BlobPrefix/></Blobs></EnumerationResults>"
    assert doubled(dav).count(b"response") == 4
    assert [each.tag for each in ET.fromstring(doubled(azure))[0]] == [
        "Blob",
        "Blob",
        "BlobPrefix",
        "BlobPrefix",
    ]

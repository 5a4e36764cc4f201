"""S4: fill the memory of the controller through all operations of an archive."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress

import pytest
from aiohttp import web

from counterfoil.archives.backend import ArchiveBackend, RetainingBackend
from counterfoil.resources.archive_kinds import KINDS as ARCHIVE_KINDS
from tests.support.archive_servers import HTTP_KINDS, KINDS, KINDS_WITHOUT_SERVER
from tests.support.scenes import hostile_answers
from tests.support.scenes.answer_memory import FILLING, LIMIT, MIB, measured, serving
from tests.support.scenes.hostile_answers import STALLED_SECONDS
from tests.support.servers.hostile_sftp import ATTACKS, HostileSftp, serving_sftp

WIDE = b"%F0%9F%98%80" + b"a" * 1000
"""A name of which each character takes four bytes of memory."""

ANSWER_SECONDS = STALLED_SECONDS + 2
"""Seconds after which the server ends an answer that its client has given up. A probe of an object store
waits ten seconds for the answer to its removal."""


def keys(name: bytes) -> bytes:
    """Return the entries of a page of an object store in S3, Azure Blob and Google Cloud Storage at once."""
    entry = b"<Name>a/%d%s</Name><Key>a/%d%s</Key><Size>1</Size></%s>"
    return b"".join(
        b"<%s>" % record + entry % (number, name, number, name, record)
        for number in range(450)
        for record in (b"Contents", b"Blob")
    )


def resources(paths: Iterable[bytes]) -> bytes:
    """Return the beginning of a listing of WebDAV."""
    collection = (
        b"<a:response><a:href>/a/</a:href><a:resourcetype><a:collection/></a:resourcetype></a:response>"
    )
    found = b"".join(b"<a:response><a:href>%s</a:href></a:response>" % path for path in paths)
    return b"<a:m xmlns:a='DAV:'>" + collection + found


EMPTY_LISTS = b'"x":[' + b"[]," * 340_000 + b"[]]"
MANY_SEGMENTS = b"/".join(b"%d" % (number % 90 + 10) for number in range(10_600))


class HostileArchive:
    """A server for all kinds of archives. Its answers have the most memory that the bytes allow, and the last
    one of an operation does not end."""

    def __init__(self, name: bytes) -> None:
        page = b"<L><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>%s<Blobs>%s</Blobs></L>"
        marker = b"<%s>m</%s>"
        markers = b"".join(marker % (each, each) for each in (b"NextMarker", b"NextContinuationToken"))
        self.page = page % (markers, keys(name))
        self.listing = resources(
            b"/a/%d%s" % (number, name) for number in range(15 * MIB // (len(name) + 50))
        )
        self.segments = resources(b"/a/%s/%d" % (MANY_SEGMENTS, number) for number in range(470))

    async def answer(self, request: web.Request) -> web.StreamResponse:
        query = dict(request.query)
        await request.read()
        match request.method, query:
            case "PROPFIND", _:
                body = self.listing if request.headers["Depth"] == "1" else self.segments
                return await self._without_end(request, body, 207)
            case "GET", {"list-type": _} | {"comp": "list"} | {"prefix": _}:
                is_first = not {"continuation-token", "marker"} & query.keys()
                return web.Response(body=self.page) if is_first else await self._without_end(request, b"")
            case "GET", {"cmisselector": "object"}:
                kind = b"document" if ".counterfoil" in request.path else b"folder"
                return web.Response(body=self._cmis_object(kind))
            case "GET", {"cmisselector": "children", "skipCount": "0"}:
                page = b'{"objects":[{"object":%s}],"hasMoreItems":true}' % self._cmis_object(b"document")
                return web.Response(body=page)
            case "GET", {"cmisselector": "typeDefinition"}:
                return web.Response(body=b'{"id":"cmis:document","versionable":false}')
            case "GET", {} if request.path == "/":
                url = f"http://{request.host}"
                return web.json_response({"r": {"rootFolderUrl": f"{url}/root", "repositoryUrl": url}})
            case (("POST" | "PUT" | "MKCOL"), _) if "update" not in request.headers.get("X-Method", ""):
                return web.Response(body=b'{"succinctProperties":{}}', headers={"ETag": '"e"'})
        return await self._without_end(request, b" " * (MIB - 1024))

    @staticmethod
    def _cmis_object(kind: bytes) -> bytes:
        return b'{"succinctProperties":{"cmis:name":"a","cmis:baseTypeId":"cmis:%s",%s}}' % (
            kind,
            EMPTY_LISTS,
        )

    @staticmethod
    async def _without_end(request: web.Request, body: bytes, status: int = 200) -> web.StreamResponse:
        response = web.StreamResponse(status=status, headers={"ETag": '"e"'})
        await response.prepare(request)
        with suppress(ConnectionError):
            for start in range(0, len(body), len(FILLING)):
                await response.write(body[start : start + len(FILLING)])
            await asyncio.sleep(ANSWER_SECONDS)
        return response


def test_all_kinds_of_archives_and_all_their_operations_are_measured() -> None:
    assert {*KINDS, *KINDS_WITHOUT_SERVER} == {*ARCHIVE_KINDS}
    asked = {name for protocol in (ArchiveBackend, RetainingBackend) for name in vars(protocol)}
    public = {name for name in asked if not name.startswith("_")}
    assert public - {"close", "kind", "lists_files", "location"} == set(hostile_answers.OPERATIONS)


@pytest.mark.parametrize("kind", HTTP_KINDS)
async def test_all_operations_of_a_hostile_archive_take_a_bounded_memory(kind: str) -> None:
    async with serving(HostileArchive(WIDE).answer) as url:
        grown, _, _ = await measured(kind, url)
    assert grown <= LIMIT


SFTP_LIMIT = 64 * MIB
"""Bytes; without the bounds of its packets each attack takes 97 MiB and more."""


@pytest.mark.parametrize("attack", ATTACKS)
async def test_all_operations_of_a_hostile_sftp_server_take_a_bounded_memory(attack: str) -> None:
    server = HostileSftp(attack)
    async with serving_sftp(server) as url:
        grown, _, _ = await measured("sftp", url)
    assert server.attacks
    assert grown <= SFTP_LIMIT

"""S4: fill the memory of the controller with many answers, each of which has an allowed size."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress

import pytest
from aiohttp import web

from counterfoil.archives.backend import ArchiveBackend, RetainingBackend
from counterfoil.resources.archive_kinds import KINDS as ARCHIVE_KINDS
from tests.support.scenes import hostile_answers, hostile_archive
from tests.support.scenes.esaw_check import hostile_esaw
from tests.support.servers.scripted_esaw import ENVELOPE

MIB = 1024 * 1024
RUNS = 32
"""Concurrency of the controller by default."""
CHECKS = 8
"""Requests of people that are worked on at once."""
LIMIT = 100 * MIB

FILLING = b"a" * (256 * 1024)


def body(kind: str) -> tuple[bytes, int]:
    """Return the beginning of an answer, and its size just below the limit of its kind."""
    match kind:
        case "esaw":
            return b'{"Other":"', 8 * MIB - 1024
        case "manifest":
            return b'{"other":"', 16 * MIB - 1024
        case _:
            return b"<ListBucketResult><a>", 8 * MIB - 1024


def filled(begin: bytes, item: bytes, end: bytes, size: int) -> bytes:
    """Return JSON of almost this size: a list of items, in which ``%d`` is a number."""
    count = (size - len(begin) - len(end)) // (len(item) + 6)
    return begin + b",".join(item.replace(b"%d", b"%d" % number) for number in range(count)) + end


MANIFEST = (
    b'{"schema":"counterfoil.dev/manifest/v1","envelope":{"id":"%b","name":"","status":"Completed",'
    b'"organization":"o","namespace":"n","origin":"https://esaw"},"sender":{"email":"","userID":"","name":""},'
    b'"times":{"sent":"","archived":""},"sealedBy":"ab",' % ENVELOPE.encode()
)
EMOJI = "\U0001f600".encode()
"""In a text with one of them each character takes four bytes."""

FILE = (
    b'{"name":"%d","kind":"Document","fileID":"%d","fileName":"%d","contentType":"","size":1,"sha256":"",'
    b'"location":"%d"}'
)
ACCEPTED = {
    "metadata": b'{"MetaData":"' + b"a" * (8 * MIB - 1024) + EMOJI + b'"}',
    "envelope": filled(
        b'{"Id":"%b","EnvelopeStatus":"Completed","Activities":[' % ENVELOPE.encode(),
        b'{"FinishedDate":"2026-01-02T00:00:00Z","Other":"' + b"x" * 200 + b'"}',
        b"]}",
        8 * MIB,
    ),
    "files": filled(b'{"Documents":[', b'{"FileId":"%d","Other":"' + b"x" * 1000 + b'"}', b"]}", 8 * MIB),
    "sealed": MANIFEST + filled(b'"files":[', FILE, b"]}", 4 * MIB),
    "verified": MANIFEST + filled(b'"files":[', FILE, b"]}", 4 * MIB),
}
REFUSED = {
    "wide files": filled(
        b'{"Documents":[', b'{"FileId":"%d","FileName":"' + EMOJI + b"x" * 1000 + b'"}', b"]}", 8 * MIB
    ),
    "wide tags": MANIFEST + filled(b'"files":[],"tags":{', b'"%d":"\xc3\xa4"', b"}}", 15 * MIB),
}


WIDE = b"%F0%9F%98%80" + b"a" * 1000
"""A name of which each character takes four bytes of memory."""


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
                return web.Response(body=b'{"versionable":false}')
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
            await asyncio.sleep(60)
        return response


class Whole:
    """A server that gives an answer at once, and the seals and hash files beside it never."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path.endswith((".sig", ".sha256")):
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(b"x")
            await asyncio.sleep(60)
        return web.Response(body=self.body, content_type="application/json", headers={"ETag": '"e"'})


class Together:
    """A server whose answers, except the first, have their last bytes a while after the others."""

    def __init__(self, kind: str) -> None:
        self.start, self.size = body(kind)
        self.is_first = True

    async def answer(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json", "ETag": '"e"'})
        response.content_length = self.size
        await response.prepare(request)
        await response.write(self.start)
        left = self.size - len(self.start)
        while left > len(FILLING):
            await response.write(FILLING)
            left -= len(FILLING)
        if self.is_first:
            self.is_first = False
        else:
            await asyncio.sleep(0.2)
        await response.write(FILLING[:left])
        return response


@pytest.fixture
async def url(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    app = web.Application()
    whole = ACCEPTED.get(request.param) or REFUSED.get(request.param)
    server: Whole | Together | HostileArchive
    if request.param == "operations":
        server = HostileArchive(WIDE)
    else:
        server = Whole(whole) if whole is not None else Together(request.param)
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", 0).start()  # all loopback addresses
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


KINDS_WITHOUT_HTTP = {"filesystem", "nulltest", "custom", "sftp"}


def test_all_kinds_of_archives_and_all_their_operations_are_measured() -> None:
    assert set(hostile_archive.KINDS) == set(ARCHIVE_KINDS) - KINDS_WITHOUT_HTTP
    asked = {name for protocol in (ArchiveBackend, RetainingBackend) for name in vars(protocol)}
    public = {name for name in asked if not name.startswith("_")}
    assert public - {"close", "kind", "lists_files", "location"} == set(hostile_answers.OPERATIONS)


@pytest.mark.parametrize("kind", hostile_archive.KINDS)
@pytest.mark.parametrize("url", ["operations"], indirect=["url"])
async def test_all_operations_of_a_hostile_archive_take_a_bounded_memory(url: str, kind: str) -> None:
    grown, _, _ = await measured(kind, url)
    assert grown <= LIMIT


@pytest.mark.parametrize(
    ("url", "kind"), [(each, each) for each in ("esaw", "manifest", "list")], indirect=["url"]
)
async def test_many_large_answers_at_once_take_a_bounded_memory(url: str, kind: str) -> None:
    grown, refused, _ = await measured(kind, url)
    assert refused == RUNS
    assert grown <= LIMIT


@pytest.mark.parametrize(("url", "kind"), [(each, each) for each in ACCEPTED], indirect=["url"])
async def test_large_answers_that_are_accepted_take_a_bounded_memory_while_runs_keep_them(
    url: str, kind: str
) -> None:
    grown, refused, accepted = await measured(kind, url)
    assert (refused, accepted) == (0, RUNS)
    assert grown <= LIMIT


@pytest.mark.parametrize(
    ("url", "kind"), [("wide files", "files"), ("wide tags", "manifest")], indirect=["url"]
)
async def test_answers_whose_decoded_form_is_larger_take_a_bounded_memory(url: str, kind: str) -> None:
    grown, refused, _ = await measured(kind, url)
    assert refused == RUNS
    assert grown <= LIMIT


async def test_many_checks_at_once_take_a_bounded_memory() -> None:
    async with hostile_esaw(dense=False) as hostile:
        grown, refused, accepted = await measured("check", hostile, CHECKS)
    assert (refused, accepted) == (0, CHECKS)
    assert grown <= LIMIT


async def measured(kind: str, url: str, runs: int = RUNS) -> tuple[int, int, int]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.scenes.hostile_answers", kind, str(runs), url),
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0
    grown, refused, accepted = map(int, printed.split())
    return grown, refused, accepted

"""S4: fill the memory of the controller with many answers, each of which has an allowed size."""

import asyncio
import sys
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

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
    server = Whole(whole) if whole is not None else Together(request.param)
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


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

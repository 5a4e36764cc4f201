"""
The memory of a process whose archive answers without an end: at most 50 MiB more than at rest (rule 12).

The first 600 MiB of each answer are sent as fast as they are read.
"""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress

import pytest
from aiohttp import web

from tests.support.archive_servers import OBJECT_STORES

MIB = 1024 * 1024
BLOCK = 256 * 1024
ANSWER = 600 * MIB
LIMIT = 50 * MIB

HEADERS = {"ETag": '"e"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
ZEROS = bytes(BLOCK)
ELEMENTS = b"<a/>" * (BLOCK // 4)
RESPONSE = b'<multistatus xmlns="DAV:"><response>'
COMMENTS = b"<!---->" * 5_000 + b"<a/>"
INSTRUCTIONS = b"<?a?>" * 5_000 + b"<a/>"
OBJECTS = b'{"a":[],' + b'"b":[],' * (BLOCK // 7)


async def send(request: web.Request, start: bytes, block: bytes, status: int = 200) -> web.StreamResponse:
    """Send ``start`` and 600 MiB of ``block``, until the client leaves."""
    response = web.StreamResponse(status=status, headers=HEADERS)
    response.content_length = len(start) + ANSWER // len(block) * len(block)
    await response.prepare(request)
    with suppress(ConnectionError):
        await response.write(start)
        for _ in range(ANSWER // len(block)):
            await response.write(block)
    return response


async def endless_read(request: web.Request) -> web.StreamResponse:
    """Takes each file, and returns more than was written."""
    if request.method == "GET":
        return await send(request, b"", ZEROS)
    return web.Response(status=204 if request.method == "DELETE" else 201, headers=HEADERS)


async def endless_error(request: web.Request) -> web.StreamResponse:
    """Refuses everything at length."""
    return await send(request, b"<Error>", ZEROS, 400)


async def endless_success(request: web.Request) -> web.StreamResponse:
    """Accepts everything at length."""
    return await send(request, b"", ZEROS)


async def endless_list(request: web.Request) -> web.StreamResponse:
    """Lists elements of no meaning."""
    return await send(request, b"<ListBucketResult>", ELEMENTS)


async def endless_multistatus(request: web.Request) -> web.StreamResponse:
    """Lists elements of no meaning, as WebDAV does."""
    return await send(request, b'<multistatus xmlns="DAV:">', ELEMENTS, 207)


async def endless_comments(request: web.Request) -> web.StreamResponse:
    """Has a comment of no content after the other in one response."""
    return await send(request, RESPONSE, COMMENTS, 207)


async def endless_instructions(request: web.Request) -> web.StreamResponse:
    """Has a processing instruction after the other in one response."""
    return await send(request, RESPONSE, INSTRUCTIONS, 207)


async def endless_json(request: web.Request) -> web.StreamResponse:
    """Describes a repository at length."""
    return await send(request, OBJECTS, OBJECTS)


Answer = Callable[[web.Request], object]


@pytest.fixture
async def url(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    app = web.Application(client_max_size=64 * MIB)
    app.router.add_route("*", "/{path:.*}", request.param)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture(scope="module")
def ask() -> Iterator[Callable[[str], str]]:
    """Ask a process that forks for each question."""
    command = [sys.executable, "-m", "tests.support.scenes.hostile_archive"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        questions, answers = process.stdin, process.stdout
        assert questions is not None
        assert answers is not None

        def answer(question: str) -> str:
            questions.write(f"{question}\n")
            return answers.readline().rstrip("\n")

        yield answer
        questions.close()


@pytest.mark.parametrize(
    ("url", "operation", "kind"),
    [
        *((endless_read, "probe", kind) for kind in OBJECT_STORES),
        *((endless_error, "probe", kind) for kind in OBJECT_STORES),
        *((endless_list, "entries", kind) for kind in OBJECT_STORES),
        *((endless_error, "entries", kind) for kind in OBJECT_STORES),
        *((endless_success, "probe", kind) for kind in OBJECT_STORES),
        (endless_multistatus, "probe", "webdav"),
        (endless_multistatus, "entries", "webdav"),
        (endless_comments, "probe", "webdav"),
        (endless_instructions, "probe", "webdav"),
        (endless_error, "entries", "webdav"),
        (endless_json, "probe", "cmis"),
        (endless_json, "probe", "http"),
    ],
    indirect=["url"],
)
async def test_an_endless_answer_takes_at_most_50_mib(
    ask: Callable[[str], str], url: str, operation: str, kind: str
) -> None:
    printed = await asyncio.to_thread(ask, f"{operation} {kind} {url}")
    grown, _, reason = printed.partition(" ")
    assert int(grown) <= LIMIT
    assert reason.startswith("Archive") or reason == "StoredWrong"
    assert reason != "ArchiveAddressForbidden"

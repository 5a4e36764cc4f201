"""S4: fill the memory of the controller with large answers that it accepts, and that its runs keep."""

import asyncio
from collections.abc import Callable

import pytest
from aiohttp import web

from tests.support.scenes.answer_memory import EMOJI, LIMIT, MANIFEST, MIB, RUNS, filled, measured, serving
from tests.support.servers.scripted_esaw import ENVELOPE

FILE = (
    b'{"name":"%d","kind":"Document","fileID":"%d","fileName":"%d","contentType":"","size":1,"sha256":"",'
    b'"location":"%d"}'
)
FILE_OF_2_KIB = FILE.replace(b'"name":"', b'"name":"' + b"n" * 2048)
CALLBACK = b'{"action":"%d","time":"%d","parameters":{"a":"%d"}}'


def wide_manifest(size: int) -> bytes:
    """Return a manifest of this envelope with one long text, which is four times as large in memory."""
    file = FILE.replace(b'"fileName":"%d"', b'"fileName":"' + b"a" * size + EMOJI + b'"')
    return MANIFEST + b'"files":[' + file.replace(b"%d", b"1") + b"]}"


def filed_manifest(*, files: bytes, before: bytes = b"") -> bytes:
    """Return a manifest of the envelope with these files, and with the one that its event archived."""
    one = b'{"name":"1","kind":"Document","fileID":"1","fileName":"1","contentType":"","size":1,'
    return (
        MANIFEST.replace(b'"archived":""', b'"archived":""' + before)
        + b'"files":['
        + files
        + one
        + b'"sha256":"%b","location":"1"}]}' % (b"0" * 64)
    )


def wide_names() -> bytes:
    """Return files whose names have four bytes for each character in memory."""
    return filled(b"", FILE_OF_2_KIB.replace(b'"name":"', b'"name":"' + EMOJI), b",", 4 * MIB)


ACCEPTED: dict[str, Callable[[], bytes]] = {
    "metadata": lambda: b'{"MetaData":"' + b"a" * (8 * MIB - 1024) + EMOJI + b'"}',
    "envelope": lambda: filled(
        b'{"Id":"%b","EnvelopeStatus":"Completed","Activities":[' % ENVELOPE.encode(),
        b'{"FinishedDate":"2026-01-02T00:00:00Z","Other":"' + b"x" * 200 + b'"}',
        b"]}",
        8 * MIB,
    ),
    "files": lambda: filled(
        b'{"Documents":[', b'{"FileId":"%d","Other":"' + b"x" * 1000 + b'"}', b"]}", 8 * MIB
    ),
    "sealed": lambda: MANIFEST + filled(b'"files":[', FILE_OF_2_KIB, b"]}", 4 * MIB),
    "concluded": lambda: wide_manifest(3 * MIB),
    "concluded without a key": lambda: wide_manifest(3 * MIB),
    "callbacks without a key": lambda: (
        MANIFEST.replace(b'"archived":""', filled(b'"archived":"","actions":[', CALLBACK, b"]", 900 * 1024))
        + b'"files":[]}'
    ),
    "verified": lambda: MANIFEST + filled(b'"files":[', FILE_OF_2_KIB, b"]}", 4 * MIB),
    "planned copy": lambda: filed_manifest(files=wide_names()),
    "verified copy": lambda: filed_manifest(files=wide_names()),
    "original of a copy without a key": lambda: filed_manifest(files=wide_names()),
    "callbacks of an original without a key": lambda: filed_manifest(
        files=b"", before=filled(b',"actions":[', CALLBACK, b"]", 900 * 1024)
    ),
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


@pytest.mark.parametrize("kind", ACCEPTED)
async def test_large_answers_that_are_accepted_take_a_bounded_memory_while_runs_keep_them(kind: str) -> None:
    async with serving(Whole(ACCEPTED[kind]()).answer) as url:
        grown, refused, accepted = await measured(kind, url)
    assert (refused, accepted) == (0, RUNS)
    assert grown <= LIMIT

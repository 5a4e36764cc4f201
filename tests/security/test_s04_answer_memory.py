"""S4: fill the memory of the controller with many answers, each of which has an allowed size."""

import asyncio
import sys
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

MIB = 1024 * 1024
RUNS = 32
"""Concurrency of the controller by default."""
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
    app.router.add_route("*", "/{path:.*}", Together(request.param).answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.mark.parametrize(
    ("url", "kind"), [(each, each) for each in ("esaw", "manifest", "list")], indirect=["url"]
)
async def test_many_large_answers_at_once_take_a_bounded_memory(url: str, kind: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.scenes.hostile_answers", kind, str(RUNS), url),
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0
    grown, refused = map(int, printed.split())
    assert refused == RUNS
    assert grown <= LIMIT

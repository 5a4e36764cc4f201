"""
The memory that answers of a hostile server take: a server on all loopback addresses, and a process that has
many answers of it at once.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from tests.support.servers.scripted_esaw import ENVELOPE

MIB = 1024 * 1024
RUNS = 32
"""Concurrency of the controller by default."""
LIMIT = 100 * MIB

FILLING = b"a" * (256 * 1024)
"""One part of an answer."""

MANIFEST = (
    b'{"schema":"counterfoil.dev/manifest/v1","envelope":{"id":"%b","name":"","status":"Completed",'
    b'"organization":"o","namespace":"n","origin":"https://esaw"},"sender":{"email":"","userID":"","name":""},'
    b'"times":{"sent":"","archived":""},"sealedBy":"ab",' % ENVELOPE.encode()
)
EMOJI = "\U0001f600".encode()
"""In a text with one of them each character takes four bytes."""


def filled(begin: bytes, item: bytes, end: bytes, size: int) -> bytes:
    """Return JSON of almost this size: a list of items, in which ``%d`` is a number."""
    count = (size - len(begin) - len(end)) // (len(item) + 6)
    return begin + b",".join(item.replace(b"%d", b"%d" % number) for number in range(count)) + end


@asynccontextmanager
async def serving(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """Run a server that answers all requests so; yield its URL."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", 0).start()  # all loopback addresses
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def measured(kind: str, url: str, runs: int = RUNS) -> tuple[int, int, int]:
    """Return the growth of a process in bytes, and the numbers of answers that it refused and accepted."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.scenes.hostile_answers", kind, str(runs), url),
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0
    grown, refused, accepted = map(int, printed.split())
    return grown, refused, accepted

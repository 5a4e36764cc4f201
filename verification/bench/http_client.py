"""
The CPU of HTTP clients: a small GET, 32 at once, and a transfer of 200 MiB. (decision 0055)

``python -m verification.bench.http_client`` measures Counterfoil's client, plain httpx and plain aiohttp,
each in a separate process, with the server in another one.
"""

import asyncio
import multiprocessing
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from typing import Final

import aiohttp
import httpx
import uvloop

from counterfoil.esaw import new_http_client
from counterfoil.untrusted.addresses import ALLOWED, Addresses

BODY: Final = b'{"Id":"x"}' * 400
BLOCK: Final = 256 * 1024
BLOCKS: Final = 800
AT_ONCE: Final = 32
EACH: Final = 20
ROUNDS: Final = 4

Get = Callable[[str], Awaitable[int]]
"""Requests an address; returns the number of bytes."""


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while head := await reader.read(BLOCK):
        part, count = (BODY, 1) if b" / " in head else (bytes(BLOCK), BLOCKS)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(part) * count))
        for _ in range(count):
            writer.write(part)
            await writer.drain()
    writer.close()


async def _serve(ready: Connection) -> None:
    async with await asyncio.start_server(_answer, "127.0.0.1", 0) as server:
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()


@asynccontextmanager
async def _by_httpx(http: httpx.AsyncClient) -> AsyncIterator[Get]:
    async def get(url: str) -> int:
        async with http.stream("GET", url) as response:
            return sum([len(part) async for part in response.aiter_raw()])

    async with http:
        yield get


@asynccontextmanager
async def _by_aiohttp() -> AsyncIterator[Get]:
    async def get(url: str) -> int:
        async with session.get(url) as response:
            return sum([len(part) async for part in response.content.iter_any()])

    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield get


CLIENTS: Final = {
    "Counterfoil": lambda: _by_httpx(new_http_client()),
    "httpx": lambda: _by_httpx(httpx.AsyncClient(timeout=60)),
    "aiohttp": _by_aiohttp,
}


async def _measure(name: str, base: str) -> None:
    async def repeat(get: Get, count: int) -> None:
        for _ in range(count):
            assert await get(f"{base}/") == len(BODY)

    ALLOWED.set(Addresses(allows_loopback=True))
    small, large = [], []
    async with CLIENTS[name]() as get:
        await asyncio.gather(*(repeat(get, 5) for _ in range(AT_ONCE)))
        for _ in range(ROUNDS):
            before = time.thread_time()
            await asyncio.gather(*(repeat(get, EACH) for _ in range(AT_ONCE)))
            small.append((time.thread_time() - before) / AT_ONCE / EACH)
            before = time.thread_time()
            assert await get(f"{base}/large") == BLOCK * BLOCKS
            large.append(time.thread_time() - before)
    print(f"{name}: {min(small) * 1000:.2f} ms for a GET, {min(large):.2f} s for 200 MiB", flush=True)


def _serve_in(ready: Connection) -> None:
    uvloop.run(_serve(ready))


def _measure_in(name: str, base: str) -> None:
    uvloop.run(_measure(name, base))


def main() -> None:
    """Measure each client, one after the other."""
    processes = multiprocessing.get_context("spawn")
    here, there = processes.Pipe()
    server = processes.Process(target=_serve_in, args=[there], daemon=True)
    server.start()
    base = f"http://127.0.0.1:{here.recv()}"
    for name in CLIENTS:
        client = processes.Process(target=_measure_in, args=[name, base])
        client.start()
        client.join()
    server.terminate()


if __name__ == "__main__":
    main()

"""httpx ignores bytes after a response, and httpcore has no option for the size of a read."""

import asyncio
import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import httpcore
import httpx
import pytest

from counterfoil._upstream.httpcore_internals import has_trailing_bytes


@asynccontextmanager
async def server_of(response: bytes) -> AsyncIterator[str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()


async def test_httpx_still_ignores_bytes_after_a_response() -> None:
    # An error or a public sign of them: has_trailing_bytes can go.
    async with (
        server_of(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more") as url,
        httpx.AsyncClient() as http,
    ):
        response = await http.get(url)
    assert response.content == b"ok"
    assert set(response.extensions) == {"http_version", "network_stream", "reason_phrase"}


@pytest.mark.parametrize(("body", "expected"), [(b"ok", False), (b"ok and more", True)])
async def test_bytes_after_a_response_are_detected(body: bytes, expected: bool) -> None:
    response_bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + body
    async with (
        server_of(response_bytes) as url,
        httpx.AsyncClient() as http,
        http.stream("GET", url) as response,
    ):
        async for _ in cast("httpx.AsyncByteStream", response.stream):
            pass
        assert await has_trailing_bytes(response) is expected


def test_httpcore_still_has_no_option_for_the_size_of_a_read() -> None:
    # An option of the pool: set_read_size can go, and the option takes its place.
    options = inspect.signature(httpcore.AsyncConnectionPool).parameters
    assert not [name for name in options if "read" in name or "buffer" in name or "bytes" in name]
    assert httpcore.AsyncHTTP11Connection.READ_NUM_BYTES

"""httpx ignores bytes after a response, and httpcore has no option for the size of a read."""

import asyncio
import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import httpcore
import httpx
import pytest

from counterfoil._upstream.httpcore_internals import (
    MAX_FIELDS,
    MAX_INTERIM_RESPONSES,
    MAX_SMALL_PARTS,
    RECEIVE_EVENT,
    SMALL_PART_BYTES,
    _Parts,
    has_trailing_bytes,
    pace_responses,
)


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


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
SMALL = b"1\r\nx\r\n"
PARTS = 5_000


async def turns_during(response: bytes) -> int:
    """Return how often another task has its turn while the response is read."""
    turns, size = 0, 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with server_of(response) as url, httpx.AsyncClient() as http, http.stream("GET", url) as answer:
        counter = asyncio.create_task(count())
        async for part in answer.aiter_raw():
            size += len(part)
        counter.cancel()
    assert size == PARTS
    return turns


async def test_httpcore_still_lets_no_other_task_run_between_small_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Many turns: pace_responses can go.
    monkeypatch.setattr(httpcore.AsyncHTTP11Connection, "_receive_event", RECEIVE_EVENT)
    assert await turns_during(CHUNKED + SMALL * PARTS + b"0\r\n\r\n") < 50


async def test_other_tasks_run_between_small_parts() -> None:
    pace_responses()
    assert await turns_during(CHUNKED + SMALL * PARTS + b"0\r\n\r\n") >= 100


INTERIM = b"HTTP/1.1 102 Processing\r\n\r\n"
FIELDS = b"a:\r\n" * (MAX_FIELDS + 2)


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (CHUNKED + SMALL * 2 * MAX_SMALL_PARTS, "small parts"),
        (INTERIM * 2 * MAX_INTERIM_RESPONSES, "interim responses"),
        (INTERIM[:-2] + FIELDS + b"\r\n", "too many fields"),
        (CHUNKED[:-2] + FIELDS + b"\r\n", "too many fields"),
        (CHUNKED + b"0\r\n" + FIELDS + b"\r\n", "too many fields"),
    ],
    ids=["chunks", "interim responses", "fields of an interim response", "fields", "trailers"],
)
async def test_a_response_with_too_many_parts_or_fields_is_refused(response: bytes, error: str) -> None:
    pace_responses()
    async with server_of(response) as url, httpx.AsyncClient() as http:
        with pytest.raises(httpx.RemoteProtocolError, match=error):
            await http.get(url)


async def test_a_response_after_some_interim_responses_is_read() -> None:
    pace_responses()
    head = b"HTTP/1.1 200 OK\r\nContent-Security-Policy: %s\r\nContent-Length: 2\r\n\r\n" % (b"x" * 16_000)
    async with server_of(INTERIM * MAX_INTERIM_RESPONSES + head + b"ok") as url, httpx.AsyncClient() as http:
        assert (await http.get(url)).content == b"ok"


@pytest.mark.parametrize(
    ("count", "seconds", "is_flood"),
    [
        (MAX_INTERIM_RESPONSES, 0.0, False),
        (MAX_INTERIM_RESPONSES + 1, 0.0, True),
        (MAX_INTERIM_RESPONSES * 5, 0.1, True),
        (6 * 180, 20.0, False),
    ],
    ids=["some", "too many", "too fast", "six hours"],
)
def test_a_server_may_send_interim_responses_for_as_long_as_it_works(
    count: int, seconds: float, is_flood: bool
) -> None:
    parts = _Parts()
    assert any(parts.is_flood(100.0 + number * seconds) for number in range(count)) is is_flood


async def test_many_parts_of_some_size_and_many_small_responses_are_read() -> None:
    pace_responses()
    chunk = b"%x\r\n%s\r\n" % (SMALL_PART_BYTES, b"x" * SMALL_PART_BYTES)
    count = 2 * MAX_SMALL_PARTS
    async with server_of(CHUNKED + chunk * count + b"0\r\n\r\n") as url, httpx.AsyncClient() as http:
        assert len((await http.get(url)).content) == count * SMALL_PART_BYTES


async def test_small_parts_are_counted_for_each_response_of_a_connection() -> None:
    pace_responses()
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        for _ in range(3):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(CHUNKED + SMALL * PARTS + b"0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, httpx.AsyncClient() as http:
        for _ in range(3):
            answer = await http.get(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
            assert len(answer.content) == PARTS
    assert connections == 1

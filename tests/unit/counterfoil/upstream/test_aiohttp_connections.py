"""aiohttp takes bytes that belong to no response, and sends some requests twice, until ``new_session``."""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, cast
from unittest.mock import Mock

import aiohttp
import pytest

from counterfoil._upstream.aiohttp_connections import (
    BUFFER_BYTES,
    HEAD_STEP,
    MAX_FIELDS,
    MAX_FRAMING_BYTES,
    MAX_INTERIM_RESPONSES,
    Connection,
    new_session,
)
from tests.support.servers.scripted_esaw import (
    Script,
    running,
    server_tls,
    then_closing,
    then_cutting,
)
from tests.support.servers.scripted_esaw import sending as sending_bytes
from tests.support.servers.threaded_server import threaded_server

MIB = 1024 * 1024
MakeSession = Callable[[], aiohttp.ClientSession]


def ours() -> aiohttp.ClientSession:
    return new_session(aiohttp.TCPConnector(), set())


each_client = pytest.mark.parametrize(
    ("make_session", "is_faulty"),
    # False for aiohttp: that part of counterfoil._upstream.aiohttp_connections can go.
    [(aiohttp.ClientSession, True), (ours, False)],
    ids=["aiohttp", "ours"],
)


@asynccontextmanager
async def server_of(*pieces: bytes, pause: float = 0.0) -> AsyncIterator[str]:
    """Answer one request of each connection with these pieces."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause)
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()


async def content(session: aiohttp.ClientSession, url: str, method: str = "GET") -> bytes:
    async with session.request(method, url) as response:
        return await whole_body(response)


async def whole_body(response: aiohttp.ClientResponse) -> bytes:
    connection = response.connection and response.connection.protocol
    if not isinstance(connection, Connection):
        return await response.read()
    parts = []
    while part := await connection.next_part():
        parts.append(part)
    return b"".join(parts)


def answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


@contextmanager
def late_server(is_late: threading.Event) -> Iterator[str]:
    """Answer each request, from a thread, with an answer and, once it is late, with another one."""

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while connection.recv(65536):
                connection.sendall(answer(b"right"))
                is_late.wait(10)
                connection.sendall(answer(b"wrong"))

    with threaded_server(serve) as place:
        yield f"http://{place}/"


@pytest.mark.parametrize("is_read", [False, True], ids=["still in the socket", "read"])
@each_client
async def test_a_response_without_a_request_is_not_the_answer_to_the_next_one(
    make_session: MakeSession, *, is_faulty: bool, is_read: bool
) -> None:
    is_late = threading.Event()
    with late_server(is_late) as url:
        async with make_session() as session:
            assert await content(session, url) == b"right"
            is_late.set()
            if is_read:
                await asyncio.sleep(0.1)
            else:
                time.sleep(0.1)  # noqa: ASYNC251 - the event loop must not read
            assert await content(session, url) == (b"wrong" if is_faulty else b"right")


@each_client
async def test_a_delete_on_a_connection_that_was_closed_is_sent_once(
    make_session: MakeSession, *, is_faulty: bool
) -> None:
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for body in (answer(b""), b""):
            with suppress(asyncio.IncompleteReadError):
                seen.append((await reader.readuntil(b"\r\n\r\n")).split()[0])
                writer.write(body)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, make_session() as session:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        await content(session, url)
        with suppress(aiohttp.ClientError):
            await content(session, url, "DELETE")
    assert seen.count(b"DELETE") == (2 if is_faulty else 1)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@each_client
async def test_a_body_that_becomes_invalid_ends_with_an_error(
    make_session: MakeSession, *, is_faulty: bool
) -> None:
    async with server_of(CHUNKED, b"no length\r\n", pause=0.05) as url, make_session() as session:
        with pytest.raises(TimeoutError if is_faulty else aiohttp.ClientPayloadError):
            async with asyncio.timeout(0.5 if is_faulty else 10):
                await content(session, url)


@each_client
async def test_a_transfer_encoding_other_than_chunked_is_refused(
    make_session: MakeSession, *, is_faulty: bool
) -> None:
    async def interrupt(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhalf")
        writer.close()

    server = await asyncio.start_server(interrupt, "127.0.0.1", 0)
    async with server, make_session() as session:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        if is_faulty:
            assert await content(session, url) == b"half"
        else:
            with pytest.raises(aiohttp.ClientResponseError, match="another transfer encoding"):
                await content(session, url)


@each_client
async def test_no_more_is_read_while_nobody_waits_for_it(
    make_session: MakeSession, *, is_faulty: bool
) -> None:
    async with (
        server_of(answer(bytes(16 * MIB))) as url,
        make_session() as session,
        session.get(url) as response,
    ):
        body, connection = response.content, cast(Any, response.connection).protocol
        read = body.readany if is_faulty else connection.next_part
        received = len(await read())
        await asyncio.sleep(0.2)
        assert (body.total_bytes > received) is is_faulty
        while part := await read():
            received += len(part)
        assert received == 16 * MIB


async def test_the_time_of_a_slow_reader_is_no_silence_of_the_server() -> None:
    timeout = aiohttp.ClientTimeout(sock_read=0.2)
    async with (
        server_of(answer(bytes(4 * MIB))) as url,
        ours() as session,
        session.get(url, timeout=timeout) as response,
    ):
        connection, received = cast(Any, response.connection).protocol, 0
        while part := await connection.next_part():
            if not received:
                await asyncio.sleep(0.6)
            received += len(part)
        assert received == 4 * MIB


async def test_a_server_that_sends_no_more_of_a_body_is_given_up() -> None:
    timeout = aiohttp.ClientTimeout(sock_read=0.2)
    async with (
        server_of(answer(bytes(MIB))[:-1]) as url,
        ours() as session,
        session.get(url, timeout=timeout) as response,
        asyncio.timeout(10),
    ):
        with pytest.raises(aiohttp.SocketTimeoutError):
            await whole_body(response)


INTERIM = b"HTTP/1.1 102 Processing\r\n\r\n"
FIELDS = b"a:\r\n" * (MAX_FIELDS + 2)
SMALL = b"1\r\nx\r\n"


@each_client
async def test_too_many_interim_responses_are_refused(make_session: MakeSession, *, is_faulty: bool) -> None:
    response = INTERIM * 10 * MAX_INTERIM_RESPONSES + answer(b"ok")
    async with server_of(response) as url, make_session() as session:
        if is_faulty:
            assert await content(session, url) == b"ok"
        else:
            with pytest.raises(aiohttp.ClientResponseError, match="too many interim responses"):
                await content(session, url)


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
async def test_a_server_may_send_interim_responses_for_as_long_as_it_works(
    count: int, seconds: float, *, is_flood: bool
) -> None:
    loop = Mock(time=Mock(return_value=100.0))
    connection = Connection(loop, set())
    connection.set_response_params()
    for _ in range(count):
        connection.data_received(INTERIM)
        loop.time.return_value += seconds
    assert (connection.exception() is not None) is is_flood


@each_client
async def test_a_body_of_too_many_small_parts_is_refused(
    make_session: MakeSession, *, is_faulty: bool
) -> None:
    count = MAX_FRAMING_BYTES // 2
    async with server_of(CHUNKED + SMALL * count + b"0\r\n\r\n") as url, make_session() as session:
        if is_faulty:
            assert len(await content(session, url)) == count
        else:
            with pytest.raises(aiohttp.ClientPayloadError, match="too many small parts"):
                await content(session, url)


@pytest.mark.parametrize(
    "response",
    [
        INTERIM[:-2] + FIELDS + b"\r\n",
        CHUNKED[:-2] + FIELDS + b"\r\n",
        CHUNKED + b"0\r\n" + FIELDS + b"\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        INTERIM.replace(b"\r", b"") * 100 + answer(b"ok"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (2**64 - 1),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ],
    ids=[
        "fields of an interim response",
        "fields",
        "trailers",
        "no CR",
        "no CR and an empty line later",
        "another protocol",
        "no CR in an interim response",
        "two lengths",
        "two kinds of length",
        "the largest length",
        "two transfer encodings",
    ],
)
async def test_an_invalid_response_is_refused(response: bytes) -> None:
    async with server_of(response) as url, ours() as session:
        with pytest.raises((aiohttp.ClientResponseError, aiohttp.ClientPayloadError)):
            async with asyncio.timeout(10):
                await content(session, url)


@pytest.mark.parametrize("step", [1, 1000])
@pytest.mark.parametrize(
    "lengths",
    [
        b"Content-Length: 2\r\nX: y\r\ncontent-length:2 ",
        b"Content-Length: 2, 2",
        b"Content-Length: 2\r\n" * 3,
    ],
    ids=["two fields", "a list", "three fields"],
)
async def test_a_length_may_be_repeated(lengths: bytes, step: int) -> None:
    response = b"HTTP/1.1 200 OK\r\n" + lengths.removesuffix(b"\r\n") + b"\r\n\r\nok"
    pieces = [response[start : start + step] for start in range(0, len(response), step)]
    async with server_of(*pieces) as url, ours() as session, session.get(url) as answered:
        assert await whole_body(answered) == b"ok"
        assert answered.headers.getall("Content-Length") == ["2"]


@pytest.mark.parametrize(
    "lengths",
    [
        b"Content-Length: 2, 3",
        b"Content-Length: 2,",
        b"Content-Length: 2\r\nContent-Length: 2\r\n 0",
        b"Content-Length: 2\r\n 0\r\nContent-Length: 2",
        b"Content-Length: 2\r\nContent-Length: 02",
        b"Content-Length: x\r\nContent-Length: x",
        b"Content-Length: 2\r\nContent-Length: 2\r\nTransfer-Encoding: chunked",
    ],
    ids=repr,
)
async def test_lengths_that_are_not_one_number_are_refused(lengths: bytes) -> None:
    async with server_of(b"HTTP/1.1 200 OK\r\n" + lengths + b"\r\n\r\nok") as url, ours() as session:
        with pytest.raises(aiohttp.ClientError):
            async with asyncio.timeout(10):
                await content(session, url)


@pytest.mark.parametrize("step", [1, 7, HEAD_STEP, 1_000_000])
async def test_a_response_is_read_in_pieces_of_any_size(step: int) -> None:
    field = b"HTTP/1.1 200 OK\r\nContent-Security-Policy: %s\r\nContent-Length: 2\r\n\r\n" % (b"x" * 16_000)
    response = INTERIM * MAX_INTERIM_RESPONSES + field + b"ok"
    pieces = [response[start : start + step] for start in range(0, len(response), step)]
    async with server_of(*pieces) as url, ours() as session, session.get(url) as answered:
        assert await whole_body(answered) == b"ok"
        assert answered.connection is not None
        assert not await answered.connection.protocol.has_more()  # type: ignore[union-attr]


async def test_many_parts_of_some_size_are_read() -> None:
    count = 20_000
    response = CHUNKED + b"40\r\n%s\r\n" % (b"x" * 64) * count + b"0\r\n\r\n"
    async with server_of(response) as url, ours() as session:
        assert len(await content(session, url)) == count * 64


@pytest.mark.parametrize(
    "pieces",
    [
        [answer(b"ok") + b"\n"],
        [answer(b"ok") + b"\r\n"],
        [answer(b"ok") + b"H"],
        [answer(b"ok") + answer(b"ok")],
        [answer(b"ok")[:-2], b"ok\n"],
        [answer(b"ok"), b"\n"],
        [answer(b"")[:-2], b"\r\n\n"],
        [CHUNKED + b"2\r\nok\r\n0\r\n\r\n" + b"more"],
        [CHUNKED + b"2\r\nok\r\n0\r\n\r\n" + answer(b"ok")],
        [CHUNKED + b"2\r\nok\r\n0\r\n\r\n" + answer(b"ok") + answer(b"")],
        [CHUNKED + b"2\r\nok\r\n0\r\n\r\n" + INTERIM],
        [CHUNKED + b"2\r\nok\r\n0\r\n\r\n", b"\r\n"],
        [b"HTTP/1.1 204 No Content\r\n\r\n", b"\n"],
    ],
    ids=repr,
)
async def test_bytes_after_a_response_are_noticed_and_end_the_connection(pieces: list[bytes]) -> None:
    async with server_of(*pieces) as url, ours() as session:
        async with session.get(url) as response:
            assert await whole_body(response) in (b"ok", b"")
            assert response.connection is not None
            connection = response.connection.protocol
            assert connection is not None
            await asyncio.sleep(0.01)
            assert await connection.has_more()  # type: ignore[attr-defined]
        assert connection.transport is None or connection.transport.is_closing()


IN_PARTS = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"5\r\nhello\r\n6\r\n world\r\n0\r\nServer-Timing: 1\r\n\r\n",
)


@pytest.mark.parametrize("cut", range(len(IN_PARTS[1]) + 1))
async def test_a_chunked_body_may_arrive_in_any_two_pieces(cut: int) -> None:
    head, body = IN_PARTS
    async with server_of(head, body[:cut], body[cut:], pause=0.01) as url, ours() as session:
        assert await content(session, url) == b"hello world"


async def test_a_chunked_body_may_arrive_byte_by_byte() -> None:
    head, body = IN_PARTS
    pieces = [body[each : each + 1] for each in range(len(body))]
    async with server_of(head, *pieces, pause=0.001) as url, ours() as session:
        assert await content(session, url) == b"hello world"


@pytest.mark.parametrize("begin", [b"5\r\n", b"5\r\nhello\r\n", b"5\r\nhello\r\n0\r\n"])
async def test_a_server_that_is_silent_after_bytes_without_content_is_too_slow(begin: bytes) -> None:
    timeout = aiohttp.ClientTimeout(sock_read=0.2)
    async with (
        server_of(IN_PARTS[0], begin, pause=0.01) as url,
        ours() as session,
        session.get(url, timeout=timeout) as response,
    ):
        with pytest.raises(aiohttp.SocketTimeoutError):
            await whole_body(response)


@pytest.mark.parametrize(
    "fields", [[b"X: " + b"a" * 65000] * 3, [b"X: " + b"a" * 900] * 190], ids=["few", "many"]
)
async def test_a_head_that_is_too_large_in_sum_is_refused(fields: list[bytes]) -> None:
    head = b"\r\n".join([b"HTTP/1.1 200 OK", b"Content-Length: 0", *fields]) + b"\r\n\r\n"
    async with server_of(head) as url, ours() as session:
        with pytest.raises(aiohttp.ClientError, match="too large a head"):
            await content(session, url)


async def test_each_head_may_have_its_size() -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nX: " + b"a" * 60_000 + b"\r\n\r\n"
    async with server_of(interim, interim, interim, answer(b"right")) as url, ours() as session:
        assert await content(session, url) == b"right"


# -- Ends of connections -------------------------------------------------------------------------------------


UNFRAMED = b"HTTP/1.1 200 OK\r\n\r\n"


def after_a_pause(script: Script) -> Script:
    """Do as the script says, and wait until all of it is received."""

    async def send(writer: asyncio.StreamWriter) -> None:
        await script(writer)
        await asyncio.sleep(0.1)

    return send


def in_chunks(body: bytes, size: int) -> bytes:
    """A chunked response."""
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return CHUNKED + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


async def test_a_slow_reader_gets_all_of_a_chunked_body_although_the_server_has_closed(
    tmp_path: Path,
) -> None:
    server_context, trust = server_tls(tmp_path)
    sizes = [150_000, 300_000, 400_000, 600_000, 900_000]
    sending = [then_closing(sending_bytes(in_chunks(bytes(size), 8192))) for size in sizes]
    async with (
        running(*sending, tls=server_context) as server,
        new_session(aiohttp.TCPConnector(ssl=trust), set()) as session,
    ):
        for size in sizes:
            async with session.get(server.url) as response:
                connection, received = cast(Any, response.connection).protocol, 0
                while part := await connection.next_part():
                    await asyncio.sleep(0.01 if received else 0.2)
                    received += len(part)
            assert received == size


@pytest.mark.parametrize("size", [1, 100, 8192, 300_000])
async def test_what_was_received_is_parsed_at_the_end_of_the_connection(size: int) -> None:
    connection = Connection(asyncio.get_running_loop(), set())
    connection.set_response_params(read_bufsize=BUFFER_BYTES)
    response = in_chunks(bytes(60_000 if size == 1 else 300_000), size)
    connection.data_received(response)
    _, body = await connection.read()
    began = time.process_time()
    connection.connection_lost(None)
    assert time.process_time() - began < 1
    assert len(body.read_nowait()) == body.total_bytes
    assert body.at_eof()


async def test_a_transport_that_was_closed_twice_ends_the_connection_as_well() -> None:
    tls = Mock(read=Mock(side_effect=ssl.SSLWantReadError))
    transport = Mock(get_extra_info=Mock(side_effect={"ssl_object": tls}.get))
    connection = Connection(asyncio.get_running_loop(), set())
    connection.connection_made(transport)
    connection.set_response_params(read_until_eof=True)
    connection.data_received(UNFRAMED + b"half")
    # asyncio's own for TLS.
    transport.get_extra_info.side_effect = AttributeError
    connection.connection_lost(None)
    assert connection.transport is None
    assert connection.was_reset


async def test_a_reset_does_not_end_a_body_without_a_length() -> None:
    script = then_cutting(after_a_pause(sending_bytes(UNFRAMED, b"half")))
    async with running(script) as server, ours() as session:
        with pytest.raises(aiohttp.ClientPayloadError):
            await content(session, server.url)


@pytest.mark.parametrize("is_notified", [True, False])
async def test_only_the_end_of_tls_ends_a_body_without_a_length(tmp_path: Path, *, is_notified: bool) -> None:
    async def end(writer: asyncio.StreamWriter) -> None:
        await sending_bytes(UNFRAMED, b"all")(writer)
        if is_notified:
            writer.close()
        else:
            # Not ``close``, which tells the end of TLS first.
            writer.get_extra_info("socket").shutdown(socket.SHUT_RDWR)

    server_context, trust = server_tls(tmp_path)
    async with (
        running(end, tls=server_context) as server,
        new_session(aiohttp.TCPConnector(ssl=trust), set()) as session,
    ):
        if is_notified:
            assert await content(session, server.url) == b"all"
        else:
            with pytest.raises(aiohttp.ClientPayloadError):
                await content(session, server.url)


@pytest.mark.parametrize("method", ["GET", "PUT"])
@pytest.mark.parametrize("interim", [INTERIM, b"HTTP/1.1 100 Continue\r\n\r\n", INTERIM * 3])
async def test_a_server_that_is_silent_after_an_interim_response_is_given_up(
    method: str, interim: bytes
) -> None:
    timeout = aiohttp.ClientTimeout(sock_read=0.2)
    data = b"request" if method == "PUT" else None
    async with server_of(interim) as url, ours() as session, asyncio.timeout(10):
        with pytest.raises(aiohttp.SocketTimeoutError):
            await session.request(method, url, data=data, timeout=timeout)

"""The client over aiohttp's connections: connections are shared and bounded, and a request is sent once."""

import asyncio
import base64
import http.cookiejar
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp.abc
import aiohttp.cookiejar
import httpx
import pytest

from counterfoil.untrusted.addresses import Addresses, AddressForbidden, is_address_forbidden
from counterfoil.untrusted.http_transport import OWNER, new_client

IDLE = 3
MIB = 1024 * 1024


def a_client(**options: Any) -> httpx.AsyncClient:
    given = {"timeout": httpx.Timeout(30), "idle": IDLE, "headers": {}, "keepalive": 60.0}
    return new_client(**{**given, **options})


@dataclass
class Server:
    """Answers requests in groups (``together``); counts the connections that were made and those that are
    open."""

    url: str = ""
    made: int = 0
    there: int = 0
    heads: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    together: asyncio.Barrier = field(default_factory=lambda: asyncio.Barrier(1))
    all_gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.made += 1
        self.there += 1
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                if b"chunked" in self.heads[-1]:
                    self.bodies.append(await reader.readuntil(b"\r\n0\r\n\r\n"))
                await self.together.wait()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()
        self.there -= 1
        if not self.there:
            self.all_gone.set()


@asynccontextmanager
async def running() -> AsyncIterator[Server]:
    server = Server()
    async with serving(server.serve) as server.url:
        yield server


@asynccontextmanager
async def serving(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any],
) -> AsyncIterator[str]:
    listening = await asyncio.start_server(serve, "127.0.0.1", 0, limit=4 * MIB)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/"
    finally:
        listening.close()


async def status(http: httpx.AsyncClient, url: str) -> int:
    return (await http.get(url)).status_code


async def test_tasks_one_after_the_other_share_one_connection() -> None:
    async with running() as server, a_client() as http:
        for _ in range(2 * IDLE):
            assert await asyncio.create_task(status(http, server.url)) == 200
        assert server.made == 1


async def test_unused_connections_are_kept_up_to_the_limit() -> None:
    async with running() as server, a_client() as http:
        for _ in range(2):
            server.together = asyncio.Barrier(2 * IDLE)
            async with asyncio.timeout(60), asyncio.TaskGroup() as group:
                asked = [group.create_task(status(http, server.url)) for _ in range(2 * IDLE)]
            assert [each.result() for each in asked] == [200] * len(asked)
            await asyncio.sleep(0.1)
            assert server.there == IDLE
        assert server.made == 3 * IDLE


async def test_no_unused_connection_is_kept_without_a_limit_for_them() -> None:
    async with running() as server, a_client(idle=0) as http:
        assert [await status(http, server.url) for _ in range(3)] == [200] * 3
        assert server.made == 3


async def test_an_unused_connection_is_closed_after_its_time() -> None:
    async with running() as server, a_client(keepalive=0.1) as http:
        await status(http, server.url)
        async with asyncio.timeout(60):
            await server.all_gone.wait()


@pytest.mark.parametrize("is_context", [True, False])
async def test_all_connections_are_closed_in_the_end(*, is_context: bool) -> None:
    async with running() as server:
        http = a_client()
        async with http if is_context else aclosing(http), asyncio.TaskGroup() as group:
            for _ in range(2 * IDLE):
                group.create_task(status(http, server.url))
        async with asyncio.timeout(60):
            await server.all_gone.wait()


async def test_a_request_waits_for_a_free_connection_and_is_not_sent_without_one() -> None:
    async with running() as server, a_client(connections=1, timeout=httpx.Timeout(30, pool=0.2)) as http:
        async with http.stream("GET", server.url):
            with pytest.raises(httpx.PoolTimeout):
                await http.get(server.url)
        assert await status(http, server.url) == 200
        assert len(server.heads) == 2


async def test_connections_of_requests_that_failed_are_free_again() -> None:
    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with serving(refuse) as url, a_client(connections=1) as http:
        for _ in range(3):
            with pytest.raises(httpx.TransportError):
                await http.get(url)


async def test_requests_of_one_owner_that_hang_leave_connections_to_the_others() -> None:
    async with running() as hanging, running() as server, a_client(connections=4, share=lambda _: 3) as http:
        hanging.together = asyncio.Barrier(100)
        waiting = [asyncio.create_task(http.get(hanging.url, extensions={OWNER: "sales"})) for _ in range(20)]
        await asyncio.sleep(0.1)
        async with asyncio.timeout(20):
            answer = await http.get(server.url, extensions={OWNER: "legal"})
        assert answer.status_code == 200
        assert len(hanging.heads) == 3
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


# -- Bodies of requests --------------------------------------------------------------------------------------


async def chunks(*, count: int = 3, error: Exception | None = None) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * MIB
        yield b""
    if error is not None:
        raise error


async def test_a_body_is_sent_in_its_chunks_and_an_empty_one_does_not_end_it() -> None:
    async with running() as server, a_client() as http:
        answer = await http.post(server.url, content=chunks())
    assert answer.status_code == 200
    assert server.bodies[0].count(b"x") == 3 * MIB


@pytest.mark.parametrize(
    "error", [ValueError("mine"), TimeoutError("mine"), httpx.ReadError("mine")], ids=repr
)
async def test_an_error_of_the_source_is_raised_unchanged(error: Exception) -> None:
    async with running() as server, a_client() as http:
        with pytest.raises(type(error)) as raised:
            await http.post(server.url, content=chunks(error=error))
        assert raised.value is error
        assert await status(http, server.url) == 200
        assert server.made == 2


async def never_read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.sleep(30)


@pytest.mark.parametrize("content", [chunks(count=100), b"x" * 100 * MIB], ids=["chunks", "bytes"])
async def test_a_server_that_does_not_read_is_given_up(content: AsyncIterator[bytes] | bytes) -> None:
    async with serving(never_read) as url, a_client(timeout=httpx.Timeout(30, write=0.3)) as http:
        async with asyncio.timeout(10):
            with pytest.raises(httpx.WriteTimeout):
                await http.post(url, content=content)


async def test_nothing_reads_a_source_any_more_after_its_request_was_cancelled() -> None:
    closed, is_read = False, asyncio.Event()

    async def source() -> AsyncGenerator[bytes, None]:
        nonlocal closed
        try:
            yield b"x"
            is_read.set()
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0.05)
            closed = True

    async with running() as server, a_client() as http, aclosing(source()) as content:
        request = asyncio.create_task(http.post(server.url, content=content))
        await is_read.wait()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        assert closed


async def test_an_early_answer_is_given_when_the_body_is_sent() -> None:
    received, has_all = 0, asyncio.Event()

    async def answer_early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
        while not (block := await reader.read(65536)).endswith(b"\r\n0\r\n\r\n"):
            received += block.count(b"x")
        received += block.count(b"x")
        has_all.set()

    async with serving(answer_early) as url, a_client() as http:
        async with asyncio.timeout(30):
            answer = await http.put(url, content=chunks())
            await has_all.wait()
        assert answer.status_code == 201
        assert received == 3 * MIB


async def test_an_answer_that_comes_before_the_server_closes_is_read() -> None:
    async def too_large(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
        await asyncio.sleep(0.2)
        writer.close()

    async def slowly() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"x" * 65536
            await asyncio.sleep(0.05)

    async with serving(too_large) as url, a_client() as http:
        answer = await http.put(url, content=slowly())
    assert (answer.status_code, answer.content) == (413, b"no")


@pytest.mark.parametrize("declared", [3 * MIB - 1, 3 * MIB + 1])
async def test_a_body_of_another_length_than_declared_is_refused(declared: int) -> None:
    async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with serving(read) as url, a_client() as http:
        with pytest.raises(httpx.LocalProtocolError):
            await http.post(url, content=chunks(), headers={"Content-Length": str(declared)})


# -- Heads of requests ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [("X-A", b"b\r\nX-C: d"), ("X-A", b"b\0"), ("X A", b"b"), ("X-A:", b"b"), ("", b"b"), ("X-A", b"\xff\n")],
)
async def test_a_field_that_http_does_not_allow_is_not_sent(name: str, value: bytes) -> None:
    async with running() as server, a_client() as http:
        with pytest.raises(httpx.LocalProtocolError):
            await http.get(server.url, headers=[(name.encode(), value)])
        assert server.made == 0


async def test_target_and_fields_are_sent_as_they_are() -> None:
    async with running() as server, a_client(headers={"User-Agent": "Test"}) as http:
        url = f"{server.url}a%2Fb%20c/%C3%A4;d?e=%2f&f=a+b"
        await http.request("PROPFIND", url, headers={b"X-Name": "ä".encode(), b"Depth": b"1"})
    lines = server.heads[0].split(b"\r\n")
    assert lines[0] == b"PROPFIND /a%2Fb%20c/%C3%A4;d?e=%2f&f=a+b HTTP/1.1"
    assert {b"User-Agent: Test", "X-Name: ä".encode(), b"Depth: 1"} <= set(lines)
    assert len([line for line in lines if line.lower().startswith(b"user-agent")]) == 1


async def test_a_login_in_an_address_goes_into_its_field() -> None:
    async with running() as server, a_client() as http:
        assert await status(http, server.url.replace("://", "://anna:secret@")) == 200
    assert b"Authorization: Basic " + base64.b64encode(b"anna:secret") in server.heads[0]
    assert b"secret" not in server.heads[0].replace(base64.b64encode(b"anna:secret"), b"")


# -- Addresses and proxies -----------------------------------------------------------------------------------


def resolved(*addresses: str) -> Addresses:
    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return addresses

    return Addresses(allows_loopback=True, resolve=resolve)


@pytest.mark.parametrize(
    "host",
    ["127.1", "2130706433", "0x7f000001", "017700000001", "169.254.169.254", "[::ffff:169.254.169.254]"],
)
async def test_no_other_form_of_an_address_leads_around_the_check(host: str) -> None:
    async with running() as server, a_client(addresses=resolved("169.254.169.254")) as http:
        with pytest.raises(httpx.ConnectError):
            await http.get(server.url.replace("127.0.0.1", host))
        assert server.made == 0


@pytest.mark.parametrize(
    "host", ["127.1", "2852039166", "0xa9fea9fe", "0xa9.0xfe.43518", "025177524776", "169.254.169.254."]
)
async def test_no_other_form_of_an_address_reaches_a_proxy(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        async with a_client() as http:
            with pytest.raises(httpx.ConnectError) as raised:
                await http.get(f"http://{host}/")
        assert is_address_forbidden(raised.value)
        assert proxy.made == 0


async def test_the_text_of_an_error_has_no_query_of_an_address() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, a_client(timeout=httpx.Timeout(1.0, connect=0.1)) as http:
        with pytest.raises(httpx.ConnectTimeout) as raised:
            await http.get(f"https://127.0.0.1:{port}/x?sig=secret")
    assert str(port) in str(raised.value)
    assert "secret" not in str(raised.value)


async def test_a_forbidden_address_is_the_cause_of_the_error() -> None:
    async with a_client(addresses=resolved("169.254.169.254")) as http:
        with pytest.raises(httpx.ConnectError) as raised:
            await http.get("http://esaw.example/")
    assert is_address_forbidden(raised.value)
    assert isinstance(raised.value.__cause__, AddressForbidden)


async def test_the_login_of_a_proxy_goes_to_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as server:
        monkeypatch.setenv("HTTP_PROXY", server.url.replace("://", "://anna:secret@"))
        async with a_client() as http:
            assert await status(http, "http://esaw.invalid/a") == 200
    head = server.heads[0]
    assert head.startswith(b"GET http://esaw.invalid/a HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic " + base64.b64encode(b"anna:secret") in head


async def test_the_login_of_a_proxy_opens_a_tunnel_and_goes_no_further(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heads: list[bytes] = []
    inside: list[bytes] = []

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        inside.append(await reader.read(65536))
        writer.close()

    async with serving(tunnel) as url:
        monkeypatch.setenv("HTTPS_PROXY", url.replace("://", "://anna:secret@"))
        async with a_client() as http:
            with pytest.raises(httpx.TransportError):
                await http.get("https://esaw.invalid/a")
    assert heads[0].startswith(b"CONNECT esaw.invalid:443 HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic " + base64.b64encode(b"anna:secret") in heads[0]
    assert inside[0].startswith(b"\x16\x03")


async def test_a_proxy_that_refuses_is_named_in_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")

    async with serving(refuse) as url:
        monkeypatch.setenv("HTTPS_PROXY", url)
        async with a_client() as http:
            with pytest.raises(httpx.ProxyError):
                await http.get("https://esaw.invalid/a")


@pytest.mark.parametrize("no_proxy", ["127.0.0.1", "*"])
async def test_some_hosts_are_reached_without_the_proxy(
    no_proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running() as proxy, running() as server:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", no_proxy)
        async with a_client() as http:
            assert await status(http, server.url) == 200
        assert (proxy.made, server.made) == (0, 1)


async def test_cookies_of_a_response_are_not_even_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(*_: object) -> None:
        raise AssertionError("a cookie is parsed")

    monkeypatch.setattr(http.cookiejar, "parse_ns_headers", parse)
    monkeypatch.setattr(http.cookiejar, "split_header_words", parse)
    for module in (aiohttp.abc, aiohttp.cookiejar):
        monkeypatch.setattr(module, "parse_set_cookie_headers", parse)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        fields = b"Set-Cookie: a=b\r\nSET-COOKIE2: a=b\r\nX: kept\r\nContent-Length: 0\r\n\r\n"
        writer.write(b"HTTP/1.1 200 OK\r\n" + fields)

    async with serving(answer) as url, a_client() as client:
        response = await client.get(url)
    assert response.headers.multi_items() == [("x", "kept"), ("content-length", "0")]


@pytest.mark.parametrize("address", [b"mailto:a", b"http://xn--\xc3\xa9/", b"//\xe9:x"])
async def test_the_address_of_a_redirect_is_not_even_parsed(address: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: " + address + b"\r\nContent-Length: 0\r\n\r\n")

    async with serving(answer) as url, a_client() as client:
        response = await client.get(url)
    assert response.is_redirect
    assert "Location" in response.headers


@pytest.mark.parametrize("pause", [0, 0.01, 0.1])
async def test_an_answer_is_read_although_the_server_closes_before_the_body_is_sent(pause: float) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 507 Insufficient Storage\r\nContent-Length: 4\r\n\r\nfull")
        await writer.drain()
        await reader.read(65536)
        writer.close()

    async def source() -> AsyncIterator[bytes]:
        yield b"a" * 1000
        await asyncio.sleep(pause)
        yield b"b" * 1000
        await asyncio.sleep(pause)

    async with serving(refuse) as url, a_client() as client:
        response = await client.put(url, content=source())
    assert (response.status_code, response.text) == (507, "full")


@pytest.mark.parametrize("interim", [b"100 Continue", b"103 Early Hints"])
async def test_an_interim_response_begins_no_read_timeout_while_the_body_is_sent(interim: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 " + interim + b"\r\n\r\n")
        await reader.readuntil(b"\r\n0\r\n\r\n")
        writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")

    async def slowly() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(0.6)
        yield b"x"

    async with serving(answer) as url, a_client(timeout=httpx.Timeout(30, read=0.2)) as client:
        response = await client.put(url, content=slowly())
    assert response.status_code == 201


async def answered_at_once(answer: bytes) -> httpx.Response:
    """Send more than a server takes, which answers at once, reads nothing and keeps the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"HTTP/1.1 " + answer + b"\r\nContent-Length: 4\r\n\r\nfull")
        await asyncio.sleep(30)

    async with serving(serve) as url, a_client(timeout=httpx.Timeout(30, write=0.3)) as client:
        async with asyncio.timeout(20):
            return await client.put(url, content=chunks(count=100))


async def test_a_refusal_is_returned_although_the_server_reads_no_more() -> None:
    response = await answered_at_once(b"507 Insufficient Storage")
    assert (response.status_code, response.text) == (507, "full")


async def test_success_is_not_believed_without_all_of_the_body() -> None:
    with pytest.raises(httpx.WriteTimeout):
        await answered_at_once(b"201 Created")

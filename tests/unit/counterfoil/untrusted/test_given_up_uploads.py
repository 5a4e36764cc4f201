"""A server that stops to read holds neither a socket nor memory of an upload that was given up."""

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from counterfoil._upstream.event_loop import EventLoop
from counterfoil.untrusted.http_transport import new_client
from tests.support.servers.scripted_esaw import server_tls

UNREAD_BYTES = 64 * 1024 * 1024
"""More than the buffers of two sockets."""

SENT_BYTES = 1536 * 1024
"""More than a server takes that does not read, and less than the buffers of both sockets."""

SECONDS_TO_CLOSE = 5.0
"""asyncio and uvloop end a connection with TLS after 30."""

SILENT = b""
FULL = b"HTTP/1.1 507 Insufficient Storage\r\nContent-Length: 0\r\n\r\n"
FULL_AND_CLOSED = FULL[:-2] + b"Connection: close\r\n\r\n"
STORED_AND_CLOSED = FULL_AND_CLOSED.replace(b"507 Insufficient Storage", b"201 Created")
EXTRA = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nmore"
UNKNOWN_CODING = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n"
NO_HTTP = b"SSH-2.0-other\r\n\r\n"
NO_STATUS = b"HTTP/1.1 xx OK\r\n\r\n"
TWO_LENGTHS = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 3\r\n\r\n"
NO_CHUNK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"


@dataclass
class Way:
    """The connection to a server."""

    is_tls: bool = False
    is_proxied: bool = False


WAYS = {
    "plain": Way(),
    "tls": Way(is_tls=True),
    "plain by a proxy": Way(is_proxied=True),
    "tls by a proxy": Way(is_tls=True, is_proxied=True),
}
each_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


class Scene:
    """A server that reads the head of a request, answers ``answer``, and reads no more."""

    def __init__(
        self,
        way: Way,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        *,
        answer: bytes,
        size: int = UNREAD_BYTES,
    ) -> None:
        self.way = way
        self.answer = answer
        self.size = size
        self.server_tls, self.client_tls = server_tls(folder)
        self._monkeypatch = monkeypatch
        self.port = 0
        self.is_unread = asyncio.Event()
        self.is_over = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            if self.way.is_tls and self.way.is_proxied:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await writer.start_tls(self.server_tls)
            await reader.readuntil(b"\r\n\r\n")
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(self.answer)
            self.is_unread.set()
            await self.is_over.wait()

    async def upload(self, limits: httpx.Timeout) -> None:
        """Send more than the server reads. Raises as the client."""
        is_tls_at_once = self.way.is_tls and not self.way.is_proxied
        server = await asyncio.start_server(
            self.serve, "127.0.0.1", 0, ssl=self.server_tls if is_tls_at_once else None
        )
        self.port = server.sockets[0].getsockname()[1]
        self._monkeypatch.delenv("NO_PROXY", raising=False)
        if self.way.is_proxied:
            for name in ("HTTP_PROXY", "HTTPS_PROXY"):
                self._monkeypatch.setenv(name, f"http://127.0.0.1:{self.port}")
        url = f"http{'s' * self.way.is_tls}://127.0.0.1:{9 if self.way.is_proxied else self.port}/a"
        async with new_client(timeout=limits, idle=1, headers={}, verify=self.client_tls) as http:
            try:
                await http.put(url, content=content(self.size))
            finally:
                await self.wait_for_no_socket()
                self.is_over.set()
                server.close()

    async def wait_for_no_socket(self) -> None:
        for _ in range(100):
            if sockets_to(self.port):
                await asyncio.sleep(SECONDS_TO_CLOSE / 100)
        assert sockets_to(self.port) == []


async def fail_to_upload(scene: Scene) -> None:
    with suppress(httpx.TransportError):
        await scene.upload(httpx.Timeout(30, write=0.2))


async def content(size: int) -> AsyncGenerator[bytes, None]:
    for _ in range(size // 65536):
        yield b"x" * 65536


def sockets_to(port: int) -> list[str]:
    """Return state, bytes in buffers and number of each socket that is connected to ``port``, except those
    in TIME_WAIT. The number is 0 if no process has it any more."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [
        " ".join((each[3], each[4], each[9]))
        for each in lines
        if each[2].endswith(f":{port:04X}") and each[3] != "06"
    ]


def run_in(loop: type[asyncio.AbstractEventLoop], main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main)


HALF_HEAD = b"HTTP/1.1 200 OK\r\nContent-"
GARBAGE = b"\x17\x03\x03no record of TLS" * 64


class EndingScene(Scene):
    """A server that ends its direction after the answer, or breaks TLS, and keeps the socket."""

    def __init__(self, *args: Any, ending: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self.ending = ending

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw = writer.get_extra_info("socket").dup()
        serving = asyncio.create_task(super().serve(reader, writer))
        await self.is_unread.wait()
        raw.setblocking(False)
        if self.ending == "garbage":
            raw.send(GARBAGE)
        else:
            raw.shutdown(socket.SHUT_WR)
        raw.close()
        await serving


@each_way
@pytest.mark.parametrize(
    ("loop", "answer"),
    [(EventLoop, HALF_HEAD), (EventLoop, FULL), (asyncio.SelectorEventLoop, SILENT)],
    ids=["half a head", "early answer", "silent"],
)
@pytest.mark.parametrize("ending", ["end", "garbage"])
def test_an_upload_whose_server_ended_its_direction_leaves_no_socket(
    way: Way,
    answer: bytes,
    ending: str,
    loop: type[asyncio.AbstractEventLoop],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = EndingScene(way, tmp_path, monkeypatch, answer=answer, ending=ending)
    run_in(loop, fail_to_upload(scene))


@each_way
@pytest.mark.parametrize("answer", [FULL_AND_CLOSED, STORED_AND_CLOSED], ids=["full", "stored"])
def test_an_upload_that_the_system_holds_after_a_complete_answer_leaves_no_socket(
    way: Way, answer: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(way, tmp_path, monkeypatch, answer=answer, size=SENT_BYTES)
    run_in(EventLoop, fail_to_upload(scene))


@each_way
@pytest.mark.parametrize(
    "answer",
    [SILENT, FULL, EXTRA, UNKNOWN_CODING, NO_HTTP, NO_STATUS, TWO_LENGTHS, NO_CHUNK],
    ids=[
        "silent",
        "early answer",
        "bytes after an answer",
        "refused answer",
        "no HTTP",
        "no status",
        "two lengths",
        "no chunk",
    ],
)
@pytest.mark.parametrize("loop", [EventLoop, asyncio.SelectorEventLoop])
def test_an_upload_that_failed_leaves_no_socket(
    way: Way,
    answer: bytes,
    loop: type[asyncio.AbstractEventLoop],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene(way, tmp_path, monkeypatch, answer=answer)
    run_in(loop, fail_to_upload(scene))


@each_way
def test_an_upload_that_was_cancelled_leaves_no_socket(
    way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        scene = Scene(way, tmp_path, monkeypatch, answer=SILENT)
        sending = asyncio.create_task(scene.upload(httpx.Timeout(30)))
        await scene.is_unread.wait()
        await asyncio.sleep(0.2)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending

    run_in(EventLoop, main())

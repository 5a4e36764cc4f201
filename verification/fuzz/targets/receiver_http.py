"""The bytes that arrive at the port of the receiver, through the parser of aiohttp, up to the answers."""

import asyncio
import base64
import re
import selectors
from collections.abc import Callable
from typing import Any, TypeVar

from tests.support.builders import AClock
from tests.support.scenes.receiver_parts import (
    GUID,
    PASSWORD,
    TOKEN,
    ReceiverKubeClient,
    ReceiverParts,
    added,
    an_organization,
    synced,
    with_basic_auth,
)
from verification.fuzz.target import SEPARATOR, Check, Target, expect
from webhook.http_server.server import http_server
from webhook.receiver.limits import ReceiverLimits
from webhook.receiver.status_codes import HTTP_STATUS

CREDENTIALS = f"esaw:{PASSWORD}".encode()

SECONDS_PER_INPUT = 0.02
"""The clock's step."""

_STATUS_LINE = re.compile(rb"HTTP/\d\.\d (\d{3}) ")
_STATUSES = {100, *(int(each) for each in HTTP_STATUS.values())}

_ResultT = TypeVar("_ResultT")


class _IdleSelector(selectors.SelectSelector):
    """Waits for no file and no time, and tells when the event loop has nothing to do."""

    def __init__(self) -> None:
        super().__init__()
        self.idle: asyncio.Future[None] | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        # The loop does not wait while a callback is ready.
        if self.idle is not None and timeout != 0:
            self.idle.set_result(None)
            self.idle = None
        return []


class _EventLoop(asyncio.SelectorEventLoop):
    """An event loop without system calls and threads."""

    def __init__(self) -> None:
        self._idle_selector = _IdleSelector()
        super().__init__(self._idle_selector)

    async def until_idle(self) -> None:
        """Wait until no other task has anything to do, except after a time."""
        self._idle_selector.idle = self.create_future()
        await self._idle_selector.idle

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., _ResultT], *args: Any
    ) -> asyncio.Future[_ResultT]:
        """Run a function at once: a thread's end would come at another turn each time."""
        future: asyncio.Future[_ResultT] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future


class _Transport(asyncio.Transport):
    """Keeps what the server writes."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 1)})
        self.written = bytearray()
        self.is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0


class _Receiver:
    """A receiver without a socket, over an API server in memory."""

    def __init__(self, loop: _EventLoop) -> None:
        limits = ReceiverLimits()
        self.loop, self.kube, self.clock = loop, ReceiverKubeClient(), AClock()
        parts = ReceiverParts(self.kube, self.clock, limits, rate=1e9, burst=1_000_000_000)
        cache = parts.organization_cache
        cache.update(added(an_organization()))
        cache.update(added(with_basic_auth(an_organization("globex"))))
        cache.update(synced("acme", "globex"))
        self.server = http_server(parts.handler, limits)

    async def answer(self, pieces: list[bytes]) -> bytes:
        """Return what the receiver writes to a connection on which these pieces arrive."""
        protocol, transport = self.server(), _Transport()
        protocol.connection_made(transport)
        for piece in pieces:
            if transport.is_closed:
                break
            protocol.data_received(piece)
            await self.loop.until_idle()
        protocol.connection_lost(None)
        await self.loop.until_idle()
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            for each in others:
                each.cancel()
            await asyncio.gather(*others, return_exceptions=True)
        self.clock.advance(seconds=SECONDS_PER_INPUT)
        self.kube.objects.clear()
        self.kube.asked.clear()
        return bytes(transport.written)


def _prepare() -> Check:
    loop = _EventLoop()
    failures: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: failures.append(context))

    async def start() -> _Receiver:
        return _Receiver(loop)

    receiver = loop.run_until_complete(start())

    def check(data: bytes) -> None:
        failures.clear()
        written = loop.run_until_complete(receiver.answer(data.split(SEPARATOR)[:8]))
        statuses = [int(each) for each in _STATUS_LINE.findall(written)]
        expect(set(statuses) <= _STATUSES, f"the receiver answers as documented: {statuses}")
        expect(not written or bool(statuses), "an answer is HTTP")
        expect(TOKEN.encode() not in written, "no answer has the token")
        expect(not failures, f"the event loop has no error: {failures}")

    return check


_LINE = f"/callbacks/acme/{TOKEN}?envelopeId={GUID}&action=envelopeFinished HTTP/1.1\r\nHost: a\r\n".encode()

TARGET = Target(
    subject="raw HTTP at the receiver's port: line, headers and body",
    documented=(),
    seeds=(
        b"GET " + _LINE + b"\r\n",
        b"POST " + _LINE + b"Content-Length: 3\r\nConnection: close\r\n\r\nabc",
        b"POST "
        + _LINE
        + b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n\xff3\r\nabc\r\n0\r\n\r\n",
        b"GET "
        + _LINE.replace(b"acme", b"globex")
        + b"Authorization: Basic YTpi\r\ntraceparent: 00-a-b-01\r\n\r\n",
        b"GET "
        + _LINE.replace(b"acme", b"globex")
        + b"Authorization: Basic "
        + base64.b64encode(CREDENTIALS)
        + b"\r\n\r\n",
        b"GET " + _LINE + b"\r\n\xffGET " + _LINE + b"Content-Encoding: gzip\r\nCookie: a=b\r\n\r\n",
        b"PUT http://a/callbacks HTTP/1.0\r\n\r\n",
        b"POST " + _LINE + b"Upgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 99999\r\n\r\n\xffa",
    ),
    words=(
        *(
            b"GET POST HTTP/1.1 HTTP/2.0 \r\n \r\n\r\n Content-Length: chunked Transfer-Encoding: "
            b"0\r\n\r\n CONNECT /callbacks/acme/ \xff %ff \xe4 :// # ;a="
        ).split(b" "),
        b"Expect: 100-continue",
        b"Connection: keep-alive",
        b"Authorization: Basic",
        b"OPTIONS *",
    ),
    prepare=_prepare,
    max_length=12_000,
)

"""
A way that can be watched and broken: a reverse proxy between one process and what it talks to.

Requests pass unchanged (host name, path and headers, so that signatures hold) and are recorded with their
bodies. A ``Trap`` waits for a certain request and, at a certain moment of it, does something: kills the
client, holds the request back, answers in place of the server, cuts the line. All that a test knows about
order it knows from ``Ticks``, one count over everything that passes any of its proxies.
"""

import asyncio
import hashlib
import itertools
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType, TracebackType
from typing import Any, Self

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "upgrade"})
PIECE = 64 * 1024
"""Bytes of a body that pass at once."""

ENDLESS_PAUSE = 0.005
"""Seconds between two pieces of an answer without an end: 12 MiB/s at most."""


class Cut(Exception):
    """The line is cut: nothing more passes, in either direction."""


class Instead(Exception):
    """This is answered, and the server is not asked, or its answer is dropped."""

    def __init__(
        self,
        status: int,
        body: bytes = b"",
        content_type: str = "application/json",
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__(f"answered {status} instead")
        self.status = status
        self.body = body
        self.content_type = content_type
        self.headers = headers


class TrapPoint(StrEnum):
    """When in the life of a request something happens."""

    ARRIVED = "before it is forwarded"
    DONE = "when the server did it, before the answer"
    MIDDLE = "in the middle of the answer's body"


@dataclass(eq=False)
class Passage:
    """One request in progress. The numbers are those of ``Ticks``; 0: that has not happened."""

    arrived: int
    method: str
    path: str
    """Without the query."""
    query: str
    body: bytes
    port: int = 0
    """The client's own port, which shows who asks."""
    answered: int = 0
    """When the server answered: what was asked for is done."""
    status: int = 0
    """The server's response."""
    over: int = 0
    corrupts_answer: bool = False
    """Whether the first byte of the answer's body is changed, as by a server that lies."""
    byte_seconds: float = 0
    """Pause after each byte of the answer's body; 0: none, and larger pieces."""
    is_endless: bool = False
    """Whether the answer's body has no end."""
    rewrite: Callable[[bytes], bytes] | None = None
    """Change of the answer's body."""
    sha256: str = ""
    """Of the body that the server sent, in hex; empty unless all of it passed."""

    @cached_property
    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body) if self.body else None

    @property
    def is_watch(self) -> bool:
        """Whether it is a watch of the Kubernetes API."""
        return "watch=true" in self.query

    def stored(self, name: str) -> bool:
        """Whether it is a write to the object of this name, and the API server did it."""
        return f"/{name}/" in f"{self.path}/" and self.method != "GET" and 200 <= self.status < 300


Where = Callable[[Passage], bool]
Action = Callable[[], Awaitable[None]]


@dataclass(eq=False)
class Trap:
    """Does ``action`` at ``point`` of each request that ``where`` matches, a limited number of times."""

    where: Where
    point: TrapPoint
    action: Action
    after_bytes: int = 0
    """For ``MIDDLE``: how much of the body passes first."""
    left: int | None = 1
    """Number of remaining times; None: always."""
    skips: int = 0
    """Number of such requests that pass unharmed before the first one that does not."""
    sprung: asyncio.Event = field(default_factory=asyncio.Event)
    _passed: set[Passage] = field(default_factory=set)

    def fits(self, passage: Passage, point: TrapPoint) -> bool:
        """Whether it springs now."""
        if self.left == 0 or self.point is not point or passage in self._passed or not self.where(passage):
            return False
        if len(self._passed) < self.skips:
            self._passed.add(passage)
            return False
        return True

    async def spring(self) -> None:
        """Do it. Raises ``Cut`` or ``Instead`` where the request ends with it."""
        if self.left is not None:
            self.left -= 1
        self.sprung.set()
        await self.action()


class Hold:
    """An action that holds the request back until it is released."""

    def __init__(self) -> None:
        self.released = asyncio.Event()

    async def __call__(self) -> None:
        """Hold it back."""
        await self.released.wait()

    def release(self) -> None:
        """Let it pass."""
        self.released.set()


class Ticks:
    """One count for all that happens in a test."""

    def __init__(self) -> None:
        self._count = itertools.count(1)

    def next(self) -> int:
        """The next number."""
        return next(self._count)


class Proxy:
    """A proxy of one server on a free loopback port; use it with ``async with``."""

    def __init__(
        self, upstream: str, *, ticks: Ticks, tls: Any = None, own_tls: ssl.SSLContext | None = None
    ) -> None:
        """``tls``: the SSL context for an upstream with https. ``own_tls``: that of the proxy, as of an
        ingress."""
        self._upstream = upstream.rstrip("/")
        self._ticks = ticks
        self._tls = tls
        self._own_tls = own_tls
        self._traps: list[Trap] = []
        self._under_way: dict[Passage, web.BaseRequest] = {}
        self._unwanted: set[asyncio.Task[aiohttp.ClientResponse]] = set()
        self.passages: list[Passage] = []
        self.url = ""

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=0, ssl=self._tls if self._tls is not None else True)
        self._session = aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=30),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )
        # handler_cancellation: when the client dies, its watches at the server end as well.
        server = web.Server(self._pass, handler_cancellation=True, auto_decompress=False, access_log=None)
        self._runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._own_tls).start()
        scheme = "http" if self._own_tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()
        await self._session.close()

    def trap(
        self,
        where: Where,
        point: TrapPoint,
        action: Action,
        *,
        after_bytes: int = 0,
        times: int | None = 1,
        skips: int = 0,
    ) -> Trap:
        """Set a trap."""
        trap = Trap(where, point, action, after_bytes, times, skips)
        self._traps.append(trap)
        return trap

    def cut(self, where: Where) -> None:
        """Cut the connections of requests in progress."""
        for passage, request in list(self._under_way.items()):
            if where(passage):
                _abort(request)

    def clear(self) -> None:
        """Take all traps away."""
        self._traps.clear()

    def remove(self, traps: Iterable[Trap]) -> None:
        """Take some traps away."""
        gone = set(traps)
        self._traps = [each for each in self._traps if each not in gone]

    def seen(self, where: Where) -> list[Passage]:
        """The requests that ``where`` knows, in order of arrival."""
        return [each for each in self.passages if where(each)]

    # How

    async def _pass(self, request: web.BaseRequest) -> web.StreamResponse:
        path, _, query = request.raw_path.partition("?")
        peer = request.transport.get_extra_info("peername") if request.transport is not None else None
        port = peer[1] if peer else 0
        passage = Passage(self._ticks.next(), request.method, path, query, await request.content.read(), port)
        self.passages.append(passage)
        self._under_way[passage] = request
        try:
            await self._meet(passage, TrapPoint.ARRIVED)
            return await self._forward(request, passage)
        except Instead as answer:
            return web.Response(
                status=answer.status,
                body=answer.body,
                content_type=answer.content_type,
                headers=answer.headers,
            )
        except (Cut, aiohttp.ClientError, ConnectionError):
            # A server that is down and one that cuts the line look the same from here, and so from before us.
            _abort(request)
            return web.Response()  # aiohttp wants one; it has nowhere to go
        finally:
            passage.over = self._ticks.next()
            del self._under_way[passage]

    async def _forward(self, request: web.BaseRequest, passage: Passage) -> web.StreamResponse:
        async with await self._answer(request, passage) as answer:
            await self._meet(passage, TrapPoint.DONE)
            response = web.StreamResponse(
                status=answer.status, reason=answer.reason, headers=_passed_on(answer.headers)
            )
            keeps_length = passage.rewrite is None and not passage.is_endless
            if answer.content_length is not None and keeps_length:
                response.content_length = answer.content_length
            elif request.version == aiohttp.HttpVersion11:
                response.enable_chunked_encoding()
            await response.prepare(request)
            await self._pour(answer, response, passage)
            await response.write_eof()
            return response

    async def _answer(self, request: web.BaseRequest, passage: Passage) -> aiohttp.ClientResponse:
        """
        The server's answer.

        A server does what it was asked for also if the client no longer waits, so the answer is recorded all
        the same. Only a watch ends with its client.
        """
        asking = asyncio.create_task(self._ask(request, passage))
        if passage.is_watch:
            return await asking
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            self._unwanted.add(asking)
            asking.add_done_callback(self._drop)
            raise

    async def _ask(self, request: web.BaseRequest, passage: Passage) -> aiohttp.ClientResponse:
        answer = await self._session.request(
            request.method,
            URL(self._upstream + request.raw_path, encoded=True),
            headers=_passed_on(request.headers),
            data=passage.body or None,
            allow_redirects=False,
        )
        passage.status = answer.status
        passage.answered = self._ticks.next()
        return answer

    def _drop(self, asking: "asyncio.Task[aiohttp.ClientResponse]") -> None:
        self._unwanted.discard(asking)
        if not asking.cancelled() and asking.exception() is None:
            asking.result().close()

    async def _pour(
        self, answer: aiohttp.ClientResponse, response: web.StreamResponse, passage: Passage
    ) -> None:
        poured, sha256 = 0, hashlib.sha256()
        most = 1 if passage.byte_seconds else PIECE
        async for chunk in _chunks(answer, passage):
            sha256.update(chunk)
            is_changed = passage.corrupts_answer and poured == 0
            rest = memoryview(bytes([chunk[0] ^ 1]) + chunk[1:] if is_changed else chunk)
            while rest:
                trap = self._in_the_middle(passage)
                if trap is not None and poured >= trap.after_bytes:
                    await trap.spring()
                    continue
                size = most if trap is None else min(most, trap.after_bytes - poured)
                await response.write(rest[:size])
                poured += len(rest[:size])
                rest = rest[size:]
                if passage.byte_seconds:
                    await asyncio.sleep(passage.byte_seconds)
        passage.sha256 = sha256.hexdigest()

    def _in_the_middle(self, passage: Passage) -> Trap | None:
        return next((trap for trap in self._traps if trap.fits(passage, TrapPoint.MIDDLE)), None)

    async def _meet(self, passage: Passage, point: TrapPoint) -> None:
        for trap in list(self._traps):
            if trap.fits(passage, point):
                await trap.spring()


async def _chunks(answer: aiohttp.ClientResponse, passage: Passage) -> AsyncIterator[bytes]:
    """Yield the body as the client gets it."""
    if passage.rewrite is not None:
        yield passage.rewrite(await answer.read())
    else:
        async for chunk in answer.content.iter_any():
            yield chunk
    while passage.is_endless:
        yield bytes(PIECE)
        await asyncio.sleep(ENDLESS_PAUSE)


def _abort(request: web.BaseRequest) -> None:
    if request.transport is not None:
        request.transport.abort()


def _passed_on(headers: "CIMultiDict[str] | Any") -> "CIMultiDict[str]":
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in HOP_BY_HOP)


# Requests, by what they ask for


def stores(**wanted: str) -> Where:
    """A status patch of an EnvelopeEvent that sets ``phase``, or a condition that becomes True
    (``true=``)."""

    def knows(passage: Passage) -> bool:
        if passage.method != "PATCH" or "/envelopeevents/" not in passage.path:
            return False
        status = (passage.json or {}).get("status") or {}
        if "phase" in wanted and status.get("phase") != wanted["phase"]:
            return False
        truths = {each["type"] for each in status.get("conditions") or () if each["status"] == "True"}
        return "true" not in wanted or wanted["true"] in truths

    return knows


def asks(operation: str) -> Where:
    """A call of eSAW, by the name that the stand-in gives it."""
    return lambda passage: operation_of(passage) == operation


def operation_of(passage: Passage) -> str:
    """The call of eSAW: ``envelope``, ``files``, ``configuration``, ``history``, ``file``, ``delete`` or
    another one."""
    match passage.path.strip("/").split("/"):
        case [_, _, "envelope", "delete" | "find" as call]:
            return call
        case [_, _, "envelope", _]:
            return "envelope"
        case [_, _, "envelope", _, call]:
            return call
        case [_, _, "file", _]:
            return "file"
        case [*_, call]:
            return call
    return ""


def of_file(file_id: str) -> Where:
    """The download of one file."""
    return lambda passage: passage.path.endswith(f"/file/{file_id}")


def watches(plural: str) -> Where:
    """A watch of this kind."""
    return lambda passage: passage.is_watch and passage.path.endswith(f"/{plural}")


def puts(ending: str) -> Where:
    """An object whose name ends so is sent in one piece."""
    return lambda passage: (
        passage.method == "PUT" and "partNumber" not in passage.query and passage.path.endswith(ending)
    )


def begins_parts(passage: Passage) -> bool:
    """A multipart upload is begun."""
    return passage.method == "POST" and passage.query.startswith("uploads")

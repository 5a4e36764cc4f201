"""
The HTTP client for servers that others lead: httpx's client over aiohttp's connections.

It connects to checked addresses only, never follows a redirect, stores no cookies, sends each request once,
and no response holds the event loop by the number of its parts. Bytes that belong to no response end a
connection.

TLS still proves the name of the host, and a kept connection stays with its host. A proxy of the environment
looks names up itself; then only an address in the URL is checked here, and the proxy has to refuse the rest.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final, cast

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver, AbstractStreamWriter, ResolveResult
from httpx._utils import get_environment_proxies
from yarl import URL

from counterfoil._upstream.aiohttp_connections import Connection, EndNotShown, new_session
from counterfoil.untrusted.addresses import ALLOWED, Addresses, AddressForbidden, ends_in_number, is_address
from counterfoil.untrusted.fair_slots import FairSlots
from counterfoil.untrusted.tls_handshake import without_finite_fields

NEXT_ADDRESS_SECONDS: Final = 0.25
"""Wait for one address before the next one is tried as well. (RFC 8305, 8)"""

SMALL_BODY_BYTES: Final = 64 * 1024
"""Bytes of a request's body that are sent at once, without waiting for the server to read."""

_COOKIE_FIELDS = (b"set-cookie", b"set-cookie2")

OWNER = "counterfoil_owner"
"""Key of a request's extensions: the owner whose share of the connections counts, "" if there is none."""

_BODY = "counterfoil_body"
"""Key of a response's ``_ResponseStream`` in its extensions."""

_FIELD_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD_VALUE = re.compile(rb"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?")
"""As RFC 9110 has them, 5.1 and 5.5."""


_PLAIN_TEXT = re.compile(r"[A-Za-z0-9 ,()/-]{1,80}")


class InvalidResponse(httpx.RemoteProtocolError):
    """The head of a response is not valid HTTP. Its text has at most 80 printable characters, of which the
    server chose none, and can be empty."""


class BodyEndUnknown(httpx.ReadError):
    """The connection ended, and does not show whether the body, which has no length, is complete. All bytes
    that came were given before."""


def new_client(
    *,
    timeout: httpx.Timeout,
    idle: int,
    connections: int | None = None,
    share: Callable[[int], int] | None = None,
    keepalive: float = 5.0,
    headers: Mapping[str, str],
    verify: ssl.SSLContext | None = None,
    addresses: Addresses | None = None,
) -> httpx.AsyncClient:
    """
    Return a client; the caller closes it.

    ``connections`` is the maximum number of connections, and ``idle`` that of unused ones, which are kept for
    ``keepalive`` seconds; both for each proxy as well. Owners of requests (``OWNER``) get connections in a
    fair order, and one has no more than their ``share`` (``FairSlots``). The client uses ``HTTPS_PROXY``,
    ``NO_PROXY``, ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` of the environment, but no ``.netrc``. Without
    ``addresses``, those of the process are allowed. A request to a forbidden address raises
    ``httpx.ConnectError``, caused by ``AddressForbidden``, also behind a proxy if the address is in the URL.
    So does one in another form than four decimal numbers, which some programs read as an address.
    """
    allowed = addresses or ALLOWED.get()
    pool = _Pool(
        # One context for all: each copy of the authorities' certificates needs a megabyte.
        trust=verify or without_finite_fields(httpx.create_ssl_context()),
        connections=connections,
        share=share,
        idle=idle,
        keepalive=keepalive,
    )

    async def refuse(request: httpx.Request) -> None:
        host = request.url.host
        try:
            if is_address(host) or ":" in host:
                allowed.check(host, (host,))
            elif ends_in_number(host):
                raise AddressForbidden(host)
        except (OSError, ValueError) as error:
            raise httpx.ConnectError("a forbidden address", request=request) from error

    return httpx.AsyncClient(
        transport=_Transport(pool, resolver=_CheckedResolver(allowed)),
        mounts=_proxies(pool),
        headers=headers,
        timeout=timeout,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        follow_redirects=False,
        event_hooks={"request": [refuse]},
    )


def unchecked_client(trust: ssl.SSLContext, timeout: httpx.Timeout, *, trust_env: bool) -> httpx.AsyncClient:
    """Return a client for one request to an address that the pod's environment names: no address is checked.
    ``trust_env`` is whether proxies of the environment are used."""
    pool = _Pool(trust=trust, connections=None, share=None, idle=0, keepalive=0)
    return httpx.AsyncClient(
        transport=_Transport(pool),
        mounts=_proxies(pool) if trust_env else None,
        timeout=timeout,
        follow_redirects=False,
    )


async def has_trailing_bytes(response: httpx.Response) -> bool:
    """Whether the server sent bytes after the declared end of a body that was read to its end."""
    body = response.extensions.get(_BODY)
    return isinstance(body, _ResponseStream) and await body.has_more()


def _proxies(pool: "_Pool") -> Mapping[str, httpx.AsyncBaseTransport | None]:
    """Return a transport for each pattern of addresses that the environment names; None is without a proxy.
    Raises ``ValueError`` for a proxy other than http and https."""
    # httpx uses its own function only together with its own transport.
    return {
        pattern: None if proxy is None else _Transport(pool, proxy=_checked_proxy(proxy))
        for pattern, proxy in get_environment_proxies().items()
    }


def _checked_proxy(url: str) -> httpx.Proxy:
    proxy = httpx.Proxy(url)
    if proxy.url.scheme not in ("http", "https"):
        raise ValueError(f"a proxy of the environment has the scheme {proxy.url.scheme}, not http or https")
    return proxy


@dataclass(frozen=True)
class _Pool:
    """Limits of a client's connections."""

    trust: ssl.SSLContext
    connections: int | None
    share: Callable[[int], int] | None
    idle: int
    keepalive: float


class _CheckedResolver(AbstractResolver):
    """Looks names up and checks the addresses."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        try:
            addresses = await self._addresses.of(host, port)
        except ValueError as error:
            raise OSError("no usable address") from error
        return [
            ResolveResult(
                hostname=host,
                host=each,
                port=port,
                family=socket.AF_INET6 if ":" in each else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for each in addresses
        ]

    async def close(self) -> None:
        """Nothing to close."""


class _Transport(httpx.AsyncBaseTransport):
    """Sends requests over its own connections, all of them through ``proxy`` if there is one."""

    def __init__(
        self, pool: _Pool, *, resolver: AbstractResolver | None = None, proxy: httpx.Proxy | None = None
    ) -> None:
        self._pool = pool
        self._resolver = resolver
        self._proxy = proxy
        self._idle: set[Connection] = set()
        self._turns = None if pool.connections is None else FairSlots(pool.connections, share=pool.share)
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, once; return its response when all of the request is sent, or the server refused it
        and reads no more. Raises ``httpx.TransportError``, and what the request's body raises."""
        if request.url.scheme not in ("http", "https"):
            raise httpx.UnsupportedProtocol("neither http nor https", request=request)
        limits = request.extensions.get("timeout", {})
        owner = request.extensions.get(OWNER, "")
        await self._acquire(owner, limits.get("pool"))
        try:
            answer, connection = await self._send(request, limits)
        except BaseException:
            self._release(owner)
            raise
        body = _ResponseStream(answer, connection, self, owner)
        return _UnfollowedResponse(
            answer.status,
            # httpx parses cookies before it drops them, which takes seconds for a head full of them.
            headers=[each for each in answer.raw_headers if each[0].lower() not in _COOKIE_FIELDS],
            stream=body,
            extensions={"http_version": b"HTTP/1.1", _BODY: body},
        )

    async def aclose(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    def finish(
        self, answer: aiohttp.ClientResponse, connection: Connection, owner: str, *, is_reusable: bool
    ) -> None:
        """Take back the connection of a response."""
        self._release(owner)
        if is_reusable and len(self._idle) < self._pool.idle and not connection.should_close:
            self._idle.add(connection)
            answer.release()
        else:
            answer.close()

    async def _acquire(self, owner: str, timeout: float | None) -> None:  # noqa: ASYNC109 - as httpx names it
        if self._turns is None:
            return
        try:
            async with asyncio.timeout(timeout):
                await self._turns.wait(owner)
        except TimeoutError:
            raise httpx.PoolTimeout("no free connection") from None

    def _release(self, owner: str) -> None:
        if self._turns is not None:
            self._turns.release(owner)

    async def _send(
        self, request: httpx.Request, limits: Mapping[str, float]
    ) -> tuple[aiohttp.ClientResponse, Connection]:
        body = _body_of(request, limits.get("write"))
        fields = _fields_of(request)
        answer: aiohttp.ClientResponse | None = None
        try:
            with _translated():
                answer = await self._opened().request(
                    request.method,
                    _url_of(request),
                    headers=fields,
                    data=body,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(
                        connect=limits.get("connect"), sock_read=limits.get("read")
                    ),
                    **self._by_proxy(request, fields),
                )
            # Now: the response releases it if the rest of the body cannot be sent.
            connection = _connection_of(answer)
            if isinstance(body, _RequestBody):
                await _finish(body, answer)
        except BaseException as error:
            if answer is not None:
                answer.close()
            if isinstance(body, _RequestBody):
                await body.stop()
            if isinstance(body, _RequestBody) and isinstance(error, httpx.TransportError):
                body.raise_error()
            raise
        return answer, connection

    def _opened(self) -> aiohttp.ClientSession:
        """Return the session, which needs a running event loop."""
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=0,
                ssl=self._pool.trust,
                resolver=self._resolver,
                use_dns_cache=False,
                keepalive_timeout=self._pool.keepalive,
                happy_eyeballs_delay=NEXT_ADDRESS_SECONDS,
            )
            self._session = new_session(connector, self._idle)
        return self._session

    def _by_proxy(self, request: httpx.Request, fields: list[tuple[str, str]]) -> dict[str, Any]:
        """Return the options for the proxy; its login goes into the request if there is no tunnel."""
        if self._proxy is None:
            return {}
        options = {"proxy": str(self._proxy.url)}
        if self._proxy.auth is None:
            return options
        login = {"Proxy-Authorization": aiohttp.encode_basic_auth(*self._proxy.auth)}
        if request.url.scheme == "https":
            return {**options, "proxy_headers": login}
        fields.extend(login.items())
        return options


class _RequestBody(aiohttp.Payload):
    """A body in chunks. The server has to take each one in ``timeout`` seconds."""

    _autoclose = True

    def __init__(self, chunks: AsyncIterable[bytes], timeout: float | None) -> None:
        super().__init__(chunks)
        self._begun = asyncio.Event()
        self._chunks = chunks
        self._timeout = timeout
        self._error: BaseException | None = None
        self._sending: asyncio.Task[Any] | None = None

    def raise_error(self) -> None:
        """Raise why the body is incomplete, if that is known and no fault of the connection."""
        if self._error is not None:
            raise self._error

    async def finish(self) -> None:
        """Wait until all is sent, or the connection has ended. Raises as ``raise_error``."""
        await self._begun.wait()
        await self._end()
        self.raise_error()

    async def stop(self) -> None:
        """Stop sending, and wait until nothing reads the chunks any more."""
        if self._sending is not None:
            self._sending.cancel()
        await self._end()

    async def _end(self) -> None:
        """Wait for the task that sends. Its error is about the connection, which shows it as well."""
        if self._sending is not None:
            await asyncio.gather(self._sending, return_exceptions=True)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Send all chunks."""
        self._sending = asyncio.current_task()
        self._begun.set()
        await self._write(writer, content_length)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Send all chunks."""
        await self.write_with_length(writer, None)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Not possible: the chunks are not known."""
        raise TypeError("a body that is sent while it comes in has no text")

    async def _write(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        left = content_length
        chunks = aiter(self._chunks)
        while True:
            try:
                chunk = await anext(chunks, None)
            except Exception as error:
                self._error = error
                raise
            if left is not None:
                left -= len(chunk or b"")
            if left is not None and (left < 0 or (chunk is None and left > 0)):
                self._error = httpx.LocalProtocolError("the body has another length than declared")
                raise self._error
            if chunk is None:
                return
            try:
                async with asyncio.timeout(self._timeout):
                    await writer.write(chunk)
            except TimeoutError:
                self._error = httpx.WriteTimeout("the server does not read")
                raise self._error from None


class _UnfollowedResponse(httpx.Response):
    """A response that is never followed."""

    @property
    def has_redirect_location(self) -> bool:
        """False for all: httpx parses the address also if it does not follow, and raises if it is none."""
        return False


class _ResponseStream(httpx.AsyncByteStream):
    """The body of a response."""

    def __init__(
        self, answer: aiohttp.ClientResponse, connection: Connection, transport: _Transport, owner: str
    ) -> None:
        self._answer = answer
        self._connection = connection
        self._transport = transport
        self._owner = owner
        self._is_closed = False

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        while True:
            with _translated(self._connection):
                part = await self._connection.next_part()
            if not part:
                return
            yield part

    async def has_more(self) -> bool:
        """Whether bytes followed the complete body."""
        return await self._connection.has_more()

    async def aclose(self) -> None:
        """Return or close the connection."""
        if not self._is_closed:
            self._is_closed = True
            is_reusable = self._answer.content.at_eof()
            self._transport.finish(self._answer, self._connection, self._owner, is_reusable=is_reusable)


def _connection_of(answer: aiohttp.ClientResponse) -> Connection:
    """Return the connection of a response. Raises ``httpx.ReadError`` if it has none any more."""
    protocol = None if answer.connection is None else answer.connection.protocol
    if protocol is None:
        raise httpx.ReadError("the connection ended before the response was read")
    return cast(Connection, protocol)


async def _finish(body: _RequestBody, answer: aiohttp.ClientResponse) -> None:
    """Wait until all is sent. A server that refused the request does not have to read the rest."""
    try:
        await body.finish()
    except httpx.WriteTimeout:
        if answer.status < HTTPStatus.BAD_REQUEST:
            raise


def _body_of(request: httpx.Request, timeout: float | None) -> "_RequestBody | bytes | None":
    try:
        content = request.content
    except httpx.RequestNotRead:
        return _RequestBody(cast("AsyncIterable[bytes]", request.stream), timeout)
    if len(content) > SMALL_BODY_BYTES:
        return _RequestBody(_slices(content), timeout)
    return content or None


async def _slices(content: bytes) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(content), SMALL_BODY_BYTES):
        yield content[start : start + SMALL_BODY_BYTES]


def _url_of(request: httpx.Request) -> URL:
    """Return the address with the same escapes. A login in it is in ``Authorization`` already."""
    url = request.url.copy_with(userinfo=b"") if request.url.userinfo else request.url
    return URL(str(url), encoded=True)


def _fields_of(request: httpx.Request) -> list[tuple[str, str]]:
    """Return the fields of a request. Raises ``httpx.LocalProtocolError`` for what HTTP does not allow."""
    fields = []
    for name, value in request.headers.raw:
        if name.lower() == b"transfer-encoding":
            # aiohttp sets it itself.
            continue
        try:
            text = value.decode()
        except UnicodeDecodeError:
            text = "\n"
        if not _FIELD_NAME.fullmatch(name) or not _FIELD_VALUE.fullmatch(text.encode()):
            raise httpx.LocalProtocolError("a field that HTTP does not allow", request=request)
        fields.append((name.decode(), text))
    return fields


_QUERY: Final = re.compile(r"(https?://[^\s?'\"]*)\?[^\s'\"]*")
"""An address with its query, which may have a signature."""


@contextmanager
def _translated(connection: Connection | None = None) -> Iterator[None]:
    """Raise the errors of aiohttp as those of httpx, with the same cause."""
    try:
        yield
    except (aiohttp.ClientError, OSError, ValueError) as error:
        # Without the error itself, which has the fields of the request.
        raise _transport_error(error, connection)(_text_of(error)) from error.__cause__


def _text_of(error: Exception) -> str:
    if not isinstance(error, aiohttp.ClientResponseError):
        return _QUERY.sub(r"\1", str(error))
    # The bytes of the server follow a colon, or are in quotes.
    text = error.message.partition(":")[0].strip()
    return text if _PLAIN_TEXT.fullmatch(text) else ""


def _transport_error(error: Exception, connection: Connection | None) -> type[httpx.TransportError]:
    if isinstance(error, EndNotShown):
        return BodyEndUnknown
    if isinstance(error, aiohttp.ClientPayloadError):
        was_reset = connection is not None and connection.was_reset
        return httpx.ReadError if was_reset else httpx.RemoteProtocolError
    for kind, translation in _TRANSLATIONS:
        if isinstance(error, kind):
            return translation
    return httpx.ReadError


_TRANSLATIONS: Final[tuple[tuple[type[Exception], type[httpx.TransportError]], ...]] = (
    (aiohttp.ConnectionTimeoutError, httpx.ConnectTimeout),
    (aiohttp.ServerTimeoutError, httpx.ReadTimeout),
    (aiohttp.ClientHttpProxyError, httpx.ProxyError),
    (aiohttp.ClientConnectorError, httpx.ConnectError),
    (aiohttp.InvalidURL, httpx.ConnectError),
    (aiohttp.ServerDisconnectedError, httpx.RemoteProtocolError),
    (aiohttp.ClientResponseError, InvalidResponse),
    # A host that no name in a certificate can be, for example.
    (ValueError, httpx.ConnectError),
)
"""The first that fits counts."""

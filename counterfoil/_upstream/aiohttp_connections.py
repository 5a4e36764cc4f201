"""
aiohttp: a response that begins before its request, or does not end where it says, is not refused.

**Bytes after a response.** https://www.rfc-editor.org/rfc/rfc9112.html#section-6.3 forbids a client to ignore
bytes that follow a complete response: a ``Content-Length`` that is too small makes a shortened document look
complete. aiohttp returns a connection to its pool as soon as a response is complete. Bytes that come later,
while nobody uses the connection, are the response to the next request. Upstream:
https://github.com/aio-libs/aiohttp/blob/v3.14.5/aiohttp/connector.py (``BaseConnector._get``) and
https://github.com/aio-libs/aiohttp/blob/v3.14.5/aiohttp/client_reqrep.py (``ClientResponse._response_eof``).

**Interim responses.** aiohttp parses all responses with 1xx that one read brings, and takes any number of
them. 256 KiB hold the event loop for half a second. Upstream:
https://github.com/aio-libs/aiohttp/blob/v3.14.5/aiohttp/client_proto.py (``ResponseHandler.data_received``).

**An invalid body.** The reader of a chunked body waits without an end if the body becomes invalid after its
first bytes. Upstream: the same method.

**Other transfer encodings.** A body with one that is not chunked ends with its connection, also when that is
interrupted. One before chunked is ignored, and the content is coded. The largest length of 64 bits counts as
no body. Upstream: https://github.com/aio-libs/aiohttp/blob/v3.14.5/aiohttp/_http_parser.pyx

**Ends of connections.** aiohttp discards what it received and did not parse yet: the rest of a chunked body,
whose reader is slower than TLS. asyncio closes a TLS connection before all is read, if reading was resumed
and paused again. A reset ends a body without a length, and so does the end of a connection without that of
TLS. Upstream: the same module (``ResponseHandler.connection_lost``), and
https://github.com/python/cpython/blob/v3.14.0/Lib/asyncio/sslproto.py (``SSLProtocol._resume_reading``).

**Read timeouts.** An interim response ends the one of aiohttp, and half a head begins one while the request
is still being sent. Upstream: the same module (``ResponseHandler.data_received``).

**Repeated lengths.** aiohttp refuses two equal ones, which RFC 9110 allows, 8.6. Upstream:
https://github.com/aio-libs/aiohttp/blob/v3.14.5/aiohttp/_http_parser.pyx

**Large heads.** aiohttp bounds each field and their number, but not their sum.

**Reading ahead.** aiohttp reads up to 256 KiB while nobody waits for them, for each connection. Upstream:
https://github.com/aio-libs/aiohttp/blob/v3.14.5/aiohttp/streams.py (``StreamReader.feed_data``).

**Small parts.** aiohttp has no limit for the bytes of a chunked body that are no content.

**Bytes that nobody reads.** aiohttp closes the transport of a request that failed. A transport sends its
buffer before it ends, so a server that does not read keeps the socket and the buffer for as long as it likes.
With TLS they end after 30 seconds. Upstream:
https://github.com/aio-libs/aiohttp/blob/v3.14.5/aiohttp/client_proto.py (``ResponseHandler.close``).

**Repetition.** aiohttp sends a request a second time when a connection of its pool turns out to be closed,
also a DELETE. Upstream: https://github.com/aio-libs/aiohttp/blob/v3.14.5/aiohttp/client.py
(``_retry_connection``).

Versions: aiohttp up to 3.14.5; no issues yet.
"""

import asyncio
import fcntl
import re
import select
import socket
import ssl
import struct
import termios
from array import array
from contextlib import suppress
from functools import partial
from typing import Any, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError, RawResponseMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

MAX_INTERIM_RESPONSES: Final = 200
"""Responses with 1xx before a response, beyond ``INTERIM_RESPONSES_PER_SECOND``."""

INTERIM_RESPONSES_PER_SECOND: Final = 1
"""A WebDAV server may send 102 every 20 seconds, for as long as it works. (RFC 2518, 10.1)"""

MAX_FIELDS: Final = 200
"""Fields in the head or in the trailers of a response."""

MAX_FIELD_BYTES: Final = 64 * 1024
"""Bytes of one field of a response."""

MAX_HEAD_BYTES: Final = 128 * 1024
"""Bytes of one head of a response; each is several times in memory."""

MAX_BODY_BYTES: Final = 2**63 - 1
"""Largest length that a response may declare. aiohttp takes the largest of 64 bits for a body of no bytes."""

MAX_FRAMING_BYTES: Final = 1024 * 1024
"""Bytes of a chunked body that are no content, beyond one for each 8 bytes of content. A part of one byte has
5 of them; bytes that are received and not parsed yet count as well."""

HEAD_END: Final = b"\r\n\r\n"

HEAD_BEGIN: Final = b"HTTP/"

EMPTY_LINE: Final = re.compile(rb"\n\r?\n")
"""End of a head for aiohttp, which is valid with CR only."""

LENGTH: Final = re.compile(rb"(?i)\r\nContent-Length:([^\r\n]*)(?=\r\n(?![\t ]))")
"""A length that is not continued in the next line."""

TAIL: Final = len(HEAD_END) + 2
"""Last bytes of a chunked body that show whether more follow: they end with one empty line."""

HEAD_STEP: Final = 4096
"""Bytes of heads that are taken at once."""

BUFFER_BYTES: Final = 64 * 1024
"""Bytes of a body that wait for their reader before no more are read; one read brings up to 256 KiB."""

LATE_BYTES_SECONDS: Final = 0.01
"""Time until bytes that have arrived at a socket are read."""

RESET: Final = struct.pack("ii", 1, 0)
"""``SO_LINGER`` of a socket that the system resets when it is closed, without the bytes that are not sent."""

NO_RESET: Final = struct.pack("ii", 0, 0)
"""``SO_LINGER`` of a socket that is closed in order, as a new one is."""


class EndNotShown(aiohttp.ClientPayloadError):
    """A body without a length ended with its connection, which does not show that it is complete."""


class Connection(ResponseHandler):
    """A connection that expects one response to one request, and closes at all other bytes."""

    def __init__(self, loop: asyncio.AbstractEventLoop, idle: "set[Connection]") -> None:
        super().__init__(loop)
        self.has_extra_bytes = False
        """Whether bytes came that belong to no response."""
        self.was_reset = False
        """Whether the connection ended with an error."""
        self._idle = idle
        self._is_waiting = False
        self._body: StreamReader | None = None
        self._tls: ssl.SSLObject | None = None
        self._is_refused = False
        self._is_sent = False
        self._has_ended = False
        self._is_end_shown = True
        self._is_chunked = self._is_framed = False
        self._is_reading = False
        self._taken = 0
        self._interim = 0
        self._head = bytearray()
        self._since = 0.0
        self._received = 0
        self._last = b""

    def set_response_params(self, **options: Any) -> None:
        """Expect a response."""
        self._idle.discard(self)
        self._is_waiting, self._is_sent, self._body = True, False, None
        self._interim = self._received = 0
        self._head.clear()
        self._since = self._loop.time()
        self._last = b""
        super().set_response_params(**options)
        if self.transport is not None and not self.transport.is_closing():
            # The event loop closes it itself at an end or invalid TLS of the server: too late then.
            _linger(self.transport, RESET)

    def is_connected(self) -> bool:
        """Whether a request can be sent. Also asked for a connection of the pool, which must have nothing to
        read."""
        return super().is_connected() and self.exception() is None and not self._is_readable()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take what is no longer known by a transport that was closed twice."""
        super().connection_made(transport)
        self._tls = transport.get_extra_info("ssl_object")

    def connection_lost(self, exc: BaseException | None) -> None:
        """Parse what is left, and remember how the connection ended."""
        self.was_reset = exc is not None
        self._has_ended = True
        self._idle.discard(self)
        if self._body is not None:
            is_orderly = self._read_rest_of_tls() and exc is None
            self._parse_rest(self._body)
            if not self._body.is_eof() and not self._is_framed and not is_orderly:
                self.was_reset, self._is_end_shown = True, False
                self._body.set_exception(EndNotShown("the connection ended within the body"))
        super().connection_lost(exc)

    def close(self) -> None:
        """End the connection now, also if the server does not read what is not sent yet."""
        self._end()
        self.abort()

    def start_timeout(self) -> None:
        """Measure the silence of the server, to which all of the request is sent."""
        self._is_sent = True
        super().start_timeout()

    def pause_reading(self) -> None:
        """Parse no more, unless the connection has ended: the rest is bounded by what TLS holds."""
        if not self._has_ended:
            super().pause_reading()

    def data_received(self, data: bytes) -> None:
        """Parse the bytes: first heads, one by one, then a body."""
        while data and self._is_waiting and not self._is_refused:
            data = self._after_head(data)
        if self._is_refused:
            return
        if data and (self._body is None or self._body.is_eof()):
            self._end_with_extra_bytes()
            return
        self._received += len(data)
        self._last = (self._last + data[-TAIL:])[-TAIL:]
        error = self.exception()
        self._parse(data)
        if self._body is not None:
            self._check(self._body, is_valid=self.exception() is error)
            self._hold()

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """Take a parsed head. Only the first response after a request is passed on."""
        message, body = data
        if not self._is_waiting:
            self.has_extra_bytes = True
        elif 100 <= message.code <= 199 and message.code != 101:
            self._interim += 1
        else:
            self._is_waiting, self._body = False, body
            self._is_chunked = message.chunked and body is not EMPTY_PAYLOAD
            self._is_framed = message.chunked or "Content-Length" in message.headers
            codings = [each.lower() for each in message.headers.getall("Transfer-Encoding", ())]
            if codings != ["chunked"] * message.chunked:
                # Its end may be an interruption (RFC 9112, 6.3), or its content is coded.
                self._refuse("the response has another transfer encoding than chunked")
            elif int(message.headers.get("Content-Length", 0)) > MAX_BODY_BYTES:
                self._refuse("the response declares a length that no body has")
            else:
                super().feed_data(data, size)

    def resume_reading(self, *options: bool, **named_options: bool) -> None:
        """Continue to parse. The socket is read by ``next_part`` only."""
        super().resume_reading(*options, **named_options)
        self._hold()

    async def next_part(self) -> bytes:
        """Return the next bytes of the body, none at its end. Raises ``aiohttp.ClientError``; ``EndNotShown``
        after all bytes that came."""
        body = self._body
        if body is None:
            return b""
        # aiohttp gives no bytes after an error.
        if not self._is_end_shown and (rest := body._read_nowait(-1)):
            return rest
        part = body.read_nowait()
        if part or body.at_eof():
            return part
        self._is_reading, self._taken = True, body.total_bytes
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()
            self.start_timeout()
        try:
            return await body.readany()
        finally:
            self._is_reading = False

    async def has_more(self) -> bool:
        """Whether bytes followed the complete response."""
        if self._is_readable() and not self.has_extra_bytes:
            await asyncio.sleep(LATE_BYTES_SECONDS)
        return self.has_extra_bytes

    def _after_head(self, data: bytes) -> bytes:
        """Take the bytes of one head, and parse it when it is complete; return the bytes after it."""
        before = len(self._head)
        self._head += data[:HEAD_STEP]
        found = EMPTY_LINE.search(self._head, max(0, before - 2))
        if found is not None:
            del self._head[found.end() :]
        taken = len(self._head) - before
        if len(self._head) > MAX_HEAD_BYTES:
            self._refuse("the response has too large a head")
        elif found is None and not HEAD_BEGIN.startswith(self._head[:9].lstrip(b"\r\n")[: len(HEAD_BEGIN)]):
            self._refuse("the response is not HTTP")
        elif found is not None and not self._head.endswith(HEAD_END):
            # Valid for aiohttp.
            self._refuse("the response has lines without CR")
        elif found is not None:
            self._parse_head(_with_one_length(bytes(self._head)))
            self._head.clear()
        if self._is_waiting and not self._is_refused:
            if self._is_sent:
                self.start_timeout()
            else:
                self._drop_timeout()
        return data[taken:]

    def _parse_head(self, head: bytes) -> None:
        before, error = self._interim, self.exception()
        self._parse(head)
        if self.exception() is not error:
            self._is_refused = True
        elif self._interim - before + (not self._is_waiting) != 1:
            self._refuse("the response has empty lines")
        elif self._interim > MAX_INTERIM_RESPONSES + INTERIM_RESPONSES_PER_SECOND * self._waited():
            self._refuse("too many interim responses")

    def _parse(self, data: bytes) -> None:
        """Let aiohttp parse. The rest of a request may be sent after a complete response only."""
        super().data_received(data)
        transport = self.transport
        if self._has_ended or transport is None or transport.is_closing() or not self._is_complete():
            return
        if not transport.get_write_buffer_size() and not _unsent_bytes(transport):
            _linger(transport, NO_RESET)

    def _is_complete(self) -> bool:
        """Whether the response is complete."""
        return self._body is not None and self._body.is_eof()

    def _waited(self) -> float:
        """Return the seconds since a response is expected."""
        return self._loop.time() - self._since

    def _parse_rest(self, body: StreamReader) -> None:
        """Parse what the parser kept when it was paused; a pause from before can interrupt it once."""
        before = -1
        while not body.is_eof() and body.total_bytes > before:
            before = body.total_bytes
            self.data_received(b"")

    def _read_rest_of_tls(self) -> bool:
        """Take what TLS still holds; return whether the server has ended it. (RFC 9112, 9.8)"""
        try:
            while self._tls is not None and (data := self._tls.read(BUFFER_BYTES)):
                self.data_received(data)
        except ssl.SSLZeroReturnError:
            return True
        except ssl.SSLError:
            return False
        return True

    def _check(self, body: StreamReader, *, is_valid: bool) -> None:
        framing = self._received - body.total_bytes
        if not body.is_eof():
            if not is_valid:
                self._refuse("the response has no valid body")
            elif framing > MAX_FRAMING_BYTES + body.total_bytes // 8:
                self._refuse("the response has too many small parts")
        elif self._is_chunked:
            # An error after a complete body is about the bytes that follow it.
            ends = self._last.endswith(HEAD_END) and not self._last.endswith(b"\r\n" + HEAD_END)
            if not is_valid or not ends or self.has_extra_bytes:
                self._end_with_extra_bytes()
        elif not is_valid or framing:
            self._end_with_extra_bytes()

    def _hold(self) -> None:
        """
        Read no more of a body until its reader waits, and measure no silence meanwhile.

        A reader still waits after bytes that are no content, such as the size of a part.
        """
        transport, body = self.transport, self._body
        if transport is None or transport.is_closing() or body is None or body.is_eof():
            return
        if not self._is_reading or body.total_bytes > self._taken:
            transport.pause_reading()
            self._drop_timeout()

    def _end_with_extra_bytes(self) -> None:
        self.has_extra_bytes = True
        self.force_close()
        self._end()

    def _refuse(self, why: str) -> None:
        self._is_refused = True
        self.set_exception(HttpProcessingError(code=0, message=why))
        if self._body is not None:
            self._body.set_exception(aiohttp.ClientPayloadError(why))
        self._end()

    def _end(self) -> None:
        """End the connection. The system does not send the rest of a request without a complete response."""
        transport = self.transport
        if transport is None:
            return
        # The number of a socket that is closing can belong to another one already.
        if not transport.is_closing() and (not self._is_complete() or transport.get_write_buffer_size()):
            _linger(transport, RESET)
        transport.abort()

    def _is_readable(self) -> bool:
        """Whether the socket has bytes, or its end, that are not read yet."""
        if self.transport is None or self.transport.is_closing():
            return False
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))


def _linger(transport: asyncio.BaseTransport, value: bytes) -> None:
    # macOS refuses it for a connection that the server has reset.
    with suppress(OSError):
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, value)


def _unsent_bytes(transport: asyncio.BaseTransport) -> int:
    """Return the bytes that the system has not sent, or whose arrival was not confirmed; 0 if unknown."""
    count = array("i", [0])
    with suppress(OSError):
        fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, count)
    return count[0]


def _with_one_length(head: bytes) -> bytes:
    """Return a head with one length for several equal ones."""
    fields: list[bytes] = LENGTH.findall(head)
    values = [each.strip(b"\t ") for field in fields for each in field.split(b",")]
    if len(values) < 2 or len(set(values)) > 1 or not values[0].isdigit():
        return head
    return LENGTH.sub(b"", head)[: -len(HEAD_END)] + b"\r\nContent-Length: " + values[0] + HEAD_END


class Response(aiohttp.ClientResponse):
    """A response whose connection is returned only by ``release``, and not at the end of its body."""

    def _response_eof(self) -> None:
        """Keep the connection."""


def new_session(connector: aiohttp.BaseConnector, idle: set[Connection]) -> aiohttp.ClientSession:
    """Return a session that sends each request once, and whose connections are ``Connection``. ``idle`` are
    those in the pool that nobody uses."""
    # mypy forbids another type under the name of a private attribute.
    setattr(connector, "_factory", partial(Connection, asyncio.get_running_loop(), idle))  # noqa: B010
    session = aiohttp.ClientSession(
        connector=connector,
        response_class=Response,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        read_bufsize=BUFFER_BYTES,
        max_line_size=MAX_FIELD_BYTES,
        max_field_size=MAX_FIELD_BYTES,
        max_headers=MAX_FIELDS,
    )
    session._retry_connection = False
    return session

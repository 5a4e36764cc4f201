"""
httpcore, h11 and httpx: five attributes without a public interface.

**Bytes after a response.** https://www.rfc-editor.org/rfc/rfc9112.html#section-6.3 forbids a client to ignore
bytes that follow a complete response. httpx ignores them: a truncated ``Content-Length`` makes a shortened
document look complete. h11 keeps such bytes in ``trailing_data``, but httpx has no public way to the h11
connection. Upstream: https://github.com/encode/httpcore/blob/1.0.9/httpcore/_async/http11.py. Versions: httpx
up to 0.28.1 with httpcore up to 1.0.9.

**Size of a read.** httpcore reads 64 KiB at a time, which costs a download twice the CPU. The size is an
attribute of a public class, for the whole process, and no option of a pool. Upstream:
https://github.com/encode/httpcore/blob/1.0.9/httpcore/_async/http11.py (``READ_NUM_BYTES``). Versions:
httpcore up to 1.0.9.

**The network.** A pool of httpcore takes a network backend, but httpx makes the pool and has no option for
it. Upstream: https://github.com/encode/httpx/blob/0.28.1/httpx/_transports/default.py
(``AsyncHTTPTransport.__init__``). Versions: httpx up to 0.28.1.

**Small parts.** httpcore passes on each chunk of a body, and lets no other task run before all that
it has read is used up: 256 KiB with chunks of one byte hold the event loop for seconds. Interim responses
(1xx) without an end do the same. Upstream:
https://github.com/encode/httpcore/blob/1.0.9/httpcore/_async/http11.py (``_receive_event``), no issue yet.
Versions: httpcore up to 1.0.9.

**Many fields.** h11 parses all fields of a head in one step, as many as one read brings: 85,000 in 256 KiB,
which takes tenths of a second. Upstream: https://github.com/python-hyper/h11/blob/v0.16.0/h11/_readers.py
(``maybe_read_from_SEND_BODY_server``), no issue yet. Versions: h11 up to 0.16.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from operator import attrgetter
from typing import Final
from weakref import WeakKeyDictionary

import h11
import httpcore
import httpx
from h11._receivebuffer import ReceiveBuffer

_H11_CONNECTION = attrgetter("_stream._httpcore_stream._stream._connection._h11_state")
"""Path from the stream of a response to its h11 connection."""

_POOL = attrgetter("_transport._pool")
"""Path from a client to its connection pool for requests without a proxy."""

MAX_SMALL_PARTS: Final = 10_000
"""Parts of a response, beyond one for each ``SMALL_PART_BYTES`` bytes of its body."""

SMALL_PART_BYTES: Final = 64

MAX_INTERIM_RESPONSES: Final = 200
"""Responses with 1xx before a response, beyond ``INTERIM_RESPONSES_PER_SECOND``."""

INTERIM_RESPONSES_PER_SECOND: Final = 1
"""A WebDAV server may send 102 every 20 seconds, for as long as it works. (RFC 2518, 10.1)"""

MAX_FIELDS: Final = 200
"""Fields in the head or in the trailers of a response."""

PARTS_PER_TURN: Final = 50
"""Parts after which other tasks run; one part takes up to 0.1 ms."""

RECEIVE_EVENT = httpcore.AsyncHTTP11Connection._receive_event
"""The method of httpcore."""

EXTRACT_LINES = ReceiveBuffer.maybe_extract_lines
"""The method of h11, which returns the lines of a complete head."""


def set_read_size(size: int) -> None:
    """Set the maximum number of bytes per read, for all connections of the process."""
    httpcore.AsyncHTTP11Connection.READ_NUM_BYTES = size


def set_network(http: httpx.AsyncClient, network: httpcore.AsyncNetworkBackend) -> None:
    """Let a client connect over this network from now on. Connections to a proxy stay as they are."""
    _POOL(http)._network_backend = network


def pace_responses() -> None:
    """Let other tasks run while a response has many small parts, and refuse one that has too many parts or
    fields, for all connections of the process."""
    # mypy forbids another type under the name of a method.
    setattr(ReceiveBuffer, "maybe_extract_lines", _bounded_lines)  # noqa: B010
    setattr(httpcore.AsyncHTTP11Connection, "_receive_event", _paced_event)  # noqa: B010


@dataclass
class _Parts:
    """Counts the parts of one response."""

    count: int = 0
    size: int = 0
    interim: int = 0
    interim_since: float = 0.0
    """Time of the first interim response."""

    def is_flood(self, now: float) -> bool:
        """Whether one more interim response is one too many."""
        self.interim_since = self.interim_since if self.interim else now
        self.interim += 1
        free = INTERIM_RESPONSES_PER_SECOND * (now - self.interim_since)
        return self.interim > MAX_INTERIM_RESPONSES + free


_parts: WeakKeyDictionary[httpcore.AsyncHTTP11Connection, _Parts] = WeakKeyDictionary()


def _bounded_lines(buffer: ReceiveBuffer) -> list[bytearray] | None:
    lines = EXTRACT_LINES(buffer)
    if lines is not None and len(lines) > MAX_FIELDS + 1:
        raise h11.RemoteProtocolError("the response has too many fields")
    return lines


async def _paced_event(
    connection: httpcore.AsyncHTTP11Connection,
    timeout: float | None = None,  # noqa: ASYNC109 - the signature of httpcore
) -> h11.Event | type[h11.PAUSED]:
    event = await RECEIVE_EVENT(connection, timeout=timeout)
    parts = _parts.setdefault(connection, _Parts())
    if isinstance(event, h11.Response | h11.EndOfMessage):
        parts.count = parts.size = parts.interim = 0
        return event
    if isinstance(event, h11.InformationalResponse):
        if parts.is_flood(asyncio.get_running_loop().time()):
            raise httpcore.RemoteProtocolError("too many interim responses")
        await asyncio.sleep(0)
        return event
    parts.count += 1
    parts.size += len(event.data) if isinstance(event, h11.Data) else 0
    if parts.count - parts.size // SMALL_PART_BYTES > MAX_SMALL_PARTS:
        raise httpcore.RemoteProtocolError("the response has too many small parts")
    if parts.count % PARTS_PER_TURN == 0:
        await asyncio.sleep(0)
    return event


async def has_trailing_bytes(response: httpx.Response) -> bool:
    """
    Whether the server sent bytes after the declared end of a body; if so, close the connection.

    httpx would read these bytes as the beginning of the next response.
    """
    network: httpcore.AsyncNetworkStream | None = response.extensions.get("network_stream")
    if network is None:
        return False
    has_more = bool(_H11_CONNECTION(response.stream).trailing_data[0])
    if not has_more and network.get_extra_info("is_readable"):
        # A connection that the server closes is readable as well.
        with suppress(httpcore.NetworkError, httpcore.TimeoutException):
            has_more = bool(await network.read(1, timeout=0.01))
    if has_more:
        await network.aclose()
    return has_more

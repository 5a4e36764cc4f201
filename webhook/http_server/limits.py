"""
The limits that each HTTP process has; the receiver, the pages and the console set their own values.

They keep a flood, a slow client or a broken client from taking more than its share of memory, time and API
server. Settings hold the values that depend on the size of an installation. These limits also hold without an
ingress.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class HttpLimits:
    """Limits of a public port; times in seconds, sizes in bytes. Tests use smaller values."""

    request_line: int = 8190
    """Maximum size of method, path and query. A longer request line is answered 400."""

    header_field: int = 12 * 1024
    """Maximum size of one header line. Browsers send all cookies of a path in one. A longer line is answered
    400."""

    headers: int = 100
    """Maximum number of header lines of one request; more are answered 400."""

    parameters: int = 32
    """Maximum number of parameters in a query or a form."""

    body: int = 32 * 1024
    """Maximum size of a request's body; a larger body is answered 413."""

    body_seconds: float = 10.0
    """Timeout for reading a request's body."""

    stream_seconds: float = 120.0
    """Timeout for sending a file in parts."""

    connections: int = 1000
    """Maximum number of open connections, of some 60 KiB each. For one more, the oldest one without a request
    in progress is closed."""

    unread_seconds: float = 150.0
    """Maximum time for which a client may leave sent bytes unread; then its connection is closed."""

    idle_seconds: float = 30.0
    """Timeout for a request's headers, and for a connection without a request. aiohttp has one timer for
    both."""

    lingering_seconds: float = 1.0
    """Time during which the rest of a refused body is read and discarded, so that the client receives the
    answer."""

    in_flight: int = 100
    """Maximum number of requests that are handled concurrently."""

    client_addresses: int = 10_000
    """Maximum number of addresses whose rate is kept (about 300 bytes each). A client with more addresses
    meets the limits over all clients."""

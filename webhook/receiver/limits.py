"""
Every bound of the receiver, in one place.

They keep a flood, a slow client or a broken one from taking more than its share of memory, time and API server.
What depends on the size of an installation is a setting instead (``ReceiverSettings``). An ingress in front should
have its own limits; these hold without one.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ReceiverLimits:
    """The bounds; times in seconds, sizes in bytes. Tests make them smaller."""

    request_line: int = 4096
    """Method, path and query. A workstep URL with everything in it has some 600; longer is answered 400."""

    header_field: int = 4096
    """One header line. Proxies add long ones (cookies, traces), eSAW sends none of note; longer is answered 400."""

    headers: int = 64
    """Header lines of one request; more are answered 400."""

    parameters: int = 32
    """Parameters in the query. Namirial documents eight placeholders; the rest is room for a customer's own."""

    body: int = 64 * 1024
    """Body of a request. Nothing in it is used (eSAW sends GET); larger is answered 413. Never decompressed."""

    body_seconds: float = 5.0
    """Time for the body to come; slower is answered 408."""

    idle_seconds: float = 15.0
    """Time for a request's headers to come, and for a connection to stay open without one. aiohttp knows only one
    timer for both. A proxy that keeps connections longer repeats a GET by itself when it finds one closed."""

    lingering_seconds: float = 1.0
    """Time during which the rest of a refused body is read and thrown away, so that the client sees the answer."""

    write_seconds: float = 10.0
    """Time for one write to the API server, waiting for a free connection included; slower is answered 503."""

    in_flight: int = 2000
    """Callbacks with a valid token that are worked on at once. Each waits for one write, so more would only
    wait longer and take memory (some 20 KiB each); they are answered 503."""

    retry_after: int = 10
    """Seconds named in Retry-After of a 503. eSAW has its own rhythm (minutes); proxies and people read it."""

    remembered_events: int = 20_000
    """Names of events that are remembered as known (some 200 bytes each), so that the API server is asked for them
    by reading, which costs it less than half of a create that fails."""

    pending_counts: int = 20_000
    """Events whose repeated deliveries wait to be counted (some 300 bytes each). Beyond it they stay uncounted."""

    flush_seconds: float = 1.0
    """Pause between two rounds of counting, so that 1,000 deliveries of one event in a second are one write."""

    flush_writers: int = 4
    """Counts that are written at once. Few, because noting down goes first."""

    flush_spacing: float = 0.025
    """Pause of each writer between two counts, which makes some 100 a second at most. When thousands of events are
    delivered again after an outage, counting them must not take the API server from those that are new."""

    flush_conflicts: int = 20
    """Times a count is tried anew in one round because somebody else wrote to the event first."""

    max_flush_interval: float = 15.0
    """Longest pause between rounds while the API server does not take the counts."""

    probe_seconds: float = 5.0
    """Age up to which a successful write to the API server, real or on trial, is taken as proof of readiness."""

"""The limits of the receiver; ``webhook.http_server.limits`` explains those that all processes share."""

from dataclasses import dataclass

from webhook.http_server.limits import HttpLimits


@dataclass(frozen=True, kw_only=True)
class ReceiverLimits(HttpLimits):
    """The limits; times in seconds, sizes in bytes."""

    request_line: int = 8190
    """Maximum size of method, path and query. A workstep URL with all placeholders has about 600 bytes, and
    16 own parameters of 256 letters have 5,200. Proxies allow no more either."""

    header_field: int = 4096
    """Maximum size of one header line. Proxies add long ones (cookies, traces); eSAW does not."""

    headers: int = 64

    body: int = 64 * 1024
    """Maximum size of a body. The receiver uses none (eSAW sends GET) and decompresses none."""

    body_seconds: float = 5.0
    """Timeout for reading a body; a slower one is answered 503."""

    idle_seconds: float = 15.0
    """Timeout for a request's headers, and for a connection without a request. A proxy that keeps connections
    open longer repeats a GET when it finds one closed."""

    in_flight: int = 2000
    """Maximum number of callbacks with a valid token that are handled concurrently. Each waits for its turn
    and for one write, and takes some 20 KiB; more are answered 503. One namespace of several may have three
    quarters of them, and so may one organization of several."""

    connections: int = 2500
    """Maximum number of open connections, of some 60 KiB each, so that all of them fit into the memory limit
    of the chart. For one more, the oldest one without a request in progress is closed."""

    unread_seconds: float = 30.0
    """Maximum time for which a client may leave sent bytes unread; an answer has some hundred bytes."""

    wait_seconds: float = 5.0
    """Timeout for the wait for a turn to write, of which there are as many as connections to the API server;
    a callback that waits longer is answered 503 without a request."""

    write_seconds: float = 10.0
    """Timeout for one write to the API server; a slower one is answered 503. Both times together are shorter
    than ``grace``, so a stopping receiver answers all."""

    retry_after: int = 10
    """Seconds in the Retry-After of a 503. eSAW retries at its own intervals (minutes); proxies and people
    read this."""

    full_retry_after: int = 300
    """Seconds in the Retry-After of a 503 for an organization at a ceiling: the controller counts every 30
    s, and the cause takes longer."""

    remembered_events: int = 20_000
    """Maximum number of names of known events in memory (about 200 bytes each), of all namespaces. For these
    the receiver reads the event, which costs the API server less than half of a create that fails."""

    pending_counts: int = 20_000
    """Maximum number of events with callbacks to count (about 300 bytes each), of all namespaces. Callbacks
    of others stay uncounted. One namespace of several may have three quarters of them."""

    flush_seconds: float = 1.0
    """Interval between two rounds of counting: 1,000 callbacks of one event in a second are one write."""

    flush_writers: int = 4
    """Maximum number of concurrent count writes, of all namespaces. Few, because creating events has
    priority."""

    flush_spacing: float = 0.025
    """Interval between two counts of one writer, which allows some 100 counts a second. After an outage,
    counting thousands of repeated callbacks must not take the API server from new events."""

    flush_conflicts: int = 20
    """Maximum number of attempts at one count in one round, when other writers change the event first."""

    flush_failures: int = 3
    """Number of counts in a row without a usable answer after which a writer ends its round. One alone may be
    about its event."""

    max_flush_interval: float = 15.0
    """Maximum interval between rounds while the API server refuses the counts."""

    probe_seconds: float = 5.0
    """Maximum age of a successful write (real or dry run) that proves readiness."""

    unlisted_actions_seconds: float = 30.0
    """Interval between two writes of the actions that an organization does not list."""

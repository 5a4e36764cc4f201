"""
Every bound of the console, in one place; see ``webhook.receiver.limits`` for the receiver's and for why.

What depends on the size of an installation is a setting instead (``ConsoleSettings``).
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ConsoleLimits:
    """The bounds; times in seconds, sizes in bytes. Tests make them smaller."""

    request_line: int = 8190
    """Method, path and query. A continue token of the API server has some 300."""

    header_field: int = 32 * 1024
    """One header line. A session is up to four cookies of 4 KiB; an OIDC proxy adds a token."""

    headers: int = 100
    """Header lines of one request; more are answered 400."""

    parameters: int = 32
    """Parameters in a query or a form."""

    body: int = 32 * 1024
    """A form. The largest is the one for signing in, with a token of an OIDC provider."""

    body_seconds: float = 10.0
    """Time for the body to come; slower is refused."""

    idle_seconds: float = 30.0
    """Time for a request's headers to come, and for a connection to stay open without one."""

    lingering_seconds: float = 1.0
    """Time during which the rest of a refused body is read and thrown away, so that the browser sees the answer."""

    in_flight: int = 100
    """Requests that are worked on at once; more are answered 429."""

    client_addresses: int = 10_000
    """Addresses that are remembered at once for how much they asked (some 300 bytes each). Whoever has more of them meets
    the limits over all people."""

    refused_rate: float = 0.2
    """Tokens per second of one address that the API server may refuse. Only those count that are refused: an office behind
    one address is not locked out by its own signing in."""

    refused_burst: int = 10
    """Tokens that may be refused at once on top of that."""

    refused_rate_of_all: float = 5.0
    """The same over all addresses: what the API server is spared when somebody has very many."""

    refused_burst_of_all: int = 50
    """The same over all addresses."""

    rights_seconds: float = 30.0
    """How long it is remembered what a person may do. Only what is shown depends on it: the API server asks each time."""

    cached_users: int = 1000
    """People whose rights and names are remembered at once."""

    token: int = 12 * 1024
    """Characters of a token; sealed and in base64 it has to fit into four cookies."""

    reason: int = 300
    """Characters of the reason that a person gives."""

    rows: int = 100
    """Rows of one page of a list."""

    scanned: int = 400
    """Events that are read for one page when its age has to be looked at, which the API server can't choose by."""

    surveyed: int = 100
    """Events that are read to group what waits for a person, by phase. Where there are more, the controller's own count by
    cause is shown, and "more than" until it has counted."""

    listed_objects: int = 500
    """Organizations, Senders and Archives that are read for one page, each."""

    extra_senders: int = 50
    """Senders beyond those whose events wait that are read one by one."""

    kubernetes_events: int = 50
    """Kubernetes Events that are shown about one event."""

    affected_events: int = 1000
    """Events that one click may concern; the answer says when there are more."""

    searched: int = 20_000
    """Failed events of an organization that are looked through for one click, since their reason is no selectable field."""

    writers: int = 16
    """Writes that one click makes at once."""

    documents: int = 200
    """Documents of one event that one page shows; there can be 2,000."""

    entries: int = 100
    """Entries of each list and map that are shown of an object as YAML. Writing YAML takes half a second per MB, and meanwhile
    nobody else is answered."""

    text: int = 1000
    """Characters of each text in it."""

    raw: int = 200_000
    """Characters of YAML that are shown of one object."""

    poll_seconds: int = 10
    """Pause between two looks of an open page."""

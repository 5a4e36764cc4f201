"""The limits of the console; ``webhook.http_server.limits`` explains those that all processes share."""

from dataclasses import dataclass

from webhook.http_server.limits import HttpLimits


@dataclass(frozen=True, kw_only=True)
class ConsoleLimits(HttpLimits):
    """
    The limits; times in seconds, sizes in bytes.

    The other shared defaults fit: a continue token in the query has about 300 bytes, an OIDC proxy adds a
    token, and the sign-in form has a token.
    """

    header_field: int = 20 * 1024
    """Maximum size of one header line: a session is up to four cookies of 4 KiB, which come in one line."""

    parameters: int = 600
    """Maximum number of parameters in a query or a form: a selection has one per event."""

    body: int = 64 * 1024
    """Maximum size of a request's body: a selection has about 60 bytes per event."""

    refused_rate: float = 0.2
    """Maximum rate, per second, of refused tokens of one address. Accepted tokens do not count: many people
    behind one address are not locked out by signing in."""

    refused_burst: int = 10
    """Maximum burst of refused tokens of one address."""

    refused_rate_of_all: float = 5.0
    """Maximum rate, per second, of refused tokens over all addresses, which protects the API server."""

    refused_burst_of_all: int = 50
    """Maximum burst of refused tokens over all addresses."""

    rights_seconds: float = 30.0
    """Time for which a person's rights are cached. Only the display depends on them: the API server checks
    each write."""

    menu_seconds: float = 300.0
    """Time for which it is cached whether a person may read a namespace of the menu."""

    cached_menu_entries: int = 10_000
    """Maximum number of such answers: 200 people in 50 namespaces."""

    cached_users: int = 1000
    """Maximum number of people whose rights and names are cached."""

    token: int = 10 * 1024
    """Maximum number of characters of a token; sealed and in base64 it must fit into four cookies."""

    reason: int = 300
    """Maximum number of characters of the reason that a person gives."""

    rows: int = 100
    """Maximum number of rows of one page of a list."""

    sorted_rows: int = 300
    """Maximum number of rows of one page of a list whose order a person chose. The API server cannot sort: a
    longer list is sorted within its pages."""

    scanned: int = 1000
    """Maximum number of events read for one page with a filter by time, reason or text, which the API server
    cannot select by."""

    scan_rows: int = 300
    """Maximum number of events of each request of such a search after its first."""

    batch_rows: int = 500
    """Maximum number of events of each request that reads all events of a filter."""

    named_senders: int = 50
    """Maximum number of Senders in the selector of one request; the events of more are read and compared."""

    surveyed: int = 100
    """Maximum number of events read, by phase, to group those that wait for a person. Above it the page shows
    the controller's count by cause, and "more than" until the controller has counted."""

    unfinished: int = 400
    """Maximum number of other unfinished events read, to find those whose reason needs a person."""

    sender_rows: int = 50
    """Maximum number of rows of one page of the list of senders, and of the senders of one Import."""

    listed_senders: int = 1000
    """Maximum number of Senders listed; the page says when there are more."""

    searched_senders: int = 10_000
    """Maximum number of Senders whose names and e-mail addresses are compared with a text, which the API
    server cannot do."""

    searched_bytes: int = 32 * 1024 * 1024
    """Maximum size of the Senders that are read for such a search; 10,000 have some 25 MiB."""

    kept_bytes: int = 8 * 1024 * 1024
    """Maximum size, as JSON, of the objects that match a search and are kept while further ones are read; one
    page more can be kept."""

    listed_objects: int = 500
    """Maximum number of Organizations, of Senders and of Archives read for one page."""

    listed_imports: int = 100
    """Maximum number of Imports listed. An Import has an entry for each of its Senders, so it is large."""

    extra_senders: int = 50
    """Maximum number of Senders read one by one, beyond those whose events wait."""

    copied_organizations: int = 20
    """Maximum number of Organizations read for a list of events, to find whether one of them has copies."""

    kubernetes_events: int = 50
    """Maximum number of Kubernetes Events shown for one event."""

    affected_events: int = 1000
    """Maximum number of events that one click changes; the answer reports when there are more."""

    selected_events: int = 500
    """Maximum number of events that one form selects."""

    bulk_failures: int = 20
    """Number of failed writes after which one click on many events stops."""

    bulk_organizations: int = 20
    """Maximum number of Organizations about which one click writes a Kubernetes Event."""

    exported: int = 20_000
    """Maximum number of events in one exported file."""

    export_read: int = 100_000
    """Maximum number of events read for one exported file."""

    exports: int = 2
    """Maximum number of files that are exported concurrently."""

    listed_names: int = 20
    """Maximum number of events that a confirmation lists."""

    searched: int = 20_000
    """Maximum number of failed events read for one click, since their reason is not a selectable field."""

    writers: int = 16
    """Maximum number of concurrent writes of one click."""

    documents: int = 200
    """Maximum number of documents of one event on a page; an event can have 2,000."""

    entries: int = 100
    """Maximum number of entries of each list and map in an object's YAML. Writing YAML takes half a second
    per MB, during which no other request is answered."""

    text: int = 1000
    """Maximum number of characters of each text in the YAML."""

    raw: int = 200_000
    """Maximum number of characters of one object's YAML."""

    poll_seconds: int = 10
    """Interval between two refreshes of an open page."""

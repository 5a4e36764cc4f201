"""The limits of the pages; ``webhook.http_server.limits`` explains those that all processes share."""

from dataclasses import dataclass
from typing import Final

from counterfoil.esaw import CallLimits
from webhook.http_server.limits import HttpLimits
from webhook.http_server.rate_limit import TokenBucket, TokenBuckets

ESAW_LIMITS: Final = CallLimits(connect=5.0, silence=20.0, answer=20.0)
"""Limits of a call to eSAW: shorter than the controller's, since a person waits. The largest response is a
search that finds the 1,000 envelopes of a bulk, each with its metadata."""

MAX_ENVELOPE_WRITES: Final = 16
"""Maximum number of Envelopes that are read or written concurrently: half of the connections, so that the
others stay free while a bulk is recorded."""

MAX_QUESTIONS: Final = 4
"""Maximum number of concurrent questions to eSAW about what one draft became."""

MAX_SHARED_QUESTIONS: Final = 8
"""Maximum number of concurrent questions beyond the first one of each draft, over all drafts of an
Organization. No draft waits for the questions of another one, and most connections to eSAW stay free."""


@dataclass(frozen=True, kw_only=True)
class PageLimits(HttpLimits):
    """The limits; times in seconds, sizes in bytes."""

    parameters: int = 64
    """Maximum number of parameters in a query or a form: at most 32 tags, and Counterfoil's own fields."""

    body: int = 256 * 1024
    """Maximum size of a form. 32 tags of 1,024 characters, each encoded in up to nine bytes, come close to
    it."""

    in_flight: int = 500
    """Maximum number of requests that are handled concurrently. Most wait for eSAW; more are answered 429."""

    in_flight_of_organization: int = 375
    """Maximum number of requests of one Organization that are handled concurrently: an eSAW that hangs leaves
    a quarter to the others. The same is the maximum of one namespace, if several are served."""

    esaw_connections: int = 512
    """Maximum number of connections to all eSAWs: one for each request in progress, so that nobody waits for
    the connections of an eSAW that hangs."""

    flow_seconds: float = 300.0
    """Timeout for a visit to eSAW's login page, from redirect to return. (RFC 9700: short)"""

    return_rate: float = 3.0
    """Maximum rate, per second, of returns of one Organization, also of those that succeed. Each creates a
    Lease, which is kept for ``state_kept_seconds``: 3,390 Leases at a time; the chart's quota for all
    is 30,000. A company of 10,000 people who consent within one hour stays below it with a single replica."""

    return_burst: int = 600
    """Maximum burst of returns of one Organization, for peaks such as a mail to all of its senders."""

    organizations: int = 1000
    """Maximum number of Organizations whose rate is kept. Only those that exist are counted."""

    failed_return_rate: float = 1 / 15
    """Maximum rate, per second, of failed returns of one address to one Organization. Returns with a code of
    eSAW do not count, nor those that fail because eSAW or the API server is down."""

    failed_return_burst: int = 60
    """Maximum burst of failed returns of one address to one Organization."""

    form_seconds: float = 3600.0
    """Timeout for filling in the form; after it the browser must go through eSAW again."""

    wait_seconds: float = 20.0
    """Timeout of a second click that waits for the first one's result. Shorter than the timeouts of
    proxies."""

    poll_seconds: float = 0.25
    """Interval between two checks of the first click's progress."""

    value: int = 1024
    """Maximum number of characters of one tag. The archive cuts longer ones."""

    metadata: int = 1024 * 1024
    """Maximum size of a draft's metadata. The archive reads no more than that either."""

    recovery_seconds: float = 30.0
    """Interval between two recovery passes: half an attempt's time, since recovery starts when an attempt has
    ended."""

    state_kept_seconds: float = 900.0
    """Time for which a used state is recorded: longer than a state is valid, plus differences between
    clocks."""

    lease_kept_seconds: float = 24 * 3600.0
    """Time for which a sent draft is recorded, so that a person who presses Back is redirected to the
    inbox."""

    sent_list_seconds: float = 600.0
    """Interval between two lists of the sent drafts, which delete the old ones."""

    sent_drafts: int = 5000
    """Maximum number of sent drafts of one Organization that stay recorded after such a list: the newest."""

    open_drafts: int = 2000
    """Maximum number of drafts of one Organization whose sending began and is not confirmed. At this number,
    no further draft is sent. Each replica counts them in its recovery passes."""

    given_up_seconds: float = 3600.0
    """Time for which recovery follows a draft whose sending began and that is still a draft, or that
    disappeared. Only time with answers of eSAW counts."""

    lease_recovery_seconds: float = 300.0
    """Timeout of one try to recover a draft. A search in parts may be long."""

    concurrent_recoveries: int = 4
    """Maximum number of drafts of one Organization that are recovered concurrently."""

    recovery_pause_seconds: float = 900.0
    """Maximum interval between two tries to recover a draft after failures."""

    refusals: int = 20
    """Number of times that the API server refuses to store the senders of a bulk before it is given up."""

    searches: int = 64
    """Maximum number of searches in eSAW for what one draft became, if it has to be split."""

    search_hits: int = 5000
    """Maximum number of envelopes that one search uses: five bulks of 1,000."""

    confirmations: int = 200
    """Maximum number of questions to eSAW in one pass: who sent an envelope or a bulk that was found. The
    next pass asks about others."""

    remembered_questions: int = 10_000
    """Maximum number of questions that confirmed nothing and that a process remembers: two searches of
    ``search_hits``. The next pass asks them after the others."""

    clock_skew_seconds: float = 900.0
    """Maximum time by which eSAW's clock may be behind Counterfoil's in the time of a sent envelope."""


class ReturnRates:
    """
    The rates of returns from eSAW: of each Organization, and of each address at an Organization. An
    Organization is named with its namespace.

    Each return creates the Lease of its state and asks eSAW for a key, so each takes a token of its
    Organization. An eSAW that accepts every code, and its visitors, use up the tokens of one Organization
    alone. A return that fails also takes a token of its address: a client with invented codes meets that
    limit first. The caller passes the time (seconds of a monotonic clock).
    """

    def __init__(self, limits: PageLimits) -> None:
        self._organizations = TokenBuckets(
            lambda: TokenBucket(rate=limits.return_rate, burst=limits.return_burst),
            max_buckets=limits.organizations,
        )
        self._clients = TokenBuckets(
            lambda: TokenBucket(rate=limits.failed_return_rate, burst=limits.failed_return_burst),
            max_buckets=limits.client_addresses,
        )

    def take(self, organization: str, client: str, now: float) -> float:
        """
        Take a token of the Organization and one of the address, and return 0.0; or take none, and return the
        seconds until the next token.
        """
        own = self._client(organization, client)
        if wait := own.take(now):
            return wait
        if wait := self._organizations.for_name(organization).take(now):
            own.return_token()
        return wait

    def forgive(self, organization: str, client: str) -> None:
        """Return the token of the address: its return did not fail, or not because of what it brought."""
        self._client(organization, client).return_token()

    def _client(self, organization: str, client: str) -> TokenBucket:
        return self._clients.for_name(f"{organization} {client}")

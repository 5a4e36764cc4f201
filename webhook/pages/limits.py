"""The limits of the pages; ``webhook.http_server.limits`` explains those that all processes share."""

from dataclasses import dataclass
from typing import Final

from counterfoil.esaw import CallLimits
from webhook.http_server.limits import HttpLimits

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

    flow_seconds: float = 300.0
    """Timeout for a visit to eSAW's login page, from redirect to return. (RFC 9700: short)"""

    failed_return_rate: float = 1 / 15
    """Maximum rate, per second, of failed returns of one address. Each creates a Lease, which is kept for
    ``state_kept_seconds``, and a request to eSAW: 120 Leases of one address at a time. Returns with a code of
    eSAW do not count, nor those that fail because eSAW or the API server is down."""

    failed_return_burst: int = 60
    """Maximum burst of failed returns of one address."""

    failed_return_rate_of_all: float = 5.0
    """Maximum rate, per second, of failed returns over all addresses: 4,800 Leases at a time."""

    failed_return_burst_of_all: int = 300
    """Maximum burst of failed returns over all addresses."""

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

    sent_list_seconds: float = 3600.0
    """Interval between two lists of the sent drafts, which delete the old ones."""

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

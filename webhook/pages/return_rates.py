"""
The rates of returns from eSAW.

Each return creates the Lease of its state and asks eSAW for a key, so each takes a token of its Organization.
An eSAW that accepts every code, and its visitors, use up the tokens of one Organization alone. A return that
fails also takes a token of its address: a client with invented codes meets that limit first.

The caller passes the time (seconds of a monotonic clock).
"""

from webhook.http_server.rate_limit import TokenBucket, TokenBuckets
from webhook.pages.limits import PageLimits


class ReturnRates:
    """The buckets of all Organizations, and of the addresses at each of them."""

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

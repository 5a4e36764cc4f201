"""
A rate limit as a token bucket: a burst, and a number of requests per second. No clock.

The caller passes the time (seconds of a monotonic clock). ``TokenBuckets`` has one bucket for each name;
``ClientBuckets`` adds a bucket over all clients.
"""

from collections import OrderedDict
from collections.abc import Callable


class TokenBucket:
    """Holds at most ``burst`` tokens and gets ``rate`` new ones per second; starts full."""

    def __init__(self, *, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._tokens = float(burst)
        self._filled_at = 0.0

    def take(self, now: float) -> float:
        """Take one token and return 0.0, or return the seconds until the next token."""
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._filled_at) * self._rate)
        self._filled_at = max(now, self._filled_at)
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / self._rate

    def return_token(self) -> None:
        """Return the token of a request that does not count."""
        self._tokens = min(self._burst, self._tokens + 1.0)


class TokenBuckets:
    """
    One bucket for each name; keeps ``max_buckets`` and removes the least recently used.

    A removed name gets a full bucket again. So a client with more names than buckets needs a limit over all
    clients.
    """

    def __init__(self, new: Callable[[], TokenBucket], *, max_buckets: int) -> None:
        self._new = new
        self._max_buckets = max_buckets
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def for_name(self, name: str) -> TokenBucket:
        """Return the bucket of a name."""
        bucket = self._buckets.pop(name, None) or self._new()
        self._buckets[name] = bucket
        if len(self._buckets) > self._max_buckets:
            self._buckets.popitem(last=False)
        return bucket


class ClientBuckets:
    """A rate of each client and a rate over all: one client can't use up what the others need."""

    def __init__(self, clients: TokenBuckets, of_all: TokenBucket) -> None:
        self._clients = clients
        self._of_all = of_all

    def take(self, client: str, now: float) -> float:
        """Take a token of both and return 0.0, or none and return the seconds until the next token."""
        own = self._clients.for_name(client)
        if wait := own.take(now):
            return wait
        if wait := self._of_all.take(now):
            own.return_token()
        return wait

    def take_own(self, client: str, now: float) -> float:
        """Take a token of this client only, for a request that needs nothing that all share."""
        return self._clients.for_name(client).take(now)

    def return_token(self, client: str) -> None:
        """Return the tokens of a request that does not count."""
        self._clients.for_name(client).return_token()
        self._of_all.return_token()

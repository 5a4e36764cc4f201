"""
A rate limit as a token bucket: so many at once, so many per second. Pure but for its own numbers.

The time is handed in with each question (seconds of any clock that never goes back). ``TokenBuckets`` has one for each of many.
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
        """Take one token and return 0.0, or return after how many seconds there will be one."""
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._filled_at) * self._rate)
        self._filled_at = max(now, self._filled_at)
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / self._rate

    def return_token(self) -> None:
        """Put a token back that was taken for something that turned out not to count."""
        self._tokens = min(self._burst, self._tokens + 1.0)


class TokenBuckets:
    """
    A bucket for each of many, of whom ``max_buckets`` are remembered: whoever was not asked about for longest is forgotten.

    Being forgotten gives a full bucket, so whoever has more names than are remembered is held up by no bucket here; that
    is for a limit over all of them.
    """

    def __init__(self, new: Callable[[], TokenBucket], *, max_buckets: int) -> None:
        self._new = new
        self._max_buckets = max_buckets
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def for_name(self, name: str) -> TokenBucket:
        """Return somebody's bucket."""
        bucket = self._buckets.pop(name, None) or self._new()
        self._buckets[name] = bucket
        if len(self._buckets) > self._max_buckets:
            self._buckets.popitem(last=False)
        return bucket

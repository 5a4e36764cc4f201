"""
A rate limit as a token bucket: so many at once, so many per second. Pure but for its own numbers.

The time is handed in with each question (seconds of any clock that never goes back). ``Buckets`` has one for each of many.
"""

from collections import OrderedDict
from collections.abc import Callable


class Bucket:
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

    def give_back(self) -> None:
        """Put a token back that was taken for something that turned out not to count."""
        self._tokens = min(self._burst, self._tokens + 1.0)


class Buckets:
    """
    A bucket for each of many, of whom ``most`` are remembered: whoever was not asked about for longest is forgotten.

    Being forgotten gives a full bucket, so whoever has more names than are remembered is held up by no bucket here; that
    is for a limit over all of them.
    """

    def __init__(self, new: Callable[[], Bucket], *, most: int) -> None:
        self._new = new
        self._most = most
        self._known: OrderedDict[str, Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def of(self, name: str) -> Bucket:
        """Return somebody's bucket."""
        bucket = self._known.pop(name, None) or self._new()
        self._known[name] = bucket
        if len(self._known) > self._most:
            self._known.popitem(last=False)
        return bucket

"""
A rate limit as a token bucket: so many at once, so many per second. Pure but for its own two numbers.

The time is handed in with each question (seconds of any clock that never goes back).
"""


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

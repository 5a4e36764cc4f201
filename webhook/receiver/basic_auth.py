"""
Check the basic auth of callbacks within limits.

scrypt is slow on purpose, and a client that knows a callback URL may send any number of passwords. So each
header is computed once, one at a time in one thread, and its result is remembered. Above a rate of its
organization, or with too many headers waiting, an unknown header is refused without a computation. A header
that was once valid is never refused: nobody without the password delays eSAW's calls.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable

from counterfoil.callback_auth import basic_auth_credentials, matches_credentials
from webhook.http_server.rate_limit import TokenBucket, TokenBuckets
from webhook.receiver.limits import ReceiverLimits


class TooManyAttempts(Exception):
    """An unknown header is not checked now; ``wait`` is the number of seconds until one may be."""

    def __init__(self, wait: float) -> None:
        super().__init__(f"too many unknown passwords; the next check in {wait:.1f} s")
        self.wait = wait


class BasicAuthVerifier:
    """
    Checks ``Authorization`` headers. ``monotonic`` is a clock in seconds that never goes back.

    The memory has SHA-256 digests of header and expected hash together, valid ones and wrong ones apart, so
    that wrong ones push out no valid one.
    """

    def __init__(self, *, limits: ReceiverLimits, monotonic: Callable[[], float]) -> None:
        self._limits = limits
        self._monotonic = monotonic
        self._valid: OrderedDict[bytes, None] = OrderedDict()
        self._wrong: OrderedDict[bytes, None] = OrderedDict()
        self._running: dict[tuple[str, bytes], asyncio.Task[bool]] = {}
        # One scrypt at a time: each needs 16 MiB and a thread.
        self._lock = asyncio.Lock()
        self._attempts = TokenBuckets(
            lambda: TokenBucket(rate=limits.password_rate, burst=limits.password_burst),
            max_buckets=limits.remembered_passwords,
        )

    async def verify(self, organization: str, header: str | None, expected: str) -> bool:
        """
        Whether the ``Authorization`` header matches ``expected``, a hash from ``basic_auth_hash``.

        Raises ``TooManyAttempts`` if the header is unknown and the organization's attempts are used up.
        """
        credentials = basic_auth_credentials(header)
        if credentials is None:
            return False
        key = hashlib.sha256(expected.encode() + b"\0" + credentials).digest()
        for known, result in ((self._valid, True), (self._wrong, False)):
            if key in known:
                known.move_to_end(key)
                return result
        running = self._running.get((organization, key))
        if running is None:
            running = self._start(organization, key, credentials, expected)
        # Shielded: equal headers share the computation, so none of their requests may cancel it.
        return await asyncio.shield(running)

    def _start(self, organization: str, key: bytes, credentials: bytes, expected: str) -> asyncio.Task[bool]:
        """Begin a computation; valid credentials get their attempt back. Raises ``TooManyAttempts``."""
        if sum(each == organization for each, _ in self._running) >= self._limits.password_waiters:
            raise TooManyAttempts(self._limits.retry_after)
        attempts = self._attempts.for_name(organization)
        if wait := attempts.take(self._monotonic()):
            raise TooManyAttempts(wait)

        async def compute() -> bool:
            try:
                async with self._lock:
                    is_valid = await asyncio.to_thread(matches_credentials, credentials, expected)
            finally:
                del self._running[organization, key]
            if is_valid:
                attempts.return_token()
            known = self._valid if is_valid else self._wrong
            known[key] = None
            if len(known) > self._limits.remembered_passwords:
                known.popitem(last=False)
            return is_valid

        self._running[organization, key] = task = asyncio.create_task(compute(), name="check a password")
        return task

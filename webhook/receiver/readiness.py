"""
Whether the receiver can write to the API server: the base of its readiness.

Recent events that the receiver created prove it. Without a recent one, the probe creates an event with
``dryRun=All``: the API server checks rights, quota and schema and asks etcd, and stores nothing.
"""

from collections.abc import Callable

import msgspec

from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import AlreadyExists, ApiError
from counterfoil.resources import EnvelopeEvent, envelope_id
from counterfoil.resources.event_factory import new_event

MAX_CONSECUTIVE_FAILURES = 3
"""Maximum number of consecutive failed writes; at this number the receiver is not ready."""


class WriteProbe:
    """Records the results of the last writes. ``monotonic`` is a clock in seconds that never goes back."""

    def __init__(self, kube: KubeClient, *, monotonic: Callable[[], float], valid_seconds: float) -> None:
        self._kube = kube
        self._monotonic = monotonic
        self._valid_seconds = valid_seconds
        self._proven_at = float("-inf")
        self._failed_at = float("-inf")
        self._failures = 0
        self._problem = ""

    def record_success(self) -> None:
        """Record a write that succeeded."""
        self._proven_at = self._monotonic()
        self._failures = 0

    def record_failure(self, problem: str) -> None:
        """Record a write that failed, and why."""
        self._failed_at = self._monotonic()
        self._failures += 1
        self._problem = problem

    async def check(self) -> str | None:
        """Return why the receiver cannot write to the API server, or None."""
        now = self._monotonic()
        if self._failures >= MAX_CONSECUTIVE_FAILURES and now - self._failed_at < self._valid_seconds:
            return f"the last {self._failures} writes to the API server failed: {self._problem}"
        if self._failures == 0 and now - self._proven_at < self._valid_seconds:
            return None
        try:
            await self._kube.create_dry_run(EnvelopeEvent, _PROBE_EVENT)
        except AlreadyExists:
            pass  # an event of that name exists, so writing is possible
        except ApiError as problem:
            return str(problem)
        self._proven_at = now
        self._failures = 0
        return None


_PROBE_EVENT = msgspec.json.encode(
    new_event(
        organization="readiness",
        envelope=envelope_id("00000000-0000-0000-0000-000000000000"),
        action="readiness",
    )
)

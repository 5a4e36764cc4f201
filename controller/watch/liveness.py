"""
The liveness checks behind the controller's /healthz: they fail only where a restart would help.

They fail for a watch without any line, not even a bookmark, while the API server answers, and for an event
that is due and that no worker processes. An unavailable API server is no reason: a restarted process would
have to wait as well.
"""

from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from controller.scheduling.workqueue import WorkQueue
from controller.watch.watched_namespaces import WatchHeartbeat
from counterfoil.clock import Clock
from counterfoil.health import Checks
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError
from counterfoil.metrics import Metrics
from counterfoil.resources import Organization

API_CHECK_AFTER = timedelta(seconds=90)
"""Silence of a watch after which the API server is checked; a bookmark arrives about every minute."""


@dataclass
class Liveness:
    """Detects watches and queues that are stuck."""

    kube: KubeClient
    workqueue: WorkQueue
    heartbeat: WatchHeartbeat
    clock: Clock
    metrics: Metrics
    silence: timedelta
    """Maximum silence of a watch."""
    overdue: timedelta
    """Maximum time for which an event is due without a worker."""
    _api_unavailable_at: float | None = None
    """Monotonic time of the last check that the API server did not answer."""

    def __post_init__(self) -> None:
        self.metrics.overdue_seconds.set_function(lambda: self._overdue_time().total_seconds())
        for plural in self.heartbeat.idle_times():
            gauge = self.metrics.watch_silence_seconds.labels(plural)
            gauge.set_function(partial(self._idle_seconds, plural))

    @property
    def checks(self) -> Checks:
        """The checks by name."""
        return {"schedule": self.check_workqueue, "watches": self.check_watches}

    def _idle_seconds(self, plural: str) -> float:
        """Return the seconds since the last line of a watch. They are 0 where it never began because only
        this namespace is missing, which another metric shows."""
        if not self.heartbeat.has_begun and self.metrics.is_missing_alone(self.kube.namespace):
            return 0.0
        return self.heartbeat.idle_times()[plural].total_seconds()

    def _overdue_time(self) -> timedelta:
        """Return the time for which an event is due without a worker; zero if no event is."""
        return max(self.workqueue.overdue_time() or timedelta(0), self.workqueue.stalled_time or timedelta(0))

    async def check_workqueue(self) -> str | None:
        """Fail for an overdue event that no worker processes."""
        late = self._overdue_time()
        if late <= self.overdue:
            return None
        return f"an event is overdue and nobody works on it since {late.total_seconds():.0f} s"

    async def check_watches(self) -> str | None:
        """Fail for a silent watch while the API server answers."""
        longest = max(self.heartbeat.idle_times().values())
        if longest <= min(API_CHECK_AFTER, self.silence):
            return None
        now = self.clock.monotonic()
        try:
            await self.kube.page(Organization, limit=1)
        except ApiError:
            self._api_unavailable_at = now
            return None
        # An unavailable API server sends nothing, and the first bookmark takes a minute after its return.
        since = self._api_unavailable_at
        counted_silence = longest if since is None else min(longest, timedelta(seconds=now - since))
        if counted_silence <= self.silence:
            return None
        idle_times = self.heartbeat.idle_times()
        silent = sorted(plural for plural, each in idle_times.items() if each > self.silence)
        seconds = counted_silence.total_seconds()
        return f"nothing was heard of {', '.join(silent)} for {seconds:.0f} s, though the API server answers"

"""
Whether a restart would help: the checks behind /healthz of the controller.

A watch of which nothing is heard, not even a bookmark, while the API server answers; an event that is due and that nobody
works on. That the API server is away is no reason: a restart would only have to wait for it as well.
"""

from datetime import datetime, timedelta
from functools import partial

from controller.scheduling.workqueue import WorkQueue
from controller.watch.heartbeat import WatchHeartbeat
from counterfoil.clock import Clock
from counterfoil.health import Checks
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError
from counterfoil.metrics import Metrics
from counterfoil.resources import Organization

API_CHECK_AFTER = timedelta(seconds=90)
"""From this silence on the API server is asked whether it is there; a bookmark comes about every minute."""


class Liveness:
    """Says what is stuck."""

    def __init__(
        self,
        *,
        kube: KubeClient,
        workqueue: WorkQueue,
        heartbeat: WatchHeartbeat,
        clock: Clock,
        metrics: Metrics,
        silence: timedelta,
        overdue: timedelta,
    ) -> None:
        self._kube = kube
        self._workqueue = workqueue
        self._heartbeat = heartbeat
        self._clock = clock
        self._silence = silence
        self._overdue = overdue
        self._api_unavailable_at: datetime | None = None
        """When the API server did not answer last."""
        metrics.overdue_seconds.set_function(lambda: self.overdue().total_seconds())
        for plural in heartbeat.idle_times():
            gauge = metrics.watch_silence_seconds.labels(plural)
            gauge.set_function(partial(_idle_seconds, heartbeat, plural))

    @property
    def checks(self) -> Checks:
        """The checks, by what they are about."""
        return {"schedule": self.check_workqueue, "watches": self.check_watches}

    def overdue(self) -> timedelta:
        """Return for how long something is due without anybody working on it; zero when nothing is."""
        since = [
            each
            for each in (self._workqueue.overdue_since(), self._workqueue.stalled_since)
            if each is not None
        ]
        return max(timedelta(0), self._clock.now() - min(since)) if since else timedelta(0)

    async def check_workqueue(self) -> str | None:
        """Fail for an event that is overdue while nobody works."""
        late = self.overdue()
        return (
            f"an event is overdue and nobody works on it since {late.total_seconds():.0f} s"
            if late > self._overdue
            else None
        )

    async def check_watches(self) -> str | None:
        """Fail for a watch that is silent although the API server answers."""
        longest = max(self._heartbeat.idle_times().values())
        if longest <= min(API_CHECK_AFTER, self._silence):
            return None
        now = self._clock.now()
        try:
            await self._kube.page(Organization, limit=1)
        except ApiError:
            self._api_unavailable_at = now
            return None
        # While the API server was away nothing could be heard, and it takes a minute until the first bookmark.
        counted_silence = (
            longest if self._api_unavailable_at is None else min(longest, now - self._api_unavailable_at)
        )
        if counted_silence <= self._silence:
            return None
        silent = sorted(
            plural for plural, each in self._heartbeat.idle_times().items() if each > self._silence
        )
        seconds = counted_silence.total_seconds()
        return f"nothing was heard of {', '.join(silent)} for {seconds:.0f} s, though the API server answers"


def _idle_seconds(heartbeat: WatchHeartbeat, plural: str) -> float:
    """Return the seconds since a watch was heard last."""
    return heartbeat.idle_times()[plural].total_seconds()

"""
Whether a restart would help: the checks behind /healthz of the controller.

A watch of which nothing is heard, not even a bookmark, while the API server answers; an event that is due and that nobody
works on. That the API server is away is no reason: a restart would only have to wait for it as well.
"""

from datetime import datetime, timedelta
from functools import partial

from controller.pulse import Pulse
from controller.schedule import Schedule
from counterfoil.clock import Clock
from counterfoil.cluster import ApiProblem, Cluster
from counterfoil.health import Checks
from counterfoil.metrics import Metrics
from counterfoil.resources import Organization

SUSPICION = timedelta(seconds=90)
"""From this silence on the API server is asked whether it is there; a bookmark comes about every minute."""


class Liveness:
    """Says what is stuck."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        schedule: Schedule,
        pulse: Pulse,
        clock: Clock,
        metrics: Metrics,
        silence: timedelta,
        overdue: timedelta,
    ) -> None:
        self._cluster = cluster
        self._schedule = schedule
        self._pulse = pulse
        self._clock = clock
        self._silence = silence
        self._overdue = overdue
        self._away_at: datetime | None = None
        """When the API server did not answer last."""
        metrics.overdue_seconds.set_function(lambda: self.overdue().total_seconds())
        for plural in pulse.silences():
            gauge = metrics.watch_silence_seconds.labels(plural)
            gauge.set_function(partial(_silence, pulse, plural))

    @property
    def checks(self) -> Checks:
        """The checks, by what they are about."""
        return {"schedule": self.schedule_turns, "watches": self.watches_are_heard}

    def overdue(self) -> timedelta:
        """Return for how long something is due without anybody working on it; zero when nothing is."""
        since = [
            each
            for each in (self._schedule.overdue_since(), self._schedule.stranded_since)
            if each is not None
        ]
        return max(timedelta(0), self._clock.now() - min(since)) if since else timedelta(0)

    async def schedule_turns(self) -> str | None:
        """Fail for an event that is overdue while nobody works."""
        late = self.overdue()
        return (
            f"an event is overdue and nobody works on it since {late.total_seconds():.0f} s"
            if late > self._overdue
            else None
        )

    async def watches_are_heard(self) -> str | None:
        """Fail for a watch that is silent although the API server answers."""
        longest = max(self._pulse.silences().values())
        if longest <= min(SUSPICION, self._silence):
            return None
        now = self._clock.now()
        try:
            await self._cluster.page(Organization, limit=1)
        except ApiProblem:
            self._away_at = now
            return None
        # While the API server was away nothing could be heard, and it takes a minute until the first bookmark.
        counted = longest if self._away_at is None else min(longest, now - self._away_at)
        if counted <= self._silence:
            return None
        silent = sorted(plural for plural, each in self._pulse.silences().items() if each > self._silence)
        seconds = counted.total_seconds()
        return f"nothing was heard of {', '.join(silent)} for {seconds:.0f} s, though the API server answers"


def _silence(pulse: Pulse, plural: str) -> float:
    """Return the seconds since a watch was heard last."""
    return pulse.silences()[plural].total_seconds()

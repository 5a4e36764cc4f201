"""
The metrics that say how things stand: events by phase, the oldest unfinished one, senders by whether their key works.

Computed at each round from what is in memory, so that finished events cost nothing here either; how many of those there
are is known from the reaper's last walk. Summed up over all controllers each event and sender is counted once.
"""

from collections import Counter
from collections.abc import Callable
from datetime import datetime

from controller.office import Office
from controller.outcomes import label
from controller.reaper import Reaper
from controller.transitions import LADDER
from controller.verdicts import TABLE
from counterfoil.clock import Clock
from counterfoil.metrics import Metrics
from counterfoil.resources import FINAL, Phase, condition, is_true


class Gauges:
    """Keeps the gauges of this process true."""

    def __init__(
        self,
        *,
        metrics: Metrics,
        office: Office,
        reaper: Reaper,
        clock: Clock,
        is_home: Callable[[str, str], bool],
    ) -> None:
        self._metrics = metrics
        self._office = office
        self._reaper = reaper
        self._clock = clock
        self._is_home = is_home
        self._known: set[str] = set()
        self._archives: set[str] = set()
        self._start_attempts()

    def refresh(self) -> None:
        """Count everything anew."""
        organizations = {each.name for each in self._office.organizations}
        for gone in self._known - organizations:
            self._metrics.forget_organization(gone)
        for new in organizations - self._known:
            self._metrics.start_events(new)
        self._known = organizations
        self._count_events(organizations)
        self._count_senders(organizations)
        self._tell_archives()

    def _start_attempts(self) -> None:
        """Let what can go wrong be seen as a rate the first time already."""
        for phase in LADDER:
            for row in TABLE:
                if row.reason is not None:
                    self._metrics.attempts.labels(phase, label(row.answer), row.reason)

    def _count_events(self, organizations: set[str]) -> None:
        counts: Counter[tuple[str, Phase]] = Counter()
        oldest: dict[str, datetime] = {}
        for event in self._office.events:
            counts[event.organization, event.status.phase] += 1
            if created := event.metadata.creation_timestamp:
                oldest[event.organization] = min(created, oldest.get(event.organization, created))
        now = self._clock.now()
        for name in organizations:
            finished = self._reaper.counts(name) or {}
            for phase in Phase:
                count = finished.get(phase, 0) if phase in FINAL else counts[name, phase]
                self._metrics.events.labels(name, phase).set(count)
            age = (now - oldest[name]).total_seconds() if name in oldest else 0.0
            self._metrics.oldest_unfinished_seconds.labels(name).set(max(0.0, age))

    def _count_senders(self, organizations: set[str]) -> None:
        counts: Counter[tuple[str, str]] = Counter()
        for sender in self._office.senders:
            if self._is_home("sender", sender.name):
                authorized = condition(sender.status.conditions, "Authorized")
                truth = authorized.status if authorized is not None else "Unknown"
                counts[sender.spec.organization_ref.name, truth] += 1
        for name in organizations:
            for truth in ("True", "False", "Unknown"):
                self._metrics.senders.labels(name, truth).set(counts[name, truth])

    def _tell_archives(self) -> None:
        mine = [each for each in self._office.archives if self._is_home("archive", each.name)]
        for gone in self._archives - {each.name for each in mine}:
            self._metrics.archive_ready.remove(gone)
        self._archives = {each.name for each in mine}
        for archive in mine:
            ready = is_true(archive.status.conditions, "Ready")
            self._metrics.archive_ready.labels(archive.name).set(1 if ready else 0)

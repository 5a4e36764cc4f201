"""
Count the events of one pass, and publish the counts of the last complete pass.

Pure; the memory does not grow with the number of events.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from msgspec.structs import replace

from controller.mails.problem_tracking import EventArchives, FailureSummary
from counterfoil.clock import CLOCK_DIFFERENCE
from counterfoil.kube.watch import Raw
from counterfoil.resources import Activity, EnvelopeEvent, HourlyActivity, Phase, is_condition_true
from counterfoil.resources.organization import (
    ACTIVITY_HOURS,
    DURATION_BUCKETS,
    OVERFLOW_BUCKET,
    duration_bucket,
)
from counterfoil.resources.reopening import with_kept_end
from counterfoil.retention import is_archived_finally

WEEK = timedelta(days=7)
STALE_AFTER = timedelta(hours=1)
"""Maximum age of the counts in a status: unchanged counts are written again, to show that counting works."""


@dataclass
class ActivityCounter:
    """Counts the activity of one Organization; ``now`` is when the pass began."""

    now: datetime
    _created: Counter[datetime] = field(default_factory=Counter)
    _archived: Counter[datetime] = field(default_factory=Counter)
    _archived_within: Counter[str] = field(default_factory=Counter)
    _unfinished_for: Counter[str] = field(default_factory=Counter)

    def add(self, event: EnvelopeEvent) -> None:
        """Count an event."""
        created, status = event.metadata.creation_timestamp, with_kept_end(event.status)
        if created is None:
            return
        # A restore creates objects again. Their status keeps the time of the first callback.
        created = min(created, status.first_delivery_time or created)
        self._count_hour(self._created, created)
        if not status.phase.is_final:
            self._unfinished_for[duration_bucket(self.now - created)] += 1
        elif (
            status.phase is Phase.SUCCEEDED
            and status.completion_time is not None
            and is_condition_true(status.conditions, "Archived")
        ):
            self._count_hour(self._archived, status.completion_time)
            is_recent = self.now - status.completion_time < WEEK
            if is_recent and created - status.completion_time < CLOCK_DIFFERENCE:
                self._archived_within[duration_bucket(status.completion_time - created)] += 1

    def activity(self) -> Activity:
        """Return the counts."""
        return Activity(
            count_time=self.now.replace(microsecond=0),
            hours=tuple(
                HourlyActivity(start_time=each, noted=self._created[each], archived=self._archived[each])
                for each in sorted({*self._created, *self._archived})
            ),
            archived_within=_in_step_order(self._archived_within),
            unfinished_for=_in_step_order(self._unfinished_for),
        )

    def _count_hour(self, counts: Counter[datetime], when: datetime) -> None:
        hour = _hour(when)
        if hour > _hour(self.now) - timedelta(hours=ACTIVITY_HOURS):
            counts[hour] += 1


@dataclass
class _EnvelopeEvents:
    """The facts of a pass about one envelope. Its events follow one another, as their names begin with it."""

    id: str = ""
    archived_by: set[str] = field(default_factory=set)
    """Organizations that archived it in a status that is final."""
    endangered: list[tuple[EnvelopeEvent, datetime]] = field(default_factory=list)


@dataclass
class PassStatistics:
    """Counts the events of one pass, which began then, by Organization."""

    began: datetime
    failures: dict[str, FailureSummary] = field(default_factory=dict)
    _of_any_organization: int = 0
    """Number of events that can't be read and whose specs name no Organization."""
    _envelope: _EnvelopeEvents = field(default_factory=_EnvelopeEvents)
    _counts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    _activities: dict[str, ActivityCounter] = field(default_factory=dict)

    def add(self, event: EnvelopeEvent, archives: EventArchives) -> None:
        """Count an event with these Archives."""
        name = event.organization
        self._counts[name][event.status.phase] += 1
        self._activities.setdefault(name, ActivityCounter(self.began)).add(event)
        self.failures.setdefault(name, FailureSummary()).add(event, archives)
        if is_archived_finally(event):
            self._envelope_of(event).archived_by.add(name)

    def add_removed(self, event: EnvelopeEvent, archives: EventArchives) -> None:
        """Record an event that was removed after its time to live."""
        self.failures.setdefault(event.organization, FailureSummary()).add_removed(event, archives)

    def add_unreadable(self, raw: Raw) -> None:
        """Record an event that can't be read or counted. If its spec names no Organization it may be of
        any: its labels are not believed."""
        match raw.get("spec"):
            case {"organizationRef": {"name": str(name)}}:
                self.failures.setdefault(name, FailureSummary()).add_unreadable(raw["metadata"]["name"])
            case _:
                self._of_any_organization += 1

    def add_endangered(self, event: EnvelopeEvent, deletion: datetime) -> None:
        """Record an event whose envelope eSAW deletes soon, at that time; without effect if another event of
        the envelope archived it."""
        self._envelope_of(event).endangered.append((event, deletion))

    def finish(self, organizations: Iterable[str]) -> None:
        """Record the end of the pass over the events of these Organizations."""
        self._finish_envelope()
        for name in organizations if self._of_any_organization else ():
            self.failures.setdefault(name, FailureSummary()).unreadable += self._of_any_organization

    def _finish_envelope(self) -> None:
        for event, deletion in self._envelope.endangered:
            if event.organization not in self._envelope.archived_by:
                summary = self.failures.setdefault(event.organization, FailureSummary())
                summary.add_endangered(event.name, deletion)
        self._envelope = _EnvelopeEvents()

    def _envelope_of(self, event: EnvelopeEvent) -> _EnvelopeEvents:
        if self._envelope.id != event.spec.envelope_id:
            self._finish_envelope()
            self._envelope.id = event.spec.envelope_id
        return self._envelope

    def counts(self) -> dict[str, Mapping[str, int]]:
        """Return the number of events by phase, per Organization."""
        return {name: dict(by_phase) for name, by_phase in self._counts.items()}

    def activity(self, name: str) -> Activity:
        """Return the activity of an Organization."""
        return self._activities.get(name, ActivityCounter(self.began)).activity()


@dataclass
class EventStatistics:
    """The counts of the last complete pass over all events."""

    _counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    _activities: Mapping[str, Activity] = field(default_factory=dict)
    _endangered: Mapping[str, int] = field(default_factory=dict)

    def endangered(self, organization: str) -> int:
        """Return the number of events whose envelope eSAW deletes soon; 0 before the first complete pass."""
        return self._endangered.get(organization, 0)

    def counts(self, organization: str) -> Mapping[str, int] | None:
        """Return the number of events by phase; None before the first complete pass."""
        return self._counts.get(organization)

    def activity(self, organization: str) -> Activity | None:
        """Return the activity of an Organization's events; None before the first complete pass."""
        return self._activities.get(organization)

    def publish(self, finished: PassStatistics, organizations: Iterable[str]) -> None:
        """Replace the counts by those of a pass; an Organization without events gets zeros."""
        counts = finished.counts()
        for name in {*self._counts, *organizations}:
            counts.setdefault(name, {})
        self._counts = counts
        self._endangered = {name: each.endangered for name, each in finished.failures.items()}
        self._activities = {name: finished.activity(name) for name in counts}


def refresh_if_stale(known: Activity | None, found: Activity) -> Activity:
    """Return the known activity while it is unchanged and not stale, else the found one."""
    if known is None or abs(found.count_time - known.count_time) >= STALE_AFTER:
        return found
    return known if replace(known, count_time=found.count_time) == found else found


def _hour(when: datetime) -> datetime:
    return when.replace(minute=0, second=0, microsecond=0)


def _in_step_order(counts: Counter[str]) -> dict[str, int]:
    return {name: counts[name] for name in (*DURATION_BUCKETS, OVERFLOW_BUCKET) if counts[name]}

"""
The tally of one walk over all events: what went on with one Organization's. Pure, and it does not grow with the number of events.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from msgspec.structs import replace

from counterfoil.resources import Activity, EnvelopeEvent, Hour, Phase
from counterfoil.resources.activity import HOURS, LONGER, STEPS, step

WEEK = timedelta(days=7)
STALE = timedelta(hours=1)
"""After so long it is written that there is nothing new, so that whoever looks knows that somebody counts."""


@dataclass
class Tally:
    """Counts; ``now`` is when the walk began."""

    now: datetime
    _noted: Counter[datetime] = field(default_factory=Counter)
    _archived: Counter[datetime] = field(default_factory=Counter)
    _within: Counter[str] = field(default_factory=Counter)
    _unfinished: Counter[str] = field(default_factory=Counter)

    def take(self, event: EnvelopeEvent) -> None:
        """Count an event."""
        created, status = event.metadata.creation_timestamp, event.status
        if created is None:
            return
        self._in_its_hour(self._noted, created)
        if not status.phase.is_final:
            self._unfinished[step(self.now - created)] += 1
        elif status.phase is Phase.SUCCEEDED and status.completed_at is not None:
            self._in_its_hour(self._archived, status.completed_at)
            if self.now - status.completed_at < WEEK:
                self._within[step(status.completed_at - created)] += 1

    def activity(self) -> Activity:
        """Return what was counted."""
        return Activity(
            counted_at=self.now.replace(microsecond=0),
            hours=tuple(
                Hour(at=each, noted=self._noted[each], archived=self._archived[each])
                for each in sorted({*self._noted, *self._archived})
            ),
            archived_within=_in_order(self._within),
            unfinished_for=_in_order(self._unfinished),
        )

    def _in_its_hour(self, counts: Counter[datetime], when: datetime) -> None:
        hour = _hour(when)
        if hour > _hour(self.now) - timedelta(hours=HOURS):
            counts[hour] += 1


def settled(known: Activity | None, found: Activity) -> Activity:
    """Return what is to stand in the status: what stands there, while nothing is new and it is not stale."""
    if known is None or found.counted_at - known.counted_at >= STALE:
        return found
    return known if replace(known, counted_at=found.counted_at) == found else found


def _hour(when: datetime) -> datetime:
    return when.replace(minute=0, second=0, microsecond=0)


def _in_order(counts: Counter[str]) -> dict[str, int]:
    return {name: counts[name] for name in (*STEPS, LONGER) if counts[name]}

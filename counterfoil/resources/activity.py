"""
Activity: the number of an Organization's events by hour and by duration.

The garbage collector counts during its pass over all events. A reader needs one status, for any number of
events.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from counterfoil.resources.base import ResourcePart

ACTIVITY_HOURS: Final = 24
"""Number of hours in the status, including the current hour."""

DURATION_BUCKETS: Final[Mapping[str, timedelta]] = {
    "1s": timedelta(seconds=1),
    "10s": timedelta(seconds=10),
    "1m": timedelta(minutes=1),
    "10m": timedelta(minutes=10),
    "1h": timedelta(hours=1),
    "24h": timedelta(hours=24),
}
"""Upper limits of the buckets; each bucket begins at the limit of the one before."""

OVERFLOW_BUCKET: Final = "longer"
"""The bucket above all limits."""


class HourlyActivity(ResourcePart, frozen=True):
    """One hour: its beginning, the number of events created, and the number of events archived."""

    time: datetime
    noted: int = 0
    archived: int = 0


class Activity(ResourcePart, frozen=True):
    """Counts of one pass over all events."""

    count_time: datetime
    hours: tuple[HourlyActivity, ...] = ()
    """The last ``ACTIVITY_HOURS`` hours, oldest first, without hours that have no events."""
    archived_within: dict[str, int] = {}
    """By bucket: time from creation to the archive, of events archived in the last seven days."""
    unfinished_for: dict[str, int] = {}
    """By bucket: age of the unfinished events."""


def duration_bucket(span: timedelta) -> str:
    """Return the bucket of a duration."""
    return next((name for name, limit in DURATION_BUCKETS.items() if span < limit), OVERFLOW_BUCKET)

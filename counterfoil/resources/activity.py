"""
Activity: what went on with an Organization's events, by hour and by how long it took, as the controller counts it.

It is counted on the walk that sees every event in any case, so that whoever wants to see it reads one status, however many
events there are.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from counterfoil.resources.base import ResourcePart

ACTIVITY_HOURS: Final = 24
"""So many hours are told, the one that is not over included."""

DURATION_BUCKETS: Final[Mapping[str, timedelta]] = {
    "1s": timedelta(seconds=1),
    "10s": timedelta(seconds=10),
    "1m": timedelta(minutes=1),
    "10m": timedelta(minutes=10),
    "1h": timedelta(hours=1),
    "24h": timedelta(hours=24),
}
"""Lengths of time are told in steps: less than so much, and not less than the step before."""

OVERFLOW_BUCKET: Final = "longer"
"""The step after the last one."""


class HourlyActivity(ResourcePart, frozen=True):
    """One hour: when it began, how many events were noted down in it, and how many came to their end in the archive."""

    at: datetime
    noted: int = 0
    archived: int = 0


class Activity(ResourcePart, frozen=True):
    """What one walk found."""

    counted_at: datetime
    hours: tuple[HourlyActivity, ...] = ()
    """The last ``ACTIVITY_HOURS`` hours, oldest first; where nothing happened, there is none."""
    archived_within: dict[str, int] = {}
    """By step: how long it took from noting down to the archive, for what was archived in the last seven days."""
    unfinished_for: dict[str, int] = {}
    """By step: how long ago the unfinished events were noted down."""


def duration_bucket(span: timedelta) -> str:
    """Return in which step a length of time falls."""
    return next((name for name, limit in DURATION_BUCKETS.items() if span < limit), OVERFLOW_BUCKET)

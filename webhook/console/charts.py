"""Numbers for the bar charts, from the status of Organizations. Pure; the template draws them as SVG."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from counterfoil.resources import Activity, HourlyActivity, Organization
from counterfoil.resources.organization import ACTIVITY_HOURS, DURATION_BUCKETS, OVERFLOW_BUCKET

_LABELS: Final = {
    **{step: f"<{step}" for step in DURATION_BUCKETS},
    OVERFLOW_BUCKET: f">{list(DURATION_BUCKETS)[-1]}",
}


@dataclass(frozen=True)
class Bar:
    """One bar: the label below it, its count, and its height of 100."""

    label: str
    count: int
    height: float


@dataclass(frozen=True)
class Chart:
    """A chart: its key in the catalogue, its bars, and the time of the count."""

    name: str
    bars: tuple[Bar, ...]
    count_time: datetime | None
    """None: not yet."""

    @property
    def peak(self) -> int:
        """The highest count."""
        return max((bar.count for bar in self.bars), default=0)


def overview(organizations: Iterable[Organization]) -> tuple[Chart, ...]:
    """Return how much was archived, how long that took, and how old the rest is."""
    found = _activities(organizations)
    return (
        _by_hour("throughput", found, lambda hour: hour.archived),
        _by_step("time_to_archive", found, lambda each: each.archived_within),
        _by_step("backlog", found, lambda each: each.unfinished_for),
    )


def callbacks(organization: Organization) -> Chart:
    """Return how many events of an organization were created in each hour."""
    return _by_hour("callbacks", _activities([organization]), lambda hour: hour.noted)


def _activities(organizations: Iterable[Organization]) -> Sequence[Activity]:
    return [each.status.activity for each in organizations if each.status.activity is not None]


def _by_hour(name: str, found: Sequence[Activity], count: Callable[[HourlyActivity], int]) -> Chart:
    if not found:
        return _chart(name, found, [])
    counts: Counter[datetime] = Counter()
    for hour in (hour for each in found for hour in each.hours):
        counts[hour.start_time] += count(hour)
    last = max(each.count_time for each in found).replace(minute=0, second=0, microsecond=0)
    hours = [last - timedelta(hours=ago) for ago in range(ACTIVITY_HOURS - 1, -1, -1)]
    return _chart(name, found, [(f"{each:%H}:00", counts[each]) for each in hours])


def _by_step(name: str, found: Sequence[Activity], counts_of: Callable[[Activity], dict[str, int]]) -> Chart:
    counts: Counter[str] = Counter()
    for each in found:
        counts.update(counts_of(each))
    return _chart(name, found, [(label, counts[step]) for step, label in _LABELS.items()])


def _chart(name: str, found: Sequence[Activity], counted: Sequence[tuple[str, int]]) -> Chart:
    peak = max((count for _, count in counted), default=0) or 1
    bars = tuple(Bar(label, count, round(100 * count / peak, 1)) for label, count in counted)
    # An idle Organization keeps the time of its last change, so an older time is no older count.
    return Chart(name, bars, max((each.count_time for each in found), default=None))

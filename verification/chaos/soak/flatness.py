"""
Whether a process grows: the end of a run against its beginning after the warm-up. Pure.

The first quarter of the run is the warm-up and does not count. The median of the last quarter may be above
the median of the second quarter by a bound. Medians, because a value rises for a moment with each fault.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import linear_regression, median
from typing import Final, NamedTuple

HOUR: Final = 3600.0
MIB: Final = 1024 * 1024


class Bound(NamedTuple):
    """The growth that is allowed: the higher one of the two."""

    share: float
    """As a share of the value after the warm-up."""
    least: float
    """In the unit of the measure."""


BOUNDS: Final[Mapping[str, Bound]] = {
    "memory": Bound(0.05, 8 * MIB),
    "workers' memory": Bound(0.05, 8 * MIB),
    "file descriptors": Bound(0.0, 8),
    "threads": Bound(0.0, 8),
    "tasks": Bound(0.0, 8),
}
"""The measures, each with its bound. Memory is RSS in bytes."""


class Sample(NamedTuple):
    """One measured value."""

    seconds: float
    """Since the begin of the run."""
    process: str
    measure: str
    value: float


@dataclass(frozen=True)
class Growth:
    """One measure of one process over a run."""

    process: str
    measure: str
    early: float
    """Median of the second quarter."""
    late: float
    """Median of the last quarter."""
    highest: float
    slope: float
    """Change per hour after the warm-up, by the least squares."""
    limit: float
    """Highest ``late`` that counts as flat."""

    @property
    def is_flat(self) -> bool:
        """Whether the growth is within the bound."""
        return self.late <= self.limit


def growths(samples: Iterable[Sample], seconds: float) -> list[Growth]:
    """Return the growth of each measure of each process in a run of this duration, as far as ``unproven``
    leaves out none."""
    series = _series(samples)
    return [
        _growth(process, measure, series[process, measure], seconds)
        for process, measure in sorted(series)
        if _is_proven(series[process, measure], seconds)
    ]


def unproven(samples: Iterable[Sample], processes: Iterable[str], seconds: float) -> list[str]:
    """Return the measures of these processes that have no sample in the second or the last quarter."""
    series = _series(samples)
    return [
        f"{process}: {measure}"
        for process in processes
        for measure in BOUNDS
        if not _is_proven(series.get((process, measure), []), seconds)
    ]


_Series = list[tuple[float, float]]


def _series(samples: Iterable[Sample]) -> dict[tuple[str, str], _Series]:
    series: dict[tuple[str, str], _Series] = {}
    for each in samples:
        series.setdefault((each.process, each.measure), []).append((each.seconds, each.value))
    return series


def _quarter(values: _Series, seconds: float, number: int) -> list[float]:
    return [value for at, value in values if seconds / 4 * (number - 1) <= at < seconds / 4 * number]


def _is_proven(values: _Series, seconds: float) -> bool:
    return all(_quarter(values, seconds, number) for number in (2, 4))


def _growth(process: str, measure: str, values: _Series, seconds: float) -> Growth:
    early, late = (median(_quarter(values, seconds, number)) for number in (2, 4))
    bound = BOUNDS[measure]
    return Growth(
        process=process,
        measure=measure,
        early=early,
        late=late,
        highest=max(value for _, value in values),
        slope=_slope([each for each in values if each[0] >= seconds / 4]) * HOUR,
        limit=early + max(bound.share * early, bound.least),
    )


def _slope(values: _Series) -> float:
    times, measured = [at for at, _ in values], [value for _, value in values]
    return linear_regression(times, measured).slope if len(set(times)) > 1 else 0.0

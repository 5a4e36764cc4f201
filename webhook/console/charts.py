"""
Charts: what people would rather look at than read, as numbers for bars. Pure; the template draws them as SVG.

A chart is drawn from a sample: the first events by name, and since envelope ids are random, so is the sample. It says from
how many of how many it is.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from counterfoil.resources import EnvelopeEvent, Phase

HOURS: Final = 24

_STEPS: Final = (
    ("1s", timedelta(seconds=1)),
    ("10s", timedelta(seconds=10)),
    ("1m", timedelta(minutes=1)),
    ("10m", timedelta(minutes=10)),
    ("1h", timedelta(hours=1)),
    ("24h", timedelta(hours=24)),
)
_BEYOND: Final = ">24h"


@dataclass(frozen=True)
class Bar:
    """One bar: what stands under it, how many, and how high of 100."""

    label: str
    count: int
    height: float


@dataclass(frozen=True)
class Chart:
    """A chart: its name in the words, its bars, and from how many events."""

    name: str
    bars: tuple[Bar, ...]
    sample: int
    total: int
    """Of how many the sample is; 0 when that is not known."""

    @property
    def is_whole(self) -> bool:
        """Whether nothing was left out."""
        return self.total <= self.sample

    @property
    def peak(self) -> int:
        """The highest count."""
        return max((bar.count for bar in self.bars), default=0)


def throughput(events: Sequence[EnvelopeEvent], now: datetime, *, total: int) -> Chart:
    """Return how many events succeeded in each of the last 24 hours."""
    times = [each.status.completed_at for each in events if each.status.phase is Phase.SUCCEEDED]
    return _by_hour("throughput", times, now, sample=len(events), total=total)


def callbacks(events: Sequence[EnvelopeEvent], now: datetime, *, total: int) -> Chart:
    """Return how many events were noted down in each of the last 24 hours."""
    times = [each.metadata.creation_timestamp for each in events]
    return _by_hour("callbacks", times, now, sample=len(events), total=total)


def time_to_archive(events: Sequence[EnvelopeEvent], *, total: int) -> Chart:
    """Return how long it took from noting down to the end, for what succeeded."""
    spans = [
        each.status.completed_at - each.metadata.creation_timestamp
        for each in events
        if each.status.phase is Phase.SUCCEEDED
        and each.status.completed_at is not None
        and each.metadata.creation_timestamp is not None
    ]
    return _by_span("time_to_archive", spans, sample=len(events), total=total)


def backlog(events: Sequence[EnvelopeEvent], now: datetime, *, total: int) -> Chart:
    """Return how old the unfinished events are."""
    spans = [
        now - each.metadata.creation_timestamp
        for each in events
        if not each.status.phase.is_final and each.metadata.creation_timestamp is not None
    ]
    return _by_span("backlog", spans, sample=len(events), total=total)


def _by_hour(name: str, times: Iterable[datetime | None], now: datetime, *, sample: int, total: int) -> Chart:
    ages = [int((now - when).total_seconds() // 3600) for when in times if when is not None]
    counts = Counter(age for age in ages if 0 <= age < HOURS)
    labels = [f"-{age}h" for age in range(HOURS - 1, -1, -1)]
    return _chart(name, labels, [counts[age] for age in range(HOURS - 1, -1, -1)], sample, total)


def _by_span(name: str, spans: Iterable[timedelta], *, sample: int, total: int) -> Chart:
    counts = Counter(_step(span) for span in spans)
    labels = [*(f"<{label}" for label, _ in _STEPS), _BEYOND]
    return _chart(name, labels, [counts[label] for label in labels], sample, total)


def _step(span: timedelta) -> str:
    return next((f"<{label}" for label, limit in _STEPS if span < limit), _BEYOND)


def _chart(name: str, labels: list[str], counts: list[int], sample: int, total: int) -> Chart:
    peak = max(counts, default=0) or 1
    bars = tuple(
        Bar(label, count, round(100 * count / peak, 1)) for label, count in zip(labels, counts, strict=True)
    )
    return Chart(name, bars, sample, total)

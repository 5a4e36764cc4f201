"""
Estimates for a dry run of an Import: number and size of its files, and its duration. Pure.

Files and sizes are those of the sample that the dry run measured. The duration is the longest that a
configured limit causes. eSignAnyWhere and the archive may need longer. The console and the plugin show the
same figures.
"""

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from counterfoil.resources import Import, Organization
from counterfoil.resources.imports import ImportHours, ImportSample

REQUESTS_BESIDE_FILES = 6
"""Requests to eSAW for one envelope, in addition to one for each file (docs/performance.md)."""

STORED_EVENTS = 50_000
"""Number of EnvelopeEvents of Imports at which they wait, by the default quota of the chart: half of it."""

TimeUnit = Literal["day", "hour", "minute"]


@dataclass(frozen=True)
class ImportEstimate:
    """The estimate for the envelopes that a dry run counted."""

    envelopes: int
    """Number of envelopes that it would archive."""
    sample: ImportSample
    files: int | None
    """None: no envelope was measured."""
    bytes: int | None
    duration: timedelta
    """The shortest duration; zero: no limit is configured, or none is known."""


def estimate_of(imported: Import, organization: Organization | None) -> ImportEstimate | None:
    """Return the estimate for the envelopes that a dry run counted so far and that it would archive; None for
    none. ``organization`` is None where it can't be read."""
    status = imported.status
    envelopes = status.found - status.known - status.refused + status.reopened
    if not imported.spec.dry_run or envelopes <= 0:
        return None
    sample = status.sample or ImportSample()
    files = size = None
    if sample.envelopes:
        files = math.ceil(envelopes * sample.files / sample.envelopes)
        size = round(envelopes * sample.bytes / sample.envelopes)
    duration = timedelta()
    if organization is not None:
        duration = shortest_duration(envelopes, organization, files, imported.spec.hours)
    return ImportEstimate(envelopes, sample, files, size, duration)


def shortest_duration(
    envelopes: int, organization: Organization, files: int | None, hours: ImportHours | None
) -> timedelta:
    """Return the shortest duration that the configured limits allow; zero for none."""
    durations = [timedelta()]
    rate = organization.spec.limits.requests_per_minute
    if rate is not None:
        requests = envelopes * REQUESTS_BESIDE_FILES + (files if files is not None else envelopes)
        durations.append(timedelta(minutes=requests / rate) * (24 / hours_per_day(hours)))
    # Finished events are removed after this time, at any hour, and make room for others.
    rounds = max(0, envelopes - 1) // STORED_EVENTS
    durations.append(rounds * organization.spec.ttl.imported)
    return max(durations)


def hours_per_day(hours: ImportHours | None) -> float:
    """Return how many hours of a day the Import may create events."""
    if hours is None:
        return 24.0
    begin, end = _time_of_day(hours.from_), _time_of_day(hours.to)
    return ((end - begin) % timedelta(days=1)) / timedelta(hours=1)


def _time_of_day(text: str) -> timedelta:
    hour, minute = text.split(":")
    return timedelta(hours=int(hour), minutes=int(minute))


def in_largest_unit(duration: timedelta) -> tuple[int, TimeUnit]:
    """Return a duration, rounded up, in the largest unit of which it has two."""
    units: tuple[tuple[TimeUnit, timedelta], ...] = (
        ("day", timedelta(days=1)),
        ("hour", timedelta(hours=1)),
    )
    for unit, size in units:
        if duration >= 2 * size:
            return math.ceil(duration / size), unit
    return max(1, math.ceil(duration / timedelta(minutes=1))), "minute"

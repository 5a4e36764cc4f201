"""The estimate of a dry run: files and size by its sample, time by the limits."""

from datetime import timedelta
from typing import Any

import pytest

from controller.resync.import_runner import ImportBounds
from counterfoil.i18n.import_estimate import (
    STORED_EVENTS,
    ImportEstimate,
    TimeUnit,
    estimate_of,
    hours_per_day,
    in_largest_unit,
    shortest_duration,
)
from counterfoil.resources import Import
from counterfoil.resources.imports import ImportHours, ImportSample
from tests.support.builders import an_organization


def an_import(sample: dict[str, int] | None = None, *, dry_run: bool = True, **counts: int) -> Import:
    status = {**counts, **({"sample": sample} if sample is not None else {})}
    spec: dict[str, Any] = {"organizationRef": {"name": "acme"}, "from": "2019-01-01", "dryRun": dry_run}
    return Import.parse(
        {"metadata": {"name": "count", "resourceVersion": "1"}, "spec": spec, "status": status}
    )


def test_what_has_no_event_or_starts_again_is_estimated_by_the_means_of_the_sample() -> None:
    sample = {"envelopes": 4, "unreadable": 1, "files": 6, "bytes": 4000}
    imported = an_import(sample, found=3100, known=95, reopened=5, refused=10)
    organization = an_organization(limits={"requestsPerMinute": 100})
    assert estimate_of(imported, organization) == ImportEstimate(
        envelopes=3000,
        sample=ImportSample(envelopes=4, unreadable=1, files=6, bytes=4000),
        files=4500,
        bytes=3_000_000,
        duration=timedelta(minutes=225),
    )


@pytest.mark.parametrize("sample", [None, {"unreadable": 3}])
def test_without_a_measured_envelope_files_and_size_are_unknown(sample: dict[str, int] | None) -> None:
    estimate = estimate_of(an_import(sample, found=3), an_organization(limits={"requestsPerMinute": 7}))
    assert estimate is not None
    assert (estimate.files, estimate.bytes) == (None, None)
    # With one file for each envelope.
    assert estimate.duration == timedelta(minutes=3)


def test_an_organization_that_can_not_be_read_limits_nothing() -> None:
    estimate = estimate_of(an_import({"envelopes": 1, "files": 2, "bytes": 9}, found=3), None)
    assert estimate is not None
    assert (estimate.files, estimate.bytes, estimate.duration) == (6, 27, timedelta())


def test_nothing_is_estimated_where_each_envelope_has_an_event_or_the_import_archives() -> None:
    assert estimate_of(an_import(found=5, known=4, refused=1), an_organization()) is None
    assert estimate_of(an_import(dry_run=False, found=5), an_organization()) is None


@pytest.mark.parametrize(
    ("envelopes", "limits", "hours", "duration"),
    [
        (1000, {}, None, timedelta()),
        (1000, {"requestsPerMinute": 80}, None, timedelta(minutes=100)),
        (1000, {"requestsPerMinute": 80}, ("19:00", "07:00"), timedelta(minutes=200)),
        (50_000, {}, None, timedelta()),
        (50_001, {}, None, timedelta(hours=72)),
        (150_000, {}, None, timedelta(hours=144)),
        (100_001, {}, ("19:00", "03:00"), timedelta(hours=144)),
        (150_000, {"requestsPerMinute": 1}, None, timedelta(minutes=1_200_000)),
    ],
)
def test_the_duration_is_the_longest_that_a_limit_causes(
    envelopes: int, limits: dict[str, int], hours: tuple[str, str] | None, duration: timedelta
) -> None:
    of_day = None if hours is None else ImportHours(time_zone="UTC", from_=hours[0], to=hours[1])
    organization = an_organization(limits=limits)
    assert shortest_duration(envelopes, organization, 2 * envelopes, of_day) == duration


def test_the_number_of_stored_events_is_that_of_the_controller() -> None:
    assert ImportBounds().quota // 2 == STORED_EVENTS


@pytest.mark.parametrize(
    ("begin", "end", "hours"), [("19:00", "06:00", 11.0), ("08:30", "12:00", 3.5), ("00:00", "23:59", 23.98)]
)
def test_hours_can_cross_midnight(begin: str, end: str, hours: float) -> None:
    found = hours_per_day(ImportHours(time_zone="UTC", from_=begin, to=end))
    assert round(found, 2) == hours


@pytest.mark.parametrize(
    ("duration", "expected"),
    [
        (timedelta(seconds=1), (1, "minute")),
        (timedelta(minutes=119), (119, "minute")),
        (timedelta(hours=2, minutes=1), (3, "hour")),
        (timedelta(days=2, hours=1), (3, "day")),
    ],
)
def test_a_duration_has_a_unit_that_fits(duration: timedelta, expected: tuple[int, TimeUnit]) -> None:
    assert in_largest_unit(duration) == expected

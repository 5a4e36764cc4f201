"""The next step of an Import, by its spec and status alone."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from controller.resync.import_progress import (
    DOUBT,
    WINDOW,
    EventTally,
    ImportHold,
    Search,
    WindowCount,
    after_events,
    after_search,
    concluded,
    hold,
    next_search,
    sample_due,
    windows,
    windows_of,
    with_senders,
)
from counterfoil.resources import EnvelopeStatus, Import, find_condition
from counterfoil.resources.imports import (
    MAX_OPEN_WINDOWS,
    ImportWindow,
    is_counted,
    read_window_label,
    window_label,
)
from counterfoil.resources.organization import ArchiveUse
from tests.support.builders import NOON, an_organization, ready
from tests.support.fakes.reconcile_context import an_archive

ALONE = ArchiveUse((), lambda _: None)
"""No other Organization."""

UID = "uid-old-stock"


def an_import(*, created: datetime = NOON, status: dict[str, Any] | None = None, **spec: Any) -> Import:
    return Import.parse(
        {
            "metadata": {"name": "old-stock", "uid": UID, "creationTimestamp": created.isoformat()},
            "spec": {"organizationRef": {"name": "acme"}, "from": "2026-06-01", **spec},
            "status": status or {},
        }
    )


def a_started_import(**senders: int) -> Import:
    rows = [{"name": name, "windowsDone": done} for name, done in senders.items()]
    return an_import(status={"senders": rows})


def searched(imported: Import) -> Search:
    search = next_search(imported, ())
    assert search is not None
    return search


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (datetime(2019, 1, 1, tzinfo=UTC), NOON),
        (datetime(2019, 12, 30, tzinfo=UTC), datetime(2020, 1, 2, tzinfo=UTC)),
        (datetime(2000, 2, 29, tzinfo=UTC), datetime(2000, 3, 1, tzinfo=UTC)),
    ],
)
def test_the_windows_cover_the_span_without_a_gap_and_none_crosses_a_year(
    start: datetime, end: datetime
) -> None:
    found = windows(start, end)
    assert (found[0].start, found[-1].end) == (start, end)
    assert all(one.end == other.start for one, other in itertools.pairwise(found))
    assert all(timedelta(0) < each.end - each.start <= WINDOW for each in found)
    assert all((each.end - timedelta(microseconds=1)).year == each.start.year for each in found)


def test_the_newest_window_comes_first_unless_the_oldest_is_wanted() -> None:
    newest, oldest = windows_of(an_import()), windows_of(an_import(order="OldestFirst"))
    assert newest[0].end == NOON
    assert list(oldest) == list(reversed(newest))


def test_the_sender_with_the_fewest_windows_is_next() -> None:
    imported = a_started_import(anna=2, bert=1, carl=3)
    assert (searched(imported).sender, searched(imported).number) == ("bert", 1)
    other = next_search(imported, ["bert"])
    assert other is not None
    assert other.sender == "anna"


def test_no_window_is_next_while_too_many_wait_for_their_events() -> None:
    open_windows = [{"id": f"w-{number}", "events": 1} for number in range(MAX_OPEN_WINDOWS)]
    imported = an_import(status={"senders": [{"name": "anna"}], "openWindows": open_windows})
    assert next_search(imported, ()) is None
    status = concluded(imported, None, is_waiting=True, now=NOON)
    ready_now = find_condition(status.conditions, "Ready")
    assert ready_now is not None
    assert ready_now.reason == "ImportRunning"


def test_a_window_is_recorded_once_although_two_controllers_searched_it() -> None:
    imported = a_started_import(anna=0)
    search, count = searched(imported), WindowCount(known=1, created=1)
    count.add(EnvelopeStatus.COMPLETED)
    count.add(EnvelopeStatus.COMPLETED)
    once = after_search(imported, search, count, NOON)
    assert (once.found, once.known, once.open_windows) == (2, 1, (ImportWindow(id=search.id, events=1),))
    assert after_search(replace(imported, status=once), search, count, NOON) is once


@pytest.mark.parametrize(
    ("until", "end"),
    [
        ("2026-06-30", "2026-06-30"),
        ("2026-07-01", "2026-07-01 12:00 UTC, when the Import was created"),
        ("2027-03-01", "2026-07-01 12:00 UTC, when the Import was created"),
        (None, "2026-07-01 12:00 UTC, when the Import was created"),
    ],
)
def test_a_complete_import_names_the_real_end_of_its_span(until: str | None, end: str) -> None:
    imported = an_import(until=until, status={"senders": [{"name": "anna", "searched": True}]})
    ready_now = find_condition(concluded(imported, None, is_waiting=False, now=NOON).conditions, "Ready")
    assert ready_now is not None
    assert ready_now.message.endswith(f"Searched: what was sent from 2026-06-01 to {end}.")


@pytest.mark.parametrize("failed", [0, 300])
def test_a_complete_import_says_how_many_of_its_events_failed(failed: int) -> None:
    imported = an_import(status={"senders": [{"name": "anna", "searched": True}], "failed": failed})
    complete = find_condition(concluded(imported, None, is_waiting=False, now=NOON).conditions, "Complete")
    assert complete is not None
    assert ("300 events failed." in complete.message) is bool(failed)


def test_the_results_of_a_window_are_added_once() -> None:
    imported = an_import(status={"openWindows": [{"id": "a", "events": 2}], "archived": 5})
    tallies = {"a": EventTally(archived=1, failed=1, bytes=7), "b": EventTally(archived=9)}
    status = after_events(imported, tallies, NOON)
    assert (status.archived, status.failed, status.bytes, status.open_windows) == (6, 1, 7, ())


def test_a_doubt_stays_with_its_sender_until_the_end() -> None:
    imported = a_started_import(anna=0)
    status = after_search(imported, searched(imported), WindowCount(doubt="gets the same"), NOON)
    status = with_senders(replace(imported, status=status), ["anna"], {})
    assert status.senders[0].reason == DOUBT


def test_a_doubt_is_named_again_after_another_problem_of_its_sender() -> None:
    imported = a_started_import(anna=0)
    status = after_search(imported, searched(imported), WindowCount(doubt="gets the same"), NOON)
    problem = ImportHold("EsawFailing", "No answer.")
    status = with_senders(replace(imported, status=status), ["anna"], {"anna": problem})
    assert status.senders[0].reason == "EsawFailing"
    status = with_senders(replace(imported, status=status), ["anna"], {})
    assert (status.senders[0].reason, status.senders[0].message) == (DOUBT, "gets the same")


@pytest.mark.parametrize(
    ("hours", "now", "reason"),
    [
        (None, "12:00", None),
        (("UTC", "19:00", "06:00"), "18:59", "ImportOutsideHours"),
        (("UTC", "19:00", "06:00"), "19:00", None),
        (("UTC", "19:00", "06:00"), "05:59", None),
        (("UTC", "19:00", "06:00"), "06:00", "ImportOutsideHours"),
        (("UTC", "08:00", "10:00"), "09:00", None),
        (("UTC", "08:00", "10:00"), "10:00", "ImportOutsideHours"),
        (("Europe/Vienna", "19:00", "06:00"), "17:30", None),
        (("Europe/Nowhere", "19:00", "06:00"), "17:30", "TimeZoneUnknown"),
        (("../etc", "19:00", "06:00"), "17:30", "TimeZoneUnknown"),
    ],
)
def test_an_import_runs_only_in_its_hours(
    hours: tuple[str, str, str] | None, now: str, reason: str | None
) -> None:
    spec: dict[str, Any] = (
        {"hours": dict(zip(("timeZone", "from", "to"), hours, strict=True))} if hours else {}
    )
    hour, minute = map(int, now.split(":"))
    found = hold(
        an_import(**spec),
        an_organization(),
        {"dms": ready(an_archive())},
        ALONE,
        NOON.replace(hour=hour, minute=minute),
    )
    assert (found.reason if found else None) == reason


@pytest.mark.parametrize(
    ("spec", "organization", "reason"),
    [
        ({"from": "2026-07-02"}, {}, "ImportSpanEmpty"),
        ({"statuses": ["Rejected"]}, {}, "ImportNotArchived"),
        ({}, {"actions": [{"action": "envelopeFinished", "handling": "Record"}]}, "ImportNotArchived"),
        ({}, {"suspend": True}, "OrganizationSuspended"),
    ],
)
def test_what_contradicts_the_organization_is_named(
    spec: dict[str, Any], organization: dict[str, Any], reason: str
) -> None:
    found = hold(
        an_import(**spec), an_organization(**organization), {"dms": ready(an_archive())}, ALONE, NOON
    )
    assert found is not None
    assert found.reason == reason


@pytest.mark.parametrize("is_dry_run", [True, False])
def test_a_missing_archive_holds_an_import_and_no_dry_run(*, is_dry_run: bool) -> None:
    found = hold(an_import(dryRun=is_dry_run), an_organization(), {"dms": None}, ALONE, NOON)
    assert (found is None) == is_dry_run


def test_an_import_of_an_unknown_organization_has_a_reason_and_a_message_about_the_import() -> None:
    """Its advice is about no event and no Sender."""
    assert hold(an_import(), None, {}, ALONE, NOON) == ImportHold(
        "ImportOrganizationMissing",
        "Organization/acme does not exist. Create it, or delete Import/old-stock: its spec.organizationRef "
        "never changes.",
    )


def test_the_label_of_a_window_is_a_valid_one_and_is_read_again() -> None:
    label = window_label(UID, "a" * 63, 1430, NOON)
    read = read_window_label(label)
    assert len(label) <= 63
    assert read is not None
    assert (read.number, read.sent_before > NOON) == (1430, True)


@pytest.mark.parametrize("value", ["", "a-b-c", "a-b-c-20260101", "a-b-1-2026", "a-b-1-20261301"])
def test_no_other_label_is_read(value: str) -> None:
    assert read_window_label(value) is None


@pytest.mark.parametrize(
    ("done", "is_open", "expected"), [(0, False, False), (1, False, True), (1, True, False)]
)
def test_an_event_is_counted_when_its_window_is_done_and_not_open(
    done: int, expected: bool, *, is_open: bool
) -> None:
    label = window_label(UID, "anna", 0, NOON)
    open_windows = [{"id": label, "events": 1}] if is_open else []
    imported = an_import(
        status={"senders": [{"name": "anna", "windowsDone": done}], "openWindows": open_windows}
    )
    assert is_counted(imported, label) == expected
    assert is_counted(imported, window_label("another", "anna", 0, NOON))


def test_each_listed_envelope_counts_for_its_sender_too() -> None:
    imported = a_started_import(anna=0)
    count = WindowCount(refused=1, groups={EnvelopeStatus.COMPLETED: 4})
    status = after_search(imported, searched(imported), count, NOON)
    assert [(each.name, each.found) for each in status.senders] == [("anna", 5)]


@pytest.mark.parametrize(("minutes", "rate"), [(0, None), (30, 20)])
def test_the_rate_is_that_of_the_events_that_ended(minutes: int, rate: int | None) -> None:
    imported = an_import(
        status={
            "openWindows": [{"id": "a", "events": 2}],
            "archived": 7,
            "known": 100,
            "startTime": NOON.isoformat(),
        }
    )
    tallies = {"a": EventTally(archived=1, skipped=1, failed=1)}
    assert after_events(imported, tallies, NOON + timedelta(minutes=minutes)).rate == rate


def test_the_rate_of_a_dry_run_is_that_of_the_listed_envelopes() -> None:
    status = {"senders": [{"name": "anna"}], "startTime": NOON.isoformat(), "found": 10}
    imported = an_import(status=status, dryRun=True)
    count = WindowCount(groups={EnvelopeStatus.COMPLETED: 2})
    assert after_search(imported, searched(imported), count, NOON + timedelta(minutes=6)).rate == 120


@pytest.mark.parametrize(
    ("size", "done", "sample", "due"),
    [
        (20, 0, {}, 1),
        (20, 39, {"envelopes": 10, "unreadable": 8}, 2),
        (20, 39, {"envelopes": 20}, 0),
        (100, 0, {}, 3),
        (0, 0, {}, 0),
    ],
)
def test_a_sample_is_taken_evenly_over_the_windows(
    size: int, done: int, sample: dict[str, int], due: int
) -> None:
    status = {"windows": {"done": done, "total": 40}, "sample": sample}
    assert sample_due(an_import(status=status, dryRun=True, sampleSize=size)) == due


def test_an_import_that_archives_takes_no_sample() -> None:
    assert sample_due(an_import(status={"windows": {"done": 0, "total": 40}})) == 0


def test_the_end_is_estimated_by_the_speed_so_far() -> None:
    imported = an_import(status={"senders": [{"name": "anna"}], "startTime": NOON.isoformat()})
    status = after_search(imported, searched(imported), WindowCount(), NOON + timedelta(minutes=10))
    assert status.estimated_completion_time == NOON + timedelta(minutes=50)

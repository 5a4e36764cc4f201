"""Statistics of an organization's events, as one garbage-collection pass counts them."""

from datetime import UTC, datetime, timedelta

import msgspec

from controller.resync.statistics import ActivityCounter, refresh_if_stale
from counterfoil.resources import Activity, EnvelopeEvent, HourlyActivity, Phase, to_json_dict
from counterfoil.resources.base import parse_part
from tests.support.builders import NOON, EventBuilder

HOUR = timedelta(hours=1)


def an_event(ago: timedelta, phase: Phase = Phase.ARCHIVING, took: timedelta | None = None) -> EnvelopeEvent:
    """An event that was created some time before noon."""
    built = EventBuilder().created(NOON - ago).in_phase(phase, "X")
    if phase is Phase.SUCCEEDED:
        built = built.with_condition("Archived")
    return (built.status(completion_time=NOON - ago + took) if took is not None else built).build()


def tallied(*events: EnvelopeEvent, now: datetime = NOON) -> Activity:
    counter = ActivityCounter(now)
    for each in events:
        counter.add(each)
    return counter.activity()


def succeeded(ago: timedelta, took: timedelta = timedelta(seconds=5)) -> EnvelopeEvent:
    return an_event(ago, Phase.SUCCEEDED, took)


def test_each_hour_of_the_last_day_has_what_was_recorded_and_what_was_archived_in_it() -> None:
    minute = timedelta(minutes=1)
    found = tallied(
        an_event(minute),
        succeeded(2 * minute),
        succeeded(HOUR + minute, took=HOUR),
        an_event(23 * HOUR - minute),
        an_event(23 * HOUR + minute),
    )

    assert found.hours == (
        HourlyActivity(start_time=datetime(2026, 6, 30, 13, tzinfo=UTC), noted=1),
        HourlyActivity(start_time=datetime(2026, 7, 1, 10, tzinfo=UTC), noted=1),
        HourlyActivity(start_time=datetime(2026, 7, 1, 11, tzinfo=UTC), noted=2, archived=2),
    )


def test_what_was_only_recorded_was_not_archived() -> None:
    recorded = msgspec.structs.replace(succeeded(timedelta(hours=1)).status, conditions=())
    event = msgspec.structs.replace(succeeded(timedelta(hours=1)), status=recorded)
    assert [each.archived for each in tallied(event).hours] == [0]
    assert tallied(event).archived_within == {}


def test_hours_in_which_nothing_happened_are_left_out() -> None:
    assert tallied(an_event(30 * HOUR)).hours == ()


def test_the_time_to_the_archive_is_counted_in_steps_for_a_week() -> None:
    seconds = (0.5, 5, 5, 100_000)
    week = [succeeded(timedelta(days=3), timedelta(seconds=each)) for each in seconds]

    found = tallied(*week, succeeded(timedelta(days=9)), an_event(HOUR, Phase.SKIPPED, HOUR))

    assert found.archived_within == {"1s": 1, "10s": 2, "longer": 1}


def test_only_what_is_unfinished_has_an_age() -> None:
    waiting = an_event(timedelta(minutes=5), Phase.AWAITING_CONSENT)
    assert tallied(waiting, succeeded(HOUR), an_event(HOUR, Phase.FAILED)).unfinished_for == {"10m": 1}


def test_a_clock_that_is_ahead_makes_no_time_negative() -> None:
    assert tallied(an_event(timedelta(seconds=-30))).unfinished_for == {"1s": 1}


def restored(event: EnvelopeEvent, first_delivery: datetime | None) -> EnvelopeEvent:
    """Return an event as a restore creates it again, three days after its end."""
    metadata = msgspec.structs.replace(event.metadata, creation_timestamp=NOON)
    status = msgspec.structs.replace(event.status, first_delivery_time=first_delivery)
    return msgspec.structs.replace(event, metadata=metadata, status=status)


def test_a_restored_event_is_counted_by_the_times_of_its_callback_and_its_end() -> None:
    event = succeeded(timedelta(days=3), took=timedelta(seconds=50))
    found = tallied(restored(event, event.metadata.creation_timestamp))
    assert found.archived_within == {"1m": 1}
    assert found.hours == ()


def test_a_restored_event_of_a_sweep_has_no_time_to_the_archive() -> None:
    assert tallied(restored(succeeded(timedelta(days=3)), None)).archived_within == {}


def test_it_comes_back_from_an_organizations_status_as_it_was() -> None:
    found = tallied(an_event(HOUR), succeeded(2 * HOUR))
    assert parse_part(Activity, to_json_dict(found)) == found


def test_where_nothing_changed_it_is_written_once_an_hour_and_not_after_each_pass() -> None:
    event = an_event(5 * HOUR)
    first = tallied(event)
    soon, later = NOON + timedelta(minutes=59), NOON + HOUR

    assert refresh_if_stale(first, tallied(event, now=soon)) == first
    assert refresh_if_stale(first, tallied(event, now=later)).count_time == later
    assert refresh_if_stale(first, tallied(event, an_event(HOUR), now=soon)).count_time == soon
    assert refresh_if_stale(None, first) == first

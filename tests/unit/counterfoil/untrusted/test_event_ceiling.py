"""The ceiling of an organization's events, from the controller's count and the receiver's own creations."""

from datetime import UTC, datetime, timedelta

import pytest

from counterfoil.resources.organization import EventLoad, OrganizationLimits
from counterfoil.untrusted.event_ceiling import CLOCK_DIFFERENCE_SECONDS, EventCeiling
from tests.support.builders import NOON, AClock

LIMITS = OrganizationLimits(unfinished_events=5, unknown_envelopes=3)
LATER = CLOCK_DIFFERENCE_SECONDS + 1


@pytest.fixture
def clock() -> AClock:
    return AClock()


def a_ceiling(clock: AClock, load: EventLoad | None = None) -> EventCeiling:
    ceiling = EventCeiling(clock)
    ceiling.update(LIMITS, load)
    return ceiling


def created(ceiling: EventCeiling) -> int:
    """Reserve room for one event; return the reservation."""
    reserved = ceiling.reserve()
    assert reserved is not None
    return reserved


def room(ceiling: EventCeiling) -> int:
    """Reserve until there is no room; return how many."""
    return sum(ceiling.reserve() is not None for _ in range(20))


def a_count(clock: AClock, unfinished: int = 0) -> EventLoad:
    return EventLoad(count_time=clock.now(), unfinished_events=unfinished)


def test_without_a_count_the_receiver_counts_its_own_creations(clock: AClock) -> None:
    assert room(a_ceiling(clock)) == 5


def test_the_unfinished_events_of_the_count_leave_less_room(clock: AClock) -> None:
    assert room(a_ceiling(clock, a_count(clock, 3))) == 2
    assert room(a_ceiling(clock, a_count(clock, 7))) == 0


def test_unknown_envelopes_have_a_separate_ceiling(clock: AClock) -> None:
    assert room(a_ceiling(clock, EventLoad(count_time=NOON, unknown_envelopes=2))) == 5
    assert room(a_ceiling(clock, EventLoad(count_time=NOON, unknown_envelopes=3))) == 0


def test_a_newer_count_replaces_the_creations_before_it_and_only_those(clock: AClock) -> None:
    ceiling = a_ceiling(clock)
    for _ in range(3):
        created(ceiling)
    clock.advance(seconds=LATER)
    created(ceiling)
    ceiling.update(LIMITS, a_count(clock))
    assert room(ceiling) == 4


def test_creations_about_as_old_as_the_count_are_added_since_clocks_differ(clock: AClock) -> None:
    ceiling = a_ceiling(clock)
    created(ceiling)
    clock.advance(seconds=CLOCK_DIFFERENCE_SECONDS)
    ceiling.update(LIMITS, a_count(clock))
    assert room(ceiling) == 4


def test_creations_between_a_count_and_its_arrival_are_added(clock: AClock) -> None:
    ceiling, count = a_ceiling(clock), a_count(clock)
    created(ceiling)
    clock.advance(seconds=60)
    ceiling.update(LIMITS, count)
    ceiling.update(LIMITS, count)
    assert room(ceiling) == 4


def test_a_count_by_a_clock_ahead_includes_nothing_that_was_created_after_it_arrived(clock: AClock) -> None:
    ceiling = a_ceiling(clock)
    created(ceiling)
    clock.advance(seconds=LATER)
    count = EventLoad(count_time=clock.now() + timedelta(days=30))
    ceiling.update(LIMITS, count)
    created(ceiling)
    clock.advance(seconds=60)
    ceiling.update(LIMITS, count)
    assert room(ceiling) == 4


@pytest.mark.parametrize("minutes", [60, -60, 0], ids=["ahead", "behind", "equal"])
def test_a_receiver_whose_clock_differs_refuses_nothing_while_all_is_archived(
    clock: AClock, minutes: int
) -> None:
    ceiling = EventCeiling(clock)
    limits = OrganizationLimits(unfinished_events=100)
    for second in range(600):
        clock.advance(seconds=1)
        if second % 30 == 0:
            counted = clock.now() - timedelta(minutes=minutes)
            ceiling.update(limits, EventLoad(count_time=counted, unfinished_events=0))
        assert ceiling.reserve() is not None
    assert ceiling.uncounted_seconds() < 70


def test_what_was_created_after_the_count_before_arrived_waits_for_the_next_one(clock: AClock) -> None:
    ceiling = a_ceiling(clock, EventLoad(count_time=NOON - timedelta(hours=1)))
    clock.advance(seconds=LATER)
    created(ceiling)
    clock.advance(seconds=LATER)
    ceiling.update(LIMITS, EventLoad(count_time=NOON - timedelta(minutes=59)))
    assert ceiling.uncounted_seconds() == LATER
    clock.advance(seconds=LATER)
    ceiling.update(LIMITS, EventLoad(count_time=NOON - timedelta(minutes=58)))
    assert ceiling.uncounted_seconds() == 0


def test_a_count_by_a_clock_that_is_behind_includes_nothing(clock: AClock) -> None:
    ceiling = a_ceiling(clock)
    created(ceiling)
    clock.advance(seconds=60)
    ceiling.update(LIMITS, EventLoad(count_time=clock.now() - timedelta(days=30)))
    assert ceiling.uncounted_seconds() == 60
    ceiling.update(LIMITS, a_count(clock))
    assert ceiling.uncounted_seconds() == 0


@pytest.mark.parametrize("days", [30, -30])
def test_what_was_created_before_the_clock_was_corrected_is_counted_once(clock: AClock, days: int) -> None:
    ceiling = a_ceiling(clock)
    created(ceiling)
    clock.set_back(days=days)
    assert ceiling.uncounted_seconds() == 0
    clock.advance(seconds=LATER)
    assert ceiling.uncounted_seconds() == LATER
    ceiling.update(LIMITS, a_count(clock, unfinished=1))
    assert ceiling.uncounted_seconds() == 0
    assert room(ceiling) == 4


@pytest.mark.parametrize(
    "when", [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)], ids=["first", "last"]
)
def test_a_count_at_the_limits_of_time_is_read(clock: AClock, when: datetime) -> None:
    assert room(a_ceiling(clock, EventLoad(count_time=when))) == 5


def test_room_that_was_not_used_is_returned_once(clock: AClock) -> None:
    ceiling = a_ceiling(clock)
    reserved = created(ceiling)
    for _ in range(3):
        ceiling.release(reserved)
    assert room(ceiling) == 5


def test_a_part_of_the_room_of_a_second_is_returned(clock: AClock) -> None:
    ceiling = a_ceiling(clock)
    reserved = created(ceiling)
    created(ceiling)
    clock.advance(seconds=1)
    created(ceiling)
    ceiling.release(reserved)
    assert ceiling.uncounted_seconds() == 1
    assert room(ceiling) == 3


def test_room_that_was_returned_takes_no_memory(clock: AClock) -> None:
    ceiling = a_ceiling(clock)
    for _ in range(1000):
        ceiling.release(created(ceiling))
        clock.advance(seconds=1)
    assert ceiling.remembered == 0


def test_a_release_after_a_newer_count_returns_nothing(clock: AClock) -> None:
    ceiling = a_ceiling(clock)
    reserved = created(ceiling)
    clock.advance(seconds=LATER)
    ceiling.update(LIMITS, a_count(clock, unfinished=1))
    ceiling.release(reserved)
    assert room(ceiling) == 4


def test_the_age_of_the_oldest_event_that_no_count_includes(clock: AClock) -> None:
    ceiling = a_ceiling(clock)
    assert ceiling.uncounted_seconds() == 0
    created(ceiling)
    clock.advance(seconds=LATER)
    reserved = created(ceiling)
    assert ceiling.uncounted_seconds() == LATER
    ceiling.update(LIMITS, a_count(clock, unfinished=1))
    clock.advance(seconds=7)
    assert ceiling.uncounted_seconds() == 7
    ceiling.release(reserved)
    assert ceiling.uncounted_seconds() == 0


def test_a_raised_limit_counts_at_once(clock: AClock) -> None:
    ceiling = a_ceiling(clock)
    assert room(ceiling) == 5
    ceiling.update(OrganizationLimits(unfinished_events=7), None)
    assert room(ceiling) == 2

"""The ceiling of an organization's events, from the controller's count and the receiver's own creations."""

from datetime import timedelta

from counterfoil.resources.organization import EventLoad, OrganizationLimits
from counterfoil.untrusted.event_ceiling import CLOCK_DIFFERENCE, EventCeiling
from tests.support.scenes.receiver_parts import NOON

LIMITS = OrganizationLimits(unfinished_events=5, unknown_envelopes=3)
LATER = NOON + CLOCK_DIFFERENCE + timedelta(seconds=1)


def a_ceiling(load: EventLoad | None = None) -> EventCeiling:
    ceiling = EventCeiling()
    ceiling.update(LIMITS, load)
    return ceiling


def room(ceiling: EventCeiling) -> int:
    """Reserve until there is no room; return how many."""
    return sum(ceiling.reserve(NOON) for _ in range(20))


def test_without_a_count_the_receiver_counts_its_own_creations() -> None:
    assert room(a_ceiling()) == 5


def test_the_unfinished_events_of_the_count_leave_less_room() -> None:
    assert room(a_ceiling(EventLoad(count_time=NOON, unfinished_events=3))) == 2
    assert room(a_ceiling(EventLoad(count_time=NOON, unfinished_events=7))) == 0


def test_unknown_envelopes_have_a_ceiling_of_their_own() -> None:
    assert room(a_ceiling(EventLoad(count_time=NOON, unknown_envelopes=2))) == 5
    assert room(a_ceiling(EventLoad(count_time=NOON, unknown_envelopes=3))) == 0


def test_a_newer_count_replaces_the_creations_before_it_and_only_those() -> None:
    ceiling = a_ceiling()
    for _ in range(3):
        assert ceiling.reserve(NOON)
    assert ceiling.reserve(LATER)
    ceiling.update(LIMITS, EventLoad(count_time=LATER, unfinished_events=0))
    assert room(ceiling) == 4


def test_creations_about_as_old_as_the_count_are_added_since_clocks_differ() -> None:
    ceiling = a_ceiling()
    assert ceiling.reserve(NOON)
    ceiling.update(LIMITS, EventLoad(count_time=NOON + CLOCK_DIFFERENCE))
    assert room(ceiling) == 4


def test_room_that_was_not_used_is_returned_once() -> None:
    ceiling = a_ceiling()
    assert ceiling.reserve(NOON)
    for _ in range(3):
        ceiling.release(NOON)
    assert room(ceiling) == 5


def test_room_that_was_returned_takes_no_memory() -> None:
    ceiling = a_ceiling()
    for second in range(1000):
        at = NOON + timedelta(seconds=second)
        assert ceiling.reserve(at)
        ceiling.release(at)
    assert ceiling.remembered == 0


def test_a_release_after_a_newer_count_returns_nothing() -> None:
    ceiling = a_ceiling()
    assert ceiling.reserve(NOON)
    ceiling.update(LIMITS, EventLoad(count_time=LATER, unfinished_events=1))
    ceiling.release(NOON)
    assert room(ceiling) == 4


def test_the_age_of_the_oldest_event_that_no_count_includes() -> None:
    ceiling = a_ceiling()
    assert ceiling.uncounted_seconds(LATER) == 0
    assert ceiling.reserve(NOON)
    assert ceiling.reserve(LATER)
    assert ceiling.uncounted_seconds(LATER) == (LATER - NOON).total_seconds()
    ceiling.update(LIMITS, EventLoad(count_time=LATER, unfinished_events=1))
    assert ceiling.uncounted_seconds(LATER + timedelta(seconds=7)) == 7
    ceiling.release(LATER)
    assert ceiling.uncounted_seconds(LATER + timedelta(hours=1)) == 0


def test_a_clock_that_was_set_back_makes_no_negative_age() -> None:
    ceiling = a_ceiling()
    assert ceiling.reserve(NOON)
    assert ceiling.uncounted_seconds(NOON - timedelta(seconds=3)) == 0


def test_a_raised_limit_counts_at_once() -> None:
    ceiling = a_ceiling()
    assert room(ceiling) == 5
    ceiling.update(OrganizationLimits(unfinished_events=7), None)
    assert room(ceiling) == 2

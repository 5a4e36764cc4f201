"""Conditions tell what is so, and since when; nothing moves while nothing changes."""

from datetime import UTC, datetime

from counterfoil.resources import Condition, find_condition, is_condition_true, with_condition
from counterfoil.resources.conditions import ConditionStatus

NOON = datetime(2026, 7, 2, 12, tzinfo=UTC)
ONE = datetime(2026, 7, 2, 13, tzinfo=UTC)


def having(
    conditions: tuple[Condition, ...] = (),
    type_: str = "Ready",
    status: ConditionStatus = "False",
    *,
    message: str = "eSAW could not be reached.",
    now: datetime = NOON,
) -> tuple[Condition, ...]:
    return with_condition(
        conditions, type_, status, reason="EsawUnreachable", message=message, now=now, generation=3
    )


def test_a_new_condition_comes_last_and_is_of_now() -> None:
    conditions = having(having(), "Reachable")
    assert [each.type for each in conditions] == ["Ready", "Reachable"]
    assert conditions[1].last_transition_time == NOON
    assert conditions[1].observed_generation == 3


def test_an_equal_retry_leaves_the_conditions_as_they_were() -> None:
    assert having(having(), now=ONE) == having()


def test_a_new_message_does_not_move_the_time() -> None:
    (changed,) = having(having(), message="eSAW is in maintenance.", now=ONE)
    assert (changed.message, changed.last_transition_time) == ("eSAW is in maintenance.", NOON)


def test_a_new_status_moves_the_time() -> None:
    (changed,) = having(having(), status="True", now=ONE)
    assert changed.last_transition_time == ONE


def test_a_time_that_can_not_be_right_is_replaced() -> None:
    (ahead,) = having(now=ONE)
    (corrected,) = having((ahead,), now=NOON)
    assert corrected.last_transition_time == NOON


def test_a_condition_keeps_its_place_and_leaves_the_others_alone() -> None:
    before = having(having(), "Reachable")
    after = having(before, "Ready", "True", now=ONE)
    assert [each.type for each in after] == ["Ready", "Reachable"]
    assert after[1] is before[1]


def test_a_condition_is_true_only_if_its_status_is_true() -> None:
    assert is_condition_true(having(status="True"), "Ready")
    assert not is_condition_true(having(status="False"), "Ready")
    assert not is_condition_true(having(status="Unknown"), "Ready")
    assert not is_condition_true((), "Ready")


def test_a_condition_that_was_never_set_is_none() -> None:
    assert find_condition(having(), "Archived") is None

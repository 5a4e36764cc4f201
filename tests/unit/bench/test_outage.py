"""Parts of bench (h): the state of events in an outage, their order, and how many run at the same time."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from counterfoil.resources import EnvelopeEvent, Phase
from sandbox.esaw import RecordedRequest
from verification.bench.outage import (
    RETRY,
    OutageResult,
    RecoveryRound,
    inversions,
    most_at_once,
    report,
    runs_by_envelope,
    waiting_events,
)

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("order", "part"),
    [([], 0.0), ([7], 0.0), ([1, 2, 3, 4], 0.0), ([4, 3, 2, 1], 1.0), ([2, 1, 3, 4], 1 / 6)],
)
def test_inversions_are_the_part_of_all_pairs_in_the_wrong_order(order: list[int], part: float) -> None:
    assert inversions(order) == pytest.approx(part)


@pytest.mark.parametrize(
    ("runs", "most"),
    [([], 0), ([(1, 2), (3, 4)], 1), ([(1, 4), (2, 3)], 2), ([(1, 3), (2, 6), (4, 7), (5, 8)], 3)],
)
def test_runs_that_overlap_are_counted(runs: list[tuple[int, int]], most: int) -> None:
    assert most_at_once(runs) == most


def test_a_run_lasts_from_the_first_request_about_an_envelope_to_the_end_of_the_last() -> None:
    requests = [a_request(1, "first", 2), a_request(3, "second", 6), a_request(4, "first", 5)]
    assert runs_by_envelope([*requests, a_request(7, None, 8)], {"first", "second"}) == {
        "first": (1, 5),
        "second": (3, 6),
    }


@pytest.mark.parametrize(("inversions", "word"), [(0.006, "met"), (0.007, "MISSED")])
def test_the_order_is_judged_by_the_number_of_events_at_once(inversions: float, word: str) -> None:
    recovery = RecoveryRound(noticed=1.0, done=9.0, inversions=inversions, ordered=5000, at_once=32)
    assert f"run at the same time reach eSAW in any order): {word}" in report(OutageResult([], recovery), 32)


def a_request(number: int, envelope: str | None, done: int) -> RecordedRequest:
    return RecordedRequest(
        number=number,
        time=NOW,
        method="GET",
        path="/",
        operation="envelope",
        id=envelope,
        user_id=None,
        token_sha256=None,
        token_in_url=False,
        done=done,
    )


def events(age: timedelta) -> list[EnvelopeEvent]:
    ids = [str(uuid.UUID(int=number, version=4)) for number in range(50)]
    return [EnvelopeEvent.parse(each) for each in waiting_events(ids, "bench", now=NOW, age=age)]


def test_at_the_beginning_of_an_outage_no_event_was_tried() -> None:
    assert {each.status.phase for each in events(timedelta())} == {Phase.PENDING}


def test_later_each_event_waits_for_its_next_attempt_within_the_maximum_pause() -> None:
    waiting = events(timedelta(hours=1))
    for each in waiting:
        assert each.status.phase is Phase.ARCHIVING
        assert each.status.next_attempt_time is not None
        assert timedelta(seconds=-1) <= each.status.next_attempt_time - NOW <= RETRY.max
    assert min(each.status.attempts for each in waiting) > 5


def test_each_event_is_younger_than_the_one_before() -> None:
    created = [each.metadata.creation_timestamp for each in events(timedelta(hours=1))]
    assert None not in created
    assert created == sorted(set(created), key=created.index)
    assert created[0] != created[-1]

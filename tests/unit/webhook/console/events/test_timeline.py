"""The timeline of an event: in the order of the phases, and each text once."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from counterfoil.readiness import with_readiness
from counterfoil.resources import (
    Attempt,
    AttemptOutcome,
    Condition,
    LastError,
    LastRequest,
    Phase,
    RequestOutcome,
)
from tests.support.builders import NOON, an_event
from webhook.console.events.timeline import TimelineEntry, timeline_entries


def a_condition(type_: str, truth: Any = "True", reason: str = "Done", message: str = "") -> Condition:
    return Condition(type=type_, status=truth, reason=reason, message=message, last_transition_time=NOON)


def an_attempt(phase: Phase, outcome: AttemptOutcome, reason: str = "Done", **ago: float) -> Attempt:
    return Attempt(
        phase=phase, start_time=NOON - timedelta(**ago), duration_seconds=1, outcome=outcome, reason=reason
    )


def texts(entries: tuple[TimelineEntry, ...]) -> list[str]:
    return [each.text for each in entries if each.text]


def test_the_timeline_has_no_condition_that_only_tools_read() -> None:
    pending = Condition(
        type="Archived",
        status="Unknown",
        reason="Pending",
        message="Nobody has looked at it.",
        last_transition_time=datetime(1970, 1, 1, tzinfo=UTC),
    )
    stalled = with_readiness((), "False", "ArchiveFull", "No room.", now=NOON, generation=1)
    for conditions in ((pending,), stalled):
        event = an_event().status(conditions=conditions).build()
        assert [each.kind for each in timeline_entries(event, now=NOON)] == ["noted"]


def test_all_of_one_second_is_in_the_order_of_the_phases() -> None:
    types = ("Cleaned", "Archived", "Validated", "Collected")
    event = (
        an_event()
        .created(NOON)
        .status(
            phase=Phase.SUCCEEDED,
            conditions=tuple(map(a_condition, types)),
            start_time=NOON,
            completion_time=NOON,
        )
        .build()
    )
    told = {"eventTime": (NOON + timedelta(microseconds=1)).isoformat(), "reason": "Mailed", "note": "Sent."}

    found = timeline_entries(event, (told,), now=NOON)

    assert [each.name or each.kind for each in found] == [
        "Callback",
        "started",
        "Validated",
        "Collected",
        "Archived",
        "Cleaned",
        "told",
        "completed",
    ]


def test_an_attempt_and_the_condition_that_it_set_are_one_entry() -> None:
    archived = a_condition("Archived", reason="FilesVerified", message="Every file was read back.")
    event = (
        an_event()
        .status(
            conditions=(archived, a_condition("Validated", reason="NothingChecked", message="Not checked.")),
            attempt_history=(
                an_attempt(Phase.ARCHIVING, AttemptOutcome.WAIT, "ArchiveFull", minutes=5),
                an_attempt(Phase.ARCHIVING, AttemptOutcome.DONE, "FilesVerified"),
            ),
        )
        .build()
    )

    found = [each for each in timeline_entries(event, now=NOON) if each.kind != "noted"]

    assert [(each.kind, each.truth, each.text) for each in found] == [
        ("attempt", "Wait", ""),
        ("condition", "True", "Not checked."),
        ("attempt", "Done", "Every file was read back."),
    ]


def test_the_message_of_the_last_failed_attempt_is_at_this_attempt() -> None:
    error = LastError(reason="ArchiveFull", message="No room.", time=NOON)
    history = tuple(
        an_attempt(Phase.ARCHIVING, AttemptOutcome.WAIT, "ArchiveFull", minutes=ago) for ago in (20, 10)
    )
    event = an_event().status(attempt_history=history, last_error=error).build()

    found = timeline_entries(event, now=NOON)

    assert [(each.kind, each.text) for each in found if each.kind != "noted"] == [
        ("attempt", ""),
        ("attempt", "No room."),
    ]
    without = an_event().status(last_error=error).build()
    assert [each.kind for each in timeline_entries(without, now=NOON)][-1] == "problem"


def test_no_text_is_there_twice_and_none_that_the_page_shows_already() -> None:
    error = LastError(reason="ArchiveFull", message="No room.", time=NOON)
    event = (
        an_event()
        .status(
            last_error=error,
            conditions=(
                a_condition("Archived", "False", "ArchiveFull", "No room."),
                a_condition("Collected", "True", "Listed", "Two files."),
                a_condition("Validated", "True", "Listed", "Two files."),
            ),
        )
        .build()
    )
    told = {"eventTime": NOON.isoformat(), "reason": "Waiting", "note": "No room."}

    found = timeline_entries(event, (told,), now=NOON)

    assert sorted(texts(found)) == ["No room.", "Two files."]
    assert "told" not in [each.kind for each in found]
    assert texts(timeline_entries(event, (told,), now=NOON, shown={"No room."})) == ["Two files."]


def test_the_reason_that_a_person_gives_is_not_left_out() -> None:
    last = LastRequest(
        request="retry", reason="No room.", outcome=RequestOutcome.DONE, handled_time=NOON, by="jane"
    )
    event = an_event().status(last_request=last).build()

    assert texts(timeline_entries(event, now=NOON, shown={"No room."})) == ["No room."]


@pytest.mark.parametrize(("seconds", "is_shown"), [(-5, False), (0, False), (5, True)])
def test_a_next_attempt_is_in_the_future(seconds: int, is_shown: bool) -> None:
    planned = NOON + timedelta(seconds=seconds)
    event = an_event().status(phase=Phase.ARCHIVING, next_attempt_time=planned).build()

    assert ("next" in [each.kind for each in timeline_entries(event, now=NOON)]) is is_shown

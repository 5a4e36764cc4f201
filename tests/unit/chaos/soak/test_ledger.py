"""The result of each event, also after its removal."""

from typing import Any

from verification.chaos.soak.ledger import Ledger


def event(envelope: str, phase: str = "Succeeded", reason: str = "Archived") -> dict[str, Any]:
    return {
        "metadata": {"name": f"{envelope}-1"},
        "spec": {"envelopeID": envelope},
        "status": {"phase": phase, "reason": reason},
    }


def test_an_event_that_is_in_the_list_no_more_is_counted_by_the_state_in_which_it_was_seen_last() -> None:
    ledger = Ledger()
    assert ledger.update([event("a", "Archiving", "Waits"), event("b")]) == []
    assert ledger.update([event("a", "Failed", "Full"), event("b")]) == []
    assert ledger.update([event("b")]) == [event("a", "Failed", "Full")]
    assert ledger.outcomes == {"Failed Full": 1}
    assert ledger.close_all() == [event("b")]
    assert ledger.outcomes == {"Failed Full": 1, "Succeeded Archived": 1}
    assert ledger.removed == 1
    assert ledger.violations == []


def test_an_event_that_is_made_again_after_its_removal_is_a_violation_once() -> None:
    ledger = Ledger()
    for listed in ([event("a")], [], [event("a", "Pending")], [event("a")]):
        ledger.update(listed)
    assert ledger.violations == ["event a-1: it was made again after its removal"]


def test_an_event_that_was_counted_at_the_end_is_counted_once() -> None:
    ledger = Ledger()
    ledger.update([event("a")])
    ledger.close_all()
    assert ledger.close_all() == []
    assert ledger.outcomes == {"Succeeded Archived": 1}


def test_an_envelope_is_unfinished_without_an_event_and_with_one_that_has_not_ended() -> None:
    ledger = Ledger()
    ledger.update([event("a", "AwaitingConsent", "Key"), event("b"), event("c"), event("foreign", "Pending")])
    ledger.update([event("a", "AwaitingConsent", "Key"), event("b"), event("foreign", "Pending")])
    assert ledger.unfinished(["a", "b", "c", "d"]) == [
        "a: AwaitingConsent Key",
        "d: no event",
        "foreign: Pending Archived",
    ]


def test_an_event_without_a_status_is_pending() -> None:
    ledger = Ledger()
    ledger.update([{"metadata": {"name": "a-1"}, "spec": {"envelopeID": "a"}}])
    assert ledger.unfinished([]) == ["a: Pending"]

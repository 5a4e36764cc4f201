"""Filters: what a person fills in becomes selectors of the API server, and nothing else does."""

from datetime import timedelta

import pytest

from tests.support.builders import ENVELOPE, NOON
from webhook.console.events.filters import EventFilter, read


def test_phase_organization_and_envelope_are_chosen_by_fields() -> None:
    found = read({"phase": "Failed", "organization": "acme", "text": ENVELOPE.upper()})

    assert found.fields == f"status.phase=Failed,spec.organizationRef.name=acme,spec.envelopeID={ENVELOPE}"
    assert found.labels == ""


def test_sender_and_action_are_chosen_by_labels() -> None:
    found = read({"sender": "anna", "action": "envelopeFinished"})

    assert found.labels == "counterfoil.dev/sender=anna,counterfoil.dev/action=envelopeFinished"


def test_an_action_is_chosen_by_as_many_letters_as_a_label_has() -> None:
    assert read({"action": "a" * 64}).labels == f"counterfoil.dev/action={'a' * 63}"


def test_unfinished_is_all_that_is_not_final() -> None:
    assert (
        read({"phase": "unfinished"}).fields
        == "status.phase!=Failed,status.phase!=Skipped,status.phase!=Succeeded"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("phase", "Failed,spec.organizationRef.name=other"),
        ("organization", "acme,status.phase=Failed"),
        ("organization", "a=b"),
        ("sender", "anna,x=y"),
        ("sender", "../secrets"),
        ("action", "a b"),
        ("age", "1y"),
        ("text", "0f9c1c2e"),
        ("text", "<script>"),
    ],
)
def test_nothing_else_can_be_slipped_into_a_selector(name: str, value: str) -> None:
    found = read({name: value})

    assert found.faults == (name,)
    assert (found.fields, found.labels) == ("", "")


def test_the_name_of_an_event_leads_to_it() -> None:
    name = f"{ENVELOPE}-0123456789abcdef"

    assert read({"text": name}).event == name


def test_a_link_to_the_next_page_keeps_what_was_chosen() -> None:
    found = EventFilter(phase="Failed", sender="anna")

    assert found.query(token="a&b") == "phase=Failed&sender=anna&token=a%26b"


def test_an_age_is_looked_at_in_each_event() -> None:
    recent = {"metadata": {"creationTimestamp": (NOON - timedelta(minutes=30)).isoformat()}}
    old = {"metadata": {"creationTimestamp": (NOON - timedelta(hours=2)).isoformat()}}

    assert read({"age": "1h"}).is_young_enough(recent, NOON)
    assert not read({"age": "1h"}).is_young_enough(old, NOON)
    assert read({}).is_young_enough(old, NOON)

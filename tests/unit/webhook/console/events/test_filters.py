"""Filters: what a person fills in becomes selectors of the API server, and nothing else does."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from counterfoil.resources import (
    SENDER_LABEL,
    ArchiveLocation,
    EnvelopeSummary,
    LastError,
    LocalObjectReference,
    Phase,
)
from tests.support.builders import ENVELOPE, NOON, EventBuilder
from webhook.console.events.filters import EventFilter, EventOrder, read, sorted_events


def test_phase_organization_and_envelope_are_chosen_by_fields() -> None:
    found = read({"phase": "Failed", "organization": "acme", "text": ENVELOPE.upper()})

    assert found.fields == f"status.phase=Failed,spec.organizationRef.name=acme,spec.envelopeID={ENVELOPE}"
    assert found.labels() == ""


def test_sender_and_action_are_chosen_by_labels() -> None:
    found = read({"sender": "anna", "action": "envelopeFinished"})

    assert found.labels() == "counterfoil.dev/sender=anna,counterfoil.dev/action=envelopeFinished"


def test_the_events_of_an_import_are_chosen_by_its_label() -> None:
    found = read({"imported": "old-stock", "phase": "Failed"})

    assert (found.labels(), found.fields) == ("counterfoil.dev/import=old-stock", "status.phase=Failed")
    assert found.query() == "phase=Failed&imported=old-stock"
    assert found.is_narrowed


def test_an_action_is_chosen_by_as_many_letters_as_a_label_has() -> None:
    assert read({"action": "a" * 64}).labels() == f"counterfoil.dev/action={'a' * 63}"


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
        ("imported", "old-stock,x=y"),
        ("imported", "a" * 64),
        ("age", "1y"),
        ("reason", "NameOccupied,metadata.name=x"),
        ("reason", "nameOccupied"),
        ("since", "yesterday"),
        ("since", "2026-02-30"),
        ("until", "9999-12-31"),
        ("until", "2026-07-01T8:30"),
        ("since", "\u0662026-07-01"),
        ("sort", "phase"),
        ("text", "ab"),
        ("text", "a" * 201),
    ],
)
def test_nothing_else_can_be_slipped_into_a_selector(name: str, value: str) -> None:
    found = read({name: value})

    assert found.refused == {name: value[:200]}
    assert (found.fields, found.labels(), found.is_compared) == ("", "", False)
    assert found.shown(name) == value[:200]


def test_the_name_of_an_event_leads_to_it() -> None:
    name = f"{ENVELOPE}-0123456789abcdef"

    assert read({"text": name}).event == name


def test_a_link_to_the_next_page_keeps_what_was_chosen() -> None:
    found = EventFilter(phase="Failed", sender="anna")

    assert found.query(token="a&b") == "phase=Failed&sender=anna&token=a%26b"


def raw_event(**status: Any) -> dict[str, Any]:
    builder = EventBuilder().named(f"{ENVELOPE}-0123456789abcdef").labelled(SENDER_LABEL, "anna")
    return builder.with_parameters(orderNo="47/11").status(**status).build().to_dict()


def created(when: datetime) -> dict[str, Any]:
    return {**raw_event(), "metadata": {"creationTimestamp": when.isoformat()}}


def test_an_age_is_looked_at_in_each_event() -> None:
    recent, old = created(NOON - timedelta(minutes=30)), created(NOON - timedelta(hours=2))

    assert read({"age": "1h"}).matches(recent, NOON)
    assert not read({"age": "1h"}).matches(old, NOON)
    assert read({}).matches(old, NOON)


@pytest.mark.parametrize(
    ("query", "is_found"),
    [
        ({"since": "2026-07-01"}, True),
        ({"since": "2026-07-02"}, False),
        ({"until": "2026-07-01"}, True),
        ({"until": "2026-06-30"}, False),
        ({"since": "2026-07-01T12:00", "until": "2026-07-01T12:00"}, True),
        ({"since": "2026-07-01T12:01"}, False),
        ({"until": "2026-07-01T11:59"}, False),
    ],
)
def test_a_range_of_time_has_both_ends_in_it(query: dict[str, str], is_found: bool) -> None:
    assert read(query).matches(created(NOON + timedelta(seconds=30)), NOON) is is_found


def test_a_range_that_ends_before_it_begins_is_refused_at_its_end() -> None:
    found = read({"since": "2026-07-02", "until": "2026-07-01"})

    assert found.refused == {"until": "2026-07-01"}
    assert found.since == "2026-07-02"


def test_a_reason_is_that_of_the_last_attempt_after_the_deadline() -> None:
    late = raw_event(
        phase=Phase.FAILED,
        reason="DeadlineExceeded",
        last_error=LastError(reason="ArchiveFull", message="No room.", time=NOON),
    )

    assert read({"reason": "ArchiveFull"}).matches(late, NOON)
    assert not read({"reason": "DeadlineExceeded"}).matches(late, NOON)
    assert not read({"reason": "ArchiveFull"}).matches(raw_event(), NOON)


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ("rental", True),
        ("CONTRACT k", True),
        (ENVELOPE[:8], True),
        ("47/11", True),
        ("Müller & Söhne", True),
        ("nr-2026/0815", True),
        ("lease", False),
        ("Kofler", True),
    ],
)
def test_words_are_looked_for_in_name_id_parameters_path_tags_and_person(text: str, is_found: bool) -> None:
    manifest = "file:///srv/M%C3%BCller%20%26%20S%C3%B6hne/counterfoil.json"
    event = raw_event(
        envelope=EnvelopeSummary(name="Rental Contract Kofler & Co"),
        archive=ArchiveLocation(
            ref=LocalObjectReference(name="dms"), manifest=manifest, tags={"contractNo": "NR-2026/0815"}
        ),
    )

    assert read({"text": text}).matches(event, NOON, frozenset()) is is_found


def test_words_find_an_event_by_its_sender() -> None:
    assert read({"text": "Anna K"}).matches(raw_event(), NOON, frozenset({"anna"}))
    assert not read({"text": "Anna K"}).matches(raw_event(), NOON, frozenset({"ben"}))


def test_an_address_is_chosen_by_the_labels_of_its_senders_and_is_in_no_selector() -> None:
    found = read({"text": "anna@example.com,x=y"})

    assert found.labels(frozenset({"anna-1", "anna"})) == "counterfoil.dev/sender in (anna,anna-1)"
    assert (found.fields, found.is_compared) == ("", False)


@pytest.mark.parametrize(("order", "names"), [("newest", "cba"), ("oldest", "abc"), ("next", "bac")])
def test_events_are_sorted_by_age_or_by_what_comes_next(order: str, names: str) -> None:
    planned = {"a": 20, "b": 10, "c": None}
    events = tuple(
        EventBuilder()
        .named(name)
        .created(NOON + timedelta(minutes=number))
        .status(phase=Phase.ARCHIVING, next_attempt_time=None if at is None else NOON + timedelta(minutes=at))
        .build()
        for number, (name, at) in enumerate(planned.items())
    )

    assert "".join(each.name for each in sorted_events(events, EventOrder(order))) == names

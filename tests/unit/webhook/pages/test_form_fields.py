"""Tagging: what a person fills in is tidied and checked; the administrator's own slips harm nobody."""

import pytest

from counterfoil.resources.organization import BeforeSendField
from webhook.pages import form_fields
from webhook.pages.form_fields import FieldFault

COST = BeforeSendField(name="costCenter", label="Cost centre", required=True, pattern="[0-9]{4}")
KIND = BeforeSendField(name="kind", options=("Lease", "Sale"))
NOTE = BeforeSendField(name="note")


def fault_of(asked: BeforeSendField, value: str) -> FieldFault | None:
    (field,) = form_fields.filled_fields([asked], {f"tag.{asked.name}": value}, limit=20)
    return field.fault


@pytest.mark.parametrize(
    ("asked", "value", "fault"),
    [
        (COST, "4711", None),
        (COST, " 4711\t", None),
        (COST, "", FieldFault.MISSING),
        (COST, "   ", FieldFault.MISSING),
        (COST, "47111", FieldFault.PATTERN),
        (COST, "4711\n4711", FieldFault.PATTERN),
        (KIND, "Lease", None),
        (KIND, "", None),
        (KIND, "lease", FieldFault.OPTION),
        (KIND, "<script>", FieldFault.OPTION),
        (NOTE, "anything", None),
        (NOTE, "x" * 21, FieldFault.LENGTH),
    ],
)
def test_each_value_is_held_against_what_is_asked(
    asked: BeforeSendField, value: str, fault: FieldFault | None
) -> None:
    assert fault_of(asked, value) is fault


def test_a_field_that_was_not_sent_counts_as_empty() -> None:
    (field,) = form_fields.filled_fields([COST], {}, limit=20)
    assert field.fault is FieldFault.MISSING


def test_a_field_that_the_form_did_not_have_keeps_its_value() -> None:
    fields = form_fields.filled_fields([KIND, NOTE], {"tag.kind": ""}, limit=20)
    assert form_fields.values_of(fields) == {"kind": ""}


def test_a_field_that_the_form_did_not_have_is_shown_with_its_value_in_the_draft() -> None:
    fields = form_fields.filled_fields([COST, KIND, NOTE], {"tag.kind": "Sale"}, limit=20)
    shown = form_fields.with_known_values(fields, {"costCenter": "4711", "kind": "Lease", "note": "mine"})
    assert [each.value for each in shown] == ["4711", "Sale", "mine"]


def test_only_fields_that_are_asked_for_are_taken() -> None:
    fields = form_fields.filled_fields([KIND], {"tag.kind": "Sale", "tag.admin": "1", "form": "x"}, limit=20)
    assert form_fields.values_of(fields) == {"kind": "Sale"}


def test_control_characters_and_line_breaks_become_single_spaces() -> None:
    assert form_fields.normalize(" a\r\n\x00b\u2028c \x7f") == "a b c"


def test_an_invalid_pattern_refuses_nobody() -> None:
    assert fault_of(BeforeSendField(name="odd", pattern="("), "Ä") is None


def test_a_fresh_form_shows_the_known_values() -> None:
    fields = form_fields.empty_fields([COST, KIND], {"kind": "Sale"})
    assert [(each.label, each.value, each.fault) for each in fields] == [
        ("Cost centre", "", None),
        ("kind", "Sale", None),
    ]

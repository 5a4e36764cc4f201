"""
Tagging: the form's fields as the Organization asks for them, and what a person filled in, checked. Pure.

A pattern is the administrator's and counts for the whole value, as in HTML. An invalid one refuses no value;
the controller tells it in the Organization's status.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from counterfoil.resources.organization import BeforeSendField
from counterfoil.untrusted.patterns import FORM_PATTERNS

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")

PREFIX = "tag."
"""Prefix of a field's name in the form; it separates these fields from our own."""


class FieldFault(StrEnum):
    """Fault of a value; also the name of the words that describe it."""

    MISSING = "missing"
    PATTERN = "pattern"
    OPTION = "option"
    LENGTH = "length"


@dataclass(frozen=True)
class FormField:
    """One field with its value."""

    name: str
    label: str
    required: bool
    pattern: str | None
    options: tuple[str, ...]
    value: str = ""
    fault: FieldFault | None = None
    is_absent: bool = False
    """Whether the person's form did not have this field, since the Organization asks for it only now."""

    @property
    def input_name(self) -> str:
        """Its name in the form."""
        return f"{PREFIX}{self.name}"


def empty_fields(requested: Sequence[BeforeSendField], values: Mapping[str, str]) -> tuple[FormField, ...]:
    """Return the fields of a fresh form, with the values that are known already."""
    return tuple(_field(each, values.get(each.name, "")) for each in requested)


def filled_fields(
    requested: Sequence[BeforeSendField], form: Mapping[str, str], *, limit: int
) -> tuple[FormField, ...]:
    """Return the fields as a person filled them in, each with its fault if it has one."""
    fields = []
    for each in requested:
        name = f"{PREFIX}{each.name}"
        value = normalize(form.get(name, ""))
        fields.append(_field(each, value, _fault(each, value, limit), is_absent=name not in form))
    return tuple(fields)


def with_known_values(fields: Sequence[FormField], values: Mapping[str, str]) -> tuple[FormField, ...]:
    """Return the fields to show again; one that the form did not have gets its value in the draft."""
    return tuple(
        replace(each, value=values.get(each.name, "")) if each.is_absent else each for each in fields
    )


def values_of(fields: Sequence[FormField]) -> dict[str, str]:
    """Return the values for the metadata. An emptied field must not keep its old value; a field that the form
    did not have keeps it."""
    return {each.name: each.value for each in fields if not each.is_absent}


def normalize(value: str) -> str:
    """Trim a value, and turn control characters and line breaks into single spaces."""
    return _CONTROL.sub(" ", value).strip()


def _field(
    requested: BeforeSendField, value: str, fault: FieldFault | None = None, *, is_absent: bool = False
) -> FormField:
    return FormField(
        name=requested.name,
        label=requested.label or requested.name,
        required=requested.required,
        pattern=requested.pattern,
        options=requested.options,
        value=value,
        fault=fault,
        is_absent=is_absent,
    )


def _fault(requested: BeforeSendField, value: str, limit: int) -> FieldFault | None:
    if not value:
        return FieldFault.MISSING if requested.required else None
    if len(value) > limit:
        return FieldFault.LENGTH
    if requested.options and value not in requested.options:
        return FieldFault.OPTION
    if requested.pattern is not None and not FORM_PATTERNS.matches(requested.pattern, value):
        return FieldFault.PATTERN
    return None

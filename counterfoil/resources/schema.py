"""
Descriptions and bounds of fields, declared beside the field and written into the CustomResourceDefinition.

A field's annotation is ``Annotated[str, schema("Name of the bucket; it must exist.", maxLength=63)]``. The
API server checks these bounds; nothing checks them again on reading. ``docs/generate_archive_crd.py`` writes
the CRD from them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ValidationRule:
    """One validation rule of the API server (CEL), and what it says to a person whose object breaks it."""

    rule: str
    message: str


@dataclass(frozen=True)
class FieldSchema:
    """Description and bounds of a field in the CRD; type and default come from Python."""

    description: str
    rules: tuple[ValidationRule, ...]
    is_required: bool
    """True also requires a field that has a default in Python, for objects that were stored without the
    field."""
    keywords: Mapping[str, Any]
    """Keywords of OpenAPI v3, such as ``maxLength``."""


def schema(description: str, *rules: ValidationRule, required: bool = False, **keywords: Any) -> FieldSchema:
    """Describe a field; ``keywords`` are those of OpenAPI v3, in their own spelling."""
    return FieldSchema(description, rules, required, keywords)

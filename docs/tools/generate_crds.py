"""
Writes ``crds/*.yaml`` from the types of ``counterfoil/resources``: ``python docs/tools/generate_crds.py``
(``make chart``).

Types and defaults are Python's. ``schema`` in the annotation of a field has its description, its bounds and
its rules; a struct's docstring is its description. Rules of the whole object, printer columns and field
selectors are attributes of the kind. A unit test compares the files with this program's output.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
import yaml

from counterfoil.durations import Duration
from counterfoil.resources import (
    GROUP,
    VERSION,
    Archive,
    Envelope,
    EnvelopeEvent,
    Import,
    Organization,
    Sender,
)
from counterfoil.resources.base import (
    DURATION_RULE,
    FieldSchema,
    PrinterColumn,
    Resource,
    ResourcePart,
    ValidationRule,
    schema,
    to_json_dict,
)

CRDS = Path(__file__).parents[2] / "crds"
KINDS: tuple[type[Resource], ...] = (Archive, Envelope, EnvelopeEvent, Import, Organization, Sender)
HEAD = "# Written by docs/tools/generate_crds.py from counterfoil/resources/; edit those.\n"
WIDTH = 130
LONGEST_LINE = 80
MAX_DURATION_LENGTH = 16
NOT_DECLARED = ("metadata", "unread_status")
"""Fields of a kind that its definition does not have, or that are Kubernetes' own."""

_TYPES: Mapping[Any, str] = {
    str: "string",
    Duration: "string",
    datetime: "string",
    Literal: "string",
    bool: "boolean",
    int: "integer",
    tuple: "array",
}

_EMPTY: tuple[Any, ...] = (None, 0, "", (), {})
"""Defaults that the API server stores only if the field declares them."""

Schema = dict[str, Any]


def files() -> dict[Path, str]:
    """Return every file with its content."""
    return {CRDS / f"{kind.PLURAL}.yaml": text(kind) for kind in KINDS}


def text(kind: type[Resource]) -> str:
    """Return the file of one kind."""
    return HEAD + yaml.dump(crd(kind), sort_keys=False, allow_unicode=True, width=WIDTH, Dumper=_Dumper)


def crd(kind: type[Resource]) -> Schema:
    """Return the CustomResourceDefinition of one kind. Raises ``TypeError`` for a field without a
    declaration, and for a declaration without a field."""
    selectable = [{"jsonPath": path} for path in kind.SELECTABLE_FIELDS]
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        **({"selectableFields": selectable} if selectable else {}),
        "additionalPrinterColumns": [_column(each) for each in kind.COLUMNS],
        "schema": {"openAPIV3Schema": _object(kind)},
    }
    names = {
        "kind": kind.KIND,
        "listKind": f"{kind.KIND}List",
        "plural": kind.PLURAL,
        "singular": kind.KIND.lower(),
        **({"shortNames": [*kind.SHORT_NAMES]} if kind.SHORT_NAMES else {}),
        **({"categories": [*kind.CATEGORIES]} if kind.CATEGORIES else {}),
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.PLURAL}.{GROUP}"},
        "spec": {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]},
    }


def _column(column: PrinterColumn) -> Schema:
    return {
        "name": column.name,
        "type": column.type,
        **({"priority": 1} if column.is_wide else {}),
        "jsonPath": column.json_path,
        "description": column.description,
    }


def _object(kind: type[Resource]) -> Schema:
    """Return the schema of a whole object. Kubernetes itself describes ``metadata``."""
    inner = _struct(kind, {})
    known = {
        "apiVersion": {"type": "string", "description": f"Always {kind.API_VERSION}."},
        "kind": {"type": "string", "description": f"Always {kind.KIND}."},
        "metadata": {"type": "object"},
    }
    return {
        "type": "object",
        "description": _docstring(kind),
        **inner,
        "properties": {**known, **inner["properties"]},
    }


def _struct(struct: type[ResourcePart], parts: Mapping[str, FieldSchema]) -> Schema:
    """Return rules, required fields and fields of a struct; ``parts`` are declared differently here."""
    hints = get_type_hints(struct, include_extras=True)
    fields = [each for each in msgspec.structs.fields(struct) if each.name not in NOT_DECLARED]
    declared = {each.name: parts.get(each.name) or _declared(hints[each.name]) for each in fields}
    if unknown := parts.keys() - declared.keys():
        raise TypeError(f"{struct.__name__} has no {', '.join(sorted(unknown))}")
    required = [each.encode_name for each in fields if each.required or declared[each.name].is_required]
    return {
        **({"required": required} if required else {}),
        **_validations(struct.RULES),
        "properties": {
            each.encode_name: _value(
                hints[each.name], declared[each.name], _default(each, declared[each.name])
            )
            for each in fields
        },
    }


def _value(hint: Any, declared: FieldSchema, default: Schema) -> Schema:
    """Return the schema of a value: its type, what was declared for it, and what it consists of."""
    inner = _bare(hint)
    if not declared.description and not _is_struct(inner):
        raise TypeError(f"{hint} has no schema(…) with a description in its annotation")
    keywords = {key: value for key, value in declared.keywords.items() if key != "default"}
    is_duration = inner is Duration
    return {
        **_type(inner, keywords),
        "description": declared.description or _docstring(inner),
        **default,
        **({"maxLength": MAX_DURATION_LENGTH} if is_duration else {}),
        **keywords,
        **_validations((DURATION_RULE, *declared.rules) if is_duration else declared.rules),
        **{key: value for key, value in _content(inner, declared.parts).items() if key not in keywords},
    }


def _type(inner: Any, keywords: Schema) -> Schema:
    origin = get_origin(inner) or inner
    name = "string" if _is_enumeration(inner) else _TYPES.get(origin, "object")
    if name == "integer":
        # What a person sets has a maximum; a count has none.
        return {"type": name, "format": "int32" if "maximum" in keywords else "int64"}
    return {"type": name, **({"format": "date-time"} if inner is datetime else {})}


def _content(inner: Any, parts: Mapping[str, FieldSchema]) -> Schema:
    """Return what a struct, a list, a map or an enumeration consists of."""
    origin, arguments = get_origin(inner), get_args(inner)
    if origin is tuple:
        merged = "atomic" if _is_struct(_bare(arguments[0])) else "set"
        return {"x-kubernetes-list-type": merged, "items": _element(arguments[0], parts)}
    if origin is Literal:
        return {"enum": [*arguments]}
    if origin is not None:
        return {"additionalProperties": _element(arguments[1], parts)}
    if _is_enumeration(inner):
        return {"enum": [each.value for each in inner]}
    return _struct(inner, parts) if _is_struct(inner) else {}


def _element(hint: Any, parts: Mapping[str, FieldSchema]) -> Schema:
    declared = _declared(hint)
    return _value(hint, replace(declared, parts=parts) if parts else declared, {})


def _default(field: msgspec.structs.FieldInfo, declared: FieldSchema) -> Schema:
    """Return the default that the API server stores; it stores none for what is empty."""
    if "default" in declared.keywords:
        default = declared.keywords["default"]
        return {} if default is None else {"default": default}
    if declared.is_required or field.required:
        return {}
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return {} if value in _EMPTY and value is not False else {"default": _json(value)}


def _json(value: Any) -> Any:
    """Return a default of Python as JSON."""
    if isinstance(value, StrEnum | Duration):
        return str(value)
    if isinstance(value, tuple):
        return [_json(each) for each in value]
    if not isinstance(value, ResourcePart):
        return value
    if not value.RULES:
        return to_json_dict(value)
    # The API server checks rules over several fields before it sets the defaults of the parts.
    return {each.encode_name: _json(getattr(value, each.name)) for each in msgspec.structs.fields(value)}


def _declared(hint: Any) -> FieldSchema:
    if get_origin(hint) is Annotated:
        for each in get_args(hint)[1:]:
            if isinstance(each, FieldSchema):
                return each
    return schema()


def _bare(hint: Any) -> Any:
    """Return the type without its declaration, and without None."""
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if not isinstance(hint, UnionType):
        return hint
    (inner,) = (each for each in get_args(hint) if each is not NoneType)
    return inner


def _is_struct(inner: Any) -> bool:
    return isinstance(inner, type) and issubclass(inner, ResourcePart)


def _is_enumeration(inner: Any) -> bool:
    return isinstance(inner, type) and issubclass(inner, StrEnum)


def _validations(rules: tuple[ValidationRule, ...]) -> Schema:
    return {"x-kubernetes-validations": [_rule(each) for each in rules]} if rules else {}


def _rule(rule: ValidationRule) -> Schema:
    places = {"fieldPath": rule.field_path, "reason": rule.reason}
    found = {key: value for key, value in places.items() if value}
    return {"rule": rule.rule, "message": rule.message, **found}


def _docstring(struct: type) -> str:
    return " ".join((struct.__doc__ or "").split())


class _Dumper(yaml.SafeDumper):
    """Writes equal parts in full and long texts in folded lines, since users of ``kubectl`` read the file."""

    def ignore_aliases(self, data: Any) -> bool:
        """Tell that no part is written as an alias."""
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Indent the elements of a list."""
        super().increase_indent(flow, False)


def _folded(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = ">" if len(text) > LONGEST_LINE else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _folded)


def main() -> None:
    """Write the files."""
    for path, content in files().items():
        path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()

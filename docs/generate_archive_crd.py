"""
Writes the kinds of archives into ``crds/archives.yaml``: ``python docs/generate_archive_crd.py``
(``make chart``).

Types, descriptions and bounds come from ``counterfoil/resources/archive_kinds.py``. Each part of the file
between ``# generated: NAME`` and ``# end of generated`` is replaced; everything else is written by hand. A
unit test compares the file with this program's output.
"""

import inspect
import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec
import yaml

from counterfoil.resources.archive_kinds import (
    KINDS,
    SETTINGS,
    TARGET_FIELDS,
    FieldSchema,
    KindSettings,
    ValidationRule,
)
from counterfoil.resources.base import LocalObjectReference, ResourcePart

CRD = Path(__file__).parents[1] / "crds" / "archives.yaml"
WIDTH = 130

_PART = re.compile(r"^( *)# generated: (\w+)\n.*?^ *# end of generated\n", re.DOTALL | re.MULTILINE)
_SECRET_NAME = {
    "name": {
        "type": "string",
        "description": "Name of the Secret.",
        "maxLength": 253,
        "pattern": "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
    }
}

Schema = dict[str, Any]


def text() -> str:
    """Return the whole file with its generated parts renewed."""
    parts = {"target": _target(), "rules": _rules(), "kinds": dict(_kinds())}

    def renewed(found: re.Match[str]) -> str:
        indent, name = found[1], found[2]
        content = yaml.dump(
            parts[name], sort_keys=False, allow_unicode=True, width=WIDTH - len(indent), Dumper=_NoAliases
        )
        lines = [f"# generated: {name}", *content.splitlines(), "# end of generated"]
        return "".join(f"{indent}{line}\n" for line in lines)

    return _PART.sub(renewed, CRD.read_text(encoding="utf-8"))


def _target() -> Schema:
    kinds, fields = (",".join(f"'{each}'" for each in names) for names in (KINDS, TARGET_FIELDS))
    return {"jsonPath": f".spec[{kinds}][{fields}]"}


def _rules() -> list[Schema]:
    has = ", ".join(f"has(self.{kind})" for kind in KINDS)
    same = " && ".join(f"has(self.{kind}) == has(oldSelf.{kind})" for kind in KINDS)
    return [
        {
            "rule": f"[{has}].exists_one(each, each)",
            "message": f"set exactly one of {', '.join(KINDS[:-1])} and {KINDS[-1]}",
        },
        {
            "rule": same,
            "message": "the kind of an Archive never changes, since events say where their documents lie; "
            "create another Archive instead",
        },
    ]


def _kinds() -> Iterator[tuple[str, Schema]]:
    for name, settings in SETTINGS.items():
        yield name, {"type": "object", "description": _docstring(settings), **_struct(settings)}


def _struct(struct: type[ResourcePart]) -> Schema:
    """Return rules, required fields and fields of a struct."""
    hints = get_type_hints(struct, include_extras=True)
    fields = {each.name: each for each in msgspec.structs.fields(struct)}
    described = {name: _declared(hints[name]) for name in fields}
    required = [
        each.encode_name for name, each in fields.items() if each.required or described[name].is_required
    ]
    return {
        **({"required": required} if required else {}),
        **(_validations(struct.RULES) if issubclass(struct, KindSettings) else {}),
        "properties": {each.encode_name: _field(hints[name], each) for name, each in fields.items()},
    }


def _field(hint: Any, field: msgspec.structs.FieldInfo) -> Schema:
    default = field.default
    if isinstance(default, bool) or (isinstance(default, str | int) and default):
        return _value(hint, {"default": str(default) if isinstance(default, StrEnum) else default})
    return _value(hint, {})


def _value(hint: Any, default: Schema) -> Schema:
    """Return the schema of an annotated value: its type, what was declared for it, and what it consists
    of."""
    declared, inner = _declared(hint), _without_none(get_args(hint)[0])
    schema: Schema = {
        "type": _type(inner),
        **({"format": "int32"} if inner is int else {}),
        "description": declared.description,
        **default,
        **declared.keywords,
        **_validations(declared.rules),
    }
    if inner is LocalObjectReference:
        return {**schema, "required": ["name"], "properties": _SECRET_NAME}
    if get_origin(inner) is tuple:
        return {**schema, "x-kubernetes-list-type": "set", "items": _value(get_args(inner)[0], {})}
    if get_origin(inner) is dict:
        return {**schema, "additionalProperties": _value(get_args(inner)[1], {})}
    if issubclass(inner, StrEnum):
        return {**schema, "enum": [each.value for each in inner]}
    return {**schema, **_struct(inner)} if issubclass(inner, ResourcePart) else schema


def _type(inner: Any) -> str:
    names: Mapping[Any, str] = {
        str: "string",
        bool: "boolean",
        int: "integer",
        tuple: "array",
        dict: "object",
    }
    origin = get_origin(inner) or inner
    return "string" if issubclass(origin, StrEnum) else names.get(origin, "object")


def _declared(hint: Any) -> FieldSchema:
    if get_origin(hint) is Annotated:
        for each in get_args(hint)[1:]:
            if isinstance(each, FieldSchema):
                return each
    raise TypeError(f"{hint} has no schema(…) in its annotation")


def _without_none(hint: Any) -> Any:
    if not isinstance(hint, UnionType):
        return hint
    (inner,) = (each for each in get_args(hint) if each is not NoneType)
    return inner


def _validations(rules: tuple[ValidationRule, ...]) -> Schema:
    if not rules:
        return {}
    return {"x-kubernetes-validations": [{"rule": each.rule, "message": each.message} for each in rules]}


def _docstring(struct: type) -> str:
    return " ".join((inspect.getdoc(struct) or "").split())


class _NoAliases(yaml.SafeDumper):
    """Writes equal parts in full, since ``kubectl`` users read the file."""

    def ignore_aliases(self, data: Any) -> bool:
        """Tell that no part is written as an alias."""
        return True


if __name__ == "__main__":
    CRD.write_text(text(), encoding="utf-8")

"""
Refuse members of a JSON value that its type does not have, at any depth.

msgspec ignores unknown members of dataclasses. A misspelt option in a nested object would change nothing, and
the test or demo that sent it would test something else.
"""

from collections.abc import Iterator
from typing import Any

import msgspec


def refuse_unknown_fields(value: Any, expected: msgspec.inspect.Type, path: str = "$") -> None:
    """
    Check a decoded JSON value that already has this type.

    Raises ``ValueError`` that names the unknown member, its place, and the members that exist.
    """
    for inner, kind, place in _parts(value, expected, path):
        refuse_unknown_fields(inner, kind, place)


def _parts(
    value: Any, expected: msgspec.inspect.Type, path: str
) -> Iterator[tuple[Any, msgspec.inspect.Type, str]]:
    """Yield the values inside this one, with type and place."""
    match expected:
        case msgspec.inspect.UnionType(types=types):
            yield from ((value, each, path) for each in types if _may_be(value, each))
        case msgspec.inspect.ListType(item_type=item) | msgspec.inspect.VarTupleType(item_type=item):
            yield from ((each, item, f"{path}[{number}]") for number, each in enumerate(value))
        case msgspec.inspect.DictType(value_type=item):
            yield from ((each, item, f"{path}.{key}") for key, each in value.items())
        case (
            msgspec.inspect.StructType(fields=fields)
            | msgspec.inspect.DataclassType(fields=fields)
            | msgspec.inspect.TypedDictType(fields=fields)
        ):
            known = {each.encode_name: each.type for each in fields}
            unknown = next((key for key in value if key not in known), None)
            if unknown is not None:
                raise ValueError(
                    f"Object contains unknown field `{unknown}` - at `{path}`; it has {', '.join(known)}."
                )
            yield from ((each, known[key], f"{path}.{key}") for key, each in value.items())


def _may_be(value: Any, expected: msgspec.inspect.Type) -> bool:
    if isinstance(value, dict):
        return isinstance(
            expected,
            msgspec.inspect.StructType
            | msgspec.inspect.DataclassType
            | msgspec.inspect.TypedDictType
            | msgspec.inspect.DictType,
        )
    return isinstance(value, list) and isinstance(
        expected, msgspec.inspect.ListType | msgspec.inspect.VarTupleType
    )

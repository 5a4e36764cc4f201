"""
The table of facts about eSignAnyWhere's JSON (`facts.toml`), and how a value deviates from it.

Tests compare the stand-in and Counterfoil with the table. Pure, except that `read_facts` reads the file.
"""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final

FILE: Final = Path(__file__).with_name("facts.toml")


@dataclass(frozen=True)
class Source:
    """The origin of a fact."""

    title: str
    address: str
    date: date


@dataclass(frozen=True)
class Member:
    """One member of an object."""

    name: str
    type: str
    """The name of a scalar type, of an object or of an enumeration; of the entries if it is a list."""
    is_list: bool
    required: bool
    nullable: bool
    source: Source


@dataclass(frozen=True)
class Call:
    """The names of the objects of a call."""

    body: str | None = None
    """Of the body of a POST."""
    answer: str | None = None


@dataclass(frozen=True)
class Facts:
    """The whole table."""

    calls: Mapping[str, Call]
    objects: Mapping[str, Sequence[Member]]
    enums: Mapping[str, Sequence[str]]

    def deviations(self, kind: str, value: Any, at: str = "") -> Iterator[str]:
        """Yield what is wrong with a value that should be an object of this kind: unknown members, missing
        required ones, nulls that are not allowed, and values of another type."""
        if not isinstance(value, dict):
            yield f"{at or kind} is no object"
            return
        members = {each.name: each for each in self.objects[kind]}
        for name in value.keys() - members.keys():
            yield f"{at}{name} is unknown"
        for member in members.values():
            if member.name in value:
                yield from self._deviations_of_member(member, value[member.name], f"{at}{member.name}")
            elif member.required:
                yield f"{at}{member.name} is missing"

    def missing(self, kind: str, value: Any, at: str = "") -> Iterator[str]:
        """Yield the members that an object of this kind leaves out, required or not."""
        for member in self.objects[kind]:
            if member.name not in value:
                yield f"{at}{member.name}"
            elif member.type in self.objects:
                inner = value[member.name] if member.is_list else [value[member.name]]
                for each in inner or ():
                    if each is not None:
                        yield from self.missing(member.type, each, f"{at}{member.name}.")

    def _deviations_of_member(self, member: Member, value: Any, at: str) -> Iterator[str]:
        if value is None:
            if not member.nullable:
                yield f"{at} is null"
            return
        if not member.is_list:
            yield from self._deviations_of_value(member.type, value, at)
            return
        if not isinstance(value, list):
            yield f"{at} is no list"
            return
        for number, each in enumerate(value):
            yield from self._deviations_of_value(member.type, each, f"{at}[{number}]")

    def _deviations_of_value(self, kind: str, value: Any, at: str) -> Iterator[str]:
        if kind in self.objects:
            yield from self.deviations(kind, value, f"{at}.")
        elif kind.startswith("enum:"):
            if value not in self.enums[kind.removeprefix("enum:")]:
                yield f"{at} has the unknown value {value!r}"
        elif not _is_scalar(kind, value):
            yield f"{at} is no {kind}"


def read_facts() -> Facts:
    """Read the table. Raises ``KeyError`` for a type, a source or an object that it does not define."""
    table = tomllib.loads(FILE.read_text(encoding="utf-8"))
    sources = {name: Source(**each) for name, each in table["sources"].items()}
    objects = {name: _members(each, sources) for name, each in table["objects"].items()}
    known = {"string", "integer", "boolean", "time", "any", *objects}
    known |= {f"enum:{each}" for each in table["enums"]}
    if unknown := {each.type for members in objects.values() for each in members} - known:
        raise KeyError(f"types that the table does not define: {sorted(unknown)}")
    calls = {name: Call(**each) for name, each in table["calls"].items()}
    if missing := {name for each in calls.values() for name in (each.body, each.answer) if name} - set(
        objects
    ):
        raise KeyError(f"objects that the table does not define: {sorted(missing)}")
    return Facts(calls=calls, objects=objects, enums=table["enums"])


def _members(table: Mapping[str, Any], sources: Mapping[str, Source]) -> tuple[Member, ...]:
    # A member is written in Pascal case, so `source` in lower case is none.
    default = table.get("source", "swagger-v6")
    rows = {
        name: each if isinstance(each, dict) else {"type": each}
        for name, each in table.items()
        if name != "source"
    }
    return tuple(
        Member(
            name=name,
            type=row["type"].strip("[]"),
            is_list=row["type"].startswith("["),
            required=row.get("required", False),
            nullable=row.get("nullable", True),
            source=sources[row.get("source", default)],
        )
        for name, row in rows.items()
    )


def _is_scalar(kind: str, value: Any) -> bool:
    match kind:
        case "string":
            return isinstance(value, str)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "boolean":
            return isinstance(value, bool)
        case "time":
            return isinstance(value, str) and _is_time(value)
    return kind == "any"


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False

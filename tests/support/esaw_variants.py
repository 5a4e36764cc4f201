"""Answers of eSAW from the table of facts: complete ones, and the same with one member null or left out."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from uuid import UUID, uuid5

from sandbox.esaw.facts import Facts, Member

ENVELOPE: Final = "0f9c1c2e-1111-2222-3333-444455556666"

Path = tuple[str, ...]
"""Names of members, from the outermost object to the inner one."""


def an_answer(facts: Facts, kind: str, at: Path = ()) -> dict[str, Any]:
    """Build an object with a value for each of its members; each list has one entry."""
    return {each.name: _value(facts, each, (*at, each.name)) for each in facts.objects[kind]}


def paths(facts: Facts, kind: str, at: Path = ()) -> Iterator[tuple[Path, Member]]:
    """Yield each member of an object at each depth, outer ones first."""
    for member in facts.objects[kind]:
        yield (*at, member.name), member
        if member.type in facts.objects:
            yield from paths(facts, member.type, (*at, member.name))


def with_null(answer: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the answer with this member as null."""
    changed = copy.deepcopy(dict(answer))
    _container(changed, path)[path[-1]] = None
    return changed


def without(answer: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the answer without this member."""
    changed = copy.deepcopy(dict(answer))
    del _container(changed, path)[path[-1]]
    return changed


def _container(answer: dict[str, Any], path: Sequence[str]) -> dict[str, Any]:
    found: Any = answer
    for name in path[:-1]:
        found = found[name][0] if isinstance(found[name], list) else found[name]
    container: dict[str, Any] = found
    return container


def _value(facts: Facts, member: Member, at: Path) -> Any:
    value = _single(facts, member, at)
    return [value] if member.is_list else value


def _single(facts: Facts, member: Member, at: Path) -> Any:
    if member.type in facts.objects:
        return an_answer(facts, member.type, at)
    if member.type.startswith("enum:"):
        values = facts.enums[member.type.removeprefix("enum:")]
        return "Completed" if "Completed" in values else values[0]
    match member.type:
        case "integer":
            return 1
        case "boolean":
            return True
        case "time":
            return "2026-07-01T12:00:00Z"
        case "any":
            return {}
    # One id for each place, since a list of files has each id once.
    return ENVELOPE if at == ("Id",) else str(uuid5(UUID(int=0), ".".join(at)))

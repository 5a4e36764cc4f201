"""
The decision which Archive an envelope goes to, by the routes of its Organization.

The first route whose conditions all hold decides; if none holds, ``spec.archiveRef`` does. A route looks at
tags as its own Archive defines them, required or not. The caller of ``decide`` gives the values of the tags;
a fact that is not given leaves a route undecided, and with it the envelope: nothing is guessed. Pure.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from counterfoil.archives import tags as tagging
from counterfoil.archives.errors import ArchiveError
from counterfoil.archives.tags import VALUE_LIMIT, FoundTags, MetadataTooHeavy
from counterfoil.resources.archive import Archive, TagRule
from counterfoil.resources.routes import ArchiveRoute, Choice, RoutedSpec, RouteTag
from counterfoil.untrusted.patterns import ROUTE_PATTERNS


@dataclass(frozen=True)
class RouteFacts:
    """Facts about an envelope that routes look at in addition to tags; None: not known."""

    action: str | None = None
    sender: str | None = None
    """Name of the Sender whose key reads the envelope."""
    status: str | None = None


class UnsureTag(NamedTuple):
    """A tag whose value is not known, although its rule was evaluated."""

    why: str


TagValues = Mapping[str, Mapping[str, str | UnsureTag | None]]
"""By name of the route: the values of its tags by name, None for one that the envelope does not have."""


class Verdict(NamedTuple):
    """Whether one route holds."""

    route: ArchiveRoute
    holds: bool | None
    """None: a fact is not known."""
    why: str
    """The condition that does not hold, or what is not known; of a route that holds, its conditions."""


class Decision(NamedTuple):
    """Decision of the routes about an envelope."""

    choice: Choice | None
    """None: the last verdict is not known, or no Archive is set."""
    verdicts: tuple[Verdict, ...]
    """Of the routes in their order, up to the one that decides."""

    @property
    def undecided(self) -> Verdict | None:
        """The route that can't be judged; None: each was."""
        last = self.verdicts[-1] if self.verdicts else None
        return last if last is not None and last.holds is None else None


class RouteFault(NamedTuple):
    """Why a route can't be judged, for any envelope."""

    reason: str
    message: str


def decide(spec: RoutedSpec, facts: RouteFacts, tags: TagValues) -> Decision:
    """Return the Archive of an envelope. The patterns of all routes must be valid (``route_fault``)."""
    verdicts = []
    for route in spec.routes:
        verdict = _verdict(route, facts, tags.get(route.name, {}))
        verdicts.append(verdict)
        if verdict.holds is None:
            return Decision(None, tuple(verdicts))
        if verdict.holds:
            return Decision(Choice(route.archive_ref.name, route.name), tuple(verdicts))
    default = Choice(spec.archive_ref.name, None) if spec.archive_ref is not None else None
    return Decision(default, tuple(verdicts))


def undecided_by_tags(spec: RoutedSpec, facts: RouteFacts) -> tuple[ArchiveRoute, ...]:
    """Return the routes whose tags decide about an envelope: all that comes before them is known."""
    found = []
    for route in spec.routes:
        holds = _verdict(route, facts, {}).holds
        if holds is None:
            found.append(route)
        elif holds:
            break
    return tuple(found)


def route_fault(route: ArchiveRoute, archive: Archive | None) -> RouteFault | None:
    """Return why a route can't be judged; None: it can. ``archive`` is its Archive, None if there is none."""
    where, of_archive = f"The route `{route.name}`", f"Archive/{route.archive_ref.name}"
    for name, tag in sorted(route.when.tags.items()):
        if tag.pattern is not None and (error := ROUTE_PATTERNS.error(tag.pattern)) is not None:
            message = f"{where}: the pattern of the tag `{name}` is no regular expression (RE2): {error}. "
            return RouteFault("RouteInvalid", f"{message}Correct it in spec.routes of the Organization.")
    if not route.when.tags:
        return None
    if archive is None:
        message = f"{where} looks at tags as {of_archive} defines them, which does not exist."
        return RouteFault("ArchiveMissing", f"{message} Create it, or correct spec.routes.")
    if unknown := sorted(set(route.when.tags) - set(archive.spec.tags)):
        names = ", ".join(f"`{each}`" for each in unknown)
        message = f"{where} looks at {names}, and spec.tags of {of_archive} does not define that."
        return RouteFault("RouteInvalid", f"{message} Define it there, or correct spec.routes.")
    if faults := tagging.problems({name: archive.spec.tags[name] for name in route.when.tags}):
        message = f"{where} looks at a tag of {of_archive} that can't work: {'; '.join(faults)}."
        return RouteFault("RouteInvalid", f"{message} Correct the Archive.")
    return None


def too_heavy(problem: MetadataTooHeavy) -> ArchiveError:
    """Return the error for a rule of ``RouteTags`` that takes too much on the envelope's metadata."""
    archive, _, name = problem.name.partition("/")
    return ArchiveError(
        problem.reason,
        f"A route looks at the tag `{name}` of Archive/{archive}, and the envelope's metadata is too heavy "
        f"for its rule. Simplify spec.tags.{name} of Archive/{archive}, or correct the application that "
        "writes the metadata.",
    )


class RouteTags(NamedTuple):
    """The rules of the tags that routes look at, to be evaluated together."""

    rules: dict[str, TagRule]
    """By a key of Archive and tag. None is required: an envelope without the tag is no fault here."""
    routes: tuple[ArchiveRoute, ...]

    @classmethod
    def of(cls, routes: Sequence[ArchiveRoute], archive_of: Callable[[str], Archive | None]) -> "RouteTags":
        """Return the rules of those routes that can be judged."""
        archives = {each.archive_ref.name: archive_of(each.archive_ref.name) for each in routes}
        judged = tuple(each for each in routes if route_fault(each, archives[each.archive_ref.name]) is None)
        rules = {
            key: msgspec.structs.replace(rule, required=False)
            for route in judged
            for key, rule in _rules(route, archives[route.archive_ref.name])
        }
        return cls(rules, judged)

    def values(self, found: FoundTags) -> TagValues:
        """Return the values of each route's tags, from what the rules found by their keys."""
        return {
            route.name: {name: _value(found, _key(route, name), tag) for name, tag in route.when.tags.items()}
            for route in self.routes
        }


def _value(found: FoundTags, key: str, tag: RouteTag) -> str | UnsureTag | None:
    value = found.values.get(key)
    if key not in found.unsure:
        return value
    # A value that was cut is none of those in a spec, which are shorter, unless the cut was in white space.
    is_known = value is not None and len(value) == VALUE_LIMIT and tag.pattern is None
    return value if is_known else UnsureTag(found.unsure[key])


def _rules(route: ArchiveRoute, archive: Archive | None) -> Iterator[tuple[str, TagRule]]:
    if archive is not None:
        for name in route.when.tags:
            yield _key(route, name), archive.spec.tags[name]


def _key(route: ArchiveRoute, tag: str) -> str:
    return f"{route.archive_ref.name}/{tag}"


def _verdict(route: ArchiveRoute, facts: RouteFacts, tags: Mapping[str, str | UnsureTag | None]) -> Verdict:
    """Judge one route. What certainly does not hold comes before what is not known."""
    judged = list(_conditions(route, facts, tags))
    failed = next((why for holds, why in judged if holds is False), None)
    if failed is not None:
        return Verdict(route, False, failed)
    unknown = next((why for holds, why in judged if holds is None), None)
    if unknown is not None:
        return Verdict(route, None, unknown)
    return Verdict(route, True, str(route.when))


def _conditions(
    route: ArchiveRoute, facts: RouteFacts, tags: Mapping[str, str | UnsureTag | None]
) -> Iterator[tuple[bool | None, str]]:
    """Yield for each condition whether it holds, and why not. Values of tags stay out of the texts: an
    Archive says which of them may be in a status."""
    when = route.when
    action = facts.action.lower() if facts.action is not None else None
    given = (
        ("action", {each.lower() for each in when.actions}, action, facts.action),
        ("status", when.statuses, facts.status, facts.status),
        ("Sender", when.senders, facts.sender, f"Sender/{facts.sender}"),
    )
    for what, wanted, value, shown in given:
        if wanted and value is None:
            yield None, f"the {what} is not known"
        elif wanted:
            yield value in wanted, f"the {what} is {shown}"
    for name, tag in sorted(when.tags.items()):
        if name not in tags:
            yield None, f"the tag `{name}` is not known"
        elif (found := tags[name]) is None:
            yield False, f"the envelope has no tag `{name}`"
        elif isinstance(found, UnsureTag):
            yield None, f"the tag `{name}` is not known: {found.why}"
        else:
            yield _matches(tag, found), f"the tag `{name}` has another value"


def _matches(tag: RouteTag, value: str) -> bool:
    return ROUTE_PATTERNS.full_match(tag.pattern, value) if tag.pattern is not None else value in tag.values

"""Which Archive an envelope goes to: the first route that holds, else the one of the Organization."""

from typing import Any

import pytest

from controller.reconcile.routing import (
    RouteFacts,
    RouteTags,
    decide,
    route_fault,
    too_heavy,
    undecided_by_tags,
)
from counterfoil.archives.errors import ArchiveError
from counterfoil.archives.tags import FoundTags, MetadataTooHeavy
from counterfoil.resources import Archive, Organization, TagRule
from counterfoil.resources.routes import Choice
from tests.support.builders import an_organization
from tests.support.fakes.reconcile_context import an_archive

FACTS = RouteFacts("envelopeFinished", "anna", "Completed")
DEFAULT = Choice("dms", None)


def route(name: str = "hr", archive: str | None = None, **when: Any) -> dict[str, Any]:
    return {"name": name, "archiveRef": {"name": archive or name}, "when": when}


def routed(*routes: dict[str, Any]) -> Organization:
    return an_organization(routes=routes)


def an_archive_with(name: str, *tags: str) -> Archive:
    return an_archive(name, tags={each: {"jsonPath": f"$.{each}", "required": True} for each in tags})


ONE_CONDITION: list[tuple[dict[str, Any], RouteFacts, dict[str, str | None], bool]] = [
    ({"actions": ["EnvelopeFinished"]}, FACTS, {}, True),
    ({"actions": ["envelopeRejected"]}, FACTS, {}, False),
    ({"statuses": ["Rejected", "Completed"]}, FACTS, {}, True),
    ({"statuses": ["Rejected"]}, FACTS, {}, False),
    ({"senders": ["bob", "anna"]}, FACTS, {}, True),
    ({"senders": ["Anna"]}, FACTS, {}, False),
    ({"tags": {"area": {"values": ["HR", "IT"]}}}, FACTS, {"area": "IT"}, True),
    ({"tags": {"area": {"values": ["HR"]}}}, FACTS, {"area": "hr"}, False),
    ({"tags": {"area": {"values": ["HR"]}}}, FACTS, {"area": "HR2"}, False),
    ({"tags": {"area": {"values": ["HR"]}}}, FACTS, {"area": None}, False),
    ({"tags": {"area": {"pattern": "4[0-9]{3}"}}}, FACTS, {"area": "4711"}, True),
    ({"tags": {"area": {"pattern": "4[0-9]{3}"}}}, FACTS, {"area": "47110"}, False),
    ({"tags": {"area": {"pattern": ".*"}}}, FACTS, {"area": None}, False),
    ({"tags": {"a": {"values": ["1"]}, "b": {"values": ["2"]}}}, FACTS, {"a": "1", "b": "2"}, True),
    ({"tags": {"a": {"values": ["1"]}, "b": {"values": ["2"]}}}, FACTS, {"a": "1", "b": "3"}, False),
    ({"tags": {"a": {"values": ["1"]}}, "senders": ["bob"]}, FACTS, {"a": "1"}, False),
    ({"tags": {"a": {"values": ["1"]}}, "senders": ["anna"]}, FACTS, {"a": "1"}, True),
]


@pytest.mark.parametrize(("when", "facts", "tags", "holds"), ONE_CONDITION)
def test_a_route_holds_if_each_of_its_conditions_does(
    when: dict[str, Any], facts: RouteFacts, tags: dict[str, str | None], *, holds: bool
) -> None:
    decision = decide(routed(route(**when)).spec, facts, {"hr": tags})
    assert decision.choice == (Choice("hr", "hr") if holds else DEFAULT)
    assert [each.holds for each in decision.verdicts] == [holds]


def test_the_first_route_that_holds_decides_and_the_rest_is_not_judged() -> None:
    spec = routed(
        route("no", statuses=["Expired"]),
        route("first", statuses=["Completed"]),
        route("second", senders=["anna"]),
    ).spec
    decision = decide(spec, FACTS, {})
    assert decision.choice == Choice("first", "first")
    assert [(each.route.name, each.holds) for each in decision.verdicts] == [("no", False), ("first", True)]


def test_two_routes_may_lead_to_one_archive() -> None:
    spec = routed(route("a", "hr", senders=["bob"]), route("b", "hr", senders=["anna"])).spec
    assert decide(spec, FACTS, {}).choice == Choice("hr", "b")


@pytest.mark.parametrize("facts", [RouteFacts(), RouteFacts(action="envelopeFinished", status="Completed")])
def test_nothing_is_guessed_about_a_fact_that_is_not_known(facts: RouteFacts) -> None:
    decision = decide(routed(route(senders=["anna"]), route("all", statuses=["Completed"])).spec, facts, {})
    assert decision.choice is None
    assert decision.undecided is not None
    assert decision.undecided.why == "the Sender is not known"


def test_the_sender_of_an_envelope_that_a_route_does_not_take_is_named() -> None:
    decision = decide(routed(route(senders=["bob"])).spec, FACTS, {})
    assert [each.why for each in decision.verdicts] == ["the Sender is Sender/anna"]


def test_a_condition_that_does_not_hold_needs_no_other_fact() -> None:
    spec = routed(route(statuses=["Expired"], tags={"area": {"values": ["HR"]}})).spec
    assert decide(spec, FACTS, {}).choice == DEFAULT
    assert undecided_by_tags(spec, FACTS) == ()


def test_only_the_tags_of_routes_that_may_decide_are_looked_at() -> None:
    tags = {"area": {"values": ["HR"]}}
    spec = routed(
        route("ruled-out", senders=["bob"], tags=tags),
        route("possible", tags=tags),
        route("certain", senders=["anna"]),
        route("behind", tags=tags),
    ).spec
    assert [each.name for each in undecided_by_tags(spec, FACTS)] == ["possible"]


def test_an_organization_without_any_archive_has_no_choice() -> None:
    spec = an_organization(archiveRef=None).spec
    decision = decide(spec, FACTS, {})
    assert (decision.choice, decision.undecided) == (None, None)


def test_no_reason_names_the_value_of_a_tag() -> None:
    spec = routed(route(tags={"area": {"values": ["HR"]}})).spec
    (verdict,) = decide(spec, FACTS, {"hr": {"area": "secret"}}).verdicts
    assert verdict.why == "the tag `area` has another value"


# -- The rules of the tags -----------------------------------------------------------------------------------


def test_a_tag_is_looked_at_as_the_archive_of_the_route_defines_it() -> None:
    archives = {
        "hr": an_archive("hr", tags={"area": {"jsonPath": "$.hr"}}),
        "it": an_archive("it", tags={"area": {"jsonPath": "$.it"}}),
    }
    when = {"area": {"values": ["yes"]}}
    spec = routed(route("hr", tags=when), route("it", tags=when)).spec
    tags = RouteTags.of(spec.routes, archives.get)
    assert tags.rules == {
        "hr/area": TagRule(json_path="$.hr"),
        "it/area": TagRule(json_path="$.it"),
    }
    found = FoundTags({"hr/area": "no", "it/area": "yes"}, {})
    assert decide(spec, FACTS, tags.values(found)).choice == Choice("it", "it")
    assert decide(spec, FACTS, tags.values(FoundTags({}, {}))).choice == DEFAULT


def test_a_tag_that_its_archive_requires_is_no_fault_of_a_route() -> None:
    spec = routed(route(tags={"area": {"values": ["HR"]}})).spec
    tags = RouteTags.of(spec.routes, {"hr": an_archive_with("hr", "area")}.get)
    assert [each.required for each in tags.rules.values()] == [False]


def test_a_route_that_cannot_be_judged_is_not_ignored() -> None:
    spec = routed(route(tags={"area": {"values": ["HR"]}})).spec
    tags = RouteTags.of(spec.routes, {"hr": an_archive("hr")}.get)
    decision = decide(spec, FACTS, tags.values(FoundTags({}, {})))
    assert decision.choice is None
    assert decision.undecided is not None


def test_a_tag_that_is_not_known_decides_nothing() -> None:
    spec = routed(route(tags={"area": {"values": ["HR"]}})).spec
    tags = RouteTags.of(spec.routes, {"hr": an_archive_with("hr", "area")}.get)
    decision = decide(spec, FACTS, tags.values(FoundTags({}, {"hr/area": "it is not JSON"})))
    assert decision.undecided is not None
    assert decision.undecided.why == "the tag `area` is not known: it is not JSON"


def test_metadata_that_is_too_heavy_names_tag_and_archive() -> None:
    problem: ArchiveError = too_heavy(MetadataTooHeavy("hr/area", TagRule(xpath="//*"), "much"))
    assert problem.reason == "MetadataTooHeavy"
    assert "Simplify spec.tags.area of Archive/hr" in problem.message


# -- Routes that can't be judged -----------------------------------------------------------------------------


FAULTS: list[tuple[dict[str, Any], Archive | None, str | None, str]] = [
    ({"senders": ["anna"]}, None, None, ""),
    ({"tags": {"area": {"values": ["HR"]}}}, an_archive_with("hr", "area"), None, ""),
    (
        {"tags": {"area": {"values": ["HR"]}}},
        None,
        "ArchiveMissing",
        "Archive/hr defines them, which does not",
    ),
    (
        {"tags": {"area": {"values": ["HR"]}}},
        an_archive("hr"),
        "RouteInvalid",
        "looks at `area`, and spec.tags",
    ),
    ({"tags": {"area": {"pattern": "(?=x)"}}}, an_archive_with("hr", "area"), "RouteInvalid", "no regular"),
    (
        {"tags": {"area": {"pattern": "["}}},
        None,
        "RouteInvalid",
        "the pattern of the tag `area` is no regular",
    ),
    (
        {"tags": {"area": {"values": ["HR"]}}},
        an_archive("hr", tags={"area": {"xpath": "["}}),
        "RouteInvalid",
        "a tag of Archive/hr that can't work: spec.tags.area: the xpath does not compile",
    ),
]


@pytest.mark.parametrize(("when", "archive", "reason", "message"), FAULTS)
def test_what_is_wrong_with_a_route_is_named(
    when: dict[str, Any], archive: Archive | None, reason: str | None, message: str
) -> None:
    fault = route_fault(routed(route(**when)).spec.routes[0], archive)
    assert (fault.reason if fault else None) == reason
    if fault is not None:
        assert message in fault.message

"""``kubectl counterfoil why``: which route was taken, and why."""

from typing import Any

import pytest

from counterfoil.cli.plugin.why import explain, page
from counterfoil.resources.routes import Choice
from tests.support.builders import NOON, an_event, an_organization

HR = {"name": "hr", "archiveRef": {"name": "vault"}, "when": {"tags": {"area": {"values": ["HR", "IT"]}}}}


def route_line(choice: Choice | None, *routes: dict[str, Any]) -> str | None:
    event = an_event()
    if choice is not None:
        event = event.status(archive=choice.location)
    text = page(explain(event.build(), an_organization(routes=routes), None, (), NOON))
    return next(
        (line.removeprefix("Route").strip() for line in text.splitlines() if line[:5] == "Route"), None
    )


@pytest.mark.parametrize(
    ("choice", "routes", "line"),
    [
        (None, (HR,), None),
        (Choice("dms", None), (), None),
        # The event may be older than the routes, and they were never asked.
        (Choice("dms", None), (HR,), "to Archive/dms by spec.archiveRef, not by a route"),
        (
            Choice("old", None),
            (HR,),
            "to Archive/old by spec.archiveRef, which names Archive/dms now, not by a route",
        ),
        (
            Choice("vault", "hr"),
            (HR,),
            "to Archive/vault by the route hr, which now holds if the tag `area` is HR or IT",
        ),
        (
            Choice("vault", "hr"),
            (),
            "to Archive/vault by the route hr, which spec.routes of the Organization does not have any more",
        ),
        (Choice("old", None, "old-stock"), (), "to Archive/old, which Import/old-stock named"),
        (
            Choice("old", "hr"),
            (HR,),
            "to Archive/old by the route hr, which leads to Archive/vault now",
        ),
    ],
)
def test_the_route_is_named_with_its_conditions_or_with_its_change(
    choice: Choice | None, routes: tuple[dict[str, Any], ...], line: str | None
) -> None:
    assert route_line(choice, *routes) == line


def test_a_choice_that_only_its_event_remembers_is_shown_without_its_organization() -> None:
    event = an_event().status(archive=Choice("vault", "hr").location).build()
    assert "Route         to Archive/vault by the route hr\n" in page(explain(event, None, None, (), NOON))

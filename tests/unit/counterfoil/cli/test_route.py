"""``kubectl counterfoil route``: what it asks for, and what it prints."""

import argparse
import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from counterfoil.cli.plugin import route
from counterfoil.cli.plugin.exit_status import CommandError, ExitStatus
from counterfoil.kube.watch import Raw
from counterfoil.resources import REQUEST_LABEL, Organization
from tests.support.builders import ENVELOPE, NOON, an_organization
from tests.support.fakes.kube import InMemoryKubeClient
from tests.support.fakes.leases import a_shard_lease

PREFIX = f"{REQUEST_LABEL}-"


class AnsweringKube(InMemoryKubeClient):
    """An API server whose controller answers each request at once."""

    def __init__(self, outcome: str, message: str) -> None:
        super().__init__(an_organization(), a_shard_lease(0, 1, renewed=datetime.now(UTC)))
        self.outcome, self.message = outcome, message
        self.parameters: dict[str, str] = {}

    async def get(self, kind: Any, name: str) -> Raw:
        raw = await super().get(kind, name)
        annotations = raw["metadata"].get("annotations", {})
        if REQUEST_LABEL in raw["metadata"].get("labels", {}):
            self.parameters = {
                key.removeprefix(PREFIX): value
                for key, value in annotations.items()
                if key.startswith(PREFIX)
            }
            raw["status"] = {
                "lastRequest": {
                    "request": "route",
                    "outcome": self.outcome,
                    "handledTime": NOON.isoformat(),
                    "id": self.parameters["id"],
                    "message": self.message,
                }
            }
        return raw


def the_arguments(**given: Any) -> argparse.Namespace:
    usual: dict[str, Any] = dict.fromkeys(("envelope", "sender", "action", "status"))
    return argparse.Namespace(
        **{**usual, "organization": "acme", "tag": [], "timeout": 5.0, "output": "text", **given}
    )


async def printed(kube: AnsweringKube, **given: Any) -> tuple[ExitStatus, str]:
    out = io.StringIO()
    return await route.run(the_arguments(**given), kube, out), out.getvalue()


async def test_the_answer_of_the_controller_is_printed_and_says_whether_it_could_decide() -> None:
    answer = "Archive/vault by the route `hr`: the tag `area` is HR."
    assert await printed(AnsweringKube("Done", answer), envelope=ENVELOPE) == (
        ExitStatus.DONE,
        f"{answer}\n",
    )
    status, text = await printed(AnsweringKube("Refused", "No."), envelope=ENVELOPE, output="json")
    assert (status, json.loads(text)) == (ExitStatus.NOT_ALL, {"outcome": "Refused", "message": "No."})


async def test_what_is_given_is_asked_for_on_the_organization() -> None:
    kube = AnsweringKube("Done", "")
    given = {"sender": "anna", "action": "envelopeFinished", "status": "Completed"}
    await printed(kube, envelope=ENVELOPE.upper(), tag=["area=HR", "no=a=b", "none="], **given)
    assert kube.objects[Organization.PLURAL, "acme"]["metadata"]["labels"] == {REQUEST_LABEL: "route"}
    assert given.items() <= kube.parameters.items()
    assert kube.parameters["envelope"] == ENVELOPE
    assert json.loads(kube.parameters["tags"]) == {"area": "HR", "no": "a=b", "none": ""}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "name an envelope by --envelope, or give facts about one"),
        ({"envelope": "1"}, "--envelope '1' is no GUID"),
        ({"tag": ["area"]}, "--tag 'area' must be NAME=VALUE"),
        ({"tag": ["=HR"]}, "--tag '=HR' must be NAME=VALUE"),
    ],
)
async def test_arguments_that_make_no_sense_ask_for_nothing(given: dict[str, Any], message: str) -> None:
    kube = AnsweringKube("Done", "")
    with pytest.raises(CommandError) as refused:
        await printed(kube, **given)
    assert (refused.value.exit_status, str(refused.value)) == (ExitStatus.MISUSED, message)
    assert kube.parameters == {}


async def test_nothing_in_the_answer_controls_the_terminal() -> None:
    _, text = await printed(AnsweringKube("Done", "\x1b[2Jgone"), status="Completed")
    assert "\x1b" not in text

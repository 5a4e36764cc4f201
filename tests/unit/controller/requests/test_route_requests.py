"""The request ``route``: which Archive an envelope would go to, and nothing is changed."""

import copy
import dataclasses
import json
from typing import Any

import pytest
from msgspec.structs import replace

from controller.requests.route_requests import RouteRequests
from counterfoil.esaw.errors import EsawUnreachable
from counterfoil.resources import (
    IMPORT_ARCHIVE_LABEL,
    IMPORT_LABEL,
    ArchiveLocation,
    FiledDocument,
    FileKind,
    LocalObjectReference,
    Organization,
    Phase,
    Request,
    RequestOutcome,
)
from counterfoil.resources.routes import Choice
from tests.support.builders import ENVELOPE, an_event, an_organization
from tests.support.event_loop import MAX_BLOCK_SECONDS, longest_block, slow_tag_rules
from tests.support.fakes.esaw import FakeEsawClients
from tests.support.fakes.reconcile_context import FakeEsawUserClient, a_probed_archive
from tests.support.scenes.preconditions import PreconditionsScene
from tests.support.scenes.reconciler import EsawOfOne

REJECTED = {"name": "no", "archiveRef": {"name": "dms"}, "when": {"statuses": ["Rejected"]}}
HR = {"name": "hr", "archiveRef": {"name": "vault"}, "when": {"tags": {"area": {"values": ["HR"]}}}}
TEXTS = "has to be a JSON object of texts of 1,024 characters at most."
NO_TAGS = f"The annotation counterfoil.dev/request-tags {TEXTS}"
PASSED = "Not `no`: the status is Completed."


class RouteScene(PreconditionsScene):
    """An Organization with routes, and an eSAW with one envelope."""

    def __init__(self) -> None:
        super().__init__()
        self.envelope = FakeEsawUserClient()
        self.envelope.metadata = json.dumps({"area": "HR"})
        clients = FakeEsawClients(EsawOfOne(self.envelope))
        self.preconditions = dataclasses.replace(self.preconditions, esaw_clients=clients)
        self.cache.update(a_probed_archive("vault", tags={"area": {"jsonPath": "$.area"}}))
        self.acme = self.with_routes(REJECTED, HR)

    def with_routes(self, *routes: dict[str, Any]) -> Organization:
        self.acme = an_organization(version=2, routes=routes)
        self.cache.organizations.put(self.acme)
        return self.acme

    async def ask(self, **parameters: str) -> tuple[str, str]:
        """Outcome and message of a request."""
        requests = RouteRequests(self.kube, self.preconditions)
        result = await requests.route(self.acme, Request("route", parameters=parameters))
        return result.outcome, result.message


@pytest.fixture
def scene() -> RouteScene:
    return RouteScene()


async def test_an_envelope_is_read_and_its_route_is_named_with_the_reasons(scene: RouteScene) -> None:
    assert await scene.ask(envelope=ENVELOPE.upper()) == (
        "Done",
        f"Archive/vault by the route `hr`: the tag `area` is HR. {PASSED}",
    )
    scene.envelope.metadata = json.dumps({"area": "secret"})
    assert await scene.ask(envelope=ENVELOPE) == (
        "Done",
        "Archive/dms by spec.archiveRef: no route holds. "
        f"{PASSED} Not `hr`: the tag `area` has another value.",
    )


async def test_nothing_is_changed_and_nothing_is_remembered(scene: RouteScene) -> None:
    stored = copy.deepcopy(scene.kube.objects)
    await scene.ask(envelope=ENVELOPE)
    assert scene.cache.sender_of == {}
    assert scene.kube.objects == stored
    assert set(scene.envelope.asked) <= {"envelope", "configuration", "whoami"}


async def test_given_facts_count_in_place_of_those_of_the_envelope(scene: RouteScene) -> None:
    assert (await scene.ask(envelope=ENVELOPE, status="Rejected"))[1].startswith(
        "Archive/dms by the route `no`"
    )
    assert (await scene.ask(envelope=ENVELOPE, tags='{"area": "IT"}'))[1].startswith(
        "Archive/dms by spec.arch"
    )
    assert (await scene.ask(envelope=ENVELOPE, tags='{"area": ""}'))[1].endswith("has no tag `area`.")


async def test_without_an_envelope_the_routes_are_judged_by_what_is_given(scene: RouteScene) -> None:
    assert await scene.ask(status="Completed", tags='{"area": "HR"}') == (
        "Done",
        f"Archive/vault by the route `hr`: the tag `area` is HR. {PASSED}",
    )
    assert await scene.ask(status="Completed") == (
        "Refused",
        "The route `hr` can't be judged: the tag `area` is not known. Name an envelope, or give what is not "
        f"known. {PASSED}",
    )
    assert scene.envelope.asked == []


async def test_an_event_that_has_files_somewhere_keeps_its_archive(scene: RouteScene) -> None:
    place = FiledDocument(file_id="1", kind=FileKind.DOCUMENT, file_name="a", location="file:///x")
    where = ArchiveLocation(ref=LocalObjectReference(name="old"), route="gone")
    event = an_event().named("first").in_phase(Phase.ARCHIVING).with_condition("Collected")
    scene.kube.put(event.status(archive=where, documents=(place,)).build())
    chosen = (
        "Archive/old by the route `gone`: EnvelopeEvent/first has chosen it, and files of the envelope may"
    )
    missing = f"{chosen} be there. Archive/old does not exist."
    assert await scene.ask(envelope=ENVELOPE) == ("Refused", missing)
    scene.cache.update(a_probed_archive("old"))
    assert await scene.ask(envelope=ENVELOPE) == ("Done", f"{chosen} be there.")
    assert scene.envelope.asked == []


async def test_an_archive_that_does_not_exist_or_is_suspended_is_named_as_one(scene: RouteScene) -> None:
    scene.with_routes({**REJECTED, "archiveRef": {"name": "nowhere"}})
    chosen = "by the route `no`: the status is Rejected."
    assert await scene.ask(status="Rejected") == (
        "Refused",
        f"Archive/nowhere {chosen} Archive/nowhere does not exist.",
    )
    scene.cache.update(a_probed_archive("nowhere", suspend=True))
    assert await scene.ask(status="Rejected") == (
        "Done",
        f"Archive/nowhere {chosen} Archive/nowhere is suspended (spec.suspend).",
    )


async def test_a_missing_archive_that_an_event_has_chosen_is_named_as_one(scene: RouteScene) -> None:
    chosen = an_event().named("first").in_phase(Phase.COLLECTING, "ArchiveMissing")
    scene.kube.put(chosen.status(archive=Choice("vault", "hr").location).build())
    scene.cache.archives.remove("vault")
    assert await scene.ask(envelope=ENVELOPE) == (
        "Refused",
        "Archive/vault by the route `hr`: EnvelopeEvent/first has chosen it. Archive/vault does not exist.",
    )


async def test_an_event_that_has_chosen_keeps_its_archive_before_its_first_file(scene: RouteScene) -> None:
    chosen = an_event().named("first").in_phase(Phase.COLLECTING, "AuditTrailPending")
    chosen = chosen.status(archive=Choice("vault", "hr").location)
    scene.kube.put(chosen.build())
    scene.with_routes({**HR, "when": {"tags": {"area": {"values": ["IT"]}}}})
    assert await scene.ask(envelope=ENVELOPE) == (
        "Done",
        "Archive/vault by the route `hr`: EnvelopeEvent/first has chosen it.",
    )
    assert scene.envelope.asked == []


@pytest.mark.parametrize("route", ["removed", "hr"])
async def test_a_choice_that_is_void_does_not_count(scene: RouteScene, route: str) -> None:
    phase = Phase.FAILED if route == "hr" else Phase.COLLECTING
    chosen = an_event().named("first").in_phase(phase, "TagMissing")
    scene.kube.put(chosen.status(archive=Choice("vault", route).location).build())
    scene.envelope.metadata = json.dumps({"area": "IT"})
    assert (await scene.ask(envelope=ENVELOPE))[1].startswith(
        "Archive/dms by spec.archiveRef: no route holds."
    )


async def test_the_archive_of_its_import_comes_before_the_routes(scene: RouteScene) -> None:
    scene.cache.update(a_probed_archive("old-stock"))
    builder = an_event().named("first").in_phase(Phase.COLLECTING, "ArchiveUnreachable")
    builder = builder.labelled(IMPORT_LABEL, "y2019").labelled(IMPORT_ARCHIVE_LABEL, "old-stock")
    scene.kube.put(builder.build())
    assert await scene.ask(envelope=ENVELOPE) == (
        RequestOutcome.DONE,
        "Archive/old-stock by spec.archiveRef of Import/y2019: an Import created EnvelopeEvent/first, unless "
        "another Archive has the envelope already.",
    )


async def test_a_route_that_cannot_be_judged_is_refused_with_the_fault(scene: RouteScene) -> None:
    scene.with_routes({**HR, "archiveRef": {"name": "dms"}})
    outcome, message = await scene.ask(envelope=ENVELOPE)
    assert outcome == RequestOutcome.REFUSED
    assert message.startswith(
        "The route `hr` looks at `area`, and spec.tags of Archive/dms does not define that."
    )


async def test_a_pattern_that_is_no_regular_expression_is_named(scene: RouteScene) -> None:
    scene.with_routes({**HR, "when": {"tags": {"area": {"pattern": "["}}}})
    outcome, message = await scene.ask(tags='{"area": "HR"}')
    assert outcome == RequestOutcome.REFUSED
    assert message.startswith("The route `hr`: the pattern of the tag `area` is no regular expression (RE2)")


async def test_a_pattern_is_compared_with_the_whole_tag(scene: RouteScene) -> None:
    scene.with_routes({**HR, "when": {"tags": {"area": {"pattern": "H."}}}})
    assert (await scene.ask(envelope=ENVELOPE))[1] == (
        "Archive/vault by the route `hr`: the tag `area` matches `H.`."
    )


async def test_a_route_is_not_said_not_to_hold_for_metadata_that_can_not_be_read(scene: RouteScene) -> None:
    scene.envelope.metadata = '{"area": "HR"'
    outcome, message = await scene.ask(envelope=ENVELOPE)
    assert outcome == RequestOutcome.REFUSED
    assert message.startswith(
        "The route `hr` can't be judged: the tag `area` is not known: the envelope's metadata can't be read, "
        "since it is not JSON. "
    )


async def test_the_value_of_a_given_tag_is_bounded_as_that_of_an_envelope(scene: RouteScene) -> None:
    assert await scene.ask(tags=json.dumps({"area": "x" * 1025})) == ("Refused", NO_TAGS)


async def test_patterns_that_are_slow_to_compile_do_not_hold_the_event_loop(scene: RouteScene) -> None:
    """The first request after a change or a restart compiles them."""
    patterns = [rf"(\pL{{1,{each}}}){{9}}|[äöü]{{{each}}}" for each in range(30, 46)]
    routes = [
        {**HR, "name": f"r{each}", "when": {"tags": {"area": {"pattern": pattern}}}}
        for each, pattern in enumerate(patterns)
    ]
    scene.with_routes(*routes)
    assert await longest_block(scene.ask(tags='{"area": "x"}')) < MAX_BLOCK_SECONDS


async def test_rules_of_tags_that_are_slow_to_check_do_not_hold_the_event_loop(scene: RouteScene) -> None:
    rules = slow_tag_rules("route")
    tags = {name: {"jsonPath": each.json_path} for name, each in rules.items()}
    scene.cache.archives.put(a_probed_archive("vault", version=2, tags=tags))
    names = [*tags]
    routes = [
        {**HR, "name": f"r{at}", "when": {"tags": {name: {"values": ["x"]} for name in names[at : at + 4]}}}
        for at in range(0, len(names), 4)
    ]
    scene.with_routes(*routes)
    assert await longest_block(scene.ask(tags='{"t0": "x"}')) < MAX_BLOCK_SECONDS


async def test_an_envelope_that_cannot_be_read_is_refused_with_the_cause(scene: RouteScene) -> None:
    scene.envelope.but("configuration", EsawUnreachable("cut"))
    outcome, message = await scene.ask(envelope=ENVELOPE)
    assert outcome == RequestOutcome.REFUSED
    assert message.startswith("The envelope can't be read now. ")

    scene.cache.senders.remove("anna")
    assert (await scene.ask(envelope=ENVELOPE))[1] == (
        "The envelope can't be read now. SenderMissing: Sender/anna does not exist."
    )


async def test_esaw_is_asked_nothing_while_the_organization_is_suspended(scene: RouteScene) -> None:
    scene.acme = replace(scene.acme, spec=replace(scene.acme.spec, suspend=True))
    scene.cache.organizations.put(scene.acme)
    assert await scene.ask(envelope=ENVELOPE) == (
        RequestOutcome.REFUSED,
        "The envelope can't be read now. OrganizationSuspended: spec.suspend of Organization/acme is true.",
    )
    assert scene.envelope.asked == []
    assert (await scene.ask(status="Completed", tags='{"area": "HR"}'))[0] == RequestOutcome.DONE


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"envelope": "../../file"}, "The annotation counterfoil.dev/request-envelope has to be a GUID."),
        ({"tags": "["}, NO_TAGS),
        (
            {"tags": '{"a": 1}'},
            NO_TAGS,
        ),
    ],
)
async def test_a_parameter_that_can_not_be_is_refused(
    scene: RouteScene, parameters: dict[str, str], message: str
) -> None:
    assert await scene.ask(**parameters) == ("Refused", message)


async def test_an_organization_without_routes_is_named_as_one(scene: RouteScene) -> None:
    scene.with_routes()
    assert await scene.ask(envelope=ENVELOPE) == (
        "Done",
        "Archive/dms by spec.archiveRef: the Organization has no routes.",
    )

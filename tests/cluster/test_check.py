"""
``kubectl counterfoil check`` through a real API server and a real controller, against the stand-in: what a
person reads, what is sent in, and that nothing is changed.
"""

import json
from collections.abc import AsyncIterator

import pytest

from counterfoil.cli.plugin.exit_status import ExitStatus
from counterfoil.resources import REQUEST_LABEL, Organization
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.esaw import DocumentSpec
from tests.support.scenes.controller import ControllerScene
from tests.support.scenes.plugin import Terminal, a_scene_with_people, terminal

UNKNOWN = "0f9c1c2e-1111-4222-8333-444455556666"


@pytest.fixture(scope="module")
async def scene(
    plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ControllerScene]:
    async with a_scene_with_people(plane, tmp_path_factory.mktemp("controller")) as built:
        yield built


@pytest.fixture
async def administrator(scene: ControllerScene) -> Terminal:
    return await terminal(scene, "administrator")


async def stored(scene: ControllerScene) -> Organization:
    return Organization.parse(await scene.kube.get(Organization, "acme"))


async def test_an_esaw_as_assumed_deviates_in_nothing_and_the_result_stays_in_the_status(
    scene: ControllerScene, administrator: Terminal
) -> None:
    answer = await administrator("check", "acme")
    assert (answer.code, answer.err) == (ExitStatus.DONE, "")
    assert "as expected  base-url" in answer.out
    assert "not testable token-endpoint" in answer.out
    organization = await stored(scene)
    assert organization.status.check is not None
    assert (organization.status.check.by or "").endswith(":administrator")
    assert organization.status.check.version == organization.status.version
    assert REQUEST_LABEL not in organization.metadata.labels
    assert not [each for each in organization.metadata.annotations if "request-" in each]
    await scene.until_recorded("acme", ("Normal", "CheckRequested"))


async def test_an_envelope_and_a_draft_have_their_lines_and_a_deviation_ends_with_1(
    scene: ControllerScene, administrator: Terminal
) -> None:
    envelope = scene.envelope(audit_trail=False, documents=[DocumentSpec(name="Anna's lease.pdf", size=5000)])
    draft = scene.esaw.add_draft(owner=scene.anna)
    deletions = len(scene.esaw.delete_calls(envelope))
    answer = await administrator("check", "acme", "--envelope", envelope.upper(), "--draft", draft)
    assert answer.code == ExitStatus.NOT_ALL
    assert "deviates     envelope-audit-trail" in answer.out
    assert "Change: spec.evidence.auditTrail." in answer.out
    assert "as expected  draft" in answer.out
    assert len(scene.esaw.delete_calls(envelope)) == deletions
    assert scene.esaw.exists(envelope)
    assert [each.draft_id for each in scene.esaw.drafts(scene.anna)] == [draft]


async def test_the_report_has_the_facts_and_nothing_of_anybody(
    scene: ControllerScene, administrator: Terminal
) -> None:
    envelope = scene.envelope(name="Lease of Anna Kofler")
    answer = await administrator("check", "acme", "--envelope", envelope, "-o", "json")
    assert (answer.json["kind"], answer.json["version"]) == ("EsawProfile", 1)
    facts = {each["id"]: each["found"] for each in answer.json["facts"]}
    assert facts["envelope-status"] == "Completed"
    assert facts["header-bearer"] == facts["header-api-token"] == "accepted"
    raw = json.dumps((await scene.kube.get(Organization, "acme"))["status"]["check"])
    for said in (answer.out, raw):
        hidden = (*scene.tokens, envelope, "Kofler", "anna@example.com", "Lease", "contract.pdf")
        assert [each for each in hidden if each in said] == []
    assert "127.0.0.1" not in answer.out


async def test_what_is_no_guid_is_refused_by_the_plugin_and_by_the_controller(
    scene: ControllerScene, administrator: Terminal
) -> None:
    answer = await administrator("check", "acme", "--envelope", "../../file")
    assert (answer.code, "is no GUID" in answer.err) == (ExitStatus.MISUSED, True)
    before = (await stored(scene)).status.check
    request = {"counterfoil.dev/request-id": "by-hand", "counterfoil.dev/request-draft": "../draft/send"}
    body = {"metadata": {"labels": {REQUEST_LABEL: "check"}, "annotations": request}}
    await scene.kube.patch(Organization, "acme", body)
    organization = await scene.answered(Organization, "acme")
    last = organization.status.last_request
    assert last is not None
    assert (last.outcome, last.id) == ("Refused", "by-hand")
    assert "counterfoil.dev/request-draft has to be a GUID" in (last.message or "")
    assert organization.status.check == before


async def test_a_user_who_may_not_change_the_organization_can_ask_for_no_check(
    scene: ControllerScene,
) -> None:
    looker = await terminal(scene, "looker")
    answer = await looker("check", "acme")
    assert (answer.code, answer.out) == (ExitStatus.NOT_ALLOWED, "")


async def test_an_esaw_that_refuses_every_key_is_reported_line_by_line(
    scene: ControllerScene, administrator: Terminal
) -> None:
    scene.esaw.fault("whoami", status=401, times=2)
    answer = await administrator("check", "acme", "--draft", UNKNOWN)
    assert answer.code == ExitStatus.NOT_ALL
    assert "deviates     header-bearer" in answer.out
    assert "not testable draft" in answer.out

"""Envelopes of eSAW's API v5 in a real controller, on a real API server: archived, then deleted or kept."""

from collections.abc import AsyncIterator

import pytest

from counterfoil.resources import FileKind, Organization, Phase, is_condition_true
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.esaw import Behaviour, DocumentSpec
from tests.support.scenes.controller import ControllerScene, a_controller_scene


@pytest.fixture(scope="module")
async def scene(
    plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ControllerScene]:
    async with a_controller_scene(plane, tmp_path_factory.mktemp("controller")) as built:
        yield built


def an_envelope_of_v5(scene: ControllerScene) -> str:
    legal = [DocumentSpec(name="certificate.pdf", size=500)]
    return scene.envelope(api_version="v5", legal_documents=legal)


async def test_an_envelope_of_v5_whose_files_v6_lists_is_archived_and_deleted(scene: ControllerScene) -> None:
    scene.esaw.set_behaviour(Behaviour())
    envelope = an_envelope_of_v5(scene)

    event = await scene.reaches(await scene.note(envelope), Phase.SUCCEEDED, "ArchivedAndDeleted")

    assert {each.kind for each in event.status.documents} >= {FileKind.DOCUMENT, FileKind.AUDIT_TRAIL}
    assert "counterfoil.json" in scene.filed(envelope)
    assert [(each.outcome, each.missing) for each in scene.esaw.delete_calls(envelope)] == [(200, ())]
    assert not scene.esaw.exists(envelope)


async def test_an_envelope_whose_files_only_v5_lists_is_archived_and_kept_until_the_policy_is_keep(
    scene: ControllerScene,
) -> None:
    scene.esaw.set_behaviour(Behaviour(v5_files="refused"))
    envelope = an_envelope_of_v5(scene)
    name = await scene.note(envelope)

    event = await scene.reaches(name, Phase.FAILED, "V5EnvelopeKept")

    assert is_condition_true(event.status.conditions, "Archived")
    hashes = {scene.esaw.expected_sha256(each.file_id) for each in scene.esaw.files(envelope)}
    assert {each.sha256 for each in event.status.documents} == hashes
    assert {"counterfoil.json", "counterfoil.sha256"} <= set(scene.filed(envelope))
    assert scene.esaw.delete_calls(envelope) == []

    await scene.kube.patch(Organization, "acme", {"spec": {"cleanup": {"policy": "Keep"}}})

    await scene.reaches(name, Phase.SUCCEEDED, "ArchivedAndKept")
    assert scene.esaw.exists(envelope)

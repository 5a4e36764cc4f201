"""
Tools on our objects in each state: kstatus by its own code, Argo CD by the script and Flux by the expressions
that the manual offers, each with its own interpreter. A real API server and a running controller.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from counterfoil.kube.client import KubeClient, connect
from counterfoil.origin import ORIGIN_ANNOTATION
from counterfoil.resources import (
    REQUEST_LABEL,
    Archive,
    Envelope,
    EnvelopeEvent,
    Organization,
    Phase,
    Resource,
    Sender,
)
from sandbox.controlplane.binaries import ensure
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.controlplane.processes import run
from sandbox.esaw import EnvelopeStatus
from tests.support.crd_cases import built
from tests.support.pauses import pauses
from tests.support.scenes.controller import ControllerScene, a_controller_scene

DOCS = Path(__file__).parents[2] / "docs"
HEALTH = DOCS / "argocd-health.yaml"
FLUX = DOCS / "flux.yaml"
PATIENCE_SECONDS = 60.0
NOBODY_HOME = "http://127.0.0.1:9"

CURRENT = ("Current", "Healthy", "Current")
IN_PROGRESS = ("InProgress", "Progressing", "InProgress")
FAILED = ("Failed", "Degraded", "Failed")
# What Git holds back on purpose is as Git says: a Kustomization must not fail for it.
SUSPENDED = ("Failed", "Suspended", "Current")
DELETED = ("Terminating", "Progressing", "InProgress")

Verdict = tuple[str, str, str]
"""The status of kstatus, the health of Argo CD, and the status of Flux with our healthCheckExprs."""
Judge = Callable[[dict[str, Any]], Awaitable[tuple[Verdict, str]]]


@pytest.fixture(scope="module")
async def judge(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    """Return what the tools say of an object, and the message of kstatus."""
    program = (await ensure("kstatus"))["kstatus"]
    customizations = yaml.safe_load(HEALTH.read_text())["data"]["resource.customizations"]
    folder = tmp_path_factory.mktemp("health")
    script, expressions = folder / "health.lua", folder / "expressions.json"
    script.write_text(yaml.safe_load(customizations)["counterfoil.dev/*"]["health.lua"])
    expressions.write_text(json.dumps(flux_checks()["Organization"]))

    async def ask(raw: dict[str, Any]) -> tuple[Verdict, str]:
        answered = await run([program, script, expressions], stdin=json.dumps(raw))
        assert answered.code == 0, answered.err
        found = json.loads(answered.out)
        return (found["status"], found["health"], found["flux"]), found["message"]

    return ask


def flux_checks() -> dict[str, dict[str, str]]:
    """Return the expressions of the manual for each kind."""
    (kustomization,) = (
        each for each in yaml.safe_load_all(FLUX.read_text()) if each["kind"] == "Kustomization"
    )
    checks = {each.pop("kind"): each for each in kustomization["spec"]["healthCheckExprs"]}
    assert {each.pop("apiVersion") for each in checks.values()} == {"counterfoil.dev/v1beta1"}
    return checks


def test_flux_checks_each_kind_that_people_write_and_each_in_the_same_way() -> None:
    checks = flux_checks()
    assert checks.keys() == {"Organization", "Archive", "Sender"}
    assert checks["Organization"] == checks["Archive"] == checks["Sender"]


@pytest.fixture(scope="module")
async def scene(
    plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ControllerScene]:
    """A namespace with a running controller, for all tests of this file."""
    async with a_controller_scene(plane, tmp_path_factory.mktemp("kstatus")) as built_scene:
        yield built_scene


@pytest.fixture
async def own(plane: ControlPlane, namespace: str) -> AsyncIterator[KubeClient]:
    """The API server, seen from the test's own namespace, in which no controller works."""
    async with connect(kubeconfig=plane.kubeconfig, namespace=namespace) as opened:
        yield opened


@pytest.fixture(scope="module")
def becomes(scene: ControllerScene, judge: Judge) -> Callable[..., Awaitable[str]]:
    """Wait until the tools say this of an object whose Ready has this reason; return the message."""

    async def wait(kind: type[Resource], name: str, wanted: Verdict, reason: str) -> str:
        raw: dict[str, Any] = {}
        seen, waits = None, pauses()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while seen != (wanted, reason):
                    newest = await scene.kube.get(kind, name)
                    if newest != raw:
                        raw = newest
                        verdict, message = await judge(raw)
                        seen = (verdict, summary(raw)["Ready"]["reason"])
                    else:
                        await asyncio.sleep(next(waits))
        except TimeoutError:
            raise AssertionError(f"it is {seen}: {raw.get('status')}") from None
        assert set(summary(raw)) >= {"Ready", "Stalled"}
        return message

    return wait


def summary(raw: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["type"]: each for each in raw["status"]["conditions"]}


async def set_spec(scene: ControllerScene, target: str, **spec: Any) -> None:
    await scene.local_environment.kubectl("patch", target, "--type=merge", "-p", json.dumps({"spec": spec}))


async def set_origin(scene: ControllerScene, secret: str, origin: str) -> None:
    """Say where a Secret belongs: without that, a new key goes to the first eSAW of the namespace only."""
    await scene.local_environment.kubectl(
        "annotate", "secret", secret, f"{ORIGIN_ANNOTATION}={origin}", "--overwrite"
    )


# -- Before anybody wrote a status ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Archive, EnvelopeEvent, Organization, Sender], ids=lambda kind: kind.KIND)
async def test_an_object_that_no_controller_has_seen_is_in_progress(
    own: KubeClient, judge: Judge, kind: type[Resource]
) -> None:
    raw = await own.create(kind, built(kind, {}))
    verdict, message = await judge(raw)
    assert verdict == IN_PROGRESS
    assert message == "A controller has not processed this object yet."
    ready = summary(raw)["Ready"]
    assert (ready["status"], ready["reason"]) == ("Unknown", "Pending")


async def test_an_envelope_is_current_from_its_creation_and_after_its_changes(
    own: KubeClient, judge: Judge
) -> None:
    raw = await own.create(Envelope, built(Envelope, {}))
    assert await judge(raw) == (CURRENT, "Resource is Ready")
    name = raw["metadata"]["name"]
    raw = await own.patch(Envelope, name, {"spec": {"sentTime": "2026-07-01T12:00:00Z"}})
    assert raw["metadata"]["generation"] == 2
    verdict, _ = await judge(raw)
    assert verdict == CURRENT
    assert {each: found["status"] for each, found in summary(raw).items()} == {
        "Ready": "True",
        "Stalled": "False",
    }


@pytest.mark.parametrize(
    "kind", [Archive, Envelope, EnvelopeEvent, Organization, Sender], ids=lambda kind: kind.KIND
)
async def test_an_object_that_is_deleted_is_not_current_and_not_failed(
    own: KubeClient, judge: Judge, kind: type[Resource]
) -> None:
    raw = built(kind, {})
    raw["metadata"]["finalizers"] = ["example.com/keep"]
    name = (await own.create(kind, raw))["metadata"]["name"]
    try:
        await own.delete(kind, name)
        raw = await own.get(kind, name)
        assert "deletionTimestamp" in raw["metadata"]
        verdict, _ = await judge(raw)
        assert verdict == DELETED
    finally:
        await own.patch(kind, name, {"metadata": {"finalizers": None}})


async def test_an_object_whose_conditions_somebody_has_removed_is_not_healthy(judge: Judge) -> None:
    verdict, _ = await judge({**built(Organization, {}), "status": {"conditions": []}})
    # kstatus itself takes an object without any condition for one of a kind that has none.
    assert verdict == ("Current", "Progressing", "InProgress")


# -- Organizations -------------------------------------------------------------------------------------------


async def test_an_organization_that_works_is_current_and_one_that_is_suspended_is_not(
    scene: ControllerScene, becomes: Callable[..., Awaitable[str]]
) -> None:
    await scene.organization("held")
    await becomes(Organization, "held", CURRENT, "Ready")
    await set_spec(scene, "org/held", suspend=True)
    message = await becomes(Organization, "held", SUSPENDED, "OrganizationSuspended")
    assert message == "spec.suspend is true: callbacks are recorded, and envelopes wait until it is false."
    await set_spec(scene, "org/held", suspend=False)
    await becomes(Organization, "held", CURRENT, "Ready")


async def test_an_organization_whose_esaw_does_not_answer_is_in_progress(
    scene: ControllerScene, becomes: Callable[..., Awaitable[str]]
) -> None:
    await scene.organization("away", baseURL=NOBODY_HOME)
    await set_origin(scene, "away-key", NOBODY_HOME)
    message = await becomes(Organization, "away", IN_PROGRESS, "EsawUnreachable")
    assert message.startswith("eSignAnyWhere at spec.baseURL does not answer as it should: ")
    # The key of its sender can't be checked meanwhile, and nobody has to do anything about that.
    await becomes(Sender, "away", IN_PROGRESS, "EsawUnreachable")
    await set_origin(scene, "away-key", scene.esaw.url)
    await set_spec(scene, "org/away", baseURL=scene.esaw.url)
    await becomes(Organization, "away", CURRENT, "Ready")
    await becomes(Sender, "away", CURRENT, "KeyAccepted")


async def test_an_organization_with_broken_references_is_failed_and_names_all_of_them(
    scene: ControllerScene, becomes: Callable[..., Awaitable[str]]
) -> None:
    broken = {"callback": {"tokenSecretRefs": [{"name": "nothing", "key": "token"}]}}
    await scene.local_environment.organization("broken", archive="nowhere", sender="nobody", **broken)
    message = await becomes(Organization, "broken", FAILED, "CallbackTokenMissing")
    assert [each in message for each in ("Secret/nothing", "Archive/nowhere", "Sender/nobody")] == [True] * 3


async def test_an_organization_follows_the_state_of_its_archive(
    scene: ControllerScene, becomes: Callable[..., Awaitable[str]]
) -> None:
    await scene.local_environment.archive("shut", webdav={"url": NOBODY_HOME})
    await scene.local_environment.sender("follower", scene.user("Follower"), organization="follower")
    await scene.local_environment.organization("follower", archive="shut")
    await becomes(Archive, "shut", IN_PROGRESS, "ArchiveUnreachable")
    await becomes(Organization, "follower", IN_PROGRESS, "ArchiveNotReady")
    await scene.local_environment.archive("gone", filesystem={"root": "/nowhere/at/all"})
    await becomes(Archive, "gone", FAILED, "ArchiveRootMissing")
    await set_spec(scene, "org/follower", archiveRef={"name": "gone"})
    await becomes(Organization, "follower", FAILED, "ArchiveNotReady")


# -- Archives ------------------------------------------------------------------------------------------------


async def test_an_archive_is_failed_until_its_cause_is_solved_and_then_current(
    scene: ControllerScene, becomes: Callable[..., Awaitable[str]]
) -> None:
    root = scene.archive / "later"
    await scene.local_environment.archive("later", filesystem={"root": str(root)})
    assert str(root) in await becomes(Archive, "later", FAILED, "ArchiveRootMissing")
    root.mkdir()
    await becomes(Archive, "later", CURRENT, "Probed")


# -- Senders -------------------------------------------------------------------------------------------------


async def test_a_sender_whose_key_works_is_current_also_with_its_next_spec(
    scene: ControllerScene, becomes: Callable[..., Awaitable[str]]
) -> None:
    await scene.local_environment.sender("eve", scene.user("Eve"), organization="acme")
    await becomes(Sender, "eve", CURRENT, "KeyAccepted")
    await set_spec(scene, "sender/eve", email="eve@acme.example")
    await becomes(Sender, "eve", CURRENT, "KeyAccepted")
    await set_spec(scene, "sender/eve", suspend=True)
    await becomes(Sender, "eve", SUSPENDED, "SenderSuspended")
    await set_spec(scene, "sender/eve", suspend=False)
    await becomes(Sender, "eve", CURRENT, "KeyAccepted")
    await set_spec(scene, "sender/eve", tokenSecretRef={"name": "eve-lost", "key": "token"})
    assert "Secret/eve-lost" in await becomes(Sender, "eve", FAILED, "KeyMissing")


async def test_a_sender_with_the_key_of_another_user_is_failed(
    scene: ControllerScene, becomes: Callable[..., Awaitable[str]]
) -> None:
    mistaken = msgspec.structs.replace(scene.user("Rolf"), token=scene.anna.token)
    await scene.local_environment.sender("rolf", mistaken, organization="acme")
    await becomes(Sender, "rolf", FAILED, "WrongUser")


async def test_an_organization_whose_events_can_have_no_sender_is_failed_until_a_key_works(
    scene: ControllerScene, becomes: Callable[..., Awaitable[str]]
) -> None:
    await scene.local_environment.organization("nobodys", archive="dms")
    message = await becomes(Organization, "nobodys", FAILED, "NoUsableSender")
    assert message.startswith("No event can have a sender: no Sender names Organization/nobodys")

    mistaken = msgspec.structs.replace(scene.user("Nina"), token=scene.anna.token)
    await scene.local_environment.sender("nina", mistaken, organization="nobodys")
    await becomes(Sender, "nina", FAILED, "WrongUser")
    message = await becomes(Organization, "nobodys", FAILED, "NoUsableSender")
    assert "unusable (Sender/nina)" in message

    await scene.local_environment.sender("nora", scene.user("Nora"), organization="nobodys")
    await becomes(Sender, "nora", CURRENT, "KeyAccepted")
    await becomes(Organization, "nobodys", CURRENT, "Ready")


async def test_a_sender_without_any_way_to_a_key_is_failed_and_reports_it(
    scene: ControllerScene, becomes: Callable[..., Awaitable[str]]
) -> None:
    await scene.local_environment.sender("mute", scene.user("Mute"), organization="acme")
    await set_spec(scene, "sender/mute", tokenSecretRef=None)
    message = await becomes(Sender, "mute", FAILED, "KeyNotConfigured")
    assert "spec.tokenSecretRef" in message


async def test_a_sender_of_an_unknown_organization_is_failed_until_that_exists(
    scene: ControllerScene, becomes: Callable[..., Awaitable[str]]
) -> None:
    await scene.local_environment.sender("early", scene.user("Early"), organization="tomorrow")
    message = await becomes(Sender, "early", FAILED, "OrganizationMissing")
    assert message.startswith("Organization/tomorrow does not exist.")
    assert await scene.condition_of(Sender, "early", "Authorized") == ("Unknown", "OrganizationMissing")
    await scene.local_environment.organization("tomorrow", archive="dms", sender="early")
    await becomes(Sender, "early", CURRENT, "KeyAccepted")


# -- Events --------------------------------------------------------------------------------------------------


async def test_an_event_is_current_when_its_envelope_is_archived(
    scene: ControllerScene, becomes: Callable[..., Awaitable[str]]
) -> None:
    await becomes(EnvelopeEvent, await scene.noted(), CURRENT, "ArchivedAndDeleted")


async def test_an_event_that_continues_automatically_is_in_progress(
    scene: ControllerScene, becomes: Callable[..., Awaitable[str]]
) -> None:
    envelope = scene.envelope(status=EnvelopeStatus.ACTIVE)
    await becomes(EnvelopeEvent, await scene.note(envelope), IN_PROGRESS, "StillActive")


async def test_a_skipped_event_is_current_for_there_is_nothing_left_to_do(
    scene: ControllerScene, becomes: Callable[..., Awaitable[str]]
) -> None:
    name = await scene.note(scene.envelope(status=EnvelopeStatus.EXPIRED))
    await becomes(EnvelopeEvent, name, CURRENT, "UnexpectedStatus")
    assert not await scene.local_environment.kubectl(
        "get", "ee", name, "-o", 'jsonpath={.status.conditions[?(@.type=="Archived")].status}'
    )


async def test_an_event_that_a_person_skips_is_current(
    scene: ControllerScene, becomes: Callable[..., Awaitable[str]]
) -> None:
    name = await scene.note(scene.envelope(status=EnvelopeStatus.ACTIVE))
    await becomes(EnvelopeEvent, name, IN_PROGRESS, "StillActive")
    await scene.local_environment.kubectl("label", "ee", name, f"{REQUEST_LABEL}=skip")
    await becomes(EnvelopeEvent, name, CURRENT, "SkippedByRequest")


async def test_an_event_that_failed_is_failed_and_after_a_retry_current(
    scene: ControllerScene, becomes: Callable[..., Awaitable[str]]
) -> None:
    envelope = scene.envelope()
    scene.esaw.fault("envelope", id=envelope, status=403)
    name = await scene.note(envelope)
    try:
        await becomes(EnvelopeEvent, name, FAILED, "NotPermitted")
    finally:
        scene.esaw.clear_faults("envelope")
    await scene.local_environment.kubectl("label", "ee", name, f"{REQUEST_LABEL}=retry")
    await becomes(EnvelopeEvent, name, CURRENT, "ArchivedAndDeleted")


async def test_an_event_that_waits_for_a_key_is_failed_and_with_the_key_current(
    scene: ControllerScene, becomes: Callable[..., Awaitable[str]]
) -> None:
    user = await scene.organization("keyless")
    await set_spec(scene, "sender/keyless", tokenSecretRef={"name": "keyless-next", "key": "token"})
    await becomes(Sender, "keyless", FAILED, "KeyMissing")
    name = await scene.noted("keyless", user)
    event = await scene.reaches(name, Phase.AWAITING_CONSENT)
    message = await becomes(EnvelopeEvent, name, FAILED, "KeyMissing")
    assert message == event.status.message
    await scene.local_environment.secret("keyless-next", "token", token=user.token)
    await becomes(EnvelopeEvent, name, CURRENT, "ArchivedAndDeleted")


async def test_an_event_of_a_suspended_organization_waits_for_a_person(
    scene: ControllerScene, becomes: Callable[..., Awaitable[str]]
) -> None:
    user = await scene.organization("paused", suspend=True)
    name = await scene.noted("paused", user)
    await becomes(EnvelopeEvent, name, SUSPENDED, "OrganizationSuspended")
    await set_spec(scene, "org/paused", suspend=False)
    await becomes(EnvelopeEvent, name, CURRENT, "ArchivedAndDeleted")

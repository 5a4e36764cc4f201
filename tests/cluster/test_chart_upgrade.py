"""
An upgrade from the chart of an earlier release, with objects of all kinds in use, and the way back.

A separate control plane, because the chart installs our kinds. tests/support/releases has the earlier charts.
"""

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from counterfoil.resources import Envelope, envelope_id
from counterfoil.resources.event_factory import new_event
from release.helm import CHART
from sandbox.controlplane import rbac
from sandbox.controlplane.binaries import ensure
from sandbox.controlplane.control_plane import ControlPlane, control_plane
from sandbox.environment.local import LocalEnvironment, local_environment
from sandbox.esaw import DocumentSpec
from tests.support.crd_cases import built
from tests.support.scenes.chart import NAMESPACE, RELEASE, with_image
from tests.support.scenes.hook_jobs import HelmWithHookJobs

RELEASES = sorted((Path(__file__).parents[1] / "support" / "releases").glob("*.tgz"))
KINDS = ("archives", "envelopeevents", "envelopes", "organizations", "senders")
"""The kinds of each earlier release."""
NEW_KINDS = ("imports",)
"""Those that an upgrade adds."""

FINISHED = new_event(
    organization="acme",
    envelope=envelope_id("11111111-6d1f-4d5f-8d66-0c6d2a1e8f10"),
    action="envelopeFinished",
)
FINISHED_STATUS = {
    "phase": "Succeeded",
    "deliveries": 3,
    "completionTime": "2026-11-01T10:00:00Z",
    "documents": [
        {
            "fileID": "22222222-6d1f-4d5f-8d66-0c6d2a1e8f10",
            "kind": "Document",
            "fileName": "contract.pdf",
            "size": 3000,
            "sha256": "a" * 64,
            "location": "file:///dms/acme/contract.pdf",
        }
    ],
}
EARLIER_SWEEP = {"time": "2026-11-01T10:00:00Z", "found": 2}
"""As the earlier release stored it; the present definitions require `completionTime`."""
SEALED = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "sealed-of-jane"},
    "type": "counterfoil.dev/sealed-token",
    "data": {"token": base64.b64encode(b"sealed").decode()},
}

Objects = dict[str, dict[str, Any]]
"""Objects by kind and name."""


@dataclass
class UpgradedRelease:
    """The objects of the cluster before the upgrade, after it, and after the rollback."""

    before: Objects = field(default_factory=dict)
    after: Objects = field(default_factory=dict)
    back: Objects = field(default_factory=dict)
    present: Objects = field(default_factory=dict)
    """The present definitions, as the API server stores them."""
    processed: dict[str, Any] = field(default_factory=dict)
    """The event that the earlier release had left, after the present controller has worked on it."""
    organization: dict[str, Any] = field(default_factory=dict)
    """Its Organization at that time."""


@pytest.fixture(scope="module", params=RELEASES, ids=lambda path: path.stem)
async def upgraded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[UpgradedRelease]:
    """Install the earlier chart, upgrade, let a controller work, and roll back."""
    folder = tmp_path_factory.mktemp("upgrade")
    found = UpgradedRelease()
    async with control_plane() as plane:
        await plane.namespace(NAMESPACE)
        program = (await ensure("helm"))["helm"]
        helm = HelmWithHookJobs(program, folder / "helm", plane.kubeconfig, plane=plane)
        release = ("upgrade", "--install", RELEASE)
        await helm(*release, request.param, "-n", NAMESPACE, values=with_image({}))
        for each in KINDS:
            await plane.kubectl("wait", f"crd/{each}.counterfoil.dev", "--for=condition=Established")
        async with local_environment(plane, folder, namespace=NAMESPACE) as environment:
            event = await fill(environment, folder)
            found.before = await snapshot(plane)
            await patch_status(environment, "organization", "acme", {"sweep": EARLIER_SWEEP})
            await helm(*release, CHART, "-n", NAMESPACE, values=with_image({}))
            found.after = await snapshot(plane)
            found.present = await definitions(plane)
            account = partial(plane.kubeconfig_for, namespace=NAMESPACE)
            await environment.controller(kubeconfig=await account(f"{RELEASE}-controller"))
            await environment.kubectl(
                "wait", f"ee/{event}", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=120s"
            )
            await environment.kubectl("wait", "org/acme", "--for=condition=Ready", "--timeout=60s")
            processed = await snapshot(plane)
            found.processed = processed[f"EnvelopeEvent/{event}"]
            found.organization = processed["Organization/acme"]
        await helm("rollback", RELEASE, "1", "-n", NAMESPACE)
        found.back = await snapshot(plane)
        yield found


async def fill(environment: LocalEnvironment, folder: Path) -> str:
    """Create objects of all kinds, some of them in use; return the name of an event that is not finished."""
    (folder / "dms").mkdir()
    anna = environment.esaw.add_user(email="anna@example.com", given_name="Anna", surname="Kofler")
    await environment.archive("dms", filesystem={"root": str(folder / "dms")})
    await environment.sender("anna", anna, organization="acme")
    await environment.organization("acme", archive="dms", sender="anna")
    envelope = environment.esaw.add_envelope(sender=anna, documents=[DocumentSpec(name="a.pdf", size=3000)])
    waiting = new_event(organization="acme", envelope=envelope_id(envelope), action="envelopeFinished")
    sent = built(Envelope, {})
    for each in (FINISHED, waiting, sent, SEALED):
        await environment.kubectl("create", "-f", "-", stdin=json.dumps(each))
    await patch_status(environment, "ee", FINISHED["metadata"]["name"], FINISHED_STATUS)
    return str(waiting["metadata"]["name"])


async def patch_status(environment: LocalEnvironment, kind: str, name: str, status: dict[str, Any]) -> None:
    changes = json.dumps({"status": status})
    await environment.kubectl("patch", kind, name, "--subresource=status", "--type=merge", "-p", changes)


async def snapshot(plane: ControlPlane) -> Objects:
    """Read our objects, the Secrets but Helm's, and the rights of the release."""
    kinds = ",".join((*(f"{each}.counterfoil.dev" for each in KINDS), "secrets", "roles", "rolebindings"))
    listed = json.loads(await plane.kubectl("-n", NAMESPACE, "get", kinds, "-o", "json"))["items"]
    listed += json.loads(await plane.kubectl("get", "crds", "-o", "json"))["items"]
    return {
        f"{each['kind']}/{each['metadata']['name']}": each
        for each in listed
        if not str(each.get("type", "")).startswith("helm.sh/")
    }


async def definitions(plane: ControlPlane) -> Objects:
    """Return what the API server makes of the present definitions; it fills in defaults."""
    options = ("apply", "--server-side", "--force-conflicts", "--dry-run=server", "-o", "json", "-f")
    paths = [CHART / "files" / "crds" / f"{each}.yaml" for each in (*KINDS, *NEW_KINDS)]
    stored = [json.loads(await plane.kubectl(*options, str(path))) for path in paths]
    return {f"{each['kind']}/{each['metadata']['name']}": each for each in stored}


def of_kind(objects: Objects, *kinds: str) -> Objects:
    return {name: each for name, each in objects.items() if each["kind"] in kinds}


def essence(objects: Objects) -> dict[str, Any]:
    """Return all that people and processes wrote, and the uid: an object that was made again has another."""
    return {
        name: {
            "uid": each["metadata"]["uid"],
            **{key: each.get(key) for key in ("spec", "status", "data", "type", "rules")},
        }
        for name, each in objects.items()
    }


def without_defaults(after: Any, before: Any) -> Any:
    """Return what an object has after an upgrade, without the fields that the present definitions add to what
    was stored before: a default of a field that is new."""
    if not isinstance(after, dict) or not isinstance(before, dict):
        return after
    return {key: without_defaults(after.get(key), value) for key, value in before.items()}


OURS = ("Archive", "Envelope", "EnvelopeEvent", "Organization", "Sender", "Secret")


def test_there_is_a_release_to_upgrade_from() -> None:
    assert RELEASES != []


def test_an_upgrade_keeps_every_object_and_every_secret_as_they_are(upgraded: UpgradedRelease) -> None:
    before = of_kind(upgraded.before, *OURS)
    assert {each["kind"] for each in before.values()} == set(OURS)
    assert f"Secret/{RELEASE}-sealing-keys" in before
    after = of_kind(upgraded.after, *OURS)
    assert after.keys() == before.keys()
    assert without_defaults(essence(after), essence(before)) == essence(before)


def test_an_upgrade_replaces_the_earlier_definitions(
    upgraded: UpgradedRelease,
) -> None:
    assert len(upgraded.present) == len(KINDS) + len(NEW_KINDS)
    for name, each in upgraded.present.items():
        assert upgraded.after[name]["spec"] == each["spec"], name
        if name in upgraded.before:
            assert upgraded.after[name]["metadata"]["uid"] == upgraded.before[name]["metadata"]["uid"], name


@pytest.mark.parametrize(
    ("process", "rules"),
    [("receiver", rbac.RECEIVER), ("pages", rbac.PAGES), ("controller", rbac.CONTROLLER)],
)
def test_an_upgrade_installs_the_present_rights(
    upgraded: UpgradedRelease, process: str, rules: tuple[rbac.Rule, ...]
) -> None:
    assert tuple(upgraded.after[f"Role/{RELEASE}-{process}"]["rules"]) == rules
    assert f"RoleBinding/{RELEASE}-{process}" in upgraded.after


def test_the_present_controller_finishes_an_event_that_the_earlier_release_left(
    upgraded: UpgradedRelease,
) -> None:
    assert upgraded.processed["status"]["phase"] == "Succeeded"
    assert "Document" in {each["kind"] for each in upgraded.processed["status"]["documents"]}


def test_the_present_controller_replaces_what_it_can_not_read_of_a_status(upgraded: UpgradedRelease) -> None:
    left = upgraded.after["Organization/acme"]["status"]["sweep"]
    assert (left["found"], "completionTime" in left) == (EARLIER_SWEEP["found"], False)
    # It is Ready, so its status was written.
    found = upgraded.organization["status"]
    assert "completionTime" in found.get("sweep", ("completionTime",))


def test_a_rollback_restores_the_earlier_definitions_and_rights(upgraded: UpgradedRelease) -> None:
    kinds = ("CustomResourceDefinition", "Role", "RoleBinding")
    before, back = of_kind(upgraded.before, *kinds), of_kind(upgraded.back, *kinds)
    # The chart keeps definitions, since all objects of a kind would go with them.
    kept = {f"CustomResourceDefinition/{each}.counterfoil.dev" for each in NEW_KINDS}
    assert back.keys() == before.keys() | kept
    for name, each in before.items():
        assert back[name].get("rules") == each.get("rules"), name
        assert back[name].get("spec") == each.get("spec"), name


def test_a_rollback_keeps_every_object_and_every_secret(upgraded: UpgradedRelease) -> None:
    before, back = of_kind(upgraded.before, *OURS), of_kind(upgraded.back, *OURS)
    kept = without_defaults(of_kind(upgraded.after, *OURS), before)
    assert kept.keys() <= back.keys()
    for name, each in kept.items():
        assert back[name]["metadata"]["uid"] == each["metadata"]["uid"], name
        for key in ("spec", "data", "type"):
            assert back[name].get(key) == each.get(key), name
    finished = f"EnvelopeEvent/{FINISHED['metadata']['name']}"
    assert back[finished]["status"] == kept[finished]["status"]


@pytest.mark.parametrize("path", RELEASES, ids=lambda path: path.stem)
async def test_the_page_of_releases_names_each_chart(path: Path) -> None:
    assert f"`{path.name}`" in (path.parent / "README.md").read_text(encoding="utf-8")

"""
S21: one release serves the namespaces of two teams, and a person or a process of one reaches for the other.

References have no namespace (``test_s21_references.py``). Here the API server decides: rights by Roles in the
listed namespaces, and the admission policies in each of them.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from release.helm import CHART, helm
from sandbox.controlplane import rbac
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.controlplane.kubectl import KubectlError
from tests.support.scenes.admission import (
    RELEASE,
    WRITER,
    GuardedNamespace,
    a_sender,
    an_archive,
    an_organization,
    guarded_namespace,
)
from tests.support.scenes.chart import with_image

PLATFORM, TENANTS, OTHER = "s21-platform", ("s21-a", "s21-b"), "s21-other"
VALUES = {"watchNamespaces": [*TENANTS]}
SECRETS: tuple[rbac.Rule, ...] = ({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]},)
ORGANIZATION = "acme"


def account(process: str) -> str:
    return f"system:serviceaccount:{PLATFORM}:{RELEASE}-{process}"


@pytest.fixture(scope="module", name="tenants")
async def _tenants(
    plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> tuple[GuardedNamespace, GuardedNamespace]:
    """The namespaces of two teams; mallory has all rights in the first, and all but Secrets in the second."""
    for name in (PLATFORM, *TENANTS, OTHER):
        await plane.namespace(name)
    folder = tmp_path_factory.mktemp("chart")
    await guarded_namespace(plane, PLATFORM, folder, VALUES)
    await plane.kubectl("apply", "--server-side", "-f", "-", stdin=await rights(folder))
    ours, theirs = (GuardedNamespace(plane, name) for name in TENANTS)
    await ours.user("mallory", WRITER + SECRETS)
    await theirs.user("mallory", WRITER)
    for each in (ours, theirs):
        await each.apply(
            an_organization(ORGANIZATION), an_archive("dms", webdav={"url": "https://dms.example.com/"})
        )
    return ours, theirs


async def rights(folder: Path) -> str:
    """Render the Roles of a release for both."""
    program = await helm(folder / "helm")
    flags = ("--namespace", PLATFORM, "--kube-version", "1.35.4")
    text = await program("template", RELEASE, CHART, *flags, values=with_image(VALUES))
    kinds = ("ServiceAccount", "Role", "RoleBinding")
    return yaml.safe_dump_all(each for each in yaml.safe_load_all(text) if each and each["kind"] in kinds)


async def may(plane: ControlPlane, process: str, namespace: str, verb: str, resource: str) -> bool:
    """Whether a process of the release has a right in a namespace."""
    try:
        await plane.kubectl("auth", "can-i", verb, resource, "-n", namespace, f"--as={account(process)}")
    except KubectlError:
        return False
    return True


# -- Processes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("process", ["receiver", "pages", "console", "controller"])
async def test_a_process_has_no_right_in_a_namespace_that_is_not_listed(
    plane: ControlPlane, tenants: object, process: str
) -> None:
    said = await plane.kubectl("auth", "can-i", "--list", "-n", OTHER, f"--as={account(process)}")
    resources = {line.split()[0] for line in said.splitlines()[1:]}
    # Every account may read paths that are no resources, and ask for its name and its rights.
    assert {each for each in resources if not each.startswith(("[", "selfsubject"))} == set()


@pytest.mark.parametrize("namespace", TENANTS)
async def test_secrets_are_read_in_the_listed_namespaces_by_their_name_and_never_listed(
    plane: ControlPlane, tenants: object, namespace: str
) -> None:
    for process in ("receiver", "pages", "console", "controller"):
        reads = process in ("pages", "controller")
        assert await may(plane, process, namespace, "get", "secrets") is reads, process
        assert not await may(plane, process, namespace, "list", "secrets"), process
    assert not await may(plane, "controller", PLATFORM, "get", "secrets"), "it is not served"


async def test_a_controller_writes_leases_in_the_namespace_of_the_release_alone(
    plane: ControlPlane, tenants: object
) -> None:
    where = {
        name: await may(plane, "controller", name, "create", "leases.coordination.k8s.io")
        for name in (PLATFORM, *TENANTS)
    }
    assert where == {PLATFORM: True, TENANTS[0]: False, TENANTS[1]: False}


async def test_pages_that_were_taken_over_write_no_lease_of_a_shard_and_no_other_secret(
    tenants: tuple[GuardedNamespace, GuardedNamespace],
) -> None:
    for each in tenants:
        said = await each.refusal_of_create(account("pages"), a_lease("counterfoil-shard-0-of-1"))
        assert "the pages write and remove their own notes" in said
        said = await each.refusal_of_create(
            account("pages"), {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "taken"}}
        )
        assert "the pages write sealed keys of senders" in said


async def test_a_receiver_that_was_taken_over_creates_events_of_callbacks_in_each_namespace(
    tenants: tuple[GuardedNamespace, GuardedNamespace],
) -> None:
    for each in tenants:
        said = await each.refusal_of_create(account("receiver"), an_event("Sweep"))
        assert "a receiver creates only events of callbacks" in said


# -- People --------------------------------------------------------------------------------------------------


async def test_who_may_read_secrets_in_one_namespace_directs_none_of_the_other(
    tenants: tuple[GuardedNamespace, GuardedNamespace],
) -> None:
    ours, theirs = tenants
    body = a_sender("anna", tokenSecretRef={"name": "key", "key": "token"})
    await ours.until_accepted("mallory", "create", "-f", "-", stdin=json.dumps(body))
    said = await theirs.refusal_of_create("mallory", body)
    assert f"kubectl -n {theirs.name} create role get-key" in said
    said = await theirs.refusal_of_patch(
        "mallory", f"org/{ORGANIZATION}", {"spec": {"baseURL": "https://b.example"}}
    )
    assert f"kubectl -n {theirs.name} create role get-secrets" in said


async def test_nobody_in_a_listed_namespace_writes_the_status_or_speaks_as_the_controller(
    tenants: tuple[GuardedNamespace, GuardedNamespace],
) -> None:
    rules: tuple[rbac.Rule, ...] = (
        {"apiGroups": ["counterfoil.dev"], "resources": ["archives/status"], "verbs": ["get", "patch"]},
        {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create"]},
    )
    for each in tenants:
        await each.user("eve", (*WRITER, *rules))
        # This waits until the Role takes effect.
        said = await each.refusal_of_create("eve", a_report(each.name))
        assert "only the controller writes Kubernetes Events" in said
        arguments = ("--subresource=status", "--type=merge", "-p", '{"status":{"bytesTotal":1}}')
        with pytest.raises(KubectlError, match="only Counterfoil writes the status"):
            await each.as_user("eve", "patch", "archive/dms", *arguments)


def a_lease(name: str) -> dict[str, Any]:
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}}


def a_report(namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": "forged"},
        "eventTime": "2026-11-30T12:00:00.000000Z",
        "action": "Archive",
        "reason": "Archived",
        "type": "Normal",
        "note": "forged",
        "reportingController": "counterfoil.dev/controller",
        "reportingInstance": "x",
        "regarding": {"kind": "Archive", "name": "dms", "namespace": namespace},
    }


def an_event(origin: str) -> dict[str, Any]:
    envelope = "5482ee18-6d1f-4d5f-8d66-0c6d2a1e8f10"
    return {
        "apiVersion": "counterfoil.dev/v1beta1",
        "kind": "EnvelopeEvent",
        "metadata": {"name": f"{envelope}-0123456789abcdef"},
        "spec": {
            "organizationRef": {"name": ORGANIZATION},
            "envelopeID": envelope,
            "action": "envelopeFinished",
            "origin": origin,
        },
    }

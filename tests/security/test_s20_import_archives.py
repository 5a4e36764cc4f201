"""
S20: a user who may create Imports and Archives directs the old envelopes of another Organization into an own
Archive. With ``cleanup.policy: Delete`` the envelopes are then deleted in eSAW.

RBAC can't bind the verb ``create`` to the Organization that an Import names. So a policy asks for the right
to update it, as a change of ``archiveRef`` of the Organization itself needs it. Of an Import that exists,
``archiveRef`` never changes (``tests/support/crd_cases.py``).
"""

import json
from typing import Any

import pytest

from sandbox.controlplane import rbac
from sandbox.controlplane.control_plane import ControlPlane
from tests.support.scenes.admission import (
    WRITER,
    GuardedNamespace,
    an_import,
    an_organization,
    guarded_namespace,
    people_roles,
)

GITOPS = "system:serviceaccount:argocd:argocd-application-controller"
REFUSED = "needs the right to update Organization/acme"


def administrator_of(organization: str) -> tuple[rbac.Rule, ...]:
    """Return the rights of a person who administers one Organization: ``create`` can't be bound to a name."""
    group = {"apiGroups": ["counterfoil.dev"]}
    return (
        {
            **group,
            "resources": ["archives", "imports"],
            "verbs": ["get", "list", "create", "patch", "delete"],
        },
        {
            **group,
            "resources": ["organizations"],
            "resourceNames": [organization],
            "verbs": ["get", "update"],
        },
    )


@pytest.fixture(scope="module", name="guarded")
async def _guarded(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> GuardedNamespace:
    await plane.namespace("attacked-by-imports")
    guarded = await guarded_namespace(
        plane,
        "attacked-by-imports",
        tmp_path_factory.mktemp("chart"),
        {"admissionPolicy": {"secretRefWriters": [GITOPS]}},
    )
    await guarded.user("mallory", administrator_of("of-mallory"))
    await guarded.user("owner", administrator_of("acme"))
    await guarded.user("writer", WRITER)
    await guarded.user("editor", cluster_roles=people_roles(guarded, "edit"))
    await guarded.user(GITOPS, administrator_of("none"))
    await guarded.apply(an_organization("acme"), an_organization("of-mallory"))
    return guarded


@pytest.mark.parametrize("spec", [{}, {"dryRun": True}, {"copiesOnly": True}, {"suspend": True}])
async def test_who_may_not_change_an_organization_names_no_archive_for_its_old_envelopes(
    guarded: GuardedNamespace, spec: dict[str, Any]
) -> None:
    said = await guarded.refusal_of_create("mallory", to_archive("acme", **spec))
    assert REFUSED in said
    role = "create role update-acme --verb=update --resource=organizations.counterfoil.dev"
    assert f"kubectl -n {guarded.name} {role} --resource-name=acme" in said
    assert f"&& kubectl -n {guarded.name} create rolebinding NAME" in said
    assert "--role=update-acme --user=mallory" in said


@pytest.mark.parametrize("user", ["owner", "writer", "editor", GITOPS])
async def test_who_may_change_the_organization_names_one(guarded: GuardedNamespace, user: str) -> None:
    await guarded.until_accepted(user, "create", "-f", "-", stdin=json.dumps(to_archive("acme")))


async def test_an_import_without_an_archive_of_its_spec_needs_no_right_to_the_organization(
    guarded: GuardedNamespace,
) -> None:
    body = json.dumps(an_import("plain", organizationRef={"name": "acme"}))
    await guarded.until_accepted("mallory", "create", "-f", "-", stdin=body)


async def test_an_import_with_an_archive_is_suspended_without_a_right_to_the_organization(
    guarded: GuardedNamespace,
) -> None:
    await guarded.apply(to_archive("acme"))
    for value in (True, False):
        body = json.dumps({"spec": {"suspend": value}})
        await guarded.until_accepted("mallory", "patch", "import/to-archive", "--type=merge", "-p", body)


async def test_without_the_policies_it_is_accepted(plane: ControlPlane, namespace: str) -> None:
    open_ = GuardedNamespace(plane, namespace)
    await open_.user("mallory", administrator_of("of-mallory"))
    await open_.until_accepted("mallory", "create", "-f", "-", stdin=json.dumps(to_archive("acme")))


def to_archive(organization: str, **spec: Any) -> dict[str, Any]:
    """Return an Import into the Archive of the user."""
    return an_import(
        "to-archive",
        **{"organizationRef": {"name": organization}, "archiveRef": {"name": "of-mallory"}, **spec},
    )

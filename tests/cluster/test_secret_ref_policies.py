"""
The chart's policies on who may name Secrets and change settings: what each role may do, on a real API server.

The attacks that they refuse are in ``tests/security/test_s01_admission.py``.
"""

import copy
import json
from typing import Any

import pytest

from sandbox.controlplane import rbac
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.controlplane.kubectl import KubectlError
from tests.support.scenes.admission import (
    CONSOLE_USER,
    WRITER,
    GuardedNamespace,
    a_sender,
    an_archive,
    an_organization,
    guarded_namespace,
    people_roles,
)

GITOPS = "system:serviceaccount:argocd:argocd-application-controller"
ARCHIVE = an_archive(
    "dms", webdav={"url": "https://dms.example.com/dav", "credentialsSecretRef": {"name": "dms"}}
)


@pytest.fixture(scope="module", name="guarded")
async def _guarded(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> GuardedNamespace:
    await plane.namespace("roles-of-people")
    guarded = await guarded_namespace(
        plane,
        "roles-of-people",
        tmp_path_factory.mktemp("chart"),
        {"admissionPolicy": {"secretRefWriters": [GITOPS]}},
    )
    await guarded.user("console", CONSOLE_USER)
    await guarded.user("writer", WRITER)
    await guarded.user("reader", WRITER + get_secrets("dms", "webhook", "new"))
    await guarded.user("editor", cluster_roles=people_roles(guarded, "edit"))
    await guarded.user("admin", cluster_roles=people_roles(guarded, "admin"))
    await guarded.user("viewer", cluster_roles=people_roles(guarded, "view"))
    await guarded.user(GITOPS, WRITER)
    await guarded.apply(an_organization("acme"), a_sender("anna"), ARCHIVE)
    return guarded


def get_secrets(*names: str) -> tuple[rbac.Rule, ...]:
    """Return the right to get these Secrets and no other."""
    return ({"apiGroups": [""], "resources": ["secrets"], "resourceNames": [*names], "verbs": ["get"]},)


async def test_a_console_user_asks_suspends_and_annotates(guarded: GuardedNamespace) -> None:
    request = {
        "labels": {"counterfoil.dev/request": "sweep"},
        "annotations": {"counterfoil.dev/request-by": "x"},
    }
    for target in ("org/acme", "sender/anna", "archive/dms"):
        await guarded.patch("console", target, {"metadata": request})
        await guarded.patch("console", target, {"metadata": {"labels": {"counterfoil.dev/request": None}}})
    for target in ("org/acme", "sender/anna"):
        for value in (True, False):
            await guarded.patch("console", target, {"spec": {"suspend": value}})


async def test_a_console_user_who_may_also_get_every_secret_changes_no_setting(
    guarded: GuardedNamespace,
) -> None:
    await guarded.user(
        "curious", (*CONSOLE_USER, {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]})
    )
    said = await guarded.refusal_of_patch(
        "curious", "org/acme", {"spec": {"baseURL": "https://b.example.com"}}
    )
    assert "every other change needs the verb update too" in said


@pytest.mark.parametrize("role", ["editor", "admin", GITOPS])
async def test_editors_admins_and_listed_accounts_set_everything(
    guarded: GuardedNamespace, role: str
) -> None:
    name = "of-" + role.rpartition(":")[2][:20]
    await guarded.create(role, an_organization(name))
    await guarded.create(role, an_archive(name, http=archive_place("a")))
    await guarded.create(role, a_sender(name, tokenSecretRef={"name": "a", "key": "b"}))
    await guarded.patch(role, f"org/{name}", {"spec": full("b", base="https://other.example.com")})
    await guarded.patch(role, f"archive/{name}", {"spec": {"http": archive_place("b")}})
    await guarded.patch(role, f"sender/{name}", {"spec": {"tokenSecretRef": {"name": "b", "key": "b"}}})


async def test_an_account_that_applies_on_the_server_needs_no_verb_update_if_listed(
    guarded: GuardedNamespace,
) -> None:
    await guarded.user("flux", tuple({**each, "verbs": ["get", "create", "patch"]} for each in WRITER))
    body = json.dumps(an_archive("by-apply", filesystem={"root": "/archive"}))
    apply = ("apply", "--server-side", "--field-manager=flux", "-f", "-")
    await guarded.as_user("flux", *apply, stdin=body)
    changed = json.dumps(an_archive("by-apply", filesystem={"root": "/other"}))
    with pytest.raises(KubectlError, match="needs the verb update too"):
        await guarded.as_user("flux", *apply, stdin=changed)
    await guarded.as_user(GITOPS, *apply, "--force-conflicts", stdin=changed)


async def test_a_user_who_reads_no_secret_writes_all_but_references(guarded: GuardedNamespace) -> None:
    await guarded.create("writer", an_archive("plain", filesystem={"root": "/archive"}))
    await guarded.create("writer", a_sender("plain"))
    await guarded.patch("writer", "archive/plain", {"spec": {"filesystem": {"root": "/other"}}})
    for spec in (
        {"cleanup": {"policy": "Keep"}, "suspend": True},
        {"suspend": False, "archiveRef": {"name": "plain"}},
        {"notifications": {"language": "de"}},
        {"oauth": {"clientID": "other"}},
    ):
        await guarded.patch("writer", "org/acme", {"spec": spec})
    await guarded.patch("writer", "archive/dms", {"spec": {"path": "{{envelope.id}}/{{file.name}}"}})


async def test_a_reference_may_be_taken_away_without_reading_it(guarded: GuardedNamespace) -> None:
    await guarded.apply(an_organization("fewer"), a_sender("fewer", tokenSecretRef={"name": "a", "key": "b"}))
    await guarded.patch("writer", "org/fewer", {"spec": {"webhook": None, "oauth": None}})
    await guarded.patch("writer", "sender/fewer", {"spec": {"tokenSecretRef": None}})
    # The same reference is a new one afterwards.
    again = {"spec": {"oauth": an_organization("fewer")["spec"]["oauth"]}}
    said = await guarded.refusal_of_patch("writer", "org/fewer", again)
    assert "create role get-oauth --verb=get --resource=secrets --resource-name=oauth" in said
    assert "--user=writer" in said


async def test_who_may_get_a_secret_names_it_and_directs_it(guarded: GuardedNamespace) -> None:
    await guarded.patch("reader", "org/acme", {"spec": {"webhook": {"url": "https://erp2.example.com/"}}})
    await guarded.patch(
        "reader", "archive/dms", {"spec": {"webdav": {"url": "https://dms2.example.com/dav"}}}
    )
    new = {"credentialsSecretRef": {"name": "new"}}
    await guarded.patch("reader", "archive/dms", {"spec": {"webdav": new}})
    other = {"credentialsSecretRef": {"name": "oauth"}}
    said = await guarded.refusal_of_patch("reader", "archive/dms", {"spec": {"webdav": other}})
    assert "--resource-name=oauth" in said
    said = await guarded.refusal_of_patch(
        "reader", "org/acme", {"spec": {"baseURL": "https://b.example.com"}}
    )
    assert "the right to get every Secret of the namespace" in said
    assert f"kubectl -n {guarded.name} create role get-secrets --verb=get --resource=secrets" in said


async def test_all_references_may_change_at_once_within_the_api_servers_limits(
    guarded: GuardedNamespace,
) -> None:
    await guarded.apply(an_organization("many"))
    names = [f"s{number}" for number in range(12)]
    await guarded.user("knows-all", WRITER + get_secrets(*names))
    await guarded.user("knows-eleven", WRITER + get_secrets(*names[:-1]))
    body = {"spec": full("s", numbered=True)}
    said = await guarded.refusal_of_patch("knows-eleven", "org/many", body)
    assert "--resource-name=s11" in said
    await guarded.until_accepted("knows-all", "patch", "org/many", "--type=merge", "-p", json.dumps(body))


async def test_a_viewer_changes_nothing(guarded: GuardedNamespace) -> None:
    with pytest.raises(KubectlError, match="cannot patch resource"):
        await guarded.patch("viewer", "org/acme", {"spec": {"suspend": True}})


def full(secret: str, *, numbered: bool = False, base: str = "https://esaw.example.com") -> dict[str, Any]:
    """Return the spec of an Organization with each reference that it can have; numbered: to 12 Secrets."""
    spec: dict[str, Any] = copy.deepcopy(an_organization("x")["spec"])
    numbers = iter(range(12))

    def ref() -> dict[str, str]:
        return {"name": f"{secret}{next(numbers)}" if numbered else secret}

    spec["baseURL"] = base
    spec["callback"]["tokenSecretRefs"] = [{**ref(), "key": f"k{index}"} for index in range(8)]
    spec["callback"]["basicAuthSecretRef"] = ref()
    spec["oauth"]["clientSecretRef"] = {**ref(), "key": "k"}
    spec["notifications"] = {"smtpSecretRef": ref()}
    spec["webhook"]["signingSecretRef"] = {**ref(), "key": "k"}
    return spec


def archive_place(secret: str) -> dict[str, Any]:
    return {"url": f"https://{secret}.example.com/in", "credentialsSecretRef": {"name": secret}}

"""
S1: a user who may change an Organization, a Sender or an Archive sends keys and Secrets to their own host.

Only the API server with the chart's admission policies refuses the attacks here.
"""

import json
from typing import Any

import pytest

from sandbox.controlplane.control_plane import ControlPlane
from tests.support.scenes.admission import (
    CONSOLE_USER,
    WRITER,
    GuardedNamespace,
    a_sender,
    an_archive,
    an_organization,
    guarded_namespace,
)

EVIL = "https://evil.example.com"
SEALING_KEY = {"name": "counterfoil-sealing-keys", "key": "0-generated"}
OBJECTS = (
    an_organization("acme"),
    a_sender("anna"),
    an_archive("dms", webdav={"url": "https://dms.example.com/dav", "credentialsSecretRef": {"name": "dms"}}),
)


@pytest.fixture(scope="module", name="guarded")
async def _guarded(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> GuardedNamespace:
    await plane.namespace("attacked-by-references")
    guarded = await guarded_namespace(plane, "attacked-by-references", tmp_path_factory.mktemp("chart"))
    await guarded.user("mallory", CONSOLE_USER)
    await guarded.user("writer", WRITER)
    await guarded.apply(*OBJECTS)
    return guarded


ATTACKS: dict[str, tuple[str, dict[str, Any]]] = {
    "the sealing key as the client secret": (
        "org/acme",
        {"baseURL": EVIL, "oauth": {"clientSecretRef": SEALING_KEY}},
    ),
    "the sealing key as the client secret, same host": (
        "org/acme",
        {"oauth": {"clientSecretRef": SEALING_KEY}},
    ),
    "every sender's key by the address": ("org/acme", {"baseURL": EVIL}),
    "every code by the path": ("org/acme", {"oauth": {"authorizePath": "/mallory"}}),
    "every code by the redirect URI": ("org/acme", {"oauth": {"publicURL": EVIL}}),
    "the client secret by the path": ("org/acme", {"oauth": {"tokenPath": "/mallory"}}),
    "a Secret's hash as a callback token": (
        "org/acme",
        {"callback": {"tokenSecretRefs": [{"name": "callback", "key": "token"}, SEALING_KEY]}},
    ),
    "another key of the same Secret": (
        "org/acme",
        {"callback": {"tokenSecretRefs": [{"name": "callback", "key": "other"}]}},
    ),
    "a Secret as the password of callbacks": (
        "org/acme",
        {"callback": {"basicAuthSecretRef": {"name": SEALING_KEY["name"]}}},
    ),
    "signatures for another receiver": ("org/acme", {"webhook": {"url": EVIL}}),
    "a Secret as the signing secret": ("org/acme", {"webhook": {"signingSecretRef": SEALING_KEY}}),
    "a Secret as the mail server": (
        "org/acme",
        {"notifications": {"smtpSecretRef": {"name": SEALING_KEY["name"]}}},
    ),
    "a Secret as a sender's key": ("sender/anna", {"tokenSecretRef": SEALING_KEY}),
    "the archive's password by the address": ("archive/dms", {"webdav": {"url": EVIL}}),
    "a Secret as the archive's password": (
        "archive/dms",
        {"webdav": {"credentialsSecretRef": {"name": "counterfoil-sealing-keys"}}},
    ),
    "a Secret as trust anchors": ("archive/dms", {"trustAnchorsSecretRef": {"name": SEALING_KEY["name"]}}),
}


@pytest.mark.parametrize(("target", "spec"), ATTACKS.values(), ids=ATTACKS.keys())
async def test_no_key_is_redirected_by_a_change(
    guarded: GuardedNamespace, target: str, spec: dict[str, Any]
) -> None:
    said = await guarded.refusal_of_patch("writer", target, {"spec": spec})
    assert "needs the right to get" in said
    assert f"kubectl -n {guarded.name} create role" in said
    # The API server names one policy, also if several refuse.
    said = await guarded.refusal_of_patch("mallory", target, {"spec": spec})
    assert "needs the right to get" in said or "spec.suspend, labels and annotations" in said


CREATED: dict[str, dict[str, Any]] = {
    "an Organization": an_organization("mallory", baseURL=EVIL),
    "a Sender with a key of others": a_sender("mallory", tokenSecretRef=SEALING_KEY),
    "an Archive with a password of others": an_archive(
        "mallory", http={"url": EVIL, "credentialsSecretRef": {"name": "dms"}}
    ),
    "an Archive of a kind of others": an_archive(
        "mallory", custom={"kind": "acme", "credentialsSecretRef": {"name": "dms"}}
    ),
}


@pytest.mark.parametrize("body", CREATED.values(), ids=CREATED.keys())
async def test_no_key_is_redirected_by_a_new_object(guarded: GuardedNamespace, body: dict[str, Any]) -> None:
    assert "needs the right to get" in await guarded.refusal_of_create("writer", body)


async def test_an_organization_is_not_replaced_by_one_with_another_address(guarded: GuardedNamespace) -> None:
    await guarded.apply(an_organization("replaced"))
    await guarded.as_user("writer", "delete", "org", "replaced")
    body = an_organization("replaced", baseURL=EVIL)
    assert "needs the right to get" in await guarded.refusal_of_create("writer", body)


@pytest.mark.parametrize(
    ("target", "spec"),
    [
        ("org/acme", {"cleanup": {"policy": "Delete"}}),
        ("org/acme", {"archiveRef": {"name": "of-mallory"}}),
        ("org/acme", {"notifications": {"consoleURL": EVIL}}),
        ("org/acme", {"oauth": {"clientID": "of-mallory"}}),
        (
            "org/acme",
            {"suspend": True, "archiveRef": None, "actions": [{"action": "x", "handling": "Record"}]},
        ),
        ("sender/anna", {"email": "mallory@example.com"}),
        ("archive/dms", {"path": "{{envelope.id}}/{{file.name}}"}),
        ("archive/dms", {"signatures": "Ignore"}),
    ],
)
async def test_a_console_user_changes_no_setting(
    guarded: GuardedNamespace, target: str, spec: dict[str, Any]
) -> None:
    said = await guarded.refusal_of_patch("mallory", target, {"spec": spec})
    assert "spec.suspend, labels and annotations" in said
    kind = {"org": "organizations", "sender": "senders", "archive": "archives"}[target.partition("/")[0]]
    role = f"create role update-{kind} --verb=update --resource={kind}.counterfoil.dev"
    assert f"kubectl -n {guarded.name} {role} && kubectl -n {guarded.name} create rolebinding" in said
    assert "edit" not in said


async def test_a_console_user_neither_leaves_an_object_without_owner_nor_with_one(
    guarded: GuardedNamespace,
) -> None:
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "0"}
    for metadata in ({"ownerReferences": [owner]}, {"finalizers": ["counterfoil.dev/never"]}):
        said = await guarded.refusal_of_patch("mallory", "org/acme", {"metadata": metadata})
        assert "spec.suspend, labels and annotations" in said


async def test_without_the_policies_each_attack_is_accepted(plane: ControlPlane, namespace: str) -> None:
    open_ = GuardedNamespace(plane, namespace)
    await open_.user("mallory", CONSOLE_USER)
    await open_.user("writer", WRITER)
    await open_.apply(*OBJECTS)
    for target, spec in ATTACKS.values():
        body = json.dumps({"spec": spec})
        for user in ("mallory", "writer"):
            await open_.until_accepted(user, "patch", target, "--type=merge", "-p", body)
    for body_ in CREATED.values():
        await open_.until_accepted("writer", "create", "-f", "-", stdin=json.dumps(body_))

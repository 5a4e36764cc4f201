"""
S1: a user who may change an Organization, a Sender or an Archive sends any Secret to a host of their choice.

The user reads no Secret: they write its name into a spec, and read statuses. Real processes with the chart's
rights, a real API server, no admission policies.
"""

import base64
import hashlib
import json
import re
import secrets
import shlex
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from counterfoil.callback_auth import is_valid_token
from counterfoil.kube.secret import USE_LABEL
from counterfoil.origin import ORIGIN_ANNOTATION
from counterfoil.resources import Archive, Organization, Phase, Sender
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.environment.processes import CounterfoilProcess
from sandbox.servers.plain_http import plain_http
from tests.support.scenes.controller import ControllerScene, a_controller_scene
from tests.support.servers.scripted_esaw import ScriptedServer, answering, running

NOT_LABELLED = ("False", "SecretNotLabelled")
OTHER_KEY = "key-name-that-only-the-secret-has"

VICTIMS: dict[str, tuple[str, Callable[[str], str | None]]] = {
    "sealing": ("Opaque", lambda use: "sealing"),
    "unlabelled": ("Opaque", lambda use: None),
    "other": ("Opaque", lambda use: "smtp"),
    "robot": ("kubernetes.io/service-account-token", lambda use: use),
    "sealed": ("counterfoil.dev/sealed-token", lambda use: use),
}
"""Type of each attacked Secret, and its label: the last two would be readable if the label alone decided."""


@dataclass
class Attacked:
    """A namespace with a controller and pages, and the attacker's server."""

    scene: ControllerScene
    pages: CounterfoilProcess
    host: ScriptedServer

    async def victims(self, use: str) -> dict[str, str]:
        """Create the attacked Secrets for one use; return their values by name."""
        values = {f"{kind}-{use}": usable_value(use) for kind in VICTIMS}
        for (name, value), (type_, label) in zip(values.items(), VICTIMS.values(), strict=True):
            labels = {} if label(use) is None else {USE_LABEL: label(use)}
            # As if the attacked Secret belonged to the attacker's server: the label alone has to hold.
            annotations = {ORIGIN_ANNOTATION: self.host.url}
            if "service" in type_:
                annotations["kubernetes.io/service-account.name"] = "pages"
            keys = ("0-generated", "token", "bearerToken", OTHER_KEY)
            await self.scene.local_environment.apply(
                {
                    "apiVersion": "v1",
                    "kind": "Secret",
                    "metadata": {"name": name, "labels": labels, "annotations": annotations},
                    "type": type_,
                    "stringData": dict.fromkeys(keys, value),
                }
            )
        return values

    async def organization(self, name: str, **spec: Any) -> None:
        """Create an Organization whose eSAW is the attacker's server."""
        await self.scene.local_environment.organization(name, archive="dms", baseURL=self.host.url, **spec)

    async def nothing_left(self, values: dict[str, str]) -> None:
        """No value reached the attacker's server, and no object tells anything of a Secret."""
        for request in self.host.received:
            sent = f"{request.target} {request.headers} {request.body.decode('latin-1')}"
            assert not [name for name, value in values.items() if value in sent], sent
        kinds = "organizations,senders,archives,envelopeevents,events.events.k8s.io"
        told = await self.scene.local_environment.kubectl("get", kinds, "-o", "json")
        for value in values.values():
            assert value not in told
            assert hashlib.sha256(value.encode()).hexdigest() not in told
        assert OTHER_KEY not in told

    async def message(self, kind: type[Organization | Sender | Archive], name: str, type_: str) -> str:
        """Wait until a condition is False for the label; return its message."""
        try:
            await self.scene.until_condition(kind, name, type_, NOT_LABELLED)
        except TimeoutError:
            condition = await self.scene.condition_of(kind, name, type_)
            raise AssertionError(f"Secret/{name} was read: {type_} is {condition}") from None
        found = kind.parse(await self.scene.kube.get(kind, name))
        return next(each.message for each in found.status.conditions if each.type == type_)


def usable_value(use: str) -> str:
    """Return a random value that works for a use, so that only the label is in the way."""
    if use == "webhook":
        return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
    return f"value-{uuid.uuid4().hex}"


@pytest.fixture(scope="module")
async def attacked(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Attacked]:
    async with (
        a_controller_scene(plane, tmp_path_factory.mktemp("labels")) as scene,
        running(answering(b"{}", 200)) as host,
    ):
        yield Attacked(scene, await scene.local_environment.pages(), host)


async def test_no_secret_leaves_as_the_client_secret(attacked: Attacked) -> None:
    values = await attacked.victims("oauth")
    for name in values:
        ref = {"name": name, "key": "0-generated"}
        oauth = {"clientID": "c", "clientSecretRef": ref, "publicURL": attacked.pages.public}
        await attacked.organization(name, oauth=oauth, beforeSend={"inboxURL": attacked.host.url})
        query = f"draftId={uuid.uuid4()}&userId={uuid.uuid4()}&organizationId={uuid.uuid4()}"

        async with plain_http(timeout=60) as browser:
            answer = await browser.get(f"{attacked.pages.public}/before-send/{name}?{query}")

        assert "name this page: not_configured" in answer.text
        assert OTHER_KEY not in answer.text
        await attacked.message(Organization, name, "Ready")
    assert not [each for each in attacked.host.received if each.method == "POST"]
    await attacked.nothing_left(values)


async def test_no_secret_leaves_as_a_senders_key(attacked: Attacked) -> None:
    values = await attacked.victims("token")
    await attacked.organization("tokens")
    user = attacked.scene.user("Mallory")
    for name in values:
        await attacked.scene.local_environment.sender(name, user, organization="tokens")
        changes = {"spec": {"tokenSecretRef": {"name": name, "key": "token"}}}
        await attacked.scene.kube.patch(Sender, name, changes)
    for name in values:
        assert name in await attacked.message(Sender, name, "Authorized")
    await attacked.nothing_left(values)


async def test_no_secret_leaves_as_the_credentials_of_an_archive(attacked: Attacked) -> None:
    values = await attacked.victims("archive")
    for name in values:
        webdav = {"url": attacked.host.url, "credentialsSecretRef": {"name": name}}
        await attacked.scene.local_environment.archive(name, webdav=webdav)
    for name in values:
        assert name in await attacked.message(Archive, name, "Ready")
    await attacked.nothing_left(values)


async def test_no_secret_is_read_as_trust_anchors(attacked: Attacked) -> None:
    values = await attacked.victims("trust")
    root = {"root": str(attacked.scene.archive)}
    for name in values:
        ref = {"name": name}
        await attacked.scene.local_environment.archive(name, filesystem=root, trustAnchorsSecretRef=ref)
    for name in values:
        assert name in await attacked.message(Archive, name, "Ready")
    await attacked.nothing_left(values)


async def test_no_secret_signs_notices(attacked: Attacked) -> None:
    values = await attacked.victims("webhook")
    for name in values:
        ref = {"name": name, "key": "token"}
        webhook = {"url": f"{attacked.host.url}/hook", "signingSecretRef": ref}
        await attacked.organization(name, webhook=webhook)
    for name in values:
        message = await attacked.message(Organization, name, "Ready")
        assert name in message
        assert "whsec_" not in message, "nothing is said about the value"
    await attacked.nothing_left(values)


async def test_no_secret_can_be_guessed_by_the_hash_of_a_callback_token(attacked: Attacked) -> None:
    values = await attacked.victims("callback")
    for name in values:
        refs = [{"name": f"{name}-callback", "key": "token"}, {"name": name, "key": "0-generated"}]
        await attacked.organization(name, callback={"tokenSecretRefs": refs})
    for name, value in values.items():
        assert name in await attacked.message(Organization, name, "Ready")
        status = Organization.parse(await attacked.scene.kube.get(Organization, name)).status
        assert len(status.callback_token_hashes) == 1
        assert not is_valid_token(value, status.callback_token_hashes)
    await attacked.nothing_left(values)


async def test_no_sender_without_a_reference_is_served_from_a_secret_of_its_name(attacked: Attacked) -> None:
    values = await attacked.victims("names")
    await attacked.organization("names")
    for name in values:
        spec = {"organizationRef": {"name": "names"}, "userID": str(uuid.uuid4())}
        sender = {"apiVersion": "counterfoil.dev/v1beta1", "kind": "Sender", "metadata": {"name": name}}
        await attacked.scene.local_environment.apply({**sender, "spec": spec})
    for name in values:
        reason = "SealBroken" if name == "sealed-names" else "KeyNotConfigured"
        await attacked.scene.until_condition(Sender, name, "Authorized", ("False", reason))
    await attacked.nothing_left(values)


async def test_the_hashes_in_a_status_confirm_no_value_without_its_salt(attacked: Attacked) -> None:
    await attacked.scene.local_environment.ready("organization/acme")
    token = attacked.scene.local_environment.tokens["acme"]
    read = Organization.parse(await attacked.scene.kube.get(Organization, "acme")).status
    assert is_valid_token(token, read.callback_token_hashes)
    assert hashlib.sha256(token.encode()).hexdigest() not in json.dumps(read.callback_token_hashes)


async def test_what_waited_continues_when_the_command_in_the_message_was_typed(attacked: Attacked) -> None:
    scene = attacked.scene
    built, user = scene.local_environment, scene.user("Late")
    await built.sender("late", user, organization="late")
    await built.organization("late", archive="dms", sender="late")
    # Another eSAW of this namespace was first.
    await built.kubectl("annotate", "secret", "late-key", f"{ORIGIN_ANNOTATION}={scene.esaw.url}")
    await built.kubectl("label", "secret", "late-key", f"{USE_LABEL}-")
    await scene.until_condition(Sender, "late", "Authorized", NOT_LABELLED)
    event = await scene.note(scene.envelope(user), "late")
    waiting = await scene.reaches(event, Phase.AWAITING_CONSENT, "SecretNotLabelled")

    (command,) = re.findall(r"`kubectl (.*)`", waiting.status.message or "")
    await built.kubectl(*shlex.split(command))

    await scene.reaches(event, Phase.SUCCEEDED)
    await scene.until_condition(Sender, "late", "Authorized", ("True", "KeyAccepted"))

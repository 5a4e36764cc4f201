"""
S1: each lock alone holds the attack.

A user who reads no Secret wants a key to be sent to their host. Three locks are in the way: the admission
policies, the labels of use, and the origins. Each test attacks through one lock, with the other two switched
off: there are no policies, the Secret has the label for the use that the user wants, and the Secret names the
user's host as its origin. Without all three, each attack succeeds. Real processes and a real API server.

The labels do not hold ``SAME_SECRET``: its Secret has the right label before the attack.
"""

import base64
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from counterfoil.kube.secret import SecretUse
from counterfoil.resources import REQUEST_LABEL, Archive, Organization, Sender
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.controlplane.kubectl import KubectlError
from tests.support.pauses import eventually
from tests.support.scenes.admission import WRITER, GuardedNamespace, guarded_namespace
from tests.support.scenes.controller import ControllerScene, a_controller_scene
from tests.support.servers.scripted_esaw import Received, ScriptedServer, answering, running

HOST = "https://host.of.the.user"
"""Stands for the user's host, whose port is known later."""
HOME = "https://dms.invalid"
"""The server to which the password of the archive belongs; nothing is sent there without a password."""
KEY = "0-generated"
OTHER_USE = "sealing"
"""A label that no spec can name."""
REFUSED_AS_ESAW = answering({"ErrorId": "ERR0010", "Message": "no"}, 401)
"""The answer of eSAW itself to an unknown key, so that the host looks like eSAW."""


@dataclass(frozen=True)
class Attack:
    """The changes that the user makes, and the Secret that these changes are for."""

    secret: str
    use: SecretUse
    specs: dict[str, dict[str, Any]]
    """Changes of specs, by ``kind/name``; HOST stands for the user's host."""
    judged: tuple[type[Organization | Sender | Archive], str, str]
    """Kind, name and condition by which the controller reports that it does not send the Secret."""
    origin: str | None = None
    """Origin that the Secret names; None: the controller knows its first origin."""


SEALING_KEY = Attack(
    "counterfoil-sealing-keys",
    SecretUse.OAUTH,
    {
        "organization/client": {
            "baseURL": HOST,
            "oauth": {
                "clientID": "mallory",
                "clientSecretRef": {"name": "counterfoil-sealing-keys", "key": KEY},
            },
        }
    },
    (Organization, "client", "Ready"),
)
SAME_SECRET = Attack(
    "moved-key",
    SecretUse.TOKEN,
    {"organization/moved": {"baseURL": HOST}},
    (Sender, "moved", "Authorized"),
)
SENDERS_KEY = Attack(
    "key-of-others",
    SecretUse.TOKEN,
    {
        "organization/named": {"baseURL": HOST},
        "sender/named": {"tokenSecretRef": {"name": "key-of-others", "key": KEY}},
    },
    (Sender, "named", "Authorized"),
)
PASSWORD = Attack(
    "password-of-others",
    SecretUse.ARCHIVE,
    {"archive/vault": {"webdav": {"url": HOST, "credentialsSecretRef": {"name": "password-of-others"}}}},
    (Archive, "vault", "Ready"),
    origin=HOME,
)
ATTACKS = {
    "the sealing key as the client secret": SEALING_KEY,
    "a sender's key by the address": SAME_SECRET,
    "a Secret as a sender's key": SENDERS_KEY,
    "a Secret as the password of an archive": PASSWORD,
}


class Attacked:
    """A namespace with a controller, in which some of the locks are on."""

    def __init__(self, scene: ControllerScene, host: ScriptedServer, locks: tuple[str, ...]) -> None:
        self.scene = scene
        self.host = host
        self.locks = locks
        self.user = GuardedNamespace(scene.local_environment.plane, scene.local_environment.namespace)
        self.values: dict[str, str] = {}
        """The content of the attacked Secrets, by the attack."""

    async def prepare(self, attack: Attack) -> None:
        """Make the objects of an attack, and switch labels and origin off at its Secret."""
        kind, name, _ = attack.judged
        environment = self.scene.local_environment
        origin = attack.origin if "origin" in self.locks else self.host.url
        if kind is Archive:
            await environment.archive(name, webdav={"url": HOME})
        else:
            user = await self.scene.organization(name)
            await environment.ready(f"organization/{name}")
        if attack is SAME_SECRET:
            self.values[attack.secret] = user.token
            await environment.secret(attack.secret, attack.use, origin=origin, token=user.token)
            return
        self.values[attack.secret] = value = f"wanted-{uuid.uuid4().hex}"
        label = OTHER_USE if "labels" in self.locks else attack.use
        await environment.secret(attack.secret, label, origin=origin, **{KEY: value, "bearerToken": value})

    async def attack(self, attack: Attack) -> list[str]:
        """Change the specs as the user; return the errors of the API server."""
        errors = []
        for target, spec in attack.specs.items():
            body = json.loads(json.dumps({"spec": spec}).replace(HOST, self.host.url))
            try:
                await self.user.patch("writer", target, body)
            except KubectlError as error:
                errors.append(str(error))
        if attack.judged[0] is Organization:
            request = {"metadata": {"labels": {REQUEST_LABEL: "check"}}}
            await self.user.patch("writer", f"organization/{attack.judged[1]}", request)
        return errors

    async def refused(self, attack: Attack, *reasons: str) -> None:
        """Wait until the controller refuses to send the Secret, and has tried it in each way."""
        kind, name, condition = attack.judged

        async def is_refused() -> bool:
            assert not self.has(attack), f"the user's host received {attack.secret}"
            return await self.scene.condition_of(kind, name, condition) in [
                ("False", each) for each in reasons
            ]

        await eventually(is_refused)
        if kind is Organization:
            await self.scene.answered(Organization, name)

    def has(self, attack: Attack) -> bool:
        """Whether the user's host received the Secret."""
        return any(self.values[attack.secret] in text_of(each) for each in self.host.received)


def text_of(request: Received) -> str:
    """Return all of a request, with name and password of basic authentication."""
    authorization = request.headers.get("authorization", "")
    basic = authorization.removeprefix("Basic ") if authorization.startswith("Basic ") else ""
    decoded = base64.b64decode(basic).decode("latin-1")
    return f"{request.target} {request.headers} {decoded} {request.body.decode('latin-1')}"


@asynccontextmanager
async def attacked(plane: ControlPlane, folder: Path, *locks: str) -> AsyncIterator[Attacked]:
    """Run a controller with these locks alone; the objects of all attacks exist."""
    async with a_controller_scene(plane, folder) as scene, running(REFUSED_AS_ESAW) as host:
        built = Attacked(scene, host, locks)
        for attack in ATTACKS.values():
            await built.prepare(attack)
        await built.user.user("writer", WRITER)
        if "admission" in locks:
            await guarded_namespace(plane, scene.local_environment.namespace, folder)
        await built.user.until_accepted("writer", "label", "archive", "vault", "a=b")
        yield built


async def test_the_admission_policies_alone_hold_each_attack(plane: ControlPlane, tmp_path: Path) -> None:
    async with attacked(plane, tmp_path, "admission") as built:
        for attack in ATTACKS.values():
            errors = await built.attack(attack)
            assert len(errors) == len(attack.specs)
            assert all("needs the right to get" in each for each in errors)
        assert not [name for name, attack in ATTACKS.items() if built.has(attack)]
        assert built.host.received == []


async def test_the_labels_alone_hold_each_attack_on_a_secret_of_another_use(
    plane: ControlPlane, tmp_path: Path
) -> None:
    others = [each for each in ATTACKS.values() if each is not SAME_SECRET]
    async with attacked(plane, tmp_path, "labels") as built:
        for attack in others:
            assert await built.attack(attack) == []
        for attack in others:
            await built.refused(attack, "SecretNotLabelled")
        assert not [attack.secret for attack in others if built.has(attack)]


async def test_the_origins_alone_hold_each_attack(plane: ControlPlane, tmp_path: Path) -> None:
    async with attacked(plane, tmp_path, "origin") as built:
        for attack in ATTACKS.values():
            assert await built.attack(attack) == []
        for attack in ATTACKS.values():
            await built.refused(attack, "OriginChanged", "OriginUnknown")
        assert not [name for name, attack in ATTACKS.items() if built.has(attack)]


async def test_without_the_three_locks_each_attack_succeeds(plane: ControlPlane, tmp_path: Path) -> None:
    async with attacked(plane, tmp_path) as built:
        for attack in ATTACKS.values():
            assert await built.attack(attack) == []

        async def has_all() -> bool:
            return all(map(built.has, ATTACKS.values()))

        await eventually(has_all)

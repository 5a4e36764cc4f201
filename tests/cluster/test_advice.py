"""
The advice about Organizations, Senders and events is followed as it is printed, and the work continues.

A real controller, a real API server, and people who type at kubectl and its plugin.
"""

import asyncio
import json
import re
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from counterfoil.i18n.key_advice import key_advice
from counterfoil.i18n.reasons import CATALOGUE
from counterfoil.kube.errors import AlreadyExists
from counterfoil.kube.secret import Placeholder
from counterfoil.resources import (
    EnvelopeEvent,
    Organization,
    Phase,
    Sender,
    envelope_id,
    event_name,
    find_condition,
)
from counterfoil.resources.event_factory import new_event
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.environment.processes import CounterfoilProcess
from sandbox.esaw import Behaviour, CallbackUrls, DocumentSpec, User
from tests.support.advice import type_line
from tests.support.pauses import eventually
from tests.support.repository import ROOT
from tests.support.scenes.controller import ControllerScene
from tests.support.scenes.plugin import Terminal, a_scene_with_people, terminal

TOKEN = "c0ffee" * 8
COMMAND = re.compile(r"`(kubectl [^`]*)`")


@dataclass
class People:
    """A namespace with a controller and a receiver, and its administrator."""

    scene: ControllerScene
    plugin: Terminal
    receiver: CounterfoilProcess

    async def kubectl(self, *words: str, stdin: str | None = None) -> str:
        return await self.scene.local_environment.kubectl(*words, stdin=stdin)

    async def patch(self, target: str, **spec: Any) -> None:
        await self.kubectl("patch", target, "--type=merge", "-p", json.dumps({"spec": spec}))

    async def types(self, message: str, values: dict[Placeholder, str], *, only: str = "") -> None:
        """Type the commands in a message, those with a certain text, with real values for placeholders."""
        commands = [each for each in COMMAND.findall(message) if only in each]
        assert commands, message
        for placeholder, value in values.items():
            commands = [each.replace(placeholder, value) for each in commands]
        for command in commands:
            await type_line(self.kubectl, command)

    async def message(self, kind: type[Organization | Sender], name: str, type_: str, reason: str) -> str:
        """Wait until a condition is False for a reason; return its message."""
        await self.scene.until_condition(kind, name, type_, ("False", reason))
        read = kind.parse(await self.scene.kube.get(kind, name))
        found = find_condition(read.status.conditions, type_)
        assert found is not None
        return found.message

    async def confirms(self, name: str, reason: str) -> None:
        """Type the command that confirms the key of a Sender for its address, once the condition has it."""
        found = list[str]()

        async def is_printed() -> bool:
            found[:] = [await self.message(Sender, name, "Authorized", reason)]
            return COMMAND.search(found[0]) is not None

        await eventually(is_printed)
        await self.types(found[0], {})

    async def own(self, name: str, **spec: Any) -> User:
        """Make an Organization with a Sender of its name, which has a key of this eSAW."""
        user = self.scene.user(name.capitalize())
        esaw = self.scene.esaw.url
        await self.scene.local_environment.sender(name, user, organization=name, origin=esaw)
        await self.scene.local_environment.organization(name, archive="dms", sender=name, **spec)
        await self.scene.has_swept(name)
        return user

    async def is_archived(self, name: str, envelope: str) -> None:
        """Wait until the envelope, about which eSAW calls, is archived."""
        event = event_name(name, envelope_id(envelope), "envelopeFinished")
        await self.scene.esaw.complete(envelope)
        await self.scene.esaw.callbacks_settled()
        await self.scene.reaches(event, Phase.SUCCEEDED)

    def sent(self, user: User, url: str) -> str:
        """Send an envelope about whose end eSAW calls a URL."""
        documents = [DocumentSpec(name="contract.pdf", size=1000)]
        return self.scene.esaw.add_envelope(
            sender=user, status="Active", documents=documents, callbacks=CallbackUrls(envelope=url)
        )


@pytest.fixture(scope="module")
async def people(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[People]:
    async with a_scene_with_people(plane, tmp_path_factory.mktemp("advice")) as scene:
        receiver = await scene.local_environment.receiver()
        yield People(scene, await terminal(scene, "administrator"), receiver)


# -- Callbacks -----------------------------------------------------------------------------------------------

LOGIN = {Placeholder.USERNAME: "esaw", Placeholder.PASSWORD: "correct-horse"}


@dataclass(frozen=True)
class Callback:
    """A fault in the Secrets of callbacks, and its correction."""

    callback: dict[str, Any]
    secret: dict[str, str] | None = None
    """The content of the Secret ``NAME-esaw``; None: it does not exist."""
    values: dict[Placeholder, str] = field(default_factory=dict)
    """Values for the placeholders of the commands; empty: the Secret is changed by hand."""
    login: str = ""


REFS = [{"name": "{name}-esaw", "key": "token"}]
BASIC = {"tokenSecretRefs": [{"name": "{name}-callback", "key": "token"}]} | {
    "basicAuthSecretRef": {"name": "{name}-esaw"}
}
CALLBACKS = {
    "CallbackTokenMissing": Callback({"tokenSecretRefs": REFS}, None, {Placeholder.TOKEN: TOKEN}),
    "CallbackTokenRefused": Callback({"tokenSecretRefs": REFS}, {"token": "short"}),
    "BasicAuthMissing": Callback(BASIC, None, LOGIN, "esaw:correct-horse@"),
    "BasicAuthRefused": Callback(BASIC, {"username": "esaw", "password": ""}, {}, "esaw:correct-horse@"),
}


@pytest.mark.parametrize("reason", CALLBACKS)
async def test_what_callbacks_lack_is_put_there_and_a_callback_is_archived(
    people: People, reason: str
) -> None:
    case, name, built = CALLBACKS[reason], reason.lower(), people.scene.local_environment
    if case.secret is not None:
        await built.secret(f"{name}-esaw", "callback", **case.secret)
    callback = json.loads(json.dumps(case.callback).replace("{name}", name))
    user = await people.own(name, callback=callback)
    message = await people.message(Organization, name, "Ready", reason)

    if case.values:
        await people.types(message, case.values)
    else:
        corrected = {"username": "esaw", "password": "correct-horse"} if case.login else {"token": TOKEN}
        await built.secret(f"{name}-esaw", "callback", **corrected)

    await people.scene.until_condition(Organization, name, "Ready", ("True", "Ready"))
    token = built.tokens[name] if case.login else TOKEN
    url = built.callback_url(name, people.receiver).replace(built.tokens[name], token)
    await people.is_archived(name, people.sent(user, url.replace("://", f"://{case.login}")))


async def test_a_role_gets_its_right_again_and_no_secret_is_touched(people: People) -> None:
    name, built = "secretforbidden", people.scene.local_environment
    user = await people.own(name)
    await people.scene.until_condition(Organization, name, "Ready", ("True", "Ready"))
    role = json.loads(await people.kubectl("get", "role", "controller", "-o", "json"))
    others = [each for each in role["rules"] if each["resources"] != ["secrets"]]
    assert len(others) < len(role["rules"])

    async def rules(wanted: list[dict[str, Any]]) -> None:
        await people.kubectl(
            "patch", "role", "controller", "--type=merge", "-p", json.dumps({"rules": wanted})
        )

    await rules(others)
    try:
        message = await people.message(Organization, name, "Ready", "SecretForbidden")
        assert "There is nothing to create or to replace" in message
        assert "kubectl" not in message
        envelope = people.sent(user, built.callback_url(name, people.receiver))
        await people.scene.esaw.complete(envelope)
        await people.scene.esaw.callbacks_settled()
    finally:
        await rules(role["rules"])

    await people.scene.until_condition(Organization, name, "Ready", ("True", "Ready"))
    event = event_name(name, envelope_id(envelope), "envelopeFinished")
    await people.scene.reaches(event, Phase.SUCCEEDED)


# -- Organizations -------------------------------------------------------------------------------------------

OAUTH = {
    "clientID": "counterfoil",
    "clientSecretRef": {"name": "oauth-{name}", "key": "secret"},
    "publicURL": "https://sign.acme.example",
}
FIELDS = [{"name": "number", "label": "Number", "pattern": r"\pL{1000}"}]


async def the_client_secret(people: People, name: str) -> User:
    oauth = json.loads(json.dumps(OAUTH).replace("{name}", name))
    user = await people.own(name, oauth=oauth)
    message = await people.message(Organization, name, "Ready", "ClientSecretMissing")
    await people.types(message, {Placeholder.CLIENT_SECRET: "a-secret"})
    return user


async def the_public_address(people: People, name: str) -> User:
    await people.scene.local_environment.secret(f"oauth-{name}", "oauth", secret="a-secret")
    oauth = json.loads(json.dumps(OAUTH).replace("{name}", name))
    user = await people.own(name, oauth={**oauth, "publicURL": "https://sign.acme.example:444"})
    message = await people.message(Organization, name, "Ready", "CallbackURLUnusable")
    assert "spec.oauth.publicURL" in message
    await people.patch(f"org/{name}", oauth={"publicURL": "https://sign.acme.example"})
    return user


async def the_pattern(people: People, name: str) -> User:
    user = await people.own(name, beforeSend={"fields": FIELDS, "inboxURL": "https://esaw.acme.example/"})
    await people.message(Organization, name, "Ready", "FieldPatternInvalid")
    await people.patch(f"org/{name}", beforeSend={"fields": [{**FIELDS[0], "pattern": "[0-9]+"}]})
    return user


async def the_address_of_esaw(people: People, name: str) -> User:
    user = await people.own(name, baseURL="https://169.254.169.254")
    await people.message(Organization, name, "Ready", "EsawAddressForbidden")
    await people.patch(f"org/{name}", baseURL=people.scene.esaw.url)
    return user


async def the_default_sender(people: People, name: str) -> User:
    user = await people.own(name, defaultSenderRef={"name": "anna"})
    await people.message(Organization, name, "Ready", "SenderOfOtherOrganization")
    await people.patch(f"org/{name}", defaultSenderRef={"name": name})
    return user


async def the_unknown_envelopes(people: People, name: str) -> User:
    user = await people.own(name, limits={"unknownEnvelopes": 100}, suspend=True)
    # Of now: an older one may be removed before all are counted.
    ended = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    unknown = {"phase": "Failed", "reason": "EnvelopeNotFound", "completionTime": ended}

    async def fail(number: int) -> None:
        event = await people.scene.note(f"{number:08}-4b1d-4c58-9a57-6d1f0a3b2c4d", name)
        await people.scene.is_so(event, lambda each: each.status.reason == "OrganizationSuspended")
        await people.scene.kube.patch_status(EnvelopeEvent, event, unknown, resource_version=None)

    await asyncio.gather(*(fail(number) for number in range(90)))
    await people.patch(f"org/{name}", suspend=False)
    message = await people.message(Organization, name, "Ready", "TooManyUnknownEnvelopes")
    await people.types(message, {})
    return user


ORGANIZATIONS: dict[str, Callable[[People, str], Awaitable[User]]] = {
    "ClientSecretMissing": the_client_secret,
    "CallbackURLUnusable": the_public_address,
    "FieldPatternInvalid": the_pattern,
    "EsawAddressForbidden": the_address_of_esaw,
    "SenderOfOtherOrganization": the_default_sender,
    "TooManyUnknownEnvelopes": the_unknown_envelopes,
}


@pytest.mark.parametrize("reason", ORGANIZATIONS)
async def test_an_organization_is_corrected_as_its_reason_says_and_its_envelopes_are_archived(
    people: People, reason: str
) -> None:
    name = reason.lower()
    user = await ORGANIZATIONS[reason](people, name)
    await people.scene.until_condition(Organization, name, "Ready", ("True", "Ready"))
    await people.scene.reaches(await people.scene.noted(name, user), Phase.SUCCEEDED)


# -- Keys ----------------------------------------------------------------------------------------------------


async def no_key(people: People, name: str) -> tuple[User, str]:
    user = await people.own(name)
    await people.patch(f"sender/{name}", tokenSecretRef=None)
    return user, "KeyNotConfigured"


async def a_key_with_spaces(people: People, name: str) -> tuple[User, str]:
    user = await people.own(name)
    await people.scene.local_environment.secret(f"{name}-key", "token", token="two words")
    return user, "KeyUnreadable"


async def a_key_of_another_user(people: People, name: str) -> tuple[User, str]:
    user = await people.own(name)
    await people.scene.local_environment.secret(f"{name}-key", "token", token=people.scene.anna.token)
    return user, "WrongUser"


async def no_secret(people: People, name: str) -> tuple[User, str]:
    user = await people.own(name)
    await people.kubectl("delete", "secret", f"{name}-key")
    return user, "KeyMissing"


async def a_revoked_key(people: People, name: str) -> tuple[User, str]:
    user = await people.own(name)
    await people.scene.until_condition(Sender, name, "Authorized", ("True", "KeyAccepted"))
    people.scene.esaw.revoke(user)
    await people.scene.noted(name, user)
    return user, "TokenRejected"


KEYS: dict[str, Callable[[People, str], Awaitable[tuple[User, str]]]] = {
    "KeyMissing": no_secret,
    "KeyNotConfigured": no_key,
    "KeyUnreadable": a_key_with_spaces,
    "TokenRejected": a_revoked_key,
    "WrongUser": a_key_of_another_user,
}


@pytest.mark.parametrize("case", KEYS)
async def test_a_key_is_put_where_its_reason_says_and_what_waited_for_it_is_archived(
    people: People, case: str
) -> None:
    name = case.lower()
    user, reason = await KEYS[case](people, name)
    message = await people.message(Sender, name, "Authorized", reason)
    event = await people.scene.noted(name, user)
    await people.scene.reaches(event, Phase.AWAITING_CONSENT, reason)

    key = people.scene.new_token(user) if reason == "TokenRejected" else user.token
    read = Sender.parse(await people.scene.kube.get(Sender, name))
    printed = key_advice(read, None, reason).command_line(people.scene.local_environment.namespace)
    if COMMAND.search(message):
        await people.types(message, {Placeholder.API_KEY: key})
    elif printed:
        await people.types(f"`{printed}`", {Placeholder.API_KEY: key})
    else:
        await people.scene.local_environment.secret(f"{name}-key", "token", token=key)

    await people.scene.reaches(event, Phase.SUCCEEDED)


async def test_a_key_of_another_esaw_is_annotated_as_the_message_says_and_what_waited_is_archived(
    people: People,
) -> None:
    scene, user = people.scene, people.scene.user("Abroad")
    abroad = scene.esaw.url.replace("127.0.0.1", "localhost")
    await scene.local_environment.sender("abroad", user, organization="abroad")
    await scene.local_environment.organization("abroad", archive="own", sender="abroad", baseURL=abroad)
    await scene.local_environment.archive(
        "own", filesystem={"root": str(scene.archive)}, path="{{organization}}/{{envelope.id}}/{{file.name}}"
    )
    event = await scene.noted("abroad", user)
    await people.confirms("abroad", "OriginUnknown")
    await scene.reaches(event, Phase.SUCCEEDED)


async def test_the_new_address_of_esaw_is_put_into_the_organization_and_confirmed_for_its_keys(
    people: People,
) -> None:
    """Nothing was sent to the new address before a person confirmed it."""
    scene = people.scene
    user = await people.own("moving")
    await scene.until_condition(Sender, "moving", "Authorized", ("True", "KeyAccepted"))
    moved = scene.esaw.url.replace("127.0.0.1", "localhost")
    envelope = scene.envelope(user)
    scene.esaw.fault("envelope", id=envelope, redirect=f"{moved}/Api/v6/envelope/{envelope}")
    event = await scene.note(envelope, "moving")
    await scene.is_so(event, lambda each: each.status.reason == "EsawRedirects")
    scene.esaw.clear_faults("envelope")

    await people.patch("org/moving", baseURL=moved)
    await people.confirms("moving", "OriginChanged")

    await scene.reaches(event, Phase.SUCCEEDED)


async def test_a_sender_with_a_wrong_user_id_is_created_again(people: People) -> None:
    scene, user = people.scene, await people.own("misnamed")
    raw = (await scene.local_environment.read("sender", "misnamed"))["spec"]
    await people.kubectl("delete", "sender", "misnamed")
    wrong = msgspec.structs.replace(user, user_id=scene.anna.user_id)
    # Whether the Organization recorded its origin before the Sender was deleted is a question of time.
    await scene.local_environment.sender("misnamed", wrong, organization="misnamed", origin=scene.esaw.url)
    event = await scene.noted("misnamed", user)
    await scene.reaches(event, Phase.AWAITING_CONSENT, "WrongUser")

    await people.kubectl("delete", "sender", "misnamed")
    again = {
        "apiVersion": Sender.API_VERSION,
        "kind": "Sender",
        "metadata": {"name": "misnamed"},
        "spec": raw,
    }
    await people.kubectl("create", "-f", "-", stdin=json.dumps(again))

    await scene.reaches(event, Phase.SUCCEEDED)


# -- Senders of events ---------------------------------------------------------------------------------------

OPERATING = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")


async def without_sender(people: People, name: str, envelope: str) -> str:
    """Create an event as the receiver does for an Organization without a default Sender."""
    body = new_event(organization=name, envelope=envelope_id(envelope), action="envelopeFinished")
    # A sweep may have found the envelope before: its event has the same name.
    with suppress(AlreadyExists):
        await people.scene.kube.create(EnvelopeEvent, body)
    return str(body["metadata"]["name"])


async def typed_from_the_manual(people: People, name: str, envelope: str) -> None:
    """Type the commands of the section `An envelope of an unknown sender`, with these names."""
    section = OPERATING.split("### An envelope of an unknown sender")[1]
    manifest = re.search(r"<<END\n(.*?)^END$", section, re.DOTALL | re.MULTILINE)
    retry = re.search(r"^\$ kubectl counterfoil (retry .*)$", section, re.MULTILINE)
    assert manifest is not None
    assert retry is not None
    (shown,) = set(re.findall(r"envelopeID: (\S+)", manifest[1]))
    names = {shown: envelope, "name: acme": f"name: {name}", "name: jane-doe": f"name: {name}"}
    text, words = manifest[1], retry[1]
    for before, after in names.items():
        text, words = text.replace(before, after), words.replace(before, after)
    await people.kubectl("apply", "-f", "-", stdin=text)
    answer = await people.plugin(*shlex.split(words))
    # The pass over all events may find the Envelope before the retry.
    assert answer.code == 0 or any(
        each in answer.out for each in ("it is Succeeded", "nothing is asked for")
    ), answer


async def test_a_default_sender_is_named_and_what_had_failed_is_archived(people: People) -> None:
    user = await people.own("nameless")
    await people.patch("org/nameless", defaultSenderRef=None)
    event = await without_sender(people, "nameless", people.scene.envelope(user))
    await people.scene.reaches(event, Phase.FAILED, "SenderUnknown")

    await people.patch("org/nameless", defaultSenderRef={"name": "nameless"})

    await people.scene.reaches(event, Phase.SUCCEEDED)


async def test_an_envelope_names_the_sender_as_the_manual_shows_and_what_had_failed_is_archived(
    people: People,
) -> None:
    user = await people.own("listed")
    other = people.scene.user("Defaulted")
    await people.scene.local_environment.sender(
        "defaulted", other, organization="listed", origin=people.scene.esaw.url
    )
    await people.patch("org/listed", defaultSenderRef={"name": "defaulted"})
    envelope = people.scene.envelope(user)
    event = await without_sender(people, "listed", envelope)
    await people.scene.reaches(event, Phase.FAILED, "EnvelopeNotFound")

    await typed_from_the_manual(people, "listed", envelope)

    await people.scene.reaches(event, Phase.SUCCEEDED)


async def test_the_sender_that_is_named_is_created_and_what_waited_is_archived(people: People) -> None:
    scene, user = people.scene, people.scene.user("Absent")
    await scene.local_environment.organization("absent", archive="dms", sender="absent")
    event = await without_sender(people, "absent", scene.envelope(user))
    await scene.is_so(event, lambda each: each.status.reason == "SenderMissing")
    await scene.local_environment.sender("absent", user, organization="absent", origin=scene.esaw.url)
    await scene.reaches(event, Phase.SUCCEEDED)


def an_envelope_of(organization: str, envelope: str, sender: str) -> str:
    spec = {"organizationRef": {"name": organization}, "envelopeID": envelope, "senderRef": {"name": sender}}
    version = "counterfoil.dev/v1beta1"
    return json.dumps(
        {"apiVersion": version, "kind": "Envelope", "metadata": {"name": envelope}, "spec": spec}
    )


async def test_a_sender_whose_name_another_user_has_is_created_as_the_message_says(people: People) -> None:
    scene, local = people.scene, people.scene.local_environment
    user, other = scene.user("Former"), scene.user("Newer")
    await local.organization("taken", archive="dms")
    await local.sender("taken", user, organization="taken", origin=scene.esaw.url)
    envelope = envelope_id(scene.envelope(user))
    await people.kubectl("apply", "-f", "-", stdin=an_envelope_of("taken", envelope, "taken"))
    scene.esaw.fault("files", id=envelope, status=503)
    event = await without_sender(people, "taken", envelope)
    await scene.is_so(event, lambda each: each.status.reason == "EsawFailing")
    await people.kubectl("delete", "sender/taken")
    await local.sender("taken", other, organization="taken", origin=scene.esaw.url)
    # While there is no Sender of this name, the reason is the same, and the message another one.
    read = await scene.is_so(event, lambda each: "former user" in (each.status.message or ""))

    assert read.status.reason == "SenderMissing"
    said = re.search(
        r"former user, spec\.userID (\S+)\. Then delete (Envelope/\S+), and create it with the new Sender\.",
        read.status.message or "",
    )
    assert said is not None, read.status.message
    assert said[1] == user.user_id
    scene.esaw.clear_faults("files")
    await local.sender("taken-before", user, organization="taken", origin=scene.esaw.url)
    await people.kubectl("delete", said[2])
    await people.kubectl("apply", "-f", "-", stdin=an_envelope_of("taken", envelope, "taken-before"))

    await scene.reaches(event, Phase.SUCCEEDED)


# -- Events that only a person ends --------------------------------------------------------------------------

TWICE = {"FileId": "d1", "FileName": "contract.pdf", "DocumentNumber": 1}
FAULTS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "EnvelopeStatusUnknown": ("envelope", {"replaces": {"EnvelopeStatus": "Shredded"}}, {}),
    "FileIdMissing": ("files", {"replaces": {"Documents": [{**TWICE, "FileId": None}]}}, {}),
    "FileIdRepeated": ("files", {"replaces": {"Documents": [TWICE, {**TWICE, "DocumentNumber": 2}]}}, {}),
    "EsawV5AnswerUnreadable": ("envelope_v5", {"lacks": "Status"}, {"api_version": "v5"}),
    "UnsupportedApiVersion": ("configuration", {"status": 400, "says": "ERR0063"}, {}),
    "EnvelopeTooLarge": (
        "inbox",
        {},
        {"documents": [DocumentSpec(name=f"{number}.pdf", size=100) for number in range(2001)]},
    ),
    "EnvelopeDeleted": ("files", {"deletes_envelope": True}, {}),
}
"""The operation of eSAW with its fault, and the envelope."""


@pytest.mark.parametrize("reason", FAULTS)
async def test_an_event_that_no_retry_solves_is_skipped_as_its_reason_says(
    people: People, reason: str
) -> None:
    scene, (operation, fault, options) = people.scene, FAULTS[reason]
    envelope = scene.envelope(**options)
    scene.esaw.fault(operation, id=envelope, **fault)
    event = await scene.note(envelope)
    await scene.is_so(event, lambda each: each.status.reason == reason)
    exists = scene.esaw.exists(envelope)

    skipped = await people.plugin("skip", event, "--because", "archived by hand")

    assert (skipped.code, skipped.err) == (0, "")
    await scene.reaches(event, Phase.SKIPPED, "SkippedByRequest")
    assert scene.esaw.exists(envelope) is exists
    assert scene.esaw.delete_calls(envelope) == []


async def test_a_skipped_event_is_retried_and_archived(people: People) -> None:
    scene, envelope = people.scene, people.scene.envelope()
    scene.esaw.fault("envelope", id=envelope, status=503)
    event = await scene.note(envelope)
    await scene.is_so(event, lambda each: each.status.reason == "EsawFailing")
    assert (await people.plugin("skip", event, "--because", "a mistake")).code == 0
    await scene.reaches(event, Phase.SKIPPED, "SkippedByRequest")
    scene.esaw.clear_faults("envelope")
    assert (await people.plugin("retry", event)).code == 0
    await scene.reaches(event, Phase.SUCCEEDED)


async def test_a_cause_is_corrected_after_the_deadline_and_the_event_retried(people: People) -> None:
    scene = people.scene
    user = await people.own("late", retry={"initial": "200ms", "max": "1s", "deadline": "1s"})
    # What fails before eSAW's first answer is retried after it.
    await scene.local_environment.ready("organization/late")
    envelope = scene.envelope(user)
    scene.esaw.fault("files", id=envelope, status=503)
    event = await scene.note(envelope, "late")
    failed = await scene.reaches(event, Phase.FAILED, "DeadlineExceeded")
    assert failed.status.last_error is not None
    assert failed.status.last_error.reason == "EsawFailing"
    scene.esaw.clear_faults("files")
    assert (await people.plugin("retry", event)).code == 0
    await scene.reaches(event, Phase.SUCCEEDED)


@pytest.mark.parametrize("handling", ["Archive", "Record"])
async def test_an_action_is_listed_and_its_event_continues(people: People, handling: str) -> None:
    name = f"action-{handling.lower()}"
    user = await people.own(name, actions=[{"action": "documentsReady"}])
    event = await people.scene.noted(name, user)
    await people.scene.is_so(event, lambda each: each.status.reason == "ActionNotConfigured")
    actions = [{"action": "documentsReady"}, {"action": "envelopeFinished", "handling": handling}]
    await people.patch(f"org/{name}", actions=actions)
    await people.scene.reaches(event, Phase.SUCCEEDED)


async def test_a_status_is_listed_and_the_skipped_event_is_archived_after_a_retry(people: People) -> None:
    user = await people.own("rejected")
    event = await people.scene.noted("rejected", user, status="Rejected")
    await people.scene.reaches(event, Phase.SKIPPED, "UnexpectedStatus")
    await people.patch("org/rejected", statuses=["Completed", "Rejected"])
    assert (await people.plugin("retry", event)).code == 0
    await people.scene.reaches(event, Phase.SUCCEEDED)


async def test_signatures_that_were_not_checked_are_only_reported_and_what_had_failed_is_archived(
    people: People,
) -> None:
    scene = people.scene
    root = {"root": str(scene.archive)}
    await scene.local_environment.archive("signed", filesystem=root, signatures="Require")
    user = await people.own("unchecked", archiveRef={"name": "signed"})
    large = [DocumentSpec(name="contract.pdf", size=65 * 1024 * 1024)]
    event = await scene.note(scene.envelope(user, documents=large), "unchecked")
    await scene.reaches(event, Phase.FAILED, "SignaturesUnchecked")
    await people.patch("archive/signed", signatures="Report")
    await scene.reaches(event, Phase.SUCCEEDED)


# -- Envelopes that a person deletes in eSignAnyWhere --------------------------------------------------------


async def in_doubt(people: People) -> tuple[str, str]:
    damaged = DocumentSpec(name="contract.pdf", content=b"%PDF-1.7 and no more")
    envelope = people.scene.envelope(documents=[damaged])
    return envelope, await people.scene.note(envelope)


async def rendered_anew(people: People) -> tuple[str, str]:
    user = await people.own("rendered", statuses=["Expired"], retry={"initial": "500ms"})
    people.scene.esaw.set_behaviour(Behaviour(renders_anew=True))
    envelope = people.scene.envelope(user, status="Expired", documents=[DocumentSpec(name="contract.pdf")])
    return envelope, await people.scene.note(envelope, "rendered")


async def of_v5(people: People) -> tuple[str, str]:
    people.scene.esaw.set_behaviour(Behaviour(v5_files="refused"))
    envelope = people.scene.envelope(api_version="v5")
    return envelope, await people.scene.note(envelope)


KEPT: dict[str, Callable[[People], Awaitable[tuple[str, str]]]] = {
    "DocumentInDoubt": in_doubt,
    "FilesKeepChanging": rendered_anew,
    "V5EnvelopeKept": of_v5,
}


@pytest.mark.parametrize("reason", KEPT)
async def test_an_archived_envelope_is_deleted_by_a_person_and_its_event_skipped(
    people: People, reason: str
) -> None:
    envelope, event = await KEPT[reason](people)
    try:
        await people.scene.reaches(event, Phase.FAILED, reason)
    finally:
        people.scene.esaw.set_behaviour(Behaviour())
    await people.scene.esaw.delete(envelope)
    assert (await people.scene.event(event)).status.phase is Phase.FAILED
    assert (await people.plugin("skip", event, "--because", "it is as it should be")).code == 0
    await people.scene.reaches(event, Phase.SKIPPED, "SkippedByRequest")


async def test_events_without_a_controller_are_processed_as_soon_as_one_holds_their_lease(
    plane: ControlPlane, people: People
) -> None:
    scene = people.scene
    # To read Leases is more than the rights of the administrator of this namespace.
    owner = Terminal(plane.kubectl.program, plane.kubeconfig, people.plugin.home)
    await scene.controller.stop()
    event = await scene.noted()

    async def says_so() -> bool:
        said = await owner("why", event, "-n", scene.local_environment.namespace)
        return CATALOGUE["ControllerAbsent"].localized_text().do in " ".join(said.out.split())

    await eventually(says_so)
    await scene.controller.start()
    await scene.reaches(event, Phase.SUCCEEDED)

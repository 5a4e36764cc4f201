"""
S21: one controller serves the namespaces of two teams. An object of the first one names a Secret, an Archive,
a Sender or an Organization of the second one, by every reference there is.

The API server refuses a namespace in it, and a path. A plain name means an object of the same namespace. None
is there, although the controller may read the one of that name in the other namespace.

No field that people write names a Lease, an event or an Envelope. Pages and controller make their names.
"""

import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from counterfoil.kube.secret import SecretUse
from counterfoil.resources import envelope_id, event_name
from counterfoil.resources.archive_kinds import EXAMPLES
from sandbox.controlplane import rbac
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.controlplane.kubectl import KubectlError
from sandbox.environment.local import LocalEnvironment, local_environment
from tests.support.pauses import eventually
from tests.support.references import OF_OTHERS, references_of_all

PLATFORM, OURS, THEIRS = "s21-references", "s21-references-a", "s21-references-b"
NAMED = "of-b"
"""The name of each object of the second namespace that is referred to."""

NAME: Mapping[str, Any] = {"name": NAMED}
KEY: Mapping[str, Any] = {"name": NAMED, "key": "token"}
ENVELOPE = "0f9c1c2e-5d1b-4f6e-9c55-2f1f0a3b7d10"
OTHER_ENVELOPE = "11111111-5d1b-4f6e-9c55-2f1f0a3b7d10"

NOTHING_IS_READ = ""
"""The reason of a name that is only compared with the name of the Sender of an event."""

Raw = dict[str, Any]


@dataclass(frozen=True)
class Reference:
    """An object with a reference, and why it does not work where the object that it names is absent."""

    kind: str
    spec: Raw
    reason: str
    name: str = ""
    """Of the object; empty: any."""
    beside: tuple[Raw, ...] = ()
    """Further objects that it needs; the last one of them shows the reason then."""


def an_organization(**spec: Any) -> Raw:
    """Return the settings of an Organization whose own objects are all there."""
    return {
        "baseURL": "https://esaw.example.com",
        "callback": {"tokenSecretRefs": [{"name": "ours", "key": "token"}]},
        "archiveRef": {"name": "ours"},
        **spec,
    }


def an_object(kind: str, name: str, spec: Mapping[str, Any]) -> Raw:
    return {
        "apiVersion": "counterfoil.dev/v1beta1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": dict(spec),
    }


def an_event(organization: str, envelope: str) -> Raw:
    action = "envelopeFinished"
    return an_object(
        "EnvelopeEvent",
        event_name(organization, envelope_id(envelope), action),
        {"organizationRef": {"name": organization}, "envelopeID": envelope, "action": action},
    )


def an_archive_of(kind: str) -> Reference:
    """Return an Archive whose credentials are in a Secret."""
    spec = {kind: {**EXAMPLES[kind], "credentialsSecretRef": NAME}}
    return Reference("Archive", spec, "ArchiveSecretMissing")


REFERENCES: Mapping[str, Reference] = {
    **{
        f"archives.spec.{kind}.credentialsSecretRef": an_archive_of(kind)
        for kind in ("s3", "azblob", "gcs", "webdav", "sftp", "cmis", "http")
    },
    "archives.spec.custom.credentialsSecretRef": Reference(
        "Archive", {"custom": {"kind": "unknown", "credentialsSecretRef": NAME}}, "ArchiveSecretMissing"
    ),
    "archives.spec.trustAnchorsSecretRef": Reference(
        "Archive", {"webdav": EXAMPLES["webdav"], "trustAnchorsSecretRef": NAME}, "ArchiveSecretMissing"
    ),
    "organizations.spec.callback.tokenSecretRefs": Reference(
        "Organization", an_organization(callback={"tokenSecretRefs": [KEY]}), "CallbackTokenMissing"
    ),
    "organizations.spec.callback.basicAuthSecretRef": Reference(
        "Organization",
        an_organization(
            callback={"tokenSecretRefs": [{"name": "ours", "key": "token"}], "basicAuthSecretRef": NAME}
        ),
        "BasicAuthMissing",
    ),
    "organizations.spec.archiveRef": Reference(
        "Organization", an_organization(archiveRef=NAME), "ArchiveMissing"
    ),
    "organizations.spec.routes[].archiveRef": Reference(
        "Organization",
        an_organization(
            routes=[{"name": "a", "when": {"actions": ["envelopeFinished"]}, "archiveRef": NAME}]
        ),
        "ArchiveMissing",
    ),
    "organizations.spec.routes[].when.senders": Reference(
        "Organization",
        an_organization(routes=[{"name": "a", "when": {"senders": [NAMED]}, "archiveRef": {"name": "ours"}}]),
        NOTHING_IS_READ,
    ),
    "organizations.spec.copies[].archiveRef": Reference(
        "Organization", an_organization(copies=[{"archiveRef": NAME, "required": True}]), "ArchiveMissing"
    ),
    "organizations.spec.defaultSenderRef": Reference(
        "Organization", an_organization(defaultSenderRef=NAME), "SenderMissing"
    ),
    "organizations.spec.oauth.clientSecretRef": Reference(
        "Organization",
        an_organization(oauth={"clientID": "c", "clientSecretRef": KEY}),
        "ClientSecretMissing",
    ),
    "organizations.spec.webhook.signingSecretRef": Reference(
        "Organization",
        an_organization(webhook={"url": "https://erp.example.com/", "signingSecretRef": KEY}),
        "WebhookSecretMissing",
    ),
    "organizations.spec.notifications.smtpSecretRef": Reference(
        "Organization",
        an_organization(notifications={"smtpSecretRef": NAME, "from": "counterfoil@example.com"}),
        "MailSettingsInvalid",
    ),
    "senders.spec.organizationRef": Reference(
        "Sender", {"organizationRef": NAME, "userID": "ours"}, "OrganizationMissing"
    ),
    "senders.spec.tokenSecretRef": Reference(
        "Sender", {"organizationRef": {"name": "ours"}, "userID": "ours", "tokenSecretRef": KEY}, "KeyMissing"
    ),
    "imports.spec.organizationRef": Reference(
        "Import", {"organizationRef": NAME, "from": "2019-01-01"}, "ImportOrganizationMissing"
    ),
    "imports.spec.senderRefs": Reference(
        "Import",
        {"organizationRef": {"name": "ours"}, "from": "2019-01-01", "senderRefs": [NAME]},
        "SenderMissing",
    ),
    "imports.spec.archiveRef": Reference(
        "Import",
        {"organizationRef": {"name": "ours"}, "from": "2019-01-01", "archiveRef": NAME},
        "ImportArchiveMissing",
    ),
    "envelopeevents.spec.organizationRef": Reference(
        "EnvelopeEvent",
        an_event(NAMED, ENVELOPE)["spec"],
        "OrganizationMissing",
        name=an_event(NAMED, ENVELOPE)["metadata"]["name"],
    ),
    "envelopes.spec.organizationRef": Reference(
        "Envelope",
        {"organizationRef": NAME, "envelopeID": OTHER_ENVELOPE, "senderRef": {"name": "ours"}},
        "OrganizationMissing",
        name=OTHER_ENVELOPE,
        beside=(an_event(NAMED, OTHER_ENVELOPE),),
    ),
    "envelopes.spec.senderRef": Reference(
        "Envelope",
        {"organizationRef": {"name": "ours"}, "envelopeID": ENVELOPE, "senderRef": NAME},
        "SenderMissing",
        name=ENVELOPE,
        beside=(an_event("ours", ENVELOPE),),
    ),
}
"""By kind and field."""

EACH = pytest.mark.parametrize("where", REFERENCES)
EACH_THAT_IS_READ = pytest.mark.parametrize(
    "where", [where for where, each in REFERENCES.items() if each.reason != NOTHING_IS_READ]
)
EACH_OBJECT = pytest.mark.parametrize("where", [each for each in REFERENCES if not each.endswith("senders")])


def the_object(where: str) -> Raw:
    """Return the object with this reference."""
    reference = REFERENCES[where]
    name = reference.name or re.sub("[^a-z]+", "-", where.lower()).strip("-")
    return an_object(reference.kind, name, reference.spec)


def with_reference(where: str, **changes: str) -> str:
    """Return the JSON of the object with a changed reference."""
    body = the_object(where)

    def changed(part: Any) -> Any:
        if isinstance(part, list):
            return [changed(each) for each in part]
        if part == NAMED:
            return changes.get("name", part)
        if not isinstance(part, dict):
            return part
        if part.get("name") == NAMED:
            return {**part, **changes}
        return {name: changed(each) for name, each in part.items()}

    return json.dumps({**body, "spec": changed(body["spec"])})


def test_every_reference_of_the_resources_is_attacked() -> None:
    assert REFERENCES.keys() == references_of_all().keys()


# -- The API server ------------------------------------------------------------------------------------------


async def create(plane: ControlPlane, namespace: str, body: str, validate: str = "strict") -> Raw:
    """Create an object without an effect; return what would be stored."""
    command = ("create", "--dry-run=server", f"--validate={validate}", "-o", "json", "-f", "-")
    stored: Raw = json.loads(await plane.kubectl("-n", namespace, *command, stdin=body))
    return stored


@EACH_OBJECT
async def test_a_namespace_in_a_reference_is_refused_or_not_stored(
    plane: ControlPlane, namespace: str, where: str
) -> None:
    body = with_reference(where, namespace=THEIRS)
    with pytest.raises(KubectlError, match=r"unknown field .*namespace"):
        await create(plane, namespace, body)
    stored = await create(plane, namespace, body, "ignore")
    assert THEIRS not in json.dumps(stored["spec"])
    assert NAMED in json.dumps(stored["spec"])


@EACH
async def test_a_path_is_no_name_in_a_reference(plane: ControlPlane, namespace: str, where: str) -> None:
    assert await create(plane, namespace, with_reference(where)), "the plain name is accepted"
    for name in (f"{THEIRS}/{NAMED}", f"../../{THEIRS}/archives/{NAMED}", *OF_OTHERS):
        with pytest.raises(KubectlError, match=r"spec\.\S+: Invalid value"):
            await create(plane, namespace, with_reference(where, name=name))


# -- The controller ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Units:
    """Two namespaces of one release. All objects with references are in both."""

    ours: LocalEnvironment
    theirs: LocalEnvironment


@pytest.fixture(scope="module", name="units")
async def _units(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Units]:
    folder = tmp_path_factory.mktemp("references")
    async with AsyncExitStack() as opened:
        await plane.namespace(PLATFORM)
        release = await opened.enter_async_context(local_environment(plane, folder, namespace=PLATFORM))
        units = Units(*[await a_unit(release, folder, name) for name in (OURS, THEIRS)])
        await the_objects_that_are_named(units.theirs, folder)
        for unit in (units.ours, units.theirs):
            for where, reference in REFERENCES.items():
                await unit.apply(the_object(where), *reference.beside)
        await release.controller(
            namespaces=f"{OURS},{THEIRS}",
            volume_roots=str(folder / "{namespace}"),
            callback_url="https://callbacks.example.com",
        )
        yield units


async def a_unit(release: LocalEnvironment, folder: Path, name: str) -> LocalEnvironment:
    """Make a namespace in which the controller may work, with an Organization `ours`."""
    await release.plane.namespace(name)
    unit = replace(release, namespace=name, tokens={}, processes=[])
    await unit.apply(*rbac.rights_of_release(release.namespace, "controller", rbac.CONTROLLER_OF_SERVED))
    (folder / name / "ours").mkdir(parents=True)
    await unit.secret("ours", SecretUse.CALLBACK, token="t" * 48)
    await unit.archive("ours", filesystem={"root": str(folder / name / "ours")})
    await unit.apply(an_object("Organization", "ours", an_organization()))
    return unit


async def the_objects_that_are_named(unit: LocalEnvironment, folder: Path) -> None:
    """Make what the references name, each of which works for its namespace."""
    (folder / unit.namespace / NAMED).mkdir()
    await unit.archive(NAMED, filesystem={"root": str(folder / unit.namespace / NAMED)})
    await unit.secret(NAMED, SecretUse.CALLBACK, token="u" * 48, username="u", password="p" * 24)
    await unit.apply(an_object("Organization", NAMED, an_organization()))
    sender = {"organizationRef": {"name": NAMED}, "userID": NAMED}
    await unit.apply(an_object("Sender", NAMED, sender))


async def conditions(unit: LocalEnvironment, where: str) -> list[tuple[str, str]]:
    """Return the reasons and messages of the object that shows the result of a reference."""
    reference = REFERENCES[where]
    shown = (the_object(where), *reference.beside)[-1]
    found = await unit.read(shown["kind"].lower(), shown["metadata"]["name"])
    status = found.get("status", {})
    listed = [*status.get("conditions", ()), *status.get("senders", ()), status]
    return [
        (each["reason"], each.get("message", each.get("name", ""))) for each in listed if "reason" in each
    ]


@EACH_THAT_IS_READ
async def test_a_plain_name_means_no_object_of_another_namespace(units: Units, where: str) -> None:
    reason = REFERENCES[where].reason

    async def is_reported() -> bool:
        return any(
            each == reason and NAMED in message for each, message in await conditions(units.ours, where)
        )

    await eventually(is_reported)


@EACH_THAT_IS_READ
async def test_in_the_other_namespace_the_same_name_leads_to_its_object(units: Units, where: str) -> None:
    async def is_found() -> bool:
        found = [reason for reason, _ in await conditions(units.theirs, where)]
        return bool(found) and REFERENCES[where].reason not in found

    await eventually(is_found)

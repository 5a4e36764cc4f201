"""Parts for the unit tests of the console: a visitor, and objects with problems."""

from typing import Any, cast

from counterfoil.i18n.catalogue import CatalogueName, load_catalogue
from counterfoil.kube.client import KubeClient
from counterfoil.readiness import with_readiness
from counterfoil.resources import (
    IMPORT_LABEL,
    IMPORT_WINDOW_LABEL,
    SENDER_LABEL,
    Archive,
    ArchiveSpec,
    ArchiveStatus,
    EnvelopeEvent,
    Import,
    ImportStatus,
    LocalObjectReference,
    Organization,
    OrganizationSpec,
    OrganizationStatus,
    Origin,
    Phase,
    ReportedProblem,
    Resource,
    Sender,
    SenderSpec,
    SenderStatus,
    with_condition,
)
from counterfoil.resources.archive import Filesystem
from counterfoil.resources.base import ObjectMeta, SecretKeyRef
from counterfoil.resources.imports import ImportSpec, window_label
from counterfoil.resources.organization import Notifications, OAuth
from tests.support.builders import NOON, EventBuilder
from tests.support.fakes.kube import InMemoryKubeClient
from webhook.console.access import KINDS, AuthenticatedUser, Rights
from webhook.console.view_base import ConsoleRequest

VIEW = Rights(frozenset(("list", kind) for kind in KINDS))
FULL = Rights(VIEW.granted | {("patch", kind) for kind in KINDS} | {("create", "events"), ("list", "events")})
NOBODY = Rights(frozenset())


CONSENT_PAGES = OAuth(
    client_id="counterfoil",
    client_secret_ref=SecretKeyRef(name="oauth", key="clientSecret"),
    public_url="https://pages.example.com",
)
MAILS = Notifications(
    smtp_secret_ref=LocalObjectReference(name="smtp"),
    from_="counterfoil@example.com",
    administrators=("jane@example.com",),
)


UNREADABLE_SPECS: tuple[tuple[type[Resource], str, dict[str, Any]], ...] = (
    (Organization, "acme", {"baseURL": 7}),
    (Archive, "dms", {"maxConcurrency": "many"}),
    (Sender, "anna", {"userID": 7}),
    (Import, "old", {"from": 7}),
)
"""Kind and name of objects, with a spec that can't be read."""


class NamedKubeClient:
    """As much of a cluster as a page's head shows."""

    namespace = "contracts"


def an_authenticated_user(rights: Rights = FULL, kube: Any = None) -> AuthenticatedUser:
    """Somebody at the console."""
    return AuthenticatedUser(
        "jane@example.com", cast("KubeClient", kube or NamedKubeClient()), rights, "form-token"
    )


def a_sender_that(
    truth: str = "False", reason: str = "TokenRejected", *, name: str = "anna", **status: Any
) -> Sender:
    """A sender whose key works, or does not."""
    conditions = with_condition(
        (), "Authorized", cast("Any", truth), reason=reason, message="", now=NOON, generation=1
    )
    return Sender(
        metadata=ObjectMeta(name=name, uid=name),
        spec=SenderSpec(
            organization_ref=LocalObjectReference(name="acme"),
            user_id="u",
            given_name=name.capitalize(),
            surname="Kofler",
            email=f"{name}@example.com",
        ),
        status=SenderStatus(
            conditions=conditions,
            consent_url=f"https://pages.example.com/consent/acme/{name}",
            **{"waiting_events": 1, **status},
        ),
    )


def an_archive_that(truth: str = "False", reason: str = "ArchiveFull", *, name: str = "dms") -> Archive:
    """An archive that can be used, or can't."""
    conditions = with_condition(
        (), "Ready", cast("Any", truth), reason=reason, message="", now=NOON, generation=1
    )
    return Archive(
        metadata=ObjectMeta(name=name),
        spec=ArchiveSpec(filesystem=Filesystem(root="/srv")),
        status=ArchiveStatus(conditions=conditions),
    )


def an_organization_that(
    truth: str = "True",
    reason: str = "Ready",
    *,
    name: str = "acme",
    problems: tuple[ReportedProblem, ...] = (),
    **spec: Any,
) -> Organization:
    """An organization that has what it needs, or lacks something; ``spec`` replaces parts of its spec."""
    conditions = with_condition(
        (), "Ready", cast("Any", truth), reason=reason, message="", now=NOON, generation=1
    )
    return Organization(
        metadata=ObjectMeta(name=name, uid=name),
        spec=OrganizationSpec(
            **{
                "base_url": "https://esaw.example.com",
                "archive_ref": LocalObjectReference(name="dms"),
                "oauth": CONSENT_PAGES,
                "notifications": MAILS,
                **spec,
            }
        ),
        status=OrganizationStatus(conditions=conditions, problems=problems),
    )


def an_import_that(
    reason: str = "ImportRunning", message: str = "", *, name: str = "old-stock", **status: Any
) -> Import:
    """An Import that is in progress, or waits for a person; ``status`` adds to its status."""
    truth = "False" if reason != "ImportComplete" else "True"
    conditions = with_readiness((), cast("Any", truth), reason, message, now=NOON, generation=1)
    return Import(
        metadata=ObjectMeta(name=name, uid=f"uid-{name}", resource_version="1", creation_timestamp=NOON),
        spec=ImportSpec(organization_ref=LocalObjectReference(name="acme"), from_="2019-01-01"),
        status=ImportStatus(conditions=conditions, **{"observed_generation": 1, **status}),
    )


def an_event_of_import(
    number: int, reason: str, phase: Phase = Phase.FAILED, *, uid: str = "uid-old-stock"
) -> EnvelopeEvent:
    """An event that the Import ``old-stock`` with this uid created."""
    return (
        EventBuilder()
        .named(f"{number:08x}-4b1d-4c58-9a57-6d1f0a3b2c4d-0123456789abcdef")
        .by(Origin.IMPORT)
        .labelled(IMPORT_LABEL, "old-stock")
        .labelled(IMPORT_WINDOW_LABEL, window_label(uid, "anna", 0, NOON))
        .in_phase(phase, reason)
        .build()
    )


def a_console_request(
    kube: InMemoryKubeClient, rights: Rights = FULL, here: str = "/", **query: str
) -> ConsoleRequest:
    """A request of somebody with these rights."""
    return ConsoleRequest(
        an_authenticated_user(rights, kube), load_catalogue(CatalogueName.CONSOLE, "en"), query, here
    )


def a_listed_event(number: int, phase: Phase = Phase.FAILED, sender: str = "anna") -> EnvelopeEvent:
    """One of several events; the number decides its place in a list."""
    name = f"{number:08x}-4b1d-4c58-9a57-6d1f0a3b2c4d-0123456789abcdef"
    return EventBuilder().named(name).labelled(SENDER_LABEL, sender).in_phase(phase, "NameOccupied").build()

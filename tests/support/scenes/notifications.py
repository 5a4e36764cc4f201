"""Support for the tests of mails: addresses, mails, problems, and a notifier over an API server in memory."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from typing import Any

from prometheus_client import CollectorRegistry

from controller.access.secret_cache import SecretCache
from controller.cache import Cache
from controller.mails.delivery import MailDelivery, NotificationStatusWriter
from controller.mails.notifier import Notifier
from controller.mails.policy import NotificationTimings
from controller.mails.problem_tracking import EventArchives
from controller.mails.render import MailContent
from controller.mails.smtp import MailError, MailServer, SmtpMailer
from counterfoil.clock import Clock
from counterfoil.kube.client import KubeClient
from counterfoil.metrics import Metrics
from counterfoil.resources import (
    Archive,
    EnvelopeEvent,
    Language,
    Organization,
    Phase,
    ReportedProblem,
    Resource,
    Sender,
)
from counterfoil.resources.organization import Addressed
from tests.support.builders import NOON, OWN_ADDRESS, AClock, a_sender, an_event, an_organization
from tests.support.fakes.kube import InMemoryKubeClient
from tests.support.fakes.reconcile_context import an_archive

FROM = Address("Counterfoil", username="counterfoil", domain="acme.example")
ADMIN = Address("", username="admin", domain="acme.example")

MAILS = {
    "smtpSecretRef": {"name": "smtp"},
    "from": "counterfoil@acme.example",
    "administrators": ["admin@acme.example", "boss@acme.example"],
}

PUBLIC = {
    "clientID": "counterfoil",
    "clientSecretRef": {"name": "oauth", "key": "secret"},
    "publicURL": "https://pages.acme.example",
}

TIMINGS = NotificationTimings(digest=timedelta(days=365))
"""Without reminders, which have separate tests."""


def in_archive(name: str) -> EventArchives:
    """Build the Archives of an event that has no copies."""
    return EventArchives(name, (name,))


def a_mail_content(**changes: Any) -> MailContent:
    """Build a letter."""
    values: dict[str, Any] = {
        "language": Language.GERMAN,
        "subject": "Prüfung: größer als nötig",  # codespell:ignore als
        "greeting": "Guten Tag,",
        "paragraphs": ("Gruß aus Südtirol",),
        "footer": "Gesendet von Counterfoil.",
    }
    return MailContent(**{**values, **changes})


def a_problem(cause: str = "failed/NameOccupied/dms", **changes: Any) -> ReportedProblem:
    """Build a problem."""
    values: dict[str, Any] = {
        "cause": cause,
        "reason": f"{cause}/{cause}".split("/")[1],
        "start_time": NOON,
        "count": 1,
    }
    return ReportedProblem(**{**values, **changes})


def an_unauthorized_sender(
    name: str = "anna",
    *,
    reason: str = "TokenRejected",
    waiting: int = 0,
    since: datetime = NOON,
    verified: bool = True,
    sent_mails: bool = False,
    version: int = 1,
    status: dict[str, Any] | None = None,
    **spec: Any,
) -> Sender:
    """Build a Sender whose key does not work."""
    raw = a_sender(
        name,
        authorized=None,
        version=version,
        **{
            "email": f"{name}@acme.example",
            "givenName": name.title(),
            "surname": "Kofler",
            **({} if sent_mails else {"tokenSecretRef": None}),
            **spec,
        },
    ).to_dict()
    raw["status"] = {
        "conditions": [a_condition("Authorized", "False", reason, since)],
        **({"key": {"fingerprint": "0a1b2c3d", "verifiedTime": "2026-06-01T12:00:00Z"}} if verified else {}),
        "consentURL": f"https://pages.acme.example/consent/acme/{name}",
        "waitingEvents": waiting,
        **(status or {}),
    }
    return Sender.parse(raw)


def an_archive_that_is(
    truth: str, *, reason: str = "ArchiveUnreachable", since: datetime = NOON, name: str = "dms", **spec: Any
) -> Archive:
    """Build an Archive, ready or not."""
    raw = an_archive(name, **spec).to_dict()
    raw["status"] = {"conditions": [a_condition("Ready", truth, reason, since)]}
    return Archive.parse(raw)


def a_failed_event(
    number: int = 1, reason: str = "NameOccupied", at: datetime = NOON, **status: Any
) -> EnvelopeEvent:
    """Build an event that failed."""
    envelope = f"00000000-0000-4000-8000-{number:012d}"
    return (
        an_event(envelope)
        .in_phase(Phase.FAILED, reason)
        .status(message="A file has this name already.", completion_time=at, **status)
        .build()
    )


def a_condition(type_: str, truth: str, reason: str, since: datetime) -> dict[str, Any]:
    """Build a condition, as JSON."""
    return {
        "type": type_,
        "status": truth,
        "reason": reason,
        "message": f"{reason}, in words.",
        "lastTransitionTime": since.isoformat().replace("+00:00", "Z"),
    }


@dataclass
class FakeMailer(SmtpMailer):
    """Accepts mails, or fails: for all recipients, or for some."""

    sent_mails: list[tuple[tuple[str, ...], EmailMessage]] = field(default_factory=list)
    checks: int = 0
    trouble: MailError | None = None
    refusals: dict[str, MailError] = field(default_factory=dict)
    after_sending: Callable[[], None] = lambda: None
    """Happens after each mail that is accepted."""

    async def check(self, server: MailServer) -> None:
        self.checks += 1
        if self.trouble is not None:
            raise self.trouble

    async def send(
        self, server: MailServer, message: EmailMessage, *, sender: str, to: tuple[str, ...]
    ) -> None:
        if self.trouble is not None:
            raise self.trouble
        for each in to:
            if each in self.refusals:
                raise self.refusals[each]
        self.sent_mails.append((to, message))
        self.after_sending()

    @property
    def subjects(self) -> list[str]:
        """Subjects of all that was brought."""
        return [str(message["Subject"]) for _, message in self.sent_mails]

    @property
    def recipients(self) -> list[tuple[str, ...]]:
        """Recipients of the mails."""
        return [to for to, _ in self.sent_mails]


def a_notifier(
    kube: KubeClient,
    cache: Cache,
    clock: Clock,
    mailer: SmtpMailer,
    notification_writer: NotificationStatusWriter,
    *,
    metrics: Metrics,
    timings: NotificationTimings,
    sends_mail: bool = True,
    addressed: Addressed = OWN_ADDRESS,
) -> Notifier:
    """Build the notifier of one process."""
    mail_delivery = MailDelivery(
        notification_writer=notification_writer,
        secrets=SecretCache(kube, clock),
        mailer=mailer,
        metrics=metrics,
        clock=clock,
        namespace=kube.namespace,
        addressed=addressed,
        timings=timings,
    )
    return Notifier(
        cache=cache,
        notification_writer=notification_writer,
        mail_delivery=mail_delivery,
        clock=clock,
        timings=timings,
        sends_mail=sends_mail,
    )


class Scene:
    """One Organization with all that it needs for mails."""

    def __init__(
        self,
        *resources: Resource,
        notifications: dict[str, Any] | None = None,
        kube: InMemoryKubeClient | None = None,
        mailer: FakeMailer | None = None,
        sends_mail: bool = True,
        timings: NotificationTimings = TIMINGS,
        addressed: Addressed = OWN_ADDRESS,
        **spec: Any,
    ) -> None:
        self.timings, self.addressed = timings, addressed
        self.clock = AClock()
        self.cache = Cache()
        settings = MAILS if notifications is None else notifications
        organization = an_organization(**{"notifications": settings, "oauth": PUBLIC, **spec})
        self.kube = kube or InMemoryKubeClient(organization, an_archive_that_is("True"), *resources)
        self.kube.put_secret("smtp", "smtp", {"host": b"mail.acme.example"})
        self.mailer = mailer or FakeMailer()
        self.metrics = Metrics(CollectorRegistry(), version="test")
        self.again(sends_mail=sends_mail)

    def again(self, *, sends_mail: bool = True) -> None:
        """Start a new process, with only the stored state."""
        self.cache = Cache()
        self.notification_writer = NotificationStatusWriter(self.kube, self.cache)
        self.notifier = a_notifier(
            self.kube,
            self.cache,
            self.clock,
            self.mailer,
            self.notification_writer,
            metrics=self.metrics,
            timings=self.timings,
            sends_mail=sends_mail,
            addressed=self.addressed,
        )
        self.watch()

    def watch(self) -> None:
        """Put the stored objects into the cache."""
        kinds: dict[str, type[Any]] = {"organizations": Organization, "senders": Sender, "archives": Archive}
        for (plural, _), raw in self.kube.objects.items():
            if plural in kinds:
                self.cache.update(kinds[plural].parse(raw))

    def set(self, resource: Resource) -> None:
        """Let somebody else change an object, status and all."""
        raw = resource.to_dict()
        self.kube.edit(type(resource), resource.name, {"spec": raw["spec"], "status": None})
        self.kube.edit(type(resource), resource.name, {"status": raw.get("status", {})})
        self.watch()

    def change(self, kind: type[Resource], name: str, **status: Any) -> None:
        """Let somebody else change parts of a status."""
        self.kube.edit(kind, name, {"status": status})
        self.watch()

    async def run_once(self, times: int = 1, *, every: timedelta = timedelta(seconds=5)) -> None:
        """Run this number of the notifier's checks, with time between."""
        for _ in range(times):
            await self.notifier.run_once()
            self.clock.advance(seconds=every.total_seconds())

    async def look_for(self, how_long: timedelta) -> None:
        """Run the notifier's checks for this duration, at short intervals."""
        await self.run_once(60, every=how_long / 60)

    def organization(self) -> Organization:
        """The Organization as it is stored."""
        return Organization.parse(self.kube.objects["organizations", "acme"])

    def sender(self, name: str = "anna") -> Sender:
        """A Sender as it is stored."""
        return Sender.parse(self.kube.objects["senders", name])

    def problems(self) -> dict[str, ReportedProblem]:
        """The Organization's problems by cause."""
        return {each.cause: each for each in self.organization().status.problems}

    def told(self) -> tuple[str, str, str] | None:
        """The condition ``Notified``."""
        for each in self.organization().status.conditions:
            if each.type == "Notified":
                return each.status, each.reason, each.message
        return None

    def count(self, kind: str, outcome: str) -> float:
        """The metric."""
        labels = {"organization": "acme", "kind": kind, "outcome": outcome}
        return self.metrics.registry.get_sample_value("counterfoil_notifications_total", labels) or 0

"""
Send the mails that are due for one Organization: write a claim, send the mail, write a mark.

A mail server that does not work, and a mail that the server rejects, are retried with growing pauses. The
Organization's condition ``Notified`` reports both. This process never sends a mail twice, even while its mark
cannot be written.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from email.headerregistry import Address
from typing import Any, TypeVar

from msgspec.structs import replace

from controller.access.secret_cache import SecretCache, SecretMissing, what_to_type
from controller.cache import Cache
from controller.mails import problem_tracking
from controller.mails.policy import (
    Notification,
    NotificationTimings,
    due_notifications,
)
from controller.mails.problem_tracking import Problems
from controller.mails.render import MailRenderer, address, message, person_name
from controller.mails.smtp import MailError, MailServer, MessageRejected, SmtpMailer
from controller.scheduling.retry_policy import MAIL_SERVER, REJECTED_MAIL, Backoff
from counterfoil.clock import Clock, believed_time
from counterfoil.i18n.problems import ProblemKind, kind_of
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError, NotFound, Unavailable
from counterfoil.kube.secret import Placeholder, SecretUse
from counterfoil.kube.status import apply_change
from counterfoil.metrics import MailKind, MailOutcome, Metrics
from counterfoil.resources import (
    Notifications,
    Organization,
    OrganizationStatus,
    ReportedProblem,
    Sender,
    SenderStatus,
    find_condition,
    is_condition_true,
    with_condition,
)
from counterfoil.resources.conditions import ConditionStatus
from counterfoil.resources.organization import Addressed

_log = logging.getLogger(__name__)

K = TypeVar("K", Organization, Sender)


_SMTP_VALUES = {
    "host": Placeholder.MAIL_HOST,
    "username": Placeholder.USERNAME,
    "password": Placeholder.PASSWORD,
}


class ClaimLost(Exception):
    """Another process claimed the mail first, or the mail is no longer due."""


@dataclass(frozen=True)
class NotificationStatusWriter:
    """
    Writes what is recorded about problems and mails.

    A change is a pure function from status to status. It runs again after a conflict, and raises
    ``ClaimLost`` when the newest state makes it void. Methods raise ``ApiError``, and what ``change`` raises.
    """

    kube: KubeClient
    cache: Cache

    async def problems(self, organization: str, change: Callable[[Problems], Problems]) -> Organization:
        """Change the problems of an Organization."""
        return await self.organization(
            organization, lambda status: replace(status, problems=change(status.problems))
        )

    async def organization(
        self, name: str, change: Callable[[OrganizationStatus], OrganizationStatus]
    ) -> Organization:
        """Change the status of an Organization."""
        return await self._write(Organization, name, self.cache.organizations.get(name), change)

    async def sender(self, sender: Sender, change: Callable[[SenderStatus], SenderStatus]) -> Sender:
        """Change the status of a Sender, and of no other one that took its name. Raises ``NotFound``."""
        known = self.cache.senders.get(sender.name)
        return await self._write(Sender, sender.name, known, change, uid=sender.uid)

    async def _write(
        self,
        kind: type[K],
        name: str,
        known: K | None,
        change: Callable[[Any], Any],
        *,
        uid: str | None = None,
    ) -> K:
        written = await apply_change(self.kube, kind, name, known, lambda each: change(each.status), uid=uid)
        if written is not known:
            self.cache.update_written(written)
        return written


@dataclass(frozen=True)
class _RetryPause:
    """Monotonic time of the next attempt."""

    until: float
    failures: int

    @classmethod
    def after(cls, last: "_RetryPause | None", monotonic: float, backoff: Backoff) -> "_RetryPause":
        failures = last.failures if last is not None else 0
        return cls(monotonic + backoff.pause(failures), failures + 1)


@dataclass(frozen=True)
class _SentMail:
    """A mail that was sent."""

    notification: Notification
    at: datetime
    """Not before ``notification.since``, which another clock set; that may be a little ahead."""

    @classmethod
    def now(cls, notification: Notification, now: datetime) -> "_SentMail":
        since = believed_time(notification.since, now) or now
        return cls(notification, max(now.replace(microsecond=0), since.replace(microsecond=0)))


@dataclass
class _DeliveryState:
    """State of one Organization's mails that is only in memory; its loss only costs time."""

    server: _RetryPause | None = None
    """Pause after a failure of the mail server."""
    refused: dict[str, _RetryPause] = field(default_factory=dict)
    """Pauses of mails that the mail server rejects, by ``Notification.key``."""
    claims: dict[str, datetime] = field(default_factory=dict)
    """Times of this process's claims, by ``Notification.key``."""
    unmarked: dict[str, _SentMail] = field(default_factory=dict)
    """Mails that were sent and have no mark yet, by ``Notification.key``."""
    checked: MailServer | None = None
    """The mail server's settings at its last success."""


@dataclass(frozen=True)
class _Session:
    """One Organization whose mails are sent now, by which server and from which address."""

    organization: Organization
    state: _DeliveryState
    server: MailServer
    sender: Address


@dataclass
class MailDelivery:
    """Sends the mails that are due."""

    notification_writer: NotificationStatusWriter
    secrets: SecretCache
    mailer: SmtpMailer
    metrics: Metrics
    clock: Clock
    namespace: str
    addressed: Addressed
    timings: NotificationTimings
    _states: dict[str, _DeliveryState] = field(default_factory=dict)
    _is_closed: bool = False

    def unreachable(self, organization: str) -> frozenset[str]:
        """Return the names of the senders whose mails the server rejects."""
        keys = self._state(organization).refused
        return frozenset(key.removeprefix("sender/") for key in keys if key.startswith("sender/"))

    def forget_others(self, organizations: set[str]) -> None:
        """Remove the state of all other Organizations."""
        for name in self._states.keys() - organizations:
            del self._states[name]

    def close(self) -> None:
        """Start no further mail; a mail in progress is sent and marked."""
        self._is_closed = True

    async def write_pending_marks(self, organization: Organization) -> None:
        """Write the marks that could not be written before. Raises ``Unavailable``."""
        state = self._state(organization.name)
        for sent in list(state.unmarked.values()):
            try:
                await self._mark(sent, organization, state)
            except ApiError as problem:
                _raise_if_unavailable(problem)

    async def send_due(self, organization: Organization, senders: list[Sender]) -> None:
        """Send the mails that are due, if mails are configured and no pause is active. Raises
        ``ApiError``."""
        settings, state = organization.spec.notifications, self._state(organization.name)
        monotonic = self.clock.monotonic()
        if settings is None or settings.smtp_secret_ref is None or settings.from_ is None:
            return
        if self._is_closed or (state.server is not None and monotonic < state.server.until):
            return
        due = self._due(organization, settings, senders, state)
        is_server_checked = bool(due) or _must_check_server(organization, state)
        try:
            server = await self._server(settings.smtp_secret_ref.name)
            # A changed Secret may not work; a check now finds that before the next mail is due.
            is_server_checked = is_server_checked or (state.checked is not None and state.checked != server)
            if is_server_checked:
                await self._send_all(due, _Session(organization, state, server, _sender(settings.from_)))
            state.checked = server
        except MailError as trouble:
            state.server = _RetryPause.after(state.server, monotonic, MAIL_SERVER)
            await self._set_notified_condition(organization, "False", trouble.reason, str(trouble))
            return
        state.server = None
        if is_server_checked and not state.refused:
            message = "The mail server answers and takes mails."
            await self._set_notified_condition(organization, "True", "MailServerAnswers", message)

    def _state(self, organization: str) -> _DeliveryState:
        return self._states.setdefault(organization, _DeliveryState())

    def _due(
        self,
        organization: Organization,
        settings: Notifications,
        senders: list[Sender],
        state: _DeliveryState,
    ) -> list[Notification]:
        monotonic = self.clock.monotonic()
        found = due_notifications(
            organization,
            senders,
            self.clock.now(),
            self.timings,
            state.claims,
            unreachable=self.unreachable(organization.name),
        )
        keys = {each.key for each in found}
        state.refused = {key: pause for key, pause in state.refused.items() if key in keys}
        return [
            each
            for each in found
            if each.key not in state.unmarked
            and (each.key not in state.refused or monotonic >= state.refused[each.key].until)
            and (each.kind is MailKind.CONSENT or settings.administrators)
        ]

    async def _send_all(self, due: list[Notification], session: _Session) -> None:
        if not due:
            await self.mailer.check(session.server)
        for each in due:
            if self._is_closed:
                return
            try:
                await self._send(each, session)
            except ApiError as problem:
                _raise_if_unavailable(problem)

    async def _server(self, name: str) -> MailServer:
        try:
            return MailServer.read(name, await self.secrets.data(name, SecretUse.SMTP))
        except SecretMissing as missing:
            how = what_to_type(missing, name, _SMTP_VALUES, SecretUse.SMTP)
            advice = (
                f"Put the address of the mail server and its login there{how}, or correct "
                "spec.notifications.smtpSecretRef."
            )
            raise MailError(*missing.explain("MailSettingsInvalid", advice)) from missing

    async def _send(self, notification: Notification, session: _Session) -> None:
        organization, state = session.organization, session.state
        try:
            await self._deliver(notification, session)
        except (ClaimLost, NotFound):
            return
        except MessageRejected as refused:
            self._count(organization, notification, MailOutcome.REFUSED)
            last = state.refused.get(notification.key)
            state.refused[notification.key] = _RetryPause.after(last, self.clock.monotonic(), REJECTED_MAIL)
            await self._set_notified_condition(organization, "False", refused.reason, str(refused))
            return
        except MailError:
            self._count(organization, notification, MailOutcome.FAILED)
            raise
        self._count(organization, notification, MailOutcome.SENT)
        _log.info("a mail was sent", extra={"reason": notification.kind.value})
        state.refused.pop(notification.key, None)
        sent = state.unmarked[notification.key] = _SentMail.now(notification, self.clock.now())
        await self._mark(sent, organization, state)

    async def _deliver(self, notification: Notification, session: _Session) -> None:
        organization, sender = session.organization, session.sender
        recipients = _recipients(organization, notification)
        if not recipients:
            raise MessageRejected("A mail has no recipient: there is no valid address.")
        begun = await self._claim(notification, session)
        mail = message(
            MailRenderer(self.addressed(organization), self.namespace).content(notification),
            sender=sender,
            to=recipients,
            about=_about(organization, notification.kind, notification.key, notification.since),
            thread=_thread(organization, notification),
            now=begun,
        )
        to = tuple(each.addr_spec for each in recipients)
        await self.mailer.send(session.server, mail, sender=sender.addr_spec, to=to)

    def _count(self, organization: Organization, notification: Notification, outcome: MailOutcome) -> None:
        self.metrics.notifications.labels(organization.name, notification.kind.value, outcome.value).inc()

    async def _set_notified_condition(
        self, organization: Organization, truth: ConditionStatus, reason: str, message: str
    ) -> None:
        """Report in the condition ``Notified`` whether mails can be sent."""
        now, generation = self.clock.now(), organization.metadata.generation

        def changed(status: OrganizationStatus) -> OrganizationStatus:
            conditions = with_condition(
                status.conditions, "Notified", truth, reason, message, now=now, generation=generation
            )
            return replace(status, conditions=conditions)

        await self.notification_writer.organization(organization.name, changed)

    # -- Claims and marks ------------------------------------------------------------------------------------

    async def _claim(self, notification: Notification, session: _Session) -> datetime:
        """Claim a mail. Raises ``ClaimLost`` if another process has claimed it, or if it is no longer due."""
        now, writer = self.clock.now().replace(microsecond=0), self.notification_writer
        our_claim = session.state.claims.get(notification.key)
        if notification.problem is not None:
            claim = _claiming_problem(notification.problem, our_claim, now)
            await writer.problems(session.organization.name, claim)
        else:
            sender = notification.senders[0]
            await writer.sender(sender, _claiming_sender(sender.status, our_claim, now))
        session.state.claims[notification.key] = now
        return now

    async def _mark(self, sent: _SentMail, organization: Organization, state: _DeliveryState) -> None:
        """Record that this mail was sent."""
        notification = sent.notification
        problems: list[ApiError] = []
        for sender in notification.senders:
            try:
                await self._mark_sender(sender, notification.kind, sent.at)
            except ApiError as problem:
                _raise_if_unavailable(problem)
                problems.append(problem)
        if notification.problem is not None:
            cause, reason = notification.problem.cause, notification.problem.reason
            is_end = notification.kind is MailKind.SOLVED
            await self.notification_writer.problems(
                organization.name,
                lambda problems: (
                    problem_tracking.close_problem(problems, cause)
                    if is_end
                    else problem_tracking.mark_notified(problems, cause, sent.at, reason)
                ),
            )
        if problems:
            raise problems[0]
        state.unmarked.pop(notification.key, None)
        state.claims.pop(notification.key, None)

    async def _mark_sender(self, sender: Sender, kind: MailKind, at: datetime) -> None:
        def heard(status: SenderStatus) -> SenderStatus:
            if kind is MailKind.ESCALATION:
                return replace(status, escalated_time=at)
            return replace(status, notified_time=at, notified_key=sender.key_fingerprint)

        try:
            await self.notification_writer.sender(sender, heard)
        except NotFound:
            _log.debug("a sender was deleted after a mail to it was sent")


def _raise_if_unavailable(problem: ApiError) -> None:
    """An object that the API server refuses costs itself; an API server that is down ends the pass."""
    if isinstance(problem, Unavailable):
        raise problem
    _log.warning("a mail cannot be claimed or marked as sent: %s", problem)


def _claiming_problem(
    expected: ReportedProblem, our_claim: datetime | None, now: datetime
) -> Callable[[Problems], Problems]:
    def claimed(problems: Problems) -> Problems:
        known = problem_tracking.find_problem(problems, expected.cause)
        if known is None:
            raise ClaimLost
        if _mail_state(known) != _mail_state(expected):
            raise ClaimLost
        if known.mail_attempt_time not in (expected.mail_attempt_time, our_claim):
            raise ClaimLost
        return problem_tracking.mark_attempted(problems, expected.cause, now)

    return claimed


def _mail_state(problem: ReportedProblem) -> tuple[object, ...]:
    return problem.notified_time, problem.solved_time, problem.reason_time


def _claiming_sender(
    expected: SenderStatus, our_claim: datetime | None, now: datetime
) -> Callable[[SenderStatus], SenderStatus]:
    def claimed(status: SenderStatus) -> SenderStatus:
        if (
            is_condition_true(status.conditions, "Authorized")
            or status.notified_time != expected.notified_time
        ):
            raise ClaimLost
        if status.mail_attempt_time not in (expected.mail_attempt_time, our_claim):
            raise ClaimLost
        return replace(status, mail_attempt_time=now)

    return claimed


def _about(organization: Organization, kind: str, key: str, since: datetime) -> str:
    return f"{organization.uid}/{kind}/{key}/{since.isoformat()}"


def _thread(organization: Organization, notification: Notification) -> str | None:
    """Return what the first mail about a problem is about, for the later ones; None for a first mail, and for
    unresponsive senders: each mail about them is about others."""
    problem = notification.problem
    if problem is None or kind_of(problem) in (ProblemKind.DIGEST, ProblemKind.CONSENT):
        return None
    if notification.kind is not MailKind.SOLVED and notification.since == problem.start_time:
        return None
    return _about(organization, MailKind(kind_of(problem)), notification.key, problem.start_time)


def _sender(from_: str) -> Address:
    found = address(from_)
    if found is None:
        raise MailError("MailSettingsInvalid", "spec.notifications.from is no valid mail address.")
    return found


def _recipients(organization: Organization, notification: Notification) -> tuple[Address, ...]:
    if notification.kind is MailKind.CONSENT:
        sender = notification.senders[0]
        found = [address(sender.spec.email or "", person_name(sender))]
    else:
        settings = organization.spec.notifications or Notifications()
        found = [address(each) for each in settings.administrators]
    return tuple(each for each in found if each is not None)


def _must_check_server(organization: Organization, state: _DeliveryState) -> bool:
    """Whether the mail server must be checked: its configuration changed, or it did not work."""
    known = find_condition(organization.status.conditions, "Notified")
    if known is None or known.observed_generation != organization.metadata.generation:
        return True
    return known.status == "False" and not state.refused

"""
Send the mails that are due for one Organization: write a claim, send the mail, write a mark.

A mail server that does not work, and a mail that the server rejects, are retried with growing pauses. The
Organization's condition ``Notified`` reports both. This process never sends a mail twice, even while its mark
cannot be written.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.headerregistry import Address

from msgspec.structs import replace

from controller.access.secret_cache import SecretCache, SecretMissing
from controller.notifications import consent_requests, problem_tracking
from controller.notifications.mime import address, message
from controller.notifications.policy import Notification, NotificationTimings, due_notifications
from controller.notifications.render import MailRenderer
from controller.notifications.smtp import Mailer, MailError, MailServer, MessageRejected
from controller.notifications.status_writer import ClaimLost, NotificationStatusWriter
from counterfoil.clock import Clock
from counterfoil.kube.errors import NotFound
from counterfoil.metrics import MailKind, MailOutcome, Metrics
from counterfoil.resources import (
    Notifications,
    Organization,
    OrganizationStatus,
    Sender,
    SenderStatus,
    find_condition,
    is_condition_true,
    with_condition,
)
from counterfoil.resources.conditions import ConditionStatus

_log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 10.0
MAX_PAUSE_SECONDS = 900.0
MAX_PAUSE_PER_MESSAGE_SECONDS = 3600.0
"""Maximum pause for one mail that the server rejects while it accepts others."""


@dataclass(frozen=True)
class _RetryPause:
    """Time of the next attempt."""

    until: datetime
    seconds: float

    @classmethod
    def after(cls, last: "_RetryPause | None", now: datetime, longest: float) -> "_RetryPause":
        seconds = FIRST_PAUSE_SECONDS if last is None else min(last.seconds * 2, longest)
        return cls(now + timedelta(seconds=seconds), seconds)


@dataclass(frozen=True)
class _SentMail:
    """A mail that was sent."""

    notification: Notification
    at: datetime
    """Never before ``notification.since``, which another controller's clock set; that clock may be ahead."""

    @classmethod
    def now(cls, notification: Notification, now: datetime) -> "_SentMail":
        return cls(notification, max(now.replace(microsecond=0), notification.since))


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


@dataclass
class MailDelivery:
    """Sends the mails that are due."""

    notification_writer: NotificationStatusWriter
    secrets: SecretCache
    mailer: Mailer
    metrics: Metrics
    clock: Clock
    namespace: str
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
        """Write the marks that could not be written before. Raises ``ApiError``."""
        state = self._state(organization.name)
        for sent in list(state.unmarked.values()):
            await self._mark(sent, organization, state)

    async def send_due(self, organization: Organization, senders: list[Sender]) -> None:
        """Send the mails that are due, if mails are configured and no pause is active. Raises
        ``ApiError``."""
        settings, state, now = (
            organization.spec.notifications,
            self._state(organization.name),
            self.clock.now(),
        )
        if settings is None or settings.smtp_secret_ref is None or settings.from_ is None:
            return
        if self._is_closed:
            return
        if state.server is not None and now < state.server.until:
            return
        due = self._due(organization, settings, senders, state)
        is_server_checked = bool(due) or _must_check_server(organization, state)
        try:
            server = await self._server(settings)
            # A changed Secret may not work; a check now finds that before the next mail is due.
            is_server_checked = is_server_checked or (state.checked is not None and state.checked != server)
            if is_server_checked:
                await self._send_all(organization, settings, due, state, server)
            state.checked = server
        except MailError as trouble:
            state.server = _RetryPause.after(state.server, now, MAX_PAUSE_SECONDS)
            await self._set_notified_condition(organization, "False", trouble.reason, str(trouble))
            return
        state.server = None
        if is_server_checked and not state.refused:
            await self._set_notified_condition(
                organization, "True", "MailServerAnswers", "The mail server answers and takes mails."
            )

    def _state(self, organization: str) -> _DeliveryState:
        return self._states.setdefault(organization, _DeliveryState())

    def _due(
        self,
        organization: Organization,
        settings: Notifications,
        senders: list[Sender],
        state: _DeliveryState,
    ) -> list[Notification]:
        now = self.clock.now()
        found = due_notifications(
            organization,
            senders,
            now,
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
            and (each.key not in state.refused or now >= state.refused[each.key].until)
            and (each.kind is MailKind.CONSENT or settings.administrators)
        ]

    async def _send_all(
        self,
        organization: Organization,
        settings: Notifications,
        due: list[Notification],
        state: _DeliveryState,
        server: MailServer,
    ) -> None:
        sender = _sender(settings)
        if not due:
            await self.mailer.check(server)
        for each in due:
            if self._is_closed:
                return
            await self._send(organization, each, state, server, sender)

    async def _server(self, settings: Notifications) -> MailServer:
        name = settings.smtp_secret_ref.name if settings.smtp_secret_ref is not None else ""
        try:
            return MailServer.read(name, await self.secrets.data(name))
        except SecretMissing as missing:
            raise MailError("MailSettingsInvalid", str(missing)) from missing

    async def _send(
        self,
        organization: Organization,
        notification: Notification,
        state: _DeliveryState,
        server: MailServer,
        sender: Address,
    ) -> None:
        try:
            await self._deliver(organization, notification, state, server, sender)
        except (ClaimLost, NotFound):
            return
        except MessageRejected as refused:
            self._count(notification, MailOutcome.REFUSED)
            state.refused[notification.key] = _RetryPause.after(
                state.refused.get(notification.key), self.clock.now(), MAX_PAUSE_PER_MESSAGE_SECONDS
            )
            await self._set_notified_condition(organization, "False", refused.reason, str(refused))
            return
        except MailError:
            self._count(notification, MailOutcome.FAILED)
            raise
        self._count(notification, MailOutcome.SENT)
        _log.info("a mail was sent", extra={"reason": notification.kind.value})
        state.refused.pop(notification.key, None)
        sent = state.unmarked[notification.key] = _SentMail.now(notification, self.clock.now())
        await self._mark(sent, organization, state)

    async def _deliver(
        self,
        organization: Organization,
        notification: Notification,
        state: _DeliveryState,
        server: MailServer,
        sender: Address,
    ) -> None:
        recipients = _recipients(organization, notification)
        if not recipients:
            raise MessageRejected("A mail has no recipient: there is no valid address.")
        begun = await self._claim(notification, organization, state)
        mail = message(
            MailRenderer(organization, self.namespace).content(notification),
            sender=sender,
            to=recipients,
            about=f"{organization.uid}/{notification.kind}/{notification.key}/{notification.since.isoformat()}",
            now=begun,
        )
        to = tuple(each.addr_spec for each in recipients)
        await self.mailer.send(server, mail, sender=sender.addr_spec, to=to)

    def _count(self, notification: Notification, outcome: MailOutcome) -> None:
        self.metrics.notifications.labels(notification.kind.value, outcome.value).inc()

    async def _set_notified_condition(
        self, organization: Organization, truth: ConditionStatus, reason: str, message: str
    ) -> None:
        """Report in the condition ``Notified`` whether mails can be sent."""

        def changed(status: OrganizationStatus) -> OrganizationStatus:
            conditions = with_condition(
                status.conditions,
                "Notified",
                truth,
                reason=reason,
                message=message,
                now=self.clock.now(),
                generation=organization.metadata.generation,
            )
            return replace(status, conditions=conditions)

        await self.notification_writer.organization(organization.name, changed)

    # -- Claims and marks ------------------------------------------------------------------------------------

    async def _claim(
        self, notification: Notification, organization: Organization, state: _DeliveryState
    ) -> datetime:
        """Claim a mail. Raises ``ClaimLost`` if another process has claimed it, or if it is no longer due."""
        now = self.clock.now().replace(microsecond=0)
        our_claim = state.claims.get(notification.key)
        if notification.problem is not None:
            await self.notification_writer.problems(
                organization.name, _claiming_problem(notification, our_claim, now)
            )
        else:
            await self.notification_writer.sender(
                notification.senders[0].name, _claiming_sender(notification, our_claim, now)
            )
        state.claims[notification.key] = now
        return now

    async def _mark(self, sent: _SentMail, organization: Organization, state: _DeliveryState) -> None:
        """Record that this mail was sent."""
        notification = sent.notification
        for sender in notification.senders:
            await self._mark_sender(sender, notification.kind, sent.at)
        if notification.problem is not None:
            cause, is_end = notification.problem.cause, notification.kind is MailKind.SOLVED
            await self.notification_writer.problems(
                organization.name,
                lambda problems: (
                    problem_tracking.close_problem(problems, cause)
                    if is_end
                    else problem_tracking.mark_notified(problems, cause, sent.at)
                ),
            )
        state.unmarked.pop(notification.key, None)
        state.claims.pop(notification.key, None)

    async def _mark_sender(self, sender: Sender, kind: MailKind, at: datetime) -> None:
        def heard(status: SenderStatus) -> SenderStatus:
            if kind is MailKind.ESCALATION:
                return replace(status, escalated_at=at)
            return replace(status, notified_at=at, notified_key=consent_requests.key_fingerprint(sender))

        try:
            await self.notification_writer.sender(sender.name, heard)
        except NotFound:
            _log.debug("a sender was deleted after a mail to it was sent")


def _claiming_problem(
    notification: Notification, our_claim: datetime | None, now: datetime
) -> Callable[[problem_tracking.Problems], problem_tracking.Problems]:
    expected = notification.problem

    def claimed(problems: problem_tracking.Problems) -> problem_tracking.Problems:
        known = problem_tracking.find_problem(problems, notification.key)
        if known is None or expected is None:
            raise ClaimLost
        if (known.notified_at, known.solved_at) != (expected.notified_at, expected.solved_at):
            raise ClaimLost
        if known.mail_attempted_at not in (expected.mail_attempted_at, our_claim):
            raise ClaimLost
        return problem_tracking.mark_attempted(problems, notification.key, now)

    return claimed


def _claiming_sender(
    notification: Notification, our_claim: datetime | None, now: datetime
) -> Callable[[SenderStatus], SenderStatus]:
    expected = notification.senders[0].status

    def claimed(status: SenderStatus) -> SenderStatus:
        if is_condition_true(status.conditions, "Authorized") or status.notified_at != expected.notified_at:
            raise ClaimLost
        if status.mail_attempted_at not in (expected.mail_attempted_at, our_claim):
            raise ClaimLost
        return replace(status, mail_attempted_at=now)

    return claimed


def _sender(settings: Notifications) -> Address:
    found = address(settings.from_ or "")
    if found is None:
        raise MailError("MailSettingsInvalid", "spec.notifications.from is no valid mail address.")
    return found


def _recipients(organization: Organization, notification: Notification) -> tuple[Address, ...]:
    if notification.kind is MailKind.CONSENT:
        spec = notification.senders[0].spec
        name = " ".join(part for part in (spec.given_name, spec.surname) if part)
        found = [address(spec.email or "", name)]
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

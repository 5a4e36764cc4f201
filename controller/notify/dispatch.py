"""
Sends what is due for one Organization, each mail with a claim before it and a mark after it.

A mail server that does not work is tried again with growing pauses, a mail that it refuses too, and both are told in the
Organization's condition ``Notified``. A mail that was sent is never sent again by this process, also when its mark can't
be written for a while.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.headerregistry import Address

from msgspec.structs import replace

from controller.notify import asking, ledger
from controller.notify.due import Notice, Patience, notices
from controller.notify.letters import Writer
from controller.notify.mail import address, message
from controller.notify.notes import Lost, Notes
from controller.notify.postman import MailServer, MailTrouble, Postman, Refused
from controller.secrets import SecretMissing, Secrets
from counterfoil.clock import Clock
from counterfoil.cluster import NotFound
from counterfoil.metrics import Mail, MailOutcome, Metrics
from counterfoil.resources import (
    Notifications,
    Organization,
    OrganizationStatus,
    Sender,
    SenderStatus,
    condition,
    is_true,
    with_condition,
)
from counterfoil.resources.conditions import Truth

_log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 10.0
LONGEST_PAUSE_SECONDS = 900.0
LONGEST_PAUSE_OF_ONE_SECONDS = 3600.0
"""For one mail that is refused while others are taken."""


@dataclass(frozen=True)
class _Pause:
    """When something may be tried again."""

    until: datetime
    seconds: float

    @classmethod
    def after(cls, last: "_Pause | None", now: datetime, longest: float) -> "_Pause":
        seconds = FIRST_PAUSE_SECONDS if last is None else min(last.seconds * 2, longest)
        return cls(now + timedelta(seconds=seconds), seconds)


@dataclass(frozen=True)
class _Sent:
    """A mail that was sent."""

    notice: Notice
    at: datetime
    """Never before that which it is about; another controller's clock, by which that is known, may be ahead of ours."""

    @classmethod
    def now(cls, notice: Notice, now: datetime) -> "_Sent":
        return cls(notice, max(now.replace(microsecond=0), notice.since))


@dataclass
class _Memory:
    """What is known about one Organization's mails besides its status; losing it costs nothing but time."""

    server: _Pause | None = None
    """The mail server does not work."""
    refused: dict[str, _Pause] = field(default_factory=dict)
    """By ``Notice.key``: the mail server does not take it."""
    claims: dict[str, datetime] = field(default_factory=dict)
    """By ``Notice.key``: begun here."""
    unmarked: dict[str, _Sent] = field(default_factory=dict)
    """By ``Notice.key``: sent, but the mark is not written yet."""
    checked: MailServer | None = None
    """As which its Secret described it when it worked last."""


@dataclass
class Dispatch:
    """Sends mails."""

    notes: Notes
    secrets: Secrets
    postman: Postman
    metrics: Metrics
    clock: Clock
    namespace: str
    patience: Patience
    _memories: dict[str, _Memory] = field(default_factory=dict)
    _is_closed: bool = False

    def unreachable(self, organization: str) -> frozenset[str]:
        """Return the names of the senders whose mails the server refuses."""
        keys = self._memory(organization).refused
        return frozenset(key.removeprefix("sender/") for key in keys if key.startswith("sender/"))

    def keep(self, organizations: set[str]) -> None:
        """Forget all others."""
        for name in self._memories.keys() - organizations:
            del self._memories[name]

    def close(self) -> None:
        """Begin no mail any more; one that is begun is sent and marked."""
        self._is_closed = True

    async def finish(self, organization: Organization) -> None:
        """Write the marks that could not be written before. Raises ``ApiProblem``."""
        memory = self._memory(organization.name)
        for sent in list(memory.unmarked.values()):
            await self._mark(sent, organization, memory)

    async def send_due(self, organization: Organization, senders: list[Sender]) -> None:
        """Send what is due, if mails are configured and the mail server is not paused. Raises ``ApiProblem``."""
        settings, memory, now = (
            organization.spec.notifications,
            self._memory(organization.name),
            self.clock.now(),
        )
        if settings is None or settings.smtp_secret_ref is None or settings.from_ is None:
            return
        if self._is_closed:
            return
        if memory.server is not None and now < memory.server.until:
            return
        due = self._due(organization, settings, senders, memory)
        looked = bool(due) or _is_to_be_checked(organization, memory)
        try:
            server = await self._server(settings)
            # A Secret that was changed may not work any more; better to know now than when a mail is to be sent.
            looked = looked or (memory.checked is not None and memory.checked != server)
            if looked:
                await self._go(organization, settings, due, memory, server)
            memory.checked = server
        except MailTrouble as trouble:
            memory.server = _Pause.after(memory.server, now, LONGEST_PAUSE_SECONDS)
            await self._notified(organization, "False", trouble.reason, str(trouble))
            return
        memory.server = None
        if looked and not memory.refused:
            await self._notified(
                organization, "True", "MailServerAnswers", "The mail server answers and takes mails."
            )

    def _memory(self, organization: str) -> _Memory:
        return self._memories.setdefault(organization, _Memory())

    def _due(
        self, organization: Organization, settings: Notifications, senders: list[Sender], memory: _Memory
    ) -> list[Notice]:
        now = self.clock.now()
        found = notices(
            organization,
            senders,
            now,
            self.patience,
            memory.claims,
            unreachable=self.unreachable(organization.name),
        )
        keys = {each.key for each in found}
        memory.refused = {key: pause for key, pause in memory.refused.items() if key in keys}
        return [
            each
            for each in found
            if each.key not in memory.unmarked
            and (each.key not in memory.refused or now >= memory.refused[each.key].until)
            and (each.kind is Mail.CONSENT or settings.administrators)
        ]

    async def _go(
        self,
        organization: Organization,
        settings: Notifications,
        due: list[Notice],
        memory: _Memory,
        server: MailServer,
    ) -> None:
        sender = _sender(settings)
        if not due:
            await self.postman.check(server)
        for each in due:
            if self._is_closed:
                return
            await self._send(organization, each, memory, server, sender)

    async def _server(self, settings: Notifications) -> MailServer:
        name = settings.smtp_secret_ref.name if settings.smtp_secret_ref is not None else ""
        try:
            return MailServer.read(name, await self.secrets.data(name))
        except SecretMissing as missing:
            raise MailTrouble("MailSettingsInvalid", str(missing)) from missing

    async def _send(
        self, organization: Organization, notice: Notice, memory: _Memory, server: MailServer, sender: Address
    ) -> None:
        try:
            await self._bring(organization, notice, memory, server, sender)
        except (Lost, NotFound):
            return
        except Refused as refused:
            self._count(notice, MailOutcome.REFUSED)
            memory.refused[notice.key] = _Pause.after(
                memory.refused.get(notice.key), self.clock.now(), LONGEST_PAUSE_OF_ONE_SECONDS
            )
            await self._notified(organization, "False", refused.reason, str(refused))
            return
        except MailTrouble:
            self._count(notice, MailOutcome.FAILED)
            raise
        self._count(notice, MailOutcome.SENT)
        _log.info("a mail was sent", extra={"reason": notice.kind.value})
        memory.refused.pop(notice.key, None)
        sent = memory.unmarked[notice.key] = _Sent.now(notice, self.clock.now())
        await self._mark(sent, organization, memory)

    async def _bring(
        self, organization: Organization, notice: Notice, memory: _Memory, server: MailServer, sender: Address
    ) -> None:
        recipients = _recipients(organization, notice)
        if not recipients:
            raise Refused("A mail has nobody to go to: there is no address that mails can be sent to.")
        begun = await self._claim(notice, organization, memory)
        mail = message(
            Writer(organization, self.namespace).letter(notice),
            sender=sender,
            to=recipients,
            about=f"{organization.uid}/{notice.kind}/{notice.key}/{notice.since.isoformat()}",
            now=begun,
        )
        to = tuple(each.addr_spec for each in recipients)
        await self.postman.bring(server, mail, sender=sender.addr_spec, to=to)

    def _count(self, notice: Notice, outcome: MailOutcome) -> None:
        self.metrics.notifications.labels(notice.kind.value, outcome.value).inc()

    async def _notified(self, organization: Organization, truth: Truth, reason: str, message: str) -> None:
        """Tell in the condition ``Notified`` whether mails can be sent."""

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

        await self.notes.organization(organization.name, changed)

    # -- Claims and marks -------------------------------------------------------------------------------------

    async def _claim(self, notice: Notice, organization: Organization, memory: _Memory) -> datetime:
        """Write down that this mail is begun. Raises ``Lost`` when somebody else did, or when it is no longer due."""
        now = self.clock.now().replace(microsecond=0)
        ours = memory.claims.get(notice.key)
        if notice.problem is not None:
            await self.notes.problems(organization.name, _claiming_problem(notice, ours, now))
        else:
            await self.notes.sender(notice.senders[0].name, _claiming_sender(notice, ours, now))
        memory.claims[notice.key] = now
        return now

    async def _mark(self, sent: _Sent, organization: Organization, memory: _Memory) -> None:
        """Write down that this mail was sent."""
        notice = sent.notice
        for sender in notice.senders:
            await self._mark_sender(sender, notice.kind, sent.at)
        if notice.problem is not None:
            cause, is_end = notice.problem.cause, notice.kind is Mail.SOLVED
            await self.notes.problems(
                organization.name,
                lambda problems: (
                    ledger.closed(problems, cause) if is_end else ledger.told(problems, cause, sent.at)
                ),
            )
        memory.unmarked.pop(notice.key, None)
        memory.claims.pop(notice.key, None)

    async def _mark_sender(self, sender: Sender, kind: Mail, at: datetime) -> None:
        def heard(status: SenderStatus) -> SenderStatus:
            if kind is Mail.ESCALATION:
                return replace(status, escalated_at=at)
            return replace(status, notified_at=at, notified_key=asking.fingerprint(sender))

        try:
            await self.notes.sender(sender.name, heard)
        except NotFound:
            _log.debug("a sender was deleted who had just been written to")


def _claiming_problem(
    notice: Notice, ours: datetime | None, now: datetime
) -> Callable[[ledger.Problems], ledger.Problems]:
    seen = notice.problem

    def claimed(problems: ledger.Problems) -> ledger.Problems:
        known = ledger.find(problems, notice.key)
        if known is None or seen is None:
            raise Lost
        if (known.notified_at, known.solved_at) != (seen.notified_at, seen.solved_at):
            raise Lost
        if known.mail_attempted_at not in (seen.mail_attempted_at, ours):
            raise Lost
        return ledger.attempted(problems, notice.key, now)

    return claimed


def _claiming_sender(
    notice: Notice, ours: datetime | None, now: datetime
) -> Callable[[SenderStatus], SenderStatus]:
    seen = notice.senders[0].status

    def claimed(status: SenderStatus) -> SenderStatus:
        if is_true(status.conditions, "Authorized") or status.notified_at != seen.notified_at:
            raise Lost
        if status.mail_attempted_at not in (seen.mail_attempted_at, ours):
            raise Lost
        return replace(status, mail_attempted_at=now)

    return claimed


def _sender(settings: Notifications) -> Address:
    found = address(settings.from_ or "")
    if found is None:
        raise MailTrouble(
            "MailSettingsInvalid", "spec.notifications.from is no address that mails can come from."
        )
    return found


def _recipients(organization: Organization, notice: Notice) -> tuple[Address, ...]:
    if notice.kind is Mail.CONSENT:
        spec = notice.senders[0].spec
        name = " ".join(part for part in (spec.given_name, spec.surname) if part)
        found = [address(spec.email or "", name)]
    else:
        settings = organization.spec.notifications or Notifications()
        found = [address(each) for each in settings.administrators]
    return tuple(each for each in found if each is not None)


def _is_to_be_checked(organization: Organization, memory: _Memory) -> bool:
    """Whether nobody knows if mails can be sent: it was configured anew, or it did not work."""
    known = condition(organization.status.conditions, "Notified")
    if known is None or known.observed_generation != organization.metadata.generation:
        return True
    return known.status == "False" and not memory.refused

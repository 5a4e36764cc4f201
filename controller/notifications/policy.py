"""
Select the mails that are due for one Organization, and the problems that can be removed. Pure.

A mail that another process has claimed is not sent before ``NotificationTimings.claim`` has passed: by then
the other process has marked the mail as sent, or has died.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from controller.notifications import consent_requests, problem_tracking
from controller.notifications.problem_tracking import ARCHIVE, CONSENT, DIGEST, FAILED, KEY
from counterfoil.metrics import MailKind
from counterfoil.resources import Organization, ReportedProblem, Sender

_KINDS = {FAILED: MailKind.FAILED, ARCHIVE: MailKind.ARCHIVE, KEY: MailKind.KEY}


@dataclass(frozen=True)
class NotificationTimings:
    """Delays before mails."""

    gather: timedelta = timedelta(seconds=4)
    """Delay from a problem to its mail, so that the mail can state the number of events."""
    archive: timedelta = timedelta(minutes=10)
    """Delay before a mail about an archive that is not ready while events wait."""
    settle: timedelta = timedelta(minutes=1)
    """Delay from a problem's end to the mail about it. A problem that returns within this time is the same
    problem."""
    digest: timedelta = timedelta(hours=24)
    """Interval between reminders of open problems; one mail lists all of them."""
    claim: timedelta = timedelta(minutes=15)
    """Time after which a claimed mail without a mark is sent again; longer than any SMTP session."""


@dataclass(frozen=True)
class Notification:
    """One mail that is due."""

    kind: MailKind
    since: datetime
    """Start of the cause; it distinguishes one mail from the next about the same problem."""
    problem: ReportedProblem | None = None
    senders: tuple[Sender, ...] = ()

    @property
    def key(self) -> str:
        """Identifier of the subject; equal for each attempt to send this mail."""
        return self.problem.cause if self.problem is not None else f"sender/{self.senders[0].name}"


Claims = Mapping[str, datetime]
"""Times of this process's own claims, by ``Notification.key``; their results are known here."""


def due_notifications(
    organization: Organization,
    senders: Iterable[Sender],
    now: datetime,
    timings: NotificationTimings,
    claims: Claims,
    *,
    unreachable: Iterable[str] = (),
) -> list[Notification]:
    """Return the mails that are due, senders first."""
    senders = list(senders)
    found = [
        *_to_senders_about_consent(senders, now),
        *_to_administrators_about_senders(organization, senders, now, unreachable),
    ]
    found += _about_problems(organization.status.problems, now, timings)
    return [each for each in found if not _is_attempted_elsewhere(each, now, timings, claims)]


def _to_senders_about_consent(senders: list[Sender], now: datetime) -> Iterable[Notification]:
    for each in senders:
        refused_condition = consent_requests.key_failure(each)
        if refused_condition is not None and consent_requests.is_request_due(each, now):
            yield Notification(
                MailKind.CONSENT,
                consent_requests.problem_since(each, refused_condition, now),
                senders=(each,),
            )


def _to_administrators_about_senders(
    organization: Organization, senders: list[Sender], now: datetime, unreachable: Iterable[str]
) -> Iterable[Notification]:
    problem = problem_tracking.find_problem(organization.status.problems, CONSENT)
    news = [
        each
        for each in consent_requests.unresponsive_senders(senders, organization, now, unreachable=unreachable)
        if not consent_requests.is_escalated(each, now)
    ]
    if problem is not None and news:
        since = max(each.status.notified_at or problem.since for each in news)
        yield Notification(MailKind.ESCALATION, since, problem, tuple(news))


def _about_problems(
    problems: problem_tracking.Problems, now: datetime, timings: NotificationTimings
) -> Iterable[Notification]:
    for each in problems:
        kind = _KINDS.get(problem_tracking.kind_of(each))
        if _is_digest_due(each, now, timings):
            yield Notification(MailKind.DIGEST, each.notified_at or each.since, each)
        if kind is None:
            continue
        if each.solved_at is not None:
            if each.notified_at is not None and now - each.solved_at >= timings.settle:
                yield Notification(MailKind.SOLVED, each.solved_at, each)
        elif (
            each.notified_at is None
            and now - each.since >= timings.gather
            and not _is_covered_by_archive(each, problems)
        ):
            yield Notification(kind, each.since, each)


def _is_digest_due(problem: ReportedProblem, now: datetime, timings: NotificationTimings) -> bool:
    if problem_tracking.kind_of(problem) != DIGEST or problem.solved_at is not None:
        return False
    return problem.notified_at is None or now - problem.notified_at >= timings.digest


def _is_covered_by_archive(problem: ReportedProblem, problems: problem_tracking.Problems) -> bool:
    """Whether the mail about an archive that does not work covers this problem."""
    place = problem_tracking.archive_of(problem)
    return (
        problem_tracking.kind_of(problem) == FAILED
        and place != ""
        and problem_tracking.is_open(problems, f"{ARCHIVE}/{place}")
    )


def _is_attempted_elsewhere(
    notification: Notification, now: datetime, timings: NotificationTimings, claims: Claims
) -> bool:
    begun = attempted_at(notification)
    return begun is not None and begun != claims.get(notification.key) and now - begun < timings.claim


def attempted_at(notification: Notification) -> datetime | None:
    """Return the time of the last claim without a mark, according to the status."""
    if notification.problem is not None:
        return notification.problem.mail_attempted_at
    begun, told = notification.senders[0].status.mail_attempted_at, notification.senders[0].status.notified_at
    return None if begun is not None and told is not None and told >= begun else begun


def removable_causes(
    problems: problem_tracking.Problems, now: datetime, timings: NotificationTimings
) -> list[str]:
    """Return the causes of solved problems that need no mail, because no mail announced them."""
    return [
        each.cause
        for each in problems
        if each.solved_at is not None
        and now - each.solved_at >= timings.settle
        and (each.notified_at is None or problem_tracking.kind_of(each) in (CONSENT, DIGEST))
    ]

"""
Select the mails that are due for one Organization, and the problems that can be removed. Pure.

A sender receives one mail each time that the key stops working, when events wait for a key, or when a person
requests it. A key that
flaps (refused, accepted, refused) is one problem for ``QUIET_PERIOD``. Problems that the sender cannot solve
go to the administrators: otherwise a missing sealing key would send a mail to every sender at once.

A mail that another process has claimed is not sent before ``NotificationTimings.claim`` has passed: by then
the other process has marked the mail as sent, or has died.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from controller.mails.problem_tracking import (
    MAX_EXAMPLES,
    MAX_MESSAGE_LENGTH,
    OUTAGE,
    Observation,
    Problems,
    find_problem,
    is_open,
    needs_further_mail,
)
from counterfoil.clock import age, believed_time
from counterfoil.i18n.key_advice import key_advice, key_cause
from counterfoil.i18n.problems import (
    ENDS_WITHOUT_MAIL,
    Ending,
    ProblemKind,
    archive_of,
    end_of_import,
    import_failure,
    is_key_needed,
    key_ending,
    key_failure,
    kind_of,
    reason_cause,
)
from counterfoil.metrics import MailKind
from counterfoil.resources import Condition, Import, Organization, ReportedProblem, Sender

QUIET_PERIOD = timedelta(hours=1)

UNKNOWN_SINCE_PERIOD = timedelta(days=1)
"""Interval between mails about a key whose refusal has a time that can't be right."""

MAX_NAMED_SENDERS = 20
"""Maximum number of senders that one mail to the administrators names."""

_MAILED = frozenset(ProblemKind) - {ProblemKind.CONSENT, ProblemKind.DIGEST}
"""Kinds of problems that a mail of the same name announces. The other two have their own rules."""

_LOST_WHILE_SUSPENDED = frozenset({ProblemKind.RETENTION, ProblemKind.CALLBACK})
"""Kinds of problems by which a suspended Organization loses envelopes."""

_ENDS_WITH_MAIL = frozenset(ProblemKind) - ENDS_WITHOUT_MAIL
"""Kinds whose end a mail announces, and none that only a newer version knows."""


@dataclass(frozen=True)
class NotificationTimings:
    """Delays before mails."""

    gather: timedelta = timedelta(seconds=4)
    """Delay from a problem to its mail, so that the mail can state the number of events."""
    outage: timedelta = OUTAGE
    """Delay before a problem with an archive or an eSAW that does not work while events wait."""
    stalled: timedelta = timedelta(minutes=10)
    """Delay before a problem with Imports. Others often end what stops it, as a consent does."""
    unresponsive: timedelta = timedelta(seconds=5)
    """The same for an archive that hangs or is too slow: that was measured for longer than a restart."""
    settle: timedelta = timedelta(minutes=1)
    """Delay from a problem's end to the mail about it (``before_end``). A problem that returns within this
    time is the same problem."""
    digest: timedelta = timedelta(hours=24)
    """Interval between reminders of open problems; one mail lists all of them."""
    claim: timedelta = timedelta(minutes=15)
    """Time after which a claimed mail without a mark is sent again; longer than any SMTP session."""

    def before_mail(self, reason: str) -> timedelta:
        """Return the delay before a mail about an archive or an eSAW with this reason."""
        return self.unresponsive if reason == "ArchiveUnresponsive" else self.outage

    def before_end(self, problem: ReportedProblem) -> timedelta:
        """Return the delay before the mail about the end of a problem. An Import can alternate between two
        reasons: each of them is one problem."""
        return QUIET_PERIOD if problem.ending == Ending.IMPORT_OTHER_REASON else self.settle


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
    """Return the mails that are due, senders first. While the Organization is suspended, only those about
    what is lost meanwhile."""
    senders, problems = list(senders), organization.status.problems
    if organization.spec.suspend:
        lost = tuple(each for each in problems if kind_of(each) in _LOST_WHILE_SUSPENDED)
        found = list(_about_problems(lost, now, timings))
    else:
        found = list(_to_senders_about_consent(senders, organization, now))
        found += _to_administrators_about_senders(organization, senders, now, unreachable)
        found += _about_problems(problems, now, timings)
    return [each for each in found if not _is_attempted_elsewhere(each, now, timings, claims)]


def _to_senders_about_consent(
    senders: list[Sender], organization: Organization, now: datetime
) -> Iterable[Notification]:
    for each in senders:
        refused = _key_failure(each)
        is_requested = _reminder_requested_at(each, now) is not None
        if refused is None or not (is_requested or is_key_needed(each)):
            continue
        if each.spec.email is None or not _can_sender_fix(each, organization, refused):
            continue
        if _asked_at(each, refused, now) is None:
            since = _reminder_requested_at(each, now) or refused.last_transition_time
            yield Notification(MailKind.CONSENT, since, senders=(each,))


def _to_administrators_about_senders(
    organization: Organization, senders: list[Sender], now: datetime, unreachable: Iterable[str]
) -> Iterable[Notification]:
    problem = find_problem(organization.status.problems, ProblemKind.CONSENT)
    unresponsive = unresponsive_senders(senders, organization, now, unreachable=unreachable)
    news = [each for each in unresponsive if not _is_escalated(each, now)]
    if problem is not None and news:
        since = max(each.status.notified_time or problem.start_time for each in news)
        yield Notification(MailKind.ESCALATION, since, problem, tuple(news))


def _about_problems(
    problems: Problems, now: datetime, timings: NotificationTimings
) -> Iterable[Notification]:
    for each in problems:
        if _is_digest_due(each, now, timings):
            last = each.notified_time
            yield Notification(
                MailKind.DIGEST, each.start_time if last is None else last + timings.digest, each
            )
        is_due = each.notified_time is None and age(each.start_time, now) >= timings.gather
        if each.solved_time is not None:
            is_told = kind_of(each) in _ENDS_WITH_MAIL and each.notified_time is not None
            if is_told and age(each.solved_time, now) >= timings.before_end(each):
                yield Notification(MailKind.SOLVED, each.solved_time, each)
        elif kind_of(each) not in _MAILED:
            continue
        elif is_due and not _is_covered_by_archive(each, problems):
            yield Notification(MailKind(kind_of(each)), each.start_time, each)
        elif needs_further_mail(each, now):
            yield Notification(MailKind(kind_of(each)), each.reason_time or each.start_time, each)


def _is_digest_due(problem: ReportedProblem, now: datetime, timings: NotificationTimings) -> bool:
    if kind_of(problem) != ProblemKind.DIGEST or problem.solved_time is not None:
        return False
    return problem.notified_time is None or age(problem.notified_time, now) >= timings.digest


def _is_covered_by_archive(problem: ReportedProblem, problems: Problems) -> bool:
    """Whether the mail about an archive that does not work covers this problem."""
    place = archive_of(problem)
    return (
        kind_of(problem) in (ProblemKind.FAILED, ProblemKind.COPY)
        and place != ""
        and is_open(problems, f"{ProblemKind.ARCHIVE}/{place}")
    )


def _is_attempted_elsewhere(
    notification: Notification, now: datetime, timings: NotificationTimings, claims: Claims
) -> bool:
    begun = attempted_at(notification)
    return begun is not None and begun != claims.get(notification.key) and age(begun, now) < timings.claim


def attempted_at(notification: Notification) -> datetime | None:
    """Return the time of the last claim without a mark, according to the status."""
    if notification.problem is not None:
        return notification.problem.mail_attempt_time
    begun, told = (
        notification.senders[0].status.mail_attempt_time,
        notification.senders[0].status.notified_time,
    )
    return None if begun is not None and told is not None and told >= begun else begun


def removable_causes(problems: Problems, now: datetime, timings: NotificationTimings) -> list[str]:
    """Return the causes of solved problems that need no mail, because no mail announced them."""
    return [
        each.cause
        for each in problems
        if each.solved_time is not None
        and age(each.solved_time, now) >= timings.before_end(each)
        and (each.notified_time is None or kind_of(each) in ENDS_WITHOUT_MAIL)
    ]


# -- Imports that can't continue --------------------------------------------------------------------------


def import_observations(
    imports: Mapping[str, Import], problems: Problems, now: datetime, after: timedelta
) -> Iterator[Observation]:
    """Yield the problems with Imports of one Organization that a person has to solve, grouped by reason, for
    the time ``after`` or known."""
    groups: dict[str, dict[str, Condition]] = defaultdict(dict)
    for name, each in sorted(imports.items()):
        if (failed := import_failure(each)) is not None:
            groups[failed.reason][name] = failed
    for reason, failures in groups.items():
        known = find_problem(problems, reason_cause(ProblemKind.IMPORT, reason))
        if known is not None:
            yield _import_observation(failures, imports, known)
            continue
        long = {k: each for k, each in failures.items() if age(each.last_transition_time, now) >= after}
        if long:
            yield _import_observation(long, imports, None)


def _import_observation(
    failures: Mapping[str, Condition], imports: Mapping[str, Import], known: ReportedProblem | None
) -> Observation:
    """Return the observation of a problem. An Import of it that neither continues nor is given up counts, for
    example outside its hours; one that is given up stays an example, since that is no solution."""
    failed, named = next(iter(failures.values())), known.examples if known is not None else ()
    endings = {
        each: end_of_import(imports.get(each), failed.reason) for each in named if each not in failures
    }
    held = [each for each, ending in endings.items() if ending is None]
    given_up = [each for each, ending in endings.items() if ending not in (None, Ending.SOLVED)]
    count = len(failures) + len(held)
    if known is not None and known.count > len(named):
        # Not each was named: another Import that does not continue may be one of them.
        unnamed = imports.keys() - failures.keys() - endings.keys()
        if any(end_of_import(imports[each], failed.reason) is None for each in unnamed):
            count = max(count, known.count)
    return Observation(
        reason_cause(ProblemKind.IMPORT, failed.reason),
        failed.reason,
        message=failed.message[:MAX_MESSAGE_LENGTH],
        examples=(*failures, *held, *given_up)[:MAX_EXAMPLES],
        count=count,
    )


# -- Senders whose key does not work ---------------------------------------------------------------------


def has_user_secret(sender: Sender) -> bool:
    """Whether the key is in a Secret that a person fills."""
    return sender.spec.token_secret_ref is not None


def unresponsive_senders(
    senders: Iterable[Sender], organization: Organization, now: datetime, *, unreachable: Iterable[str] = ()
) -> list[Sender]:
    """Return the senders who did not react in time or have no address that works (``unreachable``)."""
    if organization.spec.notifications is None or organization.spec.notifications.escalate_after is None:
        return []
    after, lost = organization.spec.notifications.escalate_after, frozenset(unreachable)
    found = []
    for each, refused in _with_needed_key(senders):
        if _can_sender_fix(each, organization, refused):
            asked = _asked_at(each, refused, now)
            if each.spec.email is None or each.name in lost or (asked is not None and now - asked >= after):
                found.append(each)
    return found


def unresponsive_observations(senders: Iterable[Sender]) -> Iterator[Observation]:
    """Yield the one problem that stands for all unresponsive senders, if there are any."""
    reasons = {each.name: refused.reason for each in senders if (refused := _key_failure(each)) is not None}
    if reasons:
        reason, examples = next(iter(reasons.values())), tuple(reasons)[:3]
        yield Observation(ProblemKind.CONSENT, reason, examples=examples, count=len(reasons))


def consent_ending(
    problem: ReportedProblem, senders: Iterable[Sender], organization: Organization
) -> Ending | None:
    """Return how the problem of unresponsive senders ended; None: it is open. A further mail to a sender is
    no solution."""
    senders = list(senders)
    named = (each for each in senders if each.name in problem.examples)
    if any(_can_sender_fix(each, organization, refused) for each, refused in _with_needed_key(named)):
        return None
    return key_ending(problem, senders, organization)


def administrator_observations(
    senders: Iterable[Sender], organization: Organization
) -> Iterator[Observation]:
    """Yield the problems with keys that only administrators can solve, grouped by reason."""
    groups: dict[str, list[tuple[Sender, Condition]]] = defaultdict(list)
    for each, refused in _with_needed_key(senders):
        if not _can_sender_fix(each, organization, refused):
            groups[key_cause(each, organization, refused.reason)].append((each, refused))
    for reason, members in groups.items():
        yield Observation(
            reason_cause(ProblemKind.KEY, reason),
            reason,
            message=members[0][1].message[:MAX_MESSAGE_LENGTH],
            examples=tuple(sorted(each.name for each, _ in members)[:3]),
            count=len(members),
        )


def _key_failure(sender: Sender) -> Condition | None:
    """Return the condition of a key that does not work; None also for a suspended sender, who needs none."""
    return None if sender.spec.suspend else key_failure(sender)


def _with_needed_key(senders: Iterable[Sender]) -> Iterator[tuple[Sender, Condition]]:
    """Yield senders whose key cannot be used but is needed: events wait for it, or it worked before."""
    for each in senders:
        refused = _key_failure(each)
        if refused is not None and is_key_needed(each):
            yield each, refused


def _can_sender_fix(sender: Sender, organization: Organization, refused: Condition) -> bool:
    """Whether the sender must act. Only its owner can make a new key in place of one that a person put into a
    Secret; an administrator puts it there."""
    if has_user_secret(sender):
        return refused.reason == "TokenRejected"
    return key_advice(sender, organization, refused.reason).can_consent


def _asked_at(sender: Sender, refused: Condition, now: datetime) -> datetime | None:
    """Return the time of the mail to the sender about this problem; None: a mail is needed or requested."""
    asked, since = (
        believed_time(each, now) for each in (sender.status.notified_time, refused.last_transition_time)
    )
    if asked is None or _reminder_requested_at(sender, now) is not None:
        return None
    same_key = sender.status.notified_key == sender.key_fingerprint
    quiet = QUIET_PERIOD if since is not None else UNKNOWN_SINCE_PERIOD
    was_asked = (since is not None and asked >= since) or (same_key and now - asked < quiet)
    return asked if was_asked else None


def _is_escalated(sender: Sender, now: datetime) -> bool:
    """Whether the administrators received a mail about this unresponsive sender."""
    refused, escalated = _key_failure(sender), believed_time(sender.status.escalated_time, now)
    if refused is None or escalated is None:
        return False
    since = _asked_at(sender, refused, now) or believed_time(refused.last_transition_time, now)
    return escalated >= since if since is not None else now - escalated < UNKNOWN_SINCE_PERIOD


def _reminder_requested_at(sender: Sender, now: datetime) -> datetime | None:
    """Return the time at which a person requested a mail that was not sent since; None until our clock
    reaches that time."""
    requested, asked = sender.status.mail_request_time, sender.status.notified_time
    if requested is None or requested > now:
        return None
    return requested if asked is None or asked < requested else None

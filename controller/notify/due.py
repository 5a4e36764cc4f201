"""
Which mails are due for one Organization at this moment, and which problems can be forgotten. Pure.

A mail that another process has begun is left alone until ``Patience.claim`` has passed: by then it is marked as sent,
or whoever began it died.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from controller.notify import asking, ledger
from controller.notify.ledger import ARCHIVE, CONSENT, DIGEST, FAILED, KEY
from counterfoil.metrics import Mail
from counterfoil.resources import Organization, Problem, Sender

_KINDS = {FAILED: Mail.FAILED, ARCHIVE: Mail.ARCHIVE, KEY: Mail.KEY}


@dataclass(frozen=True)
class Patience:
    """How long is waited for what."""

    gather: timedelta = timedelta(seconds=4)
    """From a problem to its mail, so that the mail can say how many events it concerns."""
    archive: timedelta = timedelta(minutes=10)
    """How long an archive may be away while events wait, before the administrators hear of it."""
    settle: timedelta = timedelta(minutes=1)
    """From a problem's end to the mail about it; coming back within that time it is the same problem."""
    digest: timedelta = timedelta(hours=24)
    """After that the administrators are reminded of a problem that they were told of; all such in one mail, and so often."""
    claim: timedelta = timedelta(minutes=15)
    """After that a mail that was begun and not marked as sent is begun again; longer than any sending takes."""


@dataclass(frozen=True)
class Notice:
    """One mail to be sent."""

    kind: Mail
    since: datetime
    """Beginning of what it is about; one mail differs from the next by this."""
    problem: Problem | None = None
    senders: tuple[Sender, ...] = ()

    @property
    def key(self) -> str:
        """What it is about, in one word; the same for one that is tried again."""
        return self.problem.cause if self.problem is not None else f"sender/{self.senders[0].name}"


Claims = Mapping[str, datetime]
"""By ``Notice.key``: when this process itself began such a mail; it knows what came of it."""


def notices(
    organization: Organization,
    senders: Iterable[Sender],
    now: datetime,
    patience: Patience,
    claims: Claims,
    *,
    unreachable: Iterable[str] = (),
) -> list[Notice]:
    """Return the mails that are due, senders first."""
    senders = list(senders)
    found = [*_to_senders(senders, now), *_about_silence(organization, senders, now, unreachable)]
    found += _about_problems(organization.status.problems, now, patience)
    return [each for each in found if not _is_begun_elsewhere(each, now, patience, claims)]


def _to_senders(senders: list[Sender], now: datetime) -> Iterable[Notice]:
    for each in senders:
        why = asking.refusal(each)
        if why is not None and asking.is_to_be_asked(each, now):
            yield Notice(Mail.CONSENT, asking.began(each, why, now), senders=(each,))


def _about_silence(
    organization: Organization, senders: list[Sender], now: datetime, unreachable: Iterable[str]
) -> Iterable[Notice]:
    problem = ledger.find(organization.status.problems, CONSENT)
    news = [
        each
        for each in asking.silent(senders, organization, now, unreachable=unreachable)
        if not asking.is_escalated(each, now)
    ]
    if problem is not None and news:
        since = max(each.status.notified_at or problem.since for each in news)
        yield Notice(Mail.ESCALATION, since, problem, tuple(news))


def _about_problems(problems: ledger.Problems, now: datetime, patience: Patience) -> Iterable[Notice]:
    for each in problems:
        kind = _KINDS.get(ledger.kind_of(each))
        if _is_digest_due(each, now, patience):
            yield Notice(Mail.DIGEST, each.notified_at or each.since, each)
        if kind is None:
            continue
        if each.solved_at is not None:
            if each.notified_at is not None and now - each.solved_at >= patience.settle:
                yield Notice(Mail.SOLVED, each.solved_at, each)
        elif (
            each.notified_at is None
            and now - each.since >= patience.gather
            and not _is_covered(each, problems)
        ):
            yield Notice(kind, each.since, each)


def _is_digest_due(problem: Problem, now: datetime, patience: Patience) -> bool:
    if ledger.kind_of(problem) != DIGEST or problem.solved_at is not None:
        return False
    return problem.notified_at is None or now - problem.notified_at >= patience.digest


def _is_covered(problem: Problem, problems: ledger.Problems) -> bool:
    """Whether the administrators hear of it already as of an archive that does not work."""
    place = ledger.archive_of(problem)
    return (
        ledger.kind_of(problem) == FAILED and place != "" and ledger.is_open(problems, f"{ARCHIVE}/{place}")
    )


def _is_begun_elsewhere(notice: Notice, now: datetime, patience: Patience, claims: Claims) -> bool:
    begun = begun_at(notice)
    return begun is not None and begun != claims.get(notice.key) and now - begun < patience.claim


def begun_at(notice: Notice) -> datetime | None:
    """Return when a mail about this was begun last and did not get its mark, as far as its status tells."""
    if notice.problem is not None:
        return notice.problem.mail_attempted_at
    begun, told = notice.senders[0].status.mail_attempted_at, notice.senders[0].status.notified_at
    return None if begun is not None and told is not None and told >= begun else begun


def forgettable(problems: ledger.Problems, now: datetime, patience: Patience) -> list[str]:
    """Return the causes of solved problems of which nobody was told, so nobody has to be told that they are solved."""
    return [
        each.cause
        for each in problems
        if each.solved_at is not None
        and now - each.solved_at >= patience.settle
        and (each.notified_at is None or ledger.kind_of(each) in (CONSENT, DIGEST))
    ]

"""
Which senders are to be asked for a new key, and which of them the administrators have to hear of. Pure.

A sender is asked when the key died, or when events wait for one; once for each time that it died. A key that flaps
(refused, accepted, refused) is one problem for ``QUIET``. Reasons that the sender can do nothing about are the
administrators' (a missing sealing key would otherwise write to everybody at once).
"""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from controller.notify.ledger import CONSENT, KEY, LONGEST_MESSAGE, Met
from counterfoil.reasons import Turn, reason_of
from counterfoil.resources import Condition, Organization, Sender, condition
from counterfoil.resources.acting import ASK_ANNOTATION, asked_at

QUIET = timedelta(hours=1)

MOST_NAMED = 20
"""So many senders are named in one mail to the administrators."""


def refusal(sender: Sender) -> Condition | None:
    """Return why the sender's key can't be used; None when it can, or when nobody knows yet."""
    found = condition(sender.status.conditions, "Authorized")
    return found if found is not None and found.status == "False" and not sender.spec.suspend else None


def is_brought(sender: Sender) -> bool:
    """Whether the key lies in a Secret that a person fills."""
    return sender.spec.token_secret_ref is not None


def is_the_senders(sender: Sender, why: Condition) -> bool:
    """Whether it is the sender's turn; of a key that was brought only its owner can make another one."""
    if is_brought(sender):
        return why.reason == "TokenRejected"
    return reason_of(why.reason).turn is Turn.SENDER


def is_missed(sender: Sender) -> bool:
    """Whether anything is lost without the key: events wait for it, or it worked before."""
    key = sender.status.key
    return sender.status.waiting_events > 0 or (key is not None and key.verified_at is not None)


def has_heard(sender: Sender, why: Condition, now: datetime) -> bool:
    """Whether the sender was asked already about this, and no person wants that to be done again."""
    asked = sender.status.notified_at
    if asked is None or _wish(sender, now) is not None:
        return False
    same_key = sender.status.notified_key == fingerprint(sender)
    return asked >= why.last_transition_time or (same_key and now - asked < QUIET)


def began(sender: Sender, why: Condition, now: datetime) -> datetime:
    """Return when that began which a mail to the sender is about: the key's death, or a person's wish for another mail."""
    return _wish(sender, now) or why.last_transition_time


def _wish(sender: Sender, now: datetime) -> datetime | None:
    """Return when a person asked for another mail since the last one; by a clock that is ahead of ours, when ours is there."""
    wished, asked = asked_at(sender.metadata.annotations, ASK_ANNOTATION), sender.status.notified_at
    if wished is None or asked is None:
        return None
    # Times in a status are whole seconds; a wish within the second of a mail would be newer than it for ever.
    whole = wished.replace(microsecond=0)
    return whole if asked < whole <= now else None


def fingerprint(sender: Sender) -> str | None:
    """Return the fingerprint of the key that the problem is about."""
    return sender.status.key.fingerprint if sender.status.key is not None else None


def is_to_be_asked(sender: Sender, now: datetime) -> bool:
    """Whether a mail to the sender is due."""
    why = refusal(sender)
    return (
        why is not None
        and sender.spec.email is not None
        and is_the_senders(sender, why)
        and is_missed(sender)
        and not has_heard(sender, why, now)
    )


def silent(
    senders: Iterable[Sender], organization: Organization, now: datetime, *, unreachable: Iterable[str] = ()
) -> list[Sender]:
    """Return the senders who did not react in time, or who can't be asked; ``unreachable``: whose mails are refused."""
    after = organization.spec.notifications.escalate_after if organization.spec.notifications else None
    lost = frozenset(unreachable)
    found = []
    for each in senders:
        why = refusal(each)
        if why is None or after is None or not is_the_senders(each, why) or not is_missed(each):
            continue
        asked = each.status.notified_at if has_heard(each, why, now) else None
        if each.spec.email is None or each.name in lost or (asked is not None and now - asked >= after):
            found.append(each)
    return found


def of_silence(senders: Iterable[Sender]) -> Iterator[Met]:
    """Go through the one problem that silent senders are, if there are any."""
    reasons = {each.name: why.reason for each in senders if (why := refusal(each)) is not None}
    if reasons:
        yield Met(CONSENT, next(iter(reasons.values())), examples=tuple(reasons)[:3], count=len(reasons))


def is_escalated(sender: Sender, now: datetime) -> bool:
    """Whether the administrators have heard of this sender's silence."""
    why, told = refusal(sender), sender.status.escalated_at
    if why is None or told is None:
        return False
    asked = sender.status.notified_at if has_heard(sender, why, now) else None
    return told >= (asked or why.last_transition_time)


def of_administrators(senders: Iterable[Sender]) -> Iterator[Met]:
    """Go through the problems with keys that only administrators can solve, grouped by reason."""
    groups: dict[str, list[Sender]] = {}
    for each in senders:
        why = refusal(each)
        if why is not None and not is_the_senders(each, why) and is_missed(each):
            groups.setdefault(why.reason, []).append(each)
    for reason, concerned in groups.items():
        why = refusal(concerned[0])
        yield Met(
            f"{KEY}/{reason}",
            reason,
            message=why.message[:LONGEST_MESSAGE] if why is not None else "",
            examples=tuple(sorted(each.name for each in concerned)[:3]),
            count=len(concerned),
        )

"""
Which senders are to be asked for a new key, and which of them the administrators have to hear of. Pure.

A sender is asked when the key died, or when events wait for one; once for each time that it died. A key that flaps
(refused, accepted, refused) is one problem for ``QUIET_PERIOD``. Reasons that the sender can do nothing about are the
administrators' (a missing sealing key would otherwise write to everybody at once).
"""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from controller.notifications.problem_tracking import CONSENT, KEY, MAX_MESSAGE_LENGTH, Observation
from counterfoil.i18n.reasons import Responsible, find_reason
from counterfoil.resources import Condition, Organization, Sender, find_condition
from counterfoil.resources.audit_annotation import CONSENT_MAIL_ANNOTATION, requested_at

QUIET_PERIOD = timedelta(hours=1)

MAX_NAMED_SENDERS = 20
"""So many senders are named in one mail to the administrators."""


def key_failure(sender: Sender) -> Condition | None:
    """Return why the sender's key can't be used; None when it can, or when nobody knows yet."""
    found = find_condition(sender.status.conditions, "Authorized")
    return found if found is not None and found.status == "False" and not sender.spec.suspend else None


def has_user_secret(sender: Sender) -> bool:
    """Whether the key lies in a Secret that a person fills."""
    return sender.spec.token_secret_ref is not None


def can_sender_fix(sender: Sender, refused_condition: Condition) -> bool:
    """Whether it is the sender's turn; of a key that was brought only its owner can make another one."""
    if has_user_secret(sender):
        return refused_condition.reason == "TokenRejected"
    return find_reason(refused_condition.reason).responsible is Responsible.SENDER


def is_key_needed(sender: Sender) -> bool:
    """Whether anything is lost without the key: events wait for it, or it worked before."""
    key = sender.status.key
    return sender.status.waiting_events > 0 or (key is not None and key.verified_at is not None)


def was_asked(sender: Sender, refused_condition: Condition, now: datetime) -> bool:
    """Whether the sender was asked already about this, and no person wants that to be done again."""
    asked = sender.status.notified_at
    if asked is None or _reminder_requested_at(sender, now) is not None:
        return False
    same_key = sender.status.notified_key == key_fingerprint(sender)
    return asked >= refused_condition.last_transition_time or (same_key and now - asked < QUIET_PERIOD)


def problem_since(sender: Sender, refused_condition: Condition, now: datetime) -> datetime:
    """Return when that began which a mail to the sender is about: the key's death, or a person's wish for another mail."""
    return _reminder_requested_at(sender, now) or refused_condition.last_transition_time


def _reminder_requested_at(sender: Sender, now: datetime) -> datetime | None:
    """Return when a person asked for another mail since the last one; by a clock that is ahead of ours, when ours is there."""
    requested, asked = (
        requested_at(sender.metadata.annotations, CONSENT_MAIL_ANNOTATION),
        sender.status.notified_at,
    )
    if requested is None or asked is None:
        return None
    # Times in a status are whole seconds; a wish within the second of a mail would be newer than it for ever.
    whole = requested.replace(microsecond=0)
    return whole if asked < whole <= now else None


def key_fingerprint(sender: Sender) -> str | None:
    """Return the fingerprint of the key that the problem is about."""
    return sender.status.key.fingerprint if sender.status.key is not None else None


def is_request_due(sender: Sender, now: datetime) -> bool:
    """Whether a mail to the sender is due."""
    refused_condition = key_failure(sender)
    return (
        refused_condition is not None
        and sender.spec.email is not None
        and can_sender_fix(sender, refused_condition)
        and is_key_needed(sender)
        and not was_asked(sender, refused_condition, now)
    )


def unresponsive_senders(
    senders: Iterable[Sender], organization: Organization, now: datetime, *, unreachable: Iterable[str] = ()
) -> list[Sender]:
    """Return the senders who did not react in time, or who can't be asked; ``unreachable``: whose mails are refused."""
    after = organization.spec.notifications.escalate_after if organization.spec.notifications else None
    lost = frozenset(unreachable)
    found = []
    for each in senders:
        refused_condition = key_failure(each)
        if (
            refused_condition is None
            or after is None
            or not can_sender_fix(each, refused_condition)
            or not is_key_needed(each)
        ):
            continue
        asked = each.status.notified_at if was_asked(each, refused_condition, now) else None
        if each.spec.email is None or each.name in lost or (asked is not None and now - asked >= after):
            found.append(each)
    return found


def unresponsive_observations(senders: Iterable[Sender]) -> Iterator[Observation]:
    """Go through the one problem that silent senders are, if there are any."""
    reasons = {
        each.name: refused_condition.reason
        for each in senders
        if (refused_condition := key_failure(each)) is not None
    }
    if reasons:
        yield Observation(
            CONSENT, next(iter(reasons.values())), examples=tuple(reasons)[:3], count=len(reasons)
        )


def is_escalated(sender: Sender, now: datetime) -> bool:
    """Whether the administrators have heard of this sender's silence."""
    refused_condition, escalated = key_failure(sender), sender.status.escalated_at
    if refused_condition is None or escalated is None:
        return False
    asked = sender.status.notified_at if was_asked(sender, refused_condition, now) else None
    return escalated >= (asked or refused_condition.last_transition_time)


def administrator_observations(senders: Iterable[Sender]) -> Iterator[Observation]:
    """Go through the problems with keys that only administrators can solve, grouped by reason."""
    groups: dict[str, list[Sender]] = {}
    for each in senders:
        refused_condition = key_failure(each)
        if (
            refused_condition is not None
            and not can_sender_fix(each, refused_condition)
            and is_key_needed(each)
        ):
            groups.setdefault(refused_condition.reason, []).append(each)
    for reason, concerned in groups.items():
        refused_condition = key_failure(concerned[0])
        yield Observation(
            f"{KEY}/{reason}",
            reason,
            message=refused_condition.message[:MAX_MESSAGE_LENGTH] if refused_condition is not None else "",
            examples=tuple(sorted(each.name for each in concerned)[:3]),
            count=len(concerned),
        )

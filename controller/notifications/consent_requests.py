"""
Select the senders who must give a new key, and those whom the administrators must contact. Pure.

A sender receives one mail each time that the key stops working, or when events wait for a key. A key that
flaps (refused, accepted, refused) is one problem for ``QUIET_PERIOD``. Problems that the sender cannot solve
go to the administrators: otherwise a missing sealing key would send a mail to every sender at once.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from controller.notifications.problem_tracking import CONSENT, KEY, MAX_MESSAGE_LENGTH, Observation
from counterfoil.i18n.reasons import Responsible, find_reason
from counterfoil.resources import Condition, Organization, Sender, find_condition
from counterfoil.resources.audit_annotation import CONSENT_MAIL_ANNOTATION, requested_at

QUIET_PERIOD = timedelta(hours=1)

MAX_NAMED_SENDERS = 20
"""Maximum number of senders that one mail to the administrators names."""


def key_failure(sender: Sender) -> Condition | None:
    """Return the condition of a key that cannot be used; None for a key that works or was not checked yet."""
    found = find_condition(sender.status.conditions, "Authorized")
    return found if found is not None and found.status == "False" and not sender.spec.suspend else None


def has_user_secret(sender: Sender) -> bool:
    """Whether the key is in a Secret that a person fills."""
    return sender.spec.token_secret_ref is not None


def can_sender_fix(sender: Sender, refused_condition: Condition) -> bool:
    """Whether the sender must act. Only its owner can replace a key that a person put into a Secret."""
    if has_user_secret(sender):
        return refused_condition.reason == "TokenRejected"
    return find_reason(refused_condition.reason).responsible is Responsible.SENDER


def is_key_needed(sender: Sender) -> bool:
    """Whether the key is needed: events wait for it, or it worked before."""
    key = sender.status.key
    return sender.status.waiting_events > 0 or (key is not None and key.verified_at is not None)


def was_asked(sender: Sender, refused_condition: Condition, now: datetime) -> bool:
    """Whether the sender received a mail about this problem, and nobody requested another one."""
    asked = sender.status.notified_at
    if asked is None or _reminder_requested_at(sender, now) is not None:
        return False
    same_key = sender.status.notified_key == key_fingerprint(sender)
    return asked >= refused_condition.last_transition_time or (same_key and now - asked < QUIET_PERIOD)


def problem_since(sender: Sender, refused_condition: Condition, now: datetime) -> datetime:
    """Return the time of the cause of a mail to the sender: the key was refused, or a person requested
    another mail."""
    return _reminder_requested_at(sender, now) or refused_condition.last_transition_time


def _reminder_requested_at(sender: Sender, now: datetime) -> datetime | None:
    """Return the time at which a person requested another mail; None until our clock reaches that time."""
    requested, asked = (
        requested_at(sender.metadata.annotations, CONSENT_MAIL_ANNOTATION),
        sender.status.notified_at,
    )
    if requested is None or asked is None:
        return None
    # Times in a status are whole seconds. Without this a request within the second of a mail would stay newer
    # than it.
    whole = requested.replace(microsecond=0)
    return whole if asked < whole <= now else None


def key_fingerprint(sender: Sender) -> str | None:
    """Return the fingerprint of the sender's key."""
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
    """Return the senders who did not react in time or have no address that works (``unreachable``: mails
    refused)."""
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
    """Yield the one problem that stands for all unresponsive senders, if there are any."""
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
    """Whether the administrators received a mail about this unresponsive sender."""
    refused_condition, escalated = key_failure(sender), sender.status.escalated_at
    if refused_condition is None or escalated is None:
        return False
    asked = sender.status.notified_at if was_asked(sender, refused_condition, now) else None
    return escalated >= (asked or refused_condition.last_transition_time)


def administrator_observations(senders: Iterable[Sender]) -> Iterator[Observation]:
    """Yield the problems with keys that only administrators can solve, grouped by reason."""
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

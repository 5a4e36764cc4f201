"""
The decisions about notices: which final state has one, what a response means, when the next attempt is due.
Pure.

The final status of an event and its pending notice are one write, so a kill between the two is impossible
(docs/decisions/0024). An attempt ends as Standard Webhooks advises: a status of 2xx is success, 410 ends the
attempts, everything else is retried until the deadline of ``spec.retry``.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime

from msgspec.structs import replace

from controller.scheduling import retry_policy
from counterfoil.resources import (
    EnvelopeEvent,
    EnvelopeEventStatus,
    EventNotice,
    LastError,
    NoticeState,
    Organization,
    Phase,
    RetrySpec,
    is_condition_true,
)
from counterfoil.resources.conditions import UNREAD_SECRET_REASONS

SECRET_REASONS = UNREAD_SECRET_REASONS | {
    "SecretNotLabelled",
    "WebhookSecretInvalid",
    "WebhookSecretMissing",
}
"""Reasons of notices that continue as soon as the signing secret can be used."""

WEBHOOK_REMOVED = "WebhookRemoved"
"""Reason of a notice that was given up because a person removed the webhook: no problem."""


@dataclass(frozen=True)
class Delivered:
    """The receiver confirmed the notice."""


@dataclass(frozen=True)
class NotDelivered:
    """An attempt failed; ``is_final`` means that no further attempt can help."""

    reason: str
    message: str
    is_final: bool = False
    not_before: datetime | None = None
    """Earliest time of the next attempt, by the receiver's Retry-After; at most an hour away."""


AttemptResult = Delivered | NotDelivered


def with_notice(
    event: EnvelopeEvent, status: EnvelopeEventStatus, organization: Organization | None
) -> EnvelopeEventStatus:
    """Return a new status of an event with a pending notice, if it is final and the organization wants
    one."""
    if organization is None or organization.spec.webhook is None or not _is_announced(status):
        return status
    return replace(status, notice=EventNotice(id=notice_id(event, status), state=NoticeState.PENDING))


def _is_announced(status: EnvelopeEventStatus) -> bool:
    if status.phase is Phase.SUCCEEDED:
        # An event that was only recorded has archived nothing.
        return is_condition_true(status.conditions, "Archived")
    return status.phase is Phase.FAILED


def notice_id(event: EnvelopeEvent, status: EnvelopeEventStatus) -> str:
    """Return the id of the notice of this final state; each later final state of the event has another."""
    completed = status.completion_time.isoformat() if status.completion_time is not None else ""
    state = f"{event.uid}\0{status.phase}\0{completed}"
    return f"msg_{hashlib.sha256(state.encode()).hexdigest()[:32]}"


def result_of(status: int, receiver: str, *, not_before: datetime | None = None) -> AttemptResult:
    """Return what an HTTP status means. ``receiver`` is the receiver's origin, for the message."""
    if 200 <= status < 300:
        return Delivered()
    answered = f"{receiver} answered HTTP {status}"
    if status == 410:
        message = f"{answered}: it takes no more notices. Correct spec.webhook, or remove it."
        return NotDelivered("WebhookGone", message, is_final=True)
    if 300 <= status < 400:
        message = f"{answered}, and Counterfoil follows no redirect. Put the final address into spec.webhook."
        return NotDelivered("WebhookRedirects", message)
    if status in (408, 429) or status >= 500:
        message = f"{answered}. Counterfoil tries again automatically."
        return NotDelivered("WebhookFailing", message, not_before=not_before)
    message = f"{answered}. Check spec.webhook, the signing secret and the log of the receiver."
    return NotDelivered("WebhookRefused", message)


def after_attempt(
    notice: EventNotice,
    result: AttemptResult,
    retry: RetrySpec,
    *,
    now: datetime,
    random: retry_policy.Random,
) -> EventNotice:
    """Return a pending notice after an attempt: delivered, with the time of the next attempt, or failed."""
    attempts = notice.attempts + 1
    if isinstance(result, Delivered):
        return replace(
            notice,
            state=NoticeState.DELIVERED,
            attempts=attempts,
            next_attempt_time=None,
            delivered_time=now,
            last_error=None,
        )
    # Not later than now: a clock that was ahead may have written it, and the deadline would never come.
    started, due = min(notice.start_time or now, now), notice.next_attempt_time
    if due is not None and now - due > retry_policy.DOWNTIME:
        # The controller was not there, or slow: the receiver's deadline does not count that time.
        started += now - due
    error = LastError(reason=result.reason, message=result.message, time=now)
    failed = replace(notice, attempts=attempts, start_time=started, last_error=error)
    if result.is_final or retry_policy.is_deadline_exceeded(started, retry, now=now):
        return replace(failed, state=NoticeState.FAILED, next_attempt_time=None)
    due = retry_policy.next_attempt(attempts, retry, now=now, random=random, not_before=result.not_before)
    return replace(failed, next_attempt_time=due)


def resent(notice: EventNotice) -> EventNotice:
    """
    Return a failed notice that is sent again, with the same id and a new deadline.

    Its error stays: the problem is not solved before the notice was delivered.
    """
    return EventNotice(id=notice.id, state=NoticeState.PENDING, last_error=notice.last_error)

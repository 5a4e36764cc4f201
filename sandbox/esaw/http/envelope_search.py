"""Which envelopes `envelope/find` finds: one predicate per filter, all of which must hold."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from sandbox.esaw.core.errors import ErrorCode, RequestRefused
from sandbox.esaw.core.model import ActivityStatus, EnvelopeStatus, Recipient, StoredEnvelope, User
from sandbox.esaw.http.request_models import FindBody

EXPIRING_SOON: Final = timedelta(days=4)
_OF_ACTIVE: Final = frozenset({"Active", "ActionRequired", "WaitingForOthers", "ExpiringSoon"})
_STATUSES: Final = _OF_ACTIVE | {"Canceled", "Completed", "Expired", "Rejected"}


def check(filters: FindBody) -> None:
    """Refuse filters that make no sense. Raises EsawError with ERR0011."""
    if filters.status is not None and filters.status not in _STATUSES:
        raise RequestRefused(ErrorCode.INVALID_FORMAT, "Status is unknown.")
    if filters.in_status_since_days is not None and filters.status is None:
        raise RequestRefused(ErrorCode.INVALID_FORMAT, "InStatusSinceDays must be combined with Status.")


def is_expiring_soon(envelope: StoredEnvelope, now: datetime) -> bool:
    """Whether an Active envelope will expire within four days."""
    return envelope.status is EnvelopeStatus.ACTIVE and envelope.expires_at - now <= EXPIRING_SOON


def matches(envelope: StoredEnvelope, filters: FindBody, user: User, now: datetime) -> bool:
    """Whether the envelope passes every filter that is set."""
    return all(_answers(envelope, filters, user, now))


def _answers(envelope: StoredEnvelope, filters: FindBody, user: User, now: datetime) -> Iterator[bool]:
    yield filters.start_date is None or envelope.sent_at > filters.start_date
    yield filters.end_date is None or envelope.sent_at < filters.end_date
    yield filters.status is None or _has_status(envelope, filters.status, user, now)
    yield filters.in_status_since_days is None or now - envelope.changed_at >= timedelta(
        days=filters.in_status_since_days
    )
    yield filters.envelope_bulk_parent_id in {None, envelope.bulk_parent_id}
    yield _same(filters.sender_email, {envelope.sender.email})
    yield _same(filters.recipient_email, _emails(envelope, None))
    yield _same(filters.completed_by_recipient_with_email, _emails(envelope, ActivityStatus.COMPLETED))
    yield _same(filters.waiting_for_recipient_with_email, _emails(envelope, ActivityStatus.PENDING))
    yield not filters.search_text or filters.search_text.lower() in _text(envelope)


def _has_status(envelope: StoredEnvelope, status: str, user: User, now: datetime) -> bool:
    if status not in _OF_ACTIVE:
        return envelope.status == status
    is_waiting_for_user = user.email.lower() in _emails(envelope, ActivityStatus.PENDING)
    return (
        envelope.status is EnvelopeStatus.ACTIVE
        and {
            "Active": True,
            "ActionRequired": is_waiting_for_user,
            "WaitingForOthers": not is_waiting_for_user,
            "ExpiringSoon": is_expiring_soon(envelope, now),
        }[status]
    )


def _same(wanted: str | None, emails: set[str]) -> bool:
    return wanted is None or wanted.lower() in {email.lower() for email in emails}


def _emails(envelope: StoredEnvelope, status: ActivityStatus | None) -> set[str]:
    return {each.recipient.email.lower() for each in envelope.activities if status in {None, each.status}}


def _text(envelope: StoredEnvelope) -> str:
    people: list[User | Recipient] = [envelope.sender, *(each.recipient for each in envelope.activities)]
    return " ".join(
        [envelope.name, *(f"{who.email} {who.given_name} {who.surname}" for who in people)]
    ).lower()

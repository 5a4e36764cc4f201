"""
Retention: when eSAW itself deletes a finished envelope, when a warning is due before that, and when
Counterfoil removes a finished event. Pure.

eSAW deletes finished envelopes after its own retention, whether they were archived or not. The Organization
states it (``spec.retention``); eSAW's API does not tell it.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from counterfoil.i18n.reasons import EnvelopePresence, ReasonProperty, find_reason, has_property
from counterfoil.resources.base import IMPORT_WINDOW_LABEL, LISTED_BY_LABEL
from counterfoil.resources.conditions import find_condition, is_condition_true
from counterfoil.resources.envelopeevent import (
    COPIES_PENDING,
    ENVELOPE_NOT_FOUND,
    EVIDENCE_CONDITION,
    EnvelopeEvent,
    EnvelopeEventStatus,
    NoticeState,
    Origin,
    Phase,
)
from counterfoil.resources.imports import read_window_label
from counterfoil.resources.organization import (
    CHANGEABLE_STATUSES,
    MIN_TTL,
    EnvelopeStatus,
    OrganizationSpec,
)
from counterfoil.resources.reopening import (
    copies_after_end,
    copies_to_retry,
    end_of,
    has_new_delivery,
    is_question_unanswered,
    may_be_restarted,
    may_change,
    retries_copies,
    with_kept_end,
)
from counterfoil.resources.routes import stored_copy, unverified_copies

MIN_NOTICE: Final = timedelta(days=1)
MAX_NOTICE: Final = timedelta(days=7)
NOTICE_FRACTION: Final = 4
"""The warning is due when less than this part of the retention is left, within the two limits."""


def notice_period(retention: timedelta) -> timedelta:
    """Return the time from the warning to the deletion: a quarter of the retention, 1 to 7 days."""
    return min(max(retention / NOTICE_FRACTION, MIN_NOTICE), MAX_NOTICE)


def deletion_time(event: EnvelopeEvent, retention: timedelta | None) -> datetime | None:
    """
    Return when eSAW deletes the envelope of an event that is unfinished or failed.

    None: nothing is lost by that, the envelope is not finished yet, or the retention is unknown. An envelope
    that was archived as Expired may be signed until Counterfoil asks eSAW again, which it does in time
    (``last_question``). Not if the last question had no answer: then nobody knows whether one comes in time.
    """
    if retention is None or not _is_needed(event):
        return None
    deleted, asked = _retention_end(event, retention), event.status.next_attempt_time
    if deleted is None or asked is None or not _is_archived(event):
        return deleted
    if is_question_unanswered(event.status):
        return deleted
    return None if asked <= deleted or may_be_restarted(event.status) else deleted


def last_question(event: EnvelopeEvent, retention: timedelta | None) -> datetime | None:
    """
    Return when eSAW is asked a last time for an envelope that was archived as Expired, if its delete comes
    after eSAW's own: it may have been restarted and signed. None: the retention is unknown.
    """
    end = _retention_end(event, retention) if retention is not None else None
    return end - MIN_NOTICE if end is not None else None


def asks_before_copies(event: EnvelopeEvent, retention: timedelta | None, now: datetime) -> bool:
    """
    Whether eSAW is asked for an archived envelope before its copies are made: it may have been restarted and
    signed. A callback or a search may tell of that, or eSAW's own retention ends soon. A question without an
    answer is repeated in each attempt, so that its condition stays no longer than eSAW does not answer.

    Else a copy that is down or suspended would delay what was signed since. Copies of an event that has ended
    need no key: nothing would be archived again for an answer before they are made.
    """
    status = event.status
    if copies_after_end(status):
        return False
    if status.phase is Phase.PENDING or status.reason == COPIES_PENDING:
        # A callback, a search or a person started it again, or a person added a copy since it was archived.
        return status.envelope is not None and status.envelope.status in CHANGEABLE_STATUSES
    is_open = has_new_delivery(event) or is_question_unanswered(status)
    return is_open or (may_be_restarted(status) and _is_last_day(event, retention, now))


def has_open_question(event: EnvelopeEvent, retention: timedelta | None, now: datetime) -> bool:
    """
    Whether eSAW may tell something new about an Expired envelope, so that its event must not wait for the
    Archive of a copy only: a callback came since eSAW answered, the last question had no answer, or eSAW's
    retention ends soon.
    """
    status = event.status
    if (
        copies_after_end(status)
        or status.envelope is None
        or status.envelope.status not in CHANGEABLE_STATUSES
        or not _is_archived(event)
    ):
        return False
    considered = status.considered_deliveries
    is_called = considered is None or event.deliveries > considered
    return is_called or is_question_unanswered(status) or _is_last_day(event, retention, now)


def _is_last_day(event: EnvelopeEvent, retention: timedelta | None, now: datetime) -> bool:
    """Whether the time of the last question has come, and eSAW still has the envelope."""
    last = last_question(event, retention)
    return last is not None and last <= now < last + MIN_NOTICE


def question_time(event: EnvelopeEvent, retention: timedelta | None, now: datetime) -> datetime | None:
    """
    Return when the event of an Expired envelope is due although a person holds its copies: for the last
    question to eSAW, or at the end of eSAW's retention. None: it is not.
    """
    last = last_question(event, retention) if may_be_restarted(event.status) else None
    if last is None or now >= last + MIN_NOTICE:
        return None
    return last if now < last else last + MIN_NOTICE


def imminent_deletion(event: EnvelopeEvent, spec: OrganizationSpec, now: datetime) -> datetime | None:
    """
    Return the time of the deletion if the warning is due, also after the deletion; else None.

    If the event is removed before its envelope is deleted, the warning is due before the removal: afterwards
    nothing here knows of the envelope.
    """
    deleted = deletion_time(event, spec.retention)
    if deleted is None or spec.retention is None:
        return None
    due = deleted - notice_period(spec.retention)
    removed, finished = removal_time(event, spec), event.status.completion_time
    if removed is not None and finished is not None and removed < deleted:
        due = min(due, removed - notice_period(removed - finished))
    return deleted if now >= due else None


def is_archived_finally(event: EnvelopeEvent) -> bool:
    """Whether an event archived all of its envelope in a state that can't change any more."""
    status = event.status
    is_final = status.envelope is not None and status.envelope.status not in CHANGEABLE_STATUSES
    return is_condition_true(status.conditions, "Archived") and is_final and not _is_needed(event)


def removal_time(event: EnvelopeEvent, spec: OrganizationSpec) -> datetime | None:
    """
    Return when a finished event is removed.

    None: the event is unfinished, its notice is not delivered yet, the files of its kept envelope were not
    listed again yet, a copy of it is tried again, or events of its phase are kept. Only the event proves what
    may be copied, so it stays until each copy is made or given up. An event that a person skipped or
    suspended is kept by any policy: a later callback or an Import would create it again, and the envelope
    would be deleted if the policy is Delete by then. ``spec.retention`` is no proof that eSAW has deleted the
    envelope.
    """
    status = event.status
    if not status.phase.is_final or status.completion_time is None or status.next_attempt_time is not None:
        return None
    if status.notice is not None and status.notice.state is NoticeState.PENDING:
        return None
    if forbids_delete(event) or copies_to_retry(status, spec):
        return None
    return _end_of_ttl(event, _start_of_ttl(status, status.completion_time, spec), spec)


def _start_of_ttl(status: EnvelopeEventStatus, finished: datetime, spec: OrganizationSpec) -> datetime:
    """Return when the time to live of an event begins: at the last try of a copy that was given up. People
    can ask for one long after the event finished."""
    missing = unverified_copies(status, spec) if retries_copies(status) else ()
    copies = (stored_copy(status, each) for each in missing)
    return max((finished, *(each.last_attempt_time for each in copies if each.last_attempt_time is not None)))


def _end_of_ttl(event: EnvelopeEvent, finished: datetime, spec: OrganizationSpec) -> datetime | None:
    """Return when the time to live of a finished event ends; None: events of its phase are kept."""
    status = event.status
    if status.phase is not Phase.FAILED and event.spec.origin is Origin.IMPORT:
        return _imported_removal(event, finished, spec)
    kept: timedelta | None = spec.succeeded_ttl
    if status.phase is Phase.FAILED:
        kept = spec.ttl.failed
        if _never_existed(event):
            kept = spec.ttl.unknown if kept is None else min(kept, spec.ttl.unknown)
    return None if kept is None else _later(finished, kept)


def may_have_been_archived_before(
    event: EnvelopeEvent, spec: OrganizationSpec, now: datetime, *, is_only: bool
) -> bool:
    """
    Whether an event of the envelope that was removed may have archived it, so that no stored list has its
    files. ``is_only``: the envelope never has events of other names.

    An event ends after its envelope, and stays for ``MIN_TTL`` after that. So one that is created within that
    time after the envelope ended is the first of its name. eSAW tells no end of an envelope that was not
    completed, but it ended after the newest time that eSAW tells. Without any, nothing is known: a callback
    proves no time, since any client with its address can call. An event of another name does not end, as a
    rule, before the delete is due. That a person deletes an event earlier is not known here.
    """
    created, envelope = event.metadata.creation_timestamp, event.status.envelope
    if created is None or envelope is None:
        return True
    ended = envelope.finished_time or envelope.last_active_time
    if ended is None or created - ended >= MIN_TTL:
        return True
    return not is_only and now - created >= spec.cleanup.after + MIN_TTL


def forbids_delete(event: EnvelopeEvent) -> bool:
    """Whether only this event tells that the envelope is not deleted, because a person skipped or suspended
    the event."""
    status = event.status
    last = status.last_error.reason if status.last_error is not None else ""
    # Callbacks of envelopes that do not exist are mostly forged, and may be many. A list of eSAW is not.
    is_listed = event.spec.origin is not Origin.CALLBACK or LISTED_BY_LABEL in event.metadata.labels
    is_unknown = status.envelope is None and not is_listed and not may_change(status)
    is_gone = _is_envelope_gone(last) or not end_of(status).has_envelope
    return event.is_kept_by_person and not is_gone and not is_unknown


def _imported_removal(event: EnvelopeEvent, finished: datetime, spec: OrganizationSpec) -> datetime | None:
    """Return when an imported event is removed: not while a sweep may list its envelope, which recognises an
    archived envelope by its event."""
    window = read_window_label(event.metadata.labels.get(IMPORT_WINDOW_LABEL, ""))
    if window is None:
        return _later(finished, spec.succeeded_ttl)
    ends = (_later(finished, spec.ttl.imported), _later(window.sent_before, spec.sweep.lookback))
    return None if None in ends else max(each for each in ends if each is not None)


def _never_existed(event: EnvelopeEvent) -> bool:
    """Whether only a callback or a list named the envelope: eSAW neither found it nor described it before."""
    return (
        event.status.reason == ENVELOPE_NOT_FOUND
        and event.status.envelope is None
        and event.spec.origin is not Origin.MANUAL
    )


def _is_needed(event: EnvelopeEvent) -> bool:
    """Whether the archive may still need what eSAW has."""
    status, is_archived = with_kept_end(event.status), _is_archived(event)
    if status.phase is Phase.FAILED:
        lacks_delete = is_archived and has_property(status.cause, ReasonProperty.ONLY_THE_DELETE)
        return not lacks_delete and not _is_envelope_gone(status.cause)
    may_change = status.envelope is not None and status.envelope.status in CHANGEABLE_STATUSES
    return not status.phase.is_final and (not is_archived or may_change)


def _is_envelope_gone(reason: str) -> bool:
    """Whether eSAW has no envelope if an attempt failed so. One that was not found may be another user's."""
    return find_reason(reason).envelope is EnvelopePresence.GONE


def _is_archived(event: EnvelopeEvent) -> bool:
    """Whether all that eSAW had is archived."""
    evidence = find_condition(event.status.conditions, EVIDENCE_CONDITION)
    lacks_evidence = evidence is not None and evidence.status == "False"
    return is_condition_true(event.status.conditions, "Archived") and not lacks_evidence


def _retention_end(event: EnvelopeEvent, retention: timedelta) -> datetime | None:
    """Return when the stated retention ends; None if eSAW had the envelope after that, so the statement is
    not true for it."""
    end = next((each for end in _ends(event) if (each := _later(end, retention)) is not None), None)
    created, is_shown = event.metadata.creation_timestamp, event.status.envelope is not None
    return None if end is not None and created is not None and is_shown and end <= created else end


def _ends(event: EnvelopeEvent) -> Iterator[datetime]:
    """Yield when the envelope was finished, the best source first: eSAW, then the first callback."""
    envelope = event.status.envelope
    if envelope is not None and envelope.status == EnvelopeStatus.ACTIVE:
        return
    finished = envelope.finished_time if envelope is not None else None
    for each in (finished, event.status.first_delivery_time, event.metadata.creation_timestamp):
        if each is not None:
            yield each


def _later(start: datetime, span: timedelta) -> datetime | None:
    """Return the time after a span; None if it is after the last date that can be written."""
    try:
        return start + span
    except OverflowError:
        return None

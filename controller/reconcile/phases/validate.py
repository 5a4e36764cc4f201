"""
Check with eSAW that the envelope exists and has a status that this Organization archives.

The callback is only a hint; each fact is read from eSAW with the sender's own key. (Namirial, "Serverside
Postprocessing using Callback Handlers": validate all input parameters.) Nothing is changed.
"""

from datetime import datetime, timedelta
from typing import Final

import msgspec

from controller.reader import reference_to
from controller.reconcile.context import ReconcileContext
from controller.reconcile.outcomes import Done, Outcome, Pause, PhaseFacts, Skip, Wait
from controller.reconcile.phases.missing_envelope import explain_missing, unless_missing
from counterfoil.clock import believed_time
from counterfoil.esaw.errors import EsawError
from counterfoil.esaw.models import EnvelopeResponse, HistoryEvent
from counterfoil.resources import (
    MAX_TEXT_LENGTH,
    EnvelopeEvent,
    EnvelopeStatus,
    EnvelopeSummary,
    FiledDocument,
    without_checksum,
)
from counterfoil.resources.organization import CHANGEABLE_STATUSES
from counterfoil.resources.reopening import (
    ENVELOPE_UNFINISHED,
    GIVEN_UP,
    RETRY_REQUESTED,
    SKIPPED_BY_REQUEST,
    SKIPPED_UNTIL_A_CHANGE,
    STILL_ACTIVE,
    is_restarted,
)

_FINISHING: Final = timedelta(hours=1)
"""Time after the last callback in which an answer of eSAW may be older than that callback. Also the least
time that an envelope was finished before a skip, by eSAW's clock, to be given up by it."""

_LATE_ANSWERS: Final = 3
"""Number of answers in a row with another status after a final one, after which a retry lets it count."""


async def validate(event: EnvelopeEvent, context: ReconcileContext) -> Outcome:
    """Ask eSAW whether the envelope may be archived now."""
    envelope = await unless_missing(context.envelope())
    if envelope is None:
        return await explain_missing(event, context)

    if (known := await _known_end(event, envelope.status, context)) is not None:
        return Wait(
            STILL_ACTIVE,
            f"eSignAnyWhere answers that the envelope is {envelope.status}. It was {known} before, which "
            "does not change. So it is asked again.",
        )
    now = context.clock.now()
    restarted = _restarted_time(event, envelope.status, now)
    may_change = restarted is not None or envelope.status is EnvelopeStatus.EXPIRED
    seen = PhaseFacts(
        envelope=EnvelopeSummary(
            name=envelope.name[:MAX_TEXT_LENGTH],
            status=envelope.status,
            sender_ref=reference_to(context.sender),
            finished_time=_finished_time(envelope, now),
            last_active_time=_last_active_time(envelope, now),
            restarted_time=restarted,
        ),
        documents=_documents(event, envelope.status),
        considered_deliveries=event.deliveries if may_change else None,
    )
    if _is_as_skipped(event, envelope, now):
        is_finished = envelope.status not in CHANGEABLE_STATUSES
        return Skip(SKIPPED_BY_REQUEST, GIVEN_UP if is_finished else SKIPPED_UNTIL_A_CHANGE, facts=seen)
    if envelope.status in context.organization.spec.statuses:
        return Done("StatusAccepted", f"The envelope is {envelope.status}.", facts=seen)
    if envelope.status is EnvelopeStatus.ACTIVE:
        failed = await _failed_step(event, context)
        if failed is not None:
            return _in_error_state(failed, seen)
        if restarted is not None:
            return _still_restarted(event, envelope, context, restarted, seen)
        return Wait(STILL_ACTIVE, "eSignAnyWhere has not finished this envelope yet.", facts=seen)
    accepted = ", ".join(context.organization.spec.statuses)
    return Skip(
        "UnexpectedStatus",
        f"The envelope is {envelope.status}; Organization/{context.organization.name} archives {accepted}.",
        facts=seen,
    )


async def _known_end(event: EnvelopeEvent, status: EnvelopeStatus, context: ReconcileContext) -> str | None:
    """
    Return the final status in which eSAW showed the envelope to this event, if its present answer has another
    ``status`` that does not count.

    The answer may come from a replica that is late. It must not remove the hashes of the files, nor what eSAW
    sent of them. So it counts if there are none, also of another event. Once a person retries an
    event that has had several such answers, another final status counts, and the hashes stay.
    """
    earlier = event.status.envelope
    if earlier is None or earlier.status == status or earlier.status in CHANGEABLE_STATUSES:
        return None
    if status not in CHANGEABLE_STATUSES and _is_retried(event):
        return None
    others = await context.siblings_of_any_action()
    return earlier.status if any(_has_contents(each, earlier.status) for each in (event, *others)) else None


def _is_retried(event: EnvelopeEvent) -> bool:
    """Whether a person retried an event after its last attempts had all waited for another status of the
    envelope."""
    last = event.status.attempt_history[-_LATE_ANSWERS:]
    is_late = len(last) == _LATE_ANSWERS and all(each.reason == STILL_ACTIVE for each in last)
    return event.status.reason == RETRY_REQUESTED and is_late


def _has_contents(event: EnvelopeEvent, status: str) -> bool:
    """Whether files of the envelope in this status were archived or sent, by the status of an event."""
    known = event.status.envelope
    if known is None or known.status != status:
        return False
    return any(each.sha256 is not None or each.other_content is not None for each in event.status.documents)


def _is_as_skipped(event: EnvelopeEvent, envelope: EnvelopeResponse, now: datetime) -> bool:
    """
    Whether a callback or a sweep started an event that a person skipped, and the envelope is as it was then.

    It is if it is still Expired. One that eSAW had not shown then is Expired now, or was finished clearly
    before the skip.
    """
    earlier, skipped = event.status.envelope, event.status.skipped_time
    if not event.status.is_skipped_by_person:
        return False
    if envelope.status is EnvelopeStatus.EXPIRED:
        return earlier is None or earlier.status == EnvelopeStatus.EXPIRED
    finished = _finished_time(envelope, now)
    if earlier is not None or finished is None or skipped is None:
        return False
    return finished < skipped - _FINISHING


def _documents(event: EnvelopeEvent, status: EnvelopeStatus) -> tuple[FiledDocument, ...] | None:
    """
    Return the files without their hashes if the envelope has another status than when they were archived;
    None if nothing changes.

    Files of an expired envelope that was restarted keep their ids, and have other content. It may also have
    other files. No other final status changes; if a person's retry lets another one count, the hashes stay
    (``_known_end``).
    """
    earlier = event.status.envelope
    if earlier is None or earlier.status == status or not event.status.documents:
        return None
    if earlier.status not in CHANGEABLE_STATUSES:
        return None
    was_expired = earlier.status == EnvelopeStatus.EXPIRED
    return tuple(
        msgspec.structs.replace(without_checksum(each), outdated=each.outdated or was_expired)
        for each in event.status.documents
    )


def _finished_time(envelope: EnvelopeResponse, now: datetime) -> datetime | None:
    """
    Return when a Completed envelope was finished; the steps of another one don't tell its end.

    None if eSAW's value can't be right: after now, or before the envelope was sent.
    """
    if envelope.status is not EnvelopeStatus.COMPLETED:
        return None
    finished, sent = believed_time(envelope.finished_date, now), envelope.sent_date
    if finished is None or (sent is not None and finished < sent):
        return None
    return finished.replace(microsecond=0)


def _last_active_time(envelope: EnvelopeResponse, now: datetime) -> datetime | None:
    """Return the newest time at which an envelope with any status had not ended; None: eSAW does not tell.
    A time after now is not believed."""
    told = (believed_time(each, now) for each in (envelope.finished_date, envelope.sent_date))
    newest = max((each for each in told if each is not None), default=None)
    return newest.replace(microsecond=0) if newest is not None else None


def _restarted_time(event: EnvelopeEvent, status: EnvelopeStatus, now: datetime) -> datetime | None:
    """Return when an Active envelope was first seen after it had been Expired; None: it was not Expired."""
    earlier = event.status.envelope
    if status is not EnvelopeStatus.ACTIVE or earlier is None:
        return None
    if earlier.status == EnvelopeStatus.EXPIRED:
        return now.replace(microsecond=0)
    if earlier.restarted_time is None:
        return None
    return believed_time(earlier.restarted_time, now) or now.replace(microsecond=0)


def _still_restarted(
    event: EnvelopeEvent,
    envelope: EnvelopeResponse,
    context: ReconcileContext,
    restarted: datetime,
    seen: PhaseFacts,
) -> Pause | Skip:
    """
    Return the outcome for an envelope that was Expired and is Active again.

    eSAW calls before it finishes a signed envelope, and calls once, so the last callback may have been that
    one. Only a step in which somebody has yet to sign shows that another callback follows. Otherwise eSAW is
    asked at growing intervals, without a deadline; a person hears of it when the deadline would have passed.
    It is no problem as long as somebody has yet to read the documents. It is not documented that a callback
    follows, so eSAW is asked.
    """
    now, retry = context.clock.now(), context.organization.spec.retry
    called = believed_time(event.status.last_delivery_time, now)
    waited = max(now - max(restarted, called or restarted), timedelta(0))
    if waited >= _FINISHING and envelope.awaits_signature:
        return Skip(
            "EnvelopeRestarted",
            "The envelope was restarted after it had expired, and somebody has yet to sign it; it stays in "
            "eSignAnyWhere until its next callback.",
            facts=seen,
        )
    until = now + min(max(retry.initial, waited / 2), retry.max)
    message = "The envelope was restarted after it had expired. eSignAnyWhere has not finished it yet."
    if envelope.awaits_reader:
        message = "The envelope was restarted after it had expired, and somebody has yet to read it."
        return Pause(STILL_ACTIVE, message, until=until, facts=seen)
    if waited < retry.deadline:
        return Pause(STILL_ACTIVE, message, until=until, facts=seen)
    message = f"{message} {retry.deadline} have passed since the restart, or since the last callback."
    return Pause(ENVELOPE_UNFINISHED, message, until=until, facts=seen)


def _in_error_state(failed: HistoryEvent, seen: PhaseFacts) -> Wait:
    """Return the outcome for an envelope that eSAW can't finish, since one of its steps failed."""
    step = f"`{failed.name}`" if failed.name else "without a name"
    left = failed.remaining_attempts or 0
    return Wait(
        "EsawErrorState",
        f"eSignAnyWhere has not finished this envelope: its history shows a step {step} in an error state, "
        f"with {left or 'no'} attempts left.",
        facts=seen,
    )


async def _failed_step(event: EnvelopeEvent, context: ReconcileContext) -> HistoryEvent | None:
    """Return the step of eSAW that is in an error state; None: none is known to be."""
    # Status callbacks are sent before the final state is reached (Namirial, "Introduction REST"), so the
    # first attempt is no sign of an error.
    if not event.status.attempts and not is_restarted(event.status):
        return None
    try:
        return await context.esaw.failed_step(event.spec.envelope_id)
    except EsawError:
        # The history only explains the wait; some users may not read it.
        return None

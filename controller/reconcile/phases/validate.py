"""
Check with eSAW that the envelope exists and has a status that this Organization archives.

The callback is only a hint; each fact is read from eSAW with the sender's own key. (Namirial, "Serverside
Postprocessing using Callback Handlers": validate all input parameters.) Nothing is changed.
"""

from datetime import datetime, timedelta
from itertools import takewhile
from typing import Final

import msgspec

from controller.reconcile.context import ReconcileContext
from controller.reconcile.outcomes import Done, Outcome, PhaseFacts, Skip, Wait
from controller.reconcile.phases.missing_envelope import (
    deletion_in_history,
    explain_deletion,
    not_found,
    not_shown_message,
    unless_missing,
)
from counterfoil.clock import believed_time
from counterfoil.esaw.errors import EsawError
from counterfoil.esaw.models import EnvelopeResponse, HistoryEvent
from counterfoil.resources import (
    MAX_TEXT_LENGTH,
    EnvelopeEvent,
    EnvelopeStatus,
    EnvelopeSummary,
    FiledDocument,
    LocalObjectReference,
    without_checksum,
)

_STILL_ACTIVE: Final = "StillActive"

_FINISHING: Final = timedelta(hours=1)
"""Time in which eSAW finishes an envelope after its last callback. A restarted envelope that is still Active
then is not signed yet: an older callback was repeated, or one of several signers signed."""


async def validate(event: EnvelopeEvent, context: ReconcileContext) -> Outcome:
    """Ask eSAW whether the envelope may be archived now."""
    envelope = await unless_missing(context.envelope())
    if envelope is None:
        return await explain_missing(event, context)

    seen = PhaseFacts(
        envelope=EnvelopeSummary(
            name=envelope.name[:MAX_TEXT_LENGTH],
            status=envelope.status,
            sender_ref=LocalObjectReference(name=context.sender.name),
            finished_time=_finished_time(envelope, context.clock.now()),
        ),
        documents=_documents(event, envelope.status),
    )
    if envelope.status in context.organization.spec.statuses:
        return Done("StatusAccepted", f"The envelope is {envelope.status}.", facts=seen)
    if envelope.status is EnvelopeStatus.ACTIVE:
        return await _still_active(event, context, seen)
    accepted = ", ".join(context.organization.spec.statuses)
    return Skip(
        "UnexpectedStatus",
        f"The envelope is {envelope.status}; Organization/{context.organization.name} archives {accepted}.",
        facts=seen,
    )


def _documents(event: EnvelopeEvent, status: EnvelopeStatus) -> tuple[FiledDocument, ...] | None:
    """
    Return the files without their hashes if the envelope has another status than when they were archived;
    None if nothing changes.

    Files of an expired envelope that was restarted keep their ids, and have other content. It may also have
    other files. No other final status changes: the files that were listed then stay known.
    """
    earlier = event.status.envelope
    if earlier is None or earlier.status == status or not event.status.documents:
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


async def _still_active(event: EnvelopeEvent, context: ReconcileContext, seen: PhaseFacts) -> Wait | Skip:
    """
    Wait until eSAW has finished the envelope; say if a step of eSAW itself is in an error state.

    A restarted envelope is left to its next callback after ``_FINISHING``.
    """
    # Status callbacks are sent before the final state is reached (Namirial, "Introduction REST"), so the
    # first attempt is no sign of an error.
    failed = await _failed_step(event, context) if event.status.attempts else None
    if failed is None:
        if _is_restarted(event, context.clock.now()):
            return Skip(
                "EnvelopeRestarted",
                "The envelope was archived as Expired, but was restarted since; it stays in eSignAnyWhere "
                "until its next callback.",
                facts=seen,
            )
        return Wait(_STILL_ACTIVE, "eSignAnyWhere has not finished this envelope yet.", facts=seen)
    step = f"`{failed.name}`" if failed.name else "without a name"
    left = failed.remaining_attempts or 0
    return Wait(
        "EsawErrorState",
        f"eSignAnyWhere has not finished this envelope: its history shows a step {step} in an error state, "
        f"with {left or 'no'} attempts left.",
        facts=seen,
    )


def _is_restarted(event: EnvelopeEvent, now: datetime) -> bool:
    """Whether the envelope was archived as Expired, and was Active in each attempt of ``_FINISHING``, without
    a callback."""
    status = event.status
    if status.archive is None or not any(each.outdated for each in status.documents):
        return False
    # The history is older than the last retry, and the number of attempts is not.
    latest = status.attempt_history[::-1][: status.attempts]
    active = [each.start_time for each in takewhile(lambda each: each.reason == _STILL_ACTIVE, latest)]
    if not active:
        return False
    return now - max(active[-1], status.last_delivery_time or active[-1]) >= _FINISHING


async def _failed_step(event: EnvelopeEvent, context: ReconcileContext) -> HistoryEvent | None:
    try:
        return await context.esaw.failed_step(event.spec.envelope_id)
    except EsawError:
        # The history only explains the wait; some users may not read it.
        return None


async def explain_missing(event: EnvelopeEvent, context: ReconcileContext) -> Outcome:
    """Distinguish the causes of eSAW's 404 ERR0007: deleted, never existed, or another user's envelope."""
    was_deleted = await deletion_in_history(event, context)
    if was_deleted:
        return await explain_deletion(event.status.documents, event, context)
    message = not_shown_message(context)
    if event.status.envelope is None:
        cause = "it never existed, or another user sent it"
        if was_deleted is None:
            cause = "it never existed, another user sent it, or it was deleted"
        message = f"eSignAnyWhere shows no such envelope to the key of Sender/{context.sender.name}: {cause}."
    return not_found(event, message)

"""
List the files of a finished event, or say why eSignAnyWhere (eSAW) can't be asked.

The event is admitted as before a run, so eSAW is not called for a suspended one. Nothing is archived or
stored here, except that a refused key is recorded on its Sender.
"""

from collections.abc import Collection

from controller.reconcile import error_policy
from controller.reconcile.outcomes import Hold, NeedConsent, Outcome, Wait
from controller.reconcile.phases.missing_envelope import not_shown_message, unless_missing, was_deleted
from controller.reconcile.phases.unlisted_files import FILES_NOT_LISTED
from controller.reconcile.preconditions import Admitted, Preconditions, RecordOnly, Relabelled
from counterfoil.esaw.evidence import lacks_known_file, lists_additional_files
from counterfoil.esaw.models import EnvelopeFile
from counterfoil.resources import EnvelopeEvent
from counterfoil.resources.envelopeevent import ENVELOPE_NOT_FOUND


async def list_files(
    preconditions: Preconditions, event: EnvelopeEvent
) -> Collection[EnvelopeFile] | Outcome | None:
    """
    Return the files that eSAW lists now, which are no fewer than before; None if the envelope was deleted.

    Returns the outcome that a run would have had if they can't be listed. Raises errors that have no row in
    ``error_policy``.
    """
    try:
        admitted = await preconditions.check(event)
        if isinstance(admitted, Relabelled):
            admitted = await preconditions.check(admitted.event)
    except Exception as problem:
        return _classified(problem, preconditions)
    finally:
        # Finished events are in no memory (rule 9).
        preconditions.cache.sender_of.pop(event.name, None)
    match admitted:
        case Admitted():
            return await _list(admitted, preconditions)
        case RecordOnly():
            message = f"spec.actions of Organization/{event.organization} only records {event.spec.action}."
            return Hold("Recorded", message)
        case Relabelled():
            return Wait("ApiServerTrouble", "Another client changes the labels of the event.")
    return admitted


async def _list(
    admitted: Admitted, preconditions: Preconditions
) -> Collection[EnvelopeFile] | Outcome | None:
    context = admitted.context
    try:
        listed = await unless_missing(context.files_now())
        if listed is None and await was_deleted(context.event, context):
            return None
        siblings = [each.status for each in await context.possible_siblings()]
    except Exception as problem:
        outcome = _classified(problem, preconditions)
        if isinstance(outcome, NeedConsent):
            await preconditions.sender_keys.refused(context.sender, admitted.token)
        elif outcome.reason == error_policy.KEY_DOUBTED:
            preconditions.sender_keys.doubt(context.sender, admitted.token)
        return outcome
    if listed is None:
        return Wait(ENVELOPE_NOT_FOUND, not_shown_message(context))
    status = context.event.status
    # Such a list is short, so it says nothing about late files. One with a further file starts the event
    # again, and the run waits for the files that the list lacks.
    if lacks_known_file(status, listed, siblings) and not lists_additional_files(status, listed):
        return Wait("DocumentsPending", FILES_NOT_LISTED)
    return listed


def _classified(problem: Exception, preconditions: Preconditions) -> Outcome:
    outcome = error_policy.classify(problem, preconditions.clock.now())
    if outcome is None:
        raise problem
    return outcome

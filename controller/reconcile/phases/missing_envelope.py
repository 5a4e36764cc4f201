"""
What a 404 means while an envelope is worked on: eSAW answers it to everything that is gone, so its history is asked.
"""

from controller.reconcile.context import ReconcileContext
from controller.reconcile.outcomes import Skip
from counterfoil.esaw.errors import HttpStatusError
from counterfoil.resources import EnvelopeEvent, is_condition_true


async def archived_by_sibling(context: ReconcileContext) -> Skip | None:
    """What to say of an envelope that is gone because another of its events has archived it; None if none has."""
    async for sibling in context.sibling_events():
        if is_condition_true(sibling.status.conditions, "Archived"):
            archive = (
                sibling.status.archive.ref.name
                if sibling.status.archive is not None
                else context.archive.name
            )
            return Skip(
                "ArchivedAlready",
                f"EnvelopeEvent/{sibling.name} archived this envelope in Archive/{archive}, and since then it was deleted in "
                "eSignAnyWhere.",
            )
    return None


async def was_deleted(event: EnvelopeEvent, context: ReconcileContext) -> bool:
    """Whether eSAW's history says that the envelope was deleted. Raises an ``EsawProblem`` when it can't be asked."""
    try:
        history = await context.esaw.history(event.spec.envelope_id)
    except HttpStatusError as answer:
        # 403: this user may not see histories, so nobody can tell. Else history does not know the envelope either.
        if answer.status == 403 or answer.is_missing_envelope:
            return False
        raise
    return history.has_been_deleted


def is_missing(problem: BaseException | None) -> bool:
    """Whether this is eSAW's "there is no such thing"."""
    return isinstance(problem, HttpStatusError) and problem.status == 404

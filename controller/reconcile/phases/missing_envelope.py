"""A 404 during a run: eSAW returns it for each missing object, so the envelope's history decides."""

from controller.reconcile.context import ReconcileContext
from controller.reconcile.outcomes import Fail, Skip
from counterfoil.esaw.errors import HttpStatusError
from counterfoil.resources import EnvelopeEvent, is_condition_true


async def explain_deleted(event: EnvelopeEvent, context: ReconcileContext) -> Skip | Fail | None:
    """
    Return the outcome for an envelope that was deleted before it was archived here; None if it exists.

    The deletion is a failure that a person hears of, unless another event of the envelope archived it.
    """
    if not await was_deleted(event, context):
        return None
    return await archived_by_sibling(context) or Fail(
        "EnvelopeDeleted", "The envelope was deleted in eSignAnyWhere before it could be archived."
    )


async def archived_by_sibling(context: ReconcileContext) -> Skip | None:
    """Return the outcome for a missing envelope that another of its events has archived; None if none has."""
    async for sibling in context.sibling_events():
        if is_condition_true(sibling.status.conditions, "Archived"):
            stored = sibling.status.archive
            archive = stored.ref.name if stored is not None else context.archive.name
            return Skip(
                "ArchivedAlready",
                f"EnvelopeEvent/{sibling.name} archived this envelope in Archive/{archive}, and since then "
                "it was deleted in eSignAnyWhere.",
            )
    return None


async def was_deleted(event: EnvelopeEvent, context: ReconcileContext) -> bool:
    """Whether eSAW's history says that the envelope was deleted. Raises ``EsawError``."""
    try:
        history = await context.esaw.history(event.spec.envelope_id)
    except HttpStatusError as answer:
        # 403: this user may not read histories (a proxy's 403 has no error id). Otherwise the history does
        # not contain the envelope either.
        if (answer.status == 403 and answer.error_id is not None) or answer.is_missing_envelope:
            return False
        raise
    return history.has_been_deleted


def is_missing(problem: BaseException | None) -> bool:
    """Whether this is eSAW's response for a missing object."""
    return isinstance(problem, HttpStatusError) and problem.status == 404

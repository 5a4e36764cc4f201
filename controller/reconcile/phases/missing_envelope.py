"""A 404 during a run: eSAW returns it for each missing object, so the envelope's history decides."""

from collections.abc import Awaitable
from typing import TypeVar

from controller.reconcile.context import ReconcileContext
from controller.reconcile.outcomes import Fail, PhaseFacts, Skip, counted
from counterfoil.esaw.errors import HttpStatusError
from counterfoil.resources import EnvelopeEvent, FiledDocument, is_condition_true

UNKNOWN_ENVELOPE_ATTEMPTS = 3
"""Maximum number of attempts for an unknown envelope: a callback can be faster than eSAW's own index."""


_T = TypeVar("_T")


async def unless_missing(request: Awaitable[_T]) -> _T | None:
    """Return the answer; None if eSAW does not show the envelope: it was deleted, never existed, or is
    another user's. Raises ``EsawError``."""
    try:
        return await request
    except HttpStatusError as answer:
        if not answer.is_missing_envelope:
            raise
        return None


def not_shown_message(context: ReconcileContext) -> str:
    """Return the message about an envelope that eSAW showed before."""
    return (
        f"eSignAnyWhere does not show the envelope to the key of Sender/{context.sender.name} any more, and "
        "does not say that it was deleted."
    )


async def explain_deleted(event: EnvelopeEvent, context: ReconcileContext) -> Skip | Fail | None:
    """
    Return the outcome for an envelope that was deleted before its files were archived; None if it exists.

    The deletion is a failure that a person hears of, unless another event of the envelope archived it.
    """
    return await explain_deletion(event, context) if await was_deleted(event, context) else None


async def explain_deletion(event: EnvelopeEvent, context: ReconcileContext) -> Skip | Fail:
    """Return the outcome for an envelope that was deleted before this event archived all of its files."""
    return await archived_by_sibling(context) or await deleted_envelope(
        event.status.documents, event, context
    )


async def deleted_envelope(
    documents: tuple[FiledDocument, ...], event: EnvelopeEvent, context: ReconcileContext
) -> Fail:
    """Return the outcome for an envelope that was deleted, and of which these files came into the archive."""
    facts = PhaseFacts(documents=documents)
    arrived = sum(each.sha256 is not None for each in documents)
    files = f"{arrived} of its {counted(len(documents), 'file')}"
    found = (each.status.archive for each in (event, *await context.siblings()))
    manifest = next((each.manifest for each in found if each is not None and each.manifest), None)
    if manifest is not None:
        message = (
            "The envelope was deleted in eSignAnyWhere. An earlier state of it is archived with the "
            f"manifest {manifest}. {files} are known to be in the archive; files that changed or were added "
            "after that state may be missing."
        )
    elif arrived:
        message = (
            f"The envelope was deleted in eSignAnyWhere while it was being archived: {files} arrived in "
            f"Archive/{context.archive.name}, without a manifest."
        )
    else:
        message = "The envelope was deleted in eSignAnyWhere before it could be archived."
    return Fail("EnvelopeDeleted", message, facts=facts)


async def archived_by_sibling(context: ReconcileContext) -> Skip | None:
    """Return the outcome for a missing envelope that another of its events has archived; None if none has."""
    for sibling in await context.siblings():
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
    return await deletion_in_history(event, context) is True


async def deletion_in_history(event: EnvelopeEvent, context: ReconcileContext) -> bool | None:
    """Whether eSAW's history says that the envelope was deleted; None if this user may not read histories.
    Raises ``EsawError``."""
    try:
        history = await unless_missing(context.esaw.history(event.spec.envelope_id))
    except HttpStatusError as answer:
        # A proxy's 403 has no error id.
        if answer.status == 403 and answer.error_id is not None:
            return None
        raise
    return history is not None and history.has_been_deleted


def is_missing(problem: BaseException | None) -> bool:
    """Whether this is eSAW's response for a missing object."""
    return isinstance(problem, HttpStatusError) and problem.status == 404

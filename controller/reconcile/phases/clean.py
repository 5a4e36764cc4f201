"""
Delete the envelope in eSAW, after all of its files are archived and the status that proves it is stored (rule
4).

This is the only module that may import ``counterfoil.esaw.deletion``; import-linter ensures it. The proof is
built from the status as the API server returns it, never from this process's memory.
"""

import dataclasses

from controller.reconcile.context import ReconcileContext
from controller.reconcile.outcomes import Done, Outcome, Pause, Skip, Wait
from counterfoil.archives import filing
from counterfoil.esaw import deletion
from counterfoil.esaw.errors import HttpStatusError
from counterfoil.resources import (
    CleanupPolicy,
    EnvelopeEvent,
    EnvelopeStatus,
    FileKind,
    Phase,
    find_condition,
)


async def clean(event: EnvelopeEvent, context: ReconcileContext) -> Outcome:
    """Delete the envelope, unless the Organization keeps it or it is too early."""
    cleanup = context.organization.spec.cleanup
    if cleanup.policy is CleanupPolicy.KEEP:
        message = "The envelope was archived and stays in eSignAnyWhere, as spec.cleanup.policy says."
        return Done("ArchivedAndKept", message)

    if not deletion.is_kept(event.status):
        # Archived while the Organization had another Archive or kept its envelopes.
        return Wait(
            "ArchiveKeepsNothing",
            "The envelope was archived where no file is kept; Counterfoil archives it again before deleting "
            "it.",
            restart_from=Phase.COLLECTING,
        )

    if (doubt := deletion.doubt(event.status)) is not None:
        return Done(
            "DocumentInDoubt",
            f"The envelope was archived and stays in eSignAnyWhere, since a file of it is in doubt: {doubt}",
        )

    archived = find_condition(event.status.conditions, "Archived")
    due = archived.last_transition_time + cleanup.after if archived is not None else None
    if due is not None and context.clock.now() < due:
        message = f"The envelope is deleted {cleanup.after} after archiving, as spec.cleanup.after says."
        return Pause("CleanupDelayed", message, until=due)

    if event.status.envelope is not None and event.status.envelope.status == EnvelopeStatus.EXPIRED:
        restarted = await _restarted(event, context)
        if restarted is not None:
            return restarted

    proof = deletion.ProofOfArchive.from_status(
        event.spec.envelope_id, event.status, event.metadata.resource_version or ""
    )
    try:
        await deletion.delete(context.esaw, proof)
    except HttpStatusError as answer:
        if not answer.is_missing_envelope:
            raise
        # The response to an earlier delete was lost, or a person deleted it: the aim is reached.
        return Done("ArchivedAndDeleted", "The envelope was archived, and is no longer in eSignAnyWhere.")
    return Done("ArchivedAndDeleted", "The envelope was archived, then deleted in eSignAnyWhere.")


async def _restarted(event: EnvelopeEvent, context: ReconcileContext) -> Outcome | None:
    """Only an expired envelope can be restarted (restartexpired); a restarted one is not deleted."""
    try:
        # Read again, because archiving may have taken an hour.
        envelope = await context.esaw.envelope(event.spec.envelope_id)
    except HttpStatusError as answer:
        if not answer.is_missing_envelope:
            raise
        return None
    if envelope.status is not EnvelopeStatus.EXPIRED:
        return Skip(
            "EnvelopeRestarted",
            "The envelope was archived as Expired, but was restarted since; it stays in eSignAnyWhere until "
            "its next callback.",
        )
    if await _is_as_archived(event, context):
        return None
    # Restarted, signed by somebody, and expired again: what is in the archive is not what would be deleted.
    return Wait(
        "FilesChanged",
        "The envelope is Expired again, but has other documents than were archived; they are archived again.",
        restart_from=Phase.COLLECTING,
    )


async def _is_as_archived(event: EnvelopeEvent, context: ReconcileContext) -> bool:
    """Whether eSAW has exactly the archived documents, byte for byte; equal file ids do not prove it."""
    plan = await context.plan()
    archived = {each.file_id: each.location for each in event.status.documents}
    if {each.facts.file_id: context.backend.location(each.name) for each in plan.files} != archived:
        return False
    # An audit trail grows when a document is read, so it proves nothing about the signed content.
    signed = [each for each in plan.files if each.facts.kind in (FileKind.DOCUMENT, FileKind.ATTACHMENT)]
    signed_plan = dataclasses.replace(plan, files=tuple(signed))
    same = await filing.find_stored(context.backend, signed_plan, context.download)
    return len(same) == len(signed)

"""
Cleaning: delete the envelope in eSAW, now that everything of it is in the archive and that is stored (rule 4).

This is the only module that may import ``counterfoil.esaw.deletion``; import-linter sees to it. The proof is built
from the status as the API server has it, never from what this process believes.
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
    """Delete the envelope, unless it is to be kept or it is too early."""
    cleanup = context.organization.spec.cleanup
    if cleanup.policy is CleanupPolicy.KEEP:
        return Done(
            "ArchivedAndKept",
            "The envelope was archived and stays in eSignAnyWhere, as spec.cleanup.policy says.",
        )

    if not deletion.is_kept(event.status):
        # Archived while the Organization had another Archive or kept its envelopes.
        return Wait(
            "ArchiveKeepsNothing",
            "The envelope was archived where no file is kept; Counterfoil archives it again before deleting it.",
            restart_from=Phase.COLLECTING,
        )

    archived = find_condition(event.status.conditions, "Archived")
    if archived is not None and context.clock.now() < archived.last_transition_time + cleanup.after:
        return Pause(
            "CleanupDelayed",
            f"The envelope is deleted {cleanup.after} after archiving, as spec.cleanup.after says.",
            until=archived.last_transition_time + cleanup.after,
        )

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
        # The answer to an earlier delete of ours was lost, or a person deleted it: gone is what we want.
        return Done("ArchivedAndDeleted", "The envelope was archived, and is no longer in eSignAnyWhere.")
    return Done("ArchivedAndDeleted", "The envelope was archived, then deleted in eSignAnyWhere.")


async def _restarted(event: EnvelopeEvent, context: ReconcileContext) -> Outcome | None:
    """An expired envelope is the only one that can come to life again (restartexpired); that one is not deleted."""
    try:
        # Asked anew, since archiving may have taken an hour.
        envelope = await context.esaw.envelope(event.spec.envelope_id)
    except HttpStatusError as answer:
        if not answer.is_missing_envelope:
            raise
        return None
    if envelope.status is not EnvelopeStatus.EXPIRED:
        return Skip(
            "EnvelopeRestarted",
            "The envelope was archived as Expired, but was restarted since; it stays in eSignAnyWhere until its next callback.",
        )
    if await _is_as_archived(event, context):
        return None
    # Restarted, signed by somebody, and expired again: what is in the archive is not what would be deleted.
    return Wait(
        "FilesChanged",
        "The envelope is Expired again, but has other documents than were archived; they are archived anew.",
        restart_from=Phase.COLLECTING,
    )


async def _is_as_archived(event: EnvelopeEvent, context: ReconcileContext) -> bool:
    """Whether eSAW still has just the documents that lie in the archive, byte for byte; file ids alone do not tell."""
    plan = await context.plan()
    archived = {each.file_id: each.location for each in event.status.documents}
    if {each.facts.file_id: context.backend.location(each.name) for each in plan.files} != archived:
        return False
    # Audit trails go on when a document is read, so they say nothing about what was signed.
    signed = [each for each in plan.files if each.facts.kind in (FileKind.DOCUMENT, FileKind.ATTACHMENT)]
    same = await filing.find_stored(
        context.backend, dataclasses.replace(plan, files=tuple(signed)), context.esaw.download
    )
    return len(same) == len(signed)

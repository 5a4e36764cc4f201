"""
Cleaning: delete the envelope in eSAW, now that everything of it is in the archive and that is stored (rule 4).

This is the only module that may import ``counterfoil.esaw.deletion``; import-linter sees to it. The proof is built
from the status as the API server has it, never from what this process believes.
"""

from controller.desk import Desk
from controller.outcomes import Done, Outcome, Pause, Skip
from counterfoil.esaw import deletion
from counterfoil.esaw.problems import Answered
from counterfoil.resources import CleanupPolicy, EnvelopeEvent, EnvelopeStatus, condition


async def clean(event: EnvelopeEvent, at: Desk) -> Outcome:
    """Delete the envelope, unless it is to be kept or it is too early."""
    cleanup = at.organization.spec.cleanup
    if cleanup.policy is CleanupPolicy.KEEP:
        return Done(
            "ArchivedAndKept",
            "The envelope was archived and stays in eSignAnyWhere, as spec.cleanup.policy says.",
        )

    archived = condition(event.status.conditions, "Archived")
    if archived is not None and at.clock.now() < archived.last_transition_time + cleanup.after:
        return Pause(
            "CleanupDelayed",
            f"The envelope is deleted {cleanup.after} after archiving, as spec.cleanup.after says.",
            until=archived.last_transition_time + cleanup.after,
        )

    if event.status.envelope is not None and event.status.envelope.status == EnvelopeStatus.EXPIRED:
        restarted = await _restarted(event, at)
        if restarted is not None:
            return restarted

    proof = deletion.ProofOfArchive.from_status(
        event.spec.envelope_id, event.status, event.metadata.resource_version or ""
    )
    try:
        await deletion.delete(at.esaw, proof)
    except Answered as answer:
        if not answer.is_missing_envelope:
            raise
        # The answer to an earlier delete of ours was lost, or a person deleted it: gone is what we want.
        return Done("ArchivedAndDeleted", "The envelope was archived, and is no longer in eSignAnyWhere.")
    return Done("ArchivedAndDeleted", "The envelope was archived, then deleted in eSignAnyWhere.")


async def _restarted(event: EnvelopeEvent, at: Desk) -> Outcome | None:
    """An expired envelope is the only one that can come to life again (restartexpired); that one is not deleted."""
    try:
        # Asked anew, since archiving may have taken an hour.
        envelope = await at.esaw.envelope(event.spec.envelope_id)
    except Answered as answer:
        if not answer.is_missing_envelope:
            raise
        return None
    if envelope.status is EnvelopeStatus.EXPIRED:
        return None
    return Skip(
        "EnvelopeRestarted",
        "The envelope was archived as Expired, but was restarted since; it stays in eSignAnyWhere until its next callback.",
    )

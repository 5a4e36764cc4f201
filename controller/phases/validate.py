"""
Validating: does the envelope exist, and is it in a status that this organization archives?

The callback is a hint only; everything is asked from eSAW with the sender's own key. (Namirial, "Serverside
Postprocessing using Callback Handlers": validate all input parameters.) Nothing is changed anywhere.
"""

from controller.desk import Desk
from controller.outcomes import Done, Facts, Fail, Outcome, Skip, Wait
from controller.phases.missing import archived_by_sibling, was_deleted
from counterfoil.esaw.problems import Answered
from counterfoil.resources import LONGEST_TEXT, EnvelopeEvent, EnvelopeSeen, EnvelopeStatus, Ref

PATIENCE_WITH_UNKNOWN = 3
"""Attempts before an unknown envelope is believed to be unknown: a callback can be quicker than eSAW's own index."""


async def validate(event: EnvelopeEvent, at: Desk) -> Outcome:
    """Ask eSAW whether the envelope may be archived now."""
    try:
        envelope = await at.envelope()
    except Answered as answer:
        if not answer.is_missing_envelope:
            raise
        return await why_missing(event, at)

    seen = Facts(
        envelope=EnvelopeSeen(
            name=envelope.name[:LONGEST_TEXT], status=envelope.status, sender_ref=Ref(name=at.sender.name)
        )
    )
    if envelope.status in at.organization.spec.statuses:
        return Done("StatusAccepted", f"The envelope is {envelope.status}.", facts=seen)
    if envelope.status is EnvelopeStatus.ACTIVE:
        # Status callbacks are sent before the envelope reaches its final state. (Namirial, "Introduction REST")
        return Wait("StillActive", "eSignAnyWhere has not finished this envelope yet.", facts=seen)
    accepted = ", ".join(at.organization.spec.statuses)
    return Skip(
        "UnexpectedStatus",
        f"The envelope is {envelope.status}; Organization/{at.organization.name} archives {accepted}.",
        facts=seen,
    )


async def why_missing(event: EnvelopeEvent, at: Desk) -> Outcome:
    """Tell apart what eSAW's 404 ERR0007 throws together: deleted, never existed, and not this sender's."""
    if await was_deleted(event, at):
        return await archived_by_sibling(at) or Skip(
            "EnvelopeDeleted", "The envelope was deleted in eSignAnyWhere before it could be archived."
        )
    message = f"eSignAnyWhere shows no such envelope to the key of Sender/{at.sender.name}: it never existed, or another user sent it."
    if event.status.attempts + 1 < PATIENCE_WITH_UNKNOWN:
        return Wait("EnvelopeNotFound", message)
    return Fail("EnvelopeNotFound", message)

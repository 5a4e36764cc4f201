"""
An envelope that eSAW shows, after it was validated, in another status.

The answer may be late, or the envelope was restarted. What is archived is judged by the status, so nothing is
archived before the phase Validating has decided which one counts.
"""

from controller.reconcile.context import ReconcileContext
from controller.reconcile.outcomes import Wait
from counterfoil.resources import EnvelopeEvent, Phase
from counterfoil.resources.reopening import STILL_ACTIVE


async def outcome_if_other_status(event: EnvelopeEvent, context: ReconcileContext) -> Wait | None:
    """Return the outcome for an envelope that has another status in this run than was validated; None: it has
    the same. Raises ``EsawError``."""
    known, envelope = event.status.envelope, await context.envelope()
    if known is None or known.status == envelope.status:
        return None
    return Wait(
        STILL_ACTIVE,
        f"eSignAnyWhere answers that the envelope is {envelope.status}. It was {known.status} before. So it "
        "is asked again.",
        restart_from=Phase.VALIDATING,
    )

"""
An envelope that was archived as Expired can be restarted and signed. Its event asks eSAW before it deletes
the envelope, and before it waits for copies: neither may outlive what was archived.
"""

import dataclasses

from controller.reconcile.context import ReconcileContext
from controller.reconcile.outcomes import Outcome, Wait
from controller.reconcile.phases.copy import copy
from counterfoil.esaw import HttpStatusError
from counterfoil.resources import EnvelopeEvent, Phase
from counterfoil.resources.organization import EnvelopeStatus
from counterfoil.resources.reopening import STILL_ACTIVE


async def outcome_if_restarted(event: EnvelopeEvent, context: ReconcileContext) -> Outcome | None:
    """
    Return the outcome for an envelope that was archived as Expired and is not any more. None: it is, or was
    archived in a status that can't change.

    Raises ``EsawError``, also if eSAW does not show the envelope.
    """
    known = event.status.envelope
    if known is None or known.status != EnvelopeStatus.EXPIRED:
        return None
    # Read again, because archiving may have taken an hour.
    envelope = await context.envelope_now()
    if envelope.status is EnvelopeStatus.EXPIRED:
        return None
    if envelope.status is EnvelopeStatus.ACTIVE:
        # It may be signed already: eSAW calls before it finishes the envelope, and once.
        return Wait(
            STILL_ACTIVE,
            "The envelope was archived as Expired, and is Active again. eSignAnyWhere has not finished it.",
            restart_from=Phase.VALIDATING,
        )
    # Its callback may have come already: one for an unfinished event only counts.
    return Wait(
        "FilesChanged",
        f"The envelope was archived as Expired, and is {envelope.status} now; it is archived again.",
        restart_from=Phase.VALIDATING,
    )


async def copy_unless_restarted(event: EnvelopeEvent, context: ReconcileContext) -> Outcome:
    """Make the copies of an archived envelope, unless it was restarted. Raises ``EsawError``."""
    try:
        restarted = await outcome_if_restarted(event, context)
    except HttpStatusError as answer:
        if not answer.is_missing_envelope:
            raise
        # It says nothing about the state of the envelope, so the callbacks are not considered.
        return await copy(event, context)
    if restarted is not None:
        return restarted
    outcome = await copy(event, context)
    # Those that are counted later are not considered: the answer may be older than they are.
    facts = dataclasses.replace(outcome.facts, considered_deliveries=event.deliveries)
    return dataclasses.replace(outcome, facts=facts)

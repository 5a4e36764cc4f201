"""
An envelope that was archived as Expired can be restarted and signed. Its event asks eSAW before it deletes
the envelope, and before it waits for copies: neither may outlive what was archived.

A copy waits for no answer: the question before the delete is another one (docs/decisions/0075).
"""

import dataclasses

from controller.reconcile.context import ReconcileContext
from controller.reconcile.outcomes import (
    Done,
    NeedConsent,
    Outcome,
    Pause,
    PhaseFacts,
    SideCondition,
    Wait,
)
from counterfoil.esaw import HttpStatusError
from counterfoil.resources import EnvelopeEvent, Phase
from counterfoil.resources.envelopeevent import COPIES_PENDING, RESTART_CONDITION
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


async def ask_before_copies(event: EnvelopeEvent, context: ReconcileContext) -> Outcome:
    """Return ``Done`` unless the envelope was restarted. Raises ``EsawError``: the copies are made then, too
    (``with_answer``)."""
    try:
        restarted = await outcome_if_restarted(event, context)
    except HttpStatusError as answer:
        if not answer.is_missing_envelope:
            raise
        return Done(COPIES_PENDING, "eSignAnyWhere does not show the envelope, which says nothing about it.")
    if restarted is not None:
        return restarted
    # Those that are counted later are not considered: the answer may be older than they are.
    facts = PhaseFacts(considered_deliveries=event.deliveries)
    return Done(COPIES_PENDING, "The envelope is Expired, as it was archived.", facts=facts)


def with_answer(made: Outcome, asked: Outcome) -> Outcome:
    """
    Return the outcome of an attempt at copies with what the question before it showed.

    An event whose copies can't be made does not fail while eSAW may still tell of a signature. Why there is
    no answer is shown at once. So is a refused key: the delete waits for another one.
    """
    is_open = isinstance(asked, Wait | Pause | NeedConsent)
    shown: tuple[SideCondition, ...] = ()
    if is_open:
        unknown = f"Nobody knows whether the envelope was signed since it was archived. {asked.message}"
        shown = (SideCondition(RESTART_CONDITION, "Unknown", asked.reason, unknown),)
    if isinstance(asked, NeedConsent):
        shown = (*shown, SideCondition("Authorized", "False", asked.reason, asked.message))
    facts = dataclasses.replace(
        made.facts,
        envelope=asked.facts.envelope,
        considered_deliveries=asked.facts.considered_deliveries,
        not_shown_to=asked.facts.not_shown_to,
        side_conditions=(*asked.facts.side_conditions, *shown, *made.facts.side_conditions),
        is_question_open=is_open,
    )
    return dataclasses.replace(made, facts=facts)

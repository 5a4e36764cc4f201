"""
Re-opening: what a finished event looks like when it begins again, by a new delivery or by a person's request.

Pure. A delivery re-opens what it found Skipped or Failed; one that came before that ended was part of it, and only
counts. What was claimed or filed in the archive stays known, so that nothing is filed twice. An event whose
documents are archived goes on from there and never back to before: its proof is the condition ``Archived``.
"""

from datetime import datetime

from msgspec.structs import replace

from counterfoil.resources.conditions import find_condition, is_condition_true, with_condition
from counterfoil.resources.envelopeevent import EnvelopeEventStatus, Phase

PHASES_REOPENED_BY_CALLBACK = frozenset({Phase.SKIPPED, Phase.FAILED})


def is_reopened_by_callback(phase: str, completed_at: datetime | None, *, received: datetime) -> bool:
    """
    Whether a delivery that was received then re-opens an event of that phase, which ended at ``completed_at``.

    The two times are of two processes' clocks; a new call comes minutes later, so seconds between them matter nothing.
    """
    return phase in PHASES_REOPENED_BY_CALLBACK and (completed_at is None or received > completed_at)


def reopened_status(
    status: EnvelopeEventStatus, *, reason: str, message: str, now: datetime
) -> EnvelopeEventStatus:
    """
    Return the status of the event as one that waits for its first attempt.

    ``reason`` and ``message`` say why. Attempts and deadlines start anew; conditions do too, unless ``Archived`` or
    ``Cleaned`` is True.
    """
    filed = is_condition_true(status.conditions, "Archived") or is_condition_true(
        status.conditions, "Cleaned"
    )
    kept = status.conditions if filed else ()
    ready = find_condition(status.conditions, "Ready")
    if ready is not None:
        kept = with_condition(
            (*kept, ready) if not filed else kept,
            "Ready",
            "False",
            reason=reason,
            message=message,
            now=now,
            generation=ready.observed_generation,
        )
    return replace(
        status,
        phase=Phase.PENDING,
        reason=reason,
        message=message,
        conditions=kept,
        attempts=0,
        next_attempt_time=None,
        phase_started_at=None,
        completed_at=None,
    )

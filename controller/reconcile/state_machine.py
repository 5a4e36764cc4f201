"""
The life of an event as one pure function: its status, what a phase said, the time; out comes its new status.

Also here, because they are the same knowledge: the order of the phases, which condition each one sets, where an
event goes on after a restart, and after which phases the status must be stored before the next one starts.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from controller.reconcile.outcomes import Done, Fail, Hold, NeedConsent, Outcome, Pause, Skip, Wait
from controller.scheduling import backoff
from counterfoil.resources import (
    MAX_MESSAGE_LENGTH,
    EnvelopeEventStatus,
    LastError,
    Phase,
    RetrySpec,
    find_condition,
    is_condition_true,
    with_condition,
)

PHASE_ORDER = (Phase.VALIDATING, Phase.COLLECTING, Phase.ARCHIVING, Phase.CLEANING)

PHASE_CONDITIONS = {
    Phase.VALIDATING: "Validated",
    Phase.COLLECTING: "Collected",
    Phase.ARCHIVING: "Archived",
    Phase.CLEANING: "Cleaned",
}

PERSIST_AFTER = frozenset({Phase.COLLECTING, Phase.ARCHIVING, Phase.CLEANING})
"""
Collecting: the names in the archive are claimed, so that a later run knows its own half-done work from a stranger's
file. Archiving: rule 4, the proof must be in the API server before the delete. Cleaning: it is over.
"""


@dataclass(frozen=True)
class TransitionInput:
    """What a transition depends on besides the status and the outcome."""

    now: datetime
    generation: int
    retry: RetrySpec
    random: backoff.Random


def phase_to_resume(status: EnvelopeEventStatus) -> Phase:
    """Return the phase to work on: the first whose condition is not True."""
    return next(
        (phase for phase in PHASE_ORDER if not is_condition_true(status.conditions, PHASE_CONDITIONS[phase])),
        Phase.CLEANING,
    )


def next_phase(phase: Phase) -> Phase:
    """Return the phase after this one; ``Succeeded`` after the last."""
    place = PHASE_ORDER.index(phase)
    return PHASE_ORDER[place + 1] if place + 1 < len(PHASE_ORDER) else Phase.SUCCEEDED


def next_status(
    status: EnvelopeEventStatus, phase: Phase, outcome: Outcome, inputs: TransitionInput
) -> EnvelopeEventStatus:
    """Return the status after ``phase`` ended with ``outcome``."""
    outcome = dataclasses.replace(outcome, message=outcome.message[:MAX_MESSAGE_LENGTH])
    with_facts = _with_facts(status, outcome, inputs)
    match outcome:
        case Done():
            return _done(with_facts, phase, outcome, inputs)
        case Wait():
            return _wait(with_facts, phase, outcome, inputs)
        case Pause():
            # The deadline runs neither while it is too early nor while a person holds the event.
            paused = _not_ready(with_facts, phase, outcome, inputs, next_attempt_time=outcome.until)
            return msgspec.structs.replace(paused, phase_started_at=None)
        case Hold():
            key_accepted = _not_ready(with_facts, phase, outcome, inputs, next_attempt_time=None)
            return msgspec.structs.replace(key_accepted, phase_started_at=None)
        case NeedConsent():
            waiting = _not_ready(with_facts, Phase.AWAITING_CONSENT, outcome, inputs, next_attempt_time=None)
            return msgspec.structs.replace(
                _set_condition(waiting, "Authorized", outcome, "False", inputs),
                attempts=0,
                phase_started_at=None,
            )
        case Skip():
            # Nothing that was reached counts any more: a new delivery begins at the beginning.
            return _final_status(
                _with_phases_reset(with_facts, PHASE_ORDER, outcome, inputs),
                Phase.SKIPPED,
                phase,
                outcome,
                inputs,
            )
        case Fail():
            return _final_status(with_facts, Phase.FAILED, phase, outcome, inputs)


def _with_facts(
    status: EnvelopeEventStatus, outcome: Outcome, inputs: TransitionInput
) -> EnvelopeEventStatus:
    facts = outcome.facts
    conditions = status.conditions
    if (side_condition := facts.side_condition) is not None:
        conditions = with_condition(
            conditions,
            side_condition.type,
            side_condition.status,
            reason=side_condition.reason,
            message=side_condition.message,
            now=inputs.now,
            generation=inputs.generation,
        )
    return msgspec.structs.replace(
        status,
        envelope=status.envelope if facts.envelope is None else facts.envelope,
        documents=status.documents if facts.documents is None else facts.documents,
        archive=status.archive if facts.archive is None else facts.archive,
        conditions=conditions,
    )


def _done(
    status: EnvelopeEventStatus, phase: Phase, outcome: Done, inputs: TransitionInput
) -> EnvelopeEventStatus:
    with_result = _set_condition(status, PHASE_CONDITIONS[phase], outcome, "True", inputs)
    upcoming_phase = next_phase(phase)
    if upcoming_phase is Phase.SUCCEEDED:
        return _final_status(with_result, Phase.SUCCEEDED, phase, outcome, inputs)
    in_progress = Done("InProgress", f"The event is {upcoming_phase}.")
    moved = _set_condition(with_result, "Ready", in_progress, "False", inputs)
    return msgspec.structs.replace(
        moved,
        phase=upcoming_phase,
        reason=None,
        message=None,
        attempts=0,
        next_attempt_time=None,
        phase_started_at=inputs.now,
        started_at=status.started_at or inputs.now,
        observed_generation=inputs.generation,
    )


def _wait(
    status: EnvelopeEventStatus, phase: Phase, outcome: Wait, inputs: TransitionInput
) -> EnvelopeEventStatus:
    started = status.phase_started_at or inputs.now
    if backoff.is_deadline_exceeded(started, inputs.retry, now=inputs.now):
        message = f"Given up in {phase} after {inputs.retry.deadline}. The last problem was {outcome.reason}: {outcome.message}"
        given_up = Fail("DeadlineExceeded", message[:MAX_MESSAGE_LENGTH])
        return _final_status(_with_last_error(status, outcome, inputs), Phase.FAILED, phase, given_up, inputs)
    attempts = status.attempts + 1
    due = backoff.next_attempt(
        attempts, inputs.retry, now=inputs.now, random=inputs.random, not_before=outcome.not_before
    )
    waiting = _not_ready(status, phase, outcome, inputs, next_attempt_time=due)
    if outcome.restart_from is not None:
        # With all that came after it, or a proof of before would outlive what it proves.
        waiting = _with_phases_reset(
            waiting, PHASE_ORDER[PHASE_ORDER.index(outcome.restart_from) :], outcome, inputs
        )
    return msgspec.structs.replace(
        _with_last_error(waiting, outcome, inputs), attempts=attempts, phase_started_at=started
    )


def _with_last_error(
    status: EnvelopeEventStatus, outcome: Wait | Fail, inputs: TransitionInput
) -> EnvelopeEventStatus:
    error = LastError(reason=outcome.reason, message=outcome.message, time=inputs.now)
    return msgspec.structs.replace(status, last_error=error)


def _not_ready(
    status: EnvelopeEventStatus,
    phase: Phase,
    outcome: Wait | Pause | Hold | NeedConsent,
    inputs: TransitionInput,
    *,
    next_attempt_time: datetime | None,
) -> EnvelopeEventStatus:
    return msgspec.structs.replace(
        _set_condition(status, "Ready", outcome, "False", inputs),
        phase=phase,
        reason=outcome.reason,
        message=outcome.message,
        next_attempt_time=next_attempt_time,
        started_at=status.started_at or inputs.now,
        observed_generation=inputs.generation,
    )


def _final_status(
    status: EnvelopeEventStatus,
    final: Phase,
    phase: Phase,
    outcome: Done | Skip | Fail,
    inputs: TransitionInput,
) -> EnvelopeEventStatus:
    with_outcome = status
    if not isinstance(outcome, Done):
        with_outcome = _set_condition(status, PHASE_CONDITIONS[phase], outcome, "False", inputs)
    if isinstance(outcome, Fail) and outcome.reason != "DeadlineExceeded":
        with_outcome = _with_last_error(with_outcome, outcome, inputs)
    ready = _set_condition(
        with_outcome, "Ready", outcome, "True" if final is Phase.SUCCEEDED else "False", inputs
    )
    return msgspec.structs.replace(
        ready,
        phase=final,
        reason=outcome.reason,
        message=outcome.message,
        next_attempt_time=None,
        started_at=status.started_at or inputs.now,
        completed_at=inputs.now,
        observed_generation=inputs.generation,
    )


def record_only_status(
    status: EnvelopeEventStatus, outcome: Done, inputs: TransitionInput
) -> EnvelopeEventStatus:
    """Return the final status of an event that is only to be noted down."""
    return _final_status(status, Phase.SUCCEEDED, Phase.VALIDATING, outcome, inputs)


def with_authorized(status: EnvelopeEventStatus, sender: str, inputs: TransitionInput) -> EnvelopeEventStatus:
    """Return the status with the ``Authorized`` condition True: this sender's key is at hand."""
    key_accepted = Done("KeyAccepted", f"The key of Sender/{sender} is accepted by eSignAnyWhere.")
    found = find_condition(status.conditions, "Authorized")
    if found is not None and found.status == "True" and found.message == key_accepted.message:
        return status
    return _set_condition(status, "Authorized", key_accepted, "True", inputs)


def without_documents(
    status: EnvelopeEventStatus, outcome: Fail, inputs: TransitionInput
) -> EnvelopeEventStatus:
    """Return the status without its list of files and without what that proves, so that a retry collects them anew."""
    reset = _with_phases_reset(status, PHASE_ORDER[PHASE_ORDER.index(Phase.COLLECTING) :], outcome, inputs)
    return msgspec.structs.replace(reset, documents=())


def _with_phases_reset(
    status: EnvelopeEventStatus, phases: Sequence[Phase], outcome: Skip | Wait | Fail, inputs: TransitionInput
) -> EnvelopeEventStatus:
    reset = status
    for type_ in (PHASE_CONDITIONS[phase] for phase in phases):
        if is_condition_true(status.conditions, type_):
            reset = _set_condition(reset, type_, outcome, "False", inputs)
    return reset


def _set_condition(
    status: EnvelopeEventStatus, type_: str, outcome: Outcome, condition_status: str, inputs: TransitionInput
) -> EnvelopeEventStatus:
    conditions = with_condition(
        status.conditions,
        type_,
        "True" if condition_status == "True" else "False",
        reason=outcome.reason,
        message=outcome.message,
        now=inputs.now,
        generation=inputs.generation,
    )
    return msgspec.structs.replace(status, conditions=conditions)

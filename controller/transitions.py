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

from controller import backoff
from controller.outcomes import Done, Fail, Hold, NeedConsent, Outcome, Pause, Skip, Wait
from counterfoil.resources import (
    LONGEST_MESSAGE,
    EnvelopeEventStatus,
    LastError,
    Phase,
    Retry,
    condition,
    is_true,
    with_condition,
)

LADDER = (Phase.VALIDATING, Phase.COLLECTING, Phase.ARCHIVING, Phase.CLEANING)

CONDITION_OF = {
    Phase.VALIDATING: "Validated",
    Phase.COLLECTING: "Collected",
    Phase.ARCHIVING: "Archived",
    Phase.CLEANING: "Cleaned",
}

STORED_AFTER = frozenset({Phase.COLLECTING, Phase.ARCHIVING, Phase.CLEANING})
"""
Collecting: the names in the archive are claimed, so that a later run knows its own half-done work from a stranger's
file. Archiving: rule 4, the proof must be in the API server before the delete. Cleaning: it is over.
"""


@dataclass(frozen=True)
class Circumstances:
    """What a transition depends on besides the status and the outcome."""

    now: datetime
    generation: int
    retry: Retry
    random: backoff.Random


def resume_at(status: EnvelopeEventStatus) -> Phase:
    """Return the phase to work on: the first whose condition is not True."""
    return next(
        (phase for phase in LADDER if not is_true(status.conditions, CONDITION_OF[phase])), Phase.CLEANING
    )


def following(phase: Phase) -> Phase:
    """Return the phase after this one; ``Succeeded`` after the last."""
    place = LADDER.index(phase)
    return LADDER[place + 1] if place + 1 < len(LADDER) else Phase.SUCCEEDED


def after(
    status: EnvelopeEventStatus, phase: Phase, outcome: Outcome, at: Circumstances
) -> EnvelopeEventStatus:
    """Return the status after ``phase`` ended with ``outcome``."""
    outcome = dataclasses.replace(outcome, message=outcome.message[:LONGEST_MESSAGE])
    learned = _with_facts(status, outcome, at)
    match outcome:
        case Done():
            return _done(learned, phase, outcome, at)
        case Wait():
            return _wait(learned, phase, outcome, at)
        case Pause():
            # The deadline runs neither while it is too early nor while a person holds the event.
            paused = _standing(learned, phase, outcome, at, next_attempt_time=outcome.until)
            return msgspec.structs.replace(paused, phase_started_at=None)
        case Hold():
            held = _standing(learned, phase, outcome, at, next_attempt_time=None)
            return msgspec.structs.replace(held, phase_started_at=None)
        case NeedConsent():
            waiting = _standing(learned, Phase.AWAITING_CONSENT, outcome, at, next_attempt_time=None)
            return msgspec.structs.replace(
                _conditioned(waiting, "Authorized", outcome, "False", at), attempts=0, phase_started_at=None
            )
        case Skip():
            # Nothing that was reached counts any more: a new delivery begins at the beginning.
            return _final(_undone(learned, LADDER, outcome, at), Phase.SKIPPED, phase, outcome, at)
        case Fail():
            return _final(learned, Phase.FAILED, phase, outcome, at)


def _with_facts(status: EnvelopeEventStatus, outcome: Outcome, at: Circumstances) -> EnvelopeEventStatus:
    facts = outcome.facts
    conditions = status.conditions
    if (aside := facts.noticed) is not None:
        conditions = with_condition(
            conditions,
            aside.type,
            aside.status,
            reason=aside.reason,
            message=aside.message,
            now=at.now,
            generation=at.generation,
        )
    return msgspec.structs.replace(
        status,
        envelope=status.envelope if facts.envelope is None else facts.envelope,
        documents=status.documents if facts.documents is None else facts.documents,
        archive=status.archive if facts.archive is None else facts.archive,
        conditions=conditions,
    )


def _done(status: EnvelopeEventStatus, phase: Phase, outcome: Done, at: Circumstances) -> EnvelopeEventStatus:
    achieved = _conditioned(status, CONDITION_OF[phase], outcome, "True", at)
    upcoming = following(phase)
    if upcoming is Phase.SUCCEEDED:
        return _final(achieved, Phase.SUCCEEDED, phase, outcome, at)
    on_the_way = Done("InProgress", f"The event is {upcoming}.")
    moved = _conditioned(achieved, "Ready", on_the_way, "False", at)
    return msgspec.structs.replace(
        moved,
        phase=upcoming,
        reason=None,
        message=None,
        attempts=0,
        next_attempt_time=None,
        phase_started_at=at.now,
        started_at=status.started_at or at.now,
        observed_generation=at.generation,
    )


def _wait(status: EnvelopeEventStatus, phase: Phase, outcome: Wait, at: Circumstances) -> EnvelopeEventStatus:
    started = status.phase_started_at or at.now
    if backoff.is_over(started, at.retry, now=at.now):
        message = f"Given up in {phase} after {at.retry.deadline}. The last problem was {outcome.reason}: {outcome.message}"
        given_up = Fail("DeadlineExceeded", message[:LONGEST_MESSAGE])
        return _final(_troubled(status, outcome, at), Phase.FAILED, phase, given_up, at)
    attempts = status.attempts + 1
    due = backoff.next_attempt(
        attempts, at.retry, now=at.now, random=at.random, not_before=outcome.not_before
    )
    waiting = _standing(status, phase, outcome, at, next_attempt_time=due)
    if outcome.undoes is not None:
        # With all that came after it, or a proof of before would outlive what it proves.
        waiting = _undone(waiting, LADDER[LADDER.index(outcome.undoes) :], outcome, at)
    return msgspec.structs.replace(
        _troubled(waiting, outcome, at), attempts=attempts, phase_started_at=started
    )


def _troubled(status: EnvelopeEventStatus, outcome: Wait | Fail, at: Circumstances) -> EnvelopeEventStatus:
    error = LastError(reason=outcome.reason, message=outcome.message, time=at.now)
    return msgspec.structs.replace(status, last_error=error)


def _standing(
    status: EnvelopeEventStatus,
    phase: Phase,
    outcome: Wait | Pause | Hold | NeedConsent,
    at: Circumstances,
    *,
    next_attempt_time: datetime | None,
) -> EnvelopeEventStatus:
    return msgspec.structs.replace(
        _conditioned(status, "Ready", outcome, "False", at),
        phase=phase,
        reason=outcome.reason,
        message=outcome.message,
        next_attempt_time=next_attempt_time,
        started_at=status.started_at or at.now,
        observed_generation=at.generation,
    )


def _final(
    status: EnvelopeEventStatus, final: Phase, phase: Phase, outcome: Done | Skip | Fail, at: Circumstances
) -> EnvelopeEventStatus:
    settled = status
    if not isinstance(outcome, Done):
        settled = _conditioned(status, CONDITION_OF[phase], outcome, "False", at)
    if isinstance(outcome, Fail) and outcome.reason != "DeadlineExceeded":
        settled = _troubled(settled, outcome, at)
    ready = _conditioned(settled, "Ready", outcome, "True" if final is Phase.SUCCEEDED else "False", at)
    return msgspec.structs.replace(
        ready,
        phase=final,
        reason=outcome.reason,
        message=outcome.message,
        next_attempt_time=None,
        started_at=status.started_at or at.now,
        completed_at=at.now,
        observed_generation=at.generation,
    )


def recorded(status: EnvelopeEventStatus, outcome: Done, at: Circumstances) -> EnvelopeEventStatus:
    """Return the final status of an event that is only to be noted down."""
    return _final(status, Phase.SUCCEEDED, Phase.VALIDATING, outcome, at)


def authorized(status: EnvelopeEventStatus, sender: str, at: Circumstances) -> EnvelopeEventStatus:
    """Return the status with the ``Authorized`` condition True: this sender's key is at hand."""
    held = Done("KeyAccepted", f"The key of Sender/{sender} is accepted by eSignAnyWhere.")
    found = condition(status.conditions, "Authorized")
    if found is not None and found.status == "True" and found.message == held.message:
        return status
    return _conditioned(status, "Authorized", held, "True", at)


def unlisted(status: EnvelopeEventStatus, outcome: Fail, at: Circumstances) -> EnvelopeEventStatus:
    """Return the status without its list of files and without what that proves, so that a retry collects them anew."""
    undone = _undone(status, LADDER[LADDER.index(Phase.COLLECTING) :], outcome, at)
    return msgspec.structs.replace(undone, documents=())


def _undone(
    status: EnvelopeEventStatus, phases: Sequence[Phase], outcome: Skip | Wait | Fail, at: Circumstances
) -> EnvelopeEventStatus:
    undone = status
    for type_ in (CONDITION_OF[phase] for phase in phases):
        if is_true(status.conditions, type_):
            undone = _conditioned(undone, type_, outcome, "False", at)
    return undone


def _conditioned(
    status: EnvelopeEventStatus, type_: str, outcome: Outcome, truth: str, at: Circumstances
) -> EnvelopeEventStatus:
    conditions = with_condition(
        status.conditions,
        type_,
        "True" if truth == "True" else "False",
        reason=outcome.reason,
        message=outcome.message,
        now=at.now,
        generation=at.generation,
    )
    return msgspec.structs.replace(status, conditions=conditions)

"""
Re-opening: the status of a finished event that starts again, after a callback or a person's request.

Pure. A callback re-opens an event that is Skipped or Failed, or that only assumes that its envelope was
deleted; a callback from before its last attempt is only counted. So is one of an event that a person skipped,
unless its envelope may have changed since (``is_given_up``). One that comes while an archived event waits for
its delete makes the event due, if its envelope can still be restarted (``has_new_delivery``).

Claimed names and filed documents stay in the status, so that nothing is filed twice. An event whose documents
are archived continues after that step: its proof is the condition ``Archived``.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

from msgspec.structs import replace

from counterfoil.clock import CLOCK_DIFFERENCE, believed_time
from counterfoil.resources.conditions import find_condition, is_condition_true, with_condition, with_summary
from counterfoil.resources.envelopeevent import (
    ENVELOPE_NOT_FOUND,
    EVIDENCE_CONDITION,
    FINAL_PHASES,
    SHORT_LIST_REASONS,
    AttemptOutcome,
    EnvelopeEvent,
    EnvelopeEventStatus,
    Phase,
)
from counterfoil.resources.organization import CHANGEABLE_STATUSES, EnvelopeStatus

ARCHIVED_AND_KEPT = "ArchivedAndKept"
"""Reason of an event that succeeded while its envelope stays in eSAW, so that a retry can list its files."""

RECORDED = "Recorded"
"""Reason of an event that succeeded because its action was only recorded; it may be archived since."""

DELETION_ASSUMED = "DeletionAssumed"
"""Reason of an event that succeeded because eSAW does not show its envelope after a request to delete it. No
history that may be read confirms this, and a callback or a search may tell otherwise."""

CLEANUP_DELAYED = "CleanupDelayed"
"""Reason of an archived event whose envelope is deleted later, as ``spec.cleanup.after`` says."""

LATE_FILES_PENDING = "LateFilesPending"
"""Reason of an archived event whose envelope may still get further files."""

STILL_ACTIVE = "StillActive"
"""Reason of an event whose envelope eSAW has not finished yet."""

ENVELOPE_UNFINISHED = "EnvelopeUnfinished"
"""Reason of an event whose envelope was restarted, and not finished by eSAW for a long time since."""

REDELIVERED = "Redelivered"
"""Reason of an event that a callback re-opened, until its next run."""

UNFINISHED_REASONS = frozenset({STILL_ACTIVE, ENVELOPE_UNFINISHED})
"""Reasons of events that wait until eSAW has finished the envelope."""

DELETE_DELAYED_REASONS = frozenset({CLEANUP_DELAYED, LATE_FILES_PENDING})
"""Reasons of archived events that wait for the time of the delete."""

SKIPPED_BY_REQUEST = "SkippedByRequest"
"""Reason of an event that a person skipped."""

GIVEN_UP = "A person gave this event up. Only a person's retry starts it again."
"""Message of such an event whose envelope can't change any more."""

KEPT_FOR_SKIP = "A person skipped the event, so its envelope is not deleted from now on."
"""Sentence of an archived event that a person skips."""

SKIPPED_UNTIL_A_CHANGE = (
    "A person gave this event up before its envelope was known to be finished. If the envelope changes and "
    "eSignAnyWhere calls again, it is archived. It is deleted only after a person's retry."
)
"""Message of such an event whose envelope can still change."""

_WITHOUT_ENVELOPE = frozenset({ENVELOPE_NOT_FOUND, "EnvelopeDeleted"})
"""Reasons of attempts that failed because eSAW does not have the envelope, or shows it to no known key."""
ARCHIVED_AS_EXPIRED = "ArchivedAsExpired"
"""Reason of an event whose envelope was archived as Expired and stays in eSAW."""

_ENDED_WITHOUT_ENVELOPE = frozenset({"ArchivedAndDeleted", "ArchivedAlready"})
"""Reasons of ended events whose envelope eSAW does not have any more."""

_REASONS_THAT_SHOW_SKIP = frozenset({SKIPPED_BY_REQUEST, ARCHIVED_AND_KEPT, ARCHIVED_AS_EXPIRED, RECORDED})
"""Reasons of ended events whose message names the skip of before."""

PHASES_REOPENED_BY_CALLBACK = frozenset({Phase.SKIPPED, Phase.FAILED})
"""Phases in which a callback starts an event again, beside ``DELETION_ASSUMED``."""


class _AttemptStart(Protocol):
    @property
    def start_time(self) -> datetime:
        """When the attempt began."""

    @property
    def outcome(self) -> str:
        """Its outcome."""

    @property
    def reason(self) -> str:
        """Reason of the outcome."""


class EndedStatus(Protocol):
    """The part of a status that tells when an event ended, and when its last attempt began."""

    @property
    def reason(self) -> str | None:
        """Why it ended."""

    @property
    def completion_time(self) -> datetime | None:
        """When it ended."""

    @property
    def attempt_history(self) -> Sequence[_AttemptStart]:
        """Its attempts, oldest first."""


class _KnownEnvelope(Protocol):
    @property
    def status(self) -> str | None:
        """Status of the envelope."""

    @property
    def restarted_time(self) -> datetime | None:
        """When it was first seen Active after it had been Expired."""


class UnfinishedStatus(Protocol):
    """The part of a status that tells whether an event waits for the time of the delete."""

    @property
    def phase(self) -> str:
        """Phase of the event."""

    @property
    def reason(self) -> str | None:
        """Why it waits."""

    @property
    def envelope(self) -> _KnownEnvelope | None:
        """The envelope as it was archived."""


class KnownStatus(EndedStatus, UnfinishedStatus, Protocol):
    """The part of a status that tells whether a callback is more than one more delivery."""


def considered_time(status: EndedStatus) -> datetime | None:
    """
    Return up to when the end of an event considers callbacks; None: it has not ended.

    That is shortly before its last attempt began: a later callback may tell of a change that eSAW's answer in
    that attempt did not have. The times come from the clocks of two processes. A person's skip considers all,
    unless an attempt that a callback started ended as this skip again.
    """
    ended, attempts = status.completion_time, status.attempt_history
    if ended is None or not attempts:
        return ended
    if status.reason == SKIPPED_BY_REQUEST and attempts[-1].reason != SKIPPED_BY_REQUEST:
        return ended
    return min(ended, attempts[-1].start_time - CLOCK_DIFFERENCE)


def is_reopened_by_retry(status: EnvelopeEventStatus) -> bool:
    """Whether a person's retry starts the event again."""
    return status.phase is not Phase.SUCCEEDED or status.reason in (
        ARCHIVED_AND_KEPT,
        DELETION_ASSUMED,
        RECORDED,
    )


def remaining_delay(status: EnvelopeEventStatus) -> str:
    """Return what a retry of an archived event does not change, the time until its delete; empty for any
    other event."""
    if status.reason not in DELETE_DELAYED_REASONS or status.next_attempt_time is None:
        return ""
    until = status.next_attempt_time.astimezone(UTC)
    return (
        "A retry does not shorten the delay before the delete: the event waits until "
        f"{until:%Y-%m-%d %H:%M:%S} UTC at least."
    )


def takes_skip(status: EnvelopeEventStatus) -> bool:
    """
    Whether a person's skip does something: the event has not ended, or it is started again by a callback, a
    search or another event, so that the envelope may be deleted after all.
    """
    if status.phase not in (Phase.SUCCEEDED, Phase.SKIPPED):
        return True
    is_over = has_no_envelope(status) or status.is_skipped_by_person
    return is_reopened_by_retry(status) and not is_over


def has_no_envelope(status: EnvelopeEventStatus) -> bool:
    """Whether an event ended because eSAW does not have its envelope any more."""
    return status.phase.is_final and status.reason in _ENDED_WITHOUT_ENVELOPE


def keeps_result(status: EnvelopeEventStatus) -> bool:
    """Whether an ended event keeps its phase and reason at a person's skip: its files are archived, or it
    archives none, and only the delete of its envelope is ruled out."""
    return status.reason in (ARCHIVED_AND_KEPT, ARCHIVED_AS_EXPIRED, DELETION_ASSUMED, RECORDED)


def takes_back_skip(status: EnvelopeEventStatus) -> bool:
    """
    Whether a person's retry takes back a person's skip, so that the envelope may be deleted.

    Only of an event that has ended because of the skip, and shows it. A person who retries all that failed
    for one reason does not see that one of them was skipped before: it is archived, and its envelope is kept.
    """
    return status.is_skipped_by_person and status.reason in _REASONS_THAT_SHOW_SKIP


def is_given_up(status: KnownStatus) -> bool:
    """Whether a person skipped the event, and its envelope can't have changed since, so that only a person
    starts it again."""
    return status.reason == SKIPPED_BY_REQUEST and not may_change(status)


def may_change(status: KnownStatus) -> bool:
    """
    Whether the envelope of an event can get another status, as far as is known.

    If eSAW did not show it yet, it may be in any status. One that was deleted, or not found several times in
    a row, so that the last attempt failed, does not exist for us.
    """
    if status.envelope is not None:
        return status.envelope.status in CHANGEABLE_STATUSES
    return not is_never_shown(status) or status.attempt_history[-1].outcome != AttemptOutcome.FAIL


def is_never_shown(status: KnownStatus) -> bool:
    """Whether eSAW does not show the envelope, and never described it."""
    attempts = status.attempt_history
    return status.envelope is None and bool(attempts) and attempts[-1].reason in _WITHOUT_ENVELOPE


def is_open_to_callbacks(status: KnownStatus) -> bool:
    """Whether the event has ended, and a later callback starts it again."""
    if status.phase == Phase.SUCCEEDED:
        return status.reason == DELETION_ASSUMED
    return status.phase in PHASES_REOPENED_BY_CALLBACK and not is_given_up(status)


def is_started_by_callback(status: KnownStatus, *, received: datetime, now: datetime) -> bool:
    """
    Whether a callback received at ``received`` starts an ended event again.

    A time of its end far after ``now`` is not believed: the callback starts it.
    """
    considered = believed_time(considered_time(status), now)
    return is_open_to_callbacks(status) and (considered is None or received > considered)


def may_be_restarted(status: UnfinishedStatus) -> bool:
    """Whether the event waits for the time of the delete, and its envelope can still be restarted and signed.
    A callback may tell of that."""
    envelope = status.envelope
    is_delayed = status.phase == Phase.CLEANING and status.reason in DELETE_DELAYED_REASONS
    return is_delayed and envelope is not None and envelope.status in CHANGEABLE_STATUSES


def must_be_stored(status: KnownStatus, *, received: datetime, now: datetime) -> bool:
    """
    Whether a callback received at ``received`` is stored before it is answered: it re-opens the event, or may
    tell that an expired envelope was restarted, or that a restarted one was signed.

    An attempt that has asked eSAW already may begin the wait for the delete after the callback, or end the
    event of a restarted envelope.
    """
    envelope = status.envelope
    if status.phase in FINAL_PHASES or envelope is None:
        return is_started_by_callback(status, received=received, now=now)
    return envelope.status == EnvelopeStatus.EXPIRED or envelope.restarted_time is not None


def has_new_delivery(event: EnvelopeEvent) -> bool:
    """
    Whether a callback came since eSAW was last asked for the envelope of an event that waits for the time of
    the delete, or for the end of a restarted envelope. Counters decide, not clocks.

    A status of an earlier version does not tell which callbacks were considered: eSAW is asked once.
    """
    considered = event.status.considered_deliveries
    is_watched = may_be_restarted(event.status) or is_restarted(event.status)
    return is_watched and (considered is None or event.deliveries > considered)


def is_restarted(status: EnvelopeEventStatus) -> bool:
    """Whether the event waits for the end of an envelope that was restarted."""
    is_unfinished = status.phase is Phase.VALIDATING and status.reason in UNFINISHED_REASONS
    return is_unfinished and status.envelope is not None and status.envelope.restarted_time is not None


def with_short_list(status: EnvelopeEventStatus, *, now: datetime) -> EnvelopeEventStatus:
    """
    Return the status with the condition that a list of the files was short, which a status of an earlier
    version lacks: what eSAW lists after the missing files may come late, too.

    Only the controller sets it. Of an event that a receiver re-opened, the last error tells.
    """
    reason, message, last = status.cause, status.message, status.last_error
    if status.phase is Phase.PENDING and last is not None:
        reason, message = last.reason, last.message
    is_known = find_condition(status.conditions, EVIDENCE_CONDITION) is not None
    if is_known or reason not in SHORT_LIST_REASONS:
        return status
    generation = status.observed_generation or 0
    conditions = with_condition(
        status.conditions,
        EVIDENCE_CONDITION,
        "Unknown",
        reason,
        message or "A list of the files was short.",
        now=now,
        generation=generation,
    )
    return replace(status, conditions=conditions)


def reopened_status(
    status: EnvelopeEventStatus, *, reason: str, message: str, now: datetime
) -> EnvelopeEventStatus:
    """Return the status of an event that the controller re-opens (``status_for_first_attempt``), which keeps
    that a list of the files was short (``with_short_list``)."""
    short = with_short_list(status, now=now)
    return status_for_first_attempt(short, reason=reason, message=message, now=now)


def status_for_first_attempt(
    status: EnvelopeEventStatus, *, reason: str, message: str, now: datetime
) -> EnvelopeEventStatus:
    """
    Return the status of an event that waits for its first attempt, with this ``reason`` and ``message``.

    Attempts, deadlines and mismatches are reset, and the notice of the earlier final state is void.
    Conditions other than the summary and ``EvidenceComplete`` are removed unless ``Archived`` or ``Cleaned``
    is True. The admission policy accepts this from a receiver.
    """
    filed = any(is_condition_true(status.conditions, each) for each in ("Archived", "Cleaned"))
    always = ("Ready", "Stalled", EVIDENCE_CONDITION)
    kept = tuple(each for each in status.conditions if filed or each.type in always)
    ready = find_condition(status.conditions, "Ready")
    if ready is not None:
        generation = ready.observed_generation
        kept = with_summary(kept, "False", reason, message, is_stalled=False, now=now, generation=generation)
    return replace(
        status,
        phase=Phase.PENDING,
        reason=reason,
        message=message,
        conditions=kept,
        attempts=0,
        next_attempt_time=None,
        phase_start_time=None,
        completion_time=None,
        mismatches=0,
        notice=None,
    )

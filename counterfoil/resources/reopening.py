"""
Re-opening: the status of a finished event that starts again, after a callback or a person's request.

Pure. ``ENDS`` has what starts an ended event again, and what a person's skip of it changes. A callback from
before the last attempt is only counted. One that comes while an archived event waits for its delete makes the
event due, if its envelope can still be restarted (``has_new_delivery``).

Claimed names and filed documents stay in the status, so that nothing is filed twice. An event whose documents
are archived continues after that step: its proof is the condition ``Archived``.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Final, Protocol

from msgspec import Struct
from msgspec.structs import replace

from counterfoil.clock import CLOCK_DIFFERENCE, believed_time
from counterfoil.resources.base import LISTED_AFTER_LABEL
from counterfoil.resources.conditions import (
    ConditionStatus,
    find_condition,
    is_condition_true,
    with_changes,
    with_condition,
    with_summary,
)
from counterfoil.resources.envelopeevent import (
    ARCHIVED_PHASES,
    COPIES_PENDING,
    COPY_GIVEN_UP,
    COPY_MISSING,
    ENVELOPE_NOT_FOUND,
    EVIDENCE_CONDITION,
    FINAL_PHASES,
    MAX_NOT_SHOWN_TO,
    MISSING_COPY_REASONS,
    NOT_PERMITTED,
    OPTIONAL_COPY_MISSING,
    RESTART_CONDITION,
    SHORT_LIST_REASONS,
    AttemptOutcome,
    EnvelopeEvent,
    EnvelopeEventStatus,
    EventCopy,
    Phase,
)
from counterfoil.resources.organization import (
    CHANGEABLE_STATUSES,
    CleanupPolicy,
    EnvelopeStatus,
    OrganizationSpec,
)
from counterfoil.resources.routes import (
    CopiedSpec,
    has_manifest,
    is_copying_done,
    listed_copies,
    open_copies,
    shown_copies,
    stored_copy,
    unverified_copies,
    used_copies,
)

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

COPY_REQUESTED: Final = "CopyRequested"
"""Reason of an event whose copies a person asked for, until its next run."""

REDELIVERED = "Redelivered"
"""Reason of an event that a callback re-opened, until its next run."""

UNFINISHED_REASONS = frozenset({STILL_ACTIVE, ENVELOPE_UNFINISHED})
"""Reasons of events that wait until eSAW has finished the envelope."""

COPY_SUSPENDED: Final = "CopySuspended"
"""Reason of an archived event whose delete a suspended Archive of a required copy holds."""

DELETE_DELAYED_REASONS = frozenset({CLEANUP_DELAYED, LATE_FILES_PENDING})
"""Reasons of archived events that wait for the time of the delete."""

DELETE_WAITS = DELETE_DELAYED_REASONS | {COPY_SUSPENDED}
"""Reasons of archived events whose delete waits."""

RETRY_REQUESTED = "RetryRequested"
"""Reason of an event that a person asked to try again, until its next attempt has ended."""

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


_KEPT_ENDS: Final[Mapping[Phase, ConditionStatus]] = {
    Phase.SUCCEEDED: "True",
    Phase.FAILED: "False",
    Phase.SKIPPED: "Unknown",
}
"""The status of the condition ``Cleaned`` that keeps the end of an event while it makes further copies."""


class SearchStart(Enum):
    """Whether a sweep or an Import that lists the envelope starts an ended event again."""

    NEVER = auto()
    IF_CHANGED = auto()
    """If eSAW lists the envelope with another status than the event knows. One that failed must know a status
    that can change: each other cause needs a correction, not a search."""
    WITH_OTHER_KEY = auto()
    """If the envelope can be read with a key that the event was not tried with."""
    ALWAYS = auto()


class End(Struct, frozen=True, kw_only=True):
    """Causes that start an event again that has ended so, and the effect of a person's skip of it."""

    callback: bool
    """Whether a later callback starts it."""
    search: SearchStart
    retry: bool
    """Whether a person's retry starts it."""
    has_envelope: bool
    """Whether eSAW may still have its envelope. Else a skip changes nothing."""
    keeps_result: bool = False
    """Whether it keeps phase and reason at a skip: its files are archived, or it archives none, and only the
    delete of its envelope is ruled out. Its message names the skip, also after a further run."""


_SETTLED = End(callback=True, search=SearchStart.IF_CHANGED, retry=True, has_envelope=True)
_WITHOUT_KEY = replace(_SETTLED, search=SearchStart.WITH_OTHER_KEY)
_SKIPPED = replace(_SETTLED, search=SearchStart.ALWAYS)
_GIVEN_UP = replace(_SETTLED, callback=False, search=SearchStart.NEVER)
_SUCCEEDED = replace(_GIVEN_UP, retry=False)

ENDS: Final[Mapping[tuple[str, str], End]] = {
    (Phase.SUCCEEDED, "ArchivedAndDeleted"): replace(_SUCCEEDED, has_envelope=False),
    (Phase.SUCCEEDED, ARCHIVED_AND_KEPT): replace(_GIVEN_UP, keeps_result=True),
    # Searches list envelopes for actions that are archived; this one may have been recorded before that.
    (Phase.SUCCEEDED, RECORDED): replace(_GIVEN_UP, search=SearchStart.ALWAYS, keeps_result=True),
    # An envelope that eSAW lists, or calls about, was not deleted.
    (Phase.SUCCEEDED, DELETION_ASSUMED): replace(_SKIPPED, keeps_result=True),
    (Phase.SKIPPED, "UnexpectedStatus"): _SKIPPED,
    (Phase.SKIPPED, "EnvelopeRestarted"): _SKIPPED,
    (Phase.SKIPPED, "NoFinishedDocuments"): _SETTLED,
    (Phase.SKIPPED, ARCHIVED_AS_EXPIRED): replace(_SETTLED, keeps_result=True),
    (Phase.SKIPPED, "ArchivedAlready"): replace(_SKIPPED, has_envelope=False),
    (Phase.FAILED, "SenderUnknown"): _WITHOUT_KEY,
    (Phase.FAILED, ENVELOPE_NOT_FOUND): _WITHOUT_KEY,
    (Phase.FAILED, NOT_PERMITTED): _WITHOUT_KEY,
}
"""The ends by phase and reason. ``end_of`` has those of a skip, of other failures and of other versions."""


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


def end_of(status: KnownStatus) -> End:
    """
    Return what starts an event with this final status again.

    A person's skip is the end of an event whose envelope can't change any more: only a person starts it.
    """
    if status.phase == Phase.SKIPPED and status.reason == SKIPPED_BY_REQUEST:
        return _SETTLED if may_change(status) else _GIVEN_UP
    others: Mapping[str, End] = {Phase.SUCCEEDED: _SUCCEEDED, Phase.SKIPPED: _SKIPPED}
    return ENDS.get((status.phase, status.reason or ""), others.get(status.phase, _SETTLED))


def is_started_by_search(status: EnvelopeEventStatus, found: EnvelopeStatus) -> bool:
    """
    Whether a sweep or an Import that lists the envelope with the status ``found`` starts the event again,
    with any key: it ended without an archive and may end otherwise now, or may have to archive the envelope
    again.

    Not after a person's skip, if eSAW never showed the envelope: nothing tells that it changed since. Nor if
    the event failed after the skip. An event that makes further copies starts by its kept end.
    """
    if _is_skipped_unseen(status):
        return False
    status = with_kept_end(status)
    is_other = status.envelope is None or status.envelope.status != found
    if status.phase is Phase.FAILED:
        return _awaits_change(status) and is_other
    if not status.phase.is_final:
        return may_be_restarted(status) and is_other
    search = _search_of(status)
    return search is SearchStart.ALWAYS or (search is SearchStart.IF_CHANGED and is_other)


def is_started_by_change(event: EnvelopeEvent) -> bool:
    """Whether a search starts an event that failed, if it lists its envelope with another status: once for
    each status that the event knows."""
    status = with_kept_end(event.status)
    if status.envelope is None or not _awaits_change(status):
        return False
    return event.metadata.labels.get(LISTED_AFTER_LABEL) != status.envelope.status


def _awaits_change(status: EnvelopeEventStatus) -> bool:
    if status.envelope is None or status.envelope.status not in CHANGEABLE_STATUSES:
        return False
    is_failed = status.phase is Phase.FAILED and not status.is_skipped_by_person
    return is_failed and _search_of(status) is SearchStart.IF_CHANGED


def is_started_by_other_key(status: EnvelopeEventStatus) -> bool:
    """
    Whether a search that lists the envelope starts the event if a key can read it that was not tried: eSAW
    did not show it to the keys of before, or refused it, or the event waits for a key and eSAW never showed
    the envelope.

    With as many keys as a status has room for, no search tries more.
    """
    if _is_skipped_unseen(status) or len(status.not_shown_to) >= MAX_NOT_SHOWN_TO:
        return False
    status = with_kept_end(status)
    if status.phase is Phase.FAILED and status.reason == NOT_PERMITTED:
        return is_refused_to_key(status)
    if status.phase is Phase.AWAITING_CONSENT:
        return status.envelope is None
    return status.phase.is_final and _search_of(status) is SearchStart.WITH_OTHER_KEY


def is_refused_to_key(status: EnvelopeEventStatus) -> bool:
    """Whether eSAW refused the envelope to the keys that were asked, so that another key may read it. Not if
    it refused an operation to the key to which it showed the envelope."""
    is_about_key = status.envelope is None or any(each.refused for each in status.not_shown_to)
    return status.cause == NOT_PERMITTED and is_about_key


def _is_skipped_unseen(status: EnvelopeEventStatus) -> bool:
    return status.is_skipped_by_person and status.envelope is None


def _search_of(status: EnvelopeEventStatus) -> SearchStart:
    # After ``DeadlineExceeded``, the cause decides.
    return ENDS.get((status.phase, status.cause), end_of(status)).search


def is_reopened_by_retry(status: EnvelopeEventStatus) -> bool:
    """Whether a person's retry starts the event again."""
    kept = with_kept_end(status)
    return not kept.phase.is_final or end_of(kept).retry


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
    kept = with_kept_end(status)
    if kept.phase not in (Phase.SUCCEEDED, Phase.SKIPPED):
        return True
    end = end_of(kept)
    return end.retry and end.has_envelope and not kept.is_skipped_by_person


def takes_back_skip(status: EnvelopeEventStatus) -> bool:
    """
    Whether a person's retry takes back a person's skip, so that the envelope may be deleted.

    Only of an event that has ended because of the skip, and shows it. A person who retries all that failed
    for one reason does not see that one of them was skipped before: it is archived, and its envelope is kept.
    So is one that makes its copies meanwhile, since it shows those.
    """
    shows_skip = status.reason == SKIPPED_BY_REQUEST or end_of(status).keeps_result
    return status.phase.is_final and status.is_skipped_by_person and shows_skip


def with_kept_end(status: EnvelopeEventStatus) -> EnvelopeEventStatus:
    """
    Return the status that an event had when it ended, if it makes further copies now; else the status.

    Its copies are then missing, and nothing waits for them.
    """
    cleaned = find_condition(status.conditions, "Cleaned")
    if not copies_after_end(status) or cleaned is None:
        return status
    reason = reason_without_copies(status)
    conditions = with_changes(status.conditions, "Copied", status="False", reason=reason)
    return replace(
        status,
        phase=next(phase for phase, truth in _KEPT_ENDS.items() if truth == cleaned.status),
        reason=cleaned.reason,
        message=cleaned.message,
        conditions=conditions,
    )


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
    return status.phase in FINAL_PHASES and end_of(status).callback


def is_started_by_callback(status: KnownStatus, *, received: datetime, now: datetime) -> bool:
    """
    Whether a callback received at ``received`` starts an ended event again.

    A time of its end far after ``now`` is not believed: the callback starts it.
    """
    considered = believed_time(considered_time(status), now)
    return is_open_to_callbacks(status) and (considered is None or received > considered)


def may_be_restarted(status: KnownStatus) -> bool:
    """Whether the event waits for its copies or for the time of the delete, and its envelope can still be
    restarted and signed. A callback may tell of that."""
    # First what is rare: each event of the queue is asked.
    if status.envelope is None or status.envelope.status not in CHANGEABLE_STATUSES:
        return False
    is_delayed = status.phase == Phase.CLEANING and status.reason in DELETE_WAITS
    return is_delayed or (status.phase == Phase.COPYING and status.completion_time is None)


def is_question_unanswered(status: EnvelopeEventStatus) -> bool:
    """Whether eSAW was asked last without an answer if the envelope of an event was restarted and signed."""
    return find_condition(status.conditions, RESTART_CONDITION) is not None


def can_not_copy(status: EnvelopeEventStatus) -> bool:
    """Whether a copy of an unfinished event can't be made before a person acts, or not in time. The event
    would have failed, but eSAW has not answered yet whether its envelope was restarted."""
    if status.phase is not Phase.COPYING or status.completion_time is not None:
        return False
    last = status.attempt_history[-1:]
    return any(each.outcome is AttemptOutcome.FAIL and each.reason == status.reason for each in last)


def must_be_stored(status: KnownStatus, *, received: datetime, now: datetime) -> bool:
    """
    Whether a callback received at ``received`` is stored before it is answered: it re-opens the event, or may
    tell that an expired envelope was restarted, or that a restarted one was signed.

    An attempt that has asked eSAW already may begin the wait for the delete after the callback, or end the
    event of a restarted envelope. An event that makes further copies ends as before, perhaps as one that a
    callback re-opens.
    """
    envelope = status.envelope
    if status.phase == Phase.COPYING and status.completion_time is not None:
        return True
    if status.phase in FINAL_PHASES or envelope is None:
        return is_started_by_callback(status, received=received, now=now)
    return envelope.status == EnvelopeStatus.EXPIRED or envelope.restarted_time is not None


def has_new_delivery(event: EnvelopeEvent) -> bool:
    """
    Whether a callback came since eSAW was last asked for the envelope of an event that waits for its copies,
    for the time of the delete, or for the end of a restarted envelope. Counters decide, not clocks.

    A status of an earlier version does not tell which callbacks were considered: eSAW is asked once.
    """
    considered = event.status.considered_deliveries
    if considered is not None and event.deliveries <= considered:
        return False
    return may_be_restarted(event.status) or is_restarted(event.status)


def is_called_after_end(status: EnvelopeEventStatus, *, now: datetime) -> bool:
    """
    Whether a callback came that re-opens an event which had ended and makes further copies.

    Counters decide, not clocks. A callback from before the end may be counted later: its time tells.
    """
    called = status.last_delivery_time
    if not copies_after_end(status) or called is None:
        return False
    is_counted = (status.deliveries or 0) > (status.considered_deliveries or 0)
    return is_counted and is_started_by_callback(with_kept_end(status), received=called, now=now)


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
    """
    Return the status of an event that the controller re-opens (``status_for_first_attempt``), which keeps
    that a list of the files was short (``with_short_list``).

    Each missing copy is tried at once.
    """
    short = replace(with_short_list(status, now=now), copies=_due_copies(status))
    return status_for_first_attempt(short, reason=reason, message=message, now=now)


def _due_copies(status: EnvelopeEventStatus) -> tuple[EventCopy, ...]:
    return tuple(
        replace(each, attempts=0, last_attempt_time=None, next_attempt_time=None) for each in status.copies
    )


def status_for_copying(
    status: EnvelopeEventStatus, *, reason: str, message: str, now: datetime
) -> EnvelopeEventStatus:
    """
    Return the status of an archived event that makes its copies now, with this ``reason`` and ``message``.

    All other results stay, so that an event which had ended does so again as before (``copies_after_end``).
    Each copy is tried at once. A copy that is proved stays so: ``proof`` decides whether its files are still
    those of the event. ``Copied`` keeps the reason while the event waits (``are_copies_requested``). The
    callbacks until an end are considered: only a later one can start the event again.
    """
    conditions, generation = status.conditions, status.observed_generation or 0
    considered = status.considered_deliveries
    if status.phase.is_final:
        considered = status.deliveries or 0
        # The end is kept here, also what a person's skip added to its message.
        conditions = with_condition(
            conditions,
            "Cleaned",
            _KEPT_ENDS[status.phase],
            status.reason or "",
            status.message or "",
            now=now,
            generation=generation,
        )
    conditions = with_condition(
        conditions, "Copied", "Unknown", reason, message, now=now, generation=generation
    )
    conditions = with_summary(
        conditions, "False", reason, message, is_stalled=False, now=now, generation=generation
    )
    return replace(
        status,
        phase=Phase.COPYING,
        reason=reason,
        message=message,
        conditions=conditions,
        copies=_due_copies(status),
        considered_deliveries=considered,
        attempts=0,
        # The late list of an ended event stays planned: its copies are due at once, and end in one run.
        next_attempt_time=status.next_attempt_time if has_ended(status) else None,
        phase_start_time=None,
    )


def are_copies_requested(status: EnvelopeEventStatus) -> bool:
    """Whether an Import or a person asked for the copies that an event makes now, also before a try of
    them."""
    copied = find_condition(status.conditions, "Copied")
    is_noted = copied is not None and copied.status == "Unknown" and copied.reason == COPY_REQUESTED
    return status.phase is Phase.COPYING and (is_noted or status.reason == COPY_REQUESTED)


def reason_without_copies(status: EnvelopeEventStatus) -> str:
    """
    Return the reason of ``Copied`` if an event in the phase Copying ends it without a copy for which nothing
    waits.

    It tells later whether somebody had asked for the copies. Those of a skipped event are made for no other
    cause.
    """
    cleaned = find_condition(status.conditions, "Cleaned")
    is_skipped = cleaned is not None and cleaned.status == _KEPT_ENDS[Phase.SKIPPED]
    is_asked_for = are_copies_requested(status) or (copies_after_end(status) and is_skipped)
    return COPY_MISSING if is_asked_for else OPTIONAL_COPY_MISSING


def copies_after_end(status: EnvelopeEventStatus) -> bool:
    """
    Whether an event that had ended makes further copies. One run ends it as before: nothing about its
    envelope, its notice or its end depends on them.
    """
    return status.phase is Phase.COPYING and status.completion_time is not None


def has_ended(status: EnvelopeEventStatus) -> bool:
    """Whether an event has ended, also while it makes further copies. Those need no key, and are no action
    of the event."""
    return status.phase.is_final or copies_after_end(status)


def status_for_copy_retry(status: EnvelopeEventStatus, *, now: datetime) -> EnvelopeEventStatus:
    """Return the status of an archived event that tries its missing copies again. Their attempts stay
    counted, so that they are given up in the end. What was asked for stays so."""
    copied = find_condition(status.conditions, "Copied")
    is_asked_for = copied is not None and copied.reason == COPY_MISSING and status.phase is not Phase.SKIPPED
    reason, message = (
        COPY_REQUESTED if is_asked_for else COPIES_PENDING,
        "A copy is missing. It is tried again.",
    )
    again = status_for_copying(status, reason=reason, message=message, now=now)
    return replace(again, copies=status.copies)


def takes_copies(status: EnvelopeEventStatus) -> bool:
    """
    Whether a person can ask for the copies of an event: its envelope is archived, and its event has ended,
    makes its copies, or waits for the delete.

    One that failed because of a required copy is retried: its end would not be true any more. So is one
    that failed, or was skipped, while its envelope could be restarted: copies consider its callbacks, which
    may show that eSAW had the envelope after it was last seen.
    """
    if not _has_archived(status):
        return False
    if status.phase is Phase.SUCCEEDED:
        return is_condition_true(status.conditions, "Cleaned")
    is_changeable = status.envelope is not None and status.envelope.status in CHANGEABLE_STATUSES
    if status.phase.is_final and is_changeable:
        return False
    if status.phase is Phase.FAILED:
        return is_copying_done(status)
    return status.phase is Phase.SKIPPED or status.phase in ARCHIVED_PHASES


def _has_archived(status: EnvelopeEventStatus) -> bool:
    results = ("Validated", "Collected", "Archived")
    return status.archive is not None and all(is_condition_true(status.conditions, each) for each in results)


def why_no_copies(status: EnvelopeEventStatus) -> str:
    """Return for a person why the copies of an event can't be asked for (``takes_copies``)."""
    # A skip of an Expired envelope takes back the conditions, not the archive.
    is_archived = _has_archived(status) or has_manifest(status)
    if status.phase is Phase.SKIPPED and is_archived and takes_back_skip(status):
        return (
            "A person skipped the event, and its envelope may be restarted, so no copy is made. A "
            "retry takes the skip back. It makes the copies, and deletes the envelope unless "
            "spec.cleanup keeps it."
        )
    if status.phase.is_final and is_archived:
        return f"The event is {status.phase}. Retry it: that makes its copies."
    if status.phase is Phase.FAILED:
        return f"The event is {status.phase}. Retry it: its copies are made after its envelope is archived."
    if status.phase.is_final:
        return f"The event archived nothing, it is {status.phase}. So there is nothing to copy."
    if status.phase is Phase.AWAITING_CONSENT:
        message = "The event waits for the key of its sender. Its copies are made once that works."
        if takes_copies(replace(status, phase=Phase.SKIPPED)):
            message += " If nobody confirms it any more, skip the event, and ask for its copies then."
        return message
    if is_condition_true(status.conditions, "Archived"):
        return f"The event is {status.phase}. Ask for its copies again after its next attempt."
    return "The envelope is not archived yet. Its copies are made after that."


def explained_copies(status: EnvelopeEventStatus, spec: CopiedSpec | None) -> tuple[EventCopy, ...]:
    """Return the copies that a person is shown, of an archived event also those that its status does not
    name. None: the Organization is not known."""
    if spec is None or not _has_archived(status):
        return shown_copies(status, spec)
    return listed_copies(status, spec)


def lacks_copies(status: EnvelopeEventStatus, spec: CopiedSpec) -> bool:
    """
    Whether a person's request for the copies of an event does something, as far as a client can tell.

    By the stored times only. The controller decides what is proved, and answers that nothing is left to do.
    """
    return takes_copies(status) and bool(unverified_copies(status, spec))


def awaited_copies(status: EnvelopeEventStatus, spec: OrganizationSpec) -> tuple[str, ...]:
    """Return the Archives of the required copies that an event waits for: those that are not made, and each
    one once its delete is due, which reads them again."""
    is_deleted = status.phase is Phase.CLEANING and spec.cleanup.policy is CleanupPolicy.DELETE
    is_due = is_deleted and status.reason not in DELETE_WAITS
    return used_copies(status, spec) if is_due else open_copies(status, spec)


def retries_copies(status: EnvelopeEventStatus) -> bool:
    """
    Whether an event lacks a copy for which nothing waits, and no run tries it: the event has ended, or waits
    for the time of its delete, or for another copy before that.

    After a person's skip, only what was asked for is tried, or what had been tried of an event that failed.
    """
    is_delayed = status.phase is Phase.CLEANING and status.reason in DELETE_WAITS
    copied = find_condition(status.conditions, "Copied")
    if not (is_delayed or status.phase.is_final) or copied is None or copied.status != "False":
        return False
    if status.phase is Phase.SKIPPED:
        return copied.reason in (COPY_MISSING, COPY_GIVEN_UP) and takes_copies(status)
    if status.phase is Phase.FAILED and not takes_copies(status):
        return False
    return copied.reason in MISSING_COPY_REASONS


def copies_to_retry(status: EnvelopeEventStatus, spec: OrganizationSpec) -> tuple[str, ...]:
    """Return the Archives of the missing copies for which nothing waits, and that are tried again, perhaps
    not before a person ends a suspension. By the stored times only."""
    if not retries_copies(status):
        return ()
    missing, retry = unverified_copies(status, spec), spec.retry
    return tuple(each for each in missing if not retry.are_tries_spent(stored_copy(status, each).attempts))


def given_up_copies(status: EnvelopeEventStatus, spec: OrganizationSpec) -> tuple[str, ...]:
    """Return the Archives of the missing copies that are not tried any more before a person acts."""
    if _awaits_retry(status):
        return copies_with_reason(status, spec)
    if not retries_copies(status):
        return ()
    retried = copies_to_retry(status, spec)
    return tuple(each for each in unverified_copies(status, spec) if each not in retried)


def has_given_up_copy(status: EnvelopeEventStatus, spec: OrganizationSpec | None) -> bool:
    """Whether a missing copy is not tried any more before a person acts; ``spec`` is None if the Organization
    could not be read."""
    if spec is not None:
        return bool(given_up_copies(status, spec))
    copied = find_condition(status.conditions, "Copied")
    return copied is not None and copied.reason == COPY_GIVEN_UP


def copies_with_reason(status: EnvelopeEventStatus, spec: CopiedSpec) -> tuple[str, ...]:
    """Return the Archives of the missing copies of which the status says why: they failed, or were held."""
    missing = unverified_copies(status, spec)
    return tuple(each for each in missing if stored_copy(status, each).reason is not None)


def _awaits_retry(status: EnvelopeEventStatus) -> bool:
    """Whether an event ended as ``ArchivedAsExpired`` without a copy, which only a retry makes."""
    if status.phase is not Phase.SKIPPED or status.reason != ARCHIVED_AS_EXPIRED:
        return False
    copied = find_condition(status.conditions, "Copied")
    return copied is not None and copied.reason == COPY_GIVEN_UP and not status.is_skipped_by_person


def unplanned_copies(status: EnvelopeEventStatus, spec: OrganizationSpec) -> tuple[str, ...]:
    """Return the Archives of the missing copies of an event that has ended, or waits for its delete, which
    nothing tries before that changes. By the stored times only."""
    is_cleaned = status.phase is Phase.CLEANING
    if not (status.phase.is_final or is_cleaned):
        return ()
    planned = {*copies_to_retry(status, spec)}
    if is_cleaned:
        planned |= {each.ref.name for each in status.copies if each.next_attempt_time is not None}
    if is_cleaned and spec.cleanup.policy is CleanupPolicy.DELETE:
        # The delete lets them be made first.
        planned |= {*used_copies(status, spec)}
    return tuple(each for each in unverified_copies(status, spec) if each not in planned)


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

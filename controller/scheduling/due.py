"""
The due time of an unfinished event, as a pure function of the event and the cached objects.

Level-triggered: only spec and status count, never the change. So each solution of a problem (a new key, a
fixed Archive, an Organization that is no longer suspended) makes all waiting events due without further
action.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from controller.cache import Cache
from controller.file_list_ceiling import CEILING_PAUSE, FILE_LIST_CEILING
from controller.scheduling.retry_policy import longest_backoff
from counterfoil.clock import believed_time
from counterfoil.esaw.evidence import may_list_more
from counterfoil.resources import (
    REQUEST_LABEL,
    SENDER_LABEL,
    ActionHandling,
    CleanupPolicy,
    EnvelopeEvent,
    EnvelopeEventStatus,
    Organization,
    OrganizationSpec,
    Phase,
    RetrySpec,
    find_condition,
    is_condition_true,
)
from counterfoil.resources.conditions import transition_time
from counterfoil.resources.reopening import (
    CLEANUP_DELAYED,
    COPY_SUSPENDED,
    copies_after_end,
    has_ended,
    has_new_delivery,
    is_question_unanswered,
    may_be_restarted,
)
from counterfoil.resources.routes import open_copies, used_copies
from counterfoil.retention import last_question, question_time

EPOCH = datetime.fromtimestamp(0, UTC)

SUSPENDED_REASONS = frozenset({"Suspended", "OrganizationSuspended", "SenderSuspended", "ArchiveSuspended"})
"""Reasons of suspended events: they wait only for the end of the suspension."""

ACTION_NOT_CONFIGURED = "ActionNotConfigured"
"""Reason of an event that waits until its Organization lists its action, with handling Archive if the event
had begun."""

ARCHIVE_NOT_PROBED = "ArchiveNotProbed"
ARCHIVE_PROBE_OVERDUE = "ArchiveProbeOverdue"
"""Reason of an event that waits until a probe has stored the root of its Archive."""

ARCHIVE_REPLACED: Final = "ArchiveReplaced"
"""Reason of an event whose Archive is another one of this name by now, and may not get the documents."""

WAITING_FOR_ARCHIVE = "WaitingForArchive"
"""Reason of an event that is due, and whose Archive has no room for it."""

FIRST_PROBE_PAUSE = timedelta(minutes=1)
"""Longest pause of such an event. The probe's result makes it due at once."""

SUSPENDED_COPY_PAUSE = timedelta(days=1)
"""Longest pause of an event whose delete a suspended Archive of a required copy holds. The end of the
suspension makes it due at once."""


_PAUSES = {
    ARCHIVE_NOT_PROBED: FIRST_PROBE_PAUSE,
    FILE_LIST_CEILING: CEILING_PAUSE,
    COPY_SUSPENDED: SUSPENDED_COPY_PAUSE,
}
"""Longest pause of an event with one of these reasons."""


def due_time(event: EnvelopeEvent, cache: Cache, now: datetime) -> datetime | None:
    """
    Return when the event is due; in the past: now; None: not before an object changes.

    A next attempt time beyond what the settings allow is not believed: the event is due.
    """
    status = event.status
    if status.phase.is_final or has_request(event):
        return None
    # Without its Organization the event runs: the preconditions then report that it is missing.
    owner = cache.organizations.get(event.organization)
    if status.reason == ACTION_NOT_CONFIGURED and owner is not None and is_held_by_action(event, owner.spec):
        return None
    if is_suspended(event, cache):
        # One run, so that the status shows the suspension; then none until it ends, except to ask eSAW.
        question = _question_time(event, cache, now)
        has_answer = status.reason == ARCHIVE_REPLACED and question is not None
        return question if status.reason in SUSPENDED_REASONS or has_answer else EPOCH
    is_question_planned = _is_question_planned(event, cache)
    is_held_no_longer = status.reason in SUSPENDED_REASONS and not is_question_planned
    if is_held_no_longer or status.reason == ACTION_NOT_CONFIGURED:
        return EPOCH
    if status.phase is Phase.AWAITING_CONSENT:
        return EPOCH if _key_works(event, cache) else None
    if has_new_delivery(event) and not is_question_planned:
        return EPOCH
    # The time of an event that makes copies after its end is that of its late list.
    if cache.events.file_lists.may_continue(event) or copies_after_end(status):
        return EPOCH
    if owner is not None and _lacks_last_question(event, owner.spec, now):
        return EPOCH
    if (
        status.reason == COPY_SUSPENDED
        and owner is not None
        and not _is_copy_suspended(event, owner.spec, cache)
    ):
        return EPOCH
    longest = longest_pause(event, owner)
    planned = believed_time(status.next_attempt_time, now, ahead=longest)
    return planned or event.metadata.creation_timestamp or EPOCH


def longest_pause(event: EnvelopeEvent, organization: Organization | None) -> timedelta:
    """Return the longest pause that the settings allow for an event in this state."""
    if organization is None:
        return longest_backoff(RetrySpec())
    spec: OrganizationSpec = organization.spec
    reason = event.status.reason or ""
    delay = spec.cleanup.after if reason == CLEANUP_DELAYED else _PAUSES.get(reason, timedelta(0))
    return max(longest_backoff(spec.retry), spec.evidence.wait, delay)


class DeleteDelay(NamedTuple):
    """Until when an archived envelope must not be deleted; None: no such delay."""

    cleanup: datetime | None
    """By ``spec.cleanup.after``."""
    listing: datetime | None
    """Until eSAW lists no further files: ``evidence.wait`` after the list last changed."""


def delete_delay(
    status: EnvelopeEventStatus, spec: OrganizationSpec, since: Callable[[str], datetime]
) -> DeleteDelay:
    """
    Return the delays of the delete. ``since`` returns since when a condition has its status.

    If a list of this envelope was short or grew before, eSAW may still be making its files, such as legal
    documents. None of them must be deleted unarchived.
    """
    after, wait = spec.cleanup.after, spec.evidence.wait
    # A delay that passed before a mismatch is not repeated. Only what follows the delay counts as one.
    cleanup = since("Archived") + after if after and not status.mismatches else None
    # The files were last collected when the list last changed.
    listing = since("Collected") + wait if wait and may_list_more(status, spec.evidence) else None
    return DeleteDelay(cleanup, listing)


def delete_due(event: EnvelopeEvent, spec: OrganizationSpec, now: datetime) -> datetime | None:
    """Return when the delays of the delete of an archived envelope end; None: it has none, or the envelope is
    kept."""
    if spec.cleanup.policy is CleanupPolicy.KEEP:
        return None
    status, created = event.status, event.metadata.creation_timestamp

    def since(type_: str) -> datetime:
        condition = find_condition(status.conditions, type_)
        return transition_time(condition, created, now) if condition is not None else now

    return max((each for each in delete_delay(status, spec, since) if each is not None), default=None)


def _is_question_planned(event: EnvelopeEvent, cache: Cache) -> bool:
    """
    Whether an event that waits for copies was due for its last callback before, and eSAW did not answer: each
    attempt asks, with the backoff. An event whose copies a person holds makes no other attempt, and the time
    of one without attempts is no repeated question: it may be the end of eSAW's retention.

    The times come from two clocks, so the question may come at the next attempt and not at once.
    """
    status, owner = event.status, cache.organizations.get(event.organization)
    if status.phase is not Phase.COPYING or owner is None:
        return False
    if status.reason in SUSPENDED_REASONS:
        is_repeated = status.attempts > 0 and status.next_attempt_time is not None
        return is_repeated and are_copies_suspended(event, owner.spec, cache)
    called, attempts = status.last_delivery_time, status.attempt_history
    is_tried = bool(attempts) and attempts[-1].phase == Phase.COPYING
    return is_tried and (called is None or called < attempts[-1].start_time)


def _question_time(event: EnvelopeEvent, cache: Cache, now: datetime) -> datetime | None:
    """Return when eSAW is asked for the envelope of an event that a person holds; None: not before an object
    changes, as for each event of which more than the copies is held."""
    owner = cache.organizations.get(event.organization)
    due = question_time(event, owner.spec.retention, now) if owner is not None else None
    if owner is None or due is None or _is_suspended_itself(event, cache):
        return None
    ahead = max(due - now, longest_backoff(owner.spec.retry))
    return believed_time(event.status.next_attempt_time, now, ahead=ahead) or EPOCH


def _lacks_last_question(event: EnvelopeEvent, spec: OrganizationSpec, now: datetime) -> bool:
    """Whether eSAW would not be asked for a restarted envelope before its own retention deletes it, because
    ``spec.retention`` was changed after the next attempt was planned."""
    planned, last = event.status.next_attempt_time, last_question(event, spec.retention)
    # The attempts of copies follow each other in shorter times, and each asks. ``_question_time`` has those
    # that a person holds.
    is_delayed = event.status.phase is Phase.CLEANING and may_be_restarted(event.status)
    return is_delayed and planned is not None and last is not None and now < last < planned


def has_request(event: EnvelopeEvent) -> bool:
    """Whether a person's request is not carried out yet; it comes first."""
    return REQUEST_LABEL in event.metadata.labels


def is_suspended(event: EnvelopeEvent, cache: Cache) -> bool:
    """
    Whether a person suspended the event, its organization, the sender that reads next, its archive, or the
    archive of each required copy that it waits for.

    A run must end with one of ``SUSPENDED_REASONS`` then, or the event is due without end. So sender and
    archive count only where the preconditions come to them.
    """
    if _is_suspended_itself(event, cache):
        return True
    organization = cache.organizations.get(event.organization)
    # The envelope may be restarted and signed, which no copy delays.
    if organization is None or has_new_delivery(event) or is_question_unanswered(event.status):
        return False
    return are_copies_suspended(event, organization.spec, cache)


def _is_suspended_itself(event: EnvelopeEvent, cache: Cache) -> bool:
    """Whether a person suspended what each run of the event needs."""
    organization = cache.organizations.get(event.organization)
    if event.spec.suspend or organization is None:
        return event.spec.suspend
    if organization.spec.suspend:
        return True
    rule = organization.spec.rule(event.spec.action)
    is_archiving = rule is not None and rule.handling is ActionHandling.ARCHIVE
    if not is_archiving and not has_ended(event.status):
        return False
    if cache.suspended_sender(event) is not None:
        return True
    return cache.is_archive_suspended(cache.archive_name(event))


def are_copies_suspended(event: EnvelopeEvent, spec: OrganizationSpec, cache: Cache) -> bool:
    """Whether an event waits for required copies, and a person suspended the Archive of each."""
    names = open_copies(event.status, spec)
    return bool(names) and all(map(cache.is_archive_suspended, names))


def are_copies_held(event: EnvelopeEvent, spec: OrganizationSpec, cache: Cache) -> bool:
    """
    Whether a person holds the run in which an archived event would make its copies.

    Also by the suspension of its last Sender, which this process may not have looked up, or by its action.
    These don't hold the copies of an event that has ended.
    """
    if is_suspended(event, cache):
        return True
    if has_ended(event.status):
        return False
    sender = cache.senders.get(event.metadata.labels.get(SENDER_LABEL, ""))
    return (sender is not None and sender.spec.suspend) or is_held_by_action(event, spec)


def _is_copy_suspended(event: EnvelopeEvent, spec: OrganizationSpec, cache: Cache) -> bool:
    """Whether a suspended Archive of a required copy still holds the delete."""
    is_suspended_now = any(map(cache.is_archive_suspended, used_copies(event.status, spec)))
    return is_suspended_now and spec.cleanup.policy is CleanupPolicy.DELETE


def is_held_by_action(event: EnvelopeEvent, spec: OrganizationSpec) -> bool:
    """Whether the Organization does not list the event's action, or only records it although archiving had
    begun."""
    rule = spec.rule(event.spec.action)
    if rule is None or not event.status.is_archiving_begun:
        return rule is None
    return rule.handling is not ActionHandling.ARCHIVE


def _key_works(event: EnvelopeEvent, cache: Cache) -> bool:
    names = cache.sender_names(event)
    if not names:
        return True
    # Without its Sender the event runs: the preconditions then report the missing Sender.
    senders = [cache.senders.get(name) for name in names]
    return any(each is None or is_condition_true(each.status.conditions, "Authorized") for each in senders)

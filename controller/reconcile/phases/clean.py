"""
Delete the envelope in eSAW, after all of its files are archived and the status that proves it is stored (rule
4). eSAW lists the files again right before the delete, and the files of an earlier run are read in the
archive again. A file that is missing there is archived first.

This is the only module that may import ``counterfoil.esaw.delete_with_proof``; import-linter ensures it. The
proof is built from the status as the API server returns it, never from this process's memory.
"""

import asyncio
import dataclasses
from collections.abc import Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from functools import partial
from typing import Final

from controller.reconcile import error_policy
from controller.reconcile.context import Destination, ReconcileContext
from controller.reconcile.outcomes import (
    Done,
    Fail,
    Outcome,
    Pause,
    PhaseFacts,
    SideCondition,
    Skip,
    Wait,
    counted,
)
from controller.reconcile.phases.missing_envelope import (
    deleted_envelope,
    deletion_in_history,
    has_archived_last_state,
    is_last_of_row,
    not_found,
    not_shown_message,
    proves_deletion,
    unless_missing,
)
from controller.reconcile.phases.repeated_archiving import (
    archive_again,
    copies_pending,
    copy_again,
    in_doubt,
    keeps_changing,
    mismatch,
    seal_again,
    seal_copy_again,
    unconfirmed,
    unsealed_copy,
    was_archived_again,
)
from controller.reconcile.phases.replaced_copies import accepted_documents, event_with_later_copy
from controller.reconcile.phases.restarted_envelope import outcome_if_restarted
from controller.reconcile.phases.unlisted_files import lacks_known, settled_evidence, wait_for_known_files
from controller.scheduling.due import SUSPENDED_COPY_PAUSE, delete_delay, delete_due, has_request
from counterfoil.archives.backend import ChecksumReported, FileNotReturned
from counterfoil.archives.copies.original import OriginalDiffers, read_original
from counterfoil.archives.copies.reported import reported_fault
from counterfoil.archives.errors import MANIFEST_UNSEALED
from counterfoil.archives.manifest import FIXED_KINDS
from counterfoil.archives.proof import (
    contradiction,
    documents_digest,
    doubt,
    missing_required_copies,
    unread_required_copies,
)
from counterfoil.archives.readback import hash_stream
from counterfoil.archives.verify import LACKS_SEAL, first_copy_fault, foreign_seal, verify_documents
from counterfoil.esaw.delete_with_proof import ProofOfArchive, delete, is_listed_by_v5
from counterfoil.esaw.errors import EsawError, HttpStatusError, had_no_effect
from counterfoil.esaw.evidence import (
    MissingEvidence,
    has_same_files,
    lists_additional_files,
    missing_evidence,
    recorded_gap,
)
from counterfoil.esaw.models import EnvelopeFile
from counterfoil.resources import (
    CleanupPolicy,
    EnvelopeEvent,
    EnvelopeStatus,
    Phase,
    find_condition,
)
from counterfoil.resources.archive import VerifyMode
from counterfoil.resources.envelopeevent import (
    COPIES_PENDING,
    DELETE_REQUESTED_CONDITION,
    DELETE_UNANSWERED,
    DELETE_UNCONFIRMED,
)
from counterfoil.resources.reopening import (
    ARCHIVED_AS_EXPIRED,
    CLEANUP_DELAYED,
    COPY_SUSPENDED,
    DELETE_DELAYED_REASONS,
    DELETION_ASSUMED,
    KEPT_FOR_SKIP,
    LATE_FILES_PENDING,
)
from counterfoil.resources.routes import required_copy_names, stored_copy
from counterfoil.retention import last_question, may_have_been_archived_before
from counterfoil.untrusted.background_work import foreground

OTHER_FILES = "eSignAnyWhere lists other files than were archived."

_SENT: Final = "The request to delete the envelope is sent; its answer is not known yet."

_NO_EFFECT: Final = "The request to delete the envelope was not sent, or eSignAnyWhere refused it."

_DELETED: Final = "The envelope was archived, then deleted in eSignAnyWhere."

_ASSUMED: Final = (
    "The envelope was archived. A request to delete it was sent, and eSignAnyWhere does not show it any "
    "more. Its history, which would tell of the deletion, may not be read. If eSignAnyWhere calls again, it "
    "is asked again."
)

_CONFIRMED: Final = PhaseFacts(
    side_conditions=(SideCondition(DELETE_REQUESTED_CONDITION, "True", "ArchivedAndDeleted", _DELETED),)
)
"""The condition of an envelope that a request of this event deleted."""


@dataclass(frozen=True)
class Damage:
    """Why the files of an earlier run do not count as verified in this one."""

    message: str
    is_unproved: bool = False
    """Whether no file is known to be lost or changed: the archive returns none, and their checksums are not
    known any more, or the manifest is unsealed. Enough for no delete; no damage once the envelope is gone."""
    is_unsealed: bool = False
    """Whether only the manifest has no seal of the signing key."""
    later: EnvelopeEvent | None = None
    """The event that has such a copy in this place, and that can seal it; None: the event itself."""


_AFTER_OTHER: Final = timedelta(minutes=5)
"""Time after the next attempt of another event in which that attempt has usually ended."""


class _Deletion(Enum):
    """Evidence that eSAW deleted an envelope."""

    IN_HISTORY = auto()
    ASSUMED = auto()
    """eSAW does not show it after a request to delete it, and its history may not be read."""


async def clean(event: EnvelopeEvent, context: ReconcileContext) -> Outcome:
    """Delete the envelope, unless it is kept, it is too early, or a file is not in the archive."""
    if (gap := recorded_gap(event.status, context.organization.spec.evidence)) is not None:
        return await _incomplete(event, context, gap)
    if (found := doubt(event.status)) is not None:
        return in_doubt(event, found)
    if (why := _reason_to_keep(event, context)) is not None:
        kept = await unless_missing(_keep(event, context, why))
        if kept is not None:
            return kept
        return await _without_envelope(event, context, await _damage(event, context))

    if (pending := _pending_copies(event, context)) is not None:
        return pending
    # Before any read: a suspension may last for months.
    if (delay := _delay(event, context) or _suspended_copy(context)) is not None:
        if not _is_expired(event):
            return delay
        # An answer that does not show the envelope says nothing about its state.
        asked = await unless_missing(_unless_restarted(event, context, delay))
        return asked or await _without_envelope(event, context, await _damage(event, context))

    damage = await _damage(event, context)
    with foreground():
        # No request of other Imports comes between the last list and the delete.
        deleted = await unless_missing(_delete(event, context, damage))
    return deleted if deleted is not None else await _without_envelope(event, context, damage)


def _pending_copies(event: EnvelopeEvent, context: ReconcileContext) -> Wait | None:
    """Return the outcome if a required copy is not proved: a person may have asked for it since the envelope
    was copied, or it was archived again. None: each is."""
    missing = missing_required_copies(event.status, context.organization.spec.copies)
    if not missing:
        return None
    archives = ", ".join(f"Archive/{each}" for each in missing)
    message = f"The required copy in {archives} is not made yet."
    facts = PhaseFacts(side_conditions=(copies_pending(message),))
    return Wait(COPIES_PENDING, message, restart_from=Phase.COPYING, facts=facts)


def _suspended_copy(context: ReconcileContext) -> Pause | None:
    """Return the pause while a person suspends the Archive of a required copy, which can't be read then;
    None: nobody does."""
    hold = context.copies.first_hold(required_copy_names(context.organization.spec.copies))
    if hold is None:
        return None
    message = f"The copy is read again before the delete, and that is not possible: {hold.message}"
    return Pause(COPY_SUSPENDED, message, until=context.clock.now() + SUSPENDED_COPY_PAUSE)


def _reason_to_keep(event: EnvelopeEvent, context: ReconcileContext) -> str | None:
    """Return why the envelope stays in eSAW, as the end of a sentence; None: it may be deleted."""
    if event.status.is_skipped_by_person:
        return "because a person skipped this event before its last callback"
    spec = context.organization.spec
    if spec.cleanup.policy is CleanupPolicy.KEEP:
        return "as spec.cleanup.policy says"
    if context.archive.spec.verify is not VerifyMode.CHECKSUM:
        return None
    # No manifest can be read there, and a short list of eSAW looks complete.
    is_only = not context.may_have_siblings
    if not may_have_been_archived_before(event, spec, context.clock.now(), is_only=is_only):
        return None
    return (
        f"because Archive/{context.archive.name} returns no files: nothing shows whether an event that was "
        "removed had archived more of them. If it had, its manifest may be replaced"
    )


def _delay(event: EnvelopeEvent, context: ReconcileContext) -> Pause | None:
    """Return the pause until the envelope may be deleted; None if it may be now."""
    now, spec = context.clock.now(), context.organization.spec
    delay, lead = delete_delay(event.status, spec, partial(context.since, event)), context.clock.lead()
    complete = delay.listing + lead if delay.listing is not None else now
    if delay.cleanup is not None and now < delay.cleanup + lead:
        message = f"The envelope is deleted {spec.cleanup.after} after archiving, as spec.cleanup.after says."
        return Pause(CLEANUP_DELAYED, message, until=max(delay.cleanup + lead, complete))
    if now < complete:
        message = (
            "The envelope is archived. eSignAnyWhere may list further files until the time in "
            "spec.evidence.wait has passed; the envelope is deleted after that."
        )
        return Pause(LATE_FILES_PENDING, message, until=complete)
    return None


def _end_of_listing(event: EnvelopeEvent, context: ReconcileContext, now: datetime) -> datetime:
    """Return until when eSAW may list further files: ``evidence.wait`` after the list last changed, which is
    when its files were last collected; ``now`` if that has passed."""
    wait = context.organization.spec.evidence.wait
    end = context.since(event, "Collected") + wait + context.clock.lead()
    return max(now, end) if wait else now


async def _decision(context: ReconcileContext) -> Wait | None:
    """Return the outcome if a person said something during this run: to suspend, to skip, or to keep. The
    other events are listed again, since reads and a write came after their last list."""
    changed = await context.changed_object()
    for each in await context.siblings_before_delete():
        if has_request(each) or each.is_kept_by_person:
            changed = f"{each.KIND}/{each.name}"
    # Last, because this read is the fence of the delete as well.
    event = await context.fence.confirmed()
    if event.spec.suspend or has_request(event):
        changed = f"{event.KIND}/{event.name}"
    return None if changed is None else _settings_changed(changed)


def _settings_changed(subject: str) -> Wait:
    return Wait(
        "SettingsChanged", f"{subject} was changed during this attempt; the next attempt follows the change."
    )


def _gone(unread: Damage | None = None) -> Done:
    message = "The envelope was archived, and is no longer in eSignAnyWhere."
    return Done("ArchivedAndDeleted", _with_unread(message, unread))


def _with_unread(message: str, unread: Damage | None) -> str:
    return message if unread is None else f"{message} {unread.message}"


async def _deletion(event: EnvelopeEvent, context: ReconcileContext) -> _Deletion | None:
    """
    Return what shows that an envelope that eSAW does not show was deleted: it shows no other user's envelope
    either. None: it is not known to be deleted.

    Where the history may not be read, a request to delete it whose effect was not known may have deleted it.
    Then several such answers in a row decide, since one may be a passing error. A callback after eSAW last
    showed an Expired envelope may tell that it was restarted: then a person decides.
    """
    was_deleted = await deletion_in_history(event, context)
    if was_deleted is not None:
        return _Deletion.IN_HISTORY if was_deleted else None
    is_assumed = (
        context.may_have_deleted and is_last_of_row(event, context.sender) and not _was_called_since(event)
    )
    return _Deletion.ASSUMED if is_assumed else None


def _was_called_since(event: EnvelopeEvent) -> bool:
    """Whether eSAW called after it last showed the envelope Expired. Counters decide, not clocks."""
    considered = event.status.considered_deliveries
    return _is_expired(event) and (considered is None or event.deliveries > considered)


async def _without_envelope(
    event: EnvelopeEvent, context: ReconcileContext, damage: Damage | None
) -> Outcome:
    """Return the outcome for an archived envelope that eSAW does not show."""
    deletion_found = await _deletion(event, context)
    if deletion_found is None:
        return _not_visible(event, context, damage)
    if damage is not None and not damage.is_unproved:
        outcome = await _archived_again(event, context) or Fail(
            "ArchivedFilesLost", f"{damage.message} The envelope is no longer in eSignAnyWhere."
        )
    elif _is_expired(event) and not context.may_have_deleted:
        # Others deleted it. Before that it may have been restarted and signed.
        return await _archived_again(event, context) or await deleted_envelope(
            event.status.documents, event, context
        )
    elif deletion_found is _Deletion.ASSUMED:
        shown = f"{_ASSUMED} {KEPT_FOR_SKIP}" if event.status.is_skipped_by_person else _ASSUMED
        outcome = Done(DELETION_ASSUMED, _with_unread(shown, damage))
    else:
        # The response to an earlier delete was lost, or a person deleted it: the aim is reached.
        outcome = _gone(damage)
    is_confirmed = context.may_have_deleted and deletion_found is _Deletion.IN_HISTORY
    return dataclasses.replace(outcome, facts=_CONFIRMED) if is_confirmed else outcome


def _not_visible(event: EnvelopeEvent, context: ReconcileContext, damage: Damage | None) -> Wait | Fail:
    """Return the outcome for an envelope that eSAW neither shows nor says to be deleted."""
    message = f"{_verified_files(event, context, damage)} {not_shown_message(context)}"
    return not_found(event, context.sender, message)


async def _keep(event: EnvelopeEvent, context: ReconcileContext, why: str) -> Outcome:
    """Leave the envelope in eSAW; the callback after the restart of an expired one re-opens the event."""
    if (restarted := await outcome_if_restarted(event, context)) is not None:
        return restarted
    asked = context.clock.now()
    listed = await context.files_now()
    if lists_additional_files(event.status, listed):
        return archive_again("FilesChanged", OTHER_FILES)
    # The event ends now. A list that lacks a known file is short, and not the last one.
    siblings = [each.status for each in await context.possible_siblings()]
    is_short = lacks_known(event, context, listed, siblings)
    if not is_short and (gap := _gap_in(listed, event, context)) is not None:
        return gap
    return _kept(event, context, why, listed, asked, is_short=is_short)


def _kept(
    event: EnvelopeEvent,
    context: ReconcileContext,
    why: str,
    listed: Collection[EnvelopeFile],
    asked: datetime,
    *,
    is_short: bool = False,
) -> Done | Skip:
    """Return the outcome for an archived envelope that stays in eSAW. ``asked``: before eSAW listed the
    files; ``is_short``: the list lacks a file that eSAW listed before."""
    # What eSAW lists later is found once this time has passed (docs/decisions/0046). It has not passed if it
    # had not when eSAW was asked: a file may have come after the answer.
    complete = _end_of_listing(event, context, asked)
    settled = None if is_short else settled_evidence(event.status, listed)
    facts = PhaseFacts(
        listing_due=complete if is_short or asked < complete else None,
        side_conditions=() if settled is None else (settled,),
    )
    if _is_expired(event):
        message = (
            f"The envelope was archived as Expired in Archive/{context.archive.name} and stays in "
            f"eSignAnyWhere, {why}. If it is restarted there, its next callback archives it again"
        )
        if context.signature_checker.signer is None:
            # Nothing else shows then that the files are Counterfoil's (rule 13).
            message += ", until this event is removed: there is no signing key"
        return Skip(ARCHIVED_AS_EXPIRED, f"{message}.", facts=facts)
    message = f"The envelope was archived and stays in eSignAnyWhere, {why}."
    return Done("ArchivedAndKept", message, facts=facts)


def _decision_of_person(
    siblings: Collection[EnvelopeEvent],
    event: EnvelopeEvent,
    context: ReconcileContext,
    listed: Collection[EnvelopeFile],
    asked: datetime,
) -> Outcome | None:
    """
    Return the outcome if a person skipped or suspended another event of the envelope; None: nobody did.

    After such a decision this event ends: once it is taken back, the other event deletes the envelope itself
    if it archives it. Else a person retries this event.
    """
    for each in siblings:
        subject = f"EnvelopeEvent/{each.name}"
        if has_request(each):
            # It is carried out after this run.
            return _settings_changed(subject)
        if each.is_kept_by_person:
            decision = "skipped" if each.status.is_skipped_by_person else "suspended"
            why = f"because a person {decision} {subject} of the same envelope"
            return _kept(event, context, why, listed, asked)
    return None


def _contradiction(
    siblings: Collection[EnvelopeEvent], event: EnvelopeEvent, context: ReconcileContext
) -> Outcome | None:
    """Return the outcome if another event of the envelope archived a document with other content, so that the
    envelope is not deleted; None: none did."""
    found = contradiction(event, siblings)
    if found is not None:
        again: Wait | Fail | None = in_doubt(event, found)
    else:
        again = unconfirmed(event, siblings, now=context.clock.now())
    if again is None:
        return None
    # As after a mismatch, the delay of the delete is not repeated.
    return dataclasses.replace(again, facts=PhaseFacts(mismatches=event.status.mismatches + 1))


async def _damage(event: EnvelopeEvent, context: ReconcileContext) -> Damage | None:
    """Verify the files of an earlier run in the archive; return the first fault, None if all are whole."""
    manifest = event.status.archive.manifest if event.status.archive is not None else None
    if context.verified == event.status.documents or manifest is None:
        return None
    key = context.signature_checker.public_key
    try:
        fault = await _first_fault(manifest, event, context)
        # After all files, since an older key hides no lost one.
        facts = context.known_facts(event)
        foreign = await foreign_seal(context.backend, manifest, facts, key=key) if fault is None else None
    except FileNotReturned:
        return Damage(_not_returned(context), is_unproved=True)
    if fault is not None:
        return Damage(_original_damage(context, fault))
    if foreign is not None:
        return _unsealed(context.archive.name, foreign)
    context.verified = event.status.documents
    return None


def _unsealed(archive: str, foreign: str, later: EnvelopeEvent | None = None) -> Damage:
    return Damage(f"In Archive/{archive}, {foreign}", is_unproved=True, is_unsealed=True, later=later)


def _original_damage(context: ReconcileContext, fault: str) -> str:
    return f"Archive/{context.archive.name} does not have the files as they were archived: {fault}"


def _not_returned(context: ReconcileContext) -> str:
    return (
        f"Archive/{context.archive.name} returns no files. Their checksums were confirmed when the files "
        "were sent, and can't be read again."
    )


async def _first_fault(manifest: str, event: EnvelopeEvent, context: ReconcileContext) -> str | None:
    """
    Read in the archive everything that the event's status names; return the first difference, None if there
    is none.

    A difference counts only in the root of the archive, which may be another one after hours of reading.
    Raises ``FileNotReturned``, and ``ArchiveError`` if it is another one.
    """
    key = context.signature_checker.public_key
    async with aclosing(
        verify_documents(
            context.backend, manifest, event.status.documents, context.known_facts(event), key=key
        )
    ) as faults:
        fault = await anext(faults, None)
    if fault is not None:
        await context.chosen.check_root()
    return fault


async def _archived_again(event: EnvelopeEvent, context: ReconcileContext) -> Done | None:
    """Return the outcome if another event of the envelope archived all of its files later, and none is known
    to be lost or changed in the archive; None: no other did."""
    for sibling in await context.siblings():
        archive = sibling.status.archive
        evidence = context.organization.spec.evidence
        if archive is None or not has_archived_last_state(sibling, event, evidence):
            continue
        message = (
            f"EnvelopeEvent/{sibling.name} archived the envelope again, and it is no longer in eSignAnyWhere."
        )
        try:
            if await _first_fault(archive.manifest or "", sibling, context) is None:
                return Done("ArchivedAndDeleted", message)
        except FileNotReturned:
            return Done("ArchivedAndDeleted", f"{message} {_not_returned(context)}")
    return None


async def _delete(event: EnvelopeEvent, context: ReconcileContext, damage: Damage | None) -> Outcome:
    copies = context.organization.spec.copies
    # The delete needs a fresh proof of each copy as well. Before the questions to eSAW that decide, because
    # these reads may take hours.
    unread = unread_required_copies(event.status, copies, context.verified_copies)
    if damage is not None or unread:
        again = await _archived_otherwise(event, context, damage)
        if again is None:
            again = await _unproved_copies(unread, event, context)
        if again is not None:
            return again
    if _is_expired(event):
        # Twice, because the download between them may take an hour.
        changed = (
            await outcome_if_restarted(event, context)
            or await _changed_documents(event, context)
            or await outcome_if_restarted(event, context)
        )
        if changed is not None:
            return changed
    # Last of all, because a file that eSAW lists only now is deleted with the envelope.
    listed, siblings, decision = await _last_list(event, context)
    if decision is not None or (decision := _contradiction(siblings, event, context)) is not None:
        return decision
    if is_listed_by_v5(listed):
        return _of_v5(event, context, "only the API v5 lists all files, and does not say that these are all")
    proof = ProofOfArchive.from_status(
        event.spec.envelope_id,
        event.status,
        event.metadata.resource_version or "",
        listed=listed,
        verified=context.verified,
        evidence=context.organization.spec.evidence,
        copies=copies,
        verified_copies=context.verified_copies,
    )
    return await _delete_on(proof, event, context)


async def _last_list(
    event: EnvelopeEvent, context: ReconcileContext
) -> tuple[Sequence[EnvelopeFile], Collection[EnvelopeEvent], Outcome | None]:
    """Return the files that eSAW lists, the other events, and the outcome if the envelope must not be deleted
    because of the list, or because of what a person decided about another event."""
    asked = context.clock.now()
    listed = await context.files_now()
    if (difference := _difference(event, context, listed)) is not None:
        return listed, (), difference
    # Another event may have listed a file since this one archived the envelope. Asked only about a list with
    # the same files: a list with a further one is recorded first, so that no later list may lack that file.
    siblings = await context.siblings_before_delete()
    if lacks_known(event, context, listed, [each.status for each in siblings]):
        return listed, siblings, wait_for_known_files(event, context)
    outcome = _gap_in(listed, event, context) or _decision_of_person(siblings, event, context, listed, asked)
    return listed, siblings, outcome


async def _archived_otherwise(
    event: EnvelopeEvent, context: ReconcileContext, damage: Damage | None
) -> Outcome | None:
    """Return the outcome if the first archive does not have what eSAW has; None: it seems to. Asked before
    the copies are read: archiving needs none, and eSAW may delete the envelope while the Archive of a copy is
    down. If the envelope is gone or restarted, no copy holds the event."""
    listed = await context.files_now()
    if (restarted := await outcome_if_restarted(event, context)) is not None:
        return restarted
    if damage is not None and damage.is_unsealed:
        return seal_again(event, damage.message)
    if damage is not None:
        return mismatch(event, "ArchivedFilesChanged", damage.message)
    return _difference(event, context, listed)


async def _unproved_copies(
    names: Sequence[str], event: EnvelopeEvent, context: ReconcileContext
) -> Outcome | None:
    """
    Read these copies again. Return the outcome if one can't be used now, or lacks a file; None: each has all.

    The run may have begun in the limit of one of them. To read another one first gives that slot back. A copy
    that returns no files is compared with the first archive, which may have lost its manifest meanwhile.

    Raises ``ArchiveError``.
    """
    digest = documents_digest(event.status.documents)
    names = sorted(names, key=lambda each: not context.copies.has_copy_slot(context, each))
    for name in names:
        opened = await context.open_copy(name)
        if not isinstance(opened, Destination):
            # A person may have suspended it while the run waited for it.
            return _suspended_copy(context) or opened
        try:
            damage = await _copy_damage(event, context, opened)
        except OriginalDiffers as differs:
            return mismatch(event, "ArchivedFilesChanged", _original_damage(context, str(differs)))
        await opened.check_root()
        if damage is not None and damage.later is not None:
            return await _until_sealed(damage.later, name, damage.message, event, context)
        if damage is not None and damage.is_unsealed:
            return seal_copy_again(event, name, damage.message)
        if damage is not None:
            return copy_again(event, name, damage.message)
        if digest is not None:
            context.verified_copies[name] = digest
    return None


async def _until_sealed(
    later: EnvelopeEvent, archive: str, found: str, event: EnvelopeEvent, context: ReconcileContext
) -> Outcome:
    """Return the outcome while a ``later`` event has to seal the copy of both in an Archive, which it does
    before its own delete. If a person keeps the envelope, none is needed. Once the delay of that delete has
    passed, the event waits until its deadline: something holds the later one, and a person is informed."""
    _, _, decision = await _last_list(event, context)
    if decision is not None:
        return decision
    message = f"{found} EnvelopeEvent/{later.name} archived the envelope later and has its copy there."
    if later.status.phase.is_final:
        return unsealed_copy(archive, f"{message} It has ended: retry it, so that it seals the copy.")
    message, now = f"{message} It seals the copy before its own delete.", context.clock.now()
    spec = context.organization.spec
    planned = delete_due(later, spec, now)
    if planned is None or planned <= now or later.status.reason not in DELETE_DELAYED_REASONS:
        return unsealed_copy(archive, f"{message} Its reason is {later.status.reason or 'not known'}.")
    # ``longest_pause`` believes no longer one.
    longest = max(spec.cleanup.after, spec.evidence.wait)
    pause = Pause(CLEANUP_DELAYED, message, until=min(planned + _AFTER_OTHER, now + longest))
    return await _unless_restarted(event, context, pause) if _is_expired(event) else pause


async def _copy_damage(event: EnvelopeEvent, context: ReconcileContext, opened: Destination) -> Damage | None:
    """Return the first difference between a copy and the status, or that it is not sealed by us; None: it
    has each file and our seal. Raises ``OriginalDiffers``, and ``ArchiveError`` if it is another one."""
    archive = f"Archive/{opened.archive.name}"
    try:
        fault = await _first_copy_fault(event, context, opened)
        # A copy of before there was a key has no fault but this one.
        is_whole = fault in (None, LACKS_SEAL)
        manifest, key = (
            stored_copy(event.status, opened.archive.name).manifest or "",
            context.signature_checker,
        )
        facts, public_key = context.known_facts(event), key.public_key
        foreign = await foreign_seal(opened.backend, manifest, facts, key=public_key) if is_whole else None
    except FileNotReturned:
        return Damage(f"{archive} returns no files, and the checksums of the copy are not known any more.")
    if foreign is not None:
        siblings = await context.siblings_of_any_action()
        later = event_with_later_copy(event, siblings, manifest, now=context.clock.now())
        return _unsealed(opened.archive.name, foreign, later)
    return Damage(f"{archive} does not have the copy as it was made: {fault}") if fault is not None else None


async def _first_copy_fault(
    event: EnvelopeEvent, context: ReconcileContext, opened: Destination
) -> str | None:
    """Return the first difference as a sentence. Raises ``FileNotReturned`` if a checksum is not known any
    more, and as ``_copy_damage``."""
    status, backend, key = event.status, opened.backend, context.signature_checker.public_key
    manifest, facts = stored_copy(status, opened.archive.name).manifest or "", context.known_facts(event)
    siblings = await context.siblings_of_any_action()
    accepted = accepted_documents(event, siblings, manifest, now=context.clock.now())
    try:
        return await first_copy_fault(backend, manifest, accepted, facts, key=key)
    except ChecksumReported:
        place = (status.archive.manifest if status.archive is not None else None) or ""
        try:
            original = await read_original(context.backend, place, status.documents, facts, key=key)
        except OriginalDiffers:
            await context.chosen.check_root()
            raise
        return await reported_fault(backend, opened.archive.spec, original, manifest)


def _difference(
    event: EnvelopeEvent, context: ReconcileContext, listed: Collection[EnvelopeFile]
) -> Outcome | None:
    """Return the outcome if eSAW lists other files than were archived; None if it lists the same."""
    if has_same_files(event.status, listed):
        return None
    if lacks_known(event, context, listed):
        return wait_for_known_files(event, context)
    return mismatch(event, "FilesChanged", OTHER_FILES)


def _gap_in(listed: Collection[EnvelopeFile], event: EnvelopeEvent, context: ReconcileContext) -> Wait | None:
    """Return the outcome if the list lacks evidence that no condition names. The files are collected again,
    which records it."""
    status = event.status.envelope.status if event.status.envelope is not None else ""
    missing = missing_evidence(status, listed, context.organization.spec.evidence)
    if missing is None:
        return None
    found, reason = "every audit trail", "AuditTrailPending"
    if missing is MissingEvidence.DOCUMENTS:
        found, reason = "every document", "DocumentsPending"
    message = f"eSignAnyWhere does not list {found} of this envelope. The files are listed again."
    return Wait(reason, message, restart_from=Phase.COLLECTING)


async def _delete_on(proof: ProofOfArchive, event: EnvelopeEvent, context: ReconcileContext) -> Outcome:
    await context.chosen.check_root()
    if _is_expired(event) or not await proves_deletion(event, context):
        await _record_delete(context)
    # The last question to eSAW: a person may restart the envelope at any time.
    if (restarted := await outcome_if_restarted(event, context)) is not None:
        return restarted
    if (decision := await _decision(context)) is not None:
        return decision
    try:
        return await _send_delete(proof, event, context)
    except EsawError:
        raise
    except (Exception, asyncio.CancelledError):
        # The attempt was overdue, or met an internal error. eSAW may have carried the delete out.
        context.side_conditions.append(_delete_requested(DELETE_UNANSWERED, _SENT))
        raise


async def _send_delete(proof: ProofOfArchive, event: EnvelopeEvent, context: ReconcileContext) -> Outcome:
    try:
        await delete(context.esaw, proof)
    except EsawError as problem:
        if isinstance(problem, HttpStatusError) and problem.is_missing_envelope:
            return await _missing_at_delete(problem, event, context)
        if isinstance(problem, HttpStatusError) and problem.is_of_v5:
            return _of_v5(event, context, "the API v6 does not delete it (ERR0063)")
        if had_no_effect(problem):
            raise
        if isinstance(problem, HttpStatusError) and 400 <= problem.status < 500 and problem.status != 408:
            # Another program's: its reason tells what to correct, and says nothing about the envelope.
            context.side_conditions.append(_delete_requested(DELETE_UNANSWERED, _unknown_result(problem)))
            raise
        return _unanswered(problem, event, context)
    try:
        still_exists = await _still_exists(context)
    except EsawError as problem:
        return _unanswered(problem, event, context)
    if still_exists:
        message = (
            "The request to delete the envelope was answered with success, but eSignAnyWhere still has it."
        )
        return Wait(
            DELETE_UNCONFIRMED,
            message,
            # eSAW may carry it out later. Only a later attempt that is shown the envelope refutes it.
            facts=_requested_facts(event, DELETE_UNCONFIRMED, message),
        )
    return Done("ArchivedAndDeleted", _DELETED, facts=_deleted_facts(context))


async def _missing_at_delete(problem: EsawError, event: EnvelopeEvent, context: ReconcileContext) -> Outcome:
    """Return the outcome of a delete that eSAW answered as if there were no envelope. This key listed its
    files just now. If no history says that it was deleted since, the next attempts tell."""
    try:
        was_deleted = await deletion_in_history(event, context)
    except EsawError as unknown:
        return _unanswered(unknown, event, context)
    if was_deleted:
        return dataclasses.replace(_gone(), facts=_deleted_facts(context))
    return _unanswered(problem, event, context)


def _deleted_facts(context: ReconcileContext) -> PhaseFacts:
    """Return what replaces the condition of this request to delete the envelope, or of an earlier one."""
    conditions = context.fence.event.status.conditions
    was_recorded = find_condition(conditions, DELETE_REQUESTED_CONDITION) is not None
    return _CONFIRMED if was_recorded else PhaseFacts()


async def _record_delete(context: ReconcileContext) -> None:
    """
    Store that a delete is sent, before it is.

    Others may restart, sign and delete an Expired envelope, and some users may read no history. After a kill
    only this tells whose delete it was. Unless the delete may have had an effect, the end of this attempt
    takes it back.
    """
    none = SideCondition(DELETE_REQUESTED_CONDITION, "False", DELETE_UNCONFIRMED, _NO_EFFECT)
    context.side_conditions.append(none)
    await context.record(_delete_requested(DELETE_UNANSWERED, _SENT))


def _unanswered(problem: EsawError, event: EnvelopeEvent, context: ReconcileContext) -> Wait:
    """Return the outcome if eSAW may have deleted the envelope, or not."""
    found = error_policy.classify(problem, context.clock.now())
    until = found.not_before if isinstance(found, Wait) else None
    message = _unknown_result(problem)
    facts = _requested_facts(event, DELETE_UNANSWERED, message)
    return Wait(DELETE_UNANSWERED, message, not_before=until, facts=facts)


def _requested_facts(event: EnvelopeEvent, reason: str, message: str) -> PhaseFacts:
    """Return what is stored after a request to delete the envelope that may have had an effect."""
    return PhaseFacts(
        side_conditions=(_delete_requested(reason, message),),
        # eSAW showed the envelope right before. A later callback is evidence that it was not deleted.
        considered_deliveries=event.deliveries if _is_expired(event) else None,
    )


def _unknown_result(problem: EsawError) -> str:
    return f"It is not known whether eSignAnyWhere deleted the envelope. {problem}"


def _delete_requested(reason: str, message: str) -> SideCondition:
    """Return the condition of an envelope whose delete was requested, and may have had an effect. The history
    of attempts is too short for it."""
    return SideCondition(DELETE_REQUESTED_CONDITION, "True", reason, message)


async def _still_exists(context: ReconcileContext) -> bool:
    """Whether eSAW still has the envelope: another program can give the empty answer of a delete, too."""
    return await unless_missing(context.esaw.envelope(context.event.spec.envelope_id)) is not None


async def _incomplete(event: EnvelopeEvent, context: ReconcileContext, gap: MissingEvidence) -> Outcome:
    """
    Archive what eSAW lists by now; while the list lacks evidence, keep the envelope and tell a person.

    The files are read in the archive before that: a person who reads that they are verified may delete the
    envelope.
    """
    listed = await unless_missing(context.files_now())
    if listed is None:
        damage = await _damage(event, context)
        if damage is not None and not damage.is_unproved:
            return await _without_envelope(event, context, damage)
        if await _deletion(event, context) is None:
            return _not_visible(event, context, damage)
        where = "The envelope is no longer in eSignAnyWhere."
    else:
        spec, status = context.organization.spec, (await context.envelope()).status
        if lacks_known(event, context, listed):
            return wait_for_known_files(event, context)
        missing = missing_evidence(status, listed, spec.evidence)
        if missing is None or not has_same_files(event.status, listed):
            return archive_again("FilesChanged", OTHER_FILES)
        damage = await _damage(event, context)
        if damage is not None and (repaired := _repair(event, damage)) is not None:
            return repaired
        gap, where = missing, "The envelope stays in eSignAnyWhere."
    verified = _verified_files(event, context, damage)
    if gap is MissingEvidence.DOCUMENTS:
        return Fail("DocumentsMissing", f"{verified} eSignAnyWhere does not list every document. {where}")
    return Fail(
        "AuditTrailMissing",
        f"{verified} eSignAnyWhere does not list every audit trail. {where} If audit "
        "trails are switched off there, set spec.evidence.auditTrail of "
        f"Organization/{context.organization.name} to Optional.",
    )


def _repair(event: EnvelopeEvent, damage: Damage) -> Outcome | None:
    """Archive an incomplete envelope again, once; None: it was, and no file is known to be lost."""
    reason = MANIFEST_UNSEALED if damage.is_unsealed else "ArchivedFilesChanged"
    # No mismatch: the delay of the delete has not begun.
    if not was_archived_again(event, reason):
        return archive_again(reason, damage.message)
    return None if damage.is_unproved else keeps_changing(damage.message, PhaseFacts())


def _of_v5(event: EnvelopeEvent, context: ReconcileContext, why: str) -> Fail:
    """Keep an envelope that v5 made, and tell a person. The files were read in the archive in this run."""
    return Fail(
        "V5EnvelopeKept",
        f"{_verified_files(event, context)} The envelope was made by the API v5 and stays in eSignAnyWhere: "
        f"{why}.",
    )


def _verified_files(event: EnvelopeEvent, context: ReconcileContext, damage: Damage | None = None) -> str:
    """Return what ``_damage`` found in this run; None of it: all files are verified."""
    if damage is not None:
        return damage.message
    files = counted(len(event.status.documents), "file")
    return f"Archive/{context.archive.name} has {files} of the envelope, all verified."


def _is_expired(event: EnvelopeEvent) -> bool:
    """Whether the envelope was archived in the one final status that can still change (restartexpired)."""
    return event.status.envelope is not None and event.status.envelope.status == EnvelopeStatus.EXPIRED


async def _unless_restarted(event: EnvelopeEvent, context: ReconcileContext, delay: Pause) -> Outcome:
    """
    Return the delay of the delete, unless the expired envelope was restarted: it may be signed by now.

    Raises ``EsawError``, also if eSAW does not show the envelope.
    """
    restarted = await outcome_if_restarted(event, context)
    if restarted is not None:
        return restarted
    # Those that are counted later are not considered: the answer may be older than they are.
    facts = dataclasses.replace(delay.facts, considered_deliveries=event.deliveries)
    return dataclasses.replace(_with_last_question(event, context, delay), facts=facts)


def _with_last_question(event: EnvelopeEvent, context: ReconcileContext, delay: Pause) -> Pause:
    """Return the delay of the delete; if eSAW's own retention ends before it, eSAW is asked again shortly
    before that end."""
    last = last_question(event, context.organization.spec.retention)
    if last is None or delay.until <= last:
        return delay
    message = f"{delay.message} eSignAnyWhere deletes it before that by its own retention (spec.retention)."
    until = last if context.clock.now() < last else delay.until
    return dataclasses.replace(delay, message=message, until=until)


async def _changed_documents(event: EnvelopeEvent, context: ReconcileContext) -> Outcome | None:
    """
    Return the outcome for an envelope that was restarted, signed by somebody, and expired again; equal file
    ids do not prove equal content. None if eSAW has the archived documents, byte for byte.
    """
    if (difference := _difference(event, context, await context.files_now())) is not None:
        return difference
    # An audit trail grows when a document is read, so it proves nothing about the signed content.
    for document in event.status.documents:
        if document.kind not in FIXED_KINDS:
            continue
        async with context.download(document) as download:
            if await hash_stream(download.chunks) != (document.size, document.sha256):
                return mismatch(
                    event,
                    "FilesChanged",
                    "The envelope is Expired, but has other documents than were archived.",
                )
    return None

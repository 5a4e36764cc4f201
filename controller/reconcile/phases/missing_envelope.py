"""A 404 during a run: eSAW returns it for each missing object, so the envelope's history decides."""

from collections.abc import Awaitable, Iterable
from typing import TypeGuard, TypeVar

from controller.reader import answers_in_row, lacks_proof
from controller.reconcile.context import ReconcileContext, RunContext
from controller.reconcile.outcomes import Fail, PhaseFacts, Skip, Wait, counted
from counterfoil.archives.manifest import FIXED_KINDS, UNKNOWN_KINDS
from counterfoil.archives.proof import contradiction, doubt, is_kept, missing_required_copies
from counterfoil.esaw.errors import EsawError, HttpStatusError
from counterfoil.esaw.evidence import recorded_gap
from counterfoil.resources import (
    EnvelopeEvent,
    EvidenceSpec,
    FiledDocument,
    Phase,
    Sender,
    find_condition,
    is_condition_true,
)
from counterfoil.resources.envelopeevent import (
    DELETE_REQUESTED_CONDITION,
    ENVELOPE_NOT_FOUND,
    UNKNOWN_ENVELOPE_ATTEMPTS,
)
from counterfoil.resources.organization import CHANGEABLE_STATUSES
from counterfoil.resources.reopening import DELETION_ASSUMED
from counterfoil.resources.routes import has_manifest

_T = TypeVar("_T")


async def unless_missing(request: Awaitable[_T]) -> _T | None:
    """Return the answer; None if eSAW does not show the envelope: it was deleted, never existed, or is
    another user's. Raises ``EsawError``."""
    try:
        return await request
    except HttpStatusError as answer:
        if not answer.is_missing_envelope:
            raise
        return None


def not_found(event: EnvelopeEvent, sender: Sender, message: str) -> Wait | Fail:
    """
    Return the outcome for an envelope that eSAW does not show to this Sender's key: a failure after three
    such answers in a row.

    An attempt that ended otherwise says nothing about the envelope. A pause in which eSAW showed it is no
    attempt, and sets the number of attempts to 0.
    """
    is_last = is_last_of_row(event, sender)
    return Fail(ENVELOPE_NOT_FOUND, message) if is_last else Wait(ENVELOPE_NOT_FOUND, message)


def is_last_of_row(event: EnvelopeEvent, sender: Sender) -> bool:
    """Whether an answer that does not show the envelope to this Sender's key is the last of
    ``UNKNOWN_ENVELOPE_ATTEMPTS`` in a row. Never for a key without the proof that the event has."""
    return answers_in_row(event, sender) + 1 >= UNKNOWN_ENVELOPE_ATTEMPTS


def not_shown_message(context: ReconcileContext) -> str:
    """Return the message about an envelope that eSAW showed before."""
    name = context.sender.name
    if context.is_shown:
        return f"eSignAnyWhere shows the envelope to the key of Sender/{name}, and answers 404 for its files."
    key = f"eSignAnyWhere does not show the envelope to the key of Sender/{name}"
    if lacks_proof(context.event, context.sender):
        return f"{key}."
    return f"{key} any more, and does not say that it was deleted."


async def explain_missing(event: EnvelopeEvent, context: ReconcileContext) -> Wait | Skip | Fail:
    """
    Return the outcome of eSAW's 404 ERR0007 before the files are archived: the envelope was deleted, never
    existed, or is another user's.

    A deletion is a failure that a person hears of, unless another event of the envelope archived it.
    """
    was_deleted = await deletion_in_history(event, context)
    if was_deleted:
        return await explain_deletion(event.status.documents, event, context)
    message = not_shown_message(context)
    if event.status.envelope is None:
        cause = "it never existed, or another user sent it"
        if was_deleted is None:
            cause = "it never existed, another user sent it, or it was deleted"
        message = f"eSignAnyWhere shows no such envelope to the key of Sender/{context.sender.name}: {cause}."
    return not_found(event, context.sender, f"{message} {_archived_files(event)}")


def _archived_files(event: EnvelopeEvent) -> str:
    arrived = sum(each.sha256 is not None for each in event.status.documents)
    if not arrived:
        return "This event has archived no file."
    verb = "is" if arrived == 1 else "are"
    place = _first_place(event.status.documents, event)
    return f"{counted(arrived, 'file')} of it {verb} known to be archived{place}."


def _first_place(documents: Iterable[FiledDocument], event: EnvelopeEvent) -> str:
    """
    Return where the first file arrived, as a part of a sentence. After a retry, the Archive that the event
    has chosen now can be another one.

    Empty if the event has a manifest: a document may have its hash from an earlier place.
    """
    if has_manifest(event.status):
        return ""
    places = (each.location for each in documents if each.sha256 is not None and each.location is not None)
    place = next(places, None)
    return f", the first one at `{place}`" if place is not None else ""


async def explain_404(
    answer: HttpStatusError, event: EnvelopeEvent, context: ReconcileContext
) -> Wait | Skip | Fail | None:
    """Return the outcome of a 404 about an envelope or a file of it; None: it says nothing about the
    envelope, and no history says that this was deleted."""
    if answer.is_missing_envelope:
        return await explain_missing(event, context)
    if await deletion_in_history(event, context):
        return await explain_deletion(event.status.documents, event, context)
    return None


async def explain_deletion(
    documents: tuple[FiledDocument, ...], event: EnvelopeEvent, context: ReconcileContext
) -> Skip | Fail:
    """Return the outcome for an envelope that was deleted before this event archived all of its files; these
    are known, some of them in the archive."""
    evidence = context.organization.spec.evidence
    for sibling in await context.siblings():
        if has_archived_last_state(sibling, event, evidence):
            return _archived_already(sibling, context)
    return await deleted_envelope(documents, event, context)


def _archived_already(sibling: EnvelopeEvent, context: RunContext) -> Skip:
    stored = sibling.status.archive
    archive = f"Archive/{stored.ref.name}" if stored is not None else context.archive_name
    return Skip(
        "ArchivedAlready",
        f"EnvelopeEvent/{sibling.name} archived this envelope in {archive}, and since then "
        "it was deleted in eSignAnyWhere.",
    )


async def outcome_if_superseded(event: EnvelopeEvent, context: RunContext) -> Skip | Wait | None:
    """
    Return the outcome of an archived event, which had not ended, if another event archived the last state of
    the envelope. None: no other did.

    eSAW is not asked: the status of the other event has its answer that the envelope is deleted, and proves
    each required copy. Before that delete, an event that archived an earlier state archives this one.
    """
    organization, status = context.organization.spec, event.status.envelope
    others = [
        each
        for each in await context.siblings()
        if has_archived_last_state(each, event, organization.evidence)
    ]
    for each in others:
        is_copied = not missing_required_copies(each.status, organization.copies)
        has_other = contradiction(event, [each], FIXED_KINDS | UNKNOWN_KINDS) is not None
        if is_copied and _is_known_as_deleted(each) and not has_other:
            return _archived_already(each, context)
    for each in others:
        later = each.status.envelope
        if status is not None and later is not None and later.status != status.status:
            return Wait(
                "FilesChanged",
                f"The envelope was archived as {status.status}, and EnvelopeEvent/{each.name} archived it as "
                f"{later.status} since; it is archived again.",
                restart_from=Phase.VALIDATING,
            )
    return None


def _is_known_as_deleted(event: EnvelopeEvent) -> bool:
    """Whether eSAW said to an event that its archived envelope is deleted."""
    cleaned = find_condition(event.status.conditions, "Cleaned")
    return cleaned is not None and (cleaned.status, cleaned.reason) == ("True", "ArchivedAndDeleted")


def has_archived_last_state(sibling: EnvelopeEvent, event: EnvelopeEvent, evidence: EvidenceSpec) -> bool:
    """Whether another event of the envelope archived all of it, in a state that did not change any more."""
    return _archived_later(sibling, event, evidence) and _has_last_state(sibling)


def _archived_later(sibling: EnvelopeEvent, event: EnvelopeEvent, evidence: EvidenceSpec) -> bool:
    """
    Whether another event of the envelope archived each file that this one lists, and lacks nothing.

    It archived the envelope in the status in which this event saw it, or in a later one: only an active or an
    expired envelope gets another status.
    """
    status, seen = sibling.status, event.status.envelope
    if status.envelope is None or not is_condition_true(status.conditions, "Archived"):
        return False
    if not is_kept(status) or doubt(status) is not None or recorded_gap(status, evidence) is not None:
        return False
    if seen is not None and seen.status not in (*CHANGEABLE_STATUSES, status.envelope.status):
        return False
    archived = {(each.file_id, each.kind) for each in status.documents if each.sha256 is not None}
    return {(each.file_id, each.kind) for each in event.status.documents if not each.outdated} <= archived


def _has_last_state(sibling: EnvelopeEvent) -> bool:
    """Whether the envelope can't have changed after this event archived it: it was not Expired, or this event
    deleted it itself, which is not only assumed."""
    conditions, summary = sibling.status.conditions, sibling.status.envelope
    if summary is not None and summary.status not in CHANGEABLE_STATUSES:
        return True
    cleaned = find_condition(conditions, "Cleaned")
    is_assumed = cleaned is not None and cleaned.reason == DELETION_ASSUMED
    is_cleaned = all(is_condition_true(conditions, each) for each in ("Cleaned", DELETE_REQUESTED_CONDITION))
    return is_cleaned and not is_assumed


async def deleted_envelope(
    documents: tuple[FiledDocument, ...], event: EnvelopeEvent, context: ReconcileContext
) -> Fail:
    """Return the failure for an envelope that others deleted before its last state was archived."""
    facts = PhaseFacts(documents=documents)
    arrived = sum(each.sha256 is not None for each in documents)
    files = f"{arrived} of its {counted(len(documents), 'file')}"
    found = (each.status for each in (event, *await context.siblings()) if is_kept(each.status))
    archives = (each.archive for each in found if each.archive is not None)
    manifest = next((each.manifest for each in archives if each.manifest), None)
    if manifest is not None:
        message = (
            "The envelope was deleted in eSignAnyWhere. An earlier state of it is archived with the "
            f"manifest {manifest}. {files} are known to be archived{_first_place(documents, event)}; files "
            "that changed or were added after that state may be missing."
        )
    elif arrived:
        message = (
            f"The envelope was deleted in eSignAnyWhere while it was being archived: {files} arrived"
            f"{_first_place(documents, event)}, without a manifest."
        )
    else:
        message = (
            "The envelope was deleted in eSignAnyWhere, and this event has archived nothing. If the cluster "
            "was restored from a backup, look for the envelope's manifest in the archive."
        )
    return Fail("EnvelopeDeleted", message, facts=facts)


async def was_deleted(event: EnvelopeEvent, context: ReconcileContext) -> bool:
    """Whether eSAW's history says that the envelope was deleted. Raises ``EsawError``."""
    return await deletion_in_history(event, context) is True


async def deletion_in_history(event: EnvelopeEvent, context: ReconcileContext) -> bool | None:
    """
    Whether eSAW's history says that the envelope was deleted; None if this user may not read histories.

    None, without a request, also for a key to which eSAW never showed an envelope that it showed to another
    one: nothing documents what a history says to it. Raises ``EsawError``.
    """
    access, sender = context.history_access, context.sender.name
    if lacks_proof(event, context.sender) and not context.is_shown:
        return None
    try:
        history = await unless_missing(context.esaw.history(event.spec.envelope_id))
    except HttpStatusError as answer:
        # A proxy's 403 has no error id.
        if answer.status == 403 and answer.error_id is not None:
            access.found(sender, readable=False)
            return None
        raise
    if history is not None:
        access.found(sender, readable=True)
    return history is not None and history.has_been_deleted


async def proves_deletion(event: EnvelopeEvent, context: ReconcileContext) -> bool:
    """Whether eSAW's history will tell of the deletion of an envelope that exists. Asks only if it is not
    known whether this user may read histories."""
    access, sender = context.history_access, context.sender.name
    if access.is_readable(sender) is None:
        try:
            await deletion_in_history(event, context)
        except EsawError:
            return False
    return access.is_readable(sender) is True


def is_missing(problem: BaseException | None) -> TypeGuard[HttpStatusError]:
    """Whether this is eSAW's response for a missing object."""
    return isinstance(problem, HttpStatusError) and problem.status == 404

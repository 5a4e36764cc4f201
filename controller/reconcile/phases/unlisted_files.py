"""
Wait for known files that eSAW no longer lists; then keep the envelope, and tell a person.

eSAW removes no single file of a finished envelope, so a list that lacks a file of an earlier one is short,
whether the file was archived or not. The file stays in the status and in the manifest, and nothing else of
the event changes meanwhile. A short list says nothing about evidence that was never listed, so what the
condition ``EvidenceComplete`` says of that stays.

Also here: the condition once eSAW could be asked again for files of a kept envelope (``late_files``).
"""

from collections.abc import Collection, Iterable, Iterator

import msgspec

from controller.reconcile.context import ReconcileContext
from controller.reconcile.outcomes import Fail, Pause, PhaseFacts, SideCondition
from counterfoil.archives.manifest import Manifest
from counterfoil.archives.proof import quoted
from counterfoil.clock import believed_time
from counterfoil.esaw.evidence import (
    LOOKS_SHORT,
    lacks_known_file,
    lists_additional_files,
    looks_short,
)
from counterfoil.esaw.models import EnvelopeFile
from counterfoil.resources import (
    MAX_DOCUMENTS,
    MAX_DOCUMENTS_BYTES,
    MAX_TEXT_LENGTH,
    EnvelopeEvent,
    EnvelopeEventStatus,
    EnvelopeSummary,
    FiledDocument,
    find_condition,
    stored_size,
)
from counterfoil.resources.envelopeevent import EVIDENCE_CONDITION, KNOWN_FILES_CONDITION, LATE_FILES_UNKNOWN

FILES_NOT_LISTED = "eSignAnyWhere no longer lists every file that it listed for this envelope before."

_CLAIMED = "A manifest of this envelope in Archive/"
"""Begin of what is said instead if only a manifest without our seal names the files."""

_PENDING = "DocumentsPending"
_MISSING = "DocumentsMissing"


def noted_files(
    status: EnvelopeEventStatus, listed: Collection[EnvelopeFile]
) -> tuple[FiledDocument, ...] | None:
    """Return the known files and the further ones of a list, which have no place yet; None if the event has
    no room for them. A later list must have each of them."""
    known, ids = {each.file_id for each in status.documents}, {each.file_id for each in listed}
    earlier = (
        msgspec.structs.replace(each, outdated=each.outdated and each.file_id not in ids)
        for each in status.documents
    )
    added = (
        FiledDocument(file_id=each.file_id, kind=each.kind, file_name=each.file_name[:MAX_TEXT_LENGTH])
        for each in listed
        if each.file_id not in known
    )
    documents = (*earlier, *added)
    has_room = len(documents) <= MAX_DOCUMENTS and stored_size(documents) <= MAX_DOCUMENTS_BYTES
    return documents if has_room else None


def grown_list(status: EnvelopeEventStatus, listed: Collection[EnvelopeFile]) -> SideCondition | None:
    """Return the condition of an envelope whose list has further files: more may follow. None: it has none,
    no earlier list is known, or an earlier condition tells that."""
    is_known = find_condition(status.conditions, EVIDENCE_CONDITION) is not None
    if is_known or not status.documents or not lists_additional_files(status, listed):
        return None
    message = "eSignAnyWhere lists more files than in an earlier attempt."
    return SideCondition(EVIDENCE_CONDITION, "True", "DocumentsListed", message)


def lacks_known(
    event: EnvelopeEvent,
    context: ReconcileContext,
    listed: Collection[EnvelopeFile],
    siblings: Iterable[EnvelopeEventStatus] = (),
) -> bool:
    """Whether the list lacks a known file (``lacks_known_file``). If not, what short lists left in the
    conditions is corrected, and the next short list is waited for from its own time."""
    if lacks_known_file(event.status, listed, siblings):
        return True
    context.side_conditions.extend(listed_again(event.status))
    return False


def listed_in(manifest: Manifest) -> EnvelopeEventStatus:
    """Return the status of an event that listed the files of a manifest."""
    files = {(each.file_id, each.kind): each for each in manifest.files}.values()
    return EnvelopeEventStatus(
        envelope=EnvelopeSummary(status=manifest.envelope.status),
        documents=tuple(FiledDocument(file_id=each.file_id, kind=each.kind, file_name="") for each in files),
    )


def listed_again(status: EnvelopeEventStatus) -> Iterator[SideCondition]:
    """Yield the conditions of an envelope whose list has every known file, where a short list changed
    them."""
    message = "eSignAnyWhere lists again every file that it listed for this envelope before."
    known = find_condition(status.conditions, KNOWN_FILES_CONDITION)
    if known is not None and known.status == "False":
        yield SideCondition(KNOWN_FILES_CONDITION, "True", "DocumentsListed", message)
    evidence = find_condition(status.conditions, EVIDENCE_CONDITION)
    is_short = evidence is not None and evidence.reason == _PENDING
    if evidence is not None and is_short and evidence.message.startswith((FILES_NOT_LISTED, _CLAIMED)):
        yield SideCondition(EVIDENCE_CONDITION, "True", "DocumentsListed", message)


def claimed_files(
    archive: str, manifest: str, claimed: EnvelopeEventStatus, listed: Collection[EnvelopeFile]
) -> str:
    """Return that a manifest without our seal, at the location ``manifest``, names files that are not
    listed."""
    ids = {each.file_id for each in listed}
    missing = min((each.file_id for each in claimed.documents if each.file_id not in ids), default="")
    named = f", such as {quoted(missing)}" if missing else ""
    return (
        f"{_CLAIMED}{archive} names files that eSignAnyWhere does not list{named}. It is {manifest}. It has "
        "no seal of this controller, so nothing proves what it says."
    )


def wait_for_known_files(
    event: EnvelopeEvent, context: ReconcileContext, *, what: str = FILES_NOT_LISTED
) -> Pause | Fail:
    """
    Return the pause until eSAW lists the files again; the failure once ``evidence.wait`` has passed since
    the first list without them.

    ``what`` tells how they are known (``claimed_files`` if only a manifest without our seal names them).
    """
    now, spec, stored = context.clock.now(), context.organization.spec, event.status.conditions
    known = find_condition(stored, KNOWN_FILES_CONDITION)
    evidence = find_condition(stored, EVIDENCE_CONDITION)
    since, is_over = now, False
    if known is not None and known.status == "False":
        since = believed_time(known.last_transition_time, now) or now
        is_over = known.reason == _MISSING
    end = since + spec.evidence.wait + context.clock.lead()
    if now < end and not is_over:
        waits = SideCondition(KNOWN_FILES_CONDITION, "False", _PENDING, what)
        # Only a first statement: that there is one tells also after a re-opening that a list was short.
        first = SideCondition(EVIDENCE_CONDITION, "Unknown", _PENDING, what)
        conditions = (waits,) if evidence is not None else (waits, first)
        until = min(end, now + max(spec.retry.initial, now - since))
        return Pause(_PENDING, what, until, facts=PhaseFacts(side_conditions=conditions))
    message = (
        f"{what} Counterfoil removes no file from Archive/{context.archive.name}, and the "
        "envelope stays in eSignAnyWhere."
    )
    has_gap = evidence is not None and evidence.status == "False" and evidence.reason != _PENDING
    types = (KNOWN_FILES_CONDITION,) if has_gap else (KNOWN_FILES_CONDITION, EVIDENCE_CONDITION)
    missing = tuple(SideCondition(each, "False", _MISSING, message) for each in types)
    return Fail(_MISSING, message, facts=PhaseFacts(side_conditions=missing))


def settled_evidence(
    status: EnvelopeEventStatus, listed: Collection[EnvelopeFile] | None
) -> SideCondition | None:
    """
    Return the condition of a kept envelope whose list has every archived file and no further one; None: it
    stays as it is, because eSAW could be asked before.

    ``listed`` is None for an envelope that was deleted.
    """
    known = find_condition(status.conditions, EVIDENCE_CONDITION)
    if known is None or known.reason != LATE_FILES_UNKNOWN:
        return None
    if listed is None:
        message = "It is not known whether eSignAnyWhere listed files late: the envelope was deleted there."
        return SideCondition(EVIDENCE_CONDITION, "Unknown", LATE_FILES_UNKNOWN, message)
    if looks_short(listed):
        return SideCondition(EVIDENCE_CONDITION, "Unknown", _PENDING, LOOKS_SHORT)
    message = "eSignAnyWhere was asked again, and lists no further file."
    return SideCondition(EVIDENCE_CONDITION, "True", "NoFilesListedLate", message)

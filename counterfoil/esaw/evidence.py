"""
Detect that evidence is missing in eSAW's list of the files of a finished envelope. Pure.

eSAW makes documents and audit trails after it has set the envelope's status, so its list may be short for a
while. Nothing in the list says that it is complete; this module finds the lists that are not.
"""

from collections.abc import Collection, Iterable, Sequence
from enum import Enum, auto
from typing import Final

import msgspec

from counterfoil.archives.manifest import EvidenceState, ManifestEvidence
from counterfoil.esaw.models import EnvelopeFile
from counterfoil.esaw.models_v5 import covers, v5_document_id
from counterfoil.resources import EnvelopeEventStatus, EvidenceSpec, FileKind, find_condition
from counterfoil.resources.envelopeevent import EVIDENCE_CONDITION
from counterfoil.resources.organization import (
    STATUSES_WITHOUT_EVIDENCE,
    AuditTrailPolicy,
    EnvelopeStatus,
)

_AUDIT_TRAILS = frozenset({FileKind.AUDIT_TRAIL, FileKind.AUDIT_TRAIL_XML})

LOOKS_SHORT = (
    "eSignAnyWhere lists no document of this envelope, or not every number. Envelopes that were not "
    "completed may have no others."
)
"""Message of the condition for a list that looks short."""


class MissingEvidence(Enum):
    """The evidence that a list lacks."""

    DOCUMENTS = auto()
    AUDIT_TRAIL = auto()


def missing_evidence(
    status: str, listed: Collection[EnvelopeFile], evidence: EvidenceSpec
) -> MissingEvidence | None:
    """
    Return the evidence that an envelope of this status, with these files, lacks; None: no known evidence.

    A Completed envelope has a document, and the numbers of its documents have no gap. If one document has a
    separate audit trail, each document needs one. An unknown status counts as Completed.
    """
    if status in STATUSES_WITHOUT_EVIDENCE:
        return None
    if looks_short(listed):
        return MissingEvidence.DOCUMENTS
    documents = [each for each in listed if each.kind is FileKind.DOCUMENT]
    kinds = {each.kind for each in listed}
    if _has_separate_trails(documents) and not all(_have_own_trail(documents)):
        kinds.discard(FileKind.AUDIT_TRAIL)
    return MissingEvidence.AUDIT_TRAIL if evidence.lacks_audit_trail(status, kinds) else None


def expected_evidence(
    status: str, listed: Collection[EnvelopeFile], evidence: EvidenceSpec
) -> tuple[ManifestEvidence, ...]:
    """
    Return the evidence of an envelope of this status for its manifest: the documents as a whole, then its
    audit trail, or the one of each document if eSAW makes separate ones.

    The evidence that ``missing_evidence`` finds missing is here ``Absent`` and required.
    """
    documents = [each for each in listed if each.kind is FileKind.DOCUMENT]
    is_finished = status not in STATUSES_WITHOUT_EVIDENCE
    others = f"An envelope with the status {status} may have none."
    found = f"eSignAnyWhere listed {len(documents)} of them, and not every number." if documents else _NONE
    pieces = [
        _piece(FileKind.DOCUMENT, not looks_short(listed), is_finished, found if is_finished else others)
    ]
    is_required = is_finished and evidence.audit_trail is AuditTrailPolicy.REQUIRED
    optional = "spec.evidence.auditTrail of the Organization is Optional." if is_finished else others
    why = _NONE if is_required else optional
    if not _has_separate_trails(documents):
        has_trail = any(each.kind is FileKind.AUDIT_TRAIL for each in listed)
        return (*pieces, _piece(FileKind.AUDIT_TRAIL, has_trail, is_required, why))
    for each, has_trail in zip(documents, _have_own_trail(documents), strict=True):
        piece = _piece(FileKind.AUDIT_TRAIL, has_trail, is_required, why)
        number, file_id = each.document_number, each.file_id
        pieces.append(msgspec.structs.replace(piece, document_number=number, document_file_id=file_id))
    return tuple(pieces)


_NONE: Final = "eSignAnyWhere listed none within spec.evidence.wait of the Organization."


def _piece(kind: FileKind, present: bool, required: bool, why: str) -> ManifestEvidence:
    state = EvidenceState.PRESENT if present else EvidenceState.ABSENT
    return ManifestEvidence(kind=kind, state=state, required=required, why="" if present else why)


def _has_separate_trails(documents: Collection[EnvelopeFile]) -> bool:
    return any(each.audit_trail_id is not None for each in documents)


def _have_own_trail(documents: Sequence[EnvelopeFile]) -> list[bool]:
    """Return for each document whether it has a separate audit trail. Two that name the same do not each
    have one."""
    named: set[str | None] = {None}
    found = []
    for each in documents:
        found.append(each.audit_trail_id not in named)
        named.add(each.audit_trail_id)
    return found


def looks_short(listed: Collection[EnvelopeFile]) -> bool:
    """Whether the list has no document, or its documents' numbers have a gap. For an envelope that was not
    completed this may be all that there is."""
    documents = [each for each in listed if each.kind is FileKind.DOCUMENT]
    return not documents or _has_gap(documents)


def may_list_more(status: EnvelopeEventStatus, evidence: EvidenceSpec) -> bool:
    """
    Whether eSAW's list of this envelope may still grow within ``evidence.wait``, according to the status.

    It may if an earlier list was short, or had fewer files. It may also if no list had a document or an audit
    trail: eSAW documents that only Completed envelopes have a trail, and lists some of others late.
    """
    was_short = find_condition(status.conditions, EVIDENCE_CONDITION) is not None
    kinds = {each.kind for each in status.documents}
    lacks_trail = evidence.audit_trail is AuditTrailPolicy.REQUIRED and FileKind.AUDIT_TRAIL not in kinds
    return was_short or lacks_trail or FileKind.DOCUMENT not in kinds


def recorded_gap(status: EnvelopeEventStatus, evidence: EvidenceSpec) -> MissingEvidence | None:
    """Return what the archived files lack according to the status: its condition, and their kinds."""
    found = find_condition(status.conditions, EVIDENCE_CONDITION)
    # In earlier versions the wait for a known file, which is archived, made the condition False as well.
    is_incomplete = found is not None and found.status == "False" and found.reason != "DocumentsPending"
    if found is not None and is_incomplete and found.reason == "DocumentsMissing":
        return MissingEvidence.DOCUMENTS
    envelope_status = status.envelope.status if status.envelope is not None else ""
    kinds = {each.kind for each in status.documents}
    if envelope_status not in STATUSES_WITHOUT_EVIDENCE and FileKind.DOCUMENT not in kinds:
        return MissingEvidence.DOCUMENTS
    lacks_trail = evidence.lacks_audit_trail(envelope_status, set() if is_incomplete else kinds)
    return MissingEvidence.AUDIT_TRAIL if lacks_trail else None


def has_same_files(status: EnvelopeEventStatus, listed: Collection[EnvelopeFile]) -> bool:
    """Whether the listed files are the archived ones, by id and kind."""
    return {(each.file_id, each.kind) for each in listed} == {
        (each.file_id, each.kind) for each in status.documents
    }


def lists_additional_files(status: EnvelopeEventStatus, listed: Collection[EnvelopeFile]) -> bool:
    """Whether a listed file is not among those of the status, by id and kind."""
    known = {(each.file_id, each.kind) for each in status.documents}
    return any((each.file_id, each.kind) not in known for each in listed)


def lacks_known_file(
    status: EnvelopeEventStatus,
    listed: Collection[EnvelopeFile],
    siblings: Iterable[EnvelopeEventStatus] = (),
) -> bool:
    """
    Whether the list lacks a file that an earlier list had, archived or not: such a list is short.

    The earlier lists are those of the event's ``status`` and of ``siblings``, the statuses of the envelope's
    other events. Only an expired envelope may have other files later, once it was restarted. So an outdated
    file does not count, and an expired envelope may list others in place of the known ones.
    """
    counted = [each for each in siblings if _is_expired(status) or not _is_expired(each)]
    # Equal lists of other events are one object (``SiblingCollector``), and there may be thousands of events.
    distinct = {(id(each.documents), _is_expired(each)): each for each in (status, *counted)}
    return any(_lacks_file_of(each, listed) for each in distinct.values())


def lacks_outdated_file(status: EnvelopeEventStatus, listed: Collection[EnvelopeFile]) -> bool:
    """Whether the list lacks a file that the envelope had before it expired and was restarted, other than its
    audit trail. It may have other files since, or be listed late."""
    ids = {each.file_id for each in listed}
    files = (each for each in status.documents if each.kind not in _AUDIT_TRAILS)
    return any(each.outdated and each.file_id not in ids for each in files)


def _lacks_file_of(status: EnvelopeEventStatus, listed: Collection[EnvelopeFile]) -> bool:
    ids, of_v5 = {each.file_id for each in listed}, any(_is_of_v5(each.file_id) for each in listed)
    known = [each for each in status.documents if not each.outdated]
    # Ids of v5 and of v6 are not comparable.
    comparable = [each for each in known if _is_of_v5(each.file_id) == of_v5]
    others = [each for each in known if _is_of_v5(each.file_id) != of_v5]
    is_short = any(each.file_id not in ids for each in comparable) or not covers(listed, others)
    return is_short and not (_is_expired(status) and lists_additional_files(status, listed))


def _is_of_v5(file_id: str) -> bool:
    return v5_document_id(file_id) is not None


def _is_expired(status: EnvelopeEventStatus) -> bool:
    return status.envelope is not None and status.envelope.status == EnvelopeStatus.EXPIRED


def _has_gap(documents: Collection[EnvelopeFile]) -> bool:
    """Whether a number from 1 to the highest is missing. eSAW may repeat numbers, or leave them out."""
    numbers = {each.document_number for each in documents if (each.document_number or 0) > 0}
    return max((each for each in numbers if each is not None), default=0) > len(numbers)

"""
Decide whether an envelope may be deleted in eSAW, and delete it. No other module can delete, and each
deletion needs a proof (rule 4, "delete last").

The proof is created from an event's status that the API server stores, never from a worker's memory: the
caller passes the resourceVersion under which ``Archived=True`` was persisted. The caller also passes the
files that eSAW lists at this moment, and the files that its run read in the archive: what the status does not
name, or the run did not verify, is not deleted. Only the phase Cleaning may import
this module.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import InitVar, dataclass
from datetime import datetime
from itertools import chain
from typing import Final, Self

from counterfoil.archives.proof import doubt, is_kept, missing_required_copies, unread_required_copies
from counterfoil.esaw.client import EsawUserClient
from counterfoil.esaw.errors import NotProven
from counterfoil.esaw.evidence import MissingEvidence, has_same_files, missing_evidence, recorded_gap
from counterfoil.esaw.models import EnvelopeFile, expect_no_result
from counterfoil.esaw.models_v5 import v5_document_id
from counterfoil.esaw.transport import EsawCall
from counterfoil.resources import (
    EnvelopeEventStatus,
    EnvelopeId,
    EvidenceSpec,
    FiledDocument,
    envelope_id,
    find_condition,
)
from counterfoil.resources.envelopeevent import Provisional
from counterfoil.resources.routes import CopySpec

_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_CONSTRUCTION_KEY: Final = object()


@dataclass(frozen=True)
class ProofOfArchive:
    """Every file of the envelope is verified in the archive, and the status records it. See
    ``from_status``."""

    envelope_id: EnvelopeId
    manifest: str
    """URI of the manifest."""
    archived_at: datetime
    resource_version: str
    """Version of the event whose status is the proof."""
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        if seal is not _CONSTRUCTION_KEY:
            raise NotProven("a proof is made from a stored status, not put together")

    @classmethod
    def from_status(
        cls,
        envelope: str,
        status: EnvelopeEventStatus,
        resource_version: str,
        *,
        listed: Collection[EnvelopeFile],
        verified: Collection[FiledDocument],
        evidence: EvidenceSpec,
        copies: Collection[CopySpec],
        verified_copies: Mapping[str, str],
    ) -> Self:
        """
        Return the proof that the status contains about the files that eSAW has ``listed`` just now and that
        this run has ``verified`` in the archive.

        ``copies`` are those that the Organization wants. ``verified_copies`` are those that this run read in
        their Archives: by the name of the Archive, the digest of the files (``proof.documents_digest``).

        Raises ``NotProven`` unless the condition Archived is True, the manifest has a location, and the files
        are exactly the listed and the verified ones. They must lack no evidence (``missing_evidence``), each
        needs its SHA-256, size and own location, and none may be ``provisional`` or in ``doubt``, or have
        ``other_content``. The status
        must prove each required copy, and this run must have read the same files there. Raises ``ValueError``
        when the envelope id is not a GUID.
        """
        identified = envelope_id(envelope)
        gaps = chain(
            _missing_proofs(status, resource_version),
            _missing_files(status, listed, evidence),
            _missing_copies(status, copies, verified_copies),
        )
        if tuple(verified) != status.documents:
            gaps = chain(gaps, ["a file was not verified in the archive in this run"])
        gap = next(gaps, None)
        archived = find_condition(status.conditions, "Archived")
        if gap or archived is None or status.archive is None or status.archive.manifest is None:
            raise NotProven(gap or "the archive is not named")
        return cls(
            identified,
            status.archive.manifest,
            archived.last_transition_time,
            resource_version,
            _CONSTRUCTION_KEY,
        )


async def delete(user: EsawUserClient, proof: ProofOfArchive) -> None:
    """
    Delete the envelope in eSAW. Raises an ``EsawError``, also for a web page or an error with a status of
    success.

    ``HttpStatusError`` 404 after an attempt whose answer was lost means that the attempt had worked.
    """
    call = EsawCall("delete", "POST", "envelope/delete", {"EnvelopeId": proof.envelope_id})
    await user.read(call, expect_no_result)


def is_listed_by_v5(listed: Collection[EnvelopeFile]) -> bool:
    """Whether the list is one of the API v5, which proves nothing."""
    return any(v5_document_id(each.file_id) is not None for each in listed)


def _missing_files(
    status: EnvelopeEventStatus, listed: Collection[EnvelopeFile], evidence: EvidenceSpec
) -> Iterator[str]:
    if not has_same_files(status, listed):
        yield "eSignAnyWhere lists other files than were archived"
    if is_listed_by_v5(listed):
        yield "only the API v5 lists the files, and nothing says that its list is complete"
    envelope_status = status.envelope.status if status.envelope is not None else ""
    missing = {recorded_gap(status, evidence), missing_evidence(envelope_status, listed, evidence)}
    if MissingEvidence.DOCUMENTS in missing:
        yield "a document is missing"
    if MissingEvidence.AUDIT_TRAIL in missing:
        yield "the audit trail is missing"


def _missing_proofs(status: EnvelopeEventStatus, resource_version: str) -> Iterator[str]:
    archived = find_condition(status.conditions, "Archived")
    if not resource_version:
        yield "the status was not persisted"
    if archived is None or archived.status != "True":
        yield "the condition Archived is not True"
    if status.archive is None or not status.archive.manifest:
        yield "the manifest has no location"
    if not status.documents:
        yield "there are no files"
    if not all(_is_filed(each) for each in status.documents):
        yield "a file has no SHA-256, size or location"
    if not is_kept(status):
        yield "the archive keeps no files"
    if len({each.location for each in status.documents}) < len(status.documents):
        yield "two files have the same location"
    marks = {each.provisional for each in status.documents}
    if Provisional.NO_MANIFEST in marks:
        yield "no manifest names the hash of a file"
    if any(each.other_content is not None for each in status.documents):
        yield "eSignAnyWhere sent other content of a file than is archived"
    if Provisional.IN_DOUBT in marks or doubt(status) is not None:
        yield "a file is unreadable or has a broken signature"


def _missing_copies(
    status: EnvelopeEventStatus, copies: Collection[CopySpec], verified: Mapping[str, str]
) -> Iterator[str]:
    for name in missing_required_copies(status, copies):
        yield f"the copy in Archive/{name} is not proved"
    if unread_required_copies(status, copies, verified):
        yield "a required copy was not verified in this run"


def _is_filed(document: FiledDocument) -> bool:
    has_size = document.size is not None and document.size >= 0
    return has_size and bool(document.location) and _SHA256.fullmatch(document.sha256 or "") is not None

"""
Envelopes of the API v5, read as those of v6. (Models of Namirial's swagger of v5, 2020-12)

v6 answers ERR0063 to some calls about an envelope that v5 made (Namirial, "Migrate REST API clients from v5
to v6"), and v5 has no end date. v5 has all facts in one answer. The ids of its files get the prefix ``v5:``,
since they are not ids of v6, and only v5 sends such a file.

Nothing says that v5 lists every file, so such a list proves nothing (``counterfoil.esaw.delete_with_proof``).
This module sends no requests.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Final, Protocol

import msgspec

from counterfoil.esaw.errors import V5ResponseInvalid
from counterfoil.esaw.models import (
    AuditTrail,
    EnvelopeResponse,
    EsawModel,
    FilesResponse,
    ListedDocument,
    ListedFile,
    ListedLegalDocument,
    bounded_metadata,
    decode,
    parse_time,
    refuse_long_texts,
)
from counterfoil.resources import EnvelopeStatus, FileKind

_PREFIX: Final = "v5:"

_STATUSES: Final = {
    "Started": EnvelopeStatus.ACTIVE,
    "InProgress": EnvelopeStatus.ACTIVE,
    "Completed": EnvelopeStatus.COMPLETED,
    "CompletedWithWarnings": EnvelopeStatus.COMPLETED,
    "Canceled": EnvelopeStatus.CANCELED,
    "Expired": EnvelopeStatus.EXPIRED,
    "Rejected": EnvelopeStatus.REJECTED,
}
"""Not Draft and Template, which are no sent envelopes, nor the statuses of a bulk."""

_PLAIN: Final = 40
"""Maximum characters of a status that a message repeats."""


class V5Attachment(EsawModel, frozen=True):
    """A file that a signer added to a document."""

    document_id: str | None = None
    name: str | None = None


class V5Document(EsawModel, frozen=True):
    """A finished document."""

    flow_document_id: str | None = None
    log_document_id: str | None = None
    """Its own audit trail."""
    doc_ref_number: int | None = None
    file_name: str | None = None
    attachments: tuple[V5Attachment, ...] | None = None


class V5Disclaimer(EsawModel, frozen=True):
    """A paper about a signer's certificate."""

    document_id: str | None = None
    disclaimer_type: str | None = None


class V5Step(EsawModel, frozen=True):
    """A step of one recipient."""

    id: str | None = None
    email: str | None = None
    signed_text: str | None = msgspec.field(name="SignedDate", default=None)
    disclaimer_documents: tuple[V5Disclaimer, ...] | None = None


class V5Part(EsawModel, frozen=True):
    """One envelope of a bulk; an envelope that is no bulk has exactly one."""

    log_document_id: str | None = None
    log_xml_document_id: str | None = None
    finished_documents: tuple[V5Document, ...] | None = None
    steps: tuple[V5Step, ...] | None = None


class V5Options(EsawModel, frozen=True):
    """The options of an envelope, of which only name and metadata concern us."""

    name: str | None = None
    metadata: str | None = msgspec.field(name="MetaDataXml", default=None)


class V5Answer(EsawModel, frozen=True, kw_only=True):
    """``GET v5/envelope/{id}``."""

    id: str
    status: str | None
    sent_text: str | None = msgspec.field(name="SendDate", default=None)
    bulks: tuple[V5Part, ...] | None = None
    basic_options: V5Options | None = None


class V5EnvelopeResponse(EnvelopeResponse, frozen=True, kw_only=True):
    """An envelope of v5 as one of v6. Only ``decode_v5`` makes it."""

    answer: V5Answer
    """Without its metadata."""
    metadata_utf8: bytes | None
    """A run keeps it; as a text, one emoji would make each character four bytes."""

    @property
    def metadata(self) -> str | None:
        """Return the metadata."""
        encoded = self.metadata_utf8
        return encoded.decode(errors="surrogatepass") if encoded is not None else None

    @property
    def finished_date(self) -> datetime | None:
        """Return when the last signer finished, in UTC; None when v5 doesn't say."""
        steps = self._part().steps or ()
        dates = (parse_time(each.signed_text) for each in steps)
        return max((each for each in dates if each is not None), default=None)

    def listed(self) -> FilesResponse:
        """Return the files as v5 lists them. Raises ``V5ResponseInvalid`` for a bulk."""
        part = self._part()
        papers = (
            ListedLegalDocument(
                file_id=_prefixed(paper.document_id),
                file_name=f"{paper.disclaimer_type or 'disclaimer'}.pdf",
                activity_id=step.id,
                email=step.email,
            )
            for step in part.steps or ()
            for paper in step.disclaimer_documents or ()
        )
        return FilesResponse(
            documents=tuple(_document(each) for each in part.finished_documents or ()),
            audit_trail=AuditTrail(
                file_id=_prefixed(part.log_document_id), xml_file_id=_prefixed(part.log_xml_document_id)
            ),
            legal_documents=tuple(papers),
        )

    def _part(self) -> V5Part:
        parts = self.answer.bulks or ()
        if len(parts) != 1:
            raise V5ResponseInvalid("envelope_v5", f"it has {len(parts)} envelopes, not one")
        return parts[0]


def decode_v5(operation: str, body: bytes) -> V5EnvelopeResponse:
    """Read an envelope of v5. Raises ``ResponseInvalid``."""
    answer = decode(V5Answer, operation, body)
    if answer.status not in _STATUSES:
        text = answer.status or ""
        status = f"`{text}`" if text.isalnum() and text.isascii() and len(text) <= _PLAIN else "no plain word"
        raise V5ResponseInvalid(operation, f"its Status is {status}, which no sent envelope has")
    options = answer.basic_options or V5Options()
    metadata = bounded_metadata(options.metadata)
    answer = msgspec.structs.replace(answer, basic_options=None)
    found = V5EnvelopeResponse(
        id=answer.id,
        status=_STATUSES[answer.status or ""],
        name_text=options.name,
        sent_text=answer.sent_text,
        answer=answer,
        metadata_utf8=metadata.encode(errors="surrogatepass") if metadata is not None else None,
    )
    refuse_long_texts(operation, found)
    return found


def v5_document_id(file_id: str) -> str | None:
    """Return v5's own id of a file that v5 listed; None for a file of v6."""
    return file_id.removeprefix(_PREFIX) if file_id.startswith(_PREFIX) else None


class _OfKind(Protocol):
    @property
    def kind(self) -> FileKind: ...


def covers(listed: Collection[_OfKind], others: Collection[_OfKind]) -> bool:
    """Whether a list has at least as many files of each kind as another list; the ids are not comparable."""
    return Counter(each.kind for each in listed) >= Counter(each.kind for each in others)


def _document(source: V5Document) -> ListedDocument:
    return ListedDocument(
        file_id=_prefixed(source.flow_document_id),
        file_name=source.file_name,
        document_number=source.doc_ref_number,
        audit_trail_file_id=_prefixed(source.log_document_id),
        attachments=tuple(_attachments(source)),
    )


def _attachments(source: V5Document) -> Iterator[ListedFile]:
    for each in source.attachments or ():
        yield ListedFile(file_id=_prefixed(each.document_id), file_name=each.name)


def _prefixed(document_id: str | None) -> str | None:
    return f"{_PREFIX}{document_id}" if document_id else None

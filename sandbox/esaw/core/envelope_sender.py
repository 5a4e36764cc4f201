"""
Sending: a draft becomes an envelope, a bulk draft several; sent by a client of REST or by a person.

Papers are made of the uploads first, so that a draft whose papers cannot be made stays a draft. From then on
nothing waits: of two who send the same draft at once, one is too late.
"""

from collections.abc import Sequence

from sandbox.esaw.core.documents import NotAPdf, SignedPdf, SignedUpload, count_pages
from sandbox.esaw.core.errors import ErrorCode, RequestRefused
from sandbox.esaw.core.lifecycle import Lifecycle
from sandbox.esaw.core.model import Document, Draft, FileKind, StoredEnvelope, StoredFile, UploadedFile
from sandbox.esaw.core.store import EsawStore


class EnvelopeSender:
    """Sends the drafts of one store."""

    def __init__(self, store: EsawStore, lifecycle: Lifecycle) -> None:
        self._store = store
        self._lifecycle = lifecycle

    def send(self, draft: Draft) -> list[StoredEnvelope]:
        """The envelopes that the draft becomes: one, or one for each recipient of a bulk. Raises EsawError
        with ERR0005 for papers that are no PDFs."""
        pages = [_page_count(upload) for upload in draft.uploads]
        if draft.bulk_recipients:
            papers = [self._finished_documents(draft, pages) for _ in draft.bulk_recipients]
            envelopes = self._lifecycle.send_bulk(draft, papers)
        else:
            envelopes = [self._lifecycle.send(draft, self._finished_documents(draft, pages))]
        for upload in draft.uploads:
            self._store.uploads.pop(upload.id, None)
        if self._store.drafts.pop(draft.id, None):
            for envelope in envelopes:
                envelope.draft_id = draft.id
        return envelopes

    def _finished_documents(self, draft: Draft, pages: Sequence[int | None]) -> list[Document]:
        return [
            _finished_document(self._store.new_id(), upload, count)
            for upload, count in zip(draft.uploads, pages, strict=True)
        ]


def _page_count(upload: UploadedFile) -> int | None:
    """The pages of an upload; None for one that is no PDF, and is converted."""
    if not upload.data.startswith(b"%PDF") and not upload.name.lower().endswith(".pdf"):
        return None
    try:
        return count_pages(upload.data)
    except NotAPdf as exc:
        raise RequestRefused(ErrorCode.PDF_CONVERSION_FAILED) from exc


def _finished_document(file_id: str, upload: UploadedFile, pages: int | None) -> Document:
    """The document that an upload becomes: a PDF is signed as it is, anything else was converted to one
    page."""
    if pages is None:
        name = f"{upload.name.rpartition('.')[0] or upload.name}.pdf"
        converted = SignedPdf(title="Converted", pages=1, mark=bytes.fromhex(file_id.replace("-", "")) * 2)
        return Document(
            StoredFile(file_id, "", FileKind.DOCUMENT, name, converted, "application/pdf"), pages=1
        )
    signed = SignedUpload(upload.data)
    return Document(
        StoredFile(file_id, "", FileKind.DOCUMENT, upload.name, signed, "application/pdf"), pages=pages
    )

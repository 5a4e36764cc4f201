"""
Sending: a draft becomes an envelope, sent by a client of REST or by a person.

Papers are made of the uploads first, so that a draft whose papers cannot be made stays a draft. From then on
nothing waits: of two who send the same draft at once, one is too late.
"""

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

    def send(self, draft: Draft) -> StoredEnvelope:
        """The envelope that the draft becomes. Raises EsawError with ERR0005 for papers that are no PDFs."""
        finished_documents = [_finished_document(self._store.new_id(), upload) for upload in draft.uploads]
        for upload in draft.uploads:
            self._store.uploads.pop(upload.id, None)
        envelope = self._lifecycle.send(draft, finished_documents)
        if self._store.drafts.pop(draft.id, None):
            envelope.draft_id = draft.id
        return envelope


def _finished_document(file_id: str, upload: UploadedFile) -> Document:
    """The document that an upload becomes: a PDF is signed as it is, anything else was converted to one
    page."""
    if not upload.data.startswith(b"%PDF") and not upload.name.lower().endswith(".pdf"):
        name = f"{upload.name.rpartition('.')[0] or upload.name}.pdf"
        converted = SignedPdf(title="Converted", pages=1, mark=bytes.fromhex(file_id.replace("-", "")) * 2)
        return Document(
            StoredFile(file_id, "", FileKind.DOCUMENT, name, converted, "application/pdf"), pages=1
        )
    try:
        pages = count_pages(upload.data)
    except NotAPdf as exc:
        raise RequestRefused(ErrorCode.PDF_CONVERSION_FAILED) from exc
    signed = SignedUpload(upload.data)
    return Document(
        StoredFile(file_id, "", FileKind.DOCUMENT, upload.name, signed, "application/pdf"), pages=pages
    )

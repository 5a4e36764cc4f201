"""
Sending: a draft goes out as an envelope, whoever pressed the button, a client of REST or a person.

Papers are made of the uploads first, so that a draft whose papers cannot be made stays a draft. From then on nothing waits:
of two who send the same draft at once, one is too late.
"""

from sandbox.esaw.documents import NotAPdf, SignedPdf, SignedUpload, count_pages
from sandbox.esaw.errors import EsawError, Refusal
from sandbox.esaw.estate import Estate
from sandbox.esaw.lifecycle import Lifecycle
from sandbox.esaw.model import Document, Draft, Envelope, FileKind, StoredFile, Upload


class Sending:
    """Sends the drafts of one estate."""

    def __init__(self, estate: Estate, lifecycle: Lifecycle) -> None:
        self._estate = estate
        self._lifecycle = lifecycle

    def send(self, draft: Draft) -> Envelope:
        """The envelope that the draft becomes. Raises EsawError with ERR0005 for papers that are no PDFs."""
        papers = [_paper(self._estate.new_id(), upload) for upload in draft.uploads]
        for upload in draft.uploads:
            self._estate.uploads.pop(upload.id, None)
        envelope = self._lifecycle.send(draft, papers)
        if self._estate.drafts.pop(draft.id, None):
            envelope.draft_id = draft.id
        return envelope


def _paper(file_id: str, upload: Upload) -> Document:
    """The document that an upload becomes: a PDF is signed as it is, anything else was converted to one page."""
    if not upload.data.startswith(b"%PDF") and not upload.name.lower().endswith(".pdf"):
        name = f"{upload.name.rpartition('.')[0] or upload.name}.pdf"
        converted = SignedPdf(title="Converted", pages=1, mark=bytes.fromhex(file_id.replace("-", "")) * 2)
        return Document(
            StoredFile(file_id, "", FileKind.DOCUMENT, name, converted, "application/pdf"), pages=1
        )
    try:
        pages = count_pages(upload.data)
    except NotAPdf as exc:
        raise EsawError(Refusal.PDF_CONVERSION_FAILED) from exc
    signed = SignedUpload(upload.data)
    return Document(
        StoredFile(file_id, "", FileKind.DOCUMENT, upload.name, signed, "application/pdf"), pages=pages
    )

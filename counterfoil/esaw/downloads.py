"""
Whether a download can be the file that was asked for: a proxy may answer 200 for what it could not fetch.

The beginning of a file is checked before its first byte is passed on. What eSAW makes itself is never empty
and never a web page or a fault; what is named .pdf is a PDF; an error body of eSAW is an error under any
status. Attachments are uploads of signers, so any content passes if eSAW named it (``Content-Disposition``).

This module decides about the content of no valid file: an unreadable PDF is archived as it is.
"""

import re
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Final

from counterfoil.esaw.errors import MAX_NAME_LENGTH, ResponseInvalid
from counterfoil.esaw.limits import KIB
from counterfoil.esaw.models import refuse_error_body
from counterfoil.esaw.transport import FileDownload
from counterfoil.resources import FileKind

HEAD_BYTES: Final = 64 * KIB
"""Bytes that are held back for the check; an error body of eSAW is shorter."""

PDF_HEAD_BYTES: Final = KIB
"""Bytes in which the header of a PDF is, as readers accept it. (PDF 1.7 Reference, implementation note 13)"""

_SOAP: Final = b"soap"
_ROOT: Final = re.compile(
    rb"(?:\xef\xbb\xbf)?(?>(?>\s+|<\?.*?\?>|<!--.*?-->)*)<(?:!doctype\s+|[\w.-]+:)?([\w.-]+)",
    re.DOTALL | re.IGNORECASE,
)
"""The name of the first element. Atomic groups: the sender of a file chooses its bytes (rule 12)."""
_NO_FILE_ROOTS: Final = frozenset({b"html", b"fault", b"error", b"errors", b"problem"})


@asynccontextmanager
async def checked_download(
    download: AbstractAsyncContextManager[FileDownload], kind: FileKind, file_name: str
) -> AsyncIterator[FileDownload]:
    """Open a download whose chunks raise ``ResponseInvalid`` before the first one if it can't be this
    file."""
    async with download as file:
        is_made_by_esaw = kind is not FileKind.ATTACHMENT
        check = partial(
            _refuse_other_content, kind=kind, name=file_name, is_strict=is_made_by_esaw or not file.is_named
        )
        async with aclosing(_checked_chunks(file.chunks, check)) as chunks:
            yield replace(file, chunks=chunks)


async def _checked_chunks(
    chunks: AsyncIterable[bytes], check: Callable[[bytes], None]
) -> AsyncGenerator[bytes, None]:
    held, size = [], 0
    async for chunk in chunks:
        if size >= HEAD_BYTES:
            yield chunk
            continue
        held.append(chunk)
        size += len(chunk)
        if size >= HEAD_BYTES:
            head = b"".join(held)
            check(head)
            yield head
    if size < HEAD_BYTES:
        head = b"".join(held)
        check(head)
        if head:
            yield head


def _refuse_other_content(head: bytes, *, kind: FileKind, name: str, is_strict: bool) -> None:
    """Raise ``ResponseInvalid`` if a file that begins so (or is so, if it is short) can't be the one asked
    for."""
    refuse_error_body("download", head)
    if fault := _fault(head, kind, name, is_strict=is_strict):
        subject = f"`{name[:MAX_NAME_LENGTH]}`" if name else f"a file of kind {kind}"
        raise ResponseInvalid("download", f"{subject} {fault}")


def _fault(head: bytes, kind: FileKind, name: str, *, is_strict: bool) -> str:
    if is_strict and not head:
        return "is empty"
    if is_strict and _is_page_or_fault(head):
        return "is a web page or a fault"
    if _is_named_pdf(kind, name) and b"%PDF-" not in head[:PDF_HEAD_BYTES]:
        return "is no PDF"
    if kind is FileKind.AUDIT_TRAIL_XML and _ROOT.match(head) is None:
        return "is no XML"
    return ""


def _is_named_pdf(kind: FileKind, name: str) -> bool:
    # Without a name a document gets one that ends in .pdf.
    return name.lower().endswith(".pdf") or (not name and kind is FileKind.DOCUMENT)


def _is_page_or_fault(head: bytes) -> bool:
    root = _ROOT.match(head)
    if root is None:
        return False
    name = root.group(1).lower()
    return name in _NO_FILE_ROOTS or (name == b"envelope" and _SOAP in head.lower())

"""
Whether a download can be the file that was asked for: a proxy may answer 200 for what it could not fetch.

The beginning of a file is checked before its first byte is passed on. What eSAW makes itself is a PDF, or for
the audit trail's data an XML that is no web page and no fault and whose root is closed at the end; an error
body of eSAW is an error under any status. Attachments are uploads of signers, so any content under any name
passes if eSAW named it (``Content-Disposition``).

This module decides about the content of no valid file: an unreadable PDF is archived as it is.
"""

import codecs
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

TAIL_BYTES: Final = 4 * KIB
"""Bytes at the end of an XML in which its root is closed."""

_PDF_KINDS: Final = frozenset({FileKind.DOCUMENT, FileKind.AUDIT_TRAIL, FileKind.LEGAL_DOCUMENT})
_P7M_STARTS: Final = (b"\x30", b"MI", b"-----BEGIN")
"""Starts of a signed message (activity SignAsP7M): DER, base64 and PEM. (RFC 5652, RFC 7468)"""
_NAME: Final = r"[^\s<>/:!?]+"
_BESIDES: Final = r"(?>(?>\s+|<\?.*?\?>|<!--.*?-->)*)"
_ROOT: Final = re.compile(
    rf"(?:\xef\xbb\xbf|\ufeff)?{_BESIDES}<(?:!doctype\s+)?(?:{_NAME}:)?({_NAME})",
    re.ASCII | re.DOTALL | re.IGNORECASE,
)
"""The name of the first element. Atomic groups: the sender of a file chooses its bytes (rule 12)."""
_END: Final = re.compile(
    rf"<(?:/(?:{_NAME}:)?({_NAME})\s*|(?:{_NAME}:)?({_NAME})(?:\s[^<]*)?/)>{_BESIDES}\Z", re.ASCII | re.DOTALL
)
"""The last end tag, or the only tag of an empty root."""
_NO_FILE_ROOTS: Final = frozenset({"html", "fault", "error", "errors", "problem"})


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
            if kind is not FileKind.AUDIT_TRAIL_XML:
                yield replace(file, chunks=chunks)
                return
            async with aclosing(_whole_xml(chunks, file_name)) as whole:
                yield replace(file, chunks=whole)


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


async def _whole_xml(chunks: AsyncIterable[bytes], name: str) -> AsyncGenerator[bytes, None]:
    """Pass an XML on; raise ``ResponseInvalid`` after it if its end does not close its root."""
    head = tail = b""
    async for chunk in chunks:
        head = head or chunk
        tail = (tail + chunk)[-TAIL_BYTES:]
        yield chunk
    root, end = _ROOT.match(_text(head, head)), _END.search(_text(tail, head))
    if root is None or end is None or root.group(1) not in end.groups():
        raise ResponseInvalid("download", f"`{name[:MAX_NAME_LENGTH]}` is cut: its root is not closed")


def _refuse_other_content(head: bytes, *, kind: FileKind, name: str, is_strict: bool) -> None:
    """Raise ``ResponseInvalid`` if a file that begins so (or is so, if it is short) can't be the one asked
    for."""
    if not is_strict:
        return
    refuse_error_body("download", head)
    if fault := _fault(head, kind, name):
        subject = f"`{name[:MAX_NAME_LENGTH]}`" if name else f"a file of kind {kind}"
        raise ResponseInvalid("download", f"{subject} {fault}")


def _fault(head: bytes, kind: FileKind, name: str) -> str:
    if not head:
        return "is empty"
    root = _ROOT.match(_text(head, head))
    if root is not None and _is_page_or_fault(root.group(1).lower(), head):
        return "is a web page or a fault"
    if kind is FileKind.DOCUMENT and name.lower().endswith(".p7m"):
        return "" if head.startswith(_P7M_STARTS) else "is no PKCS #7 message"
    is_pdf = kind in _PDF_KINDS or (kind is FileKind.ATTACHMENT and name.lower().endswith(".pdf"))
    if is_pdf and b"%PDF-" not in head[:PDF_HEAD_BYTES]:
        return "is no PDF"
    if kind is FileKind.AUDIT_TRAIL_XML and root is None:
        return "is no XML"
    return ""


def _is_page_or_fault(root: str, head: bytes) -> bool:
    return root in _NO_FILE_ROOTS or (root == "envelope" and "soap" in _text(head, head).lower())


def _text(content: bytes, head: bytes) -> str:
    """Decode a piece of a file that begins so; other encodings than UTF-16 have the markup in ASCII."""
    encoding = "latin-1"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16-le" if head.startswith(codecs.BOM_UTF16_LE) else "utf-16-be"
    return content.decode(encoding, errors="replace")

"""Whether what was downloaded can be the file that was asked for."""

import codecs
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from counterfoil.esaw import FileDownload, ResponseInvalid
from counterfoil.esaw.downloads import checked_download
from counterfoil.resources import FileKind

PDF = b"%PDF-1.7\n..."
XML = b'<?xml version="1.0" encoding="utf-8"?>\n<auditTrail/>'
LONG_XML = b'<?xml version="1.0"?>\n<trail:log>' + b"<entry>Anna</entry>" * 6_000 + b"</trail:log>"
PAGE = b"<!DOCTYPE html><html><body>Sign in</body></html>"
FAULT = b'<?xml version="1.0"?>\n<!-- proxy -->\n<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"/>'
ERROR = b'{"ErrorId":"ERR0001","Message":"ERR0001 - A general error occurred."}'


@asynccontextmanager
async def arriving(content: bytes, *, is_named: bool, chunk: int) -> AsyncIterator[FileDownload]:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(content), chunk):
            yield content[start : start + chunk]

    yield FileDownload(len(content), "application/octet-stream", chunks(), is_named=is_named)


async def read(content: bytes, kind: FileKind, name: str, *, is_named: bool = True, chunk: int = 7) -> bytes:
    async with checked_download(arriving(content, is_named=is_named, chunk=chunk), kind, name) as file:
        assert file.size == len(content)
        return b"".join([each async for each in file.chunks])


@pytest.mark.parametrize(
    ("content", "kind", "name"),
    [
        (PDF, FileKind.DOCUMENT, "Contract.PDF"),
        (b"\xef\xbb\xbf\n" * 200 + PDF, FileKind.DOCUMENT, "contract.pdf"),
        (PDF + bytes(300_000), FileKind.DOCUMENT, "contract.pdf"),
        (PDF, FileKind.AUDIT_TRAIL, "audit-trail.pdf"),
        (XML, FileKind.AUDIT_TRAIL_XML, "audit-trail.xml"),
        (b"\xef\xbb\xbf" + XML, FileKind.AUDIT_TRAIL_XML, "audit-trail.xml"),
        (XML + b"\n<!-- the end -->\n", FileKind.AUDIT_TRAIL_XML, "audit-trail.xml"),
        (LONG_XML, FileKind.AUDIT_TRAIL_XML, "audit-trail.xml"),
        (LONG_XML.decode().encode("utf-16"), FileKind.AUDIT_TRAIL_XML, "audit-trail.xml"),
        (codecs.BOM_UTF16_BE + XML.decode().encode("utf-16-be"), FileKind.AUDIT_TRAIL_XML, "audit-trail.xml"),
        (PDF, FileKind.DOCUMENT, "Contract"),
        (PDF, FileKind.LEGAL_DOCUMENT, ""),
        (b"\x30\x82\x01\x00", FileKind.DOCUMENT, "contract.pdf.p7m"),
        (b"MIIBAA", FileKind.DOCUMENT, "contract.pdf.P7M"),
        (PDF, FileKind.ATTACHMENT, "passport.pdf"),
        (b"\xff\xd8\xff\xe0 JFIF", FileKind.ATTACHMENT, "passport.pdf"),
        (ERROR, FileKind.ATTACHMENT, "data.json"),
        (b"", FileKind.ATTACHMENT, "empty.txt"),
        (PAGE, FileKind.ATTACHMENT, "page.html"),
        (FAULT, FileKind.ATTACHMENT, "fault.xml"),
    ],
)
async def test_a_file_that_can_be_what_was_asked_for_passes_unchanged(
    content: bytes, kind: FileKind, name: str
) -> None:
    assert await read(content, kind, name) == content


@pytest.mark.parametrize(
    ("content", "kind", "name", "words"),
    [
        (b"", FileKind.DOCUMENT, "contract.p7m", "`contract.p7m` is empty"),
        (b"", FileKind.LEGAL_DOCUMENT, "certificate", "`certificate` is empty"),
        (b"", FileKind.AUDIT_TRAIL_XML, "audit-trail.xml", "`audit-trail.xml` is empty"),
        (b"upstream connect error", FileKind.DOCUMENT, "contract.pdf", "`contract.pdf` is no PDF"),
        (bytes(1020) + PDF, FileKind.DOCUMENT, "contract.pdf", "`contract.pdf` is no PDF"),
        (b"upstream connect error", FileKind.DOCUMENT, "", "a file of kind Document is no PDF"),
        (b"upstream connect error", FileKind.DOCUMENT, "Contract", "`Contract` is no PDF"),
        (b"upstream connect error", FileKind.LEGAL_DOCUMENT, "", "a file of kind LegalDocument is no PDF"),
        (b"upstream connect error", FileKind.AUDIT_TRAIL, "trail", "`trail` is no PDF"),
        (b"no trail", FileKind.AUDIT_TRAIL_XML, "audit-trail.xml", "`audit-trail.xml` is no XML"),
        (FAULT, FileKind.AUDIT_TRAIL_XML, "audit-trail.xml", "`audit-trail.xml` is a web page or a fault"),
        (b"no message", FileKind.DOCUMENT, "contract.p7m", "`contract.p7m` is no PKCS #7 message"),
        (PAGE, FileKind.DOCUMENT, "contract.p7m", "`contract.p7m` is a web page or a fault"),
        (ERROR, FileKind.DOCUMENT, "contract.p7m", "it is the error ERR0001"),
        (PAGE.decode().encode("utf-16"), FileKind.AUDIT_TRAIL_XML, "trail.xml", "is a web page or a fault"),
    ],
)
async def test_what_cannot_be_the_file_is_refused_before_its_first_byte_is_given(
    content: bytes, kind: FileKind, name: str, words: str
) -> None:
    with pytest.raises(ResponseInvalid, match=words):
        await read(content, kind, name)


@pytest.mark.parametrize("content", [LONG_XML[:-9], LONG_XML[:-1], LONG_XML + b"<", LONG_XML + b"error"])
async def test_an_xml_whose_end_does_not_close_its_root_is_refused_at_its_end(content: bytes) -> None:
    with pytest.raises(ResponseInvalid, match="its root is not closed"):
        await read(content, FileKind.AUDIT_TRAIL_XML, "audit-trail.xml")


@pytest.mark.parametrize("content", [b"", PAGE, PAGE.decode().encode("utf-16"), FAULT, ERROR])
async def test_an_attachment_that_esaw_did_not_name_is_held_to_the_same(content: bytes) -> None:
    with pytest.raises(ResponseInvalid):
        await read(content, FileKind.ATTACHMENT, "note.txt", is_named=False)
    with pytest.raises(ResponseInvalid, match=r"`passport\.pdf` is no PDF"):
        await read(b"no passport", FileKind.ATTACHMENT, "passport.pdf", is_named=False)


async def test_a_file_that_was_made_to_be_slow_to_look_at_is_looked_at_at_once() -> None:
    slow = b"<?a?>" * 10_000 + b"<?"
    with pytest.raises(ResponseInvalid, match="no XML"):
        await read(slow, FileKind.AUDIT_TRAIL_XML, "audit-trail.xml", chunk=65536)


async def test_a_name_in_a_message_is_bounded() -> None:
    with pytest.raises(ResponseInvalid) as refused:
        await read(b"", FileKind.DOCUMENT, "ä" * 4000)
    assert len(str(refused.value)) < 200

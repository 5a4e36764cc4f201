"""The check of a download: eSAW, or a proxy before it, may send anything in place of a file."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from counterfoil.esaw.downloads import HEAD_BYTES, checked_download
from counterfoil.esaw.errors import ResponseInvalid
from counterfoil.esaw.transport import FileDownload
from counterfoil.resources import FileKind
from verification.fuzz.target import Check, Target, expect, joined, parts_of, result_of, text_of

KINDS = list(FileKind)

MAX_CHUNKS: Final = 64
"""Maximum number of chunks of a file: more of them take time, and reach no other code."""

LONG: Final = (HEAD_BYTES - 1, HEAD_BYTES, HEAD_BYTES + 1, 2 * HEAD_BYTES)
"""Lengths of long files, around the head that is held back for the check."""


@asynccontextmanager
async def _download(content: bytes, size: int, *, is_named: bool) -> AsyncIterator[FileDownload]:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(content), size):
            yield content[start : start + size]

    yield FileDownload(len(content), "application/octet-stream", chunks(), is_named=is_named)


async def _read(content: bytes, kind: FileKind, name: str, size: int, *, is_named: bool) -> bytes:
    async with checked_download(_download(content, size, is_named=is_named), kind, name) as file:
        return b"".join([chunk async for chunk in file.chunks])


def _prepare() -> Check:
    def check(data: bytes) -> None:
        choice, name, content = parts_of(data, 3)
        number = sum(choice)
        if number % 16 == 15 and content:
            content = _extended(content, LONG[number // 16 % len(LONG)])
        kind, is_named = KINDS[number % len(KINDS)], number % 2 == 0
        size = max(1 + number * 97 % HEAD_BYTES, len(content) // MAX_CHUNKS)
        passed = result_of(_read(content, kind, text_of(name), size, is_named=is_named))
        expect(passed == content, "a file passes unchanged")

    return check


def _extended(content: bytes, length: int) -> bytes:
    """Return a file of this length that begins with the content, and ends with it."""
    repeated = content * (length // len(content) + 1)
    return repeated[: length - len(content)] + content


TARGET = Target(
    subject="contents of downloads",
    documented=(ResponseInvalid,),
    seeds=(
        joined(b"\x00", "a.pdf", "%PDF-1.7\n%%EOF"),
        joined(b"\x03", "a.xml", "<?xml version='1.0'?><!-- c --><t:trail xmlns:t='u'><a/></t:trail>"),
        joined(b"\x08", "a.xml", "<trail/><!-- c --> <?p?>"),
        joined(b"\x0f", "a.bin", "<html><body>x</body></html>"),
        joined(b"\x3f", "a.xml", "<a/>"),
        joined(b"\x05", "a.p7m", "MIIB"),
        joined(b"\x02", "b.pdf", '{"ErrorId": "ERR0008"}'),
        joined(b"\x03", "a.xml", "\ufeff<a/>".encode("utf-16-le")),
    ),
    words=(*(b"<? ?> <!-- --> <!DOCTYPE </ /> %PDF- Envelope soap \xff\xfe \xef\xbb\xbf").split(b" "),),
    prepare=_prepare,
)

"""The check of a download: eSAW, or a proxy before it, may send anything in place of a file."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from counterfoil.esaw.downloads import checked_download
from counterfoil.esaw.errors import ResponseInvalid
from counterfoil.esaw.transport import FileDownload
from counterfoil.resources import FileKind
from fuzz.target import Check, Target, expect, joined, parts_of, text_of

KINDS = list(FileKind)


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
    loop = asyncio.new_event_loop()

    def check(data: bytes) -> None:
        choice, name, content = parts_of(data, 3)
        number = sum(choice)
        # Sometimes more than the head that is held back for the check.
        content *= 1 + 2000 * (number % 16 == 15)
        kind, is_named = KINDS[number % len(KINDS)], number % 2 == 0
        passed = loop.run_until_complete(
            _read(content, kind, text_of(name), 1 + number * 97, is_named=is_named)
        )
        expect(passed == content, "a file passes unchanged")

    return check


TARGET = Target(
    subject="contents of downloads",
    documented=(ResponseInvalid,),
    seeds=(
        joined(b"\x00", "a.pdf", "%PDF-1.7\n%%EOF"),
        joined(b"\x03", "a.xml", "<?xml version='1.0'?><!-- c --><t:trail xmlns:t='u'><a/></t:trail>"),
        joined(b"\x08", "a.xml", "<trail/><!-- c --> <?p?>"),
        joined(b"\x0f", "a.bin", "<html><body>x</body></html>"),
        joined(b"\x05", "a.p7m", "MIIB"),
        joined(b"\x02", "b.pdf", '{"ErrorId": "ERR0008"}'),
        joined(b"\x03", "a.xml", "\ufeff<a/>".encode("utf-16-le")),
    ),
    words=(*(b"<? ?> <!-- --> <!DOCTYPE </ /> %PDF- Envelope soap \xff\xfe \xef\xbb\xbf").split(b" "),),
    prepare=_prepare,
)

"""
Archives of the custom kind ``nulltest``: take every file, keep none. For load tests of eSAW, controller and
network.

A file's size and SHA-256 are computed in transit and reported as the server's own, as ``verify: Checksum``
allows. That proves nothing about storage: every location begins with ``discarded:``, and no envelope with
such a location is deleted in eSAW. After a restart, or beyond ``MAX_FILES``, a file is unknown and is sent
again.
"""

from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from typing import ClassVar
from urllib.parse import quote

from counterfoil.archives.backend import ChecksumReported, FileNotReturned, StoredEntry, segments
from counterfoil.archives.errors import SettingsInvalid
from counterfoil.archives.readback import hash_stream
from counterfoil.resources.archive import ArchiveSpec, VerifyMode
from counterfoil.resources.archive_kinds import DISCARDED_SCHEME

MAX_FILES = 10_000
"""Maximum number of files whose checksums are remembered; a file is asked for right after it was sent."""


async def open_nulltest(name: str, spec: ArchiveSpec, credentials: Mapping[str, bytes]) -> "NullTestBackend":
    """Open the archive ``name``. Raises ``SettingsInvalid`` without ``verify: Checksum``."""
    if spec.verify is not VerifyMode.CHECKSUM:
        raise SettingsInvalid(
            f"Archive/{name}: kind `nulltest` keeps no files, so none can be read back. Set spec.verify to "
            "Checksum and spec.signatures to Ignore."
        )
    return NullTestBackend()


class NullTestBackend:
    """An archive that reads every file to its end and forgets it."""

    kind: ClassVar[str] = "nulltest"
    lists_files = False

    def __init__(self) -> None:
        self._checksums: OrderedDict[str, tuple[int, str]] = OrderedDict()

    def location(self, name: str) -> str:
        """Return a URI that says that no file is there."""
        return DISCARDED_SCHEME + quote("/".join(segments(name)), safe="/!$&'()*+,;=:@")

    async def entries(self, folder: str) -> list[StoredEntry]:
        """Return no files."""
        return []

    async def put(
        self, name: str, chunks: AsyncIterable[bytes], *, tags: Mapping[str, str], content_type: str | None
    ) -> None:
        """Read all chunks and remember their number of bytes and SHA-256."""
        segments(name)
        self._checksums[name] = await hash_stream(chunks)
        self._checksums.move_to_end(name)
        if len(self._checksums) > MAX_FILES:
            self._checksums.popitem(last=False)

    async def read(self, name: str) -> AsyncGenerator[bytes, None]:
        """Raise ``ChecksumReported`` for a file that was sent, ``FileNotReturned`` for any other."""
        if name not in self._checksums:
            raise FileNotReturned
        raise ChecksumReported(*self._checksums[name])
        yield b""  # type: ignore[unreachable]  # makes this method a generator

    async def discard(self, name: str) -> None:
        """Forget the checksum."""
        self._checksums.pop(name, None)

    async def probe(self) -> None:
        """There is no server that could fail."""

    async def remove_leftovers(self, folder: str) -> None:
        """There are no leftovers."""

    async def close(self) -> None:
        """There are no connections."""

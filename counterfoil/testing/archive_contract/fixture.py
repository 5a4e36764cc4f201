"""
The archive that the contract tests of one kind use, and the envelopes that they store there.
"""

import hashlib
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from counterfoil.archives import open_backend
from counterfoil.archives.backend import ArchiveBackend, FileNotStored, NegativeCacheBackend
from counterfoil.archives.filing import Source, claim_names, conclude, find_concluded, store
from counterfoil.archives.layout import ArchiveLayout, EnvelopeFacts, FileFacts, make_layout, no_claims
from counterfoil.resources.archive import ArchiveSpec
from counterfoil.resources.envelopeevent import FiledDocument, FileKind
from counterfoil.untrusted.addresses import ALLOWED, Addresses

ENVELOPE_ID = "0f9c1c2e-1111-4222-8333-444455556666"
PIECE = 64 * 1024
ARCHIVED_AT = datetime(2026, 3, 1, tzinfo=UTC)

Reroute = Callable[[int], ArchiveSpec]
"""The spec of the same archive, its server at this port of 127.0.0.1."""


@dataclass(frozen=True)
class ArchiveFixture:
    """One archive on a real server, empty, for one test."""

    spec: ArchiveSpec
    credentials: Mapping[str, bytes]
    address: tuple[str, int] | None = None
    """Address of its server; needed by ``WireContract``."""
    reroute: Reroute | None = None
    """Needed by ``WireContract``."""
    program: tuple[str, ...] = ("counterfoil.testing.archive_contract.runs",)
    """Module that runs the programs of ``runs``, and its first arguments."""

    async def backend(self) -> ArchiveBackend:
        """Open it."""
        return await open_on_loopback(self.spec, self.credentials)

    async def backend_by(self, port: int) -> ArchiveBackend:
        """Open it by way of another port of 127.0.0.1."""
        if self.reroute is None:
            raise ValueError("this ground has no reroute")
        return await open_on_loopback(self.reroute(port), self.credentials)

    @property
    def secrets(self) -> list[str]:
        """Texts that no message may contain. Names of logins may."""
        return [
            value.decode()
            for key, value in self.credentials.items()
            if key not in ("username", "accessKeyId", "accountName")
        ]


async def open_on_loopback(spec: ArchiveSpec, credentials: Mapping[str, bytes]) -> ArchiveBackend:
    """Open an archive whose server may be on loopback."""
    ALLOWED.set(Addresses(allows_loopback=True))
    return await open_backend("dms", spec, credentials)


@dataclass(frozen=True)
class BytesSource:
    """A download, as a source gives it."""

    size: int | None
    chunks: AsyncIterable[bytes]


class SourceCut(Exception):
    """The connection to the source broke."""


def content(size: int, *, seed: int = 1) -> bytes:
    """Return some bytes, always the same for the same seed."""
    block = hashlib.sha512(str(seed).encode()).digest()
    return (block * (size // len(block) + 1))[:size]


async def pieces(data: bytes, *, piece: int = PIECE) -> AsyncGenerator[bytes, None]:
    """Yield data in pieces."""
    for start in range(0, len(data), piece):
        yield data[start : start + piece]


async def broken(data: bytes, error: Exception) -> AsyncGenerator[bytes, None]:
    """Yield data in pieces, then raise."""
    async for piece in pieces(data):
        yield piece
    raise error


def a_source(data: bytes) -> Source:
    """A source of ``data``."""

    @asynccontextmanager
    async def source() -> AsyncIterator[BytesSource]:
        yield BytesSource(len(data), pieces(data))

    return source


async def read(backend: ArchiveBackend, name: str) -> bytes | None:
    """Read a file whole; None when it is not there."""
    try:
        return b"".join([block async for block in backend.read(name)])
    except FileNotStored:
        return None


def an_envelope() -> EnvelopeFacts:
    """The envelope that all tests file."""
    return EnvelopeFacts(
        organization="acme",
        envelope_id=ENVELOPE_ID,
        name="Contract",
        status="Completed",
        sender_email="ann@acme.example",
        sender_user_id="u-1",
        sent_date="2026-03-01T09:30:00Z",
        metadata='{"customer": "Müller & Söhne <47/11>"}'.encode(),
    )


def a_layout(spec: ArchiveSpec, names: Sequence[str]) -> ArchiveLayout:
    """Plan an envelope with documents of these names."""
    files = [
        FileFacts(file_id=f"file-{number}", kind=FileKind.DOCUMENT, file_name=name, number=number)
        for number, name in enumerate(names, start=1)
    ]
    return make_layout(spec, an_envelope(), files, claimed=no_claims)


async def file_envelope(backend: ArchiveBackend, layout: ArchiveLayout, contents: Sequence[bytes]) -> str:
    """File an envelope as the controller does, its claim persisted; return the manifest's location."""
    backend = NegativeCacheBackend(backend)
    claimed = [backend.location(file.name) for file in layout.files]
    await claim_names(backend, layout, claimed=claimed, key=None)
    await find_concluded(backend, layout, layout.envelope_id, claimed=claimed, key=None)
    await backend.remove_leftovers(layout.folder)
    documents = []
    for file, data in zip(layout.files, contents, strict=True):
        stored_file = await store(backend, file, a_source(data), tags=layout.tags)
        documents.append(
            FiledDocument(
                file_id=file.facts.file_id,
                kind=file.facts.kind,
                file_name=file.facts.file_name,
                size=stored_file.size,
                sha256=stored_file.sha256,
            )
        )
    return await conclude(
        backend, layout, an_envelope(), documents, archived_at=ARCHIVED_AT, extra={}, signer=None
    )

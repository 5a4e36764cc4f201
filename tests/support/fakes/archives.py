"""
Builders and stand-ins for the tests of archives: envelopes, files, sources, and an archive backend that can
be made to fail.
"""

import hashlib
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from counterfoil.archives.backend import FileNotStored, StoredEntry, is_temporary
from counterfoil.archives.filing import Source, StoredFile
from counterfoil.archives.layout import ArchiveLayout, EnvelopeFacts, FileFacts, make_layout, no_claims
from counterfoil.resources.archive import ArchiveSpec, Filesystem, TagRule
from counterfoil.resources.envelopeevent import FiledDocument, FileKind

ENVELOPE_ID = "0f9c1c2e-1111-4222-8333-444455556666"
OTHER_ENVELOPE_ID = "0f9c1c2e-9999-4222-8333-444455556666"
CHUNK = 64 * 1024


def a_spec(
    *,
    root: str = "/srv/archive",
    path: str = "{{organization}}/{{envelope.id}}/{{file.kind}}/{{file.name}}",
    tags: dict[str, TagRule] | None = None,
) -> ArchiveSpec:
    return ArchiveSpec(filesystem=Filesystem(root=root), path=path, tags=tags or {})


def an_envelope(
    *, envelope_id: str = ENVELOPE_ID, name: str = "Contract", metadata: str | None = None
) -> EnvelopeFacts:
    return EnvelopeFacts(
        organization="acme",
        envelope_id=envelope_id,
        name=name,
        status="Completed",
        sender_email="ann@acme.example",
        sender_user_id="u-1",
        sent_date="2026-03-01T09:30:00Z",
        finished_date="2026-03-01T09:58:00Z",
        metadata=metadata.encode(errors="surrogatepass") if metadata is not None else None,
        namespace="tests",
        origin="https://esaw.example.com",
    )


def a_file(
    name: str = "contract.pdf", *, kind: FileKind = FileKind.DOCUMENT, number: int = 1, file_id: str = ""
) -> FileFacts:
    return FileFacts(file_id=file_id or f"{kind}-{number}", kind=kind, file_name=name, number=number)


def files_named(*names: str) -> list[FileFacts]:
    return [a_file(name, number=number) for number, name in enumerate(names, start=1)]


def a_layout(
    *files: FileFacts, envelope: EnvelopeFacts | None = None, spec: ArchiveSpec | None = None
) -> ArchiveLayout:
    return make_layout(spec or a_spec(), envelope or an_envelope(), files or [a_file()], claimed=no_claims)


def content(size: int = 1000, *, seed: int = 1) -> bytes:
    """Some bytes, always the same for the same seed."""
    block = hashlib.sha512(str(seed).encode()).digest()
    return (block * (size // len(block) + 1))[:size]


@dataclass
class Arrived:
    """A download, as a source gives it."""

    size: int | None
    chunks: AsyncIterable[bytes]


class SourceCut(Exception):
    """The connection to the source broke."""


def a_source(
    data: bytes,
    *,
    declared: int | None = -1,
    cut_at: int | None = None,
    opened: list[int] | None = None,
    chunk: int = CHUNK,
) -> Source:
    """A source of ``data``; by default it declares its true size. ``cut_at`` bytes it raises
    ``SourceCut``."""

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(data), chunk):
            if cut_at is not None and start >= cut_at:
                raise SourceCut
            yield data[start : start + chunk]
        if cut_at is not None:
            raise SourceCut

    @asynccontextmanager
    async def source() -> AsyncIterator[Arrived]:
        if opened is not None:
            opened.append(len(data))
        yield Arrived(len(data) if declared == -1 else declared, chunks())

    return source


async def once(data: bytes) -> AsyncGenerator[bytes, None]:
    yield data


def a_filed_document(facts: FileFacts, stored_file: StoredFile) -> FiledDocument:
    return FiledDocument(
        file_id=facts.file_id,
        kind=facts.kind,
        file_name=facts.file_name,
        size=stored_file.size,
        sha256=stored_file.sha256,
    )


def unharmed(data: bytes) -> bytes:
    return data


@dataclass
class MemoryBackend:
    """The archive in memory. ``spoil`` changes the bytes before they are stored."""

    kind: ClassVar[str] = "memory"
    lists_files: ClassVar[bool] = True
    spoil: Callable[[bytes], bytes] = unharmed
    files: dict[str, bytes] = field(default_factory=dict)
    unlisted: set[str] = field(default_factory=set)
    """Names of stored files that ``entries`` leaves out."""
    problems: dict[str, Exception] = field(default_factory=dict)
    """Raised by ``put`` of a name that ends so, or by the operation of that name."""
    puts: list[str] = field(default_factory=list)
    described: dict[str, tuple[Mapping[str, str], str | None]] = field(default_factory=dict)
    """Tags and content type of each upload."""
    discarded: list[str] = field(default_factory=list)
    reads: int = 0
    probes: int = 0
    closed: bool = False

    @property
    def put_names(self) -> list[str]:
        """The last segments of ``puts``."""
        return [name.rpartition("/")[2] for name in self.puts]

    def location(self, name: str) -> str:
        return f"memory:///{name}"

    async def entries(self, folder: str) -> list[StoredEntry]:
        self._begin("entries")
        return [
            StoredEntry(name, len(data))
            for name, data in sorted(self.files.items())
            if name.startswith(f"{folder}/") and name not in self.unlisted
        ]

    async def put(
        self, name: str, chunks: AsyncIterable[bytes], *, tags: Mapping[str, str], content_type: str | None
    ) -> None:
        self._begin("put")
        for end, problem in self.problems.items():
            if name.endswith(end):
                raise problem
        data = b"".join([chunk async for chunk in chunks])
        self.files[name] = self.spoil(data)
        self.puts.append(name)
        self.described[name] = (tags, content_type)

    async def read(self, name: str) -> AsyncGenerator[bytes, None]:
        self._begin("read")
        self.reads += 1
        if name not in self.files:
            raise FileNotStored
        yield self.files[name]

    async def discard(self, name: str) -> None:
        self.files.pop(name, None)
        self.discarded.append(name)

    async def probe(self) -> None:
        self.probes += 1
        self._begin("probe")

    async def remove_leftovers(self, folder: str) -> None:
        for name in [each for each in self.files if each.startswith(f"{folder}/") and is_temporary(each)]:
            del self.files[name]

    async def close(self) -> None:
        self.closed = True

    def _begin(self, operation: str) -> None:
        if operation in self.problems:
            raise self.problems[operation]


@dataclass
class RetainingMemoryBackend(MemoryBackend):
    """An archive in memory that can protect its files; it keeps what it protected, with the bytes of then."""

    retained: list[tuple[str, bytes | None]] = field(default_factory=list)

    async def retain(self, name: str) -> None:
        self.retained.append((name, self.files.get(name)))


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))

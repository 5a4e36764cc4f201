"""An archived envelope, and a second archive that gets a copy of it."""

import json
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from counterfoil.archives import filing
from counterfoil.archives.backend import ArchiveBackend, ForwardingBackend, StoredEntry
from counterfoil.archives.copies.copy import plan_copy, write_copy
from counterfoil.archives.copies.original import read_original
from counterfoil.archives.layout import EnvelopeFacts, FileFacts
from counterfoil.archives.manifest_signature import ManifestSigner
from counterfoil.archives.names import MANIFEST_NAME
from counterfoil.resources.archive import ArchiveSpec
from counterfoil.resources.envelopeevent import FiledDocument
from tests.support.fakes.archives import (
    MemoryBackend,
    a_layout,
    a_source,
    a_spec,
    an_envelope,
    content,
    files_named,
)

NOW = datetime(2026, 3, 1, 10, tzinfo=UTC)
LATER = datetime(2026, 3, 1, 11, tzinfo=UTC)
NAMES = ("small.pdf", "contract.pdf")


@dataclass
class PlacedBackend(MemoryBackend):
    """An archive in memory at a separate place; ``retained`` are the names that it protects."""

    place: str = "dms"
    retained: list[str] = field(default_factory=list)

    def location(self, name: str) -> str:
        return f"memory://{self.place}/{name}"

    async def retain(self, name: str) -> None:
        assert name in self.files
        self.retained.append(name)


class Killed(BaseException):
    """The process was killed."""


class MortalBackend(ForwardingBackend):
    """Lets the process die at a step: before and after each change, and before each read."""

    def __init__(self, backend: ArchiveBackend, step: Callable[[], None]) -> None:
        super().__init__(backend)
        self._step = step

    async def entries(self, folder: str) -> list[StoredEntry]:
        self._step()
        return await super().entries(folder)

    async def put(
        self, name: str, chunks: AsyncIterable[bytes], *, tags: Mapping[str, str], content_type: str | None
    ) -> None:
        self._step()
        await super().put(name, chunks, tags=tags, content_type=content_type)
        self._step()

    async def read(self, name: str) -> AsyncGenerator[bytes, None]:
        self._step()
        async for chunk in super().read(name):
            yield chunk

    async def retain(self, name: str) -> None:
        self._step()
        await super().retain(name)
        self._step()


@dataclass
class CopyScene:
    """An envelope in the archive ``dms``, and the empty archive ``worm``."""

    signer: ManifestSigner | None = None
    source: Any = field(default_factory=PlacedBackend)
    """The first archive: any backend."""
    target: Any = field(default_factory=lambda: PlacedBackend(place="worm"))
    """The archive of the copy."""
    source_spec: ArchiveSpec = field(default_factory=a_spec)
    target_spec: ArchiveSpec = field(
        default_factory=lambda: a_spec(path="copies/{{envelope.id}}/{{file.name}}")
    )
    envelope: EnvelopeFacts = field(default_factory=an_envelope)
    first_origin: str | None = None
    """The address of eSAW that the Organization had first."""
    documents: tuple[FiledDocument, ...] = ()
    manifest: str = ""

    async def archive(self, *names: str, seed: int = 0) -> None:
        """Archive the envelope, as the phase Archiving does."""
        files = files_named(*(names or NAMES))
        layout = a_layout(*files, envelope=self.envelope, spec=self.source_spec)
        documents = []
        for number, each in enumerate(layout.files, start=1):
            source = a_source(self.data(number, seed))
            stored = await filing.store(self.source, each, source, tags=layout.tags)
            documents.append(self.filed(each.facts, stored.size, stored.sha256, each.name))
        self.documents = tuple(documents)
        self.manifest = await filing.conclude(
            self.source,
            layout,
            self.envelope,
            self.documents,
            archived_at=NOW,
            extra={"event": {"name": "e", "uid": "u"}, "archive": "dms"},
            signer=self.signer,
        )

    def filed(self, facts: FileFacts, size: int, sha256: str, name: str) -> FiledDocument:
        return FiledDocument(
            file_id=facts.file_id,
            kind=facts.kind,
            file_name=facts.file_name,
            size=size,
            sha256=sha256,
            location=self.source.location(name),
        )

    def data(self, number: int, seed: int = 0) -> bytes:
        """Bytes of the file with this number."""
        return content(1000 * number, seed=number + seed)

    def change_original(self, **parts: Any) -> None:
        """Let another program change parts of the original's manifest."""
        (name,) = (each for each in self.source.files if each.endswith(MANIFEST_NAME))
        changed = {**json.loads(self.source.files[name]), **parts}
        self.source.files[name] = json.dumps(changed, ensure_ascii=False).encode()

    async def copy(
        self,
        *,
        claimed_manifest: str | None = None,
        is_elsewhere: bool = False,
        step: Callable[[], None] = lambda: None,
        **changes: Any,
    ) -> str:
        """Make the copy once, as the phase Copying does; return the location of its manifest."""
        source, target = MortalBackend(self.source, step), MortalBackend(self.target, step)
        key = self.signer.public if self.signer is not None else None
        known = EnvelopeFacts(
            organization=self.envelope.organization,
            envelope_id=self.envelope.envelope_id,
            name=self.envelope.name,
            status=self.envelope.status,
            namespace=self.envelope.namespace,
            origin=self.envelope.origin,
        )
        manifest = changes.get("manifest", self.manifest)
        original = await read_original(
            source, manifest, self.documents, known, key=key, first_origin=self.first_origin
        )
        plan = await plan_copy(
            target,
            self.target_spec,
            original,
            claimed_manifests=[claimed_manifest] if claimed_manifest else [],
            may_replace=lambda *_: True,
            of_others={},
            is_elsewhere=is_elsewhere,
            key=key,
        )
        return await write_copy(
            source, target, original, plan, archived_at=LATER, extra={"archive": "worm"}, signer=self.signer
        )

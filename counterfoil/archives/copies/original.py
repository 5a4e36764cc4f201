"""
Read an archived envelope in its first archive, as the source of a copy.

Sizes and hashes come from the event's status. A manifest says the rest: names of the files there, the sender,
times and tags. It is believed if it has our seal, and without a signing key if it names this envelope. Else
only the status is, and the copy has no tags and no sender. It has to list each file of the status as the
status does.

This module writes nothing.
"""

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace

import msgspec

from counterfoil.archives import tags as tagging
from counterfoil.archives.backend import ArchiveBackend, FileNotReturned, FileNotStored
from counterfoil.archives.errors import ArchiveError
from counterfoil.archives.layout import ActionFacts, ArchiveLayout, EnvelopeFacts, FileFacts, envelope_fields
from counterfoil.archives.manifest import (
    MAX_UNPROVEN_CALLBACKS,
    Manifest,
    ManifestDamaged,
    ManifestEvidence,
    ManifestFile,
)
from counterfoil.archives.manifest_signature import PublicKey
from counterfoil.archives.names import MANIFEST_NAME, SIGNATURE_NAME
from counterfoil.archives.proof import MAX_NAME, Checksum, FileKey, has_own_seal, names_source
from counterfoil.archives.readback import bounded, checksum, fitting_seals, reading_small
from counterfoil.archives.streams import HashingCounter, counting
from counterfoil.archives.verify import name_at
from counterfoil.resources.archive import TagRule
from counterfoil.resources.envelopeevent import FiledDocument, FileKind
from counterfoil.signatures.results import Signatures
from counterfoil.untrusted.json_bounds import text_memory

MAX_UNPROVEN_MEMORY = 512 * 1024
"""Bytes of memory of what is believed without a seal, beside the callbacks and the files of the status: many
runs may keep it at once, for hours."""

MEMORY_OF_FILE = 1024
"""Bytes of memory of a file in an original, about."""


class OriginalDiffers(ArchiveError):
    """
    The first archive does not have the files as the status says. Nothing wrong is copied.

    ``may_be_replaced`` is whether the manifest in their place lists other files.
    """

    def __init__(self, message: str, *, may_be_replaced: bool = False) -> None:
        super().__init__("OriginalDiffers", message)
        self.may_be_replaced = may_be_replaced


class OriginalReplaced(ArchiveError):
    """Another event of the envelope archived it again in the same place of the first archive."""

    def __init__(self, location: str, other: str) -> None:
        super().__init__(
            "OriginalReplaced",
            f"{location} is the place of {other} too, which archived the envelope there again. Put no backup "
            "over the files there. Ask for the copy of that event first: that copy tells whether a file is "
            "lost.",
        )


class OriginalChanged(ArchiveError):
    """The manifest of the original is another one than at the beginning of the copy. The next attempt reads
    it again."""

    def __init__(self, location: str) -> None:
        super().__init__("ArchivedFilesChanged", f"{location} was changed while it was copied.")


class OriginalNotReturned(ArchiveError):
    """The first archive returns no files, so nothing can be copied from it."""

    def __init__(self, location: str) -> None:
        super().__init__(
            "CopyInvalid",
            f"{location} is not returned by its archive (spec.verify: Checksum), so no copy can be made of "
            "it. Set spec.verify to ReadBack there, or remove spec.copies of the Organization.",
        )


class CopyTagMissing(ArchiveError):
    """The Archive of a copy requires a tag that the original does not have."""

    def __init__(self, name: str, *, is_believed: bool) -> None:
        why = (
            "the original does not have it: its envelope has no value for it, or its Archive did not define "
            "it then. Make"
        )
        if not is_believed:
            why = (
                "the manifest of the original has no seal of the present signing key, or is too large "
                "without one: its tags prove nothing. Make"
            )
        advice = f"{why} spec.tags.{name} of the copy's Archive not required."
        super().__init__("CopyTagMissing", f"The tag `{name}` is required for the copy, and {advice}")


class OriginalUnread(Exception):
    """The first archive could not be read. ``problem`` is its error."""

    def __init__(self, problem: Exception, *, name: str | None = None, expected: Checksum = (0, "")) -> None:
        super().__init__(str(problem))
        self.problem = problem
        self.name = name
        """Full name of the archived file that could not be read; None: it was the manifest."""
        self.expected = expected
        """Size and hash of that file."""


@dataclass(frozen=True)
class Original:
    """An archived envelope, as its first archive has it."""

    envelope: EnvelopeFacts
    files: tuple[FileFacts, ...]
    checksums: Mapping[FileKey, Checksum]
    """Sizes and hashes by the status; of further files of a sealed manifest, those of the manifest."""
    names: Mapping[FileKey, str]
    """Full names in the first archive."""
    manifest: str
    """Location of the manifest."""
    manifest_sha256: str
    is_believed: bool
    """Whether facts and tags are those of the manifest."""
    is_sealed: bool = False
    """Whether the manifest has our seal, so that its ``Findings`` are believed."""
    tags: Mapping[str, str] = field(default_factory=dict)
    esaw_version: str | None = None

    @property
    def documents(self) -> tuple[FiledDocument, ...]:
        """The files with their sizes and hashes, without places."""
        return tuple(
            FiledDocument(
                file_id=each.file_id, kind=each.kind, file_name=each.file_name, size=size, sha256=sha256
            )
            for each in self.files
            for size, sha256 in [self.checksums[each.file_id, each.kind]]
        )


@dataclass(frozen=True)
class Findings:
    """Results of the checks when the original was archived. There may be 60,000 signatures."""

    signatures: Mapping[str, Signatures] = field(default_factory=dict)
    """By file id."""
    evidence: tuple[ManifestEvidence, ...] = ()


async def read_findings(backend: ArchiveBackend, original: Original) -> Findings:
    """
    Read the findings in the manifest of an original; none if nobody sealed it.

    They are read last: many runs may send files for hours, and none of them keeps the findings. Raises
    ``OriginalUnread``, also if it is not the manifest any more that was read first (``OriginalChanged``).
    """
    if not original.is_sealed:
        return Findings()
    name = name_at(backend, original.manifest)
    changed = OriginalChanged(original.manifest)
    if name is None:
        raise OriginalUnread(changed)
    try:
        async with reading_small(backend, name) as content:
            is_same = checksum(content)[1] == original.manifest_sha256
            found = Manifest.decode(content) if is_same else None
    except (FileNotStored, FileNotReturned, ManifestDamaged) as missing:
        raise OriginalUnread(changed) from missing
    except Exception as problem:
        raise OriginalUnread(problem) from problem
    if found is None:
        raise OriginalUnread(changed)
    signatures = {each.file_id: each.signatures for each in found.files if each.signatures is not None}
    return Findings(signatures, found.evidence)


async def read_original(
    backend: ArchiveBackend,
    manifest: str,
    documents: Sequence[FiledDocument],
    known: EnvelopeFacts,
    *,
    key: PublicKey | None,
    first_origin: str | None = None,
) -> Original:
    """
    Read the manifest at this location, and return the original with the archived ``documents`` of a status.

    ``known`` are the facts that the controller knows itself, ``first_origin`` is the address of eSAW that the
    Organization had first. Another one than these two needs our seal. Raises ``OriginalDiffers``,
    ``OriginalNotReturned``, and ``ArchiveError`` if the archive does not work or has another root.
    """
    checksums = {(each.file_id, each.kind): (each.size or 0, each.sha256 or "") for each in documents}
    name = name_at(backend, manifest)
    if name is None or not name.endswith(f"/{MANIFEST_NAME}"):
        raise OriginalDiffers(f"{manifest} is not a place in the archive as it is configured now.")
    folder = name.removesuffix(f"/{MANIFEST_NAME}")
    try:
        async with reading_small(backend, name) as content:
            fits = bool(await fitting_seals(backend, f"{folder}/{SIGNATURE_NAME}", content, key))
            found = Manifest.decode(content)
            digest = checksum(content)[1]
            is_sealed = has_own_seal(found, key, fits=fits)
    except FileNotStored:
        raise OriginalDiffers(f"{manifest} is missing.") from None
    except FileNotReturned:
        raise OriginalNotReturned(manifest) from None
    except ManifestDamaged as damage:
        raise OriginalDiffers(f"{manifest} can't be read: {damage}.") from damage
    listed = {(each.file_id, each.kind): each for each in found.files}
    for each, expected in checksums.items():
        file = listed.get(each)
        if file is None or (file.size, file.sha256) != expected:
            raise OriginalDiffers(f"{manifest} lists other files than were archived.", may_be_replaced=True)
    # A manifest names the address of its time, and eSAW may have moved since. Our seal or the status' hashes
    # show then that it is the same envelope.
    origin = found.envelope.origin if is_sealed or checksums else known.origin
    layout = ArchiveLayout(known.envelope_id, folder, (), {}, known.organization, known.namespace, origin)
    if not names_source(found, layout):
        raise OriginalDiffers(f"{manifest} is not about this envelope.")
    original = Original(
        envelope=known,
        files=tuple(_numbered(documents)),
        checksums=checksums,
        names=_names(backend, documents),
        manifest=manifest,
        manifest_sha256=digest,
        is_believed=is_sealed or key is None,
    )
    if not original.is_believed:
        return original
    if is_sealed:
        return replace(_described(original, found, folder), is_sealed=True)
    # What nobody sealed says nothing about signatures, and others choose its size.
    found = found.with_first_callbacks(MAX_UNPROVEN_CALLBACKS)
    if _kept_memory(found) > MAX_UNPROVEN_MEMORY + len(documents) * MEMORY_OF_FILE:
        return replace(original, is_believed=False)
    if found.envelope.origin != first_origin:
        envelope = msgspec.structs.replace(found.envelope, origin=known.origin)
        found = msgspec.structs.replace(found, envelope=envelope)
    return _described(original, found, folder)


def _kept_memory(manifest: Manifest) -> int:
    """Return about how many bytes of memory an original has of what a manifest says, without callbacks."""
    times, files = manifest.times, manifest.files
    texts = text_memory(
        manifest.envelope,
        manifest.sender,
        (times.sent, times.finished, manifest.tags),
        [(each.file_id, each.file_name, each.email, each.activity_id, each.name) for each in files],
    )
    return texts + len(files) * MEMORY_OF_FILE


def _described(original: Original, manifest: Manifest, folder: str) -> Original:
    """
    Return the original with what a manifest says, also about files that another event archived later. Raises
    ``OriginalDiffers``.
    """
    files, versions = manifest.files, manifest.versions
    if len({each.file_id for each in files}) < len(files):
        # The manifest of the copy would have one content for both.
        raise OriginalDiffers(f"{original.manifest} lists the id of a file twice.")
    return replace(
        original,
        envelope=_facts(manifest),
        files=tuple(_numbered(files)),
        checksums={(each.file_id, each.kind): (each.size, each.sha256) for each in files},
        names={**{(each.file_id, each.kind): f"{folder}/{each.name}" for each in files}, **original.names},
        tags=manifest.tags,
        esaw_version=versions.esaw if versions is not None else None,
    )


def _names(backend: ArchiveBackend, documents: Sequence[FiledDocument]) -> dict[FileKey, str]:
    names = {}
    for each in documents:
        name = name_at(backend, each.location or "")
        if name is None:
            raise OriginalDiffers(f"{each.location} is not a place in the archive as it is configured now.")
        names[each.file_id, each.kind] = name
    return names


def _facts(manifest: Manifest) -> EnvelopeFacts:
    envelope, sender, times = manifest.envelope, manifest.sender, manifest.times
    return EnvelopeFacts(
        organization=envelope.organization,
        envelope_id=envelope.id,
        name=envelope.name,
        status=envelope.status,
        sender_email=sender.email,
        sender_user_id=sender.user_id,
        sender_name=sender.name,
        sent_date=times.sent,
        finished_date=times.finished,
        actions=tuple(ActionFacts(each.action, each.time, each.parameters) for each in times.actions),
        namespace=envelope.namespace,
        origin=envelope.origin,
    )


def _numbered(files: Sequence[ManifestFile] | Sequence[FiledDocument]) -> list[FileFacts]:
    # Both lists have the order of the names of the original.
    numbers: Counter[FileKind] = Counter()
    facts = []
    for each in files:
        numbers[each.kind] += 1
        named = FileFacts(each.file_id, each.kind, each.file_name, numbers[each.kind])
        if isinstance(each, ManifestFile):
            number, email, activity = each.document_number, each.email, each.activity_id
            named = replace(named, document_number=number, email=email, activity_id=activity)
        facts.append(named)
    return facts


def copy_tags(rules: Mapping[str, TagRule], original: Original) -> dict[str, str]:
    """
    Return the tags of a copy. A rule that reads the metadata takes the original's tag of the same name: the
    metadata is in eSAW, which is not asked.

    Raises ``CopyTagMissing``, and ``TagMissing`` for a rule that reads something else.
    """
    others = {name: rule for name, rule in rules.items() if not tagging.reads_metadata(rule)}
    fields = envelope_fields(original.envelope)
    found = tagging.collect(others, None, fields, original.envelope.parameters)
    for name, rule in rules.items():
        if name in others:
            continue
        value = tagging.normalize(original.tags.get(name, ""))
        if value:
            found[name] = value
        elif rule.required:
            raise CopyTagMissing(name, is_believed=original.is_believed)
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class OpenedOriginal:
    """A file of the first archive, as ``filing`` reads a source. Its size is checked with its hash."""

    size: int | None
    chunks: AsyncIterable[bytes]


@asynccontextmanager
async def opened(backend: ArchiveBackend, name: str, expected: Checksum) -> AsyncIterator[OpenedOriginal]:
    """Open a file of the first archive. Its chunks raise ``OriginalDiffers`` before they end if they are not
    the archived file, so that no wrong bytes get a name in a copy, and ``OriginalUnread`` if they can't be
    read."""
    async with aclosing(_checked(backend, name, expected)) as chunks:
        yield OpenedOriginal(None, chunks)


async def read_alone(backend: ArchiveBackend, unread: OriginalUnread) -> None:
    """
    Read the file that could not be read again, and keep nothing of it.

    No copy is written meanwhile, so only the first archive can be why that fails. The backend bounds each
    wait for its server; the caller bounds the whole. Raises as the chunks of ``opened``.
    """
    if unread.name is None:
        return
    async with aclosing(_checked(backend, unread.name, unread.expected)) as chunks:
        async for _ in chunks:
            pass


async def _checked(backend: ArchiveBackend, name: str, expected: Checksum) -> AsyncGenerator[bytes, None]:
    counter = HashingCounter()
    try:
        location = backend.location(name)
    except ValueError:
        raise OriginalDiffers(
            f"{MANIFEST_NAME} lists {name[:MAX_NAME]!r}, which leads out of the folder."
        ) from None
    try:
        async with (
            aclosing(bounded(backend.read(name), expected[0])) as stream,
            aclosing(counting(stream, counter)) as chunks,
        ):
            async for chunk in chunks:
                yield chunk
    except FileNotStored:
        raise OriginalDiffers(f"{location} is missing.") from None
    except FileNotReturned:
        raise OriginalNotReturned(location) from None
    except Exception as problem:
        # So that it is not treated as an error of the copy's archive, which is written meanwhile.
        raise OriginalUnread(problem, name=name, expected=expected) from problem
    if (counter.size, counter.sha256) != expected:
        raise OriginalDiffers(f"{location} has other content than was archived.")

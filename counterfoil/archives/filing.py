"""
Store the files of an envelope in any archive backend, with the guarantees of docs/archives.md.

In this order: ``claim_names`` the names (to be persisted by the caller), ``store`` file by file, ``conclude``
with the hash file and, last, the manifest: the commit mark. Each may be killed at any instant and is simply
called again; afterwards every document is there once. A file counts as arrived when it was read back and its
SHA-256 is that of the bytes that came from the source, or one that ``proof`` knows of it.

This module deletes a file that it wrote and that the archive corrupted, never one that was there before. It
also deletes the seal of a manifest that it replaces, if there is no key any more, and its own new seal if the
archive keeps a manifest that had none.
"""

import asyncio
import unicodedata
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Callable,
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import Any, Final, Protocol

from counterfoil import __version__
from counterfoil.archives.backend import (
    ArchiveBackend,
    FileNotReturned,
    FileNotStored,
    ForwardingBackend,
    RetainingBackend,
    StoredEntry,
    confirm_absence,
    confirm_root,
)
from counterfoil.archives.errors import (
    ArchiveError,
    ArchiveRefused,
    ListingDiffers,
    ManifestUnsealed,
    NameTaken,
    OtherSource,
    UnsealedNameTaken,
    VerificationFailed,
)
from counterfoil.archives.layout import ArchiveLayout, EnvelopeFacts, FileFacts, FileLayout
from counterfoil.archives.manifest import (
    MANIFEST_LIMIT,
    MAX_UNPROVEN_CALLBACKS,
    RENDERED_KINDS,
    Manifest,
    ManifestAction,
    ManifestDamaged,
    ManifestEnvelope,
    ManifestEvidence,
    ManifestFile,
    ManifestSender,
    ManifestTimes,
    ManifestVersions,
    hash_lines,
)
from counterfoil.archives.manifest_signature import (
    ManifestSigner,
    PublicKey,
    TooManySeals,
    label_of,
    seals_to_keep,
)
from counterfoil.archives.names import MAX_RUN_OF_MARKS, case_folded, longest_run_of_marks
from counterfoil.archives.proof import Checksum, FoundManifest, has_own_seal, names_source, other_source
from counterfoil.archives.readback import (
    checksum,
    fitting_seals,
    hash_stream,
    is_stored,
    read_back,
    read_seal,
    reading_small,
)
from counterfoil.archives.streams import BoundedBuffer, HashingCounter, counting, single_chunk
from counterfoil.clock import utc_text
from counterfoil.resources.envelopeevent import FiledDocument, FileKind
from counterfoil.signatures.results import Signatures

MAX_BUFFERED_BYTES = 1024 * 1024
"""Bytes of a file that is handed out along with the proof that it arrived."""

HASHED_IN_LOOP = 1024 * 1024
"""Bytes of a generated file up to which it is hashed in the event loop: some 2 ms."""

MAX_UPLOADS = 2
"""Maximum number of uploads of a file whose read-back differs."""

MAX_READS_AT_ONCE = 4
"""Maximum number of names of one envelope that are asked for at once, before they are claimed."""

SPARE_READS = 16
"""Maximum number of such requests in a process beyond one of each envelope: an archive chooses how large its
answers are."""

MAX_FOLDED_ON_LOOP: Final = 16 * 1024
"""Characters of names in a list that are folded on the event loop; more are folded in a thread."""

MAX_GROWTH: Final = 4
"""Factor by which a name can be longer in another normal form than when it is folded."""


ENTRIES_ENCODED_IN_LOOP = 500
"""Files, findings and callbacks of a manifest from which on it is encoded in a thread: some 20 ms."""


class FileSource(Protocol):
    """A file that is read from its source; ``size`` in bytes as declared, None for unknown."""

    @property
    def size(self) -> int | None:
        """Declared size."""
        ...

    @property
    def chunks(self) -> AsyncIterable[bytes]:
        """The bytes, once."""
        ...


Source = Callable[[], AbstractAsyncContextManager[FileSource]]
"""Opens the source again at each call: a file may have to be read twice."""


Accepts = Callable[[Checksum], bool]
"""Whether a source may have this size and hash."""


def _any_content(_found: Checksum) -> bool:
    return True


class SourceBroken(Exception):
    """The source sent fewer or more bytes than it declared."""

    def __init__(self, expected: int, got: int) -> None:
        more = "more" if got > expected else "fewer"
        super().__init__(f"the source declared {expected} bytes and sent {more}")
        self.expected = expected
        self.got = got


class SourceDiffers(Exception):
    """The source sent content that it may not have. It was not stored."""

    def __init__(self, found: Checksum) -> None:
        super().__init__(f"the source sent {found[0]} bytes with another SHA-256 than it may have")
        self.found = found


@dataclass(frozen=True)
class StoredFile:
    """
    A file in the archive, as read back; ``written`` is False if it was stored before.

    ``content`` is the file itself if it is small (``MAX_BUFFERED_BYTES``), so that a check of its content
    needs no second download.
    """

    size: int
    sha256: str
    written: bool
    content: bytes | None = None


@dataclass(frozen=True)
class EntriesByName:
    """The listed files that have one of our names, in any letter case and normal form."""

    folded: Mapping[str, str]
    """Our names, and as what they are compared."""
    entries: Mapping[str, Sequence[StoredEntry]]
    """By what they are compared as."""

    @classmethod
    def of(cls, listed: Sequence[StoredEntry], names: Sequence[str]) -> "EntriesByName":
        """
        Choose them from a list. A name that is far longer than the longest of ``names`` is not folded: an
        archive can list thousands whose normal form is many times longer. Nor is one with a longer run of
        combining characters than people write, and than ``names`` have.
        """
        folded = {name: case_folded(name) for name in names}
        wanted = set(folded.values())
        longest = MAX_GROWTH * max(map(len, wanted), default=0)
        # A mark may become a letter when it is folded, so both forms count.
        forms = [unicodedata.normalize("NFKD", each) for each in (*names, *wanted)]
        most_marks = max([MAX_RUN_OF_MARKS, *map(longest_run_of_marks, forms)])
        entries: dict[str, list[StoredEntry]] = {}
        for entry in listed:
            if len(entry.name) > longest or longest_run_of_marks(entry.name) > most_marks:
                continue
            if (key := case_folded(entry.name)) in wanted:
                entries.setdefault(key, []).append(entry)
        return cls(folded, entries)

    def has(self, name: str) -> bool:
        """Whether one of our names is listed in any form."""
        return self.folded[name] in self.entries

    def find(self, name: str) -> Sequence[StoredEntry]:
        """Return what is listed under one of our names; else those in other letter case or another normal
        form, as some archives list them."""
        same = self.entries.get(self.folded[name], ())
        return [each for each in same if each.name == name] or same


_OF_ANOTHER_PROGRAM = ". Move it away, or change spec.path of the Archive."
_OF_THE_ENVELOPE = (
    ": the manifest beside it names this envelope, and has no seal of the controller's key. It may be the "
    "archive of an earlier state of the envelope, such as before a restart. Keep it: move the folder to "
    "another place."
)

_TWO_NAMES = "Perhaps it takes two names as one: then put {{file.number}} into spec.path of the Archive."
_ANOTHER_ROOT = (
    "Perhaps another place answered meanwhile, such as the empty folder of a volume that was unmounted. The "
    "files are sent again."
)
_EITHER = f"{_ANOTHER_ROOT} If it stays so: {_TWO_NAMES[0].lower()}{_TWO_NAMES[1:]}"


async def claim_names(
    backend: ArchiveBackend,
    layout: ArchiveLayout,
    *,
    claimed: Collection[str] = (),
    key: PublicKey | None,
) -> tuple[str, ...]:
    """
    Return the locations of all files of the layout, none of which is taken by anybody else.

    ``claimed`` are locations that an earlier run claimed and persisted: their files may be replaced. So may
    files that a manifest of this envelope with our seal (by ``key``) lists. Raises ``NameTaken`` for
    any other file, and does not change it; also if ``find_concluded`` does.

    A file whose name differs only in letter case counts as the same name, since some archives do not
    distinguish them. A list can be cut, so a name that it leaves out is read as well. Of several errors, the
    first in the order of the layout is raised. Raises ``ArchiveError`` if the names are free in another root.
    """
    names = (
        *(file.name for file in layout.files),
        layout.hashes_name,
        layout.seal_name,
        layout.manifest_name,
    )
    taken: EntriesByName
    own: set[str]
    is_of_source: bool
    taken, (own, is_of_source) = await _some_at_once(
        [partial(_listed, backend, layout, names), partial(_own_names, backend, layout, claimed, key)]
    )

    async def check(name: str) -> None:
        if taken.has(name) or (backend.lists_files and await is_stored(backend, name)):
            there = (
                f"{backend.location(name)} is there already, and nothing shows that Counterfoil put it there"
            )
            if is_of_source:
                raise UnsealedNameTaken(there + _OF_THE_ENVELOPE)
            raise NameTaken(there + _OF_ANOTHER_PROGRAM)

    try:
        await _some_at_once([partial(check, name) for name in names if name not in own])
    except NameTaken:
        # Perhaps what shows that the file is ours was absent, or a proxy answered in its place.
        await confirm_root(backend)
        raise
    await confirm_absence(backend)
    return tuple(backend.location(file.name) for file in layout.files)


async def _listed(backend: ArchiveBackend, layout: ArchiveLayout, names: Sequence[str]) -> EntriesByName:
    """Return the listed files that have these names; of the others nothing is kept."""
    entries = await backend.entries(layout.folder)
    if sum(len(each.name) for each in entries) <= MAX_FOLDED_ON_LOOP:
        return EntriesByName.of(entries, names)
    return await asyncio.to_thread(EntriesByName.of, entries, names)


async def find_stored(
    backend: ArchiveBackend,
    layout: ArchiveLayout,
    download: Callable[[FileFacts], AbstractAsyncContextManager[FileSource]],
) -> tuple[str, ...]:
    """
    Return the locations of those files of the layout whose stored bytes equal their ``download``, and of the
    audit trails beside them.

    Counterfoil may replace them: another event of the envelope stored them and is not finished, or its object
    was deleted. eSAW renders an audit trail again at each download, so the documents beside it decide: one
    that is equal, and none that differs. Raises ``ArchiveError`` and all errors of the source.
    """
    equal, rendered, has_other = [], [], False
    for file_layout in layout.files:
        there = await read_back(backend, file_layout.name)
        if there is None:
            continue
        if await _hash_source(partial(download, file_layout.facts)) == there:
            equal.append(file_layout)
        elif file_layout.facts.kind in RENDERED_KINDS:
            rendered.append(file_layout)
        else:
            has_other = True
    if has_other or not any(each.facts.kind is FileKind.DOCUMENT for each in equal):
        rendered = []
    return tuple(backend.location(each.name) for each in (*equal, *rendered))


async def find_concluded(
    backend: ArchiveBackend,
    layout: ArchiveLayout,
    envelope_id: str,
    *,
    claimed: Collection[str] = (),
    key: PublicKey | None,
) -> FoundManifest | None:
    """
    Return the manifest of this envelope in the layout's folder, and whether it has our seal (by ``key``);
    None when there is none.

    Raises ``OtherSource`` for a manifest that claims to be of another envelope, eSAW or Organization, and
    ``NameTaken`` for one that can't be read unless the files beside it are ours by ``claimed``; then it
    counts as none. Raises ``ArchiveError`` if there is none, another's, none that can be read, or no seal in
    another root, and if an archive without lists may not be who returned the one that can't be read.
    """
    found = await look_for_concluded(backend, layout, envelope_id, claimed=claimed, key=key)
    if found is None:
        await confirm_absence(backend)
    return found


async def look_for_concluded(
    backend: ArchiveBackend,
    layout: ArchiveLayout,
    envelope_id: str,
    *,
    claimed: Collection[str] = (),
    key: PublicKey | None,
) -> FoundManifest | None:
    """As ``find_concluded``, for a caller that claims names then: that confirms that there is none."""
    try:
        async with reading_small(backend, layout.manifest_name) as content:
            # First, since a decoded manifest needs more memory than its bytes.
            seals = await fitting_seals(backend, layout.seal_name, content, key)
            manifest = Manifest.decode(content)
            is_of_source = names_source(manifest, layout)
            is_ours = is_of_source and has_own_seal(manifest, key, fits=bool(seals))
    except (FileNotStored, FileNotReturned):
        return None
    except ManifestDamaged as damage:
        await confirm_root(backend)
        if _has_claim(backend, layout, claimed):
            return None
        if not backend.lists_files:
            raise ArchiveRefused(
                "ArchiveAnswerUnreadable",
                f"{backend.location(layout.manifest_name)} is no manifest that Counterfoil can read. The "
                "archive has no list, so perhaps a proxy or a login page answers. Look at this address. If "
                "another program has a file there, move it away.",
            ) from damage
        raise NameTaken(
            f"{backend.location(layout.manifest_name)} is no manifest that Counterfoil can read. Restore it "
            "if it is damaged, or move its folder away and keep it."
        ) from damage
    if (source := other_source(manifest, layout)) is not None:
        await confirm_root(backend)
        raise OtherSource(
            f"{backend.location(layout.manifest_name)} is the manifest {source}. Change spec.path of the "
            "Archive so that every Organization and every envelope has its own folder, or move this folder "
            "away."
        )
    return FoundManifest(
        manifest=manifest if is_ours else None,
        is_sealed=manifest.sealed_by is not None,
        digest=manifest.digest if is_ours or key is None else "",
        claim=manifest if is_of_source and not is_ours else None,
        seals=seals,
    )


async def store(
    backend: ArchiveBackend,
    file_layout: FileLayout,
    source: Source,
    *,
    tags: Mapping[str, str],
    proven: Collection[Checksum] = (),
    expected: int | None = None,
    accepts: Accepts = _any_content,
) -> StoredFile:
    """
    Store one file in the archive under its claimed name, or recognise that it is stored.

    A stored file is recognised by a ``proven`` size and hash, else by those of the source's bytes. One of
    more than ``expected`` bytes is another, and not read to its end; None: the size is not known.

    ``accepts`` tells whether the source may have this size and hash. Raises ``SourceDiffers`` before the end
    of an upload if it may not, so that an earlier file stays.

    Raises ``ArchiveError``: ``VerificationFailed`` if the archive returns other bytes twice. Raises
    ``SourceBroken``, and all errors of the source unchanged. Neither a corrupted file nor a part of a file is
    left under the name, but an earlier file stays if the archive still returns it.
    """
    kept = BoundedBuffer(MAX_BUFFERED_BYTES)
    before = await read_back(backend, file_layout.name, kept, expected=expected)
    if before is not None:
        first = before if before in proven else await _hash_source(source, accepts)
        if first == before:
            await retain(backend, file_layout.name)
            return StoredFile(*before, written=False, content=kept.content)
        accepts = partial(_not_shorter, file_layout, first, accepts)
    is_removed = False
    for _ in range(MAX_UPLOADS):
        sent = await _upload(backend, file_layout, source, tags, accepts)
        kept = BoundedBuffer(MAX_BUFFERED_BYTES)
        there = await read_back(backend, file_layout.name, kept, expected=sent[0])
        if there == sent:
            await retain(backend, file_layout.name)
            return StoredFile(*sent, written=True, content=kept.content)
        is_removed = await _discard_own(backend, file_layout.name, there, before, expected=sent[0])
    raise _verification_failed(backend, file_layout.name, is_removed=is_removed)


def _not_shorter(file_layout: FileLayout, first: Checksum, accepts: Accepts, found: Checksum) -> bool:
    """Whether a source may have the content ``found`` when it is read again. Raises ``SourceBroken`` if that
    was cut: the ``first`` time it had more bytes."""
    if found[0] < first[0] and file_layout.facts.kind not in RENDERED_KINDS:
        raise SourceBroken(first[0], found[0])
    return accepts(found)


async def conclude(
    backend: ArchiveBackend,
    layout: ArchiveLayout,
    envelope: EnvelopeFacts,
    deposited: Sequence[FiledDocument],
    *,
    archived_at: datetime,
    extra: Mapping[str, Any],
    signatures: Mapping[str, Signatures] = MappingProxyType({}),
    evidence: Sequence[ManifestEvidence] = (),
    esaw_version: str | None = None,
    signer: ManifestSigner | None,
) -> str:
    """
    Write the hash file, the seal if there is a key, and then the manifest, all read back; return its
    location.

    ``deposited`` has size and SHA-256 of every file of the layout, else ``ValueError``. ``signatures`` has
    the results of the checked files by file id, ``evidence`` what was expected. An earlier manifest of the
    envelope keeps its callbacks and, with the same documents, its time (``Manifest.with_history_of``); one
    with the same content stays as it is, also if another version wrote it. With a key, only an earlier one
    with our seal counts. At the end ``confirm_filed``: the root may have been another one since the names
    were claimed. Raises ``ListingDiffers`` if the archive does not list each file once,
    ``ManifestUnsealed`` if it keeps an earlier manifest that lacks only a seal of this key, and
    ``ManifestTooLarge`` before the first write.
    """
    filed = {document.file_id: document for document in deposited}
    files = _manifest_files(backend, layout, filed, signatures)
    manifest = _build_manifest(
        envelope,
        files,
        layout.tags,
        archived_at=archived_at,
        extra=extra,
        evidence=tuple(evidence),
        versions=ManifestVersions(counterfoil=__version__, esaw=esaw_version),
        sealed_by=signer.public.id if signer is not None else None,
    )
    locations = [file.location for file in files]
    sizes: dict[str, int | None] = {file.name: filed[file.facts.file_id].size for file in layout.files}
    if backend.lists_files:
        await _check_listing(backend, layout, sizes, _TWO_NAMES)
    hashes = hash_lines((file.name, file.sha256) for file in files)
    key = signer.public if signer is not None else None
    found = await find_concluded(backend, layout, envelope.envelope_id, claimed=locations, key=key)
    lacks_only_seal = False
    if found is not None:
        lacks_only_seal = key is not None and found.claim is not None and _has_files(found.claim, files)
        earlier = found.manifest
        if signer is None and found.claim is not None:
            # With a key, nothing is taken over and sealed that only the archive claims.
            earlier = found.claim.with_first_callbacks(MAX_UNPROVEN_CALLBACKS)
        manifest = manifest if earlier is None else manifest.with_history_of(earlier)
        # Others choose its size, and each write may last as long as the archive likes.
        del earlier
        found = replace(found, claim=None)
    manifest = manifest.with_first_callbacks()
    digest = manifest.digest
    is_small = manifest.entries <= ENTRIES_ENCODED_IN_LOOP
    content = manifest.encode_readable() if is_small else await asyncio.to_thread(manifest.encode_readable)
    # It has the callbacks and tags of the earlier one, in more memory than its text.
    del manifest
    fits = found is not None and await _is_hash_file(backend, layout, hashes)
    if found is None or (signer is not None and not found.is_ours) or found.digest != digest or not fits:
        try:
            if not fits:
                await _write(backend, layout.hashes_name, hashes, "text/plain", layout.tags)
            await _write_manifest(backend, layout, content, found, signer)
        except ArchiveError as problem:
            if key is None or not lacks_only_seal or problem.reason not in _REFUSALS:
                raise
            raise ManifestUnsealed(backend.location(layout.manifest_name), key.id, problem) from problem
    elif len(found.seals) > 1:
        # A run that replaced the manifest was killed before this.
        await _shorten_seals(backend, layout, found.seals[0])
    return await _concluded(backend, layout, sizes, has_seal=signer is not None)


async def sealed_place(
    backend: ArchiveBackend,
    layout: ArchiveLayout,
    deposited: Sequence[FiledDocument],
    *,
    archive: object,
    key: PublicKey | None,
) -> str | None:
    """
    Return the location of the manifest if it has our seal (by ``key``) and was made in this ``archive`` for
    these files; None: it was not, or the hash file beside it does not fit.

    What it has is protected and confirmed then as by ``conclude``, and raises as there.
    """
    filed = {document.file_id: document for document in deposited}
    files = _manifest_files(backend, layout, filed, {})
    claimed = [each.location for each in files]
    hashes = hash_lines((each.name, each.sha256) for each in files)
    found = await find_concluded(backend, layout, layout.envelope_id, claimed=claimed, key=key)
    manifest = found.manifest if found is not None else None
    if manifest is None or manifest.extra.get("archive") != archive or not _has_files(manifest, files):
        return None
    if not await _is_hash_file(backend, layout, hashes):
        return None
    sizes = {file.name: filed[file.facts.file_id].size for file in layout.files}
    return await _concluded(backend, layout, sizes, has_seal=True)


async def _is_hash_file(backend: ArchiveBackend, layout: ArchiveLayout, hashes: bytes) -> bool:
    """Whether the archive has the hash file with this content."""
    return await read_back(backend, layout.hashes_name, expected=len(hashes)) == checksum(hashes)


async def _concluded(
    backend: ArchiveBackend, layout: ArchiveLayout, sizes: Mapping[str, int | None], *, has_seal: bool
) -> str:
    """Protect the generated files, confirm that all are there, and return the location of the manifest."""
    generated = (layout.hashes_name, layout.manifest_name, *([layout.seal_name] if has_seal else []))
    for name in generated:
        await retain(backend, name)
    # Another version may have written a manifest of another size.
    await confirm_filed(backend, layout, {**sizes, **dict.fromkeys(generated)}, is_listed_before=True)
    return backend.location(layout.manifest_name)


async def confirm_filed(
    backend: ArchiveBackend,
    layout: ArchiveLayout,
    sizes: Mapping[str, int | None],
    *,
    is_listed_before: bool,
) -> None:
    """
    Check the root again, and then that it lists these files; a size that is None is not compared.
    ``is_listed_before`` is whether a list had them before, so that no two names are taken as one.

    They were read back, perhaps in another root that answered for a moment, such as an empty folder under a
    volume that was unmounted. The marker alone does not tell that. Raises ``ArchiveError``:
    ``ListingDiffers`` if one is not listed once.
    """
    await confirm_root(backend)
    if backend.lists_files:
        await _check_listing(backend, layout, sizes, _ANOTHER_ROOT if is_listed_before else _EITHER)


async def write_once(backend: ArchiveBackend, name: str, content: bytes, content_type: str) -> None:
    """
    Store a small file whose name no other content has, and read it back; the same content stays as it is.

    What an interrupted upload left of the content is replaced. The root is checked again after an upload,
    before it is read back, and else at the end. Raises ``ArchiveError``: ``NameTaken`` for other
    content under the name, which is not changed.
    """
    found = await read_back(backend, name, expected=len(content))
    if found is None:
        await confirm_absence(backend)
        await _write(_ConfirmedUploads(backend), name, content, content_type, {})
    elif found != await _checksum(content):
        if found != await _checksum(memoryview(content)[: found[0]]):
            raise NameTaken(
                f"{backend.location(name)} has other content than Counterfoil gives a file of this name. "
                "Move it away, and Counterfoil writes its own."
            )
        await _write(_ConfirmedUploads(backend), name, content, content_type, {})
    else:
        await confirm_root(backend)
    await retain(backend, name)


class _ConfirmedUploads(ForwardingBackend):
    """Checks the root again after each upload, before the file is read back."""

    async def put(
        self, name: str, chunks: AsyncIterable[bytes], *, tags: Mapping[str, str], content_type: str | None
    ) -> None:
        await super().put(name, chunks, tags=tags, content_type=content_type)
        await self.confirm_root()


async def _check_listing(
    backend: ArchiveBackend, layout: ArchiveLayout, sizes: Mapping[str, int | None], cause: str
) -> None:
    """Compare the files in the folder with these sizes. ``cause`` is the sentence about a difference."""
    entries = await _listed(backend, layout, tuple(sizes))
    for name, size in sizes.items():
        if (problem := _listing_problem(entries.find(name), size)) is not None:
            await confirm_root(backend)
            raise ListingDiffers(
                f"{backend.location(name)} was stored and read back, but the archive {problem}. {cause}"
            )


def _listing_problem(found: Sequence[StoredEntry], size: int | None) -> str | None:
    if not found:
        return "does not list it"
    if len(found) > 1:
        return "lists it more than once"
    if size is not None and found[0].size not in (None, size):
        return f"lists it with {found[0].size} bytes instead of {size}"
    return None


async def retain(backend: ArchiveBackend, name: str) -> None:
    """Protect a verified file from changes, if the archive can do that."""
    if isinstance(backend, RetainingBackend):
        await backend.retain(name)


_REFUSALS = frozenset({"ArchiveLocked", "ArchivePermissionDenied", "ArchiveRefused", "NameOccupied"})
"""Reasons of an archive that works and does not replace a file; some WORM storages call that a lock. Each
other one is about the whole Archive, or passes."""

_WITHOUT_ANSWER = frozenset(
    {"ArchiveAnswerUnreadable", "ArchiveFailing", "ArchiveUnreachable", "ArchiveUnresponsive"}
)
"""Reasons after which it is not known whether a file was stored."""


def _has_files(claim: Manifest, files: Sequence[ManifestFile]) -> bool:
    """Whether a manifest names these files, with their content."""
    return set(map(_facts_of, claim.files)) == set(map(_facts_of, files))


def _facts_of(file: ManifestFile) -> tuple[object, ...]:
    return file.file_id, file.kind, file.name, file.size, file.sha256


async def _write_manifest(
    backend: ArchiveBackend,
    layout: ArchiveLayout,
    content: bytes,
    found: FoundManifest | None,
    signer: ManifestSigner | None,
) -> None:
    """Write the seal if there is a key, and then the manifest. An earlier manifest has its seal until it is
    replaced, and if the archive keeps it: nobody may have its key any more, and it may be all that proves the
    files of an event that was removed. Without a key, its seal is removed before. Raises ``NameTaken`` for
    more seals than Counterfoil writes."""
    before = await _sealed_before(backend, layout) if found is not None else None
    earlier = found.seals[:1] if found is not None else ()
    loses_seal = found is not None and (found.is_sealed or signer is not None)
    if loses_seal and not earlier and before is not None:
        # By another key. Runs that did not replace the manifest left their seals as well.
        earlier = await _earlier_seals(backend, layout, before)
    own: tuple[bytes, ...] = ()
    if signer is not None:
        seal = signer.sign(content)
        own = seal, label_of(seal, (await _checksum(content))[1])
    others = tuple(each for each in earlier if each not in own)
    try:
        if own:
            await _write_seals(backend, layout, own + others if others else own[:1])
        elif loses_seal:
            # The seal of a manifest that is about to be replaced, by a key that is gone.
            await backend.discard(layout.seal_name)
        await _write(backend, layout.manifest_name, content, "application/json", layout.tags)
        if own and others:
            await _shorten_seals(backend, layout, own[0])
    except ArchiveError as problem:
        if before is not None and problem.reason not in _WITHOUT_ANSWER:
            # Without an answer, the manifest may arrive late, and needs the new seal. The first error says
            # what to do, and the next run begins again.
            with suppress(ArchiveError, FileNotReturned):
                await _put_seal_back(backend, layout, before)
        raise


@dataclass(frozen=True)
class _SealedBefore:
    """A stored manifest, and the seal beside it; None: it has none."""

    manifest: Checksum
    seal: bytes | None


async def _sealed_before(backend: ArchiveBackend, layout: ArchiveLayout) -> _SealedBefore | None:
    """Read them; None: there is no manifest, or the archive does not return both."""
    try:
        manifest = await read_back(backend, layout.manifest_name, expected=MANIFEST_LIMIT)
        seal = await read_seal(backend, layout.seal_name)
        if manifest is None or (seal is None and await is_stored(backend, layout.seal_name)):
            return None
    except FileNotReturned:
        return None
    return _SealedBefore(manifest, seal)


async def _earlier_seals(
    backend: ArchiveBackend, layout: ArchiveLayout, before: _SealedBefore
) -> tuple[bytes, ...]:
    """Return the seals that stay until the manifest is replaced. Raises ``NameTaken``."""
    try:
        return seals_to_keep(before.seal or b"", before.manifest[1])
    except TooManySeals:
        await confirm_root(backend)
        raise NameTaken(
            f"{backend.location(layout.seal_name)} has more than the seals that Counterfoil left there. The "
            "seal of the stored manifest may be among them, so both stay. Leave only that seal in the file, "
            "or move its folder to another place and keep it. Then retry the event."
        ) from None


async def _put_seal_back(backend: ArchiveBackend, layout: ArchiveLayout, before: _SealedBefore) -> None:
    """Restore the seal, unless the manifest was replaced and only the answer was lost. Raises
    ``ArchiveError``."""
    now = await _sealed_before(backend, layout)
    if now is None or now.manifest != before.manifest or now.seal == before.seal:
        return
    if before.seal is None:
        await backend.discard(layout.seal_name)
    else:
        await _write(backend, layout.seal_name, before.seal, "application/octet-stream", layout.tags)


async def _write_seals(backend: ArchiveBackend, layout: ArchiveLayout, seals: Sequence[bytes]) -> None:
    await _write(backend, layout.seal_name, b"".join(seals), "application/octet-stream", layout.tags)


async def _shorten_seals(backend: ArchiveBackend, layout: ArchiveLayout, own: bytes) -> None:
    """Leave only our seal of the stored manifest. An archive may refuse that: all together count as well."""
    try:
        await _write_seals(backend, layout, (own,))
    except ArchiveError as problem:
        if problem.reason not in _REFUSALS:
            raise


async def _some_at_once(calls: Sequence[Callable[[], Awaitable[Any]]]) -> list[Any]:
    """Return the results of the calls, of which several run at once while the process has spare reads. Raise
    the first error in the order of the calls."""
    results: list[Any] = []
    while waiting := calls[len(results) :]:
        with _SPARE_READS.some(min(len(waiting), MAX_READS_AT_ONCE) - 1) as spare:
            found = await asyncio.gather(*(call() for call in waiting[: spare + 1]), return_exceptions=True)
        for each in found:
            if isinstance(each, BaseException):
                raise each
        results += found
    return results


class _SpareReads:
    """Limit of the concurrent requests of a process, beyond one of each envelope."""

    def __init__(self, count: int) -> None:
        self._left = count

    @contextmanager
    def some(self, wanted: int) -> Iterator[int]:
        """Give at most ``wanted`` of them, without a wait: an archive may hold the others."""
        taken = min(wanted, self._left)
        self._left -= taken
        try:
            yield taken
        finally:
            self._left += taken


_SPARE_READS = _SpareReads(SPARE_READS)


async def _own_names(
    backend: ArchiveBackend,
    layout: ArchiveLayout,
    claimed: Collection[str],
    key: PublicKey | None,
) -> tuple[set[str], bool]:
    """Return the full names that this envelope may write to although a file may exist there, and whether a
    manifest without our seal names the envelope."""
    own = {file.name for file in layout.files if backend.location(file.name) in claimed}
    found = await look_for_concluded(backend, layout, layout.envelope_id, claimed=claimed, key=key)
    is_ours = found is not None and found.is_ours
    if found is not None and found.manifest is not None:
        own |= {f"{layout.folder}/{file.name}" for file in found.manifest.files}
    if is_ours or _has_claim(backend, layout, claimed):
        own |= {layout.manifest_name, layout.hashes_name, layout.seal_name}
    return own, found is not None and found.claim is not None


def _has_claim(backend: ArchiveBackend, layout: ArchiveLayout, claimed: Collection[str]) -> bool:
    """Whether an earlier run claimed a name in the layout's folder, perhaps under another ``spec.path``."""
    folder = backend.location(f"{layout.folder}/x").removesuffix("x")
    return any(each.startswith(folder) for each in claimed)


async def _hash_source(source: Source, accepts: Accepts = _any_content) -> Checksum:
    """Read the source without keeping it; return its size and SHA-256. Raises ``SourceDiffers``."""
    async with source() as download, aclosing(_checked_chunks(download)) as stream:
        found = await hash_stream(stream)
    if not accepts(found):
        raise SourceDiffers(found)
    return found


async def _upload(
    backend: ArchiveBackend,
    file_layout: FileLayout,
    source: Source,
    tags: Mapping[str, str],
    accepts: Accepts,
) -> Checksum:
    """Send the file; return size and SHA-256 of what came from the source."""
    counter = HashingCounter()
    async with (
        source() as download,
        aclosing(_checked_chunks(download)) as whole,
        aclosing(counting(whole, counter)) as counted,
        aclosing(_accepted_chunks(counted, counter, accepts)) as stream,
    ):
        await backend.put(file_layout.name, stream, tags=tags, content_type=file_layout.content_type)
    return counter.size, counter.sha256


async def _accepted_chunks(
    chunks: AsyncIterable[bytes], counter: HashingCounter, accepts: Accepts
) -> AsyncGenerator[bytes, None]:
    """Yield the chunks; raise ``SourceDiffers`` in place of the last one if they are not accepted."""
    last = b""
    async for chunk in chunks:
        if last:
            yield last
        last = chunk
    if not accepts(found := (counter.size, counter.sha256)):
        raise SourceDiffers(found)
    if last:
        yield last


async def _checked_chunks(download: FileSource) -> AsyncGenerator[bytes, None]:
    """Yield the chunks; raise ``SourceBroken`` before the end if they are not as many bytes as declared."""
    got, declared = 0, download.size
    async for chunk in download.chunks:
        got += len(chunk)
        if declared is not None and got > declared:
            raise SourceBroken(declared, got)
        yield chunk
    if declared is not None and got < declared:
        raise SourceBroken(declared, got)


def _verification_failed(backend: ArchiveBackend, name: str, *, is_removed: bool) -> VerificationFailed:
    result = (
        "The file was removed there, and its source is unchanged. Check the storage behind the archive."
        if is_removed
        else "They were not removed there, since they may be of an earlier file. The source of the new file "
        "is unchanged. Check the storage behind the archive, and whether a proxy takes what is sent."
    )
    return VerificationFailed(
        f"{backend.location(name)} was sent {MAX_UPLOADS} times, and each time the archive returned other "
        f"bytes. {result}"
    )


def _build_manifest(
    envelope: EnvelopeFacts,
    files: tuple[ManifestFile, ...],
    tags: Mapping[str, str],
    *,
    archived_at: datetime,
    extra: Mapping[str, Any],
    evidence: tuple[ManifestEvidence, ...],
    versions: ManifestVersions,
    sealed_by: str | None,
) -> Manifest:
    return Manifest(
        envelope=ManifestEnvelope(
            id=envelope.envelope_id,
            name=envelope.name,
            status=envelope.status,
            organization=envelope.organization,
            namespace=envelope.namespace,
            origin=envelope.origin,
        ),
        sender=_sender(envelope),
        times=ManifestTimes(
            sent=envelope.sent_date,
            finished=envelope.finished_date,
            archived=utc_text(archived_at),
            actions=tuple(
                ManifestAction(action=each.action, time=each.time, parameters=dict(each.parameters))
                for each in envelope.actions
                if each.time
            ),
        ),
        evidence=evidence,
        files=files,
        tags=dict(tags),
        extra=dict(extra),
        versions=versions,
        sealed_by=sealed_by,
    )


def _sender(envelope: EnvelopeFacts) -> ManifestSender:
    """Return the person whom eSAW names as the sender. With the default Sender, and where a team shares its
    envelopes, the key that reads an envelope is another person's."""
    named, of_key = envelope.sent_by_email, envelope.sender_email
    if named and named.casefold() != of_key.casefold():
        return ManifestSender(email=named, user_id="", name=envelope.sent_by_name)
    return ManifestSender(email=of_key, user_id=envelope.sender_user_id, name=envelope.sender_name)


def _manifest_files(
    backend: ArchiveBackend,
    layout: ArchiveLayout,
    filed: Mapping[str, FiledDocument],
    signatures: Mapping[str, Signatures],
) -> tuple[ManifestFile, ...]:
    return tuple(_manifest_file(backend, layout, file, filed, signatures) for file in layout.files)


def _manifest_file(
    backend: ArchiveBackend,
    layout: ArchiveLayout,
    file_layout: FileLayout,
    filed: Mapping[str, FiledDocument],
    signatures: Mapping[str, Signatures],
) -> ManifestFile:
    facts, location = file_layout.facts, backend.location(file_layout.name)
    document = filed.get(facts.file_id)
    if document is None or document.size is None or document.sha256 is None:
        raise ValueError(f"{location} was not deposited")
    if document.location not in (None, location):
        raise ValueError(f"{location} was deposited as {document.location}")
    return ManifestFile(
        name=layout.relative(file_layout.name),
        kind=facts.kind,
        file_id=facts.file_id,
        file_name=facts.file_name,
        content_type=file_layout.content_type,
        size=document.size,
        sha256=document.sha256,
        location=location,
        document_number=facts.document_number,
        email=facts.email,
        activity_id=facts.activity_id,
        signatures=signatures.get(facts.file_id),
    )


async def _write(
    backend: ArchiveBackend, name: str, content: bytes, content_type: str, tags: Mapping[str, str]
) -> None:
    """Store a small file that Counterfoil generated, and read it back."""
    before = await read_back(backend, name, expected=len(content))
    wanted, is_removed = await _checksum(content), False
    for _ in range(MAX_UPLOADS):
        await backend.put(name, single_chunk(content), tags=tags, content_type=content_type)
        there = await read_back(backend, name, expected=len(content))
        if there == wanted:
            return
        is_removed = await _discard_own(backend, name, there, before, expected=len(content))
    raise _verification_failed(backend, name, is_removed=is_removed)


async def _checksum(content: bytes | memoryview) -> tuple[int, str]:
    """Return size and SHA-256. A list of an Import has up to 64 MiB."""
    return checksum(content) if len(content) <= HASHED_IN_LOOP else await asyncio.to_thread(checksum, content)


async def _discard_own(
    backend: ArchiveBackend,
    name: str,
    wrong: Checksum | None,
    before: Checksum | None,
    *,
    expected: int,
) -> bool:
    """
    Remove an upload that was read back as ``wrong``; return False if it stays, since it may be no upload.

    It is none if another writer has replaced it since. It may be none if it was there ``before``: then a
    proxy may have taken the upload. ``expected`` is the size that was uploaded. Of a longer file only the
    beginning is known.
    """
    if wrong is None:
        return True
    if before is not None and (wrong == before or min(wrong[0], before[0]) > expected):
        return False
    if await read_back(backend, name, expected=expected) != wrong:
        return False
    await backend.discard(name)
    return True

"""
The proof that an archived file is the one that eSAW has (rule 13): an archive's own word is no evidence.

There are three grounds. eSAW's bytes, hashed in this run: ``filing.store`` compares them. A status that we
stored, of this event or of another event of the same Organization and envelope, with the same size and
SHA-256. A manifest that our signing key sealed and that names this event, this eSAW and this Organization.
Everything else in an archive is only a claim of the people and programs that can write there.

A copy has its own proof (``missing_copies``): a stored status says that each file of the envelope was read
back in the Archive of the copy, with the size and the SHA-256 that the same status has.

This module decides and reads nothing. Each file that it does not name is downloaded and compared.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TypeVar

import msgspec
from msgspec.structs import replace as replace_struct

from counterfoil.archives.layout import ArchiveLayout, EnvelopeFacts
from counterfoil.archives.manifest import (
    FIXED_KINDS,
    RENDERED_KINDS,
    Manifest,
    ManifestFile,
    event_of,
)
from counterfoil.archives.manifest_signature import PublicKey
from counterfoil.resources.archive_kinds import DISCARDED_SCHEME
from counterfoil.resources.conditions import find_condition
from counterfoil.resources.envelopeevent import (
    ESAW_SIGNED_KINDS,
    SIGNATURES_CONDITION,
    EnvelopeEvent,
    EnvelopeEventStatus,
    EventCopy,
    FiledDocument,
    FileKind,
    Provisional,
    SentContent,
)
from counterfoil.resources.organization import CHANGEABLE_STATUSES, EnvelopeStatus
from counterfoil.resources.routes import CopySpec, has_manifest, required_copy_names, stored_copy
from counterfoil.signatures.results import Signatures

MAX_NAME = 300
"""Characters of a name in a manifest that a message repeats."""

_PLAIN_WORD = re.compile(r"[A-Za-z0-9_.:/+-]+")

T = TypeVar("T")

Checksum = tuple[int, str]
"""Size in bytes and SHA-256."""

FileKey = tuple[str, FileKind]
"""Id and kind."""


@dataclass(frozen=True)
class FoundManifest:
    """The part of a manifest in an archive that a run keeps."""

    manifest: Manifest | None
    """The manifest if our seal shows that we wrote it for this source. Others choose the size of theirs, and
    a run may last for hours."""
    is_sealed: bool
    """Whether it names a key."""
    digest: str
    """``Manifest.digest``; empty if it was read with a key and is not ours."""
    claim: Manifest | None = field(default=None, compare=False)
    """The manifest if it names this source, and no seal shows that we wrote it. It proves nothing: it may add
    to what is waited for, and without a key to what is written beside the files. Others choose its size: no
    run keeps it while it waits for an answer."""
    seals: tuple[bytes, ...] = field(default=(), compare=False)
    """The seals beside it and their labels, first the seal of our key that fits it; empty: none does."""

    @property
    def is_ours(self) -> bool:
        """Whether our seal shows that we wrote it for this source."""
        return self.manifest is not None


@dataclass(frozen=True)
class ProvenFiles:
    """By id and kind of a file: every size and hash that a stored status or a manifest with our seal
    proves, and those that a download may have."""

    checksums: Mapping[FileKey, frozenset[Checksum]] = field(default_factory=dict)
    expected: Mapping[FileKey, Mapping[Checksum, Provisional | None]] = field(default_factory=dict)
    """The content that the event itself or a manifest with our seal has, and longer ones that another event
    archived: a cut download is shorter. Each with why it is provisional. Without an entry, a download may
    have any content."""
    other: Mapping[FileKey, SentContent] = field(default_factory=dict)
    """The longest content that eSAW sent and that the event did not archive."""
    is_completed: bool = False
    """Whether the envelope is Completed: in another state, eSAW may render documents at each download."""

    def of(self, file_id: str, kind: FileKind) -> frozenset[Checksum]:
        """Return what is proven about one file; empty: nothing, so it is downloaded."""
        return self.checksums.get((file_id, kind), frozenset())

    def expected_of(self, file_id: str, kind: FileKind) -> Mapping[Checksum, Provisional | None]:
        """Return what a download of one file may have; empty: any content."""
        return self.expected.get((file_id, kind), {})

    def longest_of(self, file_id: str, kind: FileKind) -> Mapping[Checksum, Provisional | None]:
        """Return the longest of the contents that a download of one file may have."""
        expected = self.expected_of(file_id, kind)
        longest = max((size for size, _ in expected), default=0)
        return {each: mark for each, mark in expected.items() if each[0] == longest}

    def accepts(self, file_id: str, kind: FileKind, found: Checksum, *, is_repeated: bool = False) -> bool:
        """
        Whether a download of one file may have this size and hash.

        The longest archived content counts. A provisional one may be that of a cut download, which is shorter
        than the file. So nothing counts that is shorter than it, and what is not shorter does if no archived
        one is as long. Nor does anything that is shorter than a content that was sent before (``other``).
        Once a person accepted that one, each archived content counts, or one that is shorter than neither,
        and a content in doubt binds nothing. What eSAW may render at each download has no single content: the
        second one (``is_repeated``) counts if it is not shorter, and any once a person accepted one.
        """
        expected = self.expected_of(file_id, kind)
        other, sent = self.other.get((file_id, kind)), self.longest_sent(file_id, kind)
        is_accepted = self.is_accepted(file_id, kind)
        is_archived = expected.get(found, Provisional.NO_MANIFEST) is None
        if not is_accepted and found[0] < sent:
            return False
        if is_accepted:
            is_free = self.may_be_rendered(kind) or (other is not None and other.has_fault)
            if not (is_archived or is_free or found[0] >= sent):
                return False
            expected = {each: mark for each, mark in expected.items() if mark is not Provisional.IN_DOUBT}
        if not expected:
            return True
        archived = max((size for (size, _), mark in expected.items() if mark is None), default=-1)
        read_back = max((size for (size, _), mark in expected.items() if mark is not None), default=-1)
        may_be_any = is_accepted or self.may_be_rendered(kind)
        if is_archived and found[0] >= read_back and (found[0] >= archived or may_be_any):
            return True
        if is_repeated:
            return is_accepted or found[0] >= max(archived, read_back)
        if archived >= read_back:
            return is_accepted and found[0] >= archived
        return found[0] >= read_back

    def longest_sent(self, file_id: str, kind: FileKind) -> int:
        """Return the length of the longest content that eSAW sent and that was not archived; -1 for none. One
        with a fault does not count beside a sound one."""
        other = self.other.get((file_id, kind))
        if other is None:
            return -1
        is_sound = any(mark is not Provisional.IN_DOUBT for mark in self.expected_of(file_id, kind).values())
        return -1 if other.has_fault and is_sound else other.size

    def is_accepted(self, file_id: str, kind: FileKind) -> bool:
        """Whether a person retried the event after a message had named another content of this file."""
        other = self.other.get((file_id, kind))
        return other is not None and other.accepted_time is not None

    def recognised(self, file_id: str, kind: FileKind, *, is_rendered: bool) -> Collection[Checksum]:
        """Return the archived contents of a file that is recognised in its place once a download of it was
        refused: one that may be rendered at each download, and what a person put back before a retry."""
        if not (is_rendered or self.is_accepted(file_id, kind)):
            return ()
        return [each for each, mark in self.longest_of(file_id, kind).items() if mark is None]

    def is_worse(self, file_id: str, kind: FileKind, size: int, sha256: str) -> bool:
        """Whether this content, in which the signature check found a fault, replaces no other one: there is
        one without a fault, and no person accepted another."""
        expected = self.expected_of(file_id, kind).items()
        sound = {each for each, mark in expected if mark is not Provisional.IN_DOUBT}
        return bool(sound) and (size, sha256) not in sound and not self.is_accepted(file_id, kind)

    def may_be_rendered(self, kind: FileKind) -> bool:
        """Whether eSAW may render files of this kind at each download."""
        return kind not in FIXED_KINDS or not self.is_completed

    def has_only_doubt(self, file_id: str, kind: FileKind) -> bool:
        """Whether the signature check found a fault in each expected content of one file."""
        marks = set(self.expected_of(file_id, kind).values())
        return marks == {Provisional.IN_DOUBT}

    def doubting(self, file_id: str, kind: FileKind) -> "ProvenFiles":
        """Return the same with the content of one file in doubt, so that it is downloaded. No message named
        that doubt, so no person accepted a shorter one."""
        doubted = dict.fromkeys(self.expected_of(file_id, kind), Provisional.IN_DOUBT)
        return replace(
            self,
            checksums={key: each for key, each in self.checksums.items() if key != (file_id, kind)},
            expected={**self.expected, (file_id, kind): doubted} if doubted else self.expected,
            other={
                key: replace_struct(each, accepted_time=None) if key == (file_id, kind) else each
                for key, each in self.other.items()
            },
        )


def has_own_seal(manifest: Manifest, key: PublicKey | None, *, fits: bool) -> bool:
    """Whether the manifest names our ``key``, and a seal of that key beside it ``fits`` its content."""
    return key is not None and fits and manifest.sealed_by == key.id


def quoted(text: str) -> str:
    """Return the first ``MAX_NAME`` characters of a word of a manifest for a message; in quotes if it is no
    plain one, so that nobody reads it as ours. Without backquotes, in which commands stand."""
    word = text[:MAX_NAME].replace("`", "'")
    return word if _PLAIN_WORD.fullmatch(word) is not None else repr(word)


def other_source(manifest: Manifest, layout: ArchiveLayout | EnvelopeFacts) -> str | None:
    """
    Return the source that the manifest names if it is not the layout's envelope, eSAW and Organization; None
    if it is. Without an ``origin`` of the layout, any eSAW is accepted.

    A claim, too: it never makes a file ours, but nothing is replaced that claims to be another's. Manifests
    from before these fields have no ``origin`` and no ``namespace``.
    """
    envelope = manifest.envelope
    if envelope.id != layout.envelope_id:
        return f"of envelope {quoted(envelope.id)}"
    if envelope.origin and layout.origin and envelope.origin != layout.origin:
        return f"of an envelope in {quoted(envelope.origin)}, and this one is in {quoted(layout.origin)}"
    if envelope.organization != layout.organization or _is_other(envelope.namespace, layout.namespace):
        of = "/".join(part for part in (envelope.namespace, envelope.organization) if part)
        return f"of Organization/{quoted(of)}"
    return None


def names_source(manifest: Manifest, layout: ArchiveLayout | EnvelopeFacts) -> bool:
    """Whether the manifest names the layout's envelope, eSAW, namespace and Organization, all of them."""
    envelope = manifest.envelope
    found = (envelope.id, envelope.origin, envelope.namespace, envelope.organization)
    return found == (layout.envelope_id, layout.origin, layout.namespace, layout.organization) and bool(
        layout.origin
    )


def names_event(manifest: Manifest, uid: str) -> bool:
    """Whether the manifest was written for the event with this uid."""
    return bool(uid) and event_of(manifest).get("uid") == uid


def proven_files(
    event: EnvelopeEvent,
    siblings: Collection[EnvelopeEvent],
    found: FoundManifest | None,
    envelope_status: str,
) -> ProvenFiles:
    """
    Return what the stored statuses of the event and of the envelope's other events prove, and the manifest
    beside the files if it is ours.

    Only what was archived in the envelope's present status counts: no ``provisional`` hash proves a file, as
    its download may have been cut. Two contents of a file that is not rendered at each download prove
    nothing: one of them was cut. After a person's retry, the event's own one does, since the message advises
    to put it back. What the event itself archived is the content of the file (``expected``). Else it is what
    the event read back, what a manifest with our seal names, whose event may have been removed, and what
    another event archived. An expired envelope can be restarted and signed further, and its files keep their
    ids: nothing proves them but a download.
    """
    if envelope_status == EnvelopeStatus.EXPIRED:
        return ProvenFiles()
    manifest = found.manifest if found is not None else None
    if manifest is not None and manifest.envelope.status != envelope_status:
        manifest = None
    checksums = _archived_contents(event, siblings, manifest, envelope_status)
    documents = event.status.documents if _is_of(event, event, envelope_status) else ()
    own = _own_contents(documents, event.status, manifest)
    files = ProvenFiles(
        expected={key: _with_longer(each, checksums.get(key, ())) for key, each in own.items()},
        other={_key(each): each.other_content for each in documents if each.other_content is not None},
        is_completed=envelope_status == EnvelopeStatus.COMPLETED,
    )
    proven = {
        key: frozenset(each)
        for key, each in checksums.items()
        # A fault may have been found after the manifest was written.
        if Provisional.IN_DOUBT not in own.get(key, {}).values()
        # The hash of an attempt that failed is no proof, but another content is one as little.
        if _is_rendered(key) or len(each | own.get(key, {}).keys()) == 1
    }
    proven |= {
        _key(each): frozenset((content,))
        for each in documents
        if files.is_accepted(*_key(each))
        if provisional(each, event.status) is None and not _is_rendered(_key(each))
        if (content := _content(each)) is not None
    }
    return replace(
        files,
        # What eSAW sent since, and is not shorter, says that this one may have been cut.
        checksums={
            key: each
            for key, each in proven.items()
            if files.is_accepted(*key) or all(size > files.longest_sent(*key) for size, _ in each)
        },
    )


def _archived_contents(
    event: EnvelopeEvent, siblings: Iterable[EnvelopeEvent], manifest: Manifest | None, envelope_status: str
) -> Mapping[FileKey, Collection[Checksum]]:
    """Return what the event, another one, or the event's own manifest says that it archived."""
    found: dict[FileKey, set[Checksum]] = {}
    lists: dict[int, Sequence[FiledDocument]] = {}
    for each in (event, *siblings):
        is_sound = unmarked(each.status) is None and doubt(each.status) is None
        if is_sound and _is_of(each, event, envelope_status):
            lists[id(each.status.documents)] = each.status.documents
    archived = (each for documents in lists.values() for each in documents if each.provisional is None)
    is_own = manifest is not None and names_event(manifest, event.uid)
    named = manifest.files if manifest is not None and is_own else ()
    sound = (each for each in named if not has_fault(each.kind, each.signatures))
    files: Iterator[FiledDocument | ManifestFile] = chain(archived, sound)
    for file in files:
        if (content := _content(file)) is not None:
            found.setdefault(_key(file), set()).add(content)
    return found


def _own_contents(
    documents: Iterable[FiledDocument], status: EnvelopeEventStatus, manifest: Manifest | None
) -> Mapping[FileKey, Mapping[Checksum, Provisional | None]]:
    """Return what the event itself archived of these files of its status, else what it read back, and what a
    manifest with our seal names, unless the event archived a longer content. Of no file that is rendered at
    each download."""
    found: dict[FileKey, dict[Checksum, Provisional | None]] = {}
    for document in documents:
        if (content := _content(document)) is not None:
            found.setdefault(_key(document), {})[content] = provisional(document, status)
    for file in manifest.files if manifest is not None else ():
        content, known = _content(file), found.get(_key(file), {})
        if content is None or has_fault(file.kind, file.signatures):
            continue
        is_longer = all(content[0] > size for (size, _), mark in known.items() if mark is None)
        if is_longer and known.get(content) is not Provisional.IN_DOUBT:
            found.setdefault(_key(file), {})[content] = None
    return {key: each for key, each in found.items() if not _is_rendered(key)}


def provisional(document: FiledDocument, status: EnvelopeEventStatus) -> Provisional | None:
    """Return why the hash of a file of this status is not final; None: a manifest names it, or there is
    none."""
    return document.provisional or (unmarked(status) if document.sha256 is not None else None)


def unmarked(status: EnvelopeEventStatus) -> Provisional | None:
    """Return why the hashes without a mark are not final: earlier versions marked none. None: they are
    archived."""
    return None if has_manifest(status) else Provisional.NO_MANIFEST


def _is_of(each: EnvelopeEvent, event: EnvelopeEvent, envelope_status: str) -> bool:
    """Whether the files of ``each`` are those of the event's envelope in this status."""
    summary = each.status.envelope
    return summary is not None and summary.status == envelope_status and _is_same_envelope(each, event)


def _key(file: FiledDocument | ManifestFile) -> FileKey:
    return file.file_id, file.kind


def _content(file: FiledDocument | ManifestFile) -> Checksum | None:
    return (file.size, file.sha256) if file.size is not None and file.sha256 is not None else None


def has_fault(kind: FileKind, found: Signatures | None) -> bool:
    """Whether the signature check ``found`` a fault in a file that eSAW signs; None: it was not checked."""
    return found is not None and found.is_doubtful and kind in ESAW_SIGNED_KINDS


def _is_rendered(key: tuple[str, FileKind]) -> bool:
    return key[1] in RENDERED_KINDS


def _with_longer(
    own: Mapping[Checksum, Provisional | None], known: Collection[Checksum]
) -> Mapping[Checksum, Provisional | None]:
    longest = max(size for size, _ in own)
    return {**own, **{each: None for each in known if each[0] > longest}}


def once_per_list(answer: Callable[[Sequence[FiledDocument]], T]) -> Callable[[Sequence[FiledDocument]], T]:
    """
    Return ``answer``, which is asked once about each list. For one calculation, since it keeps the lists.

    Equal lists of the other events of an envelope are one object (``SiblingCollector``). A caller chooses the
    number of events: to compare the list of each would hold the event loop for seconds.
    """
    # With the list itself, so that no other one gets its id.
    known: dict[int, tuple[Sequence[FiledDocument], T]] = {}

    def remembered(documents: Sequence[FiledDocument]) -> T:
        if id(documents) not in known:
            known[id(documents)] = (documents, answer(documents))
        return known[id(documents)][1]

    return remembered


def contradiction(
    event: EnvelopeEvent, siblings: Iterable[EnvelopeEvent], kinds: Collection[FileKind] = FIXED_KINDS
) -> str | None:
    """Return which document another event of the envelope archived or read back with other content
    (``contradicting``), as a sentence; None: no other did."""
    for each in contradicting(event, siblings, kinds):
        return (
            f"EnvelopeEvent/{each.name} has a document with other content, in the same state of the envelope."
        )
    return None


def contradicting(
    event: EnvelopeEvent, siblings: Iterable[EnvelopeEvent], kinds: Collection[FileKind] = FIXED_KINDS
) -> Iterator[EnvelopeEvent]:
    """
    Yield those events that archived a document with other content (``contradicts``).

    A provisional file may be a cut download, and is downloaded again. But what was read back is no cut one if
    it is longer, also if its signatures have a fault.
    """
    state = event.status.envelope.status if event.status.envelope is not None else ""

    def differs(unmarked_is: Provisional | None) -> Callable[[Sequence[FiledDocument]], bool]:
        return once_per_list(
            lambda documents: contradicts(event.status, documents, state, kinds, unmarked_is=unmarked_is)
        )

    answers = {each: differs(each) for each in (None, Provisional.NO_MANIFEST)}
    for each in siblings:
        summary = each.status.envelope
        if summary is None or summary.status != state:
            continue
        if answers[unmarked(each.status)](each.status.documents):
            yield each


def contradicts(
    status: EnvelopeEventStatus,
    files: Iterable[FiledDocument | ManifestFile],
    envelope_status: str,
    kinds: Collection[FileKind] = FIXED_KINDS,
    *,
    unmarked_is: Provisional | None = None,
) -> bool:
    """Whether one of these files, archived in this status of the envelope, is in the event's status with
    other content. Only documents and attachments have one content (``FIXED_KINDS``), and an expired envelope
    may be restarted. Of other ``kinds``, a download may have been cut as well. ``unmarked_is`` tells why the
    hashes without a mark are provisional (``unmarked``)."""
    if envelope_status in CHANGEABLE_STATUSES:
        return False
    if status.envelope is None or status.envelope.status != envelope_status:
        return False
    own = {_key(each): each for each in status.documents if each.sha256}
    for each in files:
        known = own.get(_key(each)) if each.kind in kinds else None
        if known is None:
            continue
        sent = each.other_content if isinstance(each, FiledDocument) else None
        if sent is not None and sent.size >= (known.size or 0) and sent.sha256 != known.sha256:
            return True
        if each.sha256 in (None, known.sha256):
            continue
        mark = (each.provisional if isinstance(each, FiledDocument) else None) or unmarked_is
        is_longer = (each.size or 0) > (known.size or 0)
        if mark is None or is_longer:
            return True
    return False


def doubt(status: EnvelopeEventStatus) -> str | None:
    """Return what the signature check found against a file (unreadable, or a broken signature); None:
    nothing."""
    checked = find_condition(status.conditions, SIGNATURES_CONDITION)
    if checked is None or checked.status != "False" or checked.reason != "SignatureBroken":
        return None
    return checked.message


def is_kept(status: EnvelopeEventStatus) -> bool:
    """Whether no location in the status is one of an archive that discards its files."""
    manifest = status.archive.manifest if status.archive is not None else None
    locations = [manifest, *(each.location for each in status.documents)]
    return not any(each.startswith(DISCARDED_SCHEME) for each in locations if each is not None)


def documents_digest(documents: Sequence[FiledDocument]) -> str | None:
    """
    Return the SHA-256 of the ids, kinds, sizes and hashes of archived files; None: there is none, or no
    manifest names one of them, so nothing can be compared with them.

    Places do not count: a copy has others than its original.
    """
    if not documents or any(_content(each) is None for each in documents):
        return None
    if any(each.provisional is Provisional.NO_MANIFEST for each in documents):
        return None
    facts = sorted((each.file_id, each.kind, each.size, each.sha256) for each in documents)
    return hashlib.sha256(msgspec.json.encode(facts)).hexdigest()


def is_copy_proved(
    copy: EventCopy,
    status: EnvelopeEventStatus,
    digest_of: Callable[[Sequence[FiledDocument]], str | None] = documents_digest,
) -> bool:
    """
    Whether the entry of a status proves that a copy has the files of that status.

    It names the files for which a run read the copy. An audit trail there may be that of a later event
    (``accepted_documents``). If the envelope was archived again since, with another file or another content,
    they are others, and nothing is proved.
    """
    original = status.archive
    if copy.verified_time is None or not copy.manifest or copy.documents is None:
        return False
    if copy.documents != digest_of(status.documents):
        return False
    if original is None or copy.ref == original.ref or copy.manifest == original.manifest:
        # It would be its own original.
        return False
    return not copy.manifest.startswith(DISCARDED_SCHEME)


def missing_copies(status: EnvelopeEventStatus, copies: Collection[CopySpec]) -> tuple[str, ...]:
    """Return the Archives of those copies that the status does not prove. Two that it proves at one place are
    one, so neither counts."""
    entries = [stored_copy(status, each.archive_ref.name) for each in copies]
    proved = [each for each in entries if is_copy_proved(each, status)]
    places = Counter(each.manifest for each in proved)
    return tuple(each.ref.name for each in entries if each not in proved or places[each.manifest] > 1)


def missing_required_copies(status: EnvelopeEventStatus, copies: Collection[CopySpec]) -> tuple[str, ...]:
    """Return the Archives of the required copies that the status does not prove: the envelope stays."""
    missing = missing_copies(status, copies)
    return tuple(each for each in required_copy_names(copies) if each in missing)


def unread_required_copies(
    status: EnvelopeEventStatus, copies: Collection[CopySpec], verified: Mapping[str, str]
) -> tuple[str, ...]:
    """
    Return the Archives of the required copies in which this run did not read the files of the status.

    ``verified`` has the digests of what it read (``documents_digest``), by the name of the Archive.
    """
    digest = documents_digest(status.documents)
    required = required_copy_names(copies)
    return tuple(each for each in required if digest is None or verified.get(each) != digest)


def _is_same_envelope(one: EnvelopeEvent, other: EnvelopeEvent) -> bool:
    return (one.organization, one.spec.envelope_id) == (other.organization, other.spec.envelope_id)


def _is_other(namespace: str, own: str) -> bool:
    return bool(namespace and own) and namespace != own

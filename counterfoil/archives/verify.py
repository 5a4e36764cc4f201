"""
The audit of an archived envelope: is everything there, as it was archived, and nothing else?

Needs the archive and nothing more: no Kubernetes, no eSAW, no clock. It changes nothing. A manifest is a
claim until its seal fits the auditor's key (rule 13); signatures in PDFs are examined again, never repeated.
"""

from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from urllib.parse import unquote

from counterfoil.archives.backend import ArchiveBackend, ChecksumReported, FileNotReturned, FileNotStored
from counterfoil.archives.errors import NameTaken
from counterfoil.archives.layout import EnvelopeFacts
from counterfoil.archives.manifest import (
    EvidenceState,
    Manifest,
    ManifestDamaged,
    ManifestEvidence,
    ManifestFile,
    hash_lines,
)
from counterfoil.archives.manifest_signature import PublicKey
from counterfoil.archives.names import HASHES_NAME, MANIFEST_NAME, SIGNATURE_NAME
from counterfoil.archives.proof import MAX_NAME, Checksum, names_source, other_source, quoted
from counterfoil.archives.readback import (
    bounded,
    checksum,
    fitting,
    fitting_seals,
    read_checksum,
    read_seal,
    reading_small,
)
from counterfoil.archives.streams import HashingCounter, counting, drain
from counterfoil.resources.envelopeevent import (
    ESAW_SIGNED_KINDS,
    MAX_DOCUMENTS_BYTES,
    FiledDocument,
    FileKind,
)
from counterfoil.signatures.results import Kind, Signatures, State
from counterfoil.signatures.worker_pool import SignatureWorkers

MAX_ABSENT_NAMED = 3
"""Maximum number of absent pieces of evidence that a message names."""

MAX_COPY_NAMES = MAX_DOCUMENTS_BYTES
"""Maximum bytes of all names of a copy in its folder, as those of the original in a status."""

LACKS_SEAL = f"{SIGNATURE_NAME} is missing."
"""The fault of a copy from before there was a signing key, or whose manifest was replaced by one of then."""

_NOT_RETURNED = "is not returned by the archive, so it can't be checked again"
_OTHER_BYTES = ", but the archive returned other bytes when its signatures were examined"


class CheckStatus(StrEnum):
    """Result of a check. ``NotChecked``: something was not checked, and no fault is known."""

    OK = "OK"
    WRONG = "Wrong"
    NOT_CHECKED = "NotChecked"


class CheckSubject(StrEnum):
    """Subject of a check."""

    MANIFEST = "Manifest"
    SEAL = "Seal"
    HASHES = "Hashes"
    FILE = "File"
    EXTRA = "Extra"


@dataclass(frozen=True)
class CheckReport:
    """One thing that was checked; ``says`` continues the sentence after the name, without a full stop."""

    about: CheckSubject
    name: str
    verdict: CheckStatus
    says: str

    @property
    def sentence(self) -> str:
        """The whole sentence."""
        own = self.about in (CheckSubject.MANIFEST, CheckSubject.SEAL, CheckSubject.HASHES)
        return f"{self.name if own else repr(self.name)} {self.says}."


async def check_archive(
    backend: ArchiveBackend,
    folder: str,
    *,
    key: PublicKey | None,
    examiner: SignatureWorkers | None = None,
) -> AsyncGenerator[CheckReport, None]:
    """
    Check an archived envelope, and yield each result: the manifest first, then the seal, the rest as it goes.

    Without a ``key`` a seal is only looked for. Without an ``examiner`` nothing is said about signatures.

    Raises ``ArchiveError`` if the archive itself does not work.
    """
    about_manifest = partial(CheckReport, CheckSubject.MANIFEST, MANIFEST_NAME)
    try:
        async with reading_small(backend, f"{folder}/{MANIFEST_NAME}") as content:
            seal = await read_seal(backend, f"{folder}/{SIGNATURE_NAME}")
            manifest = Manifest.decode(content)
            verdict, says = await _check_seal(manifest, content, seal, key)
    except FileNotStored:
        yield about_manifest(CheckStatus.WRONG, "is missing")
        return
    except FileNotReturned:
        yield about_manifest(CheckStatus.NOT_CHECKED, _NOT_RETURNED)
        return
    except ManifestDamaged as damage:
        yield about_manifest(CheckStatus.WRONG, f"can't be read: {damage}")
        return
    yield about_manifest(CheckStatus.OK, _describe_manifest(manifest))
    for contradiction in _contradictions(manifest):
        yield about_manifest(CheckStatus.WRONG, contradiction)
    is_sealed = False
    if manifest.sealed_by is not None or key is not None:
        is_sealed = verdict is CheckStatus.OK
        yield CheckReport(CheckSubject.SEAL, SIGNATURE_NAME, verdict, says)
    for file in manifest.files:
        verdict, says = await _check_file(backend, folder, file)
        if verdict is CheckStatus.OK and examiner is not None and _is_examined(file):
            found = await _examined(backend, folder, file, examiner)
            verdict, signatures = CheckStatus.WRONG, _OTHER_BYTES
            if found is not None:
                verdict, signatures = _compare_signatures(found, file, is_sealed=is_sealed)
            says += signatures
        yield CheckReport(CheckSubject.FILE, file.name, verdict, says)
    try:
        verdict, says = await _check_hashes(backend, folder, _hashes(manifest))
    except FileNotReturned:
        verdict, says = CheckStatus.NOT_CHECKED, _NOT_RETURNED
    yield CheckReport(CheckSubject.HASHES, HASHES_NAME, verdict, says)
    for extra in await _unlisted_files(backend, folder, manifest):
        yield CheckReport(CheckSubject.EXTRA, extra, CheckStatus.WRONG, f"is not in {MANIFEST_NAME}")


async def verify_folder(backend: ArchiveBackend, folder: str) -> list[str]:
    """
    Return what is wrong with the files of an archived envelope and with what is said about them, one sentence
    each.

    Seals and extra files are not looked for. Raises ``ArchiveError`` when the archive itself does not work.
    """
    return [
        check.sentence
        async for check in check_archive(backend, folder, key=None)
        if check.verdict is CheckStatus.WRONG and check.about not in (CheckSubject.SEAL, CheckSubject.EXTRA)
    ]


async def verify_documents(
    backend: ArchiveBackend,
    manifest: str,
    documents: Sequence[FiledDocument],
    envelope: EnvelopeFacts,
    *,
    key: PublicKey | None,
) -> AsyncGenerator[str, None]:
    """
    Yield what the archive no longer has as it was archived, one sentence each: the manifest at this location,
    hash file and seal beside it, and every document. All bytes are read again; a seal must exist, and fit
    if the manifest names our ``key``. The manifest may not claim to be of another envelope, or of another
    status of it.

    An archive that returns no bytes (``verify: Checksum``) is believed about the manifest, as when it was
    filed. Raises ``FileNotReturned`` after all faults if nothing is known about a file; ``ArchiveError`` when
    the archive itself does not work.
    """
    locations = [manifest, *(each.location or "" for each in documents)]
    names = [name_at(backend, location) for location in locations]
    if None in names:
        yield "The archive, as it is configured now, does not contain the place of the archived files."
        return
    manifest_name, *document_names = [name for name in names if name is not None]
    folder = manifest_name.removesuffix(f"/{MANIFEST_NAME}")
    filed = list(zip(document_names, documents, strict=True))
    unread: FileNotReturned | None = None
    try:
        for fault in await _manifest_faults(backend, folder, filed, envelope, key):
            yield fault
    except FileNotReturned as problem:
        unread = problem
    for name, document in filed:
        try:
            error = await _content_error(backend, name, document.size, document.sha256)
        except FileNotReturned as problem:
            unread = problem
            continue
        if error is not None:
            yield f"{document.location} {error}."
    if unread is not None:
        raise unread


async def foreign_seal(
    backend: ArchiveBackend, manifest: str, envelope: EnvelopeFacts, *, key: PublicKey | None
) -> str | None:
    """
    Return as a sentence that the manifest at this location has no seal of our ``key`` for this envelope;
    None: it has, or there is no key.

    This is no fault of its files: it may be older than the key. But who may write there may have written it.
    An archive that returns no bytes is believed, as by ``verify_documents``. Raises as that does.
    """
    name = name_at(backend, manifest)
    if key is None or name is None:
        return None
    seal_name = f"{name.removesuffix(MANIFEST_NAME)}{SIGNATURE_NAME}"
    try:
        async with reading_small(backend, name) as content:
            fits = bool(await fitting_seals(backend, seal_name, content, key))
            found = Manifest.decode(content)
    except ChecksumReported:
        return None
    except (FileNotStored, ManifestDamaged):
        return f"{MANIFEST_NAME} was changed while it was read."
    if fits and names_source(found, replace(envelope, origin=found.envelope.origin)):
        return None
    if fits:
        return f"{MANIFEST_NAME} has our seal, and does not say of which namespace and eSignAnyWhere it is."
    named = "no key" if found.sealed_by is None else f"the key {quoted(found.sealed_by)}"
    return (
        f"{MANIFEST_NAME} has no seal of the signing key {key.id}; it names {named}. Either it is older than "
        "that key, or somebody replaced it."
    )


async def first_copy_fault(
    backend: ArchiveBackend,
    manifest: str,
    accepted: Iterable[Sequence[FiledDocument]],
    envelope: EnvelopeFacts,
    *,
    key: PublicKey | None,
) -> str | None:
    """Return the first thing that a copy lacks of the last of these lists; None: it has each file of one of
    them. Raises as ``verify_copy``."""
    fault = None
    for documents in accepted:
        async with aclosing(verify_copy(backend, manifest, documents, envelope, key=key)) as faults:
            fault = await anext(faults, None)
        if fault is None:
            return None
    return fault


async def verify_copy(
    backend: ArchiveBackend,
    manifest: str,
    documents: Sequence[FiledDocument],
    envelope: EnvelopeFacts,
    *,
    key: PublicKey | None,
) -> AsyncGenerator[str, None]:
    """
    Yield what a copy no longer has of these archived documents, one sentence each: its manifest at this
    location, hash file and seal beside it, and every file. All bytes are read again. With a ``key`` the
    manifest needs a seal, also if it was made before there was a key (``LACKS_SEAL``).

    The manifest may not claim to be of another envelope, or of another status of it if ``envelope`` has one.
    Where each file lies is what the manifest says; size and SHA-256 are those of ``documents``, and the
    manifest has to name them: an earlier one has a seal, too. It may list further files. Raises
    ``FileNotReturned`` if the archive returns no files (``ChecksumReported`` if it reports the checksum of
    the manifest), and ``ArchiveError`` when it does not work.
    """
    name = name_at(backend, manifest)
    if name is None or not name.endswith(f"/{MANIFEST_NAME}"):
        yield "The archive, as it is configured now, does not contain the place of the copy."
        return
    folder = name.removesuffix(f"/{MANIFEST_NAME}")
    try:
        found, faults = await _read_manifest(backend, folder, envelope, key)
    except FileNotStored:
        yield f"{MANIFEST_NAME} is missing."
        return
    except ManifestDamaged as damage:
        yield f"{MANIFEST_NAME} can't be read: {damage}."
        return
    is_unsealed = found.sealed_by is None and key is not None
    names = _names_in_copy(found, documents)
    hashes = _hashes(found)
    # Others choose its size, and the archive may be slow.
    del found
    for fault in faults:
        yield fault
    status, says = await _check_hashes(backend, folder, hashes)
    if status is CheckStatus.WRONG:
        yield f"{HASHES_NAME} {says}."
    for each in documents:
        encoded = names.get((each.file_id, each.kind))
        if encoded is None:
            yield (
                f"{MANIFEST_NAME} does not list the file {each.file_id} as it was archived, or its names are "
                "too long."
            )
            continue
        file = encoded.decode(errors="surrogatepass")
        try:
            error = await _content_error(backend, f"{folder}/{file}", each.size, each.sha256)
        except ValueError:
            error = "leads out of the folder"
        if error is not None:
            yield f"{file[:MAX_NAME]!r} {error}."
    if is_unsealed:
        # Who removes a seal can write what he likes. Last, since it hides no lost file.
        yield LACKS_SEAL


def _names_in_copy(found: Manifest, documents: Sequence[FiledDocument]) -> dict[tuple[str, FileKind], bytes]:
    """
    Return the names of the documents in the manifest of a copy that lists them with this content, by id and
    kind; none if they are longer than a copy has.

    A run keeps them while it reads the files, and others choose the manifest. As bytes, since one emoji makes
    each character of a text four bytes.
    """
    wanted = {(each.file_id, each.kind, each.size, each.sha256) for each in documents}
    listed = {
        (each.file_id, each.kind): each.name
        for each in found.files
        if (each.file_id, each.kind, each.size, each.sha256) in wanted
    }
    if sum(map(len, listed.values())) > MAX_COPY_NAMES:
        return {}
    names = {key: each.encode(errors="surrogatepass") for key, each in listed.items()}
    return names if sum(map(len, names.values())) <= MAX_COPY_NAMES else {}


async def _read_manifest(
    backend: ArchiveBackend, folder: str, envelope: EnvelopeFacts, key: PublicKey | None
) -> tuple[Manifest, list[str]]:
    """Return the manifest in a folder, and what is wrong with it and with its seal. Raises ``FileNotStored``,
    ``FileNotReturned`` and ``ManifestDamaged``."""
    async with reading_small(backend, f"{folder}/{MANIFEST_NAME}") as content:
        seal = await read_seal(backend, f"{folder}/{SIGNATURE_NAME}")
        manifest = Manifest.decode(content)
        # A seal of an earlier key can't be checked here.
        own_key = key if key is not None and key.id == manifest.sealed_by else None
        status, says = await _check_seal(manifest, content, seal, own_key)
    is_wrong = manifest.sealed_by is not None and status is CheckStatus.WRONG
    faults = [f"{SIGNATURE_NAME} {says}."] if is_wrong else []
    return manifest, [*_other_claims(manifest, envelope), *faults]


def _other_claims(manifest: Manifest, envelope: EnvelopeFacts) -> list[str]:
    """Return what a manifest claims that does not fit the archived envelope: our seal is on those of all
    Organizations. It names the address of its time, and eSAW may have moved since."""
    if (source := other_source(manifest, replace(envelope, origin=""))) is not None:
        return [f"{MANIFEST_NAME} is the manifest {source}."]
    named = manifest.envelope.status
    if envelope.status and named != envelope.status:
        return [f"{MANIFEST_NAME} says {quoted(named)}, and the envelope was archived as {envelope.status}."]
    return []


async def _manifest_faults(
    backend: ArchiveBackend,
    folder: str,
    filed: Sequence[tuple[str, FiledDocument]],
    envelope: EnvelopeFacts,
    key: PublicKey | None,
) -> list[str]:
    """Return what is wrong with the manifest of these files, each with its full name."""
    try:
        manifest, other_faults = await _read_manifest(backend, folder, envelope, key)
    except FileNotStored:
        return [f"{MANIFEST_NAME} is missing."]
    except ChecksumReported:
        return []
    except ManifestDamaged as damage:
        return [f"{MANIFEST_NAME} can't be read: {damage}."]
    listed = {
        (each.file_id, each.kind, f"{folder}/{each.name}", each.size, each.sha256) for each in manifest.files
    }
    archived = {(each.file_id, each.kind, name, each.size, each.sha256) for name, each in filed}
    faults = [] if listed == archived else [f"{MANIFEST_NAME} lists other files than were archived."]
    hashes = _hashes(manifest)
    # Others choose its size, and the archive may be slow.
    del manifest, listed
    status, says = await _check_hashes(backend, folder, hashes)
    if status is CheckStatus.WRONG:
        faults.append(f"{HASHES_NAME} {says}.")
    return faults + other_faults


def name_at(backend: ArchiveBackend, location: str) -> str | None:
    """Return the name that has this location, also under an earlier ``spec.path``; None for none."""
    root = backend.location("x").removesuffix("x")
    name = unquote(location.removeprefix(root))
    try:
        return name if backend.location(name) == location else None
    except ValueError:
        return None


def _describe_manifest(manifest: Manifest) -> str:
    envelope = manifest.envelope
    at = f" at {quoted(envelope.origin)}" if envelope.origin else ""
    return (
        f"describes envelope {quoted(envelope.id)} ({envelope.name!r}, {quoted(envelope.status)}) of "
        f"{quoted(envelope.organization)}{at}, archived {quoted(manifest.times.archived)}, with "
        f"{_counted(len(manifest.files), 'file')}{_absent_evidence(manifest)}{_original(manifest)}"
    )


def _original(manifest: Manifest) -> str:
    """Return the end of a sentence about a copy: what it says about its original."""
    original = manifest.extra.get("original")
    if not isinstance(original, dict):
        return ""
    return f", a copy of {str(original.get('manifest'))[:MAX_NAME]!r}"


def _absent_evidence(manifest: Manifest) -> str:
    """Return the end of a sentence: the evidence that the manifest names as absent, and why."""
    absent = [each for each in manifest.evidence if each.state is EvidenceState.ABSENT]
    named = [f"no {_piece_name(each)} ({each.why[:MAX_NAME]!r})" for each in absent[:MAX_ABSENT_NAMED]]
    if len(absent) > MAX_ABSENT_NAMED:
        named.append(f"{len(absent) - MAX_ABSENT_NAMED} more absent")
    return "".join(f", {each}" for each in named)


def _piece_name(piece: ManifestEvidence) -> str:
    of = piece.document_number if piece.document_number is not None else piece.document_file_id
    return str(piece.kind) if of is None else f"{piece.kind} of document {quoted(str(of))}"


def _contradictions(manifest: Manifest) -> list[str]:
    """Return which evidence the manifest names as present without as many files."""
    present = Counter(each.kind for each in manifest.evidence if each.state is EvidenceState.PRESENT)
    files = Counter(each.kind for each in manifest.files)
    return [
        f"names {_counted(number, 'piece')} of evidence of the kind {kind} as present, and lists "
        f"{_counted(files[kind], 'such file')}"
        for kind, number in present.items()
        if files[kind] < number
    ]


async def _check_seal(
    manifest: Manifest, content: bytes, seal: bytes | None, key: PublicKey | None
) -> tuple[CheckStatus, str]:
    if manifest.sealed_by is None:
        return (
            CheckStatus.WRONG,
            "is missing, and the manifest does not say that it was sealed: the controller had no signing "
            "key, or somebody replaced the manifest",
        )
    named = quoted(manifest.sealed_by)
    if seal is None:
        return CheckStatus.WRONG, f"is missing; the manifest was sealed by the key {named}"
    if key is None:
        return CheckStatus.NOT_CHECKED, f"is there; give the public key {named} to check it"
    if found := await fitting(seal, content, key):
        beside = "; beside it are other bytes, which prove nothing" if len(found) > 1 else ""
        return CheckStatus.OK, f"fits the manifest and the key {key.id}{beside}"
    if key.id != manifest.sealed_by:
        return CheckStatus.WRONG, f"is not of the key {key.id}; the manifest names the key {named}"
    return CheckStatus.WRONG, f"does not fit the manifest and the key {key.id}"


def _hashes(manifest: Manifest) -> Checksum:
    """Return size and hash of the hash file that belongs to the manifest."""
    return checksum(hash_lines((file.name, file.sha256) for file in manifest.files))


async def _check_hashes(backend: ArchiveBackend, folder: str, expected: Checksum) -> tuple[CheckStatus, str]:
    found = await read_checksum(backend, f"{folder}/{HASHES_NAME}", expected=expected[0])
    if found is None:
        return CheckStatus.WRONG, "is missing"
    if found != expected:
        return CheckStatus.WRONG, f"does not say what {MANIFEST_NAME} says"
    return CheckStatus.OK, f"says what {MANIFEST_NAME} says"


async def _check_file(backend: ArchiveBackend, folder: str, file: ManifestFile) -> tuple[CheckStatus, str]:
    try:
        fault = await _file_error(backend, folder, file)
    except FileNotReturned:
        return CheckStatus.NOT_CHECKED, _NOT_RETURNED
    if fault is not None:
        return CheckStatus.WRONG, fault
    return CheckStatus.OK, f"has its {file.size} bytes and its SHA-256"


async def _file_error(backend: ArchiveBackend, folder: str, file: ManifestFile) -> str | None:
    try:
        return await _content_error(backend, f"{folder}/{file.name}", file.size, file.sha256)
    except ValueError:
        return "leads out of the folder"


async def _content_error(
    backend: ArchiveBackend, name: str, size: int | None, sha256: str | None
) -> str | None:
    try:
        found = await read_checksum(backend, name, expected=size)
    except NameTaken as trouble:
        return f"is no file: {trouble.message.rstrip('.')}"
    if found is None:
        return "is missing"
    if size is not None and found[0] > size:
        return f"has more than its {size} bytes"
    if found[0] != size:
        return f"has {found[0]} bytes instead of {size}"
    return None if found[1] == sha256 else "has other content than was archived"


def _is_examined(file: ManifestFile) -> bool:
    """Whether the file can have signatures, also if the manifest does not name any."""
    is_pdf = file.content_type == "application/pdf" or file.name.lower().endswith(".pdf")
    return is_pdf or file.kind in ESAW_SIGNED_KINDS or file.signatures is not None


async def _examined(
    backend: ArchiveBackend, folder: str, file: ManifestFile, examiner: SignatureWorkers
) -> Signatures | None:
    """Return what is found in a file that was compared; None: other bytes were examined."""
    counter, whole = HashingCounter(), bounded(backend.read(f"{folder}/{file.name}"), file.size)
    async with aclosing(whole) as chunks, aclosing(counting(chunks, counter)) as stream:
        try:
            found = await examiner.examine(stream, file.size)
            if found.state is not State.NOT_CHECKED:
                # A process that ends early reads no further.
                await drain(stream)
        except (FileNotStored, FileNotReturned):
            return Signatures(state=State.NOT_CHECKED, detail="the archive does not return it")
    is_unread = found.state is State.NOT_CHECKED and counter.size < file.size
    return found if is_unread or (counter.size, counter.sha256) == (file.size, file.sha256) else None


def _compare_signatures(found: Signatures, file: ManifestFile, *, is_sealed: bool) -> tuple[CheckStatus, str]:
    """
    Return the result for the signatures that were ``found`` just now, and the end of the sentence.

    A file that is broken now is as it was archived only if a manifest whose seal fits reports it.
    """
    claim, claimed = file.signatures, _claimed_summary(file.signatures)
    if found.state is State.NOT_CHECKED:
        is_same = claim is None or claim.state is State.NOT_CHECKED
        says = f"; its signatures were not examined: {found.detail}"
        if is_same:
            return CheckStatus.OK, says
        return CheckStatus.NOT_CHECKED, f"{says}; the manifest claims {claimed}"
    now = _signature_summary(found)
    if claim is None and found.state is State.UNREADABLE and file.kind not in ESAW_SIGNED_KINDS:
        # A signer uploads any bytes under the name of a PDF, and they are archived as they are.
        return CheckStatus.OK, f"; {now}"
    if claim is not None and found.is_doubtful and claim.state is found.state:
        if is_sealed:
            return CheckStatus.OK, f"; {now}, as when it was archived"
        return CheckStatus.WRONG, f", but {now}; the manifest claims the same"
    has_fewer = claim is not None and claim.state is State.INTACT and found.count < claim.count
    if found.is_doubtful or has_fewer:
        return CheckStatus.WRONG, f", but {now}; the manifest claims {claimed}"
    return CheckStatus.OK, f"; {now}{_trust_claim(claim)}"


def _claimed_summary(claim: Signatures | None) -> str:
    if claim is None:
        return "nothing about signatures"
    return _signature_summary(claim) if claim.state is State.INTACT else repr(claim.detail[:MAX_NAME])


def _signature_summary(signatures: Signatures) -> str:
    if signatures.state is State.INTACT:
        return f"{_counted(signatures.count, 'signature')}, intact"
    return signatures.detail


def _trust_claim(claim: Signatures | None) -> str:
    """Trust depends on the organization's trust anchors, which an auditor does not have."""
    if claim is None or claim.anchors is None:
        return ""
    for each in claim.found:
        if each.kind is Kind.SIGNATURE and not each.trusted:
            signer, why = each.signer[:MAX_NAME], each.distrust[:MAX_NAME]
            return f"; the manifest says that {signer!r} was not trusted: {why!r}"
    return "; the manifest says that all signers were trusted"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


async def _unlisted_files(backend: ArchiveBackend, folder: str, manifest: Manifest) -> list[str]:
    """Return the files in the folder that the manifest does not list."""
    known = {MANIFEST_NAME, HASHES_NAME, *(file.name for file in manifest.files)}
    if manifest.sealed_by is not None:
        known.add(SIGNATURE_NAME)
    names = [entry.name.removeprefix(f"{folder}/") for entry in await backend.entries(folder)]
    return [name for name in names if name not in known]

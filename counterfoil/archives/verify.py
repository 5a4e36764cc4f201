"""
The audit of an archived envelope: is everything there, as it was filed, and nothing else?

Needs the archive and nothing more: no Kubernetes, no eSAW, no clock. It changes nothing.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from urllib.parse import unquote

from counterfoil.archives.backend import ArchiveBackend, FileNotStored
from counterfoil.archives.errors import NameTaken
from counterfoil.archives.manifest import Manifest, ManifestDamaged, ManifestFile, hash_lines
from counterfoil.archives.manifest_signature import PublicKey
from counterfoil.archives.names import HASHES_NAME, MANIFEST_NAME, SIGNATURE_NAME
from counterfoil.archives.readback import read_back, read_small
from counterfoil.resources.envelopeevent import FiledDocument
from counterfoil.signatures.results import Kind, Signatures, State


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
    backend: ArchiveBackend, folder: str, *, key: PublicKey | None = None
) -> AsyncGenerator[CheckReport, None]:
    """
    Check an archived envelope, and yield each result: the manifest first, then the seal, the rest as it goes.

    Without a ``key`` a seal is only looked for. Raises ``ArchiveError`` if the archive itself does not work.
    """
    about_manifest = partial(CheckReport, CheckSubject.MANIFEST, MANIFEST_NAME)
    try:
        content = await read_small(backend, f"{folder}/{MANIFEST_NAME}")
        manifest = Manifest.decode(content)
    except FileNotStored:
        yield about_manifest(CheckStatus.WRONG, "is missing")
        return
    except ManifestDamaged as damage:
        yield about_manifest(CheckStatus.WRONG, f"can't be read: {damage}")
        return
    yield about_manifest(CheckStatus.OK, _describe_manifest(manifest))
    if manifest.sealed_by is not None or key is not None:
        result = await _check_seal(backend, folder, manifest, content, key)
        yield CheckReport(CheckSubject.SEAL, SIGNATURE_NAME, *result)
    for file in manifest.files:
        yield CheckReport(CheckSubject.FILE, file.name, *await _check_file(backend, folder, file))
    yield CheckReport(CheckSubject.HASHES, HASHES_NAME, *await _check_hashes(backend, folder, manifest))
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
        async for check in check_archive(backend, folder)
        if check.verdict is CheckStatus.WRONG and check.about not in (CheckSubject.SEAL, CheckSubject.EXTRA)
    ]


async def verify_documents(
    backend: ArchiveBackend, manifest: str, documents: Sequence[FiledDocument]
) -> AsyncGenerator[str, None]:
    """
    Yield what the archive no longer has as it was filed, one sentence each: the manifest at this location,
    hash file and seal beside it, and every document. All bytes are read again; a seal must exist.

    An archive that returns no bytes (``verify: Checksum``) is believed about the manifest, as when it was
    filed. Raises ``ArchiveError`` when the archive itself does not work.
    """
    locations = [manifest, *(each.location or "" for each in documents)]
    names = [name_at(backend, location) for location in locations]
    if None in names:
        yield "The archive, as it is configured now, does not contain the place of the archived files."
        return
    manifest_name, *document_names = [name for name in names if name is not None]
    folder = manifest_name.removesuffix(f"/{MANIFEST_NAME}")
    for fault in await _manifest_faults(backend, folder, documents, document_names):
        yield fault
    for document, name in zip(documents, document_names, strict=True):
        error = await _content_error(backend, name, document.size, document.sha256)
        if error is not None:
            yield f"{document.location} {error}."


async def _manifest_faults(
    backend: ArchiveBackend, folder: str, documents: Sequence[FiledDocument], names: Sequence[str]
) -> list[str]:
    try:
        content = await read_small(backend, f"{folder}/{MANIFEST_NAME}")
        manifest = Manifest.decode(content)
    except FileNotStored:
        is_stored = await read_back(backend, f"{folder}/{MANIFEST_NAME}") is not None
        return [] if is_stored else [f"{MANIFEST_NAME} is missing."]
    except ManifestDamaged as damage:
        return [f"{MANIFEST_NAME} can't be read: {damage}."]
    listed = {
        (each.file_id, each.kind, f"{folder}/{each.name}", each.size, each.sha256) for each in manifest.files
    }
    filed = {
        (each.file_id, each.kind, name, each.size, each.sha256)
        for each, name in zip(documents, names, strict=True)
    }
    faults = [] if listed == filed else [f"{MANIFEST_NAME} lists other files than were archived."]
    checks = [(HASHES_NAME, await _check_hashes(backend, folder, manifest))]
    if manifest.sealed_by is not None:
        checks.append((SIGNATURE_NAME, await _check_seal(backend, folder, manifest, content, None)))
    return faults + [f"{name} {says}." for name, (status, says) in checks if status is CheckStatus.WRONG]


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
    return (
        f"is of envelope {envelope.id} ({envelope.name!r}, {envelope.status}) of {envelope.organization}, "
        f"filed {manifest.times.archived}, with {len(manifest.files)} files"
    )


async def _check_seal(
    backend: ArchiveBackend, folder: str, manifest: Manifest, content: bytes, key: PublicKey | None
) -> tuple[CheckStatus, str]:
    if manifest.sealed_by is None:
        return CheckStatus.WRONG, "is not there, and the manifest does not say that it was sealed"
    try:
        seal = await read_small(backend, f"{folder}/{SIGNATURE_NAME}")
    except FileNotStored:
        return CheckStatus.WRONG, f"is missing; the manifest was sealed by the key {manifest.sealed_by}"
    except ManifestDamaged as damage:
        return CheckStatus.WRONG, f"can't be read: {damage}"
    if key is None:
        return CheckStatus.NOT_CHECKED, f"is there; give the public key {manifest.sealed_by} to check it"
    if key.verifies(seal, content):
        return CheckStatus.OK, f"fits the manifest and the key {key.id}"
    if key.id != manifest.sealed_by:
        says = f"is not of the key {key.id}; the manifest names the key {manifest.sealed_by}"
        return CheckStatus.WRONG, says
    return CheckStatus.WRONG, f"does not fit the manifest and the key {key.id}"


async def _check_hashes(backend: ArchiveBackend, folder: str, manifest: Manifest) -> tuple[CheckStatus, str]:
    try:
        found = await read_small(backend, f"{folder}/{HASHES_NAME}")
    except FileNotStored:
        return CheckStatus.WRONG, "is missing"
    except ManifestDamaged as damage:
        return CheckStatus.WRONG, f"can't be read: {damage}"
    if found != hash_lines((file.name, file.sha256) for file in manifest.files):
        return CheckStatus.WRONG, f"does not say what {MANIFEST_NAME} says"
    return CheckStatus.OK, f"says what {MANIFEST_NAME} says"


async def _check_file(backend: ArchiveBackend, folder: str, file: ManifestFile) -> tuple[CheckStatus, str]:
    fault = await _file_error(backend, folder, file)
    if fault is not None:
        return CheckStatus.WRONG, fault
    return CheckStatus.OK, f"has its {file.size} bytes and its SHA-256{_signature_summary(file.signatures)}"


async def _file_error(backend: ArchiveBackend, folder: str, file: ManifestFile) -> str | None:
    try:
        return await _content_error(backend, f"{folder}/{file.name}", file.size, file.sha256)
    except ValueError:
        return "leads out of the folder"


async def _content_error(
    backend: ArchiveBackend, name: str, size: int | None, sha256: str | None
) -> str | None:
    try:
        found = await read_back(backend, name)
    except NameTaken as trouble:
        return f"is no file: {trouble.message.rstrip('.')}"
    if found is None:
        return "is missing"
    if found[0] != size:
        return f"has {found[0]} bytes instead of {size}"
    return None if found[1] == sha256 else "has other content than was filed"


def _signature_summary(signatures: Signatures | None) -> str:
    """Result of the check at archiving, which is still valid since the bytes are the same."""
    if signatures is None:
        return ""
    if signatures.state is State.INTACT:
        return f"; {len(signatures.found)} signatures, intact when it was filed{_trust_summary(signatures)}"
    return f"; when it was filed: {signatures.detail}"


def _trust_summary(signatures: Signatures) -> str:
    if signatures.anchors is None:
        return ""
    for each in signatures.found:
        if each.kind is Kind.SIGNATURE and not each.trusted:
            return f", but {each.signer!r} was not trusted: {each.distrust}"
    return ", all signers trusted"


async def _unlisted_files(backend: ArchiveBackend, folder: str, manifest: Manifest) -> list[str]:
    """Return the files in the folder that the manifest does not list."""
    known = {MANIFEST_NAME, HASHES_NAME, *(file.name for file in manifest.files)}
    if manifest.sealed_by is not None:
        known.add(SIGNATURE_NAME)
    names = [entry.name.removeprefix(f"{folder}/") for entry in await backend.entries(folder)]
    return [name for name in names if name not in known]

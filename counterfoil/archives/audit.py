"""
The audit of an archived envelope: is everything there, as it was filed, and nothing else?

Needs the archive and nothing more: no Kubernetes, no eSAW, no clock. It changes nothing.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from enum import StrEnum

from counterfoil.archives.door import Absent, Door
from counterfoil.archives.manifest import Manifest, ManifestDamaged, ManifestFile, hash_lines
from counterfoil.archives.names import HASHES_NAME, MANIFEST_NAME, SEAL_NAME
from counterfoil.archives.reading import small, stored
from counterfoil.archives.seal import PublicKey
from counterfoil.archives.trouble import Occupied
from counterfoil.signatures.findings import Kind, Signatures, State


class Verdict(StrEnum):
    """What a check came to. ``NotChecked``: there is something that was not looked at, and nothing is known to be wrong."""

    OK = "OK"
    WRONG = "Wrong"
    NOT_CHECKED = "NotChecked"


class About(StrEnum):
    """What was checked."""

    MANIFEST = "Manifest"
    SEAL = "Seal"
    HASHES = "Hashes"
    FILE = "File"
    EXTRA = "Extra"


@dataclass(frozen=True)
class Check:
    """One thing that was checked; ``says`` goes on after the name, without a full stop."""

    about: About
    name: str
    verdict: Verdict
    says: str

    @property
    def sentence(self) -> str:
        """The whole sentence."""
        own = self.about in (About.MANIFEST, About.SEAL, About.HASHES)
        return f"{self.name if own else repr(self.name)} {self.says}."


async def audit(door: Door, folder: str, *, key: PublicKey | None = None) -> AsyncGenerator[Check, None]:
    """
    Check an archived envelope, and yield what each check came to: the manifest first, then the seal, the rest as it goes.

    Without a ``key`` a seal is only looked for. Raises ``ArchiveTrouble`` when the archive itself does not work.
    """
    name = f"{folder}/{MANIFEST_NAME}"
    try:
        content = await small(door, name)
        manifest = Manifest.decode(content)
    except Absent:
        yield Check(About.MANIFEST, MANIFEST_NAME, Verdict.WRONG, "is missing")
        return
    except ManifestDamaged as damage:
        yield Check(About.MANIFEST, MANIFEST_NAME, Verdict.WRONG, f"can't be read: {damage}")
        return
    yield Check(About.MANIFEST, MANIFEST_NAME, Verdict.OK, _about(manifest))
    if manifest.sealed_by is not None or key is not None:
        yield await _seal(door, folder, manifest, content, key)
    for file in manifest.files:
        yield await _file(door, folder, file)
    yield await _hashes(door, folder, manifest)
    for extra in await _extras(door, folder, manifest):
        yield Check(About.EXTRA, extra, Verdict.WRONG, f"is not in {MANIFEST_NAME}")


async def verify(door: Door, folder: str) -> list[str]:
    """
    Return what is wrong with the files of an archived envelope and with what is said about them, one sentence each.

    Seals and extra files are not looked for. Raises ``ArchiveTrouble`` when the archive itself does not work.
    """
    return [
        check.sentence
        async for check in audit(door, folder)
        if check.verdict is Verdict.WRONG and check.about not in (About.SEAL, About.EXTRA)
    ]


def _about(manifest: Manifest) -> str:
    envelope = manifest.envelope
    return (
        f"is of envelope {envelope.id} ({envelope.name!r}, {envelope.status}) of {envelope.organization}, filed "
        f"{manifest.times.archived}, with {len(manifest.files)} files"
    )


async def _seal(door: Door, folder: str, manifest: Manifest, content: bytes, key: PublicKey | None) -> Check:
    verdict, says = await _seal_found(door, folder, manifest, content, key)
    return Check(About.SEAL, SEAL_NAME, verdict, says)


async def _seal_found(
    door: Door, folder: str, manifest: Manifest, content: bytes, key: PublicKey | None
) -> tuple[Verdict, str]:
    if manifest.sealed_by is None:
        return Verdict.WRONG, "is not there, and the manifest does not say that it was sealed"
    try:
        seal = await small(door, f"{folder}/{SEAL_NAME}")
    except Absent:
        return Verdict.WRONG, f"is missing; the manifest was sealed by the key {manifest.sealed_by}"
    except ManifestDamaged as damage:
        return Verdict.WRONG, f"can't be read: {damage}"
    if key is None:
        return Verdict.NOT_CHECKED, f"is there; give the public key {manifest.sealed_by} to check it"
    if key.fits(seal, content):
        return Verdict.OK, f"fits the manifest and the key {key.id}"
    if key.id != manifest.sealed_by:
        return Verdict.WRONG, f"is not of the key {key.id}; the manifest names the key {manifest.sealed_by}"
    return Verdict.WRONG, f"does not fit the manifest and the key {key.id}"


async def _hashes(door: Door, folder: str, manifest: Manifest) -> Check:
    wanted = hash_lines((file.name, file.sha256) for file in manifest.files)
    try:
        found = await small(door, f"{folder}/{HASHES_NAME}")
    except Absent:
        return Check(About.HASHES, HASHES_NAME, Verdict.WRONG, "is missing")
    except ManifestDamaged as damage:
        return Check(About.HASHES, HASHES_NAME, Verdict.WRONG, f"can't be read: {damage}")
    if found != wanted:
        return Check(About.HASHES, HASHES_NAME, Verdict.WRONG, f"does not say what {MANIFEST_NAME} says")
    return Check(About.HASHES, HASHES_NAME, Verdict.OK, f"says what {MANIFEST_NAME} says")


async def _file(door: Door, folder: str, file: ManifestFile) -> Check:
    fault = await _fault(door, folder, file)
    if fault is not None:
        return Check(About.FILE, file.name, Verdict.WRONG, fault)
    return Check(
        About.FILE,
        file.name,
        Verdict.OK,
        f"has its {file.size} bytes and its SHA-256{_signed(file.signatures)}",
    )


async def _fault(door: Door, folder: str, file: ManifestFile) -> str | None:
    try:
        found = await stored(door, f"{folder}/{file.name}")
    except ValueError:
        return "leads out of the folder"
    except Occupied as trouble:
        return f"is no file: {trouble.message.rstrip('.')}"
    if found is None:
        return "is missing"
    size, sha256 = found
    if size != file.size:
        return f"has {size} bytes instead of {file.size}"
    return None if sha256 == file.sha256 else "has other content than was filed"


def _signed(signatures: Signatures | None) -> str:
    """What was found when the file was filed, which still holds since its bytes are the same."""
    if signatures is None:
        return ""
    if signatures.state is State.INTACT:
        return f"; {len(signatures.found)} signatures, intact when it was filed{_trusted(signatures)}"
    return f"; when it was filed: {signatures.detail}"


def _trusted(signatures: Signatures) -> str:
    if signatures.anchors is None:
        return ""
    for each in signatures.found:
        if each.kind is Kind.SIGNATURE and not each.trusted:
            return f", but {each.signer!r} was not trusted: {each.distrust}"
    return ", all signers trusted"


async def _extras(door: Door, folder: str, manifest: Manifest) -> list[str]:
    """Return what lies in the folder and is neither in the manifest nor the manifest's own."""
    known = {MANIFEST_NAME, HASHES_NAME, *(file.name for file in manifest.files)}
    if manifest.sealed_by is not None:
        known.add(SEAL_NAME)
    names = [entry.name.removeprefix(f"{folder}/") for entry in await door.entries(folder)]
    return [name for name in names if name not in known]

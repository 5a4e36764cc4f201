"""
Put a copy of an archived envelope into a second archive, and prove that it arrived.

Each file flows: first archive -> hash compared with the status -> copy -> read-back. The copy's own manifest
comes last and names the original. Running this twice, also after a kill at any point, leaves the archive as
running it once does. A name that is taken by another system's file is never replaced.

This module does not decide whether a copy is wanted or proved, and deletes nothing in the first archive.
"""

from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from counterfoil.archives import filing
from counterfoil.archives.backend import ArchiveBackend, FileNotReturned, FileNotStored, ForwardingBackend
from counterfoil.archives.copies.original import Original, copy_tags, opened, read_findings
from counterfoil.archives.errors import ArchiveError, ArchiveRefused, NameTaken, OtherSource
from counterfoil.archives.layout import (
    ArchiveLayout,
    ClaimedNames,
    EnvelopeFacts,
    FileLayout,
    make_layout_aside,
    no_claims,
)
from counterfoil.archives.manifest import Manifest, ManifestDamaged
from counterfoil.archives.manifest_signature import ManifestSigner, PublicKey
from counterfoil.archives.proof import Checksum, FileKey, FoundManifest
from counterfoil.archives.readback import checksum, read_back, reading_small
from counterfoil.archives.verify import MAX_COPY_NAMES, first_copy_fault
from counterfoil.origin import is_origin
from counterfoil.resources.archive import ArchiveSpec
from counterfoil.resources.envelopeevent import MAX_LOCATION_LENGTH, FiledDocument


class CopyIsOriginal(ArchiveError):
    """The copy would be in the place of its original, perhaps by another name of the same server."""

    def __init__(self, location: str) -> None:
        super().__init__(
            "CopyInvalid",
            f"{location} is the manifest of the original itself: the Archive of the copy leads to the same "
            "place, or another program mirrors it there. Let spec.copies of the Organization name an Archive "
            "elsewhere, or give that Archive another spec.path.",
        )


class CopyIsOther(ArchiveError):
    """The copy would be in the place of another copy, by another name: both would be one."""

    def __init__(self, location: str, archive: str) -> None:
        super().__init__(
            "CopyInvalid",
            f"{location} is the manifest of the copy in Archive/{archive}: both Archives lead to the same "
            "place, or another program mirrors it there. Let spec.copies of the Organization name an Archive "
            "elsewhere, or give one of the two another spec.path.",
        )


class SameAddress(ArchiveError):
    """The copy would have the address of its original or of another copy, on another server: no status could
    tell them apart."""

    def __init__(self, location: str, other: str = "its original") -> None:
        super().__init__(
            "CopyInvalid",
            f"{location} would be the address of the copy and of {other}, on two servers. No address names "
            "its server. Give the Archive of the copy another spec.path.",
        )


class CopyOfOther(ArchiveError):
    """The place has the copy of another event of the envelope, which would lose a file. ``is_sealed`` is
    whether its manifest has our seal."""

    def __init__(self, place: str, *, is_sealed: bool) -> None:
        super().__init__(
            "CopyInvalid",
            f"{place} has the copy of another event of this envelope, and nothing is replaced there. It does "
            "not count for this event: it has other files, or one of them is damaged. If one is damaged, "
            "retry the other event or restore the file. Otherwise give the Archive of the copy another "
            "spec.path, so that the copies of both events have their folders.",
        )
        self.place = place
        self.is_sealed = is_sealed


class CopyUnproved(ArchiveError):
    """The place has a manifest like that of another event of the envelope, and nothing proves that it is
    ours."""

    def __init__(self, place: str) -> None:
        super().__init__(
            "CopyInvalid",
            f"{place} names this envelope and other files, and nothing shows that Counterfoil made it. It "
            "counts as no copy, and nothing is replaced there. Move its folder to another place and keep it, "
            "or give the Archive of the copy another spec.path.",
        )


class FilesOfOther(ArchiveError):
    """The place has a file that another event of the envelope archived, and no manifest of it."""

    def __init__(self, location: str, event: str) -> None:
        super().__init__(
            "CopyInvalid",
            f"{location} is a file of EnvelopeEvent/{event} of the same envelope, and no manifest there "
            "lists it. It is not replaced: that event makes its copy first. If it has ended, retry it or ask "
            "for its copies. If nothing is left to do for it, the manifest was lost: put it back, or move "
            "its folder to another place and keep it.",
        )


MayReplace = Callable[[str, FoundManifest | None], bool]
"""Returns whether a copy may be written at this location of its manifest, where this one was found."""


@dataclass(frozen=True)
class CopyPlan:
    """The names of a copy, and which of them it may replace."""

    layout: ArchiveLayout
    claimed: tuple[str, ...]
    """Locations of files that this copy may replace."""


async def plan_copy(
    target: ArchiveBackend,
    spec: ArchiveSpec,
    original: Original,
    *,
    claimed_manifests: Collection[str],
    may_replace: MayReplace,
    of_others: Mapping[FileKey, Mapping[Checksum, str]],
    is_elsewhere: bool,
    key: PublicKey | None,
) -> CopyPlan:
    """
    Return the layout of a copy, and which of its names it may replace. Nothing is written.

    ``claimed_manifests`` is where the statuses of the envelope's events have the manifests of earlier copies:
    the files that one lists may be replaced. So may those that have the original's content. Such a manifest
    that lists the original's files may name another address of eSAW.
    ``of_others`` is what other events of the envelope archived, with the name of the event.
    ``is_elsewhere`` is whether the root certainly is another one than that of the original. Raises
    ``CopyIsOriginal``, ``SameAddress``, ``CopyOfOther``, ``FilesOfOther``, ``CopyTagMissing``, ``NameTaken``
    and ``ArchiveError``.
    """
    tags = copy_tags(spec.tags, original)
    named = partial(make_layout_aside, spec, original.envelope, original.files, found=tags)
    layout = await named(claimed=no_claims)
    _check_lengths(target, layout)
    place = target.location(layout.manifest_name)
    if place == original.manifest:
        raise SameAddress(place) if is_elsewhere else CopyIsOriginal(place)
    # Also with another marker: one root may be a folder of the other one.
    if await _is_original(target, layout, original):
        raise CopyIsOriginal(place)
    own = [each for each in claimed_manifests if each == place]
    try:
        earlier = await _earlier_copy(target, layout, own, may_replace, key)
    except OtherSource:
        # eSAW may have moved since: then the hashes show that it is the same envelope.
        if not own or (origin := await _origin_of_equal(target, layout, original)) is None:
            raise
        layout = replace(layout, origin=origin)
        earlier = await _earlier_copy(target, layout, own, may_replace, key)
    if earlier.names:
        # Names of an earlier copy stay: another file under one of them would replace it.
        layout = replace(await named(claimed=lambda _: earlier.names), origin=layout.origin)
        _check_lengths(target, layout)
    claimed = earlier.claimed
    try:
        await filing.claim_names(target, layout, claimed=claimed, key=key)
    except NameTaken:
        # A run that was killed may have written files, and nothing else tells that they are ours.
        equal = []
        for each in layout.files:
            expected, others = original.checksums[_key(each)], of_others.get(_key(each), {})
            longest = max(size for size, _ in (expected, *others))
            location, found = target.location(each.name), await read_back(target, each.name, expected=longest)
            if found == expected:
                equal.append(location)
            elif found is not None and found in others and location not in claimed:
                raise FilesOfOther(location, others[found]) from None
        claimed = tuple({*claimed, *equal})
        await filing.claim_names(target, layout, claimed=claimed, key=key)
    return CopyPlan(layout, claimed)


async def write_copy(
    source: ArchiveBackend,
    target: ArchiveBackend,
    original: Original,
    plan: CopyPlan,
    *,
    archived_at: datetime,
    extra: Mapping[str, Any],
    signer: ManifestSigner | None,
) -> str:
    """
    Write and verify each file and, last, the manifest of the copy; return its location.

    Each file is protected (Object Lock) after its verification. ``extra`` may have more about the original.
    Of an original without our seal, a manifest of the copy that has it and names the same files stays.
    Raises ``OriginalDiffers``, ``OriginalNotReturned``, ``OriginalUnread`` and ``ArchiveError``.
    """
    layout = plan.layout
    await target.remove_leftovers(layout.folder)
    for each in layout.files:
        expected = original.checksums[_key(each)]
        name = original.names[_key(each)]
        stored = await filing.store(
            target,
            each,
            partial(opened, source, name, expected),
            tags=layout.tags,
            proven=(expected,),
            expected=expected[0],
        )
        if (stored.size, stored.sha256) != expected:
            raise AssertionError(f"{name} was stored with another content than was read")
    if not original.is_believed:
        # A manifest with our seal tells more than one that is made now: it may have sender, times and tags.
        key = signer.public if signer is not None else None
        sealed = filing.sealed_place(
            target, layout, original.documents, archive=extra.get("archive"), key=key
        )
        if (place := await sealed) is not None:
            return place
    findings = await read_findings(source, original)
    return await filing.conclude(
        target,
        layout,
        original.envelope,
        original.documents,
        archived_at=archived_at,
        extra={**extra, "original": {**extra.get("original", {}), **_reference(original)}},
        signatures=findings.signatures,
        evidence=findings.evidence,
        esaw_version=original.esaw_version,
        signer=signer,
    )


async def take_over_copy(
    target: ArchiveBackend,
    place: str,
    accepted: Iterable[Sequence[FiledDocument]],
    envelope: EnvelopeFacts,
    *,
    key: PublicKey | None,
) -> str | None:
    """
    Read the copy of another event, and protect what was read as ``write_copy`` does: who may write there may
    have put the same files there again, and those would have no lock.

    Returns and raises as ``first_copy_fault``; also ``ArchiveError`` if a file can't be protected.
    """
    reading = _CompleteReads(target)
    fault = await first_copy_fault(reading, place, accepted, envelope, key=key)
    if fault is None:
        for name in sorted(reading.names):
            await filing.retain(target, name)
    return fault


class _CompleteReads(ForwardingBackend):
    """Records which files were read to their end."""

    def __init__(self, backend: ArchiveBackend) -> None:
        super().__init__(backend)
        self.names: set[str] = set()

    async def read(self, name: str) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of a file."""
        async with aclosing(super().read(name)) as stream:
            async for chunk in stream:
                yield chunk
        self.names.add(name)


def _reference(original: Original) -> dict[str, object]:
    """Return what the manifest of a copy says about its original. ``described`` is whether sender, times and
    tags were taken over from there."""
    return {
        "manifest": original.manifest,
        "sha256": original.manifest_sha256,
        "described": original.is_believed,
    }


def _check_lengths(target: ArchiveBackend, layout: ArchiveLayout) -> None:
    names = [each.name.removeprefix(f"{layout.folder}/") for each in layout.files]
    longest = max(
        len(target.location(each)) for each in (layout.manifest_name, *(file.name for file in layout.files))
    )
    if longest > MAX_LOCATION_LENGTH or sum(len(each.encode()) for each in names) > MAX_COPY_NAMES:
        raise ArchiveRefused(
            "PathTooLong",
            f"The places of the copy's files are too long: that of one has {longest} characters. Shorten "
            "spec.path of the Archive of the copy.",
        )


async def _is_original(target: ArchiveBackend, layout: ArchiveLayout, original: Original) -> bool:
    """Whether the place of the copy has the very manifest of the original: one place can have two addresses.
    An archive that returns no files can't be compared."""
    try:
        async with reading_small(target, layout.manifest_name) as content:
            return checksum(content)[1] == original.manifest_sha256
    except (FileNotStored, FileNotReturned, ManifestDamaged):
        return False


async def _origin_of_equal(target: ArchiveBackend, layout: ArchiveLayout, original: Original) -> str | None:
    """Return the address of eSAW in the manifest in the place of a copy; None unless it is one, and the
    manifest lists each file of the original with its size and hash."""
    try:
        async with reading_small(target, layout.manifest_name) as content:
            found = Manifest.decode(content)
    except (FileNotStored, FileNotReturned, ManifestDamaged):
        return None
    listed = {(each.file_id, each.kind): (each.size, each.sha256) for each in found.files}
    is_equal = all(listed.get(each) == expected for each, expected in original.checksums.items())
    # Others choose the text, a run keeps it, and a message repeats it.
    is_equal = is_equal and bool(original.checksums) and is_origin(found.envelope.origin)
    return found.envelope.origin if is_equal else None


@dataclass(frozen=True)
class _EarlierCopy:
    """The part of a manifest in the place of a copy that a run keeps. Others choose its size, and the archive
    may be slow from now on."""

    names: ClaimedNames
    """Names in a manifest with our seal."""
    claimed: tuple[str, ...]
    """Locations that may be replaced."""


async def _earlier_copy(
    target: ArchiveBackend,
    layout: ArchiveLayout,
    claimed: Sequence[str],
    may_replace: MayReplace,
    key: PublicKey | None,
) -> _EarlierCopy:
    """Read the manifest of an earlier copy. It is ours if it has our seal, or if a status names it, which
    ``claimed`` then has. Raises ``CopyOfOther``."""
    found = await filing.look_for_concluded(target, layout, layout.envelope_id, claimed=claimed, key=key)
    if not may_replace(place := target.location(layout.manifest_name), found):
        raise CopyOfOther(place, is_sealed=found is not None and found.is_ours)
    names: ClaimedNames = {}
    listed: set[str] = set()
    if found is not None and found.manifest is not None:
        names = _full_names(found.manifest, layout)
    elif claimed and found is not None and found.claim is not None:
        listed = set(_full_names(found.claim, layout).values())
    own = [each.name for each in layout.files if each.name in listed]
    return _EarlierCopy(names, (*claimed, *map(target.location, own)))


def _full_names(manifest: Manifest, layout: ArchiveLayout) -> ClaimedNames:
    return {(each.file_id, each.kind): f"{layout.folder}/{each.name}" for each in manifest.files}


def _key(each: FileLayout) -> FileKey:
    return each.facts.file_id, each.facts.kind

"""
The decision whether a copy can be made at all, by the spec of its Organization and Archives. Pure.

What is wrong here can't be solved by a retry, so a new event waits before its first document moves. An
Archive that is down, suspended or not created yet is no fault of this kind: it delays no archiving.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from counterfoil.archives.tags import reads_metadata
from counterfoil.resources.archive import Archive, VerifyMode, has_same_folders
from counterfoil.resources.routes import CopySpec

COPY_INVALID = "CopyInvalid"
"""Reason of an event whose copy can't be made as its Organization and Archives are written."""


class CopyFault(NamedTuple):
    """Why the copy in an Archive can't be made."""

    archive: str
    message: str


def copy_faults(
    copies: Sequence[CopySpec], originals: Sequence[str], archive_of: Callable[[str], Archive | None]
) -> tuple[CopyFault, ...]:
    """Return what is wrong with copies of envelopes in these first Archives; empty: nothing is known."""
    return tuple(
        CopyFault(each.archive_ref.name, fault)
        for position, each in enumerate(copies)
        if (fault := _fault(each.archive_ref.name, copies[:position], originals, archive_of)) is not None
    )


def _fault(
    name: str,
    earlier: Sequence[CopySpec],
    originals: Sequence[str],
    archive_of: Callable[[str], Archive | None],
) -> str | None:
    if name in originals:
        return f"The copy in Archive/{name} would be its own original. Let spec.copies name another Archive."
    archive = archive_of(name)
    if archive is None:
        return None
    for other in (archive_of(each.archive_ref.name) for each in earlier):
        if other is not None and has_same_folders(archive, other):
            return (
                f"The copies in Archive/{other.name} and Archive/{name} have the same place. Remove one of "
                "them from spec.copies, or give one Archive another place."
            )
    found = (archive_of(each) for each in originals)
    faults = (_against(archive, original) for original in found if original is not None)
    return next(filter(None, faults), None)


def _against(archive: Archive, original: Archive) -> str | None:
    """Return why an Archive can't have copies of what another one has; None: it can."""
    if has_same_folders(archive, original):
        return (
            f"Archive/{archive.name} of a copy has the place of its original, Archive/{original.name}. Let "
            "spec.copies name an Archive elsewhere."
        )
    if original.spec.verify is VerifyMode.CHECKSUM:
        return (
            f"Archive/{original.name} returns no files (spec.verify: Checksum), so no copy can be made from "
            "it. Set spec.verify to ReadBack there, or remove spec.copies."
        )
    if missing := sorted(_missing_tags(archive, original)):
        names = ", ".join(f"`{each}`" for each in missing)
        return (
            f"Archive/{archive.name} needs the tags {names} for its copies, and spec.tags of "
            f"Archive/{original.name} does not define them. A copy takes its tags from its original. Define "
            "them there."
        )
    return None


def _missing_tags(archive: Archive, original: Archive) -> Iterator[str]:
    """Yield the tags that a copy must have, of those that only the metadata in eSAW has."""
    for name, rule in archive.spec.tags.items():
        is_needed = rule.required or f"{{{{tags.{name}}}}}" in archive.spec.path
        if is_needed and reads_metadata(rule) and name not in original.spec.tags:
            yield name

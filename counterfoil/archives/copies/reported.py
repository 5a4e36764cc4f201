"""
Compare a copy with its original by the checksums that its archive reports: with ``verify: Checksum`` an
archive returns no files, and no manifest that says where they lie.

The names follow from the original, as when the copy was made. The report is as old as the sending, and
known only in the process that sent the files. So it is no reading; it is what a first archive of this kind
is believed for.
"""

from counterfoil.archives.backend import ArchiveBackend
from counterfoil.archives.copies.original import Original, copy_tags
from counterfoil.archives.layout import make_layout_aside, no_claims
from counterfoil.archives.readback import read_checksum
from counterfoil.resources.archive import ArchiveSpec


async def reported_fault(
    target: ArchiveBackend, spec: ArchiveSpec, original: Original, manifest: str
) -> str | None:
    """
    Return what the archive reports otherwise than the original has it, in one sentence; None: it reports each
    file of a copy whose manifest is at this location.

    Raises ``FileNotReturned`` if the checksum of a file is not known any more, ``CopyTagMissing``,
    ``TagMissing`` and ``ArchiveError``.
    """
    tags = copy_tags(spec.tags, original)
    layout = await make_layout_aside(spec, original.envelope, original.files, found=tags, claimed=no_claims)
    if target.location(layout.manifest_name) != manifest:
        return "The copy has another place by now."
    for each in layout.files:
        expected = original.checksums[each.facts.file_id, each.facts.kind]
        if await read_checksum(target, each.name, expected=expected[0]) != expected:
            return f"{target.location(each.name)} was stored with other content than was archived."
    return None

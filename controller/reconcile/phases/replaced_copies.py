"""
Which copy may replace what its place has. Pure.

All events of an envelope have one place in the Archive of a copy. The events may have archived at different
times, in different folders of the first archive, and some may be removed since.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from controller.reconcile.phases.unlisted_files import listed_in
from counterfoil.archives.copies.original import Original
from counterfoil.archives.manifest import ManifestFile
from counterfoil.archives.proof import Checksum, FoundManifest, is_copy_proved, names_event
from counterfoil.clock import believed_time, utc_text
from counterfoil.esaw.evidence import lacks_known_file
from counterfoil.esaw.models import EnvelopeFile
from counterfoil.resources import EnvelopeEvent, EnvelopeEventStatus, FiledDocument, FileKind, find_condition
from counterfoil.resources.organization import EnvelopeStatus


def may_replace_copy(
    event: EnvelopeEvent,
    siblings: Collection[EnvelopeEvent],
    original: Original,
    place: str,
    found: FoundManifest | None,
    *,
    now: datetime,
) -> bool:
    """
    Whether the copy of an event may replace what its place has.

    ``siblings`` are the envelope's other events, and ``found`` is the manifest in this ``place``. No file is
    left out that another event has in its copy there, or that the manifest lists (``lacks_known_file``). None
    gets other content than a later event archived; of one that was removed, a manifest with our seal tells.
    """
    checksums, since = original.checksums, believed_time(_archived_time(event.status), now)
    proofs = [each for each in siblings if _proves_copy_at(each.status, place)]
    manifest = (found.manifest or found.claim) if found is not None else None
    known = [each.status for each in proofs]
    known += [listed_in(manifest)] if manifest is not None else []
    files = [EnvelopeFile(file_id=each.file_id, kind=each.kind, file_name="") for each in original.files]
    if lacks_known_file(event.status, files, known):
        return False
    older = [each for each in siblings if _is_older(each.status, event.status, since)]
    if not all(_has_content(checksums, each.status.documents) for each in proofs if each not in older):
        return False
    sealed = found.manifest if found is not None else None
    if sealed is None or any(names_event(sealed, each.uid) for each in (event, *older)):
        return True
    is_older = since is not None and sealed.times.archived < utc_text(since)
    is_restarted = sealed.envelope.status == EnvelopeStatus.EXPIRED and not _is_expired(event.status)
    return is_older or is_restarted or _has_content(checksums, sealed.files)


def _has_content(
    checksums: Mapping[tuple[str, FileKind], Checksum], files: Iterable[FiledDocument | ManifestFile]
) -> bool:
    """Whether these files are among the ``checksums``, by id and kind."""
    return all(checksums.get((each.file_id, each.kind)) == (each.size, each.sha256) for each in files)


def _proves_copy_at(status: EnvelopeEventStatus, place: str) -> bool:
    return any(each.manifest == place and is_copy_proved(each, status) for each in status.copies)


def _is_older(status: EnvelopeEventStatus, other: EnvelopeEventStatus, since: datetime | None) -> bool:
    """Whether a status is of an archive from before ``since``, the time of that of the other one. Only an
    expired envelope has other content later, once it was restarted."""
    archived = _archived_time(status)
    is_before = since is not None and archived is not None and archived < since
    return is_before or (_is_expired(status) and not _is_expired(other))


def _archived_time(status: EnvelopeEventStatus) -> datetime | None:
    """Return when the condition Archived became what it is."""
    archived = find_condition(status.conditions, "Archived")
    return archived.last_transition_time if archived is not None else None


def _is_expired(status: EnvelopeEventStatus) -> bool:
    return status.envelope is not None and status.envelope.status == EnvelopeStatus.EXPIRED

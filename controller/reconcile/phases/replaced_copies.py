"""
Which copy may replace what its place has, and which copy of a later event counts for an earlier one. Pure.

All events of an envelope have one place in the Archive of a copy. The events may have archived at different
times, in different folders of the first archive, and some may be removed since.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from controller.reconcile.phases.unlisted_files import listed_in
from counterfoil.archives.copies.original import Original
from counterfoil.archives.manifest import RENDERED_KINDS, Manifest, ManifestFile
from counterfoil.archives.proof import (
    Checksum,
    FileKey,
    FoundManifest,
    contradicting,
    contradicts,
    documents_digest,
    doubt,
    is_copy_proved,
    names_event,
    once_per_list,
)
from counterfoil.clock import believed_time, utc_text
from counterfoil.esaw.evidence import lacks_known_file
from counterfoil.esaw.models import EnvelopeFile
from counterfoil.resources import (
    EnvelopeEvent,
    EnvelopeEventStatus,
    FiledDocument,
    FileKind,
    Phase,
    find_condition,
)
from counterfoil.resources.envelopeevent import AttemptOutcome
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
    An event in ``doubt`` replaces no other content at all, and hinders no other one. Of two contents of a
    document in one final state (``contradicts``), none replaces the other one.
    """
    checksums, since = original.checksums, archived_time(event.status, now)
    proofs = proving_copies(siblings, place)
    contradictory = {each.uid for each in contradicting(event, siblings)}
    digest_of = once_per_list(documents_digest)
    manifest = (found.manifest or found.claim) if found is not None else None
    known = [each.status for each in proofs]
    known += [listed_in(manifest)] if manifest is not None else []
    files = [EnvelopeFile(file_id=each.file_id, kind=each.kind, file_name="") for each in original.files]
    if lacks_known_file(event.status, files, known):
        return False
    is_sound = doubt(event.status) is None
    older = [
        each
        for each in siblings
        if is_sound
        if each.uid not in contradictory
        if (doubt(each.status) is not None and not _is_restarted(event.status, each.status))
        or _is_older(each, event, now, digest_of)
    ]
    replaced = {each.uid for each in older}
    has_content = once_per_list(lambda documents: _has_content(checksums, documents))
    if not all(has_content(each.status.documents) for each in proofs if each.uid not in replaced):
        return False
    if not is_sound:
        others = manifest.files if manifest is not None and not names_event(manifest, event.uid) else ()
        return _has_content(checksums, others)
    sealed = found.manifest if found is not None else None
    if sealed is None or any(names_event(sealed, each.uid) for each in (event, *older)):
        return True
    is_older = since is not None and _archived_text(sealed) < utc_text(since)
    is_older = is_older and not contradicts(event.status, sealed.files, sealed.envelope.status)
    is_restarted = sealed.envelope.status == EnvelopeStatus.EXPIRED and not _is_expired(event.status)
    return is_older or is_restarted or _has_content(checksums, sealed.files)


def accepted_documents(
    event: EnvelopeEvent, siblings: Iterable[EnvelopeEvent], place: str, *, now: datetime
) -> Iterator[Sequence[FiledDocument]]:
    """
    Yield each list of files that counts as the copy of an event if it is in this ``place``.

    A later event of the envelope may have its copy there. What eSAW renders at each download may be as that
    event archived it. Last, the files of the event itself.
    """
    status, own = event.status, _turn(event, now)
    later = [
        (turn, each.status.documents)
        for each in proving_copies(siblings, place)
        if doubt(each.status) is None
        if (turn := _turn(each, now)) is not None and own is not None
        if turn > own and _envelope_status(each.status) == _envelope_status(status)
    ]
    newest_first = sorted(later, key=lambda each: each[0], reverse=True)
    for documents in {id(documents): documents for _, documents in newest_first}.values():
        rendered = {(each.file_id, each.kind): each for each in documents if each.kind in RENDERED_KINDS}
        accepted = [rendered.get((each.file_id, each.kind), each) for each in status.documents]
        if documents_digest(accepted) != documents_digest(status.documents):
            yield accepted
    yield status.documents


def archived_by_others(siblings: Iterable[EnvelopeEvent]) -> dict[FileKey, dict[Checksum, str]]:
    """Return what the statuses of other events say that they archived, with the name of the event."""
    found: dict[FileKey, dict[Checksum, str]] = {}
    # Of the events with one list, the last one.
    for each in {id(each.status.documents): each for each in siblings}.values():
        for file in each.status.documents:
            if file.size is not None and file.sha256 is not None:
                found.setdefault((file.file_id, file.kind), {})[file.size, file.sha256] = each.name
    return found


def replacing_event(event: EnvelopeEvent, siblings: Iterable[EnvelopeEvent], *, now: datetime) -> str | None:
    """Return which other event replaced the files of this one in the first archive, for a message. None: no
    status says that another event archived other content in the same place later."""
    place = event.status.archive
    own = {(each.file_id, each.kind): (each.size, each.sha256) for each in event.status.documents}
    has_other_content = once_per_list(
        lambda documents: any(
            each.sha256 and own.get((each.file_id, each.kind)) not in (None, (each.size, each.sha256))
            for each in documents
        )
    )
    digest_of = once_per_list(documents_digest)
    for each in siblings:
        other, documents = each.status.archive, each.status.documents
        is_there = place is not None and other is not None and other.manifest == place.manifest
        if is_there and has_other_content(documents) and not _is_older(each, event, now, digest_of):
            return f"{each.KIND}/{each.name}"
    return None


def archived_time(status: EnvelopeEventStatus, now: datetime) -> datetime | None:
    """Return when the files of a status were archived, or earlier; None: it is not known."""
    archived = find_condition(status.conditions, "Archived")
    if archived is not None and archived.status == "True":
        return believed_time(archived.last_transition_time, now)
    # The condition has the time of a skip, or of another attempt. No other event runs in the attempt itself.
    done = (Phase.ARCHIVING, AttemptOutcome.DONE)
    history = reversed(status.attempt_history)
    started = (each.start_time for each in history if (each.phase, each.outcome) == done)
    return believed_time(next(started, None), now)


def _has_content(
    checksums: Mapping[tuple[str, FileKind], Checksum], files: Iterable[FiledDocument | ManifestFile]
) -> bool:
    """Whether these files are among the ``checksums``, by id and kind."""
    return all(checksums.get((each.file_id, each.kind)) == (each.size, each.sha256) for each in files)


def proving_copies(siblings: Iterable[EnvelopeEvent], place: str) -> list[EnvelopeEvent]:
    """Return those events whose status proves a copy in this ``place``."""
    digest_of = once_per_list(documents_digest)
    return [
        each
        for each in siblings
        if any(
            copy.manifest == place and is_copy_proved(copy, each.status, digest_of)
            for copy in each.status.copies
        )
    ]


def event_with_later_copy(
    event: EnvelopeEvent, siblings: Iterable[EnvelopeEvent], place: str, *, now: datetime
) -> EnvelopeEvent | None:
    """Return the event that archived the envelope last and has its copy in this ``place``, if the event
    itself may not replace it; None: it may. One in ``doubt`` hinders no other."""
    digest_of, own = once_per_list(documents_digest), _order(event, now)
    later = [
        each
        for each in proving_copies(siblings, place)
        if doubt(each.status) is None and _order(each, now) > own
    ]
    if all(digest_of(each.status.documents) == digest_of(event.status.documents) for each in later):
        return None
    return max(later, key=lambda each: _order(each, now))


def _order(event: EnvelopeEvent, now: datetime) -> tuple[bool, datetime, datetime, str]:
    """Return the place of an event in the same order; first those whose place is not known."""
    turn = _turn(event, now)
    return (False, now, now, event.uid) if turn is None else (True, *turn)


def _turn(event: EnvelopeEvent, now: datetime) -> tuple[datetime, datetime, str] | None:
    """Return the place of an event in the order in which the envelope's events archived it; None: it is not
    known. Stored times have whole seconds, so of two in one second the event that was created first is."""
    archived, created = archived_time(event.status, now), event.metadata.creation_timestamp
    return None if archived is None else (archived, created or archived, event.uid)


def _is_older(
    one: EnvelopeEvent,
    other: EnvelopeEvent,
    now: datetime,
    digest_of: Callable[[Sequence[FiledDocument]], str | None],
) -> bool:
    """Whether an event archived the envelope before another one did. Only an expired envelope has other
    content later, once it was restarted."""
    turn, since = _turn(one, now), _turn(other, now)
    if since is None:
        is_before = False
    else:
        # A copy is verified after its files are archived.
        copied = [
            each.verified_time for each in one.status.copies if is_copy_proved(each, one.status, digest_of)
        ]
        is_copied = any(each is not None and each < since[0] for each in copied)
        is_before = is_copied or (turn is not None and turn < since)
    return is_before or _is_restarted(one.status, other.status)


def _is_restarted(status: EnvelopeEventStatus, later: EnvelopeEventStatus) -> bool:
    """Whether a status is of an expired envelope, and the later one of its restart."""
    return _is_expired(status) and not _is_expired(later)


def _archived_text(sealed: Manifest) -> str:
    """Return when the original of a copy was archived; in a manifest of an earlier version, when files were
    copied there first."""
    original = sealed.extra.get("original")
    stated = original.get("archived") if isinstance(original, dict) else None
    return stated if isinstance(stated, str) else sealed.times.archived


def _is_expired(status: EnvelopeEventStatus) -> bool:
    return _envelope_status(status) == EnvelopeStatus.EXPIRED


def _envelope_status(status: EnvelopeEventStatus) -> str | None:
    return status.envelope.status if status.envelope is not None else None

"""
Collecting: which files the envelope has, under which names they go into the archive, and whether those are free.

The names are claimed by storing them in the event's status before anything is written: so a later run knows its own
half-done work from a stranger's file, and never overwrites the latter. Nothing is written, and nothing downloaded but
to compare it with what lies there already.
"""

from collections.abc import Iterable

from controller.desk import Desk
from controller.outcomes import Done, Facts, Fail, Outcome, Skip, Wait
from controller.phases.missing import archived_by_sibling, is_missing, was_deleted
from counterfoil.archives import filing
from counterfoil.archives.trouble import ArchiveRefused, Occupied
from counterfoil.esaw.problems import Answered
from counterfoil.resources import (
    LONGEST_LOCATION,
    LONGEST_TEXT,
    MOST_DOCUMENTS,
    ROOM_FOR_DOCUMENTS,
    ArchivedIn,
    EnvelopeEvent,
    FiledDocument,
    Ref,
    stored_size,
)


async def collect(event: EnvelopeEvent, at: Desk) -> Outcome:
    """List the files and claim a name in the archive for each."""
    try:
        plan = await at.plan()
    except Answered as answer:
        if is_missing(answer) and await was_deleted(event, at):
            return await archived_by_sibling(at) or Skip(
                "EnvelopeDeleted", "The envelope was deleted in eSignAnyWhere before it could be archived."
            )
        raise
    if not plan.files:
        return Wait("NoFiles", "eSignAnyWhere lists no file for this envelope yet.")
    if len(plan.files) > MOST_DOCUMENTS:
        return Fail(
            "EnvelopeTooLarge",
            f"The envelope has {len(plan.files)} files, and an event takes {MOST_DOCUMENTS} at most. The envelope "
            "stays in eSignAnyWhere.",
        )

    mine = [each.location for each in event.status.documents if each.location is not None]
    await filing.concluded(at.door, plan, event.spec.envelope_id, mine=mine)
    try:
        locations = await filing.claim(at.door, plan, mine=mine)
    except Occupied:
        # Perhaps by another event of this envelope, which is in the middle of it or was deleted in the middle.
        known = await filing.recognised(at.door, plan, at.esaw.download)
        locations = await filing.claim(at.door, plan, mine=[*mine, *known])
    documents = tuple(
        FiledDocument(
            file_id=planned.facts.file_id,
            kind=planned.facts.kind,
            file_name=planned.facts.file_name[:LONGEST_TEXT],
            location=location,
        )
        for planned, location in zip(plan.files, locations, strict=True)
    )
    _check_lengths([*locations, at.door.location(plan.manifest_name)], at)
    if stored_size(documents) > ROOM_FOR_DOCUMENTS:
        return Fail("EnvelopeTooLarge", f"{no_room_for(len(documents))} The envelope stays in eSignAnyWhere.")
    return Done(
        "FilesListed",
        f"{len(documents)} files are to be archived in Archive/{at.archive.name}.",
        facts=Facts(documents=documents, archive=ArchivedIn(ref=Ref(name=at.archive.name))),
    )


def no_room_for(files: int) -> str:
    """Say that what is to be noted down about so many files does not go into one event."""
    return (
        f"The envelope has {files} files; with their names and places that is more than the Kubernetes API server "
        "takes as one object."
    )


def _check_lengths(locations: Iterable[str], at: Desk) -> None:
    longest = max(len(each) for each in locations)
    if longest > LONGEST_LOCATION:
        raise ArchiveRefused(
            "PathTooLong",
            f"Archive/{at.archive.name}: the place of a file would have {longest} characters, and an event takes "
            f"{LONGEST_LOCATION} at most. Shorten spec.path of Archive/{at.archive.name}.",
        )

"""
List the envelope's files, choose their names in the archive, and check that the names are free.

The names are claimed by storing them in the event's status before anything is written. So a later run
distinguishes its own partial work from a file of a third party, and never overwrites the latter. This phase
writes nothing, and downloads a file only to compare it with a stored file.
"""

from collections.abc import Iterable

from controller.reconcile.context import ReconcileContext
from controller.reconcile.outcomes import Done, Fail, Outcome, PhaseFacts, Wait
from controller.reconcile.phases.missing_envelope import explain_deleted, is_missing
from counterfoil.archives import filing
from counterfoil.archives.errors import ArchiveRefused, NameTaken
from counterfoil.esaw.errors import HttpStatusError
from counterfoil.resources import (
    MAX_DOCUMENTS,
    MAX_DOCUMENTS_BYTES,
    MAX_LOCATION_LENGTH,
    MAX_TEXT_LENGTH,
    ArchiveLocation,
    EnvelopeEvent,
    FiledDocument,
    LocalObjectReference,
    stored_size,
)


async def collect(event: EnvelopeEvent, context: ReconcileContext) -> Outcome:
    """List the files and claim a name in the archive for each."""
    try:
        plan = await context.plan()
    except HttpStatusError as answer:
        if is_missing(answer) and (deleted := await explain_deleted(event, context)) is not None:
            return deleted
        raise
    if not plan.files:
        return Wait("NoFiles", "eSignAnyWhere lists no file for this envelope yet.")
    if len(plan.files) > MAX_DOCUMENTS:
        return Fail(
            "EnvelopeTooLarge",
            f"The envelope has {len(plan.files)} files, and an event takes {MAX_DOCUMENTS} at most. The "
            "envelope stays in eSignAnyWhere.",
        )

    claimed = [each.location for each in event.status.documents if each.location is not None]
    await filing.find_concluded(context.backend, plan, event.spec.envelope_id, claimed=claimed)
    try:
        locations = await filing.claim_names(context.backend, plan, claimed=claimed)
    except NameTaken:
        # Perhaps by another event of this envelope, which is in progress or was deleted in progress.
        known = await filing.find_stored(context.backend, plan, context.download)
        locations = await filing.claim_names(context.backend, plan, claimed=[*claimed, *known])
    documents = tuple(
        FiledDocument(
            file_id=file_layout.facts.file_id,
            kind=file_layout.facts.kind,
            file_name=file_layout.facts.file_name[:MAX_TEXT_LENGTH],
            location=location,
        )
        for file_layout, location in zip(plan.files, locations, strict=True)
    )
    _check_lengths([*locations, context.backend.location(plan.manifest_name)], context)
    if stored_size(documents) > MAX_DOCUMENTS_BYTES:
        message = too_many_files_message(len(documents))
        return Fail("EnvelopeTooLarge", f"{message} The envelope stays in eSignAnyWhere.")
    return Done(
        "FilesListed",
        f"{len(documents)} files will be archived in Archive/{context.archive.name}.",
        facts=PhaseFacts(
            documents=documents, archive=ArchiveLocation(ref=LocalObjectReference(name=context.archive.name))
        ),
    )


def too_many_files_message(files: int) -> str:
    """Return the message that the list of files exceeds the size limit of an event."""
    return (
        f"The envelope has {files} files; with their names and places that is more than the Kubernetes API "
        "server takes as one object."
    )


def _check_lengths(locations: Iterable[str], context: ReconcileContext) -> None:
    longest = max(len(each) for each in locations)
    if longest > MAX_LOCATION_LENGTH:
        raise ArchiveRefused(
            "PathTooLong",
            f"Archive/{context.archive.name}: the place of a file would have {longest} characters, and an "
            f"event takes {MAX_LOCATION_LENGTH} at most. Shorten spec.path of "
            f"Archive/{context.archive.name}.",
        )

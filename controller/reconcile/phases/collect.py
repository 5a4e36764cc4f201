"""
List the envelope's files, choose their names in the archive, and check that the names are free.

The names are claimed by storing them in the event's status before anything is written. So a later run
distinguishes its own partial work from a file of a third party, and never overwrites the latter. This phase
writes nothing, and downloads a file only to compare it with a stored file.
"""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Final

import msgspec

from controller.file_list_ceiling import (
    CEILING_PAUSE,
    FILE_LIST_CEILING,
    FileListCeiling,
    waits_for_person,
)
from controller.reconcile.context import ReconcileContext
from controller.reconcile.outcomes import (
    Done,
    Fail,
    Outcome,
    Pause,
    PhaseFacts,
    SideCondition,
    Skip,
    Wait,
    counted,
)
from controller.reconcile.phases.left_behind import files_left_behind
from controller.reconcile.phases.missing_envelope import explain_404, is_missing
from controller.reconcile.phases.other_status import outcome_if_other_status
from controller.reconcile.phases.unlisted_files import (
    grown_list,
    lacks_known,
    noted_files,
    wait_for_known_files,
)
from counterfoil.archives import filing
from counterfoil.archives.errors import ArchiveRefused, NameTaken, UnsealedNameTaken
from counterfoil.archives.layout import ArchiveLayout
from counterfoil.archives.manifest import FIXED_KINDS, RENDERED_KINDS
from counterfoil.archives.names import MANIFEST_NAME
from counterfoil.esaw.errors import HttpStatusError
from counterfoil.esaw.evidence import (
    LOOKS_SHORT,
    MissingEvidence,
    lacks_outdated_file,
    looks_short,
    missing_evidence,
)
from counterfoil.esaw.models import EnvelopeFile
from counterfoil.resources import (
    IMPORT_LABEL,
    MAX_DOCUMENTS_BYTES,
    MAX_LOCATION_LENGTH,
    MAX_TEXT_LENGTH,
    ArchiveLocation,
    EnvelopeEvent,
    FiledDocument,
    find_condition,
    stored_size,
)
from counterfoil.resources.envelopeevent import (
    EVIDENCE_CONDITION,
    LATE_FILES_UNKNOWN,
    SHORT_LIST_REASONS,
    state_of,
)
from counterfoil.resources.organization import STATUSES_WITHOUT_EVIDENCE
from counterfoil.resources.routes import documents_in, import_choice, is_led_elsewhere

_DOCUMENT_REASONS: Final = frozenset(
    {
        "DocumentsListed",
        "DocumentsMissing",
        "DocumentsPending",
        "NoFiles",
        "NoFilesListedLate",
        LATE_FILES_UNKNOWN,
    }
)
"""Reasons of the condition about evidence that are about documents; the others are about audit trails."""

_LACKS_OUTDATED = (
    "eSignAnyWhere lists other files than before the envelope expired and was restarted. A file may "
    "be listed late."
)


async def collect(event: EnvelopeEvent, context: ReconcileContext) -> Outcome:
    """Choose the Archive, list the files and claim a name there for each, unless the list has to wait for
    room."""
    if context.file_lists.must_wait(event):
        # Nothing is asked for it, since it would wait again.
        return _wait_for_room(context)
    try:
        return await _collect(event, context)
    except HttpStatusError as answer:
        if is_missing(answer) and (missing := await explain_404(answer, event, context)) is not None:
            return missing
        raise


async def _collect(event: EnvelopeEvent, context: ReconcileContext) -> Outcome:
    # Before the Archive: the routes may look at the status.
    if (changed := await outcome_if_other_status(event, context)) is not None:
        return changed
    if (unusable := await context.choose_archive()) is not None:
        return unusable
    layout = await context.layout()
    status, listed = (await context.envelope_facts()).status, await context.listed()
    if lacks_known(event, context, listed):
        return wait_for_known_files(event, context)
    if not layout.files:
        return _without_files(event, context, status)
    missing = missing_evidence(status, listed, context.organization.spec.evidence)
    if missing is not None and (until := _next_listing(event, context)) is not None:
        noted = noted_files(event.status, listed)
        if noted is not None and not context.file_lists.take(event, noted):
            return _wait_for_room(context)
        return _pause(missing, until, noted)
    locations = await _claim_names(event, layout, context)
    documents = _documents(event, layout, locations, context.archive.name)
    manifest = context.backend.location(layout.manifest_name)
    _check_lengths([*locations, manifest], context)
    if stored_size(documents) > MAX_DOCUMENTS_BYTES:
        message = too_many_files_message(len(documents))
        return Fail("EnvelopeTooLarge", f"{message} The envelope stays in eSignAnyWhere.")
    if not context.file_lists.take(event, documents):
        return _wait_for_room(context)
    return Done(
        "FilesListed",
        f"{counted(len(documents), 'file')} will be archived in {_place(context)}.",
        facts=PhaseFacts(
            documents=documents,
            archive=_archive_location(event, context),
            side_conditions=tuple(
                each
                for each in (
                    _evidence_condition(event, context, listed, missing),
                    files_left_behind(event.status, documents, manifest.removesuffix(MANIFEST_NAME), context),
                )
                if each is not None
            ),
        ),
    )


def _wait_for_room(context: ReconcileContext) -> Pause:
    return wait_for_room(context.organization.name, context.file_lists, context.clock.now())


def wait_for_room(organization: str, lists: FileListCeiling, now: datetime) -> Pause:
    """Return the outcome of an event whose list of files has no room, with an event that keeps such a
    list."""
    message = (
        f"Other unfinished events of Organization/{organization} keep as many files in their lists as one "
        "Organization may. This event continues automatically when enough of them have ended."
    )
    if (largest := lists.largest(organization)) is not None:
        does = "waits for a person and keeps" if waits_for_person(largest) else "keeps"
        message = f"{message} EnvelopeEvent/{largest.name} ({state_of(largest)}) {does} a long list."
    return Pause(FILE_LIST_CEILING, message, until=now + CEILING_PAUSE)


def _documents(
    event: EnvelopeEvent, layout: ArchiveLayout, locations: Iterable[str], archive: str
) -> tuple[FiledDocument, ...]:
    """
    Return the files with their claimed locations; what an earlier run archived there keeps its hash.

    A document or an attachment that was read back keeps it at any location: a download must have this
    content. It does not say that the file is there, which only the condition Archived does. So does a file
    whose location is not known, unless eSAW renders it at each download.
    """
    known_there = documents_in(event.status, archive)
    archived = {(each.file_id, each.kind, each.location): each for each in known_there}
    kept = {(each.file_id, each.kind): each for each in event.status.documents if _is_kept_anywhere(each)}
    documents = []
    for file_layout, location in zip(layout.files, locations, strict=True):
        facts = file_layout.facts
        key = facts.file_id, facts.kind
        known = archived.get((*key, location), kept.get(key))
        documents.append(
            FiledDocument(
                file_id=facts.file_id,
                kind=facts.kind,
                file_name=facts.file_name[:MAX_TEXT_LENGTH],
                size=known.size if known is not None else None,
                sha256=known.sha256 if known is not None else None,
                provisional=known.provisional if known is not None else None,
                other_content=known.other_content if known is not None else None,
                location=location,
            )
        )
    return tuple(documents)


def _is_kept_anywhere(document: FiledDocument) -> bool:
    """Whether the hash of a file binds its download at any location. One without a location is that of an
    event whose status was refused (``with_bare_documents``)."""
    is_bare = document.location is None and document.kind not in RENDERED_KINDS
    return document.kind in FIXED_KINDS or is_bare


def _place(context: ReconcileContext) -> str:
    choice = context.chosen.choice
    is_usual = choice.route is None and choice.import_ is None
    return f"Archive/{choice.archive}" if is_usual else str(choice)


def _archive_location(event: EnvelopeEvent, context: ReconcileContext) -> ArchiveLocation:
    """Return the Archive; the manifest of an earlier run stays named until this run has written its own."""
    chosen, earlier = context.chosen.choice.location, event.status.archive
    if earlier is None:
        return chosen
    return msgspec.structs.replace(earlier, ref=chosen.ref, route=chosen.route, import_=chosen.import_)


def _without_files(event: EnvelopeEvent, context: ReconcileContext, status: str) -> Outcome:
    """A Completed envelope must have files; for the other final statuses eSAW may keep none."""
    message = "eSignAnyWhere lists no file for this envelope yet."
    if status not in STATUSES_WITHOUT_EVIDENCE:
        return Wait("NoFiles", message, facts=_short_list("NoFiles", message))
    if (until := _next_listing(event, context)) is not None:
        return Pause("NoFiles", message, until, facts=_short_list("NoFiles", message))
    return Skip(
        "NoFinishedDocuments",
        f"eSignAnyWhere lists no file for this {status} envelope, so there is nothing to archive. The "
        "envelope stays in eSignAnyWhere.",
    )


def _pause(missing: MissingEvidence, until: datetime, documents: tuple[FiledDocument, ...] | None) -> Pause:
    if missing is MissingEvidence.DOCUMENTS:
        message = "eSignAnyWhere does not list every document of this envelope yet."
        facts = _short_list("DocumentsPending", message, documents)
        return Pause("DocumentsPending", message, until, facts=facts)
    message = "eSignAnyWhere lists no audit trail for this envelope yet."
    facts = _short_list("AuditTrailPending", message, documents)
    return Pause("AuditTrailPending", message, until, facts=facts)


def _short_list(reason: str, message: str, documents: tuple[FiledDocument, ...] | None = None) -> PhaseFacts:
    """Return the fact that a list was short: what eSAW lists after the missing files may come late, too."""
    short = SideCondition(EVIDENCE_CONDITION, "Unknown", reason, message)
    return PhaseFacts(documents=documents, side_conditions=(short,))


def _next_listing(event: EnvelopeEvent, context: ReconcileContext) -> datetime | None:
    """
    Return when to list the files again, at intervals that double; None if the list counts as complete.
    """
    now, spec = context.clock.now(), context.organization.spec
    deadline = context.evidence_deadline(event)
    since, end = deadline - spec.evidence.wait, deadline + context.clock.lead()
    return min(end, now + max(spec.retry.initial, now - since)) if now < end else None


def _evidence_condition(
    event: EnvelopeEvent,
    context: ReconcileContext,
    listed: Collection[EnvelopeFile],
    missing: MissingEvidence | None,
) -> SideCondition | None:
    """Return the condition of an envelope whose list lacks evidence or looks short, or of one whose evidence
    came late: after a short list, or in addition to the files of an earlier list."""
    wait, type_ = context.organization.spec.evidence.wait, EVIDENCE_CONDITION
    if missing is MissingEvidence.DOCUMENTS:
        message = f"eSignAnyWhere did not list every document of this Completed envelope within {wait}."
        return SideCondition(type_, "False", "DocumentsMissing", message)
    if missing is MissingEvidence.AUDIT_TRAIL:
        message = f"eSignAnyWhere did not list every audit trail of this Completed envelope within {wait}."
        return SideCondition(type_, "False", "AuditTrailMissing", message)
    if looks_short(listed):
        return SideCondition(type_, "Unknown", "DocumentsPending", LOOKS_SHORT)
    if lacks_outdated_file(event.status, listed):
        return SideCondition(type_, "Unknown", "DocumentsPending", _LACKS_OUTDATED)
    known = find_condition(event.status.conditions, type_)
    reason = known.reason if known is not None else event.status.reason or ""
    if known is None and reason not in SHORT_LIST_REASONS:
        return grown_list(event.status, listed)
    if reason in _DOCUMENT_REASONS:
        return SideCondition(type_, "True", "DocumentsListed", "eSignAnyWhere lists the documents.")
    return SideCondition(type_, "True", "AuditTrailListed", "eSignAnyWhere lists the audit trail.")


async def _claim_names(
    event: EnvelopeEvent, layout: ArchiveLayout, context: ReconcileContext
) -> tuple[str, ...]:
    """Return the locations of the layout. Raises ``NameTaken`` for a file that no event of the envelope
    filed."""
    archive = context.archive.name
    claimed = _locations(event, archive)
    key = context.signature_checker.public_key

    async def attempt() -> tuple[str, ...]:
        return await filing.claim_names(context.backend, layout, claimed=claimed, key=key)

    try:
        return await attempt()
    except NameTaken:
        # Perhaps by another event of this envelope, which is in the middle of it. Bytes alone do not show
        # that: eSAW renders an audit trail again at each download.
        claimed += [each for sibling in await context.siblings() for each in _locations(sibling, archive)]
    try:
        return await attempt()
    except NameTaken:
        # Perhaps by one that was deleted in the middle.
        claimed += await filing.find_stored(context.backend, layout, context.download)
    try:
        return await attempt()
    except UnsealedNameTaken as taken:
        raise NameTaken(" ".join(filter(None, (str(taken), _why_here(event, context))))) from taken


def _why_here(event: EnvelopeEvent, context: ReconcileContext) -> str | None:
    """Return where an event of an Import is meant to go, if a manifest of its envelope led it here; None:
    here, or another event led it."""
    is_of_import = IMPORT_LABEL in event.metadata.labels and context.awaited is None
    if not is_of_import or not is_led_elsewhere(event, context.chosen.choice):
        return None
    own = import_choice(event)
    aim = f"in Archive/{own.archive}" if own is not None else "where the Organization says"
    led = f"That manifest led the event of this Import to Archive/{context.archive.name}."
    return f"{led} Once it is moved, a retry archives {aim}."


def _locations(event: EnvelopeEvent, archive: str) -> list[str]:
    """Return the names that the stored status claims in this Archive: those of the files, and that of the
    manifest."""
    stored = event.status.archive
    manifest = stored.manifest if stored is not None and stored.ref.name == archive else None
    documents = documents_in(event.status, archive)
    return [each for each in (*(each.location for each in documents), manifest) if each is not None]


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

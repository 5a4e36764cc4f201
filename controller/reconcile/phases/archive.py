"""
Archive one envelope's files and prove that they arrived.

Each file flows: eSAW response -> hashing -> archive -> read-back -> ``FiledDocument``; the manifest comes
last. Memory holds a few chunks of one file. Running this twice for the same envelope, also after a kill at
any point, leaves the archive as running it once does.

This module does not decide whether to archive (validate) or when to retry (the reconciler). It never deletes
anything in eSAW (only ``clean`` does).
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import msgspec

from controller.reconcile.context import PartialArchive, ReconcileContext, actions_of
from controller.reconcile.outcomes import Done, Fail, Outcome, PhaseFacts, SideCondition, Wait, counted
from controller.reconcile.phases.missing_envelope import explain_404, is_missing
from controller.reconcile.phases.other_status import outcome_if_other_status
from controller.reconcile.phases.repeated_archiving import (
    DOCUMENT_IN_DOUBT,
    copies_pending,
    other_content,
    was_archived_again,
)
from controller.reconcile.phases.unlisted_files import (
    claimed_files,
    lacks_known,
    listed_in,
    wait_for_known_files,
)
from controller.reconcile.signature_policy import (
    ignored_condition,
    is_checked,
    side_condition,
)
from controller.sharding import LeaseLost
from counterfoil.archives import filing
from counterfoil.archives.backend import FileNotReturned
from counterfoil.archives.errors import NameTaken
from counterfoil.archives.filing import SourceDiffers, StoredFile
from counterfoil.archives.layout import ArchiveLayout, EnvelopeFacts, FileLayout
from counterfoil.archives.manifest import FIXED_KINDS, RENDERED_KINDS, Manifest
from counterfoil.archives.proof import (
    MAX_NAME,
    Checksum,
    FoundManifest,
    ProvenFiles,
    has_fault,
    proven_files,
    provisional,
)
from counterfoil.archives.readback import is_stored
from counterfoil.clock import utc_text
from counterfoil.esaw.errors import HttpStatusError
from counterfoil.esaw.evidence import expected_evidence, lacks_known_file, lists_additional_files
from counterfoil.esaw.models import EnvelopeFile
from counterfoil.kube.status import Superseded
from counterfoil.resources import (
    Archive,
    EnvelopeEvent,
    EnvelopeEventStatus,
    FiledDocument,
    Phase,
    find_condition,
)
from counterfoil.resources.archive import SignaturePolicy as Policy
from counterfoil.resources.archive import VerifyMode
from counterfoil.resources.envelopeevent import (
    ESAW_SIGNED_KINDS,
    EVIDENCE_CONDITION,
    MAX_OTHER_CONTENTS,
    MAX_SENT_CONTENTS,
    MAX_TAG_LENGTH,
    PARAMETERS_CONDITION,
    Provisional,
    SentContent,
)
from counterfoil.resources.organization import CHANGEABLE_STATUSES
from counterfoil.resources.routes import is_led_elsewhere, leads_to
from counterfoil.signatures.results import Signatures, State
from counterfoil.untrusted.json_bounds import text_memory

MAX_FINDINGS_MEMORY = 2 * 1024 * 1024
"""Bytes of the texts in the findings about the signatures of an envelope: some 3,000 signatures. Of more, the
manifest has the result of each file, and their number."""

MAX_NAMED_IN_DOUBT = 3
"""Number of files in doubt that a message names."""

_CONFIRMED_TOGETHER: Final = MAX_SENT_CONTENTS // 2
"""Number of files that were read back, after which the archive confirms them. If the attempt has no regular
end, the status has room for ``MAX_SENT_CONTENTS`` of the others."""


class OtherContent(Exception):
    """
    A sentence about a file that eSAW sends with other content than was archived. It was not stored.

    ``sent`` is that content. ``found`` is the fault that the signature check found in the archived one.
    """

    def __init__(self, sentence: str, sent: SentContent, found: Signatures | None = None) -> None:
        super().__init__(sentence)
        self.sent = sent
        self.found = found


class FilesInDoubt(Exception):
    """Sentences about all files of an attempt that eSAW sends with other content (``OtherContent``)."""


async def archive(event: EnvelopeEvent, context: ReconcileContext) -> Outcome:
    """Archive each missing file, then write the manifest; stop if the envelope was deleted meanwhile."""
    try:
        return await _archive(event, context)
    except (HttpStatusError, PartialArchive) as problem:
        cause = problem.__cause__ if isinstance(problem, PartialArchive) else problem
        if isinstance(problem, PartialArchive) and isinstance(cause, FilesInDoubt):
            return other_content(str(cause), PhaseFacts(documents=problem.documents))
        if not is_missing(cause):
            raise
        if isinstance(problem, PartialArchive):
            event = _with_documents(event, problem.documents)
        try:
            missing = await explain_404(cause, event, context)
        except (Superseded, LeaseLost):
            raise
        except Exception as unexplained:
            raise PartialArchive(event.status.documents) from unexplained
        if missing is None:
            raise
        return replace(missing, facts=replace(missing.facts, documents=event.status.documents))


def _with_documents(event: EnvelopeEvent, documents: tuple[FiledDocument, ...]) -> EnvelopeEvent:
    return msgspec.structs.replace(event, status=msgspec.structs.replace(event.status, documents=documents))


async def _archive(event: EnvelopeEvent, context: ReconcileContext) -> Outcome:
    if (changed := await outcome_if_other_status(event, context)) is not None:
        return changed
    layout = await context.layout()
    claims = {each.file_id: each.location for each in event.status.documents}
    if {each.facts.file_id: context.backend.location(each.name) for each in layout.files} != claims:
        return Wait(
            "FilesChanged",
            "The files of the envelope or their names in the archive are others than were claimed; they are "
            "listed again.",
            restart_from=Phase.COLLECTING,
        )
    facts, proven, siblings, unproven = await _earlier_archive(event, layout, context)
    listed = await context.listed()
    if lacks_known(event, context, listed, (*siblings, *([] if unproven is None else [unproven]))):
        if unproven is None or lacks_known_file(event.status, listed, siblings):
            return wait_for_known_files(event, context)
        manifest = context.backend.location(layout.manifest_name)
        what = claimed_files(context.archive.name, manifest, unproven, listed)
        return wait_for_known_files(event, context, what=what)
    # Others choose its size, and a run may last for hours.
    del unproven
    filed = await _file_all(event, layout, proven, context)
    documents, signatures_condition = filed.documents, side_condition(layout.files, filed.signatures)
    parameters_condition = _parameters_condition(event, filed)
    if context.archive.spec.signatures is Policy.IGNORE:
        signatures_condition = ignored_condition(event.status.conditions)
    is_required = context.archive.spec.signatures is Policy.REQUIRE
    if is_required and signatures_condition is not None and signatures_condition.status != "True":
        # It says where the files are.
        await _confirm(layout, documents, context)
        attempted = _attempted(event.status, documents, filed.signatures, is_required=True)
        return _signature_failure(signatures_condition, attempted, context)
    manifest, documents = await _conclude(event, layout, facts, filed, context)
    context.verified = documents
    total = sum(each.size or 0 for each in documents)
    is_read_back = context.archive.spec.verify is VerifyMode.READ_BACK
    how = "all read back" if is_read_back else "and confirmed the SHA-256 of each"
    return Done(
        "FilesVerified",
        f"Archive/{context.archive.name} has {counted(len(documents), 'file')} with "
        f"{counted(total, 'byte')}, {how}.",
        facts=PhaseFacts(
            documents=documents,
            archive=msgspec.structs.replace(
                context.chosen.choice.location, manifest=manifest, tags=_searchable_tags(layout, context)
            ),
            side_conditions=tuple(
                each
                for each in (
                    signatures_condition,
                    parameters_condition,
                    _copies_condition(context),
                    _evidence_of_siblings(event, siblings, await context.listed()),
                )
                if each is not None
            ),
        ),
    )


@dataclass(frozen=True)
class _ArchivedFiles:
    """The files in the archive, and the signatures of the checked files by file id."""

    documents: tuple[FiledDocument, ...]
    signatures: Mapping[str, Signatures]
    all_written: bool = False
    """Whether this run wrote every file, with the present tags."""


async def _conclude(
    event: EnvelopeEvent,
    layout: ArchiveLayout,
    facts: EnvelopeFacts,
    filed: _ArchivedFiles,
    context: ReconcileContext,
) -> tuple[str, tuple[FiledDocument, ...]]:
    """Write the manifest; return its location, and the files as it names them. If that fails, what was read
    back stays known, and what a person accepted: no shorter download replaces it."""
    documents = _concluded(filed.documents, filed.signatures)
    try:
        location = await filing.conclude(
            context.backend,
            layout,
            facts,
            documents,
            archived_at=context.clock.now(),
            extra=context.manifest_extra(event),
            signatures=filed.signatures,
            evidence=expected_evidence(
                facts.status, await context.listed(), context.organization.spec.evidence
            ),
            esaw_version=context.organization.status.version,
            signer=context.signature_checker.signer,
        )
    except (Superseded, LeaseLost):
        raise
    except Exception as problem:
        raise PartialArchive(_attempted(event.status, filed.documents, filed.signatures)) from problem
    return location, documents


async def _earlier_archive(
    event: EnvelopeEvent, layout: ArchiveLayout, context: ReconcileContext
) -> tuple[EnvelopeFacts, ProvenFiles, Collection[EnvelopeEventStatus], EnvelopeEventStatus | None]:
    """
    Return the facts for the manifest, with the callbacks of an earlier archive of the envelope, what is
    proven about the files in its folder, and the statuses of the envelope's other events. One more stands for
    a manifest with our seal, whose event may be removed. Last, the same of a manifest of this source without
    our seal: its files are waited for, and it proves nothing.

    Raises ``NameTaken``, before anything is replaced, if the folder claims to be another's, or if nothing
    but a claim led the event there.
    """
    facts = await context.envelope_facts()
    claimed = [each.location for each in event.status.documents if each.location is not None]
    found = await filing.find_concluded(
        context.backend,
        layout,
        event.spec.envelope_id,
        claimed=claimed,
        key=context.signature_checker.public_key,
    )
    if found is None or not _is_sealed_for(context.archive, found):
        await _refuse_if_only_a_claim_leads_here(layout, facts.status, event, context)
    if found is None:
        siblings = await context.possible_siblings()
        proven = _proven(event, siblings, None, facts.status)
        return facts, proven, [each.status for each in siblings], None
    unproven = _listed_before(event, found.claim, context.backend.location(layout.manifest_name))
    found = replace(found, claim=None)
    siblings = await context.siblings()
    facts = replace(facts, actions=actions_of(event, siblings))
    earlier = [each.status for each in siblings]
    if found.manifest is not None:
        earlier.append(listed_in(found.manifest))
    return facts, _proven(event, siblings, found, facts.status), earlier, unproven


def _proven(
    event: EnvelopeEvent,
    siblings: Collection[EnvelopeEvent],
    found: FoundManifest | None,
    envelope_status: str,
) -> ProvenFiles:
    """Return what is proven about the files of the envelope, and which contents their downloads may have. A
    person who retries the event has heard that eSAW sends a longer file than was archived."""
    proven = proven_files(event, siblings, found, envelope_status)
    if was_archived_again(event, DOCUMENT_IN_DOUBT):
        # The status of another event may be about a download that was cut, and its place may be this one.
        return replace(proven, checksums={})
    return proven


def _is_sealed_for(archive: Archive, found: FoundManifest) -> bool:
    """Whether our seal shows that we wrote a manifest in this Archive: it can be copied from another one, and
    from an earlier one of this name."""
    manifest, created = found.manifest, archive.metadata.creation_timestamp
    if manifest is None or manifest.extra.get("archive") != archive.name:
        return False
    return created is None or utc_text(created) <= manifest.times.archived


async def _refuse_if_only_a_claim_leads_here(
    layout: ArchiveLayout, envelope_status: str, event: EnvelopeEvent, context: ReconcileContext
) -> None:
    """
    Raise ``NameTaken`` if an event was led to this Archive, and nothing shows that we archived the envelope
    there: a program that may write there could have planted a manifest, to get the documents.

    An envelope that was archived before there was a key is recognised if all its files are there.
    """
    name, created = context.archive.name, context.archive.metadata.creation_timestamp
    if not is_led_elsewhere(event, context.chosen.choice):
        return
    if any(leads_to(each, name, created) for each in (event, *await context.siblings())):
        return
    why = "The envelope can still be signed."
    if envelope_status not in CHANGEABLE_STATUSES:
        there = await filing.find_stored(context.backend, layout, context.download)
        if len(there) == len(layout.files):
            return
        why = "Not every file of the envelope is there as eSignAnyWhere sends it."
    raise NameTaken(
        f"This event was led to Archive/{name}. No other event has files there, and no manifest there has a "
        f"seal of the controller's key for this Archive. {why} So no document was sent there. If "
        f"{context.backend.location(layout.manifest_name)} is there, keep its folder: move it to another "
        "place. A retry chooses the Archive again."
    )


def _listed_before(event: EnvelopeEvent, claim: Manifest | None, location: str) -> EnvelopeEventStatus | None:
    """
    Return what a manifest without our seal, at this location, says that an event of the envelope had listed.

    None: there is none, or it was only damaged. Another event may have archived more since, and been removed,
    but it archived the files of this event as well. So the event's own manifest was damaged if it lacks one
    of them and names no larger number.
    """
    if claim is None:
        return None
    archived = {each.file_id for each in event.status.documents if each.sha256 is not None}
    named = {each.file_id for each in claim.files}
    is_own = event.status.archive is not None and event.status.archive.manifest == location
    is_damaged = is_own and not archived <= named and len(named) <= len(archived)
    return None if is_damaged else listed_in(claim)


async def _file_all(
    event: EnvelopeEvent, layout: ArchiveLayout, proven: ProvenFiles, context: ReconcileContext
) -> _ArchivedFiles:
    await context.backend.remove_leftovers(layout.folder)
    # Each file is replaced by what this run reads. If it breaks off before, the rest stays as stored.
    filed = {each.file_id: each for each in event.status.documents}
    signatures: dict[str, Signatures] = {}
    memory = MAX_FINDINGS_MEMORY
    all_written = True
    new = set[str]()
    trouble: Exception | None = None
    in_doubt: list[str] = []
    is_required = context.archive.spec.signatures is Policy.REQUIRE
    sent: dict[str, Checksum] = {}
    keep_sent = partial(_with_content, signatures=signatures, is_required=is_required)
    confirmed = set[str]()
    attempted = partial(_attempted, event.status, signatures=signatures, is_required=is_required)
    context.unconfirmed = lambda: _unconfirmed(
        event.status, attempted(filed.values()), confirmed, sent, keep_sent
    )
    for file_layout in layout.files:
        file_id, kind = file_layout.facts.file_id, file_layout.facts.kind
        try:
            if len(new) - len(confirmed) >= _CONFIRMED_TOGETHER:
                await _confirm(layout, [filed[each] for each in new - confirmed], context)
                confirmed |= new
            if in_doubt and kind not in FIXED_KINDS and await _is_there(file_layout, filed[file_id], context):
                # No manifest follows: what is rendered at each download stays as the present one has it.
                continue
            stored_file, found = await _file_one(
                file_layout, layout, proven, context, partial(sent.__setitem__, file_id)
            )
        except (Superseded, LeaseLost):
            raise
        except OtherContent as differs:
            # The other files are in no doubt.
            in_doubt.append(str(differs))
            stored_file, found = None, differs.found
            sent.pop(file_id, None)
            filed[file_id] = _with_sent(filed[file_id], differs.sent, filed.values(), most=MAX_OTHER_CONTENTS)
        except Exception as problem:
            trouble = problem
            # eSAW sent it completely, and what failed then was about the archive.
            filed[file_id] = keep_sent(filed[file_id], sent.get(file_id), filed.values())
            break
        if found is not None:
            signatures[file_id] = found.within(memory)
            memory -= text_memory(signatures[file_id].found)
        if stored_file is None:
            continue
        all_written = all_written and stored_file.written
        if stored_file.written:
            context.chosen.on_file_archived(stored_file.size)
        filed[file_id] = msgspec.structs.replace(
            filed[file_id], size=stored_file.size, sha256=stored_file.sha256
        )
        new.add(file_id)
    if in_doubt:
        trouble = trouble or FilesInDoubt(_first_in_doubt(in_doubt))
    if trouble is not None:
        read_back = [each for each in filed.values() if each.file_id in new]
        await _confirm(layout, read_back, context)
        # What was read back is worth keeping: it shows people how far the archiving came, and no shorter
        # download replaces it.
        raise PartialArchive(attempted(filed.values())) from trouble
    return _ArchivedFiles(tuple(filed.values()), signatures, all_written)


async def _is_there(file_layout: FileLayout, document: FiledDocument, context: ReconcileContext) -> bool:
    try:
        return await is_stored(context.backend, file_layout.name)
    except FileNotReturned:
        return document.sha256 is not None


def _concluded(
    documents: Iterable[FiledDocument], signatures: Mapping[str, Signatures]
) -> tuple[FiledDocument, ...]:
    """Return the files as a manifest names them: only what the signature check found makes one
    provisional."""
    return tuple(
        msgspec.structs.replace(
            each,
            provisional=Provisional.IN_DOUBT if _is_doubted(each, signatures) else None,
            other_content=None,
        )
        for each in documents
    )


def _attempted(
    status: EnvelopeEventStatus,
    documents: Iterable[FiledDocument],
    signatures: Mapping[str, Signatures],
    *,
    is_required: bool = False,
) -> tuple[FiledDocument, ...]:
    """
    Return the files after an attempt that no manifest followed.

    What an earlier one archived keeps its hash: the content of this attempt may be a cut download. A longer
    one was accepted, so the next download must not be shorter. A content in doubt replaces no other hash, and
    puts only itself in doubt. With ``is_required``, so is one without intact signatures.
    """
    stored = {each.file_id: each for each in status.documents}
    return tuple(
        _after_attempt(
            stored[each.file_id],
            each,
            status,
            is_doubted=_is_doubted(each, signatures, is_required=is_required),
        )
        for each in documents
    )


def _unconfirmed(
    status: EnvelopeEventStatus,
    attempted: Iterable[FiledDocument],
    confirmed: Collection[str],
    sent: Mapping[str, Checksum],
    keep_sent: Callable[[FiledDocument, Checksum | None, Collection[FiledDocument]], FiledDocument],
) -> tuple[FiledDocument, ...]:
    """Return the files of the status with the contents that eSAW sent in this attempt, and those that the
    archive ``confirmed`` as attempted. It may not have the others, but no shorter download may replace them.
    """
    kept: dict[str, FiledDocument] = {}
    by_id = {each.file_id: each for each in attempted}
    for stored in status.documents:
        after = by_id[stored.file_id]
        if stored.file_id in confirmed:
            kept[stored.file_id] = after
            continue
        # A content that was refused is there already.
        document = msgspec.structs.replace(stored, other_content=after.other_content)
        kept[stored.file_id] = keep_sent(document, sent.get(stored.file_id), kept.values())
    return tuple(kept.values())


def _with_content(
    document: FiledDocument,
    content: Checksum | None,
    others: Collection[FiledDocument],
    *,
    signatures: Mapping[str, Signatures],
    is_required: bool,
) -> FiledDocument:
    """Return a file with what eSAW sent, unless it is what the file has, or shorter. What eSAW renders at
    each download may be shorter next time: of a file that it only may render, what was read back binds, too.
    """
    if content is None or document.kind in RENDERED_KINDS:
        return document
    if content == (document.size, document.sha256) or content[0] < (document.size or 0):
        return document
    has_fault = _is_doubted(document, signatures, is_required=is_required)
    return _with_sent(document, SentContent(size=content[0], sha256=content[1], has_fault=has_fault), others)


def _after_attempt(
    known: FiledDocument, found: FiledDocument, status: EnvelopeEventStatus, *, is_doubted: bool
) -> FiledDocument:
    mark = provisional(known, status)
    known = msgspec.structs.replace(known, provisional=mark, other_content=found.other_content)
    is_same = (known.size, known.sha256) == (found.size, found.sha256)
    if is_same:
        return msgspec.structs.replace(known, provisional=Provisional.IN_DOUBT) if is_doubted else known
    is_sound = known.sha256 is not None and mark is not Provisional.IN_DOUBT
    is_shorter = (found.size or 0) <= (known.size or 0) or found.kind in RENDERED_KINDS
    if is_sound and (is_doubted or (mark is None and is_shorter)):
        return known
    return msgspec.structs.replace(
        found, provisional=Provisional.IN_DOUBT if is_doubted else Provisional.NO_MANIFEST
    )


def _is_doubted(
    document: FiledDocument, signatures: Mapping[str, Signatures], *, is_required: bool = False
) -> bool:
    found = signatures.get(document.file_id)
    is_refused = is_required and found is not None and found.state is not State.INTACT
    return has_fault(document.kind, found) or (is_refused and document.kind in ESAW_SIGNED_KINDS)


async def _confirm(
    layout: ArchiveLayout, documents: Collection[FiledDocument], context: ReconcileContext
) -> None:
    """Confirm that the archive has these files, which were read back in this run and have no manifest. Raises
    ``ArchiveError``; then the status gets what eSAW sent (``context.unconfirmed``)."""
    sizes = {each.file_id: each.size for each in documents}
    names = {each.name: sizes[each.facts.file_id] for each in layout.files if each.facts.file_id in sizes}
    if names:
        await filing.confirm_filed(context.backend, layout, names, is_listed_before=False)


async def _file_one(
    file_layout: FileLayout,
    layout: ArchiveLayout,
    proven: ProvenFiles,
    context: ReconcileContext,
    on_sent: Callable[[Checksum], None],
) -> tuple[StoredFile, Signatures | None]:
    """Archive one file and check its signatures; None: not to be checked. ``on_sent`` is called with each
    content that eSAW sent and that counts. Raises ``OtherContent``."""
    checker, file_id, kind = context.signature_checker, file_layout.facts.file_id, file_layout.facts.kind
    source, checksums = partial(context.download, file_layout.facts), proven.of(file_id, kind)
    store = partial(filing.store, context.backend, file_layout, source, tags=layout.tags)

    def accepts(found: Checksum, *, is_repeated: bool = False) -> bool:
        counts = proven.accepts(file_id, kind, found, is_repeated=is_repeated)
        if counts:
            on_sent(found)
        return counts

    try:
        try:
            stored_file = await store(proven=checksums, accepts=accepts)
        except SourceDiffers:
            is_rendered = proven.may_be_rendered(kind)
            kept = proven.recognised(file_id, kind, is_rendered=is_rendered)
            if not is_rendered and not kept:
                raise
            # What was archived stays, or another download decides.
            stored_file = await store(proven=kept, accepts=partial(accepts, is_repeated=is_rendered))
    except SourceDiffers as differs:
        sent = SentContent(size=differs.found[0], sha256=differs.found[1])
        raise _other_content(file_layout, proven, sent, context) from differs
    if not _is_checked(file_layout, context):
        return stored_file, None
    found = await checker.check(context.backend, file_layout, stored_file)
    if not has_fault(kind, found):
        return stored_file, found
    if checksums:
        # Its first download may have been cut: it is downloaded again.
        try:
            doubting = proven.doubting(file_id, kind)
            return await _file_one(file_layout, layout, doubting, context, on_sent)
        except OtherContent as differs:
            # The next attempt knows the doubt. After a retry, another content counts.
            raise OtherContent(str(differs), differs.sent, found) from differs
    if proven.is_worse(file_id, kind, stored_file.size, stored_file.sha256):
        sent = SentContent(size=stored_file.size, sha256=stored_file.sha256, has_fault=True)
        raise _other_content(file_layout, proven, sent, context)
    return stored_file, found


def _with_sent(
    document: FiledDocument,
    sent: SentContent,
    others: Collection[FiledDocument],
    *,
    most: int = MAX_SENT_CONTENTS,
) -> FiledDocument:
    """Return the file with the longest content that eSAW sent; one with a fault replaces none without. What a
    person accepted stays until a longer one is sent, or another one of its length. If ``most`` of the
    ``others`` have one that is not archived, none is added."""
    known = document.other_content
    if known is None:
        if sum(_has_unarchived(each) for each in others) >= most:
            return document
    elif (
        sent.size < known.size
        or (sent.has_fault and not known.has_fault)
        or (sent.size == known.size and (known.accepted_time is None or known.sha256 == sent.sha256))
    ):
        return document
    return msgspec.structs.replace(document, other_content=sent)


def _has_unarchived(document: FiledDocument) -> bool:
    """Whether eSAW sent a content of the file that is not archived. One that a person accepted, and that was
    archived, stays until a manifest names it."""
    other = document.other_content
    return other is not None and (other.size, other.sha256) != (document.size, document.sha256)


def _other_content(
    file_layout: FileLayout, proven: ProvenFiles, sent: SentContent, context: ReconcileContext
) -> OtherContent:
    """Return which file eSAW sends with other content than was archived, and what a retry makes of it."""
    facts, place = file_layout.facts, context.backend.location(file_layout.name)
    expected = proven.expected_of(facts.file_id, facts.kind)
    marks, name = set(expected.values()), facts.file_name[:MAX_NAME]
    other = proven.other.get((facts.file_id, facts.kind))
    if other is not None and proven.longest_sent(facts.file_id, facts.kind) > sent.size:
        known, did = other.size, "was sent before"
        contents = _described(other.size, other.sha256)
    else:
        named = proven.longest_of(facts.file_id, facts.kind)
        known = max((size for size, _ in named), default=0)
        did = "was read back" if marks == {Provisional.NO_MANIFEST} else "was archived"
        contents = " or ".join(_described(*each) for each in sorted(named))
    said = (
        f"eSignAnyWhere sends {name!r} with other content than {did}, which has {contents}. "
        f"What it sends has {counted(sent.size, 'byte')}. Its place is {place!r}."
    )
    archived = max((size for (size, _), mark in expected.items() if mark is None), default=None)
    if proven.may_be_rendered(facts.kind) or proven.has_only_doubt(facts.file_id, facts.kind):
        said = f"{said} A retry archives it as eSignAnyWhere sends it then."
    elif archived is None:
        said = f"{said} No shorter file replaces it, and none that is put back is recognised."
    elif max(known, sent.size) > archived:
        said = f"{said} What is archived is shorter, so it may have been cut: compare both before a retry."
    return OtherContent(said, sent)


def _described(size: int, sha256: str) -> str:
    return f"{size} bytes and the SHA-256 {sha256}"


def _first_in_doubt(sentences: Sequence[str]) -> str:
    """Return the first of these sentences about one file each, and the number of the others."""
    others = len(sentences) - MAX_NAMED_IN_DOUBT
    named = " ".join(sentences[:MAX_NAMED_IN_DOUBT])
    if others <= 0:
        return named
    return f"{named} It does so with {counted(others, 'other file')} of status.documents, too."


def _searchable_tags(layout: ArchiveLayout, context: ReconcileContext) -> dict[str, str]:
    rules = context.archive.spec.tags
    return {name: value[:MAX_TAG_LENGTH] for name, value in layout.tags.items() if rules[name].searchable}


def _parameters_condition(event: EnvelopeEvent, filed: _ArchivedFiles) -> SideCondition | None:
    """Return that parameters which came late were archived after all; None: nothing to change."""
    if find_condition(event.status.conditions, PARAMETERS_CONDITION) is None or not filed.all_written:
        return None
    message = "The tags of all files and the manifest have the parameters of all callbacks."
    return SideCondition(PARAMETERS_CONDITION, "True", "ParametersArchived", message)


def _copies_condition(context: ReconcileContext) -> SideCondition | None:
    """Return the condition that lets the phase Copying follow; None: there are no copies."""
    if not context.organization.spec.copies:
        return None
    return copies_pending("The envelope is archived, and its copies are not made yet.")


def _evidence_of_siblings(
    event: EnvelopeEvent, siblings: Iterable[EnvelopeEventStatus], listed: Collection[EnvelopeFile]
) -> SideCondition | None:
    """Return the condition of an envelope whose list was short, or had fewer files, for another of its
    events; None: there is none, or this event has its own condition."""
    if find_condition(event.status.conditions, EVIDENCE_CONDITION) is not None:
        return None
    for status in siblings:
        was_short = find_condition(status.conditions, EVIDENCE_CONDITION) is not None
        if was_short or (status.documents and lists_additional_files(status, listed)):
            message = "eSignAnyWhere had listed fewer files for another event of the envelope."
            return SideCondition(EVIDENCE_CONDITION, "True", "DocumentsListed", message)
    return None


def _is_checked(file_layout: FileLayout, context: ReconcileContext) -> bool:
    return context.archive.spec.signatures is not Policy.IGNORE and is_checked(file_layout)


def _signature_failure(
    signatures_condition: SideCondition, documents: tuple[FiledDocument, ...], context: ReconcileContext
) -> Fail:
    # A document without a signature is as bad here as one with a broken one.
    found = signatures_condition.reason
    reason = "SignatureBroken" if found == "NoSignatures" else found
    wanted = "trusted signers" if reason == "SignerUntrusted" else "intact signatures"
    return Fail(
        reason,
        f"Archive/{context.archive.name} requires {wanted}. {signatures_condition.message} The envelope "
        f"stays in eSignAnyWhere; its files are in Archive/{context.archive.name}, without a manifest.",
        facts=PhaseFacts(documents=documents, side_conditions=(signatures_condition,)),
    )

"""
Archiving: bring every file of one envelope into its archive, and prove that it is there.

Files flow one by one: eSAW's answer -> hashing -> archive -> read-back -> ``FiledDocument``; the manifest comes last.
Nothing is held in memory but a few chunks of one file. Running this twice for the same envelope, also after a kill
at any point, leaves the archive as running it once does.

It does not decide whether to archive (validate does), nor when to try again (the driver does), and it never deletes
anything in eSAW (only ``clean`` can).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import msgspec

from controller.desk import Desk, PartlyDone
from controller.notary import is_looked_into, noticed
from controller.outcomes import Done, Facts, Fail, Noticed, Outcome, Wait
from controller.phases.missing import archived_by_sibling, is_missing, was_deleted
from counterfoil.archives import filing
from counterfoil.archives.audit import verify
from counterfoil.archives.manifest import ManifestFile
from counterfoil.archives.plan import Plan, PlannedFile
from counterfoil.esaw.problems import Answered
from counterfoil.resources import (
    LONGEST_TEXT,
    ArchivedIn,
    EnvelopeEvent,
    EnvelopeStatus,
    FiledDocument,
    Phase,
    Ref,
)
from counterfoil.resources.archive import Signatures as Policy
from counterfoil.signatures.findings import Signatures


async def archive(event: EnvelopeEvent, at: Desk) -> Outcome:
    """File everything that is not filed yet, then write the manifest; end if the envelope is gone meanwhile."""
    try:
        return await _archive(event, at)
    except (Answered, PartlyDone) as problem:
        partly = problem if isinstance(problem, PartlyDone) else None
        if not is_missing(partly.__cause__ if partly else problem) or not await was_deleted(event, at):
            raise
        documents = partly.documents if partly else event.status.documents
        return await archived_by_sibling(at) or _lost(documents, at)


async def _archive(event: EnvelopeEvent, at: Desk) -> Outcome:
    plan = await at.plan()
    claims = {each.file_id: each.location for each in event.status.documents}
    if {each.facts.file_id: at.door.location(each.name) for each in plan.files} != claims:
        return Wait(
            "FilesChanged",
            "The files of the envelope or their names in the archive are others than were claimed; they are listed anew.",
            undoes=Phase.COLLECTING,
        )
    filed = await _already_there(event, plan, at) or await _file_all(event, plan, at)
    documents, aside = filed.documents, noticed(plan.files, filed.signatures)
    if at.archive.spec.signatures is Policy.REQUIRE and aside is not None and aside.status != "True":
        return _refused(aside, documents, at)
    manifest = await filing.conclude(
        at.door,
        plan,
        await at.envelope_facts(),
        documents,
        archived_at=at.clock.now(),
        extra=at.manifest_extra(event),
        signatures=filed.signatures,
        sealer=at.notary.sealer,
    )
    total = sum(each.size or 0 for each in documents)
    return Done(
        "FilesVerified",
        f"{len(documents)} files with {total} bytes are in Archive/{at.archive.name} and were read back.",
        facts=Facts(
            documents=documents,
            archive=ArchivedIn(ref=Ref(name=at.archive.name), manifest=manifest),
            noticed=aside,
        ),
    )


@dataclass(frozen=True)
class _Filed:
    """What lies in the archive, and by file id what was found in the files that were looked into."""

    documents: tuple[FiledDocument, ...]
    signatures: Mapping[str, Signatures]


async def _already_there(event: EnvelopeEvent, plan: Plan, at: Desk) -> _Filed | None:
    """Return what an earlier run filed, if its manifest covers the whole plan, is of this state, and still proves true."""
    mine = [each.location for each in event.status.documents if each.location is not None]
    manifest = await filing.concluded(at.door, plan, event.spec.envelope_id, mine=mine)
    status = (await at.envelope_facts()).status
    # An expired envelope can be restarted and signed further: files of the same id then have other content.
    if manifest is None or manifest.envelope.status != status or status == EnvelopeStatus.EXPIRED:
        return None
    filed = {each.file_id: _as_document(each) for each in manifest.files}
    if any(planned.facts.file_id not in filed for planned in plan.files):
        return None
    found = {each.file_id: each.signatures for each in manifest.files if each.signatures is not None}
    wanted = {planned.facts.file_id for planned in plan.files if _is_looked_into(planned, at)}
    if not wanted <= found.keys() or not all(at.notary.looked(found[file_id]) for file_id in wanted):
        return None
    if await verify(at.door, plan.folder):
        return None
    return _Filed(
        tuple(filed[planned.facts.file_id] for planned in plan.files),
        {file_id: found[file_id] for file_id in wanted},
    )


async def _file_all(event: EnvelopeEvent, plan: Plan, at: Desk) -> _Filed:
    await at.door.sweep_leftovers(plan.folder)
    filed = {each.file_id: each for each in event.status.documents}
    signatures: dict[str, Signatures] = {}
    for planned in plan.files:
        source = partial(at.esaw.download, planned.facts.file_id)
        try:
            deposited = await filing.deposit(at.door, planned, source, tags=plan.tags)
            if _is_looked_into(planned, at):
                signatures[planned.facts.file_id] = await at.notary.look(at.door, planned, deposited)
        except Exception as problem:
            # What was filed so far is worth keeping in the status: it tells the person who looks how far it came.
            raise PartlyDone(tuple(filed.values())) from problem
        if deposited.written:
            at.archived_bytes(deposited.size)
        filed[planned.facts.file_id] = msgspec.structs.replace(
            filed[planned.facts.file_id], size=deposited.size, sha256=deposited.sha256
        )
    return _Filed(tuple(filed.values()), signatures)


def _is_looked_into(planned: PlannedFile, at: Desk) -> bool:
    return at.archive.spec.signatures is not Policy.IGNORE and is_looked_into(planned)


def _refused(aside: Noticed, documents: tuple[FiledDocument, ...], at: Desk) -> Fail:
    # A document without a signature is as bad here as one with a broken one.
    reason = "SignatureBroken" if aside.reason == "NoSignatures" else aside.reason
    wanted = "trusted signers" if reason == "SignerUntrusted" else "intact signatures"
    return Fail(
        reason,
        f"Archive/{at.archive.name} requires {wanted}. {aside.message} The envelope stays in eSignAnyWhere; its "
        f"files are in Archive/{at.archive.name}, without a manifest.",
        facts=Facts(documents=documents, noticed=aside),
    )


def _lost(documents: tuple[FiledDocument, ...], at: Desk) -> Fail:
    arrived = sum(each.sha256 is not None for each in documents)
    return Fail(
        "EnvelopeDeleted",
        f"The envelope was deleted in eSignAnyWhere while it was being archived: {arrived} of its {len(documents)} "
        f"files arrived in Archive/{at.archive.name}, without a manifest.",
        facts=Facts(documents=documents),
    )


def _as_document(file: ManifestFile) -> FiledDocument:
    return FiledDocument(
        file_id=file.file_id,
        kind=file.kind,
        file_name=file.file_name[:LONGEST_TEXT],
        size=file.size,
        sha256=file.sha256,
        location=file.location,
    )

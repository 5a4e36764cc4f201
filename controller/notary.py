"""
The notary: what is asked about the signatures in an envelope's files, and what follows from the answers.

Every PDF is looked into after it was filed, by a process of its own (``counterfoil.signatures``), never here. The answers
go into the manifest and the condition ``SignaturesChecked``; whether they stop the event is the Archive's choice.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

import msgspec

from controller.outcomes import Noticed
from counterfoil.archives.door import Absent, Door
from counterfoil.archives.filing import Deposited
from counterfoil.archives.plan import PlannedFile
from counterfoil.archives.seal import Sealer
from counterfoil.resources import FileKind
from counterfoil.resources.conditions import Truth
from counterfoil.signatures.anchors import NO_ANCHORS, Anchors
from counterfoil.signatures.examiners import Examiner
from counterfoil.signatures.findings import Kind, Signatures, State

ESAW_SIGNS = frozenset({FileKind.DOCUMENT, FileKind.AUDIT_TRAIL, FileKind.LEGAL_DOCUMENT})
"""What eSAW made or sealed itself. Attachments are what signers uploaded: looked into, but nobody answers for them."""

CONDITION = "SignaturesChecked"

NAMED = 3
"""How many files a message names."""

LONGEST_NAME = 100


@dataclass(frozen=True)
class Notary:
    """Who looks at signatures, with which key manifests are sealed (None: they are not), and whom the archive trusts."""

    examiner: Examiner
    sealer: Sealer | None
    anchors: Anchors = NO_ANCHORS

    def trusting(self, anchors: Anchors) -> "Notary":
        """Return the notary for an archive with these trust anchors."""
        return replace(self, anchors=anchors)

    async def look(self, door: Door, planned: PlannedFile, deposited: Deposited) -> Signatures:
        """
        Return what is found in a file that was just filed.

        A small one is at hand, a large one is read from the archive again. Raises ``ArchiveTrouble``.
        """
        chunks = door.read(planned.name) if deposited.content is None else _once(deposited.content)
        async with aclosing(chunks) as stream:
            try:
                found = await self.examiner.examine(stream, deposited.size, self.anchors)
            except Absent:
                found = Signatures(state=State.UNREADABLE, detail="it is no longer in the archive")
        return msgspec.structs.replace(found, anchors=self.anchors.id)

    def looked(self, found: Signatures) -> bool:
        """Whether an earlier run judged trust by the same anchors as this one would."""
        return found.anchors == self.anchors.id


def is_looked_into(planned: PlannedFile) -> bool:
    """Whether the file is to be a PDF."""
    return planned.facts.kind in ESAW_SIGNS or planned.content_type == "application/pdf"


def noticed(files: Sequence[PlannedFile], signatures: Mapping[str, Signatures]) -> Noticed | None:
    """
    Return what the condition says about all files together; None when none was looked into.

    True: every document has signatures, all of eSAW's files that have some are intact, and every signer of theirs is
    trusted if there are trust anchors.
    """
    answers = [
        (each, signatures[each.facts.file_id])
        for each in files
        if each.facts.kind in ESAW_SIGNS and each.facts.file_id in signatures
    ]
    if not answers:
        return None
    documents = [answer for answer in answers if answer[0].facts.kind is FileKind.DOCUMENT]
    broken = [answer for answer in answers if answer[1].state is State.BROKEN]
    broken += [answer for answer in documents if answer[1].state is State.UNREADABLE]
    if broken:
        return _says("False", "SignatureBroken", _details(broken))
    if distrusted := [(each, _distrust(found)) for each, found in answers if _distrust(found)]:
        return _says("False", "SignerUntrusted", distrusted)
    if unchecked := [answer for answer in documents if answer[1].state is State.NOT_CHECKED]:
        return _says("Unknown", "SignaturesUnchecked", _details(unchecked))
    if unsigned := [answer for answer in documents if answer[1].state is State.UNSIGNED]:
        return _says("False", "NoSignatures", _details(unsigned))
    return Noticed(CONDITION, "True", "SignaturesIntact", _count(answers))


Answer = tuple[PlannedFile, Signatures]


def _details(answers: Sequence[Answer]) -> list[tuple[PlannedFile, str]]:
    return [(each, found.detail) for each, found in answers]


def _distrust(found: Signatures) -> str:
    """Say of the first signer that is not trusted why; nothing when there is none, or no trust anchor."""
    for each in found.found:
        if each.kind is Kind.SIGNATURE and each.trusted is False:
            return f"{each.signer!r}, who made the signature {each.field!r}, is not trusted: {each.distrust}"
    return ""


def _says(truth: Truth, reason: str, faults: Sequence[tuple[PlannedFile, str]]) -> Noticed:
    named = [f"`{each.facts.file_name[:LONGEST_NAME]}`: {fault}" for each, fault in faults[:NAMED]]
    if len(faults) > NAMED:
        named.append(f"and {len(faults) - NAMED} more files")
    return Noticed(CONDITION, truth, reason, f"{'; '.join(named)}.")


def _count(answers: Sequence[Answer]) -> str:
    counts = [
        sum(each.kind is Kind.SIGNATURE for each in found.found)
        for _, found in answers
        if found.state is State.INTACT
    ]
    says = f"{sum(counts)} signatures in {len(counts)} files are intact"
    trusted = any(found.anchors is not None for _, found in answers)
    return f"{says}, and their signers are trusted." if trusted else f"{says}."


async def _once(content: bytes) -> AsyncGenerator[bytes, None]:
    yield content

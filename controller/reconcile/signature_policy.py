"""
The signature policy: check the signatures in an envelope's files, and decide what follows from the results.

Each PDF is checked after it was archived, in a separate process (``counterfoil.signatures``), never here. The
results go into the manifest and the condition ``SignaturesChecked``; the Archive decides whether they stop
the event.
"""

from collections.abc import AsyncIterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

import msgspec

from controller.reconcile.outcomes import SideCondition, counted
from counterfoil.archives.backend import ArchiveBackend, FileNotReturned, FileNotStored, confirm_root
from counterfoil.archives.errors import VerificationFailed
from counterfoil.archives.filing import StoredFile
from counterfoil.archives.layout import FileLayout
from counterfoil.archives.manifest_signature import ManifestSigner, PublicKey
from counterfoil.archives.streams import HashingCounter, counting, single_chunk
from counterfoil.resources import FileKind
from counterfoil.resources.conditions import Condition, ConditionStatus, find_condition
from counterfoil.resources.envelopeevent import ESAW_SIGNED_KINDS, SIGNATURES_CONDITION
from counterfoil.signatures.anchors import NO_ANCHORS, Anchors
from counterfoil.signatures.results import Kind, Signatures, State
from counterfoil.signatures.worker_pool import SignatureWorkers

MAX_NAMED_FILES = 3
"""Maximum number of files in a message."""

MAX_NAME_LENGTH = 100


@dataclass(frozen=True)
class SignatureChecker:
    """The signature workers, the manifest's signing key (None: unsigned), and the archive's trust anchors."""

    examiner: SignatureWorkers
    signer: ManifestSigner | None
    anchors: Anchors = NO_ANCHORS
    namespace: str = ""
    """That of the Archives, whose share of the signature workers counts."""

    @property
    def public_key(self) -> PublicKey | None:
        """The key that our own seals fit; None: manifests are not sealed."""
        return self.signer.public if self.signer is not None else None

    def in_namespace(self, namespace: str) -> "SignatureChecker":
        """Return the checker for the Archives of a namespace."""
        return replace(self, namespace=namespace)

    def with_anchors(self, anchors: Anchors) -> "SignatureChecker":
        """Return the checker for an archive with these trust anchors."""
        return replace(self, anchors=anchors)

    async def check(
        self, backend: ArchiveBackend, file_layout: FileLayout, stored_file: StoredFile
    ) -> Signatures:
        """
        Return what is found in a file that was just filed.

        A small one is at hand, a large one is read from the archive again. Raises ``ArchiveError``:
        ``VerificationFailed`` if other bytes were examined than were filed.
        """
        if stored_file.content is not None:
            async with aclosing(single_chunk(stored_file.content)) as stream:
                found = await self._examine(backend, stream, stored_file)
        else:
            found = await self._read_and_examine(backend, file_layout.name, stored_file)
        return msgspec.structs.replace(found, anchors=self.anchors.id)

    async def _read_and_examine(
        self, backend: ArchiveBackend, name: str, stored_file: StoredFile
    ) -> Signatures:
        counter = HashingCounter()
        async with aclosing(backend.read(name)) as chunks, aclosing(counting(chunks, counter)) as stream:
            try:
                found = await self._examine(backend, stream, stored_file)
            except FileNotReturned:
                return Signatures(state=State.NOT_CHECKED, detail="the archive does not return it")
            except FileNotStored:
                found = None
        if found is not None and found.state is State.NOT_CHECKED and counter.size < stored_file.size:
            # It was not read to its end, so nothing is said about it.
            return found
        if found is None or (counter.size, counter.sha256) != (stored_file.size, stored_file.sha256):
            await confirm_root(backend)
            raise VerificationFailed(
                f"{backend.location(name)} was read back, and the archive did not return the same bytes for "
                "the check of its signatures. Check the storage behind the archive, and whether a cache or a "
                "proxy answers."
            )
        return found

    async def _examine(
        self, backend: ArchiveBackend, stream: AsyncIterable[bytes], stored_file: StoredFile
    ) -> Signatures:
        source = f"{self.namespace}/{backend.location('root')}"
        return await self.examiner.examine(stream, stored_file.size, self.anchors, source=source)


def is_checked(file_layout: FileLayout) -> bool:
    """Whether the file must be a PDF."""
    return file_layout.facts.kind in ESAW_SIGNED_KINDS or file_layout.content_type == "application/pdf"


def side_condition(files: Sequence[FileLayout], signatures: Mapping[str, Signatures]) -> SideCondition | None:
    """
    Return what the condition says about all files together; None when none was checked.

    True: every document has signatures, all of eSAW's files that have some are intact, and every signer of
    theirs is trusted if there are trust anchors.
    """
    answers = [
        (each, signatures[each.facts.file_id])
        for each in files
        if each.facts.kind in ESAW_SIGNED_KINDS and each.facts.file_id in signatures
    ]
    if not answers:
        return None
    documents = [answer for answer in answers if answer[0].facts.kind is FileKind.DOCUMENT]
    if broken := [answer for answer in answers if answer[1].is_doubtful]:
        return _as_condition("False", "SignatureBroken", _details(broken))
    if distrusted := [(each, _distrust_reason(found)) for each, found in answers if _distrust_reason(found)]:
        return _as_condition("False", "SignerUntrusted", distrusted)
    if unchecked := [answer for answer in documents if answer[1].state is State.NOT_CHECKED]:
        return _as_condition("Unknown", "SignaturesUnchecked", _details(unchecked))
    if unsigned := [answer for answer in documents if answer[1].state is State.UNSIGNED]:
        return _as_condition("False", "NoSignatures", _details(unsigned))
    return SideCondition(SIGNATURES_CONDITION, "True", "SignaturesIntact", _intact_message(answers))


def ignored_condition(known: tuple[Condition, ...]) -> SideCondition | None:
    """
    Return what the condition says once the Archive checks no signatures; None when it never said anything.

    The result of an earlier check is about files of an earlier run, and would stop each retry.
    """
    if find_condition(known, SIGNATURES_CONDITION) is None:
        return None
    message = "The Archive says that signatures are not checked."
    return SideCondition(SIGNATURES_CONDITION, "Unknown", "SignaturesIgnored", message)


FileResult = tuple[FileLayout, Signatures]


def _details(answers: Sequence[FileResult]) -> list[tuple[FileLayout, str]]:
    return [(each, found.detail) for each, found in answers]


def _distrust_reason(found: Signatures) -> str:
    """Return why the first untrusted signer is not trusted; empty without one, or without an anchor."""
    for each in found.found:
        if each.is_distrusted:
            return f"{each.signer!r}, who made the signature {each.field!r}, is not trusted: {each.distrust}"
    return ""


def _as_condition(
    truth: ConditionStatus, reason: str, problems: Sequence[tuple[FileLayout, str]]
) -> SideCondition:
    named = [
        f"`{each.facts.file_name[:MAX_NAME_LENGTH]}`: {fault}" for each, fault in problems[:MAX_NAMED_FILES]
    ]
    if len(problems) > MAX_NAMED_FILES:
        named.append(f"and {len(problems) - MAX_NAMED_FILES} more files")
    return SideCondition(SIGNATURES_CONDITION, truth, reason, f"{'; '.join(named)}.")


def _intact_message(answers: Sequence[FileResult]) -> str:
    intact = [found.found for _, found in answers if found.state is State.INTACT]
    counts = [sum(each.kind is Kind.SIGNATURE for each in found) for found in intact]
    total = sum(counts)
    signatures = f"{counted(total, 'signature')} in {counted(len(counts), 'file')}"
    says = f"{signatures} {'is' if total == 1 else 'are'} intact"
    if any(found.left_out for _, found in answers):
        says = f"At least {says}"
    trusted = any(found.anchors is not None for _, found in answers)
    return f"{says}, and their signers are trusted." if trusted else f"{says}."

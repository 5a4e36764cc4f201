"""Deleting needs a proof, and a proof needs everything."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import counterfoil
from counterfoil.esaw import HttpStatusError, ResponseInvalid
from counterfoil.esaw.delete_with_proof import ProofOfArchive, delete
from counterfoil.esaw.errors import NotProven
from counterfoil.esaw.models import EnvelopeFile
from counterfoil.resources import (
    ArchiveLocation,
    Condition,
    EnvelopeEventStatus,
    EnvelopeSummary,
    EvidenceSpec,
    FiledDocument,
    FileKind,
    LocalObjectReference,
    Phase,
)
from counterfoil.resources.envelopeevent import Provisional, SentContent
from counterfoil.resources.organization import AuditTrailPolicy
from tests.support.servers.scripted_esaw import ENVELOPE, against, answering, head, sending

LONGER = SentContent(size=1001, sha256="f" * 64)
ARCHIVED_AT = datetime(2026, 7, 2, 11, tzinfo=UTC)
NO_AUDIT_TRAIL = EvidenceSpec(audit_trail=AuditTrailPolicy.OPTIONAL)


def archived(status: Any = "True", type_: str = "Archived") -> Condition:
    return Condition(
        type=type_,
        status=status,
        reason="FilesVerified",
        message="All there.",
        last_transition_time=ARCHIVED_AT,
    )


def in_doubt(reason: str) -> Condition:
    return msgspec.structs.replace(archived("False", "SignaturesChecked"), reason=reason)


def a_file(number: int = 1, **changes: Any) -> FiledDocument:
    file = FiledDocument(
        file_id=f"f{number}",
        kind=FileKind.DOCUMENT,
        file_name="contract.pdf",
        size=1000,
        sha256="0123456789abcdef" * 4,
        location=f"s3://contracts/{number}.pdf",
    )
    return msgspec.structs.replace(file, **changes)


def a_status(**changes: Any) -> EnvelopeEventStatus:
    status = EnvelopeEventStatus(
        phase=Phase.CLEANING,
        conditions=(archived("True", "Validated"), archived()),
        documents=(a_file(1), a_file(2)),
        archive=ArchiveLocation(
            ref=LocalObjectReference(name="dms"), manifest="s3://contracts/counterfoil.json"
        ),
    )
    return msgspec.structs.replace(status, **changes)


def listed(documents: Iterable[FiledDocument]) -> list[EnvelopeFile]:
    return [
        EnvelopeFile(file_id=each.file_id, kind=each.kind, file_name=each.file_name) for each in documents
    ]


def prove(
    status: EnvelopeEventStatus,
    resource_version: str = "4711",
    *,
    envelope: str = ENVELOPE,
    files: Iterable[FiledDocument] | None = None,
    verified: tuple[FiledDocument, ...] | None = None,
    evidence: EvidenceSpec = NO_AUDIT_TRAIL,
) -> ProofOfArchive:
    """Prove it about the files of the status, unless eSAW lists others."""
    return ProofOfArchive.from_status(
        envelope,
        status,
        resource_version,
        listed=listed(status.documents if files is None else files),
        verified=status.documents if verified is None else verified,
        evidence=evidence,
        copies=(),
        verified_copies={},
    )


def a_proof() -> ProofOfArchive:
    return prove(a_status())


def test_a_proof_names_the_location_of_the_manifest_and_the_stored_status() -> None:
    proof = prove(a_status(), envelope=ENVELOPE.upper())
    assert (proof.envelope_id, proof.manifest) == (ENVELOPE, "s3://contracts/counterfoil.json")
    assert (proof.archived_at, proof.resource_version) == (ARCHIVED_AT, "4711")


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"conditions": ()}, "condition Archived"),
        ({"conditions": (archived("False"),)}, "condition Archived"),
        ({"conditions": (archived("Unknown"),)}, "condition Archived"),
        ({"conditions": (archived("True", "Collected"),)}, "condition Archived"),
        ({"archive": None}, "manifest"),
        ({"archive": ArchiveLocation(ref=LocalObjectReference(name="dms"))}, "manifest"),
        ({"archive": ArchiveLocation(ref=LocalObjectReference(name="dms"), manifest="")}, "manifest"),
        ({"documents": ()}, "no files"),
        ({"documents": (a_file(1), a_file(2, sha256=None))}, "SHA-256"),
        ({"documents": (a_file(1, sha256=""),)}, "SHA-256"),
        ({"documents": (a_file(1, sha256="A" * 64),)}, "SHA-256"),
        ({"documents": (a_file(1, sha256="a" * 63),)}, "SHA-256"),
        ({"documents": (a_file(1, size=None),)}, "size"),
        ({"documents": (a_file(1, size=-1),)}, "size"),
        ({"documents": (a_file(1, location=None),)}, "location"),
        ({"documents": (a_file(1, location=""),)}, "location"),
        ({"documents": (a_file(1), a_file(2, location="discarded:2.pdf"))}, "keeps no files"),
        ({"documents": (a_file(1), a_file(2, other_content=LONGER))}, "sent other content"),
        (
            {"archive": ArchiveLocation(ref=LocalObjectReference(name="dms"), manifest="discarded:m.json")},
            "keeps no files",
        ),
        ({"documents": (a_file(1), a_file(2, location="s3://contracts/1.pdf"))}, "same location"),
        ({"conditions": (archived(), in_doubt("SignatureBroken"))}, "unreadable or has a broken signature"),
        (
            {"documents": (a_file(1), a_file(2, provisional=Provisional.IN_DOUBT))},
            "unreadable or has a broken signature",
        ),
        ({"documents": (a_file(1), a_file(2, provisional=Provisional.NO_MANIFEST))}, "no manifest names"),
    ],
)
def test_a_status_with_a_gap_proves_nothing_and_the_gap_is_named(
    changes: dict[str, Any], missing: str
) -> None:
    with pytest.raises(NotProven, match=missing):
        prove(a_status(**changes))


@pytest.mark.parametrize(
    "files",
    [
        (),
        (a_file(1),),
        (a_file(1), a_file(2), a_file(3)),
        (a_file(1), a_file(3)),
        (a_file(1), a_file(2, kind=FileKind.ATTACHMENT)),
    ],
)
def test_nothing_is_proven_about_files_that_esaw_lists_and_the_status_does_not(
    files: tuple[FiledDocument, ...],
) -> None:
    with pytest.raises(NotProven, match="lists other files"):
        prove(a_status(), files=files)


@pytest.mark.parametrize("verified", [(), (a_file(1),), (a_file(1), a_file(2, sha256="0" * 64))])
def test_nothing_is_proven_that_was_not_verified_in_this_run(verified: tuple[FiledDocument, ...]) -> None:
    with pytest.raises(NotProven, match="in this run"):
        prove(a_status(), verified=verified)


@pytest.mark.parametrize("status", ["Completed", "", "Rejected", "Expired", "Canceled"])
def test_only_a_completed_envelope_needs_its_audit_trail(status: str) -> None:
    archived_as = a_status(envelope=EnvelopeSummary(status=status))
    if status in ("Rejected", "Expired", "Canceled"):
        prove(archived_as, evidence=EvidenceSpec())
        return
    with pytest.raises(NotProven, match="audit trail"):
        prove(archived_as, evidence=EvidenceSpec())
    trail = a_file(3, kind=FileKind.AUDIT_TRAIL)
    prove(msgspec.structs.replace(archived_as, documents=(a_file(), trail)), evidence=EvidenceSpec())


@pytest.mark.parametrize("numbers", [(1, 3), (2, 3), (2, None)])
def test_a_list_with_a_gap_in_the_numbers_of_its_documents_proves_nothing(
    numbers: tuple[int, int | None],
) -> None:
    status = a_status()
    files = [
        msgspec.structs.replace(file, document_number=number)
        for file, number in zip(listed(status.documents), numbers, strict=True)
    ]
    with pytest.raises(NotProven, match="a document is missing"):
        ProofOfArchive.from_status(
            ENVELOPE,
            status,
            "4711",
            listed=files,
            verified=status.documents,
            evidence=NO_AUDIT_TRAIL,
            copies=(),
            verified_copies={},
        )


@pytest.mark.parametrize("status", ["Completed", "", "Rejected"])
def test_only_a_completed_envelope_needs_a_document(status: str) -> None:
    trail = a_file(kind=FileKind.AUDIT_TRAIL)
    archived_as = a_status(envelope=EnvelopeSummary(status=status), documents=(trail,))
    if status == "Rejected":
        prove(archived_as)
        return
    with pytest.raises(NotProven, match="a document is missing"):
        prove(archived_as)


@pytest.mark.parametrize("reason", ["DocumentsMissing", "AuditTrailMissing"])
def test_evidence_that_was_missing_when_the_files_were_archived_proves_nothing(reason: str) -> None:
    incomplete = msgspec.structs.replace(archived("False", "EvidenceComplete"), reason=reason)
    trail = a_file(3, kind=FileKind.AUDIT_TRAIL)
    with pytest.raises(NotProven, match="is missing"):
        prove(
            a_status(conditions=(archived(), incomplete), documents=(a_file(), trail)),
            evidence=EvidenceSpec(),
        )


def test_an_empty_file_is_proven_as_well() -> None:
    prove(a_status(documents=(a_file(size=0),)))


@pytest.mark.parametrize("reason", ["NoSignatures", "SignerUntrusted"])
def test_a_document_without_trusted_signatures_is_no_document_in_doubt(reason: str) -> None:
    conditions = (archived(), in_doubt(reason))
    prove(a_status(conditions=conditions))


def test_a_status_that_was_never_stored_proves_nothing() -> None:
    with pytest.raises(NotProven, match="not persisted"):
        prove(a_status(), "")


def test_a_proof_is_for_an_envelope_with_a_proper_id() -> None:
    with pytest.raises(ValueError, match="GUID"):
        prove(a_status(), envelope="not a guid")


def test_a_proof_can_not_be_put_together_by_hand() -> None:
    with pytest.raises(NotProven):
        ProofOfArchive(a_proof().envelope_id, "s3://x", ARCHIVED_AT, "4711", object())


files = st.builds(
    FiledDocument,
    file_id=st.text(min_size=1, max_size=3),
    kind=st.sampled_from(FileKind),
    file_name=st.text(max_size=3),
    size=st.none() | st.integers(min_value=-1, max_value=5),
    sha256=st.sampled_from([None, "", "0" * 64, "f" * 64, "0" * 63, "G" * 64]),
    location=st.sampled_from([None, "", "a", "b", "c", "d"]),
)
good_files = st.integers(min_value=0, max_value=9).map(a_file)
statuses = st.builds(
    EnvelopeEventStatus,
    phase=st.sampled_from(Phase),
    conditions=st.lists(
        st.builds(
            archived,
            status=st.sampled_from(["True", "True", "False", "Unknown"]),
            type_=st.sampled_from(["Archived", "Archived", "Collected"]),
        ),
        max_size=2,
        unique_by=lambda each: each.type,
    ).map(tuple),
    documents=(st.lists(files, max_size=3) | st.lists(good_files, max_size=3)).map(tuple),
    archive=st.none()
    | st.builds(
        ArchiveLocation,
        ref=st.just(LocalObjectReference(name="dms")),
        manifest=st.sampled_from([None, "", "file:///m", "s3://m"]),
    ),
)


def is_all_there(status: EnvelopeEventStatus) -> bool:
    """Rule 4, as a second implementation."""
    locations = [each.location for each in status.documents]
    return (
        any(each.type == "Archived" and each.status == "True" for each in status.conditions)
        and status.archive is not None
        and status.archive.manifest not in {None, ""}
        and any(each.kind is FileKind.DOCUMENT for each in status.documents)
        and len(set(locations)) == len(locations)
        and None not in locations
        and "" not in locations
        and all(each.sha256 in {"0" * 64, "f" * 64, a_file().sha256} for each in status.documents)
        and all(each.size is not None and each.size > -1 for each in status.documents)
    )


@given(status=statuses, resource_version=st.sampled_from(["", "1", "4711"]))
def test_there_is_a_proof_exactly_when_all_is_there(
    status: EnvelopeEventStatus, resource_version: str
) -> None:
    try:
        prove(status, resource_version)
    except NotProven:
        proven = False
    else:
        proven = True
    assert proven == (is_all_there(status) and resource_version != "")


async def test_deleting_is_one_post_that_names_the_envelope() -> None:
    async with against(answering(b"")) as setup:
        await delete(setup.user, a_proof())
    request = setup.server.received[0]
    assert (request.method, request.target) == ("POST", "/Api/v6/envelope/delete")
    assert json.loads(request.body) == {"EnvelopeId": ENVELOPE}
    assert len(setup.server.received) == 1
    assert setup.observer.codes == [("delete", "200")]


async def test_a_success_without_content_may_name_a_transfer_encoding() -> None:
    async with against(sending(head(204, transfer_encoding="chunked"))) as setup:
        await delete(setup.user, a_proof())


@pytest.mark.parametrize("body", [b"", b" \r\n", b"{}", b"null", b"true", b'{"EnvelopeId":"x"}'])
async def test_further_fields_of_esaw_do_not_matter(body: bytes) -> None:
    async with against(answering(body)) as setup:
        await delete(setup.user, a_proof())


@pytest.mark.parametrize(
    "body", [b'{"ErrorId":"ERR0001"}', b"<html>Sign in</html>", b"upstream error", b"\xff"]
)
async def test_a_status_of_success_with_anything_else_in_it_is_no_deletion(body: bytes) -> None:
    async with against(answering(body)) as bench:
        with pytest.raises(ResponseInvalid):
            await delete(bench.user, a_proof())


async def test_an_envelope_that_is_gone_already_is_reported_as_such() -> None:
    async with against(answering({"ErrorId": "ERR0007"}, 404)) as setup:
        with pytest.raises(HttpStatusError) as answered:
            await delete(setup.user, a_proof())
    assert (answered.value.status, answered.value.error_id) == (404, "ERR0007")


def test_no_other_module_knows_how_to_delete() -> None:
    root = Path(counterfoil.__file__).parent.parent
    knowing = [
        path.relative_to(root).as_posix()
        for package in ("counterfoil", "controller", "webhook")
        for path in sorted((root / package).rglob("*.py"))
        if "envelope/delete" in path.read_text(encoding="utf-8")
    ]
    assert knowing == ["counterfoil/esaw/delete_with_proof.py"]


def test_a_list_of_the_api_v5_proves_nothing() -> None:
    status = a_status(documents=(a_file(1), a_file(2, file_id="v5:file-2")))
    with pytest.raises(NotProven, match="only the API v5 lists the files"):
        prove(status)

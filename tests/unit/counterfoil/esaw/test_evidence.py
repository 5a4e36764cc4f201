"""The evidence that a manifest names for an envelope: what eSAW listed, what it did not, and why."""

from collections.abc import Sequence

import pytest

from counterfoil.archives.manifest import EvidenceState
from counterfoil.esaw.evidence import expected_evidence, missing_evidence
from counterfoil.esaw.models import EnvelopeFile
from counterfoil.resources import EvidenceSpec, FileKind
from counterfoil.resources.organization import AuditTrailPolicy

REQUIRED = EvidenceSpec()
OPTIONAL = EvidenceSpec(audit_trail=AuditTrailPolicy.OPTIONAL)


def a_document(number: int | None = 1, *, trail: str | None = None) -> EnvelopeFile:
    return EnvelopeFile(
        file_id=f"file-{number}",
        kind=FileKind.DOCUMENT,
        file_name="contract.pdf",
        document_number=number,
        audit_trail_id=trail,
    )


def a_trail(file_id: str = "trail-1") -> EnvelopeFile:
    return EnvelopeFile(file_id=file_id, kind=FileKind.AUDIT_TRAIL, file_name="audit-trail.pdf")


def described(status: str, listed: Sequence[EnvelopeFile], spec: EvidenceSpec) -> list[tuple[str, ...]]:
    return [
        (
            f"{piece.kind}{'' if piece.document_number is None else piece.document_number}",
            f"{'required ' if piece.required else ''}{piece.state}",
            piece.why,
        )
        for piece in expected_evidence(status, listed, spec)
    ]


NONE = "eSignAnyWhere listed none within spec.evidence.wait of the Organization."


@pytest.mark.parametrize(
    ("status", "listed", "spec", "expected"),
    [
        (
            "Completed",
            [a_document(), a_trail()],
            REQUIRED,
            [("Document", "required Present", ""), ("AuditTrail", "required Present", "")],
        ),
        (
            "Completed",
            [a_document()],
            REQUIRED,
            [("Document", "required Present", ""), ("AuditTrail", "required Absent", NONE)],
        ),
        (
            "Completed",
            [a_document()],
            OPTIONAL,
            [
                ("Document", "required Present", ""),
                ("AuditTrail", "Absent", "spec.evidence.auditTrail of the Organization is Optional."),
            ],
        ),
        (
            "Completed",
            [a_trail()],
            REQUIRED,
            [("Document", "required Absent", NONE), ("AuditTrail", "required Present", "")],
        ),
        (
            "Completed",
            [a_document(1), a_document(3), a_trail()],
            REQUIRED,
            [
                ("Document", "required Absent", "eSignAnyWhere listed 2 of them, and not every number."),
                ("AuditTrail", "required Present", ""),
            ],
        ),
        (
            "Completed",
            [a_document(1, trail="t-1"), a_document(2), a_trail("t-1")],
            REQUIRED,
            [
                ("Document", "required Present", ""),
                ("AuditTrail1", "required Present", ""),
                ("AuditTrail2", "required Absent", NONE),
            ],
        ),
        (
            "Completed",
            [a_document(1, trail="t-1"), a_document(2, trail="t-1"), a_trail("t-1")],
            REQUIRED,
            [
                ("Document", "required Present", ""),
                ("AuditTrail1", "required Present", ""),
                ("AuditTrail2", "required Absent", NONE),
            ],
        ),
        (
            "Rejected",
            [a_document()],
            REQUIRED,
            [
                ("Document", "Present", ""),
                ("AuditTrail", "Absent", "An envelope with the status Rejected may have none."),
            ],
        ),
    ],
    ids=[
        "whole",
        "no trail",
        "no trail and none required",
        "no document",
        "a document of three is not listed",
        "one of two separate trails",
        "two documents that name one trail",
        "rejected",
    ],
)
def test_each_piece_of_evidence_is_named_with_the_cause_of_its_absence(
    status: str, listed: Sequence[EnvelopeFile], spec: EvidenceSpec, expected: list[tuple[str, ...]]
) -> None:
    assert described(status, listed, spec) == expected
    absent_and_required = any(
        piece.required and piece.state is EvidenceState.ABSENT
        for piece in expected_evidence(status, listed, spec)
    )
    assert absent_and_required == (missing_evidence(status, listed, spec) is not None)

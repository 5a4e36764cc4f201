"""The report of a check that a user may send: its form, and that it says nothing else."""

from datetime import UTC, datetime

import msgspec
import pytest

from counterfoil.esaw_check.facts import FactId, profile_of, shareable
from counterfoil.resources.organization import CheckOutcome, OrganizationCheck, OrganizationCheckResult

TIME = datetime(2026, 7, 2, 10, 0, tzinfo=UTC)


def a_check(*lines: OrganizationCheckResult, version: str | None = "25.4.0.21") -> OrganizationCheck:
    return OrganizationCheck(
        start_time=TIME, completion_time=TIME, version=version, by="anna@example.com", results=lines
    )


def a_line(id_: str, found: str | None) -> OrganizationCheckResult:
    return OrganizationCheckResult(
        id=id_,
        outcome=CheckOutcome.DEVIATES,
        found=found,
        message="https://esaw.acme.example says no to Anna",
        setting="spec.baseURL",
    )


def test_a_profile_has_the_form_that_its_reader_expects() -> None:
    report = profile_of(a_check(a_line("version-without-token", "401"), a_line("draft", None)))
    assert msgspec.json.decode(msgspec.json.encode(report)) == {
        "kind": "EsawProfile",
        "version": 1,
        "time": "2026-07-02T10:00:00Z",
        "esawVersion": "25.4.0.21",
        "facts": [
            {"id": "version-without-token", "outcome": "Deviates", "found": "401"},
            {"id": "draft", "outcome": "Deviates", "found": None},
        ],
    }


def test_nothing_leaves_that_a_fact_does_not_say() -> None:
    """A user who may write the status could store any text there."""
    texts = ("anna@example.com", "esaw.acme.example", "https://x.example", "x" * 66, "Anna Kofler", "a\n")
    lines = [a_line(fact, text) for fact in FactId for text in texts]
    report = msgspec.json.encode(profile_of(a_check(*lines, a_line("somebody", "anna"), version="of Anna")))
    for text in (*texts, "anna", "Anna", "acme", "example", "spec.baseURL"):
        assert text.encode() not in report


@pytest.mark.parametrize(
    ("fact", "found"),
    [
        ("base-url", "v6"),
        ("whoami-fields", "UserId,Email"),
        ("find-thirty-days", "50,truncated"),
        ("envelope-files", "Document=2,AuditTrail=1,LegalDocument=0"),
        ("download-headers", "application/octet-stream;chunked"),
        ("download-repeated", "equal"),
        ("token-endpoint", "invalid_grant"),
        ("unknown-envelope-body", "ERR0007"),
        ("unlisted-actions", "workstepFinished=12,other=1"),
    ],
)
def test_what_a_fact_may_say_is_kept(fact: str, found: str) -> None:
    assert shareable(fact, found) == found


@pytest.mark.parametrize(("fact", "found"), [("base-url", "v7"), ("base-url", None), ("nothing", "v6")])
def test_what_no_fact_says_is_left_out(fact: str, found: str | None) -> None:
    assert shareable(fact, found) is None

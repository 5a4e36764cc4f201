"""An envelope is deleted only after each required copy is proved, and read in this run."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from counterfoil.archives.proof import documents_digest, missing_copies
from counterfoil.esaw.delete_with_proof import ProofOfArchive
from counterfoil.esaw.errors import NotProven
from counterfoil.esaw.models import EnvelopeFile
from counterfoil.resources import (
    ArchiveLocation,
    Condition,
    EnvelopeEventStatus,
    EvidenceSpec,
    FiledDocument,
    FileKind,
    LocalObjectReference,
    Phase,
)
from counterfoil.resources.envelopeevent import EventCopy
from counterfoil.resources.organization import AuditTrailPolicy
from counterfoil.resources.routes import CopySpec
from tests.support.servers.scripted_esaw import ENVELOPE

NOW = datetime(2026, 7, 2, 11, tzinfo=UTC)
NO_AUDIT_TRAIL = EvidenceSpec(audit_trail=AuditTrailPolicy.OPTIONAL)
FILE = FiledDocument(
    file_id="f1",
    kind=FileKind.DOCUMENT,
    file_name="contract.pdf",
    size=1000,
    sha256="0123456789abcdef" * 4,
    location="s3://contracts/1.pdf",
)
DIGEST = documents_digest((FILE,)) or ""


def ref(name: str) -> LocalObjectReference:
    return LocalObjectReference(name=name)


def a_copy(name: str = "worm", **changes: Any) -> EventCopy:
    copy = EventCopy(
        ref=ref(name), manifest=f"s3://{name}/counterfoil.json", verified_time=NOW, documents=DIGEST
    )
    return replace(copy, **changes)


def wanted(name: str = "worm", *, required: bool = True) -> CopySpec:
    return CopySpec(archive_ref=ref(name), required=required)


def a_status(*copies: EventCopy, **changes: Any) -> EnvelopeEventStatus:
    archived = Condition("Archived", "True", "FilesVerified", "All there.", NOW)
    status = EnvelopeEventStatus(
        phase=Phase.CLEANING,
        conditions=(archived,),
        documents=(FILE,),
        archive=ArchiveLocation(ref=ref("dms"), manifest="s3://contracts/counterfoil.json"),
        copies=copies,
    )
    return replace(status, **changes)


def prove(status: EnvelopeEventStatus, *copies: CopySpec, verified: dict[str, str]) -> ProofOfArchive:
    files = [EnvelopeFile(file_id=each.file_id, kind=each.kind, file_name="") for each in status.documents]
    return ProofOfArchive.from_status(
        ENVELOPE,
        status,
        "4711",
        listed=files,
        verified=status.documents,
        evidence=NO_AUDIT_TRAIL,
        copies=copies,
        verified_copies=verified,
    )


def test_a_proved_copy_that_was_read_in_this_run_allows_the_delete() -> None:
    assert prove(a_status(a_copy()), wanted(), verified={"worm": DIGEST}).resource_version == "4711"


def test_an_optional_copy_that_is_missing_holds_no_delete() -> None:
    assert prove(a_status(), wanted(required=False), verified={})


OTHER_FILE = replace(FILE, sha256="f" * 64)

GAPS: dict[str, EnvelopeEventStatus] = {
    "no entry": a_status(),
    "an entry of another Archive": a_status(a_copy("other")),
    "no time of a verification": a_status(a_copy(verified_time=None)),
    "no manifest": a_status(a_copy(manifest=None)),
    "no list of files": a_status(a_copy(documents=None)),
    "the list of an earlier content": a_status(a_copy(), documents=(OTHER_FILE,)),
    "a file that came later": a_status(
        a_copy(), documents=(FILE, replace(FILE, file_id="f2", location="s3://contracts/2.pdf"))
    ),
    "the place of the original": a_status(a_copy(manifest="s3://contracts/counterfoil.json")),
    "an archive that keeps no files": a_status(a_copy(manifest="discarded:counterfoil.json")),
}


@pytest.mark.parametrize("gap", GAPS)
def test_a_required_copy_with_a_gap_holds_the_delete(gap: str) -> None:
    status = GAPS[gap]
    assert missing_copies(status, (wanted(),)) == ("worm",)
    digest = documents_digest(status.documents)
    with pytest.raises(NotProven, match="the copy in Archive/worm is not proved"):
        prove(status, wanted(), verified={"worm": digest or ""})


def test_the_archive_of_the_original_is_no_copy() -> None:
    with pytest.raises(NotProven, match="the copy in Archive/dms is not proved"):
        prove(a_status(a_copy("dms")), wanted("dms"), verified={"dms": DIGEST})


def test_two_copies_at_one_place_are_none() -> None:
    same = a_copy("second", manifest=a_copy().manifest)
    with pytest.raises(NotProven, match="is not proved"):
        prove(
            a_status(a_copy(), same), wanted(), wanted("second"), verified={"worm": DIGEST, "second": DIGEST}
        )


@pytest.mark.parametrize("verified", [{}, {"worm": "0" * 64}, {"other": DIGEST}])
def test_a_stored_proof_alone_holds_the_delete(verified: dict[str, str]) -> None:
    with pytest.raises(NotProven, match="was not verified in this run"):
        prove(a_status(a_copy()), wanted(), verified=verified)


entries = st.builds(
    a_copy,
    st.sampled_from(["worm", "vault", "dms"]),
    verified_time=st.sampled_from([NOW, None]),
    documents=st.sampled_from([DIGEST, "0" * 64, None]),
    manifest=st.sampled_from(
        ["s3://worm/m.json", "s3://vault/m.json", "s3://contracts/counterfoil.json", "discarded:m.json", None]
    ),
)


@given(
    stored=st.lists(entries, max_size=3, unique_by=lambda each: each.ref.name),
    copies=st.lists(
        st.builds(wanted, st.sampled_from(["worm", "vault"]), required=st.booleans()),
        max_size=2,
        unique_by=lambda each: each.archive_ref.name,
    ),
    verified=st.dictionaries(st.sampled_from(["worm", "vault"]), st.sampled_from([DIGEST, "0" * 64])),
)
def test_there_is_a_proof_exactly_if_each_required_copy_has_a_separate_place(
    stored: list[EventCopy], copies: list[CopySpec], verified: dict[str, str]
) -> None:
    by_name = {each.ref.name: each for each in stored}
    places = [by_name[each.archive_ref.name].manifest for each in copies if each.archive_ref.name in by_name]

    def is_proved(name: str) -> bool:
        entry = by_name.get(name)
        return (
            entry is not None
            and entry.verified_time is not None
            and entry.documents == DIGEST
            and entry.manifest in ("s3://worm/m.json", "s3://vault/m.json")
            and places.count(entry.manifest) == 1
            and verified.get(name) == DIGEST
        )

    expected = all(is_proved(each.archive_ref.name) for each in copies if each.required)
    try:
        prove(a_status(*stored), *copies, verified=verified)
    except NotProven:
        assert not expected
    else:
        assert expected

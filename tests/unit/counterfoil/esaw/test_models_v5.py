"""An answer of the API v5, read as one of v6."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from counterfoil.esaw.errors import FileIdMissing, V5ResponseInvalid
from counterfoil.esaw.models import EnvelopeFile
from counterfoil.esaw.models_v5 import V5EnvelopeResponse, covers, decode_v5, v5_document_id
from counterfoil.resources import EnvelopeStatus, FileKind
from tests.support.servers.scripted_esaw import ENVELOPE, TOKEN, against, an_envelope, answering, whole_file

ERR0063 = answering({"ErrorId": "ERR0063", "Message": "ERR0063", "TraceId": "t"}, 400)
PART = {
    "Status": "Completed",
    "LogDocumentId": "log",
    "LogXmlDocumentId": "log-xml",
    "FinishedDocuments": [
        {"FlowDocumentId": "second", "DocRefNumber": 2, "FileName": "b.pdf", "Attachments": None},
        {
            "FlowDocumentId": "first",
            "LogDocumentId": "first-log",
            "DocRefNumber": 1,
            "FileName": "a.pdf",
            "Attachments": [{"Name": "plan.png", "DocumentId": "plan"}],
        },
    ],
    "Steps": [
        {
            "Id": "s1",
            "Email": "a@example.com",
            "SignedDate": "2026-07-02T10:00:00",
            "DisclaimerDocuments": None,
        },
        {
            "Id": "s2",
            "Email": "b@example.com",
            "SignedDate": "2026-07-02T12:00:00Z",
            "DisclaimerDocuments": [{"DocumentId": "paper", "DisclaimerType": "DisposableDisclaimer"}],
        },
    ],
}


def an_answer(**changes: Any) -> dict[str, Any]:
    answer = {
        "Id": ENVELOPE,
        "Status": "Completed",
        "SendDate": "2026-07-02T09:00:00Z",
        "Bulks": [PART],
        "BasicOptions": {"Name": "Lease", "MetaDataXml": "<meta/>", "CallbackUrl": "https://x/?token=s"},
    }
    return {**answer, **changes}


def read(**changes: Any) -> V5EnvelopeResponse:
    return decode_v5("envelope_v5", json.dumps(an_answer(**changes)).encode())


@pytest.mark.parametrize(
    ("v5", "v6"),
    [
        ("Started", EnvelopeStatus.ACTIVE),
        ("InProgress", EnvelopeStatus.ACTIVE),
        ("Completed", EnvelopeStatus.COMPLETED),
        ("CompletedWithWarnings", EnvelopeStatus.COMPLETED),
        ("Canceled", EnvelopeStatus.CANCELED),
        ("Expired", EnvelopeStatus.EXPIRED),
        ("Rejected", EnvelopeStatus.REJECTED),
    ],
)
def test_each_status_of_a_sent_envelope_is_one_of_v6(v5: str, v6: EnvelopeStatus) -> None:
    assert read(Status=v5).status is v6


@pytest.mark.parametrize(
    "status",
    ["Draft", "Template", "BulkCompleted", "BulkPartlyCompleted", "completed", "", None, "<b>", "x" * 41],
)
def test_any_other_status_is_none(status: str | None) -> None:
    with pytest.raises(V5ResponseInvalid, match="Status is") as refused:
        read(Status=status)
    assert "<b>" not in str(refused.value)


def test_name_time_and_metadata_are_those_of_v5() -> None:
    envelope = read()
    assert (envelope.name, envelope.metadata) == ("Lease", "<meta/>")
    assert envelope.sent_date == datetime(2026, 7, 2, 9, tzinfo=UTC)
    assert envelope.finished_date == datetime(2026, 7, 2, 12, tzinfo=UTC)
    assert "token" not in repr(envelope)


@pytest.mark.parametrize("options", [None, {}, {"Name": None, "MetaDataXml": None}])
def test_options_may_be_absent(options: dict[str, Any] | None) -> None:
    envelope = read(BasicOptions=options)
    assert (envelope.name, envelope.metadata) == ("", None)


def test_every_file_is_listed_once_with_its_kind_and_an_id_that_names_the_api() -> None:
    listed = [(each.file_id, each.kind, each.file_name) for each in read().listed().files()]
    assert listed == [
        ("v5:first", FileKind.DOCUMENT, "a.pdf"),
        ("v5:second", FileKind.DOCUMENT, "b.pdf"),
        ("v5:plan", FileKind.ATTACHMENT, "plan.png"),
        ("v5:first-log", FileKind.AUDIT_TRAIL, "a.audit-trail.pdf"),
        ("v5:log", FileKind.AUDIT_TRAIL, "audit-trail.pdf"),
        ("v5:log-xml", FileKind.AUDIT_TRAIL_XML, "audit-trail.xml"),
        ("v5:paper", FileKind.LEGAL_DOCUMENT, "DisposableDisclaimer.pdf"),
    ]
    paper = read().listed().files()[-1]
    assert (paper.email, paper.activity_id) == ("b@example.com", "s2")
    assert [v5_document_id(each) for each in ("v5:first", "first")] == ["first", None]


@pytest.mark.parametrize(
    "part",
    [
        {"FinishedDocuments": [{"FlowDocumentId": None, "FileName": "a.pdf"}]},
        {"FinishedDocuments": [{"FlowDocumentId": "d", "Attachments": [{"Name": "plan.png"}]}]},
        {"Steps": [{"DisclaimerDocuments": [{"DisclaimerType": "DisposableDisclaimer"}]}]},
        {"FinishedDocuments": [{"FlowDocumentId": "d\n"}]},
    ],
)
def test_a_file_without_a_usable_id_is_never_left_out(part: dict[str, Any]) -> None:
    with pytest.raises(FileIdMissing):
        read(Bulks=[part]).listed().files()


@pytest.mark.parametrize("bulks", [None, [], [PART, PART]])
def test_a_bulk_is_no_envelope(bulks: list[Any] | None) -> None:
    envelope = read(Bulks=bulks)
    with pytest.raises(V5ResponseInvalid, match="envelopes, not one"):
        envelope.listed()


def a_list(*kinds: FileKind) -> tuple[EnvelopeFile, ...]:
    return tuple(
        EnvelopeFile(file_id=str(number), kind=kind, file_name="") for number, kind in enumerate(kinds)
    )


@pytest.mark.parametrize(
    ("listed", "others", "covered"),
    [
        ((), (), True),
        ((FileKind.DOCUMENT,), (), True),
        ((FileKind.DOCUMENT,), (FileKind.DOCUMENT,), True),
        ((FileKind.DOCUMENT, FileKind.AUDIT_TRAIL), (FileKind.DOCUMENT,), True),
        ((FileKind.DOCUMENT,), (FileKind.DOCUMENT, FileKind.AUDIT_TRAIL), False),
        ((FileKind.DOCUMENT, FileKind.DOCUMENT), (FileKind.DOCUMENT, FileKind.ATTACHMENT), False),
    ],
)
def test_a_list_covers_another_one_with_as_many_files_of_each_kind(
    listed: tuple[FileKind, ...], others: tuple[FileKind, ...], covered: bool
) -> None:
    assert covers(a_list(*listed), a_list(*others)) is covered


# The calls


async def test_what_v6_refuses_with_err0063_is_read_from_v5_with_its_own_header() -> None:
    async with against(ERR0063, answering(an_answer())) as setup:
        assert (await setup.user.envelope(ENVELOPE)).status is EnvelopeStatus.COMPLETED
    v6, v5 = setup.server.received
    assert (v6.target, v5.target) == (f"/Api/v6/envelope/{ENVELOPE}", f"/Api/v5/envelope/{ENVELOPE}")
    assert [name for name, value in v5.headers.items() if TOKEN in value] == ["apitoken"]
    assert setup.observer.codes == [("envelope", "400"), ("envelope_v5", "200")]


async def test_every_fact_of_an_envelope_comes_from_v5_where_v6_has_none() -> None:
    async with against(ERR0063, answering(an_answer()), *[ERR0063, answering(an_answer())] * 2) as setup:
        assert len((await setup.user.files(ENVELOPE)).files()) == 7
        assert (await setup.user.configuration(ENVELOPE)).metadata == "<meta/>"
        assert (await setup.user.envelope(ENVELOPE)).finished_date == datetime(2026, 7, 2, 12, tzinfo=UTC)


async def test_an_envelope_that_v6_reads_is_not_asked_of_v5() -> None:
    async with against(answering(an_envelope())) as setup:
        await setup.user.envelope(ENVELOPE)
    assert len(setup.server.received) == 1


async def test_a_file_that_v5_listed_is_downloaded_from_v5() -> None:
    async with against(answering(b"%PDF-", Content_Disposition="attachment")) as setup:
        assert await whole_file(setup.user, "v5:a/../b") == b"%PDF-"
    assert setup.server.received[0].target == "/Api/v5/envelope/downloadCompletedDocument/a%2F..%2Fb"

"""Values that are read from eSAW's answers, and values that are refused."""

import contextlib
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.esaw import EnvelopeResponse, FilesResponse, HistoryResponse, ResponseInvalid, WhoAmI
from counterfoil.esaw.models import (
    ConfigurationResponse,
    FindResponse,
    HistoryEventsResponse,
    decode,
    decode_envelope,
    parse_error,
    parse_version,
)
from counterfoil.resources import EnvelopeStatus, FileKind
from tests.support.servers.scripted_esaw import ENVELOPE, an_envelope


def an_answer(kind: type[Any], raw: Any) -> Any:
    return decode(kind, "test", msgspec.json.encode(raw))


def a_document(
    number: int | None, name: str | None, *attachments: str, trail: str | None = None
) -> dict[str, Any]:
    return {
        "FileId": f"d{number}",
        "FileName": name,
        "AuditTrailFileId": trail,
        "Attachments": [{"FileId": each, "FileName": f"{each}.png"} for each in attachments],
        "PageCount": 3,
        "DocumentNumber": number,
    }


def some_files(**changes: Any) -> dict[str, Any]:
    answer = {
        "Documents": [
            a_document(2, "Übertrag.v2.pdf", "a3", trail="t2"),
            a_document(1, "contract.pdf", "a1", "a2", trail="t1"),
        ],
        "AuditTrail": {"FileId": "tp", "XmlFileId": "tx"},
        "LegalDocuments": [
            {"FileId": "l1", "FileName": "CA22D.pdf", "ActivityId": "act1", "Email": "s@example.com"}
        ],
    }
    return {**answer, **changes}


def test_an_envelope_is_read_without_its_unneeded_fields() -> None:
    envelope = an_answer(EnvelopeResponse, an_envelope(SomethingNew={"a": 1}))
    assert envelope.id == ENVELOPE
    assert envelope.status is EnvelopeStatus.COMPLETED
    assert envelope.name == "Lease"
    assert envelope.sent_date == datetime(2026, 7, 2, 10, tzinfo=UTC)
    assert envelope.sender.email == "sender@example.com"


@pytest.mark.parametrize("nothing", [None, ...])
def test_an_envelope_needs_only_its_id_and_status(nothing: Any) -> None:
    bare = an_envelope(Name=nothing, SentDate=nothing, SenderUserInformation=nothing)
    envelope = an_answer(EnvelopeResponse, bare)
    assert (envelope.name, envelope.sent_date, envelope.sender) == ("", None, None)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2026-07-02T10:00:00.1234567Z", datetime(2026, 7, 2, 10, 0, 0, 123456, tzinfo=UTC)),
        ("2026-07-02T12:00:00+02:00", datetime(2026, 7, 2, 10, tzinfo=UTC)),
        ("2026-07-02T10:00:00", datetime(2026, 7, 2, 10, tzinfo=UTC)),
        ("yesterday", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("9999-12-31T23:59:59-14:00", None),
        ("", None),
    ],
)
def test_a_time_that_is_odd_keeps_no_envelope_from_being_archived(
    written: str, meant: datetime | None
) -> None:
    assert an_answer(EnvelopeResponse, an_envelope(SentDate=written)).sent_date == meant


@pytest.mark.parametrize(
    ("kind", "raw", "named"),
    [
        (EnvelopeResponse, an_envelope(Id=...), "`Id`"),
        (EnvelopeResponse, an_envelope(Id=None), r"\$\.Id"),
        (EnvelopeResponse, an_envelope(EnvelopeStatus=...), "`EnvelopeStatus`"),
        (EnvelopeResponse, an_envelope(EnvelopeStatus="Archived"), r"'Archived' - at `\$\.EnvelopeStatus`"),
        (EnvelopeResponse, an_envelope(EnvelopeStatus=3), r"\$\.EnvelopeStatus"),
        (EnvelopeResponse, an_envelope(SenderUserInformation=[]), r"\$\.SenderUserInformation"),
        (EnvelopeResponse, [], "object"),
        (EnvelopeResponse, None, "null"),
        (WhoAmI, {"Email": "a@example.com"}, "`UserId`"),
        (FilesResponse, {"Documents": [{"FileId": 3}]}, r"\$\.Documents\[0\]\.FileId"),
    ],
)
def test_an_answer_of_the_wrong_shape_is_unreadable_and_the_field_is_named(
    kind: type[Any], raw: Any, named: str
) -> None:
    with pytest.raises(ResponseInvalid, match=named):
        an_answer(kind, raw)


@pytest.mark.parametrize("value", ["x" * 41, "a b", "<b>", "\n", "' - at `$.Id`"])
def test_a_status_that_is_no_plain_word_is_not_repeated(value: str) -> None:
    with pytest.raises(ResponseInvalid, match=r"\(no plain word\) - at `\$\.EnvelopeStatus`") as unreadable:
        an_answer(EnvelopeResponse, an_envelope(EnvelopeStatus=value))
    assert value not in str(unreadable.value).replace(" - at `$.EnvelopeStatus`", "")


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"", "it is empty"),
        (b" \r\n", "it is empty"),
        (b"<!DOCTYPE html><p>Log in", "it is HTML"),
        (b"\n <html>", "it is HTML"),
        (b'{"Id": ', "it is no JSON"),
        (b"\x00\xff\xfe", "it is no JSON"),
        (b'{"Id": "\xff"}', "it is no JSON"),
        (b'{"Other": ' + b"[" * 100_000, "it is no JSON"),
    ],
)
def test_what_is_no_json_is_unreadable_in_a_few_words(body: bytes, what: str) -> None:
    with pytest.raises(ResponseInvalid, match=what):
        decode(EnvelopeResponse, "envelope", body)


@given(st.binary() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(msgspec.json.encode))
def test_no_bytes_break_the_reading(body: bytes) -> None:
    for kind in (EnvelopeResponse, FilesResponse, HistoryResponse, WhoAmI, FindResponse):
        with contextlib.suppress(ResponseInvalid):
            decode(kind, "test", body)
    with contextlib.suppress(ResponseInvalid):
        parse_version(body)
    parse_error(body)


def test_files_come_in_one_order_documents_attachments_trails_legal_documents() -> None:
    files = an_answer(FilesResponse, some_files()).files()
    assert [(each.file_id, each.kind) for each in files] == [
        ("d1", FileKind.DOCUMENT),
        ("d2", FileKind.DOCUMENT),
        ("a1", FileKind.ATTACHMENT),
        ("a2", FileKind.ATTACHMENT),
        ("a3", FileKind.ATTACHMENT),
        ("t1", FileKind.AUDIT_TRAIL),
        ("t2", FileKind.AUDIT_TRAIL),
        ("tp", FileKind.AUDIT_TRAIL),
        ("tx", FileKind.AUDIT_TRAIL_XML),
        ("l1", FileKind.LEGAL_DOCUMENT),
    ]


def test_the_order_does_not_depend_on_how_esaw_lists_numbered_documents() -> None:
    listed = some_files()
    turned = {**listed, "Documents": listed["Documents"][::-1]}
    assert an_answer(FilesResponse, listed).files() == an_answer(FilesResponse, turned).files()


def test_documents_without_a_number_come_last_as_listed() -> None:
    documents = [
        {"FileId": "z"},
        {"FileId": "y", "DocumentNumber": 7},
        {"FileId": "x"},
    ]
    files = an_answer(FilesResponse, {"Documents": documents}).files()
    assert [each.file_id for each in files] == ["y", "z", "x"]


def test_audit_trails_get_names_since_esaw_gives_none() -> None:
    files = an_answer(FilesResponse, some_files()).files()
    assert {each.file_id: each.file_name for each in files if each.file_id.startswith("t")} == {
        "t1": "contract.audit-trail.pdf",
        "t2": "Übertrag.v2.audit-trail.pdf",
        "tp": "audit-trail.pdf",
        "tx": "audit-trail.xml",
    }


def test_a_legal_document_keeps_whose_it_is() -> None:
    paper = an_answer(FilesResponse, some_files()).files()[-1]
    assert (paper.file_name, paper.activity_id, paper.email) == ("CA22D.pdf", "act1", "s@example.com")


def test_two_documents_with_one_id_are_refused_since_only_one_of_them_could_be_archived() -> None:
    twice = some_files(Documents=[a_document(1, "a.pdf"), a_document(2, "b.pdf") | {"FileId": "d1"}])
    with pytest.raises(ResponseInvalid, match=r"the documents 1 and 2 have the same FileId"):
        an_answer(FilesResponse, twice).files()


@pytest.mark.parametrize("number", [1, None])
def test_two_documents_with_one_id_and_one_number_are_refused_as_well(number: int | None) -> None:
    listed = [{**a_document(1, name), "DocumentNumber": number} for name in ("contract.pdf", "annex.pdf")]
    with pytest.raises(ResponseInvalid, match=r"have the same FileId"):
        an_answer(FilesResponse, some_files(Documents=listed)).files()


def test_a_file_that_is_listed_twice_is_filed_once() -> None:
    twice = some_files(LegalDocuments=[{"FileId": "a1"}, {"FileId": "l1"}, {"FileId": "l1"}])
    files = an_answer(FilesResponse, twice).files()
    assert [each.file_id for each in files].count("a1") == 1
    assert [each.file_id for each in files].count("l1") == 1
    assert next(each for each in files if each.file_id == "a1").kind is FileKind.ATTACHMENT


@pytest.mark.parametrize(
    "raw",
    [
        {"Documents": None},
        {"LegalDocuments": None, "Other": 1},
        {"Documents": None, "AuditTrail": None, "LegalDocuments": None},
        {"Documents": [], "AuditTrail": {}, "LegalDocuments": []},
        {"AuditTrail": {"FileId": None, "XmlFileId": ""}},
    ],
)
def test_parts_that_are_absent_null_or_empty_are_no_files(raw: Any) -> None:
    assert an_answer(FilesResponse, raw).files() == ()


@pytest.mark.parametrize("kind", [FilesResponse, FindResponse, ConfigurationResponse])
@pytest.mark.parametrize("raw", [{}, {"status": "up"}, {"documents": []}, {"error": {"Envelopes": []}}])
def test_an_object_with_no_member_of_an_answer_is_no_empty_answer(kind: type[Any], raw: Any) -> None:
    with pytest.raises(ResponseInvalid, match="it has no part of a"):
        an_answer(kind, raw)


def test_a_document_may_come_without_a_name_and_attachments() -> None:
    bare = {
        "FileId": "d",
        "FileName": None,
        "Attachments": None,
        "AuditTrailFileId": "t",
        "DocumentNumber": None,
    }
    files = an_answer(FilesResponse, {"Documents": [bare]}).files()
    assert [(each.file_id, each.file_name) for each in files] == [
        ("d", ""),
        ("t", "document.audit-trail.pdf"),
    ]


@pytest.mark.parametrize("file_id", ["", ".", "..", "a\nb", "ü", "x" * 513])
def test_a_file_that_could_not_be_asked_for_is_never_left_out_silently(file_id: str) -> None:
    with pytest.raises(ResponseInvalid, match="FileId"):
        an_answer(FilesResponse, {"Documents": [{"FileId": "d1"}, {"FileId": file_id}]}).files()


@pytest.mark.parametrize(
    ("activities", "finished"),
    [
        ([{"FinishedDate": "2026-05-01T10:00:00Z"}, {"FinishedDate": "2026-05-02T10:00:00Z"}, {}], 2),
        ([{"FinishedDate": None}], None),
        ([{"FinishedDate": "soon"}], None),
        ([{"FinishedDate": 7}], None),
        ("none", None),
        (None, None),
        ([], None),
    ],
)
def test_when_an_envelope_was_finished_is_read_and_never_in_the_way(
    activities: object, finished: int | None
) -> None:
    body = msgspec.json.encode({"Id": ENVELOPE, "EnvelopeStatus": "Completed", "Activities": activities})
    found = decode(EnvelopeResponse, "envelope", body).finished_date
    assert found == (finished and datetime(2026, 5, finished, 10, tzinfo=UTC))


SIGN = {"Status": "Pending", "Action": {"Sign": {"SigningGroup": 1}, "View": None}}


@pytest.mark.parametrize(
    ("activities", "awaits"),
    [
        ([SIGN], True),
        ([{"FinishedDate": "2026-05-01T10:00:00Z", **SIGN, "Status": "Completed"}, SIGN], True),
        ([{"Status": "Pending", "Action": {"SignAsP7M": {}}}], True),
        ([{**SIGN, "Status": "Completed"}], False),
        ([{"Status": "Pending", "Action": {"Sign": None, "SendCopy": {}}}], False),
        ([{"Status": "Pending", "Action": {"SignAutomatic": {}}}], False),
        ([{"Status": "Pending", "Action": None}, {"Status": "Pending"}, {}], False),
        ([{"Status": "Pending", "Action": "Sign"}], False),
        ([SIGN, 7], False),
        ("none", False),
        (None, False),
        ([], False),
    ],
)
def test_whether_somebody_has_yet_to_sign_is_read_and_never_guessed(activities: object, awaits: bool) -> None:
    body = msgspec.json.encode({"Id": ENVELOPE, "EnvelopeStatus": "Active", "Activities": activities})
    assert decode(EnvelopeResponse, "envelope", body).awaits_signature is awaits
    kept = decode_envelope("envelope", body)
    assert kept.awaits_signature is awaits
    assert not kept.awaits_reader
    if awaits:
        assert kept.finished_date == decode(EnvelopeResponse, "envelope", body).finished_date


@pytest.mark.parametrize(
    ("activities", "awaits"),
    [
        ([{"Status": "Pending", "Action": {"View": {}}}], (False, True)),
        ([SIGN, {"Status": "Pending", "Action": {"View": {}}}], (True, True)),
        ([{"Status": "Completed", "Action": {"View": {}}}], (False, False)),
        ([{"Status": "Pending", "Action": {"View": None, "SendCopy": {}}}], (False, False)),
    ],
)
def test_whether_somebody_has_yet_to_read_is_kept_beside_whether_somebody_has_yet_to_sign(
    activities: object, awaits: tuple[bool, bool]
) -> None:
    body = msgspec.json.encode({"Id": ENVELOPE, "EnvelopeStatus": "Active", "Activities": activities})
    for found in (decode(EnvelopeResponse, "envelope", body), decode_envelope("envelope", body)):
        assert (found.awaits_signature, found.awaits_reader) == awaits


@pytest.mark.parametrize(
    ("events", "step"),
    [
        (None, None),
        ([], None),
        ([{"Type": "A", "IsInErrorState": False, "RemainingAttempts": 3}], None),
        ([{"Type": "A", "IsInErrorState": True, "Completed": True, "RemainingAttempts": 3}], None),
        ([{"IsInErrorState": True}], ("", None)),
        ([{"Type": "see https://x/callbacks/acme/token", "IsInErrorState": True}], ("", None)),
        ([{"Type": "A", "IsInErrorState": True}, {"Type": "B", "IsInErrorState": True}], ("B", None)),
        ([{"Type": "A", "IsInErrorState": True, "RemainingAttempts": 3}, {"Type": "B"}], ("A", 3)),
    ],
)
def test_the_last_step_in_an_error_state_is_found(
    events: list[dict[str, object]] | None, step: tuple[str, int | None] | None
) -> None:
    body = msgspec.json.encode({"Events": events, "EnvelopeHasBeenDeleted": False})
    found = decode(HistoryEventsResponse, "history", body).failed_step
    assert (found and (found.name, found.remaining_attempts)) == step


@pytest.mark.parametrize("left", [{"RemainingAttempts": 0}, {"RemainingAttempts": None}, {}])
def test_a_step_that_esaw_gave_up_is_in_an_error_state_although_it_is_completed(left: dict[str, Any]) -> None:
    given_up = {"Type": "EnvelopeCallback", "IsInErrorState": True, "Completed": True, **left}
    body = msgspec.json.encode({"Events": [given_up, {"Type": "B"}], "EnvelopeHasBeenDeleted": False})
    found = decode(HistoryEventsResponse, "history", body).failed_step
    assert (found and found.name) == "EnvelopeCallback"


def test_history_distinguishes_a_deleted_envelope_from_a_live_one() -> None:
    deleted = an_answer(
        HistoryResponse,
        {"Events": [], "EnvelopeHasBeenDeleted": True, "EnvelopeDeletionDate": "2026-07-02T10:00:00Z"},
    )
    alive = an_answer(HistoryResponse, {"Events": [{"Type": "Sent", "CreationDate": "2026-07-01T00:00:00Z"}]})
    assert deleted.has_been_deleted
    assert not alive.has_been_deleted


@pytest.mark.parametrize(
    ("raw", "metadata"),
    [({"MetaData": "<a/>"}, "<a/>"), ({"MetaData": None}, None), ({"Activities": []}, None)],
)
def test_metadata_is_read_out_of_the_configuration(raw: Any, metadata: str | None) -> None:
    assert an_answer(ConfigurationResponse, raw).metadata == metadata


def test_a_hit_with_a_status_that_only_find_knows_affects_no_other_hit() -> None:
    hits = an_answer(
        FindResponse,
        {
            "Envelopes": [
                {"Id": "1", "Status": "WaitingForOthers"},
                {"Id": "2", "Status": "Completed", "Name": "B", "MetaData": "m"},
            ]
        },
    ).envelopes
    assert [(each.id, each.status, each.name, each.metadata) for each in hits] == [
        ("1", None, "", None),
        ("2", EnvelopeStatus.COMPLETED, "B", "m"),
    ]


@pytest.mark.parametrize(
    "body",
    [
        b'"23.76.1"',
        b'{"Version": "23.76.1"}',
        b'{"Success": true, "Version": "23.76.1"}',
        b'{"productVersion": "23.76.1"}',
        b"23.76.1",
        b" 23.76.1\r\n",
    ],
)
def test_the_version_is_found_in_every_form(body: bytes) -> None:
    assert parse_version(body) == "23.76.1"


def test_a_version_that_looks_like_a_number_stays_as_it_was_written() -> None:
    assert parse_version(b"23.70") == "23.70"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"Version": 3}',
        b'"' + b"1" * 65 + b'"',
        b"\xff",
        b"OK",
        b'"healthy"',
        b'{"status": "UP"}',
        b'{"version": "unknown"}',
    ],
)
def test_what_holds_no_version_is_unreadable(body: bytes) -> None:
    with pytest.raises(ResponseInvalid, match="no version can be seen in it"):
        parse_version(body)


@pytest.mark.parametrize("body", [b"<html>23.76", b"\r\n<!DOCTYPE html>"])
def test_a_web_page_in_place_of_a_version_is_named(body: bytes) -> None:
    with pytest.raises(ResponseInvalid, match="it is HTML, not JSON"):
        parse_version(body)


@pytest.mark.parametrize(
    ("body", "read"),
    [
        (b'{"ErrorId":"ERR0007","Message":"ERR0007 - x","TraceId":"f35aad06-1"}', ("ERR0007", "f35aad06-1")),
        (b'{"ErrorId":"ERR0007","Message":"m","SupportId":"s1","ThrownException":null}', ("ERR0007", "s1")),
        (b'{"ErrorId":"ERROR-12345"}', ("ERROR-12345", None)),
        (b'{"ErrorId":"<script>","TraceId":"a b"}', (None, None)),
        (b'{"ErrorId":7}', (None, None)),
        (b"<html>", (None, None)),
        (b"", (None, None)),
        (b"\xff", (None, None)),
    ],
)
def test_an_error_is_read_as_far_as_it_goes(body: bytes, read: tuple[str | None, str | None]) -> None:
    assert parse_error(body) == read

"""Each line about one envelope, one draft and the callbacks: what is expected, what deviates."""

import dataclasses
from typing import Any

import pytest
from msgspec.structs import replace

from counterfoil.esaw.transport import RawResponse
from counterfoil.esaw_check import envelope_assumptions as envelopes
from counterfoil.esaw_check.responses import Answer
from counterfoil.resources import FileKind, Organization
from counterfoil.resources.organization import UnlistedAction
from tests.support.builders import NOON, an_organization
from tests.support.scenes.esaw_check import (
    AS_EXPECTED,
    COMPLETED,
    DEVIATES,
    NOT_ASKED,
    NOT_TESTABLE,
    OAUTH,
    OURS,
    REJECTED,
    TOKEN,
    an_organization_with_urls,
    bare,
    error,
    outcome,
    page,
    says,
)

Expected = tuple[Any, str | None]
ACTIVE = says({"EnvelopeStatus": "Active"})


def files(**parts: Any) -> RawResponse:
    """A list of files."""
    whole = {
        "Documents": [{"FileId": "d1", "FileName": "Anna's contract.pdf", "Attachments": []}],
        "AuditTrail": {"FileId": "t1", "XmlFileId": "x1"},
        "LegalDocuments": [],
    }
    return says({**whole, **parts})


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (COMPLETED, (AS_EXPECTED, "Completed")),
        (says({"EnvelopeStatus": "Archived"}), (DEVIATES, "Archived")),
        (says({"EnvelopeStatus": None}), (DEVIATES, "null")),
        (says({"Id": "1"}), (DEVIATES, "null")),
        (says({"status": "UP"}), (DEVIATES, None)),
        (error(400, "ERR0063"), (DEVIATES, None)),
        (error(404, "ERR0007"), (NOT_TESTABLE, None)),
        (bare(404), (DEVIATES, None)),
        (NOT_ASKED, (NOT_TESTABLE, None)),
    ],
)
def test_the_envelope_must_have_a_known_status(answer: Answer, expected: Expected) -> None:
    assert outcome(envelopes.envelope_status(answer)) == expected


NO_DOCUMENT = "Document=0,Attachment=0,AuditTrail=1,AuditTrailXml=1,LegalDocument=0"


@pytest.mark.parametrize(
    ("answer", "envelope", "expected"),
    [
        (
            files(LegalDocuments=[{"FileId": "l1"}]),
            COMPLETED,
            (AS_EXPECTED, "Document=1,Attachment=0,AuditTrail=1,AuditTrailXml=1,LegalDocument=1"),
        ),
        (files(Documents=[]), COMPLETED, (DEVIATES, NO_DOCUMENT)),
        (files(Documents=None), REJECTED, (DEVIATES, NO_DOCUMENT)),
        (files(Documents=[]), ACTIVE, (AS_EXPECTED, NO_DOCUMENT)),
        (says({"status": "UP"}), COMPLETED, (DEVIATES, None)),
        (page(), COMPLETED, (DEVIATES, None)),
        (NOT_ASKED, NOT_ASKED, (NOT_TESTABLE, None)),
    ],
)
def test_a_finished_envelope_must_list_a_document(
    answer: Answer, envelope: Answer, expected: Expected
) -> None:
    assert outcome(envelopes.envelope_files(answer, envelope)) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (files(), (AS_EXPECTED, "none")),
        (files(Documents=[{"FileId": None}, {}, {"FileId": "d"}]), (DEVIATES, "2")),
        (files(LegalDocuments=[{"FileId": "../x\n"}]), (DEVIATES, "1")),
        (files(Documents=[{"FileId": "d", "Attachments": [{"FileId": ""}]}]), (DEVIATES, "1")),
        (page(), (NOT_TESTABLE, None)),
    ],
)
def test_each_listed_file_must_have_an_id(answer: Answer, expected: Expected) -> None:
    assert outcome(envelopes.envelope_null_file_ids(answer)) == expected


@pytest.mark.parametrize(
    ("answer", "envelope", "expected"),
    [
        (files(), COMPLETED, (AS_EXPECTED, "present")),
        (
            files(AuditTrail=None, Documents=[{"FileId": "d", "AuditTrailFileId": "t"}]),
            COMPLETED,
            (AS_EXPECTED, "present"),
        ),
        (files(AuditTrail={"FileId": None, "XmlFileId": "x"}), COMPLETED, (DEVIATES, "absent")),
        (files(AuditTrail=None), COMPLETED, (DEVIATES, "absent")),
        (files(AuditTrail=None), REJECTED, (AS_EXPECTED, "absent")),
        (NOT_ASKED, COMPLETED, (NOT_TESTABLE, None)),
    ],
)
def test_a_completed_envelope_must_list_its_audit_trail(
    answer: Answer, envelope: Answer, expected: Expected
) -> None:
    assert outcome(envelopes.envelope_audit_trail(answer, envelope, an_organization_with_urls())) == expected


def test_an_organization_that_requires_no_audit_trail_gets_no_advice_to_do_so() -> None:
    optional = an_organization_with_urls(evidence={"auditTrail": "Optional"})
    answer = envelopes.envelope_audit_trail(files(AuditTrail=None), COMPLETED, optional)
    assert outcome(answer) == (AS_EXPECTED, "absent")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (says({"MetaData": "<a/>"}), (AS_EXPECTED, "present")),
        (says({"MetaData": None}), (AS_EXPECTED, "absent")),
        (says({"ShareWithTeam": True}), (AS_EXPECTED, "absent")),
        (says({"status": "UP"}), (DEVIATES, None)),
        (bare(500), (DEVIATES, None)),
        (NOT_ASKED, (NOT_TESTABLE, None)),
    ],
)
def test_the_configuration_must_have_metadata(answer: Answer, expected: Expected) -> None:
    assert outcome(envelopes.envelope_metadata(answer)) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (says({"Events": [], "EnvelopeHasBeenDeleted": False}), (AS_EXPECTED, "allowed")),
        (error(403, "ERR0010"), (DEVIATES, "forbidden")),
        (says({"Events": []}), (AS_EXPECTED, "allowed")),
        (says({"status": "UP"}), (DEVIATES, None)),
        (bare(404), (DEVIATES, None)),
        (NOT_ASKED, (NOT_TESTABLE, None)),
    ],
)
def test_the_history_must_be_readable(answer: Answer, expected: Expected) -> None:
    assert outcome(envelopes.envelope_history(answer)) == expected


PDF = b"%PDF-1.7 ..."


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (RawResponse(200, "application/pdf", 9, body=PDF), (AS_EXPECTED, "application/pdf;length")),
        (
            RawResponse(200, "Application/PDF; a=b", is_chunked=True, body=PDF),
            (AS_EXPECTED, "application/pdf;chunked"),
        ),
        (RawResponse(200, "", 9, body=PDF), (AS_EXPECTED, ";length")),
        (RawResponse(200, "anna@example.com", 9, body=PDF), (AS_EXPECTED, ";length")),
        (RawResponse(200, "application/pdf", body=PDF), (DEVIATES, None)),
        (RawResponse(200, "text/html", 9, body=b"<html>"), (DEVIATES, "text/html;length")),
        (error(404, "ERR0008"), (DEVIATES, None)),
        (NOT_ASKED, (NOT_TESTABLE, None)),
    ],
)
def test_a_download_must_be_a_file_whose_end_is_recognisable(answer: Answer, expected: Expected) -> None:
    assert outcome(envelopes.download_headers(answer, FileKind.DOCUMENT)) == expected


def test_an_attachment_may_begin_as_its_signer_likes() -> None:
    answer = RawResponse(200, "image/png", 9, body=b"\x89PNG")
    assert outcome(envelopes.download_headers(answer, FileKind.ATTACHMENT)) == (
        AS_EXPECTED,
        "image/png;length",
    )


OTHER_PDF = b"%PDF-1.7 ..!"
DOWNLOADED = RawResponse(200, "application/pdf", 9, body=PDF)


@pytest.mark.parametrize(
    ("first", "second", "envelope", "expected"),
    [
        (DOWNLOADED, DOWNLOADED, COMPLETED, (AS_EXPECTED, "equal")),
        (DOWNLOADED, DOWNLOADED, REJECTED, (AS_EXPECTED, "equal")),
        (DOWNLOADED, dataclasses.replace(DOWNLOADED, body=OTHER_PDF), COMPLETED, (DEVIATES, "different")),
        (DOWNLOADED, dataclasses.replace(DOWNLOADED, length=10), COMPLETED, (DEVIATES, "different")),
        (DOWNLOADED, dataclasses.replace(DOWNLOADED, length=None), COMPLETED, (AS_EXPECTED, "equal")),
        (DOWNLOADED, DOWNLOADED, ACTIVE, (NOT_TESTABLE, None)),
        (DOWNLOADED, DOWNLOADED, NOT_ASKED, (NOT_TESTABLE, None)),
        (DOWNLOADED, error(404, "ERR0008"), COMPLETED, (NOT_TESTABLE, None)),
        (bare(500), DOWNLOADED, COMPLETED, (NOT_TESTABLE, None)),
        (NOT_ASKED, NOT_ASKED, COMPLETED, (NOT_TESTABLE, None)),
    ],
)
def test_a_document_must_have_the_same_bytes_at_each_download(
    first: Answer, second: Answer, envelope: Answer, expected: Expected
) -> None:
    line = envelopes.download_repeated(first, second, FileKind.DOCUMENT, envelope)
    assert outcome(line) == expected


def test_of_a_long_document_the_beginning_is_compared() -> None:
    long = dataclasses.replace(DOWNLOADED, is_cut=True)
    line = envelopes.download_repeated(long, long, FileKind.DOCUMENT, COMPLETED)
    assert line.message == "The first 4 MiB of two downloads of a document are the same."


def test_an_audit_trail_may_be_made_again_at_each_download() -> None:
    other = dataclasses.replace(DOWNLOADED, body=OTHER_PDF)
    line = envelopes.download_repeated(DOWNLOADED, other, FileKind.AUDIT_TRAIL, COMPLETED)
    assert outcome(line) == (NOT_TESTABLE, None)


# -- The callbacks -------------------------------------------------------------------------------------------


def calling(url: str | None) -> RawResponse:
    """A configuration with this callback URL."""
    return says({"CallbackConfiguration": {"CallbackUrl": url, "StatusUpdateCallbackUrl": None}})


@pytest.mark.parametrize(
    ("configuration", "expected"),
    [
        (calling(OURS), (AS_EXPECTED, "equal")),
        (calling(OURS.replace("envelopeId", "ENVELOPEID")), (AS_EXPECTED, "equal")),
        (calling(OURS.replace("&action=##Action##", "&mine=1")), (AS_EXPECTED, "equal")),
        (calling(OURS.replace("hooks", "old")), (DEVIATES, "different")),
        (calling(OURS.replace("https", "http")), (DEVIATES, "different")),
        (calling(OURS.replace("example/", "example:8443/")), (DEVIATES, "different")),
        (calling(OURS.replace("acme", "other")), (DEVIATES, "different")),
        (calling(OURS.replace(TOKEN, "another-token-of-acme-xxxx")), (DEVIATES, "different")),
        (calling(OURS.replace("##EnvelopeId##", "##EnvelopeID##")), (DEVIATES, "different")),
        (calling("https://[your-host]/callbacks/acme/x"), (DEVIATES, "different")),
        (calling(None), (DEVIATES, "different")),
        (says({"MetaData": None}), (NOT_TESTABLE, None)),
        (NOT_ASKED, (NOT_TESTABLE, None)),
    ],
)
def test_esaw_must_call_our_url(configuration: Answer, expected: Expected) -> None:
    line = envelopes.callback_url([configuration], an_organization_with_urls())
    assert outcome(line) == expected
    assert "another-token" not in line.message
    assert TOKEN not in line.message


def test_in_the_release_s_own_namespace_esaw_may_call_the_path_with_the_namespace_too() -> None:
    organization = in_namespace(
        an_organization_with_urls(oauth=OAUTH, beforeSend={"fields": []}), "contracts"
    )
    long_form, other = (OURS.replace("/acme/", f"/{each}/acme/") for each in ("contracts", "sales"))
    redirect = (
        "https://sign.example/before-send/contracts/acme?draftId=##EnvelopeId##&userId=##SenderUserId##"
    )

    assert outcome(envelopes.callback_url([calling(long_form)], organization)) == (AS_EXPECTED, "equal")
    assert outcome(envelopes.callback_url([calling(other)], organization)) == (DEVIATES, "different")
    leading = says({"RedirectConfiguration": {"BeforeSendRedirectUrl": redirect}})
    assert outcome(envelopes.before_send_redirect(leading, organization)) == (AS_EXPECTED, "equal")


def in_namespace(organization: Organization, namespace: str) -> Organization:
    return replace(organization, metadata=replace(organization.metadata, namespace=namespace))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (OURS, (AS_EXPECTED, "ok")),
        ("https://hooks.example:1025/x", (AS_EXPECTED, "ok")),
        ("http://127.0.0.1:80/x", (AS_EXPECTED, "ok")),
        ("https://hooks.example:444/x", (DEVIATES, "444")),
        ("https://hooks.example:99999/x", (DEVIATES, "unknown")),
        ("http://hooks.example/x", (DEVIATES, "http")),
        ("ftp://hooks.example/x", (DEVIATES, "unknown")),
        ("https://[your-host]/x", (DEVIATES, "unknown")),
    ],
)
def test_esaw_calls_some_schemes_and_ports_only(url: str, expected: Expected) -> None:
    assert (
        outcome(envelopes.callback_port([NOT_ASKED, calling(url)], an_organization_with_urls())) == expected
    )


def test_without_a_shown_url_the_port_is_that_of_the_own_url() -> None:
    assert outcome(envelopes.callback_port([NOT_ASKED], an_organization_with_urls())) == (AS_EXPECTED, "ok")
    assert outcome(envelopes.callback_port([NOT_ASKED], an_organization())) == (NOT_TESTABLE, None)


def test_unlisted_actions_are_named_with_their_counts() -> None:
    seen = tuple(
        UnlistedAction(action=name, count=3, last_time=NOON) for name in ("workstepFinished", "other")
    )
    for spec, expected in (
        ({}, (DEVIATES, "workstepFinished=3,other=3")),
        ({"unlistedActions": "Archive"}, (AS_EXPECTED, "workstepFinished=3,other=3")),
    ):
        known = an_organization_with_urls(**spec)
        line = envelopes.unlisted_actions(replace(known, status=replace(known.status, unlisted_actions=seen)))
        assert outcome(line) == expected
    assert outcome(envelopes.unlisted_actions(an_organization_with_urls())) == (AS_EXPECTED, "none")


# -- The draft -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (says({"Id": "1", "Activities": [{"Action": {"Sign": {}}}]}), (AS_EXPECTED, "found")),
        (says({"Id": "1", "Activities": [{"Action": {"SignBulk": {}}}]}), (AS_EXPECTED, "bulk")),
        (error(404, "ERR0250"), (DEVIATES, "not-found")),
        (bare(404), (DEVIATES, None)),
        (says({"status": "UP"}), (DEVIATES, None)),
        (NOT_ASKED, (NOT_TESTABLE, None)),
    ],
)
def test_a_draft_is_there_or_is_a_bulk(answer: Answer, expected: Expected) -> None:
    assert outcome(envelopes.draft(answer)) == expected


def test_a_draft_whose_actions_name_a_bulk_as_null_is_no_bulk() -> None:
    action: dict[str, Any] = {
        "SendCopy": None,
        "SignBulk": None,
        "SignAutomatic": None,
        "Sign": {},
        "View": None,
    }
    answer = says({"Id": "1", "Activities": [{"Action": action}]})
    assert outcome(envelopes.draft(answer)) == (AS_EXPECTED, "found")


PAGE = "https://sign.example/before-send/acme"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (f"{PAGE}?draftId=##EnvelopeId##&userId=##SenderUserId##", (AS_EXPECTED, "equal")),
        (f"{PAGE}?draftId=##EnvelopeId##", (DEVIATES, "different")),
        ("https://sign.example/before-send/other?draftId=##EnvelopeId##", (DEVIATES, "different")),
        ("https://sign.example/before-send/acme", (DEVIATES, "different")),
        (None, (DEVIATES, "different")),
    ],
)
def test_esaw_must_lead_to_our_page_before_sending(url: str | None, expected: Expected) -> None:
    of = an_organization_with_urls(oauth=OAUTH, beforeSend={"fields": []})
    answer = says({"RedirectConfiguration": {"BeforeSendRedirectUrl": url}})
    assert outcome(envelopes.before_send_redirect(answer, of)) == expected


def test_a_redirect_before_sending_is_not_testable_where_none_is_shown_or_wanted() -> None:
    of = an_organization_with_urls(oauth=OAUTH, beforeSend={"fields": []})
    assert outcome(envelopes.before_send_redirect(says({"MetaData": ""}), of)) == (NOT_TESTABLE, None)
    answer = says({"RedirectConfiguration": {"BeforeSendRedirectUrl": "https://x.example"}})
    assert outcome(envelopes.before_send_redirect(answer, an_organization_with_urls())) == (
        NOT_TESTABLE,
        None,
    )

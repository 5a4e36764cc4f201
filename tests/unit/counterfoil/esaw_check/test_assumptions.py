"""Each line about any eSAW: which answer is expected, which deviates, and which says nothing."""

from typing import Any

import pytest

from counterfoil.esaw.transport import RawResponse
from counterfoil.esaw_check import assumptions
from counterfoil.esaw_check.assumptions import (
    TokenAnswer,
    envelope_statuses,
    find_one_day,
    hits,
    v5_envelopes,
)
from counterfoil.esaw_check.responses import SMALL_BYTES, Answer, NoAnswer, content, error_id, reduced
from counterfoil.resources.organization import (
    CheckOutcome,
    CleanupPolicy,
    ClientAuthentication,
    Pkce,
)
from tests.support.scenes.esaw_check import (
    AS_EXPECTED,
    DEVIATES,
    NOT_ASKED,
    NOT_TESTABLE,
    bare,
    error,
    outcome,
    page,
    says,
)

USER = "0f9c1c2e-4b1d-4c58-9a57-6d1f0a3b2c4d"
WHO = {"UserId": USER, "Email": "a@example.com", "GivenName": "A", "Surname": "B", "UserName": "a"}
FIELDS = "UserId,Email,GivenName,Surname,UserName"
UNREACHABLE = NoAnswer("No connection.", is_unreachable=True)


REDIRECT = RawResponse(302, redirect_origin="https://login.example")
VERSION = says({"Version": "25.4.0.21"})


# -- The address ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "answers", "older", "expected"),
    [
        ("https://a.example", [VERSION], {}, (AS_EXPECTED, "v6")),
        ("https://a.example", [bare(401), says(WHO)], {}, (AS_EXPECTED, "v6")),
        ("https://a.example", [error(401, "ERR0010")], {}, (AS_EXPECTED, "v6")),
        ("https://a.example/Api", [bare(404)], {}, (DEVIATES, "api-suffix")),
        ("https://a.example/api/v6", [page(404)], {}, (DEVIATES, "api-suffix")),
        ("https://a.example/Api", [VERSION], {}, (AS_EXPECTED, "v6")),
        ("https://a.example", [bare(404)], {"v5": VERSION}, (DEVIATES, "v5")),
        ("https://a.example", [bare(404)], {"v5": bare(404), "v4": VERSION}, (DEVIATES, "v4")),
        ("https://a.example", [bare(404)], {"v5": bare(404)}, (DEVIATES, "not-esaw")),
        ("https://a.example", [page()], {}, (DEVIATES, "not-esaw")),
        ("https://a.example", [says({"status": "UP"})], {}, (DEVIATES, "not-esaw")),
        ("https://a.example", [REDIRECT], {}, (DEVIATES, "redirect")),
        ("https://a.example", [bare(502)], {}, (DEVIATES, "502")),
        ("https://a.example", [UNREACHABLE], {}, (DEVIATES, "unreachable")),
        ("https://a.example", [NOT_ASKED], {}, (NOT_TESTABLE, None)),
        ("https://a.example", [bare(401)], {}, (NOT_TESTABLE, None)),
        ("https://a.example", [page(401)], {}, (NOT_TESTABLE, None)),
        ("https://a.example", [page(403), page(401)], {}, (NOT_TESTABLE, None)),
    ],
)
def test_the_base_url_is_right_only_if_the_api_v6_answers_there(
    url: str, answers: list[Answer], older: dict[str, Answer], expected: tuple[CheckOutcome, str | None]
) -> None:
    line = assumptions.base_url(url, answers, older)
    assert outcome(line) == expected
    assert (line.setting == "spec.baseURL") is (line.outcome is DEVIATES)


@pytest.mark.parametrize(
    ("answer", "without", "with_token"),
    [
        (VERSION, (AS_EXPECTED, "200"), (AS_EXPECTED, "200")),
        (says("25.4.0"), (AS_EXPECTED, "200"), (AS_EXPECTED, "200")),
        (bare(401), (AS_EXPECTED, "401"), (DEVIATES, "401")),
        (page(), (DEVIATES, "200"), (DEVIATES, "200")),
        (page(401), (DEVIATES, "401"), (DEVIATES, "401")),
        (says({"status": "OK"}), (DEVIATES, "200"), (DEVIATES, "200")),
        (bare(503), (DEVIATES, "503"), (DEVIATES, "503")),
        (UNREACHABLE, (NOT_TESTABLE, None), (NOT_TESTABLE, None)),
    ],
)
def test_the_version_may_need_a_token_and_must_be_one(
    answer: Answer, without: tuple[CheckOutcome, str | None], with_token: tuple[CheckOutcome, str | None]
) -> None:
    assert outcome(assumptions.version_without_token(answer)) == without
    assert outcome(assumptions.version_with_token(answer)) == with_token


# -- Tokens --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (says(WHO), (AS_EXPECTED, "accepted")),
        (bare(401), (DEVIATES, "rejected")),
        (error(401, "ERR0010"), (DEVIATES, "rejected")),
        (bare(403), (DEVIATES, "rejected")),
        (bare(500), (DEVIATES, None)),
        (page(), (DEVIATES, None)),
        (NOT_ASKED, (NOT_TESTABLE, None)),
    ],
)
def test_a_header_is_accepted_if_whoami_answers_to_it(
    answer: Answer, expected: tuple[CheckOutcome, str | None]
) -> None:
    assert outcome(assumptions.header_bearer(answer, bare(401))) == expected
    assert outcome(assumptions.header_api_token(answer, bare(401))) == expected


@pytest.mark.parametrize("answer", [bare(401), error(401, "ERR0010"), bare(403)])
def test_a_header_that_is_rejected_is_a_note_if_the_other_is_accepted(answer: Answer) -> None:
    for line in (
        assumptions.header_bearer(answer, says(WHO)),
        assumptions.header_api_token(answer, says(WHO)),
    ):
        assert outcome(line) == (AS_EXPECTED, "rejected")
        assert "uses the other header" in line.message


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (says(WHO), (AS_EXPECTED, FIELDS)),
        (says({**WHO, "UserId": USER.upper()}), (AS_EXPECTED, FIELDS)),
        (
            says({**WHO, "a b@c": 1, "Sid": None}),
            (AS_EXPECTED, f"{FIELDS},Sid"),
        ),
        (says({**WHO, "UserId": "somebody"}), (DEVIATES, FIELDS)),
        (says({"UserId": USER}), (DEVIATES, "UserId")),
        (says({"Email": "a@example.com"}), (DEVIATES, "Email")),
        (page(), (DEVIATES, None)),
        (NOT_ASKED, (NOT_TESTABLE, None)),
    ],
)
def test_whoami_must_be_about_the_senders_user_and_have_all_fields(
    answer: Answer, expected: tuple[CheckOutcome, str | None]
) -> None:
    assert outcome(assumptions.whoami_fields(answer, USER)) == expected


GRANT_TYPE = says({"error": "unsupported_grant_type"}, 400)
GRANT, CLIENT = says({"error": "invalid_grant"}, 400), says({"error": "invalid_client"}, 401)


@pytest.mark.parametrize(
    ("answers", "expected", "setting"),
    [
        ([GRANT], (AS_EXPECTED, "invalid_grant"), None),
        ([says({"error": "invalid_grant"})], (AS_EXPECTED, "invalid_grant"), None),
        ([CLIENT, GRANT], (DEVIATES, "invalid_client"), "spec.oauth.clientAuthentication"),
        ([bare(400), bare(400), GRANT], (DEVIATES, "400"), "spec.oauth.pkce"),
        (
            [CLIENT, CLIENT, CLIENT],
            (DEVIATES, "invalid_client"),
            "spec.oauth.clientID, spec.oauth.clientSecretRef",
        ),
        (
            [GRANT_TYPE],
            (DEVIATES, "unsupported_grant_type"),
            "spec.oauth",
        ),
        ([page(404)], (DEVIATES, "404"), "spec.oauth.tokenPath"),
        ([page()], (DEVIATES, "html"), "spec.oauth.tokenPath"),
        ([REDIRECT], (DEVIATES, "redirect"), "spec.oauth.tokenPath"),
        ([bare(500)], (DEVIATES, "500"), "spec.oauth"),
        ([NOT_ASKED], (NOT_TESTABLE, None), None),
    ],
)
def test_the_token_endpoint_must_refuse_only_the_code(
    answers: list[Answer], expected: tuple[CheckOutcome, str | None], setting: str | None
) -> None:
    body, basic = ClientAuthentication
    ways = ((body, Pkce.S256), (basic, Pkce.S256), (body, Pkce.OFF))
    line = assumptions.token_endpoint(
        [TokenAnswer(*way, answer) for way, answer in zip(ways, answers, strict=False)]
    )
    assert outcome(line) == expected
    assert line.setting == setting


# -- Searches ------------------------------------------------------------------------------------------------


def found(*ids: int, status: str | None = "Completed") -> RawResponse:
    """A search result."""
    return says({"Envelopes": [{"Id": str(each), "Status": status, "Name": "x"} for each in ids]})


@pytest.mark.parametrize(
    ("answer", "within", "expected"),
    [
        (found(), [found()], (AS_EXPECTED, "0")),
        (found(1, 2), [found(1), found(2)], (AS_EXPECTED, "2")),
        (found(1, 2), [found(1), found(2, 3)], (DEVIATES, "2,truncated")),
        (found(*range(60)), [found(*range(60)), found(70)], (AS_EXPECTED, "60,truncated")),
        (found(1, 2), [NOT_ASKED], (AS_EXPECTED, "2")),
        (says({"Envelopes": None}), [], (AS_EXPECTED, "0")),
        (says({"Items": []}), [], (DEVIATES, None)),
        (bare(403), [], (DEVIATES, None)),
        (RawResponse(200, body=b"{", is_cut=True), [], (AS_EXPECTED, None)),
        (NOT_ASKED, [], (NOT_TESTABLE, None)),
    ],
)
def test_a_search_that_leaves_envelopes_out_is_found_by_searches_for_parts_of_its_time(
    answer: Answer, within: list[Answer], expected: tuple[CheckOutcome, str | None]
) -> None:
    assert outcome(assumptions.find_thirty_days(answer, within)) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (found(1, 2), (AS_EXPECTED, "2")),
        (page(), (DEVIATES, None)),
        (error(403, "ERR0010"), (DEVIATES, None)),
        (NOT_ASKED, (NOT_TESTABLE, None)),
    ],
)
def test_a_search_must_return_envelopes(answer: Answer, expected: tuple[CheckOutcome, str | None]) -> None:
    assert outcome(assumptions.find_one_day(answer)) == expected


@pytest.mark.parametrize(
    ("results", "single", "expected"),
    [
        ([found(1, status="WaitingForOthers")], [], (AS_EXPECTED, "none")),
        ([found(1, status="Archived")], [], (DEVIATES, "Archived")),
        ([found(1, status=None)], [], (DEVIATES, "null")),
        ([found(1, status="Ask anna@example.com")], [], (DEVIATES, "other")),
        (
            [found(1)],
            [says({"EnvelopeStatus": "Paused"}), UNREACHABLE],
            (DEVIATES, "Paused"),
        ),
        ([found(1)], [says({"EnvelopeStatus": "WaitingForOthers"})], (DEVIATES, "WaitingForOthers")),
        ([found(1)], [error(400, "ERR0063")], (AS_EXPECTED, "none")),
        ([found()], [], (NOT_TESTABLE, None)),
        ([NOT_ASKED], [NOT_ASKED], (NOT_TESTABLE, None)),
    ],
)
def test_unknown_statuses_are_named(
    results: list[Answer], single: list[Answer], expected: tuple[CheckOutcome, str | None]
) -> None:
    assert outcome(assumptions.envelope_statuses(results, single)) == expected


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([says({"Id": "1"}), says({"Id": "2"})], (AS_EXPECTED, "0/2")),
        ([says({"Id": "1"}), error(400, "ERR0063")], (AS_EXPECTED, "1/2")),
        ([says({"Id": "1"}), NOT_ASKED], (AS_EXPECTED, "0/1")),
        ([NOT_ASKED], (NOT_TESTABLE, None)),
    ],
)
def test_envelopes_of_v5_are_counted_among_those_that_were_asked_for(
    answers: list[Answer], expected: tuple[CheckOutcome, str | None]
) -> None:
    assert outcome(assumptions.v5_envelopes(answers, CleanupPolicy.KEEP)) == expected
    # With policy Delete each of them may stay in eSAW.
    found = expected[1]
    deviates = (DEVIATES, found) if found == "1/2" else expected
    assert outcome(assumptions.v5_envelopes(answers, CleanupPolicy.DELETE)) == deviates


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (error(404, "ERR0007"), (AS_EXPECTED, "ERR0007")),
        (error(404, "ERR0001"), (DEVIATES, "ERR0001")),
        (error(500, "ERR0007"), (DEVIATES, "ERR0007")),
        (bare(404), (DEVIATES, "none")),
        (says({}), (DEVIATES, None)),
        (NOT_ASKED, (NOT_TESTABLE, None)),
    ],
)
def test_a_missing_envelope_must_be_missing_in_esaws_own_words(
    answer: Answer, expected: tuple[CheckOutcome, str | None]
) -> None:
    assert outcome(assumptions.unknown_envelope_body(answer)) == expected


# -- Answers that are kept reduced ---------------------------------------------------------------------------


def padded(members: dict[str, Any], status: int = 200) -> RawResponse:
    return says({**members, "Other": "a" * SMALL_BYTES}, status)


@pytest.mark.parametrize(
    "members",
    [
        {"Envelopes": [{"Id": "1", "Status": "Completed", "Other": [1]}, {"Id": None}, {"Status": "x"}]},
        {"Envelopes": None},
        {"Envelopes": []},
        {},
        {"ErrorId": "ERR0007", "Envelopes": []},
    ],
)
def test_a_reduced_search_result_is_judged_as_the_whole_one(members: dict[str, Any]) -> None:
    answer = padded(members)
    kept = reduced(answer)
    assert len(kept.body) < 1024
    assert hits(kept) == hits(answer)
    assert error_id(kept) == error_id(answer)
    assert find_one_day(kept) == find_one_day(answer)


@pytest.mark.parametrize(
    ("members", "status"),
    [({"EnvelopeStatus": "Completed"}, 200), ({"EnvelopeStatus": "New"}, 200), ({"ErrorId": "ERR0063"}, 400)],
)
def test_a_reduced_envelope_is_judged_as_the_whole_one(members: dict[str, Any], status: int) -> None:
    answer = padded(members, status)
    kept = reduced(answer)
    assert len(kept.body) < 1024
    assert envelope_statuses([], [kept]) == envelope_statuses([], [answer])
    for policy in CleanupPolicy:
        assert v5_envelopes([kept], policy) == v5_envelopes([answer], policy)


def test_a_small_answer_is_kept_as_it_came() -> None:
    for answer in (found(1, 2), page(), bare(200), error(404, "ERR0007")):
        assert reduced(answer) is answer


@pytest.mark.parametrize(
    "body",
    [
        b"<" * 100_000,
        b'{"Envelopes":[' + b'{"Id":1},' * 10_000 + b"{}]}",
        b'{"Envelopes":[' + b'{"Id":"a"},' * 30_000 + b"{}]}",
        b"[" * 19_000 + b" " * 100_000,
    ],
    ids=["a web page", "numbers as ids", "too many envelopes", "lists in lists"],
)
def test_a_large_answer_of_another_form_is_kept_as_one_that_is_too_long(body: bytes) -> None:
    kept = reduced(RawResponse(200, "application/json", body=body))
    assert (len(kept.body), kept.is_cut, content(kept)) == (1024, True, None)

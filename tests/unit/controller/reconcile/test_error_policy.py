"""Errors, and the reaction to each of them."""

from datetime import timedelta
from typing import Any

import pytest

from controller.access.sender_keys import KeyStateUnknown, KeyUnusable
from controller.reconcile.context import TooManyEvents, TooManyFiles
from controller.reconcile.error_policy import classify
from controller.reconcile.outcomes import Fail, NeedConsent, Wait
from counterfoil.archives.errors import (
    ArchiveRefused,
    ArchiveUnavailable,
    ListingDiffers,
    NameTaken,
    SettingsInvalid,
    VerificationFailed,
)
from counterfoil.archives.filing import SourceBroken
from counterfoil.archives.manifest import ManifestTooLarge
from counterfoil.archives.tags import MetadataTooHeavy, MetadataUnreadable, TagMissing
from counterfoil.esaw.errors import (
    EsawUnreachable,
    HttpStatusError,
    NotProven,
    RateLimited,
    ResponseInvalid,
    ResponseTooLarge,
    TransferBroken,
    UnexpectedRedirect,
    UnreachableKind,
    V5ResponseInvalid,
    V5Unavailable,
)
from counterfoil.kube.errors import Forbidden, Unavailable
from counterfoil.resources import TagRule
from tests.support.builders import NOON
from tests.support.servers.scripted_esaw import ENVELOPE, against, an_envelope, answering

UNTIL = NOON + timedelta(seconds=30)
TRACE = "0HN5C3Q2T7V9A"


def answered(status: int, error_id: str | None = None, **more: float) -> HttpStatusError:
    return HttpStatusError(status, error_id, trace_id=TRACE, retry_after=more.get("retry_after"))


TABLE: list[tuple[Exception, type, str]] = [
    (RateLimited(429, until=UNTIL, retry_after=30), Wait, "EsawThrottling"),
    (answered(429), Wait, "EsawThrottling"),
    (answered(408), Wait, "EsawUnreachable"),
    (answered(500, "ERR0001"), Wait, "EsawFailing"),
    (answered(501), Wait, "EsawFailing"),
    (answered(502), Wait, "EsawFailing"),
    (answered(503), Wait, "EsawFailing"),
    (answered(504), Wait, "EsawFailing"),
    (answered(401), Wait, "KeyDoubted"),
    (answered(401, "ERR0010"), NeedConsent, "TokenRejected"),
    (
        KeyUnusable("TokenRejected", "eSignAnyWhere does not accept the API key."),
        NeedConsent,
        "TokenRejected",
    ),
    (
        KeyUnusable("ConsentRequired", "Sender/anna has not given its consent yet."),
        NeedConsent,
        "ConsentRequired",
    ),
    (KeyStateUnknown("KeyDoubted", "The key is in doubt.", until=UNTIL), Wait, "KeyDoubted"),
    (KeyStateUnknown("SealKeyPending", "The key is not mounted yet."), Wait, "SealKeyPending"),
    (answered(400), Wait, "EsawAnswerUnreadable"),
    (answered(403), Wait, "EsawAnswerUnreadable"),
    (answered(409), Wait, "EsawAnswerUnreadable"),
    (answered(423), Wait, "EsawAnswerUnreadable"),
    (answered(403, "ERR0010"), Fail, "NotPermitted"),
    (answered(404), Wait, "EsawAnswerUnreadable"),
    (answered(404, "ERR0007"), Wait, "EsawNotFound"),
    (answered(404, "ERR0008"), Wait, "EsawNotFound"),
    (answered(400, "ERR0011"), Fail, "EsawRefused"),
    (answered(409, "ERR0013"), Fail, "EsawRefused"),
    (answered(418), Wait, "EsawAnswerUnreadable"),
    (answered(418, "ERR0011"), Fail, "EsawRefused"),
    (answered(499), Wait, "EsawAnswerUnreadable"),
    (answered(499, "ERR0011"), Fail, "EsawRefused"),
    (answered(400, "ERR0063"), Fail, "UnsupportedApiVersion"),
    (answered(403, "ERR0063"), Fail, "UnsupportedApiVersion"),
    (answered(404, "ERR0063"), Fail, "UnsupportedApiVersion"),
    (V5ResponseInvalid("envelope_v5", "it is HTML, not JSON"), Wait, "EsawV5AnswerUnreadable"),
    (V5Unavailable(answered(404)), Wait, "EsawV5Unavailable"),
    (ResponseInvalid("files", "it is HTML, not JSON"), Wait, "EsawAnswerUnreadable"),
    (ResponseTooLarge("files", 2**24), Wait, "EsawAnswerUnreadable"),
    (ResponseTooLarge("configuration", 2**24), Wait, "EsawAnswerUnreadable"),
    (ResponseTooLarge("envelope", 2**24), Wait, "EsawAnswerUnreadable"),
    (ResponseTooLarge("whoami", 2**24), Wait, "EsawAnswerUnreadable"),
    (TooManyFiles(2001), Fail, "EnvelopeTooLarge"),
    (TooManyEvents(900), Fail, "TooManyEvents"),
    (ManifestTooLarge("its manifest could not be read."), Fail, "EnvelopeTooLarge"),
    (UnexpectedRedirect(302, "https://login.example.com"), Wait, "EsawRedirects"),
    (TransferBroken("short"), Wait, "TransferBroken"),
    (TransferBroken("long"), Wait, "TransferBroken"),
    (TransferBroken("unframed"), Wait, "TransferBroken"),
    (SourceBroken(100, 90), Wait, "TransferBroken"),
    (NameTaken("file:///dms/contract.pdf is there already."), Fail, "NameOccupied"),
    (VerificationFailed("file:///dms/contract.pdf was sent 2 times."), Wait, "StoredWrong"),
    (ListingDiffers("file:///dms/contract.pdf is not listed."), Wait, "ListingDiffers"),
    (SettingsInvalid("Archive/dms: correct it."), Wait, "SettingsInvalid"),
    (TagMissing("customer", TagRule(xpath="/a")), Wait, "TagMissing"),
    (MetadataUnreadable("it is not JSON"), Wait, "MetadataUnreadable"),
    (MetadataTooHeavy("customer", TagRule(xpath="/a"), "2 seconds"), Wait, "MetadataTooHeavy"),
    (ArchiveUnavailable("ArchiveFull", "Archive/dms is full."), Wait, "ArchiveFull"),
    (ArchiveRefused("ArchiveRootMissing", "Archive/dms: no root."), Wait, "ArchiveRootMissing"),
    (NotProven("there are no files"), Fail, "NotProven"),
    (Unavailable(0, "NoAnswer", "no answer"), Wait, "ApiServerTrouble"),
    (Forbidden(403, "Forbidden", "no"), Wait, "ApiServerTrouble"),
]

FILE = {"FileId": None, "FileName": "contract.pdf", "DocumentNumber": 1}


@pytest.mark.parametrize(
    ("value", "words"),
    [("Archived", "is `Archived`"), (None, "is null"), ("<b>", "is no plain word"), ("", "is no")],
)
async def test_an_unknown_status_is_waited_for_with_its_own_reason(value: str | None, words: str) -> None:
    async with against(answering(an_envelope(EnvelopeStatus=value))) as bench:
        with pytest.raises(ResponseInvalid) as met:
            await bench.user.envelope(ENVELOPE)
    outcome = classify(met.value, NOON)
    assert isinstance(outcome, Wait)
    assert outcome.reason == "EnvelopeStatusUnknown"
    assert words in outcome.message
    assert "<b>" not in outcome.message


@pytest.mark.parametrize("operation", ["files", "configuration"])
def test_an_answer_that_is_too_long_is_asked_for_again_since_a_proxy_may_have_sent_it(
    operation: str,
) -> None:
    outcome = classify(ResponseTooLarge(operation, 2**24), NOON)
    assert isinstance(outcome, Wait)
    assert outcome.reason == "EsawAnswerUnreadable"
    assert "longer than 16 MiB" in outcome.message
    assert "skip the event" in outcome.message


async def test_two_documents_with_one_id_are_waited_for_and_none_is_left_out() -> None:
    one = FILE | {"FileId": "d1", "DocumentNumber": 1}
    async with against(answering({"Documents": [one, one | {"DocumentNumber": 2}]})) as bench:
        with pytest.raises(ResponseInvalid) as met:
            (await bench.user.files(ENVELOPE)).files()
    outcome = classify(met.value, NOON)
    assert isinstance(outcome, Wait)
    assert outcome.reason == "FileIdRepeated"


@pytest.mark.parametrize(
    "listed",
    [
        {"Documents": [FILE]},
        {"Documents": [FILE | {"FileId": ""}]},
        {"Documents": [{"FileName": "contract.pdf"}]},
        {"Documents": [FILE | {"FileId": "d1", "Attachments": [FILE]}]},
        {"LegalDocuments": [FILE]},
    ],
)
async def test_a_file_without_an_id_is_waited_for_and_never_left_out(listed: dict[str, Any]) -> None:
    async with against(answering(listed)) as bench:
        with pytest.raises(ResponseInvalid) as met:
            (await bench.user.files(ENVELOPE)).files()
    outcome = classify(met.value, NOON)
    assert isinstance(outcome, Wait)
    assert outcome.reason == "FileIdMissing"
    assert "`contract.pdf`" in outcome.message


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409])
async def test_a_web_page_in_the_place_of_an_answer_is_a_matter_of_the_way_to_esaw(status: int) -> None:
    async with against(answering(b"<html>Please log in</html>", status)) as bench:
        with pytest.raises(HttpStatusError) as met:
            await bench.user.envelope(ENVELOPE)
    outcome = classify(met.value, NOON)
    assert isinstance(outcome, Wait)
    assert outcome.reason == "EsawAnswerUnreadable"
    assert "perhaps a proxy" in outcome.message


KINDS: list[UnreachableKind] = ["busy", "connect", "cut", "proxy", "slow", "timeout", "tls"]


@pytest.mark.parametrize(("problem", "kind", "reason"), TABLE)
def test_each_problem_has_its_verdict(problem: Exception, kind: type, reason: str) -> None:
    outcome = classify(problem, NOON)
    assert outcome is not None
    assert isinstance(outcome, kind)
    assert outcome.reason == reason


@pytest.mark.parametrize("kind", KINDS)
def test_no_network_failure_is_final(kind: UnreachableKind) -> None:
    outcome = classify(EsawUnreachable(kind), NOON)
    assert isinstance(outcome, Wait)
    assert outcome.reason == "EsawUnreachable"


@pytest.mark.parametrize("status", range(500, 600))
@pytest.mark.parametrize("error_id", [None, "ERR0007", "ERR0010", "ERR0063"])
def test_no_server_error_is_final_with_any_body(status: int, error_id: str | None) -> None:
    assert isinstance(classify(answered(status, error_id), NOON), Wait)


@pytest.mark.parametrize("status", [429, 503])
def test_a_retry_after_is_kept_to(status: int) -> None:
    outcome = classify(answered(status, retry_after=30), NOON)
    assert isinstance(outcome, Wait)
    assert outcome.not_before == UNTIL


@pytest.mark.parametrize(
    "problem",
    [
        RateLimited(503, until=UNTIL, retry_after=12),
        KeyStateUnknown("KeyDoubted", "The key is in doubt.", until=UNTIL),
    ],
)
def test_a_pause_ends_when_it_was_said_to_end(problem: Exception) -> None:
    outcome = classify(problem, NOON)
    assert isinstance(outcome, Wait)
    assert outcome.not_before == UNTIL


@pytest.mark.parametrize(("problem", "kind", "reason"), TABLE)
def test_an_equal_problem_later_says_the_same_so_that_no_retry_changes_the_message(
    problem: Exception, kind: type, reason: str
) -> None:
    first, later = classify(problem, NOON), classify(problem, NOON + timedelta(hours=1))
    assert first is not None
    assert later is not None
    assert (first.reason, first.message) == (later.reason, later.message)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 429, 500, 503])
def test_no_message_contains_a_trace_id(status: int) -> None:
    outcome = classify(answered(status, "ERR0001"), NOON)
    assert outcome is not None
    assert TRACE not in outcome.message


@pytest.mark.parametrize(("problem", "kind", "reason"), TABLE)
def test_every_message_is_a_sentence_for_people(problem: Exception, kind: type, reason: str) -> None:
    outcome = classify(problem, NOON)
    assert outcome is not None
    assert outcome.message[0].isalpha()
    assert outcome.message.endswith(".")
    assert "{" not in outcome.message


def test_an_error_that_is_not_in_the_table_is_our_own_bug() -> None:
    assert classify(RuntimeError("?"), NOON) is None

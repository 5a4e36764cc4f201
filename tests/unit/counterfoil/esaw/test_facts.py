"""
Counterfoil judges an answer of eSAW in the same way whether a member is null or left out.

The table of facts says which members there are; nothing says in which of the two ways eSAW writes one that
has no value.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
import pytest

from counterfoil.clock import WallClock
from counterfoil.esaw import ApiToken, EsawClient, EsawUserClient, drafts
from counterfoil.esaw.errors import EsawError, ResponseInvalid, V5ResponseInvalid
from counterfoil.esaw.models import (
    ConfigurationResponse,
    DraftResponse,
    FilesResponse,
    FindResponse,
    HistoryEventsResponse,
    HistoryResponse,
    SendDraftResponse,
    WhoAmI,
    WorkflowResponse,
    decode,
    decode_envelope,
    parse_error,
)
from counterfoil.esaw.models_v5 import decode_v5
from counterfoil.resources import EnvelopeStatus
from sandbox.esaw.facts import read_facts
from tests.support.esaw_variants import ENVELOPE, Path, an_answer, paths, with_null, without

FACTS = read_facts()
ORIGIN = "https://esaw.example"

Reading = Callable[[bytes], Any]


def _history(body: bytes) -> Any:
    failed = decode(HistoryEventsResponse, "history", body).failed_step
    return decode(HistoryResponse, "history", body).has_been_deleted, failed


def _envelope(body: bytes) -> Any:
    found = decode_envelope("envelope", body)
    workflow = decode(WorkflowResponse, "envelope", body)
    return (
        found.id,
        found.status,
        found.name,
        found.sent_date,
        found.finished_date,
        workflow.finished_date,
        found.sender,
    )


def _v5(body: bytes) -> Any:
    try:
        found = decode_v5("envelope_v5", body)
    except ResponseInvalid as problem:
        # As the client does it.
        raise V5ResponseInvalid("envelope_v5", problem.what) from None
    return (
        found.id,
        found.status,
        found.name,
        found.sent_date,
        found.finished_date,
        found.metadata,
        found.listed().files(),
    )


READINGS: dict[str, Reading] = {
    "whoami": lambda body: decode(WhoAmI, "whoami", body),
    "envelope": _envelope,
    "files": lambda body: decode(FilesResponse, "files", body).files(),
    "configuration": lambda body: decode(ConfigurationResponse, "configuration", body),
    "history": _history,
    "find": lambda body: decode(FindResponse, "find", body).envelopes or (),
    "draft": lambda body: decode(DraftResponse, "draft", body).name,
    "draft_configuration": lambda body: decode(ConfigurationResponse, "draft_configuration", body),
    "draft_send": lambda body: decode(SendDraftResponse, "draft_send", body).envelopes,
    "envelope_v5": _v5,
    "error": parse_error,
}
"""All that Counterfoil reads of each answer."""

NEEDED: dict[str, set[str]] = {
    "whoami": {"UserId"},
    "envelope": {"Id", "EnvelopeStatus"},
    "files": {"Documents.FileId", "Documents.Attachments.FileId", "LegalDocuments.FileId"},
    "find": {"Envelopes.Id"},
    "draft_send": {"Envelope.EnvelopeId", "EnvelopeBulk.EnvelopeBulkChildren.EnvelopeId"},
    "envelope_v5": {
        "Id",
        "Status",
        "Bulks",
        "Bulks.FinishedDocuments.FlowDocumentId",
        "Bulks.FinishedDocuments.Attachments.DocumentId",
        "Bulks.Steps.DisclaimerDocuments.DocumentId",
    },
}
"""The members without which an answer is refused: nothing is archived or sent on a guess."""

BY_ANOTHER_PROGRAM = ("find", ("Envelopes",))
"""Null is no hit; without its only member the answer is of another program, and not one without hits."""

MEMBERS = [
    (call, path)
    for call in READINGS
    for path, _ in paths(FACTS, FACTS.calls[call].answer or "")
    if (call, path) != BY_ANOTHER_PROGRAM
]


def judged(call: str, answer: dict[str, Any]) -> Any:
    """The judgement of Counterfoil on an answer: the values that it reads, or the kind of its refusal."""
    try:
        return READINGS[call](msgspec.json.encode(answer))
    except EsawError as refusal:
        return type(refusal)


def answer_to(call: str) -> dict[str, Any]:
    """The complete answer to a call."""
    kind = FACTS.calls[call].answer
    assert kind is not None
    return an_answer(FACTS, kind)


def test_each_call_with_an_answer_is_read_here() -> None:
    assert READINGS.keys() == {name for name, call in FACTS.calls.items() if call.answer is not None}


@pytest.mark.parametrize("call", READINGS)
def test_a_complete_answer_is_as_the_facts_say_and_is_accepted(call: str) -> None:
    answer = answer_to(call)
    assert list(FACTS.deviations(FACTS.calls[call].answer or "", answer)) == []
    assert not isinstance(judged(call, answer), type)


@pytest.mark.parametrize(
    ("call", "path"), MEMBERS, ids=lambda each: each if isinstance(each, str) else ".".join(each)
)
def test_a_member_that_is_null_is_judged_like_one_that_is_left_out(call: str, path: Path) -> None:
    answer = answer_to(call)
    as_null = judged(call, with_null(answer, path))
    assert as_null == judged(call, without(answer, path))
    assert isinstance(as_null, type) == (".".join(path) in NEEDED.get(call, set()))


def test_a_search_without_its_only_member_is_refused_and_one_with_null_has_no_hits() -> None:
    call, path = BY_ANOTHER_PROGRAM
    assert judged(call, with_null(answer_to(call), path)) == ()
    assert judged(call, without(answer_to(call), path)) is ResponseInvalid


@pytest.mark.parametrize("call", READINGS)
def test_an_answer_with_its_needed_members_only_is_accepted_with_nulls_and_without(call: str) -> None:
    needed = {tuple(each.split(".")) for each in NEEDED.get(call, set())}
    kept = {each[:length] for each in needed for length in range(1, len(each) + 1)}
    null, absent = answer_to(call), answer_to(call)
    for path, _ in reversed(list(paths(FACTS, FACTS.calls[call].answer or ""))):
        if path not in kept:
            null, absent = with_null(null, path), without(absent, path)
    as_null = judged(call, null)
    assert not isinstance(as_null, type)
    # Without one member of its kind, an answer is of another program.
    assert judged(call, absent) == as_null or not absent


# -- Requests ------------------------------------------------------------------------------------------------


async def sent_bodies(ask: Callable[[EsawUserClient], Any]) -> list[Any]:
    """The bodies that Counterfoil sends to make a call."""
    bodies: list[Any] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        sent = {"Envelopes": [], "Envelope": {"EnvelopeId": ENVELOPE}}
        return httpx.Response(200, json=sent)

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        client = EsawClient(ORIGIN, http=http, clock=WallClock(), observe=lambda *_: None)
        await ask(client.as_user(ApiToken.parse("t" * 66, ORIGIN)))
    return bodies


MAY = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("call", "ask"),
    [
        ("find", lambda user: user.find(status=EnvelopeStatus.COMPLETED, start=MAY, end=MAY)),
        ("find", lambda user: drafts.find_sent(user, "anna@example.com", MAY, MAY)),
        ("draft_update", lambda user: drafts.update_metadata(user, ENVELOPE, "<a/>")),
        ("draft_send", lambda user: drafts.send(user, ENVELOPE)),
    ],
)
async def test_a_request_is_as_the_facts_say(call: str, ask: Callable[[EsawUserClient], Any]) -> None:
    (body,) = await sent_bodies(ask)
    kind = FACTS.calls[call].body
    assert kind is not None
    assert list(FACTS.deviations(kind, body)) == []

"""A whole check against the stand-in: with its switches and faults, within its limits, and read-only."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from counterfoil.clock import WallClock
from counterfoil.esaw import ApiToken, EsawClient, new_http_client
from counterfoil.esaw.rate_limit import RateLimiter
from counterfoil.esaw.transport import EsawCall, RawResponse
from counterfoil.esaw_check.facts import FactId
from counterfoil.esaw_check.probes import EsawCheckReport, EsawCheckSubject, Questions, check_esaw
from counterfoil.resources import EnvelopeStatus, envelope_id
from counterfoil.resources.organization import CheckOutcome, ClientAuthentication, Pkce
from sandbox.esaw import DocumentSpec, StandIn, User
from sandbox.esaw.core.behaviour import Behaviour
from tests.support.builders import AClock, a_sender, an_organization
from tests.support.scenes.esaw_check import a_check_subject
from tests.support.servers.scripted_esaw import START, RecordingObserver, answering, running, silence
from tests.support.virtual_time import VirtualClock, VirtualTimeLoop, run_in_virtual_time

AS_EXPECTED, DEVIATES, NOT_TESTABLE = CheckOutcome
READ_OPERATIONS = frozenset(
    {
        "version",
        "whoami",
        "envelope",
        "files",
        "configuration",
        "history",
        "find",
        "file",
        "draft",
        "retrieve",
    }
)


@dataclass
class Scene:
    """A stand-in with one sender and one OAuth application."""

    standin: StandIn
    user: User
    esaw: EsawClient
    subject: EsawCheckSubject

    async def check(self, **changes: Any) -> EsawCheckReport:
        return await check_esaw(
            Questions(self.esaw, WallClock()), replace(self.subject, **changes), datetime.now(UTC)
        )

    async def finds(self, fact: FactId, **changes: Any) -> tuple[CheckOutcome, str | None]:
        (line,) = (each for each in (await self.check(**changes)).results if each.id == fact)
        return line.outcome, line.found


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with StandIn(seed=7) as standin, new_http_client() as http:
        user = standin.add_user(email="sina@example.com", given_name="Sina", surname="Sender")
        esaw = EsawClient(standin.url, http=http, clock=WallClock(), observe=RecordingObserver())
        yield Scene(standin, user, esaw, a_check_subject(standin, user))


async def test_an_esaw_as_it_is_assumed_deviates_in_nothing_that_its_api_shows(scene: Scene) -> None:
    scene.standin.set_before_send_redirect(
        "https://sign.example/before-send/acme?draftId=##EnvelopeId##&userId=##SenderUserId##"
    )
    envelope = scene.standin.add_envelope(
        sender=scene.user, documents=[DocumentSpec(name="Sina's lease.pdf")], legal_documents=[]
    )
    draft = scene.standin.add_draft(owner=scene.user)
    report = await scene.check(envelope=envelope_id(envelope), draft=envelope_id(draft))
    found = {each.id: (each.outcome, each.found) for each in report.results}
    assert list(found) == list(FactId)
    assert report.version
    # Nobody set a callback URL in eSAW.
    assert found.pop("callback-url") == (DEVIATES, "different")
    assert found.pop("callback-port") == (NOT_TESTABLE, None)
    assert {each: line for each, line in found.items() if line[0] is not AS_EXPECTED} == {}
    assert (
        found["envelope-files"][1] == "Document=1,Attachment=0,AuditTrail=1,AuditTrailXml=1,LegalDocument=0"
    )
    assert found["download-headers"][1] == "application/pdf;length"
    assert found["find-thirty-days"][1] == "1"
    assert found["token-endpoint"][1] == "invalid_grant"


async def test_a_check_only_reads_and_says_nothing_secret_or_personal(scene: Scene) -> None:
    envelope = scene.standin.add_envelope(sender=scene.user, name="Lease of Sina", metadata="<a>42</a>")
    draft = scene.standin.add_draft(owner=scene.user)
    report = await scene.check(envelope=envelope_id(envelope), draft=envelope_id(draft))
    requests = scene.standin.requests()
    assert {each.operation for each in requests} <= READ_OPERATIONS
    assert not any(each.token_in_url for each in requests)
    assert len(requests) < 30
    said = repr(report)
    secret = (scene.user.token, scene.subject.client_secret or "", envelope, draft)
    personal = ("sina", "Sina", "example.com", "Lease", "42</a>")
    assert [each for each in (*secret, *personal) if each in said] == []


async def test_without_a_key_only_what_everybody_may_ask_is_asked(scene: Scene) -> None:
    report = await scene.check(token=None, sender=None, why_no_token="Nobody gave a key.")
    tested = {each.id for each in report.results if each.outcome is not NOT_TESTABLE}
    assert tested == {"base-url", "version-without-token", "token-endpoint", "unlisted-actions"}
    (line,) = (each for each in report.results if each.id == "whoami-fields")
    assert line.message == "Nobody gave a key."


# -- Deviations, each by a switch or a fault -----------------------------------------------------------------


async def test_a_token_may_be_needed_for_the_version(scene: Scene) -> None:
    scene.standin.set_behaviour(Behaviour(version_needs_token=True))
    assert await scene.finds(FactId.VERSION_WITHOUT_TOKEN) == (AS_EXPECTED, "401")
    assert await scene.finds(FactId.VERSION_WITH_TOKEN) == (AS_EXPECTED, "200")


async def test_a_revoked_token_is_rejected_in_both_headers(scene: Scene) -> None:
    scene.standin.revoke(scene.user)
    assert await scene.finds(FactId.HEADER_BEARER) == (DEVIATES, "rejected")
    assert await scene.finds(FactId.HEADER_API_TOKEN) == (DEVIATES, "rejected")
    assert await scene.finds(FactId.FIND_ONE_DAY) == (NOT_TESTABLE, None)


async def test_a_header_that_a_proxy_removes_is_found_and_the_check_continues_with_the_other(
    scene: Scene,
) -> None:
    scene.standin.fault("whoami", status=401, times=1)
    report = await scene.check()
    found = {each.id: each.found for each in report.results}
    assert (found["header-bearer"], found["header-api-token"]) == ("rejected", "accepted")
    assert found["find-one-day"] == "0"
    assert DEVIATES not in {each.outcome for each in report.results if each.id.startswith("header")}


async def test_a_document_that_is_made_again_at_each_download_is_found(scene: Scene) -> None:
    scene.standin.set_behaviour(Behaviour(renders_anew=True))
    expired, completed = (
        scene.standin.add_envelope(sender=scene.user, status=each)
        for each in (EnvelopeStatus.EXPIRED, EnvelopeStatus.COMPLETED)
    )
    fact = FactId.DOWNLOAD_REPEATED
    assert await scene.finds(fact, envelope=envelope_id(expired)) == (DEVIATES, "different")
    assert await scene.finds(fact, envelope=envelope_id(completed)) == (AS_EXPECTED, "equal")


async def test_silent_truncation_is_found(scene: Scene) -> None:
    envelopes = [scene.standin.add_envelope(sender=scene.user) for _ in range(4)]
    assert await scene.finds(FactId.FIND_THIRTY_DAYS) == (AS_EXPECTED, "4")
    assert await scene.finds(FactId.V5_ENVELOPES) == (AS_EXPECTED, "0/4")
    # The search over thirty days, not that over one day before it.
    first = [{"Id": envelopes[0], "Status": "Completed"}]
    scene.standin.fault("find", after=1, times=1, replaces={"Envelopes": first})
    assert await scene.finds(FactId.FIND_THIRTY_DAYS) == (DEVIATES, "1,truncated")


@pytest.mark.parametrize(
    ("policy", "outcome", "setting"),
    [("Keep", AS_EXPECTED, None), ("Delete", DEVIATES, "spec.cleanup.policy")],
)
async def test_envelopes_of_v5_are_counted_and_deviate_where_envelopes_must_be_deleted(
    scene: Scene, policy: str, outcome: CheckOutcome, setting: str | None
) -> None:
    scene.standin.add_envelope(sender=scene.user, api_version="v5")
    scene.standin.add_envelope(sender=scene.user)
    organization = an_organization(baseURL=scene.standin.url, cleanup={"policy": policy})
    report = await scene.check(organization=organization)
    (line,) = (each for each in report.results if each.id == "v5-envelopes")
    assert (line.outcome, line.found, line.setting) == (outcome, "1/2", setting)


async def test_a_user_without_the_right_may_not_see_histories(scene: Scene) -> None:
    user = scene.standin.add_user(email="x@example.com", given_name="X", surname="Y", may_see_history=False)
    envelope = envelope_id(scene.standin.add_envelope(sender=user))
    finds = await scene.finds(
        FactId.ENVELOPE_HISTORY,
        token=ApiToken.parse(user.token, scene.standin.url),
        sender=a_sender(userID=user.user_id),
        envelope=envelope,
    )
    assert finds == (DEVIATES, "forbidden")


async def test_a_key_of_another_user_is_found(scene: Scene) -> None:
    other = a_sender(userID="11111111-4b1d-4c58-9a57-6d1f0a3b2c4d")
    outcome, found = await scene.finds(FactId.WHOAMI_FIELDS, sender=other)
    assert outcome is DEVIATES
    assert found is not None
    assert found.startswith("UserId,")


@pytest.mark.parametrize(
    ("options", "fact", "expected"),
    [
        ({"audit_trail": False}, FactId.ENVELOPE_AUDIT_TRAIL, (DEVIATES, "absent")),
        ({"audit_trail": False, "status": "Rejected"}, FactId.ENVELOPE_AUDIT_TRAIL, (AS_EXPECTED, "absent")),
        (
            {"documents": [DocumentSpec(name="a.pdf", size=9000, chunked=True)]},
            FactId.DOWNLOAD_HEADERS,
            (AS_EXPECTED, "application/pdf;chunked"),
        ),
        ({"api_version": "v5"}, FactId.ENVELOPE_STATUS, (DEVIATES, None)),
        ({"status": "Active"}, FactId.DOWNLOAD_HEADERS, (NOT_TESTABLE, None)),
    ],
)
async def test_an_envelope_is_described(
    scene: Scene, options: Any, fact: FactId, expected: tuple[CheckOutcome, str | None]
) -> None:
    envelope = scene.standin.add_envelope(sender=scene.user, **options)
    assert await scene.finds(fact, envelope=envelope_id(envelope)) == expected


async def test_an_envelope_of_another_user_is_not_testable(scene: Scene) -> None:
    unknown = envelope_id("11111111-4b1d-4c58-9a57-6d1f0a3b2c4d")
    assert await scene.finds(FactId.ENVELOPE_STATUS, envelope=unknown) == (NOT_TESTABLE, None)
    assert await scene.finds(FactId.DRAFT, draft=unknown) == (DEVIATES, "not-found")


async def test_a_wrong_client_secret_is_found(scene: Scene) -> None:
    assert await scene.finds(FactId.TOKEN_ENDPOINT, client_secret="wrong") == (DEVIATES, "invalid_client")


async def test_the_token_endpoint_is_asked_as_it_is_configured_first(scene: Scene) -> None:
    known = scene.subject.organization.spec.oauth
    assert known is not None
    oauth = msgspec.structs.replace(known, client_authentication=ClientAuthentication.BASIC, pkce=Pkce.OFF)
    spec = msgspec.structs.replace(scene.subject.organization.spec, oauth=oauth)
    organization = msgspec.structs.replace(scene.subject.organization, spec=spec)
    finds = await scene.finds(FactId.TOKEN_ENDPOINT, organization=organization)
    assert finds == (AS_EXPECTED, "invalid_grant")
    assert len(scene.standin.requests("retrieve")) == 1


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"status": 404, "bare": True}, (DEVIATES, "404")),
        ({"redirect": "https://login.example/"}, (DEVIATES, "redirect")),
        ({"garbage": "html"}, (DEVIATES, "400")),
        ({"drop": True}, (NOT_TESTABLE, None)),
    ],
)
async def test_a_token_endpoint_that_is_elsewhere_is_found(
    scene: Scene, fault: Any, expected: tuple[CheckOutcome, str | None]
) -> None:
    scene.standin.fault("retrieve", **fault)
    assert await scene.finds(FactId.TOKEN_ENDPOINT) == expected


async def test_a_pause_that_esaw_asks_for_ends_the_questions(scene: Scene) -> None:
    scene.standin.fault("find", status=429, retry_after=60, times=1)
    report = await scene.check()
    (line,) = (each for each in report.results if each.id == "v5-envelopes")
    assert line.outcome is NOT_TESTABLE
    assert len(scene.standin.requests("find")) == 1


# -- Servers that are no eSAW --------------------------------------------------------------------------------


async def checked(url: str, **changes: Any) -> EsawCheckReport:
    async with new_http_client() as http:
        esaw = EsawClient(url, http=http, clock=WallClock(), observe=RecordingObserver())
        subject = EsawCheckSubject(an_organization(baseURL=url), **changes)
        return await check_esaw(Questions(esaw, WallClock(), seconds=2.0), subject, datetime.now(UTC))


async def test_a_server_that_is_no_esaw_gets_neither_the_client_secret_nor_further_questions() -> None:
    async with running(answering(b"<html></html>", content_type="text/html")) as server:
        report = await checked(
            server.url,
            token=ApiToken.parse("x" * 66, server.url),
            sender=a_sender(),
            client_secret="not for you",
            client_secret_origin=server.url,
        )
    assert (report.results[0].found, report.results[0].setting) == ("not-esaw", "spec.baseURL")
    assert not [each for each in server.received if b"not for you" in each.body]
    assert len(server.received) <= 6


async def test_nothing_at_the_address_is_reported() -> None:
    async with running(silence) as server:
        url = server.url
    report = await checked(url)
    assert (report.results[0].outcome, report.results[0].found) == (DEVIATES, "unreachable")


async def test_a_key_that_nobody_judged_is_not_called_refused() -> None:
    async with running(silence) as server:
        url = server.url
    report = await checked(url, token=ApiToken.parse("x" * 66, url), sender=a_sender())
    assert not [each.message for each in report.results if "in no header" in each.message]


async def test_a_server_that_never_answers_ends_the_check_in_time() -> None:
    async with running(silence) as server:
        report = await checked(server.url, token=ApiToken.parse("x" * 66, server.url), sender=a_sender())
    assert {each.outcome for each in report.results} == {NOT_TESTABLE, AS_EXPECTED}
    assert report.results[0].outcome is NOT_TESTABLE


async def test_an_endless_answer_is_read_no_further_than_its_limit() -> None:
    async with running(answering(b" " * (3 * 2**20))) as server:
        report = await checked(server.url)
    assert report.results[0].found == "not-esaw"


def test_a_question_that_waits_for_its_turn_has_all_of_its_time_for_the_answer() -> None:
    class LimitedEsaw(EsawClient):
        def __init__(self, clock: VirtualClock) -> None:
            self.limiter = RateLimiter(clock, per_second=1, max_retry_after=3600)

        async def exchange(self, *_: Any, **__: Any) -> RawResponse:
            await self.limiter.acquire()
            await asyncio.sleep(20)
            return RawResponse(200)

    async def ask() -> object:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        clock = VirtualClock(loop)
        esaw = LimitedEsaw(clock)
        runs = [asyncio.create_task(esaw.limiter.acquire()) for _ in range(16)]
        await asyncio.sleep(0)
        answer = await Questions(esaw, clock).ask(EsawCall("version", "GET", "system/version"))
        await asyncio.gather(*runs)
        return answer

    assert run_in_virtual_time(ask()) == RawResponse(200)


async def test_the_rate_limit_of_the_organization_holds_for_a_check(scene: Scene) -> None:
    clock = AClock(START)
    async with new_http_client() as http:
        esaw = EsawClient(
            scene.standin.url,
            http=http,
            clock=clock,
            observe=RecordingObserver(),
            requests_per_second=0.1,
        )
        report = await check_esaw(Questions(esaw, clock), scene.subject, clock.now())
    assert clock.now() - START <= timedelta(seconds=130)
    assert len(scene.standin.requests()) <= 13
    assert report.results[-1].message.endswith("names one.")

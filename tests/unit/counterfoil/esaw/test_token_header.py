"""
The header that carries the token: detected by eSAW's own 401, then remembered.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from counterfoil.clock import WallClock
from counterfoil.esaw import (
    ApiToken,
    CallLimits,
    EsawClient,
    EsawError,
    EsawUnreachable,
    EsawUserClient,
    HttpStatusError,
    ResponseInvalid,
    TokenHeader,
    UnexpectedRedirect,
    new_http_client,
)
from sandbox.esaw import StandIn, User
from sandbox.esaw.core.behaviour import Behaviour
from sandbox.esaw.core.behaviour import TokenHeader as HeaderName
from tests.support.servers.scripted_esaw import (
    TOKEN,
    Received,
    RecordingObserver,
    Script,
    against,
    an_envelope,
    answering,
    head,
    running,
    sending,
    silence,
    whole_file,
)

WHO = {"UserId": "u1"}
OWN_REFUSAL = answering({"ErrorId": "ERR0010", "Message": "ERR0010", "TraceId": "t"}, 401)
REFUSED = answering(b"", 401)


def headers_of(received: Received) -> list[str]:
    """The headers of a request that carry the token."""
    return [name for name, value in received.headers.items() if TOKEN in value]


# With the stand-in


@dataclass(frozen=True)
class Scene:
    """A stand-in with one sender, and a client that has sent nothing yet."""

    standin: StandIn
    sender: User
    esaw: EsawClient

    @property
    def user(self) -> EsawUserClient:
        return self.esaw.as_user(ApiToken.parse(self.sender.token, self.esaw.origin))

    def statuses(self) -> list[int]:
        return [each.status for each in self.standin.requests()]


@asynccontextmanager
async def accepting(*headers: HeaderName) -> AsyncIterator[Scene]:
    async with StandIn(behaviour=Behaviour(token_headers=headers)) as standin, new_http_client() as http:
        sender = standin.add_user(email="sina@example.com", given_name="Sina", surname="Sender")
        esaw = EsawClient(standin.url, http=http, clock=WallClock(), observe=RecordingObserver())
        yield Scene(standin, sender, esaw)


@pytest.mark.parametrize(
    ("accepted", "known", "statuses"),
    [
        (("Authorization",), TokenHeader.BEARER, [200, 200]),
        (("ApiToken",), TokenHeader.API_TOKEN, [401, 200, 200]),
        (("ApiToken", "Authorization"), TokenHeader.BEARER, [200, 200]),
    ],
)
async def test_an_esaw_that_accepts_one_header_only_is_understood(
    accepted: tuple[HeaderName, ...], known: TokenHeader, statuses: list[int]
) -> None:
    async with accepting(*accepted) as scene:
        assert scene.esaw.token_header is None
        for _ in range(2):
            assert (await scene.user.whoami()).user_id == scene.sender.user_id
        assert scene.statuses() == statuses
        assert scene.esaw.token_header is known


async def test_a_file_of_an_esaw_that_accepts_the_other_header_arrives() -> None:
    async with accepting("ApiToken") as scene:
        envelope = scene.standin.add_envelope(sender=scene.sender)
        file = scene.standin.files(envelope)[0]
        assert len(await whole_file(scene.user, file.file_id)) == file.size


async def test_a_token_that_both_headers_are_refused_for_is_refused() -> None:
    async with accepting() as scene:
        for _ in range(2):
            with pytest.raises(HttpStatusError, match="401"):
                await scene.user.whoami()
        assert scene.statuses() == [401] * 4
        assert scene.esaw.token_header is None


async def test_a_revoked_token_costs_no_second_request_once_the_header_is_known() -> None:
    async with accepting("ApiToken") as scene:
        await scene.user.whoami()
        scene.standin.revoke(scene.sender)
        scene.standin.clear_requests()
        with pytest.raises(HttpStatusError, match="401"):
            await scene.user.whoami()
        assert scene.statuses() == [401]


async def test_a_revoked_token_says_nothing_about_the_header_for_the_next_one() -> None:
    async with accepting("Authorization") as scene:
        revoked = scene.standin.new_token(scene.sender)
        scene.standin.revoke(scene.sender, revoked)
        with pytest.raises(HttpStatusError, match="401"):
            await scene.esaw.as_user(ApiToken.parse(revoked, scene.esaw.origin)).whoami()
        assert (await scene.user.whoami()).user_id == scene.sender.user_id
        assert scene.esaw.token_header is TokenHeader.BEARER


async def test_a_version_that_needs_no_token_says_nothing_about_the_header() -> None:
    async with accepting("ApiToken") as scene:
        await scene.esaw.version(ApiToken.parse(scene.sender.token, scene.esaw.origin))
        assert scene.esaw.token_header is None
        assert (await scene.user.whoami()).user_id == scene.sender.user_id


async def test_calls_at_once_have_one_more_request_each_at_most() -> None:
    async with accepting("ApiToken") as scene:
        await asyncio.gather(*(scene.user.whoami() for _ in range(10)))
        await scene.user.whoami()
        assert sorted(scene.statuses()) == [200] * 11 + [401] * 10


@pytest.mark.parametrize("header", TokenHeader)
async def test_a_client_with_a_given_header_uses_no_other(header: TokenHeader) -> None:
    async with running(REFUSED) as server, new_http_client() as http:
        esaw = EsawClient(
            server.url, http=http, clock=WallClock(), observe=RecordingObserver(), token_header=header
        )
        with pytest.raises(HttpStatusError, match="401"):
            await esaw.as_user(ApiToken.parse(TOKEN, esaw.origin)).whoami()
    assert [headers_of(each) for each in server.received] == [[header.lower()]]


# Byte by byte


@pytest.mark.parametrize(
    "refusal",
    [
        REFUSED,
        OWN_REFUSAL,
        answering(b"", 401, WWW_Authenticate="Bearer"),
        answering({"ErrorId": "ERR0010"}, 401, WWW_Authenticate="Negotiate"),
    ],
    ids=["no body", "error id", "challenge for a token", "error id behind a proxy"],
)
async def test_esaws_own_401_repeats_the_token_in_the_other_header_only(refusal: Script) -> None:
    async with against(refusal, answering(WHO)) as setup:
        assert (await setup.user.whoami()).user_id == "u1"
        await setup.user.whoami()
    sent = setup.server.received
    assert [headers_of(each) for each in sent] == [["authorization"], ["apitoken"], ["apitoken"]]
    assert sent[1].headers["apitoken"] == TOKEN
    assert sent[1].headers["cache-control"] == "no-cache, no-store"
    assert setup.observer.codes == [("whoami", "401"), ("whoami", "200"), ("whoami", "200")]


@pytest.mark.parametrize(
    "refusal",
    [
        answering(b"<html>Please log in</html>", 401),
        answering({"message": "Unauthorized"}, 401),
        answering(b"", 401, WWW_Authenticate='Basic realm="proxy"'),
        answering(b"", 401, WWW_Authenticate="Negotiate"),
        answering(b"", 401, WWW_Authenticate=""),
        sending(
            head(401, content_length=0, www_authenticate="Bearer")[:-2] + b"WWW-Authenticate: NTLM\r\n\r\n"
        ),
        answering(b"", 403),
        answering({"ErrorId": "ERR0010"}, 403),
        answering(b"", 407),
    ],
)
async def test_a_refusal_that_is_not_esaws_401_does_not_switch(refusal: Script) -> None:
    async with against(refusal, answering(WHO)) as setup:
        with pytest.raises(HttpStatusError):
            await setup.user.whoami()
        assert len(setup.server.received) == 1
        assert setup.esaw.token_header is None
        await setup.user.whoami()
    assert headers_of(setup.server.received[1]) == ["authorization"]


@pytest.mark.parametrize(
    ("second", "kind"),
    [
        (answering({"ErrorId": "ERR0007"}, 404), HttpStatusError),
        (answering(b"", 503), HttpStatusError),
        (answering(b"", 302, Location="https://elsewhere.example/"), UnexpectedRedirect),
        (answering(b"<html>welcome</html>"), ResponseInvalid),
        (answering({"ErrorId": "ERR0001"}), ResponseInvalid),
        (silence, EsawUnreachable),
    ],
)
async def test_the_answer_to_the_other_header_counts_and_only_a_success_is_remembered(
    second: Script, kind: type[EsawError]
) -> None:
    async with against(REFUSED, second, call_limits=CallLimits(silence=0.1)) as setup:
        with pytest.raises(kind) as met:
            await setup.user.whoami()
        assert "401" not in str(met.value)
        assert setup.esaw.token_header is None
        assert len(setup.server.received) == 2


async def test_a_proxys_401_to_the_other_header_does_not_count_as_esaws_refusal() -> None:
    async with against(OWN_REFUSAL, answering(b"<html>", 401)) as setup:
        with pytest.raises(HttpStatusError) as refused:
            await setup.user.whoami()
    assert refused.value.error_id is None


async def test_the_second_request_obeys_the_rate() -> None:
    async with against(REFUSED, answering(WHO), rate=0.5) as setup:
        await setup.user.whoami()
    assert setup.clock.slept == [2.0]


async def test_a_call_waits_for_no_other_one_that_tries_the_other_header() -> None:
    may_answer = asyncio.Event()

    async def late(writer: asyncio.StreamWriter) -> None:
        await may_answer.wait()
        await answering(WHO)(writer)

    async with against(REFUSED, REFUSED, late, answering(WHO)) as setup:
        calls = [asyncio.create_task(setup.user.whoami()) for _ in range(2)]
        ended, _ = await asyncio.wait(calls, timeout=20, return_when=asyncio.FIRST_COMPLETED)
        may_answer.set()
        await asyncio.gather(*calls)
    assert len(ended) == 1


async def test_a_call_that_was_refused_while_another_one_succeeded_with_the_same_header_is_refused() -> None:
    refused_late = asyncio.Event()

    async def late(writer: asyncio.StreamWriter) -> None:
        await refused_late.wait()
        await REFUSED(writer)

    async with against(late, answering(WHO)) as setup:
        first = asyncio.create_task(setup.user.whoami())
        await setup.server.arrived.wait()
        await setup.user.whoami()
        refused_late.set()
        with pytest.raises(HttpStatusError, match="401"):
            await first
    assert [headers_of(each) for each in setup.server.received] == [["authorization"]] * 2


async def test_a_refused_download_is_opened_with_the_other_header() -> None:
    async with against(REFUSED, answering(b"%PDF-", Content_Disposition="attachment")) as setup:
        assert await whole_file(setup.user) == b"%PDF-"
        assert setup.esaw.token_header is None
    assert [headers_of(each) for each in setup.server.received] == [["authorization"], ["apitoken"]]


async def test_an_envelope_shows_the_header_too() -> None:
    async with against(answering(an_envelope())) as setup:
        await setup.user.envelope(an_envelope()["Id"])
        assert setup.esaw.token_header is TokenHeader.BEARER

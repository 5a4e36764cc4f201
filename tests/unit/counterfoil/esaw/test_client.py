"""
The client against a server that answers exactly the bytes that are wanted: requests, answers, every way to
fail.
"""

import asyncio
import json
from contextlib import AsyncExitStack
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest

from counterfoil.esaw import (
    ApiToken,
    CallLimits,
    EsawClient,
    EsawError,
    EsawUnreachable,
    HttpStatusError,
    RateLimited,
    ResponseInvalid,
    TransferBroken,
    UnexpectedRedirect,
    new_http_client,
)
from counterfoil.esaw.errors import OriginMismatch
from counterfoil.esaw.transport import EsawCall, SecretHeaders
from counterfoil.resources import EnvelopeStatus
from counterfoil.untrusted.large_answers import LARGE_ANSWERS, SMALL_BYTES
from tests.support.builders import AClock
from tests.support.servers.scripted_esaw import (
    ENVELOPE,
    START,
    TOKEN,
    ClientSetup,
    RecordingObserver,
    Script,
    against,
    an_envelope,
    answering,
    head,
    running,
    sending,
    server_tls,
    silence,
    then_closing,
    then_cutting,
)

WHO = {"UserId": "u1", "Email": "sender@example.com", "GivenName": "Sina", "Surname": "Sender"}


# What is sent


async def test_the_token_goes_in_the_authorization_header_and_nowhere_else() -> None:
    async with against(answering(WHO)) as setup:
        who = await setup.user.whoami()
    request = setup.server.received[0]
    assert (who.user_id, who.email) == ("u1", "sender@example.com")
    assert (request.method, request.target) == ("GET", "/Api/v6/authorization/whoami")
    assert [name for name, value in request.headers.items() if TOKEN in value] == ["authorization"]
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["cache-control"] == "no-cache, no-store"


async def test_the_client_knows_the_key_of_the_last_call_that_esaw_answered() -> None:
    answers = (answering(WHO), answering(b"", 403), answering(WHO), answering(b'"25.52"'), answering(b"<p>"))
    async with against(*answers) as setup:
        other, known = ApiToken.parse("another" * 9, setup.esaw.origin), [setup.esaw.last_accepted]
        await setup.user.whoami()
        known.append(setup.esaw.last_accepted)
        first = setup.clock.monotonic()
        setup.clock.advance(minutes=1)
        with pytest.raises(HttpStatusError):
            await setup.esaw.as_user(other).whoami()
        known.append(setup.esaw.last_accepted)
        await setup.esaw.as_user(other).whoami()
        await setup.esaw.version()
        with pytest.raises(ResponseInvalid):
            await setup.user.whoami()
        known.append(setup.esaw.last_accepted)
    one, two = (setup.user.token.fingerprint, first), (other.fingerprint, first + 60)
    assert known == [None, one, one, two]


async def test_the_version_is_asked_for_without_a_token() -> None:
    async with against(answering({"Version": "25.52"})) as setup:
        assert await setup.esaw.version() == "25.52"
    assert setup.server.received[0].target == "/Api/v6/system/version"
    assert "authorization" not in setup.server.received[0].headers


@pytest.mark.parametrize(
    ("operation", "target"),
    [
        ("files", f"/Api/v6/envelope/{ENVELOPE}/files"),
        ("configuration", f"/Api/v6/envelope/{ENVELOPE}/configuration"),
        ("history", f"/Api/v6/envelope/{ENVELOPE}/history"),
    ],
)
async def test_each_part_of_an_envelope_has_its_path(operation: str, target: str) -> None:
    async with against(answering({"MetaData": None, "Documents": None})) as setup:
        await getattr(setup.user, operation)(ENVELOPE.upper())
    assert setup.server.received[0].target == target
    assert setup.observer.codes == [(operation, "200")]


@pytest.mark.parametrize("path", ["/esaw", "/esaw/", "/a/b//"])
async def test_a_base_url_may_have_a_path_as_on_premise(path: str) -> None:
    async with against(answering(an_envelope()), path=path) as setup:
        assert (await setup.user.envelope(ENVELOPE)).status is EnvelopeStatus.COMPLETED
    assert setup.server.received[0].target == f"{path.rstrip('/')}/Api/v6/envelope/{ENVELOPE}"


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "esaw.example.com",
        "ftp://esaw.example.com",
        "https://",
        "https://u:p@esaw.example.com",
        "https://e/?a=b",
        "https://e/#a",
    ],
)
async def test_a_base_url_that_could_send_a_token_astray_is_refused(base_url: str) -> None:
    async with new_http_client() as http:
        with pytest.raises(ValueError, match="base URL"):
            EsawClient(base_url, http=http, clock=AClock(START), observe=RecordingObserver())


@pytest.mark.parametrize(
    "envelope", ["", "../../file/x", f"{ENVELOPE}/files", f"{ENVELOPE}?a=b", "%2e%2e", "1a2b"]
)
async def test_an_envelope_id_that_is_no_guid_never_reaches_a_url(envelope: str) -> None:
    async with against(answering({})) as setup:
        for operation in ("envelope", "files", "configuration", "history"):
            with pytest.raises(ValueError, match="GUID"):
                await getattr(setup.user, operation)(envelope)
    assert setup.server.received == []


async def test_find_asks_by_status_and_time_in_utc() -> None:
    hit = {"Id": ENVELOPE, "Status": "Completed", "Name": "Lease", "MetaData": None}
    async with against(answering({"Envelopes": [hit]})) as setup:
        east = datetime(2026, 7, 2, 12, tzinfo=timezone(timedelta(hours=2)))
        found = await setup.user.find(status=EnvelopeStatus.COMPLETED, start=east, end=None)
    request = setup.server.received[0]
    assert (request.method, request.target) == ("POST", "/Api/v6/envelope/find")
    assert request.headers["content-type"] == "application/json"
    assert json.loads(request.body) == {"Status": "Completed", "StartDate": "2026-07-02T10:00:00Z"}
    assert [(each.id, each.status) for each in found] == [(ENVELOPE, EnvelopeStatus.COMPLETED)]


async def test_find_without_hits_is_empty_in_each_form_of_the_answer() -> None:
    async with against(answering({"Envelopes": None}), answering({"Envelopes": []})) as setup:
        for _ in range(2):
            assert await setup.user.find(status=EnvelopeStatus.COMPLETED, start=START, end=START) == ()


async def test_find_takes_no_time_without_a_zone() -> None:
    async with against(answering({})) as setup:
        with pytest.raises(ValueError, match="zone"):
            await setup.user.find(status=EnvelopeStatus.COMPLETED, start=START.replace(tzinfo=None), end=None)


async def test_one_connection_serves_many_calls() -> None:
    async with against(answering(WHO)) as setup:
        for _ in range(5):
            await setup.user.whoami()
    assert setup.server.connections == 1


async def test_a_cookie_of_one_user_is_not_sent_for_another() -> None:
    async with against(answering(WHO, Set_Cookie="session=first-user; Path=/")) as setup:
        await setup.user.whoami()
        await setup.esaw.as_user(ApiToken.parse("another" * 9, setup.esaw.origin)).whoami()
    assert all("cookie" not in each.headers for each in setup.server.received)


async def test_a_netrc_of_the_machine_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    async with against(answering(b'"25.52"')) as setup:
        await setup.esaw.version()
    assert "authorization" not in setup.server.received[0].headers


async def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(answering(b'"25.52"')) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        async with new_http_client() as http:
            esaw = EsawClient(
                "http://esaw.invalid", http=http, clock=AClock(START), observe=RecordingObserver()
            )
            assert await esaw.version() == "25.52"
    assert proxy.received[0].target == "http://esaw.invalid/Api/v6/system/version"


# What is answered


async def problem_of(setup: ClientSetup) -> EsawError:
    """The problem that asking who it is ends in."""
    with pytest.raises(EsawError) as met:
        await setup.user.whoami()
    return met.value


V6_ERROR = {"ErrorId": "ERR0007", "Message": "ERR0007 - gone", "TraceId": "f35aad06-1111"}
V4_ERROR = {"ErrorId": "ERR0010", "Message": "no", "SupportId": "f35aad06-2222", "ThrownException": None}


@pytest.mark.parametrize(
    ("script", "status", "error_id", "text"),
    [
        (answering(V6_ERROR, 404), 404, "ERR0007", "eSAW answered 404 ERR0007 (MissingEnvelope)."),
        (answering(V4_ERROR, 403), 403, "ERR0010", "eSAW answered 403 ERR0010 (NotAllowedForUser)."),
        (answering({"ErrorId": "ERR9999"}, 400), 400, "ERR9999", "eSAW answered 400 ERR9999."),
        (answering({"error": "invalid_token"}, 403), 403, None, "eSAW answered 403."),
        (answering(b"", 401), 401, None, "eSAW answered 401."),
        (answering(b"<html>Bad gateway</html>", 502), 502, None, "eSAW answered 502."),
        (answering(b'{"ErrorId": ', 500), 500, None, "eSAW answered 500."),
        (answering(b"\xff\xfe", 500), 500, None, "eSAW answered 500."),
        (answering([1, 2], 500), 500, None, "eSAW answered 500."),
        (
            answering(b'{"ErrorId":"ERR0007", "Message":"' + b"x" * 70_000 + b'"}', 500),
            500,
            None,
            "eSAW answered 500.",
        ),
        (then_closing(sending(head(503, content_length=100) + b"{")), 503, None, "eSAW answered 503."),
    ],
)
async def test_an_error_status_is_reported_with_what_its_body_says(
    script: Script, status: int, error_id: str | None, text: str
) -> None:
    async with against(script) as setup:
        problem = await problem_of(setup)
    assert isinstance(problem, HttpStatusError)
    assert (problem.status, problem.error_id, str(problem)) == (status, error_id, text)
    assert set(setup.observer.codes) == {("whoami", str(status))}


@pytest.mark.parametrize(("error", "trace_id"), [(V6_ERROR, "f35aad06-1111"), (V4_ERROR, "f35aad06-2222")])
async def test_a_trace_id_is_kept_for_support_but_not_reported(error: object, trace_id: str) -> None:
    async with against(answering(error, 500)) as setup:
        problem = await problem_of(setup)
    assert isinstance(problem, HttpStatusError)
    assert problem.trace_id == trace_id
    assert trace_id not in str(problem) + repr(problem)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_refused_and_the_token_stays_here(status: int) -> None:
    async with running(answering(WHO)) as elsewhere:
        location = f"{elsewhere.url}/login?session=private"
        async with against(answering(b"", status, Location=location)) as setup:
            problem = await problem_of(setup)
    assert isinstance(problem, UnexpectedRedirect)
    assert str(problem) == f"eSAW redirects API calls to {elsewhere.url}; correct the base URL."
    assert elsewhere.received == []
    assert len(setup.server.received) == 1
    assert setup.observer.codes == [("whoami", str(status))]


@pytest.mark.parametrize(
    "location", ["/login", "//evil.example/x", "https://u:p@evil.example/", "https://a b/", ""]
)
async def test_the_target_of_a_redirect_is_named_only_when_it_is_a_plain_address(location: str) -> None:
    async with against(answering(b"", 302, Location=location)) as setup:
        problem = await problem_of(setup)
    assert str(problem) == "eSAW redirects API calls to another place; correct the base URL."


@pytest.mark.parametrize(
    ("script", "text"),
    [
        (answering(b"<html>Log in</html>"), "it is HTML, not JSON"),
        (answering(b""), "it is empty"),
        (answering(b"", 204), "it is empty"),
        (answering(b'{"UserId": '), "it is no JSON"),
        (answering({"Email": "a@example.com"}), "missing required field `UserId`"),
        (answering(b'{"UserId":"' + b"x" * 2000 + b'"}'), "it is longer than "),
        (answering(b"\x1f\x8b", Content_Encoding="gzip"), "it is compressed"),
    ],
)
async def test_an_answer_that_is_not_what_was_promised_is_unreadable(script: Script, text: str) -> None:
    async with against(script, call_limits=CallLimits(max_json_bytes=1000)) as setup:
        problem = await problem_of(setup)
    assert isinstance(problem, ResponseInvalid)
    assert str(problem).startswith("eSAW's answer to whoami can't be used: ")
    assert text in str(problem)
    assert setup.observer.codes == [("whoami", "unreadable")]


@pytest.mark.parametrize("other", [ENVELOPE.replace("0", "1"), "", "no guid"])
async def test_an_answer_about_another_envelope_is_not_believed(other: str) -> None:
    async with against(answering(an_envelope(Id=other))) as setup:
        with pytest.raises(ResponseInvalid, match="about another envelope"):
            await setup.user.envelope(ENVELOPE)


@pytest.mark.parametrize("same", [ENVELOPE.upper(), ENVELOPE.replace("-", "")])
async def test_the_same_id_in_another_spelling_is_believed(same: str) -> None:
    async with against(answering(an_envelope(Id=same))) as setup:
        assert (await setup.user.envelope(ENVELOPE)).id == same


# What never arrives


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (then_closing(sending()), "cut"),
        (then_cutting(sending()), "cut"),
        (then_closing(sending(b"SSH-2.0-OpenSSH_9.6\r\n")), "cut"),
        (then_cutting(sending(head(200, content_length=10))), "cut"),
        (silence, "timeout"),
    ],
)
async def test_a_connection_without_an_answer_is_unreachable(script: Script, kind: str) -> None:
    async with against(script, call_limits=CallLimits(silence=0.1)) as setup:
        problem = await problem_of(setup)
    assert isinstance(problem, EsawUnreachable)
    assert problem.kind == kind
    assert setup.observer.codes == [("whoami", "unreachable")]


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", "the response is not HTTP"),
        (head(200, content_length="2\r\nContent-Length: 3"), "Duplicate Content-Length"),
        (b"HTTP/1.1 200 OK\n\n", "the response has lines without CR"),
    ],
)
async def test_an_answer_that_is_not_http_has_its_fault_in_the_message(answer: bytes, fault: str) -> None:
    async with against(then_closing(sending(answer))) as setup:
        problem = await problem_of(setup)
    assert str(problem) == (
        f"The connection to eSAW was cut, or what answers there does not speak HTTP ({fault})."
    )


async def test_no_bytes_of_an_answer_that_is_not_http_are_in_the_message() -> None:
    for answer in (
        head(200, x_a="\0hostile"),
        head(200, content_length="hostile"),
        b"HTTP/1.1 hostile\r\n\r\n",
        head(200, x_a="hostile" * 20_000),
    ):
        async with against(then_closing(sending(answer))) as setup:
            problem = await problem_of(setup)
        assert isinstance(problem, EsawUnreachable)
        assert "hostile" not in str(problem)


async def test_a_server_that_trickles_can_not_hold_a_call_indefinitely() -> None:
    async def trickle(writer: asyncio.StreamWriter) -> None:
        writer.write(head(200, content_length=1_000_000))
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with against(trickle, call_limits=CallLimits(answer=0.1)) as setup:
        problem = await problem_of(setup)
    assert isinstance(problem, EsawUnreachable)
    assert problem.kind == "timeout"


async def test_a_port_where_nobody_listens_is_unreachable() -> None:
    async with running(silence) as gone:
        pass
    observer = RecordingObserver()
    async with new_http_client() as http:
        esaw = EsawClient(gone.url, http=http, clock=AClock(START), observe=observer)
        with pytest.raises(EsawUnreachable, match="No connection to eSAW") as met:
            await esaw.version()
    assert met.value.kind == "connect"
    assert observer.codes == [("version", "unreachable")]


async def test_a_certificate_that_is_not_trusted_is_reported_as_such(tmp_path: Path) -> None:
    server, _ = server_tls(tmp_path)
    async with running(answering(b'"1"'), tls=server) as esaw_server, new_http_client() as http:
        esaw = EsawClient(esaw_server.url, http=http, clock=AClock(START), observe=RecordingObserver())
        with pytest.raises(EsawUnreachable, match="check its certificate") as met:
            await esaw.version()
    assert met.value.kind == "tls"
    assert esaw_server.received == []


async def test_an_authority_of_ones_own_can_be_trusted(tmp_path: Path) -> None:
    server, trusting = server_tls(tmp_path)
    async with (
        running(answering(b'"25.52"'), tls=server) as esaw_server,
        new_http_client(verify=trusting) as http,
    ):
        esaw = EsawClient(esaw_server.url, http=http, clock=AClock(START), observe=RecordingObserver())
        assert await esaw.version() == "25.52"


async def test_a_proxy_that_refuses_is_reported_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(answering(b"", 403)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        async with new_http_client() as http:
            esaw = EsawClient(
                "https://esaw.invalid", http=http, clock=AClock(START), observe=RecordingObserver()
            )
            with pytest.raises(EsawUnreachable, match="proxy") as met:
                await esaw.version()
    assert met.value.kind == "proxy"
    assert [each.method for each in proxy.received] == ["CONNECT"]


@pytest.mark.parametrize("limits", [CallLimits(silence=0.05), CallLimits(silence=0.2, answer=0.2)])
async def test_when_all_connections_are_taken_the_error_does_not_blame_esaw(limits: CallLimits) -> None:
    async with running(silence) as server, httpx.AsyncClient(limits=httpx.Limits(max_connections=1)) as http:
        patient = EsawClient(server.url, http=http, clock=AClock(START), observe=RecordingObserver())
        hasty = EsawClient(
            server.url,
            http=http,
            clock=AClock(START),
            observe=RecordingObserver(),
            call_limits=limits,
        )
        first = asyncio.create_task(patient.version())
        await server.arrived.wait()
        with pytest.raises(EsawUnreachable) as met:
            await hasty.version()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
    assert met.value.kind == "busy"


async def test_an_esaw_of_one_namespace_that_hangs_takes_the_connections_of_no_other_namespace() -> None:
    async with (
        running(silence) as hanging,
        running(answering(b'"1"')) as healthy,
        new_http_client(connections=4, share=lambda _: 3) as http,
    ):
        sales, legal = (
            EsawClient(url, http=http, clock=AClock(START), observe=RecordingObserver(), namespace=name)
            for url, name in ((hanging.url, "sales"), (healthy.url, "legal"))
        )
        waiting = [asyncio.create_task(sales.version()) for _ in range(8)]
        await asyncio.sleep(0.1)
        async with asyncio.timeout(20):
            assert await legal.version() == "1"
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_call_that_is_cancelled_is_not_counted() -> None:
    async with against(silence) as setup:
        call = asyncio.create_task(setup.user.whoami())
        await setup.server.arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert setup.observer.calls == []


# Lengths


@pytest.mark.parametrize(
    "surplus", [b"x", b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n" + b'{"UserId":"2"}']
)
async def test_bytes_after_an_answer_break_it_and_are_not_read_as_the_next(surplus: bytes) -> None:
    whole = head(200, content_length=14) + b'{"UserId":"1"}'
    async with against(sending(whole + surplus), answering({"UserId": "3"})) as setup:
        problem = await problem_of(setup)
        assert isinstance(problem, TransferBroken)
        assert problem.kind == "long"
        assert (await setup.user.whoami()).user_id == "3"


async def test_bytes_after_an_error_are_not_read_as_the_next_answer_either() -> None:
    async with against(
        sending(head(401, content_length=0) + head(200, content_length=2) + b"{}"), answering(WHO)
    ) as setup:
        problem = await problem_of(setup)
        assert isinstance(problem, HttpStatusError)
        assert problem.status == 401
        await setup.user.whoami()


async def test_an_answer_that_is_shorter_than_declared_is_broken() -> None:
    async with against(then_closing(sending(head(200, content_length=100) + b'{"UserId":"1"}'))) as setup:
        problem = await problem_of(setup)
    assert isinstance(problem, TransferBroken)
    assert problem.kind == "short"
    assert setup.observer.codes == [("whoami", "unreadable")]


# Pauses and rates


@pytest.mark.parametrize("header", ["30", format_datetime(START + timedelta(seconds=30), usegmt=True)])
@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_pauses_all_users_of_the_organization(header: str, status: int) -> None:
    async with against(answering(b"", status, Retry_After=header), answering(WHO)) as setup:
        problem = await problem_of(setup)
        assert isinstance(problem, HttpStatusError)
        assert problem.retry_after == 30.0

        other = setup.esaw.as_user(ApiToken.parse("another" * 9, setup.esaw.origin))
        with pytest.raises(RateLimited) as paused:
            await other.whoami()
        assert paused.value.until == START + timedelta(seconds=30)
        with pytest.raises(RateLimited):
            async with setup.user.download("f1"):
                pass
        with pytest.raises(RateLimited):
            await setup.esaw.version()
        assert len(setup.server.received) == 1

        setup.clock.advance(seconds=30)
        await other.whoami()
    assert setup.observer.codes == [("whoami", str(status)), ("whoami", "200")]


async def test_one_organizations_pause_is_not_anothers() -> None:
    async with against(answering(b"", 429, Retry_After=30)) as busy, against(answering(WHO)) as calm:
        await problem_of(busy)
        await calm.user.whoami()


async def test_calls_keep_to_the_rate_of_their_organization() -> None:
    async with against(answering(WHO), rate=2) as setup:
        for _ in range(5):
            await setup.user.whoami()
    assert setup.clock.slept == [0.5, 0.5, 0.5]


async def test_the_metrics_record_how_long_esaw_took() -> None:
    async with against(answering(WHO), clock=AClock(START, step=0.25)) as setup:
        await setup.user.whoami()
    # The clock is read twice.
    assert setup.observer.calls == [("whoami", "200", 0.25)]


def test_times_in_the_bounds_are_those_of_the_manual() -> None:
    call_limits = CallLimits()
    assert (call_limits.connect, call_limits.silence, call_limits.max_retry_after) == (10, 60, 3600)
    assert (call_limits.max_json_bytes, call_limits.max_error_bytes) == (8 * 1024**2, 64 * 1024)


ELSEWHERE = "https://elsewhere.example"


async def test_a_token_of_another_origin_is_sent_nowhere() -> None:
    token = ApiToken.parse(TOKEN, ELSEWHERE)
    call = EsawCall("version", "GET", "system/version")
    async with against(answering({})) as setup:
        with pytest.raises(OriginMismatch) as refused:
            setup.esaw.as_user(token)
        with pytest.raises(OriginMismatch):
            await setup.esaw.version(token)
        with pytest.raises(OriginMismatch):
            await setup.esaw.request(call, token, lambda body: body)
        with pytest.raises(OriginMismatch):
            async with setup.esaw.download(call, token):
                pass
    assert setup.server.received == []
    assert TOKEN not in str(refused.value)
    assert ELSEWHERE in str(refused.value)


@pytest.mark.parametrize("origin", [None, ELSEWHERE])
async def test_a_form_or_header_with_a_secret_of_another_origin_is_sent_nowhere(origin: str | None) -> None:
    form = EsawCall("token", "POST", "/token", form={"client_secret": "s"}, secret_origin=origin)
    basic = EsawCall("token", "POST", "/token", authorization="Basic czpz", secret_origin=origin)
    plain = EsawCall("whoami", "GET", "authorization/whoami")
    async with against(answering({})) as setup:
        for call in (form, basic):
            with pytest.raises(OriginMismatch):
                await setup.esaw.request(call, None, lambda body: body)
            with pytest.raises(OriginMismatch):
                await setup.esaw.exchange(call, SecretHeaders(), most=100)
        with pytest.raises(OriginMismatch):
            await setup.esaw.exchange(plain, SecretHeaders({"ApiToken": TOKEN}, origin), most=100)
    assert setup.server.received == []


async def test_the_wait_for_the_memory_of_a_large_answer_is_no_fault_of_esaw() -> None:
    body = json.dumps({"MetaData": "x" * 2 * SMALL_BYTES}).encode()
    limits = CallLimits(answer=1.0)
    async with against(answering(body), call_limits=limits) as setup, AsyncExitStack() as stack:
        grow = await stack.enter_async_context(LARGE_ANSWERS.reading(setup.user.transport.origin))
        await grow(2 * SMALL_BYTES)
        asked = asyncio.create_task(setup.user.configuration(ENVELOPE))
        await asyncio.sleep(1.5)
        await stack.aclose()
        assert (await asked).metadata == "x" * 2 * SMALL_BYTES


class CountingClock(AClock):
    """A clock that counts how often it is read."""

    reads = 0

    def monotonic(self) -> float:
        self.reads += 1
        return super().monotonic()


async def test_an_answer_in_many_parts_needs_no_more_reads_of_the_clock_than_one_in_one_part() -> None:
    body = json.dumps({"MetaData": "x" * 1000}).encode()
    parts = b"".join(b"1\r\n%c\r\n" % each for each in body) + b"0\r\n\r\n"
    many = sending(head(Transfer_Encoding="chunked") + parts)
    reads = []
    for script in (answering(body), many):
        clock = CountingClock()
        async with against(script, clock=clock) as setup:
            assert (await setup.user.configuration(ENVELOPE)).metadata == "x" * 1000
        reads.append(clock.reads)
    assert reads[0] == reads[1]

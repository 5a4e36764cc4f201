"""OAuth: the address for the browser, and the one call that brings a key; nothing of it is ever shown."""

import base64
import json
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from counterfoil.clock import WallClock
from counterfoil.esaw import (
    EsawClient,
    EsawError,
    HttpStatusError,
    ResponseInvalid,
    UnexpectedRedirect,
    new_http_client,
)
from counterfoil.esaw.errors import OriginMismatch
from counterfoil.esaw.oauth import (
    AuthorizationCodeGrant,
    authorize_url,
    new_secret,
    request_access_token,
)
from counterfoil.http_client import code_challenge
from counterfoil.resources.organization import ClientAuthentication
from sandbox.esaw import Behaviour, Browser, OAuthApp, StandIn, User
from tests.support.servers.scripted_esaw import (
    TOKEN,
    ClientSetup,
    RecordingObserver,
    Script,
    against,
    answering,
    sending,
    then_closing,
)
from tests.support.servers.standin_peers import anna

SECRETS = ("s3cret+/=&", "the-code", "v" * 43)
GRANT = AuthorizationCodeGrant(
    client_id="client",
    client_secret=SECRETS[0],
    code=SECRETS[1],
    redirect_uri="https://pages.example.com/oauth/acme/return",
    origin="https://esaw.example.com",
    verifier=SECRETS[2],
)


def at(setup: ClientSetup, grant: AuthorizationCodeGrant) -> AuthorizationCodeGrant:
    """Return the grant with a client secret of this eSAW."""
    return replace(grant, origin=setup.esaw.origin)


async def redeemed(script: Script) -> object:
    async with against(script) as setup:
        return await request_access_token(setup.esaw, "/ApiToken/Retrieve", at(setup, GRANT))


def test_the_address_has_what_the_code_grant_and_pkce_ask_for() -> None:
    url = authorize_url(
        "https://esaw.example.com/",
        "/Auth/Authorize",
        client_id="a&b",
        redirect_uri="https://pages.example.com/oauth/acme/return",
        state="s",
        verifier="v" * 43,
    )
    assert url.startswith("https://esaw.example.com/Auth/Authorize?")
    assert parse_qs(urlsplit(url).query) == {
        "response_type": ["code"],
        "client_id": ["a&b"],
        "redirect_uri": ["https://pages.example.com/oauth/acme/return"],
        "state": ["s"],
        "code_challenge": [code_challenge("v" * 43)],
        "code_challenge_method": ["S256"],
    }


def test_without_a_verifier_the_address_has_nothing_of_pkce() -> None:
    url = authorize_url(
        "https://esaw.example.com", "/a", client_id="a", redirect_uri="https://r", state="s", verifier=None
    )
    assert set(parse_qs(urlsplit(url).query)) == {"response_type", "client_id", "redirect_uri", "state"}


def test_the_challenge_is_that_of_the_rfc() -> None:
    # RFC 7636, appendix B
    assert (
        code_challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
        == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    )


def test_states_and_verifiers_are_long_and_never_the_same() -> None:
    assert len({new_secret() for _ in range(100)}) == 100
    assert {len(new_secret()) for _ in range(10)} == {43}


async def test_a_code_is_exchanged_by_one_form_below_the_base_url() -> None:
    async with against(answering({"access_token": TOKEN, "token_type": "bearer"})) as setup:
        token = await request_access_token(setup.esaw, "/ApiToken/Retrieve", at(setup, GRANT))

    assert token.reveal() == TOKEN
    (sent,) = setup.server.received
    assert (sent.method, sent.target) == ("POST", "/ApiToken/Retrieve")
    assert sent.headers["content-type"] == "application/x-www-form-urlencoded"
    assert "authorization" not in sent.headers
    assert parse_qs(sent.body.decode()) == {
        "grant_type": ["authorization_code"],
        "code": ["the-code"],
        "redirect_uri": ["https://pages.example.com/oauth/acme/return"],
        "client_id": ["client"],
        "client_secret": ["s3cret+/=&"],
        "code_verifier": ["v" * 43],
    }
    assert setup.observer.codes == [("token", "200")]


async def test_basic_carries_the_client_form_encoded_in_the_header_and_not_in_the_form() -> None:
    grant = replace(GRANT, client_id="cli ent:1", client_authentication=ClientAuthentication.BASIC)
    async with against(answering({"access_token": TOKEN})) as setup:
        await request_access_token(setup.esaw, "/ApiToken/Retrieve", at(setup, grant))
    (sent,) = setup.server.received
    scheme, _, credentials = sent.headers["authorization"].partition(" ")
    assert (scheme, base64.b64decode(credentials)) == ("Basic", b"cli+ent%3A1:s3cret%2B%2F%3D%26")
    assert set(parse_qs(sent.body.decode())) == {"grant_type", "code", "redirect_uri", "code_verifier"}
    assert not [secret for secret in SECRETS if secret in repr(grant)]


async def test_a_refusal_of_the_client_is_not_repeated_with_another_header() -> None:
    grant = replace(GRANT, client_authentication=ClientAuthentication.BASIC)
    async with against(answering({"error": "invalid_client"}, 401)) as setup:
        with pytest.raises(HttpStatusError):
            await request_access_token(setup.esaw, "/ApiToken/Retrieve", at(setup, grant))
    assert len(setup.server.received) == 1


async def exchanged(standin: StandIn, user: User, app: OAuthApp, grant: AuthorizationCodeGrant) -> str:
    """Go through the stand-in as a browser does; return the token that the code is worth."""
    url = authorize_url(
        standin.url,
        "/Auth/Authorize",
        client_id=grant.client_id,
        redirect_uri=grant.redirect_uri,
        state="s",
        verifier=grant.verifier,
    )
    async with Browser(followed_prefix=standin.url) as browser:
        await browser.open(url)
        await browser.press("Sign in", email=user.email, password=user.password)
        if "Allow" in browser.page.buttons:
            await browser.press("Allow")
        back = httpx.URL(browser.page.url).params
    assert "code" in back, dict(back)
    async with new_http_client() as http:
        esaw = EsawClient(standin.url, http=http, clock=WallClock(), observe=RecordingObserver())
        with_code = replace(grant, code=back["code"], origin=esaw.origin)
        return (await request_access_token(esaw, "/ApiToken/Retrieve", with_code)).reveal()


@pytest.mark.parametrize("authentication", ClientAuthentication)
@pytest.mark.parametrize("verifier", [SECRETS[2], None])
async def test_each_kind_of_token_endpoint_gives_a_token(
    authentication: ClientAuthentication, verifier: str | None
) -> None:
    behaviour = Behaviour(client_authentications=(authentication.value,), refuses_pkce=verifier is None)
    async with StandIn(behaviour=behaviour) as standin:
        app = standin.register_app(name="Counterfoil", redirect_uris=[GRANT.redirect_uri])
        grant = replace(
            GRANT,
            client_id=app.client_id,
            client_secret=app.client_secret,
            verifier=verifier,
            client_authentication=authentication,
        )
        token = await exchanged(standin, anna(standin), app, grant)
        assert token.isalnum()

        other = {ClientAuthentication.BODY, ClientAuthentication.BASIC} - {authentication}
        refusing = replace(grant, client_authentication=other.pop())
        with pytest.raises(HttpStatusError) as refused:
            await exchanged(standin, anna(standin), app, refusing)
        assert (refused.value.status, refused.value.error_id) == (401, "invalid_client")


@pytest.mark.parametrize(
    ("script", "problem", "error_id"),
    [
        (answering({"error": "invalid_grant"}, 400), HttpStatusError, "invalid_grant"),
        (answering({"error": "invalid_client"}, 401), HttpStatusError, "invalid_client"),
        (answering({"error": "<script>"}, 400), HttpStatusError, None),
        (answering(b"", 302, Location="https://evil.example/"), UnexpectedRedirect, None),
        (answering(b"<html>log in</html>"), ResponseInvalid, None),
        (answering(b"{"), ResponseInvalid, None),
        (answering({}), ResponseInvalid, None),
        (answering({"access_token": None}), ResponseInvalid, None),
        (answering({"access_token": ["x"]}), ResponseInvalid, None),
        (answering({"access_token": ""}), ResponseInvalid, None),
        (answering({"access_token": "two words"}), ResponseInvalid, None),
        (answering({"access_token": "x" * 5000}), ResponseInvalid, None),
        (then_closing(sending()), EsawError, None),
    ],
)
async def test_every_other_failure_is_a_named_problem(
    script: Script, problem: type[EsawError], error_id: str | None
) -> None:
    with pytest.raises(problem) as refused:
        await redeemed(script)
    assert getattr(refused.value, "error_id", None) == error_id


async def test_neither_code_nor_secret_nor_token_is_in_any_text() -> None:
    echo = {
        "error": SECRETS[0],
        "ErrorId": SECRETS[1],
        "access_token": TOKEN + " ",
        "Message": "".join(SECRETS),
    }
    for script in (
        answering(echo, 400),
        answering({**echo, "access_token": TOKEN + " x"}),
        answering(json.dumps(echo).encode()[:-1]),
    ):
        with pytest.raises(EsawError) as refused:
            await redeemed(script)
        shown = f"{refused.value!r} {refused.value} {GRANT!r}"
        assert not [secret for secret in (*SECRETS, TOKEN) if secret in shown]


@pytest.mark.parametrize("authentication", ClientAuthentication)
async def test_a_client_secret_of_another_origin_is_sent_nowhere(
    authentication: ClientAuthentication,
) -> None:
    async with against(answering({"access_token": TOKEN})) as setup:
        with pytest.raises(OriginMismatch):
            await request_access_token(
                setup.esaw, "/ApiToken/Retrieve", replace(GRANT, client_authentication=authentication)
            )
    assert setup.server.received == []


async def test_a_token_belongs_to_the_origin_that_issued_it() -> None:
    async with against(answering({"access_token": TOKEN})) as setup:
        token = await request_access_token(setup.esaw, "/ApiToken/Retrieve", at(setup, GRANT))
    assert token.origin == setup.server.url

"""OAuth: the address for the browser, and the one call that brings a key; nothing of it is ever shown."""

import json
from urllib.parse import parse_qs, urlsplit

import pytest

from counterfoil.esaw import EsawError, HttpStatusError, ResponseInvalid, UnexpectedRedirect
from counterfoil.esaw.oauth import (
    AuthorizationCodeGrant,
    authorize_url,
    code_challenge,
    new_secret,
    request_access_token,
)
from tests.support.servers.scripted_esaw import TOKEN, Script, against, answering, sending, then_closing

SECRETS = ("s3cret+/=&", "the-code", "v" * 43)
GRANT = AuthorizationCodeGrant(
    client_id="client",
    client_secret=SECRETS[0],
    code=SECRETS[1],
    redirect_uri="https://pages.example.com/oauth/acme/return",
    verifier=SECRETS[2],
)


async def redeemed(script: Script) -> object:
    async with against(script) as setup:
        return await request_access_token(setup.esaw, "/ApiToken/Retrieve", GRANT)


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
        token = await request_access_token(setup.esaw, "/ApiToken/Retrieve", GRANT)

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
async def test_whatever_else_comes_is_a_problem_with_a_name(
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

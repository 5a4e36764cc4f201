"""The stand-in eSAW: consent, codes and tokens, as RFC 6749 and 7636 want them."""

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncIterator
from urllib.parse import quote_plus

import httpx
import pytest

from sandbox.esaw import Behaviour, Browser, BrowserPage, OAuthApp, StandIn, User
from sandbox.esaw.core.behaviour import ClientAuthentication
from tests.support.builders import AClock
from tests.support.servers.standin_peers import bruno, client_of

RETURN = "https://op.example.com/oauth/acme/return"
VERIFIER = "a-verifier-of-43-characters-or-somewhat-more-0123"
S256 = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")


@pytest.fixture
def clock() -> AClock:
    return AClock()


@pytest.fixture
async def esaw(clock: AClock) -> AsyncIterator[StandIn]:
    async with StandIn(now=clock.now) as running:
        yield running


@pytest.fixture
def app(esaw: StandIn) -> OAuthApp:
    return esaw.register_app(name="Counterfoil", redirect_uris=[RETURN])


@pytest.fixture
async def browser(esaw: StandIn) -> AsyncIterator[Browser]:
    async with Browser(followed_prefix=esaw.url) as window:
        yield window


@pytest.fixture
async def back_end(esaw: StandIn) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=esaw.url, timeout=10, trust_env=False, verify=False) as client:
        yield client


def link(esaw: StandIn, app: OAuthApp, **changed: str | list[str]) -> str:
    """The authorization URL; a parameter that is changed to an empty list is left out."""
    query: dict[str, str | list[str]] = {
        "response_type": "code",
        "client_id": app.client_id,
        "redirect_uri": app.redirect_uris[0],
        "state": "s+1 &=ü",
        **changed,
    }
    return str(httpx.URL(f"{esaw.url}/Auth/Authorize", params=query))


async def sign_in(browser: Browser, user: User, url: str) -> BrowserPage:
    await browser.open(url)
    return await browser.press("Sign in", email=user.email, password=user.password)


async def a_code(esaw: StandIn, app: OAuthApp, user: User, **changed: str) -> str:
    async with Browser(followed_prefix=esaw.url) as browser:
        await sign_in(browser, user, link(esaw, app, **changed))
        if browser.page.buttons:
            await browser.press("Allow")
        return httpx.URL(browser.page.url).params["code"]


def order(app: OAuthApp, code: str, /, **changed: str) -> dict[str, str]:
    return {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": app.redirect_uris[0],
        "client_id": app.client_id,
        "client_secret": app.client_secret,
        **changed,
    }


async def redeem(back_end: httpx.AsyncClient, app: OAuthApp, code: str, /, **changed: str) -> httpx.Response:
    return await back_end.post("/ApiToken/Retrieve", data=order(app, code, **changed))


async def a_token(esaw: StandIn, back_end: httpx.AsyncClient, app: OAuthApp, user: User) -> str:
    answer = await redeem(back_end, app, await a_code(esaw, app, user))
    return str(answer.raise_for_status().json()["access_token"])


async def status_with(esaw: StandIn, token: str) -> int:
    async with client_of(esaw, token) as api:
        return (await api.get("authorization/whoami")).status_code


def callback_parameters(page: BrowserPage) -> dict[str, str]:
    """The parameters that the browser would pass to the application."""
    assert page.status == 302
    assert page.url.startswith(f"{RETURN}?")
    return dict(httpx.URL(page.url).params)


# The way to a code


async def test_an_esaw_that_refuses_pkce_answers_so_at_the_redirect_and_at_the_token_endpoint(
    esaw: StandIn, app: OAuthApp, user: User, browser: Browser, back_end: httpx.AsyncClient
) -> None:
    esaw.set_behaviour(Behaviour(refuses_pkce=True))
    page = await browser.open(link(esaw, app, code_challenge=S256, code_challenge_method="S256"))
    assert callback_parameters(page)["error"] == "invalid_request"
    refused = await redeem(back_end, app, await a_code(esaw, app, user), code_verifier=VERIFIER)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_request")
    assert (await redeem(back_end, app, await a_code(esaw, app, user))).status_code == 200


async def test_an_esaw_may_keep_the_state(esaw: StandIn, app: OAuthApp, user: User, browser: Browser) -> None:
    esaw.set_behaviour(Behaviour(returns_state=False))
    await sign_in(browser, user, link(esaw, app))
    assert set(callback_parameters(await browser.press("Allow"))) == {"code"}


@pytest.mark.parametrize("way", ["Body", "Basic"])
async def test_an_esaw_may_take_the_client_in_one_place_only(
    esaw: StandIn, app: OAuthApp, user: User, back_end: httpx.AsyncClient, way: ClientAuthentication
) -> None:
    esaw.set_behaviour(Behaviour(client_authentications=(way,)))
    form = order(app, await a_code(esaw, app, user))
    bare = {name: value for name, value in form.items() if not name.startswith("client_")}
    auth = (quote_plus(app.client_id), quote_plus(app.client_secret))
    in_header = await back_end.post("/ApiToken/Retrieve", data=bare, auth=auth)
    in_form = await back_end.post("/ApiToken/Retrieve", data=form)
    statuses = {"Body": in_form.status_code, "Basic": in_header.status_code}
    assert statuses == {each: 200 if each == way else 401 for each in ("Body", "Basic")}


async def test_a_user_without_a_session_logs_in_allows_and_returns_with_code_and_state(
    esaw: StandIn, app: OAuthApp, user: User, browser: Browser
) -> None:
    assert (await browser.open(link(esaw, app))).buttons == ["Sign in"]
    page = await sign_in(browser, user, link(esaw, app))
    assert page.buttons == ["Sign out", "Allow", "Deny"]
    assert "Counterfoil at op.example.com" in page.text
    came_back = callback_parameters(await browser.press("Allow"))
    assert came_back.keys() == {"code", "state"}
    assert came_back["state"] == "s+1 &=ü"


async def test_who_has_a_session_and_has_allowed_is_asked_nothing(
    esaw: StandIn, app: OAuthApp, user: User, browser: Browser
) -> None:
    await sign_in(browser, user, link(esaw, app))
    first = callback_parameters(await browser.press("Allow"))
    again = callback_parameters(await browser.open(link(esaw, app)))
    assert first["code"] != again["code"]


async def test_consent_is_asked_for_each_user_and_each_application(
    esaw: StandIn, app: OAuthApp, user: User, browser: Browser
) -> None:
    await a_code(esaw, app, user)
    other_app = esaw.register_app(name="Other", redirect_uris=[RETURN])
    page = await sign_in(browser, user, link(esaw, other_app))
    assert page.title == "Allow Other?"
    async with Browser(followed_prefix=esaw.url) as others:
        assert (await sign_in(others, bruno(esaw), link(esaw, app))).title == "Allow Counterfoil?"


async def test_a_refusal_comes_back_as_access_denied_and_is_asked_again_next_time(
    esaw: StandIn, app: OAuthApp, user: User, browser: Browser
) -> None:
    await sign_in(browser, user, link(esaw, app))
    came_back = callback_parameters(await browser.press("Deny"))
    assert (came_back["error"], came_back["state"]) == ("access_denied", "s+1 &=ü")
    assert "code" not in came_back
    assert "Allow" in (await browser.open(link(esaw, app))).buttons


@pytest.mark.parametrize(
    "uri",
    [
        RETURN + "/",
        RETURN + "?x=1",
        RETURN + "#x",
        RETURN.upper(),
        RETURN.replace("https", "http"),
        RETURN.replace("op.example.com", "op.example.com.evil.example"),
        RETURN.replace("op.example.com", "op.example.com@evil.example"),
        RETURN.rpartition("/")[0],
        "",
    ],
)
async def test_a_redirect_uri_that_differs_in_one_character_is_never_gone_to(
    esaw: StandIn, app: OAuthApp, user: User, browser: Browser, uri: str
) -> None:
    await a_code(esaw, app, user)
    page = await browser.open(link(esaw, app, redirect_uri=uri))
    assert (page.status, page.title) == (400, "This request cannot be trusted")
    assert "location" not in page.headers


@pytest.mark.parametrize(
    "changed",
    [
        {"client_id": "nobody"},
        {"client_id": []},
        {"redirect_uri": []},
        {"redirect_uri": [RETURN, RETURN]},
    ],
)
async def test_a_request_of_nobody_known_ends_on_a_page(
    esaw: StandIn, app: OAuthApp, browser: Browser, changed: dict[str, str | list[str]]
) -> None:
    page = await browser.open(link(esaw, app, **changed))
    assert (page.status, page.title) == (400, "This request cannot be trusted")


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": []}, "invalid_request"),
        ({"scope": ["a", "b"]}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge": S256, "code_challenge_method": "S512"}, "invalid_request"),
    ],
)
async def test_other_mistakes_are_reported_to_the_application(
    esaw: StandIn, app: OAuthApp, browser: Browser, changed: dict[str, str | list[str]], error: str
) -> None:
    came_back = callback_parameters(await browser.open(link(esaw, app, **changed)))
    assert (came_back["error"], came_back["state"]) == (error, "s+1 &=ü")


async def test_the_redirect_uri_may_have_its_own_query(esaw: StandIn, user: User) -> None:
    app = esaw.register_app(name="Counterfoil", redirect_uris=[f"{RETURN}?tenant=a%26b"])
    async with Browser(followed_prefix=esaw.url) as browser:
        await sign_in(browser, user, link(esaw, app))
        came_back = callback_parameters(await browser.press("Allow"))
    assert came_back.keys() == {"tenant", "code", "state"}
    assert came_back["tenant"] == "a&b"


async def test_the_way_back_may_name_the_issuer(
    esaw: StandIn, app: OAuthApp, user: User, browser: Browser
) -> None:
    esaw.set_behaviour(Behaviour(sends_issuer=True))
    await sign_in(browser, user, link(esaw, app))
    assert callback_parameters(await browser.press("Deny"))["iss"] == esaw.url
    await browser.open(link(esaw, app))
    assert callback_parameters(await browser.press("Allow"))["iss"] == esaw.url


async def test_a_consent_without_the_token_of_its_form_is_not_taken(
    esaw: StandIn, app: OAuthApp, user: User, browser: Browser
) -> None:
    await sign_in(browser, user, link(esaw, app))
    page = await browser.press("Allow", __RequestVerificationToken="forged")
    assert page.status == 400
    assert "Allow" in (await browser.open(link(esaw, app))).buttons


async def test_names_are_shown_and_not_interpreted(esaw: StandIn) -> None:
    evil = "<script>alert(1)</script>'\"><img src=x onerror=alert(1)>"
    app = esaw.register_app(name=evil, redirect_uris=[RETURN])
    mallory = esaw.add_user(email="m@example.com", given_name=evil, surname=evil)
    async with Browser(followed_prefix=esaw.url) as browser:
        page = await sign_in(browser, mallory, link(esaw, app, state=evil))
    assert page.document.xpath("//script | //img") == []
    assert evil in page.title
    assert evil in page.text


@pytest.mark.parametrize(
    "uri", ["", "/oauth/return", "op.example.com/x", RETURN + "#x", "javascript:alert(1)"]
)
async def test_a_redirect_uri_that_is_none_cannot_be_registered(esaw: StandIn, uri: str) -> None:
    with pytest.raises(ValueError, match="redirect URI"):
        esaw.register_app(name="Counterfoil", redirect_uris=[uri])


# From the code to the token


async def test_a_code_is_worth_the_users_api_token(
    esaw: StandIn, app: OAuthApp, user: User, back_end: httpx.AsyncClient
) -> None:
    answer = await redeem(back_end, app, await a_code(esaw, app, user))
    body = answer.json()
    assert body == {"access_token": body["access_token"], "token_type": "bearer"}
    assert re.fullmatch(r"[A-Za-z0-9]{66}", body["access_token"])
    assert body["access_token"] != user.token
    assert answer.headers["Cache-Control"] == "no-store"
    async with client_of(esaw, body["access_token"]) as api:
        assert (await api.get("authorization/whoami")).json()["UserId"] == user.user_id


async def test_the_token_sees_what_the_users_other_tokens_see(
    esaw: StandIn, app: OAuthApp, user: User, back_end: httpx.AsyncClient
) -> None:
    envelope, draft = esaw.add_envelope(sender=user), esaw.add_draft(owner=user)
    async with client_of(esaw, await a_token(esaw, back_end, app, user)) as api:
        assert (await api.get(f"envelope/{envelope}")).status_code == 200
        assert (await api.post("draft/send", json={"DraftId": draft})).status_code == 200
    async with client_of(esaw, await a_token(esaw, back_end, app, bruno(esaw))) as api:
        assert (await api.get(f"envelope/{envelope}")).status_code == 404


async def test_each_code_of_a_user_is_worth_the_same_token(
    esaw: StandIn, app: OAuthApp, user: User, back_end: httpx.AsyncClient
) -> None:
    tokens = {await a_token(esaw, back_end, app, user) for _ in range(2)}
    assert len(tokens) == 1


async def test_another_application_gets_another_token(
    esaw: StandIn, app: OAuthApp, user: User, back_end: httpx.AsyncClient
) -> None:
    other = esaw.register_app(name="Other", redirect_uris=[RETURN])
    assert await a_token(esaw, back_end, app, user) != await a_token(esaw, back_end, other, user)


@pytest.mark.parametrize("encoded", [True, False])
async def test_basic_authentication_takes_the_secret_form_encoded(
    esaw: StandIn, app: OAuthApp, user: User, back_end: httpx.AsyncClient, encoded: bool
) -> None:
    secret = quote_plus(app.client_secret) if encoded else app.client_secret
    form = order(app, await a_code(esaw, app, user))
    del form["client_secret"]
    answer = await back_end.post("/ApiToken/Retrieve", data=form, auth=(app.client_id, secret))
    assert answer.status_code == (200 if encoded else 401)
    assert ("WWW-Authenticate" in answer.headers) is not encoded


@pytest.mark.parametrize(
    ("changed", "status", "error"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client"),
        ({"client_secret": "ü"}, 401, "invalid_client"),
        ({"client_secret": ""}, 401, "invalid_client"),
        ({"client_id": "nobody"}, 401, "invalid_client"),
        ({"grant_type": ""}, 400, "invalid_request"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"code": ""}, 400, "invalid_request"),
        ({"code": "x" * 43}, 400, "invalid_grant"),
        ({"redirect_uri": ""}, 400, "invalid_request"),
        ({"redirect_uri": RETURN + "/"}, 400, "invalid_grant"),
        ({"code_verifier": VERIFIER}, 400, "invalid_grant"),
    ],
)
async def test_what_is_wrong_is_reported_as_the_standard_says(
    esaw: StandIn,
    app: OAuthApp,
    user: User,
    back_end: httpx.AsyncClient,
    changed: dict[str, str],
    status: int,
    error: str,
) -> None:
    answer = await redeem(back_end, app, await a_code(esaw, app, user), **changed)
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert answer.json().keys() == {"error", "error_description"}
    assert answer.headers["Cache-Control"] == "no-store"


async def test_the_order_must_be_a_form_with_each_name_once(
    esaw: StandIn, app: OAuthApp, user: User, back_end: httpx.AsyncClient
) -> None:
    form = order(app, await a_code(esaw, app, user))
    in_json = await back_end.post("/ApiToken/Retrieve", json=form)
    in_query = await back_end.post("/ApiToken/Retrieve", params=form)
    twice = await back_end.post("/ApiToken/Retrieve", data={**form, "code": [form["code"], form["code"]]})
    both = await back_end.post(
        "/ApiToken/Retrieve", data=form, auth=(app.client_id, quote_plus(app.client_secret))
    )
    for answer in (in_json, in_query, twice, both):
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    got = await back_end.get("/ApiToken/Retrieve", params=form)
    assert (got.status_code, got.headers["Allow"]) == (405, "POST")
    assert (await back_end.post("/apitoken/retrieve", data=form)).status_code == 200


async def test_a_code_that_is_replayed_is_refused_and_its_token_disabled(
    esaw: StandIn, app: OAuthApp, user: User, back_end: httpx.AsyncClient
) -> None:
    code = await a_code(esaw, app, user)
    token = (await redeem(back_end, app, code)).json()["access_token"]
    assert await status_with(esaw, token) == 200
    replay = await redeem(back_end, app, code)
    assert (replay.status_code, replay.json()["error"]) == (400, "invalid_grant")
    assert await status_with(esaw, token) == 401
    assert await status_with(esaw, user.token) == 200


async def test_of_two_who_redeem_a_code_at_once_one_gets_a_token(
    esaw: StandIn, app: OAuthApp, user: User, back_end: httpx.AsyncClient
) -> None:
    code = await a_code(esaw, app, user)
    answers = await asyncio.gather(*(redeem(back_end, app, code) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200, 400, 400, 400, 400]


async def test_a_code_of_another_application_is_worth_nothing_and_not_spent(
    esaw: StandIn, app: OAuthApp, user: User, back_end: httpx.AsyncClient
) -> None:
    thief = esaw.register_app(name="Thief", redirect_uris=[RETURN])
    code = await a_code(esaw, app, user)
    assert (await redeem(back_end, thief, code)).json()["error"] == "invalid_grant"
    assert (await redeem(back_end, app, code)).status_code == 200


async def test_a_code_is_spent_by_a_wrong_try_of_its_owner(
    esaw: StandIn, app: OAuthApp, user: User, back_end: httpx.AsyncClient
) -> None:
    code = await a_code(esaw, app, user)
    await redeem(back_end, app, code, redirect_uri=RETURN + "/")
    assert (await redeem(back_end, app, code)).json()["error"] == "invalid_grant"


async def test_a_wrong_secret_does_not_spend_the_code(
    esaw: StandIn, app: OAuthApp, user: User, back_end: httpx.AsyncClient
) -> None:
    code = await a_code(esaw, app, user)
    await redeem(back_end, app, code, client_secret="wrong")
    assert (await redeem(back_end, app, code)).status_code == 200


@pytest.mark.parametrize(("seconds", "status"), [(60, 200), (61, 400)])
async def test_a_code_lives_for_a_minute(
    esaw: StandIn,
    app: OAuthApp,
    user: User,
    back_end: httpx.AsyncClient,
    clock: AClock,
    seconds: int,
    status: int,
) -> None:
    code = await a_code(esaw, app, user)
    clock.advance(seconds=seconds)
    assert (await redeem(back_end, app, code)).status_code == status


async def test_the_lifetime_of_codes_can_be_set(
    esaw: StandIn, app: OAuthApp, user: User, back_end: httpx.AsyncClient, clock: AClock
) -> None:
    esaw.set_behaviour(Behaviour(code_lifetime=5))
    code = await a_code(esaw, app, user)
    clock.advance(seconds=6)
    assert (await redeem(back_end, app, code)).json()["error"] == "invalid_grant"


@pytest.mark.parametrize(
    ("asked", "verifier", "status"),
    [
        ({"code_challenge": S256, "code_challenge_method": "S256"}, VERIFIER, 200),
        ({"code_challenge": S256, "code_challenge_method": "S256"}, VERIFIER[:-1] + "x", 400),
        ({"code_challenge": S256, "code_challenge_method": "S256"}, "", 400),
        ({"code_challenge": S256, "code_challenge_method": "S256"}, S256, 400),
        ({"code_challenge": VERIFIER, "code_challenge_method": "plain"}, VERIFIER, 200),
        ({"code_challenge": VERIFIER}, VERIFIER, 200),
        ({"code_challenge": VERIFIER}, "ü" * 43, 400),
        ({}, VERIFIER, 400),
    ],
)
async def test_a_promised_proof_must_be_given(
    esaw: StandIn,
    app: OAuthApp,
    user: User,
    back_end: httpx.AsyncClient,
    asked: dict[str, str],
    verifier: str,
    status: int,
) -> None:
    code = await a_code(esaw, app, user, **asked)
    assert (await redeem(back_end, app, code, code_verifier=verifier)).status_code == status


async def test_a_server_may_ignore_proofs(
    esaw: StandIn, app: OAuthApp, user: User, back_end: httpx.AsyncClient
) -> None:
    esaw.set_behaviour(Behaviour(ignores_pkce=True))
    code = await a_code(esaw, app, user, code_challenge=S256, code_challenge_method="S256")
    assert (await redeem(back_end, app, code, code_verifier="anything")).status_code == 200


# The end of a token


async def test_a_withdrawn_consent_disables_the_token_of_that_application_only(
    esaw: StandIn, app: OAuthApp, user: User, back_end: httpx.AsyncClient, browser: Browser
) -> None:
    other = esaw.register_app(name="Other", redirect_uris=[RETURN])
    token, others = await a_token(esaw, back_end, app, user), await a_token(esaw, back_end, other, user)
    esaw.withdraw_consent(user, app.client_id)
    assert await status_with(esaw, token) == 401
    assert await status_with(esaw, others) == 200
    assert "Allow" in (await sign_in(browser, user, link(esaw, app))).buttons
    await browser.press("Allow")


async def test_a_withdrawn_consent_invalidates_the_unused_codes(
    esaw: StandIn, app: OAuthApp, user: User, back_end: httpx.AsyncClient
) -> None:
    code = await a_code(esaw, app, user)
    esaw.withdraw_consent(user, app.client_id)
    assert (await redeem(back_end, app, code)).json()["error"] == "invalid_grant"
    with pytest.raises(ValueError, match="has not allowed"):
        esaw.withdraw_consent(user, app.client_id)


async def test_a_disabled_token_is_replaced_at_the_next_code_without_a_question(
    esaw: StandIn, app: OAuthApp, user: User, back_end: httpx.AsyncClient, browser: Browser
) -> None:
    token = await a_token(esaw, back_end, app, user)
    esaw.revoke(user)
    assert await status_with(esaw, token) == 401
    code = callback_parameters(await sign_in(browser, user, link(esaw, app)))["code"]
    renewed = (await redeem(back_end, app, code)).json()["access_token"]
    assert renewed != token
    assert await status_with(esaw, renewed) == 200


async def test_a_user_who_is_shut_out_gets_no_token(
    esaw: StandIn, app: OAuthApp, user: User, back_end: httpx.AsyncClient, browser: Browser
) -> None:
    code = await a_code(esaw, app, user)
    esaw.set_active(user, active=False)
    assert (await redeem(back_end, app, code)).json()["error"] == "invalid_grant"
    assert (await sign_in(browser, user, link(esaw, app))).buttons == ["Sign in"]


# What goes wrong


async def test_the_token_endpoint_fails_on_demand_as_every_other(
    esaw: StandIn, app: OAuthApp, user: User, back_end: httpx.AsyncClient
) -> None:
    esaw.fault("retrieve", status=500, times=1)
    esaw.fault("retrieve", garbage="html", times=1)
    esaw.fault("retrieve", garbage="json", times=1)
    esaw.fault("retrieve", lacks="access_token", times=1)
    broken = await redeem(back_end, app, await a_code(esaw, app, user))
    html = await redeem(back_end, app, await a_code(esaw, app, user))
    garbage = await redeem(back_end, app, await a_code(esaw, app, user))
    lacking = await redeem(back_end, app, await a_code(esaw, app, user))
    assert broken.status_code == 500
    assert (html.status_code, html.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert garbage.text.startswith("{")
    with pytest.raises(ValueError, match="Expecting"):
        garbage.json()
    assert lacking.json() == {"token_type": "bearer"}


async def test_the_token_may_be_another_users_on_demand(
    esaw: StandIn, app: OAuthApp, user: User, back_end: httpx.AsyncClient
) -> None:
    other = bruno(esaw)
    esaw.fault("retrieve", token_of=other.user_id, times=1)
    async with client_of(esaw, await a_token(esaw, back_end, app, user)) as api:
        assert (await api.get("authorization/whoami")).json()["UserId"] == other.user_id
    with pytest.raises(ValueError, match="has no user"):
        esaw.fault("retrieve", token_of="nobody")


async def test_an_answer_that_is_lost_has_spent_the_code(
    esaw: StandIn, app: OAuthApp, user: User, back_end: httpx.AsyncClient
) -> None:
    code = await a_code(esaw, app, user)
    esaw.fault("retrieve", lose_answer=True, times=1, id=app.client_id)
    with pytest.raises(httpx.RemoteProtocolError):
        await redeem(back_end, app, code)
    assert (await redeem(back_end, app, code)).json()["error"] == "invalid_grant"


# What is remembered


async def test_no_code_token_or_secret_is_kept_in_the_records(
    esaw: StandIn, app: OAuthApp, user: User, back_end: httpx.AsyncClient
) -> None:
    code = await a_code(esaw, app, user, code_challenge=S256, code_challenge_method="S256")
    token = (await redeem(back_end, app, code, code_verifier=VERIFIER)).json()["access_token"]
    await status_with(esaw, token)
    await redeem(back_end, app, code, client_id=app.client_secret)
    kept = repr(esaw.requests())
    for secret in (code, token, app.client_secret, VERIFIER, user.password):
        assert secret not in kept
    assert [(each.operation, each.id) for each in esaw.requests(id=app.client_id)][-1] == (
        "retrieve",
        app.client_id,
    )


async def test_a_visitor_is_known_in_the_records_once_signed_in(
    esaw: StandIn, app: OAuthApp, user: User
) -> None:
    await a_code(esaw, app, user)
    assert [each.user_id for each in esaw.requests("authorize")] == [None, user.user_id, user.user_id]


@pytest.mark.parametrize("name", ["client_secret", "code", "access_token", "code_verifier"])
async def test_a_secret_in_a_query_is_flagged(
    esaw: StandIn, app: OAuthApp, back_end: httpx.AsyncClient, name: str
) -> None:
    await back_end.post("/ApiToken/Retrieve", params={name: "hush"}, data=order(app, "x"))
    recorded = esaw.requests("retrieve")[0]
    assert recorded.token_in_url
    assert "hush" not in repr(recorded)


async def test_a_request_without_secrets_in_its_query_is_not_flagged(
    esaw: StandIn, app: OAuthApp, user: User, back_end: httpx.AsyncClient
) -> None:
    await a_token(esaw, back_end, app, user)
    assert not any(each.token_in_url for each in esaw.requests())

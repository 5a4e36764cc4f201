"""Cookies: valid for one browser, one period and one purpose; and the addresses of the redirects."""

import base64
import os
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from counterfoil.resources import Organization
from counterfoil.sealing import Sealing
from tests.support.builders import AClock, an_organization
from webhook.pages.cookies import FlowCookies, FormSession, OAuthFlow, PageUrls, flow_cookie, form_cookie

DRAFT = "0f9c1c2e-4b1d-4c58-9a57-6d1f0a3b2c4d"
ANNA = "7a0f9b9e-0000-4000-8000-000000000001"


@pytest.fixture
def clock() -> AClock:
    return AClock()


@pytest.fixture
def flows(tmp_path: Path, clock: AClock) -> FlowCookies:
    (tmp_path / "k1").write_bytes(base64.b64encode(os.urandom(32)))
    return FlowCookies(Sealing(tmp_path), clock, flow_seconds=300, form_seconds=3600)


def a_flow(flows: FlowCookies, organization: str = "acme") -> OAuthFlow:
    return flows.begin(organization, ANNA, "0123456789abcdef", DRAFT)


def carried(flows: FlowCookies, flow: OAuthFlow) -> dict[str, str]:
    return {flow.cookie: flows.seal(flow)}


def test_the_browser_that_left_comes_back_with_its_flow(flows: FlowCookies) -> None:
    flow = a_flow(flows)
    assert flows.read_flow(carried(flows, flow), "acme", flow.state) == flow


def test_another_browser_has_no_flow(flows: FlowCookies) -> None:
    assert flows.read_flow({}, "acme", a_flow(flows).state) is None


def test_a_state_of_another_flow_is_none_of_this_browsers(flows: FlowCookies) -> None:
    mine, other = a_flow(flows), a_flow(flows)
    assert flows.read_flow(carried(flows, mine), "acme", other.state) is None
    # Not even under the other one's name.
    assert flows.read_flow({flow_cookie(other.state): flows.seal(mine)}, "acme", other.state) is None


def test_a_person_who_left_before_the_click_was_recorded_is_asked(flows: FlowCookies) -> None:
    own = flows.begin("acme", ANNA, "0123456789abcdef", DRAFT, is_own_click=True)
    assert flows.read_flow(carried(flows, own), "acme", own.state) == own
    assert not a_flow(flows).is_own_click


def test_after_five_minutes_it_is_too_late(flows: FlowCookies, clock: AClock) -> None:
    flow = a_flow(flows)
    clock.advance(seconds=299)
    assert flows.read_flow(carried(flows, flow), "acme", flow.state) is not None
    clock.advance(seconds=1)
    assert flows.read_flow(carried(flows, flow), "acme", flow.state) is None


def test_a_flow_of_one_organization_is_worth_nothing_at_another(flows: FlowCookies) -> None:
    flow = a_flow(flows)
    assert flows.read_flow(carried(flows, flow), "globex", flow.state) is None


def test_a_cookie_that_was_changed_anywhere_is_no_cookie(flows: FlowCookies) -> None:
    flow = a_flow(flows)
    value = flows.seal(flow)
    for place in range(0, len(value), 7):
        changed = value[:place] + ("A" if value[place] != "A" else "B") + value[place + 1 :]
        assert flows.read_flow({flow.cookie: changed}, "acme", flow.state) in (None, flow)


@pytest.mark.parametrize("value", ["", "x", "=", "ä" * 40, "A" * 5000, "AAAA" * 20])
def test_nonsense_in_a_cookie_is_no_flow(flows: FlowCookies, value: str) -> None:
    flow = a_flow(flows)
    assert flows.read_flow({flow.cookie: value}, "acme", flow.state) is None
    assert flows.read_form_session({form_cookie(DRAFT): value}, "acme", DRAFT, ANNA) is None


def test_neither_state_nor_verifier_can_be_read_out_of_a_cookie(flows: FlowCookies) -> None:
    flow = a_flow(flows)
    raw = base64.urlsafe_b64decode(flows.seal(flow) + "==")
    assert flow.verifier.encode() not in raw
    assert ANNA.encode() not in raw


def test_a_flow_is_no_session_and_a_session_no_flow(flows: FlowCookies) -> None:
    flow = a_flow(flows)
    session = flows.begin_form(flow, DRAFT)
    assert flows.read_form_session({form_cookie(DRAFT): flows.seal(flow)}, "acme", DRAFT, ANNA) is None
    assert flows.read_flow({flow.cookie: flows.seal(session)}, "acme", flow.state) is None


def test_a_form_is_good_for_its_draft_and_its_user_for_an_hour(flows: FlowCookies, clock: AClock) -> None:
    session = flows.begin_form(a_flow(flows), DRAFT)
    cookies = {form_cookie(DRAFT): flows.seal(session)}
    other = DRAFT.replace("0", "1")

    def found(draft: str, user_id: str) -> FormSession | None:
        return flows.read_form_session(cookies, "acme", draft, user_id)

    assert found(DRAFT, ANNA) == session
    assert found(DRAFT, ANNA.upper()) == session
    assert found(DRAFT, f"{{{ANNA}}}") == session
    assert found(DRAFT, "somebody-else") is None
    assert found(other, ANNA) is None
    assert flows.read_form_session({form_cookie(other): flows.seal(session)}, "acme", other, ANNA) is None
    clock.advance(hours=1)
    assert found(DRAFT, ANNA) is None


def test_a_form_without_this_sessions_token_is_not_taken(flows: FlowCookies) -> None:
    session, other = (flows.begin_form(a_flow(flows), DRAFT) for _ in range(2))
    assert flows.is_valid_form_token(session, flows.form_token(session))
    assert not flows.is_valid_form_token(session, flows.form_token(other))
    assert not flows.is_valid_form_token(session, "")
    assert not flows.is_valid_form_token(session, "x" * 60)
    assert not flows.is_valid_form_token(session, flows.seal(session))


def organization(public_url: str = "https://pages.example.com/cf/", **before_send: object) -> Organization:
    return an_organization(
        oauth={
            "clientID": "c",
            "clientSecretRef": {"name": "s", "key": "k"},
            "publicURL": public_url,
        },
        beforeSend=before_send,
    )


def urls(public_url: str = "https://pages.example.com/cf/", **before_send: object) -> PageUrls:
    return PageUrls(organization(public_url, **before_send), public_url)


def test_the_redirect_uri_is_always_the_same_text() -> None:
    assert urls().redirect_uri == "https://pages.example.com/cf/oauth/acme/return"
    assert urls("https://pages.example.com").redirect_uri == "https://pages.example.com/oauth/acme/return"


def test_cookies_go_only_where_they_are_needed_and_only_over_https(flows: FlowCookies) -> None:
    flow = a_flow(flows)
    cookie = urls().set_cookie(flow, "v", seconds=300)
    assert cookie == (
        f"__Secure-{flow.cookie}=v; Path=/cf/oauth/acme/return; Max-Age=300; HttpOnly; SameSite=Lax; Secure"
    )
    assert "Secure" not in urls("http://127.0.0.1:8081").set_cookie(flow, "v", seconds=300)
    session = flows.begin_form(flow, DRAFT)
    assert "; Path=/cf/before-send/acme/tags; " in urls().set_cookie(session, "v", seconds=60)


def test_without_https_cookies_have_no_prefix_since_browsers_would_refuse_them() -> None:
    cookies = {"counterfoil-form-1": "v"}
    assert urls("http://127.0.0.1:8081").own_cookies(cookies) == cookies
    assert urls().own_cookies(cookies) == {}


def test_without_a_configured_inbox_the_way_ends_in_esaws_own() -> None:
    assert urls().inbox == "https://esaw.example.com/Inbox/Index"


def test_the_way_ends_in_the_inbox_that_is_configured() -> None:
    assert urls(inboxURL="https://esaw.example.com/Docs?x=1").inbox == "https://esaw.example.com/Docs?x=1"


def test_an_inbox_elsewhere_is_no_page_of_esaw() -> None:
    assert urls(inboxURL="https://portal.example.com/inbox").esaw == "https://esaw.example.com"


@pytest.mark.parametrize("nasty", ["//evil.example", "https://evil.example", "\r\nX: y", "a&b=c#d", "../.."])
def test_no_parameter_can_lead_a_browser_to_another_host(nasty: str) -> None:
    for url in (urls().before_send(nasty, nasty), urls().form(nasty, nasty)):
        assert urlsplit(url).netloc == "pages.example.com"
        assert "\r" not in url
        assert "\n" not in url


def test_a_form_may_be_sent_to_us_only_wherever_the_inbox_is() -> None:
    assert urls(inboxURL="https://portal.example.com/inbox").origin == "https://pages.example.com"

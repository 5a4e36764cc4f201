"""What browsers carry: only this browser's, only in time, only for what it was made for; and where they are led."""

import base64
import os
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from counterfoil.resources import Organization
from counterfoil.sealing import Sealing
from tests.builders import AClock, an_organization
from webhook.pages.flows import Flow, Flows, Places, Session, flow_cookie, session_cookie

DRAFT = "0f9c1c2e-4b1d-4c58-9a57-6d1f0a3b2c4d"
ANNA = "7a0f9b9e-0000-4000-8000-000000000001"


@pytest.fixture
def clock() -> AClock:
    return AClock()


@pytest.fixture
def flows(tmp_path: Path, clock: AClock) -> Flows:
    (tmp_path / "k1").write_bytes(base64.b64encode(os.urandom(32)))
    return Flows(Sealing(tmp_path), clock, flow_seconds=300, form_seconds=3600)


def a_flow(flows: Flows, organization: str = "acme") -> Flow:
    return flows.begin(organization, ANNA, "0123456789abcdef", DRAFT)


def carried(flows: Flows, flow: Flow) -> dict[str, str]:
    return {flow.cookie: flows.sealed(flow)}


def test_the_browser_that_left_comes_back_with_its_flow(flows: Flows) -> None:
    flow = a_flow(flows)
    assert flows.flow_of(carried(flows, flow), "acme", flow.state) == flow


def test_another_browser_has_no_flow(flows: Flows) -> None:
    assert flows.flow_of({}, "acme", a_flow(flows).state) is None


def test_a_state_of_another_flow_is_none_of_this_browsers(flows: Flows) -> None:
    mine, other = a_flow(flows), a_flow(flows)
    assert flows.flow_of(carried(flows, mine), "acme", other.state) is None
    # Not even under the other one's name.
    assert flows.flow_of({flow_cookie(other.state): flows.sealed(mine)}, "acme", other.state) is None


def test_who_left_before_it_was_noted_whose_click_it_was_is_asked(flows: Flows) -> None:
    own = flows.begin("acme", ANNA, "0123456789abcdef", DRAFT, is_own_click=True)
    assert flows.flow_of(carried(flows, own), "acme", own.state) == own
    assert not a_flow(flows).is_own_click


def test_after_five_minutes_it_is_too_late(flows: Flows, clock: AClock) -> None:
    flow = a_flow(flows)
    clock.advance(seconds=299)
    assert flows.flow_of(carried(flows, flow), "acme", flow.state) is not None
    clock.advance(seconds=1)
    assert flows.flow_of(carried(flows, flow), "acme", flow.state) is None


def test_a_flow_of_one_organization_is_worth_nothing_at_another(flows: Flows) -> None:
    flow = a_flow(flows)
    assert flows.flow_of(carried(flows, flow), "globex", flow.state) is None


def test_a_cookie_that_was_changed_anywhere_is_no_cookie(flows: Flows) -> None:
    flow = a_flow(flows)
    value = flows.sealed(flow)
    for place in range(0, len(value), 7):
        changed = value[:place] + ("A" if value[place] != "A" else "B") + value[place + 1 :]
        assert flows.flow_of({flow.cookie: changed}, "acme", flow.state) in (None, flow)


@pytest.mark.parametrize("value", ["", "x", "=", "ä" * 40, "A" * 5000, "AAAA" * 20])
def test_nonsense_in_a_cookie_is_no_flow(flows: Flows, value: str) -> None:
    flow = a_flow(flows)
    assert flows.flow_of({flow.cookie: value}, "acme", flow.state) is None
    assert flows.session_of({session_cookie(DRAFT): value}, "acme", DRAFT, ANNA) is None


def test_neither_state_nor_verifier_can_be_read_out_of_a_cookie(flows: Flows) -> None:
    flow = a_flow(flows)
    raw = base64.urlsafe_b64decode(flows.sealed(flow) + "==")
    assert flow.verifier.encode() not in raw
    assert ANNA.encode() not in raw


def test_a_flow_is_no_session_and_a_session_no_flow(flows: Flows) -> None:
    flow = a_flow(flows)
    session = flows.open_form(flow, DRAFT)
    assert flows.session_of({session_cookie(DRAFT): flows.sealed(flow)}, "acme", DRAFT, ANNA) is None
    assert flows.flow_of({flow.cookie: flows.sealed(session)}, "acme", flow.state) is None


def test_a_form_is_good_for_its_draft_and_its_user_for_an_hour(flows: Flows, clock: AClock) -> None:
    session = flows.open_form(a_flow(flows), DRAFT)
    cookies = {session_cookie(DRAFT): flows.sealed(session)}
    other = DRAFT.replace("0", "1")

    def found(draft: str, user_id: str) -> Session | None:
        return flows.session_of(cookies, "acme", draft, user_id)

    assert found(DRAFT, ANNA) == session
    assert found(DRAFT, ANNA.upper()) == session
    assert found(DRAFT, "somebody-else") is None
    assert found(other, ANNA) is None
    assert flows.session_of({session_cookie(other): flows.sealed(session)}, "acme", other, ANNA) is None
    clock.advance(hours=1)
    assert found(DRAFT, ANNA) is None


def test_a_form_without_this_sessions_token_is_not_taken(flows: Flows) -> None:
    session, other = (flows.open_form(a_flow(flows), DRAFT) for _ in range(2))
    assert flows.is_form_of(session, flows.form_token(session))
    assert not flows.is_form_of(session, flows.form_token(other))
    assert not flows.is_form_of(session, "")
    assert not flows.is_form_of(session, "x" * 60)
    assert not flows.is_form_of(session, flows.sealed(session))


def organization(public_url: str = "https://pages.example.com/cf/", **before_send: object) -> Organization:
    return an_organization(
        oauth={
            "clientId": "c",
            "clientSecretRef": {"name": "s", "key": "k"},
            "publicURL": public_url,
        },
        beforeSend=before_send,
    )


def places(public_url: str = "https://pages.example.com/cf/", **before_send: object) -> Places:
    return Places(organization(public_url, **before_send), public_url)


def test_the_redirect_uri_is_always_the_same_text() -> None:
    assert places().redirect_uri == "https://pages.example.com/cf/oauth/acme/return"
    assert places("https://pages.example.com").redirect_uri == "https://pages.example.com/oauth/acme/return"


def test_cookies_go_only_where_they_are_needed_and_only_over_https(flows: Flows) -> None:
    flow = a_flow(flows)
    cookie = places().set_flow(flow, "v", seconds=300)
    assert cookie == (
        f"{flow.cookie}=v; Path=/cf/oauth/acme/return; Max-Age=300; HttpOnly; SameSite=Lax; Secure"
    )
    assert "Secure" not in places("http://127.0.0.1:8081").set_flow(flow, "v", seconds=300)
    session = flows.open_form(flow, DRAFT)
    assert "; Path=/cf/before-send/acme/tags; " in places().set_session(session, "v", seconds=60)


def test_the_way_ends_in_the_inbox_that_is_configured_or_at_esaw_itself() -> None:
    assert places().inbox == "https://esaw.example.com/"
    assert places(inboxURL="https://esaw.example.com/Docs?x=1").inbox == "https://esaw.example.com/Docs?x=1"


@pytest.mark.parametrize("nasty", ["//evil.example", "https://evil.example", "\r\nX: y", "a&b=c#d", "../.."])
def test_no_parameter_can_lead_a_browser_to_another_host(nasty: str) -> None:
    for url in (places().before_send(nasty, nasty), places().form(nasty, nasty)):
        assert urlsplit(url).netloc == "pages.example.com"
        assert "\r" not in url
        assert "\n" not in url


def test_a_form_may_be_sent_to_us_only_wherever_the_inbox_is() -> None:
    assert places(inboxURL="https://portal.example.com/inbox").origin == "https://pages.example.com"

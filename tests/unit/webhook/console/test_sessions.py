"""Sessions: the token travels sealed, briefly, and only in the browser that it was given to."""

import base64
from datetime import timedelta

import msgspec
import pytest

from tests.support.builders import NOON, AClock
from webhook.console.limits import ConsoleLimits
from webhook.console.sessions import (
    COOKIE,
    GUEST,
    MAX_OIDC_FLOWS,
    OIDC_FLOW,
    ConsoleSession,
    ConsoleSessions,
    ProcessCookieCipher,
    bearer_token,
    is_bearer_token,
    token_expiry,
)

HOUR, QUARTER = timedelta(hours=1), timedelta(minutes=15)


def a_token(**claims: object) -> str:
    """A JSON Web Token, as the API server makes them."""
    parts = [
        base64.urlsafe_b64encode(msgspec.json.encode(part)).decode().rstrip("=") for part in ({}, claims)
    ]
    return ".".join((*parts, "c2ln"))


def sessions(clock: AClock | None = None) -> ConsoleSessions:
    return ConsoleSessions(ProcessCookieCipher(), clock or AClock(), max_age=HOUR, idle=HOUR)


def kept(cookies: tuple[str, ...]) -> dict[str, str]:
    """Return the cookies that a browser stores from Set-Cookie headers."""
    return {each.partition("=")[0]: each.partition("=")[2].partition(";")[0] for each in cookies}


def begun(made: ConsoleSessions, user: str, token: str) -> ConsoleSession:
    """The session of somebody who never signed out."""
    return made.begin(user, token, sign_out=None)


def a_guests(made: ConsoleSessions) -> tuple[str, ...]:
    """The cookies of somebody who is not signed in yet."""
    return made.cookies(made.begin_guest())


def test_a_session_comes_back_from_its_cookies() -> None:
    made = sessions()
    session = begun(made, "jane", "secret-token")

    assert made.read(kept(made.cookies(session))) == session


def test_a_token_that_needs_several_cookies_comes_back_whole() -> None:
    made = sessions()
    session = begun(made, "jane", "t" * 9000)
    cookies = made.cookies(session)

    assert all(len(each) < 4096 for each in cookies)
    assert made.read(kept(cookies)) == session


def test_a_guests_cookie_takes_no_session_away_and_is_none() -> None:
    made = sessions()
    jane, guest = begun(made, "jane", "token"), made.begin_guest()
    cookies = {**kept(made.cookies(jane)), **kept(made.cookies(guest))}

    assert (made.read(cookies), made.guest(cookies)) == (jane, guest)
    assert made.read({f"{COOKIE}-0": cookies[GUEST]}) is None
    assert made.guest({GUEST: cookies[f"{COOKIE}-0"]}) is None


def test_every_cookie_is_kept_from_scripts_from_plain_http_and_from_other_sites() -> None:
    made = sessions()
    for cookie in (*made.cookies(begun(made, "jane", "token")), *a_guests(made), *made.expire()):
        for attribute in ("HttpOnly", "Secure", "SameSite=Strict", "Path=/"):
            assert f"; {attribute}" in cookie


def test_no_neighbour_below_the_same_domain_can_make_a_cookie_that_is_accepted_as_ours() -> None:
    made = sessions()
    for cookie in (*made.cookies(begun(made, "jane", "token")), *a_guests(made), *made.expire()):
        # Browsers take a cookie of this name from this very host only, over https, for all its paths. (RFC
        # 6265bis, 4.1.3)
        assert cookie.startswith("__Host-")
        assert "Domain" not in cookie


def test_the_token_can_not_be_read_from_the_cookie_nor_from_the_logs() -> None:
    made = sessions()
    session = begun(made, "jane", "secret-token")
    sealed = "".join(kept(made.cookies(session)).values())

    assert "secret-token" not in sealed
    assert b"secret-token" not in base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))
    assert "secret-token" not in repr(session)


def test_a_session_ends_after_its_time() -> None:
    clock = AClock()
    made = sessions(clock)
    cookies = kept(made.cookies(begun(made, "jane", "token")))
    clock.advance(hours=1)

    assert made.read(cookies) is None


def test_a_session_ends_with_its_token() -> None:
    session = begun(sessions(), "jane", a_token(exp=int(NOON.timestamp()) + 600))

    assert session.expires == NOON + timedelta(minutes=10)


def test_a_token_that_lives_longer_makes_no_longer_session() -> None:
    assert begun(sessions(), "jane", a_token(exp=int(NOON.timestamp()) + 86400)).expires == NOON + HOUR


@pytest.mark.parametrize(
    "token", ["plain", "a.b", "a.!!!.c", a_token(), a_token(exp="soon"), a_token(exp=10**30)]
)
def test_a_token_that_says_nothing_about_its_end_has_none(token: str) -> None:
    assert token_expiry(token) is None


def test_a_cookie_that_was_changed_or_made_elsewhere_is_nobodys() -> None:
    made = sessions()
    cookies = kept(made.cookies(begun(made, "jane", "token")))
    first, text = next(iter(cookies.items()))
    changed = ("B" if text.startswith("A") else "A") + text[1:]

    assert made.read({**cookies, first: changed}) is None
    assert sessions().read(cookies) is None
    assert made.read({first: "Ä!"}) is None
    assert made.read({}) is None


def test_a_form_is_good_for_its_own_session_only() -> None:
    made = sessions()
    jane, joe = begun(made, "jane", "a"), begun(made, "joe", "b")

    assert made.is_valid_form_token(jane, made.form_token(jane))
    assert not made.is_valid_form_token(joe, made.form_token(jane))
    assert not made.is_valid_form_token(jane, "")
    assert made.is_valid_form_token(jane, made.form_token(jane, "sales"), "sales")
    for scope, other in (("sales", "legal"), ("sales", ""), ("", "sales")):
        assert not made.is_valid_form_token(jane, made.form_token(jane, scope), other)
    assert not made.is_valid_form_token(joe, made.form_token(jane, "sales"), "sales")


def test_a_sealed_session_is_no_form_token() -> None:
    made = sessions()
    session = begun(made, "jane", "a")

    assert not made.is_valid_form_token(session, "".join(kept(made.cookies(session)).values()))


@pytest.mark.parametrize("text", ["", "a b", "a\r\nX: y", "ä", "x" * 101])
def test_what_can_be_no_bearer_token_comes_near_no_header(text: str) -> None:
    assert not is_bearer_token(text, limit=100)


def test_only_a_bearer_is_taken_from_a_proxy() -> None:
    assert bearer_token("Bearer abc") == "abc"
    assert bearer_token("bearer  abc ") == "abc"
    assert bearer_token("Basic abc") == ""
    assert bearer_token(None) == ""


def test_a_session_that_another_version_sealed_is_ignored() -> None:
    seal = ProcessCookieCipher()
    made = ConsoleSessions(seal, AClock(), max_age=HOUR, idle=HOUR)
    other = base64.urlsafe_b64encode(seal.seal_for("console session", b'{"old": 1}')).decode()

    assert made.read({f"{COOKIE}-0": other}) is None
    assert isinstance(made.begin_guest(), ConsoleSession)


def test_a_sign_in_with_a_provider_is_bound_to_its_state_and_this_browser_for_ten_minutes() -> None:
    clock = AClock()
    made = sessions(clock)
    flow = made.begin_oidc("/events")
    cookies = kept(made.oidc_cookies(flow, {}))

    assert made.read_oidc(cookies, flow.state) == flow
    assert made.read_oidc(cookies, made.begin_oidc("/").state) is None
    assert made.read_oidc({}, flow.state) is None
    assert made.read_oidc(dict.fromkeys(cookies, kept(a_guests(made))[GUEST]), flow.state) is None
    clock.advance(minutes=10)
    assert made.read_oidc(cookies, flow.state) is None


def test_the_cookie_of_a_sign_in_comes_along_from_the_provider_and_shows_nothing() -> None:
    made = sessions()
    flow = made.begin_oidc("/")
    for cookie in (*made.oidc_cookies(flow, {}), made.expire_oidc(flow)):
        assert cookie.startswith("__Host-")
        assert cookie.endswith("; HttpOnly; Secure; SameSite=Lax")
    assert flow.verifier not in str(made.oidc_cookies(flow, {}))
    assert flow.verifier not in repr(flow)


def test_the_longest_token_fits_into_the_cookies() -> None:
    made = sessions()
    session = begun(made, "system:serviceaccount:" + "n" * 126, "t" * ConsoleLimits().token)

    assert made.read(kept(made.cookies(session))) == session


def with_idle_timeout(clock: AClock) -> ConsoleSessions:
    return ConsoleSessions(ProcessCookieCipher(), clock, max_age=HOUR, idle=QUARTER)


def test_a_session_that_nobody_uses_ends_after_a_quarter_of_an_hour() -> None:
    clock = AClock()
    made = with_idle_timeout(clock)
    cookies = kept(made.cookies(begun(made, "jane", "token")))
    clock.advance(minutes=14)
    assert made.read(cookies) is not None
    clock.advance(minutes=1)

    assert made.read(cookies) is None


def test_each_use_extends_a_session_but_never_beyond_its_latest_end() -> None:
    clock = AClock()
    made = with_idle_timeout(clock)
    session = begun(made, "jane", "token")
    for _ in range(6):
        clock.advance(minutes=10)
        session = made.extended(session) or session

    assert session.expires == session.latest == NOON + HOUR


def test_a_session_is_extended_once_a_minute_only() -> None:
    clock = AClock()
    made = with_idle_timeout(clock)
    session = begun(made, "jane", "token")
    clock.advance(seconds=59)
    assert made.extended(session) is None
    clock.advance(seconds=1)

    assert made.extended(session) is not None


def test_the_form_on_the_sign_in_page_waits_longer_than_an_unused_session() -> None:
    assert with_idle_timeout(AClock()).begin_guest().expires == NOON + HOUR


def test_a_sign_out_ends_the_sessions_that_began_before_it_and_no_later_one() -> None:
    clock = AClock()
    made = sessions(clock)
    before = begun(made, "jane", "token")
    clock.advance(minutes=1)
    sign_out = made.sign_out_time(before)
    after = made.begin("jane", "token", sign_out=sign_out)

    assert before.is_ended_by(sign_out)
    assert not after.is_ended_by(sign_out)
    assert not before.is_ended_by(None)


def test_a_sign_out_counts_also_where_another_consoles_clock_is_ahead_or_behind() -> None:
    clock, behind = AClock(), AClock()
    behind.set_back(minutes=1)
    ahead_made, behind_made = sessions(clock), sessions(behind)
    session = begun(ahead_made, "jane", "token")

    sign_out = behind_made.sign_out_time(session)
    assert session.is_ended_by(sign_out)
    assert not behind_made.begin("jane", "token", sign_out=sign_out).is_ended_by(sign_out)


def test_a_sign_in_in_another_tab_ends_no_sign_in_until_there_are_too_many() -> None:
    clock = AClock()
    made = sessions(clock)
    browser: dict[str, str] = {}
    flows = []
    for number in range(MAX_OIDC_FLOWS + 2):
        flows.append(made.begin_oidc(f"/{number}"))
        browser |= kept(made.oidc_cookies(flows[-1], browser))
        browser = {name: value for name, value in browser.items() if value}
        clock.advance(seconds=1)

    found = [made.read_oidc(browser, each.state) for each in flows]

    assert found == [None, None, *flows[2:]]
    assert len(browser) == MAX_OIDC_FLOWS


def test_many_cookies_of_sign_ins_cost_no_more_than_those_that_a_browser_has() -> None:
    made = sessions(AClock())
    planted = {f"{OIDC_FLOW}-{number}": "A" * 100 for number in range(500)}

    cookies = made.oidc_cookies(made.begin_oidc("/"), planted)

    assert len(cookies) == MAX_OIDC_FLOWS + 1

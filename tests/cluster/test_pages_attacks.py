"""
Attacks on the pages, each one a test: a forged request gets an error page, and changes nothing.

The tests share one scene; each has its own users and drafts.
"""

import asyncio
import copy
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from http.cookiejar import CookieJar
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from counterfoil.resources import consented_sender_name
from counterfoil.sealing import Sealing
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.esaw import Behaviour, User
from sandbox.esaw.browser import Browser
from sandbox.servers.plain_http import plain_http
from tests.support.builders import AClock
from tests.support.scenes.pages import FIELDS, PASSWORD, Scene, a_tab, pages_scene
from webhook.pages.cookies import FlowCookies, form_cookie

NASTY = '"><script>alert(1)</script><img src=x onerror=alert(2)>'


@pytest.fixture(scope="module")
async def shared(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    await plane.namespace("pages-attacks")
    async with pages_scene(plane, "pages-attacks", tmp_path_factory.mktemp("pages")) as built:
        yield built


@pytest.fixture
async def scene(shared: Scene) -> AsyncIterator[Scene]:
    """The shared scene, as it was in the beginning."""
    yield shared
    shared.esaw.clear_faults()
    shared.esaw.set_behaviour(Behaviour())
    await shared.organization()


class Person:
    """A user with a browser, who has consented already."""

    def __init__(self, scene: Scene, user: User, browser: Browser) -> None:
        self.scene = scene
        self.user = user
        self.browser = browser

    @classmethod
    async def enters(cls, scene: Scene, name: str) -> "Person":
        user = scene.a_user(name)
        return cls(scene, user, await scene.consented(user))

    def draft(self, **options: Any) -> str:
        return self.scene.esaw.add_draft(owner=self.user, **options)

    def link(self, draft: str) -> str:
        return self.scene.link(draft, self.user)


def a_copy(jar: CookieJar) -> CookieJar:
    kept = CookieJar()
    for cookie in jar:
        kept.set_cookie(copy.copy(cookie))
    return kept


def says(answer: httpx.Response, status: int, kind: str) -> None:
    """The answer is a page of this kind, safe in all its headers."""
    assert answer.status_code == status, answer.text
    assert f"name this page: {kind}" in answer.text
    is_safe(answer)


def is_safe(answer: httpx.Response) -> None:
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "script" not in answer.text.lower()


# The state


async def test_coming_back_without_a_state_does_nothing(scene: Scene) -> None:
    anna = await Person.enters(scene, "Stateless")
    draft = anna.draft()
    async with a_tab(scene, anna.browser) as tab:
        back = await tab.back(anna.link(draft))
        says(await tab.get(str(back.copy_set_param("state", "made-up"))), 400, "state_missing")
        says(await tab.get(str(back.copy_remove_param("state"))), 400, "state_not_returned")
    async with a_tab(scene) as stranger:
        says(await stranger.get(str(back.copy_remove_param("state"))), 400, "state_missing")
    assert scene.esaw.sends(draft) == []


async def test_a_state_works_once_even_with_the_cookies_from_before(scene: Scene) -> None:
    anna = await Person.enters(scene, "Replay")
    draft = anna.draft()
    async with a_tab(scene, anna.browser) as tab:
        back = str(await tab.back(anna.link(draft)))
        before = a_copy(tab.http.cookies.jar)
        assert (await tab.get(back)).headers["Location"] == f"{scene.esaw.url}/Inbox/Index"
        says(await tab.get(back), 400, "state_missing")
        async with plain_http(cookies=before) as again:
            says(await again.get(back), 409, "state_used")
    assert len(scene.esaw.sends(draft)) == 1


async def test_a_state_that_comes_back_many_times_at_once_works_once(scene: Scene) -> None:
    anna = await Person.enters(scene, "Race")
    draft = anna.draft()
    async with a_tab(scene, anna.browser) as tab:
        back = str(await tab.back(anna.link(draft)))
        jars = [a_copy(tab.http.cookies.jar) for _ in range(8)]

    async def come(jar: CookieJar) -> int:
        async with plain_http(cookies=jar, timeout=60) as http:
            return (await http.get(back)).status_code

    assert sorted(await asyncio.gather(*map(come, jars))) == [303, *[409] * 7]
    assert len(scene.esaw.sends(draft)) == 1


async def test_a_way_back_is_worth_nothing_in_another_browser(scene: Scene) -> None:
    anna = await Person.enters(scene, "Elsewhere")
    draft = anna.draft()
    async with a_tab(scene, anna.browser) as tab, a_tab(scene) as other:
        back = str(await tab.back(anna.link(draft)))
        says(await other.get(back), 400, "state_missing")
        assert scene.esaw.sends(draft) == []

        assert (await tab.get(back)).status_code == 303, "and it is not used up by that"


async def test_what_was_begun_too_long_ago_is_not_finished(scene: Scene) -> None:
    anna = await Person.enters(scene, "Late")
    draft, user_id = anna.draft(), anna.user.user_id
    sender = consented_sender_name("acme", user_id)

    def flows(ago: timedelta) -> FlowCookies:
        clock = AClock(datetime.now(UTC) - ago)
        return FlowCookies(
            Sealing(scene.local_environment.sealing_keys), clock, flow_seconds=300, form_seconds=3600
        )

    async with a_tab(scene, anna.browser) as tab:
        code = (await tab.back(anna.link(draft))).params["code"]
        # The younger one gets as far as the code, which belongs to another verifier.
        for minutes, kind in ((5, "state_missing"), (4, "code_refused")):
            begun = flows(timedelta(minutes=minutes, seconds=1))
            flow = begun.begin("acme", user_id, sender, draft)
            back = f"{scene.pages.public}/oauth/acme/return?state={flow.state}&code={code}"
            answer = await tab.get(back, Cookie=f"{flow.cookie}={begun.seal(flow)}")
            says(answer, 400, kind)
        for minutes, status in ((61, 303), (59, 200)):
            begun = flows(timedelta(minutes=minutes))
            session = begun.begin_form(begun.begin("acme", user_id, sender, draft), draft)
            form_url = f"{scene.pages.public}/before-send/acme/tags?draftId={draft}&userId={user_id}"
            answer = await tab.get(form_url, Cookie=f"{form_cookie(draft)}={begun.seal(session)}")
            assert answer.status_code == status
    assert scene.esaw.sends(draft) == []


async def test_nobody_can_be_made_to_finish_what_another_began(scene: Scene) -> None:
    """The attacker's own code in the victim's browser (RFC 9700, 4.7), with the victim's state or the
    attacker's."""
    anna, mallory = await Person.enters(scene, "Victim"), await Person.enters(scene, "Mallory")
    draft = anna.draft()
    async with a_tab(scene, anna.browser) as victim, a_tab(scene, mallory.browser) as attacker:
        his = await attacker.back(mallory.link(mallory.draft()))
        says(await victim.get(str(his)), 400, "state_missing")
        hers = await victim.back(anna.link(draft))
        mixed = hers.copy_set_param("code", his.params["code"])
        # PKCE: the code belongs to the attacker's verifier.
        says(await victim.get(str(mixed)), 400, "code_refused")
    assert scene.esaw.sends(draft) == []


# Code and token


async def test_a_code_works_once(scene: Scene) -> None:
    anna = await Person.enters(scene, "Code")
    first, second = anna.draft(), anna.draft()
    async with a_tab(scene, anna.browser) as tab:
        used = await tab.back(anna.link(first))
        await tab.get(str(used))
        fresh = await tab.back(anna.link(second))
        replayed = fresh.copy_set_param("code", used.params["code"])
        says(await tab.get(str(replayed)), 400, "code_refused")
    assert scene.esaw.sends(second) == []


@pytest.mark.parametrize(
    ("fault", "status", "kind"),
    [
        ({"garbage": "json"}, 502, "esaw_strange"),
        ({"garbage": "html"}, 502, "esaw_strange"),
        ({"garbage": "shape"}, 502, "esaw_strange"),
        ({"garbage": "empty"}, 502, "esaw_strange"),
        ({"lacks": "access_token"}, 502, "esaw_strange"),
        ({"redirect": "https://evil.example/"}, 502, "esaw_strange"),
        ({"status": 500}, 503, "esaw_down"),
        ({"status": 429}, 503, "esaw_down"),
        ({"drop": True}, 503, "esaw_down"),
    ],
    ids=str,
)
async def test_a_token_endpoint_that_answers_nonsense_stores_and_sends_nothing(
    scene: Scene, fault: dict[str, Any], status: int, kind: str
) -> None:
    user = scene.a_user(
        f"Garbage-{kind}-{len(str(fault))}-{next(iter(fault.values()))}"[:60].replace("/", "")
    )
    browser = await scene.sign_in(user)
    draft = scene.esaw.add_draft(owner=user)
    before = await scene.traces()
    scene.esaw.fault("retrieve", times=1, **fault)

    await browser.open(scene.link(draft, user))
    await browser.press("Allow")

    assert browser.page.status == status, browser.page.text
    assert f"name this page: {kind}" in browser.page.text
    assert await scene.traces() == before
    assert scene.esaw.sends(draft) == []
    await browser.follow("Try again")
    assert browser.page.url == f"{scene.esaw.url}/Inbox/Index"


async def test_a_token_of_another_user_is_refused_with_any_consent(scene: Scene) -> None:
    user = scene.a_user("Mixed")
    browser = await scene.sign_in(user)
    draft = scene.esaw.add_draft(owner=user)
    before = await scene.traces()
    scene.esaw.fault("retrieve", times=1, token_of=scene.bruno.user_id)

    await browser.open(scene.link(draft, user))
    await browser.press("Allow")

    assert browser.page.status == 403
    assert await scene.traces() == before
    assert scene.esaw.sends(draft) == []


async def test_a_wrong_client_secret_is_the_administrators_to_fix(scene: Scene) -> None:
    user = scene.a_user("Secretless")
    browser = await scene.sign_in(user)
    await scene.local_environment.secret("acme-oauth", "oauth", clientSecret="wrong", origin=scene.esaw.url)
    try:
        await browser.open(scene.link(scene.esaw.add_draft(owner=user), user))
        await browser.press("Allow")
        assert "name this page: client_refused" in browser.page.text
    finally:
        secret = {"clientSecret": scene.app.client_secret}
        await scene.local_environment.secret("acme-oauth", "oauth", origin=scene.esaw.url, **secret)


# Who it is


async def test_another_users_link_is_refused_and_leaves_no_trace(scene: Scene) -> None:
    user, other = scene.a_user("Owner"), scene.a_user("Thief")
    draft = scene.esaw.add_draft(owner=user)
    before = await scene.traces()
    browser = await scene.sign_in(other)

    await browser.open(scene.link(draft, user))
    await browser.press("Allow")

    assert browser.page.status == 403
    assert "thief@example.com" in browser.page.text
    assert await scene.traces() == before
    assert scene.esaw.sends(draft) == []


async def test_another_users_draft_is_not_sent(scene: Scene) -> None:
    user, thief = scene.a_user("Drafter"), await Person.enters(scene, "Thief2")
    draft = scene.esaw.add_draft(owner=user)
    before = await scene.traces()
    async with a_tab(scene, thief.browser) as tab:
        says(await tab.get(str(await tab.back(thief.link(draft)))), 404, "draft_missing")
    assert scene.esaw.envelope_of(draft) is None
    assert await scene.traces() == before


async def test_a_consent_link_works_for_nobody_else(scene: Scene) -> None:
    anna, other = await Person.enters(scene, "Renewer"), await Person.enters(scene, "Envious")
    name = consented_sender_name("acme", anna.user.user_id)
    before = await scene.local_environment.read("secret", name)
    async with a_tab(scene, other.browser) as tab:
        link = f"{scene.pages.public}/consent/acme/{name}"
        says(await tab.get(str(await tab.back(link))), 403, "wrong_user")
    assert await scene.local_environment.read("secret", name) == before


async def test_a_user_who_does_not_consent_gets_a_message_and_nothing_is_stored(scene: Scene) -> None:
    user = scene.a_user("Denier")
    browser = await scene.sign_in(user)
    draft = scene.esaw.add_draft(owner=user)
    before = await scene.traces()

    await browser.open(scene.link(draft, user))
    await browser.press("Deny")

    assert browser.page.status == 403
    assert "name this page: denied" in browser.page.text
    assert await scene.traces() == before
    await browser.follow("Try again")
    await browser.press("Allow")
    assert scene.esaw.envelope_of(draft)


async def test_an_answer_of_another_issuer_is_refused_and_the_right_one_taken(scene: Scene) -> None:
    anna = await Person.enters(scene, "Issuer")
    scene.esaw.set_behaviour(Behaviour(sends_issuer=True))
    draft = anna.draft()
    async with a_tab(scene, anna.browser) as tab:
        back = await tab.back(anna.link(draft))
        wrong = back.copy_set_param("iss", "https://evil.example")
        says(await tab.get(str(wrong)), 400, "wrong_issuer")
        assert scene.esaw.sends(draft) == []
        assert (await tab.get(str(await tab.back(anna.link(draft))))).status_code == 303


async def test_the_way_back_to_one_organization_is_none_to_another(scene: Scene) -> None:
    anna = await Person.enters(scene, "TwoHouses")
    draft = anna.draft()
    oauth = {
        "clientID": scene.app.client_id,
        "clientSecretRef": {"name": "acme-oauth", "key": "clientSecret"},
        "publicURL": scene.pages.public,
    }
    await scene.local_environment.organization("globex", archive="folder", oauth=oauth)
    async with a_tab(scene, anna.browser) as tab:
        back = str(await tab.back(anna.link(draft))).replace("/oauth/acme/", "/oauth/globex/")
        cookies = "; ".join(f"{each.name}={each.value}" for each in tab.http.cookies.jar)
        says(await tab.get(back, Cookie=cookies), 400, "state_missing")
    assert scene.esaw.sends(draft) == []


# Whose click it was

NEXT = {"Referer": "{esaw}/", "Sec-Fetch-Site": "cross-site"}
"""Chromium's request headers for a button on eSAW's pages."""

FOREIGN = {
    "another page": {"Referer": "https://evil.example/", "Sec-Fetch-Site": "cross-site"},
    "a page that hides": {"Sec-Fetch-Site": "cross-site"},
    "a mail": {"Sec-Fetch-Site": "none"},
    "a name that is like": {"Referer": "{esaw}.evil.example/", "Sec-Fetch-Site": "cross-site"},
    "a link on our own pages": {"Sec-Fetch-Site": "same-origin"},
}


def said(headers: dict[str, str], scene: Scene) -> dict[str, str]:
    return {name: value.format(esaw=scene.esaw.url) for name, value in headers.items()}


@pytest.mark.parametrize("link", FOREIGN)
async def test_a_link_from_a_third_party_sends_nothing_before_the_person_confirms(
    scene: Scene, link: str
) -> None:
    headers = said(FOREIGN[link], scene)
    anna = await Person.enters(scene, f"Led-by-{link.replace(' ', '-')}")
    draft = anna.draft(name="Not yet", metadata="just words")
    async with a_tab(scene, anna.browser) as tab:
        authorize = (await tab.get(anna.link(draft), **headers)).headers["Location"]
        back = (await tab.get(authorize)).headers["Location"]
        form_url = (await tab.get(back)).headers["Location"]
        page = await tab.get(form_url)
        is_safe(page)
        assert "Send this envelope?" in page.text
        assert "Not yet" in page.text
        assert scene.esaw.sends(draft) == []
        says(await tab.http.post(form_url, data={"form": "made-up"}), 403, "form_expired")
        assert scene.esaw.sends(draft) == []

        token = page.text.partition('name="form" value="')[2].partition('"')[0]
        for _ in range(2):
            answer = await tab.http.post(form_url, data={"form": token})
            assert "Your envelope is sent" in answer.text
    assert len(scene.esaw.sends(draft)) == 1
    assert scene.esaw.envelope_of(draft) in await scene.envelopes()


async def test_the_page_of_an_inbox_elsewhere_is_no_page_of_esaw(scene: Scene) -> None:
    anna = await Person.enters(scene, "Portal")
    draft = anna.draft()
    await scene.organization(beforeSend={"inboxURL": "https://portal.example/Inbox/Index"})
    try:
        async with a_tab(scene, anna.browser) as tab:
            from_portal = {"Referer": "https://portal.example/", "Sec-Fetch-Site": "cross-site"}
            authorize = (await tab.get(anna.link(draft), **from_portal)).headers["Location"]
            back = (await tab.get(authorize)).headers["Location"]
            page = await tab.get((await tab.get(back)).headers["Location"])
            assert "Send this envelope?" in page.text
    finally:
        await scene.organization()
    assert scene.esaw.sends(draft) == []


async def test_the_button_in_esaw_sends_without_a_question(scene: Scene) -> None:
    anna = await Person.enters(scene, "Own")
    draft = anna.draft()
    async with a_tab(scene, anna.browser) as tab:
        authorize = (await tab.get(anna.link(draft), **said(NEXT, scene))).headers["Location"]
        back = (await tab.get(authorize)).headers["Location"]
        assert (await tab.get(back)).headers["Location"] == f"{scene.esaw.url}/Inbox/Index"
    assert len(scene.esaw.sends(draft)) == 1


# Where it leads


async def test_the_redirect_uri_is_ours_with_any_host_in_the_request(scene: Scene) -> None:
    async with a_tab(scene) as tab:
        answer = await tab.get(
            scene.link(scene.esaw.add_draft(owner=scene.anna)),
            Host="evil.example",
            **{"X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example"},
        )
    asked = parse_qs(urlsplit(answer.headers["Location"]).query)
    assert asked["redirect_uri"] == [f"{scene.pages.public}/oauth/acme/return"]


async def test_a_tampered_redirect_uri_gets_no_code(scene: Scene) -> None:
    anna = await Person.enters(scene, "Tampered")
    async with a_tab(scene, anna.browser) as tab:
        authorize = await tab.leave(anna.link(anna.draft()))
        for wrong in ("https://evil.example/", f"{scene.pages.public}/oauth/acme/return/../x"):
            answer = await tab.get(str(authorize.copy_set_param("redirect_uri", wrong)))
            assert answer.status_code == 400, "eSAW does not redirect there"


@pytest.mark.parametrize(
    "name", ["next", "returnUrl", "redirect", "redirect_uri", "url", "inboxURL", "organizationId", "continue"]
)
@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example", "/\\evil.example"])
async def test_no_parameter_leads_anywhere_else(scene: Scene, name: str, target: str) -> None:
    async with a_tab(scene) as tab:
        for link in (
            scene.link(scene.esaw.add_draft(owner=scene.anna)).split("&organizationId")[0],
            f"{scene.pages.public}/oauth/acme/return?code=x&state=y",
            f"{scene.pages.public}/consent/acme/0123456789abcdef/done?x=y",
        ):
            answer = await tab.get(f"{link}&{name}={target}")
            location = answer.headers.get("Location", scene.esaw.url)
            assert location.startswith(scene.esaw.url)
            # It is neither sent to eSAW, nor is it in a page.
            assert "evil.example" not in location + answer.text


@pytest.mark.parametrize(
    "path",
    [
        "//evil.example/before-send/acme",
        "/before-send/acme/..%2f..%2fevil",
        "/before-send/%2e%2e",
        "/consent/acme/..%2fsecrets",
        "/consent/acme/" + "a" * 300,
        "/before-send/" + NASTY.replace(" ", "%20"),
        "/oauth/%00/return",
        "/before-send/acme%0d%0aSet-Cookie:%20x=y",
        "/",
        "/metrics",
        "/healthz",
    ],
)
async def test_an_odd_path_is_not_found_and_not_repeated(scene: Scene, path: str) -> None:
    async with a_tab(scene) as tab:
        answer = await tab.get(f"{scene.pages.public}{path}")
    says(answer, 404, "not_found")
    assert "Set-Cookie" not in answer.headers
    assert "Location" not in answer.headers


# What is in a page


async def test_nothing_that_people_wrote_becomes_markup(scene: Scene) -> None:
    nasty = scene.esaw.add_user(
        email=f"{NASTY}@example.com", given_name=NASTY, surname=NASTY, password=PASSWORD
    )
    fields = [
        *FIELDS,
        {"name": "free", "label": f"Free {NASTY}"},
        {"name": "choice", "label": "Choice", "options": [NASTY, "b"]},
    ]
    await scene.organization(beforeSend={"fields": fields})
    metadata = f"<m><free><![CDATA[{NASTY}]]></free></m>"
    draft = scene.esaw.add_draft(owner=nasty, name=NASTY, metadata=metadata)
    browser = await scene.sign_in(nasty)

    await browser.open(scene.link(draft, nasty))
    await browser.press("Allow")
    assert NASTY in browser.page.text
    assert browser.page.document.xpath("//input[@name='tag.free']/@value") == [NASTY]
    assert not browser.page.document.xpath("//script | //img")
    await browser.press("Send envelope", **{"tag.costCenter": NASTY, "tag.free": NASTY})
    assert browser.page.status == 422
    assert browser.page.document.xpath("//input[@name='tag.costCenter']/@value") == [NASTY]
    assert not browser.page.document.xpath("//script | //img")

    await browser.open(scene.link(scene.esaw.add_draft(owner=scene.anna), scene.anna))
    assert browser.page.status == 403
    assert NASTY in browser.page.text
    assert not browser.page.document.xpath("//script | //img")


async def test_what_comes_back_as_an_error_is_not_repeated(scene: Scene) -> None:
    anna = await Person.enters(scene, "ErrorText")
    async with a_tab(scene, anna.browser) as tab:
        for error in ("access_denied", "server_error", NASTY):
            back = await tab.back(anna.link(anna.draft()))
            wrong = back.copy_remove_param("code").copy_merge_params(
                {"error": error, "error_description": NASTY, "error_uri": "javascript:alert(1)"}
            )
            answer = await tab.get(str(wrong))
            assert answer.status_code in {400, 403}
            is_safe(answer)
            assert "alert" not in answer.text


async def test_esaws_own_error_texts_are_not_repeated(scene: Scene) -> None:
    anna = await Person.enters(scene, "Refused")
    draft = anna.draft()
    scene.esaw.fault("draft_send", times=1, status=400)
    async with a_tab(scene, anna.browser) as tab:
        says(await tab.get(str(await tab.back(anna.link(draft)))), 409, "draft_refused")
        assert (await tab.get(str(await tab.back(anna.link(draft))))).status_code == 303, "and then it works"
    assert scene.esaw.envelope_of(draft)


@pytest.mark.parametrize(
    ("operation", "status"),
    [("retrieve", 400), ("retrieve", 500), ("whoami", 400), ("draft_send", 400), ("draft_send", 500)],
)
async def test_markup_in_esaws_error_texts_reaches_nobody(scene: Scene, operation: str, status: int) -> None:
    anna = await Person.enters(scene, f"Said-{operation}-{status}".replace("_", "-"))
    scene.esaw.fault(operation, times=1, status=status, says=NASTY)
    async with a_tab(scene, anna.browser) as tab:
        answer = await tab.get(str(await tab.back(anna.link(anna.draft()))))
    assert answer.status_code >= 400
    is_safe(answer)
    assert "alert" not in answer.text


# The form


async def open_form(scene: Scene, name: str) -> tuple[Person, str]:
    """Somebody stands before the form about a draft."""
    person = await Person.enters(scene, name)
    await scene.organization(beforeSend={"fields": FIELDS})
    draft = person.draft()
    await person.browser.open(person.link(draft))
    assert person.browser.page.buttons == ["Send envelope"], person.browser.page.text
    return person, draft


async def test_a_form_that_another_page_sends_is_not_taken(scene: Scene) -> None:
    anna, draft = await open_form(scene, "Forged")
    other, _ = await open_form(scene, "Forger")
    good = anna.browser.page.document.xpath("//input[@name='form']/@value")[0]
    strange = other.browser.page.document.xpath("//input[@name='form']/@value")[0]
    url = anna.browser.page.url
    async with a_tab(scene, anna.browser) as tab, a_tab(scene) as nobody:
        for token in ("", "x" * 80, strange):
            answer = await tab.http.post(url, data={"form": token, "tag.costCenter": "1234"})
            says(answer, 403, "form_expired")
        says(await nobody.http.post(url, data={"form": good, "tag.costCenter": "1234"}), 403, "form_expired")
        as_json = await tab.http.post(url, json={"form": good, "tag.costCenter": "1234"})
        says(as_json, 403, "form_expired")
    assert scene.esaw.sends(draft) == []


async def test_a_form_can_not_be_turned_to_another_draft(scene: Scene) -> None:
    anna, draft = await open_form(scene, "Turner")
    second = anna.draft()
    token = anna.browser.page.document.xpath("//input[@name='form']/@value")[0]
    async with a_tab(scene, anna.browser) as tab:
        url = anna.browser.page.url.replace(draft, second)
        says(await tab.http.post(url, data={"form": token, "tag.costCenter": "1234"}), 403, "form_expired")
    assert scene.esaw.sends(second) == []


async def test_a_form_may_be_sent_only_to_where_it_belongs(scene: Scene) -> None:
    anna, _ = await open_form(scene, "Policy")
    policy = anna.browser.page.headers["Content-Security-Policy"]
    assert f"form-action {scene.pages.public};" in policy


async def test_what_is_too_much_is_refused(scene: Scene) -> None:
    anna, draft = await open_form(scene, "Large")
    token = anna.browser.page.document.xpath("//input[@name='form']/@value")[0]
    async with a_tab(scene, anna.browser) as tab:
        url = anna.browser.page.url
        says(await tab.http.post(url, data={"form": token, "x": "y" * 300_000}), 413, "too_large")
        many = {"form": token, **{f"f{number}": "" for number in range(100)}}
        says(await tab.http.post(url, data=many), 403, "form_expired")
        twice = f"{scene.link(draft, anna.user)}&draftId=x"
        says(await tab.get(twice), 400, "link_broken")
        says(await tab.http.post(scene.link(draft, anna.user)), 405, "wrong_method")
        assert (await tab.get(f"{url}&x={'y' * 10_000}")).status_code == 400
    assert scene.esaw.sends(draft) == []


@pytest.mark.parametrize(
    "query",
    [
        "",
        "draftId=&userId=x",
        "draftId=nonsense&userId=x",
        "draftId=##EnvelopeId##&userId=x",
        "draftId=0f9c1c2e-4b1d-4c58-9a57-6d1f0a3b2c4d",
        "draftId=0f9c1c2e-4b1d-4c58-9a57-6d1f0a3b2c4d&userId=%23%23SenderUserId%23%23",
        "draftId=0f9c1c2e-4b1d-4c58-9a57-6d1f0a3b2c4d&userId=a/b",
        "draftId=0f9c1c2e-4b1d-4c58-9a57-6d1f0a3b2c4d&userId=" + "x" * 200,
        "draftId=%ff&userId=%ff",
    ],
)
async def test_a_link_that_lacks_something_reports_it(scene: Scene, query: str) -> None:
    async with a_tab(scene) as tab:
        says(await tab.get(f"{scene.pages.public}/before-send/acme?{query}"), 400, "link_broken")


# Secrets


async def test_no_secret_is_in_any_log_object_event_or_metric(scene: Scene) -> None:
    await Person.enters(scene, "Secretive")
    tokens = [await scene.token(each) for each in await scene.senders() if each.get("status", {}).get("key")]
    assert tokens
    keys = [path.read_text() for path in scene.local_environment.sealing_keys.iterdir()]
    secrets = [*tokens, *keys, scene.app.client_secret]
    shown = {
        "objects": await scene.local_environment.kubectl(
            "get", "senders,envelopes,organizations,leases,events", "-o", "yaml", "--show-managed-fields"
        ),
        "metrics": await scene.pages.metrics(),
        **{path.name: path.read_text() for path in scene.local_environment.folder.glob("*.log")},
    }
    assert shown["pages.log"].count("page return: led_on") > 0
    for name, text in shown.items():
        assert not [secret for secret in secrets if secret in text], name
    assert not [each for each in scene.esaw.requests() if each.token_in_url]


# Sealing keys


async def test_a_bad_key_file_leaves_the_pages_in_service(scene: Scene) -> None:
    bad = scene.local_environment.sealing_keys / "a-bad-one"
    bad.write_text("not base64!")
    try:
        async with plain_http() as http:
            answer = await http.get(f"{scene.pages.private}/readyz")
            metrics = (await http.get(f"{scene.pages.private}/metrics")).text
    finally:
        bad.unlink()

    assert (answer.status_code, answer.text) == (200, "ok")
    assert "counterfoil_sealing_key_faults 1.0" in metrics

"""The stand-in eSAW: its web pages, from the login to the draft that is sent or handed on."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from sandbox.esaw import (
    Behaviour,
    Browser,
    BrowserPage,
    CallbackUrls,
    Recipient,
    StandIn,
    StandInControl,
    User,
)
from sandbox.esaw.core.documents import plain_pdf
from sandbox.esaw.http.sessions import COOKIE
from sandbox.servers.proxies import Proxy, Ticks
from tests.support.servers.scripted_esaw import server_tls
from tests.support.servers.standin_peers import Receiver, bruno, client_of

BEFORE_SEND = (
    "https://op.example.com/before-send/acme?d=##EnvelopeId##&u=##SenderUserId##&o=##OrganizationId##"
)


@pytest.fixture
async def browser(esaw: StandIn) -> AsyncIterator[Browser]:
    async with Browser(followed_prefix=esaw.url) as window:
        await window.open(esaw.url)
        yield window


@pytest.fixture
async def inside(browser: Browser, user: User) -> Browser:
    await sign_in(browser, user)
    return browser


async def sign_in(browser: Browser, user: User, **changed: str) -> BrowserPage:
    return await browser.press("Sign in", **{"email": user.email, "password": user.password, **changed})


async def make_draft(browser: Browser, **given: str | tuple[str, bytes]) -> str:
    """Fill the form for a new draft; its id."""
    await browser.open("/Drafts/New")
    page = await browser.press("Create draft", **given)
    return page.url.rpartition("/")[2]


def session_of(browser: Browser) -> str:
    return next(each.value or "" for each in browser.cookies if each.name == COOKIE)


# In and out


async def test_an_unknown_user_signs_in_and_sees_the_inbox(browser: Browser, user: User) -> None:
    assert browser.page.buttons == ["Sign in"]
    page = await sign_in(browser, user)
    assert (page.title, page.status) == ("Documents", 200)
    assert "Anna Kofler, anna@example.com" in page.text


async def test_the_e_mail_address_is_taken_in_any_case(browser: Browser, user: User) -> None:
    assert (await sign_in(browser, user, email="ANNA@example.com")).title == "Documents"


@pytest.mark.parametrize(
    "changed", [{"password": "wrong"}, {"email": "nobody@example.com"}, {"password": ""}]
)
async def test_a_wrong_login_is_reported_and_can_be_tried_again(
    browser: Browser, user: User, changed: dict[str, str]
) -> None:
    page = await sign_in(browser, user, **changed)
    assert page.status == 400
    assert "is wrong" in page.text
    assert (await sign_in(browser, user)).title == "Documents"


async def test_a_user_may_have_their_own_password(esaw: StandIn, browser: Browser) -> None:
    user = esaw.add_user(email="c@example.com", given_name="C", surname="D", password="own")
    assert (await sign_in(browser, user, password="stand-in")).status == 400
    assert (await sign_in(browser, user)).title == "Documents"


async def test_the_session_is_a_cookie_that_no_script_reads_and_no_other_site_posts_with(
    esaw: StandIn,
) -> None:
    async with httpx.AsyncClient(base_url=esaw.url) as client:
        cookie = (await client.get("/Account/Login")).headers["Set-Cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    assert cookie.endswith("; Path=/; HttpOnly; SameSite=Lax")


async def test_signing_in_changes_the_session(browser: Browser, user: User) -> None:
    before = session_of(browser)
    await sign_in(browser, user)
    assert session_of(browser) != before


async def test_a_login_form_of_another_session_is_not_taken(
    esaw: StandIn, browser: Browser, user: User
) -> None:
    async with Browser(followed_prefix=esaw.url) as other:
        await other.open(esaw.url)
        forged = other.page.document.forms[0].fields["__RequestVerificationToken"]
    page = await sign_in(browser, user, __RequestVerificationToken=str(forged))
    assert (page.status, page.title) == (400, "This page is out of date")


async def test_signing_out_ends_the_session_on_the_server_too(esaw: StandIn, inside: Browser) -> None:
    session = session_of(inside)
    assert (await inside.press("Sign out")).buttons == ["Sign in"]
    assert (await inside.open("/Inbox/Index")).buttons == ["Sign in"]
    async with httpx.AsyncClient(base_url=esaw.url, cookies={COOKIE: session}) as thief:
        assert (await thief.get("/Inbox/Index")).status_code == 302


async def test_a_user_who_is_shut_out_is_signed_out(esaw: StandIn, inside: Browser, user: User) -> None:
    esaw.set_active(user, active=False)
    assert (await inside.open("/Inbox/Index")).buttons == ["Sign in"]


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example/",
        "javascript:alert(1)",
        "/\t/evil.example",
        "",
    ],
)
async def test_the_login_leads_nowhere_else(esaw: StandIn, browser: Browser, user: User, target: str) -> None:
    await browser.open(f"/Account/Login?returnUrl={quote(target, safe='')}")
    assert (await sign_in(browser, user)).url == f"{esaw.url}/Inbox/Index"
    assert (
        await browser.open(f"/Account/Login?returnUrl={quote(target, safe='')}")
    ).url == f"{esaw.url}/Inbox/Index"


async def test_after_the_login_comes_the_page_that_was_asked_for(
    esaw: StandIn, browser: Browser, user: User
) -> None:
    await browser.open("/Drafts/New")
    assert (await sign_in(browser, user)).url == f"{esaw.url}/Drafts/New"


async def test_every_page_is_kept_by_no_cache_and_shown_in_no_frame(inside: Browser) -> None:
    for path in ("/Inbox/Index", "/Drafts/New", "/Drafts/unknown", "/Auth/Authorize"):
        headers = (await inside.open(path)).headers
        assert headers["Cache-Control"] == "no-store"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


async def test_unknown_paths_and_wrong_methods_are_refused_and_recorded(esaw: StandIn) -> None:
    async with httpx.AsyncClient(base_url=esaw.url) as client:
        assert (await client.get("/favicon.ico")).status_code == 404
        assert (await client.get("/Auth/Logout")).status_code == 405
    assert [(each.operation, each.status) for each in esaw.requests()] == [("unknown", 404), ("logout", 405)]


async def test_pages_fail_on_demand_as_every_other_request(esaw: StandIn, inside: Browser) -> None:
    esaw.fault("inbox", status=500, times=1)
    assert (await inside.open("/Inbox/Index")).status == 500
    assert (await inside.open("/Inbox/Index")).status == 200


# Documents and drafts


async def test_the_inbox_lists_the_users_drafts_and_envelopes_and_nobody_elses(
    esaw: StandIn, inside: Browser, user: User
) -> None:
    other = bruno(esaw)
    esaw.add_draft(owner=user, name="Mine to send")
    esaw.add_envelope(sender=user, name="Mine and sent")
    esaw.add_draft(owner=other, name="Others' to send")
    esaw.add_envelope(sender=other, name="Others' and sent")
    deleted = esaw.add_envelope(sender=user, name="Mine and gone")
    await esaw.delete(deleted)
    text = (await inside.open("/Inbox/Index")).text
    assert "Mine to send Draft" in text
    assert "Mine and sent Completed" in text
    assert "Others'" not in text
    assert "gone" not in text


async def test_a_draft_is_made_summed_up_and_sent(esaw: StandIn, inside: Browser, user: User) -> None:
    draft = await make_draft(inside, name="Lease", email="kim@example.com", metadata="<a>1</a>")
    assert inside.page.title == "Summary of Lease"
    assert "kim@example.com" in inside.page.text
    assert "sample.pdf" in inside.page.text
    assert inside.page.buttons == ["Sign out", "SEND"]
    page = await inside.press("SEND")
    assert (page.url, page.status) == (f"{esaw.url}/Inbox/Index", 200)
    assert "Lease Active" in page.text
    envelope = esaw.envelope_of(draft)
    assert envelope is not None
    assert esaw.draft_of(envelope) == draft
    assert esaw.sends(draft) == []  # REST was not called


async def test_a_sent_draft_has_its_papers_its_recipient_and_its_metadata(
    esaw: StandIn, inside: Browser, api: httpx.AsyncClient
) -> None:
    document = plain_pdf("Lease", 3)
    draft = await make_draft(
        inside, email="kim@example.com", metadata="<a>1</a>", document=("lease.pdf", document)
    )
    await inside.press("SEND")
    envelope = esaw.envelope_of(draft)
    assert envelope is not None
    told = (await api.get(f"envelope/{envelope}/configuration")).json()
    assert told["MetaData"] == "<a>1</a>"
    await esaw.complete(envelope)
    paper = (await api.get(f"envelope/{envelope}/files")).json()["Documents"][0]
    assert (paper["FileName"], paper["PageCount"]) == ("lease.pdf", 3)
    assert (await api.get(f"file/{paper['FileId']}")).content.startswith(document)


async def test_a_draft_takes_the_organizations_callbacks(esaw: StandIn, inside: Browser) -> None:
    async with Receiver() as receiver:
        esaw.set_default_callbacks(completed=receiver.template(), status_change=receiver.template())
        draft = await make_draft(inside)
        await inside.press("SEND")
        envelope = esaw.envelope_of(draft)
        assert envelope is not None
        await esaw.complete(envelope)
        await esaw.callbacks_settled()
    assert receiver.actions[-1] == "envelopeFinished"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"name": "  "}, "A draft has a name and a recipient."),
        ({"email": ""}, "A draft has a name and a recipient."),
        ({"document": ("empty.pdf", b"")}, "ERR0097"),
    ],
)
async def test_a_draft_that_lacks_something_is_not_made(
    esaw: StandIn, inside: Browser, user: User, given: dict[str, str | tuple[str, bytes]], text: str
) -> None:
    await make_draft(inside, **given)
    assert inside.page.status == 400
    assert text in inside.page.text
    assert esaw.drafts(user) == []


async def test_a_draft_of_a_broken_pdf_stays_a_draft(esaw: StandIn, inside: Browser, user: User) -> None:
    await make_draft(inside, document=("broken.pdf", b"%PDF-1.7 and then nothing"))
    page = await inside.press("SEND")
    assert page.status == 400
    assert "ERR0005" in page.text
    assert len(esaw.drafts(user)) == 1


async def test_nobody_sees_or_sends_the_draft_of_another(esaw: StandIn, inside: Browser, user: User) -> None:
    other = bruno(esaw)
    draft, own = esaw.add_draft(owner=other), esaw.add_draft(owner=user)
    assert (await inside.open(f"/Drafts/{draft}")).status == 404
    await inside.open(f"/Drafts/{own}")
    form = {"__RequestVerificationToken": inside.page.document.forms[0].fields["__RequestVerificationToken"]}
    async with httpx.AsyncClient(base_url=esaw.url, cookies={COOKIE: session_of(inside)}) as client:
        assert (await client.post(f"/Drafts/{draft}", data=form)).status_code == 404
        assert (await client.post(f"/Drafts/{own}", data={})).status_code == 400
    assert len(esaw.drafts(other)) == len(esaw.drafts(user)) == 1


async def test_what_was_typed_is_shown_and_not_interpreted(inside: Browser) -> None:
    evil = "<script>alert(1)</script>'\"><img src=x>"
    await make_draft(inside, name=evil, given_name=evil, surname=evil, document=(f"{evil}.txt", b"x"))
    for path in (inside.page.url, "/Inbox/Index"):
        page = await inside.open(path)
        assert page.document.xpath("//script | //img") == []
        assert evil in page.text


# The page before sending


async def test_next_leads_to_the_page_before_sending_and_sends_nothing(
    esaw: StandIn, inside: Browser, user: User
) -> None:
    esaw.set_before_send_redirect(BEFORE_SEND)
    draft = await make_draft(inside)
    assert inside.page.buttons == ["Sign out", "NEXT"]
    page = await inside.press("NEXT")
    assert page.status == 302
    assert page.url == (
        f"https://op.example.com/before-send/acme?d={draft}&u={user.user_id}&o={esaw.organization_id()}"
    )
    assert [each.draft_id for each in esaw.drafts(user)] == [draft]
    assert esaw.envelope_of(draft) is None


async def test_the_metadata_input_is_hidden_where_a_page_comes_before_sending(
    esaw: StandIn, inside: Browser
) -> None:
    assert "metadata" in (await inside.open("/Drafts/New")).document.forms[1].fields
    esaw.set_before_send_redirect(BEFORE_SEND)
    assert "metadata" not in (await inside.open("/Drafts/New")).document.forms[1].fields


async def test_a_draft_keeps_the_page_it_was_made_under(esaw: StandIn, inside: Browser, user: User) -> None:
    esaw.set_before_send_redirect(BEFORE_SEND)
    draft = esaw.add_draft(owner=user)
    esaw.set_before_send_redirect(None)
    assert "NEXT" in (await inside.open(f"/Drafts/{draft}")).buttons
    assert "SEND" in (await inside.open(f"/Drafts/{esaw.add_draft(owner=user)}")).buttons


async def test_a_draft_by_api_has_its_own_page_or_the_organizations(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    esaw.set_before_send_redirect(BEFORE_SEND)
    own = "https://op.example.com/own?##EnvelopeId##"
    for configuration in (None, {"BeforeSendRedirectUrl": own}, {"BeforeSendRedirectUrl": None}):
        upload = await api.post("file/upload", files={"file": ("a.txt", b"x")})
        contact = {"Email": "kim@example.com", "GivenName": "Kim", "Surname": "Berg"}
        body = {
            "Name": "Lease",
            "Documents": [{"FileId": upload.json()["FileId"]}],
            "Activities": [{"Action": {"Sign": {"RecipientConfiguration": {"ContactInformation": contact}}}}],
            "RedirectConfiguration": configuration,
        }
        (await api.post("draft/create", json=body)).raise_for_status()
    assert [each.before_send_url for each in esaw.drafts(user)] == [BEFORE_SEND, own, BEFORE_SEND]


async def test_an_update_may_change_the_page_before_sending_and_keeps_it_otherwise(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    draft = esaw.add_draft(owner=user)
    own = {"BeforeSendRedirectUrl": "https://op.example.com/own"}
    await api.post("draft/update", json={"DraftId": draft, "RedirectConfiguration": own})
    await api.post("draft/update", json={"DraftId": draft, "MetaData": "<b/>"})
    told = (await api.get(f"draft/{draft}/configuration")).json()
    assert told["RedirectConfiguration"]["BeforeSendRedirectUrl"] == "https://op.example.com/own"
    bad = {"BeforeSendRedirectUrl": "op.example.com"}
    answer = await api.post("draft/update", json={"DraftId": draft, "RedirectConfiguration": bad})
    assert (answer.status_code, answer.json()["ErrorId"]) == (400, "ERR0011")


async def test_the_page_before_sending_reads_writes_and_sends_the_draft_by_its_id(
    esaw: StandIn, inside: Browser, user: User, api: httpx.AsyncClient
) -> None:
    esaw.set_before_send_redirect(BEFORE_SEND)
    await make_draft(inside)
    draft = httpx.URL((await inside.press("NEXT")).url).params["d"]
    assert (await api.get(f"draft/{draft}/configuration")).json()["MetaData"] is None
    assert (await api.post("draft/update", json={"DraftId": draft, "MetaData": "<b/>"})).status_code == 200
    envelope = (await api.post("draft/send", json={"DraftId": draft})).json()["Envelope"]["EnvelopeId"]
    assert (await api.get(f"envelope/{envelope}/configuration")).json()["MetaData"] == "<b/>"
    assert (esaw.draft_of(envelope), esaw.envelope_of(draft)) == (draft, envelope)
    assert "Contract Active" in (await inside.open(f"{esaw.url}/Inbox/Index")).text


async def test_back_and_next_after_the_draft_was_sent_says_that_it_is_gone(
    esaw: StandIn, inside: Browser, api: httpx.AsyncClient
) -> None:
    esaw.set_before_send_redirect(BEFORE_SEND)
    draft = await make_draft(inside)
    once_more = inside.request_for("NEXT")
    await api.post("draft/send", json={"DraftId": draft})
    page = await inside.send(once_more)
    assert page.status == 404
    assert "ERR0250" in page.text


# Drafts by REST, as unforgiving as they are


@pytest.mark.parametrize("becomes", [True, False])
async def test_a_draft_that_was_sent_is_no_draft_any_more(
    esaw: StandIn, user: User, api: httpx.AsyncClient, becomes: bool
) -> None:
    esaw.set_behaviour(Behaviour(draft_id_becomes_envelope_id=becomes))
    draft = esaw.add_draft(owner=user)
    first = await api.post("draft/send", json={"DraftId": draft})
    answers = [
        await api.post("draft/send", json={"DraftId": draft}),
        await api.post("draft/update", json={"DraftId": draft, "MetaData": "<late/>"}),
        await api.get(f"draft/{draft}"),
        await api.get(f"draft/{draft}/configuration"),
    ]
    assert [(each.status_code, each.json()["ErrorId"]) for each in answers] == [(404, "ERR0250")] * 4
    assert (first.json()["Envelope"]["EnvelopeId"] == draft) is becomes
    assert esaw.drafts(user) == []


async def test_the_draft_of_another_is_no_draft_at_all(esaw: StandIn, user: User) -> None:
    draft = esaw.add_draft(owner=user)
    async with client_of(esaw, bruno(esaw)) as other:
        answers = [
            await other.post("draft/send", json={"DraftId": draft}),
            await other.post("draft/update", json={"DraftId": draft, "MetaData": "<mine/>"}),
            await other.get(f"draft/{draft}"),
            await other.get(f"draft/{draft}/configuration"),
        ]
    assert [(each.status_code, each.json()["ErrorId"]) for each in answers] == [(404, "ERR0250")] * 4
    assert [each.metadata for each in esaw.drafts(user)] == [None]
    assert [each.outcome for each in esaw.sends(draft)] == [404]


async def test_each_call_that_sends_a_draft_is_known(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    draft = esaw.add_draft(owner=user)
    esaw.fault("draft_send", status=503, times=1, id=draft)
    esaw.fault("draft_send", lose_answer=True, times=1, id=draft)
    await api.post("draft/send", json={"DraftId": draft})
    with pytest.raises(httpx.RemoteProtocolError):
        await api.post("draft/send", json={"DraftId": draft})
    await api.post("draft/send", json={"DraftId": draft})
    calls = esaw.sends(draft)
    assert [(each.outcome, each.status) for each in calls] == [(0, 503), (200, 0), (404, 404)]
    assert [each.user_id for each in calls] == [user.user_id] * 3
    assert calls[0].number < calls[1].number < calls[2].number
    assert calls[0].time <= calls[2].time


# From afar


async def test_applications_and_drafts_are_managed_from_afar(esaw: StandIn) -> None:
    async with StandInControl(esaw.url) as remote, Browser(followed_prefix=esaw.url) as browser:
        user = await remote.add_user(email="a@example.com", given_name="A", surname="B", password="own")
        app = await remote.register_app(name="Counterfoil", redirect_uris=["https://op.example.com/return"])
        await remote.set_before_send_redirect(BEFORE_SEND)
        draft = await remote.add_draft(owner=user, recipients=[Recipient(email="kim@example.com")])
        listed = await remote.drafts(user)
        assert [(each.draft_id, each.before_send_url) for each in listed] == [(draft, BEFORE_SEND)]
        query = {"response_type": "code", "client_id": app.client_id, "redirect_uri": app.redirect_uris[0]}
        await browser.open(str(httpx.URL(f"{esaw.url}/Auth/Authorize", params=query)))
        await sign_in(browser, user)
        assert "code" in httpx.URL((await browser.press("Allow")).url).params
        await remote.withdraw_consent(user, app.client_id)
        with pytest.raises(ValueError, match="has not allowed"):
            await remote.withdraw_consent(user, app.client_id)
        assert await remote.envelope_of(draft) is None
        async with client_of(esaw, user) as api:
            answer = await api.post("draft/send", json={"DraftId": draft})
        envelope = answer.json()["Envelope"]["EnvelopeId"]
        assert await remote.envelope_of(draft) == envelope
        assert await remote.draft_of(envelope) == draft
        assert [each.status for each in await remote.sends(draft)] == [200]
        assert await remote.draft_of(await remote.add_envelope(sender=user, callbacks=CallbackUrls())) is None


async def test_the_browser_continues_automatically_only_where_a_page_asks_for_it() -> None:
    async def answer(request: web.Request) -> web.Response:
        pages = {
            "/on": '<meta http-equiv="refresh" content="0; url=/there?x=1">',
            "/later": '<meta http-equiv="refresh" content="30; url=/there">',
        }
        return web.Response(
            text=f"<html><head>{pages.get(request.path, '')}</head></html>", content_type="text/html"
        )

    async with TestServer(_application(answer)) as server, Browser() as browser:
        assert (await browser.open(str(server.make_url("/on")))).url.endswith("/there?x=1")
        assert (await browser.open(str(server.make_url("/later")))).url.endswith("/later")


async def test_the_browser_sends_a_secure_cookie_over_https_only(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.Response:
        cookie = {"Set-Cookie": "__Host-session=mine; Path=/; Secure; HttpOnly; SameSite=Strict"}
        return web.Response(text=request.headers.get("Cookie", "none"), headers=cookie)

    own, trust = server_tls(tmp_path)
    async with (
        TestServer(_application(answer)) as server,
        Proxy(str(server.make_url("/")), ticks=Ticks(), own_tls=own) as ingress,
        Browser(trust=trust) as browser,
    ):
        assert (await browser.open(ingress.url)).text == "none"
        assert (await browser.open(ingress.url)).text == "__Host-session=mine"
        assert (await browser.open(str(server.make_url("/")))).text == "none"


def _application(answer: Callable[[web.Request], Awaitable[web.Response]]) -> web.Application:
    application = web.Application()
    application.router.add_get("/{rest:.*}", answer)
    return application

"""
Consent and the page before sending, as people meet them: a real Chromium, a real API server, real mail.

The tests share one scene; each has its own users and drafts.
"""

import asyncio
import hashlib
import html
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Page, Route, expect

from sandbox.controlplane.control_plane import ControlPlane
from sandbox.esaw import StandIn, User
from tests.support.pauses import BROWSER_STEP_MILLISECONDS, eventually
from tests.support.scenes.browser_consent import Scene, a_draft, consent_scene, press, sender_name, sign_in


@pytest.fixture(scope="module")
async def shared(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    await plane.namespace("browser-consent")
    async with consent_scene(plane, "browser-consent", tmp_path_factory.mktemp("consent")) as built:
        yield built


@pytest.fixture
async def scene(shared: Scene) -> AsyncIterator[Scene]:
    """The shared scene; eSAW is set up for ``acme``, which asks for tags."""
    shared.belongs_to("acme")
    yield shared
    shared.esaw.clear_faults()


@pytest.fixture
async def page(context: BrowserContext) -> Page:
    return await context.new_page()


async def fill_in(page: Page, cost_center: str = "4711", kind: str = "Lease") -> None:
    await page.get_by_label("Cost centre").fill(cost_center)
    await page.get_by_label("Kind").select_option(kind)


async def consented(page: Page, scene: Scene, name: str, organization: str = "acme") -> User:
    """Somebody signs in and sends for the first time."""
    user = scene.a_user(name)
    await sign_in(page, scene, user)
    scene.belongs_to(organization)
    draft = await a_draft(page, scene, "First")
    await press(page, "NEXT")
    await press(page, "Allow")
    if organization == "acme":
        await fill_in(page)
        await press(page, "Send envelope")
    await page.wait_for_url(scene.inbox)
    assert len(scene.esaw.sends(draft)) == 1
    return user


@asynccontextmanager
async def a_context(browser: Browser, **kind: Any) -> AsyncIterator[BrowserContext]:
    """A browser of another kind."""
    async with await browser.new_context(**kind) as context:
        context.set_default_timeout(BROWSER_STEP_MILLISECONDS)
        yield context


async def test_the_first_send_is_consented_to_tagged_archived_and_deleted_and_the_second_asks_nothing(
    scene: Scene, page: Page
) -> None:
    anna = scene.a_user("Anna")
    await sign_in(page, scene, anna)
    draft = await a_draft(page, scene, "Lease of Anna")

    await press(page, "NEXT")
    await expect(page).to_have_title("Allow Counterfoil of acme?")
    await press(page, "Allow")
    await expect(page.get_by_text("Lease of Anna")).to_be_visible()
    await fill_in(page)
    await press(page, "Send envelope")

    await page.wait_for_url(scene.inbox)
    envelope = scene.envelope_of(draft)
    await expect(page.locator(f"[id='{envelope}']")).to_contain_text("Active")
    assert await scene.sender_of(envelope) == sender_name("acme", anna)
    await scene.esaw.complete(envelope)
    await scene.until_phase("Succeeded", envelope)
    assert scene.manifest_of(envelope)["tags"] == {"costCenter": "4711", "kind": "Lease"}
    assert not scene.esaw.exists(envelope)

    second = await a_draft(page, scene, "Second")
    await press(page, "NEXT")
    await expect(page.get_by_role("button", name="Send envelope")).to_be_visible()
    await fill_in(page, "4712", "Sale")
    await press(page, "Send envelope")
    await page.wait_for_url(scene.inbox)
    await scene.esaw.complete(scene.envelope_of(second))
    await scene.until_phase("Succeeded", scene.envelope_of(second))


async def test_a_revoked_key_with_ten_envelopes_is_one_mail_whose_link_resumes_all(
    scene: Scene, page: Page, context: BrowserContext
) -> None:
    berta = scene.a_user("Berta")
    await sign_in(page, scene, berta)
    envelopes = []
    for number in range(10):
        draft = await a_draft(page, scene, f"Contract {number}")
        await press(page, "NEXT")
        if number == 0:
            await press(page, "Allow")
        await fill_in(page)
        await press(page, "Send envelope")
        await page.wait_for_url(scene.inbox)
        envelopes.append(scene.envelope_of(draft))

    scene.esaw.withdraw_consent(berta, scene.apps["acme"].client_id)
    await asyncio.gather(*(scene.esaw.complete(each) for each in envelopes))
    await scene.until_phase("AwaitingConsent", *envelopes)

    async def has_mail() -> bool:
        return bool(scene.mails_to(berta))

    await eventually(has_mail)
    statuses = [await scene.event_of(each) for each in envelopes]
    named = sender_name("acme", berta)
    assert [each for each in statuses if named not in each["message"]] == []
    mail = scene.mails_to(berta)[0]

    letter = await context.new_page()
    await letter.set_content(mail.html)
    await letter.get_by_role("link").first.click()
    await press(letter, "Allow")
    await expect(letter).to_have_title("Thank you")

    await scene.until_phase("Succeeded", *envelopes)
    told = [(each.message["Message-ID"], each.message["Date"]) for each in scene.mails_to(berta)]
    assert told == told[:1], await scene.local_environment.read("sender", named)
    assert not any(scene.esaw.exists(each) for each in envelopes)


async def test_sending_ends_in_the_inbox_even_behind_a_login_of_another_server(
    scene: Scene, page: Page
) -> None:
    """Browsers apply a form's policy to every redirect that follows it, and nobody knows how many hosts a
    login has."""
    async with StandIn() as identity_provider:
        await consented(page, scene, "Clara")
        await a_draft(page, scene)
        await press(page, "NEXT")
        await fill_in(page)
        scene.esaw.fault("inbox", times=1, redirect=f"{identity_provider.url}/Account/Login")

        await press(page, "Send envelope")

        await page.wait_for_url(f"{identity_provider.url}/Account/Login")


# Once


async def before_the_form(page: Page, scene: Scene, name: str) -> str:
    """Somebody who has sent before stands before the form about a draft; returns its id."""
    await consented(page, scene, name)
    draft = await a_draft(page, scene)
    await press(page, "NEXT")
    await fill_in(page)
    return draft


async def test_a_double_click_sends_once(scene: Scene, page: Page) -> None:
    draft = await before_the_form(page, scene, "Doris")
    scene.esaw.fault("draft_send", delay=1.0)

    await page.get_by_role("button", name="Send envelope").dblclick()

    await page.wait_for_url(scene.inbox)
    assert len(scene.esaw.sends(draft)) == 1


async def test_back_and_reload_lead_to_the_inbox_again_and_send_nothing(scene: Scene, page: Page) -> None:
    draft = await before_the_form(page, scene, "Emma")
    form_url = page.url
    await press(page, "Send envelope")
    await page.wait_for_url(scene.inbox)

    await page.reload()
    await page.go_back()
    # A browser may show the form from its memory or ask for it again.
    if page.url == form_url and await page.get_by_role("button", name="Send envelope").is_visible():
        await press(page, "Send envelope")
    await page.wait_for_url(scene.inbox)
    await page.goto(form_url)
    await page.wait_for_url(scene.inbox)
    assert len(scene.esaw.sends(draft)) == 1


async def test_a_form_that_is_reloaded_before_sending_is_still_good(scene: Scene, page: Page) -> None:
    draft = await before_the_form(page, scene, "Frida")
    await page.reload()
    await fill_in(page, "1234")
    await press(page, "Send envelope")
    await page.wait_for_url(scene.inbox)
    assert len(scene.esaw.sends(draft)) == 1


async def test_two_tabs_send_once_and_both_end_in_the_inbox(
    scene: Scene, page: Page, context: BrowserContext
) -> None:
    draft = await before_the_form(page, scene, "Gerda")
    second = await context.new_page()
    await second.goto(page.url)
    await fill_in(second)
    scene.esaw.fault("draft_send", delay=1.0)

    await asyncio.gather(press(page, "Send envelope"), press(second, "Send envelope"))

    await asyncio.gather(page.wait_for_url(scene.inbox), second.wait_for_url(scene.inbox))
    assert len(scene.esaw.sends(draft)) == 1


# Whose click it was


async def test_where_no_tags_are_asked_for_the_second_send_asks_nothing_at_all(
    scene: Scene, page: Page
) -> None:
    await consented(page, scene, "Hilda", "plain")
    draft = await a_draft(page, scene)

    await press(page, "NEXT")

    await page.wait_for_url(scene.inbox)
    assert len(scene.esaw.sends(draft)) == 1


ELSEWHERE = "http://elsewhere.localhost/"


async def shows(context: BrowserContext, html: str) -> Page:
    """A page of somebody else's on another site."""

    async def answer(route: Route) -> None:
        await route.fulfill(body=html, content_type="text/html")

    await context.route(ELSEWHERE, answer)
    page = await context.new_page()
    await page.goto(ELSEWHERE)
    return page


@pytest.mark.parametrize("policy", ["unsafe-url", "no-referrer"])
async def test_a_link_on_a_third_party_page_sends_nothing_before_the_person_confirms(
    scene: Scene, page: Page, context: BrowserContext, policy: str
) -> None:
    ida = await consented(page, scene, f"Ida-{policy}", "plain")
    draft = await a_draft(page, scene, "Not yet")
    link = html.escape(scene.link("plain", draft, ida))
    elsewhere = await shows(
        context, f'<meta name="referrer" content="{policy}"><a href="{link}">Look at this</a>'
    )

    await elsewhere.get_by_role("link").click()

    await expect(elsewhere).to_have_title("Send this envelope?")
    await expect(elsewhere.get_by_text("Not yet")).to_be_visible()
    assert scene.esaw.sends(draft) == []
    await press(elsewhere, "Send envelope")
    await elsewhere.wait_for_url(scene.inbox)
    assert len(scene.esaw.sends(draft)) == 1


async def test_a_form_on_a_third_party_page_has_no_session(
    scene: Scene, page: Page, context: BrowserContext
) -> None:
    """SameSite=Lax: the browser leaves our cookie out."""
    draft = await before_the_form(page, scene, "Jana")
    token = await page.locator("input[name=form]").get_attribute("value")
    elsewhere = await shows(
        context,
        f'<form method="post" action="{html.escape(page.url)}"><input name="form" value="{token}">'
        '<input name="tag.costCenter" value="6666"><button>Win</button></form>',
    )

    await press(elsewhere, "Win")

    await expect(elsewhere).to_have_title("This form is no longer valid")
    assert scene.esaw.sends(draft) == []


async def test_no_page_is_shown_in_a_third_party_frame(
    scene: Scene, page: Page, context: BrowserContext
) -> None:
    draft = await before_the_form(page, scene, "Karla")
    elsewhere = await shows(context, f'<iframe src="{html.escape(page.url)}"></iframe>')

    await expect(elsewhere.frame_locator("iframe").get_by_role("button", name="Send envelope")).to_have_count(
        0
    )
    frame = elsewhere.frames[-1]
    assert frame.url == "chrome-error://chromewebdata/", "the browser refused to show it"
    assert scene.esaw.sends(draft) == []


async def test_what_people_wrote_runs_no_script(scene: Scene, page: Page) -> None:
    nasty = '"><img src=x onerror="document.title=1"><script>document.title=1</script>'
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    await consented(page, scene, "Lola")
    draft = await a_draft(page, scene, nasty)
    await press(page, "NEXT")

    await expect(page.get_by_text(nasty)).to_be_visible()
    await expect(page).to_have_title("Before your envelope is sent")
    await fill_in(page)
    await page.get_by_label("Cost centre").evaluate("(input) => input.removeAttribute('pattern')")
    await page.get_by_label("Cost centre").fill(nasty)
    await press(page, "Send envelope")

    await expect(page.get_by_role("alert")).to_be_visible()
    await expect(page.get_by_label("Cost centre")).to_have_value(nasty)
    await expect(page).to_have_title("Before your envelope is sent")
    assert not [each for each in said if "Content Security Policy" in each], "nothing was there to be stopped"
    assert scene.esaw.sends(draft) == []


async def test_denying_on_the_mails_link_says_what_waits_and_stores_nothing(scene: Scene, page: Page) -> None:
    tina = await consented(page, scene, "Tina")
    scene.esaw.withdraw_consent(tina, scene.apps["acme"].client_id)
    link = f"{scene.public}/consent/acme/{sender_name('acme', tina)}"
    await page.goto(link)

    await press(page, "Deny")

    await expect(page).to_have_title("You did not agree")
    await expect(page.get_by_text("wait for your consent")).to_be_visible()
    await expect(page.get_by_text("draft")).to_have_count(0)
    await page.goto(f"{link}/done")
    await expect(page).to_have_title("Consent to the archiving")


# Every browser


async def test_it_all_works_with_scripts_switched_off(scene: Scene, browser: Browser) -> None:
    async with a_context(browser, java_script_enabled=False) as context:
        page = await context.new_page()
        await consented(page, scene, "Maria")


async def test_it_all_works_by_keyboard_alone(scene: Scene, page: Page) -> None:
    draft = await before_the_form(page, scene, "Nora")
    await page.reload()
    await page.keyboard.press("Tab")
    await expect(page.get_by_label("Cost centre")).to_be_focused()
    await page.keyboard.type("4711")
    await page.keyboard.press("Tab")
    await expect(page.get_by_label("Kind")).to_be_focused()
    await page.keyboard.type("Sale")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("button", name="Send envelope")).to_be_focused()
    await page.keyboard.press("Enter")

    await page.wait_for_url(scene.inbox)
    assert len(scene.esaw.sends(draft)) == 1


async def test_it_fits_a_phone(scene: Scene, browser: Browser) -> None:
    async with a_context(
        browser, viewport={"width": 320, "height": 568}, is_mobile=True, has_touch=True
    ) as phone:
        page = await phone.new_page()
        await before_the_form(page, scene, "Olga")

        await fits(page)
        button = await page.get_by_role("button", name="Send envelope").bounding_box()
        assert button is not None
        assert button["height"] >= 44, "as large as a finger"
        await page.get_by_role("button", name="Send envelope").tap()
        await page.wait_for_url(scene.inbox)
        await page.goto(f"{scene.public}/before-send/acme?draftId=nonsense")
        await expect(page).to_have_title("This link is not complete")
        await fits(page)


async def fits(page: Page) -> None:
    """Nothing has to be moved sideways to be read."""
    assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.parametrize(
    ("locale", "send"),
    [("de-AT", "Umschlag senden"), ("it-IT", "Invia la busta"), ("fr-FR", "Send envelope")],
)
async def test_it_speaks_the_language_that_the_browser_asks_for(
    scene: Scene, browser: Browser, page: Page, locale: str, send: str
) -> None:
    await before_the_form(page, scene, f"Paula-{locale}")
    async with a_context(browser, locale=locale, storage_state=await page.context.storage_state()) as context:
        other = await context.new_page()
        await other.goto(page.url)
        await expect(other.get_by_role("button", name=send)).to_be_visible()
        assert await other.locator("html").get_attribute("lang") == (
            "en" if locale == "fr-FR" else locale[:2]
        )


# Secrets


def keys_in(text: str, known: set[str]) -> list[str]:
    """Keys in a text, of those that eSAW has seen in use; by their fingerprints, as nobody has them all."""
    words = set(re.findall(r"[A-Za-z0-9]{40,}", text))
    return sorted(known & {hashlib.sha256(each.encode()).hexdigest()[:8] for each in words})


async def test_no_key_that_existed_is_in_any_page_mail_object_log_or_metric(
    scene: Scene, page: Page, context: BrowserContext
) -> None:
    rosa, other = await consented(page, scene, "Rosa"), scene.a_user("Other")
    shown: list[str] = []
    draft = await a_draft(page, scene)
    await press(page, "NEXT")
    await fill_in(page)
    shown.append(await page.content())
    scene.esaw.fault("draft_send", times=1, status=400)
    await press(page, "Send envelope")
    await expect(page).to_have_title("eSignAnyWhere did not send the envelope")
    shown.append(await page.content())
    await page.goto(scene.link("acme", draft, other))
    await expect(page).to_have_title("This link is for another user")
    shown.append(await page.content())
    await page.goto(scene.link("acme", draft, rosa))
    await fill_in(page)
    await press(page, "Send envelope")
    await page.wait_for_url(scene.inbox)
    envelope = scene.envelope_of(draft)
    scene.esaw.withdraw_consent(rosa, scene.apps["acme"].client_id)
    await scene.esaw.complete(envelope)
    await scene.until_phase("AwaitingConsent", envelope)
    await page.goto(f"{scene.public}/consent/acme/{sender_name('acme', rosa)}")
    await press(page, "Allow")
    await expect(page).to_have_title("Thank you")
    shown.append(await page.content())
    await scene.until_phase("Succeeded", envelope)

    known = {each.token_sha256 for each in scene.esaw.requests() if each.token_sha256 is not None}
    assert keys_in(await scene.token_of(rosa), known), "the search sees nothing"
    written = await scene.all_that_is_written()
    written |= {f"page {number}": text for number, text in enumerate(shown)}
    written["cookies"] = str(await context.cookies())
    assert {place: found for place, text in written.items() if (found := keys_in(text, known))} == {}

"""
Consent and the page before sending, as people meet them: a real Chromium, a real API server, real mail.

The tests share one scene; each has users and drafts of its own.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import BrowserContext, Page, expect

from sandbox.controlplane.plane import ControlPlane
from sandbox.esaw import StandIn
from tests.e2e.consent_scene import Scene, a_draft, consent_scene, press, sender_name, sign_in


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


async def consented(page: Page, scene: Scene, name: str, organization: str = "acme") -> str:
    """Somebody sends for the first time; returns the envelope."""
    await sign_in(page, scene, scene.a_user(name))
    scene.belongs_to(organization)
    draft = await a_draft(page, scene, "First")
    await press(page, "NEXT")
    await press(page, "Allow")
    if organization == "acme":
        await fill_in(page)
        await press(page, "Send envelope")
    await page.wait_for_url(scene.inbox)
    return scene.envelope_of(draft)


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

    await scene.until(has_mail)
    statuses = [await scene.event_of(each) for each in envelopes]
    assert all(sender_name("acme", berta) in str(each) for each in statuses)
    mail = scene.mails_to(berta)[0]

    letter = await context.new_page()
    await letter.set_content(mail.html)
    await letter.get_by_role("link").first.click()
    await press(letter, "Allow")
    await expect(letter).to_have_title("Thank you")

    await scene.until_phase("Succeeded", *envelopes)
    assert len(scene.mails_to(berta)) == 1
    assert not any(scene.esaw.exists(each) for each in envelopes)


async def test_sending_ends_in_the_inbox_even_if_that_lies_behind_a_login_of_another_server(
    scene: Scene, page: Page
) -> None:
    """Browsers apply a form's policy to every redirect that follows it, and nobody knows how many hosts a login has."""
    async with StandIn() as identity_provider:
        await consented(page, scene, "Clara")
        await a_draft(page, scene)
        await press(page, "NEXT")
        await fill_in(page)
        scene.esaw.fault("inbox", times=1, redirect=f"{identity_provider.url}/Auth/Login")

        await press(page, "Send envelope")

        await page.wait_for_url(f"{identity_provider.url}/Auth/Login")

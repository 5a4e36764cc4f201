"""
Sign-in with an OpenID provider in a real Chromium, which keeps strict cookies back when it returns.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from sandbox.controlplane.ports import free_port
from tests.support.pauses import BROWSER_STEP_MILLISECONDS
from tests.support.scenes.console import console_scene
from tests.support.scenes.oidc import JANE, console_settings, janes_role, plane_that_trusts
from tests.support.servers.openid_provider import openid_provider


@dataclass
class OidcBrowser:
    """A tab, and the address of the console that it visits."""

    page: Page
    url: str


@pytest.fixture
async def oidc(browser: Browser, tmp_path: Path) -> AsyncIterator[OidcBrowser]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with openid_provider(tmp_path) as provider, plane_that_trusts(provider) as plane:
        # The console must know its address before it starts.
        settings = {"listen": f"127.0.0.1:{port}", **console_settings(provider, tmp_path, public_url=url)}
        async with (
            console_scene(plane, "default", tmp_path, **settings) as scene,
            await browser.new_context(locale="en-GB", ignore_https_errors=True) as context,
        ):
            await scene.local_environment.apply(*janes_role())
            context.set_default_timeout(BROWSER_STEP_MILLISECONDS)
            yield OidcBrowser(await context.new_page(), url)


async def test_a_click_leads_through_the_provider_to_the_page_that_was_asked_for_until_the_sign_out(
    oidc: OidcBrowser,
) -> None:
    page = oidc.page
    with_provider = page.get_by_role("link", name="Sign in with Acme login")
    sign_out = page.get_by_role("button", name="Sign out")
    await page.goto(f"{oidc.url}/events?phase=Failed")
    await with_provider.click()

    await expect(page.get_by_text(JANE).first).to_be_visible()
    assert page.url == f"{oidc.url}/events?phase=Failed"
    cookies = {each["name"]: each for each in await page.context.cookies()}
    assert not [each for each in cookies if "console-oidc" in str(each)]
    session = cookies["__Host-counterfoil-console-0"]
    assert (session["httpOnly"], session["secure"], session["sameSite"]) == (True, True, "Strict")

    await page.locator("summary", has_text="Menu").click()
    await sign_out.click()
    await expect(with_provider).to_be_visible()
    await page.goto(f"{oidc.url}/events")
    await expect(with_provider).to_be_visible()

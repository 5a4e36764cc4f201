"""The docs work from a folder: pages, drawings and the search need no server and no other host."""

import asyncio
import sys
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, Request

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", str(DOCS), str(target)]
    sphinx = await asyncio.create_subprocess_exec(*build)
    assert await sphinx.wait() == 0
    return target


async def test_the_search_finds_a_page_without_a_server(context: BrowserContext, site: Path) -> None:
    requested: list[str] = []

    def note(request: Request) -> None:
        requested.append(request.url)

    context.on("request", note)
    page = await context.new_page()
    await page.goto((site / "index.html").as_uri())
    await page.get_by_label("Search").fill("withdraw")
    await page.get_by_label("Search").press("Enter")
    await page.locator("#search-results").get_by_role("link", name="For senders").click()
    await page.get_by_role("heading", name="Withdraw the consent").wait_for()
    assert [url for url in requested if not url.startswith(("file:", "data:", "blob:"))] == []


async def test_a_drawing_is_shown(context: BrowserContext, site: Path) -> None:
    page = await context.new_page()
    await page.goto((site / "contributing" / "one-callback.html").as_uri())
    drawing = page.locator("object[type='image/svg+xml']")
    await drawing.wait_for()
    address = await drawing.get_attribute("data")
    assert address is not None
    assert "claim names" in (site / "contributing" / address).resolve().read_text("utf-8")


async def test_a_long_command_is_whole_on_the_screen_and_every_block_is_on_paper(
    context: BrowserContext, site: Path
) -> None:
    page = await context.new_page()
    await page.set_viewport_size({"width": 700, "height": 900})
    await page.goto((site / "start.html").as_uri())
    cut = (
        "blocks => blocks.filter(each => each.scrollWidth > each.clientWidth + 1).map(each => each.innerText)"
    )
    assert await page.locator(".highlight-console pre").evaluate_all(cut) == []
    await page.emulate_media(media="print")
    assert await page.locator(".highlight pre").evaluate_all(cut) == []

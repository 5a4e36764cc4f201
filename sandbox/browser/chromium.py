"""
A real Chromium without a screen, driven by Playwright: for what only a browser shows, as cookies, policies
and clicks.

The browser is Debian's own, installed if it is missing; Playwright's are never downloaded. It reaches this
machine and nothing else: every other name is unknown to it, and the background requests of browsers are off.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from playwright.async_api import Browser, async_playwright

from sandbox.packages import debian

PACKAGE: Final = "chromium"
PROGRAM: Final = "/usr/bin/chromium"

_ARGUMENTS: Final = (
    "--no-sandbox",  # its own needs more than root in a container has; it opens nothing but our pages
    "--disable-gpu",
    "--disable-dev-shm-usage",  # containers have 64 MiB of it, and a page that finds no room dies
    "--disable-background-networking",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """
    Run a Chromium; each of its contexts (``new_context()``) is one person's browser, with separate cookies.

    Raises ``debian.PackagesMissing``, which says what to type.
    """
    await debian.ensure(PACKAGE)
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=PROGRAM, args=_ARGUMENTS)
        try:
            yield browser
        finally:
            await browser.close()

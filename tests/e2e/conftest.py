"""
A real Chromium for all tests that need one, beside the control plane of the cluster tests.
"""

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, BrowserContext

from sandbox.browser.chromium import chromium
from tests.cluster.conftest import pytest_configure
from tests.support.pauses import BROWSER_STEP_MILLISECONDS

__all__ = ["pytest_configure"]  # the control plane of the cluster tests


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """A running Chromium."""
    async with chromium() as running:
        yield running


@pytest.fixture
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    """The browser of somebody who was never here before."""
    async with await browser.new_context(locale="en-GB") as fresh:
        fresh.set_default_timeout(BROWSER_STEP_MILLISECONDS)
        yield fresh

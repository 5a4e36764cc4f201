"""The pages' handler: what every answer keeps, also one without a readable request."""

from typing import cast

import httpx
from prometheus_client import CollectorRegistry

from counterfoil.metrics import Metrics
from counterfoil.settings import ListenAddress
from webhook.http_server.rate_limit import TokenBucket
from webhook.http_server.server import public_server
from webhook.pages.handler import PageHandler
from webhook.pages.limits import PageLimits
from webhook.pages.rendering import PageRenderer
from webhook.pages.views import PageViews


async def test_a_request_line_beyond_the_limit_is_answered_with_a_page() -> None:
    limits = PageLimits()
    handler = PageHandler(
        cast("PageViews", None),
        PageRenderer(),
        Metrics(CollectorRegistry(), version="test"),
        bucket=TokenBucket(rate=50, burst=50),
        limits=limits,
        monotonic=lambda: 0.0,
    )
    async with (
        public_server(ListenAddress("127.0.0.1", 0), handler, limits=limits, grace_seconds=2.0) as address,
        httpx.AsyncClient(base_url=f"http://{address}", trust_env=False) as http,
    ):
        answer = await http.get("/consent/acme/anna", params={"x": "y" * limits.request_line})
    assert answer.status_code == 400
    assert "text/html" in answer.headers["Content-Type"]

"""The frame around a browser's request, over a real socket: what a refusal costs, and what it reads."""

from collections.abc import AsyncIterator
from enum import StrEnum

import httpx
import pytest
from prometheus_client import CollectorRegistry

from counterfoil.i18n.catalogue import CatalogueName
from counterfoil.metrics import Metrics
from counterfoil.settings import ListenAddress
from webhook.console.limits import ConsoleLimits
from webhook.http_server.errors import PageError
from webhook.http_server.handler import BrowserHandler, BrowserRequest, Route, negotiate_language
from webhook.http_server.limits import HttpLimits
from webhook.http_server.rate_limit import ClientBuckets, TokenBucket, TokenBuckets
from webhook.http_server.responses import PageResponse
from webhook.http_server.server import public_server
from webhook.pages.limits import PageLimits

LIMITS = HttpLimits()


class OnlyPage(StrEnum):
    """The page of this process."""

    COOKIES = "cookies"


class CookieHandler(BrowserHandler[BrowserRequest]):
    """Shows the cookies of a request, on its page and in its errors. The burst is two requests."""

    catalogue = CatalogueName.PAGES
    log_name = "page"

    def __init__(self) -> None:
        metrics = Metrics(CollectorRegistry(), version="test")
        super().__init__(
            BrowserRequest,
            lambda path: Route(OnlyPage.COOKIES, ("GET",) if path == "/" else ()),
            requests=metrics.page_requests,
            seconds=metrics.page_seconds,
            rates=ClientBuckets(
                TokenBuckets(lambda: TokenBucket(rate=1.0, burst=2), max_buckets=10),
                TokenBucket(rate=1.0, burst=10),
            ),
            proxies=1,
            limits=LIMITS,
            monotonic=lambda: 0.0,
        )

    async def respond(self, request: object, asked: BrowserRequest) -> PageResponse:
        return PageResponse(html=repr(dict(asked.cookies)))

    def error_page(self, asked: BrowserRequest, error: PageError) -> PageResponse:
        return PageResponse(html=repr(dict(asked.cookies)), status=error.kind.status)

    def headers(self, asked: BrowserRequest, response: PageResponse) -> dict[str, str]:
        return {}


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with (
        public_server(
            ListenAddress("127.0.0.1", 0), CookieHandler(), limits=LIMITS, grace_seconds=2.0
        ) as address,
        httpx.AsyncClient(base_url=f"http://{address}", trust_env=False) as client,
    ):
        yield client


async def test_a_page_gets_the_cookies_of_its_request(http: httpx.AsyncClient) -> None:
    answer = await http.get("/", headers={"Cookie": "a=1; b=2=3;c="})
    assert answer.text == repr({"a": "1", "b": "2=3", "c": ""})


async def test_no_cookie_is_parsed_for_a_request_beyond_the_rate(http: httpx.AsyncClient) -> None:
    answers = [await http.get("/", headers={"Cookie": "a=1"}) for _ in range(3)]
    assert [(answer.status_code, answer.text) for answer in answers] == [
        (200, "{'a': '1'}"),
        (200, "{'a': '1'}"),
        (429, "{}"),
    ]


@pytest.mark.parametrize("limits", [HttpLimits(), PageLimits()])
def test_a_header_line_has_12_kib_at_most(limits: HttpLimits) -> None:
    assert limits.header_field == 12 * 1024


def test_the_console_accepts_the_cookies_of_its_longest_session() -> None:
    four_cookies = 4 * 4096
    assert four_cookies < ConsoleLimits().header_field


# -- The language -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "spoken"),
    [
        (None, "en"),
        ("", "en"),
        ("de", "de"),
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("fr-FR,fr;q=0.9,it;q=0.8,en;q=0.7", "it"),
        ("en;q=0.5,it;q=0.9", "it"),
        ("DE_at", "en"),
        ("IT-ch", "it"),
        ("fr, *;q=0.1", "en"),
        ("de;q=0", "en"),
        ("de;q=nonsense, it", "it"),
        ("de;q=-1", "en"),
        ("de;q=inf", "en"),
        (",".join(["xx"] * 10_000) + ",de", "en"),
        ("\x00;;;,,;q=;=", "en"),
    ],
)
def test_the_browsers_first_wish_that_we_speak_is_spoken(wanted: str | None, spoken: str) -> None:
    assert negotiate_language(wanted) == spoken

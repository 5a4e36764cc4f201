"""The console's reception over a real socket: how much is too much, and for whom, with the clock in hand."""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, cast

import httpx
import lxml.etree
import lxml.html
import pytest
from prometheus_client import CollectorRegistry

from counterfoil.kube.client import KubeClient, TokenClientFactory
from counterfoil.kube.errors import ApiError, Forbidden, NotFound, Unavailable
from counterfoil.kube.served_namespaces import ServedNamespaces
from counterfoil.kube.watch import Raw
from counterfoil.metrics import Metrics
from counterfoil.resources import EnvelopeEvent, Resource
from counterfoil.settings import ListenAddress, SignIn
from tests.support.builders import AClock, EventBuilder
from tests.support.scenes.receiver_parts import NOON
from webhook.console.access import Authenticator
from webhook.console.actions import ActionService
from webhook.console.events.views import EventViews
from webhook.console.handler import ConsoleHandler
from webhook.console.identity.sign_outs import ProcessSignOuts, SignOutsFull
from webhook.console.limits import ConsoleLimits
from webhook.console.rendering import ConsoleRenderer
from webhook.console.sessions import ConsoleSessions, ProcessCookieCipher
from webhook.console.views import ConsoleViews
from webhook.http_server.rate_limit import ClientBuckets, TokenBucket, TokenBuckets
from webhook.http_server.server import public_server

LIMITS = ConsoleLimits(refused_burst=3, refused_burst_of_all=5)
HOUR, QUARTER = timedelta(hours=1), timedelta(minutes=15)
ANNA, BEN, CAT = "203.0.113.7", "203.0.113.8", "203.0.113.9"


RENDERER = ConsoleRenderer(LIMITS)


class CountingTokenClientFactory(TokenClientFactory):
    """Knows one token, and counts how often it is asked whose one is."""

    namespace = "contracts"

    def __init__(self) -> None:
        self.asked = 0
        self.reviewed: list[str] = []
        """Namespace of each question about a right."""
        self.forbidden: set[str] = set()
        """Namespaces in which nobody has a right."""
        self.event_pages: list[tuple[list[Raw], str] | Exception] = []
        """Pages of events in order; none: there are no events."""

    def client_for(self, bearer: str, namespace: str | None = None) -> KubeClient:
        return cast("KubeClient", Account(self, bearer, namespace or self.namespace))


class Account:
    """The API server as the owner of a token sees it."""

    def __init__(self, client_factory: CountingTokenClientFactory, bearer: str, namespace: str) -> None:
        self._client_factory = client_factory
        self._bearer = bearer
        self.namespace = namespace

    async def is_allowed(self, verb: str, resource: str, *, group: str = "") -> bool:
        self._client_factory.reviewed.append(self.namespace)
        return self.namespace not in self._client_factory.forbidden

    async def page(self, kind: type[Resource], **selected: Any) -> tuple[list[Raw], str]:
        if kind is not EnvelopeEvent or not self._client_factory.event_pages:
            return [], ""
        found = self._client_factory.event_pages.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    async def first(
        self, kind: type[Resource], parse: Callable[[list[Raw]], Iterable[Any]], **selected: Any
    ) -> tuple[list[Any], bool]:
        found, token = await self.page(kind, **selected)
        return list(parse(found)), bool(token)

    async def whoami(self) -> str:
        self._client_factory.asked += 1
        if self._bearer != "good":
            raise Forbidden(401, "Unauthorized", "nobody's")
        return "jane"


class Scene:
    """A console to which everybody comes by one proxy."""

    def __init__(self, **settings: Any) -> None:
        self.clock = AClock(NOON)
        self.client_factory = CountingTokenClientFactory()
        burst, of_all = settings.get("address_burst", 1000), settings.get("page_burst", 1000)
        others: tuple[str, ...] = settings.get("others", ())
        self.served = ServedNamespaces("contracts", ("contracts", *others))
        clock, renderer = AClock(), RENDERER
        actions = ActionService(clock)
        self.wall_clock = clock
        self.handler = ConsoleHandler(
            views=ConsoleViews(renderer, actions, clock, limits=LIMITS),
            event_views=EventViews(renderer, actions, clock, limits=LIMITS),
            renderer=renderer,
            sessions=ConsoleSessions(ProcessCookieCipher(), clock, max_age=HOUR, idle=QUARTER),
            sign_outs=settings.get("sign_outs", ProcessSignOuts(clock, session=HOUR)),
            authenticator=Authenticator(
                self.client_factory,
                limits=LIMITS,
                monotonic=self.clock.monotonic,
                served=self.served,
            ),
            metrics=Metrics(CollectorRegistry(), version="test"),
            clock=clock,
            sign_in=SignIn.TOKEN,
            rates=ClientBuckets(
                TokenBuckets(lambda: TokenBucket(rate=1.0, burst=burst), max_buckets=10),
                TokenBucket(rate=1.0, burst=of_all),
            ),
            proxies=settings.get("proxies", 1),
            limits=LIMITS,
            monotonic=self.clock.monotonic,
        )
        self.http: httpx.AsyncClient

    async def page(self, address: str) -> int:
        """Ask for a page; return the status."""
        return (await self.http.get("/sign-in", headers={"X-Forwarded-For": address})).status_code

    async def tries(self, token: str, address: str) -> int:
        """Try to sign in; return the status."""
        headers = {"X-Forwarded-For": address}
        answer = await self.http.get("/sign-in", headers=headers)
        cookie = answer.headers["Set-Cookie"].partition(";")[0]
        form = lxml.html.document_fromstring(answer.text).xpath("//input[@name='form']/@value")[0]
        sent = {"form": form, "token": token, "back": "/"}
        return (
            await self.http.post("/sign-in", data=sent, headers={**headers, "Cookie": cookie})
        ).status_code

    async def signed_in(self) -> dict[str, str]:
        """Sign in; return the headers of the browser."""
        answer = await self.http.get("/sign-in")
        form = lxml.html.document_fromstring(answer.text).xpath("//input[@name='form']/@value")[0]
        sent = {"form": form, "token": "good", "back": "/"}
        answer = await self.http.post("/sign-in", data=sent, headers={"Cookie": cookies_of(answer)})
        assert answer.status_code == 303
        return {"Cookie": cookies_of(answer)}

    async def sign_out(self, headers: dict[str, str]) -> httpx.Response:
        """Press the button of the page."""
        page = lxml.html.document_fromstring((await self.http.get("/events", headers=headers)).text)
        form = page.xpath("//form[@action='/sign-out']//input[@name='form']/@value")[0]
        return await self.http.post("/sign-out", data={"form": form}, headers=headers)

    async def is_signed_in(self, headers: dict[str, str]) -> bool:
        """Whether a page is shown to this browser."""
        return "/sign-out" in (await self.http.get("/events", headers=headers)).text


def cookies_of(answer: httpx.Response) -> str:
    """The Cookie header of a browser that takes the cookies of an answer."""
    pairs = (each.partition(";")[0] for each in answer.headers.get_list("Set-Cookie"))
    return "; ".join(pair for pair in pairs if pair.partition("=")[2])


@asynccontextmanager
async def a_console(**settings: Any) -> AsyncIterator[Scene]:
    scene = Scene(**settings)
    async with (
        public_server(
            ListenAddress("127.0.0.1", 0), scene.handler, limits=LIMITS, grace_seconds=2.0
        ) as address,
        httpx.AsyncClient(base_url=f"http://{address}", trust_env=False, verify=False) as http,
    ):
        scene.http = http
        yield scene


async def test_only_the_client_that_asks_for_too_many_pages_is_delayed() -> None:
    async with a_console(address_burst=3) as console:
        assert [await console.page(ANNA) for _ in range(4)] == [200, 200, 200, 429]
        assert await console.page(BEN) == 200

        await console.clock.sleep(1.0)
        assert await console.page(ANNA) == 200


async def test_what_a_browser_writes_itself_into_the_header_gives_it_no_other_address() -> None:
    async with a_console(address_burst=1) as console:
        assert [await console.page(f"198.51.100.{number}, {ANNA}") for number in range(3)] == [200, 429, 429]


async def test_without_a_proxy_the_header_is_not_believed() -> None:
    async with a_console(address_burst=1, proxies=0) as console:
        assert [await console.page(each) for each in (ANNA, BEN)] == [200, 429]


async def test_all_together_get_no_more_pages_than_the_process_bears() -> None:
    async with a_console(page_burst=3) as console:
        crowd = [f"203.0.113.{number}" for number in range(4)]
        assert [await console.page(each) for each in crowd] == [200, 200, 200, 429]


async def test_tokens_can_not_be_tried_at_will_and_the_api_server_is_spared() -> None:
    async with a_console() as console:
        assert [await console.tries("guess", ANNA) for _ in range(5)] == [401, 401, 401, 429, 429]
        assert console.client_factory.asked == 3

        await console.clock.sleep(1 / LIMITS.refused_rate)
        assert [await console.tries("guess", ANNA) for _ in range(2)] == [401, 429]


async def test_a_client_that_tries_tokens_locks_no_client_of_another_address_out() -> None:
    async with a_console() as console:
        for _ in range(10):
            await console.tries("guess", ANNA)
        assert await console.tries("good", BEN) == 303


async def test_many_addresses_together_try_no_more_than_the_api_server_is_to_bear() -> None:
    async with a_console() as console:
        statuses = [await console.tries("guess", each) for each in (ANNA, BEN, CAT) for _ in range(2)]
        assert statuses == [401] * 5 + [429]


async def test_good_tokens_count_for_nothing() -> None:
    async with a_console() as console:
        assert {await console.tries("good", ANNA) for _ in range(20)} == {303}


async def test_a_request_line_beyond_the_limit_is_answered_with_a_page() -> None:
    async with a_console() as scene:
        answer = await scene.http.get("/sign-in", params={"x": "y" * 50_000})
        assert answer.status_code == 400
        assert "text/html" in answer.headers["Content-Type"]


async def test_a_query_with_a_name_given_twice_is_refused() -> None:
    async with a_console() as scene:
        assert (await scene.http.get("/events?phase=Failed&phase=Succeeded")).status_code == 400


async def test_an_open_page_whose_session_has_ended_gets_a_reload() -> None:
    async with a_console() as scene:
        answer = await scene.http.get("/attention", headers={"HX-Request": "true"})
        assert (answer.status_code, answer.headers["HX-Refresh"]) == (401, "true")


class BrokenSignOuts:
    """A store that fails to write, and to read from when the test sets it."""

    def __init__(self, problem: Exception, *, also_reading: bool = False) -> None:
        self._problem = problem
        self.also_reading = also_reading

    async def cached(self, user: str) -> None:
        """Know nobody."""
        if self.also_reading:
            raise self._problem

    async def current(self, user: str) -> None:
        """Know nobody."""
        await self.cached(user)

    async def record(self, user: str, when: datetime) -> None:
        """Fail."""
        raise self._problem


async def test_a_copy_of_the_cookies_is_refused_after_the_sign_out() -> None:
    async with a_console() as console:
        jane = await console.signed_in()
        assert await console.is_signed_in(jane)

        assert (await console.sign_out(jane)).headers["Location"] == "/sign-in"

        assert not await console.is_signed_in(jane)
        assert await console.is_signed_in(await console.signed_in())


@pytest.mark.parametrize("problem", [Unavailable(0, "NoAnswer", "no answer"), SignOutsFull("full")])
async def test_a_sign_out_that_can_not_be_stored_ends_this_browsers_session_and_says_what_lives_on(
    problem: Exception,
) -> None:
    async with a_console(sign_outs=BrokenSignOuts(problem)) as console:
        answer = await console.sign_out(await console.signed_in())

        assert answer.status_code == 503
        assert "You are signed out in this browser only" in answer.text
        ended = [each for each in answer.headers.get_list("Set-Cookie") if "Max-Age=0" in each]
        assert ended[0].startswith("__Host-counterfoil-console-0=;")


async def test_nobody_is_signed_in_while_sign_outs_are_unknown() -> None:
    sign_outs = BrokenSignOuts(Forbidden(403, "Forbidden", "not the console's"))
    async with a_console(sign_outs=sign_outs) as console:
        jane = await console.signed_in()
        sign_outs.also_reading = True

        answer = await console.http.get("/events", headers=jane)

        assert answer.status_code == 503
        assert await console.tries("good", ANNA) == 503


@pytest.mark.parametrize(
    "problem",
    [NotFound(404, "NotFound", "no ConfigMap"), Forbidden(403, "Forbidden", "not the console's")],
)
async def test_a_missing_config_map_of_sign_outs_is_not_called_an_api_server_that_does_not_answer(
    problem: ApiError,
) -> None:
    sign_outs = BrokenSignOuts(problem)
    async with a_console(sign_outs=sign_outs) as console:
        jane = await console.signed_in()
        sign_outs.also_reading = True

        answer = await console.http.get("/events", headers=jane)

        assert answer.status_code == 503
        assert "The API server does not answer" not in answer.text
        assert "counterfoil-console-sessions" in answer.text


async def test_a_page_that_polls_keeps_no_session_open_but_a_click_does() -> None:
    async with a_console() as console:
        jane = await console.signed_in()
        console.wall_clock.advance(minutes=10)
        refreshed = await console.http.get("/events", headers={**jane, "HX-Request": "true"})
        clicked = await console.http.get("/events", headers=jane)
        assert (cookies_of(refreshed), cookies_of(clicked) != "") == ("", True)
        console.wall_clock.advance(minutes=10)

        assert not await console.is_signed_in(jane)
        assert await console.is_signed_in({"Cookie": cookies_of(clicked)})


@pytest.mark.parametrize("path", ["/oidc/start", "/oidc/return?state=s&code=c"])
async def test_without_a_provider_there_is_no_way_to_one(path: str) -> None:
    async with a_console() as console:
        assert (await console.http.get(path)).status_code == 404
        assert "/oidc/start" not in (await console.http.get("/sign-in")).text


@pytest.mark.parametrize(
    ("chosen", "kept"), [("dark", "dark"), ("light", "light"), ("system", None), ("x", None)]
)
async def test_the_colours_that_a_person_chooses_stay_in_the_browser_without_a_script(
    chosen: str, kept: str | None
) -> None:
    async with a_console() as console:
        headers = await console.signed_in()
        page = lxml.html.document_fromstring((await console.http.get("/events", headers=headers)).text)
        form = page.xpath("//form[@action='/theme']//input[@name='form']/@value")[0]

        answer = await console.http.post(
            "/theme", data={"form": form, "back": "/senders", "theme": chosen}, headers=headers
        )

        assert answer.headers["Location"] == "/senders"
        assert "Max-Age=0" in answer.headers["Set-Cookie"] or kept is not None
        cookie = "; ".join(filter(None, (headers["Cookie"], cookies_of(answer))))
        page = lxml.html.document_fromstring(
            (await console.http.get("/events", headers={"Cookie": cookie})).text
        )
        assert page.get("data-theme") == kept


async def test_a_third_party_form_changes_no_colours() -> None:
    async with a_console() as console:
        answer = await console.http.post(
            "/theme", data={"form": "x", "theme": "dark"}, headers=await console.signed_in()
        )
        assert answer.status_code == 403
        assert "theme" not in answer.headers.get("Set-Cookie", "")


async def test_the_icon_of_the_site_is_answered_without_a_session_and_without_a_rate() -> None:
    async with a_console(address_burst=1) as console:
        answers = [await console.http.get("/favicon.ico") for _ in range(3)]
        assert [each.status_code for each in answers] == [200, 200, 200]
        assert answers[0].headers["Content-Type"] == "image/svg+xml"
        assert "svg" in str(lxml.etree.fromstring(answers[0].content).tag)


async def test_the_command_on_the_sign_in_page_names_the_namespace() -> None:
    async with a_console() as console:
        page = lxml.html.document_fromstring((await console.http.get("/sign-in")).text)
        assert page.xpath("//pre/text()") == ["kubectl create token YOUR-ACCOUNT -n contracts --duration 1h"]


async def test_the_command_on_the_sign_in_page_names_the_namespace_that_the_link_leads_to() -> None:
    async with a_console(others=("sales",)) as console:
        page = lxml.html.document_fromstring((await console.http.get("/namespaces/sales/events")).text)
        assert page.xpath("//pre/text()") == ["kubectl create token YOUR-ACCOUNT -n sales --duration 1h"]
        assert page.xpath("//input[@name='back']/@value") == ["/namespaces/sales/events"]


async def test_every_link_and_form_of_a_page_stays_in_its_namespace() -> None:
    async with a_console(others=("sales",)) as console:
        browser = await console.signed_in()
        console.client_factory.event_pages = [(A_PAGE, "next")]
        answer = await console.http.get("/namespaces/sales/events", headers=browser)

    page = lxml.html.document_fromstring(answer.text)
    assert page.xpath("//nav[@class='namespaces']//a/@href") == [
        "/attention",
        "/namespaces/sales/attention",
    ]
    assert page.xpath("//nav[@class='namespaces']//a[@aria-current]/text()") == ["sales"]
    assert page.xpath("//nav[contains(@class, 'on-wide')]//a[@aria-current='page']/text()") == ["Events"]
    targets = page.xpath(
        "//body//a[not(ancestor::nav[@class='namespaces'])]/@href | //form/@action | //@hx-get"
    )
    assert "/namespaces/sales/bulk" in targets
    assert [each for each in targets if not each.startswith(("/namespaces/sales/", "#"))] == []


async def test_a_console_with_one_namespace_offers_no_choice() -> None:
    async with a_console() as console:
        answer = await console.http.get("/events", headers=await console.signed_in())
        assert "namespaces" not in answer.text


async def test_the_beginning_of_a_namespace_leads_to_its_tasks() -> None:
    async with a_console(others=("sales",)) as console:
        browser = await console.signed_in()
        for path in ("/namespaces/sales", "/namespaces/sales/"):
            answer = await console.http.get(path, headers=browser)
            assert answer.headers["Location"] == "/namespaces/sales/attention"


@pytest.mark.parametrize(
    "path",
    [
        "/namespaces/kube-system/events",
        "/namespaces/sales.x/events",
        "/namespaces/%73ales/events",
        "/namespaces/sales/namespaces/contracts/events",
        "/namespaces/sales/sign-in",
        "/namespaces/sales/static/console.css",
        "/namespaces/sales/oidc/start",
        "/namespaces/sales//events",
    ],
)
async def test_a_namespace_that_is_not_served_is_no_page_and_never_reaches_the_api_server(path: str) -> None:
    async with a_console(others=("sales",)) as console:
        browser = await console.signed_in()
        request = httpx.Request("GET", console.http.base_url, headers=browser)
        request.url = httpx.URL(str(console.http.base_url)).copy_with(raw_path=path.encode())
        answer = await console.http.send(request)

    assert answer.status_code == 404
    assert console.client_factory.reviewed == []


@pytest.mark.parametrize("page", ["act", "bulk", "theme", "sign-out"])
@pytest.mark.parametrize(
    ("origin", "target"),
    [("/namespaces/sales", ""), ("", "/namespaces/sales"), ("/namespaces/legal", "/namespaces/sales")],
)
async def test_a_form_of_a_page_of_one_namespace_does_nothing_in_another_one(
    page: str, origin: str, target: str
) -> None:
    async with a_console(others=("sales", "legal")) as console:
        browser = await console.signed_in()
        shown = lxml.html.document_fromstring(
            (await console.http.get(f"{origin}/events", headers=browser)).text
        )
        (form,) = set(shown.xpath("//form[@method='post']//input[@name='form']/@value"))
        console.client_factory.reviewed.clear()

        sent = {"form": form, "do": "retry-all", "theme": "dark"}
        answer = await console.http.post(f"{target}/{page}", data=sent, headers=browser)

        assert answer.status_code == 403
        assert console.client_factory.reviewed == []
        assert await console.is_signed_in(browser)
        bulk = await console.http.post(f"{origin}/bulk", data=sent, headers=browser)
        assert bulk.status_code == 200


async def test_a_form_for_a_namespace_that_is_not_served_is_refused() -> None:
    async with a_console(others=("sales",)) as console:
        browser = await console.signed_in()
        answer = await console.http.post("/namespaces/kube-system/act", data={"form": "x"}, headers=browser)
        assert answer.status_code == 404


async def test_rights_are_known_for_each_namespace_and_a_person_without_them_gets_a_message() -> None:
    async with a_console(others=("sales",)) as console:
        browser = await console.signed_in()
        console.client_factory.forbidden = {"sales"}
        for _ in range(2):
            assert (await console.http.get("/events", headers=browser)).status_code == 200
            refused = await console.http.get("/namespaces/sales/events", headers=browser)
            assert refused.status_code == 403
            assert "You have no right to do that" in refused.text
            assert 'href="/attention"' in refused.text

    reviewed = console.client_factory.reviewed
    assert reviewed.count("contracts") == reviewed.count("sales") == len(reviewed) / 2
    assert len(set(reviewed)) == 2


async def test_the_menu_has_only_the_namespaces_that_the_person_may_read() -> None:
    async with a_console(others=("sales", "legal")) as console:
        browser = await console.signed_in()
        console.client_factory.forbidden = {"legal"}
        answer = await console.http.get("/events", headers=browser)
        menu = lxml.html.document_fromstring(answer.text).xpath("//nav[@class='namespaces']//a/text()")

        assert menu == ["contracts", "sales"]
        assert "legal" not in answer.text


async def test_a_person_without_rights_in_the_console_s_own_namespace_begins_in_a_readable_one() -> None:
    async with a_console(others=("sales", "legal")) as console:
        browser = await console.signed_in()
        console.client_factory.forbidden = {"contracts", "sales"}
        answer = await console.http.get("/", headers=browser)

        assert answer.headers["Location"] == "/namespaces/legal/attention"


async def test_a_namespace_that_is_added_or_removed_counts_at_once() -> None:
    async with a_console(others=("sales",)) as console:
        browser = await console.signed_in()
        console.served.names = ("contracts", "legal")

        assert (await console.http.get("/namespaces/legal/events", headers=browser)).status_code == 200
        assert (await console.http.get("/namespaces/sales/events", headers=browser)).status_code == 404


async def test_a_sign_out_in_one_namespace_ends_the_session_in_all(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with a_console(others=("sales",)) as console:
        browser = await console.signed_in()
        page = lxml.html.document_fromstring(
            (await console.http.get("/namespaces/sales/events", headers=browser)).text
        )
        (form,) = page.xpath("//form[@action='/namespaces/sales/sign-out']//input[@name='form']/@value")
        await console.http.post("/namespaces/sales/sign-out", data={"form": form}, headers=browser)
        assert not await console.is_signed_in(browser)

    shown = [each for each in caplog.records if each.getMessage() == "console events: shown"]
    assert [getattr(each, "namespace", None) for each in shown][:1] == ["sales"]


A_PAGE = [EventBuilder().build().to_dict()]


async def test_a_file_is_sent_in_parts_with_the_headers_of_every_answer() -> None:
    async with a_console() as console:
        browser = await console.signed_in()
        console.client_factory.event_pages = [(A_PAGE, "next"), (A_PAGE, "")]
        answer = await console.http.get("/events.json", headers=browser)

    assert len(answer.json()["events"]) == 2
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "attachment" in answer.headers["Content-Disposition"]


async def test_a_file_that_can_not_be_finished_ends_with_an_error_and_not_as_if_it_were_whole() -> None:
    async with a_console() as console:
        browser = await console.signed_in()
        console.client_factory.event_pages = [(A_PAGE, "next"), Unavailable(503, "Gone", "it went away")]
        with pytest.raises(httpx.TransportError):
            await console.http.get("/events.csv", headers=browser)
        assert await console.is_signed_in(browser)


async def test_a_file_that_can_not_be_begun_is_a_page_that_says_why() -> None:
    async with a_console() as console:
        browser = await console.signed_in()
        console.client_factory.event_pages = [Unavailable(503, "Gone", "it went away")]
        answer = await console.http.get("/events.csv", headers=browser)

    assert answer.status_code == 503
    assert "The API server does not answer" in answer.text

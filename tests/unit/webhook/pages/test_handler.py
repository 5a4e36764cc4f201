"""The pages' handler: every request has an answer with its page, its headers and its cookies."""

import asyncio
import base64
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from counterfoil import tracing
from counterfoil.esaw import EsawClients
from counterfoil.kube.errors import ApiError, Forbidden, Unavailable, api_error
from counterfoil.kube.served_namespaces import ServedNamespaces
from counterfoil.metrics import Metrics
from counterfoil.resources import Organization, OrganizationStatus, Resource
from counterfoil.sealing import Sealing
from counterfoil.settings import ListenAddress, PagesSettings
from tests.support.builders import ORIGIN, AClock, an_organization
from tests.support.fakes.kube import InMemoryKubeClient
from tests.support.scenes.console_parts import a_sender_that
from tests.support.servers.trace_collector import trace_collector
from webhook.http_server.namespaces import NamespaceTable
from webhook.http_server.process import page_rates
from webhook.http_server.server import public_server
from webhook.pages.code_exchange import ConsentService
from webhook.pages.cookies import FlowCookies
from webhook.pages.handler import PageHandler, PageNamespace
from webhook.pages.limits import PageLimits, ReturnRates
from webhook.pages.rendering import PageRenderer
from webhook.pages.send import DraftSender
from webhook.pages.send_lease import SendLeases
from webhook.pages.send_recovery import SendRecovery
from webhook.pages.views import PageViews

LIMITS = PageLimits()
RENDERER = PageRenderer()
DRAFT = "0f9c1c2e-4b1d-4c58-9a57-6d1f0a3b2c4d"
SENT_BY = {"draftId": DRAFT, "userId": "7a0f9b9e-0000-4000-8000-000000000001"}


OAUTH = {
    "clientID": "c",
    "clientSecretRef": {"name": "esaw", "key": "secret"},
    "publicURL": "https://pages.example.com",
}


class HangingKubeClient(InMemoryKubeClient):
    """Does not answer about the Sender `slow` before the test allows it."""

    def __init__(self, *resources: Resource) -> None:
        super().__init__(*resources)
        self.arrived = asyncio.Semaphore(0)
        self.answers = asyncio.Event()

    async def _arrive(self, verb: str, name: str) -> None:
        if name == "slow":
            self.arrived.release()
            await self.answers.wait()
        await super()._arrive(verb, name)


@asynccontextmanager
async def pages_of(
    kube: InMemoryKubeClient,
    folder: Path,
    limits: PageLimits = LIMITS,
    *further: InMemoryKubeClient,
    own_namespace: str = "tests",
) -> AsyncIterator[httpx.AsyncClient]:
    """Serve the pages; nothing behind them answers but the API server. Yield a browser."""
    (folder / "k1").write_bytes(base64.b64encode(os.urandom(32)))
    sealing, clock = Sealing(folder), AClock()
    metrics = Metrics(CollectorRegistry(), version="test")
    rates = page_rates(PagesSettings(page_burst=50), limits)
    kubes = {each.namespace: each for each in (kube, *further)}

    def new(namespace: str) -> PageNamespace:
        kube = kubes[namespace]
        views = PageViews(
            kube=kube,
            own_namespace=own_namespace,
            flow_cookies=FlowCookies(sealing, clock, flow_seconds=300, form_seconds=3600),
            send_leases=SendLeases(kube, sealing, clock, attempt_seconds=60),
            consent_service=ConsentService(kube, sealing, clock),
            draft_sender=cast("DraftSender", None),
            esaw_clients=cast("EsawClients", None),
            renderer=RENDERER,
            limits=limits,
            returns=ReturnRates(limits),
            monotonic=clock.monotonic,
        )
        return PageNamespace(
            kube=kube, views=views, recovery=cast("SendRecovery", None), clock=clock, process_metrics=metrics
        )

    served = ServedNamespaces(own_namespace, tuple(kubes))
    namespaces = NamespaceTable(served, new, clock, ended=metrics.remove_namespace)
    handler = PageHandler(
        namespaces, RENDERER, metrics, rates=rates, proxies=1, limits=limits, monotonic=lambda: 0.0
    )
    async with (
        public_server(ListenAddress("127.0.0.1", 0), handler, limits=limits, grace_seconds=2.0) as address,
        httpx.AsyncClient(base_url=f"http://{address}", trust_env=False, verify=False) as client,
    ):
        yield client


def with_pages(name: str) -> Organization:
    """Return an Organization whose pages are in use."""
    return replace(an_organization(name, oauth=OAUTH), status=OrganizationStatus(origin=ORIGIN))


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A browser at the pages of one organization."""
    async with pages_of(InMemoryKubeClient(with_pages("acme"), a_sender_that()), tmp_path) as client:
        yield client


async def test_one_organization_whose_requests_hang_leaves_room_for_the_others(tmp_path: Path) -> None:
    kube = HangingKubeClient(with_pages("hostile"), with_pages("acme"))
    limits = PageLimits(in_flight=4, in_flight_of_organization=3)
    async with pages_of(kube, tmp_path, limits) as http, asyncio.TaskGroup() as tasks:
        hanging = [tasks.create_task(http.get("/consent/hostile/slow")) for _ in range(3)]
        for _ in hanging:
            await kube.arrived.acquire()

        refused = await http.get("/consent/hostile/slow")
        other = await http.get("/before-send/acme", params=SENT_BY)
        kube.answers.set()
        after = [(await each).status_code for each in hanging]
        again = await http.get("/consent/hostile/slow")

    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "30")
    assert other.status_code == 303
    assert after == [404] * 3
    assert again.status_code == 404


async def test_a_request_line_beyond_the_limit_is_answered_with_a_page(http: httpx.AsyncClient) -> None:
    answer = await http.get("/consent/acme/anna", params={"x": "y" * LIMITS.request_line})
    assert answer.status_code == 400
    assert "text/html" in answer.headers["Content-Type"]


async def test_a_query_with_a_name_given_twice_is_refused(http: httpx.AsyncClient) -> None:
    answer = await http.get(f"/before-send/acme?draftId={DRAFT}&userId=a&userId=b")
    assert answer.status_code == 400


@pytest.mark.parametrize("path", ["/", "/before-send/globex", "/consent/acme/nobody", "/before-send/acme/x"])
async def test_a_path_that_leads_nowhere_is_answered_404(http: httpx.AsyncClient, path: str) -> None:
    assert (await http.get(path, params=SENT_BY)).status_code == 404


async def test_a_page_without_a_form_refuses_one_and_says_why(http: httpx.AsyncClient) -> None:
    answer = await http.post("/before-send/acme", params=SENT_BY, data={"form": "x"})
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "GET, POST"


async def test_a_form_of_another_browser_is_refused_with_a_link_to_start_again(
    http: httpx.AsyncClient,
) -> None:
    answer = await http.post("/before-send/acme/tags", params=SENT_BY, data={"form": "x"})
    assert answer.status_code == 403
    assert f"https://pages.example.com/before-send/acme?draftId={DRAFT}" in answer.text


@pytest.mark.parametrize(
    ("language", "told"),
    [
        ("en", "without the parameter state"),
        ("de", "ohne das Kennzeichen (state)"),
        ("it", "contrassegno (state)"),
    ],
)
async def test_an_esaw_that_does_not_return_the_state_is_named_in_words(
    http: httpx.AsyncClient, language: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    led = await http.get("/before-send/acme", params=SENT_BY)
    cookie = led.headers["Set-Cookie"].partition(";")[0]
    with caplog.at_level("WARNING", "webhook"):
        back = await http.get(
            "/oauth/acme/return",
            params={"code": "c"},
            headers={"Cookie": cookie, "Accept-Language": language},
        )
    assert back.status_code == 400
    assert told in back.text
    assert "eSAW must return it unchanged" in caplog.text


@pytest.mark.parametrize(
    "query",
    [
        {"code": "c"},
        {"error": "server_error"},
        {"error": "invalid_request"},
        {"error": "access_denied"},
        {},
        {"code": "c", "iss": "https://elsewhere.example"},
    ],
)
@pytest.mark.parametrize("has_state", [True, False])
async def test_no_return_of_a_browser_is_an_error_of_the_server_before_esaw_is_asked(
    http: httpx.AsyncClient, query: dict[str, str], has_state: bool
) -> None:
    led = await http.get("/before-send/acme", params=SENT_BY)
    cookie = led.headers["Set-Cookie"].partition(";")[0]
    state = parse_qs(urlsplit(led.headers["Location"]).query)["state"][0]
    if has_state and query == {"code": "c"}:
        query = {"code": ""}
    params = query | ({"state": state} if has_state else {})
    back = await http.get("/oauth/acme/return", params=params, headers={"Cookie": cookie})
    assert 400 <= back.status_code < 500


@pytest.mark.parametrize("cookie", ["", "counterfoil-flow-0123456789abcdef=made-up"])
async def test_a_return_without_state_that_this_browser_did_not_begin_says_nothing_about_esaw(
    http: httpx.AsyncClient, cookie: str
) -> None:
    back = await http.get("/oauth/acme/return", params={"code": "c"}, headers={"Cookie": cookie})
    assert back.status_code == 400


async def test_the_flow_of_another_organization_says_nothing_about_this_one(http: httpx.AsyncClient) -> None:
    led = await http.get("/before-send/acme", params=SENT_BY)
    cookie = led.headers["Set-Cookie"].partition(";")[0]
    back = await http.get("/oauth/globex/return", params={"code": "c"}, headers={"Cookie": cookie})
    assert back.status_code == 404


async def test_send_leads_to_esaw_with_a_cookie_that_an_error_in_the_redirect_removes(
    http: httpx.AsyncClient,
) -> None:
    led = await http.get("/before-send/acme", params=SENT_BY)
    assert led.status_code == 303
    assert led.headers["Location"].startswith("https://esaw.example.com/")
    assert "max-age=" in led.headers["Strict-Transport-Security"]
    cookie = led.headers["Set-Cookie"].partition(";")[0]
    state = parse_qs(urlsplit(led.headers["Location"]).query)["state"][0]

    back = await http.get(
        "/oauth/acme/return", params={"state": state, "error": "access_denied"}, headers={"Cookie": cookie}
    )

    assert back.status_code == 403
    assert f"{cookie.partition('=')[0]}=; " in back.headers["Set-Cookie"]
    assert "Max-Age=0" in back.headers["Set-Cookie"]


async def test_a_page_has_a_trace_that_its_client_only_links_to(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    outside = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    secret = "a-code-of-a-consent"
    async with trace_collector() as collector:
        for name, value in collector.environment.items():
            monkeypatch.setenv(name, value)
        with tracing.configured("pages", collector.environment), caplog.at_level("INFO"):
            await http.get("/no/such/page", headers={"traceparent": outside})
            await http.get("/oauth/acme/return", params={"code": secret}, headers={"traceparent": outside})
            async with asyncio.timeout(30):
                while not collector.spans:  # noqa: ASYNC110 - a thread sends them, and gives no event
                    await asyncio.sleep(0.02)
        (page,) = collector.spans
    assert (page.service, page.name, page.parent) == ("counterfoil-pages", "page return", "")
    assert page.trace not in outside
    assert page.links == ("-".join(outside.split("-")[1:3]),)
    assert page.facts["counterfoil.outcome"]
    assert secret.encode() not in collector.bytes
    assert [each.__dict__.get("trace_id") for each in caplog.records if "page return:" in each.message] == [
        page.trace
    ]


@pytest.mark.parametrize(
    ("path", "told"),
    [("/before-send/acme", "your draft stays"), ("/consent/acme/anna", "wait for your consent")],
    ids=["before sending", "link of a mail"],
)
async def test_a_sender_who_denies_sees_the_consequence(
    http: httpx.AsyncClient, path: str, told: str
) -> None:
    led = await http.get(path, params=SENT_BY)
    cookie = led.headers["Set-Cookie"].partition(";")[0]
    state = parse_qs(urlsplit(led.headers["Location"]).query)["state"][0]

    back = await http.get(
        "/oauth/acme/return", params={"state": state, "error": "access_denied"}, headers={"Cookie": cookie}
    )

    texts = ("your draft stays", "wait for your consent")
    assert [text for text in texts if text in back.text] == [told]


@pytest.mark.parametrize("cookie", ["", "__Secure-counterfoil-consent-0123456789abcdef=made-up"])
async def test_the_page_after_a_consent_claims_nothing_in_a_browser_that_gave_none(
    http: httpx.AsyncClient, cookie: str
) -> None:
    page = await http.get("/consent/acme/anna/done", headers={"Cookie": cookie})
    assert page.status_code == 200
    assert "Your consent is stored" not in page.text
    assert "nothing to confirm" in page.text


async def test_the_icon_of_the_site_is_answered(http: httpx.AsyncClient) -> None:
    answer = await http.get("/favicon.ico")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "image/svg+xml")


async def test_outside_the_release_s_own_namespace_every_address_names_the_namespace(tmp_path: Path) -> None:
    kube = InMemoryKubeClient(with_pages("acme"), a_sender_that())
    async with pages_of(kube, tmp_path, own_namespace="release") as http:
        answer = await http.get("/before-send/tests/acme", params=SENT_BY)
        short = await http.get("/before-send/acme", params=SENT_BY)

    (redirect_uri,) = parse_qs(urlsplit(answer.headers["Location"]).query)["redirect_uri"]
    assert redirect_uri == "https://pages.example.com/oauth/tests/acme/return"
    assert "Path=/oauth/tests/acme/return;" in answer.headers["Set-Cookie"]
    # The release does not serve its own namespace.
    assert short.status_code == 404


async def test_in_the_release_s_own_namespace_every_address_stays_short(tmp_path: Path) -> None:
    async with pages_of(InMemoryKubeClient(with_pages("acme"), a_sender_that()), tmp_path) as http:
        for path in ("/before-send/acme", "/before-send/tests/acme"):
            answer = await http.get(path, params=SENT_BY)
            (redirect_uri,) = parse_qs(urlsplit(answer.headers["Location"]).query)["redirect_uri"]
            assert redirect_uri == "https://pages.example.com/oauth/acme/return"


@pytest.mark.parametrize("is_down", [False, True])
async def test_a_namespace_that_is_not_served_answers_as_an_unknown_organization(
    is_down: bool, tmp_path: Path
) -> None:
    kube = InMemoryKubeClient(with_pages("acme"))
    async with pages_of(kube, tmp_path) as http:
        if is_down:
            kube.trouble["get"] = Unavailable(0, "NoAnswer", "the API server did not answer")
        unknown = await http.get("/before-send/tests/nobody", params=SENT_BY)
        elsewhere = await http.get("/before-send/elsewhere/acme", params=SENT_BY)

    assert (elsewhere.status_code, elsewhere.text) == (unknown.status_code, unknown.text)
    assert dict(elsewhere.headers) | {"date": ""} == dict(unknown.headers) | {"date": ""}
    assert unknown.status_code == (503 if is_down else 404)


async def test_a_state_of_one_namespace_is_good_in_no_other(tmp_path: Path) -> None:
    (tmp_path / "k1").write_bytes(base64.b64encode(os.urandom(32)))
    clock, release = AClock(), Sealing(tmp_path)
    sales, legal = (
        FlowCookies(release.for_namespace(each, own="release"), clock, flow_seconds=300, form_seconds=3600)
        for each in ("sales", "legal")
    )
    flow = sales.begin("acme", SENT_BY["userId"], "anna", DRAFT)
    cookies = {flow.cookie: sales.seal(flow)}

    assert sales.read_flow(cookies, "acme", flow.state) == flow
    assert legal.read_flow(cookies, "acme", flow.state) is None
    assert not legal.has_flow(cookies, "acme")


def in_namespace(namespace: str, *resources: Resource) -> InMemoryKubeClient:
    """Return an API server with these objects in one namespace."""
    kube = InMemoryKubeClient(*resources)
    kube.namespace = namespace
    return kube


async def test_an_organization_of_a_unit_may_have_the_name_of_a_page(tmp_path: Path) -> None:
    unit = in_namespace("unit-a", with_pages("tags"), with_pages("acme"), a_sender_that(name="done"))
    own = in_namespace("release", with_pages("acme"))
    async with pages_of(own, tmp_path, LIMITS, unit, own_namespace="release") as http:
        sent = await http.get("/before-send/unit-a/tags", params=SENT_BY)
        consented = await http.get("/consent/unit-a/acme/done")
        refused = await http.post("/before-send/unit-a/tags", params=SENT_BY, data={"form": "x"})

    for answer, organization in ((sent, "tags"), (consented, "acme")):
        assert answer.status_code == 303
        assert f"Path=/oauth/unit-a/{organization}/return;" in answer.headers["Set-Cookie"]
    assert refused.status_code == 405


async def test_a_short_address_of_an_organization_that_exists_keeps_its_meaning(tmp_path: Path) -> None:
    unit = in_namespace("unit-a", with_pages("tags"))
    own = in_namespace("release", with_pages("unit-a"))
    async with pages_of(own, tmp_path, LIMITS, unit, own_namespace="release") as http:
        answer = await http.post("/before-send/unit-a/tags", params=SENT_BY, data={"form": "x"})

    # The form of unit-a in the release's own namespace, of another browser.
    assert answer.status_code == 403


UNREADABLE = pytest.mark.parametrize(
    "trouble",
    [Forbidden(403, "Forbidden", "no Role"), api_error(500, b"etcd is full", None, creating=False)],
    ids=["no Role", "an error"],
)


@UNREADABLE
@pytest.mark.parametrize("place", ["own", "another"])
async def test_a_page_of_one_namespace_depends_on_no_other(
    place: str, trouble: ApiError, tmp_path: Path
) -> None:
    unit = in_namespace("unit-a", with_pages("tags"), with_pages("acme"), a_sender_that(name="done"))
    other = in_namespace("release" if place == "own" else "another", with_pages("acme"))
    other.trouble["get"] = trouble
    async with pages_of(other, tmp_path, LIMITS, unit, own_namespace="release") as http:
        sent = await http.get("/before-send/unit-a/tags", params=SENT_BY)
        consented = await http.get("/consent/unit-a/acme/done")
    assert [each.status_code for each in (sent, consented)] == [303, 303]
    assert "Path=/oauth/unit-a/tags/return;" in sent.headers["Set-Cookie"]


@UNREADABLE
@pytest.mark.parametrize("listed", ["unit-a", "unit-b"])
async def test_a_short_address_is_unavailable_while_its_namespace_is(
    listed: str, trouble: ApiError, tmp_path: Path
) -> None:
    """Also one that could name a namespace, whether that is listed or not."""
    unit = in_namespace(listed, with_pages("acme"))
    own = in_namespace("release", with_pages("unit-a"))
    own.trouble["get"] = trouble
    async with pages_of(own, tmp_path, LIMITS, unit, own_namespace="release") as http:
        answers = [
            await http.get("/before-send/unit-a/tags", params=SENT_BY),
            await http.post("/before-send/unit-a/tags", params=SENT_BY, data={"form": "x"}),
            await http.get("/consent/unit-a/nobody/done"),
        ]
    assert [each.status_code for each in answers] == [503] * 3


async def test_a_form_that_cannot_be_read_now_is_no_wrong_method_of_another_page(tmp_path: Path) -> None:
    unit = in_namespace("unit-a", with_pages("tags"))
    own = in_namespace("release", with_pages("unit-a"))
    own.trouble["get"] = Unavailable(0, "NoAnswer", "the API server did not answer")
    async with pages_of(own, tmp_path, LIMITS, unit, own_namespace="release") as http:
        answer = await http.post("/before-send/unit-a/tags", params=SENT_BY, data={"form": "x"})
    assert answer.status_code == 503


async def test_a_page_that_is_not_configured_is_reported_while_another_namespace_is_unavailable(
    tmp_path: Path,
) -> None:
    unit = in_namespace("unit-a", an_organization("tags"))
    own = in_namespace("release")
    own.trouble["get"] = Unavailable(0, "NoAnswer", "the API server did not answer")
    async with pages_of(own, tmp_path, LIMITS, unit, own_namespace="release") as http:
        meanwhile = await http.get("/before-send/unit-a/tags", params=SENT_BY)
        own.trouble.clear()
        afterwards = await http.get("/before-send/unit-a/tags", params=SENT_BY)
    assert meanwhile.text == afterwards.text


@UNREADABLE
async def test_no_namespace_is_asked_for_a_short_address_but_its_own(
    trouble: ApiError, tmp_path: Path
) -> None:
    own, other = in_namespace("release", with_pages("acme")), in_namespace("another")
    other.trouble["get"] = trouble
    async with pages_of(other, tmp_path, LIMITS, own, own_namespace="release") as http:
        unknown = await http.get("/before-send/nobody/tags", params=SENT_BY)
        form = await http.get("/before-send/acme/tags", params=SENT_BY)
        thanks = await http.get("/consent/acme/anna/done")
    assert [each.status_code for each in (unknown, form, thanks)] == [404, 303, 200]


class CountingKubeClient(InMemoryKubeClient):
    """An API server that counts what is read in one namespace."""

    def __init__(self, namespace: str) -> None:
        super().__init__(with_pages("acme"))
        self.namespace, self.reads = namespace, 0

    async def _arrive(self, verb: str, name: str) -> None:
        self.reads += 1
        await super()._arrive(verb, name)


@pytest.mark.parametrize(
    "path",
    ["/consent/unit-b/nobody/nobody", "/consent/elsewhere/nobody/nobody", "/consent/nobody/nobody"],
)
async def test_as_many_requests_are_made_for_each_namespace_while_the_api_server_is_down(
    path: str, tmp_path: Path
) -> None:
    kubes = [CountingKubeClient(name) for name in ("unit-a", "unit-b", "unit-c")]
    async with pages_of(kubes[0], tmp_path, LIMITS, *kubes[1:], own_namespace="release") as http:
        for each in kubes:
            each.trouble["get"] = Unavailable(0, "NoAnswer", "the API server did not answer")
        assert (await http.get(path)).status_code == 503

    assert sum(each.reads for each in kubes) == 1


@pytest.mark.parametrize("is_down", [False, True])
@pytest.mark.parametrize("named", ["unit-a", "elsewhere"])
async def test_an_address_with_two_readings_makes_as_many_requests_for_each_namespace(
    named: str, is_down: bool, tmp_path: Path
) -> None:
    kubes = [CountingKubeClient(name) for name in ("release", "unit-a", "unit-b")]
    async with pages_of(kubes[0], tmp_path, LIMITS, *kubes[1:], own_namespace="release") as http:
        for each in kubes if is_down else ():
            each.trouble["get"] = Unavailable(0, "NoAnswer", "the API server did not answer")
        answer = await http.get(f"/before-send/{named}/tags", params=SENT_BY)

    assert answer.status_code == (503 if is_down else 404)
    assert sum(each.reads for each in kubes) == 2


async def test_a_namespace_without_a_role_is_asked_in_place_of_another_one_once(tmp_path: Path) -> None:
    kubes = [CountingKubeClient(name) for name in ("unit-a", "unit-b")]
    kubes[0].trouble["get"] = Forbidden(403, "Forbidden", "no Role")
    async with pages_of(kubes[0], tmp_path, LIMITS, kubes[1], own_namespace="release") as http:
        for _ in range(2):
            assert (await http.get("/consent/elsewhere/nobody/nobody")).status_code == 404

    assert [each.reads for each in kubes] == [1, 2]


@pytest.mark.parametrize("order", [("unit-a", "unit-b"), ("unit-b", "unit-a")])
async def test_an_unreadable_namespace_is_no_fault_of_an_unknown_one(
    order: tuple[str, str], tmp_path: Path
) -> None:
    kubes = {name: in_namespace(name, with_pages("acme")) for name in order}
    kubes["unit-a"].trouble["get"] = Forbidden(403, "Forbidden", "no Role")
    first, second = kubes.values()
    async with pages_of(first, tmp_path, LIMITS, second, own_namespace="release") as http:
        for path in ("/consent/nobody/nobody", "/consent/elsewhere/nobody/nobody"):
            assert (await http.get(path)).status_code == 404

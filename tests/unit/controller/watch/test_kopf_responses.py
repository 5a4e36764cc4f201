"""Responses of the API server as kopf receives them: none of them ends kopf."""

import asyncio
import json
import subprocess
import sys
import tracemalloc
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode

import aiohttp
import kopf
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from yarl import URL

from controller.watch.kopf_responses import ResponseAdapter
from controller.watch.kopf_session import KopfSessions
from counterfoil.kube.watch import Raw
from tests.support.builders import AClock

PATH = "/apis/counterfoil.dev/v1beta1/namespaces/acme"
BOOKMARK = b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"1"}}}\n'
BROKEN = b'{"type":"ERROR","object":{"kind":"Status","code":500}}\n'


RUN_OPERATOR = """
import asyncio
import aiohttp, kopf
from aiohttp import web
from aiohttp.test_utils import TestServer
from controller.watch.kopf_responses import ResponseAdapter
from controller.watch.watched_namespaces import WatchedNamespaces
from counterfoil.clock import WallClock

def resource(plural, kind):
    return {"name": plural, "singularName": "", "kind": kind, "namespaced": True, "verbs": ["list", "watch"]}

V1 = {"version": "v1"}
DISCOVERY = {
    "/api": {"versions": ["v1"]},
    "/api/v1": {"resources": [resource("namespaces", "Namespace")]},
    "/apis": {"groups": [{"name": "acme.dev", "versions": [V1], "preferredVersion": V1}]},
    "/apis/acme.dev/v1": {"resources": [resource("senders", "Sender")]},
}

async def run(options):
    lists, listed_again = [], asyncio.Event()

    async def answer(request):
        if request.path in DISCOVERY:
            return web.json_response(DISCOVERY[request.path])
        lists.append(request.path)
        if len(lists) == 2:
            listed_again.set()
        return web.json_response({"kind": "Status", "code": 410}, status=410)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    registry, settings = kopf.OperatorRegistry(), kopf.OperatorSettings()
    settings.scanning.disabled, settings.posting.enabled = True, False

    @kopf.on.event("acme.dev", "v1", "senders", registry=registry)
    async def seen(**_): ...

    async with TestServer(app) as server:
        @kopf.on.login(registry=registry)
        async def login(**_):
            url = str(server.make_url("/")).rstrip("/")
            return kopf.AiohttpSession(aiohttp_session=aiohttp.ClientSession(**options), server=url)

        again = asyncio.create_task(listed_again.wait())
        operator = asyncio.create_task(
            kopf.operator(registry=registry, settings=settings, namespaces=["acme"], standalone=True)
        )
        await asyncio.wait([again, operator], return_when=asyncio.FIRST_COMPLETED)
        print("ended" if operator.done() else "listed again")
        for task in (again, operator):
            task.cancel()
        await asyncio.gather(again, operator, return_exceptions=True)

adapter = ResponseAdapter(("senders",), WallClock(), WatchedNamespaces(), api_version="acme.dev/v1")
asyncio.run(run({}))
asyncio.run(run({"response_class": adapter.response_class(), "middlewares": [adapter.request_page]}))
"""


@pytest.fixture(scope="module")
def after_410() -> list[str]:
    """The ends of two runs of kopf that get 410 for a list: with plain responses, and with adapted ones."""
    command = [sys.executable, "-c", RUN_OPERATOR]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()


def test_kopf_still_ends_after_a_410(after_410: list[str]) -> None:
    # Not "ended": controller.watch.kopf_responses can go.
    assert after_410[0] == "ended"


def test_kopf_lists_again_when_its_responses_are_adapted(after_410: list[str]) -> None:
    assert after_410[1] == "listed again"


@dataclass
class RecordingObserver:
    """Records the kinds that it learns of."""

    received: list[str] = field(default_factory=list)
    started: list[str] = field(default_factory=list)
    listed: list[str] = field(default_factory=list)
    namespaces: set[str] = field(default_factory=set)

    def data_received(self, namespace: str, plural: str) -> None:
        self.namespaces.add(namespace)
        self.received.append(plural)

    def list_started(self, namespace: str, plural: str) -> None:
        self.namespaces.add(namespace)
        self.started.append(plural)

    def page_listed(self, namespace: str, plural: str, page: Raw) -> None:
        self.namespaces.add(namespace)
        self.listed.append(plural)


class Scene:
    """A server that answers everything in the same way, and a session whose answers are interpreted."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: URL,
        clock: AClock,
        data_received: list[str],
        list_started: list[str],
    ) -> None:
        self._session = session
        self._url = url
        self.clock = clock
        self.data_received = data_received
        self.list_started = list_started

    @asynccontextmanager
    async def watch(self, plural: str = "senders") -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a watch; yield its pieces, as kopf gets them."""
        async with self._session.get(self._url / plural, params={"watch": "true"}) as answer:
            yield aiter(answer.content.iter_chunked(1024 * 1024))

    async def watched(self, plural: str = "senders") -> list[dict[str, Any]]:
        """Return the lines of one watch, as kopf gets them."""
        async with self._session.get(self._url / plural, params={"watch": "true"}) as answer:
            assert answer.status == 200
            whole = b"".join([piece async for piece in answer.content.iter_chunked(1024)])
        return [json.loads(line) for line in whole.splitlines()]

    async def asked(self, plural: str = "senders", **query: str) -> int:
        """Make a list, or what the query asks for; return the status of the answer."""
        async with self._session.get(self._url / plural, params=query) as answer:
            return answer.status

    async def listed(self, plural: str = "senders") -> Any:
        """Return a list as kopf reads it."""
        async with self._session.get(self._url / plural) as answer:
            return await answer.json()


@asynccontextmanager
async def answering(
    status: int,
    *pieces: bytes,
    content_type: str = "application/json",
    location: str = "",
    headers: Mapping[str, str] = MappingProxyType({}),
    stays_open: bool = False,
) -> AsyncIterator[Scene]:
    is_over = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        own = {"Content-Type": content_type} | ({"Location": location} if location else {})
        response = web.StreamResponse(status=status, headers={**own, **headers})
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
        if stays_open:
            await is_over.wait()
        return response

    app = web.Application()
    app.router.add_get(PATH + "/{plural}", answer)
    clock, observer = AClock(), RecordingObserver()
    adapter = ResponseAdapter(("senders",), clock, observer, api_version="counterfoil.dev/v1beta1")
    async with (
        TestServer(app) as server,
        aiohttp.ClientSession(
            response_class=adapter.response_class(), middlewares=[adapter.request_page]
        ) as session,
    ):
        yield Scene(session, server.make_url(PATH), clock, observer.received, observer.started)
        is_over.set()
    assert observer.namespaces <= {"acme"}


def codes(lines: Iterable[dict[str, Any]]) -> list[Any]:
    return [each["object"].get("code", each["type"]) for each in lines]


@pytest.mark.parametrize("status", [400, 404, 409, 410, 422])
async def test_a_refusal_that_kopf_would_end_by_becomes_too_old(status: int) -> None:
    async with answering(status, b'{"kind":"Status"}') as scene:
        assert codes(await scene.watched()) == [410]
        assert scene.data_received == [], "a refusal is no sign of life"
        with pytest.raises(aiohttp.ClientPayloadError):
            await scene.asked()


@pytest.mark.parametrize("query", [{}, {"watch": "true"}], ids=["list", "watch"])
@pytest.mark.parametrize("plural", ["senders", "namespaces"])
@pytest.mark.parametrize("status", [401, 403, 408, 429, 500, 503])
async def test_a_refusal_that_can_pass_is_a_broken_connection_for_kopf(
    status: int, plural: str, query: dict[str, str]
) -> None:
    async with answering(status) as scene:
        with pytest.raises(aiohttp.ClientConnectionError):
            await scene.asked(plural, **query)


async def test_a_page_of_a_proxy_becomes_too_old() -> None:
    async with answering(200, b"<html>", content_type="text/html") as scene:
        assert codes(await scene.watched()) == [410]
        with pytest.raises(aiohttp.ClientPayloadError):
            await scene.asked()


@pytest.mark.parametrize(
    "body",
    [
        b'{"kind": "Stat',
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"metadata": {}, "items": []}',
        b'{"metadata": {"resourceVersion": "1"}}',
        b'{"metadata": {"resourceVersion": "1"}, "items": [1]}',
    ],
    ids=lambda body: body[:60].decode(errors="replace"),
)
async def test_json_that_is_no_list_fails_with_growing_pauses(body: bytes) -> None:
    async with answering(200, body) as scene:
        for _ in range(3):
            with pytest.raises(aiohttp.ClientPayloadError):
                await scene.listed()
        assert scene.clock.slept == sorted(set(scene.clock.slept)), "they grow"


async def test_a_list_is_passed_unchanged_and_ends_the_growth_of_the_pauses() -> None:
    item = {"metadata": {"name": "a", "resourceVersion": "1"}}
    good = {"metadata": {"resourceVersion": "1"}, "items": [item]}
    async with answering(200, json.dumps(good).encode()) as scene:
        assert await scene.listed() == good


async def test_the_json_of_other_requests_is_left_to_kopf() -> None:
    async with answering(200, b"{}") as scene:
        assert await scene.listed("namespaces") == {}
    async with answering(200, b"{half") as scene:
        with pytest.raises(ValueError):
            await scene.listed("namespaces")


@pytest.mark.parametrize("status", [204, 301, 302, 303, 307, 308])
async def test_nothing_but_200_is_a_list_or_a_watch(status: int) -> None:
    async with answering(status, location="/login") as scene:
        with pytest.raises(aiohttp.ClientPayloadError):
            await scene.asked()
        assert codes(await scene.watched()) == [410]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed_for_any_request_of_kopf(status: int) -> None:
    async with answering(status, location="/login") as scene:
        with pytest.raises(aiohttp.ClientConnectionError):
            await scene.asked("pods")


async def test_a_list_is_reported_at_its_begin_and_not_with_each_page() -> None:
    async with answering(200, b"{}") as scene:
        await scene.asked(limit="500")
        await scene.asked(**{"limit": "500", "continue": "token"})
        await scene.watched()
        assert scene.list_started == ["senders"]


async def test_discovery_is_requested_again_until_it_is_answered() -> None:
    # kopf takes a 404 for the end of an API group, and would never watch its kinds.
    async with answering(404) as scene:
        with pytest.raises(aiohttp.ClientConnectionError):
            await scene.asked("pods")


@pytest.mark.parametrize(
    ("header", "pause"), [("3", 3.0), ("86400", 10.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 0.0), ("", 0.0)]
)
async def test_the_pause_that_an_answer_asks_for_has_a_limit(header: str, pause: float) -> None:
    async with answering(429, headers={"Retry-After": header}) as scene:
        with pytest.raises(aiohttp.ClientConnectionError):
            await scene.asked(watch="true")
        assert scene.clock.slept == [pause]


async def test_an_error_within_a_watch_becomes_too_old_and_ends_it() -> None:
    async with answering(200, BOOKMARK + BROKEN + BOOKMARK) as scene:
        assert codes(await scene.watched()) == ["BOOKMARK", 410]


@pytest.mark.parametrize(
    "line",
    [
        b"<html>",
        b"5",
        b"[]",
        b"\xff",
        b"[" * 5000,
        b'{"type":"ADDED"}',
        b'{"type":"ADDED","object":{"metadata":{"resourceVersion":"1"}}}',
        b'{"type":"ADDED","object":{"metadata":{"name":"a","resourceVersion":"x"}}}',
        b'{"type":"MOVED","object":{"metadata":{"name":"a","resourceVersion":"1"}}}',
    ],
    ids=lambda line: line[:70].decode(errors="replace"),
)
async def test_a_line_that_is_no_watch_event_becomes_too_old(line: bytes) -> None:
    async with answering(200, BOOKMARK + line + b"\n" + BOOKMARK) as scene:
        assert codes(await scene.watched()) == ["BOOKMARK", 410]


async def test_an_object_that_has_a_word_like_that_in_it_is_none() -> None:
    metadata = b'{"name":"a","resourceVersion":"1"}'
    added = b'{"type":"ADDED","object":{"metadata":' + metadata + b',"code":"x","status":"ERROR"}}\n'
    async with answering(200, added) as scene:
        assert [each["type"] for each in await scene.watched()] == ["ADDED"]


async def test_lines_come_whole_however_they_arrive_and_one_that_is_cut_off_does_not() -> None:
    async with answering(200, BOOKMARK[:5], BOOKMARK[5:] + BOOKMARK[:9]) as scene:
        assert codes(await scene.watched()) == ["BOOKMARK"]
        assert set(scene.data_received) == {"senders"}


async def test_a_watch_keeps_no_change_in_memory_while_it_waits_for_the_next_one() -> None:
    change = {"type": "ADDED", "object": {"metadata": {"name": "anna", "resourceVersion": "2"}}}
    line = json.dumps({**change, "padding": "x" * 1024 * 1024}).encode() + b"\n"
    async with answering(200, line, stays_open=True) as scene, scene.watch() as pieces:
        tracemalloc.start()
        try:
            assert len(await anext(pieces)) == len(line)
            waiting = asyncio.ensure_future(anext(pieces))
            await asyncio.sleep(0)
            kept, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert not waiting.done()
        assert kept < len(line) // 4
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def test_the_pause_grows_while_the_failures_continue() -> None:
    async with answering(410) as scene:
        for _ in range(8):
            await scene.watched()
        assert scene.clock.slept == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]


async def test_a_watch_that_delivers_something_starts_with_short_pauses_again() -> None:
    async with answering(200, BOOKMARK, BROKEN) as scene:
        for _ in range(3):
            await scene.watched()
        assert scene.clock.slept == [0.2, 0.2, 0.2]


class StoredObjects:
    """An API server with objects whose statuses have these sizes in bytes."""

    def __init__(self, *sizes: int) -> None:
        self.sizes = sizes
        self.limits = list[int]()
        self.selections = set[str]()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        limit, start = int(request.query["limit"]), int(request.query.get("continue", "0"))
        self.limits.append(limit)
        self.selections.add(request.query["fieldSelector"])
        end = min(start + limit, len(self.sizes))
        items = [
            {"metadata": {"name": str(each), "resourceVersion": "1"}, "status": "x" * self.sizes[each]}
            for each in range(start, end)
        ]
        token = {"continue": str(end)} if end < len(self.sizes) else {}
        return web.json_response({"metadata": {"resourceVersion": "1", **token}, "items": items})


async def kopf_list(session: aiohttp.ClientSession, url: URL) -> list[Raw]:
    """Return the pages of a list as kopf requests it."""
    query = {"limit": "500", "fieldSelector": "status.phase!=Failed,status.phase!=Skipped"}
    pages = list[Raw]()
    while not pages or pages[-1]["metadata"].get("continue"):
        if pages:
            query["continue"] = pages[-1]["metadata"]["continue"]
        async with await session.get(f"{url / 'senders'}?{urlencode(query)}") as answer:
            pages.append(await answer.json())
    return pages


MIB = 2**20


@pytest.mark.parametrize(
    ("sizes", "requests"),
    [
        ([5 * MIB // 4] * 500, 100),
        ([100] * 10_000, 24),
        ([100] * 1000 + [MIB] * 30 + [100] * 1000, 30),
        ([9 * MIB, 100, 9 * MIB], 12),
    ],
    ids=["large", "small", "some are large", "larger than a page"],
)
async def test_a_page_of_a_list_is_bounded_in_bytes(sizes: list[int], requests: int) -> None:
    """Files that eSAW lists, or managedFields that a receiver sends, choose the size of an object."""
    stored, observer = StoredObjects(*sizes), RecordingObserver()
    app = web.Application()
    app.router.add_get(PATH + "/{plural}", stored.answer)
    sessions = KopfSessions(AClock(), ("senders",), observer, authorization=no_credentials)
    async with TestServer(app) as server:
        opened = sessions.open(kopf.ConnectionInfo(server=str(server.make_url("/"))))
        async with opened.aiohttp_session as session:
            pages = await kopf_list(session, server.make_url(PATH))
    names = [each["metadata"]["name"] for page in pages for each in page["items"]]
    assert names == [str(each) for each in range(len(sizes))]
    for page in pages:
        size = sum(len(each["status"]) for each in page["items"])
        assert size <= 8 * MIB or len(page["items"]) == 1
    assert len(stored.limits) <= requests
    assert stored.limits[0] == 50, "the API server encodes a page before its size is known"
    assert stored.selections == {"status.phase!=Failed,status.phase!=Skipped"}
    assert observer.started == ["senders"]
    assert observer.listed == ["senders"] * len(pages)


async def no_credentials() -> Mapping[str, str]:
    return {}

"""Liveness: it fails when a restart would help, and only then."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta

import aiohttp
import kopf
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from prometheus_client import CollectorRegistry

from controller.cache import Cache
from controller.scheduling.fair_queue import ConcurrencyLimits
from controller.scheduling.workqueue import LOCK_SECONDS, WorkQueue
from controller.watch.kopf_session import KopfSessions
from controller.watch.liveness import Liveness
from controller.watch.reflector import Reflector
from controller.watch.watched_namespaces import NamespaceWatch, WatchedNamespaces, WatchHeartbeat
from counterfoil.metrics import Metrics
from tests.support.builders import NOON, AClock
from tests.support.fakes.kube import InMemoryKubeClient
from tests.support.scenes.workqueue import ReleasedWork, a_queue_item, running, turns

SILENCE, OVERDUE = timedelta(minutes=5), timedelta(minutes=2)


def ignored(plural: str) -> None:
    """Ignore that kopf begins a list."""


async def no_credentials() -> Mapping[str, str]:
    """Authenticate no request."""
    return {}


class Scene:
    def __init__(self, *, process: int = 8) -> None:
        self.clock = AClock()
        self.kube = InMemoryKubeClient()
        self.work = ReleasedWork()
        concurrency_limits = ConcurrencyLimits(process=process, organization={}, sender={}, archive={})
        self.workqueue = WorkQueue(clock=self.clock, concurrency_limits=lambda: concurrency_limits)
        self.heartbeat = WatchHeartbeat(self.clock, ("envelopeevents", "senders"))
        self.metrics = Metrics(CollectorRegistry(), version="0")
        self.liveness = Liveness(
            kube=self.kube,
            workqueue=self.workqueue,
            heartbeat=self.heartbeat,
            clock=self.clock,
            metrics=self.metrics,
            silence=SILENCE,
            overdue=OVERDUE,
        )

    async def says(self, check: str) -> str | None:
        return await self.liveness.checks[check]()


async def test_watches_with_rare_signs_of_life_are_healthy() -> None:
    scene = Scene()
    for _ in range(10):
        scene.clock.advance(seconds=60)
        scene.heartbeat.record("envelopeevents")
        scene.heartbeat.record("senders")
        assert await scene.says("watches") is None
    assert scene.kube.asked == []


async def test_a_watch_that_is_silent_for_too_long_fails_and_is_named() -> None:
    scene = Scene()
    scene.clock.advance(seconds=301)
    scene.heartbeat.record("senders")
    assert await scene.says("watches") == (
        "nothing was heard of envelopeevents for 301 s, though the API server answers"
    )
    scene.heartbeat.record("envelopeevents")
    assert await scene.says("watches") is None


async def test_silence_while_the_api_server_is_down_is_no_reason_to_restart() -> None:
    scene = Scene()
    scene.kube.go_away("page", times=1)
    scene.clock.advance(hours=1)
    assert await scene.says("watches") is None
    # It is back; the first bookmark takes its time.
    scene.clock.advance(seconds=60)
    assert await scene.says("watches") is None
    scene.clock.advance(seconds=301)
    assert await scene.says("watches") is not None


async def test_a_schedule_that_stopped_fails_once_something_is_overdue() -> None:
    scene = Scene()
    scene.workqueue.enqueue_at(a_queue_item("a"), NOON)
    scene.clock.advance(seconds=119)
    assert await scene.says("schedule") is None
    scene.clock.advance(seconds=2)
    assert await scene.says("schedule") == "an event is overdue and nobody works on it since 121 s"


async def test_an_event_that_is_due_while_nobody_works_on_any_fails() -> None:
    scene = Scene()
    async with running(scene.workqueue, scene.work), scene.workqueue.lock("envelope-of-a"):
        # As by a request that never releases the envelope.
        scene.workqueue.enqueue_at(a_queue_item("a"), NOON)
        await turns()
        scene.clock.advance(seconds=121)
        assert await scene.says("schedule") is None
        scene.clock.advance(seconds=LOCK_SECONDS)
        assert await scene.says("schedule") is not None
        assert scene.metrics.registry.get_sample_value("counterfoil_overdue_seconds") == 121
    assert scene.work.started == []


async def test_events_that_wait_while_others_are_worked_on_are_no_reason() -> None:
    scene = Scene(process=1)
    scene.work.open = False
    async with running(scene.workqueue, scene.work):
        scene.workqueue.enqueue_at(a_queue_item("a"), NOON)
        scene.workqueue.enqueue_at(a_queue_item("b"), NOON)
        await turns()
        scene.clock.advance(hours=1)
        assert await scene.says("schedule") is None
        scene.work.let_go("a")
        scene.work.let_go("b")
        await turns()
    assert scene.work.ended == ["a", "b"]


# -- How it is heard -----------------------------------------------------------------------------------------


@asynccontextmanager
async def a_server_that_sends(pieces: "asyncio.Queue[bytes]") -> AsyncIterator[str]:
    async def watch(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(request)
        while piece := await pieces.get():
            await answer.write(piece)
        return answer

    app = web.Application()
    app.router.add_get("/apis/counterfoil.dev/v1beta1/namespaces/acme/senders", watch)
    async with TestServer(app) as server:
        yield str(server.make_url("/"))


async def test_every_chunk_of_a_watch_counts_as_a_sign_of_life_and_a_list_does_not() -> None:
    clock, pieces = AClock(), asyncio.Queue[bytes]()
    heartbeat = WatchHeartbeat(clock, ("senders",))
    watched = WatchedNamespaces()
    await watched.add("acme", NamespaceWatch(Reflector(InMemoryKubeClient(), Cache()), heartbeat, ignored))
    sessions = KopfSessions(clock, ("senders",), watched, authorization=no_credentials)
    async with a_server_that_sends(pieces) as url:
        opened = sessions.open(kopf.ConnectionInfo(server=url))
        path = f"{url}apis/counterfoil.dev/v1beta1/namespaces/acme/senders"
        async with opened.aiohttp_session as session:
            clock.advance(minutes=1)
            async with session.get(path, params={"watch": "true"}) as answer:
                assert heartbeat.idle_times() == {"senders": timedelta(minutes=1)}
                bookmark = b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"1"}}}\n'
                pieces.put_nowait(bookmark)
                first = await anext(aiter(answer.content.iter_chunked(1024)))
                assert (first, heartbeat.idle_times()) == (bookmark, {"senders": timedelta(0)})
                pieces.put_nowait(b"")
            clock.advance(minutes=1)
            for piece in (b"{}", b""):
                pieces.put_nowait(piece)
            async with session.get(path) as answer:
                assert await answer.read() == b"{}"
            assert heartbeat.idle_times() == {"senders": timedelta(minutes=1)}


async def test_each_request_of_kopf_has_the_credentials_of_its_time() -> None:
    tokens, received = iter(["first", "second"]), list[str]()

    async def authorization() -> Mapping[str, str]:
        return {"Authorization": next(tokens)}

    async def record(request: web.Request) -> web.Response:
        received.extend(request.headers.getall("Authorization"))
        return web.json_response({})

    app = web.Application()
    app.router.add_get("/api", record)
    sessions = KopfSessions(AClock(), ("senders",), WatchedNamespaces(), authorization=authorization)
    async with TestServer(app) as server:
        url = str(server.make_url("/"))
        session = sessions.open(kopf.ConnectionInfo(server=url, token="at the login")).aiohttp_session
        async with session:
            for _ in range(2):
                async with session.get(f"{url}api") as answer:
                    await answer.read()
    assert received == ["first", "second"]


async def test_an_error_of_tls_does_not_make_kopf_log_in_again() -> None:
    # kopf compares the text of the error, and ends if it gets the same credentials again.
    async def authorization() -> Mapping[str, str]:
        raise aiohttp.ClientOSError("[SSL: APPLICATION_DATA_AFTER_CLOSE_NOTIFY] application data")

    sessions = KopfSessions(AClock(), ("senders",), WatchedNamespaces(), authorization=authorization)
    async with sessions.open(kopf.ConnectionInfo(server="http://one")).aiohttp_session as session:
        with pytest.raises(aiohttp.ClientConnectionError) as raised:
            await session.get("http://one/api")
    assert "SSL" not in str(raised.value)


@pytest.mark.parametrize("set_back", [timedelta(hours=1), timedelta(hours=-1)])
async def test_a_clock_that_is_corrected_makes_no_watch_silent_and_hides_no_silence(
    set_back: timedelta,
) -> None:
    scene = Scene()
    scene.clock.advance(seconds=60)
    scene.clock.set_back(seconds=set_back.total_seconds())
    assert scene.heartbeat.idle_times() == dict.fromkeys(("envelopeevents", "senders"), timedelta(minutes=1))


@pytest.mark.parametrize("reason", ["NamespaceForbidden", "NamespaceUnavailable"])
def test_watches_that_never_began_are_silent_unless_only_their_namespace_is_missing(reason: str) -> None:
    scene = Scene()
    name, labels = "counterfoil_watch_silence_seconds", {"resource": "senders"}

    def silence() -> float | None:
        return scene.metrics.registry.get_sample_value(name, labels)

    scene.clock.advance(seconds=700)
    assert silence() == 700, "the first read fails"
    scene.metrics.set_namespace_ready(scene.kube.namespace, reason, is_ready=False)
    assert silence() == 700, "no namespace is served"
    scene.metrics.set_namespace_ready("other", "Starting", is_ready=False)
    assert silence() == 700, "nothing shows that this process can work"
    for restarted in ("NamespaceStuck", "NamespaceBroken", "NamespaceIncomplete"):
        scene.metrics.set_namespace_ready("other", restarted, is_ready=False)
        assert silence() == 0, "it has its own gauge"
    scene.metrics.set_namespace_ready("other", "Serving", is_ready=True)
    assert silence() == 0

    scene.heartbeat.restart()
    scene.clock.advance(seconds=700)
    assert silence() == 700

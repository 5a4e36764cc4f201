"""One receiver for several namespaces: each callback is stored in its own, and none delays another."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from counterfoil.kube.errors import ApiError, Forbidden, NotFound, Unavailable
from counterfoil.metrics import Metrics
from counterfoil.settings import ListenAddress
from tests.support.builders import AClock
from tests.support.scenes.receiver_parts import (
    GUID,
    NOON,
    QUERY,
    TOKEN,
    ReceiverKubeClient,
    ReceiverParts,
    added,
    an_organization,
    handler_of,
    synced,
)
from webhook.http_server.namespaces import show_namespace
from webhook.http_server.server import public_server
from webhook.receiver.delivery_counter import DeliveryCounter, SharedCounting
from webhook.receiver.event_writer import write_turns
from webhook.receiver.limits import ReceiverLimits
from webhook.receiver.namespaces import OrganizationsReading, writing_fails

RELEASE, SALES = "release", "sales"
OTHER_TOKEN = "another-token-0123456789"


class Scene:
    """A receiver for its own namespace and ``sales``, each with an Organization ``acme``."""

    def __init__(self, limits: ReceiverLimits | None = None) -> None:
        self.limits, self.clock = limits or ReceiverLimits(), AClock(NOON)
        self.process_metrics = Metrics(CollectorRegistry(), version="0", process="receiver")
        self.kubes: dict[str, ReceiverKubeClient] = {}
        self.parts: dict[str, ReceiverParts] = {}
        for name in (RELEASE, SALES):
            kube = self.kubes[name] = ReceiverKubeClient()
            kube.namespace = name
            self.parts[name] = ReceiverParts(
                kube, self.clock, self.limits, process_metrics=self.process_metrics
            )
        self.namespaces = [each.parts for each in self.parts.values()]
        self.handler = handler_of(self.namespaces, self.process_metrics, self.clock, self.limits)
        self.url = ""
        self.session: aiohttp.ClientSession

    def read(self, *namespaces: str) -> None:
        """Let the receiver read the Organizations of these namespaces."""
        for each in namespaces:
            cache = self.parts[each].organization_cache
            cache.update(added(an_organization()))
            cache.update(synced("acme"))

    async def answer(self, path: str) -> tuple[int, dict[str, str]]:
        async with self.session.get(f"{self.url}{path}?{QUERY}") as answer:
            headers = {name: value for name, value in answer.headers.items() if name != "Date"}
            return answer.status, headers

    async def status(self, path: str) -> int:
        return (await self.answer(path))[0]

    def stored(self) -> dict[str, int]:
        """The number of events in each namespace."""
        return {name: len(kube.events) for name, kube in self.kubes.items()}


@asynccontextmanager
async def a_scene(*read: str, limits: ReceiverLimits | None = None) -> AsyncIterator[Scene]:
    scene = Scene(limits)
    scene.read(*read)
    server = public_server(
        ListenAddress("127.0.0.1", 0), scene.handler, limits=scene.limits, grace_seconds=2.0
    )
    async with server as address, aiohttp.ClientSession(trust_env=False) as session:
        scene.url, scene.session = f"http://{address}", session
        yield scene


@pytest.mark.parametrize(
    ("path", "namespace"),
    [
        (f"/callbacks/acme/{TOKEN}", RELEASE),
        (f"/callbacks/{RELEASE}/acme/{TOKEN}", RELEASE),
        (f"/callbacks/{SALES}/acme/{TOKEN}", SALES),
    ],
)
async def test_the_path_names_the_namespace_or_means_the_release_s_own(path: str, namespace: str) -> None:
    async with a_scene(RELEASE, SALES) as scene:
        assert await scene.status(path) == 200
        assert scene.stored() == {RELEASE: 0, SALES: 0} | {namespace: 1}


async def test_equal_callbacks_of_two_namespaces_are_two_events() -> None:
    async with a_scene(RELEASE, SALES) as scene:
        for _ in range(2):
            assert await scene.status(f"/callbacks/acme/{TOKEN}") == 200
            assert await scene.status(f"/callbacks/{SALES}/acme/{TOKEN}") == 200
        assert scene.stored() == {RELEASE: 1, SALES: 1}


async def test_a_namespace_that_is_not_served_answers_as_an_unknown_organization() -> None:
    async with a_scene(RELEASE, SALES) as scene:
        unknown = await scene.answer(f"/callbacks/{SALES}/nobody/{TOKEN}")

        assert unknown[0] == 404
        assert await scene.answer(f"/callbacks/elsewhere/acme/{TOKEN}") == unknown
        assert await scene.answer(f"/callbacks/..%2F{SALES}/acme/{TOKEN}") == unknown
        assert scene.stored() == {RELEASE: 0, SALES: 0}


async def test_a_namespace_that_is_not_served_does_not_show_while_organizations_are_unread_or_old() -> None:
    async with a_scene() as scene:
        assert await scene.status(f"/callbacks/elsewhere/acme/{TOKEN}") == 503
        scene.read(RELEASE, SALES)
        assert await scene.status(f"/callbacks/elsewhere/acme/{TOKEN}") == 404
        scene.clock.advance(seconds=121)
        unknown = await scene.answer(f"/callbacks/{SALES}/nobody/{TOKEN}")
        assert unknown[0] == 503
        assert await scene.answer(f"/callbacks/elsewhere/acme/{TOKEN}") == unknown


async def test_an_unreadable_namespace_is_no_fault_of_an_unknown_one() -> None:
    async with a_scene(RELEASE) as scene:
        scene.parts[SALES].organization_cache.has_failed = True
        assert await scene.status(f"/callbacks/elsewhere/nobody/{TOKEN}") == 404

        scene.read(SALES)
        scene.clock.advance(seconds=121)
        scene.read(RELEASE)
        assert await scene.status(f"/callbacks/{SALES}/nobody/{TOKEN}") == 503
        assert await scene.status(f"/callbacks/elsewhere/nobody/{TOKEN}") == 404


async def test_a_token_of_one_namespace_opens_no_other() -> None:
    async with a_scene(RELEASE) as scene:
        cache = scene.parts[SALES].organization_cache
        cache.update(added(an_organization(status={"callbackTokenHashes": []})))
        cache.update(synced("acme"))

        assert await scene.status(f"/callbacks/{SALES}/acme/{TOKEN}") == 503
        assert scene.stored() == {RELEASE: 0, SALES: 0}


async def test_a_namespace_that_cannot_be_read_holds_no_callback_of_another_up() -> None:
    async with a_scene(RELEASE) as scene:
        scene.parts[SALES].organization_cache.has_failed = True

        assert await scene.status(f"/callbacks/{SALES}/acme/{TOKEN}") == 503
        assert await scene.status(f"/callbacks/acme/{TOKEN}") == 200


async def test_a_namespace_in_which_writing_is_refused_fails_alone() -> None:
    async with a_scene(RELEASE, SALES) as scene:
        for _ in range(5):
            scene.kubes[SALES].trouble["create"] = Forbidden(403, "Forbidden", "no Role")
            assert await scene.status(f"/callbacks/{SALES}/acme/{TOKEN}") == 503

        assert await scene.status(f"/callbacks/acme/{TOKEN}") == 200


async def test_one_namespace_leaves_a_quarter_of_the_places_to_the_others() -> None:
    limits = ReceiverLimits(in_flight=4)
    async with a_scene(RELEASE, SALES, limits=limits) as scene:
        held = scene.handler._in_flight_of
        held[SALES, ""] = 3
        scene.handler._in_flight = 3

        assert await scene.status(f"/callbacks/{SALES}/acme/{TOKEN}") == 503
        assert await scene.status(f"/callbacks/acme/{TOKEN}") == 200


async def test_a_log_line_names_the_namespace(caplog: pytest.LogCaptureFixture) -> None:
    async with a_scene(RELEASE, SALES) as scene:
        with caplog.at_level("INFO", logger="webhook.receiver.callback_to_event"):
            await scene.status(f"/callbacks/{SALES}/acme/{TOKEN}")
            await scene.status(f"/callbacks/elsewhere/acme/{TOKEN}")

    lines = [each for each in caplog.records if each.name == "webhook.receiver.callback_to_event"]
    assert [vars(each)["namespace"] for each in lines] == [SALES, None]
    assert "elsewhere" not in caplog.text


async def test_a_request_for_no_served_namespace_counts_in_the_release_s_own() -> None:
    async with a_scene(RELEASE, SALES) as scene:
        for path in ("/metrics", f"/callbacks/elsewhere/acme/{TOKEN}", f"/callbacks/nobody/{TOKEN}"):
            assert await scene.status(path) == 404
    labels = {"namespace": RELEASE, "organization": "", "outcome": "unknown"}
    counted = scene.process_metrics.registry.get_sample_value("counterfoil_callbacks_total", labels)
    assert counted == 3


async def test_turns_to_write_are_shared_by_namespaces_first() -> None:
    turns = write_turns(1)
    turns.take("busy/a")
    with turns.place("busy/b") as one, turns.place("busy/c") as two, turns.place("quiet/a") as three:
        turns.release("busy/a")
        assert three.done()
        turns.release("quiet/a")
        assert one.done()
        assert not two.done()
        turns.release("busy/b")
        assert two.done()
        turns.release("busy/c")


def test_the_room_for_counts_is_shared_and_one_namespace_leaves_a_quarter() -> None:
    limits = ReceiverLimits(pending_counts=4)
    shared, clock = SharedCounting(limits), AClock(NOON)
    busy, quiet = (
        DeliveryCounter(ReceiverKubeClient(), clock=clock, random=Random(1), limits=limits, shared=shared)
        for _ in range(2)
    )
    for number in range(10):
        busy.count(f"{GUID}-{number}", NOON)
    for number in range(10):
        quiet.count(f"{GUID}-{number}", NOON)

    assert (busy.pending_events, quiet.pending_events) == (3, 1)


async def test_the_receiver_is_ready_once_each_namespace_was_asked_for_and_one_was_read() -> None:
    scene = Scene()
    reading = OrganizationsReading(scene.handler._namespaces)
    assert await reading.check() == "they are not read yet"
    scene.read(RELEASE)
    assert await reading.check() == "they are not read yet"
    scene.parts[SALES].organization_cache.has_failed = True
    assert await reading.check() is None


async def test_a_namespace_that_is_added_later_makes_no_receiver_unready() -> None:
    scene = Scene()
    reading = OrganizationsReading(scene.handler._namespaces)
    scene.read(RELEASE, SALES)
    assert await reading.check() is None

    scene.parts[SALES].organization_cache.is_synced = False
    assert await reading.check() is None
    scene.parts[RELEASE].organization_cache.is_synced = False
    assert await reading.check() == "they are not read yet"


def ages(scene: Scene) -> dict[str, float | None]:
    """Return the age of the Organizations of each namespace, as the metrics show it."""
    registry, name = scene.process_metrics.registry, "counterfoil_organizations_age_seconds"
    return {each: registry.get_sample_value(name, {"namespace": each}) for each in scene.parts}


def readiness(scene: Scene) -> dict[str, tuple[str, float]]:
    """Return reason and value of each namespace, as the metrics show them."""
    (family,) = scene.process_metrics.namespace_ready.collect()
    return {each.labels["namespace"]: (each.labels["reason"], each.value) for each in family.samples}


def test_a_receiver_that_never_read_the_organizations_is_seen_from_its_start() -> None:
    scene = Scene()
    scene.clock.advance(seconds=180)
    assert ages(scene) == {RELEASE: 180, SALES: 180}
    assert readiness(scene) == {RELEASE: ("Starting", 0), SALES: ("Starting", 0)}


@pytest.mark.parametrize(
    "problem",
    [
        Unavailable(0, "NoAnswer", "the API server did not answer"),
        Unavailable(500, "InternalError", "etcd is down"),
        Unavailable(403, "Forbidden", "a proxy refuses it"),
        Forbidden(401, "Unauthorized", "the token is too old"),
    ],
)
def test_only_an_answer_about_a_namespace_says_that_it_is_missing(problem: ApiError) -> None:
    scene = Scene()
    show_namespace(scene.process_metrics, RELEASE, None)
    show_namespace(scene.process_metrics, SALES, problem)
    scene.clock.advance(seconds=180)
    assert readiness(scene)[SALES] == ("Starting", 0)
    assert ages(scene)[SALES] == 180


@pytest.mark.parametrize(
    "problem", [Forbidden(403, "Forbidden", "no Role"), NotFound(404, "NotFound", "no such resource")]
)
def test_the_organizations_of_a_missing_namespace_are_not_old_while_another_one_is_served(
    problem: ApiError,
) -> None:
    scene = Scene()
    show_namespace(scene.process_metrics, SALES, problem)
    scene.clock.advance(seconds=180)
    assert ages(scene)[SALES] == 180, "no namespace is served"

    show_namespace(scene.process_metrics, RELEASE, None)
    assert ages(scene) == {RELEASE: 180, SALES: 0}

    # Its Role came, and was taken away again: known tokens stay valid, also withdrawn ones.
    scene.read(SALES)
    show_namespace(scene.process_metrics, SALES, problem)
    scene.clock.advance(seconds=180)
    assert ages(scene)[SALES] == 180


async def test_the_receiver_is_ready_while_it_can_write_in_one_namespace() -> None:
    scene = Scene()
    table = scene.handler._namespaces
    scene.kubes[RELEASE].trouble["create_dry_run"] = Forbidden(403, "Forbidden", "no Role")
    assert await writing_fails(table) is None
    for kube in scene.kubes.values():
        kube.trouble["create_dry_run"] = Forbidden(403, "Forbidden", "no Role")
    scene.clock.advance(seconds=10)
    assert "no Role" in (await writing_fails(table) or "")

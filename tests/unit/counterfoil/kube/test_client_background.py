"""Requests of Imports and their events: few at once, and no other request waits for them."""

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from counterfoil.kube.client import BACKGROUND_REQUESTS, KubeClient
from counterfoil.kube.errors import Unavailable
from counterfoil.resources import EnvelopeEvent
from counterfoil.untrusted.background_work import foreground, set_background
from tests.support.servers.scripted_kubernetes import answered_by


class HeldServer:
    """A server that answers a request for an object once the test lets it."""

    def __init__(self) -> None:
        self.open = list[str]()
        """Paths of the requests that have no answer yet."""
        self.most = 0
        """Number of requests without an answer at one time, at most."""
        self.status = 200
        self._changed = asyncio.Condition()
        self._turns = asyncio.Semaphore(0)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        name = request.path.rpartition("/")[2]
        self.open.append(name)
        self.most = max(self.most, len(self.open))
        await self._notify()
        try:
            await self._turns.acquire()
        finally:
            self.open.remove(name)
            await asyncio.shield(self._notify())
        return web.json_response({"metadata": {"name": name}}, status=self.status)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until_open(self, *names: str) -> None:
        """Wait until the server has these requests, and no answer to them is sent."""
        async with self._changed:
            await self._changed.wait_for(lambda: set(names) <= set(self.open))

    def answer(self, count: int) -> None:
        """Answer this number of requests, those that are there first."""
        for _ in range(count):
            self._turns.release()


async def in_background(kube: KubeClient, name: str) -> str:
    set_background(True)
    return str((await kube.get(EnvelopeEvent, name))["metadata"]["name"])


async def test_no_more_requests_of_imports_than_allowed_are_at_the_server_at_once(tmp_path: Path) -> None:
    server = HeldServer()
    async with answered_by(server.handle, tmp_path) as kube, asyncio.TaskGroup() as tasks:
        calls = [tasks.create_task(in_background(kube, f"event-{number}")) for number in range(7)]
        await server.until_open(*(f"event-{number}" for number in range(BACKGROUND_REQUESTS)))
        server.answer(7)
    assert [each.result() for each in calls] == [f"event-{number}" for number in range(7)]
    assert server.most == BACKGROUND_REQUESTS == 2


async def test_clients_for_other_namespaces_share_the_bound_and_take_turns(tmp_path: Path) -> None:
    server = HeldServer()
    async with answered_by(server.handle, tmp_path) as kube, asyncio.TaskGroup() as tasks:
        for number in range(4):
            tasks.create_task(in_background(kube, f"own-{number}"))
        await server.until_open("own-0", "own-1")
        tasks.create_task(in_background(kube.in_namespace("other"), "other-0"))
        await asyncio.sleep(0)
        server.answer(1)
        await server.until_open("own-1", "other-0")
        server.answer(4)
    assert server.most == BACKGROUND_REQUESTS


async def test_no_other_request_waits_for_those_of_imports(tmp_path: Path) -> None:
    server = HeldServer()
    async with answered_by(server.handle, tmp_path) as kube, asyncio.TaskGroup() as tasks:
        for number in range(3):
            tasks.create_task(in_background(kube, f"event-{number}"))
        await server.until_open("event-0", "event-1")
        tasks.create_task(kube.get(EnvelopeEvent, "of-a-callback"))
        await server.until_open("event-0", "event-1", "of-a-callback")
        server.answer(4)


async def test_a_request_of_an_import_for_which_others_wait_is_sent_at_once(tmp_path: Path) -> None:
    async def with_a_lock(kube: KubeClient) -> None:
        set_background(True)
        with foreground():
            await kube.get(EnvelopeEvent, "with-a-lock")

    server = HeldServer()
    async with answered_by(server.handle, tmp_path) as kube, asyncio.TaskGroup() as tasks:
        for number in range(2):
            tasks.create_task(in_background(kube, f"event-{number}"))
        await server.until_open("event-0", "event-1")
        tasks.create_task(with_a_lock(kube))
        await server.until_open("event-0", "event-1", "with-a-lock")
        server.answer(3)


async def test_a_failed_request_gives_its_place_to_the_next(tmp_path: Path) -> None:
    server = HeldServer()
    server.status = 503
    async with answered_by(server.handle, tmp_path) as kube:
        calls = [asyncio.create_task(in_background(kube, f"event-{number}")) for number in range(5)]
        await server.until_open("event-0", "event-1")
        server.answer(5)
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(each) for each in results] == [Unavailable] * 5


@pytest.mark.parametrize("number", [0, 2], ids=["is sent", "waits"])
async def test_a_cancelled_request_gives_its_place_to_the_next(tmp_path: Path, number: int) -> None:
    server = HeldServer()
    async with answered_by(server.handle, tmp_path) as kube:
        calls = [asyncio.create_task(in_background(kube, f"event-{each}")) for each in range(4)]
        await server.until_open("event-0", "event-1")
        calls[number].cancel()
        await asyncio.wait([calls[number]])
        server.answer(4)
        results = await asyncio.gather(*calls, return_exceptions=True)
    expected = [f"event-{each}" for each in range(4)]
    assert [each for each in results if each in expected] == [
        each for each in expected if each != f"event-{number}"
    ]
    assert isinstance(results[number], asyncio.CancelledError)


async def test_a_request_that_waits_for_its_place_is_not_observed(
    tmp_path: Path,
) -> None:
    server, observed = HeldServer(), list[tuple[str, str, int]]()

    def observe(verb: str, resource: str, status: int) -> None:
        observed.append((verb, resource, status))

    async with answered_by(server.handle, tmp_path, observe=observe) as kube:
        calls = [asyncio.create_task(in_background(kube, f"event-{each}")) for each in range(3)]
        await server.until_open("event-0", "event-1")
        calls[2].cancel()
        await asyncio.wait([calls[2]])
        assert observed == []
        server.answer(2)
        await asyncio.gather(*calls[:2])
    assert observed == [("get", EnvelopeEvent.PLURAL, 200)] * 2

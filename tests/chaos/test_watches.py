"""
Watches that break or are refused: every change during the gap is still found.
"""

import json
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from counterfoil.resources import REQUEST_LABEL, EnvelopeEvent, Phase, Sender
from sandbox.servers.plain_http import plain_http
from sandbox.servers.proxies import Cut, Hold, Instead, Passage, TrapPoint, watches
from tests.support.pauses import eventually
from tests.support.scenes.chaos import Scene

GONE = {
    "apiVersion": "v1",
    "kind": "Status",
    "status": "Failure",
    "reason": "Expired",
    "code": 410,
    "message": "too old resource version",
}


async def cuts() -> None:
    raise Cut


async def tells_gone() -> None:
    raise Instead(200, json.dumps({"type": "ERROR", "object": GONE}).encode() + b"\n")


async def tells_broken() -> None:
    broken = {**GONE, "reason": "InternalError", "code": 500, "message": "conversion webhook failed"}
    raise Instead(200, json.dumps({"type": "ERROR", "object": broken}).encode() + b"\n")


async def refuses_as_gone() -> None:
    raise Instead(410, json.dumps(GONE).encode())


async def finds_nothing() -> None:
    raise Instead(404, b"default backend - 404", "text/plain")


async def shows_a_page() -> None:
    raise Instead(200, b"<html>Please log in</html>", "text/html")


async def refuses() -> None:
    raise Instead(503)


async def refuses_the_token() -> None:
    unauthorized = {**GONE, "reason": "Unauthorized", "code": 401, "message": "Unauthorized"}
    raise Instead(401, json.dumps(unauthorized).encode())


def is_watch(each: Passage) -> bool:
    return each.is_watch


def is_list(each: Passage) -> bool:
    is_of_a_kind = each.path.endswith(("/envelopeevents", "/organizations", "/senders", "/archives"))
    return each.method == "GET" and is_of_a_kind and not each.is_watch


async def test_events_are_found_when_watches_are_cut_in_the_middle_of_a_line(scene: Scene) -> None:
    await scene.controller()
    trap = scene.api.trap(watches("envelopeevents"), TrapPoint.MIDDLE, cuts, after_bytes=100, times=3)

    events = [await scene.note(scene.envelope(2000)) for _ in range(3)]

    for event in events:
        await scene.holds(event)
    assert trap.sprung.is_set()


async def test_events_are_found_when_every_watch_gets_410_for_its_version(scene: Scene) -> None:
    await scene.controller()
    trap = scene.api.trap(is_watch, TrapPoint.ARRIVED, tells_gone, times=None)
    scene.api.cut(is_watch)
    await eventually(trap.sprung.is_set)

    events = [await scene.note(scene.envelope(2000)) for _ in range(3)]

    for event in events:
        await scene.holds(event)


@pytest.mark.parametrize("answer", [refuses_as_gone, tells_broken, finds_nothing, shows_a_page])
async def test_events_are_found_while_no_watch_is_answered_as_it_should_be(
    scene: Scene, answer: Callable[[], Awaitable[None]]
) -> None:
    await scene.controller()
    trap = scene.api.trap(is_watch, TrapPoint.ARRIVED, answer, times=None)
    scene.api.cut(is_watch)
    await eventually(trap.sprung.is_set)

    events = [await scene.note(scene.envelope(2000)) for _ in range(3)]

    for event in events:
        await scene.holds(event)


@pytest.mark.parametrize("answer", [refuses_as_gone, finds_nothing, shows_a_page])
async def test_a_list_that_is_refused_in_the_middle_is_repeated(
    scene: Scene, answer: Callable[[], Awaitable[None]]
) -> None:
    await scene.controller()
    trap = scene.api.trap(is_list, TrapPoint.ARRIVED, answer, times=FEW)
    scene.api.trap(is_watch, TrapPoint.ARRIVED, tells_gone, times=FEW)
    scene.api.cut(is_watch)
    await eventually(trap.sprung.is_set)

    events = [await scene.note(scene.envelope(2000)) for _ in range(3)]

    for event in events:
        await scene.holds(event)


async def test_what_vanishes_while_nobody_watches_is_known_to_be_gone(scene: Scene) -> None:
    await scene.local_environment.sender("berta", scene.anna, organization="acme")
    controller = await scene.controller()

    async def senders() -> float:
        lines = [each for each in (await controller.metrics()).splitlines() if each.startswith(SENDERS)]
        return sum(float(each.rpartition(" ")[2]) for each in lines)

    async def are_two() -> bool:
        return await senders() == 2

    async def is_one() -> bool:
        return await senders() == 1

    await eventually(are_two)
    trap = scene.api.trap(is_watch, TrapPoint.ARRIVED, tells_gone, times=None)
    scene.api.cut(is_watch)
    await eventually(trap.sprung.is_set)
    await scene.kube.delete(Sender, "berta")
    scene.api.clear()

    await eventually(is_one)


@pytest.mark.parametrize("answer", [refuses, refuses_the_token])
async def test_what_is_recorded_or_requested_while_watches_are_refused_is_done_afterwards(
    scene: Scene, answer: Callable[[], Awaitable[None]]
) -> None:
    await scene.controller()
    scene.standin.fault("envelope", status=400)
    refused = await scene.note(scene.envelope(2000))
    assert (await scene.ended(refused)).status.phase is Phase.FAILED
    scene.standin.clear_faults()
    trap = scene.api.trap(is_watch, TrapPoint.ARRIVED, answer, times=None)
    scene.api.cut(is_watch)
    await eventually(trap.sprung.is_set)

    noted = await scene.note(scene.envelope(2000))
    await scene.kube.patch(EnvelopeEvent, refused, {"metadata": {"labels": {REQUEST_LABEL: "retry"}}})
    await eventually(lambda: len(scene.api.seen(is_watch)) > MANY)
    scene.api.clear()

    for event in (noted, refused):
        await eventually(partial(has_succeeded, scene, event))
        await scene.holds(event)


async def test_watches_that_hang_fail_the_liveness_probe_as_long_as_the_api_server_answers_else(
    scene: Scene,
) -> None:
    controller = await scene.controller(watch_silence="5s")
    hold = Hold()
    scene.api.trap(is_watch, TrapPoint.ARRIVED, hold, times=None)
    scene.api.cut(is_watch)

    async def fails() -> str | None:
        async with plain_http() as http:
            answer = await http.get(f"{controller.private}/healthz")
        return answer.text if answer.status_code == 503 else None

    told = await eventually(fails)
    assert "though the API server answers" in told
    assert "envelopeevents" in told
    hold.release()


SENDERS = "counterfoil_senders{"

MANY = 30
"""Refused watches that make an outage."""

FEW = 8
"""Refused lists after which each of the four kinds was refused at least once."""


async def has_succeeded(scene: Scene, event: str) -> bool:
    return (await scene.event(event)).status.phase is Phase.SUCCEEDED

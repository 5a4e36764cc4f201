"""S6: anonymous requests to the pages use up rates, Leases and requests to eSAW."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from sandbox.controlplane.control_plane import ControlPlane
from sandbox.servers.plain_http import plain_http
from tests.support.scenes.pages import Scene, pages_scene

ATTACKER = "198.51.100.7"
RETURNS = 300
BURST = 60
"""Failed returns of one address that the pages accept at once."""
SETTINGS = {
    "proxies": "1",
    "address_rate": "1000",
    "address_burst": "2000",
    "page_rate": "1000",
    "page_burst": "2000",
}
"""High rates of pages, so that only the rate of failed returns is at work."""


@pytest.fixture
async def scene(plane: ControlPlane, namespace: str, tmp_path: Path) -> AsyncIterator[Scene]:
    """Pages behind one proxy, which tells the address of each client."""
    async with pages_scene(plane, namespace, tmp_path, **SETTINGS) as built:
        yield built


async def state_leases(scene: Scene) -> int:
    kubectl = scene.local_environment.kubectl
    return len((await kubectl("get", "leases", "-l", "counterfoil.dev/note=state", "-o", "name")).split())


async def invented_return(scene: Scene) -> int:
    """Begin a flow as anybody may, and come back with a code that eSAW never gave; return the status."""
    headers = {"X-Forwarded-For": ATTACKER}
    async with plain_http(timeout=60, headers=headers) as http:
        begun = await http.get(scene.link("0f9c1c2e-4b1d-4c58-9a57-6d1f0a3b2c4d"))
        state = httpx.URL(begun.headers["Location"]).params["state"]
        url = f"{scene.pages.public}/oauth/acme/return"
        return (await http.get(url, params={"state": state, "code": "invented"})).status_code


async def test_invented_codes_make_few_leases_and_few_requests_and_people_still_send(scene: Scene) -> None:
    answers = Counter[int]()

    async def attack() -> None:
        for _ in range(RETURNS // 10):
            answers[await invented_return(scene)] += 1

    async with asyncio.TaskGroup() as tasks:
        for _ in range(10):
            tasks.create_task(attack())
    leases, asked = await state_leases(scene), len(scene.esaw.requests("retrieve"))

    # The burst, and what comes in addition while the test runs.
    bound = BURST + RETURNS // 4
    assert answers[429] > 0
    assert leases <= bound
    assert 0 < asked <= bound
    async with await scene.consented():
        pass


async def test_while_esaw_is_down_nobody_is_locked_out_by_failed_returns(scene: Scene) -> None:
    scene.esaw.fault("retrieve", times=BURST + 20, status=500)
    assert {await invented_return(scene) for _ in range(BURST + 20)} == {503}
    assert await invented_return(scene) == 400


async def test_a_return_without_its_browsers_flow_reaches_neither_leases_nor_esaw(scene: Scene) -> None:
    before = len(scene.esaw.requests())
    async with plain_http(timeout=60) as http:
        for query in ({}, {"state": "x"}, {"state": "x", "code": "y"}, {"error": "access_denied"}):
            answer = await http.get(f"{scene.pages.public}/oauth/acme/return", params=query)
            assert answer.status_code == 400
    assert await state_leases(scene) == 0
    assert len(scene.esaw.requests()) == before


async def test_paths_without_a_page_take_nothing_of_the_rate_of_all(
    plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    settings = {"proxies": "1", "page_rate": "0.1", "page_burst": "5", "address_burst": "1000"}
    async with (
        pages_scene(plane, namespace, tmp_path, **settings) as scene,
        plain_http(timeout=60) as http,
    ):
        for number in range(50):
            headers = {"X-Forwarded-For": f"198.51.100.{number}"}
            answer = await http.get(f"{scene.pages.public}/wp-login.php", headers=headers)
            assert answer.status_code == 404
        assert (await http.get(scene.link("0f9c1c2e-4b1d-4c58-9a57-6d1f0a3b2c4d"))).status_code == 303


async def test_one_client_uses_up_its_own_rate_only(
    plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    settings = {"proxies": "1", "address_rate": "0.1", "address_burst": "5", "page_burst": "10"}
    async with (
        pages_scene(plane, namespace, tmp_path, page_rate="0.1", **settings) as scene,
        plain_http(timeout=60) as http,
    ):
        link = scene.link("0f9c1c2e-4b1d-4c58-9a57-6d1f0a3b2c4d")
        own = [(await http.get(link, headers={"X-Forwarded-For": ATTACKER})).status_code for _ in range(30)]
        assert own[:5] == [303] * 5
        # Some requests more are answered as time passes.
        assert 429 in own
        answer = await http.get(link, headers={"X-Forwarded-For": "192.0.2.1"})
        assert answer.status_code == 303

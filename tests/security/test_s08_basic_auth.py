"""S8: a client knows a callback URL, but not the password."""

import asyncio
import base64
import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from sandbox.controlplane.control_plane import ControlPlane
from tests.support.scenes.receiver_site import TOKEN, Site, a_guid, a_raw_organization, a_site, answers

_PATIENT = aiohttp.ClientTimeout(total=60)
PASSWORD = "geheim-0123456789"
PATH = f"/callbacks/locked/{TOKEN}"


def a_header(password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"esaw:{password}".encode()).decode()}


@pytest.fixture
async def site(plane: ControlPlane, namespace: str, tmp_path: Path) -> AsyncIterator[Site]:
    """A namespace with the organization ``locked``, whose callbacks need a password too."""
    async with AsyncExitStack() as opened:
        site = await a_site(plane, namespace, tmp_path, opened)
        callback = {"tokenSecretRefs": [{"name": "s", "key": "k"}], "basicAuthSecretRef": {"name": "basic"}}
        await site.create(a_raw_organization("locked", callback=callback))
        await site.publish("locked", password=PASSWORD)
        yield site


async def test_calls_without_the_password_take_nothing_of_the_rate(site: Site) -> None:
    receiver = await site.receiver(callback_rate="0.1", callback_burst="1")
    await answers(site, receiver, 401, path=PATH)
    for header in ({}, a_header("wrong")):
        for _ in range(20):
            assert await site.status(receiver, a_guid(), path=PATH, headers=header) == 401
    assert await site.status(receiver, a_guid(), path=PATH, headers=a_header(PASSWORD)) == 200


async def test_a_flood_of_passwords_stops_neither_the_real_calls_nor_the_process(site: Site) -> None:
    receiver = await site.receiver()
    await answers(site, receiver, 401, path=PATH)
    numbers, answered, under_way = itertools.count(), list[int](), asyncio.Event()

    async def guess(until: asyncio.Event) -> None:
        while not until.is_set():
            header = a_header(f"guess-{next(numbers)}")
            answered.append(await site.status(receiver, a_guid(), path=PATH, headers=header))
            if len(answered) == 200:
                under_way.set()

    is_over = asyncio.Event()
    async with asyncio.TaskGroup() as attack:
        for _ in range(50):
            attack.create_task(guess(is_over))
        try:
            await under_way.wait()
            # No call had the right password before: a receiver that has just started knows it, too.
            for _ in range(20):
                assert await site.status(receiver, a_guid(), path=PATH, headers=a_header(PASSWORD)) == 200
                assert await site.status(receiver, a_guid()) == 200
                async with site.session.get(f"{receiver.private}/healthz", timeout=_PATIENT) as health:
                    assert health.status == 200
        finally:
            is_over.set()

    assert set(answered) == {401}

"""A stand-in without faults, a user of it, and a client with the user's key."""

from collections.abc import AsyncIterator

import httpx
import pytest

from sandbox.esaw import StandIn, User
from tests.support.servers.standin_peers import anna, client_of


@pytest.fixture
async def esaw() -> AsyncIterator[StandIn]:
    async with StandIn() as running:
        yield running


@pytest.fixture
def user(esaw: StandIn) -> User:
    return anna(esaw)


@pytest.fixture
async def api(esaw: StandIn, user: User) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(esaw, user) as client:
        yield client

"""S6: anonymous clients use up the console while its OpenID provider hangs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, cast

import aiohttp
import msgspec
import pytest

from tests.support.builders import AClock
from webhook.console.identity.oidc import OidcClient, OidcConfig, OidcUnavailable

CONFIG = OidcConfig(
    issuer="https://login.example.com",
    client_id="counterfoil",
    client_secret=None,
    scopes="openid",
    redirect_uri="https://console.example.com/oidc/return",
    name="Acme login",
)
REQUESTS = 200
AT_MOST = 16
ROUNDS = 50


class Body:
    def __init__(self, content: bytes) -> None:
        self._content = content

    async def iter_any(self) -> AsyncIterator[bytes]:
        yield self._content


class Answer(NamedTuple):
    status: int
    content: Body


class HangingProvider:
    """Accepts connections and answers nothing until the timeout, but perhaps its discovery document."""

    def __init__(self, document: bytes | None = None) -> None:
        self.requests = 0
        self.timeout = asyncio.Event()
        self._document = document

    @asynccontextmanager
    async def request(self, method: str, url: str, **_: Any) -> AsyncIterator[Answer]:
        self.requests += 1
        if method == "GET" and self._document is not None:
            yield Answer(200, Body(self._document))
            return
        await self.timeout.wait()
        raise TimeoutError


async def let_all_run() -> None:
    for _ in range(ROUNDS):
        await asyncio.sleep(0)


async def test_sign_ins_at_a_provider_that_hangs_take_few_of_the_consoles_requests() -> None:
    provider, clock = HangingProvider(), AClock()
    client = OidcClient(cast("aiohttp.ClientSession", provider), CONFIG, monotonic=clock.monotonic)
    flood = [
        asyncio.create_task(client.authorization_url(state="s", nonce="n", verifier="v"))
        for _ in range(REQUESTS)
    ]
    await let_all_run()
    assert sum(not each.done() for each in flood) <= AT_MOST

    provider.timeout.set()
    answers = await asyncio.gather(*flood, return_exceptions=True)
    assert all(isinstance(each, OidcUnavailable) for each in answers)
    # Those that waited get the same error, and do not wait for one more timeout each.
    assert provider.requests == 1

    clock.advance(minutes=1)
    with pytest.raises(OidcUnavailable):
        await client.authorization_url(state="s", nonce="n", verifier="v")
    assert provider.requests == 2


async def test_codes_at_a_provider_that_hangs_take_few_of_the_consoles_requests() -> None:
    endpoints = {
        "authorization_endpoint": "https://login.example.com/a",
        "token_endpoint": "https://t.example",
    }
    provider = HangingProvider(msgspec.json.encode({"issuer": CONFIG.issuer, **endpoints}))
    client = OidcClient(cast("aiohttp.ClientSession", provider), CONFIG, monotonic=AClock().monotonic)
    flood = [asyncio.create_task(client.id_token("code", nonce="n", verifier="v")) for _ in range(REQUESTS)]
    await let_all_run()
    assert sum(not each.done() for each in flood) <= AT_MOST

    # Beginning a sign-in needs no answer of the provider, so it is not in the way.
    assert await client.authorization_url(state="s", nonce="n", verifier="v")
    provider.timeout.set()
    answers = await asyncio.gather(*flood, return_exceptions=True)
    assert all(isinstance(each, OidcUnavailable) for each in answers)

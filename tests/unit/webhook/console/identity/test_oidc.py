"""The client of an OpenID provider: what it sends, what it believes, and what it refuses."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import aiohttp
import httpx
import msgspec
import pytest

from counterfoil.http_client import code_challenge
from counterfoil.settings import ConsoleSettings
from tests.support.builders import AClock
from tests.support.servers.openid_provider import OpenIdProvider, openid_provider
from webhook.console.identity.oidc import (
    METADATA_SECONDS,
    OidcClient,
    OidcConfig,
    OidcRefused,
    OidcUnavailable,
    check_claims,
    open_oidc_client,
)

CONFIG = OidcConfig(
    issuer="https://login.example.com",
    client_id="counterfoil",
    client_secret="a-client-secret",
    scopes="openid email",
    redirect_uri="https://console.example.com/oidc/return",
    name="Acme login",
)
GOOD = {"iss": CONFIG.issuer, "aud": "counterfoil", "exp": 2e9, "nonce": "n"}
VERIFIER = "v" * 43


def a_token(claims: object) -> str:
    return f"e30.{base64.urlsafe_b64encode(msgspec.json.encode(claims)).decode().rstrip('=')}.c2ln"


@pytest.mark.parametrize(
    "claims", [GOOD, {**GOOD, "aud": ["other", "counterfoil"]}, {**GOOD, "azp": "counterfoil"}]
)
def test_an_id_token_for_this_client_and_this_browser_is_accepted(claims: dict[str, object]) -> None:
    check_claims(a_token(claims), CONFIG, nonce="n")


@pytest.mark.parametrize(
    "token",
    [
        a_token({**GOOD, "iss": "https://login.example.com/"}),
        a_token({**GOOD, "aud": "other"}),
        a_token({**GOOD, "aud": []}),
        a_token({**GOOD, "azp": "other"}),
        a_token({**GOOD, "nonce": "m"}),
        a_token({**GOOD, "nonce": None}),
        a_token({"iss": CONFIG.issuer}),
        a_token([]),
        "",
        "opaque",
        "a.!.c",
        "a.YQ.c",
        f"a.{base64.urlsafe_b64encode(b'[' * 5000).decode()}.c",
    ],
)
def test_any_other_id_token_is_refused(token: str) -> None:
    with pytest.raises(OidcRefused):
        check_claims(token, CONFIG, nonce="n")


def test_the_challenge_is_that_of_the_rfc() -> None:
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    assert code_challenge(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_no_description_shows_the_secret() -> None:
    assert "a-client-secret" not in repr(CONFIG)


@asynccontextmanager
async def a_client(folder: Path) -> AsyncIterator[tuple[OidcClient, OpenIdProvider, AClock]]:
    clock = AClock()
    async with openid_provider(folder) as provider:
        (folder / "secret").write_text(provider.client_secret)
        settings = ConsoleSettings(
            public_url="https://console.example.test/",
            oidc_issuer=provider.url,
            oidc_client_id=provider.client_id,
            oidc_client_secret=folder / "secret",
            oidc_ca=provider.authority,
        )
        async with open_oidc_client(settings, monotonic=clock.monotonic) as client:
            assert client is not None
            yield client, provider, clock


async def a_code(client: OidcClient, provider: OpenIdProvider) -> str:
    url = await client.authorization_url(state="s", nonce="n", verifier=VERIFIER)
    async with httpx.AsyncClient(verify=False, trust_env=False) as http:
        answer = await http.get(url)
    return parse_qs(urlsplit(answer.headers["Location"]).query)["code"][0]


async def test_a_code_becomes_an_id_token_once(tmp_path: Path) -> None:
    async with a_client(tmp_path) as (client, provider, _):
        code = await a_code(client, provider)

        token = await client.id_token(code, nonce="n", verifier=VERIFIER)

        assert token.count(".") == 2
        with pytest.raises(OidcRefused, match="400"):
            await client.id_token(code, nonce="n", verifier=VERIFIER)


async def test_a_code_is_worth_nothing_without_its_verifier(tmp_path: Path) -> None:
    async with a_client(tmp_path) as (client, provider, _):
        code = await a_code(client, provider)
        with pytest.raises(OidcRefused):
            await client.id_token(code, nonce="n", verifier="w" * 43)


async def test_the_discovery_document_is_read_once_in_ten_minutes(tmp_path: Path) -> None:
    async with a_client(tmp_path) as (client, provider, clock):
        await client.authorization_url(state="s", nonce="n", verifier=VERIFIER)
        provider.is_hidden = True
        await client.authorization_url(state="s", nonce="n", verifier=VERIFIER)
        clock.advance(seconds=METADATA_SECONDS)
        with pytest.raises(OidcUnavailable, match="404"):
            await client.authorization_url(state="s", nonce="n", verifier=VERIFIER)


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://evil.example"},
        {"token_endpoint": "http://127.0.0.1/token"},
        {"authorization_endpoint": None},
        {"padding": "x" * 300_000},
    ],
)
async def test_a_wrong_discovery_document_is_an_error(tmp_path: Path, document: dict[str, object]) -> None:
    async with a_client(tmp_path) as (client, provider, _):
        provider.document = document
        with pytest.raises(OidcUnavailable):
            await client.authorization_url(state="s", nonce="n", verifier=VERIFIER)


async def test_a_certificate_that_nobody_trusts_is_an_error(tmp_path: Path) -> None:
    async with openid_provider(tmp_path) as provider, aiohttp.ClientSession() as session:
        config = replace(CONFIG, issuer=provider.url)
        client = OidcClient(session, config, monotonic=AClock().monotonic)
        with pytest.raises(OidcUnavailable):
            await client.authorization_url(state="s", nonce="n", verifier=VERIFIER)


async def test_without_an_issuer_there_is_no_client() -> None:
    async with open_oidc_client(ConsoleSettings(), monotonic=AClock().monotonic) as client:
        assert client is None


async def test_a_secret_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    settings = ConsoleSettings(
        public_url="https://c.example",
        oidc_issuer="https://login.example.com",
        oidc_client_id="c",
        oidc_client_secret=tmp_path / "missing",
    )
    with pytest.raises(OSError, match="missing"):
        async with open_oidc_client(settings, monotonic=AClock().monotonic):
            raise AssertionError("it opened")

"""
Sign-in with an OpenID provider: authorization code with PKCE (OpenID Connect Core 1.0, 3.1; RFC 7636).

The browser goes to the provider and returns with a code -> token endpoint -> ID token -> claims -> the ID
token is the person's token for the API server. The API server must trust the same issuer and client: its
first answer verifies signature, issuer, audience and expiry of this very token, and without that answer there
is no session (docs/decisions/0031). The claims are compared here too, so that a token for another client or
another browser never reaches the API server.

No access token and no refresh token is kept.
"""

import asyncio
import base64
import hmac
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlencode

import aiohttp
import msgspec

from counterfoil.http_client import basic_client_credentials, code_challenge
from counterfoil.settings import ConsoleSettings
from counterfoil.untrusted.json_bounds import JSON_ERRORS
from counterfoil.untrusted.tls_handshake import without_finite_fields

RETURN_PATH: Final = "/oidc/return"
"""Path of the redirect URI."""

METADATA_SECONDS: Final = 600.0
"""Time for which the provider's discovery document is cached."""

TIMEOUT_SECONDS: Final = 10.0
"""Timeout for one request to the provider."""

FAILURE_SECONDS: Final = 5.0
"""Time for which nobody asks the provider again for a discovery document that could not be read."""

MAX_WAITING: Final = 16
"""Maximum number of requests that wait for the provider. Anybody can begin a sign-in, so a provider that
hangs must not take the requests of people who are signed in."""

MAX_ANSWER: Final = 256 * 1024
"""Maximum size of an answer of the provider, in bytes."""

S = TypeVar("S")


class OidcUnavailable(Exception):
    """The provider cannot be reached, or does not work. The message has no secret."""


class OidcRefused(Exception):
    """The provider refuses the code, or its answer is not for this client or this browser."""


@dataclass(frozen=True, kw_only=True)
class OidcConfig:
    """The provider, and this console as its client. ``repr`` shows no secret."""

    issuer: str
    client_id: str
    client_secret: str | None = field(repr=False)
    """None: a public client, which PKCE alone protects."""
    scopes: str
    redirect_uri: str
    name: str
    """Name of the provider for people."""

    @classmethod
    def of(cls, settings: ConsoleSettings) -> "OidcConfig | None":
        """Return the configuration of checked settings; None without an issuer. Raises ``OSError`` if the
        secret cannot be read."""
        if settings.oidc_issuer is None or settings.oidc_client_id is None or settings.public_url is None:
            return None
        return cls(
            issuer=settings.oidc_issuer,
            client_id=settings.oidc_client_id,
            client_secret=_secret(settings.oidc_client_secret),
            scopes=settings.oidc_scopes,
            redirect_uri=f"{settings.public_url.rstrip('/')}{RETURN_PATH}",
            name=settings.oidc_name,
        )


class ProviderMetadata(msgspec.Struct, frozen=True):
    """The part of a discovery document that the console needs (OpenID Connect Discovery 1.0, 3)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)


class TokenResponse(msgspec.Struct, frozen=True):
    """The part of the token endpoint's answer that the console needs. ``repr`` shows no token."""

    id_token: str

    def __repr__(self) -> str:
        return "<token response>"


class IdTokenClaims(msgspec.Struct, frozen=True):
    """Claims of an ID token (OpenID Connect Core 1.0, 2)."""

    iss: str
    aud: str | tuple[str, ...]
    exp: float
    nonce: str | None = None
    azp: str | None = None


class OidcClient:
    """Calls one provider. ``monotonic`` is a clock in seconds that never goes back."""

    def __init__(
        self, session: aiohttp.ClientSession, config: OidcConfig, *, monotonic: Callable[[], float]
    ) -> None:
        self.config = config
        self._session = session
        self._monotonic = monotonic
        self._reading = asyncio.Lock()
        self._metadata: ProviderMetadata | None = None
        self._read_at = 0.0
        self._failure: tuple[float, str] | None = None
        """When the last attempt to read the discovery document failed, and why."""
        self._waiting = 0

    async def authorization_url(self, *, state: str, nonce: str, verifier: str) -> str:
        """Return where the browser goes. Raises ``OidcUnavailable``."""
        metadata = await self._provider()
        query = {
            "response_type": "code",
            "client_id": self.config.client_id,
            "redirect_uri": self.config.redirect_uri,
            "scope": self.config.scopes,
            "state": state,
            "nonce": nonce,
            "code_challenge": code_challenge(verifier),
            "code_challenge_method": "S256",
        }
        separator = "&" if "?" in metadata.authorization_endpoint else "?"
        return f"{metadata.authorization_endpoint}{separator}{urlencode(query)}"

    async def id_token(self, code: str, *, nonce: str, verifier: str) -> str:
        """Exchange a code for an ID token of this client and this browser. Raises ``OidcRefused``,
        ``OidcUnavailable``."""
        metadata = await self._provider()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.config.redirect_uri,
            "client_id": self.config.client_id,
            "code_verifier": verifier,
        }
        headers = {}
        if self.config.client_secret is not None:
            methods = metadata.token_endpoint_auth_methods_supported
            if "client_secret_post" in methods and "client_secret_basic" not in methods:
                form["client_secret"] = self.config.client_secret
            else:
                headers["Authorization"] = basic_client_credentials(
                    self.config.client_id, self.config.client_secret
                )
        with self._waiting_for_provider():
            status, body = await self._request("POST", metadata.token_endpoint, form, headers)
        if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
            raise OidcRefused(f"the token endpoint refused the code or this client ({status})")
        token = _decoded(status, body, TokenResponse).id_token
        check_claims(token, self.config, nonce=nonce)
        return token

    async def _provider(self) -> ProviderMetadata:
        if (known := self._fresh_metadata()) is not None:
            return known
        with self._waiting_for_provider():
            async with self._reading:
                # Another request may have read it meanwhile, or failed: then this one does not wait as long.
                if (known := self._fresh_metadata()) is not None:
                    return known
                try:
                    return await self._read_metadata()
                except OidcUnavailable as problem:
                    self._failure = self._monotonic(), str(problem)
                    raise

    def _fresh_metadata(self) -> ProviderMetadata | None:
        """Return the cached metadata; None: they must be read. Raises ``OidcUnavailable`` if that just
        failed."""
        now = self._monotonic()
        if self._metadata is not None and now - self._read_at < METADATA_SECONDS:
            return self._metadata
        if self._failure is not None and now - self._failure[0] < FAILURE_SECONDS:
            raise OidcUnavailable(self._failure[1])
        return None

    async def _read_metadata(self) -> ProviderMetadata:
        now = self._monotonic()
        url = f"{self.config.issuer.rstrip('/')}/.well-known/openid-configuration"
        found = _decoded(*await self._request("GET", url, None, {}), ProviderMetadata)
        _check_metadata(found, self.config.issuer)
        self._metadata, self._read_at = found, now
        return found

    @contextmanager
    def _waiting_for_provider(self) -> Iterator[None]:
        """Count a request that waits for the provider. Raises ``OidcUnavailable`` if too many do."""
        if self._waiting >= MAX_WAITING:
            raise OidcUnavailable("too many sign-ins wait for the provider")
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    async def _request(
        self, method: str, url: str, form: Mapping[str, str] | None, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        body = bytearray()
        try:
            async with self._session.request(
                method,
                url,
                data=form,
                headers={"Accept": "application/json", **headers},
                allow_redirects=False,
            ) as response:
                async for chunk in response.content.iter_any():
                    body += chunk
                    if len(body) > MAX_ANSWER:
                        raise OidcUnavailable("the provider's answer is too long")
                return response.status, bytes(body)
        except (aiohttp.ClientError, TimeoutError, OSError) as problem:
            raise OidcUnavailable(f"the provider did not answer ({type(problem).__name__})") from problem


def check_claims(token: str, config: OidcConfig, *, nonce: str) -> None:
    """
    Check for whom an ID token is. Raises ``OidcRefused``.

    The signature and the expiry are not checked here: the API server verifies them.
    """
    parts = token.split(".")
    try:
        payload = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        claims = msgspec.json.decode(payload, type=IdTokenClaims)
    except (IndexError, ValueError, RecursionError):
        raise OidcRefused("the provider sent no ID token that can be read") from None
    audiences = (claims.aud,) if isinstance(claims.aud, str) else claims.aud
    if claims.iss != config.issuer:
        raise OidcRefused("the ID token is of another issuer")
    if config.client_id not in audiences or claims.azp not in (None, config.client_id):
        raise OidcRefused("the ID token is for another client")
    if claims.nonce is None or not hmac.compare_digest(claims.nonce.encode(), nonce.encode()):
        raise OidcRefused("the ID token is for another browser: its nonce differs")


@asynccontextmanager
async def open_oidc_client(
    settings: ConsoleSettings, *, monotonic: Callable[[], float]
) -> AsyncIterator[OidcClient | None]:
    """Open the client of the configured provider; None without one. Raises ``OSError`` if a file cannot be
    read."""
    config = OidcConfig.of(settings)
    if config is None:
        yield None
        return
    context = without_finite_fields(ssl.create_default_context())
    if settings.oidc_ca is not None:
        context.load_verify_locations(cafile=settings.oidc_ca)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=context, limit=8),
        timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
    ) as session:
        yield OidcClient(session, config, monotonic=monotonic)


def _check_metadata(found: ProviderMetadata, issuer: str) -> None:
    if found.issuer != issuer:
        # OpenID Connect Discovery 1.0, 4.3: otherwise one provider could speak for another.
        raise OidcUnavailable("the discovery document names another issuer than the setting")
    for url in (found.authorization_endpoint, found.token_endpoint):
        if not url.startswith("https://"):
            raise OidcUnavailable("the discovery document has an endpoint without https")


def _decoded(status: int, body: bytes, kind: type[S]) -> S:
    if status != HTTPStatus.OK:
        raise OidcUnavailable(f"the provider answered {status}")
    try:
        return msgspec.json.decode(body, type=kind)
    except JSON_ERRORS:
        raise OidcUnavailable("the provider's answer can't be read") from None


def _secret(path: Path | None) -> str | None:
    return path.read_text(encoding="utf-8").strip() if path is not None else None

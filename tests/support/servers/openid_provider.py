"""
A small OpenID provider over TLS on the loopback interface: discovery, keys, authorization code with PKCE.

It has one user, who has signed in already and consents at once. Codes work once. It signs with RS256.
"""

import base64
import hashlib
import ipaddress
import json
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from sandbox.controlplane.certificates import (
    CertificateAuthority,
    certificate_pem,
    distinguished_name,
    key_pem,
    new_key,
)


def base64url(data: bytes) -> str:
    """Encode as JSON Web Signatures do."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def new_signing_key() -> rsa.RSAPrivateKey:
    """Make a key for RS256."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass
class OpenIdProvider:
    """The provider; a test changes what it says at any time."""

    authority: Path
    """File with the certificate that signs its own, in PEM."""
    client_id: str = "counterfoil"
    client_secret: str = "a secret: with+signs"
    redirect_uri: str = "https://console.example.test/oidc/return"
    url: str = ""
    claims: dict[str, Any] = field(default_factory=dict)
    """Claims that replace the usual ones of the next ID tokens."""
    lifetime: int = 600
    """Seconds for which an ID token is valid."""
    published_key: rsa.RSAPrivateKey = field(default_factory=new_signing_key)
    signing_key: rsa.RSAPrivateKey | None = None
    """A key other than the published one."""
    document: dict[str, Any] = field(default_factory=dict)
    """Fields that replace those of the discovery document."""
    is_hidden: bool = False
    """Whether the discovery document is missing."""
    is_broken: bool = False
    denies: bool = False
    """Whether the user cancels."""
    discoveries: int = 0
    """Number of times the discovery document was read."""
    exchanges: int = 0
    """Number of codes that were exchanged."""
    _codes: dict[str, Mapping[str, str]] = field(default_factory=dict)

    def routes(self) -> list[web.RouteDef]:
        """Return the endpoints."""
        return [
            web.get("/.well-known/openid-configuration", self._discover),
            web.get("/keys", self._keys),
            web.get("/authorize", self._authorize),
            web.post("/token", self._token),
        ]

    async def _discover(self, request: web.Request) -> web.Response:
        if self.is_hidden:
            return web.Response(status=404)
        self.discoveries += 1
        return web.json_response(
            {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "jwks_uri": f"{self.url}/keys",
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
                **self.document,
            }
        )

    async def _keys(self, request: web.Request) -> web.Response:
        numbers = self.published_key.public_key().public_numbers()
        n, e = (
            base64url(each.to_bytes((each.bit_length() + 7) // 8, "big")) for each in (numbers.n, numbers.e)
        )
        key = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "1", "n": n, "e": e}
        return web.json_response({"keys": [key]})

    async def _authorize(self, request: web.Request) -> web.Response:
        asked = request.query
        if (asked["client_id"], asked["redirect_uri"]) != (self.client_id, self.redirect_uri):
            return web.Response(status=400)
        assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
        if self.denies:
            answer = {"error": "access_denied", "state": asked["state"]}
        else:
            code = secrets.token_urlsafe(16)
            self._codes[code] = dict(asked)
            answer = {"code": code, "state": asked["state"], "iss": self.url}
        return web.Response(status=302, headers={"Location": f"{self.redirect_uri}?{urlencode(answer)}"})

    async def _token(self, request: web.Request) -> web.Response:
        if self.is_broken:
            return web.Response(status=500)
        form = await request.post()
        begun = self._codes.pop(str(form["code"]), None)
        challenge = base64url(hashlib.sha256(str(form["code_verifier"]).encode()).digest())
        pair = f"{self.client_id}:a+secret%3A+with%2Bsigns"
        wanted = f"Basic {base64.b64encode(pair.encode()).decode()}"
        if begun is None or begun["code_challenge"] != challenge or form["redirect_uri"] != self.redirect_uri:
            return web.json_response({"error": "invalid_grant"}, status=400)
        if request.headers.get("Authorization") != wanted:
            return web.json_response({"error": "invalid_client"}, status=401)
        self.exchanges += 1
        token = self._id_token(begun)
        return web.json_response({"access_token": "unused", "token_type": "Bearer", "id_token": token})

    def _id_token(self, begun: Mapping[str, str]) -> str:
        now = int(time.time())
        claims = {
            "iss": self.url,
            "sub": "7",
            "aud": self.client_id,
            "iat": now,
            "exp": now + self.lifetime,
            "nonce": begun["nonce"],
            "email": "jane@acme.example",
            "email_verified": True,
            **self.claims,
        }
        parts = [{"alg": "RS256", "kid": "1", "typ": "JWT"}, claims]
        signed = ".".join(base64url(json.dumps(part).encode()) for part in parts)
        key = self.signing_key or self.published_key
        return f"{signed}.{base64url(key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


@asynccontextmanager
async def openid_provider(folder: Path) -> AsyncIterator[OpenIdProvider]:
    """Run a provider; its files are in the folder."""
    authority, key = CertificateAuthority("Test OpenID authority"), new_key()
    local = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = authority.sign(key, distinguished_name("openid"), ExtendedKeyUsageOID.SERVER_AUTH, local)
    (folder / "openid.pem").write_bytes(key_pem(key) + certificate_pem(certificate))
    (folder / "openid-ca.crt").write_bytes(certificate_pem(authority.certificate))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "openid.pem")
    provider = OpenIdProvider(folder / "openid-ca.crt")
    application = web.Application()
    application.add_routes(provider.routes())
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        provider.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
        yield provider
    finally:
        await runner.cleanup()

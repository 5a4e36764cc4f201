"""
The identity of a person: a session in sealed cookies, or the token that an OIDC proxy passes.

A session holds the person's own Kubernetes token, sealed with AES-256-GCM, and lives an hour at most and
never longer than the token. A stolen cookie does not reveal the token. Nothing here talks to a cluster; a
token's own claims are believed only where they shorten the session.
"""

import base64
import binascii
import os
import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from counterfoil.clock import Clock
from counterfoil.sealing import NONCE_BYTES, SealBroken
from webhook.http_server.cookies import CookieCipher, FormState, SealedCookies

COOKIE: Final = "__Host-counterfoil-console"
"""By the prefix browsers let nobody but this host set it: a neighbour below the same domain can't put a
session in its place."""
GUEST: Final = f"{COOKIE}-guest"
"""Cookie of a guest, separate from the session's. A link on another site opens the sign-in page without the
session cookie; the cookie that is set then must not replace the session."""

MAX_COOKIES: Final = 4
MAX_COOKIE_CHARACTERS: Final = 3800
"""Browsers keep cookies up to 4,096 bytes with name and attributes; a token of an OIDC provider can be
longer."""

_MAX_CHARACTERS: Final = MAX_COOKIES * MAX_COOKIE_CHARACTERS
_COOKIE_NAMES: Final = tuple(f"{COOKIE}-{number}" for number in range(MAX_COOKIES))

_SESSION: Final = "console session"
_GUEST: Final = "console guest"
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")
"""Characters of a bearer token. (RFC 6750, 2.1)"""


class ConsoleSession(FormState, frozen=True, kw_only=True):
    """Somebody who is signed in, or a guest, who is about to be: then ``token`` is empty."""

    user: str
    token: str

    def __repr__(self) -> str:
        return f"<session of {self.user!r} until {self.expires.isoformat()}>"


class ProcessCookieCipher:
    """A key that nobody else has and that ends with this process: for one replica."""

    def __init__(self) -> None:
        self._key = AESGCM(AESGCM.generate_key(bit_length=256))

    def seal_for(self, purpose: str, plain: bytes) -> bytes:
        """Seal something for a purpose."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._key.encrypt(nonce, plain, purpose.encode())

    def open_for(self, purpose: str, data: bytes) -> bytes:
        """Open what was sealed for the same purpose. Raises ``SealBroken``."""
        try:
            return self._key.decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], purpose.encode())
        except (InvalidTag, ValueError):
            raise SealBroken("It was changed, or sealed by another process.") from None


class ConsoleSessions(SealedCookies):
    """Makes and reads sessions."""

    def __init__(self, cipher: CookieCipher, clock: Clock, *, max_age: timedelta) -> None:
        super().__init__(cipher, clock, form_purpose="console form", max_characters=_MAX_CHARACTERS)
        self._max_age = max_age

    def begin(self, user: str, token: str) -> ConsoleSession:
        """Begin a session; a guest's when ``token`` is empty."""
        latest = self._clock.now() + self._max_age
        expires = min(latest, token_expiry(token) or latest)
        return ConsoleSession(id=secrets.token_urlsafe(32), user=user, token=token, expires=expires)

    def read(self, cookies: Mapping[str, str]) -> ConsoleSession | None:
        """Return the valid session of this browser, or None."""
        value = "".join(cookies.get(name, "") for name in _COOKIE_NAMES)
        return self.open_for(_SESSION, ConsoleSession, value)

    def guest(self, cookies: Mapping[str, str]) -> ConsoleSession | None:
        """Return what binds forms to this browser while nobody is signed in, or while a proxy says who it
        is."""
        return self.open_for(_GUEST, ConsoleSession, cookies.get(GUEST, ""))

    def cookies(self, session: ConsoleSession) -> tuple[str, ...]:
        """Return the Set-Cookie headers that give a session to the browser, and take the rest of a longer one
        away."""
        seconds = max(0, int((session.expires - self._clock.now()).total_seconds()))
        if not session.token:
            return (_cookie(GUEST, self.seal_for(_GUEST, session), seconds),)
        value = self.seal_for(_SESSION, session)
        if len(value) > _MAX_CHARACTERS:
            raise ValueError("the session does not fit into its cookies")
        starts = range(0, _MAX_CHARACTERS, MAX_COOKIE_CHARACTERS)
        pieces = (value[start : start + MAX_COOKIE_CHARACTERS] for start in starts)
        return tuple(
            _cookie(name, piece, seconds if piece else 0)
            for name, piece in zip(_COOKIE_NAMES, pieces, strict=True)
        )

    def expire(self) -> tuple[str, ...]:
        """Return the Set-Cookie headers that end a session."""
        return tuple(_cookie(name, "", 0) for name in _COOKIE_NAMES)


def bearer_token(authorization: str | None) -> str:
    """Return the token of an ``Authorization: Bearer`` header; empty when there is none."""
    scheme, _, token = (authorization or "").strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def is_bearer_token(text: str, *, limit: int) -> bool:
    """Whether a text can be a bearer token: anything else must not come near a header."""
    return 0 < len(text) <= limit and _TOKEN.fullmatch(text) is not None


def token_expiry(token: str) -> datetime | None:
    """
    Return when a token says that it expires (RFC 7519, 4.1.4); None for one that says nothing.

    Nobody has verified that; but a token that lies about it only shortens its own session, or dies before it.
    """
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = msgspec.json.decode(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return datetime.fromtimestamp(int(claims["exp"]), UTC)
    except (binascii.Error, msgspec.DecodeError, KeyError, TypeError, ValueError, OverflowError, OSError):
        return None


def _cookie(name: str, value: str, seconds: int) -> str:
    return f"{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; Secure; SameSite=Strict"

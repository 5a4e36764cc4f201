"""
The identity of a person: a session in sealed cookies, or the token that an OIDC proxy passes.

A session holds the person's own Kubernetes token, sealed with AES-256-GCM, and lives an hour at most and
never longer than the token. A stolen cookie does not reveal the token, and nobody can forge one. Every form
carries a token of its session (CSRF). Nothing here talks to a cluster; a token's own claims are believed only
where they shorten the session.
"""

import base64
import binascii
import hmac
import os
import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from counterfoil.clock import Clock
from counterfoil.sealing import NONCE_BYTES, SealBroken, SealKeyUnknown

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

_SESSION: Final = "console session"
_GUEST: Final = "console guest"
_FORM: Final = "console form"
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")
"""Characters of a bearer token. (RFC 6750, 2.1)"""


class ConsoleSession(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who is signed in, or a guest, who is about to be: then ``token`` is empty."""

    id: str
    user: str
    token: str
    expires: datetime

    def __repr__(self) -> str:
        return f"<session of {self.user!r} until {self.expires.isoformat()}>"


class CookieCipher(Protocol):
    """Encrypts cookies: ``counterfoil.sealing.Sealing``, or a key of this process."""

    def seal_for(self, purpose: str, plain: bytes) -> bytes:
        """Seal something for a purpose."""
        ...

    def open_for(self, purpose: str, data: bytes) -> bytes:
        """Open what was sealed for the same purpose. Raises ``SealBroken`` and ``SealKeyUnknown``."""
        ...


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


class ConsoleSessions:
    """Makes and reads sessions, and the tokens in forms."""

    def __init__(self, cipher: CookieCipher, clock: Clock, *, max_age: timedelta) -> None:
        self._cipher = cipher
        self._clock = clock
        self._max_age = max_age

    def begin(self, user: str, token: str) -> ConsoleSession:
        """Begin a session; a guest's when ``token`` is empty."""
        expires = self._clock.now() + self._max_age
        until = token_expiry(token)
        return ConsoleSession(
            id=secrets.token_urlsafe(32),
            user=user,
            token=token,
            expires=min(expires, until) if until else expires,
        )

    def read(self, cookies: Mapping[str, str]) -> ConsoleSession | None:
        """Return the valid session of this browser, or None."""
        return self._read(_SESSION, "".join(cookies.get(name, "") for name in _cookie_names()))

    def guest(self, cookies: Mapping[str, str]) -> ConsoleSession | None:
        """Return what binds forms to this browser while nobody is signed in, or while a proxy says who it
        is."""
        return self._read(_GUEST, cookies.get(GUEST, ""))

    def _read(self, purpose: str, text: str) -> ConsoleSession | None:
        opened = self._unseal(purpose, text)
        if opened is None:
            return None
        try:
            session = msgspec.json.decode(opened, type=ConsoleSession)
        except msgspec.MsgspecError:
            # Sealed by another version of this program; the person signs in again.
            return None
        return session if self._clock.now() < session.expires else None

    def cookies(self, session: ConsoleSession) -> tuple[str, ...]:
        """Return the Set-Cookie headers that give a session to the browser, and take the rest of a longer one
        away."""
        seconds = max(0, int((session.expires - self._clock.now()).total_seconds()))
        purpose = _SESSION if session.token else _GUEST
        value = _base64url(self._cipher.seal_for(purpose, msgspec.json.encode(session)))
        if not session.token:
            return (_cookie(GUEST, value, seconds),)
        pieces = [
            value[at : at + MAX_COOKIE_CHARACTERS] for at in range(0, len(value), MAX_COOKIE_CHARACTERS)
        ]
        if len(pieces) > MAX_COOKIES:
            raise ValueError("the session does not fit into its cookies")
        pieces += [""] * (MAX_COOKIES - len(pieces))
        return tuple(
            _cookie(name, piece, seconds if piece else 0)
            for name, piece in zip(_cookie_names(), pieces, strict=True)
        )

    def expire(self) -> tuple[str, ...]:
        """Return the Set-Cookie headers that end a session."""
        return tuple(_cookie(name, "", 0) for name in _cookie_names())

    def form_token(self, session: ConsoleSession) -> str:
        """Return what every form of a session carries, so that nobody else's page can send it (CSRF)."""
        return _base64url(self._cipher.seal_for(_FORM, session.id.encode()))

    def is_valid_form_token(self, session: ConsoleSession, token: str) -> bool:
        """Whether a form carries a token of this session."""
        opened = self._unseal(_FORM, token)
        return opened is not None and hmac.compare_digest(opened, session.id.encode())

    def _unseal(self, purpose: str, text: str) -> bytes | None:
        if not text or len(text) > MAX_COOKIES * MAX_COOKIE_CHARACTERS or not text.isascii():
            return None
        try:
            return self._cipher.open_for(purpose, base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        except (binascii.Error, SealBroken, SealKeyUnknown):
            return None


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


def _cookie_names() -> tuple[str, ...]:
    return tuple(f"{COOKIE}-{number}" for number in range(MAX_COOKIES))


def _cookie(name: str, value: str, seconds: int) -> str:
    return f"{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; Secure; SameSite=Strict"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")

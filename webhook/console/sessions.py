"""
The identity of a person: a session in sealed cookies, or the token that an OIDC proxy passes.

A session holds the person's own Kubernetes token, sealed with AES-256-GCM. It ends some minutes after the
last click, at its latest end, with the token, or with a sign-out, whichever is first. A stolen cookie does
not reveal the token. Nothing here talks to a cluster (``sign_outs`` does); a token's own claims are believed
only where they shorten the session.
"""

import base64
import binascii
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from counterfoil.clock import Clock
from counterfoil.sealing import NONCE_BYTES, SealBroken
from webhook.http_server.cookies import CookieCipher, CookieState, FormState, SealedCookies

COOKIE: Final = "__Host-counterfoil-console"
"""By the prefix browsers let nobody but this host set it: a neighbour below the same domain can't put a
session in its place."""
GUEST: Final = f"{COOKIE}-guest"
"""Cookie of a guest, separate from the session's. A link on another site opens the sign-in page without the
session cookie; the cookie that is set then must not replace the session."""

OIDC_FLOW: Final = f"{COOKIE}-oidc"
"""Beginning of the name of the cookie of a sign-in with an OpenID provider. A hash of its state follows, so
that each tab has its own. The cookie must come along when the browser returns from there."""

MAX_OIDC_FLOWS: Final = 8
"""Maximum number of sign-ins that one browser has begun; the oldest end."""

THEME: Final = f"{COOKIE}-theme"
"""Cookie of the chosen colours; it holds nothing else, so it is not sealed."""

THEMES: Final = ("system", "light", "dark")
"""Colours that a person can choose; the first stands for those of the system."""

_THEME_SECONDS: Final = 365 * 24 * 3600

MAX_COOKIES: Final = 4
MAX_COOKIE_CHARACTERS: Final = 3800
"""Browsers keep cookies up to 4,096 bytes with name and attributes; a token of an OIDC provider can be
longer."""

_MAX_CHARACTERS: Final = MAX_COOKIES * MAX_COOKIE_CHARACTERS
_COOKIE_NAMES: Final = tuple(f"{COOKIE}-{number}" for number in range(MAX_COOKIES))

_AFTER: Final = timedelta(microseconds=1)
_EXTENSIONS: Final = 15
"""A click extends the session once a 15th of the idle timeout has passed, so that few answers set cookies."""

_SESSION: Final = "console session"
_GUEST: Final = "console guest"
_OIDC: Final = "console oidc"

_OIDC_FLOW_DURATION: Final = timedelta(minutes=10)
"""Time for signing in at the provider, perhaps with a second factor."""
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")
"""Characters of a bearer token. (RFC 6750, 2.1)"""


class ConsoleSession(FormState, frozen=True, kw_only=True):
    """Somebody who is signed in, or a guest, who is about to be: then ``token`` is empty."""

    user: str
    token: str
    begun: datetime
    """A sign-out at this time or later ends the session."""
    latest: datetime
    """End of the session, however often it is used."""

    def is_ended_by(self, sign_out: datetime | None) -> bool:
        """Whether the last sign-out of this person ends this session."""
        return sign_out is not None and self.begun <= sign_out

    def __repr__(self) -> str:
        return f"<session of {self.user!r} until {self.expires.isoformat()}>"


class OidcFlow(CookieState, frozen=True, kw_only=True):
    """A sign-in with an OpenID provider that this browser began."""

    state: str
    nonce: str
    verifier: str
    back: str
    """Place of the console to which the browser goes afterwards."""

    def __repr__(self) -> str:
        return f"<OIDC flow until {self.expires.isoformat()}>"


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

    def __init__(self, cipher: CookieCipher, clock: Clock, *, max_age: timedelta, idle: timedelta) -> None:
        super().__init__(cipher, clock, form_purpose="console form", max_characters=_MAX_CHARACTERS)
        self._max_age = max_age
        self._idle = idle

    def begin(self, user: str, token: str, *, sign_out: datetime | None) -> ConsoleSession:
        """Begin a session after the person's last sign-out."""
        now = self._clock.now()
        # Another replica wrote the sign-out, and its clock can be ahead.
        begun = now if sign_out is None else max(now, sign_out + _AFTER)
        latest = now + self._max_age
        latest = min(latest, token_expiry(token) or latest)
        return self._new(user, token, begun=begun, latest=latest, expires=min(latest, now + self._idle))

    def begin_guest(self) -> ConsoleSession:
        """Begin what binds forms to a browser in which nobody is signed in. Its form waits without an idle
        timeout."""
        now = self._clock.now()
        latest = now + self._max_age
        return self._new("", "", begun=now, latest=latest, expires=latest)

    def extended(self, session: ConsoleSession) -> ConsoleSession | None:
        """Return the session with a new idle timeout after a click; None while the old one is nearly as
        long."""
        expires = min(session.latest, self._clock.now() + self._idle)
        if expires - session.expires < self._idle / _EXTENSIONS:
            return None
        return msgspec.structs.replace(session, expires=expires)

    def sign_out_time(self, session: ConsoleSession) -> datetime:
        """Return a time that ends this session, also if its beginning is from a clock that is ahead."""
        return max(self._clock.now(), session.begun)

    def _new(
        self, user: str, token: str, *, begun: datetime, latest: datetime, expires: datetime
    ) -> ConsoleSession:
        return ConsoleSession(
            id=secrets.token_urlsafe(32), user=user, token=token, begun=begun, latest=latest, expires=expires
        )

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

    # -- Sign-in with an OpenID provider ---------------------------------------------------------------------

    def begin_oidc(self, back: str) -> OidcFlow:
        """Begin a sign-in with an OpenID provider."""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        expires = self._clock.now() + _OIDC_FLOW_DURATION
        return OidcFlow(state=state, nonce=nonce, verifier=verifier, back=back, expires=expires)

    def oidc_cookies(self, flow: OidcFlow, cookies: Mapping[str, str]) -> tuple[str, ...]:
        """Return the Set-Cookie headers of a sign-in; they end the oldest ones of a browser with too many."""
        seconds = int(_OIDC_FLOW_DURATION.total_seconds())
        # A browser has no more; a longer header is somebody's own.
        begun = islice((name for name in cookies if name.startswith(OIDC_FLOW)), MAX_OIDC_FLOWS)
        flows = {name: self.open_for(_OIDC, OidcFlow, cookies[name]) for name in begun}
        known = sorted((each.expires, name) for name, each in flows.items() if each is not None)
        ended = [name for name, each in flows.items() if each is None]
        ended += [name for _, name in known[: max(0, len(known) + 1 - MAX_OIDC_FLOWS)]]
        own = _cookie(_oidc_name(flow.state), self.seal_for(_OIDC, flow), seconds, same_site="Lax")
        return (*(_cookie(name, "", 0, same_site="Lax") for name in ended), own)

    def read_oidc(self, cookies: Mapping[str, str], state: str) -> OidcFlow | None:
        """Return the sign-in that this browser began with this state, if it is still valid."""
        flow = self.open_for(_OIDC, OidcFlow, cookies.get(_oidc_name(state), ""))
        is_its_own = flow is not None and hmac.compare_digest(flow.state.encode(), state.encode())
        return flow if is_its_own else None

    def expire_oidc(self, flow: OidcFlow) -> str:
        """Return the Set-Cookie header that ends a sign-in."""
        return _cookie(_oidc_name(flow.state), "", 0, same_site="Lax")

    def expire(self) -> tuple[str, ...]:
        """Return the Set-Cookie headers that end a session."""
        return tuple(_cookie(name, "", 0) for name in _COOKIE_NAMES)


def read_theme(cookies: Mapping[str, str]) -> str:
    """Return the colours that were chosen in this browser; those of the system for anything unknown."""
    chosen = cookies.get(THEME, "")
    return chosen if chosen in THEMES else THEMES[0]


def theme_cookie(theme: str) -> str:
    """Return the Set-Cookie header that keeps the choice of colours."""
    is_choice = theme in THEMES[1:]
    return _cookie(THEME, theme if is_choice else "", _THEME_SECONDS if is_choice else 0)


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


def _oidc_name(state: str) -> str:
    return f"{OIDC_FLOW}-{hashlib.sha256(state.encode()).hexdigest()[:16]}"


def _cookie(name: str, value: str, seconds: int, *, same_site: str = "Strict") -> str:
    return f"{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; Secure; SameSite={same_site}"
